/* SPDX-License-Identifier: Apache-2.0 */
/* door_json.h - JSON read where it stands: values are slices of the text that came in.
 *
 * The doors have to give parts of what they were sent back byte for byte, integers beyond 2^53
 * and unknown members included, so nothing is decoded and encoded again: a text is checked once
 * (json_text.h; as deep as Go's decoder goes), and then walked as slices.
 * Nothing recurses and nothing is allocated. Doubled members: the last counts, as in Go. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "error.h"

#define DOOR_JSON_DEPTH_MAX 10000 /* Go's encoding/json, maxNestingDepth */

enum door_json_type {
    DOOR_JSON_ABSENT,
    DOOR_JSON_NULL,
    DOOR_JSON_BOOL,
    DOOR_JSON_NUMBER,
    DOOR_JSON_STRING,
    DOOR_JSON_ARRAY,
    DOOR_JSON_OBJECT,
};

/* One value of a checked text, without blanks around it. Borrowed from the text. */
struct door_json {
    const char *text; /* NULL: absent */
    size_t length;
};

/* Checks the whole text. Errors: ERROR_INVALID with the byte. */
int door_json_check(const char *text, size_t length, struct door_json *ret, struct error *err);
/* The string at `outer`.`inner` of a text that is broken somewhere: looks at brackets and strings
 * alone. Absent when it cannot be found; what was found is a valid string. */
struct door_json door_json_salvage(const char *text, size_t length, const char *outer,
                                   const char *inner);

enum door_json_type door_json_type(struct door_json v);
/* "an object", "a string", "null", "missing": for messages. */
const char *door_json_type_name(struct door_json v);
static inline bool door_json_is_none(struct door_json v) /* absent or null */
{
    return !v.text || *v.text == 'n';
}

/* Walking an object or an array; any other value has no members. */
struct door_json_walk {
    const char *at, *end;
    bool named;
};
struct door_json_walk door_json_walk(struct door_json container);
/* The next member; `ret_name` (NULL is fine) is its name, absent in arrays. */
bool door_json_next(struct door_json_walk *walk, struct door_json *ret_name,
                    struct door_json *ret_value);
/* The member of an object, absent when there is none or `object` is no object. `_fold` compares
 * names without regard to (ASCII) case, as Go does. */
struct door_json door_json_member(struct door_json object, const char *name);
struct door_json door_json_member_fold(struct door_json object, const char *name);
/* A path through objects: "spec.affinity.nodeAffinity". Names of at most 63 bytes. */
struct door_json door_json_at(struct door_json object, const char *path);

/* Whether it is a string with this value (escapes decoded). */
bool door_json_equals(struct door_json v, const char *text);
bool door_json_equals_fold(struct door_json v, const char *text);
/* Decodes a string into `buffer` with a NUL. Returns its length, or -1 when it is no string, does
 * not fit or holds a NUL. */
long door_json_string(struct door_json v, char *buffer, size_t room);
/* The same, of at most `max` bytes and owned by the caller; NULL in the cases of -1. */
char *door_json_string_dup(struct door_json v, size_t max);
