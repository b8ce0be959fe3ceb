// SPDX-License-Identifier: Apache-2.0

package session

// Buffers lends memory to sessions. Get returns an empty slice with a capacity of at least n bytes; Put takes it back.
type Buffers interface {
	Get(n int) []byte
	Put(b []byte)
}

// classes are the sizes of pooled memory. The largest holds any frame of a client; 65000 bytes of data with a header
// fit the one before.
var classes = [...]int{4 << 10, 16 << 10, 32 << 10, 64 << 10, 160 << 10}

// DefaultPoolBytes is how much unused memory a Pool keeps by default.
const DefaultPoolBytes = 16 << 20

// Pool keeps memory for reuse: bodies of messages that arrive in pieces, and chunks of an Arena. It has one owner, like
// the machines that use it. Memory beyond the limit, and pieces larger than the largest class, are left to the garbage
// collector. The zero Pool is ready to use.
type Pool struct {
	// Limit is how many unused bytes are kept. Zero means DefaultPoolBytes, negative none.
	Limit int

	free   [len(classes)][][]byte
	kept   int // bytes in free
	chunks []*chunk
	lent   int // chunks in use, for tests and status
	bytes  int // memory of the chunks in use
}

// Get lends a slice of length zero.
func (p *Pool) Get(n int) []byte {
	for c, size := range classes {
		if n > size {
			continue
		}
		if k := len(p.free[c]); k > 0 {
			b := p.free[c][k-1]
			p.free[c][k-1] = nil
			p.free[c] = p.free[c][:k-1]
			p.kept -= size
			return b
		}
		return make([]byte, 0, size)
	}
	return make([]byte, 0, n)
}

// Put takes back what Get lent. Nobody may use it any more.
func (p *Pool) Put(b []byte) {
	limit := p.Limit
	if limit == 0 {
		limit = DefaultPoolBytes
	}
	for c, size := range classes {
		if cap(b) == size && p.kept+size <= limit {
			p.free[c] = append(p.free[c], b[:0])
			p.kept += size
			return
		}
	}
}

// LentChunks is the number of chunks in use, drafts among them.
func (p *Pool) LentChunks() int { return p.lent }

// LentBytes is the memory of the chunks in use, but for drafts that were not adopted: what all queues together keep, each byte counted once however many
// queues refer to it.
func (p *Pool) LentBytes() int { return p.bytes }

// chunk is a piece of memory that queues refer to. refs counts them, and the arena, queue or owner of a draft that is filling it.
type chunk struct {
	mem  []byte // length: what is used
	refs int
	life uint32 // changes when the memory is used anew, so that a stale Extent is noticed
	own  bool   // filled by a queue for itself
	pool *Pool

	draft   bool // a draft that was not adopted: not in Pool.bytes
	asDraft *Draft
}

// newChunk lends a chunk with room for n bytes and one reference.
func (p *Pool) newChunk(n int) *chunk {
	var c *chunk
	if k := len(p.chunks); k > 0 {
		c = p.chunks[k-1]
		p.chunks[k-1] = nil
		p.chunks = p.chunks[:k-1]
	} else {
		c = &chunk{pool: p}
	}
	c.mem, c.refs, c.own = p.Get(n), 1, false
	p.lent++
	p.bytes += cap(c.mem)
	return c
}

// maxSpareChunks bounds the list of chunk descriptors without memory.
const maxSpareChunks = 1024

func (c *chunk) unref() {
	c.refs--
	switch {
	case c.refs > 0:
		return
	case c.refs < 0:
		panic("session: a chunk released too often")
	}
	p := c.pool
	if !c.draft {
		p.bytes -= cap(c.mem)
	}
	c.draft = false
	p.Put(c.mem)
	c.mem = nil
	c.life++
	p.lent--
	if len(p.chunks) < maxSpareChunks {
		p.chunks = append(p.chunks, c)
	}
}
