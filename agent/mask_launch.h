/* SPDX-License-Identifier: Apache-2.0 */
/* mask_launch.h - starts a program under the mask and stays in front of all code that it and
 * everything that comes from it ever runs.
 *
 * The calling thread becomes the tracer of the whole tree, so it must be the one that goes on to
 * call, and have no other children. What cannot be masked does not run: the whole tree is killed
 * then. It is also killed when the tracer ends (PTRACE_O_EXITKILL). */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "cleanup.h"
#include "error.h"
#include "mask_process.h"

struct mask_launch_options {
    char *const *argv; /* argv[0] is a path, or looked up in the PATH of the caller */
    char *const *env;
    struct mask_process_options mask; /* what it points to outlives the launch */
    /* Runs in the child before the program, with the filter in force: to change user, folder,
     * descriptors. Async-signal-safe; 0, or -1 with errno. May be NULL. */
    int (*prepare)(void *ctx);
    void *ctx;
};

struct mask_launch; /* opaque; one thread */

/* On success the program is masked and about to run its first instruction. Wants root: a filter
 * without no_new_privs, and map_files. The caller owns *ret.
 * Errors: ERROR_NOT_FOUND (no such program), ERROR_FAILED: nothing is left of it then. */
int mask_launch_start(const struct mask_launch_options *options, struct mask_launch **ret,
                      struct error *err);

/* Attends to all stops that there are; with `wait`, until there is at least one (or a signal to the
 * caller). *ret_lives: whether anything of the tree is left. To be called whenever SIGCHLD comes,
 * or in a loop. Errors: ERROR_FAILED: something could not be masked, and the whole tree was killed
 * and is gone. */
int mask_launch_attend(struct mask_launch *launch, bool wait, bool *ret_lives, struct error *err);

pid_t mask_launch_pid(const struct mask_launch *launch); /* of the program itself */
/* Whether the program itself has ended, and how (as waitpid has it). Its children may live on. */
bool mask_launch_ended(const struct mask_launch *launch, int *ret_status);
/* What is covered in the program itself; NULL once it has ended. Borrowed until the next call. */
const struct mask_process *mask_launch_process(const struct mask_launch *launch);
/* Kills what is left and waits for its end. NULL is fine. */
void mask_launch_free(struct mask_launch *launch);
DEFINE_AUTO(mask_launch)
