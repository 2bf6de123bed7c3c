/* SPDX-License-Identifier: Apache-2.0 */
/* mask_window.h - the instructions around a site, taken from its function (inside the finder). */
#pragma once

#include "mask_flow.h"
#include "mask_sites.h"

/* Fills in bytes_at, bytes, byte_count and targets of a site that begins at flow->bytes[at]. */
void mask_window_take(const struct mask_flow *flow, size_t at, struct mask_site *site);
/* Marks in all windows where branches with 32-bit distances from anywhere in the image may lead,
 * whether or not what looks like a branch is one: a function's rarely used parts lie far from it
 * and come back to it. `sites` are in rising order. */
void mask_window_mark_far(const struct elf_image *image, struct mask_site *sites, size_t count);
