/* SPDX-License-Identifier: Apache-2.0 */
/* model_load.c - the model from the database, at start. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "digest.h"
#include "log.h"
#include "model_evidence.h"
#include "model_internal.h"
#include "model_mask.h"

#define MOVES_MAX    100000
#define SAVE_AT_ONCE 1000

static int parse_stored(const char *what, const char *text, json_object **ret, struct error *err)
{
    if (json_parse(text, strlen(text), ret, err) < 0) {
        err->kind = ERROR_INTERNAL;
        return error_wrap(err, "database: %s", what);
    }
    return 0;
}

/* What is read, and what is to be written once it is: what an older cpubroker did not write, or
 * reckoned by other rules. */
struct loading {
    struct model *model;
    const struct profile **fresh; /* owned array; reports that had to be read */
    size_t fresh_count, fresh_room;
    size_t needs_anew; /* lines of ledgers */
};

static int load_facts(void *ctx, const struct store_facts *row, struct error *err)
{
    struct loading *loading = ctx;
    struct model *model = loading->model;
    struct error why = {0};
    const struct cpu_record *record = NULL;
    const struct shared_text *engines = sorted_find(&model->texts, row->engines);
    if (strcmp(row->rules, model_rules()) != 0)
        return 0; /* load_profile will read the report */
    if (model_cpu_load(model, row->profile_sha256, &record, &why, err) < 0)
        return error_wrap(err, "report %s", row->report_sha256);
    if (!record) {
        log_warn("a profile in the database is damaged; its reports are read again",
                 LOG_STR("profile", row->profile_sha256), LOG_STR("error", why.message));
        return 0;
    }
    if (!engines) {
        autojson *json = NULL;
        if (parse_stored("report's engines", row->engines, &json, err) < 0)
            return error_wrap(err, "report %s", row->report_sha256);
        engines = model_text(model, row->engines, json);
    }
    model_profile_add(model, row->report_sha256, record, row->kernel, engines);
    return 0;
}

/* A report that the database has, as a profile. */
static const struct profile *load_profile(struct loading *loading, const char *sha256,
                                          struct error *err)
{
    struct model *model = loading->model;
    const struct profile *profile = sorted_find(&model->profiles, sha256);
    if (profile)
        return profile;
    autofree char *text = NULL;
    autojson *json = NULL;
    if (store_report_get(model->store, sha256, &text, err) < 0 ||
        parse_stored("report", text, &json, err) < 0)
        return NULL;
    profile = model_profile(model, sha256, json, err);
    if (!profile) {
        error_wrap(err, "report %s", sha256);
        return NULL;
    }
    if (loading->fresh_count == loading->fresh_room) {
        loading->fresh_room = loading->fresh_room ? 2 * loading->fresh_room : 64;
        loading->fresh = xrealloc(loading->fresh, loading->fresh_room * sizeof(struct profile *));
    }
    loading->fresh[loading->fresh_count++] = profile;
    return profile;
}

static int load_node(void *ctx, const struct store_node *row, struct error *err)
{
    struct loading *loading = ctx;
    struct model *model = loading->model;
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
    const struct profile *profile = load_profile(loading, row->report_sha256, err);
    if (!profile)
        return error_wrap(err, "node '%s'", row->name);
    node_take_report(node, profile);
    return 0;
}

static int load_pool(void *ctx, const struct store_pool *row, struct error *err)
{
    struct loading *loading = ctx;
    struct model *model = loading->model;
    struct pool *pool = xcalloc(1, sizeof(*pool));
    pool->name = xstrdup(row->name);
    pool->policy = pool_policy_default();
    pool->policy.mix_vendors = row->mix_vendors;
    pool->created_at_ms = row->created_at_ms;
    pool->epoch = row->epoch;
    snprintf(pool->digest, sizeof(pool->digest), "%s", row->digest ? row->digest : "");
    pool->mask = mask_new();
    pool_touch(model, pool);
    sorted_add(&model->pools, pool);
    if (pool_policy_from_names(row->min_level, row->evidence, row->islands, &pool->policy, err) < 0)
        return error_wrap(err, "database: pool '%s'", row->name);
    return 0;
}

static int load_member(void *ctx, const char *pool_name, const char *node_name, struct error *err)
{
    struct loading *loading = ctx;
    struct model *model = loading->model;
    struct pool *pool = sorted_find(&model->pools, pool_name);
    struct node *node = sorted_find(&model->nodes, node_name);
    if (!pool || !node)
        return error_set(err, ERROR_INTERNAL, "database: member '%s' of pool '%s' is not there",
                         node_name, pool_name);
    sorted_add(&pool->members, node);
    if (!node->profile)
        return 0;
    mask_add(pool->mask, node->profile->cpu);
    pool_count_kind(pool, node->profile->cpu, 1);
    return 0;
}

static int load_workload(void *ctx, const struct store_workload *row, struct error *err)
{
    struct loading *loading = ctx;
    struct model *model = loading->model;
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
    workload->lost_at_ms = row->lost_at_ms;
    sorted_add(&model->workloads, workload);
    if (model_mask_load(model, row, workload, err) < 0)
        return -1;
    if (life_state_from_name(row->state, &workload->state) < 0)
        return error_set(err, ERROR_INTERNAL, "database: workload '%s': state '%s'", row->name,
                         row->state);
    return parse_stored("workload's command", row->command, &workload->command, err);
}

/* Whether the database's record says what its name does; each is looked at once. */
static int check_record(struct model *model, struct cpu_record *record, struct error *err)
{
    char sha256[65];
    autofree char *text = cpu_profile_record(record->cpu, sha256), *stored = NULL;
    if (record->checked)
        return 0;
    record->checked = true;
    if (store_profile_get(model->store, record->sha256, &stored, err) < 0)
        return -1;
    if (strcmp(stored, text) != 0)
        log_warn("a profile in the database is damaged; what the reports amount to is used instead",
                 LOG_STR("profile", record->sha256));
    return 0;
}

/* The record says something else than the reports of the ledger, by the same rules: somebody has
 * changed the database, or it is damaged. Nobody can say which of the two is true, so the workload
 * needs both, which can only refuse more. */
static int settle_need(struct model *model, const struct workload *workload, struct seen *line,
                       const char *stored, struct error *err)
{
    struct error why = {0};
    const struct cpu_record *record = NULL;
    if (model_cpu_load(model, stored, &record, &why, err) < 0)
        return -1;
    log_warn("the recorded need of a workload is not what its ledger amounts to: the database was "
             "changed or is damaged. The workload is judged by both together, so a move may be "
             "refused that was allowed before; it ends when the workload is started anew",
             LOG_STR("workload", workload->name), LOG_STR("node", line->node),
             LOG_STR("recorded", stored), LOG_STR("reckoned", line->need->sha256),
             LOG_STR("record", record ? "readable" : why.message));
    if (record)
        line->need = model_cpu_join(model, line->need, record);
    return 0;
}

static int load_seen(void *ctx, const struct store_seen *row, struct error *err)
{
    struct loading *loading = ctx;
    struct model *model = loading->model;
    struct workload *workload = sorted_find(&model->workloads, row->workload);
    const struct profile *profile = load_profile(loading, row->report_sha256, err);
    if (!workload || !profile)
        return error_wrap(err, "ledger of workload '%s'", row->workload);
    model_workload_add_line(model, workload, row->node, profile, row->since_at_ms, row->masked);
    struct seen *line = &workload->seen[workload->seen_count - 1];
    line->unsaved = !row->need_sha256 || !same_text(row->need_rules, model_rules());
    loading->needs_anew += line->unsaved;
    if (line->unsaved)
        return 0;
    if (strcmp(row->need_sha256, line->need->sha256) == 0)
        return check_record(model, sorted_find(&model->cpus, line->need->sha256), err);
    if (settle_need(model, workload, line, row->need_sha256, err) < 0)
        return -1;
    workload->need = line->need->cpu;
    return 0;
}

static int load_token(void *ctx, const struct store_token *row, struct error *err)
{
    struct loading *loading = ctx;
    struct model *model = loading->model;
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
    struct loading *loading = ctx;
    struct model *model = loading->model;
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
    mask_change_apply(model, &change);
    return 0;
}

static int save_facts(struct loading *loading, struct error *err)
{
    struct model *model = loading->model;
    int rc = 0;
    if (loading->fresh_count > 0)
        log_info("reports were reckoned anew, which the next start need not do",
                 LOG_INT("reports", (int64_t)loading->fresh_count));
    for (size_t i = 0; rc == 0 && i < loading->fresh_count; i++) {
        bool first = i % SAVE_AT_ONCE == 0;
        bool last = i % SAVE_AT_ONCE == SAVE_AT_ONCE - 1 || i + 1 == loading->fresh_count;
        if (first && store_begin(model->store, err) < 0)
            return -1;
        rc = model_facts_store(model, loading->fresh[i], err);
        if (rc < 0)
            store_rollback(model->store);
        else if (last)
            rc = store_commit(model->store, err);
    }
    return rc;
}

static int save_needs_of(struct model *model, struct workload *workload, struct error *err)
{
    for (size_t i = 0; i < workload->seen_count; i++) {
        struct seen *line = &workload->seen[i];
        const struct store_seen row = {.workload = workload->name,
                                       .node = line->node,
                                       .report_sha256 = line->profile->sha256,
                                       .need_sha256 = line->need->sha256,
                                       .need_rules = model_rules(),
                                       .masked = line->masked};
        if (line->unsaved && (model_cpu_store(model, line->need, err) < 0 ||
                              store_seen_need(model->store, &row, err) < 0))
            return -1;
        line->unsaved = false;
    }
    return 0;
}

static int save_needs(struct loading *loading, struct error *err)
{
    struct model *model = loading->model;
    struct workload *workload = NULL;
    if (loading->needs_anew == 0)
        return 0;
    log_info("needs were reckoned anew from the ledgers",
             LOG_INT("lines", (int64_t)loading->needs_anew));
    if (store_begin(model->store, err) < 0)
        return -1;
    SORTED_EACH(&model->workloads, workload)
    if (save_needs_of(model, workload, err) < 0) {
        store_rollback(model->store);
        return -1;
    }
    return store_commit(model->store, err);
}

static int load_all(struct loading *loading, struct error *err)
{
    struct model *model = loading->model;
    struct store *store = model->store;
    if (store_facts(store, load_facts, loading, err) < 0 ||
        store_nodes(store, load_node, loading, err) < 0 ||
        store_pools(store, load_pool, loading, err) < 0 ||
        store_members(store, load_member, loading, err) < 0 ||
        store_workloads(store, load_workload, loading, err) < 0 ||
        store_seen(store, load_seen, loading, err) < 0 ||
        store_tokens(store, load_token, loading, err) < 0 || model_evidence_load(model, err) < 0 ||
        store_migrations(store, STORE_MIGRATIONS_UNSETTLED, NULL, MOVES_MAX, load_move, loading,
                         err) < 0)
        return -1;
    if (save_facts(loading, err) < 0 || save_needs(loading, err) < 0)
        return -1;
    struct workload *workload = NULL;
    SORTED_EACH(&model->workloads, workload)
    model_mask_settle(model, workload);
    struct pool *pool = NULL;
    SORTED_EACH(&model->pools, pool)
    if (renew_epoch(model, pool, err) < 0)
        return -1;
    return 0;
}

int model_load(struct model *model, struct error *err)
{
    struct loading loading = {.model = model};
    int rc = load_all(&loading, err);
    free(loading.fresh);
    return rc;
}
