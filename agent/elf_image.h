/* SPDX-License-Identifier: Apache-2.0 */
/* elf_image.h - code as it lies in an ELF file, in the memory of a process, or alone: where it is,
 * what is executable, and its bytes.
 *
 * Nothing is mapped: bytes are read when they are needed, so a file that shrinks meanwhile gives an
 * error and no SIGBUS. Addresses are those of the file; in memory add the bias. Whoever wrote the
 * file may wish us ill, so everything is bounded and checked. */
#pragma once

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "elf_view.h"
#include "error.h"

#define ELF_IMAGE_SEGMENTS_MAX 64
#define ELF_IMAGE_HEADERS_MAX  1024 /* of a file; those that load nothing count too */
#define ELF_BUILD_ID_HEX_BYTES 129  /* 64 bytes in hex, and the NUL */

/* What is loaded together from one place of the file. */
struct elf_segment {
    uint64_t address, offset, size; /* of the bytes that are in the file */
    bool executable;
};

struct elf_table { /* size 0: there is none */
    uint64_t address, size;
};

enum elf_source {
    ELF_SOURCE_FILE,   /* positions are offsets into it; it may have section headers */
    ELF_SOURCE_MEMORY, /* positions are addresses in memory */
    ELF_SOURCE_CODE,   /* no ELF file: one executable segment, nothing known of it */
};

struct elf_image {
    enum elf_source source;
    struct elf_memory reader; /* takes positions */
    uint64_t file_bytes;      /* of a file */
    uint64_t bias;            /* of memory */
    uint64_t entry;           /* of code alone: an address where execution was seen; 0: none */
    struct elf_segment segments[ELF_IMAGE_SEGMENTS_MAX];
    size_t segment_count;
    struct elf_table frame_header; /* .eh_frame_hdr */
    struct elf_table dynamic;
    uint64_t section_headers; /* position of the table; 0: none */
    unsigned section_count;
    unsigned section_names;                /* index of the section that holds them */
    char build_id[ELF_BUILD_ID_HEX_BYTES]; /* "" for none; of Go's own, its digest */
};

/* `reader` takes offsets into a file of `file_bytes`; both it and what it points to must outlive
 * the image. Errors: ERROR_INVALID: no ELF file, a damaged or truncated one, or one that is not
 * loaded (an object file, a core); ERROR_REJECTED: one of another machine, i386 among them. */
int elf_image_of_file(const struct elf_memory *reader, uint64_t file_bytes, struct elf_image *ret,
                      struct error *err);
/* The file that a process has mapped at `start` (its first byte); `reader` takes addresses. */
int elf_image_of_memory(const struct elf_memory *reader, uint64_t start, struct elf_image *ret,
                        struct error *err);
/* Code without a file, such as a compiler in the process makes; `reader` takes addresses. `entry`
 * is where execution is known to have come (0: not known). */
int elf_image_of_code(const struct elf_memory *reader, uint64_t start, uint64_t size,
                      uint64_t entry, struct elf_image *ret, struct error *err);

/* The segment that holds that address, or NULL. */
const struct elf_segment *elf_image_segment(const struct elf_image *image, uint64_t address);
/* Bytes by their address; 0, or -1 when they are not all in one segment or cannot be read. */
int elf_image_read(const struct elf_image *image, uint64_t address, void *buffer, size_t length);
/* How many bytes are there from that address to the end of its segment. */
uint64_t elf_image_left(const struct elf_image *image, uint64_t address);
/* Bytes by their place in the file, for section headers; -1 where there is no file. */
int elf_image_read_file(const struct elf_image *image, uint64_t offset, void *buffer,
                        size_t length);
/* Where the address lies in the file; 0 in code alone. */
uint64_t elf_image_offset(const struct elf_image *image, uint64_t address);
/* Bytes of all executable segments. */
uint64_t elf_image_executable_bytes(const struct elf_image *image);

/* Readers for the two usual cases. `ctx` is an int * (an open descriptor), and a struct
 * elf_bytes *. */
struct elf_bytes {
    const uint8_t *bytes;
    uint64_t size, start; /* `start`: the position of the first byte */
};
int elf_read_descriptor(void *ctx, uint64_t position, void *buffer, size_t length);
int elf_read_bytes(void *ctx, uint64_t position, void *buffer, size_t length);
