/* SPDX-License-Identifier: Apache-2.0 */
/* digest.h - SHA-256 and random bytes, from GnuTLS. */
#pragma once

#include <stddef.h>

#include "cleanup.h"
#include "error.h"

#define SHA256_BYTES     32
#define SHA256_HEX_BYTES 65 /* 64 digits and the NUL */
#define SECRET_HEX_BYTES 65 /* 256 random bits in hex and the NUL */

struct sha256; /* a running hash; one thread */

struct sha256 *sha256_new(void);
void sha256_update(struct sha256 *hash, const void *data, size_t length);
/* The hash so far as hex; the struct can be fed no more. */
void sha256_finish(struct sha256 *hash, char hex[SHA256_HEX_BYTES]);
void sha256_free(struct sha256 *hash); /* NULL is fine */
DEFINE_AUTO(sha256)

void sha256_hex(const void *data, size_t length, char hex[SHA256_HEX_BYTES]);

/* 256 bits from the kernel's generator, as hex. Aborts if there are none. */
void secret_new(char hex[SECRET_HEX_BYTES]);
/* `bytes` (at most 32) random bytes as hex into hex[2 * bytes + 1]. */
void random_hex(size_t bytes, char *hex);
/* Decodes standard base64 into at most `size` - 1 bytes and a NUL; -1 when it is none, is too long
 * or holds a NUL. */
int base64_text(const char *base64, char *text, size_t size);
/* HMAC-SHA256 of the data under the key, as hex. */
void hmac_sha256_hex(const char *key, const void *data, size_t length, char hex[SHA256_HEX_BYTES]);
/* Compares in constant time for equal lengths. */
int secret_equal(const char *a, const char *b);
