/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_stop.c - `cpuagent stop`: ends a workload. */
#include <stdio.h>

#include "client.h"
#include "cmd.h"

#define STOP_TIMEOUT_MAX_S 600
#define BEYOND_MS          60000 /* from SIGKILL to the answer, at most */

int cmd_stop(const struct cli_args *args, struct error *err)
{
    AUTO(client) client = NULL;
    autojson *body = json_object_new_object(), *reply = NULL;
    unsigned long long timeout_s = 0;
    if (name_check("workload", args->rest[0], err) < 0 ||
        cli_value_u64(args, "timeout", 0, STOP_TIMEOUT_MAX_S, 10, &timeout_s, err) < 0 ||
        cmd_local_client(args, &client, err) < 0)
        return -1;
    autofree char *path = xasprintf("/v1/workloads/%s/stop", args->rest[0]);
    json_put_int(body, "timeout_ms", (int64_t)timeout_s * 1000);
    if (client_request_timed(client, "POST", path, body, timeout_s * 1000 + BEYOND_MS, &reply,
                             err) < 0)
        return -1;
    json_object *status = json_member(reply, "exit_status");
    if (status)
        printf("%s has exited with status %lld\n", args->rest[0],
               (long long)json_int(reply, "exit_status"));
    else
        printf("%s has exited\n", args->rest[0]);
    return 0;
}
