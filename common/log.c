/* SPDX-License-Identifier: Apache-2.0 */
/* log.c - logfmt lines, written with one write(2) each so that threads do not mix. */
#include "log.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"

static const char *const level_names[] = {
#define X(level, name) name,
    LOG_LEVELS(X)
#undef X
};

static enum log_level lowest_level = LOG_INFO;

void log_set_level(enum log_level level)
{
    lowest_level = level;
}

int log_level_from_name(const char *name, enum log_level *ret)
{
    for (unsigned i = 0; i < ARRAY_LEN(level_names); i++)
        if (strcmp(name, level_names[i]) == 0) {
            *ret = (enum log_level)i;
            return 0;
        }
    return -1;
}

struct line {
    char text[4096];
    size_t used;
};

static void put(struct line *line, const char *text, size_t length)
{
    size_t room = sizeof(line->text) - 2 - line->used; /* the newline stays */
    if (length > room)
        length = room;
    memcpy(line->text + line->used, text, length);
    line->used += length;
}

static bool plain(const char *text)
{
    if (!*text)
        return false;
    for (const char *p = text; *p; p++)
        if ((unsigned char)*p <= ' ' || *p == '"' || *p == '=' || *p == '\\' || *p == 0x7f)
            return false;
    return true;
}

static void put_value(struct line *line, const char *text)
{
    if (plain(text)) {
        put(line, text, strlen(text));
        return;
    }
    put(line, "\"", 1);
    for (const char *p = text; *p; p++) {
        unsigned char c = (unsigned char)*p;
        if (c == '"' || c == '\\') {
            put(line, "\\", 1);
            put(line, p, 1);
        } else if (c == '\n') {
            put(line, "\\n", 2);
        } else if (c < ' ' || c == 0x7f) {
            char escaped[8];
            snprintf(escaped, sizeof(escaped), "\\x%02x", c);
            put(line, escaped, strlen(escaped));
        } else {
            put(line, p, 1);
        }
    }
    put(line, "\"", 1);
}

void log_write(enum log_level level, const char *message, const struct log_field *fields)
{
    if (level < lowest_level)
        return;
    struct line line = {.used = 0};
    put(&line, "level=", 6);
    put(&line, level_names[level], strlen(level_names[level]));
    put(&line, " msg=", 5);
    put_value(&line, message);
    for (const struct log_field *f = fields; f->key; f++) {
        put(&line, " ", 1);
        put(&line, f->key, strlen(f->key));
        put(&line, "=", 1);
        if (f->type == LOG_FIELD_INT) {
            char number[32];
            int n = snprintf(number, sizeof(number), "%lld", (long long)f->integer);
            put(&line, number, (size_t)n);
        } else {
            put_value(&line, f->str ? f->str : "");
        }
    }
    line.text[line.used++] = '\n';
    int saved_errno = errno;
    ssize_t written = write(STDERR_FILENO, line.text, line.used);
    (void)written; /* nobody is left to tell */
    errno = saved_errno;
}
