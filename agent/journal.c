/* SPDX-License-Identifier: Apache-2.0 */
/* journal.c - a migration's record on disk. */
#include "journal.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "file.h"
#include "image_manifest.h"
#include "log.h"

#define JOURNAL_SCHEMA    "cpubroker.journal/1"
#define JOURNAL_FILE      "journal.json"
#define JOURNAL_MAX_BYTES (8UL * 1024 * 1024) /* evidence, indented, is most of it */

static const char *const step_names[] = {
#define X(step, name) name,
    JOURNAL_STEPS(X)
#undef X
};

const char *journal_step_name(enum journal_step step)
{
    return step_names[step];
}

static int sync_dir(const char *path, struct error *err)
{
    autoclose int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return error_errno(err, ERROR_FAILED, "cannot sync the folder '%s'", path);
    return 0;
}

static json_object *to_json(const struct journal *journal)
{
    json_object *o = json_object_new_object();
    json_put_str(o, "schema", JOURNAL_SCHEMA);
    json_put_str(o, "step", step_names[journal->step]);
    json_put(o, "assignment", assignment_to_json(&journal->assignment));
    json_put_int(o, "root_pid", journal->root_pid);
    json_put_int(o, "tasks", journal->tasks);
    json_put_int(o, "threads", journal->threads);
    json_put(o, "stopped_pids", pids_to_json(journal->stopped_pids));
    json_put(o, "expired_timers", timerfds_to_json(journal->expired_timers));
    json_put_hex64(o, "folder_dev", journal->folder_dev);
    json_put_hex64(o, "folder_ino", journal->folder_ino);
    json_put_int(o, "bytes", (int64_t)journal->bytes);
    json_put_str(o, "report", migration_report_name(journal->report));
    json_put(o, "report_body", json_object_get(journal->report_body));
    return o;
}

static int step_from_name(const char *name, enum journal_step *ret, struct error *err)
{
    for (unsigned i = 0; i < ARRAY_LEN(step_names); i++)
        if (strcmp(step_names[i], name) == 0) {
            *ret = (enum journal_step)i;
            return 0;
        }
    return error_set(err, ERROR_INVALID, "journal: step: '%.40s' is not known", name);
}

static int from_json(json_object *o, struct journal *ret, struct error *err)
{
    const char *schema = NULL, *step = NULL, *report = NULL;
    json_object *assignment = NULL;
    int64_t pid = 0, tasks = 0, threads = 0, bytes = 0;
    if (json_check_object("journal", o, err) < 0 ||
        json_get_str("journal", o, "schema", &schema, err) < 0 ||
        json_get_str("journal", o, "step", &step, err) < 0 ||
        json_get_str("journal", o, "report", &report, err) < 0 ||
        json_get_object("journal", o, "assignment", &assignment, err) < 0 ||
        json_get_i64("journal", o, "root_pid", &pid, err) < 0 ||
        json_get_i64("journal", o, "tasks", &tasks, err) < 0 ||
        json_get_i64("journal", o, "threads", &threads, err) < 0 ||
        json_get_i64("journal", o, "bytes", &bytes, err) < 0 ||
        json_get_hex("journal", o, "folder_dev", &ret->folder_dev, err) < 0 ||
        json_get_hex("journal", o, "folder_ino", &ret->folder_ino, err) < 0 ||
        pids_from_json("journal", o, "stopped_pids", &ret->stopped_pids, err) < 0 ||
        timerfds_from_json("journal", o, "expired_timers", &ret->expired_timers, err) < 0 ||
        step_from_name(step, &ret->step, err) < 0 ||
        assignment_decode(assignment, &ret->assignment, err) < 0)
        return -1;
    if (strcmp(schema, JOURNAL_SCHEMA) != 0)
        return error_set(err, ERROR_INVALID, "journal: schema: expected \"%s\", not \"%.60s\"",
                         JOURNAL_SCHEMA, schema);
    if (migration_report_from_name(report, &ret->report) < 0)
        return error_set(err, ERROR_INVALID, "journal: report: '%.40s' is not known", report);
    ret->root_pid = (pid_t)pid;
    ret->tasks = (unsigned)tasks;
    ret->threads = (unsigned)threads;
    ret->bytes = (uint64_t)bytes;
    ret->report_body = json_object_get(json_member(o, "report_body"));
    return 0;
}

int journal_save(struct journal *journal, struct error *err)
{
    autojson *json = to_json(journal);
    autofree char *text = json_text_pretty(json);
    autofree char *path = xasprintf("%s/" JOURNAL_FILE, journal->dir);
    return file_replace(path, text, 0600, err);
}

int journal_create(const char *state_dir, const struct assignment *assignment, struct journal *ret,
                   struct error *err)
{
    autofree char *parent = xasprintf("%s/migrations", state_dir);
    struct journal journal = {.dir = xasprintf("%s/%s", parent, assignment->migration)};
    journal_set_assignment(&journal, assignment);
    if (file_make_dirs(journal.dir, 0700, err) < 0 || journal_save(&journal, err) < 0 ||
        sync_dir(parent, err) < 0) {
        journal_done(&journal);
        return -1;
    }
    *ret = journal;
    return 0;
}

int journal_load(const char *dir, struct journal *ret, struct error *err)
{
    autofree char *path = xasprintf("%s/" JOURNAL_FILE, dir);
    autofree char *text = NULL;
    size_t length = 0;
    if (file_read(path, JOURNAL_MAX_BYTES, &text, &length, err) < 0)
        return -1;
    autojson *json = NULL;
    struct journal journal = {.dir = xstrdup(dir)};
    if (json_parse(text, length, &json, err) < 0 || from_json(json, &journal, err) < 0) {
        journal_done(&journal);
        return error_wrap(err, "%s", path);
    }
    *ret = journal;
    return 0;
}

static int load_one(const char *dir, int (*each)(void *ctx, struct journal *journal), void *ctx)
{
    struct error err = {0};
    struct journal journal;
    if (journal_load(dir, &journal, &err) == 0) {
        int rc = each(ctx, &journal);
        if (rc != 0)
            journal_done(&journal);
        return rc;
    }
    if (err.kind == ERROR_NOT_FOUND && file_remove_tree(dir, &err) == 0)
        return 0; /* cut off before anything was done */
    log_error("a migration's journal cannot be read; its folder is left as it is, look at it",
              LOG_STR("folder", dir), LOG_STR("error", err.message));
    return 0;
}

int journal_load_all(const char *state_dir, int (*each)(void *ctx, struct journal *journal),
                     void *ctx, struct error *err)
{
    autofree char *parent = xasprintf("%s/migrations", state_dir);
    DIR *dir = opendir(parent);
    if (!dir && errno == ENOENT)
        return 0;
    if (!dir)
        return error_errno(err, ERROR_FAILED, "cannot read '%s'", parent);
    struct dirent *entry;
    int rc = 0;
    while (rc == 0 && (entry = readdir(dir))) {
        if (name_check("migration", entry->d_name, NULL) < 0)
            continue;
        autofree char *path = xasprintf("%s/%s", parent, entry->d_name);
        rc = load_one(path, each, ctx);
    }
    closedir(dir);
    return rc;
}

int journal_remove(struct journal *journal, struct error *err)
{
    /* The journal goes first: without it the folder means nothing, and is swept at the start. */
    autofree char *path = xasprintf("%s/" JOURNAL_FILE, journal->dir);
    if (unlink(path) < 0 && errno != ENOENT)
        return error_errno(err, ERROR_FAILED, "cannot remove '%s'", path);
    return file_remove_tree(journal->dir, err);
}

void journal_done(struct journal *journal)
{
    free(journal->dir);
    assignment_done(&journal->assignment);
    free(journal->stopped_pids);
    free(journal->expired_timers);
    json_object_put(journal->report_body);
    *journal = (struct journal){0};
}

void journal_set_assignment(struct journal *journal, const struct assignment *assignment)
{
    autojson *json = assignment_to_json(assignment);
    struct assignment copy = {0};
    struct error err;
    if (assignment_decode(json, &copy, &err) < 0)
        abort(); /* it was decoded before, so it can be again */
    assignment_done(&journal->assignment);
    journal->assignment = copy;
}

/* Messages and an engine's log may hold any bytes, or be cut within a character; JSON may not. */
static void put_text(json_object *o, const char *name, const char *text)
{
    autofree char *clean = xstrdup(text);
    if (!json_text_is_utf8(clean, strlen(clean)))
        for (char *p = clean; *p; p++)
            if ((unsigned char)*p >= 0x80)
                *p = '?';
    json_put_str(o, name, clean);
}

void journal_set_report(struct journal *journal, const char *node, enum migration_report report,
                        uint64_t phase_ms, const struct error *error, const char *log)
{
    json_object *o = json_object_new_object();
    json_put_str(o, "node", node);
    json_put_str(o, "state", migration_report_name(report));
    json_put_int(o, "bytes", (int64_t)journal->bytes);
    json_put_int(o, "total_bytes", (int64_t)journal->bytes);
    json_put(o, "pid", journal->root_pid ? json_object_new_int64(journal->root_pid) : NULL);
    json_put_int(o, "phase_ms", (int64_t)phase_ms);
    json_object *e = NULL;
    if (error) {
        e = json_object_new_object();
        json_put_str(e, "code", error_code(error->kind));
        put_text(e, "message", error->message);
        put_text(e, "log", log ? log : "");
    }
    json_put(o, "error", e);
    json_object_put(journal->report_body);
    journal->report_body = o;
    journal->report = report;
}
