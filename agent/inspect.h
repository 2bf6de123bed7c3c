/* SPDX-License-Identifier: Apache-2.0 */
/* inspect.h - looks at a running tree of processes: which CPU features it uses, as far as can be
 * seen from outside without changing it.
 *
 * Each thread is stopped alone for some tens of microseconds while its registers are read; the
 * process as a whole is never stopped, nothing is executed in it and nothing is written to it.
 * docs/evidence.md tells where each fact comes from. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "cpu_evidence.h"
#include "error.h"

#define INSPECT_TIMEOUT_MS 5000

/* What looking cost the tree. */
struct inspect_cost {
    uint64_t threads;         /* that were stopped */
    uint64_t longest_stop_us; /* of one thread */
    uint64_t total_stop_us;   /* of all of them, one after the other */
    uint64_t elapsed_us;
};

/* Fills *ret (released with cpu_evidence_done) with everything from `root` down. What cannot be
 * seen is in `unknown`; a task that ends meanwhile is left out. Every thread is let go of on every
 * path. Errors: ERROR_NOT_FOUND (no such process, or it ended), ERROR_TOO_LARGE,
 * ERROR_FAILED. */
int inspect_tree(pid_t root, struct cpu_evidence *ret, struct error *err);
/* The same for a workload: `also` are more processes of it (0-terminated, may be NULL), such as
 * those that its control group holds after their parents ended; what has ended of them is left
 * out. When timeout_ms are over, what was not looked at yet is unknown. `ret_cost` may be NULL. */
int inspect_processes(pid_t root, const pid_t *also, uint64_t timeout_ms, struct cpu_evidence *ret,
                      struct inspect_cost *ret_cost, struct error *err);
