/* SPDX-License-Identifier: Apache-2.0 */
/* bench_verdict.c - how long a verdict, a join, a leave and a mask take.
 *
 *     bench_verdict [NODES]
 *
 * Machines are the invented samples, each changed a little, or the real dumps where they are at
 * hand. One line a measure: name, median and 99th percentile in ns, calls a second. */
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cpu_profile_data.h"
#include "cpu_samples.h"
#include "fleet.h"
#include "mask.h"
#include "verdict.h"

#define ROUNDS 20000

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void print_times(const char *name, uint64_t *times, size_t count)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += times[i];
    qsort(times, count, sizeof(*times), compare_u64);
    printf("%-28s median %8" PRIu64 " ns   p99 %8" PRIu64 " ns   %10.0f/s\n", name,
           times[count / 2], times[count - count / 100 - 1], 1e9 * (double)count / (double)sum);
}

static void bench_pair(const char *name, const struct cpu_profile *need,
                       const struct cpu_profile *target, bool encode)
{
    static uint64_t times[ROUNDS];
    const struct verdict_policy policy = {.mix_vendors = false};
    for (size_t i = 0; i < ROUNDS; i++) {
        uint64_t start = now_ns();
        struct verdict v = {0};
        verdict_judge(need, target, "node-a", "node-b", &policy, &v);
        verdict_sort(&v);
        if (encode) {
            autojson *json = verdict_to_json(&v, "node-a", "node-b");
            autofree char *text = json_text(json);
            (void)text;
        }
        verdict_done(&v);
        times[i] = now_ns() - start;
    }
    print_times(name, times, ROUNDS);
}

static void bench_verdicts(void)
{
    AUTO(cpu_profile) zen4 = sample_profile("zen4");
    AUTO(cpu_profile) like = sample_profile("zen4");
    AUTO(cpu_profile) haswell = sample_profile("haswell");
    AUTO(cpu_profile) lesser = sample_profile("lesser-intel");
    struct cpu_report *report = sample_report("haswell");
    sample_set(report, "avx2", false);
    AUTO(cpu_profile) almost = profile_of(report);
    bench_pair("judge, no reason", zen4, like, false);
    bench_pair("judge, one reason", haswell, almost, false);
    bench_pair("judge, many reasons", haswell, lesser, false);
    bench_pair("judge as JSON, no reason", zen4, like, true);
    bench_pair("judge as JSON, one reason", haswell, almost, true);
    bench_pair("judge as JSON, many reasons", haswell, lesser, true);
}

/* One profile a node: no two share one, as if no two machines were alike. */
static struct cpu_profile *make_node(const struct fleet *fleet, size_t i)
{
    static const char *const names[] = {"haswell", "zen4", "lesser-intel", "lesser-amd"};
    if (fleet->count == 0)
        return sample_profile(names[i % ARRAY_LEN(names)]);
    struct cpu_profile *p = NULL;
    struct error err = {0};
    if (cpu_profile_from_report(fleet->machines[i % fleet->count].report, &p, &err) < 0)
        abort();
    return p;
}

static void bench_pool(size_t count)
{
    static uint64_t times[ROUNDS];
    struct fleet fleet;
    if (fleet_load(&fleet) < 0)
        fleet = (struct fleet){0};
    struct cpu_profile **nodes = xcalloc(count, sizeof(struct cpu_profile *));
    size_t before = mallinfo2().uordblks;
    uint64_t start = now_ns();
    AUTO(mask) mask = mask_new();
    for (size_t i = 0; i < count; i++) {
        nodes[i] = make_node(&fleet, i);
        mask_add(mask, nodes[i]);
    }
    printf("%-28s %zu nodes in %" PRIu64 " ms, %zu bytes a node\n", "reports to pool", count,
           (now_ns() - start) / 1000000, (mallinfo2().uordblks - before) / count);
    for (size_t i = 0; i < ROUNDS; i++) {
        start = now_ns();
        mask_remove(mask, nodes[i % count]);
        mask_add(mask, nodes[i % count]);
        times[i] = (now_ns() - start) / 2;
    }
    print_times("join or leave", times, ROUNDS);
    for (size_t i = 0; i < ROUNDS; i++) {
        start = now_ns();
        AUTO(cpu_profile) profile = mask_profile(mask);
        (void)profile;
        times[i] = now_ns() - start;
    }
    print_times("mask of the pool", times, ROUNDS);
    for (size_t i = 0; i < ROUNDS / 10; i++) {
        start = now_ns();
        AUTO(cpu_profile) profile = mask_profile(mask);
        autojson *json = mask_profile_to_json(profile);
        autofree char *text = json_text(json);
        (void)text;
        times[i] = now_ns() - start;
    }
    print_times("mask of the pool as JSON", times, ROUNDS / 10);
    for (size_t i = 0; i < count; i++)
        cpu_profile_free(nodes[i]);
    free(nodes);
    fleet_done(&fleet);
}

int main(int argc, char **argv)
{
    size_t nodes = argc > 1 ? strtoul(argv[1], NULL, 10) : 10000;
    if (nodes < 1 || nodes > 1000000)
        return fputs("bench_verdict [NODES]: 1 to 1000000\n", stderr), 2;
    bench_verdicts();
    bench_pool(nodes);
    return 0;
}
