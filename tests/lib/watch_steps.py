#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""watch_steps.py OUT LOG... - writes the milliseconds between two looks at which the longest of the
logs had grown, a line each, until it is killed or none of the logs is there."""
import os
import sys
import time


def size_of(path):
    try:
        return os.path.getsize(path)
    except OSError:
        return -1


out, *logs = sys.argv[1:]
with open(out, "w", buffering=1) as pauses:
    size, since = max(map(size_of, logs)), time.monotonic()
    while True:
        time.sleep(0.001)
        now, grown = time.monotonic(), max(map(size_of, logs))
        if grown == -1:
            break
        if grown > size:
            print(int((now - since) * 1000), file=pauses)
            size, since = grown, now
