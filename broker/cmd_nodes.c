/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_nodes.c - `cpubroker nodes`: the fleet. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "cmd.h"
#include "cpu_import.h"
#include "table.h"

static void joined(json_object *names, char *text, size_t size)
{
    size_t used = 0;
    *text = '\0';
    for (size_t i = 0; i < json_array_size(names) && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%s", i ? "," : "",
                                 json_item_str(names, i));
}

int cmd_nodes(const struct cli_args *args, struct error *err)
{
    static const char *const titles[] = {"NAME",  "STATUS",    "SEEN", "LEVEL", "VENDOR",
                                         "POOLS", "WORKLOADS", "CPU",  NULL};
    autojson *reply = NULL;
    bool rejected = false, printed = false;
    if (cmd_call(args, "GET", "/v1/nodes", NULL, &reply, &rejected, err) < 0 ||
        cmd_print_json(args, reply, &printed, err) < 0)
        return -1;
    json_object *nodes = json_member(reply, "nodes");
    AUTO(table) table = table_new(titles);
    for (size_t i = 0; i < json_array_size(nodes); i++) {
        json_object *node = json_array_item(nodes, i);
        char age[32], pools[256];
        cmd_age(json_int(node, "seen_at_ms"), age);
        joined(json_member(node, "pools"), pools, sizeof(pools));
        table_cell(table, json_str(node, "name"));
        table_cell(table, json_str(node, "status"));
        table_cell(table, strcmp(json_str(node, "kind"), "imported") == 0 ? "" : age);
        table_cell(table, json_str(node, "level"));
        table_cell(table, json_str(node, "vendor"));
        table_cell(table, pools);
        table_cell_int(table, json_int(node, "workloads"));
        table_cell(table, json_str(node, "brand"));
    }
    if (!printed)
        table_print(table, stdout);
    return 0;
}

int cmd_nodes_show(const struct cli_args *args, struct error *err)
{
    autojson *node = NULL;
    autofree char *path = cmd_path("/v1/nodes/", args->rest[0], "");
    bool rejected = false, printed = false;
    if (cmd_call(args, "GET", path, NULL, &node, &rejected, err) < 0 ||
        cmd_print_json(args, node, &printed, err) < 0)
        return -1;
    if (printed)
        return 0;
    char age[32];
    cmd_age(json_int(node, "seen_at_ms"), age);
    printf("%s: %s, %s, last heard of %s\n", json_str(node, "name"), json_str(node, "kind"),
           json_str(node, "status"), age);
    cmd_print_line("cpu", json_str(node, "brand"));
    cmd_print_line("vendor", json_str(node, "vendor"));
    cmd_print_line("level", json_str(node, "level"));
    cmd_print_line("kernel", json_str(node, "kernel"));
    cmd_print_line("images to", json_str(node, "image_address"));
    printf("%-10s", "pools");
    cmd_print_names("          ", json_member(node, "pools"));
    printf("%-10s", "features");
    cmd_print_names("          ", json_member(node, "features"));
    return 0;
}

int cmd_read_report(const char *path, const char *name, json_object **ret, struct error *err)
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    if (!file)
        return error_errno(err, ERROR_INVALID, "cannot read '%s'", path);
    autofree char *text = xmalloc(CPU_IMPORT_MAX_BYTES + 1);
    size_t length = fread(text, 1, CPU_IMPORT_MAX_BYTES + 1, file);
    if (file != stdin)
        fclose(file);
    if (length > CPU_IMPORT_MAX_BYTES)
        return error_set(err, ERROR_TOO_LARGE, "'%s' is larger than %lu bytes", path,
                         CPU_IMPORT_MAX_BYTES);
    if (cpu_import_looks_like_cpuid(text, length)) {
        AUTO(cpu_report) report = NULL;
        if (cpu_import_cpuid(name, text, length, &report, err) < 0)
            return error_wrap(err, "'%s', read as the text of `cpuid -r`", path);
        *ret = cpu_report_to_json(report);
        return 0;
    }
    autojson *json = NULL;
    if (json_parse(text, length, &json, err) < 0 || json_check_object("report", json, err) < 0)
        return error_wrap(err, "'%s'", path);
    /* A report names the node it was made on; here it stands for `name`. */
    json_put_str(json, "node", name);
    *ret = steal_ptr(&json);
    return 0;
}

int cmd_nodes_import(const struct cli_args *args, struct error *err)
{
    autojson *report = NULL, *reply = NULL, *joined_reply = NULL;
    const char *name = args->rest[0], *pool = cli_value(args, "pool", NULL);
    autofree char *path = cmd_path("/v1/nodes/", name, "/report");
    bool rejected = false, printed = false;
    if (cmd_read_report(args->rest[1], name, &report, err) < 0 ||
        cmd_call(args, "PUT", path, report, &reply, &rejected, err) < 0)
        return -1;
    if (pool) {
        autofree char *begin = cmd_path("/v1/pools/", pool, "/nodes/");
        autofree char *join = cmd_path(begin, name, "");
        if (cmd_call(args, "PUT", join, NULL, &joined_reply, &rejected, err) < 0)
            return error_wrap(err, "node '%s' is imported, but did not join", name);
    }
    if (cmd_print_json(args, reply, &printed, err) < 0)
        return -1;
    if (!printed)
        printf("node '%s' %s%s%s\n", name,
               json_flag(reply, "changed") ? "imported" : "was known by this very report",
               pool ? ", member of pool " : "", pool ? pool : "");
    return 0;
}

int cmd_nodes_delete(const struct cli_args *args, struct error *err)
{
    bool force = cli_flag(args, "force"), rejected = false, printed = false;
    autofree char *path = cmd_path("/v1/nodes/", args->rest[0], force ? "?force=true" : "");
    autojson *reply = NULL;
    if (!force)
        return cmd_change(args, "DELETE", path, NULL, err, "node '%s' is forgotten", args->rest[0]);
    if (cmd_call(args, "DELETE", path, NULL, &reply, &rejected, err) < 0 ||
        cmd_print_json(args, reply, &printed, err) < 0)
        return -1;
    json_object *lost = json_member(reply, "lost");
    if (printed)
        return 0;
    printf("node '%s' is forgotten; workloads given up: ", args->rest[0]);
    if (json_array_size(lost) == 0) {
        puts("none");
        return 0;
    }
    cmd_print_names(" ", lost);
    puts("They count as exited, and their ledgers stay. If that machine comes back, they may still "
         "run there.");
    return 0;
}
