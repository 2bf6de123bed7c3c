/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_webhooks.c - `cpubroker webhooks`: who is told of events. */
#include <stdio.h>
#include <string.h>

#include "client.h"
#include "cmd.h"
#include "table.h"

#define SECRET_FILE_MAX 1024

int cmd_webhooks(const struct cli_args *args, struct error *err)
{
    static const char *const titles[] = {"ID", "URL", "EVENTS", "PENDING", "DEAD", NULL};
    autojson *reply = NULL;
    bool rejected = false, printed = false;
    if (cmd_call(args, "GET", "/v1/webhooks", NULL, &reply, &rejected, err) < 0 ||
        cmd_print_json(args, reply, &printed, err) < 0)
        return -1;
    json_object *webhooks = json_member(reply, "webhooks");
    AUTO(table) table = table_new(titles);
    for (size_t i = 0; i < json_array_size(webhooks); i++) {
        json_object *webhook = json_array_item(webhooks, i);
        json_object *events = json_member(webhook, "events");
        autofree char *kinds = xstrdup(events ? "" : "all");
        for (size_t k = 0; k < json_array_size(events); k++) {
            char *longer = xasprintf("%s%s%s", kinds, k ? "," : "", json_item_str(events, k));
            free(kinds);
            kinds = longer;
        }
        table_cell(table, json_str(webhook, "id"));
        table_cell(table, json_str(webhook, "url"));
        table_cell(table, kinds);
        table_cell_int(table, json_int(webhook, "pending"));
        table_cell_int(table, json_int(webhook, "dead"));
    }
    if (!printed)
        table_print(table, stdout);
    return 0;
}

/* The first line of a file: a command line is no place for a secret. */
static int read_secret(const char *path, char secret[SECRET_FILE_MAX], struct error *err)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return error_errno(err, ERROR_INVALID, "cannot read '%s'", path);
    bool read = fgets(secret, SECRET_FILE_MAX, file) != NULL;
    fclose(file);
    if (!read)
        return error_set(err, ERROR_INVALID, "'%s' holds no secret", path);
    secret[strcspn(secret, "\r\n")] = '\0';
    return 0;
}

static json_object *split_names(const char *text)
{
    json_object *names = json_object_new_array();
    for (const char *p = text; *p; p += *p == ',') {
        size_t length = strcspn(p, ",");
        json_object_array_add(names, json_object_new_string_len(p, (int)length));
        p += length;
    }
    return names;
}

int cmd_webhooks_create(const struct cli_args *args, struct error *err)
{
    autojson *body = json_object_new_object(), *reply = NULL;
    const char *file = cli_value(args, "secret-file", NULL);
    const char *events = cli_value(args, "events", NULL);
    char secret[SECRET_FILE_MAX] = "";
    bool rejected = false, printed = false;
    if (file && read_secret(file, secret, err) < 0)
        return -1;
    json_put_str(body, "url", args->rest[0]);
    json_put_str(body, "secret", file ? secret : NULL);
    explicit_bzero(secret, sizeof(secret));
    json_put(body, "events", events ? split_names(events) : NULL);
    if (cmd_call(args, "POST", "/v1/webhooks", body, &reply, &rejected, err) < 0 ||
        cmd_print_json(args, reply, &printed, err) < 0)
        return -1;
    if (printed)
        return 0;
    cmd_print_line("id", json_str(reply, "id"));
    if (!file)
        cmd_print_line("secret", json_str(reply, "secret"));
    return 0;
}

int cmd_webhooks_delete(const struct cli_args *args, struct error *err)
{
    autofree char *path = cmd_path("/v1/webhooks/", args->rest[0], "");
    return cmd_change(args, "DELETE", path, NULL, err, "webhook '%s' is told nothing any more",
                      args->rest[0]);
}

int cmd_webhooks_deliveries(const struct cli_args *args, struct error *err)
{
    static const char *const titles[] = {"ID", "EVENT", "STATE", "TRIES", "MADE", "PROBLEM", NULL};
    autojson *reply = NULL;
    const char *state = cli_value(args, "state", NULL);
    autofree char *escaped = state ? client_escape(state) : NULL;
    autofree char *begin = cmd_path("/v1/webhooks/", args->rest[0], "/deliveries");
    autofree char *path =
        xasprintf("%s%s%s", begin, escaped ? "?state=" : "", escaped ? escaped : "");
    bool rejected = false, printed = false;
    if (cmd_call(args, "GET", path, NULL, &reply, &rejected, err) < 0 ||
        cmd_print_json(args, reply, &printed, err) < 0)
        return -1;
    json_object *deliveries = json_member(reply, "deliveries");
    AUTO(table) table = table_new(titles);
    for (size_t i = 0; i < json_array_size(deliveries); i++) {
        json_object *delivery = json_array_item(deliveries, i);
        char age[32];
        cmd_age(json_int(delivery, "created_at_ms"), age);
        table_cell_int(table, json_int(delivery, "id"));
        table_cell(table, json_str(delivery, "event"));
        table_cell(table, json_str(delivery, "state"));
        table_cell_int(table, json_int(delivery, "tries"));
        table_cell(table, age);
        table_cell(table, json_str(delivery, "problem"));
    }
    if (!printed)
        table_print(table, stdout);
    return 0;
}
