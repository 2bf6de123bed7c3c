/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_workloads.c - `cpubroker workloads` and `cpubroker check`. */
#include <stdio.h>
#include <string.h>

#include "cmd.h"
#include "table.h"

static void command_text(json_object *command, char *text, size_t size)
{
    size_t used = 0;
    *text = '\0';
    for (size_t i = 0; i < json_array_size(command) && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%s", i ? " " : "",
                                 json_item_str(command, i));
}

int cmd_workloads(const struct cli_args *args, struct error *err)
{
    static const char *const titles[] = {"NAME", "POOL",      "NODE",    "STATE", "PID",
                                         "EXIT", "MIGRATION", "COMMAND", NULL};
    autojson *reply = NULL;
    bool rejected = false, printed = false;
    if (cmd_call(args, "GET", "/v1/workloads", NULL, &reply, &rejected, err) < 0 ||
        cmd_print_json(args, reply, &printed, err) < 0)
        return -1;
    json_object *workloads = json_member(reply, "workloads");
    AUTO(table) table = table_new(titles);
    for (size_t i = 0; i < json_array_size(workloads); i++) {
        json_object *w = json_array_item(workloads, i);
        char command[128];
        command_text(json_member(w, "command"), command, sizeof(command));
        table_cell(table, json_str(w, "name"));
        table_cell(table, json_str(w, "pool"));
        table_cell(table, json_str(w, "node"));
        table_cell(table, json_str(w, "state"));
        if (json_member(w, "pid"))
            table_cell_int(table, json_int(w, "pid"));
        else
            table_cell(table, NULL);
        if (json_member(w, "exit_status"))
            table_cell_int(table, json_int(w, "exit_status"));
        else
            table_cell(table, NULL);
        table_cell(table, json_str(w, "migration"));
        table_cell(table, command);
    }
    if (!printed)
        table_print(table, stdout);
    return 0;
}

int cmd_workloads_show(const struct cli_args *args, struct error *err)
{
    autojson *w = NULL;
    autofree char *path = cmd_path("/v1/workloads/", args->rest[0], "");
    bool rejected = false, printed = false;
    if (cmd_call(args, "GET", path, NULL, &w, &rejected, err) < 0 ||
        cmd_print_json(args, w, &printed, err) < 0)
        return -1;
    if (printed)
        return 0;
    json_object *seen = json_member(w, "seen");
    char command[512], age[32];
    command_text(json_member(w, "command"), command, sizeof(command));
    printf("%s: %s on node '%s', pool '%s'\n", json_str(w, "name"), json_str(w, "state"),
           json_str(w, "node"), json_str(w, "pool"));
    cmd_print_line("command", command);
    cmd_print_line("folder", json_str(w, "dir"));
    if (*json_str(w, "migration"))
        cmd_print_line("migration", json_str(w, "migration"));
    puts("what it was exposed to (it may use every feature of these CPUs):");
    for (size_t i = 0; i < json_array_size(seen); i++) {
        json_object *line = json_array_item(seen, i);
        cmd_age(json_int(line, "since_at_ms"), age);
        printf("  %s %-20s since %-12s report %.12s\n", i ? "moved to" : "born on ",
               json_str(line, "node"), age, json_str(line, "report_sha256"));
    }
    return 0;
}

int cmd_check(const struct cli_args *args, struct error *err)
{
    autojson *body = json_object_new_object(), *reply = NULL;
    const char *from = cli_value(args, "from", NULL), *workload = cli_value(args, "workload", NULL);
    const char *to = cli_value(args, "to", NULL);
    bool rejected = false, printed = false;
    if (!to || !from == !workload)
        return error_set(err, ERROR_INVALID,
                         "expected --to NODE and either --from NODE or --workload NAME");
    json_put_str(body, from ? "from" : "workload", from ? from : workload);
    json_put_str(body, "to", to);
    if (cmd_call(args, "POST", "/v1/check", body, &reply, &rejected, err) < 0 ||
        cmd_print_json(args, reply, &printed, err) < 0)
        return -1;
    if (!printed)
        cmd_print_verdict(reply);
    return strcmp(json_str(reply, "verdict"), "approve") == 0 ? 0 : cmd_rejected(err);
}
