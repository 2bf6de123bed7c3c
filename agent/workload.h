/* SPDX-License-Identifier: Apache-2.0 */
/* workload.h - the workloads of this node: each a tree of tasks in a cgroup of its own, under a
 * shim that outlives the agent.
 *
 * On disk, under the agent's state folder: workloads/NAME/ is the default folder that moves with
 * the workload; run/NAME/ holds what stays: workload.json (the record, replaced by rename),
 * shim.sock, exit.json. A new agent reads run/ and is in the picture again. Thread-safe. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "birth_mask.h"
#include "cleanup.h"
#include "engine.h"
#include "error.h"
#include "json.h"

/*     state      wire name */
#define WORKLOAD_STATES(X)                                                   \
    X(STARTING, "starting") /* claimed; the first instruction has not run */ \
    X(RUNNING, "running")                                                    \
    X(STOPPED, "stopped") /* dumped or restored, waiting for a decision */   \
    X(EXITED, "exited")

enum workload_state {
#define X(state, name) WORKLOAD_##state,
    WORKLOAD_STATES(X)
#undef X
        WORKLOAD_STATE_COUNT
};
const char *workload_state_name(enum workload_state state);

struct workload_spec {
    const char *name, *pool;
    const char *dir;            /* absolute; NULL: <state_dir>/workloads/NAME */
    const char *const *command; /* NULL-terminated */
    const char *cwd;            /* absolute; NULL: the workload's folder */
    const char *const *env;     /* NULL-terminated "K=V"; NULL: workload_plain_env */
    unsigned uid, gid;
    const struct birth_mask *mask; /* NULL: none */
};
extern const char *const workload_plain_env[]; /* PATH */

struct workload_info {                    /* a copy; release with workload_info_done */
    char *name, *pool, *dir, *cgroup_dir; /* owned */
    json_object *command;                 /* owned; array of strings */
    enum workload_state state;
    pid_t root_pid; /* 0 once the root has ended, though others of its tree may live */
    pid_t shim_pid;
    int exit_status; /* -1: unknown or not exited; else exit code, or 128 + signal */
    int64_t started_at_ms;
    unsigned uid, gid; /* whose it is */
    bool adopted;
    char migration[64];     /* the migration that holds it; "" for none */
    struct birth_mask mask; /* owned */
    json_object *mask_told; /* owned; of birth_mask_told */
};
void workload_info_done(struct workload_info *info);
json_object *workload_info_to_json(const struct workload_info *info);

struct workloads_config {
    const char *state_dir;      /* absolute */
    const char *cgroup_parent;  /* below the cgroup v2 mount, "cpubroker/node-a" */
    const char *workload_roots; /* ':'-separated folders beneath which a --dir may lie; the
                                   default folder always may */
    const char *shim_path;      /* NULL: beside the running binary, else libexecdir */
    /* Called from the monitor thread when a workload's state changed; may be NULL. */
    void (*changed)(void *ctx, const char *name);
    void *ctx;
};

struct workloads; /* opaque */

/* Reads what an earlier agent left, connects to the shims that live, and starts the monitor. */
int workloads_new(const struct workloads_config *config, struct workloads **ret, struct error *err);
void workloads_free(struct workloads *w); /* stops watching; workloads and shims live on */
DEFINE_AUTO(workloads)

/* Checks name, folder (beneath an allowed root, resolved without links) and that no workload of
 * that name lives here. Nothing is made. `ret_dir` is owned by the caller. */
int workloads_check(struct workloads *w, const struct workload_spec *spec, char **ret_dir,
                    struct error *err);
/* What a traced mask's tables are made for; copied. Without it no workload starts under such a
 * mask. */
int workloads_set_report(struct workloads *w, const struct cpu_report *report, struct error *err);
/* The grade that a run gets which asks for `wanted` and at least `require`, as in
 * birth_mask_choose; the first call tries what works here. */
int workloads_mask_choose(struct workloads *w, const char *wanted, const char *require,
                          enum mask_grade *ret, struct error *err);
/* Checks command, cwd and env of a run. */
int workload_spec_check(const struct workload_spec *spec, struct error *err);
int workloads_run(struct workloads *w, const struct workload_spec *spec, struct workload_info *ret,
                  struct error *err);
int workloads_adopt(struct workloads *w, const char *name, const char *pool, pid_t pid,
                    struct workload_info *ret, struct error *err);
/* SIGTERM to the root, after timeout_ms SIGKILL to the whole cgroup; returns when it is gone.
 * ERROR_CONFLICT while a migration holds it. */
int workloads_stop(struct workloads *w, const char *name, uint64_t timeout_ms, struct error *err);
int workloads_get(struct workloads *w, const char *name, struct workload_info *ret,
                  struct error *err);
json_object *workloads_to_json(struct workloads *w); /* array; the caller owns it */

/* The agent's half of a migration (migration_*.c) calls these. `migration` is its id. */

/* Source: marks it as held by the migration (durable), or releases it ("" as migration). */
int workloads_hold(struct workloads *w, const char *name, const char *migration, struct error *err);
/* Source: its state between dump and decision. */
int workloads_set_state(struct workloads *w, const char *name, enum workload_state state,
                        struct error *err);
/* The pids of all tasks in the workload's tree (thread groups), 0-terminated; owned by caller. */
int workloads_pids(struct workloads *w, const char *name, pid_t **ret, struct error *err);
/* Source after commit, and target on discard: SIGKILL to every task of its cgroup, waits until
 * they are reaped and the shim is gone, removes cgroup, record and, with `remove_dir`, the folder.
 * A name that is not here is success. */
int workloads_destroy(struct workloads *w, const char *name, bool remove_dir, struct error *err);
/* Gives the workload that has the process `pid` to a debugger, which has 10 s to begin; its tracer
 * takes it back when the debugger has let go. *ret_name is owned by the caller. A workload that
 * nobody traces needs nothing. Errors: ERROR_NOT_FOUND, ERROR_CONFLICT (a migration holds it),
 * ERROR_FORBIDDEN (it is not of `uid`, which is not 0). */
int workloads_debug(struct workloads *w, pid_t pid, unsigned uid, char **ret_name,
                    struct error *err);
/* Source: lets go of a traced workload, into its frozen cgroup, for an engine; nothing for others.
 * workloads_continue takes it back. */
int workloads_let_go(struct workloads *w, const char *name, struct error *err);
/* Target: starts a shim that runs `argv` (the engine's restore) in the workload's cgroup and
 * adopts the root named in `pidfile`. Returns when the engine has ended or timeout_ms is over
 * (then everything it made is killed). The workload is STOPPED and held by `migration`; one with
 * a traced mask is held to it, for the CPUs of this node, and was looked through. */
int workloads_restore(struct workloads *w, const struct workload_spec *spec, const char *migration,
                      char *const *argv, char *const *env, const char *pidfile,
                      const char *log_path, uint64_t timeout_ms, struct workload_info *ret,
                      struct error *err);
/* One that was let go of is traced again first. SIGCONT to every task except keep_stopped
 * (0-terminated, may be NULL), proves that they run, sets RUNNING and releases the hold. */
int workloads_continue(struct workloads *w, const char *name, const pid_t *keep_stopped,
                       struct error *err);
