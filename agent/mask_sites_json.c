/* SPDX-License-Identifier: Apache-2.0 */
/* mask_sites_json.c - sites as JSON, for people and their tools. */
#include <string.h>

#include "mask_sites.h"

static void put_bytes(json_object *o, const struct mask_site *site)
{
    static const char digits[] = "0123456789abcdef";
    char hex[2 * MASK_WINDOW_BYTES_MAX + 1];
    for (size_t i = 0; i < site->byte_count; i++) {
        hex[2 * i] = digits[site->bytes[i] >> 4];
        hex[2 * i + 1] = digits[site->bytes[i] & 15];
    }
    hex[2 * (size_t)site->byte_count] = '\0';
    json_put_str(o, "bytes", hex);
}

static json_object *site_to_json(const struct mask_site *site)
{
    json_object *o = json_object_new_object();
    json_put_hex64(o, "address", site->address);
    json_put_hex64(o, "offset", site->offset);
    json_put_int(o, "length", site->length);
    json_put_str(o, "proof", mask_proof_name(site->proof));
    json_put_hex64(o, "function_start", site->function_start);
    json_put_hex64(o, "function_end", site->function_end);
    json_put_bool(o, "unknown_targets", site->unknown_targets);
    json_put_int(o, "bytes_at", site->bytes_at);
    put_bytes(o, site);
    json_put_hex64(o, "targets", site->targets);
    return o;
}

static json_object *candidate_to_json(const struct mask_candidate *c)
{
    json_object *o = json_object_new_object();
    json_put_hex64(o, "address", c->address);
    json_put_hex64(o, "offset", c->offset);
    json_put_str(o, "reason", mask_doubt_name(c->doubt));
    json_put_bool(o, "harmless", mask_doubt_is_harmless(c->doubt));
    return o;
}

json_object *mask_sites_to_json(const struct mask_sites *sites, bool all)
{
    json_object *o = json_object_new_object(), *list = json_object_new_array();
    json_object *rest = json_object_new_array(), *counts = json_object_new_object();
    for (size_t i = 0; i < sites->count; i++)
        json_object_array_add(list, site_to_json(&sites->sites[i]));
    for (size_t i = 0; i < sites->rest_count; i++)
        if (all || !mask_doubt_is_harmless(sites->rest[i].doubt))
            json_object_array_add(rest, candidate_to_json(&sites->rest[i]));
    for (unsigned i = 0; i < MASK_DOUBT_COUNT; i++)
        json_put_int(counts, mask_doubt_name((enum mask_doubt)i), (int64_t)sites->doubts[i]);
    json_put(o, "sites", list);
    json_put(o, "candidates", rest);
    json_put(o, "counts", counts);
    json_put_int(o, "doubtful", (int64_t)mask_sites_doubtful(sites));
    return o;
}
