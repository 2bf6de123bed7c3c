/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* inspect_kernel.c - reads the kernel's record of a thread with a BPF iterator over tasks.
 *
 * The program below is a dozen instructions, assembled here with the places that the kernel's type
 * information gives. The kernel lends the functions it calls only to programs that are offered
 * under the GPL, which is why this file is under either license. */
#include "inspect_kernel.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/bpf.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "btf.h"

#define BTF_PATH      "/sys/kernel/btf/vmlinux"
#define LOG_BYTES     4096
#define ITERATOR_NAME "bpf_iter_task" /* the kernel's iterator over tasks */

/* What the program writes for a thread. */
struct record {
    uint64_t altstack_bytes;
    uint64_t permission;
    int64_t permission_error; /* 0: it was read */
};

/* Where in the kernel's record of a task things lie. */
struct places {
    uint32_t iterator;       /* the type of its iterator's function */
    uint32_t altstack_bytes; /* task_struct.sas_ss_size */
    bool has_permission;
    uint32_t permission; /* fpu.perm.__state_perm, from the task's beginning */
};

struct inspect_kernel {
    struct places places;
    int program; /* owned */
};

/* ---- where things lie */

/* Up to Linux 6.15 a task's struct fpu is part of its struct thread; since 6.16 it lies behind
 * the task (x86_task_fpu). */
static bool find_fpu(const struct btf *btf, uint32_t task, uint32_t *ret_offset, uint32_t *ret_type)
{
    uint32_t thread_offset = 0, thread = 0, offset = 0;
    if (!btf_member(btf, task, "thread", &thread_offset, &thread))
        return false;
    if (btf_member(btf, thread, "fpu", &offset, ret_type)) {
        *ret_offset = thread_offset + offset;
        return btf_is_struct(btf, *ret_type); /* a pointer, as in between: not known */
    }
    *ret_offset = btf_struct_bytes(btf, task);
    *ret_type = btf_find(btf, BTF_STRUCT, "fpu");
    return *ret_type != 0;
}

static bool find_permission(const struct btf *btf, uint32_t task, uint32_t *ret)
{
    uint32_t fpu_offset = 0, fpu = 0, perm_offset = 0, perm = 0, state_offset = 0;
    if (!find_fpu(btf, task, &fpu_offset, &fpu) ||
        !btf_member(btf, fpu, "perm", &perm_offset, &perm) ||
        !btf_member(btf, perm, "__state_perm", &state_offset, NULL))
        return false;
    *ret = fpu_offset + perm_offset + state_offset;
    return *ret <= INT16_MAX; /* as far as one instruction reaches; it is about 3 KiB */
}

static int find_places(struct places *ret, struct error *err)
{
    AUTO(btf) btf = NULL;
    if (btf_new(BTF_PATH, &btf, err) < 0)
        return -1;
    uint32_t task = btf_find(btf, BTF_STRUCT, "task_struct");
    ret->iterator = btf_find(btf, BTF_FUNCTION, ITERATOR_NAME);
    if (!task || !ret->iterator ||
        !btf_member(btf, task, "sas_ss_size", &ret->altstack_bytes, NULL) ||
        ret->altstack_bytes > INT16_MAX)
        return error_set(err, ERROR_FAILED, "this kernel has no iterator over tasks for BPF");
    ret->has_permission = find_permission(btf, task, &ret->permission);
    return 0;
}

/* ---- the program */

static long bpf(int command, union bpf_attr *attr, size_t size)
{
    return syscall(SYS_bpf, command, attr, size);
}

#define INSN(code_, dst, src, off_, imm_) \
    ((struct bpf_insn){                   \
        .code = (code_), .dst_reg = (dst), .src_reg = (src), .off = (off_), .imm = (imm_)})
#define LOAD(dst, src, off)     INSN(BPF_LDX | BPF_DW | BPF_MEM, dst, src, (int16_t)(off), 0)
#define STORE(dst, off, src)    INSN(BPF_STX | BPF_DW | BPF_MEM, dst, src, (int16_t)(off), 0)
#define MOVE(dst, src)          INSN(BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0)
#define MOVE_NUMBER(dst, n)     INSN(BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, (int32_t)(n))
#define ADD_NUMBER(dst, n)      INSN(BPF_ALU64 | BPF_ADD | BPF_K, dst, 0, 0, (int32_t)(n))
#define SKIP_IF_ZERO(dst, skip) INSN(BPF_JMP | BPF_JEQ | BPF_K, dst, 0, (int16_t)(skip), 0)
#define CALL(function)          INSN(BPF_JMP | BPF_CALL, 0, 0, 0, function)
#define EXIT                    INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)

enum { R0, R1, R2, R3, R6 = 6, R7, R10 = 10 };
enum { RECORD = -(int)sizeof(struct record) }; /* on the program's stack */

/* The context is struct bpf_iter__task: a struct bpf_iter_meta *, whose first member is the file
 * that is read, and a struct task_struct *, NULL at the end. */
static int load(const struct places *places, char *log, struct error *err)
{
    const struct bpf_insn program[] = {
        LOAD(R6, R1, 8),
        LOAD(R7, R1, 0),
        SKIP_IF_ZERO(R6, 15),
        LOAD(R7, R7, 0),
        LOAD(R1, R6, places->altstack_bytes),
        STORE(R10, RECORD + offsetof(struct record, altstack_bytes), R1),
        MOVE(R1, R10),
        ADD_NUMBER(R1, RECORD + (int)offsetof(struct record, permission)),
        MOVE_NUMBER(R2, sizeof(uint64_t)),
        MOVE(R3, R6),
        ADD_NUMBER(R3, places->permission),
        CALL(BPF_FUNC_probe_read_kernel),
        STORE(R10, RECORD + offsetof(struct record, permission_error), R0),
        MOVE(R1, R7),
        MOVE(R2, R10),
        ADD_NUMBER(R2, RECORD),
        MOVE_NUMBER(R3, sizeof(struct record)),
        CALL(BPF_FUNC_seq_write),
        MOVE_NUMBER(R0, 0),
        EXIT,
    };
    union bpf_attr attr = {
        .prog_type = BPF_PROG_TYPE_TRACING,
        .expected_attach_type = BPF_TRACE_ITER,
        .attach_btf_id = places->iterator,
        .insns = (uintptr_t)program,
        .insn_cnt = sizeof(program) / sizeof(program[0]),
        .license = (uintptr_t) "GPL v2",
        .log_buf = (uintptr_t)log,
        .log_size = LOG_BYTES,
        .log_level = 1,
    };
    long fd = bpf(BPF_PROG_LOAD, &attr, sizeof(attr));
    if (fd < 0)
        return error_errno(err, errno == EPERM ? ERROR_FORBIDDEN : ERROR_FAILED,
                           "the kernel takes no BPF program (it needs CAP_BPF and CAP_PERFMON)");
    return (int)fd;
}

int inspect_kernel_new(struct inspect_kernel **ret, struct error *err)
{
    char log[LOG_BYTES] = "";
    AUTO(inspect_kernel) kernel = xcalloc(1, sizeof(*kernel));
    kernel->program = -1;
    if (find_places(&kernel->places, err) < 0)
        return -1;
    kernel->program = load(&kernel->places, log, err);
    if (kernel->program < 0)
        return -1;
    *ret = steal_ptr(&kernel);
    return 0;
}

void inspect_kernel_free(struct inspect_kernel *kernel)
{
    if (!kernel)
        return;
    if (kernel->program >= 0)
        close(kernel->program);
    free(kernel);
}

/* A descriptor that gives the records of one thread. */
static int open_iterator(const struct inspect_kernel *kernel, pid_t tid, struct error *err)
{
    union bpf_iter_link_info info = {.task.tid = (uint32_t)tid};
    union bpf_attr attr = {
        .link_create = {.prog_fd = (uint32_t)kernel->program,
                        .attach_type = BPF_TRACE_ITER,
                        .iter_info = (uintptr_t)&info,
                        .iter_info_len = sizeof(info)}
    };
    autoclose int link = (int)bpf(BPF_LINK_CREATE, &attr, sizeof(attr));
    if (link < 0)
        return error_errno(err, errno == ESRCH ? ERROR_NOT_FOUND : ERROR_FAILED,
                           "cannot ask the kernel about thread %d", tid);
    union bpf_attr create = {.iter_create = {.link_fd = (uint32_t)link}};
    int fd = (int)bpf(BPF_ITER_CREATE, &create, sizeof(create));
    if (fd < 0)
        return error_errno(err, ERROR_FAILED, "cannot ask the kernel about thread %d", tid);
    return fd;
}

int inspect_kernel_read(struct inspect_kernel *kernel, pid_t tid, struct inspect_kernel_thread *ret,
                        struct error *err)
{
    struct record records[2];
    autoclose int fd = open_iterator(kernel, tid, err);
    if (fd < 0)
        return -1;
    ssize_t n = read(fd, records, sizeof(records));
    if (n == 0)
        return error_set(err, ERROR_NOT_FOUND, "no thread %d", tid);
    /* Kernels before 6.1 do not look at the number and tell of every thread there is. */
    if (n != (ssize_t)sizeof(records[0]))
        return error_set(err, ERROR_FAILED,
                         "this kernel's iterator does not find one thread alone");
    *ret = (struct inspect_kernel_thread){
        .altstack_bytes = records[0].altstack_bytes,
        .permission_known = kernel->places.has_permission && records[0].permission_error == 0,
        .permission = records[0].permission,
    };
    return 0;
}
