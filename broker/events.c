/* SPDX-License-Identifier: Apache-2.0 */
/* events.c - notes what happened to the fleet. */
#include "events.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "model.h"

static const struct {
    const char *name, *meaning;
} kinds[] = {
#define X(kind, name, meaning) {name, meaning},
    FLEET_EVENTS(X)
#undef X
};

const char *fleet_event_name(enum fleet_event kind)
{
    return kinds[kind].name;
}

const char *fleet_event_meaning(enum fleet_event kind)
{
    return kinds[kind].meaning;
}

void fleet_events_add(struct fleet_events *events, enum fleet_event kind, const char *node,
                      const char *pool, const char *workload, json_object *detail)
{
    if (events->count == events->room) {
        events->room = events->room ? 2 * events->room : 8;
        events->items = xrealloc(events->items, events->room * sizeof(*events->items));
    }
    events->items[events->count++] = (struct fleet_note){
        .kind = kind,
        .node = xstrdup(node),
        .pool = xstrdup(pool),
        .workload = xstrdup(workload),
        .detail = detail,
    };
}

int fleet_event_json(const struct store_fleet_event *row, json_object **ret, struct error *err)
{
    autojson *detail = NULL;
    if (json_parse(row->json, strlen(row->json), &detail, err) < 0)
        return error_wrap(err, "database: event %lld", (long long)row->seq);
    json_object *o = json_object_new_object();
    json_put_int(o, "seq", row->seq);
    json_put_int(o, "at_ms", row->at_ms);
    json_put_str(o, "kind", row->kind);
    json_put_str(o, "node", row->node);
    json_put_str(o, "pool", row->pool);
    json_put_str(o, "workload", row->workload);
    json_put(o, "detail", steal_ptr(&detail));
    *ret = o;
    return 0;
}

static int store_one(struct model *model, const struct fleet_note *note, struct error *err)
{
    autofree char *text = json_text(note->detail);
    const struct store_fleet_event row = {
        .at_ms = clock_unix_ms(model->clock),
        .kind = fleet_event_name(note->kind),
        .node = note->node,
        .pool = note->pool,
        .workload = note->workload,
        .json = text,
    };
    struct store_fleet_event told = row;
    autojson *json = NULL;
    if (store_fleet_event_add(model->store, &row, &told.seq, err) < 0 ||
        fleet_event_json(&told, &json, err) < 0)
        return -1;
    autofree char *body = json_text(json);
    return store_deliveries_add(model->store, told.kind, body, told.at_ms, err);
}

int fleet_events_store(struct model *model, const struct fleet_events *events, struct error *err)
{
    for (size_t i = 0; i < events->count; i++)
        if (store_one(model, &events->items[i], err) < 0)
            return -1;
    return events->count ? store_fleet_events_prune(model->store, FLEET_EVENTS_KEPT, err) : 0;
}

void fleet_events_tell(struct model *model, const struct fleet_events *events)
{
    for (size_t i = 0; i < events->count; i++) {
        const struct fleet_note *note = &events->items[i];
        atomic_fetch_add(&model->event_counts[note->kind], 1);
        log_warn(fleet_event_meaning(note->kind), LOG_STR("event", fleet_event_name(note->kind)),
                 LOG_STR("node", note->node ? note->node : ""),
                 LOG_STR("pool", note->pool ? note->pool : ""),
                 LOG_STR("workload", note->workload ? note->workload : ""),
                 LOG_STR("summary", json_str(note->detail, "summary")));
    }
    if (events->count && model->wake)
        model->wake(model->wake_ctx, "events");
}

void fleet_events_done(struct fleet_events *events)
{
    for (size_t i = 0; i < events->count; i++) {
        free(events->items[i].node);
        free(events->items[i].pool);
        free(events->items[i].workload);
        json_object_put(events->items[i].detail);
    }
    free(events->items);
    *events = (struct fleet_events){0};
}
