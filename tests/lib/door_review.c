/* SPDX-License-Identifier: Apache-2.0 */
/* door_review.c - writing AdmissionReviews, and reading the answers as the API server would. */
#include "door_review.h"

#include <stdio.h>
#include <string.h>

#include "cmocka_test.h"

char *review_text(const char *operation, const char *sub_resource, const char *object,
                  const char *old_object)
{
    return xasprintf(
        "{\"kind\":\"AdmissionReview\",\"apiVersion\":\"admission.k8s.io/v1\",\"request\":{"
        "\"uid\":\"" REVIEW_UID "\",\"kind\":{\"group\":\"\",\"version\":\"v1\",\"kind\":\"Pod\"},"
        "\"resource\":{\"group\":\"\",\"version\":\"v1\",\"resource\":\"pods\"},%s%s%s"
        "\"requestKind\":{\"group\":\"\",\"version\":\"v1\",\"kind\":\"Pod\"},"
        "\"requestResource\":{\"group\":\"\",\"version\":\"v1\",\"resource\":\"pods\"},"
        "\"name\":\"p\",\"namespace\":\"ns\",\"operation\":\"%s\","
        "\"userInfo\":{\"username\":\"system:serviceaccount:kube-system:replicaset-controller\","
        "\"groups\":[\"system:authenticated\"]},\"object\":%s,\"oldObject\":%s,\"dryRun\":false,"
        "\"options\":{\"kind\":\"CreateOptions\",\"apiVersion\":\"meta.k8s.io/v1\"}}}\n",
        sub_resource ? "\"subResource\":\"" : "", sub_resource ? sub_resource : "",
        sub_resource ? "\"," : "", operation, object ? object : "null",
        old_object ? old_object : "null");
}

char *pod_text(const char *annotations, const char *spec)
{
    return xasprintf("{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"p\","
                     "\"namespace\":\"ns\",\"creationTimestamp\":null,\"annotations\":%s},"
                     "\"spec\":%s,\"status\":{}}",
                     annotations, spec);
}

/* Every character but the quote that ends it. */
static size_t characters(const char *text)
{
    size_t count = 0;
    for (; *text; text++)
        count += ((unsigned char)*text & 0xc0) != 0x80;
    return count;
}

static void check_warnings(json_object *warnings)
{
    size_t total = 0;
    for (size_t i = 0; i < json_array_size(warnings); i++) {
        const char *text = json_item_str(warnings, i);
        assert_true(*text);
        assert_true(characters(text) <= 256);
        total += characters(text);
        for (const char *c = text; *c; c++)
            assert_true((unsigned char)*c >= 0x20 && *c != 0x7f);
    }
    assert_true(total <= 4096);
}

struct reply review_body(door_function *door, const char *body, size_t length, const char *uid)
{
    struct reply r = ask_door(door, body, length);
    assert_int_equal(r.status, 200);
    assert_string_equal(str_path(r.json, "kind"), "AdmissionReview");
    assert_int_equal(strncmp(str_path(r.json, "apiVersion"), "admission.k8s.io/v1", 19), 0);
    assert_true(!uid || strcmp(str_path(r.json, "response|uid"), uid) == 0);
    json_object *allowed = json_path(r.json, "response|allowed");
    assert_true(json_object_is_type(allowed, json_type_boolean));
    bool patch = json_path(r.json, "response|patch"),
         type = json_path(r.json, "response|patchType");
    assert_int_equal(patch, type);
    if (door == door_admission_validate || !json_object_get_boolean(allowed))
        assert_false(patch);
    if (!json_object_get_boolean(allowed)) {
        assert_true(*str_path(r.json, "response|status|message"));
        assert_true(json_int(json_path(r.json, "response|status"), "code") >= 400);
    }
    check_warnings(json_path(r.json, "response|warnings"));
    return r;
}

struct reply review_pod(door_function *door, const char *operation, const char *annotations,
                        const char *spec)
{
    autofree char *pod = pod_text(annotations, spec);
    autofree char *body = review_text(operation, NULL, pod, NULL);
    return review_body(door, body, strlen(body), REVIEW_UID);
}

bool review_allowed(const struct reply *reply)
{
    return json_flag(json_path(reply->json, "response"), "allowed");
}
