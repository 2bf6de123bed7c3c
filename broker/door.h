/* SPDX-License-Identifier: Apache-2.0 */
/* door.h - the doors through which orchestrators ask: one verdict, in each asker's own form.
 *
 * A door is a pure function from a body to a reply; what it has to know of the fleet it asks of
 * `struct door_world`, which the broker fills with its model and tests with a table. There is
 * always a reply. What cannot be read gets the door's own form of an error, what is not known to
 * be safe is refused with the reason, and nothing broken is ever an approval.
 * docs/webhooks.md explains the doors to those who call them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "json.h"
#include "verdict.h"

#define DOOR_BODY_MAX                                                                   \
    (8UL * 1024 * 1024)          /* an AdmissionReview of an UPDATE carries two objects \
                                  */
#define DOOR_NAME_BYTES    64    /* a broker's name and its NUL */
#define DOOR_ENV_MAX       32    /* variables that a pool may ask for */
#define DOOR_ENV_VALUE_MAX 16384 /* bytes of one value */

enum door_subject_kind {
    DOOR_WORKLOAD, /* its need, wherever it is */
    DOOR_NODE,     /* a process born on this node */
    DOOR_POOL,     /* a process born under this pool's mask */
};

/* Who is to live on a node. */
struct door_subject {
    enum door_subject_kind kind;
    char name[DOOR_NAME_BYTES];
    /* A live migration is meant to follow: what speaks against a move now counts as well
     * (same_node, migration_running, workload_not_running). Else only what speaks against living
     * there: the CPU, the pool, the node's state. */
    bool move;
};

/* What the doors know of the fleet. All of it is set but where said otherwise; each call may take
 * the broker's locks by itself, and sees its own moment. */
struct door_world {
    void *ctx;
    /* Whether `subject` may live on `node`. 0: *verdict (zeroed by the caller, who ends it) has
     * the reasons, sorted. -1: there is no verdict (no such workload, pool or node; …). */
    int (*verdict)(void *ctx, const struct door_subject *subject, const char *node,
                   struct verdict *verdict, struct error *err);
    /* The workload's pool; the caller owns *ret. ERROR_NOT_FOUND. */
    int (*workload_pool)(void *ctx, const char *workload, char **ret, struct error *err);
    /* The names of the pool's members, an array of strings; the caller owns *ret. ERROR_NOT_FOUND.
     */
    int (*pool_members)(void *ctx, const char *pool, json_object **ret, struct error *err);
    /* The environment that carries the pool's mask, [{"name":…,"value":…}], at most DOOR_ENV_MAX;
     * the caller owns *ret. ERROR_NOT_FOUND. */
    int (*pool_env)(void *ctx, const char *pool, json_object **ret, struct error *err);
    /* A clock that never steps back, in ms. */
    int64_t (*monotonic_ms)(void *ctx);
};

/* Answers `body`, of which `length` bytes count. The caller owns *ret_body, a NUL-terminated JSON
 * text; *ret_status is the HTTP status. */
typedef void door_function(const char *body, size_t length, const struct door_world *world,
                           char **ret_body, unsigned *ret_status);

/* Every door, once: routes, documentation and tests read this table.
 *     path                              function                 summary */
#define DOORS(X)                                                              \
    X("/webhooks/check", door_check, "any orchestrator: where could it live") \
    X("/webhooks/kubernetes/filter", door_extender_filter,                    \
      "kube-scheduler's extender: which nodes fit")                           \
    X("/webhooks/kubernetes/prioritize", door_extender_prioritize,            \
      "kube-scheduler's extender: which fit best")                            \
    X("/webhooks/kubernetes/validate", door_admission_validate,               \
      "admission: refuses pods pinned where they cannot live")                \
    X("/webhooks/kubernetes/mutate", door_admission_mutate,                   \
      "admission: adds the pool's mask and node affinity")

#define X(path, function, summary) door_function function;
DOORS(X)
#undef X
