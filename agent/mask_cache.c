/* SPDX-License-Identifier: Apache-2.0 */
/* mask_cache.c - entries: a line with version and checksum, and bytes behind it. */
#include "mask_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "checksum.h"
#include "digest.h"
#include "file.h"

#define ENTRY_BYTES_MAX (8U << 20)
#define ENTRY_VERSION   "cpubroker.sites/2"
#define NAMES_MAX       2048 /* files in the folder that are looked at at once */
#define FILES_MAX       8    /* with the same code that are remembered */
#define CHUNK_BYTES     262144
#define SETTLED_NS      2000000000LL /* a change within the clock's grain would not show */
#define USED_AGAIN_S    3600

/* A file as it was when its digest was made. */
struct seen {
    uint64_t device, inode, size;
    int64_t changed_ns, modified_ns;
};

struct entry {
    char digest[SHA256_HEX_BYTES];
    char build_id[ELF_BUILD_ID_HEX_BYTES];
    uint64_t size;                /* of the file */
    struct seen files[FILES_MAX]; /* the latest first */
    size_t file_count;
    struct mask_sites *sites; /* owned */
};

static int64_t ns_of(struct timespec t)
{
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static struct seen seen_of(const struct stat *st)
{
    return (struct seen){.device = st->st_dev,
                         .inode = st->st_ino,
                         .size = (uint64_t)st->st_size,
                         .changed_ns = ns_of(st->st_ctim),
                         .modified_ns = ns_of(st->st_mtim)};
}

static bool is_same(const struct seen *a, const struct seen *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->changed_ns == b->changed_ns && a->modified_ns == b->modified_ns;
}

/* Whether a change after this moment would give the file another time of change. */
static bool is_settled(const struct seen *seen)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return ns_of(now) - seen->changed_ns >= SETTLED_NS;
}

/* ---- the digest of a file's code */

static int digest_segment(const struct elf_image *image, const struct elf_segment *s,
                          struct sha256 *hash, uint8_t *chunk)
{
    const uint64_t place[] = {s->address, s->offset, s->size};
    sha256_update(hash, place, sizeof(place));
    for (uint64_t done = 0; done < s->size; done += CHUNK_BYTES) {
        size_t length = s->size - done < CHUNK_BYTES ? (size_t)(s->size - done) : CHUNK_BYTES;
        if (elf_image_read(image, s->address + done, chunk, length) < 0)
            return -1;
        sha256_update(hash, chunk, length);
    }
    return 0;
}

static int digest_code(const struct elf_image *image, char *hex, struct error *err)
{
    AUTO(sha256) hash = sha256_new();
    autofree uint8_t *chunk = xmalloc(CHUNK_BYTES);
    for (size_t i = 0; i < image->segment_count; i++)
        if (image->segments[i].executable &&
            digest_segment(image, &image->segments[i], hash, chunk) < 0)
            return error_set(err, ERROR_FAILED, "code at 0x%" PRIx64 " cannot be read",
                             image->segments[i].address);
    sha256_finish(hash, hex);
    return 0;
}

/* ---- entries as bytes */

/* Behind the first line; the sites' record follows. */
struct entry_head {
    char digest[SHA256_HEX_BYTES];
    char build_id[ELF_BUILD_ID_HEX_BYTES];
    uint64_t size, file_count;
    struct seen files[FILES_MAX];
};

static char *first_line(const uint8_t *body, size_t length)
{
    char sum_hex[CHECKSUM_HEX_BYTES];
    AUTO(checksum) sum = checksum_new();
    checksum_update(sum, body, length);
    checksum_hex(sum, sum_hex);
    return xasprintf(ENTRY_VERSION " %d %s\n", MASK_SITES_RULES, sum_hex);
}

/* The first line, and the body that it is the checksum of. */
static uint8_t *entry_to_bytes(const struct entry *entry, size_t *ret_length)
{
    struct entry_head head;
    size_t length = 0;
    autofree uint8_t *record = mask_sites_to_record(entry->sites, &length);
    memset(&head, 0, sizeof(head)); /* what lies between members too */
    memcpy(head.digest, entry->digest, sizeof(head.digest));
    memcpy(head.build_id, entry->build_id, sizeof(head.build_id));
    head.size = entry->size;
    head.file_count = entry->file_count;
    memcpy(head.files, entry->files, sizeof(head.files));
    autofree uint8_t *body = xmalloc(sizeof(head) + length);
    memcpy(body, &head, sizeof(head));
    memcpy(body + sizeof(head), record, length);
    autofree char *line = first_line(body, sizeof(head) + length);
    size_t line_length = strlen(line);
    *ret_length = line_length + sizeof(head) + length;
    uint8_t *bytes = xmalloc(*ret_length);
    for (size_t i = 0; i < line_length; i++) /* without its zero byte */
        bytes[i] = (uint8_t)line[i];
    memcpy(bytes + line_length, body, sizeof(head) + length);
    return bytes;
}

static int entry_from_bytes(const uint8_t *bytes, size_t length, struct entry *ret,
                            struct error *err)
{
    struct entry_head head;
    const uint8_t *body = memchr(bytes, '\n', length);
    if (!body)
        return error_set(err, ERROR_INVALID, "entry: no first line");
    body++;
    length -= (size_t)(body - bytes);
    autofree char *line = first_line(body, length);
    if ((size_t)(body - bytes) != strlen(line) || memcmp(bytes, line, strlen(line)) != 0)
        return error_set(err, ERROR_INVALID, "entry: damaged, or of another version");
    if (length < sizeof(head))
        return error_set(err, ERROR_INVALID, "entry: too short");
    memcpy(&head, body, sizeof(head));
    if (head.file_count > FILES_MAX || !memchr(head.digest, '\0', sizeof(head.digest)) ||
        !memchr(head.build_id, '\0', sizeof(head.build_id)))
        return error_set(err, ERROR_INVALID, "entry: its head is none");
    memcpy(ret->digest, head.digest, sizeof(ret->digest));
    memcpy(ret->build_id, head.build_id, sizeof(ret->build_id));
    ret->size = head.size;
    ret->file_count = (size_t)head.file_count;
    memcpy(ret->files, head.files, sizeof(ret->files));
    return mask_sites_from_record(body + sizeof(head), length - sizeof(head), &ret->sites, err);
}

/* ---- entries as files */

static char *path_of(const char *folder, const char *key)
{
    return xasprintf("%s/%s.sites", folder, key);
}

static int read_entry(const char *folder, const char *key, struct entry *ret)
{
    autofree char *path = path_of(folder, key), *text = NULL;
    size_t length = 0;
    struct stat st;
    *ret = (struct entry){0};
    if (file_read(path, ENTRY_BYTES_MAX, &text, &length, NULL) < 0 ||
        entry_from_bytes((const uint8_t *)text, length, ret, NULL) < 0)
        return -1;
    if (stat(path, &st) == 0 && time(NULL) - st.st_mtime > USED_AGAIN_S)
        (void)utimensat(AT_FDCWD, path, NULL, 0); /* those used longest ago go first */
    return 0;
}

struct aged {
    int64_t modified_ns;
    char name[256];
};

static int by_age(const void *a, const void *b)
{
    int64_t x = ((const struct aged *)a)->modified_ns, y = ((const struct aged *)b)->modified_ns;
    return x < y ? -1 : x > y;
}

/* Keeps three quarters when there are too many, so that this is not done at each new entry. */
static void remove_oldest(const char *folder)
{
    DIR *dir = opendir(folder);
    if (!dir)
        return;
    autofree struct aged *names = xcalloc(NAMES_MAX, sizeof(*names));
    size_t count = 0;
    struct dirent *d;
    struct stat st;
    while (count < NAMES_MAX && (d = readdir(dir))) {
        if (fstatat(dirfd(dir), d->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
            continue;
        names[count].modified_ns = ns_of(st.st_mtim);
        snprintf(names[count++].name, sizeof(names[0].name), "%s", d->d_name);
    }
    if (count > MASK_CACHE_ENTRIES_MAX) {
        qsort(names, count, sizeof(*names), by_age);
        for (size_t i = 0; i < count - MASK_CACHE_ENTRIES_MAX * 3 / 4; i++)
            (void)unlinkat(dirfd(dir), names[i].name, 0);
    }
    closedir(dir);
}

static int write_all(int fd, const uint8_t *bytes, size_t length)
{
    while (length) {
        ssize_t n = write(fd, bytes, length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        bytes += n;
        length -= (size_t)n;
    }
    return 0;
}

/* Several write at once, each to a name of its own. Nothing is synced: what a crash tears, the
 * checksum finds. */
static void write_entry(const char *folder, const char *key, const struct entry *entry)
{
    char unique[17];
    random_hex(8, unique);
    size_t length = 0;
    autofree char *path = path_of(folder, key);
    autofree uint8_t *bytes = entry_to_bytes(entry, &length);
    autofree char *temporary = xasprintf("%s/%s.new", folder, unique);
    if (length > ENTRY_BYTES_MAX || file_make_dirs(folder, 0700, NULL) < 0)
        return;
    autoclose int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    if (write_all(fd, bytes, length) < 0 || rename(temporary, path) < 0)
        (void)unlink(temporary);
    else
        remove_oldest(folder);
}

/* ---- the whole */

static bool has_seen(const struct entry *entry, const struct seen *seen)
{
    for (size_t i = 0; i < entry->file_count; i++)
        if (is_same(&entry->files[i], seen))
            return true;
    return false;
}

static void remember(struct entry *entry, const struct seen *seen)
{
    if (!is_settled(seen))
        return;
    size_t kept = entry->file_count < FILES_MAX ? entry->file_count : FILES_MAX - 1;
    memmove(entry->files + 1, entry->files, kept * sizeof(*seen));
    entry->files[0] = *seen;
    entry->file_count = kept + 1;
}

/* The entry's sites, if it is there and is this file's. *digest is made when it is needed, and
 * kept. */
static int use_entry(const char *folder, const char *key, const struct elf_image *image,
                     const struct seen *seen, char *digest, struct mask_sites **ret,
                     struct error *err)
{
    struct entry entry;
    int status = -1;
    if (read_entry(folder, key, &entry) == 0 && entry.size == seen->size &&
        strcmp(entry.build_id, image->build_id) == 0) {
        if (has_seen(&entry, seen)) {
            status = 0;
        } else if ((*digest || digest_code(image, digest, err) == 0) &&
                   strcmp(entry.digest, digest) == 0) {
            status = 0;
            remember(&entry, seen);
            write_entry(folder, key, &entry);
        }
    }
    if (status == 0)
        *ret = steal_ptr(&entry.sites);
    mask_sites_free(entry.sites);
    return status;
}

static int find_and_enter(const char *folder, const char *key, const struct elf_image *image,
                          const struct seen *seen, const char *digest, struct mask_sites **ret,
                          struct error *err)
{
    struct entry entry = {.size = seen->size};
    if (mask_sites_find(image, ret, err) < 0)
        return -1;
    snprintf(entry.digest, sizeof(entry.digest), "%s", digest);
    snprintf(entry.build_id, sizeof(entry.build_id), "%s", image->build_id);
    remember(&entry, seen);
    entry.sites = *ret;
    write_entry(folder, key, &entry);
    return 0;
}

int mask_cache_sites(const char *folder, int fd, struct mask_sites **ret, bool *ret_cached,
                     struct error *err)
{
    const struct elf_memory reader = {elf_read_descriptor, &fd};
    char digest[SHA256_HEX_BYTES] = "";
    struct elf_image image;
    struct stat st;
    bool cached = false;
    if (fstat(fd, &st) < 0)
        return error_errno(err, ERROR_FAILED, "cannot look at the file");
    if (!S_ISREG(st.st_mode))
        return error_set(err, ERROR_INVALID, "this is no regular file");
    if (elf_image_of_file(&reader, (uint64_t)st.st_size, &image, err) < 0)
        return -1;
    if (!folder) {
        if (ret_cached)
            *ret_cached = false;
        return mask_sites_find(&image, ret, err);
    }
    struct seen seen = seen_of(&st);
    if (!image.build_id[0] && digest_code(&image, digest, err) < 0)
        return -1;
    const char *key = image.build_id[0] ? image.build_id : digest;
    cached = use_entry(folder, key, &image, &seen, digest, ret, err) == 0;
    if (ret_cached)
        *ret_cached = cached;
    if (cached)
        return 0;
    if (!*digest && digest_code(&image, digest, err) < 0)
        return -1;
    return find_and_enter(folder, key, &image, &seen, digest, ret, err);
}
