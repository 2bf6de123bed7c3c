/* SPDX-License-Identifier: Apache-2.0 */
/* elf_frames.c - the index of frame description entries, and the entries (DWARF 5, 6.4.1; LSB 5.0,
 * 10.6). */
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "elf_functions.h"

#define HEADER_BYTES      12 /* version, three encodings, pointer, count: as all linkers write them */
#define RECORD_BYTES      96 /* of an entry that are looked at */
#define SECTION_BYTES_MAX (64U << 20)

/* How pointers are encoded: form, and what they count from */
#define FORM_MASK     0x0f
#define FORM_POINTER  0x00
#define FORM_UNSIGNED 0x03 /* 4 bytes; 8 is one more */
#define FORM_SIGNED   0x0b
#define FROM_MASK     0x70
#define FROM_ZERO     0x00
#define FROM_ITSELF   0x10
#define FROM_HEADER   0x30
#define ENCODING_NONE 0xff

struct cursor {
    const uint8_t *bytes;
    size_t length, at;
    uint64_t address; /* of the first byte */
    bool ended;       /* read beyond the end */
};

static uint64_t take(struct cursor *c, size_t length)
{
    uint64_t value = 0;
    if (c->ended || length > c->length - c->at) {
        c->ended = true;
        return 0;
    }
    memcpy(&value, c->bytes + c->at, length);
    c->at += length;
    return value;
}

static void skip_leb128(struct cursor *c)
{
    while (take(c, 1) & 0x80)
        ;
}

/* A length or an offset in that form, sign-extended where it is signed. */
static uint64_t take_form(struct cursor *c, uint8_t encoding)
{
    switch (encoding & FORM_MASK) {
    case FORM_POINTER:
    case FORM_UNSIGNED + 1:
    case FORM_SIGNED + 1:
        return take(c, 8);
    case FORM_UNSIGNED:
        return take(c, 4);
    case FORM_SIGNED:
        return (uint64_t)(int64_t)(int32_t)take(c, 4);
    default:
        c->ended = true;
        return 0;
    }
}

static uint64_t take_pointer(struct cursor *c, uint8_t encoding)
{
    uint64_t here = c->address + c->at, value = take_form(c, encoding);
    switch (encoding & FROM_MASK) {
    case FROM_ZERO:
        return value;
    case FROM_ITSELF:
        return here + value;
    default:
        c->ended = true;
        return 0;
    }
}

/* The entry at an address, without its length; at most RECORD_BYTES of it. */
static int read_record(const struct elf_image *image, uint64_t address, uint8_t *bytes,
                       struct cursor *ret)
{
    uint32_t length = 0;
    if (elf_image_read(image, address, &length, sizeof(length)) < 0 || length < 4 ||
        length == UINT32_MAX) /* the 64-bit form, which nobody writes there */
        return -1;
    size_t wanted = length < RECORD_BYTES ? length : RECORD_BYTES;
    if (elf_image_read(image, address + sizeof(length), bytes, wanted) < 0)
        return -1;
    *ret = (struct cursor){.bytes = bytes, .length = wanted, .address = address + sizeof(length)};
    return 0;
}

/* How the entries of this common information entry (CIE) encode addresses. */
static int read_encoding(const struct elf_image *image, uint64_t address, uint8_t *ret)
{
    uint8_t bytes[RECORD_BYTES];
    struct cursor c;
    if (read_record(image, address, bytes, &c) < 0 || take(&c, 4) != 0)
        return -1;
    uint8_t version = (uint8_t)take(&c, 1);
    const char *augmentation = (const char *)bytes + c.at;
    size_t length = strnlen(augmentation, c.length - c.at);
    if ((version != 1 && version != 3) || length == c.length - c.at)
        return -1;
    c.at += length + 1;
    skip_leb128(&c); /* code alignment */
    skip_leb128(&c); /* data alignment */
    if (version == 1)
        (void)take(&c, 1); /* the return address's register */
    else
        skip_leb128(&c);
    *ret = FORM_POINTER;
    if (augmentation[0] != 'z')
        return augmentation[0] == '\0' && !c.ended ? 0 : -1;
    skip_leb128(&c);
    for (const char *a = augmentation + 1; *a; a++) {
        if (*a == 'R')
            *ret = (uint8_t)take(&c, 1);
        else if (*a == 'L')
            (void)take(&c, 1);
        else if (*a == 'P')
            (void)take_form(&c, (uint8_t)take(&c, 1));
        else if (*a != 'S' && *a != 'B')
            return -1;
    }
    return c.ended ? -1 : 0;
}

/* The FDE at an address. */
static int read_range(const struct elf_image *image, uint64_t address, struct elf_range *ret)
{
    uint8_t bytes[RECORD_BYTES], encoding = 0;
    struct cursor c;
    if (read_record(image, address, bytes, &c) < 0)
        return -1;
    uint64_t cie = c.address - take(&c, 4); /* counts back from its own place */
    if (c.ended || cie == c.address || read_encoding(image, cie, &encoding) < 0)
        return -1;
    ret->start = take_pointer(&c, encoding);
    ret->end = ret->start + take_form(&c, encoding & FORM_MASK);
    return c.ended || ret->end <= ret->start ? -1 : 0;
}

/* Entry `index` of the table: where a function starts and where its FDE lies. */
static int read_entry(const struct elf_image *image, uint64_t index, uint64_t *ret_start,
                      uint64_t *ret_fde)
{
    int32_t entry[2];
    uint64_t header = image->frame_header.address;
    if (elf_image_read(image, header + HEADER_BYTES + index * sizeof(entry), entry, sizeof(entry)) <
        0)
        return -1;
    *ret_start = header + (uint64_t)(int64_t)entry[0];
    *ret_fde = header + (uint64_t)(int64_t)entry[1];
    return 0;
}

/* How many entries the index has; 0 when there is none that can be searched. */
static uint64_t count_entries(const struct elf_image *image)
{
    uint8_t header[HEADER_BYTES];
    uint32_t count;
    if (image->frame_header.size < sizeof(header) ||
        elf_image_read(image, image->frame_header.address, header, sizeof(header)) < 0)
        return 0;
    uint8_t version = header[0], pointer = header[1], of_count = header[2], of_table = header[3];
    if (version != 1 || pointer == ENCODING_NONE || (pointer & FORM_MASK) % 8 != FORM_UNSIGNED ||
        of_count != FORM_UNSIGNED || of_table != (FROM_HEADER | FORM_SIGNED))
        return 0;
    memcpy(&count, header + 8, sizeof(count));
    uint64_t room = (image->frame_header.size - sizeof(header)) / 8;
    return count < room ? count : room;
}

/* ---- without an index */

static int read_section(const struct elf_image *image, unsigned index, Elf64_Shdr *ret)
{
    return elf_image_read_file(image, image->section_headers + (uint64_t)index * sizeof(*ret), ret,
                               sizeof(*ret));
}

/* Where .eh_frame lies; -1 when no section is called so. */
static int find_section(const struct elf_image *image, struct elf_table *ret)
{
    static const char wanted[] = ".eh_frame";
    Elf64_Shdr names, section;
    char name[sizeof(wanted)];
    if (image->source != ELF_SOURCE_FILE || !image->section_headers ||
        read_section(image, image->section_names, &names) < 0)
        return -1;
    for (unsigned i = 0; i < image->section_count; i++) {
        if (read_section(image, i, &section) < 0)
            return -1;
        if (section.sh_flags & SHF_ALLOC && section.sh_name < names.sh_size &&
            elf_image_read_file(image, names.sh_offset + section.sh_name, name, sizeof(name)) ==
                0 &&
            memcmp(name, wanted, sizeof(wanted)) == 0) {
            *ret = (struct elf_table){.address = section.sh_addr, .size = section.sh_size};
            return 0;
        }
    }
    return -1;
}

static int by_start(const void *a, const void *b)
{
    uint64_t x = ((const struct elf_range *)a)->start, y = ((const struct elf_range *)b)->start;
    return x < y ? -1 : x > y;
}

static void add_range(struct elf_frames *frames, struct elf_range range)
{
    if ((frames->count & (frames->count - 1)) == 0) /* room doubles */
        frames->ranges = xrealloc(frames->ranges, (frames->count ? 2 * frames->count : 1) *
                                                      sizeof(*frames->ranges));
    frames->ranges[frames->count++] = range;
}

/* All entries in the order in which they lie. `image` holds the section alone. */
static void read_all(struct elf_frames *frames, const struct elf_image *image,
                     const struct elf_table *table)
{
    uint32_t head[2]; /* length, and what tells a CIE from an FDE */
    for (uint64_t at = 0; table->size - at >= sizeof(head); at += 4 + (uint64_t)head[0]) {
        struct elf_range range;
        if (elf_image_read(image, table->address + at, head, sizeof(head)) < 0 || head[0] < 4 ||
            head[0] > table->size - at - 4)
            return; /* the end is a length of 0 */
        if (head[1] && read_range(image, table->address + at, &range) == 0)
            add_range(frames, range);
    }
}

static void open_section(const struct elf_image *image, struct elf_frames *ret)
{
    struct elf_table table;
    if (find_section(image, &table) < 0 || table.size > SECTION_BYTES_MAX)
        return;
    autofree uint8_t *bytes = xmalloc(table.size + 1);
    if (elf_image_read(image, table.address, bytes, table.size) < 0)
        return;
    struct elf_bytes section = {bytes, table.size, table.address};
    const struct elf_memory reader = {elf_read_bytes, &section};
    struct elf_image alone;
    if (elf_image_of_code(&reader, table.address, table.size, 0, &alone, NULL) < 0)
        return;
    read_all(ret, &alone, &table);
    if (ret->count)
        qsort(ret->ranges, ret->count, sizeof(*ret->ranges), by_start);
}

/* ---- the whole */

void elf_frames_open(const struct elf_image *image, struct elf_frames *ret)
{
    *ret = (struct elf_frames){.image = image, .indexed = count_entries(image)};
    if (!ret->indexed)
        open_section(image, ret);
}

void elf_frames_done(struct elf_frames *frames)
{
    free(frames->ranges);
    *frames = (struct elf_frames){0};
}

static bool find_in_index(const struct elf_frames *frames, uint64_t address, struct elf_range *ret)
{
    const struct elf_image *image = frames->image;
    uint64_t start = 0, fde = 0, low = 0, high = frames->indexed;
    while (low < high) { /* the first that begins behind the address */
        uint64_t middle = low + (high - low) / 2;
        if (read_entry(image, middle, &start, &fde) < 0)
            return false;
        if (start <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 && read_entry(image, low - 1, &start, &fde) == 0 &&
           read_range(image, fde, ret) == 0 && ret->start == start;
}

static bool find_in_ranges(const struct elf_frames *frames, uint64_t address, struct elf_range *ret)
{
    size_t low = 0, high = frames->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (frames->ranges[middle].start <= address)
            low = middle + 1;
        else
            high = middle;
    }
    if (low > 0)
        *ret = frames->ranges[low - 1];
    return low > 0;
}

bool elf_frames_find(const struct elf_frames *frames, uint64_t address, struct elf_range *ret)
{
    bool found = frames->indexed ? find_in_index(frames, address, ret)
                                 : find_in_ranges(frames, address, ret);
    return found && address >= ret->start && address < ret->end;
}
