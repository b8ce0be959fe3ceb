// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"evensong/internal/proto/packet"
	"evensong/internal/transport"
)

const (
	// udpSlots datagrams may wait between a reader and the loop; the kernel's buffer holds what comes beyond.
	udpSlots = 64
	// eventSlots bounds the clients' events that wait for the loop; readers then wait, which is back-pressure.
	eventSlots = 256
	// portableReadBytes is the largest read buffer of a connection. One that says little has one of idleReadBytes: after so
	// many reads that it would have held, idleReads, it is back there.
	portableReadBytes = 32 << 10
	idleReadBytes     = 1 << 10
	idleReads         = 16
	// spareOuts buffers of writes are kept for the next ones.
	spareOuts = 64
	// portableWriteBytes bounds what one write is given, so that its end tells soon how fast the peer reads.
	portableWriteBytes = 64 << 10
	portableSlices     = 256
)

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

// datagram is one received packet in a slot that goes back to its reader.
type datagram struct {
	from netip.AddrPort
	b    []byte
	n    int
	free chan<- []byte
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

// pclient is one connection. The states are those of the epoll loop.
type pclient struct {
	id       uint64 // zero if refused
	nc       net.Conn
	securing sync.Mutex // held by a handshake: nobody but its goroutine may use its connection
	tls      *tls.Conn  // between nc and the session; nil: it is not. Under securing
	state    pstate
	more     chan struct{} // tells the reader to go on; room for one
	jobs     chan []byte   // what to write, nil for our end; room for one. Closed at the end
	out      []byte        // the job's memory: a copy, because the machine may change its own meanwhile
	writing  bool          // a job is out
	dirty    bool
	resuming bool
	paused   bool
	deaf     bool
	ended    bool // the peer will never say anything again; it may still read
	rest     []byte
	deadline time.Duration
	drained  int
	tell     bool // HandleClosed is owed once the writer is done
}

type pstate uint8

const (
	pOpen     pstate = iota // a session of the machine
	pFlushing               // closed by the machine, some bytes are left to write
	pDraining               // our side is shut down
	pClosed                 // closed; the writer has not said so yet
	pGone                   // nothing is left
)

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

// Send implements shell.
func (l *portableLoop) Send(s []packet.Send) { l.conn.Send(s) }

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

// readDatagrams hands what one source receives to the loop.
func (l *portableLoop) readDatagrams(s transport.Source) {
	free := make(chan []byte, udpSlots)
	made := 0
	for {
		var b []byte
		select {
		case b = <-free:
		default:
			if made < udpSlots {
				made++
				b = make([]byte, packet.MaxDatagram)
				break
			}
			select {
			case b = <-free:
			case <-l.over:
				return
			}
		}
		n, from, err := s.Receive(b)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// A network that goes away comes back; meanwhile, do not spin.
			select {
			case free <- b:
			default:
			}
			select {
			case <-time.After(acceptPause):
				continue
			case <-l.over:
				return
			}
		}
		select {
		case l.udp <- datagram{from: from, b: b, n: n, free: free}:
		case <-l.over:
			return
		}
	}
}

// drainDatagrams takes the datagrams that wait, a bounded number.
func (l *portableLoop) drainDatagrams() {
	for range udpSlots {
		select {
		case d := <-l.udp:
			l.datagram(d)
		default:
			l.handUp()
			return
		}
	}
	l.handUp()
}

func (l *portableLoop) datagram(d datagram) {
	if !l.stopped {
		l.handleDatagram(d.from, d.b[:d.n])
	}
	d.free <- d.b // has room for all slots there are
}

// acceptAll hands the connections of one listener to the loop.
func (l *portableLoop) acceptAll(ln *listener) {
	for {
		nc, err := ln.Accept()
		if err == nil {
			if !l.post(event{kind: eventAccepted, nc: nc, local: ln.local}) {
				nc.Close()
				return
			}
			continue
		}
		if errors.Is(err, net.ErrClosed) || !l.post(event{kind: eventAcceptError, err: err}) {
			return
		}
		select {
		case <-time.After(acceptPause):
		case <-l.over:
			return
		}
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

// admit makes a new connection a session, or refuses it.
func (l *portableLoop) admit(nc net.Conn, local bool) {
	l.stats.Accepts.Add(1)
	if t, ok := nc.(*net.TCPConn); ok {
		// TCP_NODELAY is on by itself. A connection works without keepalive, too.
		_ = t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 60 * time.Second, Interval: 15 * time.Second, Count: 4})
	}
	c := &pclient{nc: nc, more: make(chan struct{}, 1), jobs: make(chan []byte, 1)}
	l.all[c] = struct{}{}
	l.wg.Go(func() { l.readClient(c) })
	l.wg.Go(func() { l.writeClient(c) })
	if len(l.sessions) >= l.cfg.MaxSessions {
		l.stats.RejectsSessions.Add(1)
		l.note(slog.LevelWarn, "session refused", slog.String("reason", "too many sessions"), slog.Int("sessions", l.cfg.MaxSessions))
		l.linger(c)
		c.writing = true
		c.jobs <- rejectQuota
		if len(l.all)-len(l.sessions) > refusedLinger {
			l.cut(c)
		}
		return
	}
	if c.id = l.m.HandleAccept(l.now, local, remoteAddr(nc), &l.fx); c.id == 0 {
		panic("a session numbered zero")
	}
	if uid, ok := peerUser(nc); ok {
		l.m.HandleUser(c.id, uid)
	}
	l.sessions[c.id] = c
	l.stats.Sessions.Add(1)
	l.perform()
}

// readClient hands over what a connection receives, one buffer at a time.
func (l *portableLoop) readClient(c *pclient) {
	from, secure := l.beginTLS(c)
	if secure {
		l.stats.TLSConnections.Add(1)
		defer l.stats.TLSConnections.Add(-1)
	}
	b := make([]byte, idleReadBytes)
	for small := 0; ; {
		n, err := from.Read(b)
		if n > 0 {
			if !l.post(event{kind: eventInput, c: c, b: b[:n]}) {
				return
			}
			if _, ok := <-c.more; !ok {
				return
			}
			if small++; n > idleReadBytes {
				small = 0
			}
			switch {
			case n == len(b) && n < portableReadBytes:
				b = make([]byte, min(4*n, portableReadBytes))
			case small >= idleReads && len(b) > idleReadBytes:
				b = make([]byte, idleReadBytes)
			}
		}
		if err != nil {
			if err == io.EOF {
				err = nil
			}
			l.post(event{kind: eventEnd, c: c, err: err})
			return
		}
	}
}

// beginTLS looks at the first byte of a connection over TCP, and runs the handshake if that begins one. It returns where to read
// on, and whether that is TLS.
func (l *portableLoop) beginTLS(c *pclient) (from io.Reader, secure bool) {
	config := l.tls.config.Load()
	if config == nil || !remoteAddr(c.nc).IsValid() {
		return c.nc, false
	}
	var first [1]byte
	n, err := c.nc.Read(first[:])
	if err != nil {
		return failing{err}, false
	}
	rest := io.MultiReader(bytes.NewReader(first[:n]), c.nc)
	if first[0] != recordHandshake {
		return rest, false
	}
	t, g := l.tls.server(begun{c.nc, rest}, config)
	c.securing.Lock()
	cert, err := l.tls.handshake(t, g)
	c.tls = t
	c.securing.Unlock()
	if !l.post(event{kind: eventTLS, c: c, cert: cert, err: err}) {
		return failing{net.ErrClosed}, false
	}
	if _, ok := <-c.more; !ok {
		return failing{net.ErrClosed}, false
	}
	if err != nil {
		return c.nc, false // the loop throws away what still comes
	}
	return t, true
}

// begun is a connection of which something was read already.
type begun struct {
	net.Conn
	rest io.Reader
}

// Read implements net.Conn.
func (b begun) Read(p []byte) (int, error) { return b.rest.Read(p) }

// failing is a reader that has failed.
type failing struct{ err error }

// Read implements io.Reader.
func (f failing) Read([]byte) (int, error) { return 0, f.err }

// writeClient writes what the loop gives it, and says so.
func (l *portableLoop) writeClient(c *pclient) {
	for job := range c.jobs {
		if job == nil {
			if c.securing.TryLock() { // or TLS has not begun, and has nothing to end
				if c.tls != nil {
					closeWrite(c.tls)
				}
				c.securing.Unlock()
			}
			closeWrite(c.nc) // fails if the peer is gone, which the reader then says, too
			continue
		}
		to := c.nc
		c.securing.Lock()
		if c.tls != nil {
			to = c.tls
		}
		c.securing.Unlock()
		n, err := to.Write(job)
		for to == c.nc && (errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM)) {
			// The kernel is short of memory, which is no word of the peer. What is below TLS sees to that itself.
			l.stats.ClientWritesNoMemory.Add(1)
			time.Sleep(memoryPause)
			var more int
			more, err = to.Write(job[n:])
			n += more
		}
		if !l.post(event{kind: eventWritten, c: c, n: n, err: err}) {
			return
		}
	}
}

// input offers bytes to the machine.
func (l *portableLoop) input(c *pclient, b []byte) {
	l.stats.ClientReads.Add(1)
	switch c.state {
	case pOpen:
		l.stats.ClientBytesIn.Add(uint64(len(b)))
		used := l.m.HandleInput(l.now, c.id, b, &l.fx)
		if used < len(b) {
			c.rest, c.paused = b[used:], true // the reader waits, so the buffer stays
			l.stats.ClientsPaused.Add(1)
		} else {
			c.more <- struct{}{}
		}
		l.perform()
	case pFlushing, pDraining:
		if c.drained += len(b); c.drained > lingerBytes {
			l.cut(c)
			return
		}
		c.more <- struct{}{}
	}
}

// resume offers the machine again what it had refused.
func (l *portableLoop) resume(c *pclient) {
	if c.state != pOpen || !c.paused {
		return
	}
	used := l.m.HandleInput(l.now, c.id, c.rest, &l.fx)
	if c.rest = c.rest[used:]; len(c.rest) == 0 {
		l.unpause(c)
	}
	l.perform()
}

// unpause lets the reader go on.
func (l *portableLoop) unpause(c *pclient) {
	if c.paused {
		c.paused, c.rest = false, nil
		l.stats.ClientsPaused.Add(-1)
		c.more <- struct{}{}
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

// write gives the writer its next job, if it has none and there is something.
func (l *portableLoop) write(c *pclient) {
	if c.state > pFlushing || c.writing || c.deaf || c.id == 0 {
		return
	}
	l.slices = l.m.Output(c.id, l.slices[:0], portableSlices)
	if len(l.slices) == 0 {
		if c.state == pFlushing {
			l.shutdown(c)
		}
		return
	}
	if k := len(l.outs); c.out == nil && k > 0 {
		c.out, l.outs[k-1] = l.outs[k-1], nil
		l.outs = l.outs[:k-1]
	}
	c.out = c.out[:0]
	for _, s := range l.slices {
		c.out = append(c.out, s[:min(len(s), portableWriteBytes-len(c.out))]...)
	}
	clear(l.slices)
	c.writing = true
	l.stats.ClientWrites.Add(1)
	l.stats.ClientsBlocked.Add(1)
	c.jobs <- c.out
}

// written is the end of a job.
func (l *portableLoop) written(c *pclient, n int, err error) {
	c.writing = false
	if c.out != nil {
		if len(l.outs) < spareOuts {
			l.outs = append(l.outs, c.out)
		}
		c.out = nil
	}
	if c.id == 0 { // the answer to a refused connection
		if c.state == pFlushing {
			l.shutdown(c)
		} else if c.state == pClosed {
			l.finish(c)
		}
		return
	}
	l.stats.ClientsBlocked.Add(-1)
	l.stats.ClientBytesOut.Add(uint64(n))
	if n > 0 && !c.tell {
		l.m.HandleWritten(l.now, c.id, n, &l.fx)
		l.perform()
	}
	switch {
	case c.state == pClosed:
		l.finish(c)
	case err != nil && c.state == pFlushing:
		l.cut(c)
	case err != nil:
		c.deaf = true // what the peer said before is still valid; the reader tells when that ends
	default:
		l.write(c)
	}
}

// beginClose ends a session as the machine wants it: last bytes, shutdown, drain, close.
func (l *portableLoop) beginClose(c *pclient) {
	if c.state != pOpen {
		return
	}
	l.linger(c)
	l.unpause(c)
	if c.deaf {
		l.cut(c)
		return
	}
	l.write(c)
}

func (l *portableLoop) linger(c *pclient) {
	c.state = pFlushing
	c.deadline = l.now + lingerTime
	l.closing = append(l.closing, c)
	l.stats.Closing.Add(1)
}

// shutdown ends our side of a connection; see the epoll loop.
func (l *portableLoop) shutdown(c *pclient) {
	c.state = pDraining
	if c.ended {
		l.close(c)
		return
	}
	c.jobs <- nil // the writer has nothing to do; with TLS an end is something to write, and may have to wait
}

// closeWrite ends our side of a connection, if that can be done with its kind.
func closeWrite(c net.Conn) {
	if s, ok := c.(interface{ CloseWrite() error }); ok {
		_ = s.CloseWrite()
	}
}

// cut closes a closing connection. The machine learns that it can let go of bytes that nobody took.
func (l *portableLoop) cut(c *pclient) {
	if c.state == pFlushing {
		l.stats.ClosesCut.Add(1)
		c.tell = c.id != 0
	}
	l.close(c)
}

// expire cuts closing connections that took too long.
func (l *portableLoop) expire() {
	for len(l.closing) > 0 {
		c := l.closing[0]
		if c.state < pClosed {
			if c.deadline > l.now {
				return
			}
			l.cut(c)
		}
		l.closing[0] = nil
		l.closing = l.closing[1:]
	}
	l.closing = nil
}

// close closes a connection. If the writer is at work, the rest waits until it has said how far it got.
func (l *portableLoop) close(c *pclient) {
	if c.state == pFlushing || c.state == pDraining {
		l.stats.Closing.Add(-1)
	}
	if c.paused {
		c.paused, c.rest = false, nil
		l.stats.ClientsPaused.Add(-1)
	}
	c.state = pClosed
	c.nc.Close()
	close(c.more)
	close(c.jobs)
	if !c.writing {
		l.finish(c)
	}
}

// finish forgets a connection.
func (l *portableLoop) finish(c *pclient) {
	c.state = pGone
	delete(l.all, c)
	if c.id == 0 {
		return
	}
	delete(l.sessions, c.id)
	l.stats.Sessions.Add(-1)
	if c.tell {
		l.m.HandleClosed(l.now, c.id, &l.fx)
		l.perform()
	}
}
