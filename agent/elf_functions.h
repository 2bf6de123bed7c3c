/* SPDX-License-Identifier: Apache-2.0 */
/* elf_functions.h - from where to where the functions of an ELF file reach: by the call frame
 * information that unwinding uses (.eh_frame, kept even in stripped files), by the table that Go's
 * runtime unwinds with (.gopclntab, likewise), and by symbols. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "elf_image.h"

struct elf_range { /* [start, end) */
    uint64_t start, end;
};

/* The frame description entries (FDEs) of a file. Most have a sorted index of them (.eh_frame_hdr;
 * LSB 5.0, 10.6.2), which is searched where it is; static programs have none, so those entries are
 * read once and sorted. In memory, without section headers, such entries are not found. */
struct elf_frames {
    const struct elf_image *image; /* borrowed */
    uint64_t indexed;              /* entries of the index; 0: there is none */
    struct elf_range *ranges;      /* owned; without an index */
    size_t count;
};

void elf_frames_open(const struct elf_image *image, struct elf_frames *ret);
void elf_frames_done(struct elf_frames *frames);
/* The range of the entry that covers the address; false when none does. */
bool elf_frames_find(const struct elf_frames *frames, uint64_t address, struct elf_range *ret);

/* Go's table of functions, of Go 1.16 and later: sorted, without gaps, so a range may end with
 * padding. It is searched where it is. */
struct elf_go_functions {
    const struct elf_image *image; /* borrowed */
    uint64_t at;                   /* where the entries lie; each leads to a record of its own */
    uint64_t count;                /* 0: there is no table that holds together */
    uint64_t text;                 /* what starts count from */
    unsigned number_bytes;         /* of a start, and of where the record lies */
};

void elf_go_open(const struct elf_image *image, struct elf_go_functions *ret);
/* The function that covers the address; false when none does, or its record speaks of another. */
bool elf_go_find(const struct elf_go_functions *functions, uint64_t address, struct elf_range *ret);

/* What symbols tell of one address. */
struct elf_around {
    uint64_t address; /* set by the caller; all the rest is a result */
    /* The function symbol at or before it that begins last, with its size; and among those with
     * and without one. start == end: none. An end may lie before the address. */
    struct elf_range function, any_function;
    struct elf_range object; /* likewise, of data */
    bool in_data_section;    /* section headers say that no instructions are there */
    uint64_t next;           /* where the next function or object begins; UINT64_MAX: none */
};

/* Fills in what .symtab, .dynsym and section headers say of `count` addresses, which are in rising
 * order. In memory .dynsym alone is there. Damaged tables say nothing. */
void elf_symbols_around(const struct elf_image *image, struct elf_around *addresses, size_t count);
