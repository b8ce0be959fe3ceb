// SPDX-License-Identifier: Apache-2.0

package groups

import (
	"slices"
	"testing"

	"evensong/internal/proto/evs"
)

// PC-7: a claim stands in front of the first view and message that it holds for, and is taken back in front of the signal.
// Between configurations, and while tables are exchanged, nothing is claimed.
func TestPrimaryIsToldInOrder(t *testing.T) {
	me, other := evs.ProcID{Rank: 1, Name: "d1", Inc: 1}, evs.ProcID{Rank: 2, Name: "d2", Inc: 2}
	m := New(Config{Me: me})
	var fx Effects
	ring := evs.RingID{}
	take := func() (got []string) {
		t.Helper()
		for _, d := range fx.Deliveries {
			s := d.Kind.String()
			if d.Kind == KindPrimary {
				s += " " + d.Primary.String()
				if len(d.Sessions) != 0 {
					t.Errorf("primary goes to sessions %v", d.Sessions)
				}
			}
			got = append(got, s)
		}
		fx.Reset()
		if err := m.CheckInvariants(); err != nil {
			t.Fatal(err)
		}
		return got
	}
	expect := func(step string, want ...string) {
		t.Helper()
		if got := take(); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", step, got, want)
		}
	}
	regular := func(seq uint64, p evs.Primary, members ...evs.ProcID) {
		conf := &evs.Configuration{ID: evs.RegularID(evs.RingID{Seq: seq, Rep: me.Inc}), Members: members, Primary: p}
		for _, x := range members {
			from := evs.RingID{Seq: 77}
			if x == me {
				from = ring
			}
			conf.Origins = append(conf.Origins, from)
		}
		m.HandleRegular(conf, evs.DetailDaemons, &fx)
		ring = conf.ID.New
	}
	transitional := func(p evs.Primary, members ...evs.ProcID) {
		m.HandleTransitional(&evs.Configuration{ID: evs.TransitionalID(ring, evs.RingID{Seq: 99}), Members: members, Primary: p}, &fx)
	}
	// own lets the states that this daemon has sent come back, theirs the one of the other daemon.
	own := func() {
		for _, s := range slices.Clone(fx.Submits) {
			m.HandleMessage(me, s.Service, s.Payload, &fx)
		}
	}
	theirs := func() { m.HandleMessage(other, evs.Agreed, encodeState(ring, []uint16{1}, nil, 100)[0], &fx) }

	regular(1, evs.PrimaryNo, me)
	own()
	expect("alone", "primary no")
	m.Open(1, "a", true)
	m.HandleMessage(me, evs.Agreed, AppendJoin(nil, 1, "a", "g"), &fx)
	expect("a join", "view")

	transitional(evs.PrimaryNo, me)
	expect("nothing to take back")
	regular(2, evs.PrimaryYes, me, other)
	submits := fx.Submits
	m.HandleMessage(other, evs.Reliable, mcast(9, "b", "early", 0x02, "g"), &fx)
	if m.Primary() != evs.PrimaryNo {
		t.Errorf("primary %v while tables are exchanged", m.Primary())
	}
	for _, s := range submits {
		m.HandleMessage(me, s.Service, s.Payload, &fx)
	}
	theirs()
	m.HandleMessage(other, evs.Agreed, AppendJoin(nil, 9, "b", "g"), &fx)
	expect("a merge", "primary yes", "data", "view") // g keeps its view: all of it came from here

	transitional(evs.PrimaryNo, me)
	m.HandleMessage(me, evs.Agreed, mcast(1, "a", "late", 0x10, "g"), &fx)
	expect("a cut", "primary no", "signal", "data")
	regular(3, evs.PrimaryYes, me)
	own()
	expect("primary again", "primary yes", "view")

	// An exchange that is cut short claims nothing, though its configuration was primary.
	transitional(evs.PrimaryNo, me)
	expect("the end of that", "primary no")
	regular(4, evs.PrimaryYes, me, other)
	expect("an exchange")
	transitional(evs.PrimaryNo, me)
	regular(5, evs.PrimaryUnclaimed, me)
	own()
	expect("the rule is gone", "primary unclaimed")
}
