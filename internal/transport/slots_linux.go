// SPDX-License-Identifier: Apache-2.0

package transport

import "evensong/internal/proto/packet"

const (
	// slotBytes is the room for one datagram, or for a run of them, a little more than packet.MaxDatagram. Pages that small datagrams never
	// touch stay unallocated.
	slotBytes = 64 << 10
	// leastLent is how much of a slot must be in use for it to be lent: what is kept of less is copied.
	leastLent = slotBytes / 4
	// mostOut bounds the slots that others keep; when so many are out nothing is lent, and what is kept is copied. All daemons
	// together send at most 1024 packets of 1472 bytes in a rotation with windows that tune themselves, and what came with a token goes two
	// rotations later: three rotations are 69 slots.
	mostOut = 96
	// slotsPeriod is after how many receives slots go that were free all that time.
	slotsPeriod = 4096
)

// slots is the memory that a Batch receives into. A slot that somebody keeps is replaced before the next receive, and comes back when it
// is left: at most mostOut and one batch of them exist, and as many as were needed lately.
type slots struct {
	free  []*packet.Room // used last in, first out, so that memory is used that is still in the processor's caches
	out   int            // kept by others, and not received into
	least int            // the fewest that were free in this period
	turns int            // receives in this period
}

// get is a slot to receive into.
func (s *slots) get() *packet.Room {
	k := len(s.free) - 1
	if k < 0 {
		return packet.NewRoom(make([]byte, slotBytes), s.put)
	}
	r := s.free[k]
	s.free[k] = nil
	s.free = s.free[:k]
	s.least = min(s.least, k)
	r.Keep()
	return r
}

// replace is what to receive into in place of r: r itself unless others keep something of it.
func (s *slots) replace(r *packet.Room) *packet.Room {
	if !r.Shared() {
		return r
	}
	s.out++
	r.Leave()
	return s.get()
}

// put takes a slot back that the last keeper has left.
func (s *slots) put(r *packet.Room) {
	s.out--
	s.free = append(s.free, r)
}

// tick counts a receive. At the end of a period the slots go that were not needed in it, which are those used longest ago.
func (s *slots) tick() {
	if s.turns++; s.turns < slotsPeriod {
		return
	}
	n := copy(s.free, s.free[s.least:])
	clear(s.free[n:])
	s.free = s.free[:n]
	s.least, s.turns = n, 0
}
