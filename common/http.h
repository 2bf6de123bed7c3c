/* SPDX-License-Identifier: Apache-2.0 */
/* http.h - an HTTP server with a table of routes; http*.c are the one door to libmicrohttpd.
 *
 * http_request.c knows microhttpd's repeated-callback protocol: it finds the route, authenticates
 * before a byte of the body is taken, collects the body up to the route's limit, runs the
 * handler, turns `struct error` into a reply, and frees everything when the request is over.
 * Three things are built on it: the broker's API (TCP), the agent's image listener (TCP, upload
 * routes) and the agent's local API (a Unix socket).
 *
 * Waiting without a thread: a handler that has nothing to say yet returns HTTP_WAIT after
 * http_wait(); the connection is suspended and the handler runs again from the start when
 * http_wake() is called with the same key, or when the time is up (req->timed_out). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "cleanup.h"
#include "error.h"
#include "json.h"

struct http_server;
struct http_request;
struct http_reply;

#define HTTP_PARAMS_MAX  4
#define HTTP_WAIT        1 /* a handler's third result, beside 0 and -1 */
#define HTTP_WAIT_MAX_MS (10UL * 60 * 1000)

/* Who asks. `roles` is a mask of the server's own role bits. */
struct http_principal {
    unsigned roles;
    char name[64]; /* for logs and records: the token's id, or "uid:0" on a Unix socket */
    char node[64]; /* the node an agent's token is bound to, "" for any */
};

struct http_request {
    void *ctx; /* the server's context */
    const char *method;
    const char *path;
    struct {
        const char *name, *value; /* from "{name}" in the route, percent-decoded */
    } params[HTTP_PARAMS_MAX];
    const char *body; /* NUL-terminated, owned by the request */
    size_t body_length;
    struct http_principal principal;
    char peer[64];                      /* the peer's IP address, "" on a Unix socket */
    unsigned peer_uid;                  /* Unix socket only; else (unsigned)-1 */
    int peer_pid;                       /* Unix socket only; else 0. Who connected; may be gone */
    bool tls_client_verified;           /* a certificate of the client's authority was shown */
    bool woken;                         /* the handler runs again after HTTP_WAIT */
    bool timed_out;                     /* ... because its time was up */
    struct http_connection *connection; /* http.c's own */
};

struct http_reply {
    unsigned status; /* 200 unless set */
    char *body;      /* owned; NULL for none */
    size_t body_length;
    const char *content_type; /* static; application/json unless set */
    char *location;           /* owned; Location header */
    unsigned retry_after_s;   /* 0: no header */
    const char *allow;        /* static; Allow header on 405 */

    /* A stream (server-sent events): `next` writes up to `max` bytes and returns how many, 0 to
     * wait for http_wake(stream_key), -1 at the end. It runs on the server's threads. */
    ssize_t (*stream_next)(void *stream, char *buffer, size_t max);
    void (*stream_free)(void *stream);
    void *stream;     /* owned */
    char *stream_key; /* owned */
};

/* An upload whose body is too large to keep: bytes are handed on as they come. `open` runs after
 * authentication and before any byte is read, and may refuse. `close` always runs once `open`
 * succeeded. Uploads need a server with `thread_per_connection`, since `data` may block. */
struct http_upload {
    int (*open)(struct http_request *req, void **ret_state, struct error *err);
    int (*data)(void *state, const void *bytes, size_t length, struct error *err);
    int (*finish)(void *state, struct http_reply *reply, struct error *err);
    void (*close)(void *state);
};

struct http_route {
    const char *method;
    const char *path;      /* "/v1/nodes/{node}" */
    unsigned roles;        /* any of these may; 0: anybody, unauthenticated */
    size_t max_body_bytes; /* 0: a body is refused; for an upload: it counts for itself */
    int (*handler)(struct http_request *req, struct http_reply *reply, struct error *err);
    const struct http_upload *upload; /* instead of handler */
    const char *summary;              /* one line, for the docs */
};

struct http_config {
    const char *listen; /* "127.0.0.1:7070", "[::1]:0"; port 0 lets the kernel choose */
    int listen_fd; /* where `listen` is NULL: a bound Unix socket; the server owns it once started
                    */
    const char *tls_cert_file, *tls_key_file; /* both or neither */
    const char *tls_client_ca_file;           /* ask for client certificates; NULL for not */
    bool tls_client_optional; /* who shows none is let in all the same, see tls_client_verified */
    const struct http_route *routes; /* ends with a NULL method */
    void *ctx;
    /* Fills *principal from the request's headers (http_request_header) or returns -1 with
     * ERROR_UNAUTHENTICATED. Called for routes with roles != 0; http.c then compares roles and
     * answers ERROR_FORBIDDEN itself. */
    int (*authenticate)(struct http_request *req, struct http_principal *principal,
                        struct error *err);
    /* Called once per answered request, for metrics; may be NULL. */
    void (*observe)(void *ctx, const struct http_route *route, unsigned status,
                    int64_t duration_us);
    /* Needed for uploads, whose `data` may block; HTTP_WAIT and streams then block their thread.
     * Else an epoll pool of `threads`, which handlers should not hold for long. */
    bool thread_per_connection;
    unsigned threads;         /* 0: 2 */
    unsigned connections_max; /* 0: 1024 */
    unsigned idle_timeout_s;  /* 0: 75 */
};

/* The server runs until http_server_free. Errors: ERROR_INVALID (address, certificate),
 * ERROR_FAILED (port taken). */
int http_server_start(const struct http_config *config, struct http_server **ret,
                      struct error *err);
/* "127.0.0.1:40123": the address it really listens on. Borrowed. */
const char *http_server_address(const struct http_server *server);
/* Stops listening, lets handlers that run finish, ends waits and streams. */
void http_server_free(struct http_server *server); /* NULL is fine */
DEFINE_AUTO(http_server)

/* The value of a request header or query argument; NULL when absent. Borrowed. */
const char *http_request_header(const struct http_request *req, const char *name);
const char *http_request_query(const struct http_request *req, const char *name);
/* A path parameter; never NULL for one that the route names. */
const char *http_request_param(const struct http_request *req, const char *name);
/* A query argument as a number in a range; `fallback` when absent. */
int http_request_query_u64(const struct http_request *req, const char *name, uint64_t least,
                           uint64_t most, uint64_t fallback, uint64_t *ret, struct error *err);
/* The body as a JSON object (not array); the caller owns *ret. */
int http_request_json(const struct http_request *req, json_object **ret, struct error *err);
/* For a handler about to return HTTP_WAIT: wake on `key`, or after `wait_ms` in all (the time
 * runs from the request's first wait). */
void http_wait(struct http_request *req, const char *key, uint64_t wait_ms);
/* Runs again every handler and stream that waits on `key`. Any thread; takes no broker lock. */
void http_wake(struct http_server *server, const char *key);

/* Take ownership of `object` or `text`. */
void http_reply_json(struct http_reply *reply, unsigned status, json_object *object);
void http_reply_text(struct http_reply *reply, unsigned status, const char *content_type,
                     char *text);
/* The form of every error on the wire:
 * {"error":{"code":"not_found","message":"no node 'x'"}}. The caller owns the result. */
json_object *http_error_json(const struct error *err);
