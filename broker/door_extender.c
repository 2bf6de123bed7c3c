/* SPDX-License-Identifier: Apache-2.0 */
/* door_extender.c - kube-scheduler's extender: filter and prioritize.
 *
 * kube-scheduler's ways, from kube-scheduler/extender/v1/types.go and pkg/scheduler/extender.go:
 * only status 200 counts; `Error` fails the pod or, where the extender is `ignorable`, lets every
 * node pass, so it is for bodies that cannot be read and never a refusal; the reply comes in the
 * form that was asked; Nodes in the reply replace the scheduler's own objects, so they are slices
 * of the request; a name that it does not know fails the call, so names are slices as well;
 * FailedAndUnresolvableNodes keeps it from evicting pods where the CPU is the matter. */
#include "door_internal.h"

#include <string.h>

#define NODES_MAX     100000 /* judged in one call; the rest is refused with that reason */
#define NODE_NAME_MAX 253    /* a DNS subdomain */
#define REASON_MAX    300    /* characters; an event of Kubernetes holds 1,024 bytes in all */

struct args {
    struct door_json nodes, node_names; /* absent or null when not asked */
    struct door_json items;             /* of nodes */
    struct door_claim claim;
    struct error refusal; /* of every node, where the pod's own words are wrong; else kind NONE */
};

struct filter {
    const struct door_world *world;
    const struct args *args;
    size_t judged;
    struct door_text failed; /* "name":"reason",… */
};

/* What the pod says is wrong or names what does not exist: no node is known to be safe. */
static void refuse_all(struct args *args)
{
    args->claim.ours = true;
    if (args->refusal.kind == ERROR_NONE)
        error_set(&args->refusal, ERROR_INTERNAL, "no verdict");
}

/* A member that has to be of `type`, or null where it is optional. */
static int expect(const char *name, struct door_json v, enum door_json_type type, bool optional,
                  struct error *err)
{
    if (door_json_type(v) == type || (optional && door_json_is_none(v)))
        return 0;
    return error_set(err, ERROR_INVALID, "ExtenderArgs: %s: expected an %s, not %s", name,
                     type == DOOR_JSON_OBJECT ? "object" : "array", door_json_type_name(v));
}

/* ExtenderArgs has no JSON tags, and Go decodes without regard to case. One walk: Nodes is large.
 */
static void read_members(struct door_json root, struct args *args, struct door_json *ret_pod)
{
    struct door_json name, value;
    for (struct door_json_walk w = door_json_walk(root); door_json_next(&w, &name, &value);) {
        if (door_json_equals_fold(name, "Pod"))
            *ret_pod = value;
        else if (door_json_equals_fold(name, "Nodes"))
            args->nodes = value;
        else if (door_json_equals_fold(name, "NodeNames"))
            args->node_names = value;
    }
    args->items = door_json_member_fold(args->nodes, "items");
}

/* Errors: ERROR_INVALID and ERROR_TOO_LARGE for what cannot be answered node by node. */
static int args_read(const char *body, size_t length, const struct door_world *world,
                     struct args *args, struct error *err)
{
    struct door_json root = {0}, pod = {0};
    *args = (struct args){0};
    if (length > DOOR_BODY_MAX)
        return error_set(err, ERROR_TOO_LARGE,
                         "ExtenderArgs of %zu bytes, at most %lu are taken; nodeCacheCapable: true "
                         "sends names instead of whole nodes",
                         length, DOOR_BODY_MAX);
    if (door_json_check(body, length, &root, err) < 0)
        return error_wrap(err, "ExtenderArgs");
    if (expect("the body", root, DOOR_JSON_OBJECT, false, err) < 0)
        return -1;
    read_members(root, args, &pod);
    if (expect("Pod", pod, DOOR_JSON_OBJECT, false, err) < 0 ||
        expect("Nodes", args->nodes, DOOR_JSON_OBJECT, true, err) < 0 ||
        expect("NodeNames", args->node_names, DOOR_JSON_ARRAY, true, err) < 0 ||
        expect("Nodes.items", args->items, DOOR_JSON_ARRAY, true, err) < 0)
        return -1;
    if (door_json_is_none(args->nodes) && door_json_is_none(args->node_names))
        return error_set(err, ERROR_INVALID, "ExtenderArgs: neither Nodes nor NodeNames is there");
    if (door_claim_read(pod, &args->claim, &args->refusal) < 0 ||
        (args->claim.ours && door_claim_resolve(world, &args->claim, &args->refusal) < 0))
        refuse_all(args);
    return 0;
}

static void note_failure(struct filter *f, struct door_json name, const char *reason)
{
    autofree char *clean = door_text_clean(reason, REASON_MAX);
    if (f->failed.length)
        door_text_add(&f->failed, ",");
    door_text_add_json(&f->failed, name);
    door_text_add(&f->failed, ":");
    door_text_add_string(&f->failed, clean);
}

/* Asks for the verdict; 0 with it, -1 when there is none. */
static int judge(struct filter *f, struct door_json name, struct verdict *verdict,
                 struct error *err)
{
    char node[NODE_NAME_MAX + 1];
    if (f->args->refusal.kind != ERROR_NONE) {
        *err = f->args->refusal;
        return -1;
    }
    if (f->judged == NODES_MAX)
        return error_set(err, ERROR_TOO_LARGE, "more than %d nodes in one call", NODES_MAX);
    f->judged++;
    if (door_json_string(name, node, sizeof(node)) < 0)
        return error_set(err, ERROR_INVALID, "no node of the broker can have this name");
    return door_judge(f->world, &f->args->claim.subject, node, verdict, err);
}

/* Whether the node passes; if not, its reason is noted. */
static bool passes(struct filter *f, struct door_json name)
{
    struct verdict verdict = {0};
    struct error err = {0};
    char words[2 * DOOR_NAME_BYTES];
    bool pass = false;
    if (judge(f, name, &verdict, &err) < 0) {
        autofree char *reason = xasprintf("cpubroker: %s", err.message);
        note_failure(f, name, reason);
    } else if (verdict.rejected) {
        autofree char *codes = door_verdict_codes(&verdict);
        autofree char *reason =
            xasprintf("cpubroker: %s: %s",
                      door_subject_words(&f->args->claim.subject, words, sizeof(words)), codes);
        note_failure(f, name, reason);
    } else {
        pass = true;
    }
    verdict_done(&verdict);
    return pass;
}

static struct door_json node_name(struct door_json node)
{
    struct door_json name = door_json_member_fold(door_json_member_fold(node, "metadata"), "name");
    return door_json_type(name) == DOOR_JSON_STRING ? name : (struct door_json){0};
}

/* The items that pass, as they came, with their commas. An item without a name cannot be known to
 * the scheduler, and is left out. */
static void filter_list(struct filter *f, struct door_json array, bool objects,
                        struct door_text *out)
{
    struct door_json item;
    bool first = true;
    door_text_add(out, "[");
    for (struct door_json_walk w = door_json_walk(array); door_json_next(&w, NULL, &item);) {
        struct door_json name = objects ? node_name(item) : item;
        if (door_json_type(name) != DOOR_JSON_STRING || !passes(f, name))
            continue;
        if (!first)
            door_text_add(out, ",");
        door_text_add_json(out, item);
        first = false;
    }
    door_text_add(out, "]");
}

/* The NodeList with the items that pass; its other members as they came. */
static void filter_nodes(struct filter *f, struct door_text *out)
{
    struct door_json name, value;
    door_text_add(out, "{");
    for (struct door_json_walk w = door_json_walk(f->args->nodes);
         door_json_next(&w, &name, &value);) {
        if (door_json_equals_fold(name, "items"))
            continue;
        door_text_add_json(out, name);
        door_text_add(out, ":");
        door_text_add_json(out, value);
        door_text_add(out, ",");
    }
    door_text_add(out, "\"items\":");
    filter_list(f, f->args->items, true, out);
    door_text_add(out, "}");
}

static char *filter_error(const struct error *err)
{
    struct door_text out = {0};
    autofree char *clean = door_text_clean(err->message, REASON_MAX);
    door_text_add(&out, "{\"Nodes\":null,\"NodeNames\":null,\"FailedNodes\":{},"
                        "\"FailedAndUnresolvableNodes\":{},\"Error\":");
    door_text_add_string(&out, clean);
    door_text_add(&out, "}");
    return door_text_take(&out);
}

void door_extender_filter(const char *body, size_t length, const struct door_world *world,
                          char **ret_body, unsigned *ret_status)
{
    struct args args;
    struct error err = {0};
    *ret_status = 200; /* any other is an error to kube-scheduler */
    if (args_read(body, length, world, &args, &err) < 0) {
        *ret_body = filter_error(&err);
        return;
    }
    struct filter f = {.world = world, .args = &args};
    struct door_text out = {0};
    door_text_add(&out, "{\"Nodes\":");
    if (door_json_is_none(args.nodes) || !args.claim.ours)
        door_text_add_json(&out, args.nodes);
    else
        filter_nodes(&f, &out);
    door_text_add(&out, ",\"NodeNames\":");
    if (door_json_is_none(args.node_names) || !args.claim.ours)
        door_text_add_json(&out, args.node_names);
    else
        filter_list(&f, args.node_names, false, &out);
    door_text_add(&out, ",\"FailedNodes\":{},\"FailedAndUnresolvableNodes\":{");
    door_text_add_bytes(&out, f.failed.text ? f.failed.text : "", f.failed.length);
    door_text_add(&out, "},\"Error\":\"\"}");
    door_text_done(&f.failed);
    *ret_body = door_text_take(&out);
}

/* ------------------------------------------------------------------ prioritize */

static int score(struct filter *f, struct door_json name)
{
    struct verdict verdict = {0};
    struct error unknown;
    int points = 0;
    if (f->args->claim.ours && judge(f, name, &verdict, &unknown) == 0)
        points = door_score(&verdict);
    verdict_done(&verdict);
    return points;
}

void door_extender_prioritize(const char *body, size_t length, const struct door_world *world,
                              char **ret_body, unsigned *ret_status)
{
    struct args args;
    struct error err = {0};
    if (args_read(body, length, world, &args, &err) < 0) {
        /* a bare array has no place for an error; kube-scheduler goes on without these scores */
        autojson *error = json_object_new_object();
        json_object *inner = json_object_new_object();
        autofree char *clean = door_text_clean(err.message, REASON_MAX);
        json_put_str(inner, "code", error_code(err.kind));
        json_put_str(inner, "message", clean);
        json_put(error, "error", inner);
        *ret_body = json_text(error);
        *ret_status = (unsigned)error_http_status(err.kind);
        return;
    }
    struct filter f = {.world = world, .args = &args};
    bool names = !door_json_is_none(args.node_names), first = true;
    struct door_json item;
    struct door_text out = {0};
    door_text_add(&out, "[");
    for (struct door_json_walk w = door_json_walk(names ? args.node_names : args.items);
         door_json_next(&w, NULL, &item);) {
        struct door_json name = names ? item : node_name(item);
        if (door_json_type(name) != DOOR_JSON_STRING)
            continue;
        door_text_add(&out, first ? "{\"Host\":" : ",{\"Host\":");
        door_text_add_json(&out, name);
        door_text_addf(&out, ",\"Score\":%d}", score(&f, name));
        first = false;
    }
    door_text_add(&out, "]");
    *ret_status = 200;
    *ret_body = door_text_take(&out);
}
