/* SPDX-License-Identifier: Apache-2.0 */
/* test_http_wait.c - the waiting list alone: wakes, deadlines, stops, and races between them. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "cleanup.h"
#include "http_wait.h"

struct counted {
    struct waiter waiter;
    atomic_int resumed, suspended;
};

static void count_resume(struct waiter *waiter)
{
    struct counted *c = waiter->owner;
    atomic_fetch_add(&c->resumed, 1);
}

static void count_suspend(struct waiter *waiter)
{
    struct counted *c = waiter->owner;
    atomic_fetch_add(&c->suspended, 1);
}

static void counted_init(struct counted *c)
{
    *c = (struct counted){
        .waiter = {.resume = count_resume, .owner = c}
    };
}

static void wake_resumes_only_its_key(void **state)
{
    (void)state;
    struct waiters *w = waiters_new();
    struct counted a, b;
    counted_init(&a);
    counted_init(&b);
    uint64_t snapshot = waiters_snapshot(w);
    int64_t late_ms = waiters_now_ms() + 60000;
    assert_int_equal(waiters_add(w, &a.waiter, "a", snapshot, late_ms, count_suspend),
                     WAITERS_LISTED);
    assert_int_equal(waiters_add(w, &b.waiter, "b", snapshot, late_ms, count_suspend),
                     WAITERS_LISTED);
    waiters_wake(w, "a");
    assert_int_equal(a.resumed, 1);
    assert_int_equal(b.resumed, 0);
    assert_false(a.waiter.timed_out);
    waiters_wake(w, "a");
    assert_int_equal(a.resumed, 1);
    waiters_remove(w, &b.waiter);
    waiters_wake(w, "b");
    assert_int_equal(b.resumed, 0);
    assert_int_equal(b.suspended, 1);
    waiters_free(w);
}

static void wake_after_the_snapshot_is_not_lost(void **state)
{
    (void)state;
    struct waiters *w = waiters_new();
    struct counted a;
    counted_init(&a);
    waiters_wake(w, "a"); /* before the look: seen by it */
    uint64_t snapshot = waiters_snapshot(w);
    waiters_wake(w, "a"); /* between look and wait */
    assert_int_equal(waiters_add(w, &a.waiter, "a", snapshot, INT64_MAX, count_suspend),
                     WAITERS_AGAIN);
    assert_int_equal(a.suspended, 0);
    assert_false(a.waiter.listed);
    snapshot = waiters_snapshot(w);
    assert_int_equal(waiters_add(w, &a.waiter, "a", snapshot, INT64_MAX, count_suspend),
                     WAITERS_LISTED);
    waiters_stop(w);
    waiters_free(w);
}

static void deadlines_ring_in_time(void **state)
{
    (void)state;
    struct waiters *w = waiters_new();
    struct counted a[20];
    int64_t begin_ms = waiters_now_ms();
    for (size_t i = 0; i < ARRAY_LEN(a); i++) {
        counted_init(&a[i]);
        /* Later ones first, so that the alarm must be moved forward each time. */
        assert_int_equal(waiters_add(w, &a[i].waiter, "k", waiters_snapshot(w),
                                     begin_ms + 300 - (int64_t)i * 10, NULL),
                         WAITERS_LISTED);
    }
    for (size_t i = 0; i < ARRAY_LEN(a); i++)
        while (atomic_load(&a[i].resumed) == 0 && waiters_now_ms() < begin_ms + 5000)
            sched_yield();
    int64_t took_ms = waiters_now_ms() - begin_ms;
    assert_in_range(took_ms, 300, 2000);
    waiters_stop(w); /* also orders the reads below after the timer's writes */
    for (size_t i = 0; i < ARRAY_LEN(a); i++) {
        assert_int_equal(a[i].resumed, 1);
        assert_true(a[i].waiter.timed_out);
    }
    waiters_free(w);
}

static void nobody_waits_after_a_stop(void **state)
{
    (void)state;
    struct waiters *w = waiters_new();
    struct counted a, b;
    counted_init(&a);
    counted_init(&b);
    waiters_add(w, &a.waiter, "a", waiters_snapshot(w), INT64_MAX, NULL);
    assert_false(waiters_stopped(w));
    waiters_stop(w);
    assert_true(waiters_stopped(w));
    assert_int_equal(a.resumed, 1);
    assert_true(a.waiter.timed_out);
    assert_int_equal(waiters_add(w, &b.waiter, "a", waiters_snapshot(w), INT64_MAX, NULL),
                     WAITERS_STOPPED);
    waiters_free(w);
}

#define ROUNDS  3000
#define READERS 3

struct race {
    struct waiters *waiters;
    atomic_int value; /* what readers wait for */
    atomic_int seen[READERS];
    atomic_int timeouts;
};

struct reader {
    struct race *race;
    int index;
    pthread_t thread;
};

/* Follows race->value; each step that it sees lets the writer go on. */
static void *read_steps(void *arg)
{
    struct reader *r = arg;
    struct race *race = r->race;
    struct waiter waiter = {0};
    for (int have = 0; have < ROUNDS;) {
        uint64_t snapshot = waiters_snapshot(race->waiters);
        int value = atomic_load(&race->value);
        if (value > have) {
            have = value;
            atomic_store(&race->seen[r->index], have);
            continue;
        }
        if (waiters_add(race->waiters, &waiter, "value", snapshot, waiters_now_ms() + 5000, NULL) !=
            WAITERS_LISTED)
            continue;
        waiters_block(race->waiters, &waiter);
        if (waiter.timed_out) {
            atomic_fetch_add(&race->timeouts, 1);
            break;
        }
    }
    return NULL;
}

/* Writer and readers in lockstep: one lost wake is a wait of 5 s, which is counted. */
static void no_wake_is_lost_between_threads(void **state)
{
    (void)state;
    struct race race = {.waiters = waiters_new()};
    struct reader readers[READERS];
    for (int i = 0; i < READERS; i++) {
        readers[i] = (struct reader){.race = &race, .index = i};
        assert_int_equal(pthread_create(&readers[i].thread, NULL, read_steps, &readers[i]), 0);
    }
    for (int step = 1; step <= ROUNDS && atomic_load(&race.timeouts) == 0; step++) {
        atomic_store(&race.value, step);
        waiters_wake(race.waiters, "value");
        for (int i = 0; i < READERS; i++)
            while (atomic_load(&race.seen[i]) < step && atomic_load(&race.timeouts) == 0)
                sched_yield();
    }
    for (int i = 0; i < READERS; i++)
        pthread_join(readers[i].thread, NULL);
    assert_int_equal(race.timeouts, 0);
    waiters_free(race.waiters);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wake_resumes_only_its_key),
        cmocka_unit_test(wake_after_the_snapshot_is_not_lost),
        cmocka_unit_test(deadlines_ring_in_time),
        cmocka_unit_test(nobody_waits_after_a_stop),
        cmocka_unit_test(no_wake_is_lost_between_threads),
    };
    return cmocka_run_group_tests_name("http_wait", tests, NULL, NULL);
}
