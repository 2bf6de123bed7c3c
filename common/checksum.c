/* SPDX-License-Identifier: Apache-2.0 */
/* checksum.c - the running XXH3-128. */
#include "checksum.h"

#include <stdio.h>
#include <stdlib.h>
#include <xxh_x86dispatch.h> /* xxhash.h, with the widest vectors that this CPU has */

struct checksum *checksum_new(void)
{
    XXH3_state_t *state = XXH3_createState();
    if (!state || XXH3_128bits_reset(state) != XXH_OK)
        abort();
    return (struct checksum *)state;
}

void checksum_update(struct checksum *sum, const void *data, size_t length)
{
    XXH3_128bits_update((XXH3_state_t *)sum, data, length);
}

void checksum_hex(const struct checksum *sum, char hex[CHECKSUM_HEX_BYTES])
{
    XXH128_hash_t hash = XXH3_128bits_digest((const XXH3_state_t *)sum);
    snprintf(hex, CHECKSUM_HEX_BYTES, "%016llx%016llx", (unsigned long long)hash.high64,
             (unsigned long long)hash.low64);
}

void checksum_free(struct checksum *sum)
{
    XXH3_freeState((XXH3_state_t *)sum);
}
