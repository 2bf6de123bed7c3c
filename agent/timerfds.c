/* SPDX-License-Identifier: Apache-2.0 */
/* timerfds.c - reads timers in /proc/PID/fdinfo and arms them from outside. */
#include "timerfds.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "cleanup.h"
#include "file.h"
#include "log.h"

#define FDINFO_MAX_BYTES 65536
#define TIMERFD_LINK     "anon_inode:[timerfd]"

struct timer_state {
    uint64_t ticks; /* expiries that wait to be read */
    struct itimerspec spec;
};

static bool is_zero(struct timespec time)
{
    return time.tv_sec == 0 && time.tv_nsec == 0;
}

/* ---- reading */

static bool parse(const char *text, struct timer_state *ret)
{
    const char *ticks = strstr(text, "\nticks: "), *value = strstr(text, "\nit_value: ("),
               *interval = strstr(text, "\nit_interval: (");
    uintmax_t value_s, value_ns, interval_s, interval_ns;
    if (!ticks || !value || !interval ||
        sscanf(value, "\nit_value: (%ju, %ju)", &value_s, &value_ns) != 2 ||
        sscanf(interval, "\nit_interval: (%ju, %ju)", &interval_s, &interval_ns) != 2 ||
        sscanf(ticks, "\nticks: %" SCNu64, &ret->ticks) != 1)
        return false;
    ret->spec.it_value = (struct timespec){(time_t)value_s, (long)value_ns};
    ret->spec.it_interval = (struct timespec){(time_t)interval_s, (long)interval_ns};
    return true;
}

/* Calls `each` for every timer of the task, until one call fails. */
typedef int (*timer_fn)(void *ctx, struct timerfd_place place, const struct timer_state *state,
                        struct error *err);

static int visit_one(int fds, struct timerfd_place place, timer_fn each, void *ctx,
                     struct error *err)
{
    char name[16], target[sizeof(TIMERFD_LINK)];
    snprintf(name, sizeof(name), "%d", place.fd);
    ssize_t length = readlinkat(fds, name, target, sizeof(target));
    if (length != sizeof(TIMERFD_LINK) - 1 || memcmp(target, TIMERFD_LINK, (size_t)length) != 0)
        return 0;
    autofree char *path = xasprintf("/proc/%d/fdinfo/%d", place.pid, place.fd);
    autofree char *text = NULL;
    struct timer_state state;
    if (file_read(path, FDINFO_MAX_BYTES, &text, NULL, err) < 0)
        return -1;
    if (!parse(text, &state))
        return error_set(err, ERROR_FAILED, "timer %d of process %d: '%s' is not understood",
                         place.fd, place.pid, path);
    return each(ctx, place, &state, err);
}

static int visit(pid_t pid, timer_fn each, void *ctx, struct error *err)
{
    autofree char *path = xasprintf("/proc/%d/fd", pid);
    DIR *dir = opendir(path);
    if (!dir)
        return error_errno(err, ERROR_FAILED, "cannot read '%s'", path);
    int rc = 0;
    for (struct dirent *entry = readdir(dir); entry && rc == 0; entry = readdir(dir)) {
        struct timerfd_place place = {.pid = pid};
        if (sscanf(entry->d_name, "%d", &place.fd) == 1)
            rc = visit_one(dirfd(dir), place, each, ctx, err);
    }
    closedir(dir);
    return rc;
}

/* ---- at the source */

struct expired {
    struct timerfd_place *list;
    size_t count;
};

static int add_if_expired(void *ctx, struct timerfd_place place, const struct timer_state *state,
                          struct error *err)
{
    struct expired *expired = ctx;
    if (state->ticks == 0)
        return 0;
    if (expired->count == TIMERFDS_MAX)
        return error_set(err, ERROR_TOO_LARGE, "more than %d of its timers have expired",
                         TIMERFDS_MAX);
    expired->list = xrealloc(expired->list, (expired->count + 2) * sizeof(*expired->list));
    expired->list[expired->count++] = place;
    expired->list[expired->count] = (struct timerfd_place){0};
    return 0;
}

int timerfds_expired(const pid_t *pids, struct timerfd_place **ret, struct error *err)
{
    struct expired expired = {.list = timerfds_copy(NULL)};
    for (; *pids; pids++)
        if (visit(*pids, add_if_expired, &expired, err) < 0) {
            free(expired.list);
            return error_wrap(err, "looking at its timers");
        }
    *ret = expired.list;
    return 0;
}

/* ---- at the target */

/* In two steps, since setting the time takes away what waits to be read. */
static int arm(struct timerfd_place place, const struct timer_state *state, uint64_t ticks,
               struct error *err)
{
    autoclose int process = pidfd_open(place.pid, 0);
    if (process < 0)
        return error_errno(err, ERROR_FAILED, "cannot open process %d", place.pid);
    /* a copy of the descriptor: the same timer; close-on-exec from birth */
    autoclose int timer = pidfd_getfd(process, place.fd, 0);
    if (timer < 0)
        return error_errno(err, ERROR_FAILED, "cannot reach timer %d of process %d", place.fd,
                           place.pid);
    struct itimerspec spec = {state->spec.it_interval, state->spec.it_interval};
    if (timerfd_settime(timer, 0, &spec, NULL) < 0)
        return error_errno(err, ERROR_FAILED, "cannot start timer %d of process %d", place.fd,
                           place.pid);
    if (ioctl(timer, TFD_IOC_SET_TICKS, &ticks) < 0)
        return error_errno(err, ERROR_FAILED, "cannot set the expiries of timer %d of process %d",
                           place.fd, place.pid);
    log_debug("a timer was started again", LOG_INT("pid", place.pid), LOG_INT("fd", place.fd));
    return 0;
}

static bool stands_in(const struct timerfd_place *list, struct timerfd_place place)
{
    for (; list && list->pid; list++)
        if (list->pid == place.pid && list->fd == place.fd)
            return true;
    return false;
}

static int restart(void *ctx, struct timerfd_place place, const struct timer_state *state,
                   struct error *err)
{
    const struct timerfd_place *expired = ctx;
    if (!is_zero(state->spec.it_value))
        return 0; /* it runs */
    if (state->ticks > 0)
        return is_zero(state->spec.it_interval) ? 0 : arm(place, state, state->ticks, err);
    return stands_in(expired, place) ? arm(place, state, 1, err) : 0;
}

int timerfds_restart(const pid_t *pids, const struct timerfd_place *expired, struct error *err)
{
    for (; *pids; pids++)
        if (visit(*pids, restart, (void *)(uintptr_t)expired, err) < 0)
            return error_wrap(err, "starting its timers again");
    return 0;
}

/* ---- lists */

struct timerfd_place *timerfds_copy(const struct timerfd_place *list)
{
    size_t count = 0;
    while (list && list[count].pid)
        count++;
    struct timerfd_place *copy = xcalloc(count + 1, sizeof(*copy));
    if (count)
        memcpy(copy, list, count * sizeof(*copy));
    return copy;
}

json_object *timerfds_to_json(const struct timerfd_place *list)
{
    json_object *array = json_object_new_array();
    for (; list && list->pid; list++) {
        json_object *place = json_object_new_object();
        json_put_int(place, "pid", list->pid);
        json_put_int(place, "fd", list->fd);
        json_object_array_add(array, place);
    }
    return array;
}

int timerfds_from_json(const char *what, json_object *object, const char *name,
                       struct timerfd_place **ret, struct error *err)
{
    json_object *array = NULL;
    if (json_member(object, name) &&
        json_get_array(what, object, name, TIMERFDS_MAX, &array, err) < 0)
        return -1;
    size_t count = array ? json_array_size(array) : 0;
    autofree char *where = xasprintf("%s: %s", what, name);
    autofree struct timerfd_place *list = xcalloc(count + 1, sizeof(*list));
    for (size_t i = 0; i < count; i++) {
        json_object *item = json_array_item(array, i);
        int64_t pid = 0, fd = 0;
        if (json_check_object(where, item, err) < 0 ||
            json_get_i64(where, item, "pid", &pid, err) < 0 ||
            json_get_i64(where, item, "fd", &fd, err) < 0)
            return -1;
        if (pid < 1 || pid > INT_MAX || fd < 0 || fd > INT_MAX)
            return error_set(err, ERROR_INVALID, "%s[%zu]: expected a pid and a descriptor", where,
                             i);
        list[i] = (struct timerfd_place){(pid_t)pid, (int)fd};
    }
    *ret = steal_ptr(&list);
    return 0;
}
