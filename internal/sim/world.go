// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"evensong/internal/check"
	"evensong/internal/proto/evs"
	"evensong/internal/proto/ring"
)

// World is a cluster in virtual time. It is not safe for concurrent use.
type World struct {
	rnd       *rand.Rand
	edits     *rand.Rand    // what files change to, apart so that other schedules stay what they were
	dialect   *rand.Rand    // who speaks the own dialect, and what only they do; apart for the same reason
	votes     *rand.Rand    // who counts for primary configurations, and when that changes; apart for the same reason
	lending   *rand.Rand    // which datagrams come in a room; apart for the same reason
	now       time.Duration // virtual time since the world began
	step      uint64
	events    queue
	net       network
	ring      ring.Config
	rooms     *rooms
	buffers   [][]byte // of connections that are over
	hosts     []*host
	clients   []*client
	groups    []string
	history   []evs.Trace
	traps     []*trap
	unchecked bool   // see Arena
	pressure  bool   // slow clients may stop altogether
	voting    bool   // files have a rule for primary configurations
	over      bool   // the faults have ended
	ids       uint64 // messages made so far
	bodies    []byte // pattern from which bodies are cut
	scratch   []byte

	// failure is the first broken invariant or panic: the run stops there.
	failure *check.Violation
	stats   Counters
	final   finals
	live    []check.Violation
}

// Counters say what happened in a run.
type Counters struct {
	Virtual    time.Duration
	Messages   int
	Deliveries int
	Records    int
	Inputs     uint64
	Datagrams  uint64
	Lost       uint64
	Installs   int
	Faults     map[string]int // by kind
	Steps      map[string]int // faults by what the daemon concerned was doing
	Rested     int            // how often the parts of a split network had to come to rest
	Settled    int            // how often everything had to come together
	Converged  time.Duration  // from the end of faults to one configuration, the longest
}

// newWorld makes an empty world.
func newWorld(seed uint64) *World {
	w := &World{rnd: rand.New(rand.NewPCG(seed, 0x5eed)), edits: rand.New(rand.NewPCG(seed, 0xed17)), dialect: rand.New(rand.NewPCG(seed, 0xd1a1)),
		votes: rand.New(rand.NewPCG(seed, 0x707e)), lending: rand.New(rand.NewPCG(seed, 0x200e)), rooms: &rooms{}, now: time.Millisecond}
	w.stats.Faults, w.stats.Steps = map[string]int{}, map[string]int{}
	return w
}

// at schedules call for a time; at the same time first come first served.
func (w *World) at(t time.Duration, call func()) {
	w.events.push(event{at: max(t, w.now), kind: evCall, call: call})
}

func (w *World) after(d time.Duration, call func()) { w.at(w.now+d, call) }

// between draws a duration from [lo, hi).
func (w *World) between(lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + time.Duration(w.rnd.Uint64N(uint64(hi-lo)))
}

func (w *World) chance(p float64) bool { return w.rnd.Float64() < p }

// runUntil lets everything happen that is due up to t, or until something is broken.
func (w *World) runUntil(t time.Duration) {
	defer w.catch()
	for len(w.events.heap) > 0 && w.events.heap[0].at <= t && w.failure == nil {
		e := w.events.pop()
		w.now = e.at
		w.step++
		w.dispatch(&e)
	}
	w.now = max(w.now, t)
}

// guard calls f. A panic of a node is a finding, not the end of the simulator.
func (w *World) guard(f func()) {
	defer w.catch()
	f()
}

func (w *World) catch() {
	if r := recover(); r != nil {
		w.fail("PANIC", "%v\n%s", r, debug.Stack())
	}
}

// dispatch performs one event.
func (w *World) dispatch(e *event) {
	switch e.kind {
	case evDatagram:
		w.hosts[e.a].arrive(e.dgram)
	case evTimer:
		w.hosts[e.a].timer(e.at)
	case evHandUp:
		w.hosts[e.a].handUp(int(e.b))
	case evStored:
		w.hosts[e.a].stored(int(e.b), e.n)
	case evInput:
		e.conn.inputDue()
	case evReadable:
		e.conn.readDue()
	case evHungUp:
		e.conn.hungUp()
	case evClientStep:
		w.clients[e.a].dial(int(e.b))
	case evCall:
		e.call()
	}
}

// fail stops the run because of a broken promise that no history is needed to see.
func (w *World) fail(rule, format string, args ...any) {
	if w.failure == nil {
		w.failure = &check.Violation{Rule: rule, Text: fmt.Sprintf("at %v, step %d: ", w.now, w.step) + fmt.Sprintf(format, args...)}
	}
}

// record writes a record of the history.
func (w *World) record(t evs.Trace) {
	t.Step, t.At = w.step, int64(w.now)
	w.history = append(w.history, t)
}

// buffer lends an empty buffer for bytes of a connection.
func (w *World) buffer() []byte {
	if k := len(w.buffers); k > 0 {
		b := w.buffers[k-1]
		w.buffers = w.buffers[:k-1]
		return b
	}
	return make([]byte, 0, 4<<10)
}
