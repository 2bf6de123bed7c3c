/* SPDX-License-Identifier: Apache-2.0 */
/* store.c - opens the database, brings its schema up to date, prepares and runs
 * statements. */
#include "store.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "store_internal.h"

#define BUSY_TIMEOUT_MS 5000

struct sql_migration {
    int version;
    const char *name, *sql;
};

static const struct sql_migration migrations[] = {
#include "sql_migrations.inc"
};

static const char *const statements[] = {
#define X(name, sql) sql,
    STORE_SQL(X)
#undef X
};

struct store {
    pthread_mutex_t lock; /* recursive: a transaction holds it; guards all below */
    sqlite3 *db;
    sqlite3_stmt *stmts[SQL_COUNT];
    bool in_transaction;
    _Atomic bool healthy;
};

static int sqlite_error(struct store *store, int code, const char *doing, struct error *err)
{
    enum error_kind kind = ERROR_INTERNAL;
    if ((code & 0xff) == SQLITE_BUSY || (code & 0xff) == SQLITE_LOCKED)
        kind = ERROR_BUSY;
    else if ((code & 0xff) == SQLITE_NOTADB || (code & 0xff) == SQLITE_CANTOPEN)
        kind = ERROR_FAILED;
    return error_set(err, kind, "database: %s: %s", doing, sqlite3_errmsg(store->db));
}

static int exec(struct store *store, const char *sql, const char *doing, struct error *err)
{
    int code = sqlite3_exec(store->db, sql, NULL, NULL, NULL);
    return code == SQLITE_OK ? 0 : sqlite_error(store, code, doing, err);
}

static int read_version(void *ctx, int columns, char **values, char **names)
{
    (void)names;
    if (columns == 1 && values[0])
        *(int *)ctx = atoi(values[0]);
    return 0;
}

static int user_version(struct store *store, int *ret, struct error *err)
{
    int code = sqlite3_exec(store->db, "PRAGMA user_version", read_version, ret, NULL);
    return code == SQLITE_OK ? 0 : sqlite_error(store, code, "reading its version", err);
}

int store_schema_version(void)
{
    return migrations[ARRAY_LEN(migrations) - 1].version;
}

static int migrate_one(struct store *store, const struct sql_migration *migration,
                       struct error *err)
{
    int version = 0;
    if (exec(store, "BEGIN IMMEDIATE", "starting a migration of the schema", err) < 0)
        return -1;
    /* Under the lock: another process may have been quicker. */
    int rc = user_version(store, &version, err);
    if (rc == 0 && version < migration->version) {
        autofree char *bump = xasprintf("PRAGMA user_version = %d", migration->version);
        rc = exec(store, migration->sql, migration->name, err);
        if (rc == 0)
            rc = exec(store, bump, migration->name, err);
    }
    if (rc == 0)
        rc = exec(store, "COMMIT", migration->name, err);
    if (rc < 0)
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}

static int migrate(struct store *store, const char *path, struct error *err)
{
    int version = 0;
    if (user_version(store, &version, err) < 0)
        return -1;
    if (version > store_schema_version())
        return error_set(err, ERROR_CONFLICT,
                         "database '%s' has schema %d, made by a newer cpubroker; this one "
                         "knows "
                         "schemas up to %d: install the newer version, or restore a backup",
                         path, version, store_schema_version());
    for (size_t i = 0; i < ARRAY_LEN(migrations); i++)
        if (version < migrations[i].version && migrate_one(store, &migrations[i], err) < 0)
            return -1;
    return 0;
}

static int prepare(struct store *store, struct error *err)
{
    for (unsigned i = 0; i < SQL_COUNT; i++) {
        int code = sqlite3_prepare_v3(store->db, statements[i], -1, SQLITE_PREPARE_PERSISTENT,
                                      &store->stmts[i], NULL);
        if (code != SQLITE_OK)
            return sqlite_error(store, code, statements[i], err);
    }
    return 0;
}

static int open_database(struct store *store, const char *path, struct error *err)
{
    /* Made by us, so that it is nobody else's to read: tickets are in it. */
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_errno(err, ERROR_FAILED, "database '%s'", path);
    close(fd);
    int code = sqlite3_open_v2(path, &store->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (code != SQLITE_OK)
        return error_set(err, ERROR_FAILED, "database '%s': %s", path,
                         store->db ? sqlite3_errmsg(store->db) : sqlite3_errstr(code));
    sqlite3_extended_result_codes(store->db, 1);
    sqlite3_busy_timeout(store->db, BUSY_TIMEOUT_MS);
    if (exec(store,
             "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA "
             "foreign_keys = ON;"
             "PRAGMA trusted_schema = OFF; PRAGMA cache_size = -1024;"
             "PRAGMA journal_size_limit = 4194304",
             "setting it up", err) < 0)
        return error_wrap(err, "'%s'", path);
    return 0;
}

int store_open(const char *path, struct store **ret, struct error *err)
{
    AUTO(store) store = xcalloc(1, sizeof(*store));
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&store->lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
    store->healthy = true;
    if (open_database(store, path, err) < 0 || migrate(store, path, err) < 0 ||
        prepare(store, err) < 0)
        return -1;
    *ret = steal_ptr(&store);
    return 0;
}

void store_free(struct store *store)
{
    if (!store)
        return;
    assert(!store->in_transaction);
    for (unsigned i = 0; i < SQL_COUNT; i++)
        sqlite3_finalize(store->stmts[i]);
    sqlite3_close(store->db);
    pthread_mutex_destroy(&store->lock);
    free(store);
}

static int bind(sqlite3_stmt *stmt, const struct store_value *values, size_t count)
{
    int code = SQLITE_OK;
    for (size_t i = 0; i < count && code == SQLITE_OK; i++) {
        int at = (int)i + 1;
        if (values[i].type == STORE_VALUE_INT)
            code = sqlite3_bind_int64(stmt, at, values[i].integer);
        else if (values[i].type == STORE_VALUE_TEXT && values[i].text)
            code = sqlite3_bind_text(stmt, at, values[i].text, -1, SQLITE_STATIC);
        else
            code = sqlite3_bind_null(stmt, at);
    }
    return code;
}

int store_query(struct store *store, enum store_statement statement,
                const struct store_value *values, size_t count,
                int (*row)(void *ctx, sqlite3_stmt *stmt, struct error *err), void *ctx,
                struct error *err)
{
    pthread_mutex_lock(&store->lock);
    sqlite3_stmt *stmt = store->stmts[statement];
    assert(!sqlite3_stmt_busy(stmt)); /* a callback must not run its own query again */
    assert(sqlite3_bind_parameter_count(stmt) == (int)count);
    int rc = 0;
    int code = bind(stmt, values, count);
    if (code == SQLITE_OK) {
        while (rc == 0 && (code = sqlite3_step(stmt)) == SQLITE_ROW)
            rc = row ? row(ctx, stmt, err) : 0;
        if (code == SQLITE_ROW || code == SQLITE_DONE)
            code = SQLITE_OK;
    }
    if (code != SQLITE_OK) {
        /* Before the reset, which forgets the message. */
        rc = sqlite_error(store, code, statements[statement], err);
        store->healthy = (code & 0xff) == SQLITE_CONSTRAINT && store->healthy;
    }
    sqlite3_reset(stmt);
    sqlite3_clear_bindings(stmt);
    pthread_mutex_unlock(&store->lock);
    return rc;
}

int store_run(struct store *store, enum store_statement statement, const struct store_value *values,
              size_t count, struct error *err)
{
    return store_query(store, statement, values, count, NULL, NULL, err);
}

int store_begin(struct store *store, struct error *err)
{
    pthread_mutex_lock(&store->lock);
    assert(!store->in_transaction);
    if (store_run(store, SQL_BEGIN, NULL, 0, err) < 0) {
        pthread_mutex_unlock(&store->lock);
        return -1;
    }
    store->in_transaction = true;
    return 0;
}

int store_commit(struct store *store, struct error *err)
{
    assert(store->in_transaction);
    if (store_run(store, SQL_COMMIT, NULL, 0, err) < 0) {
        store_rollback(store);
        return -1;
    }
    store->in_transaction = false;
    store->healthy = true;
    pthread_mutex_unlock(&store->lock);
    return 0;
}

void store_rollback(struct store *store)
{
    assert(store->in_transaction);
    /* SQLite may have rolled back by itself (disk full, I/O error). */
    if (!sqlite3_get_autocommit(store->db))
        store_run(store, SQL_ROLLBACK, NULL, 0, NULL);
    store->in_transaction = false;
    pthread_mutex_unlock(&store->lock);
}

bool store_healthy(struct store *store)
{
    if (store->healthy)
        return true;
    if (store_begin(store, NULL) < 0)
        return false;
    if (store_run(store, SQL_PROBE, NULL, 0, NULL) < 0) {
        store_rollback(store);
        return false;
    }
    return store_commit(store, NULL) == 0;
}

const char *store_column_text(sqlite3_stmt *stmt, int column)
{
    return (const char *)sqlite3_column_text(stmt, column);
}

int64_t store_column_int(sqlite3_stmt *stmt, int column, int64_t if_null)
{
    return sqlite3_column_type(stmt, column) == SQLITE_NULL ? if_null
                                                            : sqlite3_column_int64(stmt, column);
}
