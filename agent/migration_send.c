/* SPDX-License-Identifier: Apache-2.0 */
/* migration_send.c - image and folder on their way out. The sending begins before the dump, so that
 * a target that cannot be reached or refuses is known while the workload still runs, and goes on
 * beside it: one thread reads, one sends, and one tells the broker how far it is. */
#include <string.h>

#include "image_pipe.h"
#include "image_stream.h"
#include "log.h"
#include "migration_internal.h"

#define TICK_MS 1000

struct migration_sending {
    struct migration *m;
    char *image_dir, *folder, *peer; /* owned */
    struct client *client;           /* owned */
    struct client_upload *upload;    /* owned; the sender's until it is joined */
    struct image_manifest *manifest; /* owned; the reader's once the gate says DUMPED */
    struct image_pipe *pipe;         /* owned; from the reader to the sender */
    struct image_gate *gate;         /* owned */
    struct image_stream_job job;
    _Atomic uint64_t read_bytes; /* of the files, for progress */
    _Atomic bool manifest_begun;
    _Atomic uint64_t manifest_at; /* where in the stream the manifest begins; UINT64_MAX: not yet */

    pthread_t reader, sender;
    bool reading, sending; /* so that they have to be joined */
    uint64_t stream_bytes; /* the reader's: made so far */
    /* the sender's until it is joined */
    uint64_t sent_bytes;
    bool unsure; /* bytes of the manifest went out */
    int rc;
    struct error error;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool accepted, ended; /* guarded by lock: by the target; the sender has */
};

/* ---- the reader ---- */

static int pipe_room(void *ctx, void **ret, size_t *ret_length, struct error *err)
{
    struct migration_sending *s = ctx;
    return image_pipe_room(s->pipe, ret, ret_length, err);
}

static int pipe_write(void *ctx, const void *data, size_t length, struct error *err)
{
    struct migration_sending *s = ctx;
    if (atomic_load(&s->manifest_begun) && atomic_load(&s->manifest_at) == UINT64_MAX)
        atomic_store(&s->manifest_at, s->stream_bytes);
    s->stream_bytes += length;
    return image_pipe_write(s->pipe, data, length, err);
}

static void pipe_flush(void *ctx)
{
    struct migration_sending *s = ctx;
    image_pipe_flush(s->pipe);
}

static void *reader_thread(void *ctx)
{
    struct migration_sending *s = ctx;
    struct error err;
    if (image_stream_write(&s->job, &err) < 0)
        image_pipe_break(s->pipe, &err);
    else
        image_pipe_close(s->pipe);
    return NULL;
}

/* ---- the sender ---- */

static void tell(struct migration_sending *s, bool *what)
{
    pthread_mutex_lock(&s->lock);
    *what = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static int send_all(struct migration_sending *s, struct error *err)
{
    const void *bytes = NULL;
    ssize_t n;
    while ((n = image_pipe_peek(s->pipe, &bytes, err)) > 0) {
        s->sent_bytes += (uint64_t)n;
        /* From here on the target may come to have all of it, whatever the call returns. */
        s->unsure = s->sent_bytes > atomic_load(&s->manifest_at);
        if (client_upload_write(s->upload, bytes, (size_t)n, err) < 0)
            return -1;
        if (s->sent_bytes == (uint64_t)n)
            tell(s, &s->accepted);
    }
    return n < 0 ? -1 : client_upload_finish(s->upload, NULL, err);
}

static void stop(struct migration_sending *s, const struct error *reason)
{
    image_pipe_break(s->pipe, reason); /* the reader may wait for room, the sender for bytes */
    image_gate_break(s->gate, reason); /* or the reader for the dump */
}

static void *sender_thread(void *ctx)
{
    struct migration_sending *s = ctx;
    s->rc = send_all(s, &s->error);
    if (s->rc < 0) {
        stop(s, &s->error);
        error_wrap(&s->error, "sending the image to node %s", s->peer);
    }
    client_upload_free(s->upload); /* a target that waits for more hears at once */
    s->upload = NULL;
    tell(s, &s->ended);
    return NULL;
}

/* ---- from outside ---- */

static int new_client(struct migration *m, struct client **ret, struct error *err)
{
    const struct migrations_config *config = &m->all->config;
    const char *address = m->journal.assignment.peer_address;
    if (!address || !*address || !m->journal.assignment.ticket)
        return error_set(err, ERROR_INVALID,
                         "the broker named no address or no ticket for the target");
    autofree char *url = xasprintf("%s://%s", config->peers_use_tls ? "https" : "http", address);
    struct client_config client = {.base_url = url,
                                   .token = m->journal.assignment.ticket,
                                   .node = config->node,
                                   .ca_file = config->tls_ca,
                                   .cert_file = config->tls_cert,
                                   .key_file = config->tls_key};
    return client_new(&client, ret, err);
}

static uint64_t most_bytes(const struct migration *m)
{
    uint64_t most = m->journal.assignment.max_bytes;
    return most ? most : JSON_INTEGER_MAX;
}

/* Shows the sending to whoever may have to interrupt it; -1 when the agent stops already. */
static int show(struct migration *m, struct migration_sending *s, struct error *err)
{
    pthread_mutex_lock(&m->all->lock);
    bool stopping = s && m->all->stopping;
    if (!stopping)
        m->sender = s;
    pthread_mutex_unlock(&m->all->lock);
    return stopping ? error_set(err, ERROR_BUSY, "the agent is being stopped") : 0;
}

static void join(struct migration_sending *s)
{
    if (s->sending)
        pthread_join(s->sender, NULL);
    if (s->reading)
        pthread_join(s->reader, NULL);
    s->sending = s->reading = false;
}

static int start_threads(struct migration_sending *s, struct error *err)
{
    s->reading = pthread_create(&s->reader, NULL, reader_thread, s) == 0;
    s->sending = s->reading && pthread_create(&s->sender, NULL, sender_thread, s) == 0;
    return s->sending ? 0 : error_set(err, ERROR_BUSY, "no thread to send the image");
}

/* Starts the threads and waits for the target's word. */
static int start(struct migration_sending *s, struct error *err)
{
    autofree char *path = xasprintf("/v1/images/%s", s->m->id);
    if (show(s->m, s, err) < 0 ||
        client_upload_begin(s->client, path, s->m->all->config.stall_timeout_ms, &s->upload, err) <
            0 ||
        start_threads(s, err) < 0)
        return -1;
    pthread_mutex_lock(&s->lock);
    while (!s->accepted && !s->ended)
        pthread_cond_wait(&s->changed, &s->lock);
    bool accepted = s->accepted;
    pthread_mutex_unlock(&s->lock);
    if (accepted)
        return 0;
    join(s);
    if (err)
        *err = s->error;
    return -1;
}

int migration_sending_start(struct migration *m, struct migration_sending **ret, struct error *err)
{
    const struct assignment *a = &m->journal.assignment;
    AUTO(migration_sending) s = xcalloc(1, sizeof(*s));
    struct workload_info info = {0};
    s->m = m;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    atomic_init(&s->manifest_at, UINT64_MAX);
    s->pipe = image_pipe_new();
    s->gate = image_gate_new();
    s->image_dir = migration_image_dir(m);
    s->peer = xasprintf("%s (%s)", a->peer_node, a->peer_address ? a->peer_address : "nowhere");
    s->manifest = image_manifest_new(a->workload, 0);
    if (workloads_get(m->all->config.workloads, a->workload, &info, err) < 0)
        return -1;
    s->folder = steal_ptr(&info.dir);
    workload_info_done(&info);
    if (new_client(m, &s->client, err) < 0)
        return -1;
    s->job = (struct image_stream_job){.image_dir = s->image_dir,
                                       .folder = s->folder,
                                       .manifest = s->manifest,
                                       .max_bytes = most_bytes(m),
                                       .gate = s->gate,
                                       .sent_bytes = &s->read_bytes,
                                       .manifest_begun = &s->manifest_begun,
                                       .room = pipe_room,
                                       .write = pipe_write,
                                       .flush = pipe_flush,
                                       .ctx = s};
    if (start(s, err) < 0)
        return -1;
    *ret = steal_ptr(&s);
    return 0;
}

void migration_sending_dumped(struct migration_sending *s)
{
    const struct journal *journal = &s->m->journal;
    s->manifest->pid = journal->root_pid;
    s->manifest->tasks = journal->tasks;
    s->manifest->threads = journal->threads;
    image_manifest_set_stopped(s->manifest, journal->stopped_pids);
    image_manifest_set_timers(s->manifest, journal->expired_timers);
    image_gate_set(s->gate, IMAGE_GATE_DUMPED);
}

int migration_sending_finish(struct migration_sending *s, bool *ret_unsure, struct error *err)
{
    struct migration *m = s->m;
    struct image_totals folder = {0};
    uint64_t image_bytes = 0;
    *ret_unsure = false;
    if (image_dir_bytes(s->image_dir, &image_bytes, err) < 0 ||
        image_folder_check(s->folder, most_bytes(m), &folder, err) < 0)
        return -1;
    m->journal.bytes = image_bytes + folder.bytes;
    image_gate_set(s->gate, IMAGE_GATE_OPEN);
    struct migration_ticker *ticker = migration_ticker_new(m, &s->read_bytes, m->journal.bytes);
    join(s);
    migration_ticker_free(ticker);
    *ret_unsure = s->rc < 0 && s->unsure;
    if (s->rc < 0 && err)
        *err = s->error;
    return s->rc;
}

void migration_sending_interrupt(struct migration_sending *s, const struct error *reason)
{
    client_interrupt(s->client); /* the sender may wait for the target */
    stop(s, reason);
}

void migration_sending_free(struct migration_sending *s)
{
    if (!s)
        return;
    struct error reason;
    error_set(&reason, ERROR_FAILED, "the sending was given up");
    show(s->m, NULL, NULL);
    if (s->reading)
        migration_sending_interrupt(s, &reason);
    join(s);
    client_upload_free(s->upload);
    client_free(s->client);
    image_manifest_free(s->manifest);
    image_pipe_free(s->pipe);
    image_gate_free(s->gate);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    free(s->image_dir);
    free(s->folder);
    free(s->peer);
    free(s);
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
