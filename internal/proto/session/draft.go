// SPDX-License-Identifier: Apache-2.0

package session

import "slices"

const (
	// DraftHead is the room before a draft's message. With what the message itself has before its data that is enough for
	// the head of a frame with one or two groups.
	DraftHead = 128
	// leastDraft is the smallest message worth a chunk of its own.
	leastDraft = 6 << 10
)

// A Draft is memory in which a message is put together before anybody knows who will get it, with room for a frame's head
// before it. Its owner writes to Room, and ends with Return; in between Arena.Adopt makes an extent of it, without
// a copy. What queues refer to stays when the draft is returned.
type Draft struct{ c *chunk }

// Draft lends memory for a message of n bytes; nil if that is too small or too large to be worth it, or would leave more than half of its chunk
// empty: what waits for slow clients counts by chunks.
func (p *Pool) Draft(n int) *Draft {
	i := slices.IndexFunc(classes[:], func(size int) bool { return size >= DraftHead+n })
	if n < leastDraft || i < 0 || classes[i] > 2*(DraftHead+n) {
		return nil
	}
	c := p.newChunk(DraftHead + n)
	p.bytes -= cap(c.mem) // until it is adopted; what arrives is counted by nobody, as before
	c.draft = true
	if c.asDraft == nil {
		c.asDraft = &Draft{c}
	}
	return c.asDraft
}

// Room is where the message belongs: empty, with the capacity that Draft was asked for and more.
func (d *Draft) Room() []byte { return d.c.mem[DraftHead:DraftHead:cap(d.c.mem)] }

// Return gives the memory back, as far as no queue refers to it.
func (d *Draft) Return() { d.c.unref() }

// Adopt makes an extent of the last bytes of a message in d: head, and behind it all but the first skip of the message's n bytes,
// of which the last head bytes before are written over. It reports false, and has done nothing, if there is not enough room
// for head, or the message was adopted before. The extent is valid until d is returned.
func (a *Arena) Adopt(d *Draft, head []byte, skip, n int) (e Extent, ok bool) {
	c := d.c
	at := DraftHead + skip - len(head)
	if !c.draft || at < 0 {
		return e, false
	}
	c.draft = false
	c.pool.bytes += cap(c.mem)
	c.mem = c.mem[:DraftHead+n]
	copy(c.mem[at:], head)
	return Extent{c: c, off: at, end: DraftHead + n, life: c.life}, true
}
