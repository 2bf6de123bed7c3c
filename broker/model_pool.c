/* SPDX-License-Identifier: Apache-2.0 */
/* model_pool.c - changes to pools: their policies, and who is a member. */
#include <stdlib.h>
#include <string.h>

#include "drift.h"
#include "log.h"

/* Who may no longer cross from one vendor to the other. */
static void judge_policy(struct model *model, const struct pool *pool,
                         const struct pool_policy *policy, struct fleet_events *events)
{
    if (!pool || pool->policy.mix_vendors == policy->mix_vendors || policy->mix_vendors)
        return;
    const struct drift drift = {.model = model,
                                .pool = pool,
                                .cause = DRIFT_POLICY,
                                .mix_before = true,
                                .mix_after = false};
    drift_pool(&drift, events);
}

static int policy_store(struct model *model, const struct store_pool *row,
                        const struct fleet_events *events, struct error *err)
{
    if (store_begin(model->store, err) < 0)
        return -1;
    if (store_pool_put(model->store, row, err) < 0 || fleet_events_store(model, events, err) < 0) {
        store_rollback(model->store);
        return -1;
    }
    return store_commit(model->store, err);
}

int model_pool_put(struct model *model, const char *name, json_object *policy_json, bool *ret_made,
                   struct error *err)
{
    WRITER(model);
    struct pool *pool = sorted_find(&model->pools, name);
    struct fleet_events events = {0};
    struct pool_policy policy = pool ? pool->policy : pool_policy_default();
    if (policy_json && pool_policy_decode(policy_json, &policy, err) < 0)
        return -1;
    const struct store_pool row = {
        .name = name,
        .mix_vendors = policy.mix_vendors,
        .min_level = policy.min_level,
        .evidence = evidence_policy_name(policy.evidence),
        .islands = island_policy_name(policy.islands),
        .created_at_ms = clock_unix_ms(model->clock),
    };
    judge_policy(model, pool, &policy, &events);
    if (policy_store(model, &row, &events, err) < 0) {
        fleet_events_done(&events);
        return -1;
    }
    *ret_made = !pool;
    model_write_lock(model);
    if (!pool) {
        pool = xcalloc(1, sizeof(*pool));
        pool->name = xstrdup(name);
        pool->created_at_ms = row.created_at_ms;
        pool->mask = mask_new();
        pool_touch(model, pool);
        sorted_add(&model->pools, pool);
    }
    pool->policy = policy;
    model->generation++;
    model_unlock(model);
    fleet_events_tell(model, &events);
    fleet_events_done(&events);
    return 0;
}

int model_pool_delete(struct model *model, const char *name, struct error *err)
{
    WRITER(model);
    struct pool *pool = model_pool(model, name, err);
    if (!pool)
        return -1;
    if (strcmp(name, "default") == 0)
        return error_set(err, ERROR_CONFLICT, "the pool 'default' always exists");
    if (pool->members.count)
        return error_set(err, ERROR_CONFLICT, "pool '%s' has %zu members; remove them first", name,
                         pool->members.count);
    struct workload *workload = NULL;
    SORTED_EACH(&model->workloads, workload)
    if (workload->state != LIFE_EXITED && strcmp(workload->pool, name) == 0)
        return error_set(err, ERROR_CONFLICT, "pool '%s' holds workload '%s' on node '%s'", name,
                         workload->name, workload->node);
    if (store_begin(model->store, err) < 0)
        return -1;
    if (store_pool_delete(model->store, name, err) < 0) {
        store_rollback(model->store);
        return -1;
    }
    if (store_commit(model->store, err) < 0)
        return -1;
    model_write_lock(model);
    model_forget_exited(model, NULL, name);
    sorted_remove(&model->pools, pool);
    model->generation++;
    model_unlock(model);
    pool_free(pool);
    return 0;
}

static int membership_store(struct model *model, const struct mask_change *mask,
                            const struct node *node, bool joins, const struct fleet_events *events,
                            struct error *err)
{
    const char *pool = mask->pool->name;
    if (store_begin(model->store, err) < 0)
        return -1;
    int rc =
        joins ? store_member_add(model->store, pool, node->name, clock_unix_ms(model->clock), err)
              : store_member_remove(model->store, pool, node->name, err);
    if (rc == 0)
        rc = mask_change_store(model, mask, joins ? node : NULL, joins ? NULL : node, err);
    if (rc == 0)
        rc = fleet_events_store(model, events, err);
    if (rc == 0)
        return store_commit(model->store, err);
    store_rollback(model->store);
    return -1;
}

void model_judge_leave(struct model *model, const struct mask_change *mask, const struct node *node,
                       struct fleet_events *events)
{
    const struct drift drift = {.model = model,
                                .pool = mask->pool,
                                .cause = DRIFT_LEAVE,
                                .node = node,
                                .before = mask->removed,
                                .mix_before = mask->pool->policy.mix_vendors,
                                .mix_after = mask->pool->policy.mix_vendors,
                                .change = mask};
    drift_pool(&drift, events);
}

static int judge_join(struct model *model, const struct mask_change *mask, const struct node *node,
                      struct fleet_events *events, struct error *err)
{
    const struct pool *pool = mask->pool;
    const struct drift drift = {.model = model,
                                .pool = pool,
                                .cause = DRIFT_JOIN,
                                .node = node,
                                .after = mask->added,
                                .mix_before = pool->policy.mix_vendors,
                                .mix_after = pool->policy.mix_vendors,
                                .change = mask};
    if (pool_policy_check_join(&pool->policy, pool->name, node->name, mask->added, pool->profile,
                               mask->profile, err) < 0)
        return -1;
    if (mask->added)
        drift_pool(&drift, events);
    return 0;
}

static int change_membership(struct model *model, struct pool *pool, struct node *node, bool joins,
                             struct error *err)
{
    struct mask_change mask;
    struct fleet_events events = {0};
    int rc = 0;
    struct cpu_profile *cpu = node->profile ? node->profile->cpu : NULL;
    mask_change_make(&mask, pool, joins ? NULL : cpu, joins ? cpu : NULL);
    if (joins)
        rc = judge_join(model, &mask, node, &events, err);
    else
        model_judge_leave(model, &mask, node, &events);
    if (rc < 0 || membership_store(model, &mask, node, joins, &events, err) < 0) {
        mask_change_undo(&mask);
        fleet_events_done(&events);
        return -1;
    }
    model_write_lock(model);
    if (joins)
        sorted_add(&pool->members, node);
    else
        sorted_remove(&pool->members, node);
    mask_change_apply(model, &mask);
    model->generation++;
    model_unlock(model);
    fleet_events_tell(model, &events);
    fleet_events_done(&events);
    return 0;
}

int model_pool_join(struct model *model, const char *pool_name, const char *node_name,
                    struct error *err)
{
    WRITER(model);
    struct pool *pool = model_pool(model, pool_name, err);
    struct node *node = pool ? model_node(model, node_name, err) : NULL;
    if (!node)
        return -1;
    return model_is_member(pool, node) ? 0 : change_membership(model, pool, node, true, err);
}

int model_pool_leave(struct model *model, const char *pool_name, const char *node_name,
                     struct error *err)
{
    WRITER(model);
    struct pool *pool = model_pool(model, pool_name, err);
    struct node *node = pool ? model_node(model, node_name, err) : NULL;
    if (!node)
        return -1;
    if (!model_is_member(pool, node))
        return error_set(err, ERROR_NOT_FOUND, "node '%s' is no member of pool '%s'", node_name,
                         pool_name);
    return change_membership(model, pool, node, false, err);
}
