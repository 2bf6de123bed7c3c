#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the disk and the kernel of the lab's guests, once, and prints the folder that holds them.
#
#   tests/lab/build_image.sh core     what the core cases need
#   tests/lab/build_image.sh full     with OpenBLAS, Python, NumPy and Java besides
#
# The folder holds rootfs.ext4 (Debian 13 with CRIU 4.1.1) and vmlinuz (Debian's kernel for virtual
# machines). It lies in $CPUBROKER_LAB_CACHE (else $XDG_CACHE_HOME/cpubroker-lab, else ~/.cache/cpubroker-lab)
# under a name that follows from everything that makes it, so a change of this script, of the guest's
# init or of the packages builds another one, and the older goes.
set -euo pipefail
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)

suite=trixie
packages=(criu iproute2 procps kmod dropbear-bin busybox netbase libssl3t64)
flavour=${1:-core}
case $flavour in
core) ;;
full) packages+=(python3-minimal python3-numpy libopenblas0-pthread openjdk-21-jre-headless) ;;
*) echo "build_image.sh: unknown flavour '$flavour' (expected core or full)" >&2; exit 2 ;;
esac
cache=${CPUBROKER_LAB_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/cpubroker-lab}

say() { echo "lab image: $*" >&2; }
fail() {
    echo "lab image: $*" >&2
    exit 1
}

# What makes the image decides its name.
key=$({
    cat "$here/build_image.sh" "$here/guest_init.sh"
    printf '%s\n' "${packages[@]}"
} | sha256sum | cut -c 1-16)
image=$cache/$flavour-$key

mkdir -p "$cache"
exec 8>"$cache/$flavour.lock"
flock -w 900 8 || fail "another build has held $cache/$flavour.lock for 15 minutes"
if [ -e "$image/rootfs.ext4" ]; then
    echo "$image"
    exit 0
fi
[ "$(id -u)" = 0 ] || fail "only root can build the guest's image"

work=$(mktemp -d "$cache/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
log=$cache/$flavour.log

# The mirror that this machine's own apt uses.
mirror=$( { grep -rhoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null || true; } |
    head -n 1 | tr -d ' ')

# Unpacked only: as an installed package the kernel would bring the initramfs tools along, and
# everything that it needs to find its disk is built in.
# shellcheck disable=SC2016 # expanded by the shell that mmdebstrap starts
unpack_kernel='chroot "$1" sh -ec "
    cd /var/tmp
    kernel=\$(apt-cache depends linux-image-cloud-amd64 | sed -n \"s/^ *Depends: //p\" | head -n 1)
    apt-get -qq -o APT::Sandbox::User=root download \$kernel
    dpkg-deb --fsys-tarfile \$kernel*.deb | tar -x -C / --keep-directory-symlink
    rm \$kernel*.deb
    rm -rf /lib/modules/*/kernel/drivers/gpu /lib/modules/*/kernel/drivers/infiniband /lib/modules/*/kernel/drivers/scsi
    depmod \$(ls /lib/modules)"'

# Java's alternatives want this folder, although nothing comes to lie in it.
# shellcheck disable=SC2016
make_man='mkdir -p "$1/usr/share/man/man1"'

say "building $image (${packages[*]}); what is said goes to $log"
started=$SECONDS
mmdebstrap --variant=minbase --include="$(IFS=,; echo "${packages[*]}")" \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
    --essential-hook="$make_man" --customize-hook="$unpack_kernel" \
    "$suite" "$work/root" "${mirror:-http://deb.debian.org/debian}" >"$log" 2>&1 || {
    tail -n 15 "$log" >&2
    fail "mmdebstrap could not make the guest's root; its last words are above"
}

mkdir "$work/image"
mv "$work"/root/boot/vmlinuz-* "$work/image/vmlinuz"
rm -rf "$work"/root/boot/* "$work"/root/var/lib/apt/lists/* "$work"/root/var/cache/apt/*
install -m 755 "$here/guest_init.sh" "$work/root/lab-init"
mkdir -p "$work/root/lab"
size_kib=$(($(du -sk "$work/root" | cut -f 1) * 5 / 4 + 512 * 1024))
truncate -s "${size_kib}K" "$work/image/rootfs.ext4"
mkfs.ext4 -q -F -O ^has_journal -m 0 -d "$work/root" "$work/image/rootfs.ext4" >>"$log" 2>&1 ||
    fail "mkfs.ext4 failed: $(tail -n 1 "$log")"

rm -rf "$cache/$flavour"-????????????????
mv "$work/image" "$image"
say "built in $((SECONDS - started)) s, $(du -sm "$image" | cut -f 1) MB"
echo "$image"
