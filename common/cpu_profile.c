/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_profile.c - profiles as values: life, look-ups, comparison, closure and union. */
#include "cpu_profile.h"

#include <string.h>

#include "cpu_profile_data.h"

struct cpu_profile *cpu_profile_new(void)
{
    struct cpu_profile *profile = xcalloc(1, sizeof(*profile));
    atomic_init(&profile->references, 1);
    return profile;
}

struct cpu_profile *cpu_profile_ref(struct cpu_profile *profile)
{
    atomic_fetch_add_explicit(&profile->references, 1, memory_order_relaxed);
    return profile;
}

void cpu_profile_free(struct cpu_profile *profile)
{
    if (!profile || atomic_fetch_sub_explicit(&profile->references, 1, memory_order_acq_rel) != 1)
        return;
    free(profile->components);
    free(profile->unknowns);
    free(profile);
}

void cpu_profile_set_enabled(struct cpu_profile *profile, uint64_t enabled)
{
    size_t count = (size_t)__builtin_popcountll(enabled);
    struct cpu_component *components = xcalloc(count, sizeof(*components));
    size_t at = 0;
    for (unsigned id = 0; id < CPU_COMPONENT_MAX; id++) {
        if (!(enabled >> id & 1))
            continue;
        if (profile->enabled >> id & 1)
            components[at] = *cpu_profile_slot(profile, id);
        components[at++].enabled = true;
    }
    free(profile->components);
    profile->components = components;
    profile->enabled = enabled;
}

uint32_t cpu_profile_computed_area(const struct cpu_profile *profile)
{
    uint32_t most = 0;
    for (unsigned id = 0; id < CPU_COMPONENT_MAX; id++) {
        if (!(profile->enabled >> id & 1))
            continue;
        const struct cpu_component *c = cpu_profile_slot(profile, id);
        if (!c->layout_known)
            return 0;
        if (c->offset_bytes + c->size_bytes > most)
            most = c->offset_bytes + c->size_bytes;
    }
    /* The legacy region and the header are always there. */
    if (profile->enabled && most < 576)
        most = 576;
    return most;
}

uint32_t cpu_profile_compact_area(const struct cpu_profile *profile, uint64_t components)
{
    uint32_t end = 576; /* the legacy region and the header */
    for (uint64_t rest = profile->enabled & components & ~UINT64_C(3); rest; rest &= rest - 1) {
        const struct cpu_component *c = cpu_profile_slot(profile, (unsigned)__builtin_ctzll(rest));
        if (!c->layout_known)
            return 0;
        end = (c->aligned ? (end + 63) / 64 * 64 : end) + c->size_bytes;
    }
    return end;
}

void cpu_profile_set_plain_xsave(struct cpu_profile *profile)
{
    profile->plain_xsave = cpu_profile_has_bit(profile, &cpu_features[CPU_FEATURE_XSAVE]) &&
                           !cpu_profile_has_bit(profile, &cpu_features[CPU_FEATURE_XSAVEC]);
}

static bool needs_are_met(const struct cpu_profile *p, const struct cpu_feature *f)
{
    for (size_t i = 0; i < f->need_count; i++)
        if (!cpu_profile_has_bit(p, &cpu_features[f->needs[i]]))
            return false;
    return (f->components & ~p->enabled) == 0;
}

/* Whether anything was dropped. */
static bool drop_features(struct cpu_profile *p)
{
    bool dropped = false;
    for (size_t i = 0; i < CPU_FEATURE_COUNT; i++) {
        const struct cpu_feature *f = &cpu_features[cpu_feature_order[i]];
        if (cpu_profile_has_bit(p, f) && !needs_are_met(p, f)) {
            cpu_profile_clear_bit(p, f);
            dropped = true;
        }
    }
    return dropped;
}

/* The components that stay: known ones whose feature is there, while XSAVE is. */
static uint64_t used_components(const struct cpu_profile *p)
{
    uint64_t used = 0;
    if (!cpu_profile_has_bit(p, &cpu_features[CPU_FEATURE_XSAVE]))
        return 0;
    for (size_t i = 0; i < cpu_component_info_count; i++) {
        const struct cpu_component_info *info = &cpu_components[i];
        if (!info->supervisor && info->feature >= 0 &&
            cpu_profile_has_bit(p, &cpu_features[info->feature]))
            used |= UINT64_C(1) << info->id;
    }
    return used & p->enabled;
}

void cpu_profile_close(struct cpu_profile *profile)
{
    do {
        uint64_t used = used_components(profile);
        if (used != profile->enabled)
            cpu_profile_set_enabled(profile, used);
    } while (drop_features(profile));
}

bool cpu_profile_has(const struct cpu_profile *profile, enum cpu_feature_id feature)
{
    return cpu_profile_has_bit(profile, &cpu_features[feature]);
}

const char *cpu_profile_vendor(const struct cpu_profile *profile)
{
    return profile->vendor;
}

const char *cpu_profile_brand(const struct cpu_profile *profile)
{
    return profile->brand;
}

bool cpu_profile_xcr0(const struct cpu_profile *profile, uint64_t *ret)
{
    *ret = profile->enabled;
    return profile->xcr0_known;
}

const struct cpu_component *cpu_profile_component(const struct cpu_profile *profile, unsigned id)
{
    static const struct cpu_component none;
    if (id >= CPU_COMPONENT_MAX || !(profile->enabled >> id & 1))
        return &none;
    return cpu_profile_slot(profile, id);
}

uint32_t cpu_profile_xsave_size(const struct cpu_profile *profile)
{
    uint32_t computed = cpu_profile_computed_area(profile);
    return computed ? computed : profile->area_bytes;
}

const char *cpu_profile_level(const struct cpu_profile *profile)
{
    /* x86-64 psABI, "Micro-Architecture Levels". OSXSAVE is a condition of XSAVE here. */
    static const struct {
        const char *name;
        enum cpu_feature_id features[12];
        size_t count;
    } levels[] = {
        {"x86-64-v1",
         {CPU_FEATURE_LM, CPU_FEATURE_CMOV, CPU_FEATURE_CX8, CPU_FEATURE_FPU, CPU_FEATURE_FXSR,
          CPU_FEATURE_MMX, CPU_FEATURE_SYSCALL, CPU_FEATURE_SSE, CPU_FEATURE_SSE2},
         9},
        {"x86-64-v2",
         {CPU_FEATURE_CX16, CPU_FEATURE_LAHF_LM, CPU_FEATURE_POPCNT, CPU_FEATURE_PNI,
          CPU_FEATURE_SSE4_1, CPU_FEATURE_SSE4_2, CPU_FEATURE_SSSE3},
         7},
        {"x86-64-v3",
         {CPU_FEATURE_AVX, CPU_FEATURE_AVX2, CPU_FEATURE_BMI1, CPU_FEATURE_BMI2, CPU_FEATURE_F16C,
          CPU_FEATURE_FMA, CPU_FEATURE_ABM, CPU_FEATURE_MOVBE, CPU_FEATURE_XSAVE},
         9},
        {"x86-64-v4",
         {CPU_FEATURE_AVX512F, CPU_FEATURE_AVX512BW, CPU_FEATURE_AVX512CD, CPU_FEATURE_AVX512DQ,
          CPU_FEATURE_AVX512VL},
         5},
    };
    const char *level = "x86-64-v0";
    for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
        for (size_t k = 0; k < levels[i].count; k++)
            if (!cpu_profile_has(profile, levels[i].features[k]))
                return level;
        level = levels[i].name;
    }
    return level;
}

json_object *cpu_profile_feature_names(const struct cpu_profile *profile)
{
    json_object *names = json_object_new_array();
    for (size_t i = 0; i < CPU_FEATURE_COUNT; i++) {
        const struct cpu_feature *f = &cpu_features[i];
        if ((f->kind == CPU_KIND_ISA || f->kind == CPU_KIND_STATE || f->kind == CPU_KIND_HINT) &&
            cpu_profile_has_bit(profile, f))
            json_object_array_add(names, json_object_new_string(f->name));
    }
    return names;
}

static bool same_component(const struct cpu_component *a, const struct cpu_component *b)
{
    return a->enabled == b->enabled && a->layout_known == b->layout_known &&
           a->aligned == b->aligned && a->conflict == b->conflict &&
           a->size_bytes == b->size_bytes && a->offset_bytes == b->offset_bytes;
}

static bool same_unknown(const struct cpu_unknown *a, const struct cpu_unknown *b)
{
    return a->leaf == b->leaf && a->subleaf == b->subleaf && a->reg == b->reg && a->bits == b->bits;
}

bool cpu_profile_equal(const struct cpu_profile *a, const struct cpu_profile *b)
{
    if (a == b)
        return true;
    if (memcmp(a->words, b->words, sizeof(a->words)) != 0 ||
        memcmp(a->fields, b->fields, sizeof(a->fields)) != 0 ||
        a->field_conflicts != b->field_conflicts || a->xcr0_known != b->xcr0_known ||
        a->enabled != b->enabled || a->area_bytes != b->area_bytes ||
        a->plain_xsave != b->plain_xsave || a->minsigstksz_known != b->minsigstksz_known ||
        a->minsigstksz != b->minsigstksz || a->unknown_count != b->unknown_count ||
        strcmp(a->vendor, b->vendor) != 0 || strcmp(a->brand, b->brand) != 0)
        return false;
    for (int i = 0; i < __builtin_popcountll(a->enabled); i++)
        if (!same_component(&a->components[i], &b->components[i]))
            return false;
    for (uint32_t i = 0; i < a->unknown_count; i++)
        if (!same_unknown(&a->unknowns[i], &b->unknowns[i]))
            return false;
    return true;
}

static uint64_t hash_bytes(uint64_t hash, const void *data, size_t length)
{
    const unsigned char *bytes = data; /* FNV-1a */
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    return hash;
}

uint64_t cpu_profile_hash(const struct cpu_profile *profile)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    hash = hash_bytes(hash, profile->words, sizeof(profile->words));
    hash = hash_bytes(hash, profile->fields, sizeof(profile->fields));
    hash = hash_bytes(hash, &profile->enabled, sizeof(profile->enabled));
    hash = hash_bytes(hash, &profile->area_bytes, sizeof(profile->area_bytes));
    hash = hash_bytes(hash, &profile->minsigstksz, sizeof(profile->minsigstksz));
    return hash_bytes(hash, profile->brand, strlen(profile->brand));
}

static struct cpu_component joined_component(const struct cpu_component *a,
                                             const struct cpu_component *b)
{
    if (!a->enabled)
        return *b;
    if (!b->enabled)
        return *a;
    struct cpu_component c = *a;
    c.layout_known = a->layout_known && b->layout_known;
    c.conflict = a->conflict || b->conflict ||
                 (c.layout_known && (a->size_bytes != b->size_bytes || a->aligned != b->aligned ||
                                     a->offset_bytes != b->offset_bytes));
    return c;
}

static int compare_unknown(const struct cpu_unknown *a, const struct cpu_unknown *b)
{
    if (a->leaf != b->leaf)
        return a->leaf < b->leaf ? -1 : 1;
    if (a->subleaf != b->subleaf)
        return a->subleaf < b->subleaf ? -1 : 1;
    return (int)a->reg - (int)b->reg;
}

static void join_unknowns(struct cpu_profile *into, const struct cpu_profile *a,
                          const struct cpu_profile *b)
{
    into->unknowns = xcalloc(a->unknown_count + b->unknown_count, sizeof(*into->unknowns));
    uint32_t i = 0, k = 0;
    while (i < a->unknown_count || k < b->unknown_count) {
        struct cpu_unknown *u = &into->unknowns[into->unknown_count++];
        int order = i == a->unknown_count   ? 1
                    : k == b->unknown_count ? -1
                                            : compare_unknown(&a->unknowns[i], &b->unknowns[k]);
        if (order <= 0)
            *u = a->unknowns[i++];
        if (order > 0)
            *u = b->unknowns[k++];
        else if (order == 0)
            u->bits |= b->unknowns[k++].bits;
    }
}

static void join_fields(struct cpu_profile *into, const struct cpu_profile *a,
                        const struct cpu_profile *b)
{
    into->field_conflicts = a->field_conflicts | b->field_conflicts;
    for (unsigned i = 0; i < CPU_FIELD_COUNT; i++) {
        uint32_t x = a->fields[i], y = b->fields[i];
        into->fields[i] = x > y ? x : y;
        if (cpu_fields[i].kind == CPU_KIND_EQUAL && x && y && x != y)
            into->field_conflicts |= UINT64_C(1) << i;
    }
}

static uint32_t least_known(uint32_t a, uint32_t b)
{
    if (!a || !b)
        return a ? a : b;
    return a < b ? a : b;
}

struct cpu_profile *cpu_profile_join(const struct cpu_profile *a, const struct cpu_profile *b)
{
    struct cpu_profile *joined = cpu_profile_new();
    for (unsigned i = 0; i < CPU_WORD_COUNT; i++) {
        uint32_t either = a->words[i] | b->words[i], both = a->words[i] & b->words[i];
        /* Having seen a CPU with a guarantee, a process may rely on it: behaviours are ANDed. */
        joined->words[i] = (either & ~cpu_words[i].behaviour) | (both & cpu_words[i].behaviour);
    }
    join_fields(joined, a, b);
    joined->xcr0_known = a->xcr0_known && b->xcr0_known;
    cpu_profile_set_enabled(joined, a->enabled | b->enabled);
    for (unsigned id = 0; id < CPU_COMPONENT_MAX; id++)
        if (joined->enabled >> id & 1)
            *cpu_profile_slot(joined, id) =
                joined_component(cpu_profile_component(a, id), cpu_profile_component(b, id));
    /* Its buffers may have been sized on either: the smaller one is what can overflow. */
    joined->area_bytes = least_known(a->area_bytes, b->area_bytes);
    joined->plain_xsave = a->plain_xsave || b->plain_xsave;
    joined->minsigstksz_known = a->minsigstksz_known || b->minsigstksz_known;
    joined->minsigstksz = least_known(a->minsigstksz, b->minsigstksz);
    join_unknowns(joined, a, b);
    if (strcmp(a->vendor, b->vendor) == 0)
        memcpy(joined->vendor, a->vendor, sizeof(joined->vendor));
    if (strcmp(a->brand, b->brand) == 0)
        memcpy(joined->brand, a->brand, sizeof(joined->brand));
    return joined;
}
