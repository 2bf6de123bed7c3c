/* SPDX-License-Identifier: Apache-2.0 */
/* mask_maps.h - what a process has mapped, as a bounded list, and gaps in between. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "cleanup.h"
#include "error.h"

/* A jump with a 32-bit distance reaches 2 GiB to both sides; the margin leaves room for what lies
 * behind the places that are compared. */
#define MASK_REACH (0x80000000UL - 0x1000000UL)

struct mask_mapping {
    uint64_t start, end, offset; /* offset: of `start` in the file */
    uint64_t inode;              /* 0: no file */
    bool executable, writable, shared;
    const char *name; /* borrowed from the list; "" for none, "[vdso]" and its like */
};

struct mask_maps {
    struct mask_mapping *mappings; /* in rising order */
    size_t count;
    bool whole; /* all that the process has mapped */
    char *text;
};

/* The caller owns *ret. Errors: ERROR_NOT_FOUND (no such process), ERROR_TOO_LARGE, ERROR_FAILED.
 */
int mask_maps_read(pid_t pid, struct mask_maps **ret, struct error *err);
/* At least those that are executable and have a byte of [from, to); `whole` tells whether they are
 * all. Kernels from 6.11 on are asked for these alone, which is ten times as fast. Errors:
 * likewise.
 */
int mask_maps_read_code(pid_t pid, uint64_t from, uint64_t to, struct mask_maps **ret,
                        struct error *err);
void mask_maps_free(struct mask_maps *maps); /* NULL is fine */
DEFINE_AUTO(mask_maps)

/* The mapping of that name, or NULL. */
const struct mask_mapping *mask_maps_named(const struct mask_maps *maps, const char *name);
/* Where `bytes` (of whole pages) may be mapped so that all of [start, end) and of them lie within
 * MASK_REACH of each other; 0: nowhere. Below is preferred: above a program lies its heap, which
 * grows, and below the stack is where it grows to. */
uint64_t mask_maps_gap(const struct mask_maps *maps, uint64_t start, uint64_t end, uint64_t bytes);
