/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_probe.c - `cpuagent probe`: what the CPUs of this machine are and can do. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd.h"
#include "cpu_profile.h"
#include "engine.h"
#include "log.h"
#include "probe.h"

#define LINE_COLUMNS 78

/* Components of the xsave area, as bits of XCR0. */
#define COMPONENTS_AVX    (1ULL << 2)
#define COMPONENTS_AVX512 (7ULL << 5)
#define COMPONENTS_AMX    (3ULL << 17)

static const char *const group_names[] = {
    "basic", "leaf 7",     "xsave",  "AVX",   "AVX-512",
    "AMX",   "AMD leaves", "others", "hints", "behaviour",
};

enum group {
    GROUP_BASIC,
    GROUP_SEVEN,
    GROUP_XSAVE,
    GROUP_AVX,
    GROUP_AVX512,
    GROUP_AMX,
    GROUP_EXTENDED,
    GROUP_OTHERS,
    GROUP_HINTS,
    GROUP_BEHAVIOUR,
    GROUP_NONE, /* not shown: nothing that a process uses */
};

/* The xsave components that a feature needs, by itself or through others. */
static uint64_t components_of(const struct cpu_feature *f)
{
    uint64_t components = f->components;
    for (size_t i = 0; i < f->need_count; i++)
        components |= components_of(&cpu_features[f->needs[i]]);
    return components;
}

static enum group group_of(const struct cpu_feature *f)
{
    if (f->kind == CPU_KIND_HINT)
        return GROUP_HINTS;
    if (f->kind == CPU_KIND_BEHAVIOUR)
        return GROUP_BEHAVIOUR;
    if (f->kind != CPU_KIND_ISA && f->kind != CPU_KIND_STATE)
        return GROUP_NONE;
    uint64_t components = components_of(f);
    if (components & COMPONENTS_AMX)
        return GROUP_AMX;
    if (components & COMPONENTS_AVX512)
        return GROUP_AVX512;
    if (components & COMPONENTS_AVX)
        return GROUP_AVX;
    switch (f->leaf) {
    case 0x1:
        return GROUP_BASIC;
    case 0x7:
        return GROUP_SEVEN;
    case 0xd:
        return GROUP_XSAVE;
    default:
        return f->leaf >= 0x80000000U ? GROUP_EXTENDED : GROUP_OTHERS;
    }
}

static void print_group(const struct cpu_profile *profile, enum group group)
{
    unsigned column = 0;
    const char *title = group_names[group];
    for (unsigned i = 0; i < CPU_FEATURE_COUNT; i++) {
        const char *name = cpu_features[i].name;
        if (group_of(&cpu_features[i]) != group ||
            !cpu_profile_has(profile, (enum cpu_feature_id)i))
            continue;
        if (column && column + 1 + strlen(name) > LINE_COLUMNS)
            column = 0, putchar('\n');
        if (!column) {
            column = (unsigned)printf("  %-12s", title);
            title = "";
        }
        column += (unsigned)printf(" %s", name);
    }
    if (column)
        putchar('\n');
}

static void print_xsave(const struct cpu_profile *profile)
{
    uint64_t xcr0 = 0;
    if (!cpu_profile_xcr0(profile, &xcr0)) {
        puts("xsave: not switched on");
        return;
    }
    printf("xsave: XCR0 0x%" PRIx64 ", %u bytes\n  %2s %-12s %8s %8s\n", xcr0,
           cpu_profile_xsave_size(profile), "id", "component", "offset", "size");
    for (unsigned id = 0; id < CPU_COMPONENT_MAX; id++) {
        const struct cpu_component *c = cpu_profile_component(profile, id);
        const struct cpu_component_info *info = cpu_component_info_find(id);
        if (c && c->enabled)
            printf("  %2u %-12s %8u %8u\n", id, info ? info->name : "unknown", c->offset_bytes,
                   c->size_bytes);
    }
}

static void print_system(const struct cpu_report *report)
{
    for (size_t i = 0; i < report->group_count; i++)
        printf("CPUs: %s%s%s\n", report->groups[i].cpus, report->groups[i].core_type ? ", " : "",
               report->groups[i].core_type ? report->groups[i].core_type : "");
    printf("kernel: %s\n", report->os.kernel ? report->os.kernel : "unknown");
    if (report->os.microcode_known)
        printf("microcode: 0x%" PRIx64 "\n", report->os.microcode);
    if (report->os.minsigstksz_known)
        printf("signal stack: at least %" PRIu64 " bytes\n", report->os.minsigstksz);
    printf("CPUID faulting: %s\n", report->os.cpuid_faulting == 1 ? "works" : "not here");
    for (size_t i = 0; i < report->engine_count; i++)
        printf("engine: %s %s\n", report->engines[i].name, report->engines[i].version);
}

static int print_for_people(const struct cpu_report *report, struct error *err)
{
    AUTO(cpu_profile) profile = NULL;
    if (cpu_profile_from_report(report, &profile, err) < 0)
        return -1;
    printf("node: %s\nvendor: %s\nmodel: %s\nlevel: %s\n", report->node,
           cpu_profile_vendor(profile), cpu_profile_brand(profile), cpu_profile_level(profile));
    print_system(report);
    puts("features:");
    for (unsigned g = 0; g < GROUP_NONE; g++)
        print_group(profile, (enum group)g);
    print_xsave(profile);
    return 0;
}

int cmd_probe(const struct cli_args *args, struct error *err)
{
    AUTO(engine) engine = NULL;
    AUTO(cpu_report) report = NULL;
    char host[64] = "node";
    bool as_json = false;
    struct error why = {0};
    if (cli_output(args, &as_json, err) < 0)
        return -1;
    log_set_level(LOG_WARN);
    gethostname(host, sizeof(host) - 1);
    if (engine_criu_new(cli_value(args, "criu", NULL), &engine, &why) < 0)
        log_warn("no checkpoint engine works here; the report names none",
                 LOG_STR("why", why.message));
    struct probe_options options = {
        .node = cli_value(args, "node", host), .engines = &engine, .engine_count = engine ? 1 : 0};
    if (probe_report(&options, &report, err) < 0)
        return -1;
    if (!as_json)
        return print_for_people(report, err);
    autojson *json = cpu_report_to_json(report);
    autofree char *text = json_text_pretty(json);
    puts(text);
    return 0;
}
