/* SPDX-License-Identifier: Apache-2.0 */
/* format_env.c - the mask as environment variables that libraries and runtimes read.
 *
 * Each variable switches off what the pool lacks and some machine may have, as far as the variable
 * reaches; where it cannot name a feature, the next coarser switch that covers it is used. */
#include <inttypes.h>
#include <string.h>

#include "format_private.h"

/* Text that grows; starts zeroed. */
struct words {
    char *text; /* owned */
    size_t size;
    FILE *out;
};

static void words_begin(struct words *w)
{
    w->out = open_memstream(&w->text, &w->size);
    if (!w->out) {
        perror("open_memstream");
        abort();
    }
}

/* "a", then ",b": `separator` stands between items. */
static void words_add(struct words *w, const char *separator, const char *before, const char *name,
                      const char *after)
{
    fflush(w->out);
    fprintf(w->out, "%s%s%s%s", w->size ? separator : "", before, name, after);
}

static void put_variable(json_object *list, const char *name, const char *value)
{
    json_object *o = json_object_new_object();
    json_put_str(o, "name", name);
    json_put_str(o, "value", value);
    json_object_array_add(list, o);
}

/* Makes the text the value of a variable, unless there is none. */
static void words_end(struct words *w, json_object *list, const char *name, const char *prefix)
{
    fclose(w->out);
    autofree char *text = steal_ptr(&w->text);
    if (!w->size)
        return;
    autofree char *value = xasprintf("%s%s", prefix, text);
    put_variable(list, name, value);
}

/* Another name by which some release calls what a feature switches. */
struct alias {
    const char *name;
    enum cpu_feature_id feature;
};

/* ---- glibc */

/* Up to 2.31 some features had a bit of their own for "usable"; and memcpy looks at a preference
 * that is set from AVX2 before the tunables are read, and not at AVX2 itself. A name that a glibc
 * does not know is passed over in silence. */
static const struct alias glibc_aliases[] = {
    {"AVX_Usable",              CPU_FEATURE_AVX     },
    {"AVX2_Usable",             CPU_FEATURE_AVX2    },
    {"FMA_Usable",              CPU_FEATURE_FMA     },
    {"FMA4_Usable",             CPU_FEATURE_FMA4    },
    {"AVX512F_Usable",          CPU_FEATURE_AVX512F },
    {"AVX512DQ_Usable",         CPU_FEATURE_AVX512DQ},
    {"XSAVEC_Usable",           CPU_FEATURE_XSAVEC  },
    {"AVX_Fast_Unaligned_Load", CPU_FEATURE_AVX2    },
};

static void put_glibc(const struct cpu_profile *mask, json_object *list)
{
    struct words w = {0};
    words_begin(&w);
    for (unsigned i = 0; i < CPU_FEATURE_COUNT; i++)
        if (cpu_features[i].glibc_name && format_lacks(mask, (enum cpu_feature_id)i))
            words_add(&w, ",", "-", cpu_features[i].glibc_name, "");
    for (size_t i = 0; i < ARRAY_LEN(glibc_aliases); i++)
        if (format_lacks(mask, glibc_aliases[i].feature))
            words_add(&w, ",", "-", glibc_aliases[i].name, "");
    words_end(&w, list, "GLIBC_TUNABLES", "glibc.cpu.hwcaps=");
}

/* ---- OpenSSL */

#define OPENSSL_VECTORS 5 /* of 64 bits; 3.5 reads so many, releases before it the first two */

static void put_openssl(const struct cpu_profile *mask, json_object *list)
{
    uint64_t off[OPENSSL_VECTORS] = {0};
    size_t count = 0;
    for (unsigned i = 0; i < CPU_FEATURE_COUNT; i++) {
        int bit = cpu_features[i].openssl_bit;
        if (bit < 0 || bit >= 64 * OPENSSL_VECTORS || !format_lacks(mask, (enum cpu_feature_id)i))
            continue;
        off[bit / 64] |= UINT64_C(1) << (bit % 64);
        if ((size_t)bit / 64 >= count)
            count = (size_t)bit / 64 + 1;
    }
    struct words w = {0};
    words_begin(&w);
    for (size_t i = 0; i < count; i++) {
        char vector[32];
        snprintf(vector, sizeof(vector), "0x%" PRIx64, off[i]);
        words_add(&w, ":", "~", vector, ""); /* "~": clear these bits, leave the others */
    }
    words_end(&w, list, "OPENSSL_ia32cap", "");
}

/* ---- Go */

/* Names that only one of Go's two lists has (the runtime's, and that of golang.org/x/sys/cpu). */
static const struct alias go_aliases[] = {
    {"avx512",           CPU_FEATURE_AVX512F   },
    {"avx512vpclmulqdq", CPU_FEATURE_VPCLMULQDQ},
    {"gfni",             CPU_FEATURE_GFNI      },
    {"vaes",             CPU_FEATURE_VAES      },
};

static void put_go(const struct cpu_profile *mask, json_object *list)
{
    struct words w = {0};
    words_begin(&w);
    for (unsigned i = 0; i < CPU_FEATURE_COUNT; i++)
        if (cpu_features[i].go_name && format_lacks(mask, (enum cpu_feature_id)i))
            words_add(&w, ",", "cpu.", cpu_features[i].go_name, "=off");
    for (size_t i = 0; i < ARRAY_LEN(go_aliases); i++)
        if (format_lacks(mask, go_aliases[i].feature))
            words_add(&w, ",", "cpu.", go_aliases[i].name, "=off");
    words_end(&w, list, "GODEBUG", "");
}

/* ---- Java */

/* HotSpot has levels for vectors. A level is left alone only where the pool has every feature
 * that releases up to 22 use at it, for single ones cannot be switched off. */
struct java_level {
    const char *option;
    enum cpu_feature_id needs[14];
    size_t need_count;
};

/* The first that the pool can have. */
static const struct java_level java_avx[] = {
    {"-XX:UseAVX=3",
     {CPU_FEATURE_AVX512F, CPU_FEATURE_AVX512CD, CPU_FEATURE_AVX512BW, CPU_FEATURE_AVX512DQ,
      CPU_FEATURE_AVX512VL, CPU_FEATURE_AVX512_VPOPCNTDQ, CPU_FEATURE_VPCLMULQDQ, CPU_FEATURE_VAES,
      CPU_FEATURE_AVX512_VNNI, CPU_FEATURE_AVX512_VBMI2, CPU_FEATURE_AVX512VBMI,
      CPU_FEATURE_AVX512_BITALG, CPU_FEATURE_AVX512IFMA, CPU_FEATURE_GFNI},
     14                                                                      },
    {"-XX:UseAVX=2", {CPU_FEATURE_AVX2},                                    1},
    {"-XX:UseAVX=1", {CPU_FEATURE_AVX},                                     1},
    {"-XX:UseAVX=0", {0},                                                   0},
};

static const struct java_level java_sse[] = {
    {"-XX:UseSSE=4", {CPU_FEATURE_SSE4_1, CPU_FEATURE_SSE4_2}, 2},
    {"-XX:UseSSE=3", {CPU_FEATURE_PNI, CPU_FEATURE_SSSE3},     2},
    {"-XX:UseSSE=2", {0},                                      0},
};

/* Set where the pool lacks one of `needs`. */
static const struct java_level java_off[] = {
    {"-XX:-UseAES",                           {CPU_FEATURE_AES},                   1},
    {"-XX:-UseCLMUL",                         {CPU_FEATURE_PCLMULQDQ},             1},
    {"-XX:-UseSHA",                           {CPU_FEATURE_SHA_NI},                1},
    {"-XX:-UseFMA",                           {CPU_FEATURE_FMA},                   1},
    {"-XX:-UsePopCountInstruction",           {CPU_FEATURE_POPCNT},                1},
    {"-XX:-UseCountLeadingZerosInstruction",  {CPU_FEATURE_ABM},                   1},
    {"-XX:-UseCountTrailingZerosInstruction", {CPU_FEATURE_BMI1},                  1},
    {"-XX:-UseBMI1Instructions",              {CPU_FEATURE_BMI1},                  1},
    {"-XX:-UseBMI2Instructions",              {CPU_FEATURE_BMI2, CPU_FEATURE_ADX}, 2}, /* ADX has no switch */
    {"-XX:-UseFastStosb",                     {CPU_FEATURE_ERMS},                  1},
};

/* The highest level that the pool has; nothing where that is the highest of all. */
static void add_level(struct words *w, const struct cpu_profile *mask,
                      const struct java_level *levels)
{
    const struct java_level *level = levels;
    while (!format_has_all(mask, level->needs, level->need_count))
        level++;
    if (level != levels)
        words_add(w, " ", "", level->option, "");
}

static void put_java(const struct cpu_profile *mask, json_object *list)
{
    struct words w = {0};
    words_begin(&w);
    add_level(&w, mask, java_sse);
    add_level(&w, mask, java_avx);
    for (size_t i = 0; i < ARRAY_LEN(java_off); i++)
        if (!format_has_all(mask, java_off[i].needs, java_off[i].need_count))
            words_add(&w, " ", "", java_off[i].option, "");
    /* a release without one of the options would not start */
    words_end(&w, list, "JAVA_TOOL_OPTIONS", "-XX:+IgnoreUnrecognizedVMOptions ");
}

/* ---- OpenBLAS */

/* Kernels that builds with DYNAMIC_ARCH have, best first, with what their code is compiled for. */
static const struct {
    const char *core;
    enum cpu_feature_id needs[16];
    size_t need_count;
} openblas_cores[] = {
#define OPENBLAS_AVX2                                                                       \
    CPU_FEATURE_AVX2, CPU_FEATURE_FMA, CPU_FEATURE_BMI1, CPU_FEATURE_BMI2, CPU_FEATURE_ABM, \
        CPU_FEATURE_MOVBE, CPU_FEATURE_F16C
    {"SkylakeX",
                       {CPU_FEATURE_AVX512F, CPU_FEATURE_AVX512CD, CPU_FEATURE_AVX512BW, CPU_FEATURE_AVX512DQ,
      CPU_FEATURE_AVX512VL, OPENBLAS_AVX2},
                       12                                                                         },
    {"Haswell",     {OPENBLAS_AVX2},                                           7},
    {"Sandybridge", {CPU_FEATURE_AVX, CPU_FEATURE_SSE4_2, CPU_FEATURE_POPCNT}, 3},
    {"Nehalem",     {CPU_FEATURE_SSE4_2, CPU_FEATURE_POPCNT},                  2},
    {"Core2",       {CPU_FEATURE_SSSE3},                                       1},
    {"Prescott",    {CPU_FEATURE_PNI},                                         1},
#undef OPENBLAS_AVX2
};

static void put_openblas(const struct cpu_profile *mask, json_object *list)
{
    for (size_t i = 0; i < ARRAY_LEN(openblas_cores); i++)
        if (format_has_all(mask, openblas_cores[i].needs, openblas_cores[i].need_count)) {
            put_variable(list, "OPENBLAS_CORETYPE", openblas_cores[i].core);
            return;
        }
}

json_object *format_environment(const struct cpu_profile *pool_mask)
{
    json_object *list = json_object_new_array();
    put_glibc(pool_mask, list);
    put_openssl(pool_mask, list);
    put_go(pool_mask, list);
    put_java(pool_mask, list);
    put_openblas(pool_mask, list);
    return list;
}

int format_env(const struct cpu_profile *mask, FILE *out, struct error *err)
{
    (void)err;
    autojson *list = format_environment(mask);
    /* no value holds a quote: they are made of the names above */
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_object *variable = json_array_item(list, i);
        fprintf(out, "export %s='%s'\n", json_str(variable, "name"), json_str(variable, "value"));
    }
    return 0;
}
