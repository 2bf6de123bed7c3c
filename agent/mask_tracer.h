/* SPDX-License-Identifier: Apache-2.0 */
/* mask_tracer.h - the tracer of a masked tree of processes: stays in front of all code that it ever
 * runs.
 *
 * The calling thread is the tracer, so it must be the one that goes on to call, and have no
 * children that are not traced. What cannot be masked does not run: the whole tree is killed then.
 *
 * A tree comes to its tracer at birth (mask_tracer_seize) or later, out of a frozen control group
 * (mask_tracer_attach): after a restore, or when its tracer has ended. In between it stays masked;
 * the filter (mask_filter.h) refuses it new code and new programs. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "cleanup.h"
#include "error.h"
#include "mask_process.h"

struct mask_tracer_options {
    const char *name;                 /* of the tree, for messages; copied */
    struct mask_process_options mask; /* what it points to outlives the tracer */
    bool kill_at_end;                 /* the tree dies with its tracer (PTRACE_O_EXITKILL) */
};

struct mask_tracer; /* opaque; one thread */

struct mask_tracer *mask_tracer_new(const struct mask_tracer_options *options);
/* Kills what is still traced and waits for its end. NULL is fine. */
void mask_tracer_free(struct mask_tracer *tracer);
DEFINE_AUTO(mask_tracer)

/* Takes a process that has yet to start its program: one that waits, without threads, with the
 * filter installed or yet to be. It is the tree's root. Errors: ERROR_FAILED. */
int mask_tracer_seize(struct mask_tracer *tracer, pid_t pid, struct error *err);
/* Whether the root's program is masked; before that, it has not run an instruction. */
bool mask_tracer_is_masked(const struct mask_tracer *tracer);

/* Attends to all stops that there are; with `wait`, until there is at least one (or a signal to the
 * caller). *ret_lives: whether anything is traced (at least one, else the answer is no). To be
 * called whenever SIGCHLD comes, or in a loop. Errors: ERROR_FAILED: something could not be masked,
 * and the whole tree was killed and is gone. */
int mask_tracer_attend(struct mask_tracer *tracer, bool wait, bool *ret_lives, struct error *err);

/* Takes every process of the control group (v2, a folder), which runs, is stopped or is frozen, and
 * was masked before: freezes it, seizes every thread, puts the table into its islands, recognises
 * its detours and covers what came meanwhile, and lets it go on as it was. Nothing of it runs in
 * between. With `whole`, as after a restore, nothing may have come meanwhile.
 * Errors: ERROR_CONFLICT (a debugger has it), ERROR_FAILED, ERROR_REJECTED (it has no filter, so it
 * was not masked; or it is not whole), ERROR_TIMEOUT: the group is thawed then, and its processes
 * go on as before. After any but ERROR_CONFLICT the caller has to end by _exit: a thread that could
 * not be stopped cannot be let go of in another way. */
int mask_tracer_attach(struct mask_tracer *tracer, const char *cgroup, pid_t root, bool whole,
                       struct error *err);
/* Lets go of everything; with `freeze`, into the frozen control group, so that nothing runs until
 * somebody thaws it. Errors: ERROR_TIMEOUT (a thread that cannot be stopped, as in vfork),
 * ERROR_FAILED: everything is traced and runs as before. Or the failure of mask_tracer_attend. */
int mask_tracer_detach(struct mask_tracer *tracer, const char *cgroup, bool freeze,
                       struct error *err);

pid_t mask_tracer_root(const struct mask_tracer *tracer);
/* Whether the root has ended, and how (as waitpid has it). Its children may live on. */
bool mask_tracer_ended(const struct mask_tracer *tracer, int *ret_status);
/* What is covered in the root; NULL once it has ended. Borrowed until the next call. */
const struct mask_process *mask_tracer_process(const struct mask_tracer *tracer);
/* The most that any process of the tree has had of each, since this tracer began. */
struct mask_coverage mask_tracer_coverage(const struct mask_tracer *tracer);
/* Whether it has to be called again soon, though nothing stops. */
bool mask_tracer_waits(const struct mask_tracer *tracer);
size_t mask_tracer_threads(const struct mask_tracer *tracer); /* that are traced now */
