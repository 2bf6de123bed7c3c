/* SPDX-License-Identifier: Apache-2.0 */
/* policy.h - what a pool's owner allows: the one table of a pool's settings. Pure. */
#pragma once

#include <stdbool.h>

#include "cpu_profile.h"
#include "error.h"
#include "json.h"

/*     policy    wire name   whether evidence from the live process may relax a verdict */
#define EVIDENCE_POLICIES(X) X(STRICT, "strict") X(RELAX, "relax")

/*     policy    wire name   about a target from which a workload could go nowhere else */
#define ISLAND_POLICIES(X) X(REFUSE, "refuse") X(WARN, "warn") X(ALLOW, "allow")

enum evidence_policy {
#define X(policy, name) EVIDENCE_##policy,
    EVIDENCE_POLICIES(X)
#undef X
};

enum island_policy {
#define X(policy, name) ISLANDS_##policy,
    ISLAND_POLICIES(X)
#undef X
};

struct pool_policy {
    bool mix_vendors;      /* moves between vendors are allowed */
    const char *min_level; /* static, "x86-64-v1" … "x86-64-v4"; NULL: any */
    enum evidence_policy evidence;
    enum island_policy islands;
};

/* What a pool has that nobody gave a policy. */
struct pool_policy pool_policy_default(void);
/* Reads {"mix_vendors","min_level","evidence","islands"} over *policy: what is not told stays, and
 * null puts back what a pool has that nobody gave a policy. ERROR_INVALID names the member. */
int pool_policy_decode(json_object *json, struct pool_policy *policy, struct error *err);
/* The same from the names that a database has; unknown ones are ERROR_INVALID. */
int pool_policy_from_names(const char *min_level, const char *evidence, const char *islands,
                           struct pool_policy *policy, struct error *err);
/* The caller owns it. */
json_object *pool_policy_json(const struct pool_policy *policy);

const char *evidence_policy_name(enum evidence_policy policy);
const char *island_policy_name(enum island_policy policy);

/* Whether the level of `profile` is at least the policy's; true where none is asked. */
bool pool_policy_level_ok(const struct pool_policy *policy, const struct cpu_profile *profile);
/* Whether `member` may join a pool whose mask is `before` and would become `after` (either may be
 * NULL). ERROR_CONFLICT says why not: it is below the minimum level, or would take the mask below
 * it. A pool that is below it already is not held against who joins. */
int pool_policy_check_join(const struct pool_policy *policy, const char *pool, const char *node,
                           const struct cpu_profile *member, const struct cpu_profile *before,
                           const struct cpu_profile *after, struct error *err);
