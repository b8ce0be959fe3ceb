// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"testing"
	"time"

	"evensong/internal/proto/evs"
)

// TestWideIsSteady: with the timers of a wide-area network a ring over long and slightly lossy links forms, and does not
// break by itself.
func TestWideIsSteady(t *testing.T) {
	p, err := profileByName("wide")
	if err != nil {
		t.Fatal(err)
	}
	p.weights = [faultEnd]int{faultClientGone: 1}
	p.kinds = 1
	for seed := range uint64(5) {
		w := newWorld(seed)
		end := w.build(&p)
		w.runUntil(end)
		if r := w.judge(); r.Failed() {
			failed(t, r)
		}
		formed := 0
		for i := range w.history {
			r := &w.history[i]
			if r.Kind == evs.TraceConf && r.Conf.Kind == evs.Regular {
				if len(r.Members) == len(w.hosts) {
					formed++
				}
				if time.Duration(r.At) > 20*time.Second {
					t.Errorf("seed %d: a configuration %v after the start, and nothing happened", seed, time.Duration(r.At))
				}
			}
		}
		if formed != len(w.hosts) {
			t.Errorf("seed %d: %d of %d daemons came together once", seed, formed, len(w.hosts))
		}
	}
}
