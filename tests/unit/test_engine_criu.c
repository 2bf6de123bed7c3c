/* SPDX-License-Identifier: Apache-2.0 */
/* test_engine_criu.c - CRIU as an engine: real dumps and restores of a tree of processes and
 * threads, engines that hang or fail, and what is said beforehand. */
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "cmocka_test.h"
#include "engine_private.h"
#include "file.h"
#include "process.h"
#include "timerfds.h"
#include "workload_site.h"

#define TIMEOUT_MS 60000

static struct site site, other; /* two nodes that see the same folders */
static struct engine *criu;     /* NULL: none works here */
static struct error criu_error;
static char work[] = "/tmp/test_engine.XXXXXX";

static int up(void **state)
{
    (void)state;
    site_up(&site, "a");
    site_up(&other, "b");
    snprintf(work, sizeof(work), "/tmp/test_engine.XXXXXX");
    return mkdtemp(work) ? 0 : -1;
}

static int down(void **state)
{
    (void)state;
    site_down(&site);
    site_down(&other);
    return file_remove_tree(work, NULL);
}

static char *in_work(const char *name)
{
    return xasprintf("%s/%s", work, name);
}

/* --- a move by hand ------------------------------------------------------------------------ */

static void start_victim(struct workload_info *ret)
{
    const char *const argv[] = {site.victim, "run", "6", "10", NULL};
    site_run(&site, "w", argv, ret);
    site_wait_lines(&site, "w", "chain.log", 5);
}

struct paths {
    char *images, *log; /* owned */
};

static struct engine_job job_for(const struct workload_info *info, struct paths *paths)
{
    paths->images = in_work("images");
    paths->log = in_work("log");
    assert_int_equal(file_make_dirs(paths->images, 0700, NULL), 0);
    assert_int_equal(file_make_dirs(paths->log, 0700, NULL), 0);
    return (struct engine_job){.root_pid = info->root_pid,
                               .image_dir = paths->images,
                               .work_dir = paths->log,
                               .cgroup_dir = info->cgroup_dir,
                               .timeout_ms = TIMEOUT_MS};
}

static void paths_done(struct paths *paths)
{
    free(paths->images);
    free(paths->log);
}

static void all_stopped(struct site *where, unsigned processes)
{
    pid_t *pids = NULL;
    unsigned count = 0;
    assert_int_equal(workloads_pids(where->workloads, "w", &pids, NULL), 0);
    while (pids[count])
        count++;
    assert_int_equal(count, processes);
    struct error err = {0};
    if (process_wait_stopped(pids, 0, 1000, &err) < 0)
        fail_msg("%s", err.message);
    free(pids);
}

/* Proves the whole log with the victim's own checker. */
static void chain_is_whole(void)
{
    struct process_outcome out;
    autofree char *log = xasprintf("%s/workloads/w/chain.log", site.state_dir);
    char *env[] = {NULL};
    char *argv[] = {site.victim, "check", log, "6", NULL};
    struct process_job job = {.argv = argv, .env = env, .timeout_ms = 20000};
    assert_int_equal(process_run(&job, &out, NULL), 0);
    if (out.exit_status != 0)
        fail_msg("%s", out.output);
}

static void dump(const struct engine_job *job, struct engine_result *result)
{
    struct error err = {0};
    if (engine_dump(criu, job, result, &err) < 0)
        fail_msg("%s\n%s", err.message, result->log_tail);
}

static int restore(struct site *where, const struct workload_info *from,
                   const struct engine_job *job, const char *migration, struct workload_info *ret,
                   struct error *err)
{
    autofree char *pidfile = in_work("pid"), *output = in_work("engine.out");
    const char *command[] = {site.victim, "run", NULL};
    struct workload_spec spec = {.name = "w", .pool = "default", .command = command};
    /* The folder is the source's: an allowed root of both. */
    spec.dir = from->dir;
    char **argv = NULL, **env = NULL;
    assert_int_equal(engine_restore_command(criu, job, pidfile, &argv, &env, err), 0);
    int rc = workloads_restore(where->workloads, &spec, migration, argv, env, pidfile, output,
                               TIMEOUT_MS, ret, err);
    engine_strv_free(argv);
    engine_strv_free(env);
    return rc;
}

static void destroy_source(void)
{
    struct error err = {0};
    if (workloads_destroy(site.workloads, "w", false, &err) < 0)
        fail_msg("%s", err.message);
}

/* The other node may take folders of the first, which stand for what was carried over. */
static void share_folders(void)
{
    snprintf(other.roots, sizeof(other.roots), "%s/workloads", site.state_dir);
    site_restart(&other);
}

static void moves_a_tree(void **state)
{
    (void)state;
    struct workload_info info = {0}, moved = {0};
    struct paths paths;
    struct engine_result result;
    struct error err = {0};
    share_folders();
    start_victim(&info);
    struct engine_job job = job_for(&info, &paths);
    assert_int_equal(engine_preflight(criu, &job, &err), 0);
    dump(&job, &result);
    assert_true(result.image_bytes > 6UL * 1024 * 1024);
    assert_true(result.frozen_ms > 0 && result.frozen_ms < TIMEOUT_MS);
    assert_string_equal(result.log_tail, "");
    all_stopped(&site, 3);
    unsigned lines = site_lines(&site, "w", "chain.log");
    process_sleep_ms(100);
    assert_int_equal(site_lines(&site, "w", "chain.log"), lines); /* it stands still */

    destroy_source(); /* its pids have to be free */
    if (restore(&other, &info, &job, "m-1", &moved, &err) < 0) {
        engine_restore_result(criu, &job, &result);
        fail_msg("%s\n%s", err.message, result.log_tail);
    }
    assert_int_equal(moved.root_pid, info.root_pid);
    assert_int_equal(moved.state, WORKLOAD_STOPPED);
    assert_string_equal(moved.migration, "m-1");
    all_stopped(&other, 3);
    process_sleep_ms(100);
    assert_int_equal(site_lines(&site, "w", "chain.log"), lines);
    struct process_stat stat;
    assert_int_equal(process_stat_read(moved.root_pid, &stat, NULL), 0);
    assert_int_equal(stat.ppid, moved.shim_pid);

    site_restart(&other); /* the agent may die while the tree waits */
    all_stopped(&other, 3);
    pid_t *pids = NULL;
    assert_int_equal(workloads_pids(other.workloads, "w", &pids, NULL), 0);
    assert_int_equal(timerfds_restart(pids, NULL, NULL),
                     0); /* as the agent's half of a move does */
    free(pids);
    if (workloads_continue(other.workloads, "w", NULL, &err) < 0)
        fail_msg("%s", err.message);
    site_wait_lines(&site, "w", "chain.log", lines + 20);
    chain_is_whole();
    assert_int_equal(workloads_stop(other.workloads, "w", 1000, NULL), 0);
    workload_info_done(&moved);
    site_wait_state(&other, "w", WORKLOAD_EXITED, &moved);
    assert_int_equal(moved.exit_status, 128 + SIGTERM);
    workload_info_done(&moved);
    workload_info_done(&info);
    paths_done(&paths);
}

/* The source's copy runs on after a dump, as if nothing had been. */
static void resumes_after_a_dump(void **state)
{
    (void)state;
    struct workload_info info = {0};
    struct paths paths;
    struct engine_result result;
    start_victim(&info);
    struct engine_job job = job_for(&info, &paths);
    dump(&job, &result);
    unsigned lines = site_lines(&site, "w", "chain.log");
    assert_int_equal(workloads_continue(site.workloads, "w", NULL, NULL), 0);
    site_wait_lines(&site, "w", "chain.log", lines + 10);
    chain_is_whole();
    workload_info_done(&info);
    paths_done(&paths);
}

/* A task that somebody had stopped stays stopped, here and there. */
static void keeps_stopped_what_was_stopped(void **state)
{
    (void)state;
    struct workload_info info = {0}, moved = {0};
    struct paths paths;
    struct engine_result result;
    struct error err = {0};
    const char *const argv[] = {"/bin/sh", "-c", "sleep 100 & echo $!; wait", NULL};
    share_folders();
    site_run(&site, "w", argv, &info);
    site_wait_lines(&site, "w", "stdout.log", 1);
    autofree char *text = site_read(&site, "w", "stdout.log");
    pid_t kept = (pid_t)strtol(text, NULL, 10);
    const pid_t keep[] = {kept, 0};
    assert_int_equal(kill(kept, SIGSTOP), 0);
    assert_int_equal(process_wait_stopped(keep, 0, 1000, NULL), 0);
    struct engine_job job = job_for(&info, &paths);
    dump(&job, &result);
    destroy_source();
    if (restore(&other, &info, &job, "m-1", &moved, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(workloads_continue(other.workloads, "w", keep, NULL), 0);
    struct process_stat stat;
    assert_int_equal(process_stat_read(kept, &stat, NULL), 0);
    assert_int_equal(stat.state, 'T');
    assert_int_equal(process_stat_read(moved.root_pid, &stat, NULL), 0);
    assert_int_equal(stat.state, 'S');
    workload_info_done(&moved);
    workload_info_done(&info);
    paths_done(&paths);
}

static void says_whose_a_taken_pid_is(void **state)
{
    (void)state;
    struct workload_info info = {0}, moved = {0};
    struct paths paths;
    struct engine_result result;
    struct error err = {0};
    share_folders();
    start_victim(&info);
    struct engine_job job = job_for(&info, &paths);
    dump(&job, &result);
    /* The source still has the pid: on one machine and in one pid namespace that cannot work. */
    assert_int_equal(restore(&other, &info, &job, "m-1", &moved, &err), -1);
    assert_non_null(strstr(err.message, "was not restored here"));
    engine_restore_result(criu, &job, &result);
    autofree char *expected = xasprintf("pid %d is taken here by 'victim' (state T", info.root_pid);
    if (!strstr(result.log_tail, expected))
        fail_msg("'%s' lacks '%s'", result.log_tail, expected);
    /* Nothing of the try is left, and the source's copy goes on. */
    assert_int_equal(workloads_get(other.workloads, "w", &moved, &err), -1);
    assert_int_equal(workloads_continue(site.workloads, "w", NULL, NULL), 0);
    site_wait_lines(&site, "w", "chain.log", site_lines(&site, "w", "chain.log") + 5);
    chain_is_whole();
    workload_info_done(&info);
    paths_done(&paths);
}

/* --- engines that do not work -------------------------------------------------------------- */

/* An engine that is a script: `dump` and `restore` are shell text. */
static struct engine *fake_engine(const char *dump_script, const char *restore_script)
{
    struct engine *engine = NULL;
    struct error err = {0};
    autofree char *path = in_work("fake-criu");
    autofree char *text = xasprintf("#!/bin/sh\n"
                                    "case $1 in\n"
                                    "--version) echo Version: 9.9 ;;\n"
                                    "check) exit 0 ;;\n"
                                    "dump) %s ;;\n"
                                    "restore) %s ;;\n"
                                    "esac\n",
                                    dump_script, restore_script);
    assert_int_equal(file_replace(path, text, 0700, NULL), 0);
    assert_int_equal(chmod(path, 0700), 0);
    if (engine_criu_new(path, &engine, &err) < 0)
        fail_msg("%s", err.message);
    assert_string_equal(engine_version(engine), "9.9");
    return engine;
}

static void runs_again(const struct workload_info *info)
{
    unsigned lines = site_lines(&site, "w", "chain.log");
    site_wait_lines(&site, "w", "chain.log", lines + 10);
    chain_is_whole();
    assert_int_equal(process_tracer(info->root_pid), 0);
}

static void a_failing_dump(const char *script, uint64_t timeout_ms, enum error_kind kind,
                           const char *says, const char *log)
{
    struct workload_info info = {0};
    struct paths paths;
    struct engine_result result;
    struct error err = {0};
    AUTO(engine) engine = fake_engine(script, "exit 1");
    start_victim(&info);
    struct engine_job job = job_for(&info, &paths);
    job.timeout_ms = timeout_ms;
    int64_t before = process_now_ms();
    assert_int_equal(engine_dump(engine, &job, &result, &err), -1);
    assert_true(process_now_ms() - before < (int64_t)timeout_ms + 5000);
    assert_int_equal(err.kind, kind);
    if (!strstr(err.message, says))
        fail_msg("'%s' lacks '%s'", err.message, says);
    if (!strstr(result.log_tail, log))
        fail_msg("'%s' lacks '%s'", result.log_tail, log);
    assert_non_null(strstr(err.message, "all its tasks run again here"));
    runs_again(&info);
    workload_info_done(&info);
    paths_done(&paths);
}

static void kills_an_engine_that_stops_the_tree_and_hangs(void **state)
{
    (void)state;
    /* Of this test's own group only: others run at the same time. */
    autofree char *script =
        xasprintf("for p in $(cat /sys/fs/cgroup/%s/w/tasks/cgroup.procs "
                  "/sys/fs/cgroup/unified/%s/w/tasks/cgroup.procs 2>/dev/null); "
                  "do kill -STOP $p; done; trap '' TERM; while :; do sleep 1; done",
                  site.cgroup_parent, site.cgroup_parent);
    a_failing_dump(script, 700, ERROR_TIMEOUT, "criu did not finish the dump", "");
}

static void kills_an_engine_that_traces_the_tree_and_hangs(void **state)
{
    (void)state;
    autofree char *script = xasprintf("exec %s \"$@\"", site.hang_engine);
    a_failing_dump(script, 700, ERROR_TIMEOUT, "was killed", "");
}

static void tells_an_engines_last_words(void **state)
{
    (void)state;
    a_failing_dump("echo '(00.1) Error (criu/x.c:1): made to fail' >&2; exit 3", 5000, ERROR_FAILED,
                   "(exit status 3): (00.1) Error (criu/x.c:1): made to fail", "made to fail");
}

static void does_not_believe_a_dump_that_left_tasks_running(void **state)
{
    (void)state;
    a_failing_dump("exit 0", 5000, ERROR_FAILED, "criu dumped, and left a task running", "");
}

/* An engine that outlived its agent still holds the tree; abort frees it. */
static void frees_a_tree_from_a_left_engine(void **state)
{
    (void)state;
    struct workload_info info = {0};
    struct paths paths;
    start_victim(&info);
    struct engine_job job = job_for(&info, &paths);
    pid_t engine_pid = fork();
    if (engine_pid == 0) {
        autofree char *pid = xasprintf("%d", info.root_pid);
        execl(site.hang_engine, "criu", "dump", "--images-dir", job.image_dir, "--tree", pid,
              (char *)NULL);
        _exit(127);
    }
    for (int i = 0; i < 1000 && process_tracer(info.root_pid) == 0; i++)
        process_sleep_ms(5);
    assert_int_equal(process_tracer(info.root_pid), engine_pid);
    AUTO(engine) engine = fake_engine("exit 1", "exit 1");
    struct error err = {0};
    if (engine_abort(engine, &job, NULL, &err) < 0)
        fail_msg("%s", err.message);
    int status = 0;
    assert_int_equal(waitpid(engine_pid, &status, 0), engine_pid);
    assert_true(WIFSIGNALED(status));
    runs_again(&info);
    workload_info_done(&info);
    paths_done(&paths);
}

static void restore_with(const char *script, uint64_t timeout_ms, enum error_kind kind,
                         const char *says)
{
    struct workload_info info = {0};
    struct error err = {0};
    AUTO(engine) engine = fake_engine("exit 1", script);
    autofree char *pidfile = in_work("pid"), *output = in_work("engine.out");
    struct paths paths;
    struct workload_info nobody = {.cgroup_dir = (char *)""};
    struct engine_job job = job_for(&nobody, &paths);
    const char *command[] = {"x", NULL};
    struct workload_spec spec = {.name = "w", .pool = "default", .command = command};
    char **argv = NULL, **env = NULL;
    assert_int_equal(engine_restore_command(engine, &job, pidfile, &argv, &env, NULL), 0);
    int64_t before = process_now_ms();
    assert_int_equal(workloads_restore(site.workloads, &spec, "m-1", argv, env, pidfile, output,
                                       timeout_ms, &info, &err),
                     -1);
    assert_true(process_now_ms() - before < (int64_t)timeout_ms + 5000);
    assert_int_equal(err.kind, kind);
    if (!strstr(err.message, says))
        fail_msg("'%s' lacks '%s'", err.message, says);
    assert_int_equal(workloads_get(site.workloads, "w", &info, NULL), -1);
    engine_strv_free(argv);
    engine_strv_free(env);
    paths_done(&paths);
}

static void a_restore_that_fails_leaves_nothing(void **state)
{
    (void)state;
    restore_with("exit 4", 5000, ERROR_FAILED, "the engine's restore ended with status 4");
    restore_with("exit 0", 5000, ERROR_NOT_FOUND, "pid"); /* no pidfile */
    restore_with("echo 1 > $(dirname $4)/pid; exit 0", 5000, ERROR_FAILED, "came back under");
    /* A number of seconds that no other process sleeps. */
    autofree char *sleeper = xasprintf("sleep 9%d", (int)getpid());
    /* It says that all is well and left the tree running. */
    autofree char *running = xasprintf("%s & echo $! > $(dirname $4)/pid; exit 0", sleeper);
    restore_with(running, 5000, ERROR_FAILED, "expected to be stopped");
    /* It hangs, with children of its own that ignore SIGTERM. */
    autofree char *hanging = xasprintf("trap '' TERM; setsid %s & %s", sleeper, sleeper);
    restore_with(hanging, 500, ERROR_TIMEOUT, "did not end within 500 ms");
    autofree char *look = xasprintf("! ps -eo args | grep -q '^%s$'", sleeper);
    assert_int_equal(system(look), 0);
}

static void an_unknown_wish_of_an_image_is_refused(void **state)
{
    (void)state;
    struct workload_info nobody = {.cgroup_dir = (char *)""};
    struct paths paths;
    struct error err = {0};
    char **argv = NULL, **env = NULL;
    AUTO(engine) engine = fake_engine("exit 1", "exit 1");
    struct engine_job job = job_for(&nobody, &paths);
    autofree char *options = xasprintf("%s/engine-options", paths.images);
    assert_int_equal(file_replace(options, "--action-script=/tmp/evil\n", 0600, NULL), 0);
    assert_int_equal(engine_restore_command(engine, &job, "/tmp/pid", &argv, &env, &err), -1);
    assert_int_equal(err.kind, ERROR_INVALID);
    assert_int_equal(file_replace(options, "shell-job\n", 0600, NULL), 0);
    assert_int_equal(engine_restore_command(engine, &job, "/tmp/pid", &argv, &env, &err), 0);
    bool found = false;
    for (char **a = argv; *a; a++)
        found = found || strcmp(*a, "--shell-job") == 0;
    assert_true(found);
    engine_strv_free(argv);
    engine_strv_free(env);
    paths_done(&paths);
}

static void finding_an_engine(void **state)
{
    (void)state;
    struct engine *engine = NULL;
    struct error err = {0};
    autofree char *path = in_work("broken-criu");
    assert_int_equal(engine_criu_new("/nonexistent/criu", &engine, &err), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
    assert_int_equal(file_replace(path,
                                  "#!/bin/sh\n[ $1 = --version ] && echo 'Version: 3.17.1' "
                                  "&& exit 0\necho 'Error (criu/vdso.c:613): vdso: bad'; exit 1\n",
                                  0700, NULL),
                     0);
    assert_int_equal(chmod(path, 0700), 0);
    assert_int_equal(engine_criu_new(path, &engine, &err), -1);
    assert_int_equal(err.kind, ERROR_FAILED);
    assert_non_null(strstr(err.message, "criu 3.17.1"));
    assert_non_null(strstr(err.message, "vdso: bad"));
    assert_int_equal(engine_criu_new("/bin/true", &engine, &err), -1);
    assert_non_null(strstr(err.message, "says no version"));
}

/* --- preflight ----------------------------------------------------------------------------- */

enum trouble { TERMINAL, OWN_TERMINAL, DEVICE, GHOST, TCP, TRACED, IO_URING, FINE, CASES };

static void get_into(enum trouble trouble)
{
    int master, slave, pair[2];
    struct sockaddr address;
    socklen_t length = sizeof(address);
    switch (trouble) {
    case TERMINAL: /* the master stays with the parent */
    case OWN_TERMINAL:
        if (openpty(&master, &slave, NULL, NULL, NULL) < 0)
            _exit(1);
        break;
    case DEVICE:
        if (open("/dev/kmsg", O_RDONLY) < 0 && open("/dev/vda", O_RDONLY) < 0)
            _exit(1);
        break;
    case GHOST:
        master = open("/tmp", O_TMPFILE | O_RDWR, 0600);
        if (master < 0 || ftruncate(master, (off_t)CRIU_GHOST_LIMIT_BYTES + 1) < 0)
            _exit(1);
        break;
    case TCP:
        pair[0] = socket(AF_INET, SOCK_STREAM, 0);
        pair[1] = socket(AF_INET, SOCK_STREAM, 0);
        if (listen(pair[0], 1) < 0 || getsockname(pair[0], &address, &length) < 0 ||
            connect(pair[1], &address, length) < 0)
            _exit(1);
        break;
    case IO_URING: {
        char params[120] = {0};
        if (syscall(SYS_io_uring_setup, 4, params) < 0)
            _exit(77);
        break;
    }
    case TRACED:
    case FINE:
    case CASES:
        break;
    }
}

static pid_t in_trouble(enum trouble trouble)
{
    int ready[2], master = -1, slave = -1;
    assert_int_equal(pipe(ready), 0);
    if (trouble == TERMINAL)
        assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);
        setsid();
        for (int fd = 0; fd < 3; fd++)
            dup2(trouble == TERMINAL && fd == 0 ? slave : null, fd);
        int keep = dup2(ready[1], 200);
        close_range(3, 199, 0);
        close_range(201, ~0U, 0);
        if (trouble != TERMINAL)
            get_into(trouble);
        ssize_t n = write(keep, "x", 1);
        close(keep);
        if (n == 1)
            for (;;)
                pause();
        _exit(1);
    }
    close(ready[1]);
    char c = 0;
    ssize_t n = read(ready[0], &c, 1);
    close(ready[0]);
    if (slave >= 0)
        close(slave); /* the master stays open until the test ends */
    if (n != 1) {
        waitpid(pid, NULL, 0);
        return -1; /* this machine does not offer that trouble */
    }
    return pid;
}

static void says_beforehand_what_cannot_move(void **state)
{
    (void)state;
    static const char *const says[CASES] = {
        [TERMINAL] = "a terminal stays on its machine",
        [DEVICE] = "a device stays on its machine",
        [GHOST] = "holds the deleted file",
        [TCP] = "the tree holds a TCP connection",
        [TRACED] = "is traced by",
        [IO_URING] = "holds an io_uring",
        /* NULL: it can */
    };
    for (int trouble = 0; trouble < CASES; trouble++) {
        struct error err = {0};
        struct criu_needs needs = {0};
        pid_t pid = in_trouble((enum trouble)trouble);
        if (pid < 0)
            continue;
        if (trouble == TRACED)
            assert_int_equal(ptrace(PTRACE_SEIZE, pid, NULL, NULL), 0);
        struct engine_job job = {.root_pid = pid, .cgroup_dir = ""};
        int rc = criu_preflight(&job, &needs, &err);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        if ((rc == 0) != !says[trouble] || (rc < 0 && !strstr(err.message, says[trouble])))
            fail_msg("trouble %d: %d, '%s'", trouble, rc, err.message);
        assert_true(rc == 0 || err.kind == ERROR_CONFLICT);
    }
}

static void says_when_there_is_no_root(void **state)
{
    (void)state;
    struct error err = {0};
    struct criu_needs needs = {0};
    struct engine_job job = {.root_pid = 0, .cgroup_dir = ""};
    assert_int_equal(criu_preflight(&job, &needs, &err), -1);
    assert_non_null(strstr(err.message, "first process has ended"));
    job.root_pid = 4194303;
    assert_int_equal(criu_preflight(&job, &needs, &err), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
}

static void a_session_outside_the_tree_is_a_shell_job(void **state)
{
    (void)state;
    struct error err = {0};
    struct criu_needs needs = {0};
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);
        for (int fd = 0; fd < 3; fd++)
            dup2(null, fd);
        close_range(3, ~0U, 0);
        for (;;)
            pause();
    }
    process_sleep_ms(50);
    struct engine_job job = {.root_pid = pid, .cgroup_dir = ""};
    int rc = criu_preflight(&job, &needs, &err);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    assert_int_equal(rc, 0);
    assert_true(needs.shell_job);
}

/* --- the log and the statistics ------------------------------------------------------------ */

static void picks_the_errors_of_a_log(void **state)
{
    (void)state;
    char tail[2048];
    autofree char *log = in_work("dump.log");
    criu_log_tail(work, "dump.log", tail, sizeof(tail));
    assert_string_equal(tail, ""); /* no log */
    assert_int_equal(file_replace(log, "(00.1) one\n(00.2) two\n", 0600, NULL), 0);
    criu_log_tail(work, "dump.log", tail, sizeof(tail));
    assert_string_equal(tail, "(00.1) one\n(00.2) two");
    assert_int_equal(file_replace(log,
                                  "(00.1) fine\n(00.2) Error (criu/a.c:1): first\n(00.3) fine\n"
                                  "(00.4) Error (criu/b.c:2): second\n(00.5) fine\n",
                                  0600, NULL),
                     0);
    criu_log_tail(work, "dump.log", tail, sizeof(tail));
    assert_string_equal(tail,
                        "(00.2) Error (criu/a.c:1): first\n(00.4) Error (criu/b.c:2): second");
    char small[24];
    criu_log_tail(work, "dump.log", small, sizeof(small));
    assert_true(strlen(small) < sizeof(small));
    autofree char *taken = xasprintf(
        "(00.1) Error (criu/cr-restore.c:1): 7: Can't fork for %d: File exists\n", (int)getpid());
    assert_int_equal(file_replace(log, taken, 0600, NULL), 0);
    criu_log_tail(work, "dump.log", tail, sizeof(tail));
    autofree char *expected = xasprintf("pid %d is taken here by '", (int)getpid());
    assert_ptr_equal(strstr(tail, expected), tail);
}

static void reads_frozen_time(void **state)
{
    (void)state;
    /* magics, length 10; stats_entry.dump { freezing_time=100 frozen_time=150000 memdump=1 } */
    static const unsigned char stats[] = {0x40, 0x59, 0x10, 0x55, 0x06, 0x33, 0x09, 0x57,
                                          10,   0,    0,    0,    0x0a, 8,    0x08, 100,
                                          0x10, 0xf0, 0x93, 0x09, 0x18, 1};
    autofree char *path = in_work("stats-dump");
    for (size_t length = 0; length <= sizeof(stats); length++) { /* cut anywhere: no harm */
        FILE *file = fopen(path, "we");
        assert_non_null(file);
        assert_int_equal(fwrite(stats, 1, length, file), length);
        fclose(file);
        assert_int_equal(criu_frozen_ms(path), length == sizeof(stats) ? 150 : 0);
    }
    assert_int_equal(unlink(path), 0);
    assert_int_equal(criu_frozen_ms(path), 0);
}

static void decides_on_breakpoints_quickly(void **state)
{
    (void)state;
    int64_t before = process_now_ms();
    bool fire = criu_breakpoints_fire();
    assert_true(process_now_ms() - before < 5000);
    assert_int_equal(criu_breakpoints_fire(), fire);
    int status;
    assert_int_equal(waitpid(-1, &status, WNOHANG), -1); /* no child is left */
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, up, down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decides_on_breakpoints_quickly),
        TEST(finding_an_engine),
        TEST(kills_an_engine_that_stops_the_tree_and_hangs),
        TEST(kills_an_engine_that_traces_the_tree_and_hangs),
        TEST(tells_an_engines_last_words),
        TEST(does_not_believe_a_dump_that_left_tasks_running),
        TEST(frees_a_tree_from_a_left_engine),
        TEST(a_restore_that_fails_leaves_nothing),
        TEST(an_unknown_wish_of_an_image_is_refused),
        TEST(says_beforehand_what_cannot_move),
        TEST(says_when_there_is_no_root),
        TEST(a_session_outside_the_tree_is_a_shell_job),
        TEST(picks_the_errors_of_a_log),
        TEST(reads_frozen_time),
    };
    const struct CMUnitTest with_criu[] = {
        TEST(moves_a_tree),
        TEST(resumes_after_a_dump),
        TEST(keeps_stopped_what_was_stopped),
        TEST(says_whose_a_taken_pid_is),
    };
    site_requires_root();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (engine_criu_new(NULL, &criu, &criu_error) < 0) {
        printf("SKIP: no CRIU works here: %s\n", criu_error.message);
        return failed ? failed : 77;
    }
    failed += cmocka_run_group_tests(with_criu, NULL, NULL);
    engine_free(criu);
    return failed;
}
