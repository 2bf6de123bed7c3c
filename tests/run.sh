#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds and tests everything; ends with ctest's summary, and with 0 only if all passed.
#
#   tests/run.sh            all of it
#   tests/run.sh --fast     leaves out what is slow: the thread sanitizer, clang-tidy, clang's build, the
#                           quickstart, and most of the 20 moves
#   tests/run.sh --lab [core|full]      only the lab: moves between virtual machines with unlike CPUs
#                           (docs/lab.md); core, the default, takes minutes, full a quarter of an hour
#   tests/run.sh [--fast] -- ARG...     ARGs go to ctest (for example -R restart)
#
# It installs the Debian packages that it needs, and a CRIU that works on this kernel.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

fast=false
lab=''
ctest_options=()
while [ $# -gt 0 ]; do
    case $1 in
    --fast) fast=true; shift ;;
    --lab)
        lab=core
        shift
        case ${1:-} in core | full) lab=$1; shift ;; esac
        ;;
    --help | -h) sed -n '3,12s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --) shift; ctest_options=("$@"); break ;;
    *) echo "run.sh: unknown argument '$1' (expected --fast, --lab, or -- and ctest's own)" >&2; exit 2 ;;
    esac
done

say() { echo "run.sh: $*"; }
fail() {
    echo "run.sh: $*" >&2
    exit 1
}

say "packages"
deploy/dependencies.sh run build demo test
if [ "$(id -u)" = 0 ]; then
    if criu=$(deploy/get-criu.sh); then
        say "CRIU that works here: $criu"
    else
        say "no CRIU works here, so the tests that move processes will be skipped"
    fi
else
    say "not root: the tests that need it will be skipped"
fi

# build NAME OPTION...: into build/test-NAME, warnings are errors
build() {
    local dir=build/test-$1
    say "building $dir"
    shift
    mkdir -p "$dir"
    { cmake -S . -B "$dir" -G Ninja -DCPUBROKER_WERROR=ON "$@" && ninja -C "$dir" all; } \
        >"$dir/build.log" 2>&1 || {
        grep -E -A 8 'error|FAILED|Error' "$dir/build.log" | head -n 60 >&2
        fail "the build failed, see above or $dir/build.log"
    }
}

if [ -n "$lab" ]; then
    deploy/dependencies.sh lab
    build lab -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCPUBROKER_LAB=ON
    exec ctest --test-dir build/test-lab --verbose --no-tests=error -R "^lab\\.$lab\$" "${ctest_options[@]}"
fi

tsan_build=''
if ! $fast; then
    build clang -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=Debug
    build tsan -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCPUBROKER_SANITIZE=thread
    tsan_build=$PWD/build/test-tsan
fi
build asan -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCPUBROKER_SANITIZE=address,undefined \
    -DCPUBROKER_TSAN_BUILD="$tsan_build"

# A report of a sanitizer ends the program, so that no test passes over it.
export ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1
export CPUBROKER_SKIP_LOG=$PWD/build/test-asan/skipped.txt
rm -f "$CPUBROKER_SKIP_LOG"
if $fast; then
    ctest_options=(-LE slow "${ctest_options[@]}")
fi

say "testing"
# ctest's summary comes last; the reasons of skipped tests stand before it.
status=0
ctest --test-dir build/test-asan --parallel 2 --output-on-failure --no-tests=error \
    "${ctest_options[@]}" 2>&1 | {
    summary=''
    while IFS= read -r line; do
        [[ $line =~ ^[0-9]+%\ tests\ passed ]] && summary=$line$'\n' && continue
        if [ -n "$summary" ]; then
            summary+=$line$'\n'
        else
            printf '%s\n' "$line"
        fi
    done
    if [ -s "$CPUBROKER_SKIP_LOG" ]; then
        echo
        echo "Skipped, and why ($(wc -l <"$CPUBROKER_SKIP_LOG")):"
        sed 's/^/  /' "$CPUBROKER_SKIP_LOG"
        echo
    fi
    printf '%s' "$summary"
} || status=$?
exit $status
