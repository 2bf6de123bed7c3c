#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Each program's man page names every command and option that its --help knows, and no other.
set -euo pipefail
source_dir=$(cd "$(dirname "$0")/../.." && pwd)
build_dir=${CPUBROKER_BUILD_DIR:?names the build whose programs are asked}
failed=0

# words PROGRAM: its commands, one a line ("nodes import" is one)
commands() {
    "$1" --help | sed -n '/^Commands:/,/^$/p' | sed -n 's/^  \([a-z][a-z ]*[a-z]\)  .*/\1/p'
}

compare() {
    local program=$1 page=$source_dir/docs/man/$2 options='' command
    [ -e "$page" ] || { echo "$page is missing"; failed=1; return; }
    # hyphens as they are typed, fonts gone
    local text
    text=$(sed -e 's/\\-/-/g' -e 's/\\f[BIR]//g' "$page")
    while read -r command; do
        # shellcheck disable=SC2086  # a command may be two words
        options+=$("$program" $command --help | grep -oE '(^| )--[a-z-]+' | tr -d ' ')$'\n'
        grep -qE "^\.SS $command( [^a-z]|\$)" <<<"$text" ||
            { echo "$2 does not tell of the command '$command'"; failed=1; }
    done < <(commands "$program")
    options=$(printf '%s--help\n--version\n' "$options" | sort -u | grep .)
    local known
    known=$(grep -oE -- '(^|[^a-z-])--[a-z][a-z-]*' <<<"$text" | grep -oE -- '--[a-z-]+' | sort -u)
    if ! diff <(echo "$options") <(echo "$known") >/dev/null; then
        echo "options of $2 ('<' only in --help, '>' only in the man page):"
        diff <(echo "$options") <(echo "$known") | grep '^[<>]' || true
        failed=1
    fi
    # it is laid out as it should be
    if command -v mandoc >/dev/null; then
        mandoc -T lint -W style "$page" || failed=1
    fi
}

compare "$build_dir/agent/cpuagent" cpuagent.8
compare "$build_dir/broker/cpubroker" cpubroker.1
exit $failed
