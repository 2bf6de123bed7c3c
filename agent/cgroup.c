/* SPDX-License-Identifier: Apache-2.0 */
/* cgroup.c - control groups, version 2 only. */
#include "cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "file.h"

#define MOUNTINFO_MAX    (4UL * 1024 * 1024)
#define CGROUP_FILE_MAX  (1024UL * 1024)
#define CGROUP_DEPTH_MAX 16 /* groups within groups that a workload may have made */
#define POLL_MS          5
#define FREEZE_POLL_MS   1

/* mountinfo writes blank, tab, newline and backslash as \ooo. */
static void unescape(char *text)
{
    char *out = text;
    for (const char *p = text; *p; out++) {
        unsigned code = 0;
        if (*p == '\\' && sscanf(p + 1, "%3o", &code) == 1 && strlen(p) >= 4) {
            *out = (char)code;
            p += 4;
        } else {
            *out = *p++;
        }
    }
    *out = '\0';
}

/* The mount point of a line of mountinfo if its type is cgroup2, else NULL. Changes the line. */
static char *cgroup2_mount_point(char *line)
{
    char *rest = strstr(line, " - ");
    if (!rest || strncmp(rest + 3, "cgroup2 ", 8) != 0)
        return NULL;
    *rest = '\0';
    char *save = NULL, *field = strtok_r(line, " ", &save);
    for (unsigned i = 0; field && i < 4; i++) /* id parent major:minor root MOUNT-POINT */
        field = strtok_r(NULL, " ", &save);
    if (field)
        unescape(field);
    return field;
}

int cgroup_find_mount(const char *root, char **ret, struct error *err)
{
    autofree char *path = xasprintf("%s/proc/self/mountinfo", root);
    autofree char *text = NULL;
    if (file_read(path, MOUNTINFO_MAX, &text, NULL, err) < 0)
        return -1;
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        const char *mount = cgroup2_mount_point(line);
        if (mount) {
            *ret = xstrdup(mount);
            return 0;
        }
    }
    return error_set(err, ERROR_NOT_FOUND, "cgroup v2 is not mounted here (none in %s)", path);
}

int cgroup_make(const char *dir, struct error *err)
{
    return *dir ? file_make_dirs(dir, 0755, err) : 0;
}

int cgroup_join(const char *dir, pid_t pid, struct error *err)
{
    if (!*dir)
        return 0;
    autofree char *path = xasprintf("%s/cgroup.procs", dir);
    char text[32];
    snprintf(text, sizeof(text), "%d", pid);
    return file_write(path, text, err);
}

/* Calls `visit` for `dir` and every group below it, deepest first. */
static int walk(const char *dir, unsigned depth, int (*visit)(const char *, void *, struct error *),
                void *ctx, struct error *err)
{
    DIR *folder = opendir(dir);
    if (!folder && errno == ENOENT)
        return 0;
    if (!folder)
        return error_errno(err, ERROR_FAILED, "cannot read the cgroup %s", dir);
    int rc = 0;
    struct dirent *entry;
    while (rc == 0 && (entry = readdir(folder))) {
        if (entry->d_type != DT_DIR || *entry->d_name == '.')
            continue;
        autofree char *below = xasprintf("%s/%s", dir, entry->d_name);
        rc = depth ? walk(below, depth - 1, visit, ctx, err)
                   : error_set(err, ERROR_FAILED, "the cgroup %s nests too deep", below);
    }
    closedir(folder);
    return rc < 0 ? -1 : visit(dir, ctx, err);
}

static int add_pids(const char *dir, void *ctx, struct error *err)
{
    autofree char *path = xasprintf("%s/cgroup.procs", dir);
    autofree char *text = NULL;
    struct error inner = {0};
    if (file_read(path, CGROUP_FILE_MAX, &text, NULL, &inner) < 0)
        return inner.kind == ERROR_NOT_FOUND ? 0 : error_set(err, inner.kind, "%s", inner.message);
    char *save = NULL;
    /* 0 stands for a process that this pid namespace cannot name. */
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        process_list_add(ctx, (pid_t)strtol(line, NULL, 10));
    return 0;
}

int cgroup_pids(const char *dir, struct process_list *list, struct error *err)
{
    return *dir ? walk(dir, CGROUP_DEPTH_MAX, add_pids, list, err) : 0;
}

bool cgroup_populated(const char *dir)
{
    if (!*dir)
        return false;
    autofree char *path = xasprintf("%s/cgroup.events", dir);
    autofree char *text = NULL;
    return file_read(path, CGROUP_FILE_MAX, &text, NULL, NULL) == 0 &&
           strstr(text, "populated 1") != NULL;
}

int cgroup_freeze(const char *dir, uint64_t timeout_ms, struct error *err)
{
    autofree char *freeze = xasprintf("%s/cgroup.freeze", dir);
    autofree char *events = xasprintf("%s/cgroup.events", dir);
    int64_t deadline = process_now_ms() + (int64_t)timeout_ms;
    if (!*dir)
        return 0;
    if (file_write(freeze, "1", err) < 0)
        return -1;
    for (;;) {
        autofree char *text = NULL;
        if (file_read(events, CGROUP_FILE_MAX, &text, NULL, err) < 0)
            return -1;
        if (strstr(text, "frozen 1") || strstr(text, "populated 0"))
            return 0;
        if (process_now_ms() >= deadline)
            return error_set(err, ERROR_TIMEOUT,
                             "the cgroup %s is not frozen after %" PRIu64 " ms: a task of it hangs "
                             "in the kernel (state D)",
                             dir, timeout_ms);
        process_sleep_ms(FREEZE_POLL_MS);
    }
}

int cgroup_thaw(const char *dir, struct error *err)
{
    if (!*dir)
        return 0;
    autofree char *path = xasprintf("%s/cgroup.freeze", dir);
    autofree char *text = NULL;
    if (file_read(path, CGROUP_FILE_MAX, &text, NULL, NULL) < 0 || *text != '1')
        return 0; /* not frozen, or a kernel without the freezer */
    return file_write(path, "0", err);
}

int cgroup_kill(const char *dir, uint64_t timeout_ms, struct error *err)
{
    if (!*dir)
        return 0;
    autofree char *path = xasprintf("%s/cgroup.kill", dir);
    bool kernel_kills = file_write(path, "1", NULL) == 0; /* Linux 5.14 and later */
    int64_t deadline = process_now_ms() + (int64_t)timeout_ms;
    while (cgroup_populated(dir)) {
        struct process_list list = {0};
        int rc = kernel_kills ? 0 : cgroup_pids(dir, &list, err);
        for (size_t i = 0; i < list.count; i++)
            kill(list.pids[i], SIGKILL);
        free(list.pids);
        if (rc < 0)
            return -1;
        if (process_now_ms() >= deadline)
            return error_set(err, ERROR_TIMEOUT,
                             "tasks of the cgroup %s live on %" PRIu64 " ms after SIGKILL; "
                             "they hang in the kernel (state D): see %s/cgroup.procs",
                             dir, timeout_ms, dir);
        process_sleep_ms(POLL_MS);
    }
    return 0;
}

static int remove_group(const char *dir, void *ctx, struct error *err)
{
    const int64_t *deadline = ctx;
    while (rmdir(dir) < 0) {
        if (errno == ENOENT)
            return 0;
        if (errno != EBUSY)
            return error_errno(err, ERROR_FAILED, "cannot remove the cgroup %s", dir);
        if (process_now_ms() >= *deadline)
            return error_set(err, ERROR_TIMEOUT,
                             "the cgroup %s is still in use; see its cgroup.procs", dir);
        process_sleep_ms(POLL_MS);
    }
    return 0;
}

int cgroup_remove(const char *dir, uint64_t timeout_ms, struct error *err)
{
    int64_t deadline = process_now_ms() + (int64_t)timeout_ms;
    return *dir ? walk(dir, CGROUP_DEPTH_MAX, remove_group, &deadline, err) : 0;
}
