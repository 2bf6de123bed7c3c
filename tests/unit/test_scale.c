/* SPDX-License-Identifier: Apache-2.0 */
/* test_scale.c - what is kept up to date change by change is what a full reckoning gives, and what
 * a restart finds; and large pools are told by the page. */
/* clang-format off */
#include "cmocka_test.h"
/* clang-format on */
#include "broker_fixture.h"
#include "cpu_profile_data.h"
#include "cpu_samples.h"
#include "mask.h"

#define NODES   90
#define KINDS   24
#define CHANGES 4000

static const char *const pools[] = {"default", "gold", "mixed"};

struct world {
    struct fixture *f;
    json_object *reports[KINDS]; /* owned */
    uint64_t random;
};

/* xorshift64: the same changes each time. */
static size_t pick(struct world *w, size_t below)
{
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return (size_t)(w->random % below);
}

/* A sample of which a few features are taken, or whose vector state lies elsewhere. */
static json_object *make_report(struct world *w)
{
    static const char *const samples[] = {"haswell", "zen4", "lesser-intel", "lesser-amd"};
    struct cpu_report *r = sample_report(samples[pick(w, ARRAY_LEN(samples))]);
    for (size_t i = pick(w, 4); i > 0; i--) {
        const struct cpu_feature *f = &cpu_features[pick(w, CPU_FEATURE_COUNT)];
        if (f->kind == CPU_KIND_ISA || f->kind == CPU_KIND_HINT || f->kind == CPU_KIND_BEHAVIOUR)
            sample_set(r, f->name, false);
    }
    if (pick(w, 4) == 0)
        sample_set_component(r, 2, 256, pick(w, 2) ? 640 : 0);
    json_object *json = cpu_report_to_json(r);
    cpu_report_free(r);
    return json;
}

static int set_up(void **state)
{
    struct world *w = xcalloc(1, sizeof(*w));
    w->f = fixture_new();
    w->random = 0x9e3779b97f4a7c15;
    for (size_t i = 0; i < KINDS; i++)
        w->reports[i] = make_report(w);
    call_expect(w->f, w->f->operator_token, "PUT", "/v1/pools/gold", NULL, 201);
    call_expect(w->f, w->f->operator_token, "PUT", "/v1/pools/mixed",
                "{\"policy\":{\"mix_vendors\":true}}", 201);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    for (size_t i = 0; i < KINDS; i++)
        json_object_put(w->reports[i]);
    fixture_free(w->f);
    free(w);
    return 0;
}

static void must_be_whole(struct world *w)
{
    struct pool *pool = NULL;
    SORTED_EACH(&w->f->broker->model->pools, pool)
    {
        AUTO(mask) mask = mask_new();
        struct node *node = NULL;
        size_t reported = 0, counted = 0;
        char digest[65] = "";
        SORTED_EACH(&pool->members, node)
        if (node->profile) {
            mask_add(mask, node->profile->cpu);
            reported++;
        }
        for (size_t i = 0; i < pool->kind_count; i++)
            counted += pool->kinds[i].count;
        assert_int_equal(counted, reported);
        AUTO(cpu_profile) full = mask_profile(mask);
        assert_int_equal(full != NULL, pool->profile != NULL);
        if (!full)
            continue;
        assert_true(cpu_profile_equal(full, pool->profile));
        mask_profile_digest(full, digest);
        assert_string_equal(digest, pool->digest);
    }
}

/* All that is told of the pools, as one text. The caller owns it. */
static char *all_masks(struct world *w)
{
    char *all = xstrdup("");
    for (size_t i = 0; i < ARRAY_LEN(pools); i++) {
        autofree char *path = xasprintf("/v1/pools/%s/masks", pools[i]);
        call_expect(w->f, w->f->viewer_token, "GET", path, NULL, 200);
        char *more = xasprintf("%s%s\n", all, w->f->raw.body);
        free(all);
        all = more;
    }
    return all;
}

static void must_survive_a_restart(struct world *w)
{
    autofree char *before = all_masks(w);
    fixture_restart(w->f);
    autofree char *after = all_masks(w);
    assert_string_equal(before, after);
}

static void change(struct world *w)
{
    struct model *model = w->f->broker->model;
    char node[32], sha256[65];
    bool changed = false;
    const char *pool = pools[pick(w, ARRAY_LEN(pools))];
    snprintf(node, sizeof(node), "n%02zu", pick(w, NODES));
    switch (pick(w, 8)) {
    case 0:
    case 1: {
        json_object *report = w->reports[pick(w, KINDS)];
        json_put_str(report, "node", node);
        assert_int_equal(model_node_report(model, node, true, report, &changed, sha256, NULL), 0);
        break;
    }
    case 2:
        model_node_delete(model, node, false, NULL, NULL); /* if it is there */
        break;
    case 3:
    case 4:
        model_pool_leave(model, pool, node, NULL);
        break;
    default:
        model_pool_join(model, pool, node, NULL);
    }
}

static void steps_amount_to_the_whole(void **state)
{
    struct world *w = *state;
    for (unsigned i = 1; i <= CHANGES; i++) {
        change(w);
        if (i % 50 == 0)
            must_be_whole(w);
        if (i % 1000 == 0) {
            must_survive_a_restart(w);
            must_be_whole(w);
        }
    }
    assert_true(model_pool(w->f->broker->model, "default", NULL)->members.count > NODES / 4);
    assert_true(model_pool(w->f->broker->model, "default", NULL)->epoch > 10);
}

/* Equal CPUs are kept once, whoever reports them. */
static void equal_cpus_are_shared(void **state)
{
    struct world *w = *state;
    struct model *model = w->f->broker->model;
    char sha256[65];
    bool changed = false;
    for (unsigned start = 0; start < 2; start++) {
        for (unsigned i = 0; start == 0 && i < 40; i++) {
            autofree char *node = xasprintf("same%u", i);
            json_put_str(w->reports[0], "node", node);
            assert_int_equal(
                model_node_report(model, node, true, w->reports[0], &changed, sha256, NULL), 0);
        }
        assert_int_equal(model->profiles.count, 40);
        assert_int_equal(model->cpus.count, 1);
        assert_ptr_equal(model_node(model, "same1", NULL)->profile->cpu,
                         model_node(model, "same2", NULL)->profile->cpu);
        fixture_restart(w->f);
        model = w->f->broker->model;
    }
}

static const char *member_at(struct fixture *f, size_t index)
{
    return json_item_str(fixture_member(f, "members"), index);
}

static void masks_are_told_by_the_page(void **state)
{
    struct world *w = *state;
    struct fixture *f = w->f;
    char sha256[65], agent[65];
    bool changed = false;
    for (unsigned i = 0; i < 1005; i++) {
        autofree char *node = xasprintf("p%04u", i);
        json_put_str(w->reports[i % 2], "node", node);
        assert_int_equal(model_node_report(f->broker->model, node, true, w->reports[i % 2],
                                           &changed, sha256, NULL),
                         0);
        assert_int_equal(model_pool_join(f->broker->model, "default", node, NULL), 0);
    }
    fixture_token(f, ROLE_AGENT, "z", agent);
    fixture_heartbeat(f, agent, "z", NULL); /* a member that has not reported */
    call_expect(f, f->viewer_token, "GET", "/v1/pools/default/masks", NULL, 200);
    assert_int_equal(fixture_int(f, "member_count"), 1006);
    assert_int_equal(fixture_int(f, "unreported_count"), 1);
    assert_int_equal(json_array_size(fixture_member(f, "members")), 1000);
    assert_int_equal(json_array_size(fixture_member(f, "unreported")), 0);
    assert_string_equal(member_at(f, 0), "p0000");
    assert_string_equal(fixture_str(f, "next"), "p0999");
    int64_t most = 0;
    json_object_object_foreach(fixture_member(f, "lost_counts"), name, count)
    {
        (void)name;
        (void)count;
        int64_t lose = json_int(fixture_member(f, "lost_counts"), name);
        /* One kind has it and the other not, or their layouts clash. */
        assert_true(lose == 502 || lose == 503 || lose == 1005);
        most = lose > most ? lose : most;
    }
    assert_true(most > 0);
    /* A change is told at once, though the text is kept. */
    call_expect(f, f->operator_token, "DELETE", "/v1/pools/default/nodes/p0000", NULL, 200);
    assert_false(json_flag(f->reply, "member"));
    assert_int_equal(fixture_int(f, "member_count"), 1005);
    call_expect(f, f->viewer_token, "GET", "/v1/pools/default/masks", NULL, 200);
    assert_string_equal(member_at(f, 0), "p0001");
    assert_string_equal(fixture_str(f, "next"), "p1000");
    call_expect(f, f->operator_token, "PUT", "/v1/pools/default/nodes/p0000", NULL, 200);
    assert_true(json_flag(f->reply, "member"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(steps_amount_to_the_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(equal_cpus_are_shared, set_up, tear_down),
        cmocka_unit_test_setup_teardown(masks_are_told_by_the_page, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
