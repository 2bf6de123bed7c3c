/* SPDX-License-Identifier: Apache-2.0 */
/* webhook.c - the senders of webhooks. */
#include "webhook.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client.h"
#include "digest.h"
#include "events.h"
#include "log.h"
#include "sorted.h"

#define CONNECT_TIMEOUT_MS 5000
#define TIMEOUT_MS         10000
#define IDLE_MS            5000 /* looked at at least this often */
#define STUMBLE_MS         1000 /* when the database does not answer */

struct sender {
    char *id; /* owned */
    struct webhooks *webhooks;
    struct client *client; /* owned; its thread's */
    char *path, *secret;   /* owned */
    pthread_t thread;
    bool has_thread; /* guarded by webhooks->changing */
    atomic_bool ends;
};

struct webhooks {
    struct store *store;
    const struct clock *clock;
    _Atomic uint64_t counts[WEBHOOK_RESULT_COUNT];
    pthread_mutex_t changing; /* one at a time makes or removes; taken before `lock` */
    pthread_mutex_t lock;     /* guards what follows; nothing is called under it */
    pthread_cond_t wake;
    uint64_t wakes;
    bool threads;
    struct sorted senders; /* struct sender, owned */
};

static const char *const results[] = {
#define X(result, name) name,
    WEBHOOK_RESULTS(X)
#undef X
};

const char *webhook_result_name(enum webhook_result result)
{
    return results[result];
}

uint64_t webhooks_count(const struct webhooks *webhooks, enum webhook_result result)
{
    return atomic_load(&webhooks->counts[result]);
}

static void sender_free(struct sender *sender)
{
    if (!sender)
        return;
    client_free(sender->client);
    if (sender->secret)
        explicit_bzero(sender->secret, strlen(sender->secret));
    free(sender->secret);
    free(sender->path);
    free(sender->id);
    free(sender);
}
DEFINE_AUTO(sender)

/* "https://host:port/path?query" apart; user names and passwords in it would end up in lists. */
static int split_url(const char *url, char **ret_base, char **ret_path, struct error *err)
{
    size_t scheme = strncmp(url, "http://", 7) == 0 ? 7 : strncmp(url, "https://", 8) == 0 ? 8 : 0;
    size_t host = scheme ? strcspn(url + scheme, "/?") : 0;
    bool odd = strlen(url) > WEBHOOK_URL_MAX_BYTES || strchr(url, '#') || strchr(url, '\\');
    for (const char *p = url; *p; p++)
        odd = odd || (unsigned char)*p <= 0x20 || (unsigned char)*p >= 0x7f;
    if (!host || odd || memchr(url + scheme, '@', host))
        return error_set(err, ERROR_INVALID,
                         "webhook: url: expected http:// or https://, a host and a path, without a "
                         "user or a fragment, of at most %d bytes of ASCII",
                         WEBHOOK_URL_MAX_BYTES);
    const char *rest = url + scheme + host;
    *ret_base = xstrndup(url, scheme + host);
    *ret_path = xasprintf("%s%s", *rest == '/' ? "" : "/", rest);
    return 0;
}

static int sender_new(struct webhooks *webhooks, const char *id, const char *url,
                      const char *secret, struct sender **ret, struct error *err)
{
    AUTO(sender) sender = xcalloc(1, sizeof(*sender));
    autofree char *base = NULL;
    atomic_init(&sender->ends, false);
    sender->webhooks = webhooks;
    sender->id = xstrdup(id);
    sender->secret = xstrdup(secret);
    if (split_url(url, &base, &sender->path, err) < 0)
        return -1;
    const struct client_config config = {
        .base_url = base, .connect_timeout_ms = CONNECT_TIMEOUT_MS, .timeout_ms = TIMEOUT_MS};
    if (client_new(&config, &sender->client, err) < 0) {
        error_wrap(err, "webhook: url");
        return -1;
    }
    *ret = steal_ptr(&sender);
    return 0;
}

struct delivery { /* a copy, since none is held while it is sent */
    int64_t id, tries, created_at_ms;
    char *kind, *body; /* owned; NULL: nothing is due */
};

static int take_delivery(void *ctx, const struct store_delivery *row, struct error *err)
{
    (void)err;
    *(struct delivery *)ctx = (struct delivery){row->id, row->tries, row->created_at_ms,
                                                xstrdup(row->kind), xstrdup(row->body)};
    return 0;
}

/* 0 for a 2xx; else -1 with what was wrong. */
static int post(struct sender *sender, const struct delivery *d, struct error *err)
{
    char signature[SHA256_HEX_BYTES];
    unsigned status = 0;
    int64_t now_ms = clock_unix_ms(sender->webhooks->clock);
    autofree char *text = xasprintf("%lld.%s", (long long)now_ms, d->body);
    hmac_sha256_hex(sender->secret, text, strlen(text), signature);
    autofree char *timestamp = xasprintf("X-Cpubroker-Timestamp: %lld", (long long)now_ms);
    autofree char *signed_by = xasprintf("X-Cpubroker-Signature: sha256=%s", signature);
    autofree char *delivery = xasprintf("X-Cpubroker-Delivery: %lld", (long long)d->id);
    autofree char *event = xasprintf("X-Cpubroker-Event: %s", d->kind);
    const char *const headers[] = {timestamp, signed_by, delivery, event, NULL};
    if (client_post(sender->client, sender->path, headers, d->body, &status, err) < 0)
        return -1;
    if (status >= 200 && status <= 299)
        return 0;
    return error_set(err, ERROR_UPSTREAM, "it answered %u%s", status,
                     status >= 300 && status <= 399 ? "; redirections are not followed" : "");
}

/* Half of it is certain, half by chance, so that many that failed together come apart. */
static int64_t backoff_ms(int64_t tries)
{
    char random[9];
    int64_t most_ms = WEBHOOK_BACKOFF_MS;
    for (int64_t i = 1; i < tries && most_ms < WEBHOOK_BACKOFF_MAX_MS; i++)
        most_ms *= 2;
    if (most_ms > WEBHOOK_BACKOFF_MAX_MS)
        most_ms = WEBHOOK_BACKOFF_MAX_MS;
    random_hex(4, random);
    return most_ms / 2 + (int64_t)(strtoul(random, NULL, 16) % (unsigned long)(most_ms / 2 + 1));
}

/* A failing receiver's queue and the lists of what is settled stay bounded. */
static int make_room(struct sender *sender, enum webhook_result result, int64_t now_ms,
                     struct error *err)
{
    struct store *store = sender->webhooks->store;
    if (result == WEBHOOK_DELIVERED)
        return store_deliveries_prune(store, sender->id, "delivered", WEBHOOK_SETTLED_KEPT, err);
    if (store_deliveries_overflow(store, sender->id, WEBHOOK_PENDING_MAX, now_ms, err) < 0)
        return -1;
    return store_deliveries_prune(store, sender->id, "dead", WEBHOOK_SETTLED_KEPT, err);
}

static int settle(struct sender *sender, const struct delivery *d, const char *problem,
                  struct error *err)
{
    struct webhooks *webhooks = sender->webhooks;
    int64_t now_ms = clock_unix_ms(webhooks->clock);
    int64_t tries = d->tries + 1;
    bool dead =
        problem && (tries >= WEBHOOK_TRIES_MAX || now_ms - d->created_at_ms >= WEBHOOK_AGE_MAX_MS);
    enum webhook_result result = !problem ? WEBHOOK_DELIVERED
                                 : dead   ? WEBHOOK_DEAD
                                          : WEBHOOK_RETRIED;
    const struct store_delivery row = {
        .id = d->id,
        .state = result == WEBHOOK_RETRIED ? "pending" : webhook_result_name(result),
        .tries = tries,
        .next_at_ms = result == WEBHOOK_RETRIED ? now_ms + backoff_ms(tries) : now_ms,
        .settled_at_ms = result == WEBHOOK_RETRIED ? -1 : now_ms,
        .problem = problem,
    };
    if (store_begin(webhooks->store, err) < 0)
        return -1;
    if (store_delivery_set(webhooks->store, &row, err) < 0 ||
        make_room(sender, result, now_ms, err) < 0) {
        store_rollback(webhooks->store);
        return -1;
    }
    if (store_commit(webhooks->store, err) < 0)
        return -1;
    atomic_fetch_add(&webhooks->counts[result], 1);
    if (problem)
        log_at(dead ? LOG_ERROR : LOG_WARN,
               dead ? "a webhook's delivery was given up" : "a webhook's delivery failed",
               LOG_STR("webhook", sender->id), LOG_INT("delivery", d->id),
               LOG_STR("event", d->kind), LOG_INT("tries", tries), LOG_STR("problem", problem));
    return 0;
}

static int sender_step(struct sender *sender, int64_t *ret_wait_ms, struct error *err)
{
    struct webhooks *webhooks = sender->webhooks;
    struct delivery d = {0};
    struct error problem = {0};
    int64_t next_ms = -1, now_ms = clock_unix_ms(webhooks->clock);
    *ret_wait_ms = -1;
    if (store_delivery_due(webhooks->store, sender->id, now_ms, take_delivery, &d, err) < 0)
        return -1;
    int rc = 0;
    if (d.body) {
        bool failed = post(sender, &d, &problem) < 0;
        if (!failed || !atomic_load(&sender->ends)) /* else cut short: not a try */
            rc = settle(sender, &d, failed ? problem.message : NULL, err);
    }
    free(d.kind);
    free(d.body);
    if (rc < 0 || store_delivery_next(webhooks->store, sender->id, &next_ms, err) < 0)
        return -1;
    now_ms = clock_unix_ms(webhooks->clock);
    if (next_ms >= 0)
        *ret_wait_ms = next_ms > now_ms ? next_ms - now_ms : 0;
    return 0;
}

/* Until `wait_ms` have passed, or somebody wakes it. */
static void sender_wait(struct sender *sender, uint64_t wakes, int64_t wait_ms)
{
    struct webhooks *webhooks = sender->webhooks;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t at_ns = until.tv_nsec + wait_ms * 1000000;
    until.tv_sec += at_ns / 1000000000;
    until.tv_nsec = at_ns % 1000000000;
    pthread_mutex_lock(&webhooks->lock);
    while (!atomic_load(&sender->ends) && webhooks->wakes == wakes &&
           pthread_cond_timedwait(&webhooks->wake, &webhooks->lock, &until) == 0)
        ;
    pthread_mutex_unlock(&webhooks->lock);
}

static void *sender_main(void *arg)
{
    struct sender *sender = arg;
    struct webhooks *webhooks = sender->webhooks;
    while (!atomic_load(&sender->ends)) {
        struct error err = {0};
        int64_t wait_ms = -1;
        pthread_mutex_lock(&webhooks->lock);
        uint64_t wakes = webhooks->wakes;
        pthread_mutex_unlock(&webhooks->lock);
        if (sender_step(sender, &wait_ms, &err) < 0) {
            log_error("webhooks", LOG_STR("webhook", sender->id), LOG_STR("error", err.message));
            wait_ms = STUMBLE_MS;
        }
        if (wait_ms != 0)
            sender_wait(sender, wakes, wait_ms < 0 || wait_ms > IDLE_MS ? IDLE_MS : wait_ms);
    }
    return NULL;
}

static int sender_start(struct sender *sender, struct error *err)
{
    sigset_t all, before;
    sigfillset(&all); /* signals are the main thread's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&sender->thread, NULL, sender_main, sender);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        return error_set(err, ERROR_FAILED, "cannot start a thread: %s", strerror(rc));
    sender->has_thread = true;
    return 0;
}

static void sender_stop(struct sender *sender)
{
    struct webhooks *webhooks = sender->webhooks;
    pthread_mutex_lock(&webhooks->lock);
    atomic_store(&sender->ends, true);
    pthread_cond_broadcast(&webhooks->wake);
    pthread_mutex_unlock(&webhooks->lock);
    client_interrupt(sender->client);
    if (sender->has_thread)
        pthread_join(sender->thread, NULL);
}

static int load_webhook(void *ctx, const struct store_webhook *row, struct error *err)
{
    struct webhooks *webhooks = ctx;
    struct sender *sender = NULL;
    if (sender_new(webhooks, row->id, row->url, row->secret, &sender, err) < 0)
        return error_wrap(err, "database: webhook '%s'", row->id);
    sorted_add(&webhooks->senders, sender);
    return 0;
}

int webhooks_new(struct store *store, const struct clock *clock, struct webhooks **ret,
                 struct error *err)
{
    AUTO(webhooks) webhooks = xcalloc(1, sizeof(*webhooks));
    pthread_condattr_t attributes;
    webhooks->store = store;
    webhooks->clock = clock;
    pthread_mutex_init(&webhooks->changing, NULL);
    pthread_mutex_init(&webhooks->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&webhooks->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    if (store_webhooks(store, load_webhook, webhooks, err) < 0)
        return -1;
    *ret = steal_ptr(&webhooks);
    return 0;
}

int webhooks_start(struct webhooks *webhooks, struct error *err)
{
    struct sender *sender = NULL;
    pthread_mutex_lock(&webhooks->changing);
    int rc = 0;
    webhooks->threads = true;
    for (size_t i = 0; rc == 0 && i < webhooks->senders.count; i++) {
        sender = webhooks->senders.items[i];
        rc = sender_start(sender, err);
    }
    pthread_mutex_unlock(&webhooks->changing);
    return rc;
}

void webhooks_free(struct webhooks *webhooks)
{
    if (!webhooks)
        return;
    for (size_t i = 0; i < webhooks->senders.count; i++) {
        sender_stop(webhooks->senders.items[i]);
        sender_free(webhooks->senders.items[i]);
    }
    sorted_done(&webhooks->senders);
    pthread_cond_destroy(&webhooks->wake);
    pthread_mutex_destroy(&webhooks->lock);
    pthread_mutex_destroy(&webhooks->changing);
    free(webhooks);
}

void webhooks_wake(struct webhooks *webhooks)
{
    pthread_mutex_lock(&webhooks->lock);
    webhooks->wakes++;
    pthread_cond_broadcast(&webhooks->wake);
    pthread_mutex_unlock(&webhooks->lock);
}

static bool is_kind(const char *name)
{
    for (int i = 0; i < FLEET_EVENT_COUNT; i++)
        if (strcmp(fleet_event_name((enum fleet_event)i), name) == 0)
            return true;
    return strcmp(name, WEBHOOK_MIGRATION) == 0;
}

static int check_request(const struct webhook_request *request, struct error *err)
{
    size_t length = request->secret ? strlen(request->secret) : WEBHOOK_SECRET_MIN_BYTES;
    if (length < WEBHOOK_SECRET_MIN_BYTES || length > WEBHOOK_SECRET_MAX_BYTES)
        return error_set(err, ERROR_INVALID, "webhook: secret: expected %d to %d bytes",
                         WEBHOOK_SECRET_MIN_BYTES, WEBHOOK_SECRET_MAX_BYTES);
    if (request->events && json_array_size(request->events) == 0)
        return error_set(err, ERROR_INVALID,
                         "webhook: events: expected kinds of events, or null for all");
    for (size_t i = 0; i < json_array_size(request->events); i++)
        if (!is_kind(json_item_str(request->events, i)))
            return error_set(err, ERROR_INVALID,
                             "webhook: events[%zu]: '%.40s' is no kind of event; docs/events.md "
                             "has them",
                             i, json_item_str(request->events, i));
    return 0;
}

static int create(struct webhooks *webhooks, const struct webhook_request *request, const char *id,
                  const char *secret, struct error *err)
{
    AUTO(sender) sender = NULL;
    autofree char *events = request->events ? json_text(request->events) : NULL;
    const struct store_webhook row = {.id = id,
                                      .url = request->url,
                                      .secret = secret,
                                      .events = events,
                                      .created_at_ms = clock_unix_ms(webhooks->clock)};
    if (webhooks->senders.count >= WEBHOOKS_MAX)
        return error_set(err, ERROR_CONFLICT, "there are %d webhooks already; remove one first",
                         WEBHOOKS_MAX);
    if (sender_new(webhooks, id, request->url, secret, &sender, err) < 0 ||
        store_webhook_add(webhooks->store, &row, err) < 0)
        return -1;
    if (webhooks->threads && sender_start(sender, err) < 0) {
        store_webhook_delete(webhooks->store, id, NULL);
        return -1;
    }
    pthread_mutex_lock(&webhooks->lock);
    sorted_add(&webhooks->senders, steal_ptr(&sender));
    pthread_mutex_unlock(&webhooks->lock);
    return 0;
}

int webhooks_create(struct webhooks *webhooks, const struct webhook_request *request,
                    char ret_id[32], char ret_secret[WEBHOOK_SECRET_MAX_BYTES + 1],
                    struct error *err)
{
    char random[17];
    if (check_request(request, err) < 0)
        return -1;
    random_hex(8, random);
    snprintf(ret_id, 32, "h-%s", random);
    if (request->secret)
        snprintf(ret_secret, WEBHOOK_SECRET_MAX_BYTES + 1, "%s", request->secret);
    else
        secret_new(ret_secret);
    pthread_mutex_lock(&webhooks->changing);
    int rc = create(webhooks, request, ret_id, ret_secret, err);
    pthread_mutex_unlock(&webhooks->changing);
    return rc;
}

static struct sender *find(struct webhooks *webhooks, const char *id, struct error *err)
{
    struct sender *sender = sorted_find(&webhooks->senders, id);
    if (!sender)
        error_set(err, ERROR_NOT_FOUND, "no webhook '%.40s'; `cpubroker webhooks` lists them", id);
    return sender;
}

int webhooks_check_id(struct webhooks *webhooks, const char *id, struct error *err)
{
    pthread_mutex_lock(&webhooks->lock);
    const struct sender *sender = find(webhooks, id, err);
    pthread_mutex_unlock(&webhooks->lock);
    return sender ? 0 : -1;
}

int webhooks_delete(struct webhooks *webhooks, const char *id, struct error *err)
{
    pthread_mutex_lock(&webhooks->changing);
    struct sender *sender = find(webhooks, id, err);
    int rc = sender ? store_webhook_delete(webhooks->store, id, err) : -1;
    if (rc == 0) {
        sender_stop(sender);
        pthread_mutex_lock(&webhooks->lock);
        sorted_remove(&webhooks->senders, sender);
        pthread_mutex_unlock(&webhooks->lock);
        sender_free(sender);
    }
    pthread_mutex_unlock(&webhooks->changing);
    return rc;
}

int webhooks_step(struct webhooks *webhooks, const char *id, int64_t *ret_wait_ms,
                  struct error *err)
{
    pthread_mutex_lock(&webhooks->changing);
    struct sender *sender = find(webhooks, id, err);
    int rc = sender ? sender_step(sender, ret_wait_ms, err) : -1;
    pthread_mutex_unlock(&webhooks->changing);
    return rc;
}
