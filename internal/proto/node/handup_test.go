// SPDX-License-Identifier: Apache-2.0

package node

import (
	"slices"
	"testing"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/frame"
	"evensong/internal/proto/packet"
)

// tokenFor lets time pass until a token is on its way to node i, and takes it off the network.
func (c *cluster) tokenFor(i int) datagram {
	c.t.Helper()
	for end := c.now + time.Second; c.now < end; c.pass(testDelay / 4) {
		for k, d := range c.flying {
			if d.to == i && d.b[3] == byte(packet.KindToken) {
				c.flying = slices.Delete(c.flying, k, k+1)
				return d
			}
		}
	}
	c.t.Fatal("no token in a second")
	return datagram{}
}

// The token goes on before anything that it makes deliverable is handed up: by HandUp, or at the latest by the next input that is
// not a datagram.
func TestTokenGoesFirst(t *testing.T) {
	for name, next := range map[string]func(m *Machine, now time.Duration, fx *Effects){
		"HandUp":  func(m *Machine, now time.Duration, fx *Effects) { m.HandUp(now, fx) },
		"Advance": func(m *Machine, now time.Duration, fx *Effects) { m.Advance(now, fx) },
	} {
		c := newCluster(t, "a", "b", "c")
		k := c.connect(0, "u", false)
		n := c.nodes[0]
		c.send(k, frame.AppendJoin(nil, "#u#a", "g"))
		c.pass(100 * time.Millisecond)
		c.send(c.connect(1, "v", false), frame.AppendJoin(nil, "#v#b", "h")) // so that the token does not rest here
		c.pass(100 * time.Millisecond)
		for range 20 { // more than a lone sender keeps the token for
			c.send(k, frame.AppendMulticast(nil, "#u#a", frame.MulticastType(evs.Agreed, false), 1, []string{"g"}, make([]byte, 1300)))
		}
		c.messages(k)
		before := len(n.m.Output(k.id, nil, 100))
		token := c.tokenFor(0)
		n.m.HandleDatagram(c.now, testAddr(token.from), token.b, nil, &n.fx)
		sent := 0
		for _, s := range n.fx.Sends {
			if s.Kind == packet.KindToken {
				sent++
			}
		}
		if sent != 1 || len(n.fx.Outputs) > 0 || len(n.m.Output(k.id, nil, 100)) != before {
			t.Errorf("%s: the token's input sends %d tokens and has output for %v", name, sent, n.fx.Outputs)
		}
		n.fx.Reset()
		next(n.m, c.now, &n.fx)
		if !slices.Equal(n.fx.Outputs, []uint64{k.id}) {
			t.Errorf("%s: what follows has output for %v, want the sender's session", name, n.fx.Outputs)
		}
		for n.m.HandUp(c.now, &n.fx) {
		}
		c.after(0)
		if got := len(c.messages(k)); got != 20 {
			t.Errorf("%s: the sender got %d of its 20 messages", name, got)
		}
	}
}
