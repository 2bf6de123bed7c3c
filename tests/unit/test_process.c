/* SPDX-License-Identifier: Apache-2.0 */
/* test_process.c - what /proc says of tasks, and children with a time limit. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "cmocka_test.h"
#include "process.h"

static char *plain_env[] = {"PATH=/usr/bin:/bin", NULL};

static int shell(const char *script, uint64_t timeout_ms, struct process_outcome *ret,
                 struct error *err)
{
    char *argv[] = {"/bin/sh", "-c", (char *)script, NULL};
    struct process_job job = {
        .argv = argv, .env = plain_env, .timeout_ms = timeout_ms, .grace_ms = 200};
    return process_run(&job, ret, err);
}

static void captures_output_and_status(void **state)
{
    (void)state;
    struct process_outcome out;
    assert_int_equal(shell("echo to-stdout; echo to-stderr >&2; exit 7", 5000, &out, NULL), 0);
    assert_false(out.timed_out);
    assert_int_equal(out.exit_status, 7);
    assert_string_equal(out.output, "to-stdout\nto-stderr\n");
    assert_int_equal(shell("kill -9 $$", 5000, &out, NULL), 0);
    assert_int_equal(out.exit_status, 128 + SIGKILL);
}

static void bounds_output(void **state)
{
    (void)state;
    struct process_outcome out;
    assert_int_equal(shell("head -c 300000 /dev/zero | tr '\\0' x", 5000, &out, NULL), 0);
    assert_int_equal(out.exit_status, 0);
    assert_int_equal(strlen(out.output), sizeof(out.output) - 1);
}

static void says_what_cannot_be_executed(void **state)
{
    (void)state;
    struct process_outcome out;
    struct error err = {0};
    char *argv[] = {"/nonexistent/program", NULL};
    struct process_job job = {.argv = argv, .env = plain_env, .timeout_ms = 5000};
    assert_int_equal(process_run(&job, &out, &err), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
    assert_string_equal(err.message,
                        "cannot execute /nonexistent/program: No such file or directory");
}

/* A child that ignores SIGTERM, with one of its own: both are gone after the time limit. */
static void kills_the_whole_group_when_late(void **state)
{
    (void)state;
    struct process_outcome out;
    int64_t before = process_now_ms();
    assert_int_equal(
        shell("trap '' TERM; sleep 100 & echo $!; while :; do sleep 1; done", 300, &out, NULL), 0);
    assert_true(out.timed_out);
    assert_int_equal(out.exit_status, 128 + SIGKILL);
    assert_true(process_now_ms() - before < 4000);
    pid_t grandchild = (pid_t)strtol(out.output, NULL, 10);
    assert_true(grandchild > 0);
    struct process_stat stat;
    for (int i = 0; i < 500 && process_stat_read(grandchild, &stat, NULL) == 0 && stat.state != 'Z';
         i++)
        process_sleep_ms(2);
    assert_true(process_stat_read(grandchild, &stat, NULL) < 0 || stat.state == 'Z');
}

/* A name with blanks and parentheses must not move the fields. */
static void reads_odd_names(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_NAME, "a) S 1 (b");
        for (;;)
            pause();
    }
    struct process_stat stat = {0};
    for (int i = 0; i < 500; i++) {
        assert_int_equal(process_stat_read(pid, &stat, NULL), 0);
        if (strcmp(stat.comm, "a) S 1 (b") == 0 && stat.state == 'S')
            break;
        process_sleep_ms(2);
    }
    assert_string_equal(stat.comm, "a) S 1 (b");
    assert_int_equal(stat.ppid, getpid());
    assert_int_equal(stat.state, 'S');
    assert_true(process_is_alive(pid, stat.start_ticks));
    assert_false(process_is_alive(pid, stat.start_ticks + 1)); /* another one of that number */
    kill(pid, SIGKILL);
    for (int i = 0; i < 500 && process_is_alive(pid, stat.start_ticks); i++)
        process_sleep_ms(2);
    assert_false(process_is_alive(pid, stat.start_ticks)); /* a zombie does not live */
    waitpid(pid, NULL, 0);
    struct error err = {0};
    assert_int_equal(process_stat_read(pid, &stat, &err), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
}

static pid_t spawn(void (*body)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        body();
        for (;;)
            pause();
    }
    return pid;
}

static void nothing(void)
{
}

static void stop_oneself(void)
{
    raise(SIGSTOP);
}

static void wait_state(pid_t pid, char state)
{
    struct process_stat stat = {0};
    for (int i = 0; i < 1000; i++) {
        if (process_stat_read(pid, &stat, NULL) == 0 && stat.state == state)
            return;
        process_sleep_ms(2);
    }
    fail_msg("process %d is in state %c, not %c", pid, stat.state, state);
}

static void continues_what_was_stopped(void **state)
{
    (void)state;
    pid_t a = spawn(stop_oneself), b = spawn(stop_oneself), kept = spawn(stop_oneself);
    const pid_t pids[] = {a, b, kept, 0}, keep[] = {kept, 0};
    wait_state(a, 'T');
    wait_state(b, 'T');
    wait_state(kept, 'T');
    assert_int_equal(process_wait_stopped(pids, 0, 100, NULL), 0);
    struct process_list stopped = {0};
    process_list_stopped(pids, &stopped);
    assert_int_equal(stopped.count, 3);
    free(stopped.pids);
    assert_int_equal(process_continue(pids, keep, 0, 2000, NULL), 0);
    wait_state(a, 'S');
    wait_state(b, 'S');
    wait_state(kept, 'T'); /* it was stopped before, by somebody else */
    struct error err = {0};
    assert_int_equal(process_wait_stopped(pids, 0, 50, &err), -1);
    for (size_t i = 0; pids[i]; i++) {
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
    }
}

/* A traced task does not count as running, whatever it is sent. */
static void does_not_take_a_traced_task_for_running(void **state)
{
    (void)state;
    pid_t pid = spawn(nothing);
    wait_state(pid, 'S');
    assert_int_equal(ptrace(PTRACE_SEIZE, pid, NULL, NULL), 0);
    const pid_t seized[] = {pid, 0};
    assert_int_equal(process_continue(seized, NULL, 0, 100, NULL), -1); /* it sleeps, and is held */
    assert_int_equal(ptrace(PTRACE_INTERRUPT, pid, NULL, NULL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    struct error err = {0};
    assert_int_equal(process_continue(seized, NULL, 0, 100, &err), -1);
    assert_int_equal(err.kind, ERROR_FAILED);
    char expected[64];
    snprintf(expected, sizeof(expected), "traced by process %d", (int)getpid());
    assert_non_null(strstr(err.message, expected));
    assert_int_equal(process_tracer(pid), getpid());
    assert_int_equal(ptrace(PTRACE_DETACH, pid, NULL, NULL), 0);
    assert_int_equal(process_continue(seized, NULL, 0, 2000, NULL), 0);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void have_child(void)
{
    if (fork() == 0)
        for (;;)
            pause();
}

static void finds_trees(void **state)
{
    (void)state;
    pid_t root = spawn(have_child);
    struct process_list with = {0}, without = {0};
    for (int i = 0; i < 500 && with.count < 2; i++) {
        free(with.pids);
        with = (struct process_list){0};
        assert_int_equal(process_list_tree(root, true, &with, NULL), 0);
        process_sleep_ms(2);
    }
    assert_int_equal(with.count, 2);
    assert_int_equal(with.pids[0], root);
    assert_int_equal(process_list_tree(root, false, &without, NULL), 0);
    assert_int_equal(without.count, 1);
    assert_int_equal(without.pids[0], with.pids[1]);
    kill(with.pids[1], SIGKILL);
    kill(root, SIGKILL);
    waitpid(root, NULL, 0);
    free(with.pids);
    free(without.pids);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(captures_output_and_status),
        cmocka_unit_test(bounds_output),
        cmocka_unit_test(says_what_cannot_be_executed),
        cmocka_unit_test(kills_the_whole_group_when_late),
        cmocka_unit_test(reads_odd_names),
        cmocka_unit_test(continues_what_was_stopped),
        cmocka_unit_test(does_not_take_a_traced_task_for_running),
        cmocka_unit_test(finds_trees),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
