/* SPDX-License-Identifier: Apache-2.0 */
/* plan.c - differences between masks, what a member costs, who can move to whom. */
#include "plan.h"

#include <stdio.h>
#include <string.h>

#include "cpu_profile_data.h"
#include "mask.h"

struct cpu_profile *plan_mask(const struct plan_member *members, size_t count)
{
    AUTO(mask) mask = mask_new();
    for (size_t i = 0; i < count; i++)
        mask_add(mask, members[i].profile);
    return mask_profile(mask);
}

static bool counts(const struct cpu_feature *feature)
{
    return feature->kind == CPU_KIND_ISA || feature->kind == CPU_KIND_STATE;
}

/* Names of the features that `with` has and `without` lacks. */
static json_object *names_only_in(const struct cpu_profile *with, const struct cpu_profile *without)
{
    json_object *names = json_object_new_array();
    for (size_t i = 0; with && i < CPU_FEATURE_COUNT; i++) {
        const struct cpu_feature *f = &cpu_features[i];
        if (counts(f) && cpu_profile_has_bit(with, f) &&
            (!without || !cpu_profile_has_bit(without, f)))
            json_object_array_add(names, json_object_new_string(f->name));
    }
    return names;
}

static json_object *components_only_in(const struct cpu_profile *with,
                                       const struct cpu_profile *without)
{
    json_object *names = json_object_new_array();
    uint64_t only = (with ? with->enabled : 0) & ~(without ? without->enabled : 0);
    for (; only; only &= only - 1) {
        unsigned id = (unsigned)__builtin_ctzll(only);
        const struct cpu_component_info *info = cpu_component_info_find(id);
        char number[16];
        snprintf(number, sizeof(number), "%u", id);
        json_object_array_add(names, json_object_new_string(info ? info->name : number));
    }
    return names;
}

json_object *plan_difference(const struct cpu_profile *before, const struct cpu_profile *after)
{
    json_object *o = json_object_new_object(), *level = json_object_new_object();
    json_object *xsave = json_object_new_object();
    json_put_str(level, "before", before ? cpu_profile_level(before) : NULL);
    json_put_str(level, "after", after ? cpu_profile_level(after) : NULL);
    json_put_int(xsave, "before_size", before ? cpu_profile_xsave_size(before) : 0);
    json_put_int(xsave, "after_size", after ? cpu_profile_xsave_size(after) : 0);
    json_put(xsave, "components_gained", components_only_in(after, before));
    json_put(xsave, "components_lost", components_only_in(before, after));
    json_put(o, "gained", names_only_in(after, before));
    json_put(o, "lost", names_only_in(before, after));
    json_put(o, "level", level);
    json_put(o, "xsave", xsave);
    return o;
}

static int costlier_first(const void *a, const void *b)
{
    json_object *left = *(json_object *const *)a, *right = *(json_object *const *)b;
    size_t l = json_array_size(json_member(left, "features"));
    size_t r = json_array_size(json_member(right, "features"));
    if (l != r)
        return l < r ? 1 : -1;
    return strcmp(json_str(left, "node"), json_str(right, "node"));
}

json_object *plan_costs(const struct plan_member *members, size_t count)
{
    AUTO(mask) mask = mask_new();
    json_object *list = json_object_new_array();
    for (size_t i = 0; i < count; i++)
        mask_add(mask, members[i].profile);
    AUTO(cpu_profile) all = mask_profile(mask);
    for (size_t i = 0; count > 1 && i < count; i++) {
        mask_remove(mask, members[i].profile);
        AUTO(cpu_profile) rest = mask_profile(mask);
        mask_add(mask, members[i].profile);
        autojson *gained = names_only_in(rest, all);
        if (json_array_size(gained) == 0)
            continue;
        json_object *cost = json_object_new_object();
        json_put_str(cost, "node", members[i].name);
        json_put(cost, "features", steal_ptr(&gained));
        json_object_array_add(list, cost);
    }
    json_object_array_sort(list, costlier_first);
    return list;
}

int plan_matrix(const struct plan_member *members, size_t count,
                const struct verdict_policy *policy, json_object **ret, struct error *err)
{
    if (count > PLAN_MATRIX_MAX)
        return error_set(err, ERROR_INVALID,
                         "the pool has %zu members, a matrix is made of %d at most; ask about "
                         "single nodes with check",
                         count, PLAN_MATRIX_MAX);
    json_object *o = json_object_new_object(), *nodes = json_object_new_array();
    json_object *rows = json_object_new_array();
    for (size_t i = 0; i < count; i++) {
        json_object *row = json_object_new_object(), *cells = json_object_new_array();
        json_object_array_add(nodes, json_object_new_string(members[i].name));
        for (size_t k = 0; k < count; k++) {
            struct verdict verdict = {0};
            json_object *cell = json_object_new_object();
            if (i != k)
                verdict_judge(members[i].profile, members[k].profile, members[i].name,
                              members[k].name, policy, &verdict);
            verdict_sort(&verdict);
            json_put_str(cell, "to", members[k].name);
            json_put_str(cell, "verdict", verdict.rejected ? "reject" : "approve");
            json_put_str(cell, "code",
                         verdict.rejected ? verdict_code_name(verdict.reasons[0].code) : NULL);
            json_object_array_add(cells, cell);
            verdict_done(&verdict);
        }
        json_put_str(row, "from", members[i].name);
        json_put(row, "cells", cells);
        json_object_array_add(rows, row);
    }
    json_put(o, "nodes", nodes);
    json_put(o, "rows", rows);
    *ret = o;
    return 0;
}
