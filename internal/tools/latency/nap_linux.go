// SPDX-License-Identifier: Apache-2.0

package latency

import (
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sleeper is a timer of the kernel that Go's poller waits for.
type sleeper struct {
	fd    int
	file  *os.File // which closes fd when nobody knows it any more
	conn  syscall.RawConn
	fired func(uintptr) bool
	d     time.Duration
	until time.Time // zero: to be set
}

var sleepers = sync.Pool{New: func() any {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return (*sleeper)(nil)
	}
	s := &sleeper{fd: fd, file: os.NewFile(uintptr(fd), "timer")}
	if s.conn, err = s.file.SyscallConn(); err != nil {
		return (*sleeper)(nil)
	}
	s.fired = s.setOrFired
	return s
}}

// setOrFired sets the timer when it is called first, and reports whether it has fired when it is called again. The poller
// forgets what it knew of the timer before the first call, not after it, so the event is not missed. It is the event that
// counts: the timer need not be read, because setting it again makes it unread and its next event a new one.
func (s *sleeper) setOrFired(uintptr) bool {
	if !s.until.IsZero() {
		return time.Until(s.until) <= 0
	}
	s.until = time.Now().Add(s.d)
	at := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(s.d))}
	_, _, errno := unix.RawSyscall6(unix.SYS_TIMERFD_SETTIME, uintptr(s.fd), 0, uintptr(unsafe.Pointer(&at)), 0, 0, 0)
	return errno != 0
}

// Nap sleeps as exactly as the kernel can. The runtime's own timers may be a millisecond late, which a latency that counts
// from when a message was due would show. And a system call that sleeps would wake the runtime's monitor, which then runs
// several times just when the message is under way.
func Nap(d time.Duration) {
	if d <= 0 {
		return
	}
	s := sleepers.Get().(*sleeper)
	if s == nil {
		t := syscall.NsecToTimespec(int64(d))
		_ = syscall.Nanosleep(&t, nil) // a signal only ends it early
		return
	}
	defer sleepers.Put(s)
	s.d, s.until = d, time.Time{}
	_ = s.conn.Read(s.fired)
}
