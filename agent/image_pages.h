/* SPDX-License-Identifier: Apache-2.0 */
/* image_pages.h - the files of memory pages, which are nearly all of an image: they travel in
 * pieces while the engine still writes them. Source and target keep the same list of them.
 *
 * A piece of "image/pages-1.img" is the entry "pages/pages-1.img@OFFSET"; the pieces of a file
 * follow each other without a gap. The entry "pages", a directory, stands for no file: it says that
 * the source is there, before the dump and whenever nothing else is to be sent for a while. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "checksum.h"
#include "cleanup.h"
#include "error.h"
#include "image_manifest.h"

/* All pieces but a file's last have at least this many bytes, which bounds what headers cost. */
#define IMAGE_PIECE_BYTES (1024UL * 1024)

/* Whether the engine's file of this name holds nothing but memory: "pages-1.img". */
bool image_is_pages(const char *file);
/* The piece's name in the stream; owned by the caller. */
char *image_piece_name(const char *file, uint64_t offset);
/* Takes "pages-1.img@OFFSET" apart; the caller owns *ret_file. Errors: ERROR_INVALID. */
int image_piece_parse(const char *path, char **ret_file, uint64_t *ret_offset, struct error *err);

struct image_pages_file {
    char *file;            /* owned; "pages-1.img" */
    uint64_t bytes;        /* that went through so far */
    struct checksum *sum;  /* owned; of these */
    size_t manifest_index; /* its place in the manifest's list */
};

struct image_pages {
    struct image_pages_file *files; /* owned */
    size_t count, room;
};

void image_pages_done(struct image_pages *pages);
/* NULL when it is not in the list. Valid until the next one is added. */
struct image_pages_file *image_pages_find(struct image_pages *pages, const char *file);
/* Adds a file, to the list and to the manifest. */
struct image_pages_file *image_pages_add(struct image_pages *pages, const char *file,
                                         struct image_manifest *manifest);
/* All pieces have gone through: writes sizes and checksums into the manifest. */
void image_pages_finish(struct image_pages *pages, struct image_manifest *manifest);
