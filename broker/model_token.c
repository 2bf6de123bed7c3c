/* SPDX-License-Identifier: Apache-2.0 */
/* model_token.c - tokens: made, bound to a node, removed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "digest.h"
#include "log.h"
#include "model_internal.h"

int model_token_create(struct model *model, enum role role, const char *node, const char *note,
                       const char *secret, char ret_id[64], struct error *err)
{
    WRITER(model);
    char sha256[65], id[17];
    sha256_hex(secret, strlen(secret), sha256);
    random_hex(8, id);
    snprintf(ret_id, 64, "t-%s", id);
    const struct store_token row = {sha256, ret_id, role_name(role),
                                    node,   note,   clock_unix_ms(model->clock)};
    if (store_token_add(model->store, &row, err) < 0)
        return -1;
    struct token *token = xcalloc(1, sizeof(*token));
    token->sha256 = xstrdup(sha256);
    token->id = xstrdup(ret_id);
    token->role = role;
    token->node = xstrdup(node);
    token->note = xstrdup(note);
    token->created_at_ms = row.created_at_ms;
    model_write_lock(model);
    sorted_add(&model->tokens, token);
    model_unlock(model);
    log_info("a token was made", LOG_STR("token", ret_id), LOG_STR("role", row.role),
             LOG_STR("node", node));
    return 0;
}

static struct token *by_id(struct model *model, const char *id)
{
    struct token *token = NULL;
    SORTED_EACH(&model->tokens, token)
    if (strcmp(token->id, id) == 0)
        return token;
    return NULL;
}

static size_t count_operators(struct model *model)
{
    size_t count = 0;
    struct token *token = NULL;
    SORTED_EACH(&model->tokens, token)
    count += token->role == ROLE_OPERATOR;
    return count;
}

bool model_has_operator(struct model *model)
{
    return count_operators(model) > 0;
}

int model_token_delete(struct model *model, const char *id, struct error *err)
{
    WRITER(model);
    struct token *token = by_id(model, id);
    if (!token)
        return error_set(err, ERROR_NOT_FOUND, "no token '%s'; `cpubroker token list` lists them",
                         id);
    if (token->role == ROLE_OPERATOR && count_operators(model) == 1)
        return error_set(err, ERROR_CONFLICT,
                         "token '%s' is the last operator's: without it nobody could make "
                         "another; make one first",
                         id);
    if (store_token_delete(model->store, token->sha256, err) < 0)
        return -1;
    model_write_lock(model);
    sorted_remove(&model->tokens, token);
    model_unlock(model);
    log_info("a token was removed", LOG_STR("token", id));
    token_free(token);
    return 0;
}

static struct token *other_agent_of(struct model *model, const char *node)
{
    struct token *token = NULL;
    SORTED_EACH(&model->tokens, token)
    if (token->role == ROLE_AGENT && same_text(token->node, node))
        return token;
    return NULL;
}

int model_token_bind_locked(struct model *model, const char *id, const char *node,
                            struct error *err)
{
    struct token *token = by_id(model, id);
    if (!token)
        return error_set(err, ERROR_UNAUTHENTICATED, "the token is gone");
    if (token->node)
        return strcmp(token->node, node) == 0
                   ? 0
                   : error_set(err, ERROR_FORBIDDEN, "this token is bound to node '%s', not '%s'",
                               token->node, node);
    struct token *other = other_agent_of(model, node);
    if (other)
        return error_set(err, ERROR_FORBIDDEN,
                         "node '%s' belongs to token '%s'; make one for it with "
                         "`cpubroker token "
                         "create --role agent --node %s`",
                         node, other->id, node);
    if (store_token_bind(model->store, token->sha256, node, err) < 0)
        return -1;
    model_write_lock(model);
    token->node = xstrdup(node);
    model_unlock(model);
    log_info("an agent's token was bound", LOG_STR("token", id), LOG_STR("node", node));
    return 0;
}
