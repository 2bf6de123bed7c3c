/* SPDX-License-Identifier: Apache-2.0 */
/* http_answer.c - replies and streams on their way out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http_connection.h"

#define KEEP_ALIVE_MS 15000 /* a silent event stream says that it is there */

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

static void suspend_connection(struct waiter *waiter)
{
    MHD_suspend_connection(waiter->owner);
}

static void resume_connection(struct waiter *waiter)
{
    MHD_resume_connection(waiter->owner);
}

enum waiters_result http_wait_for(struct http_server *server, struct waiter *waiter,
                                  const char *key, uint64_t snapshot, int64_t until_ms)
{
    waiter->resume = server->thread_per_connection ? NULL : resume_connection;
    enum waiters_result result =
        waiters_add(server->waiters, waiter, key, snapshot, until_ms,
                    server->thread_per_connection ? NULL : suspend_connection);
    if (result != WAITERS_LISTED || !server->thread_per_connection)
        return result;
    waiters_block(server->waiters, waiter);
    return WAITERS_AGAIN; /* after a stop, the next wait says so */
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
        switch (http_wait_for(s->server, &s->waiter, s->key, snapshot,
                              waiters_now_ms() + KEEP_ALIVE_MS)) {
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

void http_reply_done(struct http_reply *reply)
{
    free(reply->body);
    free(reply->location);
    if (reply->stream && reply->stream_free)
        reply->stream_free(reply->stream);
    free(reply->stream_key);
    *reply = (struct http_reply){0};
}

void http_reply_error(struct http_connection *c, struct http_reply *reply, const struct error *err)
{
    http_reply_done(reply);
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

void http_answered(struct http_connection *c, unsigned status)
{
    if (c->phase != PHASE_DRAIN)
        c->phase = PHASE_ANSWERED;
    if (c->server->observe)
        c->server->observe(c->server->ctx, c->route, status, http_now_us() - c->began_us);
}

enum MHD_Result http_answer(struct http_connection *c, struct http_reply *reply)
{
    if (!reply->status)
        reply->status = MHD_HTTP_OK;
    bool has_body = reply->stream_next || reply->body_length > 0;
    unsigned status = reply->status;
    struct MHD_Response *response = make_response(c, reply);
    if (!response) {
        http_reply_done(reply);
        return MHD_NO;
    }
    add_headers(response, reply, has_body);
    enum MHD_Result queued = MHD_queue_response(c->mhd, status, response);
    MHD_destroy_response(response);
    http_reply_done(reply);
    http_answered(c, status);
    return queued;
}

enum MHD_Result http_answer_error(struct http_connection *c, const struct error *err)
{
    struct http_reply reply = {0};
    http_reply_error(c, &reply, err);
    return http_answer(c, &reply);
}
