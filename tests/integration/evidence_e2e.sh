#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Before anything is frozen the source looks at the live workload, and what it saw decides: it
# refuses a move that the need alone would allow, and, in a pool that says so, allows one to a
# lesser CPU because the program provably does not use what is missing there.
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$0")/../lib/functions.sh"
requires root namespaces criu curl jq python3
# The target's reports are bent here; its agent would put them right with the next heartbeat.
BROKER_LINES=("silent_after_ms = 300000" "heartbeat_interval_ms = 60000")
MARKED=$CPUBROKER_BUILD_DIR/tests/live_marked_moves

# exits STATUS ARG...: the cpubroker command line; what it prints is in $TEST_DIR/out.
exits() {
    local expected=$1 status=0
    shift
    cb "$@" >"$TEST_DIR/out" 2>&1 || status=$?
    same "exit status of 'cpubroker $*' ($(cat "$TEST_DIR/out"))" "$expected" "$status"
}
says() { grep -q -e "$1" "$TEST_DIR/out" || fail "no '$1' in: $(cat "$TEST_DIR/out")"; }
# answer JQ-TEST FILE: the reply is so.
answer() { jq -e "$1" "$2" >/dev/null || fail "not so: $1: $(cat "$2")"; }

# other_cpus lesser|frames: what node-b tells of itself from now on: its CPUs without BMI2 and AVX-512,
# or with signal frames of 30,000 bytes.
other_cpus() {
    api GET /v1/nodes/node-b | jq .report >"$TEST_DIR/report"
    [ -e "$TEST_DIR/real" ] || cp "$TEST_DIR/report" "$TEST_DIR/real"
    python3 - "$1" "$TEST_DIR/real" >"$TEST_DIR/bent" <<'PYTHON'
import json, sys
report = json.load(open(sys.argv[2]))
def clear(text, mask):
    return "0x%0*x" % (len(text) - 2, int(text, 16) & ~mask)
for group in report["cpus"] if sys.argv[1] == "lesser" else []:
    if group.get("xcr0"):
        group["xcr0"] = clear(group["xcr0"], 0xe0)
    for leaf in group["leaves"]:
        if int(leaf["leaf"], 16) == 7 and int(leaf["subleaf"], 16) == 0:
            leaf["ebx"] = clear(leaf["ebx"], 1 << 8)
if sys.argv[1] == "frames":
    report["os"]["minsigstksz"] = 30000
print(json.dumps(report))
PYTHON
    api_as "$SITE_DIR/nodes/node-b/state/token" PUT /v1/nodes/node-b/report "@$TEST_DIR/bent" >"$TEST_DIR/reply"
    same "status of the report ($(cat "$TEST_DIR/reply"))" 200 "$(api_status)"
}
marked_log() { workload_file "$1" m1 stdout.log; }
marked_steps() { wc -l 2>/dev/null <"$(marked_log "$1")" || echo 0; }
marked_at_least() { [ "$(marked_steps "$1")" -ge "$2" ]; }
marked_goes_on() { eventually 15 marked_at_least "$1" $(($(marked_steps "$1") + 10)); }
policy() { cb pools create default --evidence "$1" >/dev/null; }
migrations_in_all() { api GET /v1/migrations | jq '.migrations | length'; }

fleet_up
# masked workloads are traced by their own, so that a look does not see their registers
victim_start node-a w1 --mask off
ca node-a run --name m1 --mask off -- "$MARKED" >/dev/null
eventually 10 marked_at_least node-a 10
eventually 10 broker_says w1 state running
eventually 10 broker_says m1 state running
"$SOURCE_DIR/tests/lib/watch_steps.py" "$TEST_DIR/pauses" "$(victim_log node-a w1)" &
watcher=$!
other_cpus lesser

step "a strict pool refuses the lesser CPU at once"
for workload in w1 m1; do
    api POST /migrate "{\"workload\":\"$workload\",\"to\":\"node-b\"}" >"$TEST_DIR/reply"
    same "status for $workload" 409 "$(api_status)"
    answer 'any(.reasons[]; .code == "missing_feature" and .feature == "bmi2" and .severity == "reject")' "$TEST_DIR/reply"
    answer 'all(.reasons[]; .code != "evidence_awaited")' "$TEST_DIR/reply"
    exits 1 check --workload $workload --to node-b
done
same "migrations" 0 "$(migrations_in_all)"

step "where evidence may relax, a verdict without a look stays strict, and says what a look might do"
policy relax
exits 1 check --workload m1 --to node-b
says "reject missing_feature" && says bmi2
says "warn   evidence_awaited"
exits 1 migrate m1 --to node-b --dry-run
same "migrations" 0 "$(migrations_in_all)"

step "a program whose code is not marked is looked at, and refused before it is frozen"
exits 1 migrate w1 --to node-b --wait
says "^approve: from node-a to node-b"
says "warn   evidence_awaited"
says "^reject: from node-a to node-b"
says "reject missing_feature" && says bmi2
says "nothing was frozen, 'w1' runs on on node 'node-a'"
id=$(api GET '/v1/migrations?workload=w1' | jq -r '.migrations[0].id')
api GET "/v1/migrations/$id" >"$TEST_DIR/reply"
answer '.state == "failed" and .error.code == "rejected" and .downtime_ms == null' "$TEST_DIR/reply"
answer '[.phases[].state] == ["preparing", "aborting", "failed"]' "$TEST_DIR/reply"
answer '.verdict.verdict == "reject" and any(.verdict.reasons[]; .code == "missing_feature" and .feature == "bmi2")' "$TEST_DIR/reply"
answer '.evidence.schema == "cpubroker.evidence/1" and .evidence.complete and (.evidence.tasks | length) > 0' "$TEST_DIR/reply"
victim_goes_on node-a w1

step "what was seen is kept, shown, and what checks rest on"
api GET /v1/workloads/w1 >"$TEST_DIR/reply"
answer ".evidence.counts and .evidence.node == \"node-a\" and .evidence.migration == \"$id\"" "$TEST_DIR/reply"
answer '.evidence.isa_used == null and (.evidence.unmarked_code | length) > 0 and .evidence.age_ms < 60000' "$TEST_DIR/reply"
exits 0 workloads show w1
says "verdicts rest on it"
says "uses what nobody knows: no mark in "
exits 1 check --workload w1 --to node-b
says "with a look at the live workload on node-a"
api POST /migrate '{"workload":"w1","to":"node-b","dry_run":true}' >"$TEST_DIR/reply"
answer '.verdict == "reject" and .evidence.node == "node-a" and .evidence.age_ms >= 0' "$TEST_DIR/reply"
broker_stop KILL
broker_start
api GET /v1/workloads/w1 >"$TEST_DIR/reply"
answer ".evidence.counts and .evidence.migration == \"$id\"" "$TEST_DIR/reply"
agent_stop node-b
agent_start node-b
agent_stop node-a
agent_start node-a
agent_wait_live node-a
agent_wait_live node-b
kill $watcher
longest=$(sort -n "$TEST_DIR/pauses" | tail -n 1)
echo "  longest pause between two steps: $longest ms"
[ "$longest" -lt 1000 ] || fail "the workload stood still for $longest ms"

step "a look refuses what the need allows: a signal stack that is too small there"
policy strict
other_cpus frames
exits 0 check --workload m1 --to node-b
exits 1 migrate m1 --to node-b --wait
says "reject alternate_stack_small"
says "a signal needs 30000 bytes"
says "nothing was frozen, 'm1' runs on on node 'node-a'"
marked_goes_on node-a
exits 1 check --workload m1 --to node-b
says "reject alternate_stack_small"
# by now it is known of this process that its code is marked, so the check approves at once
policy relax
other_cpus lesser
exits 0 check --workload m1 --to node-b
says "warn   feature_unused"
says "with a look at the live workload on node-a"

step "a program that provably does not use it moves to the lesser CPU"
exits 0 migrate m1 --to node-b --wait
says "warn   evidence_awaited"
says "warn   feature_unused"
says "^m1 moved from node-a to node-b"
id=$(api GET '/v1/migrations?workload=m1' | jq -r '.migrations[0].id')
api GET "/v1/migrations/$id" >"$TEST_DIR/reply"
answer '.verdict.verdict == "approve" and any(.verdict.reasons[]; .code == "feature_unused" and .feature == "bmi2")' "$TEST_DIR/reply"
answer '.evidence.tasks[0].isa_used == "x86-64-v1" or .evidence.tasks[0].isa_used == "x86-64-v2"' "$TEST_DIR/reply"
marked_goes_on node-b
api GET /v1/workloads/m1 >"$TEST_DIR/reply"
answer '.node == "node-b" and .evidence.node == "node-a" and (.evidence.counts | not)' "$TEST_DIR/reply"
events "$id" 10 >"$TEST_DIR/events"
sed -n 's/^data: //p' "$TEST_DIR/events" | jq -s 'map(select(.report == "inspected" or .report == "prepared")) | map({report, phase_ms})' >"$TEST_DIR/took"
answer 'length == 2' "$TEST_DIR/took"
echo "  the look took $(jq '.[] | select(.report == "inspected").phase_ms' "$TEST_DIR/took") ms," \
    "beside the target's $(jq '.[] | select(.report == "prepared").phase_ms' "$TEST_DIR/took") ms;" \
    "preparing took $(api GET "/v1/migrations/$id" | jq '.phases[0].duration_ms') ms"

step "the node it came from still takes it back, now by what it was exposed to"
exits 0 migrate m1 --to node-a --wait
marked_goes_on node-a
victim_whole node-a w1
