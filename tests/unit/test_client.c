/* SPDX-License-Identifier: Apache-2.0 */
/* test_client.c - the client against a server that says what the test wants, and against none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <pthread.h>

#include "client_sse.h"
#include "http_fixture.h"

/* Answers every connection with `reply`, as often as connections come, then closes it. */
struct script {
    const char *reply;
    size_t repeat_last; /* sends the last 64 KiB-ish again and again, for replies without end */
    unsigned delay_ms;  /* before the answer */
    int fd;
    char url[64];
    char request[4096]; /* what came last */
    pthread_t thread;
};

static void *answer(void *arg)
{
    struct script *s = arg;
    int fd;
    while ((fd = accept(s->fd, NULL, NULL)) >= 0) {
        autofree char *request = fixture_read(fd, "\r\n\r\n");
        snprintf(s->request, sizeof(s->request), "%s", request);
        fixture_sleep_ms(s->delay_ms);
        fixture_send(fd, s->reply);
        for (size_t i = 0; i < s->repeat_last; i++) {
            char filler[16384];
            memset(filler, ' ', sizeof(filler));
            if (send(fd, filler, sizeof(filler), MSG_NOSIGNAL) < 0)
                break;
        }
        close(fd);
    }
    return NULL;
}

static void script_start(struct script *s)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(at);
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(s->fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(s->fd, 8), 0);
    assert_int_equal(getsockname(s->fd, (struct sockaddr *)&at, &length), 0);
    snprintf(s->url, sizeof(s->url), "http://127.0.0.1:%u", ntohs(at.sin_port));
    assert_int_equal(pthread_create(&s->thread, NULL, answer, s), 0);
}

static void script_stop(struct script *s)
{
    shutdown(s->fd, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->fd);
}

#define JSON(status, text) \
    "HTTP/1.1 " status "\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" text

static const struct {
    const char *reply;
    enum error_kind kind; /* NONE: success */
    const char *has;      /* in the message, or the reply's "a" */
} replies[] = {
    {JSON("200 OK",                                                     "{\"a\":\"b\"}"),                                                   ERROR_NONE,"b"},
    {JSON("204 No Content",                                                                 ""),                                                                                                               ERROR_NONE,""},
    {JSON("404 Not Found",                                                               "{\"error\":{\"code\":\"not_found\",\"message\":\"no node 'x'\"}}"),
     ERROR_NOT_FOUND,                                                                   "no node 'x'"},
    {JSON("409 Conflict",                                                   "{\"error\":{\"code\":\"conflict\",\"message\":\"taken\"}}"),
     ERROR_CONFLICT,"taken"},
    {JSON("409 Conflict","{\"verdict\":\"reject\",\"reasons\":[{\"message\":\"lacks avx2\"}]}"),
     ERROR_REJECTED,                                                                            "lacks avx2"},
    {JSON("409 Conflict",                                               "{\"verdict\":\"reject\",\"reasons\":[]}"),                                                                                         ERROR_REJECTED,""},
    {JSON("403 Forbidden",                                                                 "{\"error\":{\"code\":\"code_of_tomorrow\",\"message\":\"m\"}}"),
     ERROR_FORBIDDEN,"m"},
    {JSON("418 Teapot",                                                               "{\"error\":{\"code\":\"code_of_tomorrow\",\"message\":\"m\"}}"),
     ERROR_INVALID,"m"},
    {JSON("507 Full",                                                   "{}"),                                                                                                                  ERROR_INTERNAL,                                                                                          "answered 507 without saying why"},
    {JSON("401 Unauthorized",""),                                                                                                                         ERROR_UNAUTHENTICATED,"answered 401"},
    {JSON("500 Oops",                                                   "{\"error\":{\"code\":\"internal\",\"message\":\"a\\u001b[31m\\nb\"}}"),
     ERROR_INTERNAL,"a [31m b"},
    {JSON("500 Oops",                                                                 "{\"error\":{\"code\":\"none\",\"message\":\"m\"}}"),                                                                                                             ERROR_INTERNAL, "m"},
    {JSON("500 Oops",                                                   "{\"error\":\"flat\"}"),                                                                                                                     ERROR_INTERNAL,"answered 500"},
    {JSON("200 OK",                                                    "<html>hello</html>"),                                                                                                            ERROR_UPSTREAM,                                                                                                                                                                              "something else than JSON"},
    {JSON("200 OK","{\"a\":\"b\"}}"),ERROR_UPSTREAM,"something else than JSON"},
    {"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",                                                   ERROR_NONE,
     ""},
    {"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"a\":",                                                                 ERROR_UNREACHABLE,                                                                                                                       ""},
    {"",                                       ERROR_UNREACHABLE,                                                                                                         ""},
    {"SSH-2.0-OpenSSH_9.2\r\n",                                                   ERROR_UPSTREAM,                                                                                                                                                                                                       "does not speak HTTP"                                                                                                                                                                                                                                                                                                                     },
};

static void replies_become_results(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(replies); i++) {
        struct script script = {.reply = replies[i].reply};
        script_start(&script);
        struct client *client = fixture_client_to(script.url, NULL);
        autojson *reply = NULL;
        struct error err = {0};
        int rc = client_request(client, "GET", "/x", NULL, &reply, &err);
        if (rc != (replies[i].kind == ERROR_NONE ? 0 : -1) || err.kind != replies[i].kind ||
            !strstr(rc == 0 ? json_str(reply, "a") : err.message, replies[i].has))
            fail_msg("%s\n--- gave %d, %s: %s", replies[i].reply, rc, error_code(err.kind),
                     err.message);
        client_free(client);
        script_stop(&script);
    }
}

static void a_verdict_comes_with_its_error(void **state)
{
    (void)state;
    struct script script = {.reply =
                                JSON("409 Conflict", "{\"verdict\":\"reject\",\"reasons\":[]}")};
    script_start(&script);
    struct client *client = fixture_client_to(script.url, NULL);
    autojson *reply = NULL;
    struct error err = {0};
    assert_int_equal(client_request(client, "POST", "/migrate", NULL, &reply, &err), -1);
    assert_string_equal(json_str(reply, "verdict"), "reject");
    unsigned status = 0;
    autojson *again = NULL;
    assert_int_equal(client_call(client, "POST", "/migrate", NULL, &status, &again, &err), 0);
    assert_int_equal(status, 409);
    assert_string_equal(json_str(again, "verdict"), "reject");
    client_free(client);
    script_stop(&script);
}

static void requests_say_who_asks(void **state)
{
    (void)state;
    struct script script = {.reply = JSON("200 OK", "{}")};
    script_start(&script);
    struct client_config config = {.base_url = script.url, .token = "abc", .node = "node-a"};
    struct client *client = NULL;
    struct error err = {0};
    assert_int_equal(client_new(&config, &client, &err), 0);
    autojson *body = json_object_new_object();
    json_put_str(body, "k", "v");
    assert_int_equal(client_request(client, "PUT", "/p%20q?r=s", body, NULL, &err), 0);
    client_free(client);
    script_stop(&script);
    assert_true(strncmp(script.request, "PUT /p%20q?r=s HTTP/1.1\r\n", 25) == 0);
    assert_non_null(strstr(script.request, "\r\nAuthorization: Bearer abc\r\n"));
    assert_non_null(strstr(script.request, "\r\nX-Cpubroker-Node: node-a\r\n"));
    assert_non_null(strstr(script.request, "\r\nContent-Type: application/json\r\n"));
    assert_non_null(strstr(script.request, "\r\nContent-Length: 9\r\n"));
    assert_null(strstr(script.request, "Expect"));
}

static void replies_without_end_are_cut(void **state)
{
    (void)state;
    struct script script = {.reply = JSON("200 OK", "{"), .repeat_last = 100000};
    script_start(&script);
    struct client *client = fixture_client_to(script.url, NULL);
    struct error err = {0};
    assert_int_equal(client_request(client, "GET", "/", NULL, NULL, &err), -1);
    assert_int_equal(err.kind, ERROR_UPSTREAM);
    assert_non_null(strstr(err.message, "larger than"));
    client_free(client);
    script_stop(&script);
}

static void silence_is_a_timeout(void **state)
{
    (void)state;
    struct script script = {.reply = JSON("200 OK", "{}"), .delay_ms = 1500};
    script_start(&script);
    struct client *client = fixture_client_to(script.url, NULL);
    struct error err = {0};
    int64_t begin_ms = fixture_now_ms();
    assert_int_equal(client_request_timed(client, "GET", "/", NULL, 200, NULL, &err), -1);
    assert_int_equal(err.kind, ERROR_TIMEOUT);
    assert_in_range(fixture_now_ms() - begin_ms, 190, 1200);
    client_free(client);
    script_stop(&script);
}

static void *interrupt_soon(void *arg)
{
    fixture_sleep_ms(150);
    client_interrupt(arg);
    return NULL;
}

static void a_call_can_be_interrupted(void **state)
{
    (void)state;
    struct script script = {.reply = JSON("200 OK", "{}"), .delay_ms = 3000};
    script_start(&script);
    struct client *client = fixture_client_to(script.url, NULL);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, interrupt_soon, client), 0);
    struct error err = {0};
    int64_t begin_ms = fixture_now_ms();
    assert_int_equal(client_request(client, "GET", "/", NULL, NULL, &err), -1);
    assert_int_equal(err.kind, ERROR_TIMEOUT);
    assert_true(fixture_now_ms() - begin_ms < 1500);
    pthread_join(thread, NULL);
    client_free(client);
    script_stop(&script);
}

static void nobody_there_is_unreachable(void **state)
{
    (void)state;
    static const struct {
        const char *url, *unix_socket;
    } nowhere[] = {
        {"http://127.0.0.1:1",             NULL                     },
        {"http://no-such-host.invalid:80", NULL                     },
        {"http://localhost",               "/nonexistent/agent.sock"},
        {"https://127.0.0.1:1",            NULL                     },
    };
    for (size_t i = 0; i < ARRAY_LEN(nowhere); i++) {
        struct client *client = fixture_client_to(nowhere[i].url, nowhere[i].unix_socket);
        struct error err = {0};
        assert_int_equal(client_request(client, "GET", "/", NULL, NULL, &err), -1);
        if (err.kind != ERROR_UNREACHABLE ||
            !strstr(err.message, nowhere[i].unix_socket ? nowhere[i].unix_socket : nowhere[i].url))
            fail_msg("%s: %s", error_code(err.kind), err.message);
        client_free(client);
    }
}

static void bad_configurations_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *url, *token, *node;
    } bad[] = {
        {"127.0.0.1:7070",  NULL,         NULL          },
        {"ftp://127.0.0.1", NULL,         NULL          },
        {"http://",         NULL,         NULL          },
        {"http:///x",       NULL,         NULL          },
        {"http://a b",      NULL,         NULL          },
        {"http://a/?x",     NULL,         NULL          },
        {"http://a",        "two\nlines", NULL          },
        {"http://a",        "with space", NULL          },
        {"http://a",        NULL,         "x\r\nEvil: 1"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct client *client = NULL;
        struct error err = {0};
        struct client_config config = {
            .base_url = bad[i].url, .token = bad[i].token, .node = bad[i].node};
        assert_int_equal(client_new(&config, &client, &err), -1);
        assert_int_equal(err.kind, ERROR_INVALID);
        assert_null(client);
    }
}

static int hello(struct http_request *req, struct http_reply *reply, struct error *err)
{
    (void)req;
    (void)err;
    http_reply_json(reply, 200, json_object_new_object());
    return 0;
}

static const struct http_route routes[] = {
    {"GET", "/", 0, 0, hello, NULL, ""},
    {0   }
};

static void a_restart_of_the_server_goes_unnoticed(void **state)
{
    (void)state;
    struct http_config config = {.listen = "127.0.0.1:0", .routes = routes};
    struct http_server *server = NULL;
    struct error err = {0};
    assert_int_equal(http_server_start(&config, &server, &err), 0);
    autofree char *address = xstrdup(http_server_address(server));
    AUTO(client) client = fixture_client(server);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(client_request(client, "GET", "/", NULL, NULL, &err), 0);
        http_server_free(server);
        config.listen = address;
        assert_int_equal(http_server_start(&config, &server, &err), 0);
        if (client_request(client, "GET", "/", NULL, NULL, &err) < 0)
            fail_msg("%s", err.message);
    }
    http_server_free(server);
}

static void text_is_escaped_for_paths(void **state)
{
    (void)state;
    static const struct {
        const char *plain, *escaped;
    } texts[] = {
        {"node-1_a.b~", "node-1_a.b~"     },
        {"a/b c?d%",    "a%2Fb%20c%3Fd%25"},
        {"\xc3\xa9",    "%C3%A9"          },
        {"",            ""                },
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        autofree char *escaped = client_escape(texts[i].plain);
        assert_string_equal(escaped, texts[i].escaped);
    }
}

/* Events as one line each: id/name/data; */
static int note(void *ctx, const char *id, const char *name, const char *data)
{
    char *log = ctx;
    size_t used = strlen(log);
    snprintf(log + used, 256 - used, "%s/%s/%s;", id, name, data);
    return strcmp(data, "stop") == 0 ? 5 : 0;
}

static const struct {
    const char *stream, *events;
} streams[] = {
    {"data: x\n\n",                              "/message/x;"                      },
    {"id: 3\nevent: phase\ndata: {\"a\":1}\n\n", "3/phase/{\"a\":1};"               },
    {"data:x\ndata: y\n\n",                      "/message/x\ny;"                   },
    {"data:  x\n\n",                             "/message/ x;"                     },
    {"data\n\n",                                 "/message/;"                       },
    {": comment\n\ndata: x\n\n",                 "/message/x;"                      },
    {"event: e\n\ndata: x\n\n",                  "/message/x;"                      }, /* no data: no event, and the name is forgotten */
    {"id: 1\ndata: x\n\ndata: y\n\n",            "1/message/x;1/message/y;"         },
    {"data: x\r\n\r\ndata: y\r\rdata: z\n\n",    "/message/x;/message/y;/message/z;"},
    {"event: e\r\ndata: x\r\ndata: y\r\n\r\n",   "/e/x\ny;"                         },
    {"retry: 3\nwhat: ever\ndata: x\n\n",        "/message/x;"                      },
    {"data: unfinished\n",                       ""                                 },
    {"data: stop\n\ndata: x\n\n",                "/message/stop;"                   },
};

static void event_streams_are_taken_apart(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(streams); i++) {
        size_t length = strlen(streams[i].stream);
        /* However the bytes are cut, the events are the same. */
        for (size_t piece = 1; piece <= length; piece++) {
            char log[256] = "";
            struct sse sse = {.event = note, .ctx = log};
            int rc = 0;
            for (size_t at = 0; at < length && rc == 0; at += piece)
                rc = sse_feed(&sse, streams[i].stream + at,
                              length - at < piece ? length - at : piece, NULL);
            sse_done(&sse);
            assert_string_equal(log, streams[i].events);
            assert_int_equal(rc, strstr(streams[i].stream, "stop") ? 5 : 0);
        }
    }
}

static void an_event_without_end_is_cut(void **state)
{
    (void)state;
    static const char *const fillers[] = {"xxxxxxxxxxxxxxxx", "data: xxxxxxxxx\n"};
    for (size_t i = 0; i < ARRAY_LEN(fillers); i++) {
        char log[256] = "";
        struct sse sse = {.event = note, .ctx = log};
        struct error err = {0};
        int rc = 0;
        for (size_t k = 0; k < 1000000 && rc == 0; k++)
            rc = sse_feed(&sse, fillers[i], 16, &err);
        assert_int_equal(rc, -1);
        assert_int_equal(err.kind, ERROR_UPSTREAM);
        sse_done(&sse);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replies_become_results),
        cmocka_unit_test(a_verdict_comes_with_its_error),
        cmocka_unit_test(requests_say_who_asks),
        cmocka_unit_test(replies_without_end_are_cut),
        cmocka_unit_test(silence_is_a_timeout),
        cmocka_unit_test(a_call_can_be_interrupted),
        cmocka_unit_test(nobody_there_is_unreachable),
        cmocka_unit_test(bad_configurations_are_refused),
        cmocka_unit_test(a_restart_of_the_server_goes_unnoticed),
        cmocka_unit_test(text_is_escaped_for_paths),
        cmocka_unit_test(event_streams_are_taken_apart),
        cmocka_unit_test(an_event_without_end_is_cut),
    };
    return cmocka_run_group_tests_name("client", tests, NULL, NULL);
}
