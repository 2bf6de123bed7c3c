/* SPDX-License-Identifier: Apache-2.0 */
/* registry_gen.c - checks schema/features.txt and writes what is generated from it.
 *
 *     registry_gen FILE check|ids|table|doc [OUTPUT]
 *
 * `ids` is the C header of identifiers, `table` the C tables, `doc` docs/features.md. Every run
 * checks the whole file first; a mistake is told with its line and ends the build. The head of
 * the file explains its columns. */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FEATURES_MAX   1024
#define NEEDS_MAX      12
#define ROWS_MAX       64
#define LINE_BYTES_MAX 512
#define SPACE          " \t"

struct place {
    uint32_t leaf, subleaf;
    int reg;
};

struct feature {
    unsigned line;
    char name[40];
    struct place place;
    unsigned bit;
    int kind, effect, word;
    int needs[NEEDS_MAX];
    char need_names[NEEDS_MAX][40];
    size_t need_count;
    uint64_t components;
    char *linux_name, *glibc_name, *go_name, *qemu_name, *openssl_name;
    char *source, *title;
};

struct word {
    struct place place;
    int openssl;
    uint32_t used; /* bits that have a meaning */
    uint32_t field_bits;
    char *title;
};

struct field {
    char name[40];
    struct place place;
    unsigned low, width;
    int kind, effect;
    unsigned line;
    char feature_name[40];
    int feature; /* compared only where the source has it; -1: always */
    char *source, *title;
};

struct component {
    unsigned line, id;
    char name[40], feature_name[40];
    bool supervisor;
    int feature;
    char *source, *title;
};

struct ignored {
    uint32_t first, last;
    int kind;
    char *title;
};

struct source {
    char name[40];
    char *title;
};

struct registry {
    const char *path;
    unsigned line;
    struct feature *features;
    size_t feature_count;
    struct word words[ROWS_MAX];
    size_t word_count;
    struct field fields[ROWS_MAX];
    size_t field_count;
    struct component components[ROWS_MAX];
    size_t component_count;
    struct ignored ignored[ROWS_MAX];
    size_t ignored_count;
    struct source sources[ROWS_MAX];
    size_t source_count;
    int *order; /* every feature after its needs */
};

static const char *const registers[] = {"eax", "ebx", "ecx", "edx"};
static const char *const kinds[] = {"isa",   "state",   "hint",    "behaviour", "limit",
                                    "equal", "derived", "dynamic", "topology",  "system"};
static const char *const effects[] = {"none", "sigill", "silent", "corruption", "hint"};
enum { ISA, STATE, HINT, BEHAVIOUR, LIMIT, EQUAL, DERIVED, DYNAMIC, TOPOLOGY, SYSTEM };
enum { EFFECT_NONE, EFFECT_SIGILL, EFFECT_SILENT, EFFECT_CORRUPTION, EFFECT_HINT };

__attribute__((noreturn, format(printf, 3, 4))) static void fail(const struct registry *r,
                                                                 unsigned line, const char *format,
                                                                 ...)
{
    va_list ap;
    va_start(ap, format);
    fprintf(stderr, "%s:%u: ", r->path, line);
    vfprintf(stderr, format, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(1);
}

static void *need_memory(void *p)
{
    if (!p) {
        fputs("registry_gen: out of memory\n", stderr);
        exit(1);
    }
    return p;
}

static char *copy_text(const char *text)
{
    return need_memory(strdup(text));
}

/* The next blank-separated word of *rest. */
static char *next(struct registry *r, char **rest, const char *what)
{
    char *text = *rest + strspn(*rest, SPACE);
    if (!*text)
        fail(r, r->line, "the column '%s' is missing", what);
    char *end = text + strcspn(text, SPACE);
    *rest = *end ? end + 1 : end;
    *end = '\0';
    return text;
}

static char *remainder_text(struct registry *r, char *rest, const char *what)
{
    rest += strspn(rest, SPACE);
    if (!*rest)
        fail(r, r->line, "the column '%s' is missing", what);
    if (strpbrk(rest, "\"\\|"))
        fail(r, r->line, "%s: no quotes, backslashes or bars, please", what);
    return copy_text(rest);
}

static uint32_t number(struct registry *r, const char *text, const char *what)
{
    char *end = NULL;
    errno = 0;
    unsigned long value = strtoul(text, &end, 0);
    if (!isdigit((unsigned char)*text) || *end || errno || value > UINT32_MAX)
        fail(r, r->line, "%s: expected a number, not '%s'", what, text);
    return (uint32_t)value;
}

static int one_of(struct registry *r, const char *text, const char *what, const char *const *names,
                  size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i], text) == 0)
            return (int)i;
    fail(r, r->line, "%s: '%s' is none that is known", what, text);
}

static void name_of(struct registry *r, const char *text, char name[40])
{
    size_t length = strlen(text);
    if (length >= 40 || strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_") != length)
        fail(r, r->line, "'%s' is no name: expected up to 39 of a-z 0-9 _", text);
    snprintf(name, 40, "%s", text);
}

static struct place place_of(struct registry *r, char **rest)
{
    struct place place;
    place.leaf = number(r, next(r, rest, "leaf"), "leaf");
    place.subleaf = number(r, next(r, rest, "subleaf"), "subleaf");
    place.reg = one_of(r, next(r, rest, "register"), "register", registers, 4);
    return place;
}

static int find_feature(const struct registry *r, const char *name)
{
    for (size_t i = 0; i < r->feature_count; i++)
        if (strcmp(r->features[i].name, name) == 0)
            return (int)i;
    return -1;
}

static struct word *find_word(struct registry *r, const struct place *p)
{
    for (size_t i = 0; i < r->word_count; i++) {
        const struct place *q = &r->words[i].place;
        if (q->leaf == p->leaf && q->subleaf == p->subleaf && q->reg == p->reg)
            return &r->words[i];
    }
    return NULL;
}

static const char *source_of(struct registry *r, const char *name)
{
    for (size_t i = 0; i < r->source_count; i++)
        if (strcmp(r->sources[i].name, name) == 0)
            return r->sources[i].name;
    fail(r, r->line, "source '%s' is not declared", name);
}

static void room(struct registry *r, size_t count)
{
    if (count >= ROWS_MAX)
        fail(r, r->line, "more than %d rows of this sort", ROWS_MAX);
}

static void read_source(struct registry *r, char *rest)
{
    room(r, r->source_count);
    struct source *s = &r->sources[r->source_count++];
    snprintf(s->name, sizeof(s->name), "%s", next(r, &rest, "name"));
    s->title = remainder_text(r, rest, "title");
}

static void read_register(struct registry *r, char *rest)
{
    room(r, r->word_count);
    struct word *w = &r->words[r->word_count];
    w->place = place_of(r, &rest);
    if (find_word(r, &w->place))
        fail(r, r->line, "this register is declared twice");
    const char *openssl = next(r, &rest, "openssl");
    w->openssl = strcmp(openssl, "-") == 0 ? -1 : (int)number(r, openssl, "openssl");
    w->title = remainder_text(r, rest, "title");
    r->word_count++;
}

static void read_field(struct registry *r, char *rest)
{
    room(r, r->field_count);
    struct field *f = &r->fields[r->field_count];
    name_of(r, next(r, &rest, "name"), f->name);
    for (size_t i = 0; i < r->field_count; i++)
        if (strcmp(r->fields[i].name, f->name) == 0)
            fail(r, r->line, "field '%s' is there twice", f->name);
    f->place = place_of(r, &rest);
    uint32_t high = 0, low = 0;
    const char *bits = next(r, &rest, "bits");
    if (sscanf(bits, "%u-%u", &low, &high) != 2 || low > high || high > 31)
        fail(r, r->line, "bits: expected LOW-HIGH, not '%s'", bits);
    f->low = low;
    f->width = high - low + 1;
    f->kind = one_of(r, next(r, &rest, "kind"), "kind", kinds, 10);
    f->effect = one_of(r, next(r, &rest, "effect"), "effect", effects, 5);
    f->line = r->line;
    snprintf(f->feature_name, sizeof(f->feature_name), "%s", next(r, &rest, "feature"));
    f->source = copy_text(source_of(r, next(r, &rest, "source")));
    f->title = remainder_text(r, rest, "title");
    struct word *w = find_word(r, &f->place);
    uint32_t mask = (f->width == 32 ? UINT32_MAX : (1U << f->width) - 1) << low;
    if (w && (w->used & mask))
        fail(r, r->line, "field '%s' overlaps other bits", f->name);
    if (w) {
        w->used |= mask;
        w->field_bits |= mask;
    }
    r->field_count++;
}

static void read_component(struct registry *r, char *rest)
{
    room(r, r->component_count);
    struct component *c = &r->components[r->component_count];
    c->line = r->line;
    c->id = number(r, next(r, &rest, "id"), "id");
    if (c->id > 62)
        fail(r, r->line, "component %u: expected 0..62", c->id);
    name_of(r, next(r, &rest, "name"), c->name);
    const char *who = next(r, &rest, "user or supervisor");
    if (strcmp(who, "user") != 0 && strcmp(who, "supervisor") != 0)
        fail(r, r->line, "expected user or supervisor, not '%s'", who);
    c->supervisor = *who == 's';
    snprintf(c->feature_name, sizeof(c->feature_name), "%s", next(r, &rest, "feature"));
    c->source = copy_text(source_of(r, next(r, &rest, "source")));
    c->title = remainder_text(r, rest, "title");
    for (size_t i = 0; i < r->component_count; i++)
        if (r->components[i].id == c->id || strcmp(r->components[i].name, c->name) == 0)
            fail(r, r->line, "component %u (%s) is there twice", c->id, c->name);
    r->component_count++;
}

static void read_ignored(struct registry *r, char *rest)
{
    room(r, r->ignored_count);
    struct ignored *g = &r->ignored[r->ignored_count++];
    const char *range = next(r, &rest, "leaves");
    char *end = NULL;
    unsigned long first = strtoul(range, &end, 0);
    unsigned long last = *end == '-' ? strtoul(end + 1, &end, 0) : first;
    if (*end || first > last || last > UINT32_MAX)
        fail(r, r->line, "leaves: expected FIRST-LAST, not '%s'", range);
    g->first = (uint32_t)first;
    g->last = (uint32_t)last;
    g->kind = one_of(r, next(r, &rest, "kind"), "kind", kinds, 10);
    g->title = remainder_text(r, rest, "title");
}

static void read_needs(struct registry *r, struct feature *f, char *text)
{
    if (strcmp(text, "-") == 0)
        return;
    char *rest = NULL;
    for (char *need = strtok_r(text, ",", &rest); need; need = strtok_r(NULL, ",", &rest)) {
        if (f->need_count == NEEDS_MAX)
            fail(r, r->line, "more than %d needs", NEEDS_MAX);
        if (strlen(need) >= sizeof(f->need_names[0]))
            fail(r, r->line, "the need '%s' is too long", need);
        snprintf(f->need_names[f->need_count++], sizeof(f->need_names[0]), "%s", need);
    }
}

static void read_names(struct registry *r, struct feature *f, char *text)
{
    if (strcmp(text, "-") == 0)
        return;
    char *rest = NULL;
    for (char *item = strtok_r(text, ",", &rest); item; item = strtok_r(NULL, ",", &rest)) {
        char *equals = strchr(item, '=');
        const char *value = equals ? equals + 1 : f->name;
        if (equals)
            *equals = '\0';
        char **at = strcmp(item, "linux") == 0     ? &f->linux_name
                    : strcmp(item, "glibc") == 0   ? &f->glibc_name
                    : strcmp(item, "go") == 0      ? &f->go_name
                    : strcmp(item, "qemu") == 0    ? &f->qemu_name
                    : strcmp(item, "openssl") == 0 ? &f->openssl_name
                                                   : NULL;
        if (!at)
            fail(r, r->line, "names: '%s' is not one of linux, glibc, go, qemu, openssl", item);
        if (*at || !*value)
            fail(r, r->line, "names: '%s' is given twice or is empty", item);
        *at = copy_text(value);
    }
}

static void read_feature(struct registry *r, const char *name, char *rest)
{
    if (r->feature_count == FEATURES_MAX)
        fail(r, r->line, "more than %d features", FEATURES_MAX);
    struct feature *f = &r->features[r->feature_count];
    f->line = r->line;
    name_of(r, name, f->name);
    if (find_feature(r, f->name) >= 0)
        fail(r, r->line, "feature '%s' is there twice", f->name);
    f->place = place_of(r, &rest);
    f->bit = number(r, next(r, &rest, "bit"), "bit");
    if (f->bit > 31)
        fail(r, r->line, "bit %u: expected 0..31", f->bit);
    f->kind = one_of(r, next(r, &rest, "kind"), "kind", kinds, 10);
    f->effect = one_of(r, next(r, &rest, "effect"), "effect", effects, 5);
    read_needs(r, f, next(r, &rest, "needs"));
    read_names(r, f, next(r, &rest, "names"));
    f->source = copy_text(source_of(r, next(r, &rest, "source")));
    f->title = remainder_text(r, rest, "title");
    struct word *w = find_word(r, &f->place);
    if (!w)
        fail(r, r->line, "leaf 0x%x.%u %s is not declared as a register", f->place.leaf,
             f->place.subleaf, registers[f->place.reg]);
    if (w->used & (1U << f->bit))
        fail(r, r->line, "bit %u of this register has a meaning already", f->bit);
    w->used |= 1U << f->bit;
    f->word = (int)(w - r->words);
    r->feature_count++;
}

static void read_line(struct registry *r, char *line)
{
    char *rest = line;
    const char *first = next(r, &rest, "name");
    if (strcmp(first, "source") == 0)
        read_source(r, rest);
    else if (strcmp(first, "register") == 0)
        read_register(r, rest);
    else if (strcmp(first, "field") == 0)
        read_field(r, rest);
    else if (strcmp(first, "component") == 0)
        read_component(r, rest);
    else if (strcmp(first, "ignore") == 0)
        read_ignored(r, rest);
    else
        read_feature(r, first, rest);
}

static void read_file(struct registry *r)
{
    FILE *file = fopen(r->path, "re");
    if (!file) {
        fprintf(stderr, "%s: %s\n", r->path, strerror(errno));
        exit(1);
    }
    char line[LINE_BYTES_MAX];
    while (fgets(line, sizeof(line), file)) {
        r->line++;
        size_t length = strlen(line);
        if (length == sizeof(line) - 1 && line[length - 1] != '\n')
            fail(r, r->line, "longer than %d bytes", LINE_BYTES_MAX - 2);
        while (length && isspace((unsigned char)line[length - 1]))
            line[--length] = '\0';
        const char *text = line + strspn(line, SPACE);
        if (*text && *text != '#')
            read_line(r, line);
    }
    fclose(file);
}

/* What the registry must be: needs that exist, effects that fit the kind. */
static void check_feature(struct registry *r, struct feature *f)
{
    bool usable = f->kind == ISA || f->kind == STATE;
    if (usable && f->effect == EFFECT_NONE)
        fail(r, f->line, "%s: what happens when it is missing?", f->name);
    if ((f->kind == HINT) != (f->effect == EFFECT_HINT))
        fail(r, f->line, "%s: kind hint and effect hint belong together", f->name);
    if (!usable && f->kind != HINT && f->kind != BEHAVIOUR && f->effect != EFFECT_NONE)
        fail(r, f->line, "%s: a bit that is ignored has no effect", f->name);
    if (f->kind == LIMIT || f->kind == EQUAL)
        fail(r, f->line, "%s: limits and equal values are fields", f->name);
    for (size_t i = 0; i < f->need_count; i++) {
        const char *need = f->need_names[i];
        f->needs[i] = -1;
        if (*need == '@') {
            for (size_t c = 0; c < r->component_count; c++)
                if (strcmp(r->components[c].name, need + 1) == 0 && !r->components[c].supervisor) {
                    f->components |= UINT64_C(1) << r->components[c].id;
                    f->needs[i] = -2;
                }
            if (f->needs[i] == -1)
                fail(r, f->line, "%s needs '%s', which is no user component", f->name, need);
            continue;
        }
        f->needs[i] = find_feature(r, need);
        if (f->needs[i] < 0)
            fail(r, f->line, "%s needs '%s', which is not in the registry", f->name, need);
        const struct feature *n = &r->features[f->needs[i]];
        if (n->kind == HINT || n->kind == BEHAVIOUR || n->kind == TOPOLOGY)
            fail(r, f->line, "%s needs '%s', which is of kind %s", f->name, need, kinds[n->kind]);
    }
    if (f->components && f->kind != STATE)
        fail(r, f->line, "%s: what needs a component is of kind state", f->name);
}

/* Appends `at` to the order behind all that it needs; `path` marks what is being visited. */
static void visit(struct registry *r, int at, char *mark, size_t *count)
{
    struct feature *f = &r->features[at];
    if (mark[at] == 2)
        return;
    if (mark[at] == 1)
        fail(r, f->line, "%s needs itself, by way of its needs", f->name);
    mark[at] = 1;
    for (size_t i = 0; i < f->need_count; i++)
        if (f->needs[i] >= 0)
            visit(r, f->needs[i], mark, count);
    mark[at] = 2;
    r->order[(*count)++] = at;
}

static void check(struct registry *r)
{
    for (size_t i = 0; i < r->feature_count; i++)
        check_feature(r, &r->features[i]);
    for (size_t i = 0; i < r->component_count; i++) {
        struct component *c = &r->components[i];
        c->feature = strcmp(c->feature_name, "-") == 0 ? -1 : find_feature(r, c->feature_name);
        if (c->feature < 0 && strcmp(c->feature_name, "-") != 0)
            fail(r, c->line, "component %s: no feature '%s'", c->name, c->feature_name);
    }
    for (size_t i = 0; i < r->field_count; i++) {
        struct field *f = &r->fields[i];
        f->feature = strcmp(f->feature_name, "-") == 0 ? -1 : find_feature(r, f->feature_name);
        if (f->feature < 0 && strcmp(f->feature_name, "-") != 0)
            fail(r, f->line, "field %s: no feature '%s'", f->name, f->feature_name);
        if (f->kind == EQUAL && f->feature < 0)
            fail(r, f->line, "field %s: which feature drops from a pool when it differs?", f->name);
    }
    char *mark = need_memory(calloc(r->feature_count + 1, 1));
    r->order = need_memory(calloc(r->feature_count + 1, sizeof(*r->order)));
    size_t count = 0;
    for (size_t i = 0; i < r->feature_count; i++)
        visit(r, (int)i, mark, &count);
    free(mark);
}

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
    fprintf(out, " .reg = CPU_%s, .bit = %u, .word = %d,", upper(registers[f->place.reg]), f->bit,
            f->word);
    fprintf(out, " .kind = CPU_KIND_%s, .effect = CPU_EFFECT_%s,", upper(kinds[f->kind]),
            upper(effects[f->effect]));
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
                w->place.leaf, w->place.subleaf, upper(registers[w->place.reg]), isa, hint,
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
                f->name, f->place.leaf, f->place.subleaf, upper(registers[f->place.reg]), f->low,
                f->width, upper(kinds[f->kind]), upper(effects[f->effect]), f->feature, f->source,
                f->title);
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
                r->ignored[i].last, upper(kinds[r->ignored[i].kind]), r->ignored[i].title);
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
            fprintf(out, "| %u | `%s` | %s | %s |", bit, f->name, kinds[f->kind],
                    f->effect == EFFECT_NONE ? "" : effects[f->effect]);
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
        fprintf(out, " %s: %s\n", upper(registers[p->reg]), r->words[w].title);
        doc_features(r, w, out);
    }
    fputs("\n## Values\n\n| name | leaf | bits | kind | what | source |\n"
          "| --- | --- | --- | --- | --- | --- |\n",
          out);
    for (size_t i = 0; i < r->field_count; i++) {
        const struct field *f = &r->fields[i];
        fprintf(out, "| `%s` | 0x%x.%u %s | %u-%u | %s | %s | %s |\n", f->name, f->place.leaf,
                f->place.subleaf, upper(registers[f->place.reg]), f->low, f->low + f->width - 1,
                kinds[f->kind], f->title, f->source);
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
        fprintf(out, " | %s | %s |\n", kinds[g->kind], g->title);
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
    r.features = need_memory(calloc(FEATURES_MAX, sizeof(*r.features)));
    read_file(&r);
    check(&r);
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
