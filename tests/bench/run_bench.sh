#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures what the project promises; prints a table. Not a test: nothing fails here.
#
#   tests/bench/run_bench.sh [requests|downtime|memory]...     default: all three
#
#   requests   POST /v1/check against a bare libmicrohttpd server that answers a constant of the same
#              length: wrk, keep-alive, 2 threads, pairs in turn            promised: >= 0.6 of it
#   downtime   how long a 512 MiB process stands still in a stop-and-copy move between two nodes,
#              against raw criu dump + criu restore on the same disk        promised: <= 1.5 of it
#   memory     Pss of an agent and of the broker with 100 nodes             promised: < 10, < 16 MB
set -euo pipefail
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$(readlink -f "$0")")/../lib/functions.sh"
requires root namespaces criu curl jq wrk
pairs=${CPUBROKER_BENCH_PAIRS:-5}
seconds=${CPUBROKER_BENCH_SECONDS:-4}
mib=${CPUBROKER_BENCH_MIB:-512}
rows=()
row() { rows+=("$(printf '%-42s %14s %14s %8s  %s' "$@")"); }

SITE_BUILD=$SOURCE_DIR/build/release
{ cmake -S "$SOURCE_DIR" -B "$SITE_BUILD" -G Ninja -DCMAKE_BUILD_TYPE=Release && ninja -C "$SITE_BUILD"; } \
    >"$TEST_DIR/build.log" 2>&1 || fail "the build failed: $(tail -n 5 "$TEST_DIR/build.log")"
CHAIN=$SITE_BUILD/deploy/chain

median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
ratio() { awk "BEGIN { printf \"%.2f\", $1 / $2 }"; }

pss_kib() { awk '/^Pss:/ { print $2 }' "/proc/$1/smaps_rollup"; }

# imports nodes node-1 .. node-N that are equal to node-a
import_nodes() {
    local n
    api GET /v1/nodes/node-a | jq -c .report >"$TEST_DIR/report.json"
    for ((n = 1; n <= $1; n++)); do
        jq -c --arg node "node-$n" '.node = $node' "$TEST_DIR/report.json" >"$TEST_DIR/node.json"
        api PUT "/v1/nodes/node-$n/report" "@$TEST_DIR/node.json" >/dev/null
        [[ $(api_status) = 20? ]] || fail "importing node-$n answered $(api_status)"
        api PUT "/v1/pools/default/nodes/node-$n" >/dev/null
    done
}

# load URL: "requests/s errors p99_us"
load() {
    (hub_exec env CPUBROKER_BENCH_TOKEN="$(cat "$(operator_token_file)")" wrk -t 2 -c 16 -d "${seconds}s" \
        -s "$SOURCE_DIR/tests/bench/check.lua" "$1") | sed -n 's/^RESULT //p'
}

bench_requests() {
    local port='' n ours bare ratios=() ours_all=() bare_all=() errors=0 e
    api POST /v1/check '{"from":"node-1","to":"node-2"}' >"$TEST_DIR/constant"
    [ "$(api_status)" = 200 ] || fail "POST /v1/check answered $(api_status)"
    (hub_exec "$SITE_BUILD/tests/bench/bare_mhd" 2 "$TEST_DIR/constant" >"$TEST_DIR/port" 2>&1) &
    cleanup kill $!
    eventually 5 test -s "$TEST_DIR/port"
    port=$(cat "$TEST_DIR/port")
    load "$(broker_url)/v1/check" >/dev/null # warms both
    load "http://127.0.0.1:$port/v1/check" >/dev/null
    for ((n = 0; n < pairs; n++)); do
        read -r bare e _ < <(load "http://127.0.0.1:$port/v1/check")
        errors=$((errors + e))
        read -r ours e _ < <(load "$(broker_url)/v1/check")
        errors=$((errors + e))
        ratios+=("$(ratio "$ours" "$bare")") ours_all+=("$ours") bare_all+=("$bare")
        echo "  pair $((n + 1)): broker $ours/s, bare $bare/s, ratio ${ratios[n]}, errors $errors"
    done
    row "POST /v1/check, requests/s (median of $pairs)" "$(printf '%s\n' "${ours_all[@]}" | median)" \
        "$(printf '%s\n' "${bare_all[@]}" | median)" "$(printf '%s\n' "${ratios[@]}" | median)" ">= 0.6 ($errors errors)"
}

# A raw dump and restore of the same process on the same disk, in a node; prints the ms of both
# together: what an operator with CRIU alone would wait.
raw_once() {
    # shellcheck disable=SC2016 # expanded by the shell that runs it
    (node_exec node-a bash -c '
        set -eu
        criu=$1 dir=$2 program=$3 mib=$4
        rm -rf "$dir"; mkdir -p "$dir/img"; cd "$dir"
        setsid "$program" run "$mib" 50 </dev/null >"$dir/out" 2>&1 &
        pid=$!
        for i in $(seq 600); do [ "$(wc -l <"$dir/out")" -ge 5 ] && break; sleep 0.1; done
        sync
        began=$(date +%s%N)
        "$criu" dump -t "$pid" -D "$dir/img" --shell-job -o dump.log >/dev/null 2>&1
        wait "$pid" 2>/dev/null || true
        "$criu" restore -d -D "$dir/img" --shell-job -o restore.log >/dev/null 2>&1
        ended=$(date +%s%N)
        kill -KILL "$pid"; sleep 0.3; rm -rf "$dir"
        echo $(((ended - began) / 1000000))' raw "$SITE_CRIU" "$SITE_DIR/state/raw" "$CHAIN" "$mib")
}

bench_downtime() {
    local n id down raw downs=() raws=() ratios=() here=node-a there=node-b
    ca node-a run --name big -- "$CHAIN" run "$mib" 50 >/dev/null
    eventually 60 test -s "$(workload_file node-a big stdout.log)"
    for ((n = 0; n < 4; n++)); do
        raw=$(raw_once)
        id=$(migrate big "$there")
        [ "$(migration_end "$id" 120)" = "done" ] || fail "the move ended otherwise: $(api GET "/v1/migrations/$id" | jq -c .error)"
        down=$(api GET "/v1/migrations/$id" | jq .downtime_ms)
        downs+=("$down") raws+=("$raw") ratios+=("$(ratio "$down" "$raw")")
        echo "  move $((n + 1)): downtime $down ms, raw CRIU $raw ms, ratio ${ratios[n]};" \
            "$(api GET "/v1/migrations/$id" | jq -r '[.phases[] | "\(.state) \(.duration_ms // 0)"] | join(", ")')"
        read -r here there <<<"$there $here"
    done
    row "downtime of $mib MiB, ms (median of 4)" "$(printf '%s\n' "${downs[@]}" | median)" \
        "$(printf '%s\n' "${raws[@]}" | median)" "$(printf '%s\n' "${ratios[@]}" | median)" "<= 1.5"
}

bench_memory() {
    local broker agent
    broker=$(pss_kib "$(pid_recorded "$SITE_DIR/broker/pid")")
    agent=$(pss_kib "$(pid_recorded "$SITE_DIR/nodes/node-a/agent.pid")")
    row "Pss of an agent, MB" "$(ratio "$agent" 1000)" "" "" "< 10"
    row "Pss of the broker with 100 nodes, MB" "$(ratio "$broker" 1000)" "" "" "< 16"
}

[ $# -gt 0 ] || set -- requests downtime memory
fleet_up
import_nodes 98 # and two agents
for what in "$@"; do
    case $what in
    requests | downtime | memory) step "$what"; "bench_$what" ;;
    *) fail "unknown bench '$what'" ;;
    esac
done
echo
printf '%-42s %14s %14s %8s  %s\n' "" cpubroker "compared to" ratio promised
printf '%s\n' "${rows[@]}"
