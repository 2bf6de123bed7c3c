#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A workload that executes CPUID without pause in many threads is started by `cpuagent run`, moves to
# and fro between two nodes, and never sees anything but the mask that it was born under; nor when its
# tracer or its shim is killed. What cannot be masked is refused with the reason.
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$0")/../lib/functions.sh"
requires root namespaces criu curl jq
SUBJECT=$TEST_DIR/mask_subject # its own, so that no other test's is taken for it
cp "$CPUBROKER_BUILD_DIR/tests/mask_subject" "$SUBJECT"
moves=${CPUBROKER_TEST_MOVES:-50}

# fake_report FEATURE REGISTER LEAF BIT: node-a's report without that feature, as another machine's
lesser_report() {
    api GET /v1/nodes/node-a | jq --arg leaf "0x00000007" '
        def hex: ltrimstr("0x") | explode | reduce .[] as $c (0; . * 16 + (if $c > 96 then $c - 87 else $c - 48 end));
        def to_hex: . as $n | [range(8)] | map((($n / pow(16; 7 - .)) | floor) % 16) |
            map(if . > 9 then . + 87 else . + 48 end) | "0x" + implode;
        .report | .node = "lesser" | .cpus[].leaves[] |=
            if .leaf == $leaf and .subleaf == "0x00000000"
            then .ebx = ((.ebx | hex) | if ((. / 32) | floor) % 2 == 1 then . - 32 else . end | to_hex)
            else . end'
}

fleet_up
step "a member without AVX2 joins, so that there is something to be hidden"
lesser_report >"$TEST_DIR/lesser.json"
api PUT /v1/nodes/lesser/report "@$TEST_DIR/lesser.json" >"$TEST_DIR/put.json"
[ "$(api_status)" = 200 ] || fail "$(cat "$TEST_DIR/put.json")"
cb pools join default lesser >/dev/null

step "what the program sees is the pool's"
ca node-a run --name ask -- "$SUBJECT" ask >"$TEST_DIR/run.out"
grep -q '^mask: detour, epoch ' "$TEST_DIR/run.out" || fail "$(cat "$TEST_DIR/run.out")"
ca node-a run --name bare --mask off -- "$SUBJECT" ask >/dev/null
eventually 10 grep -q leaf7 "$(workload_file node-a bare stdout.log)"
eventually 10 grep -q leaf7 "$(workload_file node-a ask stdout.log)"
expected=$(sed -n 's/^leaf7 \([0-9a-f]*\).*/\1/p' "$(workload_file node-a ask stdout.log)")
bare=$(sed -n 's/^leaf7 \([0-9a-f]*\).*/\1/p' "$(workload_file node-a bare stdout.log)")
same "AVX2 in leaf 7, masked" 0 $((0x$expected & 32))
same "AVX2 in leaf 7, bare" 32 $((0x$bare & 32))

step "grades that are not to be had are refused"
! ca node-a run --name hard --mask hardware -- true >"$TEST_DIR/hard.out" 2>&1 || fail "it started"
grep -q "'hardware' of the mask is not to be had on this node" "$TEST_DIR/hard.out" || fail "$(cat "$TEST_DIR/hard.out")"
! ca node-a run --name low --mask environment --mask-require detour -- true >"$TEST_DIR/low.out" 2>&1 || fail "it started"

step "$moves moves, with CPUID in a tight loop in four threads"
steps() { wc -l 2>/dev/null <"$(workload_file "$1" spin stdout.log)" || echo 0; }
at_least() { [ "$(steps "$1")" -ge "$2" ]; }
goes_on() { eventually 15 at_least "$1" $(($(steps "$1") + 3)); }
ca node-a run --name spin -- "$SUBJECT" spin "$expected" 4 >/dev/null
goes_on node-a
here=node-a there=node-b
for ((n = 1; n <= moves; n++)); do
    moved spin "$there"
    goes_on "$there"
    read -r here there <<<"$there $here"
done
mask=$(ca "$here" ps -o json | jq -c '.workloads[] | select(.name == "spin") | .mask')
same "the grade after the moves" detour "$(jq -r .grade <<<"$mask")"
same "what is not covered" '{}' "$(jq -c .lacks <<<"$mask")"

step "20 moves of a shell that starts programs without pause, by vfork"
ca node-a run --name starts -- /bin/sh -c 'while :; do /bin/true; done' >/dev/null
for ((n = 1; n <= 10; n++)); do
    moved starts node-b
    moved starts node-a
done
ca node-a stop starts >/dev/null

step "the tracer of the one with the threads is killed, and its shim"
pid=$(ca "$here" ps -o json | jq '.workloads[] | select(.name == "spin") | .pid')
tracer() { sed -n 's/^TracerPid:\t//p' "/proc/$pid/status"; }
pid=$(pgrep -f "^$SUBJECT spin" | head -n 1)
former=$(tracer)
kill -KILL "$former"
has_another() { [ "$(tracer)" != 0 ] && [ "$(tracer)" != "$former" ]; }
eventually 10 has_another
goes_on "$here"
former=$(tracer)
kill -KILL "$(sed -n 's/^PPid:\t//p' "/proc/$former/status")"
eventually 10 has_another
goes_on "$here"
moved spin "$there"
goes_on "$there"

step "no thread has ever seen anything else"
log=$(workload_file "$there" spin stdout.log)
! grep -v ' wrong 0$' "$log" >"$TEST_DIR/wrong" || fail "$(head -n 3 "$TEST_DIR/wrong")"
echo "  $(tail -n 1 "$log")"

step "the broker knows its birth mask, and its end"
same "the need's epoch" "$(jq .epoch <<<"$mask")" "$(cb workloads show spin -o json | jq .need.mask_epoch)"
ca "$there" stop spin >/dev/null
same "processes after the stop" 0 "$(site_processes "$SUBJECT")"
