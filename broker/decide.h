/* SPDX-License-Identifier: Apache-2.0 */
/* decide.h - whether a workload may move, and where to: the CPUs' verdict and
 * the fleet's state.
 *
 * Reads the model, changes nothing: the caller holds its lock or its writer's
 * mutex. The verdict is zeroed by the caller, who ends it with verdict_done. */
#pragma once

#include "cpu_evidence.h"
#include "model.h"
#include "verdict.h"

/* Where a verdict is about a workload, the latest look at its present processes
 * (model_evidence_now) goes into it: it makes the verdict stricter, and where the pool's policy
 * says `evidence: relax`, it takes out what the workload provably does not use. Without one, the
 * need alone decides.
 *
 * A move takes a fresh look before anything is frozen. So it is begun by the need alone, and where
 * the pool lets evidence relax, also when nothing but such features speaks against it: the reasons
 * are then warnings of the code `evidence_awaited`, and decide_inspected has the last word. */

/* All that speaks for and against moving `workload` to `target` now. */
void decide_move(struct model *model, const struct workload *workload, const struct node *target,
                 struct verdict *verdict);
/* The same for a move that begins with a look. */
void decide_start(struct model *model, const struct workload *workload, const struct node *target,
                  struct verdict *verdict);
/* The CPUs by what the look of a move that is under way has shown; by the need alone where
 * `evidence` is NULL. `stopped`: the workload stands still by now, so that no further look will
 * come. */
void decide_inspected(struct model *model, const struct workload *workload,
                      const struct cpu_evidence *evidence, bool stopped, const struct node *target,
                      struct verdict *verdict);
/* Whether the move stands or falls with what the look shows: by the need alone the CPUs are
 * rejected, and the pool lets evidence relax; or the mask hides what the target lacks. Such a look
 * is taken again when nothing can change any more. */
bool decide_rests_on_look(struct model *model, const struct workload *workload,
                          const struct node *target);
/* What decide_move says without what speaks against moving just now: whether it could live there.
 */
void decide_living(struct model *model, const struct workload *workload, const struct node *target,
                   struct verdict *verdict);
/* Whether a process that is born under the pool's mask could live on `target`. */
void decide_pool(struct model *model, const struct pool *pool, const struct node *target,
                 struct verdict *verdict);
/* The best member of the workload's pool, or NULL; then the verdict has
 * `no_target`, and all that speaks against each member. Best is: no reason to
 * reject, nothing that hangs on a look, fewest warnings, fewest features that the workload does not
 * need, name. `start`: as decide_start judges, else as decide_move does. */
const struct node *decide_best(struct model *model, const struct workload *workload, bool start,
                               struct verdict *verdict);
/* How many features the target has that are not needed: the fewer, the closer it fits. */
unsigned decide_surplus(const struct cpu_profile *need, const struct cpu_profile *target);
/* The CPUs alone: whether a process born on `from` could live on `to`. */
void decide_cpus(struct model *model, const struct node *from, const struct node *to,
                 struct verdict *verdict);
