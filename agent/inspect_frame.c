/* SPDX-License-Identifier: Apache-2.0 */
/* inspect_frame.c - whether a thread is within a signal handler, by the frame that it will return
 * through.
 *
 * The frame holds the registers that were interrupted, and is as large as the node that made it
 * wants it. A kernel whose own frames are smaller takes back the SSE registers of it alone, and
 * clears the rest, without a word (arch/x86/kernel/fpu/signal.c, check_xstate_in_sigframe).
 *
 * What is looked for is the saved area, which begins and ends with a magic number, and the
 * ucontext before it, which points to it. Frames of handlers that have returned lie about as well:
 * one counts if the thread's stack is above it (it grows downwards), and the stack that it was
 * interrupted on goes on just behind it, or else is another one than the alternate stack that the
 * thread is on now. */
#include <string.h>
#include <sys/uio.h>

#include "inspect_private.h"

#define MAGIC1       0x46505853U /* FP_XSTATE_MAGIC1, 2: asm/sigcontext.h */
#define MAGIC2       0x46505845U
#define SW_RESERVED  464 /* of the FXSAVE area: struct _fpx_sw_bytes */
#define AREA_ALIGN   64
#define AREA_LEAST   576
#define AREA_MOST    32768
#define CONTEXT_MOST 1024 /* bytes between the ucontext and the area */
#define GAP_MOST     1024 /* the red zone, and what alignment takes */
#define STACK_BYTES  (1024UL * 1024)
#define UC_STACK     16 /* in struct ucontext: ss_sp; ss_size 16 bytes further */
#define UC_RSP       160
#define UC_FPSTATE   224

struct stack {
    const unsigned char *bytes;
    size_t length;
    uint64_t from; /* the address of the first one: the stack pointer */
};

static uint64_t read64(const unsigned char *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

static uint32_t read32(const unsigned char *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

/* The size of the area that begins there; 0: none does. */
static uint32_t area_at(const struct stack *stack, size_t at)
{
    const unsigned char *sw = stack->bytes + at + SW_RESERVED;
    if (stack->length - at < AREA_LEAST + sizeof(uint32_t) || read32(sw) != MAGIC1)
        return 0;
    uint32_t extended = read32(sw + 4), size = read32(sw + 16);
    if (size < AREA_LEAST || size > AREA_MOST || extended != size + sizeof(uint32_t) ||
        stack->length - at < extended || read32(stack->bytes + at + size) != MAGIC2)
        return 0;
    return size;
}

static bool is_live(const struct stack *stack, size_t context, uint64_t area, uint32_t size)
{
    const unsigned char *uc = stack->bytes + context;
    uint64_t alternate = read64(uc + UC_STACK), length = read64(uc + UC_STACK + 16);
    uint64_t interrupted = read64(uc + UC_RSP), here = stack->from + context;
    if (here - alternate < length) /* the frame lies on the alternate stack */
        return stack->from - alternate < length;
    return interrupted >= area + size && interrupted - area - size < GAP_MOST;
}

static bool has_context(const struct stack *stack, size_t at, uint32_t size)
{
    uint64_t area = stack->from + at;
    for (size_t back = sizeof(uint64_t); back <= CONTEXT_MOST && back + UC_FPSTATE <= at; back += 8)
        if (read64(stack->bytes + at - back) == area &&
            is_live(stack, at - back - UC_FPSTATE, area, size))
            return true;
    return false;
}

bool frame_is_on(const unsigned char *bytes, size_t length, uint64_t from)
{
    const struct stack stack = {bytes, length, from};
    size_t first = (size_t)(-from % AREA_ALIGN);
    for (size_t at = first; at < length; at += AREA_ALIGN) {
        uint32_t size = area_at(&stack, at);
        if (size && has_context(&stack, at, size))
            return true;
    }
    return false;
}

int inspect_frame(pid_t tid, uint64_t stack_pointer)
{
    autofree unsigned char *bytes = xmalloc(STACK_BYTES);
    size_t length = 0;
    /* Piece by piece, until memory that is not there: most stacks are in use for some KiB. */
    for (size_t piece = 4096 - stack_pointer % 4096; length < STACK_BYTES; piece = 16384) {
        if (piece > STACK_BYTES - length)
            piece = STACK_BYTES - length;
        const struct iovec here = {bytes + length, piece};
        const struct iovec there = {(void *)(uintptr_t)(stack_pointer + length), piece};
        ssize_t n = process_vm_readv(tid, &here, 1, &there, 1, 0);
        if (n <= 0)
            break;
        length += (size_t)n;
        if ((size_t)n < piece)
            break;
    }
    if (length == 0)
        return -1;
    return frame_is_on(bytes, length, stack_pointer);
}
