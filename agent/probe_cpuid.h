/* SPDX-License-Identifier: Apache-2.0 */
/* probe_cpuid.h - reading CPUID, XGETBV and CPUID faulting; probe_cpuid.c alone knows libcpuid. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu_report.h"

/* Where CPUID comes from: the CPU, or a recorded dump in tests. */
struct probe_cpuid {
    void (*read)(void *ctx, uint32_t leaf, uint32_t subleaf, struct cpuid_leaf *ret);
    void *ctx;
};
extern const struct probe_cpuid probe_cpuid_here; /* the CPU that the thread runs on */

/* All basic and extended leaves with all their subleaves; at most CPU_REPORT_LEAVES_MAX. The
 * caller frees *ret. */
void probe_cpuid_all(const struct probe_cpuid *cpuid, struct cpuid_leaf **ret, size_t *ret_count);
/* XGETBV(0); false where the kernel has not switched xsave on. */
bool probe_xcr0(uint64_t *ret);
/* Whether CPUID faulting works, by trying: a child switches it on and has to die of SIGSEGV. */
bool probe_cpuid_faulting(void);

/* Whether two CPUs answer alike, but for the numbers that tell one CPU from another (APIC ids). */
bool probe_cpuid_alike(const struct cpu_group *a, const struct cpu_group *b);
/* "core" or "atom" where the CPU is a hybrid, else NULL. Static. */
const char *probe_core_type(const struct cpu_group *group);
