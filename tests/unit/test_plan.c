/* SPDX-License-Identifier: Apache-2.0 */
/* test_plan.c - what-if, costs, splits and matrices over invented and real machines. */
#include <string.h>

#include "cmocka_test.h"
#include "cpu_profile_data.h"
#include "cpu_samples.h"
#include "fleet.h"
#include "plan.h"

struct four {
    struct cpu_profile *haswell, *intel, *zen4, *amd;
    struct plan_member members[4];
};

static void four_up(struct four *f)
{
    f->haswell = sample_profile("haswell");
    f->intel = sample_profile("lesser-intel");
    f->zen4 = sample_profile("zen4");
    f->amd = sample_profile("lesser-amd");
    f->members[0] = (struct plan_member){"haswell", f->haswell};
    f->members[1] = (struct plan_member){"intel", f->intel};
    f->members[2] = (struct plan_member){"zen4", f->zen4};
    f->members[3] = (struct plan_member){"amd", f->amd};
}

static void four_down(struct four *f)
{
    cpu_profile_free(f->haswell);
    cpu_profile_free(f->intel);
    cpu_profile_free(f->zen4);
    cpu_profile_free(f->amd);
}

static bool holds(json_object *names, const char *name)
{
    for (size_t i = 0; i < json_array_size(names); i++)
        if (strcmp(json_item_str(names, i), name) == 0)
            return true;
    return false;
}

static void a_difference_names_what_comes_and_goes(void **state)
{
    (void)state;
    struct four f;
    four_up(&f);
    autojson *d = plan_difference(f.intel, f.haswell);
    assert_true(holds(json_member(d, "gained"), "avx2"));
    assert_false(holds(json_member(d, "gained"), "avx"));
    assert_int_equal(json_array_size(json_member(d, "lost")), 0);
    assert_string_equal(json_str(json_member(d, "level"), "before"), "x86-64-v2");
    assert_string_equal(json_str(json_member(d, "level"), "after"), "x86-64-v3");
    autojson *back = plan_difference(f.haswell, f.intel);
    assert_true(json_object_equal(json_member(back, "lost"), json_member(d, "gained")));
    autojson *wide = plan_difference(f.amd, f.zen4);
    assert_true(holds(json_member(json_member(wide, "xsave"), "components_gained"), "opmask"));
    autojson *first = plan_difference(NULL, f.intel);
    assert_true(holds(json_member(first, "gained"), "sse2"));
    four_down(&f);
}

static void the_least_member_costs_most(void **state)
{
    (void)state;
    struct four f;
    four_up(&f);
    const struct plan_member pool[] = {
        {"a",     f.haswell},
        {"b",     f.haswell},
        {"least", f.intel  }
    };
    autojson *costs = plan_costs(pool, 3);
    assert_int_equal(json_array_size(costs), 1); /* without a or b nothing is gained */
    assert_string_equal(json_str(json_array_item(costs, 0), "node"), "least");
    assert_true(holds(json_member(json_array_item(costs, 0), "features"), "avx2"));
    autojson *alone = plan_costs(pool, 1);
    assert_int_equal(json_array_size(alone), 0);
    four_down(&f);
}

static void a_split_keeps_vendors_apart_unless_allowed(void **state)
{
    (void)state;
    struct four f;
    four_up(&f);
    autojson *four = NULL, *two = NULL, *one = NULL, *mixed = NULL;
    assert_int_equal(plan_split(f.members, 4, 4, false, &four, NULL), 0);
    assert_int_equal(json_array_size(json_member(four, "pools")), 4);
    assert_int_equal(json_int(four, "loss"), 0);
    assert_int_equal(plan_split(f.members, 4, 2, false, &two, NULL), 0);
    json_object *pools = json_member(two, "pools");
    assert_int_equal(json_array_size(pools), 2);
    assert_string_equal(json_item_str(json_member(json_array_item(pools, 0), "members"), 0),
                        "haswell");
    assert_string_equal(json_item_str(json_member(json_array_item(pools, 0), "members"), 1),
                        "intel");
    assert_string_equal(json_str(json_array_item(pools, 1), "vendor"), "AuthenticAMD");
    assert_int_equal(plan_split(f.members, 4, 1, false, &one, NULL), 0);
    assert_int_equal(json_array_size(json_member(one, "pools")), 2); /* two vendors */
    assert_int_equal(plan_split(f.members, 4, 1, true, &mixed, NULL), 0);
    assert_int_equal(json_array_size(json_member(mixed, "pools")), 1);
    assert_true(json_int(mixed, "loss") > json_int(two, "loss"));
    four_down(&f);
}

/* The loss that a split states, counted the long way round. */
static uint64_t recount(const struct cpu_profile *member, const struct cpu_profile *mask)
{
    uint64_t n = 0;
    for (size_t i = 0; i < CPU_FEATURE_COUNT; i++) {
        const struct cpu_feature *feature = &cpu_features[i];
        if ((feature->kind == CPU_KIND_ISA || feature->kind == CPU_KIND_STATE) &&
            cpu_profile_has_bit(member, feature) && !cpu_profile_has_bit(mask, feature))
            n++;
    }
    return n;
}

static void the_stated_loss_is_the_counted_one(void **state)
{
    (void)state;
    struct four f;
    four_up(&f);
    autojson *split = NULL;
    assert_int_equal(plan_split(f.members, 4, 2, false, &split, NULL), 0);
    AUTO(cpu_profile) intel = plan_mask(f.members, 2);
    AUTO(cpu_profile) amd = plan_mask(f.members + 2, 2);
    uint64_t loss = recount(f.haswell, intel) + recount(f.intel, intel) + recount(f.zen4, amd) +
                    recount(f.amd, amd);
    assert_int_equal(json_int(split, "loss"), (int64_t)loss);
    assert_true(loss > 0);
    four_down(&f);
}

static void a_matrix_has_a_reason_in_each_refused_cell(void **state)
{
    (void)state;
    struct four f;
    const struct verdict_policy policy = {.mix_vendors = false};
    four_up(&f);
    autojson *matrix = NULL;
    assert_int_equal(plan_matrix(f.members, 4, &policy, &matrix, NULL), 0);
    json_object *row = json_array_item(json_member(matrix, "rows"), 0); /* from haswell */
    json_object *cells = json_member(row, "cells");
    assert_string_equal(json_str(json_array_item(cells, 0), "verdict"), "approve");
    assert_string_equal(json_str(json_array_item(cells, 1), "code"), "missing_feature");
    assert_string_equal(json_str(json_array_item(cells, 2), "verdict"), "reject");
    row = json_array_item(json_member(matrix, "rows"), 1); /* from the lesser Intel */
    cells = json_member(row, "cells");
    assert_string_equal(json_str(json_array_item(cells, 0), "verdict"), "approve");
    assert_null(json_member(json_array_item(cells, 0), "code"));
    struct error err = {0};
    json_object *none = NULL;
    assert_int_equal(plan_matrix(f.members, PLAN_MATRIX_MAX + 1, &policy, &none, &err), -1);
    assert_int_equal(err.kind, ERROR_INVALID);
    four_down(&f);
}

/* Over real machines, where they are at hand: more pools never lose more, and nobody is lost. */
static void real_machines_split_ever_better(void **state)
{
    (void)state;
    struct fleet fleet;
    if (fleet_load(&fleet) < 0)
        skip();
    autofree struct plan_member *members = xcalloc(fleet.count, sizeof(*members));
    for (size_t i = 0; i < fleet.count; i++)
        members[i] = (struct plan_member){fleet.machines[i].id, fleet.machines[i].profile};
    int64_t before = INT64_MAX;
    for (size_t pools = 1; pools <= 256; pools *= 4) {
        autojson *split = NULL;
        size_t total = 0;
        assert_int_equal(plan_split(members, fleet.count, pools, true, &split, NULL), 0);
        json_object *list = json_member(split, "pools");
        assert_int_equal(json_array_size(list), pools);
        for (size_t i = 0; i < json_array_size(list); i++)
            total += json_array_size(json_member(json_array_item(list, i), "members"));
        assert_int_equal(total, fleet.count);
        assert_true(json_int(split, "loss") <= before);
        before = json_int(split, "loss");
    }
    fleet_done(&fleet);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_difference_names_what_comes_and_goes),
        cmocka_unit_test(the_least_member_costs_most),
        cmocka_unit_test(a_split_keeps_vendors_apart_unless_allowed),
        cmocka_unit_test(the_stated_loss_is_the_counted_one),
        cmocka_unit_test(a_matrix_has_a_reason_in_each_refused_cell),
        cmocka_unit_test(real_machines_split_ever_better),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
