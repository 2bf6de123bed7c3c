/* SPDX-License-Identifier: Apache-2.0 */
/* migration_assignment.h - what the broker asks of this node in one migration
 * (docs/protocol.md, "An agent's life"). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "birth_mask.h"
#include "error.h"
#include "json.h"
#include "migration_states.h"

struct assignment {
    char *migration, *workload; /* owned, as are the other strings */
    char *role;                 /* "source" or "target" */
    char *action, *state;
    json_object *peer; /* owned */
    char *ticket, *dir, *pool;
    json_object *command; /* owned; array of strings */
    json_object *mask;    /* owned; as it came; NULL: none */
    uint64_t max_bytes;
    int64_t deadline_at_ms;
    bool look_again; /* source: show with the dump what the stopped workload has */

    /* from the above */
    enum migration_action what;
    bool is_source;
    const char *peer_node, *peer_address; /* borrowed from peer */
    struct birth_mask birth_mask;         /* owned; from mask */
};

/* Decodes and checks: names, role, action, an absolute folder without links up. *ret is zeroed
 * by the caller and owned by it on success. Errors: ERROR_INVALID naming the member. */
int assignment_decode(json_object *json, struct assignment *ret, struct error *err);
json_object *assignment_to_json(const struct assignment *assignment);
void assignment_done(struct assignment *assignment);
/* The host of "10.0.0.2:7072" or "[fd00::2]:7072" into host[64]; -1 when it is neither. */
int address_host(const char *address, char host[64], struct error *err);
