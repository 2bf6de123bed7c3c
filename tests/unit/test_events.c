/* SPDX-License-Identifier: Apache-2.0 */
/* test_events.c - masks that shrink and grow, nodes that drift, workloads that are stranded: each
 * is told once, in the transaction that causes it. */
/* clang-format off */
#include "cmocka_test.h"
/* clang-format on */
#include <sqlite3.h>

#include "broker_fixture.h"

static int set_up(void **state)
{
    *state = fixture_new();
    return 0;
}

static int tear_down(void **state)
{
    fixture_free(*state);
    return 0;
}

static void join(struct fixture *f, const char *node, int status)
{
    autofree char *path = xasprintf("/v1/pools/default/nodes/%s", node);
    call_expect(f, f->operator_token, "PUT", path, NULL, status);
}

static void leave(struct fixture *f, const char *node)
{
    autofree char *path = xasprintf("/v1/pools/default/nodes/%s", node);
    call_expect(f, f->operator_token, "DELETE", path, NULL, 200);
}

static void report(struct fixture *f, const char *secret, const char *node, const char *sample)
{
    autofree char *path = xasprintf("/v1/nodes/%s/report", node);
    autofree char *text = fixture_report(sample, node, true);
    call_expect(f, secret, "PUT", path, text, 200);
}

/* A Haswell whose AVX2 the firmware hides. */
static char *without_avx2(const char *node)
{
    char *text = fixture_report("haswell", node, true);
    char *ebx = strstr(text, "0x000027ab");
    assert_non_null(ebx);
    memcpy(ebx, "0x0000278b", 10);
    return text;
}

static void node_without_avx2(struct fixture *f, const char *node, char secret[65])
{
    autofree char *path = xasprintf("/v1/nodes/%s/report", node);
    autofree char *text = without_avx2(node);
    fixture_token(f, ROLE_AGENT, node, secret);
    fixture_heartbeat(f, secret, node, NULL);
    call_expect(f, secret, "PUT", path, text, 200);
}

/* Runs a statement on the broker's database from outside. */
static void sql(struct fixture *f, const char *text)
{
    sqlite3 *db = NULL;
    autofree char *path = xasprintf("%s/broker.db", f->dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static int fetch(void *ctx, const struct store_fleet_event *row, struct error *err)
{
    json_object *event = NULL;
    if (fleet_event_json(row, &event, err) < 0)
        return -1;
    json_object_array_add(ctx, event);
    return 0;
}

/* The events so far, which the caller owns. */
static json_object *events(struct fixture *f)
{
    json_object *list = json_object_new_array();
    assert_int_equal(store_fleet_events(f->broker->store, 0, 10000, fetch, list, NULL), 0);
    return list;
}

/* Their kinds and what they are about: "pool_mask_grown(a,default,) …". */
static void assert_events(struct fixture *f, int64_t after, const char *expected)
{
    autojson *list = json_object_new_array();
    autofree char *text = xstrdup("");
    assert_int_equal(store_fleet_events(f->broker->store, after, 10000, fetch, list, NULL), 0);
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_object *e = json_array_item(list, i);
        char *longer = xasprintf("%s%s%s(%s,%s,%s)", text, *text ? " " : "", json_str(e, "kind"),
                                 json_str(e, "node"), json_str(e, "pool"), json_str(e, "workload"));
        free(text);
        text = longer;
    }
    assert_string_equal(text, expected);
}

static int64_t last(struct fixture *f)
{
    int64_t seq = -1;
    assert_int_equal(store_fleet_event_last(f->broker->store, &seq, NULL), 0);
    return seq;
}

static bool lists(json_object *array, const char *name)
{
    for (size_t i = 0; i < json_array_size(array); i++)
        if (strcmp(json_item_str(array, i), name) == 0)
            return true;
    return false;
}

static json_object *detail_of(json_object *list, const char *kind)
{
    for (size_t i = json_array_size(list); i-- > 0;)
        if (strcmp(json_str(json_array_item(list, i), "kind"), kind) == 0)
            return json_member(json_array_item(list, i), "detail");
    fail_msg("no event %s", kind);
    return NULL;
}

static void joins_shrink_and_leaves_grow(void **state)
{
    struct fixture *f = *state;
    fixture_import(f, "a", "haswell");
    fixture_import(f, "b", "haswell");
    fixture_import(f, "c", "lesser-intel");
    assert_events(f, 0, "");
    join(f, "a", 200);
    join(f, "b", 200); /* the same CPUs: no other mask */
    join(f, "c", 200);
    leave(f, "c");
    assert_events(f, 0,
                  "pool_mask_grown(a,default,) pool_mask_shrunk(c,default,) "
                  "pool_mask_grown(c,default,)");
    autojson *list = events(f);
    json_object *shrunk = detail_of(list, "pool_mask_shrunk");
    json_object *grown = detail_of(list, "pool_mask_grown");
    assert_true(lists(json_member(json_member(shrunk, "difference"), "lost"), "avx2"));
    assert_true(lists(json_member(json_member(grown, "difference"), "gained"), "avx2"));
    assert_int_equal(json_int(shrunk, "epoch_before"), 1);
    assert_int_equal(json_int(shrunk, "epoch"), 2);
    assert_string_equal(json_str(shrunk, "cause"), "join");
    assert_string_equal(json_str(grown, "cause"), "leave");
    fixture_restart(f); /* they are kept, and nothing is told anew */
    autojson *again = events(f);
    assert_int_equal(json_array_size(again), 3);
}

/* Shrinking by a join lists who does not fit the newcomer, and strands nobody. */
static void a_shrinking_join_lists_who_does_not_fit(void **state)
{
    struct fixture *f = *state;
    char a[65], b[65];
    fixture_node(f, "a", "haswell", a);
    fixture_node(f, "b", "haswell", b);
    fixture_workload(f, a, "a", "w1");
    fixture_import(f, "c", "lesser-intel");
    int64_t before = last(f);
    join(f, "c", 200);
    assert_events(f, before, "pool_mask_shrunk(c,default,)");
    autojson *list = events(f);
    json_object *workloads = json_member(detail_of(list, "pool_mask_shrunk"), "workloads");
    assert_int_equal(json_array_size(workloads), 1);
    json_object *w = json_array_item(workloads, 0);
    assert_string_equal(json_str(w, "workload"), "w1");
    assert_true(json_flag(w, "fits_elsewhere"));
    json_object *member = json_array_item(json_member(w, "members"), 0);
    assert_string_equal(json_str(member, "node"), "c");
    assert_string_equal(json_str(member, "code"), "missing_feature");
    assert_int_equal(json_int(w, "member_count"), 1);
}

/* A node whose report changes: what differs, whose mask, who fits fewer members. */
static void drift_tells_all(void **state)
{
    struct fixture *f = *state;
    char a[65], b[65], c[65];
    fixture_node(f, "a", "haswell", a);
    fixture_node(f, "b", "haswell", b);
    fixture_node(f, "c", "haswell", c);
    fixture_workload(f, a, "a", "w1");
    int64_t before = last(f);
    report(f, c, "c", "haswell"); /* the same again is none */
    assert_events(f, before, "");
    report(f, c, "c", "lesser-intel");
    assert_events(f, before,
                  "node_drifted(c,,) pool_mask_shrunk(c,default,) "
                  "workload_stranded(a,default,w1)");
    autojson *list = events(f);
    json_object *drifted = detail_of(list, "node_drifted");
    assert_true(lists(json_member(json_member(drifted, "difference"), "lost"), "avx2"));
    assert_string_equal(json_str(json_member(drifted, "microcode"), "before"),
                        "0x0000000000000049");
    assert_string_equal(json_str(json_member(drifted, "microcode"), "after"), "0x000000000000071a");
    assert_null(json_member(drifted, "kernel"));
    assert_true(lists(json_member(drifted, "changed"), "os"));
    json_object *stranded = detail_of(list, "workload_stranded");
    assert_true(json_flag(stranded, "fits_elsewhere")); /* b still takes it */
    assert_string_equal(json_str(stranded, "changed_node"), "c");
    assert_int_equal(json_int(stranded, "member_count"), 1);
    before = last(f);
    report(f, b, "b", "lesser-intel"); /* the mask stays, and now nobody can take it */
    assert_events(f, before, "node_drifted(b,,) workload_stranded(a,default,w1)");
    autojson *later = events(f);
    assert_false(json_flag(detail_of(later, "workload_stranded"), "fits_elsewhere"));
    before = last(f);
    report(f, b, "b", "haswell");
    report(f, c, "c", "haswell");
    assert_events(f, before, "node_drifted(b,,) node_drifted(c,,) pool_mask_grown(c,default,)");
}

/* The node that a workload lives on gains features: the workload has been exposed to them. */
static void the_own_node_drifts(void **state)
{
    struct fixture *f = *state;
    char a[65], b[65];
    node_without_avx2(f, "a", a);
    node_without_avx2(f, "b", b);
    fixture_workload(f, a, "a", "w1");
    int64_t before = last(f);
    report(f, a, "a", "haswell");
    assert_events(f, before, "node_drifted(a,,) workload_stranded(a,default,w1)");
    autojson *list = events(f);
    json_object *stranded = detail_of(list, "workload_stranded");
    assert_false(json_flag(stranded, "fits_elsewhere"));
    assert_string_equal(json_str(json_array_item(json_member(stranded, "members"), 0), "node"),
                        "b");
}

/* No feature is lost, yet the mask is another (how the FPU behaves): counted as shrinking. */
static void a_change_of_no_feature_shrinks(void **state)
{
    struct fixture *f = *state;
    char a[65], b[65];
    fixture_node(f, "a", "lesser-intel", a);
    fixture_node(f, "b", "lesser-intel", b);
    int64_t before = last(f);
    report(f, a, "a", "haswell");
    assert_events(f, before, "node_drifted(a,,) pool_mask_shrunk(a,default,)");
    autojson *list = events(f);
    json_object *difference = json_member(detail_of(list, "pool_mask_shrunk"), "difference");
    assert_int_equal(json_array_size(json_member(difference, "lost")), 0);
    assert_int_equal(json_array_size(json_member(difference, "gained")), 0);
}

/* Who leaves was asked to: told only to whom it was the last. */
static void leaving_strands_who_loses_the_last(void **state)
{
    struct fixture *f = *state;
    char a[65], b[65], c[65];
    fixture_node(f, "a", "haswell", a);
    fixture_node(f, "b", "haswell", b);
    fixture_node(f, "c", "haswell", c);
    fixture_workload(f, a, "a", "w1");
    int64_t before = last(f);
    leave(f, "b");
    assert_events(f, before, "");
    f->clock.test_ms += 3600000; /* c is silent, so that it can be deleted */
    call_expect(f, f->operator_token, "DELETE", "/v1/nodes/c", NULL, 204);
    assert_events(f, before, "workload_stranded(a,default,w1)");
    autojson *list = events(f);
    assert_string_equal(json_str(detail_of(list, "workload_stranded"), "cause"), "leave");
}

static void workloads_that_exited_are_nobodys_concern(void **state)
{
    struct fixture *f = *state;
    char a[65], b[65];
    fixture_node(f, "a", "haswell", a);
    fixture_node(f, "b", "haswell", b);
    fixture_workload(f, a, "a", "w1");
    fixture_heartbeat(f, a, "a",
                      "{\"name\":\"w1\",\"state\":\"exited\",\"pid\":null,\"exit_status\":0}");
    int64_t before = last(f);
    leave(f, "b");
    assert_events(f, before, "");
}

/* The database refuses the events: the change does not happen either. */
static void no_change_without_its_events(void **state)
{
    struct fixture *f = *state;
    fixture_import(f, "a", "haswell");
    fixture_import(f, "c", "lesser-intel");
    join(f, "a", 200);
    sql(f, "CREATE TRIGGER full BEFORE INSERT ON fleet_event BEGIN SELECT RAISE(ABORT, 'full'); "
           "END");
    join(f, "c", 500);
    sql(f, "DROP TRIGGER full");
    call_expect(f, f->viewer_token, "GET", "/v1/pools/default", NULL, 200);
    assert_int_equal(json_array_size(fixture_member(f, "members")), 1);
    assert_int_equal(fixture_int(f, "epoch"), 1);
    join(f, "c", 200);
    assert_events(f, 1, "pool_mask_shrunk(c,default,)");
}

static void the_newest_are_kept(void **state)
{
    struct fixture *f = *state;
    fixture_import(f, "a", "haswell");
    sql(f, "INSERT INTO fleet_event (at_ms, kind, json) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL "
           "SELECT i + 1 FROM n WHERE i < 100000) SELECT i, 'node_drifted', '{\"summary\":\"\"}' "
           "FROM n");
    join(f, "a", 200);
    autojson *list = json_object_new_array();
    assert_int_equal(store_fleet_events(f->broker->store, 0, 1, fetch, list, NULL), 0);
    assert_int_equal(json_int(json_array_item(list, 0), "seq"), 2);
    assert_int_equal(last(f), 100001);
    call_expect(f, f->viewer_token, "GET", "/v1/events", NULL, 200);
    assert_int_equal(json_array_size(fixture_member(f, "events")), 100);
    assert_int_equal(fixture_int(f, "events.0.seq"), 99902); /* the newest, in order */
    assert_int_equal(fixture_int(f, "last_seq"), 100001);
}

static void the_metrics_count_them(void **state)
{
    struct fixture *f = *state;
    fixture_import(f, "a", "haswell");
    join(f, "a", 200);
    call_expect(f, f->viewer_token, "GET", "/metrics", NULL, 200);
    assert_non_null(
        strstr(f->raw.body, "cpubroker_fleet_events_total{kind=\"pool_mask_grown\"} 1\n"));
    assert_non_null(strstr(f->raw.body, "cpubroker_fleet_events_total{kind=\"node_drifted\"} 0\n"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(joins_shrink_and_leaves_grow),
        TEST(a_shrinking_join_lists_who_does_not_fit),
        TEST(drift_tells_all),
        TEST(the_own_node_drifts),
        TEST(a_change_of_no_feature_shrinks),
        TEST(leaving_strands_who_loses_the_last),
        TEST(workloads_that_exited_are_nobodys_concern),
        TEST(no_change_without_its_events),
        TEST(the_newest_are_kept),
        TEST(the_metrics_count_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
