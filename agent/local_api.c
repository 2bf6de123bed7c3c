/* SPDX-License-Identifier: Apache-2.0 */
/* local_api.c - the routes of the agent's Unix socket. */
#include "local_api.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "cleanup.h"
#include "file.h"
#include "mask_environment.h"
#include "process.h"

#define ROLE_LOCAL          1 /* root, or a member of the group */
#define COMMAND_ITEMS_MAX   4096
#define ENV_ITEMS_MAX       4096
#define RUN_BODY_MAX_BYTES  (2UL * 1024 * 1024)
#define SMALL_BODY_BYTES    4096
#define STOP_TIMEOUT_MAX_MS 600000
#define STOP_TIMEOUT_MS     10000
#define GROUPS_MAX          1024

struct local_api {
    struct local_api_config config; /* its strings are owned */
    struct http_server *server;
    bool group_exists;
    gid_t group;
};

/* --- who asks ------------------------------------------------------------------------------ */

/* The primary group of a user; the uid itself as a number where nobody has that uid. */
static gid_t group_of(uid_t uid)
{
    struct passwd entry, *found = NULL;
    char buffer[8192];
    if (uid == 0)
        return 0;
    if (getpwuid_r(uid, &entry, buffer, sizeof(buffer), &found) == 0 && found)
        return found->pw_gid;
    return (gid_t)uid;
}

static bool in_group(uid_t uid, gid_t group)
{
    struct passwd entry, *found = NULL;
    char buffer[8192];
    gid_t groups[GROUPS_MAX];
    int count = GROUPS_MAX;
    if (getpwuid_r(uid, &entry, buffer, sizeof(buffer), &found) != 0 || !found ||
        getgrouplist(found->pw_name, found->pw_gid, groups, &count) < 0)
        return false;
    for (int i = 0; i < count; i++)
        if (groups[i] == group)
            return true;
    return false;
}

/* The socket's mode has let nobody else in; it is asked again, for a mode can be changed. */
static int authenticate(struct http_request *req, struct http_principal *principal,
                        struct error *err)
{
    const struct local_api *api = req->ctx;
    if (req->peer_uid != 0 && (!api->group_exists || !in_group(req->peer_uid, api->group)))
        return error_set(err, ERROR_UNAUTHENTICATED,
                         "uid %u is neither root nor a member of group %s", req->peer_uid,
                         LOCAL_SOCKET_GROUP);
    principal->roles = ROLE_LOCAL;
    snprintf(principal->name, sizeof(principal->name), "uid:%u", req->peer_uid);
    return 0;
}

/* --- run ----------------------------------------------------------------------------------- */

static int check_pool(const char *pool, struct error *err)
{
    return pool ? name_check("pool", pool, err) : 0;
}

/* A JSON array of strings as a NULL-terminated list that borrows them; the caller frees *ret. */
static int string_list(const char *name, json_object *array, const char ***ret, struct error *err)
{
    size_t count = json_array_size(array);
    autofree const char **list = xcalloc(count + 1, sizeof(*list));
    for (size_t i = 0; i < count; i++) {
        json_object *item = json_array_item(array, i);
        const char *text = json_item_str(array, i);
        if (!json_object_is_type(item, json_type_string) ||
            strlen(text) != (size_t)json_object_get_string_len(item))
            return error_set(err, ERROR_INVALID, "run: %s[%zu]: expected a string without NUL",
                             name, i);
        list[i] = text;
    }
    *ret = steal_ptr(&list);
    return 0;
}

static int opt_list(json_object *body, const char *name, size_t most, const char ***ret,
                    struct error *err)
{
    json_object *array = NULL;
    if (!json_member(body, name))
        return 0;
    if (json_get_array("run", body, name, most, &array, err) < 0)
        return -1;
    return string_list(name, array, ret, err);
}

static int claim(const struct local_api *api, const struct workload_spec *spec, bool adopted,
                 enum mask_grade grade, json_object **ret_mask, struct error *err)
{
    if (!api->config.claim)
        return grade == MASK_GRADE_OFF
                   ? 0
                   : error_set(err, ERROR_REJECTED,
                               "run: mask: without a broker there is no mask; ask for 'off'");
    return api->config.claim(api->config.ctx, spec, adopted, grade, ret_mask, err);
}

static int reply_info(struct http_reply *reply, unsigned status, struct workload_info *info)
{
    http_reply_json(reply, status, workload_info_to_json(info));
    workload_info_done(info);
    return 0;
}

/* Starts it as the broker's answer to the claim says. */
static int run_claimed(const struct local_api *api, const struct workload_spec *spec,
                       json_object *answer, struct workload_info *ret, struct error *err)
{
    struct workload_spec masked = *spec;
    struct birth_mask mask = {0};
    char **env = NULL;
    json_object *variables = NULL;
    int rc = birth_mask_decode("claim", answer, &mask, err);
    if (rc == 0 && answer)
        rc = json_get_array("claim: mask", answer, "env", MASK_ENVIRONMENT_VARIABLES_MAX,
                            &variables, err);
    if (rc == 0 && answer)
        rc = mask_environment_merge(variables, spec->env ? spec->env : workload_plain_env, &env,
                                    err);
    if (rc == 0) {
        masked.mask = &mask;
        if (env)
            masked.env = (const char *const *)env;
        rc = workloads_run(api->config.workloads, &masked, ret, err);
    }
    mask_environment_free(env);
    birth_mask_done(&mask);
    return rc;
}

static int run_spec(const struct local_api *api, struct workload_spec *spec, enum mask_grade grade,
                    struct http_reply *reply, struct error *err)
{
    struct workload_info info = {0};
    autofree char *dir = NULL;
    autojson *answer = NULL;
    if (workload_spec_check(spec, err) < 0 ||
        workloads_check(api->config.workloads, spec, &dir, err) < 0)
        return -1;
    spec->dir = dir;
    if (claim(api, spec, false, grade, &answer, err) < 0)
        return -1;
    if (grade != MASK_GRADE_OFF && !answer)
        return error_set(err, ERROR_FAILED,
                         "workload '%s' was not started: the broker told of no mask; is it older "
                         "than this agent?",
                         spec->name);
    if (run_claimed(api, spec, answer, &info, err) < 0)
        return -1;
    return reply_info(reply, 201, &info);
}

/* Without a broker there is nothing to choose: "auto" is off. */
static int choose_grade(const struct local_api *api, json_object *body, enum mask_grade *ret,
                        struct error *err)
{
    const char *wanted = NULL, *require = NULL;
    if (json_opt_str("run", body, "mask", &wanted, err) < 0 ||
        json_opt_str("run", body, "mask_require", &require, err) < 0)
        return -1;
    if (!api->config.claim && !wanted)
        wanted = mask_grade_name(MASK_GRADE_OFF);
    return workloads_mask_choose(api->config.workloads, wanted, require, ret, err);
}

static int post_run(struct http_request *req, struct http_reply *reply, struct error *err)
{
    const struct local_api *api = req->ctx;
    autojson *body = NULL;
    autofree const char **command = NULL, **env = NULL;
    struct workload_spec spec = {
        .pool = NULL, .uid = req->peer_uid, .gid = group_of(req->peer_uid)};
    enum mask_grade grade = MASK_GRADE_OFF;
    if (http_request_json(req, &body, err) < 0 ||
        json_get_str("run", body, "name", &spec.name, err) < 0 ||
        json_opt_str("run", body, "pool", &spec.pool, err) < 0 ||
        json_opt_str("run", body, "dir", &spec.dir, err) < 0 ||
        json_opt_str("run", body, "cwd", &spec.cwd, err) < 0 || check_pool(spec.pool, err) < 0 ||
        choose_grade(api, body, &grade, err) < 0)
        return -1;
    json_object *array = NULL;
    if (json_get_array("run", body, "command", COMMAND_ITEMS_MAX, &array, err) < 0 ||
        string_list("command", array, &command, err) < 0 ||
        opt_list(body, "env", ENV_ITEMS_MAX, &env, err) < 0)
        return -1;
    spec.command = command;
    spec.env = env;
    if (!spec.pool)
        spec.pool = api->config.default_pool;
    return run_spec(api, &spec, grade, reply, err);
}

/* --- the others ---------------------------------------------------------------------------- */

/* Who is not root may stop and adopt only what is his own. */
static int check_own(uid_t caller, uid_t owner, const char *what, struct error *err)
{
    if (caller == 0 || caller == owner)
        return 0;
    return error_set(err, ERROR_FORBIDDEN, "%s belongs to uid %u, not to you (uid %u)", what, owner,
                     caller);
}

static int post_adopt(struct http_request *req, struct http_reply *reply, struct error *err)
{
    const struct local_api *api = req->ctx;
    autojson *body = NULL;
    struct workload_info info = {0};
    struct workload_spec spec = {.pool = NULL};
    int64_t pid = 0;
    char what[64];
    if (http_request_json(req, &body, err) < 0 ||
        json_get_str("adopt", body, "name", &spec.name, err) < 0 ||
        json_opt_str("adopt", body, "pool", &spec.pool, err) < 0 ||
        json_get_i64("adopt", body, "pid", &pid, err) < 0 || check_pool(spec.pool, err) < 0)
        return -1;
    if (pid < 2 || pid > INT_MAX)
        return error_set(err, ERROR_INVALID, "adopt: pid: expected 2..%d", INT_MAX);
    if (process_owner((pid_t)pid, &spec.uid, &spec.gid, NULL) < 0)
        return error_set(err, ERROR_NOT_FOUND, "no process %d", (int)pid);
    snprintf(what, sizeof(what), "process %d", (int)pid);
    if (!spec.pool)
        spec.pool = api->config.default_pool;
    autofree char *dir = NULL;
    if (check_own(req->peer_uid, spec.uid, what, err) < 0 ||
        workloads_check(api->config.workloads, &spec, &dir, err) < 0)
        return -1;
    spec.dir = dir;
    if (claim(api, &spec, true, MASK_GRADE_OFF, NULL, err) < 0 ||
        workloads_adopt(api->config.workloads, spec.name, spec.pool, (pid_t)pid, &info, err) < 0)
        return -1;
    return reply_info(reply, 201, &info);
}

static int post_debug(struct http_request *req, struct http_reply *reply, struct error *err)
{
    const struct local_api *api = req->ctx;
    autojson *body = NULL;
    autofree char *name = NULL;
    int64_t pid = 0;
    if (http_request_json(req, &body, err) < 0 || json_get_i64("debug", body, "pid", &pid, err) < 0)
        return -1;
    if (pid < 2 || pid > INT_MAX)
        return error_set(err, ERROR_INVALID, "debug: pid: expected 2..%d", INT_MAX);
    if (workloads_debug(api->config.workloads, (pid_t)pid, req->peer_uid, &name, err) < 0)
        return -1;
    json_object *o = json_object_new_object();
    json_put_str(o, "workload", name);
    json_put_int(o, "pid", pid);
    http_reply_json(reply, 200, o);
    return 0;
}

static int get_workloads(struct http_request *req, struct http_reply *reply, struct error *err)
{
    const struct local_api *api = req->ctx;
    (void)err;
    json_object *o = json_object_new_object();
    json_put(o, "workloads", workloads_to_json(api->config.workloads));
    http_reply_json(reply, 200, o);
    return 0;
}

static int post_stop(struct http_request *req, struct http_reply *reply, struct error *err)
{
    const struct local_api *api = req->ctx;
    const char *name = http_request_param(req, "name");
    autojson *body = NULL;
    struct workload_info info = {0};
    int64_t timeout_ms = STOP_TIMEOUT_MS;
    char what[96];
    if (req->body_length && (http_request_json(req, &body, err) < 0 ||
                             json_opt_i64("stop", body, "timeout_ms", &timeout_ms, err) < 0))
        return -1;
    if (timeout_ms < 0 || timeout_ms > STOP_TIMEOUT_MAX_MS)
        return error_set(err, ERROR_INVALID, "stop: timeout_ms: expected 0..%d",
                         STOP_TIMEOUT_MAX_MS);
    if (name_check("workload", name, err) < 0 ||
        workloads_get(api->config.workloads, name, &info, err) < 0)
        return -1;
    unsigned owner = info.uid;
    workload_info_done(&info);
    snprintf(what, sizeof(what), "workload '%s'", name);
    if (check_own(req->peer_uid, owner, what, err) < 0 ||
        workloads_stop(api->config.workloads, name, (uint64_t)timeout_ms, err) < 0 ||
        workloads_get(api->config.workloads, name, &info, err) < 0)
        return -1;
    return reply_info(reply, 200, &info);
}

static int get_status(struct http_request *req, struct http_reply *reply, struct error *err)
{
    const struct local_api *api = req->ctx;
    (void)err;
    json_object *o =
        api->config.status ? api->config.status(api->config.ctx) : json_object_new_object();
    json_put_str(o, "version", CPUBROKER_VERSION);
    http_reply_json(reply, 200, o);
    return 0;
}

/* clang-format off */
static const struct http_route routes[] = {
    {"POST", "/v1/run", ROLE_LOCAL, RUN_BODY_MAX_BYTES, post_run, NULL, "start a workload"},
    {"POST", "/v1/debug", ROLE_LOCAL, SMALL_BODY_BYTES, post_debug, NULL, "give a masked process to a debugger"},
    {"POST", "/v1/adopt", ROLE_LOCAL, SMALL_BODY_BYTES, post_adopt, NULL, "make a process a workload"},
    {"GET", "/v1/workloads", ROLE_LOCAL, 0, get_workloads, NULL, "the workloads of this node"},
    {"POST", "/v1/workloads/{name}/stop", ROLE_LOCAL, SMALL_BODY_BYTES, post_stop, NULL, "end a workload"},
    {"GET", "/v1/status", ROLE_LOCAL, 0, get_status, NULL, "the agent's account of itself"},
    {0},
};
/* clang-format on */

/* --- the socket ---------------------------------------------------------------------------- */

static int bind_socket(int fd, const char *path, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (*path != '/' || strlen(path) >= sizeof(address.sun_path))
        return error_set(err, ERROR_INVALID,
                         "socket: '%s': expected an absolute path of at most %zu bytes", path,
                         sizeof(address.sun_path) - 1);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    struct stat st;
    if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
        return error_set(err, ERROR_INVALID, "socket: %s is there and is no socket", path);
    if (unlink(path) < 0 && errno != ENOENT)
        return error_errno(err, ERROR_FAILED, "socket: cannot replace %s", path);
    /* Born closed to everybody else; opened to the group once it belongs to it. */
    if (fchmod(fd, 0600) < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(fd, 64) < 0)
        return error_errno(err, ERROR_FAILED, "socket: cannot listen on %s", path);
    return 0;
}

static int open_socket(struct local_api *api, int *ret, struct error *err)
{
    const char *path = api->config.socket_path;
    autofree char *folder = xstrdup(path);
    char *slash = strrchr(folder, '/');
    if (slash && slash != folder) {
        *slash = '\0';
        if (file_make_dirs(folder, 0755, err) < 0)
            return -1;
    }
    autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_errno(err, ERROR_FAILED, "socket: cannot make one");
    if (bind_socket(fd, path, err) < 0)
        return -1;
    if (api->group_exists && (chown(path, 0, api->group) < 0 || chmod(path, 0660) < 0))
        return error_errno(err, ERROR_FAILED, "socket: cannot give %s to group %s", path,
                           LOCAL_SOCKET_GROUP);
    *ret = steal_fd(&fd);
    return 0;
}

static void find_group(struct local_api *api)
{
    struct group entry, *found = NULL;
    char buffer[16384];
    if (getgrnam_r(LOCAL_SOCKET_GROUP, &entry, buffer, sizeof(buffer), &found) == 0 && found) {
        api->group_exists = true;
        api->group = found->gr_gid;
    }
}

int local_api_start(const struct local_api_config *config, struct local_api **ret,
                    struct error *err)
{
    AUTO(local_api) api = xcalloc(1, sizeof(*api));
    api->config = *config;
    api->config.socket_path = xstrdup(config->socket_path);
    api->config.default_pool = xstrdup(config->default_pool ? config->default_pool : "default");
    find_group(api);
    int fd = -1;
    if (open_socket(api, &fd, err) < 0)
        return -1;
    struct http_config http = {
        .listen_fd = fd,
        .routes = routes,
        .ctx = api,
        .authenticate = authenticate,
        .threads = 2,
        .connections_max = 64,
        /* A stop may wait that long for its workload. */
        .idle_timeout_s = STOP_TIMEOUT_MAX_MS / 1000 + 60,
        .thread_per_connection = true,
    };
    if (http_server_start(&http, &api->server, err) < 0)
        return error_wrap(err, "socket %s", api->config.socket_path);
    *ret = steal_ptr(&api);
    return 0;
}

void local_api_free(struct local_api *api)
{
    if (!api)
        return;
    if (api->server) {
        http_server_free(api->server);
        unlink(api->config.socket_path);
    }
    free((char *)api->config.socket_path);
    free((char *)api->config.default_pool);
    free(api);
}
