/* SPDX-License-Identifier: Apache-2.0 */
/* client_sse.c - the line format of server-sent events (WHATWG HTML, "Server-sent events"). */
#include "client_sse.h"

#include <stdlib.h>
#include <string.h>

#include "cleanup.h"

static int append(char **text, size_t *length, size_t *room, const char *bytes, size_t count,
                  struct error *err)
{
    if (count > SSE_EVENT_MAX_BYTES - *length)
        return error_set(err, ERROR_UPSTREAM, "an event of the stream is larger than %lu bytes",
                         SSE_EVENT_MAX_BYTES);
    if (*length + count + 1 > *room) {
        *room = (*length + count) * 2 + 64;
        *text = xrealloc(*text, *room);
    }
    memcpy(*text + *length, bytes, count);
    *length += count;
    (*text)[*length] = '\0';
    return 0;
}

static void copy_short(char *to, size_t room, const char *from)
{
    size_t length = strlen(from);
    if (length >= room)
        length = room - 1;
    memcpy(to, from, length);
    to[length] = '\0';
}

static int dispatch(struct sse *sse)
{
    int rc = 0;
    if (sse->data_length > 0) {
        sse->data[sse->data_length - 1] = '\0'; /* the last newline */
        rc = sse->event(sse->ctx, sse->id, sse->name[0] ? sse->name : "message", sse->data);
    }
    sse->data_length = 0;
    sse->name[0] = '\0';
    return rc;
}

static int take_line(struct sse *sse, struct error *err)
{
    if (sse->line_length == 0)
        return dispatch(sse);
    char *line = sse->line, *value = strchr(line, ':');
    if (value) {
        *value++ = '\0';
        value += *value == ' ';
    } else {
        value = line + strlen(line);
    }
    if (strcmp(line, "data") == 0) {
        if (append(&sse->data, &sse->data_length, &sse->data_room, value, strlen(value), err) < 0)
            return -1;
        return append(&sse->data, &sse->data_length, &sse->data_room, "\n", 1, err);
    }
    if (strcmp(line, "id") == 0)
        copy_short(sse->id, sizeof(sse->id), value);
    else if (strcmp(line, "event") == 0)
        copy_short(sse->name, sizeof(sse->name), value);
    return 0; /* comments, retry and what is to come */
}

int sse_feed(struct sse *sse, const char *bytes, size_t length, struct error *err)
{
    const char *end = bytes + length;
    while (bytes < end) {
        if (sse->skip_newline && *bytes == '\n') {
            sse->skip_newline = 0;
            bytes++;
            continue;
        }
        sse->skip_newline = 0;
        const char *stop = bytes;
        while (stop < end && *stop != '\n' && *stop != '\r')
            stop++;
        if (append(&sse->line, &sse->line_length, &sse->line_room, bytes, (size_t)(stop - bytes),
                   err) < 0)
            return -1;
        if (stop == end)
            return 0;
        sse->skip_newline = *stop == '\r';
        bytes = stop + 1;
        int rc = take_line(sse, err);
        sse->line_length = 0;
        if (rc != 0)
            return rc;
    }
    return 0;
}

void sse_done(struct sse *sse)
{
    free(steal_ptr(&sse->line));
    free(steal_ptr(&sse->data));
}
