/* SPDX-License-Identifier: Apache-2.0 */
/* image_walk.c - a walk by descriptors, so that nobody can swap a folder for a link meanwhile. */
#include "image_walk.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>

#include "cleanup.h"
#include "image_name.h"

struct walk {
    int (*visit)(void *ctx, const struct image_walk_item *item, struct error *err);
    void *ctx;
    dev_t device;
};

struct names {
    char **items; /* owned, each too */
    size_t count, room;
};

static void names_done(struct names *names)
{
    for (size_t i = 0; i < names->count; i++)
        free(names->items[i]);
    free(names->items);
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int read_names(int fd, const char *name, struct names *names, struct error *err)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    if (!dir) {
        if (copy >= 0)
            close(copy);
        return error_errno(err, ERROR_FAILED, "cannot read the folder '%s'", name);
    }
    struct dirent *entry;
    errno = 0;
    while ((entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (names->count >= IMAGE_ENTRIES_MAX) {
            closedir(dir);
            return error_set(err, ERROR_TOO_LARGE, "'%s' holds more than %d entries", name,
                             IMAGE_ENTRIES_MAX);
        }
        if (names->count == names->room) {
            names->room = names->room ? names->room * 2 : 32;
            names->items = xrealloc(names->items, names->room * sizeof(*names->items));
        }
        names->items[names->count++] = xstrdup(entry->d_name);
        errno = 0;
    }
    int failed = errno;
    closedir(dir);
    errno = failed;
    if (failed)
        return error_errno(err, ERROR_FAILED, "cannot read the folder '%s'", name);
    if (names->count)
        qsort(names->items, names->count, sizeof(*names->items), compare);
    return 0;
}

static int walk_dir(struct walk *walk, int fd, const char *name, unsigned depth, struct error *err);

static int walk_item(struct walk *walk, int dirfd, const char *name, const char *piece,
                     unsigned depth, struct error *err)
{
    struct image_walk_item item = {.name = name, .piece = piece, .dirfd = dirfd};
    if (fstatat(dirfd, piece, &item.st, AT_SYMLINK_NOFOLLOW) < 0)
        return error_errno(err, ERROR_FAILED, "cannot look at '%s'", name);
    if (item.st.st_dev != walk->device)
        return error_set(err, ERROR_INVALID, "'%s' lies on another filesystem, which does not move",
                         name);
    if (walk->visit(walk->ctx, &item, err) < 0)
        return -1;
    if (!S_ISDIR(item.st.st_mode))
        return 0;
    autoclose int fd = openat(dirfd, piece, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, ERROR_FAILED, "cannot open the folder '%s'", name);
    return walk_dir(walk, fd, name, depth + 1, err);
}

/* Recurses once a level; IMAGE_DEPTH_MAX bounds stack and descriptors. */
static int walk_dir(struct walk *walk, int fd, const char *name, unsigned depth, struct error *err)
{
    if (depth > IMAGE_DEPTH_MAX)
        return error_set(err, ERROR_TOO_LARGE, "'%.200s...' is more than %d folders deep", name,
                         IMAGE_DEPTH_MAX);
    struct names names = {0};
    int rc = read_names(fd, name, &names, err);
    for (size_t i = 0; rc == 0 && i < names.count; i++) {
        autofree char *whole = xasprintf("%s/%s", name, names.items[i]);
        rc = walk_item(walk, fd, whole, names.items[i], depth, err);
    }
    names_done(&names);
    return rc;
}

int image_walk(const char *dir, const char *prefix,
               int (*visit)(void *ctx, const struct image_walk_item *item, struct error *err),
               void *ctx, struct error *err)
{
    autoclose int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct image_walk_item top = {.name = prefix, .piece = ".", .dirfd = fd};
    if (fd < 0 || fstat(fd, &top.st) < 0)
        return error_errno(err, errno == ENOENT ? ERROR_NOT_FOUND : ERROR_FAILED,
                           "cannot open the folder '%s'", dir);
    struct walk walk = {.visit = visit, .ctx = ctx, .device = top.st.st_dev};
    if (visit(ctx, &top, err) < 0)
        return -1;
    return walk_dir(&walk, fd, prefix, 1, err);
}
