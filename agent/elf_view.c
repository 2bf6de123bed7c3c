/* SPDX-License-Identifier: Apache-2.0 */
/* elf_view.c - headers, dynamic section and symbol hash tables of an ELF file in memory. */
#include "elf_view.h"

#include <string.h>

#define DYNAMIC_MAX 512  /* entries of a dynamic section */
#define CHAIN_MAX   4096 /* symbols that are looked at for one name */
#define NAME_BYTES  128  /* of a symbol that is looked for */

static int read_at(const struct elf_view *view, uint64_t address, void *buffer, size_t length)
{
    return view->memory.read(view->memory.ctx, address, buffer, length);
}

static int read_segments(struct elf_view *view, uint64_t start, const Elf64_Ehdr *header)
{
    if (header->e_phentsize != sizeof(Elf64_Phdr) || header->e_phnum == 0 ||
        header->e_phnum > ELF_VIEW_SEGMENTS_MAX || header->e_phoff > UINT32_MAX)
        return -1;
    view->segment_count = header->e_phnum;
    return read_at(view, start + header->e_phoff, view->segments,
                   header->e_phnum * sizeof(Elf64_Phdr));
}

int elf_view_open(const struct elf_memory *memory, uint64_t start, struct elf_view *ret)
{
    struct elf_view view = {.memory = *memory};
    Elf64_Ehdr header;
    if (read_at(&view, start, &header, sizeof(header)) < 0 ||
        memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
        header.e_machine != EM_X86_64 || read_segments(&view, start, &header) < 0)
        return -1;
    for (size_t i = 0; i < view.segment_count; i++)
        if (view.segments[i].p_type == PT_LOAD && view.segments[i].p_offset == 0) {
            view.bias = start - view.segments[i].p_vaddr;
            *ret = view;
            return 0;
        }
    return -1; /* what lies at `start` is no part of the program */
}

const Elf64_Phdr *elf_view_segment(const struct elf_view *view, uint32_t type)
{
    for (size_t i = 0; i < view->segment_count; i++)
        if (view->segments[i].p_type == type)
            return &view->segments[i];
    return NULL;
}

/* ---- the dynamic section */

struct dynamic {
    uint64_t symbols, strings, strings_size; /* addresses in memory; 0: not there */
    uint64_t gnu_hash, hash;
    uint64_t soname; /* offset into the strings; 0: none */
};

/* Some loaders write the address in memory over the one in the file, others do not. */
static uint64_t address_of(const struct elf_view *view, uint64_t value)
{
    return value < view->bias ? value + view->bias : value;
}

static void take_entry(const struct elf_view *view, const Elf64_Dyn *entry, struct dynamic *ret)
{
    switch (entry->d_tag) {
    case DT_SYMTAB:
        ret->symbols = address_of(view, entry->d_un.d_ptr);
        break;
    case DT_STRTAB:
        ret->strings = address_of(view, entry->d_un.d_ptr);
        break;
    case DT_STRSZ:
        ret->strings_size = entry->d_un.d_val;
        break;
    case DT_GNU_HASH:
        ret->gnu_hash = address_of(view, entry->d_un.d_ptr);
        break;
    case DT_HASH:
        ret->hash = address_of(view, entry->d_un.d_ptr);
        break;
    case DT_SONAME:
        ret->soname = entry->d_un.d_val;
        break;
    default:
        break;
    }
}

static int read_dynamic(const struct elf_view *view, struct dynamic *ret)
{
    const Elf64_Phdr *segment = elf_view_segment(view, PT_DYNAMIC);
    *ret = (struct dynamic){0};
    if (!segment)
        return -1;
    for (size_t i = 0; i < DYNAMIC_MAX && i < segment->p_memsz / sizeof(Elf64_Dyn); i++) {
        Elf64_Dyn entry;
        if (read_at(view, view->bias + segment->p_vaddr + i * sizeof(entry), &entry,
                    sizeof(entry)) < 0)
            return -1;
        if (entry.d_tag == DT_NULL)
            break;
        take_entry(view, &entry, ret);
    }
    return ret->symbols && ret->strings ? 0 : -1;
}

static bool is_string(const struct elf_view *view, const struct dynamic *dynamic, uint64_t offset,
                      const char *wanted)
{
    char text[NAME_BYTES];
    size_t length = strlen(wanted) + 1;
    return length <= sizeof(text) && offset < dynamic->strings_size &&
           length <= dynamic->strings_size - offset &&
           read_at(view, dynamic->strings + offset, text, length) == 0 &&
           memcmp(text, wanted, length) == 0;
}

static bool is_symbol(const struct elf_view *view, const struct dynamic *dynamic, uint32_t index,
                      const char *name, uint64_t *ret_address)
{
    Elf64_Sym symbol;
    if (read_at(view, dynamic->symbols + (uint64_t)index * sizeof(symbol), &symbol,
                sizeof(symbol)) < 0 ||
        symbol.st_shndx == SHN_UNDEF || !is_string(view, dynamic, symbol.st_name, name))
        return false;
    *ret_address = view->bias + symbol.st_value;
    return true;
}

static uint32_t gnu_hash_of(const char *name)
{
    uint32_t hash = 5381;
    for (; *name; name++)
        hash = hash * 33 + (unsigned char)*name;
    return hash;
}

static int find_by_gnu_hash(const struct elf_view *view, const struct dynamic *dynamic,
                            const char *name, uint64_t *ret_address)
{
    struct {
        uint32_t buckets, first_symbol, bloom_words, bloom_shift;
    } header;
    uint32_t hash = gnu_hash_of(name), index = 0;
    if (read_at(view, dynamic->gnu_hash, &header, sizeof(header)) < 0 || header.buckets == 0)
        return -1;
    uint64_t buckets = dynamic->gnu_hash + sizeof(header) + (uint64_t)header.bloom_words * 8;
    uint64_t chains = buckets + (uint64_t)header.buckets * 4;
    if (read_at(view, buckets + (uint64_t)(hash % header.buckets) * 4, &index, sizeof(index)) < 0 ||
        index < header.first_symbol)
        return -1;
    for (unsigned i = 0; i < CHAIN_MAX; i++, index++) {
        uint32_t link = 0;
        if (read_at(view, chains + (uint64_t)(index - header.first_symbol) * 4, &link,
                    sizeof(link)) < 0)
            return -1;
        if ((link | 1) == (hash | 1) && is_symbol(view, dynamic, index, name, ret_address))
            return 0;
        if (link & 1)
            return -1; /* the last of its bucket */
    }
    return -1;
}

/* The older table names how many symbols there are; all of them are looked at. */
static int find_by_hash(const struct elf_view *view, const struct dynamic *dynamic,
                        const char *name, uint64_t *ret_address)
{
    struct {
        uint32_t buckets, symbols;
    } header;
    if (read_at(view, dynamic->hash, &header, sizeof(header)) < 0)
        return -1;
    for (uint32_t i = 1; i < header.symbols && i < CHAIN_MAX; i++)
        if (is_symbol(view, dynamic, i, name, ret_address))
            return 0;
    return -1;
}

int elf_view_symbol(const struct elf_view *view, const char *name, uint64_t *ret_address)
{
    struct dynamic dynamic;
    if (read_dynamic(view, &dynamic) < 0)
        return -1;
    if (dynamic.gnu_hash)
        return find_by_gnu_hash(view, &dynamic, name, ret_address);
    return dynamic.hash ? find_by_hash(view, &dynamic, name, ret_address) : -1;
}

int elf_view_soname(const struct elf_view *view, char *name, size_t size)
{
    struct dynamic dynamic;
    if (read_dynamic(view, &dynamic) < 0 || !dynamic.soname ||
        dynamic.soname >= dynamic.strings_size)
        return -1;
    uint64_t left = dynamic.strings_size - dynamic.soname;
    size_t length = left < size ? (size_t)left : size;
    if (read_at(view, dynamic.strings + dynamic.soname, name, length) < 0)
        return -1;
    return memchr(name, '\0', length) ? 0 : -1;
}
