/* SPDX-License-Identifier: Apache-2.0 */
/* migration_step.c - the small things that source and target do alike: steps, logs, images. */
#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "file.h"
#include "log.h"
#include "migration_internal.h"

#define LOG_DIRS_MAX 100

int64_t migration_now_ms(const struct migration *m)
{
    return clock_monotonic_ms(m->all->config.clock);
}

static void set_report(struct migration *m, enum migration_report report, int64_t begun_ms,
                       const struct error *error, const char *log)
{
    int64_t took_ms = migration_now_ms(m) - begun_ms;
    journal_set_report(&m->journal, m->all->config.node, report,
                       took_ms > 0 ? (uint64_t)took_ms : 0, error, log);
    m->report_serial++;
}

void migration_step(struct migration *m, enum journal_step step, enum migration_report report,
                    int64_t begun_ms)
{
    migration_tell(m, step, report, begun_ms, NULL, NULL);
}

void migration_tell(struct migration *m, enum journal_step step, enum migration_report report,
                    int64_t begun_ms, const char *member, json_object *value)
{
    struct error err;
    enum journal_step before = m->journal.step;
    m->journal.step = step;
    set_report(m, report, begun_ms, NULL, NULL);
    if (member)
        json_put(m->journal.report_body, member, value);
    if (journal_save(&m->journal, &err) < 0) {
        /* What is not durable may not be told: the disk's failure is, and the broker decides.
         * With the step before, whatever it decides is done as if this one had been cut off. */
        m->journal.step = before;
        log_error("a migration's journal cannot be written", LOG_STR("migration", m->id),
                  LOG_STR("error", err.message));
        set_report(m, MIGRATION_REPORT_FAILURE, begun_ms, &err, NULL);
        return;
    }
    log_info("migration step", LOG_STR("migration", m->id),
             LOG_STR("workload", m->journal.assignment.workload),
             LOG_STR("step", journal_step_name(step)),
             LOG_STR("report", migration_report_name(report)),
             LOG_INT("took_ms", migration_now_ms(m) - begun_ms));
}

void migration_fail(struct migration *m, enum journal_step step, int64_t begun_ms,
                    const struct error *error, const char *log)
{
    struct error err;
    m->journal.step = step;
    set_report(m, MIGRATION_REPORT_FAILURE, begun_ms, error, log);
    log_error("migration failed here", LOG_STR("migration", m->id),
              LOG_STR("workload", m->journal.assignment.workload),
              LOG_STR("step", journal_step_name(step)), LOG_STR("error", error->message));
    if (journal_save(&m->journal, &err) < 0)
        log_error("a migration's journal cannot be written", LOG_STR("migration", m->id),
                  LOG_STR("error", err.message));
}

int migration_begin(struct migration *m, enum journal_step step, struct error *err)
{
    enum journal_step before = m->journal.step;
    m->journal.step = step;
    if (journal_save(&m->journal, err) == 0)
        return 0;
    m->journal.step = before;
    return -1;
}

struct engine *migration_engine(struct migration *m, struct error *err)
{
    struct migrations *all = m->all;
    pthread_mutex_lock(&all->lock);
    struct engine *engine = all->config.engine;
    if (!engine)
        error_set(err, ERROR_FAILED, "no checkpoint engine works on node %s: %s", all->config.node,
                  all->engine_error);
    pthread_mutex_unlock(&all->lock);
    return engine;
}

char *migration_image_dir(const struct migration *m)
{
    return xasprintf("%s/image", m->journal.dir);
}

void migration_remove_images(struct migration *m)
{
    autofree char *dir = migration_image_dir(m);
    struct error err;
    if (file_remove_tree(dir, &err) < 0)
        log_warn("images cannot be removed", LOG_STR("migration", m->id),
                 LOG_STR("error", err.message));
}

/* Removes the folder of logs that was changed longest ago, if there are too many. */
static void prune_logs(const char *parent)
{
    DIR *dir = opendir(parent);
    if (!dir)
        return;
    unsigned count = 0;
    autofree char *oldest = NULL;
    struct timespec oldest_time = {0};
    struct dirent *entry;
    struct stat st;
    while ((entry = readdir(dir))) {
        if (entry->d_name[0] == '.' ||
            fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        count++;
        if (oldest &&
            (st.st_mtim.tv_sec > oldest_time.tv_sec || (st.st_mtim.tv_sec == oldest_time.tv_sec &&
                                                        st.st_mtim.tv_nsec >= oldest_time.tv_nsec)))
            continue;
        free(oldest);
        oldest = xstrdup(entry->d_name);
        oldest_time = st.st_mtim;
    }
    closedir(dir);
    if (count <= LOG_DIRS_MAX)
        return;
    autofree char *path = xasprintf("%s/%s", parent, oldest);
    struct error err;
    if (file_remove_tree(path, &err) < 0)
        log_warn("old logs cannot be removed", LOG_STR("error", err.message));
}

int migration_make_log_dir(struct migration *m, struct error *err)
{
    autofree char *parent = xasprintf("%s/logs", m->all->config.state_dir);
    if (file_make_dirs(m->log_dir, 0700, err) < 0)
        return -1;
    prune_logs(parent);
    return 0;
}

unsigned migration_count_threads(const pid_t *pids, unsigned *ret_tasks)
{
    unsigned threads = 0;
    *ret_tasks = 0;
    for (; pids && *pids; pids++) {
        char path[64];
        struct stat st;
        snprintf(path, sizeof(path), "/proc/%d/task", (int)*pids);
        if (stat(path, &st) < 0)
            continue;
        ++*ret_tasks;
        threads += (unsigned)st.st_nlink - 2; /* a folder for each, "." and ".." */
    }
    return threads;
}

void error_add(struct error *err, const char *format, ...)
{
    size_t used = strlen(err->message);
    va_list ap;
    va_start(ap, format);
    vsnprintf(err->message + used, sizeof(err->message) - used, format, ap);
    va_end(ap);
}
