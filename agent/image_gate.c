/* SPDX-License-Identifier: Apache-2.0 */
/* image_gate.c - a state that only goes on, and threads that wait for it. */
#include "image_gate.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <time.h>

struct image_gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* guarded by lock */
    enum image_gate_state state;
    bool broken;
    struct error reason;
};

struct image_gate *image_gate_new(void)
{
    struct image_gate *gate = xcalloc(1, sizeof(*gate));
    pthread_mutex_init(&gate->lock, NULL);
    pthread_cond_init(&gate->changed, NULL);
    return gate;
}

void image_gate_free(struct image_gate *gate)
{
    if (!gate)
        return;
    pthread_cond_destroy(&gate->changed);
    pthread_mutex_destroy(&gate->lock);
    free(gate);
}

void image_gate_set(struct image_gate *gate, enum image_gate_state state)
{
    pthread_mutex_lock(&gate->lock);
    if (state > gate->state)
        gate->state = state;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->lock);
}

void image_gate_break(struct image_gate *gate, const struct error *reason)
{
    pthread_mutex_lock(&gate->lock);
    if (!gate->broken)
        gate->reason = *reason;
    gate->broken = true;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->lock);
}

int image_gate_wait(struct image_gate *gate, enum image_gate_state state, uint64_t timeout_ms,
                    struct error *err)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(timeout_ms / 1000);
    until.tv_nsec += (long)(timeout_ms % 1000) * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    pthread_mutex_lock(&gate->lock);
    int waited = 0;
    while (!gate->broken && gate->state < state && waited != ETIMEDOUT)
        waited = pthread_cond_clockwait(&gate->changed, &gate->lock, CLOCK_MONOTONIC, &until);
    int rc = gate->broken ? -1 : gate->state >= state;
    if (gate->broken && err)
        *err = gate->reason;
    pthread_mutex_unlock(&gate->lock);
    return rc;
}
