/* SPDX-License-Identifier: Apache-2.0 */
/* http_refuse.c - turning requests away so that the client hears why.
 *
 * libmicrohttpd cannot answer while a body arrives, and closing a socket with unread data resets
 * it, so that a client that is still sending would read "broken pipe" where it should read why it
 * was refused. A short body is therefore read before the answer, and the connection kept; on a
 * long one the answer is written past libmicrohttpd, and what still comes is thrown away. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "http_connection.h"

#define DISCARD_BYTES (64UL * 1024) /* a refused body up to this is read, the connection kept */
#define DRAIN_BYTES   (256UL * 1024 * 1024)
#define DRAIN_MS      10000
#define SEND_NOW_MS   2000

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

/* Writes past libmicrohttpd, which still reads the body and would not take an answer. A thread
 * that serves other connections as well does not wait for a client that reads nothing. */
static int send_now(struct http_connection *c, const char *data, size_t length)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c->mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (!info)
        return -1;
    int64_t until_ms = waiters_now_ms() + (c->server->thread_per_connection ? SEND_NOW_MS : 0);
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

enum MHD_Result http_refuse_now(struct http_connection *c)
{
    struct http_reply reply = {0};
    http_reply_error(c, &reply, &c->refusal);
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
    http_reply_done(&reply);
    c->phase = PHASE_DRAIN;
    c->received = 0;
    c->drain_until_ms = waiters_now_ms() + DRAIN_MS;
    http_answered(c, status);
    return send_now(c, text, strlen(text)) < 0 ? MHD_NO : MHD_YES;
}

enum MHD_Result http_refuse(struct http_connection *c)
{
    const char *length = http_connection_header(c, MHD_HTTP_HEADER_CONTENT_LENGTH);
    bool chunked = http_connection_header(c, MHD_HTTP_HEADER_TRANSFER_ENCODING) != NULL;
    const char *expect = http_connection_header(c, MHD_HTTP_HEADER_EXPECT);
    c->phase = PHASE_REFUSED;
    if (!chunked && (!length || strtoull(length, NULL, 10) <= DISCARD_BYTES))
        return MHD_YES; /* answered at the end of the body, the connection lives on */
    if (expect && strcasecmp(expect, "100-continue") == 0)
        return http_answer_error(c, &c->refusal); /* the client has not sent a byte of it */
    return http_refuse_now(c);
}

enum MHD_Result http_drain(struct http_connection *c, size_t length)
{
    c->received += length;
    return c->received > DRAIN_BYTES || waiters_now_ms() > c->drain_until_ms ? MHD_NO : MHD_YES;
}
