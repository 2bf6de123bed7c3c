/* SPDX-License-Identifier: Apache-2.0 */
/* bench_mask.c - bench_mask ROUNDS CACHE COMMAND...: runs a command natively and under the mask in
 * turn, and prints the median times from its start to its end in ms: "native masked cold". Cold:
 * the first masked one, with an empty cache of sites. The command's output is thrown away. */
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "file.h"
#include "mask_launch.h"
#include "mask_pool.h"

#define ROUNDS_MAX 1000

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

static int run_natively(char **command, double *ret_ms, struct error *err)
{
    int status = 0;
    pid_t pid = 0;
    double start = now_ms();
    errno = posix_spawnp(&pid, command[0], NULL, NULL, command, environ);
    if (errno)
        return error_errno(err, ERROR_FAILED, "cannot start '%s'", command[0]);
    waitpid(pid, &status, 0);
    *ret_ms = now_ms() - start;
    return 0;
}

static int run_masked(char **command, const char *cache, double *ret_ms, struct error *err)
{
    const struct mask_launch_options options = {
        .argv = command, .env = environ, .mask = {.table = &area.table, .cache_folder = cache}
    };
    AUTO(mask_tracer) tracer = NULL;
    bool lives = true;
    double start = now_ms();
    if (mask_launch_start(&options, &tracer, err) < 0)
        return -1;
    while (lives)
        if (mask_tracer_attend(tracer, true, &lives, err) < 0)
            return -1;
    *ret_ms = now_ms() - start;
    return 0;
}

static int measure(size_t rounds, const char *cache, char **command, int output, struct error *err)
{
    static double native[ROUNDS_MAX], masked[ROUNDS_MAX];
    double warm_up = 0, cold = 0;
    char hidden[] = "avx2";
    if (mask_pool_table(hidden, &area, err) < 0 || file_remove_tree(cache, err) < 0 ||
        run_natively(command, &warm_up, err) < 0 || run_masked(command, cache, &cold, err) < 0)
        return -1;
    for (size_t i = 0; i < rounds; i++)
        if (run_natively(command, &native[i], err) < 0 ||
            run_masked(command, cache, &masked[i], err) < 0)
            return -1;
    dprintf(output, "%.2f %.2f %.2f\n", median(native, rounds), median(masked, rounds), cold);
    return 0;
}

int main(int argc, char **argv)
{
    struct error err = {0};
    size_t rounds = argc > 3 ? strtoul(argv[1], NULL, 10) : 0;
    if (rounds < 1 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "usage: bench_mask ROUNDS(1..%d) CACHE COMMAND...\n", ROUNDS_MAX);
        return 2;
    }
    int output = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    autoclose int nothing = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (output < 0 || dup2(nothing, STDOUT_FILENO) < 0)
        return 1;
    if (measure(rounds, argv[2], argv + 3, output, &err) < 0) {
        fprintf(stderr, "bench_mask: %s\n", err.message);
        return 1;
    }
    return 0;
}
