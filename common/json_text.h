/* SPDX-License-Identifier: Apache-2.0 */
/* json_text.h - whether bytes are one JSON text by RFC 8259, before json-c sees them.
 *
 * json-c, even when strict, also takes single quotes, NaN, raw control characters, numbers with
 * leading zeros and words in other cases. */
#pragma once

#include <stddef.h>

#include "error.h"

/* Checks grammar, UTF-8, escapes (no half surrogate pairs) and depth. Errors: ERROR_INVALID with
 * the place as "at byte N". */
int json_text_check(const char *text, size_t length, unsigned depth_max, struct error *err);
