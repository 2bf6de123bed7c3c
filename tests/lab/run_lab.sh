#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Moves programs between virtual machines with unlike CPUs, with the verdict and against it, and holds
# what the verdict said against what became of them.
#
#   tests/lab/run_lab.sh [core|full] [OPTION...]     core (the default) takes two guests
#     --only REGEX     only the cases of which the line in cases.txt matches
#     --rounds N       moves to and fro of a masked workload, instead of what cases.txt says
#     --shell          no cases: a shell, in which `on GUEST CMD...` runs CMD in a guest, cpubroker asks the broker
#     --write          writes the table of docs/lab.md anew, instead of comparing it
#
# shellcheck disable=SC2016,SC2034,SC2054 # scripts for the guests' shell; names that sourced files read; QEMU's commas
# CPUBROKER_BUILD_DIR names the build under test; its programs run in the guests with their libraries.
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$(readlink -f "$0")")/../lib/functions.sh"
LAB_DIR=$SOURCE_DIR/tests/lab
# shellcheck source=tests/lab/guests.sh
. "$LAB_DIR/guests.sh"

cases_set=core
rounds=''
only=.
write=false
shell=false
while [ $# -gt 0 ]; do
    case $1 in
    core | full) cases_set=$1; shift ;;
    --only) only=${2:?--only needs an expression}; shift 2 ;;
    --rounds) rounds=${2:?--rounds needs a number}; shift 2 ;;
    --shell) shell=true; shift ;;
    --write) write=true; shift ;;
    --help | -h) sed -n '3,12s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "run_lab.sh: unknown argument '$1' (expected core, full, --only, --rounds, --shell or --write)" >&2; exit 2 ;;
    esac
done
declare -A cpu_of=(
    [haswell]=Haswell         # AVX2, FMA, BMI1, BMI2, LZCNT, MOVBE
    [sandybridge]=SandyBridge # AVX and none of these
    [nehalem]=Nehalem         # no AVX and no XSAVE at all
    [haswell-pku]=Haswell,+pku
)
declare -A command_of=(
    [strings]=/lab/programs/lab_strings
    [static]=/lab/programs/lab_strings_static
    [counts]=/lab/programs/lab_counts
    [family]="/lab/programs/lab_family /lab/programs/lab_late.so"
    [openssl]=/lab/programs/lab_digests
    [go]=/lab/programs/gohash
    [python]="/usr/bin/python3 -B /lab/programs/arrays.py"
    # its memory-mapped statistics would have to be there on the target
    [java]="/usr/bin/java -XX:-UsePerfData -XX:+UseSerialGC -Xmx128m -Xshare:auto -cp /lab/programs Compiled"
)
# Steps that a program goes on for after a move, so that every way it leans on the CPU comes up; fewer
# when it has been there before.
steps_after=60
steps_again=20
# A CPU that is emulated takes its time; Java's compiler above all.
patience=90

# ---- what a program told

# judged FILE: "right N", or what is wrong.
judged() {
    awk '
        $1 == "step" && $2 != ++count { print "step " $2 " follows " count - 1; found = 1; exit }
        $1 != "step" { print "says: " $0; found = 1; exit }
        $3 == "wrong" { print; found = 1; exit }
        $NF == "other-cpu" { other = 1 }
        END { if (!found) print "right " count (other ? " other-cpu" : "") }' "$1"
}

# follow NODE FILE PID GOAL: waits until FILE in the guest has GOAL lines or the process is gone, or
# until patience is at an end; prints "there", "gone" or "still".
follow() {
    guest_shell "$1" '
        for ((tenths = 0; tenths < $4 * 10; tenths++)); do
            [ "$(wc -l <"$1")" -lt "$3" ] || { echo there; exit; }
            [ -d "/proc/$2" ] && ! grep -q "^State:.Z" "/proc/$2/status" || { echo gone; exit; }
            sleep 0.1
        done 2>/dev/null
        echo still' "$2" "$3" "$4" $patience
}
lines_of() { guest_shell "$1" 'wc -l <"$1"' "$2"; }
# fetched NODE FILE: into $TEST_DIR/fetched
fetched() { guest_shell "$1" 'cat "$1"' "$2" >"$TEST_DIR/fetched"; }
# killed_by NODE: by what signal the first process died there since dmesg was cleared: sigill, another
# one (dies), or none (ended). A runtime that catches SIGILL says so in what was fetched.
killed_by() {
    local number
    number=$(guest_shell "$1" dmesg | sed -n 's/.*potentially unexpected fatal signal \([0-9]*\).*/\1/p' | head -n 1)
    if [ "$number" = 4 ] || grep -q SIGILL "$TEST_DIR/fetched"; then
        echo sigill
    elif [ -n "$number" ]; then
        echo dies
    else
        echo ended
    fi
}

# ---- past the verdict: CRIU alone, without cpubroker

# forced KIND FROM TO: prints what becomes of it, and details to $TEST_DIR/forced.log.
forced() {
    local kind=$1 from=$2 to=$3 pid before end command
    read -ra command <<<"${command_of[$kind]}"
    for node in "$from" "$to"; do
        guest_shell "$node" 'rm -rf /run/forced; mkdir -p /run/forced/image; dmesg -C'
    done
    # a pid that nothing has on the target
    pid=$(guest_shell "$from" 'cd /run/forced; echo $((RANDOM % 20000 + 5000)) >/proc/sys/kernel/ns_last_pid
        setsid "$@" </dev/null >/run/forced/out 2>&1 &
        echo $!' "${command[@]}")
    end=$(follow "$from" /run/forced/out "$pid" 20)
    [ "$end" = there ] || { fetched "$from" /run/forced/out; fail "$kind does not work on $from ($end): $(head -n 3 "$TEST_DIR/fetched")"; }
    {
        echo "# $kind $from -> $to"
        if ! guest_shell "$from" 'criu dump -t "$1" -D /run/forced/image -o dump.log' "$pid"; then
            guest_shell "$from" 'grep -E "Error|Warn" /run/forced/image/dump.log; kill -KILL "$1"' "$pid"
            end=refused
        elif guest_shell "$from" 'tar -C /run/forced -cf - .' | guest_shell "$to" 'tar -C /run/forced -m -xf -' &&
            before=$(lines_of "$to" /run/forced/out) &&
            ! guest_shell "$to" 'criu restore -d -D /run/forced/image -o restore.log'; then
            guest_shell "$to" 'grep -E "Error|Warn" /run/forced/image/restore.log'
            end=refused
        else
            end=$(follow "$to" /run/forced/out "$pid" $((before + steps_after)))
            fetched "$to" /run/forced/out
            tail -n 5 "$TEST_DIR/fetched"
            guest_shell "$to" 'dmesg | grep -E "trap invalid|fatal signal|RIP"; kill -KILL "$1" 2>/dev/null' "$pid" || true
        fi
    } >>"$TEST_DIR/forced.log" 2>&1
    case $end in
    there)
        case $(judged "$TEST_DIR/fetched") in
        right*) echo lives ;;
        *) echo wrong ;;
        esac
        ;;
    gone) killed_by "$to" ;;
    *) echo "$end" ;;
    esac
}

# ---- through the product

guest_log() { echo "$SITE_DIR/state/workloads/$1/stdout.log"; }
workload_pid() { ca "$1" ps -o json | jq -r --arg name "$2" '.workloads[] | select(.name == $name) | .pid // empty'; }

# started NAME KIND FROM POOL [OPTION...]: as a workload; 1 if the agent refuses.
started() {
    local name=$1 kind=$2 from=$3 pool=$4 command end
    shift 4
    read -ra command <<<"${command_of[$kind]}"
    ca "$from" run --name "$name" --pool "$pool" "$@" -- "${command[@]}" >"$TEST_DIR/run.log" 2>&1 || return 1
    end=$(follow "$from" "$(guest_log "$name")" "$(workload_pid "$from" "$name")" 20)
    [ "$end" = there ] || fail "$kind does not work as a workload on $from ($end):
$(guest_shell "$from" 'cd "$1"; head -n 5 stdout.log stderr.log' "$(dirname "$(guest_log "$name")")")"
    eventually 20 broker_says "$name" state running
}

# asked NAME TO: POST /migrate. REPLY is the answer; fails if it is neither a migration nor a verdict.
asked() {
    REPLY=$(api POST /migrate "{\"workload\":\"$1\",\"to\":\"$2\"}")
    case $(api_status) in
    202 | 409) ;;
    *) fail "POST /migrate of $1 to $2 answered $(api_status): $REPLY" ;;
    esac
}
verdict() { jq -r 'if .migration then .migration.verdict.verdict // "approve" else .verdict end' <<<"$REPLY"; }
# The codes that refuse, each with what would happen.
reasons() {
    jq -r '[(.reasons // [])[] | select(.severity == "reject") | .code + (if .effect then " (" + .effect + ")" else "" end)] |
        unique | join(", ")' <<<"$REPLY"
}

# arrived NAME TO STEPS: the migration in REPLY is done, and the program goes on; prints "lives" or what is wrong.
arrived() {
    local name=$1 to=$2 steps=$3 id state pid before end text
    id=$(jq -er .migration.id <<<"$REPLY")
    state=$(migration_end "$id" 180)
    [ "$state" = "done" ] || { echo "the move is '$state': $(api GET "/v1/migrations/$id" | jq -r '.error.message // .error')"; return; }
    before=$(lines_of "$to" "$(guest_log "$name")")
    pid=$(workload_pid "$to" "$name")
    end=$(follow "$to" "$(guest_log "$name")" "${pid:-none}" $((before + steps)))
    fetched "$to" "$(guest_log "$name")"
    text=$(judged "$TEST_DIR/fetched")
    case $end:$text in
    there:right*) echo lives ;;
    there:*) echo "$text" ;;
    gone:*)
        fetched "$to" "$SITE_DIR/state/workloads/$name/stderr.log"
        killed_by "$to"
        ;;
    *) echo "$end" ;;
    esac
}

# ended NAME NODE: stops it wherever it is and forgets it.
ended() { ca "$2" stop "$1" >>"$TEST_DIR/stop.log" 2>&1 || true; }

# unmasked KIND FROM TO POOL: VERDICT, REASONS and, when it was approved, MOVED.
unmasked() {
    local kind=$1 from=$2 to=$3 name=u-$1-$((++counter)) before
    started "$name" "$kind" "$from" "$4" "${no_mask[@]}" || fail "the agent does not start $kind: $(cat "$TEST_DIR/run.log")"
    guest_shell "$to" 'dmesg -C'
    asked "$name" "$to"
    VERDICT=$(verdict) REASONS=$(reasons) MOVED=''
    if [ "$VERDICT" = approve ]; then
        MOVED=$(arrived "$name" "$to" $steps_after)
        ended "$name" "$to"
    else
        before=$(lines_of "$from" "$(guest_log "$name")")
        same "$kind on $from after the refusal" there \
            "$(follow "$from" "$(guest_log "$name")" "$(workload_pid "$from" "$name")" $((before + 5)))"
        ended "$name" "$from"
    fi
}

# uncovered NODE NAME: kinds of places that the agent could not mask, as it tells.
uncovered() {
    ca "$1" ps -o json | jq -r --arg name "$2" '.workloads[] | select(.name == $name) | .mask.lacks // {} |
        [to_entries[] | select(.value > 0) | .key] | sort | join(" ")'
}

broker_knows_lacks() { api GET "/v1/workloads/$1" | jq -e '[.mask.lacks // {} | .[]] | add > 0' >/dev/null; }

# masked KIND FROM TO POOL MOVES: MASKED, and LACKS: what the agent could not cover.
masked() {
    local kind=$1 from=$2 to=$3 moves=$5 name=m-$1-$((++counter)) move here=$2 there=$3 steps=$steps_after
    MASKED='' LACKS=''
    started "$name" "$kind" "$from" "$4" --mask detour || { MASKED="does not start: $(tail -n 1 "$TEST_DIR/run.log")"; return; }
    guest_shell "$from" 'dmesg -C'
    guest_shell "$to" 'dmesg -C'
    for ((move = 1; move <= moves; move++)); do
        LACKS=$(uncovered "$here" "$name")
        [ -z "$LACKS" ] || eventually 20 broker_knows_lacks "$name"
        asked "$name" "$there"
        if [ "$(verdict)" != approve ]; then
            MASKED="refused: $(reasons)"
            [ $move = 1 ] || MASKED="move $move $MASKED"
            break
        fi
        [ $move -le 2 ] || steps=$steps_again
        MASKED=$(arrived "$name" "$there" $steps)
        [ "$MASKED" = lives ] || { MASKED="after move $move: $MASKED"; break; }
        read -r here there <<<"$there $here"
    done
    if [ "$MASKED" = lives ]; then
        case $(judged "$TEST_DIR/fetched") in *other-cpu) MASKED='lives, but CPUID is not the same everywhere' ;; esac
    fi
    ended "$name" "$here"
    ended "$name" "$there"
}

# ---- the lab

# ssh would take what is typed meanwhile
exec {terminal}<&0 </dev/null
requires root namespaces curl jq
[ -c /dev/net/tun ] || skip "needs /dev/net/tun"
"$SOURCE_DIR/deploy/dependencies.sh" lab
[ "$cases_set" = core ] || "$SOURCE_DIR/deploy/dependencies.sh" lab-full
clock() { echo "  $((SECONDS - lap)) s"; lap=$SECONDS; }
lap=$SECONDS

step "the guests' image"
LAB_IMAGE=$("$LAB_DIR/build_image.sh" "$cases_set") || fail "there is no image for the guests"
clock

step "the programs"
[ -x "$CPUBROKER_BUILD_DIR/agent/cpuagent" ] || fail "$CPUBROKER_BUILD_DIR holds no build"
mkdir -p "$SITE_DIR/lab/programs"
for program in "$CPUBROKER_BUILD_DIR"/agent/cpuagent*; do
    [ ! -f "$program" ] || [ ! -x "$program" ] || programs+=("$program")
done
programs_add "${programs[@]}"
cp "$CPUBROKER_BUILD_DIR"/tests/lab_* "$LAB_DIR/programs/arrays.py" "$SITE_DIR/lab/programs/"
if [ "$cases_set" = full ]; then
    (cd "$LAB_DIR/programs" && GOCACHE=$TEST_DIR/go GOFLAGS=-mod=mod CGO_ENABLED=0 go build -o "$SITE_DIR/lab/programs/gohash" gohash.go) ||
        fail "go cannot build gohash.go"
    javac -d "$SITE_DIR/lab/programs" "$LAB_DIR/programs/Compiled.java" || fail "javac cannot compile Compiled.java"
fi
programs_disk
clock

mapfile -t cases < <(grep -vE '^(#|$)' "$LAB_DIR/cases.txt" | grep -E "$only" | if [ "$cases_set" = full ]; then cat; else grep '^core'; fi)
[ ${#cases[@]} -gt 0 ] || fail "no case matches '$only'"
mapfile -t guests < <(printf '%s\n' "${cases[@]}" | awk '{ print $3; print $4 }' | sort -u)

step "a broker, and the guests ${guests[*]}"
cleanup site_down
site_up
SITE_CRIU=/usr/sbin/criu
broker_configure "${BROKER_LINES[@]}"
broker_start
number=1
for node in "${guests[@]}"; do
    guest_start "$node" $((number++)) "${cpu_of[$node]}"
done
cleanup guest_logs "${guests[@]}"
for node in "${guests[@]}"; do
    guest_wait "$node"
    agent_configure "$node" "${AGENT_LINES[@]}"
    agent_start "$node"
done
for node in "${guests[@]}"; do
    agent_wait_live "$node"
done
clock
can_mask=false
no_mask=()
! ca "${guests[0]}" run --help | grep -q -- '--mask ' || can_mask=true no_mask=(--mask off)

if $shell; then
    mkdir "$TEST_DIR/bin"
    export -f node_exec node_address hub_exec without_descriptors fail
    export SITE_DIR SITE_NAME TEST_DIR
    export CPUBROKER_URL CPUBROKER_TOKEN_FILE
    CPUBROKER_URL=$(broker_url) CPUBROKER_TOKEN_FILE=$(operator_token_file)
    printf '#!/bin/bash\nnode_exec "$@"\n' >"$TEST_DIR/bin/on"
    printf '#!/bin/bash\nhub_exec %q "$@"\n' "$(cpubroker_program)" >"$TEST_DIR/bin/cpubroker"
    chmod +x "$TEST_DIR/bin/on" "$TEST_DIR/bin/cpubroker"
    echo "guests: ${guests[*]}; the end of this shell ends them"
    PATH=$TEST_DIR/bin:$PATH bash <&"$terminal" || true
    exit 0
fi

# pool_of FROM TO: a pool of just these two; its name.
pool_of() {
    local name
    name=$(printf '%s\n' "$1" "$2" | sort | paste -sd +)
    name=${name/+/-and-}
    cb pools create "$name" >/dev/null
    cb pools join "$name" "$1" >/dev/null
    cb pools join "$name" "$2" >/dev/null
    echo "$name"
}

counter=0
failures=()
rows=()
# holds WHAT EXPECTED FOUND
holds() {
    [ "$2" = "$3" ] || failures+=("$kind $from -> $to: $1: expected '$2', found '$3'")
}
for line in "${cases[@]}"; do
    read -r _ kind from to want_verdict want_forced want_masked moves <<<"$line"
    step "$kind, $from -> $to"
    pool=$(pool_of "$from" "$to")
    unmasked "$kind" "$from" "$to" "$pool"
    holds "the verdict without a mask" "$want_verdict" "$VERDICT"
    echo "  without a mask: $VERDICT${REASONS:+: $REASONS}${MOVED:+; moved: $MOVED}"
    outcome=$(forced "$kind" "$from" "$to")
    holds "forced past the verdict" "$want_forced" "$outcome"
    echo "  forced: $outcome"
    if [ "$VERDICT" = approve ]; then
        [ "$MOVED:$outcome" = lives:lives ] ||
            failures+=("$kind $from -> $to: approved, but through the product it is '$MOVED', by CRIU alone '$outcome'")
    fi
    told=-
    if [ "$want_masked" != - ] && $can_mask; then
        [ "$cases_set" = full ] || [ "$moves" -le 2 ] || moves=2
        moves=$((2 * ${rounds:-$moves}))
        masked "$kind" "$from" "$to" "$pool" $moves
        told=$MASKED${LACKS:+ (not covered: $LACKS)}
        holds "under the pool's mask" "$want_masked" "${MASKED%%: *}"
        echo "  masked, $moves moves: $told"
    fi
    rows+=("| $kind | $from → $to | $VERDICT${REASONS:+: $REASONS} | $outcome | $told |")
    clock
done

step "what the verdict said, and what became of them"
{
    echo "| program | move | verdict without a mask | forced past it | under the pool's mask |"
    echo "| --- | --- | --- | --- | --- |"
    printf '%s\n' "${rows[@]}"
} | tee "$TEST_DIR/table"

# docs/lab.md holds the table of the full set.
document=$SOURCE_DIR/docs/lab.md
if $write; then
    [ "$cases_set:$only" = full:. ] || fail "--write takes the full set and nothing less"
    awk -v table="$TEST_DIR/table" '
        /^## What came of it/ { there = 1 }
        there && /^\| / { if (!written++) while ((getline line <table) > 0) print line; next }
        { print }' "$document" >"$TEST_DIR/document"
    cp "$TEST_DIR/document" "$document" # cp keeps the file's owner and mode
else
    for row in "${rows[@]}"; do
        # where this agent makes no masks, all but the last column
        $can_mask || row=${row% - |}
        grep -qF -- "$row" "$document" || failures+=("docs/lab.md tells otherwise than '$row'")
    done
fi

[ ${#failures[@]} -eq 0 ] || {
    printf '  not as it should be: %s\n' "${failures[@]}"
    cat "$TEST_DIR/forced.log"
    fail "${#failures[@]} outcomes are not what they should be"
}
