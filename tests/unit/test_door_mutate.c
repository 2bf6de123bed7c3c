/* SPDX-License-Identifier: Apache-2.0 */
/* test_door_mutate.c - patches that the API server can apply, that keep a pod to its pool, and that
 * change nothing the second time. */
#include <stdio.h>
#include <string.h>

#include "cmocka_test.h"
#include "door_review.h"
#include "door_text.h"

#define POOL   "{\"cpubroker.dev/pool\":\"default\"}"
#define PLAIN  "{\"cpubroker.dev/pool\":\"plain\"}" /* without environment */
#define SINGLE "{\"cpubroker.dev/pool\":\"single\"}"
#define W2     "{\"cpubroker.dev/workload\":\"w2\"}"
#define LABELED \
    "{\"cpubroker.dev/pool\":\"plain\",\"cpubroker.dev/node-label\":\"example.com/node\"}"

#define TUNABLES "{\"name\":\"GLIBC_TUNABLES\",\"value\":\"glibc.cpu.hwcaps=-AVX512F,-AVX512DQ\"}"
#define OPENSSL  "{\"name\":\"OPENSSL_ia32cap\",\"value\":\"~0x0:~0xd0230000\"}"
#define GODEBUG  "{\"name\":\"GODEBUG\",\"value\":\"cpu.avx512f=off,cpu.avx512dq=off\"}"
#define JAVA     "{\"name\":\"JAVA_TOOL_OPTIONS\",\"value\":\"-XX:UseAVX=2\"}"
#define ENV      TUNABLES "," OPENSSL "," GODEBUG "," JAVA

#define IN(key, values) "{\"key\":\"" key "\",\"operator\":\"In\",\"values\":[" values "]}"
#define HOST            "kubernetes.io/hostname"
#define TWO             "\"node-a\",\"node-b\""
#define LABELS          "{\"matchExpressions\":[" IN(HOST, TWO) "]}"
#define REQUIRED        "\"requiredDuringSchedulingIgnoredDuringExecution\""
#define AFFINITY(terms) \
    "\"affinity\":{\"nodeAffinity\":{" REQUIRED ":{\"nodeSelectorTerms\":[" terms "]}}}"

/* The spec before and after: compared as texts, so that order counts as well. */
static const struct {
    const char *annotations, *spec, *want; /* want NULL: there is no patch */
} cases[] = {
  /* environment: none, null, empty; both kinds of container; sidecars */
    {SINGLE,                                                                                "{\"containers\":[{\"name\":\"c\"}]}",
     "{\"containers\":[{\"name\":\"c\",\"env\":[" ENV
     "]}]," AFFINITY("{\"matchFields\":[" IN("metadata.name","\"node-a\"") "]}") "}"},
    {W2,
     "{\"initContainers\":[{\"name\":\"i\",\"env\":null},{\"name\":\"s\",\"restartPolicy\":"
     "\"Always\","
     "\"env\":[]}],\"containers\":[{\"name\":\"c\",\"env\":[{\"name\":\"X\",\"value\":\"1\"}]}]}",                                                                                                                         "{\"initContainers\":[{\"name\":\"i\",\"env\":[" ENV
     "]},{\"name\":\"s\",\"restartPolicy\":\"Always\","
     "\"env\":[" ENV
     "]}],\"containers\":[{\"name\":\"c\",\"env\":[{\"name\":\"X\",\"value\":\"1\"}," ENV
     "]}]," AFFINITY("{\"matchFields\":[" IN("metadata.name","\"node-a\"") "]}") "}"},
 /* what is there is merged, in the last of several */
    {SINGLE,
     "{\"nodeName\":\"node-a\",\"containers\":[{\"name\":\"c\",\"env\":[{\"name\":\"GLIBC_"
     "TUNABLES\","
     "\"value\":\"glibc.malloc.check=1\"},{\"name\":\"GLIBC_TUNABLES\",\"value\":"
     "\"glibc.cpu.hwcaps=-ERMS\"},{\"name\":\"GODEBUG\"},{\"name\":\"JAVA_TOOL_OPTIONS\",\"value\":"
     "null}," OPENSSL "]}]}",
     "{\"nodeName\":\"node-a\",\"containers\":[{\"name\":\"c\",\"env\":[{\"name\":\"GLIBC_"
     "TUNABLES\","
     "\"value\":\"glibc.malloc.check=1\"},{\"name\":\"GLIBC_TUNABLES\",\"value\":"
     "\"glibc.cpu.hwcaps=-ERMS,-AVX512F,-AVX512DQ\"}," GODEBUG "," JAVA "," OPENSSL "]}]}"                                                           },
 /* nothing but affinity */
    {PLAIN, "{\"containers\":[]}",                                      "{\"containers\":[]," AFFINITY(LABELS) "}"},
    {PLAIN,                                           "{}",                                           "{" AFFINITY(LABELS) "}"                                                                },
    {PLAIN,                                                             "{\"affinity\":null}",                                                        "{" AFFINITY(LABELS) "}"},
    {PLAIN,                                                             "{\"affinity\":{}}",                                           "{" AFFINITY(LABELS) "}"                                                   },
    {PLAIN,                                                             "{\"affinity\":{\"podAffinity\":{}}}",
     "{\"affinity\":{\"podAffinity\":{},\"nodeAffinity\":{" REQUIRED
     ":{\"nodeSelectorTerms\":[" LABELS "]}}}}"},
    {PLAIN,
     "{\"affinity\":{\"nodeAffinity\":{\"preferredDuringSchedulingIgnoredDuringExecution\":[]}}}",                                                                                 "{\"affinity\":{\"nodeAffinity\":{\"preferredDuringSchedulingIgnoredDuringExecution\":[]"
     "," REQUIRED ":{\"nodeSelectorTerms\":[" LABELS "]}}}}"                                                                            },
    {LABELED,                          "{}",                                                               "{" AFFINITY("{\"matchExpressions\":[" IN("example.com/node",TWO) "]}") "}"},
 /* into every term, and into no empty one */
    {PLAIN,
     "{" AFFINITY("{\"matchExpressions\":[" IN("zone","\"z\"") "]},{\"matchFields\":[" IN(
         "metadata.name",      "\"node-a\"") "]}") "}",
     "{" AFFINITY(
         "{\"matchExpressions\":[" IN("zone", "\"z\"") "," IN(HOST, TWO) "]},{\"matchFields\":[" IN(
             "metadata.name", "\"node-a\"") "],\"matchExpressions\":[" IN(HOST, TWO) "]}") "}"},
    {PLAIN,                                      "{" AFFINITY("{},null,{\"matchExpressions\":[" IN("zone",                                                    "\"z\"") "]}") "}",
     "{" AFFINITY(
         "{},null,{\"matchExpressions\":[" IN("zone", "\"z\"") "," IN(HOST, TWO) "]}") "}"},
    {SINGLE,
     "{\"containers\":null," AFFINITY("{\"matchExpressions\":[" IN("zone",                                                                           "\"z\"") "]}") "}",
     "{\"containers\":null," AFFINITY("{\"matchExpressions\":[" IN(
         "zone", "\"z\"") "],\"matchFields\":[" IN("metadata.name", "\"node-a\"") "]}") "}"},
 /* an affinity without terms is no valid one, and is left to the API server to say */
    {PLAIN,                                                                                     "{" AFFINITY("") "}",                                                                                                                      NULL},
    {PLAIN,                                       "{\"affinity\":{\"nodeAffinity\":{" REQUIRED ":{}}}}",                                                        NULL},
 /* bound: no affinity */
    {PLAIN,                                                                                "{\"nodeName\":\"node-a\"}",                                                         NULL},
    {PLAIN,                                    "{\"nodeName\":\"\"}",                                                  "{\"nodeName\":\"\"," AFFINITY(LABELS) "}"},
 /* done already */
    {PLAIN,"{" AFFINITY(LABELS) "}",NULL},
    {PLAIN,"{" AFFINITY(LABELS "," LABELS) "}",NULL},
 /* nearly, but not that */
    {PLAIN,"{" AFFINITY("{\"matchExpressions\":[" IN(HOST,"\"node-a\"") "]}") "}",
     "{" AFFINITY("{\"matchExpressions\":[" IN(HOST, "\"node-a\"") "," IN(HOST, TWO) "]}") "}"},
    {PLAIN,                             "{" AFFINITY("{\"matchExpressions\":[" IN(HOST,TWO ",\"node-c\"") "]}") "}",
     "{" AFFINITY(
         "{\"matchExpressions\":[" IN(HOST, TWO ",\"node-c\"") "," IN(HOST, TWO) "]}") "}"},
    {PLAIN,
     "{" AFFINITY("{\"matchExpressions\":[{\"key\":\"" HOST
                  "\",\"operator\":\"NotIn\",\"values\":[" TWO "]}]}") "}",
     "{" AFFINITY("{\"matchExpressions\":[{\"key\":\"" HOST
                  "\",\"operator\":\"NotIn\",\"values\":[" TWO "]}," IN(HOST,                                                                                                                                 TWO) "]}") "}"},
 /* names that can be no node of Kubernetes are left out; one that remains goes by its name */
    {"{\"cpubroker.dev/pool\":\"names\"}",                                                         "{\"containers\":[]}",
     "{\"containers\":[]," AFFINITY(
         "{\"matchExpressions\":[" IN(HOST,"\"Node_Upper\",\"node-a\"") "]}") "}"},
 /* a static pod's picture must not change */
    {"{\"cpubroker.dev/pool\":\"default\",\"kubernetes.io/config.mirror\":\"x\"}",
     "{\"containers\":[{\"name\":\"c\"}]}",                                                                                                                        NULL},
};

/* The pod after the patch of `r`, which may be none. */
static json_object *patched(const char *annotations, const char *spec, struct reply *r)
{
    autofree char *text = pod_text(annotations, spec);
    json_object *pod = NULL;
    struct error err = {0};
    if (json_parse(text, strlen(text), &pod, &err) < 0)
        fail_msg("%s: %s", text, err.message);
    if (!json_path(r->json, "response|patch"))
        return pod;
    assert_string_equal(str_path(r->json, "response|patchType"), "JSONPatch");
    autofree char *bytes = NULL;
    size_t length = base64_decode(str_path(r->json, "response|patch"), &bytes);
    autojson *patch = NULL;
    if (json_parse(bytes, length, &patch, &err) < 0)
        fail_msg("the patch is no JSON: %s: %s", err.message, bytes);
    assert_true(json_object_is_type(patch, json_type_array));
    assert_true(json_array_size(patch) > 0);
    patch_apply(pod, patch);
    return pod;
}

static void pods_are_patched_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct reply r =
            review_pod(door_admission_mutate, "CREATE", cases[i].annotations, cases[i].spec);
        assert_true(review_allowed(&r));
        if (!json_path(r.json, "response|patch") != !cases[i].want)
            fail_msg("%s\nanswered %s", cases[i].spec, r.text);
        autojson *pod = patched(cases[i].annotations, cases[i].spec, &r);
        autofree char *spec = json_text(json_path(pod, "spec"));
        const char *want = cases[i].want;
        if (want && strcmp(spec, want) != 0)
            fail_msg("%s\nbecame   %s\nexpected %s", cases[i].spec, spec, want);
        struct reply again =
            review_pod(door_admission_mutate, "CREATE", cases[i].annotations, spec);
        if (json_path(again.json, "response|patch"))
            fail_msg("%s\nwas patched again: %s", spec, again.text);
        reply_done(&again);
        reply_done(&r);
    }
}

/* The validating webhook sees what the mutating one made: it must not be refused for it. */
static void what_was_patched_is_valid(void **state)
{
    (void)state;
    struct reply r = review_pod(door_admission_mutate, "CREATE", POOL, "{\"containers\":[{}]}");
    autojson *pod = patched(POOL, "{\"containers\":[{}]}", &r);
    autofree char *spec = json_text(json_path(pod, "spec"));
    struct reply v = review_pod(door_admission_validate, "CREATE", POOL, spec);
    assert_true(review_allowed(&v));
    reply_done(&v);
    reply_done(&r);
}

static void only_a_creation_is_patched(void **state)
{
    (void)state;
    autofree char *pod = pod_text(POOL, "{\"containers\":[{\"name\":\"c\"}]}");
    autofree char *ghost = pod_text("{\"cpubroker.dev/pool\":\"ghost\"}", "{}");
    static const char *const operations[] = {"UPDATE", "DELETE", "CONNECT"};
    for (size_t i = 0; i < ARRAY_LEN(operations); i++) {
        autofree char *body = review_text(operations[i], NULL, i ? NULL : pod, pod);
        struct reply r = review_body(door_admission_mutate, body, strlen(body), REVIEW_UID);
        assert_true(review_allowed(&r));
        assert_null(json_path(r.json, "response|patch"));
        reply_done(&r);
    }
    autofree char *body = review_text("UPDATE", NULL, ghost, pod);
    struct reply r = review_body(door_admission_mutate, body, strlen(body), REVIEW_UID);
    assert_true(review_allowed(&r));
    reply_done(&r);
}

static void what_is_left_alone_is_told(void **state)
{
    (void)state;
    struct reply r =
        review_pod(door_admission_mutate, "CREATE", SINGLE,
                   "{\"nodeName\":\"node-a\",\"containers\":[{\"name\":\"app\",\"env\":["
                   "{\"name\":\"GLIBC_TUNABLES\",\"valueFrom\":{\"configMapKeyRef\":{\"name\":"
                   "\"m\",\"key\":\"k\"}}},"
                   "{\"name\":\"OPENSSL_ia32cap\",\"value\":\"~0x2\"},"
                   "{\"name\":\"GODEBUG\",\"value\":\"a\\u0000b\"}," JAVA "]}]}");
    assert_true(review_allowed(&r));
    assert_string_equal(
        str_path(r.json, "response|warnings|0"),
        "cpubroker: container app takes GLIBC_TUNABLES from elsewhere (valueFrom); it "
        "was left alone, so the mask of pool single may not hold there");
    assert_string_equal(str_path(r.json, "response|warnings|1"),
                        "cpubroker: container app: OPENSSL_ia32cap had another value, that of pool "
                        "single replaces it");
    assert_string_equal(
        str_path(r.json, "response|warnings|2"),
        "cpubroker: container app: the value of GODEBUG is too long or holds a NUL; it "
        "was left alone, so the mask of pool single may not hold there");
    autofree char *bytes = NULL;
    base64_decode(str_path(r.json, "response|patch"), &bytes);
    assert_string_equal(bytes,
                        "[{\"op\":\"add\",\"path\":\"/spec/containers/0/env/1/value\",\"value\":"
                        "\"~0x0:~0xd0230000\"}]");
    reply_done(&r);
}

/* 40 containers with a warning each, of long names with control characters. */
static void warnings_are_bounded(void **state)
{
    (void)state;
    struct door_text t = {0};
    door_text_add(&t, "{\"nodeName\":\"node-a\",\"containers\":[");
    for (int i = 0; i < 40; i++)
        door_text_addf(
            &t,
            "%s{\"name\":\"c\\u0007\\n%050d\",\"env\":[{\"name\":\"GLIBC_TUNABLES\",\"valueFrom\":"
            "{}}]}",
            i ? "," : "", i);
    door_text_add(&t, "]}");
    autofree char *spec = door_text_take(&t);
    struct reply r = review_pod(door_admission_mutate, "CREATE", SINGLE, spec);
    json_object *warnings = json_path(r.json, "response|warnings");
    assert_int_equal(json_array_size(warnings), 16);
    assert_string_equal(json_item_str(warnings, 15), "cpubroker: 25 more warnings");
    reply_done(&r);
}

static void pools_of_other_sizes(void **state)
{
    (void)state;
    struct reply r = review_pod(door_admission_mutate, "CREATE",
                                "{\"cpubroker.dev/pool\":\"empty\"}", "{\"containers\":[]}");
    assert_false(review_allowed(&r));
    assert_non_null(strstr(str_path(r.json, "response|status|message"),
                           "has no member that could be a node of Kubernetes"));
    reply_done(&r);
    r = review_pod(door_admission_mutate, "CREATE", "{\"cpubroker.dev/pool\":\"big\"}",
                   "{\"containers\":[]}");
    assert_true(review_allowed(&r));
    assert_null(json_path(r.json, "response|patch"));
    assert_non_null(strstr(str_path(r.json, "response|warnings|0"), "has 600 members, too many"));
    reply_done(&r);
}

static void shapes_that_are_none_are_denied(void **state)
{
    (void)state;
    static const struct {
        const char *spec, *message;
    } shapes[] = {
        {"null",                                                                        "the pod's spec: expected an object, not null"     },
        {"[]",                                                                          "the pod's spec: expected an object, not an array" },
        {"{\"containers\":{}}",                                                         "containers: expected an array, not an object"     },
        {"{\"initContainers\":7}",                                                      "initContainers: expected an array, not a number"  },
        {"{\"containers\":[7]}",                                                        "expected objects, not a number"                   },
        {"{\"containers\":[null]}",                                                     "expected objects, not null"                       },
        {"{\"containers\":[{\"env\":{}}]}",                                             "env: expected an array, not an object"            },
        {"{\"containers\":[{\"env\":[7]}]}",                                            "a variable's name: expected a string, not missing"},
        {"{\"affinity\":[]}",                                                           "affinity: expected an object, not an array"       },
        {"{\"affinity\":{\"nodeAffinity\":7}}",                                         "nodeAffinity: expected an object, not a number"   },
        {"{\"affinity\":{\"nodeAffinity\":{" REQUIRED ":\"x\"}}}",
         "expected an object, not a string"                                                                                                },
        {"{\"affinity\":{\"nodeAffinity\":{" REQUIRED ":{\"nodeSelectorTerms\":{}}}}}",
         "nodeSelectorTerms: expected an array, not an object"                                                                             },
        {"{" AFFINITY("{\"matchFields\":[{}],\"matchExpressions\":7}") "}",
         "matchExpressions: expected an array, not a number"                                                                               },
    };
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        struct reply r = review_pod(door_admission_mutate, "CREATE", POOL, shapes[i].spec);
        if (review_allowed(&r) ||
            !strstr(str_path(r.json, "response|status|message"), shapes[i].message))
            fail_msg("%s\nanswered %s", shapes[i].spec, r.text);
        reply_done(&r);
    }
}

static void sizes_are_bounded(void **state)
{
    (void)state;
    struct door_text t = {0};
    door_text_add(&t, "{\"containers\":[{}");
    for (int i = 0; i < 300; i++)
        door_text_add(&t, ",{}");
    door_text_add(&t, "]}");
    autofree char *many = door_text_take(&t);
    struct reply r = review_pod(door_admission_mutate, "CREATE", POOL, many);
    assert_non_null(
        strstr(str_path(r.json, "response|status|message"), "more than 256 containers"));
    reply_done(&r);
    door_text_add(&t, "{" AFFINITY("{\"matchFields\":[{}]}"));
    t.length -= strlen("]}}}"); /* open again, for more terms */
    for (int i = 0; i < 10000; i++)
        door_text_add(&t, ",{\"matchFields\":[{}]}");
    door_text_add(&t, "]}}}}");
    autofree char *terms = door_text_take(&t);
    r = review_pod(door_admission_mutate, "CREATE", POOL, terms);
    assert_false(review_allowed(&r));
    assert_non_null(strstr(str_path(r.json, "response|status|message"), "the patch would be over"));
    reply_done(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pods_are_patched_once),
        cmocka_unit_test(what_was_patched_is_valid),
        cmocka_unit_test(only_a_creation_is_patched),
        cmocka_unit_test(what_is_left_alone_is_told),
        cmocka_unit_test(warnings_are_bounded),
        cmocka_unit_test(pools_of_other_sizes),
        cmocka_unit_test(shapes_that_are_none_are_denied),
        cmocka_unit_test(sizes_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
