/* SPDX-License-Identifier: Apache-2.0 */
/* workload_private.h - what the workload*.c files share; nobody else includes it. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "error.h"
#include "json.h"
#include "process.h"
#include "workload.h"

struct workload {
    struct workload *next;
    char *name, *pool, *dir, *cgroup_dir, *run_dir; /* owned; cgroup_dir "" when there is none */
    json_object *command;                           /* owned */
    enum workload_state state;
    pid_t root_pid; /* 0: not started, or ended while others of the tree live */
    uint64_t root_ticks;
    pid_t shim_pid;
    bool shim_is_child; /* of this agent, so that it has to be reaped */
    int exit_status;    /* -1: unknown */
    int64_t started_at_ms;
    unsigned uid, gid;
    bool adopted;
    char migration[64];
    struct birth_mask mask; /* owned; never changes in an entry */

    int shim_fd; /* the monitor's connection; -1 when there is none */
    bool busy;   /* somebody works on it without holding the lock */
    bool ending; /* the monitor puts its end in order without holding the lock */
};

struct workloads {
    char *state_dir, *shim_path; /* owned */
    char *mask_path;             /* owned; the tracer's program, beside the shim */
    char *mask_cache;            /* owned; the folder of its cache */
    char *cgroup_root;           /* owned; <mount>/<parent>, "" when there is no cgroup v2 */
    char *roots;                 /* owned; ':'-separated, "" for none */
    char *seed;                  /* owned; what tells this node from others on its machine */
    char boot_id[64];
    void (*changed)(void *ctx, const char *name);
    void *ctx;
    pthread_t monitor;
    int wake_fd; /* eventfd: the monitor looks at the list again */

    pthread_mutex_t lock;      /* guards what follows, and every struct workload */
    pthread_cond_t moved;      /* a workload changed state, or is no longer busy */
    struct workload *list;     /* sorted by name */
    struct cpu_report *report; /* owned; NULL until it is known */
    bool mask_tried;           /* the next two are known */
    enum mask_grade mask_best;
    char mask_reason[512]; /* why not a better one */
    bool stopping;
};

/* --- workload.c ---------------------------------------------------------------------------- */

struct workload *workload_find(struct workloads *w, const char *name); /* lock held */
void workload_free(struct workload *x);
DEFINE_AUTO(workload)
char *workload_tasks_dir(const struct workload *x); /* "" when there is none; owned by caller */
char *workload_shim_dir(const struct workload *x);
/* Every task of the tree: of the cgroup, below the root, below the shim. Takes no lock. */
int workload_list_pids(const char *tasks_dir, pid_t root, pid_t shim, struct process_list *list,
                       struct error *err);
/* The tracer of the mask: a child of that shim that traces one of the pids; 0: there is none. */
pid_t workload_tracer(const pid_t *pids, pid_t shim);
void workload_fill_info(const struct workload *x, struct workload_info *ret); /* lock held */
/* Takes x for work without the lock, waiting for others who do, at most timeout_ms. Lock held
 * before and after. NULL with *err when it is not there or stays busy. */
struct workload *workload_take(struct workloads *w, const char *name, uint64_t timeout_ms,
                               struct error *err);
void workload_release(struct workloads *w, struct workload *x); /* lock held */
/* Waits until x has exited (lock held); false when the time is over. */
bool workload_wait_exited(struct workloads *w, struct workload *x, uint64_t timeout_ms);
void workload_enlist(struct workloads *w, struct workload *x); /* by name; lock held */
void workload_forget(struct workloads *w, struct workload *x); /* off the list, freed; lock held */
int workload_check_new(struct workloads *w, const struct workload_spec *spec, char **ret_dir,
                       struct error *err);                 /* lock held */
void workload_tell(struct workloads *w, const char *name); /* changed(); lock not held */

/* --- workload_record.c --------------------------------------------------------------------- */

/* run/NAME/workload.json. Lock held, or x not on the list yet. */
int workload_record_save(const struct workloads *w, const struct workload *x, struct error *err);
int workload_record_load(const struct workloads *w, const char *name, struct workload **ret,
                         struct error *err);

/* --- workload_dir.c ------------------------------------------------------------------------ */

/* The folder for a workload: `dir`, or the default when NULL. It has to lie beneath an allowed
 * root and to be reached without a link; if it is there it belongs to uid (root may take any).
 * With `make`, what is missing is made for uid:gid, and *ret_made says whether. */
int workload_dir_resolve(const struct workloads *w, const char *name, const char *dir, unsigned uid,
                         unsigned gid, bool make, bool *ret_made, char **ret, struct error *err);

/* --- workload_gap.c ------------------------------------------------------------------------ */

/* Keeps the pids of this node's workloads away from those of other nodes' helpers. */
void workload_leave_gap(const char *seed);
/* The pid to go on from, or 0 when `last` is not low. Pure. */
pid_t workload_gap_base(pid_t last, pid_t max, const char *seed);

/* --- workload_monitor.c -------------------------------------------------------------------- */

int workload_monitor_start(struct workloads *w, struct error *err);
void workload_monitor_stop(struct workloads *w);
/* Connects to x's shim, so that the monitor sees it (lock held). */
int workload_watch(struct workloads *w, struct workload *x, struct error *err);
/* What an earlier agent left of x: connects, adopts anew, or finds it ended. Before the monitor
 * runs, so without the lock. */
void workload_resume(struct workloads *w, struct workload *x);

/* --- workload_start.c ---------------------------------------------------------------------- */

/* A new shim in adopt mode for a root that lives (its own died). x is taken or not listed. */
int workload_start_watcher(struct workloads *w, struct workload *x, struct error *err);
