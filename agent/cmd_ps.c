/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_ps.c - `cpuagent ps`: lists the workloads of this node. */
#include <stdio.h>

#include "client.h"
#include "cmd.h"

/* "detour@7", with "!" where something is not covered; `-o json` tells what. */
static void describe_mask(json_object *mask, char *ret, size_t size)
{
    json_object *lacks = json_member(mask, "lacks");
    bool lacking = json_object_is_type(lacks, json_type_object) && json_object_object_length(lacks);
    if (mask)
        snprintf(ret, size, "%s@%lld%s", json_str(mask, "grade"),
                 (long long)json_int(mask, "epoch"), lacking ? "!" : "");
    else
        snprintf(ret, size, "off");
}

static void print_row(json_object *workload)
{
    json_object *command = json_member(workload, "command");
    char pid[32] = "-", status[32] = "-";
    if (json_member(workload, "pid"))
        snprintf(pid, sizeof(pid), "%lld", (long long)json_int(workload, "pid"));
    if (json_member(workload, "exit_status"))
        snprintf(status, sizeof(status), "%lld", (long long)json_int(workload, "exit_status"));
    const char *migration = json_str(workload, "migration");
    char mask[48];
    describe_mask(json_member(workload, "mask"), mask, sizeof(mask));
    printf("%-20s %-12s %-9s %8s %5s %-14s %-20s", json_str(workload, "name"),
           json_str(workload, "pool"), json_str(workload, "state"), pid, status, mask,
           *migration ? migration : "-");
    for (size_t i = 0; i < json_array_size(command); i++) {
        putchar(' ');
        cli_print_plain(json_item_str(command, i));
    }
    putchar('\n');
}

int cmd_ps(const struct cli_args *args, struct error *err)
{
    AUTO(client) client = NULL;
    autojson *reply = NULL;
    bool as_json = false;
    if (cli_output(args, &as_json, err) < 0 || cmd_local_client(args, &client, err) < 0 ||
        client_request(client, "GET", "/v1/workloads", NULL, &reply, err) < 0)
        return -1;
    if (as_json) {
        autofree char *text = json_text_pretty(reply);
        puts(text);
        return 0;
    }
    json_object *workloads = json_member(reply, "workloads");
    printf("%-20s %-12s %-9s %8s %5s %-14s %-20s %s\n", "NAME", "POOL", "STATE", "PID", "EXIT",
           "MASK", "MIGRATION", "COMMAND");
    for (size_t i = 0; i < json_array_size(workloads); i++)
        print_row(json_array_item(workloads, i));
    return 0;
}
