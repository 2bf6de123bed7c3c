/* SPDX-License-Identifier: Apache-2.0 */
/* cpuid_guest.c - prints what CPUID answers as `cpuid -1 -r` does; needs nothing but a CPU, so that
 * it runs where QEMU shows it one. */
#include <cpuid.h>
#include <stdio.h>

#define SUBLEAVES_MAX 64

static void print_leaf(unsigned leaf, unsigned subleaf)
{
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    __cpuid_count(leaf, subleaf, eax, ebx, ecx, edx);
    printf("   0x%08x 0x%02x: eax=0x%08x ebx=0x%08x ecx=0x%08x edx=0x%08x\n", leaf, subleaf, eax,
           ebx, ecx, edx);
}

/* How many subleaves of a leaf are worth printing. */
static unsigned subleaves(unsigned leaf)
{
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    __cpuid_count(leaf, 0, eax, ebx, ecx, edx);
    switch (leaf) {
    case 0x7:
    case 0x14:
    case 0x1d:
    case 0x1e:
    case 0x24:
        return eax < SUBLEAVES_MAX ? eax + 1 : 1;
    case 0xd:
        return 63;
    default:
        return 1;
    }
}

static void print_range(unsigned first)
{
    unsigned last = __get_cpuid_max(first, NULL);
    if (last < first || last - first > 0xff)
        last = first; /* there is no such range */
    for (unsigned leaf = first; leaf <= last; leaf++)
        for (unsigned subleaf = 0; subleaf < subleaves(leaf); subleaf++)
            print_leaf(leaf, subleaf);
}

int main(void)
{
    puts("CPU:");
    print_range(0);
    print_range(0x80000000);
    return 0;
}
