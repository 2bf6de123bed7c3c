// SPDX-License-Identifier: Apache-2.0

// gohash - hashes and searches of Go's own library, which chooses its code by the CPU when it starts.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/big"
	"time"
)

func main() {
	const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	data := make([]byte, 65536)
	for i := range data {
		data[i] = byte(i * 31 % 251)
	}
	first := sha256.Sum256(data)
	base, modulus := big.NewInt(3), new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 521), big.NewInt(1))
	power := new(big.Int).Exp(base, big.NewInt(65537), modulus)
	for step := 1; ; step++ {
		verdict := "right"
		sum := sha256.Sum256([]byte("abc"))
		if hex.EncodeToString(sum[:]) != abc {
			verdict = "wrong SHA-256 of abc"
		}
		if sha256.Sum256(data) != first {
			verdict = "wrong SHA-256"
		}
		if bytes.IndexByte(data, 250) != index(data, 250) || bytes.Count(data, []byte{7}) != count(data, 7) {
			verdict = "wrong search"
		}
		if new(big.Int).Exp(base, big.NewInt(65537), modulus).Cmp(power) != 0 {
			verdict = "wrong power"
		}
		fmt.Println("step", step, verdict)
		time.Sleep(20 * time.Millisecond)
	}
}

func index(data []byte, wanted byte) int {
	for i, b := range data {
		if b == wanted {
			return i
		}
	}
	return -1
}

func count(data []byte, wanted byte) (n int) {
	for _, b := range data {
		if b == wanted {
			n++
		}
	}
	return
}
