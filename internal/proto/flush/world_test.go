// SPDX-License-Identifier: Apache-2.0

package flush

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"evensong/internal/check"
	"evensong/internal/proto/evs"
)

// world is daemons, reduced to what they promise, and sessions with a machine and a user each. Daemons of one component
// share a log, which is the order; each delivers it at its own pace, and messages below causal also ahead of their
// place, as EVS-11 allows. Components split and merge. What is delivered at a change of component obeys EVS-10: all
// daemons that move together deliver the same entries before it. What is not delivered then and is of a session on their
// side gets a new place in the new component (M-6).
type world struct {
	t        testing.TB
	rnd      *rand.Rand
	now      time.Duration
	comps    []*component
	daemons  []*simDaemon
	sessions []*simSession
	trace    []evs.Trace
	confs    uint32
	digests  uint64
	// evicts: the daemons remove members on request, and then deliver everything in its place. What some of them have
	// delivered of a session ahead of its eviction would count at some members and not at others (docs/protocol/flush.md).
	evicts bool
	// calm: users finish what is open and begin nothing new.
	calm bool
}

const testGroup = "g"

type component struct {
	id      uint32
	log     []logEntry
	daemons []*simDaemon
}

// logEntry is a request with a place in the order.
type logEntry struct {
	from *simSession
	send Send // of kind zero: the session is gone
}

type simDaemon struct {
	w     *world
	name  string
	comp  *component
	pos   int          // log[:pos] is delivered
	early map[int]bool // and these behind it
	table []*simSession
	index uint32 // of views in this component
	view  evs.ViewID
	slow  bool // for a while it delivers little in order, so much of what it delivers is ahead of its place
}

type simSession struct {
	w      *world
	id     evs.SessionID
	at     *simDaemon
	m      *Machine
	inbox  []func(s *simSession, fx *Effects)
	outbox []Send
	gone   bool
	asked  bool
	stuck  bool // does not flush
	member bool // of the group, as far as its user knows
}

func (s *simSession) name() string { return s.id.Name }

const modelTimeout = 300 * time.Millisecond // a step takes one

func newWorld(t testing.TB, seed uint64, daemons, sessions int) *world {
	w := &world{t: t, rnd: rand.New(rand.NewPCG(seed, 1)), evicts: seed%3 == 0}
	c := w.component()
	for i := range daemons {
		d := &simDaemon{w: w, name: fmt.Sprintf("d%d", i), comp: c, early: map[int]bool{}}
		c.daemons = append(c.daemons, d)
		w.daemons = append(w.daemons, d)
	}
	for range sessions {
		w.connect()
	}
	return w
}

func (w *world) component() *component {
	w.confs++
	c := &component{id: w.confs}
	w.comps = append(w.comps, c)
	return c
}

func (w *world) connect() *simSession {
	n := len(w.sessions)
	d := w.daemons[w.rnd.IntN(len(w.daemons))]
	s := &simSession{w: w, at: d, stuck: w.evicts && w.rnd.IntN(8) == 0}
	s.id = evs.SessionID{Daemon: evs.ProcID{Name: d.name, Inc: 1}, Number: uint64(n + 1), Name: fmt.Sprintf("#s%d#%s", n, d.name)}
	s.m = machine(w.t, Config{Private: s.name(), FlushTimeout: modelTimeout})
	w.sessions = append(w.sessions, s)
	return s
}

func (w *world) record(s *simSession, t evs.Trace) {
	t.Session, t.Proc, t.At = s.id, s.id.Daemon, int64(w.now)
	w.trace = append(w.trace, t)
}

// Delivery at daemons.

func (d *simDaemon) push(s *simSession, f func(s *simSession, fx *Effects)) {
	if s.at == d && !s.gone {
		s.inbox = append(s.inbox, f)
	}
}

// deliver is entry i of the log at one daemon.
func (d *simDaemon) deliver(i int) {
	e := d.comp.log[i]
	switch {
	case e.send.Kind == 0:
		d.change(e.from, evs.CausedByDisconnect)
	case e.send.Kind == SendJoin:
		if !slices.Contains(d.table, e.from) {
			d.table = append(d.table, e.from)
			d.sort()
			d.tell(evs.CausedByJoin, e.from, nil)
		}
	case e.send.Kind == SendLeave:
		d.change(e.from, evs.CausedByLeave)
	case e.send.Kind == SendEvict:
		if !d.w.evicts || e.send.View != d.view || !slices.Contains(d.table, e.from) {
			return // void
		}
		for _, s := range slices.Clone(d.table) {
			if s.name() == e.send.Member {
				d.change(s, evs.CausedByLeave)
			}
		}
	case e.send.Kind == SendMulticast:
		for _, s := range d.w.sessions {
			private := slices.Contains(e.send.Groups, s.name())
			if !private && !(slices.Contains(e.send.Groups, testGroup) && slices.Contains(d.table, s)) {
				continue
			}
			if s == e.from && e.send.Service&SelfDiscard != 0 {
				continue
			}
			d.push(s, func(s *simSession, fx *Effects) {
				s.m.HandleMessage(s.w.now, &Message{Sender: e.from.name(), Groups: e.send.Groups, Service: e.send.Service, Type: e.send.Type,
					Data: slices.Concat(e.send.Data, e.send.Tail)}, fx)
			})
		}
	}
}

func (d *simDaemon) sort() {
	slices.SortFunc(d.table, func(a, b *simSession) int {
		if c := strings.Compare(a.at.name, b.at.name); c != 0 {
			return c
		}
		return strings.Compare(a.name(), b.name())
	})
}

// change takes a member out.
func (d *simDaemon) change(s *simSession, cause evs.Cause) {
	i := slices.Index(d.table, s)
	if i < 0 {
		return
	}
	d.table = slices.Delete(d.table, i, i+1)
	if cause == evs.CausedByLeave {
		d.push(s, func(s *simSession, fx *Effects) { s.m.HandleSelfLeave(testGroup, fx) })
	}
	d.tell(cause, s, nil)
}

// tell gives a new view to the local members. sets is for the cause network: which session came with which.
func (d *simDaemon) tell(cause evs.Cause, changed *simSession, sets map[*simSession]int) {
	d.index++
	d.view = evs.ViewID{d.comp.id, 0, d.index}
	var names []string
	for _, s := range d.table {
		names = append(names, s.name())
	}
	for _, s := range d.table {
		v := &DaemonView{Group: testGroup, ID: d.view, Cause: cause, Members: slices.Clone(names)}
		if cause == evs.CausedByNetwork {
			for _, o := range d.table {
				if sets[o] == sets[s] {
					v.Mine = append(v.Mine, o.name())
				}
			}
		} else {
			v.Changed = changed.name()
		}
		d.push(s, func(s *simSession, fx *Effects) { s.m.HandleView(s.w.now, v, fx) })
	}
}

// next delivers the next entry in order.
func (d *simDaemon) next() bool {
	if d.pos >= len(d.comp.log) {
		return false
	}
	if !d.early[d.pos] {
		d.deliver(d.pos)
	}
	delete(d.early, d.pos)
	d.pos++
	return true
}

// ahead delivers entry i before its turn if its service allows that: everything of its sender before it is delivered,
// and no join of an own session is passed, because the daemon would not know a receiver.
func (d *simDaemon) ahead(i int) {
	e := d.comp.log[i]
	if i < d.pos || d.early[i] || e.send.Kind != SendMulticast || e.send.Service&overtaking == 0 || d.w.evicts {
		return
	}
	for j := d.pos; j < i; j++ {
		o := d.comp.log[j]
		if o.from == e.from && !d.early[j] || o.send.Kind == SendJoin && o.from.at == d {
			return
		}
	}
	d.early[i] = true
	d.deliver(i)
}

// Components.

// finish brings the daemons of part, all of one component, to the end of what they deliver in it together, and returns
// what gets a new place.
func (w *world) finish(part []*simDaemon) (carry []logEntry) {
	c := part[0].comp
	cut := 0
	for _, d := range part {
		cut = max(cut, d.pos)
	}
	cut += w.rnd.IntN(len(c.log) - cut + 1)
	for _, d := range part {
		for d.pos < cut {
			d.next()
		}
	}
	lost := func(s *simSession) bool { return !slices.Contains(part, s.at) }
	for _, d := range part {
		if slices.ContainsFunc(d.table, lost) {
			for _, s := range d.table {
				d.push(s, func(s *simSession, fx *Effects) { s.m.HandleSignal(testGroup, fx) })
			}
		}
	}
	for i := cut; i < len(c.log); i++ {
		if slices.ContainsFunc(part, func(d *simDaemon) bool { return d.early[i] }) {
			for _, d := range part {
				if !d.early[i] {
					d.deliver(i)
				}
			}
		} else if !lost(c.log[i].from) {
			carry = append(carry, c.log[i])
		}
	}
	return carry
}

// move puts daemons into a new component. from tells which came from which.
func (w *world) move(daemons []*simDaemon, carry []logEntry, from map[*simDaemon]int) {
	c := w.component()
	c.daemons, c.log = daemons, carry
	var all []*simSession
	sets := map[*simSession]int{}
	changed := false
	for _, d := range daemons {
		for _, s := range d.table {
			if slices.Contains(daemons, s.at) && from[s.at] == from[d] && !slices.Contains(all, s) {
				all = append(all, s)
				sets[s] = from[d]
			}
		}
	}
	for _, d := range daemons {
		changed = changed || len(d.table) != len(all)
		d.comp, d.pos, d.early, d.index = c, 0, map[int]bool{}, 0
		d.table = slices.Clone(all)
		d.sort()
	}
	if changed {
		for _, d := range daemons {
			d.tell(evs.CausedByNetwork, nil, sets)
		}
	}
}

func (w *world) split(c *component) {
	var a, b []*simDaemon
	for _, d := range c.daemons {
		if w.rnd.IntN(2) == 0 {
			a = append(a, d)
		} else {
			b = append(b, d)
		}
	}
	if len(a) == 0 || len(b) == 0 {
		return
	}
	carryA, carryB := w.finish(a), w.finish(b)
	w.comps = slices.DeleteFunc(w.comps, func(o *component) bool { return o == c })
	w.move(a, carryA, map[*simDaemon]int{})
	w.move(b, carryB, map[*simDaemon]int{})
}

func (w *world) merge(a, b *component) {
	carry := append(w.finish(a.daemons), w.finish(b.daemons)...)
	from := map[*simDaemon]int{}
	for _, d := range b.daemons {
		from[d] = 1
	}
	w.comps = slices.DeleteFunc(w.comps, func(o *component) bool { return o == a || o == b })
	w.move(slices.Concat(a.daemons, b.daemons), carry, from)
}

// Sessions and users.

func (s *simSession) do(f func(fx *Effects)) {
	var fx Effects
	f(&fx)
	if err := s.m.CheckInvariants(); err != nil {
		s.w.t.Fatalf("INVARIANT: %s: %v", s.name(), err)
	}
	s.outbox = append(s.outbox, fx.Sends...)
	for _, e := range fx.Events {
		t := evs.Trace{Group: testGroup}
		switch e.Kind {
		case EventView:
			t.Kind = evs.TraceVSView
			t.View = &evs.TraceViewInfo{ID: e.ID, Cause: e.View.Cause, Members: e.View.Members, Sets: [][]string{e.View.Came}}
			s.asked, s.member = false, true
		case EventRequest:
			t.Kind = evs.TraceVSFlushRequest
			s.asked = true
		case EventSignal:
			t.Kind = evs.TraceVSSignal
		case EventMessage:
			t.Kind, t.Sender, t.Digest = evs.TraceVSMessage, e.Message.Sender, binary.BigEndian.Uint64(e.Message.Data)
		case EventSelfLeave:
			t.Kind = evs.TraceVSSelfLeave
			s.asked, s.member = false, false
		case EventStuck:
			continue
		case EventGaveUp:
			s.w.t.Fatalf("%s gave up: %v", s.name(), e.Reason)
		}
		s.w.record(s, t)
	}
}

var modelServices = []Service{Unreliable, Reliable, FIFO, FIFO, Causal, Agreed, Safe, Agreed | SelfDiscard, FIFO | SelfDiscard}

// act is one wish of the user.
func (s *simSession) act() {
	r := s.w.rnd
	switch n := r.IntN(1000); {
	case s.asked && !s.stuck && n < 400:
		s.do(func(fx *Effects) {
			if s.m.Flush(s.w.now, testGroup, fx) == nil {
				s.asked = false
				s.w.record(s, evs.Trace{Kind: evs.TraceVSFlushOK, Group: testGroup})
			}
		})
	case s.w.calm:
	case !s.member && n < 300:
		s.do(func(fx *Effects) { s.m.Join(testGroup, fx) })
	case n < 12:
		s.do(func(fx *Effects) { s.m.Leave(testGroup, fx) })
	case n < 18:
		s.gone, s.outbox, s.inbox = true, nil, nil
		s.w.record(s, evs.Trace{Kind: evs.TraceDisconnect})
		s.at.comp.log = append(s.at.comp.log, logEntry{from: s})
		s.w.connect()
	default:
		for range 1 + r.IntN(3) {
			s.cast()
		}
	}
}

func (s *simSession) cast() {
	w := s.w
	w.digests++
	data := binary.BigEndian.AppendUint64(nil, w.digests)
	service := modelServices[w.rnd.IntN(len(modelServices))]
	t := evs.Trace{Kind: evs.TraceVSMulticast, Group: testGroup, Digest: w.digests, SelfDiscard: service&SelfDiscard != 0}
	id, ok := s.m.Installed(testGroup)
	if !ok {
		return
	}
	t.View = &evs.TraceViewInfo{ID: id}
	s.do(func(fx *Effects) {
		if w.rnd.IntN(4) == 0 {
			for _, name := range s.m.records[testGroup].installed.members {
				if w.rnd.IntN(2) == 0 {
					t.Groups = append(t.Groups, name)
				}
			}
			if s.m.Subgroupcast(testGroup, t.Groups, service, 5, data, fx) != nil {
				return
			}
		} else if s.m.Multicast(testGroup, service, 5, data, fx) != nil {
			return
		}
		w.record(s, t)
	})
}

// receive takes one thing that the daemon sent.
func (s *simSession) receive() bool {
	if len(s.inbox) == 0 {
		return false
	}
	f := s.inbox[0]
	s.inbox = s.inbox[1:]
	s.do(func(fx *Effects) { f(s, fx) })
	return true
}

// submit gives one request of the session a place in the order.
func (s *simSession) submit() bool {
	if len(s.outbox) == 0 {
		return false
	}
	s.at.comp.log = append(s.at.comp.log, logEntry{s, s.outbox[0]})
	s.outbox = s.outbox[1:]
	return true
}

func (w *world) alive() []*simSession {
	return slices.DeleteFunc(slices.Clone(w.sessions), func(s *simSession) bool { return s.gone })
}

// step lets one thing happen.
func (w *world) step() {
	w.now += time.Millisecond
	alive := w.alive()
	s := alive[w.rnd.IntN(len(alive))]
	d := w.daemons[w.rnd.IntN(len(w.daemons))]
	switch n := w.rnd.IntN(1000); {
	case n < 200:
		for range 1 + w.rnd.IntN(6) {
			s.receive()
		}
	case n < 400:
		for range 1 + w.rnd.IntN(6) {
			s.submit()
		}
	case n < 600:
		for range 1 + w.rnd.IntN(6) {
			if !d.slow || w.rnd.IntN(20) == 0 {
				d.next()
			}
		}
	case n < 800:
		for range 6 {
			if left := len(d.comp.log) - d.pos; left > 0 {
				d.ahead(d.pos + w.rnd.IntN(left))
			}
		}
		if w.rnd.IntN(20) == 0 {
			d.slow = !d.slow
		}
	case n < 990:
		s.act()
	case n < 993:
		w.split(w.comps[w.rnd.IntN(len(w.comps))])
	case n < 998:
		if len(w.comps) > 1 {
			i := w.rnd.IntN(len(w.comps) - 1)
			w.merge(w.comps[i], w.comps[i+1])
		}
	}
	w.timers()
}

func (w *world) timers() {
	for _, s := range w.alive() {
		if at := s.m.Deadline(); at != 0 && at <= w.now {
			s.do(func(fx *Effects) { s.m.Advance(w.now, fx) })
		}
	}
}

// settle ends all faults and lets everything finish.
func (w *world) settle() {
	w.calm = true
	for len(w.comps) > 1 {
		w.merge(w.comps[0], w.comps[1])
	}
	for range 2 {
		// A machine that does not come to rest is found by judge.
		for idle, rounds := 0, 0; idle < 4 && rounds < 200; rounds++ {
			w.now += time.Millisecond
			moved := false
			for _, s := range w.alive() {
				for s.submit() {
					moved = true
				}
			}
			for _, d := range w.daemons {
				for d.next() {
					moved = true
				}
			}
			for _, s := range w.alive() {
				for s.receive() {
					moved = true
				}
				for range 20 {
					s.act()
				}
				moved = moved || len(s.outbox) > 0
			}
			if !moved {
				w.now += modelTimeout
				w.timers()
				idle++
			} else {
				idle = 0
			}
		}
		// Where nobody at all answers, nobody complains of the others.
		for _, s := range w.alive() {
			s.stuck = false
		}
	}
}

// judge checks the trace, and that everything has come to rest.
func (w *world) judge() *check.Report {
	table := w.daemons[0].table
	for _, s := range table {
		id, _ := s.m.Installed(testGroup)
		if s.m.State(testGroup) != Steady || id != w.daemons[0].view {
			r := s.m.records[testGroup]
			w.t.Errorf("LIVE: %s ends in %v in view %v, the daemon's is %v of %d members; pending %d", s.name(), s.m.State(testGroup), id, w.daemons[0].view,
				len(table), len(r.pending))
		}
	}
	rep := check.Check(&check.History{Records: w.trace, Quiescent: true})
	if !rep.OK() {
		for _, v := range rep.Violations {
			var b strings.Builder
			for i := range v.Window {
				fmt.Fprintf(&b, "\n    %s", check.Describe(&v.Window[i]))
			}
			w.t.Errorf("%v%s", v, b.String())
		}
	}
	return rep
}
