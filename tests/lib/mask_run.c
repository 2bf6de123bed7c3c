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

#include "mask_launch.h"
#include "mask_pool.h"

#define NOT_MASKED 125

static union mask_pool_table area;

static int give_up(const struct error *err)
{
    fprintf(stderr, "mask_run: %s\n", err->message);
    return NOT_MASKED;
}

/* ---- telling */

static void tell(const struct mask_tracer *tracer, const char *path)
{
    const struct mask_process *process = mask_tracer_process(tracer);
    FILE *file = path ? fopen(path, "we") : NULL;
    if (!file || !process)
        return;
    struct mask_coverage coverage = mask_process_coverage(process);
    fprintf(file, "pid %d\ndetours %zu\ntraps %zu\n", mask_tracer_root(tracer), coverage.detours,
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
    AUTO(mask_tracer) tracer = NULL;
    struct error err = {0};
    bool lives = true;
    if (mask_launch_start(options, &tracer, &err) < 0)
        return give_up(&err);
    tell(tracer, told);
    while (lives)
        if (mask_tracer_attend(tracer, true, &lives, &err) < 0)
            return give_up(&err);
    int status = 0;
    if (!mask_tracer_ended(tracer, &status))
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
    if (mask_pool_table(hidden, &area, &err) < 0)
        return give_up(&err);
    if (entries)
        print_entries();
    return entries ? 0 : run(&options, told);
}
