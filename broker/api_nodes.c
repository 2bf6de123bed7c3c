/* SPDX-License-Identifier: Apache-2.0 */
/* api_nodes.c - the fleet: listing, reports, removal. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "cpu_report.h"

#define SLICE      1000 /* nodes listed at a time */
#define NAME_BYTES 64

int api_name(const struct http_request *req, const char *what, const char **ret, struct error *err)
{
    *ret = http_request_param(req, what);
    return name_check(what, *ret, err);
}

int api_own_node(const struct http_request *req, const char *node, struct error *err)
{
    const char *own = req->principal.node;
    if (strcmp(own, node) == 0)
        return 0;
    if (!*own)
        return error_set(err, ERROR_FORBIDDEN,
                         "this token is not bound to a node yet; a heartbeat comes first");
    return error_set(err, ERROR_FORBIDDEN, "this token is bound to node '%s', not '%s'", own, node);
}

static json_object *pools_of(struct model *model, const struct node *node)
{
    json_object *names = json_object_new_array();
    struct pool *pool = NULL;
    SORTED_EACH(&model->pools, pool)
    if (model_is_member(pool, node))
        json_object_array_add(names, json_object_new_string(pool->name));
    return names;
}

/* A slice of all nodes, by name, with how many workloads live on each. */
struct slice {
    size_t first, count;
    int64_t *workloads; /* owned */
};

static struct slice make_slice(struct model *model, size_t first, size_t count)
{
    struct slice slice = {first, count, xcalloc(count, sizeof(int64_t))};
    struct workload *workload = NULL;
    SORTED_EACH(&model->workloads, workload)
    {
        /* What does not live may refer to a node that is gone. */
        size_t at =
            workload->state != LIFE_EXITED ? sorted_behind(&model->nodes, workload->node) : 0;
        if (at > first && at <= first + count)
            slice.workloads[at - 1 - first]++;
    }
    return slice;
}

static json_object *node_json(struct model *model, const struct node *node, int64_t workloads)
{
    const struct cpu_profile *cpu = node->profile ? node->profile->cpu : NULL;
    json_object *o = json_object_new_object();
    json_put_str(o, "name", node->name);
    json_put_str(o, "kind", node->imported ? "imported" : "agent");
    json_put_str(o, "status", node_status_name(model_node_status(model, node)));
    json_put(o, "seen_at_ms", node->seen_at_ms ? json_object_new_int64(node->seen_at_ms) : NULL);
    json_put_str(o, "image_address", node->image_address);
    json_put_str(o, "version", node->version);
    json_put_str(o, "boot_id", node->boot_id);
    json_put_str(o, "kernel", node->kernel);
    json_put_str(o, "vendor", cpu ? cpu_profile_vendor(cpu) : NULL);
    json_put_str(o, "brand", cpu ? cpu_profile_brand(cpu) : NULL);
    json_put_str(o, "level", cpu ? cpu_profile_level(cpu) : NULL);
    /* A copy: counting is not atomic, and the original is everybody's. */
    json_object *engines = json_object_new_array();
    for (size_t i = 0; i < json_array_size(node->engines); i++) {
        json_object *engine = json_object_new_object();
        json_put_str(engine, "name", json_str(json_array_item(node->engines, i), "name"));
        json_put_str(engine, "version", json_str(json_array_item(node->engines, i), "version"));
        json_object_array_add(engines, engine);
    }
    json_put(o, "engines", engines);
    json_put(o, "pools", pools_of(model, node));
    json_put_str(o, "report_sha256", node->profile ? node->profile->sha256 : NULL);
    json_put_int(o, "workloads", workloads);
    json_put(o, "free_bytes",
             node->seen_monotonic_ms >= 0 ? json_object_new_int64((int64_t)node->free_bytes)
                                          : NULL);
    return o;
}

/* Writes the nodes behind *after, some at a time, so that nobody waits long for the lock. Whether
 * there are more; *after is the last one then. */
static bool write_slice(struct model *model, char after[NAME_BYTES], FILE *out)
{
    model_read_lock(model);
    size_t first = *after ? sorted_behind(&model->nodes, after) : 0;
    size_t rest = model->nodes.count - first;
    struct slice slice = make_slice(model, first, rest < SLICE ? rest : SLICE);
    for (size_t i = 0; i < slice.count; i++) {
        const struct node *node = model->nodes.items[first + i];
        autojson *json = node_json(model, node, slice.workloads[i]);
        autofree char *text = json_text(json);
        fprintf(out, "%s%s", *after ? "," : "", text);
        snprintf(after, NAME_BYTES, "%s", node->name);
    }
    model_unlock(model);
    free(slice.workloads);
    return rest > SLICE;
}

int api_nodes_list(struct http_request *req, struct http_reply *reply, struct error *err)
{
    char *text = NULL, after[NAME_BYTES] = "";
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    if (!out)
        return error_errno(err, ERROR_INTERNAL, "cannot make the list");
    fputs("{\"nodes\":[", out);
    while (write_slice(api_broker(req)->model, after, out))
        ;
    fputs("]}", out);
    if (fclose(out) != 0) {
        free(text);
        return error_errno(err, ERROR_INTERNAL, "cannot make the list");
    }
    http_reply_text(reply, 200, "application/json", text);
    return 0;
}

/* The node without its report, whose hash goes to sha256 ("" when it has none).
 */
static json_object *one_node(struct model *model, const char *name, char sha256[65],
                             struct error *err)
{
    json_object *o = NULL;
    model_read_lock(model);
    const struct node *node = model_node(model, name, err);
    *sha256 = '\0';
    if (node) {
        struct slice slice = make_slice(model, sorted_behind(&model->nodes, name) - 1, 1);
        o = node_json(model, node, slice.workloads[0]);
        free(slice.workloads);
        autojson *shown = node->profile ? mask_profile_to_json(node->profile->cpu) : NULL;
        json_put(o, "features",
                 shown ? cpu_profile_feature_names(node->profile->cpu) : json_object_new_array());
        json_put(o, "xsave", json_object_get(json_member(shown, "xsave")));
        snprintf(sha256, 65, "%s", node->profile ? node->profile->sha256 : "");
    }
    model_unlock(model);
    return o;
}

int api_node_get(struct http_request *req, struct http_reply *reply, struct error *err)
{
    struct broker *broker = api_broker(req);
    const char *name = NULL;
    char sha256[65];
    if (api_name(req, "node", &name, err) < 0)
        return -1;
    autojson *o = one_node(broker->model, name, sha256, err);
    if (!o)
        return -1;
    json_object *report = NULL;
    autofree char *text = NULL;
    if (*sha256 && (store_report_get(broker->store, sha256, &text, err) < 0 ||
                    json_parse(text, strlen(text), &report, err) < 0))
        return -1;
    json_put(o, "report", report);
    http_reply_json(reply, 200, steal_ptr(&o));
    return 0;
}

static int force_asked(const struct http_request *req, bool *ret, struct error *err)
{
    const char *text = http_request_query(req, "force");
    *ret = text && strcmp(text, "true") == 0;
    if (!text || *ret || strcmp(text, "false") == 0)
        return 0;
    return error_set(err, ERROR_INVALID, "force: expected true or false, not '%.40s'", text);
}

int api_node_delete(struct http_request *req, struct http_reply *reply, struct error *err)
{
    const char *name = NULL;
    json_object *lost = NULL;
    bool force = false;
    if (api_name(req, "node", &name, err) < 0 || force_asked(req, &force, err) < 0 ||
        migrations_give_up_source(&api_broker(req)->migrations, name, err) < 0 ||
        model_node_delete(api_broker(req)->model, name, force, &lost, err) < 0)
        return -1;
    if (!force) {
        json_object_put(lost);
        reply->status = 204;
        return 0;
    }
    json_object *o = json_object_new_object();
    json_put_str(o, "node", name);
    json_put(o, "lost", lost);
    http_reply_json(reply, 200, o);
    return 0;
}

int api_node_report(struct http_request *req, struct http_reply *reply, struct error *err)
{
    const char *name = NULL;
    autojson *json = NULL;
    AUTO(cpu_report) report = NULL;
    bool changed = false;
    char sha256[65];
    bool agent = req->principal.roles & ROLE_AGENT;
    if (api_name(req, "node", &name, err) < 0 || (agent && api_own_node(req, name, err) < 0) ||
        http_request_json(req, &json, err) < 0 || cpu_report_parse(json, &report, err) < 0)
        return -1;
    if (agent && strcmp(report->node, name) != 0)
        return error_set(err, ERROR_INVALID, "report: node: expected '%s', not '%.64s'", name,
                         report->node);
    autojson *plain = cpu_report_to_json(report); /* what is not known is not kept */
    if (model_node_report(api_broker(req)->model, name, !agent, plain, &changed, sha256, err) < 0)
        return -1;
    json_object *o = json_object_new_object();
    json_put_str(o, "node", name);
    json_put_str(o, "sha256", sha256);
    json_put_bool(o, "changed", changed);
    http_reply_json(reply, 200, o);
    return 0;
}
