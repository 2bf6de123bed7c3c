/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_profile.h - what unprivileged code can see or execute on a node, in the registry's terms.
 *
 * A profile is what verdicts and masks reckon with: the features, limits and xsave layout that a
 * report amounts to after the CPUs of the node are intersected and dependencies closed. Profiles
 * are immutable and counted; equal content may share one. Pure: no I/O, no time. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "cleanup.h"
#include "cpu_registry.h"
#include "cpu_report.h"
#include "error.h"

#define CPU_COMPONENT_MAX  63 /* XCR0 bits 0..62 */
#define CPU_PROFILE_SCHEMA "cpubroker.profile/1"

struct cpu_component {
    bool enabled;      /* in XCR0 (or, where XCR0 is unknown, claimed by leaf 0xD) */
    bool layout_known; /* size and offset were reported */
    bool aligned;      /* aligned to 64 bytes in the compacted format (0xD.n ECX[1]) */
    bool conflict;     /* seen in two layouts: no buffer can be right for both */
    uint32_t size_bytes, offset_bytes;
};

struct cpu_profile; /* opaque */

int cpu_profile_from_report(const struct cpu_report *report, struct cpu_profile **ret,
                            struct error *err);
struct cpu_profile *cpu_profile_ref(struct cpu_profile *profile);
void cpu_profile_free(struct cpu_profile *profile); /* drops one reference; NULL is fine */
DEFINE_AUTO(cpu_profile)

/* What a process can have latched that was exposed to both: the union of features, used for a
 * workload's need after it has moved. Conflicting layouts are kept as conflicts. */
struct cpu_profile *cpu_profile_join(const struct cpu_profile *a, const struct cpu_profile *b);

bool cpu_profile_has(const struct cpu_profile *profile, enum cpu_feature_id feature);
bool cpu_profile_equal(const struct cpu_profile *a, const struct cpu_profile *b);
/* Equal profiles have equal hashes; for tables that share them. */
uint64_t cpu_profile_hash(const struct cpu_profile *profile);
/* "GenuineIntel", "AuthenticAMD"; "" when unknown or mixed. Borrowed. */
const char *cpu_profile_vendor(const struct cpu_profile *profile);
/* The brand string for people, "" when unknown. Borrowed. */
const char *cpu_profile_brand(const struct cpu_profile *profile);
/* "x86-64-v1" … "x86-64-v4", or "x86-64-v0" below v1 (x86-64 psABI, table of micro-architecture
 * levels). Static. */
const char *cpu_profile_level(const struct cpu_profile *profile);
/* The enabled components. False where XCR0 was not reported: *ret is then what leaf 0xD claims and
 * a feature bit bears out. */
bool cpu_profile_xcr0(const struct cpu_profile *profile, uint64_t *ret);
const struct cpu_component *cpu_profile_component(const struct cpu_profile *profile, unsigned id);
/* The uncompacted xsave area of the enabled components: max(offset+size), in bytes; 0: unknown. */
uint32_t cpu_profile_xsave_size(const struct cpu_profile *profile);
/* Names of the features, as a JSON array in the registry's order; the caller owns it. */
json_object *cpu_profile_feature_names(const struct cpu_profile *profile);

/* The profile as a record: its whole content as canonical JSON (the caller owns it), and the
 * SHA-256 of that, by which it is kept. */
char *cpu_profile_record(const struct cpu_profile *profile, char sha256[65]);
/* The same to be put into a message; the caller owns it. */
json_object *cpu_profile_record_json(const struct cpu_profile *profile);
/* from_record(record(p)) equals p. ERROR_INVALID where it is none, or names what the registry does
 * not know. */
int cpu_profile_from_record(json_object *json, struct cpu_profile **ret, struct error *err);
