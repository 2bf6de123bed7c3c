/* SPDX-License-Identifier: Apache-2.0 */
/* counts.c - counts zeros with LZCNT and TZCNT where the CPU has them when it begins. A CPU without
 * runs the same bytes as BSR and BSF: no fault, other numbers. */
#include <cpuid.h>
#include <stdbool.h>

#include "steps.h"

static uint64_t lzcnt(uint64_t x)
{
    uint64_t count;
    __asm__("lzcnt %1, %0" : "=r"(count) : "r"(x) : "cc");
    return count;
}
static uint64_t tzcnt(uint64_t x)
{
    uint64_t count;
    __asm__("tzcnt %1, %0" : "=r"(count) : "r"(x) : "cc");
    return count;
}
/* volatile: no compiler makes the instruction of these loops */
static uint64_t leading(uint64_t x)
{
    volatile uint64_t count = 0;
    for (uint64_t bit = UINT64_C(1) << 63; bit && !(x & bit); bit >>= 1)
        count++;
    return count;
}
static uint64_t trailing(uint64_t x)
{
    volatile uint64_t count = 0;
    for (uint64_t bit = 1; bit && !(x & bit); bit <<= 1)
        count++;
    return count;
}

int main(void)
{
    uint32_t eax, ebx, ecx, edx, seven = 0;
    __cpuid(0x80000001, eax, ebx, ecx, edx);
    bool has_lzcnt = ecx >> 5 & 1;
    if (__get_cpuid_max(0, NULL) >= 7)
        __cpuid_count(7, 0, eax, seven, ecx, edx);
    bool has_tzcnt = seven >> 3 & 1;
    uint64_t (*lead)(uint64_t) = has_lzcnt ? lzcnt : leading;
    uint64_t (*trail)(uint64_t) = has_tzcnt ? tzcnt : trailing;
    struct step step = {0};
    for (;;) {
        uint64_t x =
            step.number % 10 ? (step.number * UINT64_C(0x9e3779b97f4a7c15)) >> step.number % 64 : 0;
        step_expect(&step, "lzcnt", lead(x), leading(x));
        step_expect(&step, "tzcnt", trail(x), trailing(x));
        step_done(&step);
    }
}
