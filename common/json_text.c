/* SPDX-License-Identifier: Apache-2.0 */
/* json_text.c - a checker of JSON's grammar that builds nothing. */
#include "json_text.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "json.h"

struct scan {
    const unsigned char *text;
    size_t length, at;
    const char *what; /* what was wrong at `at`; NULL while all is well */
};

static bool fail(struct scan *s, const char *what)
{
    if (!s->what)
        s->what = what;
    return false;
}

static int peek(const struct scan *s)
{
    return s->at < s->length ? s->text[s->at] : -1;
}

static bool take(struct scan *s, int c)
{
    if (peek(s) != c)
        return false;
    s->at++;
    return true;
}

static void skip_space(struct scan *s)
{
    while (peek(s) == ' ' || peek(s) == '\t' || peek(s) == '\n' || peek(s) == '\r')
        s->at++;
}

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

static bool digits(struct scan *s)
{
    if (!is_digit(peek(s)))
        return fail(s, "a digit is missing");
    while (is_digit(peek(s)))
        s->at++;
    return true;
}

static bool number(struct scan *s)
{
    take(s, '-');
    if (take(s, '0')) {
        if (is_digit(peek(s)))
            return fail(s, "a number begins with 0");
    } else if (!digits(s)) {
        return false;
    }
    if (take(s, '.') && !digits(s))
        return false;
    if (take(s, 'e') || take(s, 'E')) {
        if (!take(s, '+'))
            take(s, '-');
        return digits(s);
    }
    return true;
}

static bool word(struct scan *s, const char *expected)
{
    size_t length = strlen(expected);
    if (s->length - s->at < length || memcmp(s->text + s->at, expected, length) != 0)
        return fail(s, "a value was expected");
    s->at += length;
    return true;
}

static bool hex4(struct scan *s, uint32_t *ret)
{
    *ret = 0;
    for (int i = 0; i < 4; i++) {
        int c = peek(s);
        uint32_t digit;
        if (is_digit(c))
            digit = (uint32_t)(c - '0');
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f' && c > 0)
            digit = (uint32_t)((c | 0x20) - 'a' + 10);
        else
            return fail(s, "\\u wants four hex digits");
        *ret = *ret << 4 | digit;
        s->at++;
    }
    return true;
}

static bool escape(struct scan *s)
{
    int c = peek(s);
    if (c != 'u') {
        if (c <= 0 || !strchr("\"\\/bfnrt", c))
            return fail(s, "no such escape");
        s->at++;
        return true;
    }
    uint32_t unit, second;
    s->at++;
    if (!hex4(s, &unit))
        return false;
    if (unit >= 0xdc00 && unit <= 0xdfff)
        return fail(s, "half a surrogate pair");
    if (unit < 0xd800 || unit > 0xdbff)
        return true;
    if (!take(s, '\\') || !take(s, 'u'))
        return fail(s, "half a surrogate pair");
    if (!hex4(s, &second))
        return false;
    return (second >= 0xdc00 && second <= 0xdfff) || fail(s, "half a surrogate pair");
}

/* One character of more than a byte, by RFC 3629. */
static bool utf8(struct scan *s)
{
    unsigned char c = s->text[s->at];
    unsigned more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    if (c < 0xc2 || c > 0xf4 || s->length - s->at <= more)
        return fail(s, "not UTF-8");
    uint32_t code = c & (0x3fU >> more);
    for (unsigned i = 1; i <= more; i++) {
        unsigned char next = s->text[s->at + i];
        if ((next & 0xc0) != 0x80)
            return fail(s, "not UTF-8");
        code = code << 6 | (next & 0x3f);
    }
    if (code < least[more] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
        return fail(s, "not UTF-8");
    s->at += more + 1;
    return true;
}

static bool string(struct scan *s)
{
    if (!take(s, '"'))
        return fail(s, "a string in double quotes was expected");
    for (;;) {
        int c = peek(s);
        if (c < 0)
            return fail(s, "the text ends in a string");
        if (c < 0x20)
            return fail(s, "a raw control character in a string");
        if (c >= 0x80) {
            if (!utf8(s))
                return false;
            continue;
        }
        s->at++;
        if (c == '"')
            return true;
        if (c == '\\' && !escape(s))
            return false;
    }
}

static bool scalar(struct scan *s)
{
    int c = peek(s);
    if (c == '"')
        return string(s);
    if (c == '-' || is_digit(c))
        return number(s);
    if (c < 0)
        return fail(s, "the text ends too early");
    return word(s, c == 't' ? "true" : c == 'f' ? "false" : "null");
}

/* The name and colon of a member. */
static bool member_name(struct scan *s)
{
    skip_space(s);
    if (!string(s))
        return false;
    skip_space(s);
    if (!take(s, ':'))
        return fail(s, "':' was expected");
    skip_space(s);
    return true;
}

/* Values until all that was opened is closed; `open` remembers which brackets those are. */
static bool value(struct scan *s, char *open, unsigned depth_max)
{
    unsigned depth = 0;
    for (;;) {
        int c = peek(s);
        if (c == '{' || c == '[') {
            if (depth == depth_max)
                return fail(s, "nested too deeply");
            open[depth++] = c == '{' ? '}' : ']';
            s->at++;
            skip_space(s);
            if (!take(s, open[depth - 1])) {
                if (c == '{' && !member_name(s))
                    return false;
                continue;
            }
            depth--;
        } else if (!scalar(s)) {
            return false;
        }
        for (skip_space(s); depth && take(s, open[depth - 1]); skip_space(s))
            depth--;
        if (!depth)
            return true;
        if (!take(s, ','))
            return fail(s, peek(s) < 0 ? "the text ends too early" : "',' was expected");
        skip_space(s);
        if (open[depth - 1] == '}' && !member_name(s))
            return false;
    }
}

bool json_text_is_utf8(const char *text, size_t length)
{
    struct scan s = {.text = (const unsigned char *)text, .length = length};
    while (s.at < s.length) {
        if (s.text[s.at] < 0x80)
            s.at++;
        else if (!utf8(&s))
            return false;
    }
    return true;
}

int json_text_check(const char *text, size_t length, unsigned depth_max, struct error *err)
{
    struct scan s = {.text = (const unsigned char *)text, .length = length};
    autofree char *open = xmalloc(depth_max);
    skip_space(&s);
    if (value(&s, open, depth_max)) {
        skip_space(&s);
        if (s.at < s.length)
            fail(&s, "text goes on after the value");
    }
    if (s.what)
        return error_set(err, ERROR_INVALID, "not valid JSON: %s at byte %zu", s.what, s.at);
    return 0;
}
