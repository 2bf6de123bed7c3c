/* SPDX-License-Identifier: Apache-2.0 */
/* http_route.c - matching of paths, piece by piece. */
#include "http_route.h"

#include <stdio.h>
#include <string.h>

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool http_percent_decode(const char *from, size_t length, bool plus_is_space, char *to)
{
    for (size_t i = 0; i < length; i++) {
        char c = from[i];
        if (c == '%') {
            if (length - i < 3)
                return false;
            int high = hex_digit(from[i + 1]), low = hex_digit(from[i + 2]);
            if (high < 0 || low < 0 || (high == 0 && low == 0))
                return false;
            c = (char)(high << 4 | low);
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        *to++ = c;
    }
    *to = '\0';
    return true;
}

/* Whether `path` has the shape of `pattern`; tells where each parameter lies. */
static bool shape_matches(const char *pattern, const char *path,
                          const char *starts[HTTP_PARAMS_MAX], size_t lengths[HTTP_PARAMS_MAX],
                          size_t *ret_count)
{
    size_t count = 0;
    for (;;) {
        if (*pattern == '{') {
            size_t length = strcspn(path, "/");
            if (length == 0 || count == HTTP_PARAMS_MAX)
                return false;
            starts[count] = path;
            lengths[count++] = length;
            path += length;
            pattern = strchr(pattern, '}') + 1;
        } else if (*pattern != *path) {
            return false;
        } else if (*pattern == '\0') {
            *ret_count = count;
            return true;
        } else {
            pattern++;
            path++;
        }
    }
}

static enum http_match fill_params(const struct http_route *route, struct http_request *req,
                                   char *room, const char *const *starts, const size_t *lengths,
                                   size_t count)
{
    const char *pattern = route->path;
    for (size_t i = 0; i < count; i++) {
        if (!http_percent_decode(starts[i], lengths[i], false, room))
            return HTTP_MATCH_BAD_ESCAPE;
        pattern = strchr(pattern, '{') + 1;
        req->params[i].name = pattern; /* up to the brace; http_request_param knows */
        req->params[i].value = room;
        room += strlen(room) + 1;
    }
    return HTTP_MATCH_OK;
}

static void allow_add(char *allow, size_t allow_size, const char *method)
{
    size_t used = strlen(allow);
    const char *also = strcmp(method, "GET") == 0 ? ", HEAD" : "";
    snprintf(allow + used, allow_size - used, "%s%s%s", used ? ", " : "", method, also);
}

enum http_match http_route_find(const struct http_route *routes, const char *method,
                                const char *path, struct http_request *req, char *room,
                                const struct http_route **ret, char *allow, size_t allow_size)
{
    const char *wanted = strcmp(method, "HEAD") == 0 ? "GET" : method;
    const char *starts[HTTP_PARAMS_MAX];
    size_t lengths[HTTP_PARAMS_MAX], count = 0;
    allow[0] = '\0';
    for (const struct http_route *route = routes; route->method; route++) {
        if (!shape_matches(route->path, path, starts, lengths, &count))
            continue;
        if (strcmp(route->method, wanted) == 0) {
            *ret = route;
            return fill_params(route, req, room, starts, lengths, count);
        }
        allow_add(allow, allow_size, route->method);
    }
    return allow[0] ? HTTP_MATCH_NO_METHOD : HTTP_MATCH_NO_PATH;
}
