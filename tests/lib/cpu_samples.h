/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_samples.h - reports of invented machines, and small changes to them.
 *
 * The samples are schema/examples/report-NAME.json. Everything here aborts the test on failure. */
#pragma once

#include <stdbool.h>

#include "cpu_profile.h"
#include "cpu_report.h"

/* "haswell", "zen4", "lesser-intel", "lesser-amd". The caller owns it. */
struct cpu_report *sample_report(const char *name);
struct cpu_profile *sample_profile(const char *name);
/* The profile of a report; frees the report. */
struct cpu_profile *profile_of(struct cpu_report *report);

/* The leaf of the first group, made where it is not there. Borrowed until the next call. */
struct cpuid_leaf *sample_leaf(struct cpu_report *report, uint32_t leaf, uint32_t subleaf);
void sample_drop_leaf(struct cpu_report *report, uint32_t leaf, uint32_t subleaf);
void sample_set_bit(struct cpu_report *report, uint32_t leaf, uint32_t subleaf,
                    enum cpu_register reg, unsigned bit, bool on);
/* The same by a feature's name. */
void sample_set(struct cpu_report *report, const char *feature, bool on);
/* Claims and enables a component; size 0 writes a subleaf of zeros. */
void sample_set_component(struct cpu_report *report, unsigned id, uint32_t size_bytes,
                          uint32_t offset_bytes);
/* A second group of CPUs, a copy of the first, of which `feature` is taken. */
void sample_add_lesser_group(struct cpu_report *report, const char *feature);
