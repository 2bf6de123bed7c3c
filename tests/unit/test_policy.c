/* SPDX-License-Identifier: Apache-2.0 */
/* test_policy.c - a pool's policy: read, kept, shown, and what it refuses. */
/* clang-format off */
#include "cmocka_test.h"
/* clang-format on */
#include "broker_fixture.h"

static int set_up(void **state)
{
    *state = fixture_new();
    return 0;
}

static int tear_down(void **state)
{
    fixture_free(*state);
    return 0;
}

/* A Haswell whose AVX2 the firmware hides. */
static char *without_avx2(const char *node)
{
    char *text = fixture_report("haswell", node, true);
    char *ebx = strstr(text, "0x000027ab");
    assert_non_null(ebx);
    memcpy(ebx, "0x0000278b", 10);
    return text;
}

static void node_without_avx2(struct fixture *f, const char *node, char secret[65])
{
    autofree char *path = xasprintf("/v1/nodes/%s/report", node);
    autofree char *text = without_avx2(node);
    fixture_token(f, ROLE_AGENT, node, secret);
    fixture_heartbeat(f, secret, node, NULL);
    call_expect(f, secret, "PUT", path, text, 200);
}

static void policy(struct fixture *f, const char *text)
{
    autofree char *body = xasprintf("{\"policy\":{%s}}", text);
    call_expect(f, f->operator_token, "PUT", "/v1/pools/default", body, 200);
}

static void join(struct fixture *f, const char *node, int status)
{
    autofree char *path = xasprintf("/v1/pools/default/nodes/%s", node);
    call_expect(f, f->operator_token, "PUT", path, NULL, status);
}

static void assert_policy(struct fixture *f, const char *expected)
{
    call_expect(f, f->viewer_token, "GET", "/v1/pools/default", NULL, 200);
    autofree char *text = json_text(fixture_member(f, "policy"));
    assert_string_equal(text, expected);
}

static void defaults_and_changes_are_kept(void **state)
{
    struct fixture *f = *state;
    static const char usual[] = "{\"mix_vendors\":false,\"min_level\":null,\"evidence\":\"strict\","
                                "\"islands\":\"warn\"}";
    static const char strict[] =
        "{\"mix_vendors\":true,\"min_level\":\"x86-64-v3\",\"evidence\":\"relax\","
        "\"islands\":\"refuse\"}";
    assert_policy(f, usual);
    autofree char *body = xasprintf("{\"policy\":%s}", strict);
    call_expect(f, f->operator_token, "PUT", "/v1/pools/default", body, 200);
    assert_policy(f, strict);
    fixture_restart(f);
    assert_policy(f, strict);
    policy(f, ""); /* what is not told stays */
    assert_policy(f, strict);
    call_expect(f, f->operator_token, "PUT", "/v1/pools/default", NULL, 200);
    assert_policy(f, strict);
    policy(f, "\"evidence\":\"strict\"");
    assert_int_equal(fixture_member(f, "policy.min_level") != NULL, true);
    policy(f, "\"min_level\":null"); /* and null takes it back */
    assert_null(fixture_member(f, "policy.min_level"));
    assert_true(json_flag(fixture_member(f, "policy"), "mix_vendors"));
    policy(f, "\"min_level\":null,\"mix_vendors\":null,\"evidence\":null,\"islands\":null");
    assert_policy(f, usual);
    call_expect(f, f->operator_token, "PUT", "/v1/pools/default", "{\"policy\":null}", 200);
    assert_policy(f, usual);
    policy(f, "\"min_level\":null");
    fixture_restart(f);
    assert_policy(f, usual);
}

static void what_is_wrong_is_named(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *body, *said;
    } bad[] = {
        {"{\"policy\":{\"min_level\":\"x86-64-v5\"}}", "min_level"                },
        {"{\"policy\":{\"min_level\":\"x86-64-v0\"}}", "x86-64-v1, x86-64-v2"     },
        {"{\"policy\":{\"min_level\":3}}",             "min_level"                },
        {"{\"policy\":{\"evidence\":\"maybe\"}}",      "evidence: expected one of"},
        {"{\"policy\":{\"islands\":\"sink\"}}",        "refuse, warn, allow"      },
        {"{\"policy\":{\"islands\":true}}",            "islands"                  },
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        call_expect(f, f->operator_token, "PUT", "/v1/pools/default", bad[i].body, 400);
        if (!strstr(fixture_error(f), bad[i].said))
            fail_msg("'%s' does not say '%s'", fixture_error(f), bad[i].said);
    }
}

static void a_node_below_the_level_stays_outside(void **state)
{
    struct fixture *f = *state;
    fixture_import(f, "a", "haswell");
    fixture_import(f, "c", "lesser-intel");
    policy(f, "\"min_level\":\"x86-64-v3\"");
    join(f, "a", 200);
    join(f, "c", 409);
    assert_non_null(strstr(fixture_error(f), "min_level"));
    assert_non_null(strstr(fixture_error(f), "'c'"));
    call_expect(f, f->viewer_token, "GET", "/v1/pools/default", NULL, 200);
    assert_int_equal(json_array_size(fixture_member(f, "members")), 1);
    assert_int_equal(fixture_int(f, "epoch"), 1);
    policy(f, "\"min_level\":null"); /* and the mask's counts are as they were */
    join(f, "c", 200);
    policy(f, "\"min_level\":\"x86-64-v3\""); /* members stay, and a pool below takes others */
    fixture_import(f, "b", "haswell");
    join(f, "b", 200);
    fixture_import(f, "d", "lesser-intel");
    join(f, "d", 409); /* but none like those that lower it */
    fixture_restart(f);
    call_expect(f, f->viewer_token, "GET", "/v1/pools/default", NULL, 200);
    assert_int_equal(json_array_size(fixture_member(f, "members")), 3);
}

/* Zen 4 and an Intel of the same level keep components at other offsets: the mask falls. */
static void a_clash_that_lowers_the_mask_is_refused(void **state)
{
    struct fixture *f = *state;
    const struct pool_policy v4 = {.min_level = "x86-64-v4"};
    struct error err = {0};
    struct cpu_profile *profiles[2];
    static const char *const samples[] = {"zen4", "haswell"};
    for (size_t i = 0; i < 2; i++) {
        autofree char *text = fixture_report(samples[i], "n", false);
        autojson *json = NULL;
        AUTO(cpu_report) report = NULL;
        assert_int_equal(json_parse(text, strlen(text), &json, NULL), 0);
        assert_int_equal(cpu_report_parse(json, &report, NULL), 0);
        assert_int_equal(cpu_profile_from_report(report, &profiles[i], NULL), 0);
    }
    struct cpu_profile *high = profiles[0], *low = profiles[1];
    assert_int_equal(pool_policy_check_join(&v4, "p", "n", high, NULL, high, &err), 0);
    assert_int_equal(pool_policy_check_join(&v4, "p", "n", high, high, low, &err), -1);
    assert_int_equal(err.kind, ERROR_CONFLICT);
    assert_non_null(strstr(err.message, "mask"));
    assert_int_equal(pool_policy_check_join(&v4, "p", "n", high, low, low, &err), 0);
    assert_int_equal(pool_policy_check_join(&v4, "p", "n", low, NULL, low, &err), -1);
    assert_int_equal(pool_policy_check_join(&v4, "p", "n", NULL, high, high, &err), 0);
    cpu_profile_free(high);
    cpu_profile_free(low);
    (void)f;
}

/* An agent's node joins with its first heartbeat, and is judged with its first report. */
static void the_first_report_ends_the_joining(void **state)
{
    struct fixture *f = *state;
    char a[65], c[65];
    policy(f, "\"min_level\":\"x86-64-v3\"");
    fixture_node(f, "a", "haswell", a);
    fixture_node(f, "c", "lesser-intel", c);
    call_expect(f, f->viewer_token, "GET", "/v1/pools/default", NULL, 200);
    assert_int_equal(json_array_size(fixture_member(f, "members")), 1);
    assert_string_equal(fixture_str(f, "members.0"), "a");
    assert_int_equal(fixture_int(f, "epoch"), 1);
    call_expect(f, f->viewer_token, "GET", "/v1/events", NULL, 200);
    autojson *list = json_object_get(fixture_member(f, "events"));
    json_object *event = json_array_item(list, json_array_size(list) - 1);
    assert_string_equal(json_str(event, "kind"), "pool_join_refused");
    assert_string_equal(json_str(event, "node"), "c");
    assert_string_equal(json_str(event, "pool"), "default");
    assert_non_null(strstr(json_str(json_member(event, "detail"), "summary"), "x86-64-v3"));
    call_expect(f, c, "PUT", "/v1/nodes/c/workloads/w",
                "{\"pool\":\"default\",\"command\":[\"./w\"]}", 409);
    fixture_heartbeat(f, c, "c", NULL); /* it stays outside */
    fixture_restart(f);
    call_expect(f, f->viewer_token, "GET", "/v1/pools/default", NULL, 200);
    assert_int_equal(json_array_size(fixture_member(f, "members")), 1);
    /* A member that drifts below it is told of, and stays. */
    autofree char *text = fixture_report("lesser-intel", "a", true);
    fixture_heartbeat(f, a, "a", NULL);
    call_expect(f, a, "PUT", "/v1/nodes/a/report", text, 200);
    call_expect(f, f->viewer_token, "GET", "/v1/pools/default", NULL, 200);
    assert_int_equal(json_array_size(fixture_member(f, "members")), 1);
}

static const char *first_code(struct fixture *f)
{
    return fixture_str(f, "reasons.0.code");
}

static void islands(void **state)
{
    struct fixture *f = *state;
    char a[65], b[65], c[65];
    static const char question[] = "{\"workload\":\"w\",\"to\":\"b\"}";
    node_without_avx2(f, "a", a);
    fixture_node(f, "b", "haswell", b);
    fixture_workload(f, a, "a", "w");
    call_expect(f, f->viewer_token, "POST", "/v1/check", question, 200);
    assert_string_equal(fixture_str(f, "verdict"), "approve");
    assert_string_equal(first_code(f), "island");
    assert_string_equal(fixture_str(f, "reasons.0.severity"), "warn");
    policy(f, "\"islands\":\"refuse\"");
    call_expect(f, f->viewer_token, "POST", "/v1/check", question, 200);
    assert_string_equal(fixture_str(f, "verdict"), "reject");
    assert_string_equal(first_code(f), "island");
    policy(f, "\"islands\":\"allow\"");
    call_expect(f, f->viewer_token, "POST", "/v1/check", question, 200);
    assert_string_equal(fixture_str(f, "verdict"), "approve");
    assert_string_equal(first_code(f), "");
    /* A second one of the kind: it is none. An imported one takes nobody. */
    policy(f, "\"islands\":\"refuse\"");
    fixture_import(f, "c2", "haswell");
    join(f, "c2", 200);
    call_expect(f, f->viewer_token, "POST", "/v1/check", question, 200);
    assert_string_equal(first_code(f), "island");
    fixture_node(f, "c", "haswell", c);
    call_expect(f, f->viewer_token, "POST", "/v1/check", question, 200);
    assert_string_equal(fixture_str(f, "verdict"), "approve");
    assert_string_equal(first_code(f), "");
    f->clock.test_ms += 3600000; /* silent all: that is another matter */
    fixture_heartbeat(f, b, "b", NULL);
    call_expect(f, f->viewer_token, "POST", "/v1/check", question, 200);
    assert_string_not_equal(first_code(f), "island");
}

/* A refusal stands for itself. */
static void what_is_refused_anyway_is_no_island(void **state)
{
    struct fixture *f = *state;
    char a[65], b[65];
    autofree char *text = without_avx2("b");
    fixture_node(f, "a", "haswell", a);
    fixture_node(f, "b", "haswell", b);
    memcpy(strstr(text, "0x0000278b"), "0x0008278b", 10); /* without AVX2, with ADX */
    call_expect(f, b, "PUT", "/v1/nodes/b/report", text, 200);
    fixture_workload(f, a, "a", "w");
    call_expect(f, f->viewer_token, "POST", "/v1/check", "{\"workload\":\"w\",\"to\":\"b\"}", 200);
    assert_string_equal(fixture_str(f, "verdict"), "reject");
    assert_null(strstr(f->raw.body, "island"));
}

/* Two of a kind: back is somewhere. */
static void back_is_no_island(void **state)
{
    struct fixture *f = *state;
    char a[65], b[65];
    policy(f, "\"islands\":\"refuse\"");
    fixture_node(f, "a", "haswell", a);
    fixture_node(f, "b", "haswell", b);
    fixture_workload(f, a, "a", "w");
    call_expect(f, f->viewer_token, "POST", "/v1/check", "{\"workload\":\"w\",\"to\":\"b\"}", 200);
    assert_string_equal(fixture_str(f, "verdict"), "approve");
}

/* The same CPU under the other vendor's name. */
static void node_of_amd(struct fixture *f, const char *node, char secret[65])
{
    static const char *const names[][2] = {
        {"0x756e6547", "0x68747541"},
        {"0x6c65746e", "0x444d4163"},
        {"0x49656e69", "0x69746e65"}
    };
    autofree char *path = xasprintf("/v1/nodes/%s/report", node);
    autofree char *text = fixture_report("haswell", node, true);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        memcpy(strstr(text, names[i][0]), names[i][1], strlen(names[i][1]));
    fixture_token(f, ROLE_AGENT, node, secret);
    fixture_heartbeat(f, secret, node, NULL);
    call_expect(f, secret, "PUT", path, text, 200);
}

static void no_more_mixing_strands(void **state)
{
    struct fixture *f = *state;
    char a[65], b[65];
    policy(f, "\"mix_vendors\":true");
    node_of_amd(f, "a", a);
    fixture_node(f, "b", "haswell", b);
    fixture_workload(f, b, "b", "w");
    call_expect(f, f->viewer_token, "POST", "/v1/check", "{\"workload\":\"w\",\"to\":\"a\"}", 200);
    if (strcmp(fixture_str(f, "verdict"), "approve") != 0)
        fail_msg("%s", f->raw.body);
    int64_t before = 0;
    assert_int_equal(store_fleet_event_last(f->broker->store, &before, NULL), 0);
    policy(f, "\"mix_vendors\":true,\"islands\":\"allow\"");
    policy(f, "\"mix_vendors\":false");
    call_expect(f, f->viewer_token, "GET", "/v1/events", NULL, 200);
    assert_int_equal(fixture_int(f, "last_seq"), before + 1);
    autojson *list = json_object_get(fixture_member(f, "events"));
    json_object *event = json_array_item(list, json_array_size(list) - 1);
    assert_string_equal(json_str(event, "kind"), "workload_stranded");
    assert_string_equal(json_str(event, "workload"), "w");
    assert_string_equal(json_str(json_member(event, "detail"), "cause"), "policy");
    assert_false(json_flag(json_member(event, "detail"), "fits_elsewhere"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(defaults_and_changes_are_kept),
        TEST(what_is_wrong_is_named),
        TEST(a_node_below_the_level_stays_outside),
        TEST(a_clash_that_lowers_the_mask_is_refused),
        TEST(the_first_report_ends_the_joining),
        TEST(islands),
        TEST(what_is_refused_anyway_is_no_island),
        TEST(back_is_no_island),
        TEST(no_more_mixing_strands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
