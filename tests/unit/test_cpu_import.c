/* SPDX-License-Identifier: Apache-2.0 */
/* test_cpu_import.c - reading what `cpuid -r` prints: one CPU, many, unlike ones, and nonsense. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmocka_test.h"
#include "cpu_import.h"
#include "cpu_profile.h"
#include "cpu_samples.h"

/* Text that grows; the caller frees `text` after text_end. */
struct text {
    char *text;
    size_t size;
    FILE *out;
};

static void text_begin(struct text *t)
{
    *t = (struct text){0};
    t->out = open_memstream(&t->text, &t->size);
    assert_non_null(t->out);
}

static void text_end(struct text *t)
{
    fclose(t->out);
}

static void print_leaf(FILE *out, const struct cpuid_leaf *l)
{
    fprintf(out,
            "   0x%08" PRIx32 " 0x%02" PRIx32 ": eax=0x%08" PRIx32 " ebx=0x%08" PRIx32
            " ecx=0x%08" PRIx32 " edx=0x%08" PRIx32 "\n",
            l->leaf, l->subleaf, l->eax, l->ebx, l->ecx, l->edx);
}

/* The highest leaf of a range; the samples that a test changed are not sorted. */
static uint32_t last_of(const struct cpu_group *group, uint32_t range)
{
    for (size_t i = 0; i < group->leaf_count; i++)
        if (group->leaves[i].leaf == range)
            return group->leaves[i].eax;
    fail_msg("the sample has no leaf 0x%" PRIx32, range);
    return 0;
}

/* As cpuid does: every leaf of the two ranges, also those that are zero. */
static void print_cpu(FILE *out, const struct cpu_group *group, uint32_t apic_id)
{
    static const uint32_t ranges[] = {0, 0x80000000};
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++) {
        uint32_t last = last_of(group, ranges[i]);
        for (uint32_t leaf = ranges[i]; leaf <= last; leaf++) {
            bool found = false;
            for (size_t k = 0; k < group->leaf_count; k++) {
                struct cpuid_leaf l = group->leaves[k];
                if (l.leaf != leaf)
                    continue;
                if (leaf == 1)
                    l.ebx = (l.ebx & 0x00ffffff) | apic_id << 24;
                print_leaf(out, &l);
                found = true;
            }
            if (!found)
                print_leaf(out, &(struct cpuid_leaf){.leaf = leaf});
        }
    }
}

static struct cpu_report *import(const struct text *t)
{
    struct error err = {0};
    struct cpu_report *report = NULL;
    if (cpu_import_cpuid("bought-next-year", t->text, t->size, &report, &err) < 0)
        fail_msg("%s", err.message);
    return report;
}

static void assert_same_features(struct cpu_report *imported, const char *sample)
{
    struct error err = {0};
    AUTO(cpu_profile) found = NULL;
    AUTO(cpu_profile) expected = sample_profile(sample);
    assert_int_equal(cpu_profile_from_report(imported, &found, &err), 0);
    autojson *found_names = cpu_profile_feature_names(found);
    autojson *expected_names = cpu_profile_feature_names(expected);
    autofree char *found_text = json_text(found_names);
    autofree char *expected_text = json_text(expected_names);
    assert_string_equal(found_text, expected_text);
    assert_string_equal(cpu_profile_brand(found), cpu_profile_brand(expected));
}

static void one_cpu_of_dash_1(void **state)
{
    (void)state;
    static const char *const samples[] = {"haswell", "zen4", "lesser-intel", "lesser-amd"};
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        AUTO(cpu_report) sample = sample_report(samples[i]);
        struct text t;
        text_begin(&t);
        fputs("CPU:\n", t.out);
        print_cpu(t.out, &sample->groups[0], 0);
        text_end(&t);
        AUTO(cpu_report) report = import(&t);
        free(t.text);
        assert_string_equal(report->node, "bought-next-year");
        assert_int_equal(report->group_count, 1);
        assert_string_equal(report->groups[0].cpus, "0");
        assert_null(report->groups[0].core_type);
        assert_false(report->groups[0].xcr0_known); /* the text does not tell */
        assert_false(report->os.hwcap2_known);
        assert_int_equal(report->os.cpuid_faulting, -1);
        assert_int_equal(strlen(report->sha256), 64);
        assert_same_features(report, samples[i]);
    }
}

static void like_cpus_become_one_group(void **state)
{
    (void)state;
    AUTO(cpu_report) sample = sample_report("haswell");
    struct text t;
    text_begin(&t);
    for (uint32_t cpu = 0; cpu < 12; cpu++)
        if (cpu != 5) {
            fprintf(t.out, "CPU %" PRIu32 ":\r\n", cpu);
            print_cpu(t.out, &sample->groups[0], cpu * 2);
        }
    fputs("\n  \n", t.out);
    text_end(&t);
    AUTO(cpu_report) report = import(&t);
    free(t.text);
    assert_int_equal(report->group_count, 1);
    assert_string_equal(report->groups[0].cpus, "0-4,6-11");
    assert_same_features(report, "haswell");
}

static void unlike_cpus_stay_apart(void **state)
{
    (void)state;
    AUTO(cpu_report) sample = sample_report("haswell");
    /* a hybrid machine: leaf 7 EDX bit 15, and leaf 0x1a tells the kinds apart */
    sample_leaf(sample, 0, 0)->eax = 0x1a;
    sample_leaf(sample, 7, 0)->edx |= UINT32_C(1) << 15;
    struct cpuid_leaf *type = sample_leaf(sample, 0x1a, 0);
    struct text t;
    text_begin(&t);
    for (uint32_t cpu = 0; cpu < 6; cpu++) {
        type->eax = cpu < 2 ? 0x40000001 : 0x20000001;
        fprintf(t.out, "CPU %" PRIu32 ":\n", cpu);
        print_cpu(t.out, &sample->groups[0], cpu);
    }
    text_end(&t);
    AUTO(cpu_report) report = import(&t);
    free(t.text);
    assert_int_equal(report->group_count, 2);
    assert_string_equal(report->groups[0].cpus, "0-1");
    assert_string_equal(report->groups[0].core_type, "core");
    assert_string_equal(report->groups[1].cpus, "2-5");
    assert_string_equal(report->groups[1].core_type, "atom");
}

static void what_one_lacks_the_node_lacks(void **state)
{
    (void)state;
    AUTO(cpu_report) sample = sample_report("haswell");
    struct text t;
    text_begin(&t);
    fputs("CPU 0:\n", t.out);
    print_cpu(t.out, &sample->groups[0], 0);
    sample_set(sample, "avx2", false);
    fputs("CPU 1:\n", t.out);
    print_cpu(t.out, &sample->groups[0], 1);
    text_end(&t);
    AUTO(cpu_report) report = import(&t);
    free(t.text);
    struct error err = {0};
    AUTO(cpu_profile) profile = NULL;
    assert_int_equal(cpu_profile_from_report(report, &profile, &err), 0);
    assert_int_equal(report->group_count, 2);
    assert_false(cpu_profile_has(profile, CPU_FEATURE_AVX2));
    assert_true(cpu_profile_has(profile, CPU_FEATURE_AVX));
}

#define LEAF_0 "   0x00000000 0x00: eax=0x00000001 ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69\n"
#define LEAF_1 "   0x00000001 0x00: eax=0x000306c3 ebx=0x00020800 ecx=0x7ffafbff edx=0xbfebfbff\n"
#define LEAF_E "   0x80000000 0x00: eax=0x80000000 ebx=0x00000000 ecx=0x00000000 edx=0x00000000\n"
#define WHOLE  LEAF_0 LEAF_1 LEAF_E

static void nonsense_is_named_with_its_line(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *wanted[2];
    } cases[] = {
        {"",                                                          {"no CPU in it", "cpuid -r"}                                     },
        {"\n \n",                                                     {"no CPU in it", NULL}                                           },
        {"{\"schema\":1}",                                            {"line 1: expected 'CPU:' or 'CPU 0:'", "found '{\"schema\":1}'"}},
        {LEAF_0,                                                      {"line 1: expected a line 'CPU:'", NULL}                         },
        {"CPU 0:\n   vendor_id = \"GenuineIntel\"\n",                 {"line 2", "without -r"}                                         },
        {"CPU 0:\n" LEAF_0 LEAF_1 "   0x80000000 0x00: eax=0x8000\n",
         {"line 4: expected", "eax=0x8000'"}                                                                                           },
        {"CPU 0:\n   0x00000000 0x00: eax=0x123456789 ebx=0x00000000 ecx=0x00000000 "
         "edx=0x00000000\n",                                 {"line 2", NULL}                                                 },
        {"CPU 0:\n   0x00000000 0x00: eax=0x00000001 ebx=0x00000000 ecx=0x00000000 edx=0x00000000 "
         "x\n",                                              {"line 2", NULL}                                                 },
        {"CPU 0:\n   0x0000000g 0x00: eax=0x00000001 ebx=0x00000000 ecx=0x00000000 "
         "edx=0x00000000\n",                                 {"line 2", NULL}                                                 },
        {"CPU x:\n" WHOLE,                                            {"line 1", NULL}                                                 },
        {"CPU 0:\n" WHOLE "CPU 0:\n" WHOLE,                           {"line 5: CPU 0 is there twice", NULL}                           },
        {"CPU:\n" WHOLE "CPU 1:\n" WHOLE,                             {"line 5", "cpuid -1"}                                           },
        {"CPU 1:\n" WHOLE "CPU:\n" WHOLE,                             {"line 5", "cpuid -1"}                                           },
        {"CPU 0:\n" LEAF_0 LEAF_0,
         {"line 3: leaf 0x00000000 subleaf 0x00 is there twice", "CPU 0"}                                                              },
        {"CPU 0:\n" LEAF_0 LEAF_E,                                    {"CPU 0 (line 1) lacks its leaf 0x00000001", "cut short"}        },
        {"CPU 7:\n" LEAF_0 LEAF_1,                                    {"CPU 7 (line 1) lacks its leaf 0x80000000", "cut short"}        },
        {"CPU 0:\nCPU 1:\n" WHOLE,                                    {"CPU 0 (line 1) lacks its leaf 0x00000000", NULL}               },
        {"CPU 8192:\n" WHOLE,                                         {"line 1: CPU 8192, expected at most 8191", NULL}                },
        {"CPU 0:\n\x01\xff"
         "bell\n",                                           {"line 2", "found '??bell'"}                                     },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        struct cpu_report *report = NULL;
        int rc = cpu_import_cpuid("n", cases[i].text, strlen(cases[i].text), &report, &err);
        assert_int_equal(rc, -1);
        assert_null(report);
        assert_true(err.kind == ERROR_INVALID || err.kind == ERROR_TOO_LARGE);
        for (size_t k = 0; k < 2 && cases[i].wanted[k]; k++)
            if (!strstr(err.message, cases[i].wanted[k]))
                fail_msg("case %zu: '%s' is not in '%s'", i, cases[i].wanted[k], err.message);
    }
}

static void every_prefix_of_a_text_is_refused(void **state)
{
    (void)state;
    static const char text[] = "CPU 0:\n" WHOLE;
    size_t length = strlen(text);
    struct error err = {0};
    for (size_t i = 0; i < length - 1; i++) {
        autofree char *part = xmalloc(i + 1); /* no NUL behind it, for the sanitizer to see */
        memcpy(part, text, i);
        struct cpu_report *report = NULL;
        int rc = cpu_import_cpuid("n", part, i, &report, &err);
        assert_int_equal(rc, -1);
        assert_null(report);
    }
    AUTO(cpu_report) whole = NULL;
    assert_int_equal(cpu_import_cpuid("n", text, length - 1, &whole, &err), 0);
}

static void sizes_are_bounded(void **state)
{
    (void)state;
    struct error err = {0};
    AUTO(cpu_report) report = NULL;
    assert_int_equal(cpu_import_cpuid("n", "", CPU_IMPORT_MAX_BYTES + 1, &report, &err), -1);
    assert_int_equal(err.kind, ERROR_TOO_LARGE);

    struct text t;
    text_begin(&t);
    fputs("CPU 0:\n", t.out);
    for (uint32_t i = 0; i <= CPU_REPORT_LEAVES_MAX; i++)
        print_leaf(t.out, &(struct cpuid_leaf){.leaf = 4, .subleaf = i});
    text_end(&t);
    assert_int_equal(cpu_import_cpuid("n", t.text, t.size, &report, &err), -1);
    free(t.text);
    assert_int_equal(err.kind, ERROR_TOO_LARGE);
    assert_non_null(strstr(err.message, "line 1026: CPU 0 has more than 1024 leaves"));

    text_begin(&t);
    for (unsigned i = 0; i <= CPU_REPORT_GROUPS_MAX; i++)
        fprintf(t.out,
                "CPU %u:\n" LEAF_0 LEAF_E
                "   0x00000001 0x00: eax=0x%08x ebx=0x00000000 ecx=0x00000000 edx=0x00000000\n",
                i, i);
    text_end(&t);
    assert_int_equal(cpu_import_cpuid("n", t.text, t.size, &report, &err), -1);
    free(t.text);
    assert_int_equal(err.kind, ERROR_TOO_LARGE);
    assert_non_null(strstr(err.message, "more than 256 CPUs that differ"));
}

static void a_bad_name_is_refused(void **state)
{
    (void)state;
    static const char text[] = "CPU:\n" WHOLE;
    struct error err = {0};
    AUTO(cpu_report) report = NULL;
    assert_int_equal(cpu_import_cpuid("no/name", text, strlen(text), &report, &err), -1);
    assert_non_null(strstr(err.message, "node"));
}

static void kinds_of_files_are_told_apart(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool cpuid;
    } cases[] = {
        {"CPU:\n",         true },
        {"\n  CPU 0:\r\n", true },
        {"{\"schema\":",   false},
        {"",               false},
        {"CP",             false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(cpu_import_looks_like_cpuid(cases[i].text, strlen(cases[i].text)),
                         cases[i].cpuid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_cpu_of_dash_1),
        cmocka_unit_test(like_cpus_become_one_group),
        cmocka_unit_test(unlike_cpus_stay_apart),
        cmocka_unit_test(what_one_lacks_the_node_lacks),
        cmocka_unit_test(nonsense_is_named_with_its_line),
        cmocka_unit_test(every_prefix_of_a_text_is_refused),
        cmocka_unit_test(sizes_are_bounded),
        cmocka_unit_test(a_bad_name_is_refused),
        cmocka_unit_test(kinds_of_files_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
