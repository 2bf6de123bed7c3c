#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages (12 and 13) that cpubroker needs; asks nothing.
#
#   deploy/dependencies.sh SET...          install what is missing of these sets
#   deploy/dependencies.sh --list SET...   print the names only
#
# The sets:  run    what the programs and CRIU need on a node
#            build  what compiles them
#            demo   what quickstart.sh uses besides
#            test   what tests/run.sh uses besides
#            bench  what tests/bench/run_bench.sh uses besides
#            all    all of these
# apt-get update runs only when something is missing.
set -euo pipefail

run_packages=(libmicrohttpd12 libjson-c5 libsqlite3-0 libcurl3-gnutls libarchive13 libcpuid16
    libzydis4.0 libgnutls30 libxxhash0 criu ca-certificates iproute2 util-linux procps)
build_packages=(gcc libc6-dev cmake ninja-build pkg-config libmicrohttpd-dev libjson-c-dev
    libsqlite3-dev libcurl4-gnutls-dev libgnutls28-dev libarchive-dev libcpuid-dev
    libzydis-dev libxxhash-dev)
demo_packages=(curl jq iproute2 util-linux procps debian-archive-keyring)
test_packages=(libcmocka-dev binutils clang clang-format clang-tidy cppcheck shellcheck codespell mandoc
    gnutls-bin xxhash curl jq git sqlite3 python3 python3-yaml python3-jsonschema
    debian-archive-keyring
    # the tools that tests/integration/mask_formats.sh hands masks to
    cpuid openssl default-jre-headless age libopenblas0-pthread qemu-user libvirt0 libvirt-clients
    libxml2-utils)
bench_packages=(wrk python3)
lab_packages=(qemu-system-x86 mmdebstrap debian-archive-keyring e2fsprogs openssh-client patchelf binutils curl jq
    iproute2 util-linux procps)
lab_full_packages=(golang-go default-jdk-headless)

usage() { sed -n '3,16s/^# \{0,1\}//p' "$0"; }
fail() { echo "dependencies.sh: $*" >&2; exit 1; }

list_only=false
wanted=()
[ $# -gt 0 ] || { usage >&2; exit 2; }
for argument in "$@"; do
    case $argument in
    --list) list_only=true ;;
    --help | -h) usage; exit 0 ;;
    run) wanted+=("${run_packages[@]}") ;;
    build) wanted+=("${build_packages[@]}") ;;
    demo) wanted+=("${demo_packages[@]}") ;;
    test) wanted+=("${test_packages[@]}") ;;
    bench) wanted+=("${bench_packages[@]}") ;;
    lab) wanted+=("${lab_packages[@]}") ;;
    lab-full) wanted+=("${lab_full_packages[@]}") ;;
    all)
        wanted+=("${run_packages[@]}" "${build_packages[@]}" "${demo_packages[@]}"
            "${test_packages[@]}" "${bench_packages[@]}" "${lab_packages[@]}" "${lab_full_packages[@]}")
        ;;
    *) echo "dependencies.sh: unknown set '$argument' (expected run, build, demo, test, bench, lab, lab-full or all)" >&2
       exit 2 ;;
    esac
done

command -v dpkg-query >/dev/null ||
    fail "this is not Debian (no dpkg-query); install by hand: ${wanted[*]}"

# The lists hold Debian 12's names; these are called otherwise on Debian 13.
release_name() {
    local version
    # shellcheck source=/dev/null
    version=$(. /etc/os-release && echo "${VERSION_ID:-}")
    case $version:$1 in
    13:libcurl3-gnutls) echo libcurl3t64-gnutls ;;
    13:libarchive13) echo libarchive13t64 ;;
    13:libgnutls30) echo libgnutls30t64 ;;
    13:libmicrohttpd12) echo libmicrohttpd12t64 ;;
    13:libcpuid16) echo libcpuid17 ;;
    13:libzydis4.0) echo libzydis4.1 ;;
    *) echo "$1" ;;
    esac
}

mapfile -t wanted < <(for package in "${wanted[@]}"; do release_name "$package"; done | sort -u)
if $list_only; then
    printf '%s\n' "${wanted[@]}"
    exit 0
fi

missing_packages() {
    local installed package
    installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' 2>/dev/null |
        sed -n 's/^installed //p')
    for package in "${wanted[@]}"; do
        grep -qxF "$package" <<<"$installed" || echo "$package"
    done
}

mapfile -t missing < <(missing_packages)
[ ${#missing[@]} -gt 0 ] || exit 0
[ "$(id -u)" = 0 ] || fail "these packages are missing and only root can install them: ${missing[*]}"

echo "dependencies: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp /tmp/cpubroker-apt.XXXXXX)
trap 'rm -f "$log"' EXIT
apt_options=(-qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 -o Dpkg::Use-Pty=0)
# One unreachable foreign list makes `update` fail although Debian's own were read: the
# installation decides.
apt-get "${apt_options[@]}" update >"$log" 2>&1 ||
    echo "dependencies: some package lists could not be read, going on with those that were"
apt-get "${apt_options[@]}" install -y --no-install-recommends "${missing[@]}" >>"$log" 2>&1 || {
    tail -n 15 "$log" >&2
    fail "apt-get could not install ${missing[*]}; its last words are above"
}
mapfile -t missing < <(missing_packages)
[ ${#missing[@]} -eq 0 ] || fail "apt-get said that all went well, but these are not installed: ${missing[*]}"
