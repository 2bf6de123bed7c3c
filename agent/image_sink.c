/* SPDX-License-Identifier: Apache-2.0 */
/* image_sink.c - takes an image stream apart, distrusting all of it. */
#include "image_sink.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "checksum.h"
#include "image_archive.h"
#include "image_name.h"
#include "image_pages.h"
#include "image_pipe.h"

/* What a stream may have beside its content: headers of entries, and of pieces (2 KiB of 1 MiB). */
#define HEADERS_MAX_BYTES (IMAGE_ENTRIES_MAX * 8192UL + IMAGE_MANIFEST_MAX_BYTES)
#define HEADERS_SHARE     512
#define ROOM_CHECK_BYTES  (64UL * 1024 * 1024) /* between two looks at the free room */

struct directory { /* its owner, mode and time are set when all is in it */
    char *path;    /* owned; below the folder, "" for itself */
    mode_t mode;
    uid_t uid;
    gid_t gid;
    struct timespec mtime;
};

struct image_sink {
    struct image_sink_config config; /* its strings are copies, owned */
    struct image_pipe *pipe;         /* owned */
    pthread_t thread;
    bool joined;

    /* the thread's until it is joined */
    int image_fd, folder_fd;
    struct image_reader *reader;
    struct image_names *names;
    struct image_manifest *got, *sent; /* what arrived; what the manifest says */
    struct directory *directories;
    size_t directory_count, directory_room;
    struct image_pages pages;
    int pages_fd; /* of the file at pages_index, since pieces come in rows; -1: none */
    size_t pages_index;
    int parent_fd;     /* the directory of the last file, since files come in groups */
    char *parent_path; /* owned */
    uint64_t bytes, since_room_check;
    int rc;
    struct error error;

    uint64_t raw_bytes, raw_max; /* the caller's: of the stream itself */
};

static int check_room(struct image_sink *sink, int fd, struct error *err)
{
    struct statvfs vfs;
    if (fstatvfs(fd, &vfs) < 0)
        return error_errno(err, ERROR_FAILED, "cannot see the free room");
    if ((uint64_t)vfs.f_bavail * vfs.f_frsize < sink->config.slack_bytes)
        return error_set(err, ERROR_TOO_LARGE,
                         "the target's disk is full: less than %llu bytes are free",
                         (unsigned long long)sink->config.slack_bytes);
    return 0;
}

/* Opens the directory of `path` below the folder, piece by piece and without following links;
 * *ret_piece is the last piece. The fd is the sink's. -1 on failure. */
static int open_parent(struct image_sink *sink, const char *path, const char **ret_piece,
                       struct error *err)
{
    const char *slash = strrchr(path, '/');
    *ret_piece = slash ? slash + 1 : path;
    if (!slash)
        return sink->folder_fd;
    size_t length = (size_t)(slash - path);
    if (sink->parent_path && strlen(sink->parent_path) == length &&
        memcmp(sink->parent_path, path, length) == 0)
        return sink->parent_fd;
    autofree char *parent = xstrndup(path, length);
    autoclose int fd = fcntl(sink->folder_fd, F_DUPFD_CLOEXEC, 3);
    char *rest = parent, *piece;
    while (fd >= 0 && (piece = strsep(&rest, "/"))) {
        int next = openat(fd, piece, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        int saved_errno = errno;
        close(fd);
        errno = saved_errno;
        fd = next;
    }
    if (fd < 0)
        return error_errno(err, ERROR_FAILED, "cannot open the directory of '%s'", path);
    if (sink->parent_fd >= 0)
        close(sink->parent_fd);
    sink->parent_fd = steal_fd(&fd);
    free(sink->parent_path);
    sink->parent_path = xstrndup(path, length);
    return sink->parent_fd;
}

static int take_directory(struct image_sink *sink, const struct image_entry *entry,
                          const char *path, struct error *err)
{
    if (*path) {
        const char *piece = NULL;
        int parent = open_parent(sink, path, &piece, err);
        if (parent < 0)
            return -1;
        if (mkdirat(parent, piece, 0700) < 0)
            return error_errno(err, ERROR_FAILED, "cannot make the directory '%s'", path);
    }
    if (sink->directory_count == sink->directory_room) {
        sink->directory_room = sink->directory_room ? sink->directory_room * 2 : 16;
        sink->directories =
            xrealloc(sink->directories, sink->directory_room * sizeof(*sink->directories));
    }
    sink->directories[sink->directory_count++] = (struct directory){.path = xstrdup(path),
                                                                    .mode = entry->mode & 07777,
                                                                    .uid = entry->uid,
                                                                    .gid = entry->gid,
                                                                    .mtime = entry->mtime};
    return 0;
}

static int write_all(int fd, const void *data, size_t length, uint64_t offset)
{
    const char *bytes = data;
    while (length > 0) {
        ssize_t n = pwrite(fd, bytes, length, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        bytes += n;
        length -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

static void sum_zeros(struct checksum *sum, uint64_t count)
{
    static const unsigned char zeros[64 * 1024];
    while (count > 0) {
        size_t some = count < sizeof(zeros) ? (size_t)count : sizeof(zeros);
        checksum_update(sum, zeros, some);
        count -= some;
    }
}

static int count_written(struct image_sink *sink, int fd, size_t length, struct error *err)
{
    if (sink->config.received_bytes)
        atomic_fetch_add(sink->config.received_bytes, length);
    sink->since_room_check += length;
    if (sink->since_room_check < ROOM_CHECK_BYTES)
        return 0;
    sink->since_room_check = 0;
    return check_room(sink, fd, err);
}

/* Writes the present entry's content into the file from `base` on. */
static int take_content(struct image_sink *sink, int fd, uint64_t base,
                        const struct image_entry *entry, struct checksum *sum, struct error *err)
{
    const void *data = NULL;
    size_t length = 0;
    uint64_t offset = 0, at = 0;
    int rc;
    while ((rc = image_reader_block(sink->reader, &data, &length, &offset, err)) == 1) {
        if (offset < at || offset > entry->size || length > entry->size - offset)
            return error_set(err, ERROR_INVALID, "'%s' has data outside of its size", entry->name);
        sum_zeros(sum, offset - at);
        checksum_update(sum, data, length);
        if (write_all(fd, data, length, base + offset) < 0)
            return error_errno(err, ERROR_FAILED, "cannot write '%s'", entry->name);
        at = offset + length;
        if (count_written(sink, fd, length, err) < 0)
            return -1;
    }
    if (rc < 0)
        return -1;
    if (at < entry->size) {
        sum_zeros(sum, entry->size - at);
        if (ftruncate(fd, (off_t)(base + entry->size)) < 0)
            return error_errno(err, ERROR_FAILED, "cannot size '%s'", entry->name);
    }
    return 0;
}

/* Whether that much more is within what was reserved. */
static int check_bytes(struct image_sink *sink, const struct image_entry *entry, struct error *err)
{
    if (entry->size > sink->config.max_bytes - sink->bytes)
        return error_set(err, ERROR_TOO_LARGE,
                         "with '%s' there are more than the %llu bytes that were reserved",
                         entry->name, (unsigned long long)sink->config.max_bytes);
    sink->bytes += entry->size;
    return 0;
}

static int set_attributes(int fd, mode_t mode, uid_t uid, gid_t gid, struct timespec mtime,
                          const char *name, struct error *err)
{
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, mtime};
    /* owner first: a change of owner clears bits of the mode */
    if (fchown(fd, uid, gid) < 0 || fchmod(fd, mode) < 0 || futimens(fd, times) < 0)
        return error_errno(err, ERROR_FAILED, "cannot set owner, mode and time of '%s'", name);
    return 0;
}

static int take_file(struct image_sink *sink, const struct image_entry *entry, enum image_part part,
                     const char *path, struct error *err)
{
    if (check_bytes(sink, entry, err) < 0)
        return -1;
    const char *piece = path;
    int parent = part == IMAGE_PART_IMAGE ? sink->image_fd : open_parent(sink, path, &piece, err);
    if (parent < 0)
        return -1;
    autoclose int fd =
        openat(parent, piece, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_errno(err, ERROR_FAILED, "cannot make '%s'", entry->name);
    AUTO(checksum) sum = checksum_new();
    if (take_content(sink, fd, 0, entry, sum, err) < 0)
        return -1;
    char hex[CHECKSUM_HEX_BYTES];
    checksum_hex(sum, hex);
    image_manifest_add(sink->got, entry->name, entry->size, hex);
    if (part == IMAGE_PART_FOLDER)
        return set_attributes(fd, entry->mode & 07777, entry->uid, entry->gid, entry->mtime,
                              entry->name, err);
    return 0;
}

/* The first piece of a file makes it, and nothing else may. */
static struct image_pages_file *begin_pages(struct image_sink *sink, const char *file,
                                            struct error *err)
{
    autofree char *name = xasprintf("image/%s", file);
    if (image_names_add(sink->names, name, false, err) < 0)
        return NULL;
    autoclose int fd =
        openat(sink->image_fd, file, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        error_errno(err, ERROR_FAILED, "cannot make '%s'", name);
        return NULL;
    }
    return image_pages_add(&sink->pages, file, sink->got);
}

static int open_pages(struct image_sink *sink, const char *file, size_t index, struct error *err)
{
    if (sink->pages_fd >= 0 && sink->pages_index == index)
        return 0;
    if (sink->pages_fd >= 0)
        close(sink->pages_fd);
    sink->pages_fd = openat(sink->image_fd, file, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
    sink->pages_index = index;
    return sink->pages_fd < 0 ? error_errno(err, ERROR_FAILED, "cannot open '%s'", file) : 0;
}

static int take_piece(struct image_sink *sink, const struct image_entry *entry, const char *path,
                      struct error *err)
{
    autofree char *name = NULL;
    uint64_t offset = 0;
    if (!*path)
        return 0; /* a sign of life */
    if (image_piece_parse(path, &name, &offset, err) < 0 || check_bytes(sink, entry, err) < 0)
        return -1;
    struct image_pages_file *file = image_pages_find(&sink->pages, name);
    if (offset != (file ? file->bytes : 0))
        return error_set(err, ERROR_INVALID, "'%s' does not follow what has come of that file",
                         entry->name);
    if (!file && !(file = begin_pages(sink, name, err)))
        return -1;
    if (open_pages(sink, name, (size_t)(file - sink->pages.files), err) < 0 ||
        take_content(sink, sink->pages_fd, offset, entry, file->sum, err) < 0)
        return -1;
    file->bytes += entry->size;
    return 0;
}

static int take_manifest(struct image_sink *sink, const struct image_entry *entry,
                         struct error *err)
{
    if (entry->size > IMAGE_MANIFEST_MAX_BYTES)
        return error_set(err, ERROR_TOO_LARGE, "the manifest is larger than %lu bytes",
                         IMAGE_MANIFEST_MAX_BYTES);
    autofree char *text = xcalloc(1, entry->size + 1);
    const void *data = NULL;
    size_t length = 0;
    uint64_t offset = 0;
    int rc;
    while ((rc = image_reader_block(sink->reader, &data, &length, &offset, err)) == 1) {
        if (offset > entry->size || length > entry->size - offset)
            return error_set(err, ERROR_INVALID, "the manifest has data outside of its size");
        memcpy(text + offset, data, length);
    }
    autojson *json = NULL;
    if (rc < 0 || json_parse(text, entry->size, &json, err) < 0 ||
        image_manifest_parse(json, &sink->sent, err) < 0)
        return -1;
    if (strcmp(sink->sent->workload, sink->config.workload) != 0)
        return error_set(err, ERROR_INVALID, "the manifest is of workload '%s', expected '%s'",
                         sink->sent->workload, sink->config.workload);
    image_pages_finish(&sink->pages, sink->got);
    return image_manifest_match(sink->sent, sink->got, err);
}

static int take_entry(struct image_sink *sink, const struct image_entry *entry, struct error *err)
{
    enum image_part part;
    const char *path = NULL;
    if (sink->sent)
        return error_set(err, ERROR_INVALID, "the stream goes on behind the manifest");
    if (image_name_check(entry->name, &part, &path, err) < 0 ||
        image_type_check(entry->name, part, entry->mode, err) < 0)
        return -1;
    if (part == IMAGE_PART_PAGES)
        return take_piece(sink, entry, path, err);
    if (image_names_add(sink->names, entry->name, S_ISDIR(entry->mode), err) < 0)
        return -1;
    if (part == IMAGE_PART_MANIFEST)
        return take_manifest(sink, entry, err);
    if (S_ISDIR(entry->mode))
        return take_directory(sink, entry, path, err);
    return take_file(sink, entry, part, path, err);
}

/* From the deepest to the top, so that a directory's time and mode come after its content. */
static int finish_directories(struct image_sink *sink, struct error *err)
{
    for (size_t i = sink->directory_count; i-- > 0;) {
        const struct directory *d = &sink->directories[i];
        const char *piece = NULL;
        int parent = *d->path ? open_parent(sink, d->path, &piece, err) : sink->folder_fd;
        if (parent < 0)
            return -1;
        autoclose int fd =
            openat(parent, *d->path ? piece : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
            return error_errno(err, ERROR_FAILED, "cannot open the directory '%s'", d->path);
        if (set_attributes(fd, d->mode, d->uid, d->gid, d->mtime, d->path, err) < 0)
            return -1;
    }
    return 0;
}

static ssize_t next_bytes(void *ctx, const void **ret, struct error *err)
{
    return image_pipe_peek(ctx, ret, err);
}

static int take_stream(struct image_sink *sink, struct error *err)
{
    if (check_room(sink, sink->image_fd, err) < 0 || check_room(sink, sink->folder_fd, err) < 0 ||
        image_reader_new(next_bytes, sink->pipe, &sink->reader, err) < 0)
        return -1;
    struct image_entry entry;
    int rc;
    while ((rc = image_reader_next(sink->reader, &entry, err)) == 1)
        if (take_entry(sink, &entry, err) < 0)
            return -1;
    if (rc < 0)
        return -1;
    if (!sink->sent)
        return error_set(err, ERROR_INVALID, "the stream ends without a manifest");
    if (sink->directory_count == 0)
        return error_set(err, ERROR_INVALID, "the stream holds no 'folder'");
    if (finish_directories(sink, err) < 0)
        return -1;
    /* Padding behind the archive's end is read, so that the sender can end in peace. */
    const void *rest = NULL;
    ssize_t n;
    while ((n = image_pipe_peek(sink->pipe, &rest, err)) > 0)
        ;
    return (int)n;
}

static void *sink_thread(void *ctx)
{
    struct image_sink *sink = ctx;
    sink->rc = take_stream(sink, &sink->error);
    if (sink->rc < 0)
        image_pipe_break(sink->pipe, &sink->error);
    return NULL;
}

int image_sink_new(const struct image_sink_config *config, struct image_sink **ret,
                   struct error *err)
{
    autoclose int image_fd =
        open(config->image_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (image_fd < 0)
        return error_errno(err, ERROR_FAILED, "cannot open '%s'", config->image_dir);
    autoclose int folder_fd =
        open(config->folder_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder_fd < 0)
        return error_errno(err, ERROR_FAILED, "cannot open '%s'", config->folder_dir);
    struct image_sink *sink = xcalloc(1, sizeof(*sink));
    sink->config = *config;
    sink->config.image_dir = sink->config.folder_dir = NULL;
    sink->config.workload = xstrdup(config->workload);
    if (!sink->config.slack_bytes)
        sink->config.slack_bytes = IMAGE_ROOM_SLACK_BYTES;
    sink->raw_max = config->max_bytes < UINT64_MAX / 2
                        ? config->max_bytes + config->max_bytes / HEADERS_SHARE + HEADERS_MAX_BYTES
                        : UINT64_MAX;
    sink->pipe = image_pipe_new();
    sink->image_fd = steal_fd(&image_fd);
    sink->folder_fd = steal_fd(&folder_fd);
    sink->parent_fd = sink->pages_fd = -1;
    sink->names = image_names_new();
    sink->got = image_manifest_new(config->workload, 0);
    if (pthread_create(&sink->thread, NULL, sink_thread, sink) != 0) {
        sink->joined = true;
        image_sink_free(sink);
        return error_set(err, ERROR_BUSY, "cannot start a thread to receive the image");
    }
    *ret = sink;
    return 0;
}

int image_sink_data(struct image_sink *sink, const void *data, size_t length, struct error *err)
{
    if (length > sink->raw_max - sink->raw_bytes) {
        struct error reason;
        error_set(&reason, ERROR_TOO_LARGE, "the stream is larger than %llu bytes",
                  (unsigned long long)sink->raw_max);
        image_pipe_break(sink->pipe, &reason);
    } else {
        sink->raw_bytes += length;
    }
    return image_pipe_write(sink->pipe, data, length, err);
}

static void join(struct image_sink *sink)
{
    if (!sink->joined)
        pthread_join(sink->thread, NULL);
    sink->joined = true;
}

int image_sink_finish(struct image_sink *sink, struct image_manifest **ret, uint64_t *ret_bytes,
                      struct error *err)
{
    image_pipe_close(sink->pipe);
    join(sink);
    if (sink->rc < 0) {
        if (err)
            *err = sink->error;
        return -1;
    }
    *ret = steal_ptr(&sink->sent);
    *ret_bytes = sink->bytes;
    return 0;
}

void image_sink_break(struct image_sink *sink, const struct error *reason)
{
    image_pipe_break(sink->pipe, reason);
}

void image_sink_free(struct image_sink *sink)
{
    if (!sink)
        return;
    struct error reason;
    error_set(&reason, ERROR_FAILED, "the transfer was cut off");
    image_pipe_break(sink->pipe, &reason);
    join(sink);
    for (size_t i = 0; i < sink->directory_count; i++)
        free(sink->directories[i].path);
    free(sink->directories);
    image_reader_free(sink->reader);
    image_pages_done(&sink->pages);
    if (sink->pages_fd >= 0)
        close(sink->pages_fd);
    image_names_free(sink->names);
    image_manifest_free(sink->got);
    image_manifest_free(sink->sent);
    if (sink->parent_fd >= 0)
        close(sink->parent_fd);
    free(sink->parent_path);
    close(sink->image_fd);
    close(sink->folder_fd);
    image_pipe_free(sink->pipe);
    free((char *)sink->config.workload);
    free(sink);
}
