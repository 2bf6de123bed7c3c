/* SPDX-License-Identifier: Apache-2.0 */
/* steps.h - what the lab's programs share: steps that are told one a line, without any libc
 * function that chooses its code by the CPU, so that nothing but the program's subject fails on
 * another one. */
#pragma once
#include <cpuid.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

#define STEP_MS 20

/* What programs can use; the rest is the kernel's, and stays each node's own.
 * Leaf 1 ECX: SSE3 PCLMULQDQ SSSE3 FMA CX16 SSE4.1 SSE4.2 MOVBE POPCNT AES XSAVE AVX F16C RDRAND
 * Leaf 7 EBX: FSGSBASE BMI1 HLE AVX2 BMI2 ERMS RTM RDSEED ADX CLFLUSHOPT CLWB SHA and AVX-512 */
#define LEAF1_ECX_USED UINT32_C(0x76d83203)
#define LEAF7_EBX_USED UINT32_C(0xfdaf0b39)

/* What a step found; the worst of it is told. */
struct step {
    unsigned long number;
    const char *wrong; /* NULL: all as it should be */
    uint64_t found, expected;
    uint32_t birth[2]; /* leaf 7 EBX and leaf 1 ECX as the program saw them when it began */
    uint32_t seen[2];  /* and after the last step */
};

static inline void step_see(uint32_t seen[2])
{
    uint32_t eax, edx, other;
    seen[0] = seen[1] = 0;
    if (__get_cpuid_max(0, NULL) >= 7)
        __cpuid_count(7, 0, eax, seen[0], other, edx);
    __cpuid(1, eax, other, seen[1], edx);
    seen[0] &= LEAF7_EBX_USED;
    seen[1] &= LEAF1_ECX_USED;
}

static inline void step_expect(struct step *step, const char *what, uint64_t found,
                               uint64_t expected)
{
    if (found == expected || step->wrong)
        return;
    step->wrong = what;
    step->found = found;
    step->expected = expected;
}

static inline char *step_text(char *end, const char *text)
{
    while (*text)
        *end++ = *text++;
    return end;
}
static inline char *step_number(char *end, uint64_t n)
{
    char digits[24];
    int count = 0;
    do
        digits[count++] = (char)('0' + n % 10);
    while (n /= 10);
    while (count)
        *end++ = digits[--count];
    return end;
}

/* Tells the step on stdout and waits for the next: "step N right", "step N wrong WHAT is X, not Y",
 * with " other-cpu" behind it when CPUID does not say what it said at the beginning. */
static inline void step_done(struct step *step)
{
    char line[256], *end = line;
    step_see(step->seen);
    if (!step->number) {
        step->birth[0] = step->seen[0];
        step->birth[1] = step->seen[1];
    }
    end = step_text(end, "step ");
    end = step_number(end, ++step->number);
    if (step->wrong) {
        end = step_text(step_text(step_text(end, " wrong "), step->wrong), " is ");
        end = step_text(step_number(end, step->found), ", not ");
        end = step_number(end, step->expected);
    } else {
        end = step_text(end, " right");
    }
    if (step->seen[0] != step->birth[0] || step->seen[1] != step->birth[1])
        end = step_text(end, " other-cpu");
    *end++ = '\n';
    step->wrong = NULL;
    if (write(STDOUT_FILENO, line, (size_t)(end - line)) < 0)
        _exit(9);
    struct timespec pause = {0, STEP_MS * 1000000L};
    nanosleep(&pause, NULL);
}
