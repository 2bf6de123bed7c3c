/* SPDX-License-Identifier: Apache-2.0 */
/* mask_islands.c - maps islands in a process by system calls of its own, and writes into them from
 * outside, so that they are at no time writable for the program. */
#include "mask_islands.h"

#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define STUB_ALIGNMENT    16UL
#define ROUTINE_BYTES_MAX 512
#define ISLAND_TAIL       3 /* bytes of a jump that may be zero, at the end of the last stub */

uint64_t mask_island_routine_at(const struct mask_one_island *island)
{
    return island->at + MASK_ISLAND_TABLE_BYTES;
}

static uint64_t aligned(uint64_t value)
{
    return (value + STUB_ALIGNMENT - 1) / STUB_ALIGNMENT * STUB_ALIGNMENT;
}

void mask_islands_check(struct mask_islands *islands, const struct mask_tracee *tracee)
{
    size_t kept = 0;
    for (size_t i = 0; i < islands->count; i++) {
        struct mask_island_table head;
        if (mask_tracee_read(tracee, islands->islands[i].at, &head, sizeof(head), NULL) == 0 &&
            head.magic == MASK_ISLAND_MAGIC && head.version == MASK_ISLAND_VERSION)
            islands->islands[kept++] = islands->islands[i];
    }
    islands->count = kept;
}

/* ---- finding them */

static bool is_island_at(const struct mask_tracee *tracee, uint64_t place)
{
    struct mask_island_table head;
    uint8_t routine[ROUTINE_BYTES_MAX], now[ROUTINE_BYTES_MAX];
    size_t length = mask_island_routine_bytes();
    if (length > sizeof(routine) ||
        mask_tracee_read(tracee, place, &head, sizeof(head), NULL) < 0 ||
        head.magic != MASK_ISLAND_MAGIC || head.version != MASK_ISLAND_VERSION)
        return false;
    mask_island_routine_copy(routine);
    return mask_tracee_read(tracee, place + MASK_ISLAND_TABLE_BYTES, now, length, NULL) == 0 &&
           memcmp(now, routine, length) == 0;
}

/* How many bytes of it are in use: up to the last one that is written. A stub's last bytes may be
 * zero, but never as many as its alignment adds. */
static int used_bytes(const struct mask_tracee *tracee, uint64_t place, uint64_t *ret,
                      struct error *err)
{
    autofree uint8_t *bytes = xmalloc(MASK_ISLAND_BYTES);
    if (mask_tracee_read(tracee, place, bytes, MASK_ISLAND_BYTES, err) < 0)
        return -1;
    size_t length = MASK_ISLAND_BYTES;
    while (length && !bytes[length - 1])
        length--;
    uint64_t least = MASK_ISLAND_TABLE_BYTES + mask_island_routine_bytes();
    *ret = aligned(length + ISLAND_TAIL > least ? length + ISLAND_TAIL : least);
    return 0;
}

static bool is_known(const struct mask_islands *islands, uint64_t place)
{
    for (size_t i = 0; i < islands->count; i++)
        if (islands->islands[i].at == place)
            return true;
    return false;
}

int mask_islands_find(struct mask_islands *islands, const struct mask_tracee *tracee,
                      const struct mask_maps *maps, struct error *err)
{
    for (size_t i = 0; i < maps->count; i++) {
        const struct mask_mapping *mapping = &maps->mappings[i];
        uint64_t place = mapping->start - MASK_ISLAND_TABLE_BYTES, used = 0;
        if (!mapping->executable || mapping->writable || mapping->inode ||
            is_known(islands, place) || mapping->end - place < MASK_ISLAND_BYTES ||
            !is_island_at(tracee, place))
            continue;
        if (islands->count == MASK_ISLANDS_MAX)
            return error_set(err, ERROR_TOO_LARGE, "process %d has more than %d islands",
                             tracee->tid, MASK_ISLANDS_MAX);
        if (used_bytes(tracee, place, &used, err) < 0)
            return -1;
        islands->islands[islands->count++] = (struct mask_one_island){place, used};
    }
    return 0;
}

const struct mask_one_island *mask_islands_at(const struct mask_islands *islands, uint64_t address)
{
    for (size_t i = 0; i < islands->count; i++) {
        uint64_t first = mask_island_routine_at(&islands->islands[i]) + mask_island_routine_bytes();
        uint64_t end = islands->islands[i].at + islands->islands[i].used;
        if (address >= first && address < end)
            return &islands->islands[i];
    }
    return NULL;
}

/* ---- making one */

static int call(struct mask_tracee *tracee, const char *name, const struct mask_call *what,
                int64_t *ret, struct error *err)
{
    if (mask_tracee_call(tracee, what, ret, err) < 0)
        return -1;
    if (*ret < 0 && *ret >= -4095) {
        errno = (int)-*ret;
        return error_errno(err, ERROR_FAILED, "thread %d may not %s an island for the CPUID mask",
                           tracee->tid, name);
    }
    return 0;
}

static int map(struct mask_tracee *tracee, uint64_t place, struct error *err)
{
    const struct mask_call mmap_call = {
        SYS_mmap,
        {place, MASK_ISLAND_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
          (uint64_t)-1, 0}
    };
    int64_t result = 0;
    if (call(tracee, "map", &mmap_call, &result, err) < 0)
        return -1;
    if ((uint64_t)result != place)
        return error_set(err, ERROR_FAILED, "thread %d mapped an island at 0x%llx, not at 0x%llx",
                         tracee->tid, (unsigned long long)result, (unsigned long long)place);
    return 0;
}

static void unmap(struct mask_tracee *tracee, uint64_t place)
{
    const struct mask_call munmap_call = {
        SYS_munmap, {place, MASK_ISLAND_BYTES}
    };
    int64_t result = 0;
    mask_tracee_call(tracee, &munmap_call, &result, NULL);
}

static int fill(const struct mask_tracee *tracee, uint64_t place,
                const struct mask_island_table *table, struct error *err)
{
    uint8_t routine[ROUTINE_BYTES_MAX];
    size_t length = mask_island_routine_bytes();
    if (length > sizeof(routine))
        return error_set(err, ERROR_INTERNAL, "the island's routine has %zu bytes", length);
    mask_island_routine_copy(routine);
    if (mask_tracee_write(tracee, place, table, MASK_ISLAND_TABLE_BYTES, err) < 0)
        return -1;
    return mask_tracee_write(tracee, place + MASK_ISLAND_TABLE_BYTES, routine, length, err);
}

static int let_run(struct mask_tracee *tracee, uint64_t place, struct error *err)
{
    const struct mask_call mprotect_call = {
        SYS_mprotect,
        {place + MASK_ISLAND_TABLE_BYTES, MASK_ISLAND_BYTES - MASK_ISLAND_TABLE_BYTES,
          PROT_READ | PROT_EXEC}
    };
    int64_t result = 0;
    return call(tracee, "run code in", &mprotect_call, &result, err);
}

static int make_in_gap(struct mask_islands *islands, struct mask_tracee *tracee,
                       const struct mask_island_table *table, const struct mask_maps *maps,
                       uint64_t start, uint64_t end, struct error *err)
{
    uint64_t place = mask_maps_gap(maps, start, end, MASK_ISLAND_BYTES);
    if (!place)
        return error_set(err, ERROR_FAILED,
                         "thread %d has no room for an island within 2 GiB of its code at 0x%llx",
                         tracee->tid, (unsigned long long)start);
    if (map(tracee, place, err) < 0)
        return -1;
    if (fill(tracee, place, table, err) < 0 || let_run(tracee, place, err) < 0) {
        unmap(tracee, place);
        return -1;
    }
    islands->islands[islands->count++] = (struct mask_one_island){
        place, aligned(MASK_ISLAND_TABLE_BYTES + mask_island_routine_bytes())};
    return 0;
}

static int make(struct mask_islands *islands, struct mask_tracee *tracee,
                const struct mask_island_table *table, const struct mask_maps *known,
                uint64_t start, uint64_t end, struct error *err)
{
    AUTO(mask_maps) maps = NULL;
    if (islands->count == MASK_ISLANDS_MAX)
        return error_set(err, ERROR_FAILED, "thread %d would need more than %d islands",
                         tracee->tid, MASK_ISLANDS_MAX);
    /* What was a gap may be none by now: the kernel never maps over what is there. */
    if (known && make_in_gap(islands, tracee, table, known, start, end, NULL) == 0)
        return 0;
    if (mask_maps_read(tracee->tid, &maps, err) < 0)
        return -1;
    return make_in_gap(islands, tracee, table, maps, start, end, err);
}

/* ---- using them */

static bool reaches(const struct mask_one_island *island, uint64_t start, uint64_t end)
{
    uint64_t low = start < island->at ? start : island->at;
    uint64_t island_end = island->at + MASK_ISLAND_BYTES;
    uint64_t high = end > island_end ? end : island_end;
    return high - low <= MASK_REACH;
}

int mask_islands_near(struct mask_islands *islands, struct mask_tracee *tracee,
                      const struct mask_island_table *table, const struct mask_maps *maps,
                      uint64_t start, uint64_t end, size_t bytes, struct mask_one_island **ret,
                      struct error *err)
{
    for (size_t i = 0; i < islands->count; i++) {
        struct mask_one_island *island = &islands->islands[i];
        if (island->used + bytes <= MASK_ISLAND_BYTES && reaches(island, start, end)) {
            *ret = island;
            return 0;
        }
    }
    if (make(islands, tracee, table, maps, start, end, err) < 0)
        return -1;
    *ret = &islands->islands[islands->count - 1];
    return 0;
}

uint64_t mask_island_take(struct mask_one_island *island, size_t length)
{
    uint64_t at = island->at + island->used;
    island->used = aligned(island->used + length);
    return at;
}

void mask_islands_undo(struct mask_islands *islands, struct mask_tracee *tracee,
                       const struct mask_islands *before)
{
    for (size_t i = before->count; i < islands->count; i++)
        unmap(tracee, islands->islands[i].at);
    *islands = *before;
}

int mask_islands_replace(const struct mask_islands *islands, const struct mask_tracee *tracee,
                         const struct mask_island_table *table, struct error *err)
{
    for (size_t i = 0; i < islands->count; i++)
        if (mask_tracee_write(tracee, islands->islands[i].at, table, MASK_ISLAND_TABLE_BYTES, err) <
            0)
            return -1;
    return 0;
}
