/* SPDX-License-Identifier: Apache-2.0 */
/* mask_island.c - the routine that every stub calls, in assembly since it must leave everything but
 * CPUID's own four registers alone, and the same rules in C. */
#include "mask_island.h"

#include <string.h>

/* In: eax and ecx, as CPUID takes them. Out: eax, ebx, ecx, edx, as CPUID gives them (upper halves
 * zero). It never runs here: it is copied into islands. */
__asm__(".pushsection .text\n"
        ".hidden mask_routine_start\n"
        ".hidden mask_routine_bytes\n"
        ".globl mask_routine_start\n"
        ".globl mask_routine_bytes\n"
        ".balign 16\n"
        "mask_routine_start:\n"
        "    pushfq\n"
        "    push %r8\n"
        "    push %r9\n"
        "    push %r10\n"
        "    push %r11\n"
        "    mov %eax, %r8d\n"                            /* leaf */
        "    mov %ecx, %r9d\n"                            /* subleaf */
        "    cpuid\n"                                     /* on this very CPU */
        "    lea mask_routine_start - 4096(%rip), %r10\n" /* the table is the page before */
        "    mov 8(%r10), %r11d\n"                        /* count */
        "    add $16, %r10\n"                             /* the first entry */
        "1:  sub $1, %r11d\n"
        "    jc 3f\n" /* no entry for it: as the CPU says */
        "    cmp %r8d, (%r10)\n"
        "    jne 2f\n"
        "    cmp 4(%r10), %r9d\n"
        "    jb 2f\n"
        "    cmp 8(%r10), %r9d\n"
        "    ja 2f\n"
        "    and 16(%r10), %eax\n"
        "    and 20(%r10), %ebx\n"
        "    and 24(%r10), %ecx\n"
        "    and 28(%r10), %edx\n"
        "    or 32(%r10), %eax\n"
        "    or 36(%r10), %ebx\n"
        "    or 40(%r10), %ecx\n"
        "    or 44(%r10), %edx\n"
        "    jmp 3f\n"
        "2:  add $48, %r10\n"
        "    jmp 1b\n"
        "3:  pop %r11\n"
        "    pop %r10\n"
        "    pop %r9\n"
        "    pop %r8\n"
        "    popfq\n"
        "    ret\n"
        "4:\n"
        ".balign 8\n"
        "mask_routine_bytes:\n"
        "    .quad 4b - mask_routine_start\n"
        ".popsection\n");

extern const uint8_t mask_routine_start[];
extern const uint64_t mask_routine_bytes;

/* What the assembly counts on. */
_Static_assert(MASK_ISLAND_TABLE_BYTES == 4096, "the table lies 4096 bytes before the routine");
_Static_assert(offsetof(struct mask_island_table, count) == 8, "count");
_Static_assert(offsetof(struct mask_island_table, entries) == 16, "entries");
_Static_assert(sizeof(struct mask_entry) == 48, "an entry");
_Static_assert(offsetof(struct mask_entry, and_mask) == 16, "and");
_Static_assert(offsetof(struct mask_entry, or_mask) == 32, "or");

size_t mask_island_routine_bytes(void)
{
    return mask_routine_bytes;
}

void mask_island_routine_copy(uint8_t *ret)
{
    memcpy(ret, mask_routine_start, mask_island_routine_bytes());
}

void mask_table_apply(const struct mask_island_table *table, uint32_t leaf, uint32_t subleaf,
                      uint32_t registers[MASK_REGISTERS])
{
    for (uint32_t i = 0; i < table->count && i < MASK_ENTRIES_MAX; i++) {
        const struct mask_entry *entry = &table->entries[i];
        if (entry->leaf != leaf || subleaf < entry->subleaf_first || subleaf > entry->subleaf_last)
            continue;
        for (int r = 0; r < MASK_REGISTERS; r++)
            registers[r] = (registers[r] & entry->and_mask[r]) | entry->or_mask[r];
        return;
    }
}
