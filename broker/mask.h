/* SPDX-License-Identifier: Apache-2.0 */
/* mask.h - the intersection of a pool's members, kept up to date as they join and leave.
 *
 * Joins and leaves keep counts per feature and per component layout, so that neither rescans
 * the pool. The result is the same whatever the order (associative, commutative, idempotent). */
#pragma once

#include "cleanup.h"
#include "cpu_profile.h"
#include "json.h"

struct mask; /* one pool's counts; guarded by the caller's lock */

struct mask *mask_new(void);
void mask_free(struct mask *mask); /* NULL is fine */
DEFINE_AUTO(mask)

/* The profile must be the very one that was added when it is removed. */
void mask_add(struct mask *mask, struct cpu_profile *member);
void mask_remove(struct mask *mask, struct cpu_profile *member);
size_t mask_member_count(const struct mask *mask);

/* The intersection as a profile of its own (NULL for an empty pool): features closed over
 * dependencies, conflicting components dropped, sizes recomputed. Where a member's loader saves a
 * component that the mask lacks, processes are not to be told of XSAVEC (`plain_xsave`). The
 * caller owns a reference. */
struct cpu_profile *mask_profile(const struct mask *mask);
/* What a process can have seen that is born on `node` under the mask: the mask; but where it leaves
 * the vendor open, that of the node, which no mask hides. The caller owns a reference. */
struct cpu_profile *mask_born(struct cpu_profile *profile, const struct cpu_profile *node);
/* Its need after it came to `node`, which may be no member of that pool: the same; but where it was
 * told of XSAVEC, what its loader saves there is to be restored wherever it goes from there. The
 * caller owns a reference. */
struct cpu_profile *mask_moved(struct cpu_profile *need, const struct cpu_profile *node);
/* What a process can have seen on `node` that was started with the mask's settings (`-o env`): the
 * node; but where these switch XSAVEC off, its loader saves with plain XSAVE. The caller owns a
 * reference. */
struct cpu_profile *mask_advised(struct cpu_profile *node, const struct cpu_profile *profile);
/* {"registers":[…],"features":[…],"xsave":{…},"level":…} of a profile; the caller owns it. */
json_object *mask_profile_to_json(const struct cpu_profile *profile);
/* SHA-256 (hex) of what a mask means, to tell epochs apart. */
void mask_profile_digest(const struct cpu_profile *profile, char hex[65]);
/* Whether `member` has a feature of those that processes use, and `pool` lacks it. */
bool mask_loses(const struct cpu_profile *pool, const struct cpu_profile *member,
                enum cpu_feature_id feature);
/* Names of the features that `member` has and `pool` lacks; the caller owns the array. */
json_object *mask_lost(const struct cpu_profile *pool, const struct cpu_profile *member);
