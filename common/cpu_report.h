/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_report.h - cpubroker.report/1: the raw facts of one node's CPUs, as an agent or a dump
 * tells them.
 *
 * A report is immutable once made. Its identity is the SHA-256 of its canonical JSON. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cleanup.h"
#include "error.h"
#include "json.h"

#define CPU_REPORT_SCHEMA      "cpubroker.report/1"
#define CPU_REPORT_MAX_BYTES   (4UL * 1024 * 1024)
#define CPU_REPORT_GROUPS_MAX  256  /* unlike logical CPUs of one node */
#define CPU_REPORT_LEAVES_MAX  1024 /* leaves and subleaves of one group */
#define CPU_REPORT_ENGINES_MAX 16

struct cpuid_leaf {
    uint32_t leaf, subleaf;
    uint32_t eax, ebx, ecx, edx;
};

struct cpu_group {   /* logical CPUs that answer alike */
    char *cpus;      /* owned; a kernel cpu list, "0-1,4" */
    char *core_type; /* owned; "core", "atom" on hybrid CPUs; NULL when not hybrid */
    bool xcr0_known;
    uint64_t xcr0;             /* XGETBV(0) */
    struct cpuid_leaf *leaves; /* owned; sorted by leaf, subleaf; no doubles */
    size_t leaf_count;
};

struct cpu_engine {
    char *name, *version; /* owned */
};

struct cpu_report {
    char *node;               /* owned */
    struct cpu_group *groups; /* owned */
    size_t group_count;       /* at least 1 */
    struct {
        char *kernel, *boot_id; /* owned; NULL when unknown */
        bool microcode_known, hwcap_known, hwcap2_known, minsigstksz_known;
        uint64_t microcode, hwcap, hwcap2;
        uint64_t minsigstksz; /* bytes: AT_MINSIGSTKSZ */
        /* CPUID faulting, by trying: -1 unknown, 0 no, 1 works (member "cpuid_faulting") */
        int cpuid_faulting;
    } os;
    struct cpu_engine *engines; /* owned */
    size_t engine_count;
    char sha256[65]; /* of the canonical JSON; set by parse and seal */
};

/* Decodes and checks a report. The caller owns *ret. Errors: ERROR_INVALID naming the member,
 * e.g. "report: cpus[0].leaves[3].eax: expected …". */
int cpu_report_parse(json_object *json, struct cpu_report **ret, struct error *err);
/* The report as JSON; the caller owns the result. parse(to_json(r)) equals r. */
json_object *cpu_report_to_json(const struct cpu_report *report);
/* Sorts the leaves and computes the hash of a report that was filled by hand (the probe). */
int cpu_report_seal(struct cpu_report *report, struct error *err);
void cpu_report_free(struct cpu_report *report); /* NULL is fine */
DEFINE_AUTO(cpu_report)

/* The leaf of a group, or NULL. Borrowed. */
const struct cpuid_leaf *cpu_group_find(const struct cpu_group *group, uint32_t leaf,
                                        uint32_t subleaf);
bool cpu_report_has_engine(const struct cpu_report *report, const char *name);
