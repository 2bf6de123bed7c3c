/* SPDX-License-Identifier: Apache-2.0 */
/* mask_mapped.h - the CPUID instructions in one executable mapping of a process: of a file by what
 * is known of the file, of everything else by what lies in memory. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "mask_maps.h"
#include "mask_sites.h"
#include "mask_tracee.h"

#define MASK_CODE_BYTES_MAX                                               \
    (256UL << 20) /* of one mapping without a file that is looked through \
                   */

struct mask_mapped {
    struct mask_sites *sites; /* owned; NULL: it could not be looked through */
    bool in_file;             /* places are known by their offset in the file */
    uint64_t bias;            /* else: what addresses in memory have beyond the sites' */
};

/* Done with mask_mapped_done. `cache_folder` as for mask_cache_sites; NULL: none. Memory that
 * cannot be read, or of more than MASK_CODE_BYTES_MAX, is no error: there are no sites then.
 * Errors: ERROR_REJECTED (32-bit code), ERROR_FAILED (the file cannot be read). */
int mask_mapped_find(struct mask_tracee *tracee, const struct mask_mapping *mapping,
                     const char *cache_folder, struct mask_mapped *ret, struct error *err);
void mask_mapped_done(struct mask_mapped *mapped);
/* Where something lies in memory that the finder has at that address and offset; 0: not in the
 * mapping. */
uint64_t mask_mapped_place(const struct mask_mapped *mapped, const struct mask_mapping *mapping,
                           uint64_t address, uint64_t offset);
