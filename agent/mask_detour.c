/* SPDX-License-Identifier: Apache-2.0 */
/* mask_detour.c - which bytes a detour covers, and what is written in their place. */
#include "mask_detour.h"

#include <string.h>

#define JUMP_BYTES 5

/* Opcodes of the Intel SDM, volume 2. */
#define OP_JUMP       0xe9 /* jmp rel32 */
#define OP_JUMP_SHORT 0xeb /* jmp rel8 */
#define OP_CALL       0xe8 /* call rel32 */
#define OP_TWO_BYTES  0x0f
#define OP_BRANCH     0x80 /* 0f 80+cc: jcc rel32 */
#define OP_INT3       0xcc

const char *mask_hindrance_name(enum mask_hindrance hindrance)
{
    static const char *const names[] = {
#define X(name, wire, meaning) wire,
        MASK_HINDRANCES(X)
#undef X
    };
    return names[hindrance];
}

const char *mask_hindrance_meaning(enum mask_hindrance hindrance)
{
    static const char *const meanings[] = {
#define X(name, wire, meaning) meaning,
        MASK_HINDRANCES(X)
#undef X
    };
    return meanings[hindrance];
}

/* ---- which bytes ---- */

/* Whether an instruction means the same elsewhere, once it is re-aimed. What leaves its own address
 * on the stack does not: whoever unwinds from the callee finds no function there. Another CPUID is
 * to have a detour of its own; moved, nobody would find it again. */
static bool can_move(const struct mask_instruction *i)
{
    if (i->is_split || i->in.is_cpuid)
        return false;
    switch (i->in.flow) {
    case INSTRUCTION_NEXT:
    case INSTRUCTION_JUMP_COMPUTED:
    case INSTRUCTION_STOP:
        return i->in.relative_size == 0 || i->in.relative_size == 4;
    case INSTRUCTION_BRANCH:
    case INSTRUCTION_JUMP:
        return !i->in.is_short;
    case INSTRUCTION_CALL:
    case INSTRUCTION_CALL_COMPUTED:
        break;
    }
    return false;
}

/* Nothing runs on behind it, so nothing behind it belongs to it. */
static bool ends_flow(const struct mask_instruction *i)
{
    return i->in.flow == INSTRUCTION_JUMP || i->in.flow == INSTRUCTION_JUMP_COMPUTED ||
           i->in.flow == INSTRUCTION_STOP;
}

/* Tries what begins with instruction `first`. */
static enum mask_hindrance try_from(const struct mask_site *site,
                                    const struct mask_instruction *window, size_t count,
                                    size_t first, size_t self, struct mask_detour *ret)
{
    unsigned length = 0;
    for (size_t i = first; i < count; i++) {
        bool inside = i > first;
        if (inside && window[i].is_target)
            return MASK_HINDRANCE_TARGET;
        if (inside && site->unknown_targets)
            return MASK_HINDRANCE_COMPUTED;
        if (i != self && !can_move(&window[i]))
            return MASK_HINDRANCE_FIXED;
        length += window[i].in.length;
        if (i >= self && length >= JUMP_BYTES) {
            if (length > MASK_DETOUR_BYTES_MAX)
                return MASK_HINDRANCE_FIXED;
            *ret = (struct mask_detour){.from = window[first].at, .length = (uint8_t)length};
            return MASK_HINDRANCE_NONE;
        }
        if (i != self && ends_flow(&window[i]))
            return MASK_HINDRANCE_EDGE; /* what follows may belong to something else */
    }
    return MASK_HINDRANCE_EDGE;
}

enum mask_hindrance mask_detour_plan(const struct mask_site *site, struct mask_detour *ret)
{
    struct mask_instruction window[MASK_WINDOW_INSTRUCTIONS_MAX];
    size_t self = 0, count = mask_site_window(site, window, &self);
    if (count == 0 || window[self].is_split)
        return MASK_HINDRANCE_TARGET;
    enum mask_hindrance forwards = try_from(site, window, count, self, self, ret);
    if (forwards == MASK_HINDRANCE_NONE)
        return forwards;
    for (size_t first = self; first-- > 0;) {
        enum mask_hindrance backwards = try_from(site, window, count, first, self, ret);
        if (backwards == MASK_HINDRANCE_NONE)
            return backwards;
    }
    return forwards;
}

/* ---- what is written ---- */

struct writer {
    uint8_t *bytes; /* MASK_STUB_BYTES_MAX */
    size_t length;
    uint64_t at; /* of bytes[0] in the process */
    bool too_far;
};

static void put(struct writer *w, const void *bytes, size_t length)
{
    if (w->length + length > MASK_STUB_BYTES_MAX) {
        w->too_far = true;
        return;
    }
    memcpy(w->bytes + w->length, bytes, length);
    w->length += length;
}

static int32_t distance(uint64_t from, uint64_t to, bool *too_far)
{
    int64_t d = (int64_t)(to - from);
    if (d < INT32_MIN || d > INT32_MAX)
        *too_far = true;
    return (int32_t)d;
}

/* An opcode and 32 bits that count from behind them. */
static void put_aimed(struct writer *w, const uint8_t *opcode, size_t opcode_length, uint64_t to)
{
    uint64_t behind = w->at + w->length + opcode_length + 4;
    int32_t d = distance(behind, to, &w->too_far);
    put(w, opcode, opcode_length);
    put(w, &d, sizeof(d));
}

/* A branch of any size becomes its long form. */
static void put_branch(struct writer *w, const uint8_t *bytes, const struct instruction *in,
                       uint64_t to)
{
    const uint8_t jump = OP_JUMP;
    if (in->flow == INSTRUCTION_JUMP) {
        put_aimed(w, &jump, 1, to);
        return;
    }
    /* The condition is in the low four bits of the opcode, which stands before the distance. */
    const uint8_t branch[] = {OP_TWO_BYTES,
                              (uint8_t)(OP_BRANCH | (bytes[in->relative_at - 1] & 0x0f))};
    put_aimed(w, branch, sizeof(branch), to);
}

static void put_moved(struct writer *w, const uint8_t *bytes, const struct instruction *in,
                      uint64_t bias)
{
    if (in->relative_size == 0) {
        put(w, bytes, in->length);
        return;
    }
    uint64_t to = in->relative + bias;
    if (in->flow == INSTRUCTION_BRANCH || in->flow == INSTRUCTION_JUMP) {
        put_branch(w, bytes, in, to);
        return;
    }
    uint8_t moved[INSTRUCTION_BYTES_MAX];
    memcpy(moved, bytes, in->length);
    int32_t d = distance(w->at + w->length + in->length, to, &w->too_far);
    memcpy(moved + in->relative_at, &d, sizeof(d));
    put(w, moved, in->length);
}

/* The CPUID itself: past the red zone, since a call writes below the stack pointer. lea leaves the
 * flags alone. */
static void put_cpuid(struct writer *w, uint64_t routine_at)
{
    static const uint8_t down[] = {0x48, 0x8d, 0x64, 0x24, 0x80}; /* lea -128(%rsp), %rsp */
    static const uint8_t up[] = {0x48, 0x8d, 0xa4, 0x24, 0x80, 0x00, 0x00, 0x00}; /* lea 128 */
    const uint8_t call = OP_CALL;
    put(w, down, sizeof(down));
    put_aimed(w, &call, 1, routine_at);
    put(w, up, sizeof(up));
}

static void write_patch(const struct mask_detour *detour, uint64_t from_at, uint64_t stub_at,
                        uint8_t *patch, bool *too_far)
{
    int32_t d = distance(from_at + JUMP_BYTES, stub_at, too_far);
    memset(patch, OP_INT3, detour->length); /* who ever comes in between is seen */
    patch[0] = OP_JUMP;
    memcpy(patch + 1, &d, sizeof(d));
}

int mask_detour_write(const struct mask_site *site, const struct mask_detour *detour, uint64_t bias,
                      uint64_t stub_at, uint64_t routine_at, uint8_t *stub, size_t *ret_length,
                      uint8_t *patch, struct error *err)
{
    struct mask_instruction window[MASK_WINDOW_INSTRUCTIONS_MAX];
    size_t self = 0, count = mask_site_window(site, window, &self);
    struct writer w = {.bytes = stub, .at = stub_at};
    uint64_t site_at = site->address + bias, from_at = site_at + (uint64_t)(int64_t)detour->from;
    int end = detour->from + detour->length;
    for (size_t i = 0; i < count; i++) {
        if (window[i].at < detour->from || window[i].at >= end)
            continue;
        if (i == self)
            put_cpuid(&w, routine_at);
        else
            put_moved(&w, site->bytes + (window[i].at - site->bytes_at), &window[i].in, bias);
    }
    const uint8_t jump = OP_JUMP;
    put_aimed(&w, &jump, 1, from_at + detour->length);
    write_patch(detour, from_at, stub_at, patch, &w.too_far);
    if (w.too_far)
        return error_set(err, ERROR_TOO_LARGE,
                         "the CPUID at 0x%llx is out of reach of the island at 0x%llx",
                         (unsigned long long)site_at, (unsigned long long)stub_at);
    *ret_length = w.length;
    return 0;
}
