/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_debug.c - `cpuagent debug`: gives a masked process to a debugger. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "client.h"
#include "cmd.h"

static int pid_of(const char *text, long *ret, struct error *err)
{
    char *end = NULL;
    *ret = strtol(text, &end, 10);
    if (!*text || *end || *ret < 2 || *ret > INT_MAX)
        return error_set(err, ERROR_INVALID, "PID: expected 2..%d, not '%.40s'", INT_MAX, text);
    return 0;
}

int cmd_debug(const struct cli_args *args, struct error *err)
{
    AUTO(client) client = NULL;
    autojson *body = json_object_new_object(), *reply = NULL;
    long pid = 0;
    char number[24];
    if (pid_of(args->rest[0], &pid, err) < 0 || cmd_local_client(args, &client, err) < 0)
        return -1;
    json_put_int(body, "pid", pid);
    if (client_request(client, "POST", "/v1/debug", body, &reply, err) < 0)
        return -1;
    fprintf(stderr,
            "process %ld of workload %s has no tracer for the moment: it stays masked, and new "
            "programs and libraries are refused to it; it gets its tracer back when the debugger "
            "has let go\n",
            pid, json_str(reply, "workload"));
    snprintf(number, sizeof(number), "%ld", pid);
    char *gdb[] = {"gdb", "-p", number, NULL};
    char *const *command = args->rest_count > 1 ? (char *const *)(args->rest + 1) : gdb;
    execvp(command[0], command);
    return error_errno(err, ERROR_FAILED, "cannot start '%s'; the tracer is back in 10 s",
                       command[0]);
}
