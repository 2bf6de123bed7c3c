/* SPDX-License-Identifier: Apache-2.0 */
/* image_pages.c - names of pieces, and the list of the files that they make up. */
#include "image_pages.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool image_is_pages(const char *file)
{
    size_t length = strlen(file);
    return length > 10 && strncmp(file, "pages-", 6) == 0 && strcmp(file + length - 4, ".img") == 0;
}

char *image_piece_name(const char *file, uint64_t offset)
{
    return xasprintf("pages/%s@%" PRIu64, file, offset);
}

int image_piece_parse(const char *path, char **ret_file, uint64_t *ret_offset, struct error *err)
{
    const char *at = strrchr(path, '@');
    autofree char *file = at ? xstrndup(path, (size_t)(at - path)) : NULL;
    const char *digits = at ? at + 1 : "";
    size_t length = strlen(digits);
    if (!file || !image_is_pages(file) || length < 1 || length > 18 ||
        strspn(digits, "0123456789") != length || (digits[0] == '0' && length > 1))
        return error_set(err, ERROR_INVALID,
                         "'pages/%.200s' is no piece of memory: expected pages-NAME.img@OFFSET",
                         path);
    *ret_offset = strtoull(digits, NULL, 10);
    *ret_file = steal_ptr(&file);
    return 0;
}

void image_pages_done(struct image_pages *pages)
{
    for (size_t i = 0; i < pages->count; i++) {
        free(pages->files[i].file);
        checksum_free(pages->files[i].sum);
    }
    free(pages->files);
    *pages = (struct image_pages){0};
}

struct image_pages_file *image_pages_find(struct image_pages *pages, const char *file)
{
    for (size_t i = pages->count; i-- > 0;) /* most often it is the last one */
        if (strcmp(pages->files[i].file, file) == 0)
            return &pages->files[i];
    return NULL;
}

struct image_pages_file *image_pages_add(struct image_pages *pages, const char *file,
                                         struct image_manifest *manifest)
{
    if (pages->count == pages->room) {
        pages->room = pages->room ? pages->room * 2 : 8;
        pages->files = xrealloc(pages->files, pages->room * sizeof(*pages->files));
    }
    struct image_pages_file *added = &pages->files[pages->count++];
    *added = (struct image_pages_file){
        .file = xstrdup(file), .sum = checksum_new(), .manifest_index = manifest->file_count};
    autofree char *name = xasprintf("image/%s", file);
    image_manifest_add(manifest, name, 0, "");
    return added;
}

void image_pages_finish(struct image_pages *pages, struct image_manifest *manifest)
{
    for (size_t i = 0; i < pages->count; i++) {
        struct image_file *file = &manifest->files[pages->files[i].manifest_index];
        file->bytes = pages->files[i].bytes;
        checksum_hex(pages->files[i].sum, file->checksum);
    }
}
