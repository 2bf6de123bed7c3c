#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The linters: lint.sh format|tidy|cppcheck|shell|spelling|rules|units|all
# CPUBROKER_BUILD_DIR names a build whose compile_commands.json clang-tidy reads.
# shellcheck disable=SC2317 # functions are called by name
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
: "${CPUBROKER_BUILD_DIR:=build/dev}"

skip() {
    echo "SKIPPED: $*"
    [ -z "${CPUBROKER_SKIP_LOG:-}" ] || echo "lint: $*" >>"$CPUBROKER_SKIP_LOG"
    exit 77
}
# What git knows or could know of, ignored files aside; works in an unpacked archive as well.
files() {
    if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
        git ls-files --cached --others --exclude-standard -- "$@" |
            while IFS= read -r file; do [ ! -f "$file" ] || echo "$file"; done
    else
        local pattern
        for pattern in "$@"; do find . -path ./build -prune -o -type f -name "$pattern" -print; done
    fi | sort -u
}

lint_format() {
    local version
    version=$(clang-format --version | grep -oE '[0-9]+' | head -n 1)
    # releases of clang-format differ in small things; this one decides
    [ "$version" = 14 ] || skip "the layout is checked with clang-format 14, this is $version"
    # clang-format names one line for each edit; the first of each file says enough
    files '*.c' '*.h' | xargs clang-format --dry-run -Werror 2>&1 | grep -E ': error:' |
        sort -t: -u -k1,1 | rule "clang-format -i puts the layout right"
    return "$failed"
}

lint_tidy() {
    local version
    version=$(clang-tidy --version | grep -oE 'version [0-9]+' | grep -oE '[0-9]+')
    # each release has checks of its own; this one decides
    [ "$version" = 14 ] || skip "clang-tidy 14 decides, this is $version"
    [ -e "$CPUBROKER_BUILD_DIR/compile_commands.json" ] ||
        { echo "no compile_commands.json in $CPUBROKER_BUILD_DIR"; return 1; }
    files 'agent/*.c' 'broker/*.c' 'common/*.c' 'schema/*.c' 'deploy/*.c' 'tests/lib/*.c' 'tests/lab/*.c' 'tests/bench/*.c' |
        xargs -P "$(nproc)" -n 4 clang-tidy --quiet -p "$CPUBROKER_BUILD_DIR" 2>/tmp/cpubroker-tidy.$$ || {
        grep -vE 'warnings? generated' /tmp/cpubroker-tidy.$$
        rm -f /tmp/cpubroker-tidy.$$
        return 1
    }
    rm -f /tmp/cpubroker-tidy.$$
}

lint_cppcheck() {
    # Flow is left to clang. Suppressed: missingInclude*, system headers are not needed; unknownMacro,
    # X macros; syntaxError and internalAstError, cppcheck 2.10 does not know __VA_OPT__ or compound
    # literals in ?:, and compilers find those; arrayIndexThenCheck, reading up to a NUL before
    # looking at a bound is sound; normalCheckLevelMaxBranches, a remark about cppcheck itself
    local check suppressed=()
    for check in missingInclude missingIncludeSystem unknownMacro syntaxError internalAstError \
        arrayIndexThenCheck normalCheckLevelMaxBranches; do
        suppressed+=("--suppress=$check")
    done
    cppcheck --quiet -j "$(nproc)" --std=c11 --enable=warning,portability --inline-suppr \
        "${suppressed[@]}" --error-exitcode=1 -D_GNU_SOURCE -I common -I agent -I broker \
        agent broker common schema deploy/demo tests/lib tests/lab
}

lint_shell() {
    { files '*.sh'; echo .ci/run; } | xargs shellcheck -x || return
    files '*.py' | xargs -r -n 1 /usr/bin/python3 -c '
import ast, sys
ast.parse(open(sys.argv[1]).read(), sys.argv[1])'
}

lint_spelling() {
    files '*.c' '*.h' '*.sh' '*.md' '*.py' '*.sql' '*.conf' '*.yaml' '*.txt' 'docs/man/*' |
        xargs codespell --ignore-words-list=fro,fo,nulll,notin,caf,tru
}

lint_units() {
    command -v systemd-analyze >/dev/null || { lint_units_by_hand; return; }
    # man pages and programs are not installed where this runs
    local unit out
    for unit in cpubroker cpuagent; do
        unit=$CPUBROKER_BUILD_DIR/deploy/$unit.service
        out=$(systemd-analyze verify --man=no "$unit" 2>&1 | grep -v 'is not executable' || true)
        [ -z "$out" ] || { echo "$out"; return 1; }
    done
}
# Without systemd: every line is a comment, a section or Key=Value, and the programs exist.
lint_units_by_hand() {
    local unit bad
    for unit in deploy/systemd/*.service.in; do
        bad=$(grep -vnE '^(#.*|\[(Unit|Service|Install)\]|[A-Z][A-Za-z]+=.*|)$' "$unit" || true)
        [ -z "$bad" ] || { echo "$unit: $bad"; return 1; }
    done
}

# rule WORDS: complains about the lines on stdin, if any (lastpipe: in this very shell).
shopt -s lastpipe
set +e +o pipefail # finding nothing is grep's failure and our success
failed=0
rule() {
    local lines
    lines=$(cat)
    [ -z "$lines" ] || { echo "rule: $*"; printf '    %s\n' "${lines//$'\n'/$'\n'    }"; failed=1; }
}
# Rules that reviews would repeat otherwise. Each prints what breaks it.
# code REGEX FILE...: matching lines outside comments
code() {
    local regex=$1
    shift
    [ $# -eq 0 ] || grep -nHE "$regex" -- "$@" | grep -vE '^[^:]+:[0-9]+:[[:space:]]*(/?\*|//)|/\*.*\bopen\(\)' || true
}
# except REGEX: drops paths that match
except() { grep -vE "^($1):?" || true; }

lint_rules() {
    local sources headers ours
    mapfile -t sources < <(files '*.c' '*.h')
    mapfile -t headers < <(files '*.h')
    mapfile -t ours < <(files 'agent/*.[ch]' 'broker/*.[ch]' 'common/*.[ch]')

    files '*.c' '*.h' '*.sh' '*.py' '*.sql' '*CMakeLists.txt' '*.service.in' | while IFS= read -r file; do
        head -n 3 "$file" | grep -q 'SPDX-License-Identifier: Apache-2.0' || echo "$file"
    done | rule "a file begins with its SPDX line"
    grep -L '^#pragma once' -- "${headers[@]}" | rule "a header has #pragma once"
    wc -l "${ours[@]}" | awk '$2 != "total" && $1 > 900 { print $2 ": " $1 " lines" }' |
        rule "a file over 900 lines holds a second noun"

    # one door for each library
    code '#include [<"]sqlite3\.h' "${sources[@]}" | except 'broker/store[a-z_]*\.[ch]|tests/unit/[a-z_]*\.c' | rule "sqlite3.h belongs to broker/store*.c"
    code '#include [<"]microhttpd\.h' "${sources[@]}" | except 'common/http[a-z_]*\.[ch]|tests/bench/bare_mhd\.c' | rule "microhttpd.h belongs to common/http*.c"
    code '#include [<"]curl/' "${sources[@]}" | except 'common/client[a-z_]*\.[ch]' | rule "curl belongs to common/client*.c"
    code '#include [<"]gnutls/' "${sources[@]}" | except 'common/(digest|http_tls)\.[ch]' | rule "GnuTLS belongs to common/digest.c and http_tls.c"
    code '#include [<"]xxhash' "${sources[@]}" | except 'common/checksum\.[ch]' | rule "xxhash belongs to common/checksum.c"
    code '#include [<"]libcpuid' "${sources[@]}" | cut -d: -f1 | sort -u | sed 1d | rule "libcpuid has one door"
    code '#include [<"]Zydis/' "${sources[@]}" | except 'agent/disassembly\.c' | rule "Zydis belongs to agent/disassembly.c"
    code '#include [<"]archive(_entry)?\.h' "${sources[@]}" | cut -d: -f1 | sort -u | except 'tests/unit/[a-z_]*\.c' | grep -v '^agent/archive' | sed 1d | rule "libarchive has one door"
    (cd broker && ls ./*.h) | sed 's|./||' | while IFS= read -r header; do
        [ -e "agent/$header" ] || code "#include \"$header\"" agent/*.[ch] common/*.[ch]
    done | rule "agent/ and common/ know nothing of broker/"
    (cd agent && ls ./*.h) | sed 's|./||' | while IFS= read -r header; do
        [ -e "broker/$header" ] || code "#include \"$header\"" broker/*.[ch] common/*.[ch]
    done | rule "broker/ and common/ know nothing of agent/"

    # calls that are unsafe or forget close-on-exec
    code '[^a-z_](strcpy|strcat|sprintf|vsprintf|gets|strtok|atoi|atol|system|popen|mktemp|tmpnam|alloca) ?\(' "${ours[@]}" | rule "a call with a safer sister"
    code '[^a-z_](pipe|dup|dup2|accept|epoll_create|inotify_init|creat) ?\(' "${ours[@]}" | except 'agent/shim(_main|_mask)?\.c' | grep -v 'dup2([^,]*, *[012])\|dup2([^,]*, *STD' | rule "descriptors are close-on-exec from birth (pipe2, accept4, ...); the shim hands some on by dup2"
    code 'fopen\(.*, "[rwa]\+?b?"\)' "${ours[@]}" | rule "fopen takes an 'e' (close-on-exec)"
    code '[^a-z_>.](open|openat)\([^)]' "${ours[@]}" | while IFS=: read -r file line _; do
        sed -n "$line,$((line + 2))p" "$file" | grep -qE 'O_CLOEXEC|flags' || sed -n "$line s|^|$file:$line: |p" "$file"
    done | rule "open takes O_CLOEXEC"
    code '[^a-z_]socket(pair)?\(' "${ours[@]}" | while IFS=: read -r file line _; do
        sed -n "$line,$((line + 1))p" "$file" | grep -q SOCK_CLOEXEC || sed -n "$line s|^|$file:$line: |p" "$file"
    done | rule "a socket takes SOCK_CLOEXEC"

    files '*.c' '*.h' '*.sh' '*.py' '*.md' '*.sql' '*.yaml' | grep -v '^tests/lint\.sh$' |
        xargs grep -nE '\b(TODO|FIXME|XXX)\b' | rule "no mark of unfinished work"
    return "$failed"
}

names=(format tidy cppcheck shell spelling rules units)
if [ "${1:-all}" != all ]; then
    [[ " ${names[*]} " = *" $1 "* ]] || { echo "lint.sh: unknown linter '$1' (expected ${names[*]} or all)" >&2; exit 2; }
    names=("$1")
fi
status=0
for name in "${names[@]}"; do
    "lint_$name" || status=1
done
exit $status
