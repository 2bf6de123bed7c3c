/* SPDX-License-Identifier: Apache-2.0 */
/* mask_detour.h - puts a jump to the island in a CPUID's place; pure: bytes in, bytes out.
 *
 * A jump takes five bytes and CPUID has two, so its neighbours go with it: they are written into
 * the stub, re-aimed where they count from their place, and the stub jumps back behind them. They
 * may only move when no branch leads into the middle of what the jump covers. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "mask_sites.h"

#define MASK_DETOUR_BYTES_MAX (MASK_WINDOW_REACH + 20) /* that a detour covers */
#define MASK_STUB_BYTES_MAX   160

/* Why there is no detour, wire name and what it means. */
/* clang-format off */
#define MASK_HINDRANCES(X)                                                                         \
    X(NONE,      "none",      "it takes a detour")                                                 \
    X(TARGET,    "target",    "branches lead in between")                                          \
    X(FIXED,     "fixed",     "an instruction beside it cannot move")                              \
    X(EDGE,      "edge",      "too little of its function is known around it")                     \
    X(COMPUTED,  "computed",  "its function jumps to computed addresses, which may lie in between")
/* clang-format on */

enum mask_hindrance {
#define X(name, wire, meaning) MASK_HINDRANCE_##name,
    MASK_HINDRANCES(X)
#undef X
        MASK_HINDRANCE_COUNT
};

const char *mask_hindrance_name(enum mask_hindrance hindrance);
const char *mask_hindrance_meaning(enum mask_hindrance hindrance);

/* Which bytes are to be covered. */
struct mask_detour {
    int8_t from;    /* of the first byte, counted from the site's */
    uint8_t length; /* at least 5; whole instructions */
};

/* Chooses the bytes: forwards from the CPUID if that can be, else from before it. NONE when
 * *ret is filled in. */
enum mask_hindrance mask_detour_plan(const struct mask_site *site, struct mask_detour *ret);

/* Writes the stub that lies at `stub_at` and calls the routine at `routine_at`, and the bytes that
 * replace the detour's at `site_at` + from (all addresses are those in the process; site_at is
 * where the CPUID lies, and `bias` what it has beyond the site's own address). *ret_length are the
 * stub's bytes, at most MASK_STUB_BYTES_MAX. `patch` takes detour->length bytes.
 * Errors: ERROR_TOO_LARGE when something is out of a jump's reach. */
int mask_detour_write(const struct mask_site *site, const struct mask_detour *detour, uint64_t bias,
                      uint64_t stub_at, uint64_t routine_at, uint8_t *stub, size_t *ret_length,
                      uint8_t *patch, struct error *err);
