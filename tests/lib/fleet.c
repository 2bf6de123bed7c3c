/* SPDX-License-Identifier: Apache-2.0 */
/* fleet.c - turns lines of the fleet file into reports and profiles. */
#include "fleet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"

__attribute__((noreturn)) static void give_up(const char *what, size_t line, const char *why)
{
    fprintf(stderr, "%s:%zu: %s\n", what, line, why);
    abort();
}

static FILE *open_fleet(char *path, size_t size)
{
    const char *chosen = getenv("CPUBROKER_FLEET");
    snprintf(path, size, "%s", chosen ? chosen : SOURCE_DIR "/../shared/fleet/fleet.jsonl");
    FILE *file = fopen(path, "re");
    if (!file)
        printf("skipped: no CPUID dumps at '%s'; set CPUBROKER_FLEET to a fleet.jsonl\n", path);
    return file;
}

static json_object *hex_text(json_object *o, const char *name)
{
    char text[32];
    snprintf(text, sizeof(text), "0x%.16s", json_str(o, name));
    return json_object_new_string(text);
}

/* The line's leaves as a report: no XCR0, nothing of the kernel. */
static json_object *report_json(json_object *line, size_t number)
{
    static const char *const members[] = {"leaf", "subleaf", "eax", "ebx", "ecx", "edx"};
    char node[32];
    snprintf(node, sizeof(node), "fleet-%zu", number);
    json_object *leaves = json_object_new_array(), *source = json_member(line, "leaves");
    for (size_t i = 0; i < json_array_size(source); i++) {
        json_object *leaf = json_object_new_object();
        for (size_t k = 0; k < ARRAY_LEN(members); k++)
            json_put(leaf, members[k], hex_text(json_array_item(source, i), members[k]));
        json_object_array_add(leaves, leaf);
    }
    json_object *group = json_object_new_object();
    json_put_str(group, "cpus", "0");
    json_put(group, "core_type", json_object_get(json_member(line, "core_type")));
    json_put(group, "xcr0", NULL);
    json_put(group, "leaves", leaves);
    json_object *cpus = json_object_new_array(), *report = json_object_new_object();
    json_object_array_add(cpus, group);
    json_put_str(report, "schema", CPU_REPORT_SCHEMA);
    json_put_str(report, "node", node);
    json_put(report, "cpus", cpus);
    return report;
}

static void read_machine(const char *path, size_t number, const char *text, struct fleet_machine *m)
{
    struct error err = {0};
    autojson *line = NULL;
    if (json_parse(text, strlen(text), &line, &err) < 0)
        give_up(path, number, err.message);
    m->id = xstrdup(json_str(line, "id"));
    m->cpu_id = xstrdup(json_str(line, "cpu_id"));
    m->vendor = xstrdup(json_str(line, "vendor"));
    m->brand = xstrdup(json_str(line, "brand"));
    m->generation = xstrdup(json_str(line, "generation"));
    m->hybrid = json_flag(line, "hybrid");
    m->server = json_flag(line, "server");
    m->truncated = json_flag(line, "dump_truncated_format");
    m->dumped_in_32bit = json_flag(line, "syscall_bit_missing_32bit_dump");
    autojson *report = report_json(line, number);
    if (cpu_report_parse(report, &m->report, &err) < 0 ||
        cpu_profile_from_report(m->report, &m->profile, &err) < 0)
        give_up(path, number, err.message);
}

int fleet_load(struct fleet *fleet)
{
    char path[4096];
    *fleet = (struct fleet){0};
    FILE *file = open_fleet(path, sizeof(path));
    if (!file)
        return -1;
    autofree char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, file) > 0) {
        fleet->machines = xrealloc(fleet->machines, (fleet->count + 1) * sizeof(*fleet->machines));
        fleet->machines[fleet->count] = (struct fleet_machine){0};
        read_machine(path, fleet->count + 1, line, &fleet->machines[fleet->count]);
        fleet->count++;
    }
    fclose(file);
    return 0;
}

void fleet_done(struct fleet *fleet)
{
    for (size_t i = 0; i < fleet->count; i++) {
        struct fleet_machine *m = &fleet->machines[i];
        free(m->id);
        free(m->cpu_id);
        free(m->vendor);
        free(m->brand);
        free(m->generation);
        cpu_report_free(m->report);
        cpu_profile_free(m->profile);
    }
    free(fleet->machines);
    *fleet = (struct fleet){0};
}

const struct fleet_machine *fleet_find(const struct fleet *fleet, const char *generation,
                                       const char *text)
{
    for (size_t i = 0; i < fleet->count; i++) {
        const struct fleet_machine *m = &fleet->machines[i];
        if ((!generation || strcmp(m->generation, generation) == 0) &&
            (strstr(m->brand, text) || strstr(m->id, text)))
            return m;
    }
    return NULL;
}
