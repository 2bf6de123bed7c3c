/* SPDX-License-Identifier: Apache-2.0 */
/* mask_tasks.h - the threads of a tree of processes that is traced for the mask, by their number.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "mask_process.h"

#define MASK_TASK_BUCKETS 1024

/* What its next stop at a system call's end is about. */
enum mask_task_state {
    MASK_TASK_RUNS,    /* nothing */
    MASK_TASK_IN_EXEC, /* an execve that has replaced the program */
    MASK_TASK_IN_CALL, /* a call that brings code */
};

struct mask_task {
    pid_t tid;
    enum mask_task_state state;
    struct mask_process *process; /* a reference; NULL: it runs no program of the workload yet */
    /* A new thread stops by itself, before or after its maker's stop; it waits for that. */
    bool is_known;      /* its maker has stopped */
    int64_t held_at_ms; /* since when it waits; 0: it does not */
    int held_signal;    /* of that stop */
    bool is_parked;     /* it stays in a stop, with this signal */
    int parked_signal;
    bool look_again; /* at all of its memory: it was copied while others may have mapped code */
    bool is_mmap;    /* the call, and what it is about */
    uint64_t call_address, call_length;
    struct mask_task *next; /* in its bucket */
};

struct mask_tasks {
    struct mask_task *buckets[MASK_TASK_BUCKETS];
    size_t count, held, parked;
};

struct mask_task *mask_tasks_find(const struct mask_tasks *tasks, pid_t tid); /* or NULL */
struct mask_task *mask_tasks_need(struct mask_tasks *tasks, pid_t tid);       /* made if missing */
/* Harmless when it is so already. */
void mask_tasks_park(struct mask_tasks *tasks, struct mask_task *task, int signal);
void mask_tasks_unpark(struct mask_tasks *tasks, struct mask_task *task);
void mask_tasks_drop(struct mask_tasks *tasks, pid_t tid);
void mask_tasks_done(struct mask_tasks *tasks);
