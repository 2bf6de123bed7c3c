/* SPDX-License-Identifier: Apache-2.0 */
/* test_store.c - the database: opening, refusing, rules that it keeps, and what a rollback leaves.
 */
#include "cmocka_test.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store.h"

#define HASH_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HASH_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

struct place {
    char dir[64], path[96];
    struct store *store;
};

static int set_up(void **state)
{
    struct place *p = xcalloc(1, sizeof(*p));
    struct error err = {0};
    snprintf(p->dir, sizeof(p->dir), "/tmp/cpubroker-unit.XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    snprintf(p->path, sizeof(p->path), "%s/broker.db", p->dir);
    if (store_open(p->path, &p->store, &err) < 0)
        fail_msg("%s", err.message);
    *state = p;
    return 0;
}

static int tear_down(void **state)
{
    struct place *p = *state;
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    store_free(p->store);
    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        autofree char *path = xasprintf("%s%s", p->path, suffixes[i]);
        unlink(path);
    }
    rmdir(p->dir);
    free(p);
    return 0;
}

/* Another program's look at the database. The first column of the first row. */
static int64_t outside(struct place *p, const char *sql)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *stmt = NULL;
    int64_t value = -1;
    assert_int_equal(sqlite3_open(p->path, &db), SQLITE_OK);
    sqlite3_exec(db, "PRAGMA foreign_keys = ON", NULL, NULL, NULL);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK);
    int code = sqlite3_step(stmt);
    if (code == SQLITE_ROW)
        value = sqlite3_column_int64(stmt, 0);
    else if (code != SQLITE_DONE)
        value = -(int64_t)code;
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    return value;
}

static void reopen(struct place *p, enum error_kind expected)
{
    struct error err = {0};
    store_free(p->store);
    p->store = NULL;
    assert_int_equal(store_open(p->path, &p->store, &err), expected == ERROR_NONE ? 0 : -1);
    assert_int_equal(err.kind, expected);
}

static void add_node(struct place *p, const char *name)
{
    const struct store_node node = {.name = name, .report_sha256 = HASH_A, .created_at_ms = 1};
    struct error err = {0};
    if (store_report_put(p->store, HASH_A, "{}", 1, &err) < 0 ||
        store_node_put(p->store, &node, &err) < 0)
        fail_msg("%s", err.message);
}

static void opens_private_and_whole(void **state)
{
    struct place *p = *state;
    struct stat st;
    assert_int_equal(stat(p->path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(outside(p, "PRAGMA user_version"), store_schema_version());
    assert_int_equal(outside(p, "SELECT count(*) FROM pool WHERE name = 'default'"), 1);
    assert_int_equal(outside(p, "SELECT count(*) FROM pragma_journal_mode WHERE journal_mode = "
                                "'wal'"),
                     1);
    reopen(p, ERROR_NONE);
    assert_int_equal(outside(p, "SELECT count(*) FROM pool"), 1);
}

static void every_table_is_strict(void **state)
{
    struct place *p = *state;
    assert_int_equal(outside(p, "SELECT count(*) FROM pragma_table_list WHERE schema = 'main' AND "
                                "type = 'table' AND name NOT LIKE 'sqlite_%' AND NOT strict"),
                     0);
    assert_true(outside(p, "SELECT count(*) FROM pragma_table_list WHERE strict") >= 10);
}

static void refuses_a_newer_schema(void **state)
{
    struct place *p = *state;
    outside(p, "PRAGMA user_version = 99");
    reopen(p, ERROR_CONFLICT);
    autofree char *back = xasprintf("PRAGMA user_version = %d", store_schema_version());
    outside(p, back);
    reopen(p, ERROR_NONE);
}

static void refuses_what_is_no_database(void **state)
{
    struct place *p = *state;
    store_free(p->store);
    p->store = NULL;
    int fd = open(p->path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    static const char text[] = "this file is not what it seems to be, and long enough to tell\n";
    assert_true(write(fd, text, sizeof(text)) == (ssize_t)sizeof(text));
    close(fd);
    reopen(p, ERROR_FAILED);
}

static void reports_and_epochs_are_immutable(void **state)
{
    struct place *p = *state;
    add_node(p, "a");
    const struct store_epoch epoch = {"default", 1, HASH_A, "{}", "[]", 1};
    assert_int_equal(store_epoch_add(p->store, &epoch, NULL), 0);
    assert_true(outside(p, "UPDATE report SET json = '[]'") < -1);
    assert_true(outside(p, "UPDATE pool_epoch SET digest = 'x'") < -1);
    /* The same report again is no error, and changes nothing. */
    assert_int_equal(store_report_put(p->store, HASH_A, "{\"other\":1}", 2, NULL), 0);
    autofree char *json = NULL;
    assert_int_equal(store_report_get(p->store, HASH_A, &json, NULL), 0);
    assert_string_equal(json, "{}");
    struct error err = {0};
    autofree char *none = NULL;
    assert_int_equal(store_report_get(p->store, HASH_B, &none, &err), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
    assert_int_equal(store_epoch_add(p->store, &epoch, &err), -1);
}

static void foreign_keys_hold(void **state)
{
    struct place *p = *state;
    struct error err = {0};
    assert_int_equal(store_member_add(p->store, "default", "nobody", 1, &err), -1);
    assert_int_equal(err.kind, ERROR_INTERNAL);
    add_node(p, "a");
    assert_int_equal(store_member_add(p->store, "default", "a", 1, NULL), 0);
    const struct store_seen seen = {"nobody", "a", HASH_A, 1};
    assert_int_equal(store_seen_add(p->store, &seen, NULL), -1);
    assert_int_equal(store_node_delete(p->store, "a", NULL), 0);
    assert_int_equal(outside(p, "SELECT count(*) FROM pool_member"), 0);
    assert_true(store_healthy(p->store)); /* a rule that was kept is no damage */
}

static void a_rollback_leaves_nothing(void **state)
{
    struct place *p = *state;
    add_node(p, "a");
    assert_int_equal(store_begin(p->store, NULL), 0);
    assert_int_equal(store_member_add(p->store, "default", "a", 1, NULL), 0);
    assert_int_equal(store_node_touch(p->store, "a", 77, NULL), 0);
    store_rollback(p->store);
    assert_int_equal(outside(p, "SELECT count(*) FROM pool_member"), 0);
    assert_int_equal(outside(p, "SELECT coalesce(seen_at_ms, 0) FROM node"), 0);
    assert_int_equal(store_begin(p->store, NULL), 0);
    assert_int_equal(store_node_touch(p->store, "a", 78, NULL), 0);
    assert_int_equal(store_commit(p->store, NULL), 0);
    assert_int_equal(outside(p, "SELECT seen_at_ms FROM node"), 78);
}

static int count_seen(void *ctx, const struct store_seen *row, struct error *err)
{
    (void)err;
    int *count = ctx;
    assert_string_equal(row->workload, "w");
    if (++*count == 1)
        assert_string_equal(row->node, "a"); /* birth comes first */
    return 0;
}

static void the_ledger_keeps_each_line_once(void **state)
{
    struct place *p = *state;
    add_node(p, "a");
    add_node(p, "b");
    const struct store_workload workload = {.name = "w",
                                            .pool = "default",
                                            .node = "a",
                                            .state = "running",
                                            .pid = -1,
                                            .exit_status = -1,
                                            .command = "[]",
                                            .created_at_ms = 1,
                                            .mask_grade = "off"};
    assert_int_equal(store_workload_put(p->store, &workload, NULL), 0);
    const struct store_seen lines[] = {
        {"w", "a", HASH_A, 1},
        {"w", "b", HASH_A, 2},
        {"w", "a", HASH_A, 3}
    };
    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        assert_int_equal(store_seen_add(p->store, &lines[i], NULL), 0);
    struct store_seen masked = lines[1]; /* another thing than the same without the mask */
    masked.masked = true;
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(store_seen_add(p->store, &masked, NULL), 0);
    int count = 0;
    assert_int_equal(store_seen(p->store, count_seen, &count, NULL), 0);
    assert_int_equal(count, 3);
    assert_int_equal(outside(p, "SELECT pid IS NULL AND exit_status IS NULL FROM workload"), 1);
    assert_int_equal(store_seen_clear(p->store, "w", NULL), 0);
    assert_int_equal(outside(p, "SELECT count(*) FROM workload_seen"), 0);
}

static struct store_migration a_migration(const char *id, const char *key)
{
    return (struct store_migration){.id = id,
                                    .workload = "w",
                                    .from = "a",
                                    .to = "b",
                                    .state = "preparing",
                                    .judged_sha256 = HASH_A,
                                    .ticket = HASH_B,
                                    .idempotency_key = key,
                                    .verdict = "{}",
                                    .created_at_ms = 5};
}

static void one_migration_of_a_workload_at_a_time(void **state)
{
    struct place *p = *state;
    struct store_migration row = a_migration("m-1", "k");
    assert_int_equal(store_migration_add(p->store, &row, NULL), 0);
    row = a_migration("m-2", NULL);
    assert_int_equal(store_migration_add(p->store, &row, NULL), -1);
    row = a_migration("m-1", NULL);
    row.state = "done";
    row.source_report = row.target_report = "none";
    row.ticket = NULL;
    row.total_bytes = row.dumping_at_ms = row.downtime_ms = -1;
    row.finished_at_ms = 9;
    assert_int_equal(store_migration_set(p->store, &row, NULL), 0);
    assert_int_equal(outside(p, "SELECT ticket IS NULL FROM migration"), 1);
    row = a_migration("m-2", "k");
    assert_int_equal(store_migration_add(p->store, &row, NULL), -1); /* the key is taken */
    row = a_migration("m-2", "l");
    assert_int_equal(store_migration_add(p->store, &row, NULL), 0);
}

static int stop_early(void *ctx, const struct store_event *row, struct error *err)
{
    ++*(int *)ctx;
    return row->seq == 2 ? error_set(err, ERROR_FAILED, "enough") : 0;
}

static void a_callback_can_stop_a_query(void **state)
{
    struct place *p = *state;
    struct store_migration row = a_migration("m-1", NULL);
    struct error err = {0};
    int count = 0;
    int64_t last = -1;
    assert_int_equal(store_migration_add(p->store, &row, NULL), 0);
    for (int64_t seq = 1; seq <= 4; seq++) {
        const struct store_event event = {seq, 1, "phase", "{}"};
        assert_int_equal(store_event_add(p->store, "m-1", &event, NULL), 0);
    }
    assert_int_equal(store_events(p->store, "m-1", 0, 10, stop_early, &count, &err), -1);
    assert_string_equal(err.message, "enough");
    assert_int_equal(count, 2);
    /* The statement can be used again. */
    count = 0;
    assert_int_equal(store_events(p->store, "m-1", 2, 1, stop_early, &count, NULL), 0);
    assert_int_equal(count, 1);
    assert_int_equal(store_event_last(p->store, "m-1", &last, NULL), 0);
    assert_int_equal(last, 4);
    const struct store_event twice = {4, 1, "phase", "{}"};
    assert_int_equal(store_event_add(p->store, "m-1", &twice, NULL), -1);
}

static int ignore_token(void *ctx, const struct store_token *row, struct error *err)
{
    (void)err;
    snprintf(ctx, 64, "%s/%s", row->id, row->node ? row->node : "-");
    return 0;
}

static void tokens_are_bound_and_removed(void **state)
{
    struct place *p = *state;
    char found[64] = "";
    const struct store_token row = {HASH_A, "t-1", "agent", NULL, NULL, 1};
    const struct store_token king = {HASH_B, "t-2", "king", NULL, NULL, 1};
    assert_int_equal(store_token_add(p->store, &row, NULL), 0);
    assert_int_equal(store_token_add(p->store, &king, NULL), -1);
    assert_int_equal(store_token_bind(p->store, HASH_A, "a", NULL), 0);
    assert_int_equal(store_tokens(p->store, ignore_token, found, NULL), 0);
    assert_string_equal(found, "t-1/a");
    assert_int_equal(store_token_delete(p->store, HASH_A, NULL), 0);
    assert_int_equal(outside(p, "SELECT count(*) FROM token"), 0);
}

/* Another program holds the database: an error that says so, and nothing half done. */
static void a_lock_held_elsewhere_is_told(void **state)
{
    struct place *p = *state;
    sqlite3 *db = NULL;
    add_node(p, "a");
    assert_int_equal(sqlite3_open(p->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    struct error err = {0};
    assert_int_equal(store_begin(p->store, &err), -1); /* after the busy timeout */
    assert_int_equal(err.kind, ERROR_BUSY);
    assert_false(store_healthy(p->store));
    sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    sqlite3_close(db);
    assert_true(store_healthy(p->store)); /* looks again */
    assert_int_equal(store_begin(p->store, NULL), 0);
    assert_int_equal(store_node_touch(p->store, "a", 5, NULL), 0);
    assert_int_equal(store_commit(p->store, NULL), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(opens_private_and_whole),
        TEST(every_table_is_strict),
        TEST(refuses_a_newer_schema),
        TEST(refuses_what_is_no_database),
        TEST(reports_and_epochs_are_immutable),
        TEST(foreign_keys_hold),
        TEST(a_rollback_leaves_nothing),
        TEST(the_ledger_keeps_each_line_once),
        TEST(one_migration_of_a_workload_at_a_time),
        TEST(a_callback_can_stop_a_query),
        TEST(tokens_are_bound_and_removed),
        TEST(a_lock_held_elsewhere_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
