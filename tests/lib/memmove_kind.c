/* SPDX-License-Identifier: Apache-2.0 */
/* memmove_kind.c - prints which vectors the memmove uses that this libc has chosen here: "avx512",
 * "avx" or "sse", by the encodings of its first instructions. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#define BYTES_LOOKED_AT 64

/* VMOVDQU of 256 bits is c5 fe 6f; the EVEX prefix is 62 and can be nothing else in 64-bit code. */
static const char *kind_of(const unsigned char *code)
{
    for (unsigned i = 0; i + 2 < BYTES_LOOKED_AT; i++) {
        if (code[i] == 0x62 && (code[i + 1] & 0x0c) == 0)
            return "avx512";
        if (code[i] == 0xc5 && code[i + 1] == 0xfe && code[i + 2] == 0x6f)
            return "avx";
    }
    return "sse";
}

int main(void)
{
    const unsigned char *code = dlsym(RTLD_DEFAULT, "memmove");
    if (!code) {
        fputs("memmove_kind: this libc has no memmove to look at\n", stderr);
        return 1;
    }
    puts(kind_of(code));
    return 0;
}
