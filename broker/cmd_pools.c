/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_pools.c - `cpubroker pools` and `cpubroker masks`. */
#include <stdio.h>
#include <string.h>

#include "client.h"
#include "cmd.h"
#include "format.h"
#include "table.h"

int cmd_pools(const struct cli_args *args, struct error *err)
{
    static const char *const titles[] = {"NAME",      "EPOCH",    "MEMBERS", "LEVEL", "MIX VENDORS",
                                         "MIN LEVEL", "EVIDENCE", "ISLANDS", NULL};
    autojson *reply = NULL;
    bool rejected = false, printed = false;
    if (cmd_call(args, "GET", "/v1/pools", NULL, &reply, &rejected, err) < 0 ||
        cmd_print_json(args, reply, &printed, err) < 0)
        return -1;
    json_object *pools = json_member(reply, "pools");
    AUTO(table) table = table_new(titles);
    for (size_t i = 0; i < json_array_size(pools); i++) {
        json_object *pool = json_array_item(pools, i);
        table_cell(table, json_str(pool, "name"));
        table_cell_int(table, json_int(pool, "epoch"));
        table_cell_int(table, (long long)json_int(pool, "member_count"));
        table_cell(table, json_str(pool, "level"));
        json_object *policy = json_member(pool, "policy");
        table_cell(table, json_flag(policy, "mix_vendors") ? "allowed" : "no");
        table_cell(table, *json_str(policy, "min_level") ? json_str(policy, "min_level") : "any");
        table_cell(table, json_str(policy, "evidence"));
        table_cell(table, json_str(policy, "islands"));
    }
    if (!printed)
        table_print(table, stdout);
    return 0;
}

int cmd_pools_create(const struct cli_args *args, struct error *err)
{
    autojson *body = json_object_new_object();
    json_object *policy = json_object_new_object();
    autofree char *path = cmd_path("/v1/pools/", args->rest[0], "");
    const char *level = cli_value(args, "min-level", NULL);
    if (cli_flag(args, "mix-vendors") && cli_flag(args, "part-vendors")) {
        json_object_put(policy);
        return error_set(err, ERROR_INVALID, "--mix-vendors or --part-vendors, not both");
    }
    if (cli_flag(args, "mix-vendors") || cli_flag(args, "part-vendors"))
        json_put_bool(policy, "mix_vendors", cli_flag(args, "mix-vendors"));
    if (level)
        json_put_str(policy, "min_level", strcmp(level, "any") == 0 ? NULL : level);
    if (cli_value(args, "evidence", NULL))
        json_put_str(policy, "evidence", cli_value(args, "evidence", NULL));
    if (cli_value(args, "islands", NULL))
        json_put_str(policy, "islands", cli_value(args, "islands", NULL));
    json_put(body, "policy", policy);
    return cmd_change(args, "PUT", path, body, err, "pool '%s' is there", args->rest[0]);
}

int cmd_pools_delete(const struct cli_args *args, struct error *err)
{
    autofree char *path = cmd_path("/v1/pools/", args->rest[0], "");
    return cmd_change(args, "DELETE", path, NULL, err, "pool '%s' is removed", args->rest[0]);
}

static int membership(const struct cli_args *args, const char *method, const char *said,
                      struct error *err)
{
    autofree char *begin = cmd_path("/v1/pools/", args->rest[0], "/nodes/");
    autofree char *path = cmd_path(begin, args->rest[1], "");
    return cmd_change(args, method, path, NULL, err, "node '%s' %s pool '%s'", args->rest[1], said,
                      args->rest[0]);
}

int cmd_pools_join(const struct cli_args *args, struct error *err)
{
    return membership(args, "PUT", "is a member of", err);
}

int cmd_pools_leave(const struct cli_args *args, struct error *err)
{
    return membership(args, "DELETE", "is no member any more of", err);
}

static void print_registers(json_object *registers)
{
    static const char *const titles[] = {"LEAF", "SUBLEAF", "EAX", "EBX", "ECX", "EDX", NULL};
    static const char *const members[] = {"leaf", "subleaf", "eax", "ebx", "ecx", "edx"};
    AUTO(table) table = table_new(titles);
    for (size_t i = 0; i < json_array_size(registers); i++)
        for (size_t m = 0; m < ARRAY_LEN(members); m++)
            table_cell(table, json_str(json_array_item(registers, i), members[m]));
    table_print(table, stdout);
}

static void print_xsave(json_object *xsave)
{
    static const char *const titles[] = {"ID", "COMPONENT", "OFFSET", "SIZE", NULL};
    json_object *components = json_member(xsave, "components");
    AUTO(table) table = table_new(titles);
    printf("\nxsave: XCR0 %s, %lld bytes\n", json_str(xsave, "xcr0"),
           (long long)json_int(xsave, "size"));
    for (size_t i = 0; i < json_array_size(components); i++) {
        json_object *c = json_array_item(components, i);
        table_cell_int(table, json_int(c, "id"));
        table_cell(table, json_str(c, "name"));
        table_cell_int(table, json_int(c, "offset"));
        table_cell_int(table, json_int(c, "size"));
    }
    table_print(table, stdout);
}

static void print_mask(json_object *masks)
{
    json_object *members = json_member(masks, "members"), *lost = json_member(masks, "lost");
    printf("pool '%s', epoch %lld, %s\nmembers:", json_str(masks, "pool"),
           (long long)json_int(masks, "epoch"),
           *json_str(masks, "level") ? json_str(masks, "level") : "no mask yet");
    cmd_print_names("        ", members);
    long long more =
        (long long)json_int(masks, "member_count") - (long long)json_array_size(members);
    if (more > 0)
        printf("and %lld more, of %lld\n", more, (long long)json_int(masks, "member_count"));
    if (json_array_size(json_member(masks, "unreported")) > 0) {
        fputs("without a report, not counted:", stdout);
        cmd_print_names(" ", json_member(masks, "unreported"));
    }
    fputs("\nfeatures that every member has:\n ", stdout);
    cmd_print_names(" ", json_member(masks, "features"));
    puts("\nthe mask (a set bit is a feature that every member has):");
    print_registers(json_member(masks, "registers"));
    if (json_member(masks, "xsave"))
        print_xsave(json_member(masks, "xsave"));
    for (size_t i = 0; i < json_array_size(members); i++) {
        json_object *names = json_member(lost, json_item_str(members, i));
        if (json_array_size(names) == 0)
            continue;
        printf("\n%s has, and the pool lacks:\n ", json_item_str(members, i));
        cmd_print_names(" ", names);
    }
}

/* The mask as another tool reads it: the broker writes it. */
static int print_format(const struct cli_args *args, const char *path, enum format format,
                        struct error *err)
{
    AUTO(client) client = NULL;
    autofree char *text = NULL;
    autofree char *full = xasprintf("%s?format=%s", path, format_name(format));
    if (cmd_client(args, &client, err) < 0 || client_text(client, full, &text, err) < 0)
        return -1;
    fputs(text, stdout);
    return 0;
}

int cmd_masks(const struct cli_args *args, struct error *err)
{
    autojson *reply = NULL;
    const char *pool = cli_value(args, "pool", "default");
    const char *output = cli_value(args, "output", "table");
    autofree char *path = cmd_path("/v1/pools/", pool, "/masks");
    bool rejected = false, printed = false;
    enum format format = FORMAT_ENV;
    if (cli_value(args, "with", NULL) || cli_value(args, "without", NULL))
        return cmd_what_if(args, err);
    if (strcmp(output, "table") != 0 && strcmp(output, "json") != 0) {
        if (format_from_name(output, &format, err) < 0)
            return error_wrap(err, "--output: expected table, json or a tool's format");
        return print_format(args, path, format, err);
    }
    if (cmd_call(args, "GET", path, NULL, &reply, &rejected, err) < 0 ||
        cmd_print_json(args, reply, &printed, err) < 0)
        return -1;
    if (!printed)
        print_mask(reply);
    return 0;
}
