/* SPDX-License-Identifier: Apache-2.0 */
/* error.h - what went wrong, told once: the kinds of error and the struct that carries one.
 *
 * Fallible functions return 0 or -1 and take a `struct error *` last; NULL means "don't care".
 * One table gives the enum, the code on the wire, the HTTP status and the exit code. */
#pragma once

#include <stddef.h>

/* clang-format off */
/*     kind             code on the wire      HTTP exit */
#define ERROR_KINDS(X)                                                                             \
    X(NONE,            "none",               200, 0)                                               \
    X(INVALID,         "invalid_argument",   400, 2)                                               \
    X(UNAUTHENTICATED, "unauthenticated",    401, 5)                                               \
    X(FORBIDDEN,       "forbidden",          403, 5)                                               \
    X(NOT_FOUND,       "not_found",          404, 4)                                               \
    X(NOT_ALLOWED,     "method_not_allowed", 405, 2)                                               \
    X(CONFLICT,        "conflict",           409, 6)                                               \
    X(REJECTED,        "rejected",           409, 1)                                               \
    X(TOO_LARGE,       "too_large",          413, 2)                                               \
    X(INTERNAL,        "internal",           500, 6)                                               \
    X(UPSTREAM,        "bad_reply",          502, 6)                                               \
    X(BUSY,            "busy",               503, 6)                                               \
    X(UNREACHABLE,     "unreachable",        503, 3)                                               \
    X(TIMEOUT,         "timeout",            504, 6)                                               \
    X(FAILED,          "failed",             500, 6)
/* clang-format on */

enum error_kind {
#define X(kind, code, http, exit) ERROR_##kind,
    ERROR_KINDS(X)
#undef X
        ERROR_KIND_COUNT
};

#define ERROR_MESSAGE_BYTES 1024

struct error {
    enum error_kind kind;
    char message[ERROR_MESSAGE_BYTES]; /* one line, for a person; no trailing full stop */
};

/* Both set *err and return -1, so that `return error_set(...)` reads well.
 * error_wrap puts "context: " before the message that is there and keeps its kind.
 * error_errno appends strerror of the current errno and picks no kind by itself. */
int error_set(struct error *err, enum error_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int error_wrap(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
int error_errno(struct error *err, enum error_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

const char *error_code(enum error_kind kind); /* static string */
int error_http_status(enum error_kind kind);
int error_exit_code(enum error_kind kind);
/* The kind whose wire code this is; ERROR_INTERNAL when none has it. */
enum error_kind error_kind_from_code(const char *code);

/* For allocations of our own bounded sizes: abort with a line on stderr when memory is out. */
void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *p, size_t size);
char *xstrdup(const char *s); /* NULL gives NULL */
char *xstrndup(const char *s, size_t length);
char *xasprintf(const char *format, ...) __attribute__((format(printf, 1, 2)));
