// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"net/netip"
	"testing"
	"time"

	"evensong/internal/proto/evs"
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
		m.HandleData(0, &c.d, make([]byte, packet.DataOffset), nil)
		if m.straight != c.want {
			t.Errorf("after packet %d: %d visits in order, want %d", c.d.Seq, m.straight, c.want)
		}
	}
}

// From a sign of loss on the token goes out a second time, behind the last packets, for so many visits. Then it costs nothing
// that the first one is lost.
func TestTokenTwiceAfterLoss(t *testing.T) {
	w := newNet(t, 8, 4, Config{}, true)
	w.start()
	w.run(100 * time.Millisecond)
	for i := range w.members {
		w.submit(i, 1<<20)
	}
	w.run(w.now + 20*time.Millisecond)
	m := w.members[1].m
	tokens := func() (n int) { // that it sends at its next visit
		for before := m.accepted; m.accepted == before; {
			w.run(w.now + 5*time.Microsecond)
		}
		for _, f := range w.queue {
			if packet.Kind(f.buf[3]) == packet.KindToken && f.to == 2 {
				n++
			}
		}
		return n
	}
	if n := tokens(); n != 1 {
		t.Fatalf("%d tokens before anything was lost", n)
	}
	w.sever(2, func(kind packet.Kind, body []byte) bool { return kind == packet.KindData })
	w.run(w.now + 5*time.Millisecond) // it is asked for and answered
	if n := tokens(); n != 2 {
		t.Fatalf("%d tokens after a loss", n)
	}
	first := m.accepted
	w.sever(2, func(kind packet.Kind, _ []byte) bool { return kind == packet.KindToken })
	at := w.now
	for m.accepted == first {
		w.run(w.now + 5*time.Microsecond)
	}
	if took := w.now - at; took > m.cfg.TokenRetransmit/shortestWait {
		t.Errorf("the first of two tokens was lost, and the next one came after %v", took)
	}
	for until := m.accepted + uint64(m.n)*2*soundVisits; m.accepted < until; {
		w.run(w.now + 100*time.Microsecond)
	}
	if n := tokens(); n != 1 {
		t.Errorf("%d tokens long after a loss", n)
	}
}

// A second token travels behind what follows the first.
func TestSecondTokenIsLast(t *testing.T) {
	for sound, want := range map[int]int{0: 2, soundVisits: 1} {
		procs := []evs.ProcID{{Name: "a", Inc: 1}, {Name: "b", Inc: 2}}
		m := New(Config{WholeVisit: 1}.WithDefaults(), evs.RingID{Seq: 1, Rep: 1}, procs, make([]netip.AddrPort, 2), 0, true, packet.NewSealer("t", procs[0]), NewPool(1472), 0)
		m.Operational()
		m.sound = sound
		m.Start(0)
		var fx Effects
		m.Visit(1, &script{waiting: 30}, &fx)
		n := 0
		for _, s := range fx.Sends {
			if s.Kind == packet.KindToken {
				n++
			}
		}
		if last := fx.Sends[len(fx.Sends)-1].Kind; n != want || last == packet.KindToken != (want == 2) || fx.Repeats != 0 {
			t.Errorf("%d visits after a loss: %d tokens, the last packet is %v, %d repeats", sound, n, last, fx.Repeats)
		}
	}
}
