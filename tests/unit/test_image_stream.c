/* SPDX-License-Identifier: Apache-2.0 */
/* test_image_stream.c - images and a folder go through the stream and come out the same; what may
 * not move is refused before it is sent. */
#include "cmocka_test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "image_fixture.h"
#include "image_name.h"
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
    const struct timerfd_place expired[] = {
        {4244, 7},
        {0,    0}
    };
    manifest->tasks = 3;
    manifest->threads = 5;
    image_manifest_set_stopped(manifest, stopped);
    image_manifest_set_timers(manifest, expired);
    return manifest;
}

static void gather(struct image_fixture *f, struct fixture_bytes *bytes)
{
    AUTO(image_manifest) manifest = new_manifest();
    const struct image_stream_job job = {.image_dir = f->image,
                                         .folder = f->folder,
                                         .manifest = manifest,
                                         .max_bytes = 100 * MIB,
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
    gather(f, &bytes);
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
        assert_int_equal(manifest->expired_timers[0].pid, 4244);
        assert_int_equal(manifest->expired_timers[0].fd, 7);
        assert_int_equal(manifest->expired_timers[1].pid, 0);
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
    gather(f, &bytes);
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
    gather(f, &bytes);
    assert_int_equal(fixture_feed(f, bytes.data, bytes.length, 65536, 10 * MIB, NULL, &err), -1);
    assert_int_equal(err.kind, ERROR_TOO_LARGE);
    assert_int_equal(image_folder_check(f->folder, 10 * MIB, NULL, &err), -1);
    assert_int_equal(err.kind, ERROR_TOO_LARGE);
    free(bytes.data);
}

/* ---- pages that go out while the engine dumps ---- */

static void append(const char *dir, const char *name, size_t bytes, unsigned seed)
{
    autofree char *path = below(dir, name);
    autofree unsigned char *data = xmalloc(bytes + 1);
    autoclose int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    for (size_t i = 0; i < bytes; i++) {
        seed = seed * 1103515245U + 12345U;
        data[i] = (unsigned char)(seed >> 16);
    }
    assert_int_equal(write(fd, data, bytes), bytes);
}

/* A dump under way: what went out of it so far, and how it ended. */
struct dumping {
    struct image_fixture *f;
    struct image_gate *gate;
    struct image_manifest *manifest;
    struct fixture_bytes bytes;
    _Atomic size_t length; /* of bytes, for other threads */
    atomic_uint flushes;
    pthread_t thread;
    int rc;
    struct error error;
};

static int dumping_write(void *ctx, const void *data, size_t length, struct error *err)
{
    struct dumping *d = ctx;
    fixture_gather(&d->bytes, data, length, err);
    atomic_fetch_add(&d->length, length);
    return 0;
}

static void dumping_flush(void *ctx)
{
    struct dumping *d = ctx;
    atomic_fetch_add(&d->flushes, 1);
}

static void *dumping_thread(void *ctx)
{
    struct dumping *d = ctx;
    const struct image_stream_job job = {.image_dir = d->f->image,
                                         .folder = d->f->folder,
                                         .manifest = d->manifest,
                                         .max_bytes = 100 * MIB,
                                         .gate = d->gate,
                                         .write = dumping_write,
                                         .flush = dumping_flush,
                                         .ctx = d};
    d->rc = image_stream_write(&job, &d->error);
    return NULL;
}

static void dumping_start(struct dumping *d, struct image_fixture *f)
{
    *d = (struct dumping){.f = f, .gate = image_gate_new(), .manifest = new_manifest()};
    assert_int_equal(pthread_create(&d->thread, NULL, dumping_thread, d), 0);
}

static void dumping_end(struct dumping *d)
{
    image_manifest_free(d->manifest);
    image_gate_free(d->gate);
    free(d->bytes.data);
}

static void wait_for_length(struct dumping *d, size_t least)
{
    for (int i = 0; i < 500 && atomic_load(&d->length) < least; i++)
        usleep(10000);
    if (atomic_load(&d->length) < least)
        fail_msg("%zu bytes went out, expected %zu", (size_t)atomic_load(&d->length), least);
}

static void pages_go_out_while_they_are_written(void **state)
{
    struct image_fixture *f = *state;
    struct dumping d;
    dumping_start(&d, f);
    wait_for_length(&d, 512); /* a sign of life, before there is anything */
    append(f->image, "core-1.img", 50, 1);
    for (unsigned i = 0; i < 20; i++) {
        append(f->image, "pages-1.img", 300000 + i, i);
        append(f->image, "pages-2.img", 4096, 100 + i);
        usleep(1000);
    }
    wait_for_length(&d, 5 * MIB); /* whole pieces of 6,000,190 bytes, before the dump ends */
    assert_true(atomic_load(&d.length) < 6 * MIB);
    append(f->image, "pages-3.img", 54321, 77); /* just before the end */
    append(f->image, "pages-4.img", 0, 0);
    append(f->folder, "log", 1000, 5);
    image_gate_set(d.gate, IMAGE_GATE_DUMPED);
    wait_for_length(&d, 6000190 + 20 * 4096 + 54321 + 50 + 1000);
    usleep(50000);
    for (size_t at = 0; at + 512 <= d.length; at += 512) /* not yet */
        assert_string_not_equal((const char *)d.bytes.data + at, IMAGE_MANIFEST_NAME);
    image_gate_set(d.gate, IMAGE_GATE_OPEN);
    pthread_join(d.thread, NULL);
    if (d.rc < 0)
        fail_msg("%s", d.error.message);
    AUTO(image_manifest) manifest = NULL;
    struct error err = {0};
    if (fixture_feed(f, d.bytes.data, d.bytes.length, 65536, 100 * MIB, &manifest, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(manifest->file_count, 6);
    run(xasprintf("diff -r %s %s && diff -r %s %s", f->image, f->got_image, f->folder,
                  f->got_folder));
    dumping_end(&d);
}

static void somebody_who_waits_is_shown_life(void **state)
{
    struct image_fixture *f = *state;
    struct dumping d;
    dumping_start(&d, f);
    wait_for_length(&d, 3 * 512UL);
    for (int i = 0; i < 500 && atomic_load(&d.flushes) < 3; i++)
        usleep(10000);
    assert_true(atomic_load(&d.flushes) >= 3);
    append(f->image, "pages-1.img", 10, 1);
    image_gate_set(d.gate, IMAGE_GATE_DUMPED);
    wait_for_length(&d, 7 * 512UL); /* a piece, the folder, and two more signs */
    struct error reason;
    error_set(&reason, ERROR_CONFLICT, "it was cancelled");
    image_gate_break(d.gate, &reason);
    pthread_join(d.thread, NULL);
    assert_int_equal(d.rc, -1);
    assert_string_equal(d.error.message, "it was cancelled");
    dumping_end(&d);
}

static void a_pages_file_that_shrinks_is_not_sent(void **state)
{
    struct image_fixture *f = *state;
    struct dumping d;
    append(f->image, "pages-1.img", 3 * MIB, 1);
    dumping_start(&d, f);
    wait_for_length(&d, 3 * MIB);
    autofree char *path = below(f->image, "pages-1.img");
    assert_int_equal(truncate(path, 1000), 0);
    image_gate_set(d.gate, IMAGE_GATE_OPEN);
    pthread_join(d.thread, NULL);
    assert_int_equal(d.rc, -1);
    assert_non_null(strstr(d.error.message, "became shorter"));
    dumping_end(&d);
}

/* More files than are open at once, and none of them is left out. */
static void many_pages_files_go_out(void **state)
{
    struct image_fixture *f = *state;
    struct dumping d;
    for (unsigned i = 0; i < 150; i++) {
        char name[32];
        snprintf(name, sizeof(name), "pages-%u.img", i);
        append(f->image, name, 5000, i);
    }
    dumping_start(&d, f);
    usleep(20000);
    image_gate_set(d.gate, IMAGE_GATE_OPEN);
    pthread_join(d.thread, NULL);
    struct error err = {0};
    if (d.rc < 0 || fixture_feed(f, d.bytes.data, d.bytes.length, 65536, 100 * MIB, NULL, &err) < 0)
        fail_msg("%s%s", d.error.message, err.message);
    run(xasprintf("diff -r %s %s", f->image, f->got_image));
    dumping_end(&d);
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

static void a_pipe_lends_its_room(void **state)
{
    (void)state;
    AUTO(image_pipe) pipe = image_pipe_new();
    void *room = NULL;
    const void *got = NULL;
    size_t length = 0;
    assert_int_equal(image_pipe_write(pipe, "head ", 5, NULL), 0);
    assert_int_equal(image_pipe_room(pipe, &room, &length, NULL), 0);
    assert_true(length > 100);
    memcpy(room, "xxplace", 7);
    assert_int_equal(image_pipe_write(pipe, (char *)room + 2, 5, NULL), 0); /* from further on */
    assert_int_equal(image_pipe_room(pipe, &room, &length, NULL), 0);
    memcpy(room, "d", 1);
    assert_int_equal(image_pipe_write(pipe, room, 1, NULL), 0); /* in its place */
    image_pipe_flush(pipe);
    image_pipe_flush(pipe); /* nothing more */
    assert_int_equal(image_pipe_peek(pipe, &got, NULL), 11);
    assert_memory_equal(got, "head placed", 11);
    image_pipe_close(pipe);
    assert_int_equal(image_pipe_peek(pipe, &got, NULL), 0);
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
        TEST(pages_go_out_while_they_are_written),
        TEST(somebody_who_waits_is_shown_life),
        TEST(a_pages_file_that_shrinks_is_not_sent),
        TEST(many_pages_files_go_out),
        TEST(links_are_unmovable),
        TEST(pipes_and_sockets_are_unmovable),
        TEST(privileged_files_are_unmovable),
        TEST(strange_names_are_unmovable),
        TEST(a_linked_folder_is_unmovable),
        TEST(totals_are_counted),
        cmocka_unit_test(a_pipe_keeps_bytes_in_order),
        cmocka_unit_test(a_pipe_lends_its_room),
        cmocka_unit_test(a_broken_pipe_fails_on_both_sides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
