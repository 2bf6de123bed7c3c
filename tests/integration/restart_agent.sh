#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# An agent that is killed while a workload runs loses nothing: the workload runs on, the next agent
# finds it, and it can be moved, stopped and asked for its exit status as before.
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$0")/../lib/functions.sh"
requires root namespaces criu curl jq

fleet_up
victim_start node-a w1
pid=$(ca node-a ps -o json | jq -er '.workloads[0].pid')

step "kill -9 of the agent: the workload takes steps without it"
agent_stop node-a KILL
victim_goes_on node-a w1

step "a new agent finds it, with the same pid"
agent_start node-a
eventually 20 agent_holds node-a w1 running
same "its pid" "$pid" "$(ca node-a ps -o json | jq -r '.workloads[0].pid')"
victim_goes_on node-a w1

step "it moves as if nothing had happened, and the target's agent is killed after the move"
moved w1 node-b
victim_goes_on node-b w1
agent_stop node-b KILL
victim_goes_on node-b w1
agent_start node-b
eventually 20 agent_holds node-b w1 running

step "it moves back and is whole"
moved w1 node-a
victim_goes_on node-a w1
victim_whole node-a w1

step "a workload that ends while no agent runs: its exit status is kept"
ca node-a run --name short -- /bin/sh -c 'sleep 1; exit 7' >/dev/null
agent_stop node-a KILL
sleep 1.5
agent_start node-a
eventually 20 agent_holds node-a short exited
same "the exit status" 7 "$(ca node-a ps -o json | jq '.workloads[] | select(.name == "short").exit_status')"
eventually 20 broker_says short state exited
same "the broker's exit status" 7 "$(workload_member short exit_status)"
