/* SPDX-License-Identifier: Apache-2.0 */
/* test_mask_grade.c - the words for grades and lacks, and which grades bind. */
#include <string.h>

#include "cmocka_test.h"
#include "mask_grade.h"

static void grades_lead_back(void **state)
{
    (void)state;
    for (unsigned i = 0; i < MASK_GRADE_COUNT; i++) {
        enum mask_grade grade = MASK_GRADE_COUNT;
        assert_int_equal(mask_grade_from_name(mask_grade_name((enum mask_grade)i), &grade, NULL),
                         0);
        assert_int_equal(grade, i);
        assert_true(strlen(mask_grade_meaning(grade)) > 0);
    }
}

static void unknown_grades_are_told_the_known_ones(void **state)
{
    (void)state;
    static const char *const wrong[] = {"", "Detour", "auto", "hardware "};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        enum mask_grade grade = MASK_GRADE_DETOUR;
        struct error err = {0};
        assert_int_equal(mask_grade_from_name(wrong[i], &grade, &err), -1);
        assert_int_equal(err.kind, ERROR_INVALID);
        assert_non_null(strstr(err.message, "off environment detour hardware"));
        assert_int_equal(grade, MASK_GRADE_DETOUR);
    }
}

/* What libraries read by themselves holds nobody to it. */
static void grades_bind_from_the_detour_on(void **state)
{
    (void)state;
    assert_false(mask_grade_binds(MASK_GRADE_OFF));
    assert_false(mask_grade_binds(MASK_GRADE_ENVIRONMENT));
    assert_true(mask_grade_binds(MASK_GRADE_DETOUR));
    assert_true(mask_grade_binds(MASK_GRADE_HARDWARE));
}

static void lacks_have_names_of_their_own(void **state)
{
    (void)state;
    for (unsigned i = 0; i < MASK_LACK_COUNT; i++) {
        assert_true(strlen(mask_lack_meaning((enum mask_lack)i)) > 0);
        for (unsigned k = 0; k < i; k++)
            assert_string_not_equal(mask_lack_name((enum mask_lack)i),
                                    mask_lack_name((enum mask_lack)k));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grades_lead_back),
        cmocka_unit_test(unknown_grades_are_told_the_known_ones),
        cmocka_unit_test(grades_bind_from_the_detour_on),
        cmocka_unit_test(lacks_have_names_of_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
