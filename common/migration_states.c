/* SPDX-License-Identifier: Apache-2.0 */
/* migration_states.c - look-ups in the migration tables. */
#include "migration_states.h"

#include <string.h>

#include "cleanup.h"

static const struct {
    const char *name;
    bool final;
    enum migration_action target, source;
} states[] = {
#define X(state, name, final, target, source) \
    {name, final, MIGRATION_DO_##target, MIGRATION_DO_##source},
    MIGRATION_STATES(X)
#undef X
};

static const struct {
    enum migration_state from, to;
} moves[] = {
#define X(from, to) {MIGRATION_##from, MIGRATION_##to},
    MIGRATION_MOVES(X)
#undef X
};

static const char *const action_names[] = {
#define X(action, name) name,
    MIGRATION_ACTIONS(X)
#undef X
};

static const struct {
    const char *name;
    enum migration_party party;
} reports[] = {
#define X(report, name, party) {name, MIGRATION_PARTY_##party},
    MIGRATION_REPORTS(X)
#undef X
};

const char *migration_state_name(enum migration_state state)
{
    return states[state].name;
}

const char *migration_action_name(enum migration_action action)
{
    return action_names[action];
}

const char *migration_report_name(enum migration_report report)
{
    return reports[report].name;
}

int migration_state_from_name(const char *name, enum migration_state *ret)
{
    for (unsigned i = 0; i < ARRAY_LEN(states); i++)
        if (strcmp(states[i].name, name) == 0) {
            *ret = (enum migration_state)i;
            return 0;
        }
    return -1;
}

int migration_action_from_name(const char *name, enum migration_action *ret)
{
    for (unsigned i = 0; i < ARRAY_LEN(action_names); i++)
        if (strcmp(action_names[i], name) == 0) {
            *ret = (enum migration_action)i;
            return 0;
        }
    return -1;
}

int migration_report_from_name(const char *name, enum migration_report *ret)
{
    for (unsigned i = 0; i < ARRAY_LEN(reports); i++)
        if (strcmp(reports[i].name, name) == 0) {
            *ret = (enum migration_report)i;
            return 0;
        }
    return -1;
}

bool migration_state_is_final(enum migration_state state)
{
    return states[state].final;
}

bool migration_move_allowed(enum migration_state from, enum migration_state to)
{
    for (unsigned i = 0; i < ARRAY_LEN(moves); i++)
        if (moves[i].from == from && moves[i].to == to)
            return true;
    return false;
}

bool migration_report_fits(enum migration_report report, enum migration_party party)
{
    return (reports[report].party & party) != 0;
}

enum migration_action migration_action_for(enum migration_state state, enum migration_party party,
                                           enum migration_report own_report,
                                           enum migration_report target_report)
{
    if (party == MIGRATION_PARTY_TARGET) {
        if (states[state].target == MIGRATION_DO_PREPARE && own_report == MIGRATION_REPORT_PREPARED)
            return MIGRATION_DO_HOLD;
        if (states[state].target == MIGRATION_DO_DISCARD &&
            own_report == MIGRATION_REPORT_DISCARDED)
            return MIGRATION_DO_NOTHING;
        if (states[state].target == MIGRATION_DO_RUN && own_report == MIGRATION_REPORT_RUNNING)
            return MIGRATION_DO_NOTHING;
        return states[state].target;
    }
    if (states[state].source == MIGRATION_DO_INSPECT && own_report == MIGRATION_REPORT_INSPECTED)
        return MIGRATION_DO_HOLD;
    if (state == MIGRATION_COMMITTING && target_report != MIGRATION_REPORT_RUNNING)
        return MIGRATION_DO_HOLD;
    return states[state].source;
}
