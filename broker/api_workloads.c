/* SPDX-License-Identifier: Apache-2.0 */
/* api_workloads.c - who runs where, born under what, exposed to what. */
#include "api.h"
#include "model_evidence.h"
#include "model_mask.h"

static json_object *seen_json(const struct seen *seen, const char *time_name)
{
    json_object *o = json_object_new_object();
    json_put_str(o, "node", seen->node);
    json_put_str(o, "report_sha256", seen->profile->sha256);
    json_put_int(o, time_name, seen->since_at_ms);
    json_put_str(o, "need_sha256", seen->need->sha256);
    json_put_bool(o, "masked", seen->masked);
    return o;
}

static void put_known(json_object *o, const char *name, int64_t value)
{
    json_put(o, name, value < 0 ? NULL : json_object_new_int64(value));
}

/* The first that it was exposed to whose CPUs have it; NULL where none has (its mask has, or the
 * database was changed, model_load.c). */
static const char *who_brought(const struct workload *workload, enum cpu_feature_id feature)
{
    for (size_t i = 0; i < workload->seen_count; i++)
        if (!workload->seen[i].masked && cpu_profile_has(workload->seen[i].profile->cpu, feature))
            return workload->seen[i].node;
    return NULL;
}

/* Whether the need is its birth mask's, or has that in it. */
static bool has_of_mask(const struct workload *workload, enum cpu_feature_id feature)
{
    return workload_is_masked(workload) && workload->mask.record &&
           cpu_profile_has(workload->mask.record->cpu, feature);
}

/* What verdicts about it judge, and whether each feature comes from its mask or a node's CPUs. */
static json_object *need_json(const struct workload *workload)
{
    if (!workload->seen_count)
        return NULL;
    const struct cpu_record *need = workload->seen[workload->seen_count - 1].need;
    json_object *o = json_object_new_object(), *features = json_object_new_array();
    autojson *names = cpu_profile_feature_names(need->cpu);
    for (size_t i = 0; i < json_array_size(names); i++) {
        enum cpu_feature_id id;
        const char *name = json_item_str(names, i);
        if (cpu_feature_from_name(name, &id) < 0)
            continue;
        json_object *feature = json_object_new_object();
        bool of_mask = has_of_mask(workload, id);
        json_put_str(feature, "name", name);
        json_put_str(feature, "from", of_mask ? NULL : who_brought(workload, id));
        json_put_bool(feature, "mask", of_mask);
        json_object_array_add(features, feature);
    }
    json_put_str(o, "sha256", need->sha256);
    json_put_str(o, "level", cpu_profile_level(need->cpu));
    json_put(o, "mask_epoch",
             workload_is_held(workload) ? json_object_new_int64(workload->epoch) : NULL);
    json_put(o, "features", features);
    return o;
}

json_object *api_workload_json(struct model *model, const struct workload *workload)
{
    const struct move *move = model_move_of(model, workload->name);
    json_object *seen = json_object_new_array();
    for (size_t i = 0; i < workload->seen_count; i++)
        json_object_array_add(seen, seen_json(&workload->seen[i], "since_at_ms"));
    json_object *o = json_object_new_object();
    json_put_str(o, "name", workload->name);
    json_put_str(o, "pool", workload->pool);
    json_put_str(o, "node", workload->node);
    json_put_str(o, "state", life_state_name(workload->state));
    put_known(o, "pid", workload->pid);
    put_known(o, "exit_status", workload->exit_status);
    json_put(o, "command", model_command_json(workload));
    json_put_str(o, "dir", workload->dir);
    json_put_bool(o, "adopted", workload->adopted);
    json_put(o, "lost_at_ms",
             workload->lost_at_ms ? json_object_new_int64(workload->lost_at_ms) : NULL);
    json_put_int(o, "epoch", workload->epoch);
    json_put(o, "mask", workload_mask_json(workload));
    json_put(o, "born", workload->seen_count ? seen_json(&workload->seen[0], "at_ms") : NULL);
    json_put(o, "seen", seen);
    json_put_str(o, "migration", move ? move->id : NULL);
    return o;
}

int api_workloads_list(struct http_request *req, struct http_reply *reply, struct error *err)
{
    (void)err;
    struct model *model = api_broker(req)->model;
    json_object *list = json_object_new_array();
    struct workload *workload = NULL;
    model_read_lock(model);
    SORTED_EACH(&model->workloads, workload)
    json_object_array_add(list, api_workload_json(model, workload));
    model_unlock(model);
    json_object *o = json_object_new_object();
    json_put(o, "workloads", list);
    http_reply_json(reply, 200, o);
    return 0;
}

int api_workload_get(struct http_request *req, struct http_reply *reply, struct error *err)
{
    struct model *model = api_broker(req)->model;
    const char *name = http_request_param(req, "name");
    if (name_check("workload", name, err) < 0)
        return -1;
    model_read_lock(model);
    const struct workload *workload = model_workload(model, name, err);
    json_object *o = workload ? api_workload_json(model, workload) : NULL;
    if (workload) {
        json_put(o, "need", need_json(workload));
        json_put(o, "evidence", workload_evidence_json(model, workload));
    }
    model_unlock(model);
    if (!o)
        return -1;
    http_reply_json(reply, 200, o);
    return 0;
}
