/* SPDX-License-Identifier: Apache-2.0 */
/* engine_criu_log.c - what CRIU leaves behind: its log's last errors, its statistics. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "engine_private.h"
#include "file.h"

#define LOG_TAIL_BYTES  (256L * 1024) /* of the log's end that are looked at */
#define ERROR_LINES     8
#define PLAIN_LINES     4
#define STATS_MAX_BYTES 65536

/* The end of a file that may be large; the caller owns the result, NULL when there is none. */
static char *read_end(const char *path)
{
    autoclose int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return NULL;
    off_t from = st.st_size > LOG_TAIL_BYTES ? st.st_size - LOG_TAIL_BYTES : 0;
    size_t length = (size_t)(st.st_size - from);
    char *text = xmalloc(length + 1);
    ssize_t n = pread(fd, text, length, from);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static bool tells_of_error(const char *line)
{
    return strstr(line, "Error (") != NULL;
}

static bool any_line(const char *line)
{
    return *line != '\0';
}

/* Appends the last `most` lines that `wanted` picks. */
static size_t pick(char *const *lines, size_t count, bool (*wanted)(const char *), size_t most,
                   char *out, size_t size)
{
    size_t found = 0, first = count, used = strlen(out);
    while (first > 0 && found < most)
        found += wanted(lines[--first]);
    for (size_t i = first; found && i < count && used + 1 < size; i++)
        if (wanted(lines[i])) {
            int n = snprintf(out + used, size - used, "%s%s", used ? "\n" : "", lines[i]);
            used += n > 0 ? (size_t)n : 0;
        }
    return found;
}

/* CRIU says that a pid is taken, but not by whom. */
static void explain_taken_pid(char *const *lines, size_t count, char *out, size_t size)
{
    for (size_t i = 0; i < count; i++) {
        const char *at = strstr(lines[i], "Can't fork for ");
        int pid = 0;
        struct process_stat stat;
        if (!at || sscanf(at, "Can't fork for %d: File exists", &pid) != 1 ||
            !strstr(at, "File exists"))
            continue;
        if (process_stat_read(pid, &stat, NULL) == 0)
            snprintf(out, size,
                     "pid %d is taken here by '%s' (state %c, parent %d); the workload needs that "
                     "very pid",
                     pid, stat.comm, stat.state, stat.ppid);
        else
            snprintf(out, size,
                     "pid %d was taken here by a task that has ended meanwhile; a new try may "
                     "succeed",
                     pid);
        return;
    }
}

void criu_log_tail(const char *work_dir, const char *name, char *tail, size_t size)
{
    autofree char *path = xasprintf("%s/%s", work_dir, name);
    autofree char *text = read_end(path);
    *tail = '\0';
    if (!text)
        return;
    size_t count = 0, room = 0;
    autofree char **lines = NULL;
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if (count == room) {
            room = room ? room * 2 : 256;
            lines = xrealloc(lines, room * sizeof(*lines));
        }
        lines[count++] = line;
    }
    explain_taken_pid(lines, count, tail, size);
    if (!pick(lines, count, tells_of_error, ERROR_LINES, tail, size))
        pick(lines, count, any_line, PLAIN_LINES, tail, size);
}

/* --- statistics: two magics, a length, then protobuf ---------------------------------------- */

#define MAGIC_SERVICE 0x55105940U
#define MAGIC_STATS   0x57093306U
#define FIELD_DUMP    1 /* stats_entry.dump */
#define FIELD_FROZEN  2 /* dump_stats_entry.frozen_time, in microseconds */

struct reader {
    const unsigned char *at, *end;
};

static bool read_varint(struct reader *r, uint64_t *ret)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && r->at < r->end; shift += 7) {
        unsigned char byte = *r->at++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *ret = value;
            return true;
        }
    }
    return false;
}

/* The next field's number and, by its wire type, its value or its bytes. */
static bool next_field(struct reader *r, uint64_t *ret_number, uint64_t *ret_value,
                       struct reader *ret_bytes)
{
    uint64_t tag = 0, length = 0;
    if (!read_varint(r, &tag))
        return false;
    *ret_number = tag >> 3;
    if ((tag & 7) == 0)
        return read_varint(r, ret_value);
    if ((tag & 7) != 2 || !read_varint(r, &length) || length > (uint64_t)(r->end - r->at))
        return false; /* CRIU's statistics hold nothing else */
    *ret_bytes = (struct reader){r->at, r->at + length};
    r->at += length;
    return true;
}

static bool find_field(struct reader r, uint64_t wanted, uint64_t *ret_value,
                       struct reader *ret_bytes)
{
    uint64_t number = 0;
    while (next_field(&r, &number, ret_value, ret_bytes))
        if (number == wanted)
            return true;
    return false;
}

uint64_t criu_frozen_ms(const char *path)
{
    autofree char *text = NULL;
    size_t length = 0;
    uint32_t head[3];
    if (file_read(path, STATS_MAX_BYTES, &text, &length, NULL) < 0 || length < sizeof(head))
        return 0;
    memcpy(head, text, sizeof(head));
    if (head[0] != MAGIC_SERVICE || head[1] != MAGIC_STATS || head[2] > length - sizeof(head))
        return 0;
    const unsigned char *body = (const unsigned char *)text + sizeof(head);
    struct reader all = {body, body + head[2]}, dump = {0};
    uint64_t value = 0;
    if (!find_field(all, FIELD_DUMP, &value, &dump) || !dump.at ||
        !find_field(dump, FIELD_FROZEN, &value, &all))
        return 0;
    return (value + 999) / 1000;
}

uint64_t criu_folder_bytes(const char *path)
{
    DIR *folder = opendir(path);
    uint64_t bytes = 0;
    struct dirent *entry;
    struct stat st;
    while (folder && (entry = readdir(folder)))
        if (fstatat(dirfd(folder), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(st.st_mode))
            bytes += (uint64_t)st.st_size;
    if (folder)
        closedir(folder);
    return bytes;
}
