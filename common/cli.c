/* SPDX-License-Identifier: Apache-2.0 */
/* cli.c - command lines by the table: parsing, help, dispatch. */
#include "cli.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"

static int find_option(const struct cli_command *command, const char *name, size_t length)
{
    for (int i = 0; command->options[i].name; i++)
        if (strlen(command->options[i].name) == length &&
            strncmp(command->options[i].name, name, length) == 0)
            return i;
    return -1;
}

static int find_letter(const struct cli_command *command, char letter)
{
    for (int i = 0; command->options[i].name; i++)
        if (command->options[i].letter && command->options[i].letter == letter)
            return i;
    return -1;
}

static int take_value(const struct cli_option *option, int index, const char *value,
                      struct cli_args *ret, struct error *err)
{
    unsigned *count = &ret->counts[index];
    if (*count && !option->repeats)
        return error_set(err, ERROR_INVALID, "--%s is given twice", option->name);
    if (*count >= CLI_REPEATS_MAX)
        return error_set(err, ERROR_INVALID, "--%s is given more than %d times", option->name,
                         CLI_REPEATS_MAX);
    ret->values[index][(*count)++] = value;
    return 0;
}

/* The option in argv[*at]; moves *at over a value in the next argument. */
static int take_option(const struct cli_command *command, int argc, char **argv, int *at,
                       struct cli_args *ret, struct error *err)
{
    const char *text = argv[*at], *value = NULL;
    bool is_long = text[1] == '-';
    int index;
    if (is_long) {
        size_t length = strcspn(text + 2, "=");
        index = find_option(command, text + 2, length);
        value = text[2 + length] == '=' ? text + 2 + length + 1 : NULL;
    } else {
        index = find_letter(command, text[1]);
        value = text[2] ? text + 2 : NULL;
    }
    if (index < 0)
        return error_set(err, ERROR_INVALID, "unknown option '%.60s'; see `%s %s --help`", text,
                         command->program, command->name);
    const struct cli_option *option = &command->options[index];
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

int cli_parse(const struct cli_command *command, int argc, char **argv, struct cli_args *ret,
              bool *ret_help, struct error *err)
{
    memset(ret, 0, sizeof(*ret));
    ret->command = command;
    *ret_help = false;
    int at = 1;
    bool only_operands = false; /* after "--" */
    for (; at < argc && *argv[at] == '-' && argv[at][1]; at++) {
        if (strcmp(argv[at], "--") == 0) {
            only_operands = true;
            at++;
            break;
        }
        if (strcmp(argv[at], "--help") == 0 || strcmp(argv[at], "-h") == 0) {
            *ret_help = true;
            return 0;
        }
        if (take_option(command, argc, argv, &at, ret, err) < 0)
            return -1;
    }
    ret->rest = argv + at;
    ret->rest_count = argc - at;
    /* Options may also follow the operands, where those are counted: `stop w1 --timeout 5`. */
    if (command->most >= 0) {
        char **operands = argv + at;
        int kept = 0;
        for (int i = at; i < argc; i++) {
            if (only_operands || *argv[i] != '-' || !argv[i][1]) {
                operands[kept++] = argv[i];
            } else if (strcmp(argv[i], "--") == 0) {
                only_operands = true;
            } else if (strcmp(argv[i], "--help") == 0) {
                *ret_help = true;
                return 0;
            } else if (take_option(command, argc, argv, &i, ret, err) < 0) {
                return -1;
            }
        }
        ret->rest_count = kept;
        operands[kept] = NULL;
    }
    if (ret->rest_count < command->least || (command->most >= 0 && ret->rest_count > command->most))
        return error_set(err, ERROR_INVALID, "expected: %s %s [OPTION...]%s%s", command->program,
                         command->name, *command->operands ? " " : "", command->operands);
    return 0;
}

void cli_print_help(const struct cli_command *command)
{
    printf("Usage: %s %s [OPTION...]%s%s\n%s.\n\nOptions:\n", command->program, command->name,
           *command->operands ? " " : "", command->operands, command->summary);
    for (const struct cli_option *o = command->options; o->name; o++) {
        char left[64], letter[8] = "";
        if (o->letter)
            snprintf(letter, sizeof(letter), "-%c, ", o->letter);
        snprintf(left, sizeof(left), "%s--%s%s%s", letter, o->name, o->argument ? " " : "",
                 o->argument ? o->argument : "");
        printf("  %-26s %s\n", left, o->help);
    }
    printf("  %-26s %s\n", "--help", "print this and exit");
}

static int index_of(const struct cli_args *args, const char *name)
{
    int index = find_option(args->command, name, strlen(name));
    assert(index >= 0);
    return index;
}

const char *cli_value(const struct cli_args *args, const char *name, const char *fallback)
{
    int i = index_of(args, name);
    return args->counts[i] ? args->values[i][args->counts[i] - 1] : fallback;
}

bool cli_flag(const struct cli_args *args, const char *name)
{
    return args->counts[index_of(args, name)] > 0;
}

const char *const *cli_values(const struct cli_args *args, const char *name, unsigned *ret_count)
{
    int i = index_of(args, name);
    *ret_count = args->counts[i];
    return args->values[i];
}

int cli_value_u64(const struct cli_args *args, const char *name, unsigned long long least,
                  unsigned long long most, unsigned long long fallback, unsigned long long *ret,
                  struct error *err)
{
    const char *text = cli_value(args, name, NULL);
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

int cli_output(const struct cli_args *args, bool *ret_json, struct error *err)
{
    const char *form = cli_value(args, "output", "table");
    if (strcmp(form, "table") != 0 && strcmp(form, "json") != 0)
        return error_set(err, ERROR_INVALID, "--output: expected table or json, not '%.60s'", form);
    *ret_json = strcmp(form, "json") == 0;
    return 0;
}

void cli_print_plain(const char *text)
{
    for (; *text; text++)
        putchar((unsigned char)*text < ' ' || *text == 0x7f ? '?' : *text);
}

static void print_usage(FILE *out, const struct cli_program *program)
{
    fprintf(out, "Usage: %s COMMAND [OPTION...]\n%s\n\nCommands:\n", program->name,
            program->summary);
    for (const struct cli_command *c = program->commands; c->name; c++)
        fprintf(out, "  %-20s %s\n", c->name, c->summary);
    fprintf(out,
            "\n`%s COMMAND --help` tells of a command's options; `%s --version` of the version.\n"
            "Exit codes: %s.\n",
            program->name, program->name, program->exit_codes);
}

static int run_command(const struct cli_command *command, int argc, char **argv)
{
    static struct cli_args args; /* large, and needed once */
    struct error err = {0};
    bool help = false;
    if (cli_parse(command, argc, argv, &args, &help, &err) == 0) {
        if (help) {
            cli_print_help(command);
            return 0;
        }
        if (command->run(&args, &err) == 0)
            return 0;
    }
    if (*err.message)
        fprintf(stderr, "%s %s: %s\n", command->program, command->name, err.message);
    return error_exit_code(err.kind);
}

/* How many of the words in argv name this command; 0 when they do not. */
static int words_of(const struct cli_command *command, int argc, char **argv)
{
    const char *space = strchr(command->name, ' ');
    if (!space)
        return strcmp(argv[0], command->name) == 0 ? 1 : 0;
    size_t length = (size_t)(space - command->name);
    return argc > 1 && strlen(argv[0]) == length && strncmp(argv[0], command->name, length) == 0 &&
                   strcmp(argv[1], space + 1) == 0
               ? 2
               : 0;
}

int cli_main(const struct cli_program *program, int argc, char **argv)
{
    if (argc < 2) {
        print_usage(stderr, program);
        return error_exit_code(ERROR_INVALID);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_usage(stdout, program);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("%s %s\n", program->name, CPUBROKER_VERSION);
        return 0;
    }
    for (int words = 2; words > 0; words--)
        for (const struct cli_command *c = program->commands; c->name; c++)
            if (words_of(c, argc - 1, argv + 1) == words)
                return run_command(c, argc - words, argv + words);
    fprintf(stderr, "%s: no command '%.60s'; `%s --help` lists them\n", program->name, argv[1],
            program->name);
    return error_exit_code(ERROR_INVALID);
}
