/* SPDX-License-Identifier: Apache-2.0 */
/* elf_image.c - headers of an ELF file and the bytes behind its addresses. */
#include "elf_image.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "digest.h"

#define NOTES_BYTES_MAX  65536
#define NOTE_GO_BUILD_ID 4
#define ADDRESS_MAX      (1ULL << 56) /* no program lies higher; sums stay far from overflow */

/* ---- readers */

int elf_read_descriptor(void *ctx, uint64_t position, void *buffer, size_t length)
{
    int fd = *(int *)ctx;
    for (size_t done = 0; done < length;) {
        if (position + done > INT64_MAX)
            return -1;
        ssize_t n = pread(fd, (char *)buffer + done, length - done, (off_t)(position + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        done += (size_t)n;
    }
    return 0;
}

int elf_read_bytes(void *ctx, uint64_t position, void *buffer, size_t length)
{
    const struct elf_bytes *b = ctx;
    if (position < b->start || position - b->start > b->size ||
        length > b->size - (position - b->start))
        return -1;
    if (length)
        memcpy(buffer, b->bytes + (position - b->start), length);
    return 0;
}

/* ---- places */

const struct elf_segment *elf_image_segment(const struct elf_image *image, uint64_t address)
{
    for (size_t i = 0; i < image->segment_count; i++) {
        const struct elf_segment *s = &image->segments[i];
        if (address >= s->address && address - s->address < s->size)
            return s;
    }
    return NULL;
}

uint64_t elf_image_left(const struct elf_image *image, uint64_t address)
{
    const struct elf_segment *s = elf_image_segment(image, address);
    return s ? s->size - (address - s->address) : 0;
}

uint64_t elf_image_offset(const struct elf_image *image, uint64_t address)
{
    const struct elf_segment *s = elf_image_segment(image, address);
    return s && image->source != ELF_SOURCE_CODE ? s->offset + (address - s->address) : 0;
}

int elf_image_read(const struct elf_image *image, uint64_t address, void *buffer, size_t length)
{
    const struct elf_segment *s = elf_image_segment(image, address);
    if (!s || length > s->size - (address - s->address))
        return -1;
    uint64_t position = image->source == ELF_SOURCE_FILE ? s->offset + (address - s->address)
                                                         : image->bias + address;
    return image->reader.read(image->reader.ctx, position, buffer, length);
}

int elf_image_read_file(const struct elf_image *image, uint64_t offset, void *buffer, size_t length)
{
    if (image->source != ELF_SOURCE_FILE || offset > image->file_bytes ||
        length > image->file_bytes - offset)
        return -1;
    return image->reader.read(image->reader.ctx, offset, buffer, length);
}

uint64_t elf_image_executable_bytes(const struct elf_image *image)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < image->segment_count; i++)
        if (image->segments[i].executable)
            bytes += image->segments[i].size;
    return bytes;
}

/* ---- headers */

static const char *type_name(unsigned type)
{
    switch (type) {
    case ET_REL:
        return "an object file, which is linked before it runs";
    case ET_CORE:
        return "a core dump";
    default:
        return "of no type that is loaded";
    }
}

static int check_header(const Elf64_Ehdr *header, struct error *err)
{
    if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0)
        return error_set(err, ERROR_INVALID, "this is no ELF file");
    if (header->e_machine == EM_386)
        return error_set(err, ERROR_REJECTED,
                         "this is 32-bit code (i386), in which CPUID is not replaced; only the "
                         "grade `hardware` masks it");
    if (header->e_machine != EM_X86_64)
        return error_set(err, ERROR_REJECTED, "this is code for another machine (ELF machine %u)",
                         header->e_machine);
    if (header->e_ident[EI_CLASS] != ELFCLASS64)
        return error_set(err, ERROR_REJECTED,
                         "this is code of the x32 ABI, in which CPUID is not replaced; only the "
                         "grade `hardware` masks it");
    if (header->e_type != ET_EXEC && header->e_type != ET_DYN)
        return error_set(err, ERROR_INVALID, "this ELF file is %s", type_name(header->e_type));
    if (header->e_ident[EI_DATA] != ELFDATA2LSB || header->e_phentsize != sizeof(Elf64_Phdr))
        return error_set(err, ERROR_INVALID, "this ELF file is damaged: its header does not fit");
    if (header->e_phnum == 0 || header->e_phnum > ELF_IMAGE_HEADERS_MAX)
        return error_set(err, ERROR_INVALID, "this ELF file has %u segments: expected 1..%u",
                         header->e_phnum, ELF_IMAGE_HEADERS_MAX);
    return 0;
}

static int add_segment(struct elf_image *image, const Elf64_Phdr *p, struct error *err)
{
    if (p->p_filesz == 0)
        return 0;
    if (p->p_vaddr > ADDRESS_MAX || p->p_filesz > ADDRESS_MAX || p->p_offset > ADDRESS_MAX)
        return error_set(err, ERROR_INVALID,
                         "this ELF file is damaged: a segment lies beyond all memory");
    if (image->source == ELF_SOURCE_FILE &&
        (p->p_offset > image->file_bytes || p->p_filesz > image->file_bytes - p->p_offset))
        return error_set(err, ERROR_INVALID,
                         "this ELF file is truncated: a segment ends at byte %llu, the file at "
                         "%llu",
                         (unsigned long long)p->p_offset + p->p_filesz,
                         (unsigned long long)image->file_bytes);
    if (image->segment_count == ELF_IMAGE_SEGMENTS_MAX)
        return error_set(err, ERROR_INVALID, "this ELF file loads more than %u segments",
                         ELF_IMAGE_SEGMENTS_MAX);
    image->segments[image->segment_count++] = (struct elf_segment){
        .address = p->p_vaddr,
        .offset = p->p_offset,
        .size = p->p_filesz,
        .executable = p->p_flags & PF_X,
    };
    return 0;
}

static void take_table(const Elf64_Phdr *p, struct elf_table *ret)
{
    *ret = (struct elf_table){.address = p->p_vaddr, .size = p->p_filesz};
}

static void take_note(struct elf_image *image, const Elf64_Nhdr *note, const uint8_t *name,
                      const uint8_t *body)
{
    static const char digits[] = "0123456789abcdef";
    char digest[SHA256_HEX_BYTES];
    if (note->n_namesz != 4 || note->n_descsz == 0)
        return;
    if (note->n_type == NT_GNU_BUILD_ID && memcmp(name, "GNU", 4) == 0 &&
        note->n_descsz <= (ELF_BUILD_ID_HEX_BYTES - 1) / 2) {
        for (size_t i = 0; i < note->n_descsz; i++) {
            image->build_id[2 * i] = digits[body[i] >> 4];
            image->build_id[2 * i + 1] = digits[body[i] & 15];
        }
        image->build_id[2 * (size_t)note->n_descsz] = '\0';
    } else if (note->n_type == NOTE_GO_BUILD_ID && memcmp(name, "Go\0", 4) == 0 &&
               !image->build_id[0]) {
        sha256_hex(body, note->n_descsz, digest); /* a text, too long for a file's name */
        memcpy(image->build_id, digest, sizeof(digest));
    }
}

static void take_notes(struct elf_image *image, const Elf64_Phdr *p)
{
    autofree uint8_t *notes = NULL;
    size_t align = p->p_align == 8 ? 8 : 4;
    if (p->p_filesz > NOTES_BYTES_MAX)
        return;
    notes = xmalloc(p->p_filesz + 1);
    if (elf_image_read(image, p->p_vaddr, notes, p->p_filesz) < 0)
        return;
    for (size_t at = 0; p->p_filesz - at >= sizeof(Elf64_Nhdr);) {
        Elf64_Nhdr note;
        memcpy(&note, notes + at, sizeof(note));
        size_t body = (sizeof(note) + (size_t)note.n_namesz + align - 1) & ~(align - 1);
        size_t step = (body + note.n_descsz + align - 1) & ~(align - 1);
        if (body + note.n_descsz > p->p_filesz - at)
            return;
        take_note(image, &note, notes + at + sizeof(note), notes + at + body);
        if (step >= p->p_filesz - at)
            return;
        at += step;
    }
}

/* Tables are read through the segments, so those are all known first. */
static int take_headers(struct elf_image *image, const Elf64_Phdr *headers, size_t count,
                        struct error *err)
{
    for (size_t i = 0; i < count; i++)
        if (headers[i].p_type == PT_LOAD && add_segment(image, &headers[i], err) < 0)
            return -1;
    for (size_t i = 0; i < count; i++) {
        if (headers[i].p_type == PT_GNU_EH_FRAME)
            take_table(&headers[i], &image->frame_header);
        else if (headers[i].p_type == PT_DYNAMIC)
            take_table(&headers[i], &image->dynamic);
        else if (headers[i].p_type == PT_NOTE)
            take_notes(image, &headers[i]);
    }
    return 0;
}

static int read_headers(const struct elf_image *image, uint64_t start, Elf64_Ehdr *header,
                        Elf64_Phdr **ret, struct error *err)
{
    const struct elf_memory *reader = &image->reader;
    unsigned char ident[EI_NIDENT + 4]; /* the machine stands behind */
    memset(header, 0, sizeof(*header));
    if (reader->read(reader->ctx, start, ident, sizeof(ident)) < 0)
        return error_set(err, ERROR_INVALID, "this is no ELF file");
    memcpy(header, ident, sizeof(ident));
    if (reader->read(reader->ctx, start, header, sizeof(*header)) < 0 &&
        memcmp(ident, ELFMAG, SELFMAG) == 0 && header->e_machine == EM_X86_64)
        return error_set(err, ERROR_INVALID, "this ELF file is truncated within its header");
    if (check_header(header, err) < 0)
        return -1;
    size_t bytes = header->e_phnum * sizeof(Elf64_Phdr);
    autofree Elf64_Phdr *headers = xmalloc(bytes);
    if (header->e_phoff > ADDRESS_MAX ||
        reader->read(reader->ctx, start + header->e_phoff, headers, bytes) < 0)
        return error_set(err, ERROR_INVALID,
                         "this ELF file is truncated: its segments are not to be read");
    *ret = steal_ptr(&headers);
    return 0;
}

int elf_image_of_file(const struct elf_memory *reader, uint64_t file_bytes, struct elf_image *ret,
                      struct error *err)
{
    struct elf_image image = {
        .source = ELF_SOURCE_FILE, .reader = *reader, .file_bytes = file_bytes};
    Elf64_Ehdr header;
    autofree Elf64_Phdr *headers = NULL;
    if (read_headers(&image, 0, &header, &headers, err) < 0 ||
        take_headers(&image, headers, header.e_phnum, err) < 0)
        return -1;
    if (header.e_shentsize == sizeof(Elf64_Shdr)) {
        image.section_headers = header.e_shoff;
        image.section_count = header.e_shnum;
        image.section_names = header.e_shstrndx;
    }
    *ret = image;
    return 0;
}

int elf_image_of_memory(const struct elf_memory *reader, uint64_t start, struct elf_image *ret,
                        struct error *err)
{
    struct elf_image image = {.source = ELF_SOURCE_MEMORY, .reader = *reader};
    Elf64_Ehdr header;
    autofree Elf64_Phdr *headers = NULL;
    if (read_headers(&image, start, &header, &headers, err) < 0 || !headers)
        return -1;
    for (size_t i = 0; i < header.e_phnum; i++)
        if (headers[i].p_type == PT_LOAD && headers[i].p_offset == 0) {
            image.bias = start - headers[i].p_vaddr;
            if (take_headers(&image, headers, header.e_phnum, err) < 0)
                return -1;
            *ret = image;
            return 0;
        }
    return error_set(err, ERROR_INVALID, "what lies there is no part of its program");
}

int elf_image_of_code(const struct elf_memory *reader, uint64_t start, uint64_t size,
                      uint64_t entry, struct elf_image *ret, struct error *err)
{
    if (size == 0 || size > ADDRESS_MAX || start > ADDRESS_MAX)
        return error_set(err, ERROR_INVALID, "code of %llu bytes at 0x%llx is none",
                         (unsigned long long)size, (unsigned long long)start);
    *ret = (struct elf_image){
        .source = ELF_SOURCE_CODE, .reader = *reader, .entry = entry, .segment_count = 1};
    ret->segments[0] = (struct elf_segment){.address = start, .size = size, .executable = true};
    return 0;
}
