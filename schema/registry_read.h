/* SPDX-License-Identifier: Apache-2.0 */
/* registry_read.h - schema/features.txt in memory, for registry_gen only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FEATURES_MAX 1024
#define NEEDS_MAX    12
#define ROWS_MAX     64 /* of everything but features */

enum { ISA, STATE, HINT, BEHAVIOUR, LIMIT, EQUAL, DERIVED, DYNAMIC, TOPOLOGY, SYSTEM };
enum { EFFECT_NONE, EFFECT_SIGILL, EFFECT_SILENT, EFFECT_CORRUPTION, EFFECT_HINT };

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

/* The names by which the file calls registers, kinds and effects, in the order of the enums. */
extern const char *const register_names[4];
extern const char *const kind_names[10];
extern const char *const effect_names[5];

/* Reads and checks r->path. A mistake is told on stderr with its line, and exits with 1. */
void registry_read(struct registry *r);
/* calloc that does not fail. */
void *need_zeroed(size_t count, size_t size);
