/* SPDX-License-Identifier: Apache-2.0 */
/* mask_tracee.h - one stopped thread that we trace: its memory, its registers, and system calls in
 * its name.
 *
 * Everything here wants a thread in a ptrace stop, traced by the calling thread with
 * PTRACE_O_TRACESYSGOOD. ERROR_NOT_FOUND means that it is gone (somebody killed it): that is no
 * failure of ours, and how it ended is still to be waited for. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

#include "cleanup.h"
#include "elf_view.h"
#include "error.h"

struct mask_tracee {
    pid_t tid;
    int memory;      /* /proc/TID/mem, as the thread has it now: another one after an execve */
    bool has_called; /* mask_tracee_call was used: it stands in another stop than before */
    uint64_t
        syscall_at; /* a SYSCALL instruction that was found for such calls; 0: not looked for */
};

int mask_tracee_open(pid_t tid, struct mask_tracee *ret, struct error *err);
void mask_tracee_close(struct mask_tracee *tracee);

/* All of them or an error. Writing heeds no protection of the page; it never writes through to a
 * file, as long as the mapping is private. */
int mask_tracee_read(const struct mask_tracee *tracee, uint64_t address, void *buffer,
                     size_t length, struct error *err);
int mask_tracee_write(const struct mask_tracee *tracee, uint64_t address, const void *buffer,
                      size_t length, struct error *err);
/* The same for those who read ELF images; `ret` borrows the tracee. */
struct elf_memory mask_tracee_reader(struct mask_tracee *tracee);

int mask_tracee_registers(const struct mask_tracee *tracee, struct user_regs_struct *ret,
                          struct error *err);
int mask_tracee_set_registers(const struct mask_tracee *tracee,
                              const struct user_regs_struct *registers, struct error *err);

struct mask_call {
    long number;
    uint64_t arguments[6];
};

/* Makes the thread do a system call and stops it where it was, with the registers that it had. A
 * call that its stop has cut short is taken up again afterwards. Signals wait meanwhile; a stop of
 * its process that comes in between comes anew. Not in the stop of PTRACE_EVENT_EXEC, where the
 * execve has yet to end. *ret is what the kernel returned (-errno where it refused).
 * Errors: ERROR_NOT_FOUND, ERROR_TIMEOUT, ERROR_FAILED. */
int mask_tracee_call(struct mask_tracee *tracee, const struct mask_call *call, int64_t *ret,
                     struct error *err);
