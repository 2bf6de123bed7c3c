/* SPDX-License-Identifier: Apache-2.0 */
/* json.c - the one file that calls json-c's getters. */
#include "json.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "json_text.h"

int json_parse(const char *text, size_t length, json_object **ret, struct error *err)
{
    if (length == 0)
        return error_set(err, ERROR_INVALID, "the body is empty, expected JSON");
    if (length > INT32_MAX)
        return error_set(err, ERROR_TOO_LARGE, "JSON of %zu bytes is too large", length);
    if (json_text_check(text, length, JSON_DEPTH_MAX, err) < 0)
        return -1;
    json_tokener *tokener = json_tokener_new_ex(JSON_DEPTH_MAX + 1);
    if (!tokener)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    /* Strictness is json_text_check's: json-c 0.18 takes letters beyond ASCII for control
     * characters when it is asked to be strict. */
    json_object *object = json_tokener_parse_ex(tokener, text, (int)length);
    /* A bare number may go on, as far as the tokener knows: an end tells it that it does not. */
    if (json_tokener_get_error(tokener) == json_tokener_continue)
        object = json_tokener_parse_ex(tokener, "", 1);
    enum json_tokener_error code = json_tokener_get_error(tokener);
    size_t end = json_tokener_get_parse_end(tokener);
    json_tokener_free(tokener);
    if (code != json_tokener_success) {
        json_object_put(object);
        return error_set(err, ERROR_INVALID, "not valid JSON: %s at byte %zu",
                         json_tokener_error_desc(code), end);
    }
    if (!object)
        return error_set(err, ERROR_INVALID, "not valid JSON here: null");
    *ret = object;
    return 0;
}

static const char *type_name(json_object *o)
{
    return o ? json_type_to_name(json_object_get_type(o)) : "null";
}

static json_object *find(json_object *o, const char *name)
{
    json_object *value = NULL;
    if (!o || !json_object_is_type(o, json_type_object))
        return NULL;
    json_object_object_get_ex(o, name, &value);
    return value;
}

int json_check_object(const char *what, json_object *o, struct error *err)
{
    if (!json_object_is_type(o, json_type_object))
        return error_set(err, ERROR_INVALID, "%s: expected an object, not %s", what, type_name(o));
    return 0;
}

static int missing(const char *what, const char *name, struct error *err)
{
    return error_set(err, ERROR_INVALID, "%s: %s: missing", what, name);
}

static int as_str(const char *what, const char *name, json_object *v, const char **ret,
                  struct error *err)
{
    if (!json_object_is_type(v, json_type_string))
        return error_set(err, ERROR_INVALID, "%s: %s: expected a string, not %s", what, name,
                         type_name(v));
    const char *text = json_object_get_string(v);
    size_t length = (size_t)json_object_get_string_len(v);
    if (!text || strlen(text) != length)
        return error_set(err, ERROR_INVALID, "%s: %s: holds a NUL character", what, name);
    if (length > JSON_STRING_MAX)
        return error_set(err, ERROR_INVALID, "%s: %s: %zu bytes long, at most %d are taken", what,
                         name, length, JSON_STRING_MAX);
    *ret = text;
    return 0;
}

static int as_integer(const char *what, const char *name, json_object *v, int64_t least,
                      int64_t most, int64_t *ret, struct error *err)
{
    if (!json_object_is_type(v, json_type_int))
        return error_set(err, ERROR_INVALID,
                         "%s: %s: expected an integer %" PRId64 "..%" PRId64 ", not %s", what, name,
                         least, most, type_name(v));
    int64_t value = json_object_get_int64(v);
    if (value < least || value > most)
        return error_set(err, ERROR_INVALID, "%s: %s: expected %" PRId64 "..%" PRId64 ", not %s",
                         what, name, least, most, json_object_to_json_string(v));
    *ret = value;
    return 0;
}

static int as_hex(const char *what, const char *name, json_object *v, uint64_t *ret,
                  struct error *err)
{
    const char *text = "";
    if (as_str(what, name, v, &text, err) < 0)
        return -1;
    size_t digits = strncmp(text, "0x", 2) == 0 ? strlen(text + 2) : 0;
    if (digits < 1 || digits > 16 || strspn(text + 2, "0123456789abcdefABCDEF") != digits)
        return error_set(err, ERROR_INVALID,
                         "%s: %s: expected \"0x\" and 1 to 16 hex digits, not \"%.40s\"", what,
                         name, text);
    *ret = strtoull(text + 2, NULL, 16);
    return 0;
}

int json_opt_str(const char *what, json_object *o, const char *name, const char **ret,
                 struct error *err)
{
    json_object *v = find(o, name);
    return v ? as_str(what, name, v, ret, err) : 0;
}

int json_get_str(const char *what, json_object *o, const char *name, const char **ret,
                 struct error *err)
{
    json_object *v = find(o, name);
    return v ? as_str(what, name, v, ret, err) : missing(what, name, err);
}

int json_opt_i64(const char *what, json_object *o, const char *name, int64_t *ret,
                 struct error *err)
{
    json_object *v = find(o, name);
    return v ? as_integer(what, name, v, -JSON_INTEGER_MAX, JSON_INTEGER_MAX, ret, err) : 0;
}

int json_get_i64(const char *what, json_object *o, const char *name, int64_t *ret,
                 struct error *err)
{
    return find(o, name) ? json_opt_i64(what, o, name, ret, err) : missing(what, name, err);
}

int json_opt_bool(const char *what, json_object *o, const char *name, bool *ret, struct error *err)
{
    json_object *v = find(o, name);
    if (!v)
        return 0;
    if (!json_object_is_type(v, json_type_boolean))
        return error_set(err, ERROR_INVALID, "%s: %s: expected true or false, not %s", what, name,
                         type_name(v));
    *ret = json_object_get_boolean(v);
    return 0;
}

int json_get_array(const char *what, json_object *o, const char *name, size_t max_items,
                   json_object **ret, struct error *err)
{
    json_object *v = find(o, name);
    if (!v)
        return missing(what, name, err);
    if (!json_object_is_type(v, json_type_array))
        return error_set(err, ERROR_INVALID, "%s: %s: expected an array, not %s", what, name,
                         type_name(v));
    if (json_object_array_length(v) > max_items)
        return error_set(err, ERROR_INVALID, "%s: %s: %zu items, at most %zu are taken", what, name,
                         (size_t)json_object_array_length(v), max_items);
    *ret = v;
    return 0;
}

int json_get_object(const char *what, json_object *o, const char *name, json_object **ret,
                    struct error *err)
{
    json_object *v = find(o, name);
    if (!v)
        return missing(what, name, err);
    if (!json_object_is_type(v, json_type_object))
        return error_set(err, ERROR_INVALID, "%s: %s: expected an object, not %s", what, name,
                         type_name(v));
    *ret = v;
    return 0;
}

int json_opt_hex(const char *what, json_object *o, const char *name, uint64_t *ret,
                 bool *ret_present, struct error *err)
{
    json_object *v = find(o, name);
    if (ret_present)
        *ret_present = v != NULL;
    return v ? as_hex(what, name, v, ret, err) : 0;
}

int json_get_hex(const char *what, json_object *o, const char *name, uint64_t *ret,
                 struct error *err)
{
    json_object *v = find(o, name);
    return v ? as_hex(what, name, v, ret, err) : missing(what, name, err);
}

static int decode_field(const char *what, const struct json_field *f, json_object *v, void *at,
                        struct error *err)
{
    const char *text = NULL;
    int64_t integer = 0;
    switch (f->type) {
    case JSON_STR:
        if (as_str(what, f->name, v, &text, err) < 0)
            return -1;
        *(char **)at = xstrdup(text);
        return 0;
    case JSON_BOOL:
        if (!json_object_is_type(v, json_type_boolean))
            return error_set(err, ERROR_INVALID, "%s: %s: expected true or false, not %s", what,
                             f->name, type_name(v));
        *(bool *)at = json_object_get_boolean(v);
        return 0;
    case JSON_U32:
        if (as_integer(what, f->name, v, 0, UINT32_MAX, &integer, err) < 0)
            return -1;
        *(uint32_t *)at = (uint32_t)integer;
        return 0;
    case JSON_U64:
        if (as_integer(what, f->name, v, 0, JSON_INTEGER_MAX, &integer, err) < 0)
            return -1;
        *(uint64_t *)at = (uint64_t)integer;
        return 0;
    case JSON_I64:
        if (as_integer(what, f->name, v, -JSON_INTEGER_MAX, JSON_INTEGER_MAX, &integer, err) < 0)
            return -1;
        *(int64_t *)at = integer;
        return 0;
    case JSON_HEX64:
        return as_hex(what, f->name, v, (uint64_t *)at, err);
    case JSON_ANY:
        *(json_object **)at = json_object_get(v);
        return 0;
    }
    return error_set(err, ERROR_INTERNAL, "%s: %s: unknown field type", what, f->name);
}

int json_decode(const char *what, json_object *object, const struct json_field *fields,
                void *target, struct error *err)
{
    if (json_check_object(what, object, err) < 0)
        return -1;
    for (const struct json_field *f = fields; f->name; f++) {
        json_object *v = find(object, f->name);
        int rc = 0;
        if (v)
            rc = decode_field(what, f, v, (char *)target + f->offset, err);
        else if (f->flags & JSON_REQUIRED)
            rc = missing(what, f->name, err);
        if (rc < 0) {
            json_release(fields, target);
            return -1;
        }
    }
    return 0;
}

/* Zeroes one member, after letting go of what it owns. */
static void clear_field(const struct json_field *f, void *at)
{
    switch (f->type) {
    case JSON_STR:
        free(*(char **)at);
        *(char **)at = NULL;
        break;
    case JSON_ANY:
        json_object_put(*(json_object **)at);
        *(json_object **)at = NULL;
        break;
    case JSON_BOOL:
        *(bool *)at = false;
        break;
    case JSON_U32:
        *(uint32_t *)at = 0;
        break;
    case JSON_U64:
    case JSON_HEX64:
        *(uint64_t *)at = 0;
        break;
    case JSON_I64:
        *(int64_t *)at = 0;
        break;
    }
}

void json_release(const struct json_field *fields, void *target)
{
    for (const struct json_field *f = fields; f->name; f++)
        clear_field(f, (char *)target + f->offset);
}

json_object *json_encode(const struct json_field *fields, const void *source)
{
    json_object *o = json_object_new_object();
    for (const struct json_field *f = fields; f->name; f++) {
        const void *at = (const char *)source + f->offset;
        switch (f->type) {
        case JSON_STR:
            json_put_str(o, f->name, *(char *const *)at);
            break;
        case JSON_BOOL:
            json_put_bool(o, f->name, *(const bool *)at);
            break;
        case JSON_U32:
            json_put_int(o, f->name, *(const uint32_t *)at);
            break;
        case JSON_U64:
            json_put_int(o, f->name, (int64_t) * (const uint64_t *)at);
            break;
        case JSON_I64:
            json_put_int(o, f->name, *(const int64_t *)at);
            break;
        case JSON_HEX64:
            json_put_hex64(o, f->name, *(const uint64_t *)at);
            break;
        case JSON_ANY:
            json_put(o, f->name, json_object_get(*(json_object *const *)at));
            break;
        }
    }
    return o;
}

json_object *json_member(json_object *o, const char *name)
{
    return find(o, name);
}

const char *json_str(json_object *o, const char *name)
{
    json_object *v = find(o, name);
    return json_object_is_type(v, json_type_string) ? json_object_get_string(v) : "";
}

int64_t json_int(json_object *o, const char *name)
{
    json_object *v = find(o, name);
    return json_object_is_type(v, json_type_int) ? json_object_get_int64(v) : 0;
}

bool json_flag(json_object *o, const char *name)
{
    json_object *v = find(o, name);
    return json_object_is_type(v, json_type_boolean) && json_object_get_boolean(v);
}

size_t json_array_size(json_object *array)
{
    return json_object_is_type(array, json_type_array) ? json_object_array_length(array) : 0;
}

json_object *json_array_item(json_object *array, size_t index)
{
    return index < json_array_size(array) ? json_object_array_get_idx(array, index) : NULL;
}

const char *json_item_str(json_object *array, size_t index)
{
    json_object *v = json_array_item(array, index);
    return json_object_is_type(v, json_type_string) ? json_object_get_string(v) : "";
}

void json_put(json_object *o, const char *name, json_object *owned_value)
{
    json_object_object_add(o, name, owned_value);
}

void json_put_str(json_object *o, const char *name, const char *value)
{
    json_put(o, name, value ? json_object_new_string(value) : NULL);
}

void json_put_int(json_object *o, const char *name, int64_t value)
{
    json_put(o, name, json_object_new_int64(value));
}

void json_put_bool(json_object *o, const char *name, bool value)
{
    json_put(o, name, json_object_new_boolean(value));
}

void json_put_hex32(json_object *o, const char *name, uint32_t value)
{
    char text[16];
    snprintf(text, sizeof(text), "0x%08" PRIx32, value);
    json_put_str(o, name, text);
}

void json_put_hex64(json_object *o, const char *name, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof(text), "0x%016" PRIx64, value);
    json_put_str(o, name, text);
}

static char *text_of(json_object *o, int flags)
{
    return xstrdup(json_object_to_json_string_ext(o, flags | JSON_C_TO_STRING_NOSLASHESCAPE));
}

char *json_text(json_object *o)
{
    return text_of(o, JSON_C_TO_STRING_PLAIN);
}

char *json_text_pretty(json_object *o)
{
    return text_of(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static json_object *sorted_copy(json_object *o)
{
    if (json_object_is_type(o, json_type_array)) {
        size_t n = json_object_array_length(o);
        json_object *copy = json_object_new_array();
        for (size_t i = 0; i < n; i++)
            json_object_array_add(copy, sorted_copy(json_object_array_get_idx(o, i)));
        return copy;
    }
    if (!json_object_is_type(o, json_type_object))
        return json_object_get(o);
    size_t n = (size_t)json_object_object_length(o), i = 0;
    autofree const char **names = xcalloc(n, sizeof(*names));
    json_object_object_foreach(o, name, value)
    {
        (void)value;
        names[i++] = name;
    }
    qsort(names, n, sizeof(*names), compare_names);
    json_object *copy = json_object_new_object();
    for (i = 0; i < n; i++)
        json_put(copy, names[i], sorted_copy(find(o, names[i])));
    return copy;
}

char *json_canonical(json_object *o)
{
    autojson *copy = sorted_copy(o);
    return json_text(copy);
}

int name_check(const char *what, const char *name, struct error *err)
{
    size_t length = strlen(name);
    bool first_ok = (*name >= 'a' && *name <= 'z') || (*name >= 'A' && *name <= 'Z') ||
                    (*name >= '0' && *name <= '9');
    if (length < 1 || length > 63 || !first_ok ||
        strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != length)
        return error_set(err, ERROR_INVALID,
                         "%s: '%.80s' is no name: expected 1 to 63 of A-Z a-z 0-9 . _ - that begin "
                         "with a letter or digit",
                         what, name);
    return 0;
}
