/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_check.c - the body of POST /v1/check, asked of a whole broker with nodes and a workload: an
 * error that says what is wrong, or a verdict that holds together. */
#include "broker_fixture.h"
#include "fuzz.h"

static struct fixture *world;

static void remove_world(void)
{
    fixture_free(world);
}

static void make_world(void)
{
    char a[65], b[65];
    world = fixture_new();
    fixture_node(world, "a", "haswell", a);
    fixture_node(world, "b", "zen4", b);
    fixture_import(world, "i", "lesser-intel");
    fixture_workload(world, a, "a", "w");
    call_expect(world, world->operator_token, "PUT", "/v1/pools/default/nodes/i", NULL, 200);
    atexit(remove_world);
}

static void check_verdict(json_object *verdict)
{
    bool rejects = false;
    json_object *reasons = json_member(verdict, "reasons");
    for (size_t i = 0; i < json_array_size(reasons); i++) {
        json_object *reason = json_array_item(reasons, i);
        MUST(*json_str(reason, "code") && *json_str(reason, "message"));
        rejects = rejects || strcmp(json_str(reason, "severity"), "reject") == 0;
    }
    MUST(strcmp(json_str(verdict, "verdict"), rejects ? "reject" : "approve") == 0);
}

/* The fixture takes bodies as text; here every byte counts. */
static int ask(const char *body, size_t size, struct http_reply *reply, struct error *err)
{
    struct http_request req = {.ctx = world->broker, .body = body, .body_length = size};
    for (const struct http_route *r = broker_routes; r->method; r++)
        if (strcmp(r->path, "/v1/check") == 0)
            return r->handler(&req, reply, err);
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct http_reply reply = {0};
    struct error err = {0};
    autojson *json = NULL;
    autofree char *body = xmalloc(size + 1); /* the server ends bodies with a NUL */
    if (!world)
        make_world();
    memcpy(body, data, size);
    body[size] = '\0';
    if (ask(body, size, &reply, &err) < 0) {
        MUST(err.kind == ERROR_INVALID || err.kind == ERROR_NOT_FOUND ||
             err.kind == ERROR_TOO_LARGE || err.kind == ERROR_CONFLICT);
        MUST(*err.message && !reply.body);
        return 0;
    }
    MUST(reply.body && json_parse(reply.body, reply.body_length, &json, NULL) == 0);
    json_object *targets = json_member(json, "targets");
    if (!targets)
        check_verdict(json);
    for (size_t i = 0; i < json_array_size(targets); i++)
        check_verdict(json_array_item(targets, i));
    free(reply.body);
    return 0;
}
