/* SPDX-License-Identifier: Apache-2.0 */
/* image_server.c - PUT /v1/images/{migration}, the one route of the image listener. */
#include "image_server.h"

#include <string.h>

#include "http.h"
#include "json.h"
#include "log.h"

#define CONNECTIONS_MAX 64 /* each is a thread while it lasts */

struct image_server {
    struct http_server *http; /* owned */
};

static int upload_open(struct http_request *req, void **ret_state, struct error *err)
{
    struct migrations *migrations = req->ctx;
    const char *id = http_request_param(req, "migration");
    const char *authorization = http_request_header(req, "Authorization");
    const char *node = http_request_header(req, "X-Cpubroker-Node");
    const char *ticket =
        authorization && strncmp(authorization, "Bearer ", 7) == 0 ? authorization + 7 : "";
    struct migration_upload *upload = NULL;
    struct error why = {0};
    if (migration_upload_open(migrations, id, ticket, node ? node : "", req->peer, &upload, &why) <
        0) {
        log_warn("an image was refused", LOG_STR("migration", id), LOG_STR("address", req->peer),
                 LOG_STR("error", why.message));
        return error_set(err, why.kind, "%s", why.message);
    }
    *ret_state = upload;
    return 0;
}

static int upload_data(void *state, const void *bytes, size_t length, struct error *err)
{
    return migration_upload_data(state, bytes, length, err);
}

static int upload_finish(void *state, struct http_reply *reply, struct error *err)
{
    uint64_t bytes = 0;
    size_t files = 0;
    if (migration_upload_finish(state, &bytes, &files, err) < 0)
        return -1;
    json_object *o = json_object_new_object();
    json_put_int(o, "bytes", (int64_t)bytes);
    json_put_int(o, "files", (int64_t)files);
    http_reply_json(reply, 201, o);
    return 0;
}

static void upload_close(void *state)
{
    migration_upload_close(state);
}

static const struct http_upload image_upload = {
    .open = upload_open, .data = upload_data, .finish = upload_finish, .close = upload_close};

/* No role guards the route: the ticket, the peer's name and its address do, in `open`. */
static const struct http_route routes[] = {
    {.method = "PUT",
     .path = "/v1/images/{migration}",
     .upload = &image_upload,
     .summary = "takes the image of a migration"},
    {0},
};

int image_server_start(const struct image_server_config *config, struct image_server **ret,
                       struct error *err)
{
    AUTO(image_server) server = xcalloc(1, sizeof(*server));
    const struct http_config http = {
        .listen = config->listen,
        .listen_fd = -1,
        .tls_cert_file = config->tls_cert,
        .tls_key_file = config->tls_key,
        .tls_client_ca_file = config->tls_cert ? config->tls_ca : NULL,
        .routes = routes,
        .ctx = config->migrations,
        .thread_per_connection = true,
        .connections_max = CONNECTIONS_MAX,
        .idle_timeout_s = (unsigned)((config->stall_timeout_ms + 999) / 1000),
    };
    if (http_server_start(&http, &server->http, err) < 0)
        return error_wrap(err, "the image listener (listen = %s)", config->listen);
    *ret = steal_ptr(&server);
    return 0;
}

const char *image_server_address(const struct image_server *server)
{
    return http_server_address(server->http);
}

void image_server_free(struct image_server *server)
{
    if (!server)
        return;
    http_server_free(server->http);
    free(server);
}
