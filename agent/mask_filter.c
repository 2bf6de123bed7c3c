/* SPDX-License-Identifier: Apache-2.0 */
/* mask_filter.c - the filter's program, and the same rules for who looks at the stopped call. */
#include "mask_filter.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define X32_BIT 0x40000000U /* the x32 ABI has the same numbers with this bit */

int mask_filter_install(void)
{
    /* PROT_EXEC is in the low half of the third argument. */
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 9),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, ~X32_BIT),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pkey_mprotect, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_execve, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_execveat, 2, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog filter = {sizeof(program) / sizeof(program[0]), program};
    /* Some kernels slow down speculation of whoever has a filter, unless it says that it need not.
     */
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW,
                        &filter);
}

enum mask_filter_verdict mask_filter_look(uint32_t arch, uint64_t number, const uint64_t *arguments,
                                          bool *ret_is_mmap)
{
    if (arch != AUDIT_ARCH_X86_64 || number & X32_BIT)
        return MASK_FILTER_FOREIGN;
    *ret_is_mmap = number == SYS_mmap;
    if ((number == SYS_mmap || number == SYS_mprotect || number == SYS_pkey_mprotect) &&
        arguments[2] & PROT_EXEC)
        return MASK_FILTER_CODE;
    return MASK_FILTER_OTHER;
}
