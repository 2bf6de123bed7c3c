/* SPDX-License-Identifier: Apache-2.0 */
/* elf_go.c - the table of functions that every Go program carries (runtime/symtab.go, pcHeader and
 * functab; cmd/link/internal/ld/pcln.go, which writes it).
 *
 * A header with a magic number leads to entries (start, record), sorted by start, and behind the
 * last one to its end. Each record repeats the start. So a table that is none is noticed: all of
 * the order is checked first, and of each function that is asked for its record. */
#include <string.h>

#include "cleanup.h"
#include "elf_functions.h"

#define MAGIC_1_16      0xfffffffaU
#define MAGIC_1_18      0xfffffff0U
#define MAGIC_1_20      0xfffffff1U
#define FUNCTIONS_MAX   (8U << 20)
#define NUMBERS_READ    16384 /* at a time */
#define SECTIONS_MAX    1024
#define SCAN_BYTES      (1U << 20)
#define SCAN_BYTES_MAX  (1ULL << 30) /* of all segments */
#define TRIES_MAX       16           /* of what begins like a table */
#define TABLE_ALIGNMENT 32           /* what the linker gives it */

/* As it lies there; from 1.18 on all of it, before that without text_start. */
struct header {
    uint32_t magic;
    uint8_t zeros[2], instruction_step, pointer_bytes;
    uint64_t functions, files;
    uint64_t more[6]; /* text_start, and offsets of tables; the last is that of the entries */
};

static bool has_magic(const uint8_t *bytes)
{
    static const uint8_t rest[] = {0, 0, 1, 8}; /* zeros, steps of x86, pointers of 64 bits */
    uint32_t magic;
    memcpy(&magic, bytes, sizeof(magic));
    return (magic == MAGIC_1_16 || magic == MAGIC_1_18 || magic == MAGIC_1_20) &&
           memcmp(bytes + sizeof(magic), rest, sizeof(rest)) == 0;
}

/* ---- one number of the entries: start, record, start, record, …, end */

static int read_number(const struct elf_go_functions *f, uint64_t index, uint64_t *ret)
{
    *ret = 0;
    return elf_image_read(f->image, f->at + index * f->number_bytes, ret, f->number_bytes);
}

static uint64_t number_of(const struct elf_go_functions *f, const uint8_t *numbers, size_t index)
{
    uint64_t value = 0;
    memcpy(&value, numbers + index * f->number_bytes, f->number_bytes);
    return value;
}

static bool is_code(const struct elf_image *image, uint64_t first, uint64_t end)
{
    const struct elf_segment *s = elf_image_segment(image, first);
    return s && s->executable && end > first && end - s->address <= s->size;
}

/* Whether starts rise, and all of it is code of one segment. */
static bool is_sorted(const struct elf_go_functions *f)
{
    autofree uint8_t *numbers = xmalloc((size_t)NUMBERS_READ * sizeof(uint64_t));
    uint64_t first = 0, last = 0, total = 2 * f->count + 1;
    for (uint64_t done = 0; done < total;) { /* an even count at a time: starts come first */
        uint64_t left = total - done;
        size_t n = left < NUMBERS_READ ? (size_t)left : NUMBERS_READ;
        if (elf_image_read(f->image, f->at + done * f->number_bytes, numbers, n * f->number_bytes) <
            0)
            return false;
        for (size_t i = 0; i < n; i += 2) {
            uint64_t start = number_of(f, numbers, i);
            if (done + i == 0)
                first = start;
            else if (start <= last)
                return false;
            last = start;
        }
        done += n;
    }
    return last <= UINT64_MAX - f->text && is_code(f->image, f->text + first, f->text + last);
}

/* ---- the table */

/* In memory the loader has written the address there over the one in the file. */
static uint64_t address_of(const struct elf_image *image, uint64_t value)
{
    return image->bias && value >= image->bias ? value - image->bias : value;
}

/* What the names of sections tell; where there are none, nothing is known. */
struct hints {
    uint64_t table, module; /* addresses; 0: no section is called so */
    bool is_go;             /* the C linker may have merged the table into another section */
};

/* From Go 1.26 on the header does not say what starts count from, and the module's own record has a
 * section (moduledata in runtime/symtab.go, the same from 1.20 to 1.27). It names the table, the
 * entries, their number with the end, the first start, the end, and the text. */
static bool ask_module(const struct elf_image *image, uint64_t module, uint64_t table,
                       struct elf_go_functions *f)
{
    enum { TABLE, ENTRIES = 16, ENTRY_COUNT, FIRST = 20, END, TEXT, WORDS };
    uint64_t w[WORDS], first = 0, end = 0;
    if (!module || elf_image_read(image, module, w, sizeof(w)) < 0 || w[TABLE] != table ||
        w[ENTRIES] != f->at || w[ENTRY_COUNT] != f->count + 1 || w[TEXT] == 0 ||
        read_number(f, 0, &first) < 0 || read_number(f, 2 * f->count, &end) < 0 ||
        w[FIRST] != w[TEXT] + first || w[END] != w[TEXT] + end)
        return false;
    f->text = w[TEXT];
    return true;
}

/* Takes the table at that address if it is one. */
static bool take_table(const struct elf_image *image, uint64_t address, const struct hints *hints,
                       struct elf_go_functions *ret)
{
    struct header header;
    if (elf_image_read(image, address, &header, sizeof(header)) < 0 ||
        !has_magic((const uint8_t *)&header) || header.functions == 0 ||
        header.functions > FUNCTIONS_MAX)
        return false;
    bool old = header.magic == MAGIC_1_16;
    struct elf_go_functions f = {
        .image = image,
        .count = header.functions,
        .text = old ? 0 : address_of(image, header.more[0]),
        .number_bytes = old ? 8 : 4,
    };
    uint64_t offset = header.more[old ? 4 : 5], left = elf_image_left(image, address);
    if (offset < sizeof(header) - (old ? 8 : 0) || offset > left ||
        (2 * f.count + 1) * f.number_bytes > left - offset)
        return false;
    f.at = address + offset;
    if ((!old && f.text == 0 && !ask_module(image, hints->module, address, &f)) || !is_sorted(&f))
        return false;
    *ret = f;
    return true;
}

static void take_section(const struct elf_image *image, const Elf64_Shdr *names,
                         const Elf64_Shdr *section, struct hints *ret)
{
    char name[32] = "";
    uint64_t left = section->sh_name < names->sh_size ? names->sh_size - section->sh_name : 0;
    size_t length = left < sizeof(name) - 1 ? (size_t)left : sizeof(name) - 1;
    if (!(section->sh_flags & SHF_ALLOC) || length == 0 ||
        elf_image_read_file(image, names->sh_offset + section->sh_name, name, length) < 0)
        return;
    if (strcmp(name, ".gopclntab") == 0 || strcmp(name, ".data.rel.ro.gopclntab") == 0)
        ret->table = section->sh_addr;
    else if (strcmp(name, ".go.module") == 0)
        ret->module = section->sh_addr;
    else if (strcmp(name, ".go.buildinfo") == 0 || strcmp(name, ".note.go.buildid") == 0)
        ret->is_go = true;
}

static void ask_sections(const struct elf_image *image, struct hints *ret)
{
    Elf64_Shdr names, section;
    uint64_t at = image->section_headers;
    *ret = (struct hints){.is_go = image->source != ELF_SOURCE_FILE || !at};
    if (ret->is_go || elf_image_read_file(image, at + image->section_names * sizeof(names), &names,
                                          sizeof(names)) < 0)
        return;
    for (unsigned i = 0; i < image->section_count && i < SECTIONS_MAX; i++) {
        if (elf_image_read_file(image, at + i * sizeof(section), &section, sizeof(section)) < 0)
            return;
        take_section(image, &names, &section, ret);
    }
}

/* In segments that are not executable. */
static bool scan_segment(const struct elf_image *image, const struct elf_segment *s,
                         const struct hints *hints, uint8_t *chunk, unsigned *tries,
                         struct elf_go_functions *ret)
{
    uint64_t skip = -s->address & (TABLE_ALIGNMENT - 1);
    for (uint64_t done = skip; done < s->size; done += SCAN_BYTES) {
        uint64_t left = s->size - done;
        size_t length = left < SCAN_BYTES ? (size_t)left : SCAN_BYTES;
        if (elf_image_read(image, s->address + done, chunk, length) < 0)
            return false;
        for (size_t i = 0; i + 8 <= length; i += TABLE_ALIGNMENT)
            if (*tries && has_magic(chunk + i) && (*tries)-- &&
                take_table(image, s->address + done + i, hints, ret))
                return true;
    }
    return false;
}

void elf_go_open(const struct elf_image *image, struct elf_go_functions *ret)
{
    uint64_t left = SCAN_BYTES_MAX;
    unsigned tries = TRIES_MAX;
    struct hints hints;
    *ret = (struct elf_go_functions){.image = image};
    if (image->source == ELF_SOURCE_CODE)
        return;
    ask_sections(image, &hints);
    if ((hints.table && take_table(image, hints.table, &hints, ret)) || !hints.is_go)
        return;
    autofree uint8_t *chunk = xmalloc(SCAN_BYTES);
    for (size_t i = 0; i < image->segment_count && tries; i++) {
        const struct elf_segment *s = &image->segments[i];
        if (s->executable || s->size > left)
            continue;
        left -= s->size;
        if (scan_segment(image, s, &hints, chunk, &tries, ret))
            return;
    }
}

/* The record of a function begins with its start. */
static bool is_confirmed(const struct elf_go_functions *f, uint64_t index, uint64_t start)
{
    uint64_t record = 0, repeated = 0;
    return read_number(f, 2 * index + 1, &record) == 0 &&
           record <= elf_image_left(f->image, f->at) &&
           elf_image_read(f->image, f->at + record, &repeated, f->number_bytes) == 0 &&
           repeated == start;
}

bool elf_go_find(const struct elf_go_functions *f, uint64_t address, struct elf_range *ret)
{
    uint64_t low = 0, high = f->count, start = 0, end = 0;
    if (address < f->text)
        return false;
    while (low < high) { /* the first that begins behind the address */
        uint64_t middle = low + (high - low) / 2;
        if (read_number(f, 2 * middle, &start) < 0)
            return false;
        if (start <= address - f->text)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0 || read_number(f, 2 * (low - 1), &start) < 0 ||
        read_number(f, 2 * low, &end) < 0 || address - f->text >= end ||
        !is_confirmed(f, low - 1, start))
        return false;
    *ret = (struct elf_range){f->text + start, f->text + end};
    return true;
}
