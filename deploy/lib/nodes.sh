# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# nodes.sh - several "nodes" on one machine, in namespaces; sourced by quickstart.sh and the tests.
#
# A site is a hub and some nodes. The hub is a network namespace with a bridge and no way out, so
# that nothing in it can be reached from outside this machine. A node is a network, pid and mount
# namespace joined to the bridge by veth, with a /run of its own and a folder of its own that is seen
# at the same path, $SITE_DIR/state, on every node: a workload's folder must have one path on both
# sides of a move.
#
# The caller sets SITE_NAME (names the namespaces and the cgroup) and SITE_DIR (holds everything
# else), then calls the functions. Everything a site started lives in one of its network
# namespaces; that is how site_down finds it again, whatever was killed in between.

SITE_SUBNET=${SITE_SUBNET:-10.213.70}
SITE_HUB_ADDRESS=$SITE_SUBNET.1

site_fail() { echo "${0##*/}: $*" >&2; exit 1; }

# Field 22 of /proc/PID/stat, which with the pid names a process for good.
process_start_time() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    # the command's name, in parentheses, may hold spaces
    cut -d ' ' -f 20 <<<"${stat##*) }"
}

# pid_record FILE PID; pid_recorded FILE prints the pid if that very process still lives.
pid_record() { echo "$2 $(process_start_time "$2")" >"$1"; }
pid_recorded() {
    local pid start
    read -r pid start 2>/dev/null <"$1" || return 1
    [ -n "$start" ] && [ "$(process_start_time "$pid")" = "$start" ] || return 1
    echo "$pid"
}

# without_descriptors CMD...: becomes CMD with nothing open but 0, 1 and 2.
without_descriptors() {
    local fd
    for fd in /proc/"$BASHPID"/fd/*; do
        fd=${fd##*/}
        [ "$fd" -le 2 ] || eval "exec $fd>&-"
    done
    exec "$@"
}

cgroup2_root() {
    findmnt --noheadings --first-only --output TARGET --types cgroup2
}

site_up() {
    mkdir -p "$SITE_DIR/nodes" "$SITE_DIR/state"
    # iproute2 makes /run/netns when it is first used; remembered so that no trace stays
    [ -d /run/netns ] || touch "$SITE_DIR/made-run-netns"
    ip netns add "$SITE_NAME-hub" || site_fail "cannot make a network namespace (ip netns add said why above)"
    ip -n "$SITE_NAME-hub" link set lo up
    # With an address of its own: else it takes the lowest of its ports', and whenever another node
    # brings a lower one, the others send to the old one until their neighbour tables expire.
    ip -n "$SITE_NAME-hub" link add bridge address 02:00:00:00:00:01 type bridge ||
        site_fail "this kernel makes no bridge (module 'bridge' is missing)"
    ip -n "$SITE_NAME-hub" addr add "$SITE_HUB_ADDRESS/24" dev bridge
    ip -n "$SITE_NAME-hub" link set bridge up
}

# hub_exec CMD...: becomes CMD in the hub's network namespace (start it with & or in a subshell).
hub_exec() {
    without_descriptors nsenter "--net=/run/netns/$SITE_NAME-hub" -- "$@"
}

# shellcheck disable=SC2016 # expanded by the shell that runs it
# The first process of a node: makes the node's own view, then reaps what is orphaned.
node_init_script='
set -eu
mount --bind "$1" "$2"
mount -t tmpfs -o mode=755 run /run
mkdir /run/cpubroker
echo "$3" >/proc/sys/kernel/ns_last_pid
: >"$1/.up"
while :; do sleep 1000000 & wait $! || true; done'

# node_up NODE NUMBER: NUMBER (1..20) chooses the address and the range of pids.
node_up() {
    local node=$1 number=$2 dir=$SITE_DIR/nodes/$1 net=$SITE_NAME-$1 address outer init='' tries
    address=$SITE_SUBNET.$((10 + number))
    mkdir -p "$dir/state"
    rm -f "$dir/state/.up"
    ip netns add "$net" || site_fail "cannot make a network namespace for $node"
    # CRIU needs lo to be up
    ip -n "$net" link set lo up
    nsenter "--net=/run/netns/$SITE_NAME-hub" ip link add "to-$number" type veth \
        peer name eth0 netns "$net" || site_fail "this kernel makes no veth pair (module 'veth' is missing)"
    ip -n "$SITE_NAME-hub" link set "to-$number" master bridge up
    ip -n "$net" addr add "$address/24" dev eth0
    ip -n "$net" link set eth0 up
    # What paces by a timer (bbr) only slows a link that loses nothing; not allowed everywhere.
    # shellcheck disable=SC2016 # expanded by the shell in the namespace
    ip netns exec "$net" sh -c 'for way in cubic reno; do
        echo "$way" 2>/dev/null >/proc/sys/net/ipv4/tcp_congestion_control && break
    done' 2>/dev/null || true
    # A restored task takes its old pid again, so each node counts from elsewhere.
    (without_descriptors setsid nsenter "--net=/run/netns/$net" -- \
        unshare --pid --mount --fork --mount-proc --propagation private -- \
        bash -c "$node_init_script" "init-$node" "$dir/state" "$SITE_DIR/state" \
        $((2000 + number * 3000)) </dev/null >"$dir/init.log" 2>&1) &
    outer=$!
    disown "$outer" # its end is no news
    for ((tries = 0; tries < 200; tries++)); do
        [ -e "$dir/state/.up" ] && break
        kill -0 "$outer" 2>/dev/null || break
        sleep 0.02
    done
    [ -e "$dir/state/.up" ] || site_fail "node $node did not come up: $(tail -n 1 "$dir/init.log")"
    read -r init _ <"/proc/$outer/task/$outer/children" || true
    [ -n "$init" ] || site_fail "cannot find the first process of node $node"
    pid_record "$dir/init.pid" "$init"
    echo "$address" >"$dir/address"
}

node_address() { cat "$SITE_DIR/nodes/$1/address"; }

# node_exec NODE CMD...: becomes CMD inside the node (start it with & or in a subshell).
node_exec() {
    local node=$1 init
    shift
    init=$(pid_recorded "$SITE_DIR/nodes/$node/init.pid") || site_fail "node $node is not up"
    without_descriptors nsenter --target "$init" --net --pid --mount --wd=/ -- "$@"
}

# Kills every process in a namespace of the site, by looking at /proc, until none is left.
site_kill_all() {
    local net pids tries
    for ((tries = 0; tries < 100; tries++)); do
        pids=''
        for net in $(site_namespaces); do
            pids+=" $(ip netns pids "$net" 2>/dev/null | tr '\n' ' ')"
        done
        [ -n "${pids// /}" ] || return 0
        # shellcheck disable=SC2086 # a list of numbers
        kill -KILL $pids 2>/dev/null || true
        sleep 0.05
    done
    site_fail "these processes do not die: $pids"
}

site_namespaces() { ip netns list 2>/dev/null | awk -v site="$SITE_NAME-" 'index($1, site) == 1 { print $1 }'; }

# Ends everything and removes everything, however far site_up, node_up or the rest had come.
# $SITE_DIR itself is the caller's.
site_down() {
    local net cgroups
    site_kill_all
    for net in $(site_namespaces); do
        ip netns delete "$net" 2>/dev/null || rm -f "/run/netns/$net"
    done
    if [ -e "$SITE_DIR/made-run-netns" ] && [ -z "$(ls -A /run/netns 2>/dev/null)" ]; then
        umount /run/netns 2>/dev/null || true
        rmdir /run/netns 2>/dev/null || true
    fi
    cgroups=$(cgroup2_root)/$SITE_NAME
    [ ! -d "$cgroups" ] || find "$cgroups" -depth -type d -exec rmdir {} + ||
        site_fail "cannot remove the cgroups below $cgroups"
    rm -rf "$SITE_DIR/nodes" "$SITE_DIR/state" "$SITE_DIR/made-run-netns"
}
