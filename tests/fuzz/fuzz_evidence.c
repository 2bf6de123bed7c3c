/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_evidence.c - what an agent might send as evidence: refused by name, or a message that can be
 * written and read again, and that never makes a verdict milder by itself. */
#include <string.h>

#include "cpu_samples.h"
#include "evidence.h"
#include "fuzz.h"

static void check_verdict(const struct cpu_evidence *evidence)
{
    static struct cpu_profile *need, *target;
    const struct verdict_policy policy = {0};
    struct verdict alone = {0}, both = {0}, relaxed_verdict = {0};
    if (!need) {
        need = sample_profile("zen4");
        target = sample_profile("lesser-amd");
    }
    verdict_judge(need, target, "a", "b", &policy, &alone);
    verdict_judge(need, target, "a", "b", &policy, &both);
    evidence_judge(evidence, need, need, target, "a", "b", false, &both);
    MUST(both.rejected >= alone.rejected && both.reason_count >= alone.reason_count);
    for (size_t i = 0; i < both.reason_count; i++)
        MUST(both.reasons[i].message && *both.reasons[i].message);
    AUTO(cpu_profile) relaxed = evidence_relax(evidence, need, target, "b", &relaxed_verdict);
    MUST(cpu_profile_has(relaxed, CPU_FEATURE_ABM)); /* silent: it never goes */
    MUST(!relaxed_verdict.rejected);
    if (!evidence->complete)
        MUST(relaxed == need);
    verdict_done(&alone);
    verdict_done(&both);
    verdict_done(&relaxed_verdict);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {0};
    autojson *json = NULL, *written = NULL, *rewritten = NULL;
    AUTO(cpu_evidence) evidence = NULL;
    AUTO(cpu_evidence) again = NULL;
    if (json_parse((const char *)data, size, &json, NULL) < 0)
        return 0;
    if (cpu_evidence_parse(json, &evidence, &err) < 0) {
        MUST(err.kind == ERROR_INVALID && strncmp(err.message, "evidence: ", 10) == 0);
        return 0;
    }
    written = cpu_evidence_to_json(evidence);
    MUST(cpu_evidence_parse(written, &again, &err) == 0);
    rewritten = cpu_evidence_to_json(again);
    autofree char *text = json_text(written);
    autofree char *same = json_text(rewritten);
    MUST(strcmp(text, same) == 0);
    check_verdict(evidence);
    return 0;
}
