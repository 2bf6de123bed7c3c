/* SPDX-License-Identifier: Apache-2.0 */
/* migration_send.c - image and folder on their way out: one thread reads and hashes, the worker
 * sends, and while that takes long a third tells the broker how far it is. */
#include <string.h>

#include "image_pipe.h"
#include "image_stream.h"
#include "log.h"
#include "migration_internal.h"

#define TICK_MS 1000

struct sending {
    struct migration *m;
    struct image_pipe *pipe;
    struct image_stream_job job;
    _Atomic uint64_t read_bytes; /* of the files, for progress */
    _Atomic bool manifest_begun;
    _Atomic uint64_t stream_bytes; /* what the reader has made so far */
    _Atomic uint64_t manifest_at;  /* where in the stream the manifest begins */
    uint64_t handed_bytes;         /* what the client has taken; the worker's own */
    int rc;
    struct error error; /* the reader's, once joined */
};

static int write_pipe(void *ctx, const void *data, size_t length, struct error *err)
{
    struct sending *s = ctx;
    if (atomic_load(&s->manifest_begun) && atomic_load(&s->manifest_at) == UINT64_MAX)
        atomic_store(&s->manifest_at, atomic_load(&s->stream_bytes));
    atomic_fetch_add(&s->stream_bytes, length);
    return image_pipe_write(s->pipe, data, length, err);
}

static void *reader_thread(void *ctx)
{
    struct sending *s = ctx;
    s->rc = image_stream_write(&s->job, &s->error);
    if (s->rc < 0)
        image_pipe_break(s->pipe, &s->error);
    else
        image_pipe_close(s->pipe);
    return NULL;
}

static ssize_t take_bytes(void *ctx, char *buffer, size_t max, struct error *err)
{
    struct sending *s = ctx;
    ssize_t n = image_pipe_read(s->pipe, buffer, max, err);
    if (n > 0)
        s->handed_bytes += (uint64_t)n;
    return n;
}

static int new_client(struct migration *m, struct client **ret, struct error *err)
{
    const struct migrations_config *config = &m->all->config;
    const char *address = m->journal.assignment.peer_address;
    if (!address || !*address || !m->journal.assignment.ticket)
        return error_set(err, ERROR_INVALID,
                         "the broker named no address or no ticket for the "
                         "target");
    autofree char *url = xasprintf("%s://%s", config->peers_use_tls ? "https" : "http", address);
    struct client_config client = {.base_url = url,
                                   .token = m->journal.assignment.ticket,
                                   .node = config->node,
                                   .ca_file = config->tls_ca,
                                   .cert_file = config->tls_cert,
                                   .key_file = config->tls_key};
    return client_new(&client, ret, err);
}

/* Makes the client known, so that an abort can interrupt it; -1 when the agent stops already. */
static int show_client(struct migration *m, struct client *client, struct error *err)
{
    struct migrations *all = m->all;
    pthread_mutex_lock(&all->lock);
    bool stopping = all->stopping;
    if (!stopping)
        m->sender = client;
    pthread_mutex_unlock(&all->lock);
    return stopping ? error_set(err, ERROR_FAILED, "the agent is being stopped") : 0;
}

static void hide_client(struct migration *m)
{
    pthread_mutex_lock(&m->all->lock);
    m->sender = NULL;
    pthread_mutex_unlock(&m->all->lock);
}

static int upload(struct sending *s, struct client *client, struct error *err)
{
    struct migration *m = s->m;
    autofree char *path = xasprintf("/v1/images/%s", m->id);
    autojson *reply = NULL;
    struct migration_ticker *ticker = migration_ticker_new(m, &s->read_bytes, m->journal.bytes);
    int rc =
        client_upload(client, path, take_bytes, s, m->all->config.stall_timeout_ms, &reply, err);
    migration_ticker_free(ticker);
    if (rc < 0)
        error_wrap(err, "sending the image to node %s (%s)", m->journal.assignment.peer_node,
                   m->journal.assignment.peer_address);
    return rc;
}

static int send_with(struct sending *s, struct client *client, struct error *err)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, reader_thread, s) != 0)
        return error_set(err, ERROR_BUSY, "no thread to read the image");
    int rc = show_client(s->m, client, err);
    if (rc == 0) {
        rc = upload(s, client, err);
        hide_client(s->m);
    }
    if (rc < 0) {
        struct error reason = *err;
        image_pipe_break(s->pipe, &reason); /* the reader may wait for room */
        image_follow_stop(s->m->follow);    /* or for hashes */
    }
    pthread_join(thread, NULL);
    if (rc == 0 && s->rc < 0) {
        /* a target that is content with less than all of it: not possible, but not success */
        *err = s->error;
        rc = -1;
    }
    return rc;
}

int migration_send(struct migration *m, bool *ret_unsure, struct error *err)
{
    autofree char *image_dir = migration_image_dir(m);
    const struct assignment *a = &m->journal.assignment;
    struct workload_info info = {0};
    if (workloads_get(m->all->config.workloads, a->workload, &info, err) < 0)
        return -1;
    autofree char *folder = steal_ptr(&info.dir);
    workload_info_done(&info);
    struct image_totals folder_totals = {0};
    uint64_t image_bytes = 0;
    AUTO(client) client = NULL;
    uint64_t most = a->max_bytes ? a->max_bytes : JSON_INTEGER_MAX;
    if (image_dir_bytes(image_dir, &image_bytes, err) < 0 ||
        image_folder_check(folder, most, &folder_totals, err) < 0 ||
        new_client(m, &client, err) < 0)
        return -1;
    m->journal.bytes = image_bytes + folder_totals.bytes;
    AUTO(image_manifest) manifest = image_manifest_new(a->workload, m->journal.root_pid);
    manifest->tasks = m->journal.tasks;
    manifest->threads = m->journal.threads;
    image_manifest_set_stopped(manifest, m->journal.stopped_pids);
    struct sending s = {.m = m, .pipe = image_pipe_new(), .manifest_at = UINT64_MAX};
    s.job = (struct image_stream_job){.image_dir = image_dir,
                                      .folder = folder,
                                      .manifest = manifest,
                                      .max_bytes = most,
                                      .follow = m->follow,
                                      .sent_bytes = &s.read_bytes,
                                      .manifest_begun = &s.manifest_begun,
                                      .write = write_pipe,
                                      .ctx = &s};
    int rc = send_with(&s, client, err);
    *ret_unsure = rc < 0 && s.handed_bytes > atomic_load(&s.manifest_at);
    image_pipe_free(s.pipe);
    return rc;
}

/* ---- progress ---- */

struct migration_ticker {
    struct migration *m;
    _Atomic uint64_t *bytes;
    uint64_t total_bytes;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool end; /* guarded by lock */
};

static void tick(struct migration_ticker *t, struct client *client, const char *path)
{
    autojson *body = json_object_new_object();
    autojson *reply = NULL;
    json_put_str(body, "node", t->m->all->config.node);
    json_put_str(body, "state", migration_report_name(MIGRATION_REPORT_PROGRESS));
    json_put_int(body, "bytes", (int64_t)atomic_load(t->bytes));
    json_put_int(body, "total_bytes", (int64_t)t->total_bytes);
    struct error err;
    /* the answer is not followed: whatever changed comes by the long poll too */
    if (client_request_timed(client, "POST", path, body, TICK_MS, &reply, &err) < 0)
        log_debug("progress was not reported", LOG_STR("error", err.message));
}

static void *ticker_thread(void *ctx)
{
    struct migration_ticker *t = ctx;
    struct client *client = NULL;
    autofree char *path = xasprintf("/v1/migrations/%s/progress", t->m->id);
    pthread_mutex_lock(&t->lock);
    while (!t->end) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += TICK_MS / 1000;
        while (!t->end && pthread_cond_clockwait(&t->ended, &t->lock, CLOCK_MONOTONIC, &until) == 0)
            ;
        if (t->end)
            break;
        pthread_mutex_unlock(&t->lock);
        if (client || client_new(&t->m->all->config.broker, &client, NULL) == 0)
            tick(t, client, path);
        pthread_mutex_lock(&t->lock);
    }
    pthread_mutex_unlock(&t->lock);
    client_free(client);
    return NULL;
}

struct migration_ticker *migration_ticker_new(struct migration *m, _Atomic uint64_t *bytes,
                                              uint64_t total_bytes)
{
    struct migration_ticker *t = xcalloc(1, sizeof(*t));
    t->m = m;
    t->bytes = bytes;
    t->total_bytes = total_bytes;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->ended, NULL);
    if (pthread_create(&t->thread, NULL, ticker_thread, t) == 0)
        return t;
    free(t); /* progress is only for people; the transfer goes on without */
    return NULL;
}

void migration_ticker_free(struct migration_ticker *t)
{
    if (!t)
        return;
    pthread_mutex_lock(&t->lock);
    t->end = true;
    pthread_cond_broadcast(&t->ended);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    pthread_cond_destroy(&t->ended);
    pthread_mutex_destroy(&t->lock);
    free(t);
}
