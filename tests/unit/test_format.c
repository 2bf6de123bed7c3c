/* SPDX-License-Identifier: Apache-2.0 */
/* test_format.c - the formats by what they must and must not say of known pools. */
#include <stdio.h>
#include <string.h>

#include "cmocka_test.h"
#include "cpu_samples.h"
#include "format.h"
#include "mask.h"

/* The mask of a pool of one or two samples; "haswell-avx" is haswell without AVX. */
static struct cpu_profile *pool_of(const char *first, const char *second)
{
    static const char *const samples[] = {"haswell", "lesser-amd", "lesser-intel", "zen4"};
    AUTO(mask) mask = mask_new();
    AUTO(cpu_profile) one = NULL;
    AUTO(cpu_profile) two = second ? sample_profile(second) : NULL;
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        size_t length = strlen(samples[i]);
        if (strncmp(first, samples[i], length) != 0)
            continue;
        struct cpu_report *report = sample_report(samples[i]);
        if (first[length] == '-')
            sample_set(report, first + length + 1, false);
        one = profile_of(report);
    }
    mask_add(mask, one);
    if (two)
        mask_add(mask, two);
    return mask_profile(mask);
}

static char *written(enum format format, const struct cpu_profile *pool)
{
    struct error err = {0};
    char *text = format_write(format, pool, &err);
    if (!text)
        fail_msg("%s: %s", format_name(format), err.message);
    return text;
}

static void every_format_has_a_name(void **state)
{
    (void)state;
    AUTO(cpu_profile) pool = pool_of("haswell", NULL);
    for (unsigned i = 0; i < FORMAT_COUNT; i++) {
        enum format found = FORMAT_COUNT;
        struct error err = {0};
        assert_int_equal(format_from_name(format_name((enum format)i), &found, &err), 0);
        assert_int_equal(found, i);
        assert_non_null(strchr(format_media_type((enum format)i), '/'));
        assert_true(strlen(format_help((enum format)i)) > 10);
        autofree char *text = written((enum format)i, pool);
        autofree char *again = written((enum format)i, pool);
        assert_string_equal(text, again);
        assert_true(strlen(text) > 1);
        assert_int_equal(text[strlen(text) - 1], '\n');
    }
}

static void an_unknown_format_is_told_the_known_ones(void **state)
{
    (void)state;
    enum format format = FORMAT_XEN;
    struct error err = {0};
    assert_int_equal(format_from_name("xml", &format, &err), -1);
    assert_int_equal(format, FORMAT_XEN);
    assert_int_equal(err.kind, ERROR_INVALID);
    assert_string_equal(err.message, "no format 'xml', expected one of: env openvz libvirt qemu "
                                     "firecracker gvisor crac xen flags");
}

static void an_empty_pool_has_nothing_to_write(void **state)
{
    (void)state;
    struct error err = {0};
    assert_null(format_write(FORMAT_ENV, NULL, &err));
    assert_int_equal(err.kind, ERROR_CONFLICT);
    assert_non_null(strstr(err.message, "no members"));
}

/* Whether `word` stands in the text and not only as a part of a longer one. */
static bool has_word(const char *text, const char *word)
{
    static const char parts[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
    size_t length = strlen(word);
    for (const char *at = strstr(text, word); at; at = strstr(at + 1, word)) {
        bool begins = at == text || !strchr(parts, at[-1]) || !strchr(parts, word[0]);
        bool ends = !at[length] || !strchr(parts, at[length]) || !strchr(parts, word[length - 1]);
        if (begins && ends)
            return true;
    }
    return false;
}

/* The samples: lesser-intel ends with AVX, haswell with AVX2 and without RDSEED and ADX, zen4 with
 * AVX-512 and without RTM, VP2INTERSECT and AMX. Words that the text must and must not have, with
 * a bar between them. */
/* clang-format off */
static const struct {
    enum format format;
    const char *first, *second;
    const char *wanted, *unwanted;
} cases[] = {
    {FORMAT_ENV, "lesser-intel", NULL,
     "GLIBC_TUNABLES='glibc.cpu.hwcaps=-|-AVX2|-AVX2_Usable|-AVX_Fast_Unaligned_Load|-LZCNT|"
     "cpu.avx2=off|UseAVX=1|OPENBLAS_CORETYPE='Sandybridge'",
     "-AVX|-SSE4_2|-XSAVE|cpu.avx=off|UseSSE|-UseAES"},
    {FORMAT_ENV, "haswell", NULL,
     "-AVX512F|-XSAVEC|cpu.avx512f=off|cpu.adx=off|UseAVX=2|-UseBMI2Instructions|-UseSHA|"
     "OPENBLAS_CORETYPE='Haswell'",
     "-AVX2|-AVX_Fast_Unaligned_Load|cpu.avx2=off|-UseBMI1Instructions|-UseFMA|-BMI2"},
    {FORMAT_ENV, "haswell-avx", NULL,
     "-AVX|-AVX_Usable|-FMA|cpu.avx=off|UseAVX=0|OPENBLAS_CORETYPE='Nehalem'",
     "-XSAVE|-SSE4_2|-BMI1"},
    {FORMAT_ENV, "haswell-ssse3", NULL, "-SSSE3|-SSE4_1|UseSSE=2|cpu.ssse3=off", "-POPCNT"},
    {FORMAT_ENV, "zen4", NULL,
     "-RTM|-AVX512PF|cpu.amxtile=off|OPENBLAS_CORETYPE='SkylakeX'",
     "-AVX512F|UseAVX|-UseSHA|cpu.avx512f=off|-XSAVEC|-UseBMI2Instructions"},
    {FORMAT_ENV, "zen4", "haswell",
     "-AVX512F|-XSAVEC|cpu.avx512f=off|UseAVX=2|OPENBLAS_CORETYPE='Haswell'", "-AVX2"},
    {FORMAT_QEMU, "haswell", NULL,
     "kvm64,vendor=GenuineIntel,|avx2=on|sse4.1=on|lahf-lm=on|,enforce\n",
     "avx512f|=off|invtsc|pni=on|rdseed"},
    {FORMAT_QEMU, "haswell", "lesser-amd", "kvm64,pclmulqdq=on|avx=on", "vendor|avx2|misalignsse"},
    {FORMAT_QEMU, "haswell-cx16", NULL, "kvm64,vendor=GenuineIntel,|cx16=off", "cx16=on"},
    {FORMAT_LIBVIRT, "zen4", NULL,
     "<model fallback='forbid'>kvm64</model>|<vendor>AMD</vendor>|"
     "<feature policy='require' name='pclmuldq'/>|<feature policy='require' name='avx512f'/>|"
     "name='avx512-vpopcntdq'|name='lahf_lm'",
     "pclmulqdq|lahf-lm|invtsc|rtm|name='pni'|disable"},
    {FORMAT_LIBVIRT, "haswell-cx16", NULL,
     "<feature policy='disable' name='cx16'/>|<feature policy='require' name='avx2'/>",
     "policy='disable' name='avx2'"},
    {FORMAT_FLAGS, "lesser-intel", NULL, "fpu |pni|sse4_2|avx|xsaveopt|lm",
     "avx2|osxsave|abm|nx|hypervisor|svm"},
    {FORMAT_GVISOR, "zen4", NULL,
     "{\"annotations\":{\"dev.gvisor.internal.cpufeatures\":\"fpu,|osxsave|ospke|clfushopt|avx512f|"
     "fsrm|lahf_lm",
     "clflushopt|avx512ifma|clzero|avx512_bf16|rtm|nonstop_tsc"},
    {FORMAT_CRAC, "haswell", NULL, "-XX:CPUFeatures=0x21801fcfbd7,0x1e6\n", NULL},
    {FORMAT_CRAC, "haswell-avx", NULL, "-XX:CPUFeatures=0x20001f0fbd7,0xe6\n", NULL},
    {FORMAT_CRAC, "lesser-intel", NULL, "-XX:CPUFeatures=0x2100054bbd7,0xe4\n", NULL},
    {FORMAT_OPENVZ, "haswell", NULL,
     "0x00000001: 0x00000600 0x00000800 0x7ed83203 0x078bfbff|"
     "0x80000001: 0x00000000 0x00000000 0x00000021 0x28100800",
     NULL},
    {FORMAT_OPENVZ, "zen4", NULL, "0x00000001: 0x00800f00 0x00000800", NULL},
    {FORMAT_XEN, "haswell", NULL,
     "cpuid = [|\"0x7,0:eax=00000000000000000000000000000000,ebx=|\"0xd,1:eax=|\"0x80000001:ecx=",
     "\"0x7,1|\"0x14|0x80000021"},
    {FORMAT_XEN, "zen4", NULL, "\"0x7,1:eax=", "\"0x7,0:eax"},
};
/* clang-format on */

/* The first word of a list that is there, or is not there; NULL for none. The caller owns it. */
static char *find_word(const char *text, const char *list, bool there)
{
    autofree char *copy = xstrdup(list ? list : "");
    char *rest = NULL;
    for (char *word = strtok_r(copy, "|", &rest); word; word = strtok_r(NULL, "|", &rest))
        if (has_word(text, word) == there)
            return xstrdup(word);
    return NULL;
}

static void formats_say_what_a_pool_has(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO(cpu_profile) pool = pool_of(cases[i].first, cases[i].second);
        autofree char *text = written(cases[i].format, pool);
        autofree char *missing = find_word(text, cases[i].wanted, false);
        autofree char *surplus = find_word(text, cases[i].unwanted, true);
        if (missing)
            fail_msg("%s of %s: '%s' is missing in\n%s", format_name(cases[i].format),
                     cases[i].first, missing, text);
        if (surplus)
            fail_msg("%s of %s: '%s' should not be in\n%s", format_name(cases[i].format),
                     cases[i].first, surplus, text);
    }
}

static void the_environment_is_the_same_as_pairs(void **state)
{
    (void)state;
    AUTO(cpu_profile) pool = pool_of("lesser-intel", "lesser-amd");
    autojson *environment = format_environment(pool);
    autofree char *text = written(FORMAT_ENV, pool);
    size_t lines = 0;
    for (const char *at = text; *at; at = strchr(at, '\n') + 1)
        lines++;
    assert_int_equal(lines, json_array_size(environment));
    assert_int_equal(lines, 5);
    for (size_t i = 0; i < lines; i++) {
        const char *name = json_str(json_array_item(environment, i), "name");
        const char *value = json_str(json_array_item(environment, i), "value");
        autofree char *line = xasprintf("export %s='%s'\n", name, value);
        assert_non_null(strstr(text, line));
        assert_null(strchr(value, '\''));
    }
}

/* OPENSSL_ia32cap: which bit of which vector. */
static void openssl_loses_what_the_pool_lacks(void **state)
{
    (void)state;
    static const struct {
        unsigned bit;
        bool off;
    } bits[] = {
        {57,       false}, /* aes */
        {60,       false},
 /* avx */
        {43,       true }, /* xop, not sdbg */
        {64 + 5,   false}, /* avx2 */
        {64 + 16,  true }, /* avx512f */
        {64 + 29,  true }, /* sha */
        {96 + 9,   true }, /* vaes */
        {160,      true }, /* sha512 */
        {28,       false}, /* hyper-threading */
        {30,       false}, /* Intel, to it */
        {288 + 18, true }, /* avx10, 512 bits */
    };
    AUTO(cpu_profile) pool = pool_of("haswell", NULL);
    autojson *environment = format_environment(pool);
    unsigned long long vector[5] = {0};
    assert_string_equal(json_str(json_array_item(environment, 1), "name"), "OPENSSL_ia32cap");
    assert_int_equal(sscanf(json_str(json_array_item(environment, 1), "value"),
                            "~0x%llx:~0x%llx:~0x%llx:~0x%llx:~0x%llx", &vector[0], &vector[1],
                            &vector[2], &vector[3], &vector[4]),
                     5);
    for (size_t i = 0; i < ARRAY_LEN(bits); i++)
        if ((vector[bits[i].bit / 64] >> bits[i].bit % 64 & 1) != bits[i].off)
            fail_msg("bit %u should %sbe switched off", bits[i].bit, bits[i].off ? "" : "not ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_format_has_a_name),
        cmocka_unit_test(an_unknown_format_is_told_the_known_ones),
        cmocka_unit_test(an_empty_pool_has_nothing_to_write),
        cmocka_unit_test(formats_say_what_a_pool_has),
        cmocka_unit_test(the_environment_is_the_same_as_pairs),
        cmocka_unit_test(openssl_loses_what_the_pool_lacks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
