/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_registry.h - the registry of CPUID features: what each bit is, what its lack does, what it
 * needs and what others call it.
 *
 * The tables are generated at build from schema/features.txt, whose head explains the columns;
 * docs/features.md lists them. Everything here is static data: borrowed, never freed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu_registry_ids.h" /* generated: enum cpu_feature_id, cpu_field_id, CPU_WORD_COUNT */

enum cpu_register { CPU_EAX, CPU_EBX, CPU_ECX, CPU_EDX };

/* How a bit or value combines over the members of a pool, and what a difference means.
 *     kind        name         over a pool */
#define CPU_KINDS(X)                                                                            \
    X(ISA, "isa")             /* AND */                                                         \
    X(STATE, "state")         /* AND; its xsave components must agree in layout as well */      \
    X(HINT, "hint")           /* AND; its lack only costs time */                               \
    X(BEHAVIOUR, "behaviour") /* OR: set means a guarantee less */                              \
    X(LIMIT, "limit")         /* MIN */                                                         \
    X(EQUAL, "equal")         /* must be equal */                                               \
    X(DERIVED, "derived")     /* recomputed from what survives */                               \
    X(DYNAMIC, "dynamic")     /* what the kernel switched on; only a condition of other bits */ \
    X(TOPOLOGY, "topology")   /* ignored: ids, counts, caches, frequencies, names */            \
    X(SYSTEM, "system")       /* ignored: only privileged code can use it */

/* What happens to a process that uses a feature which its new CPU lacks. */
#define CPU_EFFECTS(X)                                                  \
    X(NONE, "none")                                                     \
    X(SIGILL, "sigill")         /* it is killed */                      \
    X(SILENT, "silent")         /* it goes on with wrong results */     \
    X(CORRUPTION, "corruption") /* its memory is overwritten or lost */ \
    X(HINT, "hint")             /* it runs slower at most */

enum cpu_kind {
#define X(kind, name) CPU_KIND_##kind,
    CPU_KINDS(X)
#undef X
        CPU_KIND_COUNT
};

enum cpu_effect {
#define X(effect, name) CPU_EFFECT_##effect,
    CPU_EFFECTS(X)
#undef X
        CPU_EFFECT_COUNT
};

struct cpu_feature {
    const char *name; /* the Linux kernel's in /proc/cpuinfo, where it has one */
    uint32_t leaf, subleaf;
    enum cpu_register reg;
    unsigned bit;
    unsigned word; /* index into cpu_words */
    enum cpu_kind kind;
    enum cpu_effect effect; /* when missing */
    int openssl_bit;        /* in OPENSSL_ia32cap's vector, or -1 */
    const uint16_t *needs;  /* enum cpu_feature_id, direct needs only */
    size_t need_count;
    uint64_t components; /* the xsave components that it needs, as bits of XCR0 */
    /* What others call it; NULL where they have no name for it. */
    const char *linux_name, *glibc_name, *go_name, *qemu_name;
    const char *source; /* the document that defines it */
    const char *title;  /* a few words for people */
};

/* A CPUID register that holds feature bits, and which of its bits follow which rule. Bits in
 * none of the masks are unknown to the registry. */
struct cpu_word {
    uint32_t leaf, subleaf;
    enum cpu_register reg;
    uint32_t isa, hint, behaviour; /* isa: kinds isa and state */
    uint32_t condition;            /* kept only because other bits need them */
    uint32_t ignored;              /* system, topology, derived, and the bits of fields */
};

/* A value of several bits. */
struct cpu_field {
    const char *name;
    uint32_t leaf, subleaf;
    enum cpu_register reg;
    unsigned low, width;
    enum cpu_kind kind;     /* limit, equal, or one that is ignored */
    enum cpu_effect effect; /* CPU_EFFECT_NONE: a difference harms nobody and is not reported */
    int feature;            /* compared only where the source has it, or -1: always */
    const char *title, *source;
};

/* A component of the xsave area. */
struct cpu_component_info {
    unsigned id; /* the bit in XCR0, or in XSS when supervisor */
    const char *name;
    bool supervisor; /* in IA32_XSS: invisible to processes */
    int feature;     /* enum cpu_feature_id without which no kernel enables it, or -1 */
    const char *title, *source;
};

/* Leaves that hold no features: `first` to `last`, ignored with a reason. */
struct cpu_ignored_leaf {
    uint32_t first, last;
    enum cpu_kind kind;
    const char *title;
};

extern const struct cpu_feature cpu_features[CPU_FEATURE_COUNT];
extern const struct cpu_field cpu_fields[CPU_FIELD_COUNT];
extern const struct cpu_word cpu_words[CPU_WORD_COUNT];
extern const struct cpu_component_info cpu_components[];
extern const size_t cpu_component_info_count;
extern const struct cpu_ignored_leaf cpu_ignored_leaves[];
extern const size_t cpu_ignored_leaf_count;
/* Every feature after all that it needs. */
extern const uint16_t cpu_feature_order[CPU_FEATURE_COUNT];
/* The feature at a word's bit, or -1. */
extern const int16_t cpu_feature_at[CPU_WORD_COUNT][32];

/* -1 when there is no such feature. `name` may be any of its names: ours, the kernel's, QEMU's. */
int cpu_feature_from_name(const char *name, enum cpu_feature_id *ret);
/* The feature at a place, or -1. */
int cpu_feature_find(uint32_t leaf, uint32_t subleaf, enum cpu_register reg, unsigned bit);
/* The index into cpu_words, or -1 when that register holds no features. */
int cpu_word_find(uint32_t leaf, uint32_t subleaf, enum cpu_register reg);
/* NULL when the leaf is none that is ignored. */
const struct cpu_ignored_leaf *cpu_ignored_leaf_find(uint32_t leaf);
/* NULL when the registry does not know the component. */
const struct cpu_component_info *cpu_component_info_find(unsigned id);

const char *cpu_kind_name(enum cpu_kind kind);
const char *cpu_effect_name(enum cpu_effect effect);
const char *cpu_register_name(unsigned reg); /* "eax"; "?" for none */
/* "leaf 7 EBX bit 5", "leaf 0xd.1 EAX bit 1", for messages. */
void cpu_bit_place(uint32_t leaf, uint32_t subleaf, unsigned reg, unsigned bit, char *text,
                   size_t size);
