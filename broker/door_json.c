/* SPDX-License-Identifier: Apache-2.0 */
/* door_json.c - a strict scanner over JSON texts, and walking what it has checked. */
#include "door_json.h"

#include <stdint.h>
#include <string.h>

#include "json.h"

/* ------------------------------------------------------------------ checking */

struct scanner {
    const char *text;
    size_t length, at;
    const char *fault; /* what was expected where `at` stands */
    size_t depth;
    uint8_t objects[DOOR_JSON_DEPTH_MAX / 8 + 1]; /* which levels are objects, else arrays */
    /* The string at outer.inner, when it is looked for. */
    const char *outer, *inner;
    bool in_outer, inner_next;
    struct door_json found;
};

static int fault(struct scanner *s, const char *what)
{
    s->fault = s->at < s->length ? what : "the text ends too early";
    return -1;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static int hex_digit(char c)
{
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* The character at hand, NUL at the end; a NUL in the text is an error wherever it stands. */
static char peek(const struct scanner *s)
{
    return s->at < s->length ? s->text[s->at] : '\0';
}

static char skip_blanks(struct scanner *s)
{
    while (s->at < s->length && is_blank(s->text[s->at]))
        s->at++;
    return peek(s);
}

static int scan_escape(struct scanner *s)
{
    char c = peek(s);
    if (c != '\0' && strchr("\"\\/bfnrt", c)) {
        s->at++;
        return 0;
    }
    if (c != 'u')
        return fault(s, "no such escape in a string");
    s->at++;
    for (int i = 0; i < 4; i++, s->at++)
        if (hex_digit(peek(s)) < 0)
            return fault(s, "expected four hex digits after \\u");
    return 0;
}

/* Which bytes end a run of plain ones in a string: quote, backslash, controls. */
static inline bool is_plain(char c)
{
    return (unsigned char)c >= 0x20 && c != '"' && c != '\\';
}

static int scan_string(struct scanner *s, struct door_json *ret)
{
    size_t start = s->at;
    if (peek(s) != '"')
        return fault(s, "expected a string");
    s->at++;
    for (;;) {
        while (s->at < s->length && is_plain(s->text[s->at]))
            s->at++;
        if (peek(s) == '"')
            break;
        if (peek(s) != '\\')
            return fault(s, "control character in a string");
        s->at++;
        if (scan_escape(s) < 0)
            return -1;
    }
    s->at++;
    *ret = (struct door_json){s->text + start, s->at - start};
    return 0;
}

static int scan_digits(struct scanner *s)
{
    if (!is_digit(peek(s)))
        return fault(s, "expected a digit");
    while (is_digit(peek(s)))
        s->at++;
    return 0;
}

static int scan_number(struct scanner *s)
{
    if (peek(s) == '-')
        s->at++;
    if (peek(s) == '0')
        s->at++;
    else if (scan_digits(s) < 0)
        return -1;
    if (peek(s) == '.') {
        s->at++;
        if (scan_digits(s) < 0)
            return -1;
    }
    if (peek(s) == 'e' || peek(s) == 'E') {
        s->at++;
        if (peek(s) == '+' || peek(s) == '-')
            s->at++;
        if (scan_digits(s) < 0)
            return -1;
    }
    return 0;
}

static int scan_word(struct scanner *s, const char *word)
{
    size_t length = strlen(word);
    if (s->length - s->at < length || memcmp(s->text + s->at, word, length) != 0)
        return fault(s, "expected a value");
    s->at += length;
    return 0;
}

static int push(struct scanner *s, bool object)
{
    if (s->depth == DOOR_JSON_DEPTH_MAX)
        return fault(s, "nested too deep");
    uint8_t bit = (uint8_t)(1U << (s->depth % 8));
    if (object)
        s->objects[s->depth / 8] |= bit;
    else
        s->objects[s->depth / 8] &= (uint8_t)~bit;
    s->depth++;
    s->at++;
    return 0;
}

static bool in_object(const struct scanner *s)
{
    return s->depth > 0 && (s->objects[(s->depth - 1) / 8] >> ((s->depth - 1) % 8) & 1);
}

/* Notes when the member whose name was read is the one that is looked for. */
static void watch_name(struct scanner *s, struct door_json name)
{
    s->inner_next = false;
    if (!s->outer)
        return;
    if (s->depth == 1) {
        s->in_outer = door_json_equals(name, s->outer);
        if (s->in_outer) /* a doubled one starts anew */
            s->found = (struct door_json){0};
    } else if (s->depth == 2 && s->in_outer && in_object(s)) {
        s->inner_next = door_json_equals(name, s->inner);
        if (s->inner_next)
            s->found = (struct door_json){0};
    }
}

/* Blanks, a member's name and the colon. */
static int scan_name(struct scanner *s)
{
    struct door_json name;
    skip_blanks(s);
    if (scan_string(s, &name) < 0)
        return -1;
    if (skip_blanks(s) != ':')
        return fault(s, "expected ':'");
    s->at++;
    watch_name(s, name);
    return 0;
}

static int scan_scalar(struct scanner *s)
{
    char c = peek(s);
    struct door_json string;
    switch (c) {
    case '"':
        if (scan_string(s, &string) < 0)
            return -1;
        if (s->inner_next)
            s->found = string;
        return 0;
    case 't':
        return scan_word(s, "true");
    case 'f':
        return scan_word(s, "false");
    case 'n':
        return scan_word(s, "null");
    default:
        if (c == '-' || is_digit(c))
            return scan_number(s);
        return fault(s, "expected a value");
    }
}

/* Reads one value or opens one container. *ret_done: a value is complete. */
static int scan_value(struct scanner *s, bool *ret_done)
{
    char c = skip_blanks(s);
    *ret_done = true;
    if (c != '{' && c != '[')
        return scan_scalar(s);
    s->inner_next = false;
    if (push(s, c == '{') < 0)
        return -1;
    if (skip_blanks(s) == (c == '{' ? '}' : ']')) {
        s->depth--;
        s->at++;
        return 0;
    }
    *ret_done = false;
    return c == '{' ? scan_name(s) : 0;
}

/* What follows a complete value: closing brackets, then a comma. *ret_more: another value. */
static int scan_after(struct scanner *s, bool *ret_more)
{
    for (;;) {
        s->inner_next = false;
        *ret_more = s->depth > 0;
        if (s->depth == 0)
            return 0;
        char c = skip_blanks(s);
        if (c == ',') {
            s->at++;
            return in_object(s) ? scan_name(s) : 0;
        }
        if (c != (in_object(s) ? '}' : ']'))
            return fault(s, in_object(s) ? "expected ',' or '}'" : "expected ',' or ']'");
        s->depth--;
        s->at++;
    }
}

static int scan_text(struct scanner *s, struct door_json *ret)
{
    skip_blanks(s);
    size_t start = s->at;
    bool done = false, more = true;
    while (more) {
        if (scan_value(s, &done) < 0 || (done && scan_after(s, &more) < 0))
            return -1;
    }
    *ret = (struct door_json){s->text + start, s->at - start};
    skip_blanks(s);
    if (s->at < s->length)
        return fault(s, "text goes on after the end");
    return 0;
}

int door_json_check(const char *text, size_t length, struct door_json *ret, struct error *err)
{
    struct scanner s = {.text = text, .length = length};
    struct door_json value;
    if (length == 0)
        return error_set(err, ERROR_INVALID, "the body is empty, expected JSON");
    if (scan_text(&s, &value) < 0)
        return error_set(err, ERROR_INVALID, "not valid JSON: %s at byte %zu", s.fault, s.at);
    if (!json_text_is_utf8(text, length))
        return error_set(err, ERROR_INVALID, "not valid JSON: the text is not UTF-8");
    *ret = value;
    return 0;
}

struct door_json door_json_salvage(const char *text, size_t length, const char *outer,
                                   const char *inner)
{
    struct scanner s = {.text = text, .length = length, .outer = outer, .inner = inner};
    struct door_json value;
    (void)scan_text(&s, &value); /* what was found before an error counts */
    if (s.found.text && !json_text_is_utf8(s.found.text, s.found.length))
        return (struct door_json){0};
    return s.found;
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
    for (at++; *at != '"'; at++)
        if (*at == '\\')
            at++;
    return at + 1;
}

/* The byte behind the value that begins at `at`, in a text that was checked. */
static const char *over_value(const char *at, const char *end)
{
    if (*at == '"')
        return over_string(at);
    if (*at != '{' && *at != '[') {
        while (at < end && *at != ',' && *at != '}' && *at != ']' && !is_blank(*at))
            at++;
        return at;
    }
    size_t depth = 0;
    for (;;) {
        switch (*at) {
        case '"':
            at = over_string(at);
            continue;
        case '{':
        case '[':
            depth++;
            break;
        case '}':
        case ']':
            if (--depth == 0)
                return at + 1;
            break;
        default:
            break;
        }
        at++;
    }
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
    for (int i = 0; i < 4; i++)
        code = code << 4 | (unsigned)hex_digit(at[i]);
    return code;
}

/* Reads "XXXX" behind "\u", and a second half if it makes a pair. */
static unsigned unicode_escape(const char **at)
{
    unsigned code = hex4(*at);
    *at += 4;
    if (code < 0xd800 || code > 0xdfff)
        return code;
    if (code < 0xdc00 && (*at)[0] == '\\' && (*at)[1] == 'u') {
        unsigned low = hex4(*at + 2);
        if (low >= 0xdc00 && low <= 0xdfff) {
            *at += 6;
            return 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        }
    }
    return 0xfffd;
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
