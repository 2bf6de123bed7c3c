/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_report.c - reads, checks, writes and hashes cpubroker.report/1. */
#include "cpu_report.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "digest.h"

#define TEXT_BYTES_MAX 256  /* of one string of a report */
#define CPUS_BYTES_MAX 8192 /* of a cpu list */

static int compare_leaves(const void *a, const void *b)
{
    const struct cpuid_leaf *x = a, *y = b;
    if (x->leaf != y->leaf)
        return x->leaf < y->leaf ? -1 : 1;
    if (x->subleaf != y->subleaf)
        return x->subleaf < y->subleaf ? -1 : 1;
    return 0;
}

const struct cpuid_leaf *cpu_group_find(const struct cpu_group *group, uint32_t leaf,
                                        uint32_t subleaf)
{
    const struct cpuid_leaf key = {.leaf = leaf, .subleaf = subleaf};
    if (group->leaf_count == 0)
        return NULL;
    return bsearch(&key, group->leaves, group->leaf_count, sizeof(key), compare_leaves);
}

bool cpu_report_has_engine(const struct cpu_report *report, const char *name)
{
    for (size_t i = 0; i < report->engine_count; i++)
        if (strcmp(report->engines[i].name, name) == 0)
            return true;
    return false;
}

/* A string member of bounded length without control characters; NULL when absent or null. */
static int read_text(const char *what, json_object *o, const char *name, bool required, size_t most,
                     char **ret, struct error *err)
{
    const char *text = NULL;
    int rc = required ? json_get_str(what, o, name, &text, err)
                      : json_opt_str(what, o, name, &text, err);
    if (rc < 0 || !text)
        return rc;
    size_t length = strlen(text);
    if (length == 0 || length > most)
        return error_set(err, ERROR_INVALID, "%s: %s: %zu bytes long, expected 1..%zu", what, name,
                         length, most);
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return error_set(err, ERROR_INVALID, "%s: %s: holds a control character", what, name);
    *ret = xstrdup(text);
    return 0;
}

static int read_hex32(const char *what, json_object *o, const char *name, uint32_t *ret,
                      struct error *err)
{
    uint64_t value = 0;
    if (json_get_hex(what, o, name, &value, err) < 0)
        return -1;
    if (value > UINT32_MAX)
        return error_set(err, ERROR_INVALID, "%s: %s: expected at most 0xffffffff, not 0x%" PRIx64,
                         what, name, value);
    *ret = (uint32_t)value;
    return 0;
}

static int read_leaf(const char *what, json_object *o, struct cpuid_leaf *leaf, struct error *err)
{
    if (json_check_object(what, o, err) < 0 || read_hex32(what, o, "leaf", &leaf->leaf, err) < 0 ||
        read_hex32(what, o, "subleaf", &leaf->subleaf, err) < 0 ||
        read_hex32(what, o, "eax", &leaf->eax, err) < 0 ||
        read_hex32(what, o, "ebx", &leaf->ebx, err) < 0 ||
        read_hex32(what, o, "ecx", &leaf->ecx, err) < 0 ||
        read_hex32(what, o, "edx", &leaf->edx, err) < 0)
        return -1;
    return 0;
}

static int read_group(size_t index, json_object *o, struct cpu_group *group, struct error *err)
{
    char what[64];
    snprintf(what, sizeof(what), "report: cpus[%zu]", index);
    json_object *leaves = NULL;
    if (json_check_object(what, o, err) < 0 ||
        read_text(what, o, "cpus", true, CPUS_BYTES_MAX, &group->cpus, err) < 0 ||
        read_text(what, o, "core_type", false, TEXT_BYTES_MAX, &group->core_type, err) < 0 ||
        json_opt_hex(what, o, "xcr0", &group->xcr0, &group->xcr0_known, err) < 0 ||
        json_get_array(what, o, "leaves", CPU_REPORT_LEAVES_MAX, &leaves, err) < 0)
        return -1;
    if (strspn(group->cpus, "0123456789,-") != strlen(group->cpus))
        return error_set(err, ERROR_INVALID,
                         "%s: cpus: expected a list like \"0-1,4\", not '%.40s'", what,
                         group->cpus);
    size_t count = json_array_size(leaves);
    group->leaves = xcalloc(count, sizeof(*group->leaves));
    for (size_t i = 0; i < count; i++) {
        snprintf(what, sizeof(what), "report: cpus[%zu].leaves[%zu]", index, i);
        if (read_leaf(what, json_array_item(leaves, i), &group->leaves[i], err) < 0)
            return -1;
        group->leaf_count++;
    }
    return 0;
}

static int read_os(json_object *o, struct cpu_report *report, struct error *err)
{
    static const char what[] = "report: os";
    int64_t minsigstksz = -1;
    bool faulting = false;
    report->os.cpuid_faulting = -1;
    if (!o)
        return 0;
    if (json_check_object(what, o, err) < 0 ||
        read_text(what, o, "kernel", false, TEXT_BYTES_MAX, &report->os.kernel, err) < 0 ||
        read_text(what, o, "boot_id", false, TEXT_BYTES_MAX, &report->os.boot_id, err) < 0 ||
        json_opt_hex(what, o, "microcode", &report->os.microcode, &report->os.microcode_known,
                     err) < 0 ||
        json_opt_hex(what, o, "hwcap", &report->os.hwcap, &report->os.hwcap_known, err) < 0 ||
        json_opt_hex(what, o, "hwcap2", &report->os.hwcap2, &report->os.hwcap2_known, err) < 0 ||
        json_opt_i64(what, o, "minsigstksz", &minsigstksz, err) < 0 ||
        json_opt_bool(what, o, "cpuid_faulting", &faulting, err) < 0)
        return -1;
    if (json_member(o, "minsigstksz")) {
        if (minsigstksz < 0 || minsigstksz > INT32_MAX)
            return error_set(err, ERROR_INVALID, "%s: minsigstksz: expected 0..%d, not %" PRId64,
                             what, INT32_MAX, minsigstksz);
        report->os.minsigstksz_known = true;
        report->os.minsigstksz = (uint64_t)minsigstksz;
    }
    if (json_member(o, "cpuid_faulting"))
        report->os.cpuid_faulting = faulting;
    return 0;
}

static int read_engines(json_object *array, struct cpu_report *report, struct error *err)
{
    size_t count = json_array_size(array);
    report->engines = xcalloc(count, sizeof(*report->engines));
    for (size_t i = 0; i < count; i++) {
        char what[64];
        snprintf(what, sizeof(what), "report: engines[%zu]", i);
        json_object *o = json_array_item(array, i);
        struct cpu_engine *engine = &report->engines[report->engine_count++];
        if (json_check_object(what, o, err) < 0 ||
            read_text(what, o, "name", true, TEXT_BYTES_MAX, &engine->name, err) < 0 ||
            read_text(what, o, "version", true, TEXT_BYTES_MAX, &engine->version, err) < 0)
            return -1;
    }
    return 0;
}

static int read_report(json_object *json, struct cpu_report *report, struct error *err)
{
    static const char what[] = "report";
    const char *schema = NULL, *node = NULL;
    json_object *cpus = NULL, *engines = NULL;
    if (json_check_object(what, json, err) < 0 ||
        json_get_str(what, json, "schema", &schema, err) < 0)
        return -1;
    if (strcmp(schema, CPU_REPORT_SCHEMA) != 0)
        return error_set(err, ERROR_INVALID, "report: schema: expected \"%s\", not \"%.60s\"",
                         CPU_REPORT_SCHEMA, schema);
    if (json_get_str(what, json, "node", &node, err) < 0 ||
        name_check("report: node", node, err) < 0 ||
        json_get_array(what, json, "cpus", CPU_REPORT_GROUPS_MAX, &cpus, err) < 0)
        return -1;
    report->node = xstrdup(node);
    size_t count = json_array_size(cpus);
    if (count == 0)
        return error_set(err, ERROR_INVALID, "report: cpus: expected at least one group of CPUs");
    report->groups = xcalloc(count, sizeof(*report->groups));
    for (size_t i = 0; i < count; i++) {
        report->group_count++;
        if (read_group(i, json_array_item(cpus, i), &report->groups[i], err) < 0)
            return -1;
    }
    if (read_os(json_member(json, "os"), report, err) < 0)
        return -1;
    if (json_member(json, "engines") &&
        (json_get_array(what, json, "engines", CPU_REPORT_ENGINES_MAX, &engines, err) < 0 ||
         read_engines(engines, report, err) < 0))
        return -1;
    return 0;
}

int cpu_report_parse(json_object *json, struct cpu_report **ret, struct error *err)
{
    AUTO(cpu_report) report = xcalloc(1, sizeof(*report));
    report->os.cpuid_faulting = -1;
    if (read_report(json, report, err) < 0 || cpu_report_seal(report, err) < 0)
        return -1;
    *ret = steal_ptr(&report);
    return 0;
}

int cpu_report_seal(struct cpu_report *report, struct error *err)
{
    for (size_t g = 0; g < report->group_count; g++) {
        struct cpu_group *group = &report->groups[g];
        if (group->leaf_count)
            qsort(group->leaves, group->leaf_count, sizeof(*group->leaves), compare_leaves);
        for (size_t i = 1; i < group->leaf_count; i++)
            if (compare_leaves(&group->leaves[i - 1], &group->leaves[i]) == 0)
                return error_set(err, ERROR_INVALID,
                                 "report: cpus[%zu].leaves: leaf 0x%08" PRIx32
                                 " subleaf 0x%08" PRIx32 " is there twice",
                                 g, group->leaves[i].leaf, group->leaves[i].subleaf);
    }
    autojson *json = cpu_report_to_json(report);
    autofree char *text = json_canonical(json);
    sha256_hex(text, strlen(text), report->sha256);
    return 0;
}

static void put_hex64_or_null(json_object *o, const char *name, bool known, uint64_t value)
{
    if (known)
        json_put_hex64(o, name, value);
    else
        json_put(o, name, NULL);
}

static json_object *leaf_to_json(const struct cpuid_leaf *leaf)
{
    json_object *o = json_object_new_object();
    json_put_hex32(o, "leaf", leaf->leaf);
    json_put_hex32(o, "subleaf", leaf->subleaf);
    json_put_hex32(o, "eax", leaf->eax);
    json_put_hex32(o, "ebx", leaf->ebx);
    json_put_hex32(o, "ecx", leaf->ecx);
    json_put_hex32(o, "edx", leaf->edx);
    return o;
}

static json_object *group_to_json(const struct cpu_group *group)
{
    json_object *o = json_object_new_object();
    json_put_str(o, "cpus", group->cpus);
    json_put_str(o, "core_type", group->core_type);
    put_hex64_or_null(o, "xcr0", group->xcr0_known, group->xcr0);
    json_object *leaves = json_object_new_array_ext((int)group->leaf_count);
    for (size_t i = 0; i < group->leaf_count; i++)
        json_object_array_add(leaves, leaf_to_json(&group->leaves[i]));
    json_put(o, "leaves", leaves);
    return o;
}

static json_object *os_to_json(const struct cpu_report *report)
{
    json_object *o = json_object_new_object();
    json_put_str(o, "kernel", report->os.kernel);
    json_put_str(o, "boot_id", report->os.boot_id);
    put_hex64_or_null(o, "microcode", report->os.microcode_known, report->os.microcode);
    put_hex64_or_null(o, "hwcap", report->os.hwcap_known, report->os.hwcap);
    put_hex64_or_null(o, "hwcap2", report->os.hwcap2_known, report->os.hwcap2);
    if (report->os.minsigstksz_known)
        json_put_int(o, "minsigstksz", (int64_t)report->os.minsigstksz);
    else
        json_put(o, "minsigstksz", NULL);
    if (report->os.cpuid_faulting >= 0)
        json_put_bool(o, "cpuid_faulting", report->os.cpuid_faulting == 1);
    else
        json_put(o, "cpuid_faulting", NULL);
    return o;
}

json_object *cpu_report_to_json(const struct cpu_report *report)
{
    json_object *o = json_object_new_object();
    json_put_str(o, "schema", CPU_REPORT_SCHEMA);
    json_put_str(o, "node", report->node);
    json_object *cpus = json_object_new_array();
    for (size_t i = 0; i < report->group_count; i++)
        json_object_array_add(cpus, group_to_json(&report->groups[i]));
    json_put(o, "cpus", cpus);
    json_put(o, "os", os_to_json(report));
    json_object *engines = json_object_new_array();
    for (size_t i = 0; i < report->engine_count; i++) {
        json_object *engine = json_object_new_object();
        json_put_str(engine, "name", report->engines[i].name);
        json_put_str(engine, "version", report->engines[i].version);
        json_object_array_add(engines, engine);
    }
    json_put(o, "engines", engines);
    return o;
}

void cpu_report_free(struct cpu_report *report)
{
    if (!report)
        return;
    for (size_t i = 0; i < report->group_count; i++) {
        free(report->groups[i].cpus);
        free(report->groups[i].core_type);
        free(report->groups[i].leaves);
    }
    free(report->groups);
    for (size_t i = 0; i < report->engine_count; i++) {
        free(report->engines[i].name);
        free(report->engines[i].version);
    }
    free(report->engines);
    free(report->os.kernel);
    free(report->os.boot_id);
    free(report->node);
    free(report);
}
