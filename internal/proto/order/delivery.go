// SPDX-License-Identifier: Apache-2.0

package order

import (
	"encoding/binary"
	"math/bits"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/packet"
	"evensong/internal/proto/prefetch"
	"evensong/internal/proto/ring"
	"evensong/internal/proto/seq"
)

// cursor reads the messages of one ring in order. It stands at a piece of a packet: everything before it is done with.
type cursor struct {
	r     *ring.Machine
	pos   seq.Num // packets up to here are done with
	off   int     // bytes of packet pos+1 that are done with
	index uint32  // messages that ended in them
	parts map[uint32]*assembly
	mem   *assemblies // of the machine; nil: every part allocates
	// Per sender, for delivery behind holes: the count of its last packet that was passed.
	counts []uint64
}

// assembly is a message that has arrived in part.
type assembly struct {
	buf  []byte
	want int
	loan Loan // whose memory buf is; nil: our own
}

// Memory lends the owner's memory for messages that arrive in part, so that the owner can go on with a whole one where it lies. It is
// called by nobody but the machine, within its inputs.
type Memory interface {
	// Lend lends memory for a message of n bytes, which is only a claim so far; nil: the machine uses its own.
	Lend(n int) Loan
}

// Loan is memory that was lent.
type Loan interface {
	// Room is empty, with room for the message. It stays the machine's until Return.
	Room() []byte
	// Return ends the loan, at the earliest with the input after the one whose events have the message.
	Return()
}

// assemblies lends memory for messages that arrive in part. What is put back is not lent again before settle is called,
// because events of the present input may still refer to it. Nil lends new memory and keeps none.
type assemblies struct {
	memory Memory                   // nil: all is our own
	free   [partClasses][]*assembly // by size, the last used last
	bytes  int                      // of their buffers
	limbo  []*assembly
	idle   []*assembly // whose memory was returned
}

// A visit of a ring under load ends a cut message with nearly every packet, and all of them rest until the next input; what is
// kept beyond the windows of such a ring, and buffers beyond the largest message of a client, would be memory for nothing.
const (
	maxFreeBytes     = 2 << 20
	maxAssemblyBytes = 160 << 10
	leastPartBits    = 8 // a buffer has at least 256 bytes
	partClasses      = 11
)

// partClass is the class of buffers for want bytes, and their size: a power of two, so that sizes which differ a little share them,
// or the largest message of a client. What exceeds that grows as it comes: the length is only a claim so far.
func partClass(want int) (class, size int) {
	class = max(bits.Len(uint(max(want, 1)-1)), leastPartBits) - leastPartBits
	if class >= partClasses-1 {
		return partClasses - 1, maxAssemblyBytes
	}
	return class, 1 << (class + leastPartBits)
}

// get lends an assembly for a message of want bytes; lent memory is only for those that are handed up.
func (s *assemblies) get(want int, handedUp bool) *assembly {
	if handedUp && s != nil && s.memory != nil {
		if loan := s.memory.Lend(want); loan != nil {
			a := s.bare()
			*a = assembly{buf: loan.Room(), want: want, loan: loan}
			return a
		}
	}
	class, size := partClass(want)
	if s != nil {
		if k := len(s.free[class]); k > 0 {
			a := s.free[class][k-1]
			s.free[class][k-1] = nil
			s.free[class] = s.free[class][:k-1]
			s.bytes -= cap(a.buf)
			a.want = want
			return a
		}
	}
	return &assembly{want: want, buf: make([]byte, 0, size)}
}

// bare is an assembly without memory.
func (s *assemblies) bare() *assembly {
	k := len(s.idle)
	if k == 0 {
		return new(assembly)
	}
	a := s.idle[k-1]
	s.idle = s.idle[:k-1]
	return a
}

func (s *assemblies) put(a *assembly) {
	if s != nil && a != nil {
		s.limbo = append(s.limbo, a)
	}
}

// settle makes what was put back available again. When there is too much, the older half of each size goes: it may not occur
// any more.
func (s *assemblies) settle() {
	for i, a := range s.limbo {
		s.limbo[i] = nil
		if a.loan != nil {
			a.loan.Return()
			*a = assembly{}
			s.idle = append(s.idle, a)
			continue
		}
		class, size := partClass(cap(a.buf))
		if cap(a.buf) != size {
			continue
		}
		a.buf = a.buf[:0]
		s.free[class] = append(s.free[class], a)
		if s.bytes += size; s.bytes > maxFreeBytes {
			s.halve()
		}
	}
	s.limbo = s.limbo[:0]
}

func (s *assemblies) halve() {
	for class, free := range s.free {
		old := (len(free) + 1) / 2
		for _, a := range free[:old] {
			s.bytes -= cap(a.buf)
		}
		n := copy(free, free[old:])
		clear(free[n:])
		s.free[class] = free[:n]
	}
}

func newCursor(r *ring.Machine, members int) cursor {
	return cursor{r: r, parts: map[uint32]*assembly{}, counts: make([]uint64, members)}
}

func partKey(sender uint16, stream uint8) uint32 { return uint32(sender)<<8 | uint32(stream) }

// join adds a piece to what has arrived of its message. It returns the whole message when the piece was the last, and the loan that it
// lies in, if any; both stay valid as long as an event of this input. Pieces without a beginning, or of a message longer than it said, are
// nobody's: ok is false and nothing is kept.
func (c *cursor) join(sender uint16, p *packet.Piece) (whole []byte, loan Loan, ok bool) {
	key := partKey(sender, p.Stream)
	if p.First {
		c.drop(key)
		want := int(binary.LittleEndian.Uint32(p.Bytes))
		if want > packet.MaxMessage || want < len(p.Bytes)-4 {
			return nil, nil, false
		}
		a := c.mem.get(want, !p.Recovery)
		a.buf = append(a.buf, p.Bytes[4:]...)
		c.parts[key] = a
		return nil, nil, true
	}
	a := c.parts[key]
	if a == nil || len(a.buf)+len(p.Bytes) > a.want {
		c.drop(key)
		return nil, nil, false
	}
	a.buf = append(a.buf, p.Bytes...)
	if !p.Last {
		return nil, nil, true
	}
	c.drop(key)
	return a.buf, a.loan, len(a.buf) == a.want
}

// drop ends a message that has arrived in part.
func (c *cursor) drop(key uint32) {
	c.mem.put(c.parts[key])
	delete(c.parts, key)
}

// dropAll drops what has arrived of all messages.
func (c *cursor) dropAll() {
	for key := range c.parts {
		c.drop(key)
	}
}

// forget drops what has arrived of one sender's messages.
func (c *cursor) forget(sender uint16) {
	for key := range c.parts {
		if uint16(key>>8) == sender {
			c.drop(key)
		}
	}
}

// message hands up one message of the current configuration. loan is the memory that payload ends in, if that was lent.
func (m *Machine) message(p *ring.Packet, index uint32, service evs.Service, payload []byte, loan Loan, fx *Effects) {
	m.stats.Delivered++
	fx.Events = append(fx.Events, Event{})
	e := &fx.Events[len(fx.Events)-1] // in place: see packet.Piece.Take
	e.Kind = Deliver
	msg := &e.Message
	msg.Sender, msg.Seq, msg.Index, msg.Service, msg.Payload, msg.Loan = int(p.Sender), p.Seq, index, service, payload, loan
	if m.cfg.Trace {
		m.traceDeliver(msg, fx)
	}
}

// deliver hands up everything that may be: Agreed when all before it is handed up, Safe up to the line stable. 8.1.10.
// It stops at a gap, and at a Safe message that is not stable yet: order does not let anything pass that.
func (m *Machine) deliver(c *cursor, stable seq.Num, fx *Effects) {
	for !m.deliverSome(c, stable, fx) {
	}
}

// portion is how many packets are fetched, and then handed up, at once: some 12 KB.
const portion = 8

// deliverSome is deliver for a portion at most. It reports whether it came to the end.
func (m *Machine) deliverSome(c *cursor, stable seq.Num, fx *Effects) bool {
	first, last := c.pos+1, min(c.pos+portion, c.r.ARU())
	var piece packet.Piece
	for c.pos < c.r.ARU() {
		if c.pos == last {
			return false
		}
		p := c.r.Packet(c.pos + 1)
		pieces := p.Pieces()
		for c.off < len(pieces) {
			rest := piece.Take(pieces[c.off:])
			if !piece.Recovery && m.isNew(c) {
				return true // a member that has installed already speaks; I have not
			}
			if piece.Last && piece.Service == evs.Safe && p.Seq > stable {
				return true
			}
			m.take(c, p, &piece, fx)
			c.off = len(pieces) - len(rest)
		}
		c.pos, c.off, c.index = c.pos+1, 0, 0
		m.stats.Packets++
		c.counts[p.Sender] = p.Count
		if c.pos == first { // which has just come itself, if it closed a gap
			c.fetch(last)
		}
	}
	return true
}

// fetch asks for the memory of the packets up to last, which exist, and for the packets of the next portion themselves. Those that have waited behind a gap have left the processor's
// caches; read one line after the other, each would wait for memory by itself.
func (c *cursor) fetch(last seq.Num) {
	for n := c.pos + 1; n <= last; n++ {
		prefetch.Read(c.r.Packet(n).Pieces())
	}
	for n := last + 1; n <= last+portion && n <= c.r.ARU(); n++ {
		c.r.Packet(n).Fetch()
	}
}

// isNew reports whether c reads the ring of an attempt.
func (m *Machine) isNew(c *cursor) bool { return m.next != nil && c == &m.next.cursor }

// take handles the piece at the cursor.
func (m *Machine) take(c *cursor, p *ring.Packet, piece *packet.Piece, fx *Effects) {
	whole := piece.Bytes
	var loan Loan
	early := false
	if piece.First && piece.Last {
		early = p.Early && piece.Service <= evs.Reliable
	} else {
		var ok bool
		if whole, loan, ok = c.join(p.Sender, piece); !ok {
			m.drop(DropFragment)
			if piece.Last && !piece.Recovery {
				c.index++
			}
			return
		}
	}
	if !piece.Last {
		return
	}
	if piece.Recovery {
		if m.next != nil {
			m.unwrap(whole, fx)
		}
		return
	}
	if !early {
		m.message(p, c.index, piece.Service, whole, loan, fx)
	}
	c.index++
}

// mayBeEarly reports whether pieces have something for deliverEarly: it reads them in the datagram, which the checksum has just brought
// into the processor's caches.
func mayBeEarly(pieces []byte) bool {
	var p packet.Piece
	for len(pieces) > 0 {
		if pieces = p.Take(pieces); p.Service <= evs.Reliable && p.First && p.Last && !p.Recovery {
			return true
		}
	}
	return false
}

// deliverEarly hands up the Reliable and Unreliable messages that lie whole in a packet which has arrived ahead of a
// gap. The packet remembers that, so that its place in the order passes them over. EVS-10 says what recovery owes to
// them.
func (m *Machine) deliverEarly(c *cursor, p *ring.Packet, fx *Effects) {
	if p.Early || p.Seq <= c.pos+1 {
		return
	}
	p.Early = true
	var index uint32
	for rest := p.Pieces(); len(rest) > 0; {
		var piece packet.Piece
		rest = piece.Take(rest)
		if piece.Recovery {
			continue
		}
		if piece.First && piece.Last && piece.Service <= evs.Reliable {
			m.message(p, index, piece.Service, piece.Bytes, nil, fx)
			m.stats.Early++
		}
		if piece.Last {
			index++
		}
	}
}

// deliverRest hands up, in the transitional configuration, what the old ring still has behind what deliver stopped
// at. 8.4.6 (c): up to the first hole everything; behind it Causal, Agreed and Safe from members of the obligation
// set only, since they might depend on what is missing; FIFO of others as far as nothing of that sender is missing or
// was left out; and every whole Reliable message.
func (m *Machine) deliverRest(c *cursor, obligation packet.Bits, fx *Effects) {
	m.deliver(c, c.r.High(), fx)
	if c.pos < c.r.ARU() {
		panic("order: delivery stopped in a transitional configuration without a hole")
	}
	left := make([]bool, len(c.counts)) // something of this sender is missing or was left out
	for n := c.pos + 1; n <= c.r.High(); n++ {
		p := c.r.Packet(n)
		if p == nil {
			continue
		}
		s := p.Sender
		if p.Count != c.counts[s]+1 {
			left[s] = true
			c.forget(s)
		}
		c.counts[s] = p.Count
		owed := obligation.Has(int(s))
		var index uint32
		for rest := p.Pieces(); len(rest) > 0; {
			var piece packet.Piece
			rest = piece.Take(rest)
			whole, loan, ok := piece.Bytes, Loan(nil), true
			if !piece.First || !piece.Last {
				whole, loan, ok = c.join(s, &piece)
			}
			if !piece.Last || piece.Recovery {
				continue
			}
			early := p.Early && piece.First && piece.Last && piece.Service <= evs.Reliable
			switch {
			case early:
			case !ok:
				left[s] = true
			case piece.Service <= evs.Reliable, owed, piece.Service == evs.FIFO && !left[s]:
				m.message(p, index, piece.Service, whole, loan, fx)
				m.stats.BehindHole++
			default:
				left[s] = true
				m.stats.Withheld++
			}
			index++
		}
	}
}
