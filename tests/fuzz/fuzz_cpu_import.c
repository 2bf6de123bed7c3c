/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_cpu_import.c - what `cpuid -r` might print: a report that can be written and read again, and
 * whose mask every format can hold; or an error about the text. */
#include <string.h>

#include "cpu_import.h"
#include "format.h"
#include "fuzz.h"
#include "mask.h"

static void check_formats(struct cpu_profile *profile)
{
    AUTO(mask) mask = mask_new();
    mask_add(mask, profile);
    AUTO(cpu_profile) pool = mask_profile(mask);
    for (unsigned i = 0; i < FORMAT_COUNT; i++) {
        struct error err = {0};
        autofree char *text = format_write((enum format)i, pool, &err);
        MUST(text && *text);
    }
}

static void check_report(const struct cpu_report *report)
{
    struct error err = {0};
    AUTO(cpu_report) again = NULL;
    AUTO(cpu_profile) profile = NULL;
    autojson *json = cpu_report_to_json(report);
    MUST(report->group_count > 0);
    MUST(cpu_report_parse(json, &again, &err) == 0);
    MUST(strcmp(again->sha256, report->sha256) == 0);
    if (cpu_profile_from_report(report, &profile, &err) == 0)
        check_formats(profile);
    else
        MUST(*err.message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {0};
    AUTO(cpu_report) report = NULL;
    bool looks = cpu_import_looks_like_cpuid((const char *)data, size);
    if (cpu_import_cpuid("n", (const char *)data, size, &report, &err) == 0) {
        MUST(looks);
        check_report(report);
    } else {
        MUST(!report);
        MUST(err.kind == ERROR_INVALID || err.kind == ERROR_TOO_LARGE);
        MUST(strncmp(err.message, "cpuid text: ", 12) == 0);
    }
    return 0;
}
