/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_profile_data.h - the inside of a profile, for the arithmetic that works on whole words:
 * cpu_profile*.c, broker/verdict.c, evidence*.c and mask.c, agent/mask_table.c. Everybody else uses
 * cpu_profile.h. */
#pragma once

#include <stdatomic.h>

#include "cpu_profile.h"

#define CPU_VENDOR_BYTES 13
#define CPU_BRAND_BYTES  49
#define CPU_XCR0_X87     UINT64_C(1)
#define CPU_XCR0_SSE     UINT64_C(2)

/* What the dynamic loader saves before it resolves a symbol (STATE_SAVE_MASK in glibc's
 * sysdeps/x86/sysdep.h): SSE, AVX, MPX, AVX-512 and APX, as far as they are enabled. With plain
 * XSAVE it writes all of these into a buffer that was sized when the process was born. */
#define CPU_XCR0_LOADER UINT64_C(0x800ee)

/* Bits that are set in a register and that the registry does not know. */
struct cpu_unknown {
    uint32_t leaf, subleaf;
    enum cpu_register reg;
    uint32_t bits;
};

struct cpu_profile {
    atomic_uint references;
    /* Usable features, behaviours and conditions; no bit that the registry ignores. */
    uint32_t words[CPU_WORD_COUNT];
    uint32_t fields[CPU_FIELD_COUNT];
    uint64_t field_conflicts; /* bit by cpu_field_id: the CPUs, or the nodes seen, disagree */

    /* Which components are enabled: XCR0, or a claim where xcr0_known is false. */
    bool xcr0_known;
    uint64_t enabled;
    struct cpu_component *components; /* owned; one for each bit of `enabled`, ascending */
    /* What CPUID says of the size of the area (leaf 0xD.0 EBX) to a program that asks: of a mask
     * the largest of the members', for the processor saves what it saves. 0: unknown. */
    uint32_t area_bytes;
    /* Whoever was born here may save with plain XSAVE, which writes every enabled component:
     * XSAVE is there, and XSAVEC is not, or is hidden. A mask hides it where the loader's would
     * save other components on one member than on another: what XSAVEC has saved where more are
     * enabled, XRSTOR refuses where fewer are, and the process dies. */
    bool plain_xsave;

    bool minsigstksz_known;
    uint32_t minsigstksz; /* bytes */

    struct cpu_unknown *unknowns; /* owned; ascending */
    uint32_t unknown_count;

    char vendor[CPU_VENDOR_BYTES]; /* "" when mixed */
    char brand[CPU_BRAND_BYTES];
};

_Static_assert(CPU_FIELD_COUNT <= 64, "field_conflicts has a bit for each field");

static inline bool cpu_profile_has_bit(const struct cpu_profile *p, const struct cpu_feature *f)
{
    return (p->words[f->word] >> f->bit & 1) != 0;
}

static inline void cpu_profile_clear_bit(struct cpu_profile *p, const struct cpu_feature *f)
{
    p->words[f->word] &= ~(UINT32_C(1) << f->bit);
}

/* The component's record; its bit must be set in `enabled`. */
static inline struct cpu_component *cpu_profile_slot(const struct cpu_profile *p, unsigned id)
{
    uint64_t below = p->enabled & ((UINT64_C(1) << id) - 1);
    return &p->components[__builtin_popcountll(below)];
}

/* A new profile with one reference and nothing in it. */
struct cpu_profile *cpu_profile_new(void);
/* Gives the profile records for exactly these components; what stays keeps its record. */
void cpu_profile_set_enabled(struct cpu_profile *profile, uint64_t enabled);
/* The area that the enabled components need, or 0 where a layout is unknown. */
uint32_t cpu_profile_computed_area(const struct cpu_profile *profile);
/* What XSAVEC lays out for those of `components` that are enabled (SDM volume 1, 13.4.3): bytes, or
 * 0 where a size is unknown. */
uint32_t cpu_profile_compact_area(const struct cpu_profile *profile, uint64_t components);
/* Drops every feature that needs what is not there, and every component that no surviving
 * feature uses: what a pool's intersection needs. */
void cpu_profile_close(struct cpu_profile *profile);
/* Where the profile is a need: `plain_xsave` follows from the features. */
void cpu_profile_set_plain_xsave(struct cpu_profile *profile);
