/* SPDX-License-Identifier: Apache-2.0 */
/* heartbeat.h - what an agent's heartbeat means: its node is live, and holds
 * these workloads. */
#pragma once

#include "migration.h"

#define HEARTBEAT_WORKLOADS_MAX 4096

struct heartbeat {
    char *version, *boot_id, *image_address, *pool, *report_sha256; /* owned; may be NULL */
    uint64_t free_bytes;
    json_object *workloads; /* owned; array */
};

/* Decodes and checks. The caller ends it with heartbeat_done. */
int heartbeat_decode(json_object *json, struct heartbeat *ret, struct error *err);
void heartbeat_done(struct heartbeat *heartbeat);
/* `token` is the id of the agent's token, which is bound to the node by its
 * first heartbeat. */
int heartbeat_take(struct migrations *migrations, const char *token, const char *node,
                   const struct heartbeat *heartbeat, bool *ret_report_wanted, struct error *err);
