/* SPDX-License-Identifier: Apache-2.0 */
/* http_route.h - which route a method and a path mean; http.c's own. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "http.h"

enum http_match { HTTP_MATCH_OK, HTTP_MATCH_NO_PATH, HTTP_MATCH_NO_METHOD, HTTP_MATCH_BAD_ESCAPE };

/* Finds the route for a raw (still percent-encoded) path and fills req->params, whose values
 * point into `room` (at least strlen(path) + 1 bytes; kept as long as the params are used). HEAD
 * matches GET. For NO_METHOD `allow` gets the methods that the path has: "GET, HEAD, PUT". */
enum http_match http_route_find(const struct http_route *routes, const char *method,
                                const char *path, struct http_request *req, char *room,
                                const struct http_route **ret, char *allow, size_t allow_size);
/* Decodes `length` bytes into `to` (NUL-terminated, length + 1 bytes of room). false: a broken
 * escape, or an encoded NUL. */
bool http_percent_decode(const char *from, size_t length, bool plus_is_space, char *to);
