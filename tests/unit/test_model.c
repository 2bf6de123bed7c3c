/* SPDX-License-Identifier: Apache-2.0 */
/* test_model.c - the fleet in memory and in the database: epochs, ledgers, liveness, tokens, and
 * that a restart finds everything again. */
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

static void join(struct fixture *f, const char *node)
{
    autofree char *path = xasprintf("/v1/pools/default/nodes/%s", node);
    call_expect(f, f->operator_token, "PUT", path, NULL, 200);
}

static void leave(struct fixture *f, const char *node)
{
    autofree char *path = xasprintf("/v1/pools/default/nodes/%s", node);
    call_expect(f, f->operator_token, "DELETE", path, NULL, 200);
}

static int64_t epoch(struct fixture *f)
{
    call_expect(f, f->viewer_token, "GET", "/v1/pools/default", NULL, 200);
    return fixture_int(f, "epoch");
}

static char *mask_now(struct fixture *f)
{
    call_expect(f, f->viewer_token, "GET", "/v1/pools/default/masks", NULL, 200);
    return json_text(fixture_member(f, "registers"));
}

/* An epoch whenever the mask is another, and only then. */
static void epochs_follow_the_mask(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(epoch(f), 0);
    fixture_import(f, "h1", "haswell");
    fixture_import(f, "h2", "haswell");
    fixture_import(f, "i1", "lesser-intel");
    assert_int_equal(epoch(f), 0);
    join(f, "h1");
    assert_int_equal(epoch(f), 1);
    autofree char *alone = mask_now(f);
    join(f, "h2"); /* the same CPUs: the same mask */
    join(f, "h2");
    assert_int_equal(epoch(f), 1);
    join(f, "i1");
    assert_int_equal(epoch(f), 2);
    autofree char *lesser = mask_now(f);
    assert_string_not_equal(alone, lesser);
    call_expect(f, f->viewer_token, "GET", "/v1/pools/default/masks", NULL, 200);
    assert_true(json_array_size(fixture_member(f, "lost.h1")) > 0);
    assert_int_equal(json_array_size(fixture_member(f, "lost.i1")), 0);
    assert_int_equal(json_array_size(fixture_member(f, "members")), 3);
    fixture_restart(f);
    assert_int_equal(epoch(f), 2);
    autofree char *again = mask_now(f);
    assert_string_equal(again, lesser);
    leave(f, "i1");
    assert_int_equal(epoch(f), 3); /* a number is never used twice, though the mask was there */
    autofree char *back = mask_now(f);
    assert_string_equal(back, alone);
    leave(f, "h1");
    assert_int_equal(epoch(f), 3);
    leave(f, "h2");
    assert_int_equal(epoch(f), 4);
    assert_int_equal(in_database(f, "SELECT count(*) FROM pool_epoch"), 4);
    assert_int_equal(in_database(f, "SELECT count(*) FROM pool_epoch WHERE mask IS NULL"), 1);
    assert_int_equal(
        in_database(f, "SELECT members = '[\"h1\",\"h2\",\"i1\"]' FROM pool_epoch WHERE epoch = 2"),
        1);
    fixture_restart(f);
    assert_int_equal(epoch(f), 4);
}

static void a_new_report_moves_the_pool(void **state)
{
    struct fixture *f = *state;
    fixture_import(f, "n", "haswell");
    join(f, "n");
    fixture_import(f, "n", "haswell");
    assert_false(json_flag(f->reply, "changed"));
    assert_int_equal(epoch(f), 1);
    fixture_import(f, "n", "lesser-intel");
    assert_true(json_flag(f->reply, "changed"));
    assert_int_equal(epoch(f), 2);
    assert_int_equal(in_database(f, "SELECT count(*) FROM report"), 2);
}

static void workload_is(struct fixture *f, const char *state, bool lost)
{
    call_expect(f, f->viewer_token, "GET", "/v1/workloads/w1", NULL, 200);
    assert_string_equal(fixture_str(f, "state"), state);
    assert_int_equal(fixture_member(f, "lost_at_ms") != NULL, lost);
    assert_int_equal(json_array_size(fixture_member(f, "seen")), 1);
    assert_string_equal(fixture_str(f, "need.level"), "x86-64-v3");
}

/* A machine that is gone for good is taken away by force, and what ran there is given up. */
static void a_dead_node_is_taken_away_by_force(void **state)
{
    struct fixture *f = *state;
    struct model *model = f->broker->model;
    char agent[65], other[65];
    struct error err = {0};
    json_object *lost = NULL;
    fixture_node(f, "a", "haswell", agent);
    fixture_node(f, "b", "haswell", other);
    fixture_workload(f, agent, "a", "w1");
    /* While its agent is heard nobody can. */
    assert_int_equal(model_node_delete(model, "a", true, &lost, &err), -1);
    assert_int_equal(err.kind, ERROR_CONFLICT);
    assert_non_null(strstr(err.message, "live"));
    workload_is(f, "running", false);
    f->clock.test_ms += 3600000;
    assert_int_equal(model_node_delete(model, "a", false, &lost, &err), -1);
    assert_non_null(strstr(err.message, "--force"));
    assert_null(lost);
    assert_int_equal(model_node_delete(model, "a", true, &lost, &err), 0);
    assert_int_equal(json_array_size(lost), 1);
    assert_string_equal(json_item_str(lost, 0), "w1");
    json_object_put(lost);
    for (unsigned start = 0; start < 2; start++) {
        workload_is(f, "exited", true);
        call_expect(f, f->viewer_token, "GET", "/v1/nodes/a", NULL, 404);
        call_expect(f, f->viewer_token, "GET", "/v1/nodes", NULL, 200);
        assert_int_equal(json_array_size(fixture_member(f, "nodes")), 1);
        call_expect(f, f->viewer_token, "GET", "/v1/pools/default", NULL, 200);
        assert_int_equal(fixture_int(f, "member_count"), 1);
        call_expect(f, f->viewer_token, "POST", "/v1/check", "{\"workload\":\"w1\",\"to\":\"b\"}",
                    200);
        assert_string_equal(fixture_str(f, "verdict"), "reject");
        assert_int_equal(
            in_database(f, "SELECT count(*) FROM fleet_event WHERE kind = 'workload_lost' AND"
                           " workload = 'w1' AND node = 'a'"),
            1);
        fixture_restart(f);
    }
    /* It is back after all, and still runs it: the node is new, the ledger goes on. */
    fixture_heartbeat(f, agent, "a",
                      "{\"name\":\"w1\",\"state\":\"running\",\"pid\":42,\"exit_status\":null}");
    workload_is(f, "running", false);
    fixture_restart(f);
    workload_is(f, "running", false);
    call_expect(f, f->viewer_token, "GET", "/v1/nodes/a", NULL, 200);
}

static void a_lost_workloads_name_is_free(void **state)
{
    struct fixture *f = *state;
    char agent[65], other[65];
    fixture_node(f, "a", "haswell", agent);
    fixture_node(f, "b", "haswell", other);
    fixture_workload(f, agent, "a", "w1");
    f->clock.test_ms += 3600000;
    fixture_heartbeat(f, other, "b", NULL);
    assert_int_equal(model_node_delete(f->broker->model, "a", true, NULL, NULL), 0);
    fixture_workload(f, other, "b", "w1");
    for (unsigned start = 0; start < 2; start++) {
        workload_is(f, "running", false);
        assert_string_equal(fixture_str(f, "node"), "b");
        fixture_restart(f);
    }
    /* A node with nothing to lose is removed as ever. */
    fixture_import(f, "i", "haswell");
    assert_int_equal(model_node_delete(f->broker->model, "i", true, NULL, NULL), 0);
    assert_int_equal(in_database(f, "SELECT count(*) FROM node WHERE name = 'i'"), 0);
}

/* The model and the database hold the same: what a restart reads is what was there before. */
static void a_restart_finds_everything(void **state)
{
    struct fixture *f = *state;
    static const char *const paths[] = {"/v1/nodes",     "/v1/nodes/a",          "/v1/nodes/imp",
                                        "/v1/pools",     "/v1/pools/gold/masks", "/v1/workloads",
                                        "/v1/migrations"};
    char agent[65];
    char *before[ARRAY_LEN(paths)];
    fixture_node(f, "a", "haswell", agent);
    fixture_workload(f, agent, "a", "w1");
    fixture_import(f, "imp", "zen4");
    call_expect(f, f->operator_token, "PUT", "/v1/pools/gold",
                "{\"policy\":{\"mix_vendors\":true}}", 201);
    call_expect(f, f->operator_token, "PUT", "/v1/pools/gold/nodes/a", NULL, 200);
    call_expect(f, f->operator_token, "PUT", "/v1/pools/gold/nodes/imp", NULL, 200);
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        call_expect(f, f->viewer_token, "GET", paths[i], NULL, 200);
        before[i] = xstrdup(f->raw.body);
    }
    fixture_restart(f);
    /* Liveness is not kept: an agent says so again. */
    call_expect(f, f->viewer_token, "GET", "/v1/nodes/a", NULL, 200);
    assert_string_equal(fixture_str(f, "status"), "silent");
    fixture_heartbeat(f, agent, "a", "{\"name\":\"w1\",\"state\":\"running\",\"pid\":42}");
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        call_expect(f, f->viewer_token, "GET", paths[i], NULL, 200);
        assert_string_equal(f->raw.body, before[i]);
        free(before[i]);
    }
    call_expect(f, f->operator_token, "GET", "/v1/tokens", NULL, 200);
    assert_int_equal(json_array_size(fixture_member(f, "tokens")), 4);
}

static void silent_after_a_while(void **state)
{
    struct fixture *f = *state;
    char agent[65];
    fixture_node(f, "a", "haswell", agent);
    fixture_import(f, "imp", "haswell");
    f->clock.test_ms += 10000;
    call_expect(f, f->viewer_token, "GET", "/v1/nodes/a", NULL, 200);
    assert_string_equal(fixture_str(f, "status"), "live");
    f->clock.test_ms += 1;
    call_expect(f, f->viewer_token, "GET", "/v1/nodes/a", NULL, 200);
    assert_string_equal(fixture_str(f, "status"), "silent");
    fixture_heartbeat(f, agent, "a", NULL);
    call_expect(f, f->viewer_token, "GET", "/v1/nodes/a", NULL, 200);
    assert_string_equal(fixture_str(f, "status"), "live");
    call_expect(f, f->viewer_token, "GET", "/v1/nodes/imp", NULL, 200);
    assert_string_equal(fixture_str(f, "status"), "imported");
}

static void last_seen_is_written_now_and_then(void **state)
{
    struct fixture *f = *state;
    static const char sql[] = "SELECT seen_at_ms FROM node";
    char agent[65];
    fixture_node(f, "a", "haswell", agent);
    int64_t first = in_database(f, sql);
    for (int i = 0; i < 29; i++) {
        f->clock.test_ms += 2000;
        fixture_heartbeat(f, agent, "a", NULL);
    }
    assert_int_equal(in_database(f, sql), first);
    f->clock.test_ms += 2000;
    fixture_heartbeat(f, agent, "a", NULL);
    assert_int_equal(in_database(f, sql), f->clock.test_ms);
}

static void an_import_becomes_an_agents_node(void **state)
{
    struct fixture *f = *state;
    char agent[65];
    fixture_import(f, "n", "haswell");
    fixture_token(f, ROLE_AGENT, NULL, agent);
    fixture_heartbeat(f, agent, "n", NULL);
    assert_true(json_flag(f->reply, "report_wanted"));
    call_expect(f, f->viewer_token, "GET", "/v1/nodes/n", NULL, 200);
    assert_string_equal(fixture_str(f, "kind"), "agent");
    autofree char *report = fixture_report("zen4", "n", false);
    call_expect(f, f->operator_token, "PUT", "/v1/nodes/n/report", report, 409);
}

static void outside(struct fixture *f, const char *sql)
{
    sqlite3 *db = NULL;
    autofree char *path = xasprintf("%s/broker.db", f->dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

/* What the database did not take has not happened: not in memory either. */
static void what_is_not_written_has_not_happened(void **state)
{
    struct fixture *f = *state;
    const char *op = f->operator_token;
    fixture_import(f, "h", "haswell");
    fixture_import(f, "i", "lesser-intel");
    fixture_import(f, "j", "lesser-intel");
    join(f, "h");
    join(f, "i");
    autofree char *before = mask_now(f);
    outside(f, "CREATE TRIGGER full BEFORE INSERT ON pool_epoch BEGIN SELECT RAISE(ABORT, 'full'); "
               "END");
    autofree char *report = fixture_report("zen4", "i", false);
    call_expect(f, op, "DELETE", "/v1/pools/default/nodes/i", NULL, 500);
    call_expect(f, op, "DELETE", "/v1/nodes/i", NULL, 500);
    call_expect(f, op, "PUT", "/v1/nodes/i/report", report, 500);
    call_expect(f, op, "PUT", "/v1/pools/default/nodes/j", NULL, 200); /* no new epoch: taken */
    call_expect(f, op, "DELETE", "/v1/pools/default/nodes/j", NULL, 200);
    for (int i = 0; i < 2; i++) {
        autofree char *after = mask_now(f);
        assert_string_equal(after, before);
        assert_int_equal(epoch(f), 2);
        call_expect(f, f->viewer_token, "GET", "/v1/nodes/i", NULL, 200);
        assert_string_equal(fixture_str(f, "vendor"), "GenuineIntel");
        assert_string_equal(fixture_str(f, "pools.0"), "default");
        outside(f, "DROP TRIGGER IF EXISTS full");
        fixture_restart(f);
    }
    call_expect(f, op, "DELETE", "/v1/nodes/i", NULL, 204); /* the counts are still right */
    assert_int_equal(epoch(f), 3);
    fixture_restart(f);
    assert_int_equal(epoch(f), 3);
}

static void the_ledger_gets_new_reports(void **state)
{
    struct fixture *f = *state;
    char agent[65];
    fixture_node(f, "a", "lesser-intel", agent);
    fixture_workload(f, agent, "a", "w");
    call_expect(f, agent, "PUT", "/v1/nodes/a/workloads/old",
                "{\"pool\":\"default\",\"command\":[]}", 201);
    fixture_heartbeat(f, agent, "a",
                      "{\"name\":\"w\",\"state\":\"running\",\"pid\":42},"
                      "{\"name\":\"old\",\"state\":\"exited\",\"exit_status\":0}");
    fixture_import(f, "target", "lesser-intel");
    join(f, "target");
    call_expect(f, f->viewer_token, "POST", "/v1/check", "{\"workload\":\"w\",\"to\":\"target\"}",
                200);
    assert_int_equal(json_array_size(fixture_member(f, "reasons")), 1); /* it is imported */
    /* A microcode update, say, shows more: what runs may use it from now on. */
    autofree char *report = fixture_report("haswell", "a", true);
    call_expect(f, agent, "PUT", "/v1/nodes/a/report", report, 200);
    for (int i = 0; i < 2; i++) {
        call_expect(f, f->viewer_token, "GET", "/v1/workloads/w", NULL, 200);
        assert_int_equal(json_array_size(fixture_member(f, "seen")), 2);
        assert_string_not_equal(fixture_str(f, "seen.0.report_sha256"),
                                fixture_str(f, "seen.1.report_sha256"));
        call_expect(f, f->viewer_token, "POST", "/v1/check",
                    "{\"workload\":\"w\",\"to\":\"target\"}", 200);
        assert_true(json_array_size(fixture_member(f, "reasons")) > 5);
        fixture_restart(f);
        fixture_heartbeat(f, agent, "a",
                          "{\"name\":\"w\",\"state\":\"running\",\"pid\":42},"
                          "{\"name\":\"old\",\"state\":\"exited\",\"exit_status\":0}");
    }
    call_expect(f, f->viewer_token, "GET", "/v1/workloads/old", NULL, 200);
    assert_int_equal(json_array_size(fixture_member(f, "seen")), 1);
}

static void claims(void **state)
{
    struct fixture *f = *state;
    static const char body[] = "{\"pool\":\"default\",\"command\":[\"x\"]}";
    char a[65], b[65], bare[65];
    fixture_node(f, "a", "haswell", a);
    fixture_node(f, "b", "haswell", b);
    fixture_token(f, ROLE_AGENT, "bare", bare);
    fixture_heartbeat(f, bare, "bare", NULL);
    call_expect(f, bare, "PUT", "/v1/nodes/bare/workloads/w", body, 409); /* no report */
    call_expect(f, a, "PUT", "/v1/nodes/a/workloads/w",
                "{\"pool\":\"nowhere\",\"command\":[\"x\"]}", 404);
    call_expect(f, a, "PUT", "/v1/nodes/a/workloads/w", body, 201);
    assert_string_equal(fixture_str(f, "workload.state"), "starting");
    assert_int_equal(fixture_int(f, "workload.epoch"), 1);
    call_expect(f, a, "PUT", "/v1/nodes/a/workloads/w", body, 201); /* cut short, asks again */
    call_expect(f, b, "PUT", "/v1/nodes/b/workloads/w", body, 409);
    call_expect(f, b, "PUT", "/v1/nodes/a/workloads/w", body, 403);
    fixture_heartbeat(f, a, "a", "{\"name\":\"w\",\"state\":\"running\",\"pid\":1}");
    call_expect(f, a, "PUT", "/v1/nodes/a/workloads/w", body, 409);
    fixture_heartbeat(f, a, "a", "{\"name\":\"w\",\"state\":\"exited\",\"exit_status\":9}");
    call_expect(f, f->viewer_token, "GET", "/v1/workloads/w", NULL, 200);
    assert_int_equal(fixture_int(f, "exit_status"), 9);
    f->clock.test_ms += 5;
    call_expect(f, b, "PUT", "/v1/nodes/b/workloads/w", body, 201); /* born anew */
    assert_string_equal(fixture_str(f, "workload.born.node"), "b");
    assert_int_equal(json_array_size(fixture_member(f, "workload.seen")), 1);
    fixture_restart(f);
    call_expect(f, f->viewer_token, "GET", "/v1/workloads/w", NULL, 200);
    assert_int_equal(json_array_size(fixture_member(f, "seen")), 1);
    leave(f, "b");
    call_expect(f, b, "PUT", "/v1/nodes/b/workloads/w2", body, 409); /* no member */
}

static void a_claim_waits_for_its_start(void **state)
{
    struct fixture *f = *state;
    char a[65];
    fixture_node(f, "a", "haswell", a);
    call_expect(f, a, "PUT", "/v1/nodes/a/workloads/w",
                "{\"pool\":\"default\",\"command\":[\"x\"]}", 201);
    for (int i = 0; i < 14; i++)
        fixture_heartbeat(f, a, "a", NULL);
    call_expect(f, f->viewer_token, "GET", "/v1/workloads/w", NULL, 200);
    assert_string_equal(fixture_str(f, "state"), "starting");
    fixture_heartbeat(f, a, "a", NULL);
    call_expect(f, f->viewer_token, "GET", "/v1/workloads/w", NULL, 200);
    assert_string_equal(fixture_str(f, "state"), "exited");
}

static void nodes_that_hold_something_stay(void **state)
{
    struct fixture *f = *state;
    char a[65];
    fixture_node(f, "a", "haswell", a);
    fixture_workload(f, a, "a", "w");
    call_expect(f, f->operator_token, "DELETE", "/v1/nodes/a", NULL, 409);
    fixture_heartbeat(f, a, "a", "{\"name\":\"w\",\"state\":\"exited\",\"exit_status\":0}");
    call_expect(f, f->operator_token, "DELETE", "/v1/nodes/a", NULL, 409); /* it lives */
    f->clock.test_ms += 20000;
    call_expect(f, f->operator_token, "DELETE", "/v1/nodes/a", NULL, 204);
    call_expect(f, f->viewer_token, "GET", "/v1/nodes/a", NULL, 404);
    call_expect(f, f->viewer_token, "GET", "/v1/workloads/w", NULL, 404);
    assert_int_equal(epoch(f), 2);
    fixture_restart(f);
    call_expect(f, f->viewer_token, "GET", "/v1/nodes/a", NULL, 404);
    fixture_heartbeat(f, a, "a", NULL); /* and is welcome again */
    call_expect(f, f->viewer_token, "GET", "/v1/nodes/a", NULL, 200);
}

static void pools_that_hold_something_stay(void **state)
{
    struct fixture *f = *state;
    const char *op = f->operator_token;
    char a[65];
    fixture_node(f, "a", "haswell", a);
    call_expect(f, op, "DELETE", "/v1/pools/default", NULL, 409);
    call_expect(f, op, "PUT", "/v1/pools/p", NULL, 201);
    call_expect(f, op, "PUT", "/v1/pools/p/nodes/a", NULL, 200);
    call_expect(f, op, "DELETE", "/v1/pools/p", NULL, 409);
    call_expect(f, a, "PUT", "/v1/nodes/a/workloads/w", "{\"pool\":\"p\",\"command\":[\"x\"]}",
                201);
    call_expect(f, op, "DELETE", "/v1/pools/p/nodes/a", NULL, 200);
    call_expect(f, op, "DELETE", "/v1/pools/p", NULL, 409);
    fixture_heartbeat(f, a, "a", "{\"name\":\"w\",\"state\":\"exited\",\"exit_status\":0}");
    call_expect(f, op, "DELETE", "/v1/pools/p", NULL, 204);
    call_expect(f, op, "DELETE", "/v1/pools/p", NULL, 404);
    call_expect(f, f->viewer_token, "GET", "/v1/workloads/w", NULL, 404);
}

static void an_agents_token_is_bound_by_its_first_heartbeat(void **state)
{
    struct fixture *f = *state;
    char free_token[65], second[65], named[65];
    fixture_token(f, ROLE_AGENT, NULL, free_token);
    fixture_token(f, ROLE_AGENT, NULL, second);
    fixture_token(f, ROLE_AGENT, "n", named);
    static const char beat[] = "{\"workloads\":[]}";
    call_expect(f, free_token, "GET", "/v1/nodes/m/assignments", NULL, 403); /* not yet */
    call_expect(f, free_token, "POST", "/v1/nodes/n/heartbeat", beat, 403);  /* it has an owner */
    call_expect(f, free_token, "POST", "/v1/nodes/m/heartbeat", beat, 200);
    call_expect(f, free_token, "GET", "/v1/nodes/m/assignments", NULL, 200);
    call_expect(f, free_token, "POST", "/v1/nodes/n/heartbeat", beat, 403);
    call_expect(f, second, "POST", "/v1/nodes/m/heartbeat", beat, 403);
    call_expect(f, named, "POST", "/v1/nodes/m/heartbeat", beat, 403);
    call_expect(f, named, "POST", "/v1/nodes/n/heartbeat", beat, 200);
    fixture_restart(f);
    call_expect(f, free_token, "POST", "/v1/nodes/x/heartbeat", beat, 403);
    call_expect(f, free_token, "POST", "/v1/nodes/m/heartbeat", beat, 200);
}

static void the_last_operator_stays(void **state)
{
    struct fixture *f = *state;
    char id[64] = "", other[64] = "";
    /* Two: the first start's, and the fixture's. */
    call_expect(f, f->operator_token, "GET", "/v1/tokens", NULL, 200);
    json_object *tokens = fixture_member(f, "tokens");
    for (size_t i = 0; i < json_array_size(tokens); i++)
        if (strcmp(json_str(json_array_item(tokens, i), "role"), "operator") == 0)
            snprintf(*id ? other : id, sizeof(id), "%s",
                     json_str(json_array_item(tokens, i), "id"));
    assert_null(strstr(f->raw.body, f->operator_token));
    assert_int_equal(model_token_delete(f->broker->model, id, NULL), 0);
    struct error err = {0};
    assert_int_equal(model_token_delete(f->broker->model, other, &err), -1);
    assert_int_equal(err.kind, ERROR_CONFLICT);
}

/* No token but its hash is in the folder, the first one's file aside. */
static void tokens_are_kept_as_hashes(void **state)
{
    struct fixture *f = *state;
    autofree char *path = xasprintf("%s/operator.token", f->dir);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    char line[80] = "";
    FILE *file = fopen(path, "re");
    assert_non_null(fgets(line, sizeof(line), file));
    fclose(file);
    assert_int_equal(strlen(line), 65);
    line[64] = '\0';
    assert_int_equal(fixture_call(f, line, "GET", "/v1/tokens", NULL), 200);
    autofree char *command =
        xasprintf("cat %s/broker.db* | grep -aqF -e %s -e %s", f->dir, line, f->viewer_token);
    assert_int_not_equal(system(command), 0);
    fixture_restart(f);
    assert_int_equal(fixture_call(f, line, "GET", "/v1/tokens", NULL), 200); /* not made anew */
}

static void two_brokers_do_not_share_a_folder(void **state)
{
    struct fixture *f = *state;
    struct broker_config config = {0};
    struct broker *second = NULL;
    struct error err = {0};
    assert_int_equal(config_load(NULL, broker_config_keys, &config, &err), 0);
    free(config.state_dir);
    config.state_dir = xstrdup(f->dir);
    assert_int_equal(broker_open(&config, &f->clock, &second, &err), -1);
    assert_int_equal(err.kind, ERROR_CONFLICT);
}

static void plain_http_is_for_loopback(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    free(f->broker->config.listen);
    f->broker->config.listen = xstrdup("0.0.0.0:0");
    assert_int_equal(broker_start(f->broker, &err), -1);
    assert_int_equal(err.kind, ERROR_INVALID);
    assert_non_null(strstr(err.message, "allow_plain_http"));
    f->broker->config.tls_cert = xstrdup("cert.pem");
    assert_int_equal(broker_start(f->broker, &err), -1);
    assert_non_null(strstr(err.message, "tls_key is missing"));
}

static void times_must_make_sense(void **state)
{
    struct fixture *f = *state;
    struct broker_config config = {0};
    struct broker *second = NULL;
    struct error err = {0};
    assert_int_equal(config_load(NULL, broker_config_keys, &config, &err), 0);
    config.silent_after_ms = config.heartbeat_interval_ms;
    assert_int_equal(broker_open(&config, &f->clock, &second, &err), -1);
    assert_int_equal(err.kind, ERROR_INVALID);
    assert_non_null(strstr(err.message, "silent_after_ms"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(epochs_follow_the_mask),
        TEST(a_new_report_moves_the_pool),
        TEST(a_dead_node_is_taken_away_by_force),
        TEST(a_lost_workloads_name_is_free),
        TEST(a_restart_finds_everything),
        TEST(silent_after_a_while),
        TEST(last_seen_is_written_now_and_then),
        TEST(an_import_becomes_an_agents_node),
        TEST(what_is_not_written_has_not_happened),
        TEST(the_ledger_gets_new_reports),
        TEST(claims),
        TEST(a_claim_waits_for_its_start),
        TEST(nodes_that_hold_something_stay),
        TEST(pools_that_hold_something_stay),
        TEST(an_agents_token_is_bound_by_its_first_heartbeat),
        TEST(the_last_operator_stays),
        TEST(tokens_are_kept_as_hashes),
        TEST(two_brokers_do_not_share_a_folder),
        TEST(plain_http_is_for_loopback),
        TEST(times_must_make_sense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
