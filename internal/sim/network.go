// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/packet"
)

// Quality is how a link behaves while it is up. The others are probabilities per datagram; a straggler arrives up to
// Late after the rest.
type Quality struct {
	Delay, Jitter, Late                   time.Duration
	Loss, Dup, Reorder, Corrupt, Straggle float64
	Whole                                 int // how long a datagram may be that must not be cut; zero: any
}

// lane is a way from one host to another: by itself, or by the group address.
type lane struct {
	from, to int
	group    bool
}

// network carries datagrams between hosts. Links have a direction.
type network struct {
	n      int
	base   Quality
	now    Quality       // base, or worse for a while
	cut    []bool        // [from*n+to]
	mended time.Duration // when a link that was cut last came back
	last   []time.Duration
	free   []*datagram
	limbo  []straggler
	dropIf func(from, to int, k packet.Kind, b []byte) bool // a script's filter; nil: none
	sent   uint64

	windowEnd  time.Duration
	windowSent int
	lost       uint64
	cutOff     uint64

	// The group address, if ring.Config has one: whom it does not reach, and on which ring a question of one host last
	// reached another through it. [from*n+to]
	unheard []bool
	asked   []evs.RingID
	sized   map[lane]evs.RingID // likewise the last ring in which a question about long packets reached them
	grouped int                 // data that went there

	dups    uint64
	corrupt uint64
}

// No work that is scheduled here needs as many datagrams as this: if they are sent all the same, daemons excite each
// other (LIVE-9).
const (
	stormWindow = 100 * time.Millisecond
	stormLimit  = 30000
)

// datagram is one packet on its way to one or more hosts. Receivers share its bytes: a node leaves
// those as they were that it does not get in a room of its own.
type datagram struct {
	buf  []byte
	refs int32
	from int32
}

// newNetwork makes a network of n hosts, all links up.
func newNetwork(n int, q Quality) network {
	return network{n: n, base: q, now: q, cut: make([]bool, n*n), last: make([]time.Duration, n*n), unheard: make([]bool, n*n), asked: make([]evs.RingID, n*n), sized: map[lane]evs.RingID{}}
}

const portOfDaemons = 4803

// address is where host i is reached; indexOf is its inverse.
func address(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), portOfDaemons)
}

func (nw *network) indexOf(a netip.AddrPort) int {
	b := a.Addr().As4()
	if i := int(b[2])<<8 | int(b[3]); b[0] == 10 && i < nw.n {
		return i
	}
	return -1
}

func (nw *network) up(from, to int) bool { return !nw.cut[from*nw.n+to] }

// setCut cuts or mends one direction.
func (nw *network) setCut(from, to int, cut bool) { nw.cut[from*nw.n+to] = cut }

// heal mends all links and makes them as good as they are by nature.
func (nw *network) heal(now time.Duration) {
	if slices.Contains(nw.cut, true) {
		nw.mended = now
	}
	clear(nw.cut)
	nw.now = nw.base
}

// partition cuts all links between hosts of different parts; part[i] is host i's.
func (nw *network) partition(now time.Duration, part []int) {
	if slices.Contains(nw.cut, true) {
		nw.mended = now
	}
	for i := range nw.n {
		for j := range nw.n {
			nw.cut[i*nw.n+j] = part[i] != part[j]
		}
	}
}

func (nw *network) get() *datagram {
	if k := len(nw.free); k > 0 {
		d := nw.free[k-1]
		nw.free = nw.free[:k-1]
		return d
	}
	return &datagram{buf: make([]byte, 0, 2048)}
}

func (nw *network) release(d *datagram) {
	if d.refs--; d.refs == 0 {
		d.buf = d.buf[:0]
		nw.free = append(nw.free, d)
	}
}

// send puts one send of host from on its way.
func (w *World) send(from int, s *packet.Send) {
	nw := &w.net
	if len(nw.limbo) > 0 && s.Kind == packet.KindCommit && w.chance(0.3) {
		w.release(w.between(0, 4*time.Millisecond))
	}
	var shared *datagram
	for _, to := range s.To {
		i := nw.indexOf(to)
		if i < 0 {
			continue
		}
		nw.sent++
		if w.now >= nw.windowEnd {
			nw.windowEnd, nw.windowSent = w.now+stormWindow, 0
		}
		if nw.windowSent++; nw.windowSent > stormLimit {
			w.fail("LIVE-9", "packet storm: more than %d datagrams within %v, the last one %v from %s", stormLimit, stormWindow, s.Kind, w.hosts[from].name)
			return
		}
		if s.Ring && !w.sendGroup(from, i, s) {
			return
		}
		if s.Kind == packet.KindData && len(s.Bytes) > w.ring.PacketBytes && !w.sendLong(from, i, s) {
			return
		}
		if !nw.up(from, i) || s.Ring && nw.unheard[from*nw.n+i] {
			nw.cutOff++
			continue
		}
		if nw.dropIf != nil && nw.dropIf(from, i, s.Kind, s.Bytes) {
			nw.lost++
			continue
		}
		q := &nw.now
		if q.Loss > 0 && w.rnd.Float64() < q.Loss {
			nw.lost++
			continue
		}
		switch {
		case s.Whole && nw.base.Whole > 0 && len(s.Bytes) > nw.base.Whole:
			nw.lost++
			continue
		case s.Kind == packet.KindSize && len(s.Bytes) > w.ring.PacketBytes:
			nw.sized[lane{from, i, s.Ring}] = ringOf(s)
		case s.Ring && s.Kind == packet.KindReach:
			nw.asked[from*nw.n+i] = ringOf(s)
		}
		copies := 1
		if q.Dup > 0 && w.rnd.Float64() < q.Dup {
			copies = 2
			nw.dups++
		}
		for range copies {
			var d *datagram
			if q.Corrupt > 0 && w.rnd.Float64() < q.Corrupt {
				d = nw.get()
				d.buf, d.refs = append(d.buf[:0], s.Bytes...), 0
				d.buf[w.rnd.IntN(len(d.buf))] ^= 1 << w.rnd.IntN(8)
				nw.corrupt++
			} else {
				if shared == nil {
					shared = nw.get()
					shared.buf, shared.refs = append(shared.buf[:0], s.Bytes...), 0
				}
				d = shared
			}
			d.from = int32(from)
			d.refs++
			if w.now < w.hosts[from].mumbles || q.Straggle > 0 && w.rnd.Float64() < q.Straggle {
				w.straggle(i, d)
				continue
			}
			w.events.push(event{at: w.arrival(from, i), kind: evDatagram, a: int32(i), dgram: d})
		}
	}
}

// ringOf is the ring that a packet of data, or a question about the group address, is about.
func ringOf(s *packet.Send) evs.RingID {
	le := binary.LittleEndian
	b := s.Bytes[packet.HeaderSize:]
	return evs.RingID{Seq: le.Uint64(b), Rep: evs.Incarnation(le.Uint64(b[8:]))}
}

// sendLong sees to it that nobody takes for granted that packets of more than the usual length reach host to. LIVE-10.
func (w *World) sendLong(from, to int, s *packet.Send) bool {
	if w.net.sized[lane{from, to, s.Ring}] != ringOf(s) && packet.DataFlags(s.Bytes)&packet.FlagRetransmit == 0 {
		w.fail("LIVE-10", "%s sends a packet of %d bytes, and no question as long has reached %s on this ring", w.hosts[from].name, len(s.Bytes), w.hosts[to].name)
		return false
	}
	w.stats.Steps["long packets"]++
	return true
}

// sendGroup sees to it that nobody takes for granted that the group address reaches host to. LIVE-10.
func (w *World) sendGroup(from, to int, s *packet.Send) bool {
	switch {
	case w.ring.Group == nil:
		w.fail("LIVE-10", "%s sends %s to a group address; there is none", w.hosts[from].name, s.Kind)
		return false
	case s.Kind == packet.KindReach, s.Kind == packet.KindSize:
		return true
	case s.Kind != packet.KindData:
		w.fail("LIVE-10", "%s sends %s to the group address", w.hosts[from].name, s.Kind)
		return false
	case w.net.asked[from*w.net.n+to] != ringOf(s):
		w.fail("LIVE-10", "%s sends data to the group address, of which nothing has reached %s on this ring", w.hosts[from].name, w.hosts[to].name)
		return false
	}
	w.net.grouped++
	return true
}

// straggler is a datagram that the network keeps for a while.
type straggler struct {
	d  *datagram
	to int
}

// straggle keeps a datagram until a random time, or until the moment when late packets are most dangerous: a Commit
// token is on its way, and members have told what they hold (P-15, P-24).
func (w *World) straggle(to int, d *datagram) {
	nw := &w.net
	nw.limbo = append(nw.limbo, straggler{d, to})
	late := nw.now.Late
	if late == 0 {
		late = 4 * w.ring.TokenTimeout
	}
	w.after(time.Duration(w.rnd.Uint64N(uint64(late))), func() {
		if i := slices.IndexFunc(nw.limbo, func(x straggler) bool { return x.d == d && x.to == to }); i >= 0 {
			nw.limbo = slices.Delete(nw.limbo, i, i+1)
			w.events.push(event{at: w.now, kind: evDatagram, a: int32(to), dgram: d})
		}
	})
}

// release lets all stragglers arrive within a short time.
func (w *World) release(within time.Duration) {
	for _, x := range w.net.limbo {
		w.events.push(event{at: w.now + w.between(0, within), kind: evDatagram, a: int32(x.to), dgram: x.d})
	}
	w.net.limbo = w.net.limbo[:0]
}

// arrival draws when a datagram sent now arrives. Links keep the order unless told otherwise.
func (w *World) arrival(from, to int) time.Duration {
	q := &w.net.now
	d := q.Delay
	if q.Jitter > 0 {
		d += time.Duration(w.rnd.Uint64N(uint64(q.Jitter)))
	}
	at := w.now + d
	if q.Reorder > 0 && w.rnd.Float64() < q.Reorder {
		return at + time.Duration(w.rnd.Uint64N(uint64(20*(q.Delay+q.Jitter)+1)))
	}
	last := &w.net.last[from*w.net.n+to]
	at = max(at, *last)
	*last = at
	return at
}
