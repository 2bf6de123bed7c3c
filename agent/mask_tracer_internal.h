/* SPDX-License-Identifier: Apache-2.0 */
/* mask_tracer_internal.h - what mask_tracer.c and mask_handover.c share; nobody else includes it.
 */
#pragma once

#include "mask_tasks.h"
#include "mask_tracer.h"

struct mask_tracer {
    struct mask_process_options mask;
    char *name; /* owned */
    long options;
    pid_t root;
    bool is_masked; /* the root's program was */
    bool has_ended; /* the root has, with this status */
    int status;
    bool parks; /* threads that stop for no reason of their own stay stopped */
    struct mask_tasks tasks;
    struct mask_coverage most;
};

/* Lets a thread go on that stands in a stop which is no signal's: where its process is stopped,
 * until SIGCONT. */
void mask_tracer_resume(const struct mask_task *task, int signal);
/* Remembers what a process has. */
void mask_tracer_note(struct mask_tracer *tracer, const struct mask_process *process);
void mask_tracer_pause(unsigned round);
/* Whether the two threads have the same memory. */
bool mask_tracer_shares_memory(pid_t a, pid_t b);
