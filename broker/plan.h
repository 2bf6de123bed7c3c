/* SPDX-License-Identifier: Apache-2.0 */
/* plan.h - what a pool would be with other members: pure arithmetic over profiles.
 *
 * The measure throughout is the *loss*: how many features (kinds isa and state; hints do not
 * count) a member has that its pool's mask lacks, summed over the members. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "cpu_profile.h"
#include "error.h"
#include "json.h"
#include "verdict.h"

#define PLAN_KINDS_MAX  512  /* unlike CPUs that a split is computed for */
#define PLAN_MATRIX_MAX 1024 /* nodes of a matrix */

struct plan_member {
    const char *name;            /* borrowed */
    struct cpu_profile *profile; /* borrowed */
};

/* The intersection of the members, NULL for none. The caller owns a reference. */
struct cpu_profile *plan_mask(const struct plan_member *members, size_t count);

/* {"gained":[…],"lost":[…],"level":{"before","after"},"xsave":{"before_size","after_size",
 * "components_gained":[…],"components_lost":[…]}} from one mask to another; either may be NULL (an
 * empty pool has nothing). The caller owns the result. */
json_object *plan_difference(const struct cpu_profile *before, const struct cpu_profile *after);

/* [{"node","features":[what the pool would gain without it]}], the costliest first; a node without
 * which nothing is gained is left out. The caller owns the result. */
json_object *plan_costs(const struct plan_member *members, size_t count);

/* Splits the members into at most `max_pools` pools (more only where vendors must not mix) so that
 * little is lost: unlike CPUs are merged pair by pair, always the pair whose merging loses
 * least. {"measure","loss","pools":[{"members":[…],"vendor","level","features":N,"loss":N}]}, the
 * largest first. Errors: ERROR_INVALID past PLAN_KINDS_MAX unlike CPUs. */
int plan_split(const struct plan_member *members, size_t count, size_t max_pools, bool mix_vendors,
               json_object **ret, struct error *err);

/* {"nodes":[…],"rows":[{"from","cells":[{"to","verdict","code"}]}]}: who can move to whom by its
 * CPU; `code` is the first reason of a refusal, null of an approval. Errors: ERROR_INVALID past
 * PLAN_MATRIX_MAX. */
int plan_matrix(const struct plan_member *members, size_t count,
                const struct verdict_policy *policy, json_object **ret, struct error *err);
