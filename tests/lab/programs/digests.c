/* SPDX-License-Identifier: Apache-2.0 */
/* digests.c - OpenSSL's hashes, which choose their code by the CPU when libcrypto is loaded. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "steps.h"

#define SIZE 4096

typedef unsigned char *digest_fn(const unsigned char *data, size_t size, unsigned char *result);

/* the first eight bytes of SHA-256 and SHA-512 of "abc" (FIPS 180-4) */
#define ABC_256 UINT64_C(0xba7816bf8f01cfea)
#define ABC_512 UINT64_C(0xddaf35a193617aba)

static uint64_t head(const unsigned char *bytes)
{
    uint64_t n = 0;
    for (int i = 0; i < 8; i++)
        n = n << 8 | bytes[i];
    return n;
}

int main(void)
{
    static unsigned char data[SIZE], result[64];
    struct step step = {0};
    digest_fn *sha256, *sha512;
    void *library = dlopen("libcrypto.so.3", RTLD_NOW);
    if (!library) {
        fprintf(stderr, "digests: %s\n", dlerror());
        return 1;
    }
    *(void **)&sha256 = dlsym(library, "SHA256");
    *(void **)&sha512 = dlsym(library, "SHA512");
    if (!sha256 || !sha512)
        return 1;
    for (int i = 0; i < SIZE; i++)
        data[i] = (unsigned char)(i * 31);
    uint64_t first256 = head(sha256(data, SIZE, result)),
             first512 = head(sha512(data, SIZE, result));
    for (;;) {
        step_expect(&step, "SHA-256 of abc", head(sha256((const unsigned char *)"abc", 3, result)),
                    ABC_256);
        step_expect(&step, "SHA-512 of abc", head(sha512((const unsigned char *)"abc", 3, result)),
                    ABC_512);
        step_expect(&step, "SHA-256", head(sha256(data, SIZE, result)), first256);
        step_expect(&step, "SHA-512", head(sha512(data, SIZE, result)), first512);
        step_done(&step);
    }
}
