/* SPDX-License-Identifier: Apache-2.0 */
/* workload_stop.c - how a workload ends here, and how a stopped one goes on. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>

#include "cgroup.h"
#include "cleanup.h"
#include "file.h"
#include "log.h"
#include "shim.h"
#include "workload_private.h"

#define TAKE_MS     30000 /* for somebody else's work on the same workload */
#define KILL_MS     10000
#define GONE_MS     20000 /* from SIGKILL until everything is reaped */
#define CONTINUE_MS 5000

/* What is needed of a workload while the lock is not held. */
struct handle {
    char *tasks, *run_dir; /* owned */
    pid_t root, shim;
    bool is_traced; /* for its mask */
};

static void handle_done(struct handle *h)
{
    free(h->tasks);
    free(h->run_dir);
}

static void handle_of(const struct workload *x, struct handle *ret)
{
    *ret = (struct handle){.tasks = workload_tasks_dir(x),
                           .run_dir = xstrdup(x->run_dir),
                           .root = x->root_pid,
                           .shim = x->shim_pid,
                           .is_traced = birth_mask_is_traced(&x->mask)};
}

static int kill_without_cgroup(const struct handle *h, struct error *err)
{
    int64_t deadline = process_now_ms() + KILL_MS;
    for (;;) {
        struct process_list list = {0};
        struct process_stat stat;
        size_t alive = 0;
        if (workload_list_pids("", h->root, h->shim, &list, err) < 0)
            return -1;
        for (size_t i = 0; i < list.count; i++)
            if (process_stat_read(list.pids[i], &stat, NULL) == 0 && stat.state != 'Z') {
                kill(list.pids[i], SIGKILL);
                alive++;
            }
        free(list.pids);
        if (!alive)
            return 0;
        if (process_now_ms() >= deadline)
            return error_set(err, ERROR_TIMEOUT, "%zu of its tasks live on after SIGKILL", alive);
        process_sleep_ms(5);
    }
}

static int kill_everything(const struct handle *h, struct error *err)
{
    return *h->tasks ? cgroup_kill(h->tasks, KILL_MS, err) : kill_without_cgroup(h, err);
}

/* SIGTERM to the root; where it has ended already, to those of its tree that have not. A stopped
 * task takes the signal only once it goes on. */
static int ask_to_end(const struct handle *h, struct error *err)
{
    if (h->root > 0) {
        struct error why = {0};
        if (shim_signal(h->run_dir, SIGTERM, &why) == 0)
            return shim_signal(h->run_dir, SIGCONT, NULL), 0;
        if (why.kind != ERROR_NOT_FOUND && why.kind != ERROR_UNREACHABLE)
            return error_set(err, why.kind, "%s", why.message);
        return 0; /* it ended at this very moment, or only SIGKILL is left */
    }
    struct process_list list = {0};
    if (workload_list_pids(h->tasks, 0, h->shim, &list, err) < 0)
        return -1;
    for (size_t i = 0; i < list.count; i++) {
        kill(list.pids[i], SIGTERM);
        kill(list.pids[i], SIGCONT);
    }
    free(list.pids);
    return 0;
}

static int stop_taken(struct workloads *w, struct workload *x, uint64_t timeout_ms,
                      struct error *err)
{
    __attribute__((cleanup(handle_done))) struct handle h;
    handle_of(x, &h);
    pthread_mutex_unlock(&w->lock);
    int rc = ask_to_end(&h, err);
    pthread_mutex_lock(&w->lock);
    if (rc < 0)
        return -1;
    if (workload_wait_exited(w, x, timeout_ms))
        return 0;
    pthread_mutex_unlock(&w->lock);
    rc = kill_everything(&h, err);
    pthread_mutex_lock(&w->lock);
    if (rc < 0)
        return -1;
    if (!workload_wait_exited(w, x, GONE_MS))
        return error_set(err, ERROR_TIMEOUT,
                         "its tasks are killed, but its shim (pid %d) has not left after %d s",
                         x->shim_pid, GONE_MS / 1000);
    return 0;
}

int workloads_stop(struct workloads *w, const char *name, uint64_t timeout_ms, struct error *err)
{
    pthread_mutex_lock(&w->lock);
    struct workload *x = workload_take(w, name, 0, err);
    int rc = x ? 0 : -1;
    if (x) {
        if (*x->migration)
            rc = error_set(err, ERROR_CONFLICT,
                           "workload '%s' is held by migration %s; cancel that first, or wait for "
                           "its end",
                           name, x->migration);
        else if (x->state != WORKLOAD_EXITED)
            rc = stop_taken(w, x, timeout_ms, err) < 0
                     ? error_wrap(err, "workload '%s' is not stopped", name)
                     : 0;
        workload_release(w, x);
    }
    pthread_mutex_unlock(&w->lock);
    return rc;
}

static int destroy_taken(struct workloads *w, struct workload *x, struct error *err)
{
    if (x->state == WORKLOAD_EXITED)
        return 0;
    __attribute__((cleanup(handle_done))) struct handle h;
    bool watched = x->shim_fd >= 0; /* else its start was cut short; a shim leaves with its tasks */
    handle_of(x, &h);
    pthread_mutex_unlock(&w->lock);
    int rc = kill_everything(&h, err);
    pthread_mutex_lock(&w->lock);
    if (rc == 0 && watched && !workload_wait_exited(w, x, GONE_MS))
        rc = error_set(err, ERROR_TIMEOUT,
                       "its tasks are killed, but its shim (pid %d) has not left after %d s",
                       h.shim, GONE_MS / 1000);
    return rc;
}

int workloads_destroy(struct workloads *w, const char *name, bool remove_dir, struct error *err)
{
    struct error why = {0};
    if (name_check("workload", name, err) < 0)
        return -1;
    pthread_mutex_lock(&w->lock);
    struct workload *x = workload_take(w, name, TAKE_MS, &why);
    if (!x) {
        pthread_mutex_unlock(&w->lock);
        return why.kind == ERROR_NOT_FOUND ? 0 : error_set(err, why.kind, "%s", why.message);
    }
    int rc = destroy_taken(w, x, err);
    pthread_mutex_unlock(&w->lock);
    /* Taken, and no longer watched: nobody else touches it. */
    if (rc == 0)
        rc = cgroup_remove(x->cgroup_dir, KILL_MS, err);
    if (rc == 0 && remove_dir)
        rc = file_remove_tree(x->dir, err);
    if (rc == 0)
        rc = file_remove_tree(x->run_dir, err);
    pthread_mutex_lock(&w->lock);
    if (rc == 0)
        workload_forget(w, x);
    else
        workload_release(w, x);
    pthread_mutex_unlock(&w->lock);
    if (rc < 0)
        return error_wrap(err, "workload '%s' is not removed", name);
    log_info("workload removed", LOG_STR("workload", name));
    workload_tell(w, name);
    return 0;
}

/* The workload in whose tree the process is; lock held. NULL: none. */
static struct workload *owner_of(struct workloads *w, pid_t pid)
{
    struct workload *found = NULL;
    for (struct workload *x = w->list; x && !found; x = x->next) {
        struct process_list list = {0};
        autofree char *tasks = workload_tasks_dir(x);
        if (x->state != WORKLOAD_EXITED &&
            workload_list_pids(tasks, x->root_pid, x->shim_pid, &list, NULL) == 0 &&
            process_list_has(list.pids, pid))
            found = x;
        free(list.pids);
    }
    return found;
}

int workloads_debug(struct workloads *w, pid_t pid, unsigned uid, char **ret_name,
                    struct error *err)
{
    autofree char *name = NULL, *run_dir = NULL;
    int rc = 0;
    pthread_mutex_lock(&w->lock);
    const struct workload *x = owner_of(w, pid);
    if (!x)
        rc = error_set(err, ERROR_NOT_FOUND, "process %d belongs to no workload here", pid);
    else if (uid != 0 && uid != x->uid)
        rc = error_set(err, ERROR_FORBIDDEN, "workload '%s' belongs to uid %u, not to you (uid %u)",
                       x->name, x->uid, uid);
    else if (*x->migration)
        rc = error_set(err, ERROR_CONFLICT, "workload '%s' is held by migration %s", x->name,
                       x->migration);
    if (rc == 0 && x) {
        name = xstrdup(x->name);
        if (birth_mask_is_traced(&x->mask))
            run_dir = xstrdup(x->run_dir);
    }
    pthread_mutex_unlock(&w->lock);
    if (rc == 0 && run_dir)
        rc = shim_yield(run_dir, err);
    if (rc == 0)
        *ret_name = steal_ptr(&name);
    return rc;
}

int workloads_let_go(struct workloads *w, const char *name, struct error *err)
{
    pthread_mutex_lock(&w->lock);
    struct workload *x = workload_take(w, name, TAKE_MS, err);
    if (!x) {
        pthread_mutex_unlock(&w->lock);
        return -1;
    }
    __attribute__((cleanup(handle_done))) struct handle h;
    handle_of(x, &h);
    pthread_mutex_unlock(&w->lock);
    int rc = h.is_traced ? shim_detach(h.run_dir, err) : 0;
    pthread_mutex_lock(&w->lock);
    workload_release(w, x);
    pthread_mutex_unlock(&w->lock);
    return rc < 0 ? error_wrap(err, "the tracer of workload '%s' does not let go of it", name) : 0;
}

int workloads_continue(struct workloads *w, const char *name, const pid_t *keep_stopped,
                       struct error *err)
{
    pthread_mutex_lock(&w->lock);
    struct workload *x = workload_take(w, name, TAKE_MS, err);
    if (!x) {
        pthread_mutex_unlock(&w->lock);
        return -1;
    }
    __attribute__((cleanup(handle_done))) struct handle h;
    handle_of(x, &h);
    bool exited = x->state == WORKLOAD_EXITED;
    pthread_mutex_unlock(&w->lock);

    struct process_list list = {0};
    int rc = exited ? error_set(err, ERROR_CONFLICT, "it has exited")
                    : workload_list_pids(h.tasks, h.root, h.shim, &list, err);
    if (rc == 0 && h.is_traced && shim_attach(h.run_dir, err) < 0)
        rc = error_wrap(err, "it cannot be held to its mask again");
    if (rc == 0 && h.is_traced)
        rc = cgroup_thaw(h.tasks, err); /* what a dump that was cut short has frozen */
    if (rc == 0)
        rc = process_continue(list.pids, keep_stopped, workload_tracer(list.pids, h.shim),
                              CONTINUE_MS, err);
    free(list.pids);

    pthread_mutex_lock(&w->lock);
    if (rc == 0 && x->state != WORKLOAD_EXITED) {
        x->state = WORKLOAD_RUNNING;
        *x->migration = '\0';
        rc = workload_record_save(w, x, err);
    }
    workload_release(w, x);
    pthread_mutex_unlock(&w->lock);
    if (rc < 0)
        return error_wrap(err, "workload '%s' does not go on", name);
    workload_tell(w, name);
    return 0;
}
