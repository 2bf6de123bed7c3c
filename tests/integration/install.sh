#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What `cmake --install` puts in place: programs that start, man pages, units that name what was
# installed, and sample configurations that are what the programs print.
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$0")/../lib/functions.sh"
requires cmake
to=$TEST_DIR/root

DESTDIR=$to cmake --install "$CPUBROKER_BUILD_DIR" >"$TEST_DIR/install.log" 2>&1 || fail "cmake --install failed"
prefix=$to$(sed -n 's/^CMAKE_INSTALL_PREFIX:PATH=//p' "$CPUBROKER_BUILD_DIR/CMakeCache.txt")

step "programs start from where they were installed"
for program in bin/cpubroker sbin/cpuagent libexec/cpubroker/cpuagent-shim; do
    out=$("$prefix/$program" --version) || fail "$program does not start"
    [ "${out% *}" = "${program##*/}" ] || fail "$program --version says '$out'"
done

step "man pages and samples are there"
for file in share/man/man1/cpubroker.1 share/man/man8/cpuagent.8 share/man/man5/cpubroker.conf.5 \
    share/doc/cpubroker/examples/cpubroker.conf share/doc/cpubroker/examples/cpuagent.conf; do
    [ -s "$prefix/$file" ] || fail "$file was not installed"
done
diff <("$prefix/sbin/cpuagent" serve --print-config) <(tail -n +4 "$SOURCE_DIR/deploy/cpuagent.conf") ||
    fail "deploy/cpuagent.conf is not what --print-config prints"

step "the units run the installed programs"
for unit in cpubroker cpuagent; do
    file=$prefix/lib/systemd/system/$unit.service
    [ -s "$file" ] || fail "$unit.service was not installed"
    program=$(sed -n 's/^ExecStart=\([^ ]*\) .*/\1/p' "$file")
    [ -x "$to$program" ] || fail "$unit.service starts $program, which is not there"
done

step "the agent's unit leaves workloads alone when the agent stops"
grep -q '^KillMode=process$' "$prefix/lib/systemd/system/cpuagent.service" || fail "KillMode is not 'process'"
