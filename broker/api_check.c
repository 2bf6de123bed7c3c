/* SPDX-License-Identifier: Apache-2.0 */
/* api_check.c - the verdict, and nothing else: no database, and little
 * allocation. */
#include <string.h>

#include "api.h"
#include "cache.h"
#include "decide.h"
#include "metrics.h"
#include "model_evidence.h"

struct question {
    const char *workload, *from; /* one of them */
    const char *to;
};

static int decode(json_object *json, struct question *ret, struct error *err)
{
    if (json_opt_str("check", json, "workload", &ret->workload, err) < 0 ||
        json_opt_str("check", json, "from", &ret->from, err) < 0 ||
        json_get_str("check", json, "to", &ret->to, err) < 0)
        return -1;
    if (!ret->workload == !ret->from)
        return error_set(err, ERROR_INVALID, "check: expected either workload or from");
    if (name_check("node", ret->to, err) < 0)
        return error_wrap(err, "check: to");
    if (ret->workload && name_check("workload", ret->workload, err) < 0)
        return error_wrap(err, "check: workload");
    if (ret->from && name_check("node", ret->from, err) < 0)
        return error_wrap(err, "check: from");
    return 0;
}

struct parties { /* borrowed from the model */
    const struct workload *workload;
    const struct node *from, *to;
};

static int find(struct model *model, const struct question *q, struct parties *ret,
                struct error *err)
{
    if (q->workload) {
        ret->workload = model_workload(model, q->workload, err);
        if (!ret->workload)
            return -1;
        ret->from = sorted_find(&model->nodes, ret->workload->node);
    } else {
        ret->from = model_node(model, q->from, err);
        if (!ret->from)
            return -1;
    }
    ret->to = model_node(model, q->to, err);
    return ret->to ? 0 : -1;
}

/* The names are checked: at most 63 bytes each. */
static void make_key(struct model *model, const struct question *q, const struct parties *p,
                     struct cache_key *key)
{
    key->generation = model->generation;
    key->liveness = 0;
    if (p->workload)
        key->liveness = 1 + (unsigned)model_node_status(model, p->to) * NODE_STATUS_COUNT +
                        (p->from ? (unsigned)model_node_status(model, p->from) : 0);
    const char *who = q->workload ? q->workload : q->from;
    size_t who_length = strlen(who), to_length = strlen(q->to);
    key->text[0] = q->workload ? 'w' : 'f';
    memcpy(key->text + 1, who, who_length + 1);
    memcpy(key->text + 1 + who_length + 1, q->to, to_length);
    key->length = 1 + who_length + 1 + to_length;
}

/* `look`: the one that the verdict rests on; NULL: none. */
static char *judge(struct model *model, const struct parties *p,
                   const struct workload_evidence *look, bool *ret_rejected)
{
    struct verdict verdict = {0};
    if (p->workload)
        decide_move(model, p->workload, p->to, &verdict);
    else
        decide_cpus(model, p->from, p->to, &verdict);
    const char *from = p->workload ? p->workload->node : p->from->name;
    autojson *json = verdict_to_json(&verdict, from, p->to->name);
    if (look)
        json_put(json, "evidence", workload_evidence_mark(model, look));
    *ret_rejected = verdict.rejected;
    verdict_done(&verdict);
    return json_text(json);
}

static char *answer(struct broker *broker, const struct question *q, bool *ret_rejected,
                    struct error *err)
{
    struct model *model = broker->model;
    struct cache_key key;
    struct parties parties = {0};
    char *text = NULL;
    model_read_lock(model);
    if (find(model, q, &parties, err) == 0) {
        /* One that says how old the look is that it rests on is never the same again. */
        const struct workload_evidence *look =
            parties.workload ? model_evidence_now(model, parties.workload) : NULL;
        make_key(model, q, &parties, &key);
        text = look ? NULL : verdict_cache_get(broker->cache, &key, ret_rejected);
        if (!text) {
            text = judge(model, &parties, look, ret_rejected);
            if (!look)
                verdict_cache_put(broker->cache, &key, text, *ret_rejected);
        }
    }
    model_unlock(model);
    return text;
}

int api_check(struct http_request *req, struct http_reply *reply, struct error *err)
{
    struct broker *broker = api_broker(req);
    autojson *json = NULL;
    struct question question = {0};
    bool rejected = false;
    if (http_request_json(req, &json, err) < 0)
        return -1;
    if (json_member(json, "pool") || json_object_is_type(json_member(json, "to"), json_type_array))
        return api_check_many(req, json, reply, err);
    if (decode(json, &question, err) < 0)
        return -1;
    char *text = answer(broker, &question, &rejected, err);
    if (!text)
        return -1;
    metrics_verdict(broker->metrics, rejected);
    http_reply_text(reply, 200, "application/json", text);
    return 0;
}
