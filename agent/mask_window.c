/* SPDX-License-Identifier: Apache-2.0 */
/* mask_window.c - what lies around a site, and where branches lead in it. */
#include "mask_window.h"

#include <string.h>

#include "cleanup.h"

#define CHUNK_BYTES 262144
#define FAR_BYTES   6 /* 0f 8x and the distance: the longest branch that is looked for */

/* ---- taking it from a function */

static size_t window_start(const struct mask_flow *flow, size_t at)
{
    for (size_t here = at;;) {
        size_t before = mask_flow_previous(flow, here);
        if (before == here || at - before > MASK_WINDOW_REACH)
            return here;
        here = before;
    }
}

/* Reads on from the site: behind it the instructions are in step with it, whatever the function's
 * own reading was. */
static size_t window_end(const struct mask_flow *flow, size_t at, size_t length)
{
    struct instruction in;
    size_t here = at + length;
    while (here < at + length + MASK_WINDOW_REACH && here < flow->size &&
           instruction_decode(flow->bytes + here, flow->size - here, flow->start + here, &in))
        here += in.length;
    return here;
}

void mask_window_take(const struct mask_flow *flow, size_t at, struct mask_site *site)
{
    size_t start = window_start(flow, at), end = window_end(flow, at, site->length);
    site->bytes_at = (int8_t)((int)start - (int)at);
    site->byte_count = (uint8_t)(end - start);
    memcpy(site->bytes, flow->bytes + start, end - start);
    site->targets = 0;
    for (size_t i = 0; i < end - start; i++)
        if (flow->landing[start + i])
            site->targets |= 1ULL << i;
}

/* ---- branches from elsewhere */

/* The first site whose window ends behind the address. */
static size_t first_behind(const struct mask_site *sites, size_t count, uint64_t address)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct mask_site *s = &sites[middle];
        if (s->address + (uint64_t)(int64_t)s->bytes_at + s->byte_count <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void mark(struct mask_site *sites, size_t count, uint64_t address)
{
    /* Windows of neighbours overlap. */
    for (size_t i = first_behind(sites, count, address); i < count; i++) {
        uint64_t start = sites[i].address + (uint64_t)(int64_t)sites[i].bytes_at;
        if (address < start)
            return;
        sites[i].targets |= 1ULL << (address - start);
    }
}

/* Where a branch that begins at `b` leads; false when none does. */
static inline bool far_target(const uint8_t *b, uint64_t address, uint64_t *ret)
{
    int32_t distance;
    size_t at;
    if ((b[0] & 0xfe) == 0xe8) /* call, jmp */
        at = 1;
    else if (b[0] == 0x0f && (b[1] & 0xf0) == 0x80) /* jcc */
        at = 2;
    else
        return false;
    memcpy(&distance, b + at, sizeof(distance));
    *ret = address + at + sizeof(distance) + (uint64_t)(int64_t)distance;
    return true;
}

static void mark_from(const uint8_t *bytes, size_t length, uint64_t address,
                      struct mask_site *sites, size_t count)
{
    const struct mask_site *last = &sites[count - 1];
    uint64_t low = sites[0].address + (uint64_t)(int64_t)sites[0].bytes_at;
    uint64_t span = last->address + last->byte_count - low, target;
    for (size_t i = 0; i < length; i++)
        if (far_target(bytes + i, address + i, &target) && target - low < span)
            mark(sites, count, target);
}

void mask_window_mark_far(const struct elf_image *image, struct mask_site *sites, size_t count)
{
    if (count == 0)
        return;
    autofree uint8_t *chunk = xmalloc(CHUNK_BYTES + FAR_BYTES);
    for (size_t i = 0; i < image->segment_count; i++) {
        const struct elf_segment *s = &image->segments[i];
        for (uint64_t done = 0; s->executable && done < s->size; done += CHUNK_BYTES) {
            uint64_t left = s->size - done;
            size_t here = left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES;
            size_t wanted = left < CHUNK_BYTES + FAR_BYTES ? (size_t)left : CHUNK_BYTES + FAR_BYTES;
            memset(chunk + wanted, 0, CHUNK_BYTES + FAR_BYTES - wanted);
            if (elf_image_read(image, s->address + done, chunk, wanted) < 0)
                break;
            mark_from(chunk, here, s->address + done, sites, count);
        }
    }
}

/* ---- telling */

size_t mask_site_window(const struct mask_site *site, struct mask_instruction *ret,
                        size_t *ret_self)
{
    size_t count = 0, here = 0, self = SIZE_MAX, own = (size_t) - (int)site->bytes_at;
    while (here < site->byte_count && count < MASK_WINDOW_INSTRUCTIONS_MAX) {
        struct mask_instruction *m = &ret[count];
        *m = (struct mask_instruction){.at = (int8_t)((int)here - (int)own)};
        if (!instruction_decode(site->bytes + here, site->byte_count - here,
                                site->address + here - own, &m->in))
            return 0;
        m->is_target = site->targets >> here & 1;
        for (size_t i = 1; i < m->in.length; i++)
            m->is_split |= site->targets >> (here + i) & 1;
        if (here == own && m->in.is_cpuid && m->in.length == site->length)
            self = count;
        here += m->in.length;
        count++;
    }
    if (self == SIZE_MAX || here != site->byte_count)
        return 0;
    *ret_self = self;
    return count;
}
