/* SPDX-License-Identifier: Apache-2.0 */
/* mask_grade.h - how firmly a workload is held to its pool's mask, and what of it is not: the words
 * that agent and broker share.
 *
 * docs/mask.md tells what each grade covers. */
#pragma once

#include <stdbool.h>

#include "error.h"

/* From the weakest on: what is asked for is a least grade. */
/* clang-format off */
/*     grade        wire name      how it works */
#define MASK_GRADES(X)                                                                             \
    X(OFF,         "off",         "no mask")                                                       \
    X(ENVIRONMENT, "environment", "settings that libraries and runtimes read by themselves")       \
    X(DETOUR,      "detour",      "each CPUID instruction leads through code that masks it")       \
    X(HARDWARE,    "hardware",    "the processor faults at each CPUID, and a supervisor answers")
/* clang-format on */

enum mask_grade {
#define X(grade, name, meaning) MASK_GRADE_##grade,
    MASK_GRADES(X)
#undef X
        MASK_GRADE_COUNT
};

const char *mask_grade_name(enum mask_grade grade);
const char *mask_grade_meaning(enum mask_grade grade);
/* ERROR_INVALID names the grades that there are. */
int mask_grade_from_name(const char *name, enum mask_grade *ret, struct error *err);
/* Whether what runs under this grade has seen no more than the mask, as long as nothing is lacking:
 * its need is then the mask. */
bool mask_grade_binds(enum mask_grade grade);

/* Why a place is not covered. */
/* clang-format off */
#define MASK_LACKS(X)                                                                              \
    X(HINDERED,   "hindered",   "a CPUID where no detour fits")                                    \
    X(CHANGED,    "changed",    "a CPUID around which the memory is not as its file is")           \
    X(DOUBTFUL,   "doubtful",   "may be a CPUID, and is not proved to be one")                     \
    X(SHARED,     "shared",     "a CPUID in memory that other processes share")                    \
    X(WRITABLE,   "writable",   "memory that is writable and executable: code may be made there")  \
    X(UNREADABLE, "unreadable", "executable memory that cannot be read, or is too much to be read") \
    X(GAP,        "gap",        "a CPUID that came while nobody traced it, and may have run")
/* clang-format on */

enum mask_lack {
#define X(lack, wire, meaning) MASK_LACK_##lack,
    MASK_LACKS(X)
#undef X
        MASK_LACK_COUNT
};

const char *mask_lack_name(enum mask_lack lack);
const char *mask_lack_meaning(enum mask_lack lack);
