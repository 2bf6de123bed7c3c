/* SPDX-License-Identifier: Apache-2.0 */
/* api_agents.c - what agents ask: heartbeats, assignments, claims, progress. */
#include <string.h>

#include "api.h"
#include "heartbeat.h"
#include "model_mask.h"

#define WAIT_MS          25000
#define WAIT_MAX_MS      60000
#define COMMAND_ARGS_MAX 1024
#define DIR_MAX_BYTES    4000

int api_node_heartbeat(struct http_request *req, struct http_reply *reply, struct error *err)
{
    struct broker *broker = api_broker(req);
    const char *name = NULL;
    autojson *json = NULL;
    struct heartbeat heartbeat = {0};
    bool wanted = false;
    if (api_name(req, "node", &name, err) < 0 ||
        (*req->principal.node && api_own_node(req, name, err) < 0) ||
        http_request_json(req, &json, err) < 0 || heartbeat_decode(json, &heartbeat, err) < 0)
        return -1;
    int rc =
        heartbeat_take(&broker->migrations, req->principal.name, name, &heartbeat, &wanted, err);
    heartbeat_done(&heartbeat);
    if (rc < 0)
        return -1;
    json_object *o = json_object_new_object();
    json_put_bool(o, "report_wanted", wanted);
    json_put_int(o, "heartbeat_interval_ms", (int64_t)broker->config.heartbeat_interval_ms);
    http_reply_json(reply, 200, o);
    return 0;
}

int api_node_assignments(struct http_request *req, struct http_reply *reply, struct error *err)
{
    struct broker *broker = api_broker(req);
    const char *name = NULL;
    uint64_t after = 0, wait_ms = 0;
    if (api_name(req, "node", &name, err) < 0 || api_own_node(req, name, err) < 0 ||
        http_request_query_u64(req, "after", 0, JSON_INTEGER_MAX, 0, &after, err) < 0 ||
        http_request_query_u64(req, "wait_ms", 0, WAIT_MAX_MS, WAIT_MS, &wait_ms, err) < 0)
        return -1;
    json_object *o = NULL;
    bool wait = false;
    model_read_lock(broker->model);
    const struct node *node = model_node(broker->model, name, err);
    if (node) {
        wait = http_request_query(req, "after") && node->generation == after && wait_ms > 0 &&
               !req->timed_out;
        if (!wait)
            o = migrations_assignments(&broker->migrations, node);
    }
    model_unlock(broker->model);
    if (!node)
        return -1;
    if (wait) {
        autofree char *key = xasprintf("node/%s", name);
        http_wait(req, key, wait_ms);
        return HTTP_WAIT;
    }
    http_reply_json(reply, 200, o);
    return 0;
}

static int check_command(json_object *command, struct error *err)
{
    for (size_t i = 0; i < json_array_size(command); i++)
        if (!json_object_is_type(json_array_item(command, i), json_type_string))
            return error_set(err, ERROR_INVALID, "claim: command[%zu]: expected a string", i);
    return 0;
}

static int decode_mask(json_object *json, struct claim *ret, struct error *err)
{
    const char *grade = NULL;
    if (json_opt_str("claim", json, "mask", &grade, err) < 0)
        return -1;
    if (grade && mask_grade_from_name(grade, &ret->mask, err) < 0)
        return error_wrap(err, "claim: mask");
    if (ret->adopted && ret->mask != MASK_GRADE_OFF)
        return error_set(err, ERROR_INVALID,
                         "claim: mask: expected off, not %s: what is adopted was born without one",
                         grade);
    return 0;
}

static int decode_claim(json_object *json, struct claim *ret, struct error *err)
{
    if (json_get_str("claim", json, "pool", &ret->pool, err) < 0 ||
        json_opt_str("claim", json, "dir", &ret->dir, err) < 0 ||
        json_get_array("claim", json, "command", COMMAND_ARGS_MAX, &ret->command, err) < 0 ||
        json_opt_bool("claim", json, "adopted", &ret->adopted, err) < 0 ||
        decode_mask(json, ret, err) < 0 || name_check("pool", ret->pool, err) < 0 ||
        check_command(ret->command, err) < 0)
        return -1;
    if (ret->dir && (*ret->dir != '/' || strlen(ret->dir) > DIR_MAX_BYTES))
        return error_set(err, ERROR_INVALID,
                         "claim: dir: expected an absolute path of at most %d bytes",
                         DIR_MAX_BYTES);
    return 0;
}

int api_node_claim(struct http_request *req, struct http_reply *reply, struct error *err)
{
    struct model *model = api_broker(req)->model;
    const char *node = NULL, *name = http_request_param(req, "name");
    autojson *json = NULL;
    struct claim claim = {0};
    if (api_name(req, "node", &node, err) < 0 || api_own_node(req, node, err) < 0 ||
        name_check("workload", name, err) < 0 || http_request_json(req, &json, err) < 0 ||
        decode_claim(json, &claim, err) < 0 ||
        model_workload_claim(model, node, name, &claim, err) < 0)
        return -1;
    json_object *shown = NULL, *mask = NULL;
    model_read_lock(model);
    /* What the claim was written with, whatever the pool's epoch is by now. */
    const struct workload *workload = model_workload(model, name, err);
    if (workload) {
        shown = api_workload_json(model, workload);
        mask = workload_mask_order(workload, true);
    }
    model_unlock(model);
    if (!shown)
        return -1;
    json_object *o = json_object_new_object();
    json_put(o, "workload", shown);
    json_put(o, "mask", mask);
    http_reply_json(reply, 201, o);
    return 0;
}

static int decode_said(json_object *json, struct migration_said *ret, const char **ret_node,
                       struct error *err)
{
    const char *state = NULL;
    *ret = (struct migration_said){.bytes = -1, .total_bytes = -1, .pid = -1, .phase_ms = -1};
    if (json_get_str("progress", json, "node", ret_node, err) < 0 ||
        json_get_str("progress", json, "state", &state, err) < 0 ||
        json_opt_i64("progress", json, "bytes", &ret->bytes, err) < 0 ||
        json_opt_i64("progress", json, "total_bytes", &ret->total_bytes, err) < 0 ||
        json_opt_i64("progress", json, "pid", &ret->pid, err) < 0 ||
        json_opt_i64("progress", json, "phase_ms", &ret->phase_ms, err) < 0)
        return -1;
    if (migration_report_from_name(state, &ret->report) < 0)
        return error_set(err, ERROR_INVALID, "progress: state: '%.40s' is not known", state);
    bool again = ret->report == MIGRATION_REPORT_DUMPED && json_member(json, "evidence");
    if (ret->report == MIGRATION_REPORT_INSPECTED || again) {
        json_object *evidence = NULL;
        if (json_get_object("progress", json, "evidence", &evidence, err) < 0 ||
            cpu_evidence_parse(evidence, &ret->evidence, err) < 0)
            return error_wrap(err, "progress");
    }
    if (ret->report != MIGRATION_REPORT_FAILURE)
        return 0;
    json_object *error = NULL;
    if (json_get_object("progress", json, "error", &error, err) < 0 ||
        json_opt_str("progress: error", error, "code", &ret->code, err) < 0 ||
        json_get_str("progress: error", error, "message", &ret->message, err) < 0 ||
        json_opt_str("progress: error", error, "log", &ret->log, err) < 0)
        return -1;
    return 0;
}

int api_migration_progress(struct http_request *req, struct http_reply *reply, struct error *err)
{
    const char *id = http_request_param(req, "id"), *node = NULL;
    autojson *json = NULL;
    json_object *assignment = NULL;
    struct migration_said said = {0};
    int rc = http_request_json(req, &json, err);
    if (rc == 0 &&
        (decode_said(json, &said, &node, err) < 0 || api_own_node(req, node, err) < 0 ||
         migrations_report(&api_broker(req)->migrations, id, node, &said, &assignment, err) < 0))
        rc = -1;
    cpu_evidence_free(said.evidence);
    if (rc < 0)
        return -1;
    json_object *o = json_object_new_object();
    json_put(o, "assignment", assignment);
    http_reply_json(reply, 200, o);
    return 0;
}
