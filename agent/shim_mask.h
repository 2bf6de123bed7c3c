/* SPDX-License-Identifier: Apache-2.0 */
/* shim_mask.h - the shim's side of the tracer of a masked workload (mask_link.h): starts it, asks
 * it, and starts it anew when it has died. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "error.h"

#define SHIM_MASK_YIELD_MS 10000

struct shim_mask {
    const char *name, *program, *table, *cache, *cgroup; /* borrowed */
    pid_t pid;                                           /* of the tracer; 0: there is none */
    int fd;                                              /* to it; -1 */
    bool attached;       /* it is to trace the tree; not while an engine has it */
    int64_t retry_at_ms; /* after a failure to attach; 0: no need */
    char said[1024];     /* what it said by itself; "" for nothing */
    char problem[1024];  /* why it could not attach, as it was logged last */
};

/* Starts the tracer; it traces nothing yet. Errors: ERROR_FAILED. */
int shim_mask_start(struct shim_mask *mask, struct error *err);
/* Asks and waits for the answer. Errors: what the tracer says; ERROR_TIMEOUT; ERROR_FAILED (it has
 * died). */
int shim_mask_ask(struct shim_mask *mask, const char *request, uint64_t timeout_ms,
                  struct error *err);
/* Waits for "masked", after a seize. Errors: what it says in "failed" instead, and as above. */
int shim_mask_wait(struct shim_mask *mask, uint64_t timeout_ms, struct error *err);
/* Takes the tree of `root`, starting the tracer first if need be; `restored`: an engine has just
 * made it. */
int shim_mask_attach(struct shim_mask *mask, pid_t root, bool restored, struct error *err);
/* Gives an engine the tree, frozen, until shim_mask_attach. */
int shim_mask_detach(struct shim_mask *mask, struct error *err);
/* Gives it to a debugger, which has SHIM_MASK_YIELD_MS to begin; the tracer takes it back when the
 * debugger has let go. */
int shim_mask_yield(struct shim_mask *mask, struct error *err);
/* The tracer has ended (it was reaped): if it should trace, another one does, at once or, after a
 * failure, again and again. */
void shim_mask_ended(struct shim_mask *mask, pid_t root);
/* Attaching failed: it is tried again later. */
void shim_mask_later(struct shim_mask *mask, const struct error *why);
/* To be called when retry_at_ms has come. */
void shim_mask_retry(struct shim_mask *mask, pid_t root);
/* Ends it, at most after a second, and reaps it. */
void shim_mask_stop(struct shim_mask *mask);
