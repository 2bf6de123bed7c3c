/* SPDX-License-Identifier: Apache-2.0 */
/* table.c - text tables for people. */
#include "table.h"

#include <stdlib.h>
#include <string.h>

#include "error.h"

struct table {
    const char *const *titles;
    size_t columns;
    char **cells; /* owned, row by row */
    size_t count, room;
};

struct table *table_new(const char *const *titles)
{
    struct table *table = xcalloc(1, sizeof(*table));
    table->titles = titles;
    while (titles[table->columns])
        table->columns++;
    return table;
}

void table_cell(struct table *table, const char *text)
{
    if (table->count == table->room) {
        table->room = table->room ? table->room * 2 : 64;
        table->cells = xrealloc(table->cells, table->room * sizeof(*table->cells));
    }
    char *cell = xstrdup(text && *text ? text : "-");
    for (char *p = cell; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
    table->cells[table->count++] = cell;
}

void table_cell_int(struct table *table, long long value)
{
    char text[32];
    snprintf(text, sizeof(text), "%lld", value);
    table_cell(table, text);
}

/* Characters, not bytes: what follows the first byte of one in UTF-8 takes no room. */
static int width_of(const char *text)
{
    int width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

static void print_cell(FILE *out, const char *text, int width, int last)
{
    fputs(text, out);
    if (last)
        fputc('\n', out);
    else
        fprintf(out, "%*s", width - width_of(text) + 2, "");
}

void table_print(const struct table *table, FILE *out)
{
    size_t columns = table->columns;
    if (columns == 0)
        return;
    autofree int *widths = xcalloc(columns, sizeof(*widths));
    for (size_t c = 0; c < columns; c++)
        widths[c] = width_of(table->titles[c]);
    for (size_t i = 0; i < table->count; i++)
        if (width_of(table->cells[i]) > widths[i % columns])
            widths[i % columns] = width_of(table->cells[i]);
    for (size_t c = 0; c < columns; c++)
        print_cell(out, table->titles[c], widths[c], c + 1 == columns);
    for (size_t i = 0; i < table->count; i++)
        print_cell(out, table->cells[i], widths[i % columns], i % columns + 1 == columns);
}

void table_free(struct table *table)
{
    if (!table)
        return;
    for (size_t i = 0; i < table->count; i++)
        free(table->cells[i]);
    free(table->cells);
    free(table);
}
