#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes how many milliseconds lay between two looks at which a log had grown, a line each."""
import os
import sys
import time

log, out = sys.argv[1:]
with open(out, "w", buffering=1) as pauses:
    size, since = -1, time.monotonic()
    while os.path.exists(log):
        now = time.monotonic()
        if os.path.getsize(log) != size:
            print(int((now - since) * 1000), file=pauses)
            size, since = os.path.getsize(log), now
        time.sleep(0.005)
