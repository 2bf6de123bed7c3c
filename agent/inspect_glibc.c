/* SPDX-License-Identifier: Apache-2.0 */
/* inspect_glibc.c - which CPU features the C library of a process found usable at its start.
 *
 * glibc's loader keeps them in one object, struct cpu_features, for ever after. Since 2.33 its
 * function _dl_x86_get_cpu_features returns the object's address and does nothing else, so the
 * address is in the function's code. The object begins with five words (kind, highest leaf,
 * family, model, stepping), then come for each CPUID leaf what CPUID said and what is active:
 * four words each. The order of the leaves is part of <sys/platform/x86.h>, and has only grown. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "inspect_private.h"

#define VENDOR_KINDS_MAX   16         /* there are five */
#define LOADER_BYTES_MAX   (4U << 20) /* of one segment of the loader; about 200 KiB */
#define SEARCH_CHUNK_BYTES 65536
#define VERSION_MARK       "release version "
#define VERSION_BYTES_MAX  64 /* from the mark to the version's end */

bool glibc_owns(const char *soname)
{
    static const char *const names[] = {
        "ld-linux-x86-64.so.2", "libc.so.6",          "libm.so.6",         "libmvec.so.1",
        "libpthread.so.0",      "libdl.so.2",         "librt.so.1",        "libutil.so.1",
        "libresolv.so.2",       "libanl.so.1",        "libnss_files.so.2", "libnss_dns.so.2",
        "libnss_compat.so.2",   "libnss_hesiod.so.2",
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(names[i], soname) == 0)
            return true;
    return false;
}

bool glibc_returned_address(const unsigned char *code, size_t length, uint64_t address,
                            uint64_t *ret)
{
    static const unsigned char endbr[] = {0xf3, 0x0f, 0x1e, 0xfa}, lea[] = {0x48, 0x8d, 0x05};
    size_t at = 0;
    int32_t displacement;
    if (length >= sizeof(endbr) && memcmp(code, endbr, sizeof(endbr)) == 0)
        at = sizeof(endbr);
    if (length < at + 8 || memcmp(code + at, lea, sizeof(lea)) != 0 || code[at + 7] != 0xc3)
        return false;
    memcpy(&displacement, code + at + 3, sizeof(displacement));
    *ret = address + at + 7 + (uint64_t)(int64_t)displacement;
    return true;
}

static uint32_t word_at(const unsigned char *table, size_t index)
{
    uint32_t word;
    memcpy(&word, table + 4 * index, sizeof(word));
    return word;
}

/* The words before the leaves have to agree with CPUID's leaf 1 behind them. */
static bool is_table(const unsigned char *table)
{
    uint32_t kind = word_at(table, 0), limit = word_at(table, 1), family = word_at(table, 2);
    uint32_t signature = word_at(table, 5), edx = word_at(table, 8);
    uint32_t of_signature = signature >> 8 & 0xf;
    if (of_signature == 0xf)
        of_signature += signature >> 20 & 0xff;
    if (kind == 0 || kind > VENDOR_KINDS_MAX || limit == 0 || limit > 0xffff)
        return false;
    if (family && family != of_signature) /* 0: glibc does not look at that vendor's */
        return false;
    return (edx >> 25 & 3) == 3 && (edx & 1); /* FPU, SSE, SSE2: there is no 64-bit CPU without */
}

int glibc_read_table(const unsigned char table[GLIBC_TABLE_BYTES], uint32_t active[CPU_WORD_COUNT])
{
    static const struct {
        uint32_t leaf, subleaf;
    } leaves[GLIBC_LEAVES] = {
        {0x1,        0},
        {0x7,        0},
        {0x80000001, 0},
        {0xd,        1},
        {0x80000007, 0},
        {0x80000008, 0},
        {0x7,        1},
    };
    if (!is_table(table))
        return -1;
    memset(active, 0, CPU_WORD_COUNT * sizeof(*active));
    for (size_t i = 0; i < GLIBC_LEAVES; i++)
        for (unsigned reg = CPU_EAX; reg <= CPU_EDX; reg++) {
            int word = cpu_word_find(leaves[i].leaf, leaves[i].subleaf, (enum cpu_register)reg);
            if (word >= 0)
                active[word] |= word_at(table, 5 + 8 * i + 4 + reg) &
                                (cpu_words[word].isa | cpu_words[word].hint);
        }
    return 0;
}

char *glibc_version_in(const char *text, size_t length)
{
    const char *mark = memmem(text, length, VERSION_MARK, strlen(VERSION_MARK));
    if (!mark)
        return NULL;
    const char *start = mark + strlen(VERSION_MARK), *end = text + length, *at = start;
    while (at < end && at - start < VERSION_BYTES_MAX &&
           (isdigit((unsigned char)*at) || *at == '.'))
        at++;
    while (at > start && at[-1] == '.')
        at--;
    return at > start ? xasprintf("%.*s", (int)(at - start), start) : NULL;
}

/* Looks for the version in the loader's constants. */
static char *find_version(const struct elf_view *loader)
{
    autofree char *chunk = xmalloc(SEARCH_CHUNK_BYTES);
    const size_t overlap = sizeof(VERSION_MARK) + VERSION_BYTES_MAX;
    for (size_t i = 0; i < loader->segment_count; i++) {
        const Elf64_Phdr *s = &loader->segments[i];
        if (s->p_type != PT_LOAD || (s->p_flags & PF_W) || s->p_filesz > LOADER_BYTES_MAX)
            continue;
        for (uint64_t at = 0; at < s->p_filesz; at += SEARCH_CHUNK_BYTES - overlap) {
            uint64_t left = s->p_filesz - at;
            size_t length = left < SEARCH_CHUNK_BYTES ? (size_t)left : SEARCH_CHUNK_BYTES;
            if (loader->memory.read(loader->memory.ctx, loader->bias + s->p_vaddr + at, chunk,
                                    length) < 0)
                break;
            char *version = glibc_version_in(chunk, length);
            if (version)
                return version;
        }
    }
    return NULL;
}

/* The loader: where the kernel put it, or the program itself, when the loader was started as a
 * program. Its headers lie at the beginning of the file. */
static int open_loader(const struct elf_memory *memory, const struct inspect_auxv *auxv,
                       struct elf_view *ret)
{
    uint64_t start = auxv->loader ? auxv->loader : auxv->program_headers - sizeof(Elf64_Ehdr);
    if (!auxv->loader && !auxv->program_headers)
        return -1;
    return elf_view_open(memory, start, ret);
}

void inspect_glibc(const struct elf_memory *memory, const struct inspect_auxv *auxv,
                   struct cpu_evidence_task *task)
{
    struct elf_view loader;
    uint64_t function = 0, object = 0;
    unsigned char code[16], table[GLIBC_TABLE_BYTES];
    if (open_loader(memory, auxv, &loader) < 0) {
        cpu_evidence_unknown(task, "glibc: its loader cannot be read");
        return;
    }
    if (elf_view_symbol(&loader, "_dl_x86_get_cpu_features", &function) < 0) {
        cpu_evidence_unknown(
            task, auxv->loader
                      ? "glibc: its loader is not that of glibc 2.33 or later"
                      : "glibc: it is a static program, which keeps its features where no symbol "
                        "tells of them");
        return;
    }
    if (memory->read(memory->ctx, function, code, sizeof(code)) < 0 ||
        !glibc_returned_address(code, sizeof(code), function, &object) ||
        memory->read(memory->ctx, object, table, sizeof(table)) < 0 ||
        glibc_read_table(table, task->active) < 0) {
        cpu_evidence_unknown(task, "glibc: its record of CPU features has an unknown form");
        return;
    }
    task->glibc_known = true;
    task->glibc_version = find_version(&loader);
}
