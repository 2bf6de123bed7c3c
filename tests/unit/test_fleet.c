/* SPDX-License-Identifier: Apache-2.0 */
/* test_fleet.c - what must hold of every real machine, every pair and every pool.
 *
 * Exits 77 where the dumps are not at hand; tests/lib/fleet.h says where they are looked for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmocka_test.h"
#include "cpu_profile_data.h"
#include "digest.h"
#include "fleet.h"
#include "mask.h"
#include "verdict.h"

#define POOLS     400
#define POOL_MOST 24

static struct fleet fleet;
static const struct verdict_policy mix = {.mix_vendors = true}, strict = {.mix_vendors = false};

/* xorshift: the same pools in every run */
static uint64_t random_state = 88172645463325252ULL;

static size_t random_below(size_t limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (size_t)(random_state % limit);
}

static struct cpu_profile *random_profile(void)
{
    return fleet.machines[random_below(fleet.count)].profile;
}

/* Every usable feature of `need` is one of `target`, told without verdict.c. */
static bool has_all_of(const struct cpu_profile *target, const struct cpu_profile *need)
{
    for (unsigned i = 0; i < CPU_FEATURE_COUNT; i++) {
        enum cpu_kind kind = cpu_features[i].kind;
        if ((kind == CPU_KIND_ISA || kind == CPU_KIND_STATE) &&
            cpu_profile_has(need, (enum cpu_feature_id)i) &&
            !cpu_profile_has(target, (enum cpu_feature_id)i))
            return false;
    }
    return true;
}

static unsigned reject_codes(const struct verdict *v)
{
    unsigned codes = 0;
    for (size_t i = 0; i < v->reason_count; i++)
        if (v->reasons[i].severity == VERDICT_REJECT)
            codes |= 1U << v->reasons[i].code;
    return codes;
}

static bool lists(const struct verdict *v, enum verdict_code code, const char *feature)
{
    for (size_t i = 0; i < v->reason_count; i++)
        if (v->reasons[i].code == code &&
            (!feature || (v->reasons[i].feature >= 0 &&
                          strcmp(cpu_features[v->reasons[i].feature].name, feature) == 0)))
            return true;
    return false;
}

static bool layouts_are_known(const struct cpu_profile *p)
{
    for (unsigned id = 0; id < CPU_COMPONENT_MAX; id++)
        if (cpu_profile_component(p, id)->enabled && !cpu_profile_component(p, id)->layout_known)
            return false;
    return true;
}

static void every_machine_is_read(void **state)
{
    (void)state;
    size_t unknown = 0;
    assert_int_equal(fleet.count, 484);
    for (size_t i = 0; i < fleet.count; i++) {
        const struct fleet_machine *m = &fleet.machines[i];
        assert_string_equal(cpu_profile_vendor(m->profile), m->vendor);
        unknown += m->profile->unknown_count > 0;
        if (m->dumped_in_32bit)
            assert_true(cpu_profile_has(m->profile, CPU_FEATURE_SYSCALL));
    }
    /* What the registry does not know is rare: engineering samples, K6, old Centaurs. */
    assert_true(unknown <= 12);
}

/* A profile survives as a record, exactly. */
static void records_are_exact(void **state)
{
    (void)state;
    for (size_t i = 0; i < fleet.count; i++) {
        const struct fleet_machine *m = &fleet.machines[i],
                                   *other = &fleet.machines[i * 7 % fleet.count];
        AUTO(cpu_profile) joined = cpu_profile_join(m->profile, other->profile);
        struct cpu_profile *const both[] = {m->profile, joined};
        for (size_t k = 0; k < ARRAY_LEN(both); k++) {
            char sha256[65], again[65];
            struct error err = {0};
            AUTO(cpu_profile) read = NULL;
            autojson *json = NULL;
            autofree char *text = cpu_profile_record(both[k], sha256), *same = NULL;
            assert_int_equal(json_parse(text, strlen(text), &json, &err), 0);
            if (cpu_profile_from_record(json, &read, &err) < 0)
                fail_msg("%s: %s", m->id, err.message);
            assert_true(cpu_profile_equal(read, both[k]));
            assert_string_equal(cpu_profile_brand(read), cpu_profile_brand(both[k]));
            same = cpu_profile_record(read, again);
            assert_string_equal(text, same);
            assert_string_equal(sha256, again);
        }
    }
}

static void a_machine_may_move_to_its_like(void **state)
{
    (void)state;
    for (size_t i = 0; i < fleet.count; i++) {
        struct cpu_profile *p = fleet.machines[i].profile;
        struct verdict v = {0};
        verdict_judge(p, p, "a", "b", &strict, &v);
        if (layouts_are_known(p))
            assert_false(v.rejected);
        else
            assert_int_equal(reject_codes(&v), 1U << VERDICT_UNKNOWN_STATE);
        verdict_done(&v);
    }
}

/* All pairs: refused for features exactly where a feature is missing, and never otherwise. */
static void features_decide_pairs(void **state)
{
    (void)state;
    const unsigned by_features =
        1U << VERDICT_MISSING_FEATURE | 1U << VERDICT_LIMIT | 1U << VERDICT_XSAVE_COMPONENT;
    size_t approved = 0;
    for (size_t i = 0; i < fleet.count; i++)
        for (size_t k = 0; k < fleet.count; k++) {
            const struct cpu_profile *need = fleet.machines[i].profile;
            const struct cpu_profile *target = fleet.machines[k].profile;
            struct verdict v = {0};
            verdict_judge(need, target, "a", "b", &mix, &v);
            bool has_all = has_all_of(target, need);
            assert_int_equal(lists(&v, VERDICT_MISSING_FEATURE, NULL), !has_all);
            verdict_sort(&v);
            if (has_all && (reject_codes(&v) & by_features))
                fail_msg("%s -> %s: %s", fleet.machines[i].id, fleet.machines[k].id,
                         v.reasons[0].message);
            assert_true(has_all || v.rejected);
            approved += !v.rejected;
            verdict_done(&v);
        }
    assert_true(approved > fleet.count);
}

static struct cpu_profile *mask_of(struct cpu_profile *const *members, size_t count)
{
    AUTO(mask) mask = mask_new();
    for (size_t i = 0; i < count; i++)
        mask_add(mask, members[i]);
    return mask_profile(mask);
}

static size_t random_pool(struct cpu_profile **members)
{
    size_t count = 1 + random_below(POOL_MOST);
    for (size_t i = 0; i < count; i++)
        members[i] = random_profile();
    return count;
}

static void a_mask_fits_every_member(void **state)
{
    (void)state;
    for (int round = 0; round < POOLS; round++) {
        struct cpu_profile *members[POOL_MOST];
        size_t count = random_pool(members);
        AUTO(cpu_profile) mask = mask_of(members, count);
        for (size_t i = 0; i < count; i++) {
            struct verdict v = {0};
            verdict_judge(mask, members[i], "pool", "member", &strict, &v);
            verdict_sort(&v);
            if (v.rejected)
                fail_msg("a mask does not fit its member: %s", v.reasons[0].message);
            verdict_done(&v);
        }
    }
}

static void intersection_is_an_intersection(void **state)
{
    (void)state;
    for (int round = 0; round < POOLS; round++) {
        struct cpu_profile *abc[3] = {random_profile(), random_profile(), random_profile()};
        struct cpu_profile *cba[3] = {abc[2], abc[1], abc[0]};
        AUTO(cpu_profile) whole = mask_of(abc, 3);
        AUTO(cpu_profile) turned = mask_of(cba, 3);
        assert_true(cpu_profile_equal(whole, turned)); /* commutative */
        AUTO(cpu_profile) ab = mask_of(abc, 2);
        AUTO(cpu_profile) bc = mask_of(abc + 1, 2);
        AUTO(cpu_profile) ab_c = mask_of((struct cpu_profile *[]){ab, abc[2]}, 2);
        AUTO(cpu_profile) a_bc = mask_of((struct cpu_profile *[]){abc[0], bc}, 2);
        assert_true(cpu_profile_equal(ab_c, a_bc)); /* associative */
        assert_true(cpu_profile_equal(ab_c, whole));
        AUTO(cpu_profile) twice = mask_of((struct cpu_profile *[]){whole, whole}, 2);
        assert_true(cpu_profile_equal(whole, twice)); /* idempotent */
    }
}

static void joins_shrink_and_leaves_grow(void **state)
{
    (void)state;
    AUTO(mask) mask = mask_new();
    struct cpu_profile *members[POOL_MOST];
    size_t count = 0;
    mask_add(mask, members[count++] = random_profile());
    for (int round = 0; round < 4 * POOLS; round++) {
        AUTO(cpu_profile) before = mask_profile(mask);
        bool join = count == 1 || (count < POOL_MOST && random_below(2));
        if (join) {
            mask_add(mask, members[count++] = random_profile());
        } else {
            size_t who = random_below(count);
            mask_remove(mask, members[who]);
            members[who] = members[--count];
        }
        AUTO(cpu_profile) after = mask_profile(mask);
        AUTO(cpu_profile) recomputed = mask_of(members, count);
        assert_true(cpu_profile_equal(after, recomputed));
        assert_true(join ? has_all_of(before, after) : has_all_of(after, before));
        assert_true(join ? (after->enabled & ~before->enabled) == 0
                         : (before->enabled & ~after->enabled) == 0);
    }
}

static void masks_are_closed(void **state)
{
    (void)state;
    for (int round = 0; round < POOLS; round++) {
        struct cpu_profile *members[POOL_MOST];
        size_t count = random_pool(members);
        AUTO(cpu_profile) mask = mask_of(members, count);
        assert_int_equal(mask->unknown_count, 0);
        for (unsigned i = 0; i < CPU_FEATURE_COUNT; i++) {
            const struct cpu_feature *f = &cpu_features[i];
            if (!cpu_profile_has(mask, (enum cpu_feature_id)i))
                continue;
            assert_int_equal(f->components & ~mask->enabled, 0);
            for (size_t k = 0; k < f->need_count; k++)
                assert_true(cpu_profile_has(mask, (enum cpu_feature_id)f->needs[k]));
        }
    }
}

/* The cores of one hybrid CPU as one node: what it has, each of them has. */
static void hybrid_cores_are_intersected(void **state)
{
    (void)state;
    size_t pairs = 0;
    for (size_t i = 0; i + 1 < fleet.count; i++) {
        const struct fleet_machine *p = &fleet.machines[i], *q = &fleet.machines[i + 1];
        if (!p->hybrid || strcmp(p->cpu_id, q->cpu_id) != 0)
            continue;
        struct cpu_group groups[2] = {p->report->groups[0], q->report->groups[0]};
        struct cpu_report both = *p->report;
        both.groups = groups;
        both.group_count = 2;
        AUTO(cpu_profile) node = NULL;
        struct error err = {0};
        assert_int_equal(cpu_profile_from_report(&both, &node, &err), 0);
        assert_true(has_all_of(p->profile, node));
        assert_true(has_all_of(q->profile, node));
        pairs++;
    }
    assert_true(pairs > 10);
}

struct truth {
    const char *from_generation, *from, *to_generation, *to;
    const char *missing; /* blank-separated; every one must be told */
    enum verdict_code code;
};

static void known_truths(void **state)
{
    (void)state;
    static const struct truth truths[] = {
        {"SkylakeSP",  "D-2183IT", "IceLake-server", "6336Y", "mpx",                          VERDICT_MISSING_FEATURE},
        {"Piledriver", "6376",     "Zen",            "7551P", "fma4 xop tbm",                 VERDICT_MISSING_FEATURE},
        {"Haswell",    "E5-2",     "SandyBridge",    "E5-2",  "avx2 bmi1 bmi2 fma abm movbe",
         VERDICT_MISSING_FEATURE                                                                                     },
        {"Zen4",       "EPYC",     "SapphireRapids", "Xeon",  "sse4a clzero",                 VERDICT_MISSING_FEATURE},
        {"Zen4",       "EPYC",     "SapphireRapids", "Xeon",  NULL,                           VERDICT_XSAVE_LAYOUT   },
        {"Broadwell",  "E5-2",     "SkylakeSP",      "Xeon",  NULL,                           VERDICT_XSAVE_LARGER   },
    };
    for (size_t i = 0; i < ARRAY_LEN(truths); i++) {
        const struct truth *t = &truths[i];
        const struct fleet_machine *from = fleet_find(&fleet, t->from_generation, t->from);
        const struct fleet_machine *to = fleet_find(&fleet, t->to_generation, t->to);
        assert_non_null(from);
        assert_non_null(to);
        struct verdict v = {0};
        verdict_judge(from->profile, to->profile, from->id, to->id, &mix, &v);
        assert_true(v.rejected);
        assert_true(lists(&v, t->code, NULL));
        char missing[128];
        snprintf(missing, sizeof(missing), "%s", t->missing ? t->missing : "");
        char *rest = NULL;
        for (char *name = strtok_r(missing, " ", &rest); name; name = strtok_r(NULL, " ", &rest))
            if (!lists(&v, t->code, name))
                fail_msg("%s -> %s: %s is not told", from->id, to->id, name);
        verdict_done(&v);
        /* Born there under the mask of a pool of both, it may go. */
        struct cpu_profile *both[] = {from->profile, to->profile};
        AUTO(cpu_profile) mask = mask_of(both, ARRAY_LEN(both));
        AUTO(cpu_profile) born = mask_born(mask, from->profile);
        verdict_judge(born, to->profile, from->id, to->id, &mix, &v);
        verdict_sort(&v);
        if (v.rejected)
            fail_msg("%s -> %s, masked: %s", from->id, to->id, v.reasons[0].message);
        verdict_done(&v);
    }
}

/* A machine of that generation whose dump says where PKRU lies. */
static struct cpu_profile *with_pkru(const char *generation)
{
    for (size_t i = 0; i < fleet.count; i++)
        if (strcmp(fleet.machines[i].generation, generation) == 0 &&
            cpu_profile_component(fleet.machines[i].profile, 9)->layout_known)
            return fleet.machines[i].profile;
    fail_msg("no %s with PKRU", generation);
    return NULL;
}

static void zen4_and_intel_clash_in_opmask_and_pkru(void **state)
{
    (void)state;
    struct cpu_profile *zen4 = with_pkru("Zen4"), *intel = with_pkru("SapphireRapids");
    assert_int_equal(cpu_profile_component(zen4, 5)->offset_bytes, 832);
    assert_int_equal(cpu_profile_component(intel, 5)->offset_bytes, 1088);
    assert_int_equal(cpu_profile_component(zen4, 9)->offset_bytes, 2432);
    assert_int_equal(cpu_profile_component(intel, 9)->offset_bytes, 2688);
    AUTO(mask) mask = mask_new();
    mask_add(mask, zen4);
    mask_add(mask, intel);
    AUTO(cpu_profile) both = mask_profile(mask);
    assert_false(cpu_profile_has(both, CPU_FEATURE_AVX512F));
    struct verdict v = {0};
    size_t conflicts = 0;
    verdict_judge(zen4, intel, "zen4", "intel", &mix, &v);
    for (size_t i = 0; i < v.reason_count; i++)
        conflicts += v.reasons[i].code == VERDICT_XSAVE_LAYOUT;
    assert_int_equal(conflicts, 4); /* opmask, zmm_hi256, hi16_zmm, pkru */
    verdict_done(&v);
    assert_true(cpu_profile_has(both, CPU_FEATURE_VAES));
    assert_string_equal(cpu_profile_level(both), "x86-64-v3");
}

/* A hash over every pair's reasons, so that a change of rule is seen. When one was meant, put the
 * new hash into the file. */
static void verdicts_are_the_golden_ones(void **state)
{
    (void)state;
    AUTO(sha256) hash = sha256_new();
    for (size_t i = 0; i < fleet.count; i++)
        for (size_t k = 0; k < fleet.count; k++) {
            struct verdict v = {0};
            verdict_judge(fleet.machines[i].profile, fleet.machines[k].profile, "a", "b", &strict,
                          &v);
            for (size_t n = 0; n < v.reason_count; n++) {
                char line[160];
                const struct verdict_reason *r = &v.reasons[n];
                int length = snprintf(line, sizeof(line), "%zu %zu %s %d %s\n", i, k,
                                      verdict_code_name(r->code), (int)r->severity,
                                      r->feature >= 0 ? cpu_features[r->feature].name : "-");
                sha256_update(hash, line, (size_t)length);
            }
            verdict_done(&v);
        }
    char found[SHA256_HEX_BYTES], golden[SHA256_HEX_BYTES] = "";
    sha256_finish(hash, found);
    FILE *file = fopen(SOURCE_DIR "/tests/data/fleet-verdicts.sha256", "re");
    assert_non_null(file);
    assert_int_equal(fread(golden, 1, sizeof(golden) - 1, file), sizeof(golden) - 1);
    fclose(file);
    assert_string_equal(found, golden);
}

int main(void)
{
    if (fleet_load(&fleet) < 0)
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_machine_is_read),
        cmocka_unit_test(records_are_exact),
        cmocka_unit_test(a_machine_may_move_to_its_like),
        cmocka_unit_test(features_decide_pairs),
        cmocka_unit_test(a_mask_fits_every_member),
        cmocka_unit_test(intersection_is_an_intersection),
        cmocka_unit_test(joins_shrink_and_leaves_grow),
        cmocka_unit_test(masks_are_closed),
        cmocka_unit_test(hybrid_cores_are_intersected),
        cmocka_unit_test(known_truths),
        cmocka_unit_test(zen4_and_intel_clash_in_opmask_and_pkru),
        cmocka_unit_test(verdicts_are_the_golden_ones),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    fleet_done(&fleet);
    return failed;
}
