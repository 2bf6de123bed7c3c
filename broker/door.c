/* SPDX-License-Identifier: Apache-2.0 */
/* door.c - what a pod means to the doors, and a verdict in a few words. */
#include "door_internal.h"

#include <stdio.h>
#include <string.h>

#define CODES_MAX     12 /* reasons named to a scheduler */
#define SENTENCES_MAX 4  /* reasons told to a person */

/* A name from an annotation. *ret_there: the annotation is there. */
static int read_name(struct door_json annotations, const char *annotation, const char *what,
                     char name[DOOR_NAME_BYTES], bool *ret_there, struct error *err)
{
    struct door_json v = door_json_member(annotations, annotation);
    *ret_there = v.text != NULL;
    if (!v.text)
        return 0;
    char text[256];
    if (door_json_string(v, text, sizeof(text)) < 0)
        return error_set(err, ERROR_INVALID, "annotation %s: expected the name of a %s", annotation,
                         what);
    if (name_check(what, text, err) < 0)
        return error_wrap(err, "annotation %s", annotation);
    memcpy(name, text, strlen(text) + 1); /* a name fits */
    return 0;
}

static bool is_alphanumeric(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool door_is_label_value(const char *text)
{
    size_t n = strlen(text);
    if (n < 1 || n > 63 || !is_alphanumeric(text[0]) || !is_alphanumeric(text[n - 1]))
        return false;
    while (*text && (is_alphanumeric(*text) || strchr("-._", *text)))
        text++;
    return !*text;
}

bool door_is_node_name(const char *text)
{
    size_t n = strlen(text);
    bool edge = true; /* a part begins or ends here: no hyphen, no dot */
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        bool plain = is_alphanumeric(c) && !(c >= 'A' && c <= 'Z');
        bool last = i + 1 == n || text[i + 1] == '.';
        if (!plain &&
            ((c != '-' && c != '.') || edge || (last && c != '.') || (c == '.' && i + 1 == n)))
            return false;
        edge = c == '.';
    }
    return n >= 1 && n <= 253;
}

/* [DOMAIN/]NAME, as Kubernetes takes for the key of a label. */
static bool is_label_key(const char *text)
{
    char domain[254];
    const char *slash = strchr(text, '/');
    if (!slash)
        return door_is_label_value(text);
    size_t n = (size_t)(slash - text);
    if (n >= sizeof(domain))
        return false;
    memcpy(domain, text, n);
    domain[n] = '\0';
    return door_is_node_name(domain) && door_is_label_value(slash + 1);
}

static int read_label(struct door_json annotations, char label[DOOR_LABEL_BYTES], struct error *err)
{
    struct door_json v = door_json_member(annotations, DOOR_ANNOTATION_LABEL);
    snprintf(label, DOOR_LABEL_BYTES, "%s", DOOR_LABEL_DEFAULT);
    if (!v.text)
        return 0;
    if (door_json_string(v, label, DOOR_LABEL_BYTES) < 0 || !is_label_key(label))
        return error_set(err, ERROR_INVALID,
                         "annotation " DOOR_ANNOTATION_LABEL ": expected the key of a node label, "
                         "for example " DOOR_LABEL_DEFAULT);
    return 0;
}

int door_claim_read(struct door_json pod, struct door_claim *claim, struct error *err)
{
    *claim = (struct door_claim){0};
    struct door_json metadata = door_json_member(pod, "metadata");
    if (!door_json_is_none(metadata) && door_json_type(metadata) != DOOR_JSON_OBJECT)
        return error_set(err, ERROR_INVALID, "the pod's metadata: expected an object, not %s",
                         door_json_type_name(metadata));
    struct door_json annotations = door_json_member(metadata, "annotations");
    if (door_json_is_none(annotations))
        return 0;
    if (door_json_type(annotations) != DOOR_JSON_OBJECT)
        return error_set(err, ERROR_INVALID, "the pod's annotations: expected an object, not %s",
                         door_json_type_name(annotations));
    bool pool = false, workload = false;
    if (read_name(annotations, DOOR_ANNOTATION_POOL, "pool", claim->pool, &pool, err) < 0 ||
        read_name(annotations, DOOR_ANNOTATION_WORKLOAD, "workload", claim->subject.name, &workload,
                  err) < 0)
        return -1;
    claim->ours = pool || workload;
    if (!claim->ours)
        return 0;
    claim->subject.kind = workload ? DOOR_WORKLOAD : DOOR_POOL;
    if (!workload)
        snprintf(claim->subject.name, sizeof(claim->subject.name), "%s", claim->pool);
    return read_label(annotations, claim->label, err);
}

int door_claim_resolve(const struct door_world *world, struct door_claim *claim, struct error *err)
{
    if (claim->subject.kind != DOOR_WORKLOAD)
        return 0;
    autofree char *pool = NULL;
    if (world->workload_pool(world->ctx, claim->subject.name, &pool, err) < 0)
        return -1;
    if (claim->pool[0] && strcmp(claim->pool, pool) != 0)
        return error_set(err, ERROR_CONFLICT,
                         "workload '%s' belongs to pool '%s', but pool '%s' is named as well; name "
                         "one of the two, or move the workload to the other pool",
                         claim->subject.name, pool, claim->pool);
    snprintf(claim->pool, sizeof(claim->pool), "%s", pool);
    return 0;
}

const char *door_subject_words(const struct door_subject *subject, char *text, size_t size)
{
    static const char *const kinds[] = {
        [DOOR_WORKLOAD] = "workload", [DOOR_NODE] = "a process from node", [DOOR_POOL] = "pool"};
    snprintf(text, size, "%s %s", kinds[subject->kind], subject->name);
    return text;
}

int door_judge(const struct door_world *world, const struct door_subject *subject, const char *node,
               struct verdict *verdict, struct error *err)
{
    if (name_check("node", node, err) < 0)
        return -1;
    return world->verdict(world->ctx, subject, node, verdict, err);
}

int door_score(const struct verdict *verdict)
{
    if (verdict->rejected)
        return 0;
    size_t warnings = verdict->reason_count;
    return warnings < DOOR_SCORE_MAX ? DOOR_SCORE_MAX - (int)warnings : 1;
}

char *door_verdict_codes(const struct verdict *verdict)
{
    struct door_text out = {0};
    size_t named = 0, left = 0;
    int last = -1;
    for (size_t i = 0; i < verdict->reason_count; i++) {
        const struct verdict_reason *r = &verdict->reasons[i];
        if (r->severity != VERDICT_REJECT)
            continue;
        if (named == CODES_MAX) {
            left++;
            continue;
        }
        if ((int)r->code != last)
            door_text_addf(&out, "%s%s", named ? "; " : "", verdict_code_name(r->code));
        if (r->feature >= 0 && (unsigned)r->feature < CPU_FEATURE_COUNT)
            door_text_addf(&out, "%s%s", (int)r->code == last ? ", " : " ",
                           cpu_features[r->feature].name);
        last = (int)r->code;
        named++;
    }
    if (left)
        door_text_addf(&out, " and %zu more", left);
    return door_text_take(&out);
}

char *door_verdict_sentences(const struct verdict *verdict)
{
    struct door_text out = {0};
    size_t told = 0, left = 0;
    const char *remedy = NULL;
    for (size_t i = 0; i < verdict->reason_count; i++) {
        const struct verdict_reason *r = &verdict->reasons[i];
        if (r->severity != VERDICT_REJECT)
            continue;
        if (told == SENTENCES_MAX) {
            left++;
            continue;
        }
        door_text_addf(&out, "%s%s: %s", told ? "; " : "", verdict_code_name(r->code),
                       r->message ? r->message : verdict_code_meaning(r->code));
        if (!remedy)
            remedy = r->remedy;
        told++;
    }
    if (left)
        door_text_addf(&out, "; and %zu more", left);
    if (remedy)
        door_text_addf(&out, " (%s)", remedy);
    if (told && verdict->mask)
        door_text_addf(&out, "; the workload was %s", verdict->mask);
    return door_text_take(&out);
}
