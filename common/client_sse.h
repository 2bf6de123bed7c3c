/* SPDX-License-Identifier: Apache-2.0 */
/* client_sse.h - server-sent events taken apart as their bytes come; client.c's own. */
#pragma once

#include <stddef.h>

#include "error.h"

#define SSE_EVENT_MAX_BYTES (1024UL * 1024)

struct sse {
    int (*event)(void *ctx, const char *id, const char *name, const char *data);
    void *ctx;
    /* The parser's own: */
    char *line, *data; /* owned */
    size_t line_length, line_room, data_length, data_room;
    char id[128], name[64];
    int skip_newline; /* the last byte was a CR */
};

/* The caller zeroes *sse and sets event and ctx. Returns 0, or what `event` returned when that
 * was not 0, or -1 with ERROR_UPSTREAM for an event beyond SSE_EVENT_MAX_BYTES. */
int sse_feed(struct sse *sse, const char *bytes, size_t length, struct error *err);
void sse_done(struct sse *sse);
