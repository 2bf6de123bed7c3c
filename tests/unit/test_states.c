/* SPDX-License-Identifier: Apache-2.0 */
/* test_states.c - the migration tables keep the promises of docs/states.md. */
#include <stdio.h>
#include <string.h>

#include "cleanup.h"
#include "cmocka_test.h"
#include "migration_states.h"

#define STATE(i)  ((enum migration_state)(i))
#define REPORT(i) ((enum migration_report)(i))

static const enum migration_party parties[] = {MIGRATION_PARTY_SOURCE, MIGRATION_PARTY_TARGET};

static void names_lead_back(void **state)
{
    (void)state;
    for (unsigned i = 0; i < MIGRATION_STATE_COUNT; i++) {
        enum migration_state s;
        assert_int_equal(migration_state_from_name(migration_state_name(STATE(i)), &s), 0);
        assert_int_equal(s, i);
    }
    for (unsigned i = 0; i < MIGRATION_ACTION_COUNT; i++) {
        enum migration_action a;
        const char *name = migration_action_name((enum migration_action)i);
        assert_int_equal(migration_action_from_name(name, &a), 0);
        assert_int_equal(a, i);
    }
    for (unsigned i = 0; i < MIGRATION_REPORT_COUNT; i++) {
        enum migration_report r;
        assert_int_equal(migration_report_from_name(migration_report_name(REPORT(i)), &r), 0);
        assert_int_equal(r, i);
    }
    enum migration_state s = MIGRATION_DONE;
    assert_int_equal(migration_state_from_name("", &s), -1);
    assert_int_equal(migration_state_from_name("Preparing", &s), -1);
    assert_int_equal(s, MIGRATION_DONE);
}

/* The states that can be reached from `from`, as bits. */
static unsigned reachable(enum migration_state from)
{
    unsigned seen = 1U << from, before = 0;
    while (seen != before) {
        before = seen;
        for (unsigned a = 0; a < MIGRATION_STATE_COUNT; a++)
            for (unsigned b = 0; b < MIGRATION_STATE_COUNT; b++)
                if (seen >> a & 1 && migration_move_allowed(STATE(a), STATE(b)))
                    seen |= 1U << b;
    }
    return seen;
}

static void every_way_ends(void **state)
{
    (void)state;
    for (unsigned i = 0; i < MIGRATION_STATE_COUNT; i++) {
        bool moves = false;
        for (unsigned k = 0; k < MIGRATION_STATE_COUNT; k++)
            moves = moves || migration_move_allowed(STATE(i), STATE(k));
        assert_int_equal(moves, !migration_state_is_final(STATE(i)));
        assert_false(migration_move_allowed(STATE(i), STATE(i)));
    }
    assert_int_equal(reachable(MIGRATION_PREPARING), (1U << MIGRATION_STATE_COUNT) - 1);
}

static void commit_and_abort_exclude_each_other(void **state)
{
    (void)state;
    assert_int_equal(reachable(MIGRATION_COMMITTING),
                     1U << MIGRATION_COMMITTING | 1U << MIGRATION_DONE);
    assert_int_equal(
        reachable(MIGRATION_ABORTING) & (1U << MIGRATION_COMMITTING | 1U << MIGRATION_DONE), 0);
}

static bool lets_run(enum migration_action action)
{
    return action == MIGRATION_DO_RUN || action == MIGRATION_DO_RESUME;
}

/* At most one copy runs: whatever was reported, the target may run only in COMMITTING and the
 * source resume only in ABORTING; the source kills only when the target has said RUNNING. */
static void at_most_one_copy_runs(void **state)
{
    (void)state;
    for (unsigned s = 0; s < MIGRATION_STATE_COUNT; s++)
        for (unsigned own = 0; own < MIGRATION_REPORT_COUNT; own++)
            for (unsigned other = 0; other < MIGRATION_REPORT_COUNT; other++)
                for (size_t p = 0; p < ARRAY_LEN(parties); p++) {
                    enum migration_action a =
                        migration_action_for(STATE(s), parties[p], REPORT(own), REPORT(other));
                    if (lets_run(a))
                        assert_int_equal(s, parties[p] == MIGRATION_PARTY_TARGET
                                                ? MIGRATION_COMMITTING
                                                : MIGRATION_ABORTING);
                    if (a == MIGRATION_DO_KILL) {
                        assert_int_equal(s, MIGRATION_COMMITTING);
                        assert_int_equal(parties[p], MIGRATION_PARTY_SOURCE);
                        assert_int_equal(other, MIGRATION_REPORT_RUNNING);
                    }
                    if (a == MIGRATION_DO_DISCARD)
                        assert_int_equal(parties[p], MIGRATION_PARTY_TARGET);
                }
}

static void assignments_end(void **state)
{
    (void)state;
    static const struct {
        enum migration_state state;
        enum migration_party party;
        enum migration_report own, target;
        enum migration_action action;
    } rows[] = {
        {MIGRATION_PREPARING,    MIGRATION_PARTY_TARGET, MIGRATION_REPORT_NONE,      MIGRATION_REPORT_NONE,
         MIGRATION_DO_PREPARE                                                                                                      },
        {MIGRATION_PREPARING,    MIGRATION_PARTY_TARGET, MIGRATION_REPORT_PREPARED,
         MIGRATION_REPORT_PREPARED,                                                                            MIGRATION_DO_HOLD   },
        {MIGRATION_PREPARING,    MIGRATION_PARTY_SOURCE, MIGRATION_REPORT_NONE,
         MIGRATION_REPORT_PREPARED,                                                                            MIGRATION_DO_INSPECT},
        {MIGRATION_PREPARING,    MIGRATION_PARTY_SOURCE, MIGRATION_REPORT_INSPECTED,
         MIGRATION_REPORT_NONE,                                                                                MIGRATION_DO_HOLD   },
        {MIGRATION_DUMPING,      MIGRATION_PARTY_SOURCE, MIGRATION_REPORT_INSPECTED,
         MIGRATION_REPORT_PREPARED,                                                                            MIGRATION_DO_DUMP   },
        {MIGRATION_DUMPING,      MIGRATION_PARTY_SOURCE, MIGRATION_REPORT_NONE,
         MIGRATION_REPORT_PREPARED,                                                                            MIGRATION_DO_DUMP   },
        {MIGRATION_TRANSFERRING, MIGRATION_PARTY_TARGET, MIGRATION_REPORT_PREPARED,
         MIGRATION_REPORT_PREPARED,                                                                            MIGRATION_DO_HOLD   },
        {MIGRATION_COMMITTING,   MIGRATION_PARTY_SOURCE, MIGRATION_REPORT_SENT,
         MIGRATION_REPORT_RESTORED,                                                                            MIGRATION_DO_HOLD   },
        {MIGRATION_COMMITTING,   MIGRATION_PARTY_SOURCE, MIGRATION_REPORT_SENT,
         MIGRATION_REPORT_RUNNING,                                                                             MIGRATION_DO_KILL   },
        {MIGRATION_COMMITTING,   MIGRATION_PARTY_TARGET, MIGRATION_REPORT_RUNNING,
         MIGRATION_REPORT_RUNNING,                                                                             MIGRATION_DO_NOTHING},
        {MIGRATION_FAILED,       MIGRATION_PARTY_TARGET, MIGRATION_REPORT_RECEIVED,
         MIGRATION_REPORT_RECEIVED,                                                                            MIGRATION_DO_DISCARD},
        {MIGRATION_FAILED,       MIGRATION_PARTY_TARGET, MIGRATION_REPORT_DISCARDED,
         MIGRATION_REPORT_DISCARDED,                                                                           MIGRATION_DO_NOTHING},
        {MIGRATION_DONE,         MIGRATION_PARTY_SOURCE, MIGRATION_REPORT_KILLED,    MIGRATION_REPORT_RUNNING,
         MIGRATION_DO_NOTHING                                                                                                      },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_int_equal(
            migration_action_for(rows[i].state, rows[i].party, rows[i].own, rows[i].target),
            rows[i].action);
}

static void parties_report_their_own_part(void **state)
{
    (void)state;
    assert_true(migration_report_fits(MIGRATION_REPORT_INSPECTED, MIGRATION_PARTY_SOURCE));
    assert_false(migration_report_fits(MIGRATION_REPORT_INSPECTED, MIGRATION_PARTY_TARGET));
    assert_true(migration_report_fits(MIGRATION_REPORT_DUMPED, MIGRATION_PARTY_SOURCE));
    assert_false(migration_report_fits(MIGRATION_REPORT_DUMPED, MIGRATION_PARTY_TARGET));
    assert_true(migration_report_fits(MIGRATION_REPORT_RUNNING, MIGRATION_PARTY_TARGET));
    assert_false(migration_report_fits(MIGRATION_REPORT_RUNNING, MIGRATION_PARTY_SOURCE));
    assert_true(migration_report_fits(MIGRATION_REPORT_FAILURE, MIGRATION_PARTY_SOURCE));
    assert_true(migration_report_fits(MIGRATION_REPORT_FAILURE, MIGRATION_PARTY_TARGET));
}

static void the_documents_name_every_state(void **state)
{
    (void)state;
    static const char *const files[] = {SOURCE_DIR "/docs/protocol.md",
                                        SOURCE_DIR "/docs/states.md"};
    static char text[64 * 1024];
    size_t length = 0;
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        FILE *file = fopen(files[i], "re");
        assert_non_null(file);
        length += fread(text + length, 1, sizeof(text) - 1 - length, file);
        fclose(file);
    }
    for (unsigned i = 0; i < MIGRATION_STATE_COUNT; i++)
        assert_non_null(strstr(text, migration_state_name(STATE(i))));
    for (unsigned i = MIGRATION_REPORT_NONE + 1; i < MIGRATION_REPORT_COUNT; i++)
        assert_non_null(strstr(text, migration_report_name(REPORT(i))));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_lead_back),
        cmocka_unit_test(every_way_ends),
        cmocka_unit_test(commit_and_abort_exclude_each_other),
        cmocka_unit_test(at_most_one_copy_runs),
        cmocka_unit_test(assignments_end),
        cmocka_unit_test(parties_report_their_own_part),
        cmocka_unit_test(the_documents_name_every_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
