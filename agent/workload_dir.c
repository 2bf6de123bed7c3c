/* SPDX-License-Identifier: Apache-2.0 */
/* workload_dir.c - where a workload's folder may lie, walked piece by piece without links. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "file.h"
#include "workload_private.h"

struct walk {
    const char *path; /* the whole, for messages */
    unsigned uid, gid;
    bool make;
    bool made;
};

/* Absolute, plain, in its shortest form. */
static int check_form(const char *path, struct error *err)
{
    size_t length = strlen(path);
    if (*path != '/' || length < 2 || length >= PATH_MAX)
        return error_set(err, ERROR_INVALID, "dir: '%.200s': expected an absolute path", path);
    for (const char *p = path; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            return error_set(err, ERROR_INVALID, "dir: the path holds a control character");
    for (const char *p = path; *p;) {
        const char *piece = p + 1;
        size_t n = strcspn(piece, "/");
        if (n == 0 || (n == 1 && *piece == '.') || (n == 2 && strncmp(piece, "..", 2) == 0))
            return error_set(err, ERROR_INVALID,
                             "dir: '%.200s': expected a path without '.', '..', '//' or a slash at "
                             "its end",
                             path);
        p = piece + n;
    }
    return 0;
}

/* What of `path` lies beneath `root` (of root_length bytes), or NULL. */
static const char *beneath(const char *path, const char *root, size_t root_length)
{
    while (root_length > 1 && root[root_length - 1] == '/')
        root_length--;
    if (root_length == 1 && *root == '/')
        return path + 1;
    if (root_length < 1 || strncmp(path, root, root_length) != 0 || path[root_length] != '/')
        return NULL;
    return path + root_length + 1;
}

static int make_piece(struct walk *walk, int parent, const char *piece, struct error *err)
{
    struct stat st;
    if (fstat(parent, &st) < 0)
        return error_errno(err, ERROR_FAILED, "dir: cannot look at the parent of '%s'", piece);
    if (walk->uid != 0 && st.st_uid != 0 && st.st_uid != walk->uid)
        return error_set(err, ERROR_FORBIDDEN,
                         "dir: '%s' is missing in %s and its parent belongs to somebody else",
                         piece, walk->path);
    if (!walk->make)
        return 0;
    if (mkdirat(parent, piece, 0750) < 0 ||
        fchownat(parent, piece, walk->uid, walk->gid, AT_SYMLINK_NOFOLLOW) < 0)
        return error_errno(err, ERROR_FAILED, "dir: cannot make '%s' of %s", piece, walk->path);
    walk->made = true;
    return 0;
}

/* From the open folder `root` down `relative`. */
static int walk_down(struct walk *walk, int root, const char *relative, struct error *err)
{
    autoclose int at = fcntl(root, F_DUPFD_CLOEXEC, 0);
    autofree char *pieces = xstrdup(relative);
    char *save = NULL;
    for (char *piece = strtok_r(pieces, "/", &save); piece; piece = strtok_r(NULL, "/", &save)) {
        int next = openat(at, piece, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (next < 0 && errno == ENOENT) {
            if (make_piece(walk, at, piece, err) < 0)
                return -1;
            if (!walk->make)
                return 0; /* what is below is missing too */
            next = openat(at, piece, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        }
        if (next < 0 && (errno == ENOTDIR || errno == ELOOP))
            return error_set(err, ERROR_INVALID,
                             "dir: '%s' in %s is a link or no folder; expected folders only", piece,
                             walk->path);
        if (next < 0)
            return error_errno(err, ERROR_INVALID, "dir: cannot open '%s' of %s", piece,
                               walk->path);
        close(at);
        at = next;
    }
    struct stat st;
    if (fstat(at, &st) < 0)
        return error_errno(err, ERROR_FAILED, "dir: cannot look at %s", walk->path);
    if (walk->uid != 0 && st.st_uid != walk->uid)
        return error_set(err, ERROR_FORBIDDEN,
                         "dir: %s belongs to uid %u; expected a folder of uid %u, because it is "
                         "written to and moves with the workload",
                         walk->path, st.st_uid, walk->uid);
    return 0;
}

static int walk_from(struct walk *walk, const char *root, size_t root_length, const char *relative,
                     struct error *err)
{
    autofree char *folder = xasprintf("%.*s", (int)root_length, root);
    autoclose int fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, ERROR_FAILED, "dir: cannot open the allowed root %s", folder);
    return walk_down(walk, fd, relative, err);
}

int workload_dir_resolve(const struct workloads *w, const char *name, const char *dir, unsigned uid,
                         unsigned gid, bool make, bool *ret_made, char **ret, struct error *err)
{
    autofree char *home = xasprintf("%s/workloads", w->state_dir);
    autofree char *path = dir ? xstrdup(dir) : xasprintf("%s/%s", home, name);
    struct walk walk = {.path = path, .uid = uid, .gid = gid, .make = make};
    if (check_form(path, err) < 0)
        return -1;
    const char *relative = beneath(path, home, strlen(home));
    int rc = 1;
    if (relative)
        rc = walk_from(&walk, home, strlen(home), relative, err);
    for (const char *root = w->roots; rc > 0 && *root;) {
        size_t length = strcspn(root, ":");
        relative = length ? beneath(path, root, length) : NULL;
        if (relative)
            rc = walk_from(&walk, root, length, relative, err);
        root += length + (root[length] == ':');
    }
    if (rc > 0)
        return error_set(err, ERROR_INVALID,
                         "dir: %s lies beneath none of the allowed roots (%s%s%s); the agent's "
                         "workload_roots says which",
                         path, home, *w->roots ? ":" : "", w->roots);
    if (rc < 0)
        return -1;
    if (ret_made)
        *ret_made = walk.made;
    *ret = steal_ptr(&path);
    return 0;
}
