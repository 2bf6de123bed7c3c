/* SPDX-License-Identifier: Apache-2.0 */
/* process.h - what /proc says of a task, trees of tasks, and children with a time limit. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "error.h"

struct process_stat {
    pid_t pid, ppid, pgid, sid;
    int tty;    /* device number of the controlling terminal; 0: none */
    char state; /* R S D T t Z X I, proc(5) */
    char comm[17];
    uint64_t start_ticks; /* with the pid, this names one process of this boot */
};

/* Errors: ERROR_NOT_FOUND. */
int process_stat_read(pid_t pid, struct process_stat *ret, struct error *err);
/* Whether that very process still lives (a zombie does not). */
bool process_is_alive(pid_t pid, uint64_t start_ticks);
/* The pid that traces `pid`; 0: none, or no such process. */
pid_t process_tracer(pid_t pid);
/* The user that owns the process (its effective uid and gid). */
int process_owner(pid_t pid, uid_t *ret_uid, gid_t *ret_gid, struct error *err);

/* A list of pids, 0-terminated; the caller frees `pids`. */
struct process_list {
    pid_t *pids; /* owned; NULL when empty */
    size_t count;
};
void process_list_add(struct process_list *list, pid_t pid); /* once each; never 0 */
bool process_list_has(const pid_t *pids, pid_t pid);         /* NULL is an empty list */
/* Adds `root` (when it is there) and everything below it. */
int process_list_tree(pid_t root, bool with_root, struct process_list *list, struct error *err);
/* Those of `pids` that are stopped (state T) already; the caller owns *ret. */
void process_list_stopped(const pid_t *pids, struct process_list *ret);

/* SIGCONT to every process of `pids` but those in keep_stopped (both 0-terminated; NULL is
 * empty), then proves by looking that each of their threads runs: not stopped, not traced (but by
 * own_tracer, if that is not 0), and either asleep as tasks are or gaining CPU time between two
 * looks. A process that has ended in the meantime ran. Errors: ERROR_FAILED naming the task and its
 * state after timeout_ms. */
int process_continue(const pid_t *pids, const pid_t *keep_stopped, pid_t own_tracer,
                     uint64_t timeout_ms, struct error *err);
/* Waits until every thread of `pids` is stopped; with own_tracer (or 0), by that too. */
int process_wait_stopped(const pid_t *pids, pid_t own_tracer, uint64_t timeout_ms,
                         struct error *err);

/* A child in a process group of its own, with a time limit. */
struct process_job {
    char *const *argv; /* argv[0] is a path */
    char *const *env;
    const char *output_path; /* stdout and stderr are appended; NULL: captured */
    uint64_t timeout_ms;
    uint64_t grace_ms; /* between SIGTERM and SIGKILL to the group when the time is up */
};
struct process_outcome {
    bool timed_out;
    int exit_status;   /* exit code, or 128 + signal */
    char output[4096]; /* captured: the beginning of stdout and stderr */
};
/* Runs it to its end; its whole process group is gone afterwards, and it ends when the calling
 * thread does. Errors: ERROR_NOT_FOUND (cannot be executed), ERROR_FAILED (no fork). A failing or
 * late child is no error: see the outcome. */
int process_run(const struct process_job *job, struct process_outcome *ret, struct error *err);

int64_t process_now_ms(void); /* monotonic */
void process_sleep_ms(unsigned ms);
