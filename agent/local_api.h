/* SPDX-License-Identifier: Apache-2.0 */
/* local_api.h - the routes of the agent's Unix socket, for people on its own machine
 * (docs/protocol.md, "The local socket"). */
#pragma once

#include <stdint.h>

#include "error.h"
#include "http.h"
#include "json.h"
#include "workload.h"

#define LOCAL_SOCKET_DEFAULT "/run/cpubroker/agent.sock"
#define LOCAL_SOCKET_GROUP   "cpubroker"

struct local_api_config {
    const char *socket_path;     /* made anew: 0660 root:cpubroker; 0600 without that group */
    const char *default_pool;    /* for a run or adopt that names none */
    struct workloads *workloads; /* borrowed; outlives the server */
    /* Claims the name at the broker before anything is started; `dir` is resolved. May be NULL
     * (no broker: nothing is claimed, and nothing is masked). `grade` is the mask's that it is to
     * be born under; *ret_mask what the broker says of it, owned by the caller, NULL with OFF. On
     * -1 the caller gets *err as it is. */
    int (*claim)(void *ctx, const struct workload_spec *spec, bool adopted, enum mask_grade grade,
                 json_object **ret_mask, struct error *err);
    /* GET /v1/status: the agent's own account of itself; the caller owns it. May be NULL. */
    json_object *(*status)(void *ctx);
    void *ctx;
};

/* Copies the config. The server runs on threads of its own until local_api_free. */
struct local_api; /* opaque */
int local_api_start(const struct local_api_config *config, struct local_api **ret,
                    struct error *err);
void local_api_free(struct local_api *api); /* stops the server, removes the socket; NULL is fine */
DEFINE_AUTO(local_api)
