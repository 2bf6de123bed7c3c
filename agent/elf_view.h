/* SPDX-License-Identifier: Apache-2.0 */
/* elf_view.h - an ELF file as it lies in the memory of another process: segments and dynamic
 * symbols.
 *
 * Reading memory needs no file, so a file that was replaced, deleted or mounted elsewhere is read
 * as the process runs it. The memory belongs to the process: everything is bounded and checked. */
#pragma once

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ELF_VIEW_SEGMENTS_MAX 64

/* Copies exactly `length` bytes; 0, or -1 when any of them cannot be read. */
struct elf_memory {
    int (*read)(void *ctx, uint64_t address, void *buffer, size_t length);
    void *ctx;
};

struct elf_view {
    struct elf_memory memory;
    uint64_t bias; /* between the addresses in the file and those in memory */
    Elf64_Phdr segments[ELF_VIEW_SEGMENTS_MAX];
    size_t segment_count;
};

/* `start` is where the file's first byte lies. -1 when there is no 64-bit x86 ELF file. */
int elf_view_open(const struct elf_memory *memory, uint64_t start, struct elf_view *ret);
/* The first segment of that type, or NULL. */
const Elf64_Phdr *elf_view_segment(const struct elf_view *view, uint32_t type);
/* Where a symbol that the file defines for others lies; -1 when there is none. */
int elf_view_symbol(const struct elf_view *view, const char *name, uint64_t *ret_address);
/* DT_SONAME; -1 when it has none or a longer one. */
int elf_view_soname(const struct elf_view *view, char *name, size_t size);
