// SPDX-License-Identifier: Apache-2.0

package host

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"evensong/internal/proto/packet"
	"evensong/internal/transport"
)

const haveEpoll = true

const (
	// eventsPerTurn is how many ready descriptors one turn serves.
	eventsPerTurn = 128
	// batchesPerTurn is how many batches of datagrams are taken before clients get a turn, and datagramsPerTurn after how
	// many no further batch is taken: a batch of runs may hold many. More than one window of packets never waits in a
	// healthy ring.
	batchesPerTurn   = 8
	datagramsPerTurn = 256
	// datagramsPerTick is how many datagrams are handled with one look at the clock.
	datagramsPerTick = 64
	// opsPerBreath is how many operations on clients pass between two looks at the datagram sockets, and bytesPerBreath
	// how many bytes of clients: either takes some ten microseconds or more, and the token may be waiting.
	opsPerBreath   = 8
	bytesPerBreath = 32 << 10
	// modestReadBytes is what one read of a client may bring while others who send little are about: a message of theirs waits
	// as long as the work for it takes (GRP-17). They are about until modestTime has passed.
	modestReadBytes = 16 << 10
	modestTime      = 20 * time.Millisecond
	// acceptsPerTurn bounds what a storm of connections may take of a turn.
	acceptsPerTurn = 16
	// slicesPerWrite bounds one write (the kernel's IOV_MAX is 1024), writesPerTurn how many one client gets in a turn.
	slicesPerWrite = 256
	writesPerTurn  = 4
)

// epollLoop is one goroutine that waits for everything: datagrams, clients, the clock and other goroutines.
type epollLoop struct {
	*core
	udp       *transport.Batch
	ep        int
	event     int // eventfd: the mailbox has something
	spare     int // a descriptor given up for the moment it takes to refuse a client when there are none left; or -1
	listeners []*listener
	lnFDs     []int

	targets  []target // by descriptor
	sessions map[uint64]*client
	clients  int // open and closing ones

	// Work that is queued, each list in order.
	dirty   []*client // may have output
	resumed []*client // input is wanted again
	closes  []Close
	closing []*client // on their way out, by deadline; ended ones are skipped

	acceptAt  time.Duration // not zero: no accepting until then
	starved   []uint64      // the kernel had no memory for what they get
	starvedAt time.Duration // not zero: they are written to again then
	modest    [2]lastRead   // the last two clients that were read and send little, the later one first
	ops       int           // operations on clients since the last look at datagrams
	opBytes   int           // bytes read from and written to them
	restTotal int           // bytes of refused input kept

	events       [eventsPerTurn]unix.EpollEvent
	clientsEP    int // the epoll of the clients, which is in ep
	clientEvents [eventsPerTurn]unix.EpollEvent
	gated        bool // clients do not wake the loop: see gate

	greedy  []unix.EpollEvent // those of the turn that are for clients who send much: they come last
	park    park
	procs   int                       // processors of Go's runtime
	kept    int                       // waits that kept one
	yielded time.Duration             // when the runtime's scheduler was last called
	slept   time.Duration             // how long a wait takes at present
	parked  bool                      // the last wait began while the loop took itself to be idle: the watchdog rests
	timeout struct{ sec, nsec int64 } // the kernel's timespec is 64 bits wide on all architectures
	noWait2 bool                      // the kernel has no epoll_pwait2
	buf     []byte
	slices  [][]byte
	iovs    [slicesPerWrite]unix.Iovec
	msg     unix.Msghdr
}

// lastRead is when a client was read last; it may be gone.
type lastRead struct {
	c  *client
	at time.Duration
}

// target says what a descriptor is.
type target struct {
	kind  targetKind
	index int
	c     *client
}

type targetKind uint8

const (
	targetNone targetKind = iota
	targetDatagrams
	targetMail
	targetTimer
	targetListener
	targetClient
	targetClients // some of them, in the epoll of their own
)

// clientState is where a connection is in its life.
type clientState uint8

const (
	clientOpen     clientState = iota // a session of the machine
	clientFlushing                    // closed by the machine, some bytes are left to write
	clientDraining                    // our side is shut down; what still comes is thrown away until the peer closes
	clientGone                        // the descriptor is closed
)

// client is one connection.
type client struct {
	terminal   *terminal // where TLS is between it and the peer; nil: it is not
	fresh      bool      // nothing was read yet, and it came over TCP
	id         uint64    // zero for connections that were refused
	fd         int
	state      clientState
	interest   uint32        // what epoll watches for; zero and not watched if muted
	muted      bool          // not in the epoll at all, because it would only repeat that the peer is gone
	dirty      bool          // in epollLoop.dirty
	resuming   bool          // in epollLoop.resumed
	paused     bool          // rest was refused, or waits to be offered again
	blocked    bool          // the peer does not read now
	greedyTill time.Duration // a read brought modestReadBytes or more no longer than modestTime before
	deaf       bool          // the peer will never read again; only input is left
	ended      bool          // the peer will never say anything again; it may still read
	rest       []byte
	deadline   time.Duration // when a closing connection is cut
	drained    int
}

func newEpollLoop(c *core, ls []*listener) (_ loop, err error) {
	l := &epollLoop{core: c, procs: runtime.GOMAXPROCS(0), ep: -1, clientsEP: -1, event: -1, spare: -1, listeners: ls, sessions: make(map[uint64]*client), buf: make([]byte, readBufferBytes)}
	defer func() {
		if err != nil {
			l.release()
		}
	}()
	if l.udp, err = transport.OpenBatch(c.cfg.Transport); err != nil {
		return nil, err
	}
	if l.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if l.clientsEP, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := l.watch(l.clientsEP, target{kind: targetClients}, unix.EPOLLIN); err != nil {
		return nil, err
	}
	if l.park, err = openPark(l); err != nil {
		return nil, err
	}
	if err := l.watch(l.park.timer, target{kind: targetTimer}, unix.EPOLLIN); err != nil {
		return nil, err
	}
	if l.event, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	if err := l.watch(l.event, target{kind: targetMail}, unix.EPOLLIN); err != nil {
		return nil, err
	}
	for i, fd := range l.udp.FDs() {
		if err := l.watch(fd, target{kind: targetDatagrams, index: i}, unix.EPOLLIN); err != nil {
			return nil, err
		}
	}
	for i, ln := range ls {
		fd, err := dupListener(ln)
		if err != nil {
			return nil, err
		}
		l.lnFDs = append(l.lnFDs, fd)
		if err := l.watch(fd, target{kind: targetListener, index: i}, unix.EPOLLIN); err != nil {
			return nil, err
		}
		ln.Close() // the duplicate lives on; Go's poller needs to know nothing of it
	}
	l.openSpare()
	c.stats.Transport = l.udp.Stats()
	return l, nil
}

// dupListener is a descriptor of our own for a listener.
func dupListener(ln *listener) (fd int, err error) {
	raw, err := ln.Listener.(syscall.Conn).SyscallConn()
	if err != nil {
		return -1, err
	}
	var dupErr error
	err = raw.Control(func(old uintptr) { fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) })
	if err == nil {
		err = os.NewSyscallError("fcntl", dupErr)
	}
	return fd, err
}

// release implements loop.
func (l *epollLoop) release() {
	for _, t := range l.targets {
		if t.kind == targetClient {
			unix.Close(t.c.fd)
		}
	}
	for _, t := range l.targets {
		if t.kind == targetClient && t.c.terminal != nil {
			t.c.terminal.end()
		}
	}
	l.targets = nil
	l.closeListeners()
	l.tls.wg.Wait()
	l.park.close()
	for _, fd := range []*int{&l.ep, &l.clientsEP, &l.event, &l.spare} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
	if l.udp != nil {
		l.udp.Close()
		l.udp = nil
	}
}

// closeListeners stops accepting for good.
func (l *epollLoop) closeListeners() {
	for _, ln := range l.listeners {
		ln.unlink()
	}
	for _, fd := range l.lnFDs {
		unix.Close(fd)
		if fd < len(l.targets) {
			l.targets[fd] = target{}
		}
	}
	l.listeners, l.lnFDs, l.acceptAt = nil, nil, 0
}

// localAddr implements loop.
func (l *epollLoop) localAddr() netip.AddrPort { return l.udp.LocalAddr() }

// wake implements loop.
func (l *epollLoop) wake() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = unix.Write(l.event, one[:]) // fails only if it is signaled so often already that one more says nothing new
}

// Send implements shell.
func (l *epollLoop) Send(s []packet.Send) { l.udp.Send(s) }

// markOutput implements shell.
func (l *epollLoop) markOutput(id uint64) {
	if c := l.sessions[id]; c != nil && !c.dirty {
		c.dirty = true
		l.dirty = append(l.dirty, c)
	}
}

// markResume implements shell.
func (l *epollLoop) markResume(id uint64) {
	if c := l.sessions[id]; c != nil && !c.resuming {
		c.resuming = true
		l.resumed = append(l.resumed, c)
	}
}

// markClose implements shell.
func (l *epollLoop) markClose(c Close) { l.closes = append(l.closes, c) }

// watch adds a descriptor to its epoll.
func (l *epollLoop) watch(fd int, t target, events uint32) error {
	if err := unix.EpollCtl(l.epollOf(t), unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}); err != nil {
		return os.NewSyscallError("epoll_ctl", err)
	}
	for len(l.targets) <= fd {
		l.targets = append(l.targets, target{})
	}
	l.targets[fd] = t
	return nil
}

// run implements loop.
func (l *epollLoop) run() error {
	l.tick()
	l.m.Start(l.now, &l.fx)
	l.perform()
	var farewell time.Duration // when clients have had their time; zero before the machine stopped
	for {
		l.settle()
		if (l.draining || l.leaving) && len(l.lnFDs) > 0 {
			l.closeListeners()
		}
		if l.leaving {
			if l.stopped && farewell == 0 {
				farewell = l.now + farewellTime
				l.closeAll()
			}
			switch {
			case l.stopped && (l.clients == 0 || l.now >= farewell):
				return nil
			case !l.stopped && l.now >= l.leaveEnd:
				return ErrLeaveTimeout
			}
		}
		if l.killed() {
			return nil
		}
		n, err := l.sleep(farewell)
		if err != nil {
			return err
		}
		if err := l.turn(l.events[:n]); err != nil {
			return err
		}
	}
}

// readNow reads from a descriptor that does not block, so the runtime need not be told.
func readNow(fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

// turn serves what is ready: other goroutines, datagrams, timers, then clients. While clients wait for the token they are
// served before datagrams, among which it may be, as far as breathe lets them.
func (l *epollLoop) turn(events []unix.EpollEvent) error {
	datagrams := len(l.udp.FDs()) // the first socket that has some
	clients := l.gated
	for i := range events {
		switch t := l.targets[events[i].Fd]; t.kind {
		case targetDatagrams:
			datagrams = min(datagrams, t.index)
		case targetMail:
			l.readMail()
		case targetTimer:
			l.park.fired()
		case targetClients:
			clients = true
		}
	}
	if l.gated && datagrams < len(l.udp.FDs()) {
		clients = false
		if err := l.serveClients(); err != nil {
			return err
		}
		l.tick()
	}
	if err := l.receive(datagrams, batchesPerTurn); err != nil {
		return err
	}
	l.timers()
	l.flush() // what the datagrams delivered goes out before new input comes in
	if clients {
		if err := l.serveClients(); err != nil {
			return err
		}
	}
	for i := range events { // behind the clients, as those that have gone make room
		if t := l.targets[events[i].Fd]; t.kind == targetListener {
			l.accept(t.index)
		}
	}
	return nil
}

// serveClients serves the clients that are ready, those who send much last.
func (l *epollLoop) serveClients() error {
	n, errno := pollNow(l.clientsEP, l.clientEvents[:])
	if errno != 0 {
		return os.NewSyscallError("epoll_wait", errno)
	}
	l.greedy = l.greedy[:0]
	for _, e := range l.clientEvents[:n] {
		// The event may be about a descriptor that was closed and given to somebody else in this very turn. Then all that
		// happens is one read or write that finds nothing to do.
		t := l.targets[e.Fd]
		if t.kind != targetClient {
			continue
		}
		if l.now < t.c.greedyTill {
			l.greedy = append(l.greedy, e)
			continue
		}
		if err := l.serve(t.c, e.Events); err != nil {
			return err
		}
	}
	for _, e := range l.greedy {
		if t := l.targets[e.Fd]; t.kind == targetClient {
			if err := l.serve(t.c, e.Events); err != nil {
				return err
			}
		}
	}
	return nil
}

// readMail runs what other goroutines posted.
func (l *epollLoop) readMail() {
	var count [8]byte
	_, _ = unix.Read(l.event, count[:]) // resets it; nothing there is fine
	for _, f := range l.mail.take() {
		f()
	}
}

// receive hands at most so many batches of datagrams to the machine. Group sockets come first: they carry data, and
// the token must not overtake the data that was sent before it more than it has to. Sockets before first are not looked at.
func (l *epollLoop) receive(first, batches int) error {
	l.ops, l.opBytes = 0, 0
	for i := len(l.udp.FDs()) - 1; i >= first; i-- {
		taken := 0
		for range batches {
			ds, err := l.udp.Receive(i)
			if err != nil {
				return err
			}
			taken += len(ds)
			for j := range ds {
				if l.stopped {
					break
				}
				if j%datagramsPerTick == datagramsPerTick-1 {
					l.tick()
				}
				l.patient = l.hasTime()
				l.handleDatagram(ds[j].From, ds[j].Bytes, ds[j].Room)
				l.patient = false
				if len(l.later) > 0 {
					l.handUpFirst()
				}
			}
			if !l.udp.Full() || taken >= datagramsPerTurn {
				break
			}
			l.tick()
		}
	}
	l.handUp()
	return nil
}

// servedFirst is how many clients may get what they get before datagrams for which nobody waits.
const servedFirst = 4

// handUpFirst hands up, and writes to clients if they are few, before what was put off is sent. The token was asked for because of
// one message, and here most likely sits who waits for it; the sending wakes other programs, which on a machine with few processors
// would come before that one.
func (l *epollLoop) handUpFirst() {
	l.handUp()
	if len(l.dirty) <= servedFirst {
		for _, c := range l.dirty {
			l.write(c)
		}
	}
	l.sendLater()
}

// breathe counts an operation on a client, and looks at the datagram sockets if it is time.
func (l *epollLoop) breathe() error {
	if l.ops++; l.ops < opsPerBreath && l.opBytes < bytesPerBreath {
		return nil
	}
	l.tick()
	return l.receive(0, 1)
}

// settle does the queued work: closes, input that is wanted again, output. What it causes in turn may stay queued;
// then the loop does not sleep.
func (l *epollLoop) settle() {
	l.expire()
	l.watchDrops()
	resumed := l.resumed
	l.resumed = nil
	for _, c := range resumed {
		c.resuming = false
		l.resume(c)
		_ = l.breathe() // errors of the sockets come up again in the next turn
	}
	closes := l.closes
	l.closes = nil
	for _, cl := range closes {
		if c := l.sessions[cl.Session]; c != nil {
			l.beginClose(c)
		}
	}
	if l.starvedAt != 0 && l.now >= l.starvedAt {
		for _, id := range l.starved {
			l.markOutput(id)
		}
		l.starved, l.starvedAt = l.starved[:0], 0
	}
	l.flush()
	if l.acceptAt != 0 && l.now >= l.acceptAt {
		l.acceptAt = 0
		for i, fd := range l.lnFDs {
			l.setInterest(fd, unix.EPOLLIN)
			l.accept(i)
		}
	}
}

// flush writes to every client that may have output.
func (l *epollLoop) flush() {
	n := len(l.dirty)
	for i := range n {
		c := l.dirty[i]
		c.dirty = false
		l.write(c)
		_ = l.breathe()
	}
	// What these have caused waits for the next turn, in the same memory.
	left := copy(l.dirty, l.dirty[n:])
	clear(l.dirty[left:])
	l.dirty = l.dirty[:left]
}

// closeAll says goodbye to everybody.
func (l *epollLoop) closeAll() {
	for _, t := range l.targets {
		if t.kind == targetClient && t.c.state == clientOpen {
			l.beginClose(t.c)
		}
	}
}

// epollOf is the epoll that a descriptor is in.
func (l *epollLoop) epollOf(t target) int {
	if t.kind == targetClient {
		return l.clientsEP
	}
	return l.ep
}

// setInterest changes what epoll watches for.
func (l *epollLoop) setInterest(fd int, events uint32) {
	if err := unix.EpollCtl(l.epollOf(l.targets[fd]), unix.EPOLL_CTL_MOD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}); err != nil {
		panic(fmt.Sprintf("epoll_ctl on a descriptor of ours: %v", err))
	}
}

// log is a line about the host's own doings.
func (l *epollLoop) log(level slog.Level, text string, err error) {
	l.note(level, text, slog.String("reason", err.Error()))
}
