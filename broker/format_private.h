/* SPDX-License-Identifier: Apache-2.0 */
/* format_private.h - what the format_*.c files share. */
#pragma once

#include <stdio.h>

#include "format.h"

/* Each writes one format of `mask` to `out`; an error is about a mask that the format cannot hold.
 */
#define X(format, name, write, media_type, help) \
    int write(const struct cpu_profile *mask, FILE *out, struct error *err);
FORMATS(X)
#undef X

/* A feature that a mask decides about: kinds isa, state and hint. */
bool format_is_maskable(const struct cpu_feature *feature);
/* Such a feature, and the pool lacks it. */
bool format_lacks(const struct cpu_profile *mask, enum cpu_feature_id feature);
/* The pool has it: one that a mask decides about, or a condition of one (osxsave). */
bool format_has(const struct cpu_profile *mask, enum cpu_feature_id feature);
bool format_has_all(const struct cpu_profile *mask, const enum cpu_feature_id *features,
                    size_t count);

/* The bits of a register that the mask decides about. `kept` are those that the pool has. */
struct format_bits {
    uint32_t kept, dropped;
};
struct format_bits format_bits(const struct cpu_profile *mask, unsigned word);
/* The same by place; nothing is kept or dropped in a register without features. */
struct format_bits format_bits_at(const struct cpu_profile *mask, uint32_t leaf, uint32_t subleaf,
                                  unsigned reg);
/* What a CPU with exactly this mask would have in a register: features, behaviours, conditions. */
uint32_t format_word(const struct cpu_profile *mask, uint32_t leaf, uint32_t subleaf, unsigned reg);
/* A value that the members of the pool agree on, or the least of theirs. */
uint32_t format_field(const struct cpu_profile *mask, enum cpu_field_id field);
/* What leaf 0xD.0 EBX may say to a program on any member: the largest of theirs. 0: unknown. */
uint32_t format_area_bytes(const struct cpu_profile *mask);
/* Whether a process must not be told of XSAVEC; a guest, whose XCR0 is its own, may be. */
bool format_hides_xsavec(const struct cpu_profile *mask);
/* Whether every member answers this leaf and subleaf at all. */
bool format_has_leaf(const struct cpu_profile *mask, uint32_t leaf, uint32_t subleaf);
