/* SPDX-License-Identifier: Apache-2.0 */
/* image_walk.h - visits everything below a folder without ever following a link: parents before
 * what is in them, names in byte order. */
#pragma once

#include <stddef.h>
#include <sys/stat.h>

#include "error.h"

struct image_walk_item {
    const char *name;  /* whole, with the prefix: "folder/log/out" */
    const char *piece; /* the last piece, to open below dirfd */
    int dirfd;         /* borrowed */
    struct stat st;    /* of the item itself (lstat) */
};

/* Calls `visit` for `dir` itself under the name `prefix` (dirfd is then an fd of its own and the
 * piece "."), and for each item below it. Deeper than IMAGE_DEPTH_MAX is an error, as is
 * another filesystem. Stops at the first -1. */
int image_walk(const char *dir, const char *prefix,
               int (*visit)(void *ctx, const struct image_walk_item *item, struct error *err),
               void *ctx, struct error *err);
