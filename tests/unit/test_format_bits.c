/* SPDX-License-Identifier: Apache-2.0 */
/* test_format_bits.c - the formats that speak of bits, carried out on the members of pools: what a
 * program then sees must be the mask, on every member. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cmocka_test.h"
#include "cpu_profile_data.h"
#include "cpu_samples.h"
#include "fleet.h"
#include "format.h"
#include "mask.h"

#define RANDOM_POOLS 300
#define POOL_MAX     5

static struct fleet fleet; /* empty where the dumps are not at hand */

static char *written(enum format format, const struct cpu_profile *pool)
{
    struct error err = {0};
    char *text = format_write(format, pool, &err);
    if (!text)
        fail_msg("%s: %s", format_name(format), err.message);
    return text;
}

static uint32_t *register_of(struct cpuid_leaf *l, const char *name)
{
    static const char *const names[] = {"eax", "ebx", "ecx", "edx"};
    uint32_t *const registers[] = {&l->eax, &l->ebx, &l->ecx, &l->edx};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strncmp(name, names[i], 3) == 0)
            return registers[i];
    fail_msg("no register '%s'", name);
    return NULL;
}

/* 32 of '0', '1' and 'x', the highest bit first. */
static uint32_t apply_bits(uint32_t value, const char *bits)
{
    assert_int_equal(strspn(bits, "01x"), 32);
    for (unsigned i = 0; i < 32; i++) {
        uint32_t one = UINT32_C(1) << (31 - i);
        if (bits[i] == '0')
            value &= ~one;
        else if (bits[i] == '1')
            value |= one;
    }
    return value;
}

/* The leaf in a group, or NULL. Reports of tests are not always sorted. */
static struct cpuid_leaf *find_leaf(struct cpu_group *group, uint32_t leaf, uint32_t subleaf)
{
    for (size_t i = 0; i < group->leaf_count; i++)
        if (group->leaves[i].leaf == leaf && group->leaves[i].subleaf == subleaf)
            return &group->leaves[i];
    return NULL;
}

/* Whether a CPU answers the leaf: the tools refuse what names one that it does not. */
static void assert_answers(struct cpu_group *group, uint32_t leaf, uint32_t subleaf)
{
    struct cpuid_leaf *first = find_leaf(group, leaf & 0xffff0000, 0);
    assert_non_null(first);
    if (leaf > first->eax)
        fail_msg("leaf 0x%" PRIx32 " is above 0x%" PRIx32, leaf, first->eax);
    struct cpuid_leaf *page = find_leaf(group, 7, 0);
    if (leaf == 7 && subleaf > (page ? page->eax : 0))
        fail_msg("leaf 7 has no subleaf %" PRIu32, subleaf);
}

/* A copy by way of JSON. */
static struct cpu_report *copy_of(const struct cpu_report *report)
{
    struct error err = {0};
    struct cpu_report *copy = NULL;
    autojson *json = cpu_report_to_json(report);
    if (cpu_report_parse(json, &copy, &err) < 0)
        fail_msg("%s", err.message);
    return copy;
}

/* ---- what each tool does with its format */

/* Firecracker; `before` is the group as it was. Dumps leave out leaves of zeros. */
static void apply_firecracker(const char *text, struct cpu_group *before, struct cpu_group *group)
{
    struct error err = {0};
    autojson *template = NULL;
    assert_int_equal(json_parse(text, strlen(text), &template, &err), 0);
    json_object *modifiers = json_member(template, "cpuid_modifiers");
    for (size_t i = 0; i < json_array_size(modifiers); i++) {
        json_object *m = json_array_item(modifiers, i);
        uint32_t leaf = (uint32_t)strtoul(json_str(m, "leaf"), NULL, 16);
        uint32_t subleaf = (uint32_t)strtoul(json_str(m, "subleaf"), NULL, 16);
        bool has_subleaves =
            leaf == 7 || leaf == 0xd || leaf == 0x14 || leaf == 0x1e || leaf == 0x24;
        assert_int_equal(json_int(m, "flags"), has_subleaves);
        assert_answers(before, leaf, subleaf);
        struct cpuid_leaf *l = find_leaf(group, leaf, subleaf);
        json_object *registers = json_member(m, "modifiers");
        assert_true(json_array_size(registers) > 0);
        for (size_t k = 0; l && k < json_array_size(registers); k++) {
            json_object *r = json_array_item(registers, k);
            const char *bitmap = json_str(r, "bitmap");
            assert_int_equal(strncmp(bitmap, "0b", 2), 0);
            assert_int_equal(strlen(bitmap), 34);
            uint32_t *value = register_of(l, json_str(r, "register"));
            *value = apply_bits(*value, bitmap + 2);
        }
    }
}

/* xl: "LEAF[,SUBLEAF]:REG=BITS,REG=BITS" */
static void apply_xen_line(const char *line, struct cpu_group *before, struct cpu_group *group)
{
    char *at = NULL;
    uint32_t leaf = (uint32_t)strtoul(line, &at, 0), subleaf = 0;
    if (*at == ',')
        subleaf = (uint32_t)strtoul(at + 1, &at, 0);
    assert_int_equal(*at, ':');
    assert_answers(before, leaf, subleaf);
    struct cpuid_leaf *l = find_leaf(group, leaf, subleaf);
    while (*at != '"') {
        at++;
        assert_int_equal(at[3], '=');
        if (l) {
            uint32_t *value = register_of(l, at);
            *value = apply_bits(*value, at + 4);
        }
        at += 4 + 32;
    }
}

static void apply_xen(const char *text, struct cpu_group *before, struct cpu_group *group)
{
    assert_int_equal(strncmp(text, "cpuid = [\n", 10), 0);
    const char *end = strstr(text, "\n]\n");
    assert_non_null(end);
    for (const char *at = strchr(text, '"'); at && at < end; at = strchr(at, '"')) {
        apply_xen_line(at + 1, before, group);
        at = strchr(at + 1, '"') + 1;
        assert_int_equal(*at, ',');
    }
}

/* OpenVZ, as its kernel reads the file (arch/x86/kernel/cpuid_fault.c). */
static void apply_openvz(const char *text, struct cpu_group *group)
{
    unsigned lines = 0;
    assert_true(strlen(text) < 4096);
    for (const char *at = text; *at; at = strchr(at, '\n') + 1) {
        struct cpuid_leaf o = {0};
        int with_subleaf =
            sscanf(at, "%x %x: %x %x %x %x", &o.leaf, &o.subleaf, &o.eax, &o.ebx, &o.ecx, &o.edx);
        if (with_subleaf != 6) {
            o.subleaf = 0;
            assert_int_equal(sscanf(at, "%x: %x %x %x %x", &o.leaf, &o.eax, &o.ebx, &o.ecx, &o.edx),
                             5);
        }
        struct cpuid_leaf *l = find_leaf(group, o.leaf, o.subleaf);
        if (l)
            *l = o;
        lines++;
    }
    assert_true(lines <= 16);
}

/* ---- pools */

/* Leaves that Xen does not let a configuration change, or gives to no guest at all. */
static bool is_xens(const struct cpu_feature *f)
{
    return f->leaf == 0x14 || f->leaf == 0x19 || f->leaf == 0x1e || f->leaf == 0x24 ||
           f->leaf == 0x80000007 || f->leaf == 0x80000021 || f->leaf == 0xc0000001;
}

/* Leaves that the format cannot reach. */
static bool is_out_of_reach(enum format format, const struct cpu_feature *f)
{
    if (format == FORMAT_XEN && is_xens(f))
        return true;
    /* the invariant counter is no instruction; OpenVZ leaves the leaf alone */
    if (format == FORMAT_OPENVZ && f->leaf == 0x80000007)
        return true;
    return f->leaf == 0xc0000001; /* Centaur's */
}

static void assert_sees_the_mask(enum format format, const struct cpu_profile *pool,
                                 const struct cpu_report *member)
{
    struct error err = {0};
    autofree char *text = written(format, pool);
    AUTO(cpu_report) before = copy_of(member);
    AUTO(cpu_report) report = copy_of(member);
    for (size_t i = 0; i < report->group_count; i++) {
        if (format == FORMAT_FIRECRACKER)
            apply_firecracker(text, &before->groups[i], &report->groups[i]);
        else if (format == FORMAT_XEN)
            apply_xen(text, &before->groups[i], &report->groups[i]);
        else
            apply_openvz(text, &report->groups[i]);
        /* the XCR0 of a guest follows its CPUID; a container's stays the node's */
        if (format != FORMAT_OPENVZ)
            report->groups[i].xcr0_known = false;
    }
    AUTO(cpu_profile) seen = NULL;
    assert_int_equal(cpu_profile_from_report(report, &seen, &err), 0);
    for (size_t i = 0; i < CPU_FEATURE_COUNT; i++) {
        const struct cpu_feature *f = &cpu_features[i];
        if (f->kind != CPU_KIND_ISA && f->kind != CPU_KIND_STATE && f->kind != CPU_KIND_HINT)
            continue;
        bool in_pool = cpu_profile_has_bit(pool, f), is_seen = cpu_profile_has_bit(seen, f);
        if (format == FORMAT_OPENVZ && i == CPU_FEATURE_XSAVEC && pool->plain_xsave)
            in_pool = false; /* kept from processes alone */
        if (in_pool != is_seen && !is_out_of_reach(format, f))
            fail_msg("%s: %s: %s is %s\n%s", format_name(format), member->node, f->name,
                     in_pool ? "lost" : "still seen", text);
    }
}

static void check_pool(const struct cpu_report *const *members, size_t count)
{
    static const enum format formats[] = {FORMAT_FIRECRACKER, FORMAT_XEN, FORMAT_OPENVZ};
    struct error err = {0};
    struct cpu_profile *profiles[POOL_MAX] = {0};
    AUTO(mask) mask = mask_new();
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(cpu_profile_from_report(members[i], &profiles[i], &err), 0);
        mask_add(mask, profiles[i]);
    }
    AUTO(cpu_profile) pool = mask_profile(mask);
    for (size_t f = 0; f < ARRAY_LEN(formats); f++)
        for (size_t i = 0; i < count; i++)
            assert_sees_the_mask(formats[f], pool, members[i]);
    for (size_t i = 0; i < count; i++)
        cpu_profile_free(profiles[i]);
}

static void members_of_invented_pools_see_the_mask(void **state)
{
    (void)state;
    static const char *const names[] = {"haswell", "zen4", "lesser-intel", "lesser-amd"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        for (size_t k = i; k < ARRAY_LEN(names); k++) {
            AUTO(cpu_report) a = sample_report(names[i]);
            AUTO(cpu_report) b = sample_report(names[k]);
            check_pool((const struct cpu_report *const[]){a, b}, 2);
        }
}

static uint32_t next_random(uint32_t *seed)
{
    *seed ^= *seed << 13; /* xorshift */
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}

static bool has_lm(const struct fleet_machine *m)
{
    return cpu_profile_has(m->profile, CPU_FEATURE_LM);
}

static void members_of_real_pools_see_the_mask(void **state)
{
    (void)state;
    if (fleet.count == 0)
        skip();
    uint32_t seed = 20251124;
    for (unsigned round = 0; round < RANDOM_POOLS; round++) {
        const struct cpu_report *members[POOL_MAX];
        size_t wanted = 1 + next_random(&seed) % POOL_MAX, count = 0;
        while (count < wanted) {
            const struct fleet_machine *m = &fleet.machines[next_random(&seed) % fleet.count];
            if (has_lm(m)) /* the tools are for 64-bit machines */
                members[count++] = m->report;
        }
        check_pool(members, count);
    }
}

/* Whatever OpenVZ's containers are told of the xsave area fits what any member saves. */
static void openvz_never_shrinks_the_area(void **state)
{
    (void)state;
    AUTO(cpu_profile) small = sample_profile("haswell");
    AUTO(cpu_profile) large = sample_profile("zen4");
    AUTO(mask) mask = mask_new();
    mask_add(mask, small);
    mask_add(mask, large);
    AUTO(cpu_profile) pool = mask_profile(mask);
    autofree char *text = written(FORMAT_OPENVZ, pool);
    const char *line = strstr(text, "0x0000000d 0x00000000:");
    assert_non_null(line);
    uint32_t xcr0 = 0, area = 0;
    assert_int_equal(sscanf(line, "0x0000000d 0x00000000: %x %x", &xcr0, &area), 2);
    assert_int_equal(xcr0, 7);
    assert_true(area >= cpu_profile_xsave_size(large));
    assert_true(cpu_profile_xsave_size(large) > cpu_profile_xsave_size(small));
}

static void openvz_tells_the_vendor_where_there_is_one(void **state)
{
    (void)state;
    AUTO(cpu_profile) intel = sample_profile("haswell");
    AUTO(cpu_profile) amd = sample_profile("zen4");
    AUTO(mask) mask = mask_new();
    mask_add(mask, intel);
    AUTO(cpu_profile) one = mask_profile(mask);
    mask_add(mask, amd);
    AUTO(cpu_profile) mixed = mask_profile(mask);
    autofree char *text = written(FORMAT_OPENVZ, one);
    /* "Genu" "ntel" "ineI" */
    assert_non_null(strstr(text, "0x00000000: 0x0000000d 0x756e6547 0x6c65746e 0x49656e69\n"));
    autofree char *other = written(FORMAT_OPENVZ, mixed);
    assert_int_equal(strncmp(other, "0x00000001: ", 12), 0);
}

/* A guest may enable no component whose features it does not have. */
static void firecracker_limits_xcr0(void **state)
{
    (void)state;
    AUTO(cpu_report) member = sample_report("zen4");
    AUTO(cpu_report) before = copy_of(member);
    AUTO(cpu_profile) large = sample_profile("zen4");
    AUTO(cpu_profile) small = sample_profile("haswell");
    AUTO(mask) mask = mask_new();
    mask_add(mask, large);
    mask_add(mask, small);
    AUTO(cpu_profile) pool = mask_profile(mask);
    autofree char *text = written(FORMAT_FIRECRACKER, pool);
    apply_firecracker(text, &before->groups[0], &member->groups[0]);
    const struct cpuid_leaf *l = find_leaf(&member->groups[0], 0xd, 0);
    assert_int_equal(l->eax, 7);
    assert_int_equal(l->ecx, cpu_profile_xsave_size(pool));
    assert_int_equal(l->edx, 0);
}

/* The comment of the Xen format: ANDed with a host's featureset it takes what the pool lacks. */
static void xens_featureset_takes_what_the_pool_lacks(void **state)
{
    (void)state;
    AUTO(cpu_profile) pool = sample_profile("haswell");
    autofree char *text = written(FORMAT_XEN, pool);
    const char *comment = strrchr(text, '#');
    uint32_t words[16] = {0};
    const char *at = comment + 2;
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        words[i] = (uint32_t)strtoul(at + 9 * i, NULL, 16);
    assert_int_equal(strlen(at), 16 * 9);
    assert_true(words[5] >> 5 & 1);   /* 7b0: avx2 stays */
    assert_false(words[5] >> 16 & 1); /* avx512f goes */
    assert_true(words[5] >> 20 & 1);  /* smap is not ours to decide */
    assert_false(words[3] >> 16 & 1); /* e1c: fma4 goes */
    assert_false(words[10] >> 4 & 1); /* 7a1: avx_vnni goes */
}

int main(void)
{
    if (fleet_load(&fleet) < 0)
        fleet.count = 0; /* it has said so */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_of_invented_pools_see_the_mask),
        cmocka_unit_test(members_of_real_pools_see_the_mask),
        cmocka_unit_test(openvz_never_shrinks_the_area),
        cmocka_unit_test(openvz_tells_the_vendor_where_there_is_one),
        cmocka_unit_test(firecracker_limits_xcr0),
        cmocka_unit_test(xens_featureset_takes_what_the_pool_lacks),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    fleet_done(&fleet);
    return failed;
}
