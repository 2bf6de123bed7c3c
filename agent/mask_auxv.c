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
#define PAIRS_MAX 64
#define CHUNK     512 /* words read at a time */

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

/* The word behind the next zero from `at` on. The stack may end within what is read at a time, so
 * the last words are read one by one. */
static int behind_zero(const struct mask_tracee *tracee, uint64_t at, uint64_t *ret,
                       struct error *err)
{
    uint64_t words[CHUNK];
    for (size_t done = 0; done < WORDS_MAX;) {
        size_t wanted = CHUNK;
        if (mask_tracee_read(tracee, at, words, sizeof(words), NULL) < 0) {
            wanted = 1;
            if (mask_tracee_read(tracee, at, words, sizeof(words[0]), err) < 0)
                return -1;
        }
        for (size_t i = 0; i < wanted; i++)
            if (words[i] == 0) {
                *ret = at + (i + 1) * sizeof(words[0]);
                return 0;
            }
        at += wanted * sizeof(words[0]);
        done += wanted;
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

int mask_auxv_rewrite(const struct mask_tracee *tracee, const struct mask_island_table *table,
                      struct error *err)
{
    uint64_t at = 0;
    if (find(tracee, &at, err) < 0)
        return -1;
    for (size_t i = 0; i < PAIRS_MAX; i++) {
        uint64_t pair[2];
        if (mask_tracee_read(tracee, at, pair, sizeof(pair), err) < 0)
            return -1;
        if (pair[0] == AT_NULL)
            return 0;
        uint64_t value = value_for(table, pair[0], pair[1]);
        if (value != pair[1] &&
            mask_tracee_write(tracee, at + sizeof(pair[0]), &value, sizeof(value), err) < 0)
            return -1;
        at += sizeof(pair);
    }
    return not_found(tracee, err);
}
