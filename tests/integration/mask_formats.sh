#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The formats of a mask, read by the tools that they are for: what the pool lacks is gone there, what
# it has is left. Pools: this machine with a lesser one, an invented machine with AVX and without
# AVX2, and one without AVX.
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$0")/../lib/functions.sh"

programs=$CPUBROKER_BUILD_DIR/tests
samples=$SOURCE_DIR/schema/examples
mask_format() { "$programs/mask_format" "$@"; }
lines() { tr ' ' '\n' | sort; }

# A tool that is missing leaves the rest to be tested; the test then ends as skipped, with its name.
missing=()
has() { # PROGRAM PACKAGE
    command -v "$1" >/dev/null || { missing+=("$1 (package $2)"); return 1; }
}

has cpuid cpuid || skip "needs the program cpuid (package cpuid)"
cpuid -r >"$TEST_DIR/this.txt"
has qemu-x86_64 qemu-user || skip "needs the program qemu-x86_64 (package qemu-user)"
qemu-x86_64 -cpu Nehalem "$programs/cpuid_guest" >"$TEST_DIR/nehalem.txt"

declare -A pool=(
    [this-and-haswell]="$TEST_DIR/this.txt $samples/report-haswell.json"
    [avx]=$samples/report-lesser-intel.json
    [nehalem]=$TEST_DIR/nehalem.txt
)
# members POOL: its files, one a line
members() { tr ' ' '\n' <<<"${pool[$1]}"; }
# format FORMAT POOL
format() {
    local files
    mapfile -t files < <(members "$2")
    mask_format "$1" "${files[@]}"
}
# pool_has POOL FLAG
pool_has() { grep -qx "$2" "$TEST_DIR/$1.flags"; }
for name in "${!pool[@]}"; do
    format flags "$name" | lines >"$TEST_DIR/$name.flags"
done

step "cpuid -r of this machine is read, all CPUs or one, and claims nothing that the kernel does not show"
sed -n 's/^flags[[:space:]]*: //p;T;q' /proc/cpuinfo | lines >"$TEST_DIR/kernel"
mask_format flags "$TEST_DIR/this.txt" | lines >"$TEST_DIR/all"
cpuid -1 -r >"$TEST_DIR/one.txt"
mask_format flags "$TEST_DIR/one.txt" | lines >"$TEST_DIR/one"
same "flags of cpuid -1 -r" "$(cat "$TEST_DIR/all")" "$(cat "$TEST_DIR/one")"
same "flags that /proc/cpuinfo lacks" "" "$(comm -23 "$TEST_DIR/all" "$TEST_DIR/kernel")"
cpuid -1 >"$TEST_DIR/words.txt"
if mask_format flags "$TEST_DIR/words.txt" >"$TEST_DIR/out" 2>&1; then
    fail "the text of cpuid without -r was taken"
fi
grep -q 'line 2: .*without -r' "$TEST_DIR/out" || fail "unhelpful words: $(cat "$TEST_DIR/out")"

# ---- env

# in_env POOL CMD...: with the pool's variables
in_env() {
    (
        eval "$(format env "$1")"
        shift
        exec "$@"
    )
}
for name in "${!pool[@]}"; do
    format env "$name" >"$TEST_DIR/$name.env"
    bash -n "$TEST_DIR/$name.env"
done

step "glibc: features that the pool lacks are no longer active, the others still are"
ld_so=/lib64/ld-linux-x86-64.so.2
# name in the flags, index and register in glibc's table, bit
glibc_bits='avx 0 2 28;fma 0 2 12;movbe 0 2 22;popcnt 0 2 23;sse4_2 0 2 20;avx2 1 1 5;bmi1 1 1 3
bmi2 1 1 8;erms 1 1 9;rtm 1 1 11;avx512f 1 1 16;avx512dq 1 1 17;avx512cd 1 1 28;avx512bw 1 1 30
avx512vl 1 1 31;abm 2 2 5;fma4 2 2 16;xsavec 3 0 1'
# active FILE INDEX REGISTER BIT
active() {
    local value
    value=$(sed -n "s/^x86.cpu_features.features\[0x$2\].active\[0x$3\]=//p" "$1")
    [ -n "$value" ] || fail "ld.so --list-diagnostics has no features[0x$2].active[0x$3]"
    echo $((value >> $4 & 1))
}
$ld_so --list-diagnostics >"$TEST_DIR/glibc.before"
for name in "${!pool[@]}"; do
    in_env "$name" $ld_so --list-diagnostics >"$TEST_DIR/glibc.after"
    gone=0
    while read -r flag index register bit; do
        before=$(active "$TEST_DIR/glibc.before" "$index" "$register" "$bit")
        after=$(active "$TEST_DIR/glibc.after" "$index" "$register" "$bit")
        if pool_has "$name" "$flag"; then
            same "glibc's $flag in the pool $name" "$before" "$after"
        else
            same "glibc's $flag in the pool $name" 0 "$after"
            gone=$((gone + before - after))
        fi
    done < <(tr ';' '\n' <<<"$glibc_bits")
    echo "  $name: $gone features of this machine switched off"
done

step "glibc: memmove uses no vectors that the pool lacks"
for name in "${!pool[@]}"; do
    kind=$(in_env "$name" "$programs/memmove_kind")
    echo "  $name: $kind"
    case $kind in
    avx512) pool_has "$name" avx512vl || fail "memmove uses AVX-512" ;;
    avx) pool_has "$name" avx || fail "memmove uses AVX" ;;
    sse) ;;
    *) fail "what is '$kind'?" ;;
    esac
done

step "glibc: a name that it does not know is passed over, and those behind it count"
words=$(GLIBC_TUNABLES=glibc.cpu.hwcaps=-NO_SUCH_THING,-AVX2,-AVX512X,-BMI2 \
    $ld_so --list-diagnostics 2>&1 >"$TEST_DIR/glibc.after")
same "words on stderr" "" "$words"
same "AVX2" 0 "$(active "$TEST_DIR/glibc.after" 1 1 5)"
same "BMI2" 0 "$(active "$TEST_DIR/glibc.after" 1 1 8)"

step "OpenSSL: exactly the bits that the pool lacks are gone, and it still works"
if has openssl openssl; then
    # vectors [VALUE]: one a line, without "env:…"
    vectors() { openssl info -cpusettings | sed 's/^OPENSSL_ia32cap=//; s/ env:.*//' | tr ':' '\n'; }
    mapfile -t before < <(unset OPENSSL_ia32cap; vectors)
    for name in "${!pool[@]}"; do
        mapfile -t off < <(sed -n "s/^export OPENSSL_ia32cap='\(.*\)'/\1/p" "$TEST_DIR/$name.env" |
            tr ':' '\n' | tr -d '~')
        mapfile -t after < <(eval "$(cat "$TEST_DIR/$name.env")"; vectors)
        same "count of vectors" ${#before[@]} ${#after[@]}
        [ ${#off[@]} -ge 2 ] || fail "only ${#off[@]} vectors are set"
        for ((i = 0; i < ${#before[@]}; i++)); do
            same "vector $i of the pool $name" "$(printf %x $((before[i] & ~${off[i]:-0})))" \
                "$(printf %x $((after[i])))"
        done
        same "a digest" "$(sha256sum <"$TEST_DIR/this.txt" | cut -d' ' -f1)" \
            "$(in_env "$name" openssl sha256 -r <"$TEST_DIR/this.txt" | cut -d' ' -f1)"
    done
fi

step "Java: the virtual machine's switches follow, and it starts"
if has java default-jre-headless; then
    # switch_of NAME: its final value
    switch_of() { sed -n "s/^ *[a-z]* $1 *= \([a-z0-9]*\).*/\1/p" "$TEST_DIR/java.out"; }
    while read -r name avx sha bmi2 fma; do
        in_env "$name" java -XX:+PrintFlagsFinal -version >"$TEST_DIR/java.out" 2>"$TEST_DIR/java.log"
        grep -q 'Picked up JAVA_TOOL_OPTIONS' "$TEST_DIR/java.log" || fail "java did not read it"
        if sed 1d "$TEST_DIR/java.log" | grep -iE 'warning|unrecognized|error'; then
            fail "java complains, see above"
        fi
        [ "$(switch_of UseAVX)" -le "$avx" ] || fail "$name: UseAVX=$(switch_of UseAVX)"
        same "$name: UseSHA" "$sha" "$(switch_of UseSHA)"
        same "$name: UseBMI2Instructions" "$bmi2" "$(switch_of UseBMI2Instructions)"
        [ "$fma" = any ] || same "$name: UseFMA" "$fma" "$(switch_of UseFMA)"
    done <<'EOF'
this-and-haswell 2 false false any
avx 1 false false false
nehalem 0 false false false
EOF
fi

step "Go: a program of Debian's takes the names or says that it does not know them"
if has age age; then
    for name in "${!pool[@]}"; do
        in_env "$name" age --version >"$TEST_DIR/age.out" 2>"$TEST_DIR/age.log"
        if grep -v 'unknown cpu feature' "$TEST_DIR/age.log"; then
            fail "$name: Go complains of more than names, see above"
        fi
        # the runtime's own list since Go 1.12
        if grep -E '^GODEBUG: unknown cpu feature "(avx|avx2|bmi1|bmi2|fma|aes|popcnt|adx|sse4[12])"' \
            "$TEST_DIR/age.log"; then
            fail "$name: Go's runtime does not know what it should, see above"
        fi
    done
fi

step "OpenBLAS: it takes the kernel that the pool can run"
if python3 -c 'import ctypes; ctypes.CDLL("libopenblas.so.0")' 2>/dev/null; then
    for name in "${!pool[@]}"; do
        wanted=$(sed -n "s/^export OPENBLAS_CORETYPE='\(.*\)'/\1/p" "$TEST_DIR/$name.env")
        found=$(in_env "$name" python3 -c '
import ctypes
library = ctypes.CDLL("libopenblas.so.0")
library.openblas_get_corename.restype = ctypes.c_char_p
print(library.openblas_get_corename().decode())')
        same "OpenBLAS's kernel in the pool $name" "$wanted" "$found"
    done
else
    missing+=("libopenblas.so.0 (package libopenblas0-pthread)")
fi

# ---- virtual machines

step "QEMU: a guest reads exactly the mask, where QEMU can emulate it"
# The mask says one thing that no guest gets: an invariant time stamp counter forbids migration.
never='^(nonstop_tsc)$'
guest() { # CPU-STRING OUT
    qemu-x86_64 -cpu "$1" "$programs/cpuid_guest" >"$2" 2>"$TEST_DIR/qemu.log"
}
for name in "${!pool[@]}"; do
    guest "$(format qemu "$name")" "$TEST_DIR/guest.txt" ||
        fail "$name: QEMU does not start: $(cat "$TEST_DIR/qemu.log")"
    mask_format flags "$TEST_DIR/guest.txt" | lines >"$TEST_DIR/guest.flags"
    same "flags of a guest in the pool $name" "$(grep -vE "$never" "$TEST_DIR/$name.flags")" \
        "$(cat "$TEST_DIR/guest.flags")"
    echo "  $name: $(wc -l <"$TEST_DIR/guest.flags") flags"
done

step "QEMU: it starts no guest that would see less than the mask, and names what is missing"
# the emulation (TCG) has no AVX-512
cpu=$(mask_format qemu "$samples/report-zen4.json")
if guest "$cpu" "$TEST_DIR/guest.txt"; then
    fail "QEMU started a guest with features that it does not emulate"
fi
grep -q 'avx512f' "$TEST_DIR/qemu.log" || fail "QEMU says: $(cat "$TEST_DIR/qemu.log")"
guest "${cpu%,enforce}" "$TEST_DIR/guest.txt" || fail "QEMU says: $(cat "$TEST_DIR/qemu.log")"
mask_format flags "$TEST_DIR/guest.txt" | lines >"$TEST_DIR/guest.flags"
mask_format flags "$samples/report-zen4.json" | lines >"$TEST_DIR/zen4.flags"
same "flags that the pool lacks" "" "$(comm -13 "$TEST_DIR/zen4.flags" "$TEST_DIR/guest.flags")"

step "libvirt: the XML validates against its schema, and it knows every name"
if has virt-xml-validate libvirt-clients && has xmllint libxml2-utils; then
    for sample in haswell zen4 lesser-intel lesser-amd; do
        file=$samples/report-$sample.json
        {
            echo "<domain type='kvm'><name>d</name><memory>1048576</memory>"
            echo "<os><type arch='x86_64'>hvm</type></os>"
            mask_format libvirt "$file"
            echo "</domain>"
        } >"$TEST_DIR/domain.xml"
        virt-xml-validate "$TEST_DIR/domain.xml" domain >"$TEST_DIR/libvirt.log" 2>&1 ||
            fail "$sample: $(cat "$TEST_DIR/libvirt.log")"
        xmllint --xpath "//feature/@name" "$TEST_DIR/domain.xml" | sed 's/.*"\(.*\)"/\1/' |
            while read -r feature; do
                grep -q "<feature name=['\"]${feature}['\"]" /usr/share/libvirt/cpu_map/x86_features.xml ||
                    fail "$sample: libvirt has no feature '$feature'"
            done
    done
    sed -i 's/policy=.require./policy="perhaps"/' "$TEST_DIR/domain.xml"
    if virt-xml-validate "$TEST_DIR/domain.xml" domain >"$TEST_DIR/libvirt.log" 2>&1; then
        fail "the schema takes anything"
    fi
fi

step "Firecracker and gVisor: JSON of the documented form"
for name in "${!pool[@]}"; do
    format firecracker "$name" | jq -e '
        (keys == ["cpuid_modifiers"]) and (.cpuid_modifiers | length > 0) and
        all(.cpuid_modifiers[]; (keys == ["flags", "leaf", "modifiers", "subleaf"]) and
            (.leaf | test("^0x[0-9a-f]+$")) and (.subleaf | test("^0x[0-9a-f]+$")) and
            all(.modifiers[]; (.register | test("^e[abcd]x$")) and
                (.bitmap | test("^0b[01x]{32}$"))))' >/dev/null || fail "$name: firecracker"
    format gvisor "$name" | jq -e '.annotations["dev.gvisor.internal.cpufeatures"] |
        test("^[a-z0-9_]+(,[a-z0-9_]+)*$")' >/dev/null || fail "$name: gvisor"
done

[ ${#missing[@]} -eq 0 ] ||
    skip "all else held, but these are not installed:$(printf ' %s,' "${missing[@]}")"
