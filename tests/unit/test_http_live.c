/* SPDX-License-Identifier: Apache-2.0 */
/* test_http_live.c - requests that wait and streams that go on: wakes, deadlines, stops, races. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>

#include "http_fixture.h"

/* What handlers look at: a number that only grows. */
struct world {
    struct http_server *server;
    atomic_int value;
    atomic_int streams; /* open ones */
};

/* GET /value?after=N&wait_ms=M: answers once the value is above N. */
static int value_above(struct http_request *req, struct http_reply *reply, struct error *err)
{
    struct world *world = req->ctx;
    uint64_t after = 0, wait_ms = 0;
    if (http_request_query_u64(req, "after", 0, INT32_MAX, 0, &after, err) < 0 ||
        http_request_query_u64(req, "wait_ms", 0, 60000, 0, &wait_ms, err) < 0)
        return -1;
    int value = atomic_load(&world->value);
    if (value <= (int)after && !req->timed_out) {
        http_wait(req, "value", wait_ms);
        return HTTP_WAIT;
    }
    json_object *o = json_object_new_object();
    json_put_int(o, "value", value);
    json_put_bool(o, "woken", req->woken);
    json_put_bool(o, "timed_out", req->timed_out);
    http_reply_json(reply, 200, o);
    return 0;
}

/* Never has an answer: http.c has to end it. */
static int stubborn(struct http_request *req, struct http_reply *reply, struct error *err)
{
    (void)reply;
    (void)err;
    http_wait(req, "never", 200);
    return HTTP_WAIT;
}

static int forgot_to_wait(struct http_request *req, struct http_reply *reply, struct error *err)
{
    (void)req;
    (void)reply;
    (void)err;
    return HTTP_WAIT;
}

struct numbers { /* an event for every number up to `last` */
    struct world *world;
    int next, last;
};

static ssize_t numbers_next(void *stream, char *buffer, size_t max)
{
    struct numbers *n = stream;
    if (n->next > n->last)
        return -1;
    if (n->next > atomic_load(&n->world->value))
        return 0;
    int length =
        snprintf(buffer, max, "id: %d\nevent: number\ndata: {\"n\":%d}\n\n", n->next, n->next);
    n->next++;
    return length;
}

static void numbers_free(void *stream)
{
    struct numbers *n = stream;
    atomic_fetch_sub(&n->world->streams, 1);
    free(n);
}

static int numbers(struct http_request *req, struct http_reply *reply, struct error *err)
{
    struct world *world = req->ctx;
    uint64_t last = 0;
    if (http_request_query_u64(req, "last", 0, INT32_MAX, INT32_MAX, &last, err) < 0)
        return -1;
    struct numbers *n = xcalloc(1, sizeof(*n));
    *n = (struct numbers){.world = world, .next = 1, .last = (int)last};
    atomic_fetch_add(&world->streams, 1);
    reply->content_type = "text/event-stream";
    reply->stream = n;
    reply->stream_next = numbers_next;
    reply->stream_free = numbers_free;
    reply->stream_key = xstrdup("value");
    return 0;
}

static const struct http_route routes[] = {
    {"GET",        "/value", 0, 0, value_above, NULL, ""},
    {"GET",           "/stubborn", 0, 0, stubborn, NULL, ""},
    {"GET", "/forgot", 0, 0, forgot_to_wait, NULL, ""},
    {"GET",          "/numbers", 0, 0, numbers, NULL, ""},
    {0       },
};

static void world_start(struct world *world, bool thread_per_connection)
{
    *world = (struct world){0};
    struct http_config config = {.listen = "127.0.0.1:0",
                                 .routes = routes,
                                 .ctx = world,
                                 .thread_per_connection = thread_per_connection};
    struct error err = {0};
    if (http_server_start(&config, &world->server, &err) < 0)
        fail_msg("%s", err.message);
}

static void step(struct world *world)
{
    atomic_fetch_add(&world->value, 1);
    http_wake(world->server, "value");
}

static void a_wait_ends_by_its_deadline(bool threads)
{
    struct world world;
    world_start(&world, threads);
    AUTO(client) client = fixture_client(world.server);
    for (int i = 0; i < 2; i++) {
        autojson *reply = NULL;
        struct error err = {0};
        int64_t begin_ms = fixture_now_ms();
        assert_int_equal(
            client_request(client, "GET", "/value?after=0&wait_ms=150", NULL, &reply, &err), 0);
        assert_in_range(fixture_now_ms() - begin_ms, 140, 3000);
        assert_true(json_flag(reply, "timed_out"));
    }
    http_server_free(world.server);
}

static void deadlines(void **state)
{
    (void)state;
    a_wait_ends_by_its_deadline(false);
    a_wait_ends_by_its_deadline(true);
}

static void a_handler_that_never_answers_is_ended(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, false);
    AUTO(client) client = fixture_client(world.server);
    struct error err = {0};
    assert_int_equal(client_request(client, "GET", "/stubborn", NULL, NULL, &err), -1);
    assert_int_equal(err.kind, ERROR_TIMEOUT);
    assert_int_equal(client_request(client, "GET", "/forgot", NULL, NULL, &err), -1);
    assert_int_equal(err.kind, ERROR_TIMEOUT);
    http_server_free(world.server);
}

struct follower {
    struct world *world;
    int last;
    atomic_int seen;
    atomic_int faults; /* time-outs and errors */
    pthread_t thread;
};

/* Long polls from number to number. */
static void *follow(void *arg)
{
    struct follower *f = arg;
    AUTO(client) client = fixture_client(f->world->server);
    for (int have = 0; have < f->last;) {
        autofree char *path = xasprintf("/value?after=%d&wait_ms=10000", have);
        autojson *reply = NULL;
        struct error err = {0};
        if (client_request(client, "GET", path, NULL, &reply, &err) < 0 ||
            json_flag(reply, "timed_out")) {
            fprintf(stderr, "after %d: %s\n", have, err.kind ? err.message : "timed out");
            atomic_fetch_add(&f->faults, 1);
            break;
        }
        have = (int)json_int(reply, "value");
        atomic_store(&f->seen, have);
    }
    return NULL;
}

#define FOLLOWERS 4

/* Followers long-poll while the value steps: in lockstep, so that one lost wake costs its
 * follower the whole wait, which counts as a fault; or freely, so that wakes hit requests in
 * every phase of their life. */
static void race(bool threads, bool lockstep, int steps)
{
    struct world world;
    world_start(&world, threads);
    struct follower followers[FOLLOWERS];
    for (int i = 0; i < FOLLOWERS; i++) {
        followers[i] = (struct follower){.world = &world, .last = steps};
        assert_int_equal(pthread_create(&followers[i].thread, NULL, follow, &followers[i]), 0);
    }
    for (int n = 1; n <= steps; n++) {
        step(&world);
        for (int i = 0; lockstep && i < FOLLOWERS; i++)
            while (atomic_load(&followers[i].seen) < n && !atomic_load(&followers[i].faults))
                sched_yield();
        if (!lockstep && n % 16 == 0)
            fixture_sleep_ms(1);
    }
    for (int i = 0; i < FOLLOWERS; i++) {
        pthread_join(followers[i].thread, NULL);
        assert_int_equal(followers[i].faults, 0);
        assert_int_equal(followers[i].seen, steps);
    }
    http_server_free(world.server);
}

static void no_wake_is_lost_in_lockstep(void **state)
{
    (void)state;
    race(false, true, 1500);
}

static void no_wake_is_lost_running_free(void **state)
{
    (void)state;
    race(false, false, 20000);
}

static void no_wake_is_lost_with_threads(void **state)
{
    (void)state;
    race(true, true, 500);
    race(true, false, 5000);
}

struct seen {
    int count, stop_at;
    int wrong;
};

static int on_number(void *ctx, const char *id, const char *name, const char *data)
{
    struct seen *seen = ctx;
    seen->count++;
    autofree char *expected_id = xasprintf("%d", seen->count);
    autofree char *expected = xasprintf("{\"n\":%d}", seen->count);
    seen->wrong +=
        strcmp(id, expected_id) != 0 || strcmp(name, "number") != 0 || strcmp(data, expected) != 0;
    return seen->count == seen->stop_at;
}

static void *step_slowly(void *arg)
{
    struct world *world = arg;
    for (int i = 0; i < 1000; i++) {
        step(world);
        if (i % 50 == 0)
            fixture_sleep_ms(2);
    }
    return NULL;
}

static void events_arrive_in_order(bool threads)
{
    struct world world;
    world_start(&world, threads);
    AUTO(client) client = fixture_client(world.server);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, step_slowly, &world), 0);
    struct seen seen = {0};
    struct error err = {0};
    if (client_events(client, "/numbers?last=1000", 10000, on_number, &seen, &err) < 0)
        fail_msg("%s", err.message);
    pthread_join(thread, NULL);
    assert_int_equal(seen.count, 1000);
    assert_int_equal(seen.wrong, 0);
    /* One that has seen enough closes the stream. */
    seen = (struct seen){.stop_at = 10};
    assert_int_equal(client_events(client, "/numbers", 10000, on_number, &seen, &err), 0);
    assert_int_equal(seen.count, 10);
    /* A stream that stays silent is given up by its reader. */
    seen = (struct seen){0};
    assert_int_equal(client_events(client, "/numbers", 200, on_number, &seen, &err), -1);
    assert_int_equal(err.kind, ERROR_TIMEOUT);
    assert_int_equal(seen.count, 1000);
    http_server_free(world.server);
    assert_int_equal(world.streams, 0);
}

static void event_streams(void **state)
{
    (void)state;
    events_arrive_in_order(false);
    events_arrive_in_order(true);
}

/* Clients that go away while their request is suspended leave nothing behind. */
static void clients_may_vanish(void **state)
{
    (void)state;
    struct world world;
    world_start(&world, false);
    for (int round = 0; round < 20; round++) {
        int fds[20];
        for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
            fds[i] = fixture_connect(world.server);
            fixture_send(fds[i], i % 2 ? "GET /numbers HTTP/1.1\r\nHost: x\r\n\r\n"
                                       : "GET /value?after=1000000&wait_ms=30000 HTTP/1.1\r\n"
                                         "Host: x\r\n\r\n");
        }
        fixture_sleep_ms(round % 5);
        for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
            struct linger reset = {.l_onoff = 1};
            if (i % 3 == 0)
                setsockopt(fds[i], SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
            close(fds[i]);
        }
        step(&world);
    }
    AUTO(client) client = fixture_client(world.server);
    struct error err = {0};
    assert_int_equal(client_request(client, "GET", "/value", NULL, NULL, &err), 0);
    http_server_free(world.server);
    assert_int_equal(world.streams, 0);
}

struct poller {
    struct world *world;
    pthread_t thread;
    int rc;
    bool timed_out;
};

static void *poll_long(void *arg)
{
    struct poller *p = arg;
    AUTO(client) client = fixture_client(p->world->server);
    autojson *reply = NULL;
    struct error err = {0};
    p->rc = client_request(client, "GET", "/value?after=5&wait_ms=30000", NULL, &reply, &err);
    p->timed_out = json_flag(reply, "timed_out");
    return NULL;
}

static void a_stop_answers_who_waits(bool threads)
{
    struct world world;
    world_start(&world, threads);
    struct poller pollers[12];
    for (size_t i = 0; i < ARRAY_LEN(pollers); i++) {
        pollers[i] = (struct poller){.world = &world, .rc = -2};
        assert_int_equal(pthread_create(&pollers[i].thread, NULL, poll_long, &pollers[i]), 0);
    }
    int stream = fixture_connect(world.server);
    fixture_send(stream, "GET /numbers HTTP/1.1\r\nHost: x\r\n\r\n");
    fixture_sleep_ms(500);
    int64_t begin_ms = fixture_now_ms();
    http_server_free(world.server);
    assert_true(fixture_now_ms() - begin_ms < 5000);
    for (size_t i = 0; i < ARRAY_LEN(pollers); i++) {
        pthread_join(pollers[i].thread, NULL);
        assert_int_equal(pollers[i].rc, 0);
        assert_true(pollers[i].timed_out);
    }
    autofree char *rest = fixture_read(stream, NULL);
    assert_non_null(strstr(rest, "\r\n0\r\n")); /* a whole stream, not one cut off */
    close(stream);
    assert_int_equal(world.streams, 0);
}

static void stops(void **state)
{
    (void)state;
    a_stop_answers_who_waits(false);
    a_stop_answers_who_waits(true);
}

/* Stops while requests, wakes and new waits run at full speed. */
static void stops_in_the_middle(void **state)
{
    (void)state;
    for (int round = 0; round < 10; round++) {
        struct world world;
        world_start(&world, round % 2);
        int fds[16];
        for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
            fds[i] = fixture_connect(world.server);
            for (int k = 0; k < 20; k++)
                fixture_send(fds[i], "GET /value?after=0&wait_ms=5 HTTP/1.1\r\nHost: x\r\n\r\n");
        }
        fixture_sleep_ms((unsigned)round * 3);
        http_server_free(world.server);
        for (size_t i = 0; i < ARRAY_LEN(fds); i++)
            close(fds[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deadlines),
        cmocka_unit_test(a_handler_that_never_answers_is_ended),
        cmocka_unit_test(no_wake_is_lost_in_lockstep),
        cmocka_unit_test(no_wake_is_lost_running_free),
        cmocka_unit_test(no_wake_is_lost_with_threads),
        cmocka_unit_test(event_streams),
        cmocka_unit_test(clients_may_vanish),
        cmocka_unit_test(stops),
        cmocka_unit_test(stops_in_the_middle),
    };
    return cmocka_run_group_tests_name("http_live", tests, NULL, NULL);
}
