/* SPDX-License-Identifier: Apache-2.0 */
/* test_door.c - what the doors share, and that the documentation and the manifests name what is
 * there. */
#include <stdio.h>
#include <string.h>

#include "cmocka_test.h"
#include "door_internal.h"
#include "door_world.h"

static char *file_text(const char *path)
{
    autofree char *full = xasprintf("%s/%s", SOURCE_DIR, path);
    FILE *file = fopen(full, "re");
    if (!file)
        fail_msg("cannot read %s", full);
    char *text = xcalloc(1, 65536);
    size_t length = fread(text, 1, 65535, file);
    assert_true(length > 0 && length < 65535);
    fclose(file);
    return text;
}

static void must_name(const char *path, const char *what)
{
    autofree char *text = file_text(path);
    if (!strstr(text, what))
        fail_msg("%s does not name %s", path, what);
}

static void every_door_is_documented(void **state)
{
    (void)state;
#define X(path, function, summary) must_name("docs/webhooks.md", "| `" path "` |");
    DOORS(X)
#undef X
    static const char *const annotations[] = {DOOR_ANNOTATION_POOL, DOOR_ANNOTATION_WORKLOAD,
                                              DOOR_ANNOTATION_LABEL};
    for (size_t i = 0; i < ARRAY_LEN(annotations); i++) {
        must_name("docs/webhooks.md", annotations[i]);
        must_name("deploy/kubernetes/pod.yaml", annotations[i]);
    }
    must_name("deploy/kubernetes/validating-webhook.yaml", "path: /webhooks/kubernetes/validate\n");
    must_name("deploy/kubernetes/mutating-webhook.yaml", "path: /webhooks/kubernetes/mutate\n");
    must_name("deploy/kubernetes/scheduler.yaml", "/webhooks/kubernetes\n");
    must_name("deploy/kubernetes/scheduler.yaml", "filterVerb: filter\n");
    must_name("deploy/kubernetes/scheduler.yaml", "prioritizeVerb: prioritize\n");
}

static void names_of_kubernetes_are_told_from_ours(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool label, node;
    } cases[] = {
        {"node-a",                                                           true,  true },
        {"a",                                                                true,  true },
        {"0",                                                                true,  true },
        {"ip-10-0-0-7.eu-west-1.compute.internal",                           true,  true },
        {"Node",                                                             true,  false},
        {"a_b",                                                              true,  false},
        {"a..b",                                                             true,  false},
        {"a-.b",                                                             true,  false},
        {"a.-b",                                                             true,  false},
        {"a-",                                                               false, false},
        {"-a",                                                               false, false},
        {"a.",                                                               false, false},
        {".a",                                                               false, false},
        {"",                                                                 false, false},
        {"a b",                                                              false, false},
        {"a/b",                                                              false, false},
        {"0123456789012345678901234567890123456789012345678901234567890123", false, true },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        if (door_is_label_value(cases[i].text) != cases[i].label ||
            door_is_node_name(cases[i].text) != cases[i].node)
            fail_msg("'%s'", cases[i].text);
    }
}

static void codes_are_short_and_equal(void **state)
{
    (void)state;
    struct verdict v = {0};
    autofree char *none = door_verdict_codes(&v);
    assert_string_equal(none, "");
    assert_int_equal(door_score(&v), 10);
    for (int i = 0; i < 20; i++)
        verdict_add(&v, VERDICT_HINT, VERDICT_WARN, NULL, "x");
    assert_int_equal(door_score(&v), 1);
    autofree char *warned = door_verdict_codes(&v);
    assert_string_equal(warned, "");
    for (int i = 0; i < 20; i++) {
        verdict_add(&v, VERDICT_MISSING_FEATURE, VERDICT_REJECT, NULL, "it lacks feature %d", i);
        v.reasons[v.reason_count - 1].feature = 0;
    }
    verdict_add(&v, VERDICT_VENDOR, VERDICT_REJECT, "stay", "other vendor");
    assert_int_equal(door_score(&v), 0);
    autofree char *codes = door_verdict_codes(&v);
    assert_int_equal(strncmp(codes, "missing_feature ", 16), 0);
    assert_non_null(strstr(codes, " and 9 more"));
    autofree char *sentences = door_verdict_sentences(&v);
    assert_non_null(strstr(sentences, "missing_feature: it lacks feature 3; and 17 more"));
    verdict_done(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_door_is_documented),
        cmocka_unit_test(names_of_kubernetes_are_told_from_ours),
        cmocka_unit_test(codes_are_short_and_equal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
