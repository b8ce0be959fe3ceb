// SPDX-License-Identifier: Apache-2.0

package host

import (
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sleep waits until something is ready or due, and returns how many events there are.
func (l *epollLoop) sleep(farewell time.Duration) (int, error) {
	until := l.next()
	if farewell != 0 {
		until = farewell
	}
	if len(l.closing) > 0 {
		until = min(until, l.closing[0].deadline)
	}
	if l.acceptAt != 0 {
		until = min(until, l.acceptAt)
	}
	if l.starvedAt != 0 {
		until = min(until, l.starvedAt)
	}
	due := until
	if len(l.dirty)+len(l.resumed)+len(l.closes) > 0 {
		until = 0
	}
	l.tick()
	l.gate()
	l.yield()
	before := l.now
	n, err := l.wait(until)
	if err != 0 {
		return 0, os.NewSyscallError("epoll_wait", err)
	}
	l.tick()
	if l.parked && due < forever/2 && l.now > due {
		l.dog.overslept(l.now - due)
	}
	l.slept += (min(l.now-before, time.Second) - l.slept) / 4
	l.stats.Wakeups.Add(1)
	return n, nil
}

// pollTime is how long the loop looks for a token that it has asked for before it sleeps: about what the token takes. To be woken may take as
// long again.
const pollTime = 100 * time.Microsecond

// turnTime is shorter than the time after which Go's runtime takes a processor from a goroutine that keeps it.
const turnTime = 8 * time.Millisecond

// yield lets the runtime's scheduler see now and then that this goroutine does not keep its processor. Otherwise its monitor
// takes the processor away, and looks again every 20 µs for a while: a thousand wake-ups in a second that hinder others.
// A loop that is not busy would pay more for this than for the monitor.
func (l *epollLoop) yield() {
	if l.slept < longSleep/8 && l.now-l.yielded >= turnTime {
		l.yielded = l.now
		runtime.Gosched()
	}
}

// wait waits until something is ready, or until the time given, and returns how many events there are.
func (l *epollLoop) wait(until time.Duration) (int, syscall.Errno) {
	idle := l.slept >= longSleep
	if idle != l.parked {
		if l.parked = idle; idle {
			l.dog.rest()
		} else {
			l.dog.work()
			l.procs = runtime.GOMAXPROCS(0)
		}
	}
	if n, errno := l.pollForToken(until); n > 0 || errno != 0 {
		return n, errno
	}
	for !idle && !l.noWait2 && until > l.now {
		var ts unsafe.Pointer
		if d := until - l.now; d < forever/2 {
			l.timeout.sec, l.timeout.nsec = int64(d/time.Second), int64(d%time.Second)
			ts = unsafe.Pointer(&l.timeout)
		}
		n, errno := l.block(ts)
		switch errno {
		case unix.EINTR:
			l.tick()
		case unix.ENOSYS, unix.EPERM:
			l.noWait2 = true // an old kernel, or a container that does not know the call
		default:
			return n, errno
		}
	}
	if !idle || until <= l.now {
		if n, errno := pollNow(l.ep, l.events[:]); n > 0 || errno != 0 || until <= l.now {
			return n, errno
		}
	}
	return l.waitParked(until) // which looks first
}

// pollForToken looks for events for a moment if a token was asked for, and returns how many there are.
func (l *epollLoop) pollForToken(until time.Duration) (int, syscall.Errno) {
	if l.procs < 2 || !l.hasTime() || !l.m.TokenAsked() {
		return 0, 0
	}
	for end := min(until, l.now+pollTime); l.now < end; l.tick() {
		if n, errno := pollNow(l.ep, l.events[:]); n > 0 || errno != 0 {
			return n, errno
		}
		_, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) // whoever has the token may want this processor
	}
	return 0, 0
}

// block waits in the kernel for at most a timespec; nil: without end. Where nothing else in this process wants to work the loop keeps its
// processor of the runtime meanwhile: the runtime's monitor need not take it away and give it back, for which it would wake a thousand times in
// a second. Whoever needs all processors, as the garbage collector does, interrupts the wait.
func (l *epollLoop) block(timeout unsafe.Pointer) (int, syscall.Errno) {
	events := unsafe.Pointer(&l.events[0])
	if !l.cfg.alone || l.procs < 2 || l.tls.config.Load() != nil {
		n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(l.ep), uintptr(events), uintptr(len(l.events)), uintptr(timeout), 0, 0)
		return int(n), errno
	}
	l.kept++
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT2, uintptr(l.ep), uintptr(events), uintptr(len(l.events)), uintptr(timeout), 0, 0)
	if errno == unix.EINTR {
		runtime.Gosched()
	}
	return int(n), errno
}

// pollNow returns how many events an epoll has now.
func pollNow(ep int, events []unix.EpollEvent) (int, syscall.Errno) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(ep), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// hasTime reports whether the loop mostly sleeps, so that it may do for one message what it could not do for many.
func (l *epollLoop) hasTime() bool { return l.slept >= longSleep/4 }

// gate has clients wake the loop, or not: what they say while the token of a ring with little to do is near goes out with
// it and not before, so it is read when the token comes, and a wake-up for each message is saved. If the token does not come the
// machine's next deadline wakes the loop, and it is near no more.
func (l *epollLoop) gate() {
	near := l.m.TokenNear(l.now)
	if near == l.gated {
		return
	}
	l.gated = near
	var events uint32
	if !near {
		events = unix.EPOLLIN
	}
	l.setInterest(l.clientsEP, events)
}
