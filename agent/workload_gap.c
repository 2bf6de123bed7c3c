/* SPDX-License-Identifier: Apache-2.0 */
/* workload_gap.c - keeps pids of workloads apart from those of other nodes' short-lived helpers.
 *
 * A restored task needs the very pid it had. Where machines (or the pid namespaces of several
 * nodes on one machine) have just booted, all hand out the same low pids: a workload with pid 60
 * meets another node's daemon or helper with pid 60 and cannot be restored there. So while the
 * last pid of a node's namespace is low, in the first eighth of its range, the agent moves it on
 * (ns_last_pid) to a place that its name decides. Later pids follow from there. It is done when
 * the agent starts and again before each start of a workload, because the kernel begins anew at
 * the bottom when it reaches the top. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cleanup.h"
#include "file.h"
#include "log.h"
#include "workload_private.h"

static uint32_t hash(const char *text)
{
    uint32_t h = 2166136261U; /* FNV-1a */
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 16777619U;
    return h;
}

pid_t workload_gap_base(pid_t last, pid_t max, const char *seed)
{
    pid_t low = max / 8;
    if (last >= low || max < 4096)
        return 0;
    /* The last eighth stays free, so that the top is not reached at once. */
    return low + (pid_t)(hash(seed) % (uint32_t)(max / 4 * 3));
}

static pid_t read_pid(const char *path)
{
    autofree char *text = NULL;
    return file_read(path, 64, &text, NULL, NULL) < 0 ? -1 : (pid_t)strtol(text, NULL, 10);
}

void workload_leave_gap(const char *seed)
{
    static const char last_path[] = "/proc/sys/kernel/ns_last_pid";
    pid_t last = read_pid(last_path), max = read_pid("/proc/sys/kernel/pid_max");
    pid_t base = last < 0 || max < 0 ? 0 : workload_gap_base(last, max, seed);
    if (base == 0)
        return;
    struct error err = {0};
    char text[32];
    snprintf(text, sizeof(text), "%d", base);
    if (file_write(last_path, text, &err) < 0)
        log_warn("cannot move the namespace's last pid on; restores here may find pids taken",
                 LOG_STR("error", err.message));
    else
        log_info("moved the namespace's last pid on, away from other nodes' helpers",
                 LOG_INT("from", last), LOG_INT("to", base));
}
