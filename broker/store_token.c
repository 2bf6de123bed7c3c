/* SPDX-License-Identifier: Apache-2.0 */
/* store_token.c - tokens in the database: their hashes, never the tokens. */
#include "store_internal.h"

int store_token_add(struct store *store, const struct store_token *row, struct error *err)
{
    return store_run(store, SQL_TOKEN_ADD,
                     VALUES(TEXT(row->sha256), TEXT(row->id), TEXT(row->role), TEXT(row->node),
                            TEXT(row->note), INT(row->created_at_ms)),
                     err);
}

int store_token_bind(struct store *store, const char *sha256, const char *node, struct error *err)
{
    return store_run(store, SQL_TOKEN_BIND, VALUES(TEXT(sha256), TEXT(node)), err);
}

int store_token_delete(struct store *store, const char *sha256, struct error *err)
{
    return store_run(store, SQL_TOKEN_DELETE, VALUES(TEXT(sha256)), err);
}

struct token_visit {
    int (*each)(void *ctx, const struct store_token *row, struct error *err);
    void *ctx;
};

static int token_row(void *ctx, sqlite3_stmt *stmt, struct error *err)
{
    const struct token_visit *visit = ctx;
    struct store_token row = {
        .sha256 = store_column_text(stmt, 0),
        .id = store_column_text(stmt, 1),
        .role = store_column_text(stmt, 2),
        .node = store_column_text(stmt, 3),
        .note = store_column_text(stmt, 4),
        .created_at_ms = store_column_int(stmt, 5, 0),
    };
    return visit->each(visit->ctx, &row, err);
}

int store_tokens(struct store *store,
                 int (*each)(void *ctx, const struct store_token *row, struct error *err),
                 void *ctx, struct error *err)
{
    struct token_visit visit = {each, ctx};
    return store_query(store, SQL_TOKENS, NULL, 0, token_row, &visit, err);
}
