/* SPDX-License-Identifier: Apache-2.0 */
/* store_evidence.c - what looks at live workloads showed, in the database. */
#include "store_internal.h"

int store_migration_judged(struct store *store, const char *id, const char *verdict,
                           const char *evidence, struct error *err)
{
    return store_run(store, SQL_MIGRATION_JUDGED, VALUES(TEXT(id), TEXT(verdict), TEXT(evidence)),
                     err);
}

static int take_text(void *ctx, sqlite3_stmt *stmt, struct error *err)
{
    (void)err;
    *(char **)ctx = xstrdup(store_column_text(stmt, 0));
    return 0;
}

int store_migration_evidence(struct store *store, const char *id, char **ret, struct error *err)
{
    *ret = NULL;
    return store_query(store, SQL_MIGRATION_EVIDENCE, VALUES(TEXT(id)), take_text, ret, err);
}

int store_evidence_put(struct store *store, const struct store_evidence *row, struct error *err)
{
    return store_run(store, SQL_EVIDENCE_PUT,
                     VALUES(TEXT(row->workload), TEXT(row->migration), TEXT(row->node),
                            TEXT(row->boot_id), INT(row->taken_at_ms)),
                     err);
}

struct evidence_visit {
    int (*each)(void *ctx, const struct store_evidence *row, struct error *err);
    void *ctx;
};

static int evidence_row(void *ctx, sqlite3_stmt *stmt, struct error *err)
{
    const struct evidence_visit *visit = ctx;
    struct store_evidence row = {
        .workload = store_column_text(stmt, 0),
        .migration = store_column_text(stmt, 1),
        .node = store_column_text(stmt, 2),
        .boot_id = store_column_text(stmt, 3),
        .taken_at_ms = store_column_int(stmt, 4, 0),
        .moved_on = store_column_int(stmt, 5, 0) != 0,
        .json = store_column_text(stmt, 6),
    };
    return visit->each(visit->ctx, &row, err);
}

int store_evidences(struct store *store,
                    int (*each)(void *ctx, const struct store_evidence *row, struct error *err),
                    void *ctx, struct error *err)
{
    struct evidence_visit visit = {each, ctx};
    return store_query(store, SQL_EVIDENCES, NULL, 0, evidence_row, &visit, err);
}
