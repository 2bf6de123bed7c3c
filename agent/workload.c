/* SPDX-License-Identifier: Apache-2.0 */
/* workload.c - the list of this node's workloads, and what can be asked of it. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cgroup.h"
#include "cleanup.h"
#include "file.h"
#include "log.h"
#include "workload_private.h"

static const char *const state_names[] = {
#define X(state, name) name,
    WORKLOAD_STATES(X)
#undef X
};

const char *workload_state_name(enum workload_state state)
{
    return (unsigned)state < WORKLOAD_STATE_COUNT ? state_names[state] : "unknown";
}

/* --- infos --------------------------------------------------------------------------------- */

void workload_info_done(struct workload_info *info)
{
    free(info->name);
    free(info->pool);
    free(info->dir);
    free(info->cgroup_dir);
    json_object_put(info->command);
    birth_mask_done(&info->mask);
    json_object_put(info->mask_told);
    memset(info, 0, sizeof(*info));
}

void workload_fill_info(const struct workload *x, struct workload_info *ret)
{
    *ret = (struct workload_info){
        .name = xstrdup(x->name),
        .pool = xstrdup(x->pool),
        .dir = xstrdup(x->dir),
        .cgroup_dir = xstrdup(x->cgroup_dir),
        .state = x->state,
        .root_pid = x->root_pid,
        .shim_pid = x->shim_pid,
        .exit_status = x->state == WORKLOAD_EXITED ? x->exit_status : -1,
        .started_at_ms = x->started_at_ms,
        .uid = x->uid,
        .gid = x->gid,
        .adopted = x->adopted,
    };
    /* A copy of its own: json-c's counts are not atomic. */
    json_object_deep_copy(x->command, &ret->command, NULL);
    snprintf(ret->migration, sizeof(ret->migration), "%s", x->migration);
    birth_mask_copy(&x->mask, &ret->mask);
    ret->mask_told = birth_mask_told(&x->mask, x->run_dir);
}

json_object *workload_info_to_json(const struct workload_info *info)
{
    json_object *o = json_object_new_object();
    json_object *command = NULL;
    json_object_deep_copy(info->command, &command, NULL);
    json_put_str(o, "name", info->name);
    json_put_str(o, "pool", info->pool);
    json_put_str(o, "state", workload_state_name(info->state));
    if (info->root_pid > 0)
        json_put_int(o, "pid", info->root_pid);
    else
        json_put(o, "pid", NULL);
    if (info->exit_status >= 0)
        json_put_int(o, "exit_status", info->exit_status);
    else
        json_put(o, "exit_status", NULL);
    json_put(o, "command", command);
    json_put_str(o, "dir", info->dir);
    json_put_str(o, "cgroup", *info->cgroup_dir ? info->cgroup_dir : NULL);
    json_put_int(o, "started_at_ms", info->started_at_ms);
    json_put_bool(o, "adopted", info->adopted);
    json_put_str(o, "migration", *info->migration ? info->migration : NULL);
    json_put(o, "mask", json_object_get(info->mask_told));
    return o;
}

/* --- the list ------------------------------------------------------------------------------ */

void workload_free(struct workload *x)
{
    if (!x)
        return;
    if (x->shim_fd >= 0)
        close(x->shim_fd);
    json_object_put(x->command);
    birth_mask_done(&x->mask);
    free(x->name);
    free(x->pool);
    free(x->dir);
    free(x->cgroup_dir);
    free(x->run_dir);
    free(x);
}

struct workload *workload_find(struct workloads *w, const char *name)
{
    for (struct workload *x = w->list; x; x = x->next)
        if (strcmp(x->name, name) == 0)
            return x;
    return NULL;
}

void workload_enlist(struct workloads *w, struct workload *x)
{
    struct workload **at = &w->list;
    while (*at && strcmp((*at)->name, x->name) < 0)
        at = &(*at)->next;
    x->next = *at;
    *at = x;
}

void workload_forget(struct workloads *w, struct workload *x)
{
    struct workload **at = &w->list;
    while (*at && *at != x)
        at = &(*at)->next;
    if (*at)
        *at = x->next;
    workload_free(x);
    pthread_cond_broadcast(&w->moved);
}

static void deadline_in(uint64_t ms, struct timespec *ret)
{
    clock_gettime(CLOCK_MONOTONIC, ret);
    ret->tv_sec += (time_t)(ms / 1000);
    ret->tv_nsec += (long)(ms % 1000) * 1000000;
    if (ret->tv_nsec >= 1000000000) {
        ret->tv_sec++;
        ret->tv_nsec -= 1000000000;
    }
}

static int not_here(const char *name, struct error *err)
{
    return error_set(err, ERROR_NOT_FOUND, "no workload '%s' here; `cpuagent ps` lists them", name);
}

struct workload *workload_take(struct workloads *w, const char *name, uint64_t timeout_ms,
                               struct error *err)
{
    struct timespec deadline;
    deadline_in(timeout_ms, &deadline);
    for (;;) {
        struct workload *x = workload_find(w, name);
        if (!x) {
            not_here(name, err);
            return NULL;
        }
        if (!x->busy && !x->ending) {
            x->busy = true;
            return x;
        }
        if (pthread_cond_timedwait(&w->moved, &w->lock, &deadline) != 0) {
            error_set(err, ERROR_BUSY, "workload '%s' is being started, stopped or moved just now",
                      name);
            return NULL;
        }
    }
}

void workload_release(struct workloads *w, struct workload *x)
{
    x->busy = false;
    pthread_cond_broadcast(&w->moved);
}

bool workload_wait_exited(struct workloads *w, struct workload *x, uint64_t timeout_ms)
{
    struct timespec deadline;
    deadline_in(timeout_ms, &deadline);
    while (x->state != WORKLOAD_EXITED || x->ending)
        if (pthread_cond_timedwait(&w->moved, &w->lock, &deadline) != 0)
            return x->state == WORKLOAD_EXITED && !x->ending;
    return true;
}

void workload_tell(struct workloads *w, const char *name)
{
    if (w->changed)
        w->changed(w->ctx, name);
}

static char *cgroup_below(const struct workload *x, const char *name)
{
    return *x->cgroup_dir ? xasprintf("%s/%s", x->cgroup_dir, name) : xstrdup("");
}

char *workload_tasks_dir(const struct workload *x)
{
    return cgroup_below(x, CGROUP_TASKS);
}

char *workload_shim_dir(const struct workload *x)
{
    return cgroup_below(x, CGROUP_SHIM);
}

/* The tracer of a mask is a child of the shim and none of the workload. */
static int drop_shims(const char *tasks_dir, struct process_list *list, struct error *err)
{
    struct process_list ours = {0};
    size_t kept = 0;
    if (!*tasks_dir)
        return 0;
    autofree char *shim_dir =
        xasprintf("%.*s" CGROUP_SHIM, (int)(strlen(tasks_dir) - strlen(CGROUP_TASKS)), tasks_dir);
    if (cgroup_pids(shim_dir, &ours, err) < 0)
        return -1;
    for (size_t i = 0; i < list->count; i++)
        if (!process_list_has(ours.pids, list->pids[i]))
            list->pids[kept++] = list->pids[i];
    list->count = kept;
    if (list->pids)
        list->pids[kept] = 0;
    free(ours.pids);
    return 0;
}

int workload_list_pids(const char *tasks_dir, pid_t root, pid_t shim, struct process_list *list,
                       struct error *err)
{
    if (root > 0 && process_list_tree(root, true, list, err) < 0)
        return -1;
    if (shim > 0 && process_list_tree(shim, false, list, err) < 0)
        return -1;
    return cgroup_pids(tasks_dir, list, err) < 0 ? -1 : drop_shims(tasks_dir, list, err);
}

pid_t workload_tracer(const pid_t *pids, pid_t shim)
{
    struct process_stat stat;
    for (; pids && *pids; pids++) {
        pid_t tracer = process_tracer(*pids);
        if (tracer && process_stat_read(tracer, &stat, NULL) == 0 && stat.ppid == shim)
            return tracer;
    }
    return 0;
}

/* --- beginning and end --------------------------------------------------------------------- */

static char *find_shim(void)
{
    static const char *const places[] = {
        "%s/cpuagent-shim",
        "%s/../agent/cpuagent-shim", /* a build folder's tests */
        "%s/../libexec/cpubroker/cpuagent-shim",
    };
    char here[4096];
    ssize_t n = readlink("/proc/self/exe", here, sizeof(here) - 1);
    if (n <= 0)
        return NULL;
    here[n] = '\0';
    char *slash = strrchr(here, '/');
    if (slash)
        *slash = '\0';
    for (unsigned i = 0; i < ARRAY_LEN(places); i++) {
        autofree char *path = NULL;
        const char *tail = places[i] + 2; /* behind the %s */
        path = xasprintf("%s%s", here, tail);
        if (access(path, X_OK) == 0)
            return steal_ptr(&path);
    }
    return NULL;
}

/* The program of the mask's tracer. */
static char *beside_shim(const char *shim_path)
{
    const char *slash = shim_path ? strrchr(shim_path, '/') : NULL;
    return xasprintf("%.*scpuagent-mask", slash ? (int)(slash + 1 - shim_path) : 0,
                     slash ? shim_path : "");
}

static int find_cgroup(struct workloads *w, const char *parent, struct error *err)
{
    struct error why = {0};
    autofree char *mount = NULL;
    if (cgroup_find_mount("", &mount, &why) < 0) {
        log_warn("workloads get no cgroup of their own; their tasks are found by parentage, and "
                 "one that runs away is not seen",
                 LOG_STR("why", why.message));
        w->cgroup_root = xstrdup("");
        return 0;
    }
    w->cgroup_root = xasprintf("%s/%s", mount, parent);
    return cgroup_make(w->cgroup_root, err);
}

static int make_folders(const char *state_dir, struct error *err)
{
    autofree char *run = xasprintf("%s/run", state_dir);
    autofree char *homes = xasprintf("%s/workloads", state_dir);
    if (file_make_dirs(state_dir, 0755, err) < 0 || file_make_dirs(run, 0700, err) < 0 ||
        file_make_dirs(homes, 0755, err) < 0)
        return -1;
    return 0;
}

static void read_boot_id(struct workloads *w)
{
    autofree char *text = NULL;
    if (file_read("/proc/sys/kernel/random/boot_id", 128, &text, NULL, NULL) == 0)
        snprintf(w->boot_id, sizeof(w->boot_id), "%.*s", (int)strcspn(text, "\n"), text);
}

static int read_records(struct workloads *w, struct error *err)
{
    autofree char *run = xasprintf("%s/run", w->state_dir);
    DIR *folder = opendir(run);
    if (!folder)
        return error_errno(err, ERROR_FAILED, "cannot read %s", run);
    struct dirent *entry;
    while ((entry = readdir(folder))) {
        struct workload *x = NULL;
        struct error why = {0};
        if (*entry->d_name == '.')
            continue;
        if (workload_record_load(w, entry->d_name, &x, &why) < 0) {
            log_error("cannot read what an earlier agent left of a workload; it is not watched",
                      LOG_STR("workload", entry->d_name), LOG_STR("error", why.message));
            continue;
        }
        workload_resume(w, x);
        workload_enlist(w, x);
    }
    closedir(folder);
    return 0;
}

static int open_workloads(struct workloads *w, const struct workloads_config *config,
                          struct error *err)
{
    if (*config->state_dir != '/')
        return error_set(err, ERROR_INVALID, "state_dir: '%s': expected an absolute path",
                         config->state_dir);
    if (!w->shim_path || access(w->shim_path, X_OK) < 0)
        return error_set(err, ERROR_NOT_FOUND,
                         "the shim '%s' cannot be executed; it belongs beside cpuagent or in "
                         "libexec/cpubroker",
                         w->shim_path ? w->shim_path : "cpuagent-shim");
    if (make_folders(w->state_dir, err) < 0 || find_cgroup(w, config->cgroup_parent, err) < 0)
        return -1;
    workload_leave_gap(w->seed);
    if (read_records(w, err) < 0)
        return -1;
    return workload_monitor_start(w, err);
}

static void workloads_drop(struct workloads *w)
{
    while (w->list) {
        struct workload *x = w->list;
        w->list = x->next;
        workload_free(x);
    }
    if (w->wake_fd >= 0)
        close(w->wake_fd);
    pthread_cond_destroy(&w->moved);
    pthread_mutex_destroy(&w->lock);
    free(w->state_dir);
    free(w->shim_path);
    free(w->mask_path);
    free(w->mask_cache);
    cpu_report_free(w->report);
    free(w->cgroup_root);
    free(w->roots);
    free(w->seed);
    free(w);
}

int workloads_new(const struct workloads_config *config, struct workloads **ret, struct error *err)
{
    struct workloads *w = xcalloc(1, sizeof(*w));
    pthread_condattr_t attributes;
    w->wake_fd = -1;
    w->state_dir = xstrdup(config->state_dir);
    w->shim_path = config->shim_path ? xstrdup(config->shim_path) : find_shim();
    w->mask_path = beside_shim(w->shim_path);
    w->mask_cache = xasprintf("%s/sites", config->state_dir);
    w->roots = xstrdup(config->workload_roots ? config->workload_roots : "");
    w->seed = xstrdup(config->cgroup_parent);
    w->changed = config->changed;
    w->ctx = config->ctx;
    read_boot_id(w);
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&w->moved, &attributes);
    pthread_condattr_destroy(&attributes);
    if (open_workloads(w, config, err) < 0) {
        workloads_drop(w);
        return -1;
    }
    *ret = w;
    return 0;
}

void workloads_free(struct workloads *w)
{
    if (!w)
        return;
    workload_monitor_stop(w);
    workloads_drop(w);
}

/* --- questions ----------------------------------------------------------------------------- */

static bool overlap(const char *a, const char *b)
{
    size_t la = strlen(a), lb = strlen(b), n = la < lb ? la : lb;
    return strncmp(a, b, n) == 0 && (la == lb || (la < lb ? b[n] : a[n]) == '/');
}

int workload_check_new(struct workloads *w, const struct workload_spec *spec, char **ret_dir,
                       struct error *err)
{
    autofree char *dir = NULL;
    if (name_check("workload", spec->name, err) < 0 || name_check("pool", spec->pool, err) < 0)
        return -1;
    struct workload *x = workload_find(w, spec->name);
    if (x && (x->state != WORKLOAD_EXITED || x->busy || x->ending || *x->migration))
        return error_set(err, ERROR_CONFLICT, "workload '%s' is here already, %s%s%s", spec->name,
                         workload_state_name(x->state), *x->migration ? ", held by migration " : "",
                         x->migration);
    if (workload_dir_resolve(w, spec->name, spec->dir, spec->uid, spec->gid, false, NULL, &dir,
                             err) < 0)
        return -1;
    for (struct workload *other = w->list; other; other = other->next)
        if (other != x && other->state != WORKLOAD_EXITED && overlap(other->dir, dir))
            return error_set(err, ERROR_CONFLICT,
                             "dir: %s overlaps %s, the folder of workload '%s'", dir, other->dir,
                             other->name);
    *ret_dir = steal_ptr(&dir);
    return 0;
}

int workloads_check(struct workloads *w, const struct workload_spec *spec, char **ret_dir,
                    struct error *err)
{
    pthread_mutex_lock(&w->lock);
    int rc = workload_check_new(w, spec, ret_dir, err);
    pthread_mutex_unlock(&w->lock);
    return rc;
}

int workloads_get(struct workloads *w, const char *name, struct workload_info *ret,
                  struct error *err)
{
    pthread_mutex_lock(&w->lock);
    struct workload *x = workload_find(w, name);
    if (x)
        workload_fill_info(x, ret);
    pthread_mutex_unlock(&w->lock);
    return x ? 0 : not_here(name, err);
}

json_object *workloads_to_json(struct workloads *w)
{
    json_object *array = json_object_new_array();
    pthread_mutex_lock(&w->lock);
    for (const struct workload *x = w->list; x; x = x->next) {
        struct workload_info info;
        workload_fill_info(x, &info);
        json_object_array_add(array, workload_info_to_json(&info));
        workload_info_done(&info);
    }
    pthread_mutex_unlock(&w->lock);
    return array;
}

int workloads_pids(struct workloads *w, const char *name, pid_t **ret, struct error *err)
{
    struct process_list list = {0};
    autofree char *tasks = NULL;
    pid_t root = 0, shim = 0;
    pthread_mutex_lock(&w->lock);
    struct workload *x = workload_find(w, name);
    if (x && x->state != WORKLOAD_EXITED) {
        tasks = workload_tasks_dir(x);
        root = x->root_pid;
        shim = x->shim_pid;
    }
    pthread_mutex_unlock(&w->lock);
    if (!x)
        return not_here(name, err);
    if (tasks && workload_list_pids(tasks, root, shim, &list, err) < 0) {
        free(list.pids);
        return -1;
    }
    *ret = list.pids ? list.pids : xcalloc(1, sizeof(pid_t));
    return 0;
}

/* --- marks of a migration ------------------------------------------------------------------ */

int workloads_hold(struct workloads *w, const char *name, const char *migration, struct error *err)
{
    char before[sizeof(((struct workload *)0)->migration)];
    if (strlen(migration) >= sizeof(before))
        return error_set(err, ERROR_INVALID, "migration: '%.100s' is too long for an id",
                         migration);
    pthread_mutex_lock(&w->lock);
    struct workload *x = workload_find(w, name);
    int rc = 0;
    if (!x) {
        rc = not_here(name, err);
    } else if (*migration && x->state == WORKLOAD_EXITED) {
        rc = error_set(err, ERROR_CONFLICT, "workload '%s' has exited", name);
    } else if (*migration && *x->migration && strcmp(x->migration, migration) != 0) {
        rc = error_set(err, ERROR_CONFLICT, "workload '%s' is held by migration %s", name,
                       x->migration);
    } else if (strcmp(x->migration, migration) != 0) {
        snprintf(before, sizeof(before), "%s", x->migration);
        snprintf(x->migration, sizeof(x->migration), "%s", migration);
        rc = workload_record_save(w, x, err);
        if (rc < 0)
            snprintf(x->migration, sizeof(x->migration), "%s", before);
    }
    pthread_mutex_unlock(&w->lock);
    return rc;
}

int workloads_set_state(struct workloads *w, const char *name, enum workload_state state,
                        struct error *err)
{
    pthread_mutex_lock(&w->lock);
    struct workload *x = workload_find(w, name);
    int rc = 0;
    bool moved = false;
    if (!x) {
        rc = not_here(name, err);
    } else if (x->state == WORKLOAD_EXITED || state == WORKLOAD_EXITED) {
        rc = x->state == state
                 ? 0
                 : error_set(err, ERROR_CONFLICT, "workload '%s' is %s and cannot be set to %s",
                             name, workload_state_name(x->state), workload_state_name(state));
    } else if (x->state != state) {
        enum workload_state before = x->state;
        x->state = state;
        rc = workload_record_save(w, x, err);
        if (rc < 0)
            x->state = before;
        else
            moved = true;
        pthread_cond_broadcast(&w->moved);
    }
    pthread_mutex_unlock(&w->lock);
    if (moved)
        workload_tell(w, name);
    return rc;
}

/* --- masks --------------------------------------------------------------------------------- */

int workloads_set_report(struct workloads *w, const struct cpu_report *report, struct error *err)
{
    autojson *json = cpu_report_to_json(report);
    struct cpu_report *copy = NULL;
    if (cpu_report_parse(json, &copy, err) < 0)
        return -1;
    pthread_mutex_lock(&w->lock);
    cpu_report_free(w->report);
    w->report = copy;
    pthread_mutex_unlock(&w->lock);
    return 0;
}

int workloads_mask_choose(struct workloads *w, const char *wanted, const char *require,
                          enum mask_grade *ret, struct error *err)
{
    pthread_mutex_lock(&w->lock);
    if (!w->mask_tried) {
        w->mask_best = birth_mask_try(w->mask_path, *w->cgroup_root != '\0', w->mask_reason,
                                      sizeof(w->mask_reason));
        w->mask_tried = true;
        log_info("the best grade of the CPUID mask here",
                 LOG_STR("grade", mask_grade_name(w->mask_best)),
                 LOG_STR("why_not_better", w->mask_reason));
    }
    int rc = birth_mask_choose(wanted, require, w->mask_best, w->mask_reason, ret, err);
    pthread_mutex_unlock(&w->lock);
    return rc;
}
