/* SPDX-License-Identifier: Apache-2.0 */
/* engine_private.h - what the engine_criu*.c files share; nobody else includes it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "engine.h"
#include "process.h"

struct engine {
    char *program;       /* owned; an absolute path */
    char version[32];    /* "4.1.1" */
    bool no_breakpoints; /* hardware breakpoints do not fire here */
};

/* Deleted files up to this size are put into the image. */
#define CRIU_GHOST_LIMIT_BYTES (64UL * 1024 * 1024)

/* What the tree needs of CRIU beyond the plain; carried to the restore in a file of the image. */
struct criu_needs {
    bool shell_job; /* its session or controlling terminal lies outside the tree */
};

/* --- engine_criu_probe.c ------------------------------------------------------------------- */

/* Whether a hardware breakpoint fires in a child of ours. */
bool criu_breakpoints_fire(void);

/* --- engine_criu_preflight.c --------------------------------------------------------------- */

/* The tree's processes, root first; the caller frees list->pids. */
int criu_tree(const struct engine_job *job, struct process_list *list, struct error *err);
int criu_preflight(const struct engine_job *job, struct criu_needs *ret, struct error *err);

/* --- engine_criu_log.c --------------------------------------------------------------------- */

/* The last lines that tell of errors in work_dir/name, or the last lines at all when none does;
 * "" when there is no log. Says whose a taken pid is. */
void criu_log_tail(const char *work_dir, const char *name, char *tail, size_t size);
/* From an image file of CRIU's statistics (stats-dump): how long tasks were frozen. 0: unknown. */
uint64_t criu_frozen_ms(const char *path);
/* The size of the regular files of a folder. */
uint64_t criu_folder_bytes(const char *path);
