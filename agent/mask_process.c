/* SPDX-License-Identifier: Apache-2.0 */
/* mask_process.c - plans a mapping's patches, writes stubs and then patches, and keeps the record.
 */
#include "mask_process.h"

#include <string.h>

#include "mask_islands.h"
#include "mask_mapped.h"

#define JUMP_CODE  0xe9 /* jmp rel32 */
#define JUMP_BYTES 5
#define PAGE_BYTES 4096UL
#define NEAR_BYTES (4 * PAGE_BYTES)
#define TRAP_HLT   0xf4 /* faults in user space, as CPUID does where it is made to fault */
#define TRAP_NOP   0x90

struct mask_process {
    unsigned references;
    struct mask_process_options options;
    struct mask_islands islands;
    struct mask_patch *patches; /* owned; by rising address, and never overlapping */
    size_t patch_count, patch_room;
    struct mask_uncovered *uncovered; /* owned */
    size_t uncovered_count;
    size_t lacks[MASK_LACK_COUNT];
    bool is_late; /* what is not covered yet may have run */
};

/* ---- the record */

struct mask_process *mask_process_new(const struct mask_process_options *options)
{
    struct mask_process *process = xcalloc(1, sizeof(*process));
    process->references = 1;
    process->options = *options;
    return process;
}

struct mask_process *mask_process_ref(struct mask_process *process)
{
    process->references++;
    return process;
}

struct mask_process *mask_process_copy(const struct mask_process *process)
{
    struct mask_process *copy = xmalloc(sizeof(*copy));
    *copy = *process;
    copy->references = 1;
    copy->patch_room = process->patch_count + 1;
    copy->patches = xmalloc(copy->patch_room * sizeof(*copy->patches));
    copy->uncovered = xmalloc((process->uncovered_count + 1) * sizeof(*copy->uncovered));
    for (size_t i = 0; i < process->patch_count; i++)
        copy->patches[i] = process->patches[i];
    for (size_t i = 0; i < process->uncovered_count; i++)
        copy->uncovered[i] = process->uncovered[i];
    return copy;
}

void mask_process_free(struct mask_process *process)
{
    if (!process || --process->references)
        return;
    free(process->patches);
    free(process->uncovered);
    free(process);
}

bool mask_process_is_shared(const struct mask_process *process)
{
    return process->references > 1;
}

/* The first patch that ends behind the address. */
static size_t first_behind(const struct mask_process *process, uint64_t address)
{
    size_t low = 0, high = process->patch_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (process->patches[middle].address + process->patches[middle].length <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The patch that has a byte of [start, end), or NULL. */
static struct mask_patch *patch_in(const struct mask_process *process, uint64_t start, uint64_t end)
{
    size_t i = first_behind(process, start);
    return i < process->patch_count && process->patches[i].address < end ? &process->patches[i]
                                                                         : NULL;
}

static void drop_patch(struct mask_process *process, size_t i)
{
    memmove(&process->patches[i], &process->patches[i + 1],
            (process->patch_count - i - 1) * sizeof(*process->patches));
    process->patch_count--;
}

static int keep_patch(struct mask_process *process, const struct mask_patch *patch,
                      struct error *err)
{
    size_t i = first_behind(process, patch->address);
    if (process->patch_count == MASK_PATCHES_MAX)
        return error_set(err, ERROR_TOO_LARGE, "more than %d CPUID instructions in a process",
                         MASK_PATCHES_MAX);
    if (process->patch_count == process->patch_room) {
        process->patch_room = process->patch_room ? 2 * process->patch_room : 64;
        process->patches =
            xrealloc(process->patches, process->patch_room * sizeof(*process->patches));
    }
    memmove(&process->patches[i + 1], &process->patches[i],
            (process->patch_count - i) * sizeof(*process->patches));
    process->patches[i] = *patch;
    process->patch_count++;
    return 0;
}

static void note_lack(struct mask_process *process, uint64_t address, enum mask_lack lack,
                      enum mask_hindrance hindrance)
{
    for (size_t i = 0; i < process->uncovered_count; i++)
        if (process->uncovered[i].address == address && process->uncovered[i].lack == lack)
            return;
    process->lacks[lack]++;
    if (process->uncovered_count == MASK_UNCOVERED_MAX)
        return;
    process->uncovered =
        xrealloc(process->uncovered, (process->uncovered_count + 1) * sizeof(*process->uncovered));
    process->uncovered[process->uncovered_count++] =
        (struct mask_uncovered){address, lack, hindrance};
}

/* A mapping is looked at anew: what was said of those addresses counts no longer. */
static void forget_lacks(struct mask_process *process, uint64_t start, uint64_t end)
{
    size_t kept = 0;
    for (size_t i = 0; i < process->uncovered_count; i++) {
        struct mask_uncovered u = process->uncovered[i];
        if (u.address >= start && u.address < end)
            process->lacks[u.lack]--;
        else
            process->uncovered[kept++] = u;
    }
    process->uncovered_count = kept;
}

/* ---- one mapping */

struct plan {
    struct mask_process *process;
    struct mask_tracee *tracee;
    const struct mask_maps *maps; /* of the whole process, or NULL */
    const struct mask_mapping *mapping;
    struct mask_mapped mapped;
    /* A piece of the mapping's memory, without what is yet to be written. */
    uint8_t *near; /* owned; NEAR_BYTES; NULL: none yet */
    uint64_t near_at;
    size_t near_length;
    /* What is written at the end: stubs that lie behind one another, and then patches. */
    uint8_t *stubs; /* owned; MASK_ISLAND_BYTES; NULL: none yet */
    uint64_t stubs_at;
    size_t stubs_length;
    struct written {
        struct mask_patch patch;
        bool is_new; /* to be kept; else it is in the record already, and is only written again */
    } * written;     /* owned; in the order of their writing */
    size_t written_count, in_force;
};

/* Sites lie close together, and each takes several looks. */
static int read_near(struct plan *plan, uint64_t address, void *buffer, size_t length,
                     struct error *err)
{
    uint64_t from = address & ~(PAGE_BYTES - 1), to = from + NEAR_BYTES;
    if (to > plan->mapping->end)
        to = plan->mapping->end;
    if (from < plan->mapping->start || address + length > to)
        return mask_tracee_read(plan->tracee, address, buffer, length, err);
    if (!plan->near)
        plan->near = xmalloc(NEAR_BYTES);
    if (address < plan->near_at || address + length > plan->near_at + plan->near_length) {
        plan->near_length = 0;
        if (mask_tracee_read(plan->tracee, from, plan->near, to - from, err) < 0)
            return -1;
        plan->near_at = from;
        plan->near_length = to - from;
    }
    memcpy(buffer, plan->near + (address - plan->near_at), length);
    return 0;
}

static int write_stubs(struct plan *plan, struct error *err)
{
    size_t length = plan->stubs_length;
    plan->stubs_length = 0;
    return length ? mask_tracee_write(plan->tracee, plan->stubs_at, plan->stubs, length, err) : 0;
}

static int add_stub(struct plan *plan, struct mask_one_island *island, const uint8_t *stub,
                    size_t length, struct error *err)
{
    uint64_t at = mask_island_take(island, length);
    if (!plan->stubs)
        plan->stubs = xmalloc(MASK_ISLAND_BYTES);
    if (plan->stubs_length &&
        (at < plan->stubs_at + plan->stubs_length ||
         at + length > plan->stubs_at + MASK_ISLAND_BYTES) &&
        write_stubs(plan, err) < 0)
        return -1;
    if (!plan->stubs_length)
        plan->stubs_at = at;
    size_t offset = (size_t)(at - plan->stubs_at);
    memset(plan->stubs + plan->stubs_length, 0, offset - plan->stubs_length);
    memcpy(plan->stubs + offset, stub, length);
    plan->stubs_length = offset + length;
    return 0;
}

static int write_all(struct plan *plan, struct error *err)
{
    if (write_stubs(plan, err) < 0)
        return -1;
    while (plan->in_force < plan->written_count) {
        const struct mask_patch *patch = &plan->written[plan->in_force++].patch;
        if (mask_tracee_write(plan->tracee, patch->address, patch->bytes, patch->length, err) < 0)
            return -1;
    }
    return 0;
}

static bool has_stub(const struct mask_process *process, const struct mask_patch *patch)
{
    for (size_t i = 0; i < process->islands.count; i++)
        if (patch->stub - process->islands.islands[i].at < MASK_ISLAND_BYTES)
            return true;
    return false;
}

/* Drops recorded patches within the mapping that are not in its memory: neither what was written
 * nor what was there before, which can be written over again as long as the stub is there. */
static void drop_stale(struct plan *plan)
{
    struct mask_process *process = plan->process;
    size_t i = first_behind(process, plan->mapping->start);
    while (i < process->patch_count && process->patches[i].address < plan->mapping->end) {
        const struct mask_patch *p = &process->patches[i];
        uint8_t now[MASK_DETOUR_BYTES_MAX];
        if (mask_tracee_read(plan->tracee, p->address, now, p->length, NULL) == 0 &&
            (memcmp(now, p->bytes, p->length) == 0 || memcmp(now, p->original, p->length) == 0) &&
            has_stub(process, p))
            i++;
        else
            drop_patch(process, i);
    }
}

/* What lay there before patches of ours. */
static int read_original(struct plan *plan, uint64_t start, uint8_t *bytes, size_t length,
                         struct error *err)
{
    const struct mask_process *process = plan->process;
    if (read_near(plan, start, bytes, length, err) < 0)
        return -1;
    for (size_t i = first_behind(process, start);
         i < process->patch_count && process->patches[i].address < start + length; i++)
        for (unsigned k = 0; k < process->patches[i].length; k++) {
            uint64_t at = process->patches[i].address + k;
            if (at >= start && at < start + length)
                bytes[at - start] = process->patches[i].original[k];
        }
    return 0;
}

/* Whether the memory around the site, as far as it is mapped here, is what the finder saw. */
static bool is_as_found(struct plan *plan, const struct mask_site *site, uint64_t place)
{
    uint8_t now[MASK_WINDOW_BYTES_MAX];
    uint64_t start = place + (uint64_t)(int64_t)site->bytes_at, end = start + site->byte_count;
    uint64_t first = start;
    if (start < plan->mapping->start)
        start = plan->mapping->start;
    if (end > plan->mapping->end)
        end = plan->mapping->end;
    return read_original(plan, start, now, end - start, NULL) == 0 &&
           memcmp(now, site->bytes + (start - first), end - start) == 0;
}

static bool is_within(const struct plan *plan, uint64_t start, uint64_t length)
{
    return start >= plan->mapping->start && start + length <= plan->mapping->end;
}

/* Makes the stub of a patch and fills in the bytes that replace the site's. */
static int make_stub(struct plan *plan, const struct mask_site *site, uint64_t place,
                     const struct mask_detour *detour, struct mask_patch *patch, struct error *err)
{
    struct mask_process *process = plan->process;
    struct mask_one_island *island = NULL;
    uint8_t stub[MASK_STUB_BYTES_MAX];
    uint8_t bytes[MASK_DETOUR_BYTES_MAX + MASK_WINDOW_REACH];
    size_t length = 0;
    if (mask_islands_near(&process->islands, plan->tracee, process->options.table, plan->maps,
                          patch->address, patch->address + patch->length, MASK_STUB_BYTES_MAX,
                          &island, err) < 0)
        return -1;
    patch->stub = island->at + island->used;
    if (mask_detour_write(site, detour, place - site->address, patch->stub,
                          mask_island_routine_at(island), stub, &length, bytes, err) < 0 ||
        add_stub(plan, island, stub, length, err) < 0)
        return -1;
    memcpy(patch->bytes, bytes, patch->length);
    if (patch->trap) {
        memset(patch->bytes, TRAP_NOP, patch->length);
        patch->bytes[0] = TRAP_HLT;
    }
    return 0;
}

/* The bytes of a patch are to be written over the program's. */
static int put(struct plan *plan, const struct mask_patch *patch, bool is_new, struct error *err)
{
    if (is_new && keep_patch(plan->process, patch, err) < 0)
        return -1;
    plan->written = xrealloc(plan->written, (plan->written_count + 1) * sizeof(*plan->written));
    plan->written[plan->written_count++] = (struct written){*patch, is_new};
    return 0;
}

static bool is_in_force(const struct plan *plan, const struct mask_patch *patch)
{
    uint8_t now[MASK_DETOUR_BYTES_MAX];
    return mask_tracee_read(plan->tracee, patch->address, now, patch->length, NULL) == 0 &&
           memcmp(now, patch->bytes, patch->length) == 0;
}

/* Which bytes are to be replaced, and how. */
static enum mask_hindrance choose(const struct plan *plan, const struct mask_site *site,
                                  uint64_t place, struct mask_detour *ret)
{
    enum mask_hindrance hindrance = mask_detour_plan(site, ret);
    if (hindrance != MASK_HINDRANCE_NONE)
        return hindrance;
    uint64_t start = place + (uint64_t)(int64_t)ret->from;
    if (!is_within(plan, start, ret->length))
        return MASK_HINDRANCE_EDGE;
    return patch_in(plan->process, start, start + ret->length) ? MASK_HINDRANCE_FIXED
                                                               : MASK_HINDRANCE_NONE;
}

/* ---- detours that are there already */

static bool same_memory(const struct plan *plan, uint64_t address, const uint8_t *bytes,
                        size_t length)
{
    uint8_t now[MASK_STUB_BYTES_MAX];
    return length <= sizeof(now) &&
           mask_tracee_read(plan->tracee, address, now, length, NULL) == 0 &&
           memcmp(now, bytes, length) == 0;
}

/* What the file has in a patch's place. */
static bool original_of(const struct mask_site *site, struct mask_patch *patch)
{
    int64_t at = (int64_t)(patch->address - patch->site) - site->bytes_at;
    if (at < 0 || at + patch->length > site->byte_count)
        return false;
    memcpy(patch->original, site->bytes + at, patch->length);
    return true;
}

/* A jump to a stub that is exactly what would be written. */
static bool is_detoured(const struct plan *plan, const struct mask_site *site, uint64_t place,
                        struct mask_patch *ret)
{
    struct mask_detour detour;
    uint8_t jump[JUMP_BYTES], stub[MASK_STUB_BYTES_MAX];
    uint8_t bytes[MASK_DETOUR_BYTES_MAX + MASK_WINDOW_REACH];
    int32_t distance = 0;
    size_t length = 0;
    if (mask_detour_plan(site, &detour) != MASK_HINDRANCE_NONE)
        return false;
    *ret = (struct mask_patch){.address = place + (uint64_t)(int64_t)detour.from,
                               .length = detour.length,
                               .site = place,
                               .proof = site->proof};
    if (!is_within(plan, ret->address, ret->length) || !original_of(site, ret) ||
        mask_tracee_read(plan->tracee, ret->address, jump, JUMP_BYTES, NULL) < 0 ||
        jump[0] != JUMP_CODE)
        return false;
    memcpy(&distance, jump + 1, sizeof(distance));
    ret->stub = ret->address + JUMP_BYTES + (uint64_t)(int64_t)distance;
    const struct mask_one_island *island = mask_islands_at(&plan->process->islands, ret->stub);
    if (!island ||
        mask_detour_write(site, &detour, place - site->address, ret->stub,
                          mask_island_routine_at(island), stub, &length, bytes, NULL) < 0)
        return false;
    memcpy(ret->bytes, bytes, ret->length);
    return same_memory(plan, ret->address, ret->bytes, ret->length) &&
           same_memory(plan, ret->stub, stub, length);
}

static bool is_trapped(const struct plan *plan, const struct mask_site *site, uint64_t place,
                       struct mask_patch *ret)
{
    static const uint8_t trap[] = {TRAP_HLT, TRAP_NOP};
    *ret = (struct mask_patch){.address = place,
                               .length = site->length,
                               .site = place,
                               .proof = site->proof,
                               .trap = true};
    return site->length == sizeof(trap) && is_within(plan, place, sizeof(trap)) &&
           same_memory(plan, place, trap, sizeof(trap)) && original_of(site, ret);
}

static int recognise_site(struct plan *plan, const struct mask_site *site, uint64_t place,
                          struct error *err)
{
    struct mask_patch patch;
    if (patch_in(plan->process, place, place + site->length))
        return 0;
    if (is_detoured(plan, site, place, &patch))
        return keep_patch(plan->process, &patch, err);
    if (!is_trapped(plan, site, place, &patch))
        return 0;
    /* Which stub was a trap's is not to be seen; it gets another one. */
    const struct mask_detour none = {.from = 0, .length = site->length};
    if (make_stub(plan, site, place, &none, &patch, err) < 0)
        return -1;
    return put(plan, &patch, true, err);
}

/* All of them before one is looked at closer, since each is beside others. */
static int recognise_sites(struct plan *plan, struct error *err)
{
    const struct mask_sites *sites = plan->mapped.sites;
    for (size_t i = 0; i < sites->count; i++) {
        const struct mask_site *site = &sites->sites[i];
        uint64_t place =
            mask_mapped_place(&plan->mapped, plan->mapping, site->address, site->offset);
        if (place && !plan->mapping->shared && recognise_site(plan, site, place, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- sites */

static int cover_site(struct plan *plan, const struct mask_site *site, uint64_t place,
                      struct error *err)
{
    struct mask_process *process = plan->process;
    struct mask_patch *there = patch_in(process, place, place + site->length);
    if (there && there->site == place)
        return is_in_force(plan, there) ? 0 : put(plan, there, false, err);
    if (there || !is_within(plan, place, site->length) || !is_as_found(plan, site, place)) {
        note_lack(process, place, MASK_LACK_CHANGED, MASK_HINDRANCE_NONE);
        return 0;
    }
    struct mask_detour detour;
    enum mask_hindrance hindrance = choose(plan, site, place, &detour);
    if (hindrance != MASK_HINDRANCE_NONE && !process->options.traps) {
        note_lack(process, place, MASK_LACK_HINDERED, hindrance);
        return 0;
    }
    bool trap = hindrance != MASK_HINDRANCE_NONE;
    if (trap)
        detour = (struct mask_detour){.from = 0, .length = site->length};
    struct mask_patch patch = {.address = place + (uint64_t)(int64_t)detour.from,
                               .length = detour.length,
                               .site = place,
                               .proof = site->proof,
                               .trap = trap};
    if (read_near(plan, patch.address, patch.original, patch.length, err) < 0 ||
        make_stub(plan, site, place, &detour, &patch, err) < 0)
        return -1;
    if (process->is_late)
        note_lack(process, place, MASK_LACK_GAP, MASK_HINDRANCE_NONE);
    return put(plan, &patch, true, err);
}

static void note_doubts(const struct plan *plan)
{
    const struct mask_sites *sites = plan->mapped.sites;
    for (size_t i = 0; i < sites->rest_count; i++) {
        uint64_t place = mask_mapped_place(&plan->mapped, plan->mapping, sites->rest[i].address,
                                           sites->rest[i].offset);
        if (place && !mask_doubt_is_harmless(sites->rest[i].doubt))
            note_lack(plan->process, place, MASK_LACK_DOUBTFUL, MASK_HINDRANCE_NONE);
    }
}

static int cover_sites(struct plan *plan, struct error *err)
{
    const struct mask_sites *sites = plan->mapped.sites;
    drop_stale(plan);
    if (plan->process->is_late && recognise_sites(plan, err) < 0)
        return -1;
    for (size_t i = 0; i < sites->count; i++) {
        const struct mask_site *site = &sites->sites[i];
        uint64_t place =
            mask_mapped_place(&plan->mapped, plan->mapping, site->address, site->offset);
        if (!place)
            continue;
        if (plan->mapping->shared)
            note_lack(plan->process, place, MASK_LACK_SHARED, MASK_HINDRANCE_NONE);
        else if (cover_site(plan, site, place, err) < 0)
            return -1;
    }
    note_doubts(plan);
    return write_all(plan, err);
}

/* The bytes as they were; the latest first. What cannot be written any more is no longer there. */
static void undo(struct plan *plan)
{
    while (plan->written_count) {
        const struct written *w = &plan->written[--plan->written_count];
        if (plan->written_count < plan->in_force)
            mask_tracee_write(plan->tracee, w->patch.address, w->patch.original, w->patch.length,
                              NULL);
        if (w->is_new)
            drop_patch(plan->process, first_behind(plan->process, w->patch.address));
    }
}

static int cover_mapping(struct mask_process *process, struct mask_tracee *tracee,
                         const struct mask_maps *maps, const struct mask_mapping *mapping,
                         struct error *err)
{
    struct plan plan = {.process = process,
                        .tracee = tracee,
                        .maps = maps->whole ? maps : NULL,
                        .mapping = mapping};
    if (mask_mapped_find(tracee, mapping, process->options.cache_folder, &plan.mapped, err) < 0)
        return -1;
    forget_lacks(process, mapping->start, mapping->end);
    if (mapping->writable)
        note_lack(process, mapping->start, MASK_LACK_WRITABLE, MASK_HINDRANCE_NONE);
    int rc = 0;
    if (!plan.mapped.sites) {
        note_lack(process, mapping->start, MASK_LACK_UNREADABLE, MASK_HINDRANCE_NONE);
    } else {
        struct mask_islands before = process->islands;
        rc = cover_sites(&plan, err);
        if (rc < 0) {
            undo(&plan);
            mask_islands_undo(&process->islands, tracee, &before);
        }
    }
    free(plan.near);
    free(plan.stubs);
    free(plan.written);
    mask_mapped_done(&plan.mapped);
    return rc;
}

/* ---- all of them */

/* The kernel's own page at the end of the address space, which holds no CPUID. */
static bool is_kernels(const struct mask_mapping *mapping)
{
    return strcmp(mapping->name, "[vsyscall]") == 0;
}

static bool is_island(const struct mask_process *process, const struct mask_mapping *mapping)
{
    for (size_t i = 0; i < process->islands.count; i++)
        if (mapping->start == mask_island_routine_at(&process->islands.islands[i]))
            return true;
    return false;
}

int mask_process_cover(struct mask_process *process, struct mask_tracee *tracee, uint64_t from,
                       uint64_t to, struct error *err)
{
    AUTO(mask_maps) maps = NULL;
    int rc = from == 0 && to == UINT64_MAX ? mask_maps_read(tracee->tid, &maps, err)
                                           : mask_maps_read_code(tracee->tid, from, to, &maps, err);
    if (rc < 0)
        return -1;
    mask_islands_check(&process->islands, tracee);
    for (size_t i = 0; i < maps->count; i++) {
        const struct mask_mapping *mapping = &maps->mappings[i];
        if (!mapping->executable || mapping->start >= to || mapping->end <= from ||
            is_kernels(mapping) || is_island(process, mapping))
            continue;
        if (cover_mapping(process, tracee, maps, mapping, err) < 0)
            return error_wrap(err, "masking %s at 0x%llx of process %d",
                              *mapping->name ? mapping->name : "memory",
                              (unsigned long long)mapping->start, tracee->tid);
    }
    return 0;
}

int mask_process_recover(struct mask_process *process, struct mask_tracee *tracee,
                         struct error *err)
{
    AUTO(mask_maps) maps = NULL;
    if (mask_maps_read(tracee->tid, &maps, err) < 0 ||
        mask_islands_find(&process->islands, tracee, maps, err) < 0)
        return -1;
    process->is_late = true;
    int rc = mask_process_cover(process, tracee, 0, UINT64_MAX, err);
    process->is_late = false;
    return rc;
}

int mask_process_replace_table(struct mask_process *process, const struct mask_tracee *tracee,
                               const struct mask_island_table *table, struct error *err)
{
    mask_islands_check(&process->islands, tracee);
    if (mask_islands_replace(&process->islands, tracee, table, err) < 0)
        return -1;
    process->options.table = table;
    return 0;
}

/* ---- telling */

uint64_t mask_process_trap(const struct mask_process *process, uint64_t address)
{
    const struct mask_patch *patch = patch_in(process, address, address + 1);
    return patch && patch->trap && patch->address == address ? patch->stub : 0;
}

bool mask_process_splits(const struct mask_process *process, uint64_t address)
{
    const struct mask_patch *patch = patch_in(process, address, address + 1);
    return patch && patch->address != address;
}

const struct mask_patch *mask_process_patches(const struct mask_process *process, size_t *ret)
{
    *ret = process->patch_count;
    return process->patches;
}

const struct mask_uncovered *mask_process_uncovered(const struct mask_process *process, size_t *ret)
{
    *ret = process->uncovered_count;
    return process->uncovered;
}

struct mask_coverage mask_process_coverage(const struct mask_process *process)
{
    struct mask_coverage coverage = {0};
    for (size_t i = 0; i < process->patch_count; i++)
        if (process->patches[i].trap)
            coverage.traps++;
        else
            coverage.detours++;
    memcpy(coverage.lacks, process->lacks, sizeof(coverage.lacks));
    return coverage;
}
