/* SPDX-License-Identifier: Apache-2.0 */
/* model.h - the broker's picture of the fleet, in memory: what verdicts and
 * agents' answers need.
 *
 * Loaded at start, changed only together with the database: a change takes the
 * writer's mutex, writes the database in one transaction, and only then takes
 * the lock for writing and changes memory. Readers take the lock for reading
 * and never wait for the disk. Order of locks: writer, the store's, lock.
 * Functions that change things take the locks by themselves, except the
 * `_locked` ones, whose caller holds the writer's mutex (and no lock). */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "clock.h"
#include "cpu_profile.h"
#include "error.h"
#include "events.h"
#include "json.h"
#include "mask.h"
#include "mask_grade.h"
#include "migration_states.h"
#include "policy.h"
#include "sorted.h"
#include "store.h"

/*     role      wire name   bit */
#define ROLES(X)               \
    X(VIEWER, "viewer", 1)     \
    X(OPERATOR, "operator", 2) \
    X(AGENT, "agent", 4)       \
    X(WEBHOOK, "webhook", 8) /* may ask at the doors, and nothing else */

enum role {
#define X(role, name, bit) ROLE_##role = (bit),
    ROLES(X)
#undef X
};

#define NODE_STATUSES(X) X(LIVE, "live") X(SILENT, "silent") X(IMPORTED, "imported")

enum node_status {
#define X(status, name) NODE_##status,
    NODE_STATUSES(X)
#undef X
        NODE_STATUS_COUNT
};

/*     state      wire name */
#define LIFE_STATES(X)                                          \
    X(STARTING, "starting") /* the name is claimed */           \
    X(RUNNING, "running")                                       \
    X(STOPPED, "stopped") /* dumped, waiting for the outcome */ \
    X(EXITED, "exited")

enum life_state {
#define X(state, name) LIFE_##state,
    LIFE_STATES(X)
#undef X
        LIFE_STATE_COUNT
};

/* What follows up to `struct profile` is shared by all whom it fits, immutable, and kept until the
 * model goes. */
struct cpu_record { /* a profile under the hash of its content */
    char *sha256;
    struct cpu_profile *cpu; /* owned reference */
    bool checked;            /* only while loading: the database's text was compared */
};

struct cpu_join { /* so that the same two are joined once */
    char *key;    /* both hashes */
    const struct cpu_record *result;
};

struct shared_text {
    char *text;
    json_object *json; /* owned; what the text says, NULL where nobody asks */
};

struct profile {             /* a report's */
    char *sha256;            /* the report's; points to `hash` */
    struct cpu_profile *cpu; /* the record's */
    const struct cpu_record *record;
    const char *kernel; /* NULL: not told */
    const struct shared_text *engines;
    char hash[65];
};

struct node {
    char *name;
    bool imported;
    const struct profile *profile;           /* NULL: no report yet */
    char *version, *boot_id, *image_address; /* owned; may be NULL */
    const char *kernel;                      /* the report's; may be NULL */
    json_object *engines;                    /* the report's; array, NULL without report */
    int64_t created_at_ms;
    int64_t seen_at_ms;        /* Unix; 0: never */
    int64_t seen_monotonic_ms; /* -1: not since the broker started */
    int64_t saved_at_ms;       /* the seen_at_ms that the database has */
    int64_t stray_logged_ms;   /* monotonic; when a stray copy was last complained
                                  about */
    uint64_t free_bytes;
    uint64_t generation; /* of its assignments */
};

struct pool_kind {           /* members with equal CPUs */
    struct cpu_profile *cpu; /* a record's */
    size_t count;
};

struct pool {
    char *name;
    struct pool_policy policy;
    int64_t created_at_ms;
    int64_t epoch; /* 0: it never had a mask */
    char digest[65];
    struct mask *mask;           /* owned; guarded by the writer's mutex, not by the lock */
    struct cpu_profile *profile; /* owned; the mask's, NULL when no member has a report */
    struct sorted members;       /* struct node, not owned */
    struct pool_kind *kinds;     /* owned; of the members that have reported */
    size_t kind_count;
    uint64_t revision;       /* changes with the members and what they report */
    char *masks_text;        /* owned; guarded by the model's `texting`: its masks as last told */
    uint64_t masks_revision; /* of that text */
};

struct seen {
    char *node; /* owned */
    const struct profile *profile;
    int64_t since_at_ms;
    const struct cpu_record *need; /* from here on: all that it was exposed to, joined */
    bool masked;  /* it was held to its mask there, so that the line adds nothing to its need */
    bool unsaved; /* only while loading: the database has no such need */
};

/* Places that are not masked, by kind, since birth. `other`: of kinds that only the agent knows. */
struct mask_lacks {
    int64_t counts[MASK_LACK_COUNT];
    int64_t other;
};

/* Under which mask a workload was born, and what is told of that. */
struct workload_mask {
    enum mask_grade grade;
    const struct cpu_record *record; /* the pool's of the workload's epoch; NULL: grade OFF, or the
                                        database's cannot be read */
    int64_t sites;                   /* places that are masked; -1: nothing was told yet */
    struct mask_lacks lacks;         /* never less than was told before */
    char *told_on;                   /* owned; the node whose agent told last; NULL: none yet */
    bool gap;                        /* it has lived on a node whose agent told nothing */
    int64_t saved_at_ms;             /* when the database was last told */
};

struct workload {
    char *name;
    char *pool, *node; /* owned */
    enum life_state state;
    int64_t pid, exit_status; /* -1: none */
    json_object *command;     /* owned */
    char *dir;                /* owned; may be NULL */
    bool adopted;
    int64_t epoch, created_at_ms;
    int64_t lost_at_ms; /* when its node was taken away by force; 0: it was not */
    struct workload_mask mask;
    struct seen *seen; /* owned; the first is its birth */
    size_t seen_count;
    struct cpu_profile *need;           /* the last one's record's; NULL when nothing was seen */
    unsigned missed;                    /* heartbeats in a row that did not list it */
    struct workload_evidence *evidence; /* owned; the latest look since its birth; may be NULL */
};

struct token {
    char *sha256;
    char *id;
    enum role role;
    char *node, *note; /* owned; may be NULL */
    int64_t created_at_ms;
};

/* A migration that is not settled: under way, or its target has yet to discard.
 */
struct move {
    char *id;
    char *workload, *from, *to; /* owned */
    enum migration_state state;
    enum migration_report source_report, target_report;
    char judged_sha256[65];
    char ticket[65]; /* "" once it is over */
    bool cancelled;
    json_object *error; /* owned; NULL for none */
    int64_t bytes, total_bytes;
    int64_t state_at_ms, dumping_at_ms, downtime_ms, finished_at_ms; /* -1: not yet */
    int64_t deadline_ms;       /* monotonic; INT64_MAX: none */
    int64_t progress_saved_ms; /* monotonic; when bytes were last written */
    int64_t last_seq;          /* of its events */
};

struct model {
    struct store *store;       /* borrowed */
    const struct clock *clock; /* borrowed */
    uint64_t silent_after_ms;
    /* Runs again what waits for `key` ("node/NAME", "migration/ID"); may be NULL.
     */
    void (*wake)(void *ctx, const char *key);
    void *wake_ctx;
    _Atomic uint64_t event_counts[FLEET_EVENT_COUNT]; /* since the start */

    pthread_mutex_t writer;           /* guards what follows */
    struct sorted cpus, joins, texts; /* of cpu_record, cpu_join, shared_text */
    uint64_t revisions;               /* the last that any pool was given */
    pthread_mutex_t texting;          /* taken last: guards the pools' masks_text */
    pthread_rwlock_t lock;            /* guards what follows */
    struct sorted nodes, pools, workloads, tokens, moves, profiles;
    uint64_t generation; /* changes with anything that a verdict reads, liveness
                            aside */
};

int model_new(struct store *store, const struct clock *clock, uint64_t silent_after_ms,
              struct model **ret, struct error *err);
void model_free(struct model *model); /* NULL is fine */
DEFINE_AUTO(model)

void model_read_lock(struct model *model);
void model_write_lock(struct model *model);
void model_unlock(struct model *model);

/* Looking up; the lock is held (or the writer's mutex). ERROR_NOT_FOUND says
 * how to list. */
struct node *model_node(struct model *model, const char *name, struct error *err);
struct pool *model_pool(struct model *model, const char *name, struct error *err);
struct workload *model_workload(struct model *model, const char *name, struct error *err);
struct token *model_token(struct model *model, const char *sha256); /* or NULL */
/* The migration that moves this workload now, or NULL. */
struct move *model_move_of(struct model *model, const char *workload);
enum node_status model_node_status(const struct model *model, const struct node *node);
bool model_is_member(const struct pool *pool, const struct node *node);

/* model_fleet.c */
/* ERROR_CONFLICT while it is live, workloads live on it or migrations need it. With `force` what
 * lives on it is lost: it has exited, and keeps its ledger; *ret_lost (may be NULL) lists the names
 * then, as a JSON array that the caller owns. */
int model_node_delete(struct model *model, const char *name, bool force, json_object **ret_lost,
                      struct error *err);
/* `report` is checked JSON. An operator's report makes or renews an imported
 * node. */
int model_node_report(struct model *model, const char *name, bool imported, json_object *report,
                      bool *ret_changed, char ret_sha256[65], struct error *err);
/* Makes the node when it is new (a member of `pool`, where that exists), notes
 * what changed. */
struct node_facts {
    const char *version, *boot_id, *image_address, *pool; /* may be NULL */
    uint64_t free_bytes;
};
int model_node_seen_locked(struct model *model, const char *name, const struct node_facts *facts,
                           struct error *err);
/* A policy that is stricter than what is there is no reason to refuse it: nobody is put out. */
/* `policy` is JSON (pool_policy_decode), read over what the pool has; NULL: as it is. */
int model_pool_put(struct model *model, const char *name, json_object *policy, bool *ret_made,
                   struct error *err);
int model_pool_delete(struct model *model, const char *name, struct error *err);
/* ERROR_CONFLICT for a node below the pool's minimum level, or that would take the mask below it.
 */
int model_pool_join(struct model *model, const char *pool, const char *node, struct error *err);
int model_pool_leave(struct model *model, const char *pool, const char *node, struct error *err);

/* model_workload.c */
struct claim {
    const char *pool, *dir; /* dir may be NULL */
    json_object *command;
    bool adopted;
    enum mask_grade mask;
};
/* ERROR_CONFLICT where a mask is claimed and the pool has none. */
int model_workload_claim(struct model *model, const char *node, const char *name,
                         const struct claim *claim, struct error *err);
/* Within the caller's transaction: writes what model_workload_set will make
 * true. */
int model_workload_store_locked(struct model *model, const struct workload *workload,
                                const char *node, enum life_state state, int64_t pid,
                                int64_t exit_status, struct error *err);
/* The lock is held for writing. */
void model_workload_set(struct model *model, struct workload *workload, const char *node,
                        enum life_state state, int64_t pid, int64_t exit_status);
/* Whether the ledger has the line that an exposure now would add. */
bool model_workload_has_seen(const struct workload *workload, const char *node,
                             const struct profile *profile);
/* A line of the ledger: an exposure, or, as long as the workload is held to its mask
 * (workload_is_held), a place where it has lived. */
/* Within the caller's transaction: the line, unless it is there, and the need that it makes. */
int model_workload_store_exposure_locked(struct model *model, const struct workload *workload,
                                         const char *node, const struct profile *profile,
                                         int64_t since_at_ms, struct error *err);
/* The lock is held for writing, or nobody else knows the model. */
void model_workload_expose(struct model *model, struct workload *workload, const char *node,
                           const struct profile *profile, int64_t since_at_ms);

/* A copy of its command, since json-c's counting is not atomic and readers are
 * many. */
json_object *model_command_json(const struct workload *workload);

/* model_token.c */
/* `secret` is the token itself: only its hash is kept. */
int model_token_create(struct model *model, enum role role, const char *node, const char *note,
                       const char *secret, char ret_id[64], struct error *err);
/* ERROR_CONFLICT for the last operator's token. */
int model_token_delete(struct model *model, const char *id, struct error *err);
/* An agent's token that names no node is bound to this one; one that names
 * another is refused. */
int model_token_bind_locked(struct model *model, const char *id, const char *node,
                            struct error *err);
bool model_has_operator(struct model *model);

const char *role_name(enum role role);
int role_from_name(const char *name, enum role *ret);
const char *node_status_name(enum node_status status);
const char *life_state_name(enum life_state state);
int life_state_from_name(const char *name, enum life_state *ret);

/* Makes the node's long polls answer; the lock is held for writing. */
void model_node_poke(struct model *model, const char *name);
