/* SPDX-License-Identifier: Apache-2.0 */
/* model.c - loads the model from the database, looks things up, frees it all.
 */
#include "model.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "digest.h"
#include "model_internal.h"

#define MOVES_MAX 100000

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
    free(node->kernel);
    json_object_put(node->engines);
    free(node);
}

void pool_free(struct pool *pool)
{
    if (!pool)
        return;
    free(pool->name);
    cpu_profile_free(pool->profile);
    mask_free(pool->mask);
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
    json_object_put(workload->command);
    cpu_profile_free(workload->need);
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

static int parse_stored(const char *what, const char *text, json_object **ret, struct error *err)
{
    if (json_parse(text, strlen(text), ret, err) < 0) {
        err->kind = ERROR_INTERNAL;
        return error_wrap(err, "database: %s", what);
    }
    return 0;
}

const struct profile *model_profile(struct model *model, const char *sha256, json_object *json,
                                    struct error *err)
{
    struct profile *profile = sorted_find(&model->profiles, sha256);
    if (profile)
        return profile;
    AUTO(cpu_report) report = NULL;
    AUTO(cpu_profile) cpu = NULL;
    if (cpu_report_parse(json, &report, err) < 0 || cpu_profile_from_report(report, &cpu, err) < 0)
        return NULL;
    profile = xcalloc(1, sizeof(*profile));
    profile->sha256 = xstrdup(sha256);
    profile->cpu = steal_ptr(&cpu);
    model_write_lock(model);
    sorted_add(&model->profiles, profile);
    model_unlock(model);
    return profile;
}

/* A report that the database has, as a profile. `ret_json` may be NULL; the
 * caller owns it. */
static const struct profile *load_profile(struct model *model, const char *sha256,
                                          json_object **ret_json, struct error *err)
{
    struct profile *known = sorted_find(&model->profiles, sha256);
    if (known && !ret_json)
        return known;
    autofree char *text = NULL;
    autojson *json = NULL;
    if (store_report_get(model->store, sha256, &text, err) < 0 ||
        parse_stored("report", text, &json, err) < 0)
        return NULL;
    const struct profile *profile = model_profile(model, sha256, json, err);
    if (!profile)
        error_wrap(err, "report %s", sha256);
    if (profile && ret_json)
        *ret_json = steal_ptr(&json);
    return profile;
}

void node_take_report(struct node *node, const struct profile *profile, json_object *report)
{
    json_object *os = json_member(report, "os");
    node->profile = profile;
    free(node->kernel);
    node->kernel = *json_str(os, "kernel") ? xstrdup(json_str(os, "kernel")) : NULL;
    if (!node->boot_id && *json_str(os, "boot_id"))
        node->boot_id = xstrdup(json_str(os, "boot_id"));
    json_object_put(node->engines);
    node->engines = json_object_new_array();
    json_object *engines = json_member(report, "engines");
    for (size_t i = 0; i < json_array_size(engines); i++) {
        json_object *engine = json_object_new_object();
        json_put_str(engine, "name", json_str(json_array_item(engines, i), "name"));
        json_put_str(engine, "version", json_str(json_array_item(engines, i), "version"));
        json_object_array_add(node->engines, engine);
    }
}

static int load_node(void *ctx, const struct store_node *row, struct error *err)
{
    struct model *model = ctx;
    struct node *node = xcalloc(1, sizeof(*node));
    node->name = xstrdup(row->name);
    node->imported = row->imported;
    node->version = xstrdup(row->version);
    node->boot_id = xstrdup(row->boot_id);
    node->image_address = xstrdup(row->image_address);
    node->created_at_ms = row->created_at_ms;
    node->seen_at_ms = node->saved_at_ms = row->seen_at_ms;
    node->seen_monotonic_ms = node->stray_logged_ms = -1;
    char random[13];
    random_hex(6, random);
    node->generation = strtoull(random, NULL, 16); /* 48 bits, within what JSON takes */
    sorted_add(&model->nodes, node);
    if (!row->report_sha256)
        return 0;
    autojson *report = NULL;
    const struct profile *profile = load_profile(model, row->report_sha256, &report, err);
    if (!profile)
        return error_wrap(err, "node '%s'", row->name);
    node_take_report(node, profile, report);
    return 0;
}

static int load_pool(void *ctx, const struct store_pool *row, struct error *err)
{
    struct model *model = ctx;
    struct pool *pool = xcalloc(1, sizeof(*pool));
    pool->name = xstrdup(row->name);
    pool->policy = pool_policy_default();
    pool->policy.mix_vendors = row->mix_vendors;
    pool->created_at_ms = row->created_at_ms;
    pool->epoch = row->epoch;
    snprintf(pool->digest, sizeof(pool->digest), "%s", row->digest ? row->digest : "");
    pool->mask = mask_new();
    sorted_add(&model->pools, pool);
    if (pool_policy_from_names(row->min_level, row->evidence, row->islands, &pool->policy, err) < 0)
        return error_wrap(err, "database: pool '%s'", row->name);
    return 0;
}

static int load_member(void *ctx, const char *pool_name, const char *node_name, struct error *err)
{
    struct model *model = ctx;
    struct pool *pool = sorted_find(&model->pools, pool_name);
    struct node *node = sorted_find(&model->nodes, node_name);
    if (!pool || !node)
        return error_set(err, ERROR_INTERNAL, "database: member '%s' of pool '%s' is not there",
                         node_name, pool_name);
    sorted_add(&pool->members, node);
    if (node->profile)
        mask_add(pool->mask, node->profile->cpu);
    return 0;
}

static int load_workload(void *ctx, const struct store_workload *row, struct error *err)
{
    struct model *model = ctx;
    struct workload *workload = xcalloc(1, sizeof(*workload));
    workload->name = xstrdup(row->name);
    workload->pool = xstrdup(row->pool);
    workload->node = xstrdup(row->node);
    workload->pid = row->pid;
    workload->exit_status = row->exit_status;
    workload->dir = xstrdup(row->dir);
    workload->adopted = row->adopted;
    workload->epoch = row->epoch;
    workload->created_at_ms = row->created_at_ms;
    sorted_add(&model->workloads, workload);
    if (life_state_from_name(row->state, &workload->state) < 0)
        return error_set(err, ERROR_INTERNAL, "database: workload '%s': state '%s'", row->name,
                         row->state);
    return parse_stored("workload's command", row->command, &workload->command, err);
}

static int load_seen(void *ctx, const struct store_seen *row, struct error *err)
{
    struct model *model = ctx;
    struct workload *workload = sorted_find(&model->workloads, row->workload);
    const struct profile *profile = load_profile(model, row->report_sha256, NULL, err);
    if (!workload || !profile)
        return error_wrap(err, "ledger of workload '%s'", row->workload);
    model_workload_expose(model, workload, row->node, profile, row->since_at_ms);
    return 0;
}

static int load_token(void *ctx, const struct store_token *row, struct error *err)
{
    struct model *model = ctx;
    struct token *token = xcalloc(1, sizeof(*token));
    token->sha256 = xstrdup(row->sha256);
    token->id = xstrdup(row->id);
    token->node = xstrdup(row->node);
    token->note = xstrdup(row->note);
    token->created_at_ms = row->created_at_ms;
    sorted_add(&model->tokens, token);
    if (role_from_name(row->role, &token->role) < 0)
        return error_set(err, ERROR_INTERNAL, "database: token '%s': role '%s'", row->id,
                         row->role);
    return 0;
}

static int load_move(void *ctx, const struct store_migration *row, struct error *err)
{
    struct model *model = ctx;
    struct move *move = xcalloc(1, sizeof(*move));
    move->id = xstrdup(row->id);
    move->workload = xstrdup(row->workload);
    move->from = xstrdup(row->from);
    move->to = xstrdup(row->to);
    move->cancelled = row->cancelled;
    move->bytes = row->bytes;
    move->total_bytes = row->total_bytes;
    move->state_at_ms = row->state_at_ms;
    move->dumping_at_ms = row->dumping_at_ms;
    move->downtime_ms = row->downtime_ms;
    move->finished_at_ms = row->finished_at_ms;
    move->deadline_ms = INT64_MAX;
    move->progress_saved_ms = INT64_MIN / 2;
    snprintf(move->judged_sha256, sizeof(move->judged_sha256), "%s", row->judged_sha256);
    snprintf(move->ticket, sizeof(move->ticket), "%s", row->ticket ? row->ticket : "");
    sorted_add(&model->moves, move);
    if (migration_state_from_name(row->state, &move->state) < 0 ||
        migration_report_from_name(row->source_report, &move->source_report) < 0 ||
        migration_report_from_name(row->target_report, &move->target_report) < 0)
        return error_set(err, ERROR_INTERNAL, "database: migration '%s': state '%s' (%s, %s)",
                         row->id, row->state, row->source_report, row->target_report);
    if (store_event_last(model->store, row->id, &move->last_seq, err) < 0)
        return -1;
    return row->error ? parse_stored("migration's error", row->error, &move->error, err) : 0;
}

/* A newer cpubroker may reckon a mask otherwise from the same reports: that is
 * an epoch, too. */
static int renew_epoch(struct model *model, struct pool *pool, struct error *err)
{
    struct mask_change change;
    mask_change_make(&change, pool, NULL, NULL);
    if (change.epoch != pool->epoch) {
        if (store_begin(model->store, err) < 0) {
            mask_change_undo(&change);
            return -1;
        }
        if (mask_change_store(model, &change, NULL, NULL, err) < 0) {
            store_rollback(model->store);
            mask_change_undo(&change);
            return -1;
        }
        if (store_commit(model->store, err) < 0) {
            mask_change_undo(&change);
            return -1;
        }
    }
    mask_change_apply(&change);
    return 0;
}

static int load(struct model *model, struct error *err)
{
    struct store *store = model->store;
    if (store_nodes(store, load_node, model, err) < 0 ||
        store_pools(store, load_pool, model, err) < 0 ||
        store_members(store, load_member, model, err) < 0 ||
        store_workloads(store, load_workload, model, err) < 0 ||
        store_seen(store, load_seen, model, err) < 0 ||
        store_tokens(store, load_token, model, err) < 0 ||
        store_migrations(store, STORE_MIGRATIONS_UNSETTLED, NULL, MOVES_MAX, load_move, model,
                         err) < 0)
        return -1;
    struct pool *pool = NULL;
    SORTED_EACH(&model->pools, pool)
    if (renew_epoch(model, pool, err) < 0)
        return -1;
    return 0;
}

int model_new(struct store *store, const struct clock *clock, uint64_t silent_after_ms,
              struct model **ret, struct error *err)
{
    AUTO(model) model = xcalloc(1, sizeof(*model));
    model->store = store;
    model->clock = clock;
    model->silent_after_ms = silent_after_ms;
    pthread_mutex_init(&model->writer, NULL);
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
    /* Else a stream of checks could keep heartbeats out for ever. */
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&model->lock, &attributes);
    pthread_rwlockattr_destroy(&attributes);
    model->generation = 1;
    if (load(model, err) < 0)
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

static void profile_free(void *item)
{
    struct profile *profile = item;
    free(profile->sha256);
    cpu_profile_free(profile->cpu);
    free(profile);
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
    free_all(&model->profiles, profile_free);
    pthread_rwlock_destroy(&model->lock);
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
