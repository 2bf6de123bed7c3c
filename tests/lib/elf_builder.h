/* SPDX-License-Identifier: Apache-2.0 */
/* elf_builder.h - small ELF files made by hand: code at one address, unwind information, symbols.
 */
#pragma once

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "error.h"

/* Where parts of the file lie; in memory all is BUILT_BASE higher. */
#define BUILT_BASE     0x400000ULL
#define BUILT_FRAMES   0x1000 /* index and entries of unwind information */
#define BUILT_SYMBOLS  0x2000
#define BUILT_SECTIONS 0x3000
#define BUILT_CODE     0x4000
#define BUILT_CODE_AT  (BUILT_BASE + BUILT_CODE)
#define BUILT_FDES_MAX 16

/* A block of instructions that the assembler makes: `NAME` and `NAME_end`. */
/* clang-format off */
#define ASSEMBLED(name, text)                                                  \
    extern const uint8_t name[], name##_end[];                                 \
    __asm__(".pushsection .rodata\n.globl " #name ", " #name "_end\n"          \
            #name ":\n" text "\n" #name "_end:\n.popsection\n")
/* clang-format on */
/* Branches of two bytes; without optimization clang makes all of them long. */
#define SHORT_JUMP(label)     " .byte 0xeb\n .byte " label " - . - 1\n"
#define SHORT_JE(label)       " .byte 0x74\n .byte " label " - . - 1\n"
#define SHORT_JNE(label)      " .byte 0x75\n .byte " label " - . - 1\n"
#define ASSEMBLED_BYTES(name) (size_t)(name##_end - name)

struct built_range { /* counted from the first byte of code */
    uint32_t start, end;
};

struct built_elf {
    uint8_t *bytes; /* owned */
    size_t size;
    struct built_range fdes[BUILT_FDES_MAX]; /* in rising order */
    uint32_t fde_count;
    Elf64_Sym symbols[16]; /* st_value counted from the first byte of code */
    unsigned symbol_count;
    struct built_range data_section; /* in the code; empty: none */
    const char *build_id;            /* of 20 bytes; NULL: none */
};

static inline void built_add_fde(struct built_elf *elf, uint32_t start, uint32_t end)
{
    elf->fdes[elf->fde_count++] = (struct built_range){start, end};
}

static inline void built_add_symbol(struct built_elf *elf, unsigned type, uint32_t start,
                                    uint32_t size)
{
    elf->symbols[elf->symbol_count++] = (Elf64_Sym){
        .st_info = ELF64_ST_INFO(STB_GLOBAL, type),
        .st_shndx = 1,
        .st_value = start,
        .st_size = size,
    };
}

static inline void built_put32(uint8_t *at, uint32_t value)
{
    memcpy(at, &value, sizeof(value));
}

/* One CIE ("zR", addresses relative to themselves, 4 bytes signed), FDEs of 16 + 4 bytes, the
 * index. */
static inline void built_frames(struct built_elf *elf)
{
    static const uint8_t cie[] = {20, 0,    0,  0, 0,    0, 0, 0, 1, 'z', 'R', 0,
                                  1,  0x78, 16, 1, 0x1b, 0, 0, 0, 0, 0,   0,   0};
    uint8_t *index = elf->bytes + BUILT_FRAMES, *frames = index + 0x800;
    memcpy(frames, cie, sizeof(cie));
    memcpy(index, (const uint8_t[]){1, 0x1b, 3, 0x3b}, 4);
    built_put32(index + 4, 0x800 - 4);
    built_put32(index + 8, elf->fde_count);
    for (uint32_t i = 0; i < elf->fde_count; i++) {
        uint32_t at = sizeof(cie) + i * 20; /* counted from `frames` */
        uint32_t start = BUILT_CODE + elf->fdes[i].start;
        built_put32(frames + at, 16);
        built_put32(frames + at + 4, at + 4);
        built_put32(frames + at + 8, start - (BUILT_FRAMES + 0x800 + at + 8));
        built_put32(frames + at + 12, elf->fdes[i].end - elf->fdes[i].start);
        built_put32(index + 12 + i * 8, start - BUILT_FRAMES);
        built_put32(index + 16 + i * 8, BUILT_FRAMES + 0x800 + at - BUILT_FRAMES);
    }
}

static inline void built_sections(struct built_elf *elf)
{
    Elf64_Shdr sections[3] = {{0}};
    for (unsigned i = 0; i < elf->symbol_count; i++)
        elf->symbols[i].st_value += BUILT_CODE_AT;
    memcpy(elf->bytes + BUILT_SYMBOLS, elf->symbols, elf->symbol_count * sizeof(Elf64_Sym));
    sections[1].sh_type = SHT_SYMTAB;
    sections[1].sh_offset = BUILT_SYMBOLS;
    sections[1].sh_size = elf->symbol_count * sizeof(Elf64_Sym);
    sections[2].sh_type = SHT_PROGBITS;
    sections[2].sh_flags = SHF_ALLOC;
    sections[2].sh_addr = BUILT_CODE_AT + elf->data_section.start;
    sections[2].sh_size = elf->data_section.end - elf->data_section.start;
    memcpy(elf->bytes + BUILT_SECTIONS, sections, sizeof(sections));
}

static inline Elf64_Phdr built_segment(uint32_t type, uint64_t offset, uint64_t size,
                                       uint32_t flags)
{
    return (Elf64_Phdr){.p_type = type,
                        .p_flags = flags,
                        .p_offset = offset,
                        .p_vaddr = BUILT_BASE + offset,
                        .p_filesz = size,
                        .p_memsz = size,
                        .p_align = 4};
}

static inline void built_headers(struct built_elf *elf, size_t code_bytes)
{
    const Elf64_Ehdr header = {
        .e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
        .e_type = ET_DYN,
        .e_machine = EM_X86_64,
        .e_version = EV_CURRENT,
        .e_phoff = sizeof(Elf64_Ehdr),
        .e_shoff = BUILT_SECTIONS,
        .e_ehsize = sizeof(Elf64_Ehdr),
        .e_phentsize = sizeof(Elf64_Phdr),
        .e_phnum = elf->build_id ? 4 : 3,
        .e_shentsize = sizeof(Elf64_Shdr),
        .e_shnum = 3,
    };
    const Elf64_Phdr segments[] = {
        built_segment(PT_LOAD, 0, BUILT_CODE, PF_R),
        built_segment(PT_LOAD, BUILT_CODE, code_bytes, PF_R | PF_X),
        built_segment(elf->fde_count ? PT_GNU_EH_FRAME : PT_NULL, BUILT_FRAMES,
                      12 + 8 * elf->fde_count, PF_R),
        built_segment(PT_NOTE, 0x200, 36, PF_R),
    };
    const Elf64_Nhdr note = {4, 20, NT_GNU_BUILD_ID};
    memcpy(elf->bytes, &header, sizeof(header));
    memcpy(elf->bytes + sizeof(header), segments, sizeof(segments));
    memcpy(elf->bytes + 0x200, &note, sizeof(note));
    memcpy(elf->bytes + 0x200 + sizeof(note), "GNU", 4);
    if (elf->build_id)
        memcpy(elf->bytes + 0x200 + sizeof(note) + 4, elf->build_id, 20);
}

/* Makes the file of what was added and this code; free `bytes`. */
static inline void built_finish(struct built_elf *elf, const void *code, size_t code_bytes)
{
    elf->size = BUILT_CODE + code_bytes;
    elf->bytes = xcalloc(elf->size, 1);
    memcpy(elf->bytes + BUILT_CODE, code, code_bytes);
    built_headers(elf, code_bytes);
    built_frames(elf);
    built_sections(elf);
}
