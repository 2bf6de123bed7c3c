# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2016 # scripts in single quotes are for the guest's shell
# guests.sh - nodes that are virtual machines with unlike CPUs; sourced after tests/lib/functions.sh.
#
# A guest takes the place of a node of deploy/lib/nodes.sh: it hangs on the bridge of the site's hub,
# and node_exec, ca, api, cb and the rest work with it. QEMU emulates its CPU (TCG), so any model can be
# had on any machine. All guests share one disk image, of which each sees a copy that is thrown away,
# and one disk with the programs under test, mounted read-only on /lab.
#
# The root disk is NVMe, the driver of which is built into Debian's kernel; the other one is not, so that
# neither is taken for the other.
#
# The caller sets LAB_IMAGE (the folder that build_image.sh prints).

LAB_MEMORY_MIB=${LAB_MEMORY_MIB:-1024}

# The agent in a guest, and a folder for workloads that are started without it.
cpuagent_program() { echo /lab/bin/cpuagent; }

# programs_add FILE...: these run in the guest with the libraries that they have here, which may be
# those of another Debian.
programs_add() {
    local file library folder=$SITE_DIR/lab
    mkdir -p "$folder/bin" "$folder/lib"
    for file in "$@"; do
        while IFS= read -r library; do
            cp -L -n "$library" "$folder/lib/"
        done < <(ldd "$file" | grep -o '/[^ ]*')
        cp "$file" "$folder/bin/"
        strip --strip-debug "$folder/bin/${file##*/}"
        # --force-rpath: the libraries find theirs there as well
        patchelf --set-interpreter /lab/lib/ld-linux-x86-64.so.2 --force-rpath --set-rpath /lab/lib \
            "$folder/bin/${file##*/}" || fail "patchelf cannot change $file"
    done
}

# programs_disk: what lies in $SITE_DIR/lab becomes the guests' second disk.
programs_disk() {
    local kib
    ssh-keygen -q -t ed25519 -N '' -C lab -f "$SITE_DIR/key"
    cp "$SITE_DIR/key.pub" "$SITE_DIR/lab/authorized_keys"
    kib=$(($(du -sk "$SITE_DIR/lab" | cut -f 1) * 5 / 4 + 8192))
    truncate -s "${kib}K" "$SITE_DIR/lab.ext4"
    mkfs.ext4 -q -F -O ^has_journal -m 0 -d "$SITE_DIR/lab" "$SITE_DIR/lab.ext4" >"$TEST_DIR/mkfs.log" 2>&1 ||
        fail "mkfs.ext4 failed: $(tail -n 1 "$TEST_DIR/mkfs.log")"
}

# guest_start NODE NUMBER CPU: begins to boot it. NUMBER (1..20) chooses the address.
guest_start() {
    local node=$1 number=$2 cpu=$3 dir=$SITE_DIR/nodes/$1 address
    address=$SITE_SUBNET.$((10 + number))
    mkdir -p "$dir/state"
    echo "$address" >"$dir/address"
    (hub_exec ip tuntap add "to-$number" mode tap) || fail "this machine makes no tap device (is /dev/net/tun there?)"
    ip -n "$SITE_NAME-hub" link set "to-$number" master bridge up
    (hub_exec setsid qemu-system-x86_64 -M pc -accel tcg,tb-size=256 -cpu "$cpu" -smp 1 -m "$LAB_MEMORY_MIB" \
        -nodefaults -no-user-config -display none -no-reboot \
        -kernel "$LAB_IMAGE/vmlinuz" \
        -append "root=/dev/nvme0n1 rw init=/lab-init console=ttyS0 quiet panic=-1 mitigations=off no_timer_check print-fatal-signals=1 lab.name=$node lab.address=$address" \
        -drive "file=$LAB_IMAGE/rootfs.ext4,format=raw,if=none,id=root,snapshot=on" \
        -device nvme,drive=root,serial=root \
        -drive "file=$SITE_DIR/lab.ext4,format=raw,if=none,id=lab,readonly=on" \
        -device virtio-blk-pci,drive=lab \
        -netdev "tap,id=net,ifname=to-$number,script=no,downscript=no" \
        -device "virtio-net-pci,netdev=net,romfile=,mac=52:54:00:ca:fe:$(printf %02x "$number")" \
        -device virtio-rng-pci -serial "file:$dir/console.log" \
        </dev/null >"$dir/qemu.log" 2>&1) &
    pid_record "$dir/init.pid" $!
    disown $!
}

# guest_wait NODE: until it can be told to do something.
guest_wait() {
    wait_until 120 guest_ready_or_gone "$1" || true
    guest_is_ready "$1" ||
        fail "guest $1 does not come up: $(cat "$SITE_DIR/nodes/$1/qemu.log"; tail -n 5 "$SITE_DIR/nodes/$1/console.log")"
    wait_until 20 guest_answers "$1" || fail "guest $1 does not answer to ssh: $(cat "$SITE_DIR/nodes/$1/ssh.log")"
}
guest_is_ready() { grep -qs lab-guest-ready "$SITE_DIR/nodes/$1/console.log"; }
guest_ready_or_gone() { guest_is_ready "$1" || ! pid_recorded "$SITE_DIR/nodes/$1/init.pid" >/dev/null; }
guest_answers() { (node_exec "$1" true) >"$SITE_DIR/nodes/$1/ssh.log" 2>&1; }

# node_exec NODE CMD...: becomes CMD in the guest (start it with & or in a subshell).
node_exec() {
    local node=$1
    shift
    # the connection of the first one is kept; %C is short, for a socket's name must be
    hub_exec ssh -q -i "$SITE_DIR/key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
        -o ConnectTimeout=5 -o BatchMode=yes -o ControlMaster=auto -o ControlPersist=600 \
        -o "ControlPath=$TEST_DIR/ssh-%C" "root@$(node_address "$node")" -- "$(printf '%q ' "$@")"
}
# guest_shell NODE SCRIPT [ARG...]: bash runs SCRIPT in the guest.
guest_shell() {
    local node=$1
    shift
    (node_exec "$node" bash -c "$1" script "${@:2}")
}

# agent_start NODE: gives the guest what agent_configure wrote, and starts its agent.
agent_start() {
    local node=$1
    tar -C "$SITE_DIR/nodes/$node/state" -cf - . |
        guest_shell "$node" 'mkdir -p -m 755 "$1" && tar -C "$1" --no-same-owner -m -xf -' "$SITE_DIR/state"
    guest_shell "$node" 'ulimit -c 0; mkdir -p /run/cpubroker
        setsid /lab/bin/cpuagent serve --config "$1" </dev/null >/run/agent.log 2>&1 &' "$SITE_DIR/state/cpuagent.conf"
}
agent_wait_live() {
    wait_until 60 agent_live "$1" ||
        fail "the agent of $1 is not live after 60 s: $(guest_shell "$1" 'tail -n 5 /run/agent.log')"
}

# The guests' own logs lie where show_logs finds them.
guest_logs() {
    local node
    for node in "$@"; do
        guest_shell "$node" 'tail -n 60 /run/agent.log; dmesg | tail -n 15' >"$SITE_DIR/nodes/$node/guest.log" 2>&1 || true
    done
}
