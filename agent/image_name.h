/* SPDX-License-Identifier: Apache-2.0 */
/* image_name.h - which names an image stream may hold; pure decisions, no files touched.
 *
 * A stream holds "pages" (a sign of life, any number of them), "pages/FILE@OFFSET" (pieces of the
 * files of memory pages, see image_pages.h),
 * "image/NAME" (regular files, one piece), "folder" and "folder/PATH" (the
 * workload's folder: directories and regular files) and, last, "manifest.json". The source asks
 * the same questions before the dump as the target does of what arrives. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "cleanup.h"
#include "error.h"

#define IMAGE_ENTRIES_MAX   100000
#define IMAGE_NAME_MAX      4000                 /* bytes of one whole name */
#define IMAGE_PIECE_MAX     255                  /* bytes of one piece */
#define IMAGE_DEPTH_MAX     64                   /* pieces of one name */
#define IMAGE_NAMES_MAX     (16UL * 1024 * 1024) /* bytes of all names together */
#define IMAGE_MANIFEST_NAME "manifest.json"

enum image_part {
    IMAGE_PART_PAGES,    /* pages, pages/FILE@OFFSET */
    IMAGE_PART_IMAGE,    /* image/NAME */
    IMAGE_PART_FOLDER,   /* folder, folder/PATH */
    IMAGE_PART_MANIFEST, /* manifest.json */
};

/* Checks one name: no absolute path, no empty, "." or ".." piece, no control
 * character, valid UTF-8, within the bounds, and at one of the four places. *ret_path points into
 * `name`, behind "pages/", "image/" or "folder/" ("" for the folder itself). Errors: ERROR_INVALID.
 */
int image_name_check(const char *name, enum image_part *ret_part, const char **ret_path,
                     struct error *err);
/* Whether an entry of this type and mode may stand at that place. Links, devices, FIFOs and
 * sockets are refused by name; a set-user-ID or set-group-ID bit on a file is refused too, since
 * to drop it in silence would change the workload. (On a directory set-group-ID and the sticky
 * bit are harmless and kept.) `name` is for the message. */
int image_type_check(const char *name, enum image_part part, mode_t mode, struct error *err);

/* The names of one stream so far. */
struct image_names;

struct image_names *image_names_new(void);
void image_names_free(struct image_names *names); /* NULL is fine */
DEFINE_AUTO(image_names)
/* Adds a name that image_name_check accepted. Refuses a double, a file beneath a file, an entry
 * whose directory was not listed before it, and more than the bounds allow. Errors: ERROR_INVALID,
 * ERROR_TOO_LARGE. */
int image_names_add(struct image_names *names, const char *name, bool is_directory,
                    struct error *err);
size_t image_names_count(const struct image_names *names);
