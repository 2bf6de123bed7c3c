/* SPDX-License-Identifier: Apache-2.0 */
/* test_mask_table.c - what a program sees through the table, on every member of many pools of real
 * machines: the mask, and the same everywhere. */
#include "cmocka_test.h"

#include <stdio.h>
#include <string.h>

#include "cpu_profile_data.h"
#include "fleet.h"
#include "mask.h"
#include "mask_table.h"

static struct fleet fleet;
static uint32_t seed = 20261124;

static uint32_t random_below(uint32_t limit)
{
    seed = seed * 1664525U + 1013904223U;
    return (uint32_t)((uint64_t)(seed >> 8) * limit >> 24);
}

/* One whose dump an agent could have made: in 32-bit mode CPUID hides SYSCALL. */
static const struct fleet_machine *random_machine(void)
{
    for (;;) {
        const struct fleet_machine *m = &fleet.machines[random_below((uint32_t)fleet.count)];
        if (!m->dumped_in_32bit && !m->truncated)
            return m;
    }
}

static union {
    struct mask_island_table table;
    uint8_t bytes[MASK_ISLAND_TABLE_BYTES];
} area;

static const struct mask_island_table *build(const struct cpu_profile *mask,
                                             const struct cpu_report *report)
{
    struct error err = {0};
    if (mask_table_build(mask, report, &area.table, &err) < 0)
        fail_msg("%s", err.message);
    return &area.table;
}

/* The report as a program behind the table would make it. XGETBV is not masked; what is compared is
 * what CPUID says. */
static struct cpu_profile *seen_profile(const struct cpu_report *report,
                                        const struct mask_island_table *table, uint64_t xcr0)
{
    autojson *json = cpu_report_to_json(report);
    struct cpu_report *seen = NULL;
    struct cpu_profile *profile = NULL;
    struct error err = {0};
    if (cpu_report_parse(json, &seen, &err) < 0)
        fail_msg("%s", err.message);
    for (size_t g = 0; g < seen->group_count; g++) {
        struct cpu_group *group = &seen->groups[g];
        group->xcr0 &= xcr0;
        for (size_t i = 0; i < group->leaf_count; i++) {
            struct cpuid_leaf *l = &group->leaves[i];
            uint32_t registers[4] = {l->eax, l->ebx, l->ecx, l->edx};
            mask_table_apply(table, l->leaf, l->subleaf, registers);
            l->eax = registers[0];
            l->ebx = registers[1];
            l->ecx = registers[2];
            l->edx = registers[3];
        }
    }
    if (cpu_profile_from_report(seen, &profile, &err) < 0)
        fail_msg("%s", err.message);
    cpu_report_free(seen);
    return profile;
}

/* A machine, or a pool, that has not the leaf of a behaviour cannot show that a member behaves so.
 */
static bool counts(const struct cpu_feature *f, const struct cpu_profile *mask,
                   const struct cpu_report *report)
{
    if (f->kind == CPU_KIND_BEHAVIOUR &&
        (!cpu_group_find(&report->groups[0], f->leaf, f->subleaf) ||
         (f->leaf < 0x40000000 && f->leaf > mask->fields[CPU_FIELD_MAX_BASIC_LEAF])))
        return false;
    return f->kind == CPU_KIND_ISA || f->kind == CPU_KIND_STATE || f->kind == CPU_KIND_HINT ||
           f->kind == CPU_KIND_BEHAVIOUR;
}

static void expect_mask(const struct cpu_profile *mask, const struct cpu_profile *seen,
                        const struct fleet_machine *machine)
{
    for (int i = 0; i < CPU_FEATURE_COUNT; i++) {
        bool hidden = i == CPU_FEATURE_XSAVEC && mask->plain_xsave;
        bool wanted = cpu_profile_has(mask, (enum cpu_feature_id)i) && !hidden;
        if (counts(&cpu_features[i], mask, machine->report) &&
            wanted != cpu_profile_has(seen, (enum cpu_feature_id)i))
            fail_msg("%s (%s): %s is %d in the mask and %d behind the table", machine->id,
                     machine->brand, cpu_features[i].name, wanted,
                     cpu_profile_has(seen, (enum cpu_feature_id)i));
    }
    if (seen->unknown_count)
        fail_msg("%s: leaf 0x%x.%u shows unknown bits 0x%x", machine->id, seen->unknowns[0].leaf,
                 seen->unknowns[0].subleaf, seen->unknowns[0].bits);
    assert_int_equal(seen->enabled & ~mask->enabled, 0);
    for (int i = 0; i < CPU_FIELD_COUNT; i++)
        if (cpu_fields[i].kind == CPU_KIND_LIMIT && cpu_fields[i].effect != CPU_EFFECT_NONE &&
            seen->fields[i] > mask->fields[i])
            fail_msg("%s: %s is %u behind the table, the mask has %u", machine->id,
                     cpu_fields[i].name, seen->fields[i], mask->fields[i]);
}

static void look(const struct cpu_group *group, const struct mask_island_table *table,
                 uint32_t leaf, uint32_t subleaf, uint32_t ret[4])
{
    const struct cpuid_leaf *l = cpu_group_find(group, leaf, subleaf);
    ret[0] = l ? l->eax : 0;
    ret[1] = l ? l->ebx : 0;
    ret[2] = l ? l->ecx : 0;
    ret[3] = l ? l->edx : 0;
    mask_table_apply(table, leaf, subleaf, ret);
}

/* What a profile does not tell: values that repeat others, leaves that nobody should look at. */
static void expect_whole(const struct cpu_profile *mask, const struct cpu_group *group,
                         const struct mask_island_table *table)
{
    static const uint32_t nothing[4];
    static const uint32_t mirror_bits = 0x0183f3ff; /* AMD APM volume 3, 0x80000001 EDX */
    uint32_t one[4], seven[4] = {1, 2, 3, 4}, xsave[4], extended[4], r[4];
    look(group, table, 1, 0, one);
    look(group, table, 0x80000001, 0, extended);
    assert_int_equal(extended[3] & mirror_bits & ~one[3], 0);
    mask_table_apply(table, 7, mask->fields[CPU_FIELD_MAX_LEAF7_SUBLEAF] + 50, seven);
    if (mask->fields[CPU_FIELD_MAX_BASIC_LEAF] >= 7)
        assert_memory_equal(seven, nothing, sizeof(seven));
    look(group, table, 0xd, 0, xsave);
    assert_int_equal(xsave[0] & ~(uint32_t)mask->enabled, 0);
    assert_int_equal(xsave[3] & ~(uint32_t)(mask->enabled >> 32), 0);
    for (size_t i = 0; i < group->leaf_count; i++) {
        const struct cpuid_leaf *l = &group->leaves[i];
        if (l->leaf > mask->fields[CPU_FIELD_MAX_BASIC_LEAF] && l->leaf < 0x40000000) {
            look(group, table, l->leaf, l->subleaf, r);
            assert_memory_equal(r, nothing, sizeof(r));
        }
        if (l->leaf != 0xd || l->subleaf < 2 || l->subleaf >= 63 || l->ecx & 1 ||
            mask->fields[CPU_FIELD_MAX_BASIC_LEAF] < 0xd)
            continue;
        /* XSAVEC saves what is enabled, and programs add up from here how much that is. */
        look(group, table, l->leaf, l->subleaf, r);
        if (group->xcr0_known && group->xcr0 >> l->subleaf & 1)
            assert_true(r[0] == l->eax && r[1] == l->ebx && r[2] == l->ecx && r[3] == l->edx);
        else if (group->xcr0_known && !(mask->enabled >> l->subleaf & 1))
            assert_memory_equal(r, nothing, sizeof(r));
    }
}

static uint32_t area_told(const struct cpu_report *report, const struct mask_island_table *table,
                          bool *ret_there)
{
    uint32_t told = 0;
    *ret_there = false;
    for (size_t g = 0; g < report->group_count; g++) {
        const struct cpuid_leaf *l = cpu_group_find(&report->groups[g], 0xd, 0);
        if (!l)
            continue;
        uint32_t registers[4] = {l->eax, l->ebx, l->ecx, l->edx};
        mask_table_apply(table, 0xd, 0, registers);
        if (registers[0] != 0 || registers[1] != 0) {
            assert_true(registers[1] >= l->ebx); /* never less than the CPU really saves */
            *ret_there = true;
        }
        told = registers[1];
    }
    return told;
}

static void check_pool(const struct fleet_machine *const *members, size_t count)
{
    AUTO(mask) pool = mask_new();
    for (size_t i = 0; i < count; i++)
        mask_add(pool, members[i]->profile);
    AUTO(cpu_profile) mask = mask_profile(pool);
    for (size_t i = 0; i < count; i++) {
        const struct mask_island_table *table = build(mask, members[i]->report);
        AUTO(cpu_profile) seen = seen_profile(members[i]->report, table, mask->enabled);
        expect_mask(mask, seen, members[i]);
        for (size_t g = 0; g < members[i]->report->group_count; g++)
            expect_whole(mask, &members[i]->report->groups[g], table);
        bool there = false;
        area_told(members[i]->report, table, &there);
    }
}

/* The dynamic loader's buffer, sized as glibc does it where a program is born (update_active() in
 * its cpu-features.c): by leaf 0xD.0, or by the components that XSAVEC may save. */
struct buffer {
    uint32_t bytes; /* 0: the loader saves without XSAVE */
    bool compact;
};

static struct buffer buffer_of(const struct cpu_group *group, const struct mask_island_table *table)
{
    uint32_t r[4], end = 576;
    look(group, table, 0, 0, r);
    if (r[0] < 0xd)
        return (struct buffer){0};
    look(group, table, 0xd, 0, r);
    struct buffer buffer = {.bytes = r[1]};
    look(group, table, 0xd, 1, r);
    buffer.compact = buffer.bytes && r[0] & 2;
    if (!buffer.compact)
        return buffer;
    for (unsigned id = 2; id < 32; id++)
        if (CPU_XCR0_LOADER >> id & 1) {
            look(group, table, 0xd, id, r);
            end = (r[2] & 2 ? (end + 63) / 64 * 64 : end) + r[0];
        }
    buffer.bytes = end;
    return buffer;
}

/* As far as the loader's save reaches on a machine. */
static uint32_t saved_on(const struct cpu_profile *p, bool compact)
{
    uint32_t end = compact ? cpu_profile_compact_area(p, CPU_XCR0_LOADER) : 576;
    for (unsigned id = 2; id < CPU_COMPONENT_MAX && !compact; id++) {
        const struct cpu_component *c = cpu_profile_component(p, id);
        if (CPU_XCR0_LOADER >> id & 1 && c->enabled && c->offset_bytes + c->size_bytes > end)
            end = c->offset_bytes + c->size_bytes;
    }
    return end;
}

/* Born on `birth`, stopped on `from` while the loader resolves, gone on with on `to`. */
static void expect_loader_lives(struct buffer buffer, const struct fleet_machine *birth,
                                const struct fleet_machine *from, const struct fleet_machine *to)
{
    uint64_t saves = CPU_XCR0_LOADER & from->profile->enabled;
    if (!buffer.bytes)
        return;
    if (saved_on(from->profile, buffer.compact) > buffer.bytes)
        fail_msg("born on %s: its buffer has %u bytes, %s saves %u", birth->id, buffer.bytes,
                 from->id, saved_on(from->profile, buffer.compact));
    if (buffer.compact && saves & ~to->profile->enabled)
        fail_msg("%s restores 0x%llx of what XSAVEC saved on %s", to->id, (unsigned long long)saves,
                 from->id);
}

static bool saves_as_known(const struct fleet_machine *m)
{
    for (unsigned id = 0; id < CPU_COMPONENT_MAX; id++)
        if (cpu_profile_component(m->profile, id)->enabled &&
            !cpu_profile_component(m->profile, id)->layout_known)
            return false;
    return true;
}

static unsigned follow_moves(const struct fleet_machine *const *members, size_t count)
{
    unsigned compact = 0;
    AUTO(mask) pool = mask_new();
    for (size_t i = 0; i < count; i++)
        mask_add(pool, members[i]->profile);
    AUTO(cpu_profile) mask = mask_profile(pool);
    for (size_t i = 0; i < count && cpu_profile_has(mask, CPU_FEATURE_XSAVE); i++) {
        const struct mask_island_table *table = build(mask, members[i]->report);
        struct buffer buffer = buffer_of(&members[i]->report->groups[0], table);
        compact += buffer.compact;
        for (size_t from = 0; from < count; from++)
            for (size_t to = 0; to < count; to++)
                expect_loader_lives(buffer, members[i], members[from], members[to]);
    }
    return compact;
}

static void the_loader_lives_on_every_member(void **state)
{
    (void)state;
    unsigned compact = 0;
    for (unsigned round = 0; round < 2000; round++) {
        const struct fleet_machine *members[4];
        size_t count = 0, wanted = 2 + random_below(3);
        while (count < wanted) {
            members[count] = random_machine();
            count += saves_as_known(members[count]);
        }
        compact += follow_moves(members, count);
    }
    /* Not because all are told the same: some pools keep XSAVEC. */
    assert_true(compact > 20);
}

static void a_pool_of_one_shows_its_machine(void **state)
{
    (void)state;
    for (size_t i = 0; i < fleet.count; i++) {
        const struct fleet_machine *const one[] = {&fleet.machines[i]};
        check_pool(one, 1);
    }
}

static void every_member_shows_the_mask(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 600; round++) {
        const struct fleet_machine *members[6];
        size_t count = 2 + random_below(5);
        for (size_t i = 0; i < count; i++)
            members[i] = random_machine();
        check_pool(members, count);
    }
}

/* Feature registers are equal, bit for bit, whichever member a program looks at. */
static void all_members_look_alike(void **state)
{
    (void)state;
    unsigned compared = 0;
    for (unsigned round = 0; round < 300; round++) {
        const struct fleet_machine *a = random_machine();
        const struct fleet_machine *b = random_machine();
        AUTO(mask) pool = mask_new();
        mask_add(pool, a->profile);
        mask_add(pool, b->profile);
        AUTO(cpu_profile) mask = mask_profile(pool);
        AUTO(cpu_profile) at_a = seen_profile(a->report, build(mask, a->report), mask->enabled);
        AUTO(cpu_profile) at_b = seen_profile(b->report, build(mask, b->report), mask->enabled);
        for (size_t w = 0; w < CPU_WORD_COUNT; w++) {
            uint32_t bits = cpu_words[w].isa | cpu_words[w].hint;
            if ((at_a->words[w] & bits) != (at_b->words[w] & bits))
                fail_msg("%s and %s: leaf 0x%x.%u %s: %08x and %08x", a->id, b->id,
                         cpu_words[w].leaf, cpu_words[w].subleaf,
                         cpu_register_name(cpu_words[w].reg), at_a->words[w] & bits,
                         at_b->words[w] & bits);
            compared++;
        }
    }
    assert_true(compared > 1000);
}

int main(void)
{
    if (fleet_load(&fleet) < 0)
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pool_of_one_shows_its_machine),
        cmocka_unit_test(every_member_shows_the_mask),
        cmocka_unit_test(all_members_look_alike),
        cmocka_unit_test(the_loader_lives_on_every_member),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    fleet_done(&fleet);
    return failed;
}
