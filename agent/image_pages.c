/* SPDX-License-Identifier: Apache-2.0 */
/* image_pages.c - hashing beside the engine, on threads of its own. */
#include "image_pages.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define READ_BYTES      (256UL * 1024)
#define FOLLOWED_MAX    64 /* files; further ones are hashed on their way */
#define FOLLOW_PAUSE_MS 2

static bool is_pages_piece(const char *piece)
{
    size_t length = strlen(piece);
    return length > 10 && strncmp(piece, "pages-", 6) == 0 &&
           strcmp(piece + length - 4, ".img") == 0;
}

bool image_is_pages(const char *name)
{
    return strncmp(name, "image/", 6) == 0 && is_pages_piece(name + 6);
}

/* ---- source ---- */

struct followed {
    char *piece; /* owned */
    int fd;
    struct sha256 *hash; /* owned; NULL once taken, or when it became useless */
    uint64_t bytes;
};

struct image_follow {
    int dirfd;
    struct followed files[FOLLOWED_MAX]; /* the thread's until it is joined */
    size_t count;
    unsigned char *buffer; /* owned */
    pthread_t thread;
    atomic_bool stop;
    bool joined;
};

static void find_files(struct image_follow *follow)
{
    int fd = openat(follow->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        if (fd >= 0)
            close(fd);
        return;
    }
    struct dirent *entry;
    while (follow->count < FOLLOWED_MAX && (entry = readdir(dir))) {
        bool known = !is_pages_piece(entry->d_name);
        for (size_t i = 0; i < follow->count && !known; i++)
            known = strcmp(follow->files[i].piece, entry->d_name) == 0;
        if (known)
            continue;
        int file = openat(follow->dirfd, entry->d_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (file < 0)
            continue;
        follow->files[follow->count++] =
            (struct followed){.piece = xstrdup(entry->d_name), .fd = file, .hash = sha256_new()};
    }
    closedir(dir);
}

/* Hashes what has been written since. True when there was something. */
static bool catch_up(struct image_follow *follow, struct followed *file)
{
    bool grew = false;
    while (!atomic_load(&follow->stop)) {
        ssize_t n = pread(file->fd, follow->buffer, READ_BYTES, (off_t)file->bytes);
        if (n <= 0)
            return grew;
        sha256_update(file->hash, follow->buffer, (size_t)n);
        file->bytes += (uint64_t)n;
        grew = true;
    }
    return grew;
}

static void *follow_main(void *ctx)
{
    struct image_follow *follow = ctx;
    while (!atomic_load(&follow->stop)) {
        bool grew = false;
        find_files(follow);
        for (size_t i = 0; i < follow->count; i++)
            grew |= catch_up(follow, &follow->files[i]);
        const struct timespec pause = {.tv_nsec = FOLLOW_PAUSE_MS * 1000000L};
        if (!grew)
            nanosleep(&pause, NULL);
    }
    return NULL;
}

struct image_follow *image_follow_start(const char *image_dir)
{
    struct image_follow *follow = xcalloc(1, sizeof(*follow));
    follow->joined = true;
    follow->dirfd = open(image_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    follow->buffer = xmalloc(READ_BYTES);
    atomic_init(&follow->stop, false);
    if (follow->dirfd < 0 || pthread_create(&follow->thread, NULL, follow_main, follow) != 0) {
        image_follow_free(follow);
        return NULL;
    }
    follow->joined = false;
    return follow;
}

void image_follow_stop(struct image_follow *follow)
{
    if (!follow || follow->joined)
        return;
    atomic_store(&follow->stop, true);
    pthread_join(follow->thread, NULL);
    follow->joined = true;
}

struct sha256 *image_follow_take(struct image_follow *follow, const char *name, uint64_t *ret_bytes)
{
    for (size_t i = 0; follow && image_is_pages(name) && i < follow->count; i++)
        if (strcmp(follow->files[i].piece, name + 6) == 0) {
            *ret_bytes = follow->files[i].bytes;
            return steal_ptr(&follow->files[i].hash);
        }
    return NULL;
}

void image_follow_free(struct image_follow *follow)
{
    if (!follow)
        return;
    image_follow_stop(follow);
    for (size_t i = 0; i < follow->count; i++) {
        sha256_free(follow->files[i].hash);
        close(follow->files[i].fd);
        free(follow->files[i].piece);
    }
    if (follow->dirfd >= 0)
        close(follow->dirfd);
    free(follow->buffer);
    free(follow);
}

/* ---- target ---- */

struct image_check {
    const struct image_manifest *manifest; /* borrowed */
    int dirfd;
    pthread_t thread;
    bool joined;
    atomic_bool stop;
    int rc; /* the thread's until it is joined */
    struct error error;
};

static int hash_file(struct image_check *check, const struct image_file *file,
                     unsigned char *buffer, struct error *err)
{
    AUTO(sha256) hash = sha256_new();
    autoclose int fd = openat(check->dirfd, file->name + 6, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, ERROR_FAILED, "cannot open '%s'", file->name);
    uint64_t bytes = 0;
    ssize_t n;
    while ((n = read(fd, buffer, READ_BYTES)) > 0) {
        if (atomic_load(&check->stop))
            return error_set(err, ERROR_FAILED, "the check was given up");
        sha256_update(hash, buffer, (size_t)n);
        bytes += (uint64_t)n;
    }
    if (n < 0)
        return error_errno(err, ERROR_FAILED, "cannot read '%s'", file->name);
    char hex[SHA256_HEX_BYTES];
    sha256_finish(hash, hex);
    if (bytes != file->bytes || strcmp(hex, file->sha256) != 0)
        return error_set(err, ERROR_INVALID,
                         "the SHA-256 of '%s' differs from the manifest's: it was altered on its "
                         "way",
                         file->name);
    return 0;
}

static void *check_main(void *ctx)
{
    struct image_check *check = ctx;
    autofree unsigned char *buffer = xmalloc(READ_BYTES);
    for (size_t i = 0; check->rc == 0 && i < check->manifest->file_count; i++)
        if (image_is_pages(check->manifest->files[i].name))
            check->rc = hash_file(check, &check->manifest->files[i], buffer, &check->error);
    return NULL;
}

int image_check_start(const char *image_dir, const struct image_manifest *manifest,
                      struct image_check **ret, struct error *err)
{
    AUTO(image_check) check = xcalloc(1, sizeof(*check));
    check->manifest = manifest;
    check->joined = true;
    atomic_init(&check->stop, false);
    check->dirfd = open(image_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (check->dirfd < 0)
        return error_errno(err, ERROR_FAILED, "cannot open '%s'", image_dir);
    if (pthread_create(&check->thread, NULL, check_main, check) != 0)
        return error_set(err, ERROR_BUSY, "no thread to verify the image");
    check->joined = false;
    *ret = steal_ptr(&check);
    return 0;
}

int image_check_wait(struct image_check *check, struct error *err)
{
    if (!check->joined)
        pthread_join(check->thread, NULL);
    check->joined = true;
    if (check->rc < 0 && err)
        *err = check->error;
    return check->rc;
}

void image_check_free(struct image_check *check)
{
    if (!check)
        return;
    atomic_store(&check->stop, true);
    image_check_wait(check, NULL);
    if (check->dirfd >= 0)
        close(check->dirfd);
    free(check);
}
