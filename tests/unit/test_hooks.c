/* SPDX-License-Identifier: Apache-2.0 */
/* test_hooks.c - webhooks: what is sent, to whom, how often, and what becomes of it when nobody is
 * there. */
/* clang-format off */
#include "cmocka_test.h"
/* clang-format on */
#include <pthread.h>
#include <sqlite3.h>

#include "broker_fixture.h"
#include "http_fixture.h"
#include "webhook.h"

#define SECRET "0123456789abcdef-secret"

struct site {
    struct fixture *f;
    struct http_server *server;
    char id[32];
    pthread_mutex_t lock; /* guards what follows */
    unsigned status;      /* what the receiver answers */
    unsigned count;
    char *body; /* of the latest */
    char timestamp[64], signature[128], delivery[32], event[64], type[64];
};

static void copy_header(const struct http_request *req, const char *name, char *to, size_t size)
{
    const char *value = http_request_header(req, name);
    snprintf(to, size, "%s", value ? value : "");
}

static int receive(struct http_request *req, struct http_reply *reply, struct error *err)
{
    (void)err;
    struct site *s = req->ctx;
    pthread_mutex_lock(&s->lock);
    s->count++;
    free(s->body);
    s->body = xstrdup(req->body);
    copy_header(req, "X-Cpubroker-Timestamp", s->timestamp, sizeof(s->timestamp));
    copy_header(req, "X-Cpubroker-Signature", s->signature, sizeof(s->signature));
    copy_header(req, "X-Cpubroker-Delivery", s->delivery, sizeof(s->delivery));
    copy_header(req, "X-Cpubroker-Event", s->event, sizeof(s->event));
    copy_header(req, "Content-Type", s->type, sizeof(s->type));
    reply->status = s->status;
    if (s->status == 302)
        reply->location = xstrdup("/elsewhere");
    pthread_mutex_unlock(&s->lock);
    return 0;
}

static const struct http_route routes[] = {
    {"POST",   "/hook", 0, 1024UL * 1024, receive, NULL, ""},
    {"POST",       "/elsewhere", 0, 1024UL * 1024, receive, NULL, ""},
    {0},
};

static int set_up(void **state)
{
    struct site *s = xcalloc(1, sizeof(*s));
    const struct http_config config = {
        .listen = "127.0.0.1:0", .listen_fd = -1, .routes = routes, .ctx = s};
    s->f = fixture_new();
    log_set_level(LOG_LEVEL_COUNT);
    s->status = 204;
    pthread_mutex_init(&s->lock, NULL);
    assert_int_equal(http_server_start(&config, &s->server, NULL), 0);
    *state = s;
    return 0;
}

static int tear_down(void **state)
{
    struct site *s = *state;
    fixture_free(s->f);
    http_server_free(s->server);
    pthread_mutex_destroy(&s->lock);
    free(s->body);
    free(s);
    return 0;
}

static void create_to(struct site *s, const char *url, const char *events)
{
    autofree char *body = xasprintf("{\"url\":\"%s\",\"secret\":\"" SECRET "\",\"events\":%s}", url,
                                    events ? events : "null");
    call_expect(s->f, s->f->operator_token, "POST", "/v1/webhooks", body, 201);
    snprintf(s->id, sizeof(s->id), "%s", fixture_str(s->f, "id"));
}

static void create(struct site *s, const char *events)
{
    autofree char *url = xasprintf("http://%s/hook", http_server_address(s->server));
    create_to(s, url, events);
}

/* An event: the pool gets its first mask, or loses it. */
static void shake(struct site *s, const char *method)
{
    call_expect(s->f, s->f->operator_token, method, "/v1/pools/default/nodes/a", NULL, 200);
}

static int64_t step(struct site *s)
{
    int64_t wait_ms = -2;
    struct error err = {0};
    if (webhooks_step(s->f->broker->webhooks, s->id, &wait_ms, &err) < 0)
        fail_msg("step: %s", err.message);
    return wait_ms;
}

/* Of the webhook's deliveries, all in `state`: their number. */
static size_t deliveries(struct site *s, const char *state)
{
    size_t matching = 0;
    autofree char *path = xasprintf("/v1/webhooks/%s/deliveries", s->id);
    call_expect(s->f, s->f->operator_token, "GET", path, NULL, 200);
    json_object *list = fixture_member(s->f, "deliveries");
    for (size_t i = 0; i < json_array_size(list); i++)
        matching += strcmp(json_str(json_array_item(list, i), "state"), state) == 0;
    return matching;
}

static void what_is_sent_is_signed(void **state)
{
    struct site *s = *state;
    char expected[SHA256_HEX_BYTES];
    fixture_import(s->f, "a", "haswell");
    create(s, NULL);
    assert_int_equal(step(s), -1); /* nothing is due */
    shake(s, "PUT");
    assert_int_equal(s->count, 0);
    assert_int_equal(step(s), -1);
    assert_int_equal(s->count, 1);
    assert_string_equal(s->event, "pool_mask_grown");
    assert_string_equal(s->type, "application/json");
    assert_string_equal(s->timestamp, "1700000000000");
    assert_string_equal(s->delivery, "1");
    autofree char *text = xasprintf("%s.%s", s->timestamp, s->body);
    hmac_sha256_hex(SECRET, text, strlen(text), expected);
    autofree char *signature = xasprintf("sha256=%s", expected);
    assert_string_equal(s->signature, signature);
    autojson *body = NULL;
    assert_int_equal(json_parse(s->body, strlen(s->body), &body, NULL), 0);
    assert_string_equal(json_str(body, "kind"), "pool_mask_grown");
    assert_string_equal(json_str(body, "node"), "a");
    assert_int_equal(json_int(body, "seq"), 1);
    assert_non_null(json_member(body, "detail"));
    assert_int_equal(deliveries(s, "delivered"), 1);
    step(s);
    assert_int_equal(s->count, 1); /* once */
}

static void only_what_was_asked_for(void **state)
{
    struct site *s = *state;
    fixture_import(s->f, "a", "haswell");
    create(s, "[\"pool_mask_shrunk\",\"migration\"]");
    shake(s, "PUT");
    shake(s, "DELETE");
    step(s);
    step(s);
    assert_int_equal(s->count, 1);
    assert_string_equal(s->event, "pool_mask_shrunk");
}

static void a_migration_tells_its_phases(void **state)
{
    struct site *s = *state;
    char a[65], b[65];
    fixture_node(s->f, "a", "haswell", a);
    fixture_node(s->f, "b", "haswell", b);
    fixture_workload(s->f, a, "a", "w");
    create(s, "[\"migration\"]");
    call_expect(s->f, s->f->operator_token, "POST", "/migrate", "{\"workload\":\"w\",\"to\":\"b\"}",
                202);
    autofree char *path = xasprintf("/v1/migrations/%s", fixture_str(s->f, "migration.id"));
    step(s);
    assert_string_equal(s->event, "migration");
    assert_non_null(strstr(s->body, "\"state\":\"preparing\""));
    assert_non_null(strstr(s->body, "\"from\":\"a\",\"to\":\"b\""));
    assert_null(strstr(s->body, "ticket"));
    call_expect(s->f, s->f->operator_token, "DELETE", path, NULL, 202);
    step(s);
    assert_non_null(strstr(s->body, "\"state\":\"aborting\""));
    assert_int_equal(s->count, 2);
}

static void failures_are_tried_again(void **state)
{
    struct site *s = *state;
    fixture_import(s->f, "a", "haswell");
    create(s, NULL);
    shake(s, "PUT");
    s->status = 500;
    int64_t base_ms = WEBHOOK_BACKOFF_MS;
    for (unsigned i = 1; i <= 11; i++) {
        int64_t wait_ms = step(s);
        assert_int_equal(s->count, i);
        assert_in_range(wait_ms, base_ms / 2, base_ms);
        assert_in_range(step(s), 1, wait_ms); /* not before its time */
        assert_int_equal(s->count, i);
        s->f->clock.test_ms += wait_ms;
        base_ms = base_ms * 2 < WEBHOOK_BACKOFF_MAX_MS ? base_ms * 2 : WEBHOOK_BACKOFF_MAX_MS;
    }
    fixture_restart(s->f); /* what waits is not forgotten */
    assert_int_equal(deliveries(s, "pending"), 1);
    assert_int_equal(fixture_int(s->f, "deliveries.0.tries"), 11);
    assert_string_equal(fixture_str(s->f, "deliveries.0.problem"), "it answered 500");
    s->status = 200;
    assert_int_equal(step(s), -1);
    assert_int_equal(deliveries(s, "delivered"), 1);
    assert_int_equal(fixture_int(s->f, "deliveries.0.tries"), 12);
    call_expect(s->f, s->f->viewer_token, "GET", "/metrics", NULL, 200);
    assert_non_null(
        strstr(s->f->raw.body, "cpubroker_webhook_tries_total{result=\"delivered\"} 1\n"));
}

static void given_up_after_so_many(void **state)
{
    struct site *s = *state;
    fixture_import(s->f, "a", "haswell");
    create(s, NULL);
    shake(s, "PUT");
    s->status = 404;
    int64_t wait_ms = 0;
    for (unsigned i = 1; wait_ms >= 0; i++) {
        wait_ms = step(s);
        assert_int_equal(s->count, i);
        assert_in_range(i, 1, WEBHOOK_TRIES_MAX);
        s->f->clock.test_ms += wait_ms > 0 ? wait_ms : 0;
    }
    assert_int_equal(s->count, WEBHOOK_TRIES_MAX);
    assert_int_equal(deliveries(s, "dead"), 1);
    call_expect(s->f, s->f->operator_token, "GET", "/v1/webhooks", NULL, 200);
    assert_int_equal(fixture_int(s->f, "webhooks.0.dead"), 1);
    assert_int_equal(fixture_int(s->f, "webhooks.0.pending"), 0);
    assert_null(strstr(s->f->raw.body, SECRET));
    s->f->clock.test_ms += 365 * WEBHOOK_AGE_MAX_MS;
    step(s);
    assert_int_equal(s->count, WEBHOOK_TRIES_MAX);
}

static void given_up_after_a_day(void **state)
{
    struct site *s = *state;
    fixture_import(s->f, "a", "haswell");
    create(s, NULL);
    shake(s, "PUT");
    s->f->clock.test_ms += WEBHOOK_AGE_MAX_MS - 1;
    s->status = 503;
    assert_true(step(s) > 0);
    s->f->clock.test_ms += WEBHOOK_BACKOFF_MS;
    assert_int_equal(step(s), -1);
    assert_int_equal(s->count, 2);
    assert_int_equal(deliveries(s, "dead"), 1);
}

static void redirections_are_not_followed(void **state)
{
    struct site *s = *state;
    fixture_import(s->f, "a", "haswell");
    create(s, NULL);
    shake(s, "PUT");
    s->status = 302;
    assert_true(step(s) > 0);
    assert_int_equal(s->count, 1);
    assert_int_equal(deliveries(s, "pending"), 1);
    assert_non_null(strstr(fixture_str(s->f, "deliveries.0.problem"), "302"));
}

static void nobody_listens(void **state)
{
    struct site *s = *state;
    fixture_import(s->f, "a", "haswell");
    create_to(s, "http://127.0.0.1:1/hook", NULL);
    shake(s, "PUT");
    assert_true(step(s) > 0);
    assert_int_equal(deliveries(s, "pending"), 1);
    assert_non_null(strstr(fixture_str(s->f, "deliveries.0.problem"), "cannot reach"));
}

static void what_is_removed_is_told_nothing(void **state)
{
    struct site *s = *state;
    fixture_import(s->f, "a", "haswell");
    create(s, NULL);
    shake(s, "PUT");
    autofree char *path = xasprintf("/v1/webhooks/%s", s->id);
    autofree char *list = xasprintf("/v1/webhooks/%s/deliveries", s->id);
    call_expect(s->f, s->f->operator_token, "DELETE", path, NULL, 204);
    call_expect(s->f, s->f->operator_token, "DELETE", path, NULL, 404);
    call_expect(s->f, s->f->operator_token, "GET", list, NULL, 404);
    shake(s, "DELETE");
    call_expect(s->f, s->f->operator_token, "GET", "/v1/webhooks", NULL, 200);
    assert_int_equal(json_array_size(fixture_member(s->f, "webhooks")), 0);
}

static void what_is_wrong_is_named(void **state)
{
    struct site *s = *state;
    static const struct {
        const char *body, *said;
    } bad[] = {
        {"{}",                                                 "url"      },
        {"{\"url\":\"ftp://h/\"}",                             "url"      },
        {"{\"url\":\"file:///etc/passwd\"}",                   "url"      },
        {"{\"url\":\"https://\"}",                             "url"      },
        {"{\"url\":\"https:///path\"}",                        "url"      },
        {"{\"url\":\"https://user:word@h/\"}",                 "user"     },
        {"{\"url\":\"https://h/a b\"}",                        "url"      },
        {"{\"url\":\"https://h/\\r\\nX: y\"}",                 "url"      },
        {"{\"url\":\"https://h/#f\"}",                         "fragment" },
        {"{\"url\":\"https://h/\",\"secret\":\"short\"}",      "secret"   },
        {"{\"url\":\"https://h/\",\"events\":[]}",             "events"   },
        {"{\"url\":\"https://h/\",\"events\":[\"birthday\"]}", "birthday" },
        {"{\"url\":\"https://h/\",\"events\":[3]}",            "events[0]"},
        {"{\"url\":\"https://h/\",\"events\":\"migration\"}",  "events"   },
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        call_expect(s->f, s->f->operator_token, "POST", "/v1/webhooks", bad[i].body, 400);
        if (!strstr(fixture_error(s->f), bad[i].said))
            fail_msg("'%s' does not say '%s'", fixture_error(s->f), bad[i].said);
    }
    create(s, NULL);
    autofree char *path = xasprintf("/v1/webhooks/%s/deliveries", s->id);
    call_expect(s->f, s->f->viewer_token, "GET", path, NULL, 403);
    for (int i = 1; i < WEBHOOKS_MAX; i++)
        call_expect(s->f, s->f->operator_token, "POST", "/v1/webhooks",
                    "{\"url\":\"https://h?q=1\"}", 201);
    assert_int_equal(strlen(fixture_str(s->f, "secret")), 64);
    call_expect(s->f, s->f->operator_token, "POST", "/v1/webhooks", "{\"url\":\"https://h/\"}",
                409);
}

/* The deliveries cannot be written: the change is not made. */
static void no_change_without_its_deliveries(void **state)
{
    struct site *s = *state;
    sqlite3 *db = NULL;
    autofree char *path = xasprintf("%s/broker.db", s->f->dir);
    fixture_import(s->f, "a", "haswell");
    create(s, NULL);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db,
                                  "CREATE TRIGGER full BEFORE INSERT ON webhook_delivery BEGIN "
                                  "SELECT RAISE(ABORT, 'full'); END",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(db);
    call_expect(s->f, s->f->operator_token, "PUT", "/v1/pools/default/nodes/a", NULL, 500);
    call_expect(s->f, s->f->viewer_token, "GET", "/v1/events", NULL, 200);
    assert_int_equal(json_array_size(fixture_member(s->f, "events")), 0);
}

static bool came(struct site *s, unsigned count)
{
    pthread_mutex_lock(&s->lock);
    bool yes = s->count >= count;
    pthread_mutex_unlock(&s->lock);
    return yes;
}

/* One receiver takes the connection and never answers: the other hears at once, the broker goes
 * on, and its end cuts the call short. */
static void a_dead_receiver_delays_nobody(void **state)
{
    struct site *s = *state;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    autoclose int mute = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(mute, (struct sockaddr *)&address, length), 0);
    assert_int_equal(listen(mute, 8), 0);
    assert_int_equal(getsockname(mute, (struct sockaddr *)&address, &length), 0);
    autofree char *url = xasprintf("http://127.0.0.1:%u/hook", ntohs(address.sin_port));
    fixture_import(s->f, "a", "haswell");
    create_to(s, url, NULL);
    char mute_id[32];
    memcpy(mute_id, s->id, sizeof(mute_id));
    assert_int_equal(webhooks_start(s->f->broker->webhooks, NULL), 0);
    create(s, NULL); /* gets a thread at once */
    int64_t began_ms = fixture_now_ms();
    shake(s, "PUT");
    shake(s, "DELETE");
    while (!came(s, 2) && fixture_now_ms() - began_ms < 8000)
        fixture_sleep_ms(5);
    assert_true(came(s, 2));
    assert_true(fixture_now_ms() - began_ms < 4000);
    began_ms = fixture_now_ms();
    fixture_restart(s->f);
    assert_true(fixture_now_ms() - began_ms < 4000);
    call_expect(s->f, s->f->operator_token, "GET", "/v1/webhooks", NULL, 200);
    assert_int_equal(fixture_int(s->f, "webhooks.0.pending") +
                         fixture_int(s->f, "webhooks.1.pending"),
                     2); /* nothing is lost */
    assert_int_equal(deliveries(s, "pending") + deliveries(s, "delivered"), 2);
    snprintf(s->id, sizeof(s->id), "%s", mute_id);
    assert_int_equal(deliveries(s, "pending"), 2);
    assert_int_equal(fixture_int(s->f, "deliveries.1.tries"), 0); /* cut short is not a try */
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_sent_is_signed),           TEST(only_what_was_asked_for),
        TEST(a_migration_tells_its_phases),     TEST(failures_are_tried_again),
        TEST(given_up_after_so_many),           TEST(given_up_after_a_day),
        TEST(redirections_are_not_followed),    TEST(nobody_listens),
        TEST(what_is_removed_is_told_nothing),  TEST(what_is_wrong_is_named),
        TEST(no_change_without_its_deliveries), TEST(a_dead_receiver_delays_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
