// SPDX-License-Identifier: Apache-2.0

package host

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is the end of a connection where TLS is: goroutines with crypto/tls between the client and a pair of sockets, of
// which the loop has the other one, as if it were the client itself.
type terminal struct {
	side  *tlsSide
	outer *net.TCPConn  // to the client
	inner *net.UnixConn // to the loop
	tls   *tls.Conn
	gate  *gated
	// secured and failed bring the outcome of the handshake to the loop; secured returns when the loop knows it, false if it
	// has ended.
	secured func(cert string) bool
	failed  func(why string)
	over    atomic.Bool // the loop has let go of its end
}

// looksLikeTLS looks at the first byte of a connection without taking it. Not known: nothing has come yet, as a wakeup of the
// kernel is no promise.
func looksLikeTLS(fd int) (yes, known bool) {
	var first [1]byte
	n, _, err := unix.Recvfrom(fd, first[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	if err == unix.EAGAIN || err == unix.EINTR {
		return false, false
	}
	return err == nil && n == 1 && first[0] == recordHandshake, true
}

// terminate puts TLS between a connection and its session.
func (l *epollLoop) terminate(c *client, config *tls.Config) {
	t, near, err := l.newTerminal(c, config)
	if err != nil {
		l.log(slog.LevelError, "no descriptor left for the TLS of a client", err)
		l.tls.stats.TLSHandshakes.Add(1) // the client has begun it
		l.tls.stats.TLSFailures.Add(1)
		l.m.RefuseTLS(l.now, c.id, err.Error(), &l.fx)
		l.perform()
		return
	}
	id := c.id
	t.secured = func(cert string) bool {
		told := make(chan struct{})
		if !l.mail.post(func() {
			l.m.HandleTLS(id, cert)
			close(told)
		}) {
			return false
		}
		select {
		case <-told:
			return true
		case <-l.over:
			return false
		}
	}
	t.failed = func(why string) {
		l.mail.post(func() {
			l.m.RefuseTLS(l.now, id, why, &l.fx)
			l.perform()
		})
	}
	old := c.fd
	_ = unix.EpollCtl(l.clientsEP, unix.EPOLL_CTL_DEL, old, nil)
	l.targets[old] = target{}
	unix.Close(old) // the duplicate lives on
	c.fd, c.terminal = near, t
	l.tls.wg.Go(t.run)
}

// newTerminal makes a terminal for c, and the loop's end of it, which is watched. It takes two descriptors more than a connection
// without TLS.
func (l *epollLoop) newTerminal(c *client, config *tls.Config) (t *terminal, near int, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, -1, os.NewSyscallError("socketpair", err)
	}
	// What is in between hides that a client reads slowly, so it is not large.
	for _, fd := range pair {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, unixBufferBytes)
	}
	far, err := connOf(pair[1])
	unix.Close(pair[1])
	if err != nil {
		unix.Close(pair[0])
		return nil, -1, err
	}
	outer, err := connOf(c.fd)
	if err != nil {
		unix.Close(pair[0])
		far.Close()
		return nil, -1, err
	}
	// Before anything else has changed: the system bounds what is watched, and has no memory at times.
	if err := l.watch(pair[0], target{kind: targetClient, c: c}, c.interest); err != nil {
		unix.Close(pair[0])
		far.Close()
		outer.Close()
		return nil, -1, err
	}
	t = &terminal{side: l.tls, outer: outer.(*net.TCPConn), inner: far.(*net.UnixConn)}
	_ = t.outer.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: keepIdle * time.Second, Interval: keepInterval * time.Second, Count: keepCount})
	t.tls, t.gate = l.tls.server(t.outer, config)
	return t, pair[0], nil
}

// connOf is a duplicate of a descriptor in the care of package net.
func connOf(fd int) (net.Conn, error) {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	f := os.NewFile(uintptr(dup), "")
	defer f.Close()
	return net.FileConn(f)
}

// run is the life of a terminal.
func (t *terminal) run() {
	defer t.inner.Close()
	defer t.outer.Close()
	cert, err := t.side.handshake(t.tls, t.gate)
	if err != nil {
		t.failed(handshakeText(err))
		t.dismiss()
		return
	}
	if !t.secured(cert) {
		return
	}
	t.side.stats.TLSConnections.Add(1)
	defer t.side.stats.TLSConnections.Add(-1)
	said := make(chan struct{})
	go func() {
		defer close(said)
		if readErr, _ := pump(t.inner, t.tls); readErr != nil {
			_ = t.inner.CloseWrite() // the loop reads what is in between, and then the end
		}
	}()
	readErr, _ := pump(t.tls, t.inner)
	if readErr != nil {
		_ = t.tls.CloseWrite() // the word of TLS for an end
		_ = t.outer.CloseWrite()
	} else {
		_ = t.inner.CloseRead() // the loop learns with its next write that nobody reads any more
	}
	<-said
}

// dismiss ends a connection whose handshake has failed. What the client still sends is thrown away, because closing a connection
// with unread bytes could lose the alert that says why.
func (t *terminal) dismiss() {
	if t.outer.CloseWrite() != nil || t.outer.SetReadDeadline(time.Now().Add(lingerTime)) != nil || t.over.Load() {
		return
	}
	_, _ = io.CopyN(io.Discard, t.outer, lingerBytes)
}

// end tells that the loop has let go of its end. What it has written before is still for the client, who has some time to take
// it.
func (t *terminal) end() {
	t.over.Store(true)
	now := time.Now()
	_ = t.outer.SetWriteDeadline(now.Add(lingerTime))
	_ = t.outer.SetReadDeadline(now)
}
