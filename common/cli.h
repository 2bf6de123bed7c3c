/* SPDX-License-Identifier: Apache-2.0 */
/* cli.h - command lines by a table: names, operands, options, help and dispatch come from it.
 *
 * A command's name may be two words ("nodes import"). */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "error.h"

#define CLI_OPTIONS_MAX 12 /* of one command */
#define CLI_REPEATS_MAX 64 /* values of one option that may be given more than once */

struct cli_option {
    const char *name;     /* "pool" for --pool */
    char letter;          /* 'o' for -o; 0 for none */
    const char *argument; /* "POOL"; NULL for a flag */
    bool repeats;         /* may be given more than once */
    const char *help;
};

struct cli_command;

/* What the command line held, checked against the command's table. */
struct cli_args {
    const struct cli_command *command;
    const char *values[CLI_OPTIONS_MAX][CLI_REPEATS_MAX]; /* borrowed from argv */
    unsigned counts[CLI_OPTIONS_MAX];
    int rest_count; /* operands; everything after "--" is among them */
    char **rest;    /* NULL-terminated, borrowed from argv */
};

struct cli_command {
    const char *program; /* "cpuagent" */
    const char *name;
    const char *operands; /* "NAME", "-- COMMAND [ARGUMENT...]"; "" for none */
    const char *summary;
    int least, most;                  /* operands; most -1: any number */
    const struct cli_option *options; /* ends with a NULL name */
    /* 0, or -1 with *err: its message (when there is one) is printed, its kind gives the exit
     * code. */
    int (*run)(const struct cli_args *args, struct error *err);
};

/* Parses argv (argv[0] is the command's last word). Errors: ERROR_INVALID in one line. `--help`
 * sets *ret_help and stops. */
int cli_parse(const struct cli_command *command, int argc, char **argv, struct cli_args *ret,
              bool *ret_help, struct error *err);
void cli_print_help(const struct cli_command *command);

/* The last value of --NAME, or `fallback`. Asserts that the command has that option. */
const char *cli_value(const struct cli_args *args, const char *name, const char *fallback);
bool cli_flag(const struct cli_args *args, const char *name);
/* All values of a repeatable option; *ret_count of them. Borrowed. */
const char *const *cli_values(const struct cli_args *args, const char *name, unsigned *ret_count);
/* A number in a range. Errors: ERROR_INVALID naming the option. */
int cli_value_u64(const struct cli_args *args, const char *name, unsigned long long least,
                  unsigned long long most, unsigned long long fallback, unsigned long long *ret,
                  struct error *err);
/* -o table|json: *ret_json. */
int cli_output(const struct cli_args *args, bool *ret_json, struct error *err);

/* Prints text from outside with control characters as '?'. */
void cli_print_plain(const char *text);

struct cli_program {
    const char *name, *summary, *exit_codes;
    const struct cli_command *commands; /* ends with a NULL name */
};
/* Finds the command and runs it; the result is main's. */
int cli_main(const struct cli_program *program, int argc, char **argv);
