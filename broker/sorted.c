/* SPDX-License-Identifier: Apache-2.0 */
/* sorted.c - a sorted array of named things. */
#include "sorted.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"

static const char *name_at(const struct sorted *set, size_t index)
{
    return *(char *const *)set->items[index];
}

/* Where `name` is, or where it would have to go. */
static size_t place(const struct sorted *set, const char *name, bool *ret_found)
{
    size_t low = 0, high = set->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name_at(set, middle), name);
        if (order == 0) {
            *ret_found = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *ret_found = false;
    return low;
}

void *sorted_find(const struct sorted *set, const char *name)
{
    bool found = false;
    size_t at = place(set, name, &found);
    return found ? set->items[at] : NULL;
}

size_t sorted_behind(const struct sorted *set, const char *name)
{
    bool found = false;
    size_t at = place(set, name, &found);
    return found ? at + 1 : at;
}

void sorted_add(struct sorted *set, void *item)
{
    bool found = false;
    size_t at = place(set, *(char *const *)item, &found);
    assert(!found);
    if (set->count == set->room) {
        set->room = set->room ? 2 * set->room : 8;
        set->items = xrealloc(set->items, set->room * sizeof(*set->items));
    }
    memmove(&set->items[at + 1], &set->items[at], (set->count - at) * sizeof(*set->items));
    set->items[at] = item;
    set->count++;
}

void sorted_remove(struct sorted *set, void *item)
{
    bool found = false;
    size_t at = place(set, *(char *const *)item, &found);
    assert(found && set->items[at] == item);
    set->count--;
    memmove(&set->items[at], &set->items[at + 1], (set->count - at) * sizeof(*set->items));
}

void sorted_done(struct sorted *set)
{
    free(set->items);
    *set = (struct sorted){0};
}
