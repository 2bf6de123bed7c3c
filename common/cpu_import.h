/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_import.h - reports of machines that run no agent, from what `cpuid -r` printed on them.
 *
 * The text is that of Debian's package cpuid (cpuid(1) by Todd Allen): a line "CPU N:" for every
 * logical CPU, "CPU:" with -1, followed by its leaves:
 *
 *     0x00000007 0x00: eax=0x00000001 ebx=0xf1bf07ab ecx=0x00405fc6 edx=0x00000010
 *
 * What the text cannot tell (XCR0, kernel, microcode) is unknown in the report. Pure: no I/O. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "cpu_report.h"
#include "error.h"

#define CPU_IMPORT_MAX_BYTES (32UL * 1024 * 1024) /* 2,000 CPUs print about that much */
#define CPU_IMPORT_MAX_CPUS  8192                 /* as many as Linux can have */

/* Reads the text into a sealed report of `node` (see name_check); CPUs that answer alike, apart
 * from their own numbers, become one group. `text` need not end in a NUL. The caller owns *ret.
 * Errors: ERROR_INVALID naming the line and what was expected there, ERROR_TOO_LARGE. */
int cpu_import_cpuid(const char *node, const char *text, size_t length, struct cpu_report **ret,
                     struct error *err);
/* Whether a file begins as such a text does, and not as JSON: for those who accept both. */
bool cpu_import_looks_like_cpuid(const char *text, size_t length);
