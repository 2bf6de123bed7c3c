/* SPDX-License-Identifier: Apache-2.0 */
/* broker_link.c - heartbeats and the long poll, each on a thread with a client of its own. */
#include "broker_link.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>

#include "clock.h"
#include "cpu_report.h"
#include "digest.h"
#include "log.h"

#define HEARTBEAT_DEFAULT_MS 2000
#define HEARTBEAT_LEAST_MS   100
#define HEARTBEAT_MOST_MS    60000
#define POKE_GAP_MS          50 /* several changes at once are told together */
#define RETRY_LEAST_MS       250
#define RETRY_MOST_MS        5000
#define POLL_WAIT_MS         25000
#define POLL_SLACK_MS        10000
#define CALL_TIMEOUT_MS      10000
#define ASSIGNMENTS_MAX      1024

struct broker_link {
    struct broker_link_config config; /* strings owned */
    char *node_path;                  /* owned; "/v1/nodes/NODE" */
    pthread_t heartbeat_thread, poll_thread;
    struct client *heartbeat_client, *poll_client; /* owned; each its thread's, but to interrupt */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* guarded by lock */
    json_object *report; /* owned */
    char sha256[SHA256_HEX_BYTES];
    bool poked, stopping;
    bool connected, known; /* known: the broker has had a heartbeat, so the node exists there */
    bool lost_logged;
    int64_t seen_at_ms;
    unsigned long recoveries; /* how often the broker came back: wakes the poll's pause */
};

static int64_t now_ms(void)
{
    return clock_monotonic_ms(&clock_system);
}

/* Waits until something changes or that time has come. Lock held. */
static int wait_until(struct broker_link *link, int64_t deadline_ms)
{
    struct timespec until = {.tv_sec = deadline_ms / 1000,
                             .tv_nsec = (long)(deadline_ms % 1000) * 1000000L};
    return pthread_cond_clockwait(&link->changed, &link->lock, CLOCK_MONOTONIC, &until);
}

/* Between half of it and all of it, so that many agents do not come back at once. */
static unsigned jittered(unsigned ms)
{
    unsigned char random[2];
    char hex[5];
    random_hex(sizeof(random), hex);
    unsigned long r = strtoul(hex, NULL, 16);
    return ms / 2 + (unsigned)(r * (ms / 2) / 65536);
}

static unsigned longer(unsigned ms)
{
    return ms == 0 ? RETRY_LEAST_MS : ms * 2 < RETRY_MOST_MS ? ms * 2 : RETRY_MOST_MS;
}

/* ---- heartbeat ---- */

static json_object *workloads_for_broker(struct workloads *workloads)
{
    static const char *const members[] = {"name", "state", "pid", "exit_status", "mask"};
    autojson *all = workloads_to_json(workloads);
    json_object *array = json_object_new_array();
    for (size_t i = 0; i < json_array_size(all); i++) {
        json_object *from = json_array_item(all, i), *o = json_object_new_object();
        for (size_t k = 0; k < ARRAY_LEN(members); k++)
            json_put(o, members[k], json_object_get(json_member(from, members[k])));
        /* the broker knows it claimed: from there on it counts as running */
        if (strcmp(json_str(o, "state"), workload_state_name(WORKLOAD_STARTING)) == 0)
            json_put_str(o, "state", workload_state_name(WORKLOAD_RUNNING));
        json_object_array_add(array, o);
    }
    return array;
}

static json_object *heartbeat_body(struct broker_link *link)
{
    struct statvfs vfs;
    json_object *o = json_object_new_object();
    json_put_str(o, "version", CPUBROKER_VERSION);
    json_put_str(o, "boot_id", link->config.boot_id);
    json_put_str(o, "image_address", link->config.image_address);
    json_put_str(o, "pool", link->config.pool);
    pthread_mutex_lock(&link->lock);
    json_put_str(o, "report_sha256", link->sha256);
    pthread_mutex_unlock(&link->lock);
    if (statvfs(link->config.state_dir, &vfs) == 0)
        json_put_int(o, "free_bytes", (int64_t)vfs.f_bavail * (int64_t)vfs.f_frsize);
    json_put(o, "workloads", workloads_for_broker(link->config.workloads));
    return o;
}

static int send_report(struct broker_link *link, struct error *err)
{
    autofree char *path = xasprintf("%s/report", link->node_path);
    autojson *reply = NULL;
    pthread_mutex_lock(&link->lock);
    json_object *report = json_object_get(link->report);
    pthread_mutex_unlock(&link->lock);
    int rc = client_request(link->heartbeat_client, "PUT", path, report, &reply, err);
    json_object_put(report);
    if (rc == 0)
        log_info("the broker has this node's report", LOG_STR("sha256", json_str(reply, "sha256")));
    return rc;
}

static int heartbeat(struct broker_link *link, unsigned *interval_ms, struct error *err)
{
    autofree char *path = xasprintf("%s/heartbeat", link->node_path);
    autojson *body = heartbeat_body(link);
    autojson *reply = NULL;
    int64_t interval = HEARTBEAT_DEFAULT_MS;
    bool report_wanted = false;
    if (client_request(link->heartbeat_client, "POST", path, body, &reply, err) < 0)
        return -1;
    if (json_opt_i64("heartbeat", reply, "heartbeat_interval_ms", &interval, err) < 0 ||
        json_opt_bool("heartbeat", reply, "report_wanted", &report_wanted, err) < 0)
        return -1;
    *interval_ms = interval < HEARTBEAT_LEAST_MS  ? HEARTBEAT_LEAST_MS
                   : interval > HEARTBEAT_MOST_MS ? HEARTBEAT_MOST_MS
                                                  : (unsigned)interval;
    return report_wanted ? send_report(link, err) : 0;
}

/* One line when the broker is lost, one when it is back. */
static void note_outcome(struct broker_link *link, int rc, const struct error *err)
{
    pthread_mutex_lock(&link->lock);
    bool was_connected = link->connected, first = !link->known;
    link->connected = rc == 0;
    if (rc == 0) {
        link->seen_at_ms = clock_unix_ms(&clock_system);
        link->known = true;
        if (!was_connected) {
            link->recoveries++;
            pthread_cond_broadcast(&link->changed);
        }
    }
    bool lost = rc < 0 && !link->lost_logged;
    bool back = rc == 0 && !was_connected;
    link->lost_logged = rc < 0;
    pthread_mutex_unlock(&link->lock);
    if (lost)
        log_warn("no broker; asking again until it is there, workloads run on",
                 LOG_STR("broker", link->config.broker.base_url), LOG_STR("error", err->message));
    if (back)
        log_info(first ? "the broker knows this node" : "the broker is back",
                 LOG_STR("broker", link->config.broker.base_url),
                 LOG_STR("node", link->config.node));
}

static void *heartbeat_main(void *ctx)
{
    struct broker_link *link = ctx;
    unsigned retry_ms = 0, interval_ms = HEARTBEAT_DEFAULT_MS;
    pthread_mutex_lock(&link->lock);
    while (!link->stopping) {
        link->poked = false;
        pthread_mutex_unlock(&link->lock);
        struct error err = {0};
        int rc = heartbeat(link, &interval_ms, &err);
        pthread_mutex_lock(&link->lock);
        if (link->stopping)
            break;
        pthread_mutex_unlock(&link->lock);
        note_outcome(link, rc, &err);
        retry_ms = rc < 0 ? longer(retry_ms) : 0;
        int64_t sent_ms = now_ms();
        int64_t next_ms = sent_ms + (rc < 0 ? jittered(retry_ms) : interval_ms);
        pthread_mutex_lock(&link->lock);
        while (!link->stopping && now_ms() < next_ms) {
            if (link->poked && rc == 0 && next_ms > sent_ms + POKE_GAP_MS)
                next_ms = sent_ms + POKE_GAP_MS;
            wait_until(link, next_ms);
        }
    }
    pthread_mutex_unlock(&link->lock);
    return NULL;
}

/* ---- assignments ---- */

static int poll_once(struct broker_link *link, int64_t *generation, bool first, struct error *err)
{
    autofree char *path = xasprintf("%s/assignments?after=%lld&wait_ms=%d", link->node_path,
                                    (long long)*generation, first ? 0 : POLL_WAIT_MS);
    autojson *reply = NULL;
    json_object *assignments = NULL;
    int64_t next = 0;
    if (client_request_timed(link->poll_client, "GET", path, NULL, POLL_WAIT_MS + POLL_SLACK_MS,
                             &reply, err) < 0)
        return -1;
    if (json_get_i64("assignments", reply, "generation", &next, err) < 0 ||
        json_get_array("assignments", reply, "assignments", ASSIGNMENTS_MAX, &assignments, err) <
            0) {
        if (err)
            err->kind = ERROR_UPSTREAM;
        return -1;
    }
    *generation = next;
    migrations_assign(link->config.migrations, assignments);
    return 0;
}

/* Waits before the next try, or until the broker is known to be back. Lock held. */
static void pause_poll(struct broker_link *link, unsigned ms)
{
    unsigned long recoveries = link->recoveries;
    int64_t until_ms = now_ms() + jittered(ms);
    while (!link->stopping && recoveries == link->recoveries && now_ms() < until_ms)
        wait_until(link, until_ms);
}

static void *poll_main(void *ctx)
{
    struct broker_link *link = ctx;
    int64_t generation = 0;
    unsigned retry_ms = 0;
    bool first = true;
    pthread_mutex_lock(&link->lock);
    while (!link->stopping && !link->known) /* before a heartbeat the node may not exist */
        pthread_cond_wait(&link->changed, &link->lock);
    while (!link->stopping) {
        bool connected = link->connected;
        int64_t before = generation, asked_ms = now_ms();
        pthread_mutex_unlock(&link->lock);
        struct error err = {0};
        int rc = poll_once(link, &generation, first, &err);
        pthread_mutex_lock(&link->lock);
        if (rc == 0) {
            if (!first && generation == before && now_ms() - asked_ms < RETRY_LEAST_MS)
                pause_poll(link, RETRY_LEAST_MS); /* a broker that does not wait */
            first = false;
            retry_ms = 0;
            continue;
        }
        first = true;
        if (link->stopping)
            break;
        if (connected && retry_ms == 0 && err.kind != ERROR_UNREACHABLE) /* else that is told */
            log_warn("assignments cannot be read; trying again", LOG_STR("error", err.message));
        retry_ms = longer(retry_ms);
        pause_poll(link, retry_ms);
    }
    pthread_mutex_unlock(&link->lock);
    return NULL;
}

/* ---- from outside ---- */

void broker_link_set_report(struct broker_link *link, json_object *report, const char *sha256)
{
    pthread_mutex_lock(&link->lock);
    if (strcmp(link->sha256, sha256) != 0) {
        json_object_put(link->report);
        link->report = json_object_get(report);
        snprintf(link->sha256, sizeof(link->sha256), "%s", sha256);
        link->poked = true;
        pthread_cond_broadcast(&link->changed);
    }
    pthread_mutex_unlock(&link->lock);
}

void broker_link_poke(struct broker_link *link)
{
    pthread_mutex_lock(&link->lock);
    link->poked = true;
    pthread_cond_broadcast(&link->changed);
    pthread_mutex_unlock(&link->lock);
}

int broker_link_claim(struct broker_link *link, const struct workload_spec *spec, bool adopted,
                      enum mask_grade grade, json_object **ret_mask, struct error *err)
{
    AUTO(client) client = NULL;
    autofree char *path = xasprintf("%s/workloads/%s", link->node_path, spec->name);
    autojson *body = json_object_new_object();
    json_object *command = json_object_new_array();
    for (const char *const *c = spec->command; c && *c; c++)
        json_object_array_add(command, json_object_new_string(*c));
    json_put_str(body, "pool", spec->pool ? spec->pool : link->config.pool);
    json_put(body, "command", command);
    json_put_str(body, "dir", spec->dir);
    json_put_bool(body, "adopted", adopted);
    json_put_str(body, "mask", mask_grade_name(grade));
    autojson *reply = NULL;
    if (client_new(&link->config.broker, &client, err) < 0)
        return -1;
    if (client_request(client, "PUT", path, body, &reply, err) < 0)
        return -1;
    if (ret_mask)
        *ret_mask = json_object_get(json_member(reply, "mask"));
    return 0;
}

json_object *broker_link_status(struct broker_link *link)
{
    json_object *o = json_object_new_object();
    pthread_mutex_lock(&link->lock);
    json_put_str(o, "broker", link->config.broker.base_url);
    json_put_bool(o, "connected", link->connected);
    json_put(o, "seen_at_ms", link->known ? json_object_new_int64(link->seen_at_ms) : NULL);
    json_put_str(o, "report_sha256", link->sha256);
    pthread_mutex_unlock(&link->lock);
    return o;
}

static void copy_config(struct broker_link *link, const struct broker_link_config *config)
{
    struct broker_link_config *to = &link->config;
    *to = *config;
    to->node = xstrdup(config->node);
    to->pool = xstrdup(config->pool);
    to->image_address = xstrdup(config->image_address);
    to->state_dir = xstrdup(config->state_dir);
    to->boot_id = xstrdup(config->boot_id);
    to->broker.base_url = xstrdup(config->broker.base_url);
    to->broker.token = xstrdup(config->broker.token);
    to->broker.ca_file = xstrdup(config->broker.ca_file);
    to->broker.cert_file = xstrdup(config->broker.cert_file);
    to->broker.key_file = xstrdup(config->broker.key_file);
    if (to->broker.timeout_ms == 0)
        to->broker.timeout_ms = CALL_TIMEOUT_MS;
}

int broker_link_start(const struct broker_link_config *config, json_object *report,
                      const char *sha256, struct broker_link **ret, struct error *err)
{
    struct broker_link *link = xcalloc(1, sizeof(*link));
    copy_config(link, config);
    pthread_mutex_init(&link->lock, NULL);
    pthread_cond_init(&link->changed, NULL);
    link->node_path = xasprintf("/v1/nodes/%s", config->node);
    link->report = json_object_get(report);
    snprintf(link->sha256, sizeof(link->sha256), "%s", sha256);
    link->stopping = true; /* until both threads are there */
    int rc = client_new(&link->config.broker, &link->heartbeat_client, err);
    if (rc == 0)
        rc = client_new(&link->config.broker, &link->poll_client, err);
    if (rc == 0) {
        link->stopping = false;
        if (pthread_create(&link->heartbeat_thread, NULL, heartbeat_main, link) != 0 ||
            pthread_create(&link->poll_thread, NULL, poll_main, link) != 0) {
            fprintf(stderr, "cpuagent: no thread for the broker\n");
            abort();
        }
    } else {
        broker_link_free(link);
        return -1;
    }
    *ret = link;
    return 0;
}

void broker_link_free(struct broker_link *link)
{
    if (!link)
        return;
    pthread_mutex_lock(&link->lock);
    bool running = !link->stopping;
    link->stopping = true;
    pthread_cond_broadcast(&link->changed);
    pthread_mutex_unlock(&link->lock);
    if (running) {
        client_interrupt(link->heartbeat_client);
        client_interrupt(link->poll_client);
        pthread_join(link->heartbeat_thread, NULL);
        pthread_join(link->poll_thread, NULL);
    }
    client_free(link->heartbeat_client);
    client_free(link->poll_client);
    json_object_put(link->report);
    const char *strings[] = {
        link->config.node,           link->config.pool,           link->config.image_address,
        link->config.state_dir,      link->config.boot_id,        link->config.broker.base_url,
        link->config.broker.token,   link->config.broker.ca_file, link->config.broker.cert_file,
        link->config.broker.key_file};
    for (size_t i = 0; i < ARRAY_LEN(strings); i++)
        free((char *)strings[i]);
    free(link->node_path);
    pthread_cond_destroy(&link->changed);
    pthread_mutex_destroy(&link->lock);
    free(link);
}
