/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_registry.c - look-ups in the generated registry. */
#include "cpu_registry.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cleanup.h"
#include "cpu_registry_table.inc"

static const char *const kind_names[] = {
#define X(kind, name) name,
    CPU_KINDS(X)
#undef X
};

static const char *const effect_names[] = {
#define X(effect, name) name,
    CPU_EFFECTS(X)
#undef X
};

static bool is_name(const char *name, const char *candidate)
{
    return candidate && strcmp(name, candidate) == 0;
}

int cpu_feature_from_name(const char *name, enum cpu_feature_id *ret)
{
    for (unsigned i = 0; i < CPU_FEATURE_COUNT; i++)
        if (is_name(name, cpu_features[i].name)) {
            *ret = (enum cpu_feature_id)i;
            return 0;
        }
    for (unsigned i = 0; i < CPU_FEATURE_COUNT; i++) {
        const struct cpu_feature *f = &cpu_features[i];
        if (is_name(name, f->linux_name) || is_name(name, f->qemu_name)) {
            *ret = (enum cpu_feature_id)i;
            return 0;
        }
    }
    return -1;
}

int cpu_word_find(uint32_t leaf, uint32_t subleaf, enum cpu_register reg)
{
    for (unsigned i = 0; i < CPU_WORD_COUNT; i++)
        if (cpu_words[i].leaf == leaf && cpu_words[i].subleaf == subleaf && cpu_words[i].reg == reg)
            return (int)i;
    return -1;
}

int cpu_feature_find(uint32_t leaf, uint32_t subleaf, enum cpu_register reg, unsigned bit)
{
    int word = cpu_word_find(leaf, subleaf, reg);
    return word >= 0 && bit < 32 ? cpu_feature_at[word][bit] : -1;
}

const struct cpu_ignored_leaf *cpu_ignored_leaf_find(uint32_t leaf)
{
    for (size_t i = 0; i < cpu_ignored_leaf_count; i++)
        if (leaf >= cpu_ignored_leaves[i].first && leaf <= cpu_ignored_leaves[i].last)
            return &cpu_ignored_leaves[i];
    return NULL;
}

const struct cpu_component_info *cpu_component_info_find(unsigned id)
{
    for (size_t i = 0; i < cpu_component_info_count; i++)
        if (cpu_components[i].id == id)
            return &cpu_components[i];
    return NULL;
}

const char *cpu_kind_name(enum cpu_kind kind)
{
    return (unsigned)kind < CPU_KIND_COUNT ? kind_names[kind] : "?";
}

const char *cpu_effect_name(enum cpu_effect effect)
{
    return (unsigned)effect < CPU_EFFECT_COUNT ? effect_names[effect] : "?";
}

const char *cpu_register_name(unsigned reg)
{
    static const char *const names[] = {"eax", "ebx", "ecx", "edx"};
    return reg < ARRAY_LEN(names) ? names[reg] : "?";
}

void cpu_bit_place(uint32_t leaf, uint32_t subleaf, unsigned reg, unsigned bit, char *text,
                   size_t size)
{
    static const char *const names[] = {"EAX", "EBX", "ECX", "EDX"};
    const char *name = reg < ARRAY_LEN(names) ? names[reg] : "?";
    /* "leaf 7", as the manuals call the low ones; the others in hex */
    char number[32];
    snprintf(number, sizeof(number), "%s%" PRIx32, leaf < 10 ? "" : "0x", leaf);
    if (subleaf)
        snprintf(text, size, "leaf %s.%" PRIu32 " %s bit %u", number, subleaf, name, bit);
    else
        snprintf(text, size, "leaf %s %s bit %u", number, name, bit);
}
