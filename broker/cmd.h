/* SPDX-License-Identifier: Apache-2.0 */
/* cmd.h - the sub-commands of `cpubroker`: the table is in main.c, each cmd_*.c holds one noun's.
 */
#pragma once

#include "cli.h"
#include "json.h"

struct client;

#define CMD_BROKER_DEFAULT     "http://127.0.0.1:7070"
#define CMD_TOKEN_FILE_DEFAULT "/var/lib/cpubroker-broker/operator.token"

/* A client of the broker: --broker, else $CPUBROKER_URL; --token-file, else
 * $CPUBROKER_TOKEN_FILE, else the broker's own first token where it can be read; --ca-file. The
 * caller owns *ret. */
int cmd_client(const struct cli_args *args, struct client **ret, struct error *err);
/* One call, whose reply (NULL for none) the caller owns. A verdict that rejects (409 without an
 * "error") is a reply too: *ret_rejected. A bad --output is refused before anything is asked. */
int cmd_call(const struct cli_args *args, const char *method, const char *path, json_object *body,
             json_object **ret, bool *ret_rejected, struct error *err);
/* Prints the API's JSON as it is when -o json was given: *ret_printed. */
int cmd_print_json(const struct cli_args *args, json_object *reply, bool *ret_printed,
                   struct error *err);
/* A call that changes something: prints the reply for -o json, else the sentence. */
int cmd_change(const struct cli_args *args, const char *method, const char *path, json_object *body,
               struct error *err, const char *format, ...) __attribute__((format(printf, 6, 7)));
/* "label     text" on a line of its own; control characters become '?'. "-" for "". */
void cmd_print_line(const char *label, const char *text);
/* Names, wrapped at 96 columns, each line after `indent`; the first follows what stands there. */
void cmd_print_names(const char *indent, json_object *names);
/* A verdict for a person. */
void cmd_print_verdict(json_object *verdict);
/* On which look at the live workload that rests, and how old it is; nothing for NULL. */
void cmd_print_look(json_object *look);
/* What a command returns whose verdict rejects: -1 with ERROR_REJECTED and nothing to print. */
int cmd_rejected(struct error *err);
/* "/v1/nodes/NAME": the path with each %s percent-encoded. The caller owns it. */
char *cmd_path(const char *before, const char *name, const char *after);
/* The report in a file ("-": stdin), JSON or the text of `cpuid -r`, standing for the node `name`.
 * The caller owns *ret. */
int cmd_read_report(const char *path, const char *name, json_object **ret, struct error *err);
/* "3 s ago", "2 min ago"; "never" for 0. */
void cmd_age(int64_t at_ms, char text[32]);

int cmd_check(const struct cli_args *args, struct error *err);
int cmd_events(const struct cli_args *args, struct error *err);
int cmd_masks(const struct cli_args *args, struct error *err);
int cmd_matrix(const struct cli_args *args, struct error *err);
int cmd_migrate(const struct cli_args *args, struct error *err);
int cmd_migrations(const struct cli_args *args, struct error *err);
int cmd_migrations_cancel(const struct cli_args *args, struct error *err);
int cmd_nodes(const struct cli_args *args, struct error *err);
int cmd_nodes_delete(const struct cli_args *args, struct error *err);
int cmd_nodes_import(const struct cli_args *args, struct error *err);
int cmd_nodes_show(const struct cli_args *args, struct error *err);
int cmd_pools(const struct cli_args *args, struct error *err);
int cmd_pools_advise(const struct cli_args *args, struct error *err);
int cmd_pools_create(const struct cli_args *args, struct error *err);
int cmd_pools_delete(const struct cli_args *args, struct error *err);
int cmd_pools_join(const struct cli_args *args, struct error *err);
int cmd_pools_leave(const struct cli_args *args, struct error *err);
int cmd_routes(const struct cli_args *args, struct error *err);
int cmd_serve(const struct cli_args *args, struct error *err);
int cmd_token_create(const struct cli_args *args, struct error *err);
int cmd_token_delete(const struct cli_args *args, struct error *err);
int cmd_token_list(const struct cli_args *args, struct error *err);
/* `masks` with --with or --without. */
int cmd_what_if(const struct cli_args *args, struct error *err);
int cmd_webhooks(const struct cli_args *args, struct error *err);
int cmd_webhooks_create(const struct cli_args *args, struct error *err);
int cmd_webhooks_delete(const struct cli_args *args, struct error *err);
int cmd_webhooks_deliveries(const struct cli_args *args, struct error *err);
int cmd_workloads(const struct cli_args *args, struct error *err);
int cmd_workloads_show(const struct cli_args *args, struct error *err);
