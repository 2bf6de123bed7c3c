/* SPDX-License-Identifier: Apache-2.0 */
/* migration.h - the broker's half of a migration: every step is durable before
 * anyone hears of it.
 *
 * A step is one transaction (state, events, and what it means for the
 * workload); then memory follows, the parties' long polls and the event streams
 * wake. Time comes from the model's clock, so tests step through deadlines. Any
 * thread. */
#pragma once

#include "cpu_evidence.h"
#include "model.h"

struct migrations {
    struct model *model; /* borrowed */
    uint64_t prepare_timeout_ms, dump_timeout_ms, transfer_timeout_ms, restore_timeout_ms;
    uint64_t max_image_bytes;
};

/* Gives what was loaded from the database its deadlines, counted from now. */
void migrations_resume(struct migrations *migrations);

struct migrate_request {
    const char *workload;
    const char *to;  /* NULL: the broker chooses */
    const char *key; /* idempotency key; NULL for none */
    bool dry_run;
};
struct migrate_result {
    json_object *verdict;   /* owned */
    json_object *migration; /* owned; NULL when none was made */
    bool rejected;
    char target[64]; /* "" when none was found */
};
/* ERROR_NOT_FOUND for names that do not exist, ERROR_CONFLICT for a key that
 * was used for another request. A rejecting verdict is no error. */
int migrations_start(struct migrations *migrations, const struct migrate_request *request,
                     struct migrate_result *result, struct error *err);
void migrate_result_done(struct migrate_result *result);

struct migration_said {
    enum migration_report report;
    int64_t bytes, total_bytes, pid, phase_ms; /* -1: not said */
    const char *code, *message, *log;          /* of a failure; may be NULL */
    struct cpu_evidence *evidence;             /* of `inspected`, maybe of `dumped`; borrowed */
};
/* What `node` reports of its part. *ret_assignment is what it is to do next,
 * NULL for nothing. ERROR_FORBIDDEN for a node that is no party, ERROR_INVALID
 * for what is the other's to report, ERROR_CONFLICT for what comes too early or
 * too late. */
int migrations_report(struct migrations *migrations, const char *id, const char *node,
                      const struct migration_said *said, json_object **ret_assignment,
                      struct error *err);
/* ERROR_CONFLICT once it is committing or over. */
int migrations_cancel(struct migrations *migrations, const char *id, struct error *err);
/* The workload has exited on the source: what has not dumped it yet is over.
 * The writer's mutex is held. */
int migrations_workload_exited_locked(struct migrations *migrations, struct workload *workload,
                                      int64_t exit_status, struct error *err);
/* The operator says that `node` is gone for good: a move whose target runs already waits for it to
 * kill its stopped copy in vain, and is done. For a node that is not live. */
int migrations_give_up_source(struct migrations *migrations, const char *node, struct error *err);
/* Ends what is past its deadline. Returns how long until the next one, at most
 * `most_ms`. */
int64_t migrations_tick(struct migrations *migrations, int64_t most_ms);

/* {"generation":…,"assignments":[…]}; the model's lock is held. */
json_object *migrations_assignments(struct migrations *migrations, const struct node *node);

/* What a report means in a state, by the table in migration_rules.c. */
enum migration_meaning {
    MIGRATION_MEANS_MOVE,   /* to *ret_state */
    MIGRATION_MEANS_NOTE,   /* recorded, no change of state */
    MIGRATION_MEANS_REPEAT, /* said before: harmless */
};
int migration_judge(const struct move *move, enum migration_party party,
                    enum migration_report report, enum migration_meaning *ret_meaning,
                    enum migration_state *ret_state, struct error *err);

/* A migration as the API shows it, from the database, with its evidence. The caller owns it.
 * ERROR_NOT_FOUND. */
int migration_get(struct store *store, const char *id, json_object **ret, struct error *err);
/* `workload` NULL for all; newest first. */
int migration_list(struct store *store, const char *workload, int64_t limit, json_object **ret,
                   struct error *err);
