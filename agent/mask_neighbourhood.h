/* SPDX-License-Identifier: Apache-2.0 */
/* mask_neighbourhood.h - the strict rule for code of which no function is known: the bytes around a
 * candidate must all read as code that uses CPUID.
 *
 * "No function, so it is data" would be wrong (busybox, libjpeg and Go have such code), and so
 * would "it decodes, so it is code": tables of numbers often do. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MASK_NEIGHBOURHOOD_BYTES 96 /* on either side that must decode */

enum mask_neighbourhood {
    MASK_AROUND_IS_CODE,
    MASK_AROUND_IS_OTHER_CODE, /* all of it is code, and the candidate part of another instruction
                                */
    MASK_AROUND_IS_UNLIKE_CODE,
    MASK_AROUND_IS_CUT, /* fewer bytes than that are there before it */
};

/* `bytes[at]` is the 0f of `size` bytes that lie together in memory. With MASK_AROUND_IS_CODE
 * *ret_start is where the instruction begins; what was looked at are whole instructions from
 * *ret_first to *ret_end. */
enum mask_neighbourhood mask_neighbourhood_judge(const uint8_t *bytes, size_t size, size_t at,
                                                 size_t *ret_start, size_t *ret_first,
                                                 size_t *ret_end);
