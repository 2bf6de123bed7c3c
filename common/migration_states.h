/* SPDX-License-Identifier: Apache-2.0 */
/* migration_states.h - the states of a migration, who does what in each, and the allowed moves.
 *
 * Broker, agent, command line, docs/states.md and tests read these tables; docs/states.md draws
 * them. The broker's database is the decision: COMMITTING is written once, before the target
 * may let the restored (and still stopped) tree run; ABORTING once, before the source is told to
 * go on. No state leads from one of them to the other.
 *
 *   PREPARING -> DUMPING -> TRANSFERRING -> RESTORING -> COMMITTING -> DONE
 *       |           |            |              |
 *       +-----------+------------+--------------+----> ABORTING -> FAILED | CANCELLED
 */
#pragma once

#include <stdbool.h>

/* clang-format off */
/*     state          wire name       final  what the target does   what the source does */
#define MIGRATION_STATES(X)                                                                        \
    X(PREPARING,    "preparing",    false, PREPARE,               INSPECT)                         \
    X(DUMPING,      "dumping",      false, HOLD,                  DUMP)                            \
    X(TRANSFERRING, "transferring", false, HOLD,                  SEND)                            \
    X(RESTORING,    "restoring",    false, RESTORE,               HOLD)                            \
    X(COMMITTING,   "committing",   false, RUN,                   KILL)                            \
    X(ABORTING,     "aborting",     false, DISCARD,               RESUME)                          \
    X(DONE,         "done",         true,  NOTHING,               NOTHING)                         \
    X(FAILED,       "failed",       true,  DISCARD,               NOTHING)                         \
    X(CANCELLED,    "cancelled",    true,  DISCARD,               NOTHING)
/* clang-format on */
/* In PREPARING each party is given HOLD once it has reported its part. In COMMITTING the source is
 * given HOLD until the target has reported RUNNING. In FAILED and CANCELLED the target keeps the
 * assignment until it has reported DISCARDED. */

#define MIGRATION_MOVES(X)     \
    X(PREPARING, DUMPING)      \
    X(PREPARING, ABORTING)     \
    X(DUMPING, TRANSFERRING)   \
    X(DUMPING, ABORTING)       \
    X(TRANSFERRING, RESTORING) \
    X(TRANSFERRING, ABORTING)  \
    X(RESTORING, COMMITTING)   \
    X(RESTORING, ABORTING)     \
    X(COMMITTING, DONE)        \
    X(ABORTING, FAILED)        \
    X(ABORTING, CANCELLED)

/* clang-format off */
/* What an assignment asks of an agent. */
#define MIGRATION_ACTIONS(X)                                                                       \
    X(NOTHING, "nothing") /* the assignment is over */                                             \
    X(HOLD,    "hold")    /* keep what you have, wait for the next word */                         \
    X(PREPARE, "prepare") /* target: reserve the folder, check the engine, accept the image */     \
    X(INSPECT, "inspect") /* source: look at the workload, which runs on meanwhile */              \
    X(DUMP,    "dump")    /* source: dump, leave the tasks stopped */                              \
    X(SEND,    "send")    /* source: stream image and folder to the target */                      \
    X(RESTORE, "restore") /* target: restore, leave the tasks stopped, verify */                   \
    X(RUN,     "run")     /* target: let the restored tasks run */                                 \
    X(KILL,    "kill")    /* source: kill the stopped copy, remove image and folder */             \
    X(RESUME,  "resume")  /* source: let the tasks run again, prove it, remove the image */        \
    X(DISCARD, "discard") /* target: remove everything that this migration made */
/* clang-format on */

/* What an agent reports of its own part; `party` says who may. Each is durable in the agent's
 * journal before it is reported, and reporting one twice is harmless. */
/* clang-format off */
/*     state       wire name     party */
#define MIGRATION_REPORTS(X)                                                                       \
    X(NONE,      "none",       BOTH)                                                               \
    X(PREPARED,  "prepared",   TARGET)                                                             \
    X(INSPECTED, "inspected",  SOURCE) /* with the evidence, unknown where the look failed */      \
    X(DUMPED,    "dumped",     SOURCE)                                                             \
    X(SENT,      "sent",       SOURCE)                                                             \
    X(RECEIVED,  "received",   TARGET)                                                             \
    X(RESTORED,  "restored",   TARGET)                                                             \
    X(RUNNING,   "running",    TARGET)                                                             \
    X(KILLED,    "killed",     SOURCE)                                                             \
    X(RESUMED,   "resumed",    SOURCE)                                                             \
    X(DISCARDED, "discarded",  TARGET)                                                             \
    X(PROGRESS,  "progress",   BOTH) /* bytes so far; changes no state */                          \
    X(FAILURE,   "failure",    BOTH) /* this part cannot be done; `error` says why */
/* clang-format on */

enum migration_state {
#define X(state, name, final, target, source) MIGRATION_##state,
    MIGRATION_STATES(X)
#undef X
        MIGRATION_STATE_COUNT
};

enum migration_action {
#define X(action, name) MIGRATION_DO_##action,
    MIGRATION_ACTIONS(X)
#undef X
        MIGRATION_ACTION_COUNT
};

enum migration_party {
    MIGRATION_PARTY_TARGET = 1,
    MIGRATION_PARTY_SOURCE = 2,
    MIGRATION_PARTY_BOTH = 3
};

enum migration_report {
#define X(report, name, party) MIGRATION_REPORT_##report,
    MIGRATION_REPORTS(X)
#undef X
        MIGRATION_REPORT_COUNT
};

const char *migration_state_name(enum migration_state state);
const char *migration_action_name(enum migration_action action);
const char *migration_report_name(enum migration_report report);
/* -1 when there is no such name. */
int migration_state_from_name(const char *name, enum migration_state *ret);
int migration_action_from_name(const char *name, enum migration_action *ret);
int migration_report_from_name(const char *name, enum migration_report *ret);

bool migration_state_is_final(enum migration_state state);
bool migration_move_allowed(enum migration_state from, enum migration_state to);
/* Whether that party may send that report at all. */
bool migration_report_fits(enum migration_report report, enum migration_party party);
/* What `party` is to do now, given the last report of itself and of the target. */
enum migration_action migration_action_for(enum migration_state state, enum migration_party party,
                                           enum migration_report own_report,
                                           enum migration_report target_report);
