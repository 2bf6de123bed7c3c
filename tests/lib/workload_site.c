/* SPDX-License-Identifier: Apache-2.0 */
/* workload_site.c - a node's workloads in a temporary state folder. */
#include "workload_site.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cgroup.h"
#include "cleanup.h"
#include "cmocka_test.h"
#include "file.h"
#include "log.h"
#include "process.h"

#define WAIT_MS 10000

void site_requires_root(void)
{
    if (geteuid() == 0)
        return;
    puts("SKIP: needs root, for cgroups and shims");
    exit(77);
}

/* Programs lie in the build folder: this test's own, and the agent's beside it. */
static char *build_program(const char *name)
{
    char here[4096];
    ssize_t n = readlink("/proc/self/exe", here, sizeof(here) - 1);
    assert_true(n > 0);
    here[n] = '\0';
    *strrchr(here, '/') = '\0';
    char *path = xasprintf("%s/%s", here, name);
    if (access(path, X_OK) < 0)
        fail_msg("%s is missing; build everything first", path);
    return path;
}

static void count_change(void *ctx, const char *name)
{
    struct site *site = ctx;
    (void)name;
    __atomic_add_fetch(&site->changes, 1, __ATOMIC_RELAXED);
}

static void start(struct site *site)
{
    struct error err = {0};
    struct workloads_config config = {.state_dir = site->state_dir,
                                      .cgroup_parent = site->cgroup_parent,
                                      .workload_roots = site->roots,
                                      .shim_path = site->shim,
                                      .changed = count_change,
                                      .ctx = site};
    if (workloads_new(&config, &site->workloads, &err) < 0)
        fail_msg("workloads_new: %s", err.message);
}

void site_up(struct site *site, const char *label)
{
    memset(site, 0, sizeof(*site));
    log_set_level(LOG_ERROR);
    snprintf(site->state_dir, sizeof(site->state_dir), "/tmp/test_site_%s.XXXXXX", label);
    assert_non_null(mkdtemp(site->state_dir));
    snprintf(site->roots, sizeof(site->roots), "%s/root", site->state_dir);
    assert_int_equal(file_make_dirs(site->roots, 0755, NULL), 0);
    snprintf(site->cgroup_parent, sizeof(site->cgroup_parent), "cpubroker-test-%d/%s",
             (int)getpid(), label);
    site->shim = build_program("../agent/cpuagent-shim");
    site->victim = build_program("victim");
    site->hang_engine = build_program("hang_engine");
    start(site);
}

void site_restart(struct site *site)
{
    workloads_free(site->workloads);
    site->workloads = NULL;
    start(site);
}

static void remove_cgroups(const struct site *site)
{
    autofree char *mount = NULL;
    if (cgroup_find_mount("", &mount, NULL) < 0)
        return;
    autofree char *ours = xasprintf("%s/%s", mount, site->cgroup_parent);
    assert_int_equal(cgroup_remove(ours, 2000, NULL), 0);
    *strrchr(ours, '/') = '\0'; /* shared with other sites of this test: the last one removes it */
    rmdir(ours);
}

void site_down(struct site *site)
{
    json_object *all = workloads_to_json(site->workloads);
    for (size_t i = 0; i < json_array_size(all); i++) {
        struct error err = {0};
        const char *name = json_str(json_array_item(all, i), "name");
        if (workloads_destroy(site->workloads, name, true, &err) < 0)
            fail_msg("%s", err.message);
    }
    json_object_put(all);
    workloads_free(site->workloads);
    site->workloads = NULL;
    remove_cgroups(site);
    assert_int_equal(file_remove_tree(site->state_dir, NULL), 0);
    free(site->shim);
    free(site->victim);
    free(site->hang_engine);
}

void site_run(struct site *site, const char *name, const char *const *argv,
              struct workload_info *ret)
{
    struct error err = {0};
    struct workload_spec spec = {.name = name, .pool = "default", .command = argv};
    if (workloads_run(site->workloads, &spec, ret, &err) < 0)
        fail_msg("%s", err.message);
}

void site_wait_state(struct site *site, const char *name, enum workload_state state,
                     struct workload_info *ret)
{
    int64_t deadline = process_now_ms() + WAIT_MS;
    for (;;) {
        assert_int_equal(workloads_get(site->workloads, name, ret, NULL), 0);
        if (ret->state == state)
            return;
        if (process_now_ms() >= deadline)
            fail_msg("'%s' is %s, not %s", name, workload_state_name(ret->state),
                     workload_state_name(state));
        workload_info_done(ret);
        process_sleep_ms(5);
    }
}

char *site_read(struct site *site, const char *name, const char *file)
{
    autofree char *path = xasprintf("%s/workloads/%s/%s", site->state_dir, name, file);
    char *text = NULL;
    return file_read(path, 64UL * 1024 * 1024, &text, NULL, NULL) < 0 ? xstrdup("") : text;
}

unsigned site_lines(struct site *site, const char *name, const char *file)
{
    autofree char *text = site_read(site, name, file);
    unsigned lines = 0;
    for (const char *p = text; *p; p++)
        lines += *p == '\n';
    return lines;
}

void site_wait_lines(struct site *site, const char *name, const char *file, unsigned lines)
{
    int64_t deadline = process_now_ms() + WAIT_MS;
    while (site_lines(site, name, file) < lines) {
        if (process_now_ms() >= deadline)
            fail_msg("%s of '%s' has %u lines, %u expected", file, name,
                     site_lines(site, name, file), lines);
        process_sleep_ms(5);
    }
}
