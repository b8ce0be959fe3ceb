// SPDX-License-Identifier: Apache-2.0

package order

import (
	"encoding/binary"
	"slices"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/membership"
	"evensong/internal/proto/packet"
	"evensong/internal/proto/ring"
	"evensong/internal/proto/seq"
)

// attempt is a ring that is being formed on top of the current one. Until it is installed nothing of the current one
// is given up: if the attempt fails, it is dropped and the old ring's data remain, perhaps more of them than before.
type attempt struct {
	conf   evs.Configuration
	commit *packet.Commit
	ring   *ring.Machine
	cursor cursor
	source rebroadcast

	// The transitional set: members of the new ring that come directly from my old one, as indices into the new ring,
	// and what the Commit token said of them. 8.4.2.
	together []int
	stable   seq.Num     // highest mark that any of them reported
	owed     packet.Bits // the obligation set of this attempt, as indices into the old ring
}

// recover starts recovery on the ring that the Commit token has agreed. 8.4.
func (m *Machine) recover(now time.Duration, s *membership.Step, fx *Effects) {
	c := s.Commit
	members := make([]evs.ProcID, len(c.Entries))
	origins := make([]evs.RingID, len(c.Entries))
	for i, e := range c.Entries {
		members[i], origins[i] = e.ID, e.OldRing
	}
	a := &attempt{
		commit: c,
		conf:   evs.Configuration{ID: evs.RegularID(c.Ring), Members: members, Origins: origins, Primary: s.Primary},
		ring:   ring.New(m.ringConfig(), c.Ring, members, s.Addrs, s.Me, c.Accelerated, m.sealer, m.pool, now),
		owed:   packet.MakeBits(len(m.conf.Members)),
	}
	a.cursor = newCursor(a.ring, len(members))
	a.cursor.mem = &m.parts
	low := ^seq.Num(0)
	for i, e := range c.Entries {
		k := m.conf.Index(e.ID)
		if e.OldRing != m.conf.ID.New || k < 0 {
			continue
		}
		a.together = append(a.together, i)
		low = min(low, seq.Num(e.OldARU))
		a.stable = max(a.stable, seq.Num(e.OldStable))
		a.owed.Set(k)
		for k := range m.conf.Members {
			if e.Obligation.Has(k) {
				a.owed.Set(k)
			}
		}
	}
	a.source = m.rebroadcast(c, a.together, s.Me, low)
	m.next = a
	if s.Me == 0 {
		a.ring.Start(now)
		m.visit(now, a.ring, fx)
	}
}

// rebroadcast is the Source of a recovering ring: old packets, wrapped, each an Agreed message of the new ring, so
// that no packet outgrows the datagram (P-19).
type rebroadcast struct {
	old   *ring.Machine
	queue []seq.Num        // positions still to send, ascending
	sure  seq.Num          // up to here somebody in the set holds everything: who sends is settled
	seen  map[seq.Num]bool // positions above that came by already
	buf   []byte           // the wrapped packet being sent
	sent  int
}

// rebroadcast lists what this member sends. 8.4.3: everything above the lowest aru that it holds; but what some member
// of the set holds for sure, because its aru covers it, only the first such member in ring order sends.
func (m *Machine) rebroadcast(c *packet.Commit, together []int, me int, low seq.Num) rebroadcast {
	s := rebroadcast{old: m.ring, seen: map[seq.Num]bool{}}
	if len(together) < 2 {
		return s
	}
	for _, i := range together {
		s.sure = max(s.sure, seq.Num(c.Entries[i].OldARU))
	}
	for n := low + 1; n <= m.ring.High(); n++ {
		if m.ring.Packet(n) == nil {
			continue
		}
		if n <= s.sure && m.firstHolder(c, together, n) != me {
			continue
		}
		s.queue = append(s.queue, n)
	}
	return s
}

func (m *Machine) firstHolder(c *packet.Commit, together []int, n seq.Num) int {
	for _, i := range together {
		if seq.Num(c.Entries[i].OldARU) >= n {
			return i
		}
	}
	return -1
}

// Pending implements ring.Source: packets still to send.
func (s *rebroadcast) Pending() int {
	if len(s.buf) > 0 {
		return len(s.queue) + 1
	}
	return len(s.queue)
}

// Mean implements ring.Source.
func (s *rebroadcast) Mean() int { return 0 }

// wrapHeader is what stands before the pieces of an old packet inside a recovery message. The layout, little-endian:
//
//	+0  old ring sequence 8    +8  old ring representative 8
//	+16 seq               8    +24 visit                   8
//	+32 count             8    +40 sender 2
//	+42 pieces
//
// The fields are those of packet.Data, and so is their meaning; sender is an index into the old ring.
const wrapHeader = 42

// Fill implements ring.Source.
func (s *rebroadcast) Fill(_ seq.Num, dst []byte, _ bool) int {
	n := 0
	for {
		if len(s.buf) == 0 && !s.wrap() {
			return n
		}
		room := len(dst) - n - packet.PieceHeaderSize
		rest := s.buf[s.sent:]
		p := packet.Piece{Service: evs.Agreed, Recovery: true, First: s.sent == 0, Last: true, Stream: 1}
		if len(rest) > room {
			if room < minCut {
				return n
			}
			p.Last = false
		}
		var total []byte
		if p.First && !p.Last {
			total = binary.LittleEndian.AppendUint32(nil, uint32(len(s.buf)))
		}
		k := min(len(rest), room-len(total))
		at := len(packet.AppendPieceHeader(dst[:n], p, len(total)+k))
		at += copy(dst[at:], total)
		n = at + copy(dst[at:], rest[:k])
		s.sent += k
		if p.Last {
			s.buf, s.sent = s.buf[:0], 0
		}
	}
}

// wrap takes the next packet that is still wanted and reports whether there was one.
func (s *rebroadcast) wrap() bool {
	for len(s.queue) > 0 {
		n := s.queue[0]
		s.queue = s.queue[1:]
		if s.seen[n] {
			continue
		}
		p := s.old.Packet(n)
		le := binary.LittleEndian
		b := s.buf[:0]
		b = le.AppendUint64(b, s.old.ID().Seq)
		b = le.AppendUint64(b, uint64(s.old.ID().Rep))
		b = le.AppendUint64(b, uint64(p.Seq))
		b = le.AppendUint64(b, p.Visit)
		b = le.AppendUint64(b, p.Count)
		b = le.AppendUint16(b, p.Sender)
		s.buf = append(b, p.Pieces()...)
		s.sent = 0
		return true
	}
	return false
}

// unwrap takes an old packet that came by on the ring of an attempt. Members of other old rings ignore it.
func (m *Machine) unwrap(b []byte, fx *Effects) {
	le := binary.LittleEndian
	if len(b) < wrapHeader {
		m.drop(DropWrapped)
		return
	}
	id := evs.RingID{Seq: le.Uint64(b), Rep: evs.Incarnation(le.Uint64(b[8:]))}
	if id != m.conf.ID.New {
		return
	}
	d := packet.Data{Ring: id, Seq: seq.Num(le.Uint64(b[16:])), Visit: le.Uint64(b[24:]), Count: le.Uint64(b[32:]), Sender: le.Uint16(b[40:])}
	pieces := b[wrapHeader:]
	if int(d.Sender) >= len(m.conf.Members) || d.Seq == 0 || packet.CheckPieces(pieces) != nil {
		m.drop(DropWrapped)
		return
	}
	if d.Seq > m.next.source.sure {
		m.next.source.seen[d.Seq] = true
	}
	if m.ring.Has(d.Seq) {
		return
	}
	p := m.pool.Get(packet.DataOffset + len(pieces))
	p.Buf = append(p.Buf[:packet.DataOffset], pieces...)
	p.Describe(&d)
	packet.PutDataHeader(p.Buf, &d)
	if !m.ring.Give(p) {
		m.pool.Put(p)
		return
	}
	m.stats.Recovered++
}

// promise takes over the obligation of the attempt: this member has told, or is about to, that it has everything, and
// others may install on the strength of that. 8.4.4, 8.4.5.
func (m *Machine) promise() {
	for k := range m.conf.Members {
		if m.next.owed.Has(k) {
			m.obligation.Set(k)
		}
	}
}

// install makes the attempted ring the current one: one local step, without communication. 8.4.6.
func (m *Machine) install(now time.Duration, fx *Effects) {
	a := m.next
	m.promise()
	if point, ok := a.ring.Install(); ok {
		// All wrapped packets up to the install point are here; take what the cursor has not yet.
		m.deliver(&a.cursor, 0, fx)
		if a.cursor.pos < point {
			panic("order: installing without all of the recovery's packets")
		}
	}
	// (a) As the old ring would have gone on, for everybody in the transitional set alike.
	m.deliver(&m.cursor, a.stable, fx)
	// (b)
	trans := &evs.Configuration{ID: evs.TransitionalID(m.conf.ID.New, a.conf.ID.New), Primary: m.conf.Primary.Outside()}
	for _, i := range a.together {
		trans.Members = append(trans.Members, a.conf.Members[i])
	}
	m.configure(trans, fx)
	// (c)
	for i, p := range m.conf.Members {
		if m.obligation.Has(i) && !slices.Contains(trans.Members, p) {
			m.stats.Obligations++
			break
		}
	}
	m.deliverRest(&m.cursor, m.obligation, fx)
	// (d)
	old := m.ring
	m.cursor.dropAll()
	m.conf, m.ring, m.cursor = &a.conf, a.ring, a.cursor
	m.next = nil
	old.Drop()
	m.cursor.dropAll()
	m.obligation = packet.MakeBits(len(m.conf.Members))
	m.obligation.Set(m.conf.Index(m.cfg.Me))
	m.banned = false
	m.backlog.restart()
	m.backlog.open = false
	m.configure(m.conf, fx)
	// (e)
	m.ring.Operational()
	m.membership.HandleInstalled(now, m.conf, &m.mfx)
}
