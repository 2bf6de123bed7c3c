/* SPDX-License-Identifier: Apache-2.0 */
/* mask_pool.h - the table of a pool of this machine and one that lacks some features. */
#pragma once

#include "cpu_profile.h"
#include "cpu_report.h"
#include "error.h"
#include "mask_island.h"

union mask_pool_table {
    struct mask_island_table table;
    uint8_t bytes[MASK_ISLAND_TABLE_BYTES];
};

/* `hidden`: names of features, by commas; what needs them goes as well. Cut to pieces; may be NULL.
 */
int mask_pool_profile(char *hidden, struct cpu_profile **ret, struct cpu_report **ret_report,
                      struct error *err);
/* The table for this machine in that pool. */
int mask_pool_table(char *hidden, union mask_pool_table *ret, struct error *err);
