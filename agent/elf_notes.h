/* SPDX-License-Identifier: Apache-2.0 */
/* elf_notes.h - what an ELF file says of the instructions in it: .note.gnu.property
 * (x86-64 psABI, "Program Property"). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "elf_view.h"

struct elf_marks {
    bool has_needed, has_used, has_registers, has_protection;
    uint32_t isa_needed; /* GNU_PROPERTY_X86_ISA_1_NEEDED: bit 0 is x86-64-v1, bit 3 v4 */
    uint32_t isa_used;   /* GNU_PROPERTY_X86_ISA_1_USED */
    uint32_t registers;  /* GNU_PROPERTY_X86_FEATURE_2_USED: enum cpu_code_register */
    uint32_t protection; /* GNU_PROPERTY_X86_FEATURE_1_AND: bit 0 IBT, bit 1 SHSTK */
};

/* Marks of a file without a note, or with one that does not hold together, are all absent. */
void elf_marks_read(const struct elf_view *view, struct elf_marks *ret);
/* The same from a note segment's bytes. */
void elf_marks_parse(const unsigned char *notes, size_t length, struct elf_marks *ret);
/* The level of the highest bit: 1 for x86-64-v1 to 4; 0 where no bit is set. A bit that is not
 * known counts as 4. */
unsigned elf_marks_level(uint32_t isa_bits);
