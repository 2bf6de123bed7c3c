/* SPDX-License-Identifier: Apache-2.0 */
/* mask_island.h - the code and the table that a masked process carries in its own memory.
 *
 * An island is a page of table and, behind it, pages of code. A jump at each CPUID of the program
 * leads to a stub in the island (mask_detour.h); all stubs call one routine, which runs CPUID on
 * the CPU that the thread is on, applies the table, and returns with every other register, the
 * flags and the red zone as they were. So whatever differs from CPU to CPU (APIC ids) stays true,
 * and the process stays masked with nobody attached.
 *
 * The pages are readable and, behind the first, executable, never writable for the program: the
 * supervisor writes them from outside, and may replace the table while the process lives. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define MASK_ISLAND_TABLE_BYTES 4096UL
#define MASK_ISLAND_MAGIC       0x4b534d43U /* "CMSK" */
#define MASK_ISLAND_VERSION     1

/* Registers in the order in which CPUID's are usually named. */
enum mask_register { MASK_EAX, MASK_EBX, MASK_ECX, MASK_EDX, MASK_REGISTERS };

/* For one leaf and a range of its subleaves: register = register & and | or. */
struct mask_entry {
    uint32_t leaf, subleaf_first, subleaf_last;
    uint32_t reserved; /* 0 */
    uint32_t and_mask[MASK_REGISTERS], or_mask[MASK_REGISTERS];
};

/* What the island's first page holds; the first entry that fits a question counts. */
struct mask_island_table {
    uint32_t magic, version, count, reserved;
    struct mask_entry entries[];
};

#define MASK_ENTRIES_MAX \
    ((MASK_ISLAND_TABLE_BYTES - sizeof(struct mask_island_table)) / sizeof(struct mask_entry))

/* How many bytes of code the common routine takes; stubs may follow it. */
size_t mask_island_routine_bytes(void);
/* Copies the routine to where the island's second page begins. It finds the table by its distance,
 * so the pages may lie anywhere. */
void mask_island_routine_copy(uint8_t *ret);
/* What the routine answers, by the same rules, for tests and for tracers that emulate a CPUID:
 * `registers` holds what CPUID gave for that leaf and subleaf. */
void mask_table_apply(const struct mask_island_table *table, uint32_t leaf, uint32_t subleaf,
                      uint32_t registers[MASK_REGISTERS]);
