/* SPDX-License-Identifier: Apache-2.0 */
/* door_text.c - growing text, JSON strings, base64 and messages without surprises. */
#include "door_text.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "json.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

static void reserve(struct door_text *t, size_t more)
{
    if (t->room - t->length > more)
        return;
    size_t room = t->room ? t->room : 256;
    while (room - t->length <= more)
        room *= 2;
    t->text = xrealloc(t->text, room);
    t->room = room;
}

void door_text_add_bytes(struct door_text *t, const char *bytes, size_t length)
{
    reserve(t, length);
    memcpy(t->text + t->length, bytes, length);
    t->length += length;
    t->text[t->length] = '\0';
}

void door_text_add(struct door_text *t, const char *text)
{
    door_text_add_bytes(t, text, strlen(text));
}

void door_text_addf(struct door_text *t, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    int length = vsnprintf(NULL, 0, format, ap);
    va_end(ap);
    if (length < 0)
        return;
    reserve(t, (size_t)length);
    va_start(ap, format);
    vsnprintf(t->text + t->length, (size_t)length + 1, format, ap);
    va_end(ap);
    t->length += (size_t)length;
}

/* The length of the UTF-8 character at `s`, 0 when there is none. */
static size_t character_length(const char *s)
{
    unsigned char c = (unsigned char)*s;
    size_t n = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    return strnlen(s, n) == n && json_text_is_utf8(s, n) ? n : 0;
}

void door_text_add_string(struct door_text *t, const char *text)
{
    door_text_add_bytes(t, "\"", 1);
    while (*text) {
        unsigned char c = (unsigned char)*text;
        size_t n = character_length(text);
        if (n == 0) {
            door_text_add(t, REPLACEMENT);
            n = 1;
        } else if (c < 0x20 || c == 0x7f) {
            door_text_addf(t, "\\u%04x", c);
        } else {
            if (c == '"' || c == '\\')
                door_text_add_bytes(t, "\\", 1);
            door_text_add_bytes(t, text, n);
        }
        text += n;
    }
    door_text_add_bytes(t, "\"", 1);
}

void door_text_add_json(struct door_text *t, struct door_json value)
{
    if (value.text)
        door_text_add_bytes(t, value.text, value.length);
    else
        door_text_add(t, "null");
}

void door_text_add_base64(struct door_text *t, const char *bytes, size_t length)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *in = (const unsigned char *)bytes;
    reserve(t, (length + 2) / 3 * 4);
    char *out = t->text + t->length;
    for (size_t i = 0; i < length; i += 3) {
        size_t left = length - i;
        uint32_t group = (uint32_t)in[i] << 16 | (left > 1 ? (uint32_t)in[i + 1] << 8 : 0) |
                         (left > 2 ? in[i + 2] : 0);
        *out++ = digits[group >> 18];
        *out++ = digits[group >> 12 & 63];
        *out++ = left > 1 ? digits[group >> 6 & 63] : '=';
        *out++ = left > 2 ? digits[group & 63] : '=';
    }
    *out = '\0';
    t->length = (size_t)(out - t->text);
}

char *door_text_take(struct door_text *t)
{
    char *text = t->text ? t->text : xstrdup("");
    *t = (struct door_text){0};
    return text;
}

void door_text_done(struct door_text *t)
{
    int saved_errno = errno;
    free(t->text);
    *t = (struct door_text){0};
    errno = saved_errno;
}

/* Controls of ASCII and of Latin-1 (C1, two bytes in UTF-8). */
static bool is_control(const char *s, size_t n)
{
    unsigned char c = (unsigned char)s[0];
    if (n == 1)
        return c < 0x20 || c == 0x7f;
    return n == 2 && c == 0xc2 && (unsigned char)s[1] < 0xa0;
}

char *door_text_clean(const char *text, size_t max)
{
    struct door_text out = {0};
    size_t count = 0, keep = 0; /* keep: bytes of the first max-3 characters */
    for (; *text; count++) {
        if (count == max - 3)
            keep = out.length;
        if (count == max) {
            out.length = keep;
            door_text_add(&out, "...");
            break;
        }
        size_t n = character_length(text);
        if (n == 0)
            door_text_add(&out, REPLACEMENT);
        else if (is_control(text, n))
            door_text_add_bytes(&out, " ", 1);
        else
            door_text_add_bytes(&out, text, n);
        text += n ? n : 1;
    }
    return door_text_take(&out);
}
