/* SPDX-License-Identifier: Apache-2.0 */
/* image_stream.h - the source's side of the image's way: what may move is checked before the
 * dump; then memory pages, images and the workload's folder become one stream, which begins while
 * the engine still dumps. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "cleanup.h"
#include "error.h"
#include "image_gate.h"
#include "image_manifest.h"

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
    struct image_manifest *manifest; /* workload, pid, counts and stopped pids are filled in before
                                        the gate says DUMPED; the files are added as they go out */
    uint64_t max_bytes;
    struct image_gate *gate;      /* how far the dump is; NULL: all is there, all may go */
    _Atomic uint64_t *sent_bytes; /* counts up, for progress; may be NULL */
    /* Set before the manifest is written: until then the target cannot have the whole image.
     * May be NULL. */
    _Atomic bool *manifest_begun;
    /* A place for the next bytes, which `write` then need not copy; may be NULL. */
    int (*room)(void *ctx, void **ret, size_t *ret_length, struct error *err);
    int (*write)(void *ctx, const void *data, size_t length, struct error *err);
    void (*flush)(void *ctx); /* nothing follows for a while; may be NULL */
    void *ctx;
};

/* Writes the whole stream. Blocks as `write` does, and until the gate lets it go on; it begins with
 * a sign of life before the dump. */
int image_stream_write(const struct image_stream_job *job, struct error *err);
