/* SPDX-License-Identifier: Apache-2.0 */
/* test_door_admission.c - every review gets an answer that the API server takes. */
#include <stdio.h>
#include <string.h>

#include "cmocka_test.h"
#include "door_review.h"
#include "door_text.h"

static door_function *const doors[] = {door_admission_validate, door_admission_mutate};

#define HEAD  "{\"kind\":\"AdmissionReview\",\"apiVersion\":\"admission.k8s.io/v1\",\"request\":"
#define KIND  "\"kind\":{\"group\":\"\",\"version\":\"v1\",\"kind\":\"Pod\"}"
#define OURS  "{\"cpubroker.dev/workload\":\"w1\"}"
#define FREE  "{\"containers\":[{\"name\":\"c\"}]}"
#define DEEP2 "[[[[[[[[[["
#define DEEP  DEEP2 DEEP2 DEEP2 DEEP2 DEEP2 DEEP2 DEEP2 DEEP2 DEEP2 DEEP2

/* Bodies that cannot be taken, and the uid that can be read from them all the same. */
static const struct {
    const char *body, *uid, *message;
} broken[] = {
    {"",                                                                                           "",    "not valid JSON"                                 },
    {"{",                                                                                          "",    "not valid JSON"                                 },
    {"null",                                                                                       "",    "apiVersion"                                     },
    {"[]",                                                                                         "",    "apiVersion"                                     },
    {"\"AdmissionReview\"",                                                                        "",    "apiVersion"                                     },
    {"{}",                                                                                         "",    "apiVersion"                                     },
    {"{\"request\":{\"uid\":\"u-1\"}}",                                                            "u-1", "apiVersion"                                     },
    {"{\"kind\":\"AdmissionReview\",\"apiVersion\":\"admission.k8s.io/"
     "v2\",\"request\":{\"uid\":\"u-1\"}}",                                                   "u-1", "apiVersion"                                     },
    {"{\"kind\":\"Review\",\"apiVersion\":\"admission.k8s.io/v1\",\"request\":{\"uid\":\"u-1\"}}",
     "u-1",                                                                                               "kind"                                           },
    {"{\"Kind\":\"AdmissionReview\",\"apiVersion\":\"admission.k8s.io/"
     "v1\",\"request\":{\"uid\":\"u-1\"}}",                                                   "u-1", "kind"                                           },
    {HEAD "null}",                                                                                 "",    "request: expected an object, not null"          },
    {HEAD "[{\"uid\":\"no\"}]}",                                                                   "",    "request: expected an object, not an array"      },
    {HEAD "{" KIND ",\"operation\":\"CREATE\",\"object\":{}}}",                                    "",    "request.uid"                                    },
    {HEAD "{\"uid\":17," KIND ",\"operation\":\"CREATE\",\"object\":{}}}",                         "",    "request.uid"                                    },
    {HEAD "{\"uid\":\"u-1\"," KIND ",\"object\":{}}}",                                             "u-1", "request.operation"                              },
    {HEAD "{\"uid\":\"u-1\"," KIND ",\"operation\":\"create\",\"object\":{}}}",                    "u-1",
     "request.operation: expected CREATE, UPDATE, DELETE or CONNECT, not \"create\""                                                                       },
    {HEAD "{\"uid\":\"u-1\",\"operation\":\"CREATE\",\"object\":{}}}",                             "u-1", "request.kind.kind"                              },
    {HEAD "{\"uid\":\"u-1\",\"kind\":\"Pod\",\"operation\":\"CREATE\",\"object\":{}}}",            "u-1",
     "request.kind.kind"                                                                                                                                   },
    {HEAD "{\"uid\":\"u-1\"," KIND ",\"operation\":\"CREATE\",\"object\":null}}",                  "u-1",
     "request.object: expected a pod, not null"                                                                                                            },
    {HEAD "{\"uid\":\"u-1\"," KIND ",\"operation\":\"CREATE\"}}",                                  "u-1",
     "request.object: expected a pod, not missing"                                                                                                         },
    {HEAD "{\"uid\":\"u-1\"," KIND ",\"operation\":\"CREATE\",\"object\":\"Pod\"}}",               "u-1",
     "request.object: expected a pod, not a string"                                                                                                        },
    {HEAD "{\"uid\":\"u-1\"," KIND ",\"operation\":\"CREATE\",\"object\":{\"metadata\":1}}}",      "u-1",
     "metadata"                                                                                                                                            },
    {HEAD "{\"uid\":\"u-1\"," KIND
          ",\"operation\":\"CREATE\",\"object\":{\"metadata\":{\"annotations\":"
          "{\"cpubroker.dev/pool\":[]}}}}}",                                                  "u-1", "annotation cpubroker.dev/pool"                  },
    {HEAD "{\"uid\":\"u-1\"," KIND
          ",\"operation\":\"CREATE\",\"object\":{\"metadata\":{\"annotations\":"
          "{\"cpubroker.dev/pool\":\"default\"}}}}}",                                         "u-1", "the pod's spec: expected an object, not missing"},
 /* broken behind the uid: cut, trailing bytes, no UTF-8, too deep */
    {HEAD "{\"uid\":\"u-1\"," KIND ",\"operation\":\"CREATE\",\"object\":{\"metadata\":{",         "u-1",
     "not valid JSON"                                                                                                                                      },
    {HEAD "{\"uid\":\"u-1\"," KIND ",\"operation\":\"CREATE\",\"object\":{}}} x",                  "u-1",
     "text goes on"                                                                                                                                        },
    {HEAD "{\"uid\":\"u-1\"," KIND ",\"operation\":\"CREATE\",\"object\":{\"a\":\"\xff\"}}}",      "u-1",
     "UTF-8"                                                                                                                                               },
    {HEAD "{\"uid\":\"u-1\"," KIND ",\"operation\":\"CREATE\",\"object\":" DEEP DEEP,              "u-1",
     "not valid JSON"                                                                                                                                      },
 /* doubled uid: the last counts; escapes are echoed as they came */
    {HEAD "{\"uid\":\"u-1\",\"uid\":\"u-2\"",                                                      "u-2", "not valid JSON"                                 },
};

static void broken_reviews_are_denied_with_their_uid(void **state)
{
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(doors); k++) {
        for (size_t i = 0; i < ARRAY_LEN(broken); i++) {
            struct reply r =
                review_body(doors[k], broken[i].body, strlen(broken[i].body), broken[i].uid);
            if (review_allowed(&r) || !strstr(r.text, "cpubroker: ") ||
                !strstr(str_path(r.json, "response|status|message"), broken[i].message))
                fail_msg("%s\nanswered %s", broken[i].body, r.text);
            assert_int_equal(json_int(json_path(r.json, "response|status"), "code"), 400);
            reply_done(&r);
        }
    }
}

static void a_uid_is_echoed_as_it_came(void **state)
{
    (void)state;
    static const char body[] = HEAD "{\"uid\":\"a\\u0000\\\"b\\u00e9\"," KIND
                                    ",\"operation\":\"DELETE\",\"object\":null}}";
    struct reply r = ask_door(door_admission_validate, body, strlen(body));
    assert_non_null(strstr(r.text, "\"uid\":\"a\\u0000\\\"b\\u00e9\",\"allowed\":true"));
    reply_done(&r);
}

static void depth_and_oddities_are_taken(void **state)
{
    (void)state;
    /* a valid pod that nests deeper than most parsers go, with NULs and doubled members */
    struct door_text t = {0};
    door_text_add(&t, "{\"cpubroker.dev/pool\":\"single\",\"x\":\"\\u0000\",\"x\":");
    for (int i = 0; i < 5000; i++)
        door_text_add(&t, "[");
    for (int i = 0; i < 5000; i++)
        door_text_add(&t, "]");
    door_text_add(&t, "}");
    autofree char *annotations = door_text_take(&t);
    struct reply r = review_pod(door_admission_validate, "CREATE", annotations, FREE);
    assert_true(review_allowed(&r));
    reply_done(&r);
    r = review_pod(door_admission_validate, "CREATE",
                   "{\"cpubroker.dev/workload\":\"ghost\",\"cpubroker.dev/workload\":\"w1\"}",
                   FREE);
    assert_true(review_allowed(&r));
    reply_done(&r);
}

static void the_version_is_echoed(void **state)
{
    (void)state;
    static const char body[] =
        "{\"kind\":\"AdmissionReview\",\"apiVersion\":\"admission.k8s.io/v1beta1\",\"request\":{"
        "\"uid\":\"u-1\"," KIND ",\"operation\":\"CREATE\",\"object\":{\"metadata\":{}}}}";
    struct reply r = review_body(door_admission_mutate, body, strlen(body), "u-1");
    assert_string_equal(str_path(r.json, "apiVersion"), "admission.k8s.io/v1beta1");
    assert_true(review_allowed(&r));
    reply_done(&r);
}

static void what_is_not_ours_passes_at_once(void **state)
{
    (void)state;
    static const char *const annotations[] = {"null", "{}", "{\"other.dev/pool\":\"default\"}",
                                              "{\"cpubroker.dev/Pool\":\"default\"}"};
    for (size_t k = 0; k < ARRAY_LEN(doors); k++) {
        for (size_t i = 0; i < ARRAY_LEN(annotations); i++) {
            /* its own faults are not ours to find */
            struct reply r = review_pod(doors[k], "CREATE", annotations[i], "{\"nodeName\":17}");
            assert_string_equal(r.text, "{\"apiVersion\":\"admission.k8s.io/v1\",\"kind\":"
                                        "\"AdmissionReview\",\"response\":{\"uid\":\"" REVIEW_UID
                                        "\",\"allowed\":true}}");
            reply_done(&r);
        }
    }
}

static void other_requests_pass(void **state)
{
    (void)state;
    autofree char *pod =
        pod_text("{\"cpubroker.dev/workload\":\"ghost\"}", "{\"nodeName\":\"node-c\"}");
    static const struct {
        const char *operation, *sub;
        bool object;
    } cases[] = {
        {"DELETE",  NULL,                  false},
        {"CONNECT", "exec",                false},
        {"CREATE",  "binding",             true },
        {"CREATE",  "eviction",            true },
        {"UPDATE",  "status",              true },
        {"UPDATE",  "ephemeralcontainers", true },
        {"UPDATE",  "resize",              true },
    };
    for (size_t k = 0; k < ARRAY_LEN(doors); k++) {
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
            autofree char *body =
                review_text(cases[i].operation, cases[i].sub, cases[i].object ? pod : NULL, pod);
            struct reply r = review_body(doors[k], body, strlen(body), REVIEW_UID);
            assert_true(review_allowed(&r));
            assert_null(json_path(r.json, "response|patch"));
            assert_null(json_path(r.json, "response|warnings"));
            reply_done(&r);
        }
    }
}

static void other_kinds_pass_with_a_word(void **state)
{
    (void)state;
    static const char body[] = HEAD
        "{\"uid\":\"u-1\",\"kind\":{\"group\":\"apps\",\"version\":\"v1\",\"kind\":\"Deployment\"},"
        "\"operation\":\"CREATE\",\"object\":{\"metadata\":{\"annotations\":" OURS "}}}}";
    for (size_t k = 0; k < ARRAY_LEN(doors); k++) {
        struct reply r = review_body(doors[k], body, strlen(body), "u-1");
        assert_true(review_allowed(&r));
        assert_string_equal(
            str_path(r.json, "response|warnings|0"),
            "cpubroker judges pods only; leave Deployment out of the webhook's rules");
        reply_done(&r);
    }
}

static void what_does_not_exist_is_denied(void **state)
{
    (void)state;
    static const struct {
        const char *annotations, *message;
        int code;
    } cases[] = {
        {"{\"cpubroker.dev/workload\":\"ghost\"}",                                         "no workload 'ghost'",             403},
        {"{\"cpubroker.dev/pool\":\"ghost\"}",                                             "no pool 'ghost'",                 403},
        {"{\"cpubroker.dev/pool\":\"single\",\"cpubroker.dev/workload\":\"w1\"}",
         "workload 'w1' belongs to pool 'default'",                                                                           403},
        {"{\"cpubroker.dev/pool\":\"\"}",                                                  "is no name",                      400},
        {"{\"cpubroker.dev/pool\":\"../etc\"}",                                            "is no name",                      400},
        {"{\"cpubroker.dev/pool\":\"default\\u0000\"}",                                    "expected the name of a pool",     400},
        {"{\"cpubroker.dev/pool\":null}",                                                  "expected the name of a pool",     400},
        {"{\"cpubroker.dev/workload\":{}}",                                                "expected the name of a workload", 400},
        {"{\"cpubroker.dev/pool\":\"default\",\"cpubroker.dev/node-label\":\"a b\"}",
         "expected the key of a node label",                                                                                  400},
        {"{\"cpubroker.dev/pool\":\"default\",\"cpubroker.dev/node-label\":\"a//b\"}",
         "expected the key of a node label",                                                                                  400},
        {"{\"cpubroker.dev/pool\":\"default\",\"cpubroker.dev/node-label\":\"/b\"}",
         "expected the key of a node label",                                                                                  400},
        {"{\"cpubroker.dev/pool\":\"default\",\"cpubroker.dev/node-label\":\"Up.dev/b\"}",
         "expected the key of a node label",                                                                                  400},
        {"{\"cpubroker.dev/pool\":\"default\",\"cpubroker.dev/node-label\":\"\"}",
         "expected the key of a node label",                                                                                  400},
    };
    for (size_t k = 0; k < ARRAY_LEN(doors); k++) {
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
            struct reply r = review_pod(doors[k], "CREATE", cases[i].annotations, FREE);
            if (review_allowed(&r) ||
                !strstr(str_path(r.json, "response|status|message"), cases[i].message))
                fail_msg("%s\nanswered %s", cases[i].annotations, r.text);
            assert_int_equal(json_int(json_path(r.json, "response|status"), "code"), cases[i].code);
            assert_string_equal(str_path(r.json, "response|status|reason"),
                                cases[i].code == 400 ? "BadRequest" : "Forbidden");
            reply_done(&r);
        }
    }
}

static void sizes_are_bounded(void **state)
{
    (void)state;
    size_t length = DOOR_BODY_MAX + 100;
    char *body = xmalloc(length);
    memset(body, ' ', length);
    static const char head[] = HEAD "{\"uid\":\"u-1\"}}";
    memcpy(body, head, strlen(head));
    for (size_t k = 0; k < ARRAY_LEN(doors); k++) {
        struct reply r = review_body(doors[k], body, length, "u-1");
        assert_false(review_allowed(&r));
        assert_non_null(strstr(r.text, "at most 8388608 are taken"));
        reply_done(&r);
    }
    free(body);
}

static void the_audit_log_learns_who_was_judged(void **state)
{
    (void)state;
    struct reply r = review_pod(door_admission_validate, "CREATE", OURS, FREE);
    assert_string_equal(str_path(r.json, "response|auditAnnotations|subject"), "workload w1");
    assert_string_equal(str_path(r.json, "response|auditAnnotations|verdict"), "approve");
    reply_done(&r);
    r = review_pod(door_admission_validate, "CREATE", OURS, "{\"nodeName\":\"node-c\"}");
    assert_string_equal(str_path(r.json, "response|auditAnnotations|verdict"), "refuse");
    reply_done(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_reviews_are_denied_with_their_uid),
        cmocka_unit_test(a_uid_is_echoed_as_it_came),
        cmocka_unit_test(depth_and_oddities_are_taken),
        cmocka_unit_test(the_version_is_echoed),
        cmocka_unit_test(what_is_not_ours_passes_at_once),
        cmocka_unit_test(other_requests_pass),
        cmocka_unit_test(other_kinds_pass_with_a_word),
        cmocka_unit_test(what_does_not_exist_is_denied),
        cmocka_unit_test(sizes_are_bounded),
        cmocka_unit_test(the_audit_log_learns_who_was_judged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
