/* SPDX-License-Identifier: Apache-2.0 */
/* migration_source.c - the source's part: dump and send, and then kill or resume.
 *
 *   NONE -> DUMPING -> DUMPED -> SENDING -> SENT -----> KILLING -> KILLED
 *     |        |          |         |  \-> UNSURE --/
 *     |        |          |         |        |
 *     +--------+----------+---------+--------+--> RESUMING -> RESUMED, or FAILED (resumed alone)
 *
 * Nothing is frozen before all that can be checked has been. Pages go out while the engine still
 * dumps; a dump that fails leaves that transfer waiting until the broker has heard why, or the
 * target's view of it would be told first. From DUMPED on the tasks are stopped,
 * and only the broker's word moves them, with one exception: as long as the manifest has not
 * gone out, the target cannot have the whole image, so a failed sending resumes by itself. */
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "file.h"
#include "image_stream.h"
#include "log.h"
#include "migration_internal.h"
#include "process.h"

#define ROOM_OVER_MEMORY 16 /* images may be larger than the memory they hold by 1/16 */

static const char *workload_of(const struct migration *m)
{
    return m->journal.assignment.workload;
}

/* The workload's state here. True when this migration holds it. */
static bool held_by_us(struct migration *m, struct workload_info *info)
{
    struct error err;
    if (workloads_get(m->all->config.workloads, workload_of(m), info, &err) < 0)
        return false;
    if (strcmp(info->migration, m->id) == 0)
        return true;
    workload_info_done(info);
    return false;
}

/* The tracer of its mask, a child of its shim; 0: there is none. */
static pid_t own_tracer(const struct workload_info *info)
{
    struct process_stat stat;
    pid_t tracer = birth_mask_is_traced(&info->mask) ? process_tracer(info->root_pid) : 0;
    return tracer && process_stat_read(tracer, &stat, NULL) == 0 && stat.ppid == info->shim_pid
               ? tracer
               : 0;
}

static void fill_job(struct migration *m, struct engine_job *job, const char *image_dir,
                     const struct workload_info *info)
{
    *job = (struct engine_job){.root_pid = m->journal.root_pid,
                               .image_dir = image_dir,
                               .work_dir = m->log_dir,
                               .cgroup_dir = info->cgroup_dir,
                               .frozen = birth_mask_is_traced(&info->mask),
                               .own_tracer = own_tracer(info),
                               .timeout_ms = m->all->config.dump_timeout_ms};
}

/* ---- dump ---- */

static uint64_t memory_bytes(const pid_t *pids)
{
    uint64_t bytes = 0;
    for (; pids && *pids; pids++) {
        char path[64];
        autofree char *text = NULL;
        snprintf(path, sizeof(path), "/proc/%d/statm", (int)*pids);
        if (file_read(path, 4096, &text, NULL, NULL) < 0)
            continue;
        unsigned long total = 0, resident = 0;
        if (sscanf(text, "%lu %lu", &total, &resident) == 2)
            bytes += (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
    }
    return bytes;
}

static int check_room(struct migration *m, const pid_t *pids, uint64_t folder_bytes,
                      struct error *err)
{
    struct statvfs vfs;
    if (statvfs(m->all->config.state_dir, &vfs) < 0)
        return error_errno(err, ERROR_FAILED, "cannot see the free room in '%s'",
                           m->all->config.state_dir);
    uint64_t memory = memory_bytes(pids), free_bytes = (uint64_t)vfs.f_bavail * vfs.f_frsize;
    uint64_t slack = m->all->config.slack_bytes;
    if (free_bytes < memory + memory / ROOM_OVER_MEMORY + slack)
        return error_set(err, ERROR_FAILED,
                         "the image needs about %llu bytes and %s has %llu free; make room there",
                         (unsigned long long)memory, m->all->config.state_dir,
                         (unsigned long long)free_bytes);
    if (m->journal.assignment.max_bytes &&
        memory / 2 + folder_bytes > m->journal.assignment.max_bytes)
        return error_set(err, ERROR_TOO_LARGE,
                         "image and folder need about %llu bytes, the broker reserved %llu",
                         (unsigned long long)memory + folder_bytes,
                         (unsigned long long)m->journal.assignment.max_bytes);
    return 0;
}

static uint64_t max_bytes(const struct migration *m)
{
    return m->journal.assignment.max_bytes ? m->journal.assignment.max_bytes : JSON_INTEGER_MAX;
}

/* All that can be known before anything is frozen; fills the journal's pids. */
static int check_dump(struct migration *m, struct engine *engine, const struct workload_info *info,
                      const char *image_dir, struct error *err)
{
    if (*info->migration && strcmp(info->migration, m->id) != 0)
        return error_set(err, ERROR_CONFLICT, "another migration (%s) holds it", info->migration);
    if (info->state != WORKLOAD_RUNNING)
        return error_set(err, ERROR_CONFLICT, "it is %s, and only a running workload can move",
                         workload_state_name(info->state));
    struct image_totals totals = {0};
    if (image_folder_check(info->dir, max_bytes(m), &totals, err) < 0)
        return -1;
    autofree pid_t *pids = NULL;
    if (workloads_pids(m->all->config.workloads, workload_of(m), &pids, err) < 0 ||
        check_room(m, pids, totals.bytes, err) < 0)
        return -1;
    struct process_list stopped = {0};
    process_list_stopped(pids, &stopped);
    free(m->journal.stopped_pids);
    m->journal.stopped_pids = stopped.pids;
    m->journal.root_pid = info->root_pid;
    struct engine_job job;
    fill_job(m, &job, image_dir, info);
    return engine_preflight(engine, &job, err);
}

/* Lets the tasks run that a failed or interrupted dump left behind, and releases the workload. */
static int let_run(struct migration *m, struct error *err)
{
    return workloads_continue(m->all->config.workloads, workload_of(m), m->journal.stopped_pids,
                              err);
}

/* Adds to an error whether the workload runs again; that is what matters at 3 a.m. */
static void undo_dump(struct migration *m, struct error *err)
{
    struct error second;
    if (let_run(m, &second) == 0)
        error_add(err, "; '%s' runs on here", workload_of(m));
    else
        error_add(err, "; and it could not be proved that '%s' runs again: %s", workload_of(m),
                  second.message);
}

/* What the target must find again, and what of the stopped tasks the image does not tell it. */
static int note_tasks(struct migration *m, struct error *err)
{
    autofree pid_t *pids = NULL;
    if (workloads_pids(m->all->config.workloads, workload_of(m), &pids, err) < 0)
        return -1;
    m->journal.threads = migration_count_threads(pids, &m->journal.tasks);
    free(steal_ptr(&m->journal.expired_timers));
    return timerfds_expired(pids, &m->journal.expired_timers, err);
}

static int freeze(struct migration *m, struct engine *engine, const struct workload_info *info,
                  const char *image_dir, char *log, size_t log_bytes, struct error *err)
{
    struct workloads *workloads = m->all->config.workloads;
    struct engine_result result = {0};
    struct engine_job job;
    fill_job(m, &job, image_dir, info);
    if (migration_begin(m, JOURNAL_DUMPING, err) < 0)
        return -1;
    if (workloads_hold(workloads, workload_of(m), m->id, err) < 0)
        return -1;
    if (workloads_let_go(workloads, workload_of(m), err) < 0) {
        undo_dump(m, err);
        return -1;
    }
    if (engine_dump(engine, &job, &result, err) < 0) {
        snprintf(log, log_bytes, "%s", result.log_tail);
        undo_dump(m, err);
        return -1;
    }
    if (workloads_set_state(workloads, workload_of(m), WORKLOAD_STOPPED, err) < 0 ||
        note_tasks(m, err) < 0) {
        undo_dump(m, err);
        return -1;
    }
    m->journal.bytes = result.image_bytes;
    migration_sending_dumped(m->sending);
    return 0;
}

static int dump_it(struct migration *m, char *log, size_t log_bytes, struct error *err)
{
    struct engine *engine = migration_engine(m, err);
    struct workload_info info = {0};
    autofree char *image_dir = migration_image_dir(m);
    if (!engine || migration_make_log_dir(m, err) < 0 || file_remove_tree(image_dir, err) < 0 ||
        file_make_dirs(image_dir, 0700, err) < 0 ||
        workloads_get(m->all->config.workloads, workload_of(m), &info, err) < 0)
        return -1;
    int rc = check_dump(m, engine, &info, image_dir, err);
    if (rc == 0)
        rc = migration_sending_start(m, &m->sending, err);
    if (rc < 0)
        error_wrap(err, "'%s' was not frozen", workload_of(m));
    else
        rc = freeze(m, engine, &info, image_dir, log, log_bytes, err);
    workload_info_done(&info);
    return rc;
}

static bool dump(struct migration *m)
{
    int64_t begun_ms = migration_now_ms(m);
    struct error err = {0};
    char log[2048] = "";
    if (dump_it(m, log, sizeof(log), &err) < 0) {
        migration_fail(m, JOURNAL_FAILED, begun_ms, &err, log);
        migration_remove_images(m);
    } else {
        json_object *evidence = migration_look_again(m);
        migration_tell(m, JOURNAL_DUMPED, MIGRATION_REPORT_DUMPED, begun_ms,
                       evidence ? "evidence" : NULL, evidence);
    }
    return true;
}

/* ---- resume ---- */

static void end_sending(struct migration *m)
{
    migration_sending_free(m->sending);
    m->sending = NULL;
}

/* With a dump that was cut off the engine's own traces are removed first. */
static int abort_dump(struct migration *m, const struct workload_info *info, struct error *err)
{
    struct engine *engine = migration_engine(m, err);
    if (!engine)
        return -1;
    autofree char *image_dir = migration_image_dir(m);
    struct engine_job job;
    fill_job(m, &job, image_dir, info);
    if (job.root_pid <= 0)
        job.root_pid = info->root_pid;
    return engine_abort(engine, &job, m->journal.stopped_pids, err);
}

/* Whatever state the dump was left in: the tasks run, proved, and the image is gone. */
static int resume_tasks(struct migration *m, struct error *err)
{
    struct workload_info info = {0};
    if (!held_by_us(m, &info))
        return 0; /* never held, released already, or gone: there is nothing to let run */
    int rc;
    if (info.state == WORKLOAD_EXITED) {
        rc = workloads_hold(m->all->config.workloads, workload_of(m), "", err);
    } else {
        struct error second;
        if (m->journal.step == JOURNAL_DUMPING && abort_dump(m, &info, &second) < 0)
            log_warn("a cut-off dump could not be undone by its engine",
                     LOG_STR("migration", m->id), LOG_STR("error", second.message));
        rc = let_run(m, err); /* this proof is what counts */
    }
    workload_info_done(&info);
    return rc;
}

static void begin_resuming(struct migration *m)
{
    struct error err;
    /* A full disk must not keep the tasks stopped: the broker's decision is durable anyway, and
     * to resume twice does no harm. A cut-off dump keeps its step, which says what to undo. */
    if (m->journal.step != JOURNAL_DUMPING && migration_begin(m, JOURNAL_RESUMING, &err) < 0)
        log_warn("resuming without a journal", LOG_STR("migration", m->id),
                 LOG_STR("error", err.message));
}

static bool resume(struct migration *m)
{
    int64_t begun_ms = migration_now_ms(m);
    struct error err = {0};
    begin_resuming(m);
    end_sending(m);
    if (resume_tasks(m, &err) < 0) {
        error_wrap(&err, "'%s' could not be resumed", workload_of(m));
        migration_fail(m, m->journal.step, begun_ms, &err, NULL);
        return true;
    }
    migration_step(m, JOURNAL_RESUMED, MIGRATION_REPORT_RESUMED, begun_ms);
    migration_remove_images(m);
    return true;
}

/* ---- send ---- */

static void resume_alone(struct migration *m, int64_t begun_ms, struct error *err)
{
    struct error second = {0};
    begin_resuming(m);
    end_sending(m);
    if (resume_tasks(m, &second) < 0) {
        error_add(err, "; and '%s' could not be resumed: %s", workload_of(m), second.message);
        migration_fail(m, m->journal.step, begun_ms, err, NULL);
        return;
    }
    error_add(err, "; '%s' runs on here", workload_of(m));
    migration_fail(m, JOURNAL_FAILED, begun_ms, err, NULL);
    migration_remove_images(m);
}

/* What the dump began to send; or all of it, when the agent began anew since. */
static int finish_sending(struct migration *m, bool *ret_unsure, struct error *err)
{
    if (!m->sending && migration_sending_start(m, &m->sending, err) == 0)
        migration_sending_dumped(m->sending);
    return m->sending ? migration_sending_finish(m->sending, ret_unsure, err) : -1;
}

static bool send_it(struct migration *m)
{
    int64_t begun_ms = migration_now_ms(m);
    struct error err = {0};
    bool unsure = false;
    int rc = migration_begin(m, JOURNAL_SENDING, &err);
    if (rc == 0)
        rc = finish_sending(m, &unsure, &err);
    end_sending(m);
    if (rc == 0) {
        migration_step(m, JOURNAL_SENT, MIGRATION_REPORT_SENT, begun_ms);
        return true;
    }
    if (!unsure) {
        resume_alone(m, begun_ms, &err);
        return true;
    }
    error_add(&err,
              "; the target may have the whole image, so '%s' stays stopped here until the broker "
              "decides",
              workload_of(m));
    migration_fail(m, JOURNAL_UNSURE, begun_ms, &err, NULL);
    return true;
}

/* ---- kill ---- */

static bool kill_copy(struct migration *m)
{
    int64_t begun_ms = migration_now_ms(m);
    struct error err = {0};
    struct workload_info info = {0};
    end_sending(m);
    if (migration_begin(m, JOURNAL_KILLING, &err) < 0)
        log_warn("killing the moved copy without a journal", LOG_STR("migration", m->id),
                 LOG_STR("error", err.message));
    /* By name only while this migration holds it: it may have come back with another one. */
    bool held = held_by_us(m, &info);
    workload_info_done(&info);
    if (held && workloads_destroy(m->all->config.workloads, workload_of(m), true, &err) < 0) {
        error_wrap(&err, "the copy of '%s' that moved away could not be removed", workload_of(m));
        migration_fail(m, JOURNAL_KILLING, begun_ms, &err, NULL);
        return true;
    }
    migration_remove_images(m);
    migration_step(m, JOURNAL_KILLED, MIGRATION_REPORT_KILLED, begun_ms);
    return true;
}

/* ---- what to do ---- */

static bool refuse(struct migration *m, enum migration_action what)
{
    struct error err;
    error_set(&err, ERROR_CONFLICT,
              "asked to %s, but '%s' is at step '%s' here; the broker's record and this node's "
              "journal disagree, look at both",
              migration_action_name(what), workload_of(m), journal_step_name(m->journal.step));
    migration_fail(m, m->journal.step, migration_now_ms(m), &err, NULL);
    return true;
}

static bool act_send(struct migration *m)
{
    if (m->journal.step == JOURNAL_DUMPED)
        return send_it(m);
    return m->journal.step == JOURNAL_NONE ? refuse(m, MIGRATION_DO_SEND) : false;
}

static bool act_resume(struct migration *m)
{
    enum journal_step step = m->journal.step;
    if (step == JOURNAL_KILLING || step == JOURNAL_KILLED)
        return refuse(m, MIGRATION_DO_RESUME);
    return step == JOURNAL_RESUMED ? false : resume(m);
}

static bool act_kill(struct migration *m)
{
    enum journal_step step = m->journal.step;
    if (step == JOURNAL_RESUMING || step == JOURNAL_RESUMED || step == JOURNAL_FAILED)
        return refuse(m, MIGRATION_DO_KILL);
    return step == JOURNAL_KILLED ? false : kill_copy(m);
}

bool migration_source_act(struct migration *m, enum migration_action what)
{
    switch (what) {
    case MIGRATION_DO_INSPECT:
        return m->journal.step == JOURNAL_NONE ? migration_inspect(m) : false;
    case MIGRATION_DO_DUMP:
        return m->journal.step == JOURNAL_NONE ? dump(m) : false;
    case MIGRATION_DO_SEND:
        return act_send(m);
    case MIGRATION_DO_KILL:
        return act_kill(m);
    case MIGRATION_DO_RESUME:
        return act_resume(m);
    case MIGRATION_DO_NOTHING:
    case MIGRATION_DO_HOLD:
    case MIGRATION_DO_PREPARE:
    case MIGRATION_DO_RESTORE:
    case MIGRATION_DO_RUN:
    case MIGRATION_DO_DISCARD:
    case MIGRATION_ACTION_COUNT:
        break;
    }
    return false;
}

static bool recover_dump(struct migration *m)
{
    struct error err = {0}, second = {0};
    int64_t begun_ms = migration_now_ms(m);
    error_set(&err, ERROR_FAILED, "the dump was cut off by the end of the agent");
    if (resume_tasks(m, &second) < 0) {
        error_add(&err, ", and it could not be proved that '%s' runs again: %s", workload_of(m),
                  second.message);
        migration_fail(m, m->journal.step, begun_ms, &err, NULL);
        return true;
    }
    error_add(&err, "; '%s' runs on here", workload_of(m));
    migration_fail(m, JOURNAL_FAILED, begun_ms, &err, NULL);
    migration_remove_images(m);
    return true;
}

bool migration_source_recover(struct migration *m)
{
    enum journal_step step = m->journal.step;
    struct error err;
    if (step == JOURNAL_DUMPING)
        return recover_dump(m);
    if (step == JOURNAL_RESUMING)
        return resume(m);
    if (step == JOURNAL_KILLING)
        return kill_copy(m);
    if (step != JOURNAL_SENDING)
        return false;
    error_set(&err, ERROR_FAILED,
              "the agent ended while it sent the image; the target may have all of it, so '%s' "
              "stays stopped here until the broker decides",
              workload_of(m));
    migration_fail(m, JOURNAL_UNSURE, migration_now_ms(m), &err, NULL);
    return true;
}

bool migration_source_forget(struct migration *m)
{
    enum journal_step step = m->journal.step;
    end_sending(m);
    if (step != JOURNAL_NONE && step != JOURNAL_FAILED && step != JOURNAL_RESUMED &&
        step != JOURNAL_KILLED)
        return false;
    migration_remove_images(m);
    return true;
}
