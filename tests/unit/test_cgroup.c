/* SPDX-License-Identifier: Apache-2.0 */
/* test_cgroup.c - finding cgroup v2, and groups of real tasks. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cgroup.h"
#include "cleanup.h"
#include "cmocka_test.h"
#include "file.h"

static char root[] = "/tmp/test_cgroup.XXXXXX";

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(root) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return file_remove_tree(root, NULL);
}

static int find_in(const char *mountinfo, char **ret, struct error *err)
{
    autofree char *folder = xasprintf("%s/proc/self", root);
    autofree char *path = xasprintf("%s/mountinfo", folder);
    assert_int_equal(file_make_dirs(folder, 0755, NULL), 0);
    assert_int_equal(file_replace(path, mountinfo, 0644, NULL), 0);
    return cgroup_find_mount(root, ret, err);
}

static void finds_the_mount(void **state)
{
    (void)state;
    static const struct {
        const char *mountinfo, *mount;
    } cases[] = {
  /* cgroup v2 alone */
        {"30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
         "/sys/fs/cgroup"                                                                                            },
 /* hybrid: version 1 first, no optional fields */
        {"31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw\n"
         "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
         "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",           "/sys/fs/cgroup/unified"},
 /* escaped characters; several optional fields */
        {"41 31 0:38 / /mnt/a\\040b\\134c rw shared:1 master:2 - cgroup2 none rw\n",         "/mnt/a b\\c"           },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        autofree char *mount = NULL;
        assert_int_equal(find_in(cases[i].mountinfo, &mount, NULL), 0);
        assert_string_equal(mount, cases[i].mount);
    }
}

static void says_when_there_is_none(void **state)
{
    (void)state;
    struct error err = {0};
    autofree char *mount = NULL;
    /* A name that only looks like it. */
    assert_int_equal(find_in("32 31 0:29 / /cgroup2 rw - tmpfs cgroup2 rw\n", &mount, &err), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
    assert_non_null(strstr(err.message, "not mounted"));
}

static char *own_group(void)
{
    autofree char *mount = NULL;
    if (geteuid() != 0 || cgroup_find_mount("", &mount, NULL) < 0)
        return NULL;
    return xasprintf("%s/cpubroker-test-%d", mount, (int)getpid());
}

static pid_t sleeper(const char *dir)
{
    pid_t pid = fork();
    if (pid == 0) {
        if (cgroup_join(dir, 0, NULL) < 0)
            _exit(1);
        for (;;)
            pause();
    }
    return pid;
}

static void wait_populated(const char *dir)
{
    for (int i = 0; i < 1000 && !cgroup_populated(dir); i++)
        process_sleep_ms(2);
    assert_true(cgroup_populated(dir));
}

static void kills_and_removes_a_group(void **state)
{
    (void)state;
    autofree char *group = own_group();
    if (!group) {
        puts("no cgroup v2 here, or not root: groups are not tried");
        return;
    }
    autofree char *inner = xasprintf("%s/tasks/below", group);
    assert_int_equal(cgroup_make(inner, NULL), 0);
    assert_false(cgroup_populated(group));
    pid_t pid = sleeper(inner);
    wait_populated(group);

    struct process_list list = {0};
    assert_int_equal(cgroup_pids(group, &list, NULL), 0);
    assert_int_equal(list.count, 1);
    assert_int_equal(list.pids[0], pid);
    free(list.pids);

    struct error err = {0};
    assert_int_equal(cgroup_remove(group, 50, &err), -1); /* in use, and within the time */
    assert_int_equal(err.kind, ERROR_TIMEOUT);

    assert_int_equal(cgroup_kill(group, 5000, NULL), 0);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(cgroup_remove(group, 1000, NULL), 0);
    assert_int_equal(access(group, F_OK), -1);
    assert_int_equal(cgroup_remove(group, 1000, NULL), 0); /* gone already */
}

static void thaws_a_frozen_group(void **state)
{
    (void)state;
    autofree char *group = own_group();
    if (!group)
        return;
    assert_int_equal(cgroup_make(group, NULL), 0);
    autofree char *freeze = xasprintf("%s/cgroup.freeze", group);
    autofree char *events = xasprintf("%s/cgroup.events", group);
    pid_t pid = sleeper(group);
    wait_populated(group);
    assert_int_equal(file_write(freeze, "1", NULL), 0);
    assert_int_equal(cgroup_thaw(group, NULL), 0);
    autofree char *text = NULL;
    for (int i = 0; i < 1000; i++) {
        free(text);
        text = NULL;
        assert_int_equal(file_read(events, 4096, &text, NULL, NULL), 0);
        if (strstr(text, "frozen 0"))
            break;
        process_sleep_ms(2);
    }
    assert_non_null(strstr(text, "frozen 0"));
    assert_int_equal(cgroup_kill(group, 5000, NULL), 0);
    waitpid(pid, NULL, 0);
    assert_int_equal(cgroup_remove(group, 1000, NULL), 0);
}

static void does_without(void **state)
{
    (void)state;
    struct process_list list = {0};
    assert_int_equal(cgroup_make("", NULL), 0);
    assert_int_equal(cgroup_join("", 1, NULL), 0);
    assert_int_equal(cgroup_pids("", &list, NULL), 0);
    assert_int_equal(list.count, 0);
    assert_false(cgroup_populated(""));
    assert_int_equal(cgroup_kill("", 0, NULL), 0);
    assert_int_equal(cgroup_remove("", 0, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_the_mount),
        cmocka_unit_test(says_when_there_is_none),
        cmocka_unit_test(kills_and_removes_a_group),
        cmocka_unit_test(thaws_a_frozen_group),
        cmocka_unit_test(does_without),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
