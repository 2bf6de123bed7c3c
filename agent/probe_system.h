/* SPDX-License-Identifier: Apache-2.0 */
/* probe_system.h - what /proc and /sys tell of the machine; `root` is the folder that holds both
 * ("" for the machine's own), so that tests read recorded trees. */
#pragma once

#include <stddef.h>

#include "cpu_report.h"
#include "error.h"

#define PROBE_CPUS_MAX 8192 /* as many as any kernel is built for */

/* The numbers of the online CPUs, ascending; the caller frees *ret. */
int probe_online_cpus(const char *root, unsigned **ret, size_t *ret_count, struct error *err);
/* A kernel CPU list, "0-1,4", of ascending numbers; the caller owns it. */
char *probe_cpu_list(const unsigned *cpus, size_t count);
/* Fills report->os but for cpuid_faulting; what cannot be read stays unknown. */
void probe_system(const char *root, struct cpu_report *report);
