// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"evensong/internal/proto/evs"
)

// randomJoin has n daemons of every shape the encoding knows.
func randomJoin(rnd *rand.Rand, n int) *Join {
	bits := func() Bits {
		b := MakeBits(n)
		for i := range n {
			if rnd.IntN(2) == 0 {
				b.Set(i)
			}
		}
		return b
	}
	addrs := []netip.AddrPort{{}, netip.MustParseAddrPort("10.1.2.3:4803"), netip.MustParseAddrPort("[2001:db8::1]:65535")}
	j := &Join{State: JoinState(1 + rnd.IntN(int(stateEnd)-1)), Accelerated: rnd.IntN(2) == 0, TokenTimeout: rnd.Uint32(), ProbeInterval: rnd.Uint32(), Proposal: bits(), Listed: bits(), Facts: []byte(strings.Repeat("f", rnd.IntN(20)))}
	for i := range n {
		p := ProcInfo{
			ID:      evs.ProcID{Rank: uint16(rnd.Uint32()), Name: strings.Repeat("n", 1+rnd.IntN(30)), Inc: evs.Incarnation(rnd.Uint64() | 1)},
			State:   JoinState(1 + rnd.IntN(int(stateEnd)-1)),
			Addr:    addrs[rnd.IntN(len(addrs))],
			Version: rnd.Uint64(), RingSeq: rnd.Uint64(), Ring: evs.RingID{Seq: rnd.Uint64(), Rep: evs.Incarnation(rnd.Uint64())}, Heard: bits(),
		}
		if i == 0 {
			p.State = j.State
		}
		j.Procs = append(j.Procs, p)
	}
	return j
}

func TestJoinRoundTrip(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for _, n := range []int{1, 2, 7, 8, 9, 64, 200, MaxProcs} {
		j := randomJoin(rnd, n)
		b := AppendJoin(nil, j)
		got, err := ParseJoin(b)
		if err != nil {
			t.Fatalf("%d procs: %v", n, err)
		}
		if !reflect.DeepEqual(got, j) {
			t.Fatalf("%d procs: got %+v, want %+v", n, got, j)
		}
	}
}

func TestJoinRefused(t *testing.T) {
	rnd := rand.New(rand.NewPCG(2, 1))
	good := AppendJoin(nil, randomJoin(rnd, 3))
	for n := range len(good) {
		if _, err := ParseJoin(good[:n]); err == nil {
			t.Fatalf("accepted %d of %d bytes", n, len(good))
		}
	}
	for name, spoil := range map[string]func(j *Join){
		"state zero":          func(j *Join) { j.State, j.Procs[0].State = 0, 0 },
		"state unknown":       func(j *Join) { j.State, j.Procs[0].State = stateEnd, stateEnd },
		"state differs":       func(j *Join) { j.State, j.Procs[0].State = StateGather, StateOperational },
		"row's state unknown": func(j *Join) { j.Procs[2].State = stateEnd },
		"no incarnation":      func(j *Join) { j.Procs[1].ID.Inc = 0 },
		"no name":             func(j *Join) { j.Procs[1].ID.Name = "" },
		"nobody":              func(j *Join) { j.Procs, j.Proposal, j.Listed = nil, nil, nil },
		"facts too long":      func(j *Join) { j.Facts = make([]byte, MaxFacts+1) },
	} {
		j := randomJoin(rnd, 3)
		spoil(j)
		if _, err := ParseJoin(AppendJoin(nil, j)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := ParseJoin(append(good, 0)); err == nil {
		t.Error("accepted with a byte too many")
	}
	// A forged count must not make the parser allocate.
	forged := []byte{byte(StateGather), 0, 255, 0, 0, 0, 0, 0}
	if n := testing.AllocsPerRun(10, func() { ParseJoin(forged) }); n > 0 {
		t.Errorf("%v allocations for a forged count", n)
	}
}

func randomCommit(rnd *rand.Rand, n int) *Commit {
	c := &Commit{Round: uint8(1 + rnd.IntN(2)), Accelerated: rnd.IntN(2) == 0}
	for i := range n {
		e := CommitEntry{ID: evs.ProcID{Rank: uint16(i), Name: "d", Inc: evs.Incarnation(rnd.Uint64() | 1)}, Addr: netip.MustParseAddrPort("10.1.2.3:4803"), Filled: rnd.IntN(2) == 0,
			OldRing: evs.RingID{Seq: rnd.Uint64(), Rep: evs.Incarnation(rnd.Uint64())}, OldARU: rnd.Uint64(), OldHigh: rnd.Uint64(), OldStable: rnd.Uint64()}
		if rnd.IntN(2) == 0 {
			e.Obligation = make(Bits, 1+rnd.IntN(MaxProcs/8))
			e.Obligation.Set(rnd.IntN(len(e.Obligation) * 8))
		}
		if e.Filled && rnd.IntN(2) == 0 {
			e.Rule, e.Vouches = rnd.Uint64()|1, rnd.IntN(2) == 0
		}
		c.Entries = append(c.Entries, e)
	}
	c.Ring = evs.RingID{Seq: rnd.Uint64(), Rep: c.Entries[0].ID.Inc}
	return c
}

func TestCommitRoundTrip(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 1))
	for _, n := range []int{1, 2, 9, 128, MaxProcs} {
		c := randomCommit(rnd, n)
		b := AppendCommit(nil, c)
		got, err := ParseCommit(b)
		if err != nil {
			t.Fatalf("%d members: %v", n, err)
		}
		if !reflect.DeepEqual(got, c) {
			t.Fatalf("%d members: got %+v, want %+v", n, got, c)
		}
		clear(b) // everything was copied
		if !reflect.DeepEqual(got, c) {
			t.Fatal("the token aliases its packet")
		}
	}
}

func TestCommitRefused(t *testing.T) {
	rnd := rand.New(rand.NewPCG(4, 1))
	good := AppendCommit(nil, randomCommit(rnd, 3))
	for n := range len(good) {
		if _, err := ParseCommit(good[:n]); err == nil {
			t.Fatalf("accepted %d of %d bytes", n, len(good))
		}
	}
	for name, spoil := range map[string]func(c *Commit){
		"round zero":      func(c *Commit) { c.Round = 0 },
		"round three":     func(c *Commit) { c.Round = 3 },
		"nobody":          func(c *Commit) { c.Entries = nil },
		"not ring order":  func(c *Commit) { c.Entries[1], c.Entries[2] = c.Entries[2], c.Entries[1] },
		"somebody twice":  func(c *Commit) { c.Entries[2] = c.Entries[1] },
		"another rep":     func(c *Commit) { c.Ring.Rep++ },
		"no incarnation":  func(c *Commit) { c.Entries[1].ID.Inc = 0 },
		"long obligation": func(c *Commit) { c.Entries[1].Obligation = make(Bits, MaxProcs/8+1) },
		"early rule":      func(c *Commit) { c.Entries[1].Filled, c.Entries[1].Rule = false, 1 },
		"vouches by none": func(c *Commit) { c.Entries[1].Filled, c.Entries[1].Rule, c.Entries[1].Vouches = true, 0, true },
	} {
		c := randomCommit(rnd, 3)
		spoil(c)
		if _, err := ParseCommit(AppendCommit(nil, c)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// FuzzJoin: what is accepted encodes to the same bytes.
func FuzzJoin(f *testing.F) {
	rnd := rand.New(rand.NewPCG(5, 1))
	for _, n := range []int{1, 3, 20} {
		f.Add(AppendJoin(nil, randomJoin(rnd, n)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		j, err := ParseJoin(b)
		if err != nil {
			return
		}
		again := AppendJoin(nil, j)
		k, err := ParseJoin(again)
		if err != nil || !reflect.DeepEqual(j, k) {
			t.Fatalf("%v: %+v and %+v", err, j, k)
		}
		if len(again) == len(b) && !bytes.Equal(again, b) {
			t.Fatal("another encoding of the same Join")
		}
	})
}

func FuzzCommit(f *testing.F) {
	rnd := rand.New(rand.NewPCG(6, 1))
	for _, n := range []int{1, 3, 20} {
		f.Add(AppendCommit(nil, randomCommit(rnd, n)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseCommit(b)
		if err != nil {
			return
		}
		if _, err := ParseCommit(AppendCommit(nil, c)); err != nil {
			t.Fatalf("does not survive encoding: %+v", c)
		}
	})
}
