/* SPDX-License-Identifier: Apache-2.0 */
/* test_mask_detour.c - code with a CPUID in it is found, detoured and run: it gives what the table
 * says and leaves everything else as it was. */
#include "cmocka_test.h"

#include <cpuid.h>
#include <string.h>
#include <sys/mman.h>

#include "cleanup.h"
#include "mask_detour.h"
#include "mask_island.h"

#define STUBS_AT (64 * 1024UL)
#define AREA     (256 * 1024UL)

/* Memory for code, and an island within reach. */
struct area {
    uint8_t *code;
    struct mask_island_table *table;
    uint8_t *routine, *stubs;
    size_t stub_bytes;
};

static int setup(void **state)
{
    struct area *a = xcalloc(1, sizeof(*a));
    a->code =
        mmap(NULL, AREA, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(a->code, MAP_FAILED);
    a->table = (void *)(a->code + STUBS_AT);
    a->routine = a->code + STUBS_AT + MASK_ISLAND_TABLE_BYTES;
    mask_island_routine_copy(a->routine);
    a->stubs = a->routine + (mask_island_routine_bytes() + 15) / 16 * 16;
    *a->table =
        (struct mask_island_table){.magic = MASK_ISLAND_MAGIC, .version = MASK_ISLAND_VERSION};
    *state = a;
    return 0;
}

static int teardown(void **state)
{
    struct area *a = *state;
    munmap(a->code, AREA);
    free(a);
    return 0;
}

static void add_entry(struct area *a, struct mask_entry entry)
{
    a->table->entries[a->table->count++] = entry;
}

/* The sites of the code, as if execution had been seen at its start. */
static struct mask_sites *find(struct area *a, const uint8_t *code, size_t length)
{
    struct elf_bytes bytes = {
        .bytes = a->code, .size = STUBS_AT, .start = (uint64_t)(uintptr_t)a->code};
    const struct elf_memory reader = {.read = elf_read_bytes, .ctx = &bytes};
    struct elf_image image;
    struct mask_sites *sites = NULL;
    struct error err = {0};
    memset(a->code, 0xcc, STUBS_AT);
    memcpy(a->code, code, length);
    if (elf_image_of_code(&reader, bytes.start, STUBS_AT, bytes.start, &image, &err) < 0 ||
        mask_sites_find(&image, &sites, &err) < 0)
        fail_msg("%s", err.message);
    return sites;
}

/* Puts a detour at the one site there is; returns its plan. */
static struct mask_detour detour(struct area *a, const uint8_t *code, size_t length)
{
    AUTO(mask_sites) sites = find(a, code, length);
    assert_int_equal(sites->count, 1);
    const struct mask_site *site = &sites->sites[0];
    struct mask_detour plan;
    struct error err = {0};
    uint8_t patch[MASK_DETOUR_BYTES_MAX];
    size_t stub_length = 0;
    enum mask_hindrance hindrance = mask_detour_plan(site, &plan);
    if (hindrance != MASK_HINDRANCE_NONE)
        fail_msg("no detour: %s", mask_hindrance_meaning(hindrance));
    uint8_t *stub = a->stubs + a->stub_bytes;
    if (mask_detour_write(site, &plan, 0, (uint64_t)(uintptr_t)stub,
                          (uint64_t)(uintptr_t)a->routine, stub, &stub_length, patch, &err) < 0)
        fail_msg("%s", err.message);
    a->stub_bytes += stub_length;
    uint8_t *at = a->code + (site->address - (uint64_t)(uintptr_t)a->code);
    memcpy(at + plan.from, patch, plan.length);
    return plan;
}

/* Calls code that takes leaf and subleaf and a place for four registers, as ask_code does. */
typedef void ask(uint32_t leaf, uint32_t subleaf, uint32_t ret[4]);

/* push rbx; mov r8, rdx; mov eax, edi; mov ecx, esi; cpuid; mov [r8], eax; mov [r8+4], ebx;
 * mov [r8+8], ecx; mov [r8+12], edx; pop rbx; ret */
static const uint8_t ask_code[] = {0x53, 0x49, 0x89, 0xd0, 0x89, 0xf8, 0x89, 0xf1, 0x0f,
                                   0xa2, 0x41, 0x89, 0x00, 0x41, 0x89, 0x58, 0x04, 0x41,
                                   0x89, 0x48, 0x08, 0x41, 0x89, 0x50, 0x0c, 0x5b, 0xc3};

static void native(uint32_t leaf, uint32_t subleaf, uint32_t ret[4])
{
    __cpuid_count(leaf, subleaf, ret[0], ret[1], ret[2], ret[3]);
}

static void *code_of(struct area *a)
{
    return a->code;
}

static void a_detour_gives_what_the_table_says(void **state)
{
    struct area *a = *state;
    static const uint32_t questions[][2] = {
        {0,          0},
        {1,          0},
        {7,          0},
        {7,          1},
        {0xd,        0},
        {0xd,        1},
        {0xd,        2},
        {0xd,        3},
        {0x80000001, 0},
        {0x80000008, 7},
    };
    add_entry(a, (struct mask_entry){
                     .leaf = 7,
                     .subleaf_first = 0,
                     .subleaf_last = 0,
                     .and_mask = {1, ~(1U << 5), 0, 0xffff0000},
                     .or_mask = {2, 4,          8, 16        }
    });
    add_entry(a, (struct mask_entry){.leaf = 0xd, .subleaf_first = 2, .subleaf_last = UINT32_MAX});
    add_entry(a, (struct mask_entry){
                     .leaf = 0x80000001,
                     .subleaf_first = 0,
                     .subleaf_last = UINT32_MAX,
                     .and_mask = {~0U, ~0U, ~(1U << 5), ~0U}
    });
    struct mask_detour plan = detour(a, ask_code, sizeof(ask_code));
    assert_int_equal(plan.from, 0); /* forwards: cpuid and the first mov */
    assert_int_equal(plan.length, 5);
    ask *masked;
    *(void **)&masked = code_of(a);
    unsigned differ = 0;
    for (size_t i = 0; i < ARRAY_LEN(questions); i++) {
        uint32_t leaf = questions[i][0], subleaf = questions[i][1], expected[4], got[4] = {0};
        native(leaf, subleaf, expected);
        if (leaf == 1) {
            expected[1] &= 0x00ffffff; /* the APIC id is another CPU's now */
            masked(leaf, subleaf, got);
            got[1] &= 0x00ffffff;
        } else {
            uint32_t before[4];
            memcpy(before, expected, sizeof(before));
            mask_table_apply(a->table, leaf, subleaf, expected);
            differ += memcmp(before, expected, sizeof(before)) != 0;
            masked(leaf, subleaf, got);
        }
        if (memcmp(got, expected, sizeof(got)) != 0)
            fail_msg("leaf 0x%x subleaf %u: %08x %08x %08x %08x, expected %08x %08x %08x %08x",
                     leaf, subleaf, got[0], got[1], got[2], got[3], expected[0], expected[1],
                     expected[2], expected[3]);
    }
    assert_true(differ >= 2);
    /* The table can be replaced while the code lives. */
    uint32_t got[4], expected[4];
    a->table->count = 0;
    masked(7, 0, got);
    native(7, 0, expected);
    assert_memory_equal(got, expected, sizeof(got));
}

/* Fills all registers, flags and red zone, calls the code, and compares: 0 when everything but eax,
 * ebx, ecx and edx is as it was. A function of assembly, since compilers would need registers. */
uint64_t run_and_compare(const void *code);
__asm__(".pushsection .text\n"
        ".globl run_and_compare\n"
        "run_and_compare:\n"
        "    push %rbx\n"
        "    push %rbp\n"
        "    push %r12\n"
        "    push %r13\n"
        "    push %r14\n"
        "    push %r15\n"
        "    mov %rdi, %rax\n"
        "    sub $256, %rsp\n"
        "    mov %rax, 248(%rsp)\n"
        "    mov $0x1111111111111111, %rsi\n"
        "    mov $0x2222222222222222, %rdi\n"
        "    mov $0x3333333333333333, %r8\n"
        "    mov $0x4444444444444444, %r9\n"
        "    mov $0x5555555555555555, %r10\n"
        "    mov $0x6666666666666666, %r11\n"
        "    mov $0x7777777777777777, %r12\n"
        "    mov $0x8888888888888888, %r13\n"
        "    mov $0x9999999999999999, %r14\n"
        "    mov $0xaaaaaaaaaaaaaaaa, %r15\n"
        "    mov %rsi, -16(%rsp)\n"
        "    mov %rdi, -24(%rsp)\n"
        "    mov %r8, -136(%rsp)\n"
        "    xor %eax, %eax\n"
        "    xor %ecx, %ecx\n"
        "    mov $0x8d5, %eax\n"
        "    push %rax\n"
        "    popfq\n"
        "    mov $0, %eax\n"
        "    call *248(%rsp)\n"
        "    pushfq\n"
        "    pop %rax\n"
        "    and $0x8d5, %eax\n"
        "    xor $0x8d5, %eax\n"
        "    mov $0x1111111111111111, %rcx\n"
        "    xor %rcx, %rsi\n"
        "    or %rsi, %rax\n"
        "    xor -16(%rsp), %rcx\n"
        "    or %rcx, %rax\n"
        "    mov $0x2222222222222222, %rcx\n"
        "    xor %rcx, %rdi\n"
        "    or %rdi, %rax\n"
        "    xor -24(%rsp), %rcx\n"
        "    or %rcx, %rax\n"
        "    mov $0x3333333333333333, %rcx\n"
        "    xor %rcx, %r8\n"
        "    or %r8, %rax\n"
        "    xor -136(%rsp), %rcx\n"
        "    or %rcx, %rax\n"
        "    mov $0x4444444444444444, %rcx\n"
        "    xor %rcx, %r9\n"
        "    or %r9, %rax\n"
        "    mov $0x5555555555555555, %rcx\n"
        "    xor %rcx, %r10\n"
        "    or %r10, %rax\n"
        "    mov $0x6666666666666666, %rcx\n"
        "    xor %rcx, %r11\n"
        "    or %r11, %rax\n"
        "    mov $0x7777777777777777, %rcx\n"
        "    xor %rcx, %r12\n"
        "    or %r12, %rax\n"
        "    mov $0x8888888888888888, %rcx\n"
        "    xor %rcx, %r13\n"
        "    or %r13, %rax\n"
        "    mov $0x9999999999999999, %rcx\n"
        "    xor %rcx, %r14\n"
        "    or %r14, %rax\n"
        "    mov $0xaaaaaaaaaaaaaaaa, %rcx\n"
        "    xor %rcx, %r15\n"
        "    or %r15, %rax\n"
        "    add $256, %rsp\n"
        "    pop %r15\n"
        "    pop %r14\n"
        "    pop %r13\n"
        "    pop %r12\n"
        "    pop %rbp\n"
        "    pop %rbx\n"
        "    ret\n"
        ".popsection\n");

/* cpuid; xchg ax,ax; nop; ret: only what CPUID itself writes has changed. The red zone is that of
 * the callee: 8 bytes of return address, and 128 below them. */
static void everything_else_stays(void **state)
{
    struct area *a = *state;
    static const uint8_t code[] = {0x0f, 0xa2, 0x66, 0x90, 0x90, 0xc3};
    detour(a, code, sizeof(code));
    assert_int_equal(run_and_compare(a->code), 0);
}

/* Calls code without arguments that returns a number. */
static uint32_t call(struct area *a)
{
    uint32_t (*f)(void);
    *(void **)&f = code_of(a);
    return f();
}

static void operands_that_count_from_their_place_are_aimed_anew(void **state)
{
    struct area *a = *state;
    /* push rbx; xor eax,eax; cpuid; mov eax,[rip+2] (the number behind ret); pop rbx; ret; number
     */
    static const uint8_t code[] = {0x53, 0x31, 0xc0, 0x0f, 0xa2, 0x8b, 0x05, 0x02, 0x00,
                                   0x00, 0x00, 0x5b, 0xc3, 0x78, 0x56, 0x34, 0x12};
    struct mask_detour plan = detour(a, code, sizeof(code));
    assert_int_equal(plan.from, 0);
    assert_int_equal(plan.length, 8);
    assert_int_equal(call(a), 0x12345678);
}

static void branches_are_aimed_anew(void **state)
{
    struct area *a = *state;
    /* push rbx; xor eax,eax; cpuid; test eax,eax; jne +3; pop rbx; xor eax,eax (2: 31 c0); ret ...
     */
    static const uint8_t taken[] = {0x53, 0x31, 0xc0, 0x0f, 0xa2, 0x85, 0xdb, 0x75, 0x04, 0x31,
                                    0xc0, 0x5b, 0xc3, 0xb8, 0x07, 0x00, 0x00, 0x00, 0x5b, 0xc3};
    struct mask_detour plan =
        detour(a, taken, sizeof(taken)); /* the vendor's first letters are in ebx */
    assert_int_equal(plan.from, 0);
    assert_int_equal(plan.length, 6);
    assert_int_equal(call(a), 7);
    add_entry(a,
              (struct mask_entry){.leaf = 0, .subleaf_last = UINT32_MAX}); /* all zero: not taken */
    assert_int_equal(call(a), 0);
}

static void a_jump_behind_it_moves_with_it(void **state)
{
    struct area *a = *state;
    /* push rbx; mov eax,1; jmp +2; int3 int3; nop x2; cpuid; jmp +1 (short); int3; nop; mov eax,9;
     * pop; ret */
    static const uint8_t code[] = {0x53, 0xb8, 0x01, 0x00, 0x00, 0x00, 0x90, 0x0f, 0xa2, 0xeb,
                                   0x01, 0xcc, 0xb8, 0x09, 0x00, 0x00, 0x00, 0x5b, 0xc3};
    struct mask_detour plan = detour(a, code, sizeof(code));
    assert_true(plan.from < 0); /* behind the jump may lie something else: it begins before */
    assert_int_equal(call(a), 9);
}

static void a_target_behind_it_makes_the_detour_begin_before_it(void **state)
{
    struct area *a = *state;
    /* push rbx; mov r8d,3; L0: mov eax,0; mov ecx,0; cpuid; L: dec r8d; jnz L; mov eax,r8d; pop;
     * ret */
    static const uint8_t code[] = {0x53, 0x41, 0xb8, 0x03, 0x00, 0x00, 0x00, 0xb8, 0x00, 0x00,
                                   0x00, 0x00, 0xb9, 0x00, 0x00, 0x00, 0x00, 0x0f, 0xa2, 0x41,
                                   0xff, 0xc8, 0x75, 0xfb, 0x44, 0x89, 0xc0, 0x5b, 0xc3};
    struct mask_detour plan = detour(a, code, sizeof(code));
    assert_int_equal(plan.from, -5); /* with `mov ecx,0` */
    assert_int_equal(plan.length, 7);
    assert_int_equal(call(a), 0);
}

/* Two CPUIDs side by side: neither may take the other along as it is. */
static void another_cpuid_is_not_moved(void **state)
{
    struct area *a = *state;
    /* push rbx; mov eax,1; cpuid; xor eax,eax; cpuid; mov eax,ebx; pop rbx; ret */
    static const uint8_t code[] = {0x53, 0xb8, 0x01, 0x00, 0x00, 0x00, 0x0f, 0xa2,
                                   0x31, 0xc0, 0x0f, 0xa2, 0x89, 0xd8, 0x5b, 0xc3};
    AUTO(mask_sites) sites = find(a, code, sizeof(code));
    struct mask_detour plan;
    assert_int_equal(sites->count, 2);
    assert_int_equal(mask_detour_plan(&sites->sites[0], &plan), MASK_HINDRANCE_NONE);
    assert_int_equal(plan.from, -5); /* with `mov eax,1`, and not with the CPUID behind it */
    assert_int_equal(mask_detour_plan(&sites->sites[1], &plan), MASK_HINDRANCE_NONE);
    assert_int_equal(plan.from, 0);
}

static enum mask_hindrance hindrance(struct area *a, const uint8_t *code, size_t length)
{
    AUTO(mask_sites) sites = find(a, code, length);
    assert_int_equal(sites->count, 1);
    struct mask_detour plan;
    return mask_detour_plan(&sites->sites[0], &plan);
}

static void what_cannot_move_is_left_alone(void **state)
{
    struct area *a = *state;
    /* L: cpuid; loop L; ret: nothing before, and loop has no long form */
    static const uint8_t loop[] = {0x0f, 0xa2, 0xe2, 0xfc, 0xc3};
    assert_int_equal(hindrance(a, loop, sizeof(loop)), MASK_HINDRANCE_FIXED);
    /* cpuid; call +0; ret: its return address would lie in the island */
    static const uint8_t calls[] = {0x0f, 0xa2, 0xe8, 0x01, 0x00, 0x00, 0x00, 0xc3, 0xc3};
    assert_int_equal(hindrance(a, calls, sizeof(calls)), MASK_HINDRANCE_FIXED);
    /* cpuid; L: dec ebx; jnz L; ret */
    static const uint8_t target[] = {0x0f, 0xa2, 0xff, 0xcb, 0x75, 0xfc, 0xc3};
    assert_int_equal(hindrance(a, target, sizeof(target)), MASK_HINDRANCE_TARGET);
    /* cpuid; ret, and behind it somebody else's bytes */
    static const uint8_t end[] = {0x0f, 0xa2, 0xc3};
    assert_int_equal(hindrance(a, end, sizeof(end)), MASK_HINDRANCE_EDGE);
}

static void an_island_out_of_reach_is_an_error(void **state)
{
    struct area *a = *state;
    AUTO(mask_sites) sites = find(a, ask_code, sizeof(ask_code));
    struct mask_detour plan;
    struct error err = {0};
    uint8_t stub[MASK_STUB_BYTES_MAX], patch[MASK_DETOUR_BYTES_MAX];
    size_t length = 0;
    assert_int_equal(mask_detour_plan(&sites->sites[0], &plan), MASK_HINDRANCE_NONE);
    uint64_t far = sites->sites[0].address + (1ULL << 32);
    assert_int_equal(
        mask_detour_write(&sites->sites[0], &plan, 0, far, far, stub, &length, patch, &err), -1);
    assert_int_equal(err.kind, ERROR_TOO_LARGE);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_detour_gives_what_the_table_says),
        TEST(everything_else_stays),
        TEST(operands_that_count_from_their_place_are_aimed_anew),
        TEST(branches_are_aimed_anew),
        TEST(a_jump_behind_it_moves_with_it),
        TEST(a_target_behind_it_makes_the_detour_begin_before_it),
        TEST(another_cpuid_is_not_moved),
        TEST(what_cannot_move_is_left_alone),
        TEST(an_island_out_of_reach_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
