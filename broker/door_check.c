/* SPDX-License-Identifier: Apache-2.0 */
/* door_check.c - the generic webhook: where could a workload live, asked by any orchestrator
 * before it schedules a live migration.
 *
 * It answers within the asker's time: what was not judged by then is named as such and is no
 * approval. Of a whole pool it keeps the best targets only, so that the reply stays small. */
#include "door_internal.h"

#include <string.h>

#define CHECK_BODY_MAX     (1024UL * 1024)
#define TARGETS_MAX        1000 /* named in one request, and told in one reply */
#define LIMIT_DEFAULT      100
#define TIMEOUT_DEFAULT_MS 2000
#define TIMEOUT_MAX_MS     60000
#define REQUEST_ID_MAX     128 /* bytes */

struct check {
    char *request_id, *workload, *from, *pool; /* owned; NULL when absent */
    json_object *to;                           /* owned: a string or an array */
    uint32_t timeout_ms, limit;                /* 0: not given */
};

static const struct json_field check_fields[] = {
    JSON_FIELD(check, request_id, JSON_STR, 0), JSON_FIELD(check, workload, JSON_STR, 0),
    JSON_FIELD(check, from, JSON_STR, 0),       JSON_FIELD(check, pool, JSON_STR, 0),
    JSON_FIELD(check, to, JSON_ANY, 0),         JSON_FIELD(check, timeout_ms, JSON_U32, 0),
    JSON_FIELD(check, limit, JSON_U32, 0),      {0},
};

struct target {
    char *node; /* owned */
    struct verdict verdict;
    struct error unjudged; /* kind NONE: there is a verdict */
    size_t index;          /* in the order of the request */
    size_t rejects;
};

struct answer {
    const struct door_world *world;
    const struct check *check;
    struct door_subject subject;
    int64_t deadline_ms;
    struct target *targets; /* owned; the best so far, at most `limit` */
    size_t count, limit, worst;
    size_t approved, rejected, unjudged, late, all;
};

/* ------------------------------------------------------------------ ranking */

/* Approved before rejected before not judged; then by warnings or rejects; then as asked. */
static int compare(const struct target *a, const struct target *b)
{
    int class_a = a->unjudged.kind != ERROR_NONE ? 2 : a->verdict.rejected;
    int class_b = b->unjudged.kind != ERROR_NONE ? 2 : b->verdict.rejected;
    if (class_a != class_b)
        return class_a < class_b ? -1 : 1;
    if (a->rejects != b->rejects)
        return a->rejects < b->rejects ? -1 : 1;
    if (a->verdict.reason_count != b->verdict.reason_count)
        return a->verdict.reason_count < b->verdict.reason_count ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

static int compare_targets(const void *a, const void *b)
{
    return compare(a, b);
}

static void target_done(struct target *t)
{
    free(t->node);
    verdict_done(&t->verdict);
}

static void find_worst(struct answer *a)
{
    a->worst = 0;
    for (size_t i = 1; i < a->count; i++)
        if (compare(&a->targets[i], &a->targets[a->worst]) > 0)
            a->worst = i;
}

/* Takes *t. */
static void keep(struct answer *a, struct target *t)
{
    if (a->count < a->limit) {
        a->targets[a->count++] = *t;
        if (a->count == a->limit)
            find_worst(a);
    } else if (compare(t, &a->targets[a->worst]) < 0) {
        target_done(&a->targets[a->worst]);
        a->targets[a->worst] = *t;
        find_worst(a);
    } else {
        target_done(t);
    }
}

/* ------------------------------------------------------------------ judging */

static void judge(struct answer *a, const char *node)
{
    struct target t = {.node = xstrdup(node), .index = a->all++};
    const struct door_world *world = a->world;
    if (world->monotonic_ms(world->ctx) >= a->deadline_ms) {
        error_set(&t.unjudged, ERROR_TIMEOUT, "not judged: the time was up");
        a->late++;
    } else if (door_judge(world, &a->subject, node, &t.verdict, &t.unjudged) < 0) {
        verdict_done(&t.verdict);
        if (t.unjudged.kind == ERROR_NONE)
            error_set(&t.unjudged, ERROR_INTERNAL, "no verdict");
    }
    for (size_t i = 0; i < t.verdict.reason_count; i++)
        t.rejects += t.verdict.reasons[i].severity == VERDICT_REJECT;
    if (t.unjudged.kind != ERROR_NONE)
        a->unjudged++;
    else if (t.verdict.rejected)
        a->rejected++;
    else
        a->approved++;
    keep(a, &t);
}

static void judge_all(struct answer *a, json_object *names)
{
    for (size_t i = 0; i < json_array_size(names); i++)
        judge(a, json_item_str(names, i));
}

static int set_subject(const struct check *c, struct door_subject *subject, struct error *err)
{
    const char *name = c->workload ? c->workload : c->from ? c->from : c->pool;
    const char *what = c->workload ? "workload" : c->from ? "node" : "pool";
    if (c->workload && c->from)
        return error_set(err, ERROR_INVALID, "check: both workload and from are there: name one");
    if (!name)
        return error_set(err, ERROR_INVALID,
                         "check: expected a workload, a node as from, or a pool");
    if (name_check(what, name, err) < 0)
        return error_wrap(err, "check");
    if (c->pool && name_check("pool", c->pool, err) < 0)
        return error_wrap(err, "check");
    *subject = (struct door_subject){
        .kind = c->workload ? DOOR_WORKLOAD
                : c->from   ? DOOR_NODE
                            : DOOR_POOL,
        .move = c->workload || c->from,
    };
    memcpy(subject->name, name, strlen(name) + 1);
    return 0;
}

/* The targets that the request names, as an array; the caller owns it. */
static int named_targets(json_object *to, json_object **ret, struct error *err)
{
    if (json_object_is_type(to, json_type_string)) {
        *ret = json_object_new_array();
        json_object_array_add(*ret, json_object_get(to));
    } else if (json_object_is_type(to, json_type_array)) {
        *ret = json_object_get(to);
    } else {
        return error_set(err, ERROR_INVALID,
                         "check: to: expected the name of a node, or an array of names");
    }
    size_t count = json_array_size(*ret);
    if (count < 1 || count > TARGETS_MAX)
        return error_set(err, ERROR_INVALID, "check: to: %zu names, expected 1 to %d", count,
                         TARGETS_MAX);
    for (size_t i = 0; i < count; i++) {
        json_object *item = json_array_item(*ret, i);
        const char *name = json_item_str(*ret, i);
        if (!json_object_is_type(item, json_type_string) ||
            strlen(name) != (size_t)json_object_get_string_len(item))
            return error_set(err, ERROR_INVALID, "check: to: item %zu: expected a node's name", i);
    }
    return 0;
}

static int find_targets(struct answer *a, json_object **ret, struct error *err)
{
    const struct check *c = a->check;
    autofree char *pool = NULL;
    if (c->workload && a->world->workload_pool(a->world->ctx, c->workload, &pool, err) < 0)
        return -1;
    if (pool && c->pool && strcmp(pool, c->pool) != 0)
        return error_set(err, ERROR_CONFLICT, "workload '%s' belongs to pool '%s', not '%s'",
                         c->workload, pool, c->pool);
    if (c->to)
        return named_targets(c->to, ret, err);
    const char *name = c->pool ? c->pool : pool;
    if (!name)
        return error_set(err, ERROR_INVALID, "check: expected to, or the pool to choose from");
    return a->world->pool_members(a->world->ctx, name, ret, err);
}

static int run(struct answer *a, struct error *err)
{
    const struct check *c = a->check;
    autojson *names = NULL;
    if (c->timeout_ms > TIMEOUT_MAX_MS)
        return error_set(err, ERROR_INVALID, "check: timeout_ms: expected 1..%d, not %u",
                         TIMEOUT_MAX_MS, c->timeout_ms);
    if (c->limit > TARGETS_MAX)
        return error_set(err, ERROR_INVALID, "check: limit: expected 1..%d, not %u", TARGETS_MAX,
                         c->limit);
    if (c->request_id && strlen(c->request_id) > REQUEST_ID_MAX)
        return error_set(err, ERROR_INVALID, "check: request_id: at most %d bytes are taken",
                         REQUEST_ID_MAX);
    if (set_subject(c, &a->subject, err) < 0 || find_targets(a, &names, err) < 0)
        return -1;
    a->limit = c->limit ? c->limit : c->to ? TARGETS_MAX : LIMIT_DEFAULT;
    a->targets = xcalloc(a->limit, sizeof(*a->targets));
    judge_all(a, names);
    qsort(a->targets, a->count, sizeof(*a->targets), compare_targets);
    return 0;
}

/* ------------------------------------------------------------------ answering */

static json_object *error_object(const struct error *err)
{
    json_object *o = json_object_new_object();
    autofree char *clean = door_text_clean(err->message, ERROR_MESSAGE_BYTES);
    json_put_str(o, "code", error_code(err->kind));
    json_put_str(o, "message", clean);
    return o;
}

static json_object *target_object(const struct target *t, const char *from)
{
    json_object *o = verdict_to_json(&t->verdict, from, t->node);
    if (t->unjudged.kind != ERROR_NONE) {
        json_put_str(o, "verdict", "reject");
        json_put(o, "error", error_object(&t->unjudged));
    }
    json_put_int(o, "score", t->unjudged.kind != ERROR_NONE ? 0 : door_score(&t->verdict));
    return o;
}

static void add_targets(json_object *reply, const struct answer *a)
{
    json_object *targets = json_object_new_array_ext((int)a->count + 1);
    for (size_t i = 0; i < a->count; i++)
        json_object_array_add(targets, target_object(&a->targets[i], a->check->from));
    json_put_str(reply, "best", a->approved ? a->targets[0].node : NULL);
    json_put_bool(reply, "complete", a->late == 0);
    json_put_int(reply, "approved", (int64_t)a->approved);
    json_put_int(reply, "rejected", (int64_t)a->rejected);
    json_put_int(reply, "unjudged", (int64_t)a->unjudged);
    json_put(reply, "targets", targets);
}

static int decode(const char *body, size_t length, struct check *c, struct error *err)
{
    autojson *object = NULL;
    if (length > CHECK_BODY_MAX)
        return error_set(err, ERROR_TOO_LARGE, "check: %zu bytes, at most %lu are taken", length,
                         CHECK_BODY_MAX);
    if (json_parse(body, length, &object, err) < 0)
        return error_wrap(err, "check");
    if (json_decode("check", object, check_fields, c, err) == 0)
        return 0;
    const char *id = NULL; /* told with the error, where it can be read */
    if (json_opt_str("check", object, "request_id", &id, NULL) == 0 && id)
        c->request_id = xstrdup(id);
    return -1;
}

void door_check(const char *body, size_t length, const struct door_world *world, char **ret_body,
                unsigned *ret_status)
{
    struct check c = {0};
    struct error err = {0};
    int64_t start_ms = world->monotonic_ms(world->ctx);
    struct answer a = {.world = world, .check = &c};
    int rc = decode(body, length, &c, &err);
    if (rc == 0) {
        a.deadline_ms = start_ms + (c.timeout_ms ? c.timeout_ms : TIMEOUT_DEFAULT_MS);
        rc = run(&a, &err);
    }
    autojson *reply = json_object_new_object();
    json_put_str(reply, "request_id", c.request_id);
    json_put_bool(reply, "allowed", rc == 0 && a.approved > 0);
    if (rc == 0)
        add_targets(reply, &a);
    else
        json_put(reply, "error", error_object(&err));
    *ret_status = rc == 0 ? 200 : (unsigned)error_http_status(err.kind);
    *ret_body = json_text(reply);
    for (size_t i = 0; i < a.count; i++)
        target_done(&a.targets[i]);
    free(a.targets);
    json_release(check_fields, &c);
}
