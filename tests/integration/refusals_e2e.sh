#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every move that must not happen is refused before anything freezes, with the reason, and the
# workload does not notice. The command line's exit codes say which kind of refusal it was.
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$0")/../lib/functions.sh"
requires root namespaces criu curl jq
BROKER_LINES=("silent_after_ms = 3000" "heartbeat_interval_ms = 500")

# refused STATUS CODE BODY: POST /migrate answers so; CODE is an error's or a reason's.
refused() {
    local reply
    reply=$(api POST /migrate "$3")
    same "status of $3" "$1" "$(api_status)"
    if [ "$1" = 409 ]; then
        jq -e --arg code "$2" '.verdict == "reject" and any(.reasons[]; .code == $code and .severity == "reject" and (.message | length > 10))' \
            <<<"$reply" >/dev/null || fail "$3: no reason '$2' in $reply"
    else
        jq -e --arg code "$2" '.error.code == $code and (.error.message | length > 10)' <<<"$reply" >/dev/null ||
            fail "$3: no error '$2' in $reply"
    fi
}
# exits STATUS ARG...: the cpubroker command line.
exits() {
    local expected=$1 status=0
    shift
    cb "$@" >"$TEST_DIR/out" 2>&1 || status=$?
    same "exit status of 'cpubroker $*' ($(head -c 200 "$TEST_DIR/out"))" "$expected" "$status"
}

engine_wrapper
fleet_up
victim_start node-a w1
# steps are 20 ms apart; the longest pause between two lines is looked at in the end
"$SOURCE_DIR/tests/lib/watch_steps.py" "$TEST_DIR/pauses" "$(victim_log node-a w1)" &
watcher=$!

step "a target that lacks features"
lesser=$(find "$SOURCE_DIR/schema/examples" -name 'report-lesser-*.json' | sort | head -n 1)
cb nodes import node-c "$lesser" --pool default >/dev/null
refused 409 missing_feature '{"workload":"w1","to":"node-c"}'
api POST /migrate '{"workload":"w1","to":"node-c"}' | jq -e 'any(.reasons[]; .code == "missing_feature" and
    (.feature | type == "string") and (.leaf | startswith("0x")) and (.bit | type == "number") and
    .source == 1 and .target == 0 and (.effect | length > 0))' >/dev/null || fail "the reason names no bit"
exits 1 migrate w1 --to node-c
exits 1 check --workload w1 --to node-c
exits 1 check --from node-a --to node-c

step "names that do not exist"
refused 404 not_found '{"workload":"w1","to":"node-z"}'
refused 404 not_found '{"workload":"nobody","to":"node-b"}'
exits 4 migrate w1 --to node-z
exits 4 migrate nobody --to node-b

step "the node it is on"
refused 409 same_node '{"workload":"w1","to":"node-a"}'

step "bad requests"
refused 400 invalid_argument '{"workload":'
refused 400 invalid_argument '[]'
refused 400 invalid_argument '{"workload":7,"to":"node-b"}'
refused 400 invalid_argument '{"workload":"../etc","to":"node-b"}'
{ printf '{"workload":"w1","to":"node-b","note":"'; head -c 3000000 /dev/zero | tr '\0' x; printf '"}'; } >"$TEST_DIR/large"
refused 413 too_large "@$TEST_DIR/large"
exits 2 migrate w1 --tooo node-b
exits 2 frobnicate

step "wrong tokens and wrong roles"
echo 0000000000000000000000000000000000000000000000000000000000000000 >"$TEST_DIR/wrong"
api_as "$TEST_DIR/wrong" POST /migrate '{"workload":"w1","to":"node-b"}' | jq -e '.error.code == "unauthenticated"' >/dev/null ||
    fail "a wrong token is not refused as unauthenticated"
same "status for a wrong token" 401 "$(api_status)"
cb token create --role viewer -o json | jq -r .token >"$TEST_DIR/viewer"
api_as "$TEST_DIR/viewer" POST /migrate '{"workload":"w1","to":"node-b"}' | jq -e '.error.code == "forbidden"' >/dev/null ||
    fail "a viewer may migrate"
same "status for a viewer" 403 "$(api_status)"
api_as "$SITE_DIR/nodes/node-a/state/token" POST /migrate '{"workload":"w1","to":"node-b"}' >/dev/null
same "status for an agent" 403 "$(api_status)"
exits 5 nodes --token-file "$TEST_DIR/wrong"
exits 3 nodes --broker http://127.0.0.1:1

step "a dry run decides and does nothing"
api POST /migrate '{"workload":"w1","to":"node-b","dry_run":true}' | jq -e '.verdict == "approve"' >/dev/null ||
    fail "the dry run does not approve"
same "status of the dry run" 200 "$(api_status)"
exits 0 check --workload w1 --to node-b

step "a silent node"
agent_stop node-b KILL
eventually 15 broker_says_node node-b silent
refused 409 node_silent '{"workload":"w1","to":"node-b"}'

step "nothing was moved and nothing froze"
kill $watcher
same "migrations" 0 "$(api GET /v1/migrations | jq '.migrations | length')"
victim_whole node-a w1
longest=$(sort -n "$TEST_DIR/pauses" | tail -n 1)
echo "  longest pause between two steps: $longest ms"
[ "$longest" -lt 2000 ] || fail "the workload stood still for $longest ms"

step "a move that is running already"
agent_start node-b
agent_wait_live node-b
engine_mode node-a "slow 3"
id=$(migrate w1 node-b)
refused 409 migration_running '{"workload":"w1","to":"node-b"}'
same "the first move" "done" "$(migration_end "$id" 60)"
victim_whole node-b w1
