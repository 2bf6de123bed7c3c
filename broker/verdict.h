/* SPDX-License-Identifier: Apache-2.0 */
/* verdict.h - whether a process that may use all of `need` can live on `target`: a pure decision.
 *
 * Every reason that applies is given, not only the first. Reasons with severity REJECT decide;
 * WARN is for people. What is not known to be safe is rejected with an "unknown_*" code. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "cleanup.h"
#include "cpu_profile.h"
#include "error.h"
#include "json.h"

/* clang-format off */
/* Every reason code, once: docs/verdict.md, openapi.yaml and tests read this table.
 *     code                    wire name                  meaning for people */
#define VERDICT_CODES(X)                                                                           \
    X(MISSING_FEATURE,        "missing_feature",         "the target lacks a CPU feature")         \
    X(UNKNOWN_FEATURE,        "unknown_feature",         "a CPUID bit that the registry does not know is set on the source and not on the target") \
    X(UNKNOWN_STATE,          "unknown_state",           "a fact that decides was not reported")   \
    X(XSAVE_COMPONENT,        "xsave_component_missing", "the target does not enable an xsave component") \
    X(XSAVE_LAYOUT,           "xsave_layout_conflict",   "an xsave component lies elsewhere on the target") \
    X(XSAVE_LARGER,           "xsave_area_larger",       "the target enables components that the source did not know") \
    X(BEHAVIOUR,              "behaviour_differs",       "a behaviour guarantee differs")          \
    X(LIMIT,                  "limit_lower",             "a CPUID limit is lower on the target")   \
    X(VALUE_DIFFERS,          "value_differs",           "a value that must be equal differs")     \
    X(VENDOR,                 "vendor_differs",          "the vendors differ")                     \
    X(SIGNAL_STACK,           "signal_stack_larger",     "the target needs larger signal stacks")  \
    X(HINT,                   "hint_missing",            "the target lacks a performance hint")    \
    X(LIVE_STATE,             "live_state_missing",      "a thread holds registers that the target does not have") \
    X(ALTERNATE_STACK,        "alternate_stack_small",   "the alternate signal stack of a thread is too small for the target") \
    X(SIGNAL_FRAME,           "signal_frame_larger",     "a signal handler runs whose frame is larger than the target takes back") \
    X(SHADOW_STACK,           "shadow_stack_missing",    "the process uses a shadow stack, and the target has none") \
    X(AMX_PERMISSION,         "amx_permission",          "the process was granted AMX, which no move carries over") \
    X(FEATURE_IN_USE,         "feature_in_use",          "the live process uses a feature that its need does not list and the target lacks") \
    X(FEATURE_UNUSED,         "feature_unused",          "the target lacks a feature that the process provably does not use") \
    X(EVIDENCE_AWAITED,       "evidence_awaited",        "the target lacks a CPU feature, and a look at the live process decides whether that matters") \
    X(EVIDENCE_INCOMPLETE,    "evidence_incomplete",     "a fact about the live process could not be seen") \
    X(SAME_NODE,              "same_node",               "source and target are the same node")    \
    X(NODE_SILENT,            "node_silent",             "the node's agent has not been heard of lately") \
    X(NODE_IMPORTED,          "node_imported",           "the node is known only by an imported report") \
    X(NO_ENGINE,              "no_engine",               "the node has no checkpoint engine that works") \
    X(NOT_IN_POOL,            "not_in_pool",             "the target is no member of the workload's pool") \
    X(ISLAND,                 "island",                  "from the target the workload could go nowhere else") \
    X(MIGRATION_RUNNING,      "migration_running",       "the workload is being moved already")    \
    X(WORKLOAD_NOT_RUNNING,   "workload_not_running",    "the workload does not run")              \
    X(NO_TARGET,              "no_target",               "no member of the pool can take the workload")
/* clang-format on */

enum verdict_code {
#define X(code, name, meaning) VERDICT_##code,
    VERDICT_CODES(X)
#undef X
        VERDICT_CODE_COUNT
};

enum verdict_severity { VERDICT_WARN, VERDICT_REJECT };

struct verdict_reason {
    enum verdict_code code;
    enum verdict_severity severity;
    int feature;  /* enum cpu_feature_id, or -1 */
    bool has_bit; /* leaf, subleaf, reg, bit, source and target are meaningful */
    uint32_t leaf, subleaf;
    unsigned reg, bit;      /* CPU_EAX.., 0..31 */
    int64_t source, target; /* the values that were compared */
    enum cpu_effect effect; /* CPU_EFFECT_NONE where no CPU effect follows */
    char *message, *remedy; /* owned; one sentence each; remedy may be NULL */
};

struct verdict {
    struct verdict_reason *reasons; /* owned; rejects first, then in the registry's order */
    size_t reason_count, reason_room;
    bool rejected; /* any reason has severity REJECT */
    char *mask;    /* owned; under what the workload was born, for people; NULL: no mask, or no
                      workload */
};

struct verdict_policy {
    bool mix_vendors; /* the pool allows moves across vendors */
};

/* Appends to *verdict (zeroed by the caller, or holding reasons of other origin). `from` and
 * `to` name the nodes in messages. */
void verdict_judge(const struct cpu_profile *need, const struct cpu_profile *target,
                   const char *from, const char *to, const struct verdict_policy *policy,
                   struct verdict *verdict);
/* Adds a reason without a CPU bit (node silent, same node, …). `remedy` may be NULL. */
void verdict_add(struct verdict *verdict, enum verdict_code code, enum verdict_severity severity,
                 const char *remedy, const char *format, ...) __attribute__((format(printf, 5, 6)));
/* Moves all reasons of `from`, which has no mask and is empty then, to the end of `to`. */
void verdict_take(struct verdict *to, struct verdict *from);
/* Puts rejects before warnings; call once before encoding. */
void verdict_sort(struct verdict *verdict);
/* {"verdict":…,"from":…,"to":…,"mask":…,"reasons":[…]}; `to` may be NULL. The caller owns the
 * result. */
json_object *verdict_to_json(const struct verdict *verdict, const char *from, const char *to);
void verdict_done(struct verdict *verdict);

const char *verdict_code_name(enum verdict_code code);
const char *verdict_code_meaning(enum verdict_code code);
