/* SPDX-License-Identifier: Apache-2.0 */
/* test_probe.c - reading CPUs: from made-up and recorded facts, and from this machine. */
#include <elf.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "cmocka_test.h"
#include "cpu_profile.h"
#include "file.h"
#include "probe.h"
#include "probe_cpuid.h"
#include "probe_system.h"

static char root[] = "/tmp/test_probe.XXXXXX";

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(root) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return file_remove_tree(root, NULL);
}

static void record(const char *name, const char *text)
{
    autofree char *path = xasprintf("%s%s", root, name);
    autofree char *folder = xstrdup(path);
    *strrchr(folder, '/') = '\0';
    assert_int_equal(file_make_dirs(folder, 0755, NULL), 0);
    assert_int_equal(file_replace(path, text, 0644, NULL), 0);
}

/* --- a CPU from a table -------------------------------------------------------------------- */

static const struct cpuid_leaf *table;

/* What the table does not hold is all zeros. */
static void read_table(void *ctx, uint32_t leaf, uint32_t subleaf, struct cpuid_leaf *ret)
{
    unsigned *reads = ctx;
    (*reads)++;
    ret->eax = ret->ebx = ret->ecx = ret->edx = 0;
    for (const struct cpuid_leaf *l = table; l->leaf != 0xffffffff; l++)
        if (l->leaf == leaf && l->subleaf == subleaf) {
            *ret = *l;
            return;
        }
}

#define END        \
    {              \
        0xffffffff \
    }

/* clang-format off */
static const struct cpuid_leaf intel[] = {
    {0x0, 0, 0x1f, 0x756e6547, 0x6c65746e, 0x49656e69},
    {0x1, 0, 0x000906a3, 0x05800800, 0x7ffafbbf, 0xbfebfbff},
    {0x4, 0, 0x1c004121},
    {0x4, 1, 0x1c004122},
    {0x7, 0, 2, 0, 0, 1 << 15},
    {0x7, 1, 0x400c10},
    {0x7, 2, 0, 0, 0, 0x1f},
    {0xb, 0, 1, 2, 0x100, 5},
    {0xb, 1, 7, 0x14, 0x201, 5},
    {0xd, 0, 0x207, 0xa88, 0xa88, 0},
    {0xd, 1, 0xf, 0x348, 0x1900, 0},
    {0xd, 2, 0x100, 0x240},
    {0xd, 9, 8, 0xa80},
    {0xd, 12, 0x18, 0, 1},
    {0x14, 0, 1, 0x7f, 7},
    {0x14, 1, 0x02490002},
    {0x1a, 0, 0x40000001},
    {0x80000000, 0, 0x80000008},
    {0x80000001, 0, 0, 0, 0x121, 0x2c100800},
    END,
};
/* clang-format on */

static size_t count_of(const struct cpuid_leaf *leaves, size_t count, uint32_t leaf)
{
    size_t found = 0;
    for (size_t i = 0; i < count; i++)
        found += leaves[i].leaf == leaf;
    return found;
}

static void reads_all_subleaves(void **state)
{
    (void)state;
    unsigned reads = 0;
    const struct probe_cpuid cpuid = {read_table, &reads};
    struct cpu_group group = {0};
    table = intel;
    probe_cpuid_all(&cpuid, &group.leaves, &group.leaf_count);
    static const struct {
        uint32_t leaf;
        size_t subleaves;
    } expected[] = {
        {0x0,        1},
        {0x4,        3}, /* two caches and the one that says there are no more */
        {0x7,        3}, /* EAX says 2 is the last */
        {0xb,        3}, /* two levels and the end */
        {0xd,        7}, /* 0, 1, user 2 and 9, supervisor 8, 11 and 12 */
        {0x14,       2}, /* EAX says 1 is the last */
        {0x1a,       1},
        {0x1f,       1},
        {0x80000000, 1},
        {0x80000008, 1},
        {0x20,       0},
        {0x80000009, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(expected); i++)
        assert_int_equal(count_of(group.leaves, group.leaf_count, expected[i].leaf),
                         expected[i].subleaves);
    for (size_t i = 0; i < group.leaf_count; i++) /* no doubles */
        for (size_t k = i + 1; k < group.leaf_count; k++)
            assert_false(group.leaves[i].leaf == group.leaves[k].leaf &&
                         group.leaves[i].subleaf == group.leaves[k].subleaf);
    assert_string_equal(probe_core_type(&group), "core");
    free(group.leaves);
}

/* A CPU (or hypervisor) that claims absurd counts must not keep us for ever. */
static void bounds_absurd_counts(void **state)
{
    (void)state;
    /* clang-format off */
    static const struct cpuid_leaf absurd[] = {
        {0x0, 0, 0xffffffff}, {0x7, 0, 0xffffffff}, {0x14, 0, 0xffffffff},
        {0xd, 0, 0xffffffff, 0, 0, 0xffffffff}, {0x80000000, 0, 0xffffffff}, END,
    };
    /* clang-format on */
    unsigned reads = 0;
    const struct probe_cpuid cpuid = {read_table, &reads};
    struct cpuid_leaf *leaves = NULL;
    size_t count = 0;
    table = absurd;
    probe_cpuid_all(&cpuid, &leaves, &count);
    assert_true(count <= CPU_REPORT_LEAVES_MAX);
    assert_true(reads < 2000);
    free(leaves);
}

static void no_extended_leaves(void **state)
{
    (void)state;
    /* clang-format off */
    static const struct cpuid_leaf old[] = {{0x0, 0, 1}, {0x80000000, 0, 0x12345}, END};
    /* clang-format on */
    unsigned reads = 0;
    const struct probe_cpuid cpuid = {read_table, &reads};
    struct cpuid_leaf *leaves = NULL;
    size_t count = 0;
    table = old;
    probe_cpuid_all(&cpuid, &leaves, &count);
    assert_int_equal(count, 2);
    free(leaves);
}

/* --- folding ------------------------------------------------------------------------------- */

static bool alike(struct cpuid_leaf a, struct cpuid_leaf b)
{
    struct cpu_group x = {.leaves = &a, .leaf_count = 1}, y = {.leaves = &b, .leaf_count = 1};
    return probe_cpuid_alike(&x, &y);
}

static void ids_make_no_cpus_unlike(void **state)
{
    (void)state;
    /* clang-format off */
    static const struct {
        struct cpuid_leaf a, b;
        bool alike;
    } cases[] = {
        {{0x1, 0, 0xa0f11, 0x00020800, 1, 2}, {0x1, 0, 0xa0f11, 0x01020800, 1, 2}, true},
        {{0x1, 0, 0xa0f11, 0x00020800, 1, 2}, {0x1, 0, 0xa0f11, 0x00020900, 1, 2}, false},
        {{0x1, 0, 0xa0f11, 0, 1, 2}, {0x1, 0, 0xa0f11, 0, 3, 2}, false},
        {{0xb, 1, 7, 8, 0x201, 0}, {0xb, 1, 7, 8, 0x201, 5}, true},
        {{0xb, 1, 7, 8, 0x201, 0}, {0xb, 1, 7, 4, 0x201, 0}, false},
        {{0x1f, 0, 1, 2, 0x100, 0}, {0x1f, 0, 1, 2, 0x100, 9}, true},
        {{0x8000001e, 0, 0, 0, 0, 0}, {0x8000001e, 0, 7, 0x103, 0x100, 0}, true},
        {{0x80000026, 0, 1, 2, 0x100, 0}, {0x80000026, 0, 1, 2, 0x100, 3}, true},
        {{0x7, 0, 0, 0x20, 0, 0}, {0x7, 0, 0, 0, 0, 0}, false},
        {{0x1a, 0, 0x40000001}, {0x1a, 0, 0x20000001}, false}, /* another kind of core */
    };
    /* clang-format on */
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(alike(cases[i].a, cases[i].b), cases[i].alike);

    struct cpuid_leaf leaf = {0x7};
    struct cpu_group x = {.leaves = &leaf, .leaf_count = 1, .xcr0_known = true, .xcr0 = 7}, y = x;
    assert_true(probe_cpuid_alike(&x, &y));
    y.xcr0 = 3;
    assert_false(probe_cpuid_alike(&x, &y));
    y = x;
    y.leaf_count = 0;
    assert_false(probe_cpuid_alike(&x, &y));
}

static void knows_core_types(void **state)
{
    (void)state;
    struct cpuid_leaf leaves[2] = {
        {.leaf = 0x7,  .edx = 1 << 15   },
        {.leaf = 0x1a, .eax = 0x20000001}
    };
    struct cpu_group group = {.leaves = leaves, .leaf_count = 2};
    assert_string_equal(probe_core_type(&group), "atom");
    leaves[1].eax = 0x40000001;
    assert_string_equal(probe_core_type(&group), "core");
    leaves[0].edx = 0; /* not a hybrid: the leaf may be there all the same */
    assert_null(probe_core_type(&group));
}

/* --- recorded trees ------------------------------------------------------------------------ */

static void reads_cpu_lists(void **state)
{
    (void)state;
    static const struct {
        const char *online, *list;
        size_t count;
    } cases[] = {
        {"0\n",           "0",           1},
        {"0-1\n",         "0-1",         2},
        {"0-3,8,10-11\n", "0-3,8,10-11", 7},
        {"0,1,2,5\n",     "0-2,5",       4},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        autofree unsigned *cpus = NULL;
        size_t count = 0;
        record("/sys/devices/system/cpu/online", cases[i].online);
        assert_int_equal(probe_online_cpus(root, &cpus, &count, NULL), 0);
        assert_int_equal(count, cases[i].count);
        autofree char *list = probe_cpu_list(cpus, count);
        assert_string_equal(list, cases[i].list);
    }
    static const char *const wrong[] = {"", "\n", "none\n", "5-2\n", "0-99999\n", "-3\n"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        autofree unsigned *cpus = NULL;
        size_t count = 0;
        struct error err = {0};
        record("/sys/devices/system/cpu/online", wrong[i]);
        assert_int_equal(probe_online_cpus(root, &cpus, &count, &err), -1);
        assert_int_equal(err.kind, ERROR_FAILED);
    }
}

static void write_auxv(void)
{
    /* clang-format off */
    const Elf64_auxv_t auxv[] = {{AT_HWCAP, {0x178bfbff}}, {26, {0x2}}, {51, {3376}},
                                 {AT_PAGESZ, {4096}}, {AT_NULL, {0}}};
    /* clang-format on */
    autofree char *path = xasprintf("%s/proc/self/auxv", root);
    record("/proc/self/auxv", "");
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(auxv, sizeof(auxv), 1, file), 1);
    fclose(file);
}

static void reads_the_system(void **state)
{
    (void)state;
    AUTO(cpu_report) report = xcalloc(1, sizeof(*report));
    record("/proc/sys/kernel/osrelease", "6.1.0-31-amd64\n");
    record("/proc/sys/kernel/random/boot_id", "5e28f62b-9a1c-4b8e-8a93-0f3a7d0e9a11\n");
    record("/proc/cpuinfo", "processor\t: 0\nmodel name\t: X\nstepping\t: 1\n"
                            "microcode\t: 0x1000065\ncpu MHz\t\t: 2596.096\n\n"
                            "processor\t: 1\nmicrocode\t: 0x1\n");
    write_auxv();
    probe_system(root, report);
    assert_string_equal(report->os.kernel, "6.1.0-31-amd64");
    assert_string_equal(report->os.boot_id, "5e28f62b-9a1c-4b8e-8a93-0f3a7d0e9a11");
    assert_true(report->os.microcode_known);
    assert_int_equal(report->os.microcode, 0x1000065);
    assert_true(report->os.hwcap_known && report->os.hwcap2_known && report->os.minsigstksz_known);
    assert_int_equal(report->os.hwcap, 0x178bfbff);
    assert_int_equal(report->os.hwcap2, 2);
    assert_int_equal(report->os.minsigstksz, 3376);
}

static void leaves_unknown_what_is_not_there(void **state)
{
    (void)state;
    AUTO(cpu_report) report = xcalloc(1, sizeof(*report));
    record("/proc/cpuinfo", "processor\t: 0\n"); /* a guest whose hypervisor hides it */
    autofree char *empty = xasprintf("%s/empty", root);
    probe_system(empty, report);
    assert_null(report->os.kernel);
    assert_null(report->os.boot_id);
    assert_false(report->os.microcode_known || report->os.hwcap_known || report->os.hwcap2_known ||
                 report->os.minsigstksz_known);
    probe_system(root, report);
    assert_false(report->os.microcode_known);
}

/* --- this machine -------------------------------------------------------------------------- */

static void probes_this_machine(void **state)
{
    (void)state;
    AUTO(cpu_report) report = NULL;
    AUTO(cpu_report) again = NULL;
    AUTO(cpu_profile) profile = NULL;
    struct probe_options options = {.node = "node-a"};
    cpu_set_t before, after;
    assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
    assert_int_equal(probe_report(&options, &report, NULL), 0);
    assert_int_equal(sched_getaffinity(0, sizeof(after), &after), 0);
    assert_true(CPU_EQUAL(&before, &after));
    assert_int_equal(strlen(report->sha256), 64);
    assert_true(report->group_count >= 1);
    assert_non_null(cpu_group_find(&report->groups[0], 7, 0));
    assert_int_equal(cpu_profile_from_report(report, &profile, NULL), 0);
    assert_true(cpu_profile_has(profile, CPU_FEATURE_SSE2));
    /* The hash decides whether a report is sent again: the same facts, the same hash. */
    assert_int_equal(probe_report(&options, &again, NULL), 0);
    assert_string_equal(report->sha256, again->sha256);
    autojson *json = cpu_report_to_json(report);
    AUTO(cpu_report) parsed = NULL;
    assert_int_equal(cpu_report_parse(json, &parsed, NULL), 0);
    assert_string_equal(parsed->sha256, report->sha256);
}

static void refuses_a_bad_name(void **state)
{
    (void)state;
    AUTO(cpu_report) report = NULL;
    struct error err = {0};
    struct probe_options options = {.node = "../x"};
    assert_int_equal(probe_report(&options, &report, &err), -1);
    assert_int_equal(err.kind, ERROR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_all_subleaves), cmocka_unit_test(bounds_absurd_counts),
        cmocka_unit_test(no_extended_leaves),  cmocka_unit_test(ids_make_no_cpus_unlike),
        cmocka_unit_test(knows_core_types),    cmocka_unit_test(reads_cpu_lists),
        cmocka_unit_test(reads_the_system),    cmocka_unit_test(leaves_unknown_what_is_not_there),
        cmocka_unit_test(probes_this_machine), cmocka_unit_test(refuses_a_bad_name),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
