/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_import.c - reads `cpuid -r` line by line into a report. */
#include "cpu_import.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LINE_SHOWN_MAX     60 /* bytes of a line that an error repeats */
#define CPUS_TEXT_MAX      8192
#define HYBRID_LEAF        0x1a
#define CORE_TYPE_ATOM     0x20
#define CORE_TYPE_CORE     0x40
#define HYBRID_BIT         15 /* leaf 7 EDX */
#define LEAF_LINE_EXPECTED "a line like '0x00000001 0x00: eax=0x… ebx=0x… ecx=0x… edx=0x…'"

/* One logical CPU while it is read. */
struct cpu {
    uint32_t number;
    size_t line;               /* of its heading */
    struct cpuid_leaf *leaves; /* owned */
    size_t count, room;
};

/* CPUs that answer alike. */
struct kind {
    struct cpu cpu;    /* the first of them, with its leaves */
    uint32_t *numbers; /* owned; ascending */
    size_t count, room;
};

struct import {
    const char *at, *end; /* the rest of the text */
    size_t line;          /* of what was read last, from 1 */
    const char *text;     /* that line, without blanks at its ends; not NUL-terminated */
    size_t length;
    bool single; /* headed "CPU:" */
    bool seen[CPU_IMPORT_MAX_CPUS];
    size_t cpu_count;
    struct cpu cpu; /* being read */
    bool in_cpu;
    struct kind *kinds; /* owned */
    size_t kind_count;
};

static void import_free(struct import *in)
{
    if (!in)
        return;
    for (size_t i = 0; i < in->kind_count; i++) {
        free(in->kinds[i].cpu.leaves);
        free(in->kinds[i].numbers);
    }
    free(in->kinds);
    free(in->cpu.leaves);
    free(in);
}
DEFINE_AUTO(import)

/* ---- lines */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* The next line that is not empty; false at the end. */
static bool next_line(struct import *in)
{
    while (in->at < in->end) {
        const char *newline = memchr(in->at, '\n', (size_t)(in->end - in->at));
        const char *first = in->at, *last = newline ? newline : in->end;
        in->at = newline ? newline + 1 : in->end;
        in->line++;
        while (first < last && is_blank(*first))
            first++;
        while (last > first && is_blank(last[-1]))
            last--;
        in->text = first;
        in->length = (size_t)(last - first);
        if (in->length > 0)
            return true;
    }
    return false;
}

/* "line 12: expected WHAT, found '…'" */
static int unexpected(const struct import *in, const char *expected, struct error *err)
{
    char shown[LINE_SHOWN_MAX + 1];
    size_t length = in->length < LINE_SHOWN_MAX ? in->length : LINE_SHOWN_MAX;
    for (size_t i = 0; i < length; i++)
        shown[i] = (char)(in->text[i] >= 0x20 && in->text[i] < 0x7f ? in->text[i] : '?');
    shown[length] = '\0';
    return error_set(err, ERROR_INVALID, "cpuid text: line %zu: expected %s, found '%s%s'",
                     in->line, expected, shown, in->length > length ? "…" : "");
}

/* Takes `word` off the front of *at; false where something else stands there. */
static bool take(const char **at, const char *end, const char *word)
{
    size_t length = strlen(word);
    if ((size_t)(end - *at) < length || memcmp(*at, word, length) != 0)
        return false;
    *at += length;
    return true;
}

static bool take_blanks(const char **at, const char *end)
{
    const char *start = *at;
    while (*at < end && is_blank(**at))
        (*at)++;
    return *at > start;
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : 16;
}

/* A number of `least` to `most` digits. */
static bool take_number(const char **at, const char *end, int base, int least, int most,
                        uint32_t *ret)
{
    uint32_t value = 0;
    int digits = 0;
    while (*at < end && digits < most && digit_of(**at) < base) {
        value = value * (uint32_t)base + (uint32_t)digit_of(**at);
        (*at)++;
        digits++;
    }
    *ret = value;
    return digits >= least;
}

/* A register: cpuid prints eight digits, fewer are what is left of a text that was cut. */
static bool take_register(const char **at, const char *end, const char *name, uint32_t *ret)
{
    return take(at, end, name) && take(at, end, "=0x") && take_number(at, end, 16, 8, 8, ret);
}

static bool take_leaf(const char **at, const char *end, uint32_t *ret)
{
    return take(at, end, "0x") && take_number(at, end, 16, 1, 8, ret);
}

static bool read_leaf_line(const struct import *in, struct cpuid_leaf *leaf)
{
    const char *at = in->text, *end = in->text + in->length;
    return take_leaf(&at, end, &leaf->leaf) && take_blanks(&at, end) &&
           take_leaf(&at, end, &leaf->subleaf) && take(&at, end, ":") && take_blanks(&at, end) &&
           take_register(&at, end, "eax", &leaf->eax) && take_blanks(&at, end) &&
           take_register(&at, end, "ebx", &leaf->ebx) && take_blanks(&at, end) &&
           take_register(&at, end, "ecx", &leaf->ecx) && take_blanks(&at, end) &&
           take_register(&at, end, "edx", &leaf->edx) && at == end;
}

/* "CPU:" or "CPU 12:" */
static bool read_heading(const struct import *in, bool *ret_single, uint32_t *ret_number)
{
    const char *at = in->text, *end = in->text + in->length;
    *ret_number = 0;
    if (!take(&at, end, "CPU"))
        return false;
    *ret_single = take(&at, end, ":");
    if (*ret_single)
        return at == end;
    return take_blanks(&at, end) && take_number(&at, end, 10, 1, 5, ret_number) &&
           take(&at, end, ":") && at == end;
}

bool cpu_import_looks_like_cpuid(const char *text, size_t length)
{
    struct import in = {.at = text, .end = text + length};
    return next_line(&in) && in.length >= 3 && memcmp(in.text, "CPU", 3) == 0;
}

/* ---- one CPU */

static const struct cpuid_leaf *leaf_of(const struct cpu *cpu, uint32_t leaf, uint32_t subleaf)
{
    for (size_t i = 0; i < cpu->count; i++)
        if (cpu->leaves[i].leaf == leaf && cpu->leaves[i].subleaf == subleaf)
            return &cpu->leaves[i];
    return NULL;
}

static int add_leaf(struct import *in, const struct cpuid_leaf *leaf, struct error *err)
{
    struct cpu *cpu = &in->cpu;
    if (!in->in_cpu)
        return unexpected(in, "a line 'CPU:' or 'CPU 0:' before the first leaf", err);
    const struct cpuid_leaf *before = leaf_of(cpu, leaf->leaf, leaf->subleaf);
    if (before)
        return error_set(err, ERROR_INVALID,
                         "cpuid text: line %zu: leaf 0x%08" PRIx32 " subleaf 0x%02" PRIx32
                         " is there twice for CPU %" PRIu32,
                         in->line, leaf->leaf, leaf->subleaf, cpu->number);
    if (cpu->count == CPU_REPORT_LEAVES_MAX)
        return error_set(err, ERROR_TOO_LARGE,
                         "cpuid text: line %zu: CPU %" PRIu32 " has more than %d leaves", in->line,
                         cpu->number, CPU_REPORT_LEAVES_MAX);
    if (cpu->count == cpu->room) {
        cpu->room = cpu->room ? 2 * cpu->room : 128;
        cpu->leaves = xrealloc(cpu->leaves, cpu->room * sizeof(*cpu->leaves));
    }
    cpu->leaves[cpu->count++] = *leaf;
    return 0;
}

/* A text that was cut short would look like a CPU without the features of its last leaves. */
static int check_whole(const struct import *in, struct error *err)
{
    static const uint32_t ranges[] = {0, 0x80000000};
    const struct cpu *cpu = &in->cpu;
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++) {
        const struct cpuid_leaf *first = leaf_of(cpu, ranges[i], 0);
        uint32_t last = first ? first->eax : ranges[i];
        /* what has no extended leaves answers with anything */
        bool in_range = last >= ranges[i] && last - ranges[i] <= 0xffff;
        if (!first || (in_range && !leaf_of(cpu, last, 0)))
            return error_set(err, ERROR_INVALID,
                             "cpuid text: CPU %" PRIu32 " (line %zu) lacks its leaf 0x%08" PRIx32
                             ": the text is cut short, or not all that 'cpuid -r' printed",
                             cpu->number, cpu->line, last);
    }
    return 0;
}

/* ---- CPUs that answer alike */

/* A leaf without what tells a CPU from its like: the numbers that it has itself. */
static struct cpuid_leaf without_identity(const struct cpuid_leaf *leaf)
{
    struct cpuid_leaf l = *leaf;
    switch (l.leaf) {
    case 0x1:
        l.ebx &= 0x00ffffff; /* initial APIC id */
        break;
    case 0xb:
    case 0x1f:
    case 0x80000026:
        l.edx = 0; /* x2APIC id */
        break;
    case 0x8000001e:
        l.eax = 0;           /* extended APIC id */
        l.ebx &= 0xffffff00; /* core id */
        l.ecx &= 0xffffff00; /* node id */
        break;
    default:
        break;
    }
    return l;
}

static bool same_leaf(const struct cpuid_leaf *a, const struct cpuid_leaf *b)
{
    struct cpuid_leaf x = without_identity(a), y = without_identity(b);
    return x.leaf == y.leaf && x.subleaf == y.subleaf && x.eax == y.eax && x.ebx == y.ebx &&
           x.ecx == y.ecx && x.edx == y.edx;
}

static bool same_cpu(const struct cpu *a, const struct cpu *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (!same_leaf(&a->leaves[i], &b->leaves[i]))
            return false;
    return true;
}

static void add_number(struct kind *kind, uint32_t number)
{
    if (kind->count == kind->room) {
        kind->room = kind->room ? 2 * kind->room : 16;
        kind->numbers = xrealloc(kind->numbers, kind->room * sizeof(*kind->numbers));
    }
    size_t at = kind->count++;
    for (; at > 0 && kind->numbers[at - 1] > number; at--)
        kind->numbers[at] = kind->numbers[at - 1];
    kind->numbers[at] = number;
}

/* The CPU is complete: it joins its like. */
static int end_cpu(struct import *in, struct error *err)
{
    if (!in->in_cpu)
        return 0;
    if (check_whole(in, err) < 0)
        return -1;
    in->in_cpu = false;
    for (size_t i = 0; i < in->kind_count; i++)
        if (same_cpu(&in->kinds[i].cpu, &in->cpu)) {
            add_number(&in->kinds[i], in->cpu.number);
            in->cpu.count = 0;
            return 0;
        }
    if (in->kind_count == CPU_REPORT_GROUPS_MAX)
        return error_set(err, ERROR_TOO_LARGE,
                         "cpuid text: line %zu: more than %d CPUs that differ from each other",
                         in->cpu.line, CPU_REPORT_GROUPS_MAX);
    in->kinds = xrealloc(in->kinds, (in->kind_count + 1) * sizeof(*in->kinds));
    struct kind *kind = &in->kinds[in->kind_count++];
    *kind = (struct kind){.cpu = in->cpu};
    in->cpu = (struct cpu){0};
    add_number(kind, kind->cpu.number);
    return 0;
}

static int begin_cpu(struct import *in, bool single, uint32_t number, struct error *err)
{
    if (end_cpu(in, err) < 0)
        return -1;
    if (in->cpu_count > 0 && (single || in->single))
        return unexpected(in, "one CPU only after 'CPU:', as cpuid -1 prints", err);
    if (number >= CPU_IMPORT_MAX_CPUS)
        return error_set(err, ERROR_TOO_LARGE,
                         "cpuid text: line %zu: CPU %" PRIu32 ", expected at most %d", in->line,
                         number, CPU_IMPORT_MAX_CPUS - 1);
    if (in->seen[number])
        return error_set(err, ERROR_INVALID, "cpuid text: line %zu: CPU %" PRIu32 " is there twice",
                         in->line, number);
    in->seen[number] = true;
    in->cpu_count++;
    in->single = single;
    in->cpu.number = number;
    in->cpu.line = in->line;
    in->in_cpu = true;
    return 0;
}

static int read_line(struct import *in, struct error *err)
{
    struct cpuid_leaf leaf = {0};
    bool single = false;
    uint32_t number = 0;
    if (read_heading(in, &single, &number))
        return begin_cpu(in, single, number, err);
    if (read_leaf_line(in, &leaf))
        return add_leaf(in, &leaf, err);
    if (in->cpu_count == 0)
        return unexpected(in, "'CPU:' or 'CPU 0:', as cpuid -r prints", err);
    return unexpected(in, LEAF_LINE_EXPECTED " (was cpuid run without -r?)", err);
}

/* ---- the report */

/* "0-1,4" */
static char *list_numbers(const struct kind *kind)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    for (size_t i = 0; out && i < kind->count;) {
        size_t last = i;
        while (last + 1 < kind->count && kind->numbers[last + 1] == kind->numbers[last] + 1)
            last++;
        fprintf(out, "%s%" PRIu32, i ? "," : "", kind->numbers[i]);
        if (last > i)
            fprintf(out, "-%" PRIu32, kind->numbers[last]);
        i = last + 1;
    }
    if (out)
        fclose(out);
    return text ? text : xstrdup("");
}

static const char *core_type_of(const struct cpu *cpu)
{
    const struct cpuid_leaf *features = leaf_of(cpu, 7, 0), *type = leaf_of(cpu, HYBRID_LEAF, 0);
    if (!features || !type || !(features->edx >> HYBRID_BIT & 1))
        return NULL;
    switch (type->eax >> 24) {
    case CORE_TYPE_ATOM:
        return "atom";
    case CORE_TYPE_CORE:
        return "core";
    default:
        return NULL;
    }
}

static int fill_report(struct import *in, struct cpu_report *report, struct error *err)
{
    report->groups = xcalloc(in->kind_count, sizeof(*report->groups));
    for (size_t i = 0; i < in->kind_count; i++) {
        struct kind *kind = &in->kinds[i];
        struct cpu_group *group = &report->groups[report->group_count++];
        group->cpus = list_numbers(kind);
        if (strlen(group->cpus) > CPUS_TEXT_MAX)
            return error_set(err, ERROR_TOO_LARGE,
                             "cpuid text: the list of the CPUs that are like CPU %" PRIu32
                             " is longer than %d bytes",
                             kind->cpu.number, CPUS_TEXT_MAX);
        group->core_type = xstrdup(core_type_of(&kind->cpu));
        group->leaf_count = kind->cpu.count;
        group->leaves = steal_ptr(&kind->cpu.leaves);
    }
    return cpu_report_seal(report, err);
}

int cpu_import_cpuid(const char *node, const char *text, size_t length, struct cpu_report **ret,
                     struct error *err)
{
    if (name_check("node", node, err) < 0)
        return -1;
    if (length > CPU_IMPORT_MAX_BYTES)
        return error_set(err, ERROR_TOO_LARGE,
                         "cpuid text: %zu bytes, expected at most %lu: one CPU is enough, from "
                         "'cpuid -1 -r', where all are alike",
                         length, CPU_IMPORT_MAX_BYTES);
    AUTO(import) in = xcalloc(1, sizeof(*in));
    in->at = text;
    in->end = text + length;
    while (next_line(in))
        if (read_line(in, err) < 0)
            return -1;
    if (end_cpu(in, err) < 0)
        return -1;
    if (in->cpu_count == 0)
        return error_set(err, ERROR_INVALID,
                         "cpuid text: no CPU in it; expected what 'cpuid -r' prints");
    AUTO(cpu_report) report = xcalloc(1, sizeof(*report));
    report->node = xstrdup(node);
    report->os.cpuid_faulting = -1;
    if (fill_report(in, report, err) < 0)
        return -1;
    *ret = steal_ptr(&report);
    return 0;
}
