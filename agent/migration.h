/* SPDX-License-Identifier: Apache-2.0 */
/* migration.h - the agent's half of all migrations: what the broker assigns becomes what is done
 * here, journal first (docs/states.md).
 *
 * Assignments come as the complete list from the long poll, and one by one as answers to reports;
 * both are desired state, so old or doubled ones do no harm. A few worker threads do the work,
 * one migration each at a time. Thread-safe. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cleanup.h"
#include "client.h"
#include "clock.h"
#include "engine.h"
#include "error.h"
#include "json.h"
#include "workload.h"

#define MIGRATIONS_MAX 64 /* at once on one node */

struct migrations_config { /* strings are copied; the rest is borrowed and outlives it */
    const char *node;
    const char *state_dir;
    struct workloads *workloads;
    struct engine *engine;          /* NULL: none works here */
    const char *engine_error;       /* why not */
    struct client_config broker;    /* how reports are sent; also copied */
    const char *tls_ca;             /* the CA of peers' listeners; NULL with plain HTTP */
    const char *tls_cert, *tls_key; /* shown to peers; NULL for none */
    bool peers_use_tls;
    uint64_t dump_timeout_ms, restore_timeout_ms, stall_timeout_ms;
    uint64_t slack_bytes; /* disk room that is never used; 0: IMAGE_ROOM_SLACK_BYTES */
    const struct clock *clock;
};

struct migrations; /* opaque */

/* Reads the journals, puts right what a crash cut short (a dump, a restore), and tells the broker
 * again what it may have missed. */
int migrations_new(const struct migrations_config *config, struct migrations **ret,
                   struct error *err);
/* The complete list of this node's assignments (a JSON array), as the long poll gave it. */
void migrations_assign(struct migrations *migrations, json_object *assignments);
/* Another engine, after a new probe; NULL with the reason when none works. */
void migrations_set_engine(struct migrations *migrations, struct engine *engine,
                           const char *engine_error);
/* Ends transfers, lets a dump or restore under way end, takes no new work. */
void migrations_stop(struct migrations *migrations);
void migrations_free(struct migrations *migrations); /* stops first; NULL is fine */
DEFINE_AUTO(migrations)
/* For `status`: an array of {"migration","workload","role","step"}; the caller owns it. */
json_object *migrations_to_json(struct migrations *migrations);

/* One image on its way in; image_server.c calls these. */
struct migration_upload;

/* Takes the ticket, durably, before a byte of the image is read. `peer_ip` is the sender's
 * address, `node` what it says its name is. Errors: ERROR_UNAUTHENTICATED (no such migration or a
 * wrong ticket; which of them is not told), ERROR_FORBIDDEN (another peer or node),
 * ERROR_CONFLICT (used already, or not prepared), ERROR_TIMEOUT (too late), ERROR_BUSY. */
int migration_upload_open(struct migrations *migrations, const char *id, const char *ticket,
                          const char *node, const char *peer_ip, struct migration_upload **ret,
                          struct error *err);
int migration_upload_data(struct migration_upload *upload, const void *data, size_t length,
                          struct error *err);
/* The stream is whole: checks it, journals it as received and has it reported. */
int migration_upload_finish(struct migration_upload *upload, uint64_t *ret_bytes, size_t *ret_files,
                            struct error *err);
/* Always; removes what arrived unless finish succeeded. */
void migration_upload_close(struct migration_upload *upload);
