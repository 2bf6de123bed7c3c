/* SPDX-License-Identifier: Apache-2.0 */
/* test_broker_link.c - what the agent says to a broker that comes, goes, and asks for things. */
#include "migration_fixture.h"

#include "broker_link.h"
#include "digest.h"

json_object *workloads_to_json(struct workloads *w)
{
    json_object *array = json_object_new_array(), *o = json_object_new_object();
    pthread_mutex_lock(&w->lock);
    json_put_str(o, "name", "w1");
    json_put_str(o, "state", workload_state_name(w->state));
    json_put_int(o, "pid", w->root);
    json_put(o, "exit_status", NULL);
    json_put_str(o, "dir", w->dir); /* not the broker's business */
    pthread_mutex_unlock(&w->lock);
    json_object_array_add(array, o);
    return array;
}

/* A broker that keeps what it is told. */
struct told {
    pthread_mutex_t lock;
    /* guarded by lock */
    unsigned heartbeats, reports, polls;
    json_object *heartbeat, *report, *claim; /* owned; the last of each */
    char known_sha256[SHA256_HEX_BYTES];
    bool refuse;
    uint64_t last_after, last_wait_ms;
    int64_t generation;
};

struct site {
    struct world *world;
    struct told told;
    struct http_server *broker;
    char address[64];
    struct broker_link *link;
    json_object *report; /* owned */
};

static int take(struct http_request *req, json_object **at, struct error *err)
{
    json_object *body = NULL;
    if (http_request_json(req, &body, err) < 0)
        return -1;
    json_object_put(*at);
    *at = body;
    return 0;
}

static int on_heartbeat(struct http_request *req, struct http_reply *reply, struct error *err)
{
    struct told *told = req->ctx;
    pthread_mutex_lock(&told->lock);
    int rc = told->refuse ? error_set(err, ERROR_FORBIDDEN, "this token is of another node")
                          : take(req, &told->heartbeat, err);
    json_object *o = json_object_new_object();
    if (rc == 0) {
        told->heartbeats++;
        json_put_bool(o, "report_wanted",
                      strcmp(told->known_sha256, json_str(told->heartbeat, "report_sha256")) != 0);
        json_put_int(o, "heartbeat_interval_ms", 100);
    }
    pthread_mutex_unlock(&told->lock);
    http_reply_json(reply, 200, o);
    return rc;
}

static int on_report(struct http_request *req, struct http_reply *reply, struct error *err)
{
    struct told *told = req->ctx;
    pthread_mutex_lock(&told->lock);
    int rc = take(req, &told->report, err);
    told->reports++;
    snprintf(told->known_sha256, sizeof(told->known_sha256), "%s",
             json_str(told->heartbeat, "report_sha256"));
    pthread_mutex_unlock(&told->lock);
    http_reply_json(reply, 200, json_object_new_object());
    return rc;
}

static int on_poll(struct http_request *req, struct http_reply *reply, struct error *err)
{
    struct told *told = req->ctx;
    pthread_mutex_lock(&told->lock);
    told->polls++;
    int rc = http_request_query_u64(req, "after", 0, UINT32_MAX, 0, &told->last_after, err);
    if (rc == 0)
        rc = http_request_query_u64(req, "wait_ms", 0, 60000, 0, &told->last_wait_ms, err);
    json_object *o = json_object_new_object();
    json_put_int(o, "generation", told->generation);
    json_put(o, "assignments", json_object_new_array());
    bool wait = (int64_t)told->last_after == told->generation && told->last_wait_ms > 0;
    pthread_mutex_unlock(&told->lock);
    if (rc == 0 && wait && !req->woken) {
        json_object_put(o);
        http_wait(req, "assignments", told->last_wait_ms);
        return HTTP_WAIT;
    }
    http_reply_json(reply, 200, o);
    return rc;
}

static int on_claim(struct http_request *req, struct http_reply *reply, struct error *err)
{
    struct told *told = req->ctx;
    pthread_mutex_lock(&told->lock);
    int rc = told->refuse ? error_set(err, ERROR_CONFLICT, "a workload 'w2' runs on node-b already")
                          : take(req, &told->claim, err);
    pthread_mutex_unlock(&told->lock);
    json_object *o = json_object_new_object(), *mask = json_object_new_object();
    json_put_int(mask, "epoch", 7);
    json_put(o, "mask", mask);
    http_reply_json(reply, 201, o);
    return rc;
}

static const struct http_route routes[] = {
    {.method = "POST",
     .path = "/v1/nodes/{node}/heartbeat",
     .roles = 1,
     .max_body_bytes = 65536,
     .handler = on_heartbeat},
    {.method = "PUT",
     .path = "/v1/nodes/{node}/report",
     .roles = 1,
     .max_body_bytes = 65536,
     .handler = on_report},
    {.method = "GET", .path = "/v1/nodes/{node}/assignments", .roles = 1, .handler = on_poll},
    {.method = "PUT",
     .path = "/v1/nodes/{node}/workloads/{name}",
     .roles = 1,
     .max_body_bytes = 65536,
     .handler = on_claim},
    {0             },
};

static void start_broker(struct site *s)
{
    struct error err = {0};
    const struct http_config config = {.listen = *s->address ? s->address : "127.0.0.1:0",
                                       .listen_fd = -1,
                                       .routes = routes,
                                       .ctx = &s->told,
                                       .authenticate = fixture_broker_auth};
    for (int i = 0; http_server_start(&config, &s->broker, &err) < 0; i++) {
        if (i == 100)
            fail_msg("%s", err.message);
        usleep(20000);
    }
    snprintf(s->address, sizeof(s->address), "%s", http_server_address(s->broker));
}

static int setup(void **state)
{
    struct site *s = xcalloc(1, sizeof(*s));
    s->world = world_new();
    s->told.generation = 4711;
    pthread_mutex_init(&s->told.lock, NULL);
    fixture_start_node(s->world, &s->world->a);
    s->report = json_object_new_object();
    json_put_str(s->report, "schema", "cpubroker.report/1");
    start_broker(s);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct site *s = *state;
    broker_link_free(s->link);
    http_server_free(s->broker);
    json_object_put(s->told.heartbeat);
    json_object_put(s->told.report);
    json_object_put(s->told.claim);
    json_object_put(s->report);
    world_free(s->world);
    free(s);
    return 0;
}

static void start_link(struct site *s)
{
    struct error err = {0};
    autofree char *url = xasprintf("http://%s", s->address);
    const struct broker_link_config config = {
        .node = "node-a",
        .pool = "blue",
        .image_address = "10.0.0.1:7072",
        .state_dir = s->world->a.state_dir,
        .boot_id = "boot-1",
        .broker = {.base_url = url, .token = FIXTURE_SECRET},
        .workloads = &s->world->a.workloads,
        .migrations = s->world->a.migrations
    };
    if (broker_link_start(&config, s->report, "sha-1", &s->link, &err) < 0)
        fail_msg("%s", err.message);
}

/* Waits until the counter is at least that. */
static void wait_for(struct site *s, const unsigned *counter, unsigned least)
{
    for (int i = 0; i < 2000; i++) {
        pthread_mutex_lock(&s->told.lock);
        unsigned found = *counter;
        pthread_mutex_unlock(&s->told.lock);
        if (found >= least)
            return;
        usleep(5000);
    }
    fail_msg("waited in vain");
}

static unsigned read_counter(struct site *s, const unsigned *counter)
{
    pthread_mutex_lock(&s->told.lock);
    unsigned found = *counter;
    pthread_mutex_unlock(&s->told.lock);
    return found;
}

static void the_node_makes_itself_known(void **state)
{
    struct site *s = *state;
    start_link(s);
    wait_for(s, &s->told.reports, 1);
    wait_for(s, &s->told.heartbeats, 3);
    pthread_mutex_lock(&s->told.lock);
    json_object *h = s->told.heartbeat;
    assert_string_equal(json_str(h, "image_address"), "10.0.0.1:7072");
    assert_string_equal(json_str(h, "pool"), "blue");
    assert_string_equal(json_str(h, "boot_id"), "boot-1");
    assert_string_equal(json_str(h, "report_sha256"), "sha-1");
    assert_true(json_int(h, "free_bytes") > 0);
    json_object *w = json_array_item(json_member(h, "workloads"), 0);
    assert_string_equal(json_str(w, "name"), "w1");
    assert_string_equal(json_str(w, "state"), "running");
    assert_null(json_member(w, "dir"));
    assert_string_equal(json_str(s->told.report, "schema"), "cpubroker.report/1");
    assert_int_equal(s->told.reports, 1); /* once: the hash is known then */
    pthread_mutex_unlock(&s->told.lock);
}

static void another_report_is_told_at_once(void **state)
{
    struct site *s = *state;
    start_link(s);
    wait_for(s, &s->told.reports, 1);
    autojson *second = json_object_new_object();
    json_put_str(second, "schema", "changed");
    broker_link_set_report(s->link, second, "sha-1"); /* the same hash: nothing */
    broker_link_set_report(s->link, second, "sha-2");
    wait_for(s, &s->told.reports, 2);
    pthread_mutex_lock(&s->told.lock);
    assert_string_equal(json_str(s->told.report, "schema"), "changed");
    pthread_mutex_unlock(&s->told.lock);
}

static void the_poll_waits_and_goes_on_from_its_generation(void **state)
{
    struct site *s = *state;
    start_link(s);
    wait_for(s, &s->told.polls, 2);
    usleep(200000);
    assert_in_range(read_counter(s, &s->told.polls), 2, 3); /* it waits there */
    pthread_mutex_lock(&s->told.lock);
    assert_int_equal(s->told.last_after, 4711);
    assert_true(s->told.last_wait_ms >= 10000);
    s->told.generation = 4712;
    pthread_mutex_unlock(&s->told.lock);
    http_wake(s->broker, "assignments");
    wait_for(s, &s->told.polls, 4); /* woken, and asked anew */
}

static void a_broker_that_comes_back_is_found(void **state)
{
    struct site *s = *state;
    start_link(s);
    wait_for(s, &s->told.polls, 2);
    http_server_free(s->broker);
    s->broker = NULL;
    usleep(700000);
    autojson *away = broker_link_status(s->link);
    assert_false(json_flag(away, "connected"));
    unsigned polls = s->told.polls, heartbeats = s->told.heartbeats;
    start_broker(s);
    wait_for(s, &s->told.heartbeats, heartbeats + 1);
    wait_for(s, &s->told.polls, polls + 1);
    bool connected = false; /* the broker answers before the link has the answer */
    for (int i = 0; i < 500 && !connected; i++) {
        autojson *back = broker_link_status(s->link);
        connected = json_flag(back, "connected");
        usleep(10000);
    }
    assert_true(connected);
}

static void a_refusing_broker_is_not_flooded(void **state)
{
    struct site *s = *state;
    s->told.refuse = true;
    start_link(s);
    usleep(1000000);
    assert_int_equal(read_counter(s, &s->told.polls), 0); /* the node is not known there */
    pthread_mutex_lock(&s->told.lock);
    s->told.refuse = false;
    pthread_mutex_unlock(&s->told.lock);
    wait_for(s, &s->told.polls, 1);
}

static void names_are_claimed(void **state)
{
    struct site *s = *state;
    static const char *const command[] = {"./victim", "64", NULL};
    const struct workload_spec spec = {
        .name = "w2", .pool = NULL, .dir = "/d/w2", .command = command};
    struct error err = {0};
    start_link(s);
    autojson *mask = NULL;
    assert_int_equal(broker_link_claim(s->link, &spec, false, MASK_GRADE_DETOUR, &mask, &err), 0);
    assert_int_equal(json_int(mask, "epoch"), 7);
    pthread_mutex_lock(&s->told.lock);
    assert_string_equal(json_str(s->told.claim, "pool"), "blue");
    assert_string_equal(json_str(s->told.claim, "dir"), "/d/w2");
    assert_string_equal(json_item_str(json_member(s->told.claim, "command"), 1), "64");
    assert_false(json_flag(s->told.claim, "adopted"));
    assert_string_equal(json_str(s->told.claim, "mask"), "detour");
    s->told.refuse = true;
    pthread_mutex_unlock(&s->told.lock);
    assert_int_equal(broker_link_claim(s->link, &spec, true, MASK_GRADE_OFF, NULL, &err), -1);
    assert_int_equal(err.kind, ERROR_CONFLICT);
    assert_string_equal(err.message, "a workload 'w2' runs on node-b already");
}

static void the_end_does_not_wait_for_the_poll(void **state)
{
    struct site *s = *state;
    start_link(s);
    wait_for(s, &s->told.polls, 2);
    int64_t began_ms = clock_monotonic_ms(&clock_system);
    broker_link_free(s->link);
    s->link = NULL;
    assert_true(clock_monotonic_ms(&clock_system) - began_ms < 3000);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_node_makes_itself_known),
        TEST(another_report_is_told_at_once),
        TEST(the_poll_waits_and_goes_on_from_its_generation),
        TEST(a_broker_that_comes_back_is_found),
        TEST(a_refusing_broker_is_not_flooded),
        TEST(names_are_claimed),
        TEST(the_end_does_not_wait_for_the_poll),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
