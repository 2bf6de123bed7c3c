/* SPDX-License-Identifier: Apache-2.0 */
/* door_json.c - walking JSON texts that were checked, and reading a broken one as far as it goes.
 */
#include "door_json.h"

#include <stdlib.h>
#include <string.h>

#include "json_text.h"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

int door_json_check(const char *text, size_t length, struct door_json *ret, struct error *err)
{
    if (json_text_check(text, length, DOOR_JSON_DEPTH_MAX, err) < 0)
        return -1;
    while (is_blank(*text)) /* a value stops both */
        text++, length--;
    while (is_blank(text[length - 1]))
        length--;
    *ret = (struct door_json){text, length};
    return 0;
}

/* The string that begins at `at`, absent when it does not end or is none. */
static struct door_json string_at(const char *text, size_t length, size_t at)
{
    size_t end = at + 1;
    while (end < length && text[end] != '"')
        end += text[end] == '\\' ? 2 : 1;
    struct door_json string = {text + at, end + 1 - at};
    if (end >= length || json_text_check(string.text, string.length, 1, NULL) < 0)
        return (struct door_json){0};
    return string;
}

struct door_json door_json_salvage(const char *text, size_t length, const char *outer,
                                   const char *inner)
{
    struct door_json found = {0};
    bool in_outer = false, is_next = false; /* is_next: the name was `inner` */
    size_t depth = 0;
    for (size_t at = 0; at < length;) {
        char c = text[at];
        if (c != '"') {
            if ((c == '}' || c == ']') && depth-- == 0)
                break;
            depth += c == '{' || c == '[';
            is_next = is_next && is_blank(c);
            at++;
            continue;
        }
        struct door_json string = string_at(text, length, at);
        if (!string.text)
            break;
        for (at += string.length; at < length && is_blank(text[at]);)
            at++;
        if (at == length || text[at] != ':') {
            if (is_next)
                found = string;
            is_next = false;
            continue;
        }
        at++;
        if (depth == 1)
            in_outer = door_json_equals(string, outer);
        is_next = depth == 2 && in_outer && door_json_equals(string, inner);
        if (is_next || (depth == 1 && in_outer)) /* a doubled one starts anew */
            found = (struct door_json){0};
    }
    return found;
}

/* ------------------------------------------------------------------ walking */

enum door_json_type door_json_type(struct door_json v)
{
    if (!v.text)
        return DOOR_JSON_ABSENT;
    switch (*v.text) {
    case 'n':
        return DOOR_JSON_NULL;
    case 't':
    case 'f':
        return DOOR_JSON_BOOL;
    case '"':
        return DOOR_JSON_STRING;
    case '[':
        return DOOR_JSON_ARRAY;
    case '{':
        return DOOR_JSON_OBJECT;
    default:
        return DOOR_JSON_NUMBER;
    }
}

const char *door_json_type_name(struct door_json v)
{
    static const char *const names[] = {"missing",  "null",     "a boolean", "a number",
                                        "a string", "an array", "an object"};
    return names[door_json_type(v)];
}

static const char *over_blanks(const char *at)
{
    while (is_blank(*at))
        at++;
    return at;
}

/* The byte behind the string that begins at `at`. */
static const char *over_string(const char *at)
{
    at++;
    for (;;) {
        while (*at != '"' && *at != '\\')
            at++;
        if (*at == '"')
            return at + 1;
        at += 2;
    }
}

/* The byte behind the container that begins at `at`. Whole bodies go through here several times,
 * so what is neither bracket nor quote is passed over by a table. */
static const char *over_container(const char *at)
{
    static const bool stops[256] = {
        ['"'] = true, ['{'] = true, ['}'] = true, ['['] = true, [']'] = true};
    size_t depth = 0;
    for (;;) {
        while (!stops[(unsigned char)*at])
            at++;
        if (*at == '"') {
            at = over_string(at);
            continue;
        }
        depth += *at == '{' || *at == '[' ? 1 : (size_t)-1;
        at++;
        if (depth == 0)
            return at;
    }
}

/* The byte behind the value that begins at `at`, in a text that was checked. */
static const char *over_value(const char *at, const char *end)
{
    if (*at == '"')
        return over_string(at);
    if (*at == '{' || *at == '[')
        return over_container(at);
    while (at < end && *at != ',' && *at != '}' && *at != ']' && !is_blank(*at))
        at++;
    return at;
}

struct door_json_walk door_json_walk(struct door_json container)
{
    enum door_json_type type = door_json_type(container);
    if (type != DOOR_JSON_ARRAY && type != DOOR_JSON_OBJECT)
        return (struct door_json_walk){0};
    return (struct door_json_walk){
        .at = container.text + 1,
        .end = container.text + container.length - 1, /* the closing bracket */
        .named = type == DOOR_JSON_OBJECT,
    };
}

bool door_json_next(struct door_json_walk *walk, struct door_json *ret_name,
                    struct door_json *ret_value)
{
    if (!walk->at)
        return false;
    const char *at = over_blanks(walk->at);
    if (at >= walk->end)
        return false;
    struct door_json name = {0};
    if (walk->named) {
        const char *start = at;
        at = over_string(at);
        name = (struct door_json){start, (size_t)(at - start)};
        at = over_blanks(over_blanks(at) + 1); /* the colon */
    }
    const char *start = at;
    at = over_value(at, walk->end);
    if (ret_name)
        *ret_name = name;
    *ret_value = (struct door_json){start, (size_t)(at - start)};
    at = over_blanks(at);
    walk->at = *at == ',' ? at + 1 : at;
    return true;
}

static struct door_json member(struct door_json object, const char *name,
                               bool (*equals)(struct door_json, const char *))
{
    struct door_json found = {0}, n, v;
    if (door_json_type(object) != DOOR_JSON_OBJECT)
        return found;
    for (struct door_json_walk w = door_json_walk(object); door_json_next(&w, &n, &v);)
        if (equals(n, name))
            found = v;
    return found;
}

struct door_json door_json_member(struct door_json object, const char *name)
{
    return member(object, name, door_json_equals);
}

struct door_json door_json_member_fold(struct door_json object, const char *name)
{
    return member(object, name, door_json_equals_fold);
}

struct door_json door_json_at(struct door_json object, const char *path)
{
    while (*path) {
        char name[64];
        size_t length = strcspn(path, ".");
        if (length >= sizeof(name))
            return (struct door_json){0};
        memcpy(name, path, length);
        name[length] = '\0';
        object = door_json_member(object, name);
        path += length + (path[length] == '.');
    }
    return object;
}

/* ------------------------------------------------------------------ strings */

static unsigned hex4(const char *at)
{
    unsigned code = 0;
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        unsigned digit = c <= '9' ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a' + 10);
        code = code << 4 | digit;
    }
    return code;
}

/* Reads "XXXX" behind "\u", and the second half of a pair, which the check has seen. */
static unsigned unicode_escape(const char **at)
{
    unsigned code = hex4(*at);
    *at += 4;
    if (code < 0xd800 || code > 0xdbff)
        return code;
    code = 0x10000 + ((code - 0xd800) << 10) + (hex4(*at + 2) - 0xdc00);
    *at += 6;
    return code;
}

static size_t put_utf8(unsigned code, char out[4])
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

/* The next character of a string's inside, 1 to 4 bytes; 0 at the closing quote. */
static size_t next_character(const char **at, char out[4])
{
    char c = **at;
    if (c == '"')
        return 0;
    (*at)++;
    if (c != '\\') {
        out[0] = c; /* bytes of a longer sequence come one by one */
        return 1;
    }
    c = *(*at)++;
    if (c == 'u')
        return put_utf8(unicode_escape(at), out);
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    const char *known = strchr(from, c);
    out[0] = known && c ? to[known - from] : c;
    return 1;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool equals(struct door_json v, const char *text, bool fold)
{
    if (door_json_type(v) != DOOR_JSON_STRING)
        return false;
    const char *at = v.text + 1;
    char out[4];
    for (size_t n; (n = next_character(&at, out)) > 0;)
        for (size_t i = 0; i < n; i++, text++)
            if (*text == '\0' || (fold ? lower(out[i]) != lower(*text) : out[i] != *text))
                return false;
    return *text == '\0';
}

bool door_json_equals(struct door_json v, const char *text)
{
    return equals(v, text, false);
}

bool door_json_equals_fold(struct door_json v, const char *text)
{
    return equals(v, text, true);
}

long door_json_string(struct door_json v, char *buffer, size_t room)
{
    if (door_json_type(v) != DOOR_JSON_STRING)
        return -1;
    const char *at = v.text + 1;
    char out[4];
    size_t length = 0;
    for (size_t n; (n = next_character(&at, out)) > 0; length += n) {
        if (length + n >= room || (n == 1 && out[0] == '\0'))
            return -1;
        memcpy(buffer + length, out, n);
    }
    buffer[length] = '\0';
    return (long)length;
}

char *door_json_string_dup(struct door_json v, size_t max)
{
    if (door_json_type(v) != DOOR_JSON_STRING)
        return NULL;
    /* decoded, a string is never longer than it is written */
    size_t room = (v.length < max ? v.length : max) + 1;
    char *text = xmalloc(room);
    if (door_json_string(v, text, room) < 0) {
        free(text);
        return NULL;
    }
    return text;
}
