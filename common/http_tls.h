/* SPDX-License-Identifier: Apache-2.0 */
/* http_tls.h - certificates of the server and of its clients, checked with GnuTLS; http.c's own. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "error.h"

struct http_tls {
    char *cert_pem, *key_pem, *client_ca_pem; /* owned; NULL when not configured */
};

#define HTTP_TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

/* Reads and checks the files (each may be NULL), so that a bad one is named. ERROR_INVALID. */
int http_tls_load(struct http_tls *tls, const char *cert_file, const char *key_file,
                  const char *client_ca_file, struct error *err);
void http_tls_done(struct http_tls *tls);
/* Whether the client of this gnutls_session_t showed a certificate of a trusted authority.
 * ERROR_UNAUTHENTICATED. */
int http_tls_verify_client(void *session, struct error *err);
/* Whether it showed a certificate at all. */
bool http_tls_client_shown(void *session);
/* Sends on a non-blocking session; as write(2), -1 with errno EAGAIN. */
ssize_t http_tls_send(void *session, const char *data, size_t length);
