/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_door_extender.c - ExtenderArgs: what comes back is what came in, or the Error. */
#include <string.h>

#include "door_json.h"
#include "door_world.h"
#include "fuzz.h"

static struct door_json root_of(const char *text, size_t length)
{
    struct door_json root = {0};
    door_json_check(text, length, &root, NULL);
    return root;
}

static bool same(struct door_json a, struct door_json b)
{
    return a.length == b.length && memcmp(a.text, b.text, a.length) == 0;
}

/* `part` is `whole` with some items left out, every other byte for byte the same. */
static void must_be_part(struct door_json part, struct door_json whole)
{
    struct door_json p, w;
    struct door_json_walk walk = door_json_walk(whole);
    for (struct door_json_walk at = door_json_walk(part); door_json_next(&at, NULL, &p);) {
        bool found = false;
        while (!found && door_json_next(&walk, NULL, &w))
            found = same(p, w);
        MUST(found);
    }
}

static void check_filter(const char *body, size_t size)
{
    struct reply r = ask_door(door_extender_filter, body, size);
    struct door_json in = root_of(body, size), out = root_of(r.text, strlen(r.text));
    struct door_json nodes = door_json_member(out, "Nodes"),
                     names = door_json_member(out, "NodeNames");
    MUST(r.status == 200);
    MUST(out.text);
    if (!door_json_equals(door_json_member(out, "Error"), "")) {
        MUST(door_json_is_none(nodes) && door_json_is_none(names));
    } else {
        MUST(in.text);
        must_be_part(names, door_json_member_fold(in, "NodeNames"));
        must_be_part(door_json_member_fold(nodes, "items"),
                     door_json_member_fold(door_json_member_fold(in, "Nodes"), "items"));
    }
    reply_done(&r);
}

static void check_prioritize(const char *body, size_t size)
{
    struct reply r = ask_door(door_extender_prioritize, body, size);
    MUST(r.status == 200 || r.status == 400);
    MUST(json_object_is_type(r.json, r.status == 200 ? json_type_array : json_type_object));
    for (size_t i = 0; i < json_array_size(r.json); i++) {
        int64_t score = json_int(json_array_item(r.json, i), "Score");
        MUST(score >= 0 && score <= 10);
    }
    reply_done(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_filter((const char *)data, size);
    check_prioritize((const char *)data, size);
    return 0;
}
