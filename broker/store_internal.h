/* SPDX-License-Identifier: Apache-2.0 */
/* store_internal.h - the table of all SQL statements, and how store_*.c run
 * them. */
#pragma once

#include <sqlite3.h>

#include "store.h"

#define FLEET_SQL(X)                                                                           \
    X(REPORT_PUT, "INSERT INTO report VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")             \
    X(REPORT_GET, "SELECT json FROM report WHERE sha256 = ?1")                                 \
    X(NODE_PUT, "INSERT INTO node (name, kind, report_sha256, version, boot_id, "              \
                "image_address, created_at_ms, seen_at_ms)"                                    \
                " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"                                     \
                " ON CONFLICT (name) DO UPDATE SET kind = ?2, report_sha256 = ?3,"             \
                " version = ?4, boot_id = ?5, image_address = ?6, created_at_ms = ?7,"         \
                " seen_at_ms = ?8, removed_at_ms = NULL")                                      \
    X(NODE_TOUCH, "UPDATE node SET seen_at_ms = ?2 WHERE name = ?1")                           \
    X(NODE_FORGET, "DELETE FROM workload WHERE node = ?1 AND state = 'exited'")                \
    X(NODE_DELETE, "DELETE FROM node WHERE name = ?1")                                         \
    X(NODE_LEAVE, "DELETE FROM pool_member WHERE node = ?1")                                   \
    X(NODE_REMOVE, "UPDATE node SET removed_at_ms = ?2, report_sha256 = NULL WHERE name = ?1") \
    X(NODE_LOSE, "UPDATE workload SET state = 'exited', pid = NULL, exit_status = NULL,"       \
                 " lost_at_ms = ?2 WHERE node = ?1 AND state <> 'exited'")                     \
    X(NODES, "SELECT name, kind, report_sha256, version, boot_id, "                            \
             "image_address, created_at_ms,"                                                   \
             " seen_at_ms FROM node WHERE removed_at_ms IS NULL ORDER BY name")                \
    X(PROFILE_PUT, "INSERT INTO profile VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")           \
    X(PROFILE_GET, "SELECT json FROM profile WHERE sha256 = ?1")                               \
    X(FACTS_PUT, "INSERT OR REPLACE INTO report_facts (report_sha256, rules,"                  \
                 " profile_sha256, kernel, engines) VALUES (?1, ?2, ?3, ?4, ?5)")              \
    X(FACTS, "SELECT report_sha256, rules, profile_sha256, kernel, engines"                    \
             " FROM report_facts AS f WHERE EXISTS (SELECT 1 FROM node"                        \
             " WHERE report_sha256 = f.report_sha256) OR EXISTS (SELECT 1 FROM"                \
             " workload_seen WHERE report_sha256 = f.report_sha256)"                           \
             " ORDER BY report_sha256")                                                        \
    X(POOL_PUT, "INSERT INTO pool VALUES (?1, ?2, ?3, ?4, ?5, ?6)"                             \
                " ON CONFLICT (name) DO UPDATE SET mix_vendors = ?2, min_level = ?4,"          \
                " evidence = ?5, islands = ?6")                                                \
    X(POOL_FORGET, "DELETE FROM workload WHERE pool = ?1 AND state = 'exited'")                \
    X(POOL_DELETE, "DELETE FROM pool WHERE name = ?1")                                         \
    X(POOLS, "SELECT name, mix_vendors, pool.created_at_ms, epoch, digest, min_level,"         \
             " evidence, islands FROM pool"                                                    \
             " LEFT JOIN pool_epoch AS e ON e.pool = name AND e.epoch ="                       \
             " (SELECT max(epoch) FROM pool_epoch WHERE pool = name)")                         \
    X(MEMBER_ADD, "INSERT INTO pool_member VALUES (?1, ?2, ?3)")                               \
    X(MEMBER_REMOVE, "DELETE FROM pool_member WHERE pool = ?1 AND node = ?2")                  \
    X(MEMBERS, "SELECT pool, node FROM pool_member ORDER BY pool, node")                       \
    X(EPOCH_ADD, "INSERT INTO pool_epoch VALUES (?1, ?2, ?3, ?4, ?5, ?6)")

#define WORKLOAD_SQL(X)                                                                         \
    X(WORKLOAD_PUT, "INSERT INTO workload (name, pool, node, state, pid, exit_status, command," \
                    " dir, adopted, epoch, created_at_ms, mask_grade, mask_sha256)"             \
                    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)"          \
                    " ON CONFLICT (name) DO UPDATE SET pool = ?2, node = ?3, "                  \
                    "state = ?4, pid = ?5,"                                                     \
                    " exit_status = ?6, command = ?7, dir = ?8, adopted = ?9, "                 \
                    "epoch = ?10, created_at_ms = ?11, lost_at_ms = NULL,"                      \
                    " mask_grade = ?12, mask_sha256 = ?13, mask_sites = NULL,"                  \
                    " mask_lacks = NULL, mask_told_on = NULL, mask_gap = 0")                    \
    X(WORKLOAD_SET, "UPDATE workload SET node = ?2, state = ?3, pid = ?4, exit_status = ?5,"    \
                    " lost_at_ms = NULL, mask_gap = mask_gap OR (node <> ?2 AND mask_grade"     \
                    " <> 'off' AND mask_told_on IS NOT node) WHERE name = ?1")                  \
    X(WORKLOAD_MASK, "UPDATE workload SET mask_sites = ?2, mask_lacks = ?3, mask_told_on = ?4," \
                     " mask_gap = 0 WHERE name = ?1")                                           \
    X(WORKLOADS, "SELECT name, pool, node, state, pid, exit_status, command, "                  \
                 "dir, adopted, epoch,"                                                         \
                 " created_at_ms, lost_at_ms, mask_grade, mask_sha256, mask_sites,"             \
                 " mask_lacks, mask_told_on, mask_gap FROM workload")                           \
    X(SEEN_ADD, "INSERT INTO workload_seen (workload, seq, node, report_sha256,"                \
                " since_at_ms, need_sha256, need_rules, masked) SELECT ?1, 1 +"                 \
                " (SELECT coalesce(max(seq), 0) FROM workload_seen WHERE workload = ?1),"       \
                " ?2, ?3, ?4, ?5, ?6, ?7 WHERE true"                                            \
                " ON CONFLICT (workload, node, report_sha256, masked) DO NOTHING")              \
    X(SEEN_CLEAR, "DELETE FROM workload_seen WHERE workload = ?1")                              \
    X(SEEN_NEED, "UPDATE workload_seen SET need_sha256 = ?4, need_rules = ?5"                   \
                 " WHERE workload = ?1 AND node = ?2 AND report_sha256 = ?3 AND masked = ?6")   \
    X(SEEN, "SELECT workload, node, report_sha256, since_at_ms, need_sha256, need_rules,"       \
            " masked FROM workload_seen"                                                        \
            " ORDER BY workload, seq")

#define MIGRATION_COLUMNS                                                     \
    "SELECT id, workload, from_node, to_node, state, source_report, "         \
    "target_report,"                                                          \
    " judged_sha256, ticket, idempotency_key, requested_to, verdict, error, " \
    "cancelled, bytes,"                                                       \
    " total_bytes, created_at_ms, state_at_ms, dumping_at_ms, downtime_ms, "  \
    "finished_at_ms"                                                          \
    " FROM migration "

#define MIGRATION_SQL(X)                                                                    \
    X(MIGRATION_ADD, "INSERT INTO migration (id, workload, from_node, to_node, state, "     \
                     "judged_sha256, ticket,"                                               \
                     " idempotency_key, requested_to, verdict, created_at_ms, state_at_ms)" \
                     " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11)")         \
    X(MIGRATION_SET, "UPDATE migration SET state = ?2, source_report = ?3, "                \
                     "target_report = ?4, ticket = ?5,"                                     \
                     " error = ?6, cancelled = ?7, bytes = ?8, total_bytes = "              \
                     "?9, state_at_ms = ?10,"                                               \
                     " dumping_at_ms = ?11, downtime_ms = ?12, finished_at_ms "             \
                     "= ?13, judged_sha256 = ?14"                                           \
                     " WHERE id = ?1")                                                      \
    X(MIGRATIONS_UNSETTLED,                                                                 \
      MIGRATION_COLUMNS "WHERE finished_at_ms IS NULL OR (state IN ('failed', 'cancelled')" \
                        " AND target_report <> 'discarded') LIMIT ?1")                      \
    X(MIGRATIONS_LATEST, MIGRATION_COLUMNS "ORDER BY created_at_ms DESC, id LIMIT ?1")      \
    X(MIGRATIONS_OF_WORKLOAD,                                                               \
      MIGRATION_COLUMNS "WHERE workload = ?2 ORDER BY created_at_ms DESC, id LIMIT ?1")     \
    X(MIGRATIONS_BY_ID, MIGRATION_COLUMNS "WHERE id = ?2 LIMIT ?1")                         \
    X(MIGRATIONS_BY_KEY, MIGRATION_COLUMNS "WHERE idempotency_key = ?2 LIMIT ?1")           \
    X(MIGRATION_COUNTS, "SELECT state, count(*) FROM migration GROUP BY state")             \
    X(EVENT_ADD, "INSERT INTO migration_event VALUES (?1, ?2, ?3, ?4, ?5)")                 \
    X(EVENT_LAST, "SELECT coalesce(max(seq), 0) FROM migration_event WHERE migration = ?1") \
    X(EVENTS, "SELECT seq, at_ms, kind, json FROM migration_event"                          \
              " WHERE migration = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3")                   \
    X(PHASES, "SELECT seq, at_ms, kind, json FROM migration_event"                          \
              " WHERE migration = ?1 AND kind = 'phase' ORDER BY seq")

#define EVIDENCE_SQL(X)                                                                           \
    X(MIGRATION_JUDGED, "UPDATE migration SET verdict = coalesce(?2, verdict), evidence = "       \
                        "coalesce(?3, evidence) WHERE id = ?1")                                   \
    X(MIGRATION_EVIDENCE, "SELECT evidence FROM migration WHERE id = ?1")                         \
    X(EVIDENCE_PUT, "INSERT INTO workload_evidence (workload, migration, node, boot_id, "         \
                    "taken_at_ms) VALUES (?1, ?2, ?3, ?4, ?5)"                                    \
                    " ON CONFLICT (workload) DO UPDATE SET migration = ?2, node = ?3, boot_id = " \
                    "?4, taken_at_ms = ?5, moved_on = 0")                                         \
    X(EVIDENCES, "SELECT e.workload, e.migration, e.node, e.boot_id, e.taken_at_ms, e.moved_on, " \
                 "m.evidence FROM workload_evidence AS e"                                         \
                 " JOIN migration AS m ON m.id = e.migration")

#define TOKEN_SQL(X)                                                  \
    X(TOKEN_ADD, "INSERT INTO token VALUES (?1, ?2, ?3, ?4, ?5, ?6)") \
    X(TOKEN_BIND, "UPDATE token SET node = ?2 WHERE sha256 = ?1")     \
    X(TOKEN_DELETE, "DELETE FROM token WHERE sha256 = ?1")            \
    X(TOKENS, "SELECT sha256, id, role, node, note, created_at_ms FROM token")

#define EVENT_SQL(X)                                                                  \
    X(FLEET_EVENT_ADD, "INSERT INTO fleet_event (at_ms, kind, node, pool, workload,"  \
                       " json) VALUES (?1, ?2, ?3, ?4, ?5, ?6) RETURNING seq")        \
    X(FLEET_EVENTS_PRUNE,                                                             \
      "DELETE FROM fleet_event WHERE seq <= (SELECT max(seq) FROM fleet_event) - ?1") \
    X(FLEET_EVENTS, "SELECT seq, at_ms, kind, node, pool, workload, json FROM"        \
                    " fleet_event WHERE seq > ?1 ORDER BY seq LIMIT ?2")              \
    X(FLEET_EVENT_LAST, "SELECT coalesce(max(seq), 0) FROM fleet_event")

#define DELIVERY_COLUMNS                                                       \
    "SELECT id, kind, body, state, problem, tries, created_at_ms, next_at_ms," \
    " settled_at_ms FROM webhook_delivery WHERE webhook = ?1 "

#define WEBHOOK_SQL(X)                                                                             \
    X(WEBHOOK_ADD, "INSERT INTO webhook VALUES (?1, ?2, ?3, ?4, ?5)")                              \
    X(WEBHOOK_DELETE, "DELETE FROM webhook WHERE id = ?1")                                         \
    X(WEBHOOKS, "SELECT id, url, secret, events, created_at_ms,"                                   \
                " (SELECT count(*) FROM webhook_delivery WHERE webhook = w.id AND"                 \
                " state = 'pending'),"                                                             \
                " (SELECT count(*) FROM webhook_delivery WHERE webhook = w.id AND"                 \
                " state = 'dead') FROM webhook AS w ORDER BY created_at_ms, id")                   \
    X(DELIVERIES_ADD, "INSERT INTO webhook_delivery (webhook, kind, body,"                         \
                      " created_at_ms, next_at_ms) SELECT id, ?1, ?2, ?3, ?3 FROM"                 \
                      " webhook WHERE events IS NULL OR EXISTS (SELECT 1 FROM"                     \
                      " json_each(events) WHERE value = ?1)")                                      \
    X(DELIVERY_DUE, DELIVERY_COLUMNS "AND state = 'pending' AND next_at_ms <= ?2"                  \
                                     " ORDER BY next_at_ms, id LIMIT 1")                           \
    X(DELIVERY_NEXT, "SELECT min(next_at_ms) FROM webhook_delivery WHERE webhook = ?1"             \
                     " AND state = 'pending'")                                                     \
    X(DELIVERY_SET, "UPDATE webhook_delivery SET state = ?2, tries = ?3, next_at_ms ="             \
                    " ?4, settled_at_ms = ?5, problem = ?6 WHERE id = ?1")                         \
    X(DELIVERIES_PRUNE, "DELETE FROM webhook_delivery WHERE webhook = ?1 AND state = ?2 AND id <=" \
                        " (SELECT id FROM webhook_delivery WHERE webhook = ?1 AND state = ?2"      \
                        " ORDER BY id DESC LIMIT 1 OFFSET ?3)")                                    \
    X(DELIVERIES_OVERFLOW,                                                                         \
      "UPDATE webhook_delivery SET state = 'dead', settled_at_ms = ?3, problem ="                  \
      " 'too many deliveries waited' WHERE webhook = ?1 AND state = 'pending' AND"                 \
      " id <= (SELECT id FROM webhook_delivery WHERE webhook = ?1 AND"                             \
      " state = 'pending' ORDER BY id DESC LIMIT 1 OFFSET ?2)")                                    \
    X(DELIVERIES, DELIVERY_COLUMNS "AND (?2 IS NULL OR state = ?2)"                                \
                                   " ORDER BY id DESC LIMIT ?3")

/* _LAST: the number of the last row to look at now, NULL when there is none behind ?1. */
#define HISTORY_SQL(X)                                                                             \
    X(HISTORY_MIGRATIONS_LAST, "SELECT max(n) FROM (SELECT rowid AS n FROM migration WHERE rowid " \
                               "> ?1 ORDER BY rowid LIMIT 200)")                                   \
    X(HISTORY_MIGRATIONS,                                                                          \
      "DELETE FROM migration WHERE rowid > ?1 AND rowid <= ?2 AND"                                 \
      " finished_at_ms < ?3 AND (state = 'done' OR target_report = 'discarded')"                   \
      " AND NOT EXISTS (SELECT 1 FROM workload_evidence AS e WHERE"                                \
      " e.migration = migration.id)")                                                              \
    X(HISTORY_EVENTS_LAST, "SELECT max(n) FROM (SELECT rowid AS n FROM fleet_event WHERE rowid > " \
                           "?1 ORDER BY rowid LIMIT 200)")                                         \
    X(HISTORY_EVENTS, "DELETE FROM fleet_event WHERE seq > ?1 AND seq <= ?2 AND at_ms < ?3"        \
                      " AND seq < (SELECT max(seq) FROM fleet_event)")                             \
    X(HISTORY_REPORTS_LAST, "SELECT max(n) FROM (SELECT rowid AS n FROM report WHERE rowid > ?1 "  \
                            "ORDER BY rowid LIMIT 200)")                                           \
    X(HISTORY_REPORTS,                                                                             \
      "DELETE FROM report WHERE rowid > ?1 AND rowid <= ?2 AND"                                    \
      " first_seen_at_ms < ?3 AND NOT EXISTS (SELECT 1 FROM node WHERE"                            \
      " report_sha256 = sha256) AND NOT EXISTS (SELECT 1 FROM workload_seen WHERE"                 \
      " report_sha256 = sha256) AND NOT EXISTS (SELECT 1 FROM migration WHERE"                     \
      " judged_sha256 = sha256)")                                                                  \
    X(HISTORY_PROFILES_LAST, "SELECT max(n) FROM (SELECT rowid AS n FROM profile WHERE rowid > "   \
                             "?1 ORDER BY rowid LIMIT 200)")                                       \
    X(HISTORY_PROFILES, "DELETE FROM profile WHERE rowid > ?1 AND rowid <= ?2 AND"                 \
                        " first_seen_at_ms < ?3 AND NOT EXISTS (SELECT 1 FROM report_facts WHERE"  \
                        " profile_sha256 = sha256) AND NOT EXISTS (SELECT 1 FROM workload_seen"    \
                        " WHERE need_sha256 = sha256) AND NOT EXISTS (SELECT 1 FROM workload"      \
                        " WHERE mask_sha256 = sha256)")                                            \
    X(HISTORY_NODES_LAST, "SELECT max(n) FROM (SELECT rowid AS n FROM node WHERE rowid > ?1 "      \
                          "ORDER BY rowid LIMIT 200)")                                             \
    X(HISTORY_NODES, "DELETE FROM node WHERE rowid > ?1 AND rowid <= ?2 AND removed_at_ms < ?3"    \
                     " AND NOT EXISTS (SELECT 1 FROM workload AS w WHERE w.node = node.name)")

#define CONTROL_SQL(X)          \
    X(BEGIN, "BEGIN IMMEDIATE") \
    X(COMMIT, "COMMIT")         \
    X(ROLLBACK, "ROLLBACK")     \
    X(PROBE, "UPDATE pool SET created_at_ms = created_at_ms WHERE name = 'default'")

/* clang-format off */
#define STORE_SQL(X)                                                           \
    CONTROL_SQL(X) FLEET_SQL(X) WORKLOAD_SQL(X) MIGRATION_SQL(X)               \
    EVIDENCE_SQL(X) TOKEN_SQL(X) EVENT_SQL(X) WEBHOOK_SQL(X) HISTORY_SQL(X)
/* clang-format on */

enum store_statement {
#define X(name, sql) SQL_##name,
    STORE_SQL(X)
#undef X
        SQL_COUNT
};

struct store_value {
    enum { STORE_VALUE_NULL, STORE_VALUE_TEXT, STORE_VALUE_INT } type;
    const char *text;
    int64_t integer;
};

/* A NULL text and an absent integer (-1) are bound as NULL. */
#define TEXT(v) ((struct store_value){.type = STORE_VALUE_TEXT, .text = (v)})
#define INT(v)  ((struct store_value){.type = STORE_VALUE_INT, .integer = (v)})
#define OPT(v) \
    ((struct store_value){.type = (v) < 0 ? STORE_VALUE_NULL : STORE_VALUE_INT, .integer = (v)})
#define VALUES(...)                            \
    (const struct store_value[]){__VA_ARGS__}, \
        sizeof((const struct store_value[]){__VA_ARGS__}) / sizeof(struct store_value)

/* Runs a statement that returns no rows. */
int store_run(struct store *store, enum store_statement statement, const struct store_value *values,
              size_t count, struct error *err);
/* Runs a query; `row` is called with the statement for each row until it
 * returns non-zero. */
int store_query(struct store *store, enum store_statement statement,
                const struct store_value *values, size_t count,
                int (*row)(void *ctx, sqlite3_stmt *stmt, struct error *err), void *ctx,
                struct error *err);

const char *store_column_text(sqlite3_stmt *stmt, int column); /* NULL for NULL */
int64_t store_column_int(sqlite3_stmt *stmt, int column, int64_t if_null);
