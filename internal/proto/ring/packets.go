// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"evensong/internal/proto/packet"
	"evensong/internal/proto/prefetch"
	"evensong/internal/proto/seq"
)

// Packet is one packet that a ring holds. Buf is the whole datagram, headers included, so that it can be sent again
// without being built again.
type Packet struct {
	Seq    seq.Num
	Visit  uint64
	Count  uint64
	Sender uint16
	Filler uint8 // bytes at the end of Buf that mean nothing
	Early  bool  // order has handed up its whole Reliable and Unreliable messages ahead of a gap
	Buf    []byte
	room   *packet.Room // that Buf is a part of; nil: Buf is of the pool
}

// Fetch asks for the memory of p itself, so that what it says of its buffer can be read soon.
func (p *Packet) Fetch() { prefetch.Line(&p.Filler) }

// Pieces are the packet's pieces, well-formed.
func (p *Packet) Pieces() []byte { return p.Buf[packet.DataOffset : len(p.Buf)-int(p.Filler)] }

// Describe sets everything but the buffer from d.
func (p *Packet) Describe(d *packet.Data) {
	p.Seq, p.Visit, p.Count, p.Sender, p.Filler, p.Early = d.Seq, d.Visit, d.Count, d.Sender, d.Filler, false
}

// Pool lends packets. What is put back is not lent again before Settle is called, nor the room left that it lies in, because effects of
// the present input may still refer to it. A daemon has one Pool, settled at the start of every input. It keeps at most maxFree packets
// of each size, and fewer where they hold more than their part of maxFreeBytes.
type Pool struct {
	classes []poolClass // by size
	bare    []*Packet   // without a buffer
	limbo   []*Packet
}

type poolClass struct {
	size int
	free []*Packet
}

const (
	maxFree      = 4096
	maxFreeBytes = 16 << 20
)

// ahead is the place of the packet whose memory is asked for when one is lent, counted from the end of those that are free: it has not
// been used for a rotation or two, and will be in a moment. Beyond mostAhead bytes the processor has seen by itself where a copy goes.
const (
	ahead     = 3
	mostAhead = 2048
)

// NewPool returns a pool whose buffers have these sizes, ascending; larger ones are made as needed and not kept.
func NewPool(sizes ...int) *Pool {
	p := &Pool{}
	for _, n := range sizes {
		p.classes = append(p.classes, poolClass{size: n})
	}
	return p
}

// Get lends a packet with an empty buffer for at least n bytes.
func (p *Pool) Get(n int) *Packet {
	for i := range p.classes {
		c := &p.classes[i]
		if n > c.size {
			continue
		}
		k := len(c.free)
		if k == 0 {
			return &Packet{Buf: make([]byte, 0, c.size)}
		}
		q := c.free[k-1]
		c.free = c.free[:k-1]
		if k >= ahead {
			prefetch.Write(c.free[k-ahead].Buf[:min(n, mostAhead)])
		}
		if k >= 2*ahead {
			c.free[k-2*ahead].Fetch() // which says where that one's memory is
		}
		return q
	}
	return &Packet{Buf: make([]byte, 0, n)}
}

// In lends a packet for datagram b, which stays in the room that it came in. Nothing is ever written behind it.
func (p *Pool) In(room *packet.Room, b []byte) *Packet {
	var q *Packet
	if k := len(p.bare); k > 0 {
		q, p.bare = p.bare[k-1], p.bare[:k-1]
	} else {
		q = new(Packet)
	}
	room.Keep()
	q.Buf, q.room = b[:len(b):len(b)], room
	return q
}

// Put gives a packet back.
func (p *Pool) Put(q *Packet) { p.limbo = append(p.limbo, q) }

// Settle makes what was put back available again.
func (p *Pool) Settle() {
	for i, q := range p.limbo {
		p.limbo[i] = nil
		if q.room != nil {
			q.room.Leave()
			q.Buf, q.room = nil, nil
			if len(p.bare) < maxFree {
				p.bare = append(p.bare, q)
			}
			continue
		}
		for j := range p.classes {
			if c := &p.classes[j]; cap(q.Buf) == c.size {
				if len(c.free) < min(maxFree, maxFreeBytes/len(p.classes)/c.size) {
					c.free = append(c.free, q)
				}
				break
			}
		}
	}
	p.limbo = p.limbo[:0]
}
