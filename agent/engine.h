/* SPDX-License-Identifier: Apache-2.0 */
/* engine.h - a checkpoint engine: what dumps a tree of tasks into images and restores it.
 *
 * CRIU is the first (engine_criu.c). An engine is always a child process with a time limit; its
 * log stays in the migration's work folder, and the last lines of its errors reach the user. A
 * hung engine is killed, and the tasks are proved to run again before the failure is reported. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "cleanup.h"
#include "error.h"
#include "json.h"

enum engine_capability {
    ENGINE_LEAVE_STOPPED = 1, /* can leave tasks stopped after dump and after restore */
    ENGINE_PRE_DUMP = 2,      /* can track dirty memory */
    ENGINE_LAZY_PAGES = 4,
};

struct engine; /* opaque; safe from any thread once made */

/* Finds and tries the engine: version, `criu check`, whether hardware breakpoints fire here.
 * `program` is its path, or NULL to look in PATH and the private folder. Errors:
 * ERROR_NOT_FOUND, ERROR_FAILED (it is there and does not work, with its own words). */
int engine_criu_new(const char *program, struct engine **ret, struct error *err);
void engine_free(struct engine *engine); /* NULL is fine */
DEFINE_AUTO(engine)
const char *engine_name(const struct engine *engine);    /* "criu" */
const char *engine_version(const struct engine *engine); /* "4.1.1" */
unsigned engine_capabilities(const struct engine *engine);

struct engine_job {
    pid_t root_pid;         /* root of the tree, in this pid namespace */
    const char *image_dir;  /* images only */
    const char *work_dir;   /* logs: dump.log, restore.log, engine's own output */
    const char *cgroup_dir; /* the workload's cgroup folder; "" when there is none */
    bool frozen;            /* dump: the tasks' cgroup is frozen, and after a failure or an abort it
                               is again; the caller lets it run on */
    pid_t own_tracer; /* preflight: this process may trace it, and will let go; 0: nobody may */
    uint64_t timeout_ms;
};

struct engine_result {
    uint64_t image_bytes;
    uint64_t frozen_ms;  /* from the engine's own statistics */
    char log_tail[2048]; /* on failure: the last lines of its errors, "" when none */
};

/* Whether the tree can be dumped, as far as the engine can say without touching it. */
int engine_preflight(struct engine *engine, const struct engine_job *job, struct error *err);
/* Dumps and leaves all tasks stopped (SIGSTOP). On failure the tasks run again (engine_abort
 * has been done) and the error says so, or says that it could not be proved; with `frozen`, they
 * are frozen. */
int engine_dump(struct engine *engine, const struct engine_job *job, struct engine_result *result,
                struct error *err);
/* The command that restores with all tasks left stopped and detached; it is run under the
 * workload's shim, so that restored tasks come back under that. `pidfile` will hold the root's
 * pid. The caller owns *ret_argv and *ret_env (NULL-terminated; free with engine_strv_free). */
int engine_restore_command(struct engine *engine, const struct engine_job *job, const char *pidfile,
                           char ***ret_argv, char ***ret_env, struct error *err);
/* Fills result->log_tail and the bytes from what a restore left in work_dir. */
void engine_restore_result(struct engine *engine, const struct engine_job *job,
                           struct engine_result *result);
/* After a failed or killed dump: detaches what is left, continues every task of the tree except
 * `keep_stopped` (pids, 0-terminated, may be NULL) and proves by looking that each runs again.
 * Errors: ERROR_FAILED naming the task and its state. */
int engine_abort(struct engine *engine, const struct engine_job *job, const pid_t *keep_stopped,
                 struct error *err);
void engine_strv_free(char **strv);
