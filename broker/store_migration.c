/* SPDX-License-Identifier: Apache-2.0 */
/* store_migration.c - migrations and their events in the database. */
#include "store_internal.h"

int store_migration_add(struct store *store, const struct store_migration *row, struct error *err)
{
    return store_run(store, SQL_MIGRATION_ADD,
                     VALUES(TEXT(row->id), TEXT(row->workload), TEXT(row->from), TEXT(row->to),
                            TEXT(row->state), TEXT(row->judged_sha256), TEXT(row->ticket),
                            TEXT(row->idempotency_key), TEXT(row->requested_to), TEXT(row->verdict),
                            INT(row->created_at_ms)),
                     err);
}

int store_migration_set(struct store *store, const struct store_migration *row, struct error *err)
{
    return store_run(store, SQL_MIGRATION_SET,
                     VALUES(TEXT(row->id), TEXT(row->state), TEXT(row->source_report),
                            TEXT(row->target_report), TEXT(row->ticket), TEXT(row->error),
                            INT(row->cancelled), INT(row->bytes), OPT(row->total_bytes),
                            INT(row->state_at_ms), OPT(row->dumping_at_ms), OPT(row->downtime_ms),
                            OPT(row->finished_at_ms), TEXT(row->judged_sha256)),
                     err);
}

struct migration_visit {
    int (*each)(void *ctx, const struct store_migration *row, struct error *err);
    void *ctx;
};

static int migration_row(void *ctx, sqlite3_stmt *stmt, struct error *err)
{
    const struct migration_visit *visit = ctx;
    struct store_migration row = {
        .id = store_column_text(stmt, 0),
        .workload = store_column_text(stmt, 1),
        .from = store_column_text(stmt, 2),
        .to = store_column_text(stmt, 3),
        .state = store_column_text(stmt, 4),
        .source_report = store_column_text(stmt, 5),
        .target_report = store_column_text(stmt, 6),
        .judged_sha256 = store_column_text(stmt, 7),
        .ticket = store_column_text(stmt, 8),
        .idempotency_key = store_column_text(stmt, 9),
        .requested_to = store_column_text(stmt, 10),
        .verdict = store_column_text(stmt, 11),
        .error = store_column_text(stmt, 12),
        .cancelled = store_column_int(stmt, 13, 0) != 0,
        .bytes = store_column_int(stmt, 14, 0),
        .total_bytes = store_column_int(stmt, 15, -1),
        .created_at_ms = store_column_int(stmt, 16, 0),
        .state_at_ms = store_column_int(stmt, 17, 0),
        .dumping_at_ms = store_column_int(stmt, 18, -1),
        .downtime_ms = store_column_int(stmt, 19, -1),
        .finished_at_ms = store_column_int(stmt, 20, -1),
    };
    return visit->each(visit->ctx, &row, err);
}

int store_migrations(struct store *store, enum store_migrations_which which, const char *text,
                     int64_t limit,
                     int (*each)(void *ctx, const struct store_migration *row, struct error *err),
                     void *ctx, struct error *err)
{
    static const enum store_statement statements[] = {
        [STORE_MIGRATIONS_UNSETTLED] = SQL_MIGRATIONS_UNSETTLED,
        [STORE_MIGRATIONS_LATEST] = SQL_MIGRATIONS_LATEST,
        [STORE_MIGRATIONS_OF_WORKLOAD] = SQL_MIGRATIONS_OF_WORKLOAD,
        [STORE_MIGRATIONS_BY_ID] = SQL_MIGRATIONS_BY_ID,
        [STORE_MIGRATIONS_BY_KEY] = SQL_MIGRATIONS_BY_KEY,
    };
    struct migration_visit visit = {each, ctx};
    const struct store_value values[] = {INT(limit), TEXT(text)};
    return store_query(store, statements[which], values,
                       which >= STORE_MIGRATIONS_OF_WORKLOAD ? 2 : 1, migration_row, &visit, err);
}

int store_event_add(struct store *store, const char *migration, const struct store_event *row,
                    struct error *err)
{
    return store_run(
        store, SQL_EVENT_ADD,
        VALUES(TEXT(migration), INT(row->seq), INT(row->at_ms), TEXT(row->kind), TEXT(row->json)),
        err);
}

static int take_integer(void *ctx, sqlite3_stmt *stmt, struct error *err)
{
    (void)err;
    *(int64_t *)ctx = store_column_int(stmt, 0, 0);
    return 0;
}

int store_event_last(struct store *store, const char *migration, int64_t *ret, struct error *err)
{
    return store_query(store, SQL_EVENT_LAST, VALUES(TEXT(migration)), take_integer, ret, err);
}

struct event_visit {
    int (*each)(void *ctx, const struct store_event *row, struct error *err);
    void *ctx;
};

static int event_row(void *ctx, sqlite3_stmt *stmt, struct error *err)
{
    const struct event_visit *visit = ctx;
    struct store_event row = {
        .seq = store_column_int(stmt, 0, 0),
        .at_ms = store_column_int(stmt, 1, 0),
        .kind = store_column_text(stmt, 2),
        .json = store_column_text(stmt, 3),
    };
    return visit->each(visit->ctx, &row, err);
}

int store_events(struct store *store, const char *migration, int64_t after, int64_t limit,
                 int (*each)(void *ctx, const struct store_event *row, struct error *err),
                 void *ctx, struct error *err)
{
    struct event_visit visit = {each, ctx};
    return store_query(store, SQL_EVENTS, VALUES(TEXT(migration), INT(after), INT(limit)),
                       event_row, &visit, err);
}

int store_phases(struct store *store, const char *migration,
                 int (*each)(void *ctx, const struct store_event *row, struct error *err),
                 void *ctx, struct error *err)
{
    struct event_visit visit = {each, ctx};
    return store_query(store, SQL_PHASES, VALUES(TEXT(migration)), event_row, &visit, err);
}

struct count_visit {
    int (*each)(void *ctx, const char *state, int64_t count, struct error *err);
    void *ctx;
};

static int count_row(void *ctx, sqlite3_stmt *stmt, struct error *err)
{
    const struct count_visit *visit = ctx;
    return visit->each(visit->ctx, store_column_text(stmt, 0), store_column_int(stmt, 1, 0), err);
}

int store_migration_counts(struct store *store,
                           int (*each)(void *ctx, const char *state, int64_t count,
                                       struct error *err),
                           void *ctx, struct error *err)
{
    struct count_visit visit = {each, ctx};
    return store_query(store, SQL_MIGRATION_COUNTS, NULL, 0, count_row, &visit, err);
}
