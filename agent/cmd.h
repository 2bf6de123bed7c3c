/* SPDX-License-Identifier: Apache-2.0 */
/* cmd.h - the sub-commands of `cpuagent`: one table (main.c) gives names, arguments, options and
 * help; each cmd_NAME.c holds one function. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "error.h"

#define CMD_OPTIONS_MAX 12 /* of one command */
#define CMD_REPEATS_MAX 64 /* values of one option that may be given more than once */

struct cmd_option {
    const char *name;     /* "pool" for --pool */
    char letter;          /* 'o' for -o; 0 for none */
    const char *argument; /* "POOL"; NULL for a flag */
    bool repeats;         /* may be given more than once */
    const char *help;
};

struct cmd;

/* What the command line held, checked against the command's table. */
struct cmd_args {
    const struct cmd *cmd;
    const char *values[CMD_OPTIONS_MAX][CMD_REPEATS_MAX]; /* borrowed from argv */
    unsigned counts[CMD_OPTIONS_MAX];
    int rest_count; /* operands; everything after "--" is among them */
    char **rest;    /* NULL-terminated, borrowed from argv */
};

struct cmd {
    const char *name;
    const char *operands; /* "NAME", "-- COMMAND [ARGUMENT...]"; "" for none */
    const char *summary;
    int least, most;                  /* operands; most -1: any number */
    const struct cmd_option *options; /* ends with a NULL name */
    /* 0, or -1 with *err: main prints it and exits with the kind's code. */
    int (*run)(const struct cmd_args *args, struct error *err);
};

/* Parses argv (argv[0] is the command's name). Errors: ERROR_INVALID in one line. `--help` sets
 * *ret_help and stops. */
int cmd_parse(const struct cmd *cmd, int argc, char **argv, struct cmd_args *ret, bool *ret_help,
              struct error *err);
void cmd_print_help(const struct cmd *cmd);

/* The last value of --NAME, or `fallback`. Asserts that the command has that option. */
const char *cmd_value(const struct cmd_args *args, const char *name, const char *fallback);
bool cmd_flag(const struct cmd_args *args, const char *name);
/* All values of a repeatable option; *ret_count of them. Borrowed. */
const char *const *cmd_values(const struct cmd_args *args, const char *name, unsigned *ret_count);
/* A number in a range. Errors: ERROR_INVALID naming the option. */
int cmd_value_u64(const struct cmd_args *args, const char *name, unsigned long long least,
                  unsigned long long most, unsigned long long fallback, unsigned long long *ret,
                  struct error *err);
/* -o table|json: *ret_json. */
int cmd_output(const struct cmd_args *args, bool *ret_json, struct error *err);

struct client;
/* A client of the local agent: --socket, else $CPUAGENT_SOCKET, else LOCAL_SOCKET_DEFAULT. The
 * caller owns *ret. */
int cmd_local_client(const struct cmd_args *args, struct client **ret, struct error *err);
/* Prints text from outside with control characters as '?'. */
void cmd_print_plain(const char *text);

int cmd_adopt(const struct cmd_args *args, struct error *err);
int cmd_probe(const struct cmd_args *args, struct error *err);
int cmd_ps(const struct cmd_args *args, struct error *err);
int cmd_run(const struct cmd_args *args, struct error *err);
/* `serve --config FILE`: returns when SIGTERM or SIGINT ended it. */
int cmd_serve(const struct cmd_args *args, struct error *err);
int cmd_stop(const struct cmd_args *args, struct error *err);
