/* SPDX-License-Identifier: Apache-2.0 */
/* cgroup.h - control groups, version 2 only, also where it is mounted beside version 1.
 *
 * A workload's folder is <mount>/<parent>/<workload>, with `tasks` for its tasks and `shim` for
 * the shim that watches them. Every function takes "" for "there is no cgroup v2 here" and then
 * does nothing, successfully. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "error.h"
#include "process.h"

#define CGROUP_TASKS "tasks"
#define CGROUP_SHIM  "shim"

/* Where cgroup v2 is mounted, from `root`/proc/self/mountinfo (root "": the machine's own). The
 * caller owns *ret. Errors: ERROR_NOT_FOUND when it is not mounted. */
int cgroup_find_mount(const char *root, char **ret, struct error *err);

/* Makes `dir` (below a cgroup mount) and its parents. */
int cgroup_make(const char *dir, struct error *err);
int cgroup_join(const char *dir, pid_t pid, struct error *err);
/* Adds the processes of `dir` and everything below it, as far as this pid namespace sees them. */
int cgroup_pids(const char *dir, struct process_list *list, struct error *err);
/* Whether any process lives there or below; false for "" and where `dir` is gone. */
bool cgroup_populated(const char *dir);
/* Freezes everything there and below, and waits until it is. Errors: ERROR_TIMEOUT, ERROR_FAILED (a
 * kernel without the freezer); it may be half frozen then. */
int cgroup_freeze(const char *dir, uint64_t timeout_ms, struct error *err);
/* Undoes a freeze that somebody left behind. */
int cgroup_thaw(const char *dir, struct error *err);
/* SIGKILL to everything there and below, through cgroup.kill where the kernel has it; returns
 * when it is empty. Errors: ERROR_TIMEOUT. */
int cgroup_kill(const char *dir, uint64_t timeout_ms, struct error *err);
/* Removes `dir` and the groups below it, waiting until they are empty. Gone already is success.
 * Errors: ERROR_TIMEOUT, ERROR_FAILED. */
int cgroup_remove(const char *dir, uint64_t timeout_ms, struct error *err);
