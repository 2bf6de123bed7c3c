/* SPDX-License-Identifier: Apache-2.0 */
/* verdict.c - the rules: what a process needs against what a node has.
 *
 * docs/verdict.md explains each rule and where it comes from. The order is the registry's: CPU
 * features by word, values, the xsave area, then what is about the node as a whole. */
#include "verdict.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cpu_profile_data.h"
#include "verdict_reason.h"

struct judgement {
    const struct cpu_profile *need, *target;
    const char *from, *to;
    const struct verdict_policy *policy;
    struct verdict *verdict;
};

/* "leaf 7 EBX bit 5" */
struct place {
    char text[64];
};

static struct place place_of(uint32_t leaf, uint32_t subleaf, unsigned reg, unsigned bit)
{
    struct place place = {""};
    cpu_bit_place(leaf, subleaf, reg, bit, place.text, sizeof(place.text));
    return place;
}

static struct verdict_reason *add_bit(const struct judgement *j, enum verdict_code code,
                                      enum verdict_severity severity,
                                      const struct cpu_feature *feature, bool source, bool target)
{
    struct verdict_reason *reason = verdict_reason_add(j->verdict, code, severity);
    reason->feature = (int)(feature - cpu_features);
    reason->has_bit = true;
    reason->leaf = feature->leaf;
    reason->subleaf = feature->subleaf;
    reason->reg = feature->reg;
    reason->bit = feature->bit;
    reason->source = source;
    reason->target = target;
    return reason;
}

static const char *consequence(enum cpu_effect effect)
{
    switch (effect) {
    case CPU_EFFECT_SIGILL:
        return "would die of SIGILL";
    case CPU_EFFECT_SILENT:
        return "would go on with wrong results, without any fault";
    case CPU_EFFECT_CORRUPTION:
        return "would have its memory corrupted";
    case CPU_EFFECT_HINT:
        return "would run slower";
    case CPU_EFFECT_NONE:
    case CPU_EFFECT_COUNT:
        break;
    }
    return "would not notice";
}

static void add_missing(const struct judgement *j, const struct cpu_feature *feature)
{
    bool hint = feature->kind == CPU_KIND_HINT;
    struct verdict_reason *reason =
        add_bit(j, hint ? VERDICT_HINT : VERDICT_MISSING_FEATURE,
                hint ? VERDICT_WARN : VERDICT_REJECT, feature, true, false);
    struct place place = place_of(feature->leaf, feature->subleaf, feature->reg, feature->bit);
    reason->effect = feature->effect;
    if (hint) {
        reason->message = xasprintf("%s lacks %s (%s): %s; a process born on %s works without it",
                                    j->to, feature->name, place.text, feature->title, j->from);
        return;
    }
    reason->message = xasprintf("%s lacks %s (%s); a process born on %s may use it and %s", j->to,
                                feature->name, place.text, j->from, consequence(feature->effect));
    reason->remedy = xasprintf("choose a target that has %s, or start the workload under a pool's "
                               "mask that leaves it out",
                               feature->name);
}

static void add_behaviour(const struct judgement *j, const struct cpu_feature *feature,
                          bool on_target)
{
    struct verdict_reason *reason =
        add_bit(j, VERDICT_BEHAVIOUR, VERDICT_WARN, feature, !on_target, on_target);
    struct place place = place_of(feature->leaf, feature->subleaf, feature->reg, feature->bit);
    reason->message =
        xasprintf("%s differs (%s): %s; true on %s, not on %s", feature->name, place.text,
                  feature->title, on_target ? j->to : j->from, on_target ? j->from : j->to);
}

static void judge_words(const struct judgement *j)
{
    for (unsigned i = 0; i < CPU_WORD_COUNT; i++) {
        const struct cpu_word *w = &cpu_words[i];
        uint32_t need = j->need->words[i], target = j->target->words[i];
        uint32_t missing = need & ~target & (w->isa | w->hint);
        uint32_t differs = (need ^ target) & w->behaviour;
        for (; missing; missing &= missing - 1)
            add_missing(j, &cpu_features[cpu_feature_at[i][__builtin_ctz(missing)]]);
        for (; differs; differs &= differs - 1) {
            unsigned bit = (unsigned)__builtin_ctz(differs);
            add_behaviour(j, &cpu_features[cpu_feature_at[i][bit]], target >> bit & 1);
        }
    }
}

static uint32_t unknown_bits(const struct cpu_profile *p, const struct cpu_unknown *like)
{
    for (uint32_t i = 0; i < p->unknown_count; i++)
        if (p->unknowns[i].leaf == like->leaf && p->unknowns[i].subleaf == like->subleaf &&
            p->unknowns[i].reg == like->reg)
            return p->unknowns[i].bits;
    return 0;
}

static void add_unknown(const struct judgement *j, const struct cpu_unknown *u, unsigned bit,
                        bool on_target)
{
    struct verdict_reason *reason = verdict_reason_add(j->verdict, VERDICT_UNKNOWN_FEATURE,
                                                       on_target ? VERDICT_WARN : VERDICT_REJECT);
    reason->has_bit = true;
    reason->leaf = u->leaf;
    reason->subleaf = u->subleaf;
    reason->reg = u->reg;
    reason->bit = bit;
    reason->source = 1;
    reason->target = on_target;
    struct place place = place_of(u->leaf, u->subleaf, u->reg, bit);
    if (on_target) {
        reason->message = xasprintf("%s and %s both set %s, which this version does not know",
                                    j->from, j->to, place.text);
        return;
    }
    reason->message = xasprintf("%s sets %s, which this version does not know, and %s does not",
                                j->from, place.text, j->to);
    reason->remedy = xstrdup("update cpubroker, or tell us what the bit means; until then a move "
                             "that loses it cannot be called safe");
}

static void judge_unknowns(const struct judgement *j)
{
    for (uint32_t i = 0; i < j->need->unknown_count; i++) {
        const struct cpu_unknown *u = &j->need->unknowns[i];
        uint32_t on_target = unknown_bits(j->target, u);
        for (uint32_t rest = u->bits; rest; rest &= rest - 1) {
            unsigned bit = (unsigned)__builtin_ctz(rest);
            add_unknown(j, u, bit, on_target >> bit & 1);
        }
    }
}

static void fill_field(struct verdict_reason *reason, const struct judgement *j, unsigned index)
{
    const struct cpu_field *f = &cpu_fields[index];
    reason->has_bit = true;
    reason->leaf = f->leaf;
    reason->subleaf = f->subleaf;
    reason->reg = f->reg;
    reason->bit = f->low;
    reason->source = j->need->fields[index];
    reason->target = j->target->fields[index];
    reason->effect = f->effect;
}

static void judge_limit(const struct judgement *j, unsigned index)
{
    const struct cpu_field *f = &cpu_fields[index];
    if (j->need->fields[index] <= j->target->fields[index])
        return;
    bool deadly = f->effect != CPU_EFFECT_HINT;
    struct verdict_reason *reason =
        verdict_reason_add(j->verdict, VERDICT_LIMIT, deadly ? VERDICT_REJECT : VERDICT_WARN);
    fill_field(reason, j, index);
    reason->message =
        xasprintf("%s is lower on %s: 0x%" PRIx32 ", and 0x%" PRIx32 " on %s (%s)", f->name, j->to,
                  j->target->fields[index], j->need->fields[index], j->from, f->title);
    if (deadly)
        reason->remedy = xasprintf("choose a target whose %s is as high", f->name);
}

static void judge_equal(const struct judgement *j, unsigned index)
{
    const struct cpu_field *f = &cpu_fields[index];
    uint64_t bit = UINT64_C(1) << index;
    uint32_t need = j->need->fields[index], target = j->target->fields[index];
    bool conflict = ((j->need->field_conflicts | j->target->field_conflicts) & bit) != 0;
    /* 0 is "not reported"; the lack of the feature itself is told elsewhere. */
    if (!conflict && (need == target || need == 0 || target == 0))
        return;
    struct verdict_reason *reason =
        verdict_reason_add(j->verdict, VERDICT_VALUE_DIFFERS, VERDICT_REJECT);
    fill_field(reason, j, index);
    reason->message = xasprintf(
        "%s differs: 0x%" PRIx32 " on %s, 0x%" PRIx32 " on %s (%s); a process born on %s %s",
        f->name, need, j->from, target, j->to, f->title, j->from, consequence(f->effect));
    reason->remedy = xasprintf("choose a target with the same %s", f->name);
}

static void judge_fields(const struct judgement *j)
{
    for (unsigned i = 0; i < CPU_FIELD_COUNT; i++) {
        const struct cpu_field *f = &cpu_fields[i];
        if (f->effect == CPU_EFFECT_NONE)
            continue;
        if (f->feature >= 0 && (!cpu_profile_has_bit(j->need, &cpu_features[f->feature]) ||
                                !cpu_profile_has_bit(j->target, &cpu_features[f->feature])))
            continue;
        if (f->kind == CPU_KIND_LIMIT)
            judge_limit(j, i);
        else if (f->kind == CPU_KIND_EQUAL)
            judge_equal(j, i);
    }
}

/* ---- the xsave area */

static const char *component_name(unsigned id)
{
    const struct cpu_component_info *info = cpu_component_info_find(id);
    return info ? info->name : "unknown";
}

static void add_component_missing(const struct judgement *j, unsigned id)
{
    struct verdict_reason *reason =
        verdict_reason_add(j->verdict, VERDICT_XSAVE_COMPONENT, VERDICT_REJECT);
    reason->source = 1;
    reason->effect = CPU_EFFECT_CORRUPTION;
    reason->message =
        xasprintf("%s does not enable xsave component %u (%s), which %s does; registers that a "
                  "process saved there cannot be restored",
                  j->to, id, component_name(id), j->from);
    reason->remedy = xasprintf("choose a target whose kernel enables %s", component_name(id));
}

static void judge_layout(const struct judgement *j, unsigned id)
{
    const struct cpu_component *need = cpu_profile_slot(j->need, id);
    const struct cpu_component *target = cpu_profile_slot(j->target, id);
    if (!need->layout_known || !target->layout_known) {
        struct verdict_reason *reason =
            verdict_reason_add(j->verdict, VERDICT_UNKNOWN_STATE, VERDICT_REJECT);
        reason->effect = CPU_EFFECT_CORRUPTION;
        bool neither = !need->layout_known && !target->layout_known;
        reason->message = xasprintf("where xsave component %u (%s) lies is not known of %s%s%s; if "
                                    "it lies elsewhere there, "
                                    "saved registers overwrite memory",
                                    id, component_name(id), need->layout_known ? j->to : j->from,
                                    neither ? " nor of " : "", neither ? j->to : "");
        reason->remedy = xstrdup("let an agent report that node, or import a report whose leaf 0xD "
                                 "is complete");
        return;
    }
    if (!need->conflict && !target->conflict && need->offset_bytes == target->offset_bytes &&
        need->size_bytes == target->size_bytes && need->aligned == target->aligned)
        return;
    struct verdict_reason *reason =
        verdict_reason_add(j->verdict, VERDICT_XSAVE_LAYOUT, VERDICT_REJECT);
    reason->source = need->offset_bytes;
    reason->target = target->offset_bytes;
    reason->effect = CPU_EFFECT_CORRUPTION;
    reason->message =
        xasprintf("xsave component %u (%s) lies elsewhere: %" PRIu32 " bytes at offset %" PRIu32
                  " on %s, %" PRIu32 " at %" PRIu32
                  " on %s; signal frames and buffers laid out on one are garbage on the other",
                  id, component_name(id), need->size_bytes, need->offset_bytes, j->from,
                  target->size_bytes, target->offset_bytes, j->to);
    reason->remedy = xasprintf("choose a target that lays %s out alike (usually: of the same "
                               "vendor), or start the workload under a mask without it",
                               component_name(id));
}

static void list_components(uint64_t components, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (; components && used < size; components &= components - 1) {
        int n = snprintf(text + used, size - used, "%s%s", used ? ", " : "",
                         component_name((unsigned)__builtin_ctzll(components)));
        used += n > 0 ? (size_t)n : size;
    }
}

/* The components among `extra` that may end behind the process's buffers. */
static uint64_t overflowing(const struct judgement *j, uint64_t extra)
{
    uint64_t over = 0;
    if (j->target->area_bytes && j->target->area_bytes <= j->need->area_bytes)
        return 0;
    for (uint64_t rest = extra; rest; rest &= rest - 1) {
        unsigned id = (unsigned)__builtin_ctzll(rest);
        const struct cpu_component *c = cpu_profile_slot(j->target, id);
        if (!c->layout_known || c->offset_bytes + c->size_bytes > j->need->area_bytes)
            over |= UINT64_C(1) << id;
    }
    return over;
}

/* How much further XSAVEC reaches there into the loader's buffers, which have room for what is
 * enabled here. It writes nothing of what is not in use, and yet may touch it (SDM volume 1,
 * 13.13). */
static uint32_t reach_of(const struct judgement *j)
{
    uint32_t here = cpu_profile_compact_area(j->need, CPU_XCR0_LOADER);
    uint32_t there = cpu_profile_compact_area(j->target, CPU_XCR0_LOADER);
    return here && there > here ? there - here : 0;
}

static char *harmless_extra(const struct judgement *j, const char *names, uint32_t reach)
{
    if (!reach)
        return xasprintf("%s also saves %s: its xsave area is %" PRIu32 " bytes, on %s %" PRIu32
                         "; matters only to code that saves all components into a buffer sized on "
                         "%s",
                         j->to, names, j->target->area_bytes, j->from, j->need->area_bytes,
                         j->from);
    return xasprintf("%s also saves %s; the dynamic loader's XSAVEC writes nothing of what is not "
                     "in use, but reaches %" PRIu32 " bytes further there, and the process dies of "
                     "SIGSEGV where its stack ends before that",
                     j->to, names, reach);
}

/* More components on the target than the process can have known. Fatal where the process saves
 * with plain XSAVE; a warning where it has XSAVEC, which writes only what is in use. */
static void judge_extra(const struct judgement *j)
{
    if (!cpu_profile_has_bit(j->need, &cpu_features[CPU_FEATURE_XSAVE]))
        return; /* nobody saves anything */
    uint64_t extra = j->target->enabled & ~j->need->enabled;
    uint64_t over = overflowing(j, extra);
    uint64_t fatal = j->need->plain_xsave ? over & CPU_XCR0_LOADER : 0;
    uint32_t reach = j->need->plain_xsave ? 0 : reach_of(j);
    if (reach)
        over |= extra & CPU_XCR0_LOADER;
    if (!over)
        return;
    char names[256];
    list_components(fatal ? fatal : over, names, sizeof(names));
    struct verdict_reason *reason =
        verdict_reason_add(j->verdict, VERDICT_XSAVE_LARGER, fatal ? VERDICT_REJECT : VERDICT_WARN);
    reason->source = j->need->area_bytes;
    reason->target = j->target->area_bytes;
    reason->effect = CPU_EFFECT_CORRUPTION;
    if (!fatal) {
        reason->message = harmless_extra(j, names, reach);
        return;
    }
    reason->message = xasprintf(
        "%s also saves %s: its xsave area is %" PRIu32 " bytes, on %s %" PRIu32
        "; without XSAVEC the dynamic loader saves all of it at each first call of a function and "
        "overwrites the stack of every lazily bound program",
        j->to, names, j->target->area_bytes, j->from, j->need->area_bytes);
    reason->remedy = xasprintf("choose a target that does not enable %s, or start the workload "
                               "under a mask of a pool that holds both",
                               names);
}

static void add_xcr0_claimed(const struct judgement *j, const char *node)
{
    struct verdict_reason *reason =
        verdict_reason_add(j->verdict, VERDICT_UNKNOWN_STATE, VERDICT_WARN);
    reason->message = xasprintf("XCR0 of %s was not reported; leaf 0xD's claim was taken for it, "
                                "though the kernel may have enabled less",
                                node);
    reason->remedy = xstrdup("let an agent report that node");
}

/* A component that was only claimed counts as used where its feature is usable: dumps made
 * where protection keys are off still claim PKRU. */
static bool can_have_used(const struct cpu_profile *need, unsigned id)
{
    const struct cpu_component_info *info = cpu_component_info_find(id);
    return need->xcr0_known || !info || info->feature < 0 ||
           cpu_profile_has_bit(need, &cpu_features[info->feature]);
}

static void judge_xsave(const struct judgement *j)
{
    for (uint64_t rest = j->need->enabled & ~j->target->enabled; rest; rest &= rest - 1) {
        unsigned id = (unsigned)__builtin_ctzll(rest);
        if (can_have_used(j->need, id))
            add_component_missing(j, id);
    }
    uint64_t both = j->need->enabled & j->target->enabled;
    for (; both; both &= both - 1)
        judge_layout(j, (unsigned)__builtin_ctzll(both));
    judge_extra(j);
    /* What the target has matters; what the source has was claimed at its largest. */
    if (j->need->enabled && !j->target->xcr0_known)
        add_xcr0_claimed(j, j->to);
}

static void judge_node(const struct judgement *j)
{
    const char *need = j->need->vendor, *target = j->target->vendor;
    if (*need && strcmp(need, target) != 0) {
        bool mix = j->policy && j->policy->mix_vendors;
        struct verdict_reason *reason =
            verdict_reason_add(j->verdict, VERDICT_VENDOR, mix ? VERDICT_WARN : VERDICT_REJECT);
        reason->message = xasprintf("%s is %s, %s is %s", j->from, need, j->to,
                                    *target ? target : "of mixed vendors");
        if (!mix)
            reason->remedy = xstrdup("choose a target of the same vendor, or let the pool's policy "
                                     "mix vendors (mix_vendors)");
    }
    if (j->need->minsigstksz_known && j->target->minsigstksz_known &&
        j->need->minsigstksz < j->target->minsigstksz) {
        struct verdict_reason *reason =
            verdict_reason_add(j->verdict, VERDICT_SIGNAL_STACK, VERDICT_WARN);
        reason->source = j->need->minsigstksz;
        reason->target = j->target->minsigstksz;
        reason->effect = CPU_EFFECT_CORRUPTION;
        reason->message = xasprintf(
            "a signal needs %" PRIu32 " bytes of stack on %s, %" PRIu32
            " on %s (AT_MINSIGSTKSZ); matters only to threads with an alternate stack that small",
            j->target->minsigstksz, j->to, j->need->minsigstksz, j->from);
    }
}

void verdict_judge(const struct cpu_profile *need, const struct cpu_profile *target,
                   const char *from, const char *to, const struct verdict_policy *policy,
                   struct verdict *verdict)
{
    const struct judgement j = {need, target, from, to, policy, verdict};
    judge_words(&j);
    judge_unknowns(&j);
    judge_fields(&j);
    judge_xsave(&j);
    judge_node(&j);
}
