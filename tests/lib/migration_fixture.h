/* SPDX-License-Identifier: Apache-2.0 */
/* migration_fixture.h - two nodes and a broker in one process, for tests of the agent's half of a
 * migration. Runtime and engine are played (this header defines the functions of workload.h and
 * engine.h in place of the agent's own); journals, drivers, image listener and HTTP are real.
 *
 * The workload is one real child process. Both nodes see it under the same pid, as two pid
 * namespaces would: a dump stops it, to continue it lets it run. Each node notes whether it lets
 * its copy run, so that two running copies are noticed at once. */
#pragma once

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "cmocka_test.h"
#include "engine.h"
#include "file.h"
#include "http.h"
#include "image_server.h"
#include "inspect.h"
#include "journal.h"
#include "log.h"
#include "migration.h"
#include "process.h"
#include "workload.h"

#define FIXTURE_ID     "m-0123456789abcdef"
#define FIXTURE_TICKET "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define FIXTURE_SECRET "broker-token"

/* ---- what is played ---- */

struct engine {
    atomic_int dumps, aborts, restores;
    atomic_bool fail_preflight, fail_dump;
    size_t pages_bytes;
};

struct workloads {
    const char *node;
    struct workloads *other;
    pthread_mutex_t lock;
    /* guarded by lock */
    bool here;
    char dir[200], migration[64];
    enum workload_state state;
    pid_t root;
    bool dir_removed;
    /* what the test wants */
    atomic_bool fail_restore, fail_continue, exited_early;
    atomic_int continues, destroys;
};

static atomic_int fixture_two_ran; /* how often both copies were let run */

static struct workload_info fixture_info(const struct workloads *w)
{
    struct workload_info info = {.name = xstrdup("w1"),
                                 .pool = xstrdup("default"),
                                 .dir = xstrdup(w->dir),
                                 .cgroup_dir = xstrdup(""),
                                 .state = w->state,
                                 .root_pid = w->root,
                                 .exit_status = -1};
    snprintf(info.migration, sizeof(info.migration), "%s", w->migration);
    return info;
}

const char *workload_state_name(enum workload_state state)
{
    static const char *const names[] = {"starting", "running", "stopped", "exited"};
    return names[state];
}

void workload_info_done(struct workload_info *info)
{
    free(info->name);
    free(info->pool);
    free(info->dir);
    free(info->cgroup_dir);
    *info = (struct workload_info){0};
}

int workloads_get(struct workloads *w, const char *name, struct workload_info *ret,
                  struct error *err)
{
    pthread_mutex_lock(&w->lock);
    int rc = w->here ? 0 : error_set(err, ERROR_NOT_FOUND, "no workload '%s' here", name);
    if (rc == 0)
        *ret = fixture_info(w);
    pthread_mutex_unlock(&w->lock);
    return rc;
}

int workloads_check(struct workloads *w, const struct workload_spec *spec, char **ret_dir,
                    struct error *err)
{
    pthread_mutex_lock(&w->lock);
    int rc = w->here ? error_set(err, ERROR_CONFLICT, "a workload '%s' is here", spec->name) : 0;
    pthread_mutex_unlock(&w->lock);
    if (rc == 0)
        *ret_dir = xstrdup(spec->dir);
    return rc;
}

int workloads_hold(struct workloads *w, const char *name, const char *migration, struct error *err)
{
    (void)name;
    (void)err;
    pthread_mutex_lock(&w->lock);
    snprintf(w->migration, sizeof(w->migration), "%s", migration);
    pthread_mutex_unlock(&w->lock);
    return 0;
}

int workloads_set_state(struct workloads *w, const char *name, enum workload_state state,
                        struct error *err)
{
    (void)name;
    (void)err;
    pthread_mutex_lock(&w->lock);
    w->state = state;
    pthread_mutex_unlock(&w->lock);
    return 0;
}

int workloads_pids(struct workloads *w, const char *name, pid_t **ret, struct error *err)
{
    (void)name;
    (void)err;
    pid_t *pids = xcalloc(2, sizeof(*pids));
    pids[0] = w->root;
    *ret = pids;
    return 0;
}

int workloads_destroy(struct workloads *w, const char *name, bool remove_dir, struct error *err)
{
    (void)name;
    pthread_mutex_lock(&w->lock);
    w->here = false;
    *w->migration = '\0';
    w->dir_removed = remove_dir;
    pthread_mutex_unlock(&w->lock);
    atomic_fetch_add(&w->destroys, 1);
    return remove_dir ? file_remove_tree(w->dir, err) : 0;
}

static void fixture_wait_state(pid_t pid, bool stopped)
{
    struct process_stat stat = {0};
    for (int i = 0; i < 500; i++) {
        if (process_stat_read(pid, &stat, NULL) == 0 && (stat.state == 'T') == stopped)
            return;
        usleep(2000);
    }
    fail_msg("process %d is in state %c", (int)pid, stat.state);
}

int workloads_let_go(struct workloads *w, const char *name, struct error *err)
{
    (void)w;
    (void)name;
    (void)err;
    return 0;
}

int workloads_continue(struct workloads *w, const char *name, const pid_t *keep_stopped,
                       struct error *err)
{
    (void)keep_stopped;
    if (atomic_load(&w->fail_continue))
        return error_set(err, ERROR_FAILED, "workload '%s' does not go on: made to fail", name);
    /* one lock at a time: the order of two would be another story */
    pthread_mutex_lock(&w->other->lock);
    if (w->other->here && w->other->state == WORKLOAD_RUNNING)
        atomic_fetch_add(&fixture_two_ran, 1);
    pthread_mutex_unlock(&w->other->lock);
    pthread_mutex_lock(&w->lock);
    w->state = WORKLOAD_RUNNING;
    *w->migration = '\0';
    kill(w->root, SIGCONT);
    pthread_mutex_unlock(&w->lock);
    atomic_fetch_add(&w->continues, 1);
    return 0;
}

int workloads_restore(struct workloads *w, const struct workload_spec *spec, const char *migration,
                      char *const *argv, char *const *env, const char *pidfile,
                      const char *log_path, uint64_t timeout_ms, struct workload_info *ret,
                      struct error *err)
{
    (void)env;
    (void)pidfile;
    (void)log_path;
    (void)timeout_ms;
    autofree char *pages = xasprintf("%s/pages-1.img", argv[1]);
    if (access(pages, R_OK) < 0)
        return error_errno(err, ERROR_FAILED, "no image");
    if (atomic_load(&w->fail_restore))
        return error_set(err, ERROR_FAILED, "workload '%s' was not restored here: made to fail",
                         spec->name);
    pthread_mutex_lock(&w->lock);
    w->here = true;
    w->root = (pid_t)strtol(argv[2], NULL, 10);
    w->state = atomic_load(&w->exited_early) ? WORKLOAD_EXITED : WORKLOAD_STOPPED;
    snprintf(w->dir, sizeof(w->dir), "%s", spec->dir);
    snprintf(w->migration, sizeof(w->migration), "%s", migration);
    *ret = fixture_info(w);
    pthread_mutex_unlock(&w->lock);
    return 0;
}

static inline void fixture_thread(struct cpu_evidence_task *task, size_t index)
{
    task->threads[index] = (struct cpu_evidence_thread){
        .tid = task->pid + (int64_t)index, .state_known = true, .xstate_bv = 3, .live = 3};
}

/* What it shows is told by fixture_inspect, which tests may change before a node runs. */
static struct {
    atomic_int looks;
    atomic_bool fail, fail_second;
    size_t processes, threads; /* of each */
} fixture_inspect;

int inspect_processes(pid_t root, const pid_t *also, uint64_t timeout_ms, struct cpu_evidence *ret,
                      struct inspect_cost *ret_cost, struct error *err)
{
    assert_int_equal(also[0], root);
    assert_true(timeout_ms > 0 && timeout_ms <= INSPECT_TIMEOUT_MS);
    int looks = atomic_fetch_add(&fixture_inspect.looks, 1);
    if (atomic_load(&fixture_inspect.fail) ||
        (looks == 1 && atomic_load(&fixture_inspect.fail_second)))
        return error_set(err, ERROR_FAILED, "cannot look: made to fail");
    struct cpu_evidence evidence = {.pid = root, .at_ms = 1, .complete = true};
    for (size_t i = 0; i < fixture_inspect.processes; i++) {
        struct cpu_evidence_task *task =
            cpu_evidence_add_task(&evidence, root + (int64_t)i, "victim");
        task->threads = xcalloc(fixture_inspect.threads, sizeof(*task->threads));
        task->thread_count = fixture_inspect.threads;
        for (size_t k = 0; k < task->thread_count; k++)
            fixture_thread(task, k);
    }
    *ret = evidence;
    *ret_cost = (struct inspect_cost){0};
    return 0;
}

int engine_preflight(struct engine *engine, const struct engine_job *job, struct error *err)
{
    (void)job;
    return atomic_load(&engine->fail_preflight)
               ? error_set(err, ERROR_REJECTED, "it uses io_uring, which CRIU cannot dump")
               : 0;
}

static void fixture_write(const char *dir, const char *name, size_t bytes)
{
    autofree char *path = xasprintf("%s/%s", dir, name);
    FILE *file = fopen(path, "we");
    for (size_t i = 0; file && i < bytes; i++)
        putc_unlocked((int)(i * 7 >> 3), file);
    if (file)
        fclose(file);
}

int engine_dump(struct engine *engine, const struct engine_job *job, struct engine_result *result,
                struct error *err)
{
    atomic_fetch_add(&engine->dumps, 1);
    if (atomic_load(&engine->fail_dump)) {
        snprintf(result->log_tail, sizeof(result->log_tail), "Error (criu/mem.c:1): no\n");
        return error_set(err, ERROR_FAILED, "criu dump failed with exit status 1");
    }
    kill(job->root_pid, SIGSTOP);
    fixture_wait_state(job->root_pid, true);
    fixture_write(job->image_dir, "pages-1.img", engine->pages_bytes);
    fixture_write(job->image_dir, "core-1.img", 500);
    result->image_bytes = engine->pages_bytes + 500;
    return 0;
}

int engine_restore_command(struct engine *engine, const struct engine_job *job, const char *pidfile,
                           char ***ret_argv, char ***ret_env, struct error *err)
{
    (void)pidfile;
    (void)err;
    atomic_fetch_add(&engine->restores, 1);
    char **argv = xcalloc(4, sizeof(*argv));
    argv[0] = xstrdup("restore");
    argv[1] = xstrdup(job->image_dir);
    argv[2] = xasprintf("%d", (int)job->root_pid);
    *ret_argv = argv;
    *ret_env = xcalloc(1, sizeof(char *));
    return 0;
}

void engine_restore_result(struct engine *engine, const struct engine_job *job,
                           struct engine_result *result)
{
    (void)engine;
    (void)job;
    snprintf(result->log_tail, sizeof(result->log_tail), "Error (criu/cr-restore.c:1): no\n");
}

int engine_abort(struct engine *engine, const struct engine_job *job, const pid_t *keep_stopped,
                 struct error *err)
{
    (void)job;
    (void)keep_stopped;
    (void)err;
    atomic_fetch_add(&engine->aborts, 1);
    return 0;
}

void engine_strv_free(char **strv)
{
    for (char **s = strv; s && *s; s++)
        free(*s);
    free(strv);
}

/* ---- the broker ---- */

struct fixture_broker {
    struct http_server *http;
    char address[64];
    pthread_t poller;
    struct world *world;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* guarded by lock */
    bool listed; /* whether the migration is among the assignments at all */
    bool stop, dirty;
    enum migration_state state, end;
    enum migration_report reports[2]; /* the last of target and source */
    char trail[2048];                 /* "prepared dumped ..." */
    char message[1024], log[1024];    /* of the first failure */
    bool look_again;                  /* asked of the source */
    json_object *evidence;            /* owned; of the last look */
    unsigned away;                    /* so many reports are answered 503 */
    enum migration_report cancel_at;  /* this report finds the migration cancelled */
};

struct node {
    const char *name;
    char state_dir[128], dir[200];
    struct workloads workloads;
    struct engine engine;
    struct migrations *migrations;
    struct image_server *images;
    char address[64]; /* what the broker tells its peer */
};

struct world {
    char top[64];
    pid_t child;
    char target_dir[200];
    struct node a, b; /* source, target */
    struct fixture_broker broker;
    bool stop_polling;
};

enum { FIXTURE_TARGET, FIXTURE_SOURCE };

static json_object *fixture_assignment(struct world *w, bool source, enum migration_action what)
{
    struct node *peer = source ? &w->b : &w->a;
    json_object *o = json_object_new_object(), *p = json_object_new_object();
    json_object *command = json_object_new_array();
    json_object_array_add(command, json_object_new_string("./victim"));
    json_put_str(o, "migration", FIXTURE_ID);
    json_put_str(o, "workload", "w1");
    json_put_str(o, "role", source ? "source" : "target");
    json_put_str(o, "action", migration_action_name(what));
    json_put_str(o, "state", migration_state_name(w->broker.state));
    json_put_str(p, "node", peer->name);
    json_put_str(p, "address", peer->address);
    json_put(o, "peer", p);
    json_put_str(o, "ticket", FIXTURE_TICKET);
    json_put_str(o, "dir", w->target_dir);
    json_put_str(o, "pool", "default");
    json_put(o, "command", command);
    json_put_int(o, "max_bytes", 1L << 30);
    json_put_int(o, "deadline_at_ms", clock_unix_ms(&clock_system) + 60000);
    json_put_bool(o, "look_again", source && w->broker.look_again);
    return o;
}

/* The node's assignment now; NULL for none. Lock held. */
static json_object *fixture_next(struct world *w, bool source)
{
    struct fixture_broker *b = &w->broker;
    enum migration_action what =
        migration_action_for(b->state, source ? MIGRATION_PARTY_SOURCE : MIGRATION_PARTY_TARGET,
                             b->reports[source], b->reports[FIXTURE_TARGET]);
    return what == MIGRATION_DO_NOTHING || !b->listed ? NULL : fixture_assignment(w, source, what);
}

static void fixture_enter(struct fixture_broker *b, enum migration_state state)
{
    assert_true(migration_move_allowed(b->state, state));
    b->state = state;
    b->dirty = true;
    pthread_cond_broadcast(&b->changed);
}

/* What a report leads to. Lock held. */
static void fixture_take(struct fixture_broker *b, enum migration_report report, bool source)
{
    static const struct {
        enum migration_state in;
        enum migration_report report;
        enum migration_state to;
    } moves[] = {
        {MIGRATION_DUMPING,      MIGRATION_REPORT_DUMPED,   MIGRATION_TRANSFERRING},
        {MIGRATION_TRANSFERRING, MIGRATION_REPORT_RECEIVED, MIGRATION_RESTORING   },
        {MIGRATION_RESTORING,    MIGRATION_REPORT_RESTORED, MIGRATION_COMMITTING  },
        {MIGRATION_COMMITTING,   MIGRATION_REPORT_KILLED,   MIGRATION_DONE        },
    };
    if (report == MIGRATION_REPORT_PROGRESS)
        return;
    b->reports[source] = report;
    b->dirty = true; /* the peer's action may depend on it */
    if (report == b->cancel_at || report == MIGRATION_REPORT_FAILURE) {
        if (migration_move_allowed(b->state, MIGRATION_ABORTING))
            fixture_enter(b, MIGRATION_ABORTING);
    } else if (b->state == MIGRATION_PREPARING) {
        if (b->reports[FIXTURE_TARGET] == MIGRATION_REPORT_PREPARED &&
            b->reports[FIXTURE_SOURCE] == MIGRATION_REPORT_INSPECTED)
            fixture_enter(b, MIGRATION_DUMPING);
    } else if (b->state == MIGRATION_ABORTING && report == MIGRATION_REPORT_RESUMED) {
        fixture_enter(b, MIGRATION_FAILED);
    } else {
        for (size_t i = 0; i < ARRAY_LEN(moves); i++)
            if (b->state == moves[i].in && report == moves[i].report) {
                fixture_enter(b, moves[i].to);
                break;
            }
    }
    pthread_cond_broadcast(&b->changed);
}

static int fixture_progress(struct http_request *req, struct http_reply *reply, struct error *err)
{
    struct fixture_broker *b = req->ctx;
    autojson *body = NULL;
    enum migration_report report;
    if (http_request_json(req, &body, err) < 0)
        return -1;
    assert_string_equal(http_request_param(req, "id"), FIXTURE_ID);
    assert_int_equal(migration_report_from_name(json_str(body, "state"), &report), 0);
    bool source = strcmp(json_str(body, "node"), b->world->a.name) == 0;
    assert_true(
        migration_report_fits(report, source ? MIGRATION_PARTY_SOURCE : MIGRATION_PARTY_TARGET));
    pthread_mutex_lock(&b->lock);
    if (b->away > 0) {
        b->away--;
        pthread_mutex_unlock(&b->lock);
        return error_set(err, ERROR_BUSY, "the broker is being stopped");
    }
    size_t used = strlen(b->trail);
    if (report != MIGRATION_REPORT_PROGRESS)
        snprintf(b->trail + used, sizeof(b->trail) - used, "%s%s", used ? " " : "",
                 json_str(body, "state"));
    if (report == MIGRATION_REPORT_FAILURE && !*b->message) { /* the first is why it ended */
        json_object *failure = json_member(body, "error");
        snprintf(b->message, sizeof(b->message), "%s", json_str(failure, "message"));
        snprintf(b->log, sizeof(b->log), "%s", json_str(failure, "log"));
    }
    if (json_member(body, "evidence")) {
        json_object_put(b->evidence);
        b->evidence = json_object_get(json_member(body, "evidence"));
    }
    fixture_take(b, report, source);
    json_object *o = json_object_new_object();
    json_put(o, "assignment", fixture_next(b->world, source));
    pthread_mutex_unlock(&b->lock);
    http_reply_json(reply, 200, o);
    return 0;
}

static int fixture_broker_auth(struct http_request *req, struct http_principal *principal,
                               struct error *err)
{
    const char *header = http_request_header(req, "Authorization");
    if (!header || strcmp(header, "Bearer " FIXTURE_SECRET) != 0)
        return error_set(err, ERROR_UNAUTHENTICATED, "no token");
    principal->roles = 1;
    return 0;
}

static const struct http_route fixture_routes[] = {
    {.method = "POST",
     .path = "/v1/migrations/{id}/progress",
     .roles = 1,
     .max_body_bytes = 2 << 20,
     .handler = fixture_progress},
    {0      },
};

/* What the long poll of a node would answer. */
static void fixture_tell(struct world *w, struct node *node, bool source)
{
    autojson *list = json_object_new_array();
    pthread_mutex_lock(&w->broker.lock);
    json_object *next = fixture_next(w, source);
    pthread_mutex_unlock(&w->broker.lock);
    if (next)
        json_object_array_add(list, next);
    migrations_assign(node->migrations, list);
}

static void *fixture_poll(void *ctx)
{
    struct world *w = ctx;
    struct fixture_broker *b = &w->broker;
    pthread_mutex_lock(&b->lock);
    while (!b->stop) {
        if (!b->dirty) {
            pthread_cond_wait(&b->changed, &b->lock);
            continue;
        }
        b->dirty = false;
        pthread_mutex_unlock(&b->lock);
        fixture_tell(w, &w->a, true);
        fixture_tell(w, &w->b, false);
        pthread_mutex_lock(&b->lock);
    }
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

/* ---- the world ---- */

static void fixture_start_node(struct world *w, struct node *node)
{
    struct error err = {0};
    autofree char *url = xasprintf("http://%s", w->broker.address);
    const struct migrations_config config = {
        .node = node->name,
        .state_dir = node->state_dir,
        .workloads = &node->workloads,
        .engine = &node->engine,
        .broker = {.base_url = url, .token = FIXTURE_SECRET, .timeout_ms = 5000},
        .dump_timeout_ms = 10000,
        .restore_timeout_ms = 10000,
        .stall_timeout_ms = 2000,
        .slack_bytes = 4096,
        .clock = &clock_system
    };
    if (migrations_new(&config, &node->migrations, &err) < 0)
        fail_msg("%s", err.message);
    const struct image_server_config images = {
        .listen = "127.0.0.1:0", .stall_timeout_ms = 2000, .migrations = node->migrations};
    if (image_server_start(&images, &node->images, &err) < 0)
        fail_msg("%s", err.message);
    if (!*node->address)
        snprintf(node->address, sizeof(node->address), "%s", image_server_address(node->images));
}

static void fixture_stop_node(struct node *node)
{
    if (node->migrations)
        migrations_stop(node->migrations);
    image_server_free(node->images);
    migrations_free(node->migrations);
    node->images = NULL;
    node->migrations = NULL;
}

static void fixture_init_node(struct world *w, struct node *node, const char *name)
{
    node->name = name;
    snprintf(node->state_dir, sizeof(node->state_dir), "%s/%s", w->top, name);
    pthread_mutex_init(&node->workloads.lock, NULL);
    node->workloads.node = name;
    node->engine.pages_bytes = 300000;
    assert_int_equal(file_make_dirs(node->state_dir, 0755, NULL), 0);
}

/* The source's workload runs; the broker has a migration that is being prepared, but the nodes have
 * not heard of it, and do not run yet. */
static inline struct world *world_new(void)
{
    struct world *w = xcalloc(1, sizeof(*w));
    log_set_level(getenv("FIXTURE_LOG") ? LOG_DEBUG : LOG_LEVEL_COUNT);
    snprintf(w->top, sizeof(w->top), "/tmp/cpubroker-migration.XXXXXX");
    assert_non_null(mkdtemp(w->top));
    atomic_store(&fixture_two_ran, 0);
    atomic_store(&fixture_inspect.looks, 0);
    atomic_store(&fixture_inspect.fail, false);
    atomic_store(&fixture_inspect.fail_second, false);
    fixture_inspect.processes = fixture_inspect.threads = 1;
    fixture_init_node(w, &w->a, "node-a");
    fixture_init_node(w, &w->b, "node-b");
    w->a.workloads.other = &w->b.workloads;
    w->b.workloads.other = &w->a.workloads;
    w->child = fork();
    if (w->child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
    struct workloads *source = &w->a.workloads;
    source->here = true;
    source->state = WORKLOAD_RUNNING;
    source->root = w->child;
    snprintf(source->dir, sizeof(source->dir), "%s/here/w1", w->top);
    snprintf(w->target_dir, sizeof(w->target_dir), "%s/there/w1", w->top);
    assert_int_equal(file_make_dirs(source->dir, 0755, NULL), 0);
    autofree char *there = xasprintf("%s/there", w->top);
    assert_int_equal(file_make_dirs(there, 0755, NULL), 0);
    fixture_write(source->dir, "stdout.log", 1234);
    /* the broker */
    struct fixture_broker *b = &w->broker;
    struct error err = {0};
    const struct http_config http = {.listen = "127.0.0.1:0",
                                     .listen_fd = -1,
                                     .routes = fixture_routes,
                                     .ctx = b,
                                     .authenticate = fixture_broker_auth};
    b->world = w;
    b->listed = true;
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->changed, NULL);
    if (http_server_start(&http, &b->http, &err) < 0)
        fail_msg("%s", err.message);
    snprintf(b->address, sizeof(b->address), "%s", http_server_address(b->http));
    return w;
}

/* Starts both nodes and lets the broker speak. */
static inline void world_start(struct world *w)
{
    fixture_start_node(w, &w->a);
    fixture_start_node(w, &w->b);
    w->broker.dirty = true;
    pthread_create(&w->broker.poller, NULL, fixture_poll, w);
    w->stop_polling = true;
}

static inline void world_free(struct world *w)
{
    struct fixture_broker *b = &w->broker;
    pthread_mutex_lock(&b->lock);
    b->stop = true;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
    if (w->stop_polling)
        pthread_join(b->poller, NULL);
    fixture_stop_node(&w->a);
    fixture_stop_node(&w->b);
    http_server_free(b->http);
    json_object_put(b->evidence);
    kill(w->child, SIGKILL);
    waitpid(w->child, NULL, 0);
    file_remove_tree(w->top, NULL);
    free(w);
}

/* What the broker holds from now on, while its threads run. */
static inline void world_set(struct world *w, enum migration_state state, bool listed)
{
    pthread_mutex_lock(&w->broker.lock);
    w->broker.state = state;
    w->broker.listed = listed;
    pthread_mutex_unlock(&w->broker.lock);
}

/* Waits until the broker's record is in that state (and, with `reports`, its trail has that). */
static inline void world_wait(struct world *w, enum migration_state state, const char *reports)
{
    struct fixture_broker *b = &w->broker;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 20;
    pthread_mutex_lock(&b->lock);
    int rc = 0;
    while (rc == 0 && (b->state != state || (reports && !strstr(b->trail, reports))))
        rc = pthread_cond_timedwait(&b->changed, &b->lock, &until);
    enum migration_state found = b->state;
    char trail[2048];
    memcpy(trail, b->trail, sizeof(trail));
    pthread_mutex_unlock(&b->lock);
    if (rc != 0)
        fail_msg("expected %s%s%s, found %s: %s: %s", migration_state_name(state),
                 reports ? " after " : "", reports ? reports : "", migration_state_name(found),
                 trail, b->message);
}

/* Waits until that node has nothing of a migration any more. */
static inline void world_wait_forgotten(struct node *node)
{
    autofree char *path = xasprintf("%s/migrations/" FIXTURE_ID, node->state_dir);
    for (int i = 0; i < 1000; i++) {
        if (access(path, F_OK) < 0)
            return;
        usleep(10000);
    }
    fail_msg("%s still holds the migration", node->name);
}

static inline bool world_child_stopped(struct world *w)
{
    struct process_stat stat;
    assert_int_equal(process_stat_read(w->child, &stat, NULL), 0);
    return stat.state == 'T';
}
