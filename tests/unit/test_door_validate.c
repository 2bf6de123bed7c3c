/* SPDX-License-Identifier: Apache-2.0 */
/* test_door_validate.c - pods that are pinned where they cannot live are refused, others pass. */
#include <stdio.h>
#include <string.h>

#include "cmocka_test.h"
#include "door_review.h"
#include "door_text.h"

#define W1    "{\"cpubroker.dev/workload\":\"w1\"}"
#define STUCK "{\"cpubroker.dev/workload\":\"stuck\"}"
#define POOL  "{\"cpubroker.dev/pool\":\"default\"}"
#define LABELED \
    "{\"cpubroker.dev/workload\":\"w1\",\"cpubroker.dev/node-label\":\"example.com/node\"}"

#define TERMS(terms)                                                                       \
    "{\"affinity\":{\"nodeAffinity\":{\"requiredDuringSchedulingIgnoredDuringExecution\":" \
    "{\"nodeSelectorTerms\":[" terms "]}}}}"
#define FIELD(op, values)                                                                      \
    "{\"matchFields\":[{\"key\":\"metadata.name\",\"operator\":\"" op "\",\"values\":[" values \
    "]}]}"
#define LABEL(key, op, values)                                                                     \
    "{\"matchExpressions\":[{\"key\":\"" key "\",\"operator\":\"" op "\",\"values\":[" values "]}" \
    "]}"
#define HOST "kubernetes.io/hostname"
#define ZONE "{\"key\":\"topology.kubernetes.io/zone\",\"operator\":\"In\",\"values\":[\"z\"]}"

static const struct {
    const char *annotations, *spec;
    const char *refusal; /* NULL: passes */
} cases[] = {
  /* not pinned */
    {W1,                                                                                "{}",                                                                                       NULL},
    {W1,                                                                                "{\"nodeName\":\"\",\"nodeSelector\":null,\"affinity\":null}",                              NULL},
    {W1,                                                                                "{\"affinity\":{}}",                                                                        NULL},
    {W1,                                                                                "{\"affinity\":{\"nodeAffinity\":null}}",                                                   NULL},
    {W1,
     "{\"affinity\":{\"nodeAffinity\":{\"requiredDuringSchedulingIgnoredDuringExecution\":null}}}",                                                                                 NULL},
    {W1,                                                                                "{\"nodeSelector\":{\"disk\":\"ssd\"}}",                                                    NULL},
    {STUCK,                                                                             "{}",                                                                                       NULL}, /* the extender has the say, and nodes may come */
    {W1,                                                                                "{\"affinity\":{\"podAffinity\":{\"requiredDuringSchedulingIgnoredDuringExecution\":[]}}}",
     NULL},
 /* bound */
    {W1,                                                                                "{\"nodeName\":\"node-a\"}",                                                                NULL},
    {POOL,                                                                              "{\"nodeName\":\"node-c\"}",                                                                NULL},
    {W1,                                                                                "{\"nodeName\":\"node-c\"}",
     "pod ns/p is bound to a node where workload w1 cannot live: node-c: missing_feature: it lacks "
     "avx512f; missing_feature: it lacks avx512dq; xsave_layout_conflict: pkru lies elsewhere "
     "(choose "
     "a node that has it)"},
    {POOL,                                                                              "{\"nodeName\":\"node-x\"}",
     "what is born in pool default cannot live: node-x: not_in_pool: it is no member of pool "
     "default"},
    {W1,                                                                                "{\"nodeName\":\"stranger\"}",                                                              "stranger: no node 'stranger'"},
    {W1,                                                                                "{\"nodeName\":\"no name\"}",                                                               "is no name"},
    {"{\"cpubroker.dev/workload\":\"broken\"}",                                         "{\"nodeName\":\"node-a\"}",
     "the database is locked"},
    {W1,                                                                                "{\"nodeName\":17}",                                                                        "the pod's spec.nodeName: expected a node's name"},
    {W1,                                                                                "{\"nodeName\":\"node-a\\u0000\"}",                                                         "the pod's spec.nodeName: expected a node's name"},
 /* nodeSelector */
    {W1,                                                                                "{\"nodeSelector\":{\"" HOST "\":\"node-a\"}}",                                             NULL},
    {W1,                                                                                "{\"nodeSelector\":{\"" HOST "\":\"node-c\"}}",                                             "pinned to nodes where workload w1"},
    {W1,                                                                                "{\"nodeSelector\":{\"" HOST "\":17}}",                                                     "expected a string"},
    {LABELED,                                                                           "{\"nodeSelector\":{\"" HOST "\":\"node-c\"}}",                                             NULL}, /* not the label of names */
    {LABELED,                                                                           "{\"nodeSelector\":{\"example.com/node\":\"node-c\"}}",                                     "pinned"},
 /* matchFields, as DaemonSets pin */
    {W1,                                                                                TERMS(FIELD("In",                                                                           "\"node-a\"")),NULL},
    {W1,                                                                                 TERMS(FIELD("In",                                                                                                                                                                          "\"node-c\"")),
     "pinned to nodes where workload w1 cannot live: node-c: "},
    {W1,                         TERMS(FIELD("In",                                                                                                                   "\"node-c\"") "," FIELD("In","\"node-x\"")), "node-x: not_in_pool"},
    {W1,                                                     TERMS(FIELD("In",               "\"node-c\"") "," FIELD("In","\"node-a\"")), NULL},
    {LABELED,                                                                                TERMS(FIELD("In",                                                                                                      "\"node-c\"")),"pinned"},
    {W1,
     TERMS("{\"matchFields\":[{\"key\":\"metadata.uid\",\"operator\":\"In\",\"values\":[\"node-c\"]"
           "}]}"),
     NULL},
 /* matchExpressions */
    {W1,                                                                   TERMS(LABEL(HOST,                                                "In","\"node-c\",\"node-b\"")), NULL},
    {W1,                                                                      TERMS(LABEL(HOST,                                                                                                                                                                          "In",          "\"node-c\",\"node-x\"")), "node-c: "},
    {W1,TERMS(LABEL(HOST,                                      "In","\"node-c\",\"node-x\",\"s1\",\"s2\",\"s3\"")), "; and 2 more"},
    {W1,                                                                                 TERMS(LABEL(HOST,                                                                                                                                                                          "NotIn","\"node-c\"")), NULL},
    {W1,                                                        TERMS(LABEL(HOST,                                                                                                                                        "NotIn","\"node-a\",\"node-b\",\"node-w\"")), "node-c: "},
    {W1,                                                                   TERMS(LABEL(HOST,                                                                                                                    "NotIn",                                              "\"node-a\",\"node-b\",\"node-w\",\"node-c\"")),
     "every member of the pool is left out"},
    {STUCK,                                                                                 TERMS(LABEL(HOST,                                                                                                                                                                          "NotIn","\"node-a\"")), "vendor_differs"},
    {W1,                                                                   TERMS(LABEL(HOST,                                                                                                                                                         "Exists",                                                                     "")), NULL},
    {W1,          TERMS("{\"matchExpressions\":[{\"key\":\"" HOST "\",\"operator\":\"Exists\"}]}"),NULL},
    {W1,                                                                                 TERMS("{\"matchExpressions\":[" ZONE "]}"),                                                                                                                                                                          NULL},
    {LABELED,                                  TERMS(LABEL(HOST,                                                                                                                                        "In","\"node-c\"")), NULL},
    {LABELED,TERMS(LABEL("example.com/node","In","\"node-c\"")), "pinned"},
 /* terms are ORed, requirements and the selector ANDed */
    {W1,                                                                                 TERMS(FIELD("In",                                                                                                                                                                          "\"node-c\"") ",{\"matchExpressions\":[" ZONE "]}"),NULL},
    {W1,
     TERMS("{\"matchExpressions\":[" ZONE ",{\"key\":\"" HOST "\",\"operator\":\"In\",\"values\":"
           "[\"node-c\"]}]}"),
     "node-c: "},
    {W1,
     TERMS("{\"matchExpressions\":[{\"key\":\"" HOST
           "\",\"operator\":\"In\",\"values\":[\"node-a\","
           "\"node-c\"]},{\"key\":\"" HOST "\",\"operator\":\"NotIn\",\"values\":[\"node-a\"]}]}"),
     "node-c: "                              },
    {W1,
     TERMS("{\"matchFields\":[{\"key\":\"metadata.name\",\"operator\":\"In\",\"values\":[\"node-"
           "c\"]}],"
           "\"matchExpressions\":[{\"key\":\"" HOST "\",\"operator\":\"In\",\"values\":[\"node-c\","
           "\"node-a\"]}]}"),
     "node-c: "},
 /* words that contradict each other leave no node at all: the scheduler says so */
    {W1,
     TERMS("{\"matchExpressions\":[{\"key\":\"" HOST
           "\",\"operator\":\"In\",\"values\":[\"node-a\"]},"
           "{\"key\":\"" HOST "\",\"operator\":\"In\",\"values\":[\"node-c\"]}]}"),
     NULL},
    {W1,
     "{\"nodeSelector\":{\"" HOST "\":\"node-c\"},\"affinity\":{\"nodeAffinity\":{"
     "\"requiredDuringSchedulingIgnoredDuringExecution\":{\"nodeSelectorTerms\":["
     "{\"matchExpressions\":[" ZONE "]}]}}}}",
     "node-c: "},
    {W1,
     "{\"nodeSelector\":{\"" HOST "\":\"node-c\"},\"affinity\":{\"nodeAffinity\":{"
     "\"requiredDuringSchedulingIgnoredDuringExecution\":{\"nodeSelectorTerms\":["
     "{\"matchExpressions\":[{\"key\":\"" HOST
     "\",\"operator\":\"In\",\"values\":[\"node-a\"]}]}]}}}}",                                                                                                                                                     NULL                                          },
 /* empty terms match nothing, and so free nobody */
    {W1,TERMS(FIELD("In","\"node-c\"") ",{}"),"node-c: "},
    {W1,                                                                                TERMS(FIELD("In",                                                                                                                                                      "\"node-c\"") ",null"),"node-c: "},
    {W1,                                                                                TERMS(FIELD("In",                                                                                 "\"node-c\"") ",{\"matchExpressions\":[],\"matchFields\":null}"),
     "node-c: "},
    {W1,                                                                                TERMS(""),                                                                                                                                                       NULL},
    {W1,
     "{\"affinity\":{\"nodeAffinity\":{\"requiredDuringSchedulingIgnoredDuringExecution\":"
     "{\"nodeSelectorTerms\":null}}}}",                                                                                                 NULL},
 /* values that can be no name */
    {W1,                                                                                TERMS(LABEL(HOST,                                                                                                                                      "In","17")), "can be no node's name"},
    {W1,                                                                                TERMS(LABEL(HOST,                                                                                                                      "In","\"node-a\\u0000\"")), "can be no node's name"},
    {W1,                                                                                TERMS(LABEL(HOST,                                                                                                                                                                          "In", "17,\"node-a\"")), NULL},
 /* shapes that are none */
    {W1,                                                                                 TERMS("17"),                                                                                                                                                                          "a term: expected an object, not a number"},
    {W1,                                                                       TERMS("{\"matchExpressions\":{\"a\":1}}"),
     "matchExpressions: expected an array, not an object"},
    {W1,                 TERMS("{\"matchFields\":[17]}"),                                                                                                                                                                    "a requirement is no {key, operator, values}"},
    {W1,
     TERMS("{\"matchFields\":[{\"key\":\"metadata.name\",\"operator\":\"In\",\"values\":\"node-a\"}"
           "]}"),
     "a requirement is no {key, operator, values}"},
    {W1,
     "{\"affinity\":{\"nodeAffinity\":{\"requiredDuringSchedulingIgnoredDuringExecution\":"
     "{\"nodeSelectorTerms\":{}}}}}",                                       "nodeSelectorTerms: expected an array"},
    {W1,"null","the pod's spec: expected an object, not null"},
};

static void pins_are_judged(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct reply r =
            review_pod(door_admission_validate, "CREATE", cases[i].annotations, cases[i].spec);
        bool right = review_allowed(&r) == !cases[i].refusal;
        if (right && cases[i].refusal)
            right = strstr(str_path(r.json, "response|status|message"), cases[i].refusal) != NULL;
        if (!right)
            fail_msg("%s\n%s\nanswered %s", cases[i].annotations, cases[i].spec, r.text);
        reply_done(&r);
    }
}

static void check_update(const char *now, const char *then, bool allowed)
{
    autofree char *body = review_text("UPDATE", NULL, now, then);
    struct reply r = review_body(door_admission_validate, body, strlen(body), REVIEW_UID);
    if (review_allowed(&r) != allowed)
        fail_msg("%s\nanswered %s", body, r.text);
    reply_done(&r);
}

/* A pod that has come to be where it cannot live must still be labelled, finished and deleted. */
static void updates_are_judged_only_where_they_decide(void **state)
{
    (void)state;
    autofree char *lost = pod_text(W1, "{\"nodeName\":\"node-c\",\"containers\":[]}");
    autofree char *labelled =
        pod_text("{\"x\":\"y\",\"cpubroker.dev/workload\":\"w1\"}",
                 "{\"nodeName\":\"node-c\",\"containers\":[{\"image\":\"new\"}]}");
    autofree char *plain = pod_text("{}", "{\"nodeName\":\"node-c\"}");
    autofree char *fine = pod_text(W1, "{\"nodeName\":\"node-a\"}");
    autofree char *pinned = pod_text(W1, "{\"nodeSelector\":{\"" HOST "\":\"node-c\"}}");
    autofree char *gated = pod_text(W1, "{}");
    autofree char *bad = pod_text("{\"cpubroker.dev/workload\":17}", "{\"nodeName\":\"node-c\"}");
    check_update(lost, lost, true);
    check_update(labelled, lost, true);
    check_update(lost, plain, false); /* the annotation is new */
    check_update(plain, lost, true);  /* and taken away */
    check_update(lost, fine, false);  /* the node is new */
    check_update(fine, lost, true);
    check_update(pinned, gated, false); /* a gated pod may be narrowed */
    check_update(gated, pinned, true);
    check_update(lost, NULL, false); /* nothing to compare with */
    check_update(bad, bad, true);
    check_update(bad, plain, false);
    autofree char *going = xasprintf("{\"metadata\":{\"name\":\"p\",\"deletionTimestamp\":\"2026-"
                                     "01-01T00:00:00Z\",\"annotations\":%s},"
                                     "\"spec\":{\"nodeName\":\"node-c\"}}",
                                     W1);
    check_update(going, plain, true);
}

static void names_are_told_while_there_is_none(void **state)
{
    (void)state;
    static const char body[] =
        "{\"kind\":\"AdmissionReview\",\"apiVersion\":\"admission.k8s.io/"
        "v1\",\"request\":{\"uid\":\"u\","
        "\"kind\":{\"group\":\"\",\"version\":\"v1\",\"kind\":\"Pod\"},\"namespace\":\"ns\","
        "\"operation\":"
        "\"CREATE\",\"object\":{\"metadata\":{\"generateName\":\"web-\",\"annotations\":" W1
        "},\"spec\":"
        "{\"nodeName\":\"node-c\"}}}}";
    struct reply r = review_body(door_admission_validate, body, strlen(body), "u");
    assert_non_null(strstr(str_path(r.json, "response|status|message"), "pod ns/web-* is bound"));
    reply_done(&r);
}

static void work_is_bounded(void **state)
{
    (void)state;
    struct door_text t = {0};
    door_text_add(
        &t, "{\"affinity\":{\"nodeAffinity\":{\"requiredDuringSchedulingIgnoredDuringExecution\":"
            "{\"nodeSelectorTerms\":[{\"matchExpressions\":[");
    for (int k = 0; k < 2; k++) {
        door_text_addf(&t, "%s{\"key\":\"" HOST "\",\"operator\":\"%s\",\"values\":[\"x\"",
                       k ? "," : "", k ? "NotIn" : "In");
        for (int i = 0; i < 100000; i++)
            door_text_addf(&t, ",\"%c%d\"", k ? 'b' : 'a', i);
        door_text_add(&t, "]}");
    }
    door_text_add(&t, "]}]}}}}");
    autofree char *spec = door_text_take(&t);
    struct reply r = review_pod(door_admission_validate, "CREATE", W1, spec);
    assert_false(review_allowed(&r));
    assert_non_null(strstr(str_path(r.json, "response|status|message"), "too many nodes"));
    reply_done(&r);

    door_text_add(
        &t, "{\"affinity\":{\"nodeAffinity\":{\"requiredDuringSchedulingIgnoredDuringExecution\":"
            "{\"nodeSelectorTerms\":[");
    for (int i = 0; i < 5000; i++)
        door_text_addf(&t, "%s" FIELD("In", "\"s%d\""), i ? "," : "", i);
    door_text_add(&t, "]}}}}");
    autofree char *terms = door_text_take(&t);
    r = review_pod(door_admission_validate, "CREATE", W1, terms);
    assert_false(review_allowed(&r));
    assert_non_null(strstr(str_path(r.json, "response|status|message"), "more than 4096 nodes"));
    reply_done(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pins_are_judged),
        cmocka_unit_test(updates_are_judged_only_where_they_decide),
        cmocka_unit_test(names_are_told_while_there_is_none),
        cmocka_unit_test(work_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
