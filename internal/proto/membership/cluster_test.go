// SPDX-License-Identifier: Apache-2.0

package membership

import (
	"container/heap"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/packet"
)

// cluster runs machines in virtual time over a bad network. In place of order stands a stub that passes a bare token
// round: a ring is installed at a member's second visit of it, when all have seen the first.
type cluster struct {
	t       *testing.T
	rnd     *rand.Rand
	now     time.Duration
	events  eventHeap
	count   uint64
	nodes   []*daemon
	stored  map[string]uint64       // stable storage by name
	top     map[string]uint64       // highest ring installed by name (EVS-8)
	rings   map[evs.RingID]string   // members of every ring installed (EVS-5)
	cut     func(from, to int) bool // one-way cuts, by index
	noToken func(from, to int) bool // links that lose tokens only
	loss    float64
	dup     float64
	delay   time.Duration // longest
	tweak   func(i int, c *Config)
	failing map[int]bool // stores fail
	digest  uint64       // of all packets sent, in order
	sends   int
	quiet   bool
}

type event struct {
	at  time.Duration
	seq uint64
	do  func()
}
type eventHeap []event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].seq < h[j].seq
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(x any)   { *h = append(*h, x.(event)) }
func (h *eventHeap) Pop() any {
	x := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return x
}

// daemon is one incarnation.
type daemon struct {
	c        *cluster
	i        int
	id       evs.ProcID
	m        *Machine
	dead     bool
	paused   []func() // inputs that wait; nil: running
	isPaused bool
	born     time.Duration
	armed    time.Duration
	ring     evs.RingID // installed
	members  []evs.ProcID
	primary  evs.Primary
	installs []install
	notes    []timed

	// The stub's ring: the one that turns or recovers now.
	on       bool
	cur      evs.RingID
	curConf  *evs.Configuration
	me       int
	addrs    []netip.AddrPort
	hop      uint64 // of the last token accepted
	visits   int
	lossAt   time.Duration
	epoch    int // stub timers of an earlier ring are void
	promised evs.RingID
}

type timed struct {
	at time.Duration
	Note
}

type install struct {
	at      time.Duration
	ring    evs.RingID
	members []evs.ProcID
}

func newCluster(t *testing.T, seed uint64, n int) *cluster {
	c := &cluster{t: t, rnd: rand.New(rand.NewPCG(seed, 7)), stored: map[string]uint64{}, top: map[string]uint64{}, rings: map[evs.RingID]string{},
		delay: time.Millisecond, nodes: make([]*daemon, n), failing: map[int]bool{}}
	return c
}

func addr(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 4803)
}

func (c *cluster) after(d time.Duration, do func()) {
	c.count++
	heap.Push(&c.events, event{c.now + d, c.count, do})
}

func (c *cluster) start(i int) {
	id := evs.ProcID{Rank: uint16(i), Name: fmt.Sprintf("d%02d", i), Inc: evs.Incarnation(c.rnd.Uint64() | 1)}
	d := &daemon{c: c, i: i, id: id, born: c.now}
	cfg := Config{Me: id, StoredRingSeq: c.stored[id.Name], Stable: true}
	for j := range c.nodes {
		cfg.Peers = append(cfg.Peers, addr(j))
	}
	if c.tweak != nil {
		c.tweak(i, &cfg)
	}
	m, err := New(cfg, packet.NewSealer("test", id), rand.New(rand.NewPCG(c.rnd.Uint64(), 1)), 0)
	if err != nil {
		c.t.Fatal(err)
	}
	d.m = m
	c.nodes[i] = d
	d.input(func(now time.Duration, fx *Effects) { m.Start(now, fx) })
}

func (c *cluster) startAll(spread time.Duration) {
	for i := range c.nodes {
		c.after(time.Duration(c.rnd.Int64N(int64(spread)+1)), func() { c.start(i) })
	}
	c.run(spread)
}

func (c *cluster) kill(i int) { c.nodes[i].dead = true }

func (c *cluster) run(d time.Duration) {
	end := c.now + d
	for len(c.events) > 0 && c.events[0].at <= end {
		e := heap.Pop(&c.events).(event)
		c.now = e.at
		e.do()
	}
	c.now = end
}

func (d *daemon) local() time.Duration { return d.c.now - d.born }

// input runs one input of the machine and carries out its effects.
func (d *daemon) input(f func(now time.Duration, fx *Effects)) {
	if d.dead {
		return
	}
	if d.isPaused {
		d.paused = append(d.paused, func() { d.input(f) })
		return
	}
	var fx Effects
	f(d.local(), &fx)
	for i := 0; i < len(fx.Steps); i++ { // StepCommit appends
		d.step(fx.Steps[i], &fx)
	}
	if err := d.m.CheckInvariants(); err != nil {
		d.c.t.Fatalf("%v %v: %v", d.c.now, d.id, err)
	}
	for _, n := range fx.Notes {
		d.notes = append(d.notes, timed{d.c.now, n})
	}
	if len(d.notes) > 4000 {
		d.notes = d.notes[2000:]
	}
	for _, s := range fx.Stores {
		d.c.after(time.Millisecond+time.Duration(d.c.rnd.Int64N(int64(4*time.Millisecond))), func() {
			if d.dead {
				return
			}
			var err error
			if d.c.failing[d.i] {
				err = errors.New("disk full")
			} else {
				d.c.stored[d.id.Name] = max(d.c.stored[d.id.Name], s.RingSeq)
			}
			d.input(func(now time.Duration, fx *Effects) { d.m.HandleStored(now, s.ID, err, fx) })
		})
	}
	for _, s := range fx.Sends {
		for _, to := range s.To {
			d.c.transmit(d.i, to, false, s.Bytes)
		}
	}
	d.arm()
}

func (d *daemon) arm() {
	at := d.m.Deadline()
	if at == 0 || at == d.armed {
		return
	}
	d.armed = at
	d.c.after(max(0, at-d.local()), func() {
		if d.armed == at {
			d.armed = 0
			d.input(func(now time.Duration, fx *Effects) { d.m.Advance(now, fx) })
		}
	})
}

func (c *cluster) transmit(from int, to netip.AddrPort, token bool, b []byte) {
	h := fnv.New64a()
	h.Write(b)
	c.digest = c.digest*31 + h.Sum64()
	c.deliverTo(from, to, token, func(d *daemon) { d.receive(addr(from), b) })
}

func (c *cluster) deliverTo(from int, to netip.AddrPort, token bool, f func(*daemon)) {
	a4 := to.Addr().As4()
	j := int(a4[2])<<8 | int(a4[3])
	c.sends++
	times := 1
	if c.rnd.Float64() < c.dup {
		times = 2
	}
	for range times {
		if c.rnd.Float64() < c.loss {
			continue
		}
		c.after(50*time.Microsecond+time.Duration(c.rnd.Int64N(int64(c.delay))), func() {
			if c.cut != nil && from != j && c.cut(from, j) || token && c.noToken != nil && c.noToken(from, j) {
				return
			}
			if d := c.nodes[j]; d != nil && !d.dead {
				f(d)
			}
		})
	}
}

func (d *daemon) receive(from netip.AddrPort, b []byte) {
	h, body, err := packet.Open(packet.ClusterID("test"), slices.Clone(b))
	if err != nil {
		d.c.t.Fatal(err)
	}
	switch h.Kind {
	case packet.KindJoin, packet.KindProbe:
		j, err := packet.ParseJoin(body)
		if err != nil || j.Procs[0].ID.Inc != h.Sender {
			d.c.t.Fatal("bad join", err)
		}
		d.input(func(now time.Duration, fx *Effects) { d.m.HandleJoin(now, from, h.Kind == packet.KindProbe, j, fx) })
	case packet.KindCommit:
		t, err := packet.ParseCommit(body)
		if err != nil {
			d.c.t.Fatal("bad commit", err)
		}
		d.input(func(now time.Duration, fx *Effects) { d.m.HandleCommit(now, from, t, d.entry(), fx) })
	}
}

func (d *daemon) entry() packet.CommitEntry { return packet.CommitEntry{OldRing: d.ring} }

func (d *daemon) step(s Step, fx *Effects) {
	c := d.c
	switch s.Kind {
	case StepSingleton:
		if len(d.installs) > 0 {
			c.t.Fatalf("%v: singleton is not first", d.id)
		}
		d.install(&evs.Configuration{ID: evs.RegularID(s.Ring), Members: []evs.ProcID{d.id}, Primary: s.Primary})
	case StepGather:
		d.on = false
		d.epoch++
	case StepCommit:
		d.m.HandleCommit(d.local(), netip.AddrPort{}, s.Commit, d.entry(), fx)
	case StepPromise:
		if d.on {
			c.t.Fatalf("%v promises while its ring turns", d.id)
		}
		d.promised = s.Ring
	case StepRecover:
		if d.promised != s.Ring || d.on {
			c.t.Fatalf("%v recovers unpromised %v", d.id, s.Ring)
		}
		conf := &evs.Configuration{ID: evs.RegularID(s.Ring), Primary: s.Primary}
		for i := range s.Commit.Entries {
			e := &s.Commit.Entries[i]
			if !e.Filled {
				c.t.Fatal("unfilled entry")
			}
			conf.Members, conf.Origins = append(conf.Members, e.ID), append(conf.Origins, e.OldRing)
		}
		if conf.Origins[s.Me] != d.ring || conf.Members[s.Me] != d.id {
			c.t.Fatalf("%v: origin %v, was in %v", d.id, conf.Origins[s.Me], d.ring)
		}
		d.epoch++
		d.on, d.cur, d.curConf, d.me, d.addrs, d.hop, d.visits = true, s.Ring, conf, s.Me, s.Addrs, 0, 0
		d.watch()
		if s.Me == 0 {
			epoch := d.epoch
			c.after(0, func() {
				if d.epoch == epoch {
					d.token(s.Ring, uint64(len(conf.Members)))
				}
			})
		}
	}
}

// token is the stub ring: hop counts up; member i accepts hops that are i modulo n.
func (d *daemon) token(ring evs.RingID, hop uint64) {
	if d.dead {
		return
	}
	if d.isPaused {
		d.paused = append(d.paused, func() { d.token(ring, hop) })
		return
	}
	n := uint64(len(d.addrs))
	if !d.on || ring != d.cur || hop <= d.hop || int(hop%n) != d.me {
		return
	}
	d.hop = hop
	d.visits++
	d.watch()
	d.input(func(now time.Duration, fx *Effects) { d.m.HandleToken(now, ring, fx) })
	if d.visits == 2 {
		d.install(d.curConf)
		d.input(func(now time.Duration, fx *Effects) { d.m.HandleInstalled(now, d.curConf, fx) })
	}
	wait := time.Duration(0)
	if d.me == 0 && d.visits > 2 {
		wait = 20 * time.Millisecond // hold
	}
	epoch := d.epoch
	d.c.after(wait, func() { d.forward(epoch, hop) })
}

func (d *daemon) forward(epoch int, hop uint64) {
	if d.dead || d.epoch != epoch || d.hop != hop {
		return
	}
	if len(d.addrs) == 1 {
		d.c.after(20*time.Millisecond, func() { d.token(d.cur, hop+1) })
		return
	}
	ring, to := d.cur, d.addrs[(d.me+1)%len(d.addrs)]
	d.c.deliverTo(d.i, to, true, func(q *daemon) { q.token(ring, hop+1) })
	d.c.after(10*time.Millisecond, func() { d.forward(epoch, hop) })
}

func (d *daemon) watch() {
	d.lossAt = d.c.now + 250*time.Millisecond
	epoch, at := d.epoch, d.lossAt
	d.c.after(250*time.Millisecond, func() { d.maybeLose(epoch, at) })
}

func (d *daemon) maybeLose(epoch int, at time.Duration) {
	if d.isPaused {
		d.paused = append(d.paused, func() { d.maybeLose(epoch, at) })
		return
	}
	if !d.dead && d.on && d.epoch == epoch && d.lossAt == at {
		d.on = false
		d.input(func(now time.Duration, fx *Effects) { d.m.HandleTokenLost(now, ReasonTokenLost, fx) })
	}
}

func (d *daemon) install(conf *evs.Configuration) {
	c, ring, members := d.c, conf.ID.New, conf.Members
	if !slices.Contains(members, d.id) {
		c.t.Fatalf("EVS-4: %v not in %v", d.id, members)
	}
	text := fmt.Sprint(members, conf.Primary)
	if old, ok := c.rings[ring]; ok && old != text {
		c.t.Fatalf("EVS-5: %v is %v and %v", ring, old, text)
	}
	c.rings[ring] = text
	if ring.Seq <= c.top[d.id.Name] {
		c.t.Fatalf("EVS-8: %v installs %v after %d", d.id, ring, c.top[d.id.Name])
	}
	c.top[d.id.Name] = ring.Seq
	if c.stored[d.id.Name] < ring.Seq {
		c.t.Fatalf("EVS-8: %v installs %v, stored %d", d.id, ring, c.stored[d.id.Name])
	}
	names := map[string]bool{}
	for _, p := range members {
		if names[p.Name] {
			c.t.Fatalf("EVS-18: two of %s in %v", p.Name, members)
		}
		names[p.Name] = true
	}
	if len(d.installs) == 0 && len(members) != 1 {
		c.t.Fatalf("EVS-18: first configuration %v", members)
	}
	d.ring, d.members, d.primary = ring, members, conf.Primary
	d.installs = append(d.installs, install{c.now, ring, members})
	if testing.Verbose() && !c.quiet {
		c.t.Logf("%v d%02d installs %v with %d: %v", c.now, d.i, ring, len(members), members)
	}
}

func (d *daemon) pause() { d.isPaused = true }

// resume handles the backlog before any timer, as the shell does.
func (d *daemon) resume() {
	d.isPaused = false
	work := d.paused
	d.paused = nil
	for _, f := range work {
		f()
	}
	d.armed = 0
	d.arm()
}

// together reports whether exactly the daemons who are operational in one configuration.
func (c *cluster) together(who ...int) bool {
	first := c.nodes[who[0]]
	if first == nil {
		return false
	}
	for _, i := range who {
		d := c.nodes[i]
		if d == nil || d.m.State() != StateOperational || d.ring != first.ring || len(d.members) != len(who) {
			return false
		}
	}
	return true
}

func (c *cluster) all() (out []int) {
	for i, d := range c.nodes {
		if d != nil && !d.dead {
			out = append(out, i)
		}
	}
	return out
}

// within runs until ok and returns how long it took; more than limit is a failure.
func (c *cluster) within(limit time.Duration, what string, ok func() bool) time.Duration {
	c.t.Helper()
	began := c.now
	for c.now-began <= limit {
		if ok() {
			return c.now - began
		}
		c.run(time.Millisecond)
	}
	c.dump()
	c.t.Fatalf("%s: not within %v", what, limit)
	return 0
}

func (c *cluster) dump() {
	for _, d := range c.nodes {
		if d == nil {
			continue
		}
		c.t.Logf("%v dead=%v %v ring %v members %v proposal %v", d.id, d.dead, d.m.State(), d.ring, d.members, d.m.ids(d.m.proposal))
		d.m.refreshSelf(d.local())
		for _, s := range d.m.order {
			r := d.m.rows[s]
			c.t.Logf("    row %v state %d ring %v seq %d heard %v dead=%v age %v proposed %v %v backoff %v", r.id, r.state, r.ring, r.ringSeq, len(d.m.ids(r.heard)), r.dead, d.local()-r.rowAt, r.proposed, len(d.m.ids(r.proposal)), r.backoffUntil-d.local())
		}
		for _, n := range d.notes[max(0, len(d.notes)-30):] {
			if n.Kind == NoteState || n.Kind == NoteSuspect {
				c.t.Logf("    %v %v -> %v: %v (%v) %v", n.at, n.From, n.To, n.Reason, n.Peer, n.Ring)
			}
		}
	}
}

func (c *cluster) installsSince(i int, at time.Duration) (n int) {
	for _, in := range c.nodes[i].installs {
		if in.at >= at {
			n++
		}
	}
	return n
}
