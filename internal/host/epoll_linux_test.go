// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// With no descriptor left, a client learns that there is no room in place of waiting in the dark.
func TestOutOfDescriptors(t *testing.T) {
	m := &echo{}
	h := start(t, local(LoopEpoll), m)
	before := dial(t, h)
	before.Write([]byte("x"))
	io.ReadFull(before, make([]byte, 1))

	const clients = 3
	var fds []int
	for range clients {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10})
		fds = append(fds, fd)
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	// The limit is about numbers: fill the gaps below the highest one in use.
	var plugs []*os.File
	defer func() {
		for _, p := range plugs {
			p.Close()
		}
	}()
	highest := fds[clients-1]
	for {
		p, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		plugs = append(plugs, p)
		if int(p.Fd()) > highest {
			highest = int(p.Fd())
			break
		}
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(highest + 1), Max: old.Max}); err != nil {
		t.Skip(err)
	}
	limited := true
	restore := func() {
		if limited {
			limited = false
			unix.Setrlimit(unix.RLIMIT_NOFILE, &old)
		}
	}
	defer restore()
	a := h.ListenAddrs()[0]
	for i, fd := range fds {
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}); err != nil {
			t.Fatal(err)
		}
		var b [2]byte
		n, err := unix.Read(fd, b[:])
		for err == unix.EINTR {
			n, err = unix.Read(fd, b[:])
		}
		if n != 1 || b[0] != 0xfd || err != nil {
			t.Errorf("client %d read %x, %v; want fd", i, b[:max(n, 0)], err)
		}
	}
	restore()
	if n := h.Stats().RejectsFiles.Load(); n != clients {
		t.Errorf("RejectsFiles = %d, want %d", n, clients)
	}
	before.Write([]byte("x"))
	if _, err := io.ReadFull(before, make([]byte, 1)); err != nil {
		t.Error(err)
	}
	after := dial(t, h)
	after.Write([]byte("x"))
	if _, err := io.ReadFull(after, make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

// A client for whose TLS there is no descriptor has begun a handshake that came to nothing: there are never more failures than
// handshakes.
func TestNoDescriptorForTLS(t *testing.T) {
	m := &echo{}
	h := start(t, local(LoopEpoll), m)
	c := dial(t, h)
	c.Write([]byte("x"))
	io.ReadFull(c, make([]byte, 1)) // it is a session
	do(t, h, func() {
		l := h.core.shell.(*epollLoop)
		for id := range l.sessions {
			l.terminate(&client{id: id, fd: -1}, nil) // a descriptor that cannot be duplicated
		}
	})
	io.Copy(io.Discard, c)
	if n, bad := h.Stats().TLSHandshakes.Load(), h.Stats().TLSFailures.Load(); n != 1 || bad != 1 {
		t.Errorf("%d handshakes, %d failed; want one of each", n, bad)
	}
}

// A wait for the machine's deadline never ends early, or the loop would spin until it is due: neither in the kernel nor parked, as
// older kernels always are.
func TestTimersAreNotEarly(t *testing.T) {
	for _, parked := range []bool{false, true} {
		m := &echo{every: 700 * time.Microsecond}
		cfg := local(LoopEpoll)
		h, err := Start(cfg, func(Boot) (Machine, error) { return m, nil })
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		do(t, h, func() { h.core.shell.(*epollLoop).noWait2 = parked })
		eventually(t, h, "20 timers", func() bool { return len(m.advances) >= 20 })
		do(t, h, func() {
			if m.early > 0 {
				t.Errorf("parked %t: Advance came %d times before it was due", parked, m.early)
			}
		})
		c := dial(t, h)
		c.Write([]byte("x"))
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Error(err)
		}
	}
}

// TestQueuedWorkIsNoStall: an idle loop that does not sleep because work is queued has not overslept.
func TestQueuedWorkIsNoStall(t *testing.T) {
	h := start(t, local(LoopEpoll), &echo{})
	do(t, h, func() {
		l := h.core.shell.(*epollLoop)
		h.core.start = h.core.start.Add(-time.Hour)
		l.slept, l.parked = time.Second, true
		l.dirty = append(l.dirty, &client{state: clientGone})
		if _, err := l.sleep(0); err != nil {
			t.Error(err)
		}
		l.dirty = l.dirty[:0]
	})
	if n, longest := h.Stats().Stalls(), h.Stats().LongestStall(); n != 0 {
		t.Errorf("%d stalls, the longest of %v", n, longest)
	}
}

// TestTokenNear: while the token is near, what a client says waits for the next datagram and is read before it, or for
// whatever else wakes the loop; after that clients wake it themselves.
func TestTokenNear(t *testing.T) {
	m := &echo{}
	h := start(t, local(LoopEpoll), m)
	c := dial(t, h)
	u, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(h.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	say := func(text string) {
		t.Helper()
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	hear := func(text string) {
		t.Helper()
		b := make([]byte, len(text))
		if _, err := io.ReadFull(c, b); err != nil || string(b) != text {
			t.Fatalf("%q, %v; want %q", b, err, text)
		}
	}
	say("a")
	hear("a")
	var own, clients int // the epoll that the loop sleeps in, and the one of clients in it
	do(t, h, func() {
		m.near = true
		l := h.core.shell.(*epollLoop)
		own, clients = l.ep, l.clientsEP
	})
	awaitGate(t, own, clients) // the loop has read what it will before it sleeps
	in := h.Stats().ClientBytesIn.Load()
	say("bcd")
	if !readable(t, clients, 10000) {
		t.Fatal("what the client said did not come")
	}
	if readable(t, own, 0) {
		t.Error("what the client said wakes the loop")
	}
	if n := h.Stats().ClientBytesIn.Load() - in; n != 0 {
		t.Errorf("%d bytes were read although nothing woke the loop", n)
	}
	u.Write([]byte("datagram"))
	hear("bcd")
	do(t, h, func() {
		if m.pings != 1 || m.before != 4 {
			t.Errorf("%d datagrams, %d bytes taken before the last; want one and 4", m.pings, m.before)
		}
	})
	say("e")
	do(t, h, func() {}) // wakes the loop
	hear("e")
	do(t, h, func() { m.near = false })
	say("f")
	hear("f")
	do(t, h, func() { m.near = true })
	c.Close()
	eventually(t, h, "the end of the client is noticed", func() bool { return m.closed == 1 })
}

// TestWaitEndsForTheCollector: a loop that keeps its processor while it waits gives it up when all are needed. One that shares its process
// keeps none.
func TestWaitEndsForTheCollector(t *testing.T) {
	if runtime.GOMAXPROCS(0) < 2 {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	}
	for _, alone := range []bool{true, false} {
		cfg := local(LoopEpoll)
		cfg.alone = alone
		h := start(t, cfg, &echo{})
		kept := 0
		for range 20 {
			do(t, h, func() {
				l := h.core.shell.(*epollLoop)
				l.slept, l.procs, kept = 0, 2, l.kept
			})
			runtime.GC() // or this test never ends
		}
		if alone && kept < 10 || !alone && kept > 0 {
			t.Errorf("alone %t: the loop kept its processor in %d waits, before 20 collections", alone, kept)
		}
	}
}

// Where the runtime may not interrupt a goroutine the loop keeps no processor while it waits.
func TestInterrupts(t *testing.T) {
	for godebug, want := range map[string]bool{
		"": true, "gctrace=1": true, "asyncpreemptoff=1": false, "gctrace=1,asyncpreemptoff=1,madvdontneed=1": false,
		"asyncpreemptoff=1,asyncpreemptoff=0": true, "asyncpreemptoff=0,asyncpreemptoff=1": false,
	} {
		if got := interrupts(godebug); got != want {
			t.Errorf("GODEBUG=%s: %t", godebug, got)
		}
	}
}

// TestPollForToken: who has asked for the token looks for it for a moment, if it has time and there is a processor for others.
func TestPollForToken(t *testing.T) {
	m := &echo{}
	h := start(t, local(LoopEpoll), m)
	for _, r := range []struct {
		asked bool
		slept time.Duration
		procs int
		polls bool
	}{{true, time.Hour, 2, true}, {false, time.Hour, 2, false}, {true, 0, 2, false}, {true, time.Hour, 1, false}} {
		do(t, h, func() {
			l := h.core.shell.(*epollLoop)
			m.asked, l.slept, l.procs = r.asked, r.slept, r.procs
			l.tick()
			before := l.now
			_, errno := l.pollForToken(l.now + time.Hour) // whatever is there, such as the call that runs this
			if errno != 0 || (l.now-before >= pollTime) != r.polls {
				t.Errorf("%+v: polled %v, error %v", r, l.now-before, errno)
			}
			m.asked = false
		})
	}
}

// TestCalmSendsComeLater: what nobody waits for is sent after the few clients have what they get, and before many have; and while the loop
// has little time at once.
func TestCalmSendsComeLater(t *testing.T) {
	for _, r := range []struct {
		clients int
		busy    bool
		later   bool
	}{{1, false, true}, {servedFirst, false, true}, {servedFirst + 1, false, false}, {1, true, false}} {
		m := &echo{}
		h := start(t, local(LoopEpoll), m)
		for range r.clients {
			c := dial(t, h)
			c.Write([]byte("a"))
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		u, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(h.Addr()))
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		do(t, h, func() {
			l := h.core.shell.(*epollLoop)
			m.sent, m.sentAt = l.stats.Transport.DatagramsOut.Load, nil
			l.slept = time.Hour
			if r.busy {
				l.slept = -time.Hour // whatever the waits of this test add
			}
		})
		for range 3 { // with a token that was asked for and without
			b := make([]byte, 100)
			u.Write([]byte("calm"))
			u.SetReadDeadline(time.Now().Add(10 * time.Second))
			if n, err := u.Read(b); err != nil || string(b[:n]) != "answer" {
				t.Fatalf("%q, %v", b[:n], err)
			}
			eventually(t, h, "all have it", func() bool { return len(m.sentAt) >= r.clients })
			do(t, h, func() {
				want := slices.Repeat([]uint64{m.sent()}, r.clients)
				if r.later {
					want = slices.Repeat([]uint64{m.sent() - 1}, r.clients)
				}
				if !slices.Equal(m.sentAt, want) {
					t.Errorf("%d clients, busy %t: datagrams sent when clients were written to: %v, want %v", r.clients, r.busy, m.sentAt, want)
				}
				m.sentAt, m.asked = nil, !m.asked
			})
		}
	}
}

// readable reports whether a descriptor has something for a reader, at the latest after so many milliseconds.
func readable(t *testing.T, fd, milliseconds int) bool {
	t.Helper()
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, milliseconds)
		if err == nil {
			return n > 0
		}
		if err != unix.EINTR {
			t.Fatal(err)
		}
	}
}

// awaitGate waits until an epoll does not ask whether another one is readable. The kernel says so; asking the loop would wake it.
func awaitGate(t *testing.T, ep, other int) {
	t.Helper()
	gated := regexp.MustCompile(fmt.Sprintf(`(?m)^tfd: +%d events: +([0-9a-f]+) `, other))
	var info []byte
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		var err error
		if info, err = os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", ep)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(info, []byte("tfd:")) {
			t.Skip("this kernel does not tell what an epoll waits for")
		}
		if found := gated.FindSubmatch(info); found != nil {
			if mask, err := strconv.ParseUint(string(found[1]), 16, 32); err == nil && mask&unix.EPOLLIN == 0 {
				return
			}
		}
	}
	t.Fatalf("clients still wake the loop:\n%s", info)
}

func TestLoopAllocatesNothingPerDatagram(t *testing.T) {
	m := &echo{}
	cfg := local(LoopEpoll)
	h := start(t, cfg, m)
	u, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(h.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	silent := []byte("s") // no answer, hence no allocation by the fake machine
	base := testing.AllocsPerRun(200, func() { do(t, h, func() {}) })
	with := testing.AllocsPerRun(200, func() {
		u.Write(silent)
		do(t, h, func() {})
	})
	if with > base+0.5 {
		t.Errorf("%v allocations with a datagram, %v without", with, base)
	}
}

// A connection in which nothing has come yet is neither plain nor TLS, whatever the kernel said of it.
func TestLooksLikeTLS(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	look := func(wantYes, wantKnown bool) {
		t.Helper()
		for range 2 { // it takes nothing
			if yes, known := looksLikeTLS(pair[0]); yes != wantYes || known != wantKnown {
				t.Errorf("got %v, %v; want %v, %v", yes, known, wantYes, wantKnown)
			}
		}
	}
	look(false, false)
	unix.Write(pair[1], []byte{recordHandshake, 'x'})
	look(true, true)
	unix.Read(pair[0], make([]byte, 1))
	look(false, true)
	unix.Read(pair[0], make([]byte, 1))
	unix.Shutdown(pair[1], unix.SHUT_WR)
	look(false, true)
}
