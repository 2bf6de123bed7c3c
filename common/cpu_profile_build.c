/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_profile_build.c - from a report's raw leaves to a profile.
 *
 * What counts is what unprivileged code can use: a feature whose component the kernel has not
 * enabled, or whose condition (OSXSAVE, OSPKE, AT_HWCAP2) is off, is not there. Dependencies
 * that the hardware itself breaks are left alone here: they are closed over in a pool's mask,
 * where a bit more or less is a choice and not a fact. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cpu_profile.h"
#include "cpu_profile_data.h"

#define HWCAP2_FSGSBASE UINT64_C(2)

/* The highest leaf of the range that `leaf` lies in, as the CPU says; what is above it may hold
 * anything (Intel answers with the highest basic leaf). */
static uint32_t range_limit(const struct cpu_group *group, uint32_t leaf)
{
    uint32_t base = leaf & 0xffff0000;
    const struct cpuid_leaf *first = cpu_group_find(group, base, 0);
    if (!first)
        return base ? UINT32_MAX : 0;
    return (first->eax & 0xffff0000) == base ? first->eax : base;
}

static bool is_subleaf_limited(uint32_t leaf)
{
    return leaf == 0x7 || leaf == 0x14 || leaf == 0x1d || leaf == 0x1e || leaf == 0x24;
}

static bool is_valid(const struct cpu_group *group, const struct cpuid_leaf *l)
{
    if (l->leaf > range_limit(group, l->leaf))
        return false;
    if (l->subleaf == 0 || !is_subleaf_limited(l->leaf))
        return true;
    const struct cpuid_leaf *first = cpu_group_find(group, l->leaf, 0);
    return first && l->subleaf <= first->eax;
}

static uint32_t register_of(const struct cpuid_leaf *l, enum cpu_register reg)
{
    switch (reg) {
    case CPU_EAX:
        return l->eax;
    case CPU_EBX:
        return l->ebx;
    case CPU_ECX:
        return l->ecx;
    case CPU_EDX:
        return l->edx;
    }
    return 0;
}

/* A register that is not reported counts as 0. */
static uint32_t read_register(const struct cpu_group *group, uint32_t leaf, uint32_t subleaf,
                              enum cpu_register reg)
{
    const struct cpuid_leaf *l = cpu_group_find(group, leaf, subleaf);
    return l && is_valid(group, l) ? register_of(l, reg) : 0;
}

static uint32_t field_mask(const struct cpu_field *f)
{
    uint32_t ones = f->width == 32 ? UINT32_MAX : (UINT32_C(1) << f->width) - 1;
    return ones << f->low;
}

static void read_vendor(const struct cpu_group *group, char vendor[CPU_VENDOR_BYTES])
{
    const struct cpuid_leaf *l = cpu_group_find(group, 0, 0);
    const uint32_t parts[] = {l->ebx, l->edx, l->ecx};
    for (unsigned i = 0; i < 12; i++) {
        unsigned char c = (unsigned char)(parts[i / 4] >> (8 * (i % 4)));
        vendor[i] = (char)(c >= 0x20 && c < 0x7f ? c : '?');
    }
    vendor[12] = '\0';
}

static void read_brand(const struct cpu_group *group, char brand[CPU_BRAND_BYTES])
{
    char raw[CPU_BRAND_BYTES] = "";
    for (unsigned i = 0; i < 48; i++) {
        uint32_t value =
            read_register(group, 0x80000002 + i / 16, 0, (enum cpu_register)(i / 4 % 4));
        unsigned char c = (unsigned char)(value >> (8 * (i % 4)));
        raw[i] = (char)(c == 0 || (c >= 0x20 && c < 0x7f) ? c : '?');
    }
    const char *text = raw + strspn(raw, " ");
    size_t length = strlen(text);
    while (length && text[length - 1] == ' ')
        length--;
    memcpy(brand, text, length);
    brand[length] = '\0';
}

static void read_words(const struct cpu_group *group, struct cpu_profile *p)
{
    for (unsigned i = 0; i < CPU_WORD_COUNT; i++) {
        const struct cpu_word *w = &cpu_words[i];
        uint32_t value = read_register(group, w->leaf, w->subleaf, w->reg);
        p->words[i] = value & (w->isa | w->hint | w->behaviour | w->condition);
    }
    for (unsigned i = 0; i < CPU_FIELD_COUNT; i++) {
        const struct cpu_field *f = &cpu_fields[i];
        if (f->kind == CPU_KIND_LIMIT || f->kind == CPU_KIND_EQUAL)
            p->fields[i] =
                (read_register(group, f->leaf, f->subleaf, f->reg) & field_mask(f)) >> f->low;
    }
}

/* ---- bits that the registry does not know */

/* Leaves that other code here reads, or that only say how many leaves there are. */
static bool is_read_elsewhere(uint32_t leaf)
{
    return leaf == 0x0 || leaf == 0xd || leaf == 0x80000000 || leaf == 0xc0000000;
}

static uint32_t known_bits(uint32_t leaf, uint32_t subleaf, enum cpu_register reg)
{
    uint32_t known = 0;
    int word = cpu_word_find(leaf, subleaf, reg);
    if (word >= 0) {
        const struct cpu_word *w = &cpu_words[word];
        known = w->isa | w->hint | w->behaviour | w->condition | w->ignored;
    }
    for (unsigned i = 0; i < CPU_FIELD_COUNT; i++)
        if (cpu_fields[i].leaf == leaf && cpu_fields[i].subleaf == subleaf &&
            cpu_fields[i].reg == reg)
            known |= field_mask(&cpu_fields[i]);
    return known;
}

static void read_unknowns(const struct cpu_group *group, struct cpu_profile *p)
{
    for (size_t i = 0; i < group->leaf_count; i++) {
        const struct cpuid_leaf *l = &group->leaves[i];
        if (is_read_elsewhere(l->leaf) || cpu_ignored_leaf_find(l->leaf) || !is_valid(group, l))
            continue;
        for (enum cpu_register reg = CPU_EAX; reg <= CPU_EDX; reg++) {
            uint32_t value = register_of(l, reg);
            uint32_t bits = value ? value & ~known_bits(l->leaf, l->subleaf, reg) : 0;
            if (!bits)
                continue;
            p->unknowns = xrealloc(p->unknowns, (p->unknown_count + 1) * sizeof(*p->unknowns));
            p->unknowns[p->unknown_count++] = (struct cpu_unknown){l->leaf, l->subleaf, reg, bits};
        }
    }
}

/* ---- the xsave area */

/* The components that the features of this CPU would have a kernel enable. */
static uint64_t components_by_feature(const struct cpu_profile *p)
{
    uint64_t by_feature = 0;
    for (size_t i = 0; i < cpu_component_info_count; i++) {
        const struct cpu_component_info *info = &cpu_components[i];
        if (!info->supervisor && info->feature >= 0 &&
            cpu_profile_has_bit(p, &cpu_features[info->feature]))
            by_feature |= UINT64_C(1) << info->id;
    }
    return by_feature;
}

/* What is enabled: XCR0 where it was read; else what leaf 0xD.0 claims and a feature bit bears
 * out, as a kernel would enable it; else what the feature bits alone imply. */
static uint64_t enabled_components(const struct cpu_group *group, const struct cpu_profile *p)
{
    if (!cpu_profile_has_bit(p, &cpu_features[CPU_FEATURE_XSAVE]) ||
        !cpu_profile_has_bit(p, &cpu_features[CPU_FEATURE_OSXSAVE]))
        return 0;
    uint64_t known = (UINT64_C(1) << CPU_COMPONENT_MAX) - 1;
    if (group->xcr0_known)
        return group->xcr0 & known;
    const struct cpuid_leaf *l = cpu_group_find(group, 0xd, 0);
    uint64_t claimed = l ? ((uint64_t)l->edx << 32 | l->eax) & known : 0;
    uint64_t by_feature = components_by_feature(p);
    uint64_t unknown = claimed;
    for (size_t i = 0; i < cpu_component_info_count; i++)
        if (!cpu_components[i].supervisor)
            unknown &= ~(UINT64_C(1) << cpu_components[i].id);
    /* A claim about a component that the registry does not know stands: it may be enabled. */
    return claimed ? (claimed & by_feature) | unknown : by_feature;
}

static void read_layout(const struct cpu_group *group, unsigned id, struct cpu_component *c)
{
    if (id < 2) { /* the legacy region of FXSAVE; SDM volume 1, 13.4.1 */
        c->layout_known = true;
        c->size_bytes = id == 0 ? 160 : 256;
        c->offset_bytes = id == 0 ? 0 : 160;
        return;
    }
    const struct cpuid_leaf *l = cpu_group_find(group, 0xd, id);
    /* A subleaf of zeros for a component that is enabled is a fault of the dump. */
    if (!l || l->eax == 0 || l->ebx < 576 || l->eax > 65536 || l->ebx > 65536)
        return;
    c->layout_known = true;
    c->size_bytes = l->eax;
    c->offset_bytes = l->ebx;
    c->aligned = (l->ecx & 2) != 0;
}

static void read_xsave(const struct cpu_group *group, struct cpu_profile *p)
{
    /* XSAVE and leaf 0xD come together: without the leaf nobody can size a buffer. */
    if (read_register(group, 0, 0, CPU_EAX) < 0xd)
        cpu_profile_clear_bit(p, &cpu_features[CPU_FEATURE_XSAVE]);
    p->xcr0_known = group->xcr0_known || !cpu_profile_has_bit(p, &cpu_features[CPU_FEATURE_XSAVE]);
    cpu_profile_set_enabled(p, enabled_components(group, p));
    for (unsigned id = 0; id < CPU_COMPONENT_MAX; id++)
        if (p->enabled >> id & 1)
            read_layout(group, id, cpu_profile_slot(p, id));
    p->area_bytes = cpu_profile_computed_area(p);
    if (p->enabled && !p->area_bytes)
        p->area_bytes = read_register(group, 0xd, 0, CPU_EBX);
}

/* Features that the CPU has and the kernel has not switched on, with all that needs them. */
static void drop_disabled(struct cpu_profile *p)
{
    bool off[CPU_FEATURE_COUNT] = {false};
    for (size_t i = 0; i < CPU_FEATURE_COUNT; i++) {
        enum cpu_feature_id id = (enum cpu_feature_id)cpu_feature_order[i];
        const struct cpu_feature *f = &cpu_features[id];
        off[id] = (f->components & ~p->enabled) != 0 ||
                  (f->kind == CPU_KIND_DYNAMIC && !cpu_profile_has_bit(p, f));
        for (size_t k = 0; k < f->need_count; k++)
            off[id] = off[id] || off[f->needs[k]];
        if (off[id])
            cpu_profile_clear_bit(p, f);
    }
}

static void apply_conditions(const struct cpu_report *report, struct cpu_profile *p)
{
    /* A dump made by a 32-bit program shows no SYSCALL on Intel; 64-bit code always has it. */
    const struct cpu_feature *syscall = &cpu_features[CPU_FEATURE_SYSCALL];
    if (cpu_profile_has_bit(p, &cpu_features[CPU_FEATURE_LM]))
        p->words[syscall->word] |= UINT32_C(1) << syscall->bit;
    if (report->os.hwcap2_known && !(report->os.hwcap2 & HWCAP2_FSGSBASE))
        cpu_profile_clear_bit(p, &cpu_features[CPU_FEATURE_FSGSBASE]);
}

/* ---- a node of unlike CPUs */

static void intersect_components(struct cpu_profile *p, const struct cpu_profile *q)
{
    cpu_profile_set_enabled(p, p->enabled & q->enabled);
    for (unsigned id = 0; id < CPU_COMPONENT_MAX; id++) {
        if (!(p->enabled >> id & 1))
            continue;
        struct cpu_component *c = cpu_profile_slot(p, id);
        const struct cpu_component *d = cpu_profile_slot(q, id);
        c->layout_known = c->layout_known && d->layout_known;
        c->conflict =
            c->layout_known && (c->size_bytes != d->size_bytes ||
                                c->offset_bytes != d->offset_bytes || c->aligned != d->aligned);
    }
}

static void intersect_unknowns(struct cpu_profile *p, const struct cpu_profile *q)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < p->unknown_count; i++) {
        struct cpu_unknown u = p->unknowns[i];
        uint32_t bits = 0;
        for (uint32_t k = 0; k < q->unknown_count; k++)
            if (q->unknowns[k].leaf == u.leaf && q->unknowns[k].subleaf == u.subleaf &&
                q->unknowns[k].reg == u.reg)
                bits = u.bits & q->unknowns[k].bits;
        u.bits = bits;
        if (bits)
            p->unknowns[kept++] = u;
    }
    p->unknown_count = kept;
}

/* A thread may run on any CPU of its node: what one of them lacks, nobody can rely on. */
static void intersect(struct cpu_profile *p, const struct cpu_profile *q)
{
    for (unsigned i = 0; i < CPU_WORD_COUNT; i++) {
        uint32_t behaviours = (p->words[i] | q->words[i]) & cpu_words[i].behaviour;
        p->words[i] = (p->words[i] & q->words[i] & ~cpu_words[i].behaviour) | behaviours;
    }
    for (unsigned i = 0; i < CPU_FIELD_COUNT; i++) {
        if (cpu_fields[i].kind == CPU_KIND_EQUAL && p->fields[i] != q->fields[i])
            p->field_conflicts |= UINT64_C(1) << i;
        if (q->fields[i] < p->fields[i])
            p->fields[i] = q->fields[i];
    }
    p->xcr0_known = p->xcr0_known && q->xcr0_known;
    intersect_components(p, q);
    if (q->area_bytes > p->area_bytes)
        p->area_bytes = q->area_bytes;
    intersect_unknowns(p, q);
    if (strcmp(p->vendor, q->vendor) != 0)
        p->vendor[0] = '\0';
}

static struct cpu_profile *from_group(const struct cpu_group *group)
{
    struct cpu_profile *p = cpu_profile_new();
    read_vendor(group, p->vendor);
    read_brand(group, p->brand);
    read_words(group, p);
    read_unknowns(group, p);
    read_xsave(group, p);
    return p;
}

int cpu_profile_from_report(const struct cpu_report *report, struct cpu_profile **ret,
                            struct error *err)
{
    for (size_t i = 0; i < report->group_count; i++)
        if (!cpu_group_find(&report->groups[i], 0, 0) || !cpu_group_find(&report->groups[i], 1, 0))
            return error_set(err, ERROR_INVALID,
                             "report: cpus[%zu].leaves: leaf 0 or 1 is missing; nothing can be "
                             "said of a CPU without them",
                             i);
    AUTO(cpu_profile) p = from_group(&report->groups[0]);
    for (size_t i = 1; i < report->group_count; i++) {
        AUTO(cpu_profile) q = from_group(&report->groups[i]);
        intersect(p, q);
    }
    apply_conditions(report, p);
    drop_disabled(p);
    cpu_profile_set_plain_xsave(p);
    p->minsigstksz_known = report->os.minsigstksz_known;
    p->minsigstksz = (uint32_t)report->os.minsigstksz;
    *ret = steal_ptr(&p);
    return 0;
}
