/* SPDX-License-Identifier: Apache-2.0 */
/* inspect_private.h - between the files inspect*.c. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "cpu_evidence.h"
#include "elf_view.h"
#include "inspect.h"
#include "inspect_kernel.h"

/* ---- registers (inspect_xstate.c) */

#define XSTATE_BYTES_MAX 65536

/* Where a component lies in the uncompacted area: CPUID leaf 0xD. */
struct xstate_layout {
    struct {
        uint32_t offset_bytes, size_bytes; /* 0: not there */
    } components[63];
};
void xstate_layout_here(struct xstate_layout *ret);
/* What NT_X86_XSTATE's bytes say; -1 when there are too few. *ret_enabled is what the kernel has
 * enabled for any process. */
int xstate_read(const unsigned char *area, size_t length, const struct xstate_layout *layout,
                uint64_t *ret_bv, uint64_t *ret_live, uint64_t *ret_enabled);

/* Whether a process may use AMX, from what is in use, what the kernel has enabled for any process
 * (0: not known) and, where `permission` is not NULL, its own permission. */
enum cpu_amx xstate_amx(uint64_t used, uint64_t enabled, const uint64_t *permission);

/* ---- signal frames (inspect_frame.c) */

/* Whether the thread, whose stack pointer that is, has interrupted registers in a signal frame on
 * its stack; looks at 1 MiB of it. -1: it cannot be read. */
int inspect_frame(pid_t tid, uint64_t stack_pointer);
/* The same in the memory that begins at `from`, the stack pointer. */
bool frame_is_on(const unsigned char *bytes, size_t length, uint64_t from);

/* ---- threads (inspect_thread.c) */

struct inspect {
    int64_t deadline_us; /* monotonic */
    struct inspect_cost cost;
    struct xstate_layout layout;
    struct inspect_kernel *kernel; /* owned; NULL: it cannot be asked */
    char kernel_error[256];        /* why not */
    size_t thread_count;           /* so far, of all tasks */
    struct cpu_evidence *evidence;
};

int64_t inspect_now_us(void);
/* Reads all threads of the process into *task. The calling thread becomes their tracer, one by
 * one; it has to end soon, for that lets go of a thread that could not be stopped. */
void inspect_threads(struct inspect *inspect, pid_t pid, struct cpu_evidence_task *task);

/* ---- the program (inspect_code.c, inspect_glibc.c) */

struct inspect_auxv {
    uint64_t loader, program_headers; /* AT_BASE, AT_PHDR */
    int64_t minsigstksz;              /* -1: not there */
};

/* Files, code, environment and C library of a process. Nothing is stopped. */
void inspect_program(pid_t pid, struct cpu_evidence_task *task);

#define GLIBC_LEAVES      7 /* the first ones of its table; the same in every version since 2.33 */
#define GLIBC_TABLE_BYTES (20 + GLIBC_LEAVES * 32)

/* Whether `code`, the beginning of a function at `address`, returns the address of an object. */
bool glibc_returned_address(const unsigned char *code, size_t length, uint64_t address,
                            uint64_t *ret);
/* Takes what is active from the loader's table (struct cpu_features); -1 when the bytes are no
 * such table. */
int glibc_read_table(const unsigned char table[GLIBC_TABLE_BYTES], uint32_t active[CPU_WORD_COUNT]);
/* Of "… stable release version 2.36.": "2.36". The caller owns it; NULL when there is none. */
char *glibc_version_in(const char *text, size_t length);
/* Finds and reads the loader of the process; what is missing goes into the task's unknowns. */
void inspect_glibc(const struct elf_memory *memory, const struct inspect_auxv *auxv,
                   struct cpu_evidence_task *task);
/* Whether a library of that name is part of the C library. */
bool glibc_owns(const char *soname);
