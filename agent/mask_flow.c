/* SPDX-License-Identifier: Apache-2.0 */
/* mask_flow.c - the two readings of a function, and what they say of a candidate. */
#include "mask_flow.h"

#include <string.h>

#include "cleanup.h"
#include "disassembly.h"
#include "error.h"

#define TABLES_MAX  256  /* addresses in a function that may be jump tables */
#define ENTRIES_MAX 4096 /* of one of them */
#define USE_BEFORE  16   /* instructions in which eax is set before a CPUID */
#define USE_BEHIND  24   /* and in which a result is read */

/* ---- following branches */

struct walk {
    const struct elf_image *image;
    struct mask_flow *flow;
    size_t *pending; /* owned; starts of paths */
    size_t pending_count, pending_room;
    struct {
        uint64_t address;
        bool of_pointers; /* else of 32-bit distances from the table */
    } tables[TABLES_MAX];
    size_t table_count;
    bool computed, resolved; /* it jumps to computed addresses; a table told some */
};

static bool is_within(const struct mask_flow *flow, uint64_t address)
{
    return address >= flow->start && address - flow->start < flow->size;
}

static void note_pending(struct walk *walk, uint64_t address)
{
    size_t at = (size_t)(address - walk->flow->start);
    if (!is_within(walk->flow, address) || walk->flow->reached[at])
        return;
    if (walk->pending_count == walk->pending_room) {
        walk->pending_room = walk->pending_room ? 2 * walk->pending_room : 64;
        walk->pending = xrealloc(walk->pending, walk->pending_room * sizeof(*walk->pending));
    }
    walk->pending[walk->pending_count++] = at;
}

static void note_landing(struct mask_flow *flow, uint64_t address)
{
    if (is_within(flow, address))
        flow->landing[address - flow->start] = 1;
}

static void note_table(struct walk *walk, uint64_t address, bool of_pointers)
{
    for (size_t i = 0; i < walk->table_count; i++)
        if (walk->tables[i].address == address && walk->tables[i].of_pointers == of_pointers)
            return;
    if (walk->table_count < TABLES_MAX) {
        walk->tables[walk->table_count].address = address;
        walk->tables[walk->table_count++].of_pointers = of_pointers;
    }
}

/* Where an instruction's own bytes point to. */
static void note_operands(struct walk *walk, const struct instruction *in)
{
    if (in->relative_size)
        note_landing(walk->flow, in->relative);
    if (in->relative_size && in->flow == INSTRUCTION_NEXT)
        note_table(walk, in->relative, false);
    if (in->table)
        note_table(walk, in->table, true);
}

/* Where the path goes on behind an instruction; false when it ends there. */
static bool follow(struct walk *walk, const struct instruction *in, uint64_t next)
{
    switch (in->flow) {
    case INSTRUCTION_NEXT:
    case INSTRUCTION_CALL_COMPUTED:
        return true;
    case INSTRUCTION_CALL:
        note_pending(walk, in->relative);
        /* A call a little ahead in the same function may only step over data. */
        return !is_within(walk->flow, in->relative) || in->relative <= next;
    case INSTRUCTION_BRANCH:
        note_pending(walk, in->relative);
        return true;
    case INSTRUCTION_JUMP:
        note_pending(walk, in->relative);
        return false;
    case INSTRUCTION_JUMP_COMPUTED:
        walk->computed = true;
        return false;
    case INSTRUCTION_STOP:
        return false;
    }
    return false;
}

static void walk_path(struct walk *walk, size_t at)
{
    struct mask_flow *flow = walk->flow;
    struct instruction in;
    while (at < flow->size && !flow->reached[at] &&
           instruction_decode(flow->bytes + at, flow->size - at, flow->start + at, &in)) {
        flow->reached[at] = in.length;
        at += in.length;
        note_operands(walk, &in);
        if (!follow(walk, &in, flow->start + at))
            return;
    }
}

static void walk_pending(struct walk *walk)
{
    while (walk->pending_count)
        walk_path(walk, walk->pending[--walk->pending_count]);
}

/* Whether a jump may lead there: to an instruction, as far as the function was read on. */
static bool is_instruction(const struct mask_flow *flow, uint64_t address)
{
    if (!is_within(flow, address))
        return false;
    size_t at = (size_t)(address - flow->start);
    return at >= flow->clean || flow->linear[at];
}

static bool is_other_table(const struct walk *walk, size_t self, uint64_t address)
{
    for (size_t i = 0; i < walk->table_count; i++)
        if (i != self && walk->tables[i].address == address)
            return true;
    return false;
}

/* Entries up to the next table or the first that leads nowhere. One entry too many makes one
 * instruction look like a target that is none. */
static void take_jump_table(struct walk *walk, size_t index)
{
    const struct elf_image *image = walk->image;
    uint64_t table = walk->tables[index].address, here = table;
    bool of_pointers = walk->tables[index].of_pointers;
    for (unsigned i = 0; i < ENTRIES_MAX; i++, here += of_pointers ? 8 : 4) {
        int32_t distance = 0;
        uint64_t target = 0;
        if ((i && is_other_table(walk, index, here)) ||
            (of_pointers ? elf_image_read(image, here, &target, sizeof(target))
                         : elf_image_read(image, here, &distance, sizeof(distance))) < 0)
            return;
        target = of_pointers ? target - image->bias : table + (uint64_t)(int64_t)distance;
        if (!is_instruction(walk->flow, target))
            return;
        walk->resolved = true;
        note_landing(walk->flow, target);
        note_pending(walk, target);
    }
}

/* ---- reading on */

/* Tables are noted here already, so that all are known before one is read. */
static void read_on(struct walk *walk)
{
    struct mask_flow *flow = walk->flow;
    struct instruction in;
    while (flow->clean < flow->size &&
           instruction_decode(flow->bytes + flow->clean, flow->size - flow->clean,
                              flow->start + flow->clean, &in)) {
        flow->linear[flow->clean] = in.length;
        flow->clean += in.length;
        note_operands(walk, &in);
    }
}

static void walk_all(struct walk *walk, uint64_t entry)
{
    note_pending(walk, entry);
    walk_pending(walk);
    for (size_t i = 0; walk->computed && i < walk->table_count; i++) {
        take_jump_table(walk, i);
        walk_pending(walk); /* may find more tables */
    }
    walk->flow->unknown_targets = walk->computed && !walk->resolved;
    free(walk->pending);
}

int mask_flow_open(const struct elf_image *image, struct elf_range range, uint64_t entry,
                   struct mask_flow *ret)
{
    if (range.end <= range.start || range.end - range.start > MASK_FUNCTION_BYTES_MAX)
        return -1;
    size_t size = (size_t)(range.end - range.start);
    struct mask_flow flow = {.start = range.start, .size = size, .bytes = xmalloc(size)};
    if (elf_image_read(image, range.start, flow.bytes, size) < 0) {
        free(flow.bytes);
        return -1;
    }
    flow.linear = xcalloc(size, 1);
    flow.reached = xcalloc(size, 1);
    flow.landing = xcalloc(size, 1);
    struct walk walk = {.image = image, .flow = &flow};
    if (entry == range.start)
        read_on(&walk);
    walk_all(&walk, entry);
    *ret = flow;
    return 0;
}

void mask_flow_done(struct mask_flow *flow)
{
    free(flow->bytes);
    free(flow->linear);
    free(flow->reached);
    free(flow->landing);
    *flow = (struct mask_flow){0};
}

/* ---- judging */

enum reading {
    READ_NOTHING, /* no instruction of this reading covers the bytes */
    READ_CPUID,
    READ_OTHER,
    READ_SEVERAL, /* instructions that overlap */
};

static bool is_cpuid(const struct mask_flow *flow, size_t start)
{
    struct instruction in;
    return instruction_decode(flow->bytes + start, flow->size - start, flow->start + start, &in) &&
           in.is_cpuid;
}

/* What the reading makes of the two bytes from `at`. */
static enum reading reading_of(const struct mask_flow *flow, const uint8_t *lengths, size_t at,
                               size_t *ret_start)
{
    enum reading reading = READ_NOTHING;
    size_t from = at > INSTRUCTION_BYTES_MAX ? at - INSTRUCTION_BYTES_MAX : 0;
    for (size_t start = from; start <= at + 1; start++) {
        if (!lengths[start] || start + lengths[start] <= at)
            continue;
        if (reading != READ_NOTHING)
            return READ_SEVERAL;
        reading = READ_OTHER;
        if (start <= at && start + lengths[start] == at + 2 && is_cpuid(flow, start)) {
            reading = READ_CPUID;
            *ret_start = start;
        }
    }
    return reading;
}

size_t mask_flow_previous(const struct mask_flow *flow, size_t at)
{
    const uint8_t *lengths = flow->reached[at] ? flow->reached : flow->linear;
    for (size_t n = 1; n <= INSTRUCTION_BYTES_MAX && n <= at; n++)
        if (lengths[at - n] == n)
            return at - n;
    return at;
}

static bool use_at(const struct mask_flow *flow, size_t at, struct instruction *ret,
                   struct instruction_use *ret_use)
{
    return at < flow->size && instruction_decode_use(flow->bytes + at, flow->size - at,
                                                     flow->start + at, ret, ret_use);
}

static bool goes_on(const struct instruction *in)
{
    return in->flow != INSTRUCTION_STOP && in->flow != INSTRUCTION_JUMP &&
           in->flow != INSTRUCTION_JUMP_COMPUTED;
}

/* Whether eax is set shortly before, in a path that goes on up to here. */
static bool has_leaf(const struct mask_flow *flow, size_t start)
{
    struct instruction in;
    struct instruction_use use;
    size_t at = start;
    for (unsigned i = 0; i < USE_BEFORE; i++) {
        size_t before = mask_flow_previous(flow, at);
        if (before == at || !use_at(flow, before, &in, &use) || use.is_unusual || !goes_on(&in) ||
            use.addresses & REGISTER_EAX)
            return false;
        if (use.writes & REGISTER_EAX)
            return true;
        at = before;
    }
    return false;
}

/* Whether shortly behind a result is read or ebx restored: some run CPUID only to put instructions
 * in order. */
static bool has_use(const struct mask_flow *flow, size_t behind)
{
    struct instruction in;
    struct instruction_use use;
    size_t at = behind;
    for (unsigned i = 0; i < USE_BEHIND; i++) {
        if (!use_at(flow, at, &in, &use) || use.is_unusual)
            return false;
        if (use.reads & REGISTERS_OF_CPUID || use.writes & REGISTER_EBX)
            return true;
        if (!goes_on(&in))
            return false;
        at += in.length;
    }
    return false;
}

enum mask_judgement mask_flow_judge_reached(const struct mask_flow *flow, size_t at,
                                            size_t *ret_start)
{
    switch (reading_of(flow, flow->reached, at, ret_start)) {
    case READ_CPUID:
        return MASK_IS_CPUID;
    case READ_OTHER:
        return MASK_IS_INSIDE;
    case READ_SEVERAL:
        return MASK_IS_CONTRADICTED;
    case READ_NOTHING:
        break;
    }
    return MASK_IS_NOT_REACHED;
}

enum mask_judgement mask_flow_judge(const struct mask_flow *flow, size_t at, size_t *ret_start)
{
    size_t start = at;
    enum mask_judgement reached = mask_flow_judge_reached(flow, at, ret_start);
    enum reading linear =
        at + 2 <= flow->clean ? reading_of(flow, flow->linear, at, &start) : READ_NOTHING;
    switch (reached) {
    case MASK_IS_CPUID:
        return linear == READ_OTHER || (linear == READ_CPUID && start != *ret_start)
                   ? MASK_IS_CONTRADICTED
                   : MASK_IS_CPUID;
    case MASK_IS_INSIDE:
        return linear == READ_CPUID ? MASK_IS_CONTRADICTED : MASK_IS_INSIDE;
    case MASK_IS_NOT_REACHED:
        break;
    case MASK_IS_CONTRADICTED:
    case MASK_IS_UNREADABLE:
        return reached;
    }
    /* Computed jumps and the landing places of exceptions lead to more than was followed. */
    *ret_start = start;
    if (linear == READ_NOTHING)
        return MASK_IS_UNREADABLE;
    if (flow->clean < flow->size)
        return MASK_IS_NOT_REACHED;
    if (linear == READ_OTHER)
        return MASK_IS_INSIDE;
    return has_leaf(flow, start) && has_use(flow, at + 2) ? MASK_IS_CPUID : MASK_IS_NOT_REACHED;
}
