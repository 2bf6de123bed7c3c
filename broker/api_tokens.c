/* SPDX-License-Identifier: Apache-2.0 */
/* api_tokens.c - who may do what. */
#include <string.h>
#include <strings.h>

#include "api.h"
#include "digest.h"

#define NOTE_MAX_BYTES 200

#define BASIC_MAX_BYTES 512 /* user, colon, token */

static const char *after_scheme(const char *header, const char *scheme)
{
    size_t length = strlen(scheme);
    return header && strncasecmp(header, scheme, length) == 0 ? header + length : NULL;
}

/* kube-scheduler cannot send a bearer token, only user and password: the password is the token. */
static const char *basic_password(const char *base64, char *text, size_t size)
{
    if (!base64 || base64_text(base64, text, size) < 0)
        return NULL;
    const char *colon = strchr(text, ':');
    return colon ? colon + 1 : NULL;
}

static bool at_a_door(const struct http_request *req)
{
    return strncmp(req->path, DOOR_PREFIX, strlen(DOOR_PREFIX)) == 0;
}

int broker_authenticate(struct http_request *req, struct http_principal *principal,
                        struct error *err)
{
    const char *header = http_request_header(req, "Authorization");
    char sha256[65], basic[BASIC_MAX_BYTES];
    const char *secret = after_scheme(header, "Bearer ");
    if (!secret && at_a_door(req)) {
        secret = basic_password(after_scheme(header, "Basic "), basic, sizeof(basic));
        if (!secret && req->tls_client_verified) {
            principal->roles = ROLE_WEBHOOK;
            snprintf(principal->name, sizeof(principal->name), "client-certificate");
            return 0;
        }
    }
    if (!secret)
        return error_set(err, ERROR_UNAUTHENTICATED,
                         "no bearer token; give one with --token-file (the first is in "
                         "operator.token in the broker's state folder)");
    sha256_hex(secret, strlen(secret), sha256);
    struct model *model = ((struct broker *)req->ctx)->model;
    model_read_lock(model);
    const struct token *token = model_token(model, sha256);
    if (token) {
        principal->roles = token->role;
        snprintf(principal->name, sizeof(principal->name), "%s", token->id);
        snprintf(principal->node, sizeof(principal->node), "%s", token->node ? token->node : "");
    }
    model_unlock(model);
    return token ? 0
                 : error_set(err, ERROR_UNAUTHENTICATED,
                             "this token is not known to the broker, or was removed");
}

static json_object *token_json(const struct token *token)
{
    json_object *o = json_object_new_object();
    json_put_str(o, "id", token->id);
    json_put_str(o, "role", role_name(token->role));
    json_put_str(o, "node", token->node);
    json_put_str(o, "note", token->note);
    json_put_int(o, "created_at_ms", token->created_at_ms);
    return o;
}

int api_tokens_list(struct http_request *req, struct http_reply *reply, struct error *err)
{
    (void)err;
    struct model *model = api_broker(req)->model;
    json_object *list = json_object_new_array();
    struct token *token = NULL;
    model_read_lock(model);
    SORTED_EACH(&model->tokens, token)
    json_object_array_add(list, token_json(token));
    model_unlock(model);
    json_object *o = json_object_new_object();
    json_put(o, "tokens", list);
    http_reply_json(reply, 200, o);
    return 0;
}

struct token_request {
    enum role role;
    const char *node, *note;
};

static int decode(json_object *json, struct token_request *ret, struct error *err)
{
    const char *role = NULL;
    if (json_get_str("token", json, "role", &role, err) < 0 ||
        json_opt_str("token", json, "node", &ret->node, err) < 0 ||
        json_opt_str("token", json, "note", &ret->note, err) < 0)
        return -1;
    if (role_from_name(role, &ret->role) < 0)
        return error_set(err, ERROR_INVALID,
                         "token: role: expected viewer, operator, agent or webhook, not '%.40s'",
                         role);
    if (ret->node && ret->role != ROLE_AGENT)
        return error_set(err, ERROR_INVALID, "token: node: only an agent's token has one");
    if (ret->node && name_check("node", ret->node, err) < 0)
        return error_wrap(err, "token: node");
    if (ret->note && strlen(ret->note) > NOTE_MAX_BYTES)
        return error_set(err, ERROR_INVALID, "token: note: at most %d bytes are taken",
                         NOTE_MAX_BYTES);
    return 0;
}

int api_token_create(struct http_request *req, struct http_reply *reply, struct error *err)
{
    struct model *model = api_broker(req)->model;
    autojson *json = NULL;
    struct token_request request = {0};
    char secret[SECRET_HEX_BYTES], id[64];
    secret_new(secret);
    if (http_request_json(req, &json, err) < 0 || decode(json, &request, err) < 0 ||
        model_token_create(model, request.role, request.node, request.note, secret, id, err) < 0)
        return -1;
    json_object *o = NULL;
    struct token *token = NULL;
    model_read_lock(model);
    SORTED_EACH(&model->tokens, token)
    if (strcmp(token->id, id) == 0)
        o = token_json(token);
    model_unlock(model);
    if (!o)
        return error_set(err, ERROR_CONFLICT, "the token was removed again at once");
    json_put_str(o, "token", secret);
    http_reply_json(reply, 201, o);
    explicit_bzero(secret, sizeof(secret));
    return 0;
}

int api_token_delete(struct http_request *req, struct http_reply *reply, struct error *err)
{
    if (model_token_delete(api_broker(req)->model, http_request_param(req, "id"), err) < 0)
        return -1;
    reply->status = 204;
    return 0;
}
