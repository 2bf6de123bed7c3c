/* SPDX-License-Identifier: Apache-2.0 */
/* image_gate.h - tells the thread that sends an image how far the migration is, since the sending
 * begins while the engine still dumps. */
#pragma once

#include <stdint.h>

#include "cleanup.h"
#include "error.h"

enum image_gate_state {
    IMAGE_GATE_DUMPING, /* memory pages appear and grow, nothing else is complete */
    IMAGE_GATE_DUMPED,  /* every file is complete */
    IMAGE_GATE_OPEN,    /* the journal says that it is being sent: the manifest may go out */
};

struct image_gate;

struct image_gate *image_gate_new(void);
void image_gate_free(struct image_gate *gate); /* nobody waits any more; NULL is fine */
DEFINE_AUTO(image_gate)

/* Never backwards. */
void image_gate_set(struct image_gate *gate, enum image_gate_state state);
/* Ends every wait, from any thread, with this error; the first one counts. */
void image_gate_break(struct image_gate *gate, const struct error *reason);
/* Waits for `state` or a later one: 1 when it is there, 0 when timeout_ms are over, -1 when the
 * gate was broken. */
int image_gate_wait(struct image_gate *gate, enum image_gate_state state, uint64_t timeout_ms,
                    struct error *err);
