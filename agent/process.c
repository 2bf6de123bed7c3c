/* SPDX-License-Identifier: Apache-2.0 */
/* process.c - what /proc says of a task, and trees of tasks. */
#include "process.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "cleanup.h"
#include "file.h"

#define PROC_FILE_MAX 65536

int64_t process_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void process_sleep_ms(unsigned ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&t, &t) < 0 && errno == EINTR)
        ;
}

/* The text of /proc/PID/stat: the name in the middle may hold anything, so fields are counted
 * from the last ')'. */
static int parse_stat(const char *text, struct process_stat *ret)
{
    const char *open = strchr(text, '('), *close = strrchr(text, ')');
    if (!open || !close || close < open)
        return -1;
    struct process_stat s = {.pid = (pid_t)strtol(text, NULL, 10)};
    snprintf(s.comm, sizeof(s.comm), "%.*s", (int)(close - open - 1), open + 1);
    unsigned long long start = 0;
    /* state ppid pgrp session tty_nr tpgid flags minflt cminflt majflt cmajflt utime stime
     * cutime cstime priority nice num_threads itrealvalue starttime */
    int n = sscanf(close + 1,
                   " %c %d %d %d %d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
                   &s.state, &s.ppid, &s.pgid, &s.sid, &s.tty, &start);
    if (n != 6)
        return -1;
    s.start_ticks = start;
    *ret = s;
    return 0;
}

static int read_stat(const char *path, struct process_stat *ret, struct error *err)
{
    autofree char *text = NULL;
    if (file_read(path, PROC_FILE_MAX, &text, NULL, err) < 0)
        return -1;
    if (parse_stat(text, ret) == 0)
        return 0;
    error_set(err, ERROR_FAILED, "%s has an unknown form", path);
    return -1;
}

int process_stat_read(pid_t pid, struct process_stat *ret, struct error *err)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    struct error inner = {0};
    if (pid > 0 && read_stat(path, ret, &inner) == 0)
        return 0;
    if (pid <= 0 || inner.kind == ERROR_NOT_FOUND)
        error_set(err, ERROR_NOT_FOUND, "no process %d", pid);
    else
        error_set(err, inner.kind, "%s", inner.message);
    return -1;
}

bool process_is_alive(pid_t pid, uint64_t start_ticks)
{
    struct process_stat s;
    return process_stat_read(pid, &s, NULL) == 0 && s.start_ticks == start_ticks &&
           s.state != 'Z' && s.state != 'X';
}

static pid_t tracer_of(const char *status_path)
{
    autofree char *text = NULL;
    if (file_read(status_path, PROC_FILE_MAX, &text, NULL, NULL) < 0)
        return 0;
    const char *line = strstr(text, "\nTracerPid:");
    return line ? (pid_t)strtol(line + strlen("\nTracerPid:"), NULL, 10) : 0;
}

pid_t process_tracer(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    return tracer_of(path);
}

int process_owner(pid_t pid, uid_t *ret_uid, gid_t *ret_gid, struct error *err)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    autofree char *text = NULL;
    if (file_read(path, PROC_FILE_MAX, &text, NULL, err) < 0)
        return -1;
    const char *uid_line = strstr(text, "\nUid:"), *gid_line = strstr(text, "\nGid:");
    unsigned uid = 0, gid = 0; /* real and effective; the effective one counts */
    if (!uid_line || !gid_line || sscanf(uid_line, "\nUid: %*u %u", &uid) != 1 ||
        sscanf(gid_line, "\nGid: %*u %u", &gid) != 1)
        return error_set(err, ERROR_FAILED, "%s has an unknown form", path);
    *ret_uid = uid;
    *ret_gid = gid;
    return 0;
}

bool process_list_has(const pid_t *pids, pid_t pid)
{
    for (; pids && *pids; pids++)
        if (*pids == pid)
            return true;
    return false;
}

void process_list_add(struct process_list *list, pid_t pid)
{
    if (pid <= 0 || process_list_has(list->pids, pid))
        return;
    list->pids = xrealloc(list->pids, (list->count + 2) * sizeof(*list->pids));
    list->pids[list->count++] = pid;
    list->pids[list->count] = 0;
}

/* Everybody's parent, read once: a tree is then found without asking again. */
struct parent {
    pid_t pid, ppid;
};

static int read_parents(struct parent **ret, size_t *ret_count, struct error *err)
{
    DIR *proc = opendir("/proc");
    if (!proc)
        return error_errno(err, ERROR_FAILED, "cannot read /proc");
    struct parent *parents = NULL;
    size_t count = 0, room = 0;
    struct dirent *entry;
    while ((entry = readdir(proc))) {
        struct process_stat s;
        if (!isdigit((unsigned char)*entry->d_name) ||
            process_stat_read((pid_t)strtol(entry->d_name, NULL, 10), &s, NULL) < 0)
            continue;
        if (count == room) {
            room = room ? room * 2 : 256;
            parents = xrealloc(parents, room * sizeof(*parents));
        }
        parents[count++] = (struct parent){s.pid, s.ppid};
    }
    closedir(proc);
    *ret = parents;
    *ret_count = count;
    return 0;
}

int process_list_tree(pid_t root, bool with_root, struct process_list *list, struct error *err)
{
    autofree struct parent *parents = NULL;
    size_t count = 0;
    if (read_parents(&parents, &count, err) < 0)
        return -1;
    struct process_list tree = {0};
    process_list_add(&tree, root);
    for (size_t i = 0; i < tree.count; i++) /* the list grows while it is walked */
        for (size_t k = 0; k < count; k++)
            if (parents[k].ppid == tree.pids[i])
                process_list_add(&tree, parents[k].pid);
    for (size_t i = 0; i < tree.count; i++)
        for (size_t k = 0; k < count; k++)
            if (parents[k].pid == tree.pids[i] && (with_root || tree.pids[i] != root))
                process_list_add(list, tree.pids[i]);
    free(tree.pids);
    return 0;
}

void process_list_stopped(const pid_t *pids, struct process_list *ret)
{
    struct process_stat s;
    for (; pids && *pids; pids++)
        if (process_stat_read(*pids, &s, NULL) == 0 && s.state == 'T')
            process_list_add(ret, *pids);
}

/* --- looking at threads -------------------------------------------------------------------- */

struct thread_look {
    pid_t pid, tid;
    char state;
    char comm[17];
    pid_t tracer;
    uint64_t run_ns; /* CPU time so far; 0 where the kernel does not say */
};

static bool look_at_thread(pid_t pid, pid_t tid, struct thread_look *ret)
{
    char path[96];
    snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
    struct process_stat s;
    if (read_stat(path, &s, NULL) < 0)
        return false;
    *ret = (struct thread_look){.pid = pid, .tid = tid, .state = s.state};
    snprintf(ret->comm, sizeof(ret->comm), "%s", s.comm);
    snprintf(path, sizeof(path), "/proc/%d/task/%d/status", pid, tid);
    ret->tracer = tracer_of(path);
    snprintf(path, sizeof(path), "/proc/%d/task/%d/schedstat", pid, tid);
    autofree char *text = NULL;
    if (file_read(path, PROC_FILE_MAX, &text, NULL, NULL) == 0)
        ret->run_ns = strtoull(text, NULL, 10);
    return true;
}

/* Calls `check` for each thread of `pids`; true when it was true for all. The first that was not
 * is in *ret_bad. */
static bool all_threads(const pid_t *pids, const pid_t *except, pid_t own_tracer,
                        bool (*check)(const struct thread_look *, pid_t),
                        struct thread_look *ret_bad)
{
    for (; pids && *pids; pids++) {
        char path[64];
        snprintf(path, sizeof(path), "/proc/%d/task", *pids);
        DIR *folder = process_list_has(except, *pids) ? NULL : opendir(path);
        if (!folder)
            continue; /* it has ended */
        bool good = true;
        struct dirent *entry;
        while (good && (entry = readdir(folder))) {
            struct thread_look look;
            pid_t tid = (pid_t)strtol(entry->d_name, NULL, 10);
            if (tid <= 0 || !look_at_thread(*pids, tid, &look))
                continue;
            good = check(&look, own_tracer);
            if (!good)
                *ret_bad = look;
        }
        closedir(folder);
        if (!good)
            return false;
    }
    return true;
}

static bool thread_runs(const struct thread_look *look, pid_t own_tracer)
{
    if ((look->tracer && look->tracer != own_tracer) || look->state == 'T' || look->state == 't')
        return false;
    if (look->state != 'R')
        return true; /* asleep, as tasks are, or at its end */
    /* Said to be runnable: it gains CPU time, or has gone to sleep, by the second look. */
    for (unsigned i = 0; i < 20; i++) {
        struct thread_look again;
        process_sleep_ms(2);
        if (!look_at_thread(look->pid, look->tid, &again) || again.state != 'R' ||
            again.run_ns != look->run_ns)
            return true;
    }
    return false;
}

static bool thread_is_stopped(const struct thread_look *look, pid_t own_tracer)
{
    if (look->state == 't') /* as a stopped one shows that is traced */
        return own_tracer && look->tracer == own_tracer;
    return look->state == 'T' || look->state == 'Z' || look->state == 'X';
}

static void describe(const struct thread_look *bad, char *text, size_t size)
{
    const char *state = bad->state == 'T'   ? "stopped"
                        : bad->state == 't' ? "stopped by a tracer"
                        : bad->state == 'R' ? "runnable, and gains no CPU time"
                                            : "in another state";
    int n = snprintf(text, size, "task %d ('%s', of process %d) is %s (state %c)", bad->tid,
                     bad->comm, bad->pid, state, bad->state);
    if (bad->tracer && n > 0 && (size_t)n < size)
        snprintf(text + n, size - (size_t)n, " and traced by process %d", bad->tracer);
}

int process_continue(const pid_t *pids, const pid_t *keep_stopped, pid_t own_tracer,
                     uint64_t timeout_ms, struct error *err)
{
    int64_t deadline = process_now_ms() + (int64_t)timeout_ms;
    struct thread_look bad = {0};
    for (;;) {
        for (const pid_t *p = pids; p && *p; p++)
            if (!process_list_has(keep_stopped, *p) && kill(*p, SIGCONT) < 0 && errno != ESRCH)
                return error_errno(err, ERROR_FAILED, "cannot continue process %d", *p);
        if (all_threads(pids, keep_stopped, own_tracer, thread_runs, &bad))
            return 0;
        if (process_now_ms() >= deadline)
            break;
        process_sleep_ms(10);
    }
    char text[256];
    describe(&bad, text, sizeof(text));
    return error_set(err, ERROR_FAILED, "%s %" PRIu64 " ms after it was continued", text,
                     timeout_ms);
}

int process_wait_stopped(const pid_t *pids, pid_t own_tracer, uint64_t timeout_ms,
                         struct error *err)
{
    int64_t deadline = process_now_ms() + (int64_t)timeout_ms;
    struct thread_look bad = {0};
    while (!all_threads(pids, NULL, own_tracer, thread_is_stopped, &bad)) {
        if (process_now_ms() >= deadline) {
            char text[256];
            describe(&bad, text, sizeof(text));
            return error_set(err, ERROR_FAILED, "%s, expected to be stopped", text);
        }
        process_sleep_ms(5);
    }
    return 0;
}
