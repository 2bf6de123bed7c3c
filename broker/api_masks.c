/* SPDX-License-Identifier: Apache-2.0 */
/* api_masks.c - a pool's mask: what all members have, and what it costs whom.
 *
 * A pool may have more members than anybody wants to read at once: they are told by the page, and
 * what all of them lose as counts. The first page, which almost everybody asks for, is kept as text
 * until the pool is another. */
#include <string.h>

#include "api.h"
#include "cpu_profile_data.h"
#include "format.h"

#define PAGE_DEFAULT 1000
#define PAGE_MAX     10000

struct page { /* of the members */
    const char *after;
    size_t limit;
};

/* How many members have each feature that the pool lacks. */
static json_object *lost_counts(const struct pool *pool)
{
    size_t counts[CPU_FEATURE_COUNT] = {0};
    json_object *o = json_object_new_object();
    for (size_t k = 0; k < pool->kind_count; k++)
        for (size_t i = 0; i < CPU_FEATURE_COUNT; i++)
            if (mask_loses(pool->profile, pool->kinds[k].cpu, (enum cpu_feature_id)i))
                counts[i] += pool->kinds[k].count;
    for (size_t i = 0; i < CPU_FEATURE_COUNT; i++)
        if (counts[i])
            json_put_int(o, cpu_features[i].name, (int64_t)counts[i]);
    return o;
}

static void put_members(json_object *o, const struct pool *pool, const struct page *page)
{
    json_object *names = json_object_new_array(), *unreported = json_object_new_array();
    json_object *lost = json_object_new_object();
    size_t first = page->after ? sorted_behind(&pool->members, page->after) : 0, reported = 0;
    size_t end =
        pool->members.count - first < page->limit ? pool->members.count : first + page->limit;
    for (size_t k = 0; k < pool->kind_count; k++)
        reported += pool->kinds[k].count;
    for (size_t i = first; i < end; i++) {
        const struct node *node = pool->members.items[i];
        json_object_array_add(names, json_object_new_string(node->name));
        if (node->profile)
            json_put(lost, node->name, mask_lost(pool->profile, node->profile->cpu));
        else
            json_object_array_add(unreported, json_object_new_string(node->name));
    }
    json_put_int(o, "member_count", (int64_t)pool->members.count);
    json_put_int(o, "unreported_count", (int64_t)(pool->members.count - reported));
    json_put(o, "members", names);
    /* These do not count in the mask yet. */
    json_put(o, "unreported", unreported);
    json_put(o, "lost", lost);
    json_put_str(o, "next",
                 end > first && end < pool->members.count ? json_item_str(names, end - first - 1)
                                                          : NULL);
}

static char *masks_text(const struct pool *pool, const struct page *page)
{
    static const char *const parts[] = {"registers", "features", "xsave", "level"};
    autojson *mask = pool->profile ? mask_profile_to_json(pool->profile) : NULL;
    autojson *o = json_object_new_object();
    json_put_str(o, "pool", pool->name);
    json_put_int(o, "epoch", pool->epoch);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        json_put(o, parts[i], json_object_get(json_member(mask, parts[i])));
    if (!mask) {
        json_put(o, "registers", json_object_new_array());
        json_put(o, "features", json_object_new_array());
    }
    json_put(o, "lost_counts", lost_counts(pool));
    put_members(o, pool, page);
    return json_text(o);
}

/* The first page; the model's lock is held for reading. */
static char *first_page(struct model *model, struct pool *pool, const struct page *page)
{
    pthread_mutex_lock(&model->texting);
    if (!pool->masks_text || pool->masks_revision != pool->revision) {
        free(pool->masks_text);
        pool->masks_text = masks_text(pool, page);
        pool->masks_revision = pool->revision;
    }
    char *copy = xstrdup(pool->masks_text);
    pthread_mutex_unlock(&model->texting);
    return copy;
}

/* The mask as a tool reads it. */
static int reply_format(struct http_request *req, const char *name, const char *format_text,
                        struct http_reply *reply, struct error *err)
{
    struct model *model = api_broker(req)->model;
    enum format format = FORMAT_ENV;
    if (format_from_name(format_text, &format, err) < 0)
        return -1;
    model_read_lock(model);
    const struct pool *pool = model_pool(model, name, err);
    AUTO(cpu_profile) mask = pool && pool->profile ? cpu_profile_ref(pool->profile) : NULL;
    model_unlock(model);
    char *text = pool ? format_write(format, mask, err) : NULL;
    if (!text)
        return -1;
    http_reply_text(reply, 200, format_media_type(format), text);
    return 0;
}

int api_pool_masks(struct http_request *req, struct http_reply *reply, struct error *err)
{
    struct model *model = api_broker(req)->model;
    const char *name = NULL;
    const char *format = http_request_query(req, "format");
    struct page page = {.after = http_request_query(req, "after")};
    uint64_t limit = 0;
    if (api_name(req, "pool", &name, err) < 0 ||
        http_request_query_u64(req, "limit", 0, PAGE_MAX, PAGE_DEFAULT, &limit, err) < 0)
        return -1;
    page.limit = (size_t)limit;
    if (format && strcmp(format, "json") != 0)
        return reply_format(req, name, format, reply, err);
    bool usual = !page.after && page.limit == PAGE_DEFAULT;
    char *text = NULL;
    model_read_lock(model);
    struct pool *pool = model_pool(model, name, err);
    if (pool)
        text = usual ? first_page(model, pool, &page) : masks_text(pool, &page);
    model_unlock(model);
    if (!text)
        return -1;
    http_reply_text(reply, 200, "application/json", text);
    return 0;
}
