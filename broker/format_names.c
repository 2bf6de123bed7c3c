/* SPDX-License-Identifier: Apache-2.0 */
/* format_names.c - the mask as lists of what is allowed: the kernel's flags, gVisor, CRaC. */
#include <inttypes.h>
#include <string.h>

#include "format_private.h"

int format_flags(const struct cpu_profile *mask, FILE *out, struct error *err)
{
    (void)err;
    const char *separator = "";
    for (unsigned i = 0; i < CPU_FEATURE_COUNT; i++)
        if (cpu_features[i].linux_name && format_is_maskable(&cpu_features[i]) &&
            cpu_profile_has(mask, (enum cpu_feature_id)i)) {
            fprintf(out, "%s%s", separator, cpu_features[i].linux_name);
            separator = " ";
        }
    fputc('\n', out);
    return 0;
}

/* ---- gVisor */

/* The registers whose features gVisor knows. An unknown name stops the sandbox from starting. */
static const struct {
    uint32_t leaf, subleaf;
    enum cpu_register reg;
} gvisor_registers[] = {
    {0x1,        0, CPU_ECX},
    {0x1,        0, CPU_EDX},
    {0x7,        0, CPU_EBX},
    {0x7,        0, CPU_ECX},
    {0x7,        0, CPU_EDX},
    {0x80000001, 0, CPU_ECX},
    {0x80000001, 0, CPU_EDX},
    {0xd,        1, CPU_EAX},
};

/* Features there that gVisor calls otherwise than the kernel; NULL: it has no name for them, and so
 * passes them on as they are. */
static const struct {
    enum cpu_feature_id feature;
    const char *name;
} gvisor_names[] = {
    {CPU_FEATURE_OSXSAVE,     "osxsave"    },
    {CPU_FEATURE_CLFLUSHOPT,  "clfushopt"  }, /* sic */
    {CPU_FEATURE_PREFETCHWT1, "prefetchwt1"},
    {CPU_FEATURE_AVX512IFMA,  NULL         },
    {CPU_FEATURE_PCOMMIT,     NULL         },
    {CPU_FEATURE_KL,          NULL         },
    {CPU_FEATURE_ENQCMD,      NULL         },
    {CPU_FEATURE_SHSTK,       NULL         }, /* "cet_ss", which gVisor gives to nobody */
};

static const char *gvisor_name(enum cpu_feature_id feature)
{
    const struct cpu_feature *f = &cpu_features[feature];
    for (size_t i = 0; i < ARRAY_LEN(gvisor_names); i++)
        if (gvisor_names[i].feature == feature)
            return gvisor_names[i].name;
    for (size_t i = 0; i < ARRAY_LEN(gvisor_registers); i++)
        if (gvisor_registers[i].leaf == f->leaf && gvisor_registers[i].subleaf == f->subleaf &&
            gvisor_registers[i].reg == f->reg)
            return f->linux_name;
    return NULL;
}

int format_gvisor(const struct cpu_profile *mask, FILE *out, struct error *err)
{
    (void)err;
    const char *separator = "";
    fputs("{\"annotations\":{\"dev.gvisor.internal.cpufeatures\":\"", out);
    for (unsigned i = 0; i < CPU_FEATURE_COUNT; i++) {
        const char *name = gvisor_name((enum cpu_feature_id)i);
        if (!name || !format_has(mask, (enum cpu_feature_id)i))
            continue;
        fprintf(out, "%s%s", separator, name);
        separator = ",";
    }
    fputs("\"}}\n", out);
    return 0;
}

/* ---- CRaC */

/* HotSpot's own numbers of the features, those that JDK 17 to 22 have in common
 * (vm_version_x86.hpp, CPU_FEATURE_FLAGS). Left out are those that are no property of the CPU's
 * instructions (ht, tscinv, hv) and those above 46, which JDK 17 does not have: what is not listed
 * counts as missing, which is always safe; one too many keeps the JVM from starting. */
#define CRAC_FEATURES(X)        \
    X(0, CX8)                   \
    X(1, CMOV)                  \
    X(2, FXSR)                  \
    X(4, MMX)                   \
    X(5, 3DNOWPREFETCH)         \
    X(6, SSE)                   \
    X(7, SSE2)                  \
    X(8, PNI)                   \
    X(9, SSSE3)                 \
    X(10, SSE4A)                \
    X(11, SSE4_1)               \
    X(12, SSE4_2)               \
    X(13, POPCNT)               \
    X(14, ABM)                  \
    X(15, TSC)                  \
    X(18, AVX)                  \
    X(19, AVX2)                 \
    X(20, AES)                  \
    X(21, ERMS)                 \
    X(22, PCLMULQDQ)            \
    X(23, BMI1)                 \
    X(24, BMI2)                 \
    X(25, RTM)                  \
    X(26, ADX)                  \
    X(27, AVX512F)              \
    X(28, AVX512DQ)             \
    X(29, AVX512PF)             \
    X(30, AVX512ER)             \
    X(31, AVX512CD)             \
    X(32, AVX512BW)             \
    X(33, AVX512VL)             \
    X(34, SHA_NI)               \
    X(35, FMA)                  \
    X(36, AVX) /* vzeroupper */ \
    X(41, CLFLUSH)              \
    X(42, CLFLUSHOPT)           \
    X(43, CLWB)
/* Those that it counts only where AVX-512 is. */
#define CRAC_AVX512_FEATURES(X) \
    X(37, AVX512_VPOPCNTDQ)     \
    X(38, VPCLMULQDQ)           \
    X(39, VAES)                 \
    X(40, AVX512_VNNI)          \
    X(44, AVX512_VBMI2)         \
    X(45, AVX512VBMI)
/* The second number: what only glibc uses of the CPU (GLIBC_FEATURE_FLAGS). */
#define CRAC_GLIBC_FEATURES(X) \
    X(0, FMA4)                 \
    X(1, MOVBE)                \
    X(2, OSXSAVE)              \
    X(5, XSAVE)                \
    X(6, CX16)                 \
    X(7, LAHF_LM)              \
    X(8, F16C)

struct crac_bit {
    unsigned bit;
    enum cpu_feature_id feature;
};

static uint64_t crac_number(const struct cpu_profile *mask, const struct crac_bit *bits,
                            size_t count)
{
    uint64_t number = 0;
    for (size_t i = 0; i < count; i++)
        if (cpu_profile_has(mask, bits[i].feature))
            number |= UINT64_C(1) << bits[i].bit;
    return number;
}

int format_crac(const struct cpu_profile *mask, FILE *out, struct error *err)
{
    (void)err;
#define X(number, feature) {(number), CPU_FEATURE_##feature},
    static const struct crac_bit features[] = {CRAC_FEATURES(X)};
    static const struct crac_bit avx512[] = {CRAC_AVX512_FEATURES(X)};
    static const struct crac_bit glibc[] = {CRAC_GLIBC_FEATURES(X)};
#undef X
    uint64_t number = crac_number(mask, features, ARRAY_LEN(features));
    if (cpu_profile_has(mask, CPU_FEATURE_AVX512F))
        number |= crac_number(mask, avx512, ARRAY_LEN(avx512));
    fprintf(out, "-XX:CPUFeatures=0x%" PRIx64 ",0x%" PRIx64 "\n", number,
            crac_number(mask, glibc, ARRAY_LEN(glibc)));
    return 0;
}
