/* SPDX-License-Identifier: Apache-2.0 */
/* test_mask_environment.c - the mask's variables beside what the user has set. */
#include "cmocka_test.h"

#include <stdio.h>
#include <string.h>

#include "json.h"
#include "mask_environment.h"

#define ENV_MAX 8

static json_object *parse(const char *text)
{
    json_object *o = NULL;
    struct error err = {0};
    if (json_parse(text, strlen(text), &o, &err) < 0)
        fail_msg("%s", err.message);
    return o;
}

#define GLIBC "[{\"name\":\"GLIBC_TUNABLES\",\"value\":\"glibc.cpu.hwcaps=-AVX2,-AVX\"}]"
#define GO    "[{\"name\":\"GODEBUG\",\"value\":\"cpu.avx2=off,cpu.bmi1=off\"}]"
#define JAVA  "[{\"name\":\"JAVA_TOOL_OPTIONS\",\"value\":\"-XX:UseAVX=1 -XX:-UseSHA\"}]"
#define SSL   "[{\"name\":\"OPENSSL_ia32cap\",\"value\":\"~0x1\"}]"
#define BLAS  "[{\"name\":\"OPENBLAS_CORETYPE\",\"value\":\"Nehalem\"}]"

static const struct {
    const char *variables;
    const char *before[ENV_MAX], *after[ENV_MAX];
} merges[] = {
    {"[]",  {"A=1"},                                  {"A=1"}                                                 },
    {SSL,   {NULL},                                   {"OPENSSL_ia32cap=~0x1"}                                },
    {SSL,   {"A=1", "B"},                             {"A=1", "B", "OPENSSL_ia32cap=~0x1"}                    },
    {SSL,   {"OPENSSL_ia32cap=:0", "A="},             {"OPENSSL_ia32cap=:0", "A="}                            },
    {SSL,   {"OPENSSL_ia32cap="},                     {"OPENSSL_ia32cap="}                                    },
    {SSL,   {"OPENSSL_ia32capx=1"},                   {"OPENSSL_ia32capx=1", "OPENSSL_ia32cap=~0x1"}          },
    {BLAS,  {"OPENBLAS_CORETYPE=Haswell"},            {"OPENBLAS_CORETYPE=Haswell"}                           },
    {GLIBC, {NULL},                                   {"GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX2,-AVX"}          },
    {GLIBC,
     {"GLIBC_TUNABLES=glibc.malloc.check=3"},
     {"GLIBC_TUNABLES=glibc.malloc.check=3:glibc.cpu.hwcaps=-AVX2,-AVX"}                                      },
    {GLIBC,
     {"GLIBC_TUNABLES=glibc.malloc.check=3:", "Z=1"},
     {"GLIBC_TUNABLES=glibc.malloc.check=3:glibc.cpu.hwcaps=-AVX2,-AVX", "Z=1"}                               },
    {GLIBC, {"GLIBC_TUNABLES="},                      {"GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX2,-AVX"}          },
    {GLIBC,
     {"GLIBC_TUNABLES=a=1:glibc.cpu.hwcaps=-ERMS"},
     {"GLIBC_TUNABLES=a=1:glibc.cpu.hwcaps=-ERMS"}                                                            },
    {GLIBC,
     {"GLIBC_TUNABLES=glibc.cpu.hwcaps_mask=1"},
     {"GLIBC_TUNABLES=glibc.cpu.hwcaps_mask=1:glibc.cpu.hwcaps=-AVX2,-AVX"}                                   },
    {GO,    {"GODEBUG=gctrace=1,cpu.avx2=on"},        {"GODEBUG=gctrace=1,cpu.avx2=on,cpu.bmi1=off"}          },
    {GO,    {"GODEBUG=cpu.bmi1=on,cpu.avx2=on"},      {"GODEBUG=cpu.bmi1=on,cpu.avx2=on"}                     },
    {GO,    {"GODEBUG=cpu.all=on"},                   {"GODEBUG=cpu.all=on"}                                  },
    {GO,    {"GODEBUG=netdns=go"},                    {"GODEBUG=netdns=go,cpu.avx2=off,cpu.bmi1=off"}         },
    {JAVA,
     {"JAVA_TOOL_OPTIONS=-XX:UseAVX=2 -Dx=y"},
     {"JAVA_TOOL_OPTIONS=-XX:UseAVX=1 -XX:-UseSHA -XX:UseAVX=2 -Dx=y"}                                        },
    {JAVA,  {"JAVA_TOOL_OPTIONS= "},                  {"JAVA_TOOL_OPTIONS=-XX:UseAVX=1 -XX:-UseSHA"}          },
 /* of two of one name the first counts, as for getenv() */
    {GO,    {"GODEBUG=a=1", "GODEBUG=b=1"},           {"GODEBUG=a=1,cpu.avx2=off,cpu.bmi1=off", "GODEBUG=b=1"}},
};

static void test_merges(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(merges); i++) {
        autojson *variables = parse(merges[i].variables);
        char **merged = NULL;
        struct error err = {0};
        assert_int_equal(0, mask_environment_merge(variables, merges[i].before, &merged, &err));
        for (size_t k = 0; k < ENV_MAX; k++) {
            const char *wanted = merges[i].after[k];
            if (!wanted) {
                assert_null(merged[k]);
                break;
            }
            assert_non_null(merged[k]);
            assert_string_equal(wanted, merged[k]);
        }
        mask_environment_free(merged);
    }
}

static void test_nothing_to_add(void **state)
{
    (void)state;
    const char *const env[] = {"A=1", NULL};
    char **merged = NULL;
    assert_int_equal(0, mask_environment_merge(NULL, env, &merged, NULL));
    assert_string_equal("A=1", merged[0]);
    assert_null(merged[1]);
    mask_environment_free(merged);
}

static const struct {
    const char *variables, *message;
} refusals[] = {
    {"{}",                                             "expected an array"         },
    {"[1]",                                            "expected an object"        },
    {"[{\"value\":\"1\"}]",                            "name: missing"             },
    {"[{\"name\":\"A\"}]",                             "value: missing"            },
    {"[{\"name\":\"A\",\"value\":1}]",                 "value: expected a string"  },
    {"[{\"name\":\"\",\"value\":\"1\"}]",              "letters, digits"           },
    {"[{\"name\":\"A=B\",\"value\":\"1\"}]",           "letters, digits"           },
    {"[{\"name\":\"1A\",\"value\":\"1\"}]",            "letters, digits"           },
    {"[{\"name\":\"LD_PRELOAD\",\"value\":\"x.so\"}]", "none of the dynamic loader"},
};

static void test_refusals(void **state)
{
    (void)state;
    const char *const env[] = {"A=1", NULL};
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
        autojson *variables = parse(refusals[i].variables);
        char **merged = NULL;
        struct error err = {0};
        assert_int_equal(-1, mask_environment_merge(variables, env, &merged, &err));
        assert_int_equal(ERROR_INVALID, err.kind);
        if (!strstr(err.message, refusals[i].message))
            fail_msg("%s: no \"%s\" in it", err.message, refusals[i].message);
        assert_null(merged);
    }
    autojson *many = json_object_new_array();
    for (unsigned i = 0; i <= MASK_ENVIRONMENT_VARIABLES_MAX; i++)
        json_object_array_add(many, json_object_new_object());
    char **merged = NULL;
    struct error err = {0};
    assert_int_equal(-1, mask_environment_merge(many, env, &merged, &err));
    assert_non_null(strstr(err.message, "at most 64"));
}

/* What no program could be started with is told before anything is started. */
static void test_too_long(void **state)
{
    (void)state;
    autofree char *his = xmalloc(MASK_ENVIRONMENT_STRING_MAX);
    memset(his, 'x', MASK_ENVIRONMENT_STRING_MAX - 1);
    his[MASK_ENVIRONMENT_STRING_MAX - 1] = '\0';
    memcpy(his, "GODEBUG=", 8);
    const char *const env[] = {his, NULL};
    char **merged = NULL;
    struct error err = {0};
    autojson *go = parse(GO), *ssl = parse(SSL);
    assert_int_equal(-1, mask_environment_merge(go, env, &merged, &err));
    assert_int_equal(ERROR_TOO_LARGE, err.kind);
    assert_non_null(strstr(err.message, "GODEBUG"));
    assert_int_equal(0, mask_environment_merge(ssl, env, &merged, &err));
    assert_string_equal(his, merged[0]);
    mask_environment_free(merged);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merges),
        cmocka_unit_test(test_nothing_to_add),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_too_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
