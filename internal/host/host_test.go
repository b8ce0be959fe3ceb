// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/order"
	"evensong/internal/proto/packet"
	"evensong/internal/proto/session"
	"evensong/internal/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo is a machine that sends back what it gets. Its fields are set before it is started; counters may be read in
// Host.Do.
type echo struct {
	limit    int           // bytes that may wait for a client before its input is refused; zero: no limit
	perInput int           // bytes taken from one input; zero: all
	swallow  bool          // no echo: input is only counted
	slowly   time.Duration // refused input is wanted again only after so long
	farewell []byte        // what a client that sends 0xff gets before it is closed
	panicOn  string        // a datagram of this content breaks an invariant
	stay     bool          // ignores Leave
	every    time.Duration // timer
	near     bool          // TokenNear
	asked    bool          // TokenAsked
	sent     func() uint64 // datagrams sent so far

	sessions map[uint64]*echoSession
	last     uint64
	due      time.Duration
	late     []uint64 // to be resumed
	lateAt   time.Duration

	now      time.Duration // of the last input
	total    int           // bytes taken from clients
	accepted int
	locals   int
	users    []uint32 // of Unix sockets
	closed   int
	ended    uint64 // the session that ended last with nothing left to write: its end may be told again
	pings    int
	before   int             // bytes taken from clients when the last datagram came
	sentAt   []uint64        // sent at each HandleWritten
	certs    []string        // of HandleTLS
	refused  []string        // of RefuseTLS
	over     map[uint64]bool // refused
	advances []time.Duration
	early    int // Advance before it was due
	stored   map[uint64]error
	storeSeq uint64 // the datagram "store" stores the next number
}

type echoSession struct {
	out     []byte
	stalled bool
	closing bool
	remote  netip.AddrPort
}

func (e *echo) TokenNear(time.Duration) bool { return e.near }

func (e *echo) TokenAsked() bool { return e.asked }

func (e *echo) tick(now time.Duration) {
	if now < e.now {
		panic("time went back")
	}
	e.now = now
}

func (e *echo) Start(now time.Duration, fx *Effects) {
	e.tick(now)
	e.sessions = make(map[uint64]*echoSession)
	e.stored = make(map[uint64]error)
	e.over = make(map[uint64]bool)
	if e.every > 0 {
		e.due = now + e.every
	}
	fx.Notes = append(fx.Notes, evs.Note{Level: evs.Info, Text: "started", Attrs: []evs.Attr{{Key: "proc", Value: "echo"}}})
}

func (e *echo) HandUp(time.Duration, *Effects) bool { return false }

func (e *echo) HandleDatagram(now time.Duration, from netip.AddrPort, b []byte, _ *packet.Room, fx *Effects) {
	e.tick(now)
	e.pings++
	e.before = e.total
	switch {
	case e.panicOn != "" && string(b) == e.panicOn:
		panic("the invariant")
	case string(b) == "store":
		e.storeSeq++
		fx.Stores = append(fx.Stores, order.Store{ID: e.storeSeq, RingSeq: 100 + e.storeSeq})
	case string(b) == "calm":
		for id, s := range e.sessions {
			s.out = append(s.out, 'c')
			fx.Outputs = append(fx.Outputs, id)
		}
		fx.Sends = append(fx.Sends, packet.Send{To: []netip.AddrPort{from}, Bytes: []byte("answer"), Calm: true})
	case len(b) > 0 && b[0] == 'p':
		b[0] = 'q' // datagrams are writable, and not echoed twice
		fx.Sends = append(fx.Sends, packet.Send{To: []netip.AddrPort{from}, Bytes: b})
	}
}

func (e *echo) HandleAccept(now time.Duration, local bool, remote netip.AddrPort, fx *Effects) uint64 {
	e.tick(now)
	e.last++
	e.accepted++
	if local {
		e.locals++
	}
	e.sessions[e.last] = &echoSession{remote: remote}
	return e.last
}

func (e *echo) HandleUser(id uint64, uid uint32) {
	if len(e.sessions[id].out) > 0 {
		panic("the user comes behind its bytes")
	}
	e.users = append(e.users, uid)
}

func (e *echo) HandleTLS(id uint64, cert string) {
	if e.sessions[id] != nil {
		e.certs = append(e.certs, cert)
	}
}

func (e *echo) RefuseTLS(now time.Duration, id uint64, why string, fx *Effects) {
	e.tick(now)
	if s := e.sessions[id]; s != nil && !s.closing {
		e.refused = append(e.refused, why)
		e.closed++
		delete(e.sessions, id)
		e.over[id] = true
		fx.Closes = append(fx.Closes, Close{Session: id, Reason: session.ReasonTLSFailed})
	}
}

func (e *echo) HandleInput(now time.Duration, id uint64, b []byte, fx *Effects) int {
	e.tick(now)
	s := e.sessions[id]
	if s == nil {
		panic("input for nobody")
	}
	if len(b) == 0 {
		panic("input of nothing")
	}
	n := len(b)
	if e.perInput > 0 {
		n = min(n, e.perInput)
	}
	if e.limit > 0 {
		n = min(n, max(e.limit-len(s.out), 0))
	}
	e.total += n
	if !e.swallow {
		s.out = append(s.out, b[:n]...)
		fx.Outputs = append(fx.Outputs, id)
	}
	if n > 0 && b[0] == 0xff && e.farewell != nil {
		s.out = append(s.out[:0:0], e.farewell...)
		s.closing = true
		fx.Outputs = append(fx.Outputs, id)
		fx.Closes = append(fx.Closes, Close{Session: id, Reason: session.ReasonKill})
		return len(b)
	}
	if n < len(b) {
		s.stalled = true
		switch {
		case e.slowly > 0:
			e.late = append(e.late, id)
			if e.lateAt == 0 {
				e.lateAt = now + e.slowly
			}
		case e.limit == 0:
			s.stalled = false
			fx.Resumes = append(fx.Resumes, id)
		}
	}
	return n
}

func (e *echo) HandleEnd(now time.Duration, id uint64, fx *Effects) {
	e.tick(now)
	s := e.sessions[id]
	if e.over[id] {
		return // its client went before the close was performed
	}
	if s == nil || s.closing {
		panic("ended twice")
	}
	s.closing = true
	fx.Closes = append(fx.Closes, Close{Session: id, Reason: session.ReasonGone}) // must do no harm
	if len(s.out) == 0 {
		e.closed++
		delete(e.sessions, id)
		e.ended = id
	}
}

func (e *echo) HandleClosed(now time.Duration, id uint64, fx *Effects) {
	e.tick(now)
	if id == e.ended || e.over[id] {
		return
	}
	if e.sessions[id] == nil {
		panic("closed twice")
	}
	e.closed++
	delete(e.sessions, id)
	fx.Closes = append(fx.Closes, Close{Session: id, Reason: session.ReasonGone}) // must do no harm
}

func (e *echo) Output(id uint64, dst [][]byte, limit int) [][]byte {
	s := e.sessions[id]
	if s == nil {
		return dst
	}
	// In pieces, to see that all of them are written.
	for b := s.out; len(b) > 0 && len(dst) < limit; {
		n := min(len(b), 1000)
		dst = append(dst, b[:n])
		b = b[n:]
	}
	return dst
}

func (e *echo) HandleWritten(now time.Duration, id uint64, n int, fx *Effects) {
	e.tick(now)
	if e.sent != nil {
		e.sentAt = append(e.sentAt, e.sent())
	}
	s := e.sessions[id]
	if s == nil {
		return
	}
	if s.out = s.out[n:]; len(s.out) == 0 {
		s.out = nil
		if s.closing {
			e.closed++
			delete(e.sessions, id)
		}
	}
	if s.stalled && e.limit > 0 && len(s.out) <= e.limit/2 {
		s.stalled = false
		fx.Resumes = append(fx.Resumes, id)
	}
}

func (e *echo) HandleStored(now time.Duration, id uint64, err error, fx *Effects) {
	e.tick(now)
	e.stored[id] = err
}

func (e *echo) Leave(now time.Duration, fx *Effects) {
	e.tick(now)
	fx.Stopped = !e.stay
}

func (e *echo) Advance(now time.Duration, fx *Effects) {
	e.tick(now)
	if d := e.Deadline(); d == 0 || now < d {
		e.early++
	}
	if e.lateAt != 0 && now >= e.lateAt {
		e.lateAt = 0
		fx.Resumes = append(fx.Resumes, e.late...)
		e.late = e.late[:0]
	}
	if e.due != 0 && now >= e.due {
		e.advances = append(e.advances, now-e.due)
		e.due = now + e.every
	}
}

func (e *echo) Deadline() time.Duration {
	switch {
	case e.lateAt == 0:
		return e.due
	case e.due == 0:
		return e.lateAt
	}
	return min(e.due, e.lateAt)
}

// forEachLoop runs a test with each loop that this system has.
func forEachLoop(t *testing.T, f func(t *testing.T, cfg Config)) {
	for _, k := range []struct {
		name string
		kind LoopKind
	}{{"epoll", LoopEpoll}, {"portable", LoopPortable}} {
		if k.kind == LoopEpoll && !haveEpoll {
			continue
		}
		t.Run(k.name, func(t *testing.T) { f(t, local(k.kind)) })
	}
}

func local(kind LoopKind) Config {
	return Config{
		Loop:      kind,
		Transport: transport.Config{Bind: netip.MustParseAddrPort("127.0.0.1:0")},
		Listen:    []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")},
	}
}

func start(t testing.TB, cfg Config, m Machine) *Host {
	t.Helper()
	h, err := Start(cfg, func(Boot) (Machine, error) { return m, nil })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.Stop()
		<-h.Done()
	})
	return h
}

// do reads the machine in its loop.
func do(t testing.TB, h *Host, f func()) {
	t.Helper()
	if err := h.Do(context.Background(), func(time.Duration) { f() }); err != nil {
		t.Fatal(err)
	}
}

// eventually waits until f, run in the loop, is true.
func eventually(t testing.TB, h *Host, what string, f func() bool) {
	t.Helper()
	ok := false
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if do(t, h, func() { ok = f() }); ok {
			return
		}
	}
	t.Fatal("never: ", what)
}

func dial(t testing.TB, h *Host) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", h.ListenAddrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// pattern is n bytes that depend on their place, none of them 0xff.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(uint32(i+n)*2654435761>>24) & 0x7f
	}
	return b
}

func TestEchoOnEveryKindOfSocket(t *testing.T) {
	forEachLoop(t, func(t *testing.T, cfg Config) {
		path := filepath.Join(t.TempDir(), "sub", "sock")
		cfg.Unix = []string{path}
		if c, err := net.Listen("tcp6", "[::1]:0"); err == nil {
			c.Close()
			cfg.Listen = append(cfg.Listen, netip.MustParseAddrPort("[::]:0"))
		}
		m := &echo{}
		h := start(t, cfg, m)
		dials := []string{"unix " + path}
		for _, a := range h.ListenAddrs() {
			host := "127.0.0.1"
			dials = append(dials, fmt.Sprintf("tcp %s:%d", host, a.Port()))
			if a.Addr().Is6() {
				dials = append(dials, fmt.Sprintf("tcp [::1]:%d", a.Port()))
			}
		}
		var wg sync.WaitGroup
		for i, d := range dials {
			wg.Go(func() {
				network, addr, _ := strings.Cut(d, " ")
				c, err := net.Dial(network, addr)
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				c.SetDeadline(time.Now().Add(20 * time.Second))
				for _, n := range []int{1, 100, 70000, 5, 400000} {
					want := pattern(n + i)
					go c.Write(want)
					got := make([]byte, len(want))
					if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
						t.Errorf("%s: %d bytes: %v, equal %v", d, n, err, bytes.Equal(got, want))
						return
					}
				}
			})
		}
		wg.Wait()
		eventually(t, h, "all closed", func() bool { return m.closed == len(dials) })
		if m.locals != 1 {
			t.Errorf("%d local sessions, want 1", m.locals)
		}
		if n := h.Stats().Sessions.Load(); n != 0 {
			t.Errorf("%d sessions left", n)
		}
	})
}

// Input that the machine refuses waits, and no byte is lost or doubled; the client is held up by TCP meanwhile.
func TestBackPressure(t *testing.T) {
	for name, m := range map[string]func() *echo{
		"limit of waiting output": func() *echo { return &echo{limit: 3000} },
		"little at a time":        func() *echo { return &echo{perInput: 7001} },
		"after a while":           func() *echo { return &echo{perInput: 90000, slowly: time.Millisecond} },
	} {
		t.Run(name, func(t *testing.T) {
			forEachLoop(t, func(t *testing.T, cfg Config) {
				m := m()
				h := start(t, cfg, m)
				want := pattern(2 << 20)
				var wg sync.WaitGroup
				for range 3 {
					c := dial(t, h)
					wg.Go(func() { c.Write(want) })
					wg.Go(func() {
						got := make([]byte, len(want))
						if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
							t.Errorf("%v, equal %v", err, bytes.Equal(got, want))
						}
						c.Close()
					})
				}
				wg.Wait()
				eventually(t, h, "all closed", func() bool { return m.closed == 3 })
				if m.total != 3*len(want) {
					t.Errorf("machine took %d bytes, want %d", m.total, 3*len(want))
				}
				if p := h.Stats().ClientsPaused.Load(); p != 0 {
					t.Errorf("%d clients still paused", p)
				}
			})
		})
	}
}

func TestSlowReader(t *testing.T) {
	forEachLoop(t, func(t *testing.T, cfg Config) {
		m := &echo{}
		h := start(t, cfg, m)
		c := dial(t, h)
		c.(*net.TCPConn).SetReadBuffer(128 << 10)
		want := pattern(16 << 20)
		if _, err := c.Write(want); err != nil { // reads nothing meanwhile
			t.Fatal(err)
		}
		eventually(t, h, "all taken", func() bool { return m.total == len(want) })
		eventually(t, h, "blocked", func() bool { return h.Stats().ClientsBlocked.Load() == 1 })
		other := dial(t, h) // a slow reader is nobody else's problem
		other.Write([]byte("x"))
		if _, err := io.ReadFull(other, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(want))
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%v, equal %v", err, bytes.Equal(got, want))
		}
		eventually(t, h, "unblocked", func() bool { return h.Stats().ClientsBlocked.Load() == 0 })
	})
}

// What the machine says before it closes a session reaches the client, though the client has sent more than was read.
func TestCloseDeliversLastBytes(t *testing.T) {
	forEachLoop(t, func(t *testing.T, cfg Config) {
		for _, size := range []int{0, 1, 300000} {
			m := &echo{farewell: pattern(size)}
			h := start(t, cfg, m)
			c := dial(t, h)
			c.Write([]byte{0xff})
			go c.Write(pattern(100000))
			got, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(got, m.farewell) {
				t.Fatalf("%d bytes: got %d, %v", size, len(got), err)
			}
			c.Close()
			eventually(t, h, "connection gone", func() bool { return h.Stats().Closing.Load() == 0 && h.Stats().Sessions.Load() == 0 })
			if size > 0 && len(m.sessions) != 0 {
				t.Errorf("%d sessions in the machine", len(m.sessions))
			}
		}
	})
}

// A client that takes nothing of its last bytes is cut after a while, and the machine learns that it may forget them.
func TestCloseIsBounded(t *testing.T) {
	forEachLoop(t, func(t *testing.T, cfg Config) {
		t.Parallel()
		m := &echo{farewell: pattern(32 << 20)}
		h := start(t, cfg, m)
		c := dial(t, h)
		c.(*net.TCPConn).SetReadBuffer(4 << 10)
		began := time.Now()
		c.Write([]byte{0xff})
		eventually(t, h, "cut", func() bool { return m.closed == 1 })
		if d := time.Since(began); d < lingerTime {
			t.Errorf("cut after %v, want %v", d, lingerTime)
		}
		if n := h.Stats().ClosesCut.Load(); n != 1 {
			t.Errorf("ClosesCut = %d, want 1", n)
		}
		if h.Stats().Sessions.Load() != 0 || h.Stats().Closing.Load() != 0 {
			t.Error("the connection is still counted")
		}
	})
}

// What a client said before it went away is valid, also when it reads nothing and the machine takes its time.
func TestLastWordsOfAClient(t *testing.T) {
	for name, m := range map[string]func() *echo{
		"taken at once": func() *echo { return &echo{} },
		"taken slowly":  func() *echo { return &echo{perInput: 20000, slowly: time.Millisecond} },
		"no output":     func() *echo { return &echo{perInput: 20000, slowly: time.Millisecond, swallow: true} },
	} {
		t.Run(name, func(t *testing.T) {
			forEachLoop(t, func(t *testing.T, cfg Config) {
				path := filepath.Join(t.TempDir(), "s")
				cfg.Unix = []string{path}
				m := m()
				h := start(t, cfg, m)
				want := pattern(300000)
				c, err := net.Dial("unix", path)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.Write(want); err != nil {
					t.Fatal(err)
				}
				c.Close()
				eventually(t, h, "closed", func() bool { return m.closed == 1 })
				if m.total != len(want) {
					t.Errorf("machine took %d of %d bytes", m.total, len(want))
				}
			})
		})
	}
}

func descriptors(t *testing.T) int {
	es, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(es)
}

func TestManyShortConnectionsLeaveNothingBehind(t *testing.T) {
	forEachLoop(t, func(t *testing.T, cfg Config) {
		m := &echo{farewell: []byte("bye")}
		h := start(t, cfg, m)
		do(t, h, func() {}) // all its goroutines run
		files, routines := descriptors(t), runtime.NumGoroutine()
		const workers, each = 8, 250
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				for i := range each {
					c, err := net.Dial("tcp", h.ListenAddrs()[0].String())
					if err != nil {
						t.Error(err)
						return
					}
					c.SetDeadline(time.Now().Add(20 * time.Second))
					switch (w + i) % 4 {
					case 0: // says nothing
					case 1:
						c.Write(pattern(i))
					case 2: // is closed
						c.Write([]byte{0xff})
						io.ReadAll(c)
					case 3: // resets
						c.Write(pattern(i + 1))
						c.(*net.TCPConn).SetLinger(0)
					}
					c.Close()
				}
			})
		}
		wg.Wait()
		eventually(t, h, "all gone", func() bool {
			return m.accepted == workers*each && len(m.sessions) == 0 && h.Stats().Sessions.Load() == 0 && h.Stats().Closing.Load() == 0
		})
		var f, r int
		for range 1000 {
			f, r = descriptors(t), runtime.NumGoroutine()
			if f <= files && r <= routines {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if f > files || r > routines {
			t.Errorf("%d descriptors, %d goroutines; before: %d, %d", f, r, files, routines)
		}
	})
}

func TestDatagramsWhileAClientFloods(t *testing.T) {
	forEachLoop(t, func(t *testing.T, cfg Config) {
		m := &echo{swallow: true}
		h := start(t, cfg, m)
		var stop atomic.Bool
		var wg sync.WaitGroup
		for range 2 {
			c := dial(t, h)
			wg.Go(func() {
				b := pattern(256 << 10)
				for !stop.Load() {
					if _, err := c.Write(b); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		u, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(h.Addr()))
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		b := make([]byte, 100)
		for i := range 200 {
			fmt.Fprintf(u, "p%d", i)
			u.SetDeadline(time.Now().Add(5 * time.Second))
			n, err := u.Read(b)
			if err != nil || string(b[:n]) != fmt.Sprintf("q%d", i) {
				t.Errorf("ping %d: %q, %v", i, b[:n], err)
				break
			}
		}
		stop.Store(true)
		wg.Wait()
	})
}

// A loop with nothing to do sleeps, whatever state its connections are in.
func TestIdleLoopSleeps(t *testing.T) {
	forEachLoop(t, func(t *testing.T, cfg Config) {
		path := filepath.Join(t.TempDir(), "s")
		cfg.Unix = []string{path}
		m := &echo{limit: 1000}
		h := start(t, cfg, m)
		idle, blocked, gone := dial(t, h), dial(t, h), dial(t, h)
		idle.Write([]byte("x"))
		for _, c := range []net.Conn{blocked, gone} {
			c.(*net.TCPConn).SetReadBuffer(4 << 10)
			c.Write(pattern(50000)) // more than the machine takes while nobody reads
		}
		u, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		u.Write(pattern(50000))
		eventually(t, h, "all there", func() bool { return m.accepted == 4 && m.total > 50000 })
		gone.(*net.TCPConn).SetLinger(0)
		gone.Close()
		u.Close()
		time.Sleep(50 * time.Millisecond) // what there was to do is done
		before := h.Stats().Wakeups.Load()
		time.Sleep(50 * time.Millisecond)
		if n := h.Stats().Wakeups.Load() - before; n > 10 {
			t.Errorf("%d wake-ups in 50 ms of nothing to do", n)
		}
	})
}

func TestTimers(t *testing.T) {
	forEachLoop(t, func(t *testing.T, cfg Config) {
		m := &echo{every: 700 * time.Microsecond}
		h := start(t, cfg, m)
		eventually(t, h, "50 timers", func() bool { return len(m.advances) >= 50 })
		do(t, h, func() {
			if m.early > 0 {
				t.Errorf("Advance came %d times before it was due", m.early)
			}
			slices.Sort(m.advances)
			if d := m.advances[len(m.advances)/2]; d > 50*time.Millisecond {
				t.Errorf("timers are %v late at the median", d)
			}
		})
	})
}

// A question that nobody waits for any more is not asked: its answer would go into variables that their owner reads.
func TestDoAfterItsContext(t *testing.T) {
	forEachLoop(t, func(t *testing.T, cfg Config) {
		h := start(t, cfg, &echo{})
		busy, free := make(chan struct{}), make(chan struct{})
		go h.Do(context.Background(), func(time.Duration) { close(busy); <-free })
		<-busy
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		late := false
		if err := h.Do(ctx, func(time.Duration) { late = true }); !errors.Is(err, context.Canceled) {
			t.Errorf("Do with a loop that is busy: %v", err)
		}
		close(free)
		do(t, h, func() {})
		if late {
			t.Error("the function ran after Do had returned")
		}

		// Once it runs its end is waited for.
		ctx, cancel = context.WithCancel(context.Background())
		ran := false
		if err := h.Do(ctx, func(time.Duration) { cancel(); time.Sleep(10 * time.Millisecond); ran = true }); err != nil || !ran {
			t.Errorf("Do whose context ends while the function runs: %v, ran to its end: %v", err, ran)
		}
	})
}

func TestSessionLimit(t *testing.T) {
	forEachLoop(t, func(t *testing.T, cfg Config) {
		cfg.MaxSessions = 2
		m := &echo{}
		h := start(t, cfg, m)
		a, b := dial(t, h), dial(t, h)
		eventually(t, h, "two sessions", func() bool { return m.accepted == 2 })
		for range 3 {
			c := dial(t, h)
			c.Write(pattern(500)) // must not turn the answer into a reset
			got, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(got, []byte{0xfd}) {
				t.Fatalf("got %x, %v; want fd", got, err)
			}
			c.Close()
		}
		a.Write([]byte("still here"))
		if _, err := io.ReadFull(a, make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		b.Close()
		eventually(t, h, "room again", func() bool { return m.closed == 1 && h.Stats().Closing.Load() == 0 })
		c := dial(t, h)
		c.Write([]byte("me"))
		if _, err := io.ReadFull(c, make([]byte, 2)); err != nil {
			t.Fatal(err)
		}
		if n := h.Stats().RejectsSessions.Load(); n != 3 {
			t.Errorf("RejectsSessions = %d, want 3", n)
		}
	})
}

func TestMemTransport(t *testing.T) {
	var network transport.Mem
	open := func(s string) *transport.MemConn {
		c, err := network.Open(netip.MustParseAddrPort(s))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	m := &echo{}
	h := start(t, Config{Conn: open("10.0.0.1:1")}, m)
	peer := open("10.0.0.2:1")
	defer peer.Close()
	b := make([]byte, 10)
	for range 100 {
		peer.Send([]packet.Send{{To: []netip.AddrPort{h.Addr()}, Bytes: []byte("ping")}})
		if n, from, err := peer.Receive(b); err != nil || string(b[:n]) != "qing" || from != h.Addr() {
			t.Fatalf("%q from %v, %v", b[:n], from, err)
		}
	}
}

func TestEndings(t *testing.T) {
	forEachLoop(t, func(t *testing.T, cfg Config) {
		t.Run("orderly", func(t *testing.T) {
			h := start(t, cfg, &echo{})
			c := dial(t, h)
			c.Write([]byte("hello"))
			io.ReadFull(c, make([]byte, 5))
			go func() { io.ReadAll(c); c.Close() }()
			if h.Err() != nil {
				t.Error(h.Err())
			}
			if err := h.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			if err := h.Close(); err != nil {
				t.Errorf("second Close: %v", err)
			}
			if _, err := net.Dial("tcp", h.ListenAddrs()[0].String()); err == nil {
				t.Error("still listening")
			}
			if err := h.Do(context.Background(), func(time.Duration) {}); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Do after the end: %v", err)
			}
		})
		t.Run("machine does not stop", func(t *testing.T) {
			t.Parallel()
			h := start(t, cfg, &echo{stay: true})
			began := time.Now()
			if err := h.Close(); !errors.Is(err, ErrLeaveTimeout) {
				t.Errorf("Close: %v", err)
			}
			if d := time.Since(began); d < leaveTime {
				t.Errorf("after %v", d)
			}
		})
		t.Run("stop", func(t *testing.T) {
			h := start(t, cfg, &echo{stay: true})
			dial(t, h)
			h.Stop()
			<-h.Done()
			if h.Err() != nil {
				t.Error(h.Err())
			}
		})
		t.Run("invariant broken", func(t *testing.T) {
			h := start(t, cfg, &echo{panicOn: "boom"})
			u, _ := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(h.Addr()))
			defer u.Close()
			u.Write([]byte("boom"))
			<-h.Done()
			var p *PanicError
			if !errors.As(h.Err(), &p) || p.Value != "the invariant" || !bytes.Contains(p.Stack, []byte("HandleDatagram")) {
				t.Errorf("Err: %v", h.Err())
			}
		})
		t.Run("signals", func(t *testing.T) {
			signals := make(chan os.Signal)
			ran := make(chan error)
			go func() {
				ran <- Run(context.Background(), cfg, func(Boot) (Machine, error) { return &echo{stay: true}, nil }, signals)
			}()
			signals <- os.Interrupt
			signals <- os.Interrupt // the machine does not leave, so this one must end it
			if err := <-ran; err != nil {
				t.Error(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			if err := Run(ctx, cfg, func(Boot) (Machine, error) { return &echo{}, nil }, nil); err != nil {
				t.Error(err)
			}
		})
	})
}

func TestStartErrors(t *testing.T) {
	forEachLoop(t, func(t *testing.T, cfg Config) {
		h := start(t, cfg, &echo{})
		build := func(Boot) (Machine, error) { return &echo{}, nil }
		files := descriptors(t)
		for _, tc := range []struct {
			name  string
			edit  func(*Config)
			class error
		}{
			{"datagram address taken", func(c *Config) { c.Transport.Bind = h.Addr() }, ErrBind},
			{"client address taken", func(c *Config) { c.Listen = h.ListenAddrs() }, ErrBind},
			{"not our address", func(c *Config) { c.Listen = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:4803")} }, ErrBind},
			{"no address", func(c *Config) { c.Transport.Bind = netip.AddrPort{} }, ErrConfig},
			{"negative", func(c *Config) { c.MaxSessions = -1 }, ErrConfig},
			{"empty path", func(c *Config) { c.Unix = []string{""} }, ErrConfig},
		} {
			c := cfg
			tc.edit(&c)
			if _, err := Start(c, build); !errors.Is(err, tc.class) {
				t.Errorf("%s: %v, want %v", tc.name, err, tc.class)
			}
		}
		want := errors.New("no such daemon")
		if _, err := Start(cfg, func(Boot) (Machine, error) { return nil, want }); !errors.Is(err, want) {
			t.Errorf("build error: %v", err)
		}
		if n := descriptors(t); n != files {
			t.Errorf("%d descriptors, before %d", n, files)
		}
	})
}

// TestSocketForbidden: where this user may not make a socket the error names the path once, and another way.
func TestSocketForbidden(t *testing.T) {
	if text := ifForbidden(fs.ErrNotExist, "--x"); text != "" {
		t.Errorf("of what does not exist: %q", text)
	}
	if text := ifForbidden(fmt.Errorf("bind: %w", fs.ErrPermission), "--x"); text != "; this user may not write there: choose another path with --x" {
		t.Errorf("%q", text)
	}
	cfg := local(LoopAuto)
	path := filepath.Join(t.TempDir(), strings.Repeat("x", 200)) // longer than a socket's path may be, for root as well
	cfg.Unix = []string{path}
	_, err := Start(cfg, func(Boot) (Machine, error) { return &echo{}, nil })
	if !errors.Is(err, ErrBind) || strings.Count(err.Error(), path) != 1 {
		t.Errorf("%v", err)
	}
}

// Who builds the machine knows whether runs of datagrams are sent as one.
func TestBootSegments(t *testing.T) {
	forEachLoop(t, func(t *testing.T, cfg Config) {
		for path, want := range map[transport.Path]bool{transport.PathSegment: true, transport.PathBatch: false, transport.PathSingle: false, transport.PathAuto: false} {
			if path == transport.PathAuto && cfg.Loop == LoopEpoll {
				continue // what that is depends on the system
			}
			cfg.Transport.Path = path
			var boot Boot
			h, err := Start(cfg, func(b Boot) (Machine, error) {
				boot = b
				return &echo{}, nil
			})
			if errors.Is(err, transport.ErrPath) {
				t.Logf("%v: %v", path, err)
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if boot.Segments != want {
				t.Errorf("path %v: Segments = %v, want %v", path, boot.Segments, want)
			}
			h.Close()
		}
	})
}

func TestUnixSocketFile(t *testing.T) {
	forEachLoop(t, func(t *testing.T, cfg Config) {
		build := func(Boot) (Machine, error) { return &echo{}, nil }
		path := filepath.Join(t.TempDir(), "4803")
		cfg.Unix, cfg.UnixMode = []string{path}, 0o600

		h := start(t, cfg, &echo{})
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("mode %v, %v", info.Mode(), err)
		}
		if _, err := Start(cfg, build); !errors.Is(err, ErrBind) || !strings.Contains(err.Error(), "already running") {
			t.Errorf("second daemon: %v", err)
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(path); err == nil {
			t.Error("the file outlives its daemon")
		}

		// A crashed daemon leaves its file behind.
		dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
		if err != nil {
			t.Fatal(err)
		}
		dead.SetUnlinkOnClose(false)
		dead.Close()
		h = start(t, cfg, &echo{})
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()

		// Somebody else's file in our place is not ours to remove.
		os.Remove(path)
		if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		h.Close()
		if b, err := os.ReadFile(path); string(b) != "precious" {
			t.Errorf("the file was touched: %q, %v", b, err)
		}
		if _, err := Start(cfg, build); !errors.Is(err, ErrBind) || !strings.Contains(err.Error(), "no socket") {
			t.Errorf("a plain file in the way: %v", err)
		}
	})
}
