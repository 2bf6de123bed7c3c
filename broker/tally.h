/* SPDX-License-Identifier: Apache-2.0 */
/* tally.h - how often each of a few values occurs, so that a minimum or a maximum survives the
 * leaving of whoever held it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct tally_item {
    uint32_t value, count;
};

struct tally {
    struct tally_item *items; /* owned; ascending by value, no count is 0 */
    uint32_t item_count;
};

/* step is 1 or -1; a value that goes must have come. */
void tally_count(struct tally *tally, uint32_t value, int step);
uint32_t tally_least(const struct tally *tally); /* 0 when empty */
uint32_t tally_most(const struct tally *tally);  /* 0 when empty */
bool tally_holds(const struct tally *tally, uint32_t value);
bool tally_is_uniform(const struct tally *tally); /* one value at most */
uint32_t tally_total(const struct tally *tally);  /* of all counts */
void tally_done(struct tally *tally);
