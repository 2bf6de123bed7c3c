/* SPDX-License-Identifier: Apache-2.0 */
/* cache.c - a small table of encoded verdicts; a newer one takes the place of
 * an older one. */
#include "cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"

#define SLOTS          256
#define TEXT_MAX_BYTES (16UL * 1024)

struct slot {
    struct cache_key key;
    char *text; /* owned; NULL: empty */
    size_t length;
    bool rejected;
};

struct verdict_cache {
    pthread_mutex_t lock;
    struct slot slots[SLOTS];
};

struct verdict_cache *verdict_cache_new(void)
{
    struct verdict_cache *cache = xcalloc(1, sizeof(*cache));
    pthread_mutex_init(&cache->lock, NULL);
    return cache;
}

void verdict_cache_free(struct verdict_cache *cache)
{
    if (!cache)
        return;
    for (size_t i = 0; i < SLOTS; i++)
        free(cache->slots[i].text);
    pthread_mutex_destroy(&cache->lock);
    free(cache);
}

static struct slot *slot_of(struct verdict_cache *cache, const struct cache_key *key)
{
    uint32_t hash = 2166136261U; /* FNV-1a */
    for (size_t i = 0; i < key->length; i++)
        hash = (hash ^ (unsigned char)key->text[i]) * 16777619U;
    return &cache->slots[(hash ^ hash >> 16) % SLOTS];
}

static bool same_key(const struct cache_key *a, const struct cache_key *b)
{
    return a->generation == b->generation && a->liveness == b->liveness && a->length == b->length &&
           memcmp(a->text, b->text, a->length) == 0;
}

char *verdict_cache_get(struct verdict_cache *cache, const struct cache_key *key,
                        bool *ret_rejected)
{
    struct slot *slot = slot_of(cache, key);
    char *copy = NULL;
    pthread_mutex_lock(&cache->lock);
    if (slot->text && same_key(&slot->key, key)) {
        copy = xmalloc(slot->length + 1);
        memcpy(copy, slot->text, slot->length + 1);
        *ret_rejected = slot->rejected;
    }
    pthread_mutex_unlock(&cache->lock);
    return copy;
}

void verdict_cache_put(struct verdict_cache *cache, const struct cache_key *key, const char *text,
                       bool rejected)
{
    size_t length = strlen(text);
    if (length > TEXT_MAX_BYTES)
        return;
    struct slot *slot = slot_of(cache, key);
    char *copy = xstrdup(text);
    pthread_mutex_lock(&cache->lock);
    char *old = slot->text;
    *slot = (struct slot){*key, copy, length, rejected};
    pthread_mutex_unlock(&cache->lock);
    free(old);
}
