// SPDX-License-Identifier: Apache-2.0

package membership

import (
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
