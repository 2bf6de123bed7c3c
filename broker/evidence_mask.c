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

#define TILEDATA    18
#define NAMES_BYTES 160

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
        return "no look was taken at it";
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
