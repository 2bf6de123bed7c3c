/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_sites.c - `cpuagent sites`: the CPUID instructions in a file, and what may be one. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "cleanup.h"
#include "cmd.h"
#include "mask_cache.h"

/* The window with the CPUID in brackets; > before what a branch leads to, ! before what one leads
 * into. */
static void print_window(const struct mask_site *site)
{
    struct mask_instruction window[MASK_WINDOW_INSTRUCTIONS_MAX];
    size_t self = 0, count = mask_site_window(site, window, &self);
    for (size_t i = 0; i < count; i++) {
        const struct mask_instruction *m = &window[i];
        printf(" %s%s", m->is_split ? "!" : m->is_target ? ">" : "", i == self ? "[" : "");
        for (unsigned k = 0; k < m->in.length; k++)
            printf("%02x", site->bytes[m->at - site->bytes_at + (int)k]);
        printf("%s", i == self ? "]" : "");
    }
}

static void print_sites(const struct mask_sites *sites)
{
    if (sites->count)
        printf("%-18s  %-13s  %-18s  %s\n", "ADDRESS", "PROOF", "FUNCTION",
               "INSTRUCTIONS AROUND IT");
    for (size_t i = 0; i < sites->count; i++) {
        const struct mask_site *s = &sites->sites[i];
        printf("0x%016" PRIx64 "  %-13s  0x%016" PRIx64 " %s", s->address,
               mask_proof_name(s->proof), s->function_start, s->unknown_targets ? "?" : " ");
        print_window(s);
        putchar('\n');
    }
}

static void print_rest(const struct mask_sites *sites)
{
    printf("%zu CPUID instruction%s\n", sites->count, sites->count == 1 ? "" : "s");
    for (unsigned i = 0; i < MASK_DOUBT_COUNT; i++)
        if (sites->doubts[i])
            printf("%zu other%s: %s%s\n", sites->doubts[i], sites->doubts[i] == 1 ? "" : "s",
                   mask_doubt_meaning((enum mask_doubt)i),
                   mask_doubt_is_harmless((enum mask_doubt)i) ? "" : "; may be CPUID, not covered");
    for (size_t i = 0; i < sites->rest_count; i++)
        if (!mask_doubt_is_harmless(sites->rest[i].doubt))
            printf("  0x%016" PRIx64 "  %s\n", sites->rest[i].address,
                   mask_doubt_name(sites->rest[i].doubt));
}

int cmd_sites(const struct cli_args *args, struct error *err)
{
    AUTO(mask_sites) sites = NULL;
    const char *path = args->rest[0];
    bool as_json = false, cached = false;
    if (cli_output(args, &as_json, err) < 0)
        return -1;
    /* A fifo would wait for its other end. */
    autoclose int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, errno == ENOENT ? ERROR_NOT_FOUND : ERROR_FAILED, "cannot open %s",
                           path);
    if (mask_cache_sites(cli_value(args, "cache", NULL), fd, &sites, &cached, err) < 0)
        return error_wrap(err, "%s", path);
    if (as_json) {
        autojson *json = mask_sites_to_json(sites, true);
        json_put_bool(json, "cached", cached);
        autofree char *text = json_text_pretty(json);
        puts(text);
        return 0;
    }
    print_sites(sites);
    print_rest(sites);
    return 0;
}
