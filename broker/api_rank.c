/* SPDX-License-Identifier: Apache-2.0 */
/* api_rank.c - `POST /v1/check` about many targets at once: a list of them, or a whole pool. */
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "decide.h"
#include "metrics.h"
#include "model_evidence.h"

#define TARGETS_MAX 1024 /* named in one question */

struct ranked {
    const char *name; /* borrowed from the model */
    struct verdict verdict;
    unsigned surplus; /* features that are not needed */
};

/* As decide_best chooses: who is approved, fewest warnings, closest fit, name. */
static int compare(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->verdict.rejected != y->verdict.rejected)
        return x->verdict.rejected ? 1 : -1;
    if (x->verdict.reason_count != y->verdict.reason_count)
        return x->verdict.reason_count < y->verdict.reason_count ? -1 : 1;
    if (x->surplus != y->surplus)
        return x->surplus < y->surplus ? -1 : 1;
    return strcmp(x->name, y->name);
}

static void judge(struct model *model, const struct workload *workload, const struct node *from,
                  const struct node *to, struct ranked *ret)
{
    const struct cpu_profile *need = workload        ? workload->need
                                     : from->profile ? from->profile->cpu
                                                     : NULL;
    *ret = (struct ranked){.name = to->name};
    if (workload)
        decide_move(model, workload, to, &ret->verdict);
    else
        decide_cpus(model, from, to, &ret->verdict);
    if (need && to->profile)
        ret->surplus = decide_surplus(need, to->profile->cpu);
}

static json_object *ranking(struct ranked *items, size_t count, const char *from,
                            struct metrics *metrics)
{
    json_object *targets = json_object_new_array();
    qsort(items, count, sizeof(*items), compare);
    for (size_t i = 0; i < count; i++) {
        json_object_array_add(targets, verdict_to_json(&items[i].verdict, from, items[i].name));
        metrics_verdict(metrics, items[i].verdict.rejected);
        verdict_done(&items[i].verdict);
    }
    return targets;
}

/* The targets that were named, or the members of the pool; the model is locked. */
static int targets_of(struct model *model, json_object *to, const char *pool_name,
                      const char *own_node, const struct node **targets, size_t *ret_count,
                      struct error *err)
{
    struct node *node = NULL;
    *ret_count = 0;
    if (pool_name) {
        const struct pool *pool = model_pool(model, pool_name, err);
        if (!pool)
            return -1;
        SORTED_EACH(&pool->members, node)
        if (strcmp(node->name, own_node) != 0)
            targets[(*ret_count)++] = node;
        return 0;
    }
    for (size_t i = 0; i < json_array_size(to); i++) {
        const char *name = json_item_str(to, i);
        if (name_check("node", name, err) < 0)
            return error_wrap(err, "check: to[%zu]", i);
        targets[*ret_count] = model_node(model, name, err);
        if (!targets[(*ret_count)++])
            return -1;
    }
    return 0;
}

/* {"from","targets":[verdicts, the best first]}; the model is locked. */
static json_object *check_all(struct broker *broker, json_object *json, json_object *to,
                              struct error *err)
{
    struct model *model = broker->model;
    const char *name = json_str(json, "workload"), *pool = json_str(json, "pool");
    const struct workload *workload = *name ? model_workload(model, name, err) : NULL;
    const struct node *from = *name ? NULL : model_node(model, json_str(json, "from"), err);
    if (!workload && !from)
        return NULL;
    const char *own_node = workload ? workload->node : from->name;
    size_t room = to ? json_array_size(to) : model->nodes.count, count = 0;
    autofree const struct node **targets = xcalloc(room, sizeof(void *));
    if (targets_of(model, to, to ? NULL : pool, own_node, targets, &count, err) < 0)
        return NULL;
    autofree struct ranked *items = xcalloc(count, sizeof(*items));
    for (size_t i = 0; i < count; i++)
        judge(model, workload, from, targets[i], &items[i]);
    json_object *o = json_object_new_object();
    const struct workload_evidence *look = workload ? model_evidence_now(model, workload) : NULL;
    json_put_str(o, "from", own_node);
    if (look)
        json_put(o, "evidence", workload_evidence_mark(model, look));
    json_put(o, "targets", ranking(items, count, own_node, broker->metrics));
    return o;
}

int api_check_many(struct http_request *req, json_object *json, struct http_reply *reply,
                   struct error *err)
{
    struct broker *broker = api_broker(req);
    json_object *to = NULL;
    const char *workload = NULL, *from = NULL, *pool = NULL;
    if (json_opt_str("check", json, "workload", &workload, err) < 0 ||
        json_opt_str("check", json, "from", &from, err) < 0 ||
        json_opt_str("check", json, "pool", &pool, err) < 0)
        return -1;
    if (!workload == !from)
        return error_set(err, ERROR_INVALID, "check: expected either workload or from");
    if (json_member(json, "to") && pool)
        return error_set(err, ERROR_INVALID, "check: expected either to or pool");
    if (!pool && json_get_array("check", json, "to", TARGETS_MAX, &to, err) < 0)
        return -1;
    model_read_lock(broker->model);
    json_object *o = check_all(broker, json, to, err);
    model_unlock(broker->model);
    if (!o)
        return -1;
    http_reply_json(reply, 200, o);
    return 0;
}
