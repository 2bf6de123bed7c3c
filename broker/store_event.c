/* SPDX-License-Identifier: Apache-2.0 */
/* store_event.c - what happened to the fleet, in the database. */
#include "store_internal.h"

static int take_int(void *ctx, sqlite3_stmt *stmt, struct error *err)
{
    (void)err;
    *(int64_t *)ctx = store_column_int(stmt, 0, 0);
    return 0;
}

int store_fleet_event_add(struct store *store, const struct store_fleet_event *row,
                          int64_t *ret_seq, struct error *err)
{
    return store_query(store, SQL_FLEET_EVENT_ADD,
                       VALUES(INT(row->at_ms), TEXT(row->kind), TEXT(row->node), TEXT(row->pool),
                              TEXT(row->workload), TEXT(row->json)),
                       take_int, ret_seq, err);
}

int store_fleet_events_prune(struct store *store, int64_t keep, struct error *err)
{
    return store_run(store, SQL_FLEET_EVENTS_PRUNE, VALUES(INT(keep)), err);
}

int store_fleet_event_last(struct store *store, int64_t *ret, struct error *err)
{
    return store_query(store, SQL_FLEET_EVENT_LAST, NULL, 0, take_int, ret, err);
}

struct event_visit {
    int (*each)(void *ctx, const struct store_fleet_event *row, struct error *err);
    void *ctx;
};

static int event_row(void *ctx, sqlite3_stmt *stmt, struct error *err)
{
    const struct event_visit *visit = ctx;
    const struct store_fleet_event row = {
        .seq = store_column_int(stmt, 0, 0),
        .at_ms = store_column_int(stmt, 1, 0),
        .kind = store_column_text(stmt, 2),
        .node = store_column_text(stmt, 3),
        .pool = store_column_text(stmt, 4),
        .workload = store_column_text(stmt, 5),
        .json = store_column_text(stmt, 6),
    };
    return visit->each(visit->ctx, &row, err);
}

int store_fleet_events(struct store *store, int64_t after, int64_t limit,
                       int (*each)(void *ctx, const struct store_fleet_event *row,
                                   struct error *err),
                       void *ctx, struct error *err)
{
    struct event_visit visit = {each, ctx};
    return store_query(store, SQL_FLEET_EVENTS, VALUES(INT(after), INT(limit)), event_row, &visit,
                       err);
}
