/* SPDX-License-Identifier: Apache-2.0 */
/* api_events.c - what happened to the fleet. */
#include "api.h"

#define LIMIT     100
#define LIMIT_MAX 1000

static int add_event(void *ctx, const struct store_fleet_event *row, struct error *err)
{
    json_object *event = NULL;
    if (fleet_event_json(row, &event, err) < 0)
        return -1;
    json_object_array_add(ctx, event);
    return 0;
}

/* Without `after` the newest ones; with it those behind, so that nothing is missed between two
 * calls. */
int api_events_list(struct http_request *req, struct http_reply *reply, struct error *err)
{
    struct store *store = api_broker(req)->store;
    uint64_t after = 0, limit = 0;
    int64_t last = 0;
    if (http_request_query_u64(req, "limit", 1, LIMIT_MAX, LIMIT, &limit, err) < 0 ||
        http_request_query_u64(req, "after", 0, JSON_INTEGER_MAX, 0, &after, err) < 0 ||
        store_fleet_event_last(store, &last, err) < 0)
        return -1;
    int64_t from = (int64_t)after;
    if (!http_request_query(req, "after") && last > (int64_t)limit)
        from = last - (int64_t)limit;
    autojson *list = json_object_new_array();
    if (store_fleet_events(store, from, (int64_t)limit, add_event, list, err) < 0)
        return -1;
    size_t count = json_array_size(list);
    if (count)
        last = json_int(json_array_item(list, count - 1), "seq");
    json_object *o = json_object_new_object();
    json_put(o, "events", steal_ptr(&list));
    json_put_int(o, "last_seq", last);
    http_reply_json(reply, 200, o);
    return 0;
}
