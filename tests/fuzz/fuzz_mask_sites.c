/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_mask_sites.c - programs that wish us ill: whatever their headers, unwind information,
 * symbols and code are, looking ends, and what it calls a site is a CPUID at that place. Records
 * that were damaged are refused. */
#include <string.h>

#include "fuzz.h"
#include "mask_detour.h"
#include "mask_sites.h"

struct source {
    struct elf_bytes bytes;
    size_t reads;
};

static int read_counted(void *ctx, uint64_t position, void *buffer, size_t length)
{
    struct source *s = ctx;
    MUST(++s->reads < 4000000);
    return elf_read_bytes(&s->bytes, position, buffer, length);
}

static void check_site(const struct elf_image *image, const struct mask_site *site)
{
    struct mask_instruction window[MASK_WINDOW_INSTRUCTIONS_MAX];
    uint8_t bytes[MASK_WINDOW_BYTES_MAX];
    size_t self = 0, count = mask_site_window(site, window, &self);
    MUST(count > 0 && self < count);
    MUST(window[self].at == 0 && window[self].in.length == site->length);
    MUST(site->address >= site->function_start);
    MUST(site->address + site->length <= site->function_end);
    MUST(elf_image_read(image, site->address + (uint64_t)(int64_t)site->bytes_at, bytes,
                        site->byte_count) == 0);
    MUST(memcmp(bytes, site->bytes, site->byte_count) == 0);
    size_t at = site->length - 2U - (size_t)site->bytes_at;
    MUST(bytes[at] == 0x0f && bytes[at + 1] == 0xa2);
}

static void look(const struct elf_image *image)
{
    struct mask_sites *sites = NULL, *back = NULL;
    size_t harmless = 0;
    if (mask_sites_find(image, &sites, NULL) < 0)
        return;
    for (size_t i = 0; i < sites->count; i++) {
        check_site(image, &sites->sites[i]);
        MUST(i == 0 || sites->sites[i].address > sites->sites[i - 1].address);
    }
    for (size_t i = 0; i < sites->rest_count; i++) {
        harmless += mask_doubt_is_harmless(sites->rest[i].doubt);
        MUST(i == 0 || sites->rest[i].address > sites->rest[i - 1].address);
    }
    MUST(harmless + mask_sites_doubtful(sites) == sites->rest_count);
    json_object_put(mask_sites_to_json(sites, true));
    size_t length = 0;
    uint8_t *record = mask_sites_to_record(sites, &length);
    MUST(mask_sites_from_record(record, length, &back, NULL) == 0);
    MUST(back->count == sites->count && back->rest_count == mask_sites_doubtful(sites));
    free(record);
    mask_sites_free(back);
    mask_sites_free(sites);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint64_t start = 0x7f0000000000;
    struct elf_image image;
    struct source file =
                      {
                          {data, size, 0},
                          0
    },
                  memory = {{data, size, start}, 0};
    const struct elf_memory of_file = {read_counted, &file}, of_memory = {read_counted, &memory};
    if (elf_image_of_file(&of_file, size, &image, NULL) == 0)
        look(&image);
    if (elf_image_of_memory(&of_memory, start, &image, NULL) == 0)
        look(&image);
    /* Code alone, run from where the first two bytes say. */
    if (size > 2 && elf_image_of_code(&of_memory, start, size, start + data[0] + 256U * data[1],
                                      &image, NULL) == 0)
        look(&image);
    /* As what the cache keeps. */
    struct mask_sites *as_record = NULL;
    struct mask_detour detour;
    if (mask_sites_from_record(data, size, &as_record, NULL) == 0)
        for (size_t i = 0; i < as_record->count; i++)
            mask_detour_plan(&as_record->sites[i], &detour);
    mask_sites_free(as_record);
    return 0;
}
