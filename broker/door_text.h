/* SPDX-License-Identifier: Apache-2.0 */
/* door_text.h - replies of the doors as text that grows: JSON written by hand, so that slices of
 * what came in can be given back as they are. */
#pragma once

#include <stddef.h>

#include "cleanup.h"
#include "door_json.h"

struct door_text { /* starts as {0}; its memory is owned */
    char *text;    /* NUL-terminated once anything was added */
    size_t length, room;
};

void door_text_add(struct door_text *t, const char *text);
void door_text_add_bytes(struct door_text *t, const char *bytes, size_t length);
void door_text_addf(struct door_text *t, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* A JSON string. Bytes that are no UTF-8 become U+FFFD, so that the reply is always JSON. */
void door_text_add_string(struct door_text *t, const char *text);
/* A slice as it is; "null" when absent. */
void door_text_add_json(struct door_text *t, struct door_json value);
/* Standard base64 with padding. */
void door_text_add_base64(struct door_text *t, const char *bytes, size_t length);
/* The text, never NULL; the caller owns it, and *t is empty again. */
char *door_text_take(struct door_text *t);
void door_text_done(struct door_text *t);
#define autotext __attribute__((cleanup(door_text_done))) struct door_text

/* For people and headers: control characters become blanks, bytes that are no UTF-8 become U+FFFD,
 * and what is longer than `max` characters ends in "...". The caller owns it. */
char *door_text_clean(const char *text, size_t max);
