/* SPDX-License-Identifier: Apache-2.0 */
/* shim.h - the small process above each workload, and how the agent talks to it.
 *
 * The shim (cpuagent-shim, shim_main.c) is the parent and subreaper of a workload's tasks. It
 * outlives the agent, reaps, and writes <run_dir>/exit.json when the root has ended. It leaves
 * when no task of the tree is left.
 *
 * Birth: the agent executes it with its orders on descriptor SHIM_ORDERS_FD (a file of
 * "key\0value\0" pairs, so that neither command nor environment show in its arguments, and the
 * workload's environment never becomes the shim's) and the answer's pipe as SHIM_ANSWER_FD.
 * The answer is one line:
 *
 *     ok PID                 the workload's root runs (or was restored, or is watched)
 *     error CODE MESSAGE     nothing was left behind; CODE is of common/error.h
 *
 * Life: it listens on <run_dir>/shim.sock. One line per message, at most SHIM_LINE_MAX bytes:
 *
 *     agent: status            shim: running PID, or exited STATUS (others of the tree live on)
 *     agent: signal NUMBER     shim: ok, or error CODE MESSAGE (the signal goes to the root)
 *     agent: detach            shim: ok, or error CODE MESSAGE (masked only: it is frozen, and
 *                              nobody traces it: an engine may)
 *     agent: attach            shim: likewise (it is traced again, and thawed)
 *     agent: yield             shim: likewise (a debugger may trace it; then it is traced again)
 *                              shim, by itself: exit STATUS (the root has ended and exit.json is
 *                              there; said first to who connects after that)
 *
 * and the connection ends when the shim does. STATUS is the exit code, 128 plus the signal, or -1
 * where the root was no child (adopted), so that nobody could ask.
 *
 * exit.json: {"pid":N,"status":N,"at_ms":N} */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "error.h"

#define SHIM_ORDERS_FD   3
#define SHIM_ANSWER_FD   4
#define SHIM_LINE_MAX    1200
#define SHIM_ORDERS_MAX  (4UL * 1024 * 1024)
#define SHIM_SOCKET_NAME "shim.sock"
#define SHIM_EXIT_NAME   "exit.json"
#define SHIM_LOG_NAME    "shim.log"

/* The keys of the orders. A mask's are given for the grade "detour" alone. The last three may come
 * more than once. */
#define SHIM_ORDERS(X)                                                                         \
    X(MODE, "mode")           /* run, restore, adopt */                                        \
    X(RUN_DIR, "run_dir")     /* for shim.sock, exit.json, shim.log */                         \
    X(TASKS_DIR, "tasks_dir") /* the cgroup of the workload's tasks; "" for none */            \
    X(SHIM_DIR, "shim_dir")   /* the cgroup of the shim itself; "" for none */                 \
    X(LOG_DIR, "log_dir")     /* run: the workload's folder, for stdout.log and stderr.log */  \
    X(CWD, "cwd")             /* run */                                                        \
    X(UID, "uid")             /* run: whose the workload is */                                 \
    X(GID, "gid")                                                                              \
    X(PID, "pid")                   /* adopt */                                                \
    X(PIDFILE, "pidfile")           /* restore: where the engine writes the root's pid */      \
    X(OUTPUT, "output")             /* restore: the engine's own output */                     \
    X(TIMEOUT_MS, "timeout_ms")     /* restore: after which everything it made is killed */    \
    X(MASK_PROGRAM, "mask_program") /* cpuagent-mask; "" or not given: no mask of this kind */ \
    X(MASK_TABLE, "mask_table")     /* the file of its table */                                \
    X(MASK_CACHE, "mask_cache")     /* the folder of its cache; "" for none */                 \
    X(GROUP, "group")               /* run: a supplementary group */                           \
    X(ARG, "arg")                   /* run, restore: the command */                            \
    X(ENV, "env")                   /* run, restore: the command's environment */

enum shim_order {
#define X(order, key) SHIM_ORDER_##order,
    SHIM_ORDERS(X)
#undef X
        SHIM_ORDER_COUNT
};

#define SHIM_MODE_RUN     "run"
#define SHIM_MODE_RESTORE "restore"
#define SHIM_MODE_ADOPT   "adopt"

/* --- the agent's side (shim.c) ------------------------------------------------------------- */

struct shim_orders; /* opaque */

struct shim_orders *shim_orders_new(void);
void shim_orders_put(struct shim_orders *orders, enum shim_order key, const char *value);
void shim_orders_put_number(struct shim_orders *orders, enum shim_order key, int64_t value);
void shim_orders_free(struct shim_orders *orders); /* NULL is fine */

static inline void shim_orders_freep(struct shim_orders **p)
{
    shim_orders_free(*p);
}

/* Starts a shim and waits for its answer, at most timeout_ms; then it is killed. `name` shows in
 * its arguments. On success *ret_shim is a child of the caller and *ret_root the workload's root.
 * Errors: what the shim says, ERROR_TIMEOUT, ERROR_FAILED. */
int shim_start(const char *program, const char *name, const struct shim_orders *orders,
               uint64_t timeout_ms, pid_t *ret_shim, pid_t *ret_root, struct error *err);

/* Connects to the shim of that folder. The caller owns *ret_fd (non-blocking). Errors:
 * ERROR_UNREACHABLE. */
int shim_connect(const char *run_dir, int *ret_fd, struct error *err);

enum shim_state { SHIM_RUNNING, SHIM_ROOT_EXITED };
struct shim_status {
    enum shim_state state;
    pid_t root;      /* SHIM_RUNNING */
    int exit_status; /* SHIM_ROOT_EXITED */
};
/* Both open a connection of their own, ask, and wait at most 5 s. */
int shim_ask_status(const char *run_dir, struct shim_status *ret, struct error *err);
int shim_signal(const char *run_dir, int signal, struct error *err);
/* A masked workload: gives the tree to an engine, frozen, or takes it back. At most 20 s. */
int shim_detach(const char *run_dir, struct error *err);
int shim_attach(const char *run_dir, struct error *err);
int shim_yield(const char *run_dir, struct error *err);

/* What exit.json of that folder says. Errors: ERROR_NOT_FOUND, ERROR_FAILED. */
int shim_read_exit(const char *run_dir, int *ret_status, struct error *err);
