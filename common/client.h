/* SPDX-License-Identifier: Apache-2.0 */
/* client.h - an HTTP client for JSON APIs and image uploads; the one door to libcurl.
 *
 * A client keeps its connection open between calls. One thread at a time. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "cleanup.h"
#include "error.h"
#include "json.h"

struct client; /* opaque */

struct client_config {
    const char *base_url;             /* "http://127.0.0.1:7070" */
    const char *unix_socket;          /* path; then base_url is only a name */
    const char *token;                /* bearer token; NULL for none. Copied, never logged */
    const char *node;                 /* sent as X-Cpubroker-Node; NULL for none */
    const char *ca_file;              /* for https; NULL: the system's */
    const char *cert_file, *key_file; /* a client certificate; NULL for none */
    uint64_t connect_timeout_ms;      /* 0: 5000 */
    uint64_t timeout_ms;              /* of a whole call; 0: 30000 */
};

#define CLIENT_REPLY_MAX_BYTES (64UL * 1024 * 1024)

int client_new(const struct client_config *config, struct client **ret, struct error *err);
void client_free(struct client *client); /* NULL is fine */
DEFINE_AUTO(client)

/* One call. `body` may be NULL. On any HTTP reply returns 0 with *ret_status, and *ret_body (may
 * be NULL when the reply has none; the caller owns it). -1 only when no usable reply came:
 * ERROR_UNREACHABLE (refused, no route, name unknown, TLS refused), ERROR_TIMEOUT,
 * ERROR_UPSTREAM (no JSON, too large). */
int client_call(struct client *client, const char *method, const char *path, json_object *body,
                unsigned *ret_status, json_object **ret_body, struct error *err);
/* As client_call, but a status of 400 and more is an error as well: the kind and message come
 * from {"error":{"code","message"}}; *ret_body is still given when it is there (a verdict). */
int client_request(struct client *client, const char *method, const char *path, json_object *body,
                   json_object **ret_body, struct error *err);
/* A call with a time limit of its own, for long polls. */
int client_request_timed(struct client *client, const char *method, const char *path,
                         json_object *body, uint64_t timeout_ms, json_object **ret_body,
                         struct error *err);

/* A reply of any type as text (metrics); the caller owns *ret_text. */
int client_text(struct client *client, const char *path, char **ret_text, struct error *err);

/* A POST of the bytes of `body` as they are, with these headers ("Name: value", ends with NULL).
 * Any reply is a success here, with its status; what else it holds is not kept, and a redirection
 * is not followed. Errors as of client_call. */
int client_post(struct client *client, const char *path, const char *const *headers,
                const char *body, unsigned *ret_status, struct error *err);

/* Server-sent events: `event` is called for each with its id, name and data until it returns
 * non-zero (the stream is then closed and 0 returned), or the stream ends (0). `idle_timeout_ms`
 * without a byte is ERROR_TIMEOUT. */
int client_events(struct client *client, const char *path, uint64_t idle_timeout_ms,
                  int (*event)(void *ctx, const char *id, const char *name, const char *data),
                  void *ctx, struct error *err);

/* An upload whose length is not known beforehand. Nothing else may be called meanwhile with its
 * client, which is borrowed. */
struct client_upload; /* opaque */

#define CLIENT_UPLOAD_STALL_BYTES (512UL * 1024)

int client_upload_begin(struct client *client, const char *path, uint64_t stall_timeout_ms,
                        struct client_upload **ret, struct error *err);
/* Returns when all of it is on its way, the first time also not before the server has accepted
 * the upload. Errors: those of client_request when the server refuses; ERROR_TIMEOUT when it takes
 * less than CLIENT_UPLOAD_STALL_BYTES in `stall_timeout_ms`. Between two calls there may be any
 * time. */
int client_upload_write(struct client_upload *upload, const void *data, size_t length,
                        struct error *err);
/* Ends the upload; the reply is treated as by client_request. */
int client_upload_finish(struct client_upload *upload, json_object **ret_body, struct error *err);
void client_upload_free(struct client_upload *upload); /* breaks it off; NULL is fine */
DEFINE_AUTO(client_upload)
/* Makes a call that runs in another thread end soon with ERROR_TIMEOUT; sticks. */
void client_interrupt(struct client *client);

/* Percent-encodes one path segment or query value; the caller owns the result. */
char *client_escape(const char *text);
