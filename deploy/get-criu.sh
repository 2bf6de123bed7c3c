#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Finds or installs a CRIU that works on this kernel and prints its path, alone, on stdout.
#
#   deploy/get-criu.sh [--dir DIR]      DIR: the private folder (default /opt/cpubroker/criu)
#
# What works is tried once and remembered in DIR; one that is in /opt/cpubroker/criu already is
# used from there.
#
# The distribution's own CRIU is taken when `criu check` passes and a trial dump and restore
# succeed. Otherwise Debian 13's is unpacked, with the libraries it needs, into a private
# folder: nothing of the system changes, and the system's package manager never hears of it.
set -euo pipefail

dir=/opt/cpubroker/criu
while [ $# -gt 0 ]; do
    case $1 in
    --dir) dir=${2:?--dir needs a folder}; shift 2 ;;
    *) echo "get-criu.sh: unknown argument '$1' (expected --dir DIR)" >&2; exit 2 ;;
    esac
done

say() { echo "get-criu: $*" >&2; }
fail() { echo "get-criu: $*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || fail "only root can try a CRIU; run it as root"
[ "$(uname -m)" = x86_64 ] || fail "only x86_64 is supported, this machine is $(uname -m)"

# One at a time: two would unpack into the same folder.
mkdir -p "$dir"
exec 8>"$dir.lock"
flock -w 600 8 || fail "another get-criu.sh has held $dir.lock for ten minutes"

# A trial: a sleeping process is dumped and restored. Hardware breakpoints may not fire in a
# nested guest, and CRIU then waits for ever, so a hang is tried again with system-call stops
# (CRIU_FAULT=130), which is what the agent's own probe decides at run time.
trial() (
    exec 2>/dev/null # the shell's own words about the killed child
    criu=$1 ok=1
    work=$(mktemp -d /tmp/cpubroker-criu-trial.XXXXXX)
    timeout -s KILL 30 "$criu" check >"$work/check.log" 2>&1 || { rm -rf "$work"; exit 1; }
    for fault in '' 130; do
        rm -rf "$work/img"; mkdir "$work/img"
        # No descriptor of the caller may reach the child: CRIU would have to dump it.
        (
            cd / && for fd in /proc/"$BASHPID"/fd/*; do
                [ "${fd##*/}" -le 2 ] || eval "exec ${fd##*/}>&-"
            done
            exec setsid sleep 300 </dev/null >/dev/null 2>&1
        ) &
        pid=$!
        # wait until the child has become `sleep` in a session of its own
        for _ in $(seq 100); do
            [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = sleep ] && break
            sleep 0.02
        done
        if CRIU_FAULT=$fault timeout -s KILL 20 "$criu" dump -t "$pid" -D "$work/img" \
            --shell-job -o dump.log >/dev/null 2>&1; then
            wait "$pid" 2>/dev/null || true
            if CRIU_FAULT=$fault timeout -s KILL 20 "$criu" restore -d -D "$work/img" \
                --shell-job -o restore.log >/dev/null 2>&1; then
                ok=0
            fi
        fi
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
        [ $ok = 0 ] && break
    done
    rm -rf "$work"
    exit $ok
)

private_criu=$dir/criu
# Names the CRIU and the kernel of the last trial that succeeded, so that it is made once.
stamp=$dir/.works-on
this_kernel=$(uname -r)

version_of() { "$1" --version 2>/dev/null | sed -n 's/^Version: //p' | head -n 1; }
identity() { echo "$1 $(version_of "$1") $this_kernel"; }
finish() {
    identity "$1" >"$stamp"
    echo "$1"
    exit 0
}

system_criu=$(command -v criu || true)
candidates=("$system_criu" "$private_criu" /opt/cpubroker/criu/criu)
for criu in "${candidates[@]}"; do
    if [ -x "$criu" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$(identity "$criu")" ]; then
        echo "$criu"
        exit 0
    fi
done

for criu in "${candidates[@]}"; do
    if [ -x "$criu" ] && trial "$criu"; then
        say "CRIU $(version_of "$criu") at $criu works on kernel $this_kernel"
        finish "$criu"
    fi
done
say "${system_criu:-no criu} does not work on kernel $this_kernel; unpacking Debian 13's into $dir"

command -v apt-get >/dev/null || fail "apt-get is not here, so Debian 13's criu cannot be fetched"
mirror=$( { grep -rhoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null || true; } |
    head -n 1 | tr -d ' ')
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -e "$keyring" ] || fail "$keyring is missing (package debian-archive-keyring)"

stage=$(mktemp -d "${TMPDIR:-/tmp}/cpubroker-criu.XXXXXX")
trap 'rm -rf "$stage"' EXIT
mkdir -p "$stage/lists/partial" "$stage/cache/archives/partial" "$stage/root" "$stage/deb"
echo "deb [signed-by=$keyring] ${mirror:-http://deb.debian.org/debian} trixie main" >"$stage/sources.list"
options=(-qq -o "Dir::Etc::sourcelist=$stage/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::Etc::preferencesparts=/dev/null -o Dir::Etc::preferences=/dev/null
    -o "Dir::State::lists=$stage/lists" -o "Dir::Cache=$stage/cache" -o APT::Sandbox::User=root -o Acquire::Languages=none
    -o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false)
# Where some other index cannot be had, `update` fails although the packages' was read.
apt-get "${options[@]}" update >"$stage/update.log" 2>&1 || true
apt-cache "${options[@]}" show criu >/dev/null 2>&1 || {
    tail -n 5 "$stage/update.log" >&2
    fail "cannot read Debian 13's package lists from ${mirror:-http://deb.debian.org/debian}"
}
mapfile -t packages < <(apt-cache "${options[@]}" depends --recurse --no-recommends --no-suggests \
    --no-conflicts --no-breaks --no-replaces --no-enhances criu | grep -E '^[a-z0-9]' | sort -u |
    grep -vE '^(python3|perl|debconf)')
# two that criu's libraries load without saying so on every release
packages+=(libzstd1 zlib1g)
(cd "$stage/deb" && apt-get "${options[@]}" download "${packages[@]}" >&2) ||
    fail "cannot download Debian 13's criu and its libraries"
for deb in "$stage"/deb/*.deb; do
    dpkg-deb -x "$deb" "$stage/root" || fail "cannot unpack $(basename "$deb")"
done

cat >"$stage/root/criu" <<'WRAPPER'
#!/bin/sh
# Runs the private CRIU with the private C library and loader beside it.
here=$(dirname "$(readlink -f "$0")")
loader=$here/usr/lib64/ld-linux-x86-64.so.2
[ -e "$loader" ] || loader=$here/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2
exec "$loader" --library-path "$here/usr/lib/x86_64-linux-gnu" "$here/usr/sbin/criu" "$@"
WRAPPER
chmod 755 "$stage/root/criu"
"$stage/root/criu" --version >/dev/null 2>&1 ||
    fail "the unpacked criu does not start: $("$stage/root/criu" --version 2>&1 | tail -n 1)"

mkdir -p "$(dirname "$dir")"
rm -rf "$dir.new"
cp -a "$stage/root" "$dir.new" || fail "cannot write $dir.new; is the disk full?"
rm -rf "$dir"
mv "$dir.new" "$dir"
trial "$private_criu" ||
    fail "Debian 13's CRIU $(version_of "$private_criu") does not work on kernel $this_kernel either; '$private_criu check' says: $("$private_criu" check 2>&1 | tail -n 1)"
say "CRIU $(version_of "$private_criu") in $dir works on kernel $this_kernel"
finish "$private_criu"
