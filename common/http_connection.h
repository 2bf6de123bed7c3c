/* SPDX-License-Identifier: Apache-2.0 */
/* http_connection.h - a connection and the request on it, shared by the files that know
 * libmicrohttpd: http.c starts and stops servers, http_request.c lives requests, http_refuse.c
 * turns them away, http_answer.c sends replies and streams. */
#pragma once

#include <microhttpd.h>
#include <stdatomic.h>

#include "http.h"
#include "http_tls.h"
#include "http_wait.h"

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
    bool tls_client_optional;
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

/* Microseconds of a clock that never steps back. */
int64_t http_now_us(void);
/* A request header; NULL when absent. Borrowed. */
const char *http_connection_header(const struct http_connection *c, const char *name);
/* Waits in whichever way the server can. WAITERS_LISTED: the connection is suspended; where it
 * has a thread of its own it never is, and AGAIN also says that the wait is over. */
enum waiters_result http_wait_for(struct http_server *server, struct waiter *waiter,
                                  const char *key, uint64_t snapshot, int64_t until_ms);

/* Queues the reply, and takes what it owns. */
enum MHD_Result http_answer(struct http_connection *c, struct http_reply *reply);
enum MHD_Result http_answer_error(struct http_connection *c, const struct error *err);
/* Makes the reply that of an error, whatever it was. */
void http_reply_error(struct http_connection *c, struct http_reply *reply, const struct error *err);
void http_reply_done(struct http_reply *reply);
/* Tells the server's observer that the request was answered. */
void http_answered(struct http_connection *c, unsigned status);

/* c->refusal says why. Picks the way that reaches the client; before the body. */
enum MHD_Result http_refuse(struct http_connection *c);
/* Answers c->refusal while the body still comes; the connection ends with this request. */
enum MHD_Result http_refuse_now(struct http_connection *c);
/* Throws away a piece of the body after http_refuse_now. */
enum MHD_Result http_drain(struct http_connection *c, size_t length);

/* libmicrohttpd's callbacks. */
enum MHD_Result http_on_request(void *cls, struct MHD_Connection *mhd, const char *url,
                                const char *method, const char *version, const char *data,
                                size_t *data_size, void **request);
void http_on_completed(void *cls, struct MHD_Connection *mhd, void **request,
                       enum MHD_RequestTerminationCode why);
void http_on_connection(void *cls, struct MHD_Connection *mhd, void **context,
                        enum MHD_ConnectionNotificationCode what);
