/* SPDX-License-Identifier: Apache-2.0 */
/* late.c - a library that family.c loads when it has run for a while. */
#include <cpuid.h>
#include <stddef.h>
#include <stdint.h>

uint32_t late_leaf7(void);
uint32_t late_leaf7(void)
{
    uint32_t eax, ebx = 0, ecx, edx;
    if (__get_cpuid_max(0, NULL) >= 7)
        __cpuid_count(7, 0, eax, ebx, ecx, edx);
    return ebx;
}
