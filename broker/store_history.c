/* SPDX-License-Identifier: Apache-2.0 */
/* store_history.c - takes old rows that nobody refers to out of the database. */
#include "store_internal.h"

/* Rows are looked at in order of their number, so many at a time, whether they go or not. */
static const struct {
    enum store_statement last, prune;
} statements[] = {
    [STORE_HISTORY_MIGRATIONS] = {SQL_HISTORY_MIGRATIONS_LAST, SQL_HISTORY_MIGRATIONS},
    [STORE_HISTORY_EVENTS] = {SQL_HISTORY_EVENTS_LAST,     SQL_HISTORY_EVENTS    },
    [STORE_HISTORY_REPORTS] = {SQL_HISTORY_REPORTS_LAST,    SQL_HISTORY_REPORTS   },
    [STORE_HISTORY_PROFILES] = {SQL_HISTORY_PROFILES_LAST,   SQL_HISTORY_PROFILES  },
    [STORE_HISTORY_NODES] = {SQL_HISTORY_NODES_LAST,      SQL_HISTORY_NODES     },
};

static int take_last(void *ctx, sqlite3_stmt *stmt, struct error *err)
{
    (void)err;
    *(int64_t *)ctx = store_column_int(stmt, 0, -1);
    return 0;
}

int store_history_prune(struct store *store, enum store_history what, int64_t before_ms,
                        int64_t *after, bool *ret_more, struct error *err)
{
    int64_t last = -1;
    *ret_more = false;
    if (store_begin(store, err) < 0)
        return -1;
    if (store_query(store, statements[what].last, VALUES(INT(*after)), take_last, &last, err) < 0 ||
        (last >= 0 && store_run(store, statements[what].prune,
                                VALUES(INT(*after), INT(last), INT(before_ms)), err) < 0)) {
        store_rollback(store);
        return -1;
    }
    if (last >= 0) {
        *after = last;
        *ret_more = true;
    }
    return store_commit(store, err);
}
