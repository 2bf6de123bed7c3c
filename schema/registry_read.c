/* SPDX-License-Identifier: Apache-2.0 */
/* registry_read.c - reads schema/features.txt and checks that it can be right. */
#include "registry_read.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_BYTES_MAX 512
#define SPACE          " \t"

const char *const register_names[4] = {"eax", "ebx", "ecx", "edx"};
const char *const kind_names[10] = {"isa",   "state",   "hint",    "behaviour", "limit",
                                    "equal", "derived", "dynamic", "topology",  "system"};
const char *const effect_names[5] = {"none", "sigill", "silent", "corruption", "hint"};

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
    place.reg = one_of(r, next(r, rest, "register"), "register", register_names, 4);
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
    f->kind = one_of(r, next(r, &rest, "kind"), "kind", kind_names, 10);
    f->effect = one_of(r, next(r, &rest, "effect"), "effect", effect_names, 5);
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
    g->kind = one_of(r, next(r, &rest, "kind"), "kind", kind_names, 10);
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
    f->kind = one_of(r, next(r, &rest, "kind"), "kind", kind_names, 10);
    f->effect = one_of(r, next(r, &rest, "effect"), "effect", effect_names, 5);
    read_needs(r, f, next(r, &rest, "needs"));
    read_names(r, f, next(r, &rest, "names"));
    f->source = copy_text(source_of(r, next(r, &rest, "source")));
    f->title = remainder_text(r, rest, "title");
    struct word *w = find_word(r, &f->place);
    if (!w)
        fail(r, r->line, "leaf 0x%x.%u %s is not declared as a register", f->place.leaf,
             f->place.subleaf, register_names[f->place.reg]);
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
            fail(r, f->line, "%s needs '%s', which is of kind %s", f->name, need,
                 kind_names[n->kind]);
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

static bool same_name(const char *a, const char *b)
{
    return a && b && strcmp(a, b) == 0;
}

/* Nobody else may call two features alike either. */
static void check_names(struct registry *r)
{
    for (size_t i = 0; i < r->feature_count; i++)
        for (size_t k = 0; k < i; k++) {
            const struct feature *f = &r->features[i], *g = &r->features[k];
            if (same_name(f->linux_name, g->linux_name) ||
                same_name(f->glibc_name, g->glibc_name) || same_name(f->go_name, g->go_name) ||
                same_name(f->qemu_name, g->qemu_name))
                fail(r, f->line, "%s and %s have a name in common", f->name, g->name);
        }
}

static void check(struct registry *r)
{
    check_names(r);
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
    char *mark = need_zeroed(r->feature_count + 1, 1);
    r->order = need_zeroed(r->feature_count + 1, sizeof(*r->order));
    size_t count = 0;
    for (size_t i = 0; i < r->feature_count; i++)
        visit(r, (int)i, mark, &count);
    free(mark);
}

void *need_zeroed(size_t count, size_t size)
{
    return need_memory(calloc(count, size));
}

void registry_read(struct registry *r)
{
    r->features = need_zeroed(FEATURES_MAX, sizeof(*r->features));
    read_file(r);
    check(r);
}
