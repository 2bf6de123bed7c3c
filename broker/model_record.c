/* SPDX-License-Identifier: Apache-2.0 */
/* model_record.c - what many nodes and workloads have in common, kept once: profiles of CPUs by
 * their content, their joins, texts of reports. All under the writer's mutex; nothing that is kept
 * ever goes or changes, so that readers may hold on to it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu_rules.h" /* generated */
#include "model_internal.h"

const char *model_rules(void)
{
    return CPU_RULES;
}

const struct cpu_record *model_cpu_record(struct model *model, struct cpu_profile *cpu)
{
    char sha256[65];
    free(cpu_profile_record(cpu, sha256));
    struct cpu_record *record = sorted_find(&model->cpus, sha256);
    if (record)
        return record;
    record = xcalloc(1, sizeof(*record));
    record->sha256 = xstrdup(sha256);
    record->cpu = cpu_profile_ref(cpu);
    sorted_add(&model->cpus, record);
    return record;
}

const struct cpu_record *model_cpu_join(struct model *model, const struct cpu_record *a,
                                        const struct cpu_record *b)
{
    if (!a || a == b)
        return b;
    autofree char *key = xasprintf("%s%s", a->sha256, b->sha256);
    struct cpu_join *join = sorted_find(&model->joins, key);
    if (join)
        return join->result;
    AUTO(cpu_profile) joined = cpu_profile_join(a->cpu, b->cpu);
    join = xcalloc(1, sizeof(*join));
    join->key = steal_ptr(&key);
    join->result = model_cpu_record(model, joined);
    sorted_add(&model->joins, join);
    return join->result;
}

/* NULL when the database's record is not what its name says, or none that is understood: *why
 * tells. Failing to read is an error. */
int model_cpu_load(struct model *model, const char *sha256, const struct cpu_record **ret,
                   struct error *why, struct error *err)
{
    *ret = sorted_find(&model->cpus, sha256);
    if (*ret)
        return 0;
    autofree char *text = NULL;
    autojson *json = NULL;
    AUTO(cpu_profile) cpu = NULL;
    if (store_profile_get(model->store, sha256, &text, err) < 0)
        return -1;
    if (json_parse(text, strlen(text), &json, why) < 0 ||
        cpu_profile_from_record(json, &cpu, why) < 0)
        return 0;
    const struct cpu_record *record = model_cpu_record(model, cpu);
    if (strcmp(record->sha256, sha256) == 0)
        *ret = record;
    else
        error_set(why, ERROR_INVALID, "its content has another hash, %s", record->sha256);
    return 0;
}

int model_cpu_store(struct model *model, const struct cpu_record *record, struct error *err)
{
    char sha256[65];
    autofree char *text = cpu_profile_record(record->cpu, sha256);
    return store_profile_put(model->store, record->sha256, text, clock_unix_ms(model->clock), err);
}

const struct shared_text *model_text(struct model *model, const char *text, json_object *json)
{
    struct shared_text *shared = sorted_find(&model->texts, text);
    if (shared)
        return shared;
    shared = xcalloc(1, sizeof(*shared));
    shared->text = xstrdup(text);
    shared->json = json_object_get(json);
    sorted_add(&model->texts, shared);
    return shared;
}

struct profile *model_profile_add(struct model *model, const char *sha256,
                                  const struct cpu_record *record, const char *kernel,
                                  const struct shared_text *engines)
{
    struct profile *profile = xcalloc(1, sizeof(*profile));
    snprintf(profile->hash, sizeof(profile->hash), "%s", sha256);
    profile->sha256 = profile->hash;
    profile->record = record;
    profile->cpu = record->cpu;
    profile->kernel = kernel && *kernel ? model_text(model, kernel, NULL)->text : NULL;
    profile->engines = engines;
    model_write_lock(model);
    sorted_add(&model->profiles, profile);
    model_unlock(model);
    return profile;
}

/* The engines of a report, in its own order. */
static const struct shared_text *shared_engines(struct model *model, json_object *report)
{
    json_object *engines = json_member(report, "engines");
    autojson *list = json_object_new_array();
    for (size_t i = 0; i < json_array_size(engines); i++) {
        json_object *engine = json_object_new_object();
        json_put_str(engine, "name", json_str(json_array_item(engines, i), "name"));
        json_put_str(engine, "version", json_str(json_array_item(engines, i), "version"));
        json_object_array_add(list, engine);
    }
    autofree char *text = json_text(list);
    return model_text(model, text, list);
}

const struct profile *model_profile(struct model *model, const char *sha256, json_object *json,
                                    struct error *err)
{
    struct profile *profile = sorted_find(&model->profiles, sha256);
    if (profile)
        return profile;
    AUTO(cpu_report) report = NULL;
    AUTO(cpu_profile) cpu = NULL;
    if (cpu_report_parse(json, &report, err) < 0 || cpu_profile_from_report(report, &cpu, err) < 0)
        return NULL;
    return model_profile_add(model, sha256, model_cpu_record(model, cpu),
                             json_str(json_member(json, "os"), "kernel"),
                             shared_engines(model, json));
}

int model_facts_store(struct model *model, const struct profile *profile, struct error *err)
{
    const struct store_facts row = {
        .report_sha256 = profile->sha256,
        .rules = CPU_RULES,
        .profile_sha256 = profile->record->sha256,
        .kernel = profile->kernel,
        .engines = profile->engines->text,
    };
    return model_cpu_store(model, profile->record, err) < 0
               ? -1
               : store_facts_put(model->store, &row, err);
}

void model_records_free(struct model *model)
{
    for (size_t i = 0; i < model->profiles.count; i++)
        free(model->profiles.items[i]);
    for (size_t i = 0; i < model->joins.count; i++) {
        struct cpu_join *join = model->joins.items[i];
        free(join->key);
        free(join);
    }
    for (size_t i = 0; i < model->cpus.count; i++) {
        struct cpu_record *record = model->cpus.items[i];
        free(record->sha256);
        cpu_profile_free(record->cpu);
        free(record);
    }
    for (size_t i = 0; i < model->texts.count; i++) {
        struct shared_text *shared = model->texts.items[i];
        free(shared->text);
        json_object_put(shared->json);
        free(shared);
    }
    sorted_done(&model->profiles);
    sorted_done(&model->joins);
    sorted_done(&model->cpus);
    sorted_done(&model->texts);
}
