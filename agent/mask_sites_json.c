/* SPDX-License-Identifier: Apache-2.0 */
/* mask_sites_json.c - sites as JSON, for people and for the cache. */
#include <string.h>

#include "mask_sites.h"

#define COUNT_MAX (1LL << 32) /* of candidates, in a text that we wrote */

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

/* ---- back */

static int get_range(const char *what, json_object *o, const char *name, int64_t least,
                     int64_t most, int64_t *ret, struct error *err)
{
    if (json_get_i64(what, o, name, ret, err) < 0)
        return -1;
    if (*ret < least || *ret > most)
        return error_set(err, ERROR_INVALID, "%s: %s: expected %lld..%lld", what, name,
                         (long long)least, (long long)most);
    return 0;
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int get_bytes(json_object *o, struct mask_site *site, struct error *err)
{
    const char *hex = NULL;
    if (json_get_str("site", o, "bytes", &hex, err) < 0)
        return -1;
    size_t length = strlen(hex);
    if (length % 2 || length / 2 > MASK_WINDOW_BYTES_MAX)
        return error_set(err, ERROR_INVALID, "site: bytes: expected at most %d of them",
                         MASK_WINDOW_BYTES_MAX);
    for (size_t i = 0; i < length / 2; i++) {
        int high = digit_of(hex[2 * i]), low = digit_of(hex[2 * i + 1]);
        if (high < 0 || low < 0)
            return error_set(err, ERROR_INVALID, "site: bytes: expected hex digits");
        site->bytes[i] = (uint8_t)(high << 4 | low);
    }
    site->byte_count = (uint8_t)(length / 2);
    return 0;
}

static int get_proof(json_object *o, enum mask_proof *ret, struct error *err)
{
    const char *name = NULL;
    if (json_get_str("site", o, "proof", &name, err) < 0)
        return -1;
    for (unsigned i = 0; i < MASK_PROOF_COUNT; i++)
        if (strcmp(name, mask_proof_name((enum mask_proof)i)) == 0) {
            *ret = (enum mask_proof)i;
            return 0;
        }
    return error_set(err, ERROR_INVALID, "site: proof: '%.40s' is none", name);
}

static int site_from_json(json_object *o, struct mask_site *site, struct error *err)
{
    struct mask_instruction window[MASK_WINDOW_INSTRUCTIONS_MAX];
    int64_t length = 0, bytes_at = 0;
    size_t self;
    if (json_check_object("site", o, err) < 0 ||
        json_get_hex("site", o, "address", &site->address, err) < 0 ||
        json_get_hex("site", o, "offset", &site->offset, err) < 0 ||
        json_get_hex("site", o, "function_start", &site->function_start, err) < 0 ||
        json_get_hex("site", o, "function_end", &site->function_end, err) < 0 ||
        json_get_hex("site", o, "targets", &site->targets, err) < 0 ||
        get_range("site", o, "length", 2, INSTRUCTION_BYTES_MAX, &length, err) < 0 ||
        get_range("site", o, "bytes_at", -MASK_WINDOW_REACH, 0, &bytes_at, err) < 0 ||
        json_opt_bool("site", o, "unknown_targets", &site->unknown_targets, err) < 0 ||
        get_proof(o, &site->proof, err) < 0 || get_bytes(o, site, err) < 0)
        return -1;
    site->length = (uint8_t)length;
    site->bytes_at = (int8_t)bytes_at;
    if (site->address < site->function_start || site->address >= site->function_end ||
        !mask_site_window(site, window, &self))
        return error_set(err, ERROR_INVALID, "site: its bytes hold no CPUID at its place");
    return 0;
}

static int candidate_from_json(json_object *o, struct mask_candidate *c, struct error *err)
{
    const char *name = NULL;
    if (json_check_object("candidate", o, err) < 0 ||
        json_get_hex("candidate", o, "address", &c->address, err) < 0 ||
        json_get_hex("candidate", o, "offset", &c->offset, err) < 0 ||
        json_get_str("candidate", o, "reason", &name, err) < 0)
        return -1;
    for (unsigned i = 0; i < MASK_DOUBT_COUNT; i++)
        if (strcmp(name, mask_doubt_name((enum mask_doubt)i)) == 0) {
            c->doubt = (enum mask_doubt)i;
            return 0;
        }
    return error_set(err, ERROR_INVALID, "candidate: reason: '%.40s' is none", name);
}

static int counts_from_json(json_object *o, struct mask_sites *sites, struct error *err)
{
    json_object *counts = NULL;
    int64_t count;
    if (json_get_object("sites", o, "counts", &counts, err) < 0)
        return -1;
    for (unsigned i = 0; i < MASK_DOUBT_COUNT; i++) {
        const char *name = mask_doubt_name((enum mask_doubt)i);
        if (get_range("counts", counts, name, 0, COUNT_MAX, &count, err) < 0)
            return -1;
        sites->doubts[i] = (size_t)count;
    }
    return 0;
}

int mask_sites_from_json(json_object *o, struct mask_sites **ret, struct error *err)
{
    AUTO(mask_sites) sites = xcalloc(1, sizeof(*sites));
    json_object *list = NULL, *rest = NULL;
    if (json_check_object("sites", o, err) < 0 ||
        json_get_array("sites", o, "sites", MASK_CANDIDATES_MAX, &list, err) < 0 ||
        json_get_array("sites", o, "candidates", MASK_CANDIDATES_MAX, &rest, err) < 0 ||
        counts_from_json(o, sites, err) < 0)
        return -1;
    size_t count = json_array_size(list), rest_count = json_array_size(rest);
    sites->sites = xcalloc(count + 1, sizeof(*sites->sites));
    sites->rest = xcalloc(rest_count + 1, sizeof(*sites->rest));
    for (; sites->count < count; sites->count++)
        if (site_from_json(json_array_item(list, sites->count), &sites->sites[sites->count], err) <
            0)
            return -1;
    for (; sites->rest_count < rest_count; sites->rest_count++)
        if (candidate_from_json(json_array_item(rest, sites->rest_count),
                                &sites->rest[sites->rest_count], err) < 0)
            return -1;
    *ret = steal_ptr(&sites);
    return 0;
}
