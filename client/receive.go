// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"iter"
	"net"
	"os"
	"runtime"
	"sync"
	"time"

	"evensong/internal/proto/frame"
)

// lastWordsTimeout is how long the reader looks for what the daemon still had to say after a write failed.
const lastWordsTimeout = time.Second

// Next returns the next event, waiting for it if need be. An event that is already there is returned even if ctx has
// ended. When the session is lost Next first returns all events received before, then an error, the same one from then
// on: errors.Is(err, ErrConnectionClosed). After Close it is ErrClosed. If ctx ends the wait, the error is that of ctx
// and no event is lost.
//
// Several goroutines may call Next; each event goes to one of them.
func (c *Conn) Next(ctx context.Context) (Event, error) {
	for {
		ev, err := c.in.pop()
		if ev != nil || err != nil {
			return ev, err
		}
		select {
		case <-c.in.ready:
		case <-ctx.Done():
			return nil, wrap("receive", ctx.Err())
		}
	}
}

// Events is Next as a loop:
//
//	for ev, err := range c.Events(ctx) {
//		if err != nil {
//			return err
//		}
//		...
//	}
//
// The loop ends without an error after Close, and with one, delivered as its last pair, when the session is lost or ctx
// ends. Leaving the loop early loses no event. Pooled messages are not released by the loop.
func (c *Conn) Events(ctx context.Context) iter.Seq2[Event, error] { return loop(ctx, c.Next) }

// loop is next as a loop.
func loop(ctx context.Context, next func(context.Context) (Event, error)) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			// next prefers events to ctx; here a busy group must not keep a canceled loop alive.
			err := ctx.Err()
			var ev Event
			if err != nil {
				err = wrap("receive", err)
			} else {
				ev, err = next(ctx)
			}
			if err != nil {
				if !errors.Is(err, ErrClosed) {
					yield(nil, err)
				}
				return
			}
			if !yield(ev, nil) {
				return
			}
		}
	}
}

// Waiting is the number of events that Next returns without waiting.
func (c *Conn) Waiting() int {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	return len(c.in.events) - c.in.head
}

// queued is an event with the bytes it counts for in the receive queue.
type queued struct {
	event Event
	bytes int
}

// inbox takes events from the reader goroutine to Next.
type inbox struct {
	limit int
	// ready wakes one Next; it hands on to the next one if there is more.
	ready chan struct{}
	// space wakes the reader when bytes fell below limit, or when the inbox failed.
	space chan struct{}

	mu     sync.Mutex
	events []queued // events[head:] wait to be received
	head   int
	bytes  int
	err    error // what Next returns after the last event. Set once, except that Close replaces it
	closed bool  // events are dropped
}

func (in *inbox) init(limit int) {
	in.limit = limit
	in.ready = make(chan struct{}, 1)
	in.space = make(chan struct{}, 1)
}

// pop returns the next event, or the final error, or neither.
func (in *inbox) pop() (Event, error) {
	in.mu.Lock()
	if in.head == len(in.events) {
		err := in.err
		in.mu.Unlock()
		if err != nil {
			wake(in.ready)
		}
		return nil, err
	}
	q := in.events[in.head]
	in.events[in.head] = queued{} // the queue must not keep what it handed out
	in.head++
	if in.bytes >= in.limit && in.bytes-q.bytes < in.limit {
		wake(in.space)
	}
	in.bytes -= q.bytes
	more := in.head < len(in.events) || in.err != nil
	in.mu.Unlock()
	if more {
		wake(in.ready)
	}
	return q.event, nil
}

// put adds a batch, then waits until there is space for another one. It leaves batch to the caller. The wait comes
// behind the adding so that one event is always accepted; the queue exceeds its limit by at most one read buffer, or one
// message that is larger.
func (in *inbox) put(batch []queued) {
	if len(batch) == 0 {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return
	}
	if in.head == len(in.events) {
		in.events, in.head = in.events[:0], 0
	} else if in.head > len(in.events)/2 {
		// Moves each event at most once per halving, so its cost is constant per event.
		n := copy(in.events, in.events[in.head:])
		clear(in.events[n:])
		in.events, in.head = in.events[:n], 0
	}
	for _, q := range batch {
		in.bytes += q.bytes
	}
	in.events = append(in.events, batch...)
	wake(in.ready)
	for in.bytes >= in.limit && !in.closed {
		in.mu.Unlock()
		<-in.space
		in.mu.Lock()
	}
}

// deadline bounds the next read, unless the session is being closed, which has a deadline of its own.
func (in *inbox) deadline(nc net.Conn, d time.Duration) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.closed {
		nc.SetReadDeadline(time.Now().Add(d))
	}
}

// fail ends the inbox; drop tells whether events not yet received are thrown away.
func (in *inbox) fail(err error, drop bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.err == nil || drop {
		in.err = err
	}
	if drop {
		in.closed = true
		clear(in.events)
		in.events, in.head, in.bytes = nil, 0, 0
		wake(in.space)
	}
	wake(in.ready)
}

func wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// readLoop is the reader goroutine: it reads as much as there is, decodes every complete frame, and hands the events
// over together.
func (c *Conn) readLoop(rest []byte) {
	defer close(c.readerDone)
	r := reader{conn: c, buf: make([]byte, max(c.opts.readBuffer, len(rest))), read: directReader(c.nc)}
	r.decode = r.next
	if c.own != nil {
		r.decode = r.nextOwn
		r.parts.Limit = frame.MaxOwnBody
	}
	r.tail = copy(r.buf, rest)
	var batch []queued
	var err error
	for {
		for {
			ev, n, decodeErr := r.event()
			if decodeErr != nil {
				err = decodeErr
				break
			}
			if ev == nil {
				break
			}
			batch = append(batch, queued{ev, n})
		}
		c.in.put(batch)
		if len(batch) == 1 {
			// Whoever waits for it goes first: the next read most likely finds nothing, and is only in the way.
			runtime.Gosched()
		}
		clear(batch)
		batch = batch[:0]
		if err != nil {
			c.lost(r.explain(err))
			return
		}
		err = r.fill()
	}
}

// lost ends the session from the reader's side. Closing the connection here ends the writer too, so that a session
// that was lost leaves no goroutine even if nobody calls Close.
func (c *Conn) lost(err error) {
	if w := c.out.failure(); w != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		err = w // the writer noticed first
	}
	// Senders first: who has this error from Next gets it from every other call, too, and no message is accepted any more.
	select {
	case <-c.writerDone:
	default:
		c.out.fail(err)
	}
	if c.own != nil {
		c.own.end(err)
	}
	c.in.fail(err, false)
	c.nc.Close()
}

// boundReader ends the reader in a moment.
func (c *Conn) boundReader() { c.nc.SetReadDeadline(time.Now().Add(lastWordsTimeout)) }

// reader cuts the daemon's stream into frames.
type reader struct {
	conn  *Conn
	read  func(b, more []byte) (int, error) // conn.nc.Read, at less cost; what b has no room for may go to more
	buf   []byte
	names nameCache
	// decode takes the event at head, in the dialect of the session; parts has what came of bodies in pieces.
	decode func() (Event, int, error)
	parts  frame.OwnAssembly
	// primary is what the daemon said last of the configuration that its frames belong to.
	primary Primary
	// buf[head:tail] is received and not yet decoded.
	head, tail int
	// need is the size of the frame at head, as far as it is known; more than len(buf) for a frame larger than the
	// usual buffer.
	need  int
	large largeMessage
}

// fill reads once. It first makes room: the incomplete frame at head moves to the front, and a frame larger than the
// buffer lets it grow, by doubling while bytes arrive, so that a header alone cannot claim memory.
func (r *reader) fill() error {
	if r.head > 0 {
		r.tail = copy(r.buf, r.buf[r.head:r.tail])
		r.head = 0
	}
	usual := r.conn.opts.readBuffer
	switch {
	case r.tail == len(r.buf):
		bigger := make([]byte, min(2*len(r.buf), max(r.need, usual)))
		copy(bigger, r.buf[:r.tail])
		r.buf = bigger
	case len(r.buf) > usual && r.tail <= usual && r.need <= usual:
		small := make([]byte, usual)
		copy(small, r.buf[:r.tail])
		r.buf = small
	}
	if s := r.conn.own; s != nil && s.ping > 0 {
		r.conn.in.deadline(r.conn.nc, silentIntervals*s.ping)
	}
	var n int
	var err error
	if r.large.event != nil {
		n, err = r.fillLarge()
	} else {
		n, err = r.read(r.buf[r.tail:], nil)
		r.tail += n
	}
	if n > 0 && err != nil {
		// Deliver what came; the error comes again with the next read.
		return nil
	}
	return err
}

// explain turns the end of the stream into the error that users see.
func (r *reader) explain(err error) error {
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	e := &Error{Op: "receive", Code: ErrConnectionClosed, Err: err}
	switch {
	case isEnd(err) && (r.tail > r.head || r.large.event != nil):
		e.Detail = "the daemon ended the session in the middle of a message; daemons do that to receivers that are too slow"
	case isEnd(err):
		e.Detail = "the daemon ended the session"
	case errors.Is(err, os.ErrDeadlineExceeded) && r.conn.own != nil && r.conn.own.ping > 0:
		e.Detail = "the daemon gave no sign of life"
	default:
		e.Detail = "reading from the daemon"
	}
	return e
}
