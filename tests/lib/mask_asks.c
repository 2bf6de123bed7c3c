/* SPDX-License-Identifier: Apache-2.0 */
/* mask_asks.c - a library that asks for leaf 7 EBX, for programs that load it later. */
#include <cpuid.h>

unsigned asks(void);

unsigned asks(void)
{
    unsigned a = 0, b = 0, c = 0, d = 0;
    __get_cpuid_count(7, 0, &a, &b, &c, &d);
    return b;
}
