/* SPDX-License-Identifier: Apache-2.0 */
/* test_http_upload.c - uploads: whole, slow, refused at each point, broken off at each side. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>

#include "digest.h"
#include "http_fixture.h"

#define MIB (1024UL * 1024)

/* One upload at a time; the test looks when it is over. */
struct sink {
    bool refuse_open;
    size_t refuse_at; /* bytes; 0: never */
    bool refuse_finish;
    atomic_uint sleep_ms; /* per piece */
    struct sha256 *hash;
    atomic_size_t bytes;
    atomic_int opened, finished, closed;
    char node[32];
};

static int sink_open(struct http_request *req, void **ret_state, struct error *err)
{
    struct sink *sink = req->ctx;
    const char *node = http_request_header(req, "X-Cpubroker-Node");
    snprintf(sink->node, sizeof(sink->node), "%s", node ? node : "");
    if (sink->refuse_open)
        return error_set(err, ERROR_FORBIDDEN, "the ticket of %s was used already",
                         http_request_param(req, "id"));
    sink->hash = sha256_new();
    atomic_fetch_add(&sink->opened, 1);
    *ret_state = sink;
    return 0;
}

static int sink_data(void *state, const void *bytes, size_t length, struct error *err)
{
    struct sink *sink = state;
    sha256_update(sink->hash, bytes, length);
    atomic_fetch_add(&sink->bytes, length);
    if (atomic_load(&sink->sleep_ms))
        fixture_sleep_ms(atomic_load(&sink->sleep_ms));
    if (sink->refuse_at && atomic_load(&sink->bytes) >= sink->refuse_at)
        return error_set(err, ERROR_FORBIDDEN, "the archive holds a name that leaves its folder");
    return 0;
}

static int sink_finish(void *state, struct http_reply *reply, struct error *err)
{
    struct sink *sink = state;
    atomic_fetch_add(&sink->finished, 1);
    if (sink->refuse_finish)
        return error_set(err, ERROR_INVALID, "the manifest does not match");
    char hex[SHA256_HEX_BYTES];
    sha256_finish(sink->hash, hex);
    json_object *o = json_object_new_object();
    json_put_int(o, "bytes", (int64_t)atomic_load(&sink->bytes));
    json_put_str(o, "sha256", hex);
    http_reply_json(reply, 201, o);
    return 0;
}

static void sink_close(void *state)
{
    struct sink *sink = state;
    sha256_free(steal_ptr(&sink->hash));
    atomic_fetch_add(&sink->closed, 1);
}

static const struct http_upload upload = {sink_open, sink_data, sink_finish, sink_close};

static const struct http_route routes[] = {
    {"PUT",           "/v1/images/{id}", FIXTURE_READER, 0, NULL, &upload, ""},
    {"PUT", "/v1/small/{id}", FIXTURE_READER, 3 * MIB, NULL, &upload, ""},
    {0          },
};

static struct http_server *start(struct sink *sink)
{
    struct http_config config = {.listen = "127.0.0.1:0",
                                 .routes = routes,
                                 .ctx = sink,
                                 .authenticate = fixture_authenticate,
                                 .thread_per_connection = true};
    struct http_server *server = NULL;
    struct error err = {0};
    if (http_server_start(&config, &server, &err) < 0)
        fail_msg("%s", err.message);
    return server;
}

struct source {
    size_t left;
    size_t fail_at; /* gives up when so much is left */
    size_t given;
    size_t most_ahead; /* how far reading ran ahead of the sink */
    struct sink *sink;
    uint32_t random;
    struct sha256 *hash;
};

static ssize_t source_read(void *ctx, char *buffer, size_t max, struct error *err)
{
    struct source *source = ctx;
    if (source->fail_at && source->left <= source->fail_at)
        return error_set(err, ERROR_FAILED, "the image cannot be read any more");
    size_t n = source->left < max ? source->left : max;
    for (size_t i = 0; i < n; i++) {
        source->random = source->random * 1664525U + 1013904223U;
        buffer[i] = (char)(source->random >> 24);
    }
    if (source->hash)
        sha256_update(source->hash, buffer, n);
    source->left -= n;
    source->given += n;
    size_t ahead = source->given - atomic_load(&source->sink->bytes);
    if (ahead > source->most_ahead)
        source->most_ahead = ahead;
    return (ssize_t)n;
}

/* Uploads all that the source gives. */
static int send_source(struct client *client, const char *path, struct source *source,
                       uint64_t stall_timeout_ms, json_object **ret, struct error *err)
{
    static char buffer[300000];
    AUTO(client_upload) u = NULL;
    if (client_upload_begin(client, path, stall_timeout_ms, &u, err) < 0)
        return -1;
    ssize_t n;
    while ((n = source_read(source, buffer, sizeof(buffer), err)) > 0)
        if (client_upload_write(u, buffer, (size_t)n, err) < 0)
            return -1;
    return n < 0 ? -1 : client_upload_finish(u, ret, err);
}

static void wait_until_closed(struct sink *sink)
{
    for (int i = 0; i < 500 && atomic_load(&sink->closed) < atomic_load(&sink->opened); i++)
        fixture_sleep_ms(10);
}

static void an_upload_arrives_whole(void **state)
{
    (void)state;
    struct sink sink = {0};
    struct http_server *server = start(&sink);
    autofree char *url = xasprintf("http://%s", http_server_address(server));
    struct client_config config = {.base_url = url, .token = FIXTURE_TOKEN, .node = "node-a"};
    struct error err = {0};
    AUTO(client) client = NULL;
    assert_int_equal(client_new(&config, &client, &err), 0);
    static const size_t sizes[] = {0, 1, 65536, 64 * MIB + 12345};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        atomic_store(&sink.bytes, 0);
        struct source source = {.left = sizes[i], .sink = &sink, .hash = sha256_new()};
        autojson *reply = NULL;
        if (send_source(client, "/v1/images/m-1", &source, 10000, &reply, &err) < 0)
            fail_msg("%s", err.message);
        char hex[SHA256_HEX_BYTES];
        sha256_finish(source.hash, hex);
        sha256_free(source.hash);
        assert_int_equal(json_int(reply, "bytes"), sizes[i]);
        assert_string_equal(json_str(reply, "sha256"), hex);
        assert_string_equal(sink.node, "node-a");
    }
    wait_until_closed(&sink);
    assert_int_equal(sink.closed, 4);
    assert_int_equal(sink.finished, 4);
    http_server_free(server);
}

/* A dump may let an upload wait; only a receiver that takes nothing is given up. */
static void an_upload_may_pause(void **state)
{
    (void)state;
    struct sink sink = {0};
    struct http_server *server = start(&sink);
    AUTO(client) client = fixture_client(server);
    struct error err = {0};
    struct client_upload *u = NULL;
    autojson *reply = NULL;
    if (client_upload_begin(client, "/v1/images/m-1", 500, &u, &err) < 0 ||
        client_upload_write(u, "one", 3, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(atomic_load(&sink.opened), 1); /* accepted before the write came back */
    fixture_sleep_ms(1200);
    if (client_upload_write(u, "two", 3, &err) < 0 || client_upload_write(u, "", 0, &err) < 0)
        fail_msg("%s", err.message);
    fixture_sleep_ms(700);
    if (client_upload_finish(u, &reply, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(json_int(reply, "bytes"), 6);
    assert_int_equal(client_upload_write(u, "x", 1, &err), -1);
    assert_int_equal(err.kind, ERROR_CONFLICT);
    client_upload_free(u);
    /* The client serves again. */
    struct source source = {.left = 1000, .sink = &sink};
    assert_int_equal(send_source(client, "/v1/images/m-1", &source, 500, NULL, &err), 0);
    http_server_free(server);
}

static void a_slow_receiver_slows_the_sender(void **state)
{
    (void)state;
    struct sink sink = {.sleep_ms = 5};
    struct http_server *server = start(&sink);
    AUTO(client) client = fixture_client(server);
    struct source source = {.left = 40 * MIB, .sink = &sink};
    struct error err = {0};
    if (send_source(client, "/v1/images/m-1", &source, 10000, NULL, &err) < 0)
        fail_msg("%s", err.message);
    /* What lies between: one buffer of the client, two of sockets, one of the server. */
    if (source.most_ahead > 16 * MIB)
        fail_msg("the sender ran %zu bytes ahead", source.most_ahead);
    http_server_free(server);
}

static void a_refused_ticket_costs_no_byte(void **state)
{
    (void)state;
    struct sink sink = {.refuse_open = true};
    struct http_server *server = start(&sink);
    AUTO(client) client = fixture_client(server);
    struct source source = {.left = SIZE_MAX / 2, .sink = &sink};
    struct error err = {0};
    assert_int_equal(send_source(client, "/v1/images/m-1", &source, 10000, NULL, &err), -1);
    assert_int_equal(err.kind, ERROR_FORBIDDEN);
    assert_string_equal(err.message, "the ticket of m-1 was used already");
    assert_int_equal(atomic_load(&sink.bytes), 0);
    assert_true(source.given <= 300000); /* the first write did not return before */
    assert_int_equal(sink.closed, 0);
    http_server_free(server);
}

/* The source would go on for ever: only a refusal that is heard at once ends it. */
static void a_refusal_in_the_middle_is_heard(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        struct sink sink = {.refuse_at = 1 + (size_t)round * MIB};
        struct http_server *server = start(&sink);
        AUTO(client) client = fixture_client(server);
        struct source source = {.left = SIZE_MAX / 2, .sink = &sink};
        struct error err = {0};
        assert_int_equal(send_source(client, "/v1/images/m-1", &source, 10000, NULL, &err), -1);
        if (err.kind != ERROR_FORBIDDEN)
            fail_msg("round %d: %s", round, err.message);
        assert_string_equal(err.message, "the archive holds a name that leaves its folder");
        assert_true(source.given < sink.refuse_at + 64 * MIB);
        wait_until_closed(&sink);
        assert_int_equal(sink.closed, 1);
        assert_int_equal(sink.finished, 0);
        http_server_free(server);
    }
}

static void an_upload_over_the_limit_of_its_route_is_refused(void **state)
{
    (void)state;
    struct sink sink = {0};
    struct http_server *server = start(&sink);
    AUTO(client) client = fixture_client(server);
    struct error err = {0};
    struct source fits = {.left = 3 * MIB, .sink = &sink};
    if (send_source(client, "/v1/small/m-1", &fits, 10000, NULL, &err) < 0)
        fail_msg("%s", err.message);
    struct source large = {.left = SIZE_MAX / 2, .sink = &sink};
    assert_int_equal(send_source(client, "/v1/small/m-1", &large, 10000, NULL, &err), -1);
    assert_int_equal(err.kind, ERROR_TOO_LARGE);
    http_server_free(server);
}

static void a_refusal_at_the_end_is_heard(void **state)
{
    (void)state;
    struct sink sink = {.refuse_finish = true};
    struct http_server *server = start(&sink);
    AUTO(client) client = fixture_client(server);
    struct source source = {.left = 5 * MIB, .sink = &sink};
    struct error err = {0};
    assert_int_equal(send_source(client, "/v1/images/m-1", &source, 10000, NULL, &err), -1);
    assert_int_equal(err.kind, ERROR_INVALID);
    assert_string_equal(err.message, "the manifest does not match");
    wait_until_closed(&sink);
    assert_int_equal(sink.closed, 1);
    http_server_free(server);
}

static void a_source_that_fails_leaves_the_upload_unfinished(void **state)
{
    (void)state;
    struct sink sink = {0};
    struct http_server *server = start(&sink);
    AUTO(client) client = fixture_client(server);
    struct source source = {.left = 20 * MIB, .fail_at = 10 * MIB, .sink = &sink};
    struct error err = {0};
    assert_int_equal(send_source(client, "/v1/images/m-1", &source, 10000, NULL, &err), -1);
    assert_int_equal(err.kind, ERROR_FAILED);
    assert_string_equal(err.message, "the image cannot be read any more");
    wait_until_closed(&sink);
    assert_int_equal(sink.closed, 1);
    assert_int_equal(sink.finished, 0);
    http_server_free(server);
}

static void a_receiver_that_hangs_is_given_up(void **state)
{
    (void)state;
    struct sink sink = {.sleep_ms = 4000};
    struct http_server *server = start(&sink);
    AUTO(client) client = fixture_client(server);
    struct source source = {.left = 64 * MIB, .sink = &sink};
    struct error err = {0};
    int64_t begin_ms = fixture_now_ms();
    assert_int_equal(send_source(client, "/v1/images/m-1", &source, 1000, NULL, &err), -1);
    assert_int_equal(err.kind, ERROR_TIMEOUT);
    assert_true(fixture_now_ms() - begin_ms < 10000);
    atomic_store(&sink.sleep_ms, 0); /* what was sent already is read faster now */
    http_server_free(server);
    assert_int_equal(sink.closed, 1);
    assert_int_equal(sink.finished, 0);
}

static void *interrupt_soon(void *arg)
{
    fixture_sleep_ms(200);
    client_interrupt(arg);
    return NULL;
}

static void an_upload_can_be_interrupted(void **state)
{
    (void)state;
    struct sink sink = {.sleep_ms = 20};
    struct http_server *server = start(&sink);
    AUTO(client) client = fixture_client(server);
    struct source source = {.left = SIZE_MAX / 2, .sink = &sink};
    struct error err = {0};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, interrupt_soon, client), 0);
    int64_t begin_ms = fixture_now_ms();
    assert_int_equal(send_source(client, "/v1/images/m-1", &source, 60000, NULL, &err), -1);
    assert_int_equal(err.kind, ERROR_TIMEOUT);
    assert_true(fixture_now_ms() - begin_ms < 3000);
    pthread_join(thread, NULL);
    /* It sticks. */
    assert_int_equal(client_request(client, "GET", "/", NULL, NULL, &err), -1);
    assert_int_equal(err.kind, ERROR_TIMEOUT);
    http_server_free(server);
    assert_int_equal(sink.closed, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_upload_arrives_whole),
        cmocka_unit_test(an_upload_may_pause),
        cmocka_unit_test(a_slow_receiver_slows_the_sender),
        cmocka_unit_test(a_refused_ticket_costs_no_byte),
        cmocka_unit_test(a_refusal_in_the_middle_is_heard),
        cmocka_unit_test(an_upload_over_the_limit_of_its_route_is_refused),
        cmocka_unit_test(a_refusal_at_the_end_is_heard),
        cmocka_unit_test(a_source_that_fails_leaves_the_upload_unfinished),
        cmocka_unit_test(a_receiver_that_hangs_is_given_up),
        cmocka_unit_test(an_upload_can_be_interrupted),
    };
    return cmocka_run_group_tests_name("http_upload", tests, NULL, NULL);
}
