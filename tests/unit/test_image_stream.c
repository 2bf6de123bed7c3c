/* SPDX-License-Identifier: Apache-2.0 */
/* test_image_stream.c - images and a folder go through the stream and come out the same; what may
 * not move is refused before it is sent. */
#include "cmocka_test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "image_fixture.h"
#include "image_pages.h"
#include "image_pipe.h"

#define MIB (1024UL * 1024)

static int setup(void **state)
{
    struct image_fixture *f = xcalloc(1, sizeof(*f));
    image_fixture_init(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    image_fixture_done(*state);
    free(*state);
    return 0;
}

static char *below(const char *dir, const char *name)
{
    return xasprintf("%s/%s", dir, name);
}

static void set_time(const char *dir, const char *name, time_t seconds, long ns)
{
    autofree char *path = below(dir, name);
    const struct timespec times[2] = {
        {.tv_sec = seconds, .tv_nsec = ns},
        {.tv_sec = seconds, .tv_nsec = ns}
    };
    assert_int_equal(utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW), 0);
}

/* A folder with all that may move. */
static void fill(struct image_fixture *f)
{
    static const char *const dirs[] = {"logs", "logs/old", "empty", "shared", "read-only"};
    char long_name[201];
    memset(long_name, 'n', 200);
    long_name[200] = '\0';
    fixture_file(f->image, "pages-1.img", 3 * MIB + 5, 1);
    fixture_file(f->image, "core-1.img", 700, 2);
    fixture_file(f->image, "stats-dump", 0, 3);
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        autofree char *path = below(f->folder, dirs[i]);
        fixture_dir(path);
    }
    fixture_file(f->folder, "stdout.log", 12345, 4);
    fixture_file(f->folder, "empty.txt", 0, 5);
    fixture_file(f->folder, "logs/old/1", 512, 6);
    fixture_file(f->folder, "\xc3\xa4 b'\"\\", 77, 7);
    fixture_file(f->folder, long_name, 10, 8);
    fixture_file(f->folder, "read-only/file", 100, 9);
    autofree char *sparse = below(f->folder, "sparse");
    autoclose int fd = open(sparse, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(pwrite(fd, "middle", 6, 8 * MIB), 6);
    assert_int_equal(ftruncate(fd, 20 * MIB), 0);
    autofree char *hole = below(f->folder, "hole");
    autoclose int hole_fd = open(hole, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(hole_fd, 5 * MIB + 1), 0);
    autofree char *file = below(f->folder, "stdout.log"), *shared = below(f->folder, "shared"),
                  *read_only = below(f->folder, "read-only");
    assert_int_equal(chmod(file, 0640), 0);
    assert_int_equal(chmod(shared, 03777), 0);
    if (geteuid() == 0)
        assert_int_equal(chown(file, 1234, 4321), 0);
    set_time(f->folder, "stdout.log", 1000000001, 123456789);
    set_time(f->folder, "sparse", 1500000000, 1);
    set_time(f->folder, "logs/old", 1400000000, 999999999);
    assert_int_equal(chmod(read_only, 0500), 0);
    set_time(f->folder, "read-only", 1300000000, 7);
    set_time(f->folder, "logs", 1200000000, 0);
    set_time(f->folder, ".", 1100000000, 42);
}

static struct image_manifest *new_manifest(void)
{
    struct image_manifest *manifest = image_manifest_new("w1", 4242);
    const pid_t stopped[] = {4243, 4245, 0};
    manifest->tasks = 3;
    manifest->threads = 5;
    image_manifest_set_stopped(manifest, stopped);
    return manifest;
}

static void gather(struct image_fixture *f, struct image_follow *follow,
                   struct fixture_bytes *bytes)
{
    AUTO(image_manifest) manifest = new_manifest();
    const struct image_stream_job job = {.image_dir = f->image,
                                         .folder = f->folder,
                                         .manifest = manifest,
                                         .max_bytes = 100 * MIB,
                                         .follow = follow,
                                         .write = fixture_gather,
                                         .ctx = bytes};
    struct error err = {0};
    if (image_stream_write(&job, &err) < 0)
        fail_msg("%s", err.message);
}

static void run(char *owned_command)
{
    autofree char *command = owned_command;
    if (system(command) != 0)
        fail_msg("failed: %s", command);
}

/* Type, mode, owner, time in ns of everything, the folder itself included. */
static void list_tree(const char *dir, const char *out)
{
    run(xasprintf("cd %s && find . -printf '%%P %%y %%m %%U %%G %%T@\\n' | sort >%s", dir, out));
}

static void assert_same_trees(struct image_fixture *f)
{
    autofree char *a = below(f->top, "a"), *b = below(f->top, "b");
    run(xasprintf("diff -r %s %s", f->image, f->got_image));
    run(xasprintf("diff -r %s %s", f->folder, f->got_folder));
    list_tree(f->folder, a);
    list_tree(f->got_folder, b);
    run(xasprintf("diff %s %s", a, b));
}

static void everything_comes_out_the_same(void **state)
{
    struct image_fixture *f = *state;
    static const size_t pieces[] = {100, 4096, 65536 + 1, 100 * MIB};
    struct fixture_bytes bytes = {0};
    fill(f);
    gather(f, NULL, &bytes);
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        AUTO(image_manifest) manifest = NULL;
        struct error err = {0};
        image_fixture_clear(f);
        if (fixture_feed(f, bytes.data, bytes.length, pieces[i], 100 * MIB, &manifest, &err) < 0)
            fail_msg("%s", err.message);
        assert_same_trees(f);
        assert_string_equal(manifest->workload, "w1");
        assert_int_equal(manifest->pid, 4242);
        assert_int_equal(manifest->tasks, 3);
        assert_int_equal(manifest->threads, 5);
        assert_int_equal(manifest->stopped_pids[0], 4243);
        assert_int_equal(manifest->stopped_pids[1], 4245);
        assert_int_equal(manifest->stopped_pids[2], 0);
        assert_int_equal(manifest->file_count, 3 + 8);
    }
    free(bytes.data);
}

static void holes_stay_holes_and_are_not_sent(void **state)
{
    struct image_fixture *f = *state;
    struct fixture_bytes bytes = {0};
    struct stat st;
    fill(f);
    gather(f, NULL, &bytes);
    assert_true(bytes.length < 5 * MIB); /* 25 MiB of it are holes */
    assert_int_equal(fixture_feed(f, bytes.data, bytes.length, 65536, 100 * MIB, NULL, NULL), 0);
    autofree char *sparse = below(f->got_folder, "sparse");
    assert_int_equal(stat(sparse, &st), 0);
    assert_int_equal(st.st_size, 20 * MIB);
    assert_true((uint64_t)st.st_blocks * 512 < MIB);
    free(bytes.data);
}

static void holes_count_as_bytes(void **state)
{
    struct image_fixture *f = *state;
    struct fixture_bytes bytes = {0};
    struct error err = {0};
    fill(f);
    gather(f, NULL, &bytes);
    assert_int_equal(fixture_feed(f, bytes.data, bytes.length, 65536, 10 * MIB, NULL, &err), -1);
    assert_int_equal(err.kind, ERROR_TOO_LARGE);
    assert_int_equal(image_folder_check(f->folder, 10 * MIB, NULL, &err), -1);
    assert_int_equal(err.kind, ERROR_TOO_LARGE);
    free(bytes.data);
}

/* ---- pages hashed beside the engine ---- */

static void append(const char *dir, const char *name, size_t bytes, unsigned seed)
{
    autofree char *path = below(dir, name);
    autofree unsigned char *data = xmalloc(bytes);
    autoclose int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    for (size_t i = 0; i < bytes; i++) {
        seed = seed * 1103515245U + 12345U;
        data[i] = (unsigned char)(seed >> 16);
    }
    assert_int_equal(write(fd, data, bytes), bytes);
}

/* The same stream, whether pages are hashed beside or on their way. */
static void followed_pages_give_the_same_stream(void **state)
{
    struct image_fixture *f = *state;
    struct fixture_bytes plain = {0}, followed = {0};
    AUTO(image_follow) follow = image_follow_start(f->image);
    assert_non_null(follow);
    for (unsigned i = 0; i < 20; i++) {
        append(f->image, "pages-1.img", 100000 + i, i);
        append(f->image, "pages-2.img", 4096, 100 + i);
        append(f->image, "core-1.img", 50, 200 + i);
        usleep(1000);
    }
    append(f->image, "pages-3.img", 54321, 77); /* just before the end */
    image_follow_settle(follow);
    assert_true(image_follow_has(follow, "image/pages-1.img"));
    assert_true(image_follow_has(follow, "image/pages-3.img"));
    assert_false(image_follow_has(follow, "image/core-1.img"));
    assert_false(image_follow_has(follow, "folder/pages-1.img"));
    assert_false(image_follow_has(NULL, "image/pages-1.img"));
    gather(f, NULL, &plain);
    gather(f, follow, &followed);
    assert_int_equal(plain.length, followed.length);
    AUTO(image_manifest) manifest = NULL;
    struct error err = {0};
    if (fixture_feed(f, followed.data, followed.length, 65536, 100 * MIB, &manifest, &err) < 0)
        fail_msg("%s", err.message);
    run(xasprintf("diff -r %s %s", f->image, f->got_image));
    free(plain.data);
    free(followed.data);
}

static void expect_unsendable(struct image_fixture *f, struct image_follow *follow,
                              const char *reason)
{
    AUTO(image_manifest) manifest = new_manifest();
    struct fixture_bytes bytes = {0};
    const struct image_stream_job job = {.image_dir = f->image,
                                         .folder = f->folder,
                                         .manifest = manifest,
                                         .max_bytes = 100 * MIB,
                                         .follow = follow,
                                         .write = fixture_gather,
                                         .ctx = &bytes};
    struct error err = {0};
    assert_int_equal(image_stream_write(&job, &err), -1);
    if (!strstr(err.message, reason))
        fail_msg("expected '%s', got '%s'", reason, err.message);
    free(bytes.data);
}

static void a_file_that_changed_after_the_dump_is_not_sent(void **state)
{
    struct image_fixture *f = *state;
    append(f->image, "pages-1.img", 300000, 1);
    AUTO(image_follow) follow = image_follow_start(f->image);
    image_follow_settle(follow);
    assert_true(image_follow_has(follow, "image/pages-1.img"));
    usleep(200000); /* hashed by then */
    autofree char *path = below(f->image, "pages-1.img");
    assert_int_equal(truncate(path, 1000), 0);
    expect_unsendable(f, follow, "changed its size after the dump");
}

static void a_stopped_follower_holds_nobody_up(void **state)
{
    struct image_fixture *f = *state;
    append(f->image, "pages-1.img", 8 * MIB, 1);
    AUTO(image_follow) follow = image_follow_start(f->image);
    usleep(5000);
    image_follow_stop(follow); /* before it was settled */
    if (image_follow_has(follow, "image/pages-1.img"))
        expect_unsendable(f, follow, "was given up");
}

static void receive_pages_later(struct image_fixture *f, struct image_manifest **ret)
{
    struct fixture_bytes bytes = {0};
    struct image_sink *sink = fixture_sink(f, 100 * MIB, true);
    uint64_t count = 0;
    gather(f, NULL, &bytes);
    assert_int_equal(image_sink_data(sink, bytes.data, bytes.length, NULL), 0);
    assert_int_equal(image_sink_finish(sink, ret, &count, NULL), 0);
    image_sink_free(sink);
    free(bytes.data);
}

static int check_pages(struct image_fixture *f, struct image_manifest *manifest, struct error *err)
{
    AUTO(image_check) check = NULL;
    assert_int_equal(image_check_start(f->got_image, manifest, &check, err), 0);
    return image_check_wait(check, err);
}

static void pages_are_checked_later(void **state)
{
    struct image_fixture *f = *state;
    AUTO(image_manifest) manifest = NULL;
    struct error err = {0};
    append(f->image, "pages-1.img", 300000, 1);
    append(f->image, "pages-2.img", 300001, 2);
    receive_pages_later(f, &manifest);
    if (check_pages(f, manifest, &err) < 0)
        fail_msg("%s", err.message);

    autofree char *path = below(f->got_image, "pages-2.img");
    autoclose int fd = open(path, O_RDWR | O_CLOEXEC);
    unsigned char byte;
    assert_int_equal(pread(fd, &byte, 1, 300000), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, 300000), 1);
    assert_int_equal(check_pages(f, manifest, &err), -1);
    assert_non_null(strstr(err.message, "'image/pages-2.img' differs"));
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, 300000), 1);
    assert_int_equal(check_pages(f, manifest, &err), 0);
    assert_int_equal(ftruncate(fd, 299999), 0);
    assert_int_equal(check_pages(f, manifest, &err), -1);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(check_pages(f, manifest, &err), -1);
}

static void a_check_can_be_given_up(void **state)
{
    struct image_fixture *f = *state;
    AUTO(image_manifest) manifest = NULL;
    append(f->image, "pages-1.img", 8 * MIB, 1);
    receive_pages_later(f, &manifest);
    struct image_check *check = NULL;
    assert_int_equal(image_check_start(f->got_image, manifest, &check, NULL), 0);
    image_check_free(check);
}

/* ---- what may not move ---- */

static void expect_unmovable(struct image_fixture *f, const char *word)
{
    struct error err = {0};
    assert_int_equal(image_folder_check(f->folder, 100 * MIB, NULL, &err), -1);
    if (!strstr(err.message, word) || !strstr(err.message, f->folder))
        fail_msg("expected '%s', got '%s'", word, err.message);
    AUTO(image_manifest) manifest = new_manifest();
    struct fixture_bytes bytes = {0};
    const struct image_stream_job job = {.image_dir = f->image,
                                         .folder = f->folder,
                                         .manifest = manifest,
                                         .max_bytes = 100 * MIB,
                                         .write = fixture_gather,
                                         .ctx = &bytes};
    assert_int_equal(image_stream_write(&job, &err), -1);
    assert_non_null(strstr(err.message, word));
    free(bytes.data);
}

static void links_are_unmovable(void **state)
{
    struct image_fixture *f = *state;
    autofree char *path = below(f->folder, "link");
    assert_int_equal(symlink("/etc/passwd", path), 0);
    expect_unmovable(f, "a symbolic link");
    assert_int_equal(unlink(path), 0);
    fixture_file(f->folder, "one", 10, 1);
    autofree char *one = below(f->folder, "one");
    assert_int_equal(link(one, path), 0);
    expect_unmovable(f, "hard links");
}

static void pipes_and_sockets_are_unmovable(void **state)
{
    struct image_fixture *f = *state;
    autofree char *path = below(f->folder, "x");
    assert_int_equal(mkfifo(path, 0600), 0);
    expect_unmovable(f, "a FIFO");
    assert_int_equal(unlink(path), 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    expect_unmovable(f, "a socket");
}

static void privileged_files_are_unmovable(void **state)
{
    struct image_fixture *f = *state;
    autofree char *path = below(f->folder, "tool");
    fixture_file(f->folder, "tool", 10, 1);
    assert_int_equal(chmod(path, 04755), 0);
    expect_unmovable(f, "set-user-ID");
}

static void strange_names_are_unmovable(void **state)
{
    struct image_fixture *f = *state;
    fixture_file(f->folder, "a\nb", 10, 1);
    expect_unmovable(f, "control character");
    autofree char *path = below(f->folder, "a\nb");
    assert_int_equal(unlink(path), 0);
    fixture_file(f->folder, "\xff", 10, 1);
    expect_unmovable(f, "not UTF-8");
}

static void a_linked_folder_is_unmovable(void **state)
{
    struct image_fixture *f = *state;
    autofree char *link = below(f->top, "elsewhere");
    struct error err = {0};
    assert_int_equal(symlink(f->folder, link), 0);
    assert_int_equal(image_folder_check(link, MIB, NULL, &err), -1);
    assert_int_equal(image_folder_check("/nowhere/at/all", MIB, NULL, &err), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
}

static void totals_are_counted(void **state)
{
    struct image_fixture *f = *state;
    struct image_totals totals = {0};
    uint64_t bytes = 0;
    fixture_file(f->folder, "a", 1000, 1);
    fixture_file(f->folder, "b", 24, 1);
    fixture_file(f->image, "pages-1.img", 4096, 1);
    assert_int_equal(image_folder_check(f->folder, MIB, &totals, NULL), 0);
    assert_int_equal(totals.bytes, 1024);
    assert_int_equal(totals.entries, 3);
    assert_int_equal(image_dir_bytes(f->image, &bytes, NULL), 0);
    assert_int_equal(bytes, 4096);
}

/* ---- the pipe ---- */

struct pumping {
    struct image_pipe *pipe;
    size_t bytes;
};

static void *pump(void *ctx)
{
    struct pumping *p = ctx;
    autofree unsigned char *data = xmalloc(MIB);
    unsigned seed = 1;
    for (size_t at = 0; at < p->bytes;) {
        seed = seed * 1103515245U + 12345U;
        size_t n = 1 + (seed >> 8) % MIB;
        n = n < p->bytes - at ? n : p->bytes - at;
        for (size_t i = 0; i < n; i++)
            data[i] = (unsigned char)((at + i) * 7 >> 3);
        if (image_pipe_write(p->pipe, data, n, NULL) < 0)
            return NULL;
        at += n;
    }
    image_pipe_close(p->pipe);
    return NULL;
}

static void a_pipe_keeps_bytes_in_order(void **state)
{
    (void)state;
    AUTO(image_pipe) pipe = image_pipe_new();
    struct pumping p = {.pipe = pipe, .bytes = 20 * MIB + 13};
    autofree unsigned char *buffer = xmalloc(70000);
    pthread_t thread;
    size_t at = 0;
    pthread_create(&thread, NULL, pump, &p);
    for (unsigned turn = 0;; turn++) {
        const void *peeked = buffer;
        ssize_t n = turn % 2 ? image_pipe_read(pipe, buffer, 70000, NULL)
                             : image_pipe_peek(pipe, &peeked, NULL);
        assert_true(n >= 0);
        if (n == 0)
            break;
        for (ssize_t i = 0; i < n; i++, at++)
            if (((const unsigned char *)peeked)[i] != (unsigned char)(at * 7 >> 3))
                fail_msg("byte %zu is wrong", at);
    }
    assert_int_equal(at, p.bytes);
    pthread_join(thread, NULL);
}

static void a_broken_pipe_fails_on_both_sides(void **state)
{
    (void)state;
    AUTO(image_pipe) pipe = image_pipe_new();
    struct pumping p = {.pipe = pipe, .bytes = 100 * MIB};
    pthread_t thread;
    struct error first, second, got = {0};
    error_set(&first, ERROR_TOO_LARGE, "the disk is full");
    error_set(&second, ERROR_FAILED, "too late");
    pthread_create(&thread, NULL, pump, &p);
    usleep(20000);
    image_pipe_break(pipe, &first);
    image_pipe_break(pipe, &second);
    pthread_join(thread, NULL); /* it waited for room */
    char byte;
    assert_int_equal(image_pipe_read(pipe, &byte, 1, &got), -1);
    assert_string_equal(got.message, "the disk is full");
    assert_int_equal(image_pipe_write(pipe, "x", 1, &got), 0 - 1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(everything_comes_out_the_same),
        TEST(holes_stay_holes_and_are_not_sent),
        TEST(holes_count_as_bytes),
        TEST(followed_pages_give_the_same_stream),
        TEST(a_file_that_changed_after_the_dump_is_not_sent),
        TEST(a_stopped_follower_holds_nobody_up),
        TEST(pages_are_checked_later),
        TEST(a_check_can_be_given_up),
        TEST(links_are_unmovable),
        TEST(pipes_and_sockets_are_unmovable),
        TEST(privileged_files_are_unmovable),
        TEST(strange_names_are_unmovable),
        TEST(a_linked_folder_is_unmovable),
        TEST(totals_are_counted),
        cmocka_unit_test(a_pipe_keeps_bytes_in_order),
        cmocka_unit_test(a_broken_pipe_fails_on_both_sides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
