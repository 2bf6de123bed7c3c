/* SPDX-License-Identifier: Apache-2.0 */
/* image_stream_internal.h - what image_stream.c and image_stream_pages.c share. */
#pragma once

#include "image_archive.h"
#include "image_name.h"
#include "image_pages.h"
#include "image_stream.h"

#define IMAGE_BUFFER_BYTES (256UL * 1024) /* read and sent at once; stays in the cache */

struct image_check {           /* what has been let through so far */
    struct image_names *names; /* owned */
    struct image_totals totals;
    uint64_t max_bytes;
};

struct image_out { /* a stream on its way out */
    const struct image_stream_job *job;
    struct image_writer *writer; /* owned */
    struct image_check check;
    struct image_pages pages;
    unsigned char *buffer; /* owned; for jobs without a place of their own */
};

/* So many bytes more; ERROR_TOO_LARGE with the file that was one too many. */
int image_check_bytes(struct image_check *check, const char *name, uint64_t bytes,
                      struct error *err);
/* Where the next bytes may be put before they are handed to image_out_data. */
int image_out_room(struct image_out *out, void **ret, size_t *ret_length, struct error *err);
/* The next bytes of the present entry. */
int image_out_data(struct image_out *out, const void *data, size_t length, struct error *err);

/* Sends the files of memory pages, piece by piece and as they grow, until the gate says that the
 * dump is done, and then to their ends. */
int image_out_pages(struct image_out *out, struct error *err);
/* Waits until the manifest may go out, and meanwhile shows the target that somebody is here. */
int image_out_wait(struct image_out *out, struct error *err);
