/* SPDX-License-Identifier: Apache-2.0 */
/* broker.c - puts the broker together: state folder, database, model,
 * deadlines, server. */
#include "broker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cache.h"
#include "digest.h"
#include "log.h"
#include "metrics.h"
#include "prune.h"
#include "webhook.h"

#define TICK_MS       500 /* deadlines are looked at at least this often */
#define YEAR_MS       31536000000ULL
#define SECOND_MS     1000
#define DAY_MS        86400000LL
#define PRUNE_WAIT_MS 3600000       /* between two rounds */
#define IMAGE_DEFAULT "68719476736" /* 64 GiB */

#define KEY(member, type_, fallback_, least_, most_, help_)                                 \
    {                                                                                       \
        .name = #member, .type = (type_), .offset = offsetof(struct broker_config, member), \
        .fallback = (fallback_), .least = (least_), .most = (most_), .help = (help_)        \
    }

const struct config_key broker_config_keys[] = {
    KEY(listen, CONFIG_STR, "127.0.0.1:7070", 0, 0,
        "Address of the API. Anything but a loopback address needs TLS, see "
        "below. Port 0 lets the "
        "kernel choose."),
    KEY(state_dir, CONFIG_STR, "/var/lib/cpubroker-broker", 0, 0,
        "Folder of the database, and of the first operator's token. One broker "
        "at a time."),
    KEY(tls_cert, CONFIG_STR, NULL, 0, 0,
        "PEM file with the certificate (and those between it and the CA). With "
        "it the API speaks "
        "HTTPS only."),
    KEY(tls_key, CONFIG_STR, NULL, 0, 0, "PEM file with the certificate's private key."),
    KEY(tls_client_ca, CONFIG_STR, NULL, 0, 0,
        "PEM file with authorities: who shows a certificate of theirs may ask at /webhooks/ "
        "without a token. Needs TLS."),
    KEY(allow_plain_http, CONFIG_BOOL, "false", 0, 0,
        "Allow an address other than loopback without TLS. Tokens and tickets "
        "then cross the "
        "network in the clear: only for networks that nobody else can listen "
        "to."),
    KEY(heartbeat_interval_ms, CONFIG_U64, "2000", 100, 600000,
        "How often agents send a heartbeat (milliseconds)."),
    KEY(silent_after_ms, CONFIG_U64, "10000", 500, 3600000,
        "A node is silent, and no target or source, when nothing was heard "
        "from it for this long."),
    KEY(prepare_timeout_ms, CONFIG_U64, "30000", SECOND_MS, YEAR_MS,
        "How long a target may take to prepare. Past any of these limits the "
        "move is undone."),
    KEY(dump_timeout_ms, CONFIG_U64, "300000", SECOND_MS, YEAR_MS,
        "How long a source may take to dump the workload, which is stopped "
        "meanwhile."),
    KEY(transfer_timeout_ms, CONFIG_U64, "3600000", SECOND_MS, YEAR_MS,
        "How long the image may be on its way, with the workload stopped."),
    KEY(restore_timeout_ms, CONFIG_U64, "300000", SECOND_MS, YEAR_MS,
        "How long a target may take to restore the workload."),
    KEY(max_image_bytes, CONFIG_U64, IMAGE_DEFAULT, 1048576, JSON_INTEGER_MAX,
        "Largest image and folder together that a target is asked to take "
        "(bytes)."),
    KEY(connections_max, CONFIG_U64, "1024", 8, 65536,
        "Connections at a time; each agent holds two."),
    KEY(history_days, CONFIG_U64, "90", 0, 36500,
        "How long ended migrations, events, and reports that no node, workload or migration refers "
        "to are kept (days). 0 keeps them for ever."),
    KEY(log_level, CONFIG_STR, "info", 0, 0, "debug, info, warn or error."),
    {0},
};

/* Watches deadlines in a thread of its own. */
struct timer {
    struct broker *broker;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool ends; /* guarded by lock */
    struct prune prune;
    int64_t prune_at_ms; /* monotonic */
};

/* A little of the history at a time: a request waits no longer than for one small transaction. */
static void prune_some(struct timer *timer)
{
    struct broker *broker = timer->broker;
    struct error err = {0};
    bool round = false;
    int64_t now_ms = clock_monotonic_ms(broker->clock);
    if (broker->config.history_days == 0 || now_ms < timer->prune_at_ms)
        return;
    int64_t before_ms =
        clock_unix_ms(broker->clock) - (int64_t)broker->config.history_days * DAY_MS;
    if (prune_step(&timer->prune, before_ms, &round, &err) < 0)
        log_warn("old history could not be taken away, trying again in an hour",
                 LOG_STR("error", err.message));
    else if (!round)
        return;
    timer->prune_at_ms = now_ms + PRUNE_WAIT_MS;
}

static void *timer_main(void *arg)
{
    struct timer *timer = arg;
    pthread_mutex_lock(&timer->lock);
    while (!timer->ends) {
        pthread_mutex_unlock(&timer->lock);
        int64_t wait_ms = migrations_tick(&timer->broker->migrations, TICK_MS);
        prune_some(timer);
        pthread_mutex_lock(&timer->lock);
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        int64_t at_ns = until.tv_nsec + (wait_ms > 0 ? wait_ms : 1) * 1000000;
        until.tv_sec += at_ns / 1000000000;
        until.tv_nsec = at_ns % 1000000000;
        if (!timer->ends)
            pthread_cond_timedwait(&timer->wake, &timer->lock, &until);
    }
    pthread_mutex_unlock(&timer->lock);
    return NULL;
}

static int timer_start(struct broker *broker, struct error *err)
{
    struct timer *timer = xcalloc(1, sizeof(*timer));
    pthread_condattr_t attributes;
    timer->broker = broker;
    timer->prune.store = broker->store;
    pthread_mutex_init(&timer->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&timer->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    sigset_t all, before;
    sigfillset(&all); /* signals are the main thread's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&timer->thread, NULL, timer_main, timer);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        free(timer);
        return error_set(err, ERROR_FAILED, "cannot start a thread: %s", strerror(rc));
    }
    broker->timer = timer;
    return 0;
}

static void timer_free(struct timer *timer)
{
    if (!timer)
        return;
    pthread_mutex_lock(&timer->lock);
    timer->ends = true;
    pthread_cond_signal(&timer->wake);
    pthread_mutex_unlock(&timer->lock);
    pthread_join(timer->thread, NULL);
    pthread_cond_destroy(&timer->wake);
    pthread_mutex_destroy(&timer->lock);
    free(timer);
}

static int open_state_dir(struct broker *broker, struct error *err)
{
    const char *dir = broker->config.state_dir;
    if (mkdir(dir, 0700) < 0 && errno != EEXIST)
        return error_errno(err, ERROR_FAILED, "cannot make the state folder '%s'", dir);
    autofree char *path = xasprintf("%s/lock", dir);
    broker->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (broker->lock_fd < 0)
        return error_errno(err, ERROR_FAILED, "cannot open '%s'", path);
    if (flock(broker->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    if (errno == EWOULDBLOCK)
        return error_set(err, ERROR_CONFLICT,
                         "another broker works in '%s'; two must not share a database", dir);
    return error_errno(err, ERROR_FAILED, "cannot lock '%s'", path);
}

static int write_all(int fd, const char *text, const char *path, struct error *err)
{
    size_t length = strlen(text);
    while (length > 0) {
        ssize_t n = write(fd, text, length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_errno(err, ERROR_FAILED, "cannot write '%s'", path);
        text += n;
        length -= (size_t)n;
    }
    return fsync(fd) < 0 ? error_errno(err, ERROR_FAILED, "cannot write '%s'", path) : 0;
}

static int replace_file(const char *dir, const char *name, const char *text, struct error *err)
{
    autofree char *path = xasprintf("%s/%s", dir, name);
    autofree char *temporary = xasprintf("%s/.%s.new", dir, name);
    unlink(temporary);
    autoclose int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_errno(err, ERROR_FAILED, "cannot make '%s'", temporary);
    if (write_all(fd, text, temporary, err) < 0)
        return -1;
    if (rename(temporary, path) < 0)
        return error_errno(err, ERROR_FAILED, "cannot make '%s'", path);
    autoclose int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0 || fsync(dir_fd) < 0)
        return error_errno(err, ERROR_FAILED, "cannot write '%s'", dir);
    return 0;
}

/* The file comes first: a crash before the database knows the token leaves a
 * broker without an operator, which makes another. */
static int first_token(struct broker *broker, struct error *err)
{
    const char *dir = broker->config.state_dir;
    char secret[SECRET_HEX_BYTES], id[64];
    if (model_has_operator(broker->model))
        return 0;
    secret_new(secret);
    autofree char *line = xasprintf("%s\n", secret);
    int rc = replace_file(dir, "operator.token", line, err);
    if (rc == 0)
        rc = model_token_create(broker->model, ROLE_OPERATOR, NULL, "made at the first start",
                                secret, id, err);
    explicit_bzero(secret, sizeof(secret));
    explicit_bzero(line, strlen(line));
    if (rc == 0)
        log_info("an operator's token was written to operator.token", LOG_STR("folder", dir));
    return rc;
}

static void wake(void *ctx, const char *key)
{
    struct broker *broker = ctx;
    struct http_server *server = atomic_load(&broker->server);
    if (server)
        http_wake(server, key);
    webhooks_wake(broker->webhooks); /* what wakes anybody may be to be told */
}

static void set_up_migrations(struct broker *broker)
{
    const struct broker_config *config = &broker->config;
    broker->migrations = (struct migrations){
        .model = broker->model,
        .prepare_timeout_ms = config->prepare_timeout_ms,
        .dump_timeout_ms = config->dump_timeout_ms,
        .transfer_timeout_ms = config->transfer_timeout_ms,
        .restore_timeout_ms = config->restore_timeout_ms,
        .max_image_bytes = config->max_image_bytes,
    };
    migrations_resume(&broker->migrations);
}

static int check_times(const struct broker_config *config, struct error *err)
{
    if (config->silent_after_ms > config->heartbeat_interval_ms)
        return 0;
    return error_set(
        err, ERROR_INVALID,
        "silent_after_ms = %llu is not more than heartbeat_interval_ms = %llu, so every "
        "node would be silent between two heartbeats; several times as much is usual",
        (unsigned long long)config->silent_after_ms,
        (unsigned long long)config->heartbeat_interval_ms);
}

int broker_open(struct broker_config *config, const struct clock *clock, struct broker **ret,
                struct error *err)
{
    AUTO(broker) broker = xcalloc(1, sizeof(*broker));
    broker->config = *config;
    *config = (struct broker_config){0};
    broker->clock = clock;
    broker->lock_fd = -1;
    broker->metrics = metrics_new();
    broker->cache = verdict_cache_new();
    if (check_times(&broker->config, err) < 0 || open_state_dir(broker, err) < 0)
        return -1;
    autofree char *path = xasprintf("%s/broker.db", broker->config.state_dir);
    if (store_open(path, &broker->store, err) < 0 ||
        model_new(broker->store, clock, broker->config.silent_after_ms, &broker->model, err) < 0 ||
        webhooks_new(broker->store, clock, &broker->webhooks, err) < 0)
        return -1;
    broker->model->wake = wake;
    broker->model->wake_ctx = broker;
    set_up_migrations(broker);
    if (first_token(broker, err) < 0)
        return -1;
    *ret = steal_ptr(&broker);
    return 0;
}

static bool is_loopback(const char *address)
{
    return strncmp(address, "127.", 4) == 0 || strncmp(address, "[::1]:", 6) == 0 ||
           strncmp(address, "localhost:", 10) == 0;
}

static int check_listen(const struct broker_config *config, struct error *err)
{
    if (!config->tls_cert != !config->tls_key)
        return error_set(err, ERROR_INVALID, "tls_cert and tls_key go together; %s is missing",
                         config->tls_cert ? "tls_key" : "tls_cert");
    if (config->tls_client_ca && !config->tls_cert)
        return error_set(
            err, ERROR_INVALID,
            "tls_client_ca asks for client certificates, which needs TLS: set tls_cert "
            "and tls_key, too");
    if (config->tls_cert || config->allow_plain_http || is_loopback(config->listen))
        return 0;
    return error_set(err, ERROR_INVALID,
                     "listen = %s is no loopback address, and without tls_cert and tls_key "
                     "tokens "
                     "would cross the network in the clear; set those, or, on a network that "
                     "nobody else can listen to, allow_plain_http = true",
                     config->listen);
}

static void observe(void *ctx, const struct http_route *route, unsigned status, int64_t duration_us)
{
    metrics_request(((struct broker *)ctx)->metrics, route, status, duration_us);
}

int broker_start(struct broker *broker, struct error *err)
{
    const struct broker_config *config = &broker->config;
    if (check_listen(config, err) < 0)
        return -1;
    const struct http_config http = {
        .listen = config->listen,
        .listen_fd = -1,
        .tls_cert_file = config->tls_cert,
        .tls_key_file = config->tls_key,
        .routes = broker_routes,
        .ctx = broker,
        .tls_client_ca_file = config->tls_client_ca,
        .tls_client_optional = true,
        .authenticate = broker_authenticate,
        .observe = observe,
        .connections_max = (unsigned)config->connections_max,
    };
    struct http_server *server = NULL;
    if (http_server_start(&http, &server, err) < 0)
        return -1;
    atomic_store(&broker->server, server);
    if (webhooks_start(broker->webhooks, err) < 0)
        return -1;
    return timer_start(broker, err);
}

const char *broker_address(const struct broker *broker)
{
    return http_server_address(atomic_load(&broker->server));
}

void broker_free(struct broker *broker)
{
    if (!broker)
        return;
    timer_free(broker->timer);
    http_server_free(atomic_load(&broker->server));
    webhooks_free(broker->webhooks);
    model_free(broker->model);
    store_free(broker->store);
    verdict_cache_free(broker->cache);
    metrics_free(broker->metrics);
    config_release(broker_config_keys, &broker->config);
    if (broker->lock_fd >= 0)
        close(broker->lock_fd);
    free(broker);
}
