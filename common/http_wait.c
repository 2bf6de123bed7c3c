/* SPDX-License-Identifier: Apache-2.0 */
/* http_wait.c - the waiting list: a hash of keys, and one thread for the deadlines. */
#include "http_wait.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cleanup.h"
#include "error.h"

#define BUCKETS 256

struct waiters {
    atomic_uint_fast64_t sequence; /* counts wakes; read without the lock by snapshots */
    pthread_mutex_t lock;
    /* Guarded by the lock: */
    struct {
        struct waiter *first;
        uint64_t last_wake; /* sequence of the last wake of any key in this bucket */
    } buckets[BUCKETS];
    int64_t alarm_ms; /* when the timer thread will look next */
    bool stopped;
    bool timer_ends;
    pthread_cond_t timer;   /* alarm_ms became earlier, or timer_ends */
    pthread_cond_t blocked; /* a waiter without resume was taken off */
    pthread_t timer_thread;
};

int64_t waiters_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static unsigned bucket_of(const char *key)
{
    uint32_t hash = 2166136261U; /* FNV-1a */
    for (; *key; key++)
        hash = (hash ^ (unsigned char)*key) * 16777619U;
    return (hash ^ hash >> 16) % BUCKETS;
}

static void take_off(struct waiters *w, struct waiter *waiter)
{
    if (waiter->previous)
        waiter->previous->next = waiter->next;
    else
        w->buckets[waiter->bucket].first = waiter->next;
    if (waiter->next)
        waiter->next->previous = waiter->previous;
    waiter->previous = waiter->next = NULL;
    waiter->listed = false;
    free(steal_ptr(&waiter->key));
}

static void release(struct waiters *w, struct waiter *waiter, bool timed_out)
{
    take_off(w, waiter);
    waiter->timed_out = timed_out;
    if (waiter->resume)
        waiter->resume(waiter);
    else
        pthread_cond_broadcast(&w->blocked);
}

/* Releases who is late and sets the next alarm. */
static void ring(struct waiters *w)
{
    int64_t now_ms = waiters_now_ms();
    w->alarm_ms = INT64_MAX;
    for (unsigned i = 0; i < BUCKETS; i++) {
        struct waiter *next;
        for (struct waiter *waiter = w->buckets[i].first; waiter; waiter = next) {
            next = waiter->next;
            if (waiter->deadline_ms <= now_ms)
                release(w, waiter, true);
            else if (waiter->deadline_ms < w->alarm_ms)
                w->alarm_ms = waiter->deadline_ms;
        }
    }
}

static void *timer_main(void *arg)
{
    struct waiters *w = arg;
    pthread_mutex_lock(&w->lock);
    while (!w->timer_ends) {
        if (w->alarm_ms <= waiters_now_ms())
            ring(w);
        if (w->alarm_ms == INT64_MAX) {
            pthread_cond_wait(&w->timer, &w->lock);
        } else {
            struct timespec until = {.tv_sec = w->alarm_ms / 1000,
                                     .tv_nsec = w->alarm_ms % 1000 * 1000000};
            pthread_cond_timedwait(&w->timer, &w->lock, &until);
        }
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

struct waiters *waiters_new(void)
{
    struct waiters *w = xcalloc(1, sizeof(*w));
    atomic_init(&w->sequence, 1);
    w->alarm_ms = INT64_MAX;
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->timer, &attr);
    pthread_cond_init(&w->blocked, NULL);
    pthread_condattr_destroy(&attr);
    /* Signals are the business of the program's own threads. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&w->timer_thread, NULL, timer_main, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        abort();
    return w;
}

void waiters_free(struct waiters *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->timer_ends = true;
    pthread_cond_signal(&w->timer);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->timer_thread, NULL);
    pthread_cond_destroy(&w->timer);
    pthread_cond_destroy(&w->blocked);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

uint64_t waiters_snapshot(struct waiters *w)
{
    return atomic_load(&w->sequence);
}

enum waiters_result waiters_add(struct waiters *w, struct waiter *waiter, const char *key,
                                uint64_t snapshot, int64_t deadline_ms,
                                void (*suspend)(struct waiter *waiter))
{
    enum waiters_result result = WAITERS_LISTED;
    unsigned bucket = bucket_of(key);
    pthread_mutex_lock(&w->lock);
    if (w->stopped) {
        result = WAITERS_STOPPED;
    } else if (w->buckets[bucket].last_wake > snapshot) {
        result = WAITERS_AGAIN;
    } else {
        waiter->bucket = bucket;
        waiter->key = xstrdup(key);
        waiter->deadline_ms = deadline_ms;
        waiter->timed_out = false;
        waiter->listed = true;
        waiter->previous = NULL;
        waiter->next = w->buckets[bucket].first;
        if (waiter->next)
            waiter->next->previous = waiter;
        w->buckets[bucket].first = waiter;
        if (suspend)
            suspend(waiter);
        if (deadline_ms < w->alarm_ms) {
            w->alarm_ms = deadline_ms;
            pthread_cond_signal(&w->timer);
        }
    }
    pthread_mutex_unlock(&w->lock);
    return result;
}

void waiters_block(struct waiters *w, struct waiter *waiter)
{
    pthread_mutex_lock(&w->lock);
    while (waiter->listed)
        pthread_cond_wait(&w->blocked, &w->lock);
    pthread_mutex_unlock(&w->lock);
}

void waiters_remove(struct waiters *w, struct waiter *waiter)
{
    pthread_mutex_lock(&w->lock);
    if (waiter->listed)
        take_off(w, waiter);
    pthread_mutex_unlock(&w->lock);
}

void waiters_wake(struct waiters *w, const char *key)
{
    unsigned bucket = bucket_of(key);
    pthread_mutex_lock(&w->lock);
    w->buckets[bucket].last_wake = atomic_fetch_add(&w->sequence, 1) + 1;
    struct waiter *next;
    for (struct waiter *waiter = w->buckets[bucket].first; waiter; waiter = next) {
        next = waiter->next;
        if (strcmp(waiter->key, key) == 0)
            release(w, waiter, false);
    }
    pthread_mutex_unlock(&w->lock);
}

void waiters_stop(struct waiters *w)
{
    pthread_mutex_lock(&w->lock);
    w->stopped = true;
    for (unsigned i = 0; i < BUCKETS; i++)
        while (w->buckets[i].first)
            release(w, w->buckets[i].first, true);
    pthread_mutex_unlock(&w->lock);
}

bool waiters_stopped(struct waiters *w)
{
    pthread_mutex_lock(&w->lock);
    bool stopped = w->stopped;
    pthread_mutex_unlock(&w->lock);
    return stopped;
}
