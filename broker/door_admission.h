/* SPDX-License-Identifier: Apache-2.0 */
/* door_admission.h - an AdmissionReview between its reading and its answer, and the rules that
 * decide in between. */
#pragma once

#include "door_internal.h"

#define DOOR_WARNINGS_MAX 16 /* of 256 characters each: 4,096 together */

/*     operation  wire name */
#define DOOR_OPERATIONS(X) \
    X(CREATE, "CREATE")    \
    X(UPDATE, "UPDATE")    \
    X(DELETE, "DELETE")    \
    X(CONNECT, "CONNECT")

enum door_operation {
#define X(operation, name) DOOR_##operation,
    DOOR_OPERATIONS(X)
#undef X
        DOOR_OPERATION_COUNT
};

struct door_review {
    bool v1beta1;         /* else v1 */
    struct door_json uid; /* a string as it was written, or absent */
    enum door_operation operation;
    bool pod;      /* a whole pod: neither another kind nor a subresource */
    char kind[64]; /* for messages */
    struct door_json object, old_object;
    char name[320];          /* "namespace/name" for messages; "name-*" while it has none */
    struct door_claim claim; /* read and resolved before a rule runs */
};

struct door_answer {
    char *warnings[DOOR_WARNINGS_MAX]; /* owned */
    size_t warning_count, warnings_dropped;
    struct door_text patch; /* operations with commas between them, without the brackets */
};

void door_warn(struct door_answer *answer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A rule for pods whose annotations name a pool or a workload. 0: allowed; -1: denied, with
 * ERROR_REJECTED for a refusal by the verdict. */
typedef int door_pod_rule(const struct door_review *review, const struct door_world *world,
                          struct door_answer *answer, struct error *err);
door_pod_rule door_pod_validate; /* door_validate.c */
door_pod_rule door_pod_mutate;   /* door_mutate.c */

/* A variable's value that carries `want` beside what `have` says: the caller owns it. NULL when
 * `have` carries it already. *ret_replaced: `have` could not be kept. */
char *door_env_merge(const char *name, const char *have, const char *want, bool *ret_replaced);
