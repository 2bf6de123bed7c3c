/* SPDX-License-Identifier: Apache-2.0 */
/* test_cpu_registry.c - the generated tables say what the manuals say. */
#include <string.h>

#include "cleanup.h"
#include "cmocka_test.h"
#include "cpu_registry.h"

static void places_are_the_manuals(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint32_t leaf, subleaf;
        enum cpu_register reg;
        unsigned bit;
        enum cpu_kind kind;
        enum cpu_effect effect;
    } rows[] = {
        {"avx2",            7,          0, CPU_EBX, 5,  CPU_KIND_ISA,       CPU_EFFECT_SIGILL},
        {"avx",             1,          0, CPU_ECX, 28, CPU_KIND_STATE,     CPU_EFFECT_SIGILL},
        {"avx512f",         7,          0, CPU_EBX, 16, CPU_KIND_STATE,     CPU_EFFECT_SIGILL},
        {"abm",             0x80000001, 0, CPU_ECX, 5,  CPU_KIND_ISA,       CPU_EFFECT_SILENT},
        {"bmi1",            7,          0, CPU_EBX, 3,  CPU_KIND_ISA,       CPU_EFFECT_SILENT},
        {"fma4",            0x80000001, 0, CPU_ECX, 16, CPU_KIND_ISA,       CPU_EFFECT_SIGILL},
        {"erms",            7,          0, CPU_EBX, 9,  CPU_KIND_HINT,      CPU_EFFECT_HINT  },
        {"fdp_excptn_only", 7,          0, CPU_EBX, 6,  CPU_KIND_BEHAVIOUR, CPU_EFFECT_NONE  },
        {"osxsave",         1,          0, CPU_ECX, 27, CPU_KIND_DYNAMIC,   CPU_EFFECT_NONE  },
        {"vmx",             1,          0, CPU_ECX, 5,  CPU_KIND_SYSTEM,    CPU_EFFECT_NONE  },
        {"amx_tile",        7,          0, CPU_EDX, 24, CPU_KIND_STATE,     CPU_EFFECT_SIGILL},
        {"avx10",           7,          1, CPU_EDX, 19, CPU_KIND_ISA,       CPU_EFFECT_SIGILL},
        {"apx",             7,          1, CPU_EDX, 21, CPU_KIND_STATE,     CPU_EFFECT_SIGILL},
        {"xsavec",          0xd,        1, CPU_EAX, 1,  CPU_KIND_ISA,       CPU_EFFECT_SIGILL},
        {"ptwrite",         0x14,       0, CPU_EBX, 4,  CPU_KIND_ISA,       CPU_EFFECT_SIGILL},
        {"rng",             0xc0000001, 0, CPU_EDX, 2,  CPU_KIND_ISA,       CPU_EFFECT_SIGILL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        enum cpu_feature_id id;
        assert_int_equal(cpu_feature_from_name(rows[i].name, &id), 0);
        const struct cpu_feature *f = &cpu_features[id];
        assert_int_equal(f->leaf, rows[i].leaf);
        assert_int_equal(f->subleaf, rows[i].subleaf);
        assert_int_equal(f->reg, rows[i].reg);
        assert_int_equal(f->bit, rows[i].bit);
        assert_int_equal(f->kind, rows[i].kind);
        assert_int_equal(f->effect, rows[i].effect);
        assert_int_equal(cpu_feature_find(f->leaf, f->subleaf, f->reg, f->bit), (int)id);
    }
}

static void tables_agree_with_each_other(void **state)
{
    (void)state;
    for (unsigned i = 0; i < CPU_FEATURE_COUNT; i++) {
        const struct cpu_feature *f = &cpu_features[i];
        const struct cpu_word *w = &cpu_words[f->word];
        assert_non_null(f->name);
        assert_non_null(f->source);
        assert_int_equal(w->leaf, f->leaf);
        assert_int_equal(w->reg, f->reg);
        uint32_t one = UINT32_C(1) << f->bit;
        int masks = !!(w->isa & one) + !!(w->hint & one) + !!(w->behaviour & one) +
                    !!(w->condition & one) + !!(w->ignored & one);
        assert_int_equal(masks, 1);
        for (unsigned k = i + 1; k < CPU_FEATURE_COUNT; k++)
            assert_string_not_equal(f->name, cpu_features[k].name);
    }
}

static void order_puts_needs_first(void **state)
{
    (void)state;
    bool seen[CPU_FEATURE_COUNT] = {false};
    for (unsigned i = 0; i < CPU_FEATURE_COUNT; i++) {
        const struct cpu_feature *f = &cpu_features[cpu_feature_order[i]];
        for (size_t k = 0; k < f->need_count; k++)
            assert_true(seen[f->needs[k]]);
        assert_false(seen[cpu_feature_order[i]]);
        seen[cpu_feature_order[i]] = true;
    }
}

static bool needs(enum cpu_feature_id feature, enum cpu_feature_id other)
{
    const struct cpu_feature *f = &cpu_features[feature];
    for (size_t i = 0; i < f->need_count; i++)
        if (f->needs[i] == other || needs((enum cpu_feature_id)f->needs[i], other))
            return true;
    return false;
}

static void dependencies_are_the_stricter_ones(void **state)
{
    (void)state;
    assert_true(needs(CPU_FEATURE_AVX512F, CPU_FEATURE_AVX2));         /* Xen; Linux says AVX */
    assert_true(needs(CPU_FEATURE_AVX512_VNNI, CPU_FEATURE_AVX512VL)); /* Linux; Xen says F */
    assert_true(needs(CPU_FEATURE_SSE4_2, CPU_FEATURE_SSE4_1));
    assert_true(needs(CPU_FEATURE_SSE4_2, CPU_FEATURE_FXSR));
    assert_true(needs(CPU_FEATURE_VAES, CPU_FEATURE_XSAVE));
    assert_true(needs(CPU_FEATURE_AMX_INT8, CPU_FEATURE_XSAVES));
    assert_true(needs(CPU_FEATURE_PKU, CPU_FEATURE_OSPKE));
    assert_false(needs(CPU_FEATURE_POPCNT, CPU_FEATURE_SSE4_2));
    assert_false(needs(CPU_FEATURE_BMI2, CPU_FEATURE_AVX));
}

static void names_of_others_are_found(void **state)
{
    (void)state;
    enum cpu_feature_id id;
    assert_int_equal(cpu_feature_from_name("sse4.2", &id), 0); /* QEMU */
    assert_int_equal(id, CPU_FEATURE_SSE4_2);
    assert_int_equal(cpu_feature_from_name("lahf-lm", &id), 0);
    assert_int_equal(id, CPU_FEATURE_LAHF_LM);
    assert_int_equal(cpu_feature_from_name("avx3", &id), -1);
    assert_int_equal(cpu_feature_from_name("", &id), -1);
    assert_string_equal(cpu_features[CPU_FEATURE_ABM].glibc_name, "LZCNT");
    assert_string_equal(cpu_features[CPU_FEATURE_PNI].go_name, "sse3");
    assert_null(cpu_features[CPU_FEATURE_SHSTK].linux_name);
    assert_int_equal(cpu_features[CPU_FEATURE_AES].openssl_bit, 57);
    assert_int_equal(cpu_features[CPU_FEATURE_AVX2].openssl_bit, 64 + 5);
    assert_int_equal(cpu_features[CPU_FEATURE_XOP].openssl_bit, 43);
    assert_int_equal(cpu_features[CPU_FEATURE_TBM].openssl_bit, -1);
}

static void places_read_well(void **state)
{
    (void)state;
    char text[64];
    cpu_bit_place(7, 0, CPU_EBX, 5, text, sizeof(text));
    assert_string_equal(text, "leaf 7 EBX bit 5");
    cpu_bit_place(0xd, 1, CPU_EAX, 1, text, sizeof(text));
    assert_string_equal(text, "leaf 0xd.1 EAX bit 1");
    cpu_bit_place(0x80000001, 0, CPU_ECX, 5, text, sizeof(text));
    assert_string_equal(text, "leaf 0x80000001 ECX bit 5");
    assert_string_equal(cpu_register_name(CPU_EDX), "edx");
    assert_string_equal(cpu_register_name(99), "?");
    assert_string_equal(cpu_effect_name(CPU_EFFECT_SILENT), "silent");
    assert_string_equal(cpu_kind_name(CPU_KIND_BEHAVIOUR), "behaviour");
}

static void leaves_without_features_are_known(void **state)
{
    (void)state;
    assert_non_null(cpu_ignored_leaf_find(4));
    assert_non_null(cpu_ignored_leaf_find(0x40000001));
    assert_null(cpu_ignored_leaf_find(7));
    assert_null(cpu_ignored_leaf_find(0x29));
    assert_int_equal(cpu_word_find(7, 0, CPU_EAX), -1);
    assert_non_null(cpu_component_info_find(9));
    assert_true(cpu_component_info_find(11)->supervisor);
    assert_null(cpu_component_info_find(40));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places_are_the_manuals),
        cmocka_unit_test(tables_agree_with_each_other),
        cmocka_unit_test(order_puts_needs_first),
        cmocka_unit_test(dependencies_are_the_stricter_ones),
        cmocka_unit_test(names_of_others_are_found),
        cmocka_unit_test(places_read_well),
        cmocka_unit_test(leaves_without_features_are_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
