/* SPDX-License-Identifier: Apache-2.0 */
/* http_listen.h - listening sockets and who is at the other end of one; http.c's own. */
#pragma once

#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "error.h"

/* "127.0.0.1:7070", "[::1]:0", "localhost:80". A listening, close-on-exec, non-blocking socket
 * that the caller owns, or -1: ERROR_INVALID (address), ERROR_FAILED (port taken). */
int http_listen_tcp(const char *address, struct error *err);
/* What a listening socket is bound to: "127.0.0.1:40123", "[::1]:7070", or a Unix path. The
 * caller owns the result. */
char *http_listen_name(int fd);
/* The numeric address of a peer without its port; "" for a Unix socket. */
void http_peer_name(const struct sockaddr *peer, char *name, size_t size);
/* SO_PEERCRED; 0, or -1 when the socket is no Unix socket. */
int http_peer_credentials(int fd, unsigned *ret_uid, int *ret_pid);
