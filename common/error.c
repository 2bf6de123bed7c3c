/* SPDX-License-Identifier: Apache-2.0 */
/* error.c - the error table, and allocation that does not fail. */
#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *code;
    int http_status;
    int exit_code;
} kinds[] = {
#define X(kind, code, http, exit) {code, http, exit},
    ERROR_KINDS(X)
#undef X
};

__attribute__((format(printf, 3, 0))) static int set_message(struct error *err,
                                                             enum error_kind kind,
                                                             const char *format, va_list ap)
{
    if (!err)
        return -1;
    err->kind = kind;
    vsnprintf(err->message, sizeof(err->message), format, ap);
    return -1;
}

int error_set(struct error *err, enum error_kind kind, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    set_message(err, kind, format, ap);
    va_end(ap);
    return -1;
}

int error_wrap(struct error *err, const char *format, ...)
{
    if (!err)
        return -1;
    struct error inner = *err;
    va_list ap;
    va_start(ap, format);
    set_message(err, inner.kind, format, ap);
    va_end(ap);
    size_t used = strlen(err->message);
    snprintf(err->message + used, sizeof(err->message) - used, ": %s", inner.message);
    return -1;
}

int error_errno(struct error *err, enum error_kind kind, const char *format, ...)
{
    if (!err)
        return -1;
    int saved_errno = errno;
    va_list ap;
    va_start(ap, format);
    set_message(err, kind, format, ap);
    va_end(ap);
    size_t used = strlen(err->message);
    char text[128];
    snprintf(err->message + used, sizeof(err->message) - used, ": %s",
             strerror_r(saved_errno, text, sizeof(text)));
    errno = saved_errno;
    return -1;
}

const char *error_code(enum error_kind kind)
{
    return (unsigned)kind < ERROR_KIND_COUNT ? kinds[kind].code : "internal";
}

int error_http_status(enum error_kind kind)
{
    return (unsigned)kind < ERROR_KIND_COUNT ? kinds[kind].http_status : 500;
}

int error_exit_code(enum error_kind kind)
{
    return (unsigned)kind < ERROR_KIND_COUNT ? kinds[kind].exit_code : 6;
}

enum error_kind error_kind_from_code(const char *code)
{
    for (unsigned i = 0; code && i < ERROR_KIND_COUNT; i++)
        if (strcmp(code, kinds[i].code) == 0)
            return (enum error_kind)i;
    return ERROR_INTERNAL;
}

static void *or_abort(void *p)
{
    if (!p) {
        fputs("out of memory\n", stderr);
        abort();
    }
    return p;
}

void *xmalloc(size_t size)
{
    return or_abort(malloc(size ? size : 1));
}

void *xcalloc(size_t count, size_t size)
{
    return or_abort(calloc(count ? count : 1, size ? size : 1));
}

void *xrealloc(void *p, size_t size)
{
    return or_abort(realloc(p, size ? size : 1));
}

char *xstrdup(const char *s)
{
    return s ? or_abort(strdup(s)) : NULL;
}

char *xstrndup(const char *s, size_t length)
{
    return or_abort(strndup(s, length));
}

char *xasprintf(const char *format, ...)
{
    char *text = NULL;
    va_list ap;
    va_start(ap, format);
    int n = vasprintf(&text, format, ap);
    va_end(ap);
    if (n < 0)
        or_abort(NULL);
    return text;
}
