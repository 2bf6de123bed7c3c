/* SPDX-License-Identifier: Apache-2.0 */
/* http_request.c - the life of a request.
 *
 * libmicrohttpd calls http_on_request first with the headers alone, then once per piece of the
 * body, then once more at its end; a request that was suspended comes back as another call at its
 * end.
 *
 *     HEADERS -> BODY    -> (handler, perhaps several times) -> ANSWERED
 *             -> UPLOAD  -> (finish)                         -> ANSWERED
 *             -> REFUSED -> (the error, after a short body was read and thrown away)
 *             -> DRAIN      (the error was sent at once; what still comes is thrown away)
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "http_connection.h"
#include "http_listen.h"
#include "http_route.h"

#define KEEP_BODY_BYTES (64UL * 1024) /* a body buffer up to this is kept for the next request */

int64_t http_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

const char *http_connection_header(const struct http_connection *c, const char *name)
{
    return MHD_lookup_connection_value(c->mhd, MHD_HEADER_KIND, name);
}

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
    if (!c->server->tls.client_ca_pem)
        return 0;
    if (!c->client_verified) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(c->mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION);
        if (!info)
            return error_set(&c->refusal, ERROR_UNAUTHENTICATED, "this server speaks TLS only");
        if (c->server->tls_client_optional && !http_tls_client_shown(info->tls_session))
            return 0;
        if (http_tls_verify_client(info->tls_session, &c->refusal) < 0)
            return -1;
        c->client_verified = true;
    }
    c->req.tls_client_verified = true;
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
    const char *length = http_connection_header(c, MHD_HTTP_HEADER_CONTENT_LENGTH);
    if (!length)
        return 0;
    if (http_connection_header(c, MHD_HTTP_HEADER_TRANSFER_ENCODING))
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
    c->began_us = http_now_us();
    c->req.path = path;
    if (find_route(c, method, path) < 0 || check_client(c) < 0 || authenticate(c) < 0 ||
        check_length(c) < 0)
        return http_refuse(c);
    if (!c->route->upload) {
        c->phase = PHASE_BODY;
        return MHD_YES;
    }
    if (c->route->upload->open(&c->req, &c->upload, &c->refusal) < 0)
        return http_refuse(c);
    c->upload_open = true;
    c->phase = PHASE_UPLOAD;
    return MHD_YES;
}

static enum MHD_Result body_add(struct http_connection *c, const char *data, size_t length)
{
    if (exceeds(c, (unsigned long long)c->received + length)) {
        too_large(c);
        return http_refuse_now(c);
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
    return http_refuse_now(c);
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
        return http_drain(c, length);
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
        http_wait_for(server, &c->waiter, c->wait_key, snapshot, c->wait_until_ms);
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
        http_reply_done(&reply);
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
        http_reply_error(c, &reply, &err);
    return http_answer(c, &reply);
}

static enum MHD_Result finish_upload(struct http_connection *c)
{
    struct http_reply reply = {0};
    struct error err = {.kind = ERROR_INTERNAL};
    int rc = c->route->upload->finish(c->upload, &reply, &err);
    upload_close(c);
    if (rc < 0)
        http_reply_error(c, &reply, &err);
    return http_answer(c, &reply);
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
        return http_answer_error(c, &c->refusal);
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

enum MHD_Result http_on_request(void *cls, struct MHD_Connection *mhd, const char *url,
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

void http_on_completed(void *cls, struct MHD_Connection *mhd, void **request,
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

void http_on_connection(void *cls, struct MHD_Connection *mhd, void **context,
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

const char *http_request_header(const struct http_request *req, const char *name)
{
    return req->connection ? http_connection_header(req->connection, name) : NULL;
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
