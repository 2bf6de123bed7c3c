/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_workloads.c - `cpubroker workloads` and `cpubroker check`. */
#include <inttypes.h>
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

/* "detour", "detour, not all": short, for a list. */
static void mask_text(json_object *mask, char *text, size_t size)
{
    bool lacks = mask && json_object_object_length(json_member(mask, "lacks")) > 0;
    snprintf(text, size, "%s%s", json_str(mask, "grade"), lacks ? ", not all" : "");
}

int cmd_workloads(const struct cli_args *args, struct error *err)
{
    static const char *const titles[] = {"NAME", "POOL", "NODE",      "STATE",   "PID",
                                         "EXIT", "MASK", "MIGRATION", "COMMAND", NULL};
    autojson *reply = NULL;
    bool rejected = false, printed = false;
    if (cmd_call(args, "GET", "/v1/workloads", NULL, &reply, &rejected, err) < 0 ||
        cmd_print_json(args, reply, &printed, err) < 0)
        return -1;
    json_object *workloads = json_member(reply, "workloads");
    AUTO(table) table = table_new(titles);
    for (size_t i = 0; i < json_array_size(workloads); i++) {
        json_object *w = json_array_item(workloads, i);
        char command[128], mask[32];
        command_text(json_member(w, "command"), command, sizeof(command));
        mask_text(json_member(w, "mask"), mask, sizeof(mask));
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
        table_cell(table, *mask ? mask : NULL);
        table_cell(table, json_str(w, "migration"));
        table_cell(table, command);
    }
    if (!printed)
        table_print(table, stdout);
    return 0;
}

static void print_names(const char *label, json_object *names, const char *if_none)
{
    printf("  %-14s", label);
    if (json_array_size(names) > 0)
        cmd_print_names("                ", names);
    else
        printf(" %s\n", names ? if_none : "not known");
}

static void print_known(const char *label, json_object *look, const char *member)
{
    json_object *value = json_member(look, member);
    printf("  %-14s %s\n", label,
           !value                    ? "not known"
           : json_flag(look, member) ? "in use"
                                     : "none");
}

static void print_code(json_object *look)
{
    const char *used = json_str(look, "isa_used"), *needed = json_str(look, "isa_needed");
    printf("  %-14s ", "code");
    if (*needed)
        printf("needs %s, ", needed);
    if (*used) {
        printf("uses at most %s\n", used);
        return;
    }
    fputs("uses what nobody knows: no mark in ", stdout);
    cli_print_plain(json_str(look, "unmarked_code"));
    putchar('\n');
}

static void print_evidence(json_object *look)
{
    char age[32];
    if (!look) {
        puts("what a look at it showed: none was taken since it was born; each move takes one");
        return;
    }
    cmd_age(json_int(look, "at_ms"), age);
    printf("what a look at it showed, %s on %s (migration %s; %s):\n", age, json_str(look, "node"),
           json_str(look, "migration"),
           json_flag(look, "counts") ? "verdicts rest on it"
                                     : "other processes than now run, verdicts do not rest on it");
    printf("  %-14s %" PRId64 " with %" PRId64 " threads%s\n", "processes",
           json_int(look, "processes"), json_int(look, "threads"),
           json_flag(look, "complete") ? "" : ", and not all were seen");
    print_names("registers", json_member(look, "components"), "none");
    print_names("active in libc", json_member(look, "features_active"), "nothing");
    printf("  %-14s %s\n", "AMX", json_str(look, "amx"));
    print_known("shadow stack", look, "shadow_stack");
    if (json_member(look, "smallest_altstack_bytes"))
        printf("  %-14s %" PRId64 " bytes, the smallest\n", "signal stacks",
               json_int(look, "smallest_altstack_bytes"));
    print_code(look);
    json_object *unknown = json_member(look, "unknown");
    for (size_t i = 0; i < json_array_size(unknown); i++) {
        printf("  %-14s ", i ? "" : "not seen");
        cli_print_plain(json_item_str(unknown, i));
        putchar('\n');
    }
    if (json_int(look, "unknown_count") > (int64_t)json_array_size(unknown))
        printf("  %-14s and more: %" PRId64 " in all\n", "", json_int(look, "unknown_count"));
}

/* The features of the need that this node was the first to bring, or, with `mask`, the mask. */
static void print_brought(json_object *need, const char *node, bool mask)
{
    json_object *features = json_member(need, "features");
    autojson *names = json_object_new_array();
    for (size_t i = 0; i < json_array_size(features); i++) {
        json_object *feature = json_array_item(features, i);
        if (json_flag(feature, "mask") == mask && strcmp(json_str(feature, "from"), node) == 0)
            json_object_array_add(names, json_object_new_string(json_str(feature, "name")));
    }
    if (json_array_size(names) == 0)
        return;
    if (mask)
        fputs("  because of its mask:\n   ", stdout);
    else if (*node)
        printf("  because of '%s':\n   ", node);
    else
        fputs("  because the database says so, and no node of its ledger:\n   ", stdout);
    cmd_print_names("   ", names);
}

/* Whether an earlier line of the ledger is about the same node. */
static bool is_told(json_object *seen, size_t line)
{
    const char *node = json_str(json_array_item(seen, line), "node");
    for (size_t i = 0; i < line; i++)
        if (strcmp(json_str(json_array_item(seen, i), "node"), node) == 0)
            return true;
    return false;
}

static void print_need(json_object *need, json_object *seen)
{
    if (!need)
        return;
    printf("what a target must have: %s, %zu features (record %.12s)\n", json_str(need, "level"),
           json_array_size(json_member(need, "features")), json_str(need, "sha256"));
    print_brought(need, "", true);
    for (size_t i = 0; i < json_array_size(seen); i++)
        if (!is_told(seen, i))
            print_brought(need, json_str(json_array_item(seen, i), "node"), false);
    print_brought(need, "", false);
}

static void print_mask(json_object *mask)
{
    if (!mask) {
        cmd_print_line("mask", "none");
        return;
    }
    printf("  %-14s grade %s, epoch %" PRId64 " (record %.12s), ", "mask", json_str(mask, "grade"),
           json_int(mask, "epoch"), json_str(mask, "profile_sha256"));
    puts(json_flag(mask, "holds") ? "and it is judged by that"
                                  : "but it is judged by the CPUs that it may have seen");
    json_object *lacks = json_member(mask, "lacks");
    if (json_member(mask, "sites"))
        printf("  %-14s %" PRId64 " places\n", "masked", json_int(mask, "sites"));
    printf("  %-14s", "not masked");
    if (!lacks) {
        fputs(" not told yet", stdout);
    } else if (json_object_object_length(lacks) == 0) {
        fputs(" nothing that is known of", stdout);
    } else {
        json_object_object_foreach(lacks, kind, count)
        {
            (void)count;
            printf(" %" PRId64 " %s", json_int(lacks, kind), kind);
        }
    }
    putchar('\n');
}

static void print_seen(json_object *w, json_object *seen)
{
    char age[32];
    json_object *mask = json_member(w, "mask");
    puts(!mask
             ? "what it was exposed to (under no mask, so it may use every feature of these CPUs):"
         : json_flag(mask, "holds") ? "where it has lived (under its mask, so it has seen no more):"
                                    : "where it has lived:");
    for (size_t i = 0; i < json_array_size(seen); i++) {
        json_object *line = json_array_item(seen, i);
        bool exposed = mask && i > 0 && !json_flag(line, "masked") && is_told(seen, i);
        cmd_age(json_int(line, "since_at_ms"), age);
        printf("  %s %-20s since %-12s report %.12s%s\n",
               i == 0             ? "born on   "
               : exposed          ? "may see   "
               : is_told(seen, i) ? "changed on"
                                  : "moved to  ",
               json_str(line, "node"), age, json_str(line, "report_sha256"),
               json_flag(line, "masked") ? ", masked" : "");
    }
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
    json_object *seen = json_member(w, "seen"), *need = json_member(w, "need");
    char command[512];
    command_text(json_member(w, "command"), command, sizeof(command));
    printf("%s: %s on node '%s', pool '%s'\n", json_str(w, "name"), json_str(w, "state"),
           json_str(w, "node"), json_str(w, "pool"));
    cmd_print_line("command", command);
    cmd_print_line("folder", json_str(w, "dir"));
    if (*json_str(w, "migration"))
        cmd_print_line("migration", json_str(w, "migration"));
    print_mask(json_member(w, "mask"));
    print_seen(w, seen);
    print_need(need, seen);
    print_evidence(json_member(w, "evidence"));
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
