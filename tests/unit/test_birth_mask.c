/* SPDX-License-Identifier: Apache-2.0 */
/* test_birth_mask.c - workloads that are born under their pool's mask: what a claim answers, what
 * verdicts judge, and what follows when the mask does not cover all.
 *
 * Node a is a Haswell, b has what a Sandy Bridge has. */
/* clang-format off */
#include "cmocka_test.h"
/* clang-format on */
#include <sqlite3.h>

#include "broker_fixture.h"
#include "prune.h"

#define TO_B "{\"workload\":\"w\",\"to\":\"b\"}"

/* One process of one thread, of which everything is known and which uses nothing. */
static const char quiet[] =
    "{\"schema\":\"cpubroker.evidence/1\",\"pid\":42,\"at_ms\":1700000000000,\"complete\":true,"
    "\"tasks\":[{\"pid\":42,\"comm\":\"w\",\"threads\":[{\"tid\":42,\"xstate_bv\":\"0x23\","
    "\"live\":\"0x3\",\"altstack_bytes\":0,\"signal_frame\":false}],\"amx\":\"no\",\"shadow_"
    "stack\":false,\"glibc\":"
    "{\"version\":\"2.36\",\"active\":[\"sse2\"]},\"isa_needed\":\"x86-64-v1\",\"unknown\":[]}]}";

struct site {
    struct fixture *f;
    char a[65], b[65], c[65]; /* the agents' tokens */
    char id[64];              /* of the latest migration */
};

static const char *token_of(struct site *s, const char *node)
{
    return *node == 'a' ? s->a : *node == 'b' ? s->b : s->c;
}

static int set_up(void **state)
{
    struct site *s = xcalloc(1, sizeof(*s));
    s->f = fixture_new();
    fixture_node(s->f, "a", "haswell", s->a);
    fixture_node(s->f, "b", "lesser-intel", s->b);
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

static char *replaced(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    if (!at)
        fail_msg("no '%s' in '%s'", from, text);
    return xasprintf("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
}

static sqlite3 *open_db(struct fixture *f)
{
    sqlite3 *db = NULL;
    autofree char *path = xasprintf("%s/broker.db", f->dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    return db;
}

static void change_database(struct fixture *f, const char *sql)
{
    sqlite3 *db = open_db(f);
    char *message = NULL;
    if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
        fail_msg("%s: %s", sql, message);
    sqlite3_close(db);
}

static int64_t in_database(struct fixture *f, const char *sql)
{
    sqlite3 *db = open_db(f);
    sqlite3_stmt *stmt = NULL;
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    int64_t value = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    return value;
}

/* ---- what agents say */

static void claim(struct site *s, const char *node, const char *mask)
{
    autofree char *path = xasprintf("/v1/nodes/%s/workloads/w", node);
    autofree char *body =
        xasprintf("{\"pool\":\"default\",\"command\":[\"./w\"],\"mask\":%s}", mask);
    call_expect(s->f, token_of(s, node), "PUT", path, body, 201);
}

/* What the node's agent tells of the workload; `mask` is JSON, NULL: it tells nothing of it. */
static char *held(const char *state, const char *mask)
{
    return xasprintf("{\"name\":\"w\",\"state\":\"%s\",\"pid\":42%s%s}", state,
                     mask ? ",\"mask\":" : "", mask ? mask : "");
}

static void tell_mask(struct site *s, const char *node, const char *mask)
{
    autofree char *text = held("running", mask);
    fixture_heartbeat(s->f, token_of(s, node), node, text);
}

static int64_t epoch_of(struct site *s)
{
    return model_workload(s->f->broker->model, "w", NULL)->epoch;
}

/* `lacks` is JSON. */
static void tell_lacks(struct site *s, const char *node, const char *lacks)
{
    autofree char *mask =
        xasprintf("{\"grade\":\"detour\",\"epoch\":%lld,\"sites\":12,\"lacks\":%s}",
                  (long long)epoch_of(s), lacks);
    tell_mask(s, node, mask);
}

/* Started on a under the mask, of which nothing is lacking. */
static void start_masked(struct site *s)
{
    claim(s, "a", "\"detour\"");
    tell_lacks(s, "a", "{}");
}

static void exits(struct site *s, const char *node)
{
    autofree char *text = held("exited", NULL);
    fixture_heartbeat(s->f, token_of(s, node), node, text);
}

static int tell(struct site *s, const char *node, const char *said, const char *evidence)
{
    autofree char *path = xasprintf("/v1/migrations/%s/progress", s->id);
    autofree char *body = xasprintf("{\"node\":\"%s\",\"state\":\"%s\",\"pid\":42%s%s}", node, said,
                                    evidence ? ",\"evidence\":" : "", evidence ? evidence : "");
    return fixture_call(s->f, token_of(s, node), "POST", path, body);
}

static void says(struct site *s, const char *node, const char *said, const char *evidence)
{
    if (tell(s, node, said, evidence) != 200)
        fail_msg("%s from %s: %s", said, node, fixture_error(s->f));
}

static void begin(struct site *s, const char *to)
{
    autofree char *body = xasprintf("{\"workload\":\"w\",\"to\":\"%s\"}", to);
    call_expect(s->f, s->f->operator_token, "POST", "/migrate", body, 202);
    snprintf(s->id, sizeof(s->id), "%s", fixture_str(s->f, "migration.id"));
}

static void move(struct site *s, const char *from, const char *to)
{
    begin(s, to);
    says(s, to, "prepared", NULL);
    says(s, from, "inspected", quiet);
    says(s, from, "dumped", NULL);
    says(s, from, "sent", NULL);
    says(s, to, "received", NULL);
    says(s, to, "restored", NULL);
    says(s, to, "running", NULL);
    says(s, from, "killed", NULL);
}

/* ---- what is seen of it */

static const struct workload *workload(struct site *s)
{
    return model_workload(s->f->broker->model, "w", NULL);
}

static struct cpu_profile *cpu_of(struct site *s, const char *node)
{
    return model_node(s->f->broker->model, node, NULL)->profile->cpu;
}

static struct cpu_profile *pool_mask(struct site *s)
{
    return model_pool(s->f->broker->model, "default", NULL)->profile;
}

static void check(struct site *s, const char *question, const char *verdict)
{
    call_expect(s->f, s->f->viewer_token, "POST", "/v1/check", question, 200);
    if (strcmp(fixture_str(s->f, "verdict"), verdict) != 0)
        fail_msg("expected %s: %s", verdict, s->f->raw.body);
}

static bool has_reason(struct site *s, const char *path, const char *code, const char *severity)
{
    json_object *list = fixture_member(s->f, path);
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_object *reason = json_array_item(list, i);
        if (strcmp(json_str(reason, "code"), code) == 0 &&
            strcmp(json_str(reason, "severity"), severity) == 0)
            return true;
    }
    return false;
}

static void show(struct site *s)
{
    call_expect(s->f, s->f->viewer_token, "GET", "/v1/workloads/w", NULL, 200);
}

/* Its need is what a process born on a, under the mask of `pool_mask`, can have seen. */
static void assert_holds(struct site *s, const struct cpu_profile *mask)
{
    assert_true(cpu_profile_equal(workload(s)->need, mask));
    show(s);
    assert_true(json_flag(fixture_member(s->f, "mask"), "holds"));
    assert_int_equal(fixture_int(s->f, "need.mask_epoch"), epoch_of(s));
}

static void assert_needs(struct site *s, const struct cpu_profile *a, const struct cpu_profile *b)
{
    AUTO(cpu_profile) joined = cpu_profile_join(a, b);
    assert_true(cpu_profile_equal(workload(s)->need, joined));
    show(s);
    assert_false(json_flag(fixture_member(s->f, "mask"), "holds"));
    assert_null(fixture_member(s->f, "need.mask_epoch"));
}

/* ---- the claim */

static void a_claim_is_answered_with_the_mask_it_is_written_with(void **state)
{
    struct site *s = *state;
    char sha256[65];
    claim(s, "a", "\"detour\"");
    assert_string_equal(fixture_str(s->f, "mask.grade"), "detour");
    assert_int_equal(fixture_int(s->f, "mask.epoch"),
                     model_pool(s->f->broker->model, "default", NULL)->epoch);
    assert_int_equal(fixture_int(s->f, "mask.epoch"), fixture_int(s->f, "workload.epoch"));
    struct cpu_profile *told = NULL;
    assert_int_equal(cpu_profile_from_record(fixture_member(s->f, "mask.profile"), &told, NULL), 0);
    assert_true(cpu_profile_equal(told, pool_mask(s)));
    free(cpu_profile_record(told, sha256));
    cpu_profile_free(told);
    assert_string_equal(fixture_str(s->f, "workload.mask.profile_sha256"), sha256);
    assert_null(fixture_member(s->f, "workload.mask.sites"));
    assert_null(fixture_member(s->f, "workload.mask.lacks"));
    assert_string_equal(fixture_str(s->f, "mask.env.0.name"), "GLIBC_TUNABLES");
    assert_non_null(strstr(fixture_str(s->f, "mask.env.0.value"), "-AVX2"));
    autofree char *ask =
        xasprintf("SELECT count(*) FROM workload JOIN pool_epoch AS e USING (pool, epoch) JOIN"
                  " profile ON sha256 = mask_sha256 WHERE mask_grade = 'detour' AND sha256 = '%s'",
                  sha256);
    assert_int_equal(in_database(s->f, ask), 1);
}

static void what_is_not_masked_is_told_none(void **state)
{
    struct site *s = *state;
    static const char *const off[] = {"\"off\"", "null"};
    for (size_t i = 0; i < ARRAY_LEN(off); i++) {
        claim(s, "a", off[i]);
        assert_null(fixture_member(s->f, "mask"));
        assert_null(fixture_member(s->f, "workload.mask"));
        assert_false(json_flag(fixture_member(s->f, "workload.seen.0"), "masked"));
    }
    tell_mask(s, "a", "{\"grade\":\"detour\",\"epoch\":1,\"lacks\":{\"shared\":1}}");
    show(s);
    assert_null(fixture_member(s->f, "mask"));
    assert_null(fixture_member(s->f, "need.mask_epoch"));
    assert_true(cpu_profile_equal(workload(s)->need, cpu_of(s, "a")));
    check(s, TO_B, "reject");
    assert_null(fixture_member(s->f, "mask"));
}

static void wrong_claims_are_refused_by_name(void **state)
{
    struct site *s = *state;
    static const struct {
        const char *members, *message;
    } cases[] = {
        {"\"mask\":\"steel\"",
         "claim: mask: no grade 'steel', expected one of: off environment detour hardware"                                         },
        {"\"mask\":7",                           "claim: mask: expected a string, not int"                                         },
        {"\"mask\":\"detour\",\"adopted\":true", "claim: mask: expected off, not detour: what"
                                                 " is adopted was born without one"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        autofree char *body =
            xasprintf("{\"pool\":\"default\",\"command\":[],%s}", cases[i].members);
        call_expect(s->f, s->a, "PUT", "/v1/nodes/a/workloads/w", body, 400);
        assert_string_equal(fixture_error(s->f), cases[i].message);
    }
    assert_int_equal(in_database(s->f, "SELECT count(*) FROM workload"), 0);
}

static void wrong_words_are_refused_by_name(void **state)
{
    struct site *s = *state;
    static const struct {
        const char *mask, *message;
    } cases[] = {
        {"7",                                                               "expected an object"       },
        {"{\"epoch\":1}",                                                   "mask: grade"              },
        {"{\"grade\":\"detour\"}",                                          "mask: epoch"              },
        {"{\"grade\":\"x\",\"epoch\":1}",                                   "mask: grade: no grade 'x'"},
        {"{\"grade\":\"detour\",\"epoch\":-1}",                             "epoch: expected 0 or more"},
        {"{\"grade\":\"detour\",\"epoch\":1,\"sites\":-2}",                 "sites: expected 0 or more"},
        {"{\"grade\":\"detour\",\"epoch\":1,\"lacks\":[]}",                 "lacks"                    },
        {"{\"grade\":\"detour\",\"epoch\":1,\"lacks\":{\"shared\":-4}}",
         "mask: lacks: shared: expected 0 or more, not -4"                                             },
        {"{\"grade\":\"detour\",\"epoch\":1,\"lacks\":{\"shared\":\"4\"}}", "mask: lacks: shared"      },
    };
    claim(s, "a", "\"detour\"");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        autofree char *text = held("running", cases[i].mask);
        autofree char *body = xasprintf("{\"workloads\":[%s]}", text);
        call_expect(s->f, s->a, "POST", "/v1/nodes/a/heartbeat", body, 400);
        if (!strstr(fixture_error(s->f), cases[i].message) ||
            !strstr(fixture_error(s->f), "workloads[0]"))
            fail_msg("%s: %s", cases[i].mask, fixture_error(s->f));
    }
    assert_int_equal(workload(s)->mask.sites, -1);
}

/* ---- verdicts */

static void what_was_refused_is_approved_under_the_mask(void **state)
{
    struct site *s = *state;
    claim(s, "a", "\"off\"");
    tell_mask(s, "a", NULL);
    check(s, TO_B, "reject");
    assert_true(has_reason(s, "reasons", "missing_feature", "reject"));
    exits(s, "a");
    start_masked(s);
    check(s, TO_B, "approve");
    assert_false(has_reason(s, "reasons", "missing_feature", "reject"));
    autofree char *sentence =
        xasprintf("masked at birth, epoch %lld, grade detour", (long long)epoch_of(s));
    assert_string_equal(fixture_str(s->f, "mask"), sentence);
    assert_holds(s, pool_mask(s));
    /* A bare pair of nodes is about unmasked processes still. */
    check(s, "{\"from\":\"a\",\"to\":\"b\"}", "reject");
}

static void what_has_not_been_told_is_not_known_to_be_safe(void **state)
{
    struct site *s = *state;
    claim(s, "a", "\"hardware\"");
    tell_mask(s, "a", NULL);
    check(s, TO_B, "reject");
    assert_true(has_reason(s, "reasons", "unknown_state", "reject"));
    assert_false(has_reason(s, "reasons", "missing_feature", "reject"));
    tell_mask(s, "a", "null");
    check(s, TO_B, "reject");
    autofree char *mask =
        xasprintf("{\"grade\":\"hardware\",\"epoch\":%lld}", (long long)epoch_of(s));
    tell_mask(s, "a", mask);
    check(s, TO_B, "approve");
    assert_non_null(strstr(fixture_str(s->f, "mask"), "grade hardware"));
}

static void settings_alone_are_no_promise(void **state)
{
    struct site *s = *state;
    claim(s, "a", "\"environment\"");
    assert_string_equal(fixture_str(s->f, "mask.grade"), "environment");
    autofree char *mask = xasprintf("{\"grade\":\"environment\",\"epoch\":%lld,\"lacks\":{}}",
                                    (long long)epoch_of(s));
    tell_mask(s, "a", mask);
    assert_true(cpu_profile_equal(workload(s)->need, cpu_of(s, "a")));
    check(s, TO_B, "reject");
    assert_true(has_reason(s, "reasons", "missing_feature", "reject"));
    assert_non_null(strstr(fixture_str(s->f, "mask"), "grade environment, which holds nobody"));
    show(s);
    assert_false(json_flag(fixture_member(s->f, "mask"), "holds"));
    assert_null(fixture_member(s->f, "need.mask_epoch"));
}

/* The pool's mask is another by now: the workload keeps its own. */
static void it_keeps_the_mask_it_was_born_under(void **state)
{
    struct site *s = *state;
    start_masked(s);
    AUTO(cpu_profile) born = cpu_profile_ref(pool_mask(s));
    int64_t epoch = epoch_of(s);
    call_expect(s->f, s->f->operator_token, "DELETE", "/v1/pools/default/nodes/b", NULL, 200);
    assert_true(model_pool(s->f->broker->model, "default", NULL)->epoch > epoch);
    assert_holds(s, born);
    assert_int_equal(epoch_of(s), epoch);
    fixture_restart(s->f);
    assert_holds(s, born);
    call_expect(s->f, s->f->operator_token, "PUT", "/v1/pools/default/nodes/b", NULL, 200);
    fixture_heartbeat(s->f, s->b, "b", NULL);
    tell_lacks(s, "a", "{}");
    begin(s, "b");
    call_expect(s->f, s->b, "GET", "/v1/nodes/b/assignments", NULL, 200);
    assert_int_equal(fixture_int(s->f, "assignments.0.mask.epoch"), epoch);
    assert_string_equal(fixture_str(s->f, "assignments.0.mask.grade"), "detour");
    struct cpu_profile *told = NULL;
    assert_int_equal(
        cpu_profile_from_record(fixture_member(s->f, "assignments.0.mask.profile"), &told, NULL),
        0);
    assert_true(cpu_profile_equal(told, born));
    cpu_profile_free(told);
    assert_null(fixture_member(s->f, "assignments.0.mask.env"));
    call_expect(s->f, s->a, "GET", "/v1/nodes/a/assignments", NULL, 200);
    assert_int_equal(fixture_int(s->f, "assignments.0.mask.epoch"), epoch);
}

static void moves_do_not_widen_it(void **state)
{
    struct site *s = *state;
    start_masked(s);
    AUTO(cpu_profile) born = cpu_profile_ref(pool_mask(s));
    move(s, "a", "b");
    assert_holds(s, born);
    assert_string_equal(fixture_str(s->f, "node"), "b");
    assert_int_equal(json_array_size(fixture_member(s->f, "seen")), 2);
    assert_true(json_flag(fixture_member(s->f, "seen.1"), "masked"));
    tell_lacks(s, "b", "{}");
    move(s, "b", "a");
    tell_lacks(s, "a", "{}");
    assert_holds(s, born);
    fixture_restart(s->f);
    assert_holds(s, born);
    assert_int_equal(json_array_size(fixture_member(s->f, "seen")), 2);
    assert_int_equal(fixture_int(s->f, "mask.sites"), 12);
    assert_int_equal(json_object_object_length(fixture_member(s->f, "mask.lacks")), 0);
}

/* It sees nothing of what its node reports; without the mask it would. */
static void another_report_of_its_node_does_not_widen_it(void **state)
{
    struct site *s = *state;
    start_masked(s);
    AUTO(cpu_profile) born = cpu_profile_ref(pool_mask(s));
    autofree char *whole = fixture_report("haswell", "a", true);
    autofree char *less = replaced(whole, "0x000027ab", "0x000007ab");
    call_expect(s->f, s->a, "PUT", "/v1/nodes/a/report", less, 200);
    assert_holds(s, born);
    assert_int_equal(json_array_size(fixture_member(s->f, "seen")), 2);
    AUTO(cpu_profile) then = cpu_profile_ref(cpu_of(s, "a"));
    call_expect(s->f, s->a, "PUT", "/v1/nodes/a/report", whole, 200);
    assert_holds(s, born);
    /* It lacks now, and nobody knows since when. */
    tell_lacks(s, "a", "{\"writable\":1}");
    AUTO(cpu_profile) both = cpu_profile_join(then, cpu_of(s, "a"));
    assert_needs(s, born, both);
    autofree char *more = replaced(whole, "0x000027ab", "0x000827ab"); /* adx */
    call_expect(s->f, s->a, "PUT", "/v1/nodes/a/report", more, 200);
    AUTO(cpu_profile) all = cpu_profile_join(both, cpu_of(s, "a"));
    assert_needs(s, born, all);
}

/* A node gains what another member lacks: whom its mask holds does not find it. */
static void what_its_node_gains_strands_nobody_held(void **state)
{
    struct site *s = *state;
    autofree char *whole = fixture_report("haswell", "a", true);
    autofree char *less = fixture_report("lesser-intel", "a", true);
    for (unsigned held = 2; held-- > 0;) {
        call_expect(s->f, s->a, "PUT", "/v1/nodes/a/report", less, 200);
        claim(s, "a", held ? "\"detour\"" : "\"off\"");
        tell_lacks(s, "a", "{}");
        call_expect(s->f, s->a, "PUT", "/v1/nodes/a/report", whole, 200);
        check(s, TO_B, held ? "approve" : "reject");
        assert_int_equal(in_database(s->f, "SELECT count(*) FROM fleet_event WHERE kind ="
                                           " 'workload_stranded'"),
                         held ? 0 : 1);
        exits(s, "a");
    }
}

/* From the better of two nodes an unmasked workload cannot go back. */
static void no_node_is_an_island_to_whom_is_held(void **state)
{
    struct site *s = *state;
    for (unsigned held = 0; held < 2; held++) {
        claim(s, "b", held ? "\"detour\"" : "\"off\"");
        tell_lacks(s, "b", "{}");
        check(s, "{\"workload\":\"w\",\"to\":\"a\"}", "approve");
        assert_int_equal(has_reason(s, "reasons", "island", "warn"), !held);
        if (held) {
            tell_lacks(s, "b", "{\"shared\":1}");
            check(s, "{\"workload\":\"w\",\"to\":\"a\"}", "approve");
            assert_true(has_reason(s, "reasons", "island", "warn"));
        }
        exits(s, "b");
    }
}

/* ---- lacks */

static void the_first_lack_is_an_exposure(void **state)
{
    struct site *s = *state;
    start_masked(s);
    AUTO(cpu_profile) born = cpu_profile_ref(pool_mask(s));
    tell_lacks(s, "a", "{\"hindered\":0,\"doubtful\":0}");
    assert_holds(s, born);
    tell_lacks(s, "a", "{\"hindered\":4,\"doubtful\":1}");
    for (unsigned start = 0; start < 2; start++) {
        assert_needs(s, born, cpu_of(s, "a"));
        assert_int_equal(json_array_size(fixture_member(s->f, "seen")), 2);
        assert_true(json_flag(fixture_member(s->f, "seen.0"), "masked"));
        assert_false(json_flag(fixture_member(s->f, "seen.1"), "masked"));
        assert_string_equal(fixture_str(s->f, "seen.1.node"), "a");
        assert_int_equal(fixture_int(s->f, "mask.lacks.hindered"), 4);
        assert_int_equal(fixture_int(s->f, "mask.lacks.doubtful"), 1);
        fixture_restart(s->f);
        fixture_heartbeat(s->f, s->b, "b", NULL);
        tell_lacks(s, "a", "{}"); /* what was told stays */
    }
    check(s, TO_B, "reject");
    assert_true(has_reason(s, "reasons", "missing_feature", "reject"));
    call_expect(s->f, s->f->viewer_token, "GET", "/v1/events", NULL, 200);
    json_object *events = fixture_member(s->f, "events"), *stranded = NULL;
    size_t count = 0;
    for (size_t i = 0; i < json_array_size(events); i++)
        if (strcmp(json_str(json_array_item(events, i), "kind"), "workload_stranded") == 0 &&
            ++count)
            stranded = json_member(json_array_item(events, i), "detail");
    assert_int_equal(count, 1);
    assert_string_equal(json_str(stranded, "cause"), "mask");
    assert_string_equal(json_str(json_array_item(json_member(stranded, "members"), 0), "node"),
                        "b");
    assert_int_equal(json_int(stranded, "member_count"), 1);
    assert_false(json_flag(stranded, "fits_elsewhere"));
    check(s, TO_B, "reject");
    autofree char *sentence =
        xasprintf("masked at birth, epoch %lld, grade detour; not all of it is covered (4 hindered,"
                  " 1 doubtful), so it may have seen the CPUs of a",
                  (long long)epoch_of(s));
    assert_string_equal(fixture_str(s->f, "mask"), sentence);
}

/* The need that a lack makes is on the disk what it is in memory. */
static void what_is_written_is_what_is_reckoned(void **state)
{
    struct site *s = *state;
    autofree char *a = fixture_report("zen4", "a", true);
    call_expect(s->f, s->a, "PUT", "/v1/nodes/a/report", a, 200);
    start_masked(s);
    assert_false(cpu_profile_has(pool_mask(s), CPU_FEATURE_XSAVEC));
    tell_lacks(s, "a", "{\"hindered\":4}");
    const struct seen *last = &workload(s)->seen[1];
    assert_false(last->masked);
    autofree char *ask = xasprintf("SELECT count(*) FROM workload_seen WHERE seq = 2 AND NOT masked"
                                   " AND need_sha256 = '%s'",
                                   last->need->sha256);
    assert_int_equal(in_database(s->f, ask), 1);
    fixture_restart(s->f);
    assert_int_equal(in_database(s->f, ask), 1);
}

/* Which features are the mask's, and which the node's that it may have seen. */
static void the_need_tells_what_comes_from_where(void **state)
{
    struct site *s = *state;
    start_masked(s);
    show(s);
    json_object *features = fixture_member(s->f, "need.features");
    for (size_t i = 0; i < json_array_size(features); i++) {
        assert_true(json_flag(json_array_item(features, i), "mask"));
        assert_null(json_member(json_array_item(features, i), "from"));
    }
    tell_lacks(s, "a", "{\"changed\":1}");
    show(s);
    features = fixture_member(s->f, "need.features");
    unsigned found = 0;
    for (size_t i = 0; i < json_array_size(features); i++) {
        json_object *feature = json_array_item(features, i);
        bool avx2 = strcmp(json_str(feature, "name"), "avx2") == 0;
        if (avx2 || strcmp(json_str(feature, "name"), "avx") == 0) {
            assert_int_equal(json_flag(feature, "mask"), !avx2);
            assert_string_equal(json_str(feature, "from"), avx2 ? "a" : "");
            found++;
        }
    }
    assert_int_equal(found, 2);
}

static void a_lack_counts_from_where_it_may_have_begun(void **state)
{
    struct site *s = *state;
    static const struct {
        bool told_on_b, exposed_to_a;
    } cases[] = {
        {true,  false}, /* b's agent said first that nothing lacks */
        {false, true }, /* it may have begun on a, after a's last word */
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        start_masked(s);
        AUTO(cpu_profile) born = cpu_profile_ref(pool_mask(s));
        move(s, "a", "b");
        fixture_restart(s->f);
        if (cases[i].told_on_b)
            tell_lacks(s, "b", "{}");
        tell_lacks(s, "b", "{\"hindered\":1}");
        AUTO(cpu_profile) seen = cases[i].exposed_to_a
                                     ? cpu_profile_join(cpu_of(s, "a"), cpu_of(s, "b"))
                                     : cpu_profile_ref(cpu_of(s, "b"));
        assert_needs(s, born, seen);
        fixture_restart(s->f);
        assert_needs(s, born, seen);
        fixture_heartbeat(s->f, s->a, "a", NULL);
        exits(s, "b");
    }
}

/* Where it was before a word that nothing lacks does not count. */
static void a_lack_goes_back_to_the_last_word(void **state)
{
    struct site *s = *state;
    fixture_node(s->f, "c", "lesser-intel", s->c);
    claim(s, "c", "\"detour\"");
    tell_lacks(s, "c", "{}");
    move(s, "c", "a");
    tell_lacks(s, "a", "{}");
    move(s, "a", "b");
    fixture_restart(s->f);
    assert_false(workload(s)->mask.gap);
    tell_lacks(s, "b", "{\"shared\":1}");
    show(s);
    assert_int_equal(json_array_size(fixture_member(s->f, "seen")), 5);
    assert_string_equal(fixture_str(s->f, "seen.3.node"), "a");
    assert_string_equal(fixture_str(s->f, "seen.4.node"), "b");
}

/* Two moves without a word in between: nobody knows where it began. */
static void a_gap_counts_for_every_node(void **state)
{
    struct site *s = *state;
    fixture_node(s->f, "c", "lesser-intel", s->c);
    start_masked(s);
    AUTO(cpu_profile) born = cpu_profile_ref(pool_mask(s));
    move(s, "a", "b");
    move(s, "b", "c");
    fixture_restart(s->f);
    assert_true(workload(s)->mask.gap);
    tell_lacks(s, "c", "{\"shared\":1}");
    assert_false(workload(s)->mask.gap);
    AUTO(cpu_profile) both = cpu_profile_join(cpu_of(s, "a"), cpu_of(s, "b"));
    AUTO(cpu_profile) all = cpu_profile_join(both, cpu_of(s, "c"));
    assert_needs(s, born, all);
    assert_int_equal(json_array_size(fixture_member(s->f, "seen")), 6);
    fixture_restart(s->f);
    assert_needs(s, born, all);
    assert_false(workload(s)->mask.gap);
}

static void each_node_it_comes_to_counts_then(void **state)
{
    struct site *s = *state;
    fixture_node(s->f, "c", "haswell", s->c);
    start_masked(s);
    move(s, "a", "b");
    tell_lacks(s, "b", "{}");
    AUTO(cpu_profile) born = cpu_profile_ref(pool_mask(s));
    tell_lacks(s, "b", "{\"hindered\":1}");
    assert_needs(s, born, cpu_of(s, "b"));
    move(s, "b", "c");
    AUTO(cpu_profile) seen = cpu_profile_join(cpu_of(s, "b"), cpu_of(s, "c"));
    assert_needs(s, born, seen);
    check(s, TO_B, "reject");
    assert_non_null(strstr(fixture_str(s->f, "mask"), "may have seen the CPUs of b, c"));
}

/* A newer agent's kind is a lack, though nobody here knows what it is. */
static void unknown_lacks_count(void **state)
{
    struct site *s = *state;
    start_masked(s);
    tell_lacks(s, "a", "{\"gone_with_the_wind\":2,\"and_another\":1}");
    show(s);
    assert_int_equal(fixture_int(s->f, "mask.lacks.other"), 3);
    assert_false(json_flag(fixture_member(s->f, "mask"), "holds"));
    check(s, TO_B, "reject");
}

static void another_mask_than_was_claimed_holds_nobody(void **state)
{
    struct site *s = *state;
    static const struct {
        const char *grade;
        int64_t ahead;
        bool holds;
    } cases[] = {
        {"detour",      0, true },
        {"hardware",    0, true }, /* more than was claimed */
        {"environment", 0, false},
        {"off",         0, false},
        {"detour",      1, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        claim(s, "a", "\"detour\"");
        autofree char *mask =
            xasprintf("{\"grade\":\"%s\",\"epoch\":%lld,\"sites\":1,\"lacks\":{}}", cases[i].grade,
                      (long long)(epoch_of(s) + cases[i].ahead));
        tell_mask(s, "a", mask);
        show(s);
        if (json_flag(fixture_member(s->f, "mask"), "holds") != cases[i].holds)
            fail_msg("case %zu: %s", i, s->f->raw.body);
        exits(s, "a");
    }
}

static void who_is_born_anew_begins_anew(void **state)
{
    struct site *s = *state;
    start_masked(s);
    tell_lacks(s, "a", "{\"hindered\":4}");
    int64_t epoch = epoch_of(s);
    exits(s, "a");
    call_expect(s->f, s->f->operator_token, "DELETE", "/v1/pools/default/nodes/b", NULL, 200);
    start_masked(s);
    assert_true(epoch_of(s) > epoch);
    assert_holds(s, pool_mask(s));
    assert_int_equal(json_array_size(fixture_member(s->f, "seen")), 1);
    fixture_restart(s->f);
    assert_holds(s, pool_mask(s));
    /* And the last words of one that has exited are about nothing. */
    autofree char *last =
        held("exited", "{\"grade\":\"off\",\"epoch\":0,\"lacks\":{\"shared\":1}}");
    fixture_heartbeat(s->f, s->a, "a", last);
    assert_holds(s, pool_mask(s));
}

/* Sites come and go with each program that is started; the disk need not follow each time. */
static void sites_alone_are_written_now_and_then(void **state)
{
    struct site *s = *state;
    start_masked(s);
    autofree char *mask =
        xasprintf("{\"grade\":\"detour\",\"epoch\":%lld,\"sites\":99}", (long long)epoch_of(s));
    tell_mask(s, "a", mask);
    assert_int_equal(in_database(s->f, "SELECT mask_sites FROM workload"), 12);
    s->f->clock.test_ms += 61000;
    tell_mask(s, "a", mask);
    assert_int_equal(in_database(s->f, "SELECT mask_sites FROM workload"), 99);
}

/* ---- what the mask hides and does not take away */

#define HAS_PKU  "0x00000000000002e7"
#define LESS_PKU "0x00000000000000e7"

/* a and b become Zen 4; b's kernel does not enable protection keys, so the mask has none. */
static void without_keys(struct site *s)
{
    autofree char *a = fixture_report("zen4", "a", true), *b = fixture_report("zen4", "b", true);
    autofree char *less = replaced(b, HAS_PKU, LESS_PKU);
    call_expect(s->f, s->a, "PUT", "/v1/nodes/a/report", a, 200);
    call_expect(s->f, s->b, "PUT", "/v1/nodes/b/report", less, 200);
    start_masked(s);
    assert_true(cpu_profile_component(cpu_of(s, "a"), 9)->enabled);
    assert_false(cpu_profile_component(workload(s)->need, 9)->enabled);
    check(s, TO_B, "approve");
    assert_true(has_reason(s, "reasons", "evidence_awaited", "warn"));
    begin(s, "b");
    says(s, "b", "prepared", NULL);
}

static const char *state_now(struct site *s)
{
    autofree char *path = xasprintf("/v1/migrations/%s", s->id);
    call_expect(s->f, s->f->viewer_token, "GET", path, NULL, 200);
    return fixture_str(s->f, "state");
}

static void hidden_state_that_is_not_used_may_go(void **state)
{
    struct site *s = *state;
    without_keys(s);
    says(s, "a", "inspected", quiet);
    assert_string_equal(state_now(s), "dumping");
    autofree char *sentence =
        xasprintf("masked at birth, epoch %lld, grade detour", (long long)epoch_of(s));
    assert_string_equal(fixture_str(s->f, "verdict.mask"), sentence);
    call_expect(s->f, s->a, "GET", "/v1/nodes/a/assignments", NULL, 200);
    assert_true(json_flag(fixture_member(s->f, "assignments.0"), "look_again"));
    says(s, "a", "dumped", quiet);
    assert_string_equal(state_now(s), "transferring");
}

static void hidden_state_that_is_used_is_refused(void **state)
{
    struct site *s = *state;
    without_keys(s);
    autofree char *keys =
        replaced(quiet, "\"0x23\",\"live\":\"0x3\"", "\"0x223\",\"live\":\"0x203\"");
    says(s, "a", "inspected", keys);
    assert_string_equal(state_now(s), "aborting");
    assert_true(has_reason(s, "verdict.reasons", "live_state_missing", "reject"));
}

/* A masked process is traced, so that its registers are seen only when it is stopped. */
static void hidden_state_that_is_not_seen_is_refused(void **state)
{
    struct site *s = *state;
    static const char *const changes[][2] = {
        {"\"complete\":true",                        "\"complete\":false"},
        {"\"xstate_bv\":\"0x23\",\"live\":\"0x3\",", ""                  },
    };
    for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
        autofree char *look = replaced(quiet, changes[i][0], changes[i][1]);
        without_keys(s);
        says(s, "a", "inspected", look);
        assert_string_equal(state_now(s), "dumping");
        assert_true(has_reason(s, "verdict.reasons", "evidence_awaited", "warn"));
        says(s, "a", "dumped", look);
        assert_string_equal(state_now(s), "aborting");
        assert_true(has_reason(s, "verdict.reasons", "evidence_incomplete", "reject"));
        says(s, "a", "resumed", NULL);
        says(s, "b", "discarded", NULL);
        exits(s, "a");
    }
}

/* The look before the dump is some milliseconds old when all stand still. */
static void hidden_state_that_is_seen_late_is_seen(void **state)
{
    struct site *s = *state;
    autofree char *look = replaced(quiet, "\"xstate_bv\":\"0x23\",\"live\":\"0x3\",", "");
    without_keys(s);
    says(s, "a", "inspected", look);
    says(s, "a", "dumped", quiet);
    assert_string_equal(state_now(s), "transferring");
}

/* b's signal frames have no keys in them and are smaller, so it would take back less of one. */
static void nobody_goes_who_is_within_a_handler(void **state)
{
    struct site *s = *state;
    static const struct {
        const char *frame, *code;
    } cases[] = {
        {"\"signal_frame\":true", "signal_frame_larger"},
        {"\"signal_frame\":null", "evidence_incomplete"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        autofree char *look = replaced(quiet, "\"signal_frame\":false", cases[i].frame);
        without_keys(s);
        says(s, "a", "inspected", look); /* it may be out of it by then */
        assert_string_equal(state_now(s), "dumping");
        assert_true(has_reason(s, "verdict.reasons", "evidence_awaited", "warn"));
        says(s, "a", "dumped", look);
        assert_string_equal(state_now(s), "aborting");
        assert_true(has_reason(s, "verdict.reasons", cases[i].code, "reject"));
        says(s, "a", "resumed", NULL);
        says(s, "b", "discarded", NULL);
        exits(s, "a");
    }
    without_keys(s);
    autofree char *look = replaced(quiet, "\"signal_frame\":false", cases[0].frame);
    says(s, "a", "inspected", look);
    says(s, "a", "dumped", quiet);
    assert_string_equal(state_now(s), "transferring");
}

static void hidden_state_is_looked_at_again_when_all_is_stopped(void **state)
{
    struct site *s = *state;
    without_keys(s);
    says(s, "a", "inspected", quiet);
    says(s, "a", "dumped", NULL); /* and does not show what it has now */
    assert_string_equal(state_now(s), "aborting");
    assert_true(has_reason(s, "verdict.reasons", "evidence_incomplete", "reject"));
}

/* ---- vendors: no mask hides them where they mix */

static void the_vendor_is_its_node(void **state)
{
    struct site *s = *state;
    call_expect(s->f, s->f->operator_token, "PUT", "/v1/pools/default",
                "{\"policy\":{\"mix_vendors\":true}}", 200);
    autofree char *amd = fixture_report("lesser-amd", "b", true);
    call_expect(s->f, s->b, "PUT", "/v1/nodes/b/report", amd, 200);
    start_masked(s);
    assert_string_equal(cpu_profile_vendor(pool_mask(s)), "");
    assert_string_equal(cpu_profile_vendor(workload(s)->need), "GenuineIntel");
    check(s, TO_B, "approve");
    assert_true(has_reason(s, "reasons", "vendor_differs", "warn"));
    call_expect(s->f, s->f->operator_token, "PUT", "/v1/pools/default",
                "{\"policy\":{\"mix_vendors\":false}}", 200);
    check(s, TO_B, "reject");
    assert_true(has_reason(s, "reasons", "vendor_differs", "reject"));
    fixture_restart(s->f);
    assert_string_equal(cpu_profile_vendor(workload(s)->need), "GenuineIntel");
}

/* ---- the database */

static void a_mask_that_cannot_be_read_holds_nobody(void **state)
{
    struct site *s = *state;
    static const char *const damage[] = {
        "DROP TRIGGER profile_is_immutable; UPDATE profile SET json = '{\"x\":1}' WHERE sha256 ="
        " (SELECT mask_sha256 FROM workload)",
        "UPDATE workload SET mask_lacks = '{\"hindered\":'",
    };
    for (size_t i = ARRAY_LEN(damage); i-- > 0;) {
        start_masked(s);
        AUTO(cpu_profile) born = cpu_profile_ref(pool_mask(s));
        change_database(s->f, damage[i]);
        fixture_restart(s->f);
        show(s);
        assert_false(json_flag(fixture_member(s->f, "mask"), "holds"));
        assert_null(fixture_member(s->f, "need.mask_epoch"));
        fixture_heartbeat(s->f, s->b, "b", NULL);
        tell_lacks(s, "a", "{}");
        check(s, TO_B, "reject");
        assert_true(has_reason(s, "reasons", "missing_feature", "reject"));
        fixture_restart(s->f);
        assert_true(cpu_profile_has(workload(s)->need, CPU_FEATURE_AVX2));
        assert_false(cpu_profile_has(born, CPU_FEATURE_AVX2));
        exits(s, "a");
    }
}

/* A later version may know more of a profile, and an earlier one less: what it writes is another
 * text, and the old one is no damage. */
static void a_mask_of_another_version_holds(void **state)
{
    struct site *s = *state;
    char sha256[65];
    start_masked(s);
    AUTO(cpu_profile) born = cpu_profile_ref(pool_mask(s));
    autojson *json = cpu_profile_record_json(born);
    json_put_str(json, "a_member_to_come", "1");
    autofree char *text = json_canonical(json);
    sha256_hex(text, strlen(text), sha256);
    autofree char *sql = xasprintf("INSERT INTO profile VALUES ('%s', '%s', 1);"
                                   "UPDATE workload SET mask_sha256 = '%s'",
                                   sha256, text, sha256);
    change_database(s->f, sql);
    fixture_restart(s->f);
    assert_holds(s, born);
}

static void the_mask_outlives_old_history(void **state)
{
    struct site *s = *state;
    autofree char *amd = fixture_report("lesser-amd", "b", true);
    call_expect(s->f, s->b, "PUT", "/v1/nodes/b/report", amd, 200);
    start_masked(s); /* and has a vendor: its need is another record */
    call_expect(s->f, s->f->operator_token, "DELETE", "/v1/pools/default/nodes/b", NULL, 200);
    struct prune prune = {.store = s->f->broker->store};
    for (bool round = false; !round;)
        assert_int_equal(prune_step(&prune, FIXTURE_START_MS + 1000, &round, NULL), 0);
    assert_int_equal(in_database(s->f, "SELECT count(*) FROM workload JOIN profile ON sha256 ="
                                       " mask_sha256"),
                     1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_claim_is_answered_with_the_mask_it_is_written_with),
        TEST(what_is_not_masked_is_told_none),
        TEST(wrong_claims_are_refused_by_name),
        TEST(wrong_words_are_refused_by_name),
        TEST(what_was_refused_is_approved_under_the_mask),
        TEST(what_has_not_been_told_is_not_known_to_be_safe),
        TEST(settings_alone_are_no_promise),
        TEST(it_keeps_the_mask_it_was_born_under),
        TEST(moves_do_not_widen_it),
        TEST(another_report_of_its_node_does_not_widen_it),
        TEST(what_its_node_gains_strands_nobody_held),
        TEST(no_node_is_an_island_to_whom_is_held),
        TEST(the_first_lack_is_an_exposure),
        TEST(what_is_written_is_what_is_reckoned),
        TEST(the_need_tells_what_comes_from_where),
        TEST(a_lack_counts_from_where_it_may_have_begun),
        TEST(a_lack_goes_back_to_the_last_word),
        TEST(a_gap_counts_for_every_node),
        TEST(each_node_it_comes_to_counts_then),
        TEST(unknown_lacks_count),
        TEST(another_mask_than_was_claimed_holds_nobody),
        TEST(who_is_born_anew_begins_anew),
        TEST(sites_alone_are_written_now_and_then),
        TEST(hidden_state_that_is_not_used_may_go),
        TEST(hidden_state_that_is_used_is_refused),
        TEST(hidden_state_that_is_not_seen_is_refused),
        TEST(hidden_state_that_is_seen_late_is_seen),
        TEST(nobody_goes_who_is_within_a_handler),
        TEST(hidden_state_is_looked_at_again_when_all_is_stopped),
        TEST(the_vendor_is_its_node),
        TEST(a_mask_that_cannot_be_read_holds_nobody),
        TEST(a_mask_of_another_version_holds),
        TEST(the_mask_outlives_old_history),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
