/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_evidence.c - evidence as a value: building, summing up, letting go. */
#include "cpu_evidence.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *cpu_amx_name(enum cpu_amx amx)
{
    static const char *const names[] = {
#define X(answer, name) name,
        CPU_AMX_ANSWERS(X)
#undef X
    };
    return (unsigned)amx < CPU_AMX_COUNT ? names[amx] : "?";
}

const char *cpu_isa_level_name(unsigned level)
{
    static const char *const names[] = {NULL, "x86-64-v1", "x86-64-v2", "x86-64-v3", "x86-64-v4"};
    return level < ARRAY_LEN(names) ? names[level] : NULL;
}

/* The length of the UTF-8 sequence at the text's start if it is one and printable, else 0. */
static size_t printable_length(const char *text)
{
    unsigned char first = (unsigned char)*text;
    size_t length = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (length == 1)
        return first >= 0x20 && first != 0x7f;
    if (strnlen(text, length) < length || !json_text_is_utf8(text, length))
        return 0;
    return first == 0xc2 && (unsigned char)text[1] < 0xa0 ? 0 : length; /* C1 controls */
}

char *cpu_evidence_clean(const char *text)
{
    if (!text)
        return NULL;
    char *clean = xcalloc(1, CPU_EVIDENCE_TEXT_MAX + 1);
    for (size_t at = 0; *text && at < CPU_EVIDENCE_TEXT_MAX;) {
        size_t length = printable_length(text);
        if (length == 0) {
            clean[at++] = '?';
            text++;
            continue;
        }
        if (at + length > CPU_EVIDENCE_TEXT_MAX)
            break;
        memcpy(clean + at, text, length);
        at += length;
        text += length;
    }
    return clean;
}

struct cpu_evidence_task *cpu_evidence_add_task(struct cpu_evidence *evidence, int64_t pid,
                                                const char *comm)
{
    evidence->tasks =
        xrealloc(evidence->tasks, (evidence->task_count + 1) * sizeof(*evidence->tasks));
    struct cpu_evidence_task *task = &evidence->tasks[evidence->task_count++];
    *task = (struct cpu_evidence_task){.pid = pid,
                                       .comm = cpu_evidence_clean(comm),
                                       .amx = CPU_AMX_UNKNOWN,
                                       .shadow_stack = -1,
                                       .minsigstksz = -1};
    return task;
}

void cpu_evidence_unknown(struct cpu_evidence_task *task, const char *format, ...)
{
    char text[CPU_EVIDENCE_TEXT_MAX];
    if (task->unknown_count >= CPU_EVIDENCE_UNKNOWNS_MAX)
        return;
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    task->unknown = xrealloc(task->unknown, (task->unknown_count + 1) * sizeof(*task->unknown));
    task->unknown[task->unknown_count++] = cpu_evidence_clean(text);
}

static void task_done(struct cpu_evidence_task *task)
{
    free(task->comm);
    free(task->threads);
    free(task->glibc_version);
    free(task->glibc_tunables);
    free(task->unmarked_code);
    for (size_t i = 0; i < task->unknown_count; i++)
        free(task->unknown[i]);
    free(task->unknown);
}

void cpu_evidence_done(struct cpu_evidence *evidence)
{
    for (size_t i = 0; i < evidence->task_count; i++)
        task_done(&evidence->tasks[i]);
    free(evidence->tasks);
    *evidence = (struct cpu_evidence){0};
}

void cpu_evidence_free(struct cpu_evidence *evidence)
{
    if (!evidence)
        return;
    cpu_evidence_done(evidence);
    free(evidence);
}

#define LOOK_BACK 64 /* kinds of threads that are told apart at most */

static bool threads_alike(const struct cpu_evidence_thread *a, const struct cpu_evidence_thread *b)
{
    return a->state_known == b->state_known && a->xstate_bv == b->xstate_bv && a->live == b->live &&
           a->altstack_bytes == b->altstack_bytes && a->signal_frame == b->signal_frame;
}

void cpu_evidence_condense(struct cpu_evidence *evidence)
{
    for (size_t i = 0; i < evidence->task_count; i++) {
        struct cpu_evidence_task *task = &evidence->tasks[i];
        size_t kept = 0;
        for (size_t k = 0; k < task->thread_count; k++) {
            size_t at = 0;
            while (at < kept && at < LOOK_BACK &&
                   !threads_alike(&task->threads[at], &task->threads[k]))
                at++;
            if (at < kept && at < LOOK_BACK)
                task->threads[at].alike += 1 + task->threads[k].alike;
            else
                task->threads[kept++] = task->threads[k];
        }
        task->thread_count = kept;
    }
}

static void add_threads(const struct cpu_evidence_task *task, struct cpu_evidence_summary *ret)
{
    if (task->thread_count == 0) {
        ret->state_known = ret->altstack_known = false;
        if (ret->signal_frame == 0)
            ret->signal_frame = -1;
    }
    for (size_t i = 0; i < task->thread_count; i++) {
        const struct cpu_evidence_thread *t = &task->threads[i];
        ret->state_known = ret->state_known && t->state_known;
        ret->xstate_bv |= t->xstate_bv;
        ret->live |= t->live;
        ret->altstack_known = ret->altstack_known && t->altstack_bytes >= 0;
        if (t->signal_frame == 1 || ret->signal_frame == 0)
            ret->signal_frame = t->signal_frame;
        if (t->altstack_bytes > 0 &&
            (ret->smallest_altstack_bytes < 0 || t->altstack_bytes < ret->smallest_altstack_bytes))
            ret->smallest_altstack_bytes = t->altstack_bytes;
    }
}

void cpu_evidence_summarize(const struct cpu_evidence *evidence, struct cpu_evidence_summary *ret)
{
    bool any = evidence->task_count > 0;
    *ret = (struct cpu_evidence_summary){.state_known = any,
                                         .active_known = any,
                                         .altstack_known = any,
                                         .amx = any ? CPU_AMX_NO : CPU_AMX_UNKNOWN,
                                         .shadow_stack = any ? 0 : -1,
                                         .smallest_altstack_bytes = -1,
                                         .signal_frame = any ? 0 : -1};
    for (size_t i = 0; i < evidence->task_count; i++) {
        const struct cpu_evidence_task *task = &evidence->tasks[i];
        add_threads(task, ret);
        ret->active_known = ret->active_known && task->glibc_known;
        for (unsigned w = 0; w < CPU_WORD_COUNT; w++)
            ret->active[w] |= task->active[w];
        /* One that has it decides, whatever is not known of the others. */
        if (task->amx == CPU_AMX_GRANTED || ret->amx == CPU_AMX_NO)
            ret->amx = task->amx;
        if (task->shadow_stack == 1 || ret->shadow_stack == 0)
            ret->shadow_stack = task->shadow_stack;
        if (task->isa_needed > ret->isa_needed)
            ret->isa_needed = task->isa_needed;
    }
}
