/* SPDX-License-Identifier: Apache-2.0 */
/* mask_mapped.c - from a mapping to the sites in it. The file is opened as the kernel has it mapped
 * (map_files), not by its name, which may mean another file by now. */
#include "mask_mapped.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "elf_image.h"
#include "mask_cache.h"

#define CHUNK_BYTES  (1UL << 20)
#define PAGE_BYTES   4096UL
#define PAGE_PRESENT (1ULL << 63) /* of /proc/PID/pagemap */
#define PAGE_SWAPPED (1ULL << 62)

void mask_mapped_done(struct mask_mapped *mapped)
{
    mask_sites_free(mapped->sites);
    mapped->sites = NULL;
}

uint64_t mask_mapped_place(const struct mask_mapped *mapped, const struct mask_mapping *mapping,
                           uint64_t address, uint64_t offset)
{
    if (!mapped->in_file) {
        uint64_t place = address + mapped->bias;
        return place >= mapping->start && place < mapping->end ? place : 0;
    }
    if (offset < mapping->offset || offset - mapping->offset >= mapping->end - mapping->start)
        return 0;
    return mapping->start + (offset - mapping->offset);
}

/* ---- without a file */

enum glance { GLANCE_NOTHING, GLANCE_CANDIDATES, GLANCE_UNREADABLE };

/* Memory that is all zero until somebody writes it; a page of the kernel's own is not. */
static bool begins_empty(const struct mask_mapping *mapping)
{
    return !mapping->inode &&
           (!*mapping->name || strncmp(mapping->name, "[anon", 5) == 0 ||
            strcmp(mapping->name, "[heap]") == 0 || strcmp(mapping->name, "[stack]") == 0);
}

static int open_pagemap(const struct mask_tracee *tracee)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/pagemap", tracee->tid);
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* Whether no page of it was ever touched, so far as that is known. Compilers reserve hundreds of
 * MiB at a time, and reading those would make page tables for them. */
static bool is_untouched(int pagemap, uint64_t at, size_t length)
{
    uint64_t entries[CHUNK_BYTES / PAGE_BYTES + 1];
    uint64_t first = at / PAGE_BYTES, count = (at + length - 1) / PAGE_BYTES - first + 1;
    size_t bytes = count * sizeof(entries[0]);
    if (pagemap < 0 || bytes > sizeof(entries) ||
        pread(pagemap, entries, bytes, (off_t)(first * sizeof(entries[0]))) != (ssize_t)bytes)
        return false;
    for (uint64_t i = 0; i < count; i++)
        if (entries[i] & (PAGE_PRESENT | PAGE_SWAPPED))
            return false;
    return true;
}

/* Whether the bytes of CPUID stand anywhere in it. */
static enum glance glance_at(const struct mask_tracee *tracee, const struct mask_mapping *mapping)
{
    static const uint8_t cpuid[] = {0x0f, 0xa2};
    autofree uint8_t *chunk = xmalloc(CHUNK_BYTES);
    autoclose int pagemap = begins_empty(mapping) ? open_pagemap(tracee) : -1;
    /* Chunks share a byte, for a pair that lies across their border. */
    for (uint64_t at = mapping->start; at + 1 < mapping->end; at += CHUNK_BYTES - 1) {
        uint64_t left = mapping->end - at;
        size_t length = left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES;
        if (is_untouched(pagemap, at, length))
            continue;
        if (mask_tracee_read(tracee, at, chunk, length, NULL) < 0)
            return GLANCE_UNREADABLE;
        if (memmem(chunk, length, cpuid, sizeof(cpuid)))
            return GLANCE_CANDIDATES;
    }
    return GLANCE_NOTHING;
}

static int find_in_memory(struct mask_tracee *tracee, const struct mask_mapping *mapping,
                          struct mask_mapped *ret, struct error *err)
{
    const struct elf_memory reader = mask_tracee_reader(tracee);
    uint64_t bytes = mapping->end - mapping->start;
    struct elf_image image;
    enum glance glance =
        bytes > MASK_CODE_BYTES_MAX ? GLANCE_UNREADABLE : glance_at(tracee, mapping);
    if (glance == GLANCE_UNREADABLE)
        return 0;
    if (glance == GLANCE_NOTHING) {
        ret->sites = xcalloc(1, sizeof(*ret->sites));
        return 0;
    }
    if (elf_image_of_memory(&reader, mapping->start, &image, NULL) == 0) /* the vdso */
        ret->bias = image.bias;
    else if (elf_image_of_code(&reader, mapping->start, bytes, 0, &image, err) < 0)
        return -1;
    return mask_sites_find(&image, &ret->sites, err);
}

/* ---- of a file */

static int open_mapped(const struct mask_tracee *tracee, const struct mask_mapping *mapping)
{
    char path[96];
    snprintf(path, sizeof(path), "/proc/%d/map_files/%llx-%llx", tracee->tid,
             (unsigned long long)mapping->start, (unsigned long long)mapping->end);
    return open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

int mask_mapped_find(struct mask_tracee *tracee, const struct mask_mapping *mapping,
                     const char *cache_folder, struct mask_mapped *ret, struct error *err)
{
    *ret = (struct mask_mapped){0};
    if (!mapping->inode)
        return find_in_memory(tracee, mapping, ret, err);
    autoclose int fd = open_mapped(tracee, mapping);
    if (fd < 0)
        return error_errno(err, ERROR_FAILED, "cannot open %s, mapped by thread %d at 0x%llx",
                           mapping->name, tracee->tid, (unsigned long long)mapping->start);
    struct error failure = {0};
    if (mask_cache_sites(cache_folder, fd, &ret->sites, NULL, &failure) == 0) {
        ret->in_file = true;
        return 0;
    }
    /* No ELF file: code that somebody wrote into it, as compilers do. */
    if (failure.kind == ERROR_INVALID)
        return find_in_memory(tracee, mapping, ret, err);
    error_set(err, failure.kind, "%s", failure.message);
    return error_wrap(err, "%s", mapping->name);
}
