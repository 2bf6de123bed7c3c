/* SPDX-License-Identifier: Apache-2.0 */
/* agent_config.h - what cpuagent.conf may say; one table gives keys, defaults and help. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "error.h"

#define AGENT_CONFIG_PATH "/etc/cpubroker/cpuagent.conf"

struct agent_config { /* strings are owned */
    char *node;
    char *broker_url;
    char *token_file;
    char *state_dir;
    char *listen;
    char *advertise; /* NULL: the address that is really listened on */
    char *socket;
    char *pool;
    char *criu; /* NULL: found by itself */
    char *cgroup_parent;
    char *workload_roots;
    char *shim; /* NULL: beside the running binary */
    char *tls_ca, *tls_cert, *tls_key;
    bool allow_plain_http;
    uint64_t dump_timeout_ms, restore_timeout_ms, stall_timeout_ms;
    char *log_level;

    char *token; /* owned; from token_file */
};

extern const struct config_key agent_config_keys[];

/* Reads `path` and the token, fills in what depends on this machine (the node's name) and checks
 * it as a whole. *ret is zeroed by the caller. Errors: ERROR_INVALID, ERROR_NOT_FOUND, in one
 * sentence that says what to do. */
int agent_config_load(const char *path, struct agent_config *ret, struct error *err);
void agent_config_done(struct agent_config *config);
