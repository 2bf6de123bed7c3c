#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Programs under the CPUID mask from their first instruction on, with all that comes from them: what
# they see of the CPU, and that nothing else about them has changed.
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$0")/../lib/functions.sh"
requires root cpuid python3 gcc taskset setpriv

BIN=$CPUBROKER_BUILD_DIR/tests
SUBJECT=$TEST_DIR/mask_subject # its own, so that no other test's is taken for it
cp "$BIN/mask_subject" "$SUBJECT"
LIBRARY=$BIN/libmask_asks.so
LIMIT=60
export LC_ALL=C

# masked COMMAND...: in a pool with a machine that has no AVX2, nor anything that needs it
masked() { timeout -s KILL $LIMIT "$BIN/mask_run" --hide avx2 --cache "$TEST_DIR/cache" "${MORE[@]}" -- "$@"; }
MORE=()
# status COMMAND...: how it ends
status() {
    local status=0
    "$@" >"$TEST_DIR/status.log" 2>&1 || status=$?
    echo $status
}
ebx() { sed -n 's/^leaf7 \([0-9a-f]*\).*/\1/p'; }
# nothing_runs: no process of this test's subjects is left
nothing_runs() { ! pgrep -f "^$SUBJECT" >/dev/null; }

here=$("$SUBJECT" ask | ebx)
grep -q ' avx2 1 ' < <("$SUBJECT" ask) || skip "this machine has no AVX2 that could be hidden"
expected=$(masked "$SUBJECT" ask | ebx)
[ "$expected" != "$here" ] || fail "the mask hides nothing: $here"
# sees COMMAND...: the command prints leaf 7 as the mask has it
sees() { same "leaf 7 seen by '${*##*/}'" "$expected" "$(masked "$@" | ebx)"; }

step "cpuid shows what the table makes of each leaf, and nothing else"
MORE=(--entries)
masked true >"$TEST_DIR/entries"
MORE=()
taskset -c 0 cpuid -1 -r >"$TEST_DIR/native"
masked taskset -c 0 cpuid -1 -r >"$TEST_DIR/masked"
python3 - "$TEST_DIR" <<'PYTHON' || fail "cpuid shows something else"
import re, sys
folder = sys.argv[1]
entries = [[int(n, 16) for n in line.split()] for line in open(folder + "/entries")]
def read(name):
    leaves = {}
    for line in open(folder + "/" + name):
        m = re.match(r"\s*0x(\w+) 0x(\w+): eax=0x(\w+) ebx=0x(\w+) ecx=0x(\w+) edx=0x(\w+)", line)
        if m:
            n = [int(g, 16) for g in m.groups()]
            leaves[n[0], n[1]] = n[2:]
    return leaves
def expected(leaf, subleaf, values):
    for e in entries:
        if e[0] == leaf and e[1] <= subleaf <= e[2]:
            return [v & a | o for v, a, o in zip(values, e[3:7], e[7:11])]
    return values
native, masked = read("native"), read("masked")
changed = wrong = 0
components = expected(0xd, 0, native.get((0xd, 0), [0] * 4))[0]
for key, values in native.items():
    want = expected(*key, values)
    if key[0] == 0xd and key[1] > 1 and key not in masked and not components >> key[1] & 1:
        continue  # cpuid leaves out components that leaf 0xD.0 does not name
    changed += want != values
    if masked.get(key) != want:
        print("leaf %x.%x: %s, expected %s" % (*key, masked.get(key), want))
        wrong += 1
wrong += len(set(masked) - set(native))
print("  %d leaves, %d of them changed by the mask" % (len(masked), changed))
sys.exit(wrong > 0 or changed < 2)
PYTHON

step "glibc and gcc's own detection"
masked "$SUBJECT" ask | grep -q ' avx2 0 ' || fail "__builtin_cpu_supports(\"avx2\") is true"
loader=$(ldd "$SUBJECT" | grep -o '/[^ ]*ld-linux[^ ]*')
# the word that has AVX2 in bit 5, as usable
active() { sed -n 's/^x86.cpu_features.features\[0x1\].active\[0x1\]=//p'; }
[ $(($("$loader" --list-diagnostics | active) & 32)) != 0 ] || fail "ld.so does not use AVX2 here"
same "AVX2 in ld.so --list-diagnostics" 0 $(($(masked "$loader" --list-diagnostics | active) & 32))

step "the auxiliary vector: FSGSBASE goes from AT_HWCAP2 with the feature"
hwcap2() { sed -n 's/.* hwcap2 //p'; }
if [ $((0x$("$SUBJECT" ask | hwcap2) & 2)) != 0 ]; then
    same "FSGSBASE in AT_HWCAP2 with the feature" 2 $((0x$(masked "$SUBJECT" ask | hwcap2) & 2))
    MORE=(--hide fsgsbase)
    same "FSGSBASE in AT_HWCAP2 without it" 0 $((0x$(masked "$SUBJECT" ask | hwcap2) & 2))
    same "the same with many arguments" 0 $((0x$(masked "$SUBJECT" ask $(seq 20000) | hwcap2) & 2))
    MORE=()
fi

step "lazy binding saves what is enabled: glibc's buffer, which leaf 0xD sizes, suffices"
# With next to nothing on the stack, what is written past the buffer comes to its end soon.
for ((n = 0; n < 40; n++)); do
    same "a start with an empty environment" 0 "$(status masked env -i "$SUBJECT" ask)"
done

step "static programs, threads, children by fork, vfork and exec, from threads too"
sees "$BIN/mask_subject_static" ask
sees "$SUBJECT" threads
masked "$SUBJECT" threads | grep -qx 'wrong 0' || fail "a thread saw something else"
sees "$SUBJECT" exec "$SUBJECT" ask
sees "$SUBJECT" thread-exec "$SUBJECT" ask
sees "$SUBJECT" spawn "$SUBJECT" ask
sees bash -c "true; (exec $SUBJECT ask) | cat | cat"
sees setsid -w env -i "$SUBJECT" ask
sees python3 -c "import subprocess; subprocess.run(['$SUBJECT', 'ask'])"

step "a stripped Go program, by the table of functions that its runtime has"
if command -v go >/dev/null; then
    mkdir "$TEST_DIR/go-asks"
    cat >"$TEST_DIR/go-asks/asks.go" <<'GO'
package main

import "fmt"

func cpuid(leaf, subleaf uint32) (eax, ebx, ecx, edx uint32)

func main() {
	_, ebx, _, _ := cpuid(7, 0)
	fmt.Printf("leaf7 %08x\n", ebx)
}
GO
    cat >"$TEST_DIR/go-asks/asks_amd64.s" <<'GO'
TEXT ·cpuid(SB), 4, $0-24
	MOVL leaf+0(FP), AX
	MOVL subleaf+4(FP), CX
	CPUID
	MOVL AX, eax+8(FP)
	MOVL BX, ebx+12(FP)
	MOVL CX, ecx+16(FP)
	MOVL DX, edx+20(FP)
	RET
GO
    (cd "$TEST_DIR/go-asks" && GOCACHE=$TEST_DIR/go-cache GOPATH=$TEST_DIR/go GO111MODULE=off GOTOOLCHAIN=local \
        HOME=$TEST_DIR go build -ldflags='-s -w' -o asks .)
    same "leaf 7 without the mask" "$here" "$("$TEST_DIR/go-asks/asks" | ebx)"
    sees "$TEST_DIR/go-asks/asks"
    # and a large one, of many threads and children, goes on as ever
    (cd "$TEST_DIR/go-asks" && GOCACHE=$TEST_DIR/go-cache GOPATH=$TEST_DIR/go GO111MODULE=off GOTOOLCHAIN=local \
        HOME=$TEST_DIR masked go build -o again .)
    same "leaf 7 in what a masked compiler made" "$here" "$("$TEST_DIR/go-asks/again" | ebx)"
else
    # the rest is not skipped for it
    echo "SKIPPED in part: no Go here to build with"
    [ -z "${CPUBROKER_SKIP_LOG:-}" ] || echo "$TEST_NAME: Go programs: needs the program go" >>"$CPUBROKER_SKIP_LOG"
fi

step "libraries that are loaded later, while other threads fork too"
sees "$SUBJECT" load "$LIBRARY"
crypto=$(PATH=$PATH:/usr/sbin:/sbin ldconfig -p | sed -n 's/.*libcrypto.so.3 .*=> //p' | head -n 1)
same "loading and forking" "all the same" "$(masked "$SUBJECT" load-and-fork "$LIBRARY" "${crypto:-$LIBRARY}")"

step "code that is made at run time: told as not covered, or trapped where that is asked for"
same "made code without traps" "$here" "$(masked "$SUBJECT" jit | ebx)"
MORE=(--traps)
sees "$SUBJECT" jit
sees "$SUBJECT" ask
MORE=()

step "a setuid program is one still, and user and group are as they were"
cp "$(command -v id)" "$TEST_DIR/id-of-root"
chmod 4755 "$TEST_DIR/id-of-root"
chmod 755 "$TEST_DIR"
same "effective user of a setuid program" 0 "$(masked setpriv --reuid=nobody --clear-groups "$TEST_DIR/id-of-root" -u)"
same "user of a plain one" "$(id -u nobody)" "$(masked setpriv --reuid=nobody --clear-groups id -u)"
same "no_new_privs" "NoNewPrivs: 0" "$(masked grep NoNewPrivs /proc/self/status | tr -s '\t' ' ')"

step "how programs end"
same "the end of true" 0 "$(status masked true)"
same "an exit code" 42 "$(status masked "$SUBJECT" fail)"
same "an end by SIGTERM" 143 "$(status masked "$SUBJECT" fail 15)"
same "an end by SIGSEGV" 139 "$(status masked "$SUBJECT" fail 11)"
# shellcheck disable=SC2016 # the masked shell expands it
same "an end by SIGKILL" 137 "$(status masked bash -c 'kill -KILL $$')"
same "a fault of its own" "its own" "$(masked "$SUBJECT" fault)"
# shellcheck disable=SC2016 # the masked shell expands it
same "exit codes in a shell" "3 0 143" "$(masked bash -c '(exit 3); a=$?; true; b=$?; (kill $BASHPID); echo $a $b $?' 2>/dev/null)"
same "a program that there is not" 125 "$(status masked /nonexistent/program)"
grep -q "No such file" "$TEST_DIR/status.log" || fail "$(cat "$TEST_DIR/status.log")"

step "signals, stopping and going on"
same "SIGSTOP, SIGCONT and SIGCHLD as the parent sees them" "stopped, continued, ended" "$(masked "$SUBJECT" stop)"
masked "$SUBJECT" wait >"$TEST_DIR/wait.out" &
runner=$!
cleanup sh -c "kill -KILL $runner 2>/dev/null || true"
eventually 10 grep -q ready "$TEST_DIR/wait.out"
pid=$(pgrep -f "^$SUBJECT wait")
kill -USR1 "$pid"
eventually 10 grep -q 'signal 10' "$TEST_DIR/wait.out"
state() { sed -n 's/^State:\t\(.\).*/\1/p' "/proc/$pid/status"; }
is_in_state() { [ "$(state)" = "$1" ]; }
kill -STOP "$pid"
eventually 10 is_in_state t # stopped, and traced as well
kill -USR1 "$pid"
sleep 0.2
same "signals seen while stopped" 1 "$(grep -c signal "$TEST_DIR/wait.out")"
kill -CONT "$pid"
twice() { [ "$(grep -c signal "$TEST_DIR/wait.out")" = 2 ]; }
eventually 10 twice
kill -TERM "$pid"
result=0
wait $runner || result=$?
same "the end by SIGTERM" 143 $result

step "what cannot be masked does not run, and nothing is left of what started it"
same "a process that may not map an island" 125 "$(status masked "$SUBJECT" deny "$SUBJECT" ask)"
grep -q "cannot be masked.*may not map an island.*Operation not permitted" "$TEST_DIR/status.log" ||
    fail "$(cat "$TEST_DIR/status.log")"
grep -q leaf7 "$TEST_DIR/status.log" && fail "it ran: $(cat "$TEST_DIR/status.log")"
eventually 5 nothing_runs
if gcc -m32 -nostdlib -static -o "$TEST_DIR/i386" -x c - <<<'void _start(void) { for (;;) ; }' 2>"$TEST_DIR/m32.txt"; then
    same "a 32-bit program" 125 "$(status masked "$TEST_DIR/i386")"
    grep -q "32-bit" "$TEST_DIR/status.log" || fail "$(cat "$TEST_DIR/status.log")"
fi

step "the end of the tracer is the end of all"
masked bash -c "$SUBJECT wait & $SUBJECT wait & wait" >"$TEST_DIR/two.out" &
both_are_ready() { [ "$(grep -c ready "$TEST_DIR/two.out" 2>/dev/null)" = 2 ]; }
eventually 10 both_are_ready
kill -KILL "$(pgrep -f "mask_run --hide avx2 --cache $TEST_DIR/cache -- bash" | tail -n 1)"
eventually 5 nothing_runs
wait 2>/dev/null || true
