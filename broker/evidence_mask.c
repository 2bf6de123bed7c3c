/* SPDX-License-Identifier: Apache-2.0 */
/* evidence_mask.c - what a mask hides and does not take away.
 *
 * CPUID is masked, XCR0 is not: the kernel and the instructions that save registers see every
 * component that the node enables, and some can be had without asking CPUID (pkey_alloc, the
 * permission for AMX). So a component of the node that the need does not list and the target lacks
 * has to be seen to be unused. */
#include <inttypes.h>
#include <stdio.h>

#include "cpu_profile_data.h"
#include "evidence.h"
#include "verdict_reason.h"

#define TILEDATA     18
#define NAMES_BYTES  160
#define FXSAVE_BYTES 512

uint64_t evidence_hidden(const struct cpu_profile *need, const struct cpu_profile *source,
                         const struct cpu_profile *target)
{
    uint64_t everywhere = CPU_XCR0_X87 | CPU_XCR0_SSE;
    return source->enabled & ~(need->enabled | target->enabled | everywhere);
}

void evidence_hidden_names(uint64_t components, char *text, size_t size)
{
    text[0] = '\0';
    for (size_t at = 0; components && at < size; components &= components - 1) {
        unsigned id = (unsigned)__builtin_ctzll(components);
        const struct cpu_component_info *info = cpu_component_info_find(id);
        int n = info ? snprintf(text + at, size - at, "%s%s", at ? ", " : "", info->name)
                     : snprintf(text + at, size - at, "%scomponent %u", at ? ", " : "", id);
        at += n > 0 ? (size_t)n : size;
    }
}

/* What of a hidden component the look did not show; NULL: all of it. */
static const char *unseen(const struct cpu_evidence *evidence, uint64_t hidden)
{
    struct cpu_evidence_summary summary;
    if (!evidence)
        return "no look was taken yet";
    cpu_evidence_summarize(evidence, &summary);
    if (!evidence->complete)
        return "the look did not show all of its processes and threads";
    if (!summary.state_known)
        return "the look did not show the registers of every thread";
    if ((hidden >> TILEDATA & 1) && summary.amx == CPU_AMX_UNKNOWN)
        return "the look did not show whether it was granted AMX";
    return NULL;
}

void evidence_judge_hidden(const struct cpu_evidence *evidence, bool stopped,
                           const struct cpu_profile *need, const struct cpu_profile *source,
                           const struct cpu_profile *target, const char *from, const char *to,
                           struct verdict *verdict)
{
    uint64_t hidden = evidence_hidden(need, source, target);
    const char *why = hidden ? unseen(evidence, hidden) : NULL;
    char names[NAMES_BYTES];
    if (!why)
        return; /* what is seen to be in use is told by evidence_judge */
    evidence_hidden_names(hidden, names, sizeof(names));
    if (stopped)
        verdict_add(
            verdict, VERDICT_EVIDENCE_INCOMPLETE, VERDICT_REJECT,
            "choose a target that enables them as well; `cpuagent inspect` on the node says "
            "what keeps it from being seen",
            "the mask hides xsave components of %s from the workload that %s does not "
            "enable (%s), and whether it uses them all the same is not known: %s",
            from, to, names, why);
    else
        verdict_add(verdict, VERDICT_EVIDENCE_AWAITED, VERDICT_WARN, NULL,
                    "the mask hides xsave components of %s from the workload that %s does not "
                    "enable (%s): the move hangs on the look at the stopped workload, which has to "
                    "show that it uses none (%s)",
                    from, to, names, why);
}

/* ---- signal frames

 * The kernel that made a frame wrote all its components into it, hidden or not. One whose own
 frames
 * are smaller takes back x87 and SSE of it alone and clears the rest: upper halves of YMM registers
 * are lost, and nothing tells. */

/* Where the components end that go into everybody's frames; 0: not known. */
static uint32_t frame_end(const struct cpu_profile *profile)
{
    uint32_t end = 0;
    for (uint64_t rest = profile->enabled & ~(UINT64_C(1) << TILEDATA); rest; rest &= rest - 1) {
        unsigned id = (unsigned)__builtin_ctzll(rest);
        const struct cpu_component *c = cpu_profile_slot(profile, id);
        if (id < 2)
            continue; /* their places are the architecture's */
        if (!c->layout_known)
            return 0;
        if (c->offset_bytes + c->size_bytes > end)
            end = c->offset_bytes + c->size_bytes;
    }
    return end ? end : FXSAVE_BYTES;
}

bool evidence_frames_shrink(const struct cpu_profile *need, const struct cpu_profile *source,
                            const struct cpu_profile *target)
{
    uint64_t everywhere = CPU_XCR0_X87 | CPU_XCR0_SSE;
    uint32_t here = frame_end(source), there = frame_end(target);
    if (!(need->enabled & ~everywhere) || !(source->enabled & ~everywhere))
        return false; /* nothing else to lose */
    return !here || !there || here > there;
}

void evidence_judge_frames(const struct cpu_evidence *evidence, bool stopped, const char *from,
                           const char *to, struct verdict *verdict)
{
    struct cpu_evidence_summary summary = {.signal_frame = -1};
    if (evidence)
        cpu_evidence_summarize(evidence, &summary);
    if (evidence && !evidence->complete && summary.signal_frame == 0)
        summary.signal_frame = -1;
    if (summary.signal_frame == 0)
        return;
    if (!stopped)
        verdict_add(
            verdict, VERDICT_EVIDENCE_AWAITED, VERDICT_WARN, NULL,
            "signal frames of %s are larger than those of %s, which would lose registers of "
            "a thread within a signal handler: the move hangs on the look at the stopped "
            "workload, which has to show that it runs none",
            from, to);
    else if (summary.signal_frame == 1)
        verdict_add(verdict, VERDICT_SIGNAL_FRAME, VERDICT_REJECT,
                    "try again: it is about this moment, unless a thread waits within its handler",
                    "a thread of the workload is within a signal handler, and the registers that "
                    "wait for its end are in a frame of %s, larger than %s takes back: the upper "
                    "halves of its vector registers would be cleared without a fault",
                    from, to);
    else
        verdict_add(verdict, VERDICT_EVIDENCE_INCOMPLETE, VERDICT_REJECT,
                    "choose a target whose signal frames are as large; `cpuagent inspect` on the "
                    "node says what keeps it from being seen",
                    "whether a thread of the workload is within a signal handler could not be "
                    "seen, and %s would lose vector registers of such a thread, for its frames are "
                    "smaller than those of %s",
                    to, from);
}
