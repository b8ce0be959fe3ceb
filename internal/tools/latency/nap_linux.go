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
	var times [8]byte
	s.fired = func(uintptr) bool {
		_, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&times)), uintptr(len(times)))
		return errno == 0
	}
	return s
}}

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
	at := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	if _, _, errno := unix.RawSyscall6(unix.SYS_TIMERFD_SETTIME, uintptr(s.fd), 0, uintptr(unsafe.Pointer(&at)), 0, 0, 0); errno != 0 {
		return
	}
	_ = s.conn.Read(s.fired)
}
