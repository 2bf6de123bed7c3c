/* SPDX-License-Identifier: Apache-2.0 */
/* mask_cache.h - the sites of files, remembered on disk: one entry a build-id (a file without one:
 * a digest of its code), in a folder that belongs to the agent.
 *
 * An entry counts for a file whose size and build-id are the same and whose code has the same
 * digest. The digest is not made again for a file (by device, inode, size, times of change) of
 * which it was made before. What is damaged, of another version or not to be written is as if it
 * were not there: the cache saves time, and nothing depends on it. */
#pragma once

#include <stdbool.h>

#include "error.h"
#include "mask_sites.h"

#define MASK_CACHE_ENTRIES_MAX 512U /* the least recently used are removed first */

/* The sites of the file that is open as `fd`, from the folder's entry or found and entered.
 * `folder` (made if it is missing) NULL: without a cache. The caller owns *ret; *ret_cached (may be
 * NULL) tells whether an entry served. Errors: those of elf_image_of_file and mask_sites_find;
 * ERROR_INVALID for what is no regular file. */
int mask_cache_sites(const char *folder, int fd, struct mask_sites **ret, bool *ret_cached,
                     struct error *err);
