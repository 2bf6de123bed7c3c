/* SPDX-License-Identifier: Apache-2.0 */
/* migration.c - the list of migrations on this node and the workers that drive them. */
#include "migration.h"

#include <malloc.h>
#include <stdio.h>
#include <string.h>

#include "digest.h"
#include "file.h"
#include "log.h"
#include "migration_internal.h"

#define RETRY_LEAST_MS       200
#define RETRY_MOST_MS        5000
#define FAILED_RETRY_MOST_MS 60000

/* ---- the list; lock held ---- */

struct migration *migrations_find(struct migrations *all, const char *id)
{
    for (struct migration *m = all->list; m; m = m->next)
        if (strcmp(m->id, id) == 0)
            return m;
    return NULL;
}

static bool is_gone(struct migrations *all, const char *id)
{
    for (unsigned i = 0; i < MIGRATION_GONE_MAX; i++)
        if (strcmp(all->gone[i], id) == 0)
            return true;
    return false;
}

static struct migration *add(struct migrations *all, struct journal *journal)
{
    struct migration *m = xcalloc(1, sizeof(*m));
    m->all = all;
    m->journal = *journal;
    *journal = (struct journal){0};
    m->id = xstrdup(m->journal.assignment.migration);
    m->log_dir = xasprintf("%s/logs/%s", all->config.state_dir, m->id);
    m->next = all->list;
    all->list = m;
    all->count++;
    return m;
}

static void migration_free(struct migration *m)
{
    journal_done(&m->journal);
    assignment_done(&m->answered);
    assignment_done(&m->polled);
    migration_sending_free(m->sending);
    free(m->log_dir);
    free(m->id);
    free(m);
}

static void drop(struct migrations *all, struct migration *m)
{
    for (struct migration **at = &all->list; *at; at = &(*at)->next)
        if (*at == m) {
            *at = m->next;
            break;
        }
    all->count--;
    snprintf(all->gone[all->gone_next], sizeof(all->gone[0]), "%s", m->id);
    all->gone_next = (all->gone_next + 1) % MIGRATION_GONE_MAX;
    migration_free(m);
}

static bool has_work(const struct migration *m)
{
    return m->answered.migration || m->polled.migration || m->unreported || m->absent;
}

/* ---- reports ---- */

/* One wait, which any change may end. Lock held. */
static int wait_until(struct migrations *all, int64_t deadline_ms)
{
    struct timespec until = {.tv_sec = deadline_ms / 1000,
                             .tv_nsec = (long)(deadline_ms % 1000) * 1000000L};
    return pthread_cond_clockwait(&all->changed, &all->lock, CLOCK_MONOTONIC, &until);
}

/* Sleeps that long, or until the agent stops. Lock held. */
static void pause_for(struct migrations *all, unsigned ms)
{
    int64_t deadline_ms = clock_monotonic_ms(&clock_system) + ms;
    while (!all->stopping && wait_until(all, deadline_ms) != ETIMEDOUT)
        ;
}

/* Whether the broker understood and refused: to say it again would change nothing. */
static bool is_refusal(enum error_kind kind)
{
    return kind != ERROR_UNREACHABLE && kind != ERROR_TIMEOUT && kind != ERROR_UPSTREAM &&
           kind != ERROR_BUSY && kind != ERROR_INTERNAL && kind != ERROR_FAILED;
}

/* Takes the answer to a report: the next assignment, or none at all. Lock held. */
static void take_answer(struct migration *m, json_object *reply)
{
    struct assignment next = {0};
    struct error err;
    json_object *json = json_member(reply, "assignment");
    if (!json) {
        m->absent = true;
        return;
    }
    if (assignment_decode(json, &next, &err) < 0) {
        log_error("the broker's answer cannot be followed", LOG_STR("migration", m->id),
                  LOG_STR("error", err.message));
        return;
    }
    assignment_done(&m->answered);
    m->answered = next;
}

/* Waits until nobody else has the migration's journal and, with `transfers`, no image is on its
 * way in. Lock held. */
static void wait_for_others(struct migration *m, bool transfers)
{
    while (m->acting || (transfers && m->receiving))
        pthread_cond_wait(&m->all->changed, &m->all->lock);
}

/* Tells the broker once. True when it is over, one way or the other. Lock held, released
 * meanwhile. */
static bool report_once(struct migration *m, struct client *client)
{
    struct migrations *all = m->all;
    autofree char *path = xasprintf("/v1/migrations/%s/progress", m->id);
    autojson *reply = NULL, *body = NULL;
    struct error err = {0};
    wait_for_others(m, false);
    unsigned serial = m->report_serial;
    enum migration_report report = m->journal.report;
    json_object_deep_copy(m->journal.report_body, &body, NULL);
    pthread_mutex_unlock(&all->lock);
    int rc = client_request(client, "POST", path, body, &reply, &err);
    pthread_mutex_lock(&all->lock);
    wait_for_others(m, false);
    if (m->report_serial != serial)
        return true; /* an upload came to its end meanwhile: that is the report to send now */
    if (rc == 0) {
        m->unreported = false;
        take_answer(m, reply);
        return true;
    }
    if (!is_refusal(err.kind))
        return false;
    m->unreported = false;
    log_warn("the broker refuses a report", LOG_STR("migration", m->id),
             LOG_STR("report", migration_report_name(report)), LOG_STR("error", err.message));
    return true;
}

/* Tells until the broker has heard, another assignment has come, or the agent stops. */
static void report(struct migration *m, struct client *client)
{
    struct migrations *all = m->all;
    unsigned delay_ms = RETRY_LEAST_MS;
    while (m->unreported && !all->stopping && !report_once(m, client)) {
        if (m->polled.migration || m->absent)
            return; /* the broker is back and has new words: those first */
        int64_t until_ms = clock_monotonic_ms(&clock_system) + delay_ms;
        while (!all->stopping && !m->polled.migration && !m->absent &&
               wait_until(all, until_ms) != ETIMEDOUT)
            ;
        delay_ms = delay_ms * 2 < RETRY_MOST_MS ? delay_ms * 2 : RETRY_MOST_MS;
    }
}

/* ---- following ---- */

static bool act(struct migration *m, enum migration_action what)
{
    return m->journal.assignment.is_source ? migration_source_act(m, what)
                                           : migration_target_act(m, what);
}

static void end_acting(struct migration *m)
{
    m->acting = false;
    pthread_cond_broadcast(&m->all->changed);
}

/* An abort must not wait for bytes to go on or come in. Lock held. */
static void interrupt_transfer(struct migration *m, const char *why)
{
    struct error reason;
    error_set(&reason, ERROR_CONFLICT, "%s", why);
    if (m->sender)
        migration_sending_interrupt(m->sender, &reason);
    if (m->sink)
        image_sink_break(m->sink, &reason);
}

static void follow(struct migration *m, struct assignment *next)
{
    struct migrations *all = m->all;
    enum migration_action what = next->what;
    if (next->is_source != m->journal.assignment.is_source) {
        log_error("the broker gives this node the other role in a migration; not followed",
                  LOG_STR("migration", m->id), LOG_STR("role", next->role));
        assignment_done(next);
        return;
    }
    if (what == m->failed && what != MIGRATION_DO_NOTHING) {
        /* It failed, was reported, and is asked for again: not in a tight circle. */
        m->retry_ms = m->retry_ms ? m->retry_ms * 2 : RETRY_LEAST_MS * 5;
        m->retry_ms = m->retry_ms < FAILED_RETRY_MOST_MS ? m->retry_ms : FAILED_RETRY_MOST_MS;
        pause_for(all, m->retry_ms);
    } else {
        m->retry_ms = 0;
    }
    if (all->stopping) {
        assignment_done(next);
        return;
    }
    wait_for_others(m, what != MIGRATION_DO_HOLD);
    m->acting = true;
    journal_set_assignment(&m->journal, next);
    assignment_done(next);
    pthread_mutex_unlock(&all->lock);
    bool tell = act(m, what);
    pthread_mutex_lock(&all->lock);
    if (tell) {
        m->unreported = true;
        m->failed = m->journal.report == MIGRATION_REPORT_FAILURE ? what : MIGRATION_DO_NOTHING;
    }
    end_acting(m);
}

/* The broker wants nothing of it any more. Lock held; true when the migration is gone. */
static bool forget(struct migration *m)
{
    struct migrations *all = m->all;
    interrupt_transfer(m, "the broker has ended this migration");
    wait_for_others(m, true);
    m->acting = true;
    m->absent = false;
    pthread_mutex_unlock(&all->lock);
    struct error err;
    bool over =
        m->journal.assignment.is_source ? migration_source_forget(m) : migration_target_forget(m);
    if (over && journal_remove(&m->journal, &err) < 0)
        log_warn("a migration's folder cannot be removed", LOG_STR("migration", m->id),
                 LOG_STR("error", err.message));
    pthread_mutex_lock(&all->lock);
    end_acting(m);
    if (over) {
        drop(all, m);
        return true;
    }
    m->unreported = false;
    if (!m->warned)
        log_warn("the broker no longer knows a migration of which this node holds a stopped "
                 "workload; it is kept as it is",
                 LOG_STR("migration", m->id), LOG_STR("workload", m->journal.assignment.workload),
                 LOG_STR("step", journal_step_name(m->journal.step)));
    m->warned = true;
    return false;
}

/* All there is to do for one migration. Lock held, released meanwhile. */
static void drive(struct migration *m, struct client *client)
{
    struct migrations *all = m->all;
    while (!all->stopping && has_work(m)) {
        struct assignment next = {0};
        if (m->answered.migration) {
            next = m->answered;
            m->answered = (struct assignment){0};
        } else if (m->polled.migration) {
            next = m->polled;
            m->polled = (struct assignment){0};
        }
        if (next.migration && next.what == MIGRATION_DO_NOTHING) {
            assignment_done(&next);
            m->absent = true;
        }
        if (next.migration)
            follow(m, &next);
        if (m->unreported)
            report(m, client);
        if (m->absent && !m->answered.migration && !m->polled.migration && forget(m))
            return;
    }
}

static struct migration *pick(struct migrations *all)
{
    for (struct migration *m = all->list; m; m = m->next)
        if (!m->claimed && has_work(m))
            return m;
    return NULL;
}

static void *worker(void *ctx)
{
    struct migrations *all = ctx;
    struct client *client = NULL;
    struct error err;
    if (client_new(&all->config.broker, &client, &err) < 0)
        log_error("no client for reports", LOG_STR("error", err.message));
    pthread_mutex_lock(&all->lock);
    struct migration *m;
    while (client && !all->stopping && (m = pick(all))) {
        m->claimed = true;
        /* `m` may be dropped by drive(); its id tells */
        autofree char *id = xstrdup(m->id);
        drive(m, client);
        if ((m = migrations_find(all, id)))
            m->claimed = false;
    }
    all->workers--;
    pthread_cond_broadcast(&all->changed);
    pthread_mutex_unlock(&all->lock);
    client_free(client);
    /* Images and looks at workloads took some memory, in whichever thread; an agent is a guest. */
    malloc_trim(0);
    return NULL;
}

void migrations_wake(struct migrations *all)
{
    pthread_cond_broadcast(&all->changed);
    if (all->stopping || all->workers >= MIGRATION_WORKERS_MAX || !pick(all))
        return;
    pthread_t thread;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &attr, worker, all) == 0)
        all->workers++;
    else
        log_error("no thread for a migration; it is tried again with the next word of the broker");
    pthread_attr_destroy(&attr);
}

/* ---- from outside ---- */

static struct migration *begin(struct migrations *all, const struct assignment *assignment)
{
    struct journal journal;
    struct error err;
    if (all->count >= MIGRATIONS_MAX) {
        log_error("too many migrations at once; this one is not begun",
                  LOG_STR("migration", assignment->migration));
        return NULL;
    }
    if (journal_create(all->config.state_dir, assignment, &journal, &err) < 0) {
        log_error("a migration cannot be begun", LOG_STR("migration", assignment->migration),
                  LOG_STR("error", err.message));
        return NULL;
    }
    log_info("migration begins here", LOG_STR("migration", assignment->migration),
             LOG_STR("workload", assignment->workload), LOG_STR("role", assignment->role),
             LOG_STR("peer", assignment->peer_node));
    return add(all, &journal);
}

static bool ends_transfer(enum migration_action what)
{
    return what == MIGRATION_DO_RESUME || what == MIGRATION_DO_DISCARD;
}

static void take_polled(struct migrations *all, json_object *json)
{
    struct assignment next = {0};
    struct error err;
    if (assignment_decode(json, &next, &err) < 0) {
        log_error("an assignment cannot be followed", LOG_STR("error", err.message));
        return;
    }
    struct migration *m = migrations_find(all, next.migration);
    if (!m && !is_gone(all, next.migration))
        m = begin(all, &next);
    if (!m) {
        assignment_done(&next);
        return;
    }
    if (ends_transfer(next.what))
        interrupt_transfer(m, "the broker has ended this migration");
    assignment_done(&m->polled);
    m->polled = next;
    m->absent = false; /* an answer that says otherwise from now on is newer */
}

static bool listed(json_object *assignments, const char *id)
{
    for (size_t i = 0; i < json_array_size(assignments); i++)
        if (strcmp(json_str(json_array_item(assignments, i), "migration"), id) == 0)
            return true;
    return false;
}

void migrations_assign(struct migrations *all, json_object *assignments)
{
    pthread_mutex_lock(&all->lock);
    for (struct migration *m = all->list; m; m = m->next)
        if (!listed(assignments, m->id) && !m->warned)
            m->absent = true;
    for (size_t i = 0; i < json_array_size(assignments); i++)
        take_polled(all, json_array_item(assignments, i));
    for (size_t i = 0; i < json_array_size(assignments) + 1; i++)
        migrations_wake(all);
    pthread_mutex_unlock(&all->lock);
}

void migrations_set_engine(struct migrations *all, struct engine *engine, const char *engine_error)
{
    pthread_mutex_lock(&all->lock);
    all->config.engine = engine;
    snprintf(all->engine_error, sizeof(all->engine_error), "%s", engine_error ? engine_error : "");
    pthread_mutex_unlock(&all->lock);
}

json_object *migrations_to_json(struct migrations *all)
{
    json_object *array = json_object_new_array();
    pthread_mutex_lock(&all->lock);
    for (struct migration *m = all->list; m; m = m->next) {
        if (m->acting)
            continue; /* its journal belongs to a worker just now; the next look shows it */
        json_object *o = json_object_new_object();
        json_put_str(o, "migration", m->id);
        json_put_str(o, "workload", m->journal.assignment.workload);
        json_put_str(o, "role", m->journal.assignment.role);
        json_put_str(o, "step", journal_step_name(m->journal.step));
        json_object_array_add(array, o);
    }
    pthread_mutex_unlock(&all->lock);
    return array;
}

/* ---- start and end ---- */

static int load_one(void *ctx, struct journal *journal)
{
    struct migrations *all = ctx;
    struct migration *m = add(all, journal);
    bool tell =
        m->journal.assignment.is_source ? migration_source_recover(m) : migration_target_recover(m);
    m->unreported = tell || m->journal.report_body;
    log_info("migration goes on here", LOG_STR("migration", m->id),
             LOG_STR("workload", m->journal.assignment.workload),
             LOG_STR("role", m->journal.assignment.role),
             LOG_STR("step", journal_step_name(m->journal.step)));
    return 0;
}

static void copy_config(struct migrations_config *to, const struct migrations_config *from)
{
    *to = *from;
    to->node = xstrdup(from->node);
    to->state_dir = xstrdup(from->state_dir);
    to->tls_ca = xstrdup(from->tls_ca);
    to->tls_cert = xstrdup(from->tls_cert);
    to->tls_key = xstrdup(from->tls_key);
    to->broker.base_url = xstrdup(from->broker.base_url);
    to->broker.token = xstrdup(from->broker.token);
    to->broker.ca_file = xstrdup(from->broker.ca_file);
    to->broker.cert_file = xstrdup(from->broker.cert_file);
    to->broker.key_file = xstrdup(from->broker.key_file);
    to->broker.node = xstrdup(from->broker.node);
    to->broker.unix_socket = xstrdup(from->broker.unix_socket);
}

static void release_config(struct migrations_config *config)
{
    const char *strings[] = {config->node,
                             config->state_dir,
                             config->tls_ca,
                             config->tls_cert,
                             config->tls_key,
                             config->broker.base_url,
                             config->broker.token,
                             config->broker.ca_file,
                             config->broker.cert_file,
                             config->broker.key_file,
                             config->broker.node,
                             config->broker.unix_socket};
    for (size_t i = 0; i < ARRAY_LEN(strings); i++)
        free((char *)strings[i]);
}

int migrations_new(const struct migrations_config *config, struct migrations **ret,
                   struct error *err)
{
    struct migrations *all = xcalloc(1, sizeof(*all));
    copy_config(&all->config, config);
    pthread_mutex_init(&all->lock, NULL);
    pthread_cond_init(&all->changed, NULL);
    snprintf(all->engine_error, sizeof(all->engine_error), "%s",
             config->engine_error ? config->engine_error : "");
    if (journal_load_all(all->config.state_dir, load_one, all, err) < 0) {
        migrations_free(all);
        return -1;
    }
    pthread_mutex_lock(&all->lock);
    for (size_t i = 0; i < all->count; i++)
        migrations_wake(all);
    pthread_mutex_unlock(&all->lock);
    *ret = all;
    return 0;
}

void migrations_stop(struct migrations *all)
{
    pthread_mutex_lock(&all->lock);
    all->stopping = true;
    for (struct migration *m = all->list; m; m = m->next)
        interrupt_transfer(m, "the agent is being stopped");
    pthread_cond_broadcast(&all->changed);
    while (all->workers > 0)
        pthread_cond_wait(&all->changed, &all->lock);
    pthread_mutex_unlock(&all->lock);
}

void migrations_free(struct migrations *all)
{
    if (!all)
        return;
    migrations_stop(all);
    while (all->list) {
        struct migration *next = all->list->next;
        migration_free(all->list);
        all->list = next;
    }
    release_config(&all->config);
    pthread_cond_destroy(&all->changed);
    pthread_mutex_destroy(&all->lock);
    free(all);
}
