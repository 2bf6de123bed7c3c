/* SPDX-License-Identifier: Apache-2.0 */
/* http_wait.h - requests and streams that wait for a key or a deadline; http.c's own.
 *
 * No wake is lost: a waiter takes a snapshot before it looks at the state it waits for, and
 * waiters_add says "look again" when its key was woken since. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct waiters; /* has a lock and a timer thread of its own */

struct waiter {
    /* Runs under the lock when the waiter is woken, times out or the list stops. NULL: a thread
     * sits in waiters_block. */
    void (*resume)(struct waiter *waiter);
    void *owner;
    bool timed_out; /* how the last wait ended; also set when the list stopped */
    /* The list's own: */
    bool listed;
    unsigned bucket;
    char *key; /* owned while listed */
    int64_t deadline_ms;
    struct waiter *previous, *next;
};

enum waiters_result { WAITERS_LISTED, WAITERS_AGAIN, WAITERS_STOPPED };

struct waiters *waiters_new(void);
/* No waiter may be listed any more. */
void waiters_free(struct waiters *waiters);

/* Milliseconds of the clock that deadlines are in. */
int64_t waiters_now_ms(void);
/* To be taken before looking. */
uint64_t waiters_snapshot(struct waiters *waiters);
/* Lists the waiter, unless `key` was woken since `snapshot` or the list has stopped. `suspend`
 * (may be NULL) runs under the lock just before, so that a resume cannot overtake it. */
enum waiters_result waiters_add(struct waiters *waiters, struct waiter *waiter, const char *key,
                                uint64_t snapshot, int64_t deadline_ms,
                                void (*suspend)(struct waiter *waiter));
/* Blocks until the waiter, added with a NULL resume, is no longer listed. */
void waiters_block(struct waiters *waiters, struct waiter *waiter);
/* Forgets a waiter whose connection is gone; harmless when it is not listed. */
void waiters_remove(struct waiters *waiters, struct waiter *waiter);
void waiters_wake(struct waiters *waiters, const char *key);
/* Wakes everybody; from now on nobody can wait. */
void waiters_stop(struct waiters *waiters);
bool waiters_stopped(struct waiters *waiters);
