/* SPDX-License-Identifier: Apache-2.0 */
/* image_name.c - the rules for names in an image stream. */
#include "image_name.h"

#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include "json.h"

/* A name as it may be shown: control characters become '?', and it is not longer than a line. */
static const char *shown(const char *name, char buffer[128])
{
    size_t i = 0;
    for (; name[i] && i < 124; i++)
        buffer[i] = (unsigned char)name[i] < 0x20 || name[i] == 0x7f ? '?' : name[i];
    if (name[i]) {
        memcpy(buffer + i, "...", 4);
        return buffer;
    }
    buffer[i] = '\0';
    return buffer;
}

static int refuse(struct error *err, const char *name, const char *why)
{
    char buffer[128];
    return error_set(err, ERROR_INVALID, "file name '%s' is not allowed: %s", shown(name, buffer),
                     why);
}

static int check_characters(const char *name, struct error *err)
{
    for (const char *p = name; *p; p++) {
        unsigned char c = (unsigned char)*p;
        if (c < 0x20 || c == 0x7f)
            return refuse(err, name, "it holds a control character");
    }
    /* The manifest is JSON, so every name must be able to stand in it. */
    if (!json_text_is_utf8(name, strlen(name)))
        return refuse(err, name, "it is not UTF-8");
    return 0;
}

static int check_pieces(const char *name, struct error *err)
{
    unsigned depth = 0;
    for (const char *piece = name;;) {
        size_t length = strcspn(piece, "/");
        if (length == 0)
            return refuse(err, name, "it has an empty piece");
        if (length > IMAGE_PIECE_MAX)
            return refuse(err, name, "a piece is longer than 255 bytes");
        if (piece[0] == '.' && (length == 1 || (length == 2 && piece[1] == '.')))
            return refuse(err, name, "it has a '.' or '..' piece");
        if (++depth > IMAGE_DEPTH_MAX)
            return refuse(err, name, "it is more than 64 pieces deep");
        if (!piece[length])
            return 0;
        piece += length + 1;
    }
}

int image_name_check(const char *name, enum image_part *ret_part, const char **ret_path,
                     struct error *err)
{
    if (!*name)
        return error_set(err, ERROR_INVALID, "an empty file name is not allowed");
    if (strnlen(name, IMAGE_NAME_MAX + 1) > IMAGE_NAME_MAX)
        return refuse(err, name, "it is longer than 4000 bytes");
    if (name[0] == '/')
        return refuse(err, name, "it is absolute");
    if (check_characters(name, err) < 0 || check_pieces(name, err) < 0)
        return -1;
    if (strcmp(name, IMAGE_MANIFEST_NAME) == 0) {
        *ret_part = IMAGE_PART_MANIFEST;
        *ret_path = name;
    } else if (strcmp(name, "pages") == 0) {
        *ret_part = IMAGE_PART_PAGES;
        *ret_path = name + 5;
    } else if (strncmp(name, "pages/", 6) == 0) {
        if (strchr(name + 6, '/'))
            return refuse(err, name, "pages/ holds plain files only");
        *ret_part = IMAGE_PART_PAGES;
        *ret_path = name + 6;
    } else if (strncmp(name, "image/", 6) == 0) {
        if (strchr(name + 6, '/'))
            return refuse(err, name, "image/ holds plain files only");
        *ret_part = IMAGE_PART_IMAGE;
        *ret_path = name + 6;
    } else if (strcmp(name, "folder") == 0) {
        *ret_part = IMAGE_PART_FOLDER;
        *ret_path = name + 6;
    } else if (strncmp(name, "folder/", 7) == 0) {
        *ret_part = IMAGE_PART_FOLDER;
        *ret_path = name + 7;
    } else {
        return refuse(err, name,
                      "expected image/NAME, pages/FILE@OFFSET, folder/PATH or manifest.json");
    }
    return 0;
}

static const char *type_word(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFLNK:
        return "a symbolic link";
    case S_IFCHR:
    case S_IFBLK:
        return "a device";
    case S_IFIFO:
        return "a FIFO";
    case S_IFSOCK:
        return "a socket";
    case S_IFDIR:
        return "a directory";
    default:
        return "of an unknown type";
    }
}

int image_type_check(const char *name, enum image_part part, mode_t mode, struct error *err)
{
    char buffer[128];
    bool directory = S_ISDIR(mode);
    bool place = strcmp(name, "folder") == 0 || strcmp(name, "pages") == 0;
    if (place && !directory && S_ISREG(mode))
        return error_set(err, ERROR_INVALID, "'%s' must be a directory", name);
    if (!S_ISREG(mode) && !(directory && (place || part == IMAGE_PART_FOLDER)))
        return error_set(err, ERROR_INVALID, "'%s' is %s; %s move", shown(name, buffer),
                         type_word(mode),
                         part == IMAGE_PART_FOLDER ? "only regular files and directories"
                                                   : "only regular files");
    if (!directory && (mode & (S_ISUID | S_ISGID)))
        return error_set(err, ERROR_INVALID,
                         "'%s' has a set-user-ID or set-group-ID bit, which does not move",
                         shown(name, buffer));
    return 0;
}

/* An open-addressed set; a name is kept once, with its type in front. */
struct image_names {
    char **slots; /* owned; each "d" or "f" and the name; NULL when free */
    size_t slot_count, used, bytes;
};

static uint64_t hash_bytes(const char *text, size_t length)
{
    uint64_t hash = 14695981039346656037ULL; /* FNV-1a; the entry bound caps what doubles cost */
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)text[i]) * 1099511628211ULL;
    return hash ^ hash >> 29;
}

struct image_names *image_names_new(void)
{
    struct image_names *names = xcalloc(1, sizeof(*names));
    names->slot_count = 256;
    names->slots = xcalloc(names->slot_count, sizeof(*names->slots));
    return names;
}

void image_names_free(struct image_names *names)
{
    if (!names)
        return;
    for (size_t i = 0; i < names->slot_count; i++)
        free(names->slots[i]);
    free(names->slots);
    free(names);
}

size_t image_names_count(const struct image_names *names)
{
    return names->used;
}

static char **find_slot(char **slots, size_t count, const char *name, size_t length)
{
    for (size_t i = hash_bytes(name, length);; i++) {
        char **slot = &slots[i & (count - 1)];
        if (!*slot || (strncmp(*slot + 1, name, length) == 0 && !(*slot)[1 + length]))
            return slot;
    }
}

static void grow(struct image_names *names)
{
    size_t count = names->slot_count * 2;
    char **slots = xcalloc(count, sizeof(*slots));
    for (size_t i = 0; i < names->slot_count; i++)
        if (names->slots[i])
            *find_slot(slots, count, names->slots[i] + 1, strlen(names->slots[i] + 1)) =
                names->slots[i];
    free(names->slots);
    names->slots = slots;
    names->slot_count = count;
}

static int check_parent(struct image_names *names, const char *name, struct error *err)
{
    const char *slash = strrchr(name, '/');
    if (!slash || strncmp(name, "folder/", 7) != 0)
        return 0; /* "image" and the top are always there */
    char *parent = *find_slot(names->slots, names->slot_count, name, (size_t)(slash - name));
    if (!parent)
        return refuse(err, name, "its directory was not listed before it");
    if (parent[0] != 'd')
        return refuse(err, name, "it lies beneath a file");
    return 0;
}

int image_names_add(struct image_names *names, const char *name, bool is_directory,
                    struct error *err)
{
    size_t length = strlen(name);
    if (names->used >= IMAGE_ENTRIES_MAX)
        return error_set(err, ERROR_TOO_LARGE, "more than %d entries; no more move",
                         IMAGE_ENTRIES_MAX);
    if (length > IMAGE_NAMES_MAX - names->bytes)
        return error_set(err, ERROR_TOO_LARGE, "the file names together are longer than %lu bytes",
                         IMAGE_NAMES_MAX);
    if (check_parent(names, name, err) < 0)
        return -1;
    char **slot = find_slot(names->slots, names->slot_count, name, length);
    if (*slot)
        return refuse(err, name, "it is there twice");
    *slot = xasprintf("%c%s", is_directory ? 'd' : 'f', name);
    names->bytes += length;
    if (++names->used * 2 > names->slot_count)
        grow(names);
    return 0;
}
