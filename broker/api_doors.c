/* SPDX-License-Identifier: Apache-2.0 */
/* api_doors.c - the doors of door.h on the broker's model: each question takes the lock by itself.
 */
#include <string.h>

#include "api.h"
#include "decide.h"
#include "door.h"
#include "format.h"
#include "metrics.h"

static int judge(struct model *model, const struct door_subject *subject, const char *node_name,
                 struct verdict *verdict, struct error *err)
{
    const struct node *node = model_node(model, node_name, err);
    if (!node)
        return -1;
    if (subject->kind == DOOR_WORKLOAD) {
        const struct workload *workload = model_workload(model, subject->name, err);
        if (!workload)
            return -1;
        if (subject->move)
            decide_move(model, workload, node, verdict);
        else
            decide_living(model, workload, node, verdict);
    } else if (subject->kind == DOOR_POOL) {
        const struct pool *pool = model_pool(model, subject->name, err);
        if (!pool)
            return -1;
        decide_pool(model, pool, node, verdict);
    } else {
        const struct node *from = model_node(model, subject->name, err);
        if (!from)
            return -1;
        decide_cpus(model, from, node, verdict);
    }
    return 0;
}

static int world_verdict(void *ctx, const struct door_subject *subject, const char *node,
                         struct verdict *verdict, struct error *err)
{
    struct broker *broker = ctx;
    model_read_lock(broker->model);
    int rc = judge(broker->model, subject, node, verdict, err);
    model_unlock(broker->model);
    if (rc == 0)
        metrics_verdict(broker->metrics, verdict->rejected);
    return rc;
}

static int world_workload_pool(void *ctx, const char *name, char **ret, struct error *err)
{
    struct broker *broker = ctx;
    model_read_lock(broker->model);
    const struct workload *workload = model_workload(broker->model, name, err);
    char *pool = workload ? xstrdup(workload->pool) : NULL;
    model_unlock(broker->model);
    if (!pool)
        return -1;
    *ret = pool;
    return 0;
}

static int world_pool_members(void *ctx, const char *name, json_object **ret, struct error *err)
{
    struct broker *broker = ctx;
    struct node *node = NULL;
    model_read_lock(broker->model);
    const struct pool *pool = model_pool(broker->model, name, err);
    json_object *names = pool ? json_object_new_array() : NULL;
    if (pool) {
        SORTED_EACH(&pool->members, node)
        json_object_array_add(names, json_object_new_string(node->name));
    }
    model_unlock(broker->model);
    if (!names)
        return -1;
    *ret = names;
    return 0;
}

static int world_pool_env(void *ctx, const char *name, json_object **ret, struct error *err)
{
    struct broker *broker = ctx;
    model_read_lock(broker->model);
    const struct pool *pool = model_pool(broker->model, name, err);
    AUTO(cpu_profile) mask = pool && pool->profile ? cpu_profile_ref(pool->profile) : NULL;
    model_unlock(broker->model);
    if (!pool)
        return -1;
    if (!mask)
        return error_set(err, ERROR_CONFLICT,
                         "pool '%s' has no mask: none of its members has reported", name);
    *ret = format_environment(mask);
    return 0;
}

static int64_t world_monotonic_ms(void *ctx)
{
    struct broker *broker = ctx;
    return clock_monotonic_ms(broker->clock);
}

static int answer(struct http_request *req, struct http_reply *reply, door_function *door)
{
    const struct door_world world = {
        .ctx = api_broker(req),
        .verdict = world_verdict,
        .workload_pool = world_workload_pool,
        .pool_members = world_pool_members,
        .pool_env = world_pool_env,
        .monotonic_ms = world_monotonic_ms,
    };
    char *body = NULL;
    unsigned status = 500;
    door(req->body ? req->body : "", req->body_length, &world, &body, &status);
    http_reply_text(reply, status, "application/json", body);
    return 0;
}

#define X(path, function, summary)                                                            \
    int api_##function(struct http_request *req, struct http_reply *reply, struct error *err) \
    {                                                                                         \
        (void)err;                                                                            \
        return answer(req, reply, function);                                                  \
    }
DOORS(X)
#undef X
