// SPDX-License-Identifier: Apache-2.0

package latency

import (
	"sync"
	"testing"
	"time"
)

// TestNap: a nap is never shorter than was asked for, also when many nap at once and one after the other.
func TestNap(t *testing.T) {
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for k := range 10 {
				d := time.Duration(i*k) * 100 * time.Microsecond
				from := time.Now()
				Nap(d)
				if took := time.Since(from); took < d {
					t.Errorf("a nap of %v took %v", d, took)
				}
			}
		})
	}
	all.Wait()
	Nap(-time.Second)
}
