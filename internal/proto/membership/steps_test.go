// SPDX-License-Identifier: Apache-2.0

package membership

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/packet"
)

// duet is one machine, "m", and a peer that the test speaks for. The peer's rank says who is representative.
type duet struct {
	t       *testing.T
	m       *Machine
	now     time.Duration
	fx      Effects
	peer    evs.ProcID
	version uint64
	ring    evs.RingID // the peer's
	seq     uint64     // the peer's highest
}

func newDuet(t *testing.T, peerRank uint16, stable bool) *duet {
	me := evs.ProcID{Rank: 5, Name: "m", Inc: 55}
	m, err := New(Config{Me: me, Peers: []netip.AddrPort{addr(9)}, Stable: stable, Facts: []byte("x")}, packet.NewSealer("c", me), rand.New(rand.NewPCG(1, 1)), 0)
	if err != nil {
		t.Fatal(err)
	}
	d := &duet{t: t, m: m, peer: evs.ProcID{Rank: peerRank, Name: "p", Inc: 99}}
	d.ring, d.seq = evs.RingID{Seq: 3, Rep: 99}, 3
	return d
}

// do runs one input after 1 ms.
func (d *duet) do(f func(now time.Duration, fx *Effects)) {
	d.now += time.Millisecond
	d.fx.Reset()
	f(d.now, &d.fx)
	if err := d.m.CheckInvariants(); err != nil {
		d.t.Fatal(err)
	}
}

func (d *duet) start() {
	d.do(d.m.Start)
	d.storeAll(nil)
}

func (d *duet) storeAll(err error) {
	for _, s := range append([]Store(nil), d.fx.Stores...) {
		d.do(func(now time.Duration, fx *Effects) { d.m.HandleStored(now, s.ID, err, fx) })
	}
}

// says makes the peer's packet: it hears us, and proposes us both unless it probes.
func (d *duet) says(state packet.JoinState) *packet.Join {
	d.version++
	both := packet.Bits{3}
	j := &packet.Join{State: state, TokenTimeout: 250, Facts: []byte("x"), Proposal: packet.Bits{0}, Procs: []packet.ProcInfo{
		{ID: d.peer, State: state, Version: d.version, RingSeq: d.seq, Ring: d.ring, Heard: both},
		{ID: d.m.cfg.Me, State: packet.StateGather, Version: 1, Heard: both},
	}}
	if state == packet.StateGather {
		j.Proposal = both
	}
	return j
}

func (d *duet) join(j *packet.Join) {
	d.do(func(now time.Duration, fx *Effects) {
		d.m.HandleJoin(now, addr(9), j.State == packet.StateOperational || j.State == packet.StateForming, j, fx)
	})
}

func (d *duet) commit(c *packet.Commit) {
	d.do(func(now time.Duration, fx *Effects) {
		d.m.HandleCommit(now, addr(9), c, packet.CommitEntry{OldRing: d.m.ring, OldARU: 7}, fx)
	})
}

// token is a Commit token for both, made by the peer as representative.
func (d *duet) token(seq uint64, round uint8) *packet.Commit {
	c := &packet.Commit{Ring: evs.RingID{Seq: seq, Rep: d.peer.Inc}, Round: round, Entries: []packet.CommitEntry{
		{ID: d.peer, Filled: true, OldRing: d.ring}, {ID: d.m.cfg.Me, Addr: addr(5)}}}
	if round == 2 {
		c.Entries[1].Filled, c.Entries[1].OldRing, c.Entries[1].OldARU = true, d.m.ring, 7
	}
	return c
}

func (d *duet) state(want State) {
	d.t.Helper()
	if got := d.m.State(); got != want {
		d.t.Fatalf("state %v, want %v; notes %+v", got, want, d.fx.Notes)
	}
}

func (d *duet) steps(want ...StepKind) {
	d.t.Helper()
	var got []StepKind
	for _, s := range d.fx.Steps {
		got = append(got, s.Kind)
	}
	if len(got) != len(want) {
		d.t.Fatalf("steps %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			d.t.Fatalf("steps %v, want %v", got, want)
		}
	}
}

func (d *duet) dropped(want Reason) {
	d.t.Helper()
	for _, n := range d.fx.Notes {
		if n.Kind == NoteDrop && n.Reason == want {
			return
		}
	}
	d.t.Fatalf("no drop for %v in %+v", want, d.fx.Notes)
}

// to brings the machine to a state, with the peer as representative.
func (d *duet) to(want State) {
	d.t.Helper()
	if want == StateStarting {
		return
	}
	d.start()
	if want == StateLeaving || want == StateLeft {
		d.do(d.m.Leave)
		for want == StateLeft && d.m.State() != StateLeft {
			d.now = d.m.Deadline()
			d.do(d.m.Advance)
		}
	}
	if want == StateCommit || want == StateRecover || want == StateOperational {
		d.join(d.says(packet.StateGather))
		d.commit(d.token(10, 1))
		d.state(StateCommit)
		d.steps(StepPromise)
		if want != StateCommit {
			d.storeAll(nil)
			d.commit(d.token(10, 2))
			d.steps(StepRecover)
		}
		if want == StateOperational {
			d.installed(10)
		}
	}
	d.state(want)
}

func (d *duet) installed(seq uint64) {
	conf := &evs.Configuration{ID: evs.RegularID(evs.RingID{Seq: seq, Rep: d.peer.Inc}), Members: []evs.ProcID{d.peer, d.m.cfg.Me}}
	d.do(func(now time.Duration, fx *Effects) { d.m.HandleInstalled(now, conf, fx) })
	d.ring, d.seq = conf.ID.New, seq
}

var allStates = []State{StateStarting, StateGather, StateCommit, StateRecover, StateOperational, StateLeaving, StateLeft}

// TestStateTable walks the table of the package doc: the state after each input in each state.
func TestStateTable(t *testing.T) {
	lost := func(d *duet) {
		d.do(func(now time.Duration, fx *Effects) { d.m.HandleTokenLost(now, ReasonTokenLost, fx) })
	}
	inputs := []struct {
		name string
		do   func(d *duet)
		want [stateCount]State // zero: unchanged
	}{
		{"probe", func(d *duet) { d.join(d.says(packet.StateOperational)) }, [stateCount]State{}},
		{"old join", func(d *duet) { d.seq = 2; d.join(d.says(packet.StateGather)) }, [stateCount]State{}},
		{"join of one who left", func(d *duet) { d.seq = 10; d.join(d.says(packet.StateGather)) },
			[stateCount]State{StateCommit: StateGather, StateRecover: StateGather, StateOperational: StateGather}},
		{"good-bye", func(d *duet) { d.join(d.says(packet.StateLeaving)) },
			// Alone we are our own representative at once, but a daemon that has just started first waits for others.
			[stateCount]State{StateCommit: StateGather, StateRecover: StateGather, StateOperational: StateCommit}},
		{"own packet", func(d *duet) { j := d.says(packet.StateGather); j.Procs[0].ID = d.m.cfg.Me; d.join(j) }, [stateCount]State{}},
		{"commit, stale", func(d *duet) { d.commit(d.token(1, 1)) }, [stateCount]State{}},
		{"commit without me", func(d *duet) { c := d.token(30, 1); c.Entries = c.Entries[:1]; d.commit(c) }, [stateCount]State{}},
		{"commit again", func(d *duet) { d.commit(d.token(10, 1)) }, [stateCount]State{}},
		{"commit, higher number", func(d *duet) { d.commit(d.token(11, 1)) }, [stateCount]State{}},
		{"commit, second rotation", func(d *duet) { d.commit(d.token(10, 2)) }, [stateCount]State{StateCommit: StateRecover}},
		{"token lost", lost, [stateCount]State{StateRecover: StateGather, StateOperational: StateGather}},
		{"suspect", func(d *duet) {
			d.do(func(now time.Duration, fx *Effects) { d.m.Suspect(now, d.peer, ReasonFailedToReceive, fx) })
		}, [stateCount]State{StateCommit: StateGather, StateRecover: StateGather, StateOperational: StateCommit}},
		{"token", func(d *duet) {
			d.do(func(now time.Duration, fx *Effects) { d.m.HandleToken(now, evs.RingID{Seq: 10, Rep: 99}, fx) })
		}, [stateCount]State{}},
		{"leave", func(d *duet) { d.do(d.m.Leave) }, [stateCount]State{StateStarting: StateLeaving, StateGather: StateLeaving,
			StateCommit: StateLeaving, StateRecover: StateLeaving, StateOperational: StateLeaving}},
	}
	for _, in := range inputs {
		for _, s := range allStates {
			t.Run(in.name+"/"+s.String(), func(t *testing.T) {
				d := newDuet(t, 1, false)
				d.to(s)
				in.do(d)
				want := in.want[s]
				if want == 0 {
					want = s
				}
				d.state(want)
			})
		}
	}
	for _, s := range allStates {
		t.Run("installed/"+s.String(), func(t *testing.T) {
			d := newDuet(t, 1, false)
			d.to(s)
			defer func() {
				impossible := s == StateStarting || s == StateGather || s == StateCommit || s == StateOperational
				if r := recover(); (r != nil) != impossible {
					t.Errorf("panic %v", r)
				}
			}()
			d.installed(10)
		})
	}
}

// P-25: a delayed Join of a member, from before the ring, does not break it; one from after it does. P-24: nor does a
// repeated one.
func TestStaleJoinOfMember(t *testing.T) {
	d := newDuet(t, 1, false)
	d.to(StateGather)
	old := d.says(packet.StateGather)
	again := d.says(packet.StateGather)
	d.join(again)
	d.commit(d.token(10, 1))
	d.commit(d.token(10, 2))
	d.installed(10)
	d.join(old)
	d.dropped(ReasonStale)
	d.join(again)
	d.dropped(ReasonStale)
	d.state(StateOperational)
	d.seq = 10
	d.join(d.says(packet.StateGather))
	d.state(StateGather)
	d.steps(StepGather)
}

// P-14: the token of an earlier attempt is known by its number, in either rotation.
func TestCommitOfEarlierAttempt(t *testing.T) {
	d := newDuet(t, 1, false)
	d.to(StateCommit)
	d.commit(d.token(10, 1))
	d.dropped(ReasonStale)
	// The representative gave up and forms the same membership again.
	d.commit(d.token(11, 1))
	d.steps(StepPromise)
	d.commit(d.token(10, 2))
	d.dropped(ReasonStale)
	d.state(StateCommit)
	d.commit(d.token(11, 2))
	d.state(StateRecover)
	d.commit(d.token(12, 1))
	d.dropped(ReasonWrongState)
}

// A second rotation that shows another entry than the one promised is refused: it would break the promise (8.4.8).
func TestCommitWithForgedEntry(t *testing.T) {
	d := newDuet(t, 1, false)
	d.to(StateCommit)
	c := d.token(10, 2)
	c.Entries[1].OldARU = 8
	d.commit(c)
	d.dropped(ReasonBadToken)
	d.state(StateCommit)
}

// EVS-8: the number is on stable storage before the second rotation is forwarded, and a ring that cannot be stored is
// refused.
func TestStoreBeforeForward(t *testing.T) {
	for _, err := range []error{nil, errors.New("disk full")} {
		d := newDuet(t, 1, true)
		d.start()
		d.join(d.says(packet.StateGather))
		d.commit(d.token(1000, 1))
		if len(d.fx.Stores) != 1 || d.fx.Stores[0].RingSeq != 1000+defaultStoreAhead || len(d.fx.Sends) != 1 {
			t.Fatalf("first rotation: %+v", d.fx)
		}
		stores := append([]Store(nil), d.fx.Stores...)
		d.commit(d.token(1000, 2))
		d.state(StateCommit)
		if len(d.fx.Sends) != 0 {
			t.Fatal("forwarded before stored")
		}
		d.fx.Stores = stores
		d.storeAll(err)
		if err == nil {
			d.state(StateRecover)
			d.steps(StepRecover)
			continue
		}
		d.state(StateGather)
		d.commit(d.token(1001, 1)) // not now
		d.state(StateGather)
		d.dropped(ReasonWrongState)
	}
}

// The first configuration is stored before it is installed (EVS-18), and tried again after a failure.
func TestStartStores(t *testing.T) {
	d := newDuet(t, 1, true)
	d.do(d.m.Start)
	d.steps()
	d.storeAll(errors.New("read-only"))
	d.state(StateStarting)
	d.now = d.m.Deadline()
	d.do(d.m.Advance)
	d.storeAll(nil)
	d.steps(StepSingleton, StepGather)
}

// The representative makes its token, numbers it above all that members know, and starts the ring when the token has
// been round twice.
func TestRepresentative(t *testing.T) {
	d := newDuet(t, 9, false)
	d.start()
	d.seq = 41
	d.join(d.says(packet.StateGather)) // one who is alone, as we are: all peers speak, no need to wait
	d.steps(StepCommit)
	c := d.fx.Steps[0].Commit
	if c.Ring.Seq != 42 || c.Ring.Rep != 55 || len(c.Entries) != 2 || c.Entries[1].Addr != addr(9) {
		t.Fatalf("%+v", c)
	}
	d.commit(c)
	d.steps(StepPromise)
	back := *c
	back.Entries = append([]packet.CommitEntry(nil), c.Entries...)
	d.commit(&back) // not filled by the peer: my own copy, reflected
	d.dropped(ReasonStale)
	first := back
	first.Entries = append([]packet.CommitEntry(nil), c.Entries...)
	first.Entries[1].Filled = true
	d.commit(&first)
	d.steps()
	if len(d.fx.Sends) != 1 {
		t.Fatal("no second rotation")
	}
	d.now = d.m.Deadline()
	d.do(d.m.Advance)
	if len(d.fx.Sends) != 2 || d.fx.Sends[0].Kind != packet.KindCommit || d.fx.Sends[1].Kind != packet.KindProbe {
		t.Fatalf("not repeated: %+v", d.fx.Sends)
	}
	second := first
	d.commit(&second)
	d.steps(StepRecover)
	if s := d.fx.Steps[0]; s.Me != 0 || s.Addrs[1] != addr(9) {
		t.Fatalf("%+v", s)
	}
}

func TestDifferencesNotedOnce(t *testing.T) {
	d := newDuet(t, 1, false)
	d.start()
	count := func() (n int) {
		j := d.says(packet.StateGather)
		j.TokenTimeout, j.Accelerated, j.Facts = 1000, true, []byte("y")
		d.join(j)
		for _, x := range d.fx.Notes {
			if x.Kind == NoteTimeoutDiffers || x.Kind == NoteVariantDiffers || x.Kind == NoteFactsDiffer {
				n++
			}
		}
		return n
	}
	if a, b := count(), count(); a != 3 || b != 0 {
		t.Fatalf("%d, then %d notes", a, b)
	}
}

// EVS-18, P-20: a new incarnation takes the old one's place, never beside it; an old packet does not turn it back, but
// a living one that goes on speaking does.
func TestNewIncarnation(t *testing.T) {
	d := newDuet(t, 1, false)
	d.to(StateOperational)
	old := d.peer
	late := d.says(packet.StateOperational)
	d.peer.Inc, d.version, d.ring, d.seq = 100, 0, evs.RingID{Seq: 11, Rep: 100}, 11
	d.join(d.says(packet.StateGather))
	if s := d.m.State(); s == StateOperational {
		t.Fatal("still with the dead")
	}
	d.join(late)
	d.dropped(ReasonDeadSender)
	d.peer, d.version = old, 100
	d.now += time.Minute
	for range reviveAfter - 1 {
		d.join(d.says(packet.StateOperational))
	}
	if r := d.m.lookup(old.Inc); r.dead {
		t.Fatal("the one who speaks is still taken for dead")
	}
}

func TestSameName(t *testing.T) {
	d := newDuet(t, 1, false)
	d.start()
	d.peer.Name = "m"
	d.join(d.says(packet.StateGather))
	if n := d.fx.Notes; len(n) != 1 || n[0].Kind != NoteSameName {
		t.Fatalf("%+v", n)
	}
	d.join(d.says(packet.StateGather))
	if n := d.fx.Notes; len(n) != 0 {
		t.Fatalf("noted again: %+v", n)
	}
}

// The table is bounded: what does not fit is dropped by name, and members stay.
func TestTableFull(t *testing.T) {
	d := newDuet(t, 1, false)
	d.to(StateOperational)
	member := d.peer
	for i := range 400 {
		d.peer = evs.ProcID{Name: strings.Repeat("x", 250) + string(rune('a'+i%26)) + string(rune('a'+i/26)), Inc: evs.Incarnation(1000 + i)}
		d.ring = evs.RingID{Seq: 500, Rep: d.peer.Inc}
		j := d.says(packet.StateForming)
		d.do(func(now time.Duration, fx *Effects) { d.m.HandleJoin(now, addr(1000+i), true, j, fx) })
		for _, s := range d.fx.Sends {
			if len(s.Bytes) > packet.MaxDatagram {
				t.Fatalf("packet of %d bytes", len(s.Bytes))
			}
		}
	}
	d.dropped(ReasonTableFull)
	if len(d.m.order) > maxRows || d.m.lookup(member.Inc) == nil {
		t.Fatalf("%d rows", len(d.m.order))
	}
	d.now += time.Hour
	d.join(d.says(packet.StateForming)) // the silent make room
}

func TestValidate(t *testing.T) {
	good := Config{Me: evs.ProcID{Name: "a", Inc: 1}}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	bad := Config{Peers: []netip.AddrPort{{}}, TokenTimeout: time.Millisecond, ConsensusTimeout: 1, CommitTimeout: 1, ReachTimeout: 1, BackoffMin: time.Hour,
		ProbeInterval: -1, Facts: make([]byte, packet.MaxFacts+1)}
	err := bad.Validate()
	for _, want := range []string{"incarnation", "name", "peer address", "token timeout", "consensus", "commit", "reach", "back-off", "probe", "facts"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %q in %v", want, err)
		}
	}
}

// Every enumeration has its words.
func TestNames(t *testing.T) {
	for r := range reasonCount {
		if r.String() == "" {
			t.Errorf("reason %d has no text", r)
		}
	}
	for _, s := range allStates {
		if s.String() == "" || strings.Contains(s.String(), "(") {
			t.Errorf("state %d has no name", s)
		}
	}
}
