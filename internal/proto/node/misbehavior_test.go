// SPDX-License-Identifier: Apache-2.0

package node

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/frame"
	"evensong/internal/proto/membership"
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
		for i, d := range c.nodes {
			told := 0
			for _, ch := range d.m.Status(c.now).Changes {
				if len(ch.Gone) == 0 {
					continue
				}
				told++
				why, name := membership.CausesText(ch.Causes), " ("+c.nodes[deaf].m.Status(c.now).Me.Name+")"
				if why != membership.ReasonFailedToReceive.String()+name && (i == deaf || why != membership.ReasonHearsNobody.String()+name) {
					t.Errorf("member %d deaf for data: member %d says %q", deaf, i, why)
				}
			}
			if told == 0 {
				t.Errorf("member %d deaf for data: member %d has lost nobody", deaf, i)
			}
		}
	}
}

// GRP-17: while nothing can be ordered, here because the first ring number is not stored yet, what sessions that open and
// close in a loop leave behind is bounded.
func TestDepartedSessionsAreBounded(t *testing.T) {
	m, err := New(Config{Me: evs.ProcID{Name: "a", Inc: 1}, Stable: true, MaxSessions: 5}, rand.New(rand.NewPCG(1, 1)), 0)
	if err != nil {
		t.Fatal(err)
	}
	var fx Effects
	m.Start(0, &fx)
	store := fx.Stores[0].ID
	choice, err := frame.AppendAuthChoice(nil, frame.AuthNull)
	if err != nil {
		t.Fatal(err)
	}
	open := func() uint64 {
		id := m.HandleAccept(0, true, netip.AddrPort{}, &fx)
		m.HandleInput(0, id, []byte{4, 4, 0, 0, 0}, &fx)
		m.HandleInput(0, id, choice, &fx)
		return id
	}
	for range 100 {
		m.HandleClosed(0, open(), &fx)
	}
	if n := len(m.departed); n > 5 {
		t.Errorf("%d sessions wait for their disconnect, want at most 5", n)
	}
	now := 10 * time.Second
	m.Advance(now, &fx) // the last bytes of those that were refused
	m.HandleStored(now, store, nil, &fx)
	for range 100 {
		for i, s := range fx.Stores {
			if s.ID != store && i == len(fx.Stores)-1 {
				store = s.ID
				m.HandleStored(now, store, nil, &fx)
			}
		}
		now = max(now, m.Deadline())
		m.Advance(now, &fx)
	}
	if len(m.departed)+len(m.names)+len(m.conns) != 0 {
		t.Errorf("when there is a ring: %d departed, %d names, %d connections, want none", len(m.departed), len(m.names), len(m.conns))
	}
	if id := open(); m.conns[id] == nil || !m.conns[id].open {
		t.Error("a client is refused when there is room again")
	}
}
