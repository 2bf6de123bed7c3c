/* SPDX-License-Identifier: Apache-2.0 */
/* mask.c - counts per bit, per value and per layout, and the intersection that they amount to.
 *
 * A bit survives when as many members have it as there are; a component when one layout has been
 * counted as often. So a join or a leave touches only what the member has, and the result does
 * not depend on any order. */
#include "mask.h"

#include <assert.h>
#include <string.h>

#include "cpu_profile_data.h"
#include "tally.h"

struct layout {
    uint32_t size_bytes, offset_bytes;
    bool aligned;
    uint32_t count;
};

struct layouts {          /* the known layouts of one component, each with its count */
    struct layout *items; /* owned */
    uint32_t count;
};

struct vendor {
    char name[CPU_VENDOR_BYTES];
    uint32_t count;
};

struct mask {
    uint32_t members;
    uint32_t bits[CPU_WORD_COUNT][32];
    struct layouts layouts[CPU_COMPONENT_MAX];
    uint32_t enabled[CPU_COMPONENT_MAX]; /* with or without a layout */
    uint32_t plain_xsave;
    struct tally fields[CPU_FIELD_COUNT];
    uint32_t field_conflicts[CPU_FIELD_COUNT];
    struct tally areas;       /* area_bytes; 0 is unknown */
    struct tally minsigstksz; /* of those that know it */
    struct vendor *vendors;   /* owned */
    uint32_t vendor_count;
};

struct mask *mask_new(void)
{
    return xcalloc(1, sizeof(struct mask));
}

void mask_free(struct mask *mask)
{
    if (!mask)
        return;
    for (unsigned i = 0; i < CPU_COMPONENT_MAX; i++)
        free(mask->layouts[i].items);
    for (unsigned i = 0; i < CPU_FIELD_COUNT; i++)
        tally_done(&mask->fields[i]);
    tally_done(&mask->areas);
    tally_done(&mask->minsigstksz);
    free(mask->vendors);
    free(mask);
}

size_t mask_member_count(const struct mask *mask)
{
    return mask->members;
}

static void count_layout(struct layouts *l, const struct cpu_component *c, int step)
{
    for (uint32_t i = 0; i < l->count; i++) {
        struct layout *k = &l->items[i];
        if (k->size_bytes != c->size_bytes || k->offset_bytes != c->offset_bytes ||
            k->aligned != c->aligned)
            continue;
        k->count += (uint32_t)step;
        if (k->count == 0)
            *k = l->items[--l->count];
        return;
    }
    assert(step > 0);
    l->items = xrealloc(l->items, (l->count + 1) * sizeof(*l->items));
    l->items[l->count++] = (struct layout){c->size_bytes, c->offset_bytes, c->aligned, 1};
}

static void count_vendor(struct mask *mask, const char *name, int step)
{
    for (uint32_t i = 0; i < mask->vendor_count; i++) {
        struct vendor *v = &mask->vendors[i];
        if (strcmp(v->name, name) != 0)
            continue;
        v->count += (uint32_t)step;
        if (v->count == 0)
            *v = mask->vendors[--mask->vendor_count];
        return;
    }
    assert(step > 0);
    mask->vendors = xrealloc(mask->vendors, (mask->vendor_count + 1) * sizeof(*mask->vendors));
    struct vendor *v = &mask->vendors[mask->vendor_count++];
    memcpy(v->name, name, sizeof(v->name));
    v->count = 1;
}

static void count_member(struct mask *mask, const struct cpu_profile *member, int step)
{
    mask->members += (uint32_t)step;
    for (unsigned i = 0; i < CPU_WORD_COUNT; i++)
        for (uint32_t rest = member->words[i]; rest; rest &= rest - 1)
            mask->bits[i][__builtin_ctz(rest)] += (uint32_t)step;
    for (uint64_t rest = member->enabled; rest; rest &= rest - 1) {
        unsigned id = (unsigned)__builtin_ctzll(rest);
        const struct cpu_component *c = cpu_profile_slot(member, id);
        mask->enabled[id] += (uint32_t)step;
        if (c->layout_known && !c->conflict)
            count_layout(&mask->layouts[id], c, step);
    }
    for (unsigned i = 0; i < CPU_FIELD_COUNT; i++) {
        enum cpu_kind kind = cpu_fields[i].kind;
        if (kind == CPU_KIND_LIMIT || kind == CPU_KIND_EQUAL)
            tally_count(&mask->fields[i], member->fields[i], step);
        if (member->field_conflicts >> i & 1)
            mask->field_conflicts[i] += (uint32_t)step;
    }
    if (member->plain_xsave)
        mask->plain_xsave += (uint32_t)step;
    tally_count(&mask->areas, member->area_bytes, step);
    if (member->minsigstksz_known)
        tally_count(&mask->minsigstksz, member->minsigstksz, step);
    count_vendor(mask, member->vendor, step);
}

void mask_add(struct mask *mask, struct cpu_profile *member)
{
    count_member(mask, member, 1);
}

void mask_remove(struct mask *mask, struct cpu_profile *member)
{
    assert(mask->members > 0);
    count_member(mask, member, -1);
}

static void intersect_words(const struct mask *mask, struct cpu_profile *p)
{
    for (unsigned i = 0; i < CPU_WORD_COUNT; i++) {
        const struct cpu_word *w = &cpu_words[i];
        for (unsigned bit = 0; bit < 32; bit++) {
            uint32_t one = UINT32_C(1) << bit;
            bool all = mask->bits[i][bit] == mask->members;
            bool any = mask->bits[i][bit] > 0;
            if (w->behaviour & one ? any : all)
                p->words[i] |= one;
        }
    }
}

/* MIN of limits; equal values that are not equal take the feature that they describe along. */
static void intersect_fields(const struct mask *mask, struct cpu_profile *p)
{
    for (unsigned i = 0; i < CPU_FIELD_COUNT; i++) {
        const struct cpu_field *f = &cpu_fields[i];
        if (f->kind == CPU_KIND_LIMIT) {
            p->fields[i] = tally_least(&mask->fields[i]);
        } else if (f->kind == CPU_KIND_EQUAL) {
            if (tally_is_uniform(&mask->fields[i]) && mask->field_conflicts[i] == 0)
                p->fields[i] = tally_least(&mask->fields[i]);
            else
                cpu_profile_clear_bit(p, &cpu_features[f->feature]);
        }
    }
}

static const struct layout *common_layout(const struct mask *mask, unsigned id)
{
    const struct layouts *l = &mask->layouts[id];
    return l->count == 1 && l->items[0].count == mask->members ? &l->items[0] : NULL;
}

static void intersect_components(const struct mask *mask, struct cpu_profile *p)
{
    uint64_t enabled = 0;
    for (unsigned id = 0; id < CPU_COMPONENT_MAX; id++)
        if (common_layout(mask, id))
            enabled |= UINT64_C(1) << id;
    cpu_profile_set_enabled(p, enabled);
    for (unsigned id = 0; id < CPU_COMPONENT_MAX; id++) {
        const struct layout *l = common_layout(mask, id);
        if (!l)
            continue;
        struct cpu_component *c = cpu_profile_slot(p, id);
        c->layout_known = true;
        c->size_bytes = l->size_bytes;
        c->offset_bytes = l->offset_bytes;
        c->aligned = l->aligned;
    }
}

struct cpu_profile *mask_born(struct cpu_profile *profile, const struct cpu_profile *node)
{
    if (strcmp(profile->vendor, node->vendor) == 0)
        return cpu_profile_ref(profile);
    struct cpu_profile *born = cpu_profile_join(profile, profile); /* a copy */
    memcpy(born->vendor, node->vendor, sizeof(born->vendor));
    return born;
}

struct cpu_profile *mask_moved(struct cpu_profile *need, const struct cpu_profile *node)
{
    uint64_t more = node->enabled & CPU_XCR0_LOADER & ~need->enabled;
    if (!more || need->plain_xsave || !cpu_profile_has_bit(need, &cpu_features[CPU_FEATURE_XSAVEC]))
        return cpu_profile_ref(need);
    struct cpu_profile *moved = cpu_profile_join(need, need); /* a copy */
    cpu_profile_set_enabled(moved, need->enabled | more);
    for (; more; more &= more - 1) {
        unsigned id = (unsigned)__builtin_ctzll(more);
        *cpu_profile_slot(moved, id) = *cpu_profile_slot(node, id);
    }
    return moved;
}

struct cpu_profile *mask_advised(struct cpu_profile *node, const struct cpu_profile *profile)
{
    if (node->plain_xsave || !cpu_profile_has_bit(node, &cpu_features[CPU_FEATURE_XSAVE]) ||
        cpu_profile_has_bit(profile, &cpu_features[CPU_FEATURE_XSAVEC]))
        return cpu_profile_ref(node);
    struct cpu_profile *advised = cpu_profile_join(node, node); /* a copy */
    advised->plain_xsave = true;
    return advised;
}

/* What the members save at most; 0 where a member that has XSAVE does not know. */
static uint32_t largest_area(const struct mask *mask, const struct cpu_profile *p)
{
    bool all_save = cpu_profile_has_bit(p, &cpu_features[CPU_FEATURE_XSAVE]);
    return all_save && tally_holds(&mask->areas, 0) ? 0 : tally_most(&mask->areas);
}

/* Whether any member's loader saves what the mask does not have. */
static bool saves_more(const struct mask *mask, const struct cpu_profile *p)
{
    for (uint64_t rest = CPU_XCR0_LOADER & ~p->enabled; rest; rest &= rest - 1)
        if (mask->enabled[__builtin_ctzll(rest)] > 0)
            return true;
    return false;
}

struct cpu_profile *mask_profile(const struct mask *mask)
{
    if (mask->members == 0)
        return NULL;
    struct cpu_profile *p = cpu_profile_new();
    intersect_words(mask, p);
    intersect_fields(mask, p);
    intersect_components(mask, p);
    p->area_bytes = largest_area(mask, p);
    /* Where nobody knows how much a member saves, no buffer can be large enough. */
    if (p->area_bytes == 0)
        cpu_profile_clear_bit(p, &cpu_features[CPU_FEATURE_XSAVE]);
    cpu_profile_close(p);
    p->xcr0_known = true; /* by decree: a mask says what may be used */
    if (!cpu_profile_has_bit(p, &cpu_features[CPU_FEATURE_XSAVE]))
        p->area_bytes = 0; /* nobody saves */
    p->plain_xsave = cpu_profile_has_bit(p, &cpu_features[CPU_FEATURE_XSAVE]) &&
                     (mask->plain_xsave > 0 || saves_more(mask, p));
    p->minsigstksz_known = tally_total(&mask->minsigstksz) == mask->members;
    p->minsigstksz = p->minsigstksz_known ? tally_most(&mask->minsigstksz) : 0;
    if (mask->vendor_count == 1)
        memcpy(p->vendor, mask->vendors[0].name, sizeof(p->vendor));
    return p;
}
