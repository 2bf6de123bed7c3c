/* SPDX-License-Identifier: Apache-2.0 */
/* store_webhook.c - webhooks and their deliveries in the database. */
#include "store_internal.h"

int store_webhook_add(struct store *store, const struct store_webhook *row, struct error *err)
{
    return store_run(store, SQL_WEBHOOK_ADD,
                     VALUES(TEXT(row->id), TEXT(row->url), TEXT(row->secret), TEXT(row->events),
                            INT(row->created_at_ms)),
                     err);
}

int store_webhook_delete(struct store *store, const char *id, struct error *err)
{
    return store_run(store, SQL_WEBHOOK_DELETE, VALUES(TEXT(id)), err);
}

struct webhook_visit {
    int (*each)(void *ctx, const struct store_webhook *row, struct error *err);
    void *ctx;
};

static int webhook_row(void *ctx, sqlite3_stmt *stmt, struct error *err)
{
    const struct webhook_visit *visit = ctx;
    const struct store_webhook row = {
        .id = store_column_text(stmt, 0),
        .url = store_column_text(stmt, 1),
        .secret = store_column_text(stmt, 2),
        .events = store_column_text(stmt, 3),
        .created_at_ms = store_column_int(stmt, 4, 0),
        .pending = store_column_int(stmt, 5, 0),
        .dead = store_column_int(stmt, 6, 0),
    };
    return visit->each(visit->ctx, &row, err);
}

int store_webhooks(struct store *store,
                   int (*each)(void *ctx, const struct store_webhook *row, struct error *err),
                   void *ctx, struct error *err)
{
    struct webhook_visit visit = {each, ctx};
    return store_query(store, SQL_WEBHOOKS, NULL, 0, webhook_row, &visit, err);
}

int store_deliveries_add(struct store *store, const char *kind, const char *body, int64_t at_ms,
                         struct error *err)
{
    return store_run(store, SQL_DELIVERIES_ADD, VALUES(TEXT(kind), TEXT(body), INT(at_ms)), err);
}

struct delivery_visit {
    int (*each)(void *ctx, const struct store_delivery *row, struct error *err);
    void *ctx;
};

static int delivery_row(void *ctx, sqlite3_stmt *stmt, struct error *err)
{
    const struct delivery_visit *visit = ctx;
    const struct store_delivery row = {
        .id = store_column_int(stmt, 0, 0),
        .kind = store_column_text(stmt, 1),
        .body = store_column_text(stmt, 2),
        .state = store_column_text(stmt, 3),
        .problem = store_column_text(stmt, 4),
        .tries = store_column_int(stmt, 5, 0),
        .created_at_ms = store_column_int(stmt, 6, 0),
        .next_at_ms = store_column_int(stmt, 7, 0),
        .settled_at_ms = store_column_int(stmt, 8, -1),
    };
    return visit->each(visit->ctx, &row, err);
}

int store_delivery_due(struct store *store, const char *webhook, int64_t now_ms,
                       int (*each)(void *ctx, const struct store_delivery *row, struct error *err),
                       void *ctx, struct error *err)
{
    struct delivery_visit visit = {each, ctx};
    return store_query(store, SQL_DELIVERY_DUE, VALUES(TEXT(webhook), INT(now_ms)), delivery_row,
                       &visit, err);
}

static int take_next(void *ctx, sqlite3_stmt *stmt, struct error *err)
{
    (void)err;
    *(int64_t *)ctx = store_column_int(stmt, 0, -1);
    return 0;
}

int store_delivery_next(struct store *store, const char *webhook, int64_t *ret, struct error *err)
{
    return store_query(store, SQL_DELIVERY_NEXT, VALUES(TEXT(webhook)), take_next, ret, err);
}

int store_delivery_set(struct store *store, const struct store_delivery *row, struct error *err)
{
    return store_run(store, SQL_DELIVERY_SET,
                     VALUES(INT(row->id), TEXT(row->state), INT(row->tries), INT(row->next_at_ms),
                            OPT(row->settled_at_ms), TEXT(row->problem)),
                     err);
}

int store_deliveries_prune(struct store *store, const char *webhook, const char *state,
                           int64_t keep, struct error *err)
{
    return store_run(store, SQL_DELIVERIES_PRUNE, VALUES(TEXT(webhook), TEXT(state), INT(keep)),
                     err);
}

int store_deliveries_overflow(struct store *store, const char *webhook, int64_t most,
                              int64_t now_ms, struct error *err)
{
    return store_run(store, SQL_DELIVERIES_OVERFLOW, VALUES(TEXT(webhook), INT(most), INT(now_ms)),
                     err);
}

int store_deliveries(struct store *store, const char *webhook, const char *state, int64_t limit,
                     int (*each)(void *ctx, const struct store_delivery *row, struct error *err),
                     void *ctx, struct error *err)
{
    struct delivery_visit visit = {each, ctx};
    return store_query(store, SQL_DELIVERIES, VALUES(TEXT(webhook), TEXT(state), INT(limit)),
                       delivery_row, &visit, err);
}
