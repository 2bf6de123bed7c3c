/* SPDX-License-Identifier: Apache-2.0 */
/* sorted.h - a sorted array of pointers to things that begin with their name.
 *
 * Finding is a binary search; walking it by index is walking in order of name.
 * It owns neither the things nor the names, which must not change while a thing
 * is in it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct sorted {
    void **items; /* owned array; each item's first member is its `char *name` */
    size_t count, room;
};

void *sorted_find(const struct sorted *set, const char *name); /* NULL when absent */
/* The index of the first one behind `name`, which need not be there; `count` for none. */
size_t sorted_behind(const struct sorted *set, const char *name);
/* The name must be new. */
void sorted_add(struct sorted *set, void *item);
/* The item must be in it. */
void sorted_remove(struct sorted *set, void *item);
void sorted_done(struct sorted *set);

#define SORTED_EACH(set, item)                                                                    \
    for (size_t i_##item = 0; i_##item < (set)->count && ((item) = (set)->items[i_##item], true); \
         i_##item++)
