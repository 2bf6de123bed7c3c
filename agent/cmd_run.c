/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_run.c - `cpuagent run`: starts a command as a workload. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client.h"
#include "cmd.h"

/* What a command may count on from the caller; the rest of his environment is his shell's. */
static const char *const passed_on[] = {"PATH", "HOME", "LANG", "LC_ALL", "TZ"};

static json_object *environment(const struct cli_args *args)
{
    unsigned count = 0;
    const char *const *extra = cli_values(args, "env", &count);
    json_object *array = json_object_new_array();
    for (unsigned i = 0; i < ARRAY_LEN(passed_on); i++) {
        const char *value = getenv(passed_on[i]);
        if (!value)
            continue;
        autofree char *text = xasprintf("%s=%s", passed_on[i], value);
        json_object_array_add(array, json_object_new_string(text));
    }
    for (unsigned i = 0; i < count; i++)
        json_object_array_add(array, json_object_new_string(extra[i]));
    return array;
}

/* Paths from a person may be relative to where he stands; the agent takes absolute ones only. */
static int absolute(const char *option, const char *path, char **ret, struct error *err)
{
    char here[PATH_MAX];
    if (!path)
        return 0;
    if (*path == '/') {
        *ret = xstrdup(path);
        return 0;
    }
    if (!getcwd(here, sizeof(here)))
        return error_errno(err, ERROR_FAILED, "--%s: cannot tell the current folder", option);
    while (strncmp(path, "./", 2) == 0)
        path += 2;
    *ret = strcmp(path, ".") == 0 || !*path ? xstrdup(here) : xasprintf("%s/%s", here, path);
    return 0;
}

static void print_mask(const char *pool, json_object *mask)
{
    json_object *lacks = json_member(mask, "lacks");
    if (!mask)
        return;
    printf("mask: %s, epoch %lld of pool %s", json_str(mask, "grade"),
           (long long)json_int(mask, "epoch"), pool);
    if (json_member(mask, "sites"))
        printf(", %lld CPUID instructions", (long long)json_int(mask, "sites"));
    if (json_object_is_type(lacks, json_type_object)) {
        json_object_object_foreach(lacks, name, count)
            printf(", %lld %s", (long long)json_object_get_int64(count), name);
    }
    putchar('\n');
}

int cmd_run(const struct cli_args *args, struct error *err)
{
    AUTO(client) client = NULL;
    autojson *body = json_object_new_object(), *reply = NULL;
    autofree char *dir = NULL, *cwd = NULL;
    bool as_json = false;
    const char *name = cli_value(args, "name", NULL);
    if (!name)
        return error_set(err, ERROR_INVALID, "--name is needed: the workload's name");
    if (cli_output(args, &as_json, err) < 0 ||
        absolute("dir", cli_value(args, "dir", NULL), &dir, err) < 0 ||
        absolute("cwd", cli_value(args, "cwd", NULL), &cwd, err) < 0 ||
        cmd_local_client(args, &client, err) < 0)
        return -1;
    json_object *command = json_object_new_array();
    for (int i = 0; i < args->rest_count; i++)
        json_object_array_add(command, json_object_new_string(args->rest[i]));
    json_put_str(body, "name", name);
    json_put_str(body, "pool", cli_value(args, "pool", NULL));
    json_put_str(body, "dir", dir);
    json_put_str(body, "cwd", cwd);
    json_put_str(body, "mask", cli_value(args, "mask", "auto"));
    json_put_str(body, "mask_require", cli_value(args, "mask-require", NULL));
    json_put(body, "command", command);
    json_put(body, "env", environment(args));
    if (client_request(client, "POST", "/v1/run", body, &reply, err) < 0)
        return -1;
    if (as_json) {
        autofree char *text = json_text_pretty(reply);
        puts(text);
    } else {
        printf("%s runs as pid %lld; its folder is %s\n", json_str(reply, "name"),
               (long long)json_int(reply, "pid"), json_str(reply, "dir"));
        print_mask(json_str(reply, "pool"), json_member(reply, "mask"));
    }
    return 0;
}
