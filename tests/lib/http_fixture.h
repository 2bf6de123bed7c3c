/* SPDX-License-Identifier: Apache-2.0 */
/* http_fixture.h - a server on a port of its own and ways to talk to it, for tests. */
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "client.h"
#include "http.h"

#define FIXTURE_TOKEN "0123456789abcdef"
enum { FIXTURE_READER = 1, FIXTURE_WRITER = 2 };

static inline int64_t fixture_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static inline void fixture_sleep_ms(unsigned ms)
{
    poll(NULL, 0, (int)ms);
}

/* Everybody with the token is a reader. */
static inline int fixture_authenticate(struct http_request *req, struct http_principal *principal,
                                       struct error *err)
{
    const char *header = http_request_header(req, "Authorization");
    if (!header || strcmp(header, "Bearer " FIXTURE_TOKEN) != 0)
        return error_set(err, ERROR_UNAUTHENTICATED, "no token, or one that is not known");
    principal->roles = FIXTURE_READER;
    snprintf(principal->name, sizeof(principal->name), "t-1");
    return 0;
}

static inline struct client *fixture_client_to(const char *base_url, const char *unix_socket)
{
    struct client_config config = {
        .base_url = base_url, .unix_socket = unix_socket, .token = FIXTURE_TOKEN};
    struct client *client = NULL;
    struct error err = {0};
    if (client_new(&config, &client, &err) < 0) {
        fprintf(stderr, "client: %s\n", err.message);
        abort();
    }
    return client;
}

static inline struct client *fixture_client(const struct http_server *server)
{
    autofree char *url = xasprintf("http://%s", http_server_address(server));
    return fixture_client_to(url, NULL);
}

/* A connection without a client's manners. */
static inline int fixture_connect(const struct http_server *server)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)atoi(strrchr(http_server_address(server), ':') + 1)),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
        abort();
    return fd;
}

static inline void fixture_send(int fd, const char *text)
{
    size_t left = strlen(text);
    while (left > 0) {
        ssize_t n = send(fd, text, left, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        text += n;
        left -= (size_t)n;
    }
}

/* Reads until `until` was seen (NULL: the end), at most 5 s without a byte. */
static inline char *fixture_read(int fd, const char *until)
{
    char *text = xcalloc(1, 65536);
    size_t used = 0;
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    while (used < 65535 && poll(&ready, 1, 5000) > 0) {
        ssize_t n = recv(fd, text + used, 65535 - used, 0);
        if (n <= 0)
            break;
        used += (size_t)n;
        if (until && strstr(text, until))
            break;
    }
    return text;
}

static inline char *fixture_exchange(const struct http_server *server, const char *text,
                                     const char *until)
{
    autoclose int fd = fixture_connect(server);
    fixture_send(fd, text);
    return fixture_read(fd, until);
}
