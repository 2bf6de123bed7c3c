/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_token.c - `cpubroker token`: who may ask. */
#include <stdio.h>

#include "cmd.h"
#include "table.h"

int cmd_token_create(const struct cli_args *args, struct error *err)
{
    autojson *body = json_object_new_object(), *reply = NULL;
    const char *role = cli_value(args, "role", NULL);
    bool rejected = false, printed = false;
    if (!role)
        return error_set(err, ERROR_INVALID, "--role is needed: agent, operator or viewer");
    json_put_str(body, "role", role);
    json_put_str(body, "node", cli_value(args, "node", NULL));
    json_put_str(body, "note", cli_value(args, "note", NULL));
    if (cmd_call(args, "POST", "/v1/tokens", body, &reply, &rejected, err) < 0 ||
        cmd_print_json(args, reply, &printed, err) < 0)
        return -1;
    if (!printed) /* alone on stdout, so that a redirection makes the token file */
        puts(json_str(reply, "token"));
    return 0;
}

int cmd_token_list(const struct cli_args *args, struct error *err)
{
    static const char *const titles[] = {"ID", "ROLE", "NODE", "MADE", "NOTE", NULL};
    autojson *reply = NULL;
    bool rejected = false, printed = false;
    if (cmd_call(args, "GET", "/v1/tokens", NULL, &reply, &rejected, err) < 0 ||
        cmd_print_json(args, reply, &printed, err) < 0)
        return -1;
    json_object *tokens = json_member(reply, "tokens");
    AUTO(table) table = table_new(titles);
    for (size_t i = 0; i < json_array_size(tokens); i++) {
        json_object *token = json_array_item(tokens, i);
        char age[32];
        cmd_age(json_int(token, "created_at_ms"), age);
        table_cell(table, json_str(token, "id"));
        table_cell(table, json_str(token, "role"));
        table_cell(table, json_str(token, "node"));
        table_cell(table, age);
        table_cell(table, json_str(token, "note"));
    }
    if (!printed)
        table_print(table, stdout);
    return 0;
}

int cmd_token_delete(const struct cli_args *args, struct error *err)
{
    autofree char *path = cmd_path("/v1/tokens/", args->rest[0], "");
    return cmd_change(args, "DELETE", path, NULL, err, "token '%s' opens nothing any more",
                      args->rest[0]);
}
