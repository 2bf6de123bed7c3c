#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Shows cpubroker on one machine: a process moves between two nodes, and an unsafe move is refused.
#
#   deploy/quickstart.sh            installs, builds, starts all of it, shows a move and a refusal,
#                                   and leaves everything running (root, Debian 12 or 13)
#   deploy/quickstart.sh --shell [NODE]
#                                   a shell beside the broker (or inside NODE) to look around in
#   deploy/quickstart.sh --down     ends it and removes every trace but the Debian packages
#
# The broker and the nodes live in network namespaces that have no way out, so nothing of this
# can be reached from outside. Everything else lies in /var/lib/cpubroker-quickstart.
set -euo pipefail

source_dir=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)
root=${CPUBROKER_QUICKSTART_DIR:-/var/lib/cpubroker-quickstart}

SITE_NAME=${CPUBROKER_QUICKSTART_NAME:-cpubroker-quickstart}
SITE_DIR=$root/site
SITE_BUILD=$root/build
# shellcheck source=deploy/lib/nodes.sh
. "$source_dir/deploy/lib/nodes.sh"
# shellcheck source=deploy/lib/fleet.sh
. "$source_dir/deploy/lib/fleet.sh"
site_fail() { fail "$@"; }

title() { printf '\n== %s\n' "$*"; }
say() { echo "   $*"; }
shown() { echo "   \$ $*"; }
indent() { sed 's/^/   /'; }
fail() {
    echo "quickstart: $*" >&2
    exit 1
}

main() {
    case ${1:-} in
    '') ;;
    --down) as_root; take_lock; down; return ;;
    --shell) as_root; shift; open_shell "${1:-}"; return ;;
    --help | -h) sed -n '3,13s/^# \{0,1\}//p' "$0"; return ;;
    *) echo "quickstart: unknown argument '$1' (expected --down, --shell or nothing)" >&2; exit 2 ;;
    esac
    as_root
    take_lock
    prepare
    start
    show_move
    show_refusal
    show_masks
    say_goodbye
}

as_root() { [ "$(id -u)" = 0 ] || fail "run it as root: sudo $0"; }

# Held until the script ends; what it starts has the descriptor closed.
take_lock() {
    mkdir -p "$root"
    exec 9>"$root/lock"
    flock -w 10 9 || fail "another quickstart is at work (it holds $root/lock)"
}

prepare() {
    title "Preparing"
    "$source_dir/deploy/dependencies.sh" run build demo 9>&-
    say "packages are installed"
    SITE_CRIU=$("$source_dir/deploy/get-criu.sh" --dir "$root/criu" 9>&-)
    say "CRIU that works on this kernel: $SITE_CRIU"
    [ -e "$SITE_BUILD/build.ninja" ] || say "building a release (this takes a minute the first time)"
    {
        cmake -S "$source_dir" -B "$SITE_BUILD" -G Ninja -DCMAKE_BUILD_TYPE=Release \
            -DCPUBROKER_TESTS=OFF && ninja -C "$SITE_BUILD"
    } >"$root/build.log" 2>&1 9>&- || {
        tail -n 15 "$root/build.log" >&2
        fail "the build failed; its last words are above, all of them in $root/build.log"
    }
    say "built in $SITE_BUILD"
    chain=$SITE_BUILD/deploy/chain
}

start() {
    title "Starting a broker and two nodes"
    site_down # what an earlier run left, finished or not
    rm -rf "$SITE_DIR"
    mkdir -p "$SITE_DIR"
    site_up
    # shellcheck disable=SC2119 # nothing to add to the configuration
    broker_configure
    broker_start
    say "the broker serves $(broker_url), state in $SITE_DIR/broker"
    local node number=1
    for node in node-a node-b; do
        node_up $node $number
        agent_configure $node
        agent_start $node
        number=$((number + 1))
    done
    for node in node-a node-b; do
        agent_wait_live $node
        say "$node is live at $(node_address $node), state in $SITE_DIR/nodes/$node"
    done
    shown cpubroker nodes
    cb nodes | indent
}

log_of() { workload_file "$1" counter stdout.log; }
steps_at_least() { [ "$(wc -l 2>/dev/null <"$(log_of "$1")" || echo 0)" -ge "$2" ]; }

show_move() {
    title "A process on node-a: a counter and a hash chain over 64 MiB"
    shown "cpuagent run --name counter -- chain run 64      (on node-a)"
    ca node-a run --name counter -- "$chain" run 64 | indent
    wait_until 20 steps_at_least node-a 40 || fail "the workload takes no steps on node-a; look into $(dirname "$(log_of node-a)")"
    tail -n 2 "$(log_of node-a)" | indent

    title "Moving it to node-b"
    local body='{"workload":"counter","to":"node-b"}' reply id state before after
    shown "curl -X POST \$CPUBROKER_URL/migrate -d '$body'"
    reply=$(api POST /migrate "$body")
    [ "$(api_status)" = 202 ] || fail "the broker answered $(api_status): $reply"
    id=$(jq -r .migration.id <<<"$reply")
    say "202 $id: $(jq -r '.verdict.verdict' <<<"$reply"); its phases as they happen:"
    events "$id" 120 | show_events 9>&-
    state=$(api GET "/v1/migrations/$id" | jq -r .state)
    [ "$state" = "done" ] ||
        fail "the move is '$state': $(api GET "/v1/migrations/$id" | jq -r '.error.message // "no error given"')"
    api GET "/v1/migrations/$id" |
        jq -r '"done: \((.bytes // 0) / 1048576 | floor) MiB moved, the process stood still for \(.downtime_ms) ms"' | indent

    [ ! -e "$(log_of node-a)" ] || fail "node-a still has the workload's folder"
    before=$(wc -l <"$(log_of node-b)")
    wait_until 20 steps_at_least node-b $((before + 20)) || fail "the workload takes no steps on node-b"
    after=$(wc -l <"$(log_of node-b)")
    say "it goes on on node-b: step $before when the move was over, step $after now"
    tail -n 2 "$(log_of node-b)" | indent
    shown "chain check stdout.log 64"
    cp "$(log_of node-b)" "$root/checked.log"
    "$chain" check "$root/checked.log" 64 | indent
}

# Turns server-sent events into a line each.
show_events() {
    sed -un 's/^data: //p' | jq -r --unbuffered '
        if .kind == "phase" then "   phase  \(.state)" + (if .previous_ms then "  (the one before took \(.previous_ms) ms)" else "" end)
        elif .kind == "report" then "   report \(.node): \(.report)" + (if (.bytes // 0) > 0 then ", \(.bytes / 1048576 * 10 | round / 10) MiB" else "" end)
        elif .kind == "error" then "   error  \(.node // ""): \(.message)"
        else empty end'
}

show_refusal() {
    title "A third node that lacks CPU features: known by an imported report"
    local lesser reply
    case $(grep -m 1 vendor_id /proc/cpuinfo) in
    *AMD*) lesser=$source_dir/schema/examples/report-lesser-amd.json ;;
    *) lesser=$source_dir/schema/examples/report-lesser-intel.json ;;
    esac
    shown "cpubroker nodes import node-c ${lesser##*/} --pool default"
    cb nodes import node-c "$lesser" --pool default | indent
    shown "cpubroker migrate counter --to node-c"
    set +e
    reply=$(cb migrate counter --to node-c 2>&1)
    local status=$?
    set -e
    indent <<<"$reply"
    [ $status = 1 ] || fail "the broker should have refused this move (exit 1), not $status"
    say "(exit status 1: rejected; nothing was frozen)"
    local before
    before=$(wc -l <"$(log_of node-b)")
    wait_until 20 steps_at_least node-b $((before + 5)) || fail "the workload stands still"
    say "the counter is at $(tail -n 1 "$(log_of node-b)")"
}

show_masks() {
    title "What every member of the pool has"
    shown cpubroker masks --pool default
    cb masks --pool default | indent
}

say_goodbye() {
    title "All of it is running; look around"
    cat <<EOT
   sudo $0 --shell            a shell beside the broker, in which these work:
       cpubroker nodes                                 who is there
       cpubroker workloads                             what runs where
       cpubroker migrate counter --to node-a --wait    move it back
       cpubroker migrations                            what was moved
       curl -H "Authorization: Bearer \$(cat \$CPUBROKER_TOKEN_FILE)" \$CPUBROKER_URL/v1/workloads/counter
   sudo $0 --shell node-b     a shell inside node-b: cpuagent ps
   tail -f $(log_of node-b)
   sudo $0 --down             ends it and removes every trace
EOT
}

open_shell() {
    [ -e "$SITE_DIR/broker/pid" ] || fail "nothing is running; start it with: sudo $0"
    export CPUBROKER_URL CPUBROKER_TOKEN_FILE PATH="$SITE_BUILD/broker:$SITE_BUILD/agent:$PATH"
    CPUBROKER_URL=$(broker_url)
    CPUBROKER_TOKEN_FILE=$(operator_token_file)
    if [ -n "$1" ]; then
        [ -e "$SITE_DIR/nodes/$1/init.pid" ] || fail "no node '$1' runs here (node-a and node-b do)"
        node_exec "$1" "${SHELL:-/bin/bash}"
    fi
    hub_exec "${SHELL:-/bin/bash}"
}

down() {
    site_down
    rm -rf "$root"
    say "everything is gone but the Debian packages that were installed"
}

main "$@"
