// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"net/netip"
	"testing"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/packet"
	"evensong/internal/proto/seq"
)

// middle is member 1 of a ring of three, operational, with the largest windows.
func middle(t *testing.T) *Machine {
	t.Helper()
	cfg := Config{PersonalWindow: MaxSpan / 2, GlobalWindow: MaxSpan / 2, MaxGap: MaxSpan / 2}.WithDefaults()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	procs := []evs.ProcID{{Name: "a", Inc: 1}, {Name: "b", Inc: 2}, {Name: "c", Inc: 3}}
	m := New(cfg, evs.RingID{Seq: 1, Rep: 1}, procs, make([]netip.AddrPort, 3), 1, false, packet.NewSealer("t", procs[1]), NewPool(1472), 0)
	m.Operational()
	return m
}

// data stores packets from, from+1, ... to of member 0 and returns how many were taken.
func data(m *Machine, from, to seq.Num) (taken int) {
	for n := from; n <= to; n++ {
		d := packet.Data{Ring: m.id, Seq: n, Visit: m.accepted + 2, Count: uint64(n)}
		b := make([]byte, packet.DataOffset)
		packet.PutDataHeader(b, &d)
		if m.HandleData(0, &d, b, nil) {
			taken++
		}
	}
	return taken
}

// token gives the token of the next rotation to m.
func token(t *testing.T, m *Machine, high, aru seq.Num, id uint16) {
	t.Helper()
	tok := packet.Token{Ring: m.id, TokenSeq: m.expect, Seq: high, ARU: aru, ARUID: id}
	if m.Accept(0, &tok) != Accepted {
		t.Fatal("token not accepted")
	}
	m.Visit(0, &script{}, &Effects{})
	m.Discard(m.Stable())
}

// EVS-10: whatever the windows allow others to send is stored. Here the discarded line is as far behind as can be: at
// one visit the aru was low, because member 2 lacked a window; at the next it is at the newest packet; and a window more
// is sent before the third.
func TestWindowsFitTheStore(t *testing.T) {
	const w = MaxSpan / 2
	m := middle(t)
	data(m, 1, w)
	token(t, m, w, 0, 2)
	data(m, w+1, 2*w)
	token(t, m, 2*w, 2*w, packet.NoMember)
	if got := data(m, 2*w+1, 3*w); got != w {
		t.Errorf("stored %d of %d packets that the windows allow, base %d", got, w, m.Base())
	}
}

// P-6: a token that would have me originate where there is a packet already, or ask for more than a ring can hold, is not
// acted upon. Without the bounds the first is a panic or a second packet at one position (EVS-2), the second memory and time
// without limit.
func TestTokenOutOfBounds(t *testing.T) {
	for name, bad := range map[string]packet.Token{
		"seq below what I hold": {Seq: 9, ARU: 9, ARUID: packet.NoMember},
		"seq above any window":  {Seq: 1 << 40, ARU: 10, ARUID: 2},
		"requests without end":  {Seq: 1 << 40, ARU: 10, ARUID: 2, RTR: []packet.Range{{First: 11, Count: 1<<32 - 1}}},
	} {
		m := middle(t)
		data(m, 1, 10)
		bad.Ring, bad.TokenSeq = m.id, m.expect
		if m.Accept(0, &bad) != Dropped {
			t.Errorf("%s: accepted", name)
		}
	}
}
