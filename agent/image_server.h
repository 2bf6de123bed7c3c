/* SPDX-License-Identifier: Apache-2.0 */
/* image_server.h - the agent's only TCP listener: it takes images from peers and nothing else. */
#pragma once

#include "cleanup.h"
#include "error.h"
#include "migration.h"

struct image_server_config {
    const char *listen;             /* "127.0.0.1:7072"; port 0: the kernel chooses */
    const char *tls_cert, *tls_key; /* both or neither */
    const char *tls_ca;             /* peers must show a certificate of it; NULL: need not */
    uint64_t stall_timeout_ms;      /* without a byte */
    struct migrations *migrations;  /* borrowed; outlives the server */
};

struct image_server;
int image_server_start(const struct image_server_config *config, struct image_server **ret,
                       struct error *err);
const char *image_server_address(const struct image_server *server); /* really listened on */
void image_server_free(struct image_server *server);                 /* NULL is fine */
DEFINE_AUTO(image_server)
