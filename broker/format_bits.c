/* SPDX-License-Identifier: Apache-2.0 */
/* format_bits.c - the mask as bit strings: Firecracker and Xen.
 *
 * Both take away bits by their place and leave the others as the node has them, so nothing is lost
 * for want of a name. Both refuse a leaf that a node does not have: what not every member has is
 * hidden by the highest leaf that CPUID names instead. */
#include <inttypes.h>

#include "format_private.h"

#define BITS_TEXT_BYTES 33

/* '0' where a bit is to go, 'x' where it stays as it is; the highest first. */
static void drop_text(uint32_t dropped, char text[BITS_TEXT_BYTES])
{
    for (unsigned i = 0; i < 32; i++)
        text[i] = dropped >> (31 - i) & 1 ? '0' : 'x';
    text[32] = '\0';
}

static void value_text(uint32_t value, char text[BITS_TEXT_BYTES])
{
    for (unsigned i = 0; i < 32; i++)
        text[i] = value >> (31 - i) & 1 ? '1' : '0';
    text[32] = '\0';
}

/* What is to be done to the registers of one leaf. */
struct leaf_change {
    uint32_t leaf, subleaf;
    bool changed[4];
    char bits[4][BITS_TEXT_BYTES];
};

static void change_drop(struct leaf_change *c, unsigned reg, uint32_t dropped)
{
    c->changed[reg] = dropped != 0;
    drop_text(dropped, c->bits[reg]);
}

static void change_set(struct leaf_change *c, unsigned reg, uint32_t value)
{
    c->changed[reg] = true;
    value_text(value, c->bits[reg]);
}

static struct leaf_change drop_features(const struct cpu_profile *mask, uint32_t leaf,
                                        uint32_t subleaf)
{
    struct leaf_change c = {.leaf = leaf, .subleaf = subleaf};
    for (unsigned reg = CPU_EAX; reg <= CPU_EDX; reg++)
        change_drop(&c, reg, format_bits_at(mask, leaf, subleaf, reg).dropped);
    return c;
}

/* The highest leaf of a range. */
static struct leaf_change limit_range(uint32_t leaf, uint32_t highest)
{
    struct leaf_change c = {.leaf = leaf};
    change_set(&c, CPU_EAX, highest);
    return c;
}

static bool is_changed(const struct leaf_change *c)
{
    return c->changed[CPU_EAX] || c->changed[CPU_EBX] || c->changed[CPU_ECX] || c->changed[CPU_EDX];
}

/* ---- Firecracker */

/* KVM_CPUID_FLAG_SIGNIFCANT_INDEX of the leaves that have subleaves (kvm/cpuid.c). */
static unsigned kvm_flags(uint32_t leaf)
{
    return leaf == 0x7 || leaf == 0xd || leaf == 0x14 || leaf == 0x1d || leaf == 0x1e ||
           leaf == 0x24;
}

struct firecracker {
    FILE *out;
    bool begun;
};

static void write_modifier(struct firecracker *f, const struct leaf_change *c)
{
    const char *separator = "";
    if (!is_changed(c))
        return;
    fprintf(f->out,
            "%s\n  {\"leaf\":\"0x%" PRIx32 "\",\"subleaf\":\"0x%" PRIx32
            "\",\"flags\":%u,\"modifiers\":[",
            f->begun ? "," : "", c->leaf, c->subleaf, kvm_flags(c->leaf));
    f->begun = true;
    for (unsigned reg = CPU_EAX; reg <= CPU_EDX; reg++)
        if (c->changed[reg]) {
            fprintf(f->out, "%s\n    {\"register\":\"%s\",\"bitmap\":\"0b%s\"}", separator,
                    cpu_register_name(reg), c->bits[reg]);
            separator = ",";
        }
    fputs("]}", f->out);
}

/* KVM works out EBX, the size in use, from what the guest enables. */
static struct leaf_change limit_xsave(const struct cpu_profile *mask)
{
    uint64_t xcr0 = 0;
    cpu_profile_xcr0(mask, &xcr0);
    struct leaf_change c = {.leaf = 0xd};
    change_drop(&c, CPU_EAX, ~(uint32_t)xcr0);
    change_drop(&c, CPU_EDX, ~(uint32_t)(xcr0 >> 32));
    if (cpu_profile_xsave_size(mask))
        change_set(&c, CPU_ECX, cpu_profile_xsave_size(mask));
    return c;
}

int format_firecracker(const struct cpu_profile *mask, FILE *out, struct error *err)
{
    (void)err;
    struct firecracker f = {.out = out};
    struct leaf_change c = limit_range(0x0, format_field(mask, CPU_FIELD_MAX_BASIC_LEAF));
    fputs("{\"cpuid_modifiers\":[", out);
    write_modifier(&f, &c);
    c = limit_range(0x80000000, format_field(mask, CPU_FIELD_MAX_EXTENDED_LEAF));
    write_modifier(&f, &c);
    if (cpu_profile_has(mask, CPU_FEATURE_XSAVE)) {
        c = limit_xsave(mask);
        write_modifier(&f, &c);
    }
    /* the registers of a leaf stand together in the registry, but not only they */
    for (unsigned i = 0; i < CPU_WORD_COUNT; i++) {
        uint32_t leaf = cpu_words[i].leaf, subleaf = cpu_words[i].subleaf;
        bool first = true;
        for (unsigned k = 0; k < i; k++)
            first = first && !(cpu_words[k].leaf == leaf && cpu_words[k].subleaf == subleaf);
        if (!first || !format_has_leaf(mask, leaf, subleaf))
            continue;
        c = drop_features(mask, leaf, subleaf);
        if (leaf == 0x7 && subleaf == 0)
            change_set(&c, CPU_EAX, format_field(mask, CPU_FIELD_MAX_LEAF7_SUBLEAF));
        write_modifier(&f, &c);
    }
    fputs("\n]}\n", out);
    return 0;
}

/* ---- Xen */

/* A guest's leaves whose features Xen lets a configuration change. */
static const struct {
    uint32_t leaf, subleaf;
    bool has_subleaves;
} xen_leaves[] = {
    {0x1,        0, false},
    {0x7,        0, true },
    {0x7,        1, true },
    {0xd,        1, true },
    {0x80000001, 0, false},
    {0x80000008, 0, false},
};

/* The registers of a featureset in Xen's order (xen/lib/x86/cpu-policy.h, FEATURESET_*). */
static const struct {
    uint32_t leaf, subleaf;
    enum cpu_register reg;
} xen_featureset[] = {
    {0x1,        0, CPU_EDX},
    {0x1,        0, CPU_ECX},
    {0x80000001, 0, CPU_EDX},
    {0x80000001, 0, CPU_ECX},
    {0xd,        1, CPU_EAX},
    {0x7,        0, CPU_EBX},
    {0x7,        0, CPU_ECX},
    {0x80000007, 0, CPU_EDX},
    {0x80000008, 0, CPU_EBX},
    {0x7,        0, CPU_EDX},
    {0x7,        1, CPU_EAX},
    {0x80000021, 0, CPU_EAX},
    {0x7,        1, CPU_EBX},
    {0x7,        2, CPU_EDX},
    {0x7,        1, CPU_ECX},
    {0x7,        1, CPU_EDX},
};

static bool keeps_any(const struct cpu_profile *mask, uint32_t leaf, uint32_t subleaf)
{
    for (unsigned reg = CPU_EAX; reg <= CPU_EDX; reg++)
        if (format_bits_at(mask, leaf, subleaf, reg).kept)
            return true;
    return false;
}

static void write_xen_leaf(FILE *out, const struct leaf_change *c, bool has_subleaves)
{
    const char *separator = "";
    if (!is_changed(c))
        return;
    fprintf(out, "    \"0x%" PRIx32, c->leaf);
    if (has_subleaves)
        fprintf(out, ",%" PRIu32, c->subleaf);
    fputc(':', out);
    for (unsigned reg = CPU_EAX; reg <= CPU_EDX; reg++)
        if (c->changed[reg]) {
            fprintf(out, "%s%s=%s", separator, cpu_register_name(reg), c->bits[reg]);
            separator = ",";
        }
    fputs("\",\n", out);
}

/* Where a leaf of Xen's lies above what the pool has, the range ends before it. */
static void write_xen_limits(const struct cpu_profile *mask, FILE *out)
{
    struct leaf_change c;
    if (!format_has_leaf(mask, 0xd, 0)) {
        c = limit_range(0x0, format_field(mask, CPU_FIELD_MAX_BASIC_LEAF));
        write_xen_leaf(out, &c, false);
    }
    if (!format_has_leaf(mask, 0x80000008, 0)) {
        c = limit_range(0x80000000, format_field(mask, CPU_FIELD_MAX_EXTENDED_LEAF));
        write_xen_leaf(out, &c, false);
    }
}

int format_xen(const struct cpu_profile *mask, FILE *out, struct error *err)
{
    (void)err;
    bool has_7_1 = format_has_leaf(mask, 0x7, 1) && keeps_any(mask, 0x7, 1);
    fputs("cpuid = [\n", out);
    write_xen_limits(mask, out);
    for (size_t i = 0; i < ARRAY_LEN(xen_leaves); i++) {
        uint32_t leaf = xen_leaves[i].leaf, subleaf = xen_leaves[i].subleaf;
        struct leaf_change c = drop_features(mask, leaf, subleaf);
        /* Xen trims leaves that hold nothing, and refuses lines for what it trimmed */
        if (leaf == 0x7 && subleaf == 0 && !has_7_1)
            change_set(&c, CPU_EAX, 0);
        if ((leaf == 0x7 && subleaf == 1 && !has_7_1) || !format_has_leaf(mask, leaf, subleaf))
            continue;
        write_xen_leaf(out, &c, xen_leaves[i].has_subleaves);
    }
    fputs(
        "]\n# As a featureset, to be ANDed with a host's (words that it lacks stay as they are):\n"
        "# ",
        out);
    for (size_t i = 0; i < ARRAY_LEN(xen_featureset); i++) {
        struct format_bits bits = format_bits_at(mask, xen_featureset[i].leaf,
                                                 xen_featureset[i].subleaf, xen_featureset[i].reg);
        fprintf(out, "%s%08" PRIx32, i ? "-" : "", ~bits.dropped);
    }
    fputc('\n', out);
    return 0;
}
