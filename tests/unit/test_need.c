/* SPDX-License-Identifier: Apache-2.0 */
/* test_need.c - what a workload needs, as a record: written with the exposure, checked at the next
 * start, reckoned anew where the rules changed, and made for databases of before. */
/* clang-format off */
#include "cmocka_test.h"
/* clang-format on */
#include <sqlite3.h>

#include "broker_fixture.h"
#include "cpu_rules.h"

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

static sqlite3 *open_db(struct fixture *f)
{
    sqlite3 *db = NULL;
    autofree char *path = xasprintf("%s/broker.db", f->dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    return db;
}

static void change_database(struct fixture *f, const char *sql)
{
    sqlite3 *db = open_db(f);
    char *message = NULL;
    if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
        fail_msg("%s: %s", sql, message);
    sqlite3_close(db);
}

/* The first column of the first row, "" for none. The caller owns it. */
static char *in_database(struct fixture *f, const char *sql)
{
    sqlite3 *db = open_db(f);
    sqlite3_stmt *stmt = NULL;
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK);
    const char *text =
        sqlite3_step(stmt) == SQLITE_ROW ? (const char *)sqlite3_column_text(stmt, 0) : NULL;
    char *copy = xstrdup(text ? text : "");
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    return copy;
}

static void must_be(struct fixture *f, const char *sql, const char *expected)
{
    autofree char *found = in_database(f, sql);
    if (strcmp(found, expected) != 0)
        fail_msg("%s: expected '%s', got '%s'", sql, expected, found);
}

/* A workload born on a haswell, whose node then reports the CPUs of `sample`. */
static void grow(struct fixture *f, const char *sample)
{
    char agent[65];
    autofree char *report = fixture_report(sample, "a", true);
    fixture_node(f, "a", "haswell", agent);
    fixture_workload(f, agent, "a", "w");
    call_expect(f, agent, "PUT", "/v1/nodes/a/report", report, 200);
}

static const struct workload *workload(struct fixture *f)
{
    return model_workload(f->broker->model, "w", NULL);
}

static void the_need_is_written_with_the_exposure(void **state)
{
    struct fixture *f = *state;
    grow(f, "lesser-amd");
    const struct workload *w = workload(f);
    assert_int_equal(w->seen_count, 2);
    /* Birth: what the node has. Then: both. */
    assert_ptr_equal(w->seen[0].need, w->seen[0].profile->record);
    AUTO(cpu_profile) both = cpu_profile_join(w->seen[0].profile->cpu, w->seen[1].profile->cpu);
    assert_true(cpu_profile_equal(w->need, both));
    assert_ptr_equal(w->need, w->seen[1].need->cpu);
    for (size_t i = 0; i < 2; i++) {
        char sha256[65];
        autofree char *text = cpu_profile_record(w->seen[i].need->cpu, sha256);
        autofree char *ask = xasprintf("SELECT json FROM profile AS p JOIN workload_seen ON"
                                       " need_sha256 = p.sha256 WHERE seq = %zu",
                                       i + 1);
        must_be(f, ask, text);
    }
    must_be(f, "SELECT count(*) FROM workload_seen WHERE need_rules = '" CPU_RULES "'", "2");
    char before[65];
    snprintf(before, sizeof(before), "%s", w->seen[1].need->sha256);
    fixture_restart(f);
    assert_string_equal(workload(f)->seen[1].need->sha256, before);
}

static void a_record_cannot_be_changed(void **state)
{
    struct fixture *f = *state;
    grow(f, "lesser-amd");
    sqlite3 *db = open_db(f);
    assert_int_not_equal(sqlite3_exec(db, "UPDATE profile SET json = '{}'", NULL, NULL, NULL),
                         SQLITE_OK);
    sqlite3_close(db);
}

/* Somebody made the database say that it needs less, or other things: both count. */
static void a_need_that_is_not_its_ledgers_counts_as_well(void **state)
{
    struct fixture *f = *state;
    AUTO(cpu_profile) zen4 = NULL;
    grow(f, "lesser-amd");
    AUTO(cpu_profile) honest = cpu_profile_ref(workload(f)->need);
    fixture_import(f, "z", "zen4");
    zen4 = cpu_profile_ref(model_node(f->broker->model, "z", NULL)->profile->cpu);
    assert_false(cpu_profile_has(honest, CPU_FEATURE_AVX512F));
    change_database(f, "UPDATE workload_seen SET need_sha256 = (SELECT profile_sha256 FROM"
                       " report_facts JOIN node USING (report_sha256) WHERE name = 'z')"
                       " WHERE seq = 2");
    for (unsigned i = 0; i < 2; i++) { /* and again at each start */
        fixture_restart(f);
        AUTO(cpu_profile) both = cpu_profile_join(honest, zen4);
        assert_true(cpu_profile_equal(workload(f)->need, both));
    }
    /* An earlier line's goes into all that follow. */
    change_database(f, "UPDATE workload_seen SET need_sha256 = (SELECT need_sha256 FROM"
                       " workload_seen WHERE seq = 2) WHERE seq = 1");
    fixture_restart(f);
    assert_true(cpu_profile_has(workload(f)->seen[0].need->cpu, CPU_FEATURE_AVX512F));
    assert_true(cpu_profile_has(workload(f)->need, CPU_FEATURE_AVX512F));
}

static void a_damaged_record_is_no_reason_to_stop(void **state)
{
    struct fixture *f = *state;
    grow(f, "lesser-amd");
    AUTO(cpu_profile) honest = cpu_profile_ref(workload(f)->need);
    change_database(f, "DROP TRIGGER profile_is_immutable; UPDATE profile SET json = '{\"x\":1}'");
    fixture_restart(f);
    assert_true(cpu_profile_equal(workload(f)->need, honest));
    assert_int_equal(f->broker->model->nodes.count, 1);
    assert_true(
        cpu_profile_has(model_node(f->broker->model, "a", NULL)->profile->cpu, CPU_FEATURE_SSE2));
}

static void other_rules_reckon_anew(void **state)
{
    struct fixture *f = *state;
    char sha256[65];
    grow(f, "lesser-amd");
    snprintf(sha256, sizeof(sha256), "%s", workload(f)->seen[1].need->sha256);
    /* As if an older program had thought that it needs next to nothing. */
    change_database(f, "UPDATE workload_seen SET need_rules = 'older', need_sha256 ="
                       " (SELECT profile_sha256 FROM report_facts LIMIT 1);"
                       "UPDATE report_facts SET rules = 'older', kernel = 'wrong'");
    fixture_restart(f);
    assert_string_equal(workload(f)->seen[1].need->sha256, sha256);
    must_be(f, "SELECT need_sha256 FROM workload_seen WHERE seq = 2", sha256);
    must_be(f, "SELECT count(*) FROM workload_seen WHERE need_rules <> '" CPU_RULES "'", "0");
    must_be(f, "SELECT count(*) FROM report_facts WHERE rules <> '" CPU_RULES "'", "0");
    must_be(f, "SELECT count(*) FROM report_facts WHERE kernel = 'wrong'", "0");
}

/* Which node the need has a feature from; NULL when it does not list it. */
static const char *brought_by(struct fixture *f, const char *feature)
{
    json_object *features = fixture_member(f, "need.features");
    for (size_t i = 0; i < json_array_size(features); i++)
        if (strcmp(json_str(json_array_item(features, i), "name"), feature) == 0)
            return json_str(json_array_item(features, i), "from");
    return NULL;
}

static void the_story_is_told(void **state)
{
    struct fixture *f = *state;
    char agent[65];
    fixture_node(f, "b", "zen4", agent);
    grow(f, "lesser-amd");
    const struct profile *there = model_node(f->broker->model, "b", NULL)->profile;
    model_workload_expose(f->broker->model, (struct workload *)(uintptr_t)workload(f), "b", there,
                          9);
    call_expect(f, f->viewer_token, "GET", "/v1/workloads/w", NULL, 200);
    assert_string_equal(fixture_str(f, "born.node"), "a");
    assert_int_equal(json_array_size(fixture_member(f, "seen")), 3);
    assert_string_equal(fixture_str(f, "born.need_sha256"), fixture_str(f, "seen.0.need_sha256"));
    assert_string_not_equal(fixture_str(f, "seen.0.need_sha256"),
                            fixture_str(f, "seen.1.need_sha256"));
    assert_string_equal(fixture_str(f, "need.sha256"), fixture_str(f, "seen.2.need_sha256"));
    assert_null(fixture_member(f, "need.mask_epoch"));
    assert_string_equal(fixture_str(f, "need.level"), "x86-64-v4");
    assert_string_equal(brought_by(f, "avx2"), "a"); /* both have it, a was first */
    assert_string_equal(brought_by(f, "avx512f"), "b");
    assert_null(brought_by(f, "amx_tile"));
    call_expect(f, f->viewer_token, "GET", "/v1/workloads", NULL, 200);
    assert_null(fixture_member(f, "workloads.0.need"));
}

struct sql_migration {
    int version;
    const char *name, *sql;
};

static const struct sql_migration migrations[] = {
#include "sql_migrations.inc"
};

/* A database as the first release left it: a node with a workload that was exposed to two reports,
 * an imported one, and a boot id that only the report tells. */
static void write_first_database(struct fixture *f)
{
    sqlite3 *db = open_db(f);
    sqlite3_stmt *stmt = NULL;
    static const char *const samples[] = {"haswell", "lesser-amd", "zen4"};
    assert_int_equal(sqlite3_exec(db, migrations[0].sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA user_version = 1", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(
        sqlite3_prepare_v2(db, "INSERT INTO report VALUES (?1, ?2, 5)", -1, &stmt, NULL),
        SQLITE_OK);
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        autofree char *text = fixture_report(samples[i], i == 2 ? "z" : "a", true);
        autojson *json = NULL;
        char sha256[65];
        assert_int_equal(json_parse(text, strlen(text), &json, NULL), 0);
        json_put_str(json_member(json, "os"), "boot_id", "told by the report");
        autofree char *canonical = json_canonical(json);
        snprintf(sha256, sizeof(sha256), "%064zu", i + 1);
        sqlite3_bind_text(stmt, 1, sha256, -1, SQLITE_TRANSIENT);
        sqlite3_bind_text(stmt, 2, canonical, -1, SQLITE_TRANSIENT);
        assert_int_equal(sqlite3_step(stmt), SQLITE_DONE);
        sqlite3_reset(stmt);
    }
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    change_database(
        f, "INSERT INTO node VALUES ('a', 'agent', printf('%064d', 2), '0.1.0', 'b', NULL, 5, 6),"
           " ('z', 'imported', printf('%064d', 3), NULL, NULL, NULL, 5, NULL);"
           "INSERT INTO pool_member VALUES ('default', 'a', 5), ('default', 'z', 5);"
           "INSERT INTO workload VALUES ('w', 'default', 'a', 'running', 42, NULL, '[\"w\"]', NULL,"
           " 0, 0, 5);"
           "INSERT INTO workload_seen VALUES ('w', 1, 'a', printf('%064d', 1), 5),"
           " ('w', 2, 'a', printf('%064d', 2), 7)");
}

static void the_first_schema_is_brought_up_to_date(void **state)
{
    struct fixture *f = *state;
    static const char *const files[] = {"broker.db", "broker.db-wal", "broker.db-shm"};
    grow(f, "lesser-amd");
    AUTO(cpu_profile) honest = cpu_profile_ref(workload(f)->need);
    broker_free(f->broker);
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        autofree char *path = xasprintf("%s/%s", f->dir, files[i]);
        unlink(path);
    }
    write_first_database(f);
    fixture_open(f);
    for (unsigned start = 0; start < 2; start++) {
        const struct node *z = model_node(f->broker->model, "z", NULL);
        assert_true(cpu_profile_equal(workload(f)->need, honest));
        assert_int_equal(workload(f)->seen_count, 2);
        assert_true(cpu_profile_has(z->profile->cpu, CPU_FEATURE_AVX512F));
        assert_string_equal(z->boot_id, "told by the report");
        assert_string_equal(json_str(json_array_item(z->engines, 0), "name"), "criu");
        assert_true(z->kernel && *z->kernel);
        must_be(f, "SELECT count(*) FROM workload_seen WHERE need_sha256 IS NULL", "0");
        must_be(f, "SELECT count(*) FROM report_facts", "3");
        /* And it was born under no mask, which did not exist then. */
        must_be(f, "SELECT count(*) FROM workload_seen WHERE masked", "0");
        must_be(f, "SELECT count(*) FROM workload WHERE mask_grade = 'off' AND mask_sha256 IS NULL",
                "1");
        assert_int_equal(workload(f)->mask.grade, MASK_GRADE_OFF);
        fixture_restart(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_need_is_written_with_the_exposure, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_record_cannot_be_changed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_need_that_is_not_its_ledgers_counts_as_well, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_damaged_record_is_no_reason_to_stop, set_up, tear_down),
        cmocka_unit_test_setup_teardown(other_rules_reckon_anew, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_story_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_first_schema_is_brought_up_to_date, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
