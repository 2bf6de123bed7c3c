/* SPDX-License-Identifier: Apache-2.0 */
/* evidence.h - what a look at the live process adds to a verdict: pure rules.
 *
 * By itself evidence only makes a verdict stricter. Where a pool's policy says so, it also takes
 * features out of the need that the process cannot have used; docs/evidence.md says when that is
 * held to be proved, and what it rests on. */
#pragma once

#include "cpu_evidence.h"
#include "cpu_profile.h"
#include "verdict.h"

/* Adds the reasons of the evidence to a verdict on `need` and `target`. `source` is the node on
 * which the evidence was taken; NULL where that is not known. `from` and `to` name source and
 * target in messages. `masked`: the need is that of a workload born under a mask, which says
 * nothing of the signal frames that it has had. Call it after verdict_judge and before
 * verdict_sort.
 */
void evidence_judge(const struct cpu_evidence *evidence, const struct cpu_profile *need,
                    const struct cpu_profile *source, const struct cpu_profile *target,
                    const char *from, const char *to, bool masked, struct verdict *verdict);

/* The xsave components that a mask hides on `source`, where the workload lives, and that `target`
 * does not enable: that they are not used has to be seen. */
uint64_t evidence_hidden(const struct cpu_profile *need, const struct cpu_profile *source,
                         const struct cpu_profile *target);
/* "opmask, pkru" */
void evidence_hidden_names(uint64_t components, char *text, size_t size);
/* What was not seen of them, by a look at the stopped workload: rejected. By one at the live one:
 * the other is awaited, for a traced process does not show its registers as long as it runs.
 * `evidence` is NULL where no look was taken. */
void evidence_judge_hidden(const struct cpu_evidence *evidence, bool stopped,
                           const struct cpu_profile *need, const struct cpu_profile *source,
                           const struct cpu_profile *target, const char *from, const char *to,
                           struct verdict *verdict);

/* Whether a signal frame that was made on `source` holds more than a kernel on `target` takes back,
 * and some of that is the need's. */
bool evidence_frames_shrink(const struct cpu_profile *need, const struct cpu_profile *source,
                            const struct cpu_profile *target);
/* Where they do: whether a handler runs, or may run; `evidence` and `stopped` as above. */
void evidence_judge_frames(const struct cpu_evidence *evidence, bool stopped, const char *from,
                           const char *to, struct verdict *verdict);

/* The need without those features that `target` lacks and that the process provably cannot use;
 * each is told as a warning. The result is to be judged in the need's place. The caller owns a
 * reference. */
struct cpu_profile *evidence_relax(const struct cpu_evidence *evidence, struct cpu_profile *need,
                                   const struct cpu_profile *target, const char *to,
                                   struct verdict *verdict);
/* The need without all that any evidence could take out for this target: what still rejects then
 * cannot be relaxed. The caller owns a reference. */
struct cpu_profile *evidence_relax_at_best(struct cpu_profile *need,
                                           const struct cpu_profile *target);
/* Whether that feature is provably not used. */
bool evidence_excludes(const struct cpu_evidence *evidence, enum cpu_feature_id feature);
