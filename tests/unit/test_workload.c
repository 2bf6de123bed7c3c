/* SPDX-License-Identifier: Apache-2.0 */
/* test_workload.c - real workloads under real shims, in a temporary state folder. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "cmocka_test.h"
#include "file.h"
#include "process.h"
#include "workload_private.h"
#include "workload_site.h"

static struct site site;

static int up(void **state)
{
    (void)state;
    site_up(&site, "a");
    return 0;
}

static int down(void **state)
{
    (void)state;
    site_down(&site);
    return 0;
}

static void sh(const char *name, const char *script, struct workload_info *ret)
{
    const char *const argv[] = {"/bin/sh", "-c", script, NULL};
    site_run(&site, name, argv, ret);
}

static int try_run(const struct workload_spec *spec, struct error *err)
{
    struct workload_info info = {0};
    int rc = workloads_run(site.workloads, spec, &info, err);
    workload_info_done(&info);
    return rc;
}

static bool gone(pid_t pid)
{
    struct process_stat stat;
    for (int i = 0; i < 1000; i++) {
        if (process_stat_read(pid, &stat, NULL) < 0)
            return true;
        process_sleep_ms(5);
    }
    return false;
}

/* --- beginning and end --------------------------------------------------------------------- */

static void runs_and_tells_the_status(void **state)
{
    (void)state;
    static const struct {
        const char *script;
        int status;
    } cases[] = {
        {"exit 0",              0            },
        {"exit 3",              3            },
        {"kill -SEGV $$",       128 + SIGSEGV},
        {"sleep 0.1; exit 255", 255          },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct workload_info info = {0};
        sh("w", cases[i].script, &info); /* the name is free again each time */
        workload_info_done(&info);
        site_wait_state(&site, "w", WORKLOAD_EXITED, &info);
        assert_int_equal(info.exit_status, cases[i].status);
        assert_int_equal(info.root_pid, 0);
        assert_int_equal(access(info.cgroup_dir, F_OK), -1);
        workload_info_done(&info);
    }
    /* Each start was told, and each end that was not over before the start had been told. */
    for (int i = 0; i < 1000 && __atomic_load_n(&site.changes, __ATOMIC_RELAXED) < 5; i++)
        process_sleep_ms(2);
    assert_true(__atomic_load_n(&site.changes, __ATOMIC_RELAXED) >= 5);
}

/* What the workload sees of its surroundings. */
static void starts_it_clean(void **state)
{
    (void)state;
    struct workload_info info = {0};
    int leaked = dup(STDOUT_FILENO); /* not close-on-exec, as a careless library's */
    assert_true(leaked > 2);
    signal(SIGPIPE, SIG_IGN);
    sh("w",
       "pwd; env | grep -v -e ^PWD= -e ^SHLVL= -e ^_= -e ^OLDPWD=; ls -l /proc/self/fd | grep -c ' "
       "-> '; "
       "readlink /proc/$$/fd/0 /proc/$$/fd/1; cat /proc/self/cgroup | grep ^0::; umask; "
       "grep SigIgn /proc/self/status; grep SigBlk /proc/self/status; ps -o sid= -p $$ | tr -d ' "
       "'; echo err "
       ">&2; sleep 1", /* so that it still has a pid when it is asked for */
       &info);
    pid_t pid = info.root_pid;
    workload_info_done(&info);
    site_wait_state(&site, "w", WORKLOAD_EXITED, &info);
    close(leaked);
    autofree char *out = site_read(&site, "w", "stdout.log");
    autofree char *errors = site_read(&site, "w", "stderr.log");
    autofree char *expected = xasprintf(
        "%s/workloads/w\n"
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
        "4\n/dev/null\n%s/workloads/w/stdout.log\n"
        "%s%s%s"
        "0022\nSigIgn:\t0000000000000000\nSigBlk:\t0000000000000000\n%d\nerr\n",
        site.state_dir, site.state_dir, *info.cgroup_dir ? "0::/" : "",
        *info.cgroup_dir ? site.cgroup_parent : "", *info.cgroup_dir ? "/w/tasks\n" : "", pid);
    autofree char *got = xasprintf("%s%s", out, errors);
    assert_string_equal(got, expected);
    workload_info_done(&info);
}

static void says_why_it_did_not_start(void **state)
{
    (void)state;
    static const char *const missing[] = {"/nonexistent/program", NULL};
    static const char *const folder[] = {"/tmp", NULL};
    static const char *const none[] = {NULL};
    static const char *const fine[] = {"/bin/true", NULL};
    static const char *const bad_env[] = {"NOVALUE", NULL};
    static const struct {
        struct workload_spec spec;
        enum error_kind kind;
        const char *says;
    } cases[] = {
        {{.name = "w", .pool = "p", .command = missing},
         ERROR_INVALID,                                                                 "workload 'w' was not started: '/nonexistent/program': cannot execute: No such file"},
        {{.name = "w", .pool = "p", .command = folder},                  ERROR_INVALID, "Permission denied"                                                                 },
        {{.name = "w", .pool = "p", .command = none},                    ERROR_INVALID, "command: expected"                                                                 },
        {{.name = "w", .pool = "p", .command = NULL},                    ERROR_INVALID, "command: expected"                                                                 },
        {{.name = "../w", .pool = "p", .command = fine},                 ERROR_INVALID, "workload: '../w'"                                                                  },
        {{.name = "w", .pool = "", .command = fine},                     ERROR_INVALID, "pool: ''"                                                                          },
        {{.name = "w", .pool = "p", .command = fine, .cwd = "tmp"},      ERROR_INVALID, "cwd: 'tmp'"                                                                        },
        {{.name = "w", .pool = "p", .command = fine, .cwd = "/nowhere"},
         ERROR_INVALID,                                                                 "cannot enter its working directory: No such file"                                  },
        {{.name = "w", .pool = "p", .command = fine, .env = bad_env},
         ERROR_INVALID,                                                                 "env: 'NOVALUE'"                                                                    },
        {{.name = "w", .pool = "p", .command = fine, .dir = "/etc/w"},
         ERROR_INVALID,                                                                 "beneath none of the allowed roots"                                                 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        assert_int_equal(try_run(&cases[i].spec, &err), -1);
        assert_int_equal(err.kind, cases[i].kind);
        if (!strstr(err.message, cases[i].says))
            fail_msg("'%s' lacks '%s'", err.message, cases[i].says);
    }
    /* Nothing is left of any of them. */
    json_object *all = workloads_to_json(site.workloads);
    assert_int_equal(json_array_size(all), 0);
    json_object_put(all);
    autofree char *home = xasprintf("%s/workloads/w", site.state_dir);
    autofree char *run = xasprintf("%s/run/w", site.state_dir);
    assert_int_equal(access(home, F_OK), -1);
    assert_int_equal(access(run, F_OK), -1);
}

static void refuses_a_second_of_the_name(void **state)
{
    (void)state;
    struct workload_info info = {0};
    struct error err = {0};
    static const char *const fine[] = {"/bin/true", NULL};
    struct workload_spec spec = {.name = "w", .pool = "p", .command = fine};
    sh("w", "exec sleep 100", &info);
    assert_int_equal(try_run(&spec, &err), -1);
    assert_int_equal(err.kind, ERROR_CONFLICT);
    workload_info_done(&info);
}

static void runs_as_the_user(void **state)
{
    (void)state;
    struct workload_info info = {0};
    static const char *const argv[] = {"/bin/sh", "-c", "id -u; id -g; id -G; touch mine", NULL};
    struct workload_spec spec = {
        .name = "w", .pool = "p", .command = argv, .uid = 54321, .gid = 54322};
    chmod(site.state_dir, 0755);
    assert_int_equal(workloads_run(site.workloads, &spec, &info, NULL), 0);
    workload_info_done(&info);
    site_wait_state(&site, "w", WORKLOAD_EXITED, &info);
    workload_info_done(&info);
    autofree char *out = site_read(&site, "w", "stdout.log");
    assert_string_equal(out, "54321\n54322\n54322\n");
    autofree char *mine = xasprintf("%s/workloads/w/mine", site.state_dir);
    struct stat st;
    assert_int_equal(stat(mine, &st), 0);
    assert_int_equal(st.st_uid, 54321);
}

/* --- the tree ------------------------------------------------------------------------------ */

static void waits_for_orphans_and_reaps_them(void **state)
{
    (void)state;
    struct workload_info info = {0};
    sh("w", "(sleep 0.6 & echo $! > orphan) ; sleep 0.2; exit 5", &info);
    pid_t shim = info.shim_pid;
    workload_info_done(&info);
    /* The root has ended, the orphan lives: still running, without a root. */
    for (int i = 0; i < 500; i++) {
        assert_int_equal(workloads_get(site.workloads, "w", &info, NULL), 0);
        if (info.root_pid == 0)
            break;
        workload_info_done(&info);
        process_sleep_ms(2);
    }
    assert_int_equal(info.state, WORKLOAD_RUNNING);
    assert_int_equal(info.root_pid, 0);
    workload_info_done(&info);
    autofree char *text = site_read(&site, "w", "orphan");
    pid_t orphan = (pid_t)strtol(text, NULL, 10);
    struct process_stat stat;
    assert_int_equal(process_stat_read(orphan, &stat, NULL), 0);
    assert_int_equal(stat.ppid, shim); /* the subreaper has it */
    pid_t *pids = NULL;
    assert_int_equal(workloads_pids(site.workloads, "w", &pids, NULL), 0);
    assert_true(process_list_has(pids, orphan));
    free(pids);
    site_wait_state(&site, "w", WORKLOAD_EXITED, &info);
    assert_int_equal(info.exit_status, 5); /* the root's */
    workload_info_done(&info);
    assert_true(gone(orphan)); /* reaped, no zombie */
    assert_true(gone(shim));
}

static void stops_gently(void **state)
{
    (void)state;
    struct workload_info info = {0};
    sh("w", "trap 'echo asked; exit 9' TERM; echo ready; while :; do sleep 0.05; done", &info);
    workload_info_done(&info);
    site_wait_lines(&site, "w", "stdout.log", 1);
    assert_int_equal(workloads_stop(site.workloads, "w", 5000, NULL), 0);
    assert_int_equal(workloads_get(site.workloads, "w", &info, NULL), 0);
    assert_int_equal(info.state, WORKLOAD_EXITED);
    assert_int_equal(info.exit_status, 9);
    workload_info_done(&info);
    autofree char *out = site_read(&site, "w", "stdout.log");
    assert_string_equal(out, "ready\nasked\n");
    assert_int_equal(workloads_stop(site.workloads, "w", 0, NULL), 0); /* has exited: fine */
}

/* Root and children ignore SIGTERM, one of them in a session of its own. */
static void stops_with_force(void **state)
{
    (void)state;
    struct workload_info info = {0};
    sh("w", "trap '' TERM; sleep 100 & setsid sleep 100 & echo ready; wait; sleep 100", &info);
    pid_t shim = info.shim_pid;
    workload_info_done(&info);
    site_wait_lines(&site, "w", "stdout.log", 1);
    pid_t *pids = NULL;
    assert_int_equal(workloads_pids(site.workloads, "w", &pids, NULL), 0);
    int64_t before = process_now_ms();
    assert_int_equal(workloads_stop(site.workloads, "w", 200, NULL), 0);
    assert_true(process_now_ms() - before >= 200);
    for (pid_t *p = pids; *p; p++)
        assert_true(gone(*p));
    free(pids);
    assert_true(gone(shim));
    assert_int_equal(workloads_get(site.workloads, "w", &info, NULL), 0);
    assert_int_equal(info.exit_status, 128 + SIGKILL);
    workload_info_done(&info);
}

/* It has a handler, which a stopped task runs only once it goes on. */
static void stops_what_is_stopped(void **state)
{
    (void)state;
    struct workload_info info = {0};
    sh("w", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done", &info);
    site_wait_lines(&site, "w", "stdout.log", 1);
    kill(info.root_pid, SIGSTOP);
    workload_info_done(&info);
    int64_t before = process_now_ms();
    assert_int_equal(workloads_stop(site.workloads, "w", 8000, NULL), 0);
    assert_true(process_now_ms() - before < 4000); /* gently, not by force */
    assert_int_equal(workloads_get(site.workloads, "w", &info, NULL), 0);
    assert_int_equal(info.exit_status, 9);
    workload_info_done(&info);
}

static void destroys(void **state)
{
    (void)state;
    struct workload_info info = {0};
    sh("w", "trap '' TERM; sleep 100; sleep 100", &info);
    autofree char *dir = xstrdup(info.dir), *cgroup = xstrdup(info.cgroup_dir);
    pid_t root = info.root_pid, shim = info.shim_pid;
    workload_info_done(&info);
    assert_int_equal(workloads_hold(site.workloads, "w", "m-1", NULL), 0);
    assert_int_equal(workloads_destroy(site.workloads, "w", true, NULL), 0);
    assert_true(gone(root) && gone(shim));
    assert_int_equal(access(dir, F_OK), -1);
    assert_true(!*cgroup || access(cgroup, F_OK) == -1);
    struct error err = {0};
    assert_int_equal(workloads_get(site.workloads, "w", &info, &err), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
    assert_int_equal(workloads_destroy(site.workloads, "w", true, NULL), 0); /* twice is fine */
    assert_int_equal(workloads_destroy(site.workloads, "../etc", true, &err), -1);
}

/* --- the agent goes and comes -------------------------------------------------------------- */

static void outlives_the_agent(void **state)
{
    (void)state;
    struct workload_info before = {0}, after = {0};
    sh("w", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done", &before);
    site_wait_lines(&site, "w", "stdout.log", 3);
    assert_int_equal(workloads_hold(site.workloads, "w", "m-7", NULL), 0);
    site_restart(&site);
    assert_int_equal(workloads_get(site.workloads, "w", &after, NULL), 0);
    assert_int_equal(after.state, WORKLOAD_RUNNING);
    assert_int_equal(after.root_pid, before.root_pid);
    assert_int_equal(after.shim_pid, before.shim_pid);
    assert_int_equal(after.started_at_ms, before.started_at_ms);
    assert_string_equal(after.migration, "m-7");
    assert_string_equal(json_item_str(after.command, 0), "/bin/sh");
    site_wait_lines(&site, "w", "stdout.log", site_lines(&site, "w", "stdout.log") + 5);
    assert_int_equal(workloads_hold(site.workloads, "w", "", NULL), 0);
    assert_int_equal(workloads_stop(site.workloads, "w", 5000, NULL), 0);
    workload_info_done(&before);
    workload_info_done(&after);
}

static void learns_of_an_end_that_it_missed(void **state)
{
    (void)state;
    struct workload_info info = {0};
    sh("w", "sleep 0.3; exit 42", &info);
    pid_t root = info.root_pid;
    workload_info_done(&info);
    workloads_free(site.workloads);
    site.workloads = NULL;
    assert_true(gone(root));
    waitpid(-1, NULL, 0); /* the shim is our child as we only play that we died */
    struct workloads_config config = {
        .state_dir = site.state_dir, .cgroup_parent = site.cgroup_parent, .shim_path = site.shim};
    assert_int_equal(workloads_new(&config, &site.workloads, NULL), 0);
    assert_int_equal(workloads_get(site.workloads, "w", &info, NULL), 0);
    assert_int_equal(info.state, WORKLOAD_EXITED);
    assert_int_equal(info.exit_status, 42);
    assert_true(!*info.cgroup_dir || access(info.cgroup_dir, F_OK) == -1);
    workload_info_done(&info);
}

static void survives_the_death_of_its_shim(void **state)
{
    (void)state;
    struct workload_info info = {0}, after = {0};
    sh("w", "exec sleep 100", &info);
    kill(info.shim_pid, SIGKILL);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(workloads_get(site.workloads, "w", &after, NULL), 0);
        if (after.shim_pid != info.shim_pid)
            break;
        workload_info_done(&after);
        process_sleep_ms(5);
    }
    assert_int_not_equal(after.shim_pid, info.shim_pid);
    assert_int_equal(after.state, WORKLOAD_RUNNING);
    assert_int_equal(after.root_pid, info.root_pid);
    workload_info_done(&after);
    assert_int_equal(workloads_stop(site.workloads, "w", 5000, NULL), 0);
    assert_int_equal(workloads_get(site.workloads, "w", &after, NULL), 0);
    assert_int_equal(after.state, WORKLOAD_EXITED);
    assert_int_equal(after.exit_status, -1); /* nobody could ask */
    workload_info_done(&after);
    workload_info_done(&info);
}

static void keeps_a_corrupt_record_aside(void **state)
{
    (void)state;
    autofree char *dir = xasprintf("%s/run/broken", site.state_dir);
    autofree char *path = xasprintf("%s/workload.json", dir);
    struct workload_info info = {0};
    assert_int_equal(file_make_dirs(dir, 0700, NULL), 0);
    assert_int_equal(file_replace(path, "{\"name\":", 0600, NULL), 0);
    sh("w", "exec sleep 100", &info);
    workload_info_done(&info);
    site_restart(&site);
    assert_int_equal(workloads_get(site.workloads, "w", &info, NULL), 0);
    workload_info_done(&info);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(file_remove_tree(dir, NULL), 0);
}

/* --- adopting ------------------------------------------------------------------------------ */

static pid_t stranger(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", "sleep 100 & wait", (char *)NULL);
        _exit(127);
    }
    struct process_list tree = {0};
    for (int i = 0; i < 1000 && tree.count < 2; i++) {
        free(tree.pids);
        tree = (struct process_list){0};
        process_list_tree(pid, true, &tree, NULL);
        process_sleep_ms(5);
    }
    free(tree.pids);
    return pid;
}

static void adopts(void **state)
{
    (void)state;
    struct workload_info info = {0};
    struct error err = {0};
    pid_t pid = stranger();
    assert_int_equal(workloads_adopt(site.workloads, "w", "default", pid, &info, &err), 0);
    assert_int_equal(info.root_pid, pid);
    assert_true(info.adopted);
    assert_string_equal(json_item_str(info.command, 2), "sleep 100 & wait");
    workload_info_done(&info);
    pid_t *pids = NULL;
    assert_int_equal(workloads_pids(site.workloads, "w", &pids, NULL), 0);
    assert_true(pids[0] && pids[1] && !pids[2]);
    free(pids);
    assert_int_equal(workloads_adopt(site.workloads, "again", "default", pid, &info, &err), -1);
    assert_int_equal(err.kind, ERROR_CONFLICT);
    site_restart(&site);
    assert_int_equal(workloads_stop(site.workloads, "w", 200, NULL), 0);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    site_wait_state(&site, "w", WORKLOAD_EXITED, &info);
    assert_int_equal(info.exit_status, -1);
    workload_info_done(&info);
}

static void does_not_adopt_just_anything(void **state)
{
    (void)state;
    const struct {
        pid_t pid;
        enum error_kind kind;
        const char *says;
    } cases[] = {
        {getpid(),  ERROR_INVALID,   "is the agent"      },
        {getppid(), ERROR_INVALID,   "lives above it"    },
        {1,         ERROR_INVALID,   "process 1 "        },
        {4194303,   ERROR_NOT_FOUND, "no process 4194303"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct workload_info info = {0};
        struct error err = {0};
        assert_int_equal(workloads_adopt(site.workloads, "w", "default", cases[i].pid, &info, &err),
                         -1);
        assert_int_equal(err.kind, cases[i].kind);
        if (!strstr(err.message, cases[i].says))
            fail_msg("'%s' lacks '%s'", err.message, cases[i].says);
    }
}

/* --- folders ------------------------------------------------------------------------------- */

static int check_dir(const char *dir, unsigned uid, struct error *err)
{
    autofree char *resolved = NULL;
    struct workload_spec spec = {.name = "w", .pool = "p", .dir = dir, .uid = uid, .gid = uid};
    int rc = workloads_check(site.workloads, &spec, &resolved, err);
    if (rc == 0 && dir)
        assert_string_equal(resolved, dir);
    return rc;
}

static void takes_folders_beneath_roots_only(void **state)
{
    (void)state;
    static const struct {
        const char *below; /* the state folder */
        unsigned uid;
        enum error_kind kind; /* ERROR_NONE: taken */
    } cases[] = {
        {"/root/w",           0,    ERROR_NONE     },
        {"/root/deep/er/w",   0,    ERROR_NONE     },
        {"/root/there",       0,    ERROR_NONE     },
        {"/root/there",       1234, ERROR_NONE     }, /* his own */
        {"/root/there",       1235, ERROR_FORBIDDEN},
        {"/root/there/below", 1235, ERROR_FORBIDDEN},
        {"/root/new",         1235, ERROR_NONE     },
        {"/root",             0,    ERROR_INVALID  }, /* the root itself */
        {"/rootless/w",       0,    ERROR_INVALID  },
        {"/root/../run/w",    0,    ERROR_INVALID  },
        {"/root//w",          0,    ERROR_INVALID  },
        {"/root/./w",         0,    ERROR_INVALID  },
        {"/root/w/",          0,    ERROR_INVALID  },
        {"/root/link",        0,    ERROR_INVALID  },
        {"/root/link/w",      0,    ERROR_INVALID  },
        {"/root/file",        0,    ERROR_INVALID  },
        {"/root/file/w",      0,    ERROR_INVALID  },
        {"/root/a\nb",        0,    ERROR_INVALID  },
        {"/run/w",            0,    ERROR_INVALID  },
    };
    autofree char *there = xasprintf("%s/there", site.roots);
    autofree char *link = xasprintf("%s/link", site.roots);
    autofree char *file = xasprintf("%s/file", site.roots);
    assert_int_equal(mkdir(there, 0755), 0);
    assert_int_equal(chown(there, 1234, 1234), 0);
    assert_int_equal(symlink("/etc", link), 0);
    assert_int_equal(file_replace(file, "x", 0644, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        autofree char *dir = xasprintf("%s%s", site.state_dir, cases[i].below);
        int rc = check_dir(dir, cases[i].uid, &err);
        if (err.kind != cases[i].kind || (rc == 0) != (cases[i].kind == ERROR_NONE))
            fail_msg("%s for uid %u: %d, '%s'", dir, cases[i].uid, rc, err.message);
    }
    struct error err = {0};
    assert_int_equal(check_dir("relative", 0, &err), -1);
    assert_int_equal(check_dir(NULL, 0, &err), 0);
}

static void folders_do_not_overlap(void **state)
{
    (void)state;
    struct workload_info info = {0};
    struct error err = {0};
    autofree char *dir = xasprintf("%s/shared", site.roots);
    autofree char *below = xasprintf("%s/inner", dir);
    autofree char *beside = xasprintf("%s/shared2", site.roots);
    static const char *const argv[] = {"/bin/sleep", "100", NULL};
    struct workload_spec spec = {.name = "other", .pool = "p", .command = argv, .dir = below};
    assert_int_equal(workloads_run(site.workloads, &spec, &info, &err), 0);
    assert_string_equal(info.dir, below);
    workload_info_done(&info);
    assert_int_equal(check_dir(below, 0, &err), -1);
    assert_int_equal(err.kind, ERROR_CONFLICT);
    assert_int_equal(check_dir(dir, 0, &err), -1);
    assert_int_equal(check_dir(beside, 0, &err), 0);
}

/* --- marks --------------------------------------------------------------------------------- */

static void holds_for_one_migration(void **state)
{
    (void)state;
    struct workload_info info = {0};
    struct error err = {0};
    sh("w", "exec sleep 100", &info);
    workload_info_done(&info);
    assert_int_equal(workloads_hold(site.workloads, "w", "m-1", NULL), 0);
    assert_int_equal(workloads_hold(site.workloads, "w", "m-1", NULL), 0); /* again is fine */
    assert_int_equal(workloads_hold(site.workloads, "w", "m-2", &err), -1);
    assert_int_equal(err.kind, ERROR_CONFLICT);
    assert_int_equal(workloads_stop(site.workloads, "w", 0, &err), -1);
    assert_int_equal(err.kind, ERROR_CONFLICT);
    assert_non_null(strstr(err.message, "m-1"));
    assert_int_equal(workloads_set_state(site.workloads, "w", WORKLOAD_STOPPED, NULL), 0);
    site_restart(&site);
    assert_int_equal(workloads_get(site.workloads, "w", &info, NULL), 0);
    assert_int_equal(info.state, WORKLOAD_STOPPED);
    assert_string_equal(info.migration, "m-1");
    workload_info_done(&info);
    assert_int_equal(workloads_continue(site.workloads, "w", NULL, NULL), 0);
    assert_int_equal(workloads_get(site.workloads, "w", &info, NULL), 0);
    assert_int_equal(info.state, WORKLOAD_RUNNING);
    assert_string_equal(info.migration, "");
    workload_info_done(&info);
    assert_int_equal(workloads_hold(site.workloads, "nobody", "m-1", &err), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
}

static void leaves_a_gap_in_young_namespaces(void **state)
{
    (void)state;
    static const struct {
        pid_t last, max;
        bool moves;
    } cases[] = {
        {1,      32768,   true },
        {60,     32768,   true },
        {4095,   32768,   true },
        {4096,   32768,   false},
        {20000,  32768,   false},
        {300,    4194304, true },
        {600000, 4194304, false},
        {1,      1024,    false}, /* too few pids to spare any */
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        pid_t base = workload_gap_base(cases[i].last, cases[i].max, "cpubroker/node-a");
        assert_int_equal(base != 0, cases[i].moves);
        assert_true(!base || (base >= cases[i].max / 8 && base < cases[i].max / 8 * 7));
    }
    /* The same node always goes to the same place, another one elsewhere. */
    assert_int_equal(workload_gap_base(1, 32768, "cpubroker/node-a"),
                     workload_gap_base(50, 32768, "cpubroker/node-a"));
    assert_int_not_equal(workload_gap_base(1, 32768, "cpubroker/node-a"),
                         workload_gap_base(1, 32768, "cpubroker/node-b"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, up, down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(runs_and_tells_the_status),
        TEST(starts_it_clean),
        TEST(says_why_it_did_not_start),
        TEST(refuses_a_second_of_the_name),
        TEST(runs_as_the_user),
        TEST(waits_for_orphans_and_reaps_them),
        TEST(stops_gently),
        TEST(stops_with_force),
        TEST(stops_what_is_stopped),
        TEST(destroys),
        TEST(outlives_the_agent),
        TEST(learns_of_an_end_that_it_missed),
        TEST(survives_the_death_of_its_shim),
        TEST(keeps_a_corrupt_record_aside),
        TEST(adopts),
        TEST(does_not_adopt_just_anything),
        TEST(takes_folders_beneath_roots_only),
        TEST(folders_do_not_overlap),
        TEST(holds_for_one_migration),
        cmocka_unit_test(leaves_a_gap_in_young_namespaces),
    };
    site_requires_root();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
