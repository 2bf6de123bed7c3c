/* SPDX-License-Identifier: Apache-2.0 */
/* test_verdict.c - each rule alone, on invented machines. */
#include <stdio.h>
#include <string.h>

#include "cmocka_test.h"
#include "cpu_profile_data.h"
#include "cpu_samples.h"
#include "mask.h"
#include "verdict.h"

static struct verdict judge(struct cpu_profile *need, struct cpu_profile *target)
{
    struct verdict v = {0};
    const struct verdict_policy policy = {.mix_vendors = false};
    verdict_judge(need, target, "node-a", "node-c", &policy, &v);
    verdict_sort(&v);
    return v;
}

static const struct verdict_reason *find(const struct verdict *v, enum verdict_code code,
                                         int feature)
{
    for (size_t i = 0; i < v->reason_count; i++)
        if (v->reasons[i].code == code && (feature < 0 || v->reasons[i].feature == feature))
            return &v->reasons[i];
    return NULL;
}

static size_t count_rejects(const struct verdict *v)
{
    size_t count = 0;
    for (size_t i = 0; i < v->reason_count; i++)
        count += v->reasons[i].severity == VERDICT_REJECT;
    return count;
}

/* A pair of alike machines of which one is changed. */
static struct verdict judge_pair(const char *name, void (*change)(struct cpu_report *),
                                 bool change_source)
{
    struct cpu_report *changed = sample_report(name);
    change(changed);
    AUTO(cpu_profile) other = profile_of(changed);
    AUTO(cpu_profile) plain = sample_profile(name);
    return change_source ? judge(other, plain) : judge(plain, other);
}

static void alike_is_approved_without_a_word(void **state)
{
    (void)state;
    static const char *const names[] = {"haswell", "zen4", "lesser-intel", "lesser-amd"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        AUTO(cpu_profile) a = sample_profile(names[i]);
        AUTO(cpu_profile) b = sample_profile(names[i]);
        struct verdict v = judge(a, b);
        assert_false(v.rejected);
        assert_int_equal(v.reason_count, 0);
        verdict_done(&v);
    }
}

static void a_missing_feature_is_told_in_full(void **state)
{
    (void)state;
    AUTO(cpu_profile) haswell = sample_profile("haswell");
    AUTO(cpu_profile) lesser = sample_profile("lesser-intel");
    struct verdict v = judge(haswell, lesser);
    assert_true(v.rejected);
    const struct verdict_reason *r = find(&v, VERDICT_MISSING_FEATURE, CPU_FEATURE_AVX2);
    assert_non_null(r);
    assert_int_equal(r->severity, VERDICT_REJECT);
    assert_int_equal(r->effect, CPU_EFFECT_SIGILL);
    assert_string_equal(r->message, "node-c lacks avx2 (leaf 7 EBX bit 5); a process born on "
                                    "node-a may use it and would die of SIGILL");
    assert_non_null(r->remedy);
    assert_non_null(find(&v, VERDICT_MISSING_FEATURE, CPU_FEATURE_FMA));
    const struct verdict_reason *hint = find(&v, VERDICT_HINT, CPU_FEATURE_ERMS);
    assert_int_equal(hint->severity, VERDICT_WARN);
    assert_string_equal(hint->message, "node-c lacks erms (leaf 7 EBX bit 9): fast REP MOVSB; a "
                                       "process born on node-a works without it");

    autojson *json = verdict_to_json(&v, "node-a", "node-c");
    assert_string_equal(json_str(json, "verdict"), "reject");
    assert_string_equal(json_str(json, "from"), "node-a");
    json_object *reasons = json_member(json, "reasons"), *avx2 = NULL;
    for (size_t i = 0; i < json_array_size(reasons); i++)
        if (strcmp(json_str(json_array_item(reasons, i), "feature"), "avx2") == 0)
            avx2 = json_array_item(reasons, i);
    assert_string_equal(json_str(avx2, "code"), "missing_feature");
    assert_string_equal(json_str(avx2, "severity"), "reject");
    assert_string_equal(json_str(avx2, "leaf"), "0x00000007");
    assert_string_equal(json_str(avx2, "subleaf"), "0x00000000");
    assert_string_equal(json_str(avx2, "register"), "ebx");
    assert_int_equal(json_int(avx2, "bit"), 5);
    assert_int_equal(json_int(avx2, "source"), 1);
    assert_int_equal(json_int(avx2, "target"), 0);
    assert_string_equal(json_str(avx2, "effect"), "sigill");
    verdict_done(&v);
}

static void the_way_back_is_open(void **state)
{
    (void)state;
    AUTO(cpu_profile) haswell = sample_profile("haswell");
    AUTO(cpu_profile) lesser = sample_profile("lesser-intel");
    struct verdict v = judge(lesser, haswell);
    assert_false(v.rejected);
    verdict_done(&v);
    AUTO(cpu_profile) zen4 = sample_profile("zen4");
    AUTO(cpu_profile) lesser_amd = sample_profile("lesser-amd");
    v = judge(zen4, lesser_amd);
    assert_true(v.rejected);
    verdict_done(&v);
}

static void drop_lzcnt(struct cpu_report *r)
{
    sample_set(r, "abm", false);
}

static void drop_tzcnt(struct cpu_report *r)
{
    sample_set(r, "bmi1", false);
}

static void lzcnt_and_tzcnt_are_silent(void **state)
{
    (void)state;
    struct verdict v = judge_pair("haswell", drop_lzcnt, false);
    assert_int_equal(count_rejects(&v), 1);
    assert_int_equal(v.reasons[0].feature, CPU_FEATURE_ABM);
    assert_int_equal(v.reasons[0].effect, CPU_EFFECT_SILENT);
    assert_non_null(strstr(v.reasons[0].message, "wrong results, without any fault"));
    verdict_done(&v);
    v = judge_pair("haswell", drop_tzcnt, false);
    assert_int_equal(v.reasons[0].feature, CPU_FEATURE_BMI1);
    assert_int_equal(v.reasons[0].effect, CPU_EFFECT_SILENT);
    verdict_done(&v);
}

static void set_unknown(struct cpu_report *r)
{
    sample_set_bit(r, 7, 0, CPU_EDX, 0, true);
}

static void set_unknown_leaf(struct cpu_report *r)
{
    sample_leaf(r, 0, 0)->eax = 0x2a;
    sample_leaf(r, 0x2a, 0)->ecx = 4;
}

static void what_is_not_known_is_refused(void **state)
{
    (void)state;
    struct verdict v = judge_pair("haswell", set_unknown, true);
    assert_int_equal(count_rejects(&v), 1);
    assert_int_equal(v.reasons[0].code, VERDICT_UNKNOWN_FEATURE);
    assert_int_equal(v.reasons[0].bit, 0);
    assert_int_equal(v.reasons[0].source, 1);
    assert_int_equal(v.reasons[0].target, 0);
    verdict_done(&v);
    v = judge_pair("haswell", set_unknown, false); /* only the target has it: no harm */
    assert_int_equal(v.reason_count, 0);
    verdict_done(&v);
    v = judge_pair("haswell", set_unknown_leaf, true);
    assert_int_equal(v.reasons[0].code, VERDICT_UNKNOWN_FEATURE);
    assert_int_equal(v.reasons[0].leaf, 0x2a);
    assert_true(v.rejected);
    verdict_done(&v);

    struct cpu_report *r = sample_report("haswell"), *s = sample_report("haswell");
    set_unknown(r);
    set_unknown(s);
    AUTO(cpu_profile) a = profile_of(r);
    AUTO(cpu_profile) b = profile_of(s);
    v = judge(a, b);
    assert_false(v.rejected);
    assert_int_equal(v.reasons[0].code, VERDICT_UNKNOWN_FEATURE);
    assert_int_equal(v.reasons[0].severity, VERDICT_WARN);
    verdict_done(&v);
}

static void move_pkru(struct cpu_report *r)
{
    sample_leaf(r, 0xd, 9)->ebx = 2688;
}

static void zero_pkru(struct cpu_report *r)
{
    sample_leaf(r, 0xd, 9)->eax = 0;
    sample_leaf(r, 0xd, 9)->ebx = 0;
}

static void disable_pkru(struct cpu_report *r)
{
    r->groups[0].xcr0 &= ~(UINT64_C(1) << 9);
}

static void xsave_layouts_must_agree(void **state)
{
    (void)state;
    struct verdict v = judge_pair("zen4", move_pkru, false);
    assert_int_equal(count_rejects(&v), 1);
    assert_int_equal(v.reasons[0].code, VERDICT_XSAVE_LAYOUT);
    assert_int_equal(v.reasons[0].effect, CPU_EFFECT_CORRUPTION);
    assert_int_equal(v.reasons[0].source, 2432);
    assert_int_equal(v.reasons[0].target, 2688);
    verdict_done(&v);

    v = judge_pair("zen4", zero_pkru, false);
    assert_int_equal(count_rejects(&v), 1);
    assert_int_equal(v.reasons[0].code, VERDICT_UNKNOWN_STATE);
    assert_non_null(strstr(v.reasons[0].message, "(pkru) lies is not known of node-c;"));
    verdict_done(&v);
    v = judge_pair("zen4", zero_pkru, true);
    assert_non_null(strstr(v.reasons[0].message, "not known of node-a;"));
    verdict_done(&v);

    v = judge_pair("zen4", disable_pkru, false);
    assert_non_null(find(&v, VERDICT_MISSING_FEATURE, CPU_FEATURE_PKU));
    assert_non_null(find(&v, VERDICT_XSAVE_COMPONENT, -1));
    assert_true(v.rejected);
    verdict_done(&v);
}

static void add_avx512(struct cpu_report *r)
{
    sample_set_component(r, 5, 64, 1088);
    sample_set_component(r, 6, 512, 1152);
    sample_set_component(r, 7, 1024, 1664);
    sample_set(r, "avx512f", true);
}

static void add_avx512_and_xsavec(struct cpu_report *r)
{
    add_avx512(r);
    sample_set(r, "xsavec", true);
}

static void add_pkru(struct cpu_report *r)
{
    sample_set_component(r, 9, 8, 2688);
    sample_set(r, "pku", true);
    sample_set(r, "ospke", true);
}

/* The area's danger goes one way: more on the target, and only to who saves it all. */
static void a_larger_area_is_fatal_to_plain_xsave(void **state)
{
    (void)state;
    struct verdict v = judge_pair("haswell", add_avx512_and_xsavec, false);
    assert_int_equal(count_rejects(&v), 1);
    assert_int_equal(v.reasons[0].code, VERDICT_XSAVE_LARGER);
    assert_int_equal(v.reasons[0].source, 832);
    assert_int_equal(v.reasons[0].target, 2688);
    assert_int_equal(v.reasons[0].effect, CPU_EFFECT_CORRUPTION);
    verdict_done(&v);

    /* PKRU is not among what the loader saves */
    v = judge_pair("haswell", add_pkru, false);
    assert_false(v.rejected);
    assert_int_equal(find(&v, VERDICT_XSAVE_LARGER, -1)->severity, VERDICT_WARN);
    verdict_done(&v);

    /* a source with XSAVEC writes only what is in use */
    struct cpu_report *r = sample_report("haswell"), *s = sample_report("haswell");
    sample_set(r, "xsavec", true);
    add_avx512_and_xsavec(s);
    AUTO(cpu_profile) source = profile_of(r);
    AUTO(cpu_profile) target = profile_of(s);
    v = judge(source, target);
    assert_false(v.rejected);
    const struct verdict_reason *warned = find(&v, VERDICT_XSAVE_LARGER, -1);
    assert_int_equal(warned->severity, VERDICT_WARN);
    assert_non_null(strstr(warned->message, "reaches 1600 bytes further")); /* and may fault */
    verdict_done(&v);

    /* without XSAVE on the source nobody saves anything */
    r = sample_report("haswell");
    sample_set(r, "osxsave", false);
    AUTO(cpu_profile) none = profile_of(r);
    v = judge(none, target);
    assert_null(find(&v, VERDICT_XSAVE_LARGER, -1));
    assert_false(v.rejected);
    verdict_done(&v);
}

static void take_fsgsbase(struct cpu_report *r)
{
    r->os.hwcap2 = 0;
}

static void fsgsbase_is_the_kernels(void **state)
{
    (void)state;
    struct verdict v = judge_pair("haswell", take_fsgsbase, false);
    assert_int_equal(count_rejects(&v), 1);
    assert_int_equal(v.reasons[0].feature, CPU_FEATURE_FSGSBASE);
    verdict_done(&v);
    v = judge_pair("haswell", take_fsgsbase, true);
    assert_false(v.rejected);
    verdict_done(&v);
}

static void grow_signal_stack(struct cpu_report *r)
{
    r->os.minsigstksz = 11952;
}

static void forget_signal_stack(struct cpu_report *r)
{
    r->os.minsigstksz_known = false;
}

static void larger_signal_stacks_are_a_warning(void **state)
{
    (void)state;
    struct verdict v = judge_pair("zen4", grow_signal_stack, false);
    assert_false(v.rejected);
    assert_int_equal(v.reason_count, 1);
    assert_int_equal(v.reasons[0].code, VERDICT_SIGNAL_STACK);
    verdict_done(&v);
    v = judge_pair("zen4", grow_signal_stack, true);
    assert_int_equal(v.reason_count, 0);
    verdict_done(&v);
    v = judge_pair("zen4", forget_signal_stack, false);
    assert_int_equal(v.reason_count, 0);
    verdict_done(&v);
}

static void change_line(struct cpu_report *r)
{
    sample_leaf(r, 1, 0)->ebx = (sample_leaf(r, 1, 0)->ebx & ~0xff00U) | 16 << 8;
}

static void shorten(struct cpu_report *r)
{
    sample_leaf(r, 0x80000008, 0)->eax = 40 << 8 | 36;
}

static void clear_zero_fcs_fds(struct cpu_report *r)
{
    sample_set(r, "zero_fcs_fds", false);
}

static void forget_xcr0(struct cpu_report *r)
{
    r->groups[0].xcr0_known = false;
}

static void values_limits_and_behaviours(void **state)
{
    (void)state;
    struct verdict v = judge_pair("haswell", change_line, false);
    assert_int_equal(count_rejects(&v), 1);
    assert_int_equal(v.reasons[0].code, VERDICT_VALUE_DIFFERS);
    assert_int_equal(v.reasons[0].source, 8);
    assert_int_equal(v.reasons[0].target, 16);
    verdict_done(&v);

    v = judge_pair("haswell", shorten, false); /* physical bits harm nobody */
    assert_false(v.rejected);
    assert_int_equal(v.reason_count, 1);
    assert_int_equal(v.reasons[0].code, VERDICT_LIMIT);
    assert_non_null(strstr(v.reasons[0].message, "linear_bits is lower on node-c"));
    verdict_done(&v);

    v = judge_pair("haswell", clear_zero_fcs_fds, true);
    assert_int_equal(v.reason_count, 1);
    assert_int_equal(v.reasons[0].code, VERDICT_BEHAVIOUR);
    assert_int_equal(v.reasons[0].severity, VERDICT_WARN);
    verdict_done(&v);

    v = judge_pair("haswell", forget_xcr0, false);
    assert_false(v.rejected);
    assert_int_equal(v.reason_count, 1);
    assert_int_equal(v.reasons[0].code, VERDICT_UNKNOWN_STATE);
    assert_int_equal(v.reasons[0].severity, VERDICT_WARN);
    verdict_done(&v);
}

static void vendors_mix_only_by_policy(void **state)
{
    (void)state;
    AUTO(cpu_profile) amd = sample_profile("lesser-amd");
    struct cpu_report *r = sample_report("lesser-amd");
    struct cpuid_leaf *l = sample_leaf(r, 0, 0);
    l->ebx = 0x6f677948, l->edx = 0x6e65476e, l->ecx = 0x656e6975; /* HygonGenuine */
    AUTO(cpu_profile) hygon = profile_of(r);
    struct verdict v = judge(amd, hygon);
    assert_int_equal(count_rejects(&v), 1);
    assert_int_equal(v.reasons[0].code, VERDICT_VENDOR);
    verdict_done(&v);
    const struct verdict_policy mix = {.mix_vendors = true};
    verdict_judge(amd, hygon, "a", "b", &mix, &v);
    assert_false(v.rejected);
    assert_int_equal(find(&v, VERDICT_VENDOR, -1)->severity, VERDICT_WARN);
    verdict_done(&v);
}

static void zen4_and_intel_clash_in_opmask_and_pkru(void **state)
{
    (void)state;
    struct cpu_report *r = sample_report("zen4");
    sample_leaf(r, 0xd, 5)->ebx = 1088;
    sample_leaf(r, 0xd, 6)->ebx = 1152;
    sample_leaf(r, 0xd, 7)->ebx = 1664;
    sample_leaf(r, 0xd, 9)->ebx = 2688;
    AUTO(cpu_profile) intel = profile_of(r);
    AUTO(cpu_profile) zen4 = sample_profile("zen4");
    struct verdict v = judge(zen4, intel);
    size_t conflicts = 0;
    for (size_t i = 0; i < v.reason_count; i++)
        conflicts += v.reasons[i].code == VERDICT_XSAVE_LAYOUT;
    assert_int_equal(conflicts, 4);
    verdict_done(&v);
}

static void reasons_of_other_origin_are_kept_and_sorted(void **state)
{
    (void)state;
    struct verdict v = {0};
    verdict_add(&v, VERDICT_NODE_IMPORTED, VERDICT_WARN, NULL, "node %s was imported", "x");
    for (int i = 0; i < 20; i++)
        verdict_add(&v, VERDICT_HINT, VERDICT_WARN, NULL, "hint %d", i);
    verdict_add(&v, VERDICT_NODE_SILENT, VERDICT_REJECT, "start its agent", "silent for 9 s");
    assert_true(v.rejected);
    verdict_sort(&v);
    assert_int_equal(v.reason_count, 22);
    assert_int_equal(v.reasons[0].code, VERDICT_NODE_SILENT);
    assert_string_equal(v.reasons[0].remedy, "start its agent");
    assert_int_equal(v.reasons[1].code, VERDICT_NODE_IMPORTED);
    assert_string_equal(v.reasons[2].message, "hint 0");
    assert_string_equal(v.reasons[21].message, "hint 19");
    autojson *json = verdict_to_json(&v, "a", NULL);
    assert_null(json_member(json, "to"));
    assert_false(json_member(json_array_item(json_member(json, "reasons"), 0), "leaf") != NULL);
    verdict_done(&v);
    assert_int_equal(v.reason_count, 0);
}

static void every_code_is_documented(void **state)
{
    (void)state;
    static char text[256 * 1024];
    FILE *file = fopen(SOURCE_DIR "/docs/verdict.md", "re");
    assert_non_null(file);
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    fclose(file);
    for (unsigned i = 0; i < VERDICT_CODE_COUNT; i++) {
        char heading[128];
        snprintf(heading, sizeof(heading), "\n### `%s`\n", verdict_code_name((enum verdict_code)i));
        if (!strstr(text, heading))
            fail_msg("docs/verdict.md has no heading for '%s'",
                     verdict_code_name((enum verdict_code)i));
        assert_true(strlen(verdict_code_meaning((enum verdict_code)i)) > 10);
    }
    file = fopen(SOURCE_DIR "/schema/openapi.yaml", "re");
    assert_non_null(file);
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    fclose(file);
    for (unsigned i = 0; i < VERDICT_CODE_COUNT; i++) {
        char item[128];
        snprintf(item, sizeof(item), "        - %s\n", verdict_code_name((enum verdict_code)i));
        if (!strstr(text, item))
            fail_msg("schema/openapi.yaml lacks '%s'", verdict_code_name((enum verdict_code)i));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alike_is_approved_without_a_word),
        cmocka_unit_test(a_missing_feature_is_told_in_full),
        cmocka_unit_test(the_way_back_is_open),
        cmocka_unit_test(lzcnt_and_tzcnt_are_silent),
        cmocka_unit_test(what_is_not_known_is_refused),
        cmocka_unit_test(xsave_layouts_must_agree),
        cmocka_unit_test(a_larger_area_is_fatal_to_plain_xsave),
        cmocka_unit_test(fsgsbase_is_the_kernels),
        cmocka_unit_test(larger_signal_stacks_are_a_warning),
        cmocka_unit_test(values_limits_and_behaviours),
        cmocka_unit_test(vendors_mix_only_by_policy),
        cmocka_unit_test(zen4_and_intel_clash_in_opmask_and_pkru),
        cmocka_unit_test(reasons_of_other_origin_are_kept_and_sorted),
        cmocka_unit_test(every_code_is_documented),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
