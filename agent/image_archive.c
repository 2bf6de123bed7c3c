/* SPDX-License-Identifier: Apache-2.0 */
/* image_archive.c - the one file that includes libarchive. */
#include "image_archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <string.h>
#include <sys/stat.h>

struct image_writer {
    struct archive *archive;
    struct archive_entry *entry;
    int (*write)(void *ctx, const void *data, size_t length, struct error *err);
    void *ctx;
    bool ended;           /* what libarchive still writes is dropped */
    bool callback_failed; /* then `reason` says why, better than libarchive could */
    struct error reason;
};

struct image_reader {
    struct archive *archive;
    ssize_t (*read)(void *ctx, const void **ret, struct error *err);
    void *ctx;
    bool callback_failed, at_end; /* at_end: `read` has nothing more */
    struct error reason;
    char *name; /* owned; of the present entry */
};

static int set_failure(struct archive *archive, bool callback_failed, const struct error *reason,
                       enum error_kind kind, const char *what, struct error *err)
{
    if (callback_failed) {
        if (err)
            *err = *reason;
        return -1;
    }
    const char *text = archive_error_string(archive);
    return error_set(err, kind, "%s: %s", what, text ? text : "libarchive gives no reason");
}

static la_ssize_t on_write(struct archive *archive, void *ctx, const void *data, size_t length)
{
    struct image_writer *writer = ctx;
    (void)archive;
    /* libarchive forgets to free its client once that has failed, so it is never told: the bytes
     * go nowhere, and each call of ours looks at callback_failed. */
    if (!writer->ended && !writer->callback_failed &&
        writer->write(writer->ctx, data, length, &writer->reason) < 0)
        writer->callback_failed = true;
    return (la_ssize_t)length;
}

static int writer_failed(struct image_writer *writer, const char *what, struct error *err)
{
    return set_failure(writer->archive, writer->callback_failed, &writer->reason, ERROR_FAILED,
                       what, err);
}

int image_writer_new(int (*write)(void *ctx, const void *data, size_t length, struct error *err),
                     void *ctx, struct image_writer **ret, struct error *err)
{
    AUTO(image_writer) writer = xcalloc(1, sizeof(*writer));
    writer->write = write;
    writer->ctx = ctx;
    writer->archive = archive_write_new();
    writer->entry = archive_entry_new();
    if (!writer->archive || !writer->entry)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    /* Names go as the bytes they are, whatever the locale; nothing is gathered into records
     * since image_pipe.c does that better. */
    if (archive_write_set_format_pax(writer->archive) != ARCHIVE_OK ||
        archive_write_set_options(writer->archive, "pax:hdrcharset=BINARY") != ARCHIVE_OK ||
        archive_write_set_bytes_per_block(writer->archive, 0) != ARCHIVE_OK ||
        archive_write_open(writer->archive, writer, NULL, on_write, NULL) != ARCHIVE_OK)
        return writer_failed(writer, "cannot start the image stream", err);
    *ret = steal_ptr(&writer);
    return 0;
}

int image_writer_entry(struct image_writer *writer, const struct image_entry *entry,
                       struct error *err)
{
    struct archive_entry *e = archive_entry_clear(writer->entry);
    archive_entry_copy_pathname(e, entry->name);
    archive_entry_set_mode(e, entry->mode);
    archive_entry_set_uid(e, entry->uid);
    archive_entry_set_gid(e, entry->gid);
    archive_entry_set_mtime(e, entry->mtime.tv_sec, entry->mtime.tv_nsec);
    archive_entry_set_size(e, S_ISREG(entry->mode) ? (la_int64_t)entry->size : 0);
    for (size_t i = 0; entry->extents && i < entry->extent_count; i++)
        archive_entry_sparse_add_entry(e, (la_int64_t)entry->extents[i].offset,
                                       (la_int64_t)entry->extents[i].length);
    if (archive_write_header(writer->archive, e) != ARCHIVE_OK || writer->callback_failed)
        return writer_failed(writer, entry->name, err);
    return 0;
}

int image_writer_data(struct image_writer *writer, const void *data, size_t length,
                      struct error *err)
{
    const char *bytes = data;
    while (length > 0) {
        la_ssize_t n = archive_write_data(writer->archive, bytes, length);
        if (n <= 0 || writer->callback_failed)
            return writer_failed(writer, "cannot write the image stream", err);
        bytes += n;
        length -= (size_t)n;
    }
    return 0;
}

int image_writer_finish(struct image_writer *writer, struct error *err)
{
    if (archive_write_close(writer->archive) != ARCHIVE_OK || writer->callback_failed)
        return writer_failed(writer, "cannot end the image stream", err);
    return 0;
}

void image_writer_free(struct image_writer *writer)
{
    if (!writer)
        return;
    writer->ended = true;
    archive_write_free(writer->archive);
    archive_entry_free(writer->entry);
    free(writer);
}

static la_ssize_t on_read(struct archive *archive, void *ctx, const void **ret)
{
    struct image_reader *reader = ctx;
    if (reader->at_end)
        return 0;
    ssize_t n = reader->read(reader->ctx, ret, &reader->reason);
    if (n < 0) {
        reader->callback_failed = true;
        archive_set_error(archive, EIO, "%s", reader->reason.message);
        return ARCHIVE_FATAL;
    }
    reader->at_end = n == 0;
    return n;
}

static int reader_failed(struct image_reader *reader, struct error *err)
{
    return set_failure(reader->archive, reader->callback_failed, &reader->reason, ERROR_INVALID,
                       "the image stream cannot be read", err);
}

int image_reader_new(ssize_t (*read)(void *ctx, const void **ret, struct error *err), void *ctx,
                     struct image_reader **ret, struct error *err)
{
    AUTO(image_reader) reader = xcalloc(1, sizeof(*reader));
    reader->read = read;
    reader->ctx = ctx;
    reader->archive = archive_read_new();
    if (!reader->archive)
        return error_set(err, ERROR_INTERNAL, "out of memory");
    /* Only tar, and no filter: a compressed stream could be a bomb. */
    if (archive_read_support_format_tar(reader->archive) != ARCHIVE_OK ||
        archive_read_open(reader->archive, reader, NULL, on_read, NULL) != ARCHIVE_OK)
        return reader_failed(reader, err);
    *ret = steal_ptr(&reader);
    return 0;
}

static mode_t entry_mode(struct archive_entry *e)
{
    mode_t mode = archive_entry_mode(e);
    if (archive_entry_hardlink(e) || archive_entry_symlink(e))
        mode = (mode & ~(mode_t)S_IFMT) | S_IFLNK;
    return mode;
}

int image_reader_next(struct image_reader *reader, struct image_entry *ret, struct error *err)
{
    struct archive_entry *e = NULL;
    int rc = archive_read_next_header(reader->archive, &e);
    if (rc == ARCHIVE_EOF) {
        if (reader->at_end)
            return error_set(err, ERROR_INVALID, "the image stream ends too early");
        return 0;
    }
    if (rc != ARCHIVE_OK)
        return reader_failed(reader, err); /* warnings too: what we write gives none */
    const char *name = archive_entry_pathname(e);
    if (!name)
        return error_set(err, ERROR_INVALID, "the image stream holds a name that cannot be read");
    free(reader->name);
    reader->name = xstrdup(name);
    mode_t mode = entry_mode(e);
    size_t length = strlen(name);
    if (S_ISDIR(mode) && length > 1 && name[length - 1] == '/')
        reader->name[length - 1] = '\0'; /* tar marks directories that way */
    if (archive_entry_size(e) < 0)
        return error_set(err, ERROR_INVALID, "the image stream holds a negative size");
    *ret = (struct image_entry){
        .name = reader->name,
        .mode = mode,
        .uid = (uid_t)archive_entry_uid(e),
        .gid = (gid_t)archive_entry_gid(e),
        .mtime = {.tv_sec = archive_entry_mtime(e), .tv_nsec = archive_entry_mtime_nsec(e)},
        .size = (uint64_t)archive_entry_size(e),
    };
    return 1;
}

int image_reader_block(struct image_reader *reader, const void **ret, size_t *ret_length,
                       uint64_t *ret_offset, struct error *err)
{
    la_int64_t offset = 0;
    int rc = archive_read_data_block(reader->archive, ret, ret_length, &offset);
    if (rc == ARCHIVE_EOF)
        return 0;
    if (rc != ARCHIVE_OK)
        return reader_failed(reader, err);
    if (offset < 0)
        return error_set(err, ERROR_INVALID, "the image stream holds a negative offset");
    *ret_offset = (uint64_t)offset;
    return 1;
}

void image_reader_free(struct image_reader *reader)
{
    if (!reader)
        return;
    archive_read_free(reader->archive);
    free(reader->name);
    free(reader);
}
