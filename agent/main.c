/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - cpuagent: the table of its commands. */
#include "cmd.h"

/* clang-format off */
#define OUTPUT {"output", 'o', "table|json", false, "how to print (default: table)"}
#define SOCKET {"socket", 0, "PATH", false, \
    "the agent's socket (default: $CPUAGENT_SOCKET, else /run/cpubroker/agent.sock)"}
#define POOL {"pool", 0, "POOL", false, "the pool whose nodes it may move to (default: the agent's)"}
#define NAME {"name", 0, "NAME", false, "the workload's name, unique among all nodes (needed)"}

static const struct cli_option serve_options[] = {
    {"config", 0, "FILE", false, "the configuration (default: /etc/cpubroker/cpuagent.conf)"},
    {"print-config", 0, NULL, false, "print a sample configuration and exit"},
    {0},
};
static const struct cli_option probe_options[] = {
    {"node", 0, "NAME", false, "the node's name in the report (default: the host's name)"},
    {"criu", 0, "PATH", false, "the CRIU to try (default: the private one, else PATH's)"},
    OUTPUT, {0},
};
static const struct cli_option inspect_options[] = {OUTPUT, {0}};
static const struct cli_option sites_options[] = {
    {"cache", 0, "DIR", false, "remember what is found in this folder (default: nothing is)"},
    OUTPUT, {0},
};
static const struct cli_option run_options[] = {
    NAME, POOL,
    {"dir", 0, "DIR", false,
     "the folder that moves with it (default: one of its own under the agent's state folder)"},
    {"cwd", 0, "DIR", false, "where the command starts (default: its folder)"},
    {"mask", 0, "GRADE", false, "how firmly it is held to the pool's CPUID mask: auto, hardware, detour, environment, off (default: auto)"},
    {"mask-require", 0, "GRADE", false, "refuse to start it below this grade"},
    {"env", 0, "NAME=VALUE", true, "a variable beside PATH, HOME, LANG, LC_ALL and TZ; may be repeated"},
    SOCKET, OUTPUT, {0},
};
static const struct cli_option ps_options[] = {SOCKET, OUTPUT, {0}};
static const struct cli_option stop_options[] = {
    {"timeout", 0, "SECONDS", false, "from SIGTERM to SIGKILL (default: 10)"},
    SOCKET, {0},
};
static const struct cli_option adopt_options[] = {
    {"pid", 0, "PID", false, "the process, root of the tree to adopt (needed)"},
    NAME, POOL, SOCKET, OUTPUT, {0},
};

static const struct cli_option debug_options[] = {SOCKET, {0}};

#define P "cpuagent"
static const struct cli_command commands[] = {
    {P, "serve", "", "Register with the broker and follow its assignments", 0, 0, serve_options, cmd_serve},
    {P, "probe", "", "Show what the CPUs of this machine are and can do", 0, 0, probe_options, cmd_probe},
    {P, "inspect", "PID", "Show which CPU features a running tree of processes uses", 1, 1, inspect_options, cmd_inspect},
    {P, "sites", "FILE", "Show the CPUID instructions in a program or library", 1, 1, sites_options, cmd_sites},
    {P, "run", "-- COMMAND [ARGUMENT...]", "Start a command as a workload that can be moved", 1, -1, run_options, cmd_run},
    {P, "ps", "", "List the workloads of this node", 0, 0, ps_options, cmd_ps},
    {P, "stop", "NAME", "End a workload: SIGTERM, then SIGKILL to all of it", 1, 1, stop_options, cmd_stop},
    {P, "adopt", "", "Make a running process, with all below it, a workload", 0, 0, adopt_options, cmd_adopt},
    {P, "debug", "PID [-- COMMAND [ARGUMENT...]]", "Give a masked process to a debugger (gdb -p PID) for a while", 1, -1, debug_options, cmd_debug},
    {0},
};
/* clang-format on */

int main(int argc, char **argv)
{
    static const struct cli_program program = {
        .name = P,
        .summary = "The agent of a node: reports its CPUs, runs workloads, moves them.",
        .exit_codes = "0 done, 1 other machine's code, 2 usage, 3 cannot reach the agent, 4 not "
                      "found, 5 not allowed, "
                      "6 failed",
        .commands = commands,
    };
    return cli_main(&program, argc, argv);
}
