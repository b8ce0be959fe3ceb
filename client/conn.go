// SPDX-License-Identifier: Apache-2.0

package client

import (
	"fmt"
	"net"
	"sync"
	"time"

	"evensong/internal/proto/frame"
)

// Version is the version that a daemon announces when it accepts a session.
type Version struct{ Major, Minor, Patch byte }

// String is "4.4.0".
func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }

// Conn is a session with a daemon. Its methods may be called by several goroutines at the same time. It must be closed.
//
// A Conn never reconnects: when the session is lost, every method says so from then on, and a new Dial gives a new
// session with another place in the order.
type Conn struct {
	opts         options
	nc           net.Conn
	privateGroup string
	privateBytes []byte // the same for encoders
	version      Version

	in  inbox  // events from the reader goroutine to Next
	out outbox // frames from Multicast and the like to the writer goroutine

	own *ownSession // nil: the original's protocol

	readerDone, writerDone, beatDone chan struct{}

	closeOnce sync.Once
	closeErr  error
}

// newConn starts the goroutines of a session whose handshake is done. rest is what was read behind the handshake; own is
// nil for the original's protocol.
func newConn(nc net.Conn, o options, privateGroup string, v Version, rest []byte, own *ownSession) *Conn {
	c := &Conn{
		opts:         o,
		nc:           nc,
		privateGroup: privateGroup,
		privateBytes: []byte(privateGroup),
		version:      v,
		readerDone:   make(chan struct{}),
		writerDone:   make(chan struct{}),
		beatDone:     make(chan struct{}),
		own:          own,
	}
	c.in.init(o.receiveQueue)
	c.out.init(o.sendBuffer, directWriter(nc))
	go c.readLoop(rest)
	go c.writeLoop()
	go c.beat()
	return c
}

// PrivateGroup is the name of this session, "#name#daemon": how it appears as sender and as member, and a destination
// that reaches only it.
func (c *Conn) PrivateGroup() string { return c.privateGroup }

// DaemonVersion is what the daemon announced. Daemons speak the protocol of the version they announce, whoever made
// them: it does not tell an Evensong daemon from another one.
func (c *Conn) DaemonVersion() Version { return c.version }

// Membership reports whether the session gets views, transitional signals and self-leaves: see WithMembership.
func (c *Conn) Membership() bool { return c.opts.membership }

// LocalAddr is the local end of the connection.
func (c *Conn) LocalAddr() net.Addr { return c.nc.LocalAddr() }

// RemoteAddr is the daemon's end of the connection.
func (c *Conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// Close ends the session in order: it writes what Multicast has accepted, tells the daemon, and waits until the daemon
// has ended its side, for at most the time of WithCloseTimeout. Members of this session's groups then see a view caused
// by a disconnect. Events that were not received are dropped; waiting calls return ErrClosed. When Close
// returns, no goroutine of the session is left.
//
// The error says that accepted messages may not have reached the daemon. It is nil if the session was lost before,
// because then Next and the sending calls have said so. Calling Close again waits for the first call and returns its
// result.
func (c *Conn) Close() error {
	c.closeOnce.Do(func() { c.closeErr = c.close(c.opts.closeTimeout, true) })
	return c.closeErr
}

// Abort ends the session at once without telling the daemon, which notices that the connection is gone. What is still
// in the send buffer is lost. For the other members the result looks like Close, but that in the own dialect the Detail
// of a View tells the two apart.
func (c *Conn) Abort() {
	c.closeOnce.Do(func() { c.closeErr = c.close(0, false) })
}

func (c *Conn) close(timeout time.Duration, goodBye bool) error {
	lostBefore := !c.out.finish(func(buf []byte) []byte {
		switch {
		case !goodBye: // the writer may be quicker than the end of the connection
			return buf
		case c.own != nil:
			return frame.AppendOwnBye(buf)
		}
		return frame.AppendKill(buf, c.privateGroup)
	})
	if c.own != nil {
		c.own.end(errClosed)
	}
	c.in.fail(wrap("receive", errClosed), true)
	if timeout > 0 {
		// One budget for both directions. The reader goes on so that a daemon that is writing to us can get to our
		// last message, and because its end of stream is the sign that it has read it: the private name is free
		// again soon after (client-protocol 2.1, rule 9).
		deadline := time.Now().Add(timeout)
		c.nc.SetDeadline(deadline)
		<-c.writerDone
		if c.out.failure() == nil {
			<-c.readerDone
		}
	}
	c.nc.Close()
	<-c.writerDone
	<-c.readerDone
	<-c.beatDone
	// The daemon may have answered the last message by ending the session before the writer could report success, so
	// what counts is whether something was left unwritten.
	if err := c.out.failure(); err != nil && c.out.unwritten() && !lostBefore && timeout > 0 {
		return &Error{Op: "close", Code: ErrConnectionClosed, Detail: "messages not yet written are lost", Err: err}
	}
	return nil
}
