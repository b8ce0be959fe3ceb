// SPDX-License-Identifier: Apache-2.0

package membership

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"evensong/internal/proto/packet"
)

// P-31, H9: a change of the configuration is taken in every state, a membership change under way or not. It moves
// nothing by itself, its peers are spoken to from then on, and what was under way ends as it would have.
func TestReconfigureInEveryState(t *testing.T) {
	for _, s := range allStates {
		d := newDuet(t, 1, true)
		d.to(s)
		next := Config{Peers: []netip.AddrPort{addr(9), addr(12)}, TokenTimeout: time.Second, Facts: []byte("y"), Accelerated: true}
		d.do(func(now time.Duration, fx *Effects) { d.m.Reconfigure(now, next, fx) })
		d.state(s)
		d.steps()
		if s == StateStarting || s == StateLeaving || s == StateLeft {
			if len(d.fx.Sends) > 0 {
				t.Errorf("%v: something was sent", s)
			}
		}
		switch s {
		case StateCommit:
			d.storeAll(nil)
			d.commit(d.token(10, 2))
			d.steps(StepRecover)
		case StateRecover:
			d.installed(10)
			d.state(StateOperational)
		case StateStarting:
			d.start()
			d.state(StateGather)
		case StateLeaving:
			for d.m.State() != StateLeft {
				d.now = d.m.Deadline()
				d.do(d.m.Advance)
			}
			continue
		case StateLeft:
			continue
		case StateGather, StateOperational:
		}
		for range 20 { // what is sent to all reaches the new peer, with the new facts
			d.now = d.m.Deadline()
			d.do(d.m.Advance)
			for _, x := range d.fx.Sends {
				if x.Kind != packet.KindProbe && x.Kind != packet.KindJoin {
					continue
				}
				_, body, err := packet.Open(packet.ClusterID("c"), x.Bytes)
				if err != nil {
					t.Fatal(err)
				}
				j, err := packet.ParseJoin(body)
				if err != nil || !slices.Contains(x.To, addr(12)) || string(j.Facts) != "y" || j.TokenTimeout != 1000 || !j.Accelerated {
					t.Fatalf("%v: to %v: %+v, %v", s, x.To, j, err)
				}
				s = 0
			}
		}
		if s != 0 {
			t.Errorf("%v: nothing was sent", s)
		}
	}
}

// A difference is told again when either side changes it, and so is that it is over.
func TestDifferencesAfterReconfigure(t *testing.T) {
	d := newDuet(t, 1, false)
	d.start()
	says := func(facts string, timeout uint32) (kinds []NoteKind) {
		j := d.says(packet.StateGather)
		j.TokenTimeout, j.Facts = timeout, []byte(facts)
		d.join(j)
		for _, x := range d.fx.Notes {
			if x.Kind == NoteTimeoutDiffers || x.Kind == NoteFactsDiffer || x.Kind == NoteFactsAgree {
				kinds = append(kinds, x.Kind)
			}
		}
		return kinds
	}
	change := func(facts string, timeout time.Duration) {
		d.do(func(now time.Duration, fx *Effects) {
			d.m.Reconfigure(now, Config{Facts: []byte(facts), TokenTimeout: timeout}, fx)
		})
	}
	for i, step := range []struct {
		mine   string // not empty: what I change to
		theirs string
		millis uint32
		want   []NoteKind
	}{
		{"", "x", 250, nil},
		{"", "y", 250, []NoteKind{NoteFactsDiffer}},
		{"", "y", 250, nil},
		{"", "z", 250, []NoteKind{NoteFactsDiffer}},
		{"w", "z", 500, []NoteKind{NoteFactsDiffer}},
		{"", "w", 500, []NoteKind{NoteFactsAgree}},
		{"", "w", 250, []NoteKind{NoteTimeoutDiffers}},
		{"w", "w", 250, []NoteKind{}},
		{"v", "w", 500, []NoteKind{NoteFactsDiffer}},
	} {
		if step.mine != "" {
			change(step.mine, 500*time.Millisecond)
		}
		if got := says(step.theirs, step.millis); !slices.Equal(got, step.want) {
			t.Errorf("step %d: notes %v, want %v", i, got, step.want)
		}
	}
}

// lists lets daemon i read a file that lists the daemons of these numbers.
func (c *cluster) lists(i int, who ...int) {
	c.nodes[i].input(func(now time.Duration, fx *Effects) {
		next := c.nodes[i].m.cfg
		next.Listed = nil
		for _, k := range who {
			next.Listed = append(next.Listed, fmt.Sprintf("d%02d", k))
		}
		c.nodes[i].m.Reconfigure(now, next, fx)
	})
}

// noted reports whether daemon i has said kind about daemon k since a time.
func (c *cluster) noted(i int, kind NoteKind, k int, since time.Duration) bool {
	return slices.ContainsFunc(c.nodes[i].notes, func(n timed) bool {
		return n.Kind == kind && n.at >= since && n.Peer.Name == fmt.Sprintf("d%02d", k)
	})
}

// The first in ring order is removed from one file after the other, on a network that loses packets: nothing happens
// until the last, and then the others go on together in one change. It comes back when one file has it again. Everybody
// says what is the matter.
func TestListsChangeOneByOne(t *testing.T) {
	for seed := range uint64(20) {
		c := newCluster(t, seed, 5)
		c.loss = 0.02
		c.startAll(0)
		c.within(3*time.Second, "start", func() bool { return c.together(0, 1, 2, 3, 4) })
		for i := range 5 {
			c.lists(i, 0, 1, 2, 3, 4)
		}
		c.run(time.Second)
		begin := c.now
		order := c.rnd.Perm(4)
		for _, k := range order[:3] {
			c.lists(k+1, 1, 2, 3, 4)
			c.run(time.Duration(c.rnd.Int64N(int64(time.Second))))
		}
		c.run(time.Second)
		if !c.together(0, 1, 2, 3, 4) || c.installsSince(1, begin) != 0 {
			t.Fatalf("seed %d: the members changed although daemon %d still lists all", seed, order[3]+1)
		}
		if first := order[0] + 1; !c.noted(first, NoteStillListed, 0, begin) || !c.noted(0, NoteNotListed, first, begin) {
			t.Errorf("seed %d: not said that the lists differ", seed)
		}
		c.lists(order[3]+1, 1, 2, 3, 4)
		c.within(1500*time.Millisecond, "removal", func() bool { return c.together(1, 2, 3, 4) })
		c.run(3 * time.Second)
		for i := 1; i < 5; i++ {
			if n := c.installsSince(i, begin); n != 1 || !c.together(1, 2, 3, 4) {
				t.Errorf("seed %d: daemon %d installed %d configurations, want 1", seed, i, n)
			}
			if !c.noted(i, NoteKeptOut, 0, begin) {
				t.Errorf("seed %d: daemon %d does not say that it keeps one out", seed, i)
			}
		}
		if !c.together(0) {
			t.Errorf("seed %d: the removed daemon is not alone", seed)
		}
		c.lists(order[1]+1, 0, 1, 2, 3, 4)
		c.within(2*time.Second, "return", func() bool { return c.together(0, 1, 2, 3, 4) })
	}
}

// While token timeouts differ everybody has the patience of the slowest and the pace of the quickest, within bounds.
func TestPace(t *testing.T) {
	d := newDuet(t, 1, false)
	d.to(StateOperational)
	for _, x := range []struct {
		millis uint32
		want   Pace
	}{
		{250, Pace{250 * time.Millisecond, 250 * time.Millisecond}},
		{5000, Pace{5 * time.Second, 250 * time.Millisecond}},
		{50, Pace{250 * time.Millisecond, 50 * time.Millisecond}},
		{4_000_000_000, Pace{maxStretch * 250 * time.Millisecond, 250 * time.Millisecond}},
		{0, Pace{250 * time.Millisecond, 250 * time.Millisecond}},
	} {
		j := d.says(packet.StateOperational)
		j.TokenTimeout, j.ProbeInterval = x.millis, x.millis
		d.join(j)
		if got := d.m.Pace(); got != x.want {
			t.Errorf("a peer with %d ms: pace %v, want %v", x.millis, got, x.want)
		}
	}
	if d.now += time.Minute; true { // silence ends it
		d.do(d.m.Advance)
	}
	if got := d.m.Pace().Slowest; got != 250*time.Millisecond {
		t.Errorf("slowest %v after a minute of silence", got)
	}
}
