/* SPDX-License-Identifier: Apache-2.0 */
/* image_stream_pages.c - memory pages on their way out, while the engine writes them. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "image_stream_internal.h"

#define LOOK_PAUSE_MS 1    /* between two looks at what the engine has written */
#define SHOW_LIFE_MS  1000 /* after that long without a piece */
#define FOLLOWED_MAX  64   /* files that are open at once; what is beyond follows after the dump */

struct source {
    struct image_out *out;
    int dirfd;
    int fds[FOLLOWED_MAX]; /* of the first files of out->pages */
};

static int send_piece(struct image_out *out, struct image_pages_file *file, int fd, uint64_t bytes,
                      struct error *err)
{
    autofree char *name = image_piece_name(file->file, file->bytes);
    const struct image_entry entry = {.name = name, .mode = S_IFREG | 0600, .size = bytes};
    if (image_check_bytes(&out->check, file->file, bytes, err) < 0 ||
        image_writer_entry(out->writer, &entry, err) < 0)
        return -1;
    while (bytes > 0) {
        void *room = NULL;
        size_t length = 0;
        if (image_out_room(out, &room, &length, err) < 0)
            return -1;
        ssize_t n = pread(fd, room, length < bytes ? length : bytes, (off_t)file->bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_errno(err, ERROR_FAILED, "cannot read '%s'", file->file);
        if (n == 0)
            return error_set(err, ERROR_FAILED, "'%s' became shorter while it was sent",
                             file->file);
        checksum_update(file->sum, room, (size_t)n);
        if (image_out_data(out, room, (size_t)n, err) < 0)
            return -1;
        file->bytes += (uint64_t)n;
        bytes -= (uint64_t)n;
    }
    return 0;
}

/* Sends what the file has beyond what was sent: whole pieces, or with `all` the rest as well.
 * Returns whether anything was sent, -1 on failure. */
static int send_grown(struct image_out *out, struct image_pages_file *file, int fd, bool all,
                      struct error *err)
{
    struct stat st;
    bool sent = false;
    if (fstat(fd, &st) < 0)
        return error_errno(err, ERROR_FAILED, "cannot see the size of '%s'", file->file);
    uint64_t size = (uint64_t)st.st_size;
    if (size < file->bytes)
        return error_set(err, ERROR_FAILED, "'%s' became shorter while it was sent", file->file);
    while (size - file->bytes >= IMAGE_PIECE_BYTES || (all && (size > file->bytes || size == 0))) {
        uint64_t left = size - file->bytes;
        if (send_piece(out, file, fd, left < IMAGE_PIECE_BYTES ? left : IMAGE_PIECE_BYTES, err) < 0)
            return -1;
        sent = true;
        if (size == 0)
            break;
    }
    return sent;
}

static int open_pages(struct source *source, const char *file, struct error *err)
{
    struct stat st;
    int fd = openat(source->dirfd, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, ERROR_FAILED, "cannot open '%s'", file);
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        return fd;
    close(fd);
    return error_set(err, ERROR_FAILED, "'%s' is no regular file", file);
}

static int add_file(struct source *source, const char *file, struct error *err)
{
    struct image_out *out = source->out;
    autofree char *name = xasprintf("image/%s", file);
    if (image_names_add(out->check.names, name, false, err) < 0)
        return -1;
    size_t place = out->pages.count;
    if (place < FOLLOWED_MAX && (source->fds[place] = open_pages(source, file, err)) < 0)
        return -1;
    image_pages_add(&out->pages, file, out->job->manifest);
    out->check.totals.entries++;
    return 0;
}

static int find_files(struct source *source, struct error *err)
{
    int fd = openat(source->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        if (fd >= 0)
            close(fd);
        return error_errno(err, ERROR_FAILED, "cannot list the images");
    }
    int rc = 0;
    struct dirent *entry;
    while (rc == 0 && (entry = readdir(dir)))
        if (image_is_pages(entry->d_name) && !image_pages_find(&source->out->pages, entry->d_name))
            rc = add_file(source, entry->d_name, err);
    closedir(dir);
    return rc;
}

/* The files that are open. Returns whether anything was sent, -1 on failure. */
static int send_followed(struct source *source, struct error *err)
{
    struct image_out *out = source->out;
    bool sent = false;
    for (size_t i = 0; i < out->pages.count && i < FOLLOWED_MAX; i++) {
        int rc = send_grown(out, &out->pages.files[i], source->fds[i], false, err);
        if (rc < 0)
            return -1;
        sent |= rc > 0;
    }
    return sent;
}

static int send_rest(struct source *source, struct error *err)
{
    struct image_out *out = source->out;
    for (size_t i = 0; i < out->pages.count; i++) {
        struct image_pages_file *file = &out->pages.files[i];
        bool followed = i < FOLLOWED_MAX;
        int fd = followed ? source->fds[i] : open_pages(source, file->file, err);
        int rc = fd < 0 ? -1 : send_grown(out, file, fd, true, err);
        if (!followed && fd >= 0)
            close(fd);
        if (rc < 0)
            return -1;
    }
    return 0;
}

static int show_life(struct image_out *out, struct error *err)
{
    const struct image_entry entry = {.name = "pages", .mode = S_IFDIR | 0700};
    if (image_writer_entry(out->writer, &entry, err) < 0)
        return -1;
    if (out->job->flush)
        out->job->flush(out->job->ctx);
    return 0;
}

static int send_all(struct source *source, struct error *err)
{
    struct image_out *out = source->out;
    struct image_gate *gate = out->job->gate;
    unsigned idle_ms = 0;
    int dumped;
    while ((dumped = gate ? image_gate_wait(gate, IMAGE_GATE_DUMPED, 0, err) : 1) == 0) {
        int sent = find_files(source, err) < 0 ? -1 : send_followed(source, err);
        if (sent < 0)
            return -1;
        idle_ms = sent ? 0 : idle_ms + LOOK_PAUSE_MS;
        if (idle_ms >= SHOW_LIFE_MS && show_life(out, err) < 0)
            return -1;
        idle_ms %= SHOW_LIFE_MS;
        if (!sent && image_gate_wait(gate, IMAGE_GATE_DUMPED, LOOK_PAUSE_MS, err) < 0)
            return -1;
    }
    if (dumped < 0 || find_files(source, err) < 0)
        return -1;
    return send_rest(source, err);
}

int image_out_pages(struct image_out *out, struct error *err)
{
    struct source source = {.out = out};
    source.dirfd = open(out->job->image_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (source.dirfd < 0)
        return error_errno(err, ERROR_FAILED, "cannot open '%s'", out->job->image_dir);
    int rc = show_life(out, err) < 0 ? -1 : send_all(&source, err);
    for (size_t i = 0; i < out->pages.count && i < FOLLOWED_MAX; i++)
        close(source.fds[i]);
    close(source.dirfd);
    return rc;
}

int image_out_wait(struct image_out *out, struct error *err)
{
    int open = out->job->gate ? 0 : 1;
    if (open == 0 && out->job->flush)
        out->job->flush(out->job->ctx);
    while (open == 0) {
        open = image_gate_wait(out->job->gate, IMAGE_GATE_OPEN, SHOW_LIFE_MS, err);
        if (open == 0 && show_life(out, err) < 0)
            return -1;
    }
    return open < 0 ? -1 : 0;
}
