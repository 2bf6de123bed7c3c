/* SPDX-License-Identifier: Apache-2.0 */
/* cache.h - verdicts as they go out, kept while nothing that they depend on has
 * changed.
 *
 * A verdict is pure: it depends on the model, whose generation counts the
 * changes, and on who is live, which the caller puts into `liveness`. Safe from
 * any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct verdict_cache;

#define CACHE_KEY_BYTES 160

struct cache_key {
    uint64_t generation;
    unsigned liveness;
    size_t length;
    char text[CACHE_KEY_BYTES]; /* the question */
};

struct verdict_cache *verdict_cache_new(void);
void verdict_cache_free(struct verdict_cache *cache); /* NULL is fine */
/* A copy of the verdict's JSON, which the caller owns, or NULL. */
char *verdict_cache_get(struct verdict_cache *cache, const struct cache_key *key,
                        bool *ret_rejected);
void verdict_cache_put(struct verdict_cache *cache, const struct cache_key *key, const char *text,
                       bool rejected);
