/* SPDX-License-Identifier: Apache-2.0 */
/* test_restored_timers.c - timers that a restore left standing run again, others are left alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "restored_timers.h"

#define MS 1000000L

static int timer_with(long value_ms, long interval_ms, uint64_t ticks)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    struct itimerspec spec = {
        {0, interval_ms * MS},
        {0, value_ms * MS   }
    };
    assert_true(fd >= 0);
    assert_int_equal(timerfd_settime(fd, 0, &spec, NULL), 0);
    if (ticks)
        assert_int_equal(ioctl(fd, TFD_IOC_SET_TICKS, &ticks), 0);
    return fd;
}

static struct itimerspec time_left(int fd)
{
    struct itimerspec spec;
    assert_int_equal(timerfd_gettime(fd, &spec), 0);
    return spec;
}

static void start(void)
{
    pid_t pids[] = {getpid(), 0};
    struct error err = {0};
    if (restored_timers_start(pids, &err) < 0)
        fail_msg("%s", err.message);
}

/* What CRIU makes of a periodic timer with an expiry that nobody has read. */
static void test_stopped_timer_runs_again(void **state)
{
    (void)state;
    int fd = timer_with(0, 10, 3);
    uint64_t expiries = 0;
    start();
    assert_int_equal(read(fd, &expiries, sizeof expiries), sizeof expiries);
    assert_in_range(expiries, 3, 4);
    usleep(50000);
    assert_int_equal(read(fd, &expiries, sizeof expiries), sizeof expiries);
    assert_in_range(expiries, 2, 20);
    assert_int_equal(time_left(fd).it_interval.tv_nsec, 10 * MS);
    close(fd);
}

static void test_timers_that_are_well_stay_as_they_are(void **state)
{
    (void)state;
    int disarmed = timer_with(0, 500, 0), once = timer_with(0, 0, 1),
        running = timer_with(900, 500, 2);
    uint64_t expiries = 0;
    start();
    assert_int_equal(time_left(disarmed).it_value.tv_nsec, 0);
    assert_int_equal(read(disarmed, &expiries, sizeof expiries), -1);
    assert_int_equal(time_left(once).it_value.tv_nsec, 0);
    assert_int_equal(read(once, &expiries, sizeof expiries), sizeof expiries);
    assert_int_equal(expiries, 1);
    assert_true(time_left(running).it_value.tv_nsec > 500 * MS);
    close(disarmed);
    close(once);
    close(running);
}

static void test_missing_process_is_an_error(void **state)
{
    (void)state;
    pid_t pids[] = {0x7ffffff0, 0};
    struct error err = {0};
    assert_int_equal(restored_timers_start(pids, &err), -1);
    assert_int_equal(err.kind, ERROR_FAILED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stopped_timer_runs_again),
        cmocka_unit_test(test_timers_that_are_well_stay_as_they_are),
        cmocka_unit_test(test_missing_process_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
