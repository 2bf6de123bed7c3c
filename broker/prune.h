/* SPDX-License-Identifier: Apache-2.0 */
/* prune.h - takes away old history that nobody refers to, a little at a time.
 *
 * What goes: migrations that ended and are settled, with their events; events of the fleet; reports
 * that no node, ledger or migration names; profiles that no report or ledger names; names of nodes
 * that were taken away by force and that no workload refers to any more. The newest event stays, so
 * that numbers go on. One thread. */
#pragma once

#include "store.h"

struct prune {
    struct store *store; /* borrowed */
    int64_t after;       /* where this round over reports or profiles is */
    unsigned stage;
};

/* One small transaction about what is older than `before_ms`. *ret_round: the round is over, and
 * the next step begins another. */
int prune_step(struct prune *prune, int64_t before_ms, bool *ret_round, struct error *err);
