/* SPDX-License-Identifier: Apache-2.0 */
/* bare_mhd.c - the least that libmicrohttpd can do with a POST: read the body, answer a constant.
 *
 *   bare_mhd THREADS REPLY_FILE     prints its port, serves until it is killed */
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REPLY_MAX 65536

struct reply {
    char text[REPLY_MAX];
    size_t length;
};

static enum MHD_Result answer(void *ctx, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *data,
                              size_t *data_size, void **request)
{
    (void)url, (void)method, (void)version, (void)data;
    static int seen; /* its address only: the first call of a request brings no body */
    if (!*request) {
        *request = &seen;
        return MHD_YES;
    }
    if (*data_size) {
        *data_size = 0;
        return MHD_YES;
    }
    struct reply *reply = ctx;
    struct MHD_Response *response =
        MHD_create_response_from_buffer(reply->length, reply->text, MHD_RESPMEM_PERSISTENT);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
    enum MHD_Result result = MHD_queue_response(connection, MHD_HTTP_OK, response);
    MHD_destroy_response(response);
    return result;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: bare_mhd THREADS REPLY_FILE\n");
        return 2;
    }
    static struct reply reply;
    FILE *file = fopen(argv[2], "re");
    if (!file) {
        perror(argv[2]);
        return 1;
    }
    reply.length = fread(reply.text, 1, sizeof reply.text, file);
    fclose(file);
    unsigned threads = (unsigned)strtoul(argv[1], NULL, 10);
    struct MHD_Daemon *daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD, 0, NULL, NULL, answer, &reply, MHD_OPTION_THREAD_POOL_SIZE,
        threads, MHD_OPTION_CONNECTION_LIMIT, 1024U, MHD_OPTION_END);
    if (!daemon) {
        fprintf(stderr, "bare_mhd: cannot start\n");
        return 1;
    }
    printf("%u\n", (unsigned)MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port);
    fflush(stdout);
    for (;;)
        pause();
}
