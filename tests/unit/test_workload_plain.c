/* SPDX-License-Identifier: Apache-2.0 */
/* test_workload_plain.c - workloads on a machine without cgroup v2: they are found by parentage. */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "cgroup.h"
#include "cleanup.h"
#include "cmocka_test.h"
#include "process.h"
#include "workload_site.h"

static struct site site;

static int up(void **state)
{
    (void)state;
    site_up(&site, "plain");
    return 0;
}

static int down(void **state)
{
    (void)state;
    site_down(&site);
    return 0;
}

static void sh(const char *script, struct workload_info *ret)
{
    const char *const argv[] = {"/bin/sh", "-c", script, NULL};
    site_run(&site, "w", argv, ret);
    assert_string_equal(ret->cgroup_dir, "");
}

static bool gone(pid_t pid)
{
    struct process_stat stat;
    for (int i = 0; i < 1000 && process_stat_read(pid, &stat, NULL) == 0; i++)
        process_sleep_ms(5);
    return process_stat_read(pid, &stat, NULL) < 0;
}

/* Everybody of the tree, an orphan in a session of its own among them. */
static pid_t *tree_of(unsigned expected)
{
    pid_t *pids = NULL;
    for (int i = 0; i < 1000; i++) {
        unsigned count = 0;
        assert_int_equal(workloads_pids(site.workloads, "w", &pids, NULL), 0);
        while (pids[count])
            count++;
        if (count == expected)
            return pids;
        free(pids);
        pids = NULL;
        process_sleep_ms(5);
    }
    fail_msg("the tree never had %u processes", expected);
    return NULL;
}

static const char stubborn[] =
    "trap '' TERM; (setsid sleep 100 &) ; sleep 100 & echo ready; wait; sleep 100";

static void stops_with_force(void **state)
{
    (void)state;
    struct workload_info info = {0};
    sh(stubborn, &info);
    workload_info_done(&info);
    site_wait_lines(&site, "w", "stdout.log", 1);
    pid_t *pids = tree_of(3);
    assert_int_equal(workloads_stop(site.workloads, "w", 100, NULL), 0);
    for (pid_t *p = pids; *p; p++)
        assert_true(gone(*p));
    free(pids);
    assert_int_equal(workloads_get(site.workloads, "w", &info, NULL), 0);
    assert_int_equal(info.exit_status, 128 + SIGKILL);
    workload_info_done(&info);
}

static void destroys_after_a_restart(void **state)
{
    (void)state;
    struct workload_info info = {0};
    sh(stubborn, &info);
    workload_info_done(&info);
    site_wait_lines(&site, "w", "stdout.log", 1);
    pid_t *pids = tree_of(3);
    site_restart(&site);
    assert_int_equal(workloads_destroy(site.workloads, "w", true, NULL), 0);
    for (pid_t *p = pids; *p; p++)
        assert_true(gone(*p));
    free(pids);
}

static void waits_for_orphans(void **state)
{
    (void)state;
    struct workload_info info = {0};
    sh("(sleep 0.3 &); exit 7", &info);
    workload_info_done(&info);
    site_wait_state(&site, "w", WORKLOAD_EXITED, &info);
    assert_int_equal(info.exit_status, 7);
    workload_info_done(&info);
}

/* A mount namespace of our own, from which every cgroup v2 is unmounted. */
static int hide_cgroup2(void)
{
    char *mount_point = NULL;
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return -1;
    while (cgroup_find_mount("", &mount_point, NULL) == 0) {
        int rc = umount2(mount_point, MNT_DETACH);
        free(mount_point);
        if (rc < 0)
            return -1;
    }
    return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, up, down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(stops_with_force),
        TEST(destroys_after_a_restart),
        TEST(waits_for_orphans),
    };
    site_requires_root();
    if (hide_cgroup2() < 0) {
        perror("SKIP: cannot hide cgroup v2 in a mount namespace");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
