#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The broker under rough treatment: refusals, agents that fall silent, a hundred requests at once,
# kill -9 after every step of a move. Its agents are played with curl; needs neither root nor CRIU.
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$0")/../lib/functions.sh"
# shellcheck source=tests/lib/loopback_broker.sh
. "$SOURCE_DIR/tests/lib/loopback_broker.sh"
requires curl jq python3
/usr/bin/python3 -c 'import yaml, jsonschema' 2>/dev/null || skip "needs python3-yaml and python3-jsonschema"

W1='[{"name":"w1","state":"running","pid":42,"exit_status":null}]'
killed_and_back() {
    kill -9 "$BROKER_PID"
    wait "$BROKER_PID" 2>/dev/null || true
    loopback_broker_start
}
has_reason() { jq -e --arg code "$1" 'any(.reasons[]; .code == $code and .severity == "reject")' >/dev/null <<<"$REPLY_BODY"; }
# refused CODE BODY: POST /migrate answers a verdict that rejects with this reason among others.
refused() {
    call "$OPERATOR" POST /migrate 409 "$2"
    same "the verdict of $2" reject "$(member .verdict)"
    has_reason "$1" || fail "$2: no reason $1 in $REPLY_BODY"
}
# token ROLE [NODE]
token() {
    call "$OPERATOR" POST /v1/tokens 201 "$(jq -nc --arg role "$1" --arg node "${2:-}" \
        '{role:$role} + if $node == "" then {} else {node:$node} end')"
    member .token
}
# beat NODE TOKEN SECONDS: heartbeats in the background.
beat() {
    local body i
    body=$(jq -nc --argjson workloads "${4:-[]}" '{image_address:"127.0.0.1:1",pool:"default",workloads:$workloads}')
    for ((i = 0; i < $3 * 5; i++)); do
        curl -s -o /dev/null --max-time 5 -H "Authorization: Bearer $2" --data-binary "$body" "$URL/v1/nodes/$1/heartbeat" || true
        sleep 0.2
    done
}

step "the sample configuration and the manual know each key and its default"
diff <("$BROKER" serve --print-config) <(tail -n +4 "$SOURCE_DIR/deploy/cpubroker.conf") ||
    fail "deploy/cpubroker.conf is not what --print-config prints"
page=$(sed -e 's/\\-/-/g' -e 's/\\f[BIR]//g' "$SOURCE_DIR/docs/man/cpubroker.conf.5")
while IFS='=' read -r key value; do
    key=${key#\#}
    value=${value# }
    grep -q "^\.\(TP\|B\|BR\) *${key% }\|^\.BR .*${key% }" <<<"$page" || fail "cpubroker.conf.5 does not tell of ${key% }"
    [ -z "${value% }" ] || grep -qF -- "$value" <<<"$page" || fail "cpubroker.conf.5 does not tell ${key% }'s default, $value"
done < <("$BROKER" serve --print-config | grep '^#[a-z_]* =')

step "configurations that are refused"
# refuse_config STATUS WORD LINE...
refuse_config() {
    local status=0 expected=$1 word=$2
    shift 2
    printf '%s\n' "$@" >"$TEST_DIR/bad.conf"
    timeout 10 "$BROKER" serve --config "$TEST_DIR/bad.conf" >/dev/null 2>"$TEST_DIR/bad.log" || status=$?
    same "the exit status for $*" "$expected" "$status"
    grep -q "$word" "$TEST_DIR/bad.log" || fail "$*: no '$word' in $(cat "$TEST_DIR/bad.log")"
}
refuse_config 2 allow_plain_http "listen = 0.0.0.0:0" "state_dir = $TEST_DIR/other"
refuse_config 2 "bad.conf:2" "state_dir = $TEST_DIR/other" "lisen = 127.0.0.1:0"
refuse_config 2 log_level "state_dir = $TEST_DIR/other" "log_level = loud"
refuse_config 2 tls_key "state_dir = $TEST_DIR/other" "tls_cert = /x.pem"
refuse_config 2 silent_after_ms "state_dir = $TEST_DIR/other" "silent_after_ms = 1000"

step "a broker starts; a second one on its folder does not"
SILENT_AFTER_MS=3000
loopback_broker_start
refuse_config 6 "another broker" "listen = 127.0.0.1:0" "state_dir = $TEST_DIR/state"
same "mode of the database" 600 "$(stat -c %a "$TEST_DIR/state/broker.db")"
same "mode of the token" 600 "$(stat -c %a "$TEST_DIR/state/operator.token")"

step "every example is imported and judged against every other"
examples=()
for example in "$SOURCE_DIR"/schema/examples/report-*.json; do
    name=$(basename "$example" .json)
    examples+=("${name#report-}")
    call "$OPERATOR" PUT "/v1/nodes/${name#report-}/report" 200 "$(cat "$example")"
    same "changed" true "$(member .changed)"
    call "$OPERATOR" PUT "/v1/pools/all" "$([ ${#examples[@]} = 1 ] && echo 201 || echo 200)"
    call "$OPERATOR" PUT "/v1/pools/all/nodes/${name#report-}" 200
done
for from in "${examples[@]}"; do
    for to in "${examples[@]}"; do
        call "$OPERATOR" POST /v1/check 200 "{\"from\":\"$from\",\"to\":\"$to\"}"
        [ "$from" != "$to" ] || same "$from to itself" approve "$(member .verdict)"
        # A verdict rejects exactly if one of its reasons does.
        same "$from to $to" "$(member 'if any(.reasons[]; .severity == "reject") then "reject" else "approve" end')" "$(member .verdict)"
    done
done
call "$OPERATOR" GET /v1/pools/all/masks 200
same "members" "${#examples[@]}" "$(member '.members | length')"
# shellcheck disable=SC2016  # these are jq's variables
same "what is lost is not in the mask" 0 "$(member '.features as $f | [.lost[][] | select(. as $x | $f | index($x))] | length')"

step "refusals before anything is looked at"
VIEWER=$(token viewer)
call "" GET /v1/nodes 401
call "${OPERATOR%?}x" GET /v1/nodes 401
call "$VIEWER" PUT /v1/pools/p 403
call "$VIEWER" GET /v1/tokens 403
call "$OPERATOR" POST /v1/check 400 '{"from":'
call "$OPERATOR" POST /v1/check 400 $'{"from":"\xff","to":"b"}'
call "$OPERATOR" POST /migrate 400 '["w1"]'
call "$OPERATOR" POST /migrate 413 "$(head -c 5000 /dev/zero | tr '\0' ' ')"
call "$OPERATOR" GET /v1/nodes/..%2F..%2Fetc 400
head -c 4300000 /dev/zero | tr '\0' ' ' >"$TEST_DIR/large"
same "a report of 4.3 MB" 413 "$(curl -s -o /dev/null -w '%{http_code}' --max-time 20 -X PUT -H "Authorization: Bearer $OPERATOR" \
    --data-binary "@$TEST_DIR/large" "$URL/v1/nodes/x/report")"

step "refusals of moves, with their reasons"
A=$(token agent node-a) B=$(token agent node-b)
heartbeat "$A" node-a
heartbeat "$B" node-b
report "$A" node-a
call "$A" PUT /v1/nodes/node-a/workloads/w1 201 '{"pool":"default","command":["./w"],"dir":"/tmp/w1"}'
refused workload_not_running '{"workload":"w1","to":"node-b"}'
heartbeat "$A" node-a "$W1"
refused unknown_state '{"workload":"w1","to":"node-b"}'
call "$B" PUT /v1/nodes/node-b/report 200 "$(jq -c '.node = "node-b"' "$LESSER_REPORT")"
refused no_engine '{"workload":"w1","to":"node-b"}'
refused missing_feature '{"workload":"w1","to":"node-b"}'
report "$B" node-b
refused same_node '{"workload":"w1","to":"node-a"}'
refused node_imported '{"workload":"w1","to":"haswell"}'
refused not_in_pool '{"workload":"w1","to":"haswell"}'
refused vendor_differs '{"workload":"w1","to":"haswell"}'
call "$OPERATOR" POST /migrate 404 '{"workload":"w9","to":"node-b"}'
call "$OPERATOR" POST /migrate 404 '{"workload":"w1","to":"node-z"}'

step "a node that falls silent is no target, and is one again"
beat node-a "$A" 5 "$W1" &
beating=$!
cleanup eval "kill $beating 2>/dev/null || true"
node_b_is() { [ "$(curl -s -H "Authorization: Bearer $OPERATOR" "$URL/v1/nodes/node-b" | jq -r .status)" = "$1" ]; }
eventually 10 node_b_is silent
refused node_silent '{"workload":"w1","to":"node-b"}'
refused no_target '{"workload":"w1"}'
heartbeat "$B" node-b
call "$OPERATOR" POST /migrate 200 '{"workload":"w1","dry_run":true}'
same "the target that was chosen" node-b "$(member .to)"
wait "$beating"

step "a hundred requests with one key make one migration"
SILENT_AFTER_MS=120000
killed_and_back
heartbeat "$A" node-a "$W1"
heartbeat "$B" node-b
seq 100 | xargs -P 100 -I{} curl -sS -o "$TEST_DIR/same.{}" -w '%{http_code}\n' --max-time 60 \
    -H "Authorization: Bearer $OPERATOR" -d '{"workload":"w1","idempotency_key":"k"}' "$URL/migrate" >"$TEST_DIR/statuses"
same "their statuses" "100 202" "$(sort "$TEST_DIR/statuses" | uniq -c | awk '{ print $1, $2 }')"
same "their migrations" 1 "$(cat "$TEST_DIR"/same.* | jq -r .migration.id | sort -u | wc -l)"
call "$OPERATOR" GET /v1/migrations 200
same "migrations in all" 1 "$(member '.migrations | length')"
ID=$(member '.migrations[0].id')
refused migration_running '{"workload":"w1","to":"node-b"}'
call "$OPERATOR" POST /migrate 409 '{"workload":"w1","to":"node-b","idempotency_key":"k"}'
same "the same key, another request" conflict "$(member .error.code)"

step "kill -9 after every step of a move, and its events go on where they were cut"
last_seq=0
events_since() { # appends what is new
    curl -sN --max-time 2 -H "Authorization: Bearer $OPERATOR" -H "Last-Event-ID: $last_seq" "$URL/v1/migrations/$ID/events" >"$TEST_DIR/part" || true
    cat "$TEST_DIR/part" >>"$TEST_DIR/events"
    last_seq=$(grep '^id: ' "$TEST_DIR/events" | tail -n 1 | cut -d' ' -f2)
}
# one_step NODE TOKEN REPORT STATE SOURCE'S-ACTION TARGET'S-ACTION
one_step() {
    tell "$2" "$1" "$ID" "$3" '{"phase_ms":1,"pid":77}'
    killed_and_back
    call "$OPERATOR" GET "/v1/migrations/$ID" 200
    same "the state after $3" "$4" "$(member .state)"
    call "$A" GET /v1/nodes/node-a/assignments 200
    same "the source's action after $3" "$5" "$(member '.assignments[0].action')"
    call "$B" GET /v1/nodes/node-b/assignments 200
    same "the target's action after $3" "$6" "$(member '.assignments[0].action')"
    tell "$2" "$1" "$ID" "$3" # its answer was lost: said again
    events_since
}
one_step node-b "$B" prepared preparing inspect hold
one_step node-a "$A" inspected dumping dump hold
one_step node-a "$A" dumped transferring send hold
one_step node-a "$A" sent transferring send hold
one_step node-b "$B" received restoring hold restore
one_step node-b "$B" restored committing hold run
one_step node-b "$B" running committing kill null
one_step node-a "$A" killed "done" null null
"$VALIDATE" event "$TEST_DIR/events"
same "the events have no gap and no double" "$(seq 1 "$last_seq" | xargs)" "$(sed -n 's/^id: //p' "$TEST_DIR/events" | xargs)"
call "$OPERATOR" GET /v1/workloads/w1 200
same "where it runs" node-b "$(member .node)"
same "what it was exposed to" "node-a node-b" "$(member '[.seen[].node] | join(" ")')"
call "$OPERATOR" POST /migrate 202 '{"workload":"w1","idempotency_key":"k"}'
same "the key still names it" "$ID" "$(member .migration.id)"

step "a long poll answers as soon as there is something to do"
heartbeat "$A" node-a
heartbeat "$B" node-b "$W1"
call "$A" GET /v1/nodes/node-a/assignments 200
generation=$(member .generation)
start=$(date +%s%N)
curl -s --max-time 30 -H "Authorization: Bearer $A" "$URL/v1/nodes/node-a/assignments?after=$generation&wait_ms=20000" >"$TEST_DIR/polled" &
poll=$!
sleep 1
call "$OPERATOR" POST /migrate 202 '{"workload":"w1","to":"node-a"}'
ID=$(member .migration.id)
wait $poll
elapsed_ms=$((($(date +%s%N) - start) / 1000000))
if [ $elapsed_ms -lt 900 ] || [ $elapsed_ms -ge 8000 ]; then fail "the long poll took $elapsed_ms ms"; fi
same "what it said" prepare "$(jq -r '.assignments[0].action' "$TEST_DIR/polled")"
same "a poll without news" 0 "$(curl -s --max-time 10 -H "Authorization: Bearer $B" \
    "$URL/v1/nodes/node-b/assignments?after=$(jq .generation "$TEST_DIR/polled")&wait_ms=1" | jq '.assignments | length - 1')"

step "a stop is clean, whoever waits"
curl -s --max-time 30 -H "Authorization: Bearer $A" "$URL/v1/nodes/node-a/assignments?after=$(jq .generation "$TEST_DIR/polled")" >/dev/null &
curl -sN --max-time 30 -H "Authorization: Bearer $OPERATOR" "$URL/v1/migrations/$ID/events" >/dev/null &
sleep 0.5
start=$(date +%s)
loopback_broker_stop
[ $(($(date +%s) - start)) -le 6 ] || fail "it took $(($(date +%s) - start)) s"

step "a database of a newer version is left alone"
before=$(sha256sum <"$TEST_DIR/state/broker.db")
python3 - "$TEST_DIR/state/broker.db" <<'PYTHON'
import sqlite3, sys
sqlite3.connect(sys.argv[1]).execute("PRAGMA user_version = 99")
PYTHON
after=$(sha256sum <"$TEST_DIR/state/broker.db")
[ "$before" != "$after" ] || fail "the version was not written"
refuse_config 6 "newer cpubroker" "listen = 127.0.0.1:0" "state_dir = $TEST_DIR/state"
same "the database" "$after" "$(sha256sum <"$TEST_DIR/state/broker.db")"

step "every request that was taken and every reply fits the document"
"$VALIDATE" log "$TEST_DIR/exchanges"
