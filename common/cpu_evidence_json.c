/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_evidence_json.c - evidence on the wire, both ways by the same tables.
 *
 * A fact that is not known is null there; the tables hold what every fact looks like. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cpu_evidence.h"

#define WHAT_BYTES 64 /* "evidence: tasks[4095]"; twice that for what is in a task */

static const struct json_field thread_fields[] = {
    JSON_FIELD(cpu_evidence_thread, tid, JSON_I64, JSON_REQUIRED),
    JSON_FIELD(cpu_evidence_thread, xstate_bv, JSON_HEX64, 0),
    JSON_FIELD(cpu_evidence_thread, live, JSON_HEX64, 0),
    JSON_FIELD(cpu_evidence_thread, altstack_bytes, JSON_I64, 0),
    {0},
};
/* Of what is a name or a list on the wire, the tables hold the texts. */
static const struct json_field task_fields[] = {
    JSON_FIELD(cpu_evidence_task, pid, JSON_I64, JSON_REQUIRED),
    JSON_FIELD(cpu_evidence_task, comm, JSON_STR, JSON_REQUIRED),
    JSON_FIELD(cpu_evidence_task, minsigstksz, JSON_I64, 0),
    JSON_FIELD(cpu_evidence_task, unmarked_code, JSON_STR, 0),
    JSON_FIELD(cpu_evidence_task, vsyscall, JSON_BOOL, 0),
    JSON_FIELD(cpu_evidence_task, glibc_tunables, JSON_STR, 0),
    {0},
};
static const struct json_field evidence_fields[] = {
    JSON_FIELD(cpu_evidence, pid, JSON_I64, JSON_REQUIRED),
    JSON_FIELD(cpu_evidence, at_ms, JSON_I64, JSON_REQUIRED),
    JSON_FIELD(cpu_evidence, complete, JSON_BOOL, 0),
    {0},
};

struct named_bit {
    const char *name;
    uint32_t bit;
};
static const struct named_bit code_registers[] = {
#define X(set, name, bit) {name, CPU_CODE_##set},
    CPU_CODE_REGISTERS(X)
#undef X
};
static const struct named_bit protections[] = {
    {"ibt",   CPU_FEATURE_1_IBT  },
    {"shstk", CPU_FEATURE_1_SHSTK},
};

/* ---- writing */

static json_object *names_of_words(const uint32_t words[CPU_WORD_COUNT])
{
    json_object *names = json_object_new_array();
    for (unsigned i = 0; i < CPU_FEATURE_COUNT; i++)
        if (words[cpu_features[i].word] >> cpu_features[i].bit & 1)
            json_object_array_add(names, json_object_new_string(cpu_features[i].name));
    return names;
}

static json_object *tristate(int value)
{
    return value < 0 ? NULL : json_object_new_boolean(value);
}

static json_object *natural_or_null(int64_t value)
{
    return value < 0 ? NULL : json_object_new_int64(value);
}

static json_object *thread_to_json(const struct cpu_evidence_thread *thread)
{
    json_object *o = json_encode(thread_fields, thread);
    if (!thread->state_known) {
        json_put(o, "xstate_bv", NULL);
        json_put(o, "live", NULL);
    }
    json_put(o, "altstack_bytes", natural_or_null(thread->altstack_bytes));
    json_put(o, "signal_frame", tristate(thread->signal_frame));
    if (thread->alike)
        json_put_int(o, "alike", (int64_t)thread->alike);
    return o;
}

static json_object *glibc_to_json(const struct cpu_evidence_task *task)
{
    if (!task->glibc_known)
        return NULL;
    json_object *o = json_object_new_object();
    json_put_str(o, "version", task->glibc_version);
    json_put(o, "active", names_of_words(task->active));
    return o;
}

static json_object *registers_to_json(const struct cpu_evidence_task *task)
{
    if (!task->code_marked)
        return NULL;
    json_object *names = json_object_new_array();
    for (size_t i = 0; i < ARRAY_LEN(code_registers); i++)
        if (task->registers & code_registers[i].bit)
            json_object_array_add(names, json_object_new_string(code_registers[i].name));
    return names;
}

static json_object *protection_to_json(const struct cpu_evidence_task *task)
{
    json_object *names = json_object_new_array();
    for (size_t i = 0; i < ARRAY_LEN(protections); i++)
        if (task->protection & protections[i].bit)
            json_object_array_add(names, json_object_new_string(protections[i].name));
    return names;
}

static json_object *task_to_json(const struct cpu_evidence_task *task)
{
    json_object *o = json_encode(task_fields, task);
    json_object *threads = json_object_new_array(), *unknown = json_object_new_array();
    for (size_t i = 0; i < task->thread_count; i++)
        json_object_array_add(threads, thread_to_json(&task->threads[i]));
    for (size_t i = 0; i < task->unknown_count; i++)
        json_object_array_add(unknown, json_object_new_string(task->unknown[i]));
    json_put(o, "minsigstksz", natural_or_null(task->minsigstksz));
    json_put(o, "threads", threads);
    json_put_str(o, "amx", cpu_amx_name(task->amx));
    json_put(o, "shadow_stack", tristate(task->shadow_stack));
    json_put(o, "glibc", glibc_to_json(task));
    json_put_str(o, "isa_needed", cpu_isa_level_name(task->isa_needed));
    json_put_str(o, "isa_used", task->code_marked ? cpu_isa_level_name(task->isa_used) : NULL);
    json_put(o, "registers_used", registers_to_json(task));
    json_put(o, "protection", protection_to_json(task));
    json_put(o, "unknown", unknown);
    return o;
}

static json_object *all_unknowns(const struct cpu_evidence *evidence)
{
    json_object *all = json_object_new_array();
    for (size_t i = 0; i < evidence->task_count; i++) {
        const struct cpu_evidence_task *task = &evidence->tasks[i];
        for (size_t k = 0; k < task->unknown_count; k++) {
            autofree char *text =
                xasprintf("process %" PRId64 " (%s): %s", task->pid, task->comm, task->unknown[k]);
            json_object_array_add(all, json_object_new_string(text));
        }
    }
    return all;
}

static json_object *summary_to_json(const struct cpu_evidence *evidence)
{
    struct cpu_evidence_summary s;
    cpu_evidence_summarize(evidence, &s);
    json_object *o = json_object_new_object();
    json_put_hex64(o, "xstate_bv", s.xstate_bv);
    json_put_hex64(o, "live", s.live);
    json_put(o, "features_active", s.active_known ? names_of_words(s.active) : NULL);
    json_put_str(o, "amx", cpu_amx_name(s.amx));
    json_put(o, "shadow_stack", tristate(s.shadow_stack));
    json_put(o, "smallest_altstack_bytes", natural_or_null(s.smallest_altstack_bytes));
    json_put(o, "signal_frame", tristate(s.signal_frame));
    json_put_str(o, "isa_needed", cpu_isa_level_name(s.isa_needed));
    json_put(o, "unknown", all_unknowns(evidence));
    return o;
}

json_object *cpu_evidence_to_json(const struct cpu_evidence *evidence)
{
    json_object *o = json_encode(evidence_fields, evidence), *tasks = json_object_new_array();
    json_put_str(o, "schema", CPU_EVIDENCE_SCHEMA);
    for (size_t i = 0; i < evidence->task_count; i++)
        json_object_array_add(tasks, task_to_json(&evidence->tasks[i]));
    json_put(o, "tasks", tasks);
    json_put(o, "summary", summary_to_json(evidence));
    return o;
}

/* ---- reading */

static int check_range(const char *what, const char *name, int64_t value, int64_t least,
                       struct error *err)
{
    if (value >= least)
        return 0;
    return error_set(err, ERROR_INVALID,
                     "%s: %s: expected an integer %" PRId64 "..%lld, not %" PRId64, what, name,
                     least, JSON_INTEGER_MAX, value);
}

static int check_text(const char *what, const char *name, const char *text, struct error *err)
{
    if (!text || strlen(text) <= CPU_EVIDENCE_TEXT_MAX)
        return 0;
    return error_set(err, ERROR_INVALID, "%s: %s: %zu bytes long, at most %d are taken", what, name,
                     strlen(text), CPU_EVIDENCE_TEXT_MAX);
}

static int read_alike(const char *what, json_object *o, uint64_t *ret, struct error *err)
{
    int64_t alike = 0;
    if (json_opt_i64(what, o, "alike", &alike, err) < 0 ||
        check_range(what, "alike", alike, 0, err) < 0)
        return -1;
    if (alike > CPU_EVIDENCE_THREADS_MAX)
        return error_set(err, ERROR_INVALID, "%s: alike: expected an integer 0..%d, not %" PRId64,
                         what, CPU_EVIDENCE_THREADS_MAX, alike);
    *ret = (uint64_t)alike;
    return 0;
}

static int read_thread(const char *what, json_object *o, struct cpu_evidence_thread *thread,
                       struct error *err)
{
    thread->altstack_bytes = -1;
    if (json_decode(what, o, thread_fields, thread, err) < 0 ||
        check_range(what, "tid", thread->tid, 1, err) < 0 ||
        read_alike(what, o, &thread->alike, err) < 0)
        return -1;
    bool frame = false;
    if (json_opt_bool(what, o, "signal_frame", &frame, err) < 0)
        return -1;
    thread->signal_frame = json_member(o, "signal_frame") ? frame : -1;
    if (json_member(o, "altstack_bytes") &&
        check_range(what, "altstack_bytes", thread->altstack_bytes, 0, err) < 0)
        return -1;
    thread->state_known = json_member(o, "xstate_bv") != NULL;
    if (thread->state_known != (json_member(o, "live") != NULL))
        return error_set(err, ERROR_INVALID,
                         "%s: xstate_bv and live: expected both, or null for both", what);
    if (thread->live & ~thread->xstate_bv)
        return error_set(err, ERROR_INVALID, "%s: live: expected no bit that xstate_bv lacks",
                         what);
    return 0;
}

static int read_threads(const char *what, json_object *o, size_t *room,
                        struct cpu_evidence_task *task, struct error *err)
{
    json_object *threads = NULL;
    if (json_get_array(what, o, "threads", *room, &threads, err) < 0)
        return -1;
    size_t count = json_array_size(threads);
    task->threads = xcalloc(count ? count : 1, sizeof(*task->threads));
    for (size_t i = 0; i < count; i++) {
        char of_thread[2 * WHAT_BYTES];
        snprintf(of_thread, sizeof(of_thread), "%s.threads[%zu]", what, i);
        if (read_thread(of_thread, json_array_item(threads, i), &task->threads[i], err) < 0)
            return -1;
        task->thread_count++;
    }
    *room -= count;
    return 0;
}

static int read_amx(const char *what, json_object *o, enum cpu_amx *ret, struct error *err)
{
    const char *name = NULL;
    if (json_get_str(what, o, "amx", &name, err) < 0)
        return -1;
    for (unsigned i = 0; i < CPU_AMX_COUNT; i++)
        if (strcmp(name, cpu_amx_name((enum cpu_amx)i)) == 0) {
            *ret = (enum cpu_amx)i;
            return 0;
        }
    return error_set(err, ERROR_INVALID, "%s: amx: expected no, granted or unknown, not '%.40s'",
                     what, name);
}

static int read_level(const char *what, json_object *o, const char *name, unsigned *ret,
                      struct error *err)
{
    const char *text = NULL;
    if (json_opt_str(what, o, name, &text, err) < 0)
        return -1;
    *ret = 0;
    for (unsigned level = 1; text && cpu_isa_level_name(level); level++)
        if (strcmp(text, cpu_isa_level_name(level)) == 0)
            *ret = level;
    if (text && !*ret)
        return error_set(err, ERROR_INVALID, "%s: %s: expected x86-64-v1 to x86-64-v4, not '%.40s'",
                         what, name, text);
    return 0;
}

/* A name that this registry lacks is a feature all the same: what is active is then not known. */
static int read_active(const char *what, json_object *o, struct cpu_evidence_task *task,
                       struct error *err)
{
    json_object *active = NULL;
    if (json_get_array(what, o, "active", 2UL * CPU_FEATURE_COUNT, &active, err) < 0)
        return -1;
    for (size_t i = 0; i < json_array_size(active); i++) {
        enum cpu_feature_id id;
        const char *name = json_item_str(active, i);
        if (cpu_feature_from_name(name, &id) == 0) {
            task->active[cpu_features[id].word] |= UINT32_C(1) << cpu_features[id].bit;
        } else {
            task->glibc_known = false;
            cpu_evidence_unknown(task,
                                 "its C library uses '%.60s', which this version of the "
                                 "broker does not know",
                                 name);
        }
    }
    return 0;
}

static int read_glibc(const char *of_task, json_object *o, struct cpu_evidence_task *task,
                      struct error *err)
{
    char what[2 * WHAT_BYTES];
    const char *version = NULL;
    snprintf(what, sizeof(what), "%s.glibc", of_task);
    if (!o)
        return 0;
    if (json_check_object(what, o, err) < 0 ||
        json_opt_str(what, o, "version", &version, err) < 0 ||
        check_text(what, "version", version, err) < 0)
        return -1;
    task->glibc_known = true;
    task->glibc_version = xstrdup(version);
    return read_active(what, o, task, err);
}

/* Sets of registers, and what else is marked by name. A set that is not known here is code whose
 * use nobody can judge. */
static int read_marks(const char *what, json_object *o, struct cpu_evidence_task *task,
                      struct error *err)
{
    json_object *names = NULL;
    if (read_level(what, o, "isa_needed", &task->isa_needed, err) < 0 ||
        read_level(what, o, "isa_used", &task->isa_used, err) < 0)
        return -1;
    task->code_marked = task->isa_used > 0;
    if (task->code_marked &&
        json_get_array(what, o, "registers_used", 2 * ARRAY_LEN(code_registers), &names, err) < 0)
        return -1;
    for (size_t i = 0; i < json_array_size(names); i++) {
        uint32_t bit = 0;
        for (size_t k = 0; k < ARRAY_LEN(code_registers); k++)
            if (strcmp(json_item_str(names, i), code_registers[k].name) == 0)
                bit = code_registers[k].bit;
        task->code_marked = task->code_marked && bit;
        task->registers |= bit;
    }
    if (!json_member(o, "protection"))
        return 0;
    if (json_get_array(what, o, "protection", 32, &names, err) < 0)
        return -1;
    for (size_t i = 0; i < json_array_size(names); i++)
        for (size_t k = 0; k < ARRAY_LEN(protections); k++)
            if (strcmp(json_item_str(names, i), protections[k].name) == 0)
                task->protection |= protections[k].bit;
    return 0;
}

static int read_unknowns(const char *what, json_object *o, struct cpu_evidence_task *task,
                         struct error *err)
{
    json_object *unknown = NULL;
    if (json_get_array(what, o, "unknown", CPU_EVIDENCE_UNKNOWNS_MAX, &unknown, err) < 0)
        return -1;
    for (size_t i = 0; i < json_array_size(unknown); i++)
        cpu_evidence_unknown(task, "%s", json_item_str(unknown, i));
    return 0;
}

static int read_task(size_t index, json_object *o, size_t *room, struct cpu_evidence_task *task,
                     struct error *err)
{
    char what[WHAT_BYTES];
    bool shadow_stack = false;
    snprintf(what, sizeof(what), "evidence: tasks[%zu]", index);
    if (json_decode(what, o, task_fields, task, err) < 0 ||
        check_range(what, "pid", task->pid, 1, err) < 0 ||
        check_text(what, "comm", task->comm, err) < 0 ||
        check_text(what, "unmarked_code", task->unmarked_code, err) < 0 ||
        check_text(what, "glibc_tunables", task->glibc_tunables, err) < 0 ||
        json_opt_bool(what, o, "shadow_stack", &shadow_stack, err) < 0 ||
        read_amx(what, o, &task->amx, err) < 0 || read_marks(what, o, task, err) < 0 ||
        read_threads(what, o, room, task, err) < 0 || read_unknowns(what, o, task, err) < 0 ||
        read_glibc(what, json_member(o, "glibc"), task, err) < 0)
        return -1;
    task->shadow_stack = json_member(o, "shadow_stack") ? shadow_stack : -1;
    if (json_member(o, "minsigstksz"))
        return check_range(what, "minsigstksz", task->minsigstksz, 0, err);
    task->minsigstksz = -1;
    return 0;
}

static int read_evidence(json_object *json, struct cpu_evidence *evidence, struct error *err)
{
    static const char what[] = "evidence";
    const char *schema = NULL;
    json_object *tasks = NULL;
    size_t room = CPU_EVIDENCE_THREADS_MAX;
    if (json_check_object(what, json, err) < 0 ||
        json_get_str(what, json, "schema", &schema, err) < 0)
        return -1;
    if (strcmp(schema, CPU_EVIDENCE_SCHEMA) != 0)
        return error_set(err, ERROR_INVALID, "evidence: schema: expected \"%s\", not \"%.60s\"",
                         CPU_EVIDENCE_SCHEMA, schema);
    if (json_decode(what, json, evidence_fields, evidence, err) < 0 ||
        check_range(what, "pid", evidence->pid, 1, err) < 0 ||
        check_range(what, "at_ms", evidence->at_ms, 0, err) < 0 ||
        json_get_array(what, json, "tasks", CPU_EVIDENCE_TASKS_MAX, &tasks, err) < 0)
        return -1;
    size_t count = json_array_size(tasks);
    evidence->tasks = xcalloc(count ? count : 1, sizeof(*evidence->tasks));
    for (size_t i = 0; i < count; i++) {
        evidence->task_count++;
        if (read_task(i, json_array_item(tasks, i), &room, &evidence->tasks[i], err) < 0)
            return -1;
    }
    return 0;
}

int cpu_evidence_parse(json_object *json, struct cpu_evidence **ret, struct error *err)
{
    AUTO(cpu_evidence) evidence = xcalloc(1, sizeof(*evidence));
    if (read_evidence(json, evidence, err) < 0)
        return -1;
    *ret = steal_ptr(&evidence);
    return 0;
}
