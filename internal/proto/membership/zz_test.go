// SPDX-License-Identifier: Apache-2.0

package membership

import (
	"testing"
	"time"
)

func TestZZ(t *testing.T) {
	for _, n := range []int{5, 16, 32} {
		c := settled(t, 9, n)
		c.quiet = true
		for _, d := range c.nodes {
			d.notes = nil
		}
		c.loss, c.dup = 0.1, 0.05
		c.run(20 * time.Second)
		why := map[Reason]int{}
		for _, d := range c.nodes {
			for _, n := range d.notes {
				if n.Kind == NoteState && n.From == StateOperational {
					why[n.Reason]++
				}
			}
		}
		for r, k := range why {
			t.Logf("n=%d %v: %d", n, r, k)
		}
	}
}
func BenchmarkZZ(b *testing.B) {
	for b.Loop() {
		c := newCluster(&testing.T{}, 1, 32)
		c.startAll(100 * time.Millisecond)
		c.run(3 * time.Second)
	}
}
