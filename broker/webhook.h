/* SPDX-License-Identifier: Apache-2.0 */
/* webhook.h - tells receivers elsewhere of events: signed, retried, persisted until delivered or
 * given up on.
 *
 * A delivery is a row that was written in the transaction of the event (store_deliveries_add).
 * Each webhook has a thread of its own that posts its rows, so that a receiver that is dead or
 * slow delays nobody else; no lock but the database's own is held while one waits. A delivery may
 * arrive twice (a crash between the post and its record); its id tells. */
#pragma once

#include <stdint.h>

#include "cleanup.h"
#include "clock.h"
#include "error.h"
#include "json.h"
#include "store.h"

struct webhooks;

#define WEBHOOKS_MAX             32
#define WEBHOOK_URL_MAX_BYTES    2048
#define WEBHOOK_SECRET_MIN_BYTES 16
#define WEBHOOK_SECRET_MAX_BYTES 256
#define WEBHOOK_TRIES_MAX        20
#define WEBHOOK_AGE_MAX_MS       (24L * 3600 * 1000)
#define WEBHOOK_BACKOFF_MS       1000
#define WEBHOOK_BACKOFF_MAX_MS   300000
#define WEBHOOK_PENDING_MAX      10000 /* of one webhook; past it the oldest are given up */
#define WEBHOOK_SETTLED_KEPT     1000  /* of one webhook, delivered and dead each */

/* The kind of a migration's phases, beside those of events.h. */
#define WEBHOOK_MIGRATION "migration"

/* What became of tries, since the start.   result  label */
#define WEBHOOK_RESULTS(X) X(DELIVERED, "delivered") X(RETRIED, "retried") X(DEAD, "dead")

enum webhook_result {
#define X(result, name) WEBHOOK_##result,
    WEBHOOK_RESULTS(X)
#undef X
        WEBHOOK_RESULT_COUNT
};

/* Reads what the database has; `store` and `clock` are borrowed. No thread yet. */
int webhooks_new(struct store *store, const struct clock *clock, struct webhooks **ret,
                 struct error *err);
/* From now on there is a thread for each webhook, those made later too. */
int webhooks_start(struct webhooks *webhooks, struct error *err);
void webhooks_free(struct webhooks *webhooks); /* NULL is fine; calls that run are cut short */
DEFINE_AUTO(webhooks)
/* Something may be due. Any thread, any lock but the senders' held. */
void webhooks_wake(struct webhooks *webhooks);

struct webhook_request {
    const char *url;
    const char *secret;  /* NULL: one is made */
    json_object *events; /* array of kinds; NULL: all */
};
/* ERROR_INVALID names the member; ERROR_CONFLICT past WEBHOOKS_MAX. */
int webhooks_create(struct webhooks *webhooks, const struct webhook_request *request,
                    char ret_id[32], char ret_secret[WEBHOOK_SECRET_MAX_BYTES + 1],
                    struct error *err);
/* ERROR_NOT_FOUND. */
int webhooks_delete(struct webhooks *webhooks, const char *id, struct error *err);
int webhooks_check_id(struct webhooks *webhooks, const char *id, struct error *err);

/* Posts what of this webhook has been due longest, if anything is. *ret_wait_ms is how long until
 * the next, -1 for none. What the threads do; tests call it without them. */
int webhooks_step(struct webhooks *webhooks, const char *id, int64_t *ret_wait_ms,
                  struct error *err);

const char *webhook_result_name(enum webhook_result result);
uint64_t webhooks_count(const struct webhooks *webhooks, enum webhook_result result);
