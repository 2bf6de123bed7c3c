/* SPDX-License-Identifier: Apache-2.0 */
/* mask_maps.c - reads /proc/PID/maps, and looks for gaps from a mapping outwards. */
#include "mask_maps.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "file.h"

#define TEXT_BYTES_MAX                                                         \
    (64UL << 20) /* 65,530 mappings, the kernel's usual limit, with long names \
                  */
#define MAPPINGS_MAX   262144
#define QUERIES_MAX    8    /* mappings that are asked for one by one */
#define NAME_BYTES_MAX 4352 /* of one of these: a path, and " (deleted)" */
#define PAGE_BYTES     4096UL
#define LOWEST         0x10000UL /* vm.mmap_min_addr, as it is usually set */
#define HIGHEST        0x7ffffffff000UL

/* "START-END PERM OFFSET DEV INODE   NAME", proc(5). */
static bool parse_line(char *line, struct mask_mapping *ret)
{
    char *at = line;
    ret->start = strtoull(at, &at, 16);
    if (*at++ != '-')
        return false;
    ret->end = strtoull(at, &at, 16);
    if (*at++ != ' ' || strlen(at) < 5 || ret->end <= ret->start)
        return false;
    ret->writable = at[1] == 'w';
    ret->executable = at[2] == 'x';
    ret->shared = at[3] == 's';
    at += 4;
    ret->offset = strtoull(at, &at, 16);
    at += strspn(at, " ");
    at += strcspn(at, " "); /* the device */
    ret->inode = strtoull(at, &at, 10);
    ret->name = at + strspn(at, " ");
    return true;
}

static int parse(struct mask_maps *maps, pid_t pid, struct error *err)
{
    size_t room = 0;
    char *rest = maps->text;
    for (char *line; (line = strsep(&rest, "\n")) && *line;) {
        if (maps->count == MAPPINGS_MAX)
            return error_set(err, ERROR_TOO_LARGE, "process %d has more than %d mappings", pid,
                             MAPPINGS_MAX);
        if (maps->count == room) {
            room = room ? 2 * room : 64;
            maps->mappings = xrealloc(maps->mappings, room * sizeof(*maps->mappings));
        }
        if (!parse_line(line, &maps->mappings[maps->count++]))
            return error_set(err, ERROR_FAILED, "/proc/%d/maps: '%s' is no mapping", pid, line);
    }
    return 0;
}

int mask_maps_read(pid_t pid, struct mask_maps **ret, struct error *err)
{
    char path[64];
    AUTO(mask_maps) maps = xcalloc(1, sizeof(*maps));
    snprintf(path, sizeof(path), "/proc/%d/maps", pid);
    if (file_read(path, TEXT_BYTES_MAX, &maps->text, NULL, err) < 0 || parse(maps, pid, err) < 0)
        return -1;
    maps->whole = true;
    *ret = steal_ptr(&maps);
    return 0;
}

/* ---- some of them */

/* As in linux/fs.h since 6.11, which is newer than what this may be built with. */
struct query {
    uint64_t size, flags, address;
    uint64_t start, end, vma_flags, page_bytes, offset, inode;
    uint32_t device_major, device_minor, name_bytes, build_id_bytes;
    uint64_t name, build_id;
};

#define QUERY_MAPPING  _IOWR('f', 17, struct query)
#define VMA_WRITABLE   0x02
#define VMA_EXECUTABLE 0x04
#define VMA_SHARED     0x08
#define VMA_OR_NEXT    0x10 /* the one that covers the address, or the next of the wanted ones */

/* The first executable one that ends behind the address; its name goes to maps->text. */
static int query(int fd, uint64_t address, char *name, struct mask_mapping *ret)
{
    struct query q = {.size = sizeof(q),
                      .flags = VMA_EXECUTABLE | VMA_OR_NEXT,
                      .address = address,
                      .name_bytes = NAME_BYTES_MAX,
                      .name = (uint64_t)(uintptr_t)name};
    if (ioctl(fd, QUERY_MAPPING, &q) < 0)
        return -1;
    if (!q.name_bytes)
        *name = '\0';
    *ret = (struct mask_mapping){.start = q.start,
                                 .end = q.end,
                                 .offset = q.offset,
                                 .inode = q.inode,
                                 .executable = true,
                                 .writable = q.vma_flags & VMA_WRITABLE,
                                 .shared = q.vma_flags & VMA_SHARED,
                                 .name = name};
    return 0;
}

/* 0 with all of them, or -1: they are too many to be asked for one by one, or cannot be asked for.
 */
static int query_all(int fd, uint64_t from, uint64_t to, struct mask_maps *maps)
{
    maps->text = xmalloc((size_t)QUERIES_MAX * NAME_BYTES_MAX);
    maps->mappings = xcalloc(QUERIES_MAX, sizeof(*maps->mappings));
    for (; maps->count < QUERIES_MAX; maps->count++) {
        struct mask_mapping *m = &maps->mappings[maps->count];
        if (query(fd, from, maps->text + maps->count * NAME_BYTES_MAX, m) < 0)
            return errno == ENOENT ? 0 : -1;
        if (m->start >= to)
            return 0;
        from = m->end;
        if (from >= to) {
            maps->count++;
            return 0;
        }
    }
    return -1;
}

int mask_maps_read_code(pid_t pid, uint64_t from, uint64_t to, struct mask_maps **ret,
                        struct error *err)
{
    char path[64];
    AUTO(mask_maps) maps = xcalloc(1, sizeof(*maps));
    snprintf(path, sizeof(path), "/proc/%d/maps", pid);
    autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || query_all(fd, from, to, maps) < 0)
        return mask_maps_read(pid, ret, err);
    *ret = steal_ptr(&maps);
    return 0;
}

void mask_maps_free(struct mask_maps *maps)
{
    if (!maps)
        return;
    free(maps->mappings);
    free(maps->text);
    free(maps);
}

const struct mask_mapping *mask_maps_named(const struct mask_maps *maps, const char *name)
{
    for (size_t i = 0; i < maps->count; i++)
        if (strcmp(maps->mappings[i].name, name) == 0)
            return &maps->mappings[i];
    return NULL;
}

/* ---- gaps */

/* Gap i lies below mapping i; the last one above all of them. */
static void gap_bounds(const struct mask_maps *maps, size_t i, uint64_t *ret_low,
                       uint64_t *ret_high)
{
    *ret_low = i ? maps->mappings[i - 1].end : LOWEST;
    *ret_high =
        i < maps->count && maps->mappings[i].start < HIGHEST ? maps->mappings[i].start : HIGHEST;
    if (*ret_low < LOWEST)
        *ret_low = LOWEST;
}

static bool is_stack(const struct mask_maps *maps, size_t i)
{
    return i < maps->count && strcmp(maps->mappings[i].name, "[stack]") == 0;
}

/* The highest place in gap i for them, within reach of [start, end); 0: none. A page is left free
 * on both sides. */
static uint64_t place_in(const struct mask_maps *maps, size_t i, uint64_t start, uint64_t end,
                         uint64_t bytes)
{
    uint64_t low, high;
    gap_bounds(maps, i, &low, &high);
    if (is_stack(maps, i) || high < low + bytes + 2 * PAGE_BYTES)
        return 0;
    uint64_t place = high - PAGE_BYTES - bytes;
    if (place + bytes > start && place + bytes - start > MASK_REACH)
        place = start + MASK_REACH - bytes;
    if (place < low + PAGE_BYTES || (end > place && end - place > MASK_REACH))
        return 0;
    return place;
}

uint64_t mask_maps_gap(const struct mask_maps *maps, uint64_t start, uint64_t end, uint64_t bytes)
{
    size_t here = 0;
    while (here < maps->count && maps->mappings[here].end <= start)
        here++;
    for (size_t i = here + 1; i-- > 0;) {
        uint64_t place = place_in(maps, i, start, end, bytes);
        if (place)
            return place;
    }
    for (size_t i = here + 1; i <= maps->count; i++) {
        uint64_t place = place_in(maps, i, start, end, bytes);
        if (place)
            return place;
    }
    return 0;
}
