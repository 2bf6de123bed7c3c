/* SPDX-License-Identifier: Apache-2.0 */
/* image_archive.h - POSIX pax archives as streams; the one door to libarchive.
 *
 * It knows nothing of names and limits: image_stream.c decides what is written, image_sink.c
 * what is taken. One thread per writer or reader. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "cleanup.h"
#include "error.h"

struct image_extent {
    uint64_t offset, length; /* bytes that hold data; the rest of the file is a hole */
};

struct image_entry {
    const char *name; /* borrowed; no trailing slash */
    mode_t mode;      /* type and permissions; links of both kinds read as S_IFLNK */
    uid_t uid;
    gid_t gid;
    struct timespec mtime;
    uint64_t size;
    const struct image_extent *extents; /* writing a sparse file; NULL: all of it is data */
    size_t extent_count;
};

struct image_writer;

/* `write` takes all `length` bytes or returns -1 with *err. The caller owns *ret. */
int image_writer_new(int (*write)(void *ctx, const void *data, size_t length, struct error *err),
                     void *ctx, struct image_writer **ret, struct error *err);
int image_writer_entry(struct image_writer *writer, const struct image_entry *entry,
                       struct error *err);
/* The next bytes of the present entry, holes included (as zeros; they are not sent). */
int image_writer_data(struct image_writer *writer, const void *data, size_t length,
                      struct error *err);
/* Writes the end of the archive. */
int image_writer_finish(struct image_writer *writer, struct error *err);
void image_writer_free(struct image_writer *writer); /* NULL is fine */
DEFINE_AUTO(image_writer)

struct image_reader;

/* `read` gives the next bytes (valid until it is called again), 0 at the end, -1 with *err. */
int image_reader_new(ssize_t (*read)(void *ctx, const void **ret, struct error *err), void *ctx,
                     struct image_reader **ret, struct error *err);
/* 1 with the next entry (borrowed until the next call), 0 at the archive's end, -1. An archive
 * that is cut off is an error: ERROR_INVALID. */
int image_reader_next(struct image_reader *reader, struct image_entry *ret, struct error *err);
/* 1 with the next data of the present entry and where in the file it belongs (holes are skipped),
 * 0 when there is no more, -1. */
int image_reader_block(struct image_reader *reader, const void **ret, size_t *ret_length,
                       uint64_t *ret_offset, struct error *err);
void image_reader_free(struct image_reader *reader); /* NULL is fine */
DEFINE_AUTO(image_reader)
