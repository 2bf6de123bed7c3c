/* SPDX-License-Identifier: Apache-2.0 */
/* image_sink.h - the target's side of the image's way: takes a stream as it comes, checks every
 * name, type and size, writes beneath two fresh folders and compares with the manifest.
 *
 * A thread of its own makes checksums and writes while the caller receives. Nothing outside the two
 * folders is touched; the caller removes them when the sink refuses. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cleanup.h"
#include "error.h"
#include "image_manifest.h"

#define IMAGE_ROOM_SLACK_BYTES (64UL * 1024 * 1024) /* stays free on the filesystem */

struct image_sink_config {
    const char *image_dir;  /* exists and is empty; images are written here, 0600 */
    const char *folder_dir; /* exists and is empty; "folder" with owner, mode and time */
    const char *workload;   /* the manifest must name it */
    uint64_t max_bytes;     /* of all files, holes counted as bytes */
    uint64_t slack_bytes;   /* room to leave on either filesystem; 0: IMAGE_ROOM_SLACK_BYTES */
    _Atomic uint64_t *received_bytes; /* counts up; may be NULL */
};

struct image_sink;

int image_sink_new(const struct image_sink_config *config, struct image_sink **ret,
                   struct error *err);
/* Hands bytes on; waits while the disk is slower than the net. -1 as soon as the stream is known
 * to be bad. */
int image_sink_data(struct image_sink *sink, const void *data, size_t length, struct error *err);
/* No more bytes come: waits for the rest to be written and checked. On success the caller owns
 * *ret; *ret_bytes and the manifest's file_count are what arrived. */
int image_sink_finish(struct image_sink *sink, struct image_manifest **ret, uint64_t *ret_bytes,
                      struct error *err);
/* From any thread: data and finish fail with this reason from now on. */
void image_sink_break(struct image_sink *sink, const struct error *reason);
void image_sink_free(struct image_sink *sink); /* ends the thread; NULL is fine */
DEFINE_AUTO(image_sink)
