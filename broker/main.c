/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - cpubroker: the table of its commands. */
#include "cmd.h"

/* clang-format off */
#define CONNECTION                                                                                 \
    {"broker", 0, "URL", false, "the broker (default: $CPUBROKER_URL, else http://127.0.0.1:7070)"}, \
    {"token-file", 0, "FILE", false,                                                               \
     "file with a bearer token (default: $CPUBROKER_TOKEN_FILE, else the broker's first)"},        \
    {"ca-file", 0, "FILE", false,                                                                  \
     "CA certificates for https (default: $CPUBROKER_CA_FILE, else the system's)"}
#define OUTPUT {"output", 'o', "table|json", false, "how to print (default: table)"}

static const struct cli_option serve_options[] = {
    {"config", 0, "FILE", false, "the configuration (default: /etc/cpubroker/cpubroker.conf)"},
    {"print-config", 0, NULL, false, "print a sample configuration and exit"},
    {0},
};
static const struct cli_option no_options[] = {{0}};
static const struct cli_option usual_options[] = {OUTPUT, CONNECTION, {0}};
static const struct cli_option import_options[] = {
    {"pool", 0, "POOL", false, "a pool to join at once"},
    OUTPUT, CONNECTION, {0},
};
static const struct cli_option delete_options[] = {
    {"force", 0, NULL, false, "give up the workloads on it; refused while its agent is heard"},
    OUTPUT, CONNECTION, {0},
};
static const struct cli_option create_options[] = {
    {"mix-vendors", 0, NULL, false, "allow moves between CPUs of different vendors"},
    {"part-vendors", 0, NULL, false, "refuse them again (a new pool does)"},
    {"min-level", 0, "LEVEL", false, "no node joins below it: x86-64-v1 to x86-64-v4, or any (a new pool's)"},
    {"evidence", 0, "strict|relax", false,
     "whether what a live process provably leaves unused may relax verdicts (default: strict)"},
    {"islands", 0, "refuse|warn|allow", false,
     "about a target from which a workload could go nowhere else (default: warn)"},
    OUTPUT, CONNECTION, {0},
};
static const struct cli_option masks_options[] = {
    {"pool", 0, "POOL", false, "the pool (default: default)"},
    {"without", 0, "NODE[,NODE]", false, "what would change without these members"},
    {"with", 0, "NODE|FILE[,…]", false, "what would change with these nodes, or machines from reports"},
    {"output", 'o', "FORM", false,
     "table, json, or as a tool reads it: env, openvz, libvirt, qemu, firecracker, gvisor, crac, xen, flags"},
    CONNECTION, {0},
};
static const struct cli_option pool_options[] = {
    {"pool", 0, "POOL", false, "the pool (default: default)"},
    OUTPUT, CONNECTION, {0},
};
static const struct cli_option advise_options[] = {
    {"pool", 0, "POOL", false, "the pool (default: default)"},
    {"max-pools", 0, "K", false, "into how many pools to split it at most (default: 1)"},
    OUTPUT, CONNECTION, {0},
};
static const struct cli_option events_options[] = {
    {"after", 0, "SEQ", false, "only those behind this one (default: the newest)"},
    {"limit", 0, "N", false, "at most so many, 1 to 1000 (default: 100)"},
    OUTPUT, CONNECTION, {0},
};
static const struct cli_option webhook_options[] = {
    {"secret-file", 0, "FILE", false, "a secret of 16 to 256 bytes to sign with (default: one is made and printed)"},
    {"events", 0, "KIND[,KIND]", false, "only these, as docs/events.md names them (default: all)"},
    OUTPUT, CONNECTION, {0},
};
static const struct cli_option deliveries_options[] = {
    {"state", 0, "STATE", false, "pending, delivered or dead (default: all)"},
    OUTPUT, CONNECTION, {0},
};
static const struct cli_option check_options[] = {
    {"workload", 0, "NAME", false, "judge this workload by all that it has seen"},
    {"from", 0, "NODE", false, "judge a process that was born on this node"},
    {"to", 0, "NODE", false, "where it would go (needed)"},
    OUTPUT, CONNECTION, {0},
};
static const struct cli_option migrate_options[] = {
    {"to", 0, "NODE", false, "the target (default: the best of the workload's pool)"},
    {"wait", 0, NULL, false, "follow the move to its end"},
    {"dry-run", 0, NULL, false, "the verdict only"},
    {"idempotency-key", 0, "KEY", false, "the same key twice makes one migration"},
    OUTPUT, CONNECTION, {0},
};
static const struct cli_option token_options[] = {
    {"role", 0, "ROLE", false, "agent, operator, viewer or webhook (needed)"},
    {"node", 0, "NODE", false, "the one node that an agent's token is for"},
    {"note", 0, "TEXT", false, "what it is for, shown in the list"},
    OUTPUT, CONNECTION, {0},
};

#define P "cpubroker"
static const struct cli_command commands[] = {
    {P, "serve", "", "Run the broker", 0, 0, serve_options, cmd_serve},
    {P, "masks", "", "What every member of a pool has, and what each loses by it", 0, 0, masks_options, cmd_masks},
    {P, "matrix", "", "Who can move to whom by its CPU, and why not", 0, 0, pool_options, cmd_matrix},
    {P, "check", "", "Whether a move is safe, and why not; nothing else happens", 0, 0, check_options, cmd_check},
    {P, "migrate", "WORKLOAD", "Move a workload", 1, 1, migrate_options, cmd_migrate},
    {P, "migrations", "[ID]", "The latest migrations, or one with its phases", 0, 1, usual_options, cmd_migrations},
    {P, "migrations cancel", "ID", "Undo a migration that is not committing yet", 1, 1, usual_options, cmd_migrations_cancel},
    {P, "workloads", "", "Who runs where", 0, 0, usual_options, cmd_workloads},
    {P, "workloads show", "WORKLOAD", "One workload, and what it was exposed to", 1, 1, usual_options, cmd_workloads_show},
    {P, "nodes", "", "The fleet, with liveness", 0, 0, usual_options, cmd_nodes},
    {P, "nodes show", "NODE", "One node with its features", 1, 1, usual_options, cmd_nodes_show},
    {P, "nodes import", "NODE FILE", "Make a node known by a report or `cpuid -r` text alone ('-': stdin)", 2, 2, import_options, cmd_nodes_import},
    {P, "nodes delete", "NODE", "Forget a node that holds nothing, or is gone for good", 1, 1, delete_options, cmd_nodes_delete},
    {P, "pools", "", "The pools", 0, 0, usual_options, cmd_pools},
    {P, "pools advise", "", "What each member costs a pool, and a split that loses little", 0, 0, advise_options, cmd_pools_advise},
    {P, "pools create", "POOL", "Make a pool, or set its policy", 1, 1, create_options, cmd_pools_create},
    {P, "pools delete", "POOL", "Remove an empty pool", 1, 1, usual_options, cmd_pools_delete},
    {P, "pools join", "POOL NODE", "Make a node a member", 2, 2, usual_options, cmd_pools_join},
    {P, "pools leave", "POOL NODE", "End a membership", 2, 2, usual_options, cmd_pools_leave},
    {P, "events", "", "What happened to the fleet", 0, 0, events_options, cmd_events},
    {P, "webhooks", "", "Who is told of events", 0, 0, usual_options, cmd_webhooks},
    {P, "webhooks create", "URL", "Tell a URL of events", 1, 1, webhook_options, cmd_webhooks_create},
    {P, "webhooks delete", "ID", "Tell it nothing any more", 1, 1, usual_options, cmd_webhooks_delete},
    {P, "webhooks deliveries", "ID", "What it was told, what waits, what was given up", 1, 1, deliveries_options, cmd_webhooks_deliveries},
    {P, "token create", "", "Make a token and print it, once", 0, 0, token_options, cmd_token_create},
    {P, "token list", "", "The tokens, without their secrets", 0, 0, usual_options, cmd_token_list},
    {P, "token delete", "ID", "Remove a token", 1, 1, usual_options, cmd_token_delete},
    {P, "routes", "", "The API's routes, and who may use them", 0, 0, no_options, cmd_routes},
    {0},
};
/* clang-format on */

int main(int argc, char **argv)
{
    static const struct cli_program program = {
        .name = P,
        .summary =
            "Keeps what the nodes' CPUs can do, judges moves between them, carries them out.",
        .exit_codes = "0 done or approved, 1 rejected by the verdict, 2 usage, 3 cannot reach the "
                      "broker, 4 not found, 5 not allowed, 6 failed",
        .commands = commands,
    };
    return cli_main(&program, argc, argv);
}
