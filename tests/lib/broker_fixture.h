/* SPDX-License-Identifier: Apache-2.0 */
/* broker_fixture.h - a whole broker on a folder of its own and a clock that stands still; its
 * routes are called as the server would, without a socket. Include it in one file of a test.
 *
 * Whatever goes wrong in here fails the test at once. */
#pragma once

/* clang-format off */
#include "cmocka_test.h"
/* clang-format on */
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker.h"
#include "digest.h"
#include "http_route.h"
#include "log.h"

#define FIXTURE_START_MS 1700000000000

struct fixture {
    char dir[64];
    struct clock clock;
    struct broker *broker;
    char operator_token[65], viewer_token[65];
    json_object *reply; /* owned; of the last call, NULL for none */
    struct http_reply raw;
};

static inline void fixture_open(struct fixture *f)
{
    struct broker_config config = {0};
    struct error err = {0};
    assert_int_equal(config_load(NULL, broker_config_keys, &config, &err), 0);
    free(config.state_dir);
    config.state_dir = xstrdup(f->dir);
    if (broker_open(&config, &f->clock, &f->broker, &err) < 0)
        fail_msg("broker_open: %s", err.message);
}

/* What a crash leaves is what the database has: nothing is written at the end. */
static inline void fixture_restart(struct fixture *f)
{
    broker_free(f->broker);
    f->broker = NULL;
    fixture_open(f);
}

static inline void fixture_token(struct fixture *f, enum role role, const char *node,
                                 char secret[65])
{
    char id[64];
    secret_new(secret);
    assert_int_equal(model_token_create(f->broker->model, role, node, NULL, secret, id, NULL), 0);
}

static inline struct fixture *fixture_new(void)
{
    struct fixture *f = xcalloc(1, sizeof(*f));
    log_set_level(LOG_ERROR);
    snprintf(f->dir, sizeof(f->dir), "/tmp/cpubroker-unit.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->clock = clock_test(FIXTURE_START_MS);
    fixture_open(f);
    fixture_token(f, ROLE_OPERATOR, NULL, f->operator_token);
    fixture_token(f, ROLE_VIEWER, NULL, f->viewer_token);
    return f;
}

static inline int fixture_unlink(const char *path, const struct stat *stat, int type,
                                 struct FTW *ftw)
{
    (void)stat;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline void fixture_raw_done(struct fixture *f)
{
    free(f->raw.body);
    free(f->raw.location);
    if (f->raw.stream_free)
        f->raw.stream_free(f->raw.stream);
    free(f->raw.stream_key);
    f->raw = (struct http_reply){0};
}

static inline void fixture_free(struct fixture *f)
{
    json_object_put(f->reply);
    fixture_raw_done(f);
    broker_free(f->broker);
    nftw(f->dir, fixture_unlink, 16, FTW_DEPTH | FTW_PHYS);
    free(f);
}

static inline struct http_principal fixture_principal(struct fixture *f, const char *secret)
{
    struct http_principal principal = {0};
    char sha256[65];
    sha256_hex(secret, strlen(secret), sha256);
    const struct token *token = model_token(f->broker->model, sha256);
    if (!token)
        return principal;
    principal.roles = token->role;
    snprintf(principal.name, sizeof(principal.name), "%s", token->id);
    snprintf(principal.node, sizeof(principal.node), "%s", token->node ? token->node : "");
    return principal;
}

/* The status that a call is answered with; f->reply is the body, of errors too. */
static inline int fixture_call(struct fixture *f, const char *secret, const char *method,
                               const char *path, const char *body)
{
    char room[256], allow[64];
    const struct http_route *route = NULL;
    struct error err = {0};
    struct http_request req = {.ctx = f->broker, .body = body ? body : ""};
    req.body_length = strlen(req.body);
    req.principal = fixture_principal(f, secret ? secret : "");
    json_object_put(f->reply);
    f->reply = NULL;
    fixture_raw_done(f);
    if (http_route_find(broker_routes, method, path, &req, room, &route, allow, sizeof(allow)) !=
        HTTP_MATCH_OK)
        fail_msg("no route %s %s", method, path);
    if (route->roles && !req.principal.roles)
        return 401;
    if (route->roles && !(req.principal.roles & route->roles))
        return 403;
    int rc = route->handler(&req, &f->raw, &err);
    if (rc < 0) {
        f->reply = http_error_json(&err);
        return error_http_status(err.kind);
    }
    assert_int_equal(rc, 0);
    if (f->raw.body && !f->raw.content_type)
        f->raw.content_type = "application/json";
    if (f->raw.body && strcmp(f->raw.content_type, "application/json") == 0)
        assert_int_equal(json_parse(f->raw.body, strlen(f->raw.body), &f->reply, NULL), 0);
    return f->raw.status ? (int)f->raw.status : 200;
}

#define call_expect(f, secret, method, path, text, expected)                                  \
    do {                                                                                      \
        int status_ = fixture_call((f), (secret), (method), (path), (text));                  \
        if (status_ != (expected))                                                            \
            fail_msg("%s %s: expected %d, got %d: %s", (method), (path), (expected), status_, \
                     (f)->raw.body ? (f)->raw.body : fixture_error(f));                       \
    } while (0)

static inline const char *fixture_error(struct fixture *f)
{
    return json_str(json_member(f->reply, "error"), "message");
}

/* A member of the last reply, by a path of names: "migration.state". */
static inline json_object *fixture_member(struct fixture *f, const char *path)
{
    json_object *o = f->reply;
    autofree char *copy = xstrdup(path);
    char *rest = NULL;
    for (char *name = strtok_r(copy, ".", &rest); name && o; name = strtok_r(NULL, ".", &rest))
        o = *name >= '0' && *name <= '9' ? json_array_item(o, strtoul(name, NULL, 10))
                                         : json_member(o, name);
    return o;
}

static inline const char *fixture_str(struct fixture *f, const char *path)
{
    json_object *o = fixture_member(f, path);
    return json_object_is_type(o, json_type_string) ? json_object_get_string(o) : "";
}

static inline int64_t fixture_int(struct fixture *f, const char *path)
{
    json_object *o = fixture_member(f, path);
    return json_object_is_type(o, json_type_int) ? json_object_get_int64(o) : -1;
}

/* schema/examples/report-SAMPLE.json as this node's, with or without an engine. The caller owns
 * the text. */
static inline char *fixture_report(const char *sample, const char *node, bool engine)
{
    autofree char *path = xasprintf("%s/schema/examples/report-%s.json", SOURCE_DIR, sample);
    autojson *report = json_object_from_file(path);
    assert_non_null(report);
    json_put_str(report, "node", node);
    json_object *engines = json_object_new_array();
    if (engine) {
        json_object *criu = json_object_new_object();
        json_put_str(criu, "name", "criu");
        json_put_str(criu, "version", "4.1");
        json_object_array_add(engines, criu);
    }
    json_put(report, "engines", engines);
    return json_text(report);
}

/* A heartbeat of a node that holds `workloads` (the inside of the array, NULL for none). */
static inline void fixture_heartbeat(struct fixture *f, const char *secret, const char *node,
                                     const char *workloads)
{
    autofree char *path = xasprintf("/v1/nodes/%s/heartbeat", node);
    autofree char *body =
        xasprintf("{\"version\":\"0.1.0\",\"boot_id\":\"b\",\"image_address\":\"10.0.0.9:7072\","
                  "\"pool\":\"default\",\"free_bytes\":1000,\"workloads\":[%s]}",
                  workloads ? workloads : "");
    call_expect(f, secret, "POST", path, body, 200);
}

/* A live node with an agent: a token, a heartbeat, a report. */
static inline void fixture_node(struct fixture *f, const char *node, const char *sample,
                                char secret[65])
{
    autofree char *path = xasprintf("/v1/nodes/%s/report", node);
    autofree char *report = fixture_report(sample, node, true);
    fixture_token(f, ROLE_AGENT, node, secret);
    fixture_heartbeat(f, secret, node, NULL);
    call_expect(f, secret, "PUT", path, report, 200);
}

static inline void fixture_import(struct fixture *f, const char *node, const char *sample)
{
    autofree char *path = xasprintf("/v1/nodes/%s/report", node);
    autofree char *report = fixture_report(sample, node, false);
    call_expect(f, f->operator_token, "PUT", path, report, 200);
}

/* Claims the name and lets the heartbeat say that it runs. */
static inline void fixture_workload(struct fixture *f, const char *secret, const char *node,
                                    const char *name)
{
    autofree char *path = xasprintf("/v1/nodes/%s/workloads/%s", node, name);
    autofree char *held =
        xasprintf("{\"name\":\"%s\",\"state\":\"running\",\"pid\":42,\"exit_status\":null}", name);
    call_expect(f, secret, "PUT", path,
                "{\"pool\":\"default\",\"command\":[\"./w\",\"1\"],\"dir\":\"/srv/w\"}", 201);
    fixture_heartbeat(f, secret, node, held);
}
