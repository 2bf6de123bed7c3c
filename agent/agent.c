/* SPDX-License-Identifier: Apache-2.0 */
/* agent.c - the parts of a serving agent and the order they need. */
#include "agent.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "broker_link.h"
#include "clock.h"
#include "file.h"
#include "image_server.h"
#include "image_sink.h"
#include "local_api.h"
#include "log.h"
#include "migration.h"
#include "probe.h"
#include "process.h"
#include "workload.h"

#define LOCK_WAIT_MS 5000

struct agent {
    const struct agent_config *config; /* borrowed */
    int lock_fd;                       /* flock on <state_dir>/agent.lock */
    char *image_address;               /* owned; by which peers reach this node */
    struct client_config broker;       /* borrows from config */

    struct workloads *workloads;
    struct migrations *migrations;
    struct image_server *images;
    struct local_api *local;

    pthread_mutex_t lock;
    /* guarded by lock; the rest is made by agent_start and ended by agent_free */
    struct broker_link *link; /* NULL while starting and stopping */
    struct engine *engine;    /* once one works it is kept */
    struct error engine_error;
};

/* ---- what other parts call ---- */

static void on_workload_changed(void *ctx, const char *name)
{
    struct agent *agent = ctx;
    (void)name;
    pthread_mutex_lock(&agent->lock);
    if (agent->link)
        broker_link_poke(agent->link);
    pthread_mutex_unlock(&agent->lock);
}

static int on_claim(void *ctx, const struct workload_spec *spec, bool adopted,
                    enum mask_grade grade, json_object **ret_mask, struct error *err)
{
    struct agent *agent = ctx;
    return broker_link_claim(agent->link, spec, adopted, grade, ret_mask, err);
}

static json_object *on_status(void *ctx)
{
    struct agent *agent = ctx;
    json_object *o = json_object_new_object();
    json_object *engine = NULL;
    json_put_str(o, "node", agent->config->node);
    json_put_str(o, "version", CPUBROKER_VERSION);
    json_put_str(o, "pool", agent->config->pool);
    json_put_str(o, "image_address", agent->image_address);
    json_put(o, "broker", broker_link_status(agent->link));
    pthread_mutex_lock(&agent->lock);
    if (agent->engine) {
        engine = json_object_new_object();
        json_put_str(engine, "name", engine_name(agent->engine));
        json_put_str(engine, "version", engine_version(agent->engine));
    }
    json_put(o, "engine", engine);
    json_put_str(o, "engine_error", agent->engine ? NULL : agent->engine_error.message);
    pthread_mutex_unlock(&agent->lock);
    json_put(o, "migrations", migrations_to_json(agent->migrations));
    return o;
}

/* ---- engine and report ---- */

/* A new engine is tried only while none works: a migration may be using the one there is. */
static void find_engine(struct agent *agent)
{
    struct engine *engine = NULL;
    struct error err = {0};
    if (agent->engine)
        return;
    int rc = engine_criu_new(agent->config->criu, &engine, &err);
    pthread_mutex_lock(&agent->lock);
    bool said = rc < 0 && strcmp(agent->engine_error.message, err.message) == 0;
    agent->engine = engine;
    agent->engine_error = err;
    pthread_mutex_unlock(&agent->lock);
    if (rc < 0 && !said)
        log_warn("no checkpoint engine works here: workloads run, but none can move to or from "
                 "this node",
                 LOG_STR("error", err.message));
    if (rc == 0)
        log_info("checkpoint engine", LOG_STR("name", engine_name(engine)),
                 LOG_STR("version", engine_version(engine)));
    if (agent->migrations)
        migrations_set_engine(agent->migrations, engine, err.message);
}

static int read_report(struct agent *agent, struct cpu_report **ret, struct error *err)
{
    struct engine *const engines[] = {agent->engine};
    const struct probe_options options = {
        .node = agent->config->node, .engines = engines, .engine_count = agent->engine ? 1 : 0};
    return probe_report(&options, ret, err);
}

void agent_probe(struct agent *agent)
{
    AUTO(cpu_report) report = NULL;
    struct error err = {0};
    find_engine(agent);
    if (read_report(agent, &report, &err) < 0) {
        log_error("the CPUs cannot be read again; the last report stands",
                  LOG_STR("error", err.message));
        return;
    }
    if (workloads_set_report(agent->workloads, report, &err) < 0)
        log_error("masks are made for the CPUs that were there before",
                  LOG_STR("error", err.message));
    autojson *json = cpu_report_to_json(report);
    broker_link_set_report(agent->link, json, report->sha256);
}

/* ---- start ---- */

static int take_lock(struct agent *agent, struct error *err)
{
    const char *state_dir = agent->config->state_dir;
    autofree char *path = xasprintf("%s/agent.lock", state_dir);
    if (file_make_dirs(state_dir, 0711, err) < 0)
        return -1;
    agent->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (agent->lock_fd < 0)
        return error_errno(err, ERROR_FAILED, "cannot open '%s'", path);
    /* One that was killed keeps the lock until the last of its threads has left the kernel, which
     * a write to a slow disk delays. */
    int64_t deadline = process_now_ms() + LOCK_WAIT_MS;
    int rc = flock(agent->lock_fd, LOCK_EX | LOCK_NB);
    for (; rc < 0 && errno == EWOULDBLOCK && process_now_ms() < deadline;
         rc = flock(agent->lock_fd, LOCK_EX | LOCK_NB))
        process_sleep_ms(50);
    if (rc < 0) {
        if (errno != EWOULDBLOCK)
            return error_errno(err, ERROR_FAILED, "cannot lock '%s'", path);
        return error_set(err, ERROR_CONFLICT,
                         "another agent serves from %s; stop it, or give this one a state_dir of "
                         "its own",
                         state_dir);
    }
    return 0;
}

static int start_workloads(struct agent *agent, const struct cpu_report *report, struct error *err)
{
    const struct agent_config *c = agent->config;
    const struct workloads_config config = {.state_dir = c->state_dir,
                                            .cgroup_parent = c->cgroup_parent,
                                            .workload_roots = c->workload_roots,
                                            .shim_path = c->shim,
                                            .changed = on_workload_changed,
                                            .ctx = agent};
    if (workloads_new(&config, &agent->workloads, err) < 0)
        return -1;
    return workloads_set_report(agent->workloads, report, err);
}

static int start_migrations(struct agent *agent, struct error *err)
{
    const struct agent_config *c = agent->config;
    const struct migrations_config config = {.node = c->node,
                                             .state_dir = c->state_dir,
                                             .workloads = agent->workloads,
                                             .engine = agent->engine,
                                             .engine_error = agent->engine_error.message,
                                             .broker = agent->broker,
                                             .tls_ca = c->tls_ca,
                                             .tls_cert = c->tls_cert,
                                             .tls_key = c->tls_key,
                                             .peers_use_tls = c->tls_cert != NULL,
                                             .dump_timeout_ms = c->dump_timeout_ms,
                                             .restore_timeout_ms = c->restore_timeout_ms,
                                             .stall_timeout_ms = c->stall_timeout_ms,
                                             .slack_bytes = IMAGE_ROOM_SLACK_BYTES,
                                             .clock = &clock_system};
    return migrations_new(&config, &agent->migrations, err);
}

static int start_images(struct agent *agent, struct error *err)
{
    const struct agent_config *c = agent->config;
    const struct image_server_config config = {.listen = c->listen,
                                               .tls_cert = c->tls_cert,
                                               .tls_key = c->tls_key,
                                               .tls_ca = c->tls_ca,
                                               .stall_timeout_ms = c->stall_timeout_ms,
                                               .migrations = agent->migrations};
    if (image_server_start(&config, &agent->images, err) < 0)
        return -1;
    agent->image_address =
        xstrdup(c->advertise ? c->advertise : image_server_address(agent->images));
    return 0;
}

static int start_link(struct agent *agent, struct cpu_report *report, struct error *err)
{
    const struct agent_config *c = agent->config;
    const struct broker_link_config config = {.node = c->node,
                                              .pool = c->pool,
                                              .image_address = agent->image_address,
                                              .state_dir = c->state_dir,
                                              .boot_id = report->os.boot_id,
                                              .broker = agent->broker,
                                              .workloads = agent->workloads,
                                              .migrations = agent->migrations};
    struct broker_link *link = NULL;
    autojson *json = cpu_report_to_json(report);
    if (broker_link_start(&config, json, report->sha256, &link, err) < 0)
        return -1;
    pthread_mutex_lock(&agent->lock);
    agent->link = link;
    pthread_mutex_unlock(&agent->lock);
    return 0;
}

static int start_local(struct agent *agent, struct error *err)
{
    const struct local_api_config config = {.socket_path = agent->config->socket,
                                            .default_pool = agent->config->pool,
                                            .workloads = agent->workloads,
                                            .claim = on_claim,
                                            .status = on_status,
                                            .ctx = agent};
    return local_api_start(&config, &agent->local, err);
}

int agent_start(const struct agent_config *config, struct agent **ret, struct error *err)
{
    AUTO(agent) agent = xcalloc(1, sizeof(*agent));
    AUTO(cpu_report) report = NULL;
    agent->config = config;
    agent->lock_fd = -1;
    pthread_mutex_init(&agent->lock, NULL);
    agent->broker = (struct client_config){.base_url = config->broker_url,
                                           .token = config->token,
                                           .ca_file = config->tls_ca,
                                           .cert_file = config->tls_cert,
                                           .key_file = config->tls_key,
                                           .timeout_ms = 10000};
    if (take_lock(agent, err) < 0)
        return -1;
    find_engine(agent);
    if (read_report(agent, &report, err) < 0 || start_workloads(agent, report, err) < 0 ||
        start_migrations(agent, err) < 0 || start_images(agent, err) < 0 ||
        start_link(agent, report, err) < 0 || start_local(agent, err) < 0)
        return -1;
    log_info("cpuagent: ready", LOG_STR("node", config->node),
             LOG_STR("images", image_server_address(agent->images)),
             LOG_STR("advertised", agent->image_address), LOG_STR("socket", config->socket),
             LOG_STR("broker", config->broker_url), LOG_STR("version", CPUBROKER_VERSION));
    *ret = steal_ptr(&agent);
    return 0;
}

void agent_free(struct agent *agent)
{
    if (!agent)
        return;
    local_api_free(agent->local);
    pthread_mutex_lock(&agent->lock);
    struct broker_link *link = agent->link;
    agent->link = NULL;
    pthread_mutex_unlock(&agent->lock);
    broker_link_free(link);
    if (agent->migrations)
        migrations_stop(agent->migrations);
    image_server_free(agent->images);
    migrations_free(agent->migrations);
    workloads_free(agent->workloads);
    engine_free(agent->engine);
    if (agent->lock_fd >= 0)
        close(agent->lock_fd);
    pthread_mutex_destroy(&agent->lock);
    free(agent->image_address);
    free(agent);
}
