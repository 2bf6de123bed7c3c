#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A move that is cancelled while the source dumps: the workload runs on where it was, nothing stays
# on the target, and it can be moved afterwards.
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$0")/../lib/functions.sh"
requires root namespaces criu curl jq

engine_wrapper
fleet_up
victim_start node-a w1

step "cancelled in its dump"
engine_mode node-a "slow 4"
id=$(migrate w1 node-b)
eventually 20 migration_is "$id" dumping
api DELETE "/v1/migrations/$id" >/dev/null
[ "$(api_status)" -lt 300 ] || fail "DELETE answered $(api_status)"
same "the state of the move" cancelled "$(migration_end "$id" 60)"
victim_goes_on node-a w1
victim_whole node-a w1
same "the workload's node" node-a "$(workload_member w1 node)"
eventually 10 nothing_left_on_target

step "a move that is over cannot be cancelled"
api DELETE "/v1/migrations/$id" >/dev/null
same "status" 409 "$(api_status)"

step "the next move works"
engine_normal node-a
moved w1 node-b
victim_goes_on node-b w1
victim_whole node-b w1
