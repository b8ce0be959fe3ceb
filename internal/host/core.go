// SPDX-License-Identifier: Apache-2.0

package host

import (
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/node"
	"evensong/internal/proto/order"
	"evensong/internal/proto/packet"
)

// loop is a way to wait and to move bytes. All but wake belong to the goroutine that calls run.
type loop interface {
	run() error
	// release closes everything that run or the constructor opened and waits for goroutines. It may be called again.
	release()
	wake() // makes run look at the mailbox; any goroutine
	localAddr() netip.AddrPort
	shell
}

// shell is what the core needs from a loop. None of the methods calls the machine: they queue.
type shell interface {
	Send([]packet.Send) // as they are; core.send seals them first
	markOutput(id uint64)
	markResume(id uint64)
	markClose(c Close)
}

// core owns the machine: what both loops have in common. It belongs to the loop's goroutine.
type core struct {
	cfg   *Config
	m     Machine
	fx    Effects
	shell shell
	stats *Stats
	notes *notes
	store *store
	mail  *mailbox
	quit  <-chan struct{}
	over  <-chan struct{} // closed once the loop has ended
	tls   *tlsSide
	dog   *watchdog // set before the loop runs

	start time.Time
	now   time.Duration // of the current turn

	sealing sealing

	patient bool          // calm sends are put off
	later   []packet.Send // those; whoever sets patient sees to sendLater before the next input

	stored int // bytes of datagrams since deliveries were handed up

	dropsError, dropsFull uint64 // what is logged of the transport's drops
	runsRefused           bool   // that there are such runs is logged

	draining bool // no client is taken any more
	leaving  bool
	stopped  bool          // the machine has said all
	leaveEnd time.Duration // when to stop anyway; while leaving
}

// tick looks at the clock.
func (c *core) tick() { c.now = time.Since(c.start) }

// perform does what the last input asked for, and what follows from it.
func (c *core) perform() {
	c.performOne()
	c.handUp()
}

// storedAtOnce is how many bytes of datagrams may come before what they made deliverable is handed up: 32 packets of the usual length, which
// stay in the processor's caches.
const storedAtOnce = 48 << 10

// handUp has the machine hand up what datagrams have made deliverable.
func (c *core) handUp() {
	c.stored = 0
	for c.m.HandUp(c.now, &c.fx) {
		c.performOne()
	}
}

// performOne does what the last input asked for. It calls no input itself.
func (c *core) performOne() {
	fx := &c.fx
	switch {
	case len(fx.Sends) == 0:
	case c.patient && allCalm(fx.Sends):
		c.later = append(c.later, fx.Sends...)
	default:
		c.sendLater()
		c.send(fx.Sends)
	}
	for _, id := range fx.Outputs {
		c.shell.markOutput(id)
	}
	for _, id := range fx.Resumes {
		c.shell.markResume(id)
	}
	for _, cl := range fx.Closes {
		c.shell.markClose(cl)
	}
	for _, s := range fx.Stores {
		if c.store == nil {
			// The machine was told that nothing is stable here, so this is a bug of its owner.
			panic("a store without a state directory")
		}
		c.store.put(storeJob{ID: s.ID, RingSeq: s.RingSeq})
	}
	if len(fx.Trace) > 0 && c.cfg.Trace != nil {
		c.cfg.Trace(fx.Trace)
	}
	for i := range fx.Notes {
		n := &fx.Notes[i]
		c.noteOf(n)
	}
	c.stopped = c.stopped || fx.Stopped
	fx.Reset()
}

// allCalm reports whether nobody waits for any of these.
func allCalm(sends []packet.Send) bool {
	for i := range sends {
		if !sends[i].Calm {
			return false
		}
	}
	return true
}

// sendLater sends what was put off.
func (c *core) sendLater() {
	if len(c.later) > 0 {
		c.send(c.later)
		clear(c.later)
		c.later = c.later[:0]
	}
}

func (c *core) note(level slog.Level, text string, attrs ...slog.Attr) {
	c.notes.note(c.now, level, text, attrs...)
}

// noteOf logs a note of the machine.
func (c *core) noteOf(n *evs.Note) {
	level := slog.LevelDebug
	switch n.Level {
	case evs.Debug:
	case evs.Info:
		level = slog.LevelInfo
	case evs.Warn:
		level = slog.LevelWarn
	case evs.Error:
		level = slog.LevelError
	default:
		panic("a note without a level: " + n.Text)
	}
	if !c.notes.enabled(level) {
		return // before the attributes are built
	}
	attrs := make([]slog.Attr, 0, len(n.Attrs))
	for _, a := range n.Attrs {
		if facts, ok := a.Value.([]byte); ok && a.Key == order.FactsKey {
			if c.cfg.Differences == nil {
				continue
			}
			d := c.cfg.Differences(facts, c.known())
			if len(d) == 0 {
				return // written differently, and the same
			}
			a = evs.Attr{Key: "difference", Value: strings.Join(d, "; ")}
		}
		attrs = append(attrs, slog.Any(a.Key, a.Value))
	}
	c.note(level, n.Text, attrs...)
}

// known are the names of the other daemons that speak.
func (c *core) known() (names []string) {
	if m, ok := c.m.(*node.Machine); ok {
		for _, p := range m.Peers(c.now) {
			names = append(names, p.Name)
		}
	}
	return names
}

// watchDrops logs datagrams that could not be sent. The protocol repairs it, but an operator may be the cause.
func (c *core) watchDrops() {
	t := c.stats.Transport
	if n := t.DropsError.Load(); n != c.dropsError {
		c.note(slog.LevelWarn, "datagrams refused by the system", slog.Uint64("datagrams", n-c.dropsError), slog.Any("reason", t.LastError()))
		c.dropsError = n
	}
	if !c.runsRefused && t.RunsRefused.Load() > 0 {
		c.runsRefused = true // once: it is about a route, and costs nothing but speed
		c.note(slog.LevelInfo, "datagrams go one by one where the system refuses several at once", slog.Any("reason", t.LastRefusal()))
	}
	if n := t.DropsFull.Load(); n != c.dropsFull {
		c.note(slog.LevelWarn, "datagrams dropped, the send buffer is full", slog.Uint64("datagrams", n-c.dropsFull))
		c.dropsFull = n
	}
}

// leave begins the orderly exit.
func (c *core) leave() {
	if c.leaving {
		return
	}
	c.leaving = true
	c.leaveEnd = c.now + leaveTime
	c.m.Leave(c.now, &c.fx)
	c.perform()
}

// killed reports whether to stop at once.
func (c *core) killed() bool {
	select {
	case <-c.quit:
		return true
	default:
		return false
	}
}

// timers runs the machine's timers if they are due.
func (c *core) timers() {
	if d := c.m.Deadline(); d != 0 && d <= c.now && !c.stopped {
		c.stats.Timers.Add(1)
		c.m.Advance(c.now, &c.fx)
		c.perform()
	}
}

// forever is a time that never comes.
const forever = time.Duration(1<<63 - 1)

// next is when the machine wants to be called; forever if it does not.
func (c *core) next() time.Duration {
	d := c.m.Deadline()
	if d == 0 {
		d = forever
	}
	if c.leaving {
		d = min(d, c.leaveEnd)
	}
	return d
}

// mailbox brings functions of other goroutines to the loop.
type mailbox struct {
	mu     sync.Mutex
	queue  []func()
	closed bool
	wake   func()
}

// post queues f for the loop. False means that the loop has ended and f will not run.
func (m *mailbox) post(f func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.queue = append(m.queue, f)
	m.wake()
	return true
}

// take empties the mailbox.
func (m *mailbox) take() []func() {
	m.mu.Lock()
	defer m.mu.Unlock()
	q := m.queue
	m.queue = nil
	return q
}

// close refuses what comes from now on. What is queued is dropped.
func (m *mailbox) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed, m.queue = true, nil
}
