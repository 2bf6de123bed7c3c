#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A broker that is killed loses nothing: workloads run on, and the next broker knows nodes, pools,
# workloads, migrations, tokens and idempotency keys, and moves go on.
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$0")/../lib/functions.sh"
requires root namespaces criu curl jq

fleet_up
victim_start node-a w1
cb pools create spare >/dev/null
id=$(migrate w1 node-b '"idempotency_key":"first move"')
same "the first move" "done" "$(migration_end "$id" 60)"
victim_goes_on node-b w1

step "kill -9 of the broker: the workload takes steps without it"
broker_stop KILL
victim_goes_on node-b w1
api GET /v1/nodes >/dev/null 2>&1 && fail "the broker still answers"

step "a new broker knows what the old one knew, and its agents come back by themselves"
broker_start
agent_wait_live node-a
agent_wait_live node-b
same "the workload's node" node-b "$(workload_member w1 node)"
same "the move's state" "done" "$(api GET "/v1/migrations/$id" | jq -r .state)"
same "the pool" spare "$(api GET /v1/pools/spare | jq -r .name)"

step "the idempotency key of the first move still names it"
same "the repeated request" "$id" "$(migrate w1 node-b '"idempotency_key":"first move"')"

step "all events are replayed"
events "$id" 10 >"$TEST_DIR/replayed"
for state in preparing dumping transferring restoring committing "done"; do
    grep -q "\"state\":\"$state\"" "$TEST_DIR/replayed" || fail "the phase $state is not replayed"
done

step "kill -9 in the middle of a move: it comes to one end, and the workload is whole"
id=$(migrate w1 node-a)
broker_stop KILL
broker_start
eventually 60 migration_is_over "$id"
node=$(workload_member w1 node)
victim_goes_on "$node" w1
victim_whole "$node" w1
same "copies of the workload" 3 "$(site_processes "$VICTIM")"

step "the next move works"
other="node-b"
[ "$node" = "node-a" ] || other="node-a"
moved w1 "$other"
victim_goes_on "$other" w1
victim_whole "$other" w1
