/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_door_admission.c - AdmissionReviews: what is no JSON is denied, patches can be applied and
 * change nothing the second time. */
#include <string.h>

#include "door_json.h"
#include "door_review.h"
#include "fuzz.h"

/* The body with its pod as the patch leaves it; json-c ends names and strings at a NUL, so a body
 * with one is not tried. */
static void check_again(const char *body, size_t size, struct reply *r)
{
    autofree char *text = xasprintf("%.*s", (int)size, body);
    if (strstr(text, "\\u0000"))
        return;
    json_tokener *tokener = json_tokener_new_ex(20000);
    autojson *review = json_tokener_parse_ex(tokener, text, (int)strlen(text) + 1);
    json_tokener_free(tokener);
    autofree char *bytes = NULL;
    base64_decode(str_path(r->json, "response|patch"), &bytes);
    autojson *patch = json_tokener_parse(bytes);
    MUST(json_array_size(patch) > 0);
    patch_apply(json_path(review, "request|object"), patch);
    autofree char *patched = json_text(review);
    struct reply again = review_body(door_admission_mutate, patched, strlen(patched), NULL);
    MUST(review_allowed(&again));
    MUST(!json_path(again.json, "response|patch"));
    reply_done(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *body = (const char *)data;
    struct door_json root;
    bool valid = door_json_check(body, size, &root, NULL) == 0;
    struct reply v = review_body(door_admission_validate, body, size, NULL);
    struct reply m = review_body(door_admission_mutate, body, size, NULL);
    MUST(valid || (!review_allowed(&v) && !review_allowed(&m)));
    if (json_path(m.json, "response|patch"))
        check_again(body, size, &m);
    reply_done(&v);
    reply_done(&m);
    return 0;
}
