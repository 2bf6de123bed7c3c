/* SPDX-License-Identifier: Apache-2.0 */
/* strings.c - leans on the CPU in the three ways of an everyday program: libc's string functions,
 * which are chosen when it starts; code of its own chosen by __builtin_cpu_supports; and functions
 * that are bound when they are first called, many steps later, with the loader saving vector
 * registers. */
#include <immintrin.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "steps.h"

#define SIZE       4096
#define COUNT      1024
#define LATE_EVERY 25 /* steps from one late binding to the next */

static char from[SIZE], to[SIZE];
static int32_t numbers[COUNT];

/* ---- code of its own */

__attribute__((target("avx2"), noinline)) static int64_t sum_avx2(void)
{
    __m256i sum = _mm256_setzero_si256();
    int32_t part[8];
    int64_t total = 0;
    for (int i = 0; i < COUNT; i += 8)
        sum =
            _mm256_add_epi32(sum, _mm256_loadu_si256((const __m256i *)(const void *)(numbers + i)));
    _mm256_storeu_si256((__m256i *)(void *)part, sum);
    for (int i = 0; i < 8; i++)
        total += part[i];
    return total;
}
__attribute__((noinline)) static int64_t sum_plain(void)
{
    int64_t total = 0;
    for (int i = 0; i < COUNT; i++)
        total += numbers[i];
    return total;
}

/* ---- functions that are bound late, each once */

static void late(struct step *step, unsigned long which)
{
    static const char text[] = "the quick brown fox jumps over the lazy dog";
    static const wchar_t wide[] = L"the quick brown fox";
    char copy[64] = "";
    switch (which) {
    case 1:
        step_expect(step, "strcspn", strcspn(text, "xyz"), 18);
        break;
    case 2:
        step_expect(step, "memrchr", (uint64_t)((const char *)memrchr(text, 'o', 40) - text), 26);
        break;
    case 3:
        step_expect(step, "strcasecmp",
                    strcasecmp(text, "THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG") == 0, 1);
        break;
    case 4:
        step_expect(step, "stpcpy", (uint64_t)(stpcpy(copy, text) - copy), sizeof(text) - 1);
        break;
    case 5:
        step_expect(step, "wcslen", wcslen(wide), 19);
        break;
    case 6:
        step_expect(step, "strrchr", (uint64_t)(strrchr(text, 'e') - text), 33);
        break;
    case 7:
        step_expect(step, "strnlen", strnlen(text, 20), 20);
        break;
    case 8:
        step_expect(step, "strpbrk", (uint64_t)(strpbrk(text, "zyx") - text), 18);
        break;
    case 9:
        step_expect(step, "wmemchr", (uint64_t)(wmemchr(wide, L'q', 19) - wide), 4);
        break;
    case 10:
        step_expect(step, "strtol", (uint64_t)strtol("4711", NULL, 10), 4711);
        break;
    case 11:
        step_expect(step, "strncasecmp", strncasecmp(text, "THE QUICK", 9) == 0, 1);
        break;
    case 12:
        step_expect(step, "rawmemchr", (uint64_t)((const char *)rawmemchr(text, 'z') - text), 37);
        break;
    default:
        break;
    }
}

/* ---- libc's string functions, against loops */

static void strings(struct step *step)
{
    size_t length = 1 + step->number * 37 % (SIZE - 2), difference = 0, nul = 0;
    for (size_t i = 0; i < length; i++)
        from[i] = (char)('a' + (i + step->number) % 23);
    from[length] = 0;
    memcpy(to, from, length + 1);
    for (size_t i = 0; i <= length; i++)
        difference += to[i] != from[i];
    step_expect(step, "memcpy's difference", difference, 0);
    step_expect(step, "strlen", strlen(to), length);
    step_expect(step, "strcmp", strcmp(from, to) == 0, 1);
    to[length / 2] = 'z';
    step_expect(step, "memchr", (uint64_t)((char *)memchr(to, 'z', length) - to), length / 2);
    step_expect(step, "strchr", (uint64_t)(strchr(to, 'z') - to), length / 2);
    step_expect(step, "memcmp", memcmp(from, to, length) < 0, 1);
    memset(to, 0, length);
    for (size_t i = 0; i < length; i++)
        nul += to[i] == 0;
    step_expect(step, "memset", nul, length);
}

int main(void)
{
    __builtin_cpu_init();
    int64_t (*sum)(void) = __builtin_cpu_supports("avx2") ? sum_avx2 : sum_plain;
    struct step step = {0};
    int64_t expected = 0;
    for (int i = 0; i < COUNT; i++)
        expected += numbers[i] = i * 7919 % 1000;
    for (;;) {
        strings(&step);
        step_expect(&step, "the sum", (uint64_t)sum(), (uint64_t)expected);
        if (step.number % LATE_EVERY == 0)
            late(&step, step.number / LATE_EVERY);
        step_done(&step);
    }
}
