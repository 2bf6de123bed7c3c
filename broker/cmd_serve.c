/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_serve.c - `cpubroker serve`: configuration in, then serving until a signal ends it. */
#include <signal.h>
#include <stdio.h>

#include "broker.h"
#include "cmd.h"
#include "log.h"

#define CONFIG_PATH "/etc/cpubroker/cpubroker.conf"

static int serve(struct broker *broker, const sigset_t *set, struct error *err)
{
    int number = 0;
    if (broker_start(broker, err) < 0)
        return -1;
    log_info("cpubroker: listening", LOG_STR("address", broker_address(broker)));
    sigwait(set, &number);
    log_info("cpubroker: stopping", LOG_STR("signal", number == SIGTERM ? "SIGTERM" : "SIGINT"));
    return 0;
}

int cmd_serve(const struct cli_args *args, struct error *err)
{
    struct broker_config config = {0};
    AUTO(broker) broker = NULL;
    enum log_level level = LOG_INFO;
    sigset_t set;
    if (cli_flag(args, "print-config")) {
        config_print_sample(stdout, broker_config_keys);
        return 0;
    }
    if (config_load(cli_value(args, "config", CONFIG_PATH), broker_config_keys, &config, err) < 0)
        return -1;
    if (log_level_from_name(config.log_level, &level) < 0) {
        error_set(err, ERROR_INVALID, "log_level: expected debug, info, warn or error, not '%.40s'",
                  config.log_level);
        config_release(broker_config_keys, &config);
        return -1;
    }
    log_set_level(level);
    /* Blocked in all threads, so that only this one takes them. */
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    if (broker_open(&config, &clock_system, &broker, err) < 0)
        return -1;
    return serve(broker, &set, err);
}

static void roles_text(unsigned roles, char *text, size_t size)
{
    static const enum role all[] = {
#define X(role, name, bit) ROLE_##role,
        ROLES(X)
#undef X
    };
    size_t used = (size_t)snprintf(text, size, "%s", roles ? "" : "anybody");
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        if (roles & all[i])
            used += (size_t)snprintf(text + used, size - used, "%s%s", used ? "," : "",
                                     role_name(all[i]));
}

int cmd_routes(const struct cli_args *args, struct error *err)
{
    (void)args;
    (void)err;
    for (const struct http_route *r = broker_routes; r->method; r++) {
        char roles[64];
        roles_text(r->roles, roles, sizeof(roles));
        printf("%-6s %-36s %-24s %s\n", r->method, r->path, roles, r->summary);
    }
    return 0;
}
