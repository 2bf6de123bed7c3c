/* SPDX-License-Identifier: Apache-2.0 */
/* door_mutate.c - gives a pod its pool's mask, as environment, and its pool's nodes, as affinity.
 *
 * A JSONPatch of `add` operations alone: `add` needs its parent (no "/env/-" without an env), adds
 * to an array at "-" or puts a member in place of one that is there. A pod that was patched is
 * left as it is, since the API server may send it again after other webhooks. */
#include "door_admission.h"

#include <stdio.h>
#include <string.h>

#define CONTAINERS_MAX 256             /* of a kind; etcd takes 1.5 MB for a pod */
#define PATCH_MAX      (1024UL * 1024) /* bytes */
#define MEMBERS_MAX    512             /* listed in one term; 64 bytes each at most */
#define HAVE_MAX       16384           /* bytes of a value that is merged */
#define REQUIRED_PATH  "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution"

struct knob {
    const char *name, *value; /* borrowed from the world's array */
};

struct mutation {
    const struct door_review *review;
    struct door_answer *answer;
    struct knob knobs[DOOR_ENV_MAX];
    size_t knob_count;
};

/* ------------------------------------------------------------------ the patch */

/* Begins an operation; its value follows, then op_end. */
static void op_begin(struct mutation *m, const char *path)
{
    door_text_addf(&m->answer->patch, "%s{\"op\":\"add\",\"path\":\"%s\",\"value\":",
                   m->answer->patch.length ? "," : "", path);
}

static int op_end(struct mutation *m, struct error *err)
{
    door_text_add(&m->answer->patch, "}");
    if (m->answer->patch.length > PATCH_MAX)
        return error_set(err, ERROR_INVALID,
                         "the pod is too large: the patch would be over %lu bytes", PATCH_MAX);
    return 0;
}

/* ------------------------------------------------------------------ environment */

static void add_env_item(struct door_text *out, const struct knob *knob)
{
    door_text_add(out, "{\"name\":");
    door_text_add_string(out, knob->name);
    door_text_add(out, ",\"value\":");
    door_text_add_string(out, knob->value);
    door_text_add(out, "}");
}

/* The last variable of that name, which is the one that counts; *ret_index is its place, or -1. */
static int find_variable(struct door_json env, const char *name, struct door_json *ret,
                         long *ret_index, struct error *err)
{
    struct door_json v;
    long index = 0;
    *ret_index = -1;
    for (struct door_json_walk w = door_json_walk(env); door_json_next(&w, NULL, &v); index++) {
        struct door_json n = door_json_member(v, "name");
        if (door_json_type(n) != DOOR_JSON_STRING)
            return error_set(err, ERROR_INVALID,
                             "the pod's containers: a variable's name: expected a string, not %s",
                             door_json_type_name(n));
        if (door_json_equals(n, name)) {
            *ret = v;
            *ret_index = index;
        }
    }
    return 0;
}

/* What `variable` has to become, owned; NULL when it stays. */
static char *merged_value(struct mutation *m, const struct knob *knob, struct door_json variable,
                          const char *container)
{
    struct door_json value = door_json_member(variable, "value");
    bool replaced = false;
    if (!door_json_is_none(door_json_member(variable, "valueFrom"))) {
        door_warn(m->answer,
                  "cpubroker: %s takes %s from elsewhere (valueFrom); it was left alone, so the "
                  "mask of pool %s may not hold there",
                  container, knob->name, m->review->claim.pool);
        return NULL;
    }
    autofree char *have =
        door_json_is_none(value) ? xstrdup("") : door_json_string_dup(value, HAVE_MAX);
    if (!have) {
        door_warn(
            m->answer,
            "cpubroker: %s: the value of %s is too long or holds a NUL; it was left alone, so "
            "the mask of pool %s may not hold there",
            container, knob->name, m->review->claim.pool);
        return NULL;
    }
    char *merged = door_env_merge(knob->name, have, knob->value, &replaced);
    if (replaced)
        door_warn(m->answer, "cpubroker: %s: %s had another value, that of pool %s replaces it",
                  container, knob->name, m->review->claim.pool);
    return merged;
}

static int patch_variable(struct mutation *m, const struct knob *knob, struct door_json env,
                          const char *path, const char *container, struct error *err)
{
    struct door_json variable;
    long index;
    char place[128];
    if (find_variable(env, knob->name, &variable, &index, err) < 0)
        return -1;
    if (index < 0) {
        snprintf(place, sizeof(place), "%s/env/-", path);
        op_begin(m, place);
        add_env_item(&m->answer->patch, knob);
        return op_end(m, err);
    }
    autofree char *value = merged_value(m, knob, variable, container);
    if (!value)
        return 0;
    snprintf(place, sizeof(place), "%s/env/%ld/value", path, index);
    op_begin(m, place);
    door_text_add_string(&m->answer->patch, value);
    return op_end(m, err);
}

static int patch_container(struct mutation *m, struct door_json container, const char *path,
                           struct error *err)
{
    struct door_json env = door_json_member(container, "env");
    char name[64] = "", place[128], words[96];
    if (door_json_type(container) != DOOR_JSON_OBJECT)
        return error_set(err, ERROR_INVALID, "the pod's containers: expected objects, not %s",
                         door_json_type_name(container));
    if (!door_json_is_none(env) && door_json_type(env) != DOOR_JSON_ARRAY)
        return error_set(err, ERROR_INVALID, "the pod's containers: env: expected an array, not %s",
                         door_json_type_name(env));
    if (door_json_string(door_json_member(container, "name"), name, sizeof(name)) <= 0)
        snprintf(name, sizeof(name), "%s", path + strlen("/spec/"));
    snprintf(words, sizeof(words), "container %s", name);
    if (!door_json_is_none(env)) {
        for (size_t i = 0; i < m->knob_count; i++)
            if (patch_variable(m, &m->knobs[i], env, path, words, err) < 0)
                return -1;
        return 0;
    }
    if (m->knob_count == 0)
        return 0;
    snprintf(place, sizeof(place), "%s/env", path);
    op_begin(m, place);
    for (size_t i = 0; i < m->knob_count; i++) {
        door_text_add(&m->answer->patch, i ? "," : "[");
        add_env_item(&m->answer->patch, &m->knobs[i]);
    }
    door_text_add(&m->answer->patch, "]");
    return op_end(m, err);
}

/* Sidecars are init containers; ephemeral ones come through a subresource. */
static int patch_containers(struct mutation *m, const char *kind, struct error *err)
{
    struct door_json container,
        list = door_json_member(door_json_member(m->review->object, "spec"), kind);
    char path[64];
    unsigned index = 0;
    if (!door_json_is_none(list) && door_json_type(list) != DOOR_JSON_ARRAY)
        return error_set(err, ERROR_INVALID, "the pod's %s: expected an array, not %s", kind,
                         door_json_type_name(list));
    for (struct door_json_walk w = door_json_walk(list); door_json_next(&w, NULL, &container);) {
        if (index == CONTAINERS_MAX)
            return error_set(err, ERROR_INVALID, "the pod has more than %d %s", CONTAINERS_MAX,
                             kind);
        snprintf(path, sizeof(path), "/spec/%s/%u", kind, index++);
        if (patch_container(m, container, path, err) < 0)
            return -1;
    }
    return 0;
}

/* Takes the world's array; it stays the owner's. */
static int read_knobs(struct mutation *m, json_object *env, struct error *err)
{
    size_t count = json_array_size(env);
    if (count > DOOR_ENV_MAX)
        return error_set(err, ERROR_INTERNAL, "pool '%s' asks for %zu variables, at most %d",
                         m->review->claim.pool, count, DOOR_ENV_MAX);
    for (size_t i = 0; i < count; i++) {
        json_object *item = json_array_item(env, i);
        struct knob knob = {json_str(item, "name"), json_str(item, "value")};
        if (!*knob.name || strchr(knob.name, '=') || strlen(knob.value) > DOOR_ENV_VALUE_MAX)
            return error_set(err, ERROR_INTERNAL, "pool '%s' asks for a variable '%s' that is none",
                             m->review->claim.pool, knob.name);
        m->knobs[m->knob_count++] = knob;
    }
    return 0;
}

/* ------------------------------------------------------------------ affinity */

/* The requirement that a pod's node be of the pool. */
struct wanted {
    const char *list, *key;
    const char **names; /* owned array of borrowed names */
    size_t count;
};

static void add_requirement(struct door_text *out, const struct wanted *want)
{
    door_text_add(out, "{\"key\":");
    door_text_add_string(out, want->key);
    door_text_add(out, ",\"operator\":\"In\",\"values\":[");
    for (size_t i = 0; i < want->count; i++) {
        if (i)
            door_text_add(out, ",");
        door_text_add_string(out, want->names[i]);
    }
    door_text_add(out, "]}");
}

static void add_term(struct door_text *out, const struct wanted *want)
{
    door_text_addf(out, "{\"%s\":[", want->list);
    add_requirement(out, want);
    door_text_add(out, "]}");
}

static bool is_wanted(struct door_json requirement, const struct wanted *want)
{
    struct door_json v;
    size_t at = 0;
    if (!door_json_equals(door_json_member(requirement, "key"), want->key) ||
        !door_json_equals(door_json_member(requirement, "operator"), "In"))
        return false;
    for (struct door_json_walk w = door_json_walk(door_json_member(requirement, "values"));
         door_json_next(&w, NULL, &v); at++)
        if (at == want->count || !door_json_equals(v, want->names[at]))
            return false;
    return at == want->count;
}

static bool is_empty(struct door_json container)
{
    struct door_json v;
    struct door_json_walk w = door_json_walk(container);
    return !door_json_next(&w, NULL, &v);
}

/* A requirement goes into every term, since terms are ORed. Not into an empty one: that matches
 * no node, and would match the pool's with it. */
static int patch_term(struct mutation *m, struct door_json term, unsigned index,
                      const struct wanted *want, struct error *err)
{
    char path[192];
    struct door_json list = door_json_member(term, want->list), v;
    if (is_empty(door_json_member(term, "matchFields")) &&
        is_empty(door_json_member(term, "matchExpressions")))
        return 0;
    if (!door_json_is_none(list) && door_json_type(list) != DOOR_JSON_ARRAY)
        return error_set(err, ERROR_INVALID,
                         "the pod's node affinity: %s: expected an array, not %s", want->list,
                         door_json_type_name(list));
    for (struct door_json_walk w = door_json_walk(list); door_json_next(&w, NULL, &v);)
        if (is_wanted(v, want))
            return 0;
    bool there = !door_json_is_none(list);
    snprintf(path, sizeof(path), REQUIRED_PATH "/nodeSelectorTerms/%u/%s%s", index, want->list,
             there ? "/-" : "");
    op_begin(m, path);
    door_text_add(&m->answer->patch, there ? "" : "[");
    add_requirement(&m->answer->patch, want);
    door_text_add(&m->answer->patch, there ? "" : "]");
    return op_end(m, err);
}

/* Whether a member of the path is there, as an object. */
static int descend(struct door_json *at, const char *name, bool *ret_there, struct error *err)
{
    *at = door_json_member(*at, name);
    *ret_there = !door_json_is_none(*at);
    if (*ret_there && door_json_type(*at) != DOOR_JSON_OBJECT)
        return error_set(err, ERROR_INVALID, "the pod's affinity: %s: expected an object, not %s",
                         name, door_json_type_name(*at));
    return 0;
}

/* The path to the terms; where one is missing, it is added with all that is below it. */
static const struct {
    const char *name, *path;
} levels[] = {
    {"affinity",                                       "/spec/affinity"             },
    {"nodeAffinity",                                   "/spec/affinity/nodeAffinity"},
    {"requiredDuringSchedulingIgnoredDuringExecution", REQUIRED_PATH                },
};

static int add_level(struct mutation *m, size_t level, const struct wanted *want, struct error *err)
{
    struct door_text *out = &m->answer->patch;
    op_begin(m, levels[level].path);
    for (size_t i = level + 1; i < ARRAY_LEN(levels); i++)
        door_text_addf(out, "{\"%s\":", levels[i].name);
    door_text_add(out, "{\"nodeSelectorTerms\":[");
    add_term(out, want);
    door_text_add(out, "]}");
    for (size_t i = level + 1; i < ARRAY_LEN(levels); i++)
        door_text_add(out, "}");
    return op_end(m, err);
}

static int patch_affinity(struct mutation *m, const struct wanted *want, struct error *err)
{
    struct door_json term, at = door_json_member(m->review->object, "spec");
    bool there = true;
    for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
        if (descend(&at, levels[i].name, &there, err) < 0)
            return -1;
        if (!there)
            return add_level(m, i, want, err);
    }
    unsigned index = 0;
    struct door_json terms = door_json_member(at, "nodeSelectorTerms");
    if (!door_json_is_none(terms) && door_json_type(terms) != DOOR_JSON_ARRAY)
        return error_set(err, ERROR_INVALID,
                         "the pod's node affinity: nodeSelectorTerms: expected an array, not %s",
                         door_json_type_name(terms));
    for (struct door_json_walk w = door_json_walk(terms); door_json_next(&w, NULL, &term);)
        if (patch_term(m, term, index++, want, err) < 0)
            return -1;
    return 0;
}

/* The members that can be named to Kubernetes: one by its own name, several by a label, since
 * matchFields takes one value. */
static int keep_to_members(struct mutation *m, json_object *members, struct error *err)
{
    const struct door_claim *claim = &m->review->claim;
    size_t count = json_array_size(members);
    struct door_json bound =
        door_json_member(door_json_member(m->review->object, "spec"), "nodeName");
    if (!door_json_is_none(bound) && !door_json_equals(bound, ""))
        return 0; /* it is bound: no scheduler will look at affinity, and validate judges the node
                   */
    if (count > MEMBERS_MAX) {
        door_warn(m->answer,
                  "cpubroker: pool %s has %zu members, too many to be listed in the pod; only the "
                  "scheduler's extender keeps it to them",
                  claim->pool, count);
        return 0;
    }
    autofree const char **names = xcalloc(count + 1, sizeof(*names));
    struct wanted want = {.list = "matchExpressions", .key = claim->label, .names = names};
    for (size_t i = 0; i < count; i++)
        if (door_is_label_value(json_item_str(members, i)))
            names[want.count++] = json_item_str(members, i);
    if (want.count == 0)
        return error_set(err, ERROR_REJECTED,
                         "pool '%s' has no member that could be a node of Kubernetes; "
                         "`cpubroker pools join` adds some",
                         claim->pool);
    if (want.count == 1 && door_is_node_name(names[0])) {
        want.list = "matchFields";
        want.key = "metadata.name";
    }
    return patch_affinity(m, &want, err);
}

/* ------------------------------------------------------------------ the whole */

/* The kubelet's picture of a static pod: a change of it would have it made anew for ever. */
static bool is_mirror(struct door_json pod)
{
    return door_json_member(door_json_at(pod, "metadata.annotations"),
                            "kubernetes.io/config.mirror")
               .text != NULL;
}

int door_pod_mutate(const struct door_review *review, const struct door_world *world,
                    struct door_answer *answer, struct error *err)
{
    autojson *env = NULL, *members = NULL;
    struct mutation m = {.review = review, .answer = answer};
    struct door_json spec = door_json_member(review->object, "spec");
    if (door_json_type(spec) != DOOR_JSON_OBJECT)
        return error_set(err, ERROR_INVALID, "the pod's spec: expected an object, not %s",
                         door_json_type_name(spec));
    if (world->pool_members(world->ctx, review->claim.pool, &members, err) < 0 ||
        world->pool_env(world->ctx, review->claim.pool, &env, err) < 0)
        return -1;
    if (is_mirror(review->object))
        return 0;
    if (read_knobs(&m, env, err) < 0 || patch_containers(&m, "initContainers", err) < 0 ||
        patch_containers(&m, "containers", err) < 0)
        return -1;
    return keep_to_members(&m, members, err);
}
