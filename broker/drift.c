/* SPDX-License-Identifier: Apache-2.0 */
/* drift.c - makes the events that follow from a change of the fleet. */
#include "drift.h"

#include <stdlib.h>
#include <string.h>

#include "model_mask.h"
#include "plan.h"

#define MEMBERS_LISTED   100  /* of one workload */
#define WORKLOADS_LISTED 1000 /* of one mask */

static const char *const causes[] = {
#define X(cause, name) name,
    DRIFT_CAUSES(X)
#undef X
};

/* The reasons of equal CPUs are equal, so each is judged once. */
struct opinion {
    const struct cpu_profile *need, *target;
    bool mix_vendors, fits;
    enum verdict_code code; /* the first reason against */
};

struct jury {
    struct opinion *opinions; /* owned */
    size_t count, room;
};

static const struct opinion *jury_ask(struct jury *jury, const struct cpu_profile *need,
                                      const struct cpu_profile *target, bool mix_vendors)
{
    for (size_t i = 0; i < jury->count; i++) {
        const struct opinion *o = &jury->opinions[i];
        if (o->need == need && o->target == target && o->mix_vendors == mix_vendors)
            return o;
    }
    if (jury->count == jury->room) {
        jury->room = jury->room ? 2 * jury->room : 16;
        jury->opinions = xrealloc(jury->opinions, jury->room * sizeof(*jury->opinions));
    }
    const struct verdict_policy policy = {.mix_vendors = mix_vendors};
    struct verdict verdict = {0};
    verdict_judge(need, target, "", "", &policy, &verdict);
    verdict_sort(&verdict);
    struct opinion *o = &jury->opinions[jury->count++];
    *o = (struct opinion){.need = need,
                          .target = target,
                          .mix_vendors = mix_vendors,
                          .fits = !verdict.rejected,
                          .code = verdict.rejected ? verdict.reasons[0].code : VERDICT_CODE_COUNT};
    verdict_done(&verdict);
    return o;
}

/* What one live workload loses by the change. */
struct loss {
    const struct workload *workload;
    struct cpu_profile *need; /* owned; after the change */
    json_object *members;     /* owned; [{"node","code"}] */
    int64_t member_count;
    bool fits_elsewhere; /* on any member but the one that it lives on */
};

static void loss_done(struct loss *loss)
{
    cpu_profile_free(loss->need);
    json_object_put(loss->members);
}

static void lose(struct loss *loss, const char *node, const char *code)
{
    if (!loss->members)
        loss->members = json_object_new_array();
    if (loss->member_count++ >= MEMBERS_LISTED)
        return;
    json_object *member = json_object_new_object();
    json_put_str(member, "node", node);
    json_put_str(member, "code", code);
    json_object_array_add(loss->members, member);
}

static struct cpu_profile *cpu_of(const struct node *node)
{
    return node->profile ? node->profile->cpu : NULL;
}

static void judge_member(const struct drift *d, struct jury *jury, struct loss *loss,
                         const struct node *member)
{
    bool changes = d->node && member == d->node;
    struct cpu_profile *before = changes ? d->before : cpu_of(member);
    struct cpu_profile *after = changes ? d->after : cpu_of(member);
    bool joins = changes && d->cause == DRIFT_JOIN;
    if (!joins && (!before || !jury_ask(jury, loss->workload->need, before, d->mix_before)->fits))
        return; /* it did not fit before */
    if (!after) {
        lose(loss, member->name, verdict_code_name(VERDICT_NOT_IN_POOL));
        return;
    }
    const struct opinion *now = jury_ask(jury, loss->need, after, d->mix_after);
    if (!now->fits)
        lose(loss, member->name, verdict_code_name(now->code));
}

static bool fits_elsewhere(const struct drift *d, struct jury *jury, const struct loss *loss)
{
    struct node *member = NULL;
    SORTED_EACH(&d->pool->members, member)
    {
        struct cpu_profile *after = member == d->node ? d->after : cpu_of(member);
        if (after && strcmp(member->name, loss->workload->node) != 0 &&
            jury_ask(jury, loss->need, after, d->mix_after)->fits)
            return true;
    }
    return false;
}

/* Whether it loses anything. The caller ends *loss with loss_done either way. */
static bool judge_workload(const struct drift *d, const struct workload *workload,
                           struct loss *loss)
{
    struct jury jury = {0};
    bool changes = d->node && d->cause != DRIFT_LEAVE && d->after &&
                   strcmp(workload->node, d->node->name) == 0;
    bool held = workload_is_held(workload);
    *loss = (struct loss){.workload = workload};
    loss->need = !changes ? cpu_profile_ref(workload->need)
                 : held   ? mask_moved(workload->need, d->after)
                          : cpu_profile_join(workload->need, d->after);
    bool exposed = changes && (!held || loss->need != workload->need);
    if (exposed || d->cause == DRIFT_POLICY) {
        struct node *member = NULL;
        SORTED_EACH(&d->pool->members, member)
        judge_member(d, &jury, loss, member);
    } else if (d->node) {
        judge_member(d, &jury, loss, d->node);
    }
    if (loss->members)
        loss->fits_elsewhere = fits_elsewhere(d, &jury, loss);
    free(jury.opinions);
    return loss->members != NULL;
}

static void add_stranded(const struct drift *d, const struct loss *loss,
                         struct fleet_events *events)
{
    const struct workload *w = loss->workload;
    autofree char *summary =
        xasprintf("%lld members fewer than before can take it, %s", (long long)loss->member_count,
                  loss->fits_elsewhere ? "others still can" : "and no other member can");
    json_object *detail = json_object_new_object();
    json_put_str(detail, "summary", summary);
    json_put_str(detail, "cause", causes[d->cause]);
    json_put_str(detail, "changed_node", d->node ? d->node->name : NULL);
    json_put(detail, "members", json_object_get(loss->members));
    json_put_int(detail, "member_count", loss->member_count);
    json_put_bool(detail, "fits_elsewhere", loss->fits_elsewhere);
    fleet_events_add(events, FLEET_WORKLOAD_STRANDED, w->node, d->pool->name, w->name, detail);
}

void drift_workload(struct model *model, const struct workload *workload, struct cpu_profile *need,
                    struct fleet_events *events)
{
    const struct pool *pool = sorted_find(&model->pools, workload->pool);
    if (!pool || need == workload->need)
        return;
    const struct drift d = {.model = model,
                            .pool = pool,
                            .cause = DRIFT_MASK,
                            .mix_before = pool->policy.mix_vendors,
                            .mix_after = pool->policy.mix_vendors};
    struct jury jury = {0};
    struct loss loss = {.workload = workload, .need = cpu_profile_ref(need)};
    struct node *member = NULL;
    SORTED_EACH(&pool->members, member)
    judge_member(&d, &jury, &loss, member);
    if (loss.members) {
        loss.fits_elsewhere = fits_elsewhere(&d, &jury, &loss);
        add_stranded(&d, &loss, events);
    }
    free(jury.opinions);
    loss_done(&loss);
}

static json_object *loss_json(const struct loss *loss)
{
    json_object *o = json_object_new_object();
    json_put_str(o, "workload", loss->workload->name);
    json_put_str(o, "node", loss->workload->node);
    json_put(o, "members", json_object_get(loss->members));
    json_put_int(o, "member_count", loss->member_count);
    json_put_bool(o, "fits_elsewhere", loss->fits_elsewhere);
    return o;
}

/* Appends workload_stranded events to `events`; returns how many lost something, and lists them. */
static int64_t judge_workloads(const struct drift *d, json_object *list,
                               struct fleet_events *events)
{
    struct workload *workload = NULL;
    int64_t count = 0;
    SORTED_EACH(&d->model->workloads, workload)
    {
        struct loss loss = {0};
        if (workload->state == LIFE_EXITED || !workload->need ||
            strcmp(workload->pool, d->pool->name) != 0)
            continue;
        if (judge_workload(d, workload, &loss)) {
            if (count++ < WORKLOADS_LISTED)
                json_object_array_add(list, loss_json(&loss));
            if (d->cause != DRIFT_JOIN && (d->cause != DRIFT_LEAVE || !loss.fits_elsewhere))
                add_stranded(d, &loss, events);
        }
        loss_done(&loss);
    }
    return count;
}

static size_t length_of(json_object *difference, const char *name)
{
    return json_array_size(json_member(difference, name)) +
           json_array_size(
               json_member(json_member(difference, "xsave"),
                           strcmp(name, "lost") == 0 ? "components_lost" : "components_gained"));
}

/* What does both counts as shrinking; what changed in no feature (a limit, an unknown bit) by who
 * comes and goes: a member can only take away, a leave only give back. */
static bool shrinks(const struct drift *d, json_object *difference)
{
    if (length_of(difference, "lost"))
        return true;
    return !length_of(difference, "gained") && d->cause != DRIFT_LEAVE;
}

static void add_mask(const struct drift *d, json_object *difference, bool shrunk,
                     json_object *workloads, int64_t count, struct fleet_events *events)
{
    const struct pool *pool = d->pool;
    json_object *detail = json_object_new_object();
    autofree char *summary =
        xasprintf("epoch %lld to %lld: %zu lost, %zu gained, %lld live workloads concerned",
                  (long long)pool->epoch, (long long)d->change->epoch,
                  length_of(difference, "lost"), length_of(difference, "gained"), (long long)count);
    json_put_str(detail, "summary", summary);
    json_put_str(detail, "cause", causes[d->cause]);
    json_put_int(detail, "epoch_before", pool->epoch);
    json_put_int(detail, "epoch", d->change->epoch);
    json_put(detail, "difference", json_object_get(difference));
    if (shrunk) {
        json_put(detail, "workloads", json_object_get(workloads));
        json_put_int(detail, "workload_count", count);
    }
    fleet_events_add(events, shrunk ? FLEET_POOL_MASK_SHRUNK : FLEET_POOL_MASK_GROWN,
                     d->node ? d->node->name : NULL, pool->name, NULL, detail);
}

void drift_pool(const struct drift *d, struct fleet_events *events)
{
    bool changed = d->change && d->change->epoch != d->pool->epoch;
    autojson *difference = changed ? plan_difference(d->pool->profile, d->change->profile) : NULL;
    bool shrunk = changed && shrinks(d, difference);
    autojson *workloads = json_object_new_array();
    struct fleet_events stranded = {0};
    int64_t count = 0;
    if (d->cause != DRIFT_JOIN || shrunk) /* who joins takes nobody a place away */
        count = judge_workloads(d, workloads, &stranded);
    if (changed)
        add_mask(d, difference, shrunk, workloads, count, events);
    for (size_t i = 0; i < stranded.count; i++) {
        struct fleet_note *note = &stranded.items[i];
        fleet_events_add(events, note->kind, note->node, note->pool, note->workload,
                         steal_ptr(&note->detail));
    }
    fleet_events_done(&stranded);
}

/* {"before","after"} of a text in `os`, or null where it is the same. */
static json_object *os_difference(json_object *before, json_object *after, const char *name)
{
    json_object *from = json_member(json_member(before, "os"), name);
    json_object *to = json_member(json_member(after, "os"), name);
    autofree char *from_text = from ? json_text(from) : NULL;
    autofree char *to_text = to ? json_text(to) : NULL;
    if (same_text(from_text, to_text))
        return NULL;
    json_object *o = json_object_new_object();
    json_put(o, "before", json_object_get(from));
    json_put(o, "after", json_object_get(to));
    return o;
}

/* The members of the report that are not what they were. */
static json_object *members_that_differ(json_object *before, json_object *after)
{
    json_object *names = json_object_new_array();
    json_object_object_foreach(after, name, value)
    {
        json_object *old = json_member(before, name);
        autofree char *from = old ? json_canonical(old) : NULL;
        autofree char *to = value ? json_canonical(value) : NULL;
        if (!same_text(from, to))
            json_object_array_add(names, json_object_new_string(name));
    }
    return names;
}

void drift_node(struct fleet_events *events, const char *node, json_object *before_report,
                json_object *after_report, const struct cpu_profile *before,
                const struct cpu_profile *after)
{
    autojson *difference = plan_difference(before, after);
    json_object *detail = json_object_new_object();
    json_object *microcode = os_difference(before_report, after_report, "microcode");
    json_object *kernel = os_difference(before_report, after_report, "kernel");
    autofree char *summary = xasprintf(
        "%zu lost, %zu gained%s%s", length_of(difference, "lost"), length_of(difference, "gained"),
        microcode ? ", other microcode" : "", kernel ? ", another kernel" : "");
    json_put_str(detail, "summary", summary);
    json_put(detail, "difference", json_object_get(difference));
    json_put(detail, "microcode", microcode);
    json_put(detail, "kernel", kernel);
    json_put(detail, "boot_id", os_difference(before_report, after_report, "boot_id"));
    json_put(detail, "changed", members_that_differ(before_report, after_report));
    fleet_events_add(events, FLEET_NODE_DRIFTED, node, NULL, NULL, detail);
}
