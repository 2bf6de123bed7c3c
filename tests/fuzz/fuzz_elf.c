/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_elf.c - the memory of a process that wishes us ill: whatever lies there, only what is there
 * is read, and looking ends. */
#include <string.h>

#include "elf_notes.h"
#include "elf_view.h"
#include "fuzz.h"
#include "inspect_private.h"

#define START 0x10000

struct memory {
    const uint8_t *bytes;
    size_t length;
    unsigned reads;
};

static int read_memory(void *ctx, uint64_t address, void *buffer, size_t length)
{
    struct memory *m = ctx;
    MUST(++m->reads < 100000);
    MUST(length <= 65536);
    if (address < START || address - START > m->length ||
        length > m->length - (size_t)(address - START))
        return -1;
    memcpy(buffer, m->bytes + (address - START), length);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct memory bytes = {data, size, 0};
    const struct elf_memory memory = {read_memory, &bytes};
    struct elf_view view;
    struct elf_marks marks;
    uint64_t address = 0;
    char name[64];
    elf_marks_parse(data, size, &marks);
    MUST(elf_marks_level(marks.isa_used) <= 4);
    if (elf_view_open(&memory, START, &view) < 0)
        return 0;
    elf_marks_read(&view, &marks);
    elf_view_symbol(&view, "_dl_x86_get_cpu_features", &address);
    if (elf_view_soname(&view, name, sizeof(name)) == 0)
        MUST(strlen(name) < sizeof(name));

    struct cpu_evidence evidence = {0};
    struct cpu_evidence_task *task = cpu_evidence_add_task(&evidence, 1, "x");
    const struct inspect_auxv auxv = {.loader = START};
    inspect_glibc(&memory, &auxv, task);
    MUST(task->glibc_known == (task->unknown_count == 0));
    cpu_evidence_done(&evidence);
    return 0;
}
