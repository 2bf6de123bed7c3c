/* SPDX-License-Identifier: Apache-2.0 */
/* test_mask_cache.c - entries of the cache: whose they are, when they count, how many there may be.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmocka_test.h"
#include "elf_builder.h"
#include "file.h"
#include "mask_cache.h"

ASSEMBLED(asks, "mov $1, %eax\n cpuid\n mov %ebx, (%rdi)\n ret");
ASSEMBLED(asks_later, "nop\n mov $1, %eax\n cpuid\n mov %ebx, (%rdi)\n");

struct world {
    char root[64], cache[128], file[80];
};

static int set_up(void **state)
{
    struct world *w = xcalloc(1, sizeof(*w));
    snprintf(w->root, sizeof(w->root), "/tmp/cpubroker-test-cache.XXXXXX");
    assert_non_null(mkdtemp(w->root));
    snprintf(w->cache, sizeof(w->cache), "%s/a/cache", w->root);
    snprintf(w->file, sizeof(w->file), "%s/file", w->root);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    assert_int_equal(file_remove_tree(w->root, NULL), 0);
    free(w);
    return 0;
}

/* Writes a program over the file in place. */
static void write_program(const struct world *w, const uint8_t *code, size_t size,
                          const char *build_id)
{
    struct built_elf elf = {.build_id = build_id};
    built_add_fde(&elf, 0, (uint32_t)size);
    built_finish(&elf, code, size);
    int fd = open(w->file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, elf.bytes, elf.size), elf.size);
    close(fd);
    free(elf.bytes);
}
#define WRITE_PROGRAM(w, name, id) write_program(w, name, ASSEMBLED_BYTES(name), id)

/* Where the one site is, and whether the cache knew. */
static uint64_t look(const struct world *w, bool *ret_cached)
{
    AUTO(mask_sites) sites = NULL;
    struct error err = {0};
    autoclose int fd = open(w->file, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    if (mask_cache_sites(w->cache, fd, &sites, ret_cached, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(sites->count, 1);
    return sites->sites[0].address - BUILT_CODE_AT;
}

static void assert_look(const struct world *w, uint64_t at, bool cached)
{
    bool was = false;
    assert_int_equal(look(w, &was), at);
    assert_int_equal(was, cached);
}

static size_t entries(const struct world *w, char *ret_path, size_t size)
{
    DIR *dir = opendir(w->cache);
    struct dirent *d;
    size_t count = 0;
    assert_non_null(dir);
    while ((d = readdir(dir)))
        if (d->d_name[0] != '.') {
            count++;
            if (ret_path)
                snprintf(ret_path, size, "%s/%s", w->cache, d->d_name);
        }
    closedir(dir);
    return count;
}

#define ID "aaaabbbbccccddddeeee"

static void an_entry_serves_again(void **state)
{
    const struct world *w = *state;
    char path[512];
    struct stat st;
    WRITE_PROGRAM(w, asks, ID);
    assert_look(w, 5, false);
    assert_look(w, 5, true);
    assert_int_equal(entries(w, path, sizeof(path)), 1);
    assert_non_null(strstr(path, "/61616161626262626363636364646464"));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(stat(w->cache, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
}

/* Same build-id, same size, other code: somebody patched the file, or wants to mislead us. */
static void other_code_of_the_same_name_is_looked_at(void **state)
{
    const struct world *w = *state;
    WRITE_PROGRAM(w, asks, ID);
    assert_int_equal(ASSEMBLED_BYTES(asks), ASSEMBLED_BYTES(asks_later));
    assert_look(w, 5, false);
    WRITE_PROGRAM(w, asks_later, ID);
    assert_look(w, 6, false);
    assert_look(w, 6, true);
    WRITE_PROGRAM(w, asks, ID);
    assert_look(w, 5, false);
    assert_int_equal(entries(w, NULL, 0), 1);
}

/* The same when the digest was taken of a file that had not changed for long. */
static void a_settled_file_that_changes_is_looked_at(void **state)
{
    const struct world *w = *state;
    WRITE_PROGRAM(w, asks, ID);
    sleep(3); /* the time of change cannot be set */
    assert_look(w, 5, false);
    assert_look(w, 5, true);
    WRITE_PROGRAM(w, asks_later, ID);
    assert_look(w, 6, false);
    assert_look(w, 6, true);
}

static void another_size_is_another_file(void **state)
{
    const struct world *w = *state;
    WRITE_PROGRAM(w, asks, ID);
    assert_look(w, 5, false);
    int fd = open(w->file, O_WRONLY | O_APPEND | O_CLOEXEC);
    assert_int_equal(write(fd, "x", 1), 1);
    close(fd);
    assert_look(w, 5, false);
    assert_look(w, 5, true);
}

static void without_build_id_the_code_is_the_name(void **state)
{
    const struct world *w = *state;
    WRITE_PROGRAM(w, asks, NULL);
    assert_look(w, 5, false);
    assert_look(w, 5, true);
    WRITE_PROGRAM(w, asks_later, NULL);
    assert_look(w, 6, false);
    assert_int_equal(entries(w, NULL, 0), 2);
    WRITE_PROGRAM(w, asks, NULL);
    assert_look(w, 5, true);
}

static void overwrite(const char *path, const char *bytes, size_t length)
{
    autoclose int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    assert_int_equal(write(fd, bytes, length), length);
}

/* Every byte of an entry counts. */
static void damaged_entries_are_made_anew(void **state)
{
    const struct world *w = *state;
    char path[512];
    autofree char *text = NULL;
    size_t length = 0;
    WRITE_PROGRAM(w, asks, ID);
    assert_look(w, 5, false);
    assert_int_equal(entries(w, path, sizeof(path)), 1);
    assert_int_equal(file_read(path, 1U << 20, &text, &length, NULL), 0);
    for (size_t i = 0; i < length; i += 13) {
        text[i] ^= 1;
        overwrite(path, text, length);
        assert_look(w, 5, false);
        text[i] ^= 1;
        overwrite(path, text, i); /* cut off */
        assert_look(w, 5, false);
    }
    assert_look(w, 5, true);
    /* A version to come, whole in itself. */
    text[strlen("cpubroker.sites/")] = '3';
    overwrite(path, text, length);
    assert_look(w, 5, false);
}

static void a_folder_that_cannot_be_written_costs_only_time(void **state)
{
    struct world w = *(const struct world *)*state;
    WRITE_PROGRAM(&w, asks, ID);
    snprintf(w.cache, sizeof(w.cache), "%s/below", w.file);
    assert_look(&w, 5, false);
    assert_look(&w, 5, false);
}

static void the_oldest_entries_go(void **state)
{
    const struct world *w = *state;
    struct stat st;
    assert_int_equal(file_make_dirs(w->cache, 0700, NULL), 0);
    for (unsigned i = 0; i < MASK_CACHE_ENTRIES_MAX; i++) {
        autofree char *path = xasprintf("%s/%u.sites", w->cache, i);
        const struct timespec times[2] = {{.tv_sec = 1000000 + i}, {.tv_sec = 1000000 + i}};
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_int_equal(futimens(fd, times), 0);
        close(fd);
    }
    WRITE_PROGRAM(w, asks, ID);
    assert_look(w, 5, false);
    assert_int_equal(entries(w, NULL, 0), MASK_CACHE_ENTRIES_MAX * 3 / 4);
    assert_look(w, 5, true);
    autofree char *oldest = xasprintf("%s/0.sites", w->cache);
    autofree char *latest = xasprintf("%s/%u.sites", w->cache, MASK_CACHE_ENTRIES_MAX - 1);
    assert_int_equal(stat(oldest, &st), -1);
    assert_int_equal(stat(latest, &st), 0);
}

static void what_is_no_program_is_refused(void **state)
{
    const struct world *w = *state;
    struct mask_sites *sites = NULL;
    struct error err = {0};
    autoclose int folder = open(w->root, O_RDONLY | O_CLOEXEC);
    assert_int_equal(mask_cache_sites(w->cache, folder, &sites, NULL, &err), -1);
    assert_string_equal(err.message, "this is no regular file");
    assert_int_equal(file_replace(w->file, "#!/bin/sh\n", 0700, NULL), 0);
    autoclose int script = open(w->file, O_RDONLY | O_CLOEXEC);
    assert_int_equal(mask_cache_sites(w->cache, script, &sites, NULL, &err), -1);
    assert_int_equal(err.kind, ERROR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_entry_serves_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(other_code_of_the_same_name_is_looked_at, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_settled_file_that_changes_is_looked_at, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(another_size_is_another_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_build_id_the_code_is_the_name, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damaged_entries_are_made_anew, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_folder_that_cannot_be_written_costs_only_time, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(the_oldest_entries_go, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_no_program_is_refused, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
