#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The CPUID instructions of real files: every ELF file of this machine (as far as the time reaches)
# compared with objdump, and programs built for it: static, static-pie, stripped, Go, 32-bit, cut off.
# CPUBROKER_SITES_SECONDS: how long files are taken from the machine.
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$0")/../lib/functions.sh"
requires objdump strip gcc jq python3

CPUAGENT=$CPUBROKER_BUILD_DIR/agent/cpuagent
COMPARE=$SOURCE_DIR/tests/lib/compare_sites.py
: "${CPUBROKER_SITES_SECONDS:=75}"
export TMPDIR=$TEST_DIR

sites() { "$CPUAGENT" sites -o json "$@"; }
# by FILE PROOF: how many sites have it
by() { sites "$1" | jq --arg proof "$2" '[.sites[] | select(.proof == $proof)] | length'; }
addresses() { sites "$@" | jq -r '.sites[].address'; }

mkdir "$TEST_DIR/built"
cd "$TEST_DIR/built" || exit
cat >asks.c <<'C'
#include <cpuid.h>
#include <stdio.h>
int main(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(7, &a, &b, &c, &d))
        return 1;
    printf("%x %d\n", b, __builtin_cpu_supports("avx2"));
    return 0;
}
C

step "programs, static and not, with symbols and without: the same sites"
gcc -O2 -o dynamic asks.c
gcc -O2 -static -o static asks.c
gcc -O2 -static-pie -o static-pie asks.c
for program in dynamic static static-pie; do
    cp $program $program-stripped
    strip $program-stripped
    [ "$(addresses $program | wc -l)" -ge 2 ] || fail "$program: $(addresses $program)"
    same "sites of $program, stripped" "$(addresses $program)" "$(addresses $program-stripped)"
    same "doubts in $program" 0 "$(sites $program | jq .doubtful)"
done
[ "$(addresses static | wc -l)" -ge 20 ] || fail "static glibc asks more often: $(addresses static | wc -l)"

step "by unwind information with and without an index, and by symbols alone"
same "sites of the static program by unwind information" "$(addresses static | wc -l)" "$(by static-stripped fde)"
objcopy --rename-section .eh_frame=.not_frame --remove-section .eh_frame_hdr static no-frames
same "sites by unwind information without it" 0 "$(by no-frames fde)"
same "sites by symbols" "$(addresses static | wc -l)" "$(by no-frames symbol)"

step "Go, which has a table of its own in place of unwind information, stripped as well"
if command -v go >/dev/null; then
    cat >hello.go <<'GO'
package main

import "fmt"

func main() { fmt.Println("hello") }
GO
    export GOCACHE=$TEST_DIR/go-cache GOPATH=$TEST_DIR/go GO111MODULE=off GOTOOLCHAIN=local HOME=$TEST_DIR
    go build -o go-program hello.go
    go build -ldflags='-s -w' -o go-stripped hello.go
    go build -buildmode=pie -ldflags=-s -o go-pie hello.go
    go build -ldflags='-s -linkmode=external' -o go-external hello.go
    go build -buildmode=c-shared -o go-shared.so hello.go # the table is merged into another section
    for program in go-program go-stripped go-pie go-external go-shared.so; do
        expected=$(objdump -d --no-show-raw-insn $program | grep -c '	cpuid')
        [ "$expected" -ge 2 ] || fail "objdump shows $expected in $program"
        same "sites of $program" "$expected" "$(addresses $program | wc -l)"
        same "sites of $program by Go's table" "$expected" "$(by $program go)"
    done
    same "doubts in the program with symbols" 0 "$(sites go-program | jq .doubtful)"
else
    # the rest is not skipped for it
    echo "SKIPPED in part: no Go here to build with"
    [ -z "${CPUBROKER_SKIP_LOG:-}" ] || echo "$TEST_NAME: Go programs: needs the program go" >>"$CPUBROKER_SKIP_LOG"
fi

step "what is refused, and with which words"
refused() { # STATUS WORDS FILE
    local status=0
    "$CPUAGENT" sites "$3" >out 2>err || status=$?
    same "exit status of $3" "$1" $status
    grep -q "$2" err || fail "$3: $(cat err)"
}
echo 'int f(void) { return 1; }' >object.c
gcc -c -o object.o object.c
refused 2 "an object file" object.o
printf '\003\000' | cat <(head -c 18 dynamic) - <(tail -c +21 dynamic) >i386
refused 1 "32-bit code (i386)" i386
head -c $(($(stat -c %s static) / 2)) static >half
refused 2 truncated half
echo "#!/bin/sh" >script
refused 2 "no ELF file" script
mkfifo fifo
refused 2 "no regular file" fifo
refused 2 "no regular file" /
refused 4 "No such file" nowhere

step "the cache: found once, remembered, and not for another file"
cached() { sites --cache "$TEST_DIR/cache" "$1" | jq .cached; }
touch -d '1 hour ago' static dynamic
same "the first time" false "$(cached static)"
same "the second time" true "$(cached static)"
same "entries" 1 "$(find "$TEST_DIR/cache" -type f | wc -l)"
same "what the entry holds" "$(addresses static)" "$(addresses --cache "$TEST_DIR/cache" static)"
cp static copy
same "a copy has the same code" true "$(cached copy)"
offset=$(($(sites static | jq -r '.sites[0].offset')))
printf '\220\220' | dd of=copy bs=1 seek=$offset conv=notrunc status=none
same "a copy that was changed" false "$(cached copy)"
same "sites of it" $(($(addresses static | wc -l) - 1)) "$(addresses --cache "$TEST_DIR/cache" copy | wc -l)"
same "the first file again" "$(addresses static)" "$(addresses --cache "$TEST_DIR/cache" static)"
for entry in "$TEST_DIR"/cache/*.sites; do
    printf 'x' | dd of="$entry" bs=1 seek=200 conv=notrunc status=none
done
same "a damaged entry" false "$(cached static)"
same "made anew" true "$(cached static)"

step "every ELF file of this machine, against objdump"
python3 "$COMPARE" "$CPUAGENT" "$CPUBROKER_SITES_SECONDS" "$TEST_DIR/built" /usr/bin /usr/sbin /usr/lib /usr/libexec \
    /usr/local /opt >compared.txt 2>wrong.txt || fail "$(cat wrong.txt compared.txt | head -n 40)"
grep -v '^  ' compared.txt

step "and objdump is believed: a false site would show"
cat >liar <<'SH'
#!/bin/sh
printf '{"sites":[{"address":"0x%x","offset":"0x%x","length":2,"proof":"fde","function_start":"0x%x","function_end":"0x%x"}],"candidates":[]}' 4096 4096 4096 4196
SH
chmod +x liar
mkdir lied
cp dynamic lied
! python3 "$COMPARE" "$PWD/liar" 10 "$PWD/lied" >out 2>err || fail "a false site went unnoticed"
grep -q "FALSE SITE at 0x1000" err || fail "$(cat err)"
