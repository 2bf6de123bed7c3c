/* SPDX-License-Identifier: Apache-2.0 */
/* tally.c - a small sorted multiset of numbers. */
#include "tally.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"

/* The index of the first value that is not below. Pools hold few distinct values. */
static uint32_t lower_bound(const struct tally *tally, uint32_t value)
{
    uint32_t low = 0, high = tally->item_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (tally->items[middle].value < value)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void tally_count(struct tally *tally, uint32_t value, int step)
{
    uint32_t at = lower_bound(tally, value);
    bool there = at < tally->item_count && tally->items[at].value == value;
    assert(there || step > 0);
    if (!there) {
        tally->items = xrealloc(tally->items, (tally->item_count + 1) * sizeof(*tally->items));
        memmove(&tally->items[at + 1], &tally->items[at],
                (tally->item_count - at) * sizeof(*tally->items));
        tally->items[at] = (struct tally_item){.value = value};
        tally->item_count++;
    }
    tally->items[at].count += (uint32_t)step;
    if (tally->items[at].count > 0)
        return;
    tally->item_count--;
    memmove(&tally->items[at], &tally->items[at + 1],
            (tally->item_count - at) * sizeof(*tally->items));
}

uint32_t tally_least(const struct tally *tally)
{
    return tally->item_count ? tally->items[0].value : 0;
}

uint32_t tally_most(const struct tally *tally)
{
    return tally->item_count ? tally->items[tally->item_count - 1].value : 0;
}

bool tally_holds(const struct tally *tally, uint32_t value)
{
    uint32_t at = lower_bound(tally, value);
    return at < tally->item_count && tally->items[at].value == value;
}

bool tally_is_uniform(const struct tally *tally)
{
    return tally->item_count <= 1;
}

uint32_t tally_total(const struct tally *tally)
{
    uint32_t total = 0;
    for (uint32_t i = 0; i < tally->item_count; i++)
        total += tally->items[i].count;
    return total;
}

void tally_done(struct tally *tally)
{
    free(tally->items);
    *tally = (struct tally){0};
}
