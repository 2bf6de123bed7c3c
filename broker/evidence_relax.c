/* SPDX-License-Identifier: Apache-2.0 */
/* evidence_relax.c - which features a process provably cannot use.
 *
 * The proof rests on the marks that the GNU assembler leaves in each file it makes (x86 ISA used,
 * x86 feature used) and that the linker keeps only where every part of a file has them. They cover
 * whole classes of instructions, so a feature is judged by its class. */
#include <string.h>

#include "cpu_profile_data.h"
#include "evidence.h"
#include "verdict_reason.h"

#define NO_LEVEL 5

/* A class of features, and the marks without which no instruction of it is in the code. */
struct feature_class {
    unsigned level;     /* code of this level or above may hold some */
    uint32_t registers; /* so may code that uses one of these */
};

enum { CLASS_AVX512, CLASS_AVX, CLASS_AMX, CLASS_V3, CLASS_V2 };

static const struct feature_class classes[] = {
    [CLASS_AVX512] = {4,        CPU_CODE_ZMM | CPU_CODE_MASK               }, /* EVEX, opmasks */
    [CLASS_AVX] = {3,        CPU_CODE_YMM | CPU_CODE_ZMM | CPU_CODE_MASK}, /* VEX, XOP */
    [CLASS_AMX] = {NO_LEVEL, CPU_CODE_TMM                               },
    [CLASS_V3] = {3,        0                                          },
    [CLASS_V2] = {2,        0                                          },
};

static bool depends_on(const struct cpu_feature *f, enum cpu_feature_id id)
{
    if (f == &cpu_features[id])
        return true;
    for (size_t i = 0; i < f->need_count; i++)
        if (depends_on(&cpu_features[f->needs[i]], id))
            return true;
    return false;
}

static bool is_one_of(const struct cpu_feature *f, const enum cpu_feature_id *ids, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (f == &cpu_features[ids[i]])
            return true;
    return false;
}

/* The class whose marks tell of every instruction of the feature; NULL: no mark does. What fails
 * without a fault when it is missing is never in one. */
static const struct feature_class *class_of(const struct cpu_feature *f)
{
    static const enum cpu_feature_id of_v3[] = {CPU_FEATURE_BMI2, CPU_FEATURE_MOVBE};
    static const enum cpu_feature_id of_v2[] = {
        CPU_FEATURE_PNI,  CPU_FEATURE_SSSE3,  CPU_FEATURE_SSE4_1, CPU_FEATURE_SSE4_2,
        CPU_FEATURE_CX16, CPU_FEATURE_POPCNT, CPU_FEATURE_LAHF_LM};
    if (f->effect != CPU_EFFECT_SIGILL || (f->kind != CPU_KIND_ISA && f->kind != CPU_KIND_STATE))
        return NULL;
    if (depends_on(f, CPU_FEATURE_AVX512F))
        return &classes[CLASS_AVX512];
    if (depends_on(f, CPU_FEATURE_AMX_TILE))
        return &classes[CLASS_AMX];
    if (depends_on(f, CPU_FEATURE_AVX))
        return &classes[CLASS_AVX];
    if (is_one_of(f, of_v3, ARRAY_LEN(of_v3)))
        return &classes[CLASS_V3];
    return is_one_of(f, of_v2, ARRAY_LEN(of_v2)) ? &classes[CLASS_V2] : NULL;
}

/* Whether any feature of the class, or one that needs one, is active. */
static bool is_active(const uint32_t active[CPU_WORD_COUNT], const struct feature_class *class)
{
    for (unsigned i = 0; i < CPU_FEATURE_COUNT; i++) {
        const struct cpu_feature *f = &cpu_features[i];
        if ((active[f->word] >> f->bit & 1) && class_of(f) == class)
            return true;
    }
    return false;
}

/* The components that a feature of the class keeps its registers in. */
static uint64_t components_of(const struct feature_class *class)
{
    uint64_t components = 0;
    for (size_t i = 0; i < cpu_component_info_count; i++) {
        const struct cpu_component_info *info = &cpu_components[i];
        if (!info->supervisor && info->feature >= 0 &&
            class_of(&cpu_features[info->feature]) == class)
            components |= UINT64_C(1) << info->id;
    }
    return components;
}

static bool task_excludes(const struct cpu_evidence_task *task, const struct feature_class *class)
{
    return task->code_marked && task->isa_used < class->level &&
           !(task->registers & class->registers) && task->isa_needed < class->level &&
           !(task->glibc_known && is_active(task->active, class));
}

static bool excludes_class(const struct cpu_evidence *evidence, const struct feature_class *class)
{
    struct cpu_evidence_summary summary;
    cpu_evidence_summarize(evidence, &summary);
    if (!evidence->complete || !summary.state_known || (summary.live & components_of(class)) ||
        (class == &classes[CLASS_AMX] && summary.amx != CPU_AMX_NO))
        return false;
    for (size_t i = 0; i < evidence->task_count; i++)
        if (!task_excludes(&evidence->tasks[i], class))
            return false;
    return true;
}

bool evidence_excludes(const struct cpu_evidence *evidence, enum cpu_feature_id feature)
{
    const struct feature_class *class = class_of(&cpu_features[feature]);
    return class && excludes_class(evidence, class);
}

static void add_unused(const struct cpu_feature *f, const char *to, struct verdict *verdict)
{
    char place[64];
    struct verdict_reason *reason =
        verdict_reason_add(verdict, VERDICT_FEATURE_UNUSED, VERDICT_WARN);
    cpu_bit_place(f->leaf, f->subleaf, f->reg, f->bit, place, sizeof(place));
    reason->feature = (int)(f - cpu_features);
    reason->has_bit = true;
    reason->leaf = f->leaf;
    reason->subleaf = f->subleaf;
    reason->reg = f->reg;
    reason->bit = f->bit;
    reason->source = 1;
    reason->message =
        xasprintf("%s lacks %s (%s); let pass, for all code of the workload is marked as doing "
                  "without it, its C library has it off and no thread holds registers of it",
                  to, f->name, place);
}

/* The need without the features of those classes that the target lacks, and without the components
 * that are left without a feature. `verdict` (may be NULL) is told each. */
static struct cpu_profile *without(struct cpu_profile *need, const bool excluded[],
                                   const struct cpu_profile *target, const char *to,
                                   struct verdict *verdict)
{
    AUTO(cpu_profile) relaxed = NULL;
    for (unsigned i = 0; i < CPU_FEATURE_COUNT; i++) {
        const struct cpu_feature *f = &cpu_features[i];
        const struct feature_class *class = class_of(f);
        if (!class || !excluded[class - classes] || !cpu_profile_has_bit(need, f) ||
            cpu_profile_has_bit(target, f))
            continue;
        if (!relaxed)
            relaxed = cpu_profile_join(need, need); /* a copy */
        cpu_profile_clear_bit(relaxed, f);
        if (verdict)
            add_unused(f, to, verdict);
    }
    if (!relaxed)
        return cpu_profile_ref(need);
    uint64_t kept = relaxed->enabled;
    for (size_t i = 0; i < cpu_component_info_count; i++) {
        int feature = cpu_components[i].feature;
        if (!cpu_components[i].supervisor && feature >= 0 &&
            !cpu_profile_has_bit(relaxed, &cpu_features[feature]) &&
            cpu_profile_has_bit(need, &cpu_features[feature]))
            kept &= ~(UINT64_C(1) << cpu_components[i].id);
    }
    cpu_profile_set_enabled(relaxed, kept);
    return steal_ptr(&relaxed);
}

struct cpu_profile *evidence_relax(const struct cpu_evidence *evidence, struct cpu_profile *need,
                                   const struct cpu_profile *target, const char *to,
                                   struct verdict *verdict)
{
    bool excluded[ARRAY_LEN(classes)] = {false};
    for (size_t i = 0; i < ARRAY_LEN(classes); i++)
        excluded[i] = excludes_class(evidence, &classes[i]);
    return without(need, excluded, target, to, verdict);
}

struct cpu_profile *evidence_relax_at_best(struct cpu_profile *need,
                                           const struct cpu_profile *target)
{
    bool excluded[ARRAY_LEN(classes)];
    for (size_t i = 0; i < ARRAY_LEN(classes); i++)
        excluded[i] = true;
    return without(need, excluded, target, NULL, NULL);
}
