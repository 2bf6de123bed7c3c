/* SPDX-License-Identifier: Apache-2.0 */
/* clock.h - time as a value that is passed in, so that tests step hours in microseconds. */
#pragma once

#include <stdint.h>

struct clock {
    int64_t (*unix_ms)(const struct clock *clock);      /* wall time, ms since 1970 */
    int64_t (*monotonic_ms)(const struct clock *clock); /* never steps back */
    int64_t test_ms;                                    /* a test clock's present */
};

extern const struct clock clock_system;
/* A clock that stands still at test_ms until the test moves it. */
struct clock clock_test(int64_t test_ms);

static inline int64_t clock_unix_ms(const struct clock *clock)
{
    return clock->unix_ms(clock);
}

static inline int64_t clock_monotonic_ms(const struct clock *clock)
{
    return clock->monotonic_ms(clock);
}
