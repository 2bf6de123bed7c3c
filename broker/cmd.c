/* SPDX-License-Identifier: Apache-2.0 */
/* cmd.c - what the sub-commands of `cpubroker` share. */
#include "cmd.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
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
    if (cmd_client(args, &client, err) < 0)
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

/* What a process meets that uses a feature which is not there. */
static const struct {
    const char *effect, *words;
} effects[] = {
    {"sigill",     "missing, a process that uses one dies of SIGILL"                        },
    {"silent",     "missing, a process that uses one computes wrong results without a fault"},
    {"corruption", "missing, saved registers or memory would be corrupted"                  },
    {"hint",       "missing, only slower without"                                           },
};

/* Dozens of features can be missing: they are listed by effect, not told one by one. */
static void print_missing(json_object *reasons, const char *effect, const char *words)
{
    int column = 0;
    for (size_t i = 0; i < json_array_size(reasons); i++) {
        json_object *reason = json_array_item(reasons, i);
        const char *feature = json_str(reason, "feature");
        if (!*feature || strcmp(json_str(reason, "effect"), effect) != 0)
            continue;
        if (column == 0) {
            printf("  %s: %s:\n          ", json_str(reason, "severity"), words);
            column = 10;
        }
        if (column + (int)strlen(feature) > 96) {
            fputs("\n          ", stdout);
            column = 10;
        }
        column += printf("%s ", feature);
    }
    if (column)
        putchar('\n');
}

static void print_reason(json_object *reason)
{
    const char *remedy = json_str(reason, "remedy");
    printf("  %s: %s: ", json_str(reason, "severity"), json_str(reason, "code"));
    cli_print_plain(json_str(reason, "message"));
    putchar('\n');
    if (*remedy) {
        fputs("          what to do: ", stdout);
        cli_print_plain(remedy);
        putchar('\n');
    }
}

void cmd_print_verdict(json_object *verdict)
{
    json_object *reasons = json_member(verdict, "reasons");
    const char *to = json_str(verdict, "to");
    printf("%s: from %s to %s\n", json_str(verdict, "verdict"), json_str(verdict, "from"),
           *to ? to : "(no node)");
    for (size_t i = 0; i < ARRAY_LEN(effects); i++)
        print_missing(reasons, effects[i].effect, effects[i].words);
    for (size_t i = 0; i < json_array_size(reasons); i++)
        if (!*json_str(json_array_item(reasons, i), "feature"))
            print_reason(json_array_item(reasons, i));
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
