/* SPDX-License-Identifier: Apache-2.0 */
/* agent.h - the agent that serves: engine, workloads, migrations, listeners and the broker, put
 * together and taken down in order. */
#pragma once

#include "agent_config.h"
#include "cleanup.h"
#include "error.h"

struct agent; /* opaque */

/* Takes the state folder's lock and starts everything. `config` is borrowed and outlives the
 * agent. Signals that end the agent must be blocked already, so that all threads inherit that.
 * Errors: what failed, in one sentence; ERROR_CONFLICT when another agent has the folder. */
int agent_start(const struct agent_config *config, struct agent **ret, struct error *err);
/* Looks at engine and CPUs again; another report goes to the broker by itself. */
void agent_probe(struct agent *agent);
/* Stops serving. Workloads and their shims live on; migrations go on with the next start. */
void agent_free(struct agent *agent); /* NULL is fine */
DEFINE_AUTO(agent)
