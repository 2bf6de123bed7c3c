/* SPDX-License-Identifier: Apache-2.0 */
/* policy.c - reads, writes and applies the settings of a pool. */
#include "policy.h"

#include <stdlib.h>
#include <string.h>

static const char *const levels[] = {"x86-64-v1", "x86-64-v2", "x86-64-v3", "x86-64-v4"};

static const char *const evidence_names[] = {
#define X(policy, name) name,
    EVIDENCE_POLICIES(X)
#undef X
};

static const char *const island_names[] = {
#define X(policy, name) name,
    ISLAND_POLICIES(X)
#undef X
};

const char *evidence_policy_name(enum evidence_policy policy)
{
    return evidence_names[policy];
}

const char *island_policy_name(enum island_policy policy)
{
    return island_names[policy];
}

struct pool_policy pool_policy_default(void)
{
    return (struct pool_policy){.evidence = EVIDENCE_STRICT, .islands = ISLANDS_WARN};
}

/* The index of a name in a table; -1 with an error that lists the table. */
static int index_of(const char *const *names, size_t count, const char *member, const char *name,
                    struct error *err)
{
    autofree char *list = xstrdup("");
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i], name) == 0)
            return (int)i;
        char *longer = xasprintf("%s%s%s", list, i ? ", " : "", names[i]);
        free(list);
        list = longer;
    }
    return error_set(err, ERROR_INVALID, "pool: policy: %s: expected one of %s, not '%.40s'",
                     member, list, name);
}

int pool_policy_from_names(const char *min_level, const char *evidence, const char *islands,
                           struct pool_policy *policy, struct error *err)
{
    int level = min_level ? index_of(levels, ARRAY_LEN(levels), "min_level", min_level, err) : 0;
    int proof = evidence
                    ? index_of(evidence_names, ARRAY_LEN(evidence_names), "evidence", evidence, err)
                    : (int)policy->evidence;
    int island = islands ? index_of(island_names, ARRAY_LEN(island_names), "islands", islands, err)
                         : (int)policy->islands;
    if (level < 0 || proof < 0 || island < 0)
        return -1;
    if (min_level)
        policy->min_level = levels[level];
    policy->evidence = (enum evidence_policy)proof;
    policy->islands = (enum island_policy)island;
    return 0;
}

static bool is_null(json_object *json, const char *name)
{
    json_object *value = NULL;
    return json_object_object_get_ex(json, name, &value) && !value;
}

static void clear_nulls(json_object *json, struct pool_policy *policy)
{
    const struct pool_policy usual = pool_policy_default();
    if (is_null(json, "mix_vendors"))
        policy->mix_vendors = usual.mix_vendors;
    if (is_null(json, "min_level"))
        policy->min_level = usual.min_level;
    if (is_null(json, "evidence"))
        policy->evidence = usual.evidence;
    if (is_null(json, "islands"))
        policy->islands = usual.islands;
}

int pool_policy_decode(json_object *json, struct pool_policy *policy, struct error *err)
{
    static const char what[] = "pool: policy";
    const char *min_level = NULL, *evidence = NULL, *islands = NULL;
    clear_nulls(json, policy);
    if (json_opt_bool(what, json, "mix_vendors", &policy->mix_vendors, err) < 0 ||
        json_opt_str(what, json, "min_level", &min_level, err) < 0 ||
        json_opt_str(what, json, "evidence", &evidence, err) < 0 ||
        json_opt_str(what, json, "islands", &islands, err) < 0)
        return -1;
    return pool_policy_from_names(min_level, evidence, islands, policy, err);
}

json_object *pool_policy_json(const struct pool_policy *policy)
{
    json_object *o = json_object_new_object();
    json_put_bool(o, "mix_vendors", policy->mix_vendors);
    json_put_str(o, "min_level", policy->min_level);
    json_put_str(o, "evidence", evidence_policy_name(policy->evidence));
    json_put_str(o, "islands", island_policy_name(policy->islands));
    return o;
}

/* The names differ in their last digit alone, so their order is that of the levels. */
bool pool_policy_level_ok(const struct pool_policy *policy, const struct cpu_profile *profile)
{
    return !policy->min_level || strcmp(cpu_profile_level(profile), policy->min_level) >= 0;
}

int pool_policy_check_join(const struct pool_policy *policy, const char *pool, const char *node,
                           const struct cpu_profile *member, const struct cpu_profile *before,
                           const struct cpu_profile *after, struct error *err)
{
    if (!member)
        return 0;
    if (!pool_policy_level_ok(policy, member))
        return error_set(err, ERROR_CONFLICT,
                         "node '%s' is %s, and pool '%s' takes no member below %s; it stays "
                         "outside: join another pool, or lower the pool's min_level",
                         node, cpu_profile_level(member), pool, policy->min_level);
    if (after && (!before || pool_policy_level_ok(policy, before)) &&
        !pool_policy_level_ok(policy, after))
        return error_set(err, ERROR_CONFLICT,
                         "with node '%s' the mask of pool '%s' would be %s, below its min_level "
                         "%s, though the node by itself is not: their xsave layouts or vendors "
                         "clash; it stays outside: join another pool",
                         node, pool, cpu_profile_level(after), policy->min_level);
    return 0;
}
