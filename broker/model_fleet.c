/* SPDX-License-Identifier: Apache-2.0 */
/* model_fleet.c - changes to nodes and pools, and the epochs that follow from
 * them. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "digest.h"
#include "drift.h"
#include "log.h"

#define SEEN_SAVE_MS                                        \
    60000 /* how often "last heard of" reaches the database \
           */

void mask_change_make(struct mask_change *change, struct pool *pool, struct cpu_profile *removed,
                      struct cpu_profile *added)
{
    *change = (struct mask_change){.pool = pool, .removed = removed, .added = added};
    if (removed)
        mask_remove(pool->mask, removed);
    if (added)
        mask_add(pool->mask, added);
    change->profile = mask_profile(pool->mask);
    if (change->profile && pool->profile && cpu_profile_equal(change->profile, pool->profile))
        memcpy(change->digest, pool->digest, sizeof(change->digest));
    else if (change->profile)
        mask_profile_digest(change->profile, change->digest);
    change->epoch = pool->epoch + (strcmp(change->digest, pool->digest) != 0);
}

static size_t name_bytes(const struct pool *pool, const struct node *joins)
{
    size_t bytes = joins ? strlen(joins->name) : 0;
    struct node *node = NULL;
    SORTED_EACH(&pool->members, node)
    bytes += strlen(node->name);
    return bytes;
}

static char *put_name(char *end, const char *name)
{
    *end++ = '"';
    while (*name)
        *end++ = *name++;
    *end++ = '"';
    *end++ = ',';
    return end;
}

/* A JSON array of the members' names, by name: written by hand, since they may be many. A name
 * needs no escapes. The caller owns it. */
static char *member_names(const struct pool *pool, const struct node *joins,
                          const struct node *leaves)
{
    char *text = xmalloc((pool->members.count + 1) * sizeof("\"\",") + name_bytes(pool, joins) + 3);
    char *end = text;
    *end++ = '[';
    for (size_t i = 0, behind = joins ? sorted_behind(&pool->members, joins->name) : SIZE_MAX;
         i <= pool->members.count; i++) {
        if (i == behind)
            end = put_name(end, joins->name);
        if (i < pool->members.count && pool->members.items[i] != leaves)
            end = put_name(end, ((const struct node *)pool->members.items[i])->name);
    }
    if (end[-1] == ',')
        end--;
    memcpy(end, "]", 2);
    return text;
}

int mask_change_store(struct model *model, const struct mask_change *change,
                      const struct node *joins, const struct node *leaves, struct error *err)
{
    if (change->epoch == change->pool->epoch)
        return 0;
    autofree char *members = member_names(change->pool, joins, leaves);
    autojson *mask = change->profile ? mask_profile_to_json(change->profile) : NULL;
    autofree char *mask_text = mask ? json_text(mask) : NULL;
    const struct store_epoch row = {
        .pool = change->pool->name,
        .epoch = change->epoch,
        .digest = change->digest,
        .mask = mask_text,
        .members = members,
        .created_at_ms = clock_unix_ms(model->clock),
    };
    return store_epoch_add(model->store, &row, err);
}

void pool_touch(struct model *model, struct pool *pool)
{
    pool->revision = ++model->revisions;
}

void pool_count_kind(struct pool *pool, struct cpu_profile *cpu, int step)
{
    size_t at = 0;
    if (!cpu)
        return;
    while (at < pool->kind_count && pool->kinds[at].cpu != cpu)
        at++;
    if (at == pool->kind_count) {
        assert(step > 0);
        pool->kinds = xrealloc(pool->kinds, (at + 1) * sizeof(*pool->kinds));
        pool->kinds[pool->kind_count++] = (struct pool_kind){cpu, 0};
    }
    pool->kinds[at].count += (size_t)step;
    if (pool->kinds[at].count == 0)
        pool->kinds[at] = pool->kinds[--pool->kind_count];
}

void mask_change_apply(struct model *model, struct mask_change *change)
{
    struct pool *pool = change->pool;
    pool_touch(model, pool);
    pool_count_kind(pool, change->removed, -1);
    pool_count_kind(pool, change->added, 1);
    if (change->epoch != pool->epoch)
        log_info("the pool's mask changed", LOG_STR("pool", pool->name),
                 LOG_INT("epoch", change->epoch), LOG_STR("digest", change->digest));
    cpu_profile_free(pool->profile);
    pool->profile = steal_ptr(&change->profile);
    pool->epoch = change->epoch;
    memcpy(pool->digest, change->digest, sizeof(pool->digest));
}

void mask_change_undo(struct mask_change *change)
{
    if (change->added)
        mask_remove(change->pool->mask, change->added);
    if (change->removed)
        mask_add(change->pool->mask, change->removed);
    cpu_profile_free(steal_ptr(&change->profile));
}

void node_take_report(struct node *node, const struct profile *profile)
{
    node->profile = profile;
    node->kernel = profile->kernel;
    node->engines = profile->engines->json;
}

static struct store_node node_row(const struct node *node)
{
    return (struct store_node){
        .name = node->name,
        .imported = node->imported,
        .report_sha256 = node->profile ? node->profile->sha256 : NULL,
        .version = node->version,
        .boot_id = node->boot_id,
        .image_address = node->image_address,
        .created_at_ms = node->created_at_ms,
        .seen_at_ms = node->seen_at_ms,
    };
}

static struct node *node_new(struct model *model, const char *name, bool imported)
{
    struct node *node = xcalloc(1, sizeof(*node));
    char random[13];
    random_hex(6, random);
    node->name = xstrdup(name);
    node->imported = imported;
    node->created_at_ms = clock_unix_ms(model->clock);
    node->seen_monotonic_ms = node->stray_logged_ms = -1;
    node->generation = strtoull(random, NULL, 16);
    return node;
}

/* What a new report of a node changes: the masks of its pools, the ledgers of
 * its workloads. */
struct report_change {
    struct node *node;
    const struct profile *profile;
    struct mask_change *masks; /* owned */
    size_t mask_count;
    struct pool *
        *refused; /* owned array; what the node must leave, being below the minimum level */
    size_t refused_count;
    struct fleet_events events;
};

static void report_change_done(struct report_change *change)
{
    free(change->masks);
    free(change->refused);
    fleet_events_done(&change->events);
}

/* The first report of a member that joined without one ends its joining. */
static bool refuses(struct report_change *change, const struct mask_change *mask)
{
    const struct pool *pool = mask->pool;
    struct error why;
    if (change->node->profile ||
        pool_policy_check_join(&pool->policy, pool->name, change->node->name, mask->added,
                               pool->profile, mask->profile, &why) == 0)
        return false;
    json_object *detail = json_object_new_object();
    json_put_str(detail, "summary", why.message);
    json_put_str(detail, "level", cpu_profile_level(mask->added));
    json_put_str(detail, "min_level", pool->policy.min_level);
    fleet_events_add(&change->events, FLEET_POOL_JOIN_REFUSED, change->node->name, pool->name, NULL,
                     detail);
    return true;
}

static void report_change_make(struct model *model, struct report_change *change)
{
    struct node *node = change->node;
    struct pool *pool = NULL;
    change->masks = xcalloc(model->pools.count, sizeof(*change->masks));
    change->refused = xcalloc(model->pools.count, sizeof(struct pool *));
    SORTED_EACH(&model->pools, pool)
    {
        struct mask_change *mask = &change->masks[change->mask_count];
        if (!model_is_member(pool, node))
            continue;
        mask_change_make(mask, pool, node->profile ? node->profile->cpu : NULL,
                         change->profile->cpu);
        if (refuses(change, mask)) {
            mask_change_undo(mask);
            change->refused[change->refused_count++] = pool;
        } else {
            change->mask_count++;
        }
    }
}

/* What the report means for masks and workloads. Nothing, where the old report cannot be read. */
static void report_change_judge(struct model *model, struct report_change *change,
                                json_object *report)
{
    const struct node *node = change->node;
    struct cpu_profile *before = node->profile ? node->profile->cpu : NULL;
    autofree char *text = NULL;
    autojson *old = NULL;
    if (before && store_report_get(model->store, node->profile->sha256, &text, NULL) == 0 &&
        json_parse(text, strlen(text), &old, NULL) == 0)
        drift_node(&change->events, node->name, old, report, before, change->profile->cpu);
    for (size_t i = 0; i < change->mask_count; i++) {
        const struct pool *pool = change->masks[i].pool;
        const struct drift drift = {
            .model = model,
            .pool = pool,
            .cause = before ? DRIFT_REPORT : DRIFT_JOIN,
            .node = node,
            .before = before,
            .after = change->profile->cpu,
            .mix_before = pool->policy.mix_vendors,
            .mix_after = pool->policy.mix_vendors,
            .change = &change->masks[i],
        };
        drift_pool(&drift, &change->events);
    }
}

static bool lives_on(const struct workload *workload, const struct node *node)
{
    return workload->state != LIFE_EXITED && strcmp(workload->node, node->name) == 0;
}

/* The node's own word, or its report's; NULL for neither. */
static const char *boot_id_told(const struct node *node, json_object *report)
{
    const char *told = json_str(json_member(report, "os"), "boot_id");
    if (node->boot_id)
        return node->boot_id;
    return *told ? told : NULL;
}

static int report_change_store(struct model *model, const struct report_change *change,
                               bool imported, json_object *report, struct error *err)
{
    autofree char *text = json_canonical(report);
    struct node *node = change->node;
    int64_t now_ms = clock_unix_ms(model->clock);
    if (store_report_put(model->store, change->profile->sha256, text, now_ms, err) < 0 ||
        model_facts_store(model, change->profile, err) < 0)
        return -1;
    struct store_node row = node_row(node);
    row.report_sha256 = change->profile->sha256;
    row.boot_id = boot_id_told(node, report);
    row.imported = imported;
    if (store_node_put(model->store, &row, err) < 0)
        return -1;
    for (size_t i = 0; i < change->mask_count; i++)
        if (mask_change_store(model, &change->masks[i], NULL, NULL, err) < 0)
            return -1;
    for (size_t i = 0; i < change->refused_count; i++)
        if (store_member_remove(model->store, change->refused[i]->name, node->name, err) < 0)
            return -1;
    struct workload *workload = NULL;
    SORTED_EACH(&model->workloads, workload)
    {
        if (lives_on(workload, node) &&
            model_workload_store_exposure_locked(model, workload, node->name, change->profile,
                                                 now_ms, err) < 0)
            return -1;
    }
    return fleet_events_store(model, &change->events, err);
}

static int report_change_commit(struct model *model, const struct report_change *change,
                                bool imported, json_object *report, struct error *err)
{
    if (store_begin(model->store, err) < 0)
        return -1;
    if (report_change_store(model, change, imported, report, err) < 0) {
        store_rollback(model->store);
        return -1;
    }
    return store_commit(model->store, err);
}

static void report_change_apply(struct model *model, struct report_change *change, bool imported,
                                json_object *report)
{
    struct node *node = change->node;
    struct workload *workload = NULL;
    model_write_lock(model);
    if (sorted_find(&model->nodes, node->name) != node)
        sorted_add(&model->nodes, node);
    node->imported = imported;
    for (size_t i = 0; i < change->mask_count; i++)
        mask_change_apply(model, &change->masks[i]);
    for (size_t i = 0; i < change->refused_count; i++) {
        sorted_remove(&change->refused[i]->members, node);
        pool_touch(model, change->refused[i]);
    }
    SORTED_EACH(&model->workloads, workload)
    if (lives_on(workload, node))
        model_workload_expose(model, workload, node->name, change->profile,
                              clock_unix_ms(model->clock));
    node_take_report(node, change->profile);
    if (!node->boot_id)
        node->boot_id = xstrdup(boot_id_told(node, report));
    model->generation++;
    model_unlock(model);
}

int model_node_report(struct model *model, const char *name, bool imported, json_object *report,
                      bool *ret_changed, char ret_sha256[65], struct error *err)
{
    autofree char *canonical = json_canonical(report);
    sha256_hex(canonical, strlen(canonical), ret_sha256);
    *ret_changed = false;
    WRITER(model);
    struct node *node = sorted_find(&model->nodes, name);
    if (!node && !imported)
        return error_set(err, ERROR_NOT_FOUND,
                         "no node '%s' yet: its agent sends a heartbeat before its report", name);
    if (node && !node->imported && imported)
        return error_set(err, ERROR_CONFLICT,
                         "node '%s' has an agent that reports for it; import under another name",
                         name);
    if (node && node->profile && strcmp(node->profile->sha256, ret_sha256) == 0)
        return 0;
    struct report_change change = {.profile = model_profile(model, ret_sha256, report, err)};
    if (!change.profile)
        return -1;
    change.node = node ? node : node_new(model, name, true);
    report_change_make(model, &change);
    report_change_judge(model, &change, report);
    int rc = report_change_commit(model, &change, imported, report, err);
    if (rc == 0) {
        report_change_apply(model, &change, imported, report);
        *ret_changed = true;
        log_info(imported ? "a report was imported" : "a node reported its CPUs",
                 LOG_STR("node", name), LOG_STR("sha256", ret_sha256));
        fleet_events_tell(model, &change.events);
    } else {
        for (size_t i = 0; i < change.mask_count; i++)
            mask_change_undo(&change.masks[i]);
        if (!node)
            node_free(change.node);
    }
    report_change_done(&change);
    return rc;
}

static bool is_new_fact(const char *known, const char *told)
{
    return told && !same_text(known, told);
}

static void take_fact(char **known, const char *told)
{
    if (!is_new_fact(*known, told))
        return;
    free(*known);
    *known = xstrdup(told);
}

static int first_heartbeat(struct model *model, const char *name, const struct node_facts *facts,
                           struct error *err)
{
    int64_t now_ms = clock_unix_ms(model->clock);
    struct pool *pool = facts->pool ? sorted_find(&model->pools, facts->pool) : NULL;
    struct node *node = node_new(model, name, false);
    take_fact(&node->version, facts->version);
    take_fact(&node->boot_id, facts->boot_id);
    take_fact(&node->image_address, facts->image_address);
    node->seen_at_ms = node->saved_at_ms = now_ms;
    const struct store_node row = node_row(node);
    int rc = store_begin(model->store, err);
    if (rc == 0) {
        if (store_node_put(model->store, &row, err) < 0 ||
            (pool && store_member_add(model->store, pool->name, name, now_ms, err) < 0)) {
            store_rollback(model->store);
            rc = -1;
        } else {
            rc = store_commit(model->store, err);
        }
    }
    if (rc < 0) {
        node_free(node);
        return -1;
    }
    model_write_lock(model);
    node->seen_monotonic_ms = clock_monotonic_ms(model->clock);
    node->free_bytes = facts->free_bytes;
    sorted_add(&model->nodes, node);
    if (pool) {
        sorted_add(&pool->members, node);
        pool_touch(model, pool);
    }
    model->generation++;
    model_unlock(model);
    log_info("a new node", LOG_STR("node", name), LOG_STR("pool", pool ? pool->name : ""));
    if (!pool && facts->pool)
        log_warn("the node names a pool that is not there; it is a member of none",
                 LOG_STR("node", name), LOG_STR("pool", facts->pool));
    return 0;
}

int model_node_seen_locked(struct model *model, const char *name, const struct node_facts *facts,
                           struct error *err)
{
    struct node *node = sorted_find(&model->nodes, name);
    if (!node)
        return first_heartbeat(model, name, facts, err);
    int64_t now_ms = clock_unix_ms(model->clock);
    bool changed = node->imported || is_new_fact(node->version, facts->version) ||
                   is_new_fact(node->boot_id, facts->boot_id) ||
                   is_new_fact(node->image_address, facts->image_address);
    bool save = changed || now_ms - node->saved_at_ms >= SEEN_SAVE_MS || now_ms < node->saved_at_ms;
    if (changed) {
        struct store_node row = node_row(node);
        row.imported = false;
        row.seen_at_ms = now_ms;
        row.version = facts->version ? facts->version : row.version;
        row.boot_id = facts->boot_id ? facts->boot_id : row.boot_id;
        row.image_address = facts->image_address ? facts->image_address : row.image_address;
        if (store_node_put(model->store, &row, err) < 0)
            return -1;
    } else if (save && store_node_touch(model->store, name, now_ms, err) < 0) {
        return -1;
    }
    model_write_lock(model);
    if (model_node_status(model, node) != NODE_LIVE)
        log_info("the node is live", LOG_STR("node", name));
    if (changed) {
        take_fact(&node->version, facts->version);
        take_fact(&node->boot_id, facts->boot_id);
        take_fact(&node->image_address, facts->image_address);
        node->imported = false;
        model->generation++;
    }
    if (save)
        node->saved_at_ms = now_ms;
    node->seen_at_ms = now_ms;
    node->seen_monotonic_ms = clock_monotonic_ms(model->clock);
    node->free_bytes = facts->free_bytes;
    model_unlock(model);
    return 0;
}

static int check_unused(struct model *model, const struct node *node, bool force, struct error *err)
{
    struct workload *workload = NULL;
    SORTED_EACH(&model->workloads, workload)
    if (lives_on(workload, node) && !force)
        return error_set(err, ERROR_CONFLICT,
                         "node '%s' holds workload '%s' (%s); move or stop it first, or, if the "
                         "machine is gone for good, give the workload up with --force",
                         node->name, workload->name, life_state_name(workload->state));
    struct move *move = NULL;
    SORTED_EACH(&model->moves, move)
    if (!migration_state_is_final(move->state) &&
        (strcmp(move->from, node->name) == 0 || strcmp(move->to, node->name) == 0))
        return error_set(err, ERROR_CONFLICT, "node '%s' is party to migration %s (%s) of '%s'",
                         node->name, move->id, migration_state_name(move->state), move->workload);
    if (model_node_status(model, node) == NODE_LIVE)
        return error_set(err, ERROR_CONFLICT,
                         "node '%s' is live and would be back with its next heartbeat; stop its "
                         "agent first",
                         node->name);
    return 0;
}

void model_forget_exited(struct model *model, const char *node, const char *pool)
{
    for (size_t i = model->workloads.count; i-- > 0;) {
        struct workload *workload = model->workloads.items[i];
        if (workload->state != LIFE_EXITED || (node && strcmp(workload->node, node) != 0) ||
            (pool && strcmp(workload->pool, pool) != 0))
            continue;
        sorted_remove(&model->workloads, workload);
        workload_free(workload);
    }
}

/* What a target that is gone had left to discard went with it. */
static void forget_moves(struct model *model, const char *node)
{
    for (size_t i = model->moves.count; i-- > 0;) {
        struct move *move = model->moves.items[i];
        if (!migration_state_is_final(move->state) || strcmp(move->to, node) != 0)
            continue;
        sorted_remove(&model->moves, move);
        move_free(move);
    }
}

/* What lives on a node that is taken away by force. */
static void note_lost(struct model *model, const struct node *node, struct fleet_events *events,
                      json_object *names)
{
    struct workload *workload = NULL;
    SORTED_EACH(&model->workloads, workload)
    {
        if (!lives_on(workload, node))
            continue;
        autofree char *summary =
            xasprintf("given up with node '%s', where it was %s; its ledger stays, and its name is "
                      "free",
                      node->name, life_state_name(workload->state));
        json_object *detail = json_object_new_object();
        json_put_str(detail, "summary", summary);
        json_put_str(detail, "state", life_state_name(workload->state));
        json_put_str(detail, "need_sha256",
                     workload->seen_count ? workload->seen[workload->seen_count - 1].need->sha256
                                          : NULL);
        fleet_events_add(events, FLEET_WORKLOAD_LOST, node->name, workload->pool, workload->name,
                         detail);
        json_object_array_add(names, json_object_new_string(workload->name));
    }
}

/* The lock is held for writing. */
static void lose_workloads(struct model *model, const struct node *node)
{
    struct workload *workload = NULL;
    SORTED_EACH(&model->workloads, workload)
    {
        if (!lives_on(workload, node))
            continue;
        model_workload_set(model, workload, workload->node, LIFE_EXITED, -1, -1);
        workload->lost_at_ms = clock_unix_ms(model->clock);
    }
}

static int node_delete_store(struct model *model, struct mask_change *masks, size_t count,
                             const struct node *node, bool loses, const struct fleet_events *events,
                             struct error *err)
{
    if (store_begin(model->store, err) < 0)
        return -1;
    int rc = loses ? store_node_lose(model->store, node->name, clock_unix_ms(model->clock), err)
                   : store_node_delete(model->store, node->name, err);
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = mask_change_store(model, &masks[i], NULL, node, err);
    if (rc == 0)
        rc = fleet_events_store(model, events, err);
    if (rc == 0)
        return store_commit(model->store, err);
    store_rollback(model->store);
    return -1;
}

int model_node_delete(struct model *model, const char *name, bool force, json_object **ret_lost,
                      struct error *err)
{
    WRITER(model);
    struct node *node = model_node(model, name, err);
    if (!node || check_unused(model, node, force, err) < 0)
        return -1;
    autojson *lost = json_object_new_array();
    autofree struct mask_change *masks = xcalloc(model->pools.count, sizeof(*masks));
    size_t count = 0;
    struct pool *pool = NULL;
    struct fleet_events events = {0};
    SORTED_EACH(&model->pools, pool)
    if (model_is_member(pool, node)) {
        mask_change_make(&masks[count], pool, node->profile ? node->profile->cpu : NULL, NULL);
        model_judge_leave(model, &masks[count++], node, &events);
    }
    note_lost(model, node, &events, lost);
    bool loses = json_array_size(lost) > 0;
    if (node_delete_store(model, masks, count, node, loses, &events, err) < 0) {
        for (size_t i = 0; i < count; i++)
            mask_change_undo(&masks[i]);
        fleet_events_done(&events);
        return -1;
    }
    model_write_lock(model);
    for (size_t i = 0; i < count; i++) {
        mask_change_apply(model, &masks[i]);
        sorted_remove(&masks[i].pool->members, node);
    }
    if (loses)
        lose_workloads(model, node);
    else
        model_forget_exited(model, name, NULL);
    forget_moves(model, name);
    sorted_remove(&model->nodes, node);
    model->generation++;
    model_unlock(model);
    log_info("the node was removed", LOG_STR("node", name),
             LOG_INT("workloads_lost", (int64_t)json_array_size(lost)));
    fleet_events_tell(model, &events);
    fleet_events_done(&events);
    node_free(node);
    if (ret_lost)
        *ret_lost = steal_ptr(&lost);
    return 0;
}
