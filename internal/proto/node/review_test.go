// SPDX-License-Identifier: Apache-2.0

package node

import (
	"testing"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/frame"
	"evensong/internal/proto/packet"
)

// LIVE-6: a member that gets tokens and Joins but no data leaves by itself, and stays away long enough for the others
// to work: it must not be taken into the very next ring.
func TestDeafMemberDoesNotStallTheRing(t *testing.T) {
	for deaf := range 3 { // the representative, too
		c := newCluster(t, "a", "b", "c")
		x, y := c.connect((deaf+1)%3, "x", true), c.connect((deaf+2)%3, "y", true)
		c.send(y, frame.AppendJoin(nil, "#y#"+string(rune('a'+(deaf+2)%3)), "g"))
		c.pass(50 * time.Millisecond)
		c.messages(y)
		start := c.now
		got, sent, last, pause := 0, 0, start, time.Duration(0)
		for c.now < start+5*time.Second {
			if c.now >= start+time.Duration(sent)*10*time.Millisecond {
				c.send(x, frame.AppendMulticast(nil, "#x#"+string(rune('a'+(deaf+1)%3)), frame.MulticastType(evs.Safe, false), 1, []string{"g"}, []byte("m")))
				sent++
			}
			kept := c.flying[:0]
			for _, d := range c.flying {
				if d.to != deaf || packet.Kind(d.b[3]) != packet.KindData {
					kept = append(kept, d)
				}
			}
			c.flying = kept
			c.pass(testDelay / 2)
			for _, m := range c.messages(y) {
				if m.Type.Kind() == frame.KindRegular {
					got++
					pause, last = max(pause, c.now-last), c.now
				}
			}
		}
		if got < sent*9/10 || pause > 500*time.Millisecond {
			t.Errorf("member %d deaf for data: %d of %d Safe messages came, longest pause %v; want nearly all, and one failure to receive of about 250 ms", deaf, got, sent, pause)
		}
	}
}
