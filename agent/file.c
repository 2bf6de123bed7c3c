/* SPDX-License-Identifier: Apache-2.0 */
/* file.c - small files, read whole with a bound and replaced whole. */
#include "file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"

#define REMOVE_DEPTH_MAX 256 /* folders within folders */

static enum error_kind kind_of_errno(void)
{
    return errno == ENOENT || errno == ESRCH ? ERROR_NOT_FOUND : ERROR_FAILED;
}

int file_read(const char *path, size_t max_bytes, char **ret, size_t *ret_length, struct error *err)
{
    autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, kind_of_errno(), "cannot open %s", path);
    size_t room = max_bytes < 4096 ? max_bytes : 4096, used = 0;
    autofree char *text = xmalloc(room + 1);
    for (;;) {
        if (used == room) {
            if (room == max_bytes)
                return error_set(err, ERROR_TOO_LARGE, "%s is larger than %zu bytes", path,
                                 max_bytes);
            room = room > max_bytes / 2 ? max_bytes : room * 2;
            text = xrealloc(text, room + 1);
        }
        ssize_t n = read(fd, text + used, room - used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_errno(err, kind_of_errno(), "cannot read %s", path);
        if (n == 0)
            break;
        used += (size_t)n;
    }
    text[used] = '\0';
    if (ret_length)
        *ret_length = used;
    *ret = steal_ptr(&text);
    return 0;
}

static int write_all(int fd, const char *text, size_t length)
{
    while (length) {
        ssize_t n = write(fd, text, length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        text += n;
        length -= (size_t)n;
    }
    return 0;
}

static int sync_parent(const char *path)
{
    autofree char *folder = xstrdup(path);
    char *slash = strrchr(folder, '/');
    if (slash)
        slash[slash == folder] = '\0';
    autoclose int fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -1 : fsync(fd);
}

int file_replace(const char *path, const char *text, mode_t mode, struct error *err)
{
    autofree char *temporary = xasprintf("%s.new", path);
    if (unlink(temporary) < 0 && errno != ENOENT)
        return error_errno(err, ERROR_FAILED, "cannot remove %s", temporary);
    autoclose int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0)
        return error_errno(err, ERROR_FAILED, "cannot make %s", temporary);
    if (write_all(fd, text, strlen(text)) < 0 || fsync(fd) < 0) {
        error_errno(err, ERROR_FAILED, "cannot write %s", temporary);
        unlink(temporary);
        return -1;
    }
    if (rename(temporary, path) < 0)
        return error_errno(err, ERROR_FAILED, "cannot rename %s to %s", temporary, path);
    if (sync_parent(path) < 0)
        return error_errno(err, ERROR_FAILED, "cannot sync the folder of %s", path);
    return 0;
}

int file_write(const char *path, const char *text, struct error *err)
{
    autoclose int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, kind_of_errno(), "cannot open %s", path);
    size_t length = strlen(text);
    ssize_t n = write(fd, text, length);
    if (n < 0 || (size_t)n != length)
        return error_errno(err, kind_of_errno(), "cannot write '%s' to %s", text, path);
    return 0;
}

int file_make_dirs(const char *path, mode_t mode, struct error *err)
{
    autofree char *partial = xstrdup(path);
    for (char *p = partial + 1;; p++) {
        if (*p && *p != '/')
            continue;
        char kept = *p;
        *p = '\0';
        if (mkdir(partial, mode) < 0 && errno != EEXIST)
            return error_errno(err, ERROR_FAILED, "cannot make the folder %s", partial);
        *p = kept;
        if (!kept)
            return 0;
    }
}

/* `fd` is an open folder, taken over. */
static int remove_inside(int fd, dev_t device, unsigned depth, const char *path, struct error *err)
{
    DIR *folder = fdopendir(fd);
    if (!folder) {
        close(fd);
        return error_errno(err, ERROR_FAILED, "cannot read the folder %s", path);
    }
    int rc = 0;
    struct dirent *entry;
    while (rc == 0 && (entry = readdir(folder))) {
        const char *name = entry->d_name;
        struct stat st;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            continue;
        if (fstatat(dirfd(folder), name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
            if (errno != ENOENT)
                rc = error_errno(err, ERROR_FAILED, "cannot look at %s/%s", path, name);
            continue;
        }
        bool is_folder = S_ISDIR(st.st_mode);
        if (is_folder && (st.st_dev != device || depth == 0)) {
            rc = error_set(err, ERROR_FAILED, "%s/%s is %s; remove it by hand", path, name,
                           depth ? "another file system" : "too deep");
            continue;
        }
        if (is_folder) {
            autofree char *below = xasprintf("%s/%s", path, name);
            int inner =
                openat(dirfd(folder), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            rc = inner < 0 ? error_errno(err, ERROR_FAILED, "cannot open the folder %s", below)
                           : remove_inside(inner, device, depth - 1, below, err);
        }
        if (rc == 0 && unlinkat(dirfd(folder), name, is_folder ? AT_REMOVEDIR : 0) < 0 &&
            errno != ENOENT)
            rc = error_errno(err, ERROR_FAILED, "cannot remove %s/%s", path, name);
    }
    closedir(folder);
    return rc;
}

int file_remove_tree(const char *path, struct error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd < 0)
        return error_errno(err, ERROR_FAILED, "cannot open the folder %s", path);
    struct stat st;
    if (fstat(fd, &st) < 0) {
        close(fd);
        return error_errno(err, ERROR_FAILED, "cannot look at %s", path);
    }
    if (remove_inside(fd, st.st_dev, REMOVE_DEPTH_MAX, path, err) < 0)
        return -1;
    if (rmdir(path) < 0 && errno != ENOENT)
        return error_errno(err, ERROR_FAILED, "cannot remove the folder %s", path);
    return 0;
}
