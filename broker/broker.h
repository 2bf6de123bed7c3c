/* SPDX-License-Identifier: Apache-2.0 */
/* broker.h - the broker as a whole: configuration, database, model, server. */
#pragma once

#include <stdatomic.h>
#include <stdio.h>

#include "config.h"
#include "http.h"
#include "migration.h"

struct metrics;
struct verdict_cache;
struct webhooks;

struct broker_config {
    char *listen, *state_dir;                 /* owned */
    char *tls_cert, *tls_key, *tls_client_ca; /* owned; may be NULL */
    char *log_level;                          /* owned */
    bool allow_plain_http;
    uint64_t heartbeat_interval_ms, silent_after_ms;
    uint64_t prepare_timeout_ms, dump_timeout_ms, transfer_timeout_ms, restore_timeout_ms;
    uint64_t max_image_bytes;
    uint64_t connections_max;
    uint64_t history_days; /* 0: for ever */
};
extern const struct config_key broker_config_keys[];

struct broker {
    struct broker_config config; /* strings owned */
    const struct clock *clock;   /* borrowed */
    int lock_fd;                 /* holds the state folder's lock; -1 in tests */
    struct store *store;         /* owned, as are the next five */
    struct model *model;
    struct metrics *metrics;
    struct verdict_cache *cache;
    struct timer *timer;
    struct webhooks *webhooks;
    struct migrations migrations;
    _Atomic(struct http_server *) server; /* owned; NULL until it listens */
};

/* Opens the state folder (made when it is not there) and everything in it; no
 * socket and no thread yet. Takes what *config owns, also on failure. On the
 * first start it writes an operator's token to <state_dir>/operator.token.
 * ERROR_CONFLICT when another broker holds the folder. */
int broker_open(struct broker_config *config, const struct clock *clock, struct broker **ret,
                struct error *err);
/* Listens, and watches deadlines. */
int broker_start(struct broker *broker, struct error *err);
/* The address that it listens on. Borrowed. */
const char *broker_address(const struct broker *broker);
void broker_free(struct broker *broker); /* NULL is fine */
DEFINE_AUTO(broker)

/* The API (route.c), ends with a NULL method. */
extern const struct http_route broker_routes[];
/* For struct http_config: who a bearer token is. */
int broker_authenticate(struct http_request *req, struct http_principal *principal,
                        struct error *err);
