/* SPDX-License-Identifier: Apache-2.0 */
/* disassembly.h - one x86-64 instruction at a time: its length, where it leads, what in it depends
 * on its place; disassembly.c is the one door to Zydis.
 *
 * Nothing here is kept between calls, so any number of threads may call. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INSTRUCTION_BYTES_MAX 15 /* Intel SDM volume 2, 2.3.11 */

/* Where the CPU goes on. */
enum instruction_flow {
    INSTRUCTION_NEXT,          /* behind it */
    INSTRUCTION_CALL,          /* at `relative`, and behind it unless that never returns */
    INSTRUCTION_CALL_COMPUTED, /* somewhere, and then behind it */
    INSTRUCTION_BRANCH,        /* at `relative` or behind it */
    INSTRUCTION_JUMP,          /* at `relative` */
    INSTRUCTION_JUMP_COMPUTED, /* somewhere */
    INSTRUCTION_STOP,          /* ret, ud2, hlt, int3: not behind it */
};

struct instruction {
    uint8_t length;
    enum instruction_flow flow;
    bool is_cpuid;
    bool is_padding; /* int3 or some form of nop */
    bool is_short;   /* a branch that has no longer form: loop, jrcxz */
    /* The field in it that counts from the next instruction; size 0: nothing depends on its
     * place. Its branch target or the address of its operand is `relative`. */
    uint8_t relative_at, relative_size;
    uint64_t relative;
    uint64_t table; /* of an operand [table + register * 8]; 0: none such */
};

/* The four registers that CPUID overwrites, as bits. */
enum {
    REGISTER_EAX = 1,
    REGISTER_EBX = 2,
    REGISTER_ECX = 4,
    REGISTER_EDX = 8,
    REGISTERS_OF_CPUID = 15,
};

/* What tells a use of CPUID from data that happens to hold its bytes. A register stands for all of
 * its parts. */
struct instruction_use {
    uint8_t reads, writes; /* the registers themselves */
    uint8_t addresses;     /* registers that an address in memory is made of */
    bool is_unusual;       /* valid, and hardly ever in a program's code */
};

/* Decodes what begins at `bytes`, of which `size` are there, as if it lay at `address`. False when
 * that is no instruction. */
bool instruction_decode(const uint8_t *bytes, size_t size, uint64_t address,
                        struct instruction *ret);
/* The same with its operands, three times as slow; either result may be NULL. */
bool instruction_decode_use(const uint8_t *bytes, size_t size, uint64_t address,
                            struct instruction *ret, struct instruction_use *ret_use);
