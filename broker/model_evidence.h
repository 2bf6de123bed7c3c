/* SPDX-License-Identifier: Apache-2.0 */
/* model_evidence.h - the latest look at a live workload, and whether it still counts. */
#pragma once

#include "cpu_evidence.h"
#include "model.h"

struct workload_evidence {
    char *migration, *node; /* owned; with which move it came, and where it was taken */
    char *boot_id;          /* owned; the node's boot then; NULL: not told */
    int64_t taken_at_ms;    /* when it came, by the broker's clock */
    bool moved_on;          /* the workload has left the node since, if only to come back */
    struct cpu_evidence *seen;
};

/* Takes `seen` over. */
struct workload_evidence *workload_evidence_new(const char *migration, const struct node *node,
                                                int64_t taken_at_ms, struct cpu_evidence *seen);
void workload_evidence_free(struct workload_evidence *evidence); /* NULL is fine */
DEFINE_AUTO(workload_evidence)

/* The latest look if it was one at the processes that run now: on the same node, in the same boot,
 * from the same root, and the workload has not been away since. NULL: there is none. */
const struct workload_evidence *model_evidence_now(struct model *model,
                                                   const struct workload *workload);

/* Within the caller's transaction: the workload's latest, which model_evidence_set makes true. */
int model_evidence_store_locked(struct model *model, const char *workload,
                                const struct workload_evidence *evidence, struct error *err);
/* Takes `evidence` over. The lock is held for writing. */
void model_evidence_set(struct model *model, struct workload *workload,
                        struct workload_evidence *evidence);
/* At start, when the workloads are there. */
int model_evidence_load(struct model *model, struct error *err);

/* {"node","migration","at_ms","age_ms"}: on which look a verdict rests. The caller owns it. */
json_object *workload_evidence_mark(struct model *model, const struct workload_evidence *evidence);
/* What it showed, in short, for people. The caller owns it; NULL when there is none. */
json_object *workload_evidence_json(struct model *model, const struct workload *workload);
