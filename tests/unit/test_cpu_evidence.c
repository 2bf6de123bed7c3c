/* SPDX-License-Identifier: Apache-2.0 */
/* test_cpu_evidence.c - evidence on the wire: whole, bounded, and refused by name. */
#include <stdio.h>
#include <string.h>

#include "cmocka_test.h"
#include "cpu_evidence.h"

/* A task in full, as the agent would send it. */
#define TASK                                                                                \
    "{\"pid\":7,\"comm\":\"web\",\"threads\":[{\"tid\":7,\"xstate_bv\":\"0xe7\",\"live\":"  \
    "\"0xa2\","                                                                             \
    "\"altstack_bytes\":8192},{\"tid\":9,\"xstate_bv\":null,\"live\":null,"                 \
    "\"altstack_bytes\":null}],\"amx\":\"no\",\"shadow_stack\":false,\"minsigstksz\":3632," \
    "\"glibc\":{\"version\":\"2.36\",\"active\":[\"avx2\",\"sse2\"]},"                      \
    "\"glibc_tunables\":null,\"isa_needed\":\"x86-64-v2\",\"isa_used\":\"x86-64-v3\","      \
    "\"registers_used\":[\"xmm\",\"ymm\"],\"unmarked_code\":null,\"protection\":[\"ibt\"]," \
    "\"vsyscall\":true,\"unknown\":[\"xstate_bv: thread 9 is traced\"]}"
#define EVIDENCE(tasks)                                                                         \
    "{\"schema\":\"cpubroker.evidence/1\",\"pid\":7,\"at_ms\":1700000000000,\"complete\":true," \
    "\"tasks\":[" tasks "]}"

static int parse(const char *text, struct cpu_evidence **ret, struct error *err)
{
    autojson *json = NULL;
    assert_int_equal(json_parse(text, strlen(text), &json, err), 0);
    return cpu_evidence_parse(json, ret, err);
}

static struct cpu_evidence *parsed(const char *text)
{
    struct cpu_evidence *evidence = NULL;
    struct error err = {0};
    if (parse(text, &evidence, &err) < 0)
        fail_msg("%s", err.message);
    return evidence;
}

static bool is_active(const uint32_t *active, enum cpu_feature_id id)
{
    return active[cpu_features[id].word] >> cpu_features[id].bit & 1;
}

static void every_member_is_read(void **state)
{
    (void)state;
    AUTO(cpu_evidence) e = parsed(EVIDENCE(TASK));
    assert_int_equal(e->pid, 7);
    assert_int_equal(e->at_ms, 1700000000000);
    assert_true(e->complete);
    assert_int_equal(e->task_count, 1);
    const struct cpu_evidence_task *t = &e->tasks[0];
    assert_string_equal(t->comm, "web");
    assert_int_equal(t->thread_count, 2);
    assert_true(t->threads[0].state_known);
    assert_int_equal(t->threads[0].xstate_bv, 0xe7);
    assert_int_equal(t->threads[0].live, 0xa2);
    assert_int_equal(t->threads[0].altstack_bytes, 8192);
    assert_false(t->threads[1].state_known);
    assert_int_equal(t->threads[1].altstack_bytes, -1);
    assert_int_equal(t->amx, CPU_AMX_NO);
    assert_int_equal(t->shadow_stack, 0);
    assert_int_equal(t->minsigstksz, 3632);
    assert_true(t->glibc_known);
    assert_string_equal(t->glibc_version, "2.36");
    assert_true(is_active(t->active, CPU_FEATURE_AVX2));
    assert_false(is_active(t->active, CPU_FEATURE_AVX512F));
    assert_null(t->glibc_tunables);
    assert_int_equal(t->isa_needed, 2);
    assert_true(t->code_marked);
    assert_int_equal(t->isa_used, 3);
    assert_int_equal(t->registers, CPU_CODE_XMM | CPU_CODE_YMM);
    assert_int_equal(t->protection, CPU_FEATURE_1_IBT);
    assert_true(t->vsyscall);
    assert_int_equal(t->unknown_count, 1);
    assert_string_equal(t->unknown[0], "xstate_bv: thread 9 is traced");
}

static void written_again_it_is_the_same(void **state)
{
    (void)state;
    AUTO(cpu_evidence) first = parsed(EVIDENCE(TASK));
    autojson *json = cpu_evidence_to_json(first);
    autofree char *text = json_canonical(json);
    AUTO(cpu_evidence) second = parsed(text);
    autojson *again = cpu_evidence_to_json(second);
    autofree char *text_again = json_canonical(again);
    assert_string_equal(text, text_again);
    assert_string_equal(json_str(json, "schema"), "cpubroker.evidence/1");
    json_object *task = json_array_item(json_member(json, "tasks"), 0);
    json_object *thread = json_array_item(json_member(task, "threads"), 1);
    assert_null(json_member(thread, "xstate_bv"));
    assert_null(json_member(thread, "altstack_bytes"));
    assert_string_equal(json_str(task, "amx"), "no");
}

static void the_summary_is_of_all(void **state)
{
    (void)state;
    AUTO(cpu_evidence) e = parsed(
        EVIDENCE(TASK ",{\"pid\":8,\"comm\":\"b\",\"threads\":[{\"tid\":8,\"xstate_bv\":\"0x200\","
                      "\"live\":\"0x0\",\"altstack_bytes\":4096}],\"amx\":\"unknown\","
                      "\"shadow_stack\":null,\"glibc\":null,\"unknown\":[]}"));
    struct cpu_evidence_summary s;
    cpu_evidence_summarize(e, &s);
    assert_false(s.state_known);
    assert_int_equal(s.xstate_bv, 0x2e7);
    assert_int_equal(s.live, 0xa2);
    assert_false(s.active_known);
    assert_true(is_active(s.active, CPU_FEATURE_AVX2));
    assert_int_equal(s.amx, CPU_AMX_UNKNOWN);
    assert_int_equal(s.shadow_stack, -1);
    assert_false(s.altstack_known);
    assert_int_equal(s.smallest_altstack_bytes, 4096);
    assert_int_equal(s.isa_needed, 2);
    autojson *json = cpu_evidence_to_json(e);
    json_object *summary = json_member(json, "summary");
    assert_null(json_member(summary, "features_active"));
    assert_string_equal(json_str(summary, "amx"), "unknown");
    assert_string_equal(json_item_str(json_member(summary, "unknown"), 0),
                        "process 7 (web): xstate_bv: thread 9 is traced");
}

static void one_unknown_process_hides_what_is_active(void **state)
{
    (void)state;
    for (unsigned unknown = 0; unknown < 3; unknown++) {
        struct cpu_evidence e = {0};
        struct cpu_evidence_summary s;
        for (unsigned i = 0; i < 3; i++)
            cpu_evidence_add_task(&e, 1, "x")->glibc_known = i != unknown;
        cpu_evidence_summarize(&e, &s);
        assert_false(s.active_known);
        e.tasks[unknown].glibc_known = true;
        cpu_evidence_summarize(&e, &s);
        assert_true(s.active_known);
        cpu_evidence_done(&e);
    }
}

/* One process that has it decides, wherever it stands among those of which nothing is known. */
static void one_grant_decides(void **state)
{
    (void)state;
    static const char *const orders[] = {"granted unknown no", "no unknown granted",
                                         "unknown granted no"};
    for (size_t i = 0; i < ARRAY_LEN(orders); i++) {
        struct cpu_evidence e = {0};
        char first[16], second[16], third[16];
        sscanf(orders[i], "%15s %15s %15s", first, second, third);
        const char *const names[] = {first, second, third};
        for (size_t k = 0; k < 3; k++) {
            struct cpu_evidence_task *t = cpu_evidence_add_task(&e, 1, "x");
            t->amx = *names[k] == 'g'   ? CPU_AMX_GRANTED
                     : *names[k] == 'n' ? CPU_AMX_NO
                                        : CPU_AMX_UNKNOWN;
            t->shadow_stack = *names[k] == 'g' ? 1 : *names[k] == 'n' ? 0 : -1;
        }
        struct cpu_evidence_summary s;
        cpu_evidence_summarize(&e, &s);
        assert_int_equal(s.amx, CPU_AMX_GRANTED);
        assert_int_equal(s.shadow_stack, 1);
        cpu_evidence_done(&e);
    }
}

static void nothing_seen_is_nothing_known(void **state)
{
    (void)state;
    struct cpu_evidence e = {0};
    struct cpu_evidence_summary s;
    cpu_evidence_summarize(&e, &s);
    assert_false(s.state_known);
    assert_false(s.active_known);
    assert_int_equal(s.amx, CPU_AMX_UNKNOWN);
    assert_int_equal(s.shadow_stack, -1);
    cpu_evidence_add_task(&e, 1, "x"); /* without a thread */
    cpu_evidence_summarize(&e, &s);
    assert_false(s.state_known);
    assert_false(s.altstack_known);
    cpu_evidence_done(&e);
}

/* What a newer agent knows and this registry does not must not pass for inactive or unused. */
static void names_from_the_future_are_unknown(void **state)
{
    (void)state;
    AUTO(cpu_evidence) e = parsed(
        EVIDENCE("{\"pid\":7,\"comm\":\"a\",\"threads\":[],\"amx\":\"no\",\"glibc\":{\"version\":"
                 "null,\"active\":[\"avx9000\"]},\"isa_used\":\"x86-64-v1\","
                 "\"registers_used\":[\"qmm\"],\"unknown\":[],\"news\":1}"));
    assert_false(e->tasks[0].glibc_known);
    assert_false(e->tasks[0].code_marked);
    assert_non_null(strstr(e->tasks[0].unknown[0], "avx9000"));
}

static void bad_messages_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *message;
    } cases[] = {
        {"evidence/1",              "evidence/2",                              "evidence: schema: expected \"cpubroker.evidence/1\""      },
        {"\"at_ms\":1700000000000", "\"at_ms\":-1",                            "evidence: at_ms: expected an integer 0"                   },
        {"\"complete\":true",       "\"complete\":1",                          "evidence: complete: expected true or false"               },
        {"\"comm\":\"web\"",        "\"comm\":5",                              "evidence: tasks[0]: comm: expected a string"              },
        {"\"pid\":7,\"comm\"",      "\"pid\":0,\"comm\"",                      "evidence: tasks[0]: pid: expected"                        },
        {"\"tid\":9",               "\"tid\":-9",                              "evidence: tasks[0].threads[1]: tid: expected"             },
        {"0xe7",                    "e7",                                      "evidence: tasks[0].threads[0]: xstate_bv: expected \"0x\""},
        {"\"live\":\"0xa2\"",       "\"live\":null",
         "evidence: tasks[0].threads[0]: xstate_bv and live: expected both"                                                               },
        {"\"live\":\"0xa2\"",       "\"live\":\"0x100\"",
         "evidence: tasks[0].threads[0]: live: expected no bit"                                                                           },
        {"\"altstack_bytes\":8192", "\"altstack_bytes\":-1",
         "evidence: tasks[0].threads[0]: altstack_bytes: expected an integer 0"                                                           },
        {"\"altstack_bytes\":8192", "\"altstack_bytes\":8192,\"alike\":-1",
         "evidence: tasks[0].threads[0]: alike: expected an integer 0"                                                                    },
        {"\"altstack_bytes\":8192", "\"altstack_bytes\":8192,\"alike\":65537",
         "evidence: tasks[0].threads[0]: alike: expected an integer 0..65536"                                                             },
        {"\"amx\":\"no\"",          "\"amx\":\"nope\"",
         "evidence: tasks[0]: amx: expected no, granted or unknown, not 'nope'"                                                           },
        {"\"minsigstksz\":3632",    "\"minsigstksz\":-2",                      "evidence: tasks[0]: minsigstksz:"                         },
        {"\"shadow_stack\":false",  "\"shadow_stack\":0",
         "evidence: tasks[0]: shadow_stack: expected true or false"                                                                       },
        {"x86-64-v2",               "x86-64-v5",
         "evidence: tasks[0]: isa_needed: expected x86-64-v1 to x86-64-v4, not 'x86-64-v5'"                                               },
        {"[\"xmm\",\"ymm\"]",       "7",                                       "evidence: tasks[0]: registers_used: expected an array"    },
        {"[\"avx2\",\"sse2\"]",     "null",                                    "evidence: tasks[0].glibc: active: missing"                },
        {"\"2.36\"",                "236",                                     "evidence: tasks[0].glibc: version: expected a string"     },
        {"\"unknown\":[\"",         "\"unseen\":[\"",                          "evidence: tasks[0]: unknown: missing"                     },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        static const char good[] = EVIDENCE(TASK);
        const char *at = strstr(good, cases[i].from);
        assert_non_null(at);
        autofree char *bad =
            xasprintf("%.*s%s%s", (int)(at - good), good, cases[i].to, at + strlen(cases[i].from));
        struct cpu_evidence *e = NULL;
        struct error err = {0};
        if (parse(bad, &e, &err) == 0)
            fail_msg("accepted: %s", cases[i].to);
        assert_null(e);
        assert_int_equal(err.kind, ERROR_INVALID);
        if (strncmp(err.message, cases[i].message, strlen(cases[i].message)) != 0)
            fail_msg("'%s' does not begin with '%s'", err.message, cases[i].message);
    }
}

static void sizes_are_bounded(void **state)
{
    (void)state;
    autojson *json = json_object_new_object();
    json_object *tasks = json_object_new_array(), *threads = json_object_new_array();
    autofree char *task_text = xstrdup(TASK);
    autojson *task = NULL;
    assert_int_equal(json_parse(task_text, strlen(task_text), &task, NULL), 0);
    json_object *thread = json_array_item(json_member(task, "threads"), 0);
    for (unsigned i = 0; i <= CPU_EVIDENCE_THREADS_MAX; i++)
        json_object_array_add(threads, json_object_get(thread));
    json_put(task, "threads", threads);
    json_object_array_add(tasks, json_object_get(task));
    json_put_str(json, "schema", CPU_EVIDENCE_SCHEMA);
    json_put_int(json, "pid", 1);
    json_put_int(json, "at_ms", 1);
    json_put(json, "tasks", tasks);
    struct cpu_evidence *e = NULL;
    struct error err = {0};
    assert_int_equal(cpu_evidence_parse(json, &e, &err), -1);
    assert_non_null(strstr(err.message, "tasks[0]: threads: 65537 items, at most 65536"));
}

static void text_is_cleaned(void **state)
{
    (void)state;
    static const struct {
        const char *text, *clean;
    } cases[] = {
        {"nginx: worker",         "nginx: worker"        },
        {"a\nb\x1b[31m",          "a?b?[31m"             },
        {"\xff\xfe",              "??"                   },
        {"caf\xc3\xa9",           "caf\xc3\xa9"          },
        {"cut \xc3",              "cut ?"                },
        {"c1 \xc2\x85 end",       "c1 ?? end"            },
        {"\xed\xa0\x80",          "???"                  }, /* half a surrogate pair */
        {"\xf0\x9f\x98\x80 grin", "\xf0\x9f\x98\x80 grin"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        autofree char *clean = cpu_evidence_clean(cases[i].text);
        assert_string_equal(clean, cases[i].clean);
        assert_true(json_text_is_utf8(clean, strlen(clean)));
    }
    autofree char *long_text = xmalloc(5001);
    memset(long_text, 'x', 5000);
    long_text[5000] = '\0';
    long_text[CPU_EVIDENCE_TEXT_MAX - 1] = '\xc3'; /* a character that the cut would halve */
    long_text[CPU_EVIDENCE_TEXT_MAX] = '\xa9';
    autofree char *cut = cpu_evidence_clean(long_text);
    assert_int_equal(strlen(cut), CPU_EVIDENCE_TEXT_MAX - 1);
    assert_null(cpu_evidence_clean(NULL));
}

static void there_is_an_end_to_complaints(void **state)
{
    (void)state;
    struct cpu_evidence e = {0};
    struct cpu_evidence_task *t = cpu_evidence_add_task(&e, 1, "x");
    for (unsigned i = 0; i < 1000; i++)
        cpu_evidence_unknown(t, "number %u", i);
    assert_int_equal(t->unknown_count, CPU_EVIDENCE_UNKNOWNS_MAX);
    cpu_evidence_done(&e);
}

static void threads_alike_are_told_once(void **state)
{
    (void)state;
    struct cpu_evidence e = {.pid = 7, .at_ms = 1, .complete = true};
    struct cpu_evidence_task *t = cpu_evidence_add_task(&e, 7, "web");
    t->threads = xcalloc(1000, sizeof(*t->threads));
    t->thread_count = 1000;
    for (size_t i = 0; i < t->thread_count; i++)
        t->threads[i] = (struct cpu_evidence_thread){
            .tid = 7 + (int64_t)i, .state_known = i != 999, .altstack_bytes = i < 600 ? 8192 : 0};
    t->threads[500].live = t->threads[500].xstate_bv = 4;
    t->threads[10].alike = 5; /* told so before */
    struct cpu_evidence_summary before, after;
    cpu_evidence_summarize(&e, &before);
    cpu_evidence_condense(&e);
    cpu_evidence_condense(&e); /* is done once */
    cpu_evidence_summarize(&e, &after);
    assert_memory_equal(&before, &after, sizeof(before));
    assert_int_equal(t->thread_count, 4);
    uint64_t count = 0;
    for (size_t i = 0; i < t->thread_count; i++)
        count += 1 + t->threads[i].alike;
    assert_int_equal(count, 1005);
    assert_int_equal(t->threads[0].alike, 603);
    assert_int_equal(t->threads[1].tid, 507);
    autojson *json = cpu_evidence_to_json(&e);
    AUTO(cpu_evidence) again = NULL;
    assert_int_equal(cpu_evidence_parse(json, &again, NULL), 0);
    assert_int_equal(again->tasks[0].threads[0].alike, 603);
    assert_int_equal(again->tasks[0].threads[1].alike, 0);
    cpu_evidence_done(&e);
}

static void threads_all_unlike_take_no_time(void **state)
{
    (void)state;
    struct cpu_evidence e = {.pid = 7, .at_ms = 1, .complete = true};
    struct cpu_evidence_task *t = cpu_evidence_add_task(&e, 7, "web");
    t->threads = xcalloc(CPU_EVIDENCE_THREADS_MAX, sizeof(*t->threads));
    t->thread_count = CPU_EVIDENCE_THREADS_MAX;
    for (size_t i = 0; i < t->thread_count; i++)
        t->threads[i] = (struct cpu_evidence_thread){.tid = 7, .altstack_bytes = (int64_t)i};
    cpu_evidence_condense(&e);
    assert_int_equal(t->thread_count, CPU_EVIDENCE_THREADS_MAX);
    cpu_evidence_done(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_member_is_read),
        cmocka_unit_test(written_again_it_is_the_same),
        cmocka_unit_test(the_summary_is_of_all),
        cmocka_unit_test(one_unknown_process_hides_what_is_active),
        cmocka_unit_test(one_grant_decides),
        cmocka_unit_test(nothing_seen_is_nothing_known),
        cmocka_unit_test(names_from_the_future_are_unknown),
        cmocka_unit_test(bad_messages_are_refused_by_name),
        cmocka_unit_test(sizes_are_bounded),
        cmocka_unit_test(threads_alike_are_told_once),
        cmocka_unit_test(threads_all_unlike_take_no_time),
        cmocka_unit_test(text_is_cleaned),
        cmocka_unit_test(there_is_an_end_to_complaints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
