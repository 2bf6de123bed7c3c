/* SPDX-License-Identifier: Apache-2.0 */
/* restored_timers.h - sets going the timers that CRIU restores stopped.
 *
 * The kernel does not run a periodic timerfd on while an expiry waits to be read: the next read
 * starts it again. CRIU (4.1.1) reads such a timer as "no time left", restores it as disarmed,
 * and the read then has nothing to start: the timer never fires again, and a program that waits
 * for it stands still. Seen with any timer that expired between the freeze and the dump. */
#pragma once

#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/types.h>

#include "error.h"

/* From linux/timerfd.h, which cannot be included beside the C library's own. */
#ifndef TFD_IOC_SET_TICKS
#define TFD_IOC_SET_TICKS _IOW('T', 0, uint64_t)
#endif

/* For restored tasks that are still stopped (`pids`, 0-terminated): each periodic timerfd that
 * has expired and is disarmed gets its period to run, and keeps the expiries that wait to be read.
 * A shared timer is mended once. Errors: ERROR_FAILED naming the task and the descriptor. */
int restored_timers_start(const pid_t *pids, struct error *err);
