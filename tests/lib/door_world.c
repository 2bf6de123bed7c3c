/* SPDX-License-Identifier: Apache-2.0 */
/* door_world.c - the invented fleet, and a reader of JSONPatch that takes nothing for granted. */
#include "door_world.h"

#include <stdio.h>
#include <string.h>

#include "cmocka_test.h"

static const struct {
    const char *name;
    const char *members[5];
} pools[] = {
    {"default", {"node-a", "node-b", "node-c", "node-w"}},
    {"single",  {"node-a"}                              },
    {"empty",   {NULL}                                  },
    {"names",   {"Node_Upper", "node-a", "bad-"}        },
    {"plain",   {"node-a", "node-b"}                    },
    {"big",     {NULL}                                  },
};

static const struct {
    const char *name, *pool;
} workloads[] = {
    {"w1",     "default"},
    {"w2",     "single" },
    {"stuck",  "default"},
    {"broken", "default"},
    {"wbig",   "big"    },
};

static const char *workload_pool_of(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(workloads); i++)
        if (strcmp(workloads[i].name, name) == 0)
            return workloads[i].pool;
    return NULL;
}

static json_object *members_of(const char *pool)
{
    for (size_t i = 0; i < ARRAY_LEN(pools); i++) {
        if (strcmp(pools[i].name, pool) != 0)
            continue;
        json_object *names = json_object_new_array();
        for (size_t k = 0; pools[i].members[k]; k++)
            json_object_array_add(names, json_object_new_string(pools[i].members[k]));
        for (int k = 0; k < 600 && strcmp(pool, "big") == 0; k++) {
            char name[16];
            snprintf(name, sizeof(name), "big-%04d", k);
            json_object_array_add(names, json_object_new_string(name));
        }
        return names;
    }
    return NULL;
}

static bool is_member(const char *pool, const char *node)
{
    autojson *names = members_of(pool);
    for (size_t i = 0; i < json_array_size(names); i++)
        if (strcmp(json_item_str(names, i), node) == 0)
            return true;
    return false;
}

static void lacks(struct verdict *verdict, const char *feature)
{
    enum cpu_feature_id id;
    verdict_add(verdict, VERDICT_MISSING_FEATURE, VERDICT_REJECT, "choose a node that has it",
                "it lacks %s", feature);
    if (cpu_feature_from_name(feature, &id) == 0)
        verdict->reasons[verdict->reason_count - 1].feature = (int)id;
}

static int verdict(void *ctx, const struct door_subject *subject, const char *node,
                   struct verdict *out, struct error *err)
{
    struct fake_world *fake = ctx;
    const char *pool = subject->kind == DOOR_WORKLOAD ? workload_pool_of(subject->name)
                       : subject->kind == DOOR_POOL   ? subject->name
                                                      : NULL;
    fake->asked++;
    fake->moves = subject->move;
    if (subject->kind == DOOR_WORKLOAD && !pool)
        return error_set(err, ERROR_NOT_FOUND, "no workload '%s'", subject->name);
    if (strncmp(node, "node-", 5) != 0 && strncmp(node, "big-", 4) != 0 &&
        strcmp(node, "Node_Upper") != 0)
        return error_set(err, ERROR_NOT_FOUND, "no node '%s'", node);
    if (strcmp(subject->name, "broken") == 0)
        return error_set(err, ERROR_BUSY, "the database is locked");
    if (pool && !is_member(pool, node))
        verdict_add(out, VERDICT_NOT_IN_POOL, VERDICT_REJECT, NULL, "it is no member of pool %s",
                    pool);
    if (strcmp(node, "node-c") == 0 && subject->kind != DOOR_POOL) {
        lacks(out, "avx512f");
        lacks(out, "avx512dq");
        verdict_add(out, VERDICT_XSAVE_LAYOUT, VERDICT_REJECT, NULL, "pkru lies elsewhere");
    }
    if (strcmp(subject->name, "stuck") == 0)
        verdict_add(out, VERDICT_VENDOR, VERDICT_REJECT, NULL, "AMD is not Intel");
    if (strcmp(node, "node-w") == 0) {
        verdict_add(out, VERDICT_HINT, VERDICT_WARN, NULL, "erms is missing");
        verdict_add(out, VERDICT_SIGNAL_STACK, VERDICT_WARN, NULL, "larger signal stacks");
    }
    verdict_sort(out);
    return 0;
}

static int workload_pool(void *ctx, const char *workload, char **ret, struct error *err)
{
    (void)ctx;
    const char *pool = workload_pool_of(workload);
    if (!pool)
        return error_set(err, ERROR_NOT_FOUND, "no workload '%s'", workload);
    *ret = xstrdup(pool);
    return 0;
}

static int pool_members(void *ctx, const char *pool, json_object **ret, struct error *err)
{
    (void)ctx;
    json_object *names = members_of(pool);
    if (!names)
        return error_set(err, ERROR_NOT_FOUND, "no pool '%s'", pool);
    *ret = names;
    return 0;
}

static int pool_env(void *ctx, const char *pool, json_object **ret, struct error *err)
{
    (void)ctx;
    static const char *const knobs[][2] = {
        {"GLIBC_TUNABLES",    "glibc.cpu.hwcaps=-AVX512F,-AVX512DQ"},
        {"OPENSSL_ia32cap",   "~0x0:~0xd0230000"                   },
        {"GODEBUG",           "cpu.avx512f=off,cpu.avx512dq=off"   },
        {"JAVA_TOOL_OPTIONS", "-XX:UseAVX=2"                       },
    };
    autojson *members = members_of(pool);
    if (!members)
        return error_set(err, ERROR_NOT_FOUND, "no pool '%s'", pool);
    *ret = json_object_new_array();
    for (size_t i = 0; i < ARRAY_LEN(knobs) && strcmp(pool, "plain") != 0; i++) {
        json_object *knob = json_object_new_object();
        json_put_str(knob, "name", knobs[i][0]);
        json_put_str(knob, "value", knobs[i][1]);
        json_object_array_add(*ret, knob);
    }
    return 0;
}

static int64_t monotonic_ms(void *ctx)
{
    struct fake_world *fake = ctx;
    fake->now_ms += fake->step_ms;
    return fake->now_ms;
}

struct door_world fake_world(struct fake_world *fake)
{
    return (struct door_world){
        .ctx = fake,
        .verdict = verdict,
        .workload_pool = workload_pool,
        .pool_members = pool_members,
        .pool_env = pool_env,
        .monotonic_ms = monotonic_ms,
    };
}

/* ------------------------------------------------------------------ replies */

/* json_parse stops at 32 levels, which a node given back may pass. */
static json_object *parse_deep(const char *text)
{
    json_tokener *tokener = json_tokener_new_ex(20000);
    json_object *o = json_tokener_parse_ex(tokener, text, (int)strlen(text) + 1);
    bool whole = json_tokener_get_error(tokener) == json_tokener_success &&
                 json_tokener_get_parse_end(tokener) == strlen(text);
    json_tokener_free(tokener);
    if (!whole) {
        json_object_put(o);
        return NULL;
    }
    return o;
}

struct reply ask_door_of(door_function *door, struct fake_world *fake, const char *body,
                         size_t length)
{
    struct reply reply = {0};
    struct door_world world = fake_world(fake);
    /* a copy of its exact size, so that a sanitizer sees every byte read beyond it */
    char *copy = xmalloc(length ? length : 1);
    memcpy(copy, body, length);
    door(copy, length, &world, &reply.text, &reply.status);
    free(copy);
    assert_non_null(reply.text);
    assert_true(json_text_is_utf8(reply.text, strlen(reply.text)));
    reply.json = parse_deep(reply.text);
    if (!reply.json)
        fail_msg("the reply is no JSON: %.2000s", reply.text);
    return reply;
}

struct reply ask_door(door_function *door, const char *body, size_t length)
{
    struct fake_world fake = {0};
    return ask_door_of(door, &fake, body, length);
}

void reply_done(struct reply *reply)
{
    free(reply->text);
    json_object_put(reply->json);
    *reply = (struct reply){0};
}

json_object *json_path(json_object *o, const char *path)
{
    while (o && *path) {
        char name[128];
        size_t length = strcspn(path, "|");
        snprintf(name, sizeof(name), "%.*s", (int)length, path);
        o = json_object_is_type(o, json_type_array) ? json_array_item(o, strtoul(name, NULL, 10))
                                                    : json_member(o, name);
        path += length + (path[length] == '|');
    }
    return o;
}

const char *str_path(json_object *o, const char *path)
{
    json_object *v = json_path(o, path);
    if (!json_object_is_type(v, json_type_string))
        fail_msg("no string at '%s' in %s", path, json_object_to_json_string(o));
    return json_object_get_string(v);
}

/* ------------------------------------------------------------------ patches */

size_t base64_decode(const char *text, char **ret)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t length = strlen(text), out = 0;
    assert_int_equal(length % 4, 0);
    char *bytes = xmalloc(length + 1);
    for (size_t i = 0; i < length; i += 4) {
        uint32_t group = 0;
        unsigned pads = 0;
        for (size_t k = 0; k < 4; k++) {
            const char *digit = strchr(digits, text[i + k]);
            if (text[i + k] == '=' && i + 4 == length && k >= 2)
                pads++;
            else if (!digit || pads)
                fail_msg("no base64: %s", text);
            group = group << 6 | (uint32_t)(text[i + k] == '=' ? 0 : digit - digits);
        }
        for (unsigned k = 0; k < 3 - pads; k++)
            bytes[out++] = (char)(group >> (16 - 8 * k));
        assert_int_equal(group & ((1U << (8 * pads)) - 1), 0);
    }
    bytes[out] = '\0';
    *ret = bytes;
    return out;
}

/* The value that the path's last part is to be added to. */
static json_object *parent_of(json_object *target, char *path, const char **ret_last)
{
    assert_int_equal(*path, '/');
    char *last = strrchr(path, '/');
    *last = '\0';
    *ret_last = last + 1;
    char *rest = path;
    for (char *part; (part = strsep(&rest, "/"));) {
        if (!*part)
            continue;
        target = json_object_is_type(target, json_type_array)
                     ? json_array_item(target, strtoul(part, NULL, 10))
                     : json_member(target, part);
        if (!target)
            fail_msg("the patch adds below '%s', which is not there", part);
    }
    return target;
}

void patch_apply(json_object *target, json_object *patch)
{
    for (size_t i = 0; i < json_array_size(patch); i++) {
        json_object *op = json_array_item(patch, i);
        const char *last;
        assert_string_equal(json_str(op, "op"), "add");
        char *path = xstrdup(json_str(op, "path"));
        json_object *parent = parent_of(target, path, &last);
        json_object *value = NULL;
        assert_true(json_object_object_get_ex(op, "value", &value));
        json_object *copy = NULL;
        json_object_deep_copy(value, &copy, NULL);
        if (json_object_is_type(parent, json_type_array)) {
            assert_string_equal(last, "-");
            json_object_array_add(parent, copy);
        } else {
            assert_true(json_object_is_type(parent, json_type_object));
            json_object_object_add(parent, last, copy);
        }
        free(path);
    }
}
