/* SPDX-License-Identifier: Apache-2.0 */
/* image_fixture.h - folders to move, and a sink to move them into, for tests. */
#pragma once

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"
#include "image_sink.h"
#include "image_stream.h"

struct image_fixture {
    char top[64];                       /* a folder of its own */
    char image[96], folder[96];         /* what is sent */
    char got_image[96], got_folder[96]; /* where it arrives */
};

static inline void fixture_die(const char *what)
{
    perror(what);
    abort();
}

static inline void fixture_dir(const char *path)
{
    if (mkdir(path, 0755) < 0)
        fixture_die(path);
}

/* Fresh places to arrive at. */
static inline void image_fixture_clear(struct image_fixture *f)
{
    if (file_remove_tree(f->got_image, NULL) < 0 || file_remove_tree(f->got_folder, NULL) < 0)
        fixture_die(f->got_image);
    fixture_dir(f->got_image);
    fixture_dir(f->got_folder);
}

static inline void image_fixture_init(struct image_fixture *f)
{
    snprintf(f->top, sizeof(f->top), "/tmp/cpubroker-image.XXXXXX");
    if (!mkdtemp(f->top))
        fixture_die(f->top);
    snprintf(f->image, sizeof(f->image), "%s/image", f->top);
    snprintf(f->folder, sizeof(f->folder), "%s/folder", f->top);
    snprintf(f->got_image, sizeof(f->got_image), "%s/got-image", f->top);
    snprintf(f->got_folder, sizeof(f->got_folder), "%s/got-folder", f->top);
    fixture_dir(f->image);
    fixture_dir(f->folder);
    image_fixture_clear(f);
}

static inline void image_fixture_done(struct image_fixture *f)
{
    file_remove_tree(f->top, NULL);
}

/* A file of `bytes` bytes that differ from place to place. */
static inline void fixture_file(const char *dir, const char *name, size_t bytes, unsigned seed)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *file = fopen(path, "we");
    if (!file)
        fixture_die(path);
    for (size_t i = 0; i < bytes; i++) {
        seed = seed * 1103515245U + 12345U;
        putc_unlocked((int)(seed >> 16 & 0xff), file);
    }
    fclose(file);
}

/* What a stream is gathered in. */
struct fixture_bytes {
    unsigned char *data; /* owned */
    size_t length, room;
};

static inline int fixture_gather(void *ctx, const void *data, size_t length, struct error *err)
{
    struct fixture_bytes *bytes = ctx;
    (void)err;
    if (bytes->length + length > bytes->room) {
        bytes->room = (bytes->length + length) * 2;
        bytes->data = xrealloc(bytes->data, bytes->room);
    }
    if (length)
        memcpy(bytes->data + bytes->length, data, length);
    bytes->length += length;
    return 0;
}

static inline void fixture_checksum(const void *data, size_t length, char hex[CHECKSUM_HEX_BYTES])
{
    AUTO(checksum) sum = checksum_new();
    checksum_update(sum, data, length);
    checksum_hex(sum, hex);
}

static inline struct image_sink *fixture_sink(const struct image_fixture *f, uint64_t max_bytes)
{
    const struct image_sink_config config = {.image_dir = f->got_image,
                                             .folder_dir = f->got_folder,
                                             .workload = "w1",
                                             .max_bytes = max_bytes,
                                             .slack_bytes = 4096};
    struct image_sink *sink = NULL;
    struct error err;
    if (image_sink_new(&config, &sink, &err) < 0)
        fixture_die(err.message);
    return sink;
}

/* Feeds a whole stream in pieces of `piece` bytes. 0, or -1 with *err. */
static inline int fixture_feed(const struct image_fixture *f, const void *data, size_t length,
                               size_t piece, uint64_t max_bytes, struct image_manifest **ret,
                               struct error *err)
{
    struct image_sink *sink = fixture_sink(f, max_bytes);
    struct image_manifest *manifest = NULL;
    uint64_t bytes = 0;
    int rc = 0;
    for (size_t at = 0; rc == 0 && at < length; at += piece)
        rc = image_sink_data(sink, (const char *)data + at,
                             length - at < piece ? length - at : piece, err);
    if (rc == 0)
        rc = image_sink_finish(sink, &manifest, &bytes, err);
    image_sink_free(sink);
    if (ret)
        *ret = manifest;
    else
        image_manifest_free(manifest);
    return rc;
}
