/* SPDX-License-Identifier: Apache-2.0 */
/* test_cpu_profile.c - what a report amounts to for a process. */
#include <string.h>

#include "cmocka_test.h"
#include "cpu_profile_data.h"
#include "cpu_samples.h"

static void samples_are_what_they_say(void **state)
{
    (void)state;
    static const struct {
        const char *name, *vendor, *level;
        uint64_t xcr0;
        uint32_t size;
    } rows[] = {
        {"lesser-intel", "GenuineIntel", "x86-64-v2", 0x7,   832 },
        {"haswell",      "GenuineIntel", "x86-64-v3", 0x7,   832 },
        {"lesser-amd",   "AuthenticAMD", "x86-64-v2", 0x7,   832 },
        {"zen4",         "AuthenticAMD", "x86-64-v4", 0x2e7, 2440},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO(cpu_profile) p = sample_profile(rows[i].name);
        uint64_t xcr0 = 0;
        assert_string_equal(cpu_profile_vendor(p), rows[i].vendor);
        assert_non_null(strstr(cpu_profile_brand(p), "Example"));
        assert_string_equal(cpu_profile_level(p), rows[i].level);
        assert_true(cpu_profile_xcr0(p, &xcr0));
        assert_int_equal(xcr0, rows[i].xcr0);
        assert_int_equal(cpu_profile_xsave_size(p), rows[i].size);
        assert_int_equal(p->unknown_count, 0);
    }
}

static void system_bits_are_not_features(void **state)
{
    (void)state;
    AUTO(cpu_profile) p = sample_profile("zen4");
    assert_true(cpu_profile_has(p, CPU_FEATURE_AVX512F));
    assert_false(cpu_profile_has(p, CPU_FEATURE_SMEP));
    assert_false(cpu_profile_has(p, CPU_FEATURE_SVM));
    autojson *names = cpu_profile_feature_names(p);
    bool avx2 = false;
    for (size_t i = 0; i < json_array_size(names); i++) {
        assert_string_not_equal(json_item_str(names, i), "smep");
        assert_string_not_equal(json_item_str(names, i), "osxsave");
        avx2 = avx2 || strcmp(json_item_str(names, i), "avx2") == 0;
    }
    assert_true(avx2);
}

static void kernel_decides_what_counts(void **state)
{
    (void)state;
    struct cpu_report *r = sample_report("zen4");
    r->groups[0].xcr0 = 0x7; /* claimed by CPUID, not enabled */
    AUTO(cpu_profile) no_avx512 = profile_of(r);
    assert_false(cpu_profile_has(no_avx512, CPU_FEATURE_AVX512F));
    assert_false(cpu_profile_has(no_avx512, CPU_FEATURE_AVX512_VNNI));
    assert_false(cpu_profile_has(no_avx512, CPU_FEATURE_PKU));
    assert_true(cpu_profile_has(no_avx512, CPU_FEATURE_AVX2));

    r = sample_report("zen4");
    sample_set(r, "osxsave", false);
    AUTO(cpu_profile) no_xsave = profile_of(r);
    assert_false(cpu_profile_has(no_xsave, CPU_FEATURE_XSAVE));
    assert_false(cpu_profile_has(no_xsave, CPU_FEATURE_AVX));
    assert_false(cpu_profile_has(no_xsave, CPU_FEATURE_VAES));
    assert_true(cpu_profile_has(no_xsave, CPU_FEATURE_AES));
    assert_int_equal(no_xsave->enabled, 0);

    r = sample_report("zen4");
    sample_set(r, "ospke", false);
    AUTO(cpu_profile) no_pku = profile_of(r);
    assert_false(cpu_profile_has(no_pku, CPU_FEATURE_PKU));

    r = sample_report("zen4");
    sample_leaf(r, 0, 0)->eax = 0xb; /* leaf 0xd is out of reach */
    AUTO(cpu_profile) short_basic = profile_of(r);
    assert_false(cpu_profile_has(short_basic, CPU_FEATURE_XSAVE));
    assert_false(cpu_profile_has(short_basic, CPU_FEATURE_AVX));
}

static void fsgsbase_counts_with_hwcap2(void **state)
{
    (void)state;
    struct cpu_report *r = sample_report("haswell");
    r->os.hwcap2 = 0;
    AUTO(cpu_profile) off = profile_of(r);
    assert_false(cpu_profile_has(off, CPU_FEATURE_FSGSBASE));
    r = sample_report("haswell");
    r->os.hwcap2 = 2;
    AUTO(cpu_profile) on = profile_of(r);
    assert_true(cpu_profile_has(on, CPU_FEATURE_FSGSBASE));
    r = sample_report("haswell");
    r->os.hwcap2_known = false;
    AUTO(cpu_profile) unknown = profile_of(r);
    assert_true(cpu_profile_has(unknown, CPU_FEATURE_FSGSBASE));
}

static void a_32bit_dump_does_not_lose_syscall(void **state)
{
    (void)state;
    struct cpu_report *r = sample_report("haswell");
    sample_set(r, "syscall", false);
    AUTO(cpu_profile) p = profile_of(r);
    assert_true(cpu_profile_has(p, CPU_FEATURE_SYSCALL));
    assert_string_equal(cpu_profile_level(p), "x86-64-v3");
}

static void a_zeroed_component_is_unknown(void **state)
{
    (void)state;
    struct cpu_report *r = sample_report("zen4");
    *sample_leaf(r, 0xd, 9) = (struct cpuid_leaf){.leaf = 0xd, .subleaf = 9};
    AUTO(cpu_profile) p = profile_of(r);
    const struct cpu_component *c = cpu_profile_component(p, 9);
    assert_true(c->enabled);
    assert_false(c->layout_known);
    assert_true(cpu_profile_has(p, CPU_FEATURE_PKU));
    assert_int_equal(cpu_profile_computed_area(p), 0);
    assert_int_equal(cpu_profile_xsave_size(p), 2440); /* leaf 0xd.0 EBX tells */
    r = sample_report("zen4");
    sample_leaf(r, 0xd, 9)->eax = 0; /* never a size of 0 */
    AUTO(cpu_profile) q = profile_of(r);
    assert_false(cpu_profile_component(q, 9)->layout_known);
}

static void without_xcr0_the_claim_counts_where_features_bear_it_out(void **state)
{
    (void)state;
    struct cpu_report *r = sample_report("zen4");
    r->groups[0].xcr0_known = false;
    AUTO(cpu_profile) p = profile_of(r);
    uint64_t xcr0 = 0;
    assert_false(cpu_profile_xcr0(p, &xcr0));
    assert_int_equal(xcr0, 0x2e7);
    /* Zen 2 lists PKRU without having protection keys */
    r = sample_report("zen4");
    r->groups[0].xcr0_known = false;
    sample_set(r, "pku", false);
    AUTO(cpu_profile) q = profile_of(r);
    cpu_profile_xcr0(q, &xcr0);
    assert_int_equal(xcr0, 0xe7);
    /* no leaf 0xd at all: what the features imply, laid out nobody knows where */
    r = sample_report("haswell");
    r->groups[0].xcr0_known = false;
    sample_drop_leaf(r, 0xd, 0);
    sample_drop_leaf(r, 0xd, 2);
    AUTO(cpu_profile) s = profile_of(r);
    cpu_profile_xcr0(s, &xcr0);
    assert_int_equal(xcr0, 0x7);
    assert_false(cpu_profile_component(s, 2)->layout_known);
    assert_true(cpu_profile_component(s, 1)->layout_known);
    assert_int_equal(cpu_profile_xsave_size(s), 0);
}

static void unlike_cpus_are_intersected(void **state)
{
    (void)state;
    struct cpu_report *r = sample_report("haswell");
    sample_add_lesser_group(r, "avx2");
    AUTO(cpu_profile) p = profile_of(r);
    assert_false(cpu_profile_has(p, CPU_FEATURE_AVX2));
    assert_true(cpu_profile_has(p, CPU_FEATURE_AVX));

    r = sample_report("haswell");
    sample_add_lesser_group(r, "zero_fcs_fds"); /* a behaviour: one CPU is enough */
    AUTO(cpu_profile) q = profile_of(r);
    assert_true(cpu_profile_has(q, CPU_FEATURE_ZERO_FCS_FDS));

    r = sample_report("haswell");
    sample_add_lesser_group(r, "avx2");
    for (size_t i = 0; i < r->groups[1].leaf_count; i++)
        if (r->groups[1].leaves[i].leaf == 0xd && r->groups[1].leaves[i].subleaf == 2)
            r->groups[1].leaves[i].ebx += 64;
    AUTO(cpu_profile) s = profile_of(r);
    assert_true(cpu_profile_component(s, 2)->conflict);

    r = sample_report("haswell"); /* a bit that only one of them has is nobody's */
    sample_set_bit(r, 7, 0, CPU_EDX, 0, true);
    sample_set_bit(r, 7, 0, CPU_EDX, 17, true);
    sample_add_lesser_group(r, "avx2");
    for (size_t i = 0; i < r->groups[1].leaf_count; i++)
        if (r->groups[1].leaves[i].leaf == 7)
            r->groups[1].leaves[i].edx &= ~UINT32_C(1);
    AUTO(cpu_profile) u = profile_of(r);
    assert_int_equal(u->unknown_count, 1);
    assert_int_equal(u->unknowns[0].bits, UINT32_C(1) << 17);
}

static void unknown_bits_are_kept_apart(void **state)
{
    (void)state;
    struct cpu_report *r = sample_report("haswell");
    sample_set_bit(r, 7, 0, CPU_EDX, 0, true); /* reserved */
    sample_leaf(r, 0, 0)->eax = 0x2a;
    sample_leaf(r, 0x2a, 0)->ecx = 0x30; /* a leaf that nobody knows */
    sample_leaf(r, 0x2b, 0)->ecx = 0x30; /* above the limit: not an answer */
    sample_leaf(r, 4, 7)->eax = 0x30;    /* caches */
    sample_leaf(r, 7, 5)->eax = 0x30;    /* above leaf 7's own limit */
    AUTO(cpu_profile) p = profile_of(r);
    assert_int_equal(p->unknown_count, 2);
    assert_int_equal(p->unknowns[0].leaf, 7);
    assert_int_equal(p->unknowns[0].bits, 1);
    assert_int_equal(p->unknowns[1].leaf, 0x2a);
    assert_int_equal(p->unknowns[1].reg, CPU_ECX);
    assert_int_equal(p->unknowns[1].bits, 0x30);
}

static void leaf_0_and_1_are_needed(void **state)
{
    (void)state;
    AUTO(cpu_report) r = sample_report("haswell");
    sample_drop_leaf(r, 1, 0);
    struct error err = {0};
    struct cpu_profile *p = NULL;
    assert_int_equal(cpu_report_seal(r, &err), 0);
    assert_int_equal(cpu_profile_from_report(r, &p, &err), -1);
    assert_int_equal(err.kind, ERROR_INVALID);
    assert_null(p);
}

static void equality_and_hash_go_together(void **state)
{
    (void)state;
    AUTO(cpu_profile) a = sample_profile("zen4");
    AUTO(cpu_profile) b = sample_profile("zen4");
    AUTO(cpu_profile) c = sample_profile("haswell");
    assert_true(cpu_profile_equal(a, b));
    assert_int_equal(cpu_profile_hash(a), cpu_profile_hash(b));
    assert_false(cpu_profile_equal(a, c));
    struct cpu_report *r = sample_report("zen4");
    sample_leaf(r, 0xd, 9)->ebx = 2688;
    AUTO(cpu_profile) d = profile_of(r);
    assert_false(cpu_profile_equal(a, d));
    assert_true(sizeof(struct cpu_profile) + 16 * sizeof(struct cpu_component) < 2048);
}

static void join_is_what_was_seen(void **state)
{
    (void)state;
    AUTO(cpu_profile) haswell = sample_profile("haswell");
    AUTO(cpu_profile) zen4 = sample_profile("zen4");
    AUTO(cpu_profile) both = cpu_profile_join(haswell, zen4);
    assert_true(cpu_profile_has(both, CPU_FEATURE_AVX512F));
    assert_true(cpu_profile_has(both, CPU_FEATURE_FMA));
    assert_string_equal(cpu_profile_vendor(both), "");
    assert_int_equal(both->area_bytes, 832); /* buffers sized on the smaller one can overflow */
    assert_true(both->plain_xsave);          /* Haswell has no XSAVEC */
    assert_false(cpu_profile_component(both, 2)->conflict);
    AUTO(cpu_profile) turned = cpu_profile_join(zen4, haswell);
    assert_true(cpu_profile_equal(both, turned));
    AUTO(cpu_profile) again = cpu_profile_join(both, both);
    assert_true(cpu_profile_equal(both, again));

    struct cpu_report *r = sample_report("zen4");
    sample_leaf(r, 0xd, 9)->ebx = 2688;
    AUTO(cpu_profile) moved = profile_of(r);
    AUTO(cpu_profile) conflict = cpu_profile_join(zen4, moved);
    assert_true(cpu_profile_component(conflict, 9)->conflict);
}

static void references_are_counted(void **state)
{
    (void)state;
    struct cpu_profile *p = sample_profile("zen4");
    struct cpu_profile *q = cpu_profile_ref(p);
    cpu_profile_free(p);
    assert_true(cpu_profile_has(q, CPU_FEATURE_AVX));
    cpu_profile_free(q);
    cpu_profile_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_are_what_they_say),
        cmocka_unit_test(system_bits_are_not_features),
        cmocka_unit_test(kernel_decides_what_counts),
        cmocka_unit_test(fsgsbase_counts_with_hwcap2),
        cmocka_unit_test(a_32bit_dump_does_not_lose_syscall),
        cmocka_unit_test(a_zeroed_component_is_unknown),
        cmocka_unit_test(without_xcr0_the_claim_counts_where_features_bear_it_out),
        cmocka_unit_test(unlike_cpus_are_intersected),
        cmocka_unit_test(unknown_bits_are_kept_apart),
        cmocka_unit_test(leaf_0_and_1_are_needed),
        cmocka_unit_test(equality_and_hash_go_together),
        cmocka_unit_test(join_is_what_was_seen),
        cmocka_unit_test(references_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
