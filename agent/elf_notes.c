/* SPDX-License-Identifier: Apache-2.0 */
/* elf_notes.c - the x86 properties in an ELF file's notes. */
#include "elf_notes.h"

#include <string.h>

#include "cleanup.h"
#include "error.h"

#define NOTES_MAX_BYTES 65536
#define NOTE_ALIGN      8U /* of notes with properties in 64-bit files */

/* x86-64 psABI, "x86 program properties" */
#define PROPERTY_FEATURE_1_AND  0xc0000002U
#define PROPERTY_ISA_1_NEEDED   0xc0008002U
#define PROPERTY_FEATURE_2_USED 0xc0010001U
#define PROPERTY_ISA_1_USED     0xc0010002U

#ifndef PT_GNU_PROPERTY
#define PT_GNU_PROPERTY 0x6474e553
#endif

static uint32_t word_at(const unsigned char *bytes)
{
    uint32_t word;
    memcpy(&word, bytes, sizeof(word));
    return word;
}

static size_t aligned(size_t n)
{
    return (n + NOTE_ALIGN - 1) & ~(size_t)(NOTE_ALIGN - 1);
}

static void take_property(uint32_t type, uint32_t value, struct elf_marks *ret)
{
    switch (type) {
    case PROPERTY_ISA_1_NEEDED:
        ret->has_needed = true;
        ret->isa_needed |= value;
        break;
    case PROPERTY_ISA_1_USED:
        ret->has_used = true;
        ret->isa_used |= value;
        break;
    case PROPERTY_FEATURE_2_USED:
        ret->has_registers = true;
        ret->registers |= value;
        break;
    case PROPERTY_FEATURE_1_AND:
        ret->has_protection = true;
        ret->protection = value;
        break;
    default:
        break;
    }
}

/* 0, or -1 when the properties run over their note. */
static int take_properties(const unsigned char *bytes, size_t length, struct elf_marks *ret)
{
    while (length >= 8) {
        uint32_t type = word_at(bytes), size = word_at(bytes + 4);
        if (size > length - 8)
            return -1;
        if (size == 4)
            take_property(type, word_at(bytes + 8), ret);
        size_t step = aligned(8 + (size_t)size);
        if (step >= length)
            return 0;
        bytes += step;
        length -= step;
    }
    return length ? -1 : 0;
}

void elf_marks_parse(const unsigned char *notes, size_t length, struct elf_marks *ret)
{
    static const struct elf_marks none;
    *ret = none;
    while (length >= sizeof(Elf64_Nhdr)) {
        uint32_t name_size = word_at(notes), size = word_at(notes + 4), type = word_at(notes + 8);
        if (name_size > length || size > length)
            break;
        size_t start = aligned(sizeof(Elf64_Nhdr) + name_size), step = aligned(start + size);
        if (start + size > length)
            break;
        if (type == NT_GNU_PROPERTY_TYPE_0 && name_size == 4 &&
            memcmp(notes + sizeof(Elf64_Nhdr), "GNU", 4) == 0 &&
            take_properties(notes + start, size, ret) < 0) {
            *ret = none;
            return;
        }
        if (step >= length)
            break;
        notes += step;
        length -= step;
    }
}

static bool is_note(const struct elf_view *view, const Elf64_Phdr *segment)
{
    /* Files of older linkers have the note, but no segment of its own for it. */
    return elf_view_segment(view, PT_GNU_PROPERTY)
               ? segment->p_type == PT_GNU_PROPERTY
               : segment->p_type == PT_NOTE && segment->p_align == NOTE_ALIGN;
}

void elf_marks_read(const struct elf_view *view, struct elf_marks *ret)
{
    *ret = (struct elf_marks){0};
    for (size_t i = 0; i < view->segment_count; i++) {
        const Elf64_Phdr *segment = &view->segments[i];
        if (!is_note(view, segment) || segment->p_filesz == 0 ||
            segment->p_filesz > NOTES_MAX_BYTES)
            continue;
        autofree unsigned char *notes = xmalloc(segment->p_filesz);
        if (view->memory.read(view->memory.ctx, view->bias + segment->p_vaddr, notes,
                              segment->p_filesz) == 0)
            elf_marks_parse(notes, segment->p_filesz, ret);
        return;
    }
}

unsigned elf_marks_level(uint32_t isa_bits)
{
    if (!isa_bits)
        return 0;
    unsigned level = 32 - (unsigned)__builtin_clz(isa_bits);
    return level > 4 ? 4 : level;
}
