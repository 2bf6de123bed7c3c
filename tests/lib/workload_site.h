/* SPDX-License-Identifier: Apache-2.0 */
/* workload_site.h - a node's workloads in a temporary state folder, with the shim of this build. */
#pragma once

#include "workload.h"

struct site {
    char state_dir[64], roots[80], cgroup_parent[64];
    char *shim, *victim, *hang_engine; /* owned; programs of this build */
    struct workloads *workloads;       /* owned; NULL while "the agent is down" */
    unsigned changes;                  /* calls of the changed callback */
};

/* Leaves the program with 77 and a line when not root. */
void site_requires_root(void);
/* `label` keeps the cgroups of several sites of one test apart. */
void site_up(struct site *site, const char *label);
/* Destroys every workload, and removes folder and cgroup. */
void site_down(struct site *site);
/* As if the agent was killed and started again. */
void site_restart(struct site *site);

/* argv is NULL-terminated. */
void site_run(struct site *site, const char *name, const char *const *argv,
              struct workload_info *ret);
/* Waits until the workload is in that state, at most 10 s. */
void site_wait_state(struct site *site, const char *name, enum workload_state state,
                     struct workload_info *ret);
/* The text of a file of the default folder of a workload, "" when it is not there; owned by the
 * caller. */
char *site_read(struct site *site, const char *name, const char *file);
/* How many lines that file has. */
unsigned site_lines(struct site *site, const char *name, const char *file);
/* Waits until it has at least that many, at most 10 s. */
void site_wait_lines(struct site *site, const char *name, const char *file, unsigned lines);
