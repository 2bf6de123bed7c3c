/* SPDX-License-Identifier: Apache-2.0 */
/* test_mask_sites.c - finding CPUID in code made for it: data in between, jump tables, prefixes,
 * ends of functions, files that are damaged or of another machine. */
#include <stdio.h>
#include <string.h>

#include "cmocka_test.h"
#include "elf_builder.h"
#include "mask_sites.h"

/* ---- finding */

static struct mask_sites *find_in(const struct built_elf *elf)
{
    struct elf_bytes bytes = {elf->bytes, elf->size, 0};
    const struct elf_memory reader = {elf_read_bytes, &bytes};
    struct elf_image image;
    struct mask_sites *sites = NULL;
    struct error err = {0};
    if (elf_image_of_file(&reader, elf->size, &image, &err) < 0 ||
        mask_sites_find(&image, &sites, &err) < 0)
        fail_msg("%s", err.message);
    return sites;
}

/* One function that unwind information describes, with nothing around it. */
static struct mask_sites *find_in_function(const uint8_t *code, size_t size)
{
    struct built_elf elf = {0};
    built_add_fde(&elf, 0, (uint32_t)size);
    built_finish(&elf, code, size);
    struct mask_sites *sites = find_in(&elf);
    free(elf.bytes);
    return sites;
}
#define FIND_IN_FUNCTION(name) find_in_function(name, ASSEMBLED_BYTES(name))

static void assert_one_site(const struct mask_sites *sites, uint32_t at, enum mask_proof proof)
{
    if (sites->rest_count)
        fail_msg("left over at 0x%lx: %s", sites->rest[0].address,
                 mask_doubt_name(sites->rest[0].doubt));
    assert_int_equal(sites->count, 1);
    assert_int_equal(sites->sites[0].address, BUILT_CODE_AT + at);
    assert_int_equal(sites->sites[0].offset, BUILT_CODE + at);
    assert_string_equal(mask_proof_name(sites->sites[0].proof), mask_proof_name(proof));
}

static void assert_one_doubt(const struct mask_sites *sites, uint32_t at, enum mask_doubt doubt)
{
    assert_int_equal(sites->count, 0);
    assert_int_equal(sites->rest_count, 1);
    assert_int_equal(sites->rest[0].address, BUILT_CODE_AT + at);
    assert_string_equal(mask_doubt_name(sites->rest[0].doubt), mask_doubt_name(doubt));
    assert_int_equal(sites->doubts[doubt], 1);
    assert_int_equal(mask_sites_doubtful(sites), !mask_doubt_is_harmless(doubt));
}

ASSEMBLED(plain, "push %rbx\n mov $7, %eax\n xor %ecx, %ecx\n cpuid\n"
                 "mov %ebx, 0x1000(%rip)\n pop %rbx\n ret");

static void a_plain_function_is_read(void **state)
{
    (void)state;
    AUTO(mask_sites) sites = FIND_IN_FUNCTION(plain);
    struct mask_instruction window[MASK_WINDOW_INSTRUCTIONS_MAX];
    size_t self = 0;
    assert_one_site(sites, 8, MASK_PROOF_FDE);
    const struct mask_site *s = &sites->sites[0];
    assert_int_equal(s->length, 2);
    assert_int_equal(s->function_start, BUILT_CODE_AT);
    assert_int_equal(s->function_end, BUILT_CODE_AT + ASSEMBLED_BYTES(plain));
    assert_false(s->unknown_targets);
    assert_int_equal(s->bytes_at, -8);
    assert_memory_equal(s->bytes, plain, s->byte_count);
    assert_int_equal(mask_site_window(s, window, &self), 7);
    assert_int_equal(self, 3);
    assert_int_equal(window[0].at, -8);
    assert_true(window[3].in.is_cpuid);
    /* the store: 89 1d disp32 */
    assert_int_equal(window[4].at, 2);
    assert_int_equal(window[4].in.length, 6);
    assert_int_equal(window[4].in.relative_at, 2);
    assert_int_equal(window[4].in.relative_size, 4);
    assert_int_equal(window[4].in.relative, s->address + 8 + 0x1000);
    assert_int_equal(window[6].in.flow, INSTRUCTION_STOP);
    for (size_t i = 0; i < 7; i++)
        assert_false(window[i].is_target || window[i].is_split);
}

ASSEMBLED(immediate, "mov $0xa20f0001, %eax\n ret");
ASSEMBLED(displacement,
          "lea 0xa20f(%rip), %rax\n test %eax, %eax\n" SHORT_JE("1f") " mov %eax, %ebx\n1: ret");

static void parts_of_other_instructions_are_harmless(void **state)
{
    (void)state;
    AUTO(mask_sites) a = FIND_IN_FUNCTION(immediate);
    AUTO(mask_sites) b = FIND_IN_FUNCTION(displacement);
    assert_one_doubt(a, 3, MASK_DOUBT_INSIDE);
    assert_one_doubt(b, 3, MASK_DOUBT_INSIDE);
}

/* ---- data between instructions */

ASSEMBLED(island, "mov $1, %eax\n" SHORT_JUMP("1f") " .byte 0x0f, 0xa2\n1: mov %ebx, (%rdi)\n ret");
/* b8 takes the CPUID for a part of its number */
ASSEMBLED(out_of_step,
          "mov $1, %eax\n" SHORT_JUMP("1f") " .byte 0xb8\n1: cpuid\n mov %ebx, (%rdi)\n ret");
/* 06 is no instruction, so reading on ends there, and following comes by behind it */
ASSEMBLED(behind_data,
          SHORT_JUMP("1f") " .byte 0x06, 0x0f, 0xa2, 0x06\n1: mov $1, %eax\n cpuid\n ret");
/* read on: cmp $0xb8, %al; cpuid. Followed: mov $0xa20f, %eax */
ASSEMBLED(other_way, ".byte 0xeb, 1, 0x3c, 0xb8, 0x0f, 0xa2, 0, 0\n ret");
ASSEMBLED(called_over, "call 1f\n .byte 0x0f, 0xa2\n1: pop %rsi\n mov (%rsi), %eax\n ret");

static void data_is_no_site(void **state)
{
    (void)state;
    /* It looks like a use in every way but one: nothing leads there. */
    AUTO(mask_sites) looks_used = FIND_IN_FUNCTION(island);
    AUTO(mask_sites) contradicted = FIND_IN_FUNCTION(out_of_step);
    AUTO(mask_sites) mixed = FIND_IN_FUNCTION(behind_data);
    AUTO(mask_sites) stepped = FIND_IN_FUNCTION(called_over);
    assert_one_doubt(looks_used, 7, MASK_DOUBT_NOT_REACHED);
    assert_one_doubt(contradicted, 8, MASK_DOUBT_CONTRADICTED);
    AUTO(mask_sites) inside = FIND_IN_FUNCTION(other_way);
    assert_one_doubt(inside, 4, MASK_DOUBT_CONTRADICTED);
    assert_one_doubt(stepped, 5, MASK_DOUBT_NOT_REACHED);
    assert_int_equal(mixed->count, 1);
    assert_int_equal(mixed->sites[0].address, BUILT_CODE_AT + 11);
    assert_int_equal(mixed->rest_count, 1);
    assert_int_equal(mixed->rest[0].doubt, MASK_DOUBT_UNREADABLE);
}

/* What only a landing pad leads to: read on, and used as CPUID is. */
ASSEMBLED(landing_pad, "call .+1000\n ret\n mov $1, %eax\n cpuid\n mov %edx, (%rdi)\n ret");
/* not all of it decodes, so reading on proves nothing */
ASSEMBLED(landing_pad_data,
          "call .+1000\n ret\n mov $1, %eax\n cpuid\n mov %edx, (%rdi)\n ret\n .byte 6");
ASSEMBLED(no_use, "call .+1000\n ret\n mov $1, %eax\n cpuid\n mov %esi, (%rdi)\n ret");
ASSEMBLED(no_leaf, "call .+1000\n ret\n mov $1, %esi\n cpuid\n mov %edx, (%rdi)\n ret");

static void what_exceptions_lead_to_is_read_on(void **state)
{
    (void)state;
    AUTO(mask_sites) used = FIND_IN_FUNCTION(landing_pad);
    AUTO(mask_sites) with_data = FIND_IN_FUNCTION(landing_pad_data);
    assert_one_doubt(with_data, 11, MASK_DOUBT_NOT_REACHED);
    AUTO(mask_sites) unused = FIND_IN_FUNCTION(no_use);
    AUTO(mask_sites) leafless = FIND_IN_FUNCTION(no_leaf);
    assert_one_site(used, 11, MASK_PROOF_FDE);
    assert_one_doubt(unused, 11, MASK_DOUBT_NOT_REACHED);
    assert_one_doubt(leafless, 11, MASK_DOUBT_NOT_REACHED);
}

/* ---- branches */

/* Two tables, one behind the other: the first ends where the second begins. */
ASSEMBLED(tables, "lea 8f(%rip), %rdx\n movslq (%rdx,%rdi,4), %rax\n add %rdx, %rax\n jmp *%rax\n"
                  "1: mov $1, %eax\n cpuid\n"
                  "3: mov %ebx, (%rsi)\n test %eax, %eax\n mov %ecx, %edx\n"
                  "2: lea 9f(%rip), %rdx\n ret\n"
                  "8: .long 1b-8b, 3b-8b\n"
                  /* read with the first, these would lead to the CPUID; the last leads nowhere */
                  "9: .long 2b-9b, 2b-9b, 1b+1-9b");
ASSEMBLED(computed, "mov $1, %eax\n cpuid\n mov %ebx, (%rsi)\n jmp *%rdi");
ASSEMBLED(looped, "1: mov $4, %eax\n cpuid\n2: and $31, %eax\n" SHORT_JNE("2b") SHORT_JUMP("1b"));

static void branch_targets_are_told(void **state)
{
    (void)state;
    struct mask_instruction window[MASK_WINDOW_INSTRUCTIONS_MAX];
    size_t self = 0, count, code = ASSEMBLED_BYTES(tables) - 20;
    struct built_elf elf = {0};
    built_add_fde(&elf, 0, (uint32_t)code);
    built_finish(&elf, tables, ASSEMBLED_BYTES(tables));
    AUTO(mask_sites) sites = find_in(&elf);
    free(elf.bytes);
    assert_one_site(sites, 21, MASK_PROOF_FDE);
    assert_false(sites->sites[0].unknown_targets);
    count = mask_site_window(&sites->sites[0], window, &self);
    assert_true(count > self + 3);
    assert_true(window[self - 1].is_target); /* 1 */
    assert_false(window[self].is_target);    /* the CPUID */
    assert_true(window[self + 1].is_target); /* 3 */
    assert_false(window[self + 2].is_target);
    assert_true(window[self + 4].is_target); /* 2 */
    for (size_t i = 0; i < count; i++)
        assert_false(window[i].is_split);
    AUTO(mask_sites) unknown = FIND_IN_FUNCTION(computed);
    assert_true(unknown->sites[0].unknown_targets);

    AUTO(mask_sites) loop = FIND_IN_FUNCTION(looped);
    count = mask_site_window(&loop->sites[0], window, &self);
    assert_int_equal(count, 5);
    assert_true(window[0].is_target && !window[1].is_target && window[2].is_target);
    assert_int_equal(window[3].in.flow, INSTRUCTION_BRANCH);
    assert_int_equal(window[4].in.flow, INSTRUCTION_JUMP);
}

/* The part that is rarely used lies elsewhere, with an FDE of its own, and comes back. */
ASSEMBLED(parts,
          "mov $1, %eax\n cpuid\n1: mov %ebx, (%rdi)\n ret\n .fill 300, 1, 0x90\n"
          "2: xor %ebx, %ebx\n .byte 0xe9\n .long 1b - . - 4\n .byte 0xe9\n .long 1b - . - 3");

static void branches_from_elsewhere_are_told(void **state)
{
    (void)state;
    struct mask_instruction window[MASK_WINDOW_INSTRUCTIONS_MAX];
    struct built_elf elf = {0};
    size_t self = 0;
    built_add_fde(&elf, 0, 10);
    built_add_fde(&elf, 310, (uint32_t)ASSEMBLED_BYTES(parts));
    built_finish(&elf, parts, ASSEMBLED_BYTES(parts));
    AUTO(mask_sites) sites = find_in(&elf);
    free(elf.bytes);
    assert_one_site(sites, 5, MASK_PROOF_FDE);
    assert_int_equal(mask_site_window(&sites->sites[0], window, &self), 4);
    assert_true(window[2].is_target);
    assert_true(window[2].is_split); /* the second jump leads into its middle */
    assert_false(window[1].is_target || window[1].is_split || window[3].is_target);
}

/* ---- prefixes and ends */

ASSEMBLED(prefixed, "mov $1, %eax\n .byte 0x48, 0x0f, 0xa2\n mov %ebx, (%rdi)\n ret");
ASSEMBLED(into_prefixed,
          "mov $1, %eax\n test %edi, %edi\n" SHORT_JE("1f") " .byte 0x48\n1: .byte 0x0f, 0xa2\n"
                                                            "mov %ebx, (%rdi)\n ret");
ASSEMBLED(locked, "mov $1, %eax\n .byte 0xf0, 0x0f, 0xa2\n mov %ebx, (%rdi)\n ret");

static void prefixes_belong_to_the_instruction(void **state)
{
    (void)state;
    struct mask_instruction window[MASK_WINDOW_INSTRUCTIONS_MAX];
    size_t self = 0;
    AUTO(mask_sites) sites = FIND_IN_FUNCTION(prefixed);
    assert_one_site(sites, 5, MASK_PROOF_FDE);
    assert_int_equal(sites->sites[0].length, 3);
    assert_int_equal(mask_site_window(&sites->sites[0], window, &self), 4);
    assert_int_equal(window[self].in.length, 3);
    /* Two instructions in one: neither may be written over. */
    AUTO(mask_sites) both = FIND_IN_FUNCTION(into_prefixed);
    assert_one_doubt(both, 10, MASK_DOUBT_CONTRADICTED);
    AUTO(mask_sites) invalid = FIND_IN_FUNCTION(locked); /* raises SIGILL */
    assert_int_equal(invalid->count, 0);
    assert_int_equal(mask_sites_doubtful(invalid), 1);
}

ASSEMBLED(at_end, "mov $1, %eax\n cpuid");
ASSEMBLED(across_end, "mov $1, %eax\n ret\n .byte 0x0f\n .byte 0xa2, 0, 0, 0, 0, 0, 0, 0, 0");

static void ends_of_functions_are_kept(void **state)
{
    (void)state;
    struct mask_instruction window[MASK_WINDOW_INSTRUCTIONS_MAX];
    size_t self = 0;
    AUTO(mask_sites) sites = FIND_IN_FUNCTION(at_end);
    assert_one_site(sites, 5, MASK_PROOF_FDE);
    assert_int_equal(mask_site_window(&sites->sites[0], window, &self), 2);
    assert_int_equal(self, 1);
    struct built_elf elf = {0};
    built_add_fde(&elf, 0, 7);
    built_finish(&elf, across_end, ASSEMBLED_BYTES(across_end));
    AUTO(mask_sites) across = find_in(&elf);
    free(elf.bytes);
    assert_one_doubt(across, 6, MASK_DOUBT_CUT);
}

static void long_functions_are_not_read(void **state)
{
    (void)state;
    size_t size = (4U << 20) + 16;
    uint8_t *code = xmalloc(size);
    memset(code, 0x90, size);
    memcpy(code, plain, ASSEMBLED_BYTES(plain));
    AUTO(mask_sites) sites = find_in_function(code, size);
    assert_one_doubt(sites, 8, MASK_DOUBT_TOO_LONG);
    AUTO(mask_sites) fits = find_in_function(code, 4U << 20);
    assert_int_equal(fits->count, 1);
    free(code);
}

static void too_many_candidates_are_refused(void **state)
{
    (void)state;
    size_t size = 2 * (MASK_CANDIDATES_MAX + 1);
    struct built_elf elf = {0};
    struct elf_image image;
    struct mask_sites *sites = NULL;
    struct error err = {0};
    uint8_t *code = xmalloc(size);
    for (size_t i = 0; i < size; i += 2)
        memcpy(code + i, "\x0f\xa2", 2);
    built_finish(&elf, code, size);
    struct elf_bytes bytes = {elf.bytes, elf.size, 0};
    const struct elf_memory reader = {elf_read_bytes, &bytes};
    assert_int_equal(elf_image_of_file(&reader, elf.size, &image, &err), 0);
    assert_int_equal(mask_sites_find(&image, &sites, &err), -1);
    assert_int_equal(err.kind, ERROR_TOO_LARGE);
    image.segments[1].size -= 2;
    assert_int_equal(mask_sites_find(&image, &sites, &err), 0);
    mask_sites_free(sites);
    free(elf.bytes);
    free(code);
}

/* ---- symbols */

struct symbol_case {
    const char *what;
    unsigned type;
    uint32_t start, size, next; /* next: where another function begins; 0: nowhere */
    bool is_site;
    enum mask_doubt doubt;
};

static void symbols_tell_functions(void **state)
{
    (void)state;
    static const struct symbol_case cases[] = {
        {"with its size",                STT_FUNC,      0, 18, 0,  true,  0                },
        {"an indirect one",              STT_GNU_IFUNC, 0, 18, 0,  true,  0                },
        {"without size",                 STT_FUNC,      0, 0,  0,  true,  0                },
        {"without size, up to the next", STT_FUNC,      0, 0,  10, true,  0                },
        {"ends before",                  STT_FUNC,      0, 5,  0,  true,  0                }, /* a part of it lies behind, and is reached */
        {"the next is in the way",       STT_FUNC,      0, 0,  9,  false, MASK_DOUBT_CUT   },
        {"data",                         STT_OBJECT,    0, 18, 0,  false, MASK_DOUBT_OBJECT},
        {"a label",                      STT_NOTYPE,    0, 18, 0,  false, MASK_DOUBT_CUT   },
        {"begins behind",                STT_FUNC,      9, 9,  0,  false, MASK_DOUBT_CUT   },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct built_elf elf = {0};
        built_add_symbol(&elf, cases[i].type, cases[i].start, cases[i].size);
        if (cases[i].next)
            built_add_symbol(&elf, STT_FUNC, cases[i].next, 4);
        built_finish(&elf, plain, ASSEMBLED_BYTES(plain));
        AUTO(mask_sites) sites = find_in(&elf);
        free(elf.bytes);
        if (sites->count != cases[i].is_site)
            fail_msg("%s: %zu sites", cases[i].what, sites->count);
        if (cases[i].is_site)
            assert_one_site(sites, 8, MASK_PROOF_SYMBOL);
        else
            assert_one_doubt(sites, 8, cases[i].doubt);
    }
}

/* Behind a function whose symbol has no size lies a table; only what branches lead to counts. */
ASSEMBLED(table_behind, "mov $1, %eax\n cpuid\n mov %ebx, (%rdi)\n ret\n"
                        "mov $1, %eax\n cpuid\n mov %ebx, (%rdi)\n ret");

static void data_behind_a_function_is_no_site(void **state)
{
    (void)state;
    struct built_elf elf = {0};
    built_add_symbol(&elf, STT_FUNC, 0, 0);
    built_finish(&elf, table_behind, ASSEMBLED_BYTES(table_behind));
    AUTO(mask_sites) sites = find_in(&elf);
    free(elf.bytes);
    assert_int_equal(sites->count, 1);
    assert_int_equal(sites->sites[0].address, BUILT_CODE_AT + 5);
    assert_int_equal(sites->rest_count, 1);
    assert_false(mask_doubt_is_harmless(sites->rest[0].doubt));

    /* A function within what claims to be data, as linkers make of embedded code. */
    struct built_elf nested = {0};
    built_add_symbol(&nested, STT_OBJECT, 0, (uint32_t)ASSEMBLED_BYTES(plain));
    built_add_symbol(&nested, STT_FUNC, 1, (uint32_t)ASSEMBLED_BYTES(plain) - 1);
    built_finish(&nested, plain, ASSEMBLED_BYTES(plain));
    AUTO(mask_sites) within = find_in(&nested);
    free(nested.bytes);
    assert_one_site(within, 8, MASK_PROOF_SYMBOL);

    struct built_elf sectioned = {
        .data_section = {10, 20}
    };
    built_add_symbol(&sectioned, STT_FUNC, 0, 10);
    built_finish(&sectioned, table_behind, ASSEMBLED_BYTES(table_behind));
    AUTO(mask_sites) told = find_in(&sectioned);
    free(sectioned.bytes);
    assert_int_equal(told->doubts[MASK_DOUBT_DATA_SECTION], 1);
    assert_int_equal(mask_sites_doubtful(told), 0);
}

/* ---- the neighbourhood */

#define BEFORE ".rept 60\n mov %rsi, %r8\n .endr\n"
#define BEHIND ".rept 40\n mov %rsi, %r8\n .endr\n ret"
ASSEMBLED(around_use, BEFORE "mov $1, %eax\n cpuid\n mov %ebx, (%rdi)\n" BEHIND);
ASSEMBLED(around_tail, BEFORE "mov $1, %eax\n cpuid\n mov %ebx, (%rdi)\n ret\n");
ASSEMBLED(around_no_leaf, BEFORE "mov $1, %esi\n cpuid\n mov %ebx, (%rdi)\n" BEHIND);
ASSEMBLED(around_no_use, BEFORE "mov $1, %eax\n cpuid\n mov %esi, (%rdi)\n" BEHIND);
ASSEMBLED(around_address,
          BEFORE "mov $1, %eax\n cpuid\n mov %ecx, %r9d\n mov (%rbx), %esi\n" BEHIND);
ASSEMBLED(around_leaf_address,
          BEFORE "mov $1, %eax\n mov (%rax), %esi\n cpuid\n mov %ebx, (%rdi)\n" BEHIND);
ASSEMBLED(around_odd, BEFORE "mov $1, %eax\n in $1, %al\n cpuid\n mov %ebx, (%rdi)\n" BEHIND);
ASSEMBLED(around_zeros, BEFORE ".long 0\n mov $1, %eax\n cpuid\n mov %ebx, (%rdi)\n" BEHIND);
ASSEMBLED(around_data_before, BEFORE ".byte 6\n mov $1, %eax\n cpuid\n mov %ebx, (%rdi)\n" BEHIND);
ASSEMBLED(around_data_behind, BEFORE "mov $1, %eax\n cpuid\n mov %ebx, (%rdi)\n .byte 6\n" BEHIND);
ASSEMBLED(around_cut, "mov $1, %eax\n cpuid\n mov %ebx, (%rdi)\n" BEHIND);
ASSEMBLED(around_other, BEFORE "mov $0xa20f, %eax\n mov %ebx, (%rdi)\n" BEHIND);

static void the_neighbourhood_must_be_code(void **state)
{
    (void)state;
#define CASE(name, is_site, doubt)                         \
    {                                                      \
#name, name, ASSEMBLED_BYTES(name), is_site, doubt \
    }
    const struct {
        const char *what;
        const uint8_t *code;
        size_t size;
        bool is_site;
        enum mask_doubt doubt;
    } cases[] = {
        CASE(around_use, true, 0),
        CASE(around_tail, true, 0),
        CASE(around_no_leaf, false, MASK_DOUBT_UNLIKE_CODE),
        CASE(around_no_use, false, MASK_DOUBT_UNLIKE_CODE),
        CASE(around_address, false, MASK_DOUBT_UNLIKE_CODE),
        CASE(around_leaf_address, false, MASK_DOUBT_UNLIKE_CODE),
        CASE(around_odd, false, MASK_DOUBT_UNLIKE_CODE),
        CASE(around_zeros, false, MASK_DOUBT_UNLIKE_CODE),
        CASE(around_data_before, false, MASK_DOUBT_UNLIKE_CODE),
        CASE(around_data_behind, false, MASK_DOUBT_UNLIKE_CODE),
        CASE(around_cut, false, MASK_DOUBT_CUT),
        CASE(around_other, false, MASK_DOUBT_INSIDE),
    };
#undef CASE
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct built_elf elf = {0};
        built_finish(&elf, cases[i].code, cases[i].size);
        AUTO(mask_sites) sites = find_in(&elf);
        free(elf.bytes);
        if (sites->count != cases[i].is_site || sites->count + sites->rest_count != 1)
            fail_msg("%s: %zu sites, %zu others", cases[i].what, sites->count, sites->rest_count);
        if (cases[i].is_site) {
            assert_int_equal(sites->sites[0].proof, MASK_PROOF_NEIGHBOURHOOD);
            assert_true(sites->sites[0].unknown_targets);
        } else if (sites->rest[0].doubt != cases[i].doubt) {
            fail_msg("%s: %s", cases[i].what, mask_doubt_name(sites->rest[0].doubt));
        }
    }
}

/* ---- memory */

static void files_in_memory_are_read_alike(void **state)
{
    (void)state;
    struct built_elf elf = {0};
    struct elf_image image;
    struct mask_sites *sites = NULL;
    const uint64_t start = 0x7f0000001000;
    built_add_fde(&elf, 0, (uint32_t)ASSEMBLED_BYTES(plain));
    built_finish(&elf, plain, ASSEMBLED_BYTES(plain));
    struct elf_bytes bytes = {elf.bytes, elf.size, start};
    const struct elf_memory reader = {elf_read_bytes, &bytes};
    assert_int_equal(elf_image_of_memory(&reader, start, &image, NULL), 0);
    assert_int_equal(image.bias, start - BUILT_BASE);
    assert_int_equal(mask_sites_find(&image, &sites, NULL), 0);
    assert_one_site(sites, 8, MASK_PROOF_FDE);
    mask_sites_free(sites);
    free(elf.bytes);
}

ASSEMBLED(generated, ".fill 64, 1, 0\n push %rbx\n mov $1, %eax\n cpuid\n" SHORT_JUMP(
                         "2f") ".byte 0x0f, 0xa2\n2: mov $2, %eax\n cpuid\n pop %rbx\n ret");

static void code_without_a_file_is_followed_from_where_it_runs(void **state)
{
    (void)state;
    const uint64_t start = 0x7f0000001000;
    struct elf_bytes bytes = {generated, ASSEMBLED_BYTES(generated), start};
    const struct elf_memory reader = {elf_read_bytes, &bytes};
    struct elf_image image;
    struct mask_sites *sites = NULL;
    assert_int_equal(elf_image_of_code(&reader, start, bytes.size, start + 65, &image, NULL), 0);
    assert_int_equal(mask_sites_find(&image, &sites, NULL), 0);
    assert_int_equal(sites->count, 2);
    assert_int_equal(sites->sites[0].address, start + 70);
    assert_int_equal(sites->sites[0].proof, MASK_PROOF_ENTRY);
    assert_int_equal(sites->sites[0].offset, 0);
    assert_int_equal(sites->sites[1].address, start + 81);
    assert_int_equal(sites->rest_count, 1);
    assert_int_equal(sites->rest[0].address, start + 74);
    mask_sites_free(sites);
    assert_int_equal(elf_image_of_code(&reader, start, bytes.size, 0, &image, NULL), 0);
    assert_int_equal(mask_sites_find(&image, &sites, NULL), 0);
    assert_int_equal(sites->count, 0);
    mask_sites_free(sites);
    /* Memory that went away meanwhile. */
    struct error err = {0};
    bytes.size = 10;
    assert_int_equal(mask_sites_find(&image, &sites, &err), -1);
    assert_int_equal(err.kind, ERROR_FAILED);
    assert_int_equal(elf_image_of_code(&reader, start, 0, 0, &image, &err), -1);
}

/* ---- files that are none of ours, or damaged */

static int open_bytes(uint8_t *file, size_t size, struct error *err)
{
    struct elf_bytes bytes = {file, size, 0};
    const struct elf_memory reader = {elf_read_bytes, &bytes};
    struct elf_image image;
    struct mask_sites *sites = NULL;
    int status = elf_image_of_file(&reader, size, &image, err);
    if (status == 0 && mask_sites_find(&image, &sites, err) == 0)
        mask_sites_free(sites);
    return status;
}

static void other_files_are_refused(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint8_t value, value2; /* two bytes */
        enum error_kind kind;
        const char *says;
    } cases[] = {
        {0,  'M',         'Z',         ERROR_INVALID,  "no ELF file"                      },
        {18, EM_386,      0,           ERROR_REJECTED, "i386"                             },
        {18, EM_AARCH64,  0,           ERROR_REJECTED, "another machine (ELF machine 183)"},
        {4,  ELFCLASS32,  ELFDATA2LSB, ERROR_REJECTED, "x32"                              },
        {16, ET_REL,      0,           ERROR_INVALID,  "an object file"                   },
        {16, ET_CORE,     0,           ERROR_INVALID,  "a core dump"                      },
        {5,  ELFDATA2MSB, 1,           ERROR_INVALID,  "damaged"                          },
        {54, 55,          0,           ERROR_INVALID,  "damaged"                          }, /* e_phentsize */
        {56, 0,           0,           ERROR_INVALID,  "0 segments"                       }, /* e_phnum */
        {56, 0xff,        0xff,        ERROR_INVALID,  "65535 segments"                   },
        {39, 0x7f,        0,           ERROR_INVALID,  "truncated"                        }, /* e_phoff */
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct built_elf elf = {0};
        struct error err = {0};
        built_finish(&elf, plain, ASSEMBLED_BYTES(plain));
        elf.bytes[cases[i].at] = cases[i].value;
        elf.bytes[cases[i].at + 1] = cases[i].value2;
        if (open_bytes(elf.bytes, elf.size, &err) == 0)
            fail_msg("'%s' was taken", cases[i].says);
        if (err.kind != cases[i].kind || !strstr(err.message, cases[i].says))
            fail_msg("expected '%s': %s", cases[i].says, err.message);
        free(elf.bytes);
    }
}

static void truncated_files_are_refused(void **state)
{
    (void)state;
    struct built_elf elf = {.build_id = "0123456789abcdefghij"};
    struct error err = {0};
    built_add_fde(&elf, 0, (uint32_t)ASSEMBLED_BYTES(plain));
    built_finish(&elf, plain, ASSEMBLED_BYTES(plain));
    for (size_t size = 0; size < elf.size; size += size < 0x400 ? 1 : 97) {
        uint8_t *exact = xmalloc(size + 1); /* for the sanitizer to see its end */
        memcpy(exact, elf.bytes, size);
        assert_int_equal(open_bytes(exact, size, &err), -1);
        assert_int_equal(err.kind, ERROR_INVALID);
        free(exact);
    }
    assert_int_equal(open_bytes(elf.bytes, elf.size, &err), 0);
    free(elf.bytes);
}

/* Nothing around it, so it is for the table alone to prove it. */
static struct built_elf of_go(void)
{
    return (struct built_elf){
        .go_count = 1, .go_numbers = {0, (uint32_t)ASSEMBLED_BYTES(plain)}
    };
}

static struct mask_sites *find_in_go(struct built_elf elf, unsigned at, uint64_t value,
                                     unsigned bytes)
{
    built_finish(&elf, plain, ASSEMBLED_BYTES(plain));
    memcpy(elf.bytes + at, &value, bytes);
    struct mask_sites *sites = find_in(&elf);
    free(elf.bytes);
    return sites;
}

static void go_tells_functions(void **state)
{
    (void)state;
    static const uint32_t magics[] = {0xfffffff1U, 0xfffffff0U, 0xfffffffaU};
    for (size_t i = 0; i < 2 * ARRAY_LEN(magics) + 1; i++) {
        struct built_elf elf = of_go();
        elf.go_module = i == 2 * ARRAY_LEN(magics);
        elf.go_magic = elf.go_module ? 0 : magics[i / 2];
        elf.no_sections = i % 2; /* then it is looked for */
        AUTO(mask_sites) sites = find_in_go(elf, 0, 0, 0);
        assert_one_site(sites, 8, MASK_PROOF_GO);
        assert_int_equal(sites->sites[0].function_start, BUILT_CODE_AT);
        assert_int_equal(sites->sites[0].function_end, BUILT_CODE_AT + ASSEMBLED_BYTES(plain));
        assert_false(sites->sites[0].unknown_targets);
    }
}

/* A table that does not hold together proves nothing. */
static void a_table_of_go_must_hold_together(void **state)
{
    (void)state;
    enum { TABLE = BUILT_GO, MODULE = BUILT_MODULE };
    static const struct {
        unsigned at, bytes;
        uint64_t value;
        const char *what;
    } damages[] = {
        {TABLE + 0,        4, 0xfffffff2U,    "another magic number"      },
        {TABLE + 4,        1, 1,              "no zero"                   },
        {TABLE + 6,        1, 4,              "another processor"         },
        {TABLE + 7,        1, 4,              "32-bit pointers"           },
        {TABLE + 8,        8, 0,              "no functions"              },
        {TABLE + 8,        8, 2,              "more functions than sorted"},
        {TABLE + 8,        8, UINT64_MAX,     "more than fit"             },
        {TABLE + 24,       8, 0,              "text nowhere"              },
        {TABLE + 24,       8, BUILT_BASE,     "text that is no code"      },
        {TABLE + 24,       8, UINT64_MAX - 4, "text beyond memory"        },
        {TABLE + 64,       8, 8,              "entries in the header"     },
        {TABLE + 64,       8, UINT64_MAX,     "entries beyond memory"     },
        {TABLE + 72,       4, 1,              "not as the record has it"  },
        {TABLE + 76,       4, UINT32_MAX,     "a record beyond the table" },
        {TABLE + 80,       4, 0,              "no rising order"           },
        {TABLE + 80,       4, BUILT_CODE,     "an end beyond the code"    },
        {TABLE + 72 + 256, 4, 1,              "a record of another one"   },
        {MODULE + 0,       8, BUILT_BASE,     "the record of another"     },
        {MODULE + 16 * 8,  8, BUILT_BASE,     "other entries"             },
        {MODULE + 17 * 8,  8, 1,              "another number of them"    },
        {MODULE + 20 * 8,  8, 0,              "another first one"         },
        {MODULE + 21 * 8,  8, 0,              "another end"               },
        {MODULE + 22 * 8,  8, BUILT_BASE,     "another text"              },
    };
    for (size_t i = 0; i < ARRAY_LEN(damages); i++) {
        struct built_elf elf = of_go();
        elf.go_module = damages[i].at >= MODULE;
        AUTO(mask_sites)
        sites = find_in_go(elf, damages[i].at, damages[i].value, damages[i].bytes);
        if (sites->count)
            fail_msg("believed: %s", damages[i].what);
    }
}

/* Of two functions each ends where the next begins, and what lies between them is padding. */
static void functions_of_go_end_where_the_next_begins(void **state)
{
    (void)state;
    uint8_t code[2 * 64];
    memset(code, 0xcc, sizeof(code));
    memcpy(code, plain, ASSEMBLED_BYTES(plain));
    memcpy(code + 64, plain, ASSEMBLED_BYTES(plain));
    struct built_elf elf = {
        .go_count = 2, .go_numbers = {0, 64, 128}
    };
    built_finish(&elf, code, sizeof(code));
    AUTO(mask_sites) sites = find_in(&elf);
    assert_int_equal(sites->count, 2);
    assert_int_equal(sites->sites[0].function_end, BUILT_CODE_AT + 64);
    assert_int_equal(sites->sites[1].function_start, BUILT_CODE_AT + 64);
    assert_int_equal(sites->sites[1].proof, MASK_PROOF_GO);
    free(elf.bytes);
}

/* Whatever one byte of headers, unwind information or symbols becomes, there is an answer; and no
 * answer makes a site of what is none. */
static void damage_everything(struct built_elf built)
{
    struct built_elf elf = built;
    built_finish(&elf, out_of_step, ASSEMBLED_BYTES(out_of_step));
    struct elf_bytes bytes = {elf.bytes, elf.size, 0};
    const struct elf_memory reader = {elf_read_bytes, &bytes};
    for (size_t at = 0; at < BUILT_CODE; at++) {
        uint8_t before = elf.bytes[at];
        if (at % 16 >= 8 && !before) /* zeros between the tables; a few of them will do */
            continue;
        for (unsigned bit = 0; bit < 8; bit++) {
            struct elf_image image;
            struct mask_sites *sites = NULL;
            elf.bytes[at] = before ^ (uint8_t)(1U << bit);
            if (elf_image_of_file(&reader, elf.size, &image, NULL) == 0 &&
                mask_sites_find(&image, &sites, NULL) == 0)
                mask_sites_free(sites);
        }
        elf.bytes[at] = before;
    }
    free(elf.bytes);
}

static void damaged_tables_make_no_false_site(void **state)
{
    (void)state;
    struct built_elf elf = {0};
    built_add_fde(&elf, 0, (uint32_t)ASSEMBLED_BYTES(out_of_step));
    built_add_symbol(&elf, STT_FUNC, 0, (uint32_t)ASSEMBLED_BYTES(out_of_step));
    damage_everything(elf);
    damage_everything((struct built_elf){
        .go_count = 1, .go_numbers = {0, (uint32_t)ASSEMBLED_BYTES(out_of_step)}
    });
}

/* ---- records */

static void records_go_round(void **state)
{
    (void)state;
    AUTO(mask_sites) sites = FIND_IN_FUNCTION(behind_data);
    AUTO(mask_sites) back = NULL;
    struct error err = {0};
    size_t length = 0, again_length = 0;
    autofree uint8_t *record = mask_sites_to_record(sites, &length);
    if (mask_sites_from_record(record, length, &back, &err) < 0)
        fail_msg("%s", err.message);
    autofree uint8_t *again = mask_sites_to_record(back, &again_length);
    assert_int_equal(length, again_length);
    assert_memory_equal(record, again, length);
    assert_int_equal(back->count, 1);
    assert_memory_equal(&back->sites[0], &sites->sites[0], sizeof(sites->sites[0]));
    assert_int_equal(back->rest_count, mask_sites_doubtful(sites));
    assert_memory_equal(back->doubts, sites->doubts, sizeof(sites->doubts));
    autojson *json = mask_sites_to_json(back, true);
    assert_int_equal(json_int(json, "doubtful"), (int64_t)mask_sites_doubtful(sites));
}

/* Counts, then the site. */
#define RECORD_SITE (16 + 8 * (size_t)MASK_DOUBT_COUNT)

static void wrong_records_are_refused(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint8_t value;
        const char *says;
    } cases[] = {
        {0,                2,   "as long as"},
        {5,                1,   "as long as"},
        {8,                9,   "as long as"},
        {13,               1,   "as long as"},
        {16 + 4,           1,   "candidates"},
        {RECORD_SITE + 7,  1,   "no CPUID"  }, /* of its address */
        {RECORD_SITE + 16, 255, "no CPUID"  }, /* where its function begins */
        {RECORD_SITE + 40, 77,  "proof"     },
        {RECORD_SITE + 41, 1,   "window"    },
        {RECORD_SITE + 41, 3,   "no CPUID"  },
        {RECORD_SITE + 41, 99,  "window"    },
        {RECORD_SITE + 42, 2,   "proof"     },
        {RECORD_SITE + 43, 255, "window"    },
        {RECORD_SITE + 43, 2,   "window"    },
        {RECORD_SITE + 44, 1,   "window"    },
        {RECORD_SITE + 44, 128, "window"    },
        {RECORD_SITE + 44, 252, "no CPUID"  },
        {RECORD_SITE + 44, 0,   "no CPUID"  },
    };
    AUTO(mask_sites) sites = FIND_IN_FUNCTION(behind_data);
    struct mask_sites *back = NULL;
    size_t length = 0;
    assert_int_equal(sites->count, 1);
    assert_int_equal(sites->sites[0].bytes_at, -5);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        autofree uint8_t *record = mask_sites_to_record(sites, &length);
        record[cases[i].at] = cases[i].value;
        if (mask_sites_from_record(record, length, &back, &err) == 0)
            fail_msg("taken: %u at %zu", cases[i].value, cases[i].at);
        if (!strstr(err.message, cases[i].says))
            fail_msg("%u at %zu: %s", cases[i].value, cases[i].at, err.message);
    }
    autofree uint8_t *record = mask_sites_to_record(sites, &length);
    for (size_t cut = 0; cut < length; cut++)
        assert_int_equal(mask_sites_from_record(record, cut, &back, NULL), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plain_function_is_read),
        cmocka_unit_test(parts_of_other_instructions_are_harmless),
        cmocka_unit_test(data_is_no_site),
        cmocka_unit_test(what_exceptions_lead_to_is_read_on),
        cmocka_unit_test(branch_targets_are_told),
        cmocka_unit_test(branches_from_elsewhere_are_told),
        cmocka_unit_test(prefixes_belong_to_the_instruction),
        cmocka_unit_test(ends_of_functions_are_kept),
        cmocka_unit_test(long_functions_are_not_read),
        cmocka_unit_test(too_many_candidates_are_refused),
        cmocka_unit_test(symbols_tell_functions),
        cmocka_unit_test(data_behind_a_function_is_no_site),
        cmocka_unit_test(the_neighbourhood_must_be_code),
        cmocka_unit_test(files_in_memory_are_read_alike),
        cmocka_unit_test(code_without_a_file_is_followed_from_where_it_runs),
        cmocka_unit_test(other_files_are_refused),
        cmocka_unit_test(truncated_files_are_refused),
        cmocka_unit_test(go_tells_functions),
        cmocka_unit_test(a_table_of_go_must_hold_together),
        cmocka_unit_test(functions_of_go_end_where_the_next_begins),
        cmocka_unit_test(damaged_tables_make_no_false_site),
        cmocka_unit_test(records_go_round),
        cmocka_unit_test(wrong_records_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
