/* SPDX-License-Identifier: Apache-2.0 */
/* route.c - every route of the broker: who may use it, how large a body may be, what it is for. */
#include "api.h"
#include "cpu_evidence.h"
#include "cpu_report.h"

#define ANYBODY  0 /* no token is needed */
#define READ     (ROLE_VIEWER | ROLE_OPERATOR)
#define WRITE    ROLE_OPERATOR
#define AGENT    ROLE_AGENT
#define ASK      (ROLE_WEBHOOK | READ)
#define EITHER   (WRITE | AGENT)
#define KIB      1024UL
#define REPORT   CPU_REPORT_MAX_BYTES
#define PROGRESS (CPU_EVIDENCE_TOLD_MAX + 64 * KIB)

const struct http_route broker_routes[] = {
  /* clang-format off */
    {"POST",   "/v1/check",                          READ,    128 * KIB,  api_check,              NULL,
     "the verdict about a move, or about many; nothing else happens"},
    {"POST",   "/migrate",                           WRITE,   4 * KIB,   api_migrate,            NULL,
     "moves a workload"},
    {"POST",   "/v1/migrate",                        WRITE,   4 * KIB,   api_migrate,            NULL,
     "moves a workload"},
    {"GET",    "/v1/migrations",                     READ,    0,         api_migrations_list,    NULL,
     "the latest migrations, newest first"},
    {"GET",    "/v1/migrations/{id}",                READ,    0,         api_migration_get,      NULL,
     "one migration"},
    {"DELETE", "/v1/migrations/{id}",                WRITE,   0,         api_migration_cancel,   NULL,
     "cancels a migration that is not committing yet"},
    {"GET",    "/v1/migrations/{id}/events",         READ,    0,         api_migration_events,   NULL,
     "its events, from the first, as they happen"},
    {"POST",   "/v1/migrations/{id}/progress",       AGENT,   PROGRESS,  api_migration_progress, NULL,
     "what an agent did of its part"},
    {"GET",    "/v1/nodes",                          READ,    0,         api_nodes_list,         NULL,
     "the fleet, with liveness"},
    {"GET",    "/v1/nodes/{node}",                   READ,    0,         api_node_get,           NULL,
     "one node, with its features and its report"},
    {"DELETE", "/v1/nodes/{node}",                   WRITE,   0,         api_node_delete,        NULL,
     "forgets a node that holds nothing"},
    {"PUT",    "/v1/nodes/{node}/report",            EITHER,  REPORT,    api_node_report,        NULL,
     "a node's report, or an imported one"},
    {"POST",   "/v1/nodes/{node}/heartbeat",         AGENT,   512 * KIB, api_node_heartbeat,     NULL,
     "the node's agent lives, and holds these workloads"},
    {"GET",    "/v1/nodes/{node}/assignments",       AGENT,   0,         api_node_assignments,   NULL,
     "what the node is to do now; waits for a change"},
    {"PUT",    "/v1/nodes/{node}/workloads/{name}",  AGENT,   128 * KIB, api_node_claim,         NULL,
     "claims a workload's name before it is started"},
    {"GET",    "/v1/pools",                          READ,    0,         api_pools_list,         NULL,
     "the pools"},
    {"GET",    "/v1/pools/{pool}",                   READ,    0,         api_pool_get,           NULL,
     "one pool"},
    {"PUT",    "/v1/pools/{pool}",                   WRITE,   4 * KIB,   api_pool_put,           NULL,
     "makes a pool, or sets its policy"},
    {"DELETE", "/v1/pools/{pool}",                   WRITE,   0,         api_pool_delete,        NULL,
     "removes an empty pool"},
    {"PUT",    "/v1/pools/{pool}/nodes/{node}",      WRITE,   4 * KIB,   api_pool_join,          NULL,
     "makes a node a member"},
    {"DELETE", "/v1/pools/{pool}/nodes/{node}",      WRITE,   0,         api_pool_leave,         NULL,
     "ends a membership"},
    {"GET",    "/v1/pools/{pool}/masks",             READ,    0,         api_pool_masks,         NULL,
     "what every member has, and what each loses by it"},
    {"GET",    "/v1/pools/{pool}/advice",            READ,    0,         api_pool_advice,        NULL,
     "what each member costs the pool, and a split that loses little"},
    {"GET",    "/v1/pools/{pool}/matrix",            READ,    0,         api_pool_matrix,        NULL,
     "who can move to whom by its CPU"},
    {"POST",   "/v1/pools/{pool}/what-if",           READ,    REPORT,    api_pool_what_if,       NULL,
     "what other members would change; nothing else happens"},
    {"GET",    "/v1/workloads",                      READ,    0,         api_workloads_list,     NULL,
     "who runs where"},
    {"GET",    "/v1/workloads/{name}",               READ,    0,         api_workload_get,       NULL,
     "one workload, with what it was exposed to"},
    {"GET",    "/v1/events",                         READ,    0,         api_events_list,        NULL,
     "what happened to the fleet"},
    {"GET",    "/v1/webhooks",                       WRITE,   0,         api_webhooks_list,      NULL,
     "who is told of events"},
    {"POST",   "/v1/webhooks",                       WRITE,   8 * KIB,   api_webhook_create,     NULL,
     "tells a URL of events; the answer is the only place that has the secret"},
    {"DELETE", "/v1/webhooks/{id}",                  WRITE,   0,         api_webhook_delete,     NULL,
     "tells it nothing any more"},
    {"GET",    "/v1/webhooks/{id}/deliveries",       WRITE,   0,         api_webhook_deliveries, NULL,
     "what it was told, what waits, and what was given up"},
    {"GET",    "/v1/tokens",                         WRITE,   0,         api_tokens_list,        NULL,
     "the tokens, without their secrets"},
    {"POST",   "/v1/tokens",                         WRITE,   4 * KIB,   api_token_create,       NULL,
     "makes a token; the answer is the only place that has it"},
    {"DELETE", "/v1/tokens/{id}",                    WRITE,   0,         api_token_delete,       NULL,
     "removes a token"},
#define X(path, function, summary) {"POST", path, ASK, DOOR_BODY_MAX, api_##function, NULL, summary},
    DOORS(X)
#undef X
    {"GET",    "/healthz",                           ANYBODY, 0,         api_healthz,            NULL,
     "the broker runs"},
    {"GET",    "/readyz",                            ANYBODY, 0,         api_readyz,             NULL,
     "the broker runs and can write its database"},
    {"GET",    "/metrics",                           READ,    0,         api_metrics,            NULL,
     "OpenMetrics"},
    {0},
  /* clang-format on */
};
