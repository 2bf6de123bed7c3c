/* SPDX-License-Identifier: Apache-2.0 */
/* migration.c - starts migrations, and takes what agents, people and the clock
 * say about them. */
#include "migration.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "decide.h"
#include "digest.h"
#include "log.h"
#include "migration_change.h"
#include "model_internal.h"

#define PROGRESS_SAVE_MS 250 /* bytes are written at most this often */
#define RETRY_MS         5000

void migrations_resume(struct migrations *migrations)
{
    struct model *model = migrations->model;
    WRITER(model);
    struct move *move = NULL;
    model_write_lock(model);
    SORTED_EACH(&model->moves, move)
    {
        move->deadline_ms = migration_deadline_ms(migrations, move->state);
        log_info("a migration goes on", LOG_STR("migration", move->id),
                 LOG_STR("workload", move->workload),
                 LOG_STR("state", migration_state_name(move->state)));
    }
    model_unlock(model);
}

void migrate_result_done(struct migrate_result *result)
{
    json_object_put(result->verdict);
    json_object_put(result->migration);
    *result = (struct migrate_result){0};
}

/* An earlier request with the same key. */
struct earlier {
    const struct migrate_request *request;
    bool found, same;
    char id[64];
    json_object *verdict; /* owned */
};

static int take_earlier(void *ctx, const struct store_migration *row, struct error *err)
{
    struct earlier *earlier = ctx;
    earlier->found = true;
    earlier->same = strcmp(row->workload, earlier->request->workload) == 0 &&
                    same_text(row->requested_to, earlier->request->to);
    snprintf(earlier->id, sizeof(earlier->id), "%s", row->id);
    return json_parse(row->verdict, strlen(row->verdict), &earlier->verdict, err);
}

/* 1: *result is an earlier request's. 0: there is none. */
static int find_earlier(struct migrations *migrations, const struct migrate_request *request,
                        struct migrate_result *result, struct error *err)
{
    struct store *store = migrations->model->store;
    struct earlier earlier = {.request = request};
    if (!request->key || request->dry_run)
        return 0;
    int rc = store_migrations(store, STORE_MIGRATIONS_BY_KEY, request->key, 1, take_earlier,
                              &earlier, err);
    if (rc == 0 && earlier.found && !earlier.same)
        rc = error_set(err, ERROR_CONFLICT,
                       "idempotency_key '%s' was used for another request "
                       "(migration %s); nothing "
                       "was started, choose a new key",
                       request->key, earlier.id);
    if (rc == 0 && earlier.found)
        rc = migration_get(store, earlier.id, &result->migration, err);
    if (rc == 0 && earlier.found) {
        result->verdict = steal_ptr(&earlier.verdict);
        rc = 1;
    }
    json_object_put(earlier.verdict);
    return rc;
}

static const struct node *choose(struct migrations *migrations,
                                 const struct migrate_request *request,
                                 const struct workload *workload, struct migrate_result *result,
                                 struct error *err)
{
    struct model *model = migrations->model;
    struct verdict verdict = {0};
    const struct node *target = NULL;
    if (request->to) {
        target = model_node(model, request->to, err);
        if (!target)
            return NULL;
        if (request->dry_run)
            decide_move(model, workload, target, &verdict);
        else
            decide_start(model, workload, target, &verdict);
    } else {
        target = decide_best(model, workload, !request->dry_run, &verdict);
    }
    result->rejected = verdict.rejected;
    result->verdict = verdict_to_json(&verdict, workload->node, target ? target->name : NULL);
    const struct workload_evidence *latest = model_evidence_now(model, workload);
    if (request->dry_run && latest)
        json_put(result->verdict, "evidence", workload_evidence_mark(model, latest));
    snprintf(result->target, sizeof(result->target), "%s", target ? target->name : "");
    verdict_done(&verdict);
    return target;
}

static struct move *move_new(struct migrations *migrations, const struct workload *workload,
                             const struct node *target)
{
    struct move *move = xcalloc(1, sizeof(*move));
    char random[17];
    random_hex(8, random);
    move->id = xasprintf("m-%s", random);
    move->workload = xstrdup(workload->name);
    move->from = xstrdup(workload->node);
    move->to = xstrdup(target->name);
    move->state = MIGRATION_PREPARING;
    snprintf(move->judged_sha256, sizeof(move->judged_sha256), "%s", target->profile->sha256);
    secret_new(move->ticket);
    move->total_bytes = move->dumping_at_ms = move->downtime_ms = move->finished_at_ms = -1;
    move->state_at_ms = clock_unix_ms(migrations->model->clock);
    move->deadline_ms = migration_deadline_ms(migrations, move->state);
    move->progress_saved_ms = INT64_MIN / 2;
    move->last_seq = 1;
    return move;
}

static int move_store(struct migrations *migrations, const struct move *move,
                      const struct migrate_request *request, json_object *verdict,
                      struct error *err)
{
    struct store *store = migrations->model->store;
    autofree char *verdict_text = json_text(verdict);
    autojson *event = json_object_new_object();
    json_put_int(event, "seq", 1);
    json_put_int(event, "at_ms", move->state_at_ms);
    json_put_str(event, "kind", "phase");
    json_put_str(event, "state", migration_state_name(move->state));
    json_put_str(event, "node", NULL);
    json_put_int(event, "previous_ms", 0);
    autofree char *event_text = json_text(event);
    const struct store_migration row = {
        .id = move->id,
        .workload = move->workload,
        .from = move->from,
        .to = move->to,
        .state = migration_state_name(move->state),
        .judged_sha256 = move->judged_sha256,
        .ticket = move->ticket,
        .idempotency_key = request->key,
        .requested_to = request->to,
        .verdict = verdict_text,
        .created_at_ms = move->state_at_ms,
    };
    const struct store_event first = {1, move->state_at_ms, "phase", event_text};
    if (store_begin(store, err) < 0)
        return -1;
    if (store_migration_add(store, &row, err) < 0 ||
        store_event_add(store, move->id, &first, err) < 0 ||
        migration_tell_webhooks(store, move, event, NULL, err) < 0) {
        store_rollback(store);
        return -1;
    }
    return store_commit(store, err);
}

static int start(struct migrations *migrations, const struct migrate_request *request,
                 const struct workload *workload, const struct node *target,
                 struct migrate_result *result, struct error *err)
{
    struct model *model = migrations->model;
    struct move *move = move_new(migrations, workload, target);
    if (move_store(migrations, move, request, result->verdict, err) < 0) {
        move_free(move);
        return -1;
    }
    log_info("migration", LOG_STR("migration", move->id), LOG_STR("workload", move->workload),
             LOG_STR("from", move->from), LOG_STR("to", move->to),
             LOG_STR("state", migration_state_name(move->state)));
    model_write_lock(model);
    sorted_add(&model->moves, move);
    model->generation++;
    model_node_poke(model, move->from);
    model_node_poke(model, move->to);
    model_unlock(model);
    return migration_get(model->store, move->id, &result->migration, err);
}

int migrations_start(struct migrations *migrations, const struct migrate_request *request,
                     struct migrate_result *result, struct error *err)
{
    struct model *model = migrations->model;
    *result = (struct migrate_result){0};
    WRITER(model);
    /* Before the verdict, which would say that a migration is running. */
    int earlier = find_earlier(migrations, request, result, err);
    if (earlier != 0)
        return earlier < 0 ? -1 : 0;
    const struct workload *workload = model_workload(model, request->workload, err);
    if (!workload)
        return -1;
    const struct node *target = choose(migrations, request, workload, result, err);
    if (!result->verdict)
        return -1;
    if (result->rejected || request->dry_run || !target)
        return 0;
    if (start(migrations, request, workload, target, result, err) < 0) {
        migrate_result_done(result);
        return -1;
    }
    return 0;
}

static enum migration_party party_of(const struct move *move, const char *node)
{
    if (strcmp(move->from, node) == 0)
        return MIGRATION_PARTY_SOURCE;
    return strcmp(move->to, node) == 0 ? MIGRATION_PARTY_TARGET : (enum migration_party)0;
}

static void abort_for(struct migration_change *change, const char *node, const char *code,
                      const char *message, const char *log)
{
    change_error(change, node, code, message, log, true);
    change_enter(change, MIGRATION_ABORTING);
}

#define REASONS_TOLD 4 /* in an error's message; all are in the verdict */

/* The reasons that reject, in a row; the caller owns it. */
static char *rejections(const struct verdict *verdict)
{
    char *text = xstrdup("");
    size_t told = 0, count = 0;
    for (size_t i = 0; i < verdict->reason_count; i++) {
        if (verdict->reasons[i].severity != VERDICT_REJECT || ++count > REASONS_TOLD)
            continue;
        char *longer = xasprintf("%s%s%s", text, told++ ? "; " : "", verdict->reasons[i].message);
        free(text);
        text = longer;
    }
    if (count > told) {
        char *longer = xasprintf("%s; and %zu more reasons", text, count - told);
        free(text);
        text = longer;
    }
    return text;
}

/* What this move's look has shown; NULL for one that an older broker began. */
static const struct cpu_evidence *seen_of(const struct migration_change *change)
{
    const struct workload_evidence *latest =
        change->looked ? change->looked : change->workload->evidence;
    return latest && strcmp(latest->migration, change->next.id) == 0 ? latest->seen : NULL;
}

/* Judges the CPUs by what was seen. False: the move must not go on, and is aborted; `why` begins
 * the error's message. */
static bool approved(struct migration_change *change, const struct node *target,
                     const struct cpu_evidence *seen, const char *why)
{
    struct model *model = change->migrations->model;
    struct verdict verdict = {0};
    decide_inspected(model, change->workload, seen, change->next.state != MIGRATION_PREPARING,
                     target, &verdict);
    bool approved = !verdict.rejected;
    if (approved) {
        snprintf(change->next.judged_sha256, sizeof(change->next.judged_sha256), "%s",
                 target->profile->sha256);
    } else {
        autofree char *reasons = rejections(&verdict);
        autofree char *message =
            xasprintf("%s: %s; %s'%s' runs on on node '%s'", why, reasons,
                      change->next.state == MIGRATION_PREPARING ? "nothing was frozen, " : "",
                      change->next.workload, change->next.from);
        abort_for(change, target->name, "rejected", message, NULL);
    }
    if (!approved || change->looked)
        change_verdict(change, &verdict);
    verdict_done(&verdict);
    return approved;
}

static const struct node *target_of(struct migration_change *change)
{
    const struct node *target = sorted_find(&change->migrations->model->nodes, change->next.to);
    if (target && target->profile && change->workload && change->workload->need)
        return target;
    abort_for(change, change->next.to, "rejected", "the target or the workload is gone", NULL);
    return NULL;
}

/* The target reported other CPUs since the verdict: judge them, too. False: it
 * must not go on. */
static bool still_approved(struct migration_change *change)
{
    const struct node *target = target_of(change);
    if (!target)
        return false;
    if (strcmp(target->profile->sha256, change->next.judged_sha256) == 0)
        return true;
    autofree char *why =
        xasprintf("node '%s' has reported other CPUs since the verdict", target->name);
    return approved(change, target, seen_of(change), why);
}

/* Whether what the source says has to be judged by what it has seen: the look before the dump, and
 * where the move rests on it, the one at the stopped workload. */
static bool look_is_due(const struct migration_change *change, const struct migration_said *said)
{
    if (said->report == MIGRATION_REPORT_INSPECTED)
        return true;
    struct model *model = change->migrations->model;
    const struct node *target = sorted_find(&model->nodes, change->next.to);
    return said->report == MIGRATION_REPORT_DUMPED && change->workload && target &&
           (said->evidence || decide_rests_on_look(model, change->workload, target));
}

/* The look has come, or has not where it had to: then nothing was seen. *ret_approved: whether the
 * move may go on after it. */
static int take_look(struct migration_change *change, const struct migration_said *said,
                     bool *ret_approved, struct error *err)
{
    const struct node *target = target_of(change);
    if (change->workload && said->evidence && change_looked(change, said->evidence, err) < 0)
        return -1;
    autofree char *why = xasprintf(
        "the look at the %s workload on node '%s' speaks against the move",
        change->next.state == MIGRATION_PREPARING ? "live" : "stopped", change->next.from);
    *ret_approved =
        target && approved(change, target, said->evidence ? seen_of(change) : NULL, why);
    return 0;
}

/* What a noted report means beside being noted. */
static void note(struct migration_change *change, const struct migration_said *said)
{
    struct move *next = &change->next;
    if (next->state == MIGRATION_COMMITTING && said->report == MIGRATION_REPORT_RUNNING) {
        int64_t downtime_ms = change->now_ms - next->dumping_at_ms;
        next->downtime_ms = downtime_ms > 0 ? downtime_ms : 0;
        change_workload(change, next->to, LIFE_RUNNING, said->pid, -1);
    }
}

static void advance(struct migration_change *change, const struct migration_said *said,
                    enum migration_state to)
{
    const struct workload *workload = change->workload;
    if ((to == MIGRATION_DUMPING || to == MIGRATION_COMMITTING) && !still_approved(change))
        return;
    change_enter(change, to);
    if (!workload)
        return;
    if (said->report == MIGRATION_REPORT_DUMPED)
        change_workload(change, workload->node, LIFE_STOPPED, workload->pid, -1);
    else if (said->report == MIGRATION_REPORT_RESUMED && workload->state == LIFE_STOPPED)
        change_workload(change, workload->node, LIFE_RUNNING,
                        said->pid > 0 ? said->pid : workload->pid, -1);
}

/* The same failure told again, which an agent does until it hears something
 * else. */
static bool same_failure(const struct move *move, const char *node,
                         const struct migration_said *said)
{
    return move->error && said->message &&
           strcmp(json_str(move->error, "message"), said->message) == 0 &&
           strcmp(json_str(move->error, "node"), node) == 0;
}

static int take_failure(struct migrations *migrations, struct move *move, const char *node,
                        const struct migration_said *said, enum migration_state to,
                        struct error *err)
{
    if (to == move->state && same_failure(move, node, said))
        return 0;
    struct migration_change change;
    const char *code = said->code ? said->code : "failed";
    const char *message = said->message ? said->message : "no reason was given";
    change_begin(&change, migrations, move);
    if (to != move->state) {
        abort_for(&change, node, code, message, said->log);
    } else {
        change_error(&change, node, code, message, said->log, false);
        /* The latest failure is the migration's, so that it is recognised when told
         * again. */
        change.error = json_object_new_object();
        json_put_str(change.error, "code", code);
        json_put_str(change.error, "message", message);
        json_put_str(change.error, "node", node);
        json_put_str(change.error, "log", said->log);
    }
    return change_commit(&change, err);
}

static int take_progress(struct migrations *migrations, struct move *move, const char *node,
                         const struct migration_said *said, struct error *err)
{
    int64_t now_ms = clock_monotonic_ms(migrations->model->clock);
    if (now_ms - move->progress_saved_ms < PROGRESS_SAVE_MS)
        return 0;
    struct migration_change change;
    change_begin(&change, migrations, move);
    change.next.progress_saved_ms = now_ms;
    change_report(&change, node, said);
    return change_commit(&change, err);
}

static int take_report(struct migrations *migrations, struct move *move, enum migration_party party,
                       const struct migration_said *said, struct error *err)
{
    const char *node = party == MIGRATION_PARTY_SOURCE ? move->from : move->to;
    enum migration_meaning meaning = MIGRATION_MEANS_REPEAT;
    enum migration_state to = move->state;
    if (migration_judge(move, party, said->report, &meaning, &to, err) < 0)
        return -1;
    if (meaning == MIGRATION_MEANS_REPEAT)
        return 0;
    if (said->report == MIGRATION_REPORT_FAILURE)
        return take_failure(migrations, move, node, said, to, err);
    if (said->report == MIGRATION_REPORT_PROGRESS)
        return take_progress(migrations, move, node, said, err);
    struct migration_change change;
    change_begin(&change, migrations, move);
    if (party == MIGRATION_PARTY_SOURCE)
        change.next.source_report = said->report;
    else
        change.next.target_report = said->report;
    change_report(&change, node, said);
    bool goes_on = true;
    if (look_is_due(&change, said) && take_look(&change, said, &goes_on, err) < 0) {
        change_drop(&change);
        return -1;
    }
    if (goes_on && meaning == MIGRATION_MEANS_MOVE)
        advance(&change, said, to);
    else if (goes_on)
        note(&change, said);
    return change_commit(&change, err);
}

/* A settled migration: a party that did not hear the answer may say its last
 * word again. */
struct settled {
    bool found;
    enum migration_party party;
    const char *node;
};

static int look_settled(void *ctx, const struct store_migration *row, struct error *err)
{
    (void)err;
    struct settled *settled = ctx;
    settled->found = true;
    if (strcmp(row->from, settled->node) == 0)
        settled->party = MIGRATION_PARTY_SOURCE;
    else if (strcmp(row->to, settled->node) == 0)
        settled->party = MIGRATION_PARTY_TARGET;
    return 0;
}

static int report_settled(struct migrations *migrations, const char *id, const char *node,
                          enum migration_report report, struct error *err)
{
    struct settled settled = {.node = node};
    if (store_migrations(migrations->model->store, STORE_MIGRATIONS_BY_ID, id, 1, look_settled,
                         &settled, err) < 0)
        return -1;
    if (!settled.found)
        return error_set(err, ERROR_NOT_FOUND, "no migration '%s'", id);
    if (!settled.party)
        return error_set(err, ERROR_FORBIDDEN, "node '%s' is no party to migration %s", node, id);
    if (!migration_report_fits(report, settled.party))
        return error_set(err, ERROR_INVALID, "migration %s: '%s' is the other party's to report",
                         id, migration_report_name(report));
    return 0;
}

static json_object *assignment_for(struct migrations *migrations, const char *id,
                                   const char *node_name)
{
    struct model *model = migrations->model;
    json_object *found = NULL;
    model_read_lock(model);
    struct node *node = sorted_find(&model->nodes, node_name);
    autojson *all = node ? migrations_assignments(migrations, node) : NULL;
    model_unlock(model);
    json_object *list = json_member(all, "assignments");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(json_str(json_array_item(list, i), "migration"), id) == 0)
            found = json_object_get(json_array_item(list, i));
    return found;
}

int migrations_report(struct migrations *migrations, const char *id, const char *node,
                      const struct migration_said *said, json_object **ret_assignment,
                      struct error *err)
{
    *ret_assignment = NULL;
    WRITER(migrations->model);
    struct move *move = sorted_find(&migrations->model->moves, id);
    if (!move)
        return report_settled(migrations, id, node, said->report, err);
    enum migration_party party = party_of(move, node);
    if (!party)
        return error_set(err, ERROR_FORBIDDEN, "node '%s' is no party to migration %s", node, id);
    if (take_report(migrations, move, party, said, err) < 0)
        return -1;
    *ret_assignment = assignment_for(migrations, id, node);
    return 0;
}

int migrations_cancel(struct migrations *migrations, const char *id, struct error *err)
{
    WRITER(migrations->model);
    struct move *move = sorted_find(&migrations->model->moves, id);
    if (!move || migration_state_is_final(move->state)) {
        autojson *json = NULL;
        if (migration_get(migrations->model->store, id, &json, err) < 0)
            return -1;
        return error_set(err, ERROR_CONFLICT,
                         "migration %s is over (%s); there is nothing to cancel", id,
                         json_str(json, "state"));
    }
    if (move->state == MIGRATION_COMMITTING)
        return error_set(err, ERROR_CONFLICT,
                         "migration %s is committing: '%s' is about to run, or runs, on '%s'; "
                         "there is no way back, move it again instead",
                         id, move->workload, move->to);
    if (move->state == MIGRATION_ABORTING)
        return 0; /* it is on its way out */
    struct migration_change change;
    change_begin(&change, migrations, move);
    change.next.cancelled = true;
    change_enter(&change, MIGRATION_ABORTING);
    return change_commit(&change, err);
}

int migrations_give_up_source(struct migrations *migrations, const char *name, struct error *err)
{
    struct model *model = migrations->model;
    WRITER(model);
    struct node *node = model_node(model, name, err);
    if (!node)
        return -1;
    if (model_node_status(model, node) == NODE_LIVE)
        return 0; /* it will say `killed` by itself */
    for (size_t i = model->moves.count; i-- > 0;) {
        struct move *move = model->moves.items[i];
        if (move->state != MIGRATION_COMMITTING || strcmp(move->from, name) != 0 ||
            move->target_report != MIGRATION_REPORT_RUNNING)
            continue;
        struct migration_change change;
        change_begin(&change, migrations, move);
        change_error(&change, name, "removed",
                     "the source was removed by an operator before it said that its stopped copy "
                     "is gone; if that machine comes back, kill what is left there",
                     NULL, true);
        change_enter(&change, MIGRATION_DONE);
        if (change_commit(&change, err) < 0)
            return -1;
    }
    return 0;
}

int migrations_workload_exited_locked(struct migrations *migrations, struct workload *workload,
                                      int64_t exit_status, struct error *err)
{
    struct move *move = model_move_of(migrations->model, workload->name);
    if (!move || strcmp(move->from, workload->node) != 0 ||
        (move->state != MIGRATION_PREPARING && move->state != MIGRATION_DUMPING &&
         move->state != MIGRATION_ABORTING))
        return 0;
    struct migration_change change;
    change_begin(&change, migrations, move);
    bool was_preparing = move->state == MIGRATION_PREPARING;
    bool was_aborting = move->state == MIGRATION_ABORTING;
    if (!was_aborting) {
        autofree char *message =
            xasprintf("workload '%s' exited on node '%s' (status %" PRId64 ") before it was dumped",
                      move->workload, move->from, exit_status);
        abort_for(&change, move->from, "exited", message, NULL);
    }
    /* While it is dumped the source's agent has hands on it: it reports by
     * itself. */
    if (was_preparing || was_aborting)
        change_enter(&change, move->cancelled ? MIGRATION_CANCELLED : MIGRATION_FAILED);
    change_workload(&change, workload->node, LIFE_EXITED, -1, exit_status);
    return change_commit(&change, err);
}

/* Of which party the state waits; of the target where it waits of both. */
static bool waits_for_source(const struct move *move)
{
    return move->state == MIGRATION_DUMPING ||
           (move->state == MIGRATION_PREPARING && move->target_report == MIGRATION_REPORT_PREPARED);
}

static void expire(struct migrations *migrations, struct move *move)
{
    bool source = waits_for_source(move);
    const char *node = source ? move->from : move->to;
    struct migration_change change;
    struct error err = {0};
    change_begin(&change, migrations, move);
    autofree char *message =
        xasprintf("'%s' did not end in time: node '%s' has "
                  "not reported; workload '%s' goes on "
                  "on node '%s'",
                  migration_state_name(move->state), node, move->workload, move->from);
    abort_for(&change, node, "timeout", message, NULL);
    if (change_commit(&change, &err) == 0)
        return;
    log_error("cannot end a late migration, trying again in 5 s", LOG_STR("error", err.message));
    model_write_lock(migrations->model);
    move->deadline_ms = clock_monotonic_ms(migrations->model->clock) + RETRY_MS;
    model_unlock(migrations->model);
}

int64_t migrations_tick(struct migrations *migrations, int64_t most_ms)
{
    struct model *model = migrations->model;
    WRITER(model);
    int64_t now_ms = clock_monotonic_ms(model->clock);
    int64_t wait_ms = most_ms;
    for (size_t i = model->moves.count; i-- > 0;) {
        struct move *move = model->moves.items[i];
        if (move->deadline_ms <= now_ms)
            expire(migrations, move);
        else if (move->deadline_ms - now_ms < wait_ms)
            wait_ms = move->deadline_ms - now_ms;
    }
    return wait_ms;
}
