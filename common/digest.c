/* SPDX-License-Identifier: Apache-2.0 */
/* digest.c - the door to GnuTLS's hashes and random numbers. */
#include "digest.h"

#include <assert.h>
#include <gnutls/crypto.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sha256 {
    gnutls_hash_hd_t handle;
};

static void to_hex(const uint8_t *bytes, size_t count, char *hex)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < count; i++) {
        hex[2 * i] = digits[bytes[i] >> 4];
        hex[2 * i + 1] = digits[bytes[i] & 15];
    }
    hex[2 * count] = '\0';
}

static void check(int rc, const char *what)
{
    if (rc < 0) {
        fprintf(stderr, "%s: %s\n", what, gnutls_strerror(rc));
        abort();
    }
}

struct sha256 *sha256_new(void)
{
    struct sha256 *hash = xcalloc(1, sizeof(*hash));
    check(gnutls_hash_init(&hash->handle, GNUTLS_DIG_SHA256), "cannot start SHA-256");
    return hash;
}

void sha256_update(struct sha256 *hash, const void *data, size_t length)
{
    assert(hash->handle);
    check(gnutls_hash(hash->handle, data, length), "SHA-256 failed");
}

void sha256_finish(struct sha256 *hash, char hex[SHA256_HEX_BYTES])
{
    uint8_t bytes[SHA256_BYTES];
    assert(hash->handle);
    gnutls_hash_deinit(hash->handle, bytes);
    hash->handle = NULL;
    to_hex(bytes, sizeof(bytes), hex);
}

void sha256_free(struct sha256 *hash)
{
    if (!hash)
        return;
    if (hash->handle)
        gnutls_hash_deinit(hash->handle, NULL);
    free(hash);
}

void sha256_hex(const void *data, size_t length, char hex[SHA256_HEX_BYTES])
{
    uint8_t bytes[SHA256_BYTES];
    check(gnutls_hash_fast(GNUTLS_DIG_SHA256, data, length, bytes), "SHA-256 failed");
    to_hex(bytes, sizeof(bytes), hex);
}

void random_hex(size_t bytes, char *hex)
{
    uint8_t raw[32];
    assert(bytes <= sizeof(raw));
    check(gnutls_rnd(GNUTLS_RND_KEY, raw, bytes), "no random numbers");
    to_hex(raw, bytes, hex);
}

void secret_new(char hex[SECRET_HEX_BYTES])
{
    random_hex(32, hex);
}

int base64_text(const char *base64, char *text, size_t size)
{
    const gnutls_datum_t in = {.data = (unsigned char *)base64, .size = (unsigned)strlen(base64)};
    gnutls_datum_t out = {0};
    if ((size_t)in.size / 4 * 3 > size + 3 || gnutls_base64_decode2(&in, &out) < 0)
        return -1;
    int rc = out.size < size && !memchr(out.data, 0, out.size) ? 0 : -1;
    if (rc == 0) {
        memcpy(text, out.data, out.size);
        text[out.size] = '\0';
    }
    gnutls_memset(out.data, 0, out.size);
    gnutls_free(out.data);
    return rc;
}

void hmac_sha256_hex(const char *key, const void *data, size_t length, char hex[SHA256_HEX_BYTES])
{
    uint8_t bytes[SHA256_BYTES];
    check(gnutls_hmac_fast(GNUTLS_MAC_SHA256, key, strlen(key), data, length, bytes),
          "HMAC-SHA256 failed");
    to_hex(bytes, sizeof(bytes), hex);
}

int secret_equal(const char *a, const char *b)
{
    size_t length = strlen(a);
    return length == strlen(b) && gnutls_memcmp(a, b, length) == 0;
}
