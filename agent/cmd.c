/* SPDX-License-Identifier: Apache-2.0 */
/* cmd.c - what the sub-commands of `cpuagent` share. */
#include "cmd.h"

#include <stdlib.h>

#include "client.h"
#include "local_api.h"

#define LOCAL_TIMEOUT_MS 120000 /* a stop may wait long for the workload */

int cmd_local_client(const struct cli_args *args, struct client **ret, struct error *err)
{
    const char *from_environment = getenv("CPUAGENT_SOCKET");
    struct client_config config = {
        .base_url = "http://cpuagent",
        .unix_socket = cli_value(args, "socket",
                                 from_environment && *from_environment ? from_environment
                                                                       : LOCAL_SOCKET_DEFAULT),
        .timeout_ms = LOCAL_TIMEOUT_MS,
    };
    return client_new(&config, ret, err);
}
