/* SPDX-License-Identifier: Apache-2.0 */
/* file.h - small files, read whole with a bound and replaced whole. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "error.h"

/* Reads at most max_bytes (more is ERROR_TOO_LARGE); works for /proc, where sizes are not known.
 * The caller owns *ret, which ends with a NUL that *ret_length (may be NULL) does not count.
 * Errors: ERROR_NOT_FOUND (ENOENT, ESRCH), ERROR_FAILED. */
int file_read(const char *path, size_t max_bytes, char **ret, size_t *ret_length,
              struct error *err);
/* Write to a temporary name beside it, fsync, rename, fsync the folder. */
int file_replace(const char *path, const char *text, mode_t mode, struct error *err);
/* One write(2) of a text to a file that exists, as /proc and cgroup files want it. */
int file_write(const char *path, const char *text, struct error *err);
/* mkdir -p: makes what is missing with `mode`. */
int file_make_dirs(const char *path, mode_t mode, struct error *err);
/* Removes a folder and all beneath it, never following a link and never leaving its file
 * system. A folder that is not there is success. */
int file_remove_tree(const char *path, struct error *err);
