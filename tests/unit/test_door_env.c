/* SPDX-License-Identifier: Apache-2.0 */
/* test_door_env.c - a container's variable and the pool's value become one, once. */
#include <string.h>

#include "cmocka_test.h"
#include "door_admission.h"

#define MASK "glibc.cpu.hwcaps=-AVX512F,-AVX512DQ"

static const struct {
    const char *name, *have, *want, *merged; /* merged NULL: as it is */
    bool replaced;
} cases[] = {
    {"GLIBC_TUNABLES",    "",                                              MASK,                   MASK,                                        false},
    {"GLIBC_TUNABLES",    MASK,                                            MASK,                   NULL,                                        false},
    {"GLIBC_TUNABLES",    "glibc.malloc.check=3",                          MASK,                   "glibc.malloc.check=3:" MASK,                false},
    {"GLIBC_TUNABLES",    "glibc.malloc.check=3:" MASK,                    MASK,                   NULL,                                        false},
    {"GLIBC_TUNABLES",    MASK ":glibc.malloc.check=3",                    MASK,                   "glibc.malloc.check=3:" MASK,                false},
 /* glibc takes the last list as a whole: the lists are united */
    {"GLIBC_TUNABLES",    "glibc.cpu.hwcaps=-ERMS",                        MASK,                   "glibc.cpu.hwcaps=-ERMS,-AVX512F,-AVX512DQ",
     false                                                                                                                                           },
    {"GLIBC_TUNABLES",    "glibc.cpu.hwcaps=-AVX512DQ,-ERMS,-AVX512F",     MASK,
     "glibc.cpu.hwcaps=-ERMS,-AVX512F,-AVX512DQ",                                                                                               false},
 /* what the pool takes away is not given back */
    {"GLIBC_TUNABLES",    "glibc.cpu.hwcaps=AVX512F,Prefer_No_VZEROUPPER", MASK,
     "glibc.cpu.hwcaps=Prefer_No_VZEROUPPER,-AVX512F,-AVX512DQ",                                                                                false},
 /* a name that only begins like one of ours is another */
    {"GLIBC_TUNABLES",    "glibc.cpu.hwcaps=-AVX512",                      MASK,
     "glibc.cpu.hwcaps=-AVX512,-AVX512F,-AVX512DQ",                                                                                             false},
    {"GLIBC_TUNABLES",    "glibc.cpu.hwcaps_x=-A:glibc.cpu=1",             MASK,
     "glibc.cpu.hwcaps_x=-A:glibc.cpu=1:" MASK,                                                                                                 false},
 /* doubled lists, empty items, a tunable without a value */
    {"GLIBC_TUNABLES",    "glibc.cpu.hwcaps=-A::glibc.cpu.hwcaps=-B,,:",   MASK,
     "glibc.cpu.hwcaps=-A,-B,-AVX512F,-AVX512DQ",                                                                                               false},
    {"GLIBC_TUNABLES",    ":::",                                           MASK,                   MASK,                                        false},
    {"GLIBC_TUNABLES",    "glibc.cpu.hwcaps",                              MASK,                   MASK,                                        false},
    {"GLIBC_TUNABLES",    "glibc.cpu.hwcaps=-A",                           "glibc.malloc.check=1",
     "glibc.cpu.hwcaps=-A:glibc.malloc.check=1",                                                                                                false},
    {"GODEBUG",           "http2debug=1",                                  "cpu.avx512f=off",      "http2debug=1,cpu.avx512f=off",              false},
    {"GODEBUG",           "cpu.avx512f=on,http2debug=1",                   "cpu.avx512f=off",      "http2debug=1,cpu.avx512f=off",
     false                                                                                                                                           },
    {"GODEBUG",           "http2debug=1,cpu.avx512f=off",                  "cpu.avx512f=off",      NULL,                                        false},
 /* the JVM obeys the last; quotes are nobody's business */
    {"JAVA_TOOL_OPTIONS", "",                                              "-XX:UseAVX=2",         "-XX:UseAVX=2",                              false},
    {"JAVA_TOOL_OPTIONS", "-Dx='a b' -XX:UseAVX=3",                        "-XX:UseAVX=2",
     "-Dx='a b' -XX:UseAVX=3 -XX:UseAVX=2",                                                                                                     false},
    {"JAVA_TOOL_OPTIONS", "-Dx='a b' -XX:UseAVX=2",                        "-XX:UseAVX=2",         NULL,                                        false},
    {"JAVA_TOOL_OPTIONS", "-XX:UseAVX=2 -XX:UseAVX=3",                     "-XX:UseAVX=2",
     "-XX:UseAVX=2 -XX:UseAVX=3 -XX:UseAVX=2",                                                                                                  false},
    {"JAVA_TOOL_OPTIONS", "-Dy-XX:UseAVX=2",                               "-XX:UseAVX=2",         "-Dy-XX:UseAVX=2 -XX:UseAVX=2",              false},
 /* what has no items is replaced, and said so */
    {"OPENSSL_ia32cap",   "",                                              "~0x1",                 "~0x1",                                      false},
    {"OPENSSL_ia32cap",   "~0x1",                                          "~0x1",                 NULL,                                        false},
    {"OPENSSL_ia32cap",   "~0x2",                                          "~0x1",                 "~0x1",                                      true },
    {"OPENBLAS_CORETYPE", "SkylakeX",                                      "Haswell",              "Haswell",                                   true },
};

static void values_are_merged_and_stay_so(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        bool replaced = true;
        autofree char *merged =
            door_env_merge(cases[i].name, cases[i].have, cases[i].want, &replaced);
        if (!cases[i].merged != !merged || (merged && strcmp(merged, cases[i].merged) != 0))
            fail_msg("%s='%s' became '%s'", cases[i].name, cases[i].have,
                     merged ? merged : "(the same)");
        assert_int_equal(replaced, cases[i].replaced);
        if (!merged)
            continue;
        autofree char *again = door_env_merge(cases[i].name, merged, cases[i].want, &replaced);
        if (again)
            fail_msg("'%s' became '%s' the second time", merged, again);
        assert_false(replaced);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_merged_and_stay_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
