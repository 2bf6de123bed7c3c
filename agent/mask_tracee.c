/* SPDX-License-Identifier: Apache-2.0 */
/* mask_tracee.c - a stopped thread's memory and registers, and system calls that it is made to do.
 *
 * A call needs a SYSCALL instruction in the thread's own memory. The one that it stands behind, or
 * one of the vdso's, serves; no code is written over for it, as other threads may run it. */
#include "mask_tracee.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "mask_maps.h"
#include "process.h"

#define CALL_TIMEOUT_MS 10000 /* of mmap and mprotect; a busy machine takes some ms */
#define SPINS           256   /* looks without a pause: a stop takes some 10 us */
#define PAUSE_NS        20000
#define VDSO_BYTES_MAX  65536
#define SYSCALL_BYTES   2

static const uint8_t syscall_code[SYSCALL_BYTES] = {0x0f, 0x05};

/* What a system call returns inside the kernel when it is to be begun again; user space never sees
 * them, a tracer does (include/linux/errno.h). */
#define ERESTARTSYS           512
#define ERESTARTNOINTR        513
#define ERESTARTNOHAND        514
#define ERESTART_RESTARTBLOCK 516

/* ---- memory and registers */

/* ESRCH: the thread is no longer stopped, since it was killed. */
static int trace_error(const struct mask_tracee *tracee, const char *what, struct error *err)
{
    return error_errno(err, errno == ESRCH ? ERROR_NOT_FOUND : ERROR_FAILED, "cannot %s thread %d",
                       what, tracee->tid);
}

int mask_tracee_open(pid_t tid, struct mask_tracee *ret, struct error *err)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/mem", tid);
    *ret = (struct mask_tracee){.tid = tid, .memory = open(path, O_RDWR | O_CLOEXEC)};
    if (ret->memory < 0)
        return error_errno(err, errno == ENOENT || errno == ESRCH ? ERROR_NOT_FOUND : ERROR_FAILED,
                           "cannot open %s", path);
    return 0;
}

void mask_tracee_close(struct mask_tracee *tracee)
{
    if (tracee->memory >= 0)
        close(tracee->memory);
    tracee->memory = -1;
}

static int memory_error(const struct mask_tracee *tracee, const char *verb, uint64_t address,
                        ssize_t got, struct error *err)
{
    if (got >= 0)
        errno = EIO; /* not all of them */
    return error_errno(err, ERROR_FAILED, "cannot %s the memory of thread %d at 0x%llx", verb,
                       tracee->tid, (unsigned long long)address);
}

int mask_tracee_read(const struct mask_tracee *tracee, uint64_t address, void *buffer,
                     size_t length, struct error *err)
{
    ssize_t got = pread(tracee->memory, buffer, length, (off_t)address);
    if (got != (ssize_t)length)
        return memory_error(tracee, "read", address, got, err);
    return 0;
}

int mask_tracee_write(const struct mask_tracee *tracee, uint64_t address, const void *buffer,
                      size_t length, struct error *err)
{
    ssize_t put = pwrite(tracee->memory, buffer, length, (off_t)address);
    if (put != (ssize_t)length)
        return memory_error(tracee, "write", address, put, err);
    return 0;
}

static int read_for_image(void *ctx, uint64_t address, void *buffer, size_t length)
{
    return mask_tracee_read(ctx, address, buffer, length, NULL);
}

struct elf_memory mask_tracee_reader(struct mask_tracee *tracee)
{
    return (struct elf_memory){.read = read_for_image, .ctx = tracee};
}

int mask_tracee_registers(const struct mask_tracee *tracee, struct user_regs_struct *ret,
                          struct error *err)
{
    if (ptrace(PTRACE_GETREGS, tracee->tid, NULL, ret) < 0)
        return trace_error(tracee, "read the registers of", err);
    return 0;
}

int mask_tracee_set_registers(const struct mask_tracee *tracee,
                              const struct user_regs_struct *registers, struct error *err)
{
    if (ptrace(PTRACE_SETREGS, tracee->tid, NULL, registers) < 0)
        return trace_error(tracee, "set the registers of", err);
    return 0;
}

/* ---- where it stands */

/* PTRACE_SYSCALL_INFO_NONE, _ENTRY, _EXIT or _SECCOMP; -1 when it is gone. */
static int call_state(const struct mask_tracee *tracee)
{
    struct __ptrace_syscall_info info = {0};
    if (ptrace(PTRACE_GET_SYSCALL_INFO, tracee->tid, (void *)sizeof(info), &info) < 0)
        return -1;
    return info.op;
}

/* The kernel takes an interrupted call up again on its way out of the very stop that interrupted
 * it, and looks at the registers for that. These are looked at by nobody after another call, so it
 * is done by hand. */
static void take_up_again(struct user_regs_struct *registers)
{
    long result = (long)registers->rax;
    if ((long)registers->orig_rax < 0)
        return;
    if (result == -ERESTARTSYS || result == -ERESTARTNOINTR || result == -ERESTARTNOHAND)
        registers->rax = registers->orig_rax;
    else if (result == -ERESTART_RESTARTBLOCK)
        registers->rax = SYS_restart_syscall;
    else
        return;
    registers->rip -= SYSCALL_BYTES;
    registers->orig_rax = (unsigned long long)-1; /* in no call */
}

static int find_in_vdso(const struct mask_tracee *tracee, uint64_t *ret, struct error *err)
{
    AUTO(mask_maps) maps = NULL;
    if (mask_maps_read(tracee->tid, &maps, err) < 0)
        return -1;
    const struct mask_mapping *vdso = mask_maps_named(maps, "[vdso]");
    if (!vdso || vdso->end - vdso->start > VDSO_BYTES_MAX)
        return error_set(err, ERROR_FAILED,
                         "thread %d has no vdso, so there is no SYSCALL instruction to be used "
                         "(boot without vdso=0)",
                         tracee->tid);
    size_t length = vdso->end - vdso->start;
    autofree uint8_t *bytes = xmalloc(length);
    if (mask_tracee_read(tracee, vdso->start, bytes, length, err) < 0)
        return -1;
    const uint8_t *found = memmem(bytes, length, syscall_code, SYSCALL_BYTES);
    if (!found)
        return error_set(err, ERROR_FAILED, "the vdso of thread %d has no SYSCALL instruction",
                         tracee->tid);
    *ret = vdso->start + (uint64_t)(found - bytes);
    return 0;
}

static bool is_syscall(const struct mask_tracee *tracee, uint64_t at)
{
    uint8_t bytes[SYSCALL_BYTES];
    return mask_tracee_read(tracee, at, bytes, SYSCALL_BYTES, NULL) == 0 &&
           memcmp(bytes, syscall_code, SYSCALL_BYTES) == 0;
}

static int find_syscall(struct mask_tracee *tracee, const struct user_regs_struct *registers,
                        uint64_t *ret, struct error *err)
{
    if (is_syscall(tracee, registers->rip - SYSCALL_BYTES))
        tracee->syscall_at = registers->rip - SYSCALL_BYTES;
    else if (!(tracee->syscall_at && is_syscall(tracee, tracee->syscall_at)) &&
             find_in_vdso(tracee, &tracee->syscall_at, err) < 0)
        return -1;
    *ret = tracee->syscall_at;
    return 0;
}

/* ---- a call */

/* What came in between and has to come anew. */
struct between {
    bool stop_signal; /* SIGSTOP, which cannot be blocked */
    bool stopped;     /* its process was stopped, or we were about to interrupt it */
};

static int wait_stop(const struct mask_tracee *tracee, int *ret_status, struct error *err)
{
    const struct timespec pause = {.tv_nsec = PAUSE_NS};
    int64_t until_ms = process_now_ms() + CALL_TIMEOUT_MS;
    for (unsigned i = 0;; i++) {
        /* How it ends is for others to see: a stop alone is taken. */
        siginfo_t info = {0};
        if (waitid(P_PID, (id_t)tracee->tid, &info,
                   WEXITED | WSTOPPED | WNOHANG | WNOWAIT | __WALL) < 0 ||
            (info.si_pid && info.si_code != CLD_TRAPPED && info.si_code != CLD_STOPPED))
            return error_set(err, ERROR_NOT_FOUND, "thread %d has ended", tracee->tid);
        if (info.si_pid && waitpid(tracee->tid, ret_status, __WALL | WNOHANG) == tracee->tid)
            return 0;
        if (process_now_ms() > until_ms)
            return error_set(err, ERROR_TIMEOUT,
                             "thread %d did not finish a system call within %d s (is its control "
                             "group frozen?)",
                             tracee->tid, CALL_TIMEOUT_MS / 1000);
        if (i < SPINS)
            sched_yield();
        else
            nanosleep(&pause, NULL);
    }
}

static int forbidden(const struct mask_tracee *tracee, int signal, struct error *err)
{
    return error_set(err, ERROR_FAILED,
                     "thread %d got signal %d in a system call of ours: a seccomp filter of its "
                     "own forbids the call",
                     tracee->tid, signal);
}

/* From one stop to the next until the call's end. */
static int go_through(const struct mask_tracee *tracee, struct between *between, struct error *err)
{
    bool entered = false;
    for (;;) {
        int status = 0;
        if (ptrace(PTRACE_SYSCALL, tracee->tid, NULL, NULL) < 0)
            return trace_error(tracee, "continue", err);
        if (wait_stop(tracee, &status, err) < 0)
            return -1;
        int event = status >> 16, signal = WSTOPSIG(status);
        if (event == PTRACE_EVENT_STOP)
            between->stopped = true;
        else if (event == 0 && signal == SIGSTOP)
            between->stop_signal = true;
        else if (event == 0 && signal != (SIGTRAP | 0x80))
            return forbidden(tracee, signal, err);
        if (event || signal != (SIGTRAP | 0x80))
            continue;
        if (call_state(tracee) == PTRACE_SYSCALL_INFO_ENTRY)
            entered = true;
        else if (entered)
            return 0;
    }
}

/* With the signals blocked and the registers set for the call. */
static int run_call(struct mask_tracee *tracee, const struct mask_call *call,
                    const struct user_regs_struct *before, int64_t *ret, struct between *between,
                    struct error *err)
{
    struct user_regs_struct registers = *before;
    uint64_t at = 0;
    if (find_syscall(tracee, before, &at, err) < 0)
        return -1;
    registers.rip = at;
    registers.rax = (unsigned long long)call->number;
    registers.orig_rax = (unsigned long long)-1;
    registers.rdi = call->arguments[0];
    registers.rsi = call->arguments[1];
    registers.rdx = call->arguments[2];
    registers.r10 = call->arguments[3];
    registers.r8 = call->arguments[4];
    registers.r9 = call->arguments[5];
    if (mask_tracee_set_registers(tracee, &registers, err) < 0 ||
        go_through(tracee, between, err) < 0 || mask_tracee_registers(tracee, &registers, err) < 0)
        return -1;
    *ret = (int64_t)registers.rax;
    return 0;
}

static void bring_anew(const struct mask_tracee *tracee, const struct between *between)
{
    if (between->stop_signal)
        syscall(SYS_tkill, tracee->tid, SIGSTOP);
    if (between->stopped)
        ptrace(PTRACE_INTERRUPT, tracee->tid, NULL, NULL);
}

int mask_tracee_call(struct mask_tracee *tracee, const struct mask_call *call, int64_t *ret,
                     struct error *err)
{
    struct user_regs_struct before;
    uint64_t signals = 0, all = ~0ULL; /* the kernel's sigset_t has 64 bits */
    struct between between = {0};
    if (mask_tracee_registers(tracee, &before, err) < 0)
        return -1;
    /* At the end of a call the kernel has yet to look at the registers. */
    if (call_state(tracee) == PTRACE_SYSCALL_INFO_NONE)
        take_up_again(&before);
    tracee->has_called = true;
    if (ptrace(PTRACE_GETSIGMASK, tracee->tid, (void *)sizeof(signals), &signals) < 0 ||
        ptrace(PTRACE_SETSIGMASK, tracee->tid, (void *)sizeof(all), &all) < 0)
        return trace_error(tracee, "block the signals of", err);
    int rc = run_call(tracee, call, &before, ret, &between, err);
    /* Also after a failure: it goes on as if nothing had been, if its owner wants that. */
    if (mask_tracee_set_registers(tracee, &before, rc < 0 ? NULL : err) < 0)
        rc = -1;
    ptrace(PTRACE_SETSIGMASK, tracee->tid, (void *)sizeof(signals), &signals);
    bring_anew(tracee, &between);
    return rc;
}
