/* SPDX-License-Identifier: Apache-2.0 */
/* test_timerfds.c - timers that a restore left standing run again, others are left alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "cleanup.h"
#include "timerfds.h"

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

static void start_those(const struct timerfd_place *expired)
{
    pid_t pids[] = {getpid(), 0};
    struct error err = {0};
    if (timerfds_restart(pids, expired, &err) < 0)
        fail_msg("%s", err.message);
}

static void start(void)
{
    start_those(NULL);
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

/* What CRIU makes of one that was due but had not fired: disarmed, without an expiry. */
static void test_timer_that_lost_its_expiry_gets_it_back(void **state)
{
    (void)state;
    int periodic = timer_with(0, 10, 0), once = timer_with(0, 0, 0), other = timer_with(0, 10, 0),
        running = timer_with(900, 10, 0);
    const struct timerfd_place expired[] = {
        {getpid(), periodic},
        {getpid(), once    },
        {getpid(), running },
        {1,        other   },
        {0,        0       }
    };
    uint64_t expiries = 0;
    start_those(expired);
    assert_int_equal(read(periodic, &expiries, sizeof expiries), sizeof expiries);
    assert_in_range(expiries, 1, 2);
    usleep(50000);
    assert_int_equal(read(periodic, &expiries, sizeof expiries), sizeof expiries);
    assert_in_range(expiries, 2, 20);
    assert_int_equal(read(once, &expiries, sizeof expiries), sizeof expiries);
    assert_int_equal(expiries, 1);
    assert_int_equal(read(once, &expiries, sizeof expiries), -1);
    assert_int_equal(read(other, &expiries, sizeof expiries), -1);
    assert_true(time_left(running).it_value.tv_nsec > 500 * MS);
    close(periodic);
    close(once);
    close(other);
    close(running);
}

static void test_the_source_lists_what_has_expired(void **state)
{
    (void)state;
    pid_t pids[] = {getpid(), 0};
    struct error err = {0};
    autofree struct timerfd_place *list = NULL;
    int due = timer_with(1, 10, 0), once = timer_with(1, 0, 0), later = timer_with(900, 10, 0),
        disarmed = timer_with(0, 10, 0);
    usleep(20000);
    if (timerfds_expired(pids, &list, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(list[0].pid, getpid());
    assert_int_equal(list[0].fd, due);
    assert_int_equal(list[1].pid, getpid());
    assert_int_equal(list[1].fd, once);
    assert_int_equal(list[2].pid, 0);
    close(due);
    close(once);
    close(later);
    close(disarmed);
}

static void test_lists_go_through_json(void **state)
{
    (void)state;
    const struct timerfd_place list[] = {
        {4711, 0},
        {4712, 9},
        {0,    0}
    };
    static const char *const wrong[] = {"{\"l\":[{\"pid\":0,\"fd\":1}]}",
                                        "{\"l\":[{\"pid\":1,\"fd\":-1}]}", "{\"l\":[{\"pid\":1}]}",
                                        "{\"l\":[7]}", "{\"l\":7}"};
    struct error err = {0};
    autofree struct timerfd_place *again = NULL, *none = NULL, *copy = timerfds_copy(list);
    autojson *object = json_object_new_object();
    json_put(object, "l", timerfds_to_json(copy));
    assert_int_equal(timerfds_from_json("it", object, "l", &again, &err), 0);
    assert_memory_equal(again, list, sizeof list);
    assert_int_equal(timerfds_from_json("it", object, "not there", &none, &err), 0);
    assert_int_equal(none[0].pid, 0);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct timerfd_place *never = NULL;
        autojson *bad = json_tokener_parse(wrong[i]);
        assert_int_equal(timerfds_from_json("it", bad, "l", &never, &err), -1);
        assert_int_equal(err.kind, ERROR_INVALID);
        assert_non_null(strstr(err.message, "it: l"));
    }
}

static void test_missing_process_is_an_error(void **state)
{
    (void)state;
    pid_t pids[] = {0x7ffffff0, 0};
    struct error err = {0};
    struct timerfd_place *list = NULL;
    assert_int_equal(timerfds_restart(pids, NULL, &err), -1);
    assert_int_equal(err.kind, ERROR_FAILED);
    assert_int_equal(timerfds_expired(pids, &list, &err), -1);
    assert_int_equal(err.kind, ERROR_FAILED);
    assert_null(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stopped_timer_runs_again),
        cmocka_unit_test(test_timers_that_are_well_stay_as_they_are),
        cmocka_unit_test(test_timer_that_lost_its_expiry_gets_it_back),
        cmocka_unit_test(test_the_source_lists_what_has_expired),
        cmocka_unit_test(test_lists_go_through_json),
        cmocka_unit_test(test_missing_process_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
