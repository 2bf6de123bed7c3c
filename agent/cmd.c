/* SPDX-License-Identifier: Apache-2.0 */
/* cmd.c - command lines by the table: parsing, help, and what the sub-commands share. */
#include "cmd.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "local_api.h"

#define LOCAL_TIMEOUT_MS 120000 /* a stop may wait long for the workload */

static int find_option(const struct cmd *cmd, const char *name, size_t length)
{
    for (int i = 0; cmd->options[i].name; i++)
        if (strlen(cmd->options[i].name) == length &&
            strncmp(cmd->options[i].name, name, length) == 0)
            return i;
    return -1;
}

static int find_letter(const struct cmd *cmd, char letter)
{
    for (int i = 0; cmd->options[i].name; i++)
        if (cmd->options[i].letter && cmd->options[i].letter == letter)
            return i;
    return -1;
}

static int take_value(const struct cmd_option *option, int index, const char *value,
                      struct cmd_args *ret, struct error *err)
{
    unsigned *count = &ret->counts[index];
    if (*count && !option->repeats)
        return error_set(err, ERROR_INVALID, "--%s is given twice", option->name);
    if (*count >= CMD_REPEATS_MAX)
        return error_set(err, ERROR_INVALID, "--%s is given more than %d times", option->name,
                         CMD_REPEATS_MAX);
    ret->values[index][(*count)++] = value;
    return 0;
}

/* The option in argv[*at]; moves *at over a value in the next argument. */
static int take_option(const struct cmd *cmd, int argc, char **argv, int *at, struct cmd_args *ret,
                       struct error *err)
{
    const char *text = argv[*at], *value = NULL;
    bool is_long = text[1] == '-';
    int index;
    if (is_long) {
        size_t length = strcspn(text + 2, "=");
        index = find_option(cmd, text + 2, length);
        value = text[2 + length] == '=' ? text + 2 + length + 1 : NULL;
    } else {
        index = find_letter(cmd, text[1]);
        value = text[2] ? text + 2 : NULL;
    }
    if (index < 0)
        return error_set(err, ERROR_INVALID, "unknown option '%.60s'; see `cpuagent %s --help`",
                         text, cmd->name);
    const struct cmd_option *option = &cmd->options[index];
    if (!option->argument) {
        if (value)
            return error_set(err, ERROR_INVALID, "--%s takes no value", option->name);
        return take_value(option, index, "", ret, err);
    }
    if (!value && *at + 1 < argc)
        value = argv[++*at];
    if (!value)
        return error_set(err, ERROR_INVALID, "--%s expects a value: %s", option->name,
                         option->argument);
    return take_value(option, index, value, ret, err);
}

int cmd_parse(const struct cmd *cmd, int argc, char **argv, struct cmd_args *ret, bool *ret_help,
              struct error *err)
{
    memset(ret, 0, sizeof(*ret));
    ret->cmd = cmd;
    *ret_help = false;
    int at = 1;
    for (; at < argc && *argv[at] == '-' && argv[at][1]; at++) {
        if (strcmp(argv[at], "--") == 0) {
            at++;
            break;
        }
        if (strcmp(argv[at], "--help") == 0 || strcmp(argv[at], "-h") == 0) {
            *ret_help = true;
            return 0;
        }
        if (take_option(cmd, argc, argv, &at, ret, err) < 0)
            return -1;
    }
    ret->rest = argv + at;
    ret->rest_count = argc - at;
    /* Options may also follow the operands, where those are counted: `stop w1 --timeout 5`. */
    if (cmd->most >= 0 && ret->rest_count > cmd->most) {
        char **operands = argv + at;
        int kept = 0;
        for (int i = at; i < argc; i++) {
            if (strcmp(argv[i], "--help") == 0) {
                *ret_help = true;
                return 0;
            }
            if (*argv[i] == '-' && argv[i][1]) {
                if (take_option(cmd, argc, argv, &i, ret, err) < 0)
                    return -1;
            } else {
                operands[kept++] = argv[i];
            }
        }
        ret->rest_count = kept;
        operands[kept] = NULL;
    }
    if (ret->rest_count < cmd->least || (cmd->most >= 0 && ret->rest_count > cmd->most))
        return error_set(err, ERROR_INVALID, "expected: cpuagent %s [OPTION...]%s%s", cmd->name,
                         *cmd->operands ? " " : "", cmd->operands);
    return 0;
}

void cmd_print_help(const struct cmd *cmd)
{
    printf("Usage: cpuagent %s [OPTION...]%s%s\n%s.\n\nOptions:\n", cmd->name,
           *cmd->operands ? " " : "", cmd->operands, cmd->summary);
    for (const struct cmd_option *o = cmd->options; o->name; o++) {
        char left[64], letter[8] = "";
        if (o->letter)
            snprintf(letter, sizeof(letter), "-%c, ", o->letter);
        snprintf(left, sizeof(left), "%s--%s%s%s", letter, o->name, o->argument ? " " : "",
                 o->argument ? o->argument : "");
        printf("  %-26s %s\n", left, o->help);
    }
    printf("  %-26s %s\n", "--help", "print this and exit");
}

static int index_of(const struct cmd_args *args, const char *name)
{
    int index = find_option(args->cmd, name, strlen(name));
    assert(index >= 0);
    return index;
}

const char *cmd_value(const struct cmd_args *args, const char *name, const char *fallback)
{
    int i = index_of(args, name);
    return args->counts[i] ? args->values[i][args->counts[i] - 1] : fallback;
}

bool cmd_flag(const struct cmd_args *args, const char *name)
{
    return args->counts[index_of(args, name)] > 0;
}

const char *const *cmd_values(const struct cmd_args *args, const char *name, unsigned *ret_count)
{
    int i = index_of(args, name);
    *ret_count = args->counts[i];
    return args->values[i];
}

int cmd_value_u64(const struct cmd_args *args, const char *name, unsigned long long least,
                  unsigned long long most, unsigned long long fallback, unsigned long long *ret,
                  struct error *err)
{
    const char *text = cmd_value(args, name, NULL);
    char *end = NULL;
    *ret = fallback;
    if (!text)
        return 0;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)*text) || *end || errno || value < least || value > most)
        return error_set(err, ERROR_INVALID, "--%s: expected a number %llu..%llu, not '%.60s'",
                         name, least, most, text);
    *ret = value;
    return 0;
}

int cmd_output(const struct cmd_args *args, bool *ret_json, struct error *err)
{
    const char *form = cmd_value(args, "output", "table");
    if (strcmp(form, "table") != 0 && strcmp(form, "json") != 0)
        return error_set(err, ERROR_INVALID, "--output: expected table or json, not '%.60s'", form);
    *ret_json = strcmp(form, "json") == 0;
    return 0;
}

int cmd_local_client(const struct cmd_args *args, struct client **ret, struct error *err)
{
    const char *from_environment = getenv("CPUAGENT_SOCKET");
    struct client_config config = {
        .base_url = "http://cpuagent",
        .unix_socket = cmd_value(args, "socket",
                                 from_environment && *from_environment ? from_environment
                                                                       : LOCAL_SOCKET_DEFAULT),
        .timeout_ms = LOCAL_TIMEOUT_MS,
    };
    return client_new(&config, ret, err);
}

void cmd_print_plain(const char *text)
{
    for (; *text; text++)
        putchar((unsigned char)*text < ' ' || *text == 0x7f ? '?' : *text);
}
