# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# functions.sh - the frame of the integration tests; each sources it first.
#
# CPUBROKER_BUILD_DIR names the build under test. A test makes what it needs in a folder of its own
# ($TEST_DIR) and in namespaces of its own, says what it proves as it goes, and removes everything
# on every exit. It ends with 0 (all held), 77 (skipped, with the reason) or anything else (failed).
set -euo pipefail

TEST_NAME=$(basename "$0" .sh)
SOURCE_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
: "${CPUBROKER_BUILD_DIR:=$SOURCE_DIR/build/release}"

# step WORDS: what is proved next.
step() { echo "- $*"; }
# fail WORDS: the test ends here.
fail() {
    echo "FAILED: $*" >&2
    exit 1
}
# skip WORDS: this machine lacks what the test needs.
skip() {
    echo "SKIPPED: $*"
    [ -z "${CPUBROKER_SKIP_LOG:-}" ] || echo "$TEST_NAME: $*" >>"$CPUBROKER_SKIP_LOG"
    exit 77
}

# requires root|criu|PROGRAM...
requires() {
    local what
    for what in "$@"; do
        case $what in
        root) [ "$(id -u)" = 0 ] || skip "needs root" ;;
        criu)
            SITE_CRIU=$("$SOURCE_DIR/deploy/get-criu.sh" 2>"$TEST_DIR/get-criu.log") ||
                skip "needs a CRIU that works: $(tail -n 1 "$TEST_DIR/get-criu.log")"
            ;;
        namespaces)
            unshare --net --pid --mount --fork true 2>/dev/null || skip "needs to make namespaces"
            ;;
        *) command -v "$what" >/dev/null || skip "needs the program $what" ;;
        esac
    done
}

# cleanup CMD...: runs when the test ends, however it ends; the last one first.
CLEANUPS=()
cleanup() { CLEANUPS+=("$(printf '%q ' "$@")"); }
run_cleanups() {
    local status=$? i
    trap - EXIT
    set +e
    if [ $status != 0 ] && [ $status != 77 ]; then
        show_logs
    fi
    for ((i = ${#CLEANUPS[@]} - 1; i >= 0; i--)); do
        (eval "${CLEANUPS[i]}") || { echo "cleaning up failed: ${CLEANUPS[i]}"; status=1; }
    done
    exit $status
}
trap run_cleanups EXIT
trap 'exit 143' TERM
trap 'exit 130' INT
trap 'exit 129' HUP

TEST_DIR=$(mktemp -d "/tmp/cpubroker-$TEST_NAME.XXXXXX")
cleanup rm -rf "$TEST_DIR"

# The last lines of every log of the test.
show_logs() {
    local log
    while IFS= read -r log; do
        [ -s "$log" ] || continue
        echo "--- ${log#"$TEST_DIR"/}"
        tail -n 40 "$log"
    done < <(find "$TEST_DIR" -name '*.log' -not -name chain.log -not -name stdout.log -not -name checked.log -not -path '*/build/*' -size -10000k 2>/dev/null | sort)
}

# eventually SECONDS CMD...: waits for it, fails when the time is up.
eventually() {
    local limit=$1
    shift
    wait_until "$limit" "$@" || fail "not so after $limit s: $*"
}

# same WHAT EXPECTED FOUND
same() { [ "$2" = "$3" ] || fail "$1: expected '$2', found '$3'"; }

# A site of its own for this test (see deploy/lib/nodes.sh).
SITE_NAME=cpubroker-t$$
SITE_DIR=$TEST_DIR/site
SITE_BUILD=$CPUBROKER_BUILD_DIR
SITE_CRIU=criu
SITE_TLS=
# shellcheck source=deploy/lib/nodes.sh
. "$SOURCE_DIR/deploy/lib/nodes.sh"
# shellcheck source=deploy/lib/fleet.sh
. "$SOURCE_DIR/deploy/lib/fleet.sh"
site_fail() { fail "$@"; }

VICTIM=$CPUBROKER_BUILD_DIR/tests/victim
VICTIM_MIB=12

# Lines that a test adds to the configurations before fleet_up.
BROKER_LINES=()
AGENT_LINES=()

# fleet_up [NODE...]: a broker and these nodes (node-a node-b), live.
fleet_up() {
    local node number=1
    [ $# -gt 0 ] || set -- node-a node-b
    mkdir -p "$SITE_DIR"
    cleanup site_down
    site_up
    broker_configure "${BROKER_LINES[@]}"
    broker_start
    for node in "$@"; do
        node_up "$node" $number
        agent_configure "$node" "${AGENT_LINES[@]}"
        agent_start "$node"
        number=$((number + 1))
    done
    for node in "$@"; do
        agent_wait_live "$node"
    done
}

# victim_start NODE NAME [OPTION...]: starts the test workload there and waits until it works.
victim_start() {
    ca "$1" run --name "$2" "${@:3}" -- "$VICTIM" run "$VICTIM_MIB" 20 >"$TEST_DIR/run.out"
    eventually 10 victim_at_least "$1" "$2" 10
}

victim_log() { workload_file "$1" "$2" chain.log; }
victim_steps() { wc -l 2>/dev/null <"$(victim_log "$1" "$2")" || echo 0; }
victim_at_least() { [ "$(victim_steps "$1" "$2")" -ge "$3" ]; }
# victim_goes_on NODE NAME: it takes ten more steps there.
victim_goes_on() {
    local goal=$(($(victim_steps "$1" "$2") + 10)) tries pid task
    for ((tries = 0; tries < 150; tries++)); do
        ! victim_at_least "$1" "$2" "$goal" || return 0
        sleep 0.1
    done
    echo "the threads of the workload, each with its state, where it waits and its system call:"
    for pid in $(pgrep -f "^$VICTIM run"); do
        for task in "/proc/$pid/task"/*; do
            echo "  $task $(grep -E '^(State|TracerPid|SigQ|ShdPnd)' "$task/status" | tr '\n\t' '; ')" \
                "$(cat "$task/wchan") $(cat "$task/syscall")"
        done
    done 2>&1
    fail "'$2' takes no step on $1: it is at $(victim_steps "$1" "$2"), expected $goal after 15 s"
}
# victim_whole NODE NAME: each step once, in order, and every timer ticks; prints the account.
victim_whole() {
    local first second
    first=$("$VICTIM" check "$(victim_log "$1" "$2")" "$VICTIM_MIB") || fail "$first"
    sleep 0.2
    second=$("$VICTIM" check "$(victim_log "$1" "$2")" "$VICTIM_MIB") || fail "$second"
    timers_moved "$first" "$second" || fail "a timer stands still: '$first', then '$second'"
    echo "  steps: $second"
}
timers_moved() {
    awk 'BEGIN { split(ARGV[1], a, /[ =]/); split(ARGV[2], b, /[ =]/)
        exit !(b[1] > a[1] + 0 && b[3] > a[3] + 0 && b[5] > a[5] + 0) }' "$1" "$2"
}

# migrate NAME NODE [MEMBERS]: POST /migrate; prints the migration's id. MEMBERS: more JSON.
migrate() {
    local reply
    reply=$(api POST /migrate "{\"workload\":\"$1\",\"to\":\"$2\"${3:+,$3}}")
    [ "$(api_status)" = 202 ] || fail "POST /migrate answered $(api_status): $reply"
    jq -er .migration.id <<<"$reply"
}

# migration_end ID SECONDS: waits on its events until it is over; prints the final state.
migration_end() {
    events "$1" "$2" >"$TEST_DIR/$1.events" || true
    api GET "/v1/migrations/$1" | jq -er .state
}

# moved NAME NODE: moves it there; fails unless the migration is done.
moved() {
    local id state
    id=$(migrate "$1" "$2")
    state=$(migration_end "$id" 60)
    [ "$state" = "done" ] || fail "the move of $1 to $2 is '$state': $(api GET "/v1/migrations/$id" | jq -c .error)"
}

workload_member() { api GET "/v1/workloads/$1" | jq -r ".$2"; }

# Conditions for `eventually`.
agent_holds() { # NODE WORKLOAD STATE
    ca "$1" ps -o json 2>/dev/null |
        jq -e --arg name "$2" --arg state "$3" 'any(.workloads[]; .name == $name and .state == $state)' >/dev/null 2>&1
}
broker_says() { [ "$(workload_member "$1" "$2")" = "$3" ]; } # WORKLOAD MEMBER VALUE
broker_says_node() { [ "$(api GET "/v1/nodes/$1" | jq -r .status)" = "$2" ]; }
migration_is() { [ "$(api GET "/v1/migrations/$1" | jq -r .state)" = "$2" ]; }
migration_is_over() {
    case $(api GET "/v1/migrations/$1" | jq -r .state) in done | failed | cancelled) ;; *) return 1 ;; esac
}
# The target of a move that failed holds no workload, no folder and no image.
nothing_left_on_target() {
    [ "$(ca node-b ps -o json | jq '.workloads | length')" = 0 ] &&
        [ ! -e "$SITE_DIR/nodes/node-b/state/workloads/w1" ] &&
        [ -z "$(find "$SITE_DIR/nodes/node-b/state" -name '*.img' -print -quit)" ]
}

# site_processes PROGRAM: how many processes of this site run it, zombies aside.
site_processes() {
    local net pid count=0 command
    for net in $(site_namespaces); do
        for pid in $(ip netns pids "$net"); do
            IFS= read -r -d '' command 2>/dev/null <"/proc/$pid/cmdline" || continue
            [ "$command" != "$1" ] || count=$((count + 1))
        done
    done
    echo $count
}

# engine_wrapper: puts a wrapper in the place of CRIU whose behaviour each node's file
# state/engine-mode chooses: hang, fail, fail-restore, or "slow SECONDS". Before fleet_up.
engine_wrapper() {
    cat >"$TEST_DIR/criu-wrapper" <<WRAPPER
#!/bin/bash
read -r mode argument 2>/dev/null <"$SITE_DIR/state/engine-mode"
case "\$1:\$mode" in
dump:hang) exec "$CPUBROKER_BUILD_DIR/tests/hang_engine" "\$@" ;;
dump:fail | restore:fail-restore) echo "Error (test): made to fail" >&2; exit 1 ;;
dump:slow) sleep "\$argument" ;;
esac
exec "$SITE_CRIU" "\$@"
WRAPPER
    chmod +x "$TEST_DIR/criu-wrapper"
    SITE_CRIU=$TEST_DIR/criu-wrapper
}
engine_mode() { echo "$2" >"$SITE_DIR/nodes/$1/state/engine-mode"; } # NODE MODE
engine_normal() { rm -f "$SITE_DIR/nodes/$1/state/engine-mode"; }
