/* SPDX-License-Identifier: Apache-2.0 */
/* door_env.c - a variable of a container and the pool's value for it, made one.
 *
 * How the readers of each variable treat what is in it decides: glibc and Go take NAME=VALUE
 * items, a later one of the same name replacing an earlier one, and glibc's list of hardware
 * capabilities is replaced as a whole, so the lists are united; the JVM obeys the last option.
 * Merging what was merged changes nothing, since the API server may send a pod again. */
#include "door_admission.h"

#include <string.h>

#define HWCAPS "glibc.cpu.hwcaps"

/*     variable             between items */
#define MERGED_VARIABLES(X)  \
    X("GLIBC_TUNABLES", ':') \
    X("GODEBUG", ',')        \
    X("JAVA_TOOL_OPTIONS", ' ')

struct part { /* of a value, between separators */
    const char *text;
    size_t length;
};

/* The next part that is not empty. */
static bool next_part(const char **at, char separator, struct part *ret)
{
    while (**at == separator)
        (*at)++;
    if (!**at)
        return false;
    const char *end = strchrnul(*at, separator);
    *ret = (struct part){*at, (size_t)(end - *at)};
    *at = end;
    return true;
}

static size_t key_length(struct part p)
{
    const char *equals = memchr(p.text, '=', p.length);
    return equals ? (size_t)(equals - p.text) : p.length;
}

static bool same_key(struct part a, struct part b)
{
    size_t n = key_length(a);
    return n == key_length(b) && memcmp(a.text, b.text, n) == 0;
}

static bool is_hwcaps(struct part p)
{
    return key_length(p) == strlen(HWCAPS) && memcmp(p.text, HWCAPS, strlen(HWCAPS)) == 0;
}

static void add_part(struct door_text *out, char separator, struct part p)
{
    if (out->length)
        door_text_add_bytes(out, &separator, 1);
    door_text_add_bytes(out, p.text, p.length);
}

/* "-AVX2" and "AVX2" speak of the same thing. */
static struct part bare(struct part p)
{
    if (p.length && (*p.text == '-' || *p.text == '+'))
        return (struct part){p.text + 1, p.length - 1};
    return p;
}

/* The list behind "glibc.cpu.hwcaps=", as an owned string. */
static char *list_of(struct part p)
{
    size_t n = key_length(p);
    return n < p.length ? xasprintf("%.*s", (int)(p.length - n - 1), p.text + n + 1) : xstrdup("");
}

static bool lists(const char *list, struct part wanted)
{
    struct part p;
    while (next_part(&list, ',', &p)) {
        struct part a = bare(p), b = bare(wanted);
        if (a.length == b.length && memcmp(a.text, b.text, a.length) == 0)
            return true;
    }
    return false;
}

/* What the lists of `have` say of other capabilities than `want` does. */
static void add_other_hwcaps(struct door_text *out, const char *have, const char *want)
{
    struct part item, cap;
    while (next_part(&have, ':', &item)) {
        if (!is_hwcaps(item))
            continue;
        autofree char *list = list_of(item);
        for (const char *at = list; next_part(&at, ',', &cap);)
            if (!lists(want, cap))
                add_part(out, ',', cap);
    }
}

static void add_hwcaps(struct door_text *out, const char *have, struct part want)
{
    struct door_text list = {0};
    struct part cap;
    autofree char *wanted = list_of(want);
    add_other_hwcaps(&list, have, wanted);
    for (const char *at = wanted; next_part(&at, ',', &cap);)
        add_part(&list, ',', cap);
    autofree char *item = xasprintf(HWCAPS "=%s", list.text ? list.text : "");
    add_part(out, ':', (struct part){item, strlen(item)});
    door_text_done(&list);
}

static char *merge_items(const char *have, const char *want, char separator)
{
    struct door_text out = {0};
    struct part h, w;
    for (const char *at = have; next_part(&at, separator, &h);) {
        bool ours = false;
        for (const char *wat = want; !ours && next_part(&wat, separator, &w);)
            ours = same_key(h, w);
        if (!ours)
            add_part(&out, separator, h);
    }
    for (const char *at = want; next_part(&at, separator, &w);) {
        if (separator == ':' && is_hwcaps(w))
            add_hwcaps(&out, have, w);
        else
            add_part(&out, separator, w);
    }
    return door_text_take(&out);
}

/* The last option counts, and what is there may hold quotes: ours come last, as they are. */
static char *merge_options(const char *have, const char *want)
{
    size_t h = strlen(have), w = strlen(want);
    if (h >= w && strcmp(have + h - w, want) == 0 && (h == w || have[h - w - 1] == ' '))
        return xstrdup(have);
    return xasprintf("%s%s%s", have, *have ? " " : "", want);
}

char *door_env_merge(const char *name, const char *have, const char *want, bool *ret_replaced)
{
    static const struct {
        const char *name;
        char separator;
    } merged[] = {
#define X(variable, separator) {variable, separator},
        MERGED_VARIABLES(X)
#undef X
    };
    char *value = NULL;
    *ret_replaced = false;
    for (size_t i = 0; i < ARRAY_LEN(merged) && !value; i++)
        if (strcmp(name, merged[i].name) == 0)
            value = merged[i].separator == ' ' ? merge_options(have, want)
                                               : merge_items(have, want, merged[i].separator);
    if (!value) {
        value = xstrdup(want);
        *ret_replaced = *have && strcmp(have, want) != 0;
    }
    if (strcmp(value, have) == 0) {
        free(value);
        return NULL;
    }
    return value;
}
