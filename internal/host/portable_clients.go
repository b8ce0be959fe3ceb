// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"
)

const (
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
