/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_samples.c - reads schema/examples and changes what was read. */
#include "cpu_samples.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"

__attribute__((noreturn)) static void give_up(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    abort();
}

struct cpu_report *sample_report(const char *name)
{
    char path[4096], text[65536];
    snprintf(path, sizeof(path), SOURCE_DIR "/schema/examples/report-%s.json", name);
    FILE *file = fopen(path, "re");
    if (!file)
        give_up(path, "cannot read");
    size_t length = fread(text, 1, sizeof(text), file);
    fclose(file);
    struct error err = {0};
    autojson *json = NULL;
    struct cpu_report *report = NULL;
    if (json_parse(text, length, &json, &err) < 0 || cpu_report_parse(json, &report, &err) < 0)
        give_up(path, err.message);
    return report;
}

struct cpu_profile *profile_of(struct cpu_report *report)
{
    struct error err = {0};
    struct cpu_profile *profile = NULL;
    if (cpu_report_seal(report, &err) < 0 || cpu_profile_from_report(report, &profile, &err) < 0)
        give_up(report->node, err.message);
    cpu_report_free(report);
    return profile;
}

struct cpu_profile *sample_profile(const char *name)
{
    return profile_of(sample_report(name));
}

struct cpuid_leaf *sample_leaf(struct cpu_report *report, uint32_t leaf, uint32_t subleaf)
{
    struct cpu_group *group = &report->groups[0];
    for (size_t i = 0; i < group->leaf_count; i++)
        if (group->leaves[i].leaf == leaf && group->leaves[i].subleaf == subleaf)
            return &group->leaves[i];
    group->leaves = xrealloc(group->leaves, (group->leaf_count + 1) * sizeof(*group->leaves));
    struct cpuid_leaf *l = &group->leaves[group->leaf_count++];
    *l = (struct cpuid_leaf){.leaf = leaf, .subleaf = subleaf};
    return l;
}

void sample_drop_leaf(struct cpu_report *report, uint32_t leaf, uint32_t subleaf)
{
    struct cpu_group *group = &report->groups[0];
    *sample_leaf(report, leaf, subleaf) = group->leaves[group->leaf_count - 1];
    group->leaf_count--;
}

void sample_set_bit(struct cpu_report *report, uint32_t leaf, uint32_t subleaf,
                    enum cpu_register reg, unsigned bit, bool on)
{
    struct cpuid_leaf *l = sample_leaf(report, leaf, subleaf);
    uint32_t *value = reg == CPU_EAX   ? &l->eax
                      : reg == CPU_EBX ? &l->ebx
                      : reg == CPU_ECX ? &l->ecx
                                       : &l->edx;
    *value = on ? *value | UINT32_C(1) << bit : *value & ~(UINT32_C(1) << bit);
}

void sample_set(struct cpu_report *report, const char *feature, bool on)
{
    enum cpu_feature_id id;
    if (cpu_feature_from_name(feature, &id) < 0)
        give_up(feature, "no such feature");
    const struct cpu_feature *f = &cpu_features[id];
    sample_set_bit(report, f->leaf, f->subleaf, f->reg, f->bit, on);
}

void sample_set_component(struct cpu_report *report, unsigned id, uint32_t size_bytes,
                          uint32_t offset_bytes)
{
    struct cpuid_leaf *l = sample_leaf(report, 0xd, id);
    l->eax = size_bytes;
    l->ebx = offset_bytes;
    l = sample_leaf(report, 0xd, 0);
    if (id < 32)
        l->eax |= UINT32_C(1) << id;
    else
        l->edx |= UINT32_C(1) << (id - 32);
    if (offset_bytes + size_bytes > l->ebx)
        l->ebx = l->ecx = offset_bytes + size_bytes;
    report->groups[0].xcr0 |= UINT64_C(1) << id;
}

void sample_add_lesser_group(struct cpu_report *report, const char *feature)
{
    report->groups = xrealloc(report->groups, 2 * sizeof(*report->groups));
    report->group_count = 2;
    struct cpu_group *first = &report->groups[0], *second = &report->groups[1];
    *second = *first;
    second->cpus = xstrdup("2-3");
    second->core_type = xstrdup("atom");
    second->leaves = xcalloc(first->leaf_count, sizeof(*first->leaves));
    memcpy(second->leaves, first->leaves, first->leaf_count * sizeof(*first->leaves));
    struct cpu_group whole = *first;
    report->groups[0] = *second; /* sample_set changes the first */
    sample_set(report, feature, false);
    *second = report->groups[0];
    report->groups[0] = whole;
}
