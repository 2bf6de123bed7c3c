/* SPDX-License-Identifier: Apache-2.0 */
/* prune.c - the rounds of pruning: one kind of row after the other, some rows at a time. */
#include "prune.h"

static const enum store_history stages[] = {
    STORE_HISTORY_MIGRATIONS, STORE_HISTORY_EVENTS, STORE_HISTORY_REPORTS,
    STORE_HISTORY_PROFILES,   STORE_HISTORY_NODES,
};

int prune_step(struct prune *prune, int64_t before_ms, bool *ret_round, struct error *err)
{
    bool more = false;
    *ret_round = false;
    if (store_history_prune(prune->store, stages[prune->stage], before_ms, &prune->after, &more,
                            err) < 0)
        return -1;
    if (more)
        return 0;
    prune->after = 0;
    prune->stage = (prune->stage + 1) % ARRAY_LEN(stages);
    *ret_round = prune->stage == 0;
    return 0;
}
