/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_events.c - `cpubroker events`: what happened to the fleet. */
#include <stdio.h>

#include "client.h"
#include "cmd.h"
#include "table.h"

int cmd_events(const struct cli_args *args, struct error *err)
{
    static const char *const titles[] = {"SEQ",  "WHEN",     "EVENT",   "NODE",
                                         "POOL", "WORKLOAD", "SUMMARY", NULL};
    const char *after = cli_value(args, "after", NULL);
    autojson *reply = NULL;
    autofree char *limit = client_escape(cli_value(args, "limit", "100"));
    autofree char *behind = after ? client_escape(after) : NULL;
    autofree char *path =
        xasprintf("/v1/events?limit=%s%s%s", limit, behind ? "&after=" : "", behind ? behind : "");
    bool rejected = false, printed = false;
    if (cmd_call(args, "GET", path, NULL, &reply, &rejected, err) < 0 ||
        cmd_print_json(args, reply, &printed, err) < 0)
        return -1;
    json_object *events = json_member(reply, "events");
    AUTO(table) table = table_new(titles);
    for (size_t i = 0; i < json_array_size(events); i++) {
        json_object *event = json_array_item(events, i);
        char age[32];
        cmd_age(json_int(event, "at_ms"), age);
        table_cell_int(table, json_int(event, "seq"));
        table_cell(table, age);
        table_cell(table, json_str(event, "kind"));
        table_cell(table, json_str(event, "node"));
        table_cell(table, json_str(event, "pool"));
        table_cell(table, json_str(event, "workload"));
        table_cell(table, json_str(json_member(event, "detail"), "summary"));
    }
    if (!printed)
        table_print(table, stdout);
    return 0;
}
