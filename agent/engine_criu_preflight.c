/* SPDX-License-Identifier: Apache-2.0 */
/* engine_criu_preflight.c - what can be told of a tree without touching it: whether CRIU could
 * dump it and restore it elsewhere. Better said here than by CRIU with the tree frozen. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "cgroup.h"
#include "cleanup.h"
#include "engine_private.h"
#include "file.h"

#define PROC_FILE_MAX    (16UL * 1024 * 1024)
#define MAJOR_MEMORY     1 /* minors 3, 5, 7, 8, 9: null, zero, full, random, urandom */
#define MAJOR_TTY_AUX    5 /* /dev/tty, /dev/ptmx (minor 2) */
#define MINOR_PTMX       2
#define MAJOR_PTS_FIRST  136 /* Unix98 terminals */
#define MAJOR_PTS_LAST   143
#define MAJOR_MISC       10
#define MINOR_TUN        200
#define TCP_STATE_CLOSE  0x07
#define TCP_STATE_LISTEN 0x0a

/* Descriptors that no CRIU can carry, by what /proc/PID/fd calls them. */
static const struct {
    const char *link;
    const char *what;
} unmovable[] = {
    {"anon_inode:[io_uring]",         "an io_uring"          },
    {"anon_inode:[perf_event]",       "a perf event"         },
    {"anon_inode:bpf-map",            "a BPF map"            },
    {"anon_inode:bpf-prog",           "a BPF program"        },
    {"anon_inode:bpf_link",           "a BPF link"           },
    {"anon_inode:[fanotify]",         "an fanotify group"    },
    {"anon_inode:kvm-vm",             "a KVM virtual machine"},
    {"anon_inode:[userfaultfd]",      "a userfaultfd"        },
    {"anon_inode:seccomp notify",     "a seccomp listener"   },
    {"anon_inode:[landlock-ruleset]", "a Landlock ruleset"   },
};

struct look {
    const struct process_list *tree;
    struct process_list masters, slaves; /* terminals: index + 1, as 0 ends a list */
    struct {
        pid_t pid;
        int fd;
        char name[64];
    } slave;           /* the last one seen, for the message */
    uint64_t *sockets; /* owned; inodes */
    size_t socket_count, socket_room;
};

int criu_tree(const struct engine_job *job, struct process_list *list, struct error *err)
{
    autofree char *tasks =
        *job->cgroup_dir ? xasprintf("%s/%s", job->cgroup_dir, CGROUP_TASKS) : xstrdup("");
    if (job->root_pid <= 0)
        return error_set(err, ERROR_CONFLICT,
                         "the workload's first process has ended; what is left of its tree cannot "
                         "be moved without it");
    if (process_list_tree(job->root_pid, true, list, err) < 0)
        return -1;
    if (!process_list_has(list->pids, job->root_pid))
        return error_set(err, ERROR_NOT_FOUND, "no process %d, the workload's root", job->root_pid);
    return cgroup_pids(tasks, list, err);
}

/* --- one process --------------------------------------------------------------------------- */

static int check_namespace(pid_t pid, const char *name, const char *meaning, struct error *err)
{
    struct stat ours, theirs;
    char ours_path[64], path[64];
    snprintf(ours_path, sizeof(ours_path), "/proc/self/ns/%s", name);
    snprintf(path, sizeof(path), "/proc/%d/ns/%s", pid, name);
    if (stat(ours_path, &ours) < 0 || stat(path, &theirs) < 0 || ours.st_ino == theirs.st_ino)
        return 0; /* the same, or gone, or a kernel without it */
    return error_set(err, ERROR_CONFLICT,
                     "process %d lives in another %s than the agent; nested ones cannot be moved",
                     pid, meaning);
}

static int check_status(const struct engine_job *job, pid_t pid, struct error *err)
{
    char path[64];
    autofree char *text = NULL;
    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    if (file_read(path, PROC_FILE_MAX, &text, NULL, NULL) < 0)
        return 0;
    const char *tracer = strstr(text, "\nTracerPid:"), *seccomp = strstr(text, "\nSeccomp:");
    pid_t tracer_pid = tracer ? (pid_t)strtol(tracer + 11, NULL, 10) : 0;
    struct process_stat stat = {.comm = "?"};
    if (tracer_pid && tracer_pid != job->own_tracer) {
        process_stat_read(tracer_pid, &stat, NULL);
        return error_set(err, ERROR_CONFLICT,
                         "process %d is traced by '%s' (pid %d); detach it "
                         "first",
                         pid, stat.comm, tracer_pid);
    }
    if (seccomp && strtol(seccomp + 9, NULL, 10) == 1)
        return error_set(err, ERROR_CONFLICT, "process %d is in seccomp's strict mode", pid);
    return 0;
}

static int check_session(const struct look *look, pid_t root_sid, pid_t pid, struct error *err)
{
    struct process_stat stat;
    if (process_stat_read(pid, &stat, NULL) < 0)
        return 0;
    if (stat.sid == root_sid || process_list_has(look->tree->pids, stat.sid))
        return 0;
    return error_set(err, ERROR_CONFLICT,
                     "process %d ('%s') belongs to session %d, whose leader is not in the tree; a "
                     "task can only inherit its session",
                     pid, stat.comm, stat.sid);
}

/* --- descriptors --------------------------------------------------------------------------- */

static void note_socket(struct look *look, const char *link)
{
    if (look->socket_count == look->socket_room) {
        look->socket_room = look->socket_room ? look->socket_room * 2 : 64;
        look->sockets = xrealloc(look->sockets, look->socket_room * sizeof(*look->sockets));
    }
    look->sockets[look->socket_count++] = strtoull(link + strlen("socket:["), NULL, 10);
}

static void note_master(struct look *look, pid_t pid, int fd)
{
    char path[64];
    autofree char *text = NULL;
    snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", pid, fd);
    const char *line =
        file_read(path, PROC_FILE_MAX, &text, NULL, NULL) == 0 ? strstr(text, "tty-index:") : NULL;
    if (line)
        process_list_add(&look->masters, (pid_t)strtol(line + 10, NULL, 10) + 1);
}

static int check_device(struct look *look, pid_t pid, int fd, const char *link, dev_t device,
                        struct error *err)
{
    unsigned major_number = major(device), minor_number = minor(device);
    bool everywhere =
        major_number == MAJOR_MEMORY && minor_number < 10 && 0x3a8 >> minor_number & 1;
    if (everywhere || (major_number == MAJOR_MISC && minor_number == MINOR_TUN))
        return 0;
    if (major_number == MAJOR_TTY_AUX && minor_number == MINOR_PTMX) {
        note_master(look, pid, fd);
        return 0;
    }
    if (major_number >= MAJOR_PTS_FIRST && major_number <= MAJOR_PTS_LAST) {
        process_list_add(&look->slaves,
                         (pid_t)((major_number - MAJOR_PTS_FIRST) * 256 + minor_number) + 1);
        look->slave.pid = pid;
        look->slave.fd = fd;
        snprintf(look->slave.name, sizeof(look->slave.name), "%.63s", link);
        return 0;
    }
    return error_set(err, ERROR_CONFLICT,
                     "process %d holds the device %s open (descriptor %d); a device stays on its "
                     "machine",
                     pid, link, fd);
}

static int check_fd(struct look *look, pid_t pid, int fd, struct error *err)
{
    char path[64], link[4096];
    struct stat st;
    snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
    ssize_t n = readlink(path, link, sizeof(link) - 1);
    if (n < 0 || stat(path, &st) < 0)
        return 0; /* closed meanwhile */
    link[n] = '\0';
    if (strncmp(link, "socket:[", 8) == 0)
        note_socket(look, link);
    for (unsigned i = 0; i < ARRAY_LEN(unmovable); i++)
        if (strcmp(link, unmovable[i].link) == 0)
            return error_set(err, ERROR_CONFLICT,
                             "process %d holds %s (descriptor %d), which cannot be moved", pid,
                             unmovable[i].what, fd);
    if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
        return check_device(look, pid, fd, link, st.st_rdev, err);
    if (S_ISREG(st.st_mode) && st.st_nlink == 0 && strncmp(link, "/memfd:", 7) != 0 &&
        (uint64_t)st.st_size > CRIU_GHOST_LIMIT_BYTES)
        return error_set(err, ERROR_CONFLICT,
                         "process %d holds the deleted file %s of %lld bytes (descriptor %d); at "
                         "most %lu bytes of one are carried",
                         pid, link, (long long)st.st_size, fd, CRIU_GHOST_LIMIT_BYTES);
    return 0;
}

static int check_fds(struct look *look, pid_t pid, struct error *err)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/fd", pid);
    DIR *folder = opendir(path);
    int rc = 0;
    struct dirent *entry;
    while (rc == 0 && folder && (entry = readdir(folder)))
        if (isdigit((unsigned char)*entry->d_name))
            rc = check_fd(look, pid, (int)strtol(entry->d_name, NULL, 10), err);
    if (folder)
        closedir(folder);
    return rc;
}

/* --- the tree as a whole ------------------------------------------------------------------- */

static bool has_socket(const struct look *look, uint64_t inode)
{
    for (size_t i = 0; i < look->socket_count; i++)
        if (look->sockets[i] == inode)
            return true;
    return false;
}

/* Of /proc/PID/net/tcp: "sl local remote st queues timer retransmits uid timeout inode". */
static int check_tcp(const struct look *look, pid_t root, const char *table, struct error *err)
{
    char path[64];
    autofree char *text = NULL;
    char *save = NULL;
    snprintf(path, sizeof(path), "/proc/%d/net/%s", root, table);
    if (!look->socket_count || file_read(path, PROC_FILE_MAX, &text, NULL, NULL) < 0)
        return 0;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char local[64], remote[64];
        unsigned state = 0;
        uint64_t inode = 0;
        if (sscanf(line, " %*d: %63s %63s %x %*s %*s %*s %*u %*u %" SCNu64, local, remote, &state,
                   &inode) != 4 ||
            state == TCP_STATE_LISTEN || state == TCP_STATE_CLOSE || !has_socket(look, inode))
            continue;
        const char *port = strrchr(local, ':'), *peer = strrchr(remote, ':');
        return error_set(err, ERROR_CONFLICT,
                         "the tree holds a TCP connection (port %ld to port %ld of a peer), which "
                         "would break; close it first",
                         port ? strtol(port + 1, NULL, 16) : 0,
                         peer ? strtol(peer + 1, NULL, 16) : 0);
    }
    return 0;
}

static int check_terminals(const struct look *look, struct error *err)
{
    for (size_t i = 0; i < look->slaves.count; i++)
        if (!process_list_has(look->masters.pids, look->slaves.pids[i]))
            return error_set(err, ERROR_CONFLICT,
                             "process %d holds the terminal %s open (descriptor %d); a terminal "
                             "stays on its machine: start it with its input from /dev/null and its "
                             "output to files",
                             look->slave.pid, look->slave.name, look->slave.fd);
    return 0;
}

static int check_all(struct look *look, const struct engine_job *job, struct criu_needs *ret,
                     struct error *err)
{
    pid_t root = job->root_pid;
    struct process_stat first;
    if (process_stat_read(root, &first, err) < 0)
        return -1;
    if (first.state == 'Z' || first.state == 'X')
        return error_set(err, ERROR_NOT_FOUND, "process %d has ended", root);
    ret->shell_job = !process_list_has(look->tree->pids, first.sid);
    for (size_t i = 0; i < look->tree->count; i++) {
        pid_t pid = look->tree->pids[i];
        struct process_stat stat;
        if (check_namespace(pid, "pid", "pid namespace", err) < 0 ||
            check_namespace(pid, "user", "user namespace", err) < 0 ||
            check_status(job, pid, err) < 0 || check_session(look, first.sid, pid, err) < 0 ||
            check_fds(look, pid, err) < 0)
            return -1;
        if (process_stat_read(pid, &stat, NULL) == 0 && stat.tty && !look->masters.count)
            ret->shell_job = true;
    }
    if (check_tcp(look, root, "tcp", err) < 0 || check_tcp(look, root, "tcp6", err) < 0)
        return -1;
    return check_terminals(look, err);
}

int criu_preflight(const struct engine_job *job, struct criu_needs *ret, struct error *err)
{
    struct process_list tree = {0};
    struct look look = {.tree = &tree};
    int rc = criu_tree(job, &tree, err);
    if (rc == 0)
        rc = check_all(&look, job, ret, err);
    free(tree.pids);
    free(look.masters.pids);
    free(look.slaves.pids);
    free(look.sockets);
    return rc;
}
