#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# deploy/quickstart.sh as a new user runs it: it works, works again, works after a kill, and --down
# leaves no trace.
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$0")/../lib/functions.sh"
requires root namespaces
quickstart=$SOURCE_DIR/deploy/quickstart.sh
# a folder and a name of its own, so that one that is running here is left alone
export CPUBROKER_QUICKSTART_DIR=$TEST_DIR/quickstart CPUBROKER_QUICKSTART_NAME=$SITE_NAME
netns_before=$(ls -d /run/netns 2>/dev/null || true)
cleanup "$quickstart" --down

# run WORDS: the whole of it, in $TEST_DIR/quickstart.out
run() {
    local began=$SECONDS
    "$quickstart" </dev/null >"$TEST_DIR/quickstart.out" 2>&1 ||
        fail "$1 ended with $?: $(tail -n 20 "$TEST_DIR/quickstart.out")"
    echo "  took $((SECONDS - began)) s"
}
shows() { grep -qE "$1" "$TEST_DIR/quickstart.out" || fail "the output lacks '$1': $(cat "$TEST_DIR/quickstart.out")"; }

step "the first run"
run "the first run"
for phase in preparing dumping transferring restoring committing "done"; do
    shows "phase +$phase"
done
shows "goes on on node-b"
shows "[0-9]+ steps, each there once, in order, with the right hash"
shows "exit status 1: rejected"

step "everything is left running, and can be looked at"
out=$("$quickstart" --shell 2>&1 <<<'cpubroker workloads -o json')
jq -e 'any(.workloads[]; .name == "counter" and .node == "node-b" and .state == "running")' <<<"$out" >/dev/null ||
    fail "the shell beside the broker does not show the workload: $out"

out=$("$quickstart" --shell 2>&1 <<<'cpubroker check --workload counter --to node-c -o json') || true
jq -e '.verdict == "reject" and any(.reasons[]; .code == "missing_feature" and .severity == "reject")' <<<"$out" >/dev/null ||
    fail "the move to node-c is not refused for a missing feature: $out"

step "nothing listens outside its own namespaces"
! ss -Hltn 2>/dev/null | grep -qE ':(7070|7072) ' || fail "a port is open on the host: $(ss -Hltnp)"

step "a second run"
run "the second run"
shows "goes on on node-b"

step "a run after a kill -9 in the middle"
"$quickstart" </dev/null >"$TEST_DIR/killed.out" 2>&1 &
victim=$!
eventually 60 grep -q "Moving it to node-b" "$TEST_DIR/killed.out"
kill -KILL $victim
wait $victim 2>/dev/null || true
run "the run after a kill"
shows "goes on on node-b"

step "--down leaves no trace"
"$quickstart" --down >"$TEST_DIR/down.out" 2>&1 || fail "--down ended with $?: $(cat "$TEST_DIR/down.out")"
same "namespaces" "" "$(site_namespaces)"
[ ! -e "$CPUBROKER_QUICKSTART_DIR" ] || fail "its folder is still there"
[ ! -e "$(cgroup2_root)/$SITE_NAME" ] || fail "its cgroup is still there"
same "processes" "" "$(pgrep -f "$CPUBROKER_QUICKSTART_DIR" | grep -vx $$ || true)"
same "/run/netns" "$netns_before" "$(ls -d /run/netns 2>/dev/null || true)"
! findmnt -rno TARGET | grep -q "$CPUBROKER_QUICKSTART_DIR" || fail "its mounts are still there"

step "--down twice is fine"
"$quickstart" --down >/dev/null
