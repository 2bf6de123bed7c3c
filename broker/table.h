/* SPDX-License-Identifier: Apache-2.0 */
/* table.h - text tables for people: columns as wide as what they hold. */
#pragma once

#include <stdio.h>

#include "cleanup.h"

struct table; /* opaque; one thread */

/* `titles` ends with NULL and is borrowed while the table lives. */
struct table *table_new(const char *const *titles);
/* The next cell of the current row, copied; NULL and "" become "-". Control characters become
 * '?'. A full row begins the next. */
void table_cell(struct table *table, const char *text);
void table_cell_int(struct table *table, long long value);
void table_print(const struct table *table, FILE *out);
void table_free(struct table *table); /* NULL is fine */
DEFINE_AUTO(table)
