/* SPDX-License-Identifier: Apache-2.0 */
/* mask_tracer.c - the tracer of a masked tree: what each stop of a thread means, and what is done.
 *
 *   execve            stop in it, go to its end, mask all that is mapped, put the auxv right
 *   mmap, mprotect    (PROT_EXEC: the filter) go to its end, mask what it made executable
 *   fork, clone       the new thread is traced from its birth; it gets its maker's record
 *   SIGSEGV           at a trap of ours: lead it to the stub; any other is the program's own
 *   signals, stops    as they are
 */
#include <linux/kcmp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "mask_auxv.h"
#include "mask_filter.h"
#include "mask_tracee.h"
#include "mask_tracer_internal.h"
#include "process.h"

#define KILL_TIMEOUT_MS 10000
#define HELD_TIMEOUT_MS 2000 /* a new thread whose maker never told of it: that was killed */
#define SPINS           256
#define PAUSE_NS        50000
#define CODE_SEGMENT_64 0x33 /* cs of 64-bit code; i386 has 0x23 */

#define OPTIONS                                                                              \
    (PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | \
     PTRACE_O_TRACECLONE | PTRACE_O_TRACESECCOMP)

/* ---- ends */

void mask_tracer_pause(unsigned round)
{
    const struct timespec pause = {.tv_nsec = PAUSE_NS};
    if (round < SPINS)
        sched_yield();
    else
        nanosleep(&pause, NULL);
}

static void note_end(struct mask_tracer *tracer, pid_t tid, int status)
{
    if (tid == tracer->root) {
        tracer->has_ended = true;
        tracer->status = status;
    }
    mask_tasks_drop(&tracer->tasks, tid);
}

static void kill_known(const struct mask_tracer *tracer)
{
    for (size_t i = 0; i < MASK_TASK_BUCKETS; i++)
        for (const struct mask_task *t = tracer->tasks.buckets[i]; t; t = t->next)
            kill(t->tid, SIGKILL);
}

/* Until none is left; also those that turn up meanwhile. */
static void kill_all(struct mask_tracer *tracer)
{
    int64_t until_ms = process_now_ms() + KILL_TIMEOUT_MS;
    kill_known(tracer);
    for (unsigned i = 0; process_now_ms() < until_ms;) {
        int status = 0;
        pid_t tid = waitpid(-1, &status, __WALL | __WNOTHREAD | WNOHANG);
        if (tid < 0 && errno != EINTR)
            break;
        if (tid <= 0)
            mask_tracer_pause(i++);
        else if (WIFSTOPPED(status))
            kill(tid, SIGKILL);
        else
            note_end(tracer, tid, status);
    }
    mask_tasks_done(&tracer->tasks);
}

/* A failure counts only if the thread is still there to run on. */
static bool is_gone(pid_t tid, const struct error *failure)
{
    struct user_regs_struct registers;
    if (failure->kind == ERROR_NOT_FOUND)
        return true;
    return failure->kind != ERROR_TIMEOUT && ptrace(PTRACE_GETREGS, tid, NULL, &registers) < 0 &&
           errno == ESRCH;
}

/* ---- what is done at a stop */

static void go_on(pid_t tid, int signal)
{
    ptrace(PTRACE_CONT, tid, NULL, (void *)(intptr_t)signal); /* one that was killed is gone */
}

/* Any stop takes away an interrupt that is on its way to the thread (ptrace_stop in
 * kernel/signal.c). While threads are to be parked it is sent anew. */
static void carry_on(const struct mask_tracer *tracer, pid_t tid, int signal)
{
    if (tracer->parks)
        ptrace(PTRACE_INTERRUPT, tid, NULL, NULL);
    go_on(tid, signal);
}

static void go_to_end_of_call(pid_t tid)
{
    ptrace(PTRACE_SYSCALL, tid, NULL, NULL);
}

static int check_64bit(const struct mask_tracee *tracee, struct error *err)
{
    struct user_regs_struct registers;
    if (mask_tracee_registers(tracee, &registers, err) < 0)
        return -1;
    if (registers.cs != CODE_SEGMENT_64)
        return error_set(err, ERROR_REJECTED, "process %d has started a 32-bit program",
                         tracee->tid);
    return 0;
}

/* Before the first instruction of a new program. */
static int mask_program(struct mask_tracer *tracer, struct mask_task *task, struct error *err)
{
    struct mask_tracee tracee;
    mask_process_free(task->process);
    task->process = mask_process_new(&tracer->mask);
    if (mask_tracee_open(task->tid, &tracee, err) < 0)
        return -1;
    int rc = check_64bit(&tracee, err) < 0 ||
                     mask_process_cover(task->process, &tracee, 0, UINT64_MAX, err) < 0 ||
                     mask_auxv_rewrite(&tracee, tracer->mask.table, err) < 0
                 ? -1
                 : 0;
    mask_tracee_close(&tracee);
    mask_tracer_note(tracer, task->process);
    if (rc == 0 && task->tid == tracer->root)
        tracer->is_masked = true;
    return rc;
}

void mask_tracer_note(struct mask_tracer *tracer, const struct mask_process *process)
{
    struct mask_coverage now = mask_process_coverage(process), *most = &tracer->most;
    most->detours = now.detours > most->detours ? now.detours : most->detours;
    most->traps = now.traps > most->traps ? now.traps : most->traps;
    for (unsigned i = 0; i < MASK_LACK_COUNT; i++)
        most->lacks[i] = now.lacks[i] > most->lacks[i] ? now.lacks[i] : most->lacks[i];
}

static int cover(struct mask_tracer *tracer, struct mask_task *task, uint64_t from, uint64_t to,
                 struct error *err)
{
    struct mask_tracee tracee;
    if (mask_tracee_open(task->tid, &tracee, err) < 0)
        return -1;
    int rc = mask_process_cover(task->process, &tracee, from, to, err);
    mask_tracee_close(&tracee);
    mask_tracer_note(tracer, task->process);
    return rc;
}

/* At the end of a call that may have brought code. */
static int mask_new_code(struct mask_tracer *tracer, struct mask_task *task, struct error *err)
{
    struct __ptrace_syscall_info info = {0};
    if (ptrace(PTRACE_GET_SYSCALL_INFO, task->tid, (void *)sizeof(info), &info) < 0)
        return error_errno(err, errno == ESRCH ? ERROR_NOT_FOUND : ERROR_FAILED,
                           "cannot look at a call of thread %d", task->tid);
    if (info.op != PTRACE_SYSCALL_INFO_EXIT || info.exit.is_error)
        return 0;
    uint64_t from = task->is_mmap ? (uint64_t)info.exit.rval : task->call_address;
    uint64_t to = from + task->call_length;
    return cover(tracer, task, from, to > from ? to : UINT64_MAX, err);
}

static int at_end_of_call(struct mask_tracer *tracer, struct mask_task *task, struct error *err)
{
    enum mask_task_state state = task->state;
    task->state = MASK_TASK_RUNS;
    switch (state) {
    case MASK_TASK_IN_EXEC:
        return mask_program(tracer, task, err);
    case MASK_TASK_IN_CALL:
        return mask_new_code(tracer, task, err);
    case MASK_TASK_RUNS:
        break;
    }
    return 0;
}

/* The filter has stopped it before a call. */
static int at_filter(struct mask_task *task, struct error *err)
{
    struct __ptrace_syscall_info info = {0};
    if (ptrace(PTRACE_GET_SYSCALL_INFO, task->tid, (void *)sizeof(info), &info) < 0)
        return error_errno(err, errno == ESRCH ? ERROR_NOT_FOUND : ERROR_FAILED,
                           "cannot look at a call of thread %d", task->tid);
    if (!task->process)
        return 0; /* the child that is yet to become the program */
    enum mask_filter_verdict verdict =
        mask_filter_look(info.arch, info.seccomp.nr, info.seccomp.args, &task->is_mmap);
    if (verdict == MASK_FILTER_FOREIGN)
        return error_set(err, ERROR_REJECTED, "thread %d did a 32-bit system call", task->tid);
    if (verdict == MASK_FILTER_CODE) {
        task->state = MASK_TASK_IN_CALL;
        task->call_address = info.seccomp.args[0];
        task->call_length = info.seccomp.args[1];
    }
    return 0;
}

/* Another program: all other threads are gone, and the one that did it has the process's number. */
static void at_exec(struct mask_tracer *tracer, struct mask_task *task)
{
    unsigned long former = 0;
    if (ptrace(PTRACE_GETEVENTMSG, task->tid, NULL, &former) == 0 && (pid_t)former != task->tid)
        mask_tasks_drop(&tracer->tasks, (pid_t)former);
    task->state = MASK_TASK_IN_EXEC;
}

/* ---- births */

bool mask_tracer_shares_memory(pid_t a, pid_t b)
{
    return syscall(SYS_kcmp, a, b, KCMP_VM, 0UL, 0UL) == 0;
}

void mask_tracer_resume(const struct mask_task *task, int signal)
{
    if (signal == SIGTRAP)
        go_on(task->tid, 0);
    else
        ptrace(PTRACE_LISTEN, task->tid, NULL, NULL);
}

/* Out of a stop that is no signal's; or it stays in it. */
static int leave_stop(struct mask_tracer *tracer, struct mask_task *task, int signal,
                      struct error *err)
{
    if (task->look_again && cover(tracer, task, 0, UINT64_MAX, err) < 0)
        return -1;
    task->look_again = false;
    if (tracer->parks)
        mask_tasks_park(&tracer->tasks, task, signal);
    else
        mask_tracer_resume(task, signal);
    return 0;
}

static void unhold(struct mask_tracer *tracer, struct mask_task *task)
{
    tracer->tasks.held -= task->held_at_ms != 0;
    task->held_at_ms = 0;
}

/* A thread has made another one, whose first stop has come or will come. */
static int at_birth(struct mask_tracer *tracer, const struct mask_task *maker, struct error *err)
{
    unsigned long tid = 0;
    if (ptrace(PTRACE_GETEVENTMSG, maker->tid, NULL, &tid) < 0 || !tid ||
        (kill((pid_t)tid, 0) < 0 && errno == ESRCH))
        return 0; /* one of them was killed, and was or will be told of as gone */
    struct mask_task *task = mask_tasks_need(&tracer->tasks, (pid_t)tid);
    if (task->is_known)
        return 0;
    task->is_known = true;
    if (maker->process && mask_tracer_shares_memory(maker->tid, task->tid)) {
        task->process = mask_process_ref(maker->process);
    } else if (maker->process) {
        task->process = mask_process_copy(maker->process);
        task->look_again = mask_process_is_shared(maker->process);
    }
    if (!task->held_at_ms)
        return 0;
    unhold(tracer, task);
    struct error failure = {0};
    if (leave_stop(tracer, task, task->held_signal, &failure) == 0 || is_gone(task->tid, &failure))
        return 0;
    return error_set(err, failure.kind, "%s", failure.message);
}

/* The first stop of a new thread, a stop of its process, or the end of one. */
static int at_event_stop(struct mask_tracer *tracer, struct mask_task *task, int signal,
                         struct error *err)
{
    if (task->is_known)
        return leave_stop(tracer, task, signal, err);
    task->held_at_ms = process_now_ms();
    task->held_signal = signal;
    tracer->tasks.held++;
    return 0;
}

/* Those whose makers were killed before they could tell of them: nobody knows what is in them. */
static void kill_forgotten(struct mask_tracer *tracer)
{
    int64_t now_ms = process_now_ms();
    for (size_t i = 0; tracer->tasks.held && i < MASK_TASK_BUCKETS; i++)
        for (struct mask_task *t = tracer->tasks.buckets[i]; t; t = t->next)
            if (t->held_at_ms && now_ms - t->held_at_ms > HELD_TIMEOUT_MS) {
                unhold(tracer, t);
                kill(t->tid, SIGKILL);
            }
}

/* ---- signals */

/* Whether that was a trap of ours; the thread then goes on in the stub. */
static bool lead_to_stub(const struct mask_task *task)
{
    siginfo_t info;
    struct user_regs_struct registers;
    if (!task->process || ptrace(PTRACE_GETSIGINFO, task->tid, NULL, &info) < 0 ||
        info.si_code != SI_KERNEL || ptrace(PTRACE_GETREGS, task->tid, NULL, &registers) < 0)
        return false;
    uint64_t stub = mask_process_trap(task->process, registers.rip);
    if (!stub)
        return false;
    registers.rip = stub;
    return ptrace(PTRACE_SETREGS, task->tid, NULL, &registers) == 0;
}

static void at_signal(const struct mask_tracer *tracer, const struct mask_task *task, int signal)
{
    carry_on(tracer, task->tid, signal == SIGSEGV && lead_to_stub(task) ? 0 : signal);
}

/* ---- stops */

static int at_stop(struct mask_tracer *tracer, struct mask_task *task, int status,
                   struct error *err)
{
    int signal = WSTOPSIG(status);
    pid_t tid = task->tid;
    switch (status >> 16) {
    case PTRACE_EVENT_STOP:
        return at_event_stop(tracer, task, signal, err);
    case PTRACE_EVENT_EXEC:
        at_exec(tracer, task);
        go_to_end_of_call(tid);
        return 0;
    case PTRACE_EVENT_SECCOMP:
        if (at_filter(task, err) < 0)
            return -1;
        if (task->state == MASK_TASK_IN_CALL)
            go_to_end_of_call(tid);
        else
            carry_on(tracer, tid, 0);
        return 0;
    case PTRACE_EVENT_FORK:
    case PTRACE_EVENT_VFORK:
    case PTRACE_EVENT_CLONE:
        if (at_birth(tracer, task, err) < 0)
            return -1;
        carry_on(tracer, tid, 0);
        return 0;
    default:
        break;
    }
    if (signal == (SIGTRAP | 0x80)) {
        if (at_end_of_call(tracer, task, err) < 0)
            return -1;
        carry_on(tracer, tid, 0);
    } else {
        at_signal(tracer, task, signal);
    }
    return 0;
}

static int attend_to(struct mask_tracer *tracer, pid_t tid, int status, struct error *err)
{
    struct error failure = {0};
    if (!WIFSTOPPED(status)) {
        note_end(tracer, tid, status);
        return 0;
    }
    struct mask_task *task = mask_tasks_need(&tracer->tasks, tid);
    mask_tasks_unpark(&tracer->tasks, task);
    if (at_stop(tracer, task, status, &failure) == 0 || is_gone(tid, &failure))
        return 0;
    kill_all(tracer);
    error_set(err, ERROR_FAILED, "%s", failure.message);
    return error_wrap(err, "'%s' was killed with all that came from it, as it cannot be masked",
                      tracer->name);
}

int mask_tracer_attend(struct mask_tracer *tracer, bool wait, bool *ret_lives, struct error *err)
{
    *ret_lives = true;
    for (unsigned i = 0;;) {
        int status = 0;
        /* Held threads have a limit, and waitpid has none. */
        bool block = wait && !tracer->tasks.held;
        pid_t tid = waitpid(-1, &status, __WALL | __WNOTHREAD | (block ? 0 : WNOHANG));
        if (tid < 0 && errno == ECHILD) {
            *ret_lives = false;
            return 0;
        }
        if (tid < 0)
            return 0; /* a signal to the caller */
        if (tid > 0 && attend_to(tracer, tid, status, err) < 0) {
            *ret_lives = false;
            return -1;
        }
        if (tid > 0) {
            wait = false; /* the others, as far as they are there */
            continue;
        }
        kill_forgotten(tracer);
        if (!wait)
            return 0;
        mask_tracer_pause(i++);
    }
}

/* ---- births of tracers and trees */

struct mask_tracer *mask_tracer_new(const struct mask_tracer_options *options)
{
    struct mask_tracer *tracer = xcalloc(1, sizeof(*tracer));
    tracer->mask = options->mask;
    tracer->name = xstrdup(options->name);
    tracer->options = OPTIONS | (options->kill_at_end ? PTRACE_O_EXITKILL : 0);
    return tracer;
}

int mask_tracer_seize(struct mask_tracer *tracer, pid_t pid, struct error *err)
{
    if (ptrace(PTRACE_SEIZE, pid, NULL, (void *)tracer->options) < 0)
        return error_errno(err, ERROR_FAILED, "cannot trace '%s'", tracer->name);
    tracer->root = pid;
    mask_tasks_need(&tracer->tasks, pid)->is_known = true;
    return 0;
}

void mask_tracer_free(struct mask_tracer *tracer)
{
    if (!tracer)
        return;
    if (tracer->tasks.count)
        kill_all(tracer);
    mask_tasks_done(&tracer->tasks);
    free(tracer->name);
    free(tracer);
}

/* ---- telling */

pid_t mask_tracer_root(const struct mask_tracer *tracer)
{
    return tracer->root;
}

bool mask_tracer_is_masked(const struct mask_tracer *tracer)
{
    return tracer->is_masked;
}

bool mask_tracer_ended(const struct mask_tracer *tracer, int *ret_status)
{
    *ret_status = tracer->status;
    return tracer->has_ended;
}

const struct mask_process *mask_tracer_process(const struct mask_tracer *tracer)
{
    const struct mask_task *task = mask_tasks_find(&tracer->tasks, tracer->root);
    return task ? task->process : NULL;
}

struct mask_coverage mask_tracer_coverage(const struct mask_tracer *tracer)
{
    return tracer->most;
}

size_t mask_tracer_threads(const struct mask_tracer *tracer)
{
    return tracer->tasks.count;
}

bool mask_tracer_waits(const struct mask_tracer *tracer)
{
    return tracer->tasks.held > 0;
}
