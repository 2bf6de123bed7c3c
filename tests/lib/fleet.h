/* SPDX-License-Identifier: Apache-2.0 */
/* fleet.h - real CPUID dumps for property tests, one JSON object a line, where they are at hand.
 *
 * The dumps are not part of the project. $CPUBROKER_FLEET names the file; without it
 * ../shared/fleet/fleet.jsonl beside the source is tried. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "cpu_profile.h"
#include "cpu_report.h"

struct fleet_machine {
    char *id, *cpu_id, *vendor, *brand, *generation; /* owned */
    bool hybrid, server, truncated, dumped_in_32bit;
    struct cpu_report *report;   /* owned */
    struct cpu_profile *profile; /* owned */
};

struct fleet {
    struct fleet_machine *machines; /* owned */
    size_t count;
};

/* 0; or -1 when there is no file, after a line on stdout that says so (the test then exits 77).
 * A file that cannot be read aborts the test. */
int fleet_load(struct fleet *fleet);
void fleet_done(struct fleet *fleet);
/* The first machine whose id or brand contains `text`, of that generation; NULL for none. */
const struct fleet_machine *fleet_find(const struct fleet *fleet, const char *generation,
                                       const char *text);
