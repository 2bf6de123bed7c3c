#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A workload of three processes, threads, pipes, timers, files and memory moves 20 times to and fro
# between two nodes with real CRIU, and its hash chain never breaks.
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$0")/../lib/functions.sh"
requires root namespaces criu curl jq
moves=${CPUBROKER_TEST_MOVES:-20}

fleet_up
step "the workload starts on node-a"
victim_start node-a w1

here=node-a there=node-b
for ((n = 1; n <= moves; n++)); do
    moved w1 "$there"
    [ ! -e "$(victim_log "$here" w1)" ] || fail "move $n: $here still has the workload's folder"
    victim_goes_on "$there" w1
    same "move $n: the broker's node" "$there" "$(workload_member w1 node)"
    same "move $n: the broker's state" running "$(workload_member w1 state)"
    read -r here there <<<"$there $here"
done
step "after $moves moves the chain is whole and every timer ticks"
victim_whole "$here" w1

step "each node holds what it should: one copy, no images, no tickets"
same "workloads of $there" 0 "$(ca "$there" ps -o json | jq '.workloads | length')"
same "workloads of $here" 1 "$(ca "$here" ps -o json | jq '.workloads | length')"
for node in node-a node-b; do
    left=$(find "$SITE_DIR/nodes/$node/state" -name '*.img' | wc -l)
    same "images left on $node" 0 "$left"
done
same "processes of the workload" 3 "$(site_processes "$VICTIM")"
same "migrations that are done" "$moves" \
    "$(api GET /v1/migrations | jq '[.migrations[] | select(.state == "done")] | length')"

step "stopping it ends every process"
ca "$here" stop w1 >/dev/null
same "processes after the stop" 0 "$(site_processes "$VICTIM")"
