/* SPDX-License-Identifier: Apache-2.0 */
/* plan_split.c - the split of a fleet into a few pools that loses little.
 *
 * Equal CPUs belong together, so kinds are split, not nodes. Kinds are merged pair by pair, always
 * the pair whose merging loses least, until few enough pools are left. The loss of a group needs
 * no walk over its members: a mask is a part of what each of them has, so
 *     loss = sum of what each member has - members * what the mask has. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "cpu_profile_data.h"
#include "mask.h"
#include "plan.h"

struct group {
    struct cpu_profile *mask; /* owned; NULL: merged into another */
    uint64_t has;             /* sum of what each member has */
    size_t nodes;
    uint64_t features; /* of the mask */
    size_t kind_of;    /* for a kind: the group that it ended up in */
};

struct split {
    struct group *groups; /* owned */
    size_t count;         /* of kinds; groups that were merged away stay in place */
    size_t alive;
    int64_t
        *costs; /* owned; count x count: what a merging would lose more, INT64_MAX: not allowed */
    bool mix_vendors;
};

static uint64_t features_of(const struct cpu_profile *profile)
{
    uint64_t n = 0;
    for (unsigned i = 0; profile && i < CPU_WORD_COUNT; i++)
        n += (uint64_t)__builtin_popcount(profile->words[i] & cpu_words[i].isa);
    return n;
}

static struct cpu_profile *intersect(struct cpu_profile *a, struct cpu_profile *b)
{
    const struct plan_member both[] = {
        {"", a},
        {"", b}
    };
    return plan_mask(both, 2);
}

static int64_t cost_of(const struct split *s, size_t a, size_t b)
{
    const struct group *x = &s->groups[a], *y = &s->groups[b];
    if (!s->mix_vendors && strcmp(x->mask->vendor, y->mask->vendor) != 0)
        return INT64_MAX;
    AUTO(cpu_profile) both = intersect(x->mask, y->mask);
    uint64_t kept = (x->nodes + y->nodes) * features_of(both);
    return (int64_t)(x->nodes * x->features + y->nodes * y->features - kept);
}

/* The kinds among the members, each a group; kind_of_member[i] is member i's. */
static int find_kinds(struct split *s, const struct plan_member *members, size_t count,
                      size_t *kind_of_member, struct error *err)
{
    for (size_t i = 0; i < count; i++) {
        size_t k = 0;
        while (k < s->count && !cpu_profile_equal(s->groups[k].mask, members[i].profile))
            k++;
        if (k == s->count) {
            if (s->count == PLAN_KINDS_MAX)
                return error_set(err, ERROR_INVALID,
                                 "there are more than %d unlike CPUs; ask about a smaller pool",
                                 PLAN_KINDS_MAX);
            s->groups[s->count++] = (struct group){.mask = cpu_profile_ref(members[i].profile),
                                                   .kind_of = k,
                                                   .features = features_of(members[i].profile)};
        }
        s->groups[k].nodes++;
        s->groups[k].has += s->groups[k].features;
        kind_of_member[i] = k;
    }
    s->alive = s->count;
    return 0;
}

/* Prices merging `a` with each group below `end`. */
static void price(struct split *s, size_t a, size_t end)
{
    for (size_t b = 0; b < end; b++) {
        if (a == b || !s->groups[b].mask)
            continue;
        int64_t cost = cost_of(s, a, b);
        s->costs[a * s->count + b] = s->costs[b * s->count + a] = cost;
    }
}

/* Merges the cheapest pair; false when no pair may be merged. */
static bool merge_cheapest(struct split *s)
{
    size_t best_a = 0, best_b = 0;
    int64_t best = INT64_MAX;
    for (size_t a = 0; a < s->count; a++)
        for (size_t b = a + 1; s->groups[a].mask && b < s->count; b++)
            if (s->groups[b].mask && s->costs[a * s->count + b] < best) {
                best = s->costs[a * s->count + b];
                best_a = a;
                best_b = b;
            }
    if (best == INT64_MAX)
        return false;
    struct group *into = &s->groups[best_a], *from = &s->groups[best_b];
    struct cpu_profile *both = intersect(into->mask, from->mask);
    cpu_profile_free(into->mask);
    cpu_profile_free(from->mask);
    into->mask = both;
    from->mask = NULL;
    into->nodes += from->nodes;
    into->has += from->has;
    into->features = features_of(both);
    for (size_t k = 0; k < s->count; k++)
        if (s->groups[k].kind_of == best_b)
            s->groups[k].kind_of = best_a;
    s->alive--;
    price(s, best_a, s->count);
    return true;
}

static int larger_first(const void *a, const void *b)
{
    json_object *left = *(json_object *const *)a, *right = *(json_object *const *)b;
    size_t l = json_array_size(json_member(left, "members"));
    size_t r = json_array_size(json_member(right, "members"));
    if (l != r)
        return l < r ? 1 : -1;
    return strcmp(json_item_str(json_member(left, "members"), 0),
                  json_item_str(json_member(right, "members"), 0));
}

static json_object *split_to_json(const struct split *s, const struct plan_member *members,
                                  size_t count, const size_t *kind_of_member)
{
    json_object *o = json_object_new_object(), *pools = json_object_new_array();
    uint64_t total = 0;
    for (size_t g = 0; g < s->count; g++) {
        const struct group *group = &s->groups[g];
        if (!group->mask)
            continue;
        json_object *pool = json_object_new_object(), *names = json_object_new_array();
        uint64_t loss = group->has - group->nodes * group->features;
        for (size_t i = 0; i < count; i++)
            if (s->groups[kind_of_member[i]].kind_of == g)
                json_object_array_add(names, json_object_new_string(members[i].name));
        json_put(pool, "members", names);
        json_put_str(pool, "vendor", group->mask->vendor);
        json_put_str(pool, "level", cpu_profile_level(group->mask));
        json_put_int(pool, "features", (int64_t)group->features);
        json_put_int(pool, "loss", (int64_t)loss);
        json_object_array_add(pools, pool);
        total += loss;
    }
    json_object_array_sort(pools, larger_first);
    json_put_str(o, "measure",
                 "features that a member has and its pool's mask lacks, summed over the members; "
                 "hints do not count");
    json_put_int(o, "loss", (int64_t)total);
    json_put(o, "pools", pools);
    return o;
}

int plan_split(const struct plan_member *members, size_t count, size_t max_pools, bool mix_vendors,
               json_object **ret, struct error *err)
{
    struct split s = {.groups = xcalloc(PLAN_KINDS_MAX, sizeof(struct group)),
                      .mix_vendors = mix_vendors};
    autofree size_t *kind_of_member = xcalloc(count, sizeof(*kind_of_member));
    int rc = find_kinds(&s, members, count, kind_of_member, err);
    if (rc == 0) {
        s.costs = xcalloc(s.count * s.count, sizeof(*s.costs));
        for (size_t a = 0; a < s.count; a++)
            price(&s, a, a);
        while (s.alive > max_pools && merge_cheapest(&s))
            ;
        *ret = split_to_json(&s, members, count, kind_of_member);
    }
    for (size_t g = 0; g < s.count; g++)
        cpu_profile_free(s.groups[g].mask);
    free(s.groups);
    free(s.costs);
    return rc;
}
