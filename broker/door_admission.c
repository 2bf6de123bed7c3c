/* SPDX-License-Identifier: Apache-2.0 */
/* door_admission.c - admission webhooks of Kubernetes: reading the review, writing the answer.
 *
 * The API server's ways, from apiserver/pkg/admission/plugin/webhook: apiVersion, kind and uid
 * are echoed, member names in their exact case; `patch` and `patchType` come together or not at
 * all; a denial is a 200 with `allowed: false` and a message. So every body gets a 200, and one
 * that cannot be read is denied with the uid where that can be found, since a bare 400 would show
 * the user no reason and would be an approval where failurePolicy is Ignore. */
#include "door_admission.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define WARNING_CHARACTERS_MAX 256
#define MESSAGE_CHARACTERS_MAX 1024

static const char *const operation_names[] = {
#define X(operation, name) name,
    DOOR_OPERATIONS(X)
#undef X
};

/* ------------------------------------------------------------------ reading */

static int read_operation(struct door_json request, struct door_review *review, struct error *err)
{
    struct door_json v = door_json_member(request, "operation");
    for (unsigned i = 0; i < DOOR_OPERATION_COUNT; i++) {
        if (door_json_equals(v, operation_names[i])) {
            review->operation = (enum door_operation)i;
            return 0;
        }
    }
    return error_set(err, ERROR_INVALID,
                     "AdmissionReview: request.operation: expected CREATE, UPDATE, DELETE or "
                     "CONNECT, not %.*s",
                     v.length < 60 ? (int)v.length : 60, v.text ? v.text : "nothing");
}

/* Whether it is a whole pod; with matchPolicy Equivalent, `kind` is what the object is sent as. */
static int read_kind(struct door_json request, struct door_review *review, struct error *err)
{
    struct door_json kind = door_json_member(request, "kind"),
                     name = door_json_member(kind, "kind"), group = door_json_member(kind, "group"),
                     sub = door_json_member(request, "subResource");
    if (door_json_type(name) != DOOR_JSON_STRING)
        return error_set(err, ERROR_INVALID,
                         "AdmissionReview: request.kind.kind: expected a "
                         "string, not %s",
                         door_json_type_name(name));
    if (door_json_string(name, review->kind, sizeof(review->kind)) < 0)
        snprintf(review->kind, sizeof(review->kind), "another kind");
    bool core = door_json_is_none(group) || door_json_equals(group, "");
    bool whole = door_json_is_none(sub) || door_json_equals(sub, "");
    review->pod = core && whole && door_json_equals(name, "Pod");
    if (!whole)
        review->kind[0] = '\0'; /* it is right that these come when the rules say "pods/..." */
    return 0;
}

/* On CREATE the request has no name where the pod has only a generateName. */
static void read_name(struct door_json request, struct door_review *review)
{
    char name[254] = "", space[64] = "";
    bool generated = false;
    struct door_json metadata = door_json_member(review->object, "metadata");
    door_json_string(door_json_member(request, "namespace"), space, sizeof(space));
    if (door_json_string(door_json_member(request, "name"), name, sizeof(name)) <= 0 &&
        door_json_string(door_json_member(metadata, "name"), name, sizeof(name)) <= 0)
        generated =
            door_json_string(door_json_member(metadata, "generateName"), name, sizeof(name)) > 0;
    snprintf(review->name, sizeof(review->name), "%s%s%s%s", space, *space ? "/" : "",
             *name ? name : "(unnamed)", generated ? "*" : "");
}

static int review_check(const char *body, size_t length, struct door_json *ret, struct error *err)
{
    if (length > DOOR_BODY_MAX)
        return error_set(err, ERROR_TOO_LARGE, "%zu bytes, at most %lu are taken", length,
                         DOOR_BODY_MAX);
    return door_json_check(body, length, ret, err);
}

static int review_read(const char *body, size_t length, struct door_review *review,
                       struct error *err)
{
    struct door_json root = {0}, request;
    *review = (struct door_review){0};
    if (review_check(body, length, &root, err) < 0) {
        review->uid = door_json_salvage(body, length, "request", "uid");
        return error_wrap(err, "AdmissionReview");
    }
    request = door_json_member(root, "request");
    review->uid = door_json_member(request, "uid");
    if (door_json_type(review->uid) != DOOR_JSON_STRING)
        review->uid = (struct door_json){0};
    struct door_json version = door_json_member(root, "apiVersion");
    review->v1beta1 = door_json_equals(version, "admission.k8s.io/v1beta1");
    if (!review->v1beta1 && !door_json_equals(version, "admission.k8s.io/v1"))
        return error_set(err, ERROR_INVALID,
                         "AdmissionReview: apiVersion: expected \"admission.k8s.io/v1\" or "
                         "\"admission.k8s.io/v1beta1\"");
    if (!door_json_equals(door_json_member(root, "kind"), "AdmissionReview"))
        return error_set(err, ERROR_INVALID, "AdmissionReview: kind: expected \"AdmissionReview\"");
    if (door_json_type(request) != DOOR_JSON_OBJECT)
        return error_set(err, ERROR_INVALID, "AdmissionReview: request: expected an object, not %s",
                         door_json_type_name(request));
    if (!review->uid.text)
        return error_set(err, ERROR_INVALID, "AdmissionReview: request.uid: expected a string");
    review->object = door_json_member(request, "object");
    review->old_object = door_json_member(request, "oldObject");
    read_name(request, review);
    if (read_operation(request, review, err) < 0)
        return -1;
    return read_kind(request, review, err);
}

/* ------------------------------------------------------------------ answering */

void door_warn(struct door_answer *answer, const char *format, ...)
{
    if (answer->warning_count == DOOR_WARNINGS_MAX) {
        answer->warnings_dropped++;
        return;
    }
    char text[2048];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    answer->warnings[answer->warning_count++] = door_text_clean(text, WARNING_CHARACTERS_MAX);
}

static void add_warnings(struct door_text *out, struct door_answer *answer)
{
    if (answer->warning_count == 0)
        return;
    if (answer->warnings_dropped > 0) { /* the last place tells of those that found none */
        char **last = &answer->warnings[DOOR_WARNINGS_MAX - 1];
        free(*last);
        *last = xasprintf("cpubroker: %zu more warnings", answer->warnings_dropped + 1);
    }
    door_text_add(out, ",\"warnings\":[");
    for (size_t i = 0; i < answer->warning_count; i++) {
        if (i)
            door_text_add(out, ",");
        door_text_add_string(out, answer->warnings[i]);
    }
    door_text_add(out, "]");
}

/* The status of a denial: bad words of the pod's or the API server's are a 400, a refusal is a
 * 403 (also of names that do not exist: a 404 would read as if the pod were gone), and what is our
 * own fault a 500. */
static void add_status(struct door_text *out, const struct error *err)
{
    unsigned code = 403;
    const char *reason = "Forbidden";
    if (err->kind == ERROR_INVALID || err->kind == ERROR_TOO_LARGE) {
        code = 400;
        reason = "BadRequest";
    } else if (error_http_status(err->kind) >= 500) {
        code = 500;
        reason = "InternalError";
    }
    autofree char *message = door_text_clean(err->message, MESSAGE_CHARACTERS_MAX);
    door_text_addf(out,
                   ",\"status\":{\"status\":\"Failure\",\"reason\":\"%s\",\"code\":%u,"
                   "\"message\":",
                   reason, code);
    door_text_add_string(out, message);
    door_text_add(out, "}");
}

/* What the audit log keeps, under "<webhook's name>/": who was judged, and how. */
static void add_audit(struct door_text *out, const struct door_review *review, bool allowed)
{
    char words[2 * DOOR_NAME_BYTES];
    if (!review->claim.ours)
        return;
    door_text_add(out, ",\"auditAnnotations\":{\"subject\":");
    door_text_add_string(out, door_subject_words(&review->claim.subject, words, sizeof(words)));
    door_text_addf(out, ",\"verdict\":\"%s\"}", allowed ? "approve" : "refuse");
}

static char *answer_text(const struct door_review *review, struct door_answer *answer,
                         const struct error *denial)
{
    struct door_text out = {0};
    door_text_addf(&out,
                   "{\"apiVersion\":\"admission.k8s.io/%s\",\"kind\":\"AdmissionReview\","
                   "\"response\":{\"uid\":",
                   review->v1beta1 ? "v1beta1" : "v1");
    if (review->uid.text)
        door_text_add_json(&out, review->uid);
    else
        door_text_add(&out, "\"\"");
    door_text_addf(&out, ",\"allowed\":%s", denial ? "false" : "true");
    if (denial)
        add_status(&out, denial);
    if (!denial && answer->patch.length > 0) {
        autotext patch = {0};
        door_text_addf(&patch, "[%s]", answer->patch.text);
        door_text_add(&out, ",\"patchType\":\"JSONPatch\",\"patch\":\"");
        door_text_add_base64(&out, patch.text, patch.length);
        door_text_add(&out, "\"");
    }
    add_warnings(&out, answer);
    add_audit(&out, review, !denial);
    door_text_add(&out, "}}");
    return door_text_take(&out);
}

static void answer_done(struct door_answer *answer)
{
    for (size_t i = 0; i < answer->warning_count; i++)
        free(answer->warnings[i]);
    door_text_done(&answer->patch);
}

/* ------------------------------------------------------------------ deciding */

static bool same(struct door_json a, struct door_json b)
{
    if (door_json_is_none(a) || door_json_is_none(b))
        return door_json_is_none(a) && door_json_is_none(b);
    return a.length == b.length && memcmp(a.text, b.text, a.length) == 0;
}

/* Whether an UPDATE leaves alone everything that decides. The API server writes both objects in
 * the same way, so texts that differ are at worst judged once more. */
static bool nothing_changed(const struct door_review *review)
{
    static const char *const annotations[] = {DOOR_ANNOTATION_POOL, DOOR_ANNOTATION_WORKLOAD,
                                              DOOR_ANNOTATION_LABEL};
    static const char *const pins[] = {"spec.nodeName", "spec.nodeSelector", "spec.affinity"};
    struct door_json now = door_json_at(review->object, "metadata.annotations"),
                     then = door_json_at(review->old_object, "metadata.annotations");
    if (door_json_type(review->old_object) != DOOR_JSON_OBJECT)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(annotations); i++)
        if (!same(door_json_member(now, annotations[i]), door_json_member(then, annotations[i])))
            return false;
    for (size_t i = 0; i < ARRAY_LEN(pins); i++)
        if (!same(door_json_at(review->object, pins[i]), door_json_at(review->old_object, pins[i])))
            return false;
    return true;
}

/* Whether the review is about something that a rule could say no to. */
static bool needs_rule(const struct door_review *review, struct door_answer *answer)
{
    if (!review->pod && review->kind[0])
        door_warn(answer, "cpubroker judges pods only; leave %s out of the webhook's rules",
                  review->kind);
    if (!review->pod || review->operation == DOOR_DELETE || review->operation == DOOR_CONNECT)
        return false;
    if (review->operation == DOOR_UPDATE && nothing_changed(review))
        return false;
    /* a pod that is going away must be let go: the update takes a finalizer away */
    return review->operation != DOOR_UPDATE ||
           door_json_is_none(door_json_at(review->object, "metadata.deletionTimestamp"));
}

static int decide(struct door_review *review, const struct door_world *world, door_pod_rule *rule,
                  struct door_answer *answer, struct error *err)
{
    if (door_json_type(review->object) != DOOR_JSON_OBJECT)
        return error_set(err, ERROR_INVALID,
                         "AdmissionReview: request.object: expected a pod, not %s",
                         door_json_type_name(review->object));
    if (door_claim_read(review->object, &review->claim, err) < 0)
        return -1;
    if (!review->claim.ours)
        return 0;
    if (door_claim_resolve(world, &review->claim, err) < 0)
        return -1;
    return rule(review, world, answer, err);
}

static void admit(const char *body, size_t length, const struct door_world *world,
                  bool (*asks)(const struct door_review *), door_pod_rule *rule, char **ret_body,
                  unsigned *ret_status)
{
    struct door_review review;
    struct door_answer answer = {0};
    struct error err = {0};
    int rc = review_read(body, length, &review, &err);
    if (rc == 0 && needs_rule(&review, &answer) && asks(&review))
        rc = decide(&review, world, rule, &answer, &err);
    if (rc < 0)
        error_wrap(&err, "cpubroker");
    *ret_body = answer_text(&review, &answer, rc < 0 ? &err : NULL);
    *ret_status = 200;
    answer_done(&answer);
}

static bool always(const struct door_review *review)
{
    (void)review;
    return true;
}

/* What a mutation adds cannot be changed later, so on UPDATE it would make every change of a label
 * an error. */
static bool on_create(const struct door_review *review)
{
    return review->operation == DOOR_CREATE;
}

void door_admission_validate(const char *body, size_t length, const struct door_world *world,
                             char **ret_body, unsigned *ret_status)
{
    admit(body, length, world, always, door_pod_validate, ret_body, ret_status);
}

void door_admission_mutate(const char *body, size_t length, const struct door_world *world,
                           char **ret_body, unsigned *ret_status)
{
    admit(body, length, world, on_create, door_pod_mutate, ret_body, ret_status);
}
