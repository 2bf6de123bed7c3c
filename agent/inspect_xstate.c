/* SPDX-License-Identifier: Apache-2.0 */
/* inspect_xstate.c - which register state a thread holds, from its NT_X86_XSTATE.
 *
 * ptrace gives the standard format of XSAVE: the legacy region, of which bytes 464 to 471 tell
 * what the kernel has enabled, the header at 512 with XSTATE_BV, then the components. */
#include <string.h>

#include "inspect_private.h"
#include "probe_cpuid.h"

#define ENABLED_OFFSET 464 /* Linux, arch/x86/include/asm/user.h, struct user_xstateregs */
#define HEADER_OFFSET  512
#define AREA_MIN       576
#define TILEDATA       (UINT64_C(1) << 18)
#define PKRU           9
/* What the kernel gives every new process: only key 0 is open (init_pkru_value). */
#define PKRU_LINUX UINT32_C(0x55555554)

void xstate_layout_here(struct xstate_layout *ret)
{
    *ret = (struct xstate_layout){0};
    struct cpuid_leaf l = {0};
    probe_cpuid_here.read(probe_cpuid_here.ctx, 0, 0, &l);
    if (l.eax < 0xd)
        return;
    for (unsigned id = 2; id < 63; id++) {
        probe_cpuid_here.read(probe_cpuid_here.ctx, 0xd, id, &l);
        ret->components[id].size_bytes = l.eax;
        ret->components[id].offset_bytes = l.ebx;
    }
}

static uint64_t word_at(const unsigned char *area, size_t offset)
{
    uint64_t word;
    memcpy(&word, area + offset, sizeof(word));
    return word;
}

static bool is_zero(const unsigned char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (bytes[i])
            return false;
    return true;
}

/* Whether a component that the CPU calls in use holds nothing but what every process starts with:
 * zeros (the initial state of all but x87 and SSE; SDM volume 1, 13.6), or Linux's keys. CPUs may
 * call a component in use that is not. */
static bool is_as_new(const unsigned char *area, size_t length, const struct xstate_layout *layout,
                      unsigned id)
{
    size_t offset = layout->components[id].offset_bytes, size = layout->components[id].size_bytes;
    if (id < 2 || size == 0 || offset < AREA_MIN || offset > length || size > length - offset)
        return false;
    uint32_t keys;
    memcpy(&keys, area + offset, sizeof(keys));
    if (id == PKRU && keys == PKRU_LINUX)
        return true;
    return is_zero(area + offset, size);
}

int xstate_read(const unsigned char *area, size_t length, const struct xstate_layout *layout,
                uint64_t *ret_bv, uint64_t *ret_live, uint64_t *ret_enabled)
{
    if (length < AREA_MIN)
        return -1;
    *ret_enabled = word_at(area, ENABLED_OFFSET);
    *ret_bv = word_at(area, HEADER_OFFSET);
    *ret_live = *ret_bv;
    for (unsigned id = 2; id < 63; id++)
        if ((*ret_bv >> id & 1) && is_as_new(area, length, layout, id))
            *ret_live &= ~(UINT64_C(1) << id);
    return 0;
}

enum cpu_amx xstate_amx(uint64_t used, uint64_t enabled, const uint64_t *permission)
{
    if (used & TILEDATA)
        return CPU_AMX_GRANTED; /* nobody gets there without */
    if (permission)
        return *permission & TILEDATA ? CPU_AMX_GRANTED : CPU_AMX_NO;
    return enabled && !(enabled & TILEDATA) ? CPU_AMX_NO : CPU_AMX_UNKNOWN;
}
