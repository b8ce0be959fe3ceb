// SPDX-License-Identifier: Apache-2.0

package prefetch

import (
	"bytes"
	"testing"
)

// Nothing changes, whatever the length, and memory that does not exist is no error: the last line may reach beyond the slice.
func TestNothingChanges(t *testing.T) {
	for n := range 300 {
		b := bytes.Repeat([]byte{7}, n)
		Read(b)
		Write(b)
		Read(b[:0:0])
		Write(nil)
		if !bytes.Equal(b, bytes.Repeat([]byte{7}, n)) {
			t.Fatalf("%d bytes changed: % x", n, b)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	p := make([]byte, 1472)
	for b.Loop() {
		Read(p)
	}
}
