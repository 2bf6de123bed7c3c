/* SPDX-License-Identifier: Apache-2.0 */
/* bench_handover.c - bench_handover THREADS ROUNDS PROGRAM: how long a tracer takes to let go of a
 * masked process with that many threads into a frozen control group, and to take it out of it
 * again. Prints "detach_ms N" and "attach_ms N", medians. PROGRAM: mask_subject. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cgroup.h"
#include "cleanup.h"
#include "mask_launch.h"
#include "mask_pool.h"
#include "process.h"

#define ROUNDS_MAX 100
#define START_MS   20000

static union mask_pool_table area;

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof(*values), by_value);
    return values[count / 2];
}

static int wait_for_threads(struct mask_tracer *tracer, size_t threads, struct error *err)
{
    int64_t until_ms = process_now_ms() + START_MS;
    for (bool lives = true; mask_tracer_threads(tracer) <= threads;) {
        if (mask_tracer_attend(tracer, false, &lives, err) < 0)
            return -1;
        if (!lives || process_now_ms() > until_ms)
            return error_set(err, ERROR_TIMEOUT, "it has %zu threads, not %zu",
                             mask_tracer_threads(tracer), threads + 1);
        process_sleep_ms(1);
    }
    return 0;
}

static int measure(char **argv, size_t rounds, const char *cgroup, struct error *err)
{
    static double detach[ROUNDS_MAX], attach[ROUNDS_MAX];
    char *const command[] = {argv[3], "idle", argv[1], NULL};
    char *const env[] = {NULL};
    const struct mask_launch_options options = {
        .argv = command, .env = env, .mask = {.table = &area.table}};
    AUTO(mask_tracer) tracer = NULL;
    if (mask_launch_start(&options, &tracer, err) < 0 ||
        cgroup_join(cgroup, mask_tracer_root(tracer), err) < 0 ||
        wait_for_threads(tracer, strtoul(argv[1], NULL, 10), err) < 0)
        return -1;
    for (size_t i = 0; i < rounds; i++) {
        double start = now_ms();
        if (mask_tracer_detach(tracer, cgroup, true, err) < 0)
            return -1;
        double middle = now_ms();
        if (mask_tracer_attach(tracer, cgroup, mask_tracer_root(tracer), true, err) < 0)
            return -1;
        attach[i] = now_ms() - middle;
        detach[i] = middle - start;
    }
    printf("detach_ms %.1f\nattach_ms %.1f\n", median(detach, rounds), median(attach, rounds));
    return 0;
}

int main(int argc, char **argv)
{
    struct error err = {0};
    autofree char *mount = NULL;
    char hidden[] = "avx2";
    size_t rounds = argc == 4 ? strtoul(argv[2], NULL, 10) : 0;
    if (!rounds || rounds > ROUNDS_MAX) {
        fprintf(stderr, "usage: bench_handover THREADS ROUNDS(1..%d) PROGRAM\n", ROUNDS_MAX);
        return 2;
    }
    int rc = cgroup_find_mount("", &mount, &err);
    autofree char *cgroup = xasprintf("%s/cpubroker-bench-%d", rc == 0 ? mount : "", (int)getpid());
    if (rc == 0)
        rc = cgroup_make(cgroup, &err) < 0 || mask_pool_table(hidden, &area, &err) < 0 ||
                     measure(argv, rounds, cgroup, &err) < 0
                 ? -1
                 : 0;
    if (rc < 0)
        fprintf(stderr, "bench_handover: %s\n", err.message);
    cgroup_kill(cgroup, START_MS, NULL);
    cgroup_remove(cgroup, START_MS, NULL);
    return rc < 0;
}
