/* SPDX-License-Identifier: Apache-2.0 */
/* migration_internal.h - what the files migration*.c share.
 *
 * Whoever has `acting` set on a migration, a worker or an upload's thread, has its journal to
 * itself; everything else of a migration is guarded by the list's lock. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "image_sink.h"
#include "journal.h"
#include "migration.h"

#define MIGRATION_WORKERS_MAX 8
#define MIGRATION_GONE_MAX    64 /* ids remembered after their end, against late answers */

struct migration {
    struct migrations *all;
    char *id;               /* owned */
    struct migration *next; /* in the list */

    struct journal journal;            /* whose `acting` it is */
    unsigned report_serial;            /* counts the reports set, whose `acting` it is */
    struct migration_sending *sending; /* source: begun with the dump; as the journal */
    char *log_dir;                     /* owned; <state_dir>/logs/<id> */

    /* guarded by all->lock */
    struct assignment answered, polled; /* the next ones to follow; `migration` NULL: none */
    bool absent;                        /* the broker's list does not have it any more */
    bool unreported;                    /* the journal's report has not been acknowledged */
    bool claimed;                       /* by a worker */
    bool acting;
    enum migration_action failed; /* what last ended in a failure: not done again at once */
    unsigned retry_ms;
    bool warned; /* the log has said that it is kept though nobody asks for it */
    struct migration_sending *sender; /* `sending`, to be interrupted; borrowed */
    bool receiving;          /* an image is on its way in; only HOLD is followed meanwhile */
    struct image_sink *sink; /* the image on its way in, to be broken; borrowed */
};

struct migrations {
    struct migrations_config config; /* strings owned */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a worker or an upload ended its part */
    /* guarded by lock */
    struct migration *list;
    size_t count;
    unsigned workers;
    bool stopping;
    char gone[MIGRATION_GONE_MAX][64];
    unsigned gone_next;
    char engine_error[256];
};

/* Starts another worker when there is work and room for one. Lock held. */
void migrations_wake(struct migrations *all);
struct migration *migrations_find(struct migrations *all, const char *id); /* lock held */

/* Each does what the action asks for, unless it is done already, and saves the journal with the
 * new step and report. True: there is a report to send. Called with `acting` set, unlocked. */
bool migration_source_act(struct migration *m, enum migration_action what);
bool migration_target_act(struct migration *m, enum migration_action what);
/* Source: looks at the running workload, which is the evidence; freezes nothing. True, as above.
 * (migration_inspect.c) */
bool migration_inspect(struct migration *m);
/* The same of the tasks that the dump has stopped, so that nothing can have changed since: the
 * evidence, or NULL when the broker asks for none. The caller owns it. */
json_object *migration_look_again(struct migration *m);
/* At start: puts right what a crash cut short. True: there is a report to send. */
bool migration_source_recover(struct migration *m);
bool migration_target_recover(struct migration *m);
/* When the broker asks for nothing any more: whether nothing of it is left here, so that the
 * journal may go. Undoes what can be undone without a decision. */
bool migration_source_forget(struct migration *m);
bool migration_target_forget(struct migration *m);

/* Image and folder on their way to the peer. (migration_send.c) */
struct migration_sending;
/* Opens the way to the peer, and begins to send what the engine writes from now on. On success the
 * peer has accepted it. The caller owns *ret. */
int migration_sending_start(struct migration *m, struct migration_sending **ret, struct error *err);
/* The dump is done and the journal knows of what: all but the manifest may go out. */
void migration_sending_dumped(struct migration_sending *sending);
/* Lets the manifest go out and waits for the end. *ret_unsure: the peer may have all of it though
 * this failed. */
int migration_sending_finish(struct migration_sending *sending, bool *ret_unsure,
                             struct error *err);
/* From any thread: it fails soon. */
void migration_sending_interrupt(struct migration_sending *sending, const struct error *reason);
void migration_sending_free(struct migration_sending *sending); /* breaks it off; NULL is fine */
DEFINE_AUTO(migration_sending)
/* Reports progress while bytes go out, about once a second, until *bytes reaches no more. */
struct migration_ticker;
struct migration_ticker *migration_ticker_new(struct migration *m, _Atomic uint64_t *bytes,
                                              uint64_t total_bytes);
void migration_ticker_free(struct migration_ticker *ticker); /* NULL is fine */

/* Target: where the workload's folder arrives, beside where it will lie; owned by the caller. */
char *migration_staging_dir(const struct migration *m);
/* Target: removes what this migration made and reports the failure. */
void migration_target_fail(struct migration *m, int64_t begun_ms, struct error *err,
                           const char *log);

/* Set step and report, and save. A failing save is logged and becomes the failure that is
 * reported. migration_tell adds `value`, which it takes over, to the report as `member`. */
void migration_step(struct migration *m, enum journal_step step, enum migration_report report,
                    int64_t begun_ms);
void migration_tell(struct migration *m, enum journal_step step, enum migration_report report,
                    int64_t begun_ms, const char *member, json_object *value);
void migration_fail(struct migration *m, enum journal_step step, int64_t begun_ms,
                    const struct error *error, const char *log);
/* Saves a step that begins something; on failure nothing may be begun. */
int migration_begin(struct migration *m, enum journal_step step, struct error *err);
int64_t migration_now_ms(const struct migration *m); /* monotonic */
struct engine *migration_engine(struct migration *m,
                                struct error *err); /* NULL: none, *err says why */

/* Adds to the message that is there. */
void error_add(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

char *migration_image_dir(const struct migration *m); /* owned by the caller */
void migration_remove_images(struct migration *m);
/* Makes the folder for the engine's logs and removes the oldest beyond a hundred. */
int migration_make_log_dir(struct migration *m, struct error *err);
/* Threads of all tasks in a 0-terminated list. */
unsigned migration_count_threads(const pid_t *pids, unsigned *ret_tasks);
