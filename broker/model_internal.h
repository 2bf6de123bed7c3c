/* SPDX-License-Identifier: Apache-2.0 */
/* model_internal.h - what model*.c share. */
#pragma once

#include <string.h>

#include "model.h"

struct model_guard {
    struct model *model;
};

static inline struct model_guard model_writer_enter(struct model *model)
{
    pthread_mutex_lock(&model->writer);
    return (struct model_guard){model};
}

static inline void model_writer_leave(struct model_guard *guard)
{
    pthread_mutex_unlock(&guard->model->writer);
}

/* Holds the writer's mutex until the scope ends. */
#define WRITER(model)                                                                       \
    __attribute__((cleanup(model_writer_leave), unused)) struct model_guard writer_guard_ = \
        model_writer_enter(model)

static inline bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

void node_free(struct node *node);
void pool_free(struct pool *pool);
void workload_free(struct workload *workload);
void token_free(struct token *token);
void move_free(struct move *move);

/* model_record.c; the caller holds the writer's mutex. */
/* The rules by which reports are reckoned now. */
const char *model_rules(void);
/* The profile under its hash, kept if it is new. */
const struct cpu_record *model_cpu_record(struct model *model, struct cpu_profile *cpu);
/* `a` may be NULL: then it is b. */
const struct cpu_record *model_cpu_join(struct model *model, const struct cpu_record *a,
                                        const struct cpu_record *b);
/* From the database. *ret is NULL where the record there is not what its name says: *why tells. */
int model_cpu_load(struct model *model, const char *sha256, const struct cpu_record **ret,
                   struct error *why, struct error *err);
/* Within the caller's transaction. */
int model_cpu_store(struct model *model, const struct cpu_record *record, struct error *err);
const struct shared_text *model_text(struct model *model, const char *text, json_object *json);
/* The profile of a report, made and kept if it is new. */
const struct profile *model_profile(struct model *model, const char *sha256, json_object *json,
                                    struct error *err);
struct profile *model_profile_add(struct model *model, const char *sha256,
                                  const struct cpu_record *record, const char *kernel,
                                  const struct shared_text *engines);
/* What the next start needs of the report; within the caller's transaction. */
int model_facts_store(struct model *model, const struct profile *profile, struct error *err);
void model_records_free(struct model *model);

/* model_workload.c: a line of the ledger as the database has it; nobody else knows the model, or
 * the lock is held for writing. */
void model_workload_add_line(struct model *model, struct workload *workload, const char *node,
                             const struct profile *profile, int64_t since_at_ms, bool masked);

/* model_load.c: everything from the database, for model_new. */
int model_load(struct model *model, struct error *err);

/* One pool's mask before and after a change. Made under the writer's mutex,
 * stored within the transaction, and then either applied under the lock or
 * undone. */
struct mask_change {
    struct pool *pool;
    struct cpu_profile *removed, *added; /* borrowed */
    struct cpu_profile *profile;         /* owned */
    char digest[65];
    int64_t epoch;
};
void mask_change_make(struct mask_change *change, struct pool *pool, struct cpu_profile *removed,
                      struct cpu_profile *added);
/* `joins` and `leaves` (either may be NULL) tell how the members will differ.
 */
int mask_change_store(struct model *model, const struct mask_change *change,
                      const struct node *joins, const struct node *leaves, struct error *err);
void mask_change_apply(struct model *model, struct mask_change *change);
void mask_change_undo(struct mask_change *change);

/* model_pool.c: what it means that the node leaves the mask's pool. */
void model_judge_leave(struct model *model, const struct mask_change *mask, const struct node *node,
                       struct fleet_events *events);
/* model_fleet.c: workloads that have exited, of a node or a pool (NULL: of any). The lock is held
 * for writing. */
void model_forget_exited(struct model *model, const char *node, const char *pool);

/* The lock need not be held: nobody else sees the node yet, or the caller
 * writes. */
void node_take_report(struct node *node, const struct profile *profile);
/* The pool is another than before to those who ask for its masks; the lock is held for writing, or
 * nobody else knows the pool. */
void pool_touch(struct model *model, struct pool *pool);
/* One member with this CPU more, or less; `cpu` may be NULL. */
void pool_count_kind(struct pool *pool, struct cpu_profile *cpu, int step);
