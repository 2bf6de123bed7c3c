/* SPDX-License-Identifier: Apache-2.0 */
/* image_pages.c - hashing beside the engine, on threads of its own. */
#include "image_pages.h"

#include <dirent.h>
#include <errno.h>
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
    struct sha256 *hash; /* owned; NULL once it is finished */
    uint64_t bytes;
    bool failed; /* to read */
};

struct image_follow {
    int dirfd;
    unsigned char *buffer; /* owned */
    pthread_t thread;
    bool running; /* so that it has to be joined */
    atomic_bool settled, stop;

    struct followed files[FOLLOWED_MAX]; /* the thread's until it is joined, but see `listed` */
    size_t count;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool listed; /* guarded by lock: the names and their count stay as they are */
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
        if (n < 0 && errno != EINTR)
            file->failed = true;
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
        bool settled = atomic_load(&follow->settled), grew = false;
        find_files(follow);
        if (settled) {
            pthread_mutex_lock(&follow->lock);
            follow->listed = true;
            pthread_cond_broadcast(&follow->changed);
            pthread_mutex_unlock(&follow->lock);
        }
        for (size_t i = 0; i < follow->count; i++)
            grew |= catch_up(follow, &follow->files[i]);
        if (settled)
            break; /* what there was when it was settled has been read to its end */
        const struct timespec pause = {.tv_nsec = FOLLOW_PAUSE_MS * 1000000L};
        if (!grew)
            nanosleep(&pause, NULL);
    }
    pthread_mutex_lock(&follow->lock);
    follow->listed = true; /* also when it was stopped: nobody shall wait for it */
    pthread_cond_broadcast(&follow->changed);
    pthread_mutex_unlock(&follow->lock);
    return NULL;
}

struct image_follow *image_follow_start(const char *image_dir)
{
    struct image_follow *follow = xcalloc(1, sizeof(*follow));
    pthread_mutex_init(&follow->lock, NULL);
    pthread_cond_init(&follow->changed, NULL);
    atomic_init(&follow->settled, false);
    atomic_init(&follow->stop, false);
    follow->buffer = xmalloc(READ_BYTES);
    follow->dirfd = open(image_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    follow->running =
        follow->dirfd >= 0 && pthread_create(&follow->thread, NULL, follow_main, follow) == 0;
    if (!follow->running) {
        image_follow_free(follow);
        return NULL;
    }
    return follow;
}

void image_follow_settle(struct image_follow *follow)
{
    if (follow)
        atomic_store(&follow->settled, true);
}

static struct followed *find(struct image_follow *follow, const char *name)
{
    for (size_t i = 0; image_is_pages(name) && i < follow->count; i++)
        if (strcmp(follow->files[i].piece, name + strlen("image/")) == 0)
            return &follow->files[i];
    return NULL;
}

bool image_follow_has(struct image_follow *follow, const char *name)
{
    if (!follow)
        return false;
    pthread_mutex_lock(&follow->lock);
    while (!follow->listed)
        pthread_cond_wait(&follow->changed, &follow->lock);
    bool found = find(follow, name) != NULL;
    pthread_mutex_unlock(&follow->lock);
    return found;
}

static void join(struct image_follow *follow)
{
    if (follow->running)
        pthread_join(follow->thread, NULL);
    follow->running = false;
}

int image_follow_hash(struct image_follow *follow, const char *name, uint64_t bytes,
                      char hex[SHA256_HEX_BYTES], struct error *err)
{
    join(follow);
    struct followed *file = find(follow, name);
    if (!file || !file->hash || atomic_load(&follow->stop))
        return error_set(err, ERROR_FAILED, "hashing '%s' was given up", name);
    if (file->failed)
        return error_set(err, ERROR_FAILED, "'%s' cannot be read", name);
    if (file->bytes != bytes)
        return error_set(err, ERROR_FAILED, "'%s' changed its size after the dump", name);
    sha256_finish(file->hash, hex);
    sha256_free(file->hash);
    file->hash = NULL;
    return 0;
}

void image_follow_stop(struct image_follow *follow)
{
    if (follow)
        atomic_store(&follow->stop, true);
}

void image_follow_free(struct image_follow *follow)
{
    if (!follow)
        return;
    image_follow_stop(follow);
    join(follow);
    for (size_t i = 0; i < follow->count; i++) {
        sha256_free(follow->files[i].hash);
        close(follow->files[i].fd);
        free(follow->files[i].piece);
    }
    if (follow->dirfd >= 0)
        close(follow->dirfd);
    free(follow->buffer);
    pthread_cond_destroy(&follow->changed);
    pthread_mutex_destroy(&follow->lock);
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
