/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_serve.c - `cpuagent serve`: configuration in, then serving until a signal ends it. */
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <time.h>

#include "agent.h"
#include "agent_config.h"
#include "cmd.h"
#include "log.h"

#define PROBE_INTERVAL_S 600

/* Blocked in all threads, so that only this one takes them, one after another. */
static void block_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, set, NULL);
    signal(SIGPIPE, SIG_IGN); /* children get it back, see process_run.c and shim.c */
}

static void serve(struct agent *agent, const sigset_t *set)
{
    for (;;) {
        const struct timespec interval = {.tv_sec = PROBE_INTERVAL_S};
        int number = sigtimedwait(set, NULL, &interval);
        if (number == SIGTERM || number == SIGINT) {
            log_info("cpuagent: stopping; workloads live on",
                     LOG_STR("signal", number == SIGTERM ? "SIGTERM" : "SIGINT"));
            return;
        }
        if (number == SIGHUP || (number < 0 && errno == EAGAIN))
            agent_probe(agent);
    }
}

static int serve_with(const struct agent_config *config, struct error *err)
{
    AUTO(agent) agent = NULL;
    enum log_level level = LOG_INFO;
    sigset_t set;
    log_level_from_name(config->log_level, &level);
    log_set_level(level);
    /* A thread per migration must not bring an arena of its own: the agent is to stay small. */
    mallopt(M_ARENA_MAX, 2);
    /* The large buffers of a transfer go back when it is over; smaller ones, which come and go with
     * every piece of it, are not worth a mapping each. */
    mallopt(M_MMAP_THRESHOLD, 1024 * 1024);
    block_signals(&set);
    if (agent_start(config, &agent, err) < 0)
        return -1;
    serve(agent, &set);
    return 0;
}

int cmd_serve(const struct cli_args *args, struct error *err)
{
    struct agent_config config = {0};
    if (cli_flag(args, "print-config")) {
        config_print_sample(stdout, agent_config_keys);
        return 0;
    }
    if (agent_config_load(cli_value(args, "config", AGENT_CONFIG_PATH), &config, err) < 0)
        return -1;
    int rc = serve_with(&config, err);
    agent_config_done(&config);
    return rc;
}
