/* SPDX-License-Identifier: Apache-2.0 */
/* test_journal.c - a migration's record survives what a crash leaves of its files. */
#include "cmocka_test.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"
#include "image_manifest.h"
#include "journal.h"

static const char assignment_text[] =
    "{\"migration\":\"m-0123456789abcdef\",\"workload\":\"w1\",\"role\":\"source\",\"action\":"
    "\"dump\",\"state\":\"dumping\",\"peer\":{\"node\":\"node-b\",\"address\":\"10.0.0.2:7072\"},"
    "\"ticket\":\"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\",\"dir\":"
    "\"/var/lib/cpubroker/workloads/w1\",\"pool\":\"default\",\"command\":[\"./victim\",\"64\"],"
    "\"max_bytes\":1073741824,\"deadline_at_ms\":1790000000000}";

static int setup(void **state)
{
    char *dir = xstrdup("/tmp/cpubroker-journal.XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    *state = dir;
    return 0;
}

static int teardown(void **state)
{
    file_remove_tree(*state, NULL);
    free(*state);
    return 0;
}

static void decode(const char *text, struct assignment *ret)
{
    autojson *json = NULL;
    struct error err = {0};
    *ret = (struct assignment){0};
    if (json_parse(text, strlen(text), &json, &err) < 0 || assignment_decode(json, ret, &err) < 0)
        fail_msg("%s", err.message);
}

static void create(const char *state_dir, struct journal *journal)
{
    struct assignment assignment;
    struct error err = {0};
    decode(assignment_text, &assignment);
    if (journal_create(state_dir, &assignment, journal, &err) < 0)
        fail_msg("%s", err.message);
    assignment_done(&assignment);
}

static void everything_is_read_back(void **state)
{
    static const pid_t stopped[] = {7, 9, 0};
    static const struct timerfd_place timers[] = {
        {7, 3},
        {0, 0}
    };
    struct journal journal, again;
    struct error err = {0};
    create(*state, &journal);
    journal.step = JOURNAL_DUMPED;
    journal.root_pid = 4711;
    journal.tasks = 3;
    journal.threads = 5;
    journal.stopped_pids = pids_copy(stopped);
    journal.expired_timers = timerfds_copy(timers);
    journal.folder_dev = UINT64_MAX;
    journal.folder_ino = 1ULL << 60;
    journal.bytes = 123456789;
    journal_set_report(&journal, "node-a", MIGRATION_REPORT_DUMPED, 812, NULL, NULL);
    assert_int_equal(journal_save(&journal, &err), 0);
    assert_int_equal(journal_load(journal.dir, &again, &err), 0);
    assert_int_equal(again.step, JOURNAL_DUMPED);
    assert_int_equal(again.root_pid, 4711);
    assert_int_equal(again.tasks, 3);
    assert_int_equal(again.threads, 5);
    assert_int_equal(again.stopped_pids[0], 7);
    assert_int_equal(again.stopped_pids[1], 9);
    assert_int_equal(again.stopped_pids[2], 0);
    assert_memory_equal(again.expired_timers, timers, sizeof timers);
    assert_true(again.folder_dev == UINT64_MAX);
    assert_true(again.folder_ino == 1ULL << 60);
    assert_int_equal(again.bytes, 123456789);
    assert_int_equal(again.report, MIGRATION_REPORT_DUMPED);
    assert_string_equal(again.assignment.migration, "m-0123456789abcdef");
    assert_string_equal(again.assignment.peer_node, "node-b");
    assert_string_equal(again.assignment.peer_address, "10.0.0.2:7072");
    assert_true(again.assignment.is_source);
    assert_int_equal(again.assignment.what, MIGRATION_DO_DUMP);
    assert_int_equal(again.assignment.deadline_at_ms, 1790000000000LL);
    autofree char *before = json_canonical(journal.report_body);
    autofree char *after = json_canonical(again.report_body);
    assert_string_equal(before, after);
    assert_string_equal(before,
                        "{\"bytes\":123456789,\"error\":null,\"node\":\"node-a\",\"phase_ms\":"
                        "812,\"pid\":4711,\"state\":\"dumped\",\"total_bytes\":123456789}");
    journal_done(&journal);
    journal_done(&again);
}

static void only_its_owner_reads_it(void **state)
{
    struct journal journal;
    struct stat st;
    create(*state, &journal);
    autofree char *path = xasprintf("%s/journal.json", journal.dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600); /* it holds the ticket */
    assert_int_equal(stat(journal.dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    journal_done(&journal);
}

static void a_report_is_always_json(void **state)
{
    struct journal journal;
    struct error failure;
    autojson *parsed = NULL;
    (void)state;
    create(*state, &journal);
    error_set(&failure, ERROR_FAILED, "cannot open '%s'", "\xff\xfe\n\"\\");
    journal_set_report(&journal, "node-a", MIGRATION_REPORT_FAILURE, 0, &failure,
                       "Error: \x1b[31m\xc3"); /* cut within a character */
    autofree char *text = json_text(journal.report_body);
    assert_int_equal(json_parse(text, strlen(text), &parsed, NULL), 0);
    json_object *error = json_member(parsed, "error");
    assert_string_equal(json_str(error, "code"), "failed");
    assert_non_null(strstr(json_str(error, "log"), "Error: "));
    journal_done(&journal);
}

/* ---- what a crash leaves ---- */

struct found {
    unsigned count;
    enum journal_step step;
    bool refuse;
};

static int count_journal(void *ctx, struct journal *journal)
{
    struct found *found = ctx;
    if (found->refuse)
        return -1;
    found->count++;
    found->step = journal->step;
    journal_done(journal);
    return 0;
}

static void put(const char *dir, const char *name, const char *text)
{
    autofree char *path = xasprintf("%s/%s", dir, name);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void a_half_written_successor_is_ignored(void **state)
{
    struct journal journal;
    struct found found = {0};
    create(*state, &journal);
    journal.step = JOURNAL_SENDING;
    assert_int_equal(journal_save(&journal, NULL), 0);
    /* names that a replacement may have had when the power went */
    put(journal.dir, "journal.json.new", "{\"schema\":\"cpubro");
    put(journal.dir, ".journal.json.1234", "");
    assert_int_equal(journal_load_all(*state, count_journal, &found, NULL), 0);
    assert_int_equal(found.count, 1);
    assert_int_equal(found.step, JOURNAL_SENDING);
    journal_done(&journal);
}

static void a_folder_without_a_journal_is_swept(void **state)
{
    struct found found = {0};
    autofree char *dir = xasprintf("%s/migrations/m-1/image", (char *)*state);
    autofree char *migration = xasprintf("%s/migrations/m-1", (char *)*state);
    assert_int_equal(file_make_dirs(dir, 0700, NULL), 0);
    put(dir, "pages-1.img", "x");
    assert_int_equal(journal_load_all(*state, count_journal, &found, NULL), 0);
    assert_int_equal(found.count, 0);
    assert_int_equal(access(migration, F_OK), -1);
}

static void a_broken_journal_is_left_for_a_person(void **state)
{
    static const char *const texts[] = {"", "{", "[]", "{\"schema\":\"cpubroker.journal/1\"}",
                                        "{\"schema\":\"cpubroker.journal/9\"}"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct found found = {0};
        struct journal journal;
        create(*state, &journal);
        put(journal.dir, "journal.json", texts[i]);
        autofree char *path = xasprintf("%s/journal.json", journal.dir);
        assert_int_equal(journal_load_all(*state, count_journal, &found, NULL), 0);
        assert_int_equal(found.count, 0);
        assert_int_equal(access(path, F_OK), 0);
        journal_done(&journal);
    }
}

static void no_folder_at_all_is_no_journal(void **state)
{
    struct found found = {0};
    assert_int_equal(journal_load_all(*state, count_journal, &found, NULL), 0);
    assert_int_equal(found.count, 0);
}

static void a_removed_journal_is_gone_with_its_folder(void **state)
{
    struct journal journal;
    create(*state, &journal);
    autofree char *dir = xasprintf("%s/image", journal.dir);
    assert_int_equal(file_make_dirs(dir, 0700, NULL), 0);
    put(dir, "core-1.img", "x");
    assert_int_equal(journal_remove(&journal, NULL), 0);
    assert_int_equal(access(journal.dir, F_OK), -1);
    assert_int_equal(journal_remove(&journal, NULL), 0); /* again does no harm */
    journal_done(&journal);
}

static void what_cannot_be_written_is_an_error(void **state)
{
    struct journal journal;
    struct error err = {0};
    create(*state, &journal);
    assert_int_equal(file_remove_tree(journal.dir, NULL), 0);
    assert_int_equal(journal_save(&journal, &err), -1);
    assert_int_equal(err.kind, ERROR_FAILED);
    journal_done(&journal);
}

/* ---- assignments ---- */

static void bad_assignments_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *reason;
    } cases[] = {
        {"\"m-0123456789abcdef\"",                              "\"../../etc\"",        "migration"},
        {"\"m-0123456789abcdef\"",                              "\"\"",                 "migration"},
        {"\"workload\":\"w1\"",                                 "\"workload\":\"a/b\"", "workload" },
        {"\"source\"",                                          "\"bystander\"",        "role"     },
        {"\"dump\"",                                            "\"explode\"",          "older"    },
        {"\"/var/lib/cpubroker/workloads/w1\"",                 "\"workloads/w1\"",     "absolute" },
        {"\"/var/lib/cpubroker/workloads/w1\"",                 "\"/var/lib/../etc\"",  "absolute" },
        {"\"/var/lib/cpubroker/workloads/w1\"",                 "\"/var/lib/..\"",      "absolute" },
        {"\"/var/lib/cpubroker/workloads/w1\"",                 "\"/\"",                "absolute" },
        {"\"/var/lib/cpubroker/workloads/w1\"",                 "\"/a//b\"",            "absolute" },
        {"\"/var/lib/cpubroker/workloads/w1\"",                 "\"/a/\"",              "absolute" },
        {"{\"node\":\"node-b\",\"address\":\"10.0.0.2:7072\"}", "{}",                   "node"     },
        {"{\"node\":\"node-b\",\"address\":\"10.0.0.2:7072\"}", "null",                 "peer"     },
        {"[\"./victim\",\"64\"]",                               "[\"./victim\",64]",    "command"  },
        {"1073741824",                                          "-1",                   "max_bytes"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *at = strstr(assignment_text, cases[i].from);
        assert_non_null(at);
        autofree char *text = xasprintf("%.*s%s%s", (int)(at - assignment_text), assignment_text,
                                        cases[i].to, at + strlen(cases[i].from));
        autojson *json = NULL;
        struct assignment assignment = {0};
        struct error err = {0};
        assert_int_equal(json_parse(text, strlen(text), &json, NULL), 0);
        if (assignment_decode(json, &assignment, &err) == 0)
            fail_msg("accepted: %s", text);
        if (!strstr(err.message, cases[i].reason))
            fail_msg("expected '%s', got '%s'", cases[i].reason, err.message);
    }
}

static void hosts_are_taken_from_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *address, *host;
    } cases[] = {
        {"10.0.0.2:7072",  "10.0.0.2"  },
        {"[fd00::2]:7072", "fd00::2"   },
        {"node-b.lan:1",   "node-b.lan"},
        {"10.0.0.2",       NULL        },
        {":7072",          NULL        },
        {"10.0.0.2:",      NULL        },
        {"",               NULL        },
        {"[]:1",           NULL        },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char host[64];
        int rc = address_host(cases[i].address, host, NULL);
        assert_int_equal(rc, cases[i].host ? 0 : -1);
        if (cases[i].host)
            assert_string_equal(host, cases[i].host);
    }
    char host[64];
    assert_int_equal(address_host(NULL, host, NULL), -1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(everything_is_read_back),
        TEST(only_its_owner_reads_it),
        TEST(a_report_is_always_json),
        TEST(a_half_written_successor_is_ignored),
        TEST(a_folder_without_a_journal_is_swept),
        TEST(a_broken_journal_is_left_for_a_person),
        TEST(no_folder_at_all_is_no_journal),
        TEST(a_removed_journal_is_gone_with_its_folder),
        TEST(what_cannot_be_written_is_an_error),
        cmocka_unit_test(bad_assignments_are_refused),
        cmocka_unit_test(hosts_are_taken_from_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
