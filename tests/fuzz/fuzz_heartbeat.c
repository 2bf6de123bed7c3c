/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_heartbeat.c - what an agent might send as a heartbeat: refused by name, or a list in which
 * nothing that is told of a mask is negative. */
#include <string.h>

#include "fuzz.h"
#include "heartbeat.h"
#include "model_mask.h"

static void check_told(json_object *workload)
{
    struct mask_told told;
    bool there = false;
    MUST(mask_told_decode("w", workload, &told, &there, NULL) == 0);
    MUST(there == (json_member(workload, "mask") != NULL));
    MUST((unsigned)told.grade < MASK_GRADE_COUNT && told.epoch >= 0 && told.sites >= 0);
    MUST(told.lacks.other >= 0 && told.lacks.other <= JSON_INTEGER_MAX);
    for (unsigned i = 0; i < MASK_LACK_COUNT; i++)
        MUST(told.lacks.counts[i] >= 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {0};
    struct heartbeat heartbeat = {0};
    autojson *json = NULL;
    if (json_parse((const char *)data, size, &json, NULL) < 0)
        return 0;
    if (heartbeat_decode(json, &heartbeat, &err) < 0) {
        MUST(err.kind == ERROR_INVALID && strncmp(err.message, "heartbeat: ", 11) == 0);
        return 0;
    }
    for (size_t i = 0; i < json_array_size(heartbeat.workloads); i++)
        check_told(json_array_item(heartbeat.workloads, i));
    heartbeat_done(&heartbeat);
    return 0;
}
