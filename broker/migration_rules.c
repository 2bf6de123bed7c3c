/* SPDX-License-Identifier: Apache-2.0 */
/* migration_rules.c - what a report means in each state: one table, no I/O. */
#include "migration.h"

/* A report that is not here is refused in that state, unless it repeats what was said before.
 *    state         report     leads to; the same state: it is noted */
/* clang-format off */
#define RULES(X)                                                                                   \
    X(PREPARING,    PREPARED,  DUMPING)       /* once the source has said INSPECTED */             \
    X(PREPARING,    INSPECTED, DUMPING)       /* once the target has said PREPARED */              \
    X(DUMPING,      DUMPED,    TRANSFERRING)                                                       \
    X(TRANSFERRING, SENT,      TRANSFERRING)                                                       \
    X(TRANSFERRING, RECEIVED,  RESTORING)                                                          \
    X(RESTORING,    SENT,      RESTORING)                                                          \
    X(RESTORING,    RESTORED,  COMMITTING)                                                         \
    X(COMMITTING,   SENT,      COMMITTING)                                                         \
    X(COMMITTING,   RUNNING,   COMMITTING)                                                         \
    X(COMMITTING,   KILLED,    DONE)          /* once the target has said RUNNING */               \
    X(ABORTING,     SENT,      ABORTING)                                                           \
    X(ABORTING,     RESUMED,   FAILED)        /* or CANCELLED */                                   \
    X(ABORTING,     DISCARDED, ABORTING)                                                           \
    X(FAILED,       RESUMED,   FAILED)        /* the workload had exited, which ended the move */  \
    X(FAILED,       DISCARDED, FAILED)                                                             \
    X(CANCELLED,    RESUMED,   CANCELLED)                                                          \
    X(CANCELLED,    DISCARDED, CANCELLED)                                                          \
    X(PREPARING,    FAILURE,   ABORTING)                                                           \
    X(DUMPING,      FAILURE,   ABORTING)                                                           \
    X(TRANSFERRING, FAILURE,   ABORTING)                                                           \
    X(RESTORING,    FAILURE,   ABORTING)                                                           \
    X(COMMITTING,   FAILURE,   COMMITTING)    /* there is no way back: it is tried again */        \
    X(ABORTING,     FAILURE,   ABORTING)                                                           \
    X(PREPARING,    PROGRESS,  PREPARING)                                                          \
    X(DUMPING,      PROGRESS,  DUMPING)                                                            \
    X(TRANSFERRING, PROGRESS,  TRANSFERRING)                                                       \
    X(RESTORING,    PROGRESS,  RESTORING)                                                          \
    X(COMMITTING,   PROGRESS,  COMMITTING)                                                         \
    X(ABORTING,     PROGRESS,  ABORTING)
/* clang-format on */

static const struct {
    enum migration_state state;
    enum migration_report report;
    enum migration_state to;
} rules[] = {
#define X(state, report, to) {MIGRATION_##state, MIGRATION_REPORT_##report, MIGRATION_##to},
    RULES(X)
#undef X
};

static bool said_before(const struct move *move, enum migration_report own,
                        enum migration_report report)
{
    if (report == MIGRATION_REPORT_PROGRESS || report == MIGRATION_REPORT_FAILURE)
        return migration_state_is_final(move->state); /* nobody needs it any more */
    if (own == report)
        return true;
    /* On the way forward each party's reports come in the order of the enum. */
    return own <= MIGRATION_REPORT_RUNNING && report < own;
}

/* DUMPING begins when both have done their part. */
static bool other_is_ready(const struct move *move, enum migration_report report)
{
    return report == MIGRATION_REPORT_PREPARED ? move->source_report == MIGRATION_REPORT_INSPECTED
                                               : move->target_report == MIGRATION_REPORT_PREPARED;
}

int migration_judge(const struct move *move, enum migration_party party,
                    enum migration_report report, enum migration_meaning *ret_meaning,
                    enum migration_state *ret_state, struct error *err)
{
    bool is_source = party == MIGRATION_PARTY_SOURCE;
    const char *name = migration_report_name(report);
    *ret_state = move->state;
    if (report == MIGRATION_REPORT_NONE || !migration_report_fits(report, party))
        return error_set(err, ERROR_INVALID,
                         "migration %s: node '%s' is its %s, which does not report '%s'", move->id,
                         is_source ? move->from : move->to, is_source ? "source" : "target", name);
    if (said_before(move, is_source ? move->source_report : move->target_report, report)) {
        *ret_meaning = MIGRATION_MEANS_REPEAT;
        return 0;
    }
    bool early =
        report == MIGRATION_REPORT_KILLED && move->target_report != MIGRATION_REPORT_RUNNING;
    for (size_t i = 0; !early && i < ARRAY_LEN(rules); i++) {
        if (rules[i].state != move->state || rules[i].report != report)
            continue;
        *ret_state = rules[i].to;
        if (rules[i].to == MIGRATION_FAILED && move->state == MIGRATION_ABORTING && move->cancelled)
            *ret_state = MIGRATION_CANCELLED;
        if (rules[i].to == MIGRATION_DUMPING && move->state == MIGRATION_PREPARING &&
            !other_is_ready(move, report))
            *ret_state = move->state;
        *ret_meaning = *ret_state == move->state ? MIGRATION_MEANS_NOTE : MIGRATION_MEANS_MOVE;
        return 0;
    }
    return error_set(err, ERROR_CONFLICT,
                     "migration %s of '%s' is %s; '%s' from node '%s' does not "
                     "fit now and was not "
                     "taken; read the assignments again",
                     move->id, move->workload, migration_state_name(move->state), name,
                     is_source ? move->from : move->to);
}
