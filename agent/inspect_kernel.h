/* SPDX-License-Identifier: Apache-2.0 */
/* inspect_kernel.h - what only the kernel knows of a thread: its alternate signal stack, and the
 * xsave components that its process may use.
 *
 * Neither is told in /proc. They are read by a BPF iterator over tasks, which takes a look at the
 * kernel's own record of the thread: the thread is not stopped and does not notice. The other way
 * would be to make the thread call sigaltstack(2) itself. Needs CAP_BPF and CAP_PERFMON (root),
 * kernel 6.1 and its type information (CONFIG_DEBUG_INFO_BTF). */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "cleanup.h"
#include "error.h"

struct inspect_kernel; /* opaque; one thread */

struct inspect_kernel_thread {
    uint64_t altstack_bytes; /* 0: none */
    bool permission_known;
    uint64_t permission; /* of its process: components of XCR0 that it may use */
};

/* Errors: ERROR_FAILED (the kernel is too old or has no type information), ERROR_FORBIDDEN. */
int inspect_kernel_new(struct inspect_kernel **ret, struct error *err);
void inspect_kernel_free(struct inspect_kernel *kernel); /* NULL is fine */
DEFINE_AUTO(inspect_kernel)
/* `tid` as the calling process counts. Errors: ERROR_NOT_FOUND, ERROR_FAILED. */
int inspect_kernel_read(struct inspect_kernel *kernel, pid_t tid, struct inspect_kernel_thread *ret,
                        struct error *err);
