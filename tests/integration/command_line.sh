#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The cpubroker command line: what it prints for people and for programs, on which stream, and how
# it ends, against a real broker whose agents are played here with curl.
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$0")/../lib/functions.sh"
# shellcheck source=tests/lib/loopback_broker.sh
. "$SOURCE_DIR/tests/lib/loopback_broker.sh"
requires curl jq python3
/usr/bin/python3 -c 'import yaml, jsonschema' 2>/dev/null || skip "needs python3-yaml and python3-jsonschema"

# run STATUS ARG...: runs cpubroker; its output is in $OUT and $TEST_DIR/out, its errors in $ERR.
run() {
    local expected=$1 status=0
    shift
    "$BROKER" "$@" >"$TEST_DIR/out" 2>"$TEST_DIR/err" || status=$?
    OUT=$(cat "$TEST_DIR/out")
    ERR=$(cat "$TEST_DIR/err")
    [ $status = "$expected" ] || fail "cpubroker $*: expected $expected, got $status: $OUT $ERR"
}
says() { grep -qF -- "$1" <<<"$OUT" || fail "no '$1' in: $OUT"; }
complains() {
    grep -qF -- "$1" <<<"$ERR" || fail "no '$1' in: $ERR"
    same "lines of the complaint" 1 "$(wc -l <"$TEST_DIR/err")"
    same "stdout beside the complaint" "" "$OUT"
}
# fits SCHEMA: what -o json printed is the API's.
fits() { "$VALIDATE" schema "$1" "$TEST_DIR/out" || fail "not a $1: $OUT"; }
list_fits() { # SCHEMA MEMBER
    jq -c ".$2[]" "$TEST_DIR/out" >"$TEST_DIR/items"
    [ -s "$TEST_DIR/items" ] || fail "no $2 in: $OUT"
    while IFS= read -r item; do "$VALIDATE" schema "$1" <<<"$item"; done <"$TEST_DIR/items"
}

step "help succeeds, and mistakes are usage errors that say what was wrong"
run 0 --help
says "migrations cancel"
run 0 --version
run 0 migrate --help
says "--idempotency-key KEY"
run 2
run 2 fly
complains "no command 'fly'"
run 2 migrate
complains "expected: cpubroker migrate"
run 2 nodes --frobnicate
complains "unknown option '--frobnicate'"
run 2 check --from a
complains "--to NODE"
run 2 token create
complains "--role is needed"
run 2 nodes --broker nonsense
complains "is no URL"
run 2 nodes --token-file /nonexistent
complains "/nonexistent"
run 4 serve --config /nonexistent/x.conf

step "nobody there: 3"
run 3 nodes --broker http://127.0.0.1:1
complains "cannot reach http://127.0.0.1:1"

loopback_broker_start
export CPUBROKER_URL=$URL

step "no token, and one that does not open: 5"
echo 0000 >"$TEST_DIR/bad.token"
run 5 nodes --token-file "$TEST_DIR/bad.token"
complains "not known"
export CPUBROKER_TOKEN_FILE=$TEST_DIR/state/operator.token

step "tokens"
run 0 token create --role agent --node node-a --note "first"
AGENT_A=$OUT
grep -qxE '[0-9a-f]{64}' <<<"$AGENT_A" || fail "no token alone on stdout: $OUT"
run 0 token create --role agent -o json
fits TokenMade
AGENT_B=$(jq -r .token <<<"$OUT")
run 0 token create --role=viewer
(umask 077 && echo "$OUT" >"$TEST_DIR/viewer.token")
run 0 token list
says "first"
! grep -q "$AGENT_A" <<<"$OUT" || fail "the list shows a secret"
run 0 token list -o json
list_fits Token tokens
run 5 token list --token-file "$TEST_DIR/viewer.token"
complains "role"
run 2 token create --role king
complains "king"
run 2 token create --role viewer -o xml
complains "table or json"
same "tokens that a bad -o has made" 4 "$(curl -s -H "Authorization: Bearer $OPERATOR" "$URL/v1/tokens" | jq '.tokens | length')"

step "pools"
run 0 pools create extra --mix-vendors
run 0 pools create extra --min-level x86-64-v2
run 0 pools create extra -o json
same "what was not told stays" "true x86-64-v2" "$(jq -r '"\(.policy.mix_vendors) \(.policy.min_level)"' <<<"$OUT")"
run 0 pools create extra --min-level any -o json
same "any level is none" "true null" "$(jq -r '"\(.policy.mix_vendors) \(.policy.min_level)"' <<<"$OUT")"
run 0 pools create extra --part-vendors
run 2 pools create extra --part-vendors --mix-vendors
run 0 pools create extra --mix-vendors
says "extra"
run 0 pools create extra -o json
fits Pool
run 0 pools
says "extra"
run 0 pools -o json
list_fits Pool pools
run 4 pools join extra nobody
complains "nobody"
run 0 pools delete extra
run 4 pools delete extra
run 4 masks --pool extra

step "nodes"
heartbeat "$AGENT_A" node-a
report "$AGENT_A" node-a
heartbeat "$AGENT_B" node-b
report "$AGENT_B" node-b
run 0 nodes
says "node-a"
says "live"
run 0 nodes -o json
list_fits Node nodes
run 0 nodes import lesser "$LESSER_REPORT" --pool default
says "lesser"
run 0 nodes import lesser - <"$LESSER_REPORT"
says "was known"
run 2 nodes import other /nonexistent
echo '{"schema":"cpubroker.report/1"' >"$TEST_DIR/broken.json"
run 2 nodes import other "$TEST_DIR/broken.json"
complains "JSON"
echo '{"schema":"cpubroker.report/9"}' >"$TEST_DIR/broken.json"
run 2 nodes import other "$TEST_DIR/broken.json"
run 0 nodes show node-a
says "avx512f"
run 0 nodes show node-a -o json
fits NodeDetail
run 4 nodes show nobody
complains "nobody"
run 0 masks
says "node-a has, and the pool lacks:"
run 0 masks --pool default -o json
fits Masks

step "workloads and verdicts"
call "$AGENT_A" PUT /v1/nodes/node-a/workloads/w1 201 '{"pool":"default","command":["./w","\u001b[31mred"],"dir":"/tmp/w1"}'
heartbeat "$AGENT_A" node-a '[{"name":"w1","state":"running","pid":42}]'
run 0 workloads
says "running"
run 0 workloads -o json
list_fits Workload workloads
run 0 workloads show w1
says "born on"
says "under no mask"
says "because of 'node-a'"
! grep -q $'\033' <<<"$OUT" || fail "a control character from outside reaches the terminal"
run 0 workloads show w1 -o json
fits Workload
run 4 workloads show w2
run 0 check --workload w1 --to node-b
says "approve: from node-a to node-b"
run 1 check --from node-a --to lesser
same "complaints about a verdict" "" "$ERR"
says "reject: from node-a to lesser"
says "SIGILL"
says "avx512f"
says "what to do:"
run 1 check --from node-a --to lesser -o json
fits Verdict
run 4 check --from node-a --to nobody
run 1 migrate w1 --to lesser
says "reject"
run 1 migrate w1 --to lesser -o json
fits Verdict
run 0 migrate w1 --to node-b --dry-run
says "approve"
run 4 migrate w2 --to node-b
same "migrations so far" "" "$("$BROKER" migrations | sed 1d)"

step "a move that is cancelled"
run 0 migrate w1 --to node-b -o json
fits MigrationStarted
ID=$(jq -r .migration.id <<<"$OUT")
run 0 migrations
says "preparing"
run 0 migrations cancel "$ID"
tell "$AGENT_A" node-a "$ID" resumed
tell "$AGENT_B" node-b "$ID" discarded
run 6 migrations cancel "$ID"
run 4 migrations cancel m-0000000000000000
run 0 migrations "$ID"
says "cancelled"

# play ID: both agents' part of a move that succeeds.
play() {
    tell "$AGENT_B" node-b "$1" prepared
    tell "$AGENT_A" node-a "$1" inspected
    tell "$AGENT_A" node-a "$1" dumped '{"bytes":1048576,"total_bytes":1048576}'
    tell "$AGENT_A" node-a "$1" progress '{"bytes":524288}'
    tell "$AGENT_A" node-a "$1" sent
    tell "$AGENT_B" node-b "$1" received '{"bytes":1048576}'
    tell "$AGENT_B" node-b "$1" restored '{"pid":77}'
    tell "$AGENT_B" node-b "$1" running '{"pid":77}'
    tell "$AGENT_A" node-a "$1" killed
}
running_id() { "$BROKER" migrations -o json | jq -r '.migrations[] | select(.finished_at_ms == null).id'; }
has_running() { [ -n "$(running_id)" ]; }

step "a move that is waited for and fails: 6, and where the workload is"
"$BROKER" migrate w1 --to node-b --wait >"$TEST_DIR/wait.out" 2>"$TEST_DIR/wait.err" &
WAIT_PID=$!
eventually 10 has_running
ID=$(running_id)
tell "$AGENT_B" node-b "$ID" failure '{"error":{"code":"failed","message":"no room for it","log":"line 1\nline 2"}}'
tell "$AGENT_A" node-a "$ID" resumed
tell "$AGENT_B" node-b "$ID" discarded
status=0
wait $WAIT_PID || status=$?
same "exit status" 6 $status
grep -q "no room for it.*'w1' stays on node 'node-a'" "$TEST_DIR/wait.err" || fail "$(cat "$TEST_DIR/wait.err")"
run 0 migrations "$ID"
says "line 2"

step "a move that is waited for, while the broker restarts"
"$BROKER" migrate w1 --to node-b --wait >"$TEST_DIR/wait.out" 2>"$TEST_DIR/wait.err" &
WAIT_PID=$!
eventually 10 has_running
ID=$(running_id)
tell "$AGENT_B" node-b "$ID" prepared
tell "$AGENT_A" node-a "$ID" inspected
loopback_broker_stop
sleep 1
loopback_broker_start
tell "$AGENT_A" node-a "$ID" dumped '{"bytes":1048576,"total_bytes":1048576}'
tell "$AGENT_B" node-b "$ID" received '{"bytes":1048576}'
tell "$AGENT_B" node-b "$ID" restored '{"pid":77}'
tell "$AGENT_B" node-b "$ID" running '{"pid":77}'
tell "$AGENT_A" node-a "$ID" killed
wait $WAIT_PID || fail "migrate --wait: $(cat "$TEST_DIR/wait.err")"
grep -q "^w1 moved from node-a to node-b in" "$TEST_DIR/wait.out" || fail "$(cat "$TEST_DIR/wait.out")"
for phase in preparing dumping transferring restoring committing; do
    same "lines about $phase" 1 "$(grep -c "^$phase  *[0-9]* ms$" "$TEST_DIR/wait.err")"
done
! grep -q $'\r' "$TEST_DIR/wait.err" || fail "a progress line where stderr is no terminal"

step "a move back, as JSON and on a terminal"
heartbeat "$AGENT_B" node-b '[{"name":"w1","state":"running","pid":77}]'
back() {
    local id=$1
    tell "$AGENT_A" node-a "$id" prepared
    tell "$AGENT_B" node-b "$id" inspected
    tell "$AGENT_B" node-b "$id" dumped '{"bytes":1048576,"total_bytes":1048576}'
    tell "$AGENT_B" node-b "$id" progress '{"bytes":524288}'
    tell "$AGENT_A" node-a "$id" received
    tell "$AGENT_A" node-a "$id" restored '{"pid":42}'
    tell "$AGENT_A" node-a "$id" running '{"pid":42}'
    tell "$AGENT_B" node-b "$id" killed
}
heartbeat "$AGENT_A" node-a
"$BROKER" migrate w1 --to node-a --wait -o json >"$TEST_DIR/out" 2>"$TEST_DIR/err" &
WAIT_PID=$!
eventually 10 has_running
back "$(running_id)"
wait $WAIT_PID || fail "migrate --wait -o json: $(cat "$TEST_DIR/err")"
fits MigrationStarted
same "the state that JSON tells" "done" "$(jq -r .migration.state "$TEST_DIR/out")"
heartbeat "$AGENT_A" node-a '[{"name":"w1","state":"running","pid":42}]'
heartbeat "$AGENT_B" node-b
if command -v script >/dev/null; then
    script -qec "'$BROKER' migrate w1 --to node-b --wait --idempotency-key k" "$TEST_DIR/typescript" </dev/null >/dev/null &
    WAIT_PID=$!
    eventually 10 has_running
    play "$(running_id)"
    wait $WAIT_PID || fail "migrate --wait on a terminal: $(cat "$TEST_DIR/typescript")"
    grep -q "transferring 512.0 KiB of 1.0 MiB, .*/s" "$TEST_DIR/typescript" || fail "no progress line: $(cat "$TEST_DIR/typescript")"
fi

step "what is in use cannot go: 6"
run 6 pools delete default
run 0 nodes delete lesser -o json
run 4 nodes delete lesser
call "$OPERATOR" DELETE '/v1/nodes/node-a?force=perhaps' 400
run 6 nodes delete node-a --force # its agent was heard a moment ago
run 0 nodes import spare "$LESSER_REPORT"
run 0 nodes delete spare --force
says "workloads given up: none"

"$VALIDATE" log "$TEST_DIR/exchanges"
loopback_broker_stop
