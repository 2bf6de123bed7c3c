/* SPDX-License-Identifier: Apache-2.0 */
/* http.c - the life of a request: the one file that knows libmicrohttpd.
 *
 * libmicrohttpd calls on_request() first with the headers alone, then once per piece of the body,
 * then once more at its end; a request that was suspended comes back as another call at its end.
 *
 *     HEADERS -> BODY    -> (handler, perhaps several times) -> ANSWERED
 *             -> UPLOAD  -> (finish)                         -> ANSWERED
 *             -> REFUSED -> (the error, after a short body was read and thrown away)
 *             -> DRAIN      (the error was sent at once; what still comes is thrown away)
 *
 * DRAIN is there because libmicrohttpd cannot answer while a body arrives, and because closing a
 * socket with unread data resets it, so that a client that is still sending would read "broken
 * pipe" where it should read why it was refused. */
#include "http.h"

#include <microhttpd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "http_listen.h"
#include "http_route.h"
#include "http_tls.h"
#include "http_wait.h"
#include "log.h"

#define DEFAULT_THREADS         2
#define DEFAULT_CONNECTIONS_MAX 1024
#define DEFAULT_IDLE_TIMEOUT_S  75
#define MEMORY_BYTES            (32UL * 1024)   /* per connection: bounds the headers */
#define UPLOAD_MEMORY_BYTES     (1024UL * 1024) /* per connection: the size of upload pieces */
#define STACK_BYTES             (1024UL * 1024)
#define KEEP_BODY_BYTES         (64UL * 1024) /* a body buffer up to this is kept for the next request */
#define DISCARD_BYTES           (64UL * 1024) /* a refused body up to this is read, the connection kept */
#define DRAIN_BYTES             (256UL * 1024 * 1024)
#define DRAIN_MS                10000
#define SEND_NOW_MS             2000
#define KEEP_ALIVE_MS           15000 /* a silent event stream says that it is there */
#define STOP_MS                 2000  /* how long a stop waits for requests that run */

struct http_server {
    struct MHD_Daemon *daemon;
    struct waiters *waiters;
    const struct http_route *routes;
    void *ctx;
    int (*authenticate)(struct http_request *req, struct http_principal *principal,
                        struct error *err);
    void (*observe)(void *ctx, const struct http_route *route, unsigned status,
                    int64_t duration_us);
    bool thread_per_connection;
    struct http_tls tls;
    char *address;
    atomic_uint requests; /* begun and not over */
};

enum phase { PHASE_IDLE, PHASE_BODY, PHASE_UPLOAD, PHASE_REFUSED, PHASE_DRAIN, PHASE_ANSWERED };

struct decoded { /* a query argument that had escapes */
    struct decoded *next;
    char text[];
};

struct http_connection {
    struct http_server *server;
    struct MHD_Connection *mhd;
    char peer[64];
    unsigned peer_uid;
    int peer_pid;
    bool client_verified;
    char *room; /* owned; the path's parameters, decoded */
    size_t room_size;
    char *body; /* owned */
    size_t body_size;
    /* Of the request that runs: */
    enum phase phase;
    struct http_request req;
    const struct http_route *route; /* NULL: none was found */
    int64_t began_us;
    struct error refusal;
    char allow[64];
    void *upload; /* open() succeeded and close() has not run */
    bool upload_open;
    size_t received;
    int64_t drain_until_ms;
    struct decoded *decoded; /* owned */
    struct waiter waiter;
    char *wait_key;        /* owned */
    int64_t wait_until_ms; /* 0: has not waited yet */
};

struct stream {
    struct http_server *server;
    struct MHD_Connection *mhd;
    struct waiter waiter;
    bool events; /* text/event-stream */
    ssize_t (*next)(void *stream, char *buffer, size_t max);
    void (*free)(void *stream);
    void *stream; /* owned */
    char *key;    /* owned */
};

static int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static const char *header(const struct http_connection *c, const char *name)
{
    return MHD_lookup_connection_value(c->mhd, MHD_HEADER_KIND, name);
}

/* Waiting and streams */

static void suspend_connection(struct waiter *waiter)
{
    MHD_suspend_connection(waiter->owner);
}

static void resume_connection(struct waiter *waiter)
{
    MHD_resume_connection(waiter->owner);
}

/* Waits in whichever way the server can. WAITERS_LISTED: the connection is suspended; with
 * threads of their own it never is, AGAIN then also says that the wait is over. */
static enum waiters_result wait_for(struct http_server *server, struct waiter *waiter,
                                    const char *key, uint64_t snapshot, int64_t until_ms)
{
    waiter->resume = server->thread_per_connection ? NULL : resume_connection;
    enum waiters_result result =
        waiters_add(server->waiters, waiter, key, snapshot, until_ms,
                    server->thread_per_connection ? NULL : suspend_connection);
    if (result != WAITERS_LISTED || !server->thread_per_connection)
        return result;
    waiters_block(server->waiters, waiter);
    return waiters_stopped(server->waiters) ? WAITERS_STOPPED : WAITERS_AGAIN;
}

static ssize_t stream_read(void *cls, uint64_t position, char *buffer, size_t max)
{
    struct stream *s = cls;
    (void)position;
    static const char alive[] = ": alive\n\n";
    for (;;) {
        bool timed_out = s->waiter.timed_out;
        s->waiter.timed_out = false;
        uint64_t snapshot = waiters_snapshot(s->server->waiters);
        ssize_t n = s->next(s->stream, buffer, max);
        if (n != 0)
            return n > 0 ? n : MHD_CONTENT_READER_END_OF_STREAM;
        if (timed_out && s->events && max >= sizeof(alive) &&
            !waiters_stopped(s->server->waiters)) {
            memcpy(buffer, alive, sizeof(alive) - 1);
            return sizeof(alive) - 1;
        }
        switch (
            wait_for(s->server, &s->waiter, s->key, snapshot, waiters_now_ms() + KEEP_ALIVE_MS)) {
        case WAITERS_LISTED:
            return 0;
        case WAITERS_AGAIN:
            break;
        case WAITERS_STOPPED:
            return MHD_CONTENT_READER_END_OF_STREAM;
        }
    }
}

static void stream_done(void *cls)
{
    struct stream *s = cls;
    waiters_remove(s->server->waiters, &s->waiter);
    if (s->free)
        s->free(s->stream);
    free(s->key);
    free(s);
}

/* Replies */

static void reply_done(struct http_reply *reply)
{
    free(reply->body);
    free(reply->location);
    if (reply->stream && reply->stream_free)
        reply->stream_free(reply->stream);
    free(reply->stream_key);
    *reply = (struct http_reply){0};
}

static void reply_error(struct http_connection *c, struct http_reply *reply,
                        const struct error *err)
{
    reply_done(reply);
    http_reply_json(reply, (unsigned)error_http_status(err->kind), http_error_json(err));
    if (err->kind == ERROR_BUSY)
        reply->retry_after_s = 1;
    if (err->kind == ERROR_NOT_ALLOWED)
        reply->allow = c->allow;
}

static struct MHD_Response *make_response(struct http_connection *c, struct http_reply *reply)
{
    if (!reply->stream_next)
        return MHD_create_response_from_buffer(reply->body_length, steal_ptr(&reply->body),
                                               MHD_RESPMEM_MUST_FREE);
    struct stream *s = xcalloc(1, sizeof(*s));
    s->server = c->server;
    s->mhd = c->mhd;
    s->waiter.owner = c->mhd;
    s->events = reply->content_type && strcmp(reply->content_type, "text/event-stream") == 0;
    s->next = reply->stream_next;
    s->free = reply->stream_free;
    s->stream = steal_ptr(&reply->stream);
    s->key = reply->stream_key ? steal_ptr(&reply->stream_key) : xstrdup("");
    return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 16384, stream_read, s, stream_done);
}

static void add_number(struct MHD_Response *response, const char *name, unsigned number)
{
    char text[16];
    snprintf(text, sizeof(text), "%u", number);
    MHD_add_response_header(response, name, text);
}

static void add_headers(struct MHD_Response *response, const struct http_reply *reply,
                        bool has_body)
{
    if (has_body)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
                                reply->content_type ? reply->content_type : "application/json");
    if (reply->stream_next)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-cache");
    if (reply->location)
        MHD_add_response_header(response, MHD_HTTP_HEADER_LOCATION, reply->location);
    if (reply->retry_after_s)
        add_number(response, MHD_HTTP_HEADER_RETRY_AFTER, reply->retry_after_s);
    if (reply->allow)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, reply->allow);
    if (reply->status == MHD_HTTP_UNAUTHORIZED)
        MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
}

static void observe(struct http_connection *c, unsigned status)
{
    if (c->phase != PHASE_DRAIN)
        c->phase = PHASE_ANSWERED;
    if (c->server->observe)
        c->server->observe(c->server->ctx, c->route, status, now_us() - c->began_us);
}

/* Takes what the reply owns. */
static enum MHD_Result answer(struct http_connection *c, struct http_reply *reply)
{
    if (!reply->status)
        reply->status = MHD_HTTP_OK;
    bool has_body = reply->stream_next || reply->body_length > 0;
    unsigned status = reply->status;
    struct MHD_Response *response = make_response(c, reply);
    if (!response) {
        reply_done(reply);
        return MHD_NO;
    }
    add_headers(response, reply, has_body);
    enum MHD_Result queued = MHD_queue_response(c->mhd, status, response);
    MHD_destroy_response(response);
    reply_done(reply);
    observe(c, status);
    return queued;
}

static enum MHD_Result answer_error(struct http_connection *c, const struct error *err)
{
    struct http_reply reply = {0};
    reply_error(c, &reply, err);
    return answer(c, &reply);
}

/* Refusals */

static ssize_t send_some(struct http_connection *c, int fd, const char *data, size_t length)
{
    const union MHD_ConnectionInfo *info =
        c->server->tls.cert_pem
            ? MHD_get_connection_info(c->mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION)
            : NULL;
    if (info)
        return http_tls_send(info->tls_session, data, length);
    return send(fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Writes past libmicrohttpd, which still reads the body and would not take an answer. */
static int send_now(struct http_connection *c, const char *data, size_t length)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c->mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (!info)
        return -1;
    int64_t until_ms = waiters_now_ms() + SEND_NOW_MS;
    while (length > 0) {
        ssize_t n = send_some(c, info->connect_fd, data, length);
        if (n >= 0) {
            data += n;
            length -= (size_t)n;
        } else if (errno == EAGAIN && waiters_now_ms() < until_ms) {
            struct pollfd ready = {.fd = info->connect_fd, .events = POLLOUT};
            poll(&ready, 1, 100);
        } else if (errno != EINTR) {
            return -1;
        }
    }
    return 0;
}

/* Answers c->refusal while the body still comes; the connection ends with this request. */
static enum MHD_Result refuse_now(struct http_connection *c)
{
    struct http_reply reply = {0};
    reply_error(c, &reply, &c->refusal);
    char retry[32] = "", allow[sizeof(c->allow) + 16] = "";
    if (reply.retry_after_s)
        snprintf(retry, sizeof(retry), "Retry-After: %u\r\n", reply.retry_after_s);
    if (reply.allow)
        snprintf(allow, sizeof(allow), "Allow: %s\r\n", reply.allow);
    autofree char *text =
        xasprintf("HTTP/1.1 %u %s\r\nConnection: close\r\nContent-Type: application/json\r\n%s%s%s"
                  "Content-Length: %zu\r\n\r\n%s",
                  reply.status, MHD_get_reason_phrase_for(reply.status),
                  reply.status == MHD_HTTP_UNAUTHORIZED ? "WWW-Authenticate: Bearer\r\n" : "",
                  retry, allow, reply.body_length, reply.body);
    unsigned status = reply.status;
    reply_done(&reply);
    c->phase = PHASE_DRAIN;
    c->received = 0;
    c->drain_until_ms = waiters_now_ms() + DRAIN_MS;
    observe(c, status);
    return send_now(c, text, strlen(text)) < 0 ? MHD_NO : MHD_YES;
}

/* c->refusal says why; picks the way that reaches the client. */
static enum MHD_Result refuse(struct http_connection *c)
{
    const char *length = header(c, MHD_HTTP_HEADER_CONTENT_LENGTH);
    bool chunked = header(c, MHD_HTTP_HEADER_TRANSFER_ENCODING) != NULL;
    const char *expect = header(c, MHD_HTTP_HEADER_EXPECT);
    c->phase = PHASE_REFUSED;
    if (!chunked && (!length || strtoull(length, NULL, 10) <= DISCARD_BYTES))
        return MHD_YES; /* answered at the end of the body, the connection lives on */
    if (expect && strcasecmp(expect, "100-continue") == 0)
        return answer_error(c, &c->refusal); /* the client has not sent a byte of it */
    return refuse_now(c);
}

/* The request */

static void upload_close(struct http_connection *c)
{
    if (!c->upload_open)
        return;
    c->upload_open = false;
    c->route->upload->close(c->upload);
    c->upload = NULL;
}

static void request_reset(struct http_connection *c)
{
    c->phase = PHASE_IDLE;
    c->route = NULL;
    c->req = (struct http_request){
        .ctx = c->server->ctx, .connection = c, .peer_uid = c->peer_uid, .peer_pid = c->peer_pid};
    memcpy(c->req.peer, c->peer, sizeof(c->peer));
    c->refusal.kind = ERROR_NONE;
    c->received = 0;
    c->wait_until_ms = 0;
    c->waiter.timed_out = false;
}

static int find_route(struct http_connection *c, const char *method, const char *path)
{
    size_t need = strlen(path) + 1;
    if (need > c->room_size) {
        c->room = xrealloc(c->room, need + 256);
        c->room_size = need + 256;
    }
    switch (http_route_find(c->server->routes, method, path, &c->req, c->room, &c->route, c->allow,
                            sizeof(c->allow))) {
    case HTTP_MATCH_OK:
        c->req.method = c->route->method;
        return 0;
    case HTTP_MATCH_NO_METHOD:
        return error_set(&c->refusal, ERROR_NOT_ALLOWED, "%.16s is not possible on %.200s, only %s",
                         method, path, c->allow);
    case HTTP_MATCH_BAD_ESCAPE:
        return error_set(&c->refusal, ERROR_INVALID, "the path has a broken %%-escape: %.200s",
                         path);
    case HTTP_MATCH_NO_PATH:
        break;
    }
    return error_set(&c->refusal, ERROR_NOT_FOUND, "there is no %.200s here", path);
}

static int check_client(struct http_connection *c)
{
    if (!c->server->tls.client_ca_pem || c->client_verified)
        return 0;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c->mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION);
    if (!info || http_tls_verify_client(info->tls_session, &c->refusal) < 0)
        return -1;
    c->client_verified = true;
    return 0;
}

static int authenticate(struct http_connection *c)
{
    if (c->route->roles == 0)
        return 0;
    if (!c->server->authenticate)
        return error_set(&c->refusal, ERROR_FORBIDDEN, "nobody may use this server");
    c->refusal.kind = ERROR_UNAUTHENTICATED;
    if (c->server->authenticate(&c->req, &c->req.principal, &c->refusal) < 0)
        return -1;
    if (!(c->req.principal.roles & c->route->roles))
        return error_set(&c->refusal, ERROR_FORBIDDEN, "'%s' has not the role that %s %s asks for",
                         c->req.principal.name, c->route->method, c->route->path);
    return 0;
}

static int too_large(struct http_connection *c)
{
    if (c->route->max_body_bytes == 0)
        return error_set(&c->refusal, ERROR_TOO_LARGE, "%s %s takes no body", c->route->method,
                         c->route->path);
    return error_set(&c->refusal, ERROR_TOO_LARGE, "the body is too large, %s %s takes %zu bytes",
                     c->route->method, c->route->path, c->route->max_body_bytes);
}

/* Whether a body of that length is too much. Uploads with a limit of 0 count for themselves. */
static bool exceeds(const struct http_connection *c, unsigned long long length)
{
    return length > c->route->max_body_bytes &&
           !(c->route->upload && c->route->max_body_bytes == 0);
}

static int check_length(struct http_connection *c)
{
    const char *length = header(c, MHD_HTTP_HEADER_CONTENT_LENGTH);
    if (!length)
        return 0;
    if (header(c, MHD_HTTP_HEADER_TRANSFER_ENCODING))
        return error_set(&c->refusal, ERROR_INVALID,
                         "Content-Length and Transfer-Encoding cannot both be given");
    unsigned long long bytes = strtoull(length, NULL, 10);
    if (exceeds(c, bytes))
        return too_large(c);
    if (!c->route->upload && bytes + 1 > c->body_size) {
        c->body = xrealloc(c->body, bytes + 1);
        c->body_size = bytes + 1;
    }
    return 0;
}

static enum MHD_Result request_begin(struct http_connection *c, const char *path,
                                     const char *method)
{
    request_reset(c);
    atomic_fetch_add(&c->server->requests, 1);
    c->began_us = now_us();
    c->req.path = path;
    if (find_route(c, method, path) < 0 || check_client(c) < 0 || authenticate(c) < 0 ||
        check_length(c) < 0)
        return refuse(c);
    if (!c->route->upload) {
        c->phase = PHASE_BODY;
        return MHD_YES;
    }
    if (c->route->upload->open(&c->req, &c->upload, &c->refusal) < 0)
        return refuse(c);
    c->upload_open = true;
    c->phase = PHASE_UPLOAD;
    return MHD_YES;
}

static enum MHD_Result body_add(struct http_connection *c, const char *data, size_t length)
{
    if (exceeds(c, (unsigned long long)c->received + length)) {
        too_large(c);
        return refuse_now(c);
    }
    if (c->received + length + 1 > c->body_size) {
        size_t size = (c->received + length) * 2 + 1;
        if (size > c->route->max_body_bytes + 1)
            size = c->route->max_body_bytes + 1;
        c->body = xrealloc(c->body, size);
        c->body_size = size;
    }
    memcpy(c->body + c->received, data, length);
    c->received += length;
    return MHD_YES;
}

static enum MHD_Result upload_add(struct http_connection *c, const char *data, size_t length)
{
    c->received += length;
    if (exceeds(c, c->received))
        too_large(c);
    else if (c->route->upload->data(c->upload, data, length, &c->refusal) == 0)
        return MHD_YES;
    upload_close(c);
    return refuse_now(c);
}

static enum MHD_Result request_data(struct http_connection *c, const char *data, size_t length)
{
    switch (c->phase) {
    case PHASE_BODY:
        return body_add(c, data, length);
    case PHASE_UPLOAD:
        return upload_add(c, data, length);
    case PHASE_REFUSED:
    case PHASE_ANSWERED:
        return MHD_YES;
    case PHASE_DRAIN:
        c->received += length;
        return c->received > DRAIN_BYTES || waiters_now_ms() > c->drain_until_ms ? MHD_NO : MHD_YES;
    case PHASE_IDLE:
        break;
    }
    return MHD_NO;
}

/* After the handler said HTTP_WAIT. WAITERS_AGAIN: run it again, req says why. */
static enum waiters_result request_wait(struct http_connection *c, uint64_t snapshot)
{
    struct http_server *server = c->server;
    if (!c->wait_key || c->req.timed_out)
        return WAITERS_STOPPED;
    c->waiter.timed_out = false;
    enum waiters_result result =
        wait_for(server, &c->waiter, c->wait_key, snapshot, c->wait_until_ms);
    if (result == WAITERS_LISTED)
        return result; /* from here on the request may run elsewhere: touch nothing */
    c->req.woken = true;
    c->req.timed_out = result == WAITERS_STOPPED || c->waiter.timed_out;
    return WAITERS_AGAIN;
}

static void decoded_free(struct http_connection *c)
{
    while (c->decoded) {
        struct decoded *next = c->decoded->next;
        free(c->decoded);
        c->decoded = next;
    }
}

static enum MHD_Result run_handler(struct http_connection *c)
{
    struct http_reply reply = {0};
    struct error err = {.kind = ERROR_INTERNAL};
    int rc;
    for (;;) {
        decoded_free(c);
        uint64_t snapshot = waiters_snapshot(c->server->waiters);
        rc = c->route->handler(&c->req, &reply, &err);
        if (rc != HTTP_WAIT)
            break;
        reply_done(&reply);
        switch (request_wait(c, snapshot)) {
        case WAITERS_LISTED:
            return MHD_YES;
        case WAITERS_AGAIN:
            continue;
        case WAITERS_STOPPED:
            break;
        }
        error_set(&err, ERROR_TIMEOUT, "%s %s had no answer in time", c->route->method,
                  c->route->path);
        rc = -1;
        break;
    }
    if (rc < 0)
        reply_error(c, &reply, &err);
    return answer(c, &reply);
}

static enum MHD_Result finish_upload(struct http_connection *c)
{
    struct http_reply reply = {0};
    struct error err = {.kind = ERROR_INTERNAL};
    int rc = c->route->upload->finish(c->upload, &reply, &err);
    upload_close(c);
    if (rc < 0)
        reply_error(c, &reply, &err);
    return answer(c, &reply);
}

/* The request is whole; for one that was suspended, it is time to look again. */
static enum MHD_Result request_end(struct http_connection *c)
{
    switch (c->phase) {
    case PHASE_BODY:
        if (c->wait_until_ms) {
            c->req.woken = true;
            c->req.timed_out = c->waiter.timed_out;
        } else {
            if (!c->body) {
                c->body = xcalloc(1, 1);
                c->body_size = 1;
            }
            c->body[c->received] = '\0';
            c->req.body = c->body;
            c->req.body_length = c->received;
        }
        return run_handler(c);
    case PHASE_UPLOAD:
        return finish_upload(c);
    case PHASE_REFUSED:
        return answer_error(c, &c->refusal);
    case PHASE_IDLE:
    case PHASE_DRAIN:
    case PHASE_ANSWERED:
        break;
    }
    return MHD_NO; /* closes the connection */
}

static struct http_connection *connection_of(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *data_size, void **request)
{
    (void)cls;
    (void)version;
    struct http_connection *c = *request ? *request : connection_of(mhd);
    if (!c)
        return MHD_NO;
    if (!*request) {
        *request = c;
        return request_begin(c, url, method);
    }
    if (*data_size == 0)
        return request_end(c);
    size_t length = *data_size;
    *data_size = 0;
    return request_data(c, data, length);
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **request,
                         enum MHD_RequestTerminationCode why)
{
    (void)cls;
    (void)mhd;
    (void)why;
    struct http_connection *c = *request;
    if (!c)
        return;
    *request = NULL;
    waiters_remove(c->server->waiters, &c->waiter);
    upload_close(c);
    decoded_free(c);
    free(steal_ptr(&c->wait_key));
    if (c->body_size > KEEP_BODY_BYTES) {
        free(steal_ptr(&c->body));
        c->body_size = 0;
    }
    c->phase = PHASE_IDLE;
    atomic_fetch_sub(&c->server->requests, 1);
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **context,
                          enum MHD_ConnectionNotificationCode what)
{
    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        struct http_connection *c = *context;
        *context = NULL;
        if (c) {
            free(c->room);
            free(c->body);
            free(c);
        }
        return;
    }
    struct http_connection *c = xcalloc(1, sizeof(*c));
    c->server = cls;
    c->mhd = mhd;
    c->waiter.owner = mhd;
    c->peer_uid = (unsigned)-1;
    const union MHD_ConnectionInfo *fd =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (!fd || http_peer_credentials(fd->connect_fd, &c->peer_uid, &c->peer_pid) < 0) {
        const union MHD_ConnectionInfo *address =
            MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
        http_peer_name(address ? address->client_addr : NULL, c->peer, sizeof(c->peer));
    }
    *context = c;
}

/* What handlers ask of a request */

const char *http_request_header(const struct http_request *req, const char *name)
{
    return req->connection ? header(req->connection, name) : NULL;
}

const char *http_request_query(const struct http_request *req, const char *name)
{
    struct http_connection *c = req->connection;
    const char *raw = c ? MHD_lookup_connection_value(c->mhd, MHD_GET_ARGUMENT_KIND, name) : NULL;
    if (!raw || !strpbrk(raw, "%+"))
        return raw;
    size_t length = strlen(raw);
    struct decoded *decoded = xmalloc(sizeof(*decoded) + length + 1);
    if (!http_percent_decode(raw, length, true, decoded->text))
        memcpy(decoded->text, raw, length + 1); /* no escape after all: as it stands */
    decoded->next = c->decoded;
    c->decoded = decoded;
    return decoded->text;
}

void http_wait(struct http_request *req, const char *key, uint64_t wait_ms)
{
    struct http_connection *c = req->connection;
    if (!c)
        return;
    if (!c->wait_until_ms) {
        if (wait_ms > HTTP_WAIT_MAX_MS)
            wait_ms = HTTP_WAIT_MAX_MS;
        c->wait_until_ms = waiters_now_ms() + (int64_t)wait_ms;
    }
    free(c->wait_key);
    c->wait_key = xstrdup(key);
}

void http_wake(struct http_server *server, const char *key)
{
    waiters_wake(server->waiters, key);
}

/* The server */

static void on_log(void *cls, const char *format, va_list ap) __attribute__((format(printf, 2, 0)));
static void on_log(void *cls, const char *format, va_list ap)
{
    (void)cls;
    char text[256];
    vsnprintf(text, sizeof(text), format, ap);
    text[strcspn(text, "\r\n")] = '\0';
    log_debug("http", LOG_STR("detail", text));
}

/* Escapes are undone piece by piece after the path was split, not before. */
static size_t keep_escapes(void *cls, struct MHD_Connection *mhd, char *text)
{
    (void)cls;
    (void)mhd;
    return strlen(text);
}

static struct MHD_Daemon *start_daemon(struct http_server *server, const struct http_config *config,
                                       int fd)
{
    unsigned threads = config->threads ? config->threads : DEFAULT_THREADS;
    unsigned flags = MHD_USE_ERROR_LOG | (server->tls.cert_pem ? MHD_USE_TLS : 0);
    struct MHD_OptionItem options[16];
    unsigned n = 0;
    if (config->thread_per_connection) {
        flags |= MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL |
                 MHD_USE_ITC;
    } else {
        flags |= MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME;
        if (threads > 1)
            options[n++] = (struct MHD_OptionItem){MHD_OPTION_THREAD_POOL_SIZE, threads, NULL};
    }
    if (server->tls.cert_pem) {
        options[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0, server->tls.cert_pem};
        options[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0, server->tls.key_pem};
        options[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_PRIORITIES, 0, HTTP_TLS_PRIORITIES};
        if (server->tls.client_ca_pem)
            options[n++] =
                (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_TRUST, 0, server->tls.client_ca_pem};
    }
    options[n] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
    unsigned connections =
        config->connections_max ? config->connections_max : DEFAULT_CONNECTIONS_MAX;
    unsigned idle_s = config->idle_timeout_s ? config->idle_timeout_s : DEFAULT_IDLE_TIMEOUT_S;
    size_t memory = config->thread_per_connection ? UPLOAD_MEMORY_BYTES : MEMORY_BYTES;
    return MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, server, MHD_OPTION_EXTERNAL_LOGGER, on_log, server,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_COMPLETED, on_completed, server,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, server, MHD_OPTION_UNESCAPE_CALLBACK,
        keep_escapes, server, MHD_OPTION_CONNECTION_LIMIT, connections,
        MHD_OPTION_CONNECTION_TIMEOUT, idle_s, MHD_OPTION_CONNECTION_MEMORY_LIMIT, memory,
        MHD_OPTION_THREAD_STACK_SIZE, (size_t)STACK_BYTES, MHD_OPTION_ARRAY, options,
        MHD_OPTION_END);
}

static int open_listener(const struct http_config *config, struct error *err)
{
    if (config->listen)
        return http_listen_tcp(config->listen, err);
    if (listen(config->listen_fd, SOMAXCONN) < 0)
        return error_errno(err, ERROR_FAILED, "cannot listen on the socket given");
    return config->listen_fd;
}

int http_server_start(const struct http_config *config, struct http_server **ret, struct error *err)
{
    struct http_tls tls;
    if (http_tls_load(&tls, config->tls_cert_file, config->tls_key_file, config->tls_client_ca_file,
                      err) < 0)
        return -1;
    int fd = open_listener(config, err);
    if (fd < 0) {
        http_tls_done(&tls);
        return -1;
    }
    struct http_server *server = xcalloc(1, sizeof(*server));
    server->waiters = waiters_new();
    server->routes = config->routes;
    server->ctx = config->ctx;
    server->authenticate = config->authenticate;
    server->observe = config->observe;
    server->thread_per_connection = config->thread_per_connection;
    server->tls = tls;
    server->address = http_listen_name(fd);
    /* Signals are the business of the program's own threads. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    server->daemon = start_daemon(server, config, fd);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!server->daemon) {
        if (config->listen)
            close(fd);
        error_set(err, ERROR_FAILED, "cannot start the HTTP server on %s", server->address);
        http_server_free(server);
        return -1;
    }
    *ret = server;
    return 0;
}

const char *http_server_address(const struct http_server *server)
{
    return server->address;
}

void http_server_free(struct http_server *server)
{
    if (!server)
        return;
    if (server->daemon) {
        MHD_socket fd = MHD_quiesce_daemon(server->daemon);
        waiters_stop(server->waiters);
        int64_t until_ms = waiters_now_ms() + STOP_MS;
        while (atomic_load(&server->requests) > 0 && waiters_now_ms() < until_ms)
            poll(NULL, 0, 5);
        MHD_stop_daemon(server->daemon);
        if (fd != MHD_INVALID_SOCKET)
            close(fd);
    }
    waiters_free(server->waiters);
    http_tls_done(&server->tls);
    free(server->address);
    free(server);
}
