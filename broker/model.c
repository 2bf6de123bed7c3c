/* SPDX-License-Identifier: Apache-2.0 */
/* model.c - names, looking things up, and the end of the model. */
#include "model.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "digest.h"
#include "model_evidence.h"
#include "model_internal.h"

static const struct {
    const char *name;
    enum role role;
} roles[] = {
#define X(role, name, bit) {name, ROLE_##role},
    ROLES(X)
#undef X
};

static const char *const node_statuses[] = {
#define X(status, name) name,
    NODE_STATUSES(X)
#undef X
};

static const char *const life_states[] = {
#define X(state, name) name,
    LIFE_STATES(X)
#undef X
};

const char *role_name(enum role role)
{
    for (size_t i = 0; i < ARRAY_LEN(roles); i++)
        if (roles[i].role == role)
            return roles[i].name;
    return "none";
}

int role_from_name(const char *name, enum role *ret)
{
    for (size_t i = 0; i < ARRAY_LEN(roles); i++)
        if (strcmp(roles[i].name, name) == 0) {
            *ret = roles[i].role;
            return 0;
        }
    return -1;
}

const char *node_status_name(enum node_status status)
{
    return node_statuses[status];
}

const char *life_state_name(enum life_state state)
{
    return life_states[state];
}

int life_state_from_name(const char *name, enum life_state *ret)
{
    for (size_t i = 0; i < ARRAY_LEN(life_states); i++)
        if (strcmp(life_states[i], name) == 0) {
            *ret = (enum life_state)i;
            return 0;
        }
    return -1;
}

void node_free(struct node *node)
{
    if (!node)
        return;
    free(node->name);
    free(node->version);
    free(node->boot_id);
    free(node->image_address);
    free(node);
}

void pool_free(struct pool *pool)
{
    if (!pool)
        return;
    free(pool->name);
    cpu_profile_free(pool->profile);
    mask_free(pool->mask);
    free(pool->kinds);
    free(pool->masks_text);
    sorted_done(&pool->members);
    free(pool);
}

void workload_free(struct workload *workload)
{
    if (!workload)
        return;
    for (size_t i = 0; i < workload->seen_count; i++)
        free(workload->seen[i].node);
    free(workload->seen);
    free(workload->name);
    free(workload->pool);
    free(workload->node);
    free(workload->dir);
    free(workload->mask.told_on);
    json_object_put(workload->command);
    workload_evidence_free(workload->evidence);
    free(workload);
}

void token_free(struct token *token)
{
    if (!token)
        return;
    free(token->sha256);
    free(token->id);
    free(token->node);
    free(token->note);
    free(token);
}

void move_free(struct move *move)
{
    if (!move)
        return;
    free(move->id);
    free(move->workload);
    free(move->from);
    free(move->to);
    json_object_put(move->error);
    explicit_bzero(move->ticket, sizeof(move->ticket));
    free(move);
}

int model_new(struct store *store, const struct clock *clock, uint64_t silent_after_ms,
              struct model **ret, struct error *err)
{
    AUTO(model) model = xcalloc(1, sizeof(*model));
    model->store = store;
    model->clock = clock;
    model->silent_after_ms = silent_after_ms;
    pthread_mutex_init(&model->writer, NULL);
    pthread_mutex_init(&model->texting, NULL);
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
    /* Else a stream of checks could keep heartbeats out for ever. */
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&model->lock, &attributes);
    pthread_rwlockattr_destroy(&attributes);
    model->generation = 1;
    if (model_load(model, err) < 0)
        return error_wrap(err, "loading");
    *ret = steal_ptr(&model);
    return 0;
}

static void free_all(struct sorted *set, void (*free_item)(void *item))
{
    for (size_t i = 0; i < set->count; i++)
        free_item(set->items[i]);
    sorted_done(set);
}

#define FREE_ITEM(type)                      \
    static void type##_item_free(void *item) \
    {                                        \
        type##_free(item);                   \
    }
FREE_ITEM(node)
FREE_ITEM(pool)
FREE_ITEM(workload)
FREE_ITEM(token)
FREE_ITEM(move)

void model_free(struct model *model)
{
    if (!model)
        return;
    free_all(&model->moves, move_item_free);
    free_all(&model->tokens, token_item_free);
    free_all(&model->workloads, workload_item_free);
    free_all(&model->pools, pool_item_free);
    free_all(&model->nodes, node_item_free);
    model_records_free(model);
    pthread_rwlock_destroy(&model->lock);
    pthread_mutex_destroy(&model->texting);
    pthread_mutex_destroy(&model->writer);
    free(model);
}

void model_read_lock(struct model *model)
{
    pthread_rwlock_rdlock(&model->lock);
}

void model_write_lock(struct model *model)
{
    pthread_rwlock_wrlock(&model->lock);
}

void model_unlock(struct model *model)
{
    pthread_rwlock_unlock(&model->lock);
}

struct node *model_node(struct model *model, const char *name, struct error *err)
{
    struct node *node = sorted_find(&model->nodes, name);
    if (!node)
        error_set(err, ERROR_NOT_FOUND, "no node '%s'; `cpubroker nodes` lists them", name);
    return node;
}

struct pool *model_pool(struct model *model, const char *name, struct error *err)
{
    struct pool *pool = sorted_find(&model->pools, name);
    if (!pool)
        error_set(err, ERROR_NOT_FOUND, "no pool '%s'; `cpubroker pools` lists them", name);
    return pool;
}

struct workload *model_workload(struct model *model, const char *name, struct error *err)
{
    struct workload *workload = sorted_find(&model->workloads, name);
    if (!workload)
        error_set(err, ERROR_NOT_FOUND, "no workload '%s'; `cpubroker workloads` lists them", name);
    return workload;
}

struct token *model_token(struct model *model, const char *sha256)
{
    return sorted_find(&model->tokens, sha256);
}

struct move *model_move_of(struct model *model, const char *workload)
{
    struct move *move = NULL;
    SORTED_EACH(&model->moves, move)
    if (!migration_state_is_final(move->state) && strcmp(move->workload, workload) == 0)
        return move;
    return NULL;
}

enum node_status model_node_status(const struct model *model, const struct node *node)
{
    if (node->imported)
        return NODE_IMPORTED;
    if (node->seen_monotonic_ms < 0)
        return NODE_SILENT;
    int64_t age_ms = clock_monotonic_ms(model->clock) - node->seen_monotonic_ms;
    return age_ms > (int64_t)model->silent_after_ms ? NODE_SILENT : NODE_LIVE;
}

bool model_is_member(const struct pool *pool, const struct node *node)
{
    return sorted_find(&pool->members, node->name) == node;
}

void model_node_poke(struct model *model, const char *name)
{
    struct node *node = sorted_find(&model->nodes, name);
    if (!node)
        return;
    node->generation++;
    autofree char *key = xasprintf("node/%s", name);
    if (model->wake)
        model->wake(model->wake_ctx, key);
}
