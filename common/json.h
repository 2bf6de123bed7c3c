/* SPDX-License-Identifier: Apache-2.0 */
/* json.h - JSON in and out, strictly, by tables.
 *
 * A table per message decodes, encodes and documents it. The json-c getters coerce quietly, so
 * only json.c calls them, after it has checked the type. Unknown members are ignored, so that
 * old and new peers can talk; wrong types, missing members and numbers out of range are errors
 * that name the member: "heartbeat: cpu_count: expected an integer 0..4294967295". */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cleanup.h"
#include "error.h"

#define JSON_DEPTH_MAX   32
#define JSON_INTEGER_MAX 9007199254740991LL /* 2^53-1 */
#define JSON_STRING_MAX  65536              /* bytes of one string member */

static inline void json_freep(json_object **o)
{
    int saved_errno = errno;
    json_object_put(*o);
    errno = saved_errno;
}
#define autojson __attribute__((cleanup(json_freep))) json_object

enum json_type_wanted {
    JSON_STR,   /* char *, owned; NULL when absent or null */
    JSON_BOOL,  /* bool */
    JSON_U32,   /* uint32_t */
    JSON_U64,   /* uint64_t, at most 2^53-1 */
    JSON_I64,   /* int64_t, within +-(2^53-1) */
    JSON_HEX64, /* uint64_t, as a string "0x…" */
    JSON_ANY,   /* json_object *, owned (a reference of its own) */
};

enum { JSON_REQUIRED = 1 };

struct json_field {
    const char *name;
    enum json_type_wanted type;
    unsigned flags;
    size_t offset;
};

#define JSON_FIELD(type_, member_, kind_, flags_)             \
    {                                                         \
        .name = #member_, .type = (kind_), .flags = (flags_), \
        .offset = offsetof(struct type_, member_)             \
    }

/* Parses exactly one JSON text of `length` bytes: UTF-8 checked, depth-limited, no trailing
 * bytes. The caller owns *ret. Errors: ERROR_INVALID. */
int json_parse(const char *text, size_t length, json_object **ret, struct error *err);
/* Whether the bytes are valid UTF-8, as every text in JSON must be. */
bool json_text_is_utf8(const char *text, size_t length);

/* Decodes `object` into the struct at `target` (zeroed by the caller). `what` names the message
 * in errors. On failure what was decoded so far is released and zeroed again. */
int json_decode(const char *what, json_object *object, const struct json_field *fields,
                void *target, struct error *err);
/* Encodes; absent strings and objects become null. The caller owns the result. */
json_object *json_encode(const struct json_field *fields, const void *source);
/* Releases what json_decode allocated in *target. */
void json_release(const struct json_field *fields, void *target);

/* Reading one member of an object; `what` names the message. `*_opt` leave *ret untouched and
 * return 0 when the member is absent or null. Strings and objects are borrowed. */
int json_get_str(const char *what, json_object *o, const char *name, const char **ret,
                 struct error *err);
int json_opt_str(const char *what, json_object *o, const char *name, const char **ret,
                 struct error *err);
int json_get_i64(const char *what, json_object *o, const char *name, int64_t *ret,
                 struct error *err);
int json_opt_i64(const char *what, json_object *o, const char *name, int64_t *ret,
                 struct error *err);
int json_opt_bool(const char *what, json_object *o, const char *name, bool *ret, struct error *err);
int json_get_array(const char *what, json_object *o, const char *name, size_t max_items,
                   json_object **ret, struct error *err);
int json_get_object(const char *what, json_object *o, const char *name, json_object **ret,
                    struct error *err);
/* A string "0x1f" (1 to 16 hex digits) as a number. */
int json_get_hex(const char *what, json_object *o, const char *name, uint64_t *ret,
                 struct error *err);
int json_opt_hex(const char *what, json_object *o, const char *name, uint64_t *ret,
                 bool *ret_present, struct error *err);
int json_check_object(const char *what, json_object *o, struct error *err);

/* Unchecked conveniences for values of our own making or already validated: "" / 0 / NULL
 * when the member is absent or has another type. Borrowed. */
const char *json_str(json_object *o, const char *name);
int64_t json_int(json_object *o, const char *name);
bool json_flag(json_object *o, const char *name);
json_object *json_member(json_object *o, const char *name);
const char *json_item_str(json_object *array, size_t index);
size_t json_array_size(json_object *array); /* 0 for NULL and for what is no array */
json_object *json_array_item(json_object *array, size_t index);

/* Building. `put` functions consume nothing but the value of json_put. */
void json_put(json_object *o, const char *name, json_object *owned_value);
void json_put_str(json_object *o, const char *name, const char *value); /* NULL gives null */
void json_put_int(json_object *o, const char *name, int64_t value);
void json_put_bool(json_object *o, const char *name, bool value);
void json_put_hex32(json_object *o, const char *name, uint32_t value); /* "0x0000001f" */
void json_put_hex64(json_object *o, const char *name, uint64_t value);

/* The text of `o`, compact and in member order; owned by the caller. */
char *json_text(json_object *o);
char *json_text_pretty(json_object *o);
/* The text with every object's members sorted by name: what content hashes are made of. */
char *json_canonical(json_object *o);

/* A name that people give to nodes, pools and workloads: 1 to 63 of [A-Za-z0-9._-], beginning
 * with a letter or digit. `what` is "node", "pool", "workload". */
int name_check(const char *what, const char *name, struct error *err);
