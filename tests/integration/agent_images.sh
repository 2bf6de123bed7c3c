#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Forged images reach a real agent with the right ticket from the right address: each is refused for
# its reason, nothing of it is left, and the workload runs on where it is.
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$0")/../lib/functions.sh"
requires root namespaces criu curl jq python3

# forge KIND: an archive into $TEST_DIR/forged.tar
forge() {
    /usr/bin/python3 - "$1" "$TEST_DIR/forged.tar" <<'PYTHON'
import hashlib, io, json, sys, tarfile
kind, path = sys.argv[1:]
out = tarfile.open(path, "w", format=tarfile.PAX_FORMAT)
files = []

def put(name, content=b"x", type=tarfile.REGTYPE, link="", mode=0o600, told=True):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.mode = type, link, mode
    entry.size = len(content) if type == tarfile.REGTYPE else 0
    out.addfile(entry, io.BytesIO(content) if entry.size else None)
    if told and type == tarfile.REGTYPE:
        files.append({"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()})

put("folder", type=tarfile.DIRTYPE, mode=0o755)
if kind == "parent":
    put("folder/../../../../../../../../tmp/cpubroker-escaped")
elif kind == "absolute":
    put("/tmp/cpubroker-escaped")
elif kind == "link":
    put("folder/out", type=tarfile.SYMTYPE, link="/tmp")
    put("folder/out/cpubroker-escaped")
elif kind == "device":
    put("folder/sda", type=tarfile.BLKTYPE)
elif kind == "privileged":
    put("folder/shell", mode=0o4755)
elif kind == "double":
    put("image/core-1.img")
    put("image/core-1.img", b"y")
elif kind == "altered":
    put("image/core-1.img", b"true")
    files[-1]["sha256"] = hashlib.sha256(b"false").hexdigest()
elif kind == "untold":
    put("image/core-1.img", told=False)
if kind != "headless":
    put("manifest.json", json.dumps({
        "schema": "cpubroker.manifest/1", "workload": "w1", "pid": 1, "tasks": 1, "threads": 1,
        "stopped_pids": [], "files": files}).encode(), told=False)
out.close()
PYTHON
}

# refused KIND REASON: a migration whose target gets that image before the source's own.
refused() {
    local kind=$1 reason=$2 id ticket reply
    forge "$kind"
    id=$(migrate w1 node-b)
    eventually 20 migration_is "$id" dumping
    ticket=$(api_as "$SITE_DIR/nodes/node-b/state/token" GET "/v1/nodes/node-b/assignments?after=0&wait_ms=0" |
        jq -er '.assignments[0].ticket')
    reply=$(node_exec node-a curl -s -w '\n%{http_code}' --max-time 20 -T "$TEST_DIR/forged.tar" \
        -H "Authorization: Bearer $ticket" -H "X-Cpubroker-Node: node-a" \
        "http://$(node_address node-b):7072/v1/images/$id")
    [[ $(tail -n 1 <<<"$reply") = 4?? ]] || fail "$kind: answered $reply"
    grep -q "$reason" <<<"$reply" || fail "$kind: expected '$reason' in $reply"
    [ "$(migration_end "$id" 60)" = failed ] || fail "$kind: the migration did not fail"
    api GET "/v1/migrations/$id" | jq -r .error.message | grep -q "$reason" ||
        fail "$kind: the migration's error is $(api GET "/v1/migrations/$id" | jq -c .error)"
    eventually 10 nothing_left_on_target
    left=$(find "$SITE_DIR/nodes/node-b/state/workloads" -mindepth 1 | wc -l)
    same "$kind: what is left beside the workloads' folders" 0 "$left"
    [ ! -e /tmp/cpubroker-escaped ] || fail "$kind: it escaped"
    victim_goes_on node-a w1
}

engine_wrapper
fleet_up
victim_start node-a w1
engine_mode node-a "slow 2"
for pair in "parent|'.' or '..' piece" "absolute|it is absolute" "link|a symbolic link" "device|a device" \
    "privileged|set-user-ID" "double|there twice" "altered|SHA-256 of 'image/core-1.img' differs" \
    "untold|differs from the manifest\|the manifest names" "headless|without a manifest"; do
    step "an image that is forged: ${pair%%|*}"
    refused "${pair%%|*}" "${pair#*|}"
done
engine_normal node-a

step "after all that the workload moves"
moved w1 node-b
victim_goes_on node-b w1
victim_whole node-b w1
