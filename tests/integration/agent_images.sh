#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Forged images reach a real agent with the right ticket from the right address: each is refused for
# its reason, nothing of it is left, and the workload runs on where it is.
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$0")/../lib/functions.sh"
requires root namespaces criu curl jq python3 xxh128sum

# forge KIND: an archive into $TEST_DIR/forged.tar
forge() {
    /usr/bin/python3 - "$1" "$TEST_DIR/forged.tar" <<'PYTHON'
import io, json, subprocess, sys, tarfile
kind, path = sys.argv[1:]
out = tarfile.open(path, "w", format=tarfile.PAX_FORMAT)
files = []

def checksum(content):
    return subprocess.run(["xxh128sum"], input=content, capture_output=True, check=True).stdout.split()[0].decode()

def put(name, content=b"x", type=tarfile.REGTYPE, link="", mode=0o600, told=True):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.mode = type, link, mode
    entry.size = len(content) if type == tarfile.REGTYPE else 0
    out.addfile(entry, io.BytesIO(content) if entry.size else None)
    if told and type == tarfile.REGTYPE:
        files.append({"name": name, "bytes": len(content), "xxh128": checksum(content)})

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
    files[-1]["xxh128"] = checksum(b"false")
elif kind == "gap":
    put("pages/pages-1.img@0", b"x" * 4096)
    put("pages/pages-1.img@8192", b"x" * 4096)
elif kind == "no pages":
    put("pages/core-1.img@0")
elif kind == "untold":
    put("image/core-1.img", told=False)
if kind != "headless":
    put("manifest.json", json.dumps({
        "schema": "cpubroker.manifest/1", "workload": "w1", "pid": 1, "tasks": 1, "threads": 1,
        "stopped_pids": [], "files": files}).encode(), told=False)
out.close()
PYTHON
}

prepared() { grep -q "migration=$1 .*step=prepared" "$SITE_DIR/nodes/node-b/agent.log"; }

# refused KIND REASON: a migration whose target gets that image before the source's own.
refused() {
    local kind=$1 reason=$2 id ticket reply agent
    forge "$kind"
    # The source would use its ticket before it dumps, so it must not hear of the migration yet.
    agent=$(pid_recorded "$SITE_DIR/nodes/node-a/agent.pid")
    kill -STOP "$agent"
    id=$(migrate w1 node-b)
    eventually 20 prepared "$id"
    ticket=$(api_as "$SITE_DIR/nodes/node-b/state/token" GET "/v1/nodes/node-b/assignments?after=0&wait_ms=0" |
        jq -er '.assignments[0].ticket')
    reply=$(node_exec node-a curl -s -w '\n%{http_code}' --max-time 20 -T "$TEST_DIR/forged.tar" \
        -H "Authorization: Bearer $ticket" -H "X-Cpubroker-Node: node-a" \
        "http://$(node_address node-b):7072/v1/images/$id")
    [[ $(tail -n 1 <<<"$reply") = 4?? ]] || fail "$kind: answered $reply"
    grep -q "$reason" <<<"$reply" || fail "$kind: expected '$reason' in $reply"
    kill -CONT "$agent"
    [ "$(migration_end "$id" 60)" = failed ] || fail "$kind: the migration did not fail"
    api GET "/v1/migrations/$id" | jq -r .error.message | grep -q "$reason" ||
        fail "$kind: the migration's error is $(api GET "/v1/migrations/$id" | jq -c .error)"
    eventually 10 nothing_left_on_target
    left=$(find "$SITE_DIR/nodes/node-b/state/workloads" -mindepth 1 | wc -l)
    same "$kind: what is left beside the workloads' folders" 0 "$left"
    [ ! -e /tmp/cpubroker-escaped ] || fail "$kind: it escaped"
    victim_goes_on node-a w1
}

fleet_up
victim_start node-a w1
for pair in "parent|'.' or '..' piece" "absolute|it is absolute" "link|a symbolic link" "device|a device" \
    "privileged|set-user-ID" "double|there twice" "altered|checksum of 'image/core-1.img' differs" \
    "gap|does not follow" "no pages|no piece of memory" "untold|differs from the manifest\|the manifest names" "headless|without a manifest"; do
    step "an image that is forged: ${pair%%|*}"
    refused "${pair%%|*}" "${pair#*|}"
done

step "after all that the workload moves"
moved w1 node-b
victim_goes_on node-b w1
victim_whole node-b w1
