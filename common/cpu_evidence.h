/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_evidence.h - cpubroker.evidence/1: what a running tree of processes shows of the CPU features
 * that it uses, as an agent saw it from outside.
 *
 * docs/evidence.md tells where each fact comes from and what it proves. Evidence is a look at one
 * moment: the tree goes on running. What could not be seen is unknown, never guessed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cleanup.h"
#include "cpu_registry.h"
#include "error.h"
#include "json.h"

#define CPU_EVIDENCE_SCHEMA       "cpubroker.evidence/1"
#define CPU_EVIDENCE_MAX_BYTES    (16UL * 1024 * 1024)
#define CPU_EVIDENCE_TASKS_MAX    4096
#define CPU_EVIDENCE_THREADS_MAX  65536 /* of the whole tree */
#define CPU_EVIDENCE_UNKNOWNS_MAX 64    /* of one task */
#define CPU_EVIDENCE_TEXT_MAX     1024  /* bytes of one string */
/* Bytes of a message that is told with a move, and kept. */
#define CPU_EVIDENCE_TOLD_MAX (1024UL * 1024)

/* Whether a task may use AMX tiles (arch_prctl ARCH_REQ_XCOMP_PERM). */
#define CPU_AMX_ANSWERS(X) X(NO, "no") X(GRANTED, "granted") X(UNKNOWN, "unknown")

enum cpu_amx {
#define X(answer, name) CPU_AMX_##answer,
    CPU_AMX_ANSWERS(X)
#undef X
        CPU_AMX_COUNT
};

/* Sets of registers that code is marked as using (.note.gnu.property, x86 feature used).
 *     name    wire    bit of GNU_PROPERTY_X86_FEATURE_2_USED */
#define CPU_CODE_REGISTERS(X) \
    X(X86, "x86", 0)          \
    X(X87, "x87", 1)          \
    X(MMX, "mmx", 2)          \
    X(XMM, "xmm", 3)          \
    X(YMM, "ymm", 4)          \
    X(ZMM, "zmm", 5)          \
    X(TMM, "tmm", 10)         \
    X(MASK, "mask", 11)

enum cpu_code_register {
#define X(set, name, bit) CPU_CODE_##set = (1 << (bit)),
    CPU_CODE_REGISTERS(X)
#undef X
};

/* Control-flow protection that all mapped files are marked for (x86 feature). */
enum { CPU_FEATURE_1_IBT = 1, CPU_FEATURE_1_SHSTK = 2 };

struct cpu_evidence_thread {
    int64_t tid;
    bool state_known;       /* xstate_bv and live */
    uint64_t xstate_bv;     /* of its registers: components that the CPU calls in use */
    uint64_t live;          /* those of them that hold more than every new process has */
    int64_t altstack_bytes; /* its alternate signal stack; 0: none, -1: unknown */
    int signal_frame;       /* registers wait in one for a handler's return: 1, 0; -1: unknown */
    uint64_t alike;         /* so many further threads of the task of which the same is known */
};

struct cpu_evidence_task {
    int64_t pid;
    char *comm;                          /* owned */
    struct cpu_evidence_thread *threads; /* owned */
    size_t thread_count;
    enum cpu_amx amx;
    int shadow_stack;    /* any thread has one: 1, 0; -1: unknown */
    int64_t minsigstksz; /* AT_MINSIGSTKSZ of its own auxiliary vector, bytes; -1: unknown */

    /* What its C library has found usable when it started. */
    bool glibc_known;
    char *glibc_version;             /* owned; NULL: not told */
    uint32_t active[CPU_WORD_COUNT]; /* features (isa, state, hint) in the registry's words */
    char *glibc_tunables;            /* owned; GLIBC_TUNABLES of its environment; NULL: not set */

    /* What its mapped files say of their code. Levels are 1 (x86-64-v1) to 4; 0: nothing. */
    unsigned isa_needed; /* the highest that a file cannot do without */
    bool code_marked;    /* all code that it could run is marked, or is the C library's */
    unsigned isa_used;   /* where code_marked: the highest of an instruction in it, at least 1 */
    uint32_t registers;  /* where code_marked: enum cpu_code_register */
    char *unmarked_code; /* owned; where not code_marked: the first piece of such code */
    unsigned protection; /* CPU_FEATURE_1_* */
    bool vsyscall;       /* the legacy page is mapped */

    char **unknown; /* owned; sentences for people: what could not be seen, and why */
    size_t unknown_count;
};

struct cpu_evidence {
    int64_t pid, at_ms;              /* of the tree's root; Unix time */
    bool complete;                   /* every process and thread of the tree was looked at */
    struct cpu_evidence_task *tasks; /* owned */
    size_t task_count;
};

/* The tree as one. */
struct cpu_evidence_summary {
    bool state_known; /* of every thread */
    uint64_t xstate_bv, live;
    bool active_known; /* of every task */
    uint32_t active[CPU_WORD_COUNT];
    enum cpu_amx amx;
    int shadow_stack;
    bool altstack_known;             /* of every thread */
    int64_t smallest_altstack_bytes; /* of those that are known and there; -1: none is */
    int signal_frame;                /* any thread has one: 1, 0; -1: unknown */
    unsigned isa_needed;
};

/* Decodes and checks a message. The members of "summary" are not read: they are computed. The
 * caller owns *ret, which is not touched on failure. Errors: ERROR_INVALID naming the member. */
int cpu_evidence_parse(json_object *json, struct cpu_evidence **ret, struct error *err);
/* The message; the caller owns it. parse(to_json(e)) equals e. */
json_object *cpu_evidence_to_json(const struct cpu_evidence *evidence);
/* Tells threads of which the same is known once, and how many they are. Nothing that a verdict
 * looks at changes. */
void cpu_evidence_condense(struct cpu_evidence *evidence);
void cpu_evidence_summarize(const struct cpu_evidence *evidence, struct cpu_evidence_summary *ret);
/* Releases what *evidence holds and zeroes it. */
void cpu_evidence_done(struct cpu_evidence *evidence);
/* The same, and the struct itself: for what cpu_evidence_parse made. NULL is fine. */
void cpu_evidence_free(struct cpu_evidence *evidence);
DEFINE_AUTO(cpu_evidence)

/* A task with everything unknown, at the end; borrowed until the next one is added. */
struct cpu_evidence_task *cpu_evidence_add_task(struct cpu_evidence *evidence, int64_t pid,
                                                const char *comm);
/* A sentence for people; beyond CPU_EVIDENCE_UNKNOWNS_MAX it is dropped. */
void cpu_evidence_unknown(struct cpu_evidence_task *task, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The text with all that is not printable UTF-8 as '?', cut to CPU_EVIDENCE_TEXT_MAX bytes. The
 * caller owns it; NULL gives NULL. */
char *cpu_evidence_clean(const char *text);

const char *cpu_amx_name(enum cpu_amx amx);
/* "x86-64-v2" for 2; NULL for 0. Static. */
const char *cpu_isa_level_name(unsigned level);
