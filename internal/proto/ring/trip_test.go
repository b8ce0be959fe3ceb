// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"testing"
	"time"

	"evensong/internal/proto/packet"
)

// The wait for a sign of life follows the trips that were measured, doubles while it is in vain, and is the longest one where
// the token may be held.
func TestTripWait(t *testing.T) {
	const longest = 25 * time.Millisecond
	var p trip
	now := time.Duration(0)
	if got := p.start(now, longest, true); got != longest {
		t.Errorf("%v before anything was measured, want %v", got, longest)
	}
	for range 50 {
		p.start(now, longest, true)
		now += time.Millisecond
		p.end(now)
	}
	wait := p.start(now, longest, true)
	if wait < time.Millisecond || wait > 1100*time.Microsecond {
		t.Errorf("%v after trips of 1ms", wait)
	}
	if got := p.again(longest); got != 2*wait {
		t.Errorf("%v after one vain wait of %v", got, wait)
	}
	p.end(now + longest) // of which of both is not known
	if got := p.start(now, longest, true); got != 2*wait {
		t.Errorf("%v after a sign of one of two, want %v", got, 2*wait)
	}
	for range 10 {
		if got := p.again(longest); got > longest {
			t.Errorf("%v, want at most %v", got, longest)
		}
	}
	p.start(now, longest, true)
	p.end(now + time.Millisecond)
	if got := p.start(now, longest, true); got > 2*wait {
		t.Errorf("%v once a trip is measured again", got)
	}
	if got := p.start(now, longest, false); got != longest || p.again(longest) != longest {
		t.Errorf("%v where the token may be held", got)
	}
}

// sever runs w until a datagram is under way to member to that lost picks, and loses it.
func (w *net) sever(to int, lost func(kind packet.Kind, body []byte) bool) {
	w.t.Helper()
	for end := w.now + time.Second; w.now < end; w.run(w.now + 5*time.Microsecond) {
		for k, f := range w.queue {
			if f.to == to && lost(packet.Kind(f.buf[3]), f.buf[packet.HeaderSize:]) {
				w.queue = append(w.queue[:k], w.queue[k+1:]...)
				return
			}
		}
	}
	w.t.Fatal("nothing to lose")
}

// A token that is lost while all send costs some trips, not the time that an idle one may rest.
func TestLostTokenUnderLoad(t *testing.T) {
	w := newNet(t, 5, 4, Config{}, true)
	w.start()
	w.run(100 * time.Millisecond)
	for i := range w.members {
		w.submit(i, 1<<20)
	}
	w.run(w.now + 100*time.Millisecond)
	for range 20 {
		w.run(w.now + 2*time.Millisecond) // some trips are measured
		w.sever(2, func(kind packet.Kind, _ []byte) bool { return kind == packet.KindToken })
		at, before := w.now, w.members[2].m.accepted
		for w.members[2].m.accepted == before && w.now < at+time.Second {
			w.run(w.now + 20*time.Microsecond)
		}
		if took := w.now - at; took > 5*time.Millisecond {
			t.Fatalf("the token came after %v, with trips of %v", took, w.members[1].m.trip.mean)
		}
	}
	if len(w.lost) > 0 {
		t.Error(w.lost)
	}
}

// What lacks between two packets of one visit is asked for at the next visit, on the accelerated ring, too; not where the
// network was seen to change the order of what one member sends.
func TestRequestWithinVisit(t *testing.T) {
	for _, straight := range []bool{true, false} {
		w := newNet(t, 6, 4, Config{}, true)
		w.start()
		w.run(100 * time.Millisecond)
		w.submit(0, 10)
		if !straight {
			w.members[2].m.straight = 0
		}
		w.sever(2, func(kind packet.Kind, body []byte) bool {
			var d packet.Data
			return kind == packet.KindData && packet.ParseData(body, &d) == nil && d.Seq == 5
		})
		m := w.members[2].m
		for before := m.accepted; m.accepted == before; {
			w.run(w.now + 5*time.Microsecond)
		}
		if asked := len(m.token.RTR) == 1 && m.token.RTR[0] == (packet.Range{First: 5, Count: 1}); asked != straight {
			t.Errorf("order is kept: %v; asked for %v at the first visit", straight, m.token.RTR)
		}
		w.run(w.now + time.Second)
		w.wantAll(10)
	}
}

// An original that arrives behind its successor says that the network does not keep the order; a retransmission does not.
func TestOvertakenPackets(t *testing.T) {
	w := newNet(t, 7, 2, Config{}, true)
	m := w.members[1].m
	for _, c := range []struct {
		d    packet.Data
		want int
	}{
		{packet.Data{Seq: 1, Visit: 3}, straightVisits},
		{packet.Data{Seq: 3, Visit: 3}, straightVisits},
		{packet.Data{Seq: 2, Visit: 3, Flags: packet.FlagRetransmit}, straightVisits},
		{packet.Data{Seq: 5, Visit: 6}, straightVisits},
		{packet.Data{Seq: 4, Visit: 5}, straightVisits}, // of another visit: the accelerated ring does that
		{packet.Data{Seq: 7, Visit: 8}, straightVisits},
		{packet.Data{Seq: 6, Visit: 8}, 0},
	} {
		m.HandleData(0, &c.d, make([]byte, packet.DataOffset))
		if m.straight != c.want {
			t.Errorf("after packet %d: %d visits in order, want %d", c.d.Seq, m.straight, c.want)
		}
	}
}
