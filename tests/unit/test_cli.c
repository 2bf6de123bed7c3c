/* SPDX-License-Identifier: Apache-2.0 */
/* test_cli.c - command lines: what they mean, and what is wrong with those that mean nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "cli.h"

static int succeed(const struct cli_args *args, struct error *err)
{
    (void)args;
    (void)err;
    return 0;
}

static int not_found(const struct cli_args *args, struct error *err)
{
    return error_set(err, ERROR_NOT_FOUND, "no %s", args->rest[0]);
}

static int reject_silently(const struct cli_args *args, struct error *err)
{
    (void)args;
    return error_set(err, ERROR_REJECTED, "%s", "");
}

static const struct cli_option options[] = {
    {"output",        'o', "table|json", false, "how to print"},
    {"pool",   0, "POOL", false, "a pool"},
    {"env", 'e', "NAME=VALUE", true, "a variable"},
    {"wait",          'w', NULL, false, "waits"},
    {0        },
};
static const struct cli_command plain = {"prog", "plain", "A [B]", "Does", 1, 2, options, succeed};
static const struct cli_command open_ended = {
    "prog", "run", "-- COMMAND [ARGUMENT...]", "Runs", 1, -1, options, succeed};

/* Splits at single blanks; returns argc. */
static int split(char *line, char *argv[32])
{
    int argc = 0;
    for (char *rest = line, *word; (word = strsep(&rest, " ")) != NULL && argc < 31;)
        argv[argc++] = word;
    argv[argc] = NULL;
    return argc;
}

static const struct {
    const struct cli_command *command;
    const char *line; /* with the command's name */
    const char *rest; /* operands, joined by blanks */
    const char *pool, *output;
    int wait, env;
    int help;
} good[] = {
    {&plain,      "plain x",                     "x",            "-", "-",    0, 0, 0},
    {&plain,      "plain x y",                   "x y",          "-", "-",    0, 0, 0},
    {&plain,      "plain --pool p x",            "x",            "p", "-",    0, 0, 0},
    {&plain,      "plain x --pool p",            "x",            "p", "-",    0, 0, 0},
    {&plain,      "plain x --pool=p y",          "x y",          "p", "-",    0, 0, 0},
    {&plain,      "plain x --pool= y",           "x y",          "",  "-",    0, 0, 0},
    {&plain,      "plain -o json x",             "x",            "-", "json", 0, 0, 0},
    {&plain,      "plain -ojson x",              "x",            "-", "json", 0, 0, 0},
    {&plain,      "plain --output=json x",       "x",            "-", "json", 0, 0, 0},
    {&plain,      "plain --wait x",              "x",            "-", "-",    1, 0, 0},
    {&plain,      "plain -w x -e A=1 --env B=2", "x",            "-", "-",    1, 2, 0},
    {&plain,      "plain -",                     "-",            "-", "-",    0, 0, 0},
    {&plain,      "plain -- x",                  "x",            "-", "-",    0, 0, 0},
    {&plain,      "plain -- -x",                 "-x",           "-", "-",    0, 0, 0},
    {&plain,      "plain x -- --pool",           "x --pool",     "-", "-",    0, 0, 0},
    {&plain,      "plain --help",                "",             "-", "-",    0, 0, 1},
    {&plain,      "plain x --help",              "x",            "-", "-",    0, 0, 1},
    {&open_ended, "run -- cmd --pool x",         "cmd --pool x", "-", "-",    0, 0, 0},
    {&open_ended, "run --pool p cmd -o x",       "cmd -o x",     "p", "-",    0, 0, 0},
    {&open_ended, "run -e A=1 -- cmd -- more",   "cmd -- more",  "-", "-",    0, 1, 0},
};

static void lines_mean_what_they_say(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        autofree char *line = xstrdup(good[i].line);
        char *argv[32], rest[128] = "";
        int argc = split(line, argv);
        struct cli_args args;
        bool help = false;
        struct error err = {0};
        if (cli_parse(good[i].command, argc, argv, &args, &help, &err) < 0)
            fail_msg("%s: %s", good[i].line, err.message);
        assert_int_equal(help, good[i].help);
        if (help)
            continue;
        for (int k = 0; k < args.rest_count; k++) {
            size_t used = strlen(rest);
            snprintf(rest + used, sizeof(rest) - used, "%s%s", k ? " " : "", args.rest[k]);
        }
        if (strcmp(rest, good[i].rest) != 0)
            fail_msg("%s: operands '%s', expected '%s'", good[i].line, rest, good[i].rest);
        assert_null(args.rest[args.rest_count]);
        assert_string_equal(cli_value(&args, "pool", "-"), good[i].pool);
        assert_string_equal(cli_value(&args, "output", "-"), good[i].output);
        assert_int_equal(cli_flag(&args, "wait"), good[i].wait);
        unsigned count = 0;
        cli_values(&args, "env", &count);
        assert_int_equal(count, good[i].env);
    }
}

static const struct {
    const struct cli_command *command;
    const char *line, *has;
} bad[] = {
    {&plain,      "plain",                     "expected: prog plain [OPTION...] A [B]"},
    {&plain,      "plain x y z",               "expected: prog plain"                  },
    {&plain,      "plain --nope x",            "unknown option '--nope'"               },
    {&plain,      "plain x --nope",            "unknown option '--nope'"               },
    {&plain,      "plain -x",                  "unknown option '-x'"                   },
    {&plain,      "plain --poo p x",           "unknown option '--poo'"                },
    {&plain,      "plain --pools p x",         "unknown option '--pools'"              },
    {&plain,      "plain x --pool",            "--pool expects a value: POOL"          },
    {&plain,      "plain --wait=1 x",          "--wait takes no value"                 },
    {&plain,      "plain --pool a --pool b x", "--pool is given twice"                 },
    {&plain,      "plain -w --wait x",         "--wait is given twice"                 },
    {&open_ended, "run",                       "expected: prog run"                    },
    {&open_ended, "run --",                    "expected: prog run"                    },
};

static void mistakes_are_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        autofree char *line = xstrdup(bad[i].line);
        char *argv[32];
        int argc = split(line, argv);
        struct cli_args args;
        bool help = false;
        struct error err = {0};
        assert_int_equal(cli_parse(bad[i].command, argc, argv, &args, &help, &err), -1);
        assert_int_equal(err.kind, ERROR_INVALID);
        if (!strstr(err.message, bad[i].has))
            fail_msg("%s: '%s', expected '%s'", bad[i].line, err.message, bad[i].has);
    }
}

static void an_option_is_not_repeated_without_end(void **state)
{
    (void)state;
    char *argv[2 * CLI_REPEATS_MAX + 8];
    int argc = 0;
    argv[argc++] = "plain";
    for (int i = 0; i <= CLI_REPEATS_MAX; i++) {
        argv[argc++] = "-e";
        argv[argc++] = "A=1";
    }
    argv[argc++] = "x";
    argv[argc] = NULL;
    struct cli_args args;
    bool help = false;
    struct error err = {0};
    assert_int_equal(cli_parse(&plain, argc, argv, &args, &help, &err), -1);
    assert_non_null(strstr(err.message, "more than 64 times"));
}

static void numbers_keep_their_range(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool ok;
    } values[] = {
        {"1",                    true },
        {"10",                   true },
        {"0",                    false},
        {"11",                   false},
        {"-1",                   false},
        {"",                     false},
        {"5x",                   false},
        {"+5",                   false},
        {" 5",                   false},
        {"0x5",                  false},
        {"99999999999999999999", false}
    };
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        autofree char *option = xasprintf("--pool=%s", values[i].text);
        char *argv[] = {"plain", option, "x", NULL};
        struct cli_args args;
        bool help = false;
        unsigned long long number = 0;
        assert_int_equal(cli_parse(&plain, 3, argv, &args, &help, NULL), 0);
        struct error err = {0};
        if ((cli_value_u64(&args, "pool", 1, 10, 7, &number, &err) == 0) != values[i].ok)
            fail_msg("'%s': %s", values[i].text, err.message);
    }
    char *argv[] = {"plain", "x", NULL};
    struct cli_args args;
    bool help = false;
    unsigned long long number = 0;
    assert_int_equal(cli_parse(&plain, 2, argv, &args, &help, NULL), 0);
    assert_int_equal(cli_value_u64(&args, "pool", 1, 10, 7, &number, NULL), 0);
    assert_int_equal(number, 7);
}

static void output_is_table_or_json(void **state)
{
    (void)state;
    static const struct {
        const char *option;
        int rc, json;
    } forms[] = {
        {"-otable", 0,  0},
        {"-ojson",  0,  1},
        {"-oxml",   -1, 0},
        {"-w",      0,  0}
    };
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        autofree char *option = xstrdup(forms[i].option);
        char *argv[] = {"plain", option, "x", NULL};
        struct cli_args args;
        bool help = false, json = false;
        assert_int_equal(cli_parse(&plain, 3, argv, &args, &help, NULL), 0);
        assert_int_equal(cli_output(&args, &json, NULL), forms[i].rc);
        assert_int_equal(json, forms[i].json);
    }
}

static const struct cli_command commands[] = {
    {"prog",   "nodes", "", "Lists", 0, 0, options, succeed},
    {"prog",      "nodes show", "NODE", "Shows", 1, 1, options, not_found},
    {"prog",       "check", "", "Judges", 0, 0, options, reject_silently},
    {0},
};

static void exit_codes_tell_how_it_went(void **state)
{
    (void)state;
    static const struct cli_program program = {"prog", "Does things.", "0 done", commands};
    static const struct {
        const char *line;
        int status;
    } lines[] = {
        {"prog",                   2},
        {"prog --help",            0},
        {"prog -h",                0},
        {"prog --version",         0},
        {"prog nodes",             0},
        {"prog nodes --help",      0},
        {"prog nodes show x",      4},
        {"prog nodes show",        2},
        {"prog nodes show --help", 0},
        {"prog nodes --nope",      2},
        {"prog nodes shown",       2},
        {"prog node",              2},
        {"prog check",             1},
        {"prog show",              2},
    };
    fflush(stdout);
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        autofree char *line = xstrdup(lines[i].line);
        char *argv[32];
        int argc = split(line, argv);
        int status = cli_main(&program, argc, argv);
        if (status != lines[i].status)
            fail_msg("%s: %d, expected %d", lines[i].line, status, lines[i].status);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_mean_what_they_say),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(an_option_is_not_repeated_without_end),
        cmocka_unit_test(numbers_keep_their_range),
        cmocka_unit_test(output_is_table_or_json),
        cmocka_unit_test(exit_codes_tell_how_it_went),
    };
    return cmocka_run_group_tests_name("cli", tests, NULL, NULL);
}
