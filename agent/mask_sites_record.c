/* SPDX-License-Identifier: Apache-2.0 */
/* mask_sites_record.c - sites as bytes: counts, then sites, then candidates, each of one size. It
 * is read at each start of a program, and text takes ten times as long. */
#include <string.h>

#include "mask_sites.h"

struct head {
    uint64_t sites, rest;
    uint64_t doubts[MASK_DOUBT_COUNT];
};

struct site_record {
    uint64_t address, offset, function_start, function_end, targets;
    uint8_t proof, length, unknown_targets, byte_count;
    int8_t bytes_at;
    uint8_t zeros[3];
    uint8_t bytes[MASK_WINDOW_BYTES_MAX];
};

struct candidate_record {
    uint64_t address, offset, doubt;
};

_Static_assert(sizeof(struct site_record) == 48 + MASK_WINDOW_BYTES_MAX, "no padding in it");

static struct site_record record_of(const struct mask_site *site)
{
    struct site_record r = {
        .address = site->address,
        .offset = site->offset,
        .function_start = site->function_start,
        .function_end = site->function_end,
        .targets = site->targets,
        .proof = (uint8_t)site->proof,
        .length = site->length,
        .unknown_targets = site->unknown_targets,
        .byte_count = site->byte_count,
        .bytes_at = site->bytes_at,
    };
    memcpy(r.bytes, site->bytes, site->byte_count);
    return r;
}

uint8_t *mask_sites_to_record(const struct mask_sites *sites, size_t *ret_length)
{
    struct head head = {.sites = sites->count};
    for (unsigned i = 0; i < MASK_DOUBT_COUNT; i++)
        head.doubts[i] = sites->doubts[i];
    size_t room = sizeof(head) + sites->count * sizeof(struct site_record) +
                  sites->rest_count * sizeof(struct candidate_record);
    uint8_t *bytes = xcalloc(room, 1), *at = bytes + sizeof(head);
    for (size_t i = 0; i < sites->count; i++, at += sizeof(struct site_record)) {
        const struct site_record r = record_of(&sites->sites[i]);
        memcpy(at, &r, sizeof(r));
    }
    for (size_t i = 0; i < sites->rest_count; i++) {
        const struct mask_candidate *c = &sites->rest[i];
        const struct candidate_record r = {c->address, c->offset, c->doubt};
        if (mask_doubt_is_harmless(c->doubt))
            continue;
        memcpy(at, &r, sizeof(r));
        at += sizeof(r);
        head.rest++;
    }
    memcpy(bytes, &head, sizeof(head));
    *ret_length = (size_t)(at - bytes);
    return bytes;
}

/* ---- back */

static int site_from_record(const struct site_record *r, struct mask_site *site, struct error *err)
{
    struct instruction in;
    if (r->proof >= MASK_PROOF_COUNT || r->unknown_targets > 1)
        return error_set(err, ERROR_INVALID, "site: its proof is none");
    if (r->length < 2 || r->length > INSTRUCTION_BYTES_MAX ||
        r->byte_count > MASK_WINDOW_BYTES_MAX || r->bytes_at > 0 ||
        r->bytes_at < -MASK_WINDOW_REACH || -r->bytes_at > r->byte_count)
        return error_set(err, ERROR_INVALID, "site: its window is none");
    *site = (struct mask_site){
        .address = r->address,
        .offset = r->offset,
        .function_start = r->function_start,
        .function_end = r->function_end,
        .targets = r->targets,
        .proof = (enum mask_proof)r->proof,
        .length = r->length,
        .unknown_targets = r->unknown_targets,
        .byte_count = r->byte_count,
        .bytes_at = r->bytes_at,
    };
    memcpy(site->bytes, r->bytes, r->byte_count);
    size_t self = (size_t)-site->bytes_at;
    if (site->address < site->function_start || site->address >= site->function_end ||
        !instruction_decode(site->bytes + self, site->byte_count - self, site->address, &in) ||
        !in.is_cpuid || in.length != site->length)
        return error_set(err, ERROR_INVALID, "site: its bytes hold no CPUID at its place");
    return 0;
}

static int candidate_from_record(const struct candidate_record *r, struct mask_candidate *c,
                                 struct error *err)
{
    if (r->doubt >= MASK_DOUBT_COUNT)
        return error_set(err, ERROR_INVALID, "candidate: its reason is none");
    *c = (struct mask_candidate){r->address, r->offset, (enum mask_doubt)r->doubt};
    return 0;
}

int mask_sites_from_record(const uint8_t *record, size_t length, struct mask_sites **ret,
                           struct error *err)
{
    AUTO(mask_sites) sites = xcalloc(1, sizeof(*sites));
    struct head head;
    if (length < sizeof(head))
        return error_set(err, ERROR_INVALID, "sites: too short");
    memcpy(&head, record, sizeof(head));
    if (head.sites > MASK_CANDIDATES_MAX || head.rest > MASK_CANDIDATES_MAX ||
        length != sizeof(head) + head.sites * sizeof(struct site_record) +
                      head.rest * sizeof(struct candidate_record))
        return error_set(err, ERROR_INVALID, "sites: not as long as their number says");
    for (unsigned i = 0; i < MASK_DOUBT_COUNT; i++) {
        if (head.doubts[i] > MASK_CANDIDATES_MAX)
            return error_set(err, ERROR_INVALID, "sites: more candidates than may be");
        sites->doubts[i] = (size_t)head.doubts[i];
    }
    const uint8_t *at = record + sizeof(head);
    sites->sites = xcalloc(head.sites + 1, sizeof(*sites->sites));
    sites->rest = xcalloc(head.rest + 1, sizeof(*sites->rest));
    for (; sites->count < head.sites; sites->count++, at += sizeof(struct site_record)) {
        struct site_record r;
        memcpy(&r, at, sizeof(r));
        if (site_from_record(&r, &sites->sites[sites->count], err) < 0)
            return -1;
    }
    for (; sites->rest_count < head.rest;
         sites->rest_count++, at += sizeof(struct candidate_record)) {
        struct candidate_record r;
        memcpy(&r, at, sizeof(r));
        if (candidate_from_record(&r, &sites->rest[sites->rest_count], err) < 0)
            return -1;
    }
    *ret = steal_ptr(&sites);
    return 0;
}
