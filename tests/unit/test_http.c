/* SPDX-License-Identifier: Apache-2.0 */
/* test_http.c - the server over real sockets: routes, roles, limits, refusals, the Unix socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <stdatomic.h>
#include <sys/un.h>

#include "http_fixture.h"

#define BODY_MAX 4096

static int echo(struct http_request *req, struct http_reply *reply, struct error *err)
{
    (void)err;
    json_object *o = json_object_new_object();
    json_put_str(o, "name", http_request_param(req, "name"));
    json_put_str(o, "query", http_request_query(req, "q"));
    json_put_int(o, "bytes", (int64_t)req->body_length);
    json_put_bool(o, "ended", req->body[req->body_length] == '\0');
    json_put_str(o, "principal", req->principal.name);
    json_put_str(o, "peer", req->peer);
    json_put_int(o, "uid", req->peer_uid);
    json_put_int(o, "pid", req->peer_pid);
    http_reply_json(reply, 200, o);
    return 0;
}

static int take_object(struct http_request *req, struct http_reply *reply, struct error *err)
{
    json_object *o = NULL;
    if (http_request_json(req, &o, err) < 0)
        return -1;
    http_reply_json(reply, 201, o);
    reply->location = xstrdup("/v1/things/1");
    return 0;
}

static int fail_busy(struct http_request *req, struct http_reply *reply, struct error *err)
{
    (void)req;
    http_reply_text(reply, 200, "text/plain", xstrdup("half done")); /* must not leak */
    return error_set(err, ERROR_BUSY, "the broken \xff\xfe byte of '%s'", req->method);
}

static int query_number(struct http_request *req, struct http_reply *reply, struct error *err)
{
    uint64_t n = 0;
    if (http_request_query_u64(req, "n", 1, 100, 7, &n, err) < 0)
        return -1;
    json_object *o = json_object_new_object();
    json_put_int(o, "n", (int64_t)n);
    http_reply_json(reply, 200, o);
    return 0;
}

static int metrics(struct http_request *req, struct http_reply *reply, struct error *err)
{
    (void)req;
    (void)err;
    http_reply_text(reply, 200, "text/plain; version=0.0.4", xstrdup("up 1\n"));
    return 0;
}

static int nothing(struct http_request *req, struct http_reply *reply, struct error *err)
{
    (void)req;
    (void)err;
    reply->status = 204;
    return 0;
}

static const struct http_route routes[] = {
    {"GET",           "/open", 0, 0, echo, NULL, ""},
    {"GET",              "/v1/echo/{name}", FIXTURE_READER, 0, echo, NULL, ""},
    {"PUT",           "/v1/echo/{name}", FIXTURE_READER, BODY_MAX, echo, NULL, ""},
    {"DELETE",             "/v1/echo/{name}", FIXTURE_WRITER, 0, echo, NULL, ""},
    {"POST",           "/v1/things", FIXTURE_READER, BODY_MAX, take_object, NULL, ""},
    {"GET", "/busy", 0, 0, fail_busy, NULL, ""},
    {"GET",           "/number", 0, 0, query_number, NULL, ""},
    {"GET",             "/metrics", 0, 0, metrics, NULL, ""},
    {"DELETE",           "/nothing", 0, 0, nothing, NULL, ""},
    {0},
};

static atomic_int observed[600];

static void observe(void *ctx, const struct http_route *route, unsigned status, int64_t duration_us)
{
    (void)ctx;
    (void)route;
    if (status < 600 && duration_us >= 0)
        atomic_fetch_add(&observed[status], 1);
}

static struct http_server *start(unsigned connections_max, unsigned idle_timeout_s)
{
    struct http_config config = {.listen = "127.0.0.1:0",
                                 .routes = routes,
                                 .authenticate = fixture_authenticate,
                                 .observe = observe,
                                 .connections_max = connections_max,
                                 .idle_timeout_s = idle_timeout_s};
    struct http_server *server = NULL;
    struct error err = {0};
    if (http_server_start(&config, &server, &err) < 0)
        fail_msg("%s", err.message);
    return server;
}

#define AUTH "Authorization: Bearer " FIXTURE_TOKEN "\r\n"

static const struct {
    const char *request; /* what goes out */
    const char *status;  /* how the answer begins */
    const char *has;     /* and what else it holds */
} exchanges[] = {
    {"GET /open HTTP/1.1\r\nHost: x\r\n\r\n",                                                "HTTP/1.1 200 ", "\"peer\":\"127.0.0.1\""        },
    {"GET /nope HTTP/1.1\r\nHost: x\r\n\r\n",                                                "HTTP/1.1 404 ", "\"code\":\"not_found\""        },
    {"GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n",                                                 "HTTP/1.1 404 ", "\"code\":\"not_found\""        },
    {"PATCH /open HTTP/1.1\r\nHost: x\r\n\r\n",                                              "HTTP/1.1 405 ", "\r\nAllow: GET, HEAD\r\n"      },
    {"POST /v1/echo/a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",                   "HTTP/1.1 405 ",
     "\r\nAllow: GET, HEAD, PUT, DELETE\r\n"                                                                                                  },
    {"GET /v1/echo/a HTTP/1.1\r\nHost: x\r\n\r\n",                                           "HTTP/1.1 401 ",
     "\r\nWWW-Authenticate: Bearer\r\n"                                                                                                       },
    {"GET /v1/echo/a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer no\r\n\r\n",               "HTTP/1.1 401 ",
     "\"code\":\"unauthenticated\""                                                                                                           },
    {"DELETE /v1/echo/a HTTP/1.1\r\nHost: x\r\n" AUTH "\r\n",                                "HTTP/1.1 403 ",
     "'t-1' has not the role"                                                                                                                 },
    {"GET /v1/echo/a%2Fb%20c?q=%41+b&x HTTP/1.1\r\nHost: x\r\n" AUTH "\r\n",                 "HTTP/1.1 200 ",
     "{\"name\":\"a/b c\",\"query\":\"A b\","                                                                                                 },
    {"GET /v1/echo/%zz HTTP/1.1\r\nHost: x\r\n" AUTH "\r\n",                                 "HTTP/1.1 400 ", "broken %-escape"               },
    {"GET /v1/echo/a%00b HTTP/1.1\r\nHost: x\r\n" AUTH "\r\n",                               "HTTP/1.1 400 ", "broken %-escape"               },
    {"PUT /v1/echo/a HTTP/1.1\r\nHost: x\r\n" AUTH "Content-Length: 3\r\n\r\nabc",           "HTTP/1.1 200 ",
     "\"bytes\":3,\"ended\":true"                                                                                                             },
    {"PUT /v1/echo/a HTTP/1.1\r\nHost: x\r\n" AUTH
     "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",              "HTTP/1.1 200 ", "\"bytes\":5,\"ended\":true"    },
    {"PUT /v1/echo/a HTTP/1.1\r\nHost: x\r\n" AUTH "\r\n",                                   "HTTP/1.1 200 ",
     "\"bytes\":0,\"ended\":true"                                                                                                             },
    {"PUT /v1/echo/a HTTP/1.1\r\nHost: x\r\n" AUTH
     "Content-Length: 4097\r\nExpect: 100-continue\r\n\r\n",                            "HTTP/1.1 100 ", ""                              },
    {"PUT /v1/echo/a HTTP/1.1\r\nHost: x\r\n" AUTH
     "Content-Length: 70000\r\nExpect: 100-continue\r\n\r\n",                           "HTTP/1.1 413 ", "takes 4096 bytes"              },
    {"PUT /v1/echo/a HTTP/1.1\r\nHost: x\r\n" AUTH "Content-Length: 99999999999999\r\n\r\n",
     "HTTP/1.1 413 ",                                                                                         "\"code\":\"too_large\""        },
    {"GET /open HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",                        "HTTP/1.1 413 ",
     "takes no body"                                                                                                                          },
    {"PUT /v1/echo/a HTTP/1.1\r\nHost: x\r\n" AUTH
     "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",    "HTTP/1.1 400 ", ""                              },
    {"PUT /v1/echo/a HTTP/1.1\r\nHost: x\r\n" AUTH "Content-Length: 3x\r\n\r\nabc",          "HTTP/1.1 400 ",
     ""                                                                                                                                       },
    {"PUT /v1/echo/a HTTP/1.1\r\nHost: x\r\n" AUTH "Content-Length: -3\r\n\r\nabc",          "HTTP/1.1 400 ",
     ""                                                                                                                                       },
    {"POST /v1/things HTTP/1.1\r\nHost: x\r\n" AUTH "Content-Length: 7\r\n\r\n{\"a\":1}",
     "HTTP/1.1 201 ",                                                                                         "\r\nLocation: /v1/things/1\r\n"},
    {"POST /v1/things HTTP/1.1\r\nHost: x\r\n" AUTH "Content-Length: 2\r\n\r\n[]",           "HTTP/1.1 400 ",
     "body: expected an object, not array"                                                                                                    },
    {"POST /v1/things HTTP/1.1\r\nHost: x\r\n" AUTH "Content-Length: 2\r\n\r\n{\"",          "HTTP/1.1 400 ",
     "not valid JSON"                                                                                                                         },
    {"POST /v1/things HTTP/1.1\r\nHost: x\r\n" AUTH "Content-Length: 0\r\n\r\n",             "HTTP/1.1 400 ",
     "the body is empty"                                                                                                                      },
    {"GET /busy HTTP/1.1\r\nHost: x\r\n\r\n",                                                "HTTP/1.1 503 ", "\r\nRetry-After: 1\r\n"        },
    {"GET /busy HTTP/1.1\r\nHost: x\r\n\r\n",                                                "HTTP/1.1 503 ",
     "\"message\":\"the broken ?? byte of 'GET'\""                                                                                            },
    {"GET /number HTTP/1.1\r\nHost: x\r\n\r\n",                                              "HTTP/1.1 200 ", "{\"n\":7}"                     },
    {"GET /number?n=100 HTTP/1.1\r\nHost: x\r\n\r\n",                                        "HTTP/1.1 200 ", "{\"n\":100}"                   },
    {"GET /number?n=101 HTTP/1.1\r\nHost: x\r\n\r\n",                                        "HTTP/1.1 400 ",
     "n: expected an integer 1..100, not '101'"                                                                                               },
    {"GET /number?n=-1 HTTP/1.1\r\nHost: x\r\n\r\n",                                         "HTTP/1.1 400 ", "not '-1'"                      },
    {"GET /number?n= HTTP/1.1\r\nHost: x\r\n\r\n",                                           "HTTP/1.1 400 ", "n: expected an integer"        },
    {"GET /number?n=99999999999999999999 HTTP/1.1\r\nHost: x\r\n\r\n",                       "HTTP/1.1 400 ",
     "n: expected an integer"                                                                                                                 },
    {"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",                                             "HTTP/1.1 200 ",
     "\r\nContent-Type: text/plain; version=0.0.4\r\n"                                                                                        },
    {"DELETE /nothing HTTP/1.1\r\nHost: x\r\n\r\n",                                          "HTTP/1.1 204 ", ""                              },
    {"GET /open HTTP/9.9\r\nHost: x\r\n\r\n",                                                "HTTP/1.1 505 ", ""                              },
};

static void requests_get_their_answers(void **state)
{
    (void)state;
    AUTO(http_server) server = start(0, 0);
    for (size_t i = 0; i < ARRAY_LEN(exchanges); i++) {
        const char *until = *exchanges[i].has ? exchanges[i].has : "\r\n\r\n";
        autofree char *answer = fixture_exchange(server, exchanges[i].request, until);
        if (strncmp(answer, exchanges[i].status, strlen(exchanges[i].status)) != 0 ||
            !strstr(answer, exchanges[i].has))
            fail_msg("%s\n--- expected %s... %s, got\n%s", exchanges[i].request,
                     exchanges[i].status, exchanges[i].has, answer);
    }
    assert_true(observed[200] > 0 && observed[401] == 2 && observed[403] == 1);
}

static void head_is_get_without_the_body(void **state)
{
    (void)state;
    AUTO(http_server) server = start(0, 0);
    autofree char *answer = fixture_exchange(
        server, "HEAD /open HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", NULL);
    assert_non_null(strstr(answer, "HTTP/1.1 200 "));
    assert_non_null(strstr(answer, "Content-Length: "));
    assert_null(strchr(answer, '{'));
}

/* Every error is {"error":{"code","message"}} and leaves the connection as it was. */
static void small_refusals_keep_the_connection(void **state)
{
    (void)state;
    AUTO(http_server) server = start(0, 0);
    autoclose int fd = fixture_connect(server);
    static const char *const requests[] = {
        "GET /nope HTTP/1.1\r\nHost: x\r\n\r\n",
        "PUT /v1/echo/a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789",
        "PUT /open HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789",
    };
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        fixture_send(fd, requests[i]);
        autofree char *answer = fixture_read(fd, "}}");
        assert_non_null(strstr(answer, "{\"error\":{\"code\":\""));
    }
    fixture_send(fd, "GET /open HTTP/1.1\r\nHost: x\r\n\r\n");
    autofree char *answer = fixture_read(fd, "}");
    assert_non_null(strstr(answer, "HTTP/1.1 200 "));
}

/* Sends chunks until the server says something, and returns what it says. */
static char *send_without_end(struct http_server *server, const char *head, size_t *ret_sent)
{
    autoclose int fd = fixture_connect(server);
    fixture_send(fd, head);
    autofree char *chunk = xmalloc(0x10000 + 16);
    memset(chunk, 'x', 0x10000 + 16);
    memcpy(chunk, "10000\r\n", 7);
    memcpy(chunk + 7 + 0x10000, "\r\n", 2);
    for (*ret_sent = 0; *ret_sent < 64UL * 1024 * 1024; *ret_sent += 0x10000) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        if (poll(&ready, 1, 0) > 0)
            break;
        if (send(fd, chunk, 0x10000 + 9, MSG_NOSIGNAL) < 0)
            break;
    }
    return fixture_read(fd, "}}");
}

static void a_body_without_end_is_told_why_it_is_refused(void **state)
{
    (void)state;
    AUTO(http_server) server = start(0, 0);
    static const struct {
        const char *head, *status;
    } heads[] = {
        {"PUT /v1/echo/a HTTP/1.1\r\nHost: x\r\n" AUTH "Transfer-Encoding: chunked\r\n\r\n",
         "HTTP/1.1 413 "                                                                                    },
        {"PUT /v1/echo/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
         "HTTP/1.1 401 "                                                                                    },
        {"PUT /nope HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",              "HTTP/1.1 404 "},
        {"PUT /open HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",              "HTTP/1.1 405 "},
    };
    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        size_t sent = 0;
        autofree char *answer = send_without_end(server, heads[i].head, &sent);
        if (strncmp(answer, heads[i].status, strlen(heads[i].status)) != 0)
            fail_msg("expected %s, got: %s", heads[i].status, answer);
        assert_non_null(strstr(answer, "Connection: close\r\n"));
        assert_true(sent < 32UL * 1024 * 1024);
    }
}

static void bodies_up_to_the_limit_are_taken(void **state)
{
    (void)state;
    AUTO(http_server) server = start(0, 0);
    AUTO(client) client = fixture_client(server);
    for (int more = 0; more <= 1; more++) {
        char value[BODY_MAX];
        memset(value, 'v', sizeof(value));
        value[BODY_MAX - 8 + more] = '\0'; /* {"a":"…"} adds eight bytes */
        autojson *body = json_object_new_object(), *reply = NULL;
        json_put_str(body, "a", value);
        struct error err = {0};
        int rc = client_request(client, "POST", "/v1/things", body, &reply, &err);
        assert_int_equal(rc, more ? -1 : 0);
        if (more)
            assert_int_equal(err.kind, ERROR_TOO_LARGE);
        else
            assert_string_equal(json_str(reply, "a"), value);
    }
}

static void silent_connections_are_closed(void **state)
{
    (void)state;
    AUTO(http_server) server = start(0, 1);
    autoclose int fd = fixture_connect(server);
    fixture_send(fd, "GET /open HTTP/1.1\r\nHo");
    int64_t begin_ms = fixture_now_ms();
    autofree char *answer = fixture_read(fd, NULL);
    assert_in_range(fixture_now_ms() - begin_ms, 500, 4000);
    assert_null(strstr(answer, "200"));
}

static void connections_are_counted(void **state)
{
    (void)state;
    AUTO(http_server) server = start(4, 0);
    int fds[4];
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        fds[i] = fixture_connect(server);
        fixture_send(fds[i], "GET /open HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    fixture_sleep_ms(100);
    autoclose int one_more = fixture_connect(server);
    fixture_send(one_more, "GET /open HTTP/1.1\r\nHost: x\r\n\r\n");
    struct pollfd ready = {.fd = one_more, .events = POLLIN};
    char byte;
    /* Not accepted, or accepted and closed; but not answered. */
    if (poll(&ready, 1, 300) > 0)
        assert_true(recv(one_more, &byte, 1, 0) <= 0);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        close(fds[i]);
}

static void a_unix_socket_tells_who_asks(void **state)
{
    (void)state;
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(at.sun_path, sizeof(at.sun_path), "/tmp/cpubroker-test-%d.sock", (int)getpid());
    unlink(at.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    for (int threads = 0; threads <= 1; threads++) {
        struct http_config config = {.listen_fd = dup(fd),
                                     .routes = routes,
                                     .authenticate = fixture_authenticate,
                                     .thread_per_connection = threads};
        struct http_server *server = NULL;
        struct error err = {0};
        assert_int_equal(http_server_start(&config, &server, &err), 0);
        assert_string_equal(http_server_address(server), at.sun_path);
        struct client *client = fixture_client_to("http://localhost", at.sun_path);
        autojson *reply = NULL;
        if (client_request(client, "GET", "/v1/echo/a", NULL, &reply, &err) < 0)
            fail_msg("%s", err.message);
        assert_int_equal(json_int(reply, "uid"), getuid());
        assert_int_equal(json_int(reply, "pid"), getpid());
        assert_string_equal(json_str(reply, "peer"), "");
        client_free(client);
        http_server_free(server);
    }
    close(fd);
    unlink(at.sun_path);
}

static void bad_configurations_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *listen, *cert, *key, *ca;
        enum error_kind kind;
        const char *has;
    } bad[] = {
        {"127.0.0.1",               NULL,               NULL,            NULL, ERROR_INVALID, "expected HOST:PORT"               },
        {"127.0.0.1:",              NULL,               NULL,            NULL, ERROR_INVALID, "expected HOST:PORT"               },
        {":80",                     NULL,               NULL,            NULL, ERROR_INVALID, "expected HOST:PORT"               },
        {"::1:80",                  NULL,               NULL,            NULL, ERROR_INVALID, "expected HOST:PORT"               },
        {"127.0.0.1:99999",         NULL,               NULL,            NULL, ERROR_INVALID, "127.0.0.1:99999"                  },
        {"127.0.0.1:80x",           NULL,               NULL,            NULL, ERROR_INVALID, "expected HOST:PORT"               },
        {"no.such.host.invalid:80", NULL,               NULL,            NULL, ERROR_INVALID, "no.such.host.invalid"             },
        {"192.0.2.1:80",            NULL,               NULL,            NULL, ERROR_FAILED,  "cannot listen on 192.0.2.1:80"    },
        {"127.0.0.1:0",             "/nonexistent.pem", NULL,            NULL, ERROR_INVALID, "only one of them"                 },
        {"127.0.0.1:0",             "/nonexistent.pem", "/x",            NULL, ERROR_INVALID, "/nonexistent.pem"                 },
        {"127.0.0.1:0",             "/etc/hostname",    "/etc/hostname", NULL, ERROR_INVALID, "cannot be used"                   },
        {"127.0.0.1:0",             NULL,               NULL,            "/x", ERROR_INVALID, "client certificates are asked for"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct http_config config = {.listen = bad[i].listen,
                                     .tls_cert_file = bad[i].cert,
                                     .tls_key_file = bad[i].key,
                                     .tls_client_ca_file = bad[i].ca,
                                     .routes = routes};
        struct http_server *server = NULL;
        struct error err = {0};
        assert_int_equal(http_server_start(&config, &server, &err), -1);
        assert_null(server);
        if (err.kind != bad[i].kind || !strstr(err.message, bad[i].has))
            fail_msg("%s: got %s: %s", bad[i].listen, error_code(err.kind), err.message);
    }
}

static void a_port_is_taken_once_and_free_afterwards(void **state)
{
    (void)state;
    struct http_server *first = start(0, 0), *second = NULL;
    autofree char *address = xstrdup(http_server_address(first));
    struct http_config config = {.listen = address, .routes = routes};
    struct error err = {0};
    assert_int_equal(http_server_start(&config, &second, &err), -1);
    assert_int_equal(err.kind, ERROR_FAILED);
    http_server_free(first);
    assert_int_equal(http_server_start(&config, &second, &err), 0);
    http_server_free(second);
}

static void it_speaks_ipv6(void **state)
{
    (void)state;
    struct http_config config = {
        .listen = "[::1]:0", .routes = routes, .authenticate = fixture_authenticate};
    struct error err = {0};
    AUTO(http_server) server = NULL;
    if (http_server_start(&config, &server, &err) < 0) {
        assert_non_null(strstr(err.message, "::1")); /* a machine without IPv6 says so */
        return;
    }
    AUTO(client) client = fixture_client(server);
    autojson *reply = NULL;
    assert_int_equal(client_request(client, "GET", "/open", NULL, &reply, &err), 0);
    assert_string_equal(json_str(reply, "peer"), "::1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_get_their_answers),
        cmocka_unit_test(head_is_get_without_the_body),
        cmocka_unit_test(small_refusals_keep_the_connection),
        cmocka_unit_test(a_body_without_end_is_told_why_it_is_refused),
        cmocka_unit_test(bodies_up_to_the_limit_are_taken),
        cmocka_unit_test(silent_connections_are_closed),
        cmocka_unit_test(connections_are_counted),
        cmocka_unit_test(a_unix_socket_tells_who_asks),
        cmocka_unit_test(bad_configurations_are_named),
        cmocka_unit_test(a_port_is_taken_once_and_free_afterwards),
        cmocka_unit_test(it_speaks_ipv6),
    };
    return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}
