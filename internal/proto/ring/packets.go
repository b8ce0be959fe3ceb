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
}

// Pieces are the packet's pieces, well-formed.
func (p *Packet) Pieces() []byte { return p.Buf[packet.DataOffset : len(p.Buf)-int(p.Filler)] }

// Describe sets everything but the buffer from d.
func (p *Packet) Describe(d *packet.Data) {
	p.Seq, p.Visit, p.Count, p.Sender, p.Filler, p.Early = d.Seq, d.Visit, d.Count, d.Sender, d.Filler, false
}

// Pool lends packets. What is put back is not lent again before Settle is called, because effects of the present input
// may still refer to it. A daemon has one Pool, settled at the start of every input. It keeps at most maxFree packets, and fewer
// where they hold more than maxFreeBytes.
type Pool struct {
	size  int
	free  []*Packet
	limbo []*Packet
}

const (
	maxFree      = 4096
	maxFreeBytes = 16 << 20
)

// ahead is the place of the packet whose memory is asked for when one is lent, counted from the end of those that are free: it has not
// been used for a rotation or two, and will be in a moment.
const ahead = 3

// NewPool returns a pool whose buffers hold size bytes; larger ones are made as needed and not kept.
func NewPool(size int) *Pool { return &Pool{size: size} }

// Get lends a packet with an empty buffer for at least n bytes.
func (p *Pool) Get(n int) *Packet {
	if k := len(p.free); k > 0 && n <= p.size {
		q := p.free[k-1]
		p.free = p.free[:k-1]
		if k >= ahead {
			prefetch.Write(p.free[k-ahead].Buf[:min(n, p.size)])
		}
		return q
	}
	return &Packet{Buf: make([]byte, 0, max(n, p.size))}
}

// Put gives a packet back.
func (p *Pool) Put(q *Packet) { p.limbo = append(p.limbo, q) }

// Settle makes what was put back available again.
func (p *Pool) Settle() {
	for i, q := range p.limbo {
		if len(p.free) < min(maxFree, maxFreeBytes/p.size) && cap(q.Buf) <= p.size {
			p.free = append(p.free, q)
		}
		p.limbo[i] = nil
	}
	p.limbo = p.limbo[:0]
}
