/* SPDX-License-Identifier: Apache-2.0 */
/* mask_table.h - from a pool's mask and a node's CPUs to the table of an island; pure.
 *
 * What a masked program sees is the same on every member: features of the mask and no other,
 * limits of the pool, an xsave layout of the pool's components. What belongs to the machine
 * (caches, topology, names, what only a kernel can use) stays the node's. Bits that the registry
 * does not know are taken away. */
#pragma once

#include "cpu_profile.h"
#include "cpu_report.h"
#include "error.h"
#include "mask_island.h"

/* Fills the table, of MASK_ISLAND_TABLE_BYTES, for a node whose CPUs are all in `report`. The size
 * of the xsave area is the pool's largest and never goes below what the node's CPUs really save
 * (leaf 0xD.0 EBX), and the components that are enabled keep their places and sizes (0xD.2 and
 * up): a program that is told less writes past its buffer. XSAVEC is hidden where the mask says
 * so (`plain_xsave`), though it is among its features.
 * Errors: ERROR_TOO_LARGE when the entries do not fit. */
int mask_table_build(const struct cpu_profile *mask, const struct cpu_report *report,
                     struct mask_island_table *ret, struct error *err);
