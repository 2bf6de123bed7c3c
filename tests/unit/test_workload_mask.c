/* SPDX-License-Identifier: Apache-2.0 */
/* test_workload_mask.c - workloads under the mask with a real shim and a real tracer: what they
 * see, what is told of them, and that neither an engine's turn nor the end of tracer or shim shows
 * them another CPU. */
#include "cmocka_test.h"

#include <cpuid.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cgroup.h"
#include "cpu_registry.h"
#include "engine.h"
#include "file.h"
#include "mask_pool.h"
#include "process.h"
#include "workload_site.h"

#define THREADS   "4"
#define ROUNDS    25
#define MOVES     6
#define ENGINE_MS 60000
#define EBX_AVX2  (1U << 5)
#define WAIT_MS   20000
#define SPIN_FILE "stdout.log"

static struct site site;
static struct birth_mask mask;
static char expected[16]; /* leaf 7 EBX under the mask, as mask_subject prints it */
static char *subject;

static int up(void **state)
{
    char hidden[] = "avx2";
    AUTO(cpu_profile) profile = NULL;
    AUTO(cpu_report) report = NULL;
    struct error err = {0};
    char sha256[65];
    (void)state;
    site_up(&site, "mask");
    if (mask_pool_profile(hidden, &profile, &report, &err) < 0 ||
        workloads_set_report(site.workloads, report, &err) < 0)
        fail_msg("%s", err.message);
    autofree char *record = cpu_profile_record(profile, sha256);
    mask = (struct birth_mask){.grade = MASK_GRADE_DETOUR, .epoch = 7};
    assert_int_equal(json_parse(record, strlen(record), &mask.profile, NULL), 0);
    subject = xasprintf("%.*smask_subject", (int)(strrchr(site.victim, '/') + 1 - site.victim),
                        site.victim);
    return 0;
}

static int down(void **state)
{
    (void)state;
    site_down(&site);
    birth_mask_done(&mask);
    free(subject);
    return 0;
}

static void run(const char *name, const char *const *argv)
{
    struct workload_info info = {0};
    struct error err = {0};
    const struct workload_spec spec = {
        .name = name, .pool = "default", .command = argv, .mask = &mask};
    if (workloads_run(site.workloads, &spec, &info, &err) < 0)
        fail_msg("%s", err.message);
    workload_info_done(&info);
}

static struct workload_info info_of(const char *name)
{
    struct workload_info info = {0};
    assert_int_equal(workloads_get(site.workloads, name, &info, NULL), 0);
    return info;
}

static pid_t root_of(const char *name)
{
    struct workload_info info = info_of(name);
    pid_t pid = info.root_pid;
    workload_info_done(&info);
    return pid;
}

/* Leaf 7 as one masked program tells it; that every other one sees the same is for the tests of
 * the tracer. */
static void learn_what_is_expected(void)
{
    const char *const argv[] = {subject, "ask", NULL};
    unsigned a = 0, b = 0, c = 0, d = 0, told = 0;
    struct workload_info info = {0};
    run("ask", argv);
    site_wait_state(&site, "ask", WORKLOAD_EXITED, &info);
    assert_int_equal(info.exit_status, 0);
    workload_info_done(&info);
    autofree char *text = site_read(&site, "ask", SPIN_FILE);
    assert_int_equal(sscanf(text, "leaf7 %8x avx2 0", &told), 1);
    assert_int_equal(__get_cpuid_count(7, 0, &a, &b, &c, &d), 1);
    assert_int_equal(told & EBX_AVX2, 0);
    assert_int_not_equal(b & EBX_AVX2, 0);
    snprintf(expected, sizeof(expected), "%x", told);
}

static void spin(void)
{
    const char *const argv[] = {subject, "spin", expected, THREADS, NULL};
    run("spin", argv);
    site_wait_lines(&site, "spin", SPIN_FILE, 3);
}

static void nothing_else_was_seen(void)
{
    unsigned lines = site_lines(&site, "spin", SPIN_FILE);
    site_wait_lines(&site, "spin", SPIN_FILE, lines + 3);
    autofree char *text = site_read(&site, "spin", SPIN_FILE);
    for (const char *at = text; (at = strstr(at, " wrong ")); at++)
        if (strncmp(at, " wrong 0\n", 9) != 0)
            fail_msg("another CPU was seen: %.60s", at);
}

static pid_t tracer_of(pid_t root)
{
    return process_tracer(root);
}

static pid_t wait_for_tracer_but(pid_t root, pid_t former)
{
    int64_t until_ms = process_now_ms() + WAIT_MS;
    while (process_now_ms() < until_ms) {
        pid_t now = tracer_of(root);
        if (now && now != former)
            return now;
        process_sleep_ms(2);
    }
    fail_msg("no other tracer than %d within %d ms", former, WAIT_MS);
    return 0;
}

/* ---- tests */

static void what_is_told_of_a_masked_workload(void **state)
{
    (void)state;
    learn_what_is_expected();
    spin();
    struct workload_info info = info_of("spin");
    assert_string_equal(json_str(info.mask_told, "grade"), "detour");
    assert_int_equal(json_int(info.mask_told, "epoch"), 7);
    assert_in_range(json_int(info.mask_told, "sites"), 5, 1000);
    workload_info_done(&info);
    nothing_else_was_seen();
    site_restart(&site); /* another agent knows it still */
    info = info_of("spin");
    assert_int_equal(info.mask.epoch, 7);
    assert_true(json_object_equal(info.mask.profile, mask.profile));
    workload_info_done(&info);
    assert_int_equal(workloads_stop(site.workloads, "spin", 5000, NULL), 0);
    info = info_of("spin");
    assert_int_equal(info.exit_status, 128 + SIGTERM);
    workload_info_done(&info);
}

/* As in a move that fails, again and again. */
static void an_engine_may_have_it_and_give_it_back(void **state)
{
    (void)state;
    struct error err = {0};
    learn_what_is_expected();
    spin();
    pid_t root = root_of("spin");
    struct workload_info info = info_of("spin");
    autofree char *tasks = xasprintf("%s/" CGROUP_TASKS, info.cgroup_dir);
    workload_info_done(&info);
    for (unsigned i = 0; i < ROUNDS; i++) {
        assert_int_equal(workloads_hold(site.workloads, "spin", "m-1", NULL), 0);
        if (workloads_let_go(site.workloads, "spin", &err) < 0)
            fail_msg("%s", err.message);
        assert_int_equal(tracer_of(root), 0);
        if (i % 2) { /* an engine leaves them stopped, and thaws */
            kill(root, SIGSTOP);
            assert_int_equal(cgroup_thaw(tasks, NULL), 0);
            const pid_t pids[] = {root, 0};
            assert_int_equal(process_wait_stopped(pids, 0, WAIT_MS, NULL), 0);
        }
        if (workloads_continue(site.workloads, "spin", NULL, &err) < 0)
            fail_msg("%s", err.message);
        assert_int_not_equal(tracer_of(root), 0);
    }
    nothing_else_was_seen();
    info = info_of("spin");
    assert_int_equal(json_object_object_length(json_member(info.mask_told, "lacks")), 0);
    workload_info_done(&info);
}

static void it_outlives_its_tracer(void **state)
{
    (void)state;
    learn_what_is_expected();
    spin();
    pid_t root = root_of("spin"), tracer = tracer_of(root);
    for (unsigned i = 0; i < ROUNDS; i++) {
        assert_int_equal(kill(tracer, SIGKILL), 0);
        tracer = wait_for_tracer_but(root, tracer);
    }
    nothing_else_was_seen();
    struct workload_info info = info_of("spin");
    assert_int_equal(json_object_object_length(json_member(info.mask_told, "lacks")), 0);
    workload_info_done(&info);
}

static void it_outlives_its_shim(void **state)
{
    (void)state;
    learn_what_is_expected();
    spin();
    struct workload_info info = info_of("spin");
    pid_t root = info.root_pid, tracer = tracer_of(root);
    assert_int_equal(kill(info.shim_pid, SIGKILL), 0);
    workload_info_done(&info);
    wait_for_tracer_but(root, tracer);
    nothing_else_was_seen();
    assert_int_equal(workloads_stop(site.workloads, "spin", 5000, NULL), 0);
}

static bool last_line_is(const char *name, const char *line)
{
    autofree char *text = site_read(&site, name, SPIN_FILE);
    size_t length = strlen(text), tail = strlen(line);
    return length >= tail && strcmp(text + length - tail, line) == 0;
}

static void wait_for_last_line(const char *name, const char *line)
{
    int64_t until_ms = process_now_ms() + WAIT_MS;
    while (!last_line_is(name, line)) {
        if (process_now_ms() > until_ms)
            fail_msg("'%s' does not say '%s'", name, line);
        process_sleep_ms(5);
    }
}

/* The shim is kept from starting another one. */
static void without_a_tracer_no_program_starts(void **state)
{
    (void)state;
    const char *const argv[] = {
        "/bin/sh", "-c",
        "while :; do if /bin/true 2>/dev/null; then echo yes; else echo no; fi; done", NULL};
    run("starts", argv);
    wait_for_last_line("starts", "yes\n");
    struct workload_info info = info_of("starts");
    pid_t tracer = tracer_of(info.root_pid);
    assert_int_equal(kill(info.shim_pid, SIGSTOP), 0);
    assert_int_equal(kill(tracer, SIGKILL), 0);
    wait_for_last_line("starts", "no\n");
    process_sleep_ms(100);
    assert_true(last_line_is("starts", "no\n"));
    assert_int_equal(kill(info.shim_pid, SIGCONT), 0);
    wait_for_tracer_but(info.root_pid, tracer);
    wait_for_last_line("starts", "yes\n");
    workload_info_done(&info);
}

/* Its tracer makes way for one, and is back when that is gone. */
static void a_debugger_may_have_it(void **state)
{
    (void)state;
    struct error err = {0};
    autofree char *name = NULL;
    int status = 0;
    learn_what_is_expected();
    spin();
    pid_t root = root_of("spin"), tracer = tracer_of(root);
    assert_int_equal(workloads_debug(site.workloads, getpid(), 0, &name, &err), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
    assert_int_equal(workloads_debug(site.workloads, root, 12345, &name, &err), -1);
    assert_int_equal(err.kind, ERROR_FORBIDDEN);
    if (workloads_debug(site.workloads, root, 0, &name, &err) < 0)
        fail_msg("%s", err.message);
    assert_string_equal(name, "spin");
    assert_int_equal(ptrace(PTRACE_SEIZE, root, NULL, NULL), 0);
    assert_int_equal(workloads_let_go(site.workloads, "spin", &err), -1); /* no move meanwhile */
    assert_int_equal(err.kind, ERROR_CONFLICT);
    process_sleep_ms(100);
    assert_int_equal(tracer_of(root), getpid());
    assert_int_equal(ptrace(PTRACE_INTERRUPT, root, NULL, NULL), 0);
    assert_int_equal(waitpid(root, &status, __WALL), root);
    assert_int_equal(ptrace(PTRACE_DETACH, root, NULL, NULL), 0);
    assert_int_equal(wait_for_tracer_but(root, 0), tracer);
    nothing_else_was_seen();
    struct workload_info info = info_of("spin");
    assert_int_equal(json_object_object_length(json_member(info.mask_told, "lacks")), 0);
    workload_info_done(&info);
}

/* ---- moves, by hand and with the real engine */

static struct engine *criu; /* NULL: none works here */

/* From one node to another that sees the same folders, and back. */
static void move(struct site *from, struct site *to, const char *work)
{
    struct workload_info info = {0}, moved = {0};
    struct engine_result result;
    struct error err = {0};
    char **argv = NULL, **env = NULL;
    autofree char *images = xasprintf("%s/images", work), *log = xasprintf("%s/log", work);
    autofree char *pidfile = xasprintf("%s/pid", work), *output = xasprintf("%s/out", work);
    assert_int_equal(file_remove_tree(work, NULL), 0);
    assert_int_equal(file_make_dirs(images, 0700, NULL), 0);
    assert_int_equal(file_make_dirs(log, 0700, NULL), 0);
    assert_int_equal(workloads_get(from->workloads, "spin", &info, NULL), 0);
    const struct engine_job job = {.root_pid = info.root_pid,
                                   .image_dir = images,
                                   .work_dir = log,
                                   .cgroup_dir = info.cgroup_dir,
                                   .frozen = true,
                                   .timeout_ms = ENGINE_MS};
    const char *const command[] = {subject, NULL};
    const struct workload_spec spec = {
        .name = "spin", .pool = "default", .dir = info.dir, .command = command, .mask = &mask};
    if (workloads_hold(from->workloads, "spin", "m-1", &err) < 0 ||
        workloads_let_go(from->workloads, "spin", &err) < 0 ||
        engine_dump(criu, &job, &result, &err) < 0 ||
        workloads_destroy(from->workloads, "spin", false, &err) < 0 ||
        engine_restore_command(criu, &job, pidfile, &argv, &env, &err) < 0 ||
        workloads_restore(to->workloads, &spec, "m-1", argv, env, pidfile, output, ENGINE_MS,
                          &moved, &err) < 0 ||
        workloads_continue(to->workloads, "spin", NULL, &err) < 0)
        fail_msg("%s %s", err.message, result.log_tail);
    assert_int_equal(moved.root_pid, info.root_pid);
    assert_int_not_equal(tracer_of(moved.root_pid), 0);
    engine_strv_free(argv);
    engine_strv_free(env);
    workload_info_done(&moved);
    workload_info_done(&info);
}

static void it_moves_and_sees_nothing_else(void **state)
{
    (void)state;
    static struct site other;
    struct error err = {0};
    char hidden[] = "avx2", work[] = "/tmp/test_mask_move.XXXXXX";
    AUTO(cpu_profile) profile = NULL;
    AUTO(cpu_report) report = NULL;
    if (!criu)
        skip();
    learn_what_is_expected();
    assert_non_null(mkdtemp(work));
    site_up(&other, "other");
    snprintf(other.roots, sizeof(other.roots), "%s/workloads", site.state_dir);
    site_restart(&other);
    if (mask_pool_profile(hidden, &profile, &report, &err) < 0 ||
        workloads_set_report(other.workloads, report, &err) < 0)
        fail_msg("%s", err.message);
    spin();
    for (unsigned i = 0; i < MOVES; i++) {
        move(i % 2 ? &other : &site, i % 2 ? &site : &other, work);
        unsigned lines = site_lines(&site, "spin", SPIN_FILE);
        site_wait_lines(&site, "spin", SPIN_FILE, lines + 3);
    }
    nothing_else_was_seen();
    struct workload_info info = info_of("spin");
    assert_int_equal(json_object_object_length(json_member(info.mask_told, "lacks")), 0);
    workload_info_done(&info);
    site_down(&other);
    assert_int_equal(file_remove_tree(work, NULL), 0);
}

static void what_cannot_be_masked_is_not_started(void **state)
{
    (void)state;
    const char *const argv[] = {subject, "ask", NULL};
    struct workload_info info = {0};
    struct error err = {0};
    const struct workload_spec spec = {
        .name = "bad", .pool = "default", .command = argv, .mask = &mask};
    const char *const missing[] = {"/nonexistent", NULL};
    const struct workload_spec none = {
        .name = "bad", .pool = "default", .command = missing, .mask = &mask};
    assert_int_equal(workloads_run(site.workloads, &none, &info, &err), -1);
    assert_non_null(strstr(err.message, "cannot execute: No such file"));
    json_object *profile = mask.profile;
    mask.profile = json_object_new_object();
    assert_int_equal(workloads_run(site.workloads, &spec, &info, &err), -1);
    assert_non_null(strstr(err.message, "epoch 7"));
    json_object_put(mask.profile);
    mask.profile = profile;
    assert_int_equal(workloads_get(site.workloads, "bad", &info, NULL), -1);
    autofree char *text = site_read(&site, "bad", SPIN_FILE);
    assert_string_equal(text, "");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, up, down)
    const struct CMUnitTest tests[] = {
        TEST(what_is_told_of_a_masked_workload),
        TEST(an_engine_may_have_it_and_give_it_back),
        TEST(it_outlives_its_tracer),
        TEST(it_outlives_its_shim),
        TEST(without_a_tracer_no_program_starts),
        TEST(a_debugger_may_have_it),
        TEST(it_moves_and_sees_nothing_else),
        TEST(what_cannot_be_masked_is_not_started),
    };
    unsigned a = 0, b = 0, c = 0, d = 0;
    site_requires_root();
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & EBX_AVX2)) {
        puts("SKIP: this CPU has no AVX2 that could be hidden");
        return 77;
    }
    struct error err = {0};
    if (engine_criu_new(NULL, &criu, &err) < 0)
        printf("SKIP: moves under the mask, as no CRIU works here: %s\n", err.message);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    engine_free(criu);
    return failed;
}
