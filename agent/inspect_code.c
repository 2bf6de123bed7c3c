/* SPDX-License-Identifier: Apache-2.0 */
/* inspect_code.c - what the program of a process says of itself: auxiliary vector, environment, and
 * the marks of all code that is mapped. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "elf_notes.h"
#include "file.h"
#include "inspect_private.h"

#define AUXV_BYTES_MAX    4096
#define MAPS_BYTES_MAX    (64UL << 20) /* 65,530 mappings with long names */
#define ENVIRON_BYTES_MAX (8UL << 20)
#define FILES_MAX         8192 /* different files mapped */
#define TRIES             3    /* when it executes another program meanwhile */

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

/* ---- memory and small files */

static int read_memory(void *ctx, uint64_t address, void *buffer, size_t length)
{
    int fd = *(int *)ctx;
    for (size_t done = 0; done < length;) {
        if (address + done > INT64_MAX)
            return -1;
        ssize_t n = pread(fd, (char *)buffer + done, length - done, (off_t)(address + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        done += (size_t)n;
    }
    return 0;
}

static int read_proc(pid_t pid, const char *name, size_t most, char **ret, size_t *ret_length)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
    return file_read(path, most, ret, ret_length, NULL);
}

/* Whether the program is a 32-bit one; its tables have other forms. */
static bool is_32bit(pid_t pid)
{
    char path[64];
    unsigned char ident[EI_NIDENT] = {0};
    snprintf(path, sizeof(path), "/proc/%d/exe", pid);
    autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd >= 0 && read(fd, ident, sizeof(ident)) == (ssize_t)sizeof(ident) &&
           ident[EI_CLASS] == ELFCLASS32;
}

static void parse_auxv(const char *bytes, size_t length, struct inspect_auxv *ret)
{
    *ret = (struct inspect_auxv){.minsigstksz = -1};
    for (size_t at = 0; at + sizeof(Elf64_auxv_t) <= length; at += sizeof(Elf64_auxv_t)) {
        Elf64_auxv_t entry;
        memcpy(&entry, bytes + at, sizeof(entry));
        if (entry.a_type == AT_BASE)
            ret->loader = entry.a_un.a_val;
        else if (entry.a_type == AT_PHDR)
            ret->program_headers = entry.a_un.a_val;
        else if (entry.a_type == AT_MINSIGSTKSZ && entry.a_un.a_val <= INT32_MAX)
            ret->minsigstksz = (int64_t)entry.a_un.a_val;
    }
}

static void read_environment(pid_t pid, struct cpu_evidence_task *task)
{
    static const char name[] = "GLIBC_TUNABLES=";
    autofree char *text = NULL;
    size_t length = 0;
    if (read_proc(pid, "environ", ENVIRON_BYTES_MAX, &text, &length) < 0) {
        cpu_evidence_unknown(task, "glibc_tunables: its environment cannot be read");
        return;
    }
    for (size_t at = 0; at < length; at += strlen(text + at) + 1)
        if (strncmp(text + at, name, strlen(name)) == 0) {
            task->glibc_tunables = cpu_evidence_clean(text + at + strlen(name));
            return;
        }
}

/* ---- mapped code */

struct mapped_file {
    uint64_t device, inode, start; /* where its first byte was seen last */
    bool looked_at;
};

struct code {
    struct cpu_evidence_task *task;
    const struct elf_memory *memory;
    struct mapped_file *files; /* owned */
    size_t file_count;
    bool any_file;
    uint32_t protection;
};

struct mapping {
    uint64_t start, offset, device, inode;
    bool writable, executable;
    const char *name; /* "" for none */
};

/* "7f00-7f10 r-xp 00001000 fe:00 1234      /usr/lib/libc.so.6" */
static bool parse_mapping(char *line, struct mapping *ret)
{
    char permissions[5] = "";
    unsigned major = 0, minor = 0;
    int name_at = 0;
    *ret = (struct mapping){0};
    if (sscanf(line, "%" SCNx64 "-%*x %4s %" SCNx64 " %x:%x %" SCNu64 " %n", &ret->start,
               permissions, &ret->offset, &major, &minor, &ret->inode, &name_at) != 6 ||
        name_at == 0)
        return false;
    ret->device = (uint64_t)major << 32 | minor;
    ret->writable = permissions[1] == 'w';
    ret->executable = permissions[2] == 'x';
    ret->name = line + name_at;
    return true;
}

static struct mapped_file *find_file(struct code *code, const struct mapping *m)
{
    for (size_t i = code->file_count; i-- > 0;)
        if (code->files[i].inode == m->inode && code->files[i].device == m->device)
            return &code->files[i];
    return NULL;
}

static void note_file(struct code *code, const struct mapping *m)
{
    struct mapped_file *file = find_file(code, m);
    if (!file && code->file_count < FILES_MAX) {
        if ((code->file_count & (code->file_count - 1)) == 0) /* room doubles */
            code->files = xrealloc(code->files, (code->file_count ? 2 * code->file_count : 1) *
                                                    sizeof(*code->files));
        file = &code->files[code->file_count++];
        *file = (struct mapped_file){.device = m->device, .inode = m->inode};
    }
    if (file) {
        file->start = m->start;
        file->looked_at = false;
    }
}

static void add_unmarked(struct code *code, const char *name)
{
    code->task->code_marked = false;
    if (!code->task->unmarked_code)
        code->task->unmarked_code = cpu_evidence_clean(name);
}

static void add_marks(struct code *code, const struct elf_view *view, const char *name)
{
    struct elf_marks marks;
    char soname[64];
    struct cpu_evidence_task *task = code->task;
    elf_marks_read(view, &marks);
    unsigned needed = elf_marks_level(marks.isa_needed), used = elf_marks_level(marks.isa_used);
    if (needed > task->isa_needed)
        task->isa_needed = needed;
    code->any_file = true;
    code->protection &= marks.has_protection ? marks.protection : 0;
    if (marks.has_used && marks.has_registers) {
        if (used > task->isa_used)
            task->isa_used = used;
        task->registers |= marks.registers;
        return;
    }
    /* The C library asks its own record before it uses a feature. */
    if (!task->glibc_known || elf_view_soname(view, soname, sizeof(soname)) < 0 ||
        !glibc_owns(soname))
        add_unmarked(code, name);
}

static void look_at_code(struct code *code, const struct mapping *m)
{
    struct elf_view view;
    if (strcmp(m->name, "[vdso]") == 0)
        return; /* the kernel's; a move gives it the target's */
    if (strcmp(m->name, "[vsyscall]") == 0) {
        code->task->vsyscall = true;
        return;
    }
    struct mapped_file *file = m->inode ? find_file(code, m) : NULL;
    if (m->writable || !file) {
        add_unmarked(code, *m->name ? m->name : "memory without a file");
        return;
    }
    if (file->looked_at)
        return;
    file->looked_at = true;
    if (elf_view_open(code->memory, file->start, &view) < 0)
        add_unmarked(code, m->name);
    else
        add_marks(code, &view, m->name);
}

static void read_code(pid_t pid, const struct elf_memory *memory, struct cpu_evidence_task *task)
{
    autofree char *text = NULL;
    char *save = NULL;
    if (read_proc(pid, "maps", MAPS_BYTES_MAX, &text, NULL) < 0) {
        cpu_evidence_unknown(task, "isa_needed: its mappings cannot be read");
        return;
    }
    struct code code = {.task = task, .memory = memory, .protection = UINT32_MAX};
    task->code_marked = true;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        struct mapping m;
        if (!parse_mapping(line, &m))
            continue;
        if (m.inode && m.offset == 0)
            note_file(&code, &m);
        if (m.executable)
            look_at_code(&code, &m);
    }
    task->code_marked = task->code_marked && code.any_file;
    if (task->code_marked && !task->isa_used)
        task->isa_used = 1;
    if (!task->code_marked)
        task->isa_used = task->registers = 0;
    if (code.any_file)
        task->protection = code.protection & (CPU_FEATURE_1_IBT | CPU_FEATURE_1_SHSTK);
    free(code.files);
}

/* ---- the whole */

static void forget(struct cpu_evidence_task *task)
{
    free(task->glibc_version);
    free(task->glibc_tunables);
    free(task->unmarked_code);
    for (size_t i = 0; i < task->unknown_count; i++)
        free(task->unknown[i]);
    free(task->unknown);
    *task = (struct cpu_evidence_task){.pid = task->pid,
                                       .comm = task->comm,
                                       .threads = task->threads,
                                       .thread_count = task->thread_count,
                                       .amx = task->amx,
                                       .shadow_stack = task->shadow_stack,
                                       .minsigstksz = -1};
}

static void read_once(pid_t pid, const char *auxv_bytes, size_t auxv_length,
                      struct cpu_evidence_task *task)
{
    char path[64];
    struct inspect_auxv auxv;
    parse_auxv(auxv_bytes, auxv_length, &auxv);
    task->minsigstksz = auxv.minsigstksz;
    read_environment(pid, task);
    snprintf(path, sizeof(path), "/proc/%d/mem", pid);
    autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        cpu_evidence_unknown(task, "glibc and isa_needed: its memory cannot be read: %s",
                             strerror(errno));
        return;
    }
    const struct elf_memory memory = {read_memory, &fd};
    inspect_glibc(&memory, &auxv, task);
    read_code(pid, &memory, task);
}

/* The vector holds addresses that are drawn by lot at each execve, so it names a program. */
void inspect_program(pid_t pid, struct cpu_evidence_task *task)
{
    if (is_32bit(pid)) {
        cpu_evidence_unknown(task, "glibc and isa_needed: it is a 32-bit program");
        return;
    }
    for (unsigned i = 0; i < TRIES; i++) {
        autofree char *before = NULL, *after = NULL;
        size_t length = 0, length_after = 0;
        if (read_proc(pid, "auxv", AUXV_BYTES_MAX, &before, &length) < 0) {
            cpu_evidence_unknown(task, "glibc and isa_needed: its auxiliary vector cannot be read");
            return;
        }
        read_once(pid, before, length, task);
        if (read_proc(pid, "auxv", AUXV_BYTES_MAX, &after, &length_after) < 0 ||
            (length == length_after && memcmp(before, after, length) == 0))
            return;
        forget(task);
    }
    cpu_evidence_unknown(task, "glibc and isa_needed: it executes one program after another");
}
