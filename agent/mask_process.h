/* SPDX-License-Identifier: Apache-2.0 */
/* mask_process.h - the mask in one address space: which of its CPUIDs were replaced, by what, and
 * which were not.
 *
 * It works on a stopped thread of the process from outside. What is recorded here is believed only
 * as far as the memory bears it out, so a record may be older than the memory: mappings come and
 * go, and a fork copies them while others are being made.
 *
 * Nobody may execute what is being covered: either all threads of the process are stopped and none
 * stands within it, as after an execve, or it was mapped just now and its address is known to
 * nobody, as at the end of an mmap. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cleanup.h"
#include "error.h"
#include "mask_detour.h"
#include "mask_grade.h"
#include "mask_island.h"
#include "mask_sites.h"
#include "mask_tracee.h"

#define MASK_PATCHES_MAX   65536 /* of a process */
#define MASK_UNCOVERED_MAX 4096  /* that are listed; all are counted */

/* Bytes that were replaced. */
struct mask_patch {
    uint64_t address; /* of the first one */
    uint8_t length;
    uint8_t original[MASK_DETOUR_BYTES_MAX], bytes[MASK_DETOUR_BYTES_MAX];
    uint64_t site; /* of the CPUID among them */
    uint64_t stub;
    enum mask_proof proof;
    bool trap; /* no jump: `hlt; nop`, and whoever traces the process leads it to the stub */
};

struct mask_uncovered {
    uint64_t address;
    enum mask_lack lack;
    enum mask_hindrance hindrance; /* of HINDERED */
};

struct mask_coverage {
    size_t detours, traps;
    size_t lacks[MASK_LACK_COUNT];
};

struct mask_process_options {
    const struct mask_island_table *table; /* MASK_ISLAND_TABLE_BYTES; outlives the process */
    const char *cache_folder;              /* of mask_cache.h; NULL: none. Outlives it too */
    bool traps;                            /* where no detour fits: else such a place is a lack */
};

struct mask_process; /* opaque; counted; one thread */

struct mask_process *mask_process_new(const struct mask_process_options *options);
struct mask_process *mask_process_ref(struct mask_process *process); /* the memory is shared */
struct mask_process *mask_process_copy(const struct mask_process *process); /* it was copied */
void mask_process_free(struct mask_process *process); /* drops one reference; NULL is fine */
DEFINE_AUTO(mask_process)
/* Whether anybody else holds a reference. */
bool mask_process_is_shared(const struct mask_process *process);

/* Covers all executable mappings that touch [from, to); may be called again for the same ones. Each
 * mapping is covered whole or, after a failure, as it was before.
 * Errors: those of mask_tracee_call, mask_islands_near and mask_mapped_find; ERROR_TOO_LARGE. */
int mask_process_cover(struct mask_process *process, struct mask_tracee *tracee, uint64_t from,
                       uint64_t to, struct error *err);
/* The same for all of a process that this program knows nothing of: it was restored from an image,
 * or its tracer has ended. Its detours are recognised where memory has exactly what would be
 * written; a CPUID that has none gets one, and is told as a lack (GAP), as nobody knows whether it
 * has run. Errors: as above. */
int mask_process_recover(struct mask_process *process, struct mask_tracee *tracee,
                         struct error *err);
/* Puts another table into the process (which outlives it). No thread of it may run. */
int mask_process_replace_table(struct mask_process *process, const struct mask_tracee *tracee,
                               const struct mask_island_table *table, struct error *err);

/* The stub for a CPUID that was replaced by a trap at exactly that address; 0: there is none. */
uint64_t mask_process_trap(const struct mask_process *process, uint64_t address);
/* Whether a thread that goes on at that address would run into the middle of replaced bytes. */
bool mask_process_splits(const struct mask_process *process, uint64_t address);
/* All replaced bytes, by rising address; borrowed until the next call that covers. Some may lie in
 * memory that is unmapped by now. */
const struct mask_patch *mask_process_patches(const struct mask_process *process, size_t *ret);
/* The places that are not covered, as far as they are listed; borrowed likewise. */
const struct mask_uncovered *mask_process_uncovered(const struct mask_process *process,
                                                    size_t *ret);
struct mask_coverage mask_process_coverage(const struct mask_process *process);
