/* SPDX-License-Identifier: Apache-2.0 */
/* drift.h - what a change of the fleet means: other facts of a node, other masks, live workloads
 * that no longer fit where they did. Makes the events and changes nothing.
 *
 * Called under the writer's mutex while memory still is as it was before the change (only the
 * counts of pool->mask have moved on), and without the readers' lock. */
#pragma once

#include "events.h"
#include "model_internal.h"

/*     cause     wire name */
#define DRIFT_CAUSES(X)                                      \
    X(REPORT, "report") /* a member reported other CPUs */   \
    X(JOIN, "join")     /* or its CPUs for the first time */ \
    X(LEAVE, "leave")   /* or was deleted */                 \
    X(POLICY, "policy") /* vendors may no longer mix */      \
    X(MASK, "mask")     /* a workload's mask does not cover all of it */

enum drift_cause {
#define X(cause, name) DRIFT_##cause,
    DRIFT_CAUSES(X)
#undef X
};

struct drift {
    struct model *model;
    const struct pool *pool;
    enum drift_cause cause;
    const struct node *node;            /* who changes; NULL for DRIFT_POLICY */
    struct cpu_profile *before, *after; /* its CPUs; NULL: no member with a report */
    bool mix_before, mix_after;         /* whether vendors may mix */
    const struct mask_change *change;   /* NULL: the mask stays */
};

/* pool_mask_shrunk or pool_mask_grown, and workload_stranded for each that is. A report or a
 * policy strands who loses any member; a leave, which somebody asked for, who loses the last. */
void drift_pool(const struct drift *drift, struct fleet_events *events);
/* workload_stranded, where fewer members fit a workload of the pool that needs `need` from now on.
 */
void drift_workload(struct model *model, const struct workload *workload, struct cpu_profile *need,
                    struct fleet_events *events);
/* node_drifted, with what differs between the reports. */
void drift_node(struct fleet_events *events, const char *node, json_object *before_report,
                json_object *after_report, const struct cpu_profile *before,
                const struct cpu_profile *after);
