/* SPDX-License-Identifier: Apache-2.0 */
/* restored_timers.c - finds stopped timers in /proc/PID/fdinfo and arms them from outside. */
#include "restored_timers.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "cleanup.h"
#include "file.h"
#include "log.h"

#define FDINFO_MAX_BYTES 65536

struct timer_state {
    uint64_t ticks; /* expiries that wait to be read */
    struct itimerspec spec;
};

/* Whether this fdinfo is a timerfd's, and what it says. */
static bool parse_timer(const char *text, struct timer_state *ret)
{
    const char *ticks = strstr(text, "\nticks: "), *value = strstr(text, "\nit_value: ("),
               *interval = strstr(text, "\nit_interval: (");
    uintmax_t value_s, value_ns, interval_s, interval_ns;
    if (!strstr(text, "clockid: ") || !ticks || !value || !interval ||
        sscanf(value, "\nit_value: (%ju, %ju)", &value_s, &value_ns) != 2 ||
        sscanf(interval, "\nit_interval: (%ju, %ju)", &interval_s, &interval_ns) != 2 ||
        sscanf(ticks, "\nticks: %" SCNu64, &ret->ticks) != 1)
        return false;
    ret->spec.it_value = (struct timespec){(time_t)value_s, (long)value_ns};
    ret->spec.it_interval = (struct timespec){(time_t)interval_s, (long)interval_ns};
    return true;
}

static bool is_zero(struct timespec time)
{
    return time.tv_sec == 0 && time.tv_nsec == 0;
}

static int arm(pid_t pid, int fd, const struct timer_state *state, struct error *err)
{
    autoclose int process = pidfd_open(pid, 0);
    if (process < 0)
        return error_errno(err, ERROR_FAILED, "cannot open process %d", pid);
    /* a copy of the descriptor: the same timer; close-on-exec from birth */
    autoclose int timer = pidfd_getfd(process, fd, 0);
    if (timer < 0)
        return error_errno(err, ERROR_FAILED, "cannot reach timer %d of process %d", fd, pid);
    struct itimerspec spec = {state->spec.it_interval, state->spec.it_interval};
    if (timerfd_settime(timer, 0, &spec, NULL) < 0)
        return error_errno(err, ERROR_FAILED, "cannot start timer %d of process %d", fd, pid);
    if (ioctl(timer, TFD_IOC_SET_TICKS, &state->ticks) < 0)
        return error_errno(err, ERROR_FAILED, "cannot set the expiries of timer %d of process %d",
                           fd, pid);
    log_debug("a timer was started again", LOG_INT("pid", pid), LOG_INT("fd", fd));
    return 0;
}

static int start_timer(pid_t pid, const char *fd_name, struct error *err)
{
    autofree char *path = xasprintf("/proc/%d/fdinfo/%s", pid, fd_name);
    autofree char *text = NULL;
    struct timer_state state;
    int fd = -1;
    if (sscanf(fd_name, "%d", &fd) != 1 ||
        file_read(path, FDINFO_MAX_BYTES, &text, NULL, NULL) < 0 || !parse_timer(text, &state))
        return 0;
    /* a timer that the program disarmed itself has no expiry that waits */
    if (state.ticks == 0 || !is_zero(state.spec.it_value) || is_zero(state.spec.it_interval))
        return 0;
    return arm(pid, fd, &state, err);
}

static int start_timers_of(pid_t pid, struct error *err)
{
    autofree char *path = xasprintf("/proc/%d/fdinfo", pid);
    DIR *dir = opendir(path);
    if (!dir)
        return error_errno(err, ERROR_FAILED, "cannot read '%s'", path);
    int rc = 0;
    for (struct dirent *entry = readdir(dir); entry && rc == 0; entry = readdir(dir))
        if (entry->d_name[0] != '.')
            rc = start_timer(pid, entry->d_name, err);
    closedir(dir);
    return rc;
}

int restored_timers_start(const pid_t *pids, struct error *err)
{
    for (; *pids; pids++)
        if (start_timers_of(*pids, err) < 0)
            return error_wrap(err, "starting its timers again");
    return 0;
}
