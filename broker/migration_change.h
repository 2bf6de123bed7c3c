/* SPDX-License-Identifier: Apache-2.0 */
/* migration_change.h - one step of a migration: prepared, written in one
 * transaction, then made true in memory. The writer's mutex is held from _begin
 * to _commit. */
#pragma once

#include "migration.h"
#include "model_evidence.h"
#include "verdict.h"

#define CHANGE_EVENTS_MAX 6

struct migration_change {
    struct migrations *migrations;
    struct move *move;
    struct move next;   /* scalars of what will be; its pointers are the move's */
    int64_t now_ms;     /* Unix */
    json_object *error; /* owned; the migration's new error, NULL: as it was */
    struct {
        const char *kind;
        json_object *json; /* owned */
    } events[CHANGE_EVENTS_MAX];
    size_t event_count;

    struct workload *workload;        /* NULL when it is gone */
    const struct profile *expose;     /* on the target's node; NULL: nothing new */
    struct workload_evidence *looked; /* owned; becomes the workload's latest; NULL: no look */
    char *looked_text;                /* owned; the same as a message */
    char *verdict;                    /* owned; JSON; takes the place of the first; NULL: stays */
    bool set_workload;
    const char *node; /* where the workload is */
    enum life_state life;
    int64_t pid, exit_status;
};

void change_begin(struct migration_change *change, struct migrations *migrations,
                  struct move *move);
/* Enters a state, with its `phase` event and what it means for the workload.
 * The move must be one of the table's. */
void change_enter(struct migration_change *change, enum migration_state state);
/* An agent's report as an event. */
void change_report(struct migration_change *change, const char *node,
                   const struct migration_said *said);
/* An `error` event. `keep` makes it the migration's error as well, if it has
 * none. */
void change_error(struct migration_change *change, const char *node, const char *code,
                  const char *message, const char *log, bool keep);
/* What the source has seen of the workload, as the latest look at it. */
int change_looked(struct migration_change *change, const struct cpu_evidence *evidence,
                  struct error *err);
/* The verdict that was made on the way. */
void change_verdict(struct migration_change *change, const struct verdict *verdict);
void change_workload(struct migration_change *change, const char *node, enum life_state life,
                     int64_t pid, int64_t exit_status);
/* Writes and applies; wakes whoever waits. On failure nothing has changed.
 * Frees what the change owns; the move itself is freed when it is settled. */
int change_commit(struct migration_change *change, struct error *err);
/* Frees what a change owns that is not committed after all. */
void change_drop(struct migration_change *change);

/* Within the transaction: webhooks are told of a `phase` event. `error` may be NULL. */
int migration_tell_webhooks(struct store *store, const struct move *move, json_object *phase,
                            json_object *error, struct error *err);

/* The monotonic deadline of a state that is entered now; INT64_MAX for none. */
int64_t migration_deadline_ms(const struct migrations *migrations, enum migration_state state);
