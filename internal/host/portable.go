// SPDX-License-Identifier: Apache-2.0

package host

import (
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"evensong/internal/transport"
)

// eventSlots bounds the clients' events that wait for the loop; readers then wait, which is back-pressure.
const eventSlots = 256

// portableLoop is one goroutine that owns the machine, and others that wait in the net package on its behalf: one per
// datagram source and listener, two per connection.
type portableLoop struct {
	*core
	conn      transport.Conn
	listeners []*listener
	wg        sync.WaitGroup
	over      chan struct{} // closed when the loop has ended: nobody receives any more
	ended     bool

	udp   chan datagram
	in    chan event
	mailc chan struct{} // room for one: the mailbox has something

	sessions map[uint64]*pclient
	all      map[*pclient]struct{} // also those that are no sessions
	dirty    []*pclient
	resumed  []*pclient
	closes   []Close
	closing  []*pclient // by deadline; ended ones are skipped
	slices   [][]byte
	outs     [][]byte // memory of writes that have ended
}

type eventKind uint8

const (
	eventAccepted eventKind = iota
	eventInput
	eventEnd // no more input
	eventWritten
	eventAcceptError
	eventTLS // the outcome of a handshake: cert, or err
)

// event is what a goroutine of a connection or listener has to say.
type event struct {
	kind  eventKind
	c     *pclient
	b     []byte // input; the reader waits for more before it uses the buffer again
	n     int    // written
	err   error
	local bool
	nc    net.Conn
	cert  string
}

func newPortableLoop(c *core, ls []*listener) (loop, error) {
	conn := c.cfg.Conn
	if conn == nil {
		p, err := transport.OpenPortable(c.cfg.Transport)
		if err != nil {
			return nil, err
		}
		conn = p
	}
	c.stats.Transport = conn.Stats()
	return &portableLoop{core: c, conn: conn, listeners: ls, over: make(chan struct{}), udp: make(chan datagram, udpSlots),
		in: make(chan event, eventSlots), mailc: make(chan struct{}, 1), sessions: make(map[uint64]*pclient), all: make(map[*pclient]struct{})}, nil
}

// localAddr implements loop.
func (l *portableLoop) localAddr() netip.AddrPort { return l.conn.LocalAddr() }

// wake implements loop.
func (l *portableLoop) wake() {
	select {
	case l.mailc <- struct{}{}:
	default: // it is to wake already
	}
}

// release implements loop.
func (l *portableLoop) release() {
	if l.ended {
		return
	}
	l.ended = true
	close(l.over)
	l.conn.Close()
	closeListeners(l.listeners)
	for c := range l.all {
		c.nc.Close()
		if c.state < pClosed {
			close(c.more)
			close(c.jobs)
		}
	}
	l.wg.Wait()
	for { // connections that were accepted and not seen any more
		select {
		case ev := <-l.in:
			if ev.kind == eventAccepted {
				ev.nc.Close()
			}
		default:
			return
		}
	}
}

// markOutput implements shell.
func (l *portableLoop) markOutput(id uint64) {
	if c := l.sessions[id]; c != nil && !c.dirty {
		c.dirty = true
		l.dirty = append(l.dirty, c)
	}
}

// markResume implements shell.
func (l *portableLoop) markResume(id uint64) {
	if c := l.sessions[id]; c != nil && !c.resuming {
		c.resuming = true
		l.resumed = append(l.resumed, c)
	}
}

// markClose implements shell.
func (l *portableLoop) markClose(c Close) { l.closes = append(l.closes, c) }

// post gives an event to the loop. False means that the loop has ended.
func (l *portableLoop) post(ev event) bool {
	select {
	case l.in <- ev:
		return true
	case <-l.over:
		return false
	}
}

// run implements loop.
func (l *portableLoop) run() error {
	for _, s := range l.conn.Sources() {
		l.wg.Go(func() { l.readDatagrams(s) })
	}
	for _, ln := range l.listeners {
		l.wg.Go(func() { l.acceptAll(ln) })
	}
	l.tick()
	l.m.Start(l.now, &l.fx)
	l.perform()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var farewell time.Duration
	for {
		l.settle()
		if l.draining || l.leaving {
			closeListeners(l.listeners)
			l.listeners = nil
		}
		if l.leaving {
			if l.stopped && farewell == 0 {
				farewell = l.now + farewellTime
				for _, id := range slices.Sorted(maps.Keys(l.sessions)) {
					l.beginClose(l.sessions[id])
				}
			}
			switch {
			case l.stopped && (len(l.all) == 0 || l.now >= farewell):
				return nil
			case !l.stopped && l.now >= l.leaveEnd:
				return ErrLeaveTimeout
			}
		}
		if l.killed() {
			return nil
		}
		until := l.next()
		if farewell != 0 {
			until = farewell
		}
		if len(l.closing) > 0 {
			until = min(until, l.closing[0].deadline)
		}
		if len(l.dirty)+len(l.resumed)+len(l.closes) > 0 {
			until = 0
		}
		l.tick()
		timer.Reset(max(until-l.now, 0))
		select {
		case d := <-l.udp:
			l.tick()
			l.datagram(d)
		case ev := <-l.in:
			l.tick()
			l.event(ev)
		case <-l.mailc:
			l.tick()
			for _, f := range l.mail.take() {
				f()
			}
		case <-timer.C:
			l.tick()
		}
		l.stats.Wakeups.Add(1)
		l.drainDatagrams()
		l.timers()
	}
}

// event acts on what a goroutine says.
func (l *portableLoop) event(ev event) {
	c := ev.c
	switch ev.kind {
	case eventAccepted:
		l.admit(ev.nc, ev.local)
	case eventAcceptError:
		l.stats.AcceptErrors.Add(1)
		l.note(slog.LevelWarn, "accept", slog.String("reason", ev.err.Error()))
	case eventInput:
		l.input(c, ev.b)
	case eventEnd:
		switch c.state {
		case pOpen:
			c.ended = ev.err == nil // it may still read
			if !c.ended {
				c.tell = true
				l.close(c)
				return
			}
			l.m.HandleEnd(l.now, c.id, &l.fx)
			l.perform()
			l.beginClose(c)
		case pFlushing, pDraining:
			if ev.err != nil || c.state == pDraining {
				l.cut(c)
			}
			c.ended = true // an orderly end while bytes are left to write: the peer may still read
		}
	case eventWritten:
		l.written(c, ev.n, ev.err)
	case eventTLS:
		if c.state == pOpen {
			if ev.err != nil {
				l.m.RefuseTLS(l.now, c.id, handshakeText(ev.err), &l.fx)
				l.perform()
			} else {
				l.m.HandleTLS(c.id, ev.cert)
			}
		}
		if c.state < pClosed {
			c.more <- struct{}{}
		}
	}
}

// settle does the queued work.
func (l *portableLoop) settle() {
	l.expire()
	l.watchDrops()
	resumed := l.resumed
	l.resumed = nil
	for _, c := range resumed {
		c.resuming = false
		l.resume(c)
	}
	closes := l.closes
	l.closes = nil
	for _, cl := range closes {
		if c := l.sessions[cl.Session]; c != nil {
			l.beginClose(c)
		}
	}
	dirty := l.dirty
	l.dirty = nil
	for _, c := range dirty {
		c.dirty = false
		l.write(c)
	}
}
