// SPDX-License-Identifier: Apache-2.0

package order

import (
	"encoding/binary"
	"fmt"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/packet"
	"evensong/internal/proto/seq"
)

// quantum is how many bytes a lane may send before the next one has its turn.
const quantum = 16 << 10

// minCut is the least room for which a message that does not fit is cut: below it the rest of the packet stays empty, or
// becomes filler.
const minCut = packet.MaxFiller + 1 - packet.PieceHeaderSize

// streams is how many cut messages of one daemon can be under way at once; stream 0 is for whole ones.
const streams = 255

// ControlLane is the lane of the daemon's own messages. It goes before all others, and it alone is served while the
// group state is exchanged (GRP-14).
const ControlLane = 0

// backlog holds messages that were accepted and not yet originated, in lanes: one per session, so that one client
// that floods does not stand before the others (GRP-17). It gives each lane its turn by bytes (deficit round robin).
// A message stays until its last piece has a place in the order: if the configuration ends before, it is originated
// again, whole (M-6).
type backlog struct {
	lanes   map[uint64]*lane
	control *lane
	active  []*lane // with messages, in turn; the control lane is not among them
	turn    int
	bytes   int // in all lanes
	count   int // messages in all lanes
	open    bool
	busy    [streams + 1]bool // streams in use
	ended   func(at seq.Num, index uint32, l *lane, service evs.Service, payload []byte)
	index   uint32 // messages that ended in the packet being filled
	at      seq.Num

	spare      [][]byte // large buffers of lanes that are empty, the last used last
	spareBytes int
}

// A lane that is empty keeps a buffer of idleLane bytes at most; larger ones serve whoever sends next, and maxSpare bytes of
// them are kept. Else every client that has sent much would keep that memory for good.
const (
	idleLane = 1 << 10
	maxSpare = 8 << 20
)

type lane struct {
	id      uint64
	buf     []byte // entries: service 1, length 4, payload
	head    int    // start of the first entry
	count   int
	sent    int   // bytes of the first entry's payload that are originated already
	stream  uint8 // of the first entry, if it is cut
	deficit int
	closing bool // remove when empty
}

const entryHeader = 5

func newBacklog() *backlog {
	return &backlog{lanes: map[uint64]*lane{}, control: &lane{id: ControlLane}}
}

func (b *backlog) lane(id uint64) *lane {
	if id == ControlLane {
		return b.control
	}
	l := b.lanes[id]
	if l == nil {
		l = &lane{id: id}
		b.lanes[id] = l
	}
	return l
}

// begin opens an entry in a lane; the caller appends the payload to what it returns and hands that to end.
func (b *backlog) begin(id uint64, service evs.Service) (*lane, []byte, int) {
	l := b.lane(id)
	if k := len(b.spare); l.buf == nil && k > 0 {
		l.buf, b.spare[k-1] = b.spare[k-1], nil
		b.spare = b.spare[:k-1]
		b.spareBytes -= cap(l.buf)
	}
	if l.head > 0 && (l.head == len(l.buf) || l.head > 1<<16 && l.head > len(l.buf)/2) {
		n := copy(l.buf, l.buf[l.head:])
		l.buf, l.head = l.buf[:n], 0
	}
	start := len(l.buf)
	return l, append(l.buf, byte(service), 0, 0, 0, 0), start
}

func (b *backlog) end(l *lane, buf []byte, start int) {
	n := len(buf) - start - entryHeader
	if n > packet.MaxMessage {
		panic(fmt.Sprintf("order: a message of %d bytes was submitted, a receiver takes %d", n, packet.MaxMessage))
	}
	binary.LittleEndian.PutUint32(buf[start+1:], uint32(n))
	if l.count == 0 && l != b.control {
		b.active = append(b.active, l)
		l.deficit = quantum
	}
	l.buf = buf
	l.count++
	b.count++
	b.bytes += n + entryHeader
}

// queued is the number of bytes that wait in a lane.
func (b *backlog) queued(id uint64) int {
	l := b.lanes[id]
	if l == nil {
		return 0
	}
	return len(l.buf) - l.head
}

// close removes a lane once it is empty.
func (b *backlog) close(id uint64) {
	if l := b.lanes[id]; l != nil {
		if l.count == 0 {
			delete(b.lanes, id)
		} else {
			l.closing = true
		}
	}
}

// restart forgets how much of cut messages was originated: the configuration has ended, they will go again, whole. The
// daemon's own messages are dropped: they were about the configuration that has ended.
func (b *backlog) restart() {
	c := b.control
	b.count -= c.count
	b.bytes -= len(c.buf) - c.head
	*c = lane{id: ControlLane, buf: c.buf[:0]}
	for _, l := range b.active {
		l.sent, l.stream = 0, 0
	}
	b.busy = [streams + 1]bool{}
}

// Pending implements ring.Source.
func (b *backlog) Pending() int {
	if b.open {
		return b.count
	}
	return b.control.count
}

// Mean implements ring.Source. What of a message has been sent counts, too.
func (b *backlog) Mean() int { return b.bytes / max(b.count, 1) }

// Fill implements ring.Source.
func (b *backlog) Fill(at seq.Num, dst []byte, more bool) int {
	b.at, b.index = at, 0
	n := 0
	for b.control.count > 0 && b.put(b.control, dst, &n, more) {
	}
	if !b.open || b.control.count > 0 {
		return n
	}
	// idle counts lanes passed over in a row: each can refuse, for want of a stream or of room.
	for idle := 0; len(b.active) > 0 && idle < len(b.active); {
		if b.turn >= len(b.active) {
			b.turn = 0
		}
		l := b.active[b.turn]
		if !b.put(l, dst, &n, more) {
			if len(dst)-n < packet.PieceHeaderSize+minCut {
				break
			}
			idle++
			b.next(l)
			continue
		}
		idle = 0
		switch {
		case l.count == 0:
			b.active = append(b.active[:b.turn], b.active[b.turn+1:]...)
			if l.closing {
				delete(b.lanes, l.id)
			}
		case l.deficit <= 0:
			b.next(l)
		}
	}
	return n
}

func (b *backlog) next(l *lane) {
	l.deficit = min(l.deficit+quantum, quantum)
	b.turn++
}

// put writes the next piece of l's first message at dst[*n:] and reports whether it did.
func (b *backlog) put(l *lane, dst []byte, n *int, more bool) bool {
	e := l.buf[l.head:]
	service := evs.Service(e[0])
	length := int(binary.LittleEndian.Uint32(e[1:]))
	rest := e[entryHeader+l.sent : entryHeader+length]
	room := min(len(dst)-*n-packet.PieceHeaderSize, packet.MaxPiece)
	first := l.sent == 0
	p := packet.Piece{Service: service, First: first, Last: true, Stream: l.stream}
	if len(rest) <= room {
		b.write(dst, n, p, nil, rest)
		if b.ended != nil {
			b.ended(b.at, b.index, l, service, e[entryHeader:entryHeader+length])
		}
		b.index++
		b.drop(l, entryHeader+length, len(rest))
		return true
	}
	// It does not fit. Cut it if that is worth it: not if a packet of its own, later, would hold it whole and this is the
	// last packet of the visit.
	if room < minCut || first && !more && *n > 0 && len(rest) <= len(dst)-packet.PieceHeaderSize {
		return false
	}
	var total []byte
	if first {
		if l.stream = b.freeStream(); l.stream == 0 {
			return false
		}
		b.busy[l.stream] = true
		total = binary.LittleEndian.AppendUint32(nil, uint32(length))
	}
	p.Last, p.Stream = false, l.stream
	k := room - len(total)
	b.write(dst, n, p, total, rest[:k])
	l.sent += k
	l.deficit -= k
	return true
}

func (b *backlog) write(dst []byte, n *int, p packet.Piece, total, bytes []byte) {
	at := len(packet.AppendPieceHeader(dst[:*n], p, len(total)+len(bytes)))
	at += copy(dst[at:], total)
	at += copy(dst[at:], bytes)
	*n = at
}

func (b *backlog) drop(l *lane, entry, sent int) {
	if l.stream != 0 {
		b.busy[l.stream] = false
	}
	l.sent, l.stream = 0, 0
	l.head += entry
	l.count--
	l.deficit -= sent
	b.count--
	b.bytes -= entry
	if l.count == 0 {
		l.buf, l.head = l.buf[:0], 0
		if size := cap(l.buf); size > idleLane {
			if size <= 1<<20 && b.spareBytes+size <= maxSpare {
				b.spare = append(b.spare, l.buf)
				b.spareBytes += size
			}
			l.buf = nil
		}
	}
}

func (b *backlog) freeStream() uint8 {
	for i := 1; i <= streams; i++ {
		if !b.busy[i] {
			return uint8(i)
		}
	}
	return 0
}
