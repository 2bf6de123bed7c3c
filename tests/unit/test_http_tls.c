/* SPDX-License-Identifier: Apache-2.0 */
/* test_http_tls.c - TLS on both sides, with an authority made here by certtool and thrown away. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <sys/wait.h>

#include "http_fixture.h"

static char folder[] = "/tmp/cpubroker-tls-XXXXXX";

static char *file(const char *name)
{
    return xasprintf("%s/%s", folder, name);
}

static void sh(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void sh(const char *format, ...)
{
    char command[2048];
    va_list ap;
    va_start(ap, format);
    vsnprintf(command, sizeof(command), format, ap);
    va_end(ap);
    autofree char *line = xasprintf("cd %s && { %s; } >>log 2>&1", folder, command);
    int status = system(line);
    if (status != 0) {
        fprintf(stderr, "failed (is certtool of gnutls-bin installed?): %s\n", command);
        abort();
    }
}

static void make_authority(const char *name)
{
    sh("certtool --generate-privkey --key-type ecdsa --outfile %s.key", name);
    sh("printf 'cn = %s\\nca\\ncert_signing_key\\nexpiration_days = 2\\n' > %s.template", name,
       name);
    sh("certtool --generate-self-signed --load-privkey %s.key --template %s.template --outfile "
       "%s.pem",
       name, name, name);
}

static void make_certificate(const char *authority, const char *name, const char *address)
{
    sh("certtool --generate-privkey --key-type ecdsa --outfile %s.key", name);
    sh("printf 'cn = %s\\nip_address = %s\\ntls_www_server\\ntls_www_client\\nsigning_key\\n"
       "expiration_days = 2\\n' > %s.template",
       name, address, name);
    sh("certtool --generate-certificate --load-privkey %s.key --template %s.template "
       "--load-ca-certificate %s.pem --load-ca-privkey %s.key --outfile %s.pem",
       name, name, authority, authority, name);
}

static int make_all(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    make_authority("ca");
    make_authority("other");
    make_certificate("ca", "server", "127.0.0.1");
    make_certificate("ca", "elsewhere", "192.0.2.1");
    make_certificate("ca", "client", "127.0.0.1");
    make_certificate("other", "stranger", "127.0.0.1");
    return 0;
}

static int remove_all(void **state)
{
    (void)state;
    autofree char *line = xasprintf("rm -rf %s", folder);
    return system(line);
}

static int hello(struct http_request *req, struct http_reply *reply, struct error *err)
{
    (void)err;
    json_object *o = json_object_new_object();
    json_put_int(o, "bytes", (int64_t)req->body_length);
    http_reply_json(reply, 200, o);
    return 0;
}

static int wait_once(struct http_request *req, struct http_reply *reply, struct error *err)
{
    if (!req->woken) {
        http_wait(req, "k", 100);
        return HTTP_WAIT;
    }
    return hello(req, reply, err);
}

static int refuse_open(struct http_request *req, void **ret_state, struct error *err)
{
    (void)req;
    *ret_state = NULL;
    (void)err;
    return 0;
}

static int refuse_data(void *state, const void *bytes, size_t length, struct error *err)
{
    (void)state;
    (void)bytes;
    (void)length;
    return error_set(err, ERROR_FORBIDDEN, "not this");
}

static int refuse_finish(void *state, struct http_reply *reply, struct error *err)
{
    (void)state;
    (void)err;
    http_reply_json(reply, 201, json_object_new_object());
    return 0;
}

static void refuse_close(void *state)
{
    (void)state;
}

static const struct http_upload refusing = {refuse_open, refuse_data, refuse_finish, refuse_close};

static const struct http_route routes[] = {
    {"GET",  "/", 0, 0, hello, NULL, ""},
    {"PUT",     "/", 0, 1024UL * 1024, hello, NULL, ""},
    {"GET", "/wait", 0, 0, wait_once, NULL, ""},
    {"PUT",    "/image", 0, 0, NULL, &refusing, ""},
    {0 },
};

static struct http_server *start(const char *name, const char *client_authority, bool threads)
{
    autofree char *cert = xasprintf("%s/%s.pem", folder, name);
    autofree char *key = xasprintf("%s/%s.key", folder, name);
    autofree char *ca = client_authority ? xasprintf("%s/%s.pem", folder, client_authority) : NULL;
    struct http_config config = {.listen = "127.0.0.1:0",
                                 .tls_cert_file = cert,
                                 .tls_key_file = key,
                                 .tls_client_ca_file = ca,
                                 .routes = routes,
                                 .thread_per_connection = threads};
    struct http_server *server = NULL;
    struct error err = {0};
    if (http_server_start(&config, &server, &err) < 0)
        fail_msg("%s", err.message);
    return server;
}

static struct client *connect_as(const struct http_server *server, const char *authority,
                                 const char *name)
{
    autofree char *url = xasprintf("https://%s", http_server_address(server));
    autofree char *ca = xasprintf("%s/%s.pem", folder, authority);
    autofree char *cert = name ? xasprintf("%s/%s.pem", folder, name) : NULL;
    autofree char *key = name ? xasprintf("%s/%s.key", folder, name) : NULL;
    struct client_config config = {
        .base_url = url, .ca_file = ca, .cert_file = cert, .key_file = key};
    struct client *client = NULL;
    struct error err = {0};
    if (client_new(&config, &client, &err) < 0)
        fail_msg("%s", err.message);
    return client;
}

static void a_trusted_server_is_talked_to(void **state)
{
    (void)state;
    for (int threads = 0; threads <= 1; threads++) {
        AUTO(http_server) server = start("server", NULL, threads);
        AUTO(client) client = connect_as(server, "ca", NULL);
        struct error err = {0};
        for (int i = 0; i < 50; i++)
            if (client_request(client, "GET", i % 10 ? "/" : "/wait", NULL, NULL, &err) < 0)
                fail_msg("%s", err.message);
        autojson *body = json_object_new_object(), *reply = NULL;
        char value[60000];
        memset(value, 'v', sizeof(value));
        value[sizeof(value) - 1] = '\0';
        json_put_str(body, "a", value);
        assert_int_equal(client_request(client, "PUT", "/", body, &reply, &err), 0);
        assert_int_equal(json_int(reply, "bytes"), sizeof(value) - 1 + 8);
    }
}

static void an_unknown_or_wrong_server_is_not(void **state)
{
    (void)state;
    static const struct {
        const char *server, *authority;
    } wrong[] = {
        {"server",    "other"},
        {"elsewhere", "ca"   },
        {"stranger",  "ca"   }
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        AUTO(http_server) server = start(wrong[i].server, NULL, false);
        AUTO(client) client = connect_as(server, wrong[i].authority, NULL);
        struct error err = {0};
        assert_int_equal(client_request(client, "GET", "/", NULL, NULL, &err), -1);
        if (err.kind != ERROR_UNREACHABLE)
            fail_msg("%s: %s", error_code(err.kind), err.message);
        assert_non_null(strstr(err.message, "certificate"));
    }
}

static void plain_http_gets_nowhere(void **state)
{
    (void)state;
    AUTO(http_server) server = start("server", NULL, false);
    AUTO(client) client = fixture_client(server);
    struct error err = {0};
    assert_int_equal(client_request(client, "GET", "/", NULL, NULL, &err), -1);
    assert_true(err.kind == ERROR_UNREACHABLE || err.kind == ERROR_UPSTREAM);
}

static void clients_show_a_certificate_where_one_is_asked_for(void **state)
{
    (void)state;
    AUTO(http_server) server = start("server", "ca", false);
    static const struct {
        const char *name;
        enum error_kind kind;
    } who[] = {
        {"client",   ERROR_NONE           },
        {NULL,       ERROR_UNAUTHENTICATED},
        {"stranger", ERROR_UNAUTHENTICATED}
    };
    for (size_t i = 0; i < ARRAY_LEN(who); i++) {
        AUTO(client) client = connect_as(server, "ca", who[i].name);
        for (int again = 0; again < 2; again++) {
            struct error err = {0};
            client_request(client, "GET", "/", NULL, NULL, &err);
            /* A client does not show a certificate that the server's authorities did not sign. */
            if (err.kind != who[i].kind)
                fail_msg("%s: %s: %s", who[i].name, error_code(err.kind), err.message);
        }
    }
}

static void a_refusal_in_the_middle_is_heard(void **state)
{
    (void)state;
    static const char bytes[100000];
    AUTO(http_server) server = start("server", NULL, true);
    AUTO(client) client = connect_as(server, "ca", NULL);
    for (int i = 0; i < 10; i++) {
        struct error err = {0};
        AUTO(client_upload) upload = NULL;
        assert_int_equal(client_upload_begin(client, "/image", 10000, &upload, &err), 0);
        while (client_upload_write(upload, bytes, sizeof(bytes), &err) == 0)
            ; /* it would go on for ever */
        if (err.kind != ERROR_FORBIDDEN || strcmp(err.message, "not this") != 0)
            fail_msg("%s: %s", error_code(err.kind), err.message);
    }
}

static void files_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    autofree char *cert = file("server.pem"), *key = file("client.key"), *ca = file("ca.template");
    autofree char *right_key = file("server.key");
    struct http_config config = {
        .listen = "127.0.0.1:0", .routes = routes, .tls_cert_file = cert, .tls_key_file = key};
    struct http_server *server = NULL;
    struct error err = {0};
    assert_int_equal(http_server_start(&config, &server, &err), -1);
    assert_int_equal(err.kind, ERROR_INVALID);
    assert_non_null(strstr(err.message, "server.pem"));
    config.tls_key_file = right_key;
    config.tls_client_ca_file = ca;
    assert_int_equal(http_server_start(&config, &server, &err), -1);
    assert_int_equal(err.kind, ERROR_INVALID);
    assert_non_null(strstr(err.message, "ca.template"));
    struct client_config bad = {.base_url = "https://127.0.0.1:1", .ca_file = "/nonexistent.pem"};
    AUTO(client) client = NULL;
    assert_int_equal(client_new(&bad, &client, &err), 0);
    assert_int_equal(client_request(client, "GET", "/", NULL, NULL, &err), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_trusted_server_is_talked_to),
        cmocka_unit_test(an_unknown_or_wrong_server_is_not),
        cmocka_unit_test(plain_http_gets_nowhere),
        cmocka_unit_test(clients_show_a_certificate_where_one_is_asked_for),
        cmocka_unit_test(a_refusal_in_the_middle_is_heard),
        cmocka_unit_test(files_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests_name("http_tls", tests, make_all, remove_all);
}
