/* SPDX-License-Identifier: Apache-2.0 */
/* mask_run.c - mask_run [--hide FEATURE,...] [--cache FOLDER] [--traps] [--told FILE] --
 * COMMAND...: runs a command in a pool of this machine and one that lacks the features. Ends as the
 * command does (128 + signal), with 125 when it cannot be masked. --told: the pid and what is
 * covered. */
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cpu_profile.h"
#include "cpu_registry.h"
#include "mask.h"
#include "mask_launch.h"
#include "mask_table.h"
#include "probe.h"

#define NOT_MASKED 125

static union {
    struct mask_island_table table;
    uint8_t bytes[MASK_ISLAND_TABLE_BYTES];
} area;

static int give_up(const struct error *err)
{
    fprintf(stderr, "mask_run: %s\n", err->message);
    return NOT_MASKED;
}

/* ---- the table */

static void take_bit(struct cpu_report *report, const struct cpu_feature *f)
{
    for (size_t g = 0; g < report->group_count; g++)
        for (size_t i = 0; i < report->groups[g].leaf_count; i++) {
            struct cpuid_leaf *l = &report->groups[g].leaves[i];
            uint32_t *const registers[] = {&l->eax, &l->ebx, &l->ecx, &l->edx};
            if (l->leaf == f->leaf && l->subleaf == f->subleaf)
                *registers[f->reg] &= ~(UINT32_C(1) << f->bit);
        }
}

static int take_features(struct cpu_report *report, char *names, struct error *err)
{
    for (char *name; (name = strsep(&names, ","));) {
        size_t i = 0;
        while (i < CPU_FEATURE_COUNT && strcmp(cpu_features[i].name, name) != 0)
            i++;
        if (i == CPU_FEATURE_COUNT)
            return error_set(err, ERROR_INVALID, "--hide: no feature '%s'", name);
        take_bit(report, &cpu_features[i]);
    }
    return 0;
}

static int build_table(char *hidden, struct error *err)
{
    const struct probe_options options = {.node = "here"};
    AUTO(mask) mask = mask_new();
    AUTO(cpu_report) here = NULL;
    AUTO(cpu_report) other = NULL;
    AUTO(cpu_profile) here_profile = NULL;
    AUTO(cpu_profile) other_profile = NULL;
    if (probe_report(&options, &here, err) < 0)
        return -1;
    autojson *json = cpu_report_to_json(here);
    if (cpu_report_parse(json, &other, err) < 0 || take_features(other, hidden, err) < 0 ||
        cpu_profile_from_report(here, &here_profile, err) < 0 ||
        cpu_profile_from_report(other, &other_profile, err) < 0)
        return -1;
    mask_add(mask, here_profile);
    mask_add(mask, other_profile);
    AUTO(cpu_profile) pool = mask_profile(mask);
    return mask_table_build(pool, here, &area.table, err);
}

/* ---- telling */

static void tell(const struct mask_launch *launch, const char *path)
{
    const struct mask_process *process = mask_launch_process(launch);
    FILE *file = path ? fopen(path, "we") : NULL;
    if (!file || !process)
        return;
    struct mask_coverage coverage = mask_process_coverage(process);
    fprintf(file, "pid %d\ndetours %zu\ntraps %zu\n", mask_launch_pid(launch), coverage.detours,
            coverage.traps);
    for (unsigned i = 0; i < MASK_LACK_COUNT; i++)
        fprintf(file, "%s %zu\n", mask_lack_name((enum mask_lack)i), coverage.lacks[i]);
    fclose(file);
}

static void print_entries(void)
{
    for (uint32_t i = 0; i < area.table.count; i++) {
        const struct mask_entry *e = &area.table.entries[i];
        printf("%x %x %x", e->leaf, e->subleaf_first, e->subleaf_last);
        for (int r = 0; r < MASK_REGISTERS; r++)
            printf(" %x", e->and_mask[r]);
        for (int r = 0; r < MASK_REGISTERS; r++)
            printf(" %x", e->or_mask[r]);
        putchar('\n');
    }
}

static int run(const struct mask_launch_options *options, const char *told)
{
    AUTO(mask_launch) launch = NULL;
    struct error err = {0};
    bool lives = true;
    if (mask_launch_start(options, &launch, &err) < 0)
        return give_up(&err);
    tell(launch, told);
    while (lives)
        if (mask_launch_attend(launch, true, &lives, &err) < 0)
            return give_up(&err);
    int status = 0;
    if (!mask_launch_ended(launch, &status))
        return NOT_MASKED;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char **argv)
{
    static const struct option known[] = {
        {"hide",             required_argument, NULL, 'h'},
        {"cache",              required_argument, NULL, 'c'},
        {"told",                  required_argument, NULL, 't'},
        {"entries",no_argument, NULL, 'e'},
        {"traps",               no_argument, NULL, 'T'},
        {0            },
    };
    struct mask_launch_options options = {.env = environ};
    struct error err = {0};
    char *hidden = NULL;
    const char *told = NULL;
    bool entries = false;
    for (int c; (c = getopt_long(argc, argv, "+", known, NULL)) >= 0;)
        switch (c) {
        case 'h':
            hidden = optarg;
            break;
        case 'c':
            options.mask.cache_folder = optarg;
            break;
        case 't':
            told = optarg;
            break;
        case 'e':
            entries = true;
            break;
        case 'T':
            options.mask.traps = true;
            break;
        default:
            return 2;
        }
    if (optind == argc && !entries) {
        fprintf(stderr, "mask_run: no command\n");
        return 2;
    }
    options.argv = argv + optind;
    options.mask.table = &area.table;
    if (build_table(hidden, &err) < 0)
        return give_up(&err);
    if (entries)
        print_entries();
    return entries ? 0 : run(&options, told);
}
