/* SPDX-License-Identifier: Apache-2.0 */
/* migration_target.c - the target's part: prepare, restore stopped, and then run or discard.
 *
 *   NONE -> PREPARED -> RECEIVING -> RECEIVED -> RESTORING -> RESTORED -> RUNNING
 *     |         |           |           |            |           |
 *     +---------+-----------+-----------+------------+-----------+--> DISCARDING -> DISCARDED
 *
 * (RECEIVING and RECEIVED are migration_upload.c's.) Restored tasks stay stopped until the broker
 * says run. What is discarded is what this migration made: the workload that it holds, its
 * staging folder, and the workload's folder only if it is the one that came out of staging. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "file.h"
#include "image_manifest.h"
#include "image_walk.h"
#include "log.h"
#include "migration_internal.h"
#include "process.h"
#include "timerfds.h"

#define SYNC_FILES_MAX 1000

static const char *workload_of(const struct migration *m)
{
    return m->journal.assignment.workload;
}

char *migration_staging_dir(const struct migration *m)
{
    const char *dir = m->journal.assignment.dir;
    const char *slash = dir ? strrchr(dir, '/') : NULL;
    if (!slash)
        return xasprintf("%s/folder", m->journal.dir);
    return xasprintf("%.*s/.%s.%s.incoming", (int)(slash - dir), dir, slash + 1, m->id);
}

/* ---- prepare ---- */

static void fill_spec(const struct migration *m, struct workload_spec *spec, const char **command)
{
    const struct assignment *a = &m->journal.assignment;
    for (size_t i = 0; i < json_array_size(a->command); i++)
        command[i] = json_item_str(a->command, i);
    *spec = (struct workload_spec){.name = a->workload,
                                   .pool = a->pool ? a->pool : "default",
                                   .dir = a->dir,
                                   .command = command,
                                   .mask = &a->birth_mask};
}

static int check_room(const struct migration *m, const char *dir, struct error *err)
{
    struct statvfs vfs;
    if (statvfs(dir, &vfs) < 0)
        return error_errno(err, ERROR_FAILED, "cannot see the free room in '%s'", dir);
    uint64_t free_bytes = (uint64_t)vfs.f_bavail * vfs.f_frsize;
    if (free_bytes < m->all->config.slack_bytes)
        return error_set(err, ERROR_FAILED, "no room for an image: '%s' has %llu bytes free", dir,
                         (unsigned long long)free_bytes);
    return 0;
}

/* The folder must not be there yet: what was there before is never mixed with what arrives, and
 * never removed by a discard. */
static int check_folder(const struct migration *m, struct error *err)
{
    const char *dir = m->journal.assignment.dir;
    if (!dir)
        return error_set(err, ERROR_INVALID, "the broker named no folder for '%s'", workload_of(m));
    autofree char *parent = xstrndup(dir, (size_t)(strrchr(dir, '/') - dir));
    autofree char *home = xasprintf("%s/workloads", m->all->config.state_dir);
    if (strcmp(parent, home) == 0 && file_make_dirs(home, 0755, err) < 0)
        return -1;
    struct stat st;
    if (lstat(parent, &st) < 0 || !S_ISDIR(st.st_mode))
        return error_set(err, ERROR_FAILED, "the folder '%s' is not here; make it first", parent);
    if (lstat(dir, &st) == 0)
        return error_set(err, ERROR_CONFLICT,
                         "'%s' is there already; move it away, the workload brings its own", dir);
    return check_room(m, parent, err);
}

static int prepare_it(struct migration *m, struct error *err)
{
    struct workload_spec spec;
    size_t count = json_array_size(m->journal.assignment.command);
    autofree const char **command = xcalloc(count + 1, sizeof(*command));
    autofree char *dir = NULL, *image_dir = migration_image_dir(m);
    fill_spec(m, &spec, command);
    if (!migration_engine(m, err) || check_folder(m, err) < 0 ||
        workloads_check(m->all->config.workloads, &spec, &dir, err) < 0 ||
        check_room(m, m->all->config.state_dir, err) < 0 ||
        file_make_dirs(image_dir, 0700, err) < 0 || migration_make_log_dir(m, err) < 0)
        return -1;
    return 0;
}

static bool prepare(struct migration *m)
{
    int64_t begun_ms = migration_now_ms(m);
    struct error err = {0};
    if (prepare_it(m, &err) < 0) {
        error_wrap(&err, "node %s cannot take '%s'", m->all->config.node, workload_of(m));
        migration_fail(m, JOURNAL_FAILED, begun_ms, &err, NULL);
    } else {
        migration_step(m, JOURNAL_PREPARED, MIGRATION_REPORT_PREPARED, begun_ms);
    }
    return true;
}

/* ---- discard ---- */

static bool is_ours(const struct migration *m, const char *path)
{
    struct stat st;
    return m->journal.folder_ino && lstat(path, &st) == 0 && S_ISDIR(st.st_mode) &&
           (uint64_t)st.st_dev == m->journal.folder_dev &&
           (uint64_t)st.st_ino == m->journal.folder_ino;
}

static int destroy_workload(struct migration *m, struct error *err)
{
    struct workload_info info = {0};
    if (workloads_get(m->all->config.workloads, workload_of(m), &info, NULL) < 0)
        return 0;
    bool ours = strcmp(info.migration, m->id) == 0;
    workload_info_done(&info);
    return ours ? workloads_destroy(m->all->config.workloads, workload_of(m), false, err) : 0;
}

/* Removes everything that this migration made here. */
static int discard_it(struct migration *m, struct error *err)
{
    autofree char *staging = migration_staging_dir(m);
    if (destroy_workload(m, err) < 0)
        return -1;
    const char *dir = m->journal.assignment.dir;
    if (dir && is_ours(m, dir) && file_remove_tree(dir, err) < 0)
        return -1;
    if (file_remove_tree(staging, err) < 0)
        return -1;
    migration_remove_images(m);
    return 0;
}

static bool discard(struct migration *m)
{
    int64_t begun_ms = migration_now_ms(m);
    struct error err = {0};
    if (migration_begin(m, JOURNAL_DISCARDING, &err) < 0)
        log_warn("discarding without a journal", LOG_STR("migration", m->id),
                 LOG_STR("error", err.message));
    if (discard_it(m, &err) < 0) {
        error_wrap(&err, "what had arrived of '%s' could not be removed", workload_of(m));
        migration_fail(m, JOURNAL_DISCARDING, begun_ms, &err, NULL);
    } else {
        migration_step(m, JOURNAL_DISCARDED, MIGRATION_REPORT_DISCARDED, begun_ms);
    }
    return true;
}

/* Reports why this part cannot be done; what was made so far is removed at once. */
void migration_target_fail(struct migration *m, int64_t begun_ms, struct error *err,
                           const char *log)
{
    struct error second;
    if (discard_it(m, &second) < 0) {
        error_add(err, "; and what had arrived could not be removed: %s", second.message);
        migration_fail(m, JOURNAL_DISCARDING, begun_ms, err, log);
        return;
    }
    migration_fail(m, JOURNAL_FAILED, begun_ms, err, log);
}

/* ---- restore ---- */

static int place_folder(struct migration *m, struct error *err)
{
    autofree char *staging = migration_staging_dir(m);
    const char *dir = m->journal.assignment.dir;
    if (!is_ours(m, staging))
        return error_set(err, ERROR_FAILED, "the folder that had arrived in '%s' was replaced",
                         staging);
    if (renameat2(AT_FDCWD, staging, AT_FDCWD, dir, RENAME_NOREPLACE) < 0)
        return error_errno(err, ERROR_FAILED, "cannot move the folder that had arrived to '%s'",
                           dir);
    return 0;
}

static int verify(struct migration *m, const struct workload_info *info, struct error *err)
{
    const struct journal *j = &m->journal;
    struct process_stat stat;
    autofree pid_t *pids = NULL;
    unsigned tasks = 0;
    if (info->root_pid != j->root_pid)
        return error_set(err, ERROR_FAILED, "the root came back as pid %d, it was %d",
                         (int)info->root_pid, (int)j->root_pid);
    if (process_stat_read(info->root_pid, &stat, err) < 0)
        return -1;
    if (stat.state != 'T' && stat.state != 't')
        return error_set(err, ERROR_FAILED, "the root task %d is in state %c, expected it stopped",
                         (int)info->root_pid, stat.state);
    if (workloads_pids(m->all->config.workloads, workload_of(m), &pids, err) < 0)
        return -1;
    unsigned threads = migration_count_threads(pids, &tasks);
    if (tasks != j->tasks || threads != j->threads)
        return error_set(err, ERROR_FAILED,
                         "%u tasks with %u threads came back, there were %u with %u", tasks,
                         threads, j->tasks, j->threads);
    return timerfds_restart(pids, j->expired_timers, err);
}

static int run_restore(struct migration *m, struct engine *engine, const struct engine_job *job,
                       struct error *err)
{
    autofree char *pidfile = xasprintf("%s/restore.pid", m->journal.dir);
    autofree char *output = xasprintf("%s/restore.out", m->log_dir);
    char **argv = NULL, **env = NULL;
    struct workload_info info = {0};
    struct workload_spec spec;
    size_t count = json_array_size(m->journal.assignment.command);
    autofree const char **command = xcalloc(count + 1, sizeof(*command));
    fill_spec(m, &spec, command);
    if (unlink(pidfile) < 0 && errno != ENOENT)
        return error_errno(err, ERROR_FAILED, "cannot remove '%s'", pidfile);
    if (engine_restore_command(engine, job, pidfile, &argv, &env, err) < 0)
        return -1;
    int rc = workloads_restore(m->all->config.workloads, &spec, m->id, argv, env, pidfile, output,
                               job->timeout_ms, &info, err);
    engine_strv_free(argv);
    engine_strv_free(env);
    if (rc == 0) {
        rc = verify(m, &info, err);
        workload_info_done(&info);
    }
    return rc;
}

static bool restore(struct migration *m)
{
    int64_t begun_ms = migration_now_ms(m);
    struct error err = {0};
    autofree char *image_dir = migration_image_dir(m);
    struct engine_job job = {.root_pid = m->journal.root_pid,
                             .image_dir = image_dir,
                             .work_dir = m->log_dir,
                             .cgroup_dir = "",
                             .timeout_ms = m->all->config.restore_timeout_ms};
    struct engine_result result = {0};
    struct engine *engine = migration_engine(m, &err);
    if (engine && migration_begin(m, JOURNAL_RESTORING, &err) == 0 && place_folder(m, &err) == 0) {
        if (run_restore(m, engine, &job, &err) == 0) {
            migration_step(m, JOURNAL_RESTORED, MIGRATION_REPORT_RESTORED, begun_ms);
            return true;
        }
        engine_restore_result(engine, &job, &result);
    }
    error_wrap(&err, "restoring '%s' on node %s", workload_of(m), m->all->config.node);
    migration_target_fail(m, begun_ms, &err, result.log_tail);
    return true;
}

/* ---- run ---- */

struct syncing {
    unsigned files;
};

static int sync_item(void *ctx, const struct image_walk_item *item, struct error *err)
{
    struct syncing *syncing = ctx;
    if (++syncing->files > SYNC_FILES_MAX)
        return error_set(err, ERROR_TOO_LARGE, "too many files");
    if (!S_ISREG(item->st.st_mode) && !S_ISDIR(item->st.st_mode))
        return 0; /* the workload runs already, and may do what it likes */
    autoclose int fd =
        openat(item->dirfd, item->piece, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return error_errno(err, ERROR_FAILED, "cannot sync '%s'", item->name);
    return 0;
}

/* With the next report the source will drop its copy, so the folder must outlive a loss of power
 * from here on. File by file, since the images, which are much larger, need not be written at all;
 * where that is not possible everything is. */
static void sync_folder(struct migration *m)
{
    const char *dir = m->journal.assignment.dir;
    struct syncing syncing = {0};
    if (!dir || image_walk(dir, "folder", sync_item, &syncing, NULL) == 0)
        return;
    autoclose int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && syncfs(fd) < 0)
        log_warn("the moved folder could not be synced", LOG_STR("folder", dir));
}

static int let_run(struct migration *m, struct error *err)
{
    struct workload_info info = {0};
    if (workloads_get(m->all->config.workloads, workload_of(m), &info, err) < 0)
        return -1;
    /* Once the hold is gone it has run: a crash came between that and the journal. */
    bool held = strcmp(info.migration, m->id) == 0;
    bool exited = info.state == WORKLOAD_EXITED;
    workload_info_done(&info);
    if (!held)
        return 0;
    if (exited)
        return error_set(err, ERROR_FAILED, "the restored tasks have ended before they could run");
    return workloads_continue(m->all->config.workloads, workload_of(m), m->journal.stopped_pids,
                              err);
}

static bool run(struct migration *m)
{
    int64_t begun_ms = migration_now_ms(m);
    struct error err = {0};
    if (let_run(m, &err) < 0) {
        error_wrap(&err,
                   "'%s' was restored here and does not run; the source still holds its "
                   "stopped copy",
                   workload_of(m));
        migration_fail(m, JOURNAL_RESTORED, begun_ms, &err, NULL);
        return true;
    }
    sync_folder(m);
    migration_step(m, JOURNAL_RUNNING, MIGRATION_REPORT_RUNNING, begun_ms);
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

static bool act_restore(struct migration *m)
{
    enum journal_step step = m->journal.step;
    if (step == JOURNAL_RECEIVED)
        return restore(m);
    bool too_early = step == JOURNAL_NONE || step == JOURNAL_PREPARED || step == JOURNAL_RECEIVING;
    return too_early ? refuse(m, MIGRATION_DO_RESTORE) : false;
}

static bool act_run(struct migration *m)
{
    enum journal_step step = m->journal.step;
    if (step == JOURNAL_RESTORED)
        return run(m);
    return step == JOURNAL_RUNNING ? false : refuse(m, MIGRATION_DO_RUN);
}

static bool act_discard(struct migration *m)
{
    enum journal_step step = m->journal.step;
    if (step == JOURNAL_RUNNING)
        return refuse(m, MIGRATION_DO_DISCARD); /* it may be the only copy */
    return step == JOURNAL_DISCARDED ? false : discard(m);
}

bool migration_target_act(struct migration *m, enum migration_action what)
{
    switch (what) {
    case MIGRATION_DO_PREPARE:
        return m->journal.step == JOURNAL_NONE ? prepare(m) : false;
    case MIGRATION_DO_RESTORE:
        return act_restore(m);
    case MIGRATION_DO_RUN:
        return act_run(m);
    case MIGRATION_DO_DISCARD:
        return act_discard(m);
    case MIGRATION_DO_NOTHING:
    case MIGRATION_DO_HOLD:
    case MIGRATION_DO_INSPECT:
    case MIGRATION_DO_DUMP:
    case MIGRATION_DO_SEND:
    case MIGRATION_DO_KILL:
    case MIGRATION_DO_RESUME:
    case MIGRATION_ACTION_COUNT:
        break;
    }
    return false;
}

bool migration_target_recover(struct migration *m)
{
    struct error err;
    enum journal_step step = m->journal.step;
    if (step == JOURNAL_DISCARDING)
        return discard(m);
    if (step == JOURNAL_RECEIVING)
        error_set(&err, ERROR_FAILED, "the agent ended while the image came in");
    else if (step == JOURNAL_RESTORING)
        error_set(&err, ERROR_FAILED, "the agent ended while it restored '%s'", workload_of(m));
    else
        return false;
    migration_target_fail(m, migration_now_ms(m), &err, NULL);
    return true;
}

bool migration_target_forget(struct migration *m)
{
    enum journal_step step = m->journal.step;
    struct error err;
    if (step == JOURNAL_RUNNING || step == JOURNAL_DISCARDED)
        return true; /* the images go with the journal's folder */
    if (step == JOURNAL_RESTORED || step == JOURNAL_RESTORING)
        return false;
    /* Nothing of it ever ran and the source has its own: it may go without a decision. */
    if (discard_it(m, &err) == 0)
        return true;
    log_warn("what had arrived of a migration could not be removed", LOG_STR("migration", m->id),
             LOG_STR("error", err.message));
    return false;
}
