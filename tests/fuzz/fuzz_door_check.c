/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_door_check.c - check requests: always an answer, and allowed only with a target. */
#include <string.h>

#include "door_world.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fake_world fake = {.step_ms = 1};
    struct reply r = ask_door_of(door_check, &fake, (const char *)data, size);
    json_object *targets = json_path(r.json, "targets"), *allowed = json_path(r.json, "allowed");
    MUST(r.status == 200 || (r.status >= 400 && r.status < 500));
    MUST(json_object_is_type(allowed, json_type_boolean));
    bool fits = strcmp(json_str(json_array_item(targets, 0), "verdict"), "approve") == 0;
    MUST(json_flag(r.json, "allowed") == fits);
    MUST(r.status == 200 || *str_path(r.json, "error|message"));
    reply_done(&r);
    return 0;
}
