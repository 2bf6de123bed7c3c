/* SPDX-License-Identifier: Apache-2.0 */
/* mask_handover.c - a masked tree passes from one tracer to another, or to a checkpoint engine, and
 * not one of its instructions runs in between.
 *
 *   detach   every thread to a stop ("parked"), freeze the control group, let go: they wake up in
 *            the freezer, before their next instruction
 *   attach   freeze the control group, seize and interrupt every thread, thaw: they wake up in
 *            their stops; recognise what is masked, cover the rest, let them go on
 *
 * Interrupting a thread that is frozen works, since the kernel looks at ptrace's traps before the
 * freezer's (get_signal in kernel/signal.c). */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>

#include "cgroup.h"
#include "file.h"
#include "mask_tracee.h"
#include "mask_tracer_internal.h"
#include "process.h"

#define FREEZE_MS        2000
#define PARK_MS          2000
#define DEEP_ROUNDS      1024 /* of waiting, until those that cannot stop are looked for */
#define CHILDREN_ROUNDS  512  /* of waiting, until parents in vfork are looked for */
#define STATUS_MAX_BYTES 65536

/* ---- parking */

/* "State:\tD (disk sleep)": in a sleep that only its end ends, as a parent's in vfork. */
static bool sleeps_deep(pid_t tid)
{
    char path[64];
    autofree char *text = NULL;
    snprintf(path, sizeof(path), "/proc/%d/status", tid);
    return file_read(path, STATUS_MAX_BYTES, &text, NULL, NULL) == 0 &&
           strstr(text, "\nState:\tD") != NULL;
}

/* The process that the thread belongs to; 0: it is gone. */
static pid_t process_of(pid_t tid)
{
    char path[64];
    autofree char *text = NULL;
    snprintf(path, sizeof(path), "/proc/%d/status", tid);
    if (file_read(path, STATUS_MAX_BYTES, &text, NULL, NULL) < 0)
        return 0;
    const char *line = strstr(text, "\nTgid:");
    return line ? (pid_t)strtol(line + strlen("\nTgid:"), NULL, 10) : 0;
}

/* The first thread that is not parked; with `but_deep`, and does not sleep so deep that it cannot
 * be: it stops as soon as it wakes up. NULL: there is none. */
static const struct mask_task *unparked(const struct mask_tracer *tracer, bool but_deep)
{
    for (size_t i = 0; i < MASK_TASK_BUCKETS; i++)
        for (const struct mask_task *t = tracer->tasks.buckets[i]; t; t = t->next)
            if (!t->is_parked && !(but_deep && sleeps_deep(t->tid)))
                return t;
    return NULL;
}

static void interrupt_all(const struct mask_tracer *tracer)
{
    for (size_t i = 0; i < MASK_TASK_BUCKETS; i++)
        for (const struct mask_task *t = tracer->tasks.buckets[i]; t; t = t->next)
            if (!t->is_parked)
                ptrace(PTRACE_INTERRUPT, t->tid, NULL, NULL);
}

/* A parent in vfork sleeps until its child executes a program or ends, which a child that stands
 * still never does. So the children of those that sleep deep go on; the parent stops when it wakes
 * up. False: none sleeps deep. */
static bool let_children_go_on(struct mask_tracer *tracer)
{
    struct process_list sleepers = {0};
    struct process_stat stat;
    for (size_t i = 0; i < MASK_TASK_BUCKETS; i++)
        for (const struct mask_task *t = tracer->tasks.buckets[i]; t; t = t->next)
            if (!t->is_parked && sleeps_deep(t->tid))
                process_list_add(&sleepers, process_of(t->tid));
    for (size_t i = 0; sleepers.count && i < MASK_TASK_BUCKETS; i++)
        for (struct mask_task *t = tracer->tasks.buckets[i]; t; t = t->next)
            if (t->is_parked && process_stat_read(t->tid, &stat, NULL) == 0 &&
                process_list_has(sleepers.pids, stat.ppid)) {
                mask_tasks_unpark(&tracer->tasks, t);
                mask_tracer_resume(t, t->parked_signal);
            }
    bool any = sleepers.count > 0;
    free(sleepers.pids);
    return any;
}

/* Until all that were interrupted stand still. */
static int wait_parked(struct mask_tracer *tracer, bool but_deep, struct error *err)
{
    int64_t until_ms = process_now_ms() + PARK_MS;
    bool has_let_go = false;
    for (unsigned i = 0;; i++) {
        bool lives = true;
        if (mask_tracer_attend(tracer, false, &lives, err) < 0)
            return -1;
        if (tracer->tasks.parked == tracer->tasks.count)
            return 0;
        bool over = process_now_ms() > until_ms;
        bool looks = over || (but_deep && i % DEEP_ROUNDS == DEEP_ROUNDS - 1);
        const struct mask_task *left = looks ? unparked(tracer, but_deep) : NULL;
        if (looks && !left)
            return 0;
        if (over && left)
            return error_set(
                err, ERROR_TIMEOUT, "thread %d could not be stopped within %d s%s", left->tid,
                PARK_MS / 1000,
                sleeps_deep(left->tid) ? ": it waits for a device, or for a child in vfork" : "");
        if (!but_deep && i % CHILDREN_ROUNDS == CHILDREN_ROUNDS - 1) {
            bool lets_go = let_children_go_on(tracer);
            if (has_let_go && !lets_go)
                interrupt_all(tracer); /* the children, which have their programs now */
            has_let_go = lets_go;
        }
        mask_tracer_pause(i);
    }
}

static void unpark_all(struct mask_tracer *tracer)
{
    tracer->parks = false;
    for (size_t i = 0; i < MASK_TASK_BUCKETS; i++)
        for (struct mask_task *t = tracer->tasks.buckets[i]; t; t = t->next)
            if (t->is_parked) {
                mask_tasks_unpark(&tracer->tasks, t);
                mask_tracer_resume(t, t->parked_signal);
            }
}

/* ---- letting go */

static void let_go_of_all(struct mask_tracer *tracer)
{
    for (size_t i = 0; i < MASK_TASK_BUCKETS; i++)
        for (const struct mask_task *t = tracer->tasks.buckets[i]; t; t = t->next)
            ptrace(PTRACE_DETACH, t->tid, NULL, NULL);
    mask_tasks_done(&tracer->tasks);
    tracer->parks = false;
}

/* ---- taking over */

static int seize_error(pid_t tid, int code, struct error *err)
{
    pid_t other = process_tracer(tid);
    if (other)
        return error_set(err, ERROR_FAILED, "cannot trace thread %d: process %d traces it", tid,
                         other);
    errno = code;
    return error_errno(err, ERROR_FAILED, "cannot trace thread %d", tid);
}

/* Every thread of a process; ends that come meanwhile are no failure. */
static int seize_process(struct mask_tracer *tracer, pid_t pid, struct error *err)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/task", pid);
    DIR *folder = opendir(path);
    struct dirent *entry;
    int rc = 0;
    if (!folder)
        return errno == ENOENT ? 0 : error_errno(err, ERROR_FAILED, "cannot read %s", path);
    while (rc == 0 && (entry = readdir(folder))) {
        pid_t tid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (tid <= 0)
            continue;
        if (ptrace(PTRACE_SEIZE, tid, NULL, (void *)tracer->options) == 0) {
            mask_tasks_need(&tracer->tasks, tid)->is_known = true;
            ptrace(PTRACE_INTERRUPT, tid, NULL, NULL);
        } else if (errno != ESRCH) {
            struct process_stat stat;
            int code = errno;
            if (process_stat_read(tid, &stat, NULL) == 0 && stat.state != 'Z')
                rc = seize_error(tid, code, err);
        }
    }
    closedir(folder);
    return rc;
}

/* "Seccomp:\t2": it has a filter. That it is ours shows in what it was masked with. */
static bool has_filter(pid_t pid)
{
    char path[64];
    autofree char *text = NULL;
    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    return file_read(path, STATUS_MAX_BYTES, &text, NULL, NULL) == 0 &&
           strstr(text, "\nSeccomp:\t2") != NULL;
}

/* A thread of the process that stands still, and can be made to do system calls; NULL: none. */
static struct mask_task *parked_of(struct mask_tracer *tracer, pid_t pid)
{
    char path[64];
    struct mask_task *found = NULL;
    snprintf(path, sizeof(path), "/proc/%d/task", pid);
    DIR *folder = opendir(path);
    struct dirent *entry;
    while (folder && !found && (entry = readdir(folder))) {
        found = mask_tasks_find(&tracer->tasks, (pid_t)strtol(entry->d_name, NULL, 10));
        if (found && !found->is_parked)
            found = NULL;
    }
    if (folder)
        closedir(folder);
    return found;
}

/* Gives all threads of the process its record; and none may stand within what was replaced. */
static int share_record(struct mask_tracer *tracer, pid_t pid, struct mask_process *process,
                        struct error *err)
{
    char path[64];
    int rc = 0;
    snprintf(path, sizeof(path), "/proc/%d/task", pid);
    DIR *folder = opendir(path);
    struct dirent *entry;
    while (folder && rc == 0 && (entry = readdir(folder))) {
        struct mask_task *task =
            mask_tasks_find(&tracer->tasks, (pid_t)strtol(entry->d_name, NULL, 10));
        struct mask_tracee tracee = {.tid = task ? task->tid : 0, .memory = -1};
        struct user_regs_struct registers;
        if (!task)
            continue;
        mask_process_free(task->process);
        task->process = mask_process_ref(process);
        if (task->is_parked && mask_tracee_registers(&tracee, &registers, NULL) == 0 &&
            mask_process_splits(process, registers.rip))
            rc = error_set(err, ERROR_REJECTED,
                           "thread %d stands at 0x%llx, within a CPUID that was just replaced",
                           task->tid, (unsigned long long)registers.rip);
    }
    if (folder)
        closedir(folder);
    return rc;
}

/* After a system call in its name it stands in another stop than before. */
static void stand_again(struct mask_tracer *tracer, struct mask_task *task)
{
    mask_tasks_unpark(&tracer->tasks, task);
    ptrace(PTRACE_INTERRUPT, task->tid, NULL, NULL);
    ptrace(PTRACE_CONT, task->tid, NULL, NULL);
}

static int recover(struct mask_tracer *tracer, pid_t pid, struct mask_task *task, struct error *err)
{
    struct mask_tracee tracee;
    if (!has_filter(pid))
        return error_set(err, ERROR_REJECTED,
                         "process %d has no seccomp filter, so it was not masked before", pid);
    if (mask_tracee_open(task->tid, &tracee, err) < 0)
        return -1;
    AUTO(mask_process) process = mask_process_new(&tracer->mask);
    int rc = mask_process_recover(process, &tracee, err) < 0 ||
                     mask_process_replace_table(process, &tracee, tracer->mask.table, err) < 0
                 ? -1
                 : 0;
    bool has_called = tracee.has_called;
    mask_tracee_close(&tracee);
    if (rc == 0)
        rc = share_record(tracer, pid, process, err);
    if (rc == 0)
        mask_tracer_note(tracer, process);
    if (has_called)
        stand_again(tracer, task);
    return rc;
}

/* No thread of it stands still: it waits in vfork, and its memory is its child's, whose record it
 * gets. */
static int recover_parent(struct mask_tracer *tracer, pid_t pid, struct error *err)
{
    struct process_stat stat;
    for (size_t i = 0; i < MASK_TASK_BUCKETS; i++)
        for (const struct mask_task *t = tracer->tasks.buckets[i]; t; t = t->next)
            if (t->process && mask_tracer_shares_memory(t->tid, pid))
                return share_record(tracer, pid, t->process, err);
    if (process_stat_read(pid, &stat, NULL) < 0 || stat.state == 'Z')
        return 0;
    return error_set(err, ERROR_FAILED, "no thread of process %d can be stopped", pid);
}

static int recover_all(struct mask_tracer *tracer, const struct process_list *pids,
                       struct error *err)
{
    for (size_t i = 0; i < pids->count; i++) {
        struct mask_task *task = parked_of(tracer, pids->pids[i]);
        if (task && recover(tracer, pids->pids[i], task, err) < 0)
            return -1;
    }
    for (size_t i = 0; i < pids->count; i++)
        if (!parked_of(tracer, pids->pids[i]) && recover_parent(tracer, pids->pids[i], err) < 0)
            return -1;
    return wait_parked(tracer, true, err); /* those that had to call */
}

/* While the group is frozen: who is in it does not change. */
static int seize_all(struct mask_tracer *tracer, const char *cgroup, struct process_list *pids,
                     struct error *err)
{
    if (cgroup_freeze(cgroup, FREEZE_MS, err) < 0 || cgroup_pids(cgroup, pids, err) < 0)
        return -1;
    for (size_t i = 0; i < pids->count; i++)
        if (seize_process(tracer, pids->pids[i], err) < 0)
            return -1;
    return 0;
}

/* As it was before: nothing is frozen, and nothing is traced but threads that could not be stopped,
 * which only the tracer's end lets go of. */
static void give_back(struct mask_tracer *tracer, const char *cgroup)
{
    struct error err = {0};
    cgroup_thaw(cgroup, NULL);
    wait_parked(tracer, true, &err);
    let_go_of_all(tracer);
}

/* While a debugger has it, freezing it would only be in the way. */
static int check_debugger(pid_t root, struct error *err)
{
    struct process_stat stat = {.comm = "?"};
    pid_t other = process_tracer(root);
    if (!other)
        return 0;
    process_stat_read(other, &stat, NULL);
    return error_set(err, ERROR_CONFLICT, "process %d is traced by '%s' (process %d)", root,
                     stat.comm, other);
}

static int check_whole(const struct mask_tracer *tracer, struct error *err)
{
    size_t bare = tracer->most.lacks[MASK_LACK_GAP];
    if (!bare)
        return 0;
    return error_set(err, ERROR_REJECTED,
                     "%zu CPUID instructions of it were not masked any more, so nobody knows what "
                     "it would see",
                     bare);
}

int mask_tracer_attach(struct mask_tracer *tracer, const char *cgroup, pid_t root, bool whole,
                       struct error *err)
{
    struct process_list pids = {0};
    if (check_debugger(root, err) < 0)
        return -1;
    tracer->root = root;
    tracer->is_masked = true;
    tracer->parks = true;
    int rc = seize_all(tracer, cgroup, &pids, err);
    if (cgroup_thaw(cgroup, rc == 0 ? err : NULL) < 0)
        rc = -1;
    if (rc == 0)
        rc = wait_parked(tracer, true, err);
    if (rc == 0)
        rc = recover_all(tracer, &pids, err);
    if (rc == 0 && whole)
        rc = check_whole(tracer, err);
    free(pids.pids);
    if (rc < 0)
        give_back(tracer, cgroup);
    else
        unpark_all(tracer);
    return rc;
}

/* ---- letting go, and the way back */

int mask_tracer_detach(struct mask_tracer *tracer, const char *cgroup, bool freeze,
                       struct error *err)
{
    tracer->parks = true;
    interrupt_all(tracer);
    if (wait_parked(tracer, false, err) < 0) {
        unpark_all(tracer);
        return -1;
    }
    /* All stand in stops of ours, which counts as frozen. */
    if (freeze && cgroup_freeze(cgroup, FREEZE_MS, err) < 0) {
        cgroup_thaw(cgroup, NULL);
        unpark_all(tracer);
        return -1;
    }
    let_go_of_all(tracer);
    if (!freeze || cgroup_freeze(cgroup, FREEZE_MS, err) == 0)
        return 0;
    struct error second = {0};
    if (mask_tracer_attach(tracer, cgroup, tracer->root, false, &second) < 0)
        error_wrap(err, "%s; and it could not be taken back", second.message);
    return -1;
}
