/* SPDX-License-Identifier: Apache-2.0 */
/* mask_launch.h - starts a program under the mask as a child of its tracer: to try whether that
 * works here, and for tests and benchmarks. The tree is killed when the tracer ends. */
#pragma once

#include <sys/types.h>

#include "error.h"
#include "mask_tracer.h"

struct mask_launch_options {
    char *const *argv; /* argv[0] is a path, or looked up in the PATH of the caller */
    char *const *env;
    struct mask_process_options mask; /* what it points to outlives the tracer */
};

/* On success the program is masked and about to run its first instruction. The caller owns *ret.
 * Errors: ERROR_NOT_FOUND (no such program), ERROR_FAILED: nothing is left of it then. */
int mask_launch_start(const struct mask_launch_options *options, struct mask_tracer **ret,
                      struct error *err);
