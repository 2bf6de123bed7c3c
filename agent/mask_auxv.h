/* SPDX-License-Identifier: Apache-2.0 */
/* mask_auxv.h - what the kernel tells a new program of the CPU beside CPUID: its auxiliary vector,
 * put right before the program's first instruction. */
#pragma once

#include "error.h"
#include "mask_island.h"
#include "mask_tracee.h"

/* For a thread at the end of an execve, whose stack holds nothing but the kernel's words.
 * AT_HWCAP (leaf 1 EDX) loses what the table takes, AT_HWCAP2 loses FSGSBASE with the feature and
 * ring-3 MONITOR always, and AT_MINSIGSTKSZ grows by as much as the table's xsave area is larger
 * than this node's. AT_PLATFORM is "x86_64" everywhere and stays. /proc/PID/auxv shows what the
 * kernel wrote. Errors: ERROR_FAILED: the stack is not as it has to be. */
int mask_auxv_rewrite(const struct mask_tracee *tracee, const struct mask_island_table *table,
                      struct error *err);
