// SPDX-License-Identifier: Apache-2.0

package sim

import "testing"

func BenchmarkMixed(b *testing.B) {
	b.ReportAllocs()
	seed := uint64(1)
	for b.Loop() {
		if _, err := Run(seed, "mixed"); err != nil {
			b.Fatal(err)
		}
		seed++
	}
}
