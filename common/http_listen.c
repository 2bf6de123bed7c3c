/* SPDX-License-Identifier: Apache-2.0 */
/* http_listen.c - addresses as people write them, sockets as the kernel wants them. */
#include "http_listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "cleanup.h"

#define BACKLOG 511

static int split_address(const char *address, char host[256], char port[8], struct error *err)
{
    const char *begin = address, *end = NULL, *colon = strrchr(address, ':');
    if (*address == '[') {
        begin++;
        end = strchr(begin, ']');
        if (!end || end + 1 != colon)
            colon = NULL;
    } else if (colon && strchr(address, ':') == colon) {
        end = colon;
    }
    size_t digits = colon ? strspn(colon + 1, "0123456789") : 0;
    if (!colon || !end || digits < 1 || digits > 5 || colon[1 + digits] != '\0' ||
        strtoul(colon + 1, NULL, 10) > 65535 || end == begin || end - begin > 255)
        return error_set(err, ERROR_INVALID,
                         "listen address '%.80s': expected HOST:PORT, like 127.0.0.1:7070 or "
                         "[::1]:7070",
                         address);
    memcpy(host, begin, (size_t)(end - begin));
    host[end - begin] = '\0';
    memcpy(port, colon + 1, digits + 1);
    return 0;
}

int http_listen_tcp(const char *address, struct error *err)
{
    char host[256], port[8];
    if (split_address(address, host, port, err) < 0)
        return -1;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV},
                    *found = NULL;
    int rc = getaddrinfo(host, port, &hints, &found);
    if (rc != 0)
        return error_set(err, ERROR_INVALID, "listen address '%s': %s", address, gai_strerror(rc));
    autoclose int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1, result = 0;
    if (fd < 0)
        result = error_errno(err, ERROR_FAILED, "cannot make a socket for '%s'", address);
    else if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
             bind(fd, found->ai_addr, found->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
        result = error_errno(err, ERROR_FAILED, "cannot listen on %s", address);
    freeaddrinfo(found);
    return result < 0 ? -1 : steal_fd(&fd);
}

char *http_listen_name(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un local;
    } bound = {0};
    socklen_t length = sizeof(bound) - 1;
    if (getsockname(fd, &bound.any, &length) < 0)
        return xstrdup("");
    char text[INET6_ADDRSTRLEN];
    switch (bound.any.sa_family) {
    case AF_INET:
        inet_ntop(AF_INET, &bound.v4.sin_addr, text, sizeof(text));
        return xasprintf("%s:%u", text, ntohs(bound.v4.sin_port));
    case AF_INET6:
        inet_ntop(AF_INET6, &bound.v6.sin6_addr, text, sizeof(text));
        return xasprintf("[%s]:%u", text, ntohs(bound.v6.sin6_port));
    case AF_UNIX:
        return xstrdup(bound.local.sun_path);
    default:
        return xstrdup("");
    }
}

void http_peer_name(const struct sockaddr *peer, char *name, size_t size)
{
    name[0] = '\0';
    if (!peer)
        return;
    if (peer->sa_family == AF_INET) {
        inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)peer)->sin_addr, name,
                  (socklen_t)size);
    } else if (peer->sa_family == AF_INET6) {
        const struct in6_addr *v6 = &((const struct sockaddr_in6 *)(const void *)peer)->sin6_addr;
        if (IN6_IS_ADDR_V4MAPPED(v6)) /* a dual-stack listener: the address people know */
            inet_ntop(AF_INET, &v6->s6_addr[12], name, (socklen_t)size);
        else
            inet_ntop(AF_INET6, v6, name, (socklen_t)size);
    }
}

int http_peer_credentials(int fd, unsigned *ret_uid, int *ret_pid)
{
    struct ucred who;
    socklen_t length = sizeof(who);
    int domain = 0;
    socklen_t domain_length = sizeof(domain);
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &domain_length) < 0 || domain != AF_UNIX ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) < 0)
        return -1;
    *ret_uid = who.uid;
    *ret_pid = who.pid;
    return 0;
}
