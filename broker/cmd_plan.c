/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_plan.c - `masks --with/--without`, `pools advise` and `matrix`: planning a pool. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cmd.h"
#include "table.h"

/* A word of --with is a file when it looks like a path or such a file is there; else a node. */
static bool is_file(const char *word)
{
    return strchr(word, '/') != NULL || access(word, R_OK) == 0;
}

/* The name under which a machine from a file is judged: the file's, without folder and ending. */
static void name_of_file(const char *path, char *name, size_t size)
{
    const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    snprintf(name, size, "%.*s", (int)strcspn(base, "."), base);
}

static int add_words(json_object *list, const char *words, bool files, struct error *err)
{
    autofree char *copy = xstrdup(words);
    char *rest = copy, *word = NULL;
    while ((word = strsep(&rest, ",")) != NULL) {
        if (!*word)
            return error_set(err, ERROR_INVALID, "expected names with commas between, not '%.80s'",
                             words);
        if (!files || !is_file(word)) {
            json_object_array_add(list, json_object_new_string(word));
            continue;
        }
        json_object *item = json_object_new_object(), *report = NULL;
        char name[64];
        name_of_file(word, name, sizeof(name));
        json_object_array_add(list, item);
        json_put_str(item, "name", name);
        if (cmd_read_report(word, name, &report, err) < 0)
            return -1;
        json_put(item, "report", report);
    }
    return 0;
}

static void print_change(const char *title, json_object *names)
{
    if (json_array_size(names) == 0)
        return;
    printf("%s:\n ", title);
    cmd_print_names(" ", names);
}

static void print_what_if(json_object *reply)
{
    json_object *difference = json_member(reply, "difference");
    json_object *level = json_member(difference, "level"),
                *xsave = json_member(difference, "xsave");
    json_object *stranded = json_member(reply, "stranded");
    printf("pool '%s' would have %zu members instead of %lld: %s instead of %s\n",
           json_str(reply, "pool"), json_array_size(json_member(reply, "members")),
           (long long)json_int(reply, "members_before"),
           *json_str(level, "after") ? json_str(level, "after") : "no mask",
           *json_str(level, "before") ? json_str(level, "before") : "no mask");
    print_change("features that it would gain", json_member(difference, "gained"));
    print_change("features that it would lose", json_member(difference, "lost"));
    print_change("xsave components that it would gain", json_member(xsave, "components_gained"));
    print_change("xsave components that it would lose", json_member(xsave, "components_lost"));
    if (json_array_size(json_member(difference, "gained")) +
            json_array_size(json_member(difference, "lost")) ==
        0)
        puts("no feature would come or go");
    for (size_t i = 0; i < json_array_size(stranded); i++) {
        json_object *item = json_array_item(stranded, i);
        printf("workload '%s' on %s could not move to:", json_str(item, "workload"),
               json_str(item, "node"));
        cmd_print_names("   ", json_member(item, "misfits"));
    }
}

int cmd_what_if(const struct cli_args *args, struct error *err)
{
    autojson *body = json_object_new_object(), *reply = NULL;
    json_object *with = json_object_new_array(), *without = json_object_new_array();
    autofree char *path = cmd_path("/v1/pools/", cli_value(args, "pool", "default"), "/what-if");
    bool rejected = false, printed = false;
    json_put(body, "with", with);
    json_put(body, "without", without);
    const char *coming = cli_value(args, "with", NULL), *going = cli_value(args, "without", NULL);
    if ((coming && add_words(with, coming, true, err) < 0) ||
        (going && add_words(without, going, false, err) < 0) ||
        cmd_call(args, "POST", path, body, &reply, &rejected, err) < 0 ||
        cmd_print_json(args, reply, &printed, err) < 0)
        return -1;
    if (!printed)
        print_what_if(reply);
    return 0;
}

static void print_advice(json_object *reply)
{
    json_object *costs = json_member(reply, "costs"), *split = json_member(reply, "split");
    json_object *pools = json_member(split, "pools");
    if (json_array_size(costs) == 0)
        puts("no single member costs the pool a feature");
    for (size_t i = 0; i < json_array_size(costs); i++) {
        json_object *cost = json_array_item(costs, i);
        json_object *features = json_member(cost, "features");
        printf("without %s the pool would gain %zu features:\n ", json_str(cost, "node"),
               json_array_size(features));
        cmd_print_names(" ", features);
    }
    printf("\nsplit into %zu, the loss is %lld (%s)\n", json_array_size(pools),
           (long long)json_int(split, "loss"), json_str(split, "measure"));
    for (size_t i = 0; i < json_array_size(pools); i++) {
        json_object *pool = json_array_item(pools, i);
        printf("%zu. %s, %s, %lld features, loss %lld:\n ", i + 1,
               *json_str(pool, "vendor") ? json_str(pool, "vendor") : "mixed vendors",
               json_str(pool, "level"), (long long)json_int(pool, "features"),
               (long long)json_int(pool, "loss"));
        cmd_print_names(" ", json_member(pool, "members"));
    }
}

int cmd_pools_advise(const struct cli_args *args, struct error *err)
{
    autojson *reply = NULL;
    unsigned long long max_pools = 0;
    bool rejected = false, printed = false;
    if (cli_value_u64(args, "max-pools", 1, 512, 1, &max_pools, err) < 0)
        return -1;
    autofree char *base = cmd_path("/v1/pools/", cli_value(args, "pool", "default"), "/advice");
    autofree char *path = xasprintf("%s?max_pools=%llu", base, max_pools);
    if (cmd_call(args, "GET", path, NULL, &reply, &rejected, err) < 0 ||
        cmd_print_json(args, reply, &printed, err) < 0)
        return -1;
    if (!printed)
        print_advice(reply);
    return 0;
}

int cmd_matrix(const struct cli_args *args, struct error *err)
{
    autojson *reply = NULL;
    autofree char *path = cmd_path("/v1/pools/", cli_value(args, "pool", "default"), "/matrix");
    bool rejected = false, printed = false;
    if (cmd_call(args, "GET", path, NULL, &reply, &rejected, err) < 0 ||
        cmd_print_json(args, reply, &printed, err) < 0)
        return -1;
    if (printed)
        return 0;
    json_object *nodes = json_member(reply, "nodes"), *rows = json_member(reply, "rows");
    size_t count = json_array_size(nodes);
    autofree const char **titles = xcalloc(count + 2, sizeof(*titles));
    titles[0] = "FROM \\ TO";
    for (size_t i = 0; i < count; i++)
        titles[i + 1] = json_item_str(nodes, i);
    AUTO(table) table = table_new(titles);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        json_object *row = json_array_item(rows, i), *cells = json_member(row, "cells");
        table_cell(table, json_str(row, "from"));
        for (size_t k = 0; k < count; k++) {
            const char *code = json_str(json_array_item(cells, k), "code");
            table_cell(table, i == k ? "." : *code ? code : "yes");
        }
    }
    table_print(table, stdout);
    return 0;
}
