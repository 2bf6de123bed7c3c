/* SPDX-License-Identifier: Apache-2.0 */
/* clock.c - the system's clock and a test's. */
#include "clock.h"

#include <time.h>

static int64_t read_ms(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int64_t system_unix_ms(const struct clock *clock)
{
    (void)clock;
    return read_ms(CLOCK_REALTIME);
}

static int64_t system_monotonic_ms(const struct clock *clock)
{
    (void)clock;
    return read_ms(CLOCK_MONOTONIC);
}

const struct clock clock_system = {.unix_ms = system_unix_ms, .monotonic_ms = system_monotonic_ms};

static int64_t test_now_ms(const struct clock *clock)
{
    return clock->test_ms;
}

struct clock clock_test(int64_t test_ms)
{
    return (struct clock){.unix_ms = test_now_ms, .monotonic_ms = test_now_ms, .test_ms = test_ms};
}
