#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# An engine that stops every task and then hangs: the watchdog kills it, the migration fails with a
# reason, the workload runs on where it was, and the next move works.
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$0")/../lib/functions.sh"
requires root namespaces criu curl jq
AGENT_LINES=("dump_timeout_ms = 3000")

engine_wrapper
fleet_up
victim_start node-a w1

step "the engine freezes the tasks and hangs"
engine_mode node-a hang
id=$(migrate w1 node-b)
same "the state of the move" failed "$(migration_end "$id" 60)"
api GET "/v1/migrations/$id" | jq -e '.error.message | length > 20' >/dev/null || fail "no error is given"
echo "  $(api GET "/v1/migrations/$id" | jq -r .error.message)"
victim_goes_on node-a w1
victim_whole node-a w1
same "the workload's node" node-a "$(workload_member w1 node)"
same "the workload's state" running "$(workload_member w1 state)"
same "engines that live on" 0 "$(site_processes "$CPUBROKER_BUILD_DIR/tests/hang_engine")"
eventually 10 nothing_left_on_target

step "an engine that fails at once"
engine_mode node-a fail
id=$(migrate w1 node-b)
same "the state of the move" failed "$(migration_end "$id" 60)"
api GET "/v1/migrations/$id" | jq -r '.error | .message + " " + .log' | grep -q "made to fail" ||
    fail "the engine's last words do not reach the user: $(api GET "/v1/migrations/$id" | jq -c .error)"
victim_goes_on node-a w1

step "an engine that fails to restore: the source's copy runs on"
engine_normal node-a
engine_mode node-b fail-restore
id=$(migrate w1 node-b)
same "the state of the move" failed "$(migration_end "$id" 60)"
victim_goes_on node-a w1
victim_whole node-a w1
eventually 10 nothing_left_on_target

step "with an engine that works the next move is done"
engine_normal node-b
moved w1 node-b
victim_goes_on node-b w1
victim_whole node-b w1
