/* SPDX-License-Identifier: Apache-2.0 */
/* http_tls.c - what the HTTP server needs of GnuTLS beyond libmicrohttpd's own use of it. */
#include "http_tls.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"

#define PEM_MAX_BYTES (1024UL * 1024)

static int read_pem(const char *what, const char *path, char **ret, struct error *err)
{
    autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, ERROR_INVALID, "cannot read the %s '%s'", what, path);
    autofree char *text = xmalloc(PEM_MAX_BYTES + 1);
    size_t used = 0;
    ssize_t n;
    while (used < PEM_MAX_BYTES && (n = read(fd, text + used, PEM_MAX_BYTES - used)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_errno(err, ERROR_INVALID, "cannot read the %s '%s'", what, path);
        used += (size_t)n;
    }
    if (used == PEM_MAX_BYTES)
        return error_set(err, ERROR_INVALID, "the %s '%s' is larger than %lu bytes", what, path,
                         PEM_MAX_BYTES);
    text[used] = '\0';
    *ret = xrealloc(steal_ptr(&text), used + 1);
    return 0;
}

static gnutls_datum_t datum(char *pem)
{
    return (gnutls_datum_t){.data = (unsigned char *)pem, .size = (unsigned)strlen(pem)};
}

static int check(struct http_tls *tls, const char *cert_file, const char *key_file,
                 const char *client_ca_file, struct error *err)
{
    gnutls_certificate_credentials_t credentials;
    if (gnutls_certificate_allocate_credentials(&credentials) < 0)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    gnutls_datum_t cert = datum(tls->cert_pem), key = datum(tls->key_pem);
    int rc = gnutls_certificate_set_x509_key_mem(credentials, &cert, &key, GNUTLS_X509_FMT_PEM);
    int result = 0;
    if (rc < 0)
        result = error_set(err, ERROR_INVALID, "certificate '%s' with key '%s' cannot be used: %s",
                           cert_file, key_file, gnutls_strerror(rc));
    if (result == 0 && tls->client_ca_pem) {
        gnutls_datum_t ca = datum(tls->client_ca_pem);
        rc = gnutls_certificate_set_x509_trust_mem(credentials, &ca, GNUTLS_X509_FMT_PEM);
        if (rc <= 0)
            result = error_set(err, ERROR_INVALID, "'%s' holds no usable certificate: %s",
                               client_ca_file, rc < 0 ? gnutls_strerror(rc) : "it is empty");
    }
    gnutls_certificate_free_credentials(credentials);
    return result;
}

int http_tls_load(struct http_tls *tls, const char *cert_file, const char *key_file,
                  const char *client_ca_file, struct error *err)
{
    *tls = (struct http_tls){0};
    if (!cert_file != !key_file)
        return error_set(err, ERROR_INVALID,
                         "TLS needs a certificate and its key, only one of them is configured");
    if (!cert_file && client_ca_file)
        return error_set(
            err, ERROR_INVALID,
            "client certificates are asked for, but TLS has no certificate of its own");
    if (!cert_file)
        return 0;
    if (read_pem("certificate", cert_file, &tls->cert_pem, err) < 0 ||
        read_pem("key", key_file, &tls->key_pem, err) < 0 ||
        (client_ca_file &&
         read_pem("client authority", client_ca_file, &tls->client_ca_pem, err) < 0) ||
        check(tls, cert_file, key_file, client_ca_file, err) < 0) {
        http_tls_done(tls);
        return -1;
    }
    return 0;
}

void http_tls_done(struct http_tls *tls)
{
    if (tls->key_pem)
        explicit_bzero(tls->key_pem, strlen(tls->key_pem));
    free(tls->cert_pem);
    free(tls->key_pem);
    free(tls->client_ca_pem);
    *tls = (struct http_tls){0};
}

int http_tls_verify_client(void *session, struct error *err)
{
    unsigned status = 0;
    /* A certificate that says what it is for must say that it is for clients. */
    gnutls_typed_vdata_st purpose = {.type = GNUTLS_DT_KEY_PURPOSE_OID,
                                     .data = (unsigned char *)GNUTLS_KP_TLS_WWW_CLIENT};
    int rc = gnutls_certificate_verify_peers(session, &purpose, 1, &status);
    if (rc == GNUTLS_E_NO_CERTIFICATE_FOUND)
        return error_set(err, ERROR_UNAUTHENTICATED,
                         "this server asks for a client certificate, and none was shown");
    if (rc < 0)
        return error_set(err, ERROR_UNAUTHENTICATED, "the client certificate was not accepted: %s",
                         gnutls_strerror(rc));
    if (status != 0)
        return error_set(err, ERROR_UNAUTHENTICATED, "the client certificate was not accepted: %s",
                         status & GNUTLS_CERT_EXPIRED ? "it has expired"
                         : status & GNUTLS_CERT_PURPOSE_MISMATCH
                             ? "it is not for TLS clients"
                             : "no trusted authority has signed "
                               "it");
    return 0;
}

bool http_tls_client_shown(void *session)
{
    unsigned count = 0;
    return gnutls_certificate_get_peers(session, &count) != NULL && count > 0;
}

ssize_t http_tls_send(void *session, const char *data, size_t length)
{
    ssize_t n = gnutls_record_send(session, data, length);
    if (n >= 0)
        return n;
    errno = n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED ? EAGAIN : EPIPE;
    return -1;
}
