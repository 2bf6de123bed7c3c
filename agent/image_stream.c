/* SPDX-License-Identifier: Apache-2.0 */
/* image_stream.c - writes pages, images, folder and manifest into one archive; each file is read
 * once, and its checksum made while it is. */
#include "image_stream.h"

#include <fcntl.h>
#include <string.h>
#include <time.h>

#include "image_stream_internal.h"
#include "image_walk.h"

#define EXTENTS_MAX 4096 /* data pieces of one sparse file; behind them all counts as data */

int image_check_bytes(struct image_check *check, const char *name, uint64_t bytes,
                      struct error *err)
{
    if (bytes > check->max_bytes - check->totals.bytes)
        return error_set(err, ERROR_TOO_LARGE, "with '%s' there are more than %llu bytes to move",
                         name, (unsigned long long)check->max_bytes);
    check->totals.bytes += bytes;
    return 0;
}

static int check_item(struct image_check *check, const struct image_walk_item *item,
                      struct error *err)
{
    enum image_part part;
    const char *path = NULL;
    if (image_name_check(item->name, &part, &path, err) < 0 ||
        image_type_check(item->name, part, item->st.st_mode, err) < 0 ||
        image_names_add(check->names, item->name, S_ISDIR(item->st.st_mode), err) < 0)
        return -1;
    check->totals.entries++;
    if (!S_ISREG(item->st.st_mode))
        return 0;
    if (item->st.st_nlink > 1)
        return error_set(err, ERROR_INVALID,
                         "'%s' has %lu names (hard links), which would become separate files",
                         item->name, (unsigned long)item->st.st_nlink);
    return image_check_bytes(check, item->name, (uint64_t)item->st.st_size, err);
}

static int check_visit(void *ctx, const struct image_walk_item *item, struct error *err)
{
    return check_item(ctx, item, err);
}

int image_folder_check(const char *dir, uint64_t max_bytes, struct image_totals *totals,
                       struct error *err)
{
    struct image_check check = {.names = image_names_new(), .max_bytes = max_bytes};
    int rc = image_walk(dir, "folder", check_visit, &check, err);
    image_names_free(check.names);
    if (rc < 0)
        return error_wrap(err, "the workload's folder %s cannot move", dir);
    if (totals) {
        totals->bytes += check.totals.bytes;
        totals->entries += check.totals.entries;
    }
    return 0;
}

static int bytes_visit(void *ctx, const struct image_walk_item *item, struct error *err)
{
    uint64_t *bytes = ctx;
    (void)err;
    if (S_ISREG(item->st.st_mode))
        *bytes += (uint64_t)item->st.st_size;
    return 0;
}

int image_dir_bytes(const char *dir, uint64_t *ret, struct error *err)
{
    *ret = 0;
    return image_walk(dir, "image", bytes_visit, ret, err);
}

int image_out_room(struct image_out *out, void **ret, size_t *ret_length, struct error *err)
{
    if (out->job->room)
        return out->job->room(out->job->ctx, ret, ret_length, err);
    *ret = out->buffer;
    *ret_length = IMAGE_BUFFER_BYTES;
    return 0;
}

int image_out_data(struct image_out *out, const void *data, size_t length, struct error *err)
{
    if (image_writer_data(out->writer, data, length, err) < 0)
        return -1;
    if (out->job->sent_bytes)
        atomic_fetch_add(out->job->sent_bytes, (uint64_t)length);
    return 0;
}

/* Where a file with holes holds data. *ret stays NULL for a file without. */
static int find_extents(int fd, const struct stat *st, const char *name, struct image_extent **ret,
                        size_t *ret_count, struct error *err)
{
    if ((uint64_t)st->st_blocks * 512 >= (uint64_t)st->st_size)
        return 0;
    struct image_extent *extents = xcalloc(EXTENTS_MAX, sizeof(*extents));
    size_t count = 0;
    off_t at = 0;
    while (at < st->st_size && count < EXTENTS_MAX) {
        off_t data = lseek(fd, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            break; /* only a hole is left */
        off_t hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
        if (hole < 0) {
            free(extents);
            return error_errno(err, ERROR_FAILED, "cannot find the holes of '%s'", name);
        }
        if (hole > st->st_size || count == EXTENTS_MAX - 1)
            hole = st->st_size;
        extents[count++] =
            (struct image_extent){.offset = (uint64_t)data, .length = (uint64_t)(hole - data)};
        at = hole;
    }
    if (count == 0) /* all hole: one empty extent at the end says so */
        extents[count++] = (struct image_extent){.offset = (uint64_t)st->st_size, .length = 0};
    *ret = extents;
    *ret_count = count;
    return 0;
}

/* The next bytes of the file into the buffer: from the disk, or zeros for a hole, which needs no
 * reading. Returns how many, -1 on failure. */
static ssize_t next_bytes(void *buffer, size_t room, int fd, uint64_t at,
                          const struct image_entry *entry, size_t *extent)
{
    if (entry->size - at < room)
        room = entry->size - at;
    if (!entry->extents)
        return pread(fd, buffer, room, (off_t)at);
    const struct image_extent *extents = entry->extents;
    size_t count = entry->extent_count;
    while (*extent < count && at >= extents[*extent].offset + extents[*extent].length)
        ++*extent;
    if (*extent < count && at >= extents[*extent].offset) {
        uint64_t left = extents[*extent].offset + extents[*extent].length - at;
        return pread(fd, buffer, left < room ? left : room, (off_t)at);
    }
    uint64_t hole = (*extent < count ? extents[*extent].offset : entry->size) - at;
    if (hole < room)
        room = hole;
    memset(buffer, 0, room);
    return (ssize_t)room;
}

static int send_content(struct image_out *out, int fd, const struct image_entry *entry,
                        struct error *err)
{
    AUTO(checksum) sum = checksum_new();
    size_t extent = 0;
    for (uint64_t at = 0; at < entry->size;) {
        void *room = NULL;
        size_t length = 0;
        if (image_out_room(out, &room, &length, err) < 0)
            return -1;
        ssize_t n = next_bytes(room, length, fd, at, entry, &extent);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_errno(err, ERROR_FAILED, "cannot read '%s'", entry->name);
        if (n == 0)
            return error_set(err, ERROR_FAILED, "'%s' became shorter while it was sent",
                             entry->name);
        checksum_update(sum, room, (size_t)n);
        if (image_out_data(out, room, (size_t)n, err) < 0)
            return -1;
        at += (uint64_t)n;
    }
    char hex[CHECKSUM_HEX_BYTES];
    checksum_hex(sum, hex);
    image_manifest_add(out->job->manifest, entry->name, entry->size, hex);
    return 0;
}

static int send_file(struct image_out *out, const struct image_walk_item *item, struct error *err)
{
    autoclose int fd =
        openat(item->dirfd, item->piece, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return error_errno(err, ERROR_FAILED, "cannot open '%s'", item->name);
    if (!S_ISREG(st.st_mode) || st.st_ino != item->st.st_ino)
        return error_set(err, ERROR_FAILED, "'%s' was replaced while it was sent", item->name);
    autofree struct image_extent *extents = NULL;
    struct image_entry entry = {.name = item->name,
                                .mode = st.st_mode,
                                .uid = st.st_uid,
                                .gid = st.st_gid,
                                .mtime = st.st_mtim,
                                .size = (uint64_t)st.st_size};
    if (find_extents(fd, &st, item->name, &extents, &entry.extent_count, err) < 0)
        return -1;
    entry.extents = extents;
    if (image_writer_entry(out->writer, &entry, err) < 0)
        return -1;
    return send_content(out, fd, &entry, err);
}

static int folder_visit(void *ctx, const struct image_walk_item *item, struct error *err)
{
    struct image_out *out = ctx;
    if (check_item(&out->check, item, err) < 0)
        return -1;
    if (S_ISREG(item->st.st_mode))
        return send_file(out, item, err);
    struct image_entry entry = {.name = item->name,
                                .mode = item->st.st_mode,
                                .uid = item->st.st_uid,
                                .gid = item->st.st_gid,
                                .mtime = item->st.st_mtim};
    return image_writer_entry(out->writer, &entry, err);
}

static int images_visit(void *ctx, const struct image_walk_item *item, struct error *err)
{
    struct image_out *out = ctx;
    if (strcmp(item->piece, ".") == 0 || image_is_pages(item->piece))
        return 0; /* image/ itself is no entry, and pages are out already */
    if (check_item(&out->check, item, err) < 0)
        return -1;
    return send_file(out, item, err);
}

static int send_manifest(struct image_out *out, struct error *err)
{
    image_pages_finish(&out->pages, out->job->manifest);
    autojson *json = image_manifest_to_json(out->job->manifest);
    autofree char *text = json_text(json);
    struct image_entry entry = {
        .name = IMAGE_MANIFEST_NAME, .mode = S_IFREG | 0600, .size = strlen(text)};
    clock_gettime(CLOCK_REALTIME, &entry.mtime);
    if (out->job->manifest_begun)
        atomic_store(out->job->manifest_begun, true);
    if (image_writer_entry(out->writer, &entry, err) < 0 ||
        image_writer_data(out->writer, text, entry.size, err) < 0)
        return -1;
    return image_writer_finish(out->writer, err);
}

int image_stream_write(const struct image_stream_job *job, struct error *err)
{
    struct image_out out = {.job = job, .check = {.max_bytes = job->max_bytes}};
    if (image_writer_new(job->write, job->ctx, &out.writer, err) < 0)
        return -1;
    out.check.names = image_names_new();
    out.buffer = job->room ? NULL : xmalloc(IMAGE_BUFFER_BYTES);
    int rc = image_out_pages(&out, err);
    if (rc == 0)
        rc = image_walk(job->image_dir, "image", images_visit, &out, err);
    if (rc == 0)
        rc = image_walk(job->folder, "folder", folder_visit, &out, err);
    if (rc == 0)
        rc = image_out_wait(&out, err);
    if (rc == 0)
        rc = send_manifest(&out, err);
    free(out.buffer);
    image_pages_done(&out.pages);
    image_names_free(out.check.names);
    image_writer_free(out.writer);
    return rc;
}
