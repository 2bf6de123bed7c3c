/* SPDX-License-Identifier: Apache-2.0 */
/* test_mask.c - pools of invented machines. */
#include <string.h>

#include "cmocka_test.h"
#include "cpu_profile_data.h"
#include "cpu_samples.h"
#include "mask.h"
#include "tally.h"
#include "verdict.h"

static struct cpu_profile *mask_of(struct cpu_profile *const *members, size_t count)
{
    AUTO(mask) mask = mask_new();
    for (size_t i = 0; i < count; i++)
        mask_add(mask, members[i]);
    return mask_profile(mask);
}

static void an_empty_pool_has_no_mask(void **state)
{
    (void)state;
    AUTO(mask) mask = mask_new();
    assert_null(mask_profile(mask));
    AUTO(cpu_profile) p = sample_profile("zen4");
    mask_add(mask, p);
    assert_int_equal(mask_member_count(mask), 1);
    mask_remove(mask, p);
    assert_int_equal(mask_member_count(mask), 0);
    assert_null(mask_profile(mask));
}

static void the_mask_is_what_all_have(void **state)
{
    (void)state;
    AUTO(cpu_profile) haswell = sample_profile("haswell");
    AUTO(cpu_profile) lesser = sample_profile("lesser-intel");
    struct cpu_profile *const members[] = {haswell, lesser};
    AUTO(cpu_profile) mask = mask_of(members, 2);
    assert_true(cpu_profile_has(mask, CPU_FEATURE_AVX));
    assert_false(cpu_profile_has(mask, CPU_FEATURE_AVX2));
    assert_string_equal(cpu_profile_level(mask), "x86-64-v2");
    assert_string_equal(cpu_profile_vendor(mask), "GenuineIntel");
    assert_true(cpu_profile_has(mask, CPU_FEATURE_ZERO_FCS_FDS)); /* a behaviour: any */

    autojson *lost = mask_lost(mask, haswell);
    bool avx2 = false;
    for (size_t i = 0; i < json_array_size(lost); i++) {
        assert_string_not_equal(json_item_str(lost, i), "smep");
        avx2 = avx2 || strcmp(json_item_str(lost, i), "avx2") == 0;
    }
    assert_true(avx2);
    autojson *nothing = mask_lost(mask, lesser);
    assert_int_equal(json_array_size(nothing), 0);
}

static void leaving_gives_back(void **state)
{
    (void)state;
    AUTO(cpu_profile) haswell = sample_profile("haswell");
    AUTO(cpu_profile) lesser = sample_profile("lesser-intel");
    AUTO(mask) mask = mask_new();
    mask_add(mask, haswell);
    AUTO(cpu_profile) before = mask_profile(mask);
    mask_add(mask, lesser);
    mask_add(mask, lesser);
    mask_remove(mask, lesser);
    AUTO(cpu_profile) between = mask_profile(mask);
    mask_remove(mask, lesser);
    AUTO(cpu_profile) after = mask_profile(mask);
    assert_false(cpu_profile_equal(before, between));
    assert_true(cpu_profile_equal(before, after));
    char a[65], b[65], c[65];
    mask_profile_digest(before, a);
    mask_profile_digest(between, b);
    mask_profile_digest(after, c);
    assert_string_equal(a, c);
    assert_string_not_equal(a, b);
}

static void dependencies_are_closed_over(void **state)
{
    (void)state;
    struct cpu_report *r = sample_report("zen4");
    sample_set(r, "avx512vl", false);
    AUTO(cpu_profile) a = profile_of(r);
    AUTO(cpu_profile) b = sample_profile("zen4");
    struct cpu_profile *const members[] = {a, b};
    AUTO(cpu_profile) mask = mask_of(members, 2);
    assert_true(cpu_profile_has(mask, CPU_FEATURE_AVX512F));
    assert_true(cpu_profile_has(mask, CPU_FEATURE_AVX512VBMI));
    assert_false(cpu_profile_has(mask, CPU_FEATURE_AVX512_VNNI)); /* needs VL */
    assert_true(cpu_profile_has(a, CPU_FEATURE_AVX512_VNNI));     /* a fact of the node */
}

static void conflicting_components_take_their_features_along(void **state)
{
    (void)state;
    struct cpu_report *r = sample_report("zen4");
    sample_leaf(r, 0xd, 5)->ebx = 1088;
    AUTO(cpu_profile) a = profile_of(r);
    AUTO(cpu_profile) b = sample_profile("zen4");
    struct cpu_profile *const members[] = {a, b};
    AUTO(cpu_profile) mask = mask_of(members, 2);
    assert_false(cpu_profile_has(mask, CPU_FEATURE_AVX512F));
    assert_false(cpu_profile_has(mask, CPU_FEATURE_AVX512_FP16));
    assert_true(cpu_profile_has(mask, CPU_FEATURE_VAES));
    uint64_t xcr0 = 0;
    assert_true(cpu_profile_xcr0(mask, &xcr0));
    assert_int_equal(xcr0, 0x207); /* zmm_hi256 and hi16_zmm are of no use without opmask */
    assert_int_equal(cpu_profile_xsave_size(mask), 2440);
}

static void sizes_are_recomputed_and_the_area_is_the_largest(void **state)
{
    (void)state;
    AUTO(cpu_profile) zen4 = sample_profile("zen4");
    AUTO(cpu_profile) lesser = sample_profile("lesser-amd");
    struct cpu_profile *const members[] = {zen4, lesser};
    AUTO(cpu_profile) mask = mask_of(members, 2);
    assert_int_equal(cpu_profile_xsave_size(mask), 832);
    assert_int_equal(mask->area_bytes, 2440);
    autojson *json = mask_profile_to_json(mask);
    json_object *xsave = json_member(json, "xsave");
    assert_string_equal(json_str(xsave, "xcr0"), "0x0000000000000007");
    assert_int_equal(json_int(xsave, "size"), 832);
    assert_int_equal(json_int(xsave, "area_bytes"), 2440);
    json_object *avx = json_array_item(json_member(xsave, "components"), 2);
    assert_int_equal(json_int(avx, "id"), 2);
    assert_string_equal(json_str(avx, "name"), "avx");
    assert_int_equal(json_int(avx, "size"), 256);
    assert_int_equal(json_int(avx, "offset"), 576);
    /* so a process born under the mask may live on each member, without XSAVEC as well */
    struct verdict v = {0};
    verdict_judge(mask, zen4, "pool", "zen4", NULL, &v);
    assert_false(v.rejected);
    verdict_done(&v);
}

static void unknown_layouts_and_bits_stay_out(void **state)
{
    (void)state;
    struct cpu_report *r = sample_report("zen4");
    *sample_leaf(r, 0xd, 9) = (struct cpuid_leaf){.leaf = 0xd, .subleaf = 9};
    sample_set_bit(r, 7, 0, CPU_EDX, 0, true);
    AUTO(cpu_profile) p = profile_of(r);
    struct cpu_profile *const members[] = {p, p};
    AUTO(cpu_profile) mask = mask_of(members, 2);
    assert_false(cpu_profile_has(mask, CPU_FEATURE_PKU));
    assert_int_equal(mask->unknown_count, 0);
    assert_true(cpu_profile_has(mask, CPU_FEATURE_AVX512F));
}

static void an_unknown_area_takes_xsave_along(void **state)
{
    (void)state;
    struct cpu_report *r = sample_report("haswell");
    r->groups[0].xcr0_known = false;
    sample_drop_leaf(r, 0xd, 0);
    sample_drop_leaf(r, 0xd, 2);
    AUTO(cpu_profile) vague = profile_of(r);
    AUTO(cpu_profile) clear = sample_profile("haswell");
    struct cpu_profile *const members[] = {vague, clear};
    AUTO(cpu_profile) mask = mask_of(members, 2);
    assert_false(cpu_profile_has(mask, CPU_FEATURE_XSAVE));
    assert_false(cpu_profile_has(mask, CPU_FEATURE_AVX));
    assert_true(cpu_profile_has(mask, CPU_FEATURE_SSE4_2));
    struct verdict v = {0};
    verdict_judge(mask, vague, "pool", "member", NULL, &v);
    assert_false(v.rejected);
    verdict_done(&v);
}

static void a_mask_without_xsavec_knows_its_danger(void **state)
{
    (void)state;
    AUTO(cpu_profile) haswell = sample_profile("haswell");
    AUTO(cpu_profile) lesser = sample_profile("lesser-intel");
    struct cpu_profile *const members[] = {haswell, lesser};
    AUTO(cpu_profile) mask = mask_of(members, 2);
    struct cpu_report *r = sample_report("haswell");
    sample_set_component(r, 5, 64, 1088);
    sample_set_component(r, 6, 512, 1152);
    sample_set_component(r, 7, 1024, 1664);
    AUTO(cpu_profile) outside = profile_of(r);
    struct verdict v = {0};
    verdict_judge(mask, outside, "pool", "outside", NULL, &v);
    assert_true(v.rejected);
    assert_int_equal(v.reasons[0].code, VERDICT_XSAVE_LARGER);
    verdict_done(&v);
}

/* What XSAVEC has saved on a member that enables more, XRSTOR refuses on one that enables less. */
static void xsavec_is_for_members_that_save_alike(void **state)
{
    (void)state;
    struct cpu_report *more = sample_report("haswell"), *less = sample_report("haswell");
    struct cpu_report *keys = sample_report("haswell");
    sample_set(more, "xsavec", true);
    sample_set(less, "xsavec", true);
    sample_set(keys, "xsavec", true);
    sample_set_component(more, 5, 64, 1088);
    sample_set_component(keys, 9, 8, 2688); /* PKRU is nothing that the loader saves */
    AUTO(cpu_profile) a = profile_of(more);
    AUTO(cpu_profile) b = profile_of(less);
    AUTO(cpu_profile) c = profile_of(keys);
    AUTO(cpu_profile) alike = mask_of((struct cpu_profile *const[]){b, c}, 2);
    AUTO(cpu_profile) unlike = mask_of((struct cpu_profile *const[]){a, b}, 2);
    assert_false(alike->plain_xsave);
    assert_true(unlike->plain_xsave);
    assert_true(cpu_profile_has(unlike, CPU_FEATURE_XSAVEC)); /* for virtual machines */
    char hex[2][65];
    AUTO(cpu_profile) lesser = mask_of((struct cpu_profile *const[]){b, b}, 2);
    mask_profile_digest(unlike, hex[0]);
    mask_profile_digest(lesser, hex[1]);
    assert_string_not_equal(hex[0], hex[1]); /* it takes a new epoch */

    AUTO(mask) pool = mask_new();
    mask_add(pool, a);
    mask_add(pool, b);
    mask_remove(pool, a);
    AUTO(cpu_profile) rest = mask_profile(pool);
    assert_false(rest->plain_xsave);
}

static void moves_add_what_xsavec_saves_there(void **state)
{
    (void)state;
    struct cpu_report *more = sample_report("haswell"), *less = sample_report("haswell");
    sample_set(more, "xsavec", true);
    sample_set(less, "xsavec", true);
    sample_set_component(more, 5, 64, 1088);
    sample_set_component(more, 9, 8, 2688);
    AUTO(cpu_profile) a = profile_of(more);
    AUTO(cpu_profile) b = profile_of(less);
    AUTO(cpu_profile) born = mask_of((struct cpu_profile *const[]){b}, 1);
    AUTO(cpu_profile) hidden = mask_of((struct cpu_profile *const[]){a, b}, 2);
    AUTO(cpu_profile) stayed = mask_moved(born, b);
    AUTO(cpu_profile) moved = mask_moved(born, a);
    AUTO(cpu_profile) plain = mask_moved(hidden, a);
    assert_ptr_equal(stayed, born);
    assert_ptr_equal(plain, hidden);
    assert_int_equal(moved->enabled, born->enabled | 1U << 5); /* PKRU is not the loader's */
    assert_int_equal(cpu_profile_component(moved, 5)->offset_bytes, 1088);
    struct verdict v = {0};
    verdict_judge(moved, b, "a", "b", NULL, &v); /* it may not go back */
    assert_true(v.rejected);
    assert_int_equal(v.reasons[0].code, VERDICT_XSAVE_COMPONENT);
    verdict_done(&v);
}

/* The settings of a pool where one lacks XSAVEC make glibc save all into what it sized here. */
static void settings_without_xsavec_make_plain_xsave(void **state)
{
    (void)state;
    struct cpu_report *with = sample_report("haswell");
    sample_set(with, "xsavec", true);
    AUTO(cpu_profile) node = profile_of(with);
    AUTO(cpu_profile) haswell = sample_profile("haswell");
    AUTO(cpu_profile) pool = mask_of((struct cpu_profile *const[]){node, haswell}, 2);
    AUTO(cpu_profile) alike = mask_of((struct cpu_profile *const[]){node}, 1);
    AUTO(cpu_profile) advised = mask_advised(node, pool);
    AUTO(cpu_profile) untouched = mask_advised(node, alike);
    assert_false(node->plain_xsave);
    assert_true(advised->plain_xsave);
    assert_true(cpu_profile_has(advised, CPU_FEATURE_XSAVEC));
    assert_ptr_equal(untouched, node);
}

static void unlike_cpus_of_one_node_drop_the_feature(void **state)
{
    (void)state;
    struct cpu_report *r = sample_report("haswell");
    sample_add_lesser_group(r, "erms");
    for (size_t i = 0; i < r->groups[1].leaf_count; i++)
        if (r->groups[1].leaves[i].leaf == 1)
            r->groups[1].leaves[i].ebx = 16 << 8;
    AUTO(cpu_profile) node = profile_of(r);
    AUTO(cpu_profile) plain = sample_profile("haswell");
    struct verdict v = {0};
    verdict_judge(plain, node, "a", "b", NULL, &v);
    assert_true(v.rejected);
    verdict_done(&v);
    struct cpu_profile *const members[] = {node};
    AUTO(cpu_profile) mask = mask_of(members, 1);
    assert_false(cpu_profile_has(mask, CPU_FEATURE_CLFLUSH));
    verdict_judge(mask, node, "pool", "b", NULL, &v);
    assert_false(v.rejected);
    verdict_done(&v);
}

static void equal_values_that_differ_drop_the_feature(void **state)
{
    (void)state;
    struct cpu_report *r = sample_report("haswell");
    sample_leaf(r, 1, 0)->ebx = 16 << 8;
    AUTO(cpu_profile) a = profile_of(r);
    AUTO(cpu_profile) b = sample_profile("haswell");
    struct cpu_profile *const members[] = {a, b};
    AUTO(cpu_profile) mask = mask_of(members, 2);
    assert_false(cpu_profile_has(mask, CPU_FEATURE_CLFLUSH));
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        struct verdict v = {0};
        verdict_judge(mask, members[i], "pool", "member", NULL, &v);
        assert_false(v.rejected);
        verdict_done(&v);
    }
}

static void registers_hold_what_every_member_has(void **state)
{
    (void)state;
    AUTO(cpu_profile) haswell = sample_profile("haswell");
    AUTO(cpu_profile) lesser = sample_profile("lesser-intel");
    struct cpu_profile *const members[] = {haswell, lesser};
    AUTO(cpu_profile) mask = mask_of(members, 2);
    autojson *json = mask_profile_to_json(mask);
    json_object *rows = json_member(json, "registers");
    size_t leaf1 = 0;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        json_object *row = json_array_item(rows, i);
        if (strcmp(json_str(row, "leaf"), "0x00000001") == 0) {
            leaf1++;
            /* AVX, AES, XSAVE, POPCNT, SSE4, CX16, SSSE3, PCLMULQDQ, SSE3; no OSXSAVE, no PCID */
            assert_string_equal(json_str(row, "ecx"), "0x16982203");
            assert_string_equal(json_str(row, "eax"), "0x00000000");
        }
        if (strcmp(json_str(row, "leaf"), "0x00000007") == 0)
            assert_string_equal(json_str(row, "ebx"), "0x00000000");
    }
    assert_int_equal(leaf1, 1);
    assert_string_equal(json_str(json, "level"), "x86-64-v2");
    assert_string_equal(json_item_str(json_member(json, "behaviours"), 0), "zero_fcs_fds");
    assert_int_equal(json_int(json_member(json, "values"), "linear_bits"), 48);
}

static void tallies_keep_the_extremes(void **state)
{
    (void)state;
    struct tally t = {0};
    assert_int_equal(tally_least(&t), 0);
    tally_count(&t, 9, 1);
    tally_count(&t, 3, 1);
    tally_count(&t, 9, 1);
    tally_count(&t, 5, 1);
    assert_int_equal(tally_least(&t), 3);
    assert_int_equal(tally_most(&t), 9);
    assert_int_equal(tally_total(&t), 4);
    tally_count(&t, 3, -1);
    tally_count(&t, 9, -1);
    assert_int_equal(tally_least(&t), 5);
    assert_int_equal(tally_most(&t), 9);
    assert_false(tally_holds(&t, 3));
    assert_false(tally_is_uniform(&t));
    tally_count(&t, 9, -1);
    assert_true(tally_is_uniform(&t));
    tally_done(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_pool_has_no_mask),
        cmocka_unit_test(the_mask_is_what_all_have),
        cmocka_unit_test(leaving_gives_back),
        cmocka_unit_test(dependencies_are_closed_over),
        cmocka_unit_test(conflicting_components_take_their_features_along),
        cmocka_unit_test(sizes_are_recomputed_and_the_area_is_the_largest),
        cmocka_unit_test(unknown_layouts_and_bits_stay_out),
        cmocka_unit_test(equal_values_that_differ_drop_the_feature),
        cmocka_unit_test(an_unknown_area_takes_xsave_along),
        cmocka_unit_test(a_mask_without_xsavec_knows_its_danger),
        cmocka_unit_test(xsavec_is_for_members_that_save_alike),
        cmocka_unit_test(moves_add_what_xsavec_saves_there),
        cmocka_unit_test(settings_without_xsavec_make_plain_xsave),
        cmocka_unit_test(unlike_cpus_of_one_node_drop_the_feature),
        cmocka_unit_test(registers_hold_what_every_member_has),
        cmocka_unit_test(tallies_keep_the_extremes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
