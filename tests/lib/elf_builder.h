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
#define BUILT_GO       0x3800 /* Go's table of functions */
#define BUILT_MODULE   0x3c00 /* Go's record of the module */
#define BUILT_NAMES    0x3f00 /* of sections */
#define BUILT_CODE     0x4000
#define BUILT_CODE_AT  (BUILT_BASE + BUILT_CODE)
#define BUILT_FDES_MAX 16

#define BUILT_SECTION_COUNT 6

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
    /* Starts of Go functions in rising order, and behind them the last one's end. */
    uint32_t go_numbers[8];
    unsigned go_count; /* of functions; 0: none */
    uint32_t go_magic; /* 0: that of Go 1.20 */
    bool go_module;    /* it tells what starts count from, and not the table */
    bool no_sections;
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
    static const char names[] = "\0.gopclntab\0.go.module";
    Elf64_Shdr sections[BUILT_SECTION_COUNT] = {{0}};
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
    memcpy(elf->bytes + BUILT_NAMES, names, sizeof(names));
    sections[3].sh_type = SHT_STRTAB;
    sections[3].sh_offset = BUILT_NAMES;
    sections[3].sh_size = sizeof(names);
    for (unsigned i = 4; i < 6 && elf->go_count; i++) {
        sections[i].sh_name = i == 4 ? 1 : 12;
        sections[i].sh_type = SHT_PROGBITS;
        sections[i].sh_flags = SHF_ALLOC;
        sections[i].sh_addr = BUILT_BASE + (i == 4 ? BUILT_GO : BUILT_MODULE);
        sections[i].sh_size = 256;
    }
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
        .e_shoff = elf->no_sections ? 0 : BUILT_SECTIONS,
        .e_ehsize = sizeof(Elf64_Ehdr),
        .e_phentsize = sizeof(Elf64_Phdr),
        .e_phnum = elf->build_id ? 4 : 3,
        .e_shentsize = sizeof(Elf64_Shdr),
        .e_shnum = BUILT_SECTION_COUNT,
        .e_shstrndx = 3,
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

static inline void built_put(uint8_t *at, uint64_t value, unsigned bytes)
{
    memcpy(at, &value, bytes);
}

static inline void built_go_module(struct built_elf *elf, uint64_t entries)
{
    uint8_t *module = elf->bytes + BUILT_MODULE;
    built_put(module, BUILT_BASE + BUILT_GO, 8);
    built_put(module + 16 * 8UL, BUILT_BASE + BUILT_GO + entries, 8);
    built_put(module + 17 * 8UL, elf->go_count + 1, 8);
    built_put(module + 20 * 8UL, BUILT_CODE_AT + elf->go_numbers[0], 8);
    built_put(module + 21 * 8UL, BUILT_CODE_AT + elf->go_numbers[elf->go_count], 8);
    built_put(module + 22 * 8UL, BUILT_CODE_AT, 8);
}

/* The header, the entries behind it, and 256 bytes further a record of 16 bytes for each. */
static inline void built_go(struct built_elf *elf)
{
    uint8_t *table = elf->bytes + BUILT_GO;
    uint32_t magic = elf->go_magic ? elf->go_magic : 0xfffffff1U;
    bool old = magic == 0xfffffffaU;
    unsigned bytes = old ? 8 : 4, entries = old ? 64 : 72;
    uint64_t text = BUILT_CODE_AT;
    if (!elf->go_count)
        return;
    built_put32(table, magic);
    memcpy(table + 4, (const uint8_t[]){0, 0, 1, 8}, 4);
    built_put(table + 8, elf->go_count, 8);
    built_put(table + 24, text, old || elf->go_module ? 0 : 8);
    if (elf->go_module)
        built_go_module(elf, entries);
    built_put(table + entries - 8, entries, 8);
    for (unsigned i = 0; i <= elf->go_count; i++) {
        uint64_t start = elf->go_numbers[i] + (old ? text : 0), record = 256 + 16 * i;
        built_put(table + entries + (size_t)2 * i * bytes, start, bytes);
        if (i == elf->go_count)
            break;
        built_put(table + entries + (size_t)(2 * i + 1) * bytes, record, bytes);
        built_put(table + entries + record, start, bytes);
    }
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
    built_go(elf);
}
