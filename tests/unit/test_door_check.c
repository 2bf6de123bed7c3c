/* SPDX-License-Identifier: Apache-2.0 */
/* test_door_check.c - the generic webhook ranks, bounds, and answers in time. */
#include <stdio.h>
#include <string.h>

#include "cmocka_test.h"
#include "door_world.h"

static struct reply check(const char *body)
{
    return ask_door(door_check, body, strlen(body));
}

/* "node-a+10 node-c-0" : the targets in their order, with verdict and score. */
static char *ranking(struct reply *r)
{
    char *text = xstrdup("");
    json_object *targets = json_path(r->json, "targets");
    for (size_t i = 0; i < json_array_size(targets); i++) {
        json_object *t = json_array_item(targets, i);
        bool approve = strcmp(json_str(t, "verdict"), "approve") == 0;
        assert_true(approve || strcmp(json_str(t, "verdict"), "reject") == 0);
        char *more =
            xasprintf("%s%s%s%s%d%s", text, i ? " " : "", json_str(t, "to"), approve ? "+" : "-",
                      (int)json_int(t, "score"), json_member(t, "error") ? "!" : "");
        free(text);
        text = more;
    }
    return text;
}

static const struct {
    const char *body, *ranking, *best;
    bool allowed;
} cases[] = {
    {"{\"workload\":\"w1\",\"to\":\"node-a\"}",                                                  "node-a+10",                                                  "node-a", true },
    {"{\"workload\":\"w1\",\"to\":\"node-c\"}",                                                  "node-c-0",                                                   NULL,     false},
    {"{\"workload\":\"w1\",\"to\":[\"node-c\",\"node-w\",\"stranger\",\"node-b\",\"node-a\",\"node-"
     "x\"]}",                                                                               "node-b+10 node-a+10 node-w+8 node-x-0 node-c-0 stranger-0!", "node-b", true },
    {"{\"workload\":\"w1\"}",                                                                    "node-a+10 node-b+10 node-w+8 node-c-0",                      "node-a", true },
    {"{\"workload\":\"w1\",\"pool\":\"default\",\"limit\":2}",                                   "node-a+10 node-b+10",                                        "node-a",
     true                                                                                                                                                                     },
    {"{\"workload\":\"w1\",\"limit\":1,\"to\":[\"node-c\",\"stranger\",\"node-w\",\"node-a\"]}",
     "node-a+10",                                                                                                                                              "node-a", true },
    {"{\"workload\":\"stuck\",\"limit\":1}",                                                     "node-a-0",                                                   NULL,     false},
    {"{\"workload\":\"broken\",\"to\":\"node-a\"}",                                              "node-a-0!",                                                  NULL,     false},
    {"{\"from\":\"node-x\",\"to\":[\"node-c\",\"node-a\"]}",                                     "node-a+10 node-c-0",                                         "node-a", true },
    {"{\"from\":\"node-x\",\"pool\":\"single\"}",                                                "node-a+10",                                                  "node-a", true },
    {"{\"pool\":\"default\",\"to\":\"node-x\"}",                                                 "node-x-0",                                                   NULL,     false},
    {"{\"pool\":\"empty\"}",                                                                     "",                                                           NULL,     false},
    {"{\"workload\":\"w1\",\"to\":\"no name\"}",                                                 "no name-0!",                                                 NULL,     false},
    {"{\"workload\":\"w1\",\"to\":\"\"}",                                                        "-0!",                                                        NULL,     false},
    {"{\"workload\":\"w1\",\"to\":null}",                                                        "node-a+10 node-b+10 node-w+8 node-c-0",                      "node-a", true },
    {"{\"workload\":\"w1\",\"to\":\"node-a\",\"later\":{\"x\":[1]},\"timeout_ms\":null}",
     "node-a+10",                                                                                                                                              "node-a", true },
};

static void targets_are_ranked(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct reply r = check(cases[i].body);
        assert_int_equal(r.status, 200);
        autofree char *got = ranking(&r);
        if (strcmp(got, cases[i].ranking) != 0)
            fail_msg("%s\nranked %s", cases[i].body, got);
        assert_int_equal(json_flag(r.json, "allowed"), cases[i].allowed);
        assert_string_equal(json_str(r.json, "best"), cases[i].best ? cases[i].best : "");
        assert_true(json_flag(r.json, "complete"));
        reply_done(&r);
    }
}

static void a_verdict_is_told_in_full(void **state)
{
    (void)state;
    struct reply r = check("{\"request_id\":\"r-1\",\"from\":\"node-x\",\"to\":\"node-c\"}");
    assert_string_equal(str_path(r.json, "request_id"), "r-1");
    assert_string_equal(str_path(r.json, "targets|0|from"), "node-x");
    assert_string_equal(str_path(r.json, "targets|0|to"), "node-c");
    assert_string_equal(str_path(r.json, "targets|0|reasons|0|code"), "missing_feature");
    assert_string_equal(str_path(r.json, "targets|0|reasons|0|feature"), "avx512f");
    assert_string_equal(str_path(r.json, "targets|0|reasons|0|severity"), "reject");
    assert_int_equal(json_int(r.json, "approved"), 0);
    assert_int_equal(json_int(r.json, "rejected"), 1);
    assert_int_equal(json_int(r.json, "unjudged"), 0);
    reply_done(&r);
}

static void a_move_is_meant(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        bool moves;
    } asked[] = {
        {"{\"workload\":\"w1\",\"to\":\"node-a\"}",  true },
        {"{\"from\":\"node-x\",\"to\":\"node-a\"}",  true },
        {"{\"pool\":\"default\",\"to\":\"node-a\"}", false}
    };
    for (size_t i = 0; i < ARRAY_LEN(asked); i++) {
        struct fake_world fake = {.moves = !asked[i].moves};
        struct reply r = ask_door_of(door_check, &fake, asked[i].body, strlen(asked[i].body));
        assert_int_equal(fake.moves, asked[i].moves);
        reply_done(&r);
    }
}

static void bad_requests_are_errors_and_no_approval(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        unsigned status;
        const char *message;
    } bad[] = {
        {"",                                                            400, "empty"                                         },
        {"{",                                                           400, "not valid JSON"                                },
        {"{} x",                                                        400, "not valid JSON"                                },
        {"null",                                                        400, "null"                                          },
        {"[]",                                                          400, "check: expected an object, not array"          },
        {"{}",                                                          400, "expected a workload, a node as from, or a pool"},
        {"{\"to\":\"node-a\"}",                                         400, "expected a workload"                           },
        {"{\"workload\":7,\"to\":\"node-a\"}",                          400, "check: workload: expected a string, not int"   },
        {"{\"workload\":\"a b\",\"to\":\"node-a\"}",                    400, "is no name"                                    },
        {"{\"workload\":\"w1\\u0000\",\"to\":\"node-a\"}",              400, "NUL"                                           },
        {"{\"workload\":\"w1\",\"from\":\"node-a\",\"to\":\"node-b\"}", 400,
         "both workload and from"                                                                                            },
        {"{\"from\":\"node-a\"}",                                       400, "expected to, or the pool to choose from"       },
        {"{\"workload\":\"ghost\",\"to\":\"node-a\"}",                  404, "no workload 'ghost'"                           },
        {"{\"workload\":\"ghost\"}",                                    404, "no workload 'ghost'"                           },
        {"{\"pool\":\"ghost\"}",                                        404, "no pool 'ghost'"                               },
        {"{\"workload\":\"w1\",\"pool\":\"single\"}",                   409,
         "belongs to pool 'default', not 'single'"                                                                           },
        {"{\"workload\":\"w1\",\"pool\":\"a b\"}",                      400, "is no name"                                    },
        {"{\"workload\":\"w1\",\"to\":7}",                              400, "check: to: expected the name of a node"        },
        {"{\"workload\":\"w1\",\"to\":{}}",                             400, "check: to: expected the name of a node"        },
        {"{\"workload\":\"w1\",\"to\":[]}",                             400, "0 names, expected 1 to 1000"                   },
        {"{\"workload\":\"w1\",\"to\":[\"node-a\",7]}",                 400, "item 1: expected a node's name"                },
        {"{\"workload\":\"w1\",\"to\":[\"node-a\\u0000\"]}",            400, "item 0: expected a node's name"                },
        {"{\"workload\":\"w1\",\"timeout_ms\":-1}",                     400,
         "timeout_ms: expected 0..4294967295, not -1"                                                                        },
        {"{\"workload\":\"w1\",\"timeout_ms\":60001}",                  400,
         "timeout_ms: expected 1..60000, not 60001"                                                                          },
        {"{\"workload\":\"w1\",\"timeout_ms\":1.5}",                    400, "timeout_ms: expected an integer"               },
        {"{\"workload\":\"w1\",\"limit\":1001}",                        400, "limit: expected 1..1000, not 1001"             },
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct reply r = check(bad[i].body);
        if (r.status != bad[i].status || !strstr(str_path(r.json, "error|message"), bad[i].message))
            fail_msg("%s\nanswered %u %s", bad[i].body, r.status, r.text);
        assert_false(json_flag(r.json, "allowed"));
        assert_non_null(json_path(r.json, "allowed")); /* false, not absent */
        reply_done(&r);
    }
    struct reply r = check("{\"request_id\":\"r-1\",\"workload\":7}");
    assert_string_equal(str_path(r.json, "request_id"), "r-1");
    reply_done(&r);
}

static void the_time_is_kept(void **state)
{
    (void)state;
    /* the clock moves 10 ms at each look: the first at the start, then one a target */
    static const struct {
        const char *body;
        int64_t judged;
    } timed[] = {
        {"{\"workload\":\"w1\",\"timeout_ms\":25}",   2},
        {"{\"workload\":\"w1\",\"timeout_ms\":1}",    0},
        {"{\"workload\":\"w1\",\"timeout_ms\":1000}", 4},
        {"{\"workload\":\"w1\"}",                     4},
    };
    for (size_t i = 0; i < ARRAY_LEN(timed); i++) {
        struct fake_world fake = {.step_ms = 10};
        struct reply r = ask_door_of(door_check, &fake, timed[i].body, strlen(timed[i].body));
        assert_int_equal(r.status, 200);
        assert_int_equal(fake.asked, timed[i].judged);
        assert_int_equal(json_int(r.json, "unjudged"), 4 - timed[i].judged);
        assert_int_equal(json_flag(r.json, "complete"), timed[i].judged == 4);
        assert_int_equal(json_flag(r.json, "allowed"), timed[i].judged > 0);
        if (timed[i].judged == 2)
            assert_string_equal(str_path(r.json, "targets|2|error|code"), "timeout");
        reply_done(&r);
    }
}

static void a_whole_pool_is_told_in_part(void **state)
{
    (void)state;
    struct reply r = check("{\"workload\":\"wbig\"}");
    assert_int_equal(json_int(r.json, "approved"), 600);
    assert_int_equal(json_array_size(json_path(r.json, "targets")), 100);
    assert_string_equal(str_path(r.json, "best"), "big-0000");
    assert_string_equal(str_path(r.json, "targets|99|to"), "big-0099");
    reply_done(&r);
}

static void sizes_are_bounded(void **state)
{
    (void)state;
    size_t length = 1024 * 1024 + 1;
    char *body = xmalloc(length);
    memset(body, ' ', length);
    struct reply r = ask_door(door_check, body, length);
    assert_int_equal(r.status, 413);
    assert_false(json_flag(r.json, "allowed"));
    reply_done(&r);
    free(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(targets_are_ranked),
        cmocka_unit_test(a_verdict_is_told_in_full),
        cmocka_unit_test(a_move_is_meant),
        cmocka_unit_test(bad_requests_are_errors_and_no_approval),
        cmocka_unit_test(the_time_is_kept),
        cmocka_unit_test(a_whole_pool_is_told_in_part),
        cmocka_unit_test(sizes_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
