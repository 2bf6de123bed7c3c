/* SPDX-License-Identifier: Apache-2.0 */
/* agent_config.c - the agent's configuration and its token. */
#include "agent_config.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "json.h"
#include "local_api.h"
#include "log.h"
#include "migration_assignment.h"

#define TOKEN_MAX_BYTES 512

#define STR(member_, fallback_, help_)                                                          \
    {                                                                                           \
        .name = #member_, .type = CONFIG_STR, .offset = offsetof(struct agent_config, member_), \
        .fallback = (fallback_), .help = (help_)                                                \
    }
#define MS(member_, fallback_, least_, most_, help_)                                            \
    {                                                                                           \
        .name = #member_, .type = CONFIG_U64, .offset = offsetof(struct agent_config, member_), \
        .fallback = (fallback_), .least = (least_), .most = (most_), .help = (help_)            \
    }

const struct config_key agent_config_keys[] = {
    STR(node, NULL, "this node's name; the host's name when it is not set"),
    STR(broker_url, "http://127.0.0.1:7070", "where the broker answers"),
    STR(token_file, "/etc/cpubroker/agent.token",
        "file that holds the agent's token alone; readable by its owner only"),
    STR(state_dir, "/var/lib/cpubroker", "journals, images on their way, workloads and their logs"),
    STR(listen, "127.0.0.1:7072", "where images from peers are taken"),
    STR(advertise, NULL,
        "the address by which peers reach `listen` and from which this node sends; `listen` when "
        "it "
        "is not set"),
    STR(socket, LOCAL_SOCKET_DEFAULT, "the Unix socket for people on this machine"),
    STR(pool, "default", "the pool that this node and its workloads belong to"),
    STR(criu, NULL, "path of CRIU; looked for when it is not set"),
    STR(cgroup_parent, NULL,
        "control group below the cgroup v2 mount for workloads; cpubroker/NODE when it is not set"),
    STR(workload_roots, NULL,
        "folders, with ':' between them, beneath which workloads may have theirs; the state folder "
        "always may"),
    STR(shim, NULL, "path of cpuagent-shim; looked for beside cpuagent when it is not set"),
    STR(tls_ca, NULL, "CA that signed the broker's and the peers' certificates"),
    STR(tls_cert, NULL, "certificate of `listen`, also shown to peers and broker"),
    STR(tls_key, NULL, "its key"),
    {.name = "allow_plain_http",
                                .type = CONFIG_BOOL,
                                .offset = offsetof(struct agent_config, allow_plain_http),
                                .fallback = "false",
                                .help = "true: images may cross the network unencrypted"},
    MS(dump_timeout_ms, "120000", 1000, 86400000, "how long a dump may take, in milliseconds"),
    MS(restore_timeout_ms, "120000", 1000, 86400000,
       "how long a restore may take, in milliseconds"),
    MS(stall_timeout_ms, "20000", 1000, 3600000,
       "how long a transfer may stand still, in milliseconds"),
    STR(log_level, "info", "debug, info, warn or error"),
    {0},
};

static int default_node(struct agent_config *config, struct error *err)
{
    char name[256] = "";
    if (config->node)
        return 0;
    if (gethostname(name, sizeof(name) - 1) < 0)
        return error_errno(err, ERROR_FAILED, "the host's name is not known; set `node`");
    free(config->node);
    config->node = xstrdup(name);
    return 0;
}

static int check_absolute(const char *key, const char *path, struct error *err)
{
    if (path && *path != '/')
        return error_set(err, ERROR_INVALID, "%s: expected an absolute path, not '%.200s'", key,
                         path);
    return 0;
}

static bool is_loopback(const char *host)
{
    struct in_addr four;
    struct in6_addr six;
    if (inet_pton(AF_INET, host, &four) == 1)
        return ntohl(four.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, host, &six) == 1)
        return IN6_IS_ADDR_LOOPBACK(&six);
    return false; /* a name may be anywhere */
}

static bool is_any(const char *host)
{
    return strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
}

static int check_listen(const struct agent_config *config, struct error *err)
{
    char host[64], advertised[64];
    if (address_host(config->listen, host, err) < 0)
        return error_wrap(err, "listen");
    if (config->advertise && address_host(config->advertise, advertised, err) < 0)
        return error_wrap(err, "advertise");
    if (!config->advertise && is_any(host))
        return error_set(err, ERROR_INVALID,
                         "listen: %s is every address; set `advertise` to the one by which peers "
                         "reach this node",
                         config->listen);
    if (!config->tls_cert && !config->allow_plain_http && !is_loopback(host))
        return error_set(err, ERROR_INVALID,
                         "listen: images hold the memory of processes, and on %s they would cross "
                         "the network unencrypted; set tls_cert, tls_key and tls_ca, or, on a "
                         "network of your own, allow_plain_http = true",
                         config->listen);
    return 0;
}

static int check_tls(const struct agent_config *config, struct error *err)
{
    if (!config->tls_cert != !config->tls_key)
        return error_set(err, ERROR_INVALID, "tls_cert and tls_key go together; %s is missing",
                         config->tls_cert ? "tls_key" : "tls_cert");
    if (config->tls_cert && !config->tls_ca)
        return error_set(err, ERROR_INVALID,
                         "tls_ca is missing: without it peers cannot be known; set it to the CA "
                         "that signed tls_cert");
    return 0;
}

static int check_url(const struct agent_config *config, struct error *err)
{
    const char *url = config->broker_url;
    if (strncmp(url, "https://", 8) == 0)
        return 0;
    if (strncmp(url, "http://", 7) != 0)
        return error_set(err, ERROR_INVALID,
                         "broker_url: expected http://HOST:PORT or https://HOST:PORT, not '%.200s'",
                         url);
    char host[64];
    autofree char *address = xstrndup(url + 7, strcspn(url + 7, "/"));
    if (config->allow_plain_http || (address_host(address, host, NULL) == 0 && is_loopback(host)))
        return 0;
    return error_set(err, ERROR_INVALID,
                     "broker_url: the agent's token would cross the network unencrypted to %.200s; "
                     "use https:// with tls_ca, or, on a network of your own, allow_plain_http = "
                     "true",
                     url);
}

static int check(const struct agent_config *config, struct error *err)
{
    enum log_level level;
    if (name_check("node", config->node, err) < 0)
        return error_wrap(err, "node");
    if (name_check("pool", config->pool, err) < 0)
        return error_wrap(err, "pool");
    if (log_level_from_name(config->log_level, &level) < 0)
        return error_set(err, ERROR_INVALID,
                         "log_level: expected debug, info, warn or error, not '%.40s'",
                         config->log_level);
    if (check_absolute("state_dir", config->state_dir, err) < 0 ||
        check_absolute("token_file", config->token_file, err) < 0 ||
        check_absolute("socket", config->socket, err) < 0 ||
        check_absolute("criu", config->criu, err) < 0 ||
        check_absolute("shim", config->shim, err) < 0)
        return -1;
    if (check_tls(config, err) < 0 || check_listen(config, err) < 0)
        return -1;
    return check_url(config, err);
}

static int read_token(struct agent_config *config, struct error *err)
{
    const char *path = config->token_file;
    autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return error_errno(err, ERROR_NOT_FOUND,
                           "cannot read token_file '%s' (`cpubroker token create --role agent` "
                           "prints a token)",
                           path);
    if (st.st_mode & 077)
        return error_set(err, ERROR_INVALID,
                         "token_file '%s' can be read by others; do: chmod 0600 %s", path, path);
    char text[TOKEN_MAX_BYTES + 2];
    ssize_t n = read(fd, text, sizeof(text) - 1);
    if (n < 0)
        return error_errno(err, ERROR_FAILED, "cannot read token_file '%s'", path);
    text[n] = '\0';
    while (n > 0 && isspace((unsigned char)text[n - 1]))
        text[--n] = '\0';
    if (n == 0 || n > TOKEN_MAX_BYTES || strlen(text) != (size_t)n || strpbrk(text, " \t\r\n"))
        return error_set(err, ERROR_INVALID,
                         "token_file '%s': expected one token of at most %d characters and nothing "
                         "else",
                         path, TOKEN_MAX_BYTES);
    config->token = xstrdup(text);
    explicit_bzero(text, sizeof(text));
    return 0;
}

int agent_config_load(const char *path, struct agent_config *ret, struct error *err)
{
    if (config_load(path, agent_config_keys, ret, err) < 0)
        return -1;
    int rc = default_node(ret, err);
    if (rc == 0 && !ret->cgroup_parent)
        ret->cgroup_parent = xasprintf("cpubroker/%s", ret->node);
    if (rc == 0)
        rc = check(ret, err);
    if (rc == 0)
        rc = read_token(ret, err);
    if (rc < 0) {
        agent_config_done(ret);
        return path ? error_wrap(err, "%s", path) : -1;
    }
    return 0;
}

void agent_config_done(struct agent_config *config)
{
    if (config->token)
        explicit_bzero(config->token, strlen(config->token));
    free(config->token);
    config_release(agent_config_keys, config);
    *config = (struct agent_config){0};
}
