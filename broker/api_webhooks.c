/* SPDX-License-Identifier: Apache-2.0 */
/* api_webhooks.c - who is told of events, and what became of what they were told. */
#include <string.h>

#include "api.h"
#include "webhook.h"

#define EVENTS_MAX 64
#define LIMIT      100
#define LIMIT_MAX  1000

static int webhook_json(const struct store_webhook *row, json_object **ret, struct error *err)
{
    json_object *events = NULL;
    if (row->events && json_parse(row->events, strlen(row->events), &events, err) < 0)
        return error_wrap(err, "database: webhook '%s'", row->id);
    json_object *o = json_object_new_object();
    json_put_str(o, "id", row->id);
    json_put_str(o, "url", row->url);
    json_put(o, "events", events);
    json_put_int(o, "created_at_ms", row->created_at_ms);
    json_put_int(o, "pending", row->pending);
    json_put_int(o, "dead", row->dead);
    *ret = o;
    return 0;
}

static int add_webhook(void *ctx, const struct store_webhook *row, struct error *err)
{
    json_object *o = NULL;
    if (webhook_json(row, &o, err) < 0)
        return -1;
    json_object_array_add(ctx, o);
    return 0;
}

int api_webhooks_list(struct http_request *req, struct http_reply *reply, struct error *err)
{
    autojson *list = json_object_new_array();
    if (store_webhooks(api_broker(req)->store, add_webhook, list, err) < 0)
        return -1;
    json_object *o = json_object_new_object();
    json_put(o, "webhooks", steal_ptr(&list));
    http_reply_json(reply, 200, o);
    return 0;
}

int api_webhook_create(struct http_request *req, struct http_reply *reply, struct error *err)
{
    autojson *json = NULL;
    struct webhook_request request = {0};
    char id[32], secret[WEBHOOK_SECRET_MAX_BYTES + 1];
    if (http_request_json(req, &json, err) < 0 ||
        json_get_str("webhook", json, "url", &request.url, err) < 0 ||
        json_opt_str("webhook", json, "secret", &request.secret, err) < 0 ||
        (json_member(json, "events") &&
         json_get_array("webhook", json, "events", EVENTS_MAX, &request.events, err) < 0) ||
        webhooks_create(api_broker(req)->webhooks, &request, id, secret, err) < 0)
        return -1;
    json_object *o = json_object_new_object();
    json_put_str(o, "id", id);
    json_put_str(o, "url", request.url);
    json_put(o, "events", json_object_get(request.events));
    json_put_str(o, "secret", secret);
    explicit_bzero(secret, sizeof(secret));
    http_reply_json(reply, 201, o);
    return 0;
}

int api_webhook_delete(struct http_request *req, struct http_reply *reply, struct error *err)
{
    if (webhooks_delete(api_broker(req)->webhooks, http_request_param(req, "id"), err) < 0)
        return -1;
    reply->status = 204;
    return 0;
}

static void put_time(json_object *o, const char *name, int64_t at_ms)
{
    json_put(o, name, at_ms < 0 ? NULL : json_object_new_int64(at_ms));
}

static int add_delivery(void *ctx, const struct store_delivery *row, struct error *err)
{
    json_object *body = NULL;
    if (json_parse(row->body, strlen(row->body), &body, err) < 0)
        return error_wrap(err, "database: delivery %lld", (long long)row->id);
    json_object *o = json_object_new_object();
    json_put_int(o, "id", row->id);
    json_put_str(o, "event", row->kind);
    json_put_str(o, "state", row->state);
    json_put_int(o, "tries", row->tries);
    json_put_int(o, "created_at_ms", row->created_at_ms);
    put_time(o, "next_at_ms", row->settled_at_ms < 0 ? row->next_at_ms : -1);
    put_time(o, "settled_at_ms", row->settled_at_ms);
    json_put_str(o, "problem", row->problem);
    json_put(o, "body", body);
    json_object_array_add(ctx, o);
    return 0;
}

int api_webhook_deliveries(struct http_request *req, struct http_reply *reply, struct error *err)
{
    struct broker *broker = api_broker(req);
    const char *id = http_request_param(req, "id"), *state = http_request_query(req, "state");
    uint64_t limit = 0;
    autojson *list = json_object_new_array();
    if (state && strcmp(state, "pending") != 0 && strcmp(state, "delivered") != 0 &&
        strcmp(state, "dead") != 0)
        return error_set(err, ERROR_INVALID,
                         "state: expected pending, delivered or dead, not '%.40s'", state);
    if (http_request_query_u64(req, "limit", 1, LIMIT_MAX, LIMIT, &limit, err) < 0 ||
        webhooks_check_id(broker->webhooks, id, err) < 0 ||
        store_deliveries(broker->store, id, state, (int64_t)limit, add_delivery, list, err) < 0)
        return -1;
    json_object *o = json_object_new_object();
    json_put(o, "deliveries", steal_ptr(&list));
    http_reply_json(reply, 200, o);
    return 0;
}
