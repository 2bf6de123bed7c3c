/* SPDX-License-Identifier: Apache-2.0 */
/* mask_table.c - an entry for every leaf of the node on which the mask differs from the CPU. */
#include "mask_table.h"

#include <string.h>

#include "cpu_profile_data.h"

#define LEAF_VENDOR      0x0U
#define LEAF_EXTENDED    0x7U
#define LEAF_XSAVE       0xdU
#define LEAF_HIGHEST_EXT 0x80000000U
#define SUBLEAF_LAST     UINT32_MAX

/* Leaves that answer by subleaf (Intel SDM volume 2A, CPUID; AMD APM volume 3, appendix E). All
 * others ignore ECX. */
static bool has_subleaves(uint32_t leaf)
{
    static const uint32_t leaves[] = {0x4,  0x7,        0xb,        0xd,       0xf,  0x10, 0x12,
                                      0x14, 0x17,       0x18,       0x1a,      0x1b, 0x1d, 0x1e,
                                      0x1f, 0x20,       0x22,       0x23,      0x24, 0x27, 0x28,
                                      0x29, 0x8000001d, 0x80000020, 0x80000026};
    for (size_t i = 0; i < ARRAY_LEN(leaves); i++)
        if (leaves[i] == leaf)
            return true;
    return false;
}

static uint32_t *value_of(struct cpuid_leaf *leaf, unsigned reg)
{
    uint32_t *const values[] = {&leaf->eax, &leaf->ebx, &leaf->ecx, &leaf->edx};
    return values[reg];
}

static bool lacks(const struct cpu_profile *mask, int feature)
{
    return feature >= 0 && !cpu_profile_has(mask, (enum cpu_feature_id)feature);
}

/* ---- one register ---- */

static void set_bits(struct mask_entry *e, unsigned reg, uint32_t bits, uint32_t value)
{
    e->and_mask[reg] &= ~bits;
    e->or_mask[reg] = (e->or_mask[reg] & ~bits) | (value & bits);
}

/* Feature bits: those of the mask stay; behaviours that any member has are shown; unknown ones go.
 */
static void mask_word(const struct cpu_profile *mask, int word, struct mask_entry *e, unsigned reg)
{
    const struct cpu_word *w = &cpu_words[word];
    uint32_t features = w->isa | w->hint | w->behaviour | w->condition;
    e->and_mask[reg] = w->ignored | (mask->words[word] & features);
    e->or_mask[reg] = mask->words[word] & w->behaviour;
}

/* AMD repeats bits of leaf 1 EDX in 0x80000001 EDX. */
static uint32_t mirrored(const struct cpu_profile *mask)
{
    int word = cpu_word_find(1, 0, CPU_EDX);
    return word < 0 ? 0 : mask->words[word];
}

static void mask_field(const struct cpu_profile *mask, enum cpu_field_id id, uint32_t node,
                       struct mask_entry *e)
{
    const struct cpu_field *f = &cpu_fields[id];
    uint32_t ones = f->width >= 32 ? UINT32_MAX : (UINT32_C(1) << f->width) - 1;
    uint32_t bits = ones << f->low, here = node >> f->low & ones;
    bool belongs = f->kind == CPU_KIND_LIMIT || f->kind == CPU_KIND_EQUAL;
    bool amx = id == CPU_FIELD_AMX_MIRROR;
    if ((belongs && lacks(mask, f->feature)) || (amx && lacks(mask, CPU_FEATURE_AMX_TILE)))
        set_bits(e, f->reg, bits, 0);
    else if (f->kind == CPU_KIND_LIMIT)
        set_bits(e, f->reg, bits, (mask->fields[id] < here ? mask->fields[id] : here) << f->low);
    else if (id == CPU_FIELD_EXT_MIRROR_LOW || id == CPU_FIELD_EXT_MIRROR_MID ||
             id == CPU_FIELD_EXT_MIRROR_HIGH)
        e->and_mask[f->reg] &= ~bits | mirrored(mask);
}

static bool is_field_of(const struct cpu_field *f, const struct mask_entry *e)
{
    return f->leaf == e->leaf && f->subleaf == e->subleaf_first;
}

/* Bits of a register that no field covers. */
static uint32_t uncovered(const struct mask_entry *e, unsigned reg)
{
    uint32_t covered = 0;
    for (size_t i = 0; i < CPU_FIELD_COUNT; i++) {
        const struct cpu_field *f = &cpu_fields[i];
        if (is_field_of(f, e) && (unsigned)f->reg == reg)
            covered |= (f->width >= 32 ? UINT32_MAX : (UINT32_C(1) << f->width) - 1) << f->low;
    }
    return ~covered;
}

/* ---- one leaf ---- */

static bool is_known(const struct mask_entry *e)
{
    for (unsigned reg = 0; reg < MASK_REGISTERS; reg++)
        if (cpu_word_find(e->leaf, e->subleaf_first, (enum cpu_register)reg) >= 0)
            return true;
    for (size_t i = 0; i < CPU_FIELD_COUNT; i++)
        if (is_field_of(&cpu_fields[i], e))
            return true;
    return false;
}

/* Names of the maker fill the other registers of the two leaves that tell the highest ones. */
static bool keeps(const struct mask_entry *e, unsigned reg)
{
    return reg != MASK_EAX && (e->leaf == LEAF_VENDOR || e->leaf == LEAF_HIGHEST_EXT);
}

static void mask_known(const struct cpu_profile *mask, const struct cpuid_leaf *node,
                       struct mask_entry *e)
{
    struct cpuid_leaf values = *node;
    for (unsigned reg = 0; reg < MASK_REGISTERS; reg++) {
        int word = cpu_word_find(e->leaf, e->subleaf_first, (enum cpu_register)reg);
        if (word >= 0)
            mask_word(mask, word, e, reg);
        else if (!keeps(e, reg))
            e->and_mask[reg] &= ~uncovered(e, reg);
    }
    for (size_t i = 0; i < CPU_FIELD_COUNT; i++)
        if (is_field_of(&cpu_fields[i], e))
            mask_field(mask, (enum cpu_field_id)i, *value_of(&values, cpu_fields[i].reg), e);
}

static uint32_t at_least(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* Leaf 0xD: which components there are, and how large the area is. Places and sizes of components
 * stay where the kernel has enabled them: glibc adds them up for its XSAVEC, which saves what is
 * enabled, whatever the mask says. */
static void mask_xsave(const struct cpu_profile *mask, uint64_t enabled_here,
                       const struct cpuid_leaf *node, struct mask_entry *e)
{
    uint32_t subleaf = e->subleaf_first;
    if (subleaf == 0) {
        uint32_t area = at_least(node->ebx, mask->area_bytes);
        e->and_mask[MASK_EAX] = (uint32_t)mask->enabled;
        e->and_mask[MASK_EDX] = (uint32_t)(mask->enabled >> 32);
        set_bits(e, MASK_EBX, UINT32_MAX, area);
        set_bits(e, MASK_ECX, UINT32_MAX, area);
    } else if (subleaf == 1) {
        int word = cpu_word_find(e->leaf, 1, CPU_EAX);
        if (word >= 0)
            mask_word(mask, word, e, MASK_EAX);
        if (mask->plain_xsave)
            e->and_mask[MASK_EAX] &= ~(UINT32_C(1) << cpu_features[CPU_FEATURE_XSAVEC].bit);
        /* No compacted area is larger than the largest that is not. */
        if (node->ebx)
            set_bits(e, MASK_EBX, UINT32_MAX, at_least(node->ebx, mask->area_bytes));
    } else if (subleaf < 63 && !((mask->enabled | enabled_here) >> subleaf & 1) &&
               !(node->ecx & 1)) {
        /* a user component that nobody has; those of the kernel (ECX bit 0) are its own */
        memset(e->and_mask, 0, sizeof(e->and_mask));
    }
}

/* A leaf above the highest that the mask tells of; programs that look all the same see nothing. */
static bool is_beyond(const struct cpu_profile *mask, uint32_t leaf)
{
    if (leaf < 0x40000000U)
        return leaf > mask->fields[CPU_FIELD_MAX_BASIC_LEAF];
    return leaf >= LEAF_HIGHEST_EXT && leaf < 0x80000000U + 0x10000U &&
           leaf > mask->fields[CPU_FIELD_MAX_EXTENDED_LEAF];
}

static void mask_leaf(const struct cpu_profile *mask, uint64_t enabled_here,
                      const struct cpuid_leaf *node, struct mask_entry *e)
{
    bool beyond = is_beyond(mask, e->leaf);
    if (!beyond && e->leaf == LEAF_XSAVE)
        mask_xsave(mask, enabled_here, node, e);
    else if (!beyond && is_known(e))
        mask_known(mask, node, e);
    else if (beyond || !cpu_ignored_leaf_find(e->leaf))
        memset(e->and_mask, 0, sizeof(e->and_mask));
}

/* ---- the table ---- */

static bool is_identity(const struct mask_entry *e)
{
    for (unsigned reg = 0; reg < MASK_REGISTERS; reg++)
        if (e->and_mask[reg] != UINT32_MAX || e->or_mask[reg] != 0)
            return false;
    return true;
}

static struct mask_entry *find(struct mask_island_table *table, uint32_t leaf, uint32_t subleaf)
{
    for (uint32_t i = 0; i < table->count; i++) {
        struct mask_entry *e = &table->entries[i];
        if (e->leaf == leaf && subleaf >= e->subleaf_first && subleaf <= e->subleaf_last)
            return e;
    }
    return NULL;
}

static struct mask_entry *add(struct mask_island_table *table, const struct mask_entry *e,
                              struct error *err)
{
    if (table->count >= MASK_ENTRIES_MAX) {
        error_set(err, ERROR_TOO_LARGE, "the mask needs more than %zu entries",
                  (size_t)MASK_ENTRIES_MAX);
        return NULL;
    }
    table->entries[table->count] = *e;
    return &table->entries[table->count++];
}

/* CPUs of one node may differ: what either must not show goes, and of two sizes the larger holds.
 */
static void merge(struct mask_entry *e, const struct mask_entry *other)
{
    for (unsigned reg = 0; reg < MASK_REGISTERS; reg++) {
        e->and_mask[reg] &= other->and_mask[reg];
        if (e->leaf == LEAF_XSAVE)
            e->or_mask[reg] = at_least(e->or_mask[reg], other->or_mask[reg]);
        else
            e->or_mask[reg] |= other->or_mask[reg];
    }
}

static int add_leaf(const struct cpu_profile *mask, uint64_t enabled_here,
                    const struct cpuid_leaf *node, struct mask_island_table *table,
                    struct error *err)
{
    bool by_subleaf = has_subleaves(node->leaf);
    if (!by_subleaf && node->subleaf != 0)
        return 0;
    struct mask_entry e = {
        .leaf = node->leaf,
        .subleaf_first = node->subleaf,
        .subleaf_last = by_subleaf ? node->subleaf : SUBLEAF_LAST,
        .and_mask = {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX}
    };
    mask_leaf(mask, enabled_here, node, &e);
    struct mask_entry *there = find(table, e.leaf, e.subleaf_first);
    if (there)
        merge(there, &e);
    else if (!is_identity(&e))
        return add(table, &e, err) ? 0 : -1;
    return 0;
}

/* Pages of leaf 7 that no member has need no entry each. */
static int close_leaf7(const struct cpu_profile *mask, struct mask_island_table *table,
                       struct error *err)
{
    const struct mask_entry beyond = {.leaf = LEAF_EXTENDED,
                                      .subleaf_first =
                                          mask->fields[CPU_FIELD_MAX_LEAF7_SUBLEAF] + 1,
                                      .subleaf_last = SUBLEAF_LAST};
    if (is_beyond(mask, LEAF_EXTENDED) || beyond.subleaf_first == 0)
        return 0;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < table->count; i++)
        if (table->entries[i].leaf != LEAF_EXTENDED ||
            table->entries[i].subleaf_first < beyond.subleaf_first)
            table->entries[kept++] = table->entries[i];
    table->count = kept;
    return add(table, &beyond, err) ? 0 : -1;
}

/* What XSAVEC may save there: what is enabled, or, if that was not reported, whatever there is. */
static uint64_t enabled_in(const struct cpu_group *group)
{
    const struct cpuid_leaf *components = cpu_group_find(group, LEAF_XSAVE, 0);
    if (group->xcr0_known || !components)
        return group->xcr0_known ? group->xcr0 : 0;
    return components->eax | (uint64_t)components->edx << 32;
}

int mask_table_build(const struct cpu_profile *mask, const struct cpu_report *report,
                     struct mask_island_table *ret, struct error *err)
{
    memset(ret, 0, MASK_ISLAND_TABLE_BYTES);
    ret->magic = MASK_ISLAND_MAGIC;
    ret->version = MASK_ISLAND_VERSION;
    for (size_t g = 0; g < report->group_count; g++)
        for (size_t i = 0; i < report->groups[g].leaf_count; i++)
            if (add_leaf(mask, enabled_in(&report->groups[g]), &report->groups[g].leaves[i], ret,
                         err) < 0)
                return -1;
    return close_leaf7(mask, ret, err);
}
