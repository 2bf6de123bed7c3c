/* SPDX-License-Identifier: Apache-2.0 */
/* decide.h - whether a workload may move, and where to: the CPUs' verdict and
 * the fleet's state.
 *
 * Reads the model, changes nothing: the caller holds its lock or its writer's
 * mutex. The verdict is zeroed by the caller, who ends it with verdict_done. */
#pragma once

#include "model.h"
#include "verdict.h"

/* All that speaks for and against moving `workload` to `target` now. */
void decide_move(struct model *model, const struct workload *workload, const struct node *target,
                 struct verdict *verdict);
/* The same without what speaks against moving just now: whether it could live there. */
void decide_living(struct model *model, const struct workload *workload, const struct node *target,
                   struct verdict *verdict);
/* Whether a process that is born under the pool's mask could live on `target`. */
void decide_pool(struct model *model, const struct pool *pool, const struct node *target,
                 struct verdict *verdict);
/* The best member of the workload's pool, or NULL; then the verdict has
 * `no_target`, and all that speaks against each member. Best is: no reason to
 * reject, fewest warnings, fewest features that the workload does not need,
 * name. */
const struct node *decide_best(struct model *model, const struct workload *workload,
                               struct verdict *verdict);
/* How many features the target has that are not needed: the fewer, the closer it fits. */
unsigned decide_surplus(const struct cpu_profile *need, const struct cpu_profile *target);
/* The CPUs alone: whether a process born on `from` could live on `to`. */
void decide_cpus(struct model *model, const struct node *from, const struct node *to,
                 struct verdict *verdict);
