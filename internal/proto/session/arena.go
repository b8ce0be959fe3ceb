// SPDX-License-Identifier: Apache-2.0

package session

// DefaultChunkBytes is the size of an arena's chunks.
const DefaultChunkBytes = 64 << 10

// bigExtent is from where on a frame gets a chunk of the largest class, so that the unused end of a chunk stays a small
// part of it.
const bigExtent = 16 << 10

// An Arena is where deliveries are encoded, once each, however many sessions they go to. It fills one chunk after the
// other; queues refer to the bytes, and a chunk goes back to the pool when nobody does. It has one owner, the same as
// the queues.
//
// Deliveries that follow each other in the arena and in a queue are one piece of memory there: they cost the queue
// nothing but their bytes, and one element of a vectored write.
type Arena struct {
	pool *Pool
	cur  *chunk
}

// NewArena makes an arena with chunks of the pool.
func NewArena(p *Pool) *Arena { return &Arena{pool: p} }

// Extent is an encoded delivery. It is valid until the next Begin, or if it was adopted until its draft is returned: until then it may be
// pushed to any number of queues.
type Extent struct {
	c        *chunk
	off, end int
	life     uint32
}

// Len is the number of bytes.
func (e Extent) Len() int { return e.end - e.off }

// Bytes is the delivery itself, for callers that change a few bytes before they push it. It must not be changed after
// the first Push.
func (e Extent) Bytes() []byte {
	e.check()
	return e.c.mem[e.off:e.end:e.end]
}

func (e Extent) check() {
	if e.c.life != e.life {
		panic("session: an extent used after the next Begin")
	}
}

// Begin returns an empty slice to append at most n bytes to. End must follow.
func (a *Arena) Begin(n int) []byte {
	c := a.cur
	if c != nil {
		c.life++
		if c.refs == 1 {
			// Nobody has anything of it any more: use the same memory again, while it is in the processor's caches.
			c.mem = c.mem[:0]
		}
	}
	if c == nil || cap(c.mem)-len(c.mem) < n {
		if c != nil {
			c.unref()
		}
		size := max(n, DefaultChunkBytes)
		if n > bigExtent {
			size = max(n, classes[len(classes)-1])
		}
		c = a.pool.newChunk(size)
		a.cur = c
	}
	used := len(c.mem)
	return c.mem[used : used : used+n]
}

// BeginCopy is Begin with a copy of e, the last extent, already appended; for deliveries that differ in few bytes, such as
// views for members of different sets (frame.View.PatchOwn). Push e before, it is not valid any more.
func (a *Arena) BeginCopy(e Extent) []byte {
	// If nobody has e, Begin may give its own memory; append copies overlapping memory correctly.
	src := e.Bytes()
	return append(a.Begin(len(src)), src...)
}

// End takes what was appended to the slice of Begin.
func (a *Arena) End(b []byte) Extent {
	c := a.cur
	off := len(c.mem)
	if len(b) > 0 {
		if len(b) > cap(c.mem)-off || &b[0] != &c.mem[off : off+1][0] {
			panic("session: more appended than Begin was asked for")
		}
		c.mem = c.mem[:off+len(b)]
	}
	return Extent{c: c, off: off, end: off + len(b), life: c.life}
}

// Spare is the memory that the arena keeps and no queue refers to.
func (a *Arena) Spare() int {
	if a.cur == nil || a.cur.refs > 1 {
		return 0
	}
	return cap(a.cur.mem)
}

// Close gives the arena's chunk back; queues keep what they refer to.
func (a *Arena) Close() {
	if a.cur != nil {
		a.cur.life++
		a.cur.unref()
		a.cur = nil
	}
}
