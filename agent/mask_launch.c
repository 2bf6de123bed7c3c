/* SPDX-License-Identifier: Apache-2.0 */
/* mask_launch.c - the tracer of a masked tree: what each stop of a thread means, and what is done.
 *
 *   execve            stop in it, go to its end, mask all that is mapped, put the auxv right
 *   mmap, mprotect    (PROT_EXEC: the filter) go to its end, mask what it made executable
 *   fork, clone       the new thread is traced from its birth; it gets its maker's record
 *   SIGSEGV           at a trap of ours: lead it to the stub; any other is the program's own
 *   signals, stops    as they are
 */
#include "mask_launch.h"

#include <fcntl.h>
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
#include "mask_tasks.h"
#include "mask_tracee.h"
#include "process.h"

#define START_TIMEOUT_MS 60000 /* a first look at a large program takes a second */
#define KILL_TIMEOUT_MS  10000
#define HELD_TIMEOUT_MS  2000 /* a new thread whose maker never told of it: that was killed */
#define SPINS            256
#define PAUSE_NS         50000
#define CODE_SEGMENT_64  0x33 /* cs of 64-bit code; i386 has 0x23 */

#define OPTIONS                                                                              \
    (PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | \
     PTRACE_O_TRACECLONE | PTRACE_O_TRACESECCOMP | PTRACE_O_EXITKILL)

struct mask_launch {
    struct mask_process_options mask;
    char *name; /* owned; argv[0], for messages */
    pid_t pid;
    bool is_masked; /* its first program was */
    bool has_ended;
    int status;
    struct mask_tasks tasks;
};

/* ---- ends */

static void pause_a_little(unsigned round)
{
    const struct timespec pause = {.tv_nsec = PAUSE_NS};
    if (round < SPINS)
        sched_yield();
    else
        nanosleep(&pause, NULL);
}

static void note_end(struct mask_launch *launch, pid_t tid, int status)
{
    if (tid == launch->pid) {
        launch->has_ended = true;
        launch->status = status;
    }
    mask_tasks_drop(&launch->tasks, tid);
}

static void kill_known(const struct mask_launch *launch)
{
    for (size_t i = 0; i < MASK_TASK_BUCKETS; i++)
        for (const struct mask_task *t = launch->tasks.buckets[i]; t; t = t->next)
            kill(t->tid, SIGKILL);
}

/* Until none is left; also those that turn up meanwhile. */
static void kill_all(struct mask_launch *launch)
{
    int64_t until_ms = process_now_ms() + KILL_TIMEOUT_MS;
    kill_known(launch);
    for (unsigned i = 0; process_now_ms() < until_ms;) {
        int status = 0;
        pid_t tid = waitpid(-1, &status, __WALL | __WNOTHREAD | WNOHANG);
        if (tid < 0 && errno != EINTR)
            break;
        if (tid <= 0)
            pause_a_little(i++);
        else if (WIFSTOPPED(status))
            kill(tid, SIGKILL);
        else
            note_end(launch, tid, status);
    }
    mask_tasks_done(&launch->tasks);
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
static int mask_program(struct mask_launch *launch, struct mask_task *task, struct error *err)
{
    struct mask_tracee tracee;
    mask_process_free(task->process);
    task->process = mask_process_new(&launch->mask);
    if (mask_tracee_open(task->tid, &tracee, err) < 0)
        return -1;
    int rc = check_64bit(&tracee, err) < 0 ||
                     mask_process_cover(task->process, &tracee, 0, UINT64_MAX, err) < 0 ||
                     mask_auxv_rewrite(&tracee, launch->mask.table, err) < 0
                 ? -1
                 : 0;
    mask_tracee_close(&tracee);
    if (rc == 0 && task->tid == launch->pid)
        launch->is_masked = true;
    return rc;
}

static int cover(struct mask_task *task, uint64_t from, uint64_t to, struct error *err)
{
    struct mask_tracee tracee;
    if (mask_tracee_open(task->tid, &tracee, err) < 0)
        return -1;
    int rc = mask_process_cover(task->process, &tracee, from, to, err);
    mask_tracee_close(&tracee);
    return rc;
}

/* At the end of a call that may have brought code. */
static int mask_new_code(struct mask_task *task, struct error *err)
{
    struct __ptrace_syscall_info info = {0};
    if (ptrace(PTRACE_GET_SYSCALL_INFO, task->tid, (void *)sizeof(info), &info) < 0)
        return error_errno(err, errno == ESRCH ? ERROR_NOT_FOUND : ERROR_FAILED,
                           "cannot look at a call of thread %d", task->tid);
    if (info.op != PTRACE_SYSCALL_INFO_EXIT || info.exit.is_error)
        return 0;
    uint64_t from = task->is_mmap ? (uint64_t)info.exit.rval : task->call_address;
    uint64_t to = from + task->call_length;
    return cover(task, from, to > from ? to : UINT64_MAX, err);
}

static int at_end_of_call(struct mask_launch *launch, struct mask_task *task, struct error *err)
{
    enum mask_task_state state = task->state;
    task->state = MASK_TASK_RUNS;
    switch (state) {
    case MASK_TASK_IN_EXEC:
        return mask_program(launch, task, err);
    case MASK_TASK_IN_CALL:
        return mask_new_code(task, err);
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
static void at_exec(struct mask_launch *launch, struct mask_task *task)
{
    unsigned long former = 0;
    if (ptrace(PTRACE_GETEVENTMSG, task->tid, NULL, &former) == 0 && (pid_t)former != task->tid)
        mask_tasks_drop(&launch->tasks, (pid_t)former);
    task->state = MASK_TASK_IN_EXEC;
}

/* ---- births */

static bool shares_memory(pid_t a, pid_t b)
{
    return syscall(SYS_kcmp, a, b, KCMP_VM, 0UL, 0UL) == 0;
}

/* Out of a stop that is no signal's: its process has been stopped, until SIGCONT, or not. */
static int leave_stop(struct mask_task *task, int signal, struct error *err)
{
    if (task->look_again && cover(task, 0, UINT64_MAX, err) < 0)
        return -1;
    task->look_again = false;
    if (signal == SIGTRAP)
        go_on(task->tid, 0);
    else
        ptrace(PTRACE_LISTEN, task->tid, NULL, NULL);
    return 0;
}

static void unhold(struct mask_launch *launch, struct mask_task *task)
{
    launch->tasks.held -= task->held_at_ms != 0;
    task->held_at_ms = 0;
}

/* A thread has made another one, whose first stop has come or will come. */
static int at_birth(struct mask_launch *launch, const struct mask_task *maker, struct error *err)
{
    unsigned long tid = 0;
    if (ptrace(PTRACE_GETEVENTMSG, maker->tid, NULL, &tid) < 0 || !tid ||
        (kill((pid_t)tid, 0) < 0 && errno == ESRCH))
        return 0; /* one of them was killed, and was or will be told of as gone */
    struct mask_task *task = mask_tasks_need(&launch->tasks, (pid_t)tid);
    if (task->is_known)
        return 0;
    task->is_known = true;
    if (maker->process && shares_memory(maker->tid, task->tid)) {
        task->process = mask_process_ref(maker->process);
    } else if (maker->process) {
        task->process = mask_process_copy(maker->process);
        task->look_again = mask_process_is_shared(maker->process);
    }
    if (!task->held_at_ms)
        return 0;
    unhold(launch, task);
    struct error failure = {0};
    if (leave_stop(task, task->held_signal, &failure) == 0 || is_gone(task->tid, &failure))
        return 0;
    return error_set(err, failure.kind, "%s", failure.message);
}

/* The first stop of a new thread, a stop of its process, or the end of one. */
static int at_event_stop(struct mask_launch *launch, struct mask_task *task, int signal,
                         struct error *err)
{
    if (task->is_known)
        return leave_stop(task, signal, err);
    task->held_at_ms = process_now_ms();
    task->held_signal = signal;
    launch->tasks.held++;
    return 0;
}

/* Those whose makers were killed before they could tell of them: nobody knows what is in them. */
static void kill_forgotten(struct mask_launch *launch)
{
    int64_t now_ms = process_now_ms();
    for (size_t i = 0; launch->tasks.held && i < MASK_TASK_BUCKETS; i++)
        for (struct mask_task *t = launch->tasks.buckets[i]; t; t = t->next)
            if (t->held_at_ms && now_ms - t->held_at_ms > HELD_TIMEOUT_MS) {
                unhold(launch, t);
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

static void at_signal(const struct mask_task *task, int signal)
{
    go_on(task->tid, signal == SIGSEGV && lead_to_stub(task) ? 0 : signal);
}

/* ---- stops */

static int at_stop(struct mask_launch *launch, struct mask_task *task, int status,
                   struct error *err)
{
    int signal = WSTOPSIG(status);
    pid_t tid = task->tid;
    switch (status >> 16) {
    case PTRACE_EVENT_STOP:
        return at_event_stop(launch, task, signal, err);
    case PTRACE_EVENT_EXEC:
        at_exec(launch, task);
        go_to_end_of_call(tid);
        return 0;
    case PTRACE_EVENT_SECCOMP:
        if (at_filter(task, err) < 0)
            return -1;
        if (task->state == MASK_TASK_IN_CALL)
            go_to_end_of_call(tid);
        else
            go_on(tid, 0);
        return 0;
    case PTRACE_EVENT_FORK:
    case PTRACE_EVENT_VFORK:
    case PTRACE_EVENT_CLONE:
        if (at_birth(launch, task, err) < 0)
            return -1;
        go_on(tid, 0);
        return 0;
    default:
        break;
    }
    if (signal == (SIGTRAP | 0x80)) {
        if (at_end_of_call(launch, task, err) < 0)
            return -1;
        go_on(tid, 0);
    } else {
        at_signal(task, signal);
    }
    return 0;
}

static int attend_to(struct mask_launch *launch, pid_t tid, int status, struct error *err)
{
    struct error failure = {0};
    if (!WIFSTOPPED(status)) {
        note_end(launch, tid, status);
        return 0;
    }
    struct mask_task *task = mask_tasks_need(&launch->tasks, tid);
    if (at_stop(launch, task, status, &failure) == 0 || is_gone(tid, &failure))
        return 0;
    kill_all(launch);
    error_set(err, ERROR_FAILED, "%s", failure.message);
    return error_wrap(err, "'%s' was killed with all that came from it, as it cannot be masked",
                      launch->name);
}

int mask_launch_attend(struct mask_launch *launch, bool wait, bool *ret_lives, struct error *err)
{
    *ret_lives = true;
    for (unsigned i = 0;;) {
        int status = 0;
        /* Held threads have a limit, and waitpid has none. */
        bool block = wait && !launch->tasks.held;
        pid_t tid = waitpid(-1, &status, __WALL | __WNOTHREAD | (block ? 0 : WNOHANG));
        if (tid < 0 && errno == ECHILD) {
            *ret_lives = false;
            return 0;
        }
        if (tid < 0)
            return 0; /* a signal to the caller */
        if (tid > 0 && attend_to(launch, tid, status, err) < 0) {
            *ret_lives = false;
            return -1;
        }
        if (tid > 0) {
            wait = false; /* the others, as far as they are there */
            continue;
        }
        kill_forgotten(launch);
        if (!wait)
            return 0;
        pause_a_little(i++);
    }
}

/* ---- the start */

/* The child: waits until it is traced, and becomes the program. Tells errno if it cannot. */
static _Noreturn void become(const struct mask_launch_options *options, int go, int result)
{
    char byte;
    if (read(go, &byte, 1) == 1 && mask_filter_install() == 0 &&
        (!options->prepare || options->prepare(options->ctx) == 0))
        execvpe(options->argv[0], options->argv, options->env);
    int failure = errno;
    if (write(result, &failure, sizeof(failure)) < 0)
        _exit(126);
    _exit(127);
}

static int start_error(const struct mask_launch *launch, int result, struct error *err)
{
    int failure = 0;
    if (read(result, &failure, sizeof(failure)) != sizeof(failure))
        return error_set(err, ERROR_FAILED, "'%s' ended before it was started", launch->name);
    errno = failure;
    return error_errno(err, failure == ENOENT ? ERROR_NOT_FOUND : ERROR_FAILED, "cannot start '%s'",
                       launch->name);
}

static int wait_for_program(struct mask_launch *launch, int result, struct error *err)
{
    int64_t until_ms = process_now_ms() + START_TIMEOUT_MS;
    bool lives = true;
    for (unsigned i = 0; !launch->is_masked; i++) {
        if (mask_launch_attend(launch, false, &lives, err) < 0)
            return -1;
        if (launch->is_masked)
            return 0;
        if (launch->has_ended)
            return start_error(launch, result, err);
        if (process_now_ms() > until_ms)
            return error_set(err, ERROR_TIMEOUT, "'%s' was not started within %d s", launch->name,
                             START_TIMEOUT_MS / 1000);
        pause_a_little(i);
    }
    return 0;
}

/* Makes the child, which waits for a byte that tells it to go. */
static int make_child(struct mask_launch *launch, const struct mask_launch_options *options,
                      int go_read, int go_write, int result, struct error *err)
{
    launch->pid = fork();
    if (launch->pid < 0)
        return error_errno(err, ERROR_FAILED, "cannot start '%s'", launch->name);
    if (launch->pid == 0) {
        close(go_write); /* else it would wait for itself when the parent is gone */
        become(options, go_read, result);
    }
    mask_tasks_need(&launch->tasks, launch->pid)->is_known = true;
    if (ptrace(PTRACE_SEIZE, launch->pid, NULL, (void *)OPTIONS) < 0)
        return error_errno(err, ERROR_FAILED, "cannot trace '%s'", launch->name);
    if (write(go_write, "", 1) != 1)
        return error_errno(err, ERROR_FAILED, "cannot start '%s'", launch->name);
    return 0;
}

int mask_launch_start(const struct mask_launch_options *options, struct mask_launch **ret,
                      struct error *err)
{
    int go[2], result[2];
    if (pipe2(go, O_CLOEXEC) < 0)
        return error_errno(err, ERROR_FAILED, "cannot make a pipe");
    autoclose int go_read = go[0], go_write = go[1];
    if (pipe2(result, O_CLOEXEC) < 0)
        return error_errno(err, ERROR_FAILED, "cannot make a pipe");
    autoclose int result_read = result[0];
    autoclose int result_write = result[1];
    AUTO(mask_launch) launch = xcalloc(1, sizeof(*launch));
    launch->mask = options->mask;
    launch->name = xstrdup(options->argv[0]);
    if (make_child(launch, options, go_read, go_write, result_write, err) < 0)
        return -1;
    close(steal_fd(&result_write)); /* so that reading it ends with the child */
    if (wait_for_program(launch, result_read, err) < 0)
        return -1;
    *ret = steal_ptr(&launch);
    return 0;
}

/* ---- telling, and the end */

pid_t mask_launch_pid(const struct mask_launch *launch)
{
    return launch->pid;
}

bool mask_launch_ended(const struct mask_launch *launch, int *ret_status)
{
    *ret_status = launch->status;
    return launch->has_ended;
}

const struct mask_process *mask_launch_process(const struct mask_launch *launch)
{
    const struct mask_task *task = mask_tasks_find(&launch->tasks, launch->pid);
    return task ? task->process : NULL;
}

void mask_launch_free(struct mask_launch *launch)
{
    if (!launch)
        return;
    if (launch->tasks.count)
        kill_all(launch);
    mask_tasks_done(&launch->tasks);
    free(launch->name);
    free(launch);
}
