// SPDX-License-Identifier: Apache-2.0

package groups

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"evensong/internal/proto/evs"
)

// A world is a cluster whose order is made up: per configuration one log that daemons append to and read at their own
// pace. A configuration change cuts each component's reading the way recovery does (guarantees 8.4.6): up to some
// place everything is delivered before the transitional configuration, then holes are possible, behind which only
// members of the component and Reliable messages are heard.
type world struct {
	t       testing.TB
	rnd     *rand.Rand
	daemons []*daemon
	incs    evs.Incarnation
	msgs    uint64 // data messages sent, numbered from 1

	views map[string]string            // group and id -> everything all recipients must agree on (GRP-2)
	moves map[string][]move            // network views: how each recipient came to it (GRP-5, GRP-6)
	cover map[string]int               // what happened how often
	sets  map[string]map[string]string // network views: private name -> index of its set
}

type move struct {
	session            string
	from, path         string
	before, after, rel string
	base               string
}

type config struct {
	evs.Configuration
	log      []entry
	start    map[evs.ProcID]table // what each member knew of its own sessions when it came
	complete int                  // log position at which the exchange ended, -1 before
}

type entry struct {
	sender  evs.ProcID
	service evs.Service
	payload []byte
	client  bool
}

// table is the naive one: which groups each session is in.
type table map[evs.ProcID]map[uint64]*truth

type truth struct {
	user   string
	groups map[string]bool
}

type daemon struct {
	w       *world
	id      evs.ProcID
	m       *Machine
	fx      Effects
	conf    *config
	pos     int
	early   map[int]bool
	backlog []entry // the group layer's own, before anything of clients
	clients []entry
	truth   table
	history []string // configurations installed
	seq     uint64
	dead    bool
	expect  []uint64 // recipients of the message being delivered, nil if there is none

	sessions map[uint64]*client
	lastNum  uint64
}

type client struct {
	d       *daemon
	num     uint64
	user    string
	notices bool
	closed  bool
	seen    map[uint64]bool
	groups  map[string]*membership
}

func (c *client) private() string { return privateName(c.user, c.d.id) }

// membership is what a client knows of one group.
type membership struct {
	in        bool
	ids       map[evs.ViewID]bool
	view      *View
	path      int // length of the daemon's history when the view came
	signalled bool
	before    []string // Agreed messages in this view, before and after its signal
	after     []string
	base      string // last network view, and the Reliable messages since
	rel       []string
}

func newWorld(t testing.TB, seed uint64, names ...string) *world {
	w := &world{
		t: t, rnd: rand.New(rand.NewPCG(seed, 1)), incs: 100, views: map[string]string{}, moves: map[string][]move{},
		cover: map[string]int{}, sets: map[string]map[string]string{},
	}
	for i, n := range names {
		w.daemons = append(w.daemons, nil)
		w.boot(i, n, 0)
	}
	return w
}

// boot starts daemon i in a configuration of its own.
func (w *world) boot(i int, name string, seq uint64) {
	w.incs++
	d := &daemon{
		w: w, id: evs.ProcID{Rank: uint16(i), Name: name, Inc: w.incs}, truth: table{}, sessions: map[uint64]*client{}, seq: seq,
	}
	d.m = New(Config{Me: d.id, StateBytes: 60 + w.rnd.IntN(200)})
	w.daemons[i] = d
	w.install([]*daemon{d}, nil)
}

func (w *world) live() []*daemon {
	return slices.DeleteFunc(slices.Clone(w.daemons), func(d *daemon) bool { return d.dead })
}

// reconfigure brings the daemons of each component into one new configuration.
func (w *world) reconfigure(components ...[]*daemon) {
	for _, comp := range components {
		byRing := map[*config][]*daemon{}
		for _, d := range comp {
			byRing[d.conf] = append(byRing[d.conf], d)
		}
		origins := map[evs.ProcID]evs.RingID{}
		for conf, c := range byRing {
			for _, d := range c {
				origins[d.id] = conf.ID.New
			}
		}
		id := w.nextRing(comp)
		for _, first := range comp { // in a repeatable order
			if c := byRing[first.conf]; c != nil && c[0] == first {
				w.recover(first.conf, c, id)
			}
		}
		w.install(comp, origins)
	}
}

func (w *world) nextRing(comp []*daemon) evs.RingID {
	rep := slices.MinFunc(comp, func(a, b *daemon) int { return a.id.Compare(b.id) })
	id := evs.RingID{Rep: rep.id.Inc}
	for _, d := range comp {
		id.Seq = max(id.Seq, d.seq+1)
	}
	return id
}

// recover is what happens on the old ring to the daemons of c, which go on together.
func (w *world) recover(conf *config, c []*daemon, next evs.RingID) {
	in := map[evs.ProcID]bool{}
	from := 0
	early := map[int]bool{}
	members := []evs.ProcID{}
	for _, d := range c {
		in[d.id] = true
		from = max(from, d.pos)
		members = append(members, d.id)
		for i := range d.early {
			early[i] = true
		}
	}
	slices.SortFunc(members, evs.ProcID.Compare)
	lost := map[int]bool{}
	hole := len(conf.log)
	for i := from; i < len(conf.log); i++ {
		if !in[conf.log[i].sender] && !early[i] && w.rnd.IntN(3) == 0 {
			lost[i] = true
			hole = min(hole, i)
		}
	}
	cut := from + w.rnd.IntN(hole-from+1)
	trans := &evs.Configuration{ID: evs.TransitionalID(conf.ID.New, next), Members: members}
	for _, d := range c {
		for d.pos < cut {
			d.step()
		}
		d.input(func() { d.m.HandleTransitional(trans, &d.fx) })
		for ; d.pos < len(conf.log); d.pos++ {
			e := conf.log[d.pos]
			switch {
			case lost[d.pos] || d.early[d.pos]:
			case d.pos < hole || in[e.sender] || e.service < evs.FIFO:
				if d.pos > hole {
					w.cover["delivered behind a hole"]++
				}
				d.take(e)
			}
		}
	}
}

func (w *world) install(comp []*daemon, origins map[evs.ProcID]evs.RingID) {
	c := &config{start: map[evs.ProcID]table{}, complete: -1}
	id := w.nextRing(comp)
	c.ID = evs.RegularID(id)
	for _, d := range comp {
		c.Members = append(c.Members, d.id)
		own := table{}
		if d.truth[d.id] != nil {
			own[d.id] = d.truth[d.id]
		}
		c.start[d.id] = own.clone()
	}
	slices.SortFunc(c.Members, evs.ProcID.Compare)
	for _, p := range c.Members {
		c.Origins = append(c.Origins, origins[p])
	}
	for _, d := range comp {
		d.conf, d.pos, d.early, d.seq = c, 0, map[int]bool{}, id.Seq
		d.history = append(d.history, c.ID.String())
		d.input(func() { d.m.HandleRegular(&c.Configuration, evs.DetailDaemons, &d.fx) })
	}
}

func (t table) clone() table {
	out := table{}
	for p, ss := range t {
		out[p] = map[uint64]*truth{}
		for n, s := range ss {
			out[p][n] = &truth{s.user, maps.Clone(s.groups)}
		}
	}
	return out
}

// originate gives d's next message a place in the order; clients wait for the end of the exchange.
func (d *daemon) originate() bool {
	q := &d.backlog
	if len(*q) == 0 {
		q = &d.clients
		if len(*q) == 0 || d.m.Exchanging() {
			return false
		}
	}
	d.conf.log = append(d.conf.log, (*q)[0])
	*q = (*q)[1:]
	return true
}

// step delivers the next message of the log to d.
func (d *daemon) step() bool {
	if d.pos == len(d.conf.log) {
		return false
	}
	d.pos++
	if !d.early[d.pos-1] {
		d.take(d.conf.log[d.pos-1])
	}
	return true
}

// pass lets a Reliable message pass what is before it.
func (d *daemon) pass() {
	for i := d.pos; i < len(d.conf.log); i++ {
		if e := d.conf.log[i]; e.service < evs.FIFO && !d.early[i] {
			d.early[i] = true
			if d.m.Exchanging() {
				d.w.cover["queued"]++
			}
			d.take(e)
			return
		}
	}
}

func (d *daemon) take(e entry) {
	state := d.m.State()
	if e.client && state != Exchange && state != Aborted {
		d.truth.apply(e)
	}
	if op(e.payload[0]) == opData && (state == Stable || state == Transitional) {
		d.expect = d.recipients(e)
	}
	d.input(func() { d.m.HandleMessage(e.sender, e.service, e.payload, &d.fx) })
	d.expect = nil
}

// recipients are the sessions that a message must reach at d by the naive table; never nil.
func (d *daemon) recipients(e entry) []uint64 {
	var x Data
	if _, _, ok := parseData(e.payload, nil, &x); !ok {
		panic("bad message")
	}
	out := []uint64{}
	for n, c := range d.sessions {
		mine := d.truth[d.id][n]
		if c.closed || x.Type&TypeSelfDiscard != 0 && e.sender == d.id && x.Session == n {
			continue
		}
		if slices.ContainsFunc(x.Groups, func(g []byte) bool {
			return string(g) == c.private() || mine != nil && mine.groups[string(g)]
		}) {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

// apply is the naive reading of a client's change.
func (t table) apply(e entry) {
	o := op(e.payload[0])
	if o == opData {
		return
	}
	ch, ok := parseChange(e.payload)
	num, user, group := ch.num, ch.user, ch.group
	if !ok {
		panic("bad operation")
	}
	if t[e.sender] == nil {
		t[e.sender] = map[uint64]*truth{}
	}
	s := t[e.sender][num]
	switch o {
	case opJoin:
		if s == nil {
			s = &truth{string(user), map[string]bool{}}
			t[e.sender][num] = s
		}
		s.groups[string(group)] = true
	case opLeave:
		if s != nil {
			delete(s.groups, string(group))
		}
	case opDisconnect:
		delete(t[e.sender], num)
	}
}

// input runs one input, checks the machine, and hands the effects to backlog and clients.
func (d *daemon) input(f func()) {
	t := d.w.t
	t.Helper()
	was := d.m.State()
	f()
	if err := d.m.CheckInvariants(); err != nil {
		t.Fatalf("%v: %v", d.id, err)
	}
	if d.fx.Ready != (was == Exchange && d.m.State() == Stable) {
		t.Fatalf("%v: ready %v from %v to %v", d.id, d.fx.Ready, was, d.m.State())
	}
	if d.fx.Ready {
		if d.conf.complete >= 0 && d.conf.complete != d.pos {
			t.Fatalf("%v: exchange of %v ended at %d, elsewhere at %d", d.id, d.conf.ID, d.pos, d.conf.complete)
		}
		d.conf.complete = d.pos
		d.truth = table{}
		for p, own := range d.conf.start {
			maps.Copy(d.truth, own.clone())
			_ = p
		}
	}
	for _, s := range d.fx.Submits {
		d.backlog = append(d.backlog, entry{d.id, s.Service, s.Payload, false})
	}
	for _, n := range d.fx.Notes {
		switch n.Kind {
		case NoteDrop:
			d.w.cover["drop: "+n.Drop.String()]++
			if n.Drop != DropAborted && n.Drop != DropStaleState {
				t.Fatalf("%v: drop %v from %v in %v", d.id, n.Drop, n.Proc, d.m.State())
			}
		case NoteUnready, NoteDiverged:
			t.Fatalf("%v: %v %v", d.id, n.Kind, n.Proc)
		case NoteAbort:
			d.w.cover["abort"]++
		}
	}
	for _, n := range d.fx.Gone {
		if d.sessions[n] == nil || !d.sessions[n].closed {
			t.Fatalf("%v: session %d is gone", d.id, n)
		}
		delete(d.sessions, n)
	}
	got := []uint64{}
	for i := range d.fx.Deliveries {
		x := &d.fx.Deliveries[i]
		if x.Kind == KindData {
			got = append(got, x.Sessions...)
		}
		for _, n := range x.Sessions {
			c := d.sessions[n]
			if c == nil || c.closed {
				t.Fatalf("%v: %v for session %d, which is closed", d.id, x.Kind, n)
			}
			c.receive(x)
		}
	}
	slices.Sort(got)
	if d.expect != nil && !slices.Equal(got, d.expect) {
		t.Fatalf("%v: message for sessions %v, want %v (GRP-8, GRP-13, GRP-18)", d.id, got, d.expect)
	}
	d.fx.Reset()
	if s := d.m.State(); s == Stable || s == Transitional {
		d.compare()
	}
}

// compare holds the machine's table against the naive one.
func (d *daemon) compare() {
	want := map[string][]string{}
	for _, p := range d.conf.Members {
		ss := slices.SortedFunc(maps.Values(d.truth[p]), func(a, b *truth) int { return strings.Compare(a.user, b.user) })
		for _, s := range ss {
			for g := range s.groups {
				want[g] = append(want[g], privateName(s.user, p))
			}
		}
	}
	got := map[string][]string{}
	for _, g := range d.m.Groups() {
		got[g] = privates(d.m.Members(g))
	}
	for n, c := range d.sessions {
		mine := d.truth[d.id][n]
		for g, ms := range c.groups {
			id, _ := d.m.ViewID(g)
			if in := mine != nil && mine.groups[g]; c.notices && !c.closed && (in != ms.in || in && ms.view.ID != id) {
				d.w.t.Fatalf("%v: %v in %q: %v, view %v, table has %v", d.id, c.private(), g, ms.in, ms.view, id)
			}
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		d.w.t.Fatalf("%v in %v:\n got %v\nwant %v", d.id, d.m.State(), got, want)
	}
}

func privates(ms []*Member) []string {
	out := make([]string, len(ms))
	for i, x := range ms {
		out[i] = x.Private
	}
	return out
}

func setNames(v *View) [][]string {
	var out [][]string
	for _, s := range v.Sets {
		out = append(out, privates(s))
	}
	return out
}

// receive judges what a session gets, by the rules of guarantees.md, section 4.
func (c *client) receive(x *Delivery) {
	t := c.d.w.t
	t.Helper()
	fail := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("%s: %v of %q: %s", c.private(), x.Kind, x.Group, fmt.Sprintf(format, args...))
	}
	if x.Kind == KindData {
		c.receiveData(x, fail)
		return
	}
	if !c.notices {
		fail("notices are off")
	}
	ms := c.groups[x.Group]
	if ms == nil {
		ms = &membership{ids: map[evs.ViewID]bool{}}
		c.groups[x.Group] = ms
	}
	switch x.Kind {
	case KindSignal:
		if !ms.in || ms.signalled || ms.view.ID != x.ID {
			fail("signal of %v with view %v, signalled %v (GRP-7)", x.ID, ms.view, ms.signalled)
		}
		ms.signalled = true
		c.d.w.cover["signal"]++
	case KindSelfLeave:
		if !ms.in {
			fail("not a member (GRP-11)")
		}
		*ms = membership{ids: ms.ids}
	case KindView:
		c.receiveView(x, ms, fail)
	}
}

func (c *client) receiveView(x *Delivery, ms *membership, fail func(string, ...any)) {
	w, v, me := c.d.w, x.View, c.private()
	members := privates(v.Members)
	key := fmt.Sprint(v.Group, v.ID)
	text := fmt.Sprint(v.Cause, members, setNames(v))
	if old, ok := w.views[key]; ok && old != text {
		fail("id %v is\n%s here and\n%s elsewhere (GRP-2)", v.ID, text, old)
	}
	w.views[key] = text
	if ms.ids[v.ID] || v.ID != x.ID {
		fail("id %v again (GRP-3)", v.ID)
	}
	ms.ids[v.ID] = true
	if !slices.Contains(members, me) {
		fail("without me (GRP-1)")
	}
	if v.Cause == evs.CausedByNetwork {
		var all []string
		for i, s := range v.Sets {
			if len(s) == 0 {
				fail("empty set")
			}
			all = append(all, privates(s)...)
			if slices.Contains(privates(s), me) != (i == x.Own) {
				fail("own set is %d of %v (GRP-5)", x.Own, setNames(v))
			}
		}
		if came := c.d.m.came; came != nil {
			w.cover["interim"]++
			c.checkInterim(v, came, fail)
		}
		slices.Sort(all)
		sorted := slices.Sorted(slices.Values(members))
		if !slices.Equal(all, sorted) {
			fail("sets %v are no partition of %v (GRP-5)", setNames(v), members)
		}
	} else if len(v.Sets) != 1 || len(v.Sets[0]) != 1 || x.Own != 0 {
		fail("sets %v, own %d", setNames(v), x.Own)
	}

	// From the previous view to this one.
	var before []string
	if ms.in {
		before = privates(ms.view.Members)
	}
	plus := slices.DeleteFunc(slices.Clone(members), func(s string) bool { return slices.Contains(before, s) })
	minus := slices.DeleteFunc(slices.Clone(before), func(s string) bool { return slices.Contains(members, s) })
	switch v.Cause {
	case evs.CausedByJoin:
		if ms.in && (len(plus) != 1 || plus[0] != v.Sets[0][0].Private || len(minus) != 0) {
			fail("%v to %v by a join of %v", before, members, v.Sets)
		}
		if !ms.in && v.Sets[0][0].Private != me {
			fail("first view by a join of %v", v.Sets[0][0].Private)
		}
	case evs.CausedByLeave, evs.CausedByDisconnect:
		if !ms.in || len(plus) != 0 || len(minus) != 1 || minus[0] != v.Sets[0][0].Private {
			fail("%v to %v by %v of %v", before, members, v.Cause, v.Sets)
		}
	case evs.CausedByNetwork:
		if c.d.m.came == nil && len(v.Sets) == 1 && ms.in && !ms.signalled {
			fail("a view of %v, and nothing happened to it", members)
		}
		if len(minus) > 0 && !ms.signalled {
			fail("%v to %v without a signal (GRP-7)", before, members)
		}
		w.cover[fmt.Sprintf("network view with %d sets", len(v.Sets))]++
	}
	if ms.signalled && v.Cause != evs.CausedByNetwork {
		fail("%v after a signal (GRP-7)", v.Cause)
	}

	if v.Cause == evs.CausedByNetwork {
		if w.sets[key] == nil {
			w.sets[key] = map[string]string{}
			for i, s := range setNames(v) {
				for _, n := range s {
					w.sets[key][n] = fmt.Sprint(i)
				}
			}
		}
		slices.Sort(ms.rel)
		mv := move{session: me, rel: fmt.Sprint(ms.rel), base: ms.base}
		if c.d.m.came != nil {
			mv.base = "" // Reliable messages bind from one final network view to the next (GRP-6)
		}
		if ms.in {
			mv.from, mv.path = fmt.Sprint(ms.view.ID), strings.Join(c.d.history[ms.path:], " ")
			mv.before, mv.after = fmt.Sprint(ms.before), fmt.Sprint(ms.after)
		}
		w.moves[key] = append(w.moves[key], mv)
	}
	base, rel := ms.base, ms.rel
	if v.Cause == evs.CausedByNetwork && c.d.m.came == nil {
		base, rel = fmt.Sprint(v.ID), nil
	}
	*ms = membership{in: true, ids: ms.ids, view: v, path: len(c.d.history), base: base, rel: rel}
}

// checkInterim demands the sets of client-protocol 5.4: who comes along, then each daemon out of reach, then possibly
// one newcomer alone.
func (c *client) checkInterim(v *View, came map[evs.ProcID]bool, fail func(string, ...any)) {
	if !slices.IsSortedFunc(v.Members, (*Member).compare) {
		fail("order")
	}
	sets := slices.Clone(v.Sets)
	if ms := c.groups[v.Group]; ms != nil && ms.in {
		for _, x := range sets[len(sets)-1] {
			if len(sets[len(sets)-1]) == 1 && !slices.Contains(privates(ms.view.Members), x.Private) {
				sets = sets[:len(sets)-1]
				c.d.w.cover["interim with newcomer"]++
			}
		}
		if len(sets) == 0 || !came[sets[0][0].Proc] {
			fail("no set comes along")
		}
	} else if len(sets) > 1 {
		sets = sets[:len(sets)-1] // I am the newcomer
	}
	for i, s := range sets {
		for _, x := range s {
			if came[s[0].Proc] != came[x.Proc] || !came[x.Proc] && x.Proc != s[0].Proc {
				fail("set %d of %v", i, setNames(v))
			}
		}
		if i > 0 && (came[s[0].Proc] && len(sets) > 1 || sets[i-1][0].Proc.Compare(s[0].Proc) >= 0 && !came[sets[i-1][0].Proc]) {
			fail("order of sets %v", setNames(v))
		}
	}
}

func (c *client) receiveData(x *Delivery, fail func(string, ...any)) {
	id := uint64(0)
	if _, err := fmt.Sscanf(string(x.Data.Body), "m%d", &id); err != nil {
		fail("body %q", x.Data.Body)
	}
	if c.seen[id] {
		fail("message %d twice (GRP-8)", id)
	}
	c.seen[id] = true
	if !strings.HasPrefix(x.Sender, "#"+x.Data.Sender+"#") {
		fail("sender %q %q", x.Sender, x.Data.Sender)
	}
	if s := c.d.m.State(); s != Stable && s != Transitional {
		fail("message in state %v (GRP-14)", s)
	}
	entitled := false
	for _, g := range x.Data.Groups {
		if string(g) == c.private() || slices.ContainsFunc(c.d.m.Members(string(g)), func(y *Member) bool {
			return y.Proc == c.d.id && y.Session == c.num
		}) {
			entitled = true
		}
		if ms := c.groups[string(g)]; ms != nil && ms.in && x.Data.Type&TypeSelfDiscard == 0 {
			text := fmt.Sprint(id)
			switch {
			case x.Service < evs.FIFO:
				ms.rel = append(ms.rel, text)
			case ms.signalled:
				ms.after = append(ms.after, text)
			default:
				ms.before = append(ms.before, text)
			}
		}
	}
	if !entitled {
		fail("message for %q (GRP-8)", x.Data.Groups)
	}
	c.d.w.cover["message"]++
}

// finish judges the moves: who is in one set came from the same view the same way, with the same messages.
func (w *world) finish() {
	for key, ms := range w.moves {
		for i, a := range ms {
			for _, b := range ms[:i] {
				same := a.from != "" && a.from == b.from && a.path == b.path
				if same != (w.sets[key][a.session] == w.sets[key][b.session]) {
					w.t.Fatalf("%s: sets %s and %s of (GRP-5)\n%+v\n%+v", key, w.sets[key][a.session], w.sets[key][b.session], a, b)
				}
				if same && (a.before != b.before || a.after != b.after) {
					w.t.Fatalf("%s: messages differ (GRP-6)\n%+v\n%+v", key, a, b)
				}
				if same && a.base != "" && a.base == b.base && a.rel != b.rel {
					w.t.Fatalf("%s: Reliable messages differ (GRP-6)\n%+v\n%+v", key, a, b)
				}
			}
		}
	}
}

// settle lets everything be sent and delivered.
func (w *world) settle() {
	for busy := true; busy; {
		busy = false
		for _, d := range w.live() {
			for d.originate() {
				busy = true
			}
			for d.step() {
				busy = true
			}
		}
	}
}

// judge compares the whole world at rest: equal tables, no ghosts (GRP-12), and members that know the table.
func (w *world) judge() {
	t := w.t
	t.Helper()
	live := w.live()
	for _, d := range live {
		if d.m.State() != Stable {
			t.Fatalf("%v is %v at rest", d.id, d.m.State())
		}
		for p, ss := range d.truth {
			for n, s := range ss {
				i := slices.IndexFunc(live, func(e *daemon) bool { return e.id == p })
				if len(s.groups) > 0 && (i < 0 || live[i].sessions[n] == nil) {
					t.Fatalf("%v: ghost %v %d (GRP-12)", d.id, p, n)
				}
			}
		}
		if fmt.Sprint(d.m.Groups()) != fmt.Sprint(live[0].m.Groups()) {
			t.Fatalf("%v has groups %v, %v has %v", d.id, d.m.Groups(), live[0].id, live[0].m.Groups())
		}
		for _, g := range d.m.Groups() {
			a, _ := d.m.ViewID(g)
			b, _ := live[0].m.ViewID(g)
			if a != b || !slices.Equal(privates(d.m.Members(g)), privates(live[0].m.Members(g))) {
				t.Fatalf("%v and %v differ in %q: %v %v", d.id, live[0].id, g, a, b)
			}
		}
		for _, c := range d.sessions {
			for g, ms := range c.groups {
				id, _ := d.m.ViewID(g)
				if c.notices && !c.closed && ms.in && (ms.view.ID != id || ms.signalled) {
					t.Fatalf("%v: last view of %q is %v, signalled %v, table has %v", c.private(), g, ms.view.ID, ms.signalled, id)
				}
			}
		}
	}
	w.finish()
}

func (d *daemon) connect(user string, notices bool) *client {
	for _, c := range d.sessions {
		if c.user == user {
			return nil
		}
	}
	d.lastNum++
	c := &client{d: d, num: d.lastNum, user: user, notices: notices, seen: map[uint64]bool{}, groups: map[string]*membership{}}
	d.sessions[c.num] = c
	d.m.Open(c.num, user, notices)
	return c
}

func (c *client) submit(service evs.Service, payload []byte) {
	c.d.clients = append(c.d.clients, entry{c.d.id, service, payload, true})
}

func (c *client) join(g string)  { c.submit(evs.Agreed, AppendJoin(nil, c.num, c.user, g)) }
func (c *client) leave(g string) { c.submit(evs.Agreed, AppendLeave(nil, c.num, c.user, g)) }

func (c *client) close() {
	c.closed = true
	c.d.m.Close(c.num)
	c.submit(evs.Safe, AppendDisconnect(nil, c.num, c.user, evs.DetailAsked))
}

func (c *client) send(service evs.Service, discard bool, groups ...string) {
	c.d.w.msgs++
	d := Data{Session: c.num, Sender: c.user, Type: 0x10, Body: fmt.Appendf(nil, "m%d", c.d.w.msgs)}
	if discard {
		d.Type |= TypeSelfDiscard
	}
	for _, g := range groups {
		d.Groups = append(d.Groups, []byte(g))
	}
	c.submit(service, AppendData(nil, &d))
}
