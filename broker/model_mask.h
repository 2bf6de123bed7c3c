/* SPDX-License-Identifier: Apache-2.0 */
/* model_mask.h - workloads that were born under their pool's mask: whether it holds, what is told
 * of it, and what follows for the ledger.
 *
 * The mask is a promise of the agent's: the workload has seen no more than the mask. It holds until
 * the agent tells of a place that is not masked (a lack). From then on the workload may have seen
 * the CPUs that it lives on, and they are exposures like anybody's. */
#pragma once

#include "model.h"

/* The heartbeat's word about one workload's mask. */
struct mask_told {
    enum mask_grade grade;
    int64_t epoch;
    int64_t sites;
    struct mask_lacks lacks;
};

/* Decodes the member `mask` of a workload in a heartbeat; `what` names that. *ret_told is false
 * where it is absent or null. */
int mask_told_decode(const char *what, json_object *workload, struct mask_told *ret, bool *ret_told,
                     struct error *err);

/* Whether the workload's need is its birth mask: the grade binds, and nothing is lacking. */
bool workload_is_held(const struct workload *workload);
/* Whether it was born under a mask of a grade that binds, held or not. */
bool workload_is_masked(const struct workload *workload);

/* Takes what `node`'s agent tells. The first lack is an exposure to that node, and to those that
 * the workload may have had it on already. The writer's mutex is held. */
int model_mask_tell_locked(struct model *model, struct workload *workload,
                           const struct mask_told *told, struct error *err);
/* The need that a line of the ledger makes which comes behind `before` (NULL: it is the first). */
const struct cpu_record *model_mask_need(struct model *model, const struct workload_mask *mask,
                                         const struct cpu_record *before,
                                         const struct profile *profile, bool masked);
/* Reads the mask of a workload that the database has; one that cannot be read holds nobody. */
int model_mask_load(struct model *model, const struct store_workload *row, struct workload *ret,
                    struct error *err);
/* When its ledger is there, too: one that is not held, and of which no line says so, is exposed to
 * all nodes that it was on. */
void model_mask_settle(struct model *model, struct workload *workload);

/* What people see of it: {"grade","epoch","profile_sha256","holds","sites","lacks"}, NULL for grade
 * OFF. The caller owns it. */
json_object *workload_mask_json(const struct workload *workload);
/* What agents are told: {"epoch","grade","profile"}, and with `env` also the settings that name the
 * mask to libraries. NULL for grade OFF. The caller owns it. */
json_object *workload_mask_order(const struct workload *workload, bool env);
/* "masked at birth, epoch 7, grade detour", and what is not covered. NULL for grade OFF. The caller
 * owns it. */
char *workload_mask_sentence(const struct workload *workload);
