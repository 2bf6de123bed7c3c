/* SPDX-License-Identifier: Apache-2.0 */
/* probe.c - puts the facts of all logical CPUs and of the system into a report. */
#include "probe.h"

#include <ctype.h>
#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "cleanup.h"
#include "file.h"
#include "log.h"
#include "probe_cpuid.h"
#include "probe_system.h"

/* The CPUs of one group, as a list of numbers while they are collected. */
struct gathering {
    struct cpu_report *report;
    unsigned *members[CPU_REPORT_GROUPS_MAX]; /* owned */
    size_t counts[CPU_REPORT_GROUPS_MAX];
};

static void add_member(struct gathering *g, size_t group, unsigned cpu)
{
    g->members[group] =
        xrealloc(g->members[group], (g->counts[group] + 1) * sizeof(*g->members[group]));
    g->members[group][g->counts[group]++] = cpu;
}

static int read_cpu(struct gathering *g, unsigned cpu, struct error *err)
{
    struct cpu_report *report = g->report;
    struct cpu_group group = {0};
    probe_cpuid_all(&probe_cpuid_here, &group.leaves, &group.leaf_count);
    group.xcr0_known = probe_xcr0(&group.xcr0);
    for (size_t i = 0; i < report->group_count; i++)
        if (probe_cpuid_alike(&report->groups[i], &group)) {
            free(group.leaves);
            add_member(g, i, cpu);
            return 0;
        }
    if (report->group_count == CPU_REPORT_GROUPS_MAX) {
        free(group.leaves);
        return error_set(err, ERROR_FAILED, "more than %d unlike CPUs", CPU_REPORT_GROUPS_MAX);
    }
    group.core_type = xstrdup(probe_core_type(&group));
    report->groups = xrealloc(report->groups, (report->group_count + 1) * sizeof(*report->groups));
    report->groups[report->group_count] = group;
    add_member(g, report->group_count++, cpu);
    return 0;
}

/* The CPU's thread moves over all CPUs; one that it may not enter is left out, and said. */
static int read_cpus(struct gathering *g, const unsigned *cpus, size_t count, struct error *err)
{
    size_t size = CPU_ALLOC_SIZE(PROBE_CPUS_MAX), left_out = 0;
    cpu_set_t *set = CPU_ALLOC(PROBE_CPUS_MAX);
    int rc = set ? 0 : error_set(err, ERROR_FAILED, "out of memory");
    for (size_t i = 0; rc == 0 && i < count; i++) {
        CPU_ZERO_S(size, set);
        CPU_SET_S(cpus[i], size, set);
        if (sched_setaffinity(0, size, set) == 0)
            rc = read_cpu(g, cpus[i], err);
        else if (errno == EINVAL)
            left_out++; /* outside our cpuset, or taken offline meanwhile */
        else
            rc = error_errno(err, ERROR_FAILED, "cannot move to CPU %u", cpus[i]);
    }
    CPU_FREE(set);
    if (rc == 0 && g->report->group_count == 0)
        rc = error_set(err, ERROR_FAILED, "none of the %zu online CPUs could be read", count);
    if (rc == 0 && left_out)
        log_warn("CPUs outside the agent's cpuset are not in the report",
                 LOG_INT("cpus", (int64_t)left_out));
    return rc;
}

static int gather(struct gathering *g, const char *root, struct error *err)
{
    autofree unsigned *cpus = NULL;
    size_t count = 0, size = CPU_ALLOC_SIZE(PROBE_CPUS_MAX);
    if (probe_online_cpus(root, &cpus, &count, err) < 0)
        return -1;
    cpu_set_t *before = CPU_ALLOC(PROBE_CPUS_MAX);
    if (!before)
        return error_set(err, ERROR_FAILED, "out of memory");
    int rc = sched_getaffinity(0, size, before) < 0
                 ? error_errno(err, ERROR_FAILED, "cannot read the CPU affinity")
                 : 0;
    if (rc == 0) {
        rc = read_cpus(g, cpus, count, err);
        if (sched_setaffinity(0, size, before) < 0)
            log_warn("cannot put the CPU affinity back");
    }
    CPU_FREE(before);
    return rc;
}

static void add_engines(struct cpu_report *report, const struct probe_options *options)
{
    size_t count = options->engine_count;
    if (count > CPU_REPORT_ENGINES_MAX)
        count = CPU_REPORT_ENGINES_MAX;
    report->engines = xcalloc(count, sizeof(*report->engines));
    for (size_t i = 0; i < count; i++) {
        report->engines[i].name = xstrdup(engine_name(options->engines[i]));
        report->engines[i].version = xstrdup(engine_version(options->engines[i]));
    }
    report->engine_count = count;
}

int probe_report(const struct probe_options *options, struct cpu_report **ret, struct error *err)
{
    AUTO(cpu_report) report = xcalloc(1, sizeof(*report));
    struct gathering g = {.report = report};
    const char *root = options->root ? options->root : "";
    if (name_check("node", options->node, err) < 0)
        return -1;
    report->node = xstrdup(options->node);
    int rc = gather(&g, root, err);
    for (size_t i = 0; i < report->group_count; i++) {
        report->groups[i].cpus = probe_cpu_list(g.members[i], g.counts[i]);
        free(g.members[i]);
    }
    if (rc < 0)
        return error_wrap(err, "reading the CPUs");
    probe_system(root, report);
    report->os.cpuid_faulting = probe_cpuid_faulting() ? 1 : 0;
    add_engines(report, options);
    if (cpu_report_seal(report, err) < 0)
        return -1;
    *ret = steal_ptr(&report);
    return 0;
}
