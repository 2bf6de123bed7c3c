/* SPDX-License-Identifier: Apache-2.0 */
/* checksum.h - XXH3-128 of bulk data; the one door to libxxhash.
 *
 * It finds whatever a disk, a memory or a wire has altered, at the speed of memory. It is no
 * defence against people, and needs not be: who may send is decided by ticket and TLS, and whoever
 * could alter the data on its way could alter the checksum beside it as well. */
#pragma once

#include <stddef.h>

#include "cleanup.h"

#define CHECKSUM_HEX_BYTES 33 /* 32 digits and the NUL */

struct checksum; /* a running one; one thread */

struct checksum *checksum_new(void);
void checksum_update(struct checksum *sum, const void *data, size_t length);
/* The checksum of all so far, as hex in the canonical (big-endian) order of `xxh128sum`. */
void checksum_hex(const struct checksum *sum, char hex[CHECKSUM_HEX_BYTES]);
void checksum_free(struct checksum *sum); /* NULL is fine */
DEFINE_AUTO(checksum)
