/* SPDX-License-Identifier: Apache-2.0 */
/* api_pools.c - pools and their members. */
#include "api.h"

static json_object *member_names(const struct pool *pool)
{
    json_object *names = json_object_new_array();
    struct node *node = NULL;
    SORTED_EACH(&pool->members, node)
    json_object_array_add(names, json_object_new_string(node->name));
    return names;
}

static json_object *pool_json(const struct pool *pool)
{
    json_object *o = json_object_new_object();
    json_put_str(o, "name", pool->name);
    json_put_int(o, "epoch", pool->epoch);
    json_put_int(o, "member_count", (int64_t)pool->members.count);
    json_put(o, "members", member_names(pool));
    json_put(o, "policy", pool_policy_json(&pool->policy));
    json_put_str(o, "level", pool->profile ? cpu_profile_level(pool->profile) : NULL);
    json_put_int(o, "created_at_ms", pool->created_at_ms);
    return o;
}

int api_pools_list(struct http_request *req, struct http_reply *reply, struct error *err)
{
    (void)err;
    struct model *model = api_broker(req)->model;
    json_object *list = json_object_new_array();
    struct pool *pool = NULL;
    model_read_lock(model);
    SORTED_EACH(&model->pools, pool)
    json_object_array_add(list, pool_json(pool));
    model_unlock(model);
    json_object *o = json_object_new_object();
    json_put(o, "pools", list);
    http_reply_json(reply, 200, o);
    return 0;
}

static int reply_pool(struct model *model, const char *name, unsigned status,
                      struct http_reply *reply, struct error *err)
{
    model_read_lock(model);
    const struct pool *pool = model_pool(model, name, err);
    json_object *o = pool ? pool_json(pool) : NULL;
    model_unlock(model);
    if (!o)
        return -1;
    http_reply_json(reply, status, o);
    return 0;
}

int api_pool_get(struct http_request *req, struct http_reply *reply, struct error *err)
{
    const char *name = NULL;
    if (api_name(req, "pool", &name, err) < 0)
        return -1;
    return reply_pool(api_broker(req)->model, name, 200, reply, err);
}

/* *ret is borrowed from *ret_body; NULL where the request says nothing of it. */
static int policy_of(const struct http_request *req, json_object **ret_body, json_object **ret,
                     struct error *err)
{
    *ret = NULL;
    if (req->body_length == 0)
        return 0;
    if (http_request_json(req, ret_body, err) < 0)
        return -1;
    return json_member(*ret_body, "policy") ? json_get_object("pool", *ret_body, "policy", ret, err)
                                            : 0;
}

int api_pool_put(struct http_request *req, struct http_reply *reply, struct error *err)
{
    struct model *model = api_broker(req)->model;
    const char *name = NULL;
    autojson *body = NULL;
    json_object *policy = NULL;
    bool made = false;
    if (api_name(req, "pool", &name, err) < 0 || policy_of(req, &body, &policy, err) < 0 ||
        model_pool_put(model, name, policy, &made, err) < 0)
        return -1;
    return reply_pool(model, name, made ? 201 : 200, reply, err);
}

int api_pool_delete(struct http_request *req, struct http_reply *reply, struct error *err)
{
    const char *name = NULL;
    if (api_name(req, "pool", &name, err) < 0 ||
        model_pool_delete(api_broker(req)->model, name, err) < 0)
        return -1;
    reply->status = 204;
    return 0;
}

/* What became of the one node: a pool's members may be many. */
static int reply_membership(struct model *model, const char *pool_name, const char *node,
                            struct http_reply *reply, struct error *err)
{
    json_object *o = NULL;
    model_read_lock(model);
    const struct pool *pool = model_pool(model, pool_name, err);
    if (pool) {
        o = json_object_new_object();
        json_put_str(o, "pool", pool->name);
        json_put_str(o, "node", node);
        json_put_bool(o, "member", sorted_find(&pool->members, node) != NULL);
        json_put_int(o, "epoch", pool->epoch);
        json_put_str(o, "level", pool->profile ? cpu_profile_level(pool->profile) : NULL);
        json_put_int(o, "member_count", (int64_t)pool->members.count);
    }
    model_unlock(model);
    if (!o)
        return -1;
    http_reply_json(reply, 200, o);
    return 0;
}

static int change_membership(struct http_request *req, struct http_reply *reply,
                             int (*change)(struct model *model, const char *pool, const char *node,
                                           struct error *err),
                             struct error *err)
{
    struct model *model = api_broker(req)->model;
    const char *pool = NULL, *node = NULL;
    if (api_name(req, "pool", &pool, err) < 0 || api_name(req, "node", &node, err) < 0 ||
        change(model, pool, node, err) < 0)
        return -1;
    return reply_membership(model, pool, node, reply, err);
}

int api_pool_join(struct http_request *req, struct http_reply *reply, struct error *err)
{
    return change_membership(req, reply, model_pool_join, err);
}

int api_pool_leave(struct http_request *req, struct http_reply *reply, struct error *err)
{
    return change_membership(req, reply, model_pool_leave, err);
}
