/* SPDX-License-Identifier: Apache-2.0 */
/* api.h - the handlers of the API, one api_*.c per resource; route.c has the
 * table.
 *
 * A handler reads the request, asks the model or the migrations, and fills the
 * reply; it returns 0, -1 with *err, or HTTP_WAIT. The context of every request
 * is the broker. */
#pragma once

#include "broker.h"
#include "door.h"

#define HANDLERS(X)           \
    X(api_nodes_list)         \
    X(api_node_get)           \
    X(api_node_delete)        \
    X(api_node_report)        \
    X(api_node_heartbeat)     \
    X(api_node_assignments)   \
    X(api_node_claim)         \
    X(api_pools_list)         \
    X(api_pool_get)           \
    X(api_pool_put)           \
    X(api_pool_delete)        \
    X(api_pool_join)          \
    X(api_pool_leave)         \
    X(api_pool_masks)         \
    X(api_pool_advice)        \
    X(api_pool_matrix)        \
    X(api_pool_what_if)       \
    X(api_workloads_list)     \
    X(api_workload_get)       \
    X(api_events_list)        \
    X(api_webhooks_list)      \
    X(api_webhook_create)     \
    X(api_webhook_delete)     \
    X(api_webhook_deliveries) \
    X(api_check)              \
    X(api_migrate)            \
    X(api_migrations_list)    \
    X(api_migration_get)      \
    X(api_migration_cancel)   \
    X(api_migration_events)   \
    X(api_migration_progress) \
    X(api_tokens_list)        \
    X(api_token_create)       \
    X(api_token_delete)       \
    X(api_healthz)            \
    X(api_readyz)             \
    X(api_metrics)

#define X(handler) \
    int handler(struct http_request *req, struct http_reply *reply, struct error *err);
HANDLERS(X)
#undef X

#define X(path, function, summary) \
    int api_##function(struct http_request *req, struct http_reply *reply, struct error *err);
DOORS(X)
#undef X

static inline struct broker *api_broker(const struct http_request *req)
{
    return req->ctx;
}

/* The paths of the doors (door.h) begin so. */
#define DOOR_PREFIX "/webhooks/"

/* `POST /v1/check` where `to` is a list, or `pool` stands instead of it. */
int api_check_many(struct http_request *req, json_object *json, struct http_reply *reply,
                   struct error *err);
/* A path parameter that must be a name. */
int api_name(const struct http_request *req, const char *what, const char **ret, struct error *err);
/* An agent may speak for its own node only. */
int api_own_node(const struct http_request *req, const char *node, struct error *err);
/* 201 or 200 with {"workload":…}; the model is not locked. */
json_object *api_workload_json(struct model *model, const struct workload *workload);
