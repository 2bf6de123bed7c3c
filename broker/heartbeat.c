/* SPDX-License-Identifier: Apache-2.0 */
/* heartbeat.c - takes heartbeats, and brings the workloads' states in line with
 * them. */
#include "heartbeat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "model_internal.h"
#include "model_mask.h"

/* A list that was made just before a claim or a move may arrive just after it,
 * so a workload is given up only when it was missing several times in a row. */
#define MISSED_MAX          2
#define MISSED_STARTING_MAX 15
#define STRAY_LOG_MS        60000

static const struct json_field heartbeat_fields[] = {
    JSON_FIELD(heartbeat, version, JSON_STR, 0),
    JSON_FIELD(heartbeat, boot_id, JSON_STR, 0),
    JSON_FIELD(heartbeat, image_address, JSON_STR, 0),
    JSON_FIELD(heartbeat, pool, JSON_STR, 0),
    JSON_FIELD(heartbeat, report_sha256, JSON_STR, 0),
    JSON_FIELD(heartbeat, free_bytes, JSON_U64, 0),
    JSON_FIELD(heartbeat, workloads, JSON_ANY, JSON_REQUIRED),
    {0},
};

struct held { /* a workload, as its agent tells */
    const char *name;
    enum life_state state;
    int64_t pid, exit_status; /* -1: none */
    struct mask_told mask;
    bool mask_told;
};

static int decode_held(json_object *json, size_t index, struct held *ret, struct error *err)
{
    char what[48];
    const char *state = NULL;
    snprintf(what, sizeof(what), "heartbeat: workloads[%zu]", index);
    *ret = (struct held){.pid = -1, .exit_status = -1};
    if (json_check_object(what, json, err) < 0 ||
        json_get_str(what, json, "name", &ret->name, err) < 0 ||
        json_get_str(what, json, "state", &state, err) < 0 ||
        json_opt_i64(what, json, "pid", &ret->pid, err) < 0 ||
        json_opt_i64(what, json, "exit_status", &ret->exit_status, err) < 0)
        return -1;
    if (name_check("workload", ret->name, err) < 0)
        return error_wrap(err, "%s", what);
    if (life_state_from_name(state, &ret->state) < 0)
        return error_set(err, ERROR_INVALID,
                         "%s: state: expected starting, running, stopped or exited, not '%.40s'",
                         what, state);
    return mask_told_decode(what, json, &ret->mask, &ret->mask_told, err);
}

static int check_length(const char *name, const char *text, size_t most, struct error *err)
{
    if (!text || strlen(text) <= most)
        return 0;
    return error_set(err, ERROR_INVALID, "heartbeat: %s: at most %zu bytes are taken", name, most);
}

int heartbeat_decode(json_object *json, struct heartbeat *ret, struct error *err)
{
    json_object *list = NULL;
    struct held held;
    if (json_decode("heartbeat", json, heartbeat_fields, ret, err) < 0)
        return -1;
    if (json_get_array("heartbeat", json, "workloads", HEARTBEAT_WORKLOADS_MAX, &list, err) < 0 ||
        check_length("version", ret->version, 64, err) < 0 ||
        check_length("boot_id", ret->boot_id, 64, err) < 0 ||
        check_length("image_address", ret->image_address, 255, err) < 0 ||
        (ret->pool && name_check("pool", ret->pool, err) < 0 && error_wrap(err, "heartbeat") < 0)) {
        heartbeat_done(ret);
        return -1;
    }
    for (size_t i = 0; i < json_array_size(list); i++)
        if (decode_held(json_array_item(list, i), i, &held, err) < 0) {
            heartbeat_done(ret);
            return -1;
        }
    return 0;
}

void heartbeat_done(struct heartbeat *heartbeat)
{
    json_release(heartbeat_fields, heartbeat);
}

static int set_workload(struct migrations *migrations, struct workload *workload,
                        const struct held *held, struct error *err)
{
    struct model *model = migrations->model;
    const struct move *move = model_move_of(model, workload->name);
    bool is_source = move && strcmp(move->from, workload->node) == 0;
    if (held->state == LIFE_STOPPED && !is_source)
        return 0; /* told just before the target let it run */
    if (held->state == LIFE_EXITED && is_source) {
        if (migrations_workload_exited_locked(migrations, workload, held->exit_status, err) < 0)
            return -1;
        if (workload->state == LIFE_EXITED)
            return 0;
    }
    if (held->state == workload->state && held->pid == workload->pid &&
        held->exit_status == workload->exit_status)
        return 0;
    if (model_workload_store_locked(model, workload, workload->node, held->state, held->pid,
                                    held->exit_status, err) < 0)
        return -1;
    if (held->state != workload->state)
        log_info("a workload's state", LOG_STR("workload", workload->name),
                 LOG_STR("node", workload->node), LOG_STR("state", life_state_name(held->state)),
                 LOG_INT("exit_status", held->exit_status));
    model_write_lock(model);
    model_workload_set(model, workload, workload->node, held->state, held->pid, held->exit_status);
    model_unlock(model);
    return 0;
}

/* Of one that has exited nothing is to be known any more. */
static int take_mask(struct migrations *migrations, struct workload *workload,
                     const struct held *held, struct error *err)
{
    if (!held->mask_told || workload->state == LIFE_EXITED)
        return 0;
    return model_mask_tell_locked(migrations->model, workload, &held->mask, err);
}

static int missing(struct migrations *migrations, struct workload *workload, struct error *err)
{
    const struct held gone = {
        .name = workload->name, .state = LIFE_EXITED, .pid = -1, .exit_status = -1};
    unsigned most = workload->state == LIFE_STARTING ? MISSED_STARTING_MAX : MISSED_MAX;
    if (workload->state == LIFE_EXITED || ++workload->missed < most)
        return 0;
    log_warn("the node's agent no longer has the workload", LOG_STR("workload", workload->name),
             LOG_STR("node", workload->node));
    return set_workload(migrations, workload, &gone, err);
}

/* A copy that runs where it should not is the operator's business: say so, now
 * and then. */
static void complain_of_strays(struct model *model, struct node *node, const struct held *held)
{
    const struct workload *workload = sorted_find(&model->workloads, held->name);
    const struct move *move = model_move_of(model, held->name);
    int64_t now_ms = clock_monotonic_ms(model->clock);
    if (held->state == LIFE_EXITED || (workload && strcmp(workload->node, node->name) == 0) ||
        (move && (strcmp(move->to, node->name) == 0 || strcmp(move->from, node->name) == 0)))
        return;
    if (node->stray_logged_ms >= 0 && now_ms - node->stray_logged_ms < STRAY_LOG_MS)
        return;
    node->stray_logged_ms = now_ms;
    log_warn(workload ? "a node holds a workload that lives elsewhere"
                      : "a node holds a workload that the broker does not know",
             LOG_STR("workload", held->name), LOG_STR("node", node->name),
             LOG_STR("lives_on", workload ? workload->node : ""));
}

static int take_workloads(struct migrations *migrations, const char *node_name, json_object *list,
                          struct error *err)
{
    struct model *model = migrations->model;
    struct node *node = sorted_find(&model->nodes, node_name);
    size_t count = json_array_size(list);
    autofree struct held *held = xcalloc(count, sizeof(*held));
    struct sorted by_name = {0};
    for (size_t i = 0; i < count; i++) {
        decode_held(json_array_item(list, i), i, &held[i], NULL); /* was checked */
        if (!sorted_find(&by_name, held[i].name))
            sorted_add(&by_name, &held[i]);
        complain_of_strays(model, node, &held[i]);
    }
    int rc = 0;
    struct workload *workload = NULL;
    SORTED_EACH(&model->workloads, workload)
    {
        if (strcmp(workload->node, node_name) != 0)
            continue;
        const struct held *found = sorted_find(&by_name, workload->name);
        if (found)
            workload->missed = 0;
        rc = found ? set_workload(migrations, workload, found, err)
                   : missing(migrations, workload, err);
        if (found && rc == 0)
            rc = take_mask(migrations, workload, found, err);
        if (rc < 0)
            break;
    }
    sorted_done(&by_name);
    return rc;
}

int heartbeat_take(struct migrations *migrations, const char *token, const char *node_name,
                   const struct heartbeat *heartbeat, bool *ret_report_wanted, struct error *err)
{
    struct model *model = migrations->model;
    const struct node_facts facts = {heartbeat->version, heartbeat->boot_id,
                                     heartbeat->image_address, heartbeat->pool,
                                     heartbeat->free_bytes};
    WRITER(model);
    if (model_token_bind_locked(model, token, node_name, err) < 0 ||
        model_node_seen_locked(model, node_name, &facts, err) < 0 ||
        take_workloads(migrations, node_name, heartbeat->workloads, err) < 0)
        return -1;
    const struct node *node = sorted_find(&model->nodes, node_name);
    *ret_report_wanted = !node->profile || !heartbeat->report_sha256 ||
                         strcmp(node->profile->sha256, heartbeat->report_sha256) != 0;
    return 0;
}
