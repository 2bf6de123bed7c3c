/* SPDX-License-Identifier: Apache-2.0 */
/* decide.c - the verdict about a move, from the pure CPU rules and the fleet's
 * state. */
#include "decide.h"

#include <stdio.h>
#include <string.h>

#include "evidence.h"
#include "model_evidence.h"
#include "model_mask.h"

static void judge_engine(const struct node *node, const char *role, struct verdict *verdict)
{
    if (json_array_size(node->engines) > 0)
        return;
    verdict_add(verdict, VERDICT_NO_ENGINE, VERDICT_REJECT,
                "run `cpuagent probe` there: it says why CRIU does not work",
                "the %s, node '%s', has no checkpoint engine that works", role, node->name);
}

static void judge_liveness(struct model *model, const struct node *node, const char *role,
                           struct verdict *verdict)
{
    enum node_status status = model_node_status(model, node);
    if (status == NODE_IMPORTED)
        verdict_add(verdict, VERDICT_NODE_IMPORTED, VERDICT_REJECT,
                    "start an agent there to move workloads to it",
                    "the %s, node '%s', is known only by an imported report; no "
                    "agent runs there",
                    role, node->name);
    else if (status == NODE_SILENT)
        verdict_add(verdict, VERDICT_NODE_SILENT, VERDICT_REJECT,
                    "see whether cpuagent runs there and reaches the broker",
                    "the agent of the %s, node '%s', has not been heard of for "
                    "more than %llu ms",
                    role, node->name, (unsigned long long)model->silent_after_ms);
}

static void note_mask(const struct workload *workload, struct verdict *verdict)
{
    if (!verdict->mask)
        verdict->mask = workload_mask_sentence(workload);
}

/* What is not covered is told with the first heartbeat that says that it runs. */
static void judge_mask(const struct workload *workload, struct verdict *verdict)
{
    note_mask(workload, verdict);
    if (workload->mask.grade != MASK_GRADE_OFF && !workload->mask.record)
        verdict_add(verdict, VERDICT_UNKNOWN_STATE, VERDICT_REJECT,
                    "start the workload anew; a backup of the database may have the record",
                    "the record of the mask that workload '%s' was born under is damaged, so that "
                    "no agent can be told how to hold it",
                    workload->name);
    else if (workload_is_masked(workload) && workload->mask.sites < 0 &&
             workload->state == LIFE_RUNNING)
        verdict_add(verdict, VERDICT_UNKNOWN_STATE, VERDICT_REJECT,
                    "its agent tells with each heartbeat; an agent of an older version never does",
                    "the agent of node '%s' has not told yet how much of workload '%s' its mask "
                    "covers",
                    workload->node, workload->name);
}

static void judge_workload(struct model *model, const struct workload *workload,
                           struct verdict *verdict)
{
    judge_mask(workload, verdict);
    const struct move *move = model_move_of(model, workload->name);
    if (move)
        verdict_add(verdict, VERDICT_MIGRATION_RUNNING, VERDICT_REJECT,
                    "wait for it, or cancel it with `cpubroker migrations cancel`",
                    "workload '%s' is being moved from '%s' to '%s' already: "
                    "migration %s, %s",
                    workload->name, move->from, move->to, move->id,
                    migration_state_name(move->state));
    else if (workload->state != LIFE_RUNNING)
        verdict_add(verdict, VERDICT_WORKLOAD_NOT_RUNNING, VERDICT_REJECT, NULL,
                    "workload '%s' is %s, not running", workload->name,
                    life_state_name(workload->state));
    const struct node *source = sorted_find(&model->nodes, workload->node);
    if (source && model_node_status(model, source) == NODE_SILENT)
        judge_liveness(model, source, "source", verdict);
    if (source && source->profile)
        judge_engine(source, "source", verdict);
}

/* Whether the workload, once it has lived on `target`, could go on to some other member with an
 * agent, or back. Who is silent just now counts: that is about the moment. Whom its mask holds
 * finds nothing new there. */
static bool could_go_on(const struct pool *pool, const struct workload *workload,
                        const struct node *target)
{
    const struct verdict_policy policy = {.mix_vendors = pool->policy.mix_vendors};
    AUTO(cpu_profile) need = workload_is_held(workload)
                                 ? mask_moved(workload->need, target->profile->cpu)
                                 : cpu_profile_join(workload->need, target->profile->cpu);
    autofree const struct profile **refused = xcalloc(pool->members.count + 1, sizeof(void *));
    size_t refused_count = 0;
    struct node *member = NULL;
    SORTED_EACH(&pool->members, member)
    {
        struct verdict verdict = {0};
        bool known = false;
        if (member == target || member->imported || !member->profile)
            continue;
        for (size_t i = 0; i < refused_count && !known; i++)
            known = refused[i] == member->profile;
        if (known)
            continue; /* equal CPUs were refused already */
        verdict_judge(need, member->profile->cpu, target->name, member->name, &policy, &verdict);
        bool fits = !verdict.rejected;
        verdict_done(&verdict);
        if (fits)
            return true;
        refused[refused_count++] = member->profile;
    }
    return false;
}

static void judge_island(const struct pool *pool, const struct workload *workload,
                         const struct node *target, struct verdict *verdict)
{
    if (!pool || pool->policy.islands == ISLANDS_ALLOW || verdict->rejected ||
        could_go_on(pool, workload, target))
        return;
    verdict_add(verdict, VERDICT_ISLAND,
                pool->policy.islands == ISLANDS_REFUSE ? VERDICT_REJECT : VERDICT_WARN,
                "choose a target whose CPU is not ahead of the pool's others, or add its like; the "
                "pool's policy `islands` decides whether this refuses",
                "once it has lived on node '%s', workload '%s' could go to no other member of "
                "pool '%s', nor back: it may then use what only that node has",
                target->name, workload->name, pool->name);
}

/* ---- the CPUs, and what was seen of the live workload */

enum with { WITH_LATEST_LOOK, BEFORE_A_LOOK };

static struct verdict_policy cpu_policy(const struct pool *pool)
{
    return (struct verdict_policy){.mix_vendors = pool && pool->policy.mix_vendors};
}

/* The CPUs of the node that it lives on; NULL where they are not known. */
static const struct cpu_profile *source_cpu(struct model *model, const struct workload *workload)
{
    const struct node *source = sorted_find(&model->nodes, workload->node);
    return source && source->profile ? source->profile->cpu : NULL;
}

/* The components that its mask hides from it, and that it could not have on the target. */
static uint64_t hidden_from(struct model *model, const struct workload *workload,
                            const struct node *target)
{
    const struct cpu_profile *source = source_cpu(model, workload);
    return workload_is_masked(workload) && source
               ? evidence_hidden(workload->need, source, target->profile->cpu)
               : 0;
}

/* Whether its signal frames hold more than the target takes back. Where the need is all that its
 * nodes have, the target is rejected for what it lacks, so this matters only for less. */
static bool frames_shrink(struct model *model, const struct workload *workload,
                          struct cpu_profile *need, const struct node *target)
{
    const struct cpu_profile *source = source_cpu(model, workload);
    return (workload_is_masked(workload) || need != workload->need) && source &&
           evidence_frames_shrink(need, source, target->profile->cpu);
}

/* What only a look can tell. `evidence` is NULL where there was none. */
static void judge_unlisted(struct model *model, const struct workload *workload,
                           const struct cpu_evidence *evidence, bool stopped,
                           struct cpu_profile *need, const struct node *target,
                           struct verdict *verdict)
{
    if (hidden_from(model, workload, target))
        evidence_judge_hidden(evidence, stopped, workload->need, source_cpu(model, workload),
                              target->profile->cpu, workload->node, target->name, verdict);
    if (frames_shrink(model, workload, need, target))
        evidence_judge_frames(evidence, stopped, workload->node, target->name, verdict);
}

static void judge_seen(struct model *model, const struct workload *workload,
                       const struct cpu_evidence *evidence, bool stopped, const struct node *target,
                       struct verdict *verdict)
{
    const struct pool *pool = sorted_find(&model->pools, workload->pool);
    const struct verdict_policy policy = cpu_policy(pool);
    AUTO(cpu_profile) need =
        pool && pool->policy.evidence == EVIDENCE_RELAX
            ? evidence_relax(evidence, workload->need, target->profile->cpu, target->name, verdict)
            : cpu_profile_ref(workload->need);
    verdict_judge(need, target->profile->cpu, workload->node, target->name, &policy, verdict);
    /* The whole need: what its processes have met until now did not get less by the proof. */
    evidence_judge(evidence, workload->need, source_cpu(model, workload), target->profile->cpu,
                   workload->node, target->name, workload_is_masked(workload), verdict);
    judge_unlisted(model, workload, evidence, stopped, need, target, verdict);
}

bool decide_rests_on_look(struct model *model, const struct workload *workload,
                          const struct node *target)
{
    const struct pool *pool = sorted_find(&model->pools, workload->pool);
    if (!workload->need || !target->profile)
        return false;
    if (hidden_from(model, workload, target) ||
        frames_shrink(model, workload, workload->need, target))
        return true;
    if (!pool || pool->policy.evidence != EVIDENCE_RELAX)
        return false;
    const struct verdict_policy policy = cpu_policy(pool);
    struct verdict verdict = {0};
    verdict_judge(workload->need, target->profile->cpu, workload->node, target->name, &policy,
                  &verdict);
    bool rejected = verdict.rejected;
    verdict_done(&verdict);
    return rejected;
}

/* Whether the CPUs would be approved if a look proved all that a look can prove. */
static bool could_be_relaxed(const struct pool *pool, const struct workload *workload,
                             const struct node *target)
{
    if (!pool || pool->policy.evidence != EVIDENCE_RELAX)
        return false;
    const struct verdict_policy policy = cpu_policy(pool);
    struct verdict verdict = {0};
    AUTO(cpu_profile) need = evidence_relax_at_best(workload->need, target->profile->cpu);
    verdict_judge(need, target->profile->cpu, workload->node, target->name, &policy, &verdict);
    bool approved = !verdict.rejected;
    verdict_done(&verdict);
    return approved;
}

/* What rejects is left to the look. */
static void await_look(struct verdict *verdict)
{
    for (size_t i = 0; i < verdict->reason_count; i++) {
        struct verdict_reason *reason = &verdict->reasons[i];
        if (reason->severity != VERDICT_REJECT)
            continue;
        char *message = xasprintf("%s: the move hangs on the look at the live workload, which has "
                                  "to prove that this is not used",
                                  reason->message);
        free(reason->message);
        reason->message = message;
        reason->code = VERDICT_EVIDENCE_AWAITED;
        reason->severity = VERDICT_WARN;
    }
    verdict->rejected = false;
}

static void judge_need(struct model *model, const struct workload *workload,
                       const struct node *target, enum with with, struct verdict *verdict)
{
    const struct pool *pool = sorted_find(&model->pools, workload->pool);
    const struct verdict_policy policy = cpu_policy(pool);
    struct verdict cpus = {0};
    verdict_judge(workload->need, target->profile->cpu, workload->node, target->name, &policy,
                  &cpus);
    if (cpus.rejected && could_be_relaxed(pool, workload, target)) {
        if (with == BEFORE_A_LOOK)
            await_look(&cpus);
        else
            verdict_add(&cpus, VERDICT_EVIDENCE_AWAITED, VERDICT_WARN,
                        "`cpubroker migrate` takes that look before it freezes anything",
                        "pool '%s' lets evidence relax verdicts: a look at the live workload may "
                        "prove that it does not use what %s lacks; none has been taken here yet",
                        pool->name, target->name);
    }
    judge_unlisted(model, workload, NULL, false, workload->need, target, &cpus);
    verdict_take(verdict, &cpus);
}

static void judge_cpus(struct model *model, const struct workload *workload,
                       const struct node *target, enum with with, struct verdict *verdict)
{
    const struct workload_evidence *latest =
        with == WITH_LATEST_LOOK ? model_evidence_now(model, workload) : NULL;
    if (latest)
        judge_seen(model, workload, latest->seen, false, target, verdict);
    else
        judge_need(model, workload, target, with, verdict);
}

void decide_inspected(struct model *model, const struct workload *workload,
                      const struct cpu_evidence *evidence, bool stopped, const struct node *target,
                      struct verdict *verdict)
{
    const struct verdict_policy policy = cpu_policy(sorted_find(&model->pools, workload->pool));
    note_mask(workload, verdict);
    if (evidence) {
        judge_seen(model, workload, evidence, stopped, target, verdict);
    } else {
        verdict_judge(workload->need, target->profile->cpu, workload->node, target->name, &policy,
                      verdict);
        judge_unlisted(model, workload, NULL, stopped, workload->need, target, verdict);
    }
    verdict_sort(verdict);
}

static void judge_target(struct model *model, const struct workload *workload,
                         const struct node *target, enum with with, struct verdict *verdict)
{
    const struct pool *pool = sorted_find(&model->pools, workload->pool);
    note_mask(workload, verdict);
    judge_liveness(model, target, "target", verdict);
    if (pool && !model_is_member(pool, target)) {
        char remedy[256];
        snprintf(remedy, sizeof(remedy), "`cpubroker pools join %s %s` makes it one", pool->name,
                 target->name);
        verdict_add(verdict, VERDICT_NOT_IN_POOL, VERDICT_REJECT, remedy,
                    "node '%s' is no member of pool '%s', to which workload '%s' belongs",
                    target->name, pool->name, workload->name);
    }
    if (!target->profile) {
        verdict_add(verdict, VERDICT_UNKNOWN_STATE, VERDICT_REJECT,
                    "its agent sends a report shortly after it starts",
                    "node '%s' has not reported its CPUs", target->name);
        return;
    }
    if (!target->imported)
        judge_engine(target, "target", verdict);
    if (!workload->need) {
        verdict_add(verdict, VERDICT_UNKNOWN_STATE, VERDICT_REJECT, NULL,
                    "it is not known what workload '%s' was exposed to", workload->name);
        return;
    }
    judge_cpus(model, workload, target, with, verdict);
    if (strcmp(workload->node, target->name) != 0)
        judge_island(pool, workload, target, verdict);
}

static void judge_move(struct model *model, const struct workload *workload,
                       const struct node *target, enum with with, struct verdict *verdict)
{
    judge_workload(model, workload, verdict);
    if (strcmp(workload->node, target->name) == 0)
        verdict_add(verdict, VERDICT_SAME_NODE, VERDICT_REJECT, NULL,
                    "workload '%s' is on node '%s' already", workload->name, target->name);
    judge_target(model, workload, target, with, verdict);
    verdict_sort(verdict);
}

void decide_move(struct model *model, const struct workload *workload, const struct node *target,
                 struct verdict *verdict)
{
    judge_move(model, workload, target, WITH_LATEST_LOOK, verdict);
}

void decide_start(struct model *model, const struct workload *workload, const struct node *target,
                  struct verdict *verdict)
{
    judge_move(model, workload, target, BEFORE_A_LOOK, verdict);
}

void decide_living(struct model *model, const struct workload *workload, const struct node *target,
                   struct verdict *verdict)
{
    judge_target(model, workload, target, WITH_LATEST_LOOK, verdict);
    verdict_sort(verdict);
}

void decide_pool(struct model *model, const struct pool *pool, const struct node *target,
                 struct verdict *verdict)
{
    const struct verdict_policy policy = {.mix_vendors = pool->policy.mix_vendors};
    judge_liveness(model, target, "target", verdict);
    if (!model_is_member(pool, target))
        verdict_add(verdict, VERDICT_NOT_IN_POOL, VERDICT_REJECT, NULL,
                    "node '%s' is no member of pool '%s'", target->name, pool->name);
    if (!target->profile)
        verdict_add(verdict, VERDICT_UNKNOWN_STATE, VERDICT_REJECT,
                    "its agent sends a report shortly after it starts",
                    "node '%s' has not reported its CPUs", target->name);
    else if (!pool->profile)
        verdict_add(verdict, VERDICT_UNKNOWN_STATE, VERDICT_REJECT, NULL,
                    "pool '%s' has no mask: none of its members has reported", pool->name);
    else
        verdict_judge(pool->profile, target->profile->cpu, pool->name, target->name, &policy,
                      verdict);
    verdict_sort(verdict);
}

unsigned decide_surplus(const struct cpu_profile *need, const struct cpu_profile *target)
{
    unsigned count = 0;
    for (unsigned i = 0; i < CPU_FEATURE_COUNT; i++)
        count += cpu_profile_has(target, (enum cpu_feature_id)i) &&
                 !cpu_profile_has(need, (enum cpu_feature_id)i);
    return count;
}

/* Moves the reasons of `from` that reject to the end of `to`. */
static void take_rejects(struct verdict *to, struct verdict *from)
{
    size_t kept = 0;
    for (size_t i = 0; i < from->reason_count; i++) {
        struct verdict_reason *reason = &from->reasons[i];
        if (reason->severity != VERDICT_REJECT) {
            from->reasons[kept++] = *reason;
            continue;
        }
        if (to->reason_count == to->reason_room) {
            to->reason_room = to->reason_room ? 2 * to->reason_room : 8;
            to->reasons = xrealloc(to->reasons, to->reason_room * sizeof(*to->reasons));
        }
        to->reasons[to->reason_count++] = *reason;
        to->rejected = true;
    }
    from->reason_count = kept;
}

struct best {
    const struct node *node;
    struct verdict verdict;
    unsigned surplus;
};

static bool hangs_on_a_look(const struct verdict *verdict)
{
    for (size_t i = 0; i < verdict->reason_count; i++)
        if (verdict->reasons[i].code == VERDICT_EVIDENCE_AWAITED)
            return true;
    return false;
}

static bool better(const struct verdict *verdict, unsigned spare, const struct best *best)
{
    if (!best->node)
        return true;
    if (hangs_on_a_look(verdict) != hangs_on_a_look(&best->verdict))
        return !hangs_on_a_look(verdict);
    if (verdict->reason_count != best->verdict.reason_count)
        return verdict->reason_count < best->verdict.reason_count;
    return spare < best->surplus; /* walked in order of name, so the first of
                                     equals stays */
}

static void consider(struct model *model, const struct workload *workload,
                     const struct node *target, enum with with, struct best *best,
                     struct verdict *refusals)
{
    struct verdict verdict = {0};
    judge_target(model, workload, target, with, &verdict);
    if (verdict.rejected) {
        take_rejects(refusals, &verdict);
    } else {
        unsigned spare = decide_surplus(workload->need, target->profile->cpu);
        if (better(&verdict, spare, best)) {
            verdict_done(&best->verdict);
            *best = (struct best){target, verdict, spare};
            return;
        }
    }
    verdict_done(&verdict);
}

const struct node *decide_best(struct model *model, const struct workload *workload, bool start,
                               struct verdict *verdict)
{
    const struct pool *pool = sorted_find(&model->pools, workload->pool);
    struct verdict refusals = {0};
    struct best best = {0};
    struct node *node = NULL;
    size_t tried = 0;
    judge_workload(model, workload, verdict);
    if (pool && !verdict->rejected) {
        SORTED_EACH(&pool->members, node)
        {
            if (strcmp(node->name, workload->node) == 0)
                continue;
            tried++;
            consider(model, workload, node, start ? BEFORE_A_LOOK : WITH_LATEST_LOOK, &best,
                     &refusals);
        }
    }
    if (best.node) {
        verdict_done(verdict);
        *verdict = best.verdict;
    } else {
        if (!verdict->rejected)
            verdict_add(verdict, VERDICT_NO_TARGET, VERDICT_REJECT,
                        "`cpubroker nodes` shows who is there; `--to` asks about one",
                        tried ? "none of the %zu other members of pool '%s' can take "
                                "workload '%s'"
                              : "there are %zu other members in pool '%s' that could take "
                                "workload '%s'",
                        tried, workload->pool, workload->name);
        take_rejects(verdict, &refusals);
    }
    verdict_done(&refusals);
    return best.node;
}

static bool share_mixed_pool(struct model *model, const struct node *a, const struct node *b)
{
    struct pool *pool = NULL;
    SORTED_EACH(&model->pools, pool)
    if (pool->policy.mix_vendors && model_is_member(pool, a) && model_is_member(pool, b))
        return true;
    return false;
}

void decide_cpus(struct model *model, const struct node *from, const struct node *to,
                 struct verdict *verdict)
{
    const struct node *both[] = {from, to};
    for (size_t i = 0; i < ARRAY_LEN(both); i++)
        if (!both[i]->profile)
            verdict_add(verdict, VERDICT_UNKNOWN_STATE, VERDICT_REJECT,
                        "its agent sends a report shortly after it starts",
                        "node '%s' has not reported its CPUs", both[i]->name);
    if (from->profile && to->profile) {
        const struct verdict_policy policy = {.mix_vendors = share_mixed_pool(model, from, to)};
        verdict_judge(from->profile->cpu, to->profile->cpu, from->name, to->name, &policy, verdict);
    }
    verdict_sort(verdict);
}
