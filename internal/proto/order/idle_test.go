// SPDX-License-Identifier: Apache-2.0

package order

import (
	"testing"
	"time"

	"evensong/internal/proto/packet"
)

// The daemons of an idle ring are woken by its token, three times in a token timeout, and by little else: probes go out
// while everybody is awake for the token.
func TestIdleRingSleeps(t *testing.T) {
	w := newTeam(t, 1472, 1472, 1472)
	w.pass(time.Second)
	var last [3]time.Duration
	var wakes, probes [3]int
	w.sent = func(who int, sends []packet.Send) {
		if w.now-last[who] > 2*time.Millisecond {
			wakes[who]++
		}
		last[who] = w.now
		for _, s := range sends {
			if s.Kind == packet.KindProbe {
				probes[who]++
			}
		}
	}
	const seconds = 20
	w.pass(seconds * time.Second)
	for i := range wakes {
		t.Logf("daemon %d: %.1f times a second, and %.1f probes", i, float64(wakes[i])/seconds, float64(probes[i])/seconds)
		if wakes[i] < 12*seconds || wakes[i] > 14*seconds {
			t.Errorf("daemon %d was woken %d times in %d s, want 13 a second", i, wakes[i], seconds)
		}
		if probes[i] < 4*seconds || probes[i] > 6*seconds {
			t.Errorf("daemon %d sent %d probes in %d s, want about 5 a second", i, probes[i], seconds)
		}
	}
}
