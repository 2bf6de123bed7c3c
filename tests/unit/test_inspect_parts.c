/* SPDX-License-Identifier: Apache-2.0 */
/* test_inspect_parts.c - the decoders of `inspect` on made-up memory: registers, ELF files, notes,
 * glibc's record, the kernel's type information. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "btf.h"
#include "cleanup.h"
#include "cmocka_test.h"
#include "elf_notes.h"
#include "inspect_private.h"

/* ---- registers */

#define AREA_BYTES 4096

static struct xstate_layout some_layout(void)
{
    struct xstate_layout layout = {0};
    layout.components[2].offset_bytes = 576;
    layout.components[2].size_bytes = 256;
    layout.components[5].offset_bytes = 832;
    layout.components[5].size_bytes = 64;
    layout.components[9].offset_bytes = 2432;
    layout.components[9].size_bytes = 8;
    layout.components[18].offset_bytes = 3000;
    layout.components[18].size_bytes = 8192; /* beyond what is read here */
    return layout;
}

static void put64(unsigned char *area, size_t offset, uint64_t value)
{
    memcpy(area + offset, &value, sizeof(value));
}

static void only_contents_are_live(void **state)
{
    (void)state;
    const struct xstate_layout layout = some_layout();
    static const struct {
        size_t offset;
        uint64_t value, bv, live;
    } cases[] = {
        {0,    0,          0x3,     0x3    }, /* x87 and SSE as the CPU says */
        {0,    0,          0x27,    0x3    }, /* AVX and masks called in use, and all zeros */
        {576,  1,          0x27,    0x7    },
        {831,  0x80,       0x27,    0x27   }, /* the last byte of AVX, and the first ones of masks */
        {832,  1,          0x27,    0x23   },
        {895,  1,          0x27,    0x23   }, /* its last byte */
        {896,  1,          0x27,    0x3    }, /* behind it */
        {2432, 0x55555554, 0x203,   0x3    }, /* the keys that Linux gives everybody */
        {2432, 0x55555550, 0x203,   0x203  },
        {2432, 0,          0x203,   0x3    },
        {2432, 0x55555554, 0x3,     0x3    },
        {0,    0,          0x40003, 0x40003}, /* of what cannot be looked at nothing is said */
        {0,    0,          0x43,    0x43   }, /* nor of what has no place */
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        unsigned char area[AREA_BYTES] = {0};
        uint64_t bv = 0, live = 0, enabled = 0;
        put64(area, cases[i].offset, cases[i].value);
        put64(area, 512, cases[i].bv);
        put64(area, 464, 0x602e7);
        if (cases[i].offset == 831) /* stays within AVX */
            put64(area, 832, 1);
        assert_int_equal(xstate_read(area, sizeof(area), &layout, &bv, &live, &enabled), 0);
        assert_int_equal(bv, cases[i].bv);
        assert_int_equal(enabled, 0x602e7);
        if (live != cases[i].live)
            fail_msg("case %zu: live 0x%lx, expected 0x%lx", i, live, cases[i].live);
    }
}

static void short_areas_are_refused(void **state)
{
    (void)state;
    const struct xstate_layout layout = some_layout();
    unsigned char area[AREA_BYTES] = {0};
    uint64_t bv = 0, live = 0, enabled = 0;
    put64(area, 512, 0x4);
    assert_int_equal(xstate_read(area, 575, &layout, &bv, &live, &enabled), -1);
    assert_int_equal(xstate_read(area, 831, &layout, &bv, &live, &enabled), 0);
    assert_int_equal(live, 0x4); /* cut off: not known to be as new */
    assert_int_equal(xstate_read(area, 832, &layout, &bv, &live, &enabled), 0);
    assert_int_equal(live, 0);
}

static void amx_is_what_is_known_of_it(void **state)
{
    (void)state;
    const uint64_t tiles = UINT64_C(0x60000), none = 0x2e7, granted = tiles | none;
    assert_int_equal(xstate_amx(0, tiles | none, NULL), CPU_AMX_UNKNOWN);
    assert_int_equal(xstate_amx(0, 0, NULL), CPU_AMX_UNKNOWN); /* nothing could be read */
    assert_int_equal(xstate_amx(0, none, NULL), CPU_AMX_NO);
    assert_int_equal(xstate_amx(0, granted, &none), CPU_AMX_NO);
    assert_int_equal(xstate_amx(0, granted, &granted), CPU_AMX_GRANTED);
    assert_int_equal(xstate_amx(tiles, granted, NULL), CPU_AMX_GRANTED);
    assert_int_equal(xstate_amx(tiles, granted, &none), CPU_AMX_GRANTED);
    /* Without a permission tiles can be configured, but hold nothing. */
    assert_int_equal(xstate_amx(UINT64_C(1) << 17, granted, &none), CPU_AMX_NO);
}

static void the_layout_is_this_cpus(void **state)
{
    (void)state;
    struct xstate_layout layout;
    xstate_layout_here(&layout);
    if (!__builtin_cpu_supports("avx"))
        return;
    assert_int_equal(layout.components[2].offset_bytes, 576);
    assert_int_equal(layout.components[2].size_bytes, 256);
}

/* ---- glibc */

static void the_returned_address_is_decoded(void **state)
{
    (void)state;
    static const struct {
        unsigned char code[16];
        bool good;
        uint64_t address;
    } cases[] = {
  /* lea 0x1c3d9(%rip), %rax; ret -- Debian 12's */
        {{0x48, 0x8d, 0x05, 0xd9, 0xc3, 0x01, 0x00, 0xc3},                         true,  0x101c3e0},
 /* endbr64 before it */
        {{0xf3, 0x0f, 0x1e, 0xfa, 0x48, 0x8d, 0x05, 0x10, 0x00, 0x00, 0x00, 0xc3}, true,  0x100001b},
 /* backwards */
        {{0x48, 0x8d, 0x05, 0xf9, 0xff, 0xff, 0xff, 0xc3},                         true,  0x1000000},
 /* another register; no ret; something else */
        {{0x48, 0x8d, 0x0d, 0xd9, 0xc3, 0x01, 0x00, 0xc3},                         false, 0        },
        {{0x48, 0x8d, 0x05, 0xd9, 0xc3, 0x01, 0x00, 0x90},                         false, 0        },
        {{0x83, 0xff, 0x08, 0x77, 0x10, 0x48, 0x8d, 0x05},                         false, 0        },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint64_t address = 0;
        assert_int_equal(glibc_returned_address(cases[i].code, 16, 0x1000000, &address),
                         cases[i].good);
        assert_int_equal(address, cases[i].address);
        assert_false(glibc_returned_address(cases[i].code, 7, 0x1000000, &address));
    }
}

static void put32(unsigned char *table, size_t index, uint32_t value)
{
    memcpy(table + 4 * index, &value, sizeof(value));
}

/* Family 0x19, as an AMD of kind 2 with AVX2 and FMA, of which AVX2 is active. */
static void make_table(unsigned char table[GLIBC_TABLE_BYTES])
{
    memset(table, 0, GLIBC_TABLE_BYTES);
    put32(table, 0, 2);
    put32(table, 1, 0x10);
    put32(table, 2, 0x19);
    put32(table, 5, 0x00a10f11);         /* leaf 1 EAX: family 0xf + 0xa */
    put32(table, 7, 1 << 12);            /* leaf 1 ECX: FMA */
    put32(table, 8, 0x07000001);         /* leaf 1 EDX: FXSR, SSE, SSE2, FPU */
    put32(table, 12, 0x06000000);        /* the same, active: SSE, SSE2 */
    put32(table, 14, 1 << 5);            /* leaf 7 EBX: AVX2 */
    put32(table, 18, 1 << 5);            /* active */
    put32(table, 5 + 8 * 6 + 4, 1 << 4); /* leaf 7.1 EAX, active: AVX-VNNI */
}

static bool is_active(const uint32_t *active, enum cpu_feature_id id)
{
    return active[cpu_features[id].word] >> cpu_features[id].bit & 1;
}

static void glibcs_record_is_read(void **state)
{
    (void)state;
    unsigned char table[GLIBC_TABLE_BYTES];
    uint32_t active[CPU_WORD_COUNT];
    make_table(table);
    assert_int_equal(glibc_read_table(table, active), 0);
    assert_true(is_active(active, CPU_FEATURE_AVX2));
    assert_true(is_active(active, CPU_FEATURE_SSE2));
    assert_true(is_active(active, CPU_FEATURE_AVX_VNNI));
    assert_false(is_active(active, CPU_FEATURE_FMA)); /* there, and not active */
    assert_false(is_active(active, CPU_FEATURE_FXSR));
}

static void other_memory_is_no_record(void **state)
{
    (void)state;
    static const struct {
        size_t index;
        uint32_t value;
    } damages[] = {
        {0, 0         }, /* not initialised */
        {0, 17        },
        {1, 0         },
        {1, 1 << 20   },
        {2, 6         }, /* a family that the signature contradicts */
        {5, 0x306c3   },
        {8, 0x01000001}, /* no SSE2 */
    };
    unsigned char table[GLIBC_TABLE_BYTES];
    uint32_t active[CPU_WORD_COUNT];
    for (size_t i = 0; i < ARRAY_LEN(damages); i++) {
        make_table(table);
        put32(table, damages[i].index, damages[i].value);
        assert_int_equal(glibc_read_table(table, active), -1);
    }
    memset(table, 0xff, sizeof(table));
    assert_int_equal(glibc_read_table(table, active), -1);
}

static void versions_are_found(void **state)
{
    (void)state;
    static const struct {
        const char *text, *version;
    } cases[] = {
        {"ld.so (Debian GLIBC 2.36-9+deb12u14) stable release version 2.36.\n", "2.36"     },
        {"GNU C Library (GNU libc) development release version 2.39.9000.",     "2.39.9000"},
        {"release version ",                                                    NULL       },
        {"release version x",                                                   NULL       },
        {"release vers",                                                        NULL       },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        autofree char *version = glibc_version_in(cases[i].text, strlen(cases[i].text));
        if (cases[i].version)
            assert_string_equal(version, cases[i].version);
        else
            assert_null(version);
    }
    assert_true(glibc_owns("libm.so.6"));
    assert_false(glibc_owns("libm.so"));
    assert_false(glibc_owns("libgcc_s.so.1"));
}

/* ---- notes */

/* A note of properties: a pair of words each, eight bytes and padding. */
static size_t make_note(unsigned char *note, const uint32_t (*properties)[2], size_t count)
{
    const uint32_t head[] = {4, (uint32_t)(count * 16), 5};
    memcpy(note, head, sizeof(head));
    memcpy(note + 12, "GNU", 4);
    for (size_t i = 0; i < count; i++) {
        const uint32_t property[] = {properties[i][0], 4, properties[i][1], 0};
        memcpy(note + 16 + 16 * i, property, sizeof(property));
    }
    return 16 + 16 * count;
}

static void notes_are_read(void **state)
{
    (void)state;
    static const uint32_t properties[][2] = {
        {0xc0000002, 3   },
        {0xc0008002, 0x3 },
        {0xc0010001, 0x19},
        {0xc0010002, 0x5 },
        {0xc0000001, 9   }
    };
    unsigned char note[256];
    struct elf_marks marks;
    size_t length = make_note(note, properties, ARRAY_LEN(properties));
    elf_marks_parse(note, length, &marks);
    assert_true(marks.has_needed && marks.has_used && marks.has_registers && marks.has_protection);
    assert_int_equal(marks.protection, 3);
    assert_int_equal(marks.isa_needed, 3);
    assert_int_equal(marks.registers, 0x19);
    assert_int_equal(marks.isa_used, 5);
    /* A note of another kind before it. */
    unsigned char two[512] = {4, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 'G', 'N', 'U', 0, 'x', 'y', 'z'};
    memcpy(two + 24, note, length);
    elf_marks_parse(two, 24 + length, &marks);
    assert_int_equal(marks.isa_needed, 3);
}

/* Whatever the bytes are, nothing is read beyond them: the sanitizers watch, for each copy ends
 * where its memory does. */
static void broken_notes_say_nothing(void **state)
{
    (void)state;
    static const uint32_t properties[][2] = {
        {0xc0008002, 0x3},
        {0xc0010002, 0x5}
    };
    unsigned char note[64];
    struct elf_marks marks;
    size_t length = make_note(note, properties, ARRAY_LEN(properties));
    for (size_t cut = 0; cut < length; cut++) {
        autofree unsigned char *copy = xmalloc(cut ? cut : 1);
        memcpy(copy, note, cut);
        elf_marks_parse(copy, cut, &marks);
        assert_false(marks.has_used); /* the last of them */
    }
    for (size_t at = 0; at < length; at++)
        for (unsigned value = 0; value < 256; value += 51) {
            autofree unsigned char *copy = xmalloc(length);
            memcpy(copy, note, length);
            copy[at] = (unsigned char)value;
            elf_marks_parse(copy, length, &marks);
        }
    note[4] = 0xff; /* the description is longer than there is */
    elf_marks_parse(note, length, &marks);
    assert_false(marks.has_needed);
    make_note(note, properties, 2);
    note[20] = 0x40; /* a property is */
    elf_marks_parse(note, length, &marks);
    assert_false(marks.has_needed);
    assert_false(marks.has_used);
}

static void levels_are_those_of_the_highest_bit(void **state)
{
    (void)state;
    assert_int_equal(elf_marks_level(0), 0);
    assert_int_equal(elf_marks_level(1), 1);
    assert_int_equal(elf_marks_level(2), 2);
    assert_int_equal(elf_marks_level(5), 3);
    assert_int_equal(elf_marks_level(8), 4);
    assert_int_equal(elf_marks_level(0x10), 4); /* one that is not known is the worst */
}

/* ---- ELF files in memory */

struct memory {
    uint64_t start;
    const unsigned char *bytes;
    size_t length;
};

static int read_memory(void *ctx, uint64_t address, void *buffer, size_t length)
{
    const struct memory *m = ctx;
    if (address < m->start || address - m->start > m->length ||
        length > m->length - (size_t)(address - m->start))
        return -1;
    memcpy(buffer, m->bytes + (address - m->start), length);
    return 0;
}

static int read_own(void *ctx, uint64_t address, void *buffer, size_t length)
{
    (void)ctx;
    if (address < 4096)
        return -1;
    memcpy(buffer, (const void *)(uintptr_t)address, length);
    return 0;
}

/* The beginning of our own file: the vDSO is an ELF file that every process has in memory. */
static void a_mapped_file_is_understood(void **state)
{
    (void)state;
    const struct elf_memory memory = {read_own, NULL};
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512], name[64];
    uint64_t start = 0, address = 0;
    assert_non_null(maps);
    while (fgets(line, sizeof(line), maps))
        if (strstr(line, "[vdso]"))
            start = strtoull(line, NULL, 16);
    fclose(maps);
    if (!start)
        return; /* switched off by vdso=0 */
    struct elf_view view;
    assert_int_equal(elf_view_open(&memory, start, &view), 0);
    assert_int_equal(elf_view_soname(&view, name, sizeof(name)), 0);
    assert_string_equal(name, "linux-vdso.so.1");
    assert_int_equal(elf_view_soname(&view, name, 5), -1);
    assert_int_equal(elf_view_symbol(&view, "__vdso_clock_gettime", &address), 0);
    assert_true(address > start && address < start + 65536);
    assert_int_equal(elf_view_symbol(&view, "__vdso_no_such_thing", &address), -1);
    assert_int_equal(elf_view_symbol(&view, "", &address), -1);
}

static void broken_files_are_refused(void **state)
{
    (void)state;
    unsigned char file[1024] = {0};
    Elf64_Ehdr header = {
        .e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64},
        .e_machine = EM_X86_64,
        .e_phoff = 64,
        .e_phentsize = sizeof(Elf64_Phdr),
        .e_phnum = 2
    };
    Elf64_Phdr segments[2] = {
        {.p_type = PT_LOAD,    .p_vaddr = 0x1000, .p_filesz = 1024},
        {.p_type = PT_DYNAMIC, .p_vaddr = 0x1200, .p_memsz = 512  },
    };
    struct memory bytes = {0x7000, file, sizeof(file)};
    const struct elf_memory memory = {read_memory, &bytes};
    struct elf_view view;
    uint64_t address = 0;
    memcpy(file, &header, sizeof(header));
    memcpy(file + 64, segments, sizeof(segments));
    assert_int_equal(elf_view_open(&memory, 0x7000, &view), 0);
    assert_int_equal(view.bias, 0x6000);
    assert_int_equal(elf_view_symbol(&view, "x", &address), -1); /* an empty dynamic section */
    assert_int_equal(elf_view_open(&memory, 0x9000, &view), -1);

    /* A hash table whose buckets are beyond all memory, and one without a bucket. */
    Elf64_Dyn dynamic[] = {
        {DT_SYMTAB,   {0x1300}},
        {DT_STRTAB,   {0x1300}},
        {DT_STRSZ,    {64}    },
        {DT_GNU_HASH, {0x1380}}
    };
    uint32_t hash[] = {0xffffffff, 1, 0xffffffff, 0};
    memcpy(file + 0x200, dynamic, sizeof(dynamic));
    memcpy(file + 0x380, hash, sizeof(hash));
    assert_int_equal(elf_view_symbol(&view, "x", &address), -1);
    memset(file + 0x380, 0, 4);
    assert_int_equal(elf_view_symbol(&view, "x", &address), -1);

    static const size_t damages[] = {0, 4, 18, 54, 56, 57};
    for (size_t i = 0; i < ARRAY_LEN(damages); i++) {
        unsigned char before = file[damages[i]];
        file[damages[i]] ^= 0x40;
        if (damages[i] == 56) /* no segment */
            file[56] = 0;
        assert_int_equal(elf_view_open(&memory, 0x7000, &view), -1);
        file[damages[i]] = before;
    }
    segments[0].p_offset = 0x1000;
    memcpy(file + 64, segments, sizeof(segments));
    assert_int_equal(elf_view_open(&memory, 0x7000, &view), -1);
}

/* ---- the kernel's types */

static void write_file(const char *path, const void *bytes, size_t length)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    fclose(file);
}

/* struct s { int a; struct { int b; }; int c : 3; }; */
static const uint32_t types[] = {
    1,  1U << 24,
    4,  32, /* 1: int */
    0,  4U << 24 | 1,
    4,  5,
    1,  0, /* 2: struct { int b } */
    7,  1U << 31 | 4U << 24 | 3,
    12, 9,
    1,  0,
    0,  2,
    32, 11,
    1,  3U << 24 | 64, /* 3: s */
    7,  12U << 24,
    1, /* 4: function s */
};
static const char strings[] = "\0int\0b\0s\0a\0c";

static size_t make_btf(unsigned char *bytes)
{
    const struct {
        uint16_t magic;
        uint8_t version, flags;
        uint32_t header_length, type_offset, type_length, string_offset, string_length;
    } header = {0xeb9f, 1, 0, 24, 0, sizeof(types), sizeof(types), sizeof(strings)};
    memcpy(bytes, &header, sizeof(header));
    memcpy(bytes + 24, types, sizeof(types));
    memcpy(bytes + 24 + sizeof(types), strings, sizeof(strings));
    return 24 + sizeof(types) + sizeof(strings);
}

static void types_are_found(void **state)
{
    (void)state;
    char path[] = "/tmp/test-btf-XXXXXX";
    unsigned char bytes[512];
    AUTO(btf) btf = NULL;
    struct error err = {0};
    uint32_t offset = 99, type = 0;
    close(mkstemp(path));
    size_t length = make_btf(bytes);
    write_file(path, bytes, length);
    if (btf_new(path, &btf, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(btf_find(btf, BTF_STRUCT, "s"), 3);
    assert_int_equal(btf_find(btf, BTF_FUNCTION, "s"), 4);
    assert_int_equal(btf_find(btf, BTF_STRUCT, "int"), 0);
    assert_int_equal(btf_struct_bytes(btf, 3), 12);
    assert_true(btf_member(btf, 3, "a", &offset, &type));
    assert_int_equal(offset, 0);
    assert_int_equal(type, 1);
    assert_true(btf_member(btf, 3, "b", &offset, NULL)); /* in the nameless one */
    assert_int_equal(offset, 4);
    assert_false(btf_member(btf, 3, "c", &offset, NULL)); /* a bit-field */
    assert_false(btf_member(btf, 3, "d", &offset, NULL));
    assert_false(btf_member(btf, 77, "a", &offset, NULL));
    unlink(path);
}

static void broken_types_are_refused(void **state)
{
    (void)state;
    char path[] = "/tmp/test-btf-XXXXXX";
    unsigned char bytes[512];
    struct btf *btf = NULL;
    struct error err = {0};
    close(mkstemp(path));
    size_t length = make_btf(bytes);
    for (size_t cut = 0; cut < length; cut += 3) {
        write_file(path, bytes, cut);
        assert_int_equal(btf_new(path, &btf, &err), -1);
        assert_int_equal(err.kind, ERROR_FAILED);
    }
    for (size_t at = 0; at < length; at++) { /* read or refused, but never beyond the bytes */
        unsigned char damaged[512];
        uint32_t offset = 0;
        memcpy(damaged, bytes, length);
        damaged[at] ^= 0x81;
        write_file(path, damaged, length);
        if (btf_new(path, &btf, NULL) == 0) {
            btf_member(btf, btf_find(btf, BTF_STRUCT, "s"), "b", &offset, NULL);
            btf_free(btf);
        }
    }
    unlink(path);
    assert_int_equal(btf_new(path, &btf, &err), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_contents_are_live),
        cmocka_unit_test(short_areas_are_refused),
        cmocka_unit_test(amx_is_what_is_known_of_it),
        cmocka_unit_test(the_layout_is_this_cpus),
        cmocka_unit_test(the_returned_address_is_decoded),
        cmocka_unit_test(glibcs_record_is_read),
        cmocka_unit_test(other_memory_is_no_record),
        cmocka_unit_test(versions_are_found),
        cmocka_unit_test(notes_are_read),
        cmocka_unit_test(broken_notes_say_nothing),
        cmocka_unit_test(levels_are_those_of_the_highest_bit),
        cmocka_unit_test(a_mapped_file_is_understood),
        cmocka_unit_test(broken_files_are_refused),
        cmocka_unit_test(types_are_found),
        cmocka_unit_test(broken_types_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
