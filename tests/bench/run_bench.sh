#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures what the project promises; prints a table. Not a test: nothing fails here.
#
#   tests/bench/run_bench.sh [requests|downtime|memory|fleet|mask]...     default: all
#
#   requests   POST /v1/check against a bare libmicrohttpd server that answers a constant of the same
#              length: wrk, keep-alive, 2 threads, pairs in turn            promised: >= 0.6 of it
#   downtime   how long a 512 MiB process stands still in a stop-and-copy move between two nodes,
#              against raw criu dump + criu restore on the same disk        promised: <= 1.5 of it
#   memory     Pss of an agent and of the broker with 100 nodes             promised: < 10, < 16 MB
#   fleet      a broker with 100,000 nodes in one pool: its start, one node's leave and join, the
#              pool's masks, memory                 promised: < 5 s, < 1 ms, < 1 ms, < 2 KiB a node
#   mask       programs under the CPUID mask against the same without: a system call, a CPUID, from
#              start to end of true, bash, python3, java, go, openssl, dd with blocks of 1 byte; letting go of threads and taking them back
#                          promised: <= 1.02, <= 1.2, + 5 ms (cold + 60 ms), <= 1.1, <= 20 ms, <= 100 ms
set -euo pipefail
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$(readlink -f "$0")")/../lib/functions.sh"
[ $# -gt 0 ] || set -- requests downtime memory fleet mask
# needs_site WHAT...: whether one of them is measured on a broker with two agents
needs_site() { [[ " $* " =~ \ (requests|downtime|memory)\  ]]; }
[ "$*" = mask ] || requires curl jq wrk
! needs_site "$@" || requires root namespaces criu
pairs=${CPUBROKER_BENCH_PAIRS:-5}
seconds=${CPUBROKER_BENCH_SECONDS:-4}
mib=${CPUBROKER_BENCH_MIB:-512}
nodes=${CPUBROKER_BENCH_NODES:-100000}
rows=()
raw_pid='' raw_log=''
row() { rows+=("$(printf '%-42s %14s %14s %8s  %s' "$@")"); }

SITE_BUILD=$SOURCE_DIR/build/release
{ cmake -S "$SOURCE_DIR" -B "$SITE_BUILD" -G Ninja -DCMAKE_BUILD_TYPE=Release &&
    ninja -C "$SITE_BUILD" cpubroker cpuagent cpuagent-shim cpuagent-mask chain bare_mhd fill_fleet \
        bench_mask bench_handover mask_run mask_subject; } \
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

# Memory that the machine's host has taken back is slow to touch; touching some first gives both
# sides the same start.
warm() {
    /usr/bin/python3 -c "
import mmap
memory = mmap.mmap(-1, $mib * 12 << 20)
for at in range(0, len(memory), 4096):
    memory[at] = 1"
}

# longest_pause LOG... -- CMD...: runs CMD, prints for how many ms none of the logs grew.
longest_pause() {
    local logs=() watcher
    while [ "$1" != -- ]; do logs+=("$1"); shift; done
    shift
    "$SOURCE_DIR/tests/lib/watch_steps.py" "$TEST_DIR/pauses" "${logs[@]}" &
    watcher=$!
    eventually 5 test -s "$TEST_DIR/pauses"
    : >"$TEST_DIR/pauses" # the first one began before the first look
    "$@" >&2
    sleep 0.3
    kill $watcher
    sort -n "$TEST_DIR/pauses" | tail -n 1
}

# A process beside the workloads of node-a, whose first process reaps it when it is dumped.
raw_start() {
    # shellcheck disable=SC2016 # expanded by the shell that runs it
    raw_pid=$(node_exec node-a bash -c '
        mkdir -p "$1" && cd "$1" && exec 3>&1 >stdout.log
        setsid "$2" run "$3" 5 </dev/null 2>&1 3>&- &
        echo $! >&3' raw "$SITE_DIR/state/raw" "$CHAIN" "$mib")
    raw_log=$SITE_DIR/nodes/node-a/state/raw/stdout.log
    eventually 60 log_has "$raw_log" 20
}
log_has() { [ "$(wc -l 2>/dev/null <"$1")" -ge "$2" ]; }

# What an operator with CRIU alone would do.
raw_move() {
    # shellcheck disable=SC2016 # expanded by the shell that runs it
    (node_exec node-a bash -c '
        set -e
        cd "$1" && rm -rf img && mkdir img
        "$2" dump -t "$3" -D img -o dump.log
        "$2" restore -d -D img -o restore.log' raw "$SITE_DIR/state/raw" "$SITE_CRIU" "$raw_pid")
}

our_move() {
    id=$(migrate big "$there")
    [ "$(migration_end "$id" 120)" = "done" ] || fail "the move ended otherwise: $(api GET "/v1/migrations/$id" | jq -c .error)"
}

bench_downtime() {
    local n id='' down raw downs=() raws=() ratios=() here=node-a
    there="node-b"
    raw_start
    ca node-a run --name big -- "$CHAIN" run "$mib" 5 >/dev/null
    eventually 60 log_has "$(workload_file node-a big stdout.log)" 20
    for ((n = 0; n < 5; n++)); do
        sync
        warm
        raw=$(longest_pause "$raw_log" -- raw_move)
        sync
        warm
        down=$(longest_pause "$(workload_file node-a big stdout.log)" \
            "$(workload_file node-b big stdout.log)" -- our_move)
        downs+=("$down") raws+=("$raw") ratios+=("$(ratio "$down" "$raw")")
        id=$(api GET /v1/migrations | jq -r '.migrations | max_by(.created_at_ms).id')
        echo "  move $((n + 1)): stood still $down ms, raw CRIU $raw ms, ratio ${ratios[n]};" \
            "the broker says $(api GET "/v1/migrations/$id" |
                jq -r '"\(.downtime_ms): " + ([.phases[] | "\(.state) \(.duration_ms // 0)"] | join(", "))')"
        read -r here there <<<"$there $here"
    done
    row "downtime of $mib MiB, ms (median of 5)" "$(printf '%s\n' "${downs[@]}" | median)" \
        "$(printf '%s\n' "${raws[@]}" | median)" "$(printf '%s\n' "${ratios[@]}" | median)" "<= 1.5"
}

bench_memory() {
    local broker agent
    broker=$(pss_kib "$(pid_recorded "$SITE_DIR/broker/pid")")
    agent=$(pss_kib "$(pid_recorded "$SITE_DIR/nodes/node-a/agent.pid")")
    row "Pss of an agent, MB" "$(ratio "$agent" 1000)" "" "" "< 10"
    row "Pss of the broker with 100 nodes, MB" "$(ratio "$broker" 1000)" "" "" "< 16"
}

# fleet_broker_start FOLDER: how many ms until it listens.
fleet_broker_start() {
    local began ended
    [ -d "$1" ] || mkdir -m 700 "$1"
    printf '%s\n' 'listen = 127.0.0.1:0' "state_dir = $1" >"$1.conf"
    : >"$1.log"
    began=$(date +%s%N)
    "$SITE_BUILD/broker/cpubroker" serve --config "$1.conf" >"$1.log" 2>&1 &
    echo $! >"$1.pid"
    disown # that it is killed is nothing to be told of
    eventually 60 grep -q 'cpubroker: listening' "$1.log"
    ended=$(date +%s%N)
    sed -n 's/.* msg="cpubroker: listening" .*address="\{0,1\}\([0-9.:]*\).*/\1/p' "$1.log" >"$1.address"
    echo $(((ended - began) / 1000000))
}
fleet_broker_kill() {
    [ -e "$1.pid" ] || return 0
    kill -KILL "$(cat "$1.pid")"
    rm "$1.pid"
}
rss_kib() { awk '/^VmRSS:/ { print $2 }' "/proc/$(cat "$1.pid")/status"; }
# fleet_get FOLDER PATH: the reply.
fleet_get() { curl -s -H "Authorization: Bearer $(cat "$1/operator.token")" "http://$(cat "$1.address")$2"; }
# fleet_load FOLDER masks|members: "median_us p99_us errors bytes"
fleet_load() {
    CPUBROKER_BENCH_TOKEN=$(cat "$1/operator.token") CPUBROKER_BENCH_ASK=$2 CPUBROKER_BENCH_NODES=$nodes \
        wrk -t 1 -c 1 -d "${seconds}s" -s "$SOURCE_DIR/tests/bench/fleet.lua" "http://$(cat "$1.address")" |
        sed -n 's/^RESULT //p'
}

# The median us of a leave or join of a node that lacks what all others have.
fleet_odd() {
    local n member auth
    auth="Authorization: Bearer $(cat "$1/operator.token")"
    jq -c '.node = "odd" | .cpus[].leaves |= map(if .leaf == "0x00000001" then .edx = "0x00000000" else . end)' \
        "$SOURCE_DIR/schema/examples/report-lesser-intel.json" |
        curl -s -o /dev/null -X PUT -H "$auth" --data-binary @- "http://$(cat "$1.address")/v1/nodes/odd/report"
    for ((n = 0; n < 20; n++)); do
        for member in PUT DELETE; do
            curl -s -o "$1.reply" -w '%{http_code} %{time_total}\n' -X "$member" -H "$auth" \
                "http://$(cat "$1.address")/v1/pools/default/nodes/odd"
        done
    done | awk '$1 == 200 { printf "%d\n", $2 * 1e6 }' | median
}

bench_fleet() {
    local all=$TEST_DIR/all none=$TEST_DIR/none start again cold='' empty full median p99 errors bytes epoch
    mkdir -m 700 "$all"
    "$SITE_BUILD/tests/bench/fill_fleet" "$all/broker.db" "$nodes"
    cleanup fleet_broker_kill "$all"
    cleanup fleet_broker_kill "$none"
    fleet_broker_start "$none" >/dev/null
    empty=$(rss_kib "$none")
    start=$(fleet_broker_start "$all")
    full=$(rss_kib "$all")
    row "start with $nodes nodes, ms" "$start" "" "" "< 5000"
    row "resident, bytes a node" "$(awk "BEGIN { printf \"%.0f\", ($full - $empty) * 1024 / $nodes }")" "" "" "< 2048"
    read -r median p99 errors bytes < <(fleet_load "$all" masks)
    row "GET masks, us: median, p99" "$median" "$p99" "" "< 1000 ($errors errors, $bytes bytes)"
    read -r median p99 errors bytes < <(fleet_load "$all" members)
    row "leave and join, us each: median, p99" "$median" "$p99" "" "< 1000 ($errors errors)"
    epoch=$(fleet_get "$all" /v1/pools/default | jq .epoch)
    median=$(fleet_odd "$all")
    if [ "$(fleet_get "$all" /v1/pools/default | jq .epoch)" = $((epoch + 40)) ]; then
        row "leave and join that change the mask, us" "$median" "" "" "(median of 40)"
    else
        echo "  the mask is empty already, and no join can change it; CPUBROKER_FLEET= takes samples instead"
    fi
    row "resident after that, bytes a node" \
        "$(awk "BEGIN { printf \"%.0f\", ($(rss_kib "$all") - $empty) * 1024 / $nodes }")" "" "" "< 2048"
    fleet_get "$all" /v1/pools/default/masks >"$TEST_DIR/before"
    fleet_broker_kill "$all"
    again=$(fleet_broker_start "$all")
    row "start after a kill, ms" "$again" "" "" "< 5000"
    # What was kept up to date is what is reckoned anew.
    fleet_get "$all" /v1/pools/default/masks >"$TEST_DIR/after"
    cmp -s <(jq -S . "$TEST_DIR/before") <(jq -S . "$TEST_DIR/after") || fail "the masks are others after a restart"
    fleet_broker_kill "$all"
    if sync && echo 3 2>/dev/null >/proc/sys/vm/drop_caches; then
        cold=$(fleet_broker_start "$all")
        row "start with nothing cached, ms" "$cold" "" "" "< 5000"
    fi
}

# costs COMMAND...: what mask_subject measures, "getpid_ns cpuid_ns"
costs() { "$@" "$SITE_BUILD/tests/mask_subject" costs | awk '{ printf "%s ", $2 } END { print "" }'; }
row_launch() { # COMMAND PROMISED [ROUNDS]
    local native masked cold command
    read -ra command <<<"$1"
    command -v "${command[0]}" >/dev/null || return 0
    read -r native masked cold < <("$SITE_BUILD/tests/bench/bench_mask" "${3:-40}" "$TEST_DIR/sites" "${command[@]}" 2>/dev/null)
    row "$1, ms (cold $cold)" "$masked" "$native" "$(ratio "$masked" "$native")" "$2"
}
# handed_over THREADS PROMISED: to an engine and back
handed_over() {
    local detach attach
    read -r detach attach < <("$SITE_BUILD/tests/bench/bench_handover" "$1" 20 "$SITE_BUILD/tests/mask_subject" |
        awk '{ printf "%s ", $2 } END { print "" }')
    row "$1 threads to an engine and back, ms" "$detach" "$attach" "" "$2"
}
bench_mask() {
    local call ask native_call native_ask
    read -r native_call native_ask < <(costs env)
    read -r call ask < <(costs "$SITE_BUILD/tests/mask_run" --hide avx2 --)
    row "getpid under the mask, ns" "$call" "$native_call" "$(ratio "$call" "$native_call")" "<= 1.02"
    row "CPUID under the mask, ns" "$ask" "$native_ask" "$(ratio "$ask" "$native_ask")" "<= 1.2"
    handed_over 4 "<= 20 together"
    handed_over 1000 "<= 100 each"
    row_launch true "+ 5 ms, cold + 60 ms"
    row_launch "bash -c true" "+ 5 ms, cold + 60 ms"
    row_launch "/usr/bin/python3 -c pass" "<= 1.1"
    row_launch "java -version" "<= 1.1"
    row_launch "go version" "<= 1.1"
    row_launch "dd if=/dev/zero of=/dev/null bs=1 count=1048576 status=none" "<= 1.05" 10
    head -c 268435456 /dev/zero >"$TEST_DIR/zeros"
    row_launch "openssl dgst -sha256 $TEST_DIR/zeros" "<= 1.1 (where the mask leaves what it uses)" 10
}

if needs_site "$@"; then
    fleet_up
    import_nodes 98 # and two agents
fi
for what in "$@"; do
    case $what in
    requests | downtime | memory | fleet | mask) step "$what"; "bench_$what" ;;
    *) fail "unknown bench '$what'" ;;
    esac
done
echo
printf '%-42s %14s %14s %8s  %s\n' "" cpubroker "compared to" ratio promised
printf '%s\n' "${rows[@]}"
