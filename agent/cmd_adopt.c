/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_adopt.c - `cpuagent adopt`: makes a running process a workload. */
#include <limits.h>
#include <stdio.h>

#include "client.h"
#include "cmd.h"

int cmd_adopt(const struct cli_args *args, struct error *err)
{
    AUTO(client) client = NULL;
    autojson *body = json_object_new_object(), *reply = NULL;
    bool as_json = false;
    unsigned long long pid = 0;
    const char *name = cli_value(args, "name", NULL);
    if (!name)
        return error_set(err, ERROR_INVALID, "--name is needed: the workload's name");
    if (cli_value_u64(args, "pid", 2, INT_MAX, 0, &pid, err) < 0)
        return -1;
    if (!pid)
        return error_set(err, ERROR_INVALID, "--pid is needed: the process to adopt");
    if (cli_output(args, &as_json, err) < 0 || cmd_local_client(args, &client, err) < 0)
        return -1;
    json_put_str(body, "name", name);
    json_put_str(body, "pool", cli_value(args, "pool", NULL));
    json_put_int(body, "pid", (int64_t)pid);
    if (client_request(client, "POST", "/v1/adopt", body, &reply, err) < 0)
        return -1;
    if (as_json) {
        autofree char *text = json_text_pretty(reply);
        puts(text);
    } else {
        printf("process %lld is workload %s now\n", (long long)json_int(reply, "pid"),
               json_str(reply, "name"));
    }
    return 0;
}
