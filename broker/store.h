/* SPDX-License-Identifier: Apache-2.0 */
/* store.h - the broker's database: SQLite in WAL mode, every commit on disk
 * before it returns.
 *
 * Any thread may call; a recursive lock lets one in at a time, and store_begin
 * holds it until the transaction ends. Strings in rows are borrowed for the
 * length of the call. Errors: ERROR_BUSY (locked by another program),
 * ERROR_INTERNAL (disk full, damaged, a broken rule). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cleanup.h"
#include "error.h"

struct store;

/* Opens or makes the database, runs the migrations that it lacks, prepares
 * every statement. ERROR_CONFLICT when it was written by a newer cpubroker. */
int store_open(const char *path, struct store **ret, struct error *err);
void store_free(struct store *store); /* NULL is fine */
DEFINE_AUTO(store)
/* Whether the last write reached the disk. When it did not, another is tried. */
bool store_healthy(struct store *store);
/* The newest schema that this program knows. */
int store_schema_version(void);

int store_begin(struct store *store, struct error *err);
/* On failure the transaction is rolled back. Either way it is over, and the
 * lock given up. */
int store_commit(struct store *store, struct error *err);
void store_rollback(struct store *store);

/* store_fleet.c: reports, what they amount to, nodes, pools */
struct store_facts { /* of a report */
    const char *report_sha256, *rules, *profile_sha256;
    const char *kernel;  /* may be NULL */
    const char *engines; /* JSON */
};
struct store_node {
    const char *name;
    bool imported;
    const char *report_sha256, *version, *boot_id, *image_address; /* may be NULL */
    int64_t created_at_ms;
    int64_t seen_at_ms; /* 0: never */
};
struct store_pool {
    const char *name;
    bool mix_vendors;
    const char *min_level; /* NULL: any */
    const char *evidence, *islands;
    int64_t created_at_ms;
    int64_t epoch; /* 0: it never had a mask */
    const char *digest;
};
struct store_epoch {
    const char *pool;
    int64_t epoch;
    const char *digest, *mask, *members; /* mask: JSON or NULL; members: JSON */
    int64_t created_at_ms;
};

int store_report_put(struct store *store, const char *sha256, const char *json, int64_t at_ms,
                     struct error *err);
/* The caller owns *ret_json. ERROR_NOT_FOUND. */
int store_report_get(struct store *store, const char *sha256, char **ret_json, struct error *err);
int store_profile_put(struct store *store, const char *sha256, const char *json, int64_t at_ms,
                      struct error *err);
/* The caller owns *ret_json. ERROR_NOT_FOUND. */
int store_profile_get(struct store *store, const char *sha256, char **ret_json, struct error *err);
int store_facts_put(struct store *store, const struct store_facts *row, struct error *err);
/* Of the reports that a node or a ledger names, ascending by hash. */
int store_facts(struct store *store,
                int (*each)(void *ctx, const struct store_facts *row, struct error *err), void *ctx,
                struct error *err);
int store_node_put(struct store *store, const struct store_node *row, struct error *err);
int store_node_touch(struct store *store, const char *name, int64_t seen_at_ms, struct error *err);
/* Its memberships and the workloads that have exited on it go with it. */
int store_node_delete(struct store *store, const char *name, struct error *err);
/* Keeps the workloads: those that live on it have exited, and are lost. The name stays with them.
 */
int store_node_lose(struct store *store, const char *name, int64_t at_ms, struct error *err);
int store_nodes(struct store *store,
                int (*each)(void *ctx, const struct store_node *row, struct error *err), void *ctx,
                struct error *err);
int store_pool_put(struct store *store, const struct store_pool *row, struct error *err);
/* The workloads that have exited in it go with it. */
int store_pool_delete(struct store *store, const char *name, struct error *err);
int store_pools(struct store *store,
                int (*each)(void *ctx, const struct store_pool *row, struct error *err), void *ctx,
                struct error *err);
int store_member_add(struct store *store, const char *pool, const char *node, int64_t at_ms,
                     struct error *err);
int store_member_remove(struct store *store, const char *pool, const char *node, struct error *err);
int store_members(struct store *store,
                  int (*each)(void *ctx, const char *pool, const char *node, struct error *err),
                  void *ctx, struct error *err);
int store_epoch_add(struct store *store, const struct store_epoch *row, struct error *err);

/* store_workload.c: workloads and their ledger */
struct store_workload {
    const char *name, *pool, *node, *state;
    int64_t pid, exit_status; /* -1: none */
    const char *command;      /* JSON */
    const char *dir;          /* may be NULL */
    bool adopted;
    int64_t epoch, created_at_ms;
    int64_t lost_at_ms; /* 0: it is not lost; not read by _put */
    const char *mask_grade;
    const char *mask_sha256; /* NULL: none */
    /* What was told of the mask; not read by _put, which begins with nothing. */
    int64_t mask_sites;                    /* -1: nothing yet */
    const char *mask_lacks, *mask_told_on; /* may be NULL; mask_lacks: JSON */
    bool mask_gap;
};
struct store_seen {
    const char *workload, *node, *report_sha256;
    int64_t since_at_ms;
    const char *need_sha256, *need_rules; /* NULL: an older cpubroker wrote the line */
    bool masked;
};

int store_workload_put(struct store *store, const struct store_workload *row, struct error *err);
int store_workload_set(struct store *store, const char *name, const char *node, const char *state,
                       int64_t pid, int64_t exit_status, struct error *err);
int store_workloads(struct store *store,
                    int (*each)(void *ctx, const struct store_workload *row, struct error *err),
                    void *ctx, struct error *err);
/* What is told of its mask; closes a gap. */
int store_workload_mask(struct store *store, const char *name, int64_t sites, const char *lacks,
                        const char *told_on, struct error *err);
/* Adds a line to the ledger unless it is there. */
int store_seen_add(struct store *store, const struct store_seen *row, struct error *err);
/* Writes need_sha256 and need_rules of a line. */
int store_seen_need(struct store *store, const struct store_seen *row, struct error *err);
int store_seen_clear(struct store *store, const char *workload, struct error *err);
int store_seen(struct store *store,
               int (*each)(void *ctx, const struct store_seen *row, struct error *err), void *ctx,
               struct error *err);

/* store_migration.c */
struct store_migration {
    const char *id, *workload, *from, *to, *state, *source_report, *target_report;
    const char *judged_sha256, *ticket, *idempotency_key, *requested_to, *verdict, *error;
    bool cancelled;
    int64_t bytes, total_bytes; /* total -1: unknown */
    int64_t created_at_ms, state_at_ms;
    int64_t dumping_at_ms, downtime_ms, finished_at_ms; /* -1: not yet */
};
struct store_event {
    int64_t seq, at_ms;
    const char *kind, *json;
};
enum store_migrations_which {
    STORE_MIGRATIONS_UNSETTLED, /* not final, or the target has not said
                                   `discarded` */
    STORE_MIGRATIONS_LATEST,    /* newest first */
    STORE_MIGRATIONS_OF_WORKLOAD,
    STORE_MIGRATIONS_BY_ID,
    STORE_MIGRATIONS_BY_KEY,
};

int store_migration_add(struct store *store, const struct store_migration *row, struct error *err);
int store_migration_set(struct store *store, const struct store_migration *row, struct error *err);
/* `text` is the workload, id or key where `which` asks for one. */
int store_migrations(struct store *store, enum store_migrations_which which, const char *text,
                     int64_t limit,
                     int (*each)(void *ctx, const struct store_migration *row, struct error *err),
                     void *ctx, struct error *err);
int store_event_add(struct store *store, const char *migration, const struct store_event *row,
                    struct error *err);
/* The highest seq so far, 0 for none. */
int store_event_last(struct store *store, const char *migration, int64_t *ret, struct error *err);
/* Those behind `after`, at most `limit`. */
int store_events(struct store *store, const char *migration, int64_t after, int64_t limit,
                 int (*each)(void *ctx, const struct store_event *row, struct error *err),
                 void *ctx, struct error *err);
/* The `phase` events only. */
int store_phases(struct store *store, const char *migration,
                 int (*each)(void *ctx, const struct store_event *row, struct error *err),
                 void *ctx, struct error *err);

/* store_evidence.c: what looks at live workloads showed */
struct store_evidence {
    const char *workload, *migration, *node, *boot_id; /* boot_id may be NULL */
    int64_t taken_at_ms;
    bool moved_on;    /* not read by _put */
    const char *json; /* the migration's; not read by _put */
};

/* The verdict that was made with the evidence takes the place of the first one. Either may be NULL:
 * it stays as it is. */
int store_migration_judged(struct store *store, const char *id, const char *verdict,
                           const char *evidence, struct error *err);
/* The caller owns *ret, which is NULL where there is none. */
int store_migration_evidence(struct store *store, const char *id, char **ret, struct error *err);
/* The workload's latest. The database itself forgets it when the workload is born anew, and notes
 * when the workload leaves the node. */
int store_evidence_put(struct store *store, const struct store_evidence *row, struct error *err);
int store_evidences(struct store *store,
                    int (*each)(void *ctx, const struct store_evidence *row, struct error *err),
                    void *ctx, struct error *err);

/* How many migrations are in each state that any is in. */
int store_migration_counts(struct store *store,
                           int (*each)(void *ctx, const char *state, int64_t count,
                                       struct error *err),
                           void *ctx, struct error *err);

/* store_event.c: what happened to the fleet */
struct store_fleet_event {
    int64_t seq, at_ms;
    const char *kind, *node, *pool, *workload, *json; /* the middle three may be NULL */
};

/* Gives it the next seq. Within a transaction, store_fleet_events_prune keeps the newest. */
int store_fleet_event_add(struct store *store, const struct store_fleet_event *row,
                          int64_t *ret_seq, struct error *err);
int store_fleet_events_prune(struct store *store, int64_t keep, struct error *err);
/* Those behind `after`, at most `limit`. */
int store_fleet_events(struct store *store, int64_t after, int64_t limit,
                       int (*each)(void *ctx, const struct store_fleet_event *row,
                                   struct error *err),
                       void *ctx, struct error *err);
/* The newest seq, 0 for none. */
int store_fleet_event_last(struct store *store, int64_t *ret, struct error *err);

/* store_history.c: what is old and nobody refers to */
enum store_history {
    STORE_HISTORY_MIGRATIONS, /* ended and settled, with their events */
    STORE_HISTORY_EVENTS,     /* of the fleet, but the newest */
    STORE_HISTORY_REPORTS,
    STORE_HISTORY_PROFILES,
    STORE_HISTORY_NODES, /* that were removed, and whose name no workload has */
};

/* Looks at some rows behind *after (0 to begin) and takes away those from before `before_ms`; moves
 * *after on. *ret_more: there were rows to look at. */
int store_history_prune(struct store *store, enum store_history what, int64_t before_ms,
                        int64_t *after, bool *ret_more, struct error *err);

/* store_webhook.c: who is told of events, and what is still to be told */
struct store_webhook {
    const char *id, *url, *secret;
    const char *events; /* JSON array of kinds; NULL: all */
    int64_t created_at_ms;
    int64_t pending, dead; /* deliveries; not read by _add */
};
struct store_delivery {
    int64_t id;
    const char *kind, *body, *state, *problem; /* problem may be NULL */
    int64_t tries, created_at_ms, next_at_ms;
    int64_t settled_at_ms; /* -1: not yet */
};

int store_webhook_add(struct store *store, const struct store_webhook *row, struct error *err);
/* Its deliveries go with it. */
int store_webhook_delete(struct store *store, const char *id, struct error *err);
int store_webhooks(struct store *store,
                   int (*each)(void *ctx, const struct store_webhook *row, struct error *err),
                   void *ctx, struct error *err);
/* A delivery for each webhook that wants this kind; within the transaction of what it tells. */
int store_deliveries_add(struct store *store, const char *kind, const char *body, int64_t at_ms,
                         struct error *err);
/* The one that has been due longest by `now_ms`, if any. */
int store_delivery_due(struct store *store, const char *webhook, int64_t now_ms,
                       int (*each)(void *ctx, const struct store_delivery *row, struct error *err),
                       void *ctx, struct error *err);
/* When the next one is due; -1 for none. */
int store_delivery_next(struct store *store, const char *webhook, int64_t *ret, struct error *err);
/* Writes state, tries, next_at_ms, settled_at_ms and problem. */
int store_delivery_set(struct store *store, const struct store_delivery *row, struct error *err);
/* Lets the newest `keep` in this state be. */
int store_deliveries_prune(struct store *store, const char *webhook, const char *state,
                           int64_t keep, struct error *err);
/* The oldest of more than `most` pending ones are dead. */
int store_deliveries_overflow(struct store *store, const char *webhook, int64_t most,
                              int64_t now_ms, struct error *err);
/* The newest first; `state` NULL for all. */
int store_deliveries(struct store *store, const char *webhook, const char *state, int64_t limit,
                     int (*each)(void *ctx, const struct store_delivery *row, struct error *err),
                     void *ctx, struct error *err);

/* store_token.c */
struct store_token {
    const char *sha256, *id, *role;
    const char *node, *note; /* may be NULL */
    int64_t created_at_ms;
};

int store_token_add(struct store *store, const struct store_token *row, struct error *err);
int store_token_bind(struct store *store, const char *sha256, const char *node, struct error *err);
int store_token_delete(struct store *store, const char *sha256, struct error *err);
int store_tokens(struct store *store,
                 int (*each)(void *ctx, const struct store_token *row, struct error *err),
                 void *ctx, struct error *err);
