/* SPDX-License-Identifier: Apache-2.0 */
/* cmd.h - the sub-commands of `cpuagent`: the table is in main.c, each cmd_NAME.c holds one. */
#pragma once

#include "cli.h"

struct client;
/* A client of the local agent: --socket, else $CPUAGENT_SOCKET, else LOCAL_SOCKET_DEFAULT. The
 * caller owns *ret. */
int cmd_local_client(const struct cli_args *args, struct client **ret, struct error *err);

int cmd_debug(const struct cli_args *args, struct error *err);
int cmd_adopt(const struct cli_args *args, struct error *err);
int cmd_inspect(const struct cli_args *args, struct error *err);
int cmd_probe(const struct cli_args *args, struct error *err);
int cmd_ps(const struct cli_args *args, struct error *err);
int cmd_run(const struct cli_args *args, struct error *err);
/* `serve --config FILE`: returns when SIGTERM or SIGINT ended it. */
int cmd_serve(const struct cli_args *args, struct error *err);
int cmd_sites(const struct cli_args *args, struct error *err);
int cmd_stop(const struct cli_args *args, struct error *err);
