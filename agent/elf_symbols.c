/* SPDX-License-Identifier: Apache-2.0 */
/* elf_symbols.c - symbol tables, read once for all addresses that somebody asks about. */
#include <string.h>

#include "cleanup.h"
#include "elf_functions.h"

#define SECTIONS_MAX 65536
#define SYMBOLS_MAX  (16U << 20) /* of all tables of a file */
#define SYMBOLS_READ 1024        /* at a time */
#define DYNAMIC_MAX  512         /* entries of a dynamic section */
#define BUCKETS_MAX  (4U << 20)
#define BUCKETS_READ 4096
#define CHAIN_MAX    65536 /* symbols in one bucket */

struct search {
    const struct elf_image *image;
    struct elf_around *addresses;
    size_t count;
    uint64_t symbols_left; /* that are still looked at */
};

/* The first address that is not below `value`; count when all are. */
static size_t first_from(const struct search *search, uint64_t value)
{
    size_t low = 0, high = search->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (search->addresses[middle].address < value)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Keeps the one that begins last; of two that begin together, the longer. */
static void keep_later(struct elf_range *best, struct elf_range r)
{
    if (r.end == 0)
        return;
    if (best->end == 0 || r.start > best->start || (r.start == best->start && r.end > best->end))
        *best = r;
}

/* A symbol is noted at the two addresses that are its neighbours; spread() does the rest. */
static void take_symbol(struct search *search, const Elf64_Sym *symbol)
{
    unsigned type = ELF64_ST_TYPE(symbol->st_info);
    bool is_function = type == STT_FUNC || type == STT_GNU_IFUNC;
    if (symbol->st_shndx == SHN_UNDEF || symbol->st_shndx == SHN_ABS || symbol->st_value == 0 ||
        (!is_function && type != STT_OBJECT))
        return;
    const struct elf_segment *segment = elf_image_segment(search->image, symbol->st_value);
    if (!segment || !segment->executable)
        return;
    uint64_t left = segment->size - (symbol->st_value - segment->address);
    uint64_t size = symbol->st_size < left ? symbol->st_size : left;
    const struct elf_range range = {symbol->st_value, symbol->st_value + size};
    size_t at = first_from(search, range.start);
    if (at > 0 && range.start < search->addresses[at - 1].next)
        search->addresses[at - 1].next = range.start;
    if (at == search->count)
        return;
    struct elf_around *around = &search->addresses[at];
    if (is_function && size)
        keep_later(&around->function, range);
    if (is_function)
        keep_later(&around->any_function, range);
    else if (size)
        keep_later(&around->object, range);
}

static void spread(struct search *search)
{
    struct elf_around *a = search->addresses;
    for (size_t i = 1; i < search->count; i++) {
        keep_later(&a[i].function, a[i - 1].function);
        keep_later(&a[i].any_function, a[i - 1].any_function);
        keep_later(&a[i].object, a[i - 1].object);
    }
    for (size_t i = search->count; i-- > 1;)
        if (a[i].next < a[i - 1].next)
            a[i - 1].next = a[i].next;
}

/* ---- where tables lie */

typedef int (*read_function)(const struct elf_image *image, uint64_t at, void *buffer,
                             size_t length);

static void take_table(struct search *search, read_function read, uint64_t at, uint64_t count)
{
    autofree Elf64_Sym *symbols = xmalloc(SYMBOLS_READ * sizeof(*symbols));
    if (count > search->symbols_left)
        count = search->symbols_left;
    search->symbols_left -= count;
    while (count) {
        size_t n = count < SYMBOLS_READ ? (size_t)count : SYMBOLS_READ;
        if (read(search->image, at, symbols, n * sizeof(*symbols)) < 0)
            return;
        for (size_t i = 0; i < n; i++)
            take_symbol(search, &symbols[i]);
        at += n * sizeof(*symbols);
        count -= n;
    }
}

/* Linkers may put data into the same segment as code; sections tell them apart. */
static void take_data_section(struct search *search, const Elf64_Shdr *section)
{
    if (!(section->sh_flags & SHF_ALLOC) || section->sh_flags & SHF_EXECINSTR ||
        section->sh_type == SHT_NOBITS)
        return;
    for (size_t i = first_from(search, section->sh_addr);
         i < search->count && search->symbols_left &&
         search->addresses[i].address - section->sh_addr < section->sh_size;
         i++, search->symbols_left--)
        search->addresses[i].in_data_section = true;
}

/* Whether any symbol table was there to be read. */
static bool take_sections(struct search *search)
{
    const struct elf_image *image = search->image;
    bool any = false;
    if (image->source != ELF_SOURCE_FILE || !image->section_headers)
        return false;
    for (unsigned i = 0; i < image->section_count && i < SECTIONS_MAX; i++) {
        Elf64_Shdr section;
        if (elf_image_read_file(image, image->section_headers + (uint64_t)i * sizeof(section),
                                &section, sizeof(section)) < 0)
            break;
        take_data_section(search, &section);
        if (section.sh_type != SHT_SYMTAB && section.sh_type != SHT_DYNSYM)
            continue;
        any = true;
        take_table(search, elf_image_read_file, section.sh_offset,
                   section.sh_size / sizeof(Elf64_Sym));
    }
    return any;
}

struct dynamic {
    uint64_t symbols, gnu_hash, hash; /* addresses in the file; 0: none */
};

/* In memory some loaders write the address there over the one in the file, others do not. */
static uint64_t address_of(const struct elf_image *image, uint64_t value)
{
    return image->bias && value >= image->bias ? value - image->bias : value;
}

static void read_dynamic(const struct elf_image *image, struct dynamic *ret)
{
    *ret = (struct dynamic){0};
    for (size_t i = 0; i < DYNAMIC_MAX && i < image->dynamic.size / sizeof(Elf64_Dyn); i++) {
        Elf64_Dyn entry;
        if (elf_image_read(image, image->dynamic.address + i * sizeof(entry), &entry,
                           sizeof(entry)) < 0 ||
            entry.d_tag == DT_NULL)
            return;
        if (entry.d_tag == DT_SYMTAB)
            ret->symbols = address_of(image, entry.d_un.d_ptr);
        else if (entry.d_tag == DT_GNU_HASH)
            ret->gnu_hash = address_of(image, entry.d_un.d_ptr);
        else if (entry.d_tag == DT_HASH)
            ret->hash = address_of(image, entry.d_un.d_ptr);
    }
}

/* The table's length stands nowhere; the last symbol is the last of the highest bucket's chain. */
static uint64_t count_by_gnu_hash(const struct elf_image *image, uint64_t table)
{
    struct {
        uint32_t buckets, first_symbol, bloom_words, bloom_shift;
    } header;
    uint32_t part[BUCKETS_READ], last = 0, link = 0;
    if (elf_image_read(image, table, &header, sizeof(header)) < 0 || header.buckets > BUCKETS_MAX)
        return 0;
    uint64_t buckets = table + sizeof(header) + (uint64_t)header.bloom_words * 8;
    for (uint32_t i = 0; i < header.buckets;) {
        uint32_t n = header.buckets - i < BUCKETS_READ ? header.buckets - i : BUCKETS_READ;
        if (elf_image_read(image, buckets + (uint64_t)i * 4, part, n * sizeof(part[0])) < 0)
            return 0;
        for (uint32_t k = 0; k < n; k++)
            last = part[k] > last ? part[k] : last;
        i += n;
    }
    if (last < header.first_symbol)
        return 0;
    uint64_t chains = buckets + (uint64_t)header.buckets * 4;
    for (unsigned i = 0; i < CHAIN_MAX; i++, last++) {
        if (elf_image_read(image, chains + (uint64_t)(last - header.first_symbol) * 4, &link,
                           sizeof(link)) < 0)
            return 0;
        if (link & 1)
            return (uint64_t)last + 1;
    }
    return 0;
}

static uint64_t count_by_hash(const struct elf_image *image, uint64_t table)
{
    uint32_t header[2]; /* buckets, symbols */
    return elf_image_read(image, table, header, sizeof(header)) < 0 ? 0 : header[1];
}

static void take_dynamic(struct search *search)
{
    struct dynamic dynamic;
    read_dynamic(search->image, &dynamic);
    if (!dynamic.symbols)
        return;
    uint64_t count = dynamic.gnu_hash ? count_by_gnu_hash(search->image, dynamic.gnu_hash) : 0;
    if (!count && dynamic.hash)
        count = count_by_hash(search->image, dynamic.hash);
    take_table(search, elf_image_read, dynamic.symbols, count);
}

void elf_symbols_around(const struct elf_image *image, struct elf_around *addresses, size_t count)
{
    struct search search = {image, addresses, count, SYMBOLS_MAX};
    for (size_t i = 0; i < count; i++)
        addresses[i] = (struct elf_around){.address = addresses[i].address, .next = UINT64_MAX};
    if (count == 0)
        return;
    if (!take_sections(&search))
        take_dynamic(&search);
    spread(&search);
}
