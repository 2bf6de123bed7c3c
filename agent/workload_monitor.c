/* SPDX-License-Identifier: Apache-2.0 */
/* workload_monitor.c - one thread that listens to all shims: when a root exits, when a tree is
 * gone, and when a shim died before its workload. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cgroup.h"
#include "cleanup.h"
#include "log.h"
#include "shim.h"
#include "workload_private.h"

#define REAP_MS          2000
#define CGROUP_REMOVE_MS 2000

static void wake(struct workloads *w)
{
    uint64_t one = 1;
    ssize_t n = write(w->wake_fd, &one, sizeof(one));
    (void)n; /* a full counter wakes as well */
}

int workload_watch(struct workloads *w, struct workload *x, struct error *err)
{
    int fd = -1;
    if (shim_connect(x->run_dir, &fd, err) < 0)
        return -1;
    if (x->shim_fd >= 0)
        close(x->shim_fd);
    x->shim_fd = fd;
    wake(w);
    return 0;
}

/* The shim has closed its socket and ends; as our child it has to be reaped. */
static void reap_shim(pid_t shim)
{
    int64_t deadline = process_now_ms() + REAP_MS;
    while (waitpid(shim, NULL, WNOHANG) == 0) {
        if (process_now_ms() >= deadline) {
            log_warn("a shim has closed its socket and lives on", LOG_INT("pid", shim));
            return;
        }
        process_sleep_ms(2);
    }
}

/* Puts the end in order: nothing of the tree is left, its shim has gone. The lock is not held;
 * x is marked as ending, or not listed yet. */
static void tidy_up(const struct workload *x)
{
    struct error err = {0};
    if (cgroup_remove(x->cgroup_dir, CGROUP_REMOVE_MS, &err) < 0)
        log_warn("cannot remove the cgroup of an ended workload", LOG_STR("workload", x->name),
                 LOG_STR("error", err.message));
}

static void set_exited(struct workloads *w, struct workload *x)
{
    struct error err = {0};
    shim_read_exit(x->run_dir, &x->exit_status, NULL);
    x->state = WORKLOAD_EXITED;
    x->root_pid = x->shim_pid = 0;
    if (workload_record_save(w, x, &err) < 0)
        log_error("cannot record that a workload has exited", LOG_STR("error", err.message));
    log_info("workload exited", LOG_STR("workload", x->name), LOG_INT("status", x->exit_status));
}

/* The connection to x's shim has ended. Lock held; let go of meanwhile. */
static void shim_is_gone(struct workloads *w, struct workload *x)
{
    close(x->shim_fd);
    x->shim_fd = -1;
    x->ending = true;
    pthread_mutex_unlock(&w->lock);

    struct error err = {0};
    if (x->shim_is_child)
        reap_shim(x->shim_pid);
    bool ended_well = shim_read_exit(x->run_dir, &(int){0}, NULL) == 0;
    bool root_lives = !ended_well && process_is_alive(x->root_pid, x->root_ticks);
    bool watched = false;
    if (root_lives) {
        log_warn("the shim died before its workload; a new one watches it",
                 LOG_STR("workload", x->name));
        watched = workload_start_watcher(w, x, &err) == 0;
        if (!watched)
            log_error("cannot watch the workload", LOG_STR("error", err.message));
    }
    if (!root_lives)
        tidy_up(x);

    pthread_mutex_lock(&w->lock);
    if (watched && workload_watch(w, x, &err) == 0)
        workload_record_save(w, x, NULL);
    else if (!root_lives)
        set_exited(w, x);
    x->ending = false;
    pthread_cond_broadcast(&w->moved);
}

/* "exit STATUS": the root has ended; others of its tree may live. Lock held. */
static void root_exited(struct workloads *w, struct workload *x)
{
    if (x->root_pid == 0)
        return;
    x->root_pid = 0;
    shim_read_exit(x->run_dir, &x->exit_status, NULL);
    workload_record_save(w, x, NULL);
}

static struct workload *find_fd(struct workloads *w, int fd)
{
    for (struct workload *x = w->list; x; x = x->next)
        if (x->shim_fd == fd && !x->ending)
            return x;
    return NULL;
}

/* News on one connection. The text need not be looked at: the shim speaks unasked only when the
 * root has exited, and this connection asks nothing. */
static void hear(struct workloads *w, int fd)
{
    char name[64] = "";
    char text[SHIM_LINE_MAX];
    pthread_mutex_lock(&w->lock);
    struct workload *x = find_fd(w, fd);
    if (x) {
        ssize_t n = recv(fd, text, sizeof(text), MSG_DONTWAIT);
        bool over = n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
        if (n > 0)
            root_exited(w, x);
        if (over)
            shim_is_gone(w, x);
        if (over || n > 0)
            snprintf(name, sizeof(name), "%s", x->name);
    }
    pthread_mutex_unlock(&w->lock);
    if (*name)
        workload_tell(w, name);
}

/* The descriptors to listen to; [0] is the wake-up. The caller owns *ret. */
static size_t collect(struct workloads *w, struct pollfd **ret, bool *ret_stopping)
{
    size_t count = 1;
    pthread_mutex_lock(&w->lock);
    for (struct workload *x = w->list; x; x = x->next)
        count += x->shim_fd >= 0;
    struct pollfd *fds = xcalloc(count, sizeof(*fds));
    fds[0] = (struct pollfd){.fd = w->wake_fd, .events = POLLIN};
    size_t i = 1;
    for (struct workload *x = w->list; x; x = x->next)
        if (x->shim_fd >= 0)
            fds[i++] = (struct pollfd){.fd = x->shim_fd, .events = POLLIN};
    *ret_stopping = w->stopping;
    pthread_mutex_unlock(&w->lock);
    *ret = fds;
    return count;
}

static void *monitor(void *ctx)
{
    struct workloads *w = ctx;
    for (;;) {
        autofree struct pollfd *fds = NULL;
        bool stopping = false;
        size_t count = collect(w, &fds, &stopping);
        if (stopping)
            return NULL;
        if (poll(fds, count, -1) < 0)
            continue;
        if (fds[0].revents) {
            uint64_t ticks;
            ssize_t n = read(w->wake_fd, &ticks, sizeof(ticks));
            (void)n;
        }
        for (size_t i = 1; i < count; i++)
            if (fds[i].revents)
                hear(w, fds[i].fd);
    }
}

int workload_monitor_start(struct workloads *w, struct error *err)
{
    if (w->wake_fd < 0)
        w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->wake_fd < 0)
        return error_errno(err, ERROR_FAILED, "cannot make an eventfd");
    int rc = pthread_create(&w->monitor, NULL, monitor, w);
    if (rc != 0) {
        errno = rc;
        return error_errno(err, ERROR_FAILED, "cannot start the workload monitor");
    }
    return 0;
}

void workload_monitor_stop(struct workloads *w)
{
    pthread_mutex_lock(&w->lock);
    w->stopping = true;
    pthread_mutex_unlock(&w->lock);
    wake(w);
    pthread_join(w->monitor, NULL);
}

void workload_resume(struct workloads *w, struct workload *x)
{
    struct error err = {0};
    struct shim_status status;
    if (x->state == WORKLOAD_EXITED)
        return;
    if (shim_ask_status(x->run_dir, &status, &err) == 0 && workload_watch(w, x, &err) == 0) {
        if (status.state == SHIM_RUNNING && x->root_pid != status.root) {
            struct process_stat stat; /* the earlier agent died while it was started */
            x->root_pid = status.root;
            if (process_stat_read(x->root_pid, &stat, NULL) == 0) {
                x->root_ticks = stat.start_ticks;
                if (!x->adopted)
                    x->shim_pid = stat.ppid;
            }
        }
        if (status.state == SHIM_ROOT_EXITED) {
            x->root_pid = 0;
            x->exit_status = status.exit_status;
        }
        if (x->state == WORKLOAD_STARTING && x->root_pid)
            x->state = *x->migration ? WORKLOAD_STOPPED : WORKLOAD_RUNNING;
        workload_record_save(w, x, NULL);
        log_info("watching a workload again", LOG_STR("workload", x->name),
                 LOG_INT("pid", x->root_pid));
        return;
    }
    if (process_is_alive(x->root_pid, x->root_ticks)) {
        log_warn("a workload lives without its shim; a new one watches it",
                 LOG_STR("workload", x->name));
        if (workload_start_watcher(w, x, &err) == 0 && workload_watch(w, x, &err) == 0) {
            workload_record_save(w, x, NULL);
            return;
        }
        log_error("cannot watch the workload", LOG_STR("workload", x->name),
                  LOG_STR("error", err.message));
        return; /* it stays as it is known: it does run */
    }
    tidy_up(x);
    set_exited(w, x);
}
