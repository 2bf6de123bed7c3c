/* SPDX-License-Identifier: Apache-2.0 */
/* http.c - servers: how libmicrohttpd is set up, started and stopped. */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "http_connection.h"
#include "http_listen.h"
#include "log.h"

#define DEFAULT_THREADS         2
#define DEFAULT_CONNECTIONS_MAX 1024
#define DEFAULT_IDLE_TIMEOUT_S  75
#define MEMORY_BYTES            (32UL * 1024)   /* per connection: bounds the headers */
#define UPLOAD_MEMORY_BYTES     (1024UL * 1024) /* per connection: the size of upload pieces */
#define STACK_BYTES             (1024UL * 1024)
#define STOP_MS                 2000 /* how long a stop waits for requests that run */

static void on_log(void *cls, const char *format, va_list ap) __attribute__((format(printf, 2, 0)));
static void on_log(void *cls, const char *format, va_list ap)
{
    (void)cls;
    char text[256];
    vsnprintf(text, sizeof(text), format, ap);
    text[strcspn(text, "\r\n")] = '\0';
    log_debug("http", LOG_STR("detail", text));
}

/* Escapes are undone piece by piece after the path was split, not before. */
static size_t keep_escapes(void *cls, struct MHD_Connection *mhd, char *text)
{
    (void)cls;
    (void)mhd;
    return strlen(text);
}

static struct MHD_Daemon *start_daemon(struct http_server *server, const struct http_config *config,
                                       int fd)
{
    unsigned threads = config->threads ? config->threads : DEFAULT_THREADS;
    unsigned flags = MHD_USE_ERROR_LOG | (server->tls.cert_pem ? MHD_USE_TLS : 0);
    struct MHD_OptionItem options[16];
    unsigned n = 0;
    if (config->thread_per_connection) {
        flags |= MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL |
                 MHD_USE_ITC;
    } else {
        flags |= MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME;
        if (threads > 1)
            options[n++] = (struct MHD_OptionItem){MHD_OPTION_THREAD_POOL_SIZE, threads, NULL};
    }
    if (server->tls.cert_pem) {
        options[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0, server->tls.cert_pem};
        options[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0, server->tls.key_pem};
        options[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_PRIORITIES, 0, HTTP_TLS_PRIORITIES};
        if (server->tls.client_ca_pem)
            options[n++] =
                (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_TRUST, 0, server->tls.client_ca_pem};
    }
    options[n] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
    unsigned connections =
        config->connections_max ? config->connections_max : DEFAULT_CONNECTIONS_MAX;
    unsigned idle_s = config->idle_timeout_s ? config->idle_timeout_s : DEFAULT_IDLE_TIMEOUT_S;
    size_t memory = config->thread_per_connection ? UPLOAD_MEMORY_BYTES : MEMORY_BYTES;
    return MHD_start_daemon(
        flags, 0, NULL, NULL, http_on_request, server, MHD_OPTION_EXTERNAL_LOGGER, on_log, server,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_COMPLETED, http_on_completed, server,
        MHD_OPTION_NOTIFY_CONNECTION, http_on_connection, server, MHD_OPTION_UNESCAPE_CALLBACK,
        keep_escapes, server, MHD_OPTION_CONNECTION_LIMIT, connections,
        MHD_OPTION_CONNECTION_TIMEOUT, idle_s, MHD_OPTION_CONNECTION_MEMORY_LIMIT, memory,
        MHD_OPTION_THREAD_STACK_SIZE, (size_t)STACK_BYTES, MHD_OPTION_ARRAY, options,
        MHD_OPTION_END);
}

static int open_listener(const struct http_config *config, struct error *err)
{
    if (config->listen)
        return http_listen_tcp(config->listen, err);
    if (listen(config->listen_fd, SOMAXCONN) < 0)
        return error_errno(err, ERROR_FAILED, "cannot listen on the socket given");
    return config->listen_fd;
}

int http_server_start(const struct http_config *config, struct http_server **ret, struct error *err)
{
    struct http_tls tls;
    if (http_tls_load(&tls, config->tls_cert_file, config->tls_key_file, config->tls_client_ca_file,
                      err) < 0)
        return -1;
    int fd = open_listener(config, err);
    if (fd < 0) {
        http_tls_done(&tls);
        return -1;
    }
    struct http_server *server = xcalloc(1, sizeof(*server));
    server->waiters = waiters_new();
    server->routes = config->routes;
    server->ctx = config->ctx;
    server->authenticate = config->authenticate;
    server->observe = config->observe;
    server->thread_per_connection = config->thread_per_connection;
    server->tls_client_optional = config->tls_client_optional;
    server->tls = tls;
    server->address = http_listen_name(fd);
    /* Signals are the business of the program's own threads. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    server->daemon = start_daemon(server, config, fd);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!server->daemon) {
        if (config->listen)
            close(fd);
        error_set(err, ERROR_FAILED, "cannot start the HTTP server on %s", server->address);
        http_server_free(server);
        return -1;
    }
    *ret = server;
    return 0;
}

void http_wake(struct http_server *server, const char *key)
{
    waiters_wake(server->waiters, key);
}

const char *http_server_address(const struct http_server *server)
{
    return server->address;
}

void http_server_free(struct http_server *server)
{
    if (!server)
        return;
    if (server->daemon) {
        MHD_socket fd = MHD_quiesce_daemon(server->daemon);
        waiters_stop(server->waiters);
        int64_t until_ms = waiters_now_ms() + STOP_MS;
        while (atomic_load(&server->requests) > 0 && waiters_now_ms() < until_ms)
            poll(NULL, 0, 5);
        MHD_stop_daemon(server->daemon);
        if (fd != MHD_INVALID_SOCKET)
            close(fd);
    }
    waiters_free(server->waiters);
    http_tls_done(&server->tls);
    free(server->address);
    free(server);
}
