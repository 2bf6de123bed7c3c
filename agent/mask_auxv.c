/* SPDX-License-Identifier: Apache-2.0 */
/* mask_auxv.c - finds the auxiliary vector on a new program's stack (System V ABI for
 * x86-64, 3.4.1: argc, the arguments, 0, the environment, 0, pairs up to AT_NULL), and changes
 * values in place. */
#include "mask_auxv.h"

#include <cpuid.h>
#include <elf.h>
#include <stdbool.h>

#define WORDS_MAX                                                                  \
    (1UL << 20) /* of arguments, or of the environment: 6 MiB hold no more strings \
                 */
#define WORDS_OF_PAIRS_MAX 128UL
#define CHUNK              512 /* words read at a time */
#define PAGE_BYTES         4096UL

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

#define LEAF_FEATURES          1
#define LEAF_EXTENDED_FEATURES 7
#define LEAF_XSAVE             0xd
#define EBX_FSGSBASE           1U   /* of leaf 7 */
#define HWCAP2_RING3MWAIT      1ULL /* arch/x86/include/uapi/asm/hwcap2.h */
#define HWCAP2_FSGSBASE        2ULL

static int not_found(const struct mask_tracee *tracee, struct error *err)
{
    return error_set(err, ERROR_FAILED, "thread %d has no auxiliary vector on its new stack",
                     tracee->tid);
}

/* Words from `at` on, up to the end of the page: the stack may end there. At least one. */
static int read_words(const struct mask_tracee *tracee, uint64_t at, uint64_t *words, size_t most,
                      size_t *ret_count, struct error *err)
{
    size_t left = (PAGE_BYTES - at % PAGE_BYTES) / sizeof(*words);
    *ret_count = left == 0 ? 1 : left < most ? left : most;
    return mask_tracee_read(tracee, at, words, *ret_count * sizeof(*words), err);
}

/* The word behind the next zero from `at` on. */
static int behind_zero(const struct mask_tracee *tracee, uint64_t at, uint64_t *ret,
                       struct error *err)
{
    uint64_t words[CHUNK];
    size_t count = 0;
    for (size_t done = 0; done < WORDS_MAX; done += count, at += count * sizeof(words[0])) {
        if (read_words(tracee, at, words, CHUNK, &count, err) < 0)
            return -1;
        for (size_t i = 0; i < count; i++)
            if (words[i] == 0) {
                *ret = at + (i + 1) * sizeof(words[0]);
                return 0;
            }
    }
    return not_found(tracee, err);
}

static int find(const struct mask_tracee *tracee, uint64_t *ret, struct error *err)
{
    struct user_regs_struct registers;
    uint64_t argc = 0, environment = 0;
    if (mask_tracee_registers(tracee, &registers, err) < 0 ||
        mask_tracee_read(tracee, registers.rsp, &argc, sizeof(argc), err) < 0)
        return -1;
    if (argc > WORDS_MAX)
        return not_found(tracee, err);
    /* The zero behind the arguments is where argc says. */
    uint64_t end = registers.rsp + (1 + argc) * sizeof(argc);
    if (behind_zero(tracee, end, &environment, err) < 0)
        return -1;
    if (environment != end + sizeof(argc))
        return not_found(tracee, err);
    return behind_zero(tracee, environment, ret, err);
}

/* ---- values */

static uint64_t hwcap(const struct mask_island_table *table, uint64_t value)
{
    uint32_t r[MASK_REGISTERS] = {~0U, ~0U, ~0U, ~0U};
    mask_table_apply(table, LEAF_FEATURES, 0, r);
    return value & r[MASK_EDX];
}

static uint64_t hwcap2(const struct mask_island_table *table, uint64_t value)
{
    uint32_t r[MASK_REGISTERS] = {~0U, ~0U, ~0U, ~0U};
    mask_table_apply(table, LEAF_EXTENDED_FEATURES, 0, r);
    if (!(r[MASK_EBX] & EBX_FSGSBASE))
        value &= ~HWCAP2_FSGSBASE;
    return value & ~HWCAP2_RING3MWAIT;
}

static uint64_t signal_stack(const struct mask_island_table *table, uint64_t value)
{
    uint32_t here[MASK_REGISTERS] = {0}, seen[MASK_REGISTERS];
    __get_cpuid_count(LEAF_XSAVE, 0, &here[MASK_EAX], &here[MASK_EBX], &here[MASK_ECX],
                      &here[MASK_EDX]);
    for (int i = 0; i < MASK_REGISTERS; i++)
        seen[i] = here[i];
    mask_table_apply(table, LEAF_XSAVE, 0, seen);
    return seen[MASK_EBX] > here[MASK_EBX] ? value + (seen[MASK_EBX] - here[MASK_EBX]) : value;
}

static uint64_t value_for(const struct mask_island_table *table, uint64_t type, uint64_t value)
{
    switch (type) {
    case AT_HWCAP:
        return hwcap(table, value);
    case AT_HWCAP2:
        return hwcap2(table, value);
    case AT_MINSIGSTKSZ:
        return signal_stack(table, value);
    default:
        return value;
    }
}

/* Pairs of type and value up to AT_NULL; *ret_count: those before it. */
static int read_pairs(const struct mask_tracee *tracee, uint64_t at,
                      uint64_t pairs[WORDS_OF_PAIRS_MAX], size_t *ret_count, struct error *err)
{
    size_t have = 0, count = 0;
    *ret_count = 0;
    while (have < WORDS_OF_PAIRS_MAX) {
        if (read_words(tracee, at + have * sizeof(*pairs), pairs + have, WORDS_OF_PAIRS_MAX - have,
                       &count, err) < 0)
            return -1;
        have += count;
        for (; *ret_count < have / 2; (*ret_count)++)
            if (pairs[2 * *ret_count] == AT_NULL)
                return 0;
    }
    return not_found(tracee, err);
}

int mask_auxv_rewrite(const struct mask_tracee *tracee, const struct mask_island_table *table,
                      struct error *err)
{
    uint64_t at = 0, pairs[WORDS_OF_PAIRS_MAX];
    size_t count = 0;
    if (find(tracee, &at, err) < 0 || read_pairs(tracee, at, pairs, &count, err) < 0)
        return -1;
    for (size_t i = 0; i < 2 * count; i += 2) {
        uint64_t value = value_for(table, pairs[i], pairs[i + 1]);
        if (value != pairs[i + 1] &&
            mask_tracee_write(tracee, at + (i + 1) * sizeof(value), &value, sizeof(value), err) < 0)
            return -1;
    }
    return 0;
}
