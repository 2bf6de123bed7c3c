/* SPDX-License-Identifier: Apache-2.0 */
/* verdict_reason.c - verdicts as lists of reasons: building, sorting, encoding. */
#include "verdict_reason.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name, *meaning;
} codes[] = {
#define X(code, name, meaning) {name, meaning},
    VERDICT_CODES(X)
#undef X
};

const char *verdict_code_name(enum verdict_code code)
{
    return (unsigned)code < VERDICT_CODE_COUNT ? codes[code].name : "?";
}

const char *verdict_code_meaning(enum verdict_code code)
{
    return (unsigned)code < VERDICT_CODE_COUNT ? codes[code].meaning : "?";
}

struct verdict_reason *verdict_reason_add(struct verdict *verdict, enum verdict_code code,
                                          enum verdict_severity severity)
{
    if (verdict->reason_count == verdict->reason_room) {
        verdict->reason_room = verdict->reason_room ? 2 * verdict->reason_room : 8;
        verdict->reasons =
            xrealloc(verdict->reasons, verdict->reason_room * sizeof(*verdict->reasons));
    }
    struct verdict_reason *reason = &verdict->reasons[verdict->reason_count++];
    *reason = (struct verdict_reason){.code = code, .severity = severity, .feature = -1};
    if (severity == VERDICT_REJECT)
        verdict->rejected = true;
    return reason;
}

void verdict_add(struct verdict *verdict, enum verdict_code code, enum verdict_severity severity,
                 const char *remedy, const char *format, ...)
{
    struct verdict_reason *reason = verdict_reason_add(verdict, code, severity);
    reason->remedy = xstrdup(remedy);
    va_list ap;
    va_start(ap, format);
    if (vasprintf(&reason->message, format, ap) < 0)
        reason->message = xstrdup(verdict_code_meaning(code));
    va_end(ap);
}

void verdict_take(struct verdict *to, struct verdict *from)
{
    for (size_t i = 0; i < from->reason_count; i++) {
        struct verdict_reason *reason =
            verdict_reason_add(to, from->reasons[i].code, from->reasons[i].severity);
        *reason = from->reasons[i];
    }
    free(from->reasons);
    *from = (struct verdict){0};
}

void verdict_sort(struct verdict *verdict)
{
    if (verdict->reason_count < 2)
        return;
    struct verdict_reason *sorted = xcalloc(verdict->reason_room, sizeof(*sorted));
    size_t at = 0;
    for (size_t i = 0; i < verdict->reason_count; i++)
        if (verdict->reasons[i].severity == VERDICT_REJECT)
            sorted[at++] = verdict->reasons[i];
    for (size_t i = 0; i < verdict->reason_count; i++)
        if (verdict->reasons[i].severity != VERDICT_REJECT)
            sorted[at++] = verdict->reasons[i];
    free(verdict->reasons);
    verdict->reasons = sorted;
}

void verdict_done(struct verdict *verdict)
{
    for (size_t i = 0; i < verdict->reason_count; i++) {
        free(verdict->reasons[i].message);
        free(verdict->reasons[i].remedy);
    }
    free(verdict->reasons);
    free(verdict->mask);
    *verdict = (struct verdict){0};
}

static json_object *reason_to_json(const struct verdict_reason *reason)
{
    json_object *o = json_object_new_object();
    json_put_str(o, "code", verdict_code_name(reason->code));
    json_put_str(o, "severity", reason->severity == VERDICT_REJECT ? "reject" : "warn");
    if (reason->feature >= 0)
        json_put_str(o, "feature", cpu_features[reason->feature].name);
    if (reason->has_bit) {
        json_put_hex32(o, "leaf", reason->leaf);
        json_put_hex32(o, "subleaf", reason->subleaf);
        json_put_str(o, "register", cpu_register_name(reason->reg));
        json_put_int(o, "bit", reason->bit);
    }
    if (reason->has_bit || reason->source || reason->target) {
        json_put_int(o, "source", reason->source);
        json_put_int(o, "target", reason->target);
    }
    if (reason->effect != CPU_EFFECT_NONE)
        json_put_str(o, "effect", cpu_effect_name(reason->effect));
    json_put_str(o, "message", reason->message);
    json_put_str(o, "remedy", reason->remedy);
    return o;
}

json_object *verdict_to_json(const struct verdict *verdict, const char *from, const char *to)
{
    json_object *o = json_object_new_object();
    json_put_str(o, "verdict", verdict->rejected ? "reject" : "approve");
    json_put_str(o, "from", from);
    json_put_str(o, "to", to);
    json_put_str(o, "mask", verdict->mask);
    json_object *reasons = json_object_new_array_ext((int)verdict->reason_count + 1);
    for (size_t i = 0; i < verdict->reason_count; i++)
        json_object_array_add(reasons, reason_to_json(&verdict->reasons[i]));
    json_put(o, "reasons", reasons);
    return o;
}
