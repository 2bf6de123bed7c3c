/* SPDX-License-Identifier: Apache-2.0 */
/* format_openvz.c - the mask as lines for /proc/vz/cpuid_override.
 *
 * A line replaces all four registers of a leaf, and there is no "as on this node". So what belongs
 * to the node or the CPU (model, APIC id, counts) is given as one value that does no harm on any
 * member. What needs no line is hidden by the highest leaves that the others name. */
#include <inttypes.h>
#include <string.h>

#include "format_private.h"

/* Older kernels take no more than 16 lines, of 66 bytes each; all take one page. */
#define LINES_MAX 16

#define SIGNATURE_INTEL    UINT32_C(0x00000600) /* family 6, no model: programs go by features */
#define SIGNATURE_AMD      UINT32_C(0x00800f00) /* family 17h, no model */
#define AMD_MIRROR         UINT32_C(0x0183f3ff) /* bits of leaf 1 EDX that 0x80000001 repeats */
#define COMPACT_AREA_BYTES UINT32_C(16384)      /* for leaf 0xD.1 EBX: more than any CPU needs */

/* Of no use to processes, but every 64-bit CPU has them, and some programs look. */
static const enum cpu_feature_id always_there[] = {
    CPU_FEATURE_VME, CPU_FEATURE_DE,   CPU_FEATURE_PSE,   CPU_FEATURE_MSR,  CPU_FEATURE_PAE,
    CPU_FEATURE_MCE, CPU_FEATURE_APIC, CPU_FEATURE_SEP,   CPU_FEATURE_MTRR, CPU_FEATURE_PGE,
    CPU_FEATURE_MCA, CPU_FEATURE_PAT,  CPU_FEATURE_PSE36, CPU_FEATURE_NX,
};

struct line {
    uint32_t leaf, subleaf;
    bool any_subleaf; /* the leaf has none */
    uint32_t values[4];
};

struct lines {
    struct line line[LINES_MAX];
    unsigned count;
};

/* A new line with what the mask has in that leaf. */
static struct line *add_line(struct lines *lines, const struct cpu_profile *mask, uint32_t leaf,
                             uint32_t subleaf, bool any_subleaf)
{
    struct line *line = &lines->line[lines->count++];
    *line = (struct line){.leaf = leaf, .subleaf = subleaf, .any_subleaf = any_subleaf};
    for (unsigned reg = CPU_EAX; reg <= CPU_EDX; reg++)
        line->values[reg] = format_word(mask, leaf, subleaf, reg);
    for (size_t i = 0; i < ARRAY_LEN(always_there); i++) {
        const struct cpu_feature *f = &cpu_features[always_there[i]];
        if (f->leaf == leaf && f->subleaf == subleaf)
            line->values[f->reg] |= UINT32_C(1) << f->bit;
    }
    return line;
}

static bool is_amd(const char *vendor)
{
    return strcmp(vendor, "AuthenticAMD") == 0 || strcmp(vendor, "HygonGenuine") == 0;
}

static void put_vendor(struct line *line, const char *vendor)
{
    static const enum cpu_register order[] = {CPU_EBX, CPU_EDX, CPU_ECX};
    for (size_t i = 0; i < ARRAY_LEN(order); i++)
        for (unsigned byte = 0; byte < 4; byte++)
            line->values[order[i]] |= (uint32_t)(unsigned char)vendor[4 * i + byte] << (8 * byte);
}

static void add_basic(struct lines *lines, const struct cpu_profile *mask)
{
    const char *vendor = cpu_profile_vendor(mask);
    if (strlen(vendor) == 12) { /* of a mixed pool the leaf stays as each node has it */
        struct line *line = add_line(lines, mask, 0x0, 0, true);
        line->values[CPU_EAX] = format_field(mask, CPU_FIELD_MAX_BASIC_LEAF);
        put_vendor(line, vendor);
    }
    struct line *line = add_line(lines, mask, 0x1, 0, true);
    line->values[CPU_EAX] = is_amd(vendor) ? SIGNATURE_AMD : SIGNATURE_INTEL;
    line->values[CPU_EBX] = format_field(mask, CPU_FIELD_CLFLUSH_LINE) << 8;

    line = add_line(lines, mask, 0x7, 0, false);
    line->values[CPU_EAX] = format_field(mask, CPU_FIELD_MAX_LEAF7_SUBLEAF);
    add_line(lines, mask, 0x7, 1, false);
}

/* XGETBV tells the truth whatever CPUID says, and XSAVE writes all that is enabled: so the size is
 * what the largest member needs, and the subleaves of the components stay each node's own. */
static void add_xsave(struct lines *lines, const struct cpu_profile *mask)
{
    uint64_t xcr0 = 0;
    cpu_profile_xcr0(mask, &xcr0);
    struct line *line = add_line(lines, mask, 0xd, 0, false);
    line->values[CPU_EAX] = (uint32_t)xcr0;
    line->values[CPU_EBX] = line->values[CPU_ECX] = format_area_bytes(mask);
    line->values[CPU_EDX] = (uint32_t)(xcr0 >> 32);
    line = add_line(lines, mask, 0xd, 1, false);
    if (format_hides_xsavec(mask))
        line->values[CPU_EAX] &= ~(UINT32_C(1) << cpu_features[CPU_FEATURE_XSAVEC].bit);
    if (line->values[CPU_EAX])
        line->values[CPU_EBX] = COMPACT_AREA_BYTES;
}

static void add_higher(struct lines *lines, const struct cpu_profile *mask)
{
    add_line(lines, mask, 0x14, 0, false);
    add_line(lines, mask, 0x19, 0, true);
    add_line(lines, mask, 0x1e, 1, false);
    struct line *line = add_line(lines, mask, 0x24, 0, false);
    struct line *second = add_line(lines, mask, 0x24, 1, false);
    line->values[CPU_EAX] = second->values[CPU_ECX] ? 1 : 0;
    if (cpu_profile_has(mask, CPU_FEATURE_AVX10))
        line->values[CPU_EBX] |= format_field(mask, CPU_FIELD_AVX10_VERSION);
}

static void add_extended(struct lines *lines, const struct cpu_profile *mask)
{
    bool amd = is_amd(cpu_profile_vendor(mask));
    struct line *line = add_line(lines, mask, 0x80000000, 0, true);
    line->values[CPU_EAX] = format_field(mask, CPU_FIELD_MAX_EXTENDED_LEAF);
    if (amd)
        put_vendor(line, cpu_profile_vendor(mask));
    line = add_line(lines, mask, 0x80000001, 0, true);
    if (amd)
        line->values[CPU_EDX] |= format_word(mask, 0x1, 0, CPU_EDX) & AMD_MIRROR;
    line = add_line(lines, mask, 0x80000008, 0, true);
    line->values[CPU_EAX] = format_field(mask, CPU_FIELD_LINEAR_BITS) << 8 |
                            format_field(mask, CPU_FIELD_PHYSICAL_BITS);
    add_line(lines, mask, 0x80000021, 0, true);
}

int format_openvz(const struct cpu_profile *mask, FILE *out, struct error *err)
{
    (void)err;
    struct lines lines = {0};
    add_basic(&lines, mask);
    add_xsave(&lines, mask);
    add_higher(&lines, mask);
    add_extended(&lines, mask);
    for (unsigned i = 0; i < lines.count; i++) {
        const struct line *l = &lines.line[i];
        fprintf(out, "0x%08" PRIx32, l->leaf);
        if (!l->any_subleaf)
            fprintf(out, " 0x%08" PRIx32, l->subleaf);
        fprintf(out, ": 0x%08" PRIx32 " 0x%08" PRIx32 " 0x%08" PRIx32 " 0x%08" PRIx32 "\n",
                l->values[CPU_EAX], l->values[CPU_EBX], l->values[CPU_ECX], l->values[CPU_EDX]);
    }
    return 0;
}
