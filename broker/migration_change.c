/* SPDX-License-Identifier: Apache-2.0 */
/* migration_change.c - writes a step of a migration to the database, then to
 * memory. */
#include "migration_change.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "model_internal.h"
#include "webhook.h"

int64_t migration_deadline_ms(const struct migrations *m, enum migration_state state)
{
    uint64_t timeout_ms = 0;
    switch (state) {
    case MIGRATION_PREPARING:
        timeout_ms = m->prepare_timeout_ms;
        break;
    case MIGRATION_DUMPING:
        timeout_ms = m->dump_timeout_ms;
        break;
    case MIGRATION_TRANSFERRING:
        timeout_ms = m->transfer_timeout_ms;
        break;
    case MIGRATION_RESTORING:
        timeout_ms = m->restore_timeout_ms;
        break;
    case MIGRATION_COMMITTING: /* only on */
    case MIGRATION_ABORTING:   /* the source must be heard */
    case MIGRATION_DONE:
    case MIGRATION_FAILED:
    case MIGRATION_CANCELLED:
    case MIGRATION_STATE_COUNT:
        return INT64_MAX;
    }
    return clock_monotonic_ms(m->model->clock) + (int64_t)timeout_ms;
}

void change_begin(struct migration_change *change, struct migrations *migrations, struct move *move)
{
    *change = (struct migration_change){
        .migrations = migrations,
        .move = move,
        .next = *move,
        .now_ms = clock_unix_ms(migrations->model->clock),
        .workload = sorted_find(&migrations->model->workloads, move->workload),
    };
}

static json_object *new_event(struct migration_change *change, const char *kind)
{
    assert(change->event_count < CHANGE_EVENTS_MAX);
    json_object *event = json_object_new_object();
    json_put_int(event, "seq", ++change->next.last_seq);
    json_put_int(event, "at_ms", change->now_ms);
    json_put_str(event, "kind", kind);
    change->events[change->event_count].kind = kind;
    change->events[change->event_count++].json = event;
    return event;
}

static void on_entry(struct migration_change *change, enum migration_state state)
{
    struct model *model = change->migrations->model;
    struct move *next = &change->next;
    if (state == MIGRATION_DUMPING) {
        next->dumping_at_ms = change->now_ms;
    } else if (state == MIGRATION_COMMITTING) {
        /* From here on the workload may run there. */
        struct node *target = sorted_find(&model->nodes, next->to);
        if (target && target->profile && change->workload &&
            !model_workload_has_seen(change->workload, next->to, target->profile))
            change->expose = target->profile;
    }
    if (migration_state_is_final(state)) {
        next->finished_at_ms = change->now_ms;
        explicit_bzero(next->ticket, sizeof(next->ticket));
    }
}

void change_enter(struct migration_change *change, enum migration_state state)
{
    struct move *next = &change->next;
    assert(migration_move_allowed(next->state, state));
    json_object *event = new_event(change, "phase");
    json_put_str(event, "state", migration_state_name(state));
    json_put_str(event, "node", NULL);
    json_put_int(event, "previous_ms",
                 change->now_ms > next->state_at_ms ? change->now_ms - next->state_at_ms : 0);
    next->state = state;
    next->state_at_ms = change->now_ms;
    next->deadline_ms = migration_deadline_ms(change->migrations, state);
    on_entry(change, state);
}

static void put_known(json_object *o, const char *name, int64_t value)
{
    json_put(o, name, value < 0 ? NULL : json_object_new_int64(value));
}

void change_report(struct migration_change *change, const char *node,
                   const struct migration_said *said)
{
    bool progress = said->report == MIGRATION_REPORT_PROGRESS;
    json_object *event = new_event(change, progress ? "progress" : "report");
    json_put_str(event, "state", migration_state_name(change->next.state));
    json_put_str(event, "node", node);
    json_put_str(event, "report", migration_report_name(said->report));
    put_known(event, "bytes", said->bytes);
    put_known(event, "total_bytes", said->total_bytes);
    put_known(event, "phase_ms", said->phase_ms);
    if (said->bytes >= 0)
        change->next.bytes = said->bytes;
    if (said->total_bytes >= 0)
        change->next.total_bytes = said->total_bytes;
}

void change_error(struct migration_change *change, const char *node, const char *code,
                  const char *message, const char *log, bool keep)
{
    json_object *event = new_event(change, "error");
    json_put_str(event, "state", migration_state_name(change->next.state));
    json_put_str(event, "node", node);
    json_put_str(event, "code", code);
    json_put_str(event, "message", message);
    json_put_str(event, "log", log);
    if (!keep || change->move->error || change->error)
        return;
    change->error = json_object_new_object();
    json_put_str(change->error, "code", code);
    json_put_str(change->error, "message", message);
    json_put_str(change->error, "node", node);
    json_put_str(change->error, "log", log);
}

int change_looked(struct migration_change *change, const struct cpu_evidence *evidence,
                  struct error *err)
{
    const struct node *node = sorted_find(&change->migrations->model->nodes, change->next.from);
    const struct node gone = {.name = change->next.from};
    autojson *json = cpu_evidence_to_json(evidence);
    struct cpu_evidence *copy = NULL;
    if (cpu_evidence_parse(json, &copy, err) < 0)
        return -1;
    change->looked_text = json_text(json);
    change->looked =
        workload_evidence_new(change->next.id, node ? node : &gone, change->now_ms, copy);
    return 0;
}

void change_verdict(struct migration_change *change, const struct verdict *verdict)
{
    autojson *json = verdict_to_json(verdict, change->next.from, change->next.to);
    free(change->verdict);
    change->verdict = json_text(json);
}

void change_workload(struct migration_change *change, const char *node, enum life_state life,
                     int64_t pid, int64_t exit_status)
{
    if (!change->workload)
        return;
    change->set_workload = true;
    change->node = node;
    change->life = life;
    change->pid = pid;
    change->exit_status = exit_status;
}

static int store_row(const struct migration_change *change, struct error *err)
{
    const struct move *next = &change->next;
    json_object *error = change->error ? change->error : change->move->error;
    autofree char *error_text = error ? json_text(error) : NULL;
    const struct store_migration row = {
        .id = next->id,
        .state = migration_state_name(next->state),
        .source_report = migration_report_name(next->source_report),
        .target_report = migration_report_name(next->target_report),
        .judged_sha256 = next->judged_sha256,
        .ticket = *next->ticket ? next->ticket : NULL,
        .error = error_text,
        .cancelled = next->cancelled,
        .bytes = next->bytes,
        .total_bytes = next->total_bytes,
        .state_at_ms = next->state_at_ms,
        .dumping_at_ms = next->dumping_at_ms,
        .downtime_ms = next->downtime_ms,
        .finished_at_ms = next->finished_at_ms,
    };
    return store_migration_set(change->migrations->model->store, &row, err);
}

int migration_tell_webhooks(struct store *store, const struct move *move, json_object *phase,
                            json_object *error, struct error *err)
{
    autojson *o = json_object_new_object();
    json_put_str(o, "kind", WEBHOOK_MIGRATION);
    json_put_int(o, "at_ms", json_int(phase, "at_ms"));
    json_put_str(o, "migration", move->id);
    json_put_str(o, "workload", move->workload);
    json_put_str(o, "from", move->from);
    json_put_str(o, "to", move->to);
    json_put_str(o, "state", json_str(phase, "state"));
    json_put_int(o, "previous_ms", json_int(phase, "previous_ms"));
    json_object *shown = NULL;
    if (error) {
        shown = json_object_new_object();
        json_put_str(shown, "code", json_str(error, "code"));
        json_put_str(shown, "message", json_str(error, "message"));
    }
    json_put(o, "error", shown);
    autofree char *body = json_text(o);
    return store_deliveries_add(store, WEBHOOK_MIGRATION, body, json_int(phase, "at_ms"), err);
}

static int store_look(const struct migration_change *change, struct error *err)
{
    struct model *model = change->migrations->model;
    if ((change->verdict || change->looked) &&
        store_migration_judged(model->store, change->next.id, change->verdict, change->looked_text,
                               err) < 0)
        return -1;
    return change->looked && change->workload
               ? model_evidence_store_locked(model, change->workload->name, change->looked, err)
               : 0;
}

static int store_change(const struct migration_change *change, struct error *err)
{
    struct model *model = change->migrations->model;
    const struct move *next = &change->next;
    if (store_row(change, err) < 0 || store_look(change, err) < 0)
        return -1;
    for (size_t i = 0; i < change->event_count; i++) {
        json_object *json = change->events[i].json;
        autofree char *text = json_text(json);
        const struct store_event row = {json_int(json, "seq"), change->now_ms,
                                        change->events[i].kind, text};
        if (store_event_add(model->store, next->id, &row, err) < 0)
            return -1;
        if (strcmp(row.kind, "phase") == 0 &&
            migration_tell_webhooks(model->store, next, json,
                                    change->error ? change->error : change->move->error, err) < 0)
            return -1;
    }
    if (change->expose &&
        model_workload_store_exposure_locked(model, change->workload, next->to, change->expose,
                                             change->now_ms, err) < 0)
        return -1;
    return change->set_workload
               ? model_workload_store_locked(model, change->workload, change->node, change->life,
                                             change->pid, change->exit_status, err)
               : 0;
}

static bool settled(const struct move *move)
{
    return move->state == MIGRATION_DONE || (migration_state_is_final(move->state) &&
                                             move->target_report == MIGRATION_REPORT_DISCARDED);
}

static void log_change(const struct migration_change *change)
{
    const struct move *next = &change->next;
    for (size_t i = 0; i < change->event_count; i++)
        if (strcmp(change->events[i].kind, "error") == 0)
            log_warn("a migration met an error", LOG_STR("migration", next->id),
                     LOG_STR("workload", next->workload),
                     LOG_STR("node", json_str(change->events[i].json, "node")),
                     LOG_STR("error", json_str(change->events[i].json, "message")));
    if (next->state != change->move->state)
        log_info("migration", LOG_STR("migration", next->id), LOG_STR("workload", next->workload),
                 LOG_STR("from", next->from), LOG_STR("to", next->to),
                 LOG_STR("state", migration_state_name(next->state)));
}

static void apply(struct migration_change *change)
{
    struct model *model = change->migrations->model;
    struct move *move = change->move;
    autofree char *key = xasprintf("migration/%s", move->id);
    bool silent = change->next.state == move->state &&
                  change->next.source_report == move->source_report &&
                  change->next.target_report == move->target_report;
    log_change(change);
    model_write_lock(model);
    json_object *old_error = move->error;
    *move = change->next;
    move->error = change->error ? steal_ptr(&change->error) : old_error;
    if (move->error != old_error)
        json_object_put(old_error);
    if (change->expose)
        model_workload_expose(model, change->workload, move->to, change->expose, change->now_ms);
    if (change->looked && change->workload)
        model_evidence_set(model, change->workload, steal_ptr(&change->looked));
    if (change->set_workload)
        model_workload_set(model, change->workload, change->node, change->life, change->pid,
                           change->exit_status);
    if (!silent) { /* progress alone asks nothing new of anybody */
        model->generation++;
        model_node_poke(model, move->from);
        model_node_poke(model, move->to);
    }
    if (settled(move)) {
        sorted_remove(&model->moves, move);
        change->move = NULL;
    }
    model_unlock(model);
    if (!change->move)
        move_free(move);
    if (model->wake)
        model->wake(model->wake_ctx, key);
}

void change_drop(struct migration_change *change)
{
    json_object_put(steal_ptr(&change->error));
    workload_evidence_free(steal_ptr(&change->looked));
    free(steal_ptr(&change->looked_text));
    free(steal_ptr(&change->verdict));
    for (size_t i = 0; i < change->event_count; i++)
        json_object_put(change->events[i].json);
    change->event_count = 0;
    explicit_bzero(change->next.ticket, sizeof(change->next.ticket));
}

int change_commit(struct migration_change *change, struct error *err)
{
    struct store *store = change->migrations->model->store;
    int rc = store_begin(store, err);
    if (rc == 0) {
        if (store_change(change, err) < 0) {
            store_rollback(store);
            rc = -1;
        } else {
            rc = store_commit(store, err);
        }
    }
    if (rc == 0)
        apply(change);
    else
        error_wrap(err, "migration %s", change->next.id);
    change_drop(change);
    return rc;
}
