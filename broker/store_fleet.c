/* SPDX-License-Identifier: Apache-2.0 */
/* store_fleet.c - reports and what they amount to, nodes, pools and their epochs in the database.
 */
#include <string.h>

#include "store_internal.h"

int store_report_put(struct store *store, const char *sha256, const char *json, int64_t at_ms,
                     struct error *err)
{
    return store_run(store, SQL_REPORT_PUT, VALUES(TEXT(sha256), TEXT(json), INT(at_ms)), err);
}

static int take_text(void *ctx, sqlite3_stmt *stmt, struct error *err)
{
    (void)err;
    *(char **)ctx = xstrdup(store_column_text(stmt, 0));
    return 0;
}

static int get_text(struct store *store, enum store_statement statement, const char *what,
                    const char *sha256, char **ret_json, struct error *err)
{
    char *json = NULL;
    if (store_query(store, statement, VALUES(TEXT(sha256)), take_text, &json, err) < 0)
        return -1;
    if (!json)
        return error_set(err, ERROR_NOT_FOUND, "no %s %s", what, sha256);
    *ret_json = json;
    return 0;
}

int store_report_get(struct store *store, const char *sha256, char **ret_json, struct error *err)
{
    return get_text(store, SQL_REPORT_GET, "report", sha256, ret_json, err);
}

int store_profile_put(struct store *store, const char *sha256, const char *json, int64_t at_ms,
                      struct error *err)
{
    return store_run(store, SQL_PROFILE_PUT, VALUES(TEXT(sha256), TEXT(json), INT(at_ms)), err);
}

int store_profile_get(struct store *store, const char *sha256, char **ret_json, struct error *err)
{
    return get_text(store, SQL_PROFILE_GET, "profile", sha256, ret_json, err);
}

int store_facts_put(struct store *store, const struct store_facts *row, struct error *err)
{
    return store_run(store, SQL_FACTS_PUT,
                     VALUES(TEXT(row->report_sha256), TEXT(row->rules), TEXT(row->profile_sha256),
                            TEXT(row->kernel), TEXT(row->engines)),
                     err);
}

struct facts_visit {
    int (*each)(void *ctx, const struct store_facts *row, struct error *err);
    void *ctx;
};

static int facts_row(void *ctx, sqlite3_stmt *stmt, struct error *err)
{
    const struct facts_visit *visit = ctx;
    const struct store_facts row = {
        .report_sha256 = store_column_text(stmt, 0),
        .rules = store_column_text(stmt, 1),
        .profile_sha256 = store_column_text(stmt, 2),
        .kernel = store_column_text(stmt, 3),
        .engines = store_column_text(stmt, 4),
    };
    return visit->each(visit->ctx, &row, err);
}

int store_facts(struct store *store,
                int (*each)(void *ctx, const struct store_facts *row, struct error *err), void *ctx,
                struct error *err)
{
    struct facts_visit visit = {each, ctx};
    return store_query(store, SQL_FACTS, NULL, 0, facts_row, &visit, err);
}

int store_node_put(struct store *store, const struct store_node *row, struct error *err)
{
    return store_run(store, SQL_NODE_PUT,
                     VALUES(TEXT(row->name), TEXT(row->imported ? "imported" : "agent"),
                            TEXT(row->report_sha256), TEXT(row->version), TEXT(row->boot_id),
                            TEXT(row->image_address), INT(row->created_at_ms),
                            OPT(row->seen_at_ms > 0 ? row->seen_at_ms : -1)),
                     err);
}

int store_node_touch(struct store *store, const char *name, int64_t seen_at_ms, struct error *err)
{
    return store_run(store, SQL_NODE_TOUCH, VALUES(TEXT(name), INT(seen_at_ms)), err);
}

int store_node_delete(struct store *store, const char *name, struct error *err)
{
    if (store_run(store, SQL_NODE_FORGET, VALUES(TEXT(name)), err) < 0)
        return -1;
    return store_run(store, SQL_NODE_DELETE, VALUES(TEXT(name)), err);
}

int store_node_lose(struct store *store, const char *name, int64_t at_ms, struct error *err)
{
    if (store_run(store, SQL_NODE_LEAVE, VALUES(TEXT(name)), err) < 0 ||
        store_run(store, SQL_NODE_LOSE, VALUES(TEXT(name), INT(at_ms)), err) < 0)
        return -1;
    return store_run(store, SQL_NODE_REMOVE, VALUES(TEXT(name), INT(at_ms)), err);
}

struct node_visit {
    int (*each)(void *ctx, const struct store_node *row, struct error *err);
    void *ctx;
};

static int node_row(void *ctx, sqlite3_stmt *stmt, struct error *err)
{
    const struct node_visit *visit = ctx;
    struct store_node row = {
        .name = store_column_text(stmt, 0),
        .imported = strcmp(store_column_text(stmt, 1), "imported") == 0,
        .report_sha256 = store_column_text(stmt, 2),
        .version = store_column_text(stmt, 3),
        .boot_id = store_column_text(stmt, 4),
        .image_address = store_column_text(stmt, 5),
        .created_at_ms = store_column_int(stmt, 6, 0),
        .seen_at_ms = store_column_int(stmt, 7, 0),
    };
    return visit->each(visit->ctx, &row, err);
}

int store_nodes(struct store *store,
                int (*each)(void *ctx, const struct store_node *row, struct error *err), void *ctx,
                struct error *err)
{
    struct node_visit visit = {each, ctx};
    return store_query(store, SQL_NODES, NULL, 0, node_row, &visit, err);
}

int store_pool_put(struct store *store, const struct store_pool *row, struct error *err)
{
    return store_run(store, SQL_POOL_PUT,
                     VALUES(TEXT(row->name), INT(row->mix_vendors), INT(row->created_at_ms),
                            TEXT(row->min_level), TEXT(row->evidence), TEXT(row->islands)),
                     err);
}

int store_pool_delete(struct store *store, const char *name, struct error *err)
{
    if (store_run(store, SQL_POOL_FORGET, VALUES(TEXT(name)), err) < 0)
        return -1;
    return store_run(store, SQL_POOL_DELETE, VALUES(TEXT(name)), err);
}

struct pool_visit {
    int (*each)(void *ctx, const struct store_pool *row, struct error *err);
    void *ctx;
};

static int pool_row(void *ctx, sqlite3_stmt *stmt, struct error *err)
{
    const struct pool_visit *visit = ctx;
    struct store_pool row = {
        .name = store_column_text(stmt, 0),
        .mix_vendors = store_column_int(stmt, 1, 0) != 0,
        .created_at_ms = store_column_int(stmt, 2, 0),
        .epoch = store_column_int(stmt, 3, 0),
        .digest = store_column_text(stmt, 4),
        .min_level = store_column_text(stmt, 5),
        .evidence = store_column_text(stmt, 6),
        .islands = store_column_text(stmt, 7),
    };
    return visit->each(visit->ctx, &row, err);
}

int store_pools(struct store *store,
                int (*each)(void *ctx, const struct store_pool *row, struct error *err), void *ctx,
                struct error *err)
{
    struct pool_visit visit = {each, ctx};
    return store_query(store, SQL_POOLS, NULL, 0, pool_row, &visit, err);
}

int store_member_add(struct store *store, const char *pool, const char *node, int64_t at_ms,
                     struct error *err)
{
    return store_run(store, SQL_MEMBER_ADD, VALUES(TEXT(pool), TEXT(node), INT(at_ms)), err);
}

int store_member_remove(struct store *store, const char *pool, const char *node, struct error *err)
{
    return store_run(store, SQL_MEMBER_REMOVE, VALUES(TEXT(pool), TEXT(node)), err);
}

struct member_visit {
    int (*each)(void *ctx, const char *pool, const char *node, struct error *err);
    void *ctx;
};

static int member_row(void *ctx, sqlite3_stmt *stmt, struct error *err)
{
    const struct member_visit *visit = ctx;
    return visit->each(visit->ctx, store_column_text(stmt, 0), store_column_text(stmt, 1), err);
}

int store_members(struct store *store,
                  int (*each)(void *ctx, const char *pool, const char *node, struct error *err),
                  void *ctx, struct error *err)
{
    struct member_visit visit = {each, ctx};
    return store_query(store, SQL_MEMBERS, NULL, 0, member_row, &visit, err);
}

int store_epoch_add(struct store *store, const struct store_epoch *row, struct error *err)
{
    return store_run(store, SQL_EPOCH_ADD,
                     VALUES(TEXT(row->pool), INT(row->epoch), TEXT(row->digest), TEXT(row->mask),
                            TEXT(row->members), INT(row->created_at_ms)),
                     err);
}
