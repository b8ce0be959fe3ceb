// SPDX-License-Identifier: Apache-2.0

package host

import (
	"log/slog"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// unixBufferBytes is asked for the socket buffers of clients on Unix sockets, whose default holds only a few large
// messages. A larger one would hide for longer that a client takes something: the kernel says so when three quarters are
// free again. TCP finds its own sizes.
const unixBufferBytes = 256 << 10

// Keepalive of TCP clients: a peer that vanished without a word is noticed after keepIdle + keepCount*keepInterval
// seconds.
const (
	keepIdle     = 60
	keepInterval = 15
	keepCount    = 4
)

// accept takes the connections that wait at listener i.
func (l *epollLoop) accept(i int) {
	for range acceptsPerTurn {
		if l.acceptAt != 0 || i >= len(l.lnFDs) {
			return
		}
		fd, sa, err := unix.Accept4(l.lnFDs[i], unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			l.stats.Accepts.Add(1)
			l.admit(fd, l.listeners[i].local, sa)
		case unix.EAGAIN:
			return
		case unix.EINTR, unix.ECONNABORTED:
		default:
			l.stats.AcceptErrors.Add(1)
			if !isExhausted(err) {
				l.log(slog.LevelWarn, "accept", err)
				l.pauseAccept()
				return
			}
			l.log(slog.LevelError, "no descriptor left for a client", err)
			if !l.refuseWithSpare(i) {
				l.pauseAccept()
				return
			}
		}
		_ = l.breathe()
	}
}

// admit makes a new connection a session, or refuses it.
func (l *epollLoop) admit(fd int, local bool, sa unix.Sockaddr) {
	c := &client{fd: fd, interest: unix.EPOLLIN, fresh: !local}
	if local {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, unixBufferBytes)
	} else {
		// Each is a matter of speed or tidiness; a connection works without.
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepIdle)
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepInterval)
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepCount)
	}
	if err := l.watch(fd, target{kind: targetClient, c: c}, unix.EPOLLIN); err != nil {
		l.log(slog.LevelError, "accept", err)
		unix.Close(fd)
		return
	}
	l.clients++
	if len(l.sessions) >= l.cfg.MaxSessions {
		l.stats.RejectsSessions.Add(1)
		l.note(slog.LevelWarn, "session refused", slog.String("reason", "too many sessions"), slog.Int("sessions", l.cfg.MaxSessions))
		_, _ = unix.SendmsgN(fd, rejectQuota, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT) // one byte always fits
		l.linger(c)
		l.drain(c)
		if c.state != clientGone && l.clients-len(l.sessions) > refusedLinger {
			l.forget(c)
		}
		return
	}
	if c.id = l.m.HandleAccept(l.now, local, sockaddr(sa), &l.fx); c.id == 0 {
		panic("a session numbered zero")
	}
	if local {
		if cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			l.m.HandleUser(c.id, cred.Uid)
		}
	}
	l.sessions[c.id] = c
	l.stats.Sessions.Add(1)
	l.perform()
}

// sockaddr is the address of a TCP peer; invalid for others.
func sockaddr(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// openSpare takes the descriptor that refuseWithSpare gives up.
func (l *epollLoop) openSpare() {
	if fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
		l.spare = fd
	}
}

// refuseWithSpare tells one waiting client that there is no room, though there is no descriptor left to do it with:
// otherwise it would wait until others leave, without a word. It reports whether that worked.
func (l *epollLoop) refuseWithSpare(i int) bool {
	if l.spare < 0 {
		l.openSpare()
		return false
	}
	unix.Close(l.spare)
	l.spare = -1
	fd, _, err := unix.Accept4(l.lnFDs[i], unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err == nil {
		l.stats.Accepts.Add(1)
		l.stats.RejectsFiles.Add(1)
		_, _ = unix.SendmsgN(fd, rejectQuota, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		_ = unix.Shutdown(fd, unix.SHUT_WR)
		_, _ = unix.Read(fd, l.buf) // unread bytes would turn the close into a reset, which can swallow the answer
		unix.Close(fd)
	}
	l.openSpare()
	return err == nil
}

// pauseAccept lets connections wait in the kernel for a while.
func (l *epollLoop) pauseAccept() {
	l.acceptAt = l.now + acceptPause
	for _, fd := range l.lnFDs {
		l.setInterest(fd, 0)
	}
}

// serve acts on what epoll says of a connection, and looks at the datagrams if it is time.
func (l *epollLoop) serve(c *client, events uint32) error {
	l.ready(c, events)
	return l.breathe()
}

func (l *epollLoop) ready(c *client, events uint32) {
	if events&unix.EPOLLOUT != 0 && c.blocked {
		c.blocked = false
		l.stats.ClientsBlocked.Add(-1)
		l.update(c)
		l.write(c)
	}
	if events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) == 0 {
		return
	}
	switch c.state {
	case clientOpen:
		if c.paused {
			if events&(unix.EPOLLHUP|unix.EPOLLERR) != 0 && events&unix.EPOLLIN == 0 {
				l.mute(c)
			}
			return
		}
		l.read(c)
	case clientFlushing:
		if events&(unix.EPOLLHUP|unix.EPOLLERR) != 0 {
			l.cut(c)
		}
	case clientDraining:
		l.drain(c)
	case clientGone:
	}
}

// update tells epoll what to watch a connection for.
func (l *epollLoop) update(c *client) {
	var want uint32
	if c.state == clientOpen && !c.paused || c.state == clientDraining {
		want |= unix.EPOLLIN
	}
	if c.blocked {
		want |= unix.EPOLLOUT
	}
	if c.muted || c.state == clientGone || want == c.interest {
		return
	}
	c.interest = want
	l.setInterest(c.fd, want)
}

// mute takes a connection out of the epoll: its peer is gone, which epoll would repeat forever, but its input must
// wait until the machine wants it.
func (l *epollLoop) mute(c *client) {
	if !c.muted {
		c.muted = true
		_ = unix.EpollCtl(l.clientsEP, unix.EPOLL_CTL_DEL, c.fd, nil)
	}
}

// read offers the machine what a connection has.
func (l *epollLoop) read(c *client) {
	if c.fresh {
		config := l.tls.config.Load()
		yes, known := false, config == nil
		if !known {
			if yes, known = looksLikeTLS(c.fd); !known {
				return
			}
		}
		if c.fresh = false; yes {
			l.terminate(c, config)
			return
		}
	}
	buf := l.buf[:l.readBytes(c)]
	n, err := readNow(c.fd, buf)
	l.stats.ClientReads.Add(1)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return
	case err != nil:
		l.lost(c)
		return
	case n == 0:
		l.end(c)
		return
	}
	l.stats.ClientBytesIn.Add(uint64(n))
	l.opBytes += n
	l.hasRead(c, n, n == len(buf))
	if used := l.m.HandleInput(l.now, c.id, buf[:n], &l.fx); used < n {
		c.rest = append([]byte(nil), buf[used:n]...)
		c.paused = true
		l.restTotal += len(c.rest)
		l.stats.ClientsPaused.Add(1)
		l.update(c)
	}
	l.answer(c)
}

// readBytes is how much one read of c may bring.
func (l *epollLoop) readBytes(c *client) int {
	// Of the two that were modest last the later one may be c itself, whose first words are always few.
	other := l.modest[0]
	if other.c == c {
		other = l.modest[1]
	}
	switch {
	case l.restTotal > restBytes:
		return shortReadBytes
	case other.c != nil && l.now-other.at < modestTime:
		return modestReadBytes
	}
	return len(l.buf)
}

// hasRead takes c for greedy or modest by what a read brought. One that filled its buffer does not tell how much there is.
func (l *epollLoop) hasRead(c *client, n int, filled bool) {
	switch {
	case n >= modestReadBytes || filled:
		c.greedyTill = l.now + modestTime
	case l.now >= c.greedyTill: // one that floods is not modest because it was read just before
		if l.modest[0].c != c {
			l.modest[1] = l.modest[0]
		}
		l.modest[0] = lastRead{c, l.now}
	}
}

// answer performs what the input of c asked for. What c gets comes before what nobody waits for.
func (l *epollLoop) answer(c *client) {
	l.patient = true
	l.perform()
	l.patient = false
	if len(l.later) > 0 {
		if c.dirty {
			l.write(c)
		}
		l.sendLater()
	}
}

// resume offers the machine again what it had refused.
func (l *epollLoop) resume(c *client) {
	if c.state != clientOpen || !c.paused {
		return
	}
	if len(c.rest) > 0 {
		used := l.m.HandleInput(l.now, c.id, c.rest, &l.fx)
		l.restTotal -= used
		l.opBytes += used
		c.rest = c.rest[used:]
	}
	if len(c.rest) == 0 {
		l.unpause(c)
		l.update(c)
	}
	l.perform()
	if c.muted && !c.paused {
		// Read on without epoll: to the end of what the peer left behind.
		l.read(c)
		if c.state == clientOpen && !c.paused {
			c.paused = true
			l.stats.ClientsPaused.Add(1)
			l.markResume(c.id)
		}
	}
}

// unpause forgets refused input.
func (l *epollLoop) unpause(c *client) {
	if c.paused {
		c.paused = false
		l.restTotal -= len(c.rest)
		c.rest = nil
		l.stats.ClientsPaused.Add(-1)
	}
}

// write sends a connection what the machine has for it, as far as the peer takes it.
func (l *epollLoop) write(c *client) {
	if c.state > clientFlushing || c.blocked || c.deaf {
		return
	}
	for range writesPerTurn {
		l.slices = l.m.Output(c.id, l.slices[:0], slicesPerWrite)
		if len(l.slices) == 0 {
			if c.state == clientFlushing {
				l.shutdown(c)
			}
			return
		}
		n, total, err := l.writev(c.fd, l.slices)
		clear(l.slices)
		if n > 0 {
			l.stats.ClientBytesOut.Add(uint64(n))
			l.opBytes += n
			l.m.HandleWritten(l.now, c.id, n, &l.fx)
			l.perform()
		}
		switch {
		case err == unix.EAGAIN || err == 0 && n < total:
			c.blocked = true
			l.stats.ClientsBlocked.Add(1)
			l.update(c)
			return
		case err == unix.ENOBUFS || err == unix.ENOMEM:
			// The kernel is short of memory, which is no word of the peer; and epoll would say at once that it may be written to.
			l.stats.ClientWritesNoMemory.Add(1)
			l.note(slog.LevelWarn, "no kernel memory to write to a client", slog.String("reason", err.Error()), slog.Duration("retry", memoryPause))
			l.starved = append(l.starved, c.id)
			if l.starvedAt == 0 {
				l.starvedAt = l.now + memoryPause
			}
			return
		case err != 0 && c.state == clientFlushing:
			l.cut(c)
			return
		case err != 0:
			// The peer reads no more. What it said before is still valid and may still wait to be read, so the session ends
			// only when that does.
			c.deaf = true
			return
		}
	}
	l.markOutput(c.id)
}

// writev writes slices with one call and returns how much of which total. sendmsg in place of writev spares us
// SIGPIPE, which the program around us may have given a meaning.
func (l *epollLoop) writev(fd int, slices [][]byte) (n, total int, err unix.Errno) {
	k := 0
	for _, s := range slices[:min(len(slices), slicesPerWrite)] {
		if len(s) == 0 {
			continue
		}
		l.iovs[k].Base = &s[0]
		l.iovs[k].SetLen(len(s))
		total += len(s)
		k++
	}
	if k == 0 {
		panic("output of no bytes")
	}
	l.msg.Iov = &l.iovs[0]
	l.msg.SetIovlen(k)
	for {
		l.stats.ClientWrites.Add(1)
		r, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&l.msg)), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		if errno == unix.EINTR {
			continue
		}
		clear(l.iovs[:k]) // lets go of the machine's buffers
		if errno != 0 {
			return 0, total, errno
		}
		return int(r), total, 0
	}
}

// lost ends a session whose client went away.
func (l *epollLoop) lost(c *client) {
	id := c.id
	l.forget(c)
	l.m.HandleClosed(l.now, id, &l.fx)
	l.perform()
}

// end ends a session whose client has said all. It may have shut down its sending side only, and reads on.
func (l *epollLoop) end(c *client) {
	c.ended = true
	l.m.HandleEnd(l.now, c.id, &l.fx)
	l.perform()
	l.beginClose(c)
}

// beginClose ends a session as the machine wants it: last bytes, shutdown, drain, close.
func (l *epollLoop) beginClose(c *client) {
	if c.state != clientOpen {
		return
	}
	l.unpause(c)
	c.state = clientFlushing
	c.deadline = l.now + lingerTime
	l.closing = append(l.closing, c)
	l.stats.Closing.Add(1)
	if c.muted || c.deaf {
		// Nobody reads what is left.
		l.cut(c)
		return
	}
	l.update(c)
	l.write(c)
}

// linger makes a connection that is no session close in good manners.
func (l *epollLoop) linger(c *client) {
	c.state = clientFlushing
	c.deadline = l.now + lingerTime
	l.closing = append(l.closing, c)
	l.stats.Closing.Add(1)
	l.shutdown(c)
}

// shutdown ends our side of a connection. Its peer has seen all there is when it sees the end; closing at once could
// reset the connection and lose the last bytes (client-protocol 2.5).
func (l *epollLoop) shutdown(c *client) {
	if c.ended {
		l.forget(c)
		return
	}
	_ = unix.Shutdown(c.fd, unix.SHUT_WR)
	c.state = clientDraining
	if c.blocked {
		c.blocked = false
		l.stats.ClientsBlocked.Add(-1)
	}
	l.update(c)
}

// drain throws away what a peer still sends, and closes when it has closed or sent enough.
func (l *epollLoop) drain(c *client) {
	for {
		n, err := readNow(c.fd, l.buf)
		if err == unix.EAGAIN || err == unix.EINTR {
			return
		}
		c.drained += max(n, 0)
		if err != nil || n == 0 || c.drained > lingerBytes {
			l.forget(c)
			return
		}
	}
}

// cut closes a closing connection whose last bytes nobody takes. The machine learns that it can let go of them.
func (l *epollLoop) cut(c *client) {
	unwritten := c.state == clientFlushing
	id := c.id
	l.forget(c)
	if unwritten {
		l.stats.ClosesCut.Add(1)
		if id != 0 {
			l.m.HandleClosed(l.now, id, &l.fx)
			l.perform()
		}
	}
}

// expire cuts closing connections that took too long.
func (l *epollLoop) expire() {
	for len(l.closing) > 0 {
		c := l.closing[0]
		if c.state != clientGone {
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

// forget closes the descriptor and everything the loop knows of a connection.
func (l *epollLoop) forget(c *client) {
	l.unpause(c)
	if c.blocked {
		l.stats.ClientsBlocked.Add(-1)
		c.blocked = false
	}
	if c.state == clientFlushing || c.state == clientDraining {
		l.stats.Closing.Add(-1)
	}
	if c.id != 0 {
		delete(l.sessions, c.id)
		l.stats.Sessions.Add(-1)
	}
	c.state = clientGone
	l.targets[c.fd] = target{}
	if !c.muted {
		_ = unix.EpollCtl(l.clientsEP, unix.EPOLL_CTL_DEL, c.fd, nil)
	}
	unix.Close(c.fd)
	if c.terminal != nil {
		c.terminal.end()
	}
	l.clients--
}
