/* SPDX-License-Identifier: Apache-2.0 */
/* test_prune.c - old history goes, a little at a time, and nothing that anybody refers to. */
/* clang-format off */
#include "cmocka_test.h"
/* clang-format on */
#include <sqlite3.h>

#include "broker_fixture.h"
#include "prune.h"

#define OLD (FIXTURE_START_MS + 1)

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

static void change_database(struct fixture *f, const char *sql)
{
    sqlite3 *db = NULL;
    char *message = NULL;
    autofree char *path = xasprintf("%s/broker.db", f->dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    sqlite3_exec(db, "PRAGMA foreign_keys = ON", NULL, NULL, NULL);
    if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
        fail_msg("%s: %s", sql, message);
    sqlite3_close(db);
}

static int64_t in_database(struct fixture *f, const char *sql)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *stmt = NULL;
    autofree char *path = xasprintf("%s/broker.db", f->dir);
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    int64_t value = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    return value;
}

/* One whole round; how many steps it took. */
static unsigned prune_all(struct fixture *f, int64_t before_ms)
{
    struct prune prune = {.store = f->broker->store};
    struct error err = {0};
    bool round = false;
    unsigned steps = 0;
    while (!round) {
        if (prune_step(&prune, before_ms, &round, &err) < 0)
            fail_msg("%s", err.message);
        assert_true(++steps < 1000);
    }
    return steps;
}

#define MIGRATION                                                                    \
    "INSERT INTO migration (id, workload, from_node, to_node, state, judged_sha256," \
    " verdict, created_at_ms, state_at_ms, finished_at_ms, target_report) VALUES "

static void ended_migrations_go_with_their_events(void **state)
{
    struct fixture *f = *state;
    change_database(f,
                    MIGRATION "('done-old', 'w', 'a', 'b', 'done', 'x', '{}', 1, 2, 2, 'none'),"
                              "('failed-old', 'w', 'a', 'b', 'failed', 'x', '{}', 1, 2, 2,"
                              " 'discarded'),"
                              "('unsettled', 'w', 'a', 'b', 'failed', 'x', '{}', 1, 2, 2, 'none'),"
                              "('running', 'w', 'a', 'b', 'dumping', 'x', '{}', 1, 2, NULL,"
                              " 'none'),"
                              "('new', 'w', 'a', 'b', 'done', 'x', '{}', 1, 2, 200, 'none');"
                              "INSERT INTO migration_event SELECT id, 1, 1, 'phase', '{}' FROM"
                              " migration");
    prune_all(f, 100);
    assert_int_equal(in_database(f, "SELECT count(*) FROM migration"), 3);
    assert_int_equal(in_database(f, "SELECT count(*) FROM migration WHERE id LIKE '%-old'"), 0);
    assert_int_equal(in_database(f, "SELECT count(*) FROM migration_event"), 3);
}

/* The look that verdicts about a live workload rest on is its migration's. */
static void a_look_that_counts_keeps_its_migration(void **state)
{
    struct fixture *f = *state;
    char agent[65];
    fixture_node(f, "a", "haswell", agent);
    fixture_workload(f, agent, "a", "w");
    change_database(f, MIGRATION "('m', 'w', 'a', 'b', 'done', 'x', '{}', 1, 2, 2, 'none');"
                                 "INSERT INTO workload_evidence (workload, migration, node,"
                                 " taken_at_ms) VALUES ('w', 'm', 'a', 2)");
    prune_all(f, 100);
    assert_int_equal(in_database(f, "SELECT count(*) FROM migration"), 1);
    change_database(f, "DELETE FROM workload_evidence");
    prune_all(f, 100);
    assert_int_equal(in_database(f, "SELECT count(*) FROM migration"), 0);
}

/* Numbers of events go on, or whoever asks for those behind the last would miss some. */
static void the_newest_event_stays(void **state)
{
    struct fixture *f = *state;
    change_database(f, "INSERT INTO fleet_event (seq, at_ms, kind, json) VALUES (1, 1, 'x', '{}'),"
                       " (2, 2, 'x', '{}'), (3, 3, 'x', '{}')");
    prune_all(f, 2);
    assert_int_equal(in_database(f, "SELECT min(seq) FROM fleet_event"), 2);
    prune_all(f, 100);
    assert_int_equal(in_database(f, "SELECT min(seq) FROM fleet_event"), 3);
    assert_int_equal(in_database(f, "SELECT count(*) FROM fleet_event"), 1);
}

static void what_is_named_stays(void **state)
{
    struct fixture *f = *state;
    char agent[65];
    static const char *const others[] = {"lesser-intel", "lesser-amd", "zen4"};
    fixture_node(f, "a", "haswell", agent);
    fixture_workload(f, agent, "a", "w");
    /* The ledger names these, whatever the node reports later. */
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        autofree char *report = fixture_report(others[i], "a", true);
        call_expect(f, agent, "PUT", "/v1/nodes/a/report", report, 200);
    }
    /* And these an imported node named once. */
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        fixture_import(f, "i", others[i]);
    assert_int_equal(in_database(f, "SELECT count(*) FROM report"), 7);
    int64_t profiles = in_database(f, "SELECT count(*) FROM profile");
    prune_all(f, FIXTURE_START_MS); /* not old enough */
    assert_int_equal(in_database(f, "SELECT count(*) FROM report"), 7);
    prune_all(f, OLD);
    assert_int_equal(in_database(f, "SELECT count(*) FROM report"), 5);
    assert_int_equal(in_database(f, "SELECT count(*) FROM report_facts"), 5);
    assert_true(in_database(f, "SELECT count(*) FROM profile") <= profiles);
    fixture_restart(f);
    assert_int_equal(model_workload(f->broker->model, "w", NULL)->seen_count, 4);
    /* What went and is told again is there again, though memory had it all the time. */
    fixture_import(f, "i", "lesser-amd");
    fixture_import(f, "i", "zen4");
    prune_all(f, OLD);
    fixture_import(f, "i", "lesser-amd");
    fixture_restart(f);
    assert_non_null(model_node(f->broker->model, "i", NULL)->profile);
}

static void a_migration_keeps_the_report_that_it_was_judged_by(void **state)
{
    struct fixture *f = *state;
    fixture_import(f, "i", "haswell");
    change_database(f,
                    MIGRATION "('m', 'w', 'a', 'i', 'done', (SELECT sha256 FROM report), '{}', 1,"
                              " 2, 200, 'none')");
    fixture_import(f, "i", "zen4");
    change_database(f, "UPDATE migration SET finished_at_ms = 200");
    struct prune prune = {.store = f->broker->store, .stage = 2}; /* reports alone */
    bool round = false;
    while (!round)
        assert_int_equal(prune_step(&prune, OLD, &round, NULL), 0);
    assert_int_equal(in_database(f, "SELECT count(*) FROM report"), 2);
    prune_all(f, OLD);
    assert_int_equal(in_database(f, "SELECT count(*) FROM report"), 1);
}

static void a_removed_node_stays_as_long_as_its_workloads(void **state)
{
    struct fixture *f = *state;
    char agent[65];
    fixture_node(f, "a", "haswell", agent);
    fixture_workload(f, agent, "a", "w");
    f->clock.test_ms += 3600000;
    assert_int_equal(model_node_delete(f->broker->model, "a", true, NULL, NULL), 0);
    int64_t later_ms = f->clock.test_ms + FIXTURE_START_MS;
    prune_all(f, later_ms);
    assert_int_equal(in_database(f, "SELECT count(*) FROM node"), 1);
    change_database(f, "DELETE FROM workload");
    prune_all(f, later_ms);
    assert_int_equal(in_database(f, "SELECT count(*) FROM node"), 0);
}

static void many_rows_take_many_steps(void **state)
{
    struct fixture *f = *state;
    change_database(f, "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i <"
                       " 1000) INSERT INTO fleet_event (seq, at_ms, kind, json) SELECT i, i, 'x',"
                       " '{}' FROM n");
    assert_true(prune_all(f, 900) >= 5);
    assert_int_equal(in_database(f, "SELECT count(*) FROM fleet_event"), 101);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ended_migrations_go_with_their_events, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_look_that_counts_keeps_its_migration, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_newest_event_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_named_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_migration_keeps_the_report_that_it_was_judged_by, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_removed_node_stays_as_long_as_its_workloads, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(many_rows_take_many_steps, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
