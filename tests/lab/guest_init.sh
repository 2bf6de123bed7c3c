#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The first process of a guest of the lab: mounts, network, a door for ssh; then reaps what is orphaned.
#
# The kernel's command line names the guest and its address: lab.name=NAME lab.address=A.B.C.D.
# The second disk, mounted on /lab, holds what is under test.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm /dev/net
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ln -s /proc/self/fd /dev/fd
ln -s fd/0 /dev/stdin
ln -s fd/1 /dev/stdout
ln -s fd/2 /dev/stderr
exec </dev/null >/dev/console 2>&1

name='' address=''
read -ra words </proc/cmdline
for word in "${words[@]}"; do
    case $word in
    lab.name=*) name=${word#*=} ;;
    lab.address=*) address=${word#*=} ;;
    esac
done
echo "$name" >/proc/sys/kernel/hostname
modprobe -aq virtio_pci virtio_blk virtio_net virtio_rng unix_diag tcp_diag udp_diag inet_diag \
    af_packet_diag netlink_diag tun
for ((tries = 0; tries < 100; tries++)); do
    [ -e /sys/class/net/eth0 ] && break
    sleep 0.1
done
ip link set lo up
ip addr add "$address/24" dev eth0
ip link set eth0 up

for ((tries = 0; tries < 100; tries++)); do
    mount -t ext4 -o ro,noatime /dev/vda /lab 2>/dev/null && break
    sleep 0.1
done
install -d -m 700 /root/.ssh
cp /lab/authorized_keys /root/.ssh/authorized_keys
dropbearkey -t ed25519 -f /run/host_key >/dev/null 2>&1
dropbear -E -F -s -r /run/host_key -p 22 &
echo "lab-guest-ready $(cut -d ' ' -f 1 /proc/uptime)"
while :; do
    wait
    sleep 1
done
