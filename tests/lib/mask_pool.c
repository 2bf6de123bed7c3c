/* SPDX-License-Identifier: Apache-2.0 */
/* mask_pool.c - a second machine is made of this one's report, without the features. */
#include "mask_pool.h"

#include <string.h>

#include "cpu_profile.h"
#include "cpu_registry.h"
#include "mask.h"
#include "mask_table.h"
#include "probe.h"

static void take_bit(struct cpu_report *report, const struct cpu_feature *f)
{
    for (size_t g = 0; g < report->group_count; g++)
        for (size_t i = 0; i < report->groups[g].leaf_count; i++) {
            struct cpuid_leaf *l = &report->groups[g].leaves[i];
            uint32_t *const registers[] = {&l->eax, &l->ebx, &l->ecx, &l->edx};
            if (l->leaf == f->leaf && l->subleaf == f->subleaf)
                *registers[f->reg] &= ~(UINT32_C(1) << f->bit);
        }
}

static int take_features(struct cpu_report *report, char *names, struct error *err)
{
    for (char *name; (name = strsep(&names, ","));) {
        size_t i = 0;
        while (i < CPU_FEATURE_COUNT && strcmp(cpu_features[i].name, name) != 0)
            i++;
        if (i == CPU_FEATURE_COUNT)
            return error_set(err, ERROR_INVALID, "--hide: no feature '%s'", name);
        take_bit(report, &cpu_features[i]);
    }
    return 0;
}

int mask_pool_profile(char *hidden, struct cpu_profile **ret, struct cpu_report **ret_report,
                      struct error *err)
{
    const struct probe_options options = {.node = "here"};
    AUTO(mask) mask = mask_new();
    AUTO(cpu_report) here = NULL;
    AUTO(cpu_report) other = NULL;
    AUTO(cpu_profile) here_profile = NULL;
    AUTO(cpu_profile) other_profile = NULL;
    if (probe_report(&options, &here, err) < 0)
        return -1;
    autojson *json = cpu_report_to_json(here);
    if (cpu_report_parse(json, &other, err) < 0 || take_features(other, hidden, err) < 0 ||
        cpu_profile_from_report(here, &here_profile, err) < 0 ||
        cpu_profile_from_report(other, &other_profile, err) < 0)
        return -1;
    mask_add(mask, here_profile);
    mask_add(mask, other_profile);
    *ret = mask_profile(mask);
    *ret_report = steal_ptr(&here);
    return 0;
}

int mask_pool_table(char *hidden, union mask_pool_table *ret, struct error *err)
{
    AUTO(cpu_profile) pool = NULL;
    AUTO(cpu_report) here = NULL;
    if (mask_pool_profile(hidden, &pool, &here, err) < 0)
        return -1;
    return mask_table_build(pool, here, &ret->table, err);
}
