// SPDX-License-Identifier: Apache-2.0

package session

import (
	"fmt"
	"strconv"
)

// DefaultQueueBytes is a session's budget for bytes that wait for a client to read, and HardFactor how many budgets may
// wait by default before Push refuses. In between the session is over its budget, which its owner watches: see Policy.
const (
	DefaultQueueBytes = 8 << 20
	HardFactor        = 8
)

// How much memory a queue may pin beyond its bytes: pinFactor times the bytes, and pinSlack. A queue that pins more
// copies what lies sparsely in shared chunks to memory of its own.
const (
	pinFactor = 4
	pinSlack  = 2 * DefaultChunkBytes
)

// Limits are the bounds of a queue. At a bound Push refuses, and the session must be closed: the client does not read.
type Limits struct {
	// Bytes is the budget: with more waiting the queue is Over. Zero means DefaultQueueBytes.
	Bytes int
	// HardBytes that may wait. Zero means eight times Bytes; it is never less than Bytes. One message is taken whatever its size.
	HardBytes int
	// Messages that may wait, a partly written one included (MaxSessionMessages, client-protocol 6). Zero: not counted.
	// Negative: none may wait, which is what a limit of 0 means to the original; the first delivery ends the session.
	Messages int
}

// Verdict is what became of a Push.
type Verdict uint8

// The verdicts.
const (
	Queued          Verdict = iota
	TooManyBytes            // the hard bound in bytes; close with ReasonSlowBytes
	TooManyMessages         // the message limit; close with ReasonSlowMessages
)

// String is the lower-case name.
func (v Verdict) String() string {
	switch v {
	case Queued:
		return "queued"
	case TooManyBytes:
		return "too many bytes"
	case TooManyMessages:
		return "too many messages"
	}
	return "Verdict(" + strconv.Itoa(int(v)) + ")"
}

// Reason is why the session ends; zero if it does not.
func (v Verdict) Reason() Reason {
	switch v {
	case TooManyBytes:
		return ReasonSlowBytes
	case TooManyMessages:
		return ReasonSlowMessages
	case Queued:
	}
	return Running
}

// seg is consecutive bytes of one chunk.
type seg struct {
	c        *chunk
	off, end int
	pin      int // what the chunk adds to pinned; the first of neighbors in one chunk has it, the others zero
}

// uncounted marks a message in Queue.msgs that the limit does not see.
const uncounted = 1 << 31

// A Queue holds the bytes that wait to be written to one client, as references to chunks. It belongs to the owner of the
// arena; only the bytes that Vec handed out may be read by somebody else, until Written.
type Queue struct {
	pool   *Pool
	limits Limits

	segs     []seg // those from first on wait
	first    int
	bytes    int    // in them
	high     int    // the most that bytes has been
	wrote    uint64 // bytes that have left
	partial  bool   // some bytes of the first message have left
	pinned   int    // memory of their chunks, each once
	inFlight int    // bytes handed out by Vec, from the front; their segments stay as they are until Written
	flying   bool
	closed   bool

	msgs     []uint32 // bytes still to write of each message from firstMsg on, with the flag uncounted
	firstMsg int
	counted  int // messages without the flag

	own       *chunk // being filled by compact; referred to once for that
	compacted int    // do not compact up to this: the last attempt left little less
}

// NewQueue makes an empty queue. Copies of its own go to memory from p.
func NewQueue(p *Pool, l Limits) *Queue {
	if l.Bytes == 0 {
		l.Bytes = DefaultQueueBytes
	}
	if l.HardBytes == 0 {
		l.HardBytes = HardFactor * l.Bytes
	}
	l.HardBytes = max(l.HardBytes, l.Bytes)
	return &Queue{pool: p, limits: l}
}

// Bytes is the number of bytes that wait.
func (q *Queue) Bytes() int { return q.bytes }

// Over reports whether more waits than the budget.
func (q *Queue) Over() bool { return q.bytes > q.limits.Bytes }

// CaughtUp reports whether no more than half the budget waits: whoever was over it is not slow any more. The distance
// keeps a session at its budget from changing sides with every message.
func (q *Queue) CaughtUp() bool { return q.bytes <= q.limits.Bytes/2 }

// High is the most bytes that have waited at a time.
func (q *Queue) High() int { return q.high }

// Messages is the number of messages that wait, a partly written one included.
func (q *Queue) Messages() int { return len(q.msgs) - q.firstMsg }

// Pinned is the memory that the queue keeps from being reused. Chunks that several queues refer to count in each.
func (q *Queue) Pinned() int { return q.pinned }

// Wrote is how many bytes were written so far.
func (q *Queue) Wrote() uint64 { return q.wrote }

// InFlight reports whether bytes are with a writer: Vec was called and Written not yet.
func (q *Queue) InFlight() bool { return q.flying }

// Push queues one message. With any verdict but Queued the queue is unchanged.
func (q *Queue) Push(e Extent) Verdict {
	switch {
	case q.limits.Messages != 0 && q.counted >= max(q.limits.Messages, 0):
		return TooManyMessages
	case q.bytes > 0 && q.bytes+e.Len() > q.limits.HardBytes:
		return TooManyBytes
	}
	if e.Len() > 0 {
		q.counted++
		q.push(e, uint32(e.Len()))
	}
	return Queued
}

// PushHandshake queues an answer of the handshake, which no limit sees: else a limit of no messages would mean that
// nobody can connect.
func (q *Queue) PushHandshake(e Extent) {
	if e.Len() > 0 {
		q.push(e, uint32(e.Len())|uncounted)
	}
}

func (q *Queue) push(e Extent, msg uint32) {
	if q.closed {
		panic("session: push to a discarded queue")
	}
	e.check()
	q.msgs = append(q.msgs, msg)
	q.bytes += e.Len()
	q.high = max(q.high, q.bytes)
	if n := len(q.segs); n > q.first && q.segs[n-1].c == e.c && q.segs[n-1].end == e.off {
		// Bytes in flight were handed out as slices; a longer segment does not change them.
		q.segs[n-1].end = e.end
		return
	}
	e.c.refs++
	q.addSeg(seg{c: e.c, off: e.off, end: e.end})
	q.maybeCompact()
}

// addSeg appends a segment, whose reference is counted already.
func (q *Queue) addSeg(s seg) {
	s.pin = 0
	if n := len(q.segs); n == q.first || q.segs[n-1].c != s.c {
		s.pin = cap(s.c.mem)
		q.pinned += s.pin
	}
	q.segs = append(q.segs, s)
}

// Vec appends the next bytes to write to dst, as at most limit slices, for a vectored write. They must not be changed
// and are valid until Written, which must follow before the next Vec, also when nothing could be written.
func (q *Queue) Vec(dst [][]byte, limit int) [][]byte {
	if q.flying {
		panic("session: Vec before Written")
	}
	for _, s := range q.segs[q.first:min(q.first+limit, len(q.segs))] {
		dst = append(dst, s.c.mem[s.off:s.end:s.end])
		q.inFlight += s.end - s.off
	}
	q.flying = true
	return dst
}

// Written tells that the first n bytes of the last Vec were written. They are released; the rest waits again.
func (q *Queue) Written(n int) {
	if !q.flying || n < 0 || n > q.inFlight {
		panic(fmt.Sprintf("session: %d bytes written of %d handed out", n, q.inFlight))
	}
	q.flying, q.inFlight = false, 0
	q.bytes -= n
	q.wrote += uint64(n)
	q.finishMessages(n)
	for n > 0 {
		s := &q.segs[q.first]
		k := min(n, s.end-s.off)
		s.off += k
		n -= k
		if s.off == s.end {
			q.popSeg()
		}
	}
	if q.closed {
		q.Discard()
		return
	}
	q.compacted = 0
	if q.own != nil && q.own.refs == 1 {
		q.dropOwn() // nothing waits in it, and it would pin memory that nobody counts
	}
	switch {
	case q.bytes == 0:
		q.segs, q.first = keep(q.segs, idleSegs), 0
		q.msgs, q.firstMsg = keep(q.msgs, idleMsgs), 0
	default:
		q.shift()
		q.maybeCompact()
	}
}

// How many entries an empty queue keeps room for. What a storm needed is given back, or each client that was once slow
// would keep it for good: some 4 KiB remain.
const (
	idleSegs = 72
	idleMsgs = 512
)

// keep empties s, and lets go of its memory if that is for more than n entries.
func keep[T any](s []T, n int) []T {
	if cap(s) > n {
		return nil
	}
	return s[:0]
}

// finishMessages takes n bytes off the first messages.
func (q *Queue) finishMessages(n int) {
	for n > 0 {
		msg := &q.msgs[q.firstMsg]
		left := int(*msg &^ uncounted)
		if n < left {
			*msg -= uint32(n)
			q.partial = true
			return
		}
		n -= left
		q.partial = false
		if *msg&uncounted == 0 {
			q.counted--
		}
		q.firstMsg++
	}
}

// popSeg removes the first segment. A neighbor in the same chunk inherits that it is pinned.
func (q *Queue) popSeg() {
	s := &q.segs[q.first]
	if next := q.first + 1; next < len(q.segs) && q.segs[next].c == s.c {
		q.segs[next].pin = s.pin
	} else {
		q.pinned -= s.pin
	}
	s.c.unref()
	*s = seg{}
	q.first++
}

// shift moves what waits to the front of its slices when most of them is behind, so that these do not grow.
func (q *Queue) shift() {
	if q.first > 16 && q.first > len(q.segs)/2 {
		n := copy(q.segs, q.segs[q.first:])
		clear(q.segs[n:])
		q.segs, q.first = q.segs[:n], 0
	}
	if q.firstMsg > 64 && q.firstMsg > len(q.msgs)/2 {
		n := copy(q.msgs, q.msgs[q.firstMsg:])
		q.msgs, q.firstMsg = q.msgs[:n], 0
	}
}

func (q *Queue) dropOwn() {
	if q.own != nil {
		q.own.unref()
		q.own = nil
	}
}

// Discard releases everything and closes the queue. What is in flight stays until Written.
func (q *Queue) Discard() {
	q.closed = true
	keep, flying := q.first, 0
	for flying < q.inFlight {
		flying += q.segs[keep].end - q.segs[keep].off
		keep++
	}
	for _, s := range q.segs[keep:] {
		q.pinned -= s.pin
		s.c.unref()
	}
	clear(q.segs[keep:])
	q.segs = q.segs[:keep]
	q.bytes = flying
	q.dropOwn()
	if !q.flying {
		q.segs, q.first, q.msgs, q.firstMsg, q.counted = nil, 0, nil, 0, 0
	}
}

// maybeCompact bounds the pinned memory: a slow client that gets a small message now and then would otherwise keep a
// chunk for each. Runs of segments that fill less than a third of their shared chunk are copied to chunks of the queue's
// own; the rest then pins at most three times its bytes, own chunks about their bytes. A byte is copied at most once.
// Segments in flight stay, because somebody reads them.
func (q *Queue) maybeCompact() {
	if q.pinned <= pinFactor*q.bytes+pinSlack || q.pinned <= q.compacted {
		return
	}
	at, flying := q.first, 0
	for flying < q.inFlight {
		flying += q.segs[at].end - q.segs[at].off
		at++
	}
	// How much to copy decides how large the own chunk is.
	total := 0
	for i := at; i < len(q.segs); {
		j, bytes := q.run(i)
		if q.sparse(i, bytes) {
			total += bytes
		}
		i = j
	}
	if total > 0 {
		q.rewrite(at, total)
	}
	q.compacted = q.pinned + DefaultChunkBytes
}

// run is the end of the run of segments in one chunk that begins at i, and its bytes.
func (q *Queue) run(i int) (end, bytes int) {
	c := q.segs[i].c
	for end = i; end < len(q.segs) && q.segs[end].c == c; end++ {
		bytes += q.segs[end].end - q.segs[end].off
	}
	return end, bytes
}

// sparse reports whether the run of so many bytes at i is worth a copy.
func (q *Queue) sparse(i, bytes int) bool {
	c := q.segs[i].c
	return !c.own && bytes*3 < cap(c.mem)
}

// rewrite copies the sparse runs from at on, total bytes, and keeps the order. Segments never become more, so they are
// written over themselves.
func (q *Queue) rewrite(at, total int) {
	old := q.segs[at:]
	for _, s := range old {
		q.pinned -= s.pin
	}
	q.segs = q.segs[:at]
	for i := 0; i < len(old); {
		c, j, bytes := old[i].c, i, 0
		for ; j < len(old) && old[j].c == c; j++ {
			bytes += old[j].end - old[j].off
		}
		if c.own || bytes*3 >= cap(c.mem) {
			for ; i < j; i++ {
				q.addSeg(old[i])
			}
			continue
		}
		for ; i < j; i++ {
			s := old[i]
			q.copyOwn(s.c.mem[s.off:s.end], total)
			total -= s.end - s.off
			s.c.unref()
		}
	}
	clear(old[len(q.segs)-at:])
}

// copyOwn appends b to the queue as own memory. total is how much will follow, b included.
func (q *Queue) copyOwn(b []byte, total int) {
	c := q.own
	if c == nil || cap(c.mem)-len(c.mem) < len(b) {
		q.dropOwn()
		c = q.pool.newChunk(max(len(b), min(total, DefaultChunkBytes)))
		c.own = true
		q.own = c
	}
	off := len(c.mem)
	c.mem = append(c.mem, b...)
	if n := len(q.segs); n > q.first && q.segs[n-1].c == c && q.segs[n-1].end == off {
		q.segs[n-1].end = len(c.mem)
		return
	}
	c.refs++
	q.addSeg(seg{c: c, off: off, end: len(c.mem)})
}

// CheckInvariants says what must hold between calls.
func (q *Queue) CheckInvariants() error {
	bytes, pinned, msgs, counted := 0, 0, 0, 0
	for i, s := range q.segs[q.first:] {
		if s.off >= s.end || s.end > len(s.c.mem) || s.c.refs < 1 {
			return fmt.Errorf("session queue: segment %d is [%d,%d) of %d bytes, %d references", i, s.off, s.end, len(s.c.mem), s.c.refs)
		}
		want := cap(s.c.mem)
		if i > 0 && q.segs[q.first+i-1].c == s.c {
			want = 0
		}
		if s.pin != want {
			return fmt.Errorf("session queue: segment %d pins %d, want %d", i, s.pin, want)
		}
		bytes += s.end - s.off
		pinned += s.pin
	}
	for _, m := range q.msgs[q.firstMsg:] {
		msgs += int(m &^ uncounted)
		if m&uncounted == 0 {
			counted++
		}
	}
	switch {
	case bytes != q.bytes || pinned != q.pinned:
		return fmt.Errorf("session queue: %d bytes pin %d, counted %d and %d", bytes, pinned, q.bytes, q.pinned)
	case !q.closed && (msgs != q.bytes || counted != q.counted):
		return fmt.Errorf("session queue: messages have %d of %d bytes; %d count, %d counted", msgs, q.bytes, counted, q.counted)
	case q.inFlight > q.bytes || q.inFlight > 0 && !q.flying:
		return fmt.Errorf("session queue: %d bytes in flight of %d", q.inFlight, q.bytes)
	case !q.flying && !q.closed && q.pinned > max(pinFactor*q.bytes+pinSlack, q.compacted):
		return fmt.Errorf("session queue: %d bytes pin %d", q.bytes, q.pinned)
	}
	return nil
}
