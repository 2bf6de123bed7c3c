/* SPDX-License-Identifier: Apache-2.0 */
/* model_evidence.c - the latest look at each workload: kept, loaded, shown in short. */
#include "model_evidence.h"

#include <inttypes.h>
#include <string.h>

#include "log.h"
#include "model_internal.h"

#define UNKNOWN_SHOWN 16 /* sentences */

struct workload_evidence *workload_evidence_new(const char *migration, const struct node *node,
                                                int64_t taken_at_ms, struct cpu_evidence *seen)
{
    struct workload_evidence *evidence = xcalloc(1, sizeof(*evidence));
    evidence->migration = xstrdup(migration);
    evidence->node = xstrdup(node->name);
    evidence->boot_id = xstrdup(node->boot_id);
    evidence->taken_at_ms = taken_at_ms;
    evidence->seen = seen;
    return evidence;
}

void workload_evidence_free(struct workload_evidence *evidence)
{
    if (!evidence)
        return;
    free(evidence->migration);
    free(evidence->node);
    free(evidence->boot_id);
    cpu_evidence_free(evidence->seen);
    free(evidence);
}

const struct workload_evidence *model_evidence_now(struct model *model,
                                                   const struct workload *workload)
{
    const struct workload_evidence *evidence = workload->evidence;
    if (!evidence || evidence->moved_on)
        return NULL;
    const struct node *node = sorted_find(&model->nodes, workload->node);
    if (!node || strcmp(evidence->node, workload->node) != 0 ||
        !same_text(evidence->boot_id, node->boot_id) || evidence->seen->pid != workload->pid)
        return NULL;
    return evidence;
}

int model_evidence_store_locked(struct model *model, const char *workload,
                                const struct workload_evidence *evidence, struct error *err)
{
    const struct store_evidence row = {.workload = workload,
                                       .migration = evidence->migration,
                                       .node = evidence->node,
                                       .boot_id = evidence->boot_id,
                                       .taken_at_ms = evidence->taken_at_ms};
    return store_evidence_put(model->store, &row, err);
}

void model_evidence_set(struct model *model, struct workload *workload,
                        struct workload_evidence *evidence)
{
    workload_evidence_free(workload->evidence);
    workload->evidence = evidence;
    model->generation++;
}

/* Evidence that this version cannot read is none: verdicts are then strict. */
static int load_one(void *ctx, const struct store_evidence *row, struct error *err)
{
    (void)err;
    struct model *model = ctx;
    struct workload *workload = sorted_find(&model->workloads, row->workload);
    autojson *json = NULL;
    struct cpu_evidence *seen = NULL;
    struct error why = {0};
    if (!workload || !row->json)
        return 0;
    if (json_parse(row->json, strlen(row->json), &json, &why) < 0 ||
        cpu_evidence_parse(json, &seen, &why) < 0) {
        log_warn("what was seen of a workload cannot be read any more, and does not count",
                 LOG_STR("workload", row->workload), LOG_STR("error", why.message));
        return 0;
    }
    const struct node node = {.name = (char *)row->node, .boot_id = (char *)row->boot_id};
    workload->evidence = workload_evidence_new(row->migration, &node, row->taken_at_ms, seen);
    workload->evidence->moved_on = row->moved_on;
    return 0;
}

int model_evidence_load(struct model *model, struct error *err)
{
    return store_evidences(model->store, load_one, model, err);
}

json_object *workload_evidence_mark(struct model *model, const struct workload_evidence *evidence)
{
    int64_t age_ms = clock_unix_ms(model->clock) - evidence->taken_at_ms;
    json_object *o = json_object_new_object();
    json_put_str(o, "node", evidence->node);
    json_put_str(o, "migration", evidence->migration);
    json_put_int(o, "at_ms", evidence->taken_at_ms);
    json_put_int(o, "age_ms", age_ms > 0 ? age_ms : 0);
    return o;
}

static json_object *component_names(const struct cpu_evidence_summary *summary)
{
    if (!summary->state_known)
        return NULL;
    json_object *names = json_object_new_array();
    for (unsigned id = 0; id < 64; id++) {
        const struct cpu_component_info *info = cpu_component_info_find(id);
        autofree char *number = xasprintf("component-%u", id);
        if (summary->live >> id & 1)
            json_object_array_add(names, json_object_new_string(info ? info->name : number));
    }
    return names;
}

static json_object *active_names(const struct cpu_evidence_summary *summary)
{
    if (!summary->active_known)
        return NULL;
    json_object *names = json_object_new_array();
    for (unsigned i = 0; i < CPU_FEATURE_COUNT; i++)
        if (summary->active[cpu_features[i].word] >> cpu_features[i].bit & 1)
            json_object_array_add(names, json_object_new_string(cpu_features[i].name));
    return names;
}

/* The first piece of code of which nobody knows what it uses; NULL: all code is marked. */
static const char *unmarked_code(const struct cpu_evidence *seen)
{
    for (size_t i = 0; i < seen->task_count; i++)
        if (!seen->tasks[i].code_marked)
            return seen->tasks[i].unmarked_code ? seen->tasks[i].unmarked_code : "not known";
    return seen->task_count ? NULL : "not known";
}

static unsigned level_used(const struct cpu_evidence *seen)
{
    unsigned level = 0;
    for (size_t i = 0; i < seen->task_count; i++)
        if (seen->tasks[i].isa_used > level)
            level = seen->tasks[i].isa_used;
    return level;
}

static void put_unknowns(json_object *o, const struct cpu_evidence *seen)
{
    json_object *list = json_object_new_array();
    int64_t count = 0;
    for (size_t i = 0; i < seen->task_count; i++) {
        const struct cpu_evidence_task *task = &seen->tasks[i];
        for (size_t k = 0; k < task->unknown_count; k++) {
            if (count++ >= UNKNOWN_SHOWN)
                continue;
            autofree char *text =
                xasprintf("process %" PRId64 " (%s): %s", task->pid, task->comm, task->unknown[k]);
            json_object_array_add(list, json_object_new_string(text));
        }
    }
    json_put(o, "unknown", list);
    json_put_int(o, "unknown_count", count);
}

static int64_t thread_count(const struct cpu_evidence *seen)
{
    int64_t count = 0;
    for (size_t i = 0; i < seen->task_count; i++)
        for (size_t k = 0; k < seen->tasks[i].thread_count; k++)
            count += 1 + (int64_t)seen->tasks[i].threads[k].alike;
    return count;
}

json_object *workload_evidence_json(struct model *model, const struct workload *workload)
{
    const struct workload_evidence *evidence = workload->evidence;
    if (!evidence)
        return NULL;
    struct cpu_evidence_summary summary;
    const char *unmarked = unmarked_code(evidence->seen);
    cpu_evidence_summarize(evidence->seen, &summary);
    json_object *o = workload_evidence_mark(model, evidence);
    json_put_bool(o, "counts", model_evidence_now(model, workload) != NULL);
    json_put_bool(o, "complete", evidence->seen->complete);
    json_put_int(o, "processes", (int64_t)evidence->seen->task_count);
    json_put_int(o, "threads", thread_count(evidence->seen));
    json_put(o, "components", component_names(&summary));
    json_put(o, "features_active", active_names(&summary));
    json_put_str(o, "amx", cpu_amx_name(summary.amx));
    json_put(o, "shadow_stack",
             summary.shadow_stack < 0 ? NULL : json_object_new_boolean(summary.shadow_stack));
    json_put(o, "smallest_altstack_bytes",
             summary.smallest_altstack_bytes < 0
                 ? NULL
                 : json_object_new_int64(summary.smallest_altstack_bytes));
    json_put_str(o, "isa_needed", cpu_isa_level_name(summary.isa_needed));
    json_put_str(o, "isa_used", unmarked ? NULL : cpu_isa_level_name(level_used(evidence->seen)));
    json_put_str(o, "unmarked_code", unmarked);
    put_unknowns(o, evidence->seen);
    return o;
}
