/* SPDX-License-Identifier: Apache-2.0 */
/* registry_gen.c - writes what is generated from schema/features.txt.
 *
 *     registry_gen FILE check|ids|table|doc [OUTPUT]
 *
 * `ids` is the C header of identifiers, `table` the C tables, `doc` docs/features.md. Every run
 * checks the whole file first. The head of the file explains its columns. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "registry_read.h"

static const char *upper(const char *name)
{
    static char text[4][48];
    static unsigned turn;
    char *out = text[turn++ % 4];
    size_t i = 0;
    for (; name[i] && i < 47; i++)
        out[i] = (char)toupper((unsigned char)name[i]);
    out[i] = '\0';
    return out;
}

static void write_ids(const struct registry *r, FILE *out)
{
    fputs("/* Generated from schema/features.txt by registry_gen; do not edit. */\n#pragma once\n\n"
          "enum cpu_feature_id {\n",
          out);
    for (size_t i = 0; i < r->feature_count; i++)
        fprintf(out, "    CPU_FEATURE_%s,\n", upper(r->features[i].name));
    fputs("    CPU_FEATURE_COUNT\n};\n\nenum cpu_field_id {\n", out);
    for (size_t i = 0; i < r->field_count; i++)
        fprintf(out, "    CPU_FIELD_%s,\n", upper(r->fields[i].name));
    fprintf(out, "    CPU_FIELD_COUNT\n};\n\n#define CPU_WORD_COUNT %zu\n\nenum {\n",
            r->word_count);
    for (size_t i = 0; i < r->component_count; i++)
        fprintf(out, "    CPU_COMPONENT_%s = %u,\n", upper(r->components[i].name),
                r->components[i].id);
    fputs("};\n", out);
}

static void write_name(FILE *out, const char *member, const char *name)
{
    if (name)
        fprintf(out, " .%s = \"%s\",", member, name);
}

static int openssl_bit(const struct registry *r, const struct feature *f)
{
    if (f->openssl_name)
        return atoi(f->openssl_name);
    if (r->words[f->word].openssl < 0 || (f->kind != ISA && f->kind != STATE && f->kind != HINT))
        return -1;
    return r->words[f->word].openssl + (int)f->bit;
}

static void write_feature(const struct registry *r, const struct feature *f, FILE *out)
{
    fprintf(out, "    [CPU_FEATURE_%s] = {.name = \"%s\", .leaf = 0x%xU, .subleaf = %u,",
            upper(f->name), f->name, f->place.leaf, f->place.subleaf);
    fprintf(out, " .reg = CPU_%s, .bit = %u, .word = %d,", upper(register_names[f->place.reg]),
            f->bit, f->word);
    fprintf(out, " .kind = CPU_KIND_%s, .effect = CPU_EFFECT_%s,", upper(kind_names[f->kind]),
            upper(effect_names[f->effect]));
    size_t count = 0;
    for (size_t i = 0; i < f->need_count; i++)
        count += f->needs[i] >= 0;
    if (count) {
        fputs(" .needs = (const uint16_t[]){", out);
        for (size_t i = 0; i < f->need_count; i++)
            if (f->needs[i] >= 0)
                fprintf(out, "CPU_FEATURE_%s, ", upper(r->features[f->needs[i]].name));
        fprintf(out, "}, .need_count = %zu,", count);
    }
    if (f->components)
        fprintf(out, " .components = UINT64_C(0x%llx),", (unsigned long long)f->components);
    fprintf(out, " .openssl_bit = %d,", openssl_bit(r, f));
    write_name(out, "linux_name", f->linux_name);
    write_name(out, "glibc_name", f->glibc_name);
    write_name(out, "go_name", f->go_name);
    write_name(out, "qemu_name", f->qemu_name);
    write_name(out, "source", f->source);
    write_name(out, "title", f->title);
    fputs("},\n", out);
}

/* Whether the bit is only kept because others need it. */
static bool is_condition(const struct registry *r, size_t at)
{
    if (r->features[at].kind == DYNAMIC)
        return true;
    if (r->features[at].kind != SYSTEM)
        return false;
    for (size_t i = 0; i < r->feature_count; i++)
        for (size_t n = 0; n < r->features[i].need_count; n++)
            if (r->features[i].needs[n] == (int)at)
                return true;
    return false;
}

static void write_words(const struct registry *r, FILE *out)
{
    fputs("const struct cpu_word cpu_words[CPU_WORD_COUNT] = {\n", out);
    for (size_t i = 0; i < r->word_count; i++) {
        const struct word *w = &r->words[i];
        uint32_t isa = 0, hint = 0, behaviour = 0, condition = 0, ignored = w->field_bits;
        for (size_t k = 0; k < r->feature_count; k++) {
            const struct feature *f = &r->features[k];
            if (f->word != (int)i)
                continue;
            uint32_t *mask = f->kind == ISA || f->kind == STATE ? &isa
                             : f->kind == HINT                  ? &hint
                             : f->kind == BEHAVIOUR             ? &behaviour
                             : is_condition(r, k)               ? &condition
                                                                : &ignored;
            *mask |= 1U << f->bit;
        }
        fprintf(out,
                "    {.leaf = 0x%xU, .subleaf = %u, .reg = CPU_%s, .isa = 0x%08xU, .hint = 0x%08xU,"
                " .behaviour = 0x%08xU, .condition = 0x%08xU, .ignored = 0x%08xU},\n",
                w->place.leaf, w->place.subleaf, upper(register_names[w->place.reg]), isa, hint,
                behaviour, condition, ignored);
    }
    fputs("};\n\nconst int16_t cpu_feature_at[CPU_WORD_COUNT][32] = {\n", out);
    for (size_t i = 0; i < r->word_count; i++) {
        fputs("    {", out);
        for (unsigned bit = 0; bit < 32; bit++) {
            int at = -1;
            for (size_t k = 0; k < r->feature_count; k++)
                if (r->features[k].word == (int)i && r->features[k].bit == bit)
                    at = (int)k;
            fprintf(out, "%d,%s", at, bit % 16 == 15 ? "\n     " : " ");
        }
        fputs("},\n", out);
    }
    fputs("};\n\n", out);
}

static void write_table(const struct registry *r, FILE *out)
{
    fputs("/* Generated from schema/features.txt by registry_gen; do not edit. */\n\n"
          "const struct cpu_feature cpu_features[CPU_FEATURE_COUNT] = {\n",
          out);
    for (size_t i = 0; i < r->feature_count; i++)
        write_feature(r, &r->features[i], out);
    fputs("};\n\nconst uint16_t cpu_feature_order[CPU_FEATURE_COUNT] = {\n", out);
    for (size_t i = 0; i < r->feature_count; i++)
        fprintf(out, "    CPU_FEATURE_%s,\n", upper(r->features[r->order[i]].name));
    fputs("};\n\n", out);
    write_words(r, out);
    fputs("const struct cpu_field cpu_fields[CPU_FIELD_COUNT] = {\n", out);
    for (size_t i = 0; i < r->field_count; i++) {
        const struct field *f = &r->fields[i];
        fprintf(out,
                "    {.name = \"%s\", .leaf = 0x%xU, .subleaf = %u, .reg = CPU_%s, .low = %u,"
                " .width = %u, .kind = CPU_KIND_%s, .effect = CPU_EFFECT_%s, .feature = %d,"
                " .source = \"%s\","
                " .title = \"%s\"},\n",
                f->name, f->place.leaf, f->place.subleaf, upper(register_names[f->place.reg]),
                f->low, f->width, upper(kind_names[f->kind]), upper(effect_names[f->effect]),
                f->feature, f->source, f->title);
    }
    fputs("};\n\nconst struct cpu_component_info cpu_components[] = {\n", out);
    for (size_t i = 0; i < r->component_count; i++) {
        const struct component *c = &r->components[i];
        fprintf(out,
                "    {.id = %u, .name = \"%s\", .supervisor = %s, .feature = %d, .source = \"%s\","
                " .title = \"%s\"},\n",
                c->id, c->name, c->supervisor ? "true" : "false", c->feature, c->source, c->title);
    }
    fprintf(out,
            "};\nconst size_t cpu_component_info_count = %zu;\n\n"
            "const struct cpu_ignored_leaf cpu_ignored_leaves[] = {\n",
            r->component_count);
    for (size_t i = 0; i < r->ignored_count; i++)
        fprintf(out, "    {0x%xU, 0x%xU, CPU_KIND_%s, \"%s\"},\n", r->ignored[i].first,
                r->ignored[i].last, upper(kind_names[r->ignored[i].kind]), r->ignored[i].title);
    fprintf(out, "};\nconst size_t cpu_ignored_leaf_count = %zu;\n", r->ignored_count);
}

static const char *or_dash(const char *text)
{
    return text ? text : "";
}

static void doc_features(const struct registry *r, size_t word, FILE *out)
{
    fputs("\n| bit | name | kind | when missing | needs | glibc | OpenSSL | Go | QEMU | what | "
          "source |\n"
          "| --: | --- | --- | --- | --- | --- | --: | --- | --- | --- | --- |\n",
          out);
    for (unsigned bit = 0; bit < 32; bit++)
        for (size_t i = 0; i < r->feature_count; i++) {
            const struct feature *f = &r->features[i];
            if (f->word != (int)word || f->bit != bit)
                continue;
            fprintf(out, "| %u | `%s` | %s | %s |", bit, f->name, kind_names[f->kind],
                    f->effect == EFFECT_NONE ? "" : effect_names[f->effect]);
            for (size_t n = 0; n < f->need_count; n++)
                fprintf(out, "%s%s", n ? ", " : " ", f->need_names[n]);
            fprintf(out, " | %s |", or_dash(f->glibc_name));
            if (openssl_bit(r, f) >= 0)
                fprintf(out, " %d", openssl_bit(r, f));
            fprintf(out, " | %s | %s | %s%s | %s |\n", or_dash(f->go_name), or_dash(f->qemu_name),
                    f->title, f->linux_name ? "" : " (no kernel flag)", f->source);
        }
}

static void write_doc(const struct registry *r, FILE *out)
{
    fputs(
        "<!-- Generated from schema/features.txt by registry_gen; do not edit. -->\n"
        "# The features that cpubroker knows\n\n"
        "One file, `schema/features.txt`, lists every CPUID bit that the broker reckons with. "
        "Names are "
        "those of `/proc/cpuinfo` where the kernel has one. [verdict.md](verdict.md) explains what "
        "the kinds mean for a move.\n\n"
        "| kind | over a pool | a difference |\n| --- | --- | --- |\n"
        "| isa | AND | missing on the target: refused |\n"
        "| state | AND, and its xsave components agree | missing on the target: refused |\n"
        "| hint | AND | missing on the target: a warning |\n"
        "| behaviour | OR: set means a guarantee less | a warning |\n"
        "| limit | MIN | lower on the target: a warning, unless it harms nobody |\n"
        "| equal | must be equal | refused |\n"
        "| derived | recomputed from what survives | |\n"
        "| dynamic | a condition of other bits: what the kernel switched on | |\n"
        "| topology, system | ignored | |\n\n"
        "A bit in one of these registers that has no row is unknown: never part of a mask, refused "
        "where the source has it and the target has not, and reported where both have it.\n",
        out);
    for (size_t w = 0; w < r->word_count; w++) {
        const struct place *p = &r->words[w].place;
        fprintf(out, "\n## Leaf 0x%x", p->leaf);
        if (p->leaf == 7 || p->leaf == 13 || p->leaf == 20 || p->leaf == 30 || p->leaf == 36)
            fprintf(out, ".%u", p->subleaf);
        fprintf(out, " %s: %s\n", upper(register_names[p->reg]), r->words[w].title);
        doc_features(r, w, out);
    }
    fputs("\n## Values\n\n| name | leaf | bits | kind | what | source |\n"
          "| --- | --- | --- | --- | --- | --- |\n",
          out);
    for (size_t i = 0; i < r->field_count; i++) {
        const struct field *f = &r->fields[i];
        fprintf(out, "| `%s` | 0x%x.%u %s | %u-%u | %s | %s | %s |\n", f->name, f->place.leaf,
                f->place.subleaf, upper(register_names[f->place.reg]), f->low,
                f->low + f->width - 1, kind_names[f->kind], f->title, f->source);
    }
    fputs("\n## Components of the xsave area\n\n"
          "| XCR0 bit | name | whose | enabled only with | what | source |\n"
          "| --: | --- | --- | --- | --- | --- |\n",
          out);
    for (size_t i = 0; i < r->component_count; i++) {
        const struct component *c = &r->components[i];
        fprintf(out, "| %u | `%s` | %s | %s | %s | %s |\n", c->id, c->name,
                c->supervisor ? "the kernel (XSS)" : "processes", c->feature_name, c->title,
                c->source);
    }
    fputs("\n## Leaves without features\n\n| leaves | kind | what |\n| --- | --- | --- |\n", out);
    for (size_t i = 0; i < r->ignored_count; i++) {
        const struct ignored *g = &r->ignored[i];
        fprintf(out, g->first == g->last ? "| 0x%x" : "| 0x%x to 0x%x", g->first, g->last);
        fprintf(out, " | %s | %s |\n", kind_names[g->kind], g->title);
    }
    fputs("\n## Sources\n\n", out);
    for (size_t i = 0; i < r->source_count; i++)
        fprintf(out, "- %s: %s\n", r->sources[i].name, r->sources[i].title);
}

int main(int argc, char **argv)
{
    if (argc < 3 || argc > 4) {
        fputs("usage: registry_gen FILE check|ids|table|doc [OUTPUT]\n", stderr);
        return 2;
    }
    static struct registry r;
    r.path = argv[1];
    registry_read(&r);
    FILE *out = argc == 4 ? fopen(argv[3], "we") : stdout;
    if (!out) {
        fprintf(stderr, "%s: %s\n", argv[3], strerror(errno));
        return 1;
    }
    if (strcmp(argv[2], "ids") == 0)
        write_ids(&r, out);
    else if (strcmp(argv[2], "table") == 0)
        write_table(&r, out);
    else if (strcmp(argv[2], "doc") == 0)
        write_doc(&r, out);
    else if (strcmp(argv[2], "check") != 0)
        return fputs("registry_gen: check, ids, table or doc?\n", stderr), 2;
    if (fflush(out) != 0 || ferror(out)) {
        fprintf(stderr, "cannot write the output: %s\n", strerror(errno));
        return 1;
    }
    return 0;
}
