/* SPDX-License-Identifier: Apache-2.0 */
/* image_stream.h - the source's side of the image's way: what may move is checked before the
 * dump, and then the images and the workload's folder become one stream. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "cleanup.h"
#include "error.h"
#include "image_manifest.h"
#include "image_pages.h"

struct image_totals {
    uint64_t bytes; /* of all regular files, holes counted as bytes */
    uint64_t entries;
};

/* Whether everything in the folder can move: regular files and directories with plain names, of
 * one filesystem, without hard links, within the bounds of image_name.h and `max_bytes`. Adds to
 * *totals (may be NULL). Errors: ERROR_INVALID, ERROR_TOO_LARGE naming the file. */
int image_folder_check(const char *dir, uint64_t max_bytes, struct image_totals *totals,
                       struct error *err);
/* The bytes of the plain files in a folder of images; one level. */
int image_dir_bytes(const char *dir, uint64_t *ret, struct error *err);

struct image_stream_job {
    const char *image_dir;           /* plain files only */
    const char *folder;              /* the workload's */
    struct image_manifest *manifest; /* workload, pid, counts and stopped pids are filled in;
                                        the files are added while they are sent */
    uint64_t max_bytes;
    struct image_follow *follow;  /* settled: hashes pages beside; may be NULL */
    _Atomic uint64_t *sent_bytes; /* counts up, for progress; may be NULL */
    /* Set before the manifest is written: until then the target cannot have the whole image.
     * May be NULL. */
    _Atomic bool *manifest_begun;
    int (*write)(void *ctx, const void *data, size_t length, struct error *err);
    void *ctx;
};

/* Writes the whole stream. Blocks as `write` does. */
int image_stream_write(const struct image_stream_job *job, struct error *err);
