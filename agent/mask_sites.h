/* SPDX-License-Identifier: Apache-2.0 */
/* mask_sites.h - finds the CPUID instructions in code, and proves of each that it is one.
 *
 * The bytes 0f a2 stand in code far more often than the instruction, and whoever writes over a
 * false one corrupts data silently. So nothing is a site that was not proved to be; what could be
 * one and was not proved is told, for a program's CPUID is not masked there. docs/mask.md has the
 * rules.
 *
 * A site brings along what is needed to replace it: the instructions around it, in which of them
 * something depends on its place, and where branches lead. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cleanup.h"
#include "disassembly.h"
#include "elf_image.h"
#include "error.h"
#include "json.h"

/* The rules by which sites are found; the number changes whenever their result may. */
#define MASK_SITES_RULES 2

#define MASK_CANDIDATES_MAX 65536 /* of one image */

/* Of the instructions around a site those are kept that begin within so many bytes before its first
 * or behind its last byte: a jump of 5 bytes needs no more on either side. */
#define MASK_WINDOW_REACH            16
#define MASK_WINDOW_BYTES_MAX        64 /* REACH before it, three instructions of 15 bytes behind */
#define MASK_WINDOW_INSTRUCTIONS_MAX (2 * MASK_WINDOW_REACH + 1)

/* clang-format off */
#define MASK_PROOFS(X)                                                                             \
    X(FDE,           "fde",           "read from the start that its unwind information gives")     \
    X(GO,            "go",            "read from the start that Go's table of functions gives")      \
    X(SYMBOL,        "symbol",        "read from the start that its function's symbol gives")      \
    X(ENTRY,         "entry",         "branches lead there from where execution was seen")         \
    X(NEIGHBOURHOOD, "neighbourhood", "everything around it reads as code that uses CPUID")

/* Why a candidate is no site. Harmless: it is proved to be no CPUID. */
/*    name             on the wire          harmless  what it means */
#define MASK_DOUBTS(X)                                                                             \
    X(INSIDE,          "inside_instruction", true,  "part of another instruction")                 \
    X(OBJECT,          "data_symbol",        true,  "part of data that a symbol names")            \
    X(DATA_SECTION,    "data_section",       true,  "in a section of the file that holds no instructions") \
    X(CONTRADICTED,    "contradicted",       false, "two ways to read its function disagree")      \
    X(NOT_REACHED,     "not_reached",        false, "nothing in its function leads there")         \
    X(UNREADABLE,      "unreadable",         false, "its function does not decode up to there")    \
    X(UNLIKE_CODE,     "unlike_code",        false, "in no known function, amid what reads as data") \
    X(CUT,             "cut",                false, "in no known function, too near to an edge")   \
    X(TOO_LONG,        "too_long",           false, "its function is too long to be read")         \
    X(BUDGET,          "budget",             false, "there is too much to read in this file")
/* clang-format on */

enum mask_proof {
#define X(name, wire, meaning) MASK_PROOF_##name,
    MASK_PROOFS(X)
#undef X
        MASK_PROOF_COUNT
};

enum mask_doubt {
#define X(name, wire, harmless, meaning) MASK_DOUBT_##name,
    MASK_DOUBTS(X)
#undef X
        MASK_DOUBT_COUNT
};

const char *mask_proof_name(enum mask_proof proof);
const char *mask_doubt_name(enum mask_doubt doubt);
const char *mask_doubt_meaning(enum mask_doubt doubt);
bool mask_doubt_is_harmless(enum mask_doubt doubt); /* it is known to be no CPUID */

/* An instruction near a site. */
struct mask_instruction {
    int8_t at;      /* of its first byte, counted from the site's */
    bool is_target; /* a branch of its function leads to it, or one from elsewhere may */
    bool is_split;  /* the same of a byte within it: leave it alone */
    struct instruction in;
};

struct mask_site {
    uint64_t address;                      /* of the instruction's first byte */
    uint64_t offset;                       /* the same in the file; 0 in code alone */
    uint64_t function_start, function_end; /* by NEIGHBOURHOOD: what was looked at */
    enum mask_proof proof;
    uint8_t length; /* 2; more with prefixes */
    /* Its function jumps to computed addresses of which no table was found, so any instruction may
     * be a target. A tail call through a pointer looks the same. */
    bool unknown_targets;
    /* The window: what lies from `bytes_at` (at most 0) on, counted from the site. Compare it with
     * what is really there before a byte is written. */
    int8_t bytes_at;
    uint8_t byte_count;
    uint8_t bytes[MASK_WINDOW_BYTES_MAX];
    uint64_t targets; /* bit i: a branch leads, or may lead, to bytes[i] */
};

/* The bytes 0f a2 that are no site. */
struct mask_candidate {
    uint64_t address, offset; /* of the byte 0f */
    enum mask_doubt doubt;
};

struct mask_sites {
    struct mask_site *sites; /* owned; in rising order */
    size_t count;
    struct mask_candidate *rest; /* owned; likewise. Out of a cache: the doubtful ones alone */
    size_t rest_count;
    size_t doubts[MASK_DOUBT_COUNT]; /* how many there are of each kind, always all of them */
};

/* Looks through all executable segments. The caller owns *ret. Errors: ERROR_FAILED (bytes that
 * cannot be read), ERROR_TOO_LARGE (more candidates than MASK_CANDIDATES_MAX). */
int mask_sites_find(const struct elf_image *image, struct mask_sites **ret, struct error *err);
void mask_sites_free(struct mask_sites *sites); /* NULL is fine */
DEFINE_AUTO(mask_sites)

/* How many candidates are not known to be harmless: CPUID may stand there and is not covered. */
size_t mask_sites_doubtful(const struct mask_sites *sites);

/* The instructions of a site's window into ret[MASK_WINDOW_INSTRUCTIONS_MAX], in order; *ret_self
 * is the CPUID's index. The number of them, or 0 when the bytes do not fit the rest of the site. */
size_t mask_site_window(const struct mask_site *site, struct mask_instruction *ret,
                        size_t *ret_self);

/* The sites and, with `all`, every candidate besides; without, only those in doubt. The caller owns
 * the result. */
json_object *mask_sites_to_json(const struct mask_sites *sites, bool all);

/* The same as bytes, without the harmless candidates, for whoever keeps sites on this machine. The
 * caller owns the result. */
uint8_t *mask_sites_to_record(const struct mask_sites *sites, size_t *ret_length);
/* The reverse, with every number checked: a site whose bytes do not decode as such is an error. The
 * caller owns *ret. Errors: ERROR_INVALID. */
int mask_sites_from_record(const uint8_t *record, size_t length, struct mask_sites **ret,
                           struct error *err);
