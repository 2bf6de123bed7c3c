/* SPDX-License-Identifier: Apache-2.0 */
/* api_plan.c - planning a pool: what other members would change, what each costs, who can move to
 * whom. Nothing is changed; the reckoning runs without a lock, on counted profiles. */
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "cpu_report.h"
#include "plan.h"

#define WHAT_IF_MAX 1024 /* nodes that come, and nodes that go */

/* A pool's members that have reported, as they were when asked; an array that grows. */
struct snapshot {
    struct plan_member *members; /* owned, names and profile references too */
    size_t count, room;
    size_t before; /* how many are members now; what comes stands behind */
    bool mix_vendors;
};

static void snapshot_add(struct snapshot *s, const char *name, struct cpu_profile *owned)
{
    if (s->count == s->room) {
        s->room = s->room ? s->room * 2 : 16;
        s->members = xrealloc(s->members, s->room * sizeof(*s->members));
    }
    s->members[s->count++] = (struct plan_member){xstrdup(name), owned};
}

static void drop(const struct plan_member *member)
{
    free((char *)member->name);
    cpu_profile_free(member->profile);
}

static void snapshot_free(struct snapshot *s)
{
    for (size_t i = 0; s && i < s->count; i++)
        drop(&s->members[i]);
    if (s)
        free(s->members);
    free(s);
}
DEFINE_AUTO(snapshot)

static int snapshot_of(struct http_request *req, const char **ret_pool, struct snapshot **ret,
                       struct error *err)
{
    struct model *model = api_broker(req)->model;
    if (api_name(req, "pool", ret_pool, err) < 0)
        return -1;
    model_read_lock(model);
    const struct pool *pool = model_pool(model, *ret_pool, err);
    struct snapshot *s = pool ? xcalloc(1, sizeof(*s)) : NULL;
    if (pool) {
        struct node *node = NULL;
        s->mix_vendors = pool->policy.mix_vendors;
        SORTED_EACH(&pool->members, node)
        if (node->profile)
            snapshot_add(s, node->name, cpu_profile_ref(node->profile->cpu));
        s->before = s->count;
    }
    model_unlock(model);
    *ret = s;
    return s ? 0 : -1;
}

int api_pool_advice(struct http_request *req, struct http_reply *reply, struct error *err)
{
    AUTO(snapshot) s = NULL;
    const char *pool = NULL;
    uint64_t max_pools = 0;
    autojson *split = NULL;
    if (http_request_query_u64(req, "max_pools", 1, PLAN_KINDS_MAX, 1, &max_pools, err) < 0 ||
        snapshot_of(req, &pool, &s, err) < 0 ||
        plan_split(s->members, s->count, (size_t)max_pools, s->mix_vendors, &split, err) < 0)
        return -1;
    json_object *o = json_object_new_object();
    json_put_str(o, "pool", pool);
    json_put(o, "costs", plan_costs(s->members, s->count));
    json_put(o, "split", steal_ptr(&split));
    http_reply_json(reply, 200, o);
    return 0;
}

int api_pool_matrix(struct http_request *req, struct http_reply *reply, struct error *err)
{
    AUTO(snapshot) s = NULL;
    const char *pool = NULL;
    json_object *o = NULL;
    if (snapshot_of(req, &pool, &s, err) < 0)
        return -1;
    const struct verdict_policy policy = {.mix_vendors = s->mix_vendors};
    if (plan_matrix(s->members, s->count, &policy, &o, err) < 0)
        return -1;
    json_put_str(o, "pool", pool);
    http_reply_json(reply, 200, o);
    return 0;
}

static bool has_member(const struct snapshot *s, const char *name)
{
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(s->members[i].name, name) == 0)
            return true;
    return false;
}

/* A known node, by its name. */
static int add_known(struct model *model, struct snapshot *s, const char *name, struct error *err)
{
    model_read_lock(model);
    const struct node *node = model_node(model, name, err);
    int rc = node ? 0 : -1;
    if (node && !node->profile)
        rc = error_set(err, ERROR_CONFLICT, "node '%s' has not reported its CPUs", name);
    else if (node)
        snapshot_add(s, name, cpu_profile_ref(node->profile->cpu));
    model_unlock(model);
    return rc;
}

/* A machine that is not there yet: {"name":…,"report":{…}}. */
static int add_report(struct snapshot *s, json_object *item, struct error *err)
{
    const char *name = NULL;
    json_object *json = NULL;
    AUTO(cpu_report) report = NULL;
    struct cpu_profile *profile = NULL;
    if (json_get_str("what-if: with", item, "name", &name, err) < 0 ||
        name_check("node", name, err) < 0 ||
        json_get_object("what-if: with", item, "report", &json, err) < 0)
        return -1;
    if (has_member(s, name))
        return error_set(err, ERROR_INVALID, "what-if: with: '%s' is a member already", name);
    if (cpu_report_parse(json, &report, err) < 0 ||
        cpu_profile_from_report(report, &profile, err) < 0)
        return error_wrap(err, "what-if: with: '%s'", name);
    snapshot_add(s, name, profile);
    return 0;
}

static int add_all(struct model *model, struct snapshot *s, json_object *with, struct error *err)
{
    for (size_t i = 0; i < json_array_size(with); i++) {
        json_object *item = json_array_item(with, i);
        const char *name = json_item_str(with, i);
        if (json_object_is_type(item, json_type_object)) {
            if (add_report(s, item, err) < 0)
                return -1;
        } else if (!json_object_is_type(item, json_type_string)) {
            return error_set(err, ERROR_INVALID,
                             "what-if: with: expected names of nodes, or {\"name\",\"report\"}");
        } else if (has_member(s, name)) {
            return error_set(err, ERROR_INVALID, "what-if: with: '%s' is a member already", name);
        } else if (add_known(model, s, name, err) < 0) {
            return error_wrap(err, "what-if: with");
        }
    }
    return 0;
}

static int remove_all(struct snapshot *s, json_object *without, struct error *err)
{
    for (size_t i = 0; i < json_array_size(without); i++) {
        const char *name = json_item_str(without, i);
        size_t k = 0;
        while (k < s->count && strcmp(s->members[k].name, name) != 0)
            k++;
        if (k == s->count)
            return error_set(err, ERROR_INVALID,
                             "what-if: without: '%.80s' is no member that has reported", name);
        drop(&s->members[k]);
        memmove(&s->members[k], &s->members[k + 1], (s->count - k - 1) * sizeof(*s->members));
        s->count--;
    }
    return 0;
}

/* Live workloads of the pool whose need does not fit every member that there would be:
 * [{"workload","from","misfits":[nodes]}]. */
static json_object *stranded(struct model *model, const char *pool, const struct snapshot *s)
{
    const struct verdict_policy policy = {.mix_vendors = s->mix_vendors};
    json_object *list = json_object_new_array();
    struct workload *w = NULL;
    model_read_lock(model);
    SORTED_EACH(&model->workloads, w)
    {
        if (w->state == LIFE_EXITED || !w->need || strcmp(w->pool, pool) != 0)
            continue;
        autojson *misfits = json_object_new_array();
        for (size_t i = 0; i < s->count; i++) {
            struct verdict verdict = {0};
            verdict_judge(w->need, s->members[i].profile, w->node, s->members[i].name, &policy,
                          &verdict);
            if (verdict.rejected)
                json_object_array_add(misfits, json_object_new_string(s->members[i].name));
            verdict_done(&verdict);
        }
        if (json_array_size(misfits) == 0)
            continue;
        json_object *item = json_object_new_object();
        json_put_str(item, "workload", w->name);
        json_put_str(item, "node", w->node);
        json_put(item, "misfits", steal_ptr(&misfits));
        json_object_array_add(list, item);
    }
    model_unlock(model);
    return list;
}

int api_pool_what_if(struct http_request *req, struct http_reply *reply, struct error *err)
{
    struct model *model = api_broker(req)->model;
    AUTO(snapshot) s = NULL;
    autojson *body = NULL;
    json_object *with = NULL, *without = NULL;
    const char *pool = NULL;
    if (http_request_json(req, &body, err) < 0 || snapshot_of(req, &pool, &s, err) < 0)
        return -1;
    if (json_member(body, "with") &&
        json_get_array("what-if", body, "with", WHAT_IF_MAX, &with, err) < 0)
        return -1;
    if (json_member(body, "without") &&
        json_get_array("what-if", body, "without", WHAT_IF_MAX, &without, err) < 0)
        return -1;
    AUTO(cpu_profile) before = plan_mask(s->members, s->count);
    if (add_all(model, s, with, err) < 0 || remove_all(s, without, err) < 0)
        return -1;
    AUTO(cpu_profile) after = plan_mask(s->members, s->count);
    json_object *o = json_object_new_object(), *members = json_object_new_array();
    for (size_t i = 0; i < s->count; i++)
        json_object_array_add(members, json_object_new_string(s->members[i].name));
    json_put_str(o, "pool", pool);
    json_put_int(o, "members_before", (int64_t)s->before);
    json_put(o, "members", members);
    json_put(o, "difference", plan_difference(before, after));
    json_put(o, "stranded", stranded(model, pool, s));
    http_reply_json(reply, 200, o);
    return 0;
}
