/* SPDX-License-Identifier: Apache-2.0 */
/* fill_fleet.c - a broker's database with many nodes, all members of the pool `default`.
 *
 *     fill_fleet DATABASE NODES
 *
 * Machines are the real dumps where they are at hand, else the invented samples, over and over;
 * each node has a name, a boot id and a report of its own. Rows are what a broker would have
 * written, but for the epochs on the way: it makes the one that is missing at its start. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu_rules.h"
#include "cpu_samples.h"
#include "digest.h"
#include "fleet.h"
#include "store.h"

#define AT_ONCE 2000
#define NOW_MS  1700000000000

struct machine { /* what all nodes of one kind share */
    json_object *report;
    char *record, sha256[65];
};

static void give_up(const struct error *err)
{
    fprintf(stderr, "fill_fleet: %s\n", err->message);
    exit(1);
}

static struct machine make_machine(const struct cpu_report *report)
{
    struct error err = {0};
    AUTO(cpu_profile) profile = NULL;
    struct machine m = {.report = cpu_report_to_json(report)};
    json_object *os = json_object_new_object();
    json_put_str(os, "kernel", "6.1.0-18-amd64");
    json_put(m.report, "os", os);
    if (cpu_profile_from_report(report, &profile, &err) < 0)
        give_up(&err);
    m.record = cpu_profile_record(profile, m.sha256);
    return m;
}

static struct machine *make_machines(size_t *count)
{
    static const char *const samples[] = {"haswell", "zen4", "lesser-intel", "lesser-amd"};
    struct fleet fleet;
    bool real = fleet_load(&fleet) == 0;
    *count = real ? fleet.count : ARRAY_LEN(samples);
    struct machine *machines = xcalloc(*count, sizeof(*machines));
    for (size_t i = 0; i < *count; i++) {
        AUTO(cpu_report) sample = real ? NULL : sample_report(samples[i]);
        machines[i] = make_machine(real ? fleet.machines[i].report : sample);
    }
    if (real)
        fleet_done(&fleet);
    return machines;
}

static int add_node(struct store *store, struct machine *m, size_t number, struct error *err)
{
    char name[32], boot_id[40], sha256[65];
    snprintf(name, sizeof(name), "node-%06zu", number);
    random_hex(16, boot_id);
    json_put_str(m->report, "node", name);
    json_put_str(json_member(m->report, "os"), "boot_id", boot_id);
    autofree char *text = json_canonical(m->report);
    sha256_hex(text, strlen(text), sha256);
    const struct store_facts facts = {sha256, CPU_RULES, m->sha256, "6.1.0-18-amd64", "[]"};
    const struct store_node node = {.name = name,
                                    .report_sha256 = sha256,
                                    .version = "0.1.0",
                                    .boot_id = boot_id,
                                    .image_address = "192.0.2.1:7071",
                                    .created_at_ms = NOW_MS,
                                    .seen_at_ms = NOW_MS};
    if (store_report_put(store, sha256, text, NOW_MS, err) < 0 ||
        store_profile_put(store, m->sha256, m->record, NOW_MS, err) < 0 ||
        store_facts_put(store, &facts, err) < 0 || store_node_put(store, &node, err) < 0)
        return -1;
    return store_member_add(store, "default", name, NOW_MS, err);
}

int main(int argc, char **argv)
{
    struct error err = {0};
    AUTO(store) store = NULL;
    size_t nodes = argc == 3 ? strtoul(argv[2], NULL, 10) : 0, kinds = 0;
    if (nodes < 1 || nodes > 1000000)
        return fputs("usage: fill_fleet DATABASE NODES (1 to 1000000)\n", stderr), 2;
    struct machine *machines = make_machines(&kinds);
    if (store_open(argv[1], &store, &err) < 0)
        give_up(&err);
    for (size_t i = 0; i < nodes; i++) {
        if (i % AT_ONCE == 0 && store_begin(store, &err) < 0)
            give_up(&err);
        if (add_node(store, &machines[i % kinds], i, &err) < 0)
            give_up(&err);
        if ((i % AT_ONCE == AT_ONCE - 1 || i + 1 == nodes) && store_commit(store, &err) < 0)
            give_up(&err);
    }
    for (size_t i = 0; i < kinds; i++) {
        json_object_put(machines[i].report);
        free(machines[i].record);
    }
    free(machines);
    printf("%zu nodes of %zu kinds\n", nodes, kinds);
    return 0;
}
