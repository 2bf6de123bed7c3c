/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_inspect.c - `cpuagent inspect`: which CPU features a running tree of processes uses. */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "cmd.h"
#include "inspect.h"

#define LINE_COLUMNS 78
#define TITLE        "  %-18s"

/* Words after a title, wrapped. */
struct words {
    const char *title;
    unsigned column; /* 0: nothing printed yet */
};

static void print_word(struct words *words, const char *word)
{
    if (words->column && words->column + 1 + strlen(word) > LINE_COLUMNS)
        words->column = 0, putchar('\n');
    if (!words->column) {
        words->column = (unsigned)printf(TITLE, words->title);
        words->title = "";
    } else {
        putchar(' ');
        words->column++;
    }
    cli_print_plain(word);
    words->column += (unsigned)strlen(word);
}

static void end_words(const struct words *words, const char *if_none)
{
    if (words->column)
        putchar('\n');
    else if (if_none)
        printf(TITLE "%s\n", words->title, if_none);
}

static void print_components(const struct cpu_evidence_task *task)
{
    struct words words = {.title = "registers"};
    uint64_t live = 0;
    size_t unknown = 0;
    for (size_t i = 0; i < task->thread_count; i++) {
        live |= task->threads[i].live;
        unknown += !task->threads[i].state_known;
    }
    for (unsigned id = 0; id < 64; id++) {
        const struct cpu_component_info *info = cpu_component_info_find(id);
        char number[32];
        snprintf(number, sizeof(number), "component-%u", id);
        if (live >> id & 1)
            print_word(&words, info ? info->name : number);
    }
    if (unknown) {
        char text[64];
        snprintf(text, sizeof(text), "(unknown of %zu)", unknown);
        print_word(&words, text);
    }
    end_words(&words, "none");
}

static void print_stacks(const struct cpu_evidence_task *task)
{
    int64_t smallest = -1;
    size_t known = 0, there = 0;
    for (size_t i = 0; i < task->thread_count; i++) {
        int64_t bytes = task->threads[i].altstack_bytes;
        known += bytes >= 0;
        there += bytes > 0;
        if (bytes > 0 && (smallest < 0 || bytes < smallest))
            smallest = bytes;
    }
    printf(TITLE, "signal stacks");
    if (known < task->thread_count)
        printf("unknown of %zu of %zu threads", task->thread_count - known, task->thread_count);
    if (there)
        printf("%s%zu threads have one, the smallest of %" PRId64 " bytes",
               known < task->thread_count ? "; " : "", there, smallest);
    else if (known == task->thread_count)
        printf("none");
    if (task->minsigstksz >= 0)
        printf(" (it was told that a signal needs %" PRId64 ")", task->minsigstksz);
    putchar('\n');
}

static void print_frames(const struct cpu_evidence_task *task)
{
    size_t known = 0, within = 0;
    for (size_t i = 0; i < task->thread_count; i++) {
        known += task->threads[i].signal_frame >= 0;
        within += task->threads[i].signal_frame > 0;
    }
    printf(TITLE, "in a handler");
    if (within)
        printf("%zu threads%s", within, known < task->thread_count ? "; " : "");
    if (known < task->thread_count)
        printf("unknown of %zu of %zu threads", task->thread_count - known, task->thread_count);
    else if (!within)
        printf("none");
    putchar('\n');
}

static void print_glibc(const struct cpu_evidence_task *task)
{
    struct words words = {.title = "active in it"};
    printf(TITLE "%s%s\n", "C library", task->glibc_known ? "glibc " : "unknown",
           task->glibc_version ? task->glibc_version : "");
    if (task->glibc_known) {
        for (unsigned i = 0; i < CPU_FEATURE_COUNT; i++)
            if (task->active[cpu_features[i].word] >> cpu_features[i].bit & 1)
                print_word(&words, cpu_features[i].name);
        end_words(&words, "nothing");
    }
    if (task->glibc_tunables) {
        printf(TITLE, "GLIBC_TUNABLES");
        cli_print_plain(task->glibc_tunables);
        putchar('\n');
    }
}

static void print_code(const struct cpu_evidence_task *task)
{
    const char *needed = cpu_isa_level_name(task->isa_needed);
    printf(TITLE "%s\n", "code needs", needed ? needed : "nothing that it says");
    printf(TITLE, "code uses");
    if (task->code_marked) {
        printf("at most %s\n", cpu_isa_level_name(task->isa_used));
    } else {
        printf("unknown: no mark in ");
        cli_print_plain(task->unmarked_code ? task->unmarked_code : "what could not be read");
        putchar('\n');
    }
}

static void print_task(const struct cpu_evidence_task *task)
{
    printf("process %" PRId64 " (", task->pid);
    cli_print_plain(task->comm);
    printf("), %zu thread%s\n", task->thread_count, task->thread_count == 1 ? "" : "s");
    print_components(task);
    print_stacks(task);
    print_frames(task);
    printf(TITLE "%s\n", "AMX", cpu_amx_name(task->amx));
    printf(TITLE "%s\n", "shadow stack",
           task->shadow_stack < 0 ? "unknown"
           : task->shadow_stack   ? "in use"
                                  : "none");
    print_glibc(task);
    print_code(task);
    for (size_t i = 0; i < task->unknown_count; i++) {
        printf(TITLE, i ? "" : "not seen");
        cli_print_plain(task->unknown[i]);
        putchar('\n');
    }
}

static void print_table(const struct cpu_evidence *evidence, const struct inspect_cost *cost)
{
    for (size_t i = 0; i < evidence->task_count; i++)
        print_task(&evidence->tasks[i]);
    printf("%" PRIu64 " threads were stopped one at a time, the longest for %" PRIu64 " us%s\n",
           cost->threads, cost->longest_stop_us,
           evidence->complete ? "" : "; not all of the tree was seen");
}

int cmd_inspect(const struct cli_args *args, struct error *err)
{
    struct cpu_evidence evidence = {0};
    struct inspect_cost cost;
    bool as_json = false;
    char *end = NULL;
    long pid = strtol(args->rest[0], &end, 10);
    if (*end || end == args->rest[0] || pid < 1 || pid > INT_MAX)
        return error_set(err, ERROR_INVALID, "'%.40s' is no process id: expected 1..%d",
                         args->rest[0], INT_MAX);
    if (cli_output(args, &as_json, err) < 0 ||
        inspect_processes((pid_t)pid, NULL, INSPECT_TIMEOUT_MS, &evidence, &cost, err) < 0)
        return -1;
    if (as_json) {
        autojson *json = cpu_evidence_to_json(&evidence);
        autofree char *text = json_text_pretty(json);
        puts(text);
    } else {
        print_table(&evidence, &cost);
    }
    cpu_evidence_done(&evidence);
    return 0;
}
