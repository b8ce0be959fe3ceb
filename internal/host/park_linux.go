// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// longSleep is how long waits take at present from which on the loop takes itself to be idle, and parks. That costs one thread's
// sleep, and some microseconds more than a call that blocks; such a call keeps a processor for a while and the runtime's
// monitor awake, which would cost an idle daemon most of its time.
const longSleep = 2 * time.Millisecond

// park is how the loop waits in Go's poller. That watches an epoll for us which watches ours, but only while the loop is
// parked: otherwise each event would wake a thread of the runtime.
type park struct {
	outer int
	file  *os.File // outer, as Go's poller knows it
	conn  syscall.RawConn
	timer int           // timerfd, in our epoll: a timer of Go would wake the runtime's monitor
	armed time.Duration // what it is set to; zero: to nothing
	poll  func(fd uintptr) bool

	n     int // events that poll found
	errno syscall.Errno
}

func openPark(l *epollLoop) (p park, err error) {
	p.outer, p.timer = -1, -1
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if p.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		return p, os.NewSyscallError("timerfd_create", err)
	}
	outer, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return p, os.NewSyscallError("epoll_create1", err)
	}
	p.outer = outer
	if err = unix.EpollCtl(outer, unix.EPOLL_CTL_ADD, l.ep, &unix.EpollEvent{}); err != nil {
		return p, os.NewSyscallError("epoll_ctl", err)
	}
	if err = unix.SetNonblock(outer, true); err != nil { // or os would take it for a file that blocks
		return p, os.NewSyscallError("fcntl", err)
	}
	p.file = os.NewFile(uintptr(outer), "epoll")
	if p.conn, err = p.file.SyscallConn(); err != nil {
		return p, err
	}
	p.poll = func(uintptr) bool {
		l.park.n, l.park.errno = pollNow(l.ep, l.events[:])
		return l.park.n != 0 || l.park.errno != 0
	}
	return p, nil
}

func (p *park) close() {
	switch {
	case p.file != nil:
		p.file.Close()
	case p.outer > 0:
		unix.Close(p.outer)
	}
	if p.timer > 0 {
		unix.Close(p.timer)
	}
	*p = park{}
}

// waitParked is wait in Go's poller.
func (l *epollLoop) waitParked(until time.Duration) (int, syscall.Errno) {
	p := &l.park
	if until >= forever/2 {
		until = 0
	}
	if until != p.armed {
		var at unix.ItimerSpec
		if until != 0 {
			at.Value = unix.NsecToTimespec(int64(until - l.now))
		}
		if _, _, errno := unix.RawSyscall6(unix.SYS_TIMERFD_SETTIME, uintptr(p.timer), 0, uintptr(unsafe.Pointer(&at)), 0, 0, 0); errno != 0 {
			return 0, errno
		}
		p.armed = until
	}
	if errno := p.watch(l.ep, unix.EPOLLIN); errno != 0 {
		return 0, errno
	}
	err := p.conn.Read(p.poll)
	if errno := p.watch(l.ep, 0); errno != 0 {
		return 0, errno
	}
	if err != nil {
		var errno syscall.Errno
		if !errors.As(err, &errno) {
			errno = unix.EBADF // the file is closed, or not one that can be waited for
		}
		return 0, errno
	}
	return p.n, p.errno
}

// watch has Go's poller learn of our epoll's events, or not.
func (p *park) watch(ep int, events uint32) syscall.Errno {
	e := unix.EpollEvent{Events: events}
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(p.outer), unix.EPOLL_CTL_MOD, uintptr(ep), uintptr(unsafe.Pointer(&e)), 0, 0)
	return errno
}

// fired notes that the timer has fired.
func (p *park) fired() {
	var count [8]byte
	_, _ = readNow(p.timer, count[:]) // resets it
	p.armed = 0
}
