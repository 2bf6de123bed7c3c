/* SPDX-License-Identifier: Apache-2.0 */
/* mask_filter.h - the seccomp filter that stops a thread for its tracer when code is to come into
 * its process. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* For the calling thread and all that come from it, for good; wants CAP_SYS_ADMIN, and leaves
 * no_new_privs as it is, so that setuid programs work. Safe between fork and exec. 0, or -1 with
 * errno. Without a tracer the calls that it stops fail with ENOSYS. */
int mask_filter_install(void);

enum mask_filter_verdict {
    MASK_FILTER_OTHER,  /* not a call that it stops, or one that brings no code */
    MASK_FILTER_CODE,   /* [first argument or result, + second argument) becomes executable */
    MASK_FILTER_FOREIGN /* a call of another kind (i386): its code cannot be masked */
};

/* What a stopped call is about: its AUDIT_ARCH, its number and its arguments. */
enum mask_filter_verdict mask_filter_look(uint32_t arch, uint64_t number, const uint64_t *arguments,
                                          bool *ret_is_mmap);
