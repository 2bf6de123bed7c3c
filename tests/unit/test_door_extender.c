/* SPDX-License-Identifier: Apache-2.0 */
/* test_door_extender.c - filter and prioritize answer as kube-scheduler reads. */
#include <stdio.h>
#include <string.h>

#include "cmocka_test.h"
#include "door_world.h"

#define POD(annotations)                                                                           \
    "{\"metadata\":{\"name\":\"p\",\"namespace\":\"ns\",\"uid\":\"1\",\"creationTimestamp\":null," \
    "\"annotations\":" annotations "},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\","  \
    "\"resources\":{}}]},\"status\":{}}"
#define W1           POD("{\"cpubroker.dev/workload\":\"w1\"}")
#define DEFAULT      POD("{\"cpubroker.dev/pool\":\"default\"}")
#define NAMES(names) ",\"Nodes\":null,\"NodeNames\":[" names "]}"

static struct reply filter(const char *body)
{
    struct reply r = ask_door(door_extender_filter, body, strlen(body));
    assert_int_equal(r.status, 200);
    /* the reply has every member, in Go's names and types */
    assert_true(json_object_is_type(json_path(r.json, "FailedNodes"), json_type_object));
    assert_int_equal(json_object_object_length(json_path(r.json, "FailedNodes")), 0);
    assert_true(
        json_object_is_type(json_path(r.json, "FailedAndUnresolvableNodes"), json_type_object));
    str_path(r.json, "Error");
    return r;
}

static const char *member_text(struct reply *r, const char *name)
{
    return json_object_to_json_string_ext(json_path(r->json, name),
                                          JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
}

/* Bodies, the names that pass, and the whole map of the refused. */
static const struct {
    const char *body, *names, *refused;
} name_cases[] = {
  /* the current form */
    {"{\"Pod\":" W1 NAMES("\"node-a\",\"node-b\",\"node-c\",\"node-w\""),
     "[\"node-a\",\"node-b\",\"node-w\"]",                                                                           "{\"node-c\":\"cpubroker: workload w1: missing_feature avx512f, avx512dq; "
     "xsave_layout_conflict\"}"                                                },
 /* 1.16's, without the unused member */
    {"{\"pod\":" W1 ",\"nodenames\":[\"node-c\",\"node-a\"]}",                                 "[\"node-a\"]",
     "{\"node-c\":\"cpubroker: workload w1: missing_feature avx512f, avx512dq; "
     "xsave_layout_conflict\"}"                                                                                          },
    {"{\"POD\":" DEFAULT ",\"NODENAMES\":[\"node-c\",\"node-x\"]}",                            "[\"node-c\"]",
     "{\"node-x\":\"cpubroker: pool default: not_in_pool\"}"                                                             },
 /* doubled: the last counts */
    {"{\"Pod\":" DEFAULT ",\"Pod\":" W1 ",\"NodeNames\":[],\"NodeNames\":[\"node-a\"]}",
     "[\"node-a\"]",                                                                                                 "{}"},
 /* both annotations, and a pool that is not the workload's */
    {"{\"Pod\":" POD("{\"cpubroker.dev/workload\":\"w1\",\"cpubroker.dev/pool\":\"default\"}")
         NAMES("\"node-a\""),
     "[\"node-a\"]",                                                                                                 "{}"},
    {"{\"Pod\":" POD("{\"cpubroker.dev/workload\":\"w1\",\"cpubroker.dev/pool\":\"single\"}")
         NAMES("\"node-a\""),
     "[]",                                                                                                           "{\"node-a\":\"cpubroker: workload 'w1' belongs to pool 'default', but pool 'single' is named "
     "as well; name one of the two, or move the workload to the other pool\"}"                                 },
 /* nobody fits: an empty array, no error */
    {"{\"Pod\":" POD("{\"cpubroker.dev/workload\":\"stuck\"}") NAMES("\"node-a\",\"node-b\""), "[]",
     "{\"node-a\":\"cpubroker: workload stuck: vendor_differs\","
     "\"node-b\":\"cpubroker: workload stuck: vendor_differs\"}"                                                         },
 /* what does not exist is a refusal of each node, never the Error */
    {"{\"Pod\":" POD("{\"cpubroker.dev/workload\":\"ghost\"}") NAMES("\"node-a\""),            "[]",
     "{\"node-a\":\"cpubroker: no workload 'ghost'\"}"                                                                   },
    {"{\"Pod\":" POD("{\"cpubroker.dev/pool\":\"ghost\"}") NAMES("\"node-a\""),                "[]",
     "{\"node-a\":\"cpubroker: pool ghost: not_in_pool\"}"                                                               },
    {"{\"Pod\":" W1 NAMES("\"stranger\",\"node-a\""),                                          "[\"node-a\"]",
     "{\"stranger\":\"cpubroker: no node 'stranger'\"}"                                                                  },
 /* what cannot be judged, neither */
    {"{\"Pod\":" POD("{\"cpubroker.dev/workload\":\"broken\"}") NAMES("\"node-a\""),           "[]",
     "{\"node-a\":\"cpubroker: the database is locked\"}"                                                                },
    {"{\"Pod\":" POD("{\"cpubroker.dev/workload\":17}") NAMES("\"node-a\""),                   "[]",
     "{\"node-a\":\"cpubroker: annotation cpubroker.dev/workload: expected the name of a "
     "workload\"}"                                                                                                       },
    {"{\"Pod\":" POD("{\"cpubroker.dev/pool\":null}") NAMES("\"node-a\""),                     "[]",
     "{\"node-a\":\"cpubroker: annotation cpubroker.dev/pool: expected the name of a pool\"}"                            },
    {"{\"Pod\":" POD("{\"cpubroker.dev/workload\":\"w1\\u0000\"}") NAMES("\"node-a\""),        "[]",
     "{\"node-a\":\"cpubroker: annotation cpubroker.dev/workload: expected the name of a "
     "workload\"}"                                                                                                       },
    {"{\"Pod\":" POD("\"none\"") NAMES("\"node-a\""),                                          "[]",
     "{\"node-a\":\"cpubroker: the pod's annotations: expected an object, not a string\"}"                               },
    {"{\"Pod\":{\"metadata\":[]}" NAMES("\"node-a\""),                                         "[]",
     "{\"node-a\":\"cpubroker: the pod's metadata: expected an object, not an array\"}"                                  },
 /* names as they were written; a NUL is in no name of ours */
    {"{\"Pod\":" W1 NAMES("\"n\\u006fde-a\",\"node-\\u0000\""),                                "[\"n\\u006fde-a\"]",
     "{\"node-\\u0000\":\"cpubroker: no node of the broker can have this name\"}"                                        },
    {"{\"Pod\":" W1 NAMES("\"node-a\",17,null,{}"),                                            "[\"node-a\"]",       "{}"},
    {"{\"Pod\":" W1 NAMES(""),                                                                 "[]",                 "{}"},
 /* a pod that is not ours passes at once, whatever the names are */
    {"{\"Pod\":" POD("{\"other\":\"w1\"}") NAMES("\"stranger\",\"node-c\""),
     "[\"stranger\",\"node-c\"]",                                                                                    "{}"},
    {"{\"Pod\":" POD("null") NAMES("\"stranger\""),                                            "[\"stranger\"]",     "{}"},
    {"{\"Pod\":" POD("{}") NAMES(""),                                                          "[]",                 "{}"},
    {"{\"Pod\":{}" NAMES("\"stranger\""),                                                      "[\"stranger\"]",     "{}"},
    {"{\"Pod\":{\"metadata\":null}" NAMES("\"stranger\""),                                     "[\"stranger\"]",     "{}"},
};

static void names_are_filtered(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(name_cases); i++) {
        struct reply r = filter(name_cases[i].body);
        autofree char *want = xasprintf("{\"Nodes\":null,\"NodeNames\":%s,\"FailedNodes\":{},"
                                        "\"FailedAndUnresolvableNodes\":%s,\"Error\":\"\"}",
                                        name_cases[i].names, name_cases[i].refused);
        if (strcmp(r.text, want) != 0)
            fail_msg("%s\nanswered %s\nexpected %s", name_cases[i].body, r.text, want);
        reply_done(&r);
    }
}

static void a_broken_body_is_the_error(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "",
        "null",
        "[]",
        "\"Pod\"",
        "{",
        "{}",
        "{\"Pod\":null,\"NodeNames\":[\"node-a\"]}",
        "{\"NodeNames\":[\"node-a\"]}",
        "{\"Pod\":[],\"NodeNames\":[\"node-a\"]}",
        "{\"Pod\":\"p\",\"NodeNames\":[\"node-a\"]}",
        "{\"Pod\":{}}",
        "{\"Pod\":{},\"Nodes\":null,\"NodeNames\":null}",
        "{\"Pod\":{},\"NodeNames\":\"node-a\"}",
        "{\"Pod\":{},\"NodeNames\":{\"a\":1}}",
        "{\"Pod\":{},\"Nodes\":[]}",
        "{\"Pod\":{},\"Nodes\":{\"items\":{}}}",
        "{\"Pod\":{},\"NodeNames\":[\"node-a\"]} x",
        "{\"Pod\":{},\"NodeNames\":[\"node-a\"]",
        "{\"Pod\":{},\"NodeNames\":[\"\xff\"]}",
    };
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        struct reply r = filter(bodies[i]);
        assert_true(strlen(str_path(r.json, "Error")) > 10);
        assert_null(json_path(r.json, "NodeNames")); /* and no node passes */
        assert_null(json_path(r.json, "Nodes"));
        reply_done(&r);
        r = ask_door(door_extender_prioritize, bodies[i], strlen(bodies[i]));
        assert_int_equal(r.status, 400);
        assert_string_equal(str_path(r.json, "error|code"), "invalid_argument");
        reply_done(&r);
    }
}

/* What json-c and most parsers would change: big integers, fractions, order, doubled members,
 * escapes, blanks, depth. */
#define NODE_A                                                                                    \
    "{\"metadata\":{\"name\":\"node-a\",\"uid\":\"a\",\"generation\":9007199254740993,"           \
    "\"creationTimestamp\":null,\"managedFields\":[{\"fieldsV1\":{\"f:metadata\":{\".\":{}}}}]}," \
    "\"spec\":{\"podCIDR\":\"10.0.0.0\\/24\",\"z\":18446744073709551615,\"a\":1.000,\"e\":1E+2}," \
    "\"status\":{\"images\":[{\"names\":[\"\\u00e9\\ud83d\\udc27<>&\"],\"sizeBytes\":-0}],"       \
    "\"x\":1,\"x\":2 , \"y\" : [ ]}}"
#define NODE_B "{ \"metadata\" : { \"name\" : \"node-\\u0062\" } }"
#define NODE_C                                                                                     \
    "{\"metadata\":{\"name\":\"node-c\"},\"deep\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]" \
    "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}"

static void nodes_come_back_byte_for_byte(void **state)
{
    (void)state;
    static const char body[] = "{\"Pod\":" W1 ",\"Nodes\":{\"metadata\":{\"resourceVersion\":\"\"},"
                               "\"items\":[" NODE_C " , " NODE_A ",\n" NODE_B
                               ",{\"metadata\":{}},{},7]},\"NodeNames\":null}";
    struct reply r = filter(body);
    assert_non_null(strstr(r.text,
                           "{\"Nodes\":{\"metadata\":{\"resourceVersion\":\"\"},\"items\":[" NODE_A
                           "," NODE_B "]},\"NodeNames\":null,"));
    assert_string_equal(member_text(&r, "FailedAndUnresolvableNodes"),
                        "{\"node-c\":\"cpubroker: workload w1: missing_feature avx512f, avx512dq; "
                        "xsave_layout_conflict\"}");
    reply_done(&r);

    /* of a pod that is not ours, the whole list with its blanks */
    static const char list[] = "{ \"items\" : [" NODE_C "," NODE_A "],\"metadata\":{}}";
    autofree char *other = xasprintf("{\"Pod\":%s,\"Nodes\":%s}", POD("{}"), list);
    r = filter(other);
    assert_non_null(strstr(r.text, list));
    reply_done(&r);
}

static void lists_without_items_stay_lists(void **state)
{
    (void)state;
    static const char *const lists[] = {"{\"metadata\":{},\"items\":null}", "{\"metadata\":{}}",
                                        "{\"metadata\":{},\"items\":[]}",
                                        "{\"Items\":[" NODE_A "],\"metadata\":{},\"items\":[]}"};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        autofree char *body = xasprintf("{\"Pod\":%s,\"Nodes\":%s}", W1, lists[i]);
        struct reply r = filter(body);
        assert_string_equal(member_text(&r, "Nodes"), "{\"metadata\":{},\"items\":[]}");
        reply_done(&r);
    }
}

static void equal_reasons_are_equal_texts(void **state)
{
    (void)state;
    /* kube-scheduler counts equal texts: "2 cpubroker: ..."; so no node's name is in them */
    struct reply r = filter("{\"Pod\":" POD("{\"cpubroker.dev/workload\":\"stuck\"}")
                                NAMES("\"node-a\",\"node-b\""));
    assert_string_equal(str_path(r.json, "FailedAndUnresolvableNodes|node-a"),
                        str_path(r.json, "FailedAndUnresolvableNodes|node-b"));
    reply_done(&r);
}

static void a_pod_that_is_not_ours_asks_nothing(void **state)
{
    (void)state;
    struct fake_world fake = {0};
    static const char body[] = "{\"Pod\":" POD("{}") NAMES("\"node-a\",\"node-b\"");
    struct reply r = ask_door_of(door_extender_filter, &fake, body, strlen(body));
    assert_int_equal(fake.asked, 0);
    reply_done(&r);
    static const char ours[] = "{\"Pod\":" W1 NAMES("\"node-a\",\"node-b\"");
    r = ask_door_of(door_extender_filter, &fake, ours, strlen(ours));
    assert_int_equal(fake.asked, 2);
    assert_false(fake.moves); /* where it could live, not whether to move it now */
    reply_done(&r);
}

static void nodes_are_scored(void **state)
{
    (void)state;
    static const struct {
        const char *body, *scores;
    } cases[] = {
        {"{\"Pod\":" W1 NAMES("\"node-a\",\"node-c\",\"node-w\",\"stranger\""),
         "[{\"Host\":\"node-a\",\"Score\":10},{\"Host\":\"node-c\",\"Score\":0},"
         "{\"Host\":\"node-w\",\"Score\":8},{\"Host\":\"stranger\",\"Score\":0}]"           },
        {"{\"pod\":" W1 ",\"nodes\":{\"items\":[" NODE_B "," NODE_C "]}}",
         "[{\"Host\":\"node-\\u0062\",\"Score\":10},{\"Host\":\"node-c\",\"Score\":0}]"     },
        {"{\"Pod\":" POD("{}") NAMES("\"node-a\",\"x\""),
         "[{\"Host\":\"node-a\",\"Score\":0},{\"Host\":\"x\",\"Score\":0}]"                 },
        {"{\"Pod\":" POD("{\"cpubroker.dev/workload\":\"ghost\"}") NAMES("\"node-a\""),
         "[{\"Host\":\"node-a\",\"Score\":0}]"                                              },
        {"{\"Pod\":" W1 NAMES(""),                                                      "[]"},
        {"{\"Pod\":" W1 ",\"Nodes\":{\"items\":null}}",                                 "[]"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct reply r = ask_door(door_extender_prioritize, cases[i].body, strlen(cases[i].body));
        assert_int_equal(r.status, 200);
        assert_string_equal(r.text, cases[i].scores);
        reply_done(&r);
    }
}

static void sizes_are_bounded(void **state)
{
    (void)state;
    size_t length = DOOR_BODY_MAX + 1;
    char *body = xmalloc(length);
    memset(body, ' ', length);
    struct reply r = ask_door(door_extender_filter, body, length);
    assert_non_null(strstr(str_path(r.json, "Error"), "at most 8388608 are taken"));
    assert_int_equal(r.status, 200);
    reply_done(&r);
    r = ask_door(door_extender_prioritize, body, length);
    assert_int_equal(r.status, 413);
    reply_done(&r);

    /* 150,000 names: those beyond the limit are refused with that reason */
    char *at = body + snprintf(body, length, "{\"Pod\":%s,\"NodeNames\":[\"node-a\"", W1);
    for (int i = 1; i < 150000; i++)
        at += snprintf(at, 32, ",\"node-%d\"", i);
    strcpy(at, "]}");
    struct fake_world fake = {0};
    r = ask_door_of(door_extender_filter, &fake, body, strlen(body));
    assert_int_equal(fake.asked, 100000);
    assert_string_equal(member_text(&r, "NodeNames"), "[\"node-a\"]");
    assert_string_equal(str_path(r.json, "FailedAndUnresolvableNodes|node-149999"),
                        "cpubroker: more than 100000 nodes in one call");
    reply_done(&r);
    free(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_filtered),
        cmocka_unit_test(a_broken_body_is_the_error),
        cmocka_unit_test(nodes_come_back_byte_for_byte),
        cmocka_unit_test(lists_without_items_stay_lists),
        cmocka_unit_test(equal_reasons_are_equal_texts),
        cmocka_unit_test(a_pod_that_is_not_ours_asks_nothing),
        cmocka_unit_test(nodes_are_scored),
        cmocka_unit_test(sizes_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
