/* SPDX-License-Identifier: Apache-2.0 */
/* inspect.c - looks at a tree of processes, one after the other, from a thread of its own. */
#include "inspect.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "inspect_private.h"
#include "process.h"

#define LISTS_MAX      4    /* of the tree, while new processes turn up */
#define LET_GO_WAIT_MS 1000 /* for the kernel, after the tracer has ended */

/* What the looking thread works on. */
struct job {
    pid_t root;
    const pid_t *also; /* borrowed; NULL: none */
    uint64_t root_start_ticks;
    struct inspect inspect;
    int rc;
    struct error err;
};

static bool has_task(const struct cpu_evidence *evidence, pid_t pid)
{
    for (size_t i = 0; i < evidence->task_count; i++)
        if (evidence->tasks[i].pid == pid)
            return true;
    return false;
}

static void drop_last_task(struct cpu_evidence *evidence)
{
    struct cpu_evidence last = {.tasks = xmalloc(sizeof(*last.tasks)), .task_count = 1};
    last.tasks[0] = evidence->tasks[--evidence->task_count];
    cpu_evidence_done(&last);
}

/* A process whose first thread has ended lives as long as another does. */
static bool has_other_threads(pid_t pid)
{
    char path[64];
    struct stat st;
    snprintf(path, sizeof(path), "/proc/%d/task", pid);
    return stat(path, &st) == 0 && st.st_nlink > 3; /* ".", "..", the thread itself */
}

static bool has_ended(pid_t pid, uint64_t start_ticks)
{
    struct process_stat stat;
    return process_stat_read(pid, &stat, NULL) < 0 || stat.start_ticks != start_ticks ||
           ((stat.state == 'Z' || stat.state == 'X') && !has_other_threads(pid));
}

/* Ourselves, and what ends while it is looked at, are left out. */
static void look_at_task(struct inspect *inspect, pid_t pid)
{
    struct process_stat stat;
    if (pid == getpid() || process_stat_read(pid, &stat, NULL) < 0 ||
        has_ended(pid, stat.start_ticks))
        return;
    struct cpu_evidence_task *task = cpu_evidence_add_task(inspect->evidence, pid, stat.comm);
    if (inspect_now_us() > inspect->deadline_us) {
        cpu_evidence_unknown(task, "everything: the time was over before it was looked at");
        inspect->evidence->complete = false;
        return;
    }
    inspect_program(pid, task);
    inspect_threads(inspect, pid, task);
    if (has_ended(pid, stat.start_ticks))
        drop_last_task(inspect->evidence);
}

/* How many that were not there before; -1 on failure. */
static int look_at_tree(struct job *job)
{
    struct process_list tree = {0};
    struct cpu_evidence *evidence = job->inspect.evidence;
    size_t before = evidence->task_count;
    int rc = process_list_tree(job->root, true, &tree, &job->err);
    for (const pid_t *pid = job->also; rc == 0 && pid && *pid; pid++)
        if (!process_list_has(tree.pids, *pid))
            rc = process_list_tree(*pid, true, &tree, &job->err);
    if (rc == 0 && tree.count > CPU_EVIDENCE_TASKS_MAX)
        rc = error_set(&job->err, ERROR_TOO_LARGE,
                       "the tree of process %d has %zu processes, at most %d are looked at",
                       job->root, tree.count, CPU_EVIDENCE_TASKS_MAX);
    for (size_t i = 0; rc == 0 && i < tree.count; i++)
        if (!has_task(evidence, tree.pids[i]))
            look_at_task(&job->inspect, tree.pids[i]);
    free(tree.pids);
    return rc < 0 ? -1 : (int)(evidence->task_count - before);
}

static void *look(void *ctx)
{
    struct job *job = ctx;
    struct error why;
    int added = 1;
    setpriority(PRIO_PROCESS, 0, -20); /* of this thread alone: a move waits for it */
    if (inspect_kernel_new(&job->inspect.kernel, &why) < 0)
        snprintf(job->inspect.kernel_error, sizeof(job->inspect.kernel_error), "%.250s",
                 why.message);
    xstate_layout_here(&job->inspect.layout);
    for (unsigned i = 0; i < LISTS_MAX && added > 0; i++)
        added = look_at_tree(job);
    inspect_kernel_free(job->inspect.kernel);
    job->rc = added < 0 ? -1 : 0;
    if (job->rc == 0 && has_ended(job->root, job->root_start_ticks))
        job->rc = error_set(&job->err, ERROR_NOT_FOUND,
                            "process %d ended while it was being looked at", job->root);
    else if (added > 0)
        job->inspect.evidence->complete = false; /* the tree goes on starting processes */
    return NULL;
}

/* A thread that did not stop is let go of when its tracer, the looking thread, has ended. */
static void wait_let_go(const struct cpu_evidence *evidence)
{
    int64_t limit_ms = process_now_ms() + LET_GO_WAIT_MS;
    for (size_t i = 0; i < evidence->task_count; i++)
        for (size_t k = 0; k < evidence->tasks[i].thread_count; k++) {
            const struct cpu_evidence_thread *thread = &evidence->tasks[i].threads[k];
            while (!thread->state_known && process_tracer((pid_t)thread->tid) == getpid() &&
                   process_now_ms() < limit_ms)
                process_sleep_ms(1);
        }
}

int inspect_processes(pid_t root, const pid_t *also, uint64_t timeout_ms, struct cpu_evidence *ret,
                      struct inspect_cost *ret_cost, struct error *err)
{
    pthread_t thread;
    struct process_stat stat;
    struct cpu_evidence evidence = {
        .pid = root, .at_ms = clock_unix_ms(&clock_system), .complete = true};
    int64_t start_us = inspect_now_us();
    struct job job = {
        .root = root,
        .also = also,
        .inspect = {.deadline_us = start_us + (int64_t)timeout_ms * 1000, .evidence = &evidence}
    };
    if (process_stat_read(root, &stat, err) < 0)
        return -1;
    if (has_ended(root, stat.start_ticks))
        return error_set(err, ERROR_NOT_FOUND, "process %d has ended", root);
    job.root_start_ticks = stat.start_ticks;
    int rc = pthread_create(&thread, NULL, look, &job);
    if (rc != 0)
        return error_set(err, ERROR_FAILED, "cannot start a thread: %s", strerror(rc));
    pthread_join(thread, NULL);
    wait_let_go(&evidence);
    job.inspect.cost.elapsed_us = (uint64_t)(inspect_now_us() - start_us);
    if (job.rc < 0) {
        cpu_evidence_done(&evidence);
        return error_set(err, job.err.kind, "%s", job.err.message);
    }
    if (ret_cost)
        *ret_cost = job.inspect.cost;
    *ret = evidence;
    return 0;
}

int inspect_tree(pid_t root, struct cpu_evidence *ret, struct error *err)
{
    return inspect_processes(root, NULL, INSPECT_TIMEOUT_MS, ret, NULL, err);
}
