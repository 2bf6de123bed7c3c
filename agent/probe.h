/* SPDX-License-Identifier: Apache-2.0 */
/* probe.h - the raw facts of this machine's CPUs, read on every logical CPU, as a report. */
#pragma once

#include <stddef.h>

#include "cpu_report.h"
#include "engine.h"
#include "error.h"

struct probe_options {
    const char *node; /* the node's name in the report */
    const char *root; /* folder that holds proc/ and sys/; NULL or "": the machine's own */
    struct engine *const *engines; /* what works here; may be NULL */
    size_t engine_count;
};

/* Pins the calling thread to each CPU in turn (its own affinity is put back), reads, folds equal
 * CPUs together and seals the report. The caller owns *ret. Errors: ERROR_FAILED. */
int probe_report(const struct probe_options *options, struct cpu_report **ret, struct error *err);
