/* SPDX-License-Identifier: Apache-2.0 */
/* timerfds.h - sets going the timers that CRIU restores stopped.
 *
 * CRIU (4.1.1) writes down what /proc/PID/fdinfo says of a timerfd: the time left and the expiries
 * that wait to be read (Linux fs/timerfd.c). Two kinds of timer come back standing still, and a
 * program that waits for one waits for ever:
 *
 * - A periodic one that has expired. The kernel does not run it on before it was read; it is read
 *   as "no time left", restored as disarmed, and the read then has nothing to start. The target
 *   can see it: expiries wait, and there is a period.
 * - One that was due, but whose interrupt had not come yet (some 10 us; longer where a virtual CPU
 *   does not get to run). It has no time left and no expiry, just like one that the program
 *   disarmed. Only the source can tell them apart, by looking again a moment later. */
#pragma once

#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/types.h>

#include "error.h"
#include "json.h"

/* From linux/timerfd.h, which cannot be included beside the C library's own. */
#ifndef TFD_IOC_SET_TICKS
#define TFD_IOC_SET_TICKS _IOW('T', 0, uint64_t)
#endif

#define TIMERFDS_MAX 65536 /* expired at one time in one workload */

/* A timer, known by one of its descriptors. Lists of them end with pid 0. */
struct timerfd_place {
    pid_t pid;
    int fd;
};

/* At the source, of tasks that the dump has stopped (`pids`, 0-terminated): the timers that have
 * expired by now. *ret is owned by the caller. Errors: ERROR_FAILED naming the task,
 * ERROR_TOO_LARGE with more than TIMERFDS_MAX. */
int timerfds_expired(const pid_t *pids, struct timerfd_place **ret, struct error *err);

/* At the target, of restored tasks that are still stopped: each timer that stands still though its
 * period should run gets the period; one that stands in `expired` (what the source saw; NULL: none)
 * and has lost its expiry gets it back. A shared timer is mended once. Errors: ERROR_FAILED naming
 * the task and the descriptor. */
int timerfds_restart(const pid_t *pids, const struct timerfd_place *expired, struct error *err);

struct timerfd_place *timerfds_copy(const struct timerfd_place *list); /* NULL gives an empty one */
/* [{"pid":N,"fd":N}, ...]; NULL gives []. */
json_object *timerfds_to_json(const struct timerfd_place *list);
/* Decodes the member `name` of `object`, where a missing one is an empty list; the caller owns
 * *ret. Errors: ERROR_INVALID naming the member. */
int timerfds_from_json(const char *what, json_object *object, const char *name,
                       struct timerfd_place **ret, struct error *err);
