/* SPDX-License-Identifier: Apache-2.0 */
/* inspect_thread.c - looks at each thread of a process: status, the kernel's record, registers.
 *
 * Registers need a stop. PTRACE_SEIZE and PTRACE_INTERRUPT leave no trace in the thread: a system
 * call that is cut short is taken up again by the kernel, without a signal. Nothing is executed in
 * it, so that a tracer that dies half-way harms nobody: the kernel then lets the thread go on.
 * Each thread is let go of as soon as it has stopped and was read. */
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>

#include "file.h"
#include "inspect_private.h"
#include "process.h"

#define BATCH            128    /* threads that are asked to stop at a time */
#define FRESH            2      /* of them, those that were asked just now */
#define FRESH_US         1000   /* until then a thread that slept has stopped */
#define SLEEP_LIMIT_US   100000 /* for one in a sleep that cannot be broken */
#define CHECK_US         5000   /* between looks at the states of those that have not stopped */
#define SPINS            64     /* looks without a pause: a stop takes some 10 us */
#define PAUSE_NS         20000
#define LISTS_MAX        4 /* of the threads, while new ones turn up */
#define STATUS_BYTES_MAX 65536
#define CODE_SEGMENT_64  0x33

#ifndef NT_X86_XSTATE
#define NT_X86_XSTATE 0x202
#endif

int64_t inspect_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* R, S, D, T, t, Z, as in proc(5); X where there is no such thread. */
static char state_of(pid_t pid, pid_t tid)
{
    char path[96];
    autofree char *text = NULL;
    snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
    if (file_read(path, STATUS_BYTES_MAX, &text, NULL, NULL) < 0)
        return 'X';
    const char *close = strrchr(text, ')');
    return close && close[1] == ' ' && close[2] ? close[2] : 'X';
}

static bool is_gone(pid_t pid, pid_t tid)
{
    char state = state_of(pid, tid);
    return state == 'Z' || state == 'X';
}

/* ---- stopping */

/* A thread of ours to trace that has stopped; 0: none has. How one ends is its parent's business
 * and is not waited for. *ret_signal is the signal that was just being delivered, or 0. */
static pid_t next_stop(int *ret_signal)
{
    siginfo_t info = {0};
    if (waitid(P_ALL, 0, &info, WSTOPPED | WNOHANG | __WALL | __WNOTHREAD) < 0)
        return 0; /* ECHILD: we trace nobody */
    *ret_signal = info.si_status >> 8 ? 0 : info.si_status & 0x7f;
    return info.si_pid;
}

static void let_go(pid_t tid, int signal)
{
    ptrace(PTRACE_DETACH, tid, NULL, (void *)(intptr_t)signal);
}

/* ---- registers */

/* Threads of a process that were asked to stop. */
struct batch {
    struct inspect *inspect;
    pid_t pid;
    struct cpu_evidence_task *task;
    uint64_t enabled; /* what the kernel has enabled, once a thread was read */
    bool permission_known;
    uint64_t permission; /* what the process may use, by the kernel's record */
    struct asked {
        size_t index; /* in the task's threads */
        int64_t since_us;
    } asked[BATCH];
    size_t count;
    int64_t none_us;  /* when none of them had stopped */
    int64_t check_us; /* when they were last asked whether they live */
    unsigned idle;    /* rounds in which nothing happened */
};

static struct cpu_evidence_thread *thread_of(const struct batch *batch, const struct asked *asked)
{
    return &batch->task->threads[asked->index];
}

static void drop(struct batch *batch, struct asked *asked)
{
    *asked = batch->asked[--batch->count];
}

/* Shows nothing any more; it is taken out of the list at the end. */
static void mark_gone(struct cpu_evidence_thread *thread)
{
    thread->tid = 0;
}

/* Why a thread cannot be traced, for people. */
static void add_seize_error(const struct batch *batch, pid_t tid, int error)
{
    struct process_stat stat = {.comm = "?"};
    pid_t tracer = process_tracer(tid);
    if (!tracer) {
        cpu_evidence_unknown(batch->task, "xstate_bv: thread %d cannot be traced: %s", tid,
                             strerror(error));
        return;
    }
    process_stat_read(tracer, &stat, NULL);
    cpu_evidence_unknown(batch->task, "xstate_bv: thread %d is traced by '%s' (process %d)", tid,
                         stat.comm, tracer);
}

static void ask(struct batch *batch, size_t index)
{
    struct cpu_evidence_thread *thread = &batch->task->threads[index];
    pid_t tid = (pid_t)thread->tid;
    if (ptrace(PTRACE_SEIZE, tid, NULL, NULL) < 0) {
        int error = errno;
        if (is_gone(batch->pid, tid))
            mark_gone(thread);
        else
            add_seize_error(batch, tid, error);
        return;
    }
    batch->asked[batch->count++] = (struct asked){index, inspect_now_us()};
    ptrace(PTRACE_INTERRUPT, tid, NULL, NULL);
}

/* 0: not known, or of a 32-bit program, whose frames are others. */
static uint64_t stack_pointer_of(pid_t tid)
{
    struct user_regs_struct regs;
    struct iovec io = {&regs, sizeof(regs)};
    if (ptrace(PTRACE_GETREGSET, tid, (void *)NT_PRSTATUS, &io) < 0 || io.iov_len < sizeof(regs))
        return 0;
    return regs.cs == CODE_SEGMENT_64 ? regs.rsp : 0;
}

/* Of one that has stopped. */
static void read_registers(struct batch *batch, const struct asked *asked, int signal)
{
    unsigned char area[XSTATE_BYTES_MAX];
    struct iovec io = {area, sizeof(area)};
    struct cpu_evidence_thread *thread = thread_of(batch, asked);
    struct inspect_cost *cost = &batch->inspect->cost;
    pid_t tid = (pid_t)thread->tid;
    int rc = ptrace(PTRACE_GETREGSET, tid, (void *)NT_X86_XSTATE, &io) < 0 ? -1 : 0;
    uint64_t stack_pointer = stack_pointer_of(tid);
    let_go(tid, signal);
    int64_t before_us = batch->none_us > asked->since_us ? batch->none_us : asked->since_us;
    uint64_t stop_us = (uint64_t)(inspect_now_us() - before_us);
    cost->threads++;
    cost->total_stop_us += stop_us;
    if (stop_us > cost->longest_stop_us)
        cost->longest_stop_us = stop_us;
    if (rc == 0)
        rc = xstate_read(area, io.iov_len, &batch->inspect->layout, &thread->xstate_bv,
                         &thread->live, &batch->enabled);
    thread->state_known = rc == 0;
    if (rc < 0)
        cpu_evidence_unknown(batch->task, "xstate_bv: the registers of thread %d cannot be read",
                             tid);
    /* It may run on meanwhile; what decides is a look at the stopped workload. */
    thread->signal_frame = stack_pointer ? inspect_frame(tid, stack_pointer) : -1;
}

/* Reads and lets go of all that have stopped by now; how many. */
static size_t attend(struct batch *batch)
{
    size_t attended = 0;
    pid_t tid = 0;
    int signal = 0;
    int64_t now_us = inspect_now_us();
    for (; (tid = next_stop(&signal)); attended++, now_us = inspect_now_us()) {
        struct asked *asked = batch->asked;
        while (asked < batch->asked + batch->count && thread_of(batch, asked)->tid != tid)
            asked++;
        if (asked == batch->asked + batch->count) {
            let_go(tid, signal); /* one that did not stop in time */
            continue;
        }
        read_registers(batch, asked, signal);
        drop(batch, asked);
    }
    batch->none_us = now_us;
    return attended;
}

/* Whether there is no use in waiting for the thread's stop any more. One that waits for a CPU is
 * not stopped meanwhile, so that waiting costs it nothing. */
static bool is_given_up(struct batch *batch, const struct asked *asked, int64_t now_us)
{
    struct cpu_evidence_thread *thread = thread_of(batch, asked);
    pid_t tid = (pid_t)thread->tid;
    char state = state_of(batch->pid, tid);
    int64_t waited_us = now_us - asked->since_us;
    if (state == 'Z' || state == 'X') {
        mark_gone(thread);
        return true;
    }
    if (now_us <= batch->inspect->deadline_us && (state != 'D' || waited_us <= SLEEP_LIMIT_US))
        return false;
    /* It is let go of when it stops after all, or else by the end of its tracer. */
    cpu_evidence_unknown(batch->task, "xstate_bv: thread %d did not stop within %d ms (%s)", tid,
                         (int)(waited_us / 1000),
                         state == 'D' ? "it waits for a device or for a child in vfork"
                                      : "it gets no CPU");
    return true;
}

static void give_up_some(struct batch *batch)
{
    int64_t now_us = inspect_now_us();
    if (now_us - batch->check_us < CHECK_US)
        return;
    batch->check_us = now_us;
    for (size_t i = 0; i < batch->count;)
        if (is_given_up(batch, &batch->asked[i], now_us))
            drop(batch, &batch->asked[i]);
        else
            i++;
}

static void wait_a_little(struct batch *batch)
{
    const struct timespec pause = {.tv_nsec = PAUSE_NS};
    if (batch->idle++ < SPINS)
        sched_yield();
    else
        nanosleep(&pause, NULL);
}

/* Those that sleep stop at once, so few of them are asked together; those that wait for a CPU are
 * all waited for at the same time. */
static bool has_room(const struct batch *batch)
{
    size_t fresh = 0;
    int64_t now_us = inspect_now_us();
    for (size_t i = 0; i < batch->count; i++)
        fresh += now_us - batch->asked[i].since_us < FRESH_US;
    return batch->count < BATCH && fresh < FRESH;
}

/* All threads from `next` on. */
static void stop_and_read(struct batch *batch, size_t next)
{
    struct cpu_evidence_task *task = batch->task;
    while (next < task->thread_count || batch->count) {
        while (next < task->thread_count && has_room(batch)) {
            if (inspect_now_us() > batch->inspect->deadline_us) {
                cpu_evidence_unknown(task, "xstate_bv: the time was over before thread %d",
                                     (int)task->threads[next].tid);
                batch->inspect->evidence->complete = false;
                next = task->thread_count;
                break;
            }
            ask(batch, next++);
        }
        if (attend(batch)) {
            batch->idle = 0;
            continue;
        }
        give_up_some(batch);
        if (batch->count)
            wait_a_little(batch);
    }
}

/* A stop is short if nobody gets between it and the reading, however busy the machine is. Where
 * that may not be (no privilege, a control group without real time), it takes its turn. */
static void look_at_registers(struct batch *batch, size_t next)
{
    const struct sched_param first = {.sched_priority = 1}, usual = {0};
    bool ahead = sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &first) == 0;
    stop_and_read(batch, next);
    if (ahead)
        sched_setscheduler(0, SCHED_OTHER, &usual);
}

/* ---- what needs no stop */

/* "x86_Thread_features:\tshstk wrss". The line came to Linux together with shadow stacks (6.6), and
 * depends on the same option: without it there are none. */
static void look_at_status(pid_t pid, pid_t tid, struct cpu_evidence_task *task)
{
    char path[96];
    autofree char *text = NULL;
    snprintf(path, sizeof(path), "/proc/%d/task/%d/status", pid, tid);
    if (file_read(path, STATUS_BYTES_MAX, &text, NULL, NULL) < 0)
        return;
    char *line = strstr(text, "\nx86_Thread_features:");
    if (line)
        line[1 + strcspn(line + 1, "\n")] = '\0';
    if (line && strstr(line, "shstk"))
        task->shadow_stack = 1;
    else if (task->shadow_stack < 0)
        task->shadow_stack = 0;
}

static void look_at_record(struct batch *batch, struct cpu_evidence_thread *thread)
{
    struct inspect_kernel_thread record;
    struct error err;
    pid_t tid = (pid_t)thread->tid;
    if (!batch->inspect->kernel)
        return;
    if (inspect_kernel_read(batch->inspect->kernel, tid, &record, &err) < 0) {
        if (!is_gone(batch->pid, tid))
            cpu_evidence_unknown(batch->task, "altstack_bytes: %s", err.message);
        return;
    }
    thread->altstack_bytes =
        record.altstack_bytes <= JSON_INTEGER_MAX ? (int64_t)record.altstack_bytes : -1;
    /* The permission is the process's; the kernel keeps it with the first thread. */
    if (tid == batch->pid && record.permission_known) {
        batch->permission_known = true;
        batch->permission = record.permission;
    }
}

/* ---- all threads of a process */

static bool has_thread(const struct cpu_evidence_task *task, pid_t tid)
{
    for (size_t i = 0; i < task->thread_count; i++)
        if (task->threads[i].tid == tid)
            return true;
    return false;
}

/* Adds those that are not in the task yet; how many. */
static size_t list_threads(struct inspect *inspect, pid_t pid, struct cpu_evidence_task *task)
{
    char path[64];
    size_t before = task->thread_count;
    snprintf(path, sizeof(path), "/proc/%d/task", pid);
    DIR *folder = opendir(path);
    if (!folder)
        return 0;
    struct dirent *entry;
    while ((entry = readdir(folder)) && inspect->thread_count < CPU_EVIDENCE_THREADS_MAX) {
        pid_t tid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (tid <= 0 || has_thread(task, tid) || is_gone(pid, tid))
            continue;
        task->threads = xrealloc(task->threads, (task->thread_count + 1) * sizeof(*task->threads));
        task->threads[task->thread_count++] =
            (struct cpu_evidence_thread){.tid = tid, .altstack_bytes = -1, .signal_frame = -1};
        inspect->thread_count++;
    }
    closedir(folder);
    return task->thread_count - before;
}

static void drop_gone(struct cpu_evidence_task *task)
{
    size_t kept = 0;
    for (size_t i = 0; i < task->thread_count; i++)
        if (task->threads[i].tid)
            task->threads[kept++] = task->threads[i];
    task->thread_count = kept;
}

static void judge_amx(const struct batch *batch)
{
    struct cpu_evidence_task *task = batch->task;
    uint64_t used = 0;
    for (size_t i = 0; i < task->thread_count; i++)
        used |= task->threads[i].xstate_bv;
    task->amx =
        xstate_amx(used, batch->enabled, batch->permission_known ? &batch->permission : NULL);
    if (task->amx == CPU_AMX_UNKNOWN)
        cpu_evidence_unknown(task, "amx: only the kernel knows, and it cannot be asked");
}

void inspect_threads(struct inspect *inspect, pid_t pid, struct cpu_evidence_task *task)
{
    struct batch batch = {.inspect = inspect, .pid = pid, .task = task};
    size_t added = 1;
    prctl(PR_SET_TIMERSLACK, 1UL); /* ns; of this thread, so that its pauses are short */
    for (unsigned i = 0; i < LISTS_MAX && added > 0; i++) {
        drop_gone(task);
        added = list_threads(inspect, pid, task);
        size_t next = task->thread_count - added;
        for (size_t k = next; k < task->thread_count; k++) {
            look_at_status(pid, (pid_t)task->threads[k].tid, task);
            look_at_record(&batch, &task->threads[k]);
        }
        look_at_registers(&batch, next);
    }
    drop_gone(task);
    bool too_many = inspect->thread_count >= CPU_EVIDENCE_THREADS_MAX;
    if (added > 0)
        cpu_evidence_unknown(task, "xstate_bv: it goes on starting threads");
    if (too_many)
        cpu_evidence_unknown(task, "xstate_bv: the tree has %d threads or more",
                             CPU_EVIDENCE_THREADS_MAX);
    if (added > 0 || too_many)
        inspect->evidence->complete = false;
    if (!inspect->kernel)
        cpu_evidence_unknown(task, "altstack_bytes: %s", inspect->kernel_error);
    judge_amx(&batch);
}
