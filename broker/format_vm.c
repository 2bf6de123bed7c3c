/* SPDX-License-Identifier: Apache-2.0 */
/* format_vm.c - the mask as the CPU of a virtual machine: QEMU and libvirt.
 *
 * Both begin with the model kvm64, which has what every 64-bit kernel needs and next to nothing
 * else, and say for each feature of the mask whether the guest has it. So the guest sees the same
 * CPU on every member, also where a member has features that the registry does not know. */
#include <string.h>

#include "format_private.h"

#define BASE_MODEL "kvm64"

/* What the mask decides about and the model brings along. */
static const enum cpu_feature_id base_features[] = {
    CPU_FEATURE_FPU,  CPU_FEATURE_TSC,  CPU_FEATURE_CX8,     CPU_FEATURE_CMOV, CPU_FEATURE_CLFLUSH,
    CPU_FEATURE_MMX,  CPU_FEATURE_FXSR, CPU_FEATURE_SSE,     CPU_FEATURE_SSE2, CPU_FEATURE_PNI,
    CPU_FEATURE_CX16, CPU_FEATURE_LM,   CPU_FEATURE_SYSCALL,
};

/* What a hypervisor gives to no guest, or only at a price that the mask cannot decide on. */
static const enum cpu_feature_id never_given[] = {
    CPU_FEATURE_NONSTOP_TSC, /* QEMU refuses to migrate a guest that has it */
    CPU_FEATURE_WAITPKG,     /* only with -overcommit cpu-pm=on */
    CPU_FEATURE_LWP,         /* KVM has no lightweight profiling */
    /* hints whose names would keep QEMU before 8.0 from starting */
    CPU_FEATURE_FZRM,
    CPU_FEATURE_FSRS,
    CPU_FEATURE_FSRC,
    CPU_FEATURE_PREFETCHITI,
};

static bool is_among(const enum cpu_feature_id *list, size_t count, enum cpu_feature_id feature)
{
    for (size_t i = 0; i < count; i++)
        if (list[i] == feature)
            return true;
    return false;
}

enum guest { GUEST_AS_MODEL, GUEST_HAS, GUEST_LACKS };

static enum guest guest_of(const struct cpu_profile *mask, enum cpu_feature_id feature)
{
    bool in_base = is_among(base_features, ARRAY_LEN(base_features), feature);
    if (!format_is_maskable(&cpu_features[feature]) || !cpu_features[feature].qemu_name ||
        is_among(never_given, ARRAY_LEN(never_given), feature) ||
        in_base == cpu_profile_has(mask, feature))
        return GUEST_AS_MODEL;
    return in_base ? GUEST_LACKS : GUEST_HAS;
}

int format_qemu(const struct cpu_profile *mask, FILE *out, struct error *err)
{
    (void)err;
    fputs(BASE_MODEL, out);
    if (*cpu_profile_vendor(mask))
        fprintf(out, ",vendor=%s", cpu_profile_vendor(mask));
    for (unsigned i = 0; i < CPU_FEATURE_COUNT; i++) {
        enum guest guest = guest_of(mask, (enum cpu_feature_id)i);
        if (guest != GUEST_AS_MODEL)
            fprintf(out, ",%s=%s", cpu_features[i].qemu_name, guest == GUEST_HAS ? "on" : "off");
    }
    fputs(",enforce\n", out); /* rather no guest than one with another CPU */
    return 0;
}

/* ---- libvirt */

/* Where libvirt's name is not QEMU's; NULL: it has none. */
static const struct {
    enum cpu_feature_id feature;
    const char *name;
} libvirt_names[] = {
    {CPU_FEATURE_PCLMULQDQ, "pclmuldq"},
    {CPU_FEATURE_LAHF_LM,   "lahf_lm" },
    {CPU_FEATURE_RNG,       NULL      },
    {CPU_FEATURE_ACE,       NULL      },
    {CPU_FEATURE_ACE2,      NULL      },
    {CPU_FEATURE_PHE,       NULL      },
    {CPU_FEATURE_PMM,       NULL      },
};

static const char *libvirt_name(enum cpu_feature_id feature)
{
    for (size_t i = 0; i < ARRAY_LEN(libvirt_names); i++)
        if (libvirt_names[i].feature == feature)
            return libvirt_names[i].name;
    return cpu_features[feature].qemu_name;
}

static const char *libvirt_vendor(const char *vendor)
{
    static const struct {
        const char *cpuid, *name;
    } vendors[] = {
        {"GenuineIntel", "Intel"},
        {"AuthenticAMD", "AMD"  },
        {"HygonGenuine", "Hygon"}
    };
    for (size_t i = 0; i < ARRAY_LEN(vendors); i++)
        if (strcmp(vendor, vendors[i].cpuid) == 0)
            return vendors[i].name;
    return NULL;
}

int format_libvirt(const struct cpu_profile *mask, FILE *out, struct error *err)
{
    (void)err;
    const char *vendor = libvirt_vendor(cpu_profile_vendor(mask));
    fputs("<cpu mode='custom' match='exact' check='full'>\n"
          "  <model fallback='forbid'>" BASE_MODEL "</model>\n",
          out);
    if (vendor)
        fprintf(out, "  <vendor>%s</vendor>\n", vendor);
    for (unsigned i = 0; i < CPU_FEATURE_COUNT; i++) {
        enum guest guest = guest_of(mask, (enum cpu_feature_id)i);
        const char *name = libvirt_name((enum cpu_feature_id)i);
        if (guest != GUEST_AS_MODEL && name)
            fprintf(out, "  <feature policy='%s' name='%s'/>\n",
                    guest == GUEST_HAS ? "require" : "disable", name);
    }
    fputs("</cpu>\n", out);
    return 0;
}
