/* SPDX-License-Identifier: Apache-2.0 */
/* broker_link.h - what the agent says to the broker, and what it hears: heartbeats, the report,
 * claims of names, and the long poll for assignments.
 *
 * All calls go out; a broker that is away is asked again with growing pauses, and the log has one
 * line when it is lost and one when it is back. Thread-safe. */
#pragma once

#include "cleanup.h"
#include "client.h"
#include "error.h"
#include "json.h"
#include "migration.h"
#include "workload.h"

struct broker_link_config { /* strings are copied; the rest outlives the link */
    const char *node, *pool;
    const char *image_address; /* by which peers reach this node */
    const char *state_dir;     /* whose free room is told */
    const char *boot_id;
    struct client_config broker; /* also copied */
    struct workloads *workloads;
    struct migrations *migrations;
};

struct broker_link;

/* Starts both threads. `report` is the report as JSON (a reference is taken), `sha256` its hash. */
int broker_link_start(const struct broker_link_config *config, json_object *report,
                      const char *sha256, struct broker_link **ret, struct error *err);
void broker_link_free(struct broker_link *link); /* ends calls under way; NULL is fine */
DEFINE_AUTO(broker_link)
/* Another report, after a new probe; told when its hash is another one. */
void broker_link_set_report(struct broker_link *link, json_object *report, const char *sha256);
/* A heartbeat at once: a workload changed. */
void broker_link_poke(struct broker_link *link);
/* Claims a workload's name for this node, before anything is started. Errors: the broker's
 * (ERROR_CONFLICT: it runs elsewhere), ERROR_UNREACHABLE. */
int broker_link_claim(struct broker_link *link, const struct workload_spec *spec, bool adopted,
                      enum mask_grade grade, json_object **ret_mask, struct error *err);
/* {"broker":URL,"connected":true,"seen_at_ms":…}; the caller owns it. */
json_object *broker_link_status(struct broker_link *link);
