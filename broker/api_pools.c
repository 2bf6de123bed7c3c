/* SPDX-License-Identifier: Apache-2.0 */
/* api_pools.c - pools, their members and their masks. */
#include <string.h>

#include "api.h"
#include "format.h"

static json_object *member_names(const struct pool *pool, bool without_report)
{
    json_object *names = json_object_new_array();
    struct node *node = NULL;
    SORTED_EACH(&pool->members, node)
    if (!without_report || !node->profile)
        json_object_array_add(names, json_object_new_string(node->name));
    return names;
}

static json_object *pool_json(const struct pool *pool)
{
    json_object *o = json_object_new_object();
    json_put_str(o, "name", pool->name);
    json_put_int(o, "epoch", pool->epoch);
    json_put(o, "members", member_names(pool, false));
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

static int decode_policy(const struct http_request *req, struct pool_policy *ret, struct error *err)
{
    autojson *json = NULL;
    json_object *policy = NULL;
    *ret = pool_policy_default();
    if (req->body_length == 0)
        return 0; /* a pool with the usual policy */
    if (http_request_json(req, &json, err) < 0)
        return -1;
    if (!json_member(json, "policy"))
        return 0;
    if (json_get_object("pool", json, "policy", &policy, err) < 0)
        return -1;
    return pool_policy_decode(policy, ret, err);
}

int api_pool_put(struct http_request *req, struct http_reply *reply, struct error *err)
{
    struct model *model = api_broker(req)->model;
    const char *name = NULL;
    struct pool_policy policy;
    bool made = false;
    if (api_name(req, "pool", &name, err) < 0 || decode_policy(req, &policy, err) < 0 ||
        model_pool_put(model, name, &policy, &made, err) < 0)
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

int api_pool_join(struct http_request *req, struct http_reply *reply, struct error *err)
{
    struct model *model = api_broker(req)->model;
    const char *pool = NULL, *node = NULL;
    if (api_name(req, "pool", &pool, err) < 0 || api_name(req, "node", &node, err) < 0 ||
        model_pool_join(model, pool, node, err) < 0)
        return -1;
    return reply_pool(model, pool, 200, reply, err);
}

int api_pool_leave(struct http_request *req, struct http_reply *reply, struct error *err)
{
    struct model *model = api_broker(req)->model;
    const char *pool = NULL, *node = NULL;
    if (api_name(req, "pool", &pool, err) < 0 || api_name(req, "node", &node, err) < 0 ||
        model_pool_leave(model, pool, node, err) < 0)
        return -1;
    return reply_pool(model, pool, 200, reply, err);
}

static json_object *lost_features(const struct pool *pool)
{
    json_object *lost = json_object_new_object();
    struct node *node = NULL;
    SORTED_EACH(&pool->members, node)
    if (node->profile)
        json_put(lost, node->name, mask_lost(pool->profile, node->profile->cpu));
    return lost;
}

static json_object *masks_json(const struct pool *pool)
{
    static const char *const parts[] = {"registers", "features", "xsave", "level"};
    autojson *mask = pool->profile ? mask_profile_to_json(pool->profile) : NULL;
    json_object *o = json_object_new_object();
    json_put_str(o, "pool", pool->name);
    json_put_int(o, "epoch", pool->epoch);
    json_put(o, "members", member_names(pool, false));
    /* These do not count in the mask yet. */
    json_put(o, "unreported", member_names(pool, true));
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        json_put(o, parts[i], json_object_get(json_member(mask, parts[i])));
    if (!mask) {
        json_put(o, "registers", json_object_new_array());
        json_put(o, "features", json_object_new_array());
    }
    json_put(o, "lost", lost_features(pool));
    return o;
}

/* The mask as a tool reads it. */
static int reply_format(struct http_request *req, const char *name, const char *format_text,
                        struct http_reply *reply, struct error *err)
{
    struct model *model = api_broker(req)->model;
    enum format format = FORMAT_ENV;
    if (format_from_name(format_text, &format, err) < 0)
        return -1;
    model_read_lock(model);
    const struct pool *pool = model_pool(model, name, err);
    AUTO(cpu_profile) mask = pool && pool->profile ? cpu_profile_ref(pool->profile) : NULL;
    model_unlock(model);
    char *text = pool ? format_write(format, mask, err) : NULL;
    if (!text)
        return -1;
    http_reply_text(reply, 200, format_media_type(format), text);
    return 0;
}

int api_pool_masks(struct http_request *req, struct http_reply *reply, struct error *err)
{
    struct model *model = api_broker(req)->model;
    const char *name = NULL;
    const char *format = http_request_query(req, "format");
    if (api_name(req, "pool", &name, err) < 0)
        return -1;
    if (format && strcmp(format, "json") != 0)
        return reply_format(req, name, format, reply, err);
    model_read_lock(model);
    const struct pool *pool = model_pool(model, name, err);
    json_object *o = pool ? masks_json(pool) : NULL;
    model_unlock(model);
    if (!o)
        return -1;
    http_reply_json(reply, 200, o);
    return 0;
}
