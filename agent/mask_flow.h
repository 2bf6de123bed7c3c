/* SPDX-License-Identifier: Apache-2.0 */
/* mask_flow.h - one function taken apart: read from its start to its end, and followed along its
 * branches.
 *
 * The two readings need not agree: data between instructions puts the first out of step, and the
 * second does not see where computed jumps lead. What both tell is judged together. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "elf_functions.h"
#include "elf_image.h"

#define MASK_FUNCTION_BYTES_MAX (4U << 20) /* longer ones are not taken apart */

struct mask_flow { /* one byte of each array for each byte of the function; owned */
    uint64_t start;
    size_t size;
    uint8_t *bytes;
    uint8_t *linear;  /* length of the instruction that begins there, read one after the other */
    uint8_t *reached; /* the same, by following branches from the start */
    uint8_t *landing; /* 1: a branch, a jump table or an operand leads there */
    size_t clean;     /* bytes from the start that decode one after the other */
    bool unknown_targets; /* it jumps to computed addresses, and no table of them was found */
};

/* What the function says of two bytes in it that may be a CPUID. */
enum mask_judgement {
    MASK_IS_CPUID,
    MASK_IS_INSIDE,       /* part of another instruction */
    MASK_IS_CONTRADICTED, /* the two readings say different things */
    MASK_IS_NOT_REACHED,  /* no branch leads there, and what stands there is no use of CPUID */
    MASK_IS_UNREADABLE,   /* it does not decode up to there */
};

/* Follows branches from `entry`, which lies in the range; reads on from the start only if that is
 * the entry as well. -1 when the bytes cannot be read, or are more than MASK_FUNCTION_BYTES_MAX. */
int mask_flow_open(const struct elf_image *image, struct elf_range range, uint64_t entry,
                   struct mask_flow *ret);
void mask_flow_done(struct mask_flow *flow);

/* `at`: of the byte 0f, counted from the function's start; the next one lies in it too. With
 * MASK_IS_CPUID *ret_start is where the instruction begins, which is before `at` if it has
 * prefixes. */
enum mask_judgement mask_flow_judge(const struct mask_flow *flow, size_t at, size_t *ret_start);
/* The same if only what branches lead to counts. */
enum mask_judgement mask_flow_judge_reached(const struct mask_flow *flow, size_t at,
                                            size_t *ret_start);

/* Where the instruction begins that ends right before the one at `at`; `at` when that is not
 * known. */
size_t mask_flow_previous(const struct mask_flow *flow, size_t at);
