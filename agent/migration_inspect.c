/* SPDX-License-Identifier: Apache-2.0 */
/* migration_inspect.c - the source's part while the target prepares: a look at the running
 * workload; and once more at the stopped one, where the broker's decision rests on it.
 *
 * Nothing is frozen and nothing changes. A look that fails is no failure of the move: the evidence
 * then says that everything is unknown, and why; the broker decides what follows from that. */
#include <stdio.h>
#include <string.h>

#include "inspect.h"
#include "log.h"
#include "migration_internal.h"

#define INSPECT_LEAST_MS 100

/* The look may take half of what is left for the phase, and no longer than any look. */
static uint64_t time_limit_ms(const struct migration *m)
{
    int64_t deadline_ms = m->journal.assignment.deadline_at_ms;
    int64_t left_ms = (deadline_ms - clock_unix_ms(m->all->config.clock)) / 2;
    if (deadline_ms <= 0 || left_ms > INSPECT_TIMEOUT_MS)
        return INSPECT_TIMEOUT_MS;
    return left_ms > INSPECT_LEAST_MS ? (uint64_t)left_ms : INSPECT_LEAST_MS;
}

/* Evidence of a look that showed nothing. */
static json_object *unknown_evidence(pid_t root, const char *workload, const char *why)
{
    struct cpu_evidence evidence = {.pid = root > 0 ? root : 1,
                                    .at_ms = clock_unix_ms(&clock_system)};
    struct cpu_evidence_task *task = cpu_evidence_add_task(&evidence, evidence.pid, workload);
    cpu_evidence_unknown(task, "everything: %s", why);
    json_object *json = cpu_evidence_to_json(&evidence);
    cpu_evidence_done(&evidence);
    return json;
}

/* The message, if it is not too large to be told. The caller owns it. */
static int message_of(struct cpu_evidence *evidence, json_object **ret, struct error *err)
{
    cpu_evidence_condense(evidence);
    json_object *json = cpu_evidence_to_json(evidence);
    autofree char *text = json_text(json);
    size_t length = strlen(text);
    if (length <= CPU_EVIDENCE_TOLD_MAX) {
        *ret = json;
        return 0;
    }
    json_object_put(json);
    return error_set(err, ERROR_TOO_LARGE,
                     "what is known of its %zu processes takes %zu bytes, at most %lu are told",
                     evidence->task_count, length, CPU_EVIDENCE_TOLD_MAX);
}

/* `root` is where the tree begins; when it has ended, another process of the workload. */
static int look(const struct migration *m, pid_t root, const pid_t *pids, json_object **ret,
                struct error *err)
{
    struct cpu_evidence evidence = {0};
    struct inspect_cost cost = {0};
    if (root <= 0 && pids)
        root = *pids;
    if (root <= 0)
        return error_set(err, ERROR_NOT_FOUND, "it has no process");
    if (inspect_processes(root, pids, time_limit_ms(m), &evidence, &cost, err) < 0)
        return -1;
    log_info("the workload was looked at", LOG_STR("migration", m->id),
             LOG_STR("workload", m->journal.assignment.workload),
             LOG_INT("processes", (int64_t)evidence.task_count),
             LOG_INT("threads", (int64_t)cost.threads),
             LOG_INT("longest_stop_us", (int64_t)cost.longest_stop_us),
             LOG_INT("took_us", (int64_t)cost.elapsed_us));
    int rc = message_of(&evidence, ret, err);
    cpu_evidence_done(&evidence);
    return rc;
}

/* Whether there is anything here to look at; what cannot be moved need not be looked at. */
static int check(struct migration *m, pid_t *ret_root, struct error *err)
{
    struct workload_info info = {0};
    int rc = workloads_get(m->all->config.workloads, m->journal.assignment.workload, &info, err);
    if (rc < 0)
        return -1;
    *ret_root = info.root_pid;
    if (*info.migration && strcmp(info.migration, m->id) != 0)
        rc = error_set(err, ERROR_CONFLICT, "another migration (%s) holds it", info.migration);
    else if (info.state != WORKLOAD_RUNNING)
        rc = error_set(err, ERROR_CONFLICT, "it is %s, and only a running workload can move",
                       workload_state_name(info.state));
    workload_info_done(&info);
    return rc;
}

bool migration_inspect(struct migration *m)
{
    const char *workload = m->journal.assignment.workload;
    int64_t begun_ms = migration_now_ms(m);
    struct error err = {0};
    autofree pid_t *pids = NULL;
    json_object *evidence = NULL;
    pid_t root = 0;
    if (m->journal.report == MIGRATION_REPORT_INSPECTED)
        return false; /* done already */
    if (check(m, &root, &err) < 0) {
        error_wrap(&err, "'%s' was not frozen", workload);
        migration_fail(m, JOURNAL_FAILED, begun_ms, &err, NULL);
        return true;
    }
    if (workloads_pids(m->all->config.workloads, workload, &pids, &err) < 0 ||
        look(m, root, pids, &evidence, &err) < 0) {
        log_warn("the workload could not be looked at; the move goes on without",
                 LOG_STR("migration", m->id), LOG_STR("workload", workload),
                 LOG_STR("error", err.message));
        evidence = unknown_evidence(root, workload, err.message);
    }
    migration_tell(m, JOURNAL_NONE, MIGRATION_REPORT_INSPECTED, begun_ms, "evidence", evidence);
    return true;
}

json_object *migration_look_again(struct migration *m)
{
    const char *workload = m->journal.assignment.workload;
    struct error err = {0};
    autofree pid_t *pids = NULL;
    json_object *evidence = NULL;
    if (!m->journal.assignment.look_again)
        return NULL;
    if (workloads_pids(m->all->config.workloads, workload, &pids, &err) == 0 &&
        look(m, m->journal.root_pid, pids, &evidence, &err) == 0)
        return evidence;
    log_warn("the stopped workload could not be looked at", LOG_STR("migration", m->id),
             LOG_STR("workload", workload), LOG_STR("error", err.message));
    return unknown_evidence(m->journal.root_pid, workload, err.message);
}
