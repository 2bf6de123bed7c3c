#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""compare_sites.py - compares `cpuagent sites` with objdump, over all ELF files below some folders.

    compare_sites.py CPUAGENT SECONDS FOLDER...

objdump reads each function with a site from its start. It must show CPUID at each site: if it does
not, a false site was found, and that is the failure this program is for. The other way round,
whatever objdump shows as CPUID must be a site or be told as a candidate with its reason; where
functions hold data, objdump takes it for instructions, so those are counted and named. Small files
are disassembled whole. Files are taken from small to large until the time is over; what was not
looked at is counted."""
import collections
import concurrent.futures
import json
import mmap
import os
import re
import subprocess
import sys
import time

WHOLE_FILE_BYTES = 2 << 20  # the largest file of which all is disassembled
LINE = re.compile(r"^ *([0-9a-f]+):\t(?:[0-9a-f]{2} )+ *\t(.*)$")
GAP = b"\x90" * 16  # brings objdump into step before the next function
PREFIXES = re.compile(r"^((rex[.A-Z]*|data16|addr32|cs|ds|es|fs|gs|ss|repz|repnz) )*cpuid\b")


def elf_files(folders):
    found = {}
    for folder in folders:
        for parent, _, names in os.walk(folder):
            for name in names:
                path = os.path.join(parent, name)
                try:
                    status = os.lstat(path)
                    if not os.path.isfile(path) or os.path.islink(path):
                        continue
                    with open(path, "rb") as f:
                        head = f.read(20)
                except OSError:
                    continue
                machine = int.from_bytes(head[18:20], "little")
                kind = int.from_bytes(head[16:18], "little")
                if head[:5] == b"\x7fELF\x02" and machine == 62 and kind in (2, 3):
                    found[status.st_dev, status.st_ino] = (status.st_size, path)
    return sorted(found.values())


def shown_cpuids(output, base=0):
    """Addresses at which objdump shows CPUID."""
    found = set()
    for line in output.splitlines():
        match = LINE.match(line)
        if match and PREFIXES.match(match.group(2)):
            found.add(base + int(match.group(1), 16))
    return found


def objdump(*arguments):
    return subprocess.run(["objdump", "--insn-width=15", *arguments], capture_output=True, text=True,
                          errors="replace", check=True, timeout=300).stdout


def function_cpuids(path, sites, scratch):
    """What objdump shows in the functions of these sites."""
    functions = {}
    for site in sites:
        start, end = int(site["function_start"], 16), int(site["function_end"], 16)
        offset = int(site["offset"], 16) - (int(site["address"], 16) - start)
        functions[start, end] = offset
    places, blob = [], b""
    with open(path, "rb") as f:
        for (start, end), offset in functions.items():
            f.seek(offset)
            places.append((len(blob), start, end))
            blob += f.read(end - start) + GAP
    with open(scratch, "wb") as f:
        f.write(blob)
    shown = shown_cpuids(objdump("-D", "-b", "binary", "-m", "i386:x86-64", scratch))
    os.unlink(scratch)
    result = set()
    for at, start, end in places:
        result |= {start + a - at for a in shown if at <= a < at + end - start}
    return result


def look_at(cpuagent, path, size, scratch, deadline):
    """(counts, what went wrong, remarks)"""
    counts, wrong, remarks = collections.Counter(), [], []
    if time.monotonic() > deadline:
        return {"files not looked at": 1}, wrong, remarks
    with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        if whole.find(b"\x0f\xa2") < 0:
            return {"files without the bytes": 1}, wrong, remarks
    done = subprocess.run([cpuagent, "sites", "-o", "json", path], capture_output=True, text=True,
                          check=False, timeout=300)
    if done.returncode != 0:
        if done.returncode < 0 or "Sanitizer" in done.stderr or not done.stderr.startswith("cpuagent"):
            wrong.append(f"{path}: cpuagent ended with {done.returncode}: {done.stderr[-2000:]}")
        counts["files refused"] += 1
        return counts, wrong, remarks + [f"{path}: refused: {done.stderr.strip()}"]
    found = json.loads(done.stdout)
    sites = {int(s["address"], 16): s for s in found["sites"]}
    candidates = {int(c["address"], 16): c for c in found["candidates"]}
    counts["files"] += 1
    counts["bytes"] += size
    counts["candidates"] += len(sites) + len(candidates)
    for site in sites.values():
        counts["sites by " + site["proof"]] += 1
    for candidate in candidates.values():
        counts["no site: " + candidate["reason"]] += 1
    if not sites and not candidates:
        return counts, wrong, remarks
    shown = function_cpuids(path, sites.values(), scratch) if sites else set()
    for address in sorted(set(sites) - shown):
        wrong.append(f"{path}: FALSE SITE at {address:#x} by {sites[address]['proof']}: objdump shows no CPUID there")
    if size <= WHOLE_FILE_BYTES:
        counts["files disassembled whole"] += 1
        shown |= shown_cpuids(objdump("-d", "--no-show-raw-insn", path).replace(":\t", ":\t90 \t"))
    for address in sorted(shown - set(sites)):
        # objdump's instruction may have prefixes before the two bytes
        candidate = next((candidates[a] for a in range(address, address + 14) if a in candidates), None)
        if candidate is None:
            wrong.append(f"{path}: objdump shows CPUID at {address:#x}, which was not even looked at")
        else:
            counts["shown by objdump, no site: " + candidate["reason"]] += 1
            remarks.append(f"{path}: objdump shows CPUID at {address:#x}: {candidate['reason']}")
    return counts, wrong, remarks


def main():
    cpuagent, seconds, scratch = sys.argv[1], float(sys.argv[2]), os.environ.get("TMPDIR", "/tmp")
    deadline = time.monotonic() + seconds
    files = elf_files(sys.argv[3:])
    total, wrong = collections.Counter(), []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(look_at, cpuagent, path, size, f"{scratch}/compare-{os.getpid()}-{i}", deadline)
                for i, (size, path) in enumerate(files)]
        for job in jobs:
            counts, bad, remarks = job.result()
            total.update(counts)
            wrong += bad
            for remark in remarks:
                print("  " + remark)
    for name, count in sorted(total.items()):
        print(f"{name}: {count}")
    for line in wrong:
        print("WRONG: " + line, file=sys.stderr)
    if not sum(n for name, n in total.items() if name.startswith("sites by")):
        print("WRONG: not a single site in all these files", file=sys.stderr)
        return 1
    return 1 if wrong else 0


sys.exit(main())
