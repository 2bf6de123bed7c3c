/* SPDX-License-Identifier: Apache-2.0 */
/* mask_sites.c - candidates, and one proof after the other until one decides. */
#include "mask_sites.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "elf_functions.h"
#include "mask_flow.h"
#include "mask_neighbourhood.h"
#include "mask_window.h"

#define CHUNK_BYTES       262144
#define FIRST_BYTE        0x0f
#define SECOND_BYTE       0xa2
#define CANDIDATE_BYTES   2
#define READ_BYTES_MAX    (256ULL << 20) /* of functions, before a file is given up */
#define UNSIZED_BYTES_MAX 65536          /* of a function of unknown length */
#define AROUND_BYTES      256            /* on either side, for the neighbourhood rule */

const char *mask_proof_name(enum mask_proof proof)
{
    static const char *const names[] = {
#define X(name, wire, meaning) wire,
        MASK_PROOFS(X)
#undef X
    };
    return names[proof];
}

#define X(name, wire, harmless, meaning) {wire, meaning, harmless},
static const struct {
    const char *name, *meaning;
    bool is_harmless;
} doubts[] = {MASK_DOUBTS(X)};
#undef X

const char *mask_doubt_name(enum mask_doubt doubt)
{
    return doubts[doubt].name;
}

const char *mask_doubt_meaning(enum mask_doubt doubt)
{
    return doubts[doubt].meaning;
}

bool mask_doubt_is_harmless(enum mask_doubt doubt)
{
    return doubts[doubt].is_harmless;
}

/* ---- what is under way */

enum state {
    OPEN,    /* nothing covers it */
    COVERED, /* a function covers it, and could not decide */
    SITE,
    REST,
};

struct candidate {
    uint64_t address; /* of the byte 0f */
    enum state state;
    enum mask_doubt doubt;
};

struct finder {
    const struct elf_image *image;
    struct candidate *candidates; /* owned; in rising order */
    size_t count, room;
    struct mask_site *sites; /* owned */
    size_t site_count, site_room;
    /* The function that was taken apart last: its neighbours often lie in it. */
    struct mask_flow flow; /* size 0: none */
    uint64_t entry;
    uint64_t bytes_left; /* of functions that may still be read */
};

static void set_doubt(struct candidate *c, enum mask_doubt doubt)
{
    c->doubt = doubt;
    c->state = mask_doubt_is_harmless(doubt) ? REST : COVERED;
}

/* The function's two readings; NULL with the reason. */
static const struct mask_flow *open_flow(struct finder *f, struct elf_range range, uint64_t entry,
                                         enum mask_doubt *ret_doubt)
{
    if (f->flow.size && f->flow.start == range.start && f->entry == entry &&
        f->flow.size == range.end - range.start)
        return &f->flow;
    uint64_t bytes = range.end - range.start;
    if (bytes > MASK_FUNCTION_BYTES_MAX || bytes > f->bytes_left) {
        *ret_doubt = bytes > MASK_FUNCTION_BYTES_MAX ? MASK_DOUBT_TOO_LONG : MASK_DOUBT_BUDGET;
        return NULL;
    }
    mask_flow_done(&f->flow);
    f->bytes_left -= bytes;
    f->entry = entry;
    *ret_doubt = MASK_DOUBT_UNREADABLE;
    return mask_flow_open(f->image, range, entry, &f->flow) < 0 ? NULL : &f->flow;
}

static void add_site(struct finder *f, struct candidate *c, const struct mask_flow *flow,
                     size_t start, enum mask_proof proof)
{
    if (f->site_count == f->site_room) {
        f->site_room = f->site_room ? 2 * f->site_room : 16;
        f->sites = xrealloc(f->sites, f->site_room * sizeof(*f->sites));
    }
    struct mask_site *site = &f->sites[f->site_count++];
    *site = (struct mask_site){
        .address = flow->start + start,
        .offset = elf_image_offset(f->image, flow->start + start),
        .function_start = flow->start,
        .function_end = flow->start + flow->size,
        .proof = proof,
        .length = (uint8_t)(c->address + CANDIDATE_BYTES - (flow->start + start)),
        .unknown_targets = flow->unknown_targets || proof == MASK_PROOF_NEIGHBOURHOOD,
    };
    mask_window_take(flow, start, site);
    c->state = SITE;
}

/* What a function says. `whole`: its length is known, so that it may be read from end to end;
 * otherwise only what branches lead to counts. */
static void judge(struct finder *f, struct candidate *c, struct elf_range range, uint64_t entry,
                  bool whole, enum mask_proof proof)
{
    enum mask_doubt doubt = MASK_DOUBT_UNREADABLE;
    size_t start = 0;
    if (c->address + CANDIDATE_BYTES > range.end)
        return;
    const struct mask_flow *flow = open_flow(f, range, entry, &doubt);
    if (!flow) {
        set_doubt(c, doubt);
        return;
    }
    size_t at = (size_t)(c->address - range.start);
    switch (whole ? mask_flow_judge(flow, at, &start) : mask_flow_judge_reached(flow, at, &start)) {
    case MASK_IS_CPUID:
        add_site(f, c, flow, start, proof);
        break;
    case MASK_IS_INSIDE:
        set_doubt(c, MASK_DOUBT_INSIDE);
        break;
    case MASK_IS_CONTRADICTED:
        set_doubt(c, MASK_DOUBT_CONTRADICTED);
        break;
    case MASK_IS_NOT_REACHED:
        if (whole) /* else it may lie behind the function */
            set_doubt(c, MASK_DOUBT_NOT_REACHED);
        break;
    case MASK_IS_UNREADABLE:
        set_doubt(c, MASK_DOUBT_UNREADABLE);
        break;
    }
}

/* ---- the proofs */

static void by_frame(struct finder *f, const struct elf_frames *frames, struct candidate *c)
{
    struct elf_range range;
    if (elf_frames_find(frames, c->address, &range))
        judge(f, c, range, range.start, true, MASK_PROOF_FDE);
}

static void by_go(struct finder *f, const struct elf_go_functions *functions, struct candidate *c)
{
    struct elf_range range;
    if (elf_go_find(functions, c->address, &range))
        judge(f, c, range, range.start, true, MASK_PROOF_GO);
}

static bool holds(struct elf_range range, uint64_t address)
{
    return address >= range.start && address < range.end;
}

static void by_symbol(struct finder *f, struct candidate *c, const struct elf_around *around)
{
    struct elf_range range = around->any_function;
    if (holds(around->object, c->address) && around->object.start >= around->function.start) {
        set_doubt(c, MASK_DOUBT_OBJECT);
    } else if (c->state == OPEN && around->in_data_section) {
        set_doubt(c, MASK_DOUBT_DATA_SECTION);
    } else if (holds(around->function, c->address)) {
        judge(f, c, around->function, around->function.start, true, MASK_PROOF_SYMBOL);
    } else if (range.start && c->state == OPEN) {
        /* Written by hand, without a size: it may go on up to the next symbol. */
        uint64_t left = elf_image_left(f->image, range.start);
        range.end = around->next - range.start < left ? around->next : range.start + left;
        if (range.end - range.start > UNSIZED_BYTES_MAX)
            range.end = range.start + UNSIZED_BYTES_MAX;
        judge(f, c, range, range.start, false, MASK_PROOF_SYMBOL);
    }
}

/* From where execution was seen, in code that no file describes. */
static void by_entry(struct finder *f, struct candidate *c)
{
    uint64_t entry = f->image->entry;
    const struct elf_segment *s = elf_image_segment(f->image, entry);
    if (!entry || !s)
        return;
    struct elf_range range = {s->address, s->address + s->size};
    if (entry - range.start > MASK_FUNCTION_BYTES_MAX / 2)
        range.start = entry - MASK_FUNCTION_BYTES_MAX / 2;
    if (range.end - range.start > MASK_FUNCTION_BYTES_MAX)
        range.end = range.start + MASK_FUNCTION_BYTES_MAX;
    if (holds(range, c->address))
        judge(f, c, range, entry, false, MASK_PROOF_ENTRY);
}

static void by_neighbourhood(struct finder *f, struct candidate *c)
{
    uint8_t bytes[2 * AROUND_BYTES];
    size_t start = 0, first = 0, end = 0;
    enum mask_doubt doubt = MASK_DOUBT_UNREADABLE;
    const struct elf_segment *s = elf_image_segment(f->image, c->address);
    uint64_t before = c->address - s->address;
    size_t at = before < AROUND_BYTES ? (size_t)before : AROUND_BYTES;
    uint64_t from = c->address - at, left = elf_image_left(f->image, from);
    size_t size = left < sizeof(bytes) ? (size_t)left : sizeof(bytes);
    if (elf_image_read(f->image, from, bytes, size) < 0) {
        set_doubt(c, doubt);
        return;
    }
    switch (mask_neighbourhood_judge(bytes, size, at, &start, &first, &end)) {
    case MASK_AROUND_IS_UNLIKE_CODE:
        set_doubt(c, MASK_DOUBT_UNLIKE_CODE);
        return;
    case MASK_AROUND_IS_OTHER_CODE:
        set_doubt(c, MASK_DOUBT_INSIDE);
        return;
    case MASK_AROUND_IS_CUT:
        set_doubt(c, MASK_DOUBT_CUT);
        return;
    case MASK_AROUND_IS_CODE:
        break;
    }
    const struct elf_range range = {from + first, from + end};
    const struct mask_flow *flow = open_flow(f, range, range.start, &doubt);
    if (flow)
        add_site(f, c, flow, start - first, MASK_PROOF_NEIGHBOURHOOD);
    else
        set_doubt(c, doubt);
}

/* ---- all of them */

static int add_candidate(struct finder *f, uint64_t address, struct error *err)
{
    if (f->count == MASK_CANDIDATES_MAX)
        return error_set(err, ERROR_TOO_LARGE,
                         "the code holds the bytes of CPUID more than %d times, as no program's "
                         "does",
                         MASK_CANDIDATES_MAX);
    if (f->count == f->room) {
        f->room = f->room ? 2 * f->room : 64;
        f->candidates = xrealloc(f->candidates, f->room * sizeof(*f->candidates));
    }
    f->candidates[f->count++] = (struct candidate){.address = address};
    return 0;
}

/* a2 is much rarer in code than 0f. */
static int scan_bytes(struct finder *f, const uint8_t *bytes, size_t length, uint64_t address,
                      struct error *err)
{
    for (const uint8_t *p = bytes + 1, *end = bytes + length;
         p < end && (p = memchr(p, SECOND_BYTE, (size_t)(end - p))); p++)
        if (p[-1] == FIRST_BYTE && add_candidate(f, address + (size_t)(p - 1 - bytes), err) < 0)
            return -1;
    return 0;
}

static int scan_segment(struct finder *f, const struct elf_segment *s, uint8_t *chunk,
                        struct error *err)
{
    for (uint64_t done = 0; done < s->size; done += CHUNK_BYTES) {
        uint64_t left = s->size - done; /* one byte more: a pair may lie across */
        size_t length = left < CHUNK_BYTES + 1 ? (size_t)left : CHUNK_BYTES + 1;
        if (elf_image_read(f->image, s->address + done, chunk, length) < 0)
            return error_set(err, ERROR_FAILED, "code at 0x%" PRIx64 " cannot be read",
                             s->address + done);
        if (scan_bytes(f, chunk, length, s->address + done, err) < 0)
            return -1;
    }
    return 0;
}

static int by_address(const void *a, const void *b)
{
    uint64_t x = ((const struct candidate *)a)->address, y = ((const struct candidate *)b)->address;
    return x < y ? -1 : x > y;
}

static int scan(struct finder *f, struct error *err)
{
    autofree uint8_t *chunk = xmalloc(CHUNK_BYTES + 1);
    for (size_t i = 0; i < f->image->segment_count; i++)
        if (f->image->segments[i].executable &&
            scan_segment(f, &f->image->segments[i], chunk, err) < 0)
            return -1;
    if (f->count)
        qsort(f->candidates, f->count, sizeof(*f->candidates), by_address);
    size_t kept = 0; /* segments may overlap */
    for (size_t i = 0; i < f->count; i++)
        if (kept == 0 || f->candidates[kept - 1].address != f->candidates[i].address)
            f->candidates[kept++] = f->candidates[i];
    f->count = kept;
    return 0;
}

static bool is_decided(const struct candidate *c)
{
    return c->state == SITE || c->state == REST;
}

static size_t count_undecided(const struct finder *f)
{
    size_t count = 0;
    for (size_t i = 0; i < f->count; i++)
        count += !is_decided(&f->candidates[i]);
    return count;
}

static void ask_go(struct finder *f)
{
    struct elf_go_functions functions;
    if (!count_undecided(f))
        return;
    elf_go_open(f->image, &functions);
    for (size_t i = 0; functions.count && i < f->count; i++)
        if (!is_decided(&f->candidates[i]))
            by_go(f, &functions, &f->candidates[i]);
}

/* Symbol tables are read once, for all that frames did not decide. */
static void ask_symbols(struct finder *f)
{
    size_t count = count_undecided(f);
    if (!count)
        return;
    autofree struct elf_around *around = xcalloc(count, sizeof(*around));
    for (size_t i = 0, k = 0; i < f->count; i++)
        if (!is_decided(&f->candidates[i]))
            around[k++].address = f->candidates[i].address;
    elf_symbols_around(f->image, around, count);
    for (size_t i = 0, k = 0; i < f->count; i++)
        if (!is_decided(&f->candidates[i]))
            by_symbol(f, &f->candidates[i], &around[k++]);
}

static void prove(struct finder *f)
{
    struct elf_frames frames;
    if (!f->count)
        return;
    elf_frames_open(f->image, &frames);
    for (size_t i = 0; i < f->count; i++)
        by_frame(f, &frames, &f->candidates[i]);
    elf_frames_done(&frames);
    ask_go(f);
    ask_symbols(f);
    for (size_t i = 0; i < f->count; i++)
        if (f->candidates[i].state == OPEN)
            by_entry(f, &f->candidates[i]);
    for (size_t i = 0; i < f->count; i++)
        if (f->candidates[i].state == OPEN)
            by_neighbourhood(f, &f->candidates[i]);
}

static int site_by_address(const void *a, const void *b)
{
    uint64_t x = ((const struct mask_site *)a)->address, y = ((const struct mask_site *)b)->address;
    return x < y ? -1 : x > y;
}

static struct mask_sites *result(struct finder *f)
{
    struct mask_sites *ret = xcalloc(1, sizeof(*ret));
    if (f->site_count)
        qsort(f->sites, f->site_count, sizeof(*f->sites), site_by_address);
    mask_window_mark_far(f->image, f->sites, f->site_count);
    ret->count = f->site_count;
    ret->sites = steal_ptr(&f->sites);
    ret->rest = xcalloc(f->count + 1, sizeof(*ret->rest));
    for (size_t i = 0; i < f->count; i++) {
        const struct candidate *c = &f->candidates[i];
        if (c->state == SITE)
            continue;
        ret->rest[ret->rest_count++] =
            (struct mask_candidate){c->address, elf_image_offset(f->image, c->address), c->doubt};
        ret->doubts[c->doubt]++;
    }
    return ret;
}

int mask_sites_find(const struct elf_image *image, struct mask_sites **ret, struct error *err)
{
    struct finder finder = {.image = image, .bytes_left = READ_BYTES_MAX};
    int status = scan(&finder, err);
    if (status == 0) {
        prove(&finder);
        *ret = result(&finder);
    }
    mask_flow_done(&finder.flow);
    free(finder.candidates);
    free(finder.sites);
    return status;
}

void mask_sites_free(struct mask_sites *sites)
{
    if (!sites)
        return;
    free(sites->sites);
    free(sites->rest);
    free(sites);
}

size_t mask_sites_doubtful(const struct mask_sites *sites)
{
    size_t count = 0;
    for (unsigned i = 0; i < MASK_DOUBT_COUNT; i++)
        count += mask_doubt_is_harmless((enum mask_doubt)i) ? 0 : sites->doubts[i];
    return count;
}
