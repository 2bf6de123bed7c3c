/* SPDX-License-Identifier: Apache-2.0 */
/* workload_start.c - how a workload comes here: started, restored or adopted. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cgroup.h"
#include "cleanup.h"
#include "file.h"
#include "log.h"
#include "shim.h"
#include "workload_private.h"

#define START_MS    15000 /* for a shim to start a workload or watch one */
#define MASKED_MS   70000 /* the same under a traced mask: it looks through a large program first */
#define AFTER_MS    15000 /* beyond an engine's own time, for the shim to kill what it made */
#define CLEAN_UP_MS 5000
#define EXITED_MAX  256 /* records of ended workloads that are kept */
#define GROUPS_MAX  256
#define CMDLINE_MAX 65536

static int64_t unix_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* --- a new entry --------------------------------------------------------------------------- */

static void forget_oldest_exited(struct workloads *w)
{
    struct workload *oldest = NULL;
    unsigned count = 0;
    for (struct workload *x = w->list; x; x = x->next) {
        if (x->state != WORKLOAD_EXITED || x->busy || x->ending || *x->migration)
            continue;
        count++;
        if (!oldest || x->started_at_ms < oldest->started_at_ms)
            oldest = x;
    }
    if (count > EXITED_MAX) {
        file_remove_tree(oldest->run_dir, NULL);
        workload_forget(w, oldest);
    }
}

static json_object *command_json(const char *const *command)
{
    json_object *array = json_object_new_array();
    for (; command && *command; command++)
        json_object_array_add(array, json_object_new_string(*command));
    return array;
}

/* The command line of a process that is there already. */
static json_object *command_of(pid_t pid)
{
    char path[64];
    autofree char *text = NULL;
    size_t length = 0;
    json_object *array = json_object_new_array();
    snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
    if (file_read(path, CMDLINE_MAX, &text, &length, NULL) < 0)
        return array;
    for (size_t i = 0; i < length; i += strlen(text + i) + 1) {
        for (char *p = text + i; *p; p++) /* for people only; JSON takes no stray bytes */
            if ((unsigned char)*p < ' ' || (unsigned char)*p >= 0x7f)
                *p = '?';
        json_object_array_add(array, json_object_new_string(text + i));
    }
    return array;
}

/* Puts a busy entry in state STARTING on the list, in place of an exited one of that name.
 * `adopt` is the pid of an adopted root, else 0. */
static struct workload *enter(struct workloads *w, const struct workload_spec *spec, pid_t adopt,
                              const char *migration, struct error *err)
{
    autofree char *dir = NULL;
    pthread_mutex_lock(&w->lock);
    if (workload_check_new(w, spec, &dir, err) < 0) {
        pthread_mutex_unlock(&w->lock);
        return NULL;
    }
    struct workload *old = workload_find(w, spec->name);
    if (old)
        workload_forget(w, old);
    forget_oldest_exited(w);
    struct workload *x = xcalloc(1, sizeof(*x));
    x->name = xstrdup(spec->name);
    x->pool = xstrdup(spec->pool);
    x->dir = steal_ptr(&dir);
    x->run_dir = xasprintf("%s/run/%s", w->state_dir, spec->name);
    x->cgroup_dir = *w->cgroup_root ? xasprintf("%s/%s", w->cgroup_root, spec->name) : xstrdup("");
    x->command = adopt ? command_of(adopt) : command_json(spec->command);
    x->root_pid = adopt;
    x->state = WORKLOAD_STARTING;
    x->exit_status = -1;
    x->started_at_ms = unix_ms();
    x->uid = spec->uid;
    x->gid = spec->gid;
    x->adopted = adopt != 0;
    x->shim_fd = -1;
    x->busy = true;
    snprintf(x->migration, sizeof(x->migration), "%s", migration);
    if (spec->mask)
        birth_mask_copy(spec->mask, &x->mask);
    workload_enlist(w, x);
    pthread_mutex_unlock(&w->lock);
    return x;
}

/* What never changes in a busy entry is read without the lock. */
static int make_room(struct workloads *w, struct workload *x, struct error *err)
{
    autofree char *tasks = workload_tasks_dir(x);
    autofree char *shim = workload_shim_dir(x);
    if (file_remove_tree(x->run_dir, err) < 0 || file_make_dirs(x->run_dir, 0700, err) < 0)
        return -1;
    /* What a crash left of an earlier life under this name. */
    if (cgroup_kill(x->cgroup_dir, CLEAN_UP_MS, err) < 0 ||
        cgroup_remove(x->cgroup_dir, CLEAN_UP_MS, err) < 0)
        return -1;
    if (cgroup_make(tasks, err) < 0 || cgroup_make(shim, err) < 0)
        return -1;
    pthread_mutex_lock(&w->lock);
    int rc = workload_record_save(w, x, err);
    if (rc == 0 && birth_mask_is_traced(&x->mask))
        rc = birth_mask_write_table(&x->mask, w->report, x->run_dir, err);
    pthread_mutex_unlock(&w->lock);
    return rc;
}

/* An adopted process goes on; everything else that was started ends. */
static void kill_started(struct workload *x)
{
    struct process_list list = {0};
    struct error err = {0};
    if (!x->adopted) {
        workload_list_pids("", 0, x->shim_pid, &list, NULL);
        for (size_t i = 0; i < list.count; i++)
            kill(list.pids[i], SIGKILL);
        free(list.pids);
        if (cgroup_kill(x->cgroup_dir, CLEAN_UP_MS, &err) < 0)
            log_warn("cannot clean up after a failed start", LOG_STR("workload", x->name),
                     LOG_STR("error", err.message));
    }
    if (x->shim_pid > 0) {
        kill(x->shim_pid, SIGKILL);
        waitpid(x->shim_pid, NULL, 0);
    }
}

/* After a failure to start: as if nothing had been. */
static void undo(struct workloads *w, struct workload *x, bool dir_made)
{
    struct error err = {0};
    kill_started(x);
    if (cgroup_remove(x->cgroup_dir, CLEAN_UP_MS, &err) < 0)
        log_warn("cannot clean up after a failed start", LOG_STR("workload", x->name),
                 LOG_STR("error", err.message));
    file_remove_tree(x->run_dir, NULL);
    if (dir_made)
        file_remove_tree(x->dir, NULL);
    pthread_mutex_lock(&w->lock);
    workload_forget(w, x);
    pthread_mutex_unlock(&w->lock);
}

/* The whole tree ended before it could be watched; exit.json tells of it. */
static int is_over_already(struct workloads *w, struct workload *x, struct error *err)
{
    if (shim_read_exit(x->run_dir, &x->exit_status, err) < 0)
        return -1;
    waitpid(x->shim_pid, NULL, 0);
    cgroup_remove(x->cgroup_dir, CLEAN_UP_MS, NULL);
    x->state = WORKLOAD_EXITED;
    x->root_pid = x->shim_pid = 0;
    return workload_record_save(w, x, err);
}

/* The shim has said ok: from here on the monitor watches it. */
static int settle_in(struct workloads *w, struct workload *x, enum workload_state state,
                     struct workload_info *ret, struct error *err)
{
    struct process_stat stat = {0};
    struct error why = {0};
    process_stat_read(x->root_pid, &stat, NULL); /* a short-lived root may be over already */
    pthread_mutex_lock(&w->lock);
    x->root_ticks = stat.start_ticks;
    x->state = state;
    int rc = workload_record_save(w, x, err);
    if (rc == 0 && workload_watch(w, x, &why) < 0 && is_over_already(w, x, NULL) < 0)
        rc = error_set(err, why.kind, "%s", why.message);
    if (rc == 0) {
        workload_fill_info(x, ret);
        workload_release(w, x);
    }
    pthread_mutex_unlock(&w->lock);
    return rc;
}

/* Starts the shim and notes who it is, so that undo() finds it. */
static int start_shim(struct workloads *w, struct workload *x, const struct shim_orders *orders,
                      uint64_t timeout_ms, struct error *err)
{
    pid_t shim = 0, root = 0;
    if (shim_start(w->shim_path, x->name, orders, timeout_ms, &shim, &root, err) < 0)
        return -1;
    pthread_mutex_lock(&w->lock);
    x->shim_pid = shim;
    x->shim_is_child = true;
    x->root_pid = root;
    pthread_mutex_unlock(&w->lock);
    return 0;
}

static void put_mask(const struct workloads *w, struct shim_orders *orders,
                     const struct workload *x)
{
    autofree char *table = xasprintf("%s/%s", x->run_dir, BIRTH_MASK_TABLE_NAME);
    shim_orders_put(orders, SHIM_ORDER_MASK_PROGRAM, w->mask_path);
    shim_orders_put(orders, SHIM_ORDER_MASK_TABLE, table);
    shim_orders_put(orders, SHIM_ORDER_MASK_CACHE, w->mask_cache);
}

static void put_common(const struct workloads *w, struct shim_orders *orders,
                       const struct workload *x, const char *mode)
{
    autofree char *tasks = workload_tasks_dir(x);
    autofree char *shim = workload_shim_dir(x);
    shim_orders_put(orders, SHIM_ORDER_MODE, mode);
    shim_orders_put(orders, SHIM_ORDER_RUN_DIR, x->run_dir);
    shim_orders_put(orders, SHIM_ORDER_TASKS_DIR, tasks);
    shim_orders_put(orders, SHIM_ORDER_SHIM_DIR, shim);
    if (birth_mask_is_traced(&x->mask))
        put_mask(w, orders, x);
}

static void put_strings(struct shim_orders *orders, enum shim_order key, char *const *strings)
{
    for (; strings && *strings; strings++)
        shim_orders_put(orders, key, *strings);
}

/* --- run ----------------------------------------------------------------------------------- */

/* The groups that a login of that user would have; just `gid` for a uid that has no name. */
static void put_groups(struct shim_orders *orders, unsigned uid, unsigned gid)
{
    struct passwd entry, *found = NULL;
    char buffer[8192];
    gid_t groups[GROUPS_MAX];
    int count = GROUPS_MAX;
    if (getpwuid_r(uid, &entry, buffer, sizeof(buffer), &found) != 0 || !found ||
        getgrouplist(found->pw_name, gid, groups, &count) < 0) {
        groups[0] = gid;
        count = 1;
    }
    for (int i = 0; i < count; i++)
        shim_orders_put_number(orders, SHIM_ORDER_GROUP, groups[i]);
}

const char *const workload_plain_env[] = {
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL};

static struct shim_orders *run_orders(const struct workloads *w, const struct workload *x,
                                      const struct workload_spec *spec)
{
    struct shim_orders *orders = shim_orders_new();
    put_common(w, orders, x, SHIM_MODE_RUN);
    shim_orders_put(orders, SHIM_ORDER_LOG_DIR, x->dir);
    shim_orders_put(orders, SHIM_ORDER_CWD, spec->cwd ? spec->cwd : x->dir);
    shim_orders_put_number(orders, SHIM_ORDER_UID, spec->uid);
    shim_orders_put_number(orders, SHIM_ORDER_GID, spec->gid);
    put_groups(orders, spec->uid, spec->gid);
    put_strings(orders, SHIM_ORDER_ARG, (char *const *)spec->command);
    put_strings(orders, SHIM_ORDER_ENV,
                (char *const *)(spec->env ? spec->env : workload_plain_env));
    return orders;
}

int workload_spec_check(const struct workload_spec *spec, struct error *err)
{
    if (!spec->command || !*spec->command || !**spec->command)
        return error_set(err, ERROR_INVALID, "command: expected at least the program's name");
    if (spec->cwd && *spec->cwd != '/')
        return error_set(err, ERROR_INVALID, "cwd: '%.200s': expected an absolute path", spec->cwd);
    for (const char *const *e = spec->env; e && *e; e++)
        if (**e == '=' || !strchr(*e, '='))
            return error_set(err, ERROR_INVALID, "env: '%.60s': expected NAME=VALUE", *e);
    return 0;
}

int workloads_run(struct workloads *w, const struct workload_spec *spec, struct workload_info *ret,
                  struct error *err)
{
    if (workload_spec_check(spec, err) < 0)
        return -1;
    struct workload *x = enter(w, spec, 0, "", err);
    if (!x)
        return -1;
    bool dir_made = false;
    autofree char *dir = NULL;
    AUTO(shim_orders) orders = NULL;
    int rc = workload_dir_resolve(w, spec->name, spec->dir, spec->uid, spec->gid, true, &dir_made,
                                  &dir, err);
    if (rc == 0)
        rc = make_room(w, x, err);
    if (rc == 0) {
        orders = run_orders(w, x, spec);
        workload_leave_gap(w->seed);
        rc = start_shim(w, x, orders, birth_mask_is_traced(&x->mask) ? MASKED_MS : START_MS, err);
    }
    if (rc == 0)
        rc = settle_in(w, x, WORKLOAD_RUNNING, ret, err);
    if (rc < 0) {
        undo(w, x, dir_made);
        return error_wrap(err, "workload '%s' was not started", spec->name);
    }
    log_info("workload started", LOG_STR("workload", spec->name), LOG_INT("pid", ret->root_pid));
    workload_tell(w, spec->name);
    return 0;
}

/* --- adopt --------------------------------------------------------------------------------- */

/* Not ourselves, nor anything that we live under, nor another workload's. */
static int check_adoptable(struct workloads *w, pid_t pid, struct error *err)
{
    struct process_stat it;
    struct stat ours, theirs;
    char path[64];
    if (process_stat_read(pid, &it, err) < 0)
        return -1;
    if (it.state == 'Z' || it.state == 'X')
        return error_set(err, ERROR_NOT_FOUND, "process %d has ended", pid);
    snprintf(path, sizeof(path), "/proc/%d/ns/pid", pid);
    if (stat("/proc/self/ns/pid", &ours) < 0 || stat(path, &theirs) < 0 ||
        ours.st_ino != theirs.st_ino)
        return error_set(err, ERROR_INVALID,
                         "process %d ('%s') is a kernel thread or lives in another pid namespace",
                         pid, it.comm);
    struct process_list tree = {0};
    if (process_list_tree(pid, true, &tree, err) < 0)
        return -1;
    bool above_us = process_list_has(tree.pids, getpid());
    free(tree.pids);
    if (above_us)
        return error_set(err, ERROR_INVALID, "process %d ('%s') is the agent or lives above it",
                         pid, it.comm);
    int rc = 0;
    pthread_mutex_lock(&w->lock);
    for (struct workload *x = w->list; rc == 0 && x; x = x->next) {
        struct process_list list = {0};
        autofree char *tasks = workload_tasks_dir(x);
        if (x->state == WORKLOAD_EXITED)
            continue;
        if (workload_list_pids(tasks, x->root_pid, x->shim_pid, &list, NULL) == 0 &&
            (process_list_has(list.pids, pid) || pid == x->shim_pid))
            rc =
                error_set(err, ERROR_CONFLICT, "process %d belongs to workload '%s'", pid, x->name);
        free(list.pids);
    }
    pthread_mutex_unlock(&w->lock);
    return rc;
}

/* Twice, for children that are born meanwhile. */
static int move_tree(const struct workload *x, pid_t root, struct error *err)
{
    autofree char *tasks = workload_tasks_dir(x);
    for (unsigned round = 0; *tasks && round < 2; round++) {
        struct process_list tree = {0};
        int rc = process_list_tree(root, true, &tree, err);
        for (size_t i = 0; rc == 0 && i < tree.count; i++) {
            struct error why = {0};
            if (cgroup_join(tasks, tree.pids[i], &why) < 0 && why.kind != ERROR_NOT_FOUND)
                rc = error_set(err, why.kind, "%s", why.message);
        }
        free(tree.pids);
        if (rc < 0)
            return -1;
    }
    return 0;
}

int workload_start_watcher(struct workloads *w, struct workload *x, struct error *err)
{
    AUTO(shim_orders) orders = shim_orders_new();
    put_common(w, orders, x, SHIM_MODE_ADOPT);
    shim_orders_put_number(orders, SHIM_ORDER_PID, x->root_pid);
    return start_shim(w, x, orders, START_MS, err);
}

static int adopt(struct workloads *w, struct workload *x, pid_t pid, struct workload_info *ret,
                 struct error *err)
{
    if (make_room(w, x, err) < 0 || workload_start_watcher(w, x, err) < 0)
        return -1;
    if (move_tree(x, pid, err) < 0)
        return -1;
    return settle_in(w, x, WORKLOAD_RUNNING, ret, err);
}

int workloads_adopt(struct workloads *w, const char *name, const char *pool, pid_t pid,
                    struct workload_info *ret, struct error *err)
{
    struct workload_spec spec = {.name = name, .pool = pool};
    bool dir_made = false;
    autofree char *dir = NULL;
    if (name_check("workload", name, err) < 0 || check_adoptable(w, pid, err) < 0 ||
        process_owner(pid, &spec.uid, &spec.gid, err) < 0)
        return -1;
    struct workload *x = enter(w, &spec, pid, "", err);
    if (!x)
        return -1;
    int rc = workload_dir_resolve(w, name, NULL, spec.uid, spec.gid, true, &dir_made, &dir, err);
    if (rc == 0)
        rc = adopt(w, x, pid, ret, err);
    if (rc < 0) {
        undo(w, x, dir_made);
        return error_wrap(err, "process %d was not adopted as workload '%s' and goes on as before",
                          pid, name);
    }
    log_info("process adopted", LOG_STR("workload", name), LOG_INT("pid", pid));
    workload_tell(w, name);
    return 0;
}

/* --- restore ------------------------------------------------------------------------------- */

/* What an earlier try of the same migration left here: the stopped tree itself (1), or nothing
 * any more (0). */
static int earlier_restore(struct workloads *w, const char *name, const char *migration,
                           struct workload_info *ret, struct error *err)
{
    bool same = false, whole = false;
    pthread_mutex_lock(&w->lock);
    struct workload *x = workload_find(w, name);
    same = x && strcmp(x->migration, migration) == 0;
    whole = same && x->state == WORKLOAD_STOPPED && x->root_pid && !x->busy && !x->ending;
    if (whole)
        workload_fill_info(x, ret);
    pthread_mutex_unlock(&w->lock);
    if (whole)
        return 1;
    return same ? workloads_destroy(w, name, false, err) : 0;
}

static int restore(struct workloads *w, struct workload *x, char *const *argv, char *const *env,
                   const char *pidfile, const char *log_path, uint64_t timeout_ms,
                   struct workload_info *ret, struct error *err)
{
    struct process_list list = {0};
    autofree char *tasks = workload_tasks_dir(x);
    AUTO(shim_orders) orders = shim_orders_new();
    if (make_room(w, x, err) < 0)
        return -1;
    if (unlink(pidfile) < 0 && errno != ENOENT)
        return error_errno(err, ERROR_FAILED, "cannot remove an old %s", pidfile);
    put_common(w, orders, x, SHIM_MODE_RESTORE);
    shim_orders_put(orders, SHIM_ORDER_PIDFILE, pidfile);
    shim_orders_put(orders, SHIM_ORDER_OUTPUT, log_path);
    shim_orders_put_number(orders, SHIM_ORDER_TIMEOUT_MS, (int64_t)timeout_ms);
    put_strings(orders, SHIM_ORDER_ARG, argv);
    put_strings(orders, SHIM_ORDER_ENV, env);
    if (start_shim(w, x, orders, timeout_ms + AFTER_MS, err) < 0)
        return -1;
    int rc = workload_list_pids(tasks, x->root_pid, x->shim_pid, &list, err);
    if (rc == 0)
        rc = process_wait_stopped(list.pids, workload_tracer(list.pids, x->shim_pid), CLEAN_UP_MS,
                                  err);
    free(list.pids);
    uid_t uid = 0;
    gid_t gid = 0;
    if (rc == 0)
        rc = process_owner(x->root_pid, &uid, &gid, err);
    if (rc < 0)
        return -1;
    pthread_mutex_lock(&w->lock);
    x->uid = uid;
    x->gid = gid;
    pthread_mutex_unlock(&w->lock);
    return settle_in(w, x, WORKLOAD_STOPPED, ret, err);
}

int workloads_restore(struct workloads *w, const struct workload_spec *spec, const char *migration,
                      char *const *argv, char *const *env, const char *pidfile,
                      const char *log_path, uint64_t timeout_ms, struct workload_info *ret,
                      struct error *err)
{
    if (!*migration || strlen(migration) >= sizeof(((struct workload *)0)->migration))
        return error_set(err, ERROR_INVALID, "migration: '%.100s' is no id", migration);
    int rc = earlier_restore(w, spec->name, migration, ret, err);
    if (rc != 0)
        return rc > 0 ? 0 : -1;
    struct workload *x = enter(w, spec, 0, migration, err);
    if (!x)
        return -1;
    rc = restore(w, x, argv, env, pidfile, log_path, timeout_ms, ret, err);
    if (rc < 0) {
        undo(w, x, false);
        return error_wrap(err, "workload '%s' was not restored here", spec->name);
    }
    log_info("workload restored, stopped", LOG_STR("workload", spec->name),
             LOG_STR("migration", migration), LOG_INT("pid", ret->root_pid));
    workload_tell(w, spec->name);
    return 0;
}
