/* SPDX-License-Identifier: Apache-2.0 */
/* test_local_api.c - the routes of the agent's Unix socket, over a real socket. */
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "client.h"
#include "cmocka_test.h"
#include "file.h"
#include "local_api.h"
#include "process.h"
#include "workload_site.h"

static struct site site;
static struct local_api *api;
static struct client *client;
static char socket_path[100];
static struct {
    char name[64], pool[64], dir[256];
    bool adopted, refuse;
    unsigned calls, uid;
} claimed;

static pthread_mutex_t claimed_lock =
    PTHREAD_MUTEX_INITIALIZER; /* the server has its own threads */

static int claim(void *ctx, const struct workload_spec *spec, bool adopted, enum mask_grade grade,
                 json_object **ret_mask, struct error *err)
{
    (void)ret_mask;
    assert_int_equal(grade, MASK_GRADE_OFF);
    assert_ptr_equal(ctx, &site);
    pthread_mutex_lock(&claimed_lock);
    claimed.calls++;
    claimed.adopted = adopted;
    claimed.uid = spec->uid;
    snprintf(claimed.name, sizeof(claimed.name), "%s", spec->name);
    snprintf(claimed.pool, sizeof(claimed.pool), "%s", spec->pool);
    snprintf(claimed.dir, sizeof(claimed.dir), "%s", spec->dir);
    bool refuse = claimed.refuse;
    pthread_mutex_unlock(&claimed_lock);
    if (refuse)
        return error_set(err, ERROR_CONFLICT, "workload '%s' runs on node-b", spec->name);
    return 0;
}

static json_object *status(void *ctx)
{
    json_object *o = json_object_new_object();
    (void)ctx;
    json_put_str(o, "node", "node-a");
    return o;
}

static int up(void **state)
{
    (void)state;
    site_up(&site, "a");
    if (chmod(site.state_dir, 0755) < 0)
        return -1;
    memset(&claimed, 0, sizeof(claimed));
    snprintf(socket_path, sizeof(socket_path), "%s/sock/agent.sock", site.state_dir);
    struct local_api_config config = {.socket_path = socket_path,
                                      .default_pool = "blue",
                                      .workloads = site.workloads,
                                      .claim = claim,
                                      .status = status,
                                      .ctx = &site};
    struct client_config to = {.base_url = "http://agent", .unix_socket = socket_path};
    return local_api_start(&config, &api, NULL) < 0 || client_new(&to, &client, NULL) < 0;
}

static int down(void **state)
{
    (void)state;
    client_free(client);
    local_api_free(api);
    assert_int_equal(access(socket_path, F_OK), -1);
    site_down(&site);
    return 0;
}

/* The reply to a call with a body as text; owned by the caller. */
static json_object *ask(const char *method, const char *path, const char *body, unsigned expected)
{
    json_object *reply = NULL;
    autojson *json = NULL;
    struct error err = {0};
    unsigned code = 0;
    if (body)
        assert_int_equal(json_parse(body, strlen(body), &json, NULL), 0);
    if (client_call(client, method, path, json, &code, &reply, &err) < 0)
        fail_msg("%s %s: %s", method, path, err.message);
    if (code != expected)
        fail_msg("%s %s %s: %u, not %u: %s", method, path, body ? body : "", code, expected,
                 json_object_to_json_string(reply));
    return reply;
}

static void refused(const char *path, const char *body, unsigned expected, const char *code,
                    const char *says)
{
    autojson *reply = ask("POST", path, body, expected);
    json_object *error = json_member(reply, "error");
    assert_string_equal(json_str(error, "code"), code);
    if (!strstr(json_str(error, "message"), says))
        fail_msg("'%s' lacks '%s'", json_str(error, "message"), says);
}

static void runs_lists_and_stops(void **state)
{
    (void)state;
    autojson *started =
        ask("POST", "/v1/run",
            "{\"name\":\"w1\",\"mask\":\"off\",\"command\":[\"/bin/sleep\",\"100\"],"
            "\"pool\":null,\"dir\":null,\"cwd\":\"/\",\"env\":[\"A=b\"]}",
            201);
    assert_string_equal(json_str(started, "name"), "w1");
    assert_string_equal(json_str(started, "state"), "running");
    assert_true(json_int(started, "pid") > 1);
    assert_string_equal(json_str(started, "pool"), "blue");
    assert_int_equal(claimed.calls, 1);
    assert_string_equal(claimed.pool, "blue");
    assert_string_equal(claimed.dir, json_str(started, "dir"));
    assert_false(claimed.adopted);

    autojson *list = ask("GET", "/v1/workloads", NULL, 200);
    json_object *one = json_array_item(json_member(list, "workloads"), 0);
    assert_string_equal(json_str(one, "name"), "w1");
    assert_string_equal(json_item_str(json_member(one, "command"), 1), "100");

    autojson *stopped = ask("POST", "/v1/workloads/w1/stop", "{\"timeout_ms\":3000}", 200);
    assert_string_equal(json_str(stopped, "state"), "exited");
    assert_int_equal(json_int(stopped, "exit_status"), 128 + SIGTERM);
}

static void tells_of_itself(void **state)
{
    (void)state;
    autojson *reply = ask("GET", "/v1/status", NULL, 200);
    assert_string_equal(json_str(reply, "node"), "node-a");
    assert_true(strlen(json_str(reply, "version")) > 0);
}

static void refuses_with_reasons(void **state)
{
    (void)state;
    static const struct {
        const char *body, *code, *says;
        unsigned status;
    } cases[] = {
        {"{}",                                                               "invalid_argument", "run: name: missing",    400},
        {"{\"name\":\"w\"}",                                                 "invalid_argument", "run: command: missing", 400},
        {"{\"name\":\"w\",\"command\":\"x\"}",                               "invalid_argument", "run: command:",         400},
        {"{\"name\":\"w\",\"command\":[]}",                                  "invalid_argument", "command: expected",     400},
        {"{\"name\":\"w\",\"command\":[1]}",                                 "invalid_argument", "run: command[0]:",      400},
        {"{\"name\":\"w\",\"command\":[\"a\\u0000b\"]}",                     "invalid_argument", "without NUL",           400},
        {"{\"name\":\"w/x\",\"command\":[\"x\"]}",                           "invalid_argument", "workload: 'w/x'",       400},
        {"{\"name\":\"w\",\"pool\":\"..\",\"command\":[\"x\"]}",             "invalid_argument", "pool: '..'",
         400                                                                                                                 },
        {"{\"name\":\"w\",\"command\":[\"x\"],\"dir\":\"/etc\"}",            "invalid_argument",
         "allowed roots",                                                                                                 400},
        {"{\"name\":\"w\",\"command\":[\"x\"],\"env\":[3]}",                 "invalid_argument", "run: env[0]",
         400                                                                                                                 },
        {"{\"name\":\"w\",\"mask\":\"off\",\"command\":[\"/nonexistent\"]}", "invalid_argument",
         "cannot execute",                                                                                                400},
    };
    refused("/v1/run", "{\"name\":\"w\",\"mask\":\"some\",\"command\":[\"x\"]}", 400,
            "invalid_argument", "run: mask: no grade 'some', expected one of: off environment");
    refused(
        "/v1/run",
        "{\"name\":\"w\",\"mask\":\"off\",\"mask_require\":\"environment\",\"command\":[\"x\"]}",
        400, "invalid_argument", "'off' is less than mask_require");
    refused("/v1/run", "{\"name\":\"w\",\"mask\":\"hardware\",\"command\":[\"x\"]}", 409,
            "rejected", "not to be had on this node");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        refused("/v1/run", cases[i].body, cases[i].status, cases[i].code, cases[i].says);
    assert_int_equal(claimed.calls, 1); /* only the last one got that far */
    refused("/v1/workloads/nobody/stop", "{}", 404, "not_found", "no workload 'nobody'");
    refused("/v1/workloads/w/stop", "{\"timeout_ms\":-1}", 400, "invalid_argument", "timeout_ms");
    refused("/v1/adopt", "{\"name\":\"w\",\"pid\":1}", 400, "invalid_argument", "pid: expected 2");
    refused("/v1/adopt", "{\"name\":\"w\",\"pid\":4194303}", 404, "not_found", "no process");
}

/* What the broker says reaches the person, and nothing is started. */
static void the_broker_decides_on_names(void **state)
{
    (void)state;
    claimed.refuse = true;
    refused("/v1/run", "{\"name\":\"w1\",\"mask\":\"off\",\"command\":[\"/bin/sleep\",\"100\"]}",
            409, "conflict", "runs on node-b");
    autojson *list = ask("GET", "/v1/workloads", NULL, 200);
    assert_int_equal(json_array_size(json_member(list, "workloads")), 0);
}

static void adopts(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        execl("/bin/sleep", "sleep", "100", (char *)NULL);
        _exit(127);
    }
    autofree char *body = xasprintf("{\"name\":\"w1\",\"pool\":\"green\",\"pid\":%d}", (int)pid);
    autojson *reply = ask("POST", "/v1/adopt", body, 201);
    assert_int_equal(json_int(reply, "pid"), pid);
    assert_true(json_flag(reply, "adopted"));
    assert_true(claimed.adopted);
    assert_string_equal(claimed.pool, "green");
    autojson *stopped = ask("POST", "/v1/workloads/w1/stop", NULL, 200);
    assert_string_equal(json_str(stopped, "state"), "exited");
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* --- users --------------------------------------------------------------------------------- */

#define GROUP_GID 54900
#define ALICE     54001 /* a member of the group */
#define BOB       54002 /* is not */

/* In a mount namespace of this test's own there are a group and two users. */
static int make_users(void)
{
    char folder[] = "/tmp/test_local_api.XXXXXX";
    if (!mkdtemp(folder))
        return -1;
    autofree char *passwd = xasprintf("%s/passwd", folder);
    autofree char *group = xasprintf("%s/group", folder);
    int rc = -1;
    if (file_replace(passwd,
                     "root:x:0:0::/root:/bin/sh\n"
                     "alice:x:54001:54001::/:/bin/sh\nbob:x:54002:54002::/:/bin/sh\n",
                     0644, NULL) == 0 &&
        file_replace(group,
                     "root:x:0:\nother:x:54901:alice\n" LOCAL_SOCKET_GROUP ":x:54900:alice\n", 0644,
                     NULL) == 0 &&
        unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        mount(passwd, "/etc/passwd", NULL, MS_BIND, NULL) == 0 &&
        mount(group, "/etc/group", NULL, MS_BIND, NULL) == 0)
        rc = 0;
    file_remove_tree(folder, NULL); /* what is mounted stays */
    return rc;
}

/* The HTTP status of a request as that user; -1 when he cannot even connect. */
static int as_user(uid_t uid, const char *method, const char *path, const char *body)
{
    autofree char *request =
        xasprintf("%s %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                  "Content-Length: %zu\r\n\r\n%s",
                  method, path, strlen(body), body);
    int result[2];
    assert_int_equal(pipe(result), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        const gid_t group = GROUP_GID;
        char reply[4096] = "";
        int code = -1;
        snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path);
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        if (setgroups(uid == ALICE, &group) < 0 || setgid(uid) < 0 || setuid(uid) < 0)
            _exit(1);
        if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
            write(fd, request, strlen(request)) > 0 && read(fd, reply, sizeof(reply) - 1) > 0)
            code = (int)strtol(reply + strlen("HTTP/1.1 "), NULL, 10);
        _exit(write(result[1], &code, sizeof(code)) != sizeof(code));
    }
    int code = 0, status_of_child = 0;
    close(result[1]);
    assert_int_equal(read(result[0], &code, sizeof(code)), sizeof(code));
    close(result[0]);
    assert_int_equal(waitpid(pid, &status_of_child, 0), pid);
    return code;
}

static void lets_in_root_and_the_group(void **state)
{
    (void)state;
    struct stat st;
    assert_int_equal(stat(socket_path, &st), 0);
    assert_int_equal(st.st_uid, 0);
    assert_int_equal(st.st_gid, GROUP_GID);
    assert_int_equal(st.st_mode & 07777, 0660);
    assert_int_equal(as_user(ALICE, "GET", "/v1/workloads", ""), 200);
    assert_int_equal(as_user(BOB, "GET", "/v1/workloads", ""), -1);
    assert_int_equal(chmod(socket_path, 0666), 0); /* somebody's mistake */
    assert_int_equal(as_user(BOB, "GET", "/v1/workloads", ""), 401);
    assert_int_equal(as_user(ALICE, "GET", "/v1/workloads", ""), 200);
}

static void members_act_on_their_own_only(void **state)
{
    (void)state;
    struct workload_info info = {0};
    assert_int_equal(as_user(ALICE, "POST", "/v1/run",
                             "{\"mask\":\"off\",\"name\":\"hers\",\"command\":[\"/bin/"
                             "sh\",\"-c\",\"id; exec sleep 100\"]}"),
                     201);
    pthread_mutex_lock(&claimed_lock);
    unsigned claimant = claimed.uid;
    pthread_mutex_unlock(&claimed_lock);
    assert_int_equal(claimant, ALICE);
    site_wait_lines(&site, "hers", "stdout.log", 1);
    autofree char *who = site_read(&site, "hers", "stdout.log");
    assert_string_equal(who, "uid=54001(alice) gid=54001 groups=54001,54900(" LOCAL_SOCKET_GROUP
                             "),54901(other)\n");
    assert_int_equal(workloads_get(site.workloads, "hers", &info, NULL), 0);
    assert_int_equal(info.uid, ALICE);
    workload_info_done(&info);

    static const char *const argv[] = {"/bin/sleep", "100", NULL};
    site_run(&site, "roots", argv, &info);
    autofree char *adopt = xasprintf("{\"name\":\"x\",\"pid\":%d}", (int)getpid());
    workload_info_done(&info);
    assert_int_equal(as_user(ALICE, "POST", "/v1/workloads/roots/stop", "{}"), 403);
    assert_int_equal(as_user(ALICE, "POST", "/v1/adopt", adopt), 403);
    assert_int_equal(as_user(ALICE, "POST", "/v1/workloads/hers/stop", "{}"), 200);
    assert_int_equal(workloads_get(site.workloads, "roots", &info, NULL), 0);
    assert_int_equal(info.state, WORKLOAD_RUNNING);
    workload_info_done(&info);
}

/* Her log is a link to what only root may write. */
static void a_log_is_opened_by_its_user(void **state)
{
    (void)state;
    autofree char *dir = xasprintf("%s/hers", site.roots);
    autofree char *log = xasprintf("%s/stdout.log", dir);
    autofree char *target = xasprintf("%s/target", site.state_dir);
    autofree char *body = xasprintf(
        "{\"mask\":\"off\",\"name\":\"w\",\"dir\":\"%s\",\"command\":[\"/bin/echo\"]}", dir);
    assert_int_equal(mkdir(dir, 0755), 0);
    assert_int_equal(chown(dir, ALICE, ALICE), 0);
    assert_int_equal(file_replace(target, "", 0600, NULL), 0);
    assert_int_equal(symlink(target, log), 0);
    assert_int_equal(as_user(ALICE, "POST", "/v1/run", body), 400);
    assert_int_equal(unlink(log), 0);
    assert_int_equal(link(target, log), 0);
    assert_int_equal(as_user(ALICE, "POST", "/v1/run", body), 400);
    assert_int_equal(access(log, F_OK), 0); /* her folder is not ours to remove */
    assert_int_equal(unlink(log), 0);
    assert_int_equal(as_user(ALICE, "POST", "/v1/run", body), 201);
}

static void replaces_only_a_socket(void **state)
{
    (void)state;
    struct local_api *second = NULL;
    struct error err = {0};
    autofree char *file = xasprintf("%s/not-a-socket", site.state_dir);
    FILE *f = fopen(file, "we");
    assert_non_null(f);
    fclose(f);
    struct local_api_config config = {.socket_path = file, .workloads = site.workloads};
    assert_int_equal(local_api_start(&config, &second, &err), -1);
    assert_non_null(strstr(err.message, "is no socket"));
    assert_int_equal(access(file, F_OK), 0);
    config.socket_path = "relative";
    assert_int_equal(local_api_start(&config, &second, &err), -1);
    assert_int_equal(err.kind, ERROR_INVALID);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, up, down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(runs_lists_and_stops),
        TEST(tells_of_itself),
        TEST(refuses_with_reasons),
        TEST(the_broker_decides_on_names),
        TEST(adopts),
        TEST(lets_in_root_and_the_group),
        TEST(members_act_on_their_own_only),
        TEST(a_log_is_opened_by_its_user),
        TEST(replaces_only_a_socket),
    };
    site_requires_root();
    if (make_users() < 0) {
        perror("SKIP: cannot make users in a mount namespace");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
