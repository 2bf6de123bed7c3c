/* SPDX-License-Identifier: Apache-2.0 */
/* store_workload.c - workloads, and the ledger of what each was exposed to, in
 * the database. */
#include "store_internal.h"

int store_workload_put(struct store *store, const struct store_workload *row, struct error *err)
{
    return store_run(store, SQL_WORKLOAD_PUT,
                     VALUES(TEXT(row->name), TEXT(row->pool), TEXT(row->node), TEXT(row->state),
                            OPT(row->pid), OPT(row->exit_status), TEXT(row->command),
                            TEXT(row->dir), INT(row->adopted), INT(row->epoch),
                            INT(row->created_at_ms), TEXT(row->mask_grade), TEXT(row->mask_sha256)),
                     err);
}

int store_workload_mask(struct store *store, const char *name, int64_t sites, const char *lacks,
                        const char *told_on, struct error *err)
{
    return store_run(store, SQL_WORKLOAD_MASK,
                     VALUES(TEXT(name), OPT(sites), TEXT(lacks), TEXT(told_on)), err);
}

int store_workload_set(struct store *store, const char *name, const char *node, const char *state,
                       int64_t pid, int64_t exit_status, struct error *err)
{
    return store_run(store, SQL_WORKLOAD_SET,
                     VALUES(TEXT(name), TEXT(node), TEXT(state), OPT(pid), OPT(exit_status)), err);
}

struct workload_visit {
    int (*each)(void *ctx, const struct store_workload *row, struct error *err);
    void *ctx;
};

static int workload_row(void *ctx, sqlite3_stmt *stmt, struct error *err)
{
    const struct workload_visit *visit = ctx;
    struct store_workload row = {
        .name = store_column_text(stmt, 0),
        .pool = store_column_text(stmt, 1),
        .node = store_column_text(stmt, 2),
        .state = store_column_text(stmt, 3),
        .pid = store_column_int(stmt, 4, -1),
        .exit_status = store_column_int(stmt, 5, -1),
        .command = store_column_text(stmt, 6),
        .dir = store_column_text(stmt, 7),
        .adopted = store_column_int(stmt, 8, 0) != 0,
        .epoch = store_column_int(stmt, 9, 0),
        .created_at_ms = store_column_int(stmt, 10, 0),
        .lost_at_ms = store_column_int(stmt, 11, 0),
        .mask_grade = store_column_text(stmt, 12),
        .mask_sha256 = store_column_text(stmt, 13),
        .mask_sites = store_column_int(stmt, 14, -1),
        .mask_lacks = store_column_text(stmt, 15),
        .mask_told_on = store_column_text(stmt, 16),
        .mask_gap = store_column_int(stmt, 17, 0) != 0,
    };
    return visit->each(visit->ctx, &row, err);
}

int store_workloads(struct store *store,
                    int (*each)(void *ctx, const struct store_workload *row, struct error *err),
                    void *ctx, struct error *err)
{
    struct workload_visit visit = {each, ctx};
    return store_query(store, SQL_WORKLOADS, NULL, 0, workload_row, &visit, err);
}

int store_seen_add(struct store *store, const struct store_seen *row, struct error *err)
{
    return store_run(store, SQL_SEEN_ADD,
                     VALUES(TEXT(row->workload), TEXT(row->node), TEXT(row->report_sha256),
                            INT(row->since_at_ms), TEXT(row->need_sha256), TEXT(row->need_rules),
                            INT(row->masked)),
                     err);
}

int store_seen_need(struct store *store, const struct store_seen *row, struct error *err)
{
    return store_run(store, SQL_SEEN_NEED,
                     VALUES(TEXT(row->workload), TEXT(row->node), TEXT(row->report_sha256),
                            TEXT(row->need_sha256), TEXT(row->need_rules), INT(row->masked)),
                     err);
}

int store_seen_clear(struct store *store, const char *workload, struct error *err)
{
    return store_run(store, SQL_SEEN_CLEAR, VALUES(TEXT(workload)), err);
}

struct seen_visit {
    int (*each)(void *ctx, const struct store_seen *row, struct error *err);
    void *ctx;
};

static int seen_row(void *ctx, sqlite3_stmt *stmt, struct error *err)
{
    const struct seen_visit *visit = ctx;
    struct store_seen row = {
        .workload = store_column_text(stmt, 0),
        .node = store_column_text(stmt, 1),
        .report_sha256 = store_column_text(stmt, 2),
        .since_at_ms = store_column_int(stmt, 3, 0),
        .need_sha256 = store_column_text(stmt, 4),
        .need_rules = store_column_text(stmt, 5),
        .masked = store_column_int(stmt, 6, 0) != 0,
    };
    return visit->each(visit->ctx, &row, err);
}

int store_seen(struct store *store,
               int (*each)(void *ctx, const struct store_seen *row, struct error *err), void *ctx,
               struct error *err)
{
    struct seen_visit visit = {each, ctx};
    return store_query(store, SQL_SEEN, NULL, 0, seen_row, &visit, err);
}
