/* SPDX-License-Identifier: Apache-2.0 */
/* test_api.c - the routes: who may use them, what they refuse, verdicts and the choice of a target.
 */
/* clang-format off */
#include "cmocka_test.h"
/* clang-format on */
#include "broker_fixture.h"

struct site {
    struct fixture *f;
    char a[65], b[65], c[65]; /* agents' tokens */
};

static int set_up(void **state)
{
    struct site *s = xcalloc(1, sizeof(*s));
    s->f = fixture_new();
    fixture_node(s->f, "a", "haswell", s->a);
    fixture_workload(s->f, s->a, "a", "w");
    *state = s;
    return 0;
}

static int tear_down(void **state)
{
    struct site *s = *state;
    fixture_free(s->f);
    free(s);
    return 0;
}

/* What a role may not, whatever the body; that no route is open by mistake, openapi.yaml's table
 * tells (api_contract.sh). */
static void roles(void **state)
{
    struct site *s = *state;
    struct fixture *f = s->f;
    static const struct {
        const char *method, *path;
        bool viewer, operator, agent;
    } routes[] = {
        {"POST",   "/v1/check",                   true,  true,  false},
        {"POST",   "/migrate",                    false, true,  false},
        {"POST",   "/v1/migrate",                 false, true,  false},
        {"GET",    "/v1/migrations",              true,  true,  false},
        {"GET",    "/v1/migrations/m-1",          true,  true,  false},
        {"DELETE", "/v1/migrations/m-1",          false, true,  false},
        {"GET",    "/v1/migrations/m-1/events",   true,  true,  false},
        {"POST",   "/v1/migrations/m-1/progress", false, false, true },
        {"GET",    "/v1/nodes",                   true,  true,  false},
        {"GET",    "/v1/nodes/a",                 true,  true,  false},
        {"DELETE", "/v1/nodes/a",                 false, true,  false},
        {"PUT",    "/v1/nodes/a/report",          false, true,  true },
        {"POST",   "/v1/nodes/a/heartbeat",       false, false, true },
        {"GET",    "/v1/nodes/a/assignments",     false, false, true },
        {"PUT",    "/v1/nodes/a/workloads/w",     false, false, true },
        {"GET",    "/v1/pools",                   true,  true,  false},
        {"GET",    "/v1/pools/default",           true,  true,  false},
        {"PUT",    "/v1/pools/default",           false, true,  false},
        {"DELETE", "/v1/pools/default",           false, true,  false},
        {"PUT",    "/v1/pools/default/nodes/a",   false, true,  false},
        {"DELETE", "/v1/pools/default/nodes/x",   false, true,  false},
        {"GET",    "/v1/pools/default/masks",     true,  true,  false},
        {"GET",    "/v1/pools/default/advice",    true,  true,  false},
        {"GET",    "/v1/pools/default/matrix",    true,  true,  false},
        {"POST",   "/v1/pools/default/what-if",   true,  true,  false},
        {"GET",    "/v1/workloads",               true,  true,  false},
        {"GET",    "/v1/workloads/w",             true,  true,  false},
        {"GET",    "/v1/events",                  true,  true,  false},
        {"GET",    "/v1/webhooks",                false, true,  false},
        {"POST",   "/v1/webhooks",                false, true,  false},
        {"DELETE", "/v1/webhooks/h-1",            false, true,  false},
        {"GET",    "/v1/webhooks/h-1/deliveries", false, true,  false},
        {"GET",    "/v1/tokens",                  false, true,  false},
        {"POST",   "/v1/tokens",                  false, true,  false},
        {"DELETE", "/v1/tokens/t-1",              false, true,  false},
        {"GET",    "/metrics",                    true,  true,  false},
    };
    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        const char *const secrets[] = {f->viewer_token, f->operator_token, s->a};
        const bool may[] = {routes[i].viewer, routes[i].operator, routes[i].agent };
        for (size_t k = 0; k < ARRAY_LEN(secrets); k++) {
            int status = fixture_call(f, secrets[k], routes[i].method, routes[i].path, "");
            if ((status != 403) != may[k])
                fail_msg("%s %s by %zu: %d", routes[i].method, routes[i].path, k, status);
        }
        assert_int_equal(fixture_call(f, NULL, routes[i].method, routes[i].path, ""), 401);
        assert_int_equal(fixture_call(f, "00ff", routes[i].method, routes[i].path, ""), 401);
    }
    assert_int_equal(fixture_call(f, NULL, "GET", "/healthz", NULL), 200);
    assert_int_equal(fixture_call(f, NULL, "GET", "/readyz", NULL), 200);
}

/* Bodies that are refused, and the word that the message must have. */
static void bad_bodies(void **state)
{
    struct site *s = *state;
    struct fixture *f = s->f;
    static const struct {
        char who;
        const char *method, *path, *body, *word;
    } cases[] = {
        {'o', "POST", "/v1/check",                   "",                                                 "empty"                  },
        {'o', "POST", "/v1/check",                   "{",                                                "JSON"                   },
        {'o', "POST", "/v1/check",                   "[]",                                               "object"                 },
        {'o', "POST", "/v1/check",                   "{\"from\":\"a\"}",                                 "to: missing"            },
        {'o', "POST", "/v1/check",                   "{\"to\":\"a\"}",                                   "either workload or from"},
        {'o', "POST", "/v1/check",                   "{\"from\":\"a\",\"workload\":\"w\",\"to\":\"a\"}", "either"                 },
        {'o', "POST", "/v1/check",                   "{\"from\":7,\"to\":\"a\"}",                        "from: expected a string"},
        {'o', "POST", "/v1/check",                   "{\"from\":\"a\",\"to\":\"../x\"}",                 "to"                     },
        {'o', "POST", "/migrate",                    "{}",                                               "workload: missing"      },
        {'o', "POST", "/migrate",                    "{\"workload\":\"w\",\"dry_run\":1}",               "dry_run"                },
        {'o', "POST", "/migrate",                    "{\"workload\":\"w\",\"idempotency_key\":\"\"}",    "1 to 128"               },
        {'o', "POST", "/migrate",                    "{\"workload\":\"w w\"}",                           "workload"               },
        {'o', "PUT",  "/v1/pools/p",                 "{\"policy\":1}",                                   "policy"                 },
        {'o', "PUT",  "/v1/pools/p",                 "{\"policy\":{\"mix_vendors\":\"yes\"}}",           "mix_vendors"            },
        {'o', "PUT",  "/v1/pools/-p",                "",                                                 "pool"                   },
        {'o', "PUT",  "/v1/nodes/n/report",          "{\"schema\":\"other/1\"}",                         "schema"                 },
        {'o', "POST", "/v1/tokens",                  "{\"role\":\"king\"}",                              "viewer, operator"       },
        {'o', "POST", "/v1/tokens",                  "{\"role\":\"viewer\",\"node\":\"a\"}",             "agent's"                },
        {'o', "POST", "/v1/tokens",                  "{\"role\":\"agent\",\"node\":\"a/b\"}",            "node"                   },
        {'a', "POST", "/v1/nodes/a/heartbeat",       "{}",                                               "workloads: missing"     },
        {'a', "POST", "/v1/nodes/a/heartbeat",       "{\"workloads\":{}}",
         "workloads: expected an array"                                                                                           },
        {'a', "POST", "/v1/nodes/a/heartbeat",       "{\"workloads\":[1]}",                              "workloads[0]"           },
        {'a', "POST", "/v1/nodes/a/heartbeat",
         "{\"workloads\":[{\"name\":\"w\",\"state\":\"flying\"}]}",                                      "flying"                 },
        {'a', "POST", "/v1/nodes/a/heartbeat",
         "{\"workloads\":[{\"name\":\"w/x\",\"state\":\"running\"}]}",                                   "workloads[0]"           },
        {'a', "POST", "/v1/nodes/a/heartbeat",       "{\"workloads\":[],\"free_bytes\":-1}",
         "free_bytes"                                                                                                             },
        {'a', "PUT",  "/v1/nodes/a/workloads/x",     "{\"pool\":\"default\"}",                           "command: missing"       },
        {'a', "PUT",  "/v1/nodes/a/workloads/x",     "{\"pool\":\"default\",\"command\":[1]}",
         "command[0]"                                                                                                             },
        {'a', "PUT",  "/v1/nodes/a/workloads/x",
         "{\"pool\":\"default\",\"command\":[],\"dir\":\"relative\"}",                                   "absolute"               },
        {'a', "POST", "/v1/migrations/m-1/progress", "{\"node\":\"a\"}",                                 "state: missing"         },
        {'a', "POST", "/v1/migrations/m-1/progress", "{\"node\":\"a\",\"state\":\"flown\"}",
         "flown"                                                                                                                  },
        {'a', "POST", "/v1/migrations/m-1/progress", "{\"node\":\"a\",\"state\":\"failure\"}",
         "error: missing"                                                                                                         },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int status = fixture_call(f, cases[i].who == 'a' ? s->a : f->operator_token,
                                  cases[i].method, cases[i].path, cases[i].body);
        if (status != 400 || !strstr(fixture_error(f), cases[i].word))
            fail_msg("%s %s: %d '%s', expected '%s'", cases[i].path, cases[i].body, status,
                     fixture_error(f), cases[i].word);
    }
    call_expect(f, f->viewer_token, "GET", "/v1/pools/p", NULL, 404);
}

static bool has_reason(struct fixture *f, const char *code, const char *severity)
{
    json_object *reasons = fixture_member(f, "reasons");
    for (size_t i = 0; i < json_array_size(reasons); i++) {
        json_object *reason = json_array_item(reasons, i);
        if (strcmp(json_str(reason, "code"), code) == 0 &&
            strcmp(json_str(reason, "severity"), severity) == 0)
            return true;
    }
    return false;
}

#define refused_for(f, text, reason)                                            \
    do {                                                                        \
        call_expect((f), (f)->operator_token, "POST", "/migrate", (text), 409); \
        assert_string_equal(fixture_str((f), "verdict"), "reject");             \
        if (!has_reason((f), (reason), "reject"))                               \
            fail_msg("%s: no %s in %s", (text), (reason), (f)->raw.body);       \
    } while (0)

static void every_refusal(void **state)
{
    struct site *s = *state;
    struct fixture *f = s->f;
    static const char to_b[] = "{\"workload\":\"w\",\"to\":\"b\"}";
    static const char to_imp[] = "{\"workload\":\"w\",\"to\":\"imp\"}";
    static const char running[] = "{\"name\":\"w\",\"state\":\"running\",\"pid\":42}";
    call_expect(f, f->operator_token, "POST", "/migrate", "{\"workload\":\"x\",\"to\":\"a\"}", 404);
    call_expect(f, f->operator_token, "POST", "/migrate", "{\"workload\":\"w\",\"to\":\"x\"}", 404);
    refused_for(f, "{\"workload\":\"w\",\"to\":\"a\"}", "same_node");
    refused_for(f, "{\"workload\":\"w\"}", "no_target");
    fixture_import(f, "imp", "lesser-intel");
    refused_for(f, to_imp, "node_imported");
    refused_for(f, to_imp, "not_in_pool");
    refused_for(f, to_imp, "missing_feature");
    fixture_token(f, ROLE_AGENT, "b", s->b);
    fixture_heartbeat(f, s->b, "b", NULL);
    refused_for(f, to_b, "unknown_state"); /* no report yet */
    autofree char *without = fixture_report("haswell", "b", false);
    call_expect(f, s->b, "PUT", "/v1/nodes/b/report", without, 200);
    refused_for(f, to_b, "no_engine");
    autofree char *with = fixture_report("haswell", "b", true);
    call_expect(f, s->b, "PUT", "/v1/nodes/b/report", with, 200);
    f->clock.test_ms += 10001;
    fixture_heartbeat(f, s->a, "a", running);
    refused_for(f, to_b, "node_silent");
    f->clock.test_ms += 10001;
    fixture_heartbeat(f, s->b, "b", NULL);
    refused_for(f, to_b, "node_silent"); /* the source */
    fixture_heartbeat(f, s->a, "a", running);
    call_expect(f, f->operator_token, "POST", "/migrate",
                "{\"workload\":\"w\",\"to\":\"b\",\"dry_run\":true}", 200);
    assert_string_equal(fixture_str(f, "verdict"), "approve");
    call_expect(f, f->viewer_token, "GET", "/v1/migrations", NULL, 200);
    assert_int_equal(json_array_size(fixture_member(f, "migrations")), 0); /* nothing began */
    call_expect(f, f->operator_token, "POST", "/migrate", to_b, 202);
    assert_non_null(f->raw.location);
    refused_for(f, to_b, "migration_running");
    refused_for(f, "{\"workload\":\"w\"}", "migration_running");
    fixture_heartbeat(f, s->a, "a", "{\"name\":\"w\",\"state\":\"exited\",\"exit_status\":0}");
    refused_for(f, to_b, "workload_not_running");
}

static void vendors(void **state)
{
    struct site *s = *state;
    struct fixture *f = s->f;
    static const char mixed[] = "{\"policy\":{\"mix_vendors\":true}}";
    fixture_import(f, "intel", "lesser-intel");
    fixture_import(f, "amd", "zen4");
    static const char body[] = "{\"from\":\"intel\",\"to\":\"amd\"}";
    call_expect(f, f->viewer_token, "POST", "/v1/check", body, 200);
    assert_true(has_reason(f, "vendor_differs", "reject"));
    call_expect(f, f->operator_token, "PUT", "/v1/pools/p", mixed, 201);
    call_expect(f, f->operator_token, "PUT", "/v1/pools/p/nodes/intel", NULL, 200);
    call_expect(f, f->viewer_token, "POST", "/v1/check", body, 200);
    assert_true(has_reason(f, "vendor_differs", "reject"));
    call_expect(f, f->operator_token, "PUT", "/v1/pools/p/nodes/amd", NULL, 200);
    call_expect(f, f->viewer_token, "POST", "/v1/check", body, 200);
    assert_false(has_reason(f, "vendor_differs", "reject"));
    call_expect(f, f->operator_token, "PUT", "/v1/pools/p", NULL, 200); /* changes nothing */
    call_expect(f, f->viewer_token, "POST", "/v1/check", body, 200);
    assert_false(has_reason(f, "vendor_differs", "reject"));
    call_expect(f, f->operator_token, "PUT", "/v1/pools/p", "{\"policy\":{\"mix_vendors\":null}}",
                200);
    call_expect(f, f->viewer_token, "POST", "/v1/check", body, 200);
    assert_true(has_reason(f, "vendor_differs", "reject"));
}

/* The same answer from the cache, and another as soon as something has changed. */
static void checks_are_never_stale(void **state)
{
    struct site *s = *state;
    struct fixture *f = s->f;
    static const char cpus[] = "{\"from\":\"a\",\"to\":\"b\"}";
    static const char move[] = "{\"workload\":\"w\",\"to\":\"b\"}";
    fixture_node(f, "b", "haswell", s->b);
    for (int i = 0; i < 3; i++) {
        call_expect(f, f->viewer_token, "POST", "/v1/check", cpus, 200);
        assert_string_equal(fixture_str(f, "verdict"), "approve");
        call_expect(f, f->viewer_token, "POST", "/v1/check", move, 200);
        assert_string_equal(fixture_str(f, "verdict"), "approve");
        assert_string_equal(fixture_str(f, "from"), "a");
        assert_string_equal(fixture_str(f, "to"), "b");
    }
    f->clock.test_ms += 10001; /* no change of the model, only of the time */
    fixture_heartbeat(f, s->a, "a", "{\"name\":\"w\",\"state\":\"running\",\"pid\":42}");
    call_expect(f, f->viewer_token, "POST", "/v1/check", cpus, 200);
    assert_string_equal(fixture_str(f, "verdict"), "approve"); /* CPUs are what they are */
    call_expect(f, f->viewer_token, "POST", "/v1/check", move, 200);
    assert_true(has_reason(f, "node_silent", "reject"));
    fixture_heartbeat(f, s->b, "b", NULL);
    call_expect(f, f->viewer_token, "POST", "/v1/check", move, 200);
    assert_string_equal(fixture_str(f, "verdict"), "approve");
    autofree char *lesser = fixture_report("lesser-intel", "b", true);
    call_expect(f, s->b, "PUT", "/v1/nodes/b/report", lesser, 200);
    call_expect(f, f->viewer_token, "POST", "/v1/check", cpus, 200);
    assert_true(has_reason(f, "missing_feature", "reject"));
    call_expect(f, f->viewer_token, "POST", "/v1/check", move, 200);
    assert_true(has_reason(f, "missing_feature", "reject"));
    call_expect(f, f->viewer_token, "POST", "/v1/check", "{\"from\":\"a\",\"to\":\"a\"}", 200);
    assert_string_equal(fixture_str(f, "verdict"), "approve");
    assert_int_equal(json_array_size(fixture_member(f, "reasons")), 0);
    call_expect(f, f->viewer_token, "POST", "/v1/check", "{\"from\":\"x\",\"to\":\"a\"}", 404);
    call_expect(f, f->viewer_token, "POST", "/v1/check", "{\"workload\":\"x\",\"to\":\"a\"}", 404);
}

static void choose(struct fixture *f, const char *expected)
{
    call_expect(f, f->operator_token, "POST", "/migrate", "{\"workload\":\"w\",\"dry_run\":true}",
                200);
    assert_string_equal(fixture_str(f, "to"), expected);
}

/* Without a target: approved, fewest warnings, closest fit, then by name. */
static void the_best_target(void **state)
{
    struct site *s = *state;
    struct fixture *f = s->f;
    char z[65], d[65];
    static const char running[] = "{\"name\":\"w\",\"state\":\"running\",\"pid\":42}";
    fixture_node(f, "c", "lesser-intel", s->c); /* cannot */
    fixture_node(f, "z", "haswell", z);
    choose(f, "z");
    fixture_node(f, "d", "haswell", d);
    choose(f, "d"); /* equally good: by name */
    /* The same with one feature more fits less closely. */
    autofree char *text = fixture_report("haswell", "d", true);
    char *bits = strstr(text, "0x000027ab"); /* leaf 7 EBX */
    assert_non_null(bits);
    memcpy(bits, "0x200027ab", 10); /* SHA */
    call_expect(f, d, "PUT", "/v1/nodes/d/report", text, 200);
    choose(f, "z");
    f->clock.test_ms += 10001;
    fixture_heartbeat(f, s->a, "a", running);
    fixture_heartbeat(f, d, "d", NULL);
    choose(f, "d"); /* z is silent */
    f->clock.test_ms += 10001;
    fixture_heartbeat(f, s->a, "a", running);
    fixture_heartbeat(f, s->c, "c", NULL);
    refused_for(f, "{\"workload\":\"w\"}", "no_target");
    assert_true(has_reason(f, "missing_feature", "reject")); /* c, and why */
    assert_true(has_reason(f, "node_silent", "reject"));     /* the others */
    assert_null(fixture_member(f, "to"));
}

/* A warning weighs more than the name and the fit. */
static void fewest_warnings_first(void **state)
{
    struct site *s = *state;
    char d[65], z[65];
    fixture_node(s->f, "d", "haswell", d);
    fixture_node(s->f, "z", "haswell", z);
    choose(s->f, "d");
    autofree char *text = fixture_report("haswell", "d", true);
    char *bits = strstr(text, "0x000027ab"); /* leaf 7 EBX */
    assert_non_null(bits);
    memcpy(bits, "0x000025ab", 10); /* no ERMS, a hint */
    call_expect(s->f, d, "PUT", "/v1/nodes/d/report", text, 200);
    choose(s->f, "z");
}

/* An agent reports for its own node, and under its name. */
static void reports_of_others(void **state)
{
    struct site *s = *state;
    fixture_node(s->f, "b", "haswell", s->b);
    autofree char *of_a = fixture_report("haswell", "a", true);
    autofree char *of_b = fixture_report("haswell", "b", true);
    call_expect(s->f, s->b, "PUT", "/v1/nodes/a/report", of_a, 403);
    call_expect(s->f, s->b, "PUT", "/v1/nodes/b/report", of_a, 400);
    call_expect(s->f, s->b, "PUT", "/v1/nodes/b/report", of_b, 200);
    /* An import is called what the operator calls it. */
    call_expect(s->f, s->f->operator_token, "PUT", "/v1/nodes/c/report", of_a, 200);
}

static void metrics_are_openmetrics(void **state)
{
    struct site *s = *state;
    struct fixture *f = s->f;
    call_expect(f, f->viewer_token, "POST", "/v1/check", "{\"from\":\"a\",\"to\":\"a\"}", 200);
    call_expect(f, f->viewer_token, "GET", "/metrics", NULL, 200);
    assert_string_equal(f->raw.content_type,
                        "application/openmetrics-text; version=1.0.0; charset=utf-8");
    const char *text = f->raw.body;
    size_t length = strlen(text);
    assert_string_equal(text + length - 6, "# EOF\n");
    assert_non_null(strstr(text, "\ncpubroker_nodes{status=\"live\"} 1\n"));
    assert_non_null(strstr(text, "\ncpubroker_workloads{state=\"running\"} 1\n"));
    assert_non_null(strstr(text, "\ncpubroker_verdicts_total{verdict=\"approve\"} 1\n"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(roles),
        TEST(bad_bodies),
        TEST(every_refusal),
        TEST(vendors),
        TEST(checks_are_never_stale),
        TEST(the_best_target),
        TEST(fewest_warnings_first),
        TEST(reports_of_others),
        TEST(metrics_are_openmetrics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
