/* SPDX-License-Identifier: Apache-2.0 */
/* migration_view.c - migrations as people see them, and as assignments to
 * agents. */
#include <string.h>

#include "decide.h"
#include "migration.h"
#include "model_mask.h"

static void put_time(json_object *o, const char *name, int64_t value)
{
    json_put(o, name, value < 0 ? NULL : json_object_new_int64(value));
}

static json_object *parse(const char *text)
{
    json_object *json = NULL;
    if (text)
        json_parse(text, strlen(text), &json, NULL);
    return json;
}

static json_object *row_to_json(const struct store_migration *row)
{
    json_object *o = json_object_new_object();
    json_put_str(o, "id", row->id);
    json_put_str(o, "workload", row->workload);
    json_put_str(o, "from", row->from);
    json_put_str(o, "to", row->to);
    json_put_str(o, "state", row->state);
    json_put_int(o, "created_at_ms", row->created_at_ms);
    json_put_int(o, "state_at_ms", row->state_at_ms);
    put_time(o, "finished_at_ms", row->finished_at_ms);
    json_put_int(o, "bytes", row->bytes);
    put_time(o, "total_bytes", row->total_bytes);
    put_time(o, "downtime_ms", row->downtime_ms);
    json_put(o, "phases", json_object_new_array());
    json_put(o, "error", parse(row->error));
    json_put(o, "verdict", parse(row->verdict));
    return o;
}

static int add_row(void *ctx, const struct store_migration *row, struct error *err)
{
    (void)err;
    json_object_array_add(ctx, row_to_json(row));
    return 0;
}

static int add_phase(void *ctx, const struct store_event *row, struct error *err)
{
    (void)err;
    json_object *phases = ctx;
    autojson *event = parse(row->json);
    size_t count = json_array_size(phases);
    if (count)
        json_put_int(json_array_item(phases, count - 1), "duration_ms",
                     json_int(event, "previous_ms"));
    json_object *phase = json_object_new_object();
    json_put_str(phase, "state", json_str(event, "state"));
    json_put_int(phase, "at_ms", row->at_ms);
    json_put(phase, "duration_ms", NULL);
    json_object_array_add(phases, phase);
    return 0;
}

static int query(struct store *store, enum store_migrations_which which, const char *text,
                 int64_t limit, json_object **ret, struct error *err)
{
    autojson *list = json_object_new_array();
    if (store_migrations(store, which, text, limit, add_row, list, err) < 0)
        return -1;
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_object *item = json_array_item(list, i);
        if (store_phases(store, json_str(item, "id"), add_phase, json_member(item, "phases"), err) <
            0)
            return -1;
    }
    *ret = steal_ptr(&list);
    return 0;
}

int migration_get(struct store *store, const char *id, json_object **ret, struct error *err)
{
    autojson *list = NULL;
    if (query(store, STORE_MIGRATIONS_BY_ID, id, 1, &list, err) < 0)
        return -1;
    if (json_array_size(list) == 0)
        return error_set(err, ERROR_NOT_FOUND,
                         "no migration '%s'; `cpubroker migrations` lists them", id);
    autofree char *evidence = NULL;
    if (store_migration_evidence(store, id, &evidence, err) < 0)
        return -1;
    json_put(json_array_item(list, 0), "evidence", parse(evidence));
    *ret = json_object_get(json_array_item(list, 0));
    return 0;
}

int migration_list(struct store *store, const char *workload, int64_t limit, json_object **ret,
                   struct error *err)
{
    return query(store, workload ? STORE_MIGRATIONS_OF_WORKLOAD : STORE_MIGRATIONS_LATEST, workload,
                 limit, ret, err);
}

/* The target's ticket has to hold until the image has come, so its deadline
 * covers the phases until then; everybody else's is that of the state. */
static int64_t deadline_at_ms(const struct migrations *m, const struct move *move,
                              enum migration_party party)
{
    if (move->deadline_ms == INT64_MAX)
        return -1;
    int64_t left_ms = move->deadline_ms - clock_monotonic_ms(m->model->clock);
    if (party == MIGRATION_PARTY_TARGET && move->state == MIGRATION_PREPARING)
        left_ms += (int64_t)m->dump_timeout_ms;
    if (party == MIGRATION_PARTY_TARGET && move->state <= MIGRATION_DUMPING)
        left_ms += (int64_t)m->transfer_timeout_ms;
    return clock_unix_ms(m->model->clock) + left_ms;
}

static json_object *assignment(struct migrations *m, const struct move *move,
                               enum migration_party party, enum migration_action action)
{
    struct model *model = m->model;
    const struct workload *workload = sorted_find(&model->workloads, move->workload);
    const char *peer_name = party == MIGRATION_PARTY_SOURCE ? move->to : move->from;
    const struct node *peer = sorted_find(&model->nodes, peer_name);
    json_object *peer_json = json_object_new_object();
    json_put_str(peer_json, "node", peer_name);
    json_put_str(peer_json, "address", peer ? peer->image_address : NULL);
    json_object *o = json_object_new_object();
    json_put_str(o, "migration", move->id);
    json_put_str(o, "workload", move->workload);
    json_put_str(o, "role", party == MIGRATION_PARTY_SOURCE ? "source" : "target");
    json_put_str(o, "action", migration_action_name(action));
    json_put_str(o, "state", migration_state_name(move->state));
    json_put(o, "peer", peer_json);
    json_put_str(o, "ticket", *move->ticket ? move->ticket : NULL);
    json_put_str(o, "dir", workload ? workload->dir : NULL);
    json_put_str(o, "pool", workload ? workload->pool : NULL);
    json_put(o, "command", workload ? model_command_json(workload) : NULL);
    json_put(o, "mask", workload ? workload_mask_order(workload, false) : NULL);
    json_put_int(o, "max_bytes", (int64_t)m->max_image_bytes);
    put_time(o, "deadline_at_ms", deadline_at_ms(m, move, party));
    json_put_bool(o, "look_again",
                  party == MIGRATION_PARTY_SOURCE && workload && peer &&
                      decide_rests_on_look(model, workload, peer));
    return o;
}

json_object *migrations_assignments(struct migrations *migrations, const struct node *node)
{
    json_object *list = json_object_new_array();
    const struct move *move = NULL;
    SORTED_EACH(&migrations->model->moves, move)
    {
        bool source = strcmp(move->from, node->name) == 0;
        if (!source && strcmp(move->to, node->name) != 0)
            continue;
        enum migration_party party = source ? MIGRATION_PARTY_SOURCE : MIGRATION_PARTY_TARGET;
        enum migration_action action = migration_action_for(
            move->state, party, source ? move->source_report : move->target_report,
            move->target_report);
        if (action != MIGRATION_DO_NOTHING)
            json_object_array_add(list, assignment(migrations, move, party, action));
    }
    json_object *o = json_object_new_object();
    json_put_int(o, "generation", (int64_t)node->generation);
    json_put(o, "assignments", list);
    return o;
}
