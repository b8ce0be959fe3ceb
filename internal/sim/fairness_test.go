// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"testing"
	"time"

	"evensong/internal/check"
	"evensong/internal/proto/evs"
)

// beside runs two well-behaved clients, and lets a third of the same daemon behave as ill does, every millisecond.
func beside(t *testing.T, ill func(c *client)) *check.History {
	t.Helper()
	w := newWorld(17)
	w.ring = ringDefaults(250 * time.Millisecond)
	w.net = newNetwork(3, Quality{Delay: 100 * time.Microsecond, Jitter: 20 * time.Microsecond})
	w.groups = []string{"good", "bad"}
	for _, name := range []string{"a", "b", "c"} {
		w.addHost(name, true).start()
	}
	x, y, z := w.addClient("x", 0), w.addClient("y", 1), w.addClient("z", 0)
	x.wanted[0], y.wanted[0] = true, true
	for _, c := range w.clients {
		c.dialLater(500 * time.Millisecond)
	}
	w.runUntil(time.Second)
	for range 250 {
		if ill != nil {
			ill(z)
		}
		x.multicast([]string{"good"}, evs.Agreed, 200, false)
		w.runUntil(w.now + time.Millisecond)
	}
	w.runUntil(w.now + time.Second)
	// The one who does not read has no view yet: the end is not quiescent.
	h := &check.History{Records: w.history}
	for _, v := range check.Check(h).Violations {
		t.Errorf("%v", v)
	}
	if w.failure != nil {
		t.Errorf("%v", w.failure)
	}
	return h
}

// TestFairness is GRP-17: a client that misbehaves leaves the others of its daemon their share.
func TestFairness(t *testing.T) {
	of := func(s evs.SessionID) bool { return s.Name == "#x#a" || s.Name == "#y#b" }
	without := beside(t, nil)
	for _, x := range []struct {
		name string
		ill  func(c *client)
	}{
		{"floods", func(c *client) {
			for range 10 {
				c.multicast([]string{"bad"}, evs.Agreed, 3000, false)
			}
		}},
		{"does not read", func(c *client) {
			c.slow = time.Hour
			c.join(1)
			for range 5 {
				c.multicast([]string{"bad"}, evs.Agreed, 3000, false)
			}
		}},
		{"opens and closes", func(c *client) {
			if c.state == clientOpen {
				c.join(1)
				c.hang(false)
				c.dialLater(0)
			}
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			for _, v := range check.Fairness(without, beside(t, x.ill), of, 1) {
				t.Errorf("%v", v)
			}
		})
	}
}
