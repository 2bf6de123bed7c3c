/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_report.c - what might be sent as a node's report: refused by name, or a report that can be
 * written and read again, and whose profile survives as a record, fits itself and its own mask. */
#include <string.h>

#include "fuzz.h"
#include "mask.h"
#include "verdict.h"

static void check_fits(const struct cpu_profile *need, const struct cpu_profile *target)
{
    const struct verdict_policy policy = {0};
    struct verdict v = {0};
    verdict_judge(need, target, "a", "b", &policy, &v);
    for (size_t i = 0; i < v.reason_count; i++) {
        MUST(v.reasons[i].message && *v.reasons[i].message);
        MUST(v.reasons[i].code != VERDICT_MISSING_FEATURE);
    }
    verdict_done(&v);
}

static void check_record(const struct cpu_profile *profile)
{
    char sha256[65], again[65];
    struct error err = {0};
    AUTO(cpu_profile) read = NULL;
    autojson *json = NULL;
    autofree char *text = cpu_profile_record(profile, sha256);
    MUST(json_parse(text, strlen(text), &json, &err) == 0);
    MUST(cpu_profile_from_record(json, &read, &err) == 0);
    autofree char *same = cpu_profile_record(read, again);
    MUST(strcmp(text, same) == 0 && strcmp(sha256, again) == 0);
    MUST(cpu_profile_equal(read, profile));
}

static void check_profile(struct cpu_profile *profile)
{
    AUTO(mask) mask = mask_new();
    mask_add(mask, profile);
    AUTO(cpu_profile) pool = mask_profile(mask);
    AUTO(cpu_profile) joined = cpu_profile_join(profile, pool);
    check_record(profile);
    check_record(pool);
    check_record(joined);
    check_fits(profile, profile);
    check_fits(pool, profile);
    mask_remove(mask, profile);
    MUST(mask_member_count(mask) == 0 && !mask_profile(mask));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {0};
    autojson *json = NULL;
    AUTO(cpu_report) report = NULL;
    AUTO(cpu_report) again = NULL;
    AUTO(cpu_profile) profile = NULL;
    if (json_parse((const char *)data, size, &json, NULL) < 0)
        return 0;
    if (cpu_report_parse(json, &report, &err) < 0) {
        MUST(!report && err.kind == ERROR_INVALID && strncmp(err.message, "report: ", 8) == 0);
        return 0;
    }
    autojson *written = cpu_report_to_json(report);
    MUST(cpu_report_parse(written, &again, &err) == 0);
    MUST(strcmp(again->sha256, report->sha256) == 0);
    if (cpu_profile_from_report(report, &profile, &err) == 0)
        check_profile(profile);
    else
        MUST(err.kind == ERROR_INVALID && *err.message);
    return 0;
}
