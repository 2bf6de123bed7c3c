/* SPDX-License-Identifier: Apache-2.0 */
/* evidence.c - the live process against the target: what makes a verdict stricter. */
#include "evidence.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cpu_profile_data.h"
#include "verdict_reason.h"

#define TILEDATA   18
#define TEXT_BYTES 160

struct judgement {
    const struct cpu_evidence *evidence;
    const struct cpu_evidence_summary *summary;
    const struct cpu_profile *need, *source, *target;
    const char *from, *to;
    bool masked;
    struct verdict *verdict;
};

static bool has(const struct cpu_profile *profile, enum cpu_feature_id id)
{
    return profile && cpu_profile_has_bit(profile, &cpu_features[id]);
}

/* ---- AMX */

static bool amx_is_possible(const struct judgement *j)
{
    return has(j->source ? j->source : j->need, CPU_FEATURE_AMX_TILE);
}

static void judge_amx(const struct judgement *j)
{
    if (j->summary->amx != CPU_AMX_GRANTED)
        return;
    verdict_add(j->verdict, VERDICT_AMX_PERMISSION, VERDICT_REJECT,
                "let it run where it is, or start it on a node or under a mask without AMX",
                "a process of the workload was granted the use of AMX tiles; no checkpoint "
                "carries that over, and its next tile instruction on %s would be fatal",
                j->to);
}

/* ---- registers in use */

static const char *component_name(unsigned id)
{
    const struct cpu_component_info *info = cpu_component_info_find(id);
    return info ? info->name : "unknown";
}

static bool same_place(const struct cpu_profile *a, const struct cpu_profile *b, unsigned id)
{
    if (!a || !(a->enabled >> id & 1) || !(b->enabled >> id & 1))
        return false;
    const struct cpu_component *c = cpu_profile_slot(a, id), *d = cpu_profile_slot(b, id);
    return c->layout_known && d->layout_known && !c->conflict && !d->conflict &&
           c->offset_bytes == d->offset_bytes && c->size_bytes == d->size_bytes &&
           c->aligned == d->aligned;
}

static void add_live(const struct judgement *j, unsigned id, const char *what)
{
    struct verdict_reason *reason =
        verdict_reason_add(j->verdict, VERDICT_LIVE_STATE, VERDICT_REJECT);
    reason->effect = CPU_EFFECT_CORRUPTION;
    reason->source = 1;
    reason->message = xasprintf("a thread holds xsave component %u (%s) in its registers, and %s",
                                id, component_name(id), what);
    reason->remedy =
        xasprintf("choose a target that enables %s as %s does", component_name(id), j->from);
}

/* Components that the need lists as well are judged there as far as their place goes. */
static void judge_live(const struct judgement *j)
{
    uint64_t live = j->summary->live & ~(CPU_XCR0_X87 | CPU_XCR0_SSE);
    char what[TEXT_BYTES];
    for (; live; live &= live - 1) {
        unsigned id = (unsigned)__builtin_ctzll(live);
        if (id >= CPU_COMPONENT_MAX)
            return;
        if (!(j->target->enabled >> id & 1)) {
            snprintf(what, sizeof(what), "%s does not enable it", j->to);
            add_live(j, id, what);
        } else if (!(j->need->enabled >> id & 1) && !same_place(j->source, j->target, id)) {
            snprintf(what, sizeof(what),
                     "its need does not list it: that it lies at the same place on %s is not known",
                     j->to);
            add_live(j, id, what);
        }
    }
}

/* ---- alternate signal stacks */

/* What a signal frame takes at most, for a process without AMX: AT_MINSIGSTKSZ counts in all that
 * the kernel has enabled, but tiles come into the frame of those alone who were granted them.
 * 0: not known. */
static uint32_t frame_bytes(const struct cpu_profile *profile)
{
    uint32_t with = 0, without = 0;
    if (!profile || !profile->minsigstksz_known)
        return 0;
    for (uint64_t rest = profile->enabled; rest; rest &= rest - 1) {
        unsigned id = (unsigned)__builtin_ctzll(rest);
        const struct cpu_component *c = cpu_profile_slot(profile, id);
        uint32_t end = c->offset_bytes + c->size_bytes;
        if (!c->layout_known)
            return profile->minsigstksz;
        if (end > with)
            with = end;
        if (id != TILEDATA && end > without)
            without = end;
    }
    uint32_t tiles = with - without;
    return profile->minsigstksz > tiles ? profile->minsigstksz - tiles : profile->minsigstksz;
}

static void add_small_stacks(const struct judgement *j, uint32_t needed, size_t count,
                             int64_t smallest, const struct cpu_evidence_task *task, int64_t tid)
{
    struct verdict_reason *reason =
        verdict_reason_add(j->verdict, VERDICT_ALTERNATE_STACK, VERDICT_REJECT);
    reason->source = smallest;
    reason->target = needed;
    reason->effect = CPU_EFFECT_CORRUPTION;
    reason->message = xasprintf("a signal needs %" PRIu32
                                " bytes of stack on %s, and the alternate signal stacks of %zu "
                                "threads are smaller, that of thread %" PRId64
                                " of process %" PRId64 " (%s) %" PRId64 " bytes",
                                needed, j->to, count, tid, task->pid, task->comm, smallest);
    reason->remedy = xstrdup("choose a target whose signal frames are no larger than those of the "
                             "nodes it has lived on; or have the program size its stacks by "
                             "sysconf(_SC_SIGSTKSZ), and not by the constant");
}

/* Harm comes of frames that are larger than those which the process has had until now. The need
 * tells of those, unless it is a mask: then only those of the node that it is on are sure. */
static bool frames_grow(const struct judgement *j, uint32_t *ret_needed)
{
    uint32_t before = frame_bytes(j->masked ? j->source : j->need);
    *ret_needed = frame_bytes(j->target);
    return *ret_needed && (!before || *ret_needed > before);
}

static void judge_stacks(const struct judgement *j)
{
    uint32_t needed = 0;
    size_t count = 0;
    const struct cpu_evidence_task *of_task = NULL;
    const struct cpu_evidence_thread *smallest = NULL;
    if (!frames_grow(j, &needed))
        return;
    for (size_t i = 0; i < j->evidence->task_count; i++)
        for (size_t k = 0; k < j->evidence->tasks[i].thread_count; k++) {
            const struct cpu_evidence_thread *t = &j->evidence->tasks[i].threads[k];
            if (t->altstack_bytes <= 0 || t->altstack_bytes >= needed)
                continue;
            count += 1 + t->alike;
            if (!smallest || t->altstack_bytes < smallest->altstack_bytes) {
                smallest = t;
                of_task = &j->evidence->tasks[i];
            }
        }
    if (smallest)
        add_small_stacks(j, needed, count, smallest->altstack_bytes, of_task, smallest->tid);
}

/* ---- shadow stacks, features in use */

static void judge_shadow_stack(const struct judgement *j)
{
    if (j->summary->shadow_stack != 1)
        return;
    if (!has(j->target, CPU_FEATURE_SHSTK))
        verdict_add(j->verdict, VERDICT_SHADOW_STACK, VERDICT_REJECT,
                    "choose a target with shadow stacks, or start the workload without them "
                    "(GLIBC_TUNABLES=glibc.cpu.hwcaps=-SHSTK)",
                    "a process of the workload uses a shadow stack, and %s has none", j->to);
    else
        verdict_add(
            j->verdict, VERDICT_SHADOW_STACK, VERDICT_WARN, NULL,
            "a process of the workload uses a shadow stack; the CPU of %s has them, whether "
            "its kernel gives them to processes is not reported",
            j->to);
}

/* What the C library found usable although the need does not list it: the mask had a hole. */
static void judge_active(const struct judgement *j)
{
    for (unsigned i = 0; i < CPU_FEATURE_COUNT; i++) {
        const struct cpu_feature *f = &cpu_features[i];
        if (!(j->summary->active[f->word] >> f->bit & 1) ||
            (f->kind != CPU_KIND_ISA && f->kind != CPU_KIND_STATE) ||
            cpu_profile_has_bit(j->target, f) || cpu_profile_has_bit(j->need, f))
            continue;
        struct verdict_reason *reason =
            verdict_reason_add(j->verdict, VERDICT_FEATURE_IN_USE, VERDICT_REJECT);
        reason->feature = (int)i;
        reason->effect = f->effect;
        reason->message = xasprintf("the workload's C library uses %s, which %s lacks; its need "
                                    "does not list it, so it got round the mask it was started "
                                    "under",
                                    f->name, j->to);
        reason->remedy = xasprintf("choose a target that has %s", f->name);
    }
}

static unsigned level_of(const struct cpu_profile *profile)
{
    const char *level = cpu_profile_level(profile); /* "x86-64-v3" */
    return (unsigned)(level[strlen(level) - 1] - '0');
}

static void judge_level(const struct judgement *j)
{
    unsigned needed = j->summary->isa_needed;
    if (needed <= level_of(j->target) || needed <= level_of(j->need))
        return; /* where the need has it, each feature of the level is told of */
    struct verdict_reason *reason =
        verdict_reason_add(j->verdict, VERDICT_FEATURE_IN_USE, VERDICT_REJECT);
    reason->effect = CPU_EFFECT_SIGILL;
    reason->source = needed;
    reason->target = level_of(j->target);
    reason->message =
        xasprintf("a file that the workload has mapped is marked as needing %s, and %s is %s",
                  cpu_isa_level_name(needed), j->to, cpu_profile_level(j->target));
    reason->remedy = xasprintf("choose a target of level %s", cpu_isa_level_name(needed));
}

/* ---- what could not be seen */

static void judge_unknown(const struct judgement *j)
{
    uint32_t needed = 0;
    const char *what[5];
    size_t count = 0;
    char list[TEXT_BYTES] = "";
    if (!j->evidence->complete)
        what[count++] = "all of its processes and threads";
    if (!j->summary->state_known)
        what[count++] = "the registers of every thread";
    if (!j->summary->altstack_known && frames_grow(j, &needed))
        what[count++] = "its alternate signal stacks";
    if (j->summary->amx == CPU_AMX_UNKNOWN && amx_is_possible(j))
        what[count++] = "whether it was granted AMX";
    if (j->summary->shadow_stack < 0 && !has(j->target, CPU_FEATURE_SHSTK))
        what[count++] = "whether it uses shadow stacks";
    if (count == 0)
        return;
    for (size_t i = 0, at = 0; i < count && at < sizeof(list); i++)
        at += (size_t)snprintf(list + at, sizeof(list) - at, "%s%s", i ? ", " : "", what[i]);
    verdict_add(j->verdict, VERDICT_EVIDENCE_INCOMPLETE, VERDICT_WARN,
                "`cpuagent inspect` there says why",
                "the look at the live workload on %s did not show %s", j->from, list);
}

void evidence_judge(const struct cpu_evidence *evidence, const struct cpu_profile *need,
                    const struct cpu_profile *source, const struct cpu_profile *target,
                    const char *from, const char *to, bool masked, struct verdict *verdict)
{
    struct cpu_evidence_summary summary;
    cpu_evidence_summarize(evidence, &summary);
    const struct judgement j = {evidence, &summary, need,   source, target,
                                from,     to,       masked, verdict};
    judge_amx(&j);
    judge_live(&j);
    judge_stacks(&j);
    judge_shadow_stack(&j);
    judge_active(&j);
    judge_level(&j);
    judge_unknown(&j);
}
