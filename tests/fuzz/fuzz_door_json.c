/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_door_json.c - slices of a checked text are themselves JSON, whatever the text is. */
#include <string.h>

#include "cleanup.h"
#include "door_json.h"
#include "fuzz.h"

#define VISITS_MAX 1000

static void must_be_json(struct door_json v)
{
    struct door_json again;
    MUST(door_json_check(v.text, v.length, &again, NULL) == 0);
    MUST(again.text == v.text && again.length == v.length);
}

/* Every value down to the leaves, until enough was seen. */
static void visit(struct door_json container, unsigned *visits, unsigned depth)
{
    struct door_json name, value;
    const char *end = container.text;
    for (struct door_json_walk w = door_json_walk(container);
         *visits < VISITS_MAX && door_json_next(&w, &name, &value);) {
        (*visits)++;
        MUST(value.text > end && value.length > 0);
        end = value.text + value.length;
        MUST(end < container.text + container.length);
        must_be_json(value);
        if (name.text) {
            MUST(door_json_type(name) == DOOR_JSON_STRING);
            must_be_json(name);
        }
        autofree char *text = door_json_string_dup(value, 4096);
        MUST(!text || (strlen(text) < value.length && door_json_equals(value, text) &&
                       door_json_equals_fold(value, text)));
        if (depth < 50)
            visit(value, visits, depth + 1);
    }
}

/* What is found in a broken text is what is found in a whole one. */
static void check_salvage(struct door_json root, const char *text, size_t size)
{
    struct door_json found = door_json_salvage(text, size, "request", "uid");
    if (found.text)
        must_be_json(found);
    if (!root.text)
        return;
    struct door_json uid = door_json_member(door_json_member(root, "request"), "uid");
    if (door_json_type(uid) != DOOR_JSON_STRING)
        uid = (struct door_json){0};
    MUST(found.text == uid.text && found.length == uid.length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct door_json root = {0};
    unsigned visits = 0;
    const char *text = (const char *)data;
    if (door_json_check(text, size, &root, NULL) == 0)
        visit(root, &visits, 0);
    check_salvage(root, text, size);
    return 0;
}
