/* SPDX-License-Identifier: Apache-2.0 */
/* cmd.c - what the sub-commands of `cpubroker` share. */
#include "cmd.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "clock.h"

#define CALL_TIMEOUT_MS 30000
#define TOKEN_MAX_BYTES 256

static const char *option_or_env(const struct cli_args *args, const char *option,
                                 const char *variable, const char *fallback)
{
    const char *value = getenv(variable);
    return cli_value(args, option, value && *value ? value : fallback);
}

/* The token in the file, without its newline. A default file that is not there or not for us is
 * no error: the broker will say that a token is needed. */
static int read_token(const char *path, bool must, char token[TOKEN_MAX_BYTES], struct error *err)
{
    *token = '\0';
    autoclose int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return must ? error_errno(err, ERROR_INVALID, "cannot read the token file '%s'", path) : 0;
    ssize_t n = read(fd, token, TOKEN_MAX_BYTES - 1);
    if (n < 0)
        return error_errno(err, ERROR_INVALID, "cannot read the token file '%s'", path);
    token[n] = '\0';
    token[strcspn(token, " \t\r\n")] = '\0';
    if (!*token)
        return error_set(err, ERROR_INVALID, "the token file '%s' holds no token", path);
    return 0;
}

int cmd_client(const struct cli_args *args, struct client **ret, struct error *err)
{
    char token[TOKEN_MAX_BYTES];
    const char *path = option_or_env(args, "token-file", "CPUBROKER_TOKEN_FILE", NULL);
    if (read_token(path ? path : CMD_TOKEN_FILE_DEFAULT, path != NULL, token, err) < 0)
        return -1;
    const struct client_config config = {
        .base_url = option_or_env(args, "broker", "CPUBROKER_URL", CMD_BROKER_DEFAULT),
        .token = *token ? token : NULL,
        .ca_file = option_or_env(args, "ca-file", "CPUBROKER_CA_FILE", NULL),
        .timeout_ms = CALL_TIMEOUT_MS,
    };
    int rc = client_new(&config, ret, err);
    explicit_bzero(token, sizeof(token));
    return rc;
}

int cmd_call(const struct cli_args *args, const char *method, const char *path, json_object *body,
             json_object **ret, bool *ret_rejected, struct error *err)
{
    AUTO(client) client = NULL;
    autojson *reply = NULL;
    struct error refusal = {0};
    bool is_json = false;
    if (cli_output(args, &is_json, err) < 0 || cmd_client(args, &client, err) < 0)
        return -1;
    *ret_rejected = false;
    if (client_request(client, method, path, body, &reply, &refusal) < 0) {
        if (!reply || !json_member(reply, "verdict") || json_member(reply, "error"))
            return err ? (*err = refusal, -1) : -1;
        *ret_rejected = true;
    }
    *ret = steal_ptr(&reply);
    return 0;
}

int cmd_print_json(const struct cli_args *args, json_object *reply, bool *ret_printed,
                   struct error *err)
{
    if (cli_output(args, ret_printed, err) < 0)
        return -1;
    if (*ret_printed) {
        autofree char *text = json_text_pretty(reply);
        puts(text);
    }
    return 0;
}

int cmd_change(const struct cli_args *args, const char *method, const char *path, json_object *body,
               struct error *err, const char *format, ...)
{
    autojson *reply = NULL;
    bool rejected = false, is_json = false;
    if (cmd_call(args, method, path, body, &reply, &rejected, err) < 0 ||
        cli_output(args, &is_json, err) < 0)
        return -1;
    if (is_json)
        return reply ? cmd_print_json(args, reply, &is_json, err) : 0;
    va_list ap;
    va_start(ap, format);
    vprintf(format, ap);
    va_end(ap);
    putchar('\n');
    return 0;
}

void cmd_print_line(const char *label, const char *text)
{
    printf("%-10s ", label);
    cli_print_plain(*text ? text : "-");
    putchar('\n');
}

void cmd_print_names(const char *indent, json_object *names)
{
    size_t column = strlen(indent);
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *name = json_item_str(names, i);
        if (column + 1 + strlen(name) > 96) {
            printf("\n%s", indent);
            column = strlen(indent);
        }
        putchar(' ');
        cli_print_plain(name);
        column += 1 + strlen(name);
    }
    putchar('\n');
}

/* Reasons that can come by the dozen, and what a process meets that relies on such a feature. */
struct listed {
    const char *severity, *code, *effect, *words;
};
static const struct listed listed[] = {
    {"reject", "missing_feature",  "sigill",     "a process that uses one of these dies of SIGILL"},
    {"reject", "missing_feature",  "silent",
     "a process that uses one of these reckons wrong, without a fault"                            },
    {"reject", "missing_feature",  "corruption",
     "a process that uses one of these loses registers or memory"                                 },
    {"warn",   "evidence_awaited", "sigill",
     "the look at the live workload has to prove that it does not use these"                      },
    {"warn",   "feature_unused",   "",
     "the target lacks these; let pass, for the look at the live workload proved them unused"     },
    {"warn",   "hint_missing",     "hint",       "a process is only slower without these"         },
};

#define ONE_BY_ONE_MAX 3 /* reasons of one effect that are told singly */

static void print_remedy(const char *remedy)
{
    if (!*remedy)
        return;
    fputs("      what to do: ", stdout);
    cli_print_plain(remedy);
    putchar('\n');
}

static void print_reason(json_object *reason)
{
    const char *feature = json_str(reason, "feature"), *effect = json_str(reason, "effect");
    printf("  %-6s %s", json_str(reason, "severity"), json_str(reason, "code"));
    if (*feature)
        printf(" %s", feature);
    if (*effect)
        printf(" (%s)", effect);
    fputs(": ", stdout);
    cli_print_plain(json_str(reason, "message"));
    putchar('\n');
    print_remedy(json_str(reason, "remedy"));
}

static bool is_of(json_object *reason, const struct listed *group)
{
    return strcmp(json_str(reason, "severity"), group->severity) == 0 &&
           strcmp(json_str(reason, "code"), group->code) == 0 &&
           strcmp(json_str(reason, "effect"), group->effect) == 0 && *json_str(reason, "feature");
}

static bool is_listed(json_object *reason)
{
    for (size_t i = 0; i < ARRAY_LEN(listed); i++)
        if (is_of(reason, &listed[i]))
            return true;
    return false;
}

/* Nobody reads dozens of reasons one by one: the features are named under what they share. */
static void print_listed(json_object *reasons, const struct listed *group)
{
    autojson *names = json_object_new_array();
    for (size_t i = 0; i < json_array_size(reasons); i++) {
        const char *feature = json_str(json_array_item(reasons, i), "feature");
        if (is_of(json_array_item(reasons, i), group))
            json_object_array_add(names, json_object_new_string(feature));
    }
    if (json_array_size(names) > ONE_BY_ONE_MAX) {
        printf("  %-6s %s%s%s%s: %s:\n        ", group->severity, group->code,
               *group->effect ? " (" : "", group->effect, *group->effect ? ")" : "", group->words);
        cmd_print_names("        ", names);
        if (strcmp(group->severity, "reject") == 0)
            print_remedy("choose a target that has them all, or start the workload under a pool's "
                         "mask that leaves them out");
        return;
    }
    for (size_t i = 0; i < json_array_size(reasons); i++)
        if (is_of(json_array_item(reasons, i), group))
            print_reason(json_array_item(reasons, i));
}

static void print_reasons(json_object *reasons, const char *severity)
{
    for (size_t i = 0; i < json_array_size(reasons); i++) {
        json_object *reason = json_array_item(reasons, i);
        if (strcmp(json_str(reason, "severity"), severity) == 0 && !is_listed(reason))
            print_reason(reason);
    }
    for (size_t i = 0; i < ARRAY_LEN(listed); i++)
        if (strcmp(listed[i].severity, severity) == 0)
            print_listed(reasons, &listed[i]);
}

void cmd_print_look(json_object *look)
{
    char age[32];
    if (!look)
        return;
    cmd_age(json_int(look, "at_ms"), age);
    printf("  with a look at the live workload on %s, %s (migration %s)\n", json_str(look, "node"),
           age, json_str(look, "migration"));
}

void cmd_print_verdict(json_object *verdict)
{
    json_object *reasons = json_member(verdict, "reasons");
    const char *from = json_str(verdict, "from"), *to = json_str(verdict, "to");
    printf("%s: from %s to %s\n", json_str(verdict, "verdict"), *from ? from : "(no node)",
           *to ? to : "(no node)");
    if (*json_str(verdict, "mask")) {
        fputs("  ", stdout);
        cli_print_plain(json_str(verdict, "mask"));
        putchar('\n');
    }
    print_reasons(reasons, "reject");
    print_reasons(reasons, "warn");
    cmd_print_look(json_member(verdict, "evidence"));
}

int cmd_rejected(struct error *err)
{
    return error_set(err, ERROR_REJECTED, "%s", "");
}

char *cmd_path(const char *before, const char *name, const char *after)
{
    autofree char *escaped = client_escape(name);
    return xasprintf("%s%s%s", before, escaped, after);
}

void cmd_age(int64_t at_ms, char text[32])
{
    int64_t seconds = (clock_unix_ms(&clock_system) - at_ms) / 1000;
    if (at_ms <= 0)
        snprintf(text, 32, "never");
    else if (seconds < 120)
        snprintf(text, 32, "%" PRId64 " s ago", seconds < 0 ? 0 : seconds);
    else if (seconds < 7200)
        snprintf(text, 32, "%" PRId64 " min ago", seconds / 60);
    else if (seconds < 172800)
        snprintf(text, 32, "%" PRId64 " h ago", seconds / 3600);
    else
        snprintf(text, 32, "%" PRId64 " days ago", seconds / 86400);
}
