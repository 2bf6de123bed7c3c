/* SPDX-License-Identifier: Apache-2.0 */
/* format.c - the table of formats, and what all of them ask a mask. */
#include "format.h"

#include <string.h>

#include "cpu_profile_data.h"
#include "format_private.h"

static const struct {
    const char *name, *media_type, *help;
    int (*write)(const struct cpu_profile *mask, FILE *out, struct error *err);
} formats[] = {
#define X(format, name_, write_, media_type_, help_) \
    [FORMAT_##format] = {                            \
        .name = (name_), .media_type = (media_type_), .help = (help_), .write = (write_)},
    FORMATS(X)
#undef X
};

const char *format_name(enum format format)
{
    return formats[format].name;
}

const char *format_media_type(enum format format)
{
    return formats[format].media_type;
}

const char *format_help(enum format format)
{
    return formats[format].help;
}

int format_from_name(const char *name, enum format *ret, struct error *err)
{
#define X(format, name_, write, media_type, help) " " name_
    static const char names[] = FORMATS(X);
#undef X
    for (unsigned i = 0; i < FORMAT_COUNT; i++)
        if (strcmp(name, formats[i].name) == 0) {
            *ret = (enum format)i;
            return 0;
        }
    return error_set(err, ERROR_INVALID, "no format '%.40s', expected one of:%s", name, names);
}

char *format_write(enum format format, const struct cpu_profile *pool_mask, struct error *err)
{
    if (!pool_mask) {
        error_set(err, ERROR_CONFLICT,
                  "the pool has no members, so it has no mask; add a node to it first");
        return NULL;
    }
    autofree char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    int rc = out ? formats[format].write(pool_mask, out, err) : -1;
    if (!out || fclose(out) != 0) {
        error_errno(err, ERROR_INTERNAL, "writing the mask as %s", formats[format].name);
        return NULL;
    }
    if (rc < 0) {
        error_wrap(err, "writing the mask as %s", formats[format].name);
        return NULL;
    }
    return steal_ptr(&text);
}

/* ---- asking a mask */

bool format_is_maskable(const struct cpu_feature *feature)
{
    return feature->kind == CPU_KIND_ISA || feature->kind == CPU_KIND_STATE ||
           feature->kind == CPU_KIND_HINT;
}

bool format_lacks(const struct cpu_profile *mask, enum cpu_feature_id feature)
{
    return format_is_maskable(&cpu_features[feature]) && !cpu_profile_has(mask, feature);
}

bool format_has(const struct cpu_profile *mask, enum cpu_feature_id feature)
{
    const struct cpu_feature *f = &cpu_features[feature];
    return (format_is_maskable(f) || f->kind == CPU_KIND_DYNAMIC) && cpu_profile_has(mask, feature);
}

bool format_has_all(const struct cpu_profile *mask, const enum cpu_feature_id *features,
                    size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!cpu_profile_has(mask, features[i]))
            return false;
    return true;
}

struct format_bits format_bits(const struct cpu_profile *mask, unsigned word)
{
    uint32_t decided = cpu_words[word].isa | cpu_words[word].hint;
    uint32_t kept = mask->words[word] & decided;
    return (struct format_bits){.kept = kept, .dropped = decided & ~kept};
}

struct format_bits format_bits_at(const struct cpu_profile *mask, uint32_t leaf, uint32_t subleaf,
                                  unsigned reg)
{
    int word = cpu_word_find(leaf, subleaf, (enum cpu_register)reg);
    if (word < 0)
        return (struct format_bits){0};
    return format_bits(mask, (unsigned)word);
}

uint32_t format_word(const struct cpu_profile *mask, uint32_t leaf, uint32_t subleaf, unsigned reg)
{
    int word = cpu_word_find(leaf, subleaf, (enum cpu_register)reg);
    return word < 0 ? 0 : mask->words[word];
}

uint32_t format_field(const struct cpu_profile *mask, enum cpu_field_id field)
{
    return mask->fields[field];
}

uint32_t format_area_bytes(const struct cpu_profile *mask)
{
    return mask->area_bytes;
}

bool format_hides_xsavec(const struct cpu_profile *mask)
{
    return mask->plain_xsave;
}

bool format_has_leaf(const struct cpu_profile *mask, uint32_t leaf, uint32_t subleaf)
{
    if (leaf >= 0xc0000000)
        return false; /* Centaur's: their limit is not a field, and nobody masks them */
    if (leaf >= 0x80000000)
        return leaf <= format_field(mask, CPU_FIELD_MAX_EXTENDED_LEAF);
    if (leaf > format_field(mask, CPU_FIELD_MAX_BASIC_LEAF))
        return false;
    return leaf != 7 || subleaf <= format_field(mask, CPU_FIELD_MAX_LEAF7_SUBLEAF);
}
