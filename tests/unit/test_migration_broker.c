/* SPDX-License-Identifier: Apache-2.0 */
/* test_migration_broker.c - the broker's half of a move: every report in every state, deadlines,
 * cancelling, keys, restarts in the middle, and what becomes of the workload. */
/* clang-format off */
#include "cmocka_test.h"
/* clang-format on */
#include <pthread.h>

#include "broker_fixture.h"
#include "migration.h"

struct site {
    struct fixture *f;
    char source[65], target[65]; /* the agents' tokens */
    char id[64];                 /* of the migration under test */
};

static int set_up(void **state)
{
    struct site *s = xcalloc(1, sizeof(*s));
    s->f = fixture_new();
    fixture_node(s->f, "a", "haswell", s->source);
    fixture_node(s->f, "b", "haswell", s->target);
    fixture_workload(s->f, s->source, "a", "w");
    *state = s;
    return 0;
}

static int tear_down(void **state)
{
    struct site *s = *state;
    fixture_free(s->f);
    free(s);
    return 0;
}

static void begin(struct site *s)
{
    call_expect(s->f, s->f->operator_token, "POST", "/migrate", "{\"workload\":\"w\",\"to\":\"b\"}",
                202);
    snprintf(s->id, sizeof(s->id), "%s", fixture_str(s->f, "migration.id"));
}

/* What `inspected` brings: a look at one process, of which everything is known and nothing is used.
 */
static const char quiet_evidence[] =
    ",\"evidence\":{\"schema\":\"cpubroker.evidence/1\",\"pid\":42,\"at_ms\":1700000000000,"
    "\"complete\":true,\"tasks\":[{\"pid\":42,\"comm\":\"w\",\"threads\":[{\"tid\":42,"
    "\"xstate_bv\":\"0x3\",\"live\":\"0x3\",\"altstack_bytes\":0}],\"amx\":\"no\","
    "\"shadow_stack\":false,\"glibc\":{\"version\":\"2.36\",\"active\":[]},\"isa_needed\":\"x86-64-"
    "v1\","
    "\"isa_used\":\"x86-64-v1\",\"registers_used\":[\"x86\",\"xmm\"],\"unknown\":[]}]}";

/* What an agent reports; the status of the answer. `more` begins with a comma, or is "". */
static int tell(struct site *s, const char *node, const char *report, const char *more)
{
    autofree char *path = xasprintf("/v1/migrations/%s/progress", s->id);
    bool failure = strcmp(report, "failure") == 0;
    autofree char *body =
        xasprintf("{\"node\":\"%s\",\"state\":\"%s\"%s%s}", node, report,
                  *more || strcmp(report, "inspected") != 0 ? more : quiet_evidence,
                  failure ? ",\"error\":{\"code\":\"failed\",\"message\":\"it broke\"}" : "");
    return fixture_call(s->f, *node == 'a' ? s->source : s->target, "POST", path, body);
}

#define tells(s, node, report)                                                   \
    do {                                                                         \
        if (tell((s), (node), (report), "") != 200)                              \
            fail_msg("%s from %s: %s", (report), (node), fixture_error((s)->f)); \
    } while (0)

static const char *state_now(struct site *s)
{
    autofree char *path = xasprintf("/v1/migrations/%s", s->id);
    call_expect(s->f, s->f->viewer_token, "GET", path, NULL, 200);
    return fixture_str(s->f, "state");
}

/* "ROLE ACTION" of the node's only assignment, "" for none. */
static const char *action_now(struct site *s, const char *node)
{
    static char text[64];
    autofree char *path = xasprintf("/v1/nodes/%s/assignments", node);
    call_expect(s->f, *node == 'a' ? s->source : s->target, "GET", path, NULL, 200);
    json_object *list = fixture_member(s->f, "assignments");
    assert_true(json_array_size(list) <= 1);
    snprintf(text, sizeof(text), "%s",
             json_array_size(list) ? json_str(json_array_item(list, 0), "action") : "");
    return text;
}

#define actions(s, of_source, of_target)                        \
    do {                                                        \
        assert_string_equal(action_now((s), "a"), (of_source)); \
        assert_string_equal(action_now((s), "b"), (of_target)); \
    } while (0)

static const char *workload_now(struct site *s)
{
    static char text[64];
    call_expect(s->f, s->f->viewer_token, "GET", "/v1/workloads/w", NULL, 200);
    snprintf(text, sizeof(text), "%s %s", fixture_str(s->f, "node"), fixture_str(s->f, "state"));
    return text;
}

/* The reports that lead into each state, from PREPARING. */
static void drive(struct site *s, enum migration_state to)
{
    begin(s);
    if (to == MIGRATION_ABORTING || to == MIGRATION_FAILED || to == MIGRATION_CANCELLED) {
        if (to == MIGRATION_CANCELLED) {
            autofree char *path = xasprintf("/v1/migrations/%s", s->id);
            call_expect(s->f, s->f->operator_token, "DELETE", path, NULL, 202);
        } else {
            tells(s, "b", "failure");
        }
        if (to != MIGRATION_ABORTING)
            tells(s, "a", "resumed");
        return;
    }
    if (to >= MIGRATION_DUMPING) {
        tells(s, "b", "prepared");
        tells(s, "a", "inspected");
    }
    if (to >= MIGRATION_TRANSFERRING)
        tells(s, "a", "dumped");
    if (to >= MIGRATION_RESTORING)
        tells(s, "b", "received");
    if (to >= MIGRATION_COMMITTING)
        tells(s, "b", "restored");
    if (to == MIGRATION_DONE) {
        tells(s, "b", "running");
        tells(s, "a", "killed");
    }
}

static void a_move_to_its_end(void **state)
{
    struct site *s = *state;
    begin(s);
    actions(s, "inspect", "prepare");
    assert_string_equal(fixture_str(s->f, "assignments.0.workload"), "w");
    assert_string_equal(fixture_str(s->f, "assignments.0.peer.node"), "a");
    assert_string_equal(fixture_str(s->f, "assignments.0.peer.address"), "10.0.0.9:7072");
    assert_int_equal(strlen(fixture_str(s->f, "assignments.0.ticket")), 64);
    assert_string_equal(fixture_str(s->f, "assignments.0.dir"), "/srv/w");
    assert_string_equal(fixture_str(s->f, "assignments.0.command.1"), "1");
    tells(s, "b", "prepared");
    assert_string_equal(fixture_str(s->f, "assignment.action"), "hold");
    actions(s, "inspect", "hold");
    assert_string_equal(state_now(s), "preparing");
    tells(s, "a", "inspected");
    assert_string_equal(fixture_str(s->f, "assignment.action"), "dump");
    actions(s, "dump", "hold");
    s->f->clock.test_ms += 100;
    assert_string_equal(workload_now(s), "a running");
    assert_int_equal(tell(s, "a", "dumped", ",\"bytes\":5,\"total_bytes\":9"), 200);
    assert_string_equal(fixture_str(s->f, "assignment.action"), "send");
    assert_string_equal(workload_now(s), "a stopped");
    actions(s, "send", "hold");
    tells(s, "a", "sent");
    actions(s, "send", "hold");
    tells(s, "b", "received");
    actions(s, "hold", "restore");
    s->f->clock.test_ms += 40;
    tells(s, "b", "restored");
    actions(s, "hold", "run");
    assert_string_equal(workload_now(s), "a stopped");
    s->f->clock.test_ms += 2;
    assert_int_equal(tell(s, "b", "running", ",\"pid\":77"), 200);
    assert_null(fixture_member(s->f, "assignment"));
    assert_string_equal(workload_now(s), "b running");
    assert_int_equal(fixture_int(s->f, "pid"), 77);
    actions(s, "kill", "");
    tells(s, "a", "killed");
    actions(s, "", "");
    assert_string_equal(state_now(s), "done");
    assert_int_equal(fixture_int(s->f, "downtime_ms"), 142);
    assert_int_equal(fixture_int(s->f, "bytes"), 5);
    assert_int_equal(json_array_size(fixture_member(s->f, "phases")), 6);
    assert_int_equal(fixture_int(s->f, "phases.1.duration_ms"), 100);
    assert_null(fixture_member(s->f, "error"));
}

/* P prepared I inspected D dumped S sent V received R restored G running K killed U resumed X
 * discarded F failure. For each state: what each report is answered with, and the state it leads
 * to. */
struct expected {
    enum migration_state state;
    const char *source; /* reports that the source may send here */
    const char *target;
};

static const struct {
    char letter;
    const char *name;
    bool of_source;
} letters[] = {
    {'P', "prepared",  false},
    {'I', "inspected", true },
    {'D', "dumped",    true },
    {'S', "sent",      true },
    {'V', "received",  false},
    {'R', "restored",  false},
    {'G', "running",   false},
    {'K', "killed",    true },
    {'U', "resumed",   true },
    {'X', "discarded", false},
};

/* Those taken in each state that was reached as drive() does: new ones, and repeats of what was
 * said on the way. All others are refused with 409. */
static const struct expected allowed[] = {
    {MIGRATION_PREPARING,    "I",   "P"   },
    {MIGRATION_DUMPING,      "ID",  "P"   },
    {MIGRATION_TRANSFERRING, "IDS", "PV"  },
    {MIGRATION_RESTORING,    "IDS", "PVR" },
    {MIGRATION_COMMITTING,   "IDS", "PVRG"},
    {MIGRATION_ABORTING,     "SU",  "X"   },
    {MIGRATION_FAILED,       "U",   "X"   },
    {MIGRATION_CANCELLED,    "U",   "X"   },
};

static void every_report_in_every_state(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(allowed); i++)
        for (size_t k = 0; k < ARRAY_LEN(letters); k++) {
            void *own = NULL;
            set_up(&own);
            struct site *s = own;
            drive(s, allowed[i].state);
            const char *before = migration_state_name(allowed[i].state);
            assert_string_equal(state_now(s), before);
            const char *list = letters[k].of_source ? allowed[i].source : allowed[i].target;
            bool expected = strchr(list, letters[k].letter) != NULL;
            int status = tell(s, letters[k].of_source ? "a" : "b", letters[k].name, "");
            if (status != (expected ? 200 : 409))
                fail_msg("%s in %s: status %d", letters[k].name, before, status);
            if (!expected) /* refused: nothing has changed */
                assert_string_equal(state_now(s), before);
            /* What is the other party's to say is refused whatever the state. */
            assert_int_equal(tell(s, letters[k].of_source ? "b" : "a", letters[k].name, ""), 400);
            tear_down(&own);
        }
}

static void killed_only_after_running(void **state)
{
    struct site *s = *state;
    drive(s, MIGRATION_COMMITTING);
    assert_int_equal(tell(s, "a", "killed", ""), 409);
    assert_string_equal(state_now(s), "committing");
    tells(s, "b", "running");
    tells(s, "a", "killed");
    /* Those who did not hear the answer say it again. */
    tells(s, "a", "killed");
    assert_null(fixture_member(s->f, "assignment"));
    tells(s, "b", "running");
    assert_string_equal(state_now(s), "done");
}

/* The source's machine never comes back: taking it out of the fleet ends the move. */
static void a_source_that_is_gone_for_good(void **state)
{
    struct site *s = *state;
    static const char running[] = "{\"name\":\"w\",\"state\":\"running\",\"pid\":77}";
    drive(s, MIGRATION_COMMITTING);
    s->f->clock.test_ms += 20000;
    fixture_heartbeat(s->f, s->target, "b", NULL);
    call_expect(s->f, s->f->operator_token, "DELETE", "/v1/nodes/a", NULL, 409); /* the only copy */
    tells(s, "b", "running");
    fixture_heartbeat(s->f, s->source, "a", NULL);
    call_expect(s->f, s->f->operator_token, "DELETE", "/v1/nodes/a", NULL, 409); /* it lives */
    assert_string_equal(state_now(s), "committing");
    s->f->clock.test_ms += 20000;
    fixture_heartbeat(s->f, s->target, "b", running);
    call_expect(s->f, s->f->operator_token, "DELETE", "/v1/nodes/a", NULL, 204);
    assert_string_equal(state_now(s), "done");
    assert_string_equal(fixture_str(s->f, "error.code"), "removed");
    assert_string_equal(workload_now(s), "b running");
    fixture_restart(s->f);
    assert_string_equal(workload_now(s), "b running");
    tells(s, "a", "killed"); /* it is back after all */
}

/* While a move lives the ticket is in the database; afterwards it is nowhere. */
static void a_ticket_dies_with_its_move(void **state)
{
    struct site *s = *state;
    char ticket[65];
    begin(s);
    call_expect(s->f, s->target, "GET", "/v1/nodes/b/assignments", NULL, 200);
    snprintf(ticket, sizeof(ticket), "%s", fixture_str(s->f, "assignments.0.ticket"));
    tells(s, "b", "failure");
    action_now(s, "b");
    assert_string_equal(fixture_str(s->f, "assignments.0.ticket"), ticket);
    tells(s, "a", "resumed");
    for (int i = 0; i < 2; i++) {
        assert_string_equal(action_now(s, "b"), "discard");
        assert_null(fixture_member(s->f, "assignments.0.ticket"));
        fixture_restart(s->f); /* and not in the database either */
    }
}

/* Verdicts are cached, and must not outlive the move that they speak of. */
static void checks_follow_the_move(void **state)
{
    struct site *s = *state;
    static const char question[] = "{\"workload\":\"w\",\"to\":\"b\"}";
    begin(s);
    tells(s, "b", "failure");
    call_expect(s->f, s->f->viewer_token, "POST", "/v1/check", question, 200);
    assert_string_equal(fixture_str(s->f, "reasons.0.code"), "migration_running");
    tells(s, "a", "resumed");
    call_expect(s->f, s->f->viewer_token, "POST", "/v1/check", question, 200);
    assert_string_equal(fixture_str(s->f, "verdict"), "approve");
}

static void a_report_twice_is_one(void **state)
{
    struct site *s = *state;
    static const char *const steps[][2] = {
        {"a", "inspected"},
        {"b", "prepared" },
        {"a", "dumped"   },
        {"a", "sent"     },
        {"b", "received" },
        {"b", "restored" },
        {"b", "running"  }
    };
    begin(s);
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        tells(s, steps[i][0], steps[i][1]);
        json_object *first = json_object_get(fixture_member(s->f, "assignment"));
        struct move *move = sorted_find(&s->f->broker->model->moves, s->id);
        int64_t events = move->last_seq;
        tells(s, steps[i][0], steps[i][1]);
        assert_int_equal(move->last_seq, events);
        autofree char *a = json_text(first);
        autofree char *b = json_text(fixture_member(s->f, "assignment"));
        assert_string_equal(a, b); /* the same answer */
        json_object_put(first);
    }
}

static void failures_before_the_commit_undo(void **state)
{
    (void)state;
    static const enum migration_state from[] = {MIGRATION_PREPARING, MIGRATION_DUMPING,
                                                MIGRATION_TRANSFERRING, MIGRATION_RESTORING};
    static const char *const who[] = {"a", "b"};
    for (size_t i = 0; i < ARRAY_LEN(from); i++)
        for (size_t k = 0; k < ARRAY_LEN(who); k++) {
            void *own = NULL;
            set_up(&own);
            struct site *s = own;
            drive(s, from[i]);
            tells(s, who[k], "failure");
            assert_string_equal(state_now(s), "aborting");
            assert_string_equal(fixture_str(s->f, "error.message"), "it broke");
            assert_string_equal(fixture_str(s->f, "error.node"), who[k]);
            actions(s, "resume", "discard");
            tells(s, "a", "resumed");
            assert_string_equal(state_now(s), "failed");
            assert_string_equal(workload_now(s), "a running");
            assert_null(fixture_member(s->f, "migration"));
            actions(s, "", "discard");
            tells(s, "b", "discarded");
            actions(s, "", "");
            assert_int_equal(s->f->broker->model->moves.count, 0);
            tells(s, "b", "discarded");
            tear_down(&own);
        }
}

static void no_way_back_from_committing(void **state)
{
    struct site *s = *state;
    autofree char *path = NULL;
    drive(s, MIGRATION_COMMITTING);
    tells(s, "b", "failure");
    tells(s, "b", "failure"); /* told again: not another event */
    struct move *move = sorted_find(&s->f->broker->model->moves, s->id);
    int64_t events = move->last_seq;
    tells(s, "b", "failure");
    assert_int_equal(move->last_seq, events);
    assert_string_equal(state_now(s), "committing");
    assert_string_equal(fixture_str(s->f, "error.message"), "it broke");
    actions(s, "hold", "run");
    path = xasprintf("/v1/migrations/%s", s->id);
    call_expect(s->f, s->f->operator_token, "DELETE", path, NULL, 409);
    s->f->clock.test_ms += 100LL * 24 * 3600 * 1000;
    migrations_tick(&s->f->broker->migrations, 1);
    assert_string_equal(state_now(s), "committing");
    tells(s, "b", "running");
    tells(s, "a", "killed");
    assert_string_equal(state_now(s), "done");
}

static void deadlines_undo(void **state)
{
    (void)state;
    static const enum migration_state from[] = {MIGRATION_PREPARING, MIGRATION_DUMPING,
                                                MIGRATION_TRANSFERRING, MIGRATION_RESTORING};
    for (size_t i = 0; i < ARRAY_LEN(from); i++) {
        void *own = NULL;
        set_up(&own);
        struct site *s = own;
        const struct broker_config *c = &s->f->broker->config;
        const uint64_t limits[] = {c->prepare_timeout_ms, c->dump_timeout_ms,
                                   c->transfer_timeout_ms, c->restore_timeout_ms};
        drive(s, from[i]);
        struct migrations *m = &s->f->broker->migrations;
        s->f->clock.test_ms += (int64_t)limits[i] - 1;
        assert_int_equal(migrations_tick(m, 500), 1);
        assert_string_equal(state_now(s), migration_state_name(from[i]));
        s->f->clock.test_ms += 1;
        migrations_tick(m, 500);
        assert_string_equal(state_now(s), "aborting");
        assert_string_equal(fixture_str(s->f, "error.code"), "timeout");
        s->f->clock.test_ms += 100LL * 24 * 3600 * 1000; /* the source is away for long */
        migrations_tick(m, 500);
        assert_string_equal(state_now(s), "aborting");
        tells(s, "a", "resumed");
        assert_string_equal(state_now(s), "failed");
        tear_down(&own);
    }
}

static void cancelled_in_every_state(void **state)
{
    (void)state;
    for (enum migration_state from = MIGRATION_PREPARING; from < MIGRATION_STATE_COUNT; from++) {
        void *own = NULL;
        set_up(&own);
        struct site *s = own;
        drive(s, from);
        bool can = from <= MIGRATION_RESTORING || from == MIGRATION_ABORTING;
        autofree char *path = xasprintf("/v1/migrations/%s", s->id);
        call_expect(s->f, s->f->operator_token, "DELETE", path, NULL, can ? 202 : 409);
        assert_string_equal(state_now(s), can ? "aborting" : migration_state_name(from));
        if (from <= MIGRATION_RESTORING) {
            tells(s, "a", "resumed");
            assert_string_equal(state_now(s), "cancelled");
            assert_string_equal(workload_now(s), "a running");
        }
        tear_down(&own);
    }
}

/* After each step the broker is killed and comes back: it goes on where it was. */
static void restarted_after_every_step(void **state)
{
    struct site *s = *state;
    static const struct {
        const char *node, *report, *state, *source, *target;
    } steps[] = {
        {"b", "prepared",  "preparing",    "inspect", "hold"   },
        {"a", "inspected", "dumping",      "dump",    "hold"   },
        {"a", "dumped",    "transferring", "send",    "hold"   },
        {"b", "received",  "restoring",    "hold",    "restore"},
        {"a", "sent",      "restoring",    "hold",    "restore"},
        {"b", "restored",  "committing",   "hold",    "run"    },
        {"b", "running",   "committing",   "kill",    ""       },
        {"a", "killed",    "done",         "",        ""       },
    };
    begin(s);
    call_expect(s->f, s->target, "GET", "/v1/nodes/b/assignments", NULL, 200);
    autofree char *ticket = xstrdup(fixture_str(s->f, "assignments.0.ticket"));
    fixture_restart(s->f);
    call_expect(s->f, s->target, "GET", "/v1/nodes/b/assignments", NULL, 200);
    assert_string_equal(fixture_str(s->f, "assignments.0.ticket"), ticket);
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        tells(s, steps[i].node, steps[i].report);
        fixture_restart(s->f);
        assert_string_equal(state_now(s), steps[i].state);
        actions(s, steps[i].source, steps[i].target);
        tells(s, steps[i].node, steps[i].report); /* the answer was lost */
        assert_string_equal(state_now(s), steps[i].state);
    }
    assert_string_equal(workload_now(s), "b running");
    assert_int_equal(json_array_size(fixture_member(s->f, "seen")), 2);
}

static void restarted_while_aborting(void **state)
{
    struct site *s = *state;
    drive(s, MIGRATION_RESTORING);
    tells(s, "b", "failure");
    fixture_restart(s->f);
    actions(s, "resume", "discard");
    tells(s, "a", "resumed");
    fixture_restart(s->f);
    assert_string_equal(state_now(s), "failed");
    actions(s, "", "discard");
    tells(s, "b", "discarded");
    fixture_restart(s->f);
    actions(s, "", "");
}

/* The target's ticket has to hold until the image is there. */
static void deadlines_that_agents_are_told(void **state)
{
    struct site *s = *state;
    const struct broker_config *c = &s->f->broker->config;
    const int64_t prepare = (int64_t)c->prepare_timeout_ms, dump = (int64_t)c->dump_timeout_ms;
    const int64_t transfer = (int64_t)c->transfer_timeout_ms, now = s->f->clock.test_ms;
    const struct {
        const char *node, *report; /* before which this is told */
        int64_t source, target;
    } steps[] = {
        {"a", "inspected", now + prepare,                        now + prepare + dump + transfer},
        {"b", "prepared",  now + prepare,                        now + prepare + dump + transfer},
        {"a", "dumped",    now + dump,                           now + dump + transfer          },
        {"b", "received",  now + transfer,                       now + transfer                 },
        {"b", "restored",  now + (int64_t)c->restore_timeout_ms,
         now + (int64_t)c->restore_timeout_ms                                                   },
        {"b", "running",   -1,                                   -1                             },
    };
    begin(s);
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        action_now(s, "a");
        assert_int_equal(fixture_int(s->f, "assignments.0.deadline_at_ms"), steps[i].source);
        action_now(s, "b");
        assert_int_equal(fixture_int(s->f, "assignments.0.deadline_at_ms"), steps[i].target);
        tells(s, steps[i].node, steps[i].report);
    }
}

static void a_restart_gives_the_phase_its_time_again(void **state)
{
    struct site *s = *state;
    drive(s, MIGRATION_DUMPING);
    s->f->clock.test_ms += 100LL * 24 * 3600 * 1000; /* the broker was away */
    fixture_restart(s->f);
    migrations_tick(&s->f->broker->migrations, 500);
    assert_string_equal(state_now(s), "dumping");
    s->f->clock.test_ms += (int64_t)s->f->broker->config.dump_timeout_ms;
    migrations_tick(&s->f->broker->migrations, 500);
    assert_string_equal(state_now(s), "aborting"); /* its time, not more */
}

static void the_ledger_gets_the_target_at_the_commit(void **state)
{
    struct site *s = *state;
    drive(s, MIGRATION_RESTORING);
    workload_now(s);
    assert_int_equal(json_array_size(fixture_member(s->f, "seen")), 1);
    tells(s, "b", "restored");
    workload_now(s);
    assert_int_equal(json_array_size(fixture_member(s->f, "seen")), 2);
    assert_string_equal(fixture_str(s->f, "seen.1.node"), "b");
    assert_string_equal(fixture_str(s->f, "born.node"), "a");
    tells(s, "b", "running");
    tells(s, "a", "killed");
    /* Back again: nothing new to see. */
    call_expect(s->f, s->f->operator_token, "POST", "/migrate", "{\"workload\":\"w\"}", 202);
    assert_string_equal(fixture_str(s->f, "migration.to"), "a");
}

static void keys_make_one_migration(void **state)
{
    struct site *s = *state;
    const char *op = s->f->operator_token;
    static const char with_key[] =
        "{\"workload\":\"w\",\"to\":\"b\",\"idempotency_key\":\"night-1\"}";
    call_expect(s->f, op, "POST", "/migrate", with_key, 202);
    snprintf(s->id, sizeof(s->id), "%s", fixture_str(s->f, "migration.id"));
    call_expect(s->f, op, "POST", "/migrate", with_key, 202);
    assert_string_equal(fixture_str(s->f, "migration.id"), s->id);
    assert_string_equal(fixture_str(s->f, "verdict.verdict"), "approve");
    call_expect(s->f, op, "POST", "/migrate",
                "{\"workload\":\"w\",\"idempotency_key\":\"night-1\"}", 409);
    assert_string_equal(fixture_str(s->f, "error.code"), "conflict");
    call_expect(s->f, op, "POST", "/migrate", "{\"workload\":\"w\",\"to\":\"b\"}", 409);
    assert_string_equal(fixture_str(s->f, "verdict"), "reject");
    assert_string_equal(fixture_str(s->f, "reasons.0.code"), "migration_running");
    fixture_restart(s->f);
    call_expect(s->f, op, "POST", "/migrate", with_key, 202);
    assert_string_equal(fixture_str(s->f, "migration.id"), s->id);
}

struct caller {
    struct migrations *migrations;
    pthread_t thread;
    char id[64];
};

static void *call_with_key(void *arg)
{
    struct caller *caller = arg;
    const struct migrate_request request = {.workload = "w", .key = "same"};
    struct migrate_result result;
    if (migrations_start(caller->migrations, &request, &result, NULL) == 0) {
        snprintf(caller->id, sizeof(caller->id), "%s", json_str(result.migration, "id"));
        migrate_result_done(&result);
    }
    return NULL;
}

static void a_hundred_at_once_with_one_key(void **state)
{
    struct site *s = *state;
    static struct caller callers[100];
    for (size_t i = 0; i < ARRAY_LEN(callers); i++) {
        callers[i] = (struct caller){.migrations = &s->f->broker->migrations};
        assert_int_equal(pthread_create(&callers[i].thread, NULL, call_with_key, &callers[i]), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(callers); i++)
        pthread_join(callers[i].thread, NULL);
    assert_true(*callers[0].id);
    for (size_t i = 1; i < ARRAY_LEN(callers); i++)
        assert_string_equal(callers[i].id, callers[0].id);
    call_expect(s->f, s->f->viewer_token, "GET", "/v1/migrations", NULL, 200);
    assert_int_equal(json_array_size(fixture_member(s->f, "migrations")), 1);
}

static void parties_only(void **state)
{
    struct site *s = *state;
    char other[65];
    fixture_node(s->f, "c", "haswell", other);
    begin(s);
    autofree char *path = xasprintf("/v1/migrations/%s/progress", s->id);
    call_expect(s->f, other, "POST", path, "{\"node\":\"c\",\"state\":\"prepared\"}", 403);
    call_expect(s->f, other, "POST", path, "{\"node\":\"b\",\"state\":\"prepared\"}", 403);
    call_expect(s->f, s->f->operator_token, "POST", path, "{\"node\":\"b\",\"state\":\"prepared\"}",
                403);
    assert_string_equal(state_now(s), "preparing");
}

static void exits_before_the_dump(void **state)
{
    struct site *s = *state;
    static const char exited[] =
        "{\"name\":\"w\",\"state\":\"exited\",\"pid\":null,\"exit_status\":3}";
    begin(s);
    fixture_heartbeat(s->f, s->source, "a", exited);
    assert_string_equal(state_now(s), "failed");
    assert_string_equal(fixture_str(s->f, "error.code"), "exited");
    assert_string_equal(workload_now(s), "a exited");
    assert_int_equal(fixture_int(s->f, "exit_status"), 3);
    actions(s, "", "discard");
    tells(s, "a", "resumed"); /* late, and harmless */
    assert_string_equal(workload_now(s), "a exited");
}

static void exits_while_it_is_dumped(void **state)
{
    struct site *s = *state;
    static const char exited[] =
        "{\"name\":\"w\",\"state\":\"exited\",\"pid\":null,\"exit_status\":137}";
    drive(s, MIGRATION_DUMPING);
    fixture_heartbeat(s->f, s->source, "a", exited);
    assert_string_equal(state_now(s), "aborting");
    actions(s, "resume", "discard"); /* the source's agent has hands on it: it ends that */
    fixture_heartbeat(s->f, s->source, "a", exited);
    assert_string_equal(state_now(s), "failed");
    assert_string_equal(workload_now(s), "a exited");
}

static void what_exited_is_not_resumed(void **state)
{
    struct site *s = *state;
    drive(s, MIGRATION_DUMPING);
    fixture_heartbeat(s->f, s->source, "a",
                      "{\"name\":\"w\",\"state\":\"exited\",\"pid\":null,\"exit_status\":1}");
    tells(s, "a", "resumed");
    assert_string_equal(state_now(s), "failed");
    assert_string_equal(workload_now(s), "a exited");
}

static void heartbeats_do_not_disturb_a_move(void **state)
{
    struct site *s = *state;
    drive(s, MIGRATION_TRANSFERRING);
    static const char stopped[] = "{\"name\":\"w\",\"state\":\"stopped\",\"pid\":42}";
    fixture_heartbeat(s->f, s->source, "a", stopped);
    fixture_heartbeat(s->f, s->target, "b", NULL);
    tells(s, "b", "received");
    fixture_heartbeat(s->f, s->target, "b", stopped);
    tells(s, "b", "restored");
    tells(s, "b", "running");
    assert_string_equal(workload_now(s), "b running");
    fixture_heartbeat(s->f, s->target, "b", stopped); /* made before it ran */
    assert_string_equal(workload_now(s), "b running");
    fixture_heartbeat(s->f, s->target, "b", NULL); /* once is chance */
    assert_string_equal(workload_now(s), "b running");
    fixture_heartbeat(s->f, s->source, "a", stopped); /* not its any more */
    tells(s, "a", "killed");
    fixture_heartbeat(s->f, s->source, "a", NULL);
    assert_string_equal(workload_now(s), "b running");
    fixture_heartbeat(s->f, s->target, "b", NULL);
    assert_string_equal(workload_now(s), "b exited"); /* twice is not */
}

/* The target reports lesser CPUs after the verdict: the move does not go on. */
static void other_cpus_are_judged_again(void **state)
{
    (void)state;
    static const struct {
        enum migration_state from;
        const char *report, *sample, *expected;
    } cases[] = {
        {MIGRATION_PREPARING, "inspected", "lesser-intel", "aborting"  },
        {MIGRATION_PREPARING, "prepared",  "lesser-intel", "aborting"  },
        {MIGRATION_RESTORING, "restored",  "lesser-intel", "aborting"  },
        {MIGRATION_RESTORING, "restored",  "haswell",      "committing"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        void *own = NULL;
        set_up(&own);
        struct site *s = own;
        drive(s, cases[i].from);
        if (strcmp(cases[i].report, "prepared") == 0)
            tells(s, "a", "inspected");
        autofree char *report = fixture_report(cases[i].sample, "b", true);
        char *kernel = strstr(report, "6.1.0");
        assert_non_null(kernel);
        *kernel = '7'; /* the same CPUs are another report, too */
        call_expect(s->f, s->target, "PUT", "/v1/nodes/b/report", report, 200);
        assert_true(json_flag(s->f->reply, "changed"));
        tells(s, strcmp(cases[i].report, "inspected") == 0 ? "a" : "b", cases[i].report);
        assert_string_equal(state_now(s), cases[i].expected);
        if (strcmp(cases[i].expected, "aborting") == 0)
            assert_string_equal(fixture_str(s->f, "error.code"), "rejected");
        tear_down(&own);
    }
}

static void progress_is_kept_now_and_then(void **state)
{
    struct site *s = *state;
    drive(s, MIGRATION_TRANSFERRING);
    struct move *move = sorted_find(&s->f->broker->model->moves, s->id);
    int64_t before = move->last_seq;
    s->f->clock.test_ms += 1000;
    for (int i = 0; i < 20; i++)
        assert_int_equal(tell(s, "a", "progress", ",\"bytes\":7"), 200);
    assert_int_equal(move->last_seq, before + 1);
    s->f->clock.test_ms += 1000;
    assert_int_equal(tell(s, "a", "progress", ",\"bytes\":8"), 200);
    assert_string_equal(state_now(s), "transferring");
    assert_int_equal(fixture_int(s->f, "bytes"), 8);
}

static void a_stream_replays_and_ends(void **state)
{
    struct site *s = *state;
    char buffer[16384];
    begin(s);
    autofree char *path = xasprintf("/v1/migrations/%s/events", s->id);
    call_expect(s->f, s->f->viewer_token, "GET", path, NULL, 200);
    assert_string_equal(s->f->raw.content_type, "text/event-stream");
    struct http_reply stream = s->f->raw;
    s->f->raw = (struct http_reply){0};
    ssize_t n = stream.stream_next(stream.stream, buffer, 10); /* in small pieces */
    assert_int_equal(n, 10);
    while (n > 0)
        n = stream.stream_next(stream.stream, buffer, sizeof(buffer));
    assert_int_equal(n, 0); /* waits */
    tells(s, "b", "failure");
    tells(s, "a", "resumed");
    n = stream.stream_next(stream.stream, buffer, sizeof(buffer) - 1);
    assert_true(n > 0);
    buffer[n] = '\0';
    assert_non_null(strstr(buffer, "event: error\n"));
    assert_non_null(strstr(buffer, "\"state\":\"failed\""));
    assert_null(strstr(buffer, "id: 1\n"));
    assert_int_equal(stream.stream_next(stream.stream, buffer, sizeof(buffer)), -1);
    stream.stream_free(stream.stream);
    free(stream.stream_key);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_move_to_its_end),
        cmocka_unit_test(every_report_in_every_state),
        TEST(killed_only_after_running),
        TEST(a_source_that_is_gone_for_good),
        TEST(a_ticket_dies_with_its_move),
        TEST(checks_follow_the_move),
        TEST(a_report_twice_is_one),
        cmocka_unit_test(failures_before_the_commit_undo),
        TEST(no_way_back_from_committing),
        cmocka_unit_test(deadlines_undo),
        cmocka_unit_test(cancelled_in_every_state),
        TEST(restarted_after_every_step),
        TEST(restarted_while_aborting),
        TEST(deadlines_that_agents_are_told),
        TEST(a_restart_gives_the_phase_its_time_again),
        TEST(the_ledger_gets_the_target_at_the_commit),
        TEST(keys_make_one_migration),
        TEST(a_hundred_at_once_with_one_key),
        TEST(parties_only),
        TEST(exits_before_the_dump),
        TEST(exits_while_it_is_dumped),
        TEST(what_exited_is_not_resumed),
        TEST(heartbeats_do_not_disturb_a_move),
        cmocka_unit_test(other_cpus_are_judged_again),
        TEST(progress_is_kept_now_and_then),
        TEST(a_stream_replays_and_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
