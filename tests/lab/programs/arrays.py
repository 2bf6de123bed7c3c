# SPDX-License-Identifier: Apache-2.0
"""arrays.py - NumPy and OpenBLAS, which choose their kernels by the CPU when they are loaded."""
import hashlib
import time

import numpy

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
whole = numpy.arange(4096, dtype=numpy.int64) * 7919 % 1009
expected = sum(i * 7919 % 1009 for i in range(4096))
ordered = sorted(i * 7919 % 1009 for i in range(4096))
square = (numpy.arange(64 * 64, dtype=numpy.float64) % 17).reshape(64, 64)
# exact in doubles, so that the order of the additions does not matter
product = [[sum(int(square[i][k]) * int(square[k][j]) for k in range(64)) for j in range(4)] for i in range(64)]

step = 0
while True:
    step += 1
    verdict = "right"
    if int(whole.sum()) != expected:
        verdict = "wrong sum"
    if numpy.sort(whole.astype(numpy.int32)).tolist() != ordered:
        verdict = "wrong order"
    if (square @ square)[:, :4].tolist() != product:
        verdict = "wrong product"
    if abs(float(numpy.exp(numpy.log(square + 1)).sum()) - float((square + 1).sum())) > 1e-6:
        verdict = "wrong exp or log"
    if hashlib.sha256(b"abc").hexdigest() != ABC:
        verdict = "wrong SHA-256 of abc"
    print("step", step, verdict, flush=True)
    time.sleep(0.02)
