/* SPDX-License-Identifier: Apache-2.0 */
/* events.h - what happened to the fleet: the one table of kinds, and how events are noted.
 *
 * Events are prepared under the writer's mutex, written in the very transaction of the change that
 * causes them, and told (log, metrics, webhooks' senders) once that is committed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "json.h"

struct model;
struct store_fleet_event;

/* clang-format off */
/*     kind                 wire name              meaning for people */
#define FLEET_EVENTS(X)                                                                            \
    X(POOL_MASK_SHRUNK,    "pool_mask_shrunk",    "a pool's mask lost something")                  \
    X(POOL_MASK_GROWN,     "pool_mask_grown",     "a pool's mask gained something")                \
    X(WORKLOAD_STRANDED,   "workload_stranded",   "a live workload fits fewer members than before") \
    X(NODE_DRIFTED,        "node_drifted",        "a node reports other facts than before")        \
    X(WORKLOAD_LOST,       "workload_lost",       "a workload was given up with its node")          \
    X(POOL_JOIN_REFUSED,   "pool_join_refused",   "a node was left outside its pool")
/* clang-format on */

enum fleet_event {
#define X(kind, name, meaning) FLEET_##kind,
    FLEET_EVENTS(X)
#undef X
        FLEET_EVENT_COUNT
};

#define FLEET_EVENTS_KEPT 100000

struct fleet_note {
    enum fleet_event kind;
    char *node, *pool, *workload; /* owned; NULL where it is about none */
    json_object *detail;          /* owned */
};

/* Zeroed by the caller, ended with fleet_events_done. */
struct fleet_events {
    struct fleet_note *items; /* owned */
    size_t count, room;
};

/* Takes `detail`; the names may be NULL. */
void fleet_events_add(struct fleet_events *events, enum fleet_event kind, const char *node,
                      const char *pool, const char *workload, json_object *detail);
/* Within the caller's transaction. */
int fleet_events_store(struct model *model, const struct fleet_events *events, struct error *err);
/* Once they are committed: a line in the log for each, and the counters. */
void fleet_events_tell(struct model *model, const struct fleet_events *events);
void fleet_events_done(struct fleet_events *events);

const char *fleet_event_name(enum fleet_event kind);
const char *fleet_event_meaning(enum fleet_event kind);
/* {"seq","at_ms","kind","node","pool","workload","detail"}; the caller owns it. */
int fleet_event_json(const struct store_fleet_event *row, json_object **ret, struct error *err);
