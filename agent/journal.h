/* SPDX-License-Identifier: Apache-2.0 */
/* journal.h - what this agent knows of one migration, durable before it is acted on.
 *
 * <state_dir>/migrations/<id>/journal.json (0600, since it holds the ticket) is replaced by write,
 * fsync, rename, fsync of the folder. Beside it lie image/ and, at the target, what is needed
 * while an image arrives. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "error.h"
#include "json.h"
#include "migration_assignment.h"
#include "migration_states.h"
#include "timerfds.h"

/* How far this node's part has come. A step that ends in -ING was begun and may or may not have
 * happened: after a crash it is done again or undone, see migration_source.c, migration_target.c.
 */
#define JOURNAL_STEPS(X)                                                                       \
    X(NONE, "none")                                                                            \
    X(DUMPING, "dumping")       /* source */                                                   \
    X(DUMPED, "dumped")         /* source: tasks stopped, image complete */                    \
    X(SENDING, "sending")       /* source */                                                   \
    X(SENT, "sent")             /* source: the target has confirmed the whole image */         \
    X(UNSURE, "unsure")         /* source: sent, but no answer came; the broker must decide */ \
    X(RESUMING, "resuming")     /* source */                                                   \
    X(RESUMED, "resumed")       /* source: its tasks run, the image is gone */                 \
    X(KILLING, "killing")       /* source */                                                   \
    X(KILLED, "killed")         /* source: its copy is gone */                                 \
    X(PREPARED, "prepared")     /* target: the ticket is good */                               \
    X(RECEIVING, "receiving")   /* target: the ticket is used up */                            \
    X(RECEIVED, "received")     /* target: image and folder lie in staging, checked */         \
    X(RESTORING, "restoring")   /* target */                                                   \
    X(RESTORED, "restored")     /* target: tasks stopped and verified */                       \
    X(RUNNING, "running")       /* target: tasks run */                                        \
    X(DISCARDING, "discarding") /* target */                                                   \
    X(DISCARDED, "discarded")   /* target: nothing of it is left */                            \
    X(FAILED, "failed")         /* undone already: nothing stopped, nothing restored */

enum journal_step {
#define X(step, name) JOURNAL_##step,
    JOURNAL_STEPS(X)
#undef X
        JOURNAL_STEP_COUNT
};
const char *journal_step_name(enum journal_step step);

struct journal {
    char *dir; /* owned; <state_dir>/migrations/<id> */
    struct assignment assignment;
    enum journal_step step;
    pid_t root_pid;
    unsigned tasks, threads;
    pid_t *stopped_pids;                  /* owned; 0-terminated; NULL: none */
    struct timerfd_place *expired_timers; /* owned; NULL: none */
    uint64_t folder_dev, folder_ino; /* target: the staging folder, by which it is known again */
    uint64_t bytes;                  /* of image and folder */
    enum migration_report report;    /* the last one, to be told again if need be */
    json_object *report_body;        /* owned; what goes to the broker; NULL for none */
};

/* Makes the migration's folder and its first journal. `json` is the assignment's. */
int journal_create(const char *state_dir, const struct assignment *assignment, struct journal *ret,
                   struct error *err);
/* Durable when it returns 0. */
int journal_save(struct journal *journal, struct error *err);
/* Reads <dir>/journal.json. ERROR_NOT_FOUND when there is none (a crash before the first). */
int journal_load(const char *dir, struct journal *ret, struct error *err);
/* Calls `each` for every journal under state_dir (which takes *journal over on 0); folders
 * without one are removed, broken ones are logged and left for a person to look at. */
int journal_load_all(const char *state_dir, int (*each)(void *ctx, struct journal *journal),
                     void *ctx, struct error *err);
/* Removes the migration's folder with all that is in it. */
int journal_remove(struct journal *journal, struct error *err);
void journal_done(struct journal *journal);

/* Replaces the assignment; not saved. */
void journal_set_assignment(struct journal *journal, const struct assignment *assignment);
/* Sets the report that the step brings with it; not saved. `error` may be NULL, `log` too. */
void journal_set_report(struct journal *journal, const char *node, enum migration_report report,
                        uint64_t phase_ms, const struct error *error, const char *log);
