// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"encoding/binary"
	"net/netip"

	"evensong/internal/proto/evs"
)

// MaxProcs bounds the daemons that one Join or Commit can name.
const MaxProcs = 256

// MaxName bounds a daemon's name in bytes. The client protocol of the original allows 19; ours may be longer.
const MaxName = 255

// MaxFacts bounds what a daemon says about its configuration in a Join, in bytes.
const MaxFacts = 1024

// Bits is a set of small numbers: bit i of byte i/8.
type Bits []byte

// MakeBits returns an empty set for numbers below n.
func MakeBits(n int) Bits { return make(Bits, (n+7)/8) }

// Has reports whether i is in the set; numbers beyond its end are not.
func (b Bits) Has(i int) bool { return i/8 < len(b) && b[i/8]&(1<<(i%8)) != 0 }

// Set puts i, which must be within the set's size, into the set.
func (b Bits) Set(i int) { b[i/8] |= 1 << (i % 8) }

// ProcInfo is what a Join tells about one daemon: itself first, then whomever it knows of.
type ProcInfo struct {
	ID      evs.ProcID
	State   JoinState      // what ID is doing
	Addr    netip.AddrPort // where the sender reaches it; invalid for the sender itself
	Version uint64         // of this row: counts the Joins and probes that ID has sent
	RingSeq uint64         // highest ring sequence number that ID knew of, attempted ones included
	Ring    evs.RingID     // ring that ID has installed
	Heard   Bits           // whom ID hears, as indices into Join.Procs
}

// JoinState is what the sender of a Join is doing.
type JoinState uint8

const (
	// StateOperational is sent by probes.
	StateOperational JoinState = iota + 1
	// StateGather is sent while gathering.
	StateGather
	// StateLeaving says good-bye: the sender wants to be in no ring any more.
	StateLeaving
	// StateForming is sent by probes between Gather and Operational: the sender has promised itself to a ring to be.
	StateForming

	stateEnd
)

// Join carries a daemon's view of who could form a ring. Procs[0] is the sender. Proposal is the membership it would
// agree to, as indices into Procs. Probes have the same body with an empty proposal.
//
//	+0 state 1 · parameters' flags 1 · number of procs 2 · token timeout, ms 4
//	+8 probe interval, ms 4
//	+12 proposal, one bit per proc, ⌈n/8⌉ bytes · listed, likewise
//	   procs: rank 2 · state 1 · incarnation 8 · version 8 · ring seq 8 · ring 16 · name length 1, name
//	          · address length 1 (0, 4, 16), address, port 2 · heard ⌈n/8⌉
//	   facts: length 2, bytes
//
// The state of Procs[0] is that of the Join. Facts describe the sender's configuration to the shell, which compares them and reports differences by name.
type Join struct {
	State         JoinState
	Accelerated   bool
	TokenTimeout  uint32 // milliseconds
	ProbeInterval uint32 // milliseconds: how often the sender probes at least
	Proposal      Bits
	Listed        Bits // whom the sender's configuration lists, as indices into Procs; one that takes everybody lists all
	Procs         []ProcInfo
	Facts         []byte
}

// minProcBytes is what a daemon takes in a Join at least: a name of one byte, no address, one byte of heard bits. It
// bounds what a forged count can make the parser allocate.
const minProcBytes = 2 + 1 + 8 + 8 + 8 + 16 + 2 + 1 + 1

// AppendJoin appends j's body to b. Heard, Proposal and Listed must have the size of MakeBits(len(j.Procs)).
func AppendJoin(b []byte, j *Join) []byte {
	le := binary.LittleEndian
	var flags byte
	if j.Accelerated {
		flags = 1
	}
	b = append(b, byte(j.State), flags)
	b = le.AppendUint16(b, uint16(len(j.Procs)))
	b = le.AppendUint32(b, j.TokenTimeout)
	b = le.AppendUint32(b, j.ProbeInterval)
	b = append(b, j.Proposal...)
	b = append(b, j.Listed...)
	for i := range j.Procs {
		p := &j.Procs[i]
		b = le.AppendUint16(b, p.ID.Rank)
		b = append(b, byte(p.State))
		b = le.AppendUint64(b, uint64(p.ID.Inc))
		b = le.AppendUint64(b, p.Version)
		b = le.AppendUint64(b, p.RingSeq)
		b = le.AppendUint64(b, p.Ring.Seq)
		b = le.AppendUint64(b, uint64(p.Ring.Rep))
		b = appendName(b, p.ID.Name)
		b = appendAddr(b, p.Addr)
		b = append(b, p.Heard...)
	}
	b = le.AppendUint16(b, uint16(len(j.Facts)))
	return append(b, j.Facts...)
}

// ParseJoin reads the body of a Join or probe. Names are copied; Heard, Proposal, Listed and Facts alias body.
func ParseJoin(body []byte) (*Join, error) {
	if len(body) < 8 || len(body) < minProcBytes*int(binary.LittleEndian.Uint16(body[2:])) {
		return nil, ErrBody // before anything is allocated
	}
	j := &Join{}
	if err := ReadJoin(body, j); err != nil {
		return nil, err
	}
	return j, nil
}

// ReadJoin is ParseJoin into a Join whose memory is used again; names that are as they were are not copied anew. After an
// error j is of no use but to be read into.
func ReadJoin(body []byte, j *Join) error {
	r := reader{b: body}
	state, flags := JoinState(r.u8()), r.u8()
	n := int(r.u16())
	timeout, probe := r.u32(), r.u32()
	if r.bad || state == 0 || state >= stateEnd || flags > 1 || n == 0 || n > MaxProcs || n*minProcBytes > len(body) {
		return ErrBody
	}
	if cap(j.Procs) < n {
		j.Procs = make([]ProcInfo, n)
	}
	*j = Join{State: state, Accelerated: flags == 1, TokenTimeout: timeout, ProbeInterval: probe, Procs: j.Procs[:n]}
	j.Proposal, j.Listed = r.bytes((n+7)/8), r.bytes((n+7)/8)
	for i := range j.Procs {
		p := &j.Procs[i]
		p.ID.Rank = r.u16()
		p.State = JoinState(r.u8())
		p.ID.Inc = evs.Incarnation(r.u64())
		p.Version = r.u64()
		p.RingSeq = r.u64()
		p.Ring.Seq = r.u64()
		p.Ring.Rep = evs.Incarnation(r.u64())
		if name := r.bytes(int(r.u8())); string(name) != p.ID.Name {
			p.ID.Name = string(name)
		}
		p.Addr = r.addr()
		p.Heard = r.bytes((n + 7) / 8)
		if r.bad || p.ID.Inc == 0 || p.ID.Name == "" || p.State == 0 || p.State >= stateEnd || i == 0 && p.State != state {
			return ErrBody
		}
	}
	k := int(r.u16())
	if k > MaxFacts {
		return ErrBody
	}
	j.Facts = r.bytes(k)
	if r.bad || len(r.b) != 0 {
		return ErrBody
	}
	return nil
}

// CommitEntry is what one member of a ring to be says about the ring it comes from. Filled in once, it is a promise:
// from then on nothing of the old ring changes it (guarantees 8.3, 8.4.8).
type CommitEntry struct {
	ID         evs.ProcID
	Addr       netip.AddrPort // where the representative reaches it
	Filled     bool
	OldRing    evs.RingID
	OldARU     uint64
	OldHigh    uint64 // highest position held
	OldStable  uint64 // the larger of its stable mark and the highest position it delivered as Safe
	Obligation Bits   // the obligation set, as indices into the old ring's members

	// Rule identifies the list of voters by which this member judges whether the ring to be is primary; zero: it has no such
	// rule. Vouches says that the ring has the majority which it asks for.
	Rule    uint64
	Vouches bool
}

// Commit is the Commit token. It goes round twice in ring order: to collect the entries, and to show them to all.
//
//	+0 ring sequence 8 · ring representative 8 · round 1 · flags 1 · number of members 2
//	   members: rank 2 · incarnation 8 · name · address · flags 1 · old ring 16 · aru 8 · high 8 · stable 8
//	            · obligation length 1, bytes · rule 8, with flag 2 only
//
// Flags of a member: 1 filled, 2 it has a rule for primary configurations, 4 it vouches for this one.
type Commit struct {
	Ring        evs.RingID
	Round       uint8 // 1 or 2
	Accelerated bool  // the variant that the ring will run: decided by the representative, so never mixed (8.2.6)
	Entries     []CommitEntry
}

// AppendCommit appends c's body to b.
func AppendCommit(b []byte, c *Commit) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(b, c.Ring.Seq)
	b = le.AppendUint64(b, uint64(c.Ring.Rep))
	var flags byte
	if c.Accelerated {
		flags = 1
	}
	b = append(b, c.Round, flags)
	b = le.AppendUint16(b, uint16(len(c.Entries)))
	for i := range c.Entries {
		e := &c.Entries[i]
		b = le.AppendUint16(b, e.ID.Rank)
		b = le.AppendUint64(b, uint64(e.ID.Inc))
		b = appendName(b, e.ID.Name)
		b = appendAddr(b, e.Addr)
		var entry byte
		if e.Filled {
			entry = entryFilled
		}
		if e.Rule != 0 {
			entry |= entryRule
		}
		if e.Vouches {
			entry |= entryVouches
		}
		b = append(b, entry)
		b = le.AppendUint64(b, e.OldRing.Seq)
		b = le.AppendUint64(b, uint64(e.OldRing.Rep))
		b = le.AppendUint64(b, e.OldARU)
		b = le.AppendUint64(b, e.OldHigh)
		b = le.AppendUint64(b, e.OldStable)
		b = append(b, byte(len(e.Obligation)))
		b = append(b, e.Obligation...)
		if e.Rule != 0 {
			b = le.AppendUint64(b, e.Rule)
		}
	}
	return b
}

// Flags of an entry on the wire.
const (
	entryFilled  = 1
	entryRule    = 2
	entryVouches = 4
)

// ParseCommit reads the body of a Commit token. Everything is copied: the token is kept.
func ParseCommit(body []byte) (*Commit, error) {
	r := reader{b: body}
	c := &Commit{Ring: evs.RingID{Seq: r.u64(), Rep: evs.Incarnation(r.u64())}, Round: r.u8()}
	flags := r.u8()
	n := int(r.u16())
	if r.bad || c.Round < 1 || c.Round > 2 || flags > 1 || n == 0 || n > MaxProcs || n*53 > len(body) {
		return nil, ErrBody
	}
	c.Accelerated = flags == 1
	c.Entries = make([]CommitEntry, n)
	for i := range c.Entries {
		e := &c.Entries[i]
		e.ID.Rank = r.u16()
		e.ID.Inc = evs.Incarnation(r.u64())
		e.ID.Name = r.name()
		e.Addr = r.addr()
		entry := r.u8()
		e.Filled, e.Vouches = entry&entryFilled != 0, entry&entryVouches != 0
		e.OldRing.Seq = r.u64()
		e.OldRing.Rep = evs.Incarnation(r.u64())
		e.OldARU, e.OldHigh, e.OldStable = r.u64(), r.u64(), r.u64()
		e.Obligation = append(Bits(nil), r.bytes(int(r.u8()))...)
		if entry&entryRule != 0 {
			if e.Rule = r.u64(); e.Rule == 0 {
				return nil, ErrBody
			}
		}
		if r.bad || entry > entryFilled|entryRule|entryVouches || e.ID.Inc == 0 || e.ID.Name == "" || len(e.Obligation) > MaxProcs/8 {
			return nil, ErrBody
		}
		if e.Rule != 0 && !e.Filled || e.Vouches && e.Rule == 0 {
			return nil, ErrBody // nobody has a rule before he has said anything, or vouches without one
		}
		if i > 0 && c.Entries[i-1].ID.Compare(e.ID) >= 0 {
			return nil, ErrBody // not in ring order, or somebody twice
		}
	}
	if len(r.b) != 0 || c.Entries[0].ID.Inc != c.Ring.Rep {
		return nil, ErrBody
	}
	return c, nil
}

func appendName(b []byte, s string) []byte { return append(append(b, byte(len(s))), s...) }

func appendAddr(b []byte, a netip.AddrPort) []byte {
	if !a.IsValid() {
		return append(b, 0)
	}
	ip := a.Addr().Unmap().WithZone("")
	b = append(b, byte(ip.BitLen()/8))
	b = append(b, ip.AsSlice()...)
	return binary.LittleEndian.AppendUint16(b, a.Port())
}

// reader takes fields off a body; past the end it sets bad and returns zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) bytes(n int) []byte {
	if r.bad || n > len(r.b) {
		r.bad = true
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) u8() byte {
	if v := r.bytes(1); v != nil {
		return v[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if v := r.bytes(2); v != nil {
		return binary.LittleEndian.Uint16(v)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if v := r.bytes(4); v != nil {
		return binary.LittleEndian.Uint32(v)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if v := r.bytes(8); v != nil {
		return binary.LittleEndian.Uint64(v)
	}
	return 0
}

func (r *reader) name() string { return string(r.bytes(int(r.u8()))) }

func (r *reader) addr() netip.AddrPort {
	n := int(r.u8())
	if n == 0 {
		return netip.AddrPort{}
	}
	ip, ok := netip.AddrFromSlice(r.bytes(n))
	if !ok {
		r.bad = true
	}
	return netip.AddrPortFrom(ip.Unmap(), r.u16())
}
