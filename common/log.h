/* SPDX-License-Identifier: Apache-2.0 */
/* log.h - one event, one line, on stderr: level=warn msg="heartbeat late" node=n7 late_ms=5200
 *
 * Values from outside are quoted and escaped; secrets never come here. Safe from any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct error;

#define LOG_LEVELS(X) X(DEBUG, "debug") X(INFO, "info") X(WARN, "warn") X(ERROR, "error")

enum log_level {
#define X(level, name) LOG_##level,
    LOG_LEVELS(X)
#undef X
        LOG_LEVEL_COUNT
};

/* The lowest level that is written; LOG_INFO at start. Set before threads start. */
void log_set_level(enum log_level level);
/* -1 when there is no such level. */
int log_level_from_name(const char *name, enum log_level *ret);

struct log_field {
    const char *key;
    enum { LOG_FIELD_STR, LOG_FIELD_INT } type;
    const char *str;
    int64_t integer;
};

#define LOG_STR(k, v) ((struct log_field){.key = (k), .type = LOG_FIELD_STR, .str = (v)})
#define LOG_INT(k, v) ((struct log_field){.key = (k), .type = LOG_FIELD_INT, .integer = (v)})

void log_write(enum log_level level, const char *message, const struct log_field *fields);

/* log_info("node registered", LOG_STR("node", name), LOG_INT("cpus", n)); */
#define log_at(level, message, ...) \
    log_write((level), (message), (const struct log_field[]){__VA_ARGS__ __VA_OPT__(, ){0}})
#define log_debug(message, ...) log_at(LOG_DEBUG, message __VA_OPT__(, ) __VA_ARGS__)
#define log_info(message, ...)  log_at(LOG_INFO, message __VA_OPT__(, ) __VA_ARGS__)
#define log_warn(message, ...)  log_at(LOG_WARN, message __VA_OPT__(, ) __VA_ARGS__)
#define log_error(message, ...) log_at(LOG_ERROR, message __VA_OPT__(, ) __VA_ARGS__)
