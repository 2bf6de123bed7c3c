#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# An image is accepted only from the peer of a migration, with its ticket, once: wrong addresses and
# wrong tickets are refused and do no harm, and a used ticket is worth nothing.
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$0")/../lib/functions.sh"
requires root namespaces criu curl jq

# send FROM TICKET NODE: an image to node-b's listener, from a place, as NODE; prints the status.
send() {
    local place=$1
    head -c 10240 /dev/zero >"$TEST_DIR/image"
    set -- curl -s -o /dev/null -w '%{http_code}' --max-time 20 -T "$TEST_DIR/image" \
        -H "Authorization: Bearer $2" -H "X-Cpubroker-Node: $3" \
        "http://$(node_address node-b):7072/v1/images/$id"
    if [ "$place" = hub ]; then (hub_exec "$@"); else (node_exec "$place" "$@"); fi
}
refused() { [[ $2 = 4?? ]] || fail "$1: answered $2"; }

engine_wrapper
fleet_up node-a node-b node-c
victim_start node-a w1
engine_mode node-a "slow 4"
id=$(migrate w1 node-b)
eventually 20 migration_is "$id" dumping
# the target's own token may read the ticket of the target's own assignment
ticket=$(api_as "$SITE_DIR/nodes/node-b/state/token" GET "/v1/nodes/node-b/assignments?after=0&wait_ms=0" |
    jq -er '.assignments[0].ticket')
same "length of the ticket" 64 ${#ticket}

step "a ticket is not shown to operators or other nodes"
for path in "/v1/migrations/$id" /v1/migrations /v1/workloads/w1; do
    ! api GET "$path" | grep -q "$ticket" || fail "$path shows the ticket"
done
api_as "$SITE_DIR/nodes/node-c/state/token" GET "/v1/nodes/node-b/assignments?after=0&wait_ms=0" >/dev/null
same "status for another node's assignments" 403 "$(api_status)"

step "the right ticket from a wrong place, a wrong ticket from the right place"
refused "from the hub" "$(send hub "$ticket" node-a)"
refused "from node-c" "$(send node-c "$ticket" node-a)"
refused "as node-c" "$(send node-c "$ticket" node-c)"
refused "a wrong ticket" "$(send node-a "$(tr 0-9a-f 1-9a-f0 <<<"$ticket")" node-a)"
refused "no ticket" "$(send node-a "" node-a)"

step "the move is done all the same"
same "the state of the move" "done" "$(migration_end "$id" 60)"
victim_goes_on node-b w1

step "the ticket is used up"
refused "replayed from its own peer" "$(send node-a "$ticket" node-a)"
victim_goes_on node-b w1
victim_whole node-b w1

step "an unknown migration"
known=$id
id=m-0123456789abcdef
refused "an unknown migration" "$(send node-a "$ticket" node-a)"
id=$known
