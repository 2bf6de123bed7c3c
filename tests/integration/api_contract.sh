#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The broker's API is what schema/openapi.yaml says: the same routes and roles, the same lists of
# codes, and every request and reply fits, through a whole migration whose two agents are played
# here with curl. Needs neither root nor CRIU.
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$0")/../lib/functions.sh"
# shellcheck source=tests/lib/loopback_broker.sh
. "$SOURCE_DIR/tests/lib/loopback_broker.sh"
requires curl jq python3
/usr/bin/python3 -c 'import yaml, jsonschema' 2>/dev/null || skip "needs python3-yaml and python3-jsonschema"


# words HEADER TABLE COLUMN: the wire names in a table of a C header.
words() {
    awk -v start="#define $2(X)" 'index($0, start) { on = 1; next } on && !/X\(/ && !/\\$/ { exit }
        on { print }' "$SOURCE_DIR/$1" | grep -oE 'X\([A-Z_0-9]+, *"[^"]*"' | sed 's/.*"\(.*\)"/\1/'
}
same_words() { # WHAT SCHEMA HEADER TABLE
    local expected found
    expected=$("$VALIDATE" enum "$2" | sort)
    found=$(words "$3" "$4" | grep -vx none | sort)
    [ -n "$found" ] || fail "no table $4 in $3"
    same "$1" "$(grep -vx none <<<"$expected")" "$found"
}

step "the document holds together"
"$VALIDATE" document

step "its routes and roles are the broker's"
diff <("$VALIDATE" routes | sort) <("$BROKER" routes | awk '{ print $1, $2, $3 }' | sort) ||
    fail "openapi.yaml (<) and cpubroker routes (>) differ"

step "its codes and states are those of the tables"
same_words "error codes" ErrorCode common/error.h ERROR_KINDS
same_words "reason codes" ReasonCode broker/verdict.h VERDICT_CODES
same_words "migration states" MigrationState common/migration_states.h MIGRATION_STATES
same_words "reports" ReportState common/migration_states.h MIGRATION_REPORTS
same_words "kinds of events" FleetEventKind broker/events.h FLEET_EVENTS
same_words "states of workloads" LifeState broker/model.h LIFE_STATES
same_words "grades of masks" MaskGrade common/mask_grade.h MASK_GRADES

step "the examples fit their schemas"
for example in "$SOURCE_DIR"/schema/examples/*.json; do
    name=$(basename "$example" .json)
    name=${name%%-*}
    "$VALIDATE" schema "${name^}" "$example"
done

step "the validator refuses what does not fit"
misfit() { ! "$VALIDATE" "$@" 2>/dev/null || fail "fits: $*"; }
misfit reply GET /v1/pools 200 <<<'{"pools":[{"name":"default"}]}'
misfit reply GET /v1/pools 200 <<<'{"pools":[],"surprise":1}'
misfit reply GET /v1/pools 200 <<<'{"pools":null}'
misfit reply GET /v1/pools 404 <<<'{"error":{"code":"new_code","message":"m"}}'
misfit reply GET /v1/pools 204 </dev/null
misfit reply DELETE /v1/pools/p 204 <<<'{}'
misfit reply GET /v2/pools 200 <<<'{}'
misfit schema Verdict <<<'{"verdict":"maybe","from":"a","to":"b","reasons":[]}'
misfit event <<<$'id: 2\nevent: phase\ndata: {"seq":1,"at_ms":1,"kind":"phase","state":"done","node":null}\n'

step "a broker starts, its port chosen by the kernel"
loopback_broker_start

step "status and access"
call "" GET /healthz 200
call "" GET /readyz 200
call "" GET /metrics 401
call "$OPERATOR" GET /metrics 200
call "" GET /nope 404
call "" PATCH /v1/nodes 405
call "" GET /v1/nodes 401
call nonsense GET /v1/nodes 401
call "$OPERATOR" GET /v1/tokens 200
call "$OPERATOR" POST /v1/tokens 201 '{"role":"viewer","note":"for a test"}'
VIEWER=$(member .token)
VIEWER_ID=$(member .id)
call "$OPERATOR" POST /v1/tokens 201 '{"role":"agent","node":"node-a"}'
AGENT_A=$(member .token)
call "$OPERATOR" POST /v1/tokens 201 '{"role":"agent"}'
AGENT_B=$(member .token)
call "$OPERATOR" POST /v1/tokens 400 '{"role":"king"}'
call "$VIEWER" POST /v1/tokens 403 '{"role":"viewer"}'
call "$VIEWER" POST /migrate 403 '{"workload":"w1"}'
call "$AGENT_A" GET /v1/nodes 403
call "$OPERATOR" POST /v1/nodes/node-a/heartbeat 403 '{"workloads":[]}'
call "$OPERATOR" DELETE "/v1/tokens/$VIEWER_ID" 204
call "$VIEWER" GET /v1/nodes 401
call "$OPERATOR" DELETE "/v1/tokens/$VIEWER_ID" 404

step "pools"
call "$OPERATOR" GET /v1/pools 200
call "$OPERATOR" PUT /v1/pools/extra 201 '{"policy":{"mix_vendors":true}}'
call "$OPERATOR" PUT /v1/pools/extra 200
call "$OPERATOR" GET /v1/pools/extra 200
call "$OPERATOR" PUT /v1/pools/extra 200 '{"policy":{"min_level":"x86-64-v2","evidence":"relax","islands":"refuse"}}'
same "the policy" "true x86-64-v2 relax refuse" "$(member '.policy | "\(.mix_vendors) \(.min_level) \(.evidence) \(.islands)"')"
call "$OPERATOR" PUT /v1/pools/extra 200 '{"policy":{"min_level":null}}'
same "what was not told stays, null clears" "true null relax refuse" "$(member '.policy | "\(.mix_vendors) \(.min_level) \(.evidence) \(.islands)"')"
call "$OPERATOR" PUT /v1/pools/extra 400 '{"policy":{"min_level":"x86-64-v9"}}'
call "$OPERATOR" PUT /v1/pools/extra 400 '{"policy":{"islands":"sink"}}'
call "$OPERATOR" GET /v1/pools/extra/masks 200
call "$OPERATOR" PUT '/v1/pools/a%2Fb' 400
call "$OPERATOR" DELETE /v1/pools/extra 204
call "$OPERATOR" GET /v1/pools/extra 404

step "agents come, and report"
heartbeat "$AGENT_A" node-a
same "the report is wanted" true "$(member .report_wanted)"
heartbeat "$AGENT_B" node-b
report "$AGENT_A" node-a
report "$AGENT_B" node-b
call "$AGENT_A" PUT /v1/nodes/node-b/report 403 "$(cat "$REPORT")"
call "$OPERATOR" PUT /v1/nodes/lesser/report 200 "$(jq -c '.node = "lesser"' "$LESSER_REPORT")"
call "$OPERATOR" PUT /v1/pools/default/nodes/lesser 200
call "$OPERATOR" PUT /v1/nodes/lesser/report 400 '{"schema":"cpubroker.report/1"}'
call "$OPERATOR" PUT /v1/nodes/lesser/report 400 '{"schema":'
call "$OPERATOR" PUT /v1/pools/default/nodes/nobody 404
call "$OPERATOR" GET /v1/nodes 200
call "$OPERATOR" GET /v1/nodes/node-a 200
call "$OPERATOR" GET /v1/nodes/lesser 200
call "$OPERATOR" GET /v1/nodes/nobody 404
call "$OPERATOR" GET /v1/pools/default/masks 200
count=$(member .member_count)
first=$(member '.members[0]')
same "all members fit a page" null "$(member .next)"
call "$OPERATOR" GET '/v1/pools/default/masks?limit=1' 200
same "the first page" "$first" "$(member '.members | join(" ")')"
[ "$count" -lt 2 ] || same "where to go on" "$first" "$(member .next)"
call "$OPERATOR" GET "/v1/pools/default/masks?after=$first" 200
same "the rest" $((count - 1)) "$(member '.members | length')"
call "$OPERATOR" GET '/v1/pools/default/masks?limit=10001' 400
call "$OPERATOR" GET '/v1/pools/default/masks?format=nothing' 400
call "$OPERATOR" GET '/v1/pools/default/advice?max_pools=2' 200
same "what costs the pool most" lesser "$(member '.costs[0].node')"
same "the split" 2 "$(member '.split.pools | length')"
call "$OPERATOR" GET '/v1/pools/default/advice?max_pools=0' 400
call "$OPERATOR" GET /v1/pools/default/matrix 200
same "from node-a to lesser" missing_feature \
    "$(member '.rows[] | select(.from == "node-a").cells[] | select(.to == "lesser").code')"
call "$OPERATOR" POST /v1/pools/default/what-if 200 '{"without":["lesser"]}'
same "avx2 would be gained" true "$(member '.difference.gained | index("avx2") != null')"
call "$OPERATOR" POST /v1/pools/default/what-if 200 \
    "{\"with\":[{\"name\":\"new\",\"report\":$(cat "$REPORT")}]}"
same "members that there would be" 4 "$(member '.members | length')"
call "$OPERATOR" POST /v1/pools/default/what-if 400 '{"without":["nobody"]}'
call "$OPERATOR" POST /v1/pools/default/what-if 404 '{"with":["nobody"]}'
call "$OPERATOR" POST /v1/pools/default/what-if 400 '{"with":["lesser"]}'
call "$OPERATOR" DELETE /v1/pools/default/nodes/lesser 200

step "what happened to the fleet"
call "$OPERATOR" GET /v1/events 200
same "the events" "pool_mask_grown pool_mask_shrunk pool_mask_grown" "$(member '[.events[].kind] | join(" ")')"
SEQ=$(member '.events[1].seq')
call "$OPERATOR" GET "/v1/events?after=$SEQ&limit=1" 200
same "those behind" pool_mask_grown "$(member '[.events[].kind] | join(" ")')"
call "$OPERATOR" GET "/v1/events?limit=0" 400
call "$OPERATOR" GET "/v1/events?after=x" 400
call "$AGENT_A" GET /v1/events 403
call "$OPERATOR" PUT /v1/pools/high 201 '{"policy":{"min_level":"x86-64-v4"}}'
call "$OPERATOR" PUT /v1/pools/high/nodes/lesser 409
same "why it stays outside" conflict "$(member .error.code)"
call "$OPERATOR" DELETE /v1/pools/high 204

step "webhooks"
same "the kinds that a webhook can ask for" "$({ echo migration; words broker/events.h FLEET_EVENTS; } | sort)" \
    "$("$VALIDATE" enum WebhookKind | sort)"
call "$OPERATOR" POST /v1/webhooks 201 '{"url":"http://127.0.0.1:1/hook","events":["pool_mask_grown","migration"]}'
HOOK_ID=$(member .id)
same "a secret was made" 64 "$(member '.secret | length')"
call "$OPERATOR" POST /v1/webhooks 400 '{"url":"ftp://127.0.0.1/"}'
call "$OPERATOR" POST /v1/webhooks 400 '{"url":"http://127.0.0.1:1/","events":["birthday"]}'
call "$OPERATOR" PUT /v1/pools/default/nodes/lesser 200
call "$OPERATOR" DELETE /v1/pools/default/nodes/lesser 200
call "$OPERATOR" GET /v1/webhooks 200
same "what waits, for nobody listens" 1 "$(member '.webhooks[0].pending')"
call "$OPERATOR" GET "/v1/webhooks/$HOOK_ID/deliveries?state=pending" 200
same "its event" pool_mask_grown "$(member '.deliveries[0].event')"
call "$OPERATOR" GET "/v1/webhooks/$HOOK_ID/deliveries?state=dead" 200
call "$OPERATOR" GET "/v1/webhooks/$HOOK_ID/deliveries?state=lost" 400
call "$AGENT_A" GET /v1/webhooks 403

step "workloads and verdicts"
call "$AGENT_A" PUT /v1/nodes/node-a/workloads/w1 201 '{"pool":"default","command":["./w"],"dir":"/tmp/w1","adopted":false}'
call "$AGENT_B" PUT /v1/nodes/node-b/workloads/w1 409 '{"pool":"default","command":["./w"]}'
heartbeat "$AGENT_A" node-a '[{"name":"w1","state":"running","pid":42,"exit_status":null}]'
call "$OPERATOR" GET /v1/workloads 200
call "$OPERATOR" GET /v1/workloads/w1 200
call "$OPERATOR" GET /v1/workloads/w2 404
call "$OPERATOR" POST /v1/check 200 '{"workload":"w1","to":"node-b"}'
same "the verdict" approve "$(member .verdict)"
call "$OPERATOR" POST /v1/check 200 '{"from":"node-a","to":"lesser"}'
same "the verdict" reject "$(member .verdict)"
call "$OPERATOR" POST /v1/check 404 '{"from":"node-a","to":"nobody"}'
call "$OPERATOR" POST /v1/check 400 '{"to":"node-b"}'
call "$OPERATOR" POST /v1/check 413 "$(head -c 140000 /dev/zero | tr '\0' ' ')"
call "$OPERATOR" POST /migrate 409 '{"workload":"w1","to":"lesser"}'
call "$OPERATOR" POST /migrate 409 '{"workload":"w1","to":"node-a"}'
call "$OPERATOR" POST /migrate 404 '{"workload":"w2","to":"node-b"}'
call "$OPERATOR" POST /migrate 200 '{"workload":"w1","to":"node-b","dry_run":true}'

call "$OPERATOR" POST /v1/check 200 '{"workload":"w1","to":["lesser","node-b"]}'
same "the ranking" "node-b approve lesser reject" \
    "$(member '[.targets[] | .to, .verdict] | join(" ")')"
call "$OPERATOR" POST /v1/check 200 '{"from":"node-a","pool":"default"}'
same "all members but the source" node-b "$(member '[.targets[].to] | join(" ")')"
call "$OPERATOR" POST /v1/check 404 '{"from":"node-a","to":["nobody"]}'
call "$OPERATOR" POST /v1/check 400 '{"from":"node-a","to":["node-b"],"pool":"default"}'
call "$OPERATOR" POST /v1/check 400 '{"from":"node-a","to":[1]}'

step "a workload under the pool's mask"
call "$AGENT_A" PUT /v1/nodes/node-a/workloads/m1 400 '{"pool":"default","command":["./m"],"mask":"steel"}'
same "what is expected" true "$(member '.error.message | contains("claim: mask: no grade") and contains("off environment detour hardware")')"
call "$AGENT_A" PUT /v1/nodes/node-a/workloads/m1 400 '{"pool":"default","command":["./m"],"mask":"detour","adopted":true}'
call "$AGENT_A" PUT /v1/nodes/node-a/workloads/m1 201 '{"pool":"default","command":["./m"],"mask":"detour"}'
EPOCH=$(member .mask.epoch)
same "the epoch that is written and the one that is told" "$EPOCH" "$(member .workload.epoch)"
same "the mask" "cpubroker.profile/1 detour" "$(member '.mask | "\(.profile.schema) \(.grade)"')"
same "the settings" true "$(member '[.mask.env[].name] | index("GLIBC_TUNABLES") != null')"
held() { # LACKS
    echo "[{\"name\":\"w1\",\"state\":\"running\",\"pid\":42,\"exit_status\":null},
        {\"name\":\"m1\",\"state\":\"running\",\"pid\":43,\"exit_status\":null,
        \"mask\":{\"grade\":\"detour\",\"epoch\":$EPOCH,\"sites\":12,\"lacks\":$1}}]"
}
heartbeat "$AGENT_A" node-a "$(held '{}')"
call "$OPERATOR" GET /v1/workloads/m1 200
same "it holds" "true $EPOCH" "$(member '"\(.mask.holds) \(.need.mask_epoch)"')"
call "$OPERATOR" POST /v1/check 200 '{"workload":"m1","to":"node-b"}'
same "what the verdict says" "masked at birth, epoch $EPOCH, grade detour" "$(member .mask)"
call "$OPERATOR" POST /migrate 202 '{"workload":"m1","to":"node-b"}'
ID=$(member .migration.id)
for agent in "$AGENT_A node-a" "$AGENT_B node-b"; do
    call "${agent% *}" GET "/v1/nodes/${agent#* }/assignments" 200
    same "the mask that ${agent#* } is told" "$EPOCH detour" "$(member '.assignments[0].mask | "\(.epoch) \(.grade)"')"
done
call "$OPERATOR" DELETE "/v1/migrations/$ID" 202
tell "$AGENT_A" node-a "$ID" resumed
tell "$AGENT_B" node-b "$ID" discarded
heartbeat "$AGENT_A" node-a "$(held '{"hindered":4}')"
call "$OPERATOR" GET /v1/workloads/m1 200
same "it does not hold any more" "false null 4" "$(member '"\(.mask.holds) \(.need.mask_epoch) \(.mask.lacks.hindered)"')"
call "$OPERATOR" GET /v1/workloads 200
call "$AGENT_A" POST /v1/nodes/node-a/heartbeat 400 "{\"workloads\":$(held '{"hindered":-1}')}"
call "$AGENT_A" POST /v1/nodes/node-a/heartbeat 400 '{"workloads":[{"name":"m1","state":"running","mask":{"grade":"steel","epoch":1}}]}'
heartbeat "$AGENT_A" node-a '[{"name":"w1","state":"running","pid":42,"exit_status":null},{"name":"m1","state":"exited","exit_status":0}]'

step "the doors, and who may knock"
call "$OPERATOR" POST /v1/tokens 201 '{"role":"webhook"}'
HOOK=$(member .token)
call "$HOOK" GET /v1/nodes 403
call "$HOOK" POST /migrate 403 '{"workload":"w1"}'
call "$AGENT_A" POST /webhooks/check 403 '{"workload":"w1","to":"node-b"}'
call "" POST /webhooks/check 401 '{"workload":"w1","to":"node-b"}'
call "$HOOK" POST /webhooks/check 200 '{"workload":"w1","to":["node-b","lesser"],"timeout_ms":2000}'
basic() { # PASSWORD STATUS BODY PATH
    same "$4 with a password" "$2" "$(curl -s -o "$TEST_DIR/reply" -w '%{http_code}' --max-time 20 \
        -u "scheduler:$1" --data-binary "$3" "$URL$4")"
    REPLY_BODY=$(cat "$TEST_DIR/reply")
}
pod='{"metadata":{"name":"p","annotations":{"cpubroker.dev/workload":"w1"}}}'
basic "$HOOK" 200 "{\"Pod\":$pod,\"Nodes\":null,\"NodeNames\":[\"node-b\",\"lesser\"]}" /webhooks/kubernetes/filter
same "the node that fits" node-b "$(member '.NodeNames | join(" ")')"
same "the one that does not" true "$(member '.FailedAndUnresolvableNodes | has("lesser")')"
same "no error, which could let all pass" true "$(member '(.Error // "") == ""')"
basic nonsense 401 '{}' /webhooks/kubernetes/filter
same "a password elsewhere" 401 \
    "$(curl -s -o /dev/null -w '%{http_code}' --max-time 20 -u "x:$OPERATOR" "$URL/v1/nodes")"
call "$HOOK" POST /webhooks/kubernetes/prioritize 200 "{\"Pod\":$pod,\"NodeNames\":[\"node-b\"]}"
call "$HOOK" POST /webhooks/kubernetes/filter 200 "{\"Pod\":$pod,\"NodeNames\":[\"node-b\"]}"
review() { # the pod's node
    jq -nc --arg node "$1" --argjson pod "$pod" '{apiVersion:"admission.k8s.io/v1",kind:"AdmissionReview",
        request:{uid:"u1",operation:"CREATE",kind:{group:"",version:"v1",kind:"Pod"},resource:{group:"",version:"v1",resource:"pods"},
        object:($pod + {spec:{nodeName:$node,containers:[{name:"c",image:"i"}]}})}}'
}
call "$HOOK" POST /webhooks/kubernetes/validate 200 "$(review lesser)"
same "a pod pinned where it cannot live" "u1 false" "$(member '.response | "\(.uid) \(.allowed)"')"
same "the reason names what lacks" true "$(member '.response.status.message | contains("lacks")')"
call "$HOOK" POST /webhooks/kubernetes/validate 200 "$(review node-b)"
same "a pod pinned where it can" "u1 true" "$(member '.response | "\(.uid) \(.allowed)"')"
call "$HOOK" POST /webhooks/kubernetes/mutate 200 "$(review "")"
same "what a mutation allows" true "$(member .response.allowed)"

step "a move, cancelled"
call "$OPERATOR" POST /v1/migrate 202 '{"workload":"w1"}'
ID=$(member .migration.id)
call "$OPERATOR" GET "/v1/migrations/$ID" 200
call "$AGENT_B" GET "/v1/nodes/node-b/assignments" 200
same "the target's action" prepare "$(member '.assignments[0].action')"
call "$OPERATOR" POST /migrate 409 '{"workload":"w1","to":"node-b"}'
call "$OPERATOR" DELETE "/v1/migrations/$ID" 202
tell "$AGENT_A" node-a "$ID" resumed
tell "$AGENT_B" node-b "$ID" discarded
call "$OPERATOR" GET "/v1/migrations/$ID" 200
same "the state" cancelled "$(member .state)"
call "$OPERATOR" DELETE "/v1/migrations/$ID" 409

step "a move that fails"
call "$OPERATOR" POST /v1/migrate 202 '{"workload":"w1","to":"node-b"}'
ID=$(member .migration.id)
tell "$AGENT_B" node-b "$ID" failure '{"error":{"code":"failed","message":"no room","log":"last lines"}}'
tell "$AGENT_A" node-a "$ID" resumed
tell "$AGENT_B" node-b "$ID" discarded
call "$OPERATOR" GET "/v1/migrations/$ID" 200
same "the state" failed "$(member .state)"
same "the error" "no room" "$(member .error.message)"

step "a move to its end"
call "$OPERATOR" POST /migrate 202 '{"workload":"w1","to":"node-b","idempotency_key":"k1"}'
ID=$(member .migration.id)
call "$OPERATOR" POST /migrate 202 '{"workload":"w1","to":"node-b","idempotency_key":"k1"}'
same "the migration of the same key" "$ID" "$(member .migration.id)"
call "$OPERATOR" POST /migrate 409 '{"workload":"w1","to":"node-a","idempotency_key":"k1"}'
curl -sN --max-time 30 -H "Authorization: Bearer $OPERATOR" "$URL/v1/migrations/$ID/events" >"$TEST_DIR/events" &
EVENTS_PID=$!
call "$AGENT_A" GET "/v1/nodes/node-a/assignments?after=1&wait_ms=100" 200
same "the source's action" inspect "$(member '.assignments[0].action')"
call "$AGENT_A" POST "/v1/migrations/$ID/progress" 400 '{"node":"node-a","state":"inspected"}'
call "$AGENT_A" POST "/v1/migrations/$ID/progress" 400 '{"node":"node-a","state":"inspected","evidence":{"schema":"x"}}'
tell "$AGENT_A" node-a "$ID" inspected '{"phase_ms":2}'
same "the source's next action" hold "$(member .assignment.action)"
tell "$AGENT_B" node-b "$ID" prepared '{"phase_ms":3}'
call "$AGENT_A" GET "/v1/nodes/node-a/assignments?after=1&wait_ms=100" 200
same "the source's action" dump "$(member '.assignments[0].action')"
tell "$AGENT_A" node-a "$ID" dumped '{"bytes":4096,"total_bytes":4096,"phase_ms":5}'
tell "$AGENT_A" node-a "$ID" progress '{"bytes":1024}'
tell "$AGENT_A" node-a "$ID" sent
tell "$AGENT_B" node-b "$ID" received '{"bytes":4096}'
tell "$AGENT_B" node-b "$ID" restored '{"pid":77}'
call "$OPERATOR" DELETE "/v1/migrations/$ID" 409
tell "$AGENT_B" node-b "$ID" running '{"pid":77}'
call "$OPERATOR" GET /v1/workloads/w1 200
tell "$AGENT_A" node-a "$ID" killed
same "what is left to do" null "$(member .assignment)"
call "$OPERATOR" GET "/v1/migrations/$ID" 200
same "the state" "done" "$(member .state)"
call "$OPERATOR" GET "/v1/migrations/$ID/events?after=2" 200
call "$OPERATOR" GET "/v1/migrations" 200
call "$OPERATOR" GET "/v1/migrations?workload=w1&limit=1" 200
call "$OPERATOR" GET "/v1/migrations?limit=0" 400
call "$OPERATOR" GET /v1/migrations/m-0000000000000000 404
call "$OPERATOR" GET /v1/migrations/m-0000000000000000/events 404
call "$AGENT_A" POST /v1/migrations/m-0000000000000000/progress 404 '{"node":"node-a","state":"dumped"}'
call "$AGENT_A" POST "/v1/migrations/$ID/progress" 400 '{"node":"node-a","state":"flown"}'
call "$OPERATOR" GET /v1/workloads/w1 200
same "where it runs" node-b "$(member .node)"

step "its events, whole and replayed"
wait $EVENTS_PID || fail "the stream did not end with the migration"
"$VALIDATE" event "$TEST_DIR/events"
same "the last state" "done" "$(sed -n 's/^data: //p' "$TEST_DIR/events" | tail -n 1 | jq -r .state)"
curl -s --max-time 10 -H "Authorization: Bearer $OPERATOR" -H "Last-Event-ID: 3" "$URL/v1/migrations/$ID/events" >"$TEST_DIR/replayed"
"$VALIDATE" event "$TEST_DIR/replayed"
same "the first replayed" 4 "$(sed -n 's/^id: //p' "$TEST_DIR/replayed" | head -n 1)"

step "what holds something stays, what holds nothing goes"
call "$OPERATOR" DELETE /v1/nodes/node-b 409
call "$OPERATOR" DELETE /v1/nodes/lesser 204
call "$OPERATOR" DELETE /v1/nodes/lesser 404
call "$OPERATOR" DELETE /v1/pools/default 409

step "a webhook goes"
call "$OPERATOR" GET "/v1/webhooks/$HOOK_ID/deliveries?limit=1000" 200
same "phases that it would be told of" true "$(member '[.deliveries[] | select(.event == "migration")] | length > 10')"
call "$OPERATOR" DELETE "/v1/webhooks/$HOOK_ID" 204
call "$OPERATOR" DELETE "/v1/webhooks/$HOOK_ID" 404
call "$OPERATOR" GET "/v1/webhooks/$HOOK_ID/deliveries" 404

step "HEAD is GET without the body"
same "the status" 200 "$(curl -s -I -o /dev/null -w '%{http_code}' -H "Authorization: Bearer $OPERATOR" "$URL/v1/nodes")"

step "every request that was taken and every reply fits the document"
"$VALIDATE" log "$TEST_DIR/exchanges" all
loopback_broker_stop
