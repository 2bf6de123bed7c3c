/* SPDX-License-Identifier: Apache-2.0 */
/* test_migration_evidence.c - what a look at the live workload does to its move, and to verdicts
 * afterwards: it refuses before anything is frozen, relaxes only where that is allowed and
 * proved, and counts for the processes that were looked at alone. */
/* clang-format off */
#include "cmocka_test.h"
/* clang-format on */
#include "broker_fixture.h"
#include "migration.h"
#include "model_evidence.h"

#define QUESTION "{\"workload\":\"w\",\"to\":\"b\"}"

/* One process of one thread, of which everything is known and which uses nothing. Tests change
 * pieces of this text. */
static const char quiet[] =
    "{\"schema\":\"cpubroker.evidence/1\",\"pid\":42,\"at_ms\":1700000000000,\"complete\":true,"
    "\"tasks\":[{\"pid\":42,\"comm\":\"w\",\"threads\":[{\"tid\":42,\"xstate_bv\":\"0x23\","
    "\"live\":\"0x3\",\"altstack_bytes\":2048}],\"amx\":\"no\",\"shadow_stack\":false,\"glibc\":"
    "{\"version\":\"2.36\",\"active\":[\"sse2\"]},\"isa_needed\":\"x86-64-v2\",\"isa_used\":"
    "\"x86-64-v2\",\"registers_used\":[\"x86\",\"xmm\"],\"unknown\":[]}]}";

static char *replaced(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    if (!at)
        fail_msg("no '%s' in '%s'", from, text);
    return xasprintf("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
}

struct site {
    struct fixture *f;
    char source[65], target[65]; /* the agents' tokens */
    char id[64];                 /* of the migration under test */
};

/* A report of Zen 4 as node `name`'s; `less`: its kernel does not enable AVX-512. `change`, of
 * which every `from` becomes `to`, may be NULL. */
static void report(struct site *s, const char *name, const char *secret, bool less,
                   const char *from, const char *to)
{
    autofree char *whole = fixture_report("zen4", name, true);
    autofree char *path = xasprintf("/v1/nodes/%s/report", name);
    autofree char *text =
        less ? replaced(whole, "0x00000000000002e7", "0x0000000000000207") : xstrdup(whole);
    autofree char *changed = from ? replaced(text, from, to) : xstrdup(text);
    call_expect(s->f, secret, "PUT", path, changed, 200);
}

static void policy(struct site *s, const char *evidence)
{
    autofree char *body = xasprintf("{\"policy\":{\"evidence\":\"%s\"}}", evidence);
    call_expect(s->f, s->f->operator_token, "PUT", "/v1/pools/default", body, 200);
}

static struct site *site_new(bool less)
{
    struct site *s = xcalloc(1, sizeof(*s));
    s->f = fixture_new();
    fixture_node(s->f, "a", "zen4", s->source);
    fixture_node(s->f, "b", "zen4", s->target);
    fixture_workload(s->f, s->source, "a", "w");
    if (less)
        report(s, "b", s->target, true, NULL, NULL);
    return s;
}

static void site_free(struct site *s)
{
    fixture_free(s->f);
    free(s);
}

static int set_up_equal(void **state)
{
    *state = site_new(false);
    return 0;
}

static int set_up_less(void **state)
{
    *state = site_new(true);
    policy(*state, "relax");
    return 0;
}

static int tear_down(void **state)
{
    site_free(*state);
    return 0;
}

static void begin(struct site *s)
{
    call_expect(s->f, s->f->operator_token, "POST", "/migrate", QUESTION, 202);
    snprintf(s->id, sizeof(s->id), "%s", fixture_str(s->f, "migration.id"));
}

static int tell(struct site *s, const char *node, const char *said, const char *more)
{
    autofree char *path = xasprintf("/v1/migrations/%s/progress", s->id);
    autofree char *body = xasprintf("{\"node\":\"%s\",\"state\":\"%s\"%s}", node, said, more);
    return fixture_call(s->f, *node == 'a' ? s->source : s->target, "POST", path, body);
}

#define tells(s, node, said)                                                   \
    do {                                                                       \
        if (tell((s), (node), (said), "") != 200)                              \
            fail_msg("%s from %s: %s", (said), (node), fixture_error((s)->f)); \
    } while (0)

static int shows(struct site *s, const char *node, const char *evidence)
{
    autofree char *more = xasprintf(",\"evidence\":%s", evidence);
    return tell(s, node, "inspected", more);
}

/* The dump of a workload that was looked at again when it was stopped. */
static void dumps(struct site *s, const char *evidence)
{
    autofree char *more = xasprintf(",\"evidence\":%s", evidence);
    if (tell(s, "a", "dumped", more) != 200)
        fail_msg("%s", fixture_error(s->f));
}

static const char *state_now(struct site *s)
{
    autofree char *path = xasprintf("/v1/migrations/%s", s->id);
    call_expect(s->f, s->f->viewer_token, "GET", path, NULL, 200);
    return fixture_str(s->f, "state");
}

static const char *action_now(struct site *s, const char *node)
{
    static char text[64];
    autofree char *path = xasprintf("/v1/nodes/%s/assignments", node);
    call_expect(s->f, *node == 'a' ? s->source : s->target, "GET", path, NULL, 200);
    snprintf(text, sizeof(text), "%s", fixture_str(s->f, "assignments.0.action"));
    return text;
}

/* How many reasons of that code and severity the verdict at `path` of the last reply has. */
static size_t reasons(struct site *s, const char *path, const char *code, const char *severity)
{
    json_object *list = fixture_member(s->f, path);
    size_t count = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_object *reason = json_array_item(list, i);
        count += strcmp(json_str(reason, "code"), code) == 0 &&
                 strcmp(json_str(reason, "severity"), severity) == 0;
    }
    return count;
}

static void check(struct site *s, const char *verdict)
{
    call_expect(s->f, s->f->viewer_token, "POST", "/v1/check", QUESTION, 200);
    if (strcmp(fixture_str(s->f, "verdict"), verdict) != 0)
        fail_msg("expected %s: %s", verdict, s->f->raw.body);
}

/* The move ended in PREPARING, and nobody has touched the workload. */
static void assert_refused(struct site *s, const char *code)
{
    assert_string_equal(state_now(s), "aborting");
    assert_string_equal(fixture_str(s->f, "error.code"), "rejected");
    assert_non_null(strstr(fixture_str(s->f, "error.message"), "nothing was frozen"));
    assert_non_null(strstr(fixture_str(s->f, "error.message"), "'w' runs on on node 'a'"));
    assert_string_equal(fixture_str(s->f, "verdict.verdict"), "reject");
    assert_true(reasons(s, "verdict.reasons", code, "reject") > 0);
    assert_string_equal(fixture_str(s->f, "evidence.schema"), "cpubroker.evidence/1");
    assert_string_equal(action_now(s, "a"), "resume");
    assert_string_equal(action_now(s, "b"), "discard");
    tells(s, "a", "resumed");
    tells(s, "b", "discarded");
    assert_string_equal(state_now(s), "failed");
    assert_null(fixture_member(s->f, "downtime_ms"));
    call_expect(s->f, s->f->viewer_token, "GET", "/v1/workloads/w", NULL, 200);
    assert_string_equal(fixture_str(s->f, "node"), "a");
    assert_string_equal(fixture_str(s->f, "state"), "running");
}

/* ---- both have to have done their part */

static void nothing_is_frozen_before_both(void **state)
{
    static const char *const orders[][2] = {
        {"inspected", "prepared" },
        {"prepared",  "inspected"}
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(orders); i++) {
        struct site *s = site_new(false);
        begin(s);
        for (size_t k = 0; k < 2; k++) {
            assert_string_equal(state_now(s), "preparing");
            bool look = strcmp(orders[i][k], "inspected") == 0;
            assert_int_equal(look ? shows(s, "a", quiet) : tell(s, "b", "prepared", ""), 200);
            assert_string_equal(fixture_str(s->f, "assignment.action"), k == 0 ? "hold"
                                                                        : look ? "dump"
                                                                               : "hold");
            fixture_restart(s->f);
        }
        assert_string_equal(state_now(s), "dumping");
        assert_string_equal(fixture_str(s->f, "verdict.verdict"), "approve");
        assert_string_equal(fixture_str(s->f, "evidence.tasks.0.comm"), "w");
        assert_string_equal(action_now(s, "a"), "dump");
        site_free(s);
    }
}

/* Who has not done his part is named. */
static void the_one_who_is_late_is_named(void **state)
{
    (void)state;
    for (unsigned source_is_late = 0; source_is_late < 2; source_is_late++) {
        struct site *s = site_new(false);
        begin(s);
        assert_int_equal(source_is_late ? tell(s, "b", "prepared", "") : shows(s, "a", quiet), 200);
        s->f->clock.test_ms += (int64_t)s->f->broker->config.prepare_timeout_ms;
        migrations_tick(&s->f->broker->migrations, 500);
        assert_string_equal(state_now(s), "aborting");
        assert_string_equal(fixture_str(s->f, "error.code"), "timeout");
        assert_string_equal(fixture_str(s->f, "error.node"), source_is_late ? "a" : "b");
        site_free(s);
    }
}

static void bad_evidence_is_refused_by_name(void **state)
{
    struct site *s = *state;
    begin(s);
    assert_int_equal(tell(s, "a", "inspected", ""), 400);
    assert_non_null(strstr(fixture_error(s->f), "evidence"));
    autofree char *bad = replaced(quiet, "\"pid\":42,\"at_ms\"", "\"pid\":0,\"at_ms\"");
    assert_int_equal(shows(s, "a", bad), 400);
    assert_non_null(strstr(fixture_error(s->f), "evidence: pid: expected"));
    assert_int_equal(shows(s, "b", quiet), 400); /* the other party's to say */
    tells(s, "b", "prepared");
    assert_string_equal(state_now(s), "preparing");
    assert_null(fixture_member(s->f, "evidence"));
}

/* ---- stricter, in any pool */

static void a_look_refuses_before_anything_is_frozen(void **state)
{
    static const struct {
        const char *from, *to, *code;
        bool frames; /* of the target are larger */
    } cases[] = {
        {"\"amx\":\"no\"", "\"amx\":\"granted\"", "amx_permission",        false},
        {"\"sse2\"",       "\"sse2\",\"fma4\"",   "feature_in_use",        false},
        {"2048",           "2047",                "alternate_stack_small", true },
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        for (unsigned prepared_first = 0; prepared_first < 2; prepared_first++) {
            struct site *s = site_new(false);
            if (cases[i].frames)
                report(s, "b", s->target, false,
                       "\"minsigstksz\":", "\"minsigstksz\":8192,\"was\":");
            begin(s);
            if (prepared_first)
                tells(s, "b", "prepared");
            autofree char *evidence = replaced(quiet, cases[i].from, cases[i].to);
            assert_int_equal(shows(s, "a", evidence), 200);
            assert_string_equal(fixture_str(s->f, "assignment.action"), "resume");
            if (!prepared_first) /* too late */
                assert_int_equal(tell(s, "b", "prepared", ""), 409);
            assert_refused(s, cases[i].code);
            site_free(s);
        }
}

/* The need is what counts where nothing was seen. */
static void a_look_that_failed_keeps_nobody_from_moving(void **state)
{
    struct site *s = *state;
    static const char nothing[] = "{\"schema\":\"cpubroker.evidence/1\",\"pid\":42,\"at_ms\":1,"
                                  "\"complete\":false,\"tasks\":[]}";
    begin(s);
    tells(s, "b", "prepared");
    assert_int_equal(shows(s, "a", nothing), 200);
    assert_string_equal(state_now(s), "dumping");
    assert_int_equal(reasons(s, "verdict.reasons", "evidence_incomplete", "warn"), 1);
}

static void many_reasons_are_told_in_few_words(void **state)
{
    struct site *s = *state;
    begin(s);
    autofree char *mpx = replaced(
        quiet, "\"sse2\"", "\"fma4\",\"xop\",\"tbm\",\"mpx\",\"3dnow\",\"3dnowext\",\"sse2\"");
    assert_int_equal(shows(s, "a", mpx), 200);
    state_now(s);
    size_t all = reasons(s, "verdict.reasons", "feature_in_use", "reject");
    assert_true(all > 4);
    autofree char *rest = xasprintf("; and %zu more reasons; nothing was frozen", all - 4);
    if (!strstr(fixture_str(s->f, "error.message"), rest))
        fail_msg("%s", fixture_str(s->f, "error.message"));
}

/* ---- relaxed, where the pool's policy says so */

static void a_strict_pool_refuses_at_once(void **state)
{
    struct site *s = *state;
    policy(s, "strict");
    call_expect(s->f, s->f->operator_token, "POST", "/migrate", QUESTION, 409);
    assert_true(reasons(s, "reasons", "missing_feature", "reject") > 0);
    assert_int_equal(reasons(s, "reasons", "evidence_awaited", "warn"), 0);
    check(s, "reject");
    assert_int_equal(reasons(s, "reasons", "evidence_awaited", "warn"), 0);
}

static void what_is_provably_unused_is_let_pass(void **state)
{
    struct site *s = *state;
    check(s, "reject"); /* without a look it is strict, and says what one could do */
    size_t lacking = reasons(s, "reasons", "missing_feature", "reject");
    size_t parts = reasons(s, "reasons", "xsave_component_missing", "reject");
    assert_true(lacking > 5 && parts > 0);
    assert_int_equal(reasons(s, "reasons", "evidence_awaited", "warn"), 1);
    call_expect(s->f, s->f->operator_token, "POST", "/migrate",
                "{\"workload\":\"w\",\"to\":\"b\",\"dry_run\":true}", 200);
    assert_string_equal(fixture_str(s->f, "verdict"), "reject");
    call_expect(s->f, s->f->operator_token, "POST", "/migrate",
                "{\"workload\":\"w\",\"dry_run\":true}", 200);
    assert_string_equal(fixture_str(s->f, "reasons.0.code"), "no_target");
    begin(s);
    assert_string_equal(fixture_str(s->f, "verdict.verdict"), "approve");
    assert_int_equal(reasons(s, "verdict.reasons", "evidence_awaited", "warn"), lacking + parts);
    assert_int_equal(reasons(s, "verdict.reasons", "missing_feature", "reject"), 0);
    tells(s, "b", "prepared");
    assert_string_equal(state_now(s), "preparing"); /* never without the look */
    assert_int_equal(shows(s, "a", quiet), 200);
    assert_string_equal(state_now(s), "dumping");
    assert_string_equal(fixture_str(s->f, "verdict.verdict"), "approve");
    assert_int_equal(reasons(s, "verdict.reasons", "feature_unused", "warn"), lacking);
    assert_int_equal(reasons(s, "verdict.reasons", "evidence_awaited", "warn"), 0);
    fixture_restart(s->f);
    dumps(s, quiet);
    tells(s, "b", "received");
    /* Judged again before the commit: by what was seen, too. */
    report(s, "b", s->target, true, "6.12.0-example", "9.12.0-example");
    tells(s, "b", "restored");
    assert_string_equal(state_now(s), "committing");
}

static bool looks_again(struct site *s)
{
    action_now(s, "a");
    return json_object_get_boolean(fixture_member(s->f, "assignments.0.look_again"));
}

/* Between the look and the freezing the workload ran on: what was let pass is proved once more. */
static void what_was_let_pass_is_looked_at_again_when_it_is_stopped(void **state)
{
    static const struct {
        const char *from, *to; /* of the evidence; NULL: it is not shown at all */
        bool goes_on;
    } cases[] = {
        {"2048",                       "2048",                       true },
        {"\"isa_used\":\"x86-64-v2\"", "\"isa_used\":\"x86-64-v4\"", false},
        {"\"0x23\",\"live\":\"0x3\"",  "\"0xe3\",\"live\":\"0xe3\"", false},
        {NULL,                         NULL,                         false},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct site *s = site_new(true);
        policy(s, "relax");
        begin(s);
        tells(s, "b", "prepared");
        assert_int_equal(shows(s, "a", quiet), 200);
        assert_string_equal(state_now(s), "dumping");
        assert_true(looks_again(s));
        autofree char *seen =
            cases[i].from ? replaced(quiet, cases[i].from, cases[i].to) : xstrdup("");
        autofree char *more = cases[i].from ? xasprintf(",\"evidence\":%s", seen) : xstrdup("");
        if (tell(s, "a", "dumped", more) != 200)
            fail_msg("%zu: %s", i, fixture_error(s->f));
        if (cases[i].goes_on) {
            assert_string_equal(fixture_str(s->f, "assignment.action"), "send");
            assert_string_equal(state_now(s), "transferring");
            assert_true(reasons(s, "verdict.reasons", "feature_unused", "warn") > 0);
        } else {
            assert_string_equal(fixture_str(s->f, "assignment.action"), "resume");
            assert_string_equal(state_now(s), "aborting");
            assert_non_null(strstr(fixture_str(s->f, "error.message"), "the stopped workload"));
            assert_string_equal(fixture_str(s->f, "verdict.verdict"), "reject");
            tells(s, "a", "resumed");
            assert_string_equal(state_now(s), "failed");
            call_expect(s->f, s->f->viewer_token, "GET", "/v1/workloads/w", NULL, 200);
            assert_string_equal(fixture_str(s->f, "state"), "running");
        }
        site_free(s);
    }
}

/* Where the need alone approves, nothing stands still for a second look. */
static void a_move_that_rests_on_no_look_takes_none_again(void **state)
{
    struct site *s = *state;
    policy(s, "relax");
    begin(s);
    tells(s, "b", "prepared");
    assert_int_equal(shows(s, "a", quiet), 200);
    assert_false(looks_again(s));
    tells(s, "a", "dumped");
    assert_string_equal(state_now(s), "transferring");
}

static void what_is_not_proved_is_refused(void **state)
{
    static const struct {
        const char *from, *to;
    } cases[] = {
        {"\"isa_used\":\"x86-64-v2\"", "\"isa_used\":null"                                     },
        {"\"isa_used\":\"x86-64-v2\"", "\"isa_used\":\"x86-64-v4\""                            },
        {"\"complete\":true",          "\"complete\":false"                                    },
        {"\"xmm\"",                    "\"xmm\",\"mask\""                                      },
        {"\"sse2\"",                   "\"sse2\",\"avx512f\""                                  },
        {"\"live\":\"0x3\"",           "\"live\":\"0x23\""                                     },
        {"\"tasks\":[{",
         "\"tasks\":[{\"pid\":7,\"comm\":\"x\",\"threads\":[],\"amx\":\"no\",\"unknown\":[]},{"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        void *own = NULL;
        set_up_less(&own);
        struct site *s = own;
        begin(s);
        tells(s, "b", "prepared");
        autofree char *evidence = replaced(quiet, cases[i].from, cases[i].to);
        assert_int_equal(shows(s, "a", evidence), 200);
        assert_refused(s, "missing_feature");
        site_free(s);
    }
}

/* Only this move's own look counts for it; without one (an older broker began it) the need does. */
static void another_moves_look_is_not_its_own(void **state)
{
    struct site *s = *state;
    begin(s);
    tells(s, "b", "prepared");
    assert_int_equal(shows(s, "a", quiet), 200);
    dumps(s, quiet);
    tells(s, "b", "received");
    struct model *model = s->f->broker->model;
    struct workload *w = sorted_find(&model->workloads, "w");
    free(w->evidence->migration);
    w->evidence->migration = xstrdup("m-another");
    report(s, "b", s->target, true, "6.12.0", "9.12.0");
    tells(s, "b", "restored");
    assert_string_equal(state_now(s), "aborting");
    assert_true(reasons(s, "verdict.reasons", "missing_feature", "reject") > 0);
    assert_null(strstr(fixture_str(s->f, "error.message"), "nothing was frozen"));
}

static void a_policy_that_changes_meanwhile_counts(void **state)
{
    struct site *s = *state;
    begin(s);
    tells(s, "b", "prepared");
    policy(s, "strict");
    assert_int_equal(shows(s, "a", quiet), 200);
    assert_refused(s, "missing_feature");
}

/* LZCNT would run as BSR: no look can let that pass, so none is waited for. */
static void what_fails_in_silence_is_never_awaited(void **state)
{
    struct site *s = *state;
    autofree char *text = fixture_report("zen4", "b", true);
    autojson *json = NULL;
    assert_int_equal(json_parse(text, strlen(text), &json, NULL), 0);
    json_object *leaves = json_member(json_array_item(json_member(json, "cpus"), 0), "leaves");
    for (size_t i = 0; i < json_array_size(leaves); i++) {
        json_object *leaf = json_array_item(leaves, i);
        if (strcmp(json_str(leaf, "leaf"), "0x80000001") == 0)
            json_put_hex32(leaf, "ecx",
                           (uint32_t)strtoul(json_str(leaf, "ecx"), NULL, 16) & ~(1U << 5));
    }
    autofree char *changed = json_text(json);
    call_expect(s->f, s->target, "PUT", "/v1/nodes/b/report", changed, 200);
    call_expect(s->f, s->f->operator_token, "POST", "/migrate", QUESTION, 409);
    assert_int_equal(reasons(s, "reasons", "missing_feature", "reject"), 1);
    assert_string_equal(fixture_str(s->f, "reasons.0.feature"), "abm");
    assert_int_equal(reasons(s, "reasons", "evidence_awaited", "warn"), 0);
}

/* Of two targets the one that needs no proof is taken, whatever warnings it has. */
static void a_target_without_doubt_comes_first(void **state)
{
    struct site *s = *state;
    char third[65];
    fixture_node(s->f, "c", "zen4", third);
    autofree char *warned = fixture_report("zen4", "c", true);
    autofree char *without_hint = replaced(warned, "0xf1bf07a9", "0xf1bf05a9"); /* ERMS */
    autofree char *larger =
        replaced(without_hint, "\"minsigstksz\":", "\"minsigstksz\":8192,\"was\":");
    call_expect(s->f, third, "PUT", "/v1/nodes/c/report", larger, 200);
    report(s, "b", s->target, false, "0xf1bf07a9", "0xf1bf06a9"); /* BMI2, and no more */
    call_expect(s->f, s->f->operator_token, "POST", "/migrate", "{\"workload\":\"w\"}", 202);
    assert_string_equal(fixture_str(s->f, "migration.to"), "c");
    assert_int_equal(json_array_size(fixture_member(s->f, "verdict.reasons")), 2);
    autofree char *path = xasprintf("/v1/migrations/%s", fixture_str(s->f, "migration.id"));
    call_expect(s->f, s->f->operator_token, "DELETE", path, NULL, 202);
    snprintf(s->id, sizeof(s->id), "%s", fixture_str(s->f, "id"));
    tells(s, "a", "resumed");
    call_expect(s->f, s->f->operator_token, "DELETE", "/v1/pools/default/nodes/c", NULL, 200);
    call_expect(s->f, s->f->operator_token, "POST", "/migrate", "{\"workload\":\"w\"}", 202);
    assert_string_equal(fixture_str(s->f, "migration.to"), "b");
}

/* ---- verdicts afterwards */

/* A look at the workload, by a move that is cancelled then. */
static void look_at(struct site *s, const char *evidence)
{
    begin(s);
    assert_int_equal(shows(s, "a", evidence), 200);
    autofree char *path = xasprintf("/v1/migrations/%s", s->id);
    if (strcmp(state_now(s), "preparing") == 0)
        call_expect(s->f, s->f->operator_token, "DELETE", path, NULL, 202);
    tells(s, "a", "resumed");
    tells(s, "b", "discarded");
}

static void checks_rest_on_the_latest_look(void **state)
{
    struct site *s = *state;
    check(s, "reject"); /* and is cached */
    check(s, "reject");
    look_at(s, quiet);
    s->f->clock.test_ms += 61000;
    fixture_heartbeat(s->f, s->source, "a", "{\"name\":\"w\",\"state\":\"running\",\"pid\":42}");
    fixture_heartbeat(s->f, s->target, "b", NULL);
    for (unsigned i = 0; i < 2; i++) {
        check(s, "approve");
        assert_true(reasons(s, "reasons", "feature_unused", "warn") > 5);
        assert_string_equal(fixture_str(s->f, "evidence.node"), "a");
        assert_string_equal(fixture_str(s->f, "evidence.migration"), s->id);
        assert_int_equal(fixture_int(s->f, "evidence.age_ms"), 61000);
        call_expect(s->f, s->f->viewer_token, "POST", "/v1/check",
                    "{\"workload\":\"w\",\"to\":[\"b\"]}", 200);
        assert_string_equal(fixture_str(s->f, "targets.0.verdict"), "approve");
        assert_int_equal(fixture_int(s->f, "evidence.age_ms"), 61000);
        call_expect(s->f, s->f->operator_token, "POST", "/migrate",
                    "{\"workload\":\"w\",\"dry_run\":true}", 200);
        assert_string_equal(fixture_str(s->f, "to"), "b");
        assert_int_equal(fixture_int(s->f, "evidence.age_ms"), 61000);
        call_expect(s->f, s->f->viewer_token, "GET", "/v1/workloads/w", NULL, 200);
        assert_true(json_flag(fixture_member(s->f, "evidence"), "counts"));
        assert_int_equal(fixture_int(s->f, "evidence.threads"), 1);
        assert_string_equal(fixture_str(s->f, "evidence.isa_used"), "x86-64-v2");
        fixture_restart(s->f);
        fixture_heartbeat(s->f, s->source, "a",
                          "{\"name\":\"w\",\"state\":\"running\",\"pid\":42}");
        fixture_heartbeat(s->f, s->target, "b", NULL);
    }
    call_expect(s->f, s->f->viewer_token, "POST", "/v1/check", "{\"from\":\"a\",\"to\":\"b\"}",
                200);
    assert_string_equal(fixture_str(s->f, "verdict"), "reject"); /* that is about CPUs alone */
    assert_null(fixture_member(s->f, "evidence"));
}

/* A look that found something stays in the way of checks, and of no new look. */
static void a_look_that_refused_is_remembered(void **state)
{
    struct site *s = *state;
    autofree char *granted = replaced(quiet, "\"amx\":\"no\"", "\"amx\":\"granted\"");
    check(s, "approve");
    look_at(s, granted);
    check(s, "reject");
    assert_int_equal(reasons(s, "reasons", "amx_permission", "reject"), 1);
    begin(s);
}

static void assert_does_not_count(struct site *s)
{
    for (unsigned i = 0; i < 2; i++) {
        check(s, "reject");
        assert_null(fixture_member(s->f, "evidence"));
        assert_true(reasons(s, "reasons", "missing_feature", "reject") > 0);
        call_expect(s->f, s->f->viewer_token, "GET", "/v1/workloads/w", NULL, 200);
        assert_false(json_flag(fixture_member(s->f, "evidence"), "counts"));
        fixture_restart(s->f);
    }
}

static void a_look_at_other_processes_does_not_count(void **state)
{
    (void)state;
    enum change { PID, BOOT, BORN_ANEW, CHANGES };
    static const char other_boot[] =
        "{\"version\":\"0.1.0\",\"boot_id\":\"c\",\"pool\":\"default\",\"free_bytes\":1,"
        "\"workloads\":[{\"name\":\"w\",\"state\":\"running\",\"pid\":42}]}";
    for (int change = 0; change < CHANGES; change++) {
        void *own = NULL;
        set_up_less(&own);
        struct site *s = own;
        look_at(s, quiet);
        check(s, "approve");
        switch ((enum change)change) {
        case PID:
            fixture_heartbeat(s->f, s->source, "a",
                              "{\"name\":\"w\",\"state\":\"running\",\"pid\":43}");
            break;
        case BOOT:
            call_expect(s->f, s->source, "POST", "/v1/nodes/a/heartbeat", other_boot, 200);
            break;
        case BORN_ANEW:
            fixture_heartbeat(s->f, s->source, "a",
                              "{\"name\":\"w\",\"state\":\"exited\",\"exit_status\":0}");
            fixture_workload(s->f, s->source, "a",
                             "w"); /* under the same pid, within the same ms */
            call_expect(s->f, s->f->viewer_token, "GET", "/v1/workloads/w", NULL, 200);
            assert_null(fixture_member(s->f, "evidence"));
            break;
        case CHANGES:
            break;
        }
        assert_does_not_count(s);
        site_free(s);
    }
}

/* There and back again under the same pid: what was seen before is not of these processes. */
static void a_look_before_a_move_does_not_count_afterwards(void **state)
{
    struct site *s = *state;
    begin(s);
    tells(s, "b", "prepared");
    assert_int_equal(shows(s, "a", quiet), 200);
    static const char *const forth[][2] = {
        {"a", "dumped"  },
        {"b", "received"},
        {"b", "restored"},
        {"b", "running" },
        {"a", "killed"  }
    };
    for (size_t i = 0; i < ARRAY_LEN(forth); i++) {
        bool dump = strcmp(forth[i][1], "dumped") == 0;
        autofree char *more =
            xasprintf(",\"pid\":42%s%s", dump ? ",\"evidence\":" : "", dump ? quiet : "");
        assert_int_equal(tell(s, forth[i][0], forth[i][1], more), 200);
    }
    call_expect(s->f, s->f->viewer_token, "GET", "/v1/workloads/w", NULL, 200);
    assert_string_equal(fixture_str(s->f, "node"), "b");
    assert_string_equal(fixture_str(s->f, "evidence.node"), "a"); /* shown, and of no effect */
    assert_false(json_flag(fixture_member(s->f, "evidence"), "counts"));
    /* The move back, with a broker that took no look. */
    struct model *model = s->f->broker->model;
    struct workload *w = sorted_find(&model->workloads, "w");
    assert_int_equal(store_workload_set(model->store, "w", "a", "running", 42, -1, NULL), 0);
    model_write_lock(model);
    model_workload_set(model, w, "a", LIFE_RUNNING, 42, -1);
    model_unlock(model);
    assert_does_not_count(s);
}

#define TEST(f, how) cmocka_unit_test_setup_teardown(f, set_up_##how, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_frozen_before_both),
        cmocka_unit_test(the_one_who_is_late_is_named),
        TEST(bad_evidence_is_refused_by_name, equal),
        cmocka_unit_test(a_look_refuses_before_anything_is_frozen),
        TEST(a_look_that_failed_keeps_nobody_from_moving, equal),
        TEST(many_reasons_are_told_in_few_words, equal),
        TEST(a_strict_pool_refuses_at_once, less),
        TEST(what_is_provably_unused_is_let_pass, less),
        cmocka_unit_test(what_was_let_pass_is_looked_at_again_when_it_is_stopped),
        TEST(a_move_that_rests_on_no_look_takes_none_again, equal),
        cmocka_unit_test(what_is_not_proved_is_refused),
        TEST(another_moves_look_is_not_its_own, less),
        TEST(a_policy_that_changes_meanwhile_counts, less),
        TEST(what_fails_in_silence_is_never_awaited, less),
        TEST(a_target_without_doubt_comes_first, less),
        TEST(checks_rest_on_the_latest_look, less),
        TEST(a_look_that_refused_is_remembered, equal),
        cmocka_unit_test(a_look_at_other_processes_does_not_count),
        TEST(a_look_before_a_move_does_not_count_afterwards, less),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
