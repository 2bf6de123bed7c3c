/* SPDX-License-Identifier: Apache-2.0 */
/* test_mask_maps.c - executable mappings, asked for alone and in the whole list. */
#include "cmocka_test.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mask_maps.h"

#define PAGE 4096UL

static void expect_same(const struct mask_mapping *a, const struct mask_mapping *b)
{
    assert_int_equal(a->start, b->start);
    assert_int_equal(a->end, b->end);
    assert_int_equal(a->inode, b->inode);
    assert_int_equal(a->offset, b->offset);
    assert_int_equal(a->executable, b->executable);
    assert_int_equal(a->writable, b->writable);
    assert_int_equal(a->shared, b->shared);
    assert_string_equal(a->name, b->name);
}

/* Those that are told alone are told as in the list, and none is left out. */
static void code_is_told_as_in_the_list(void **state)
{
    (void)state;
    AUTO(mask_maps) all = NULL;
    unsigned looked_at = 0;
    assert_int_equal(mask_maps_read(getpid(), &all, NULL), 0);
    assert_true(all->whole);
    for (size_t i = 0; i < all->count; i++) {
        const struct mask_mapping *m = &all->mappings[i];
        AUTO(mask_maps) some = NULL;
        if (!m->executable || strcmp(m->name, "[vsyscall]") == 0)
            continue;
        assert_int_equal(mask_maps_read_code(getpid(), m->start + 1, m->start + 2, &some, NULL), 0);
        if (some->whole) /* an older kernel, which is not asked */
            return;
        assert_int_equal(some->count, 1);
        expect_same(&some->mappings[0], m);
        looked_at++;
    }
    assert_true(looked_at > 2);
}

static void ranges_may_hold_several_or_none(void **state)
{
    (void)state;
    /* every second page is code */
    const int code = PROT_READ | PROT_EXEC;
    char *pages = mmap(NULL, 16 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(pages, MAP_FAILED);
    for (unsigned i = 0; i < 16; i += 2)
        assert_int_equal(mprotect(pages + i * PAGE, PAGE, i ? code : code | PROT_WRITE), 0);
    uint64_t at = (uint64_t)(uintptr_t)pages;
    static const struct {
        unsigned from, to; /* in half pages */
        size_t count;
    } ranges[] = {
        {0, 2,  1},
        {2, 4,  0}, /* what lies between them */
        {1, 3,  1},
        {0, 5,  2},
        {3, 16, 3},
        {0, 26, 7},
    };
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++) {
        AUTO(mask_maps) some = NULL;
        uint64_t from = at + ranges[i].from * PAGE / 2, to = at + ranges[i].to * PAGE / 2;
        assert_int_equal(mask_maps_read_code(getpid(), from, to, &some, NULL), 0);
        if (some->whole)
            continue;
        assert_int_equal(some->count, ranges[i].count);
        for (size_t k = 0; k < some->count; k++)
            assert_true(some->mappings[k].start < to && some->mappings[k].end > from);
    }
    AUTO(mask_maps) many = NULL; /* more than are asked for one by one */
    assert_int_equal(mask_maps_read_code(getpid(), 0, UINT64_MAX, &many, NULL), 0);
    assert_true(many->whole);
    munmap(pages, 16 * PAGE);
}

static void no_process_no_mappings(void **state)
{
    (void)state;
    struct mask_maps *maps = NULL;
    struct error err = {0};
    assert_int_equal(mask_maps_read_code(0x3fffffff, 0, PAGE, &maps, &err), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
    assert_null(maps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(code_is_told_as_in_the_list),
        cmocka_unit_test(ranges_may_hold_several_or_none),
        cmocka_unit_test(no_process_no_mappings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
