/* SPDX-License-Identifier: Apache-2.0 */
/* test_table.c - text tables: widths, holes, text from outside. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "table.h"

static void check(const struct table *table, const char *expected)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    table_print(table, out);
    fclose(out);
    assert_string_equal(text, expected);
    free(text);
}

static void columns_are_as_wide_as_what_they_hold(void **state)
{
    (void)state;
    static const char *const titles[] = {"NAME", "N", "LAST", NULL};
    AUTO(table) table = table_new(titles);
    table_cell(table, "a");
    table_cell_int(table, -1234567890123);
    table_cell(table, "x");
    table_cell(table, "longer");
    table_cell_int(table, 0);
    table_cell(table, "y z");
    check(table, "NAME    N               LAST\n"
                 "a       -1234567890123  x\n"
                 "longer  0               y z\n");
}

static void a_table_without_rows_has_titles(void **state)
{
    (void)state;
    static const char *const titles[] = {"NAME", "STATE", NULL};
    AUTO(table) table = table_new(titles);
    check(table, "NAME  STATE\n");
}

static void holes_are_dashes(void **state)
{
    (void)state;
    static const char *const titles[] = {"A", "B", NULL};
    AUTO(table) table = table_new(titles);
    table_cell(table, NULL);
    table_cell(table, "");
    check(table, "A  B\n-  -\n");
}

static void text_from_outside_cannot_steer_a_terminal(void **state)
{
    (void)state;
    static const char *const titles[] = {"A", "B", NULL};
    AUTO(table) table = table_new(titles);
    table_cell(table, "\033[31mred\n");
    table_cell(table, "tab\there\x7f");
    check(table, "A          B\n?[31mred?  tab?here?\n");
}

static void characters_count_not_bytes(void **state)
{
    (void)state;
    static const char *const titles[] = {"A", "B", NULL};
    AUTO(table) table = table_new(titles);
    table_cell(table, "\xc3\xa9\xc3\xa9");
    table_cell(table, "x");
    table_cell(table, "eee");
    table_cell(table, "y");
    check(table, "A    B\n\xc3\xa9\xc3\xa9   x\neee  y\n");
}

static void many_rows_fit(void **state)
{
    (void)state;
    static const char *const titles[] = {"A", NULL};
    AUTO(table) table = table_new(titles);
    for (int i = 0; i < 10000; i++)
        table_cell_int(table, 7);
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    table_print(table, out);
    fclose(out);
    assert_int_equal(size, 2 + 10000 * 2);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_are_as_wide_as_what_they_hold),
        cmocka_unit_test(a_table_without_rows_has_titles),
        cmocka_unit_test(holes_are_dashes),
        cmocka_unit_test(text_from_outside_cannot_steer_a_terminal),
        cmocka_unit_test(characters_count_not_bytes),
        cmocka_unit_test(many_rows_fit),
    };
    return cmocka_run_group_tests_name("table", tests, NULL, NULL);
}
