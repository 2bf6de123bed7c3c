/* SPDX-License-Identifier: Apache-2.0 */
/* mask_islands.h - the islands of one process: made from outside, filled with stubs, their tables
 * replaced. mask_island.h says what one is. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "mask_island.h"
#include "mask_maps.h"
#include "mask_tracee.h"

#define MASK_ISLAND_BYTES 65536UL /* address space; what is not written takes no memory */
#define MASK_ISLANDS_MAX  64 /* of a process: one for each 4 GiB with code in it, usually two */

struct mask_islands {
    struct mask_one_island {
        uint64_t at;   /* of its table */
        uint64_t used; /* bytes from there on */
    } islands[MASK_ISLANDS_MAX];
    size_t count;
};

/* Forgets those that are not in the thread's memory (any more). */
void mask_islands_check(struct mask_islands *islands, const struct mask_tracee *tracee);
/* Adds those that lie in the thread's memory and are not known yet: of a process that was restored,
 * or whose tracer has ended. They count if their routine is the one of this program.
 * Errors: ERROR_TOO_LARGE with more than MASK_ISLANDS_MAX, ERROR_FAILED. */
int mask_islands_find(struct mask_islands *islands, const struct mask_tracee *tracee,
                      const struct mask_maps *maps, struct error *err);
/* The island in whose stubs the address lies, or NULL. */
const struct mask_one_island *mask_islands_at(const struct mask_islands *islands, uint64_t address);
/* One with room for `bytes` of stubs, within reach of [start, end): one that is there, or one that
 * is made with the table, of MASK_ISLAND_TABLE_BYTES. `maps` (may be NULL) is what the process has
 * mapped, as far as is known; it is read anew where it does not do. Errors: ERROR_FAILED (the
 * process may not map it, or there is no room within reach), and those of mask_tracee_call. */
int mask_islands_near(struct mask_islands *islands, struct mask_tracee *tracee,
                      const struct mask_island_table *table, const struct mask_maps *maps,
                      uint64_t start, uint64_t end, size_t bytes, struct mask_one_island **ret,
                      struct error *err);
/* Where the routine of an island lies. */
uint64_t mask_island_routine_at(const struct mask_one_island *island);
/* Takes room for a stub behind those that are there: where it is to be written. */
uint64_t mask_island_take(struct mask_one_island *island, size_t length);
/* Back to what it was at `before`: those made since are unmapped, and stubs written since are
 * nobody's. */
void mask_islands_undo(struct mask_islands *islands, struct mask_tracee *tracee,
                       const struct mask_islands *before);
/* Puts another table into all of them. No thread of the process may run. */
int mask_islands_replace(const struct mask_islands *islands, const struct mask_tracee *tracee,
                         const struct mask_island_table *table, struct error *err);
