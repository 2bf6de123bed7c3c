# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# loopback_broker.sh - a broker on a loopback port of the kernel's choice, and agents played with
# curl; sourced after functions.sh. Needs neither root nor CRIU. Every exchange is noted in
# $TEST_DIR/exchanges, for tests/tools/validate_openapi.py log.
# shellcheck disable=SC2034  # who sources this reads the variables

BROKER=$CPUBROKER_BUILD_DIR/broker/cpubroker
VALIDATE=$SOURCE_DIR/tests/tools/validate_openapi.py
REPORT=$SOURCE_DIR/schema/examples/report-zen4.json
LESSER_REPORT=$SOURCE_DIR/schema/examples/report-lesser-amd.json

# loopback_broker_start: sets $URL, $OPERATOR (a token) and $BROKER_PID. Again: on the same port and
# folder. SILENT_AFTER_MS may be set before.
loopback_broker_start() {
    [ -d "$TEST_DIR/state" ] || mkdir -m 700 "$TEST_DIR/state"
    printf '%s\n' "listen = ${URL:+${URL#http://}}" "state_dir = $TEST_DIR/state" "silent_after_ms = ${SILENT_AFTER_MS:-120000}" |
        sed 's/^listen = $/listen = 127.0.0.1:0/' >"$TEST_DIR/broker.conf"
    : >"$TEST_DIR/broker.log"
    "$BROKER" serve --config "$TEST_DIR/broker.conf" >"$TEST_DIR/broker.log" 2>&1 &
    BROKER_PID=$!
    cleanup loopback_broker_end
    eventually 20 loopback_broker_listens
    URL=http://$(loopback_address)
    OPERATOR=$(cat "$TEST_DIR/state/operator.token")
}
loopback_broker_end() { ! kill -0 "$BROKER_PID" 2>/dev/null || kill "$BROKER_PID"; }
loopback_address() { sed -n 's/.* msg="cpubroker: listening" .*address="\{0,1\}\([0-9.:]*\).*/\1/p' "$TEST_DIR/broker.log"; }
loopback_broker_listens() { [ -n "$(loopback_address)" ] && [ -s "$TEST_DIR/state/operator.token" ]; }
# loopback_broker_stop: ends it and fails unless it ends well.
loopback_broker_stop() {
    kill "$BROKER_PID"
    wait "$BROKER_PID" || fail "the broker ended with status $?"
}

# call TOKEN METHOD PATH STATUS [BODY]: calls the broker and leaves the reply in $REPLY_BODY.
call() {
    local status
    printf '%s' "${5:-}" >"$TEST_DIR/request"
    : >"$TEST_DIR/reply"
    status=$(curl -s -o "$TEST_DIR/reply" -w '%{http_code}' --max-time 20 -X "$2" \
        ${1:+-H "Authorization: Bearer $1"} ${5:+--data-binary "@$TEST_DIR/request"} "$URL$3")
    jq -nc --arg method "$2" --arg path "$3" --arg status "$status" \
        --rawfile request "$TEST_DIR/request" --rawfile reply "$TEST_DIR/reply" \
        '$ARGS.named' >>"$TEST_DIR/exchanges"
    REPLY_BODY=$(cat "$TEST_DIR/reply")
    [ "$status" = "$4" ] || fail "$2 $3: expected $4, got $status: $REPLY_BODY"
}
# member FILTER: of the last reply.
member() { jq -r "$1" <<<"$REPLY_BODY"; }

# heartbeat TOKEN NODE [WORKLOADS]
heartbeat() {
    call "$1" POST "/v1/nodes/$2/heartbeat" 200 "$(jq -nc --arg node "$2" --argjson workloads "${3:-[]}" \
        '{version:"0.1.0",boot_id:"b",image_address:"127.0.0.1:1",pool:"default",free_bytes:1000000,workloads:$workloads}')"
}
# report TOKEN NODE: that of an AMD Zen 4 with an engine.
report() {
    call "$1" PUT "/v1/nodes/$2/report" 200 \
        "$(jq -c --arg node "$2" '.node = $node | .engines = [{name:"criu",version:"4.1"}]' "$REPORT")"
}
# What an agent has seen of a workload: one process, which uses nothing.
EVIDENCE=$SOURCE_DIR/schema/examples/evidence-quiet.json
# tell TOKEN NODE ID STATE [MORE]: an agent's progress; $REPLY_BODY is the next assignment.
tell() {
    local more=${5:-{\}}
    [ "$4" != inspected ] || more=$(jq -c --argjson more "$more" '{evidence:.} + $more' "$EVIDENCE")
    call "$1" POST "/v1/migrations/$3/progress" 200 "$(jq -nc --arg node "$2" --arg state "$4" \
        --argjson more "$more" '{node:$node,state:$state,error:null} + $more')"
}
