/* SPDX-License-Identifier: Apache-2.0 */
/* http_reply.c - what handlers use to read requests and fill replies, without a socket. */
#include <stdlib.h>
#include <string.h>

#include "http.h"

const char *http_request_param(const struct http_request *req, const char *name)
{
    size_t length = strlen(name);
    for (size_t i = 0; i < HTTP_PARAMS_MAX && req->params[i].name; i++) {
        const char *have = req->params[i].name; /* "node" or "node}/report" */
        if (strncmp(have, name, length) == 0 && (have[length] == '}' || have[length] == '\0'))
            return req->params[i].value;
    }
    return "";
}

int http_request_query_u64(const struct http_request *req, const char *name, uint64_t least,
                           uint64_t most, uint64_t fallback, uint64_t *ret, struct error *err)
{
    const char *text = http_request_query(req, name);
    if (!text) {
        *ret = fallback;
        return 0;
    }
    size_t digits = strspn(text, "0123456789");
    unsigned long long value = 0;
    bool fits = digits > 0 && text[digits] == '\0' && digits <= 20;
    if (fits) {
        errno = 0;
        value = strtoull(text, NULL, 10);
        fits = errno == 0 && value >= least && value <= most;
    }
    if (!fits)
        return error_set(err, ERROR_INVALID, "%s: expected an integer %llu..%llu, not '%.40s'",
                         name, (unsigned long long)least, (unsigned long long)most, text);
    *ret = value;
    return 0;
}

int http_request_json(const struct http_request *req, json_object **ret, struct error *err)
{
    if (req->body_length == 0)
        return error_set(err, ERROR_INVALID, "the body is empty, expected a JSON object");
    autojson *object = NULL;
    if (json_parse(req->body, req->body_length, &object, err) < 0 ||
        json_check_object("body", object, err) < 0)
        return -1;
    *ret = steal_ptr(&object);
    return 0;
}

void http_reply_json(struct http_reply *reply, unsigned status, json_object *object)
{
    http_reply_text(reply, status, "application/json", json_text(object));
    json_object_put(object);
}

void http_reply_text(struct http_reply *reply, unsigned status, const char *content_type,
                     char *text)
{
    free(reply->body);
    reply->status = status;
    reply->content_type = content_type;
    reply->body = text;
    reply->body_length = text ? strlen(text) : 0;
}

json_object *http_error_json(const struct error *err)
{
    /* A message may quote what somebody sent, cut anywhere; what goes out is UTF-8. */
    char message[ERROR_MESSAGE_BYTES];
    memcpy(message, err->message, sizeof(message));
    if (!json_text_is_utf8(message, strlen(message)))
        for (char *p = message; *p; p++)
            *p = (unsigned char)*p < 0x80 ? *p : '?';
    json_object *inner = json_object_new_object();
    json_put_str(inner, "code", error_code(err->kind));
    json_put_str(inner, "message", message);
    json_object *outer = json_object_new_object();
    json_put(outer, "error", inner);
    return outer;
}
