/* SPDX-License-Identifier: Apache-2.0 */
/* model_workload.c - workloads: claims, states, and the ledger of what they
 * were exposed to. */
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "model_evidence.h"
#include "model_internal.h"
#include "model_mask.h"

static bool has_line(const struct workload *workload, const char *node,
                     const struct profile *profile, bool masked)
{
    for (size_t i = 0; i < workload->seen_count; i++)
        if (workload->seen[i].profile == profile && workload->seen[i].masked == masked &&
            strcmp(workload->seen[i].node, node) == 0)
            return true;
    return false;
}

bool model_workload_has_seen(const struct workload *workload, const char *node,
                             const struct profile *profile)
{
    return has_line(workload, node, profile, workload_is_held(workload));
}

static const struct cpu_record *need_of(const struct workload *workload)
{
    return workload->seen_count ? workload->seen[workload->seen_count - 1].need : NULL;
}

void model_workload_add_line(struct model *model, struct workload *workload, const char *node,
                             const struct profile *profile, int64_t since_at_ms, bool masked)
{
    if (has_line(workload, node, profile, masked))
        return;
    const struct cpu_record *need =
        model_mask_need(model, &workload->mask, need_of(workload), profile, masked);
    workload->seen = xrealloc(workload->seen, (workload->seen_count + 1) * sizeof(*workload->seen));
    workload->seen[workload->seen_count++] = (struct seen){.node = xstrdup(node),
                                                           .profile = profile,
                                                           .since_at_ms = since_at_ms,
                                                           .need = need,
                                                           .masked = masked};
    workload->need = need->cpu;
}

void model_workload_expose(struct model *model, struct workload *workload, const char *node,
                           const struct profile *profile, int64_t since_at_ms)
{
    model_workload_add_line(model, workload, node, profile, since_at_ms,
                            workload_is_held(workload));
}

int model_workload_store_exposure_locked(struct model *model, const struct workload *workload,
                                         const char *node, const struct profile *profile,
                                         int64_t since_at_ms, struct error *err)
{
    bool masked = workload_is_held(workload);
    const struct cpu_record *need =
        model_mask_need(model, &workload->mask, need_of(workload), profile, masked);
    const struct store_seen row = {.workload = workload->name,
                                   .node = node,
                                   .report_sha256 = profile->sha256,
                                   .since_at_ms = since_at_ms,
                                   .need_sha256 = need->sha256,
                                   .need_rules = model_rules(),
                                   .masked = masked};
    return model_cpu_store(model, need, err) < 0 ? -1 : store_seen_add(model->store, &row, err);
}

int model_workload_store_locked(struct model *model, const struct workload *workload,
                                const char *node, enum life_state state, int64_t pid,
                                int64_t exit_status, struct error *err)
{
    return store_workload_set(model->store, workload->name, node, life_state_name(state), pid,
                              exit_status, err);
}

void model_workload_set(struct model *model, struct workload *workload, const char *node,
                        enum life_state state, int64_t pid, int64_t exit_status)
{
    if (strcmp(workload->node, node) != 0) {
        struct workload_mask *mask = &workload->mask;
        mask->gap = mask->gap ||
                    (mask->grade != MASK_GRADE_OFF && !same_text(mask->told_on, workload->node));
        free(workload->node);
        workload->node = xstrdup(node);
        if (workload->evidence)
            workload->evidence->moved_on = true;
    }
    workload->state = state;
    workload->pid = pid;
    workload->exit_status = exit_status;
    workload->missed = 0;
    workload->lost_at_ms = 0;
    model->generation++;
}

static int claim_store(struct model *model, const struct workload *workload,
                       const struct profile *birth, struct error *err)
{
    autofree char *command = json_text(workload->command);
    const struct store_workload row = {
        .name = workload->name,
        .pool = workload->pool,
        .node = workload->node,
        .state = life_state_name(workload->state),
        .pid = workload->pid,
        .exit_status = workload->exit_status,
        .command = command,
        .dir = workload->dir,
        .adopted = workload->adopted,
        .epoch = workload->epoch,
        .created_at_ms = workload->created_at_ms,
        .mask_grade = mask_grade_name(workload->mask.grade),
        .mask_sha256 = workload->mask.record ? workload->mask.record->sha256 : NULL,
    };
    if (store_begin(model->store, err) < 0)
        return -1;
    if ((workload->mask.record && model_cpu_store(model, workload->mask.record, err) < 0) ||
        store_workload_put(model->store, &row, err) < 0 ||
        store_seen_clear(model->store, row.name, err) < 0 ||
        model_workload_store_exposure_locked(model, workload, workload->node, birth,
                                             workload->created_at_ms, err) < 0) {
        store_rollback(model->store);
        return -1;
    }
    return store_commit(model->store, err);
}

static int check_claim(const struct workload *old, const struct node *node, const char *name,
                       const struct claim *claim, const struct pool *pool, struct error *err)
{
    if (!node->profile)
        return error_set(err, ERROR_CONFLICT,
                         "node '%s' has not reported its CPUs yet, so what '%s' would be "
                         "exposed "
                         "to is unknown; nothing was started, try again in a moment",
                         node->name, name);
    if (!model_is_member(pool, node))
        return error_set(err, ERROR_CONFLICT,
                         "node '%s' is no member of pool '%s'; `cpubroker pools "
                         "join %s %s` adds "
                         "it; nothing was started",
                         node->name, pool->name, pool->name, node->name);
    if (claim->mask != MASK_GRADE_OFF && !pool->profile)
        return error_set(
            err, ERROR_CONFLICT,
            "pool '%s' has no mask: none of its members has reported its CPUs; nothing "
            "was started, try again in a moment",
            pool->name);
    if (!old || old->state == LIFE_EXITED)
        return 0;
    if (old->state == LIFE_STARTING && strcmp(old->node, node->name) == 0)
        return 0; /* the agent asks again after it was cut short */
    return error_set(err, ERROR_CONFLICT,
                     "workload '%s' is on node '%s' already (%s); choose another "
                     "name, or stop it "
                     "there",
                     name, old->node, life_state_name(old->state));
}

int model_workload_claim(struct model *model, const char *node_name, const char *name,
                         const struct claim *claim, struct error *err)
{
    WRITER(model);
    struct node *node = model_node(model, node_name, err);
    struct pool *pool = node ? model_pool(model, claim->pool, err) : NULL;
    struct workload *old = sorted_find(&model->workloads, name);
    if (!pool || check_claim(old, node, name, claim, pool, err) < 0)
        return -1;
    struct move *move = model_move_of(model, name);
    if (move)
        return error_set(err, ERROR_CONFLICT, "workload '%s' is still party to migration %s (%s)",
                         name, move->id, migration_state_name(move->state));
    struct workload *workload = xcalloc(1, sizeof(*workload));
    workload->name = xstrdup(name);
    workload->pool = xstrdup(pool->name);
    workload->node = xstrdup(node_name);
    workload->state = LIFE_STARTING;
    workload->pid = workload->exit_status = -1;
    workload->command = json_object_get(claim->command);
    workload->dir = xstrdup(claim->dir);
    workload->adopted = claim->adopted;
    workload->epoch = pool->epoch;
    workload->mask = (struct workload_mask){.grade = claim->mask, .sites = -1};
    if (claim->mask != MASK_GRADE_OFF)
        workload->mask.record = model_cpu_record(model, pool->profile);
    workload->created_at_ms = clock_unix_ms(model->clock);
    if (claim_store(model, workload, node->profile, err) < 0) {
        workload_free(workload);
        return -1;
    }
    model_write_lock(model);
    if (old)
        sorted_remove(&model->workloads, old);
    sorted_add(&model->workloads, workload);
    model_workload_expose(model, workload, node_name, node->profile, workload->created_at_ms);
    model->generation++;
    model_unlock(model);
    workload_free(old);
    log_info("a workload's name was claimed", LOG_STR("workload", name), LOG_STR("node", node_name),
             LOG_STR("pool", claim->pool), LOG_STR("mask", mask_grade_name(claim->mask)),
             LOG_INT("epoch", workload->epoch));
    return 0;
}

json_object *model_command_json(const struct workload *workload)
{
    json_object *command = json_object_new_array();
    for (size_t i = 0; i < json_array_size(workload->command); i++)
        json_object_array_add(command, json_object_new_string(json_item_str(workload->command, i)));
    return command;
}
