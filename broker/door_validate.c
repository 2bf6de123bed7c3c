/* SPDX-License-Identifier: Apache-2.0 */
/* door_validate.c - refuses a pod that is pinned to nodes where its workload cannot live.
 *
 * A pod is pinned by nodeName, which passes the scheduler by, by nodeSelector, or by required
 * node affinity: its terms are ORed, the requirements within one ANDed, and an empty term matches
 * nothing. Only what names nodes is read: the field metadata.name and the one label that holds
 * names; any other requirement is the scheduler's, and can only make the choice smaller. A term
 * that names no node leaves the pod free, and the extender keeps it to the nodes that fit. */
#include "door_admission.h"

#include <stdio.h>
#include <string.h>

#define LOOKS_MAX  1000000 /* names compared for one pod */
#define JUDGED_MAX 4096    /* nodes judged for one pod */
#define TOLD_MAX   3       /* nodes whose reasons are told */
#define REASON_MAX 240     /* characters for each of several */

struct pins {
    const struct door_review *review;
    const struct door_world *world;
    struct door_json selector; /* the label's value in nodeSelector, or absent */
    json_object *members;      /* of the pool; borrowed */
    size_t looks, judged, refused;
    bool fits; /* a node was found on which it may run, or it is free to go anywhere */
    struct door_text reasons;
};

/* One requirement of a term, where it is about names. */
struct requirement {
    bool in, not_in; /* neither: it says nothing about names */
    struct door_json values;
};

static int requirement_read(struct door_json v, const char *key, struct requirement *ret,
                            struct error *err)
{
    *ret = (struct requirement){.values = door_json_member(v, "values")};
    struct door_json op = door_json_member(v, "operator");
    enum door_json_type type = door_json_type(ret->values);
    if (door_json_type(door_json_member(v, "key")) != DOOR_JSON_STRING ||
        door_json_type(op) != DOOR_JSON_STRING ||
        (!door_json_is_none(ret->values) && type != DOOR_JSON_ARRAY))
        return error_set(err, ERROR_INVALID,
                         "the pod's node affinity: a requirement is no {key, operator, values}");
    if (!door_json_equals(door_json_member(v, "key"), key))
        return 0;
    ret->in = door_json_equals(op, "In");
    ret->not_in = door_json_equals(op, "NotIn");
    return 0;
}

/* The lists of a term that may name nodes, and the key that does so in each. */
#define LIST_COUNT 2
static int term_list(const struct pins *p, struct door_json term, size_t which,
                     struct door_json *ret_list, const char **ret_key, struct error *err)
{
    const char *name = which == 0 ? "matchFields" : "matchExpressions";
    *ret_key = which == 0 ? "metadata.name" : p->review->claim.label;
    *ret_list = door_json_member(term, name);
    if (!door_json_is_none(*ret_list) && door_json_type(*ret_list) != DOOR_JSON_ARRAY)
        return error_set(err, ERROR_INVALID,
                         "the pod's node affinity: %s: expected an array, not %s", name,
                         door_json_type_name(*ret_list));
    return 0;
}

/* Whether `node` is among the values; -1 when too much was compared. */
static int among(struct pins *p, struct door_json values, const char *node, struct error *err)
{
    struct door_json v;
    for (struct door_json_walk w = door_json_walk(values); door_json_next(&w, NULL, &v);) {
        if (++p->looks > LOOKS_MAX)
            return error_set(err, ERROR_INVALID,
                             "the pod's node affinity names too many nodes to be judged");
        if (door_json_equals(v, node))
            return 1;
    }
    return 0;
}

/* Whether what the term says of names lets `node` be; -1 with an error. */
static int admits(struct pins *p, struct door_json term, const char *node, struct error *err)
{
    struct door_json list, v;
    const char *key;
    for (size_t i = 0; i < LIST_COUNT; i++) {
        if (term_list(p, term, i, &list, &key, err) < 0)
            return -1;
        for (struct door_json_walk w = door_json_walk(list); door_json_next(&w, NULL, &v);) {
            struct requirement r;
            if (requirement_read(v, key, &r, err) < 0)
                return -1;
            int there = r.in || r.not_in ? among(p, r.values, node, err) : 0;
            if (there < 0)
                return -1;
            if ((r.in && !there) || (r.not_in && there))
                return 0;
        }
    }
    return 1;
}

static void note(struct pins *p, const char *node, const char *reason)
{
    if (p->refused++ >= TOLD_MAX)
        return;
    autofree char *cut = door_text_clean(reason, REASON_MAX);
    door_text_addf(&p->reasons, "%s%s%s%s", p->refused > 1 ? "; " : "", node ? node : "",
                   node ? ": " : "", cut);
}

static int judge(struct pins *p, const char *node, struct error *err)
{
    struct verdict verdict = {0};
    struct error why = {0};
    if (++p->judged > JUDGED_MAX)
        return error_set(err, ERROR_INVALID, "the pod may run on more than %d nodes by name",
                         JUDGED_MAX);
    if (door_judge(p->world, &p->review->claim.subject, node, &verdict, &why) < 0) {
        note(p, node, why.message);
    } else if (verdict.rejected) {
        autofree char *sentences = door_verdict_sentences(&verdict);
        note(p, node, sentences);
    } else {
        p->fits = true;
    }
    verdict_done(&verdict);
    return 0;
}

/* Judges a node that the term names, if all else in the term lets it be. */
static int consider(struct pins *p, struct door_json term, const char *node, struct error *err)
{
    int ok = admits(p, term, node, err);
    if (ok <= 0)
        return ok;
    return judge(p, node, err);
}

static int consider_values(struct pins *p, struct door_json term, struct door_json values,
                           struct error *err)
{
    struct door_json v;
    char node[254];
    for (struct door_json_walk w = door_json_walk(values);
         !p->fits && door_json_next(&w, NULL, &v);) {
        if (door_json_string(v, node, sizeof(node)) < 0)
            note(p, NULL, "a value that can be no node's name");
        else if (consider(p, term, node, err) < 0)
            return -1;
    }
    return 0;
}

/* A term that only leaves names out: what is left of the pool decides. */
static int consider_members(struct pins *p, struct door_json term, struct error *err)
{
    size_t before = p->judged;
    for (size_t i = 0; !p->fits && i < json_array_size(p->members); i++)
        if (consider(p, term, json_item_str(p->members, i), err) < 0)
            return -1;
    if (!p->fits && p->judged == before)
        note(p, NULL, "every member of the pool is left out");
    return 0;
}

/* What a term says about names, if anything. */
static int consider_term(struct pins *p, struct door_json term, struct error *err)
{
    struct door_json list, v, named = {0};
    const char *key;
    bool left_out = false;
    for (size_t i = 0; i < LIST_COUNT; i++) {
        if (term_list(p, term, i, &list, &key, err) < 0)
            return -1;
        for (struct door_json_walk w = door_json_walk(list); door_json_next(&w, NULL, &v);) {
            struct requirement r;
            if (requirement_read(v, key, &r, err) < 0)
                return -1;
            if (r.in && !named.text)
                named = r.values;
            left_out = left_out || r.not_in;
        }
    }
    char node[254];
    if (p->selector.text) {
        if (door_json_string(p->selector, node, sizeof(node)) < 0)
            return error_set(err, ERROR_INVALID, "the pod's nodeSelector: %s: expected a string",
                             p->review->claim.label);
        return consider(p, term, node, err);
    }
    if (named.text)
        return consider_values(p, term, named, err);
    if (left_out)
        return consider_members(p, term, err);
    p->fits = true;
    return 0;
}

/* An empty term matches nothing, as null does. */
static bool is_empty_term(struct door_json term)
{
    struct door_json v;
    struct door_json_walk fields = door_json_walk(door_json_member(term, "matchFields")),
                          labels = door_json_walk(door_json_member(term, "matchExpressions"));
    return !door_json_next(&fields, NULL, &v) && !door_json_next(&labels, NULL, &v);
}

static int consider_affinity(struct pins *p, struct error *err)
{
    struct door_json term,
        required =
            door_json_at(p->review->object, "spec.affinity.nodeAffinity."
                                            "requiredDuringSchedulingIgnoredDuringExecution"),
        terms = door_json_member(required, "nodeSelectorTerms");
    if (door_json_is_none(required)) {
        if (!p->selector.text)
            p->fits = true;
        return p->fits ? 0 : consider_term(p, (struct door_json){0}, err);
    }
    if (!door_json_is_none(terms) && door_json_type(terms) != DOOR_JSON_ARRAY)
        return error_set(err, ERROR_INVALID,
                         "the pod's node affinity: nodeSelectorTerms: expected an array, not %s",
                         door_json_type_name(terms));
    for (struct door_json_walk w = door_json_walk(terms);
         !p->fits && door_json_next(&w, NULL, &term);) {
        if (!door_json_is_none(term) && door_json_type(term) != DOOR_JSON_OBJECT)
            return error_set(err, ERROR_INVALID,
                             "the pod's node affinity: a term: expected an object, not %s",
                             door_json_type_name(term));
        if (!is_empty_term(term) && consider_term(p, term, err) < 0)
            return -1;
    }
    return 0;
}

static int refuse(struct pins *p, const char *node, struct error *err)
{
    char words[2 * DOOR_NAME_BYTES];
    const struct door_subject *subject = &p->review->claim.subject;
    const char *reasons = p->reasons.text ? p->reasons.text : "";
    door_subject_words(subject, words, sizeof(words));
    if (subject->kind == DOOR_POOL)
        snprintf(words, sizeof(words), "what is born in pool %s", subject->name);
    if (node)
        return error_set(err, ERROR_REJECTED, "pod %s is bound to a node where %s cannot live: %s",
                         p->review->name, words, reasons);
    size_t more = p->refused > TOLD_MAX ? p->refused - TOLD_MAX : 0;
    char rest[40] = "";
    if (more)
        snprintf(rest, sizeof(rest), "; and %zu more", more);
    return error_set(err, ERROR_REJECTED, "pod %s is pinned to nodes where %s cannot live: %s%s",
                     p->review->name, words, reasons, rest);
}

static int check(struct pins *p, struct error *err)
{
    struct door_json spec = door_json_member(p->review->object, "spec"),
                     bound = door_json_member(spec, "nodeName");
    char node[254] = "";
    if (door_json_type(spec) != DOOR_JSON_OBJECT)
        return error_set(err, ERROR_INVALID, "the pod's spec: expected an object, not %s",
                         door_json_type_name(spec));
    if (!door_json_is_none(bound) && door_json_string(bound, node, sizeof(node)) < 0)
        return error_set(err, ERROR_INVALID, "the pod's spec.nodeName: expected a node's name");
    if (*node) {
        if (judge(p, node, err) < 0)
            return -1;
        return p->fits ? 0 : refuse(p, node, err);
    }
    p->selector = door_json_member(door_json_member(spec, "nodeSelector"), p->review->claim.label);
    if (consider_affinity(p, err) < 0)
        return -1;
    /* where nothing was refused, its own words contradict each other: the scheduler will say so */
    return p->fits || p->refused == 0 ? 0 : refuse(p, NULL, err);
}

int door_pod_validate(const struct door_review *review, const struct door_world *world,
                      struct door_answer *answer, struct error *err)
{
    autojson *members = NULL;
    (void)answer;
    if (world->pool_members(world->ctx, review->claim.pool, &members, err) < 0)
        return -1;
    struct pins p = {.review = review, .world = world, .members = members};
    int rc = check(&p, err);
    door_text_done(&p.reasons);
    return rc;
}
