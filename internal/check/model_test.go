// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"evensong/internal/proto/evs"
)

// model is a tiny abstract group communication system that keeps every promise by construction: a ring is one list of
// messages, a configuration change is one step of the whole world. It writes random histories that must pass every
// checker and that tests then damage.
type model struct {
	rnd     *rand.Rand
	recs    []evs.Trace
	daemons []*mdaemon // one per name: the present incarnation
	all     []*mdaemon
	ringSeq uint64
	digest  uint64
	inc     uint64
	token   map[evs.RingID]uint64
	bug     bug
	voters  int // daemons that there can be
}

// bug is a mistake that the model can be told to make: what a wrong implementation would do, all the time.
type bug uint8

const (
	noBug          bug = iota
	bugSafeAtOnce      // Safe is delivered like Agreed
	bugNoRecovery      // who leaves a ring delivers what it holds itself, not what its set holds
	bugNoFilter        // behind a hole everything is delivered, whoever sent it
	bugWholeStays      // nobody is ever left out of the transitional set
	bugRingReuse       // ring sequences are not remembered over a restart
	bugNoSignal        // the transitional configuration is not reported
	bugOneSet          // a network view puts everybody in one VS set
	bugGhosts          // members of lost daemons stay in the group
	bugIndexReset      // each group counts its views by itself, from one when it is empty
	bugLeaverHears     // who has left a group still gets its messages
	bugSelfDiscard     // self-discard is ignored
	bugTokenTwice      // a duplicate token is acted upon
	bugBlindRelay      // Reliable messages are passed on twice, early and in order
	bugHalf            // half of the daemons count as a majority
)

type mdaemon struct {
	id      evs.ProcID
	rank    int
	alive   bool
	ring    *mring
	tring   evs.ConfID   // current configuration
	got     int          // received prefix of the ring's log
	early   map[int]bool // delivered beyond the prefix
	far     map[int]bool // received beyond the prefix, not delivered
	next    int          // delivered prefix, early ones aside
	number  uint64
	queue   []mop
	groups  map[string]*mgroup
	index   uint32
	words   [2]uint32
	clients []*mclient
	users   int
}

type mring struct {
	id      evs.RingID
	members []*mdaemon
	log     []mmsg
	left    map[*mdaemon]int // what members had received when they left
}

type mmsg struct {
	seq    uint64
	index  uint32
	sender *mdaemon
	nth    uint64
	op     mop
	digest uint64
}

type mop struct {
	kind    evs.TraceKind // TraceMulticast, TraceJoin, TraceLeave, TraceDisconnect
	client  *mclient
	group   string
	groups  []string
	service evs.Service
	digest  uint64
	discard bool
}

type mgroup struct {
	members  []*mclient
	id       evs.ViewID
	signaled bool
}

type mclient struct {
	daemon *mdaemon
	id     evs.SessionID
	dead   bool
	inbox  []evs.Trace
	joined map[string]bool // asked
	left   map[string]bool // ever
	number uint64
}

var modelGroups = []string{"alpha", "beta", "gamma"}

func newModel(seed uint64, daemons int) *model {
	m := &model{rnd: rand.New(rand.NewPCG(seed, 7)), token: map[evs.RingID]uint64{}, voters: daemons}
	for i := range daemons {
		m.daemons = append(m.daemons, nil)
		m.start(i)
	}
	return m
}

func (m *model) put(t evs.Trace) {
	t.At = int64(len(m.recs)) * 1000
	m.recs = append(m.recs, t)
}

func (m *model) start(i int) {
	m.inc++
	d := &mdaemon{id: evs.ProcID{Rank: uint16(i + 1), Name: fmt.Sprintf("d%d", i+1), Inc: evs.Incarnation(m.inc)}, rank: i, alive: true, groups: map[string]*mgroup{}}
	m.daemons[i] = d
	m.all = append(m.all, d)
	m.put(evs.Trace{Kind: evs.TraceStart, Proc: d.id, Number: m.ringSeq})
	if m.bug == bugRingReuse && len(m.all) > len(m.daemons) {
		m.ringSeq -= min(m.ringSeq, 20)
	}
	m.install([]*mdaemon{d})
	for range 1 + m.rnd.IntN(3) {
		m.connect(d)
	}
}

func (m *model) connect(d *mdaemon) *mclient {
	d.users++
	c := &mclient{daemon: d, joined: map[string]bool{}, left: map[string]bool{}, id: evs.SessionID{Daemon: d.id, Number: uint64(d.users), Name: fmt.Sprintf("#u%d#%s", d.users, d.id.Name)}}
	d.clients = append(d.clients, c)
	m.put(evs.Trace{Kind: evs.TraceConnect, Proc: d.id, Session: c.id})
	return c
}

// primary is what a configuration of so many daemons is.
func (m *model) primary(members int) evs.Primary {
	if 2*members > m.voters || m.bug == bugHalf && 2*members == m.voters {
		return evs.PrimaryYes
	}
	return evs.PrimaryNo
}

// install moves daemons, with whatever of their old rings they hold, to one new ring.
func (m *model) install(members []*mdaemon) {
	m.ringSeq++
	id := evs.RingID{Seq: m.ringSeq, Rep: members[0].id.Inc}
	r := &mring{id: id, members: members, left: map[*mdaemon]int{}}
	var ids []evs.ProcID
	var origins []evs.RingID
	var olds []*mring
	for _, d := range members {
		ids = append(ids, d.id)
		if d.ring == nil {
			origins = append(origins, evs.RingID{})
			continue
		}
		origins = append(origins, d.ring.id)
		if !slices.Contains(olds, d.ring) {
			olds = append(olds, d.ring)
		}
	}
	for _, d := range members {
		m.put(evs.Trace{Kind: evs.TraceStore, Proc: d.id, Number: id.Seq})
	}
	var sets [][]*mdaemon
	for _, old := range olds {
		var set []*mdaemon
		for _, d := range members {
			if d.ring == old {
				set = append(set, d)
			}
		}
		sets = append(sets, set)
		m.transition(old, set, id)
	}
	if len(olds) == 0 {
		sets = [][]*mdaemon{members}
	}
	// Group state: each set speaks for its own daemons.
	type merged struct {
		members []*mclient
		sets    [][]*mclient
		changed bool
	}
	state := map[string]*merged{}
	for _, g := range modelGroups {
		mg := &merged{}
		for _, set := range sets {
			var here []*mclient
			if gs := set[0].groups[g]; gs != nil {
				for _, c := range gs.members {
					if slices.Contains(set, c.daemon) || m.bug == bugGhosts && !c.daemon.alive {
						here = append(here, c)
					}
				}
				mg.changed = mg.changed || gs.signaled
			}
			if len(here) > 0 {
				mg.sets = append(mg.sets, here)
			}
			mg.members = append(mg.members, here...)
		}
		sortClients(mg.members)
		for _, set := range sets {
			var had []*mclient
			if gs := set[0].groups[g]; gs != nil {
				had = gs.members
			}
			if len(had) > 0 && !slices.Equal(had, mg.members) {
				mg.changed = true
			}
		}
		state[g] = mg
	}
	for _, d := range members {
		d.ring, d.got, d.next, d.early, d.far = r, 0, 0, map[int]bool{}, map[int]bool{}
		d.tring = evs.RegularID(id)
		d.words = [2]uint32{uint32(id.Rep)*7919 + 1, uint32(id.Seq)}
		d.index = 1
		m.put(evs.Trace{Kind: evs.TraceConf, Proc: d.id, Conf: d.tring, Members: ids, Origins: origins, Primary: m.primary(len(ids))})
		for _, g := range modelGroups {
			mg := state[g]
			old := d.groups[g]
			delete(d.groups, g)
			if len(mg.members) == 0 {
				continue
			}
			gs := &mgroup{members: slices.Clone(mg.members)}
			if old != nil {
				gs.id = old.id
			}
			d.groups[g] = gs
			if !mg.changed {
				for _, s := range sets { // daemons without the group learn its view id
					if o := s[0].groups[g]; o != nil {
						gs.id = o.id
					}
				}
				continue
			}
			gs.id = evs.ViewID{d.words[0], d.words[1], 1}
			if m.bug == bugOneSet {
				mg.sets = [][]*mclient{mg.members}
			}
			m.viewTo(d, g, gs, evs.CausedByNetwork, mg.sets)
		}
	}
}

func sortClients(list []*mclient) {
	slices.SortFunc(list, func(a, b *mclient) int {
		if a.daemon.rank != b.daemon.rank {
			return a.daemon.rank - b.daemon.rank
		}
		return strings.Compare(a.id.Name, b.id.Name)
	})
}

// transition delivers what a transitional set holds of its old ring.
func (m *model) transition(old *mring, set []*mdaemon, to evs.RingID) {
	held := make([]bool, len(old.log))
	for _, d := range set {
		for i := range old.log {
			if i < d.got || d.early[i] || d.far[i] || old.log[i].sender == d {
				held[i] = true
			}
		}
	}
	stable := m.stable(old)
	var ids []evs.ProcID
	for _, d := range set {
		ids = append(ids, d.id)
	}
	if m.bug == bugWholeStays {
		ids = nil
		for _, d := range old.members {
			ids = append(ids, d.id)
		}
	}
	for _, d := range set {
		if m.bug == bugNoRecovery {
			for k := range held {
				held[k] = k < d.got || d.early[k] || d.far[k] || old.log[k].sender == d
			}
		}
		i := d.next
		for ; i < len(old.log) && held[i] && (old.log[i].op.service != evs.Safe || i < stable); i++ {
			m.deliver(d, i)
		}
		d.tring = evs.TransitionalID(old.id, to)
		if m.bug != bugNoSignal {
			m.put(evs.Trace{Kind: evs.TraceConf, Proc: d.id, Conf: d.tring, Members: ids, Primary: evs.PrimaryNo})
		}
		d.words = [2]uint32{uint32(old.id.Rep)*104729 + uint32(to.Rep)*31 + 5, uint32(to.Seq)}
		d.index = 0
		for _, g := range modelGroups {
			gs := d.groups[g]
			if gs == nil {
				continue
			}
			if slices.ContainsFunc(gs.members, func(c *mclient) bool { return !slices.Contains(set, c.daemon) }) {
				gs.signaled = true
				m.signal(d, g, gs)
			}
		}
		hole := false
		gap := map[*mdaemon]bool{}
		for ; i < len(old.log); i++ {
			msg := &old.log[i]
			svc := msg.op.service
			ok := held[i]
			if ok && hole && m.bug != bugNoFilter {
				switch {
				case svc >= evs.Causal:
					ok = slices.Contains(set, msg.sender)
				case svc == evs.FIFO:
					ok = !gap[msg.sender]
				}
			}
			if !held[i] {
				hole = true
			}
			if !ok {
				gap[msg.sender] = true
				continue
			}
			m.deliver(d, i)
		}
	}
}

func (m *model) stable(r *mring) int {
	s := len(r.log)
	if m.bug == bugSafeAtOnce {
		return s
	}
	for _, d := range r.members {
		if d.ring == r {
			s = min(s, d.got)
		} else {
			s = min(s, r.left[d]) // the components of a change are made one after the other
		}
	}
	return s
}

func (m *model) deliver(d *mdaemon, i int) {
	msg := &d.ring.log[i]
	if d.early[i] && m.bug != bugBlindRelay {
		return
	}
	m.put(evs.Trace{Kind: evs.TraceDeliver, Proc: d.id, Conf: d.tring, Origin: msg.sender.id, Seq: msg.seq, Index: msg.index,
		Service: msg.op.service, Digest: msg.digest, Length: 100})
	m.apply(d, &msg.op)
}

func (m *model) apply(d *mdaemon, op *mop) {
	c := op.client
	switch op.kind {
	case evs.TraceMulticast:
		for _, l := range d.clients {
			if l.dead || l == c && op.discard && m.bug != bugSelfDiscard {
				continue
			}
			for _, g := range op.groups {
				if g == l.id.Name || d.groups[g] != nil && slices.Contains(d.groups[g].members, l) || m.bug == bugLeaverHears && l.left[g] {
					l.inbox = append(l.inbox, evs.Trace{Kind: evs.TraceClientMsg, Sender: c.id.Name, Groups: op.groups, Service: op.service, Digest: op.digest, Length: 50})
					break
				}
			}
		}
	case evs.TraceJoin:
		gs := d.groups[op.group]
		if gs == nil {
			gs = &mgroup{}
			d.groups[op.group] = gs
		}
		if slices.Contains(gs.members, c) {
			return
		}
		gs.members = append(slices.Clone(gs.members), c)
		sortClients(gs.members)
		m.change(d, op.group, gs, evs.CausedByJoin, c)
	case evs.TraceLeave:
		m.remove(d, op.group, c, evs.CausedByLeave)
	case evs.TraceDisconnect:
		for _, g := range modelGroups {
			m.remove(d, g, c, evs.CausedByDisconnect)
		}
	}
}

func (m *model) remove(d *mdaemon, g string, c *mclient, cause evs.Cause) {
	gs := d.groups[g]
	if gs == nil || !slices.Contains(gs.members, c) {
		return
	}
	gs.members = slices.DeleteFunc(slices.Clone(gs.members), func(o *mclient) bool { return o == c })
	if cause == evs.CausedByLeave && c.daemon == d && !c.dead {
		c.inbox = append(c.inbox, evs.Trace{Kind: evs.TraceSelfLeave, Group: g})
		c.left[g] = true
	}
	m.change(d, g, gs, cause, c)
	if len(gs.members) == 0 {
		delete(d.groups, g)
	}
}

func (m *model) change(d *mdaemon, g string, gs *mgroup, cause evs.Cause, who *mclient) {
	d.index++
	gs.id = evs.ViewID{d.words[0], d.words[1], d.index}
	if m.bug == bugIndexReset {
		gs.id[2] = uint32(len(gs.members))
	}
	if !gs.signaled {
		m.viewTo(d, g, gs, cause, [][]*mclient{{who}})
		return
	}
	// Interim: who is in reach in one set, each other daemon's members in one of their own, a joiner alone.
	conf := d.tring
	var near, alone []*mclient
	far := map[int][]*mclient{}
	for _, c := range gs.members {
		switch {
		case cause == evs.CausedByJoin && c == who:
			alone = append(alone, c)
		case m.together(d, c.daemon, conf):
			near = append(near, c)
		default:
			far[c.daemon.rank] = append(far[c.daemon.rank], c)
		}
	}
	var sets [][]*mclient
	if len(near) > 0 {
		sets = append(sets, near)
	}
	for i := range m.daemons {
		if len(far[i]) > 0 {
			sets = append(sets, far[i])
		}
	}
	if len(alone) > 0 {
		sets = append(sets, alone)
	}
	m.viewTo(d, g, gs, evs.CausedByNetwork, sets)
	m.signal(d, g, gs)
}

// together reports whether two daemons are in one transitional configuration.
func (m *model) together(d, e *mdaemon, conf evs.ConfID) bool {
	for i := len(m.recs) - 1; i >= 0; i-- {
		if t := &m.recs[i]; t.Kind == evs.TraceConf && t.Conf == conf {
			return slices.Contains(t.Members, e.id)
		}
	}
	return false
}

func (m *model) viewTo(d *mdaemon, g string, gs *mgroup, cause evs.Cause, sets [][]*mclient) {
	names := func(list []*mclient) []string {
		var out []string
		for _, c := range list {
			out = append(out, c.id.Name)
		}
		return out
	}
	var ns [][]string
	for _, s := range sets {
		ns = append(ns, names(s))
	}
	for _, c := range gs.members {
		if c.daemon != d || c.dead {
			continue
		}
		mine := 0
		for k, s := range sets {
			if cause == evs.CausedByNetwork && slices.Contains(s, c) {
				mine = k
			}
		}
		c.inbox = append(c.inbox, evs.Trace{Kind: evs.TraceView, Group: g, View: &evs.TraceViewInfo{ID: gs.id, Cause: cause, Members: names(gs.members), Sets: ns, Mine: mine}})
	}
}

func (m *model) signal(d *mdaemon, g string, gs *mgroup) {
	for _, c := range gs.members {
		if c.daemon == d && !c.dead {
			c.inbox = append(c.inbox, evs.Trace{Kind: evs.TraceSignal, Group: g, View: &evs.TraceViewInfo{ID: gs.id}})
		}
	}
}

// read lets a client take n records from its daemon.
func (m *model) read(c *mclient, n int) {
	for ; n > 0 && len(c.inbox) > 0; n-- {
		t := c.inbox[0]
		c.inbox = c.inbox[1:]
		t.Proc, t.Session = c.daemon.id, c.id
		m.put(t)
	}
}

// originate gives the first queued operation of a daemon its place.
func (m *model) originate(d *mdaemon) {
	if len(d.queue) == 0 {
		return
	}
	op := d.queue[0]
	d.queue = d.queue[1:]
	m.digest++
	d.number++
	msg := mmsg{seq: 1, sender: d, nth: d.number, op: op, digest: m.digest}
	if n := len(d.ring.log); n > 0 {
		last := &d.ring.log[n-1]
		msg.seq = last.seq + 1 + uint64(m.rnd.IntN(2))
		if last.sender == d && m.rnd.IntN(2) == 0 {
			msg.seq, msg.index = last.seq, last.index+1
		}
	}
	d.ring.log = append(d.ring.log, msg)
	m.put(evs.Trace{Kind: evs.TraceSend, Proc: d.id, Conf: d.tring, Seq: msg.seq, Index: msg.index, Number: msg.nth, Service: op.service, Digest: msg.digest, Length: 100})
}

// advance lets a daemon receive and deliver some.
func (m *model) advance(d *mdaemon, n int) {
	d.got = min(len(d.ring.log), d.got+n)
	for d.next < d.got && (d.ring.log[d.next].op.service != evs.Safe || d.next < m.stable(d.ring)) {
		m.deliver(d, d.next)
		d.next++
	}
}

func (m *model) live() []*mdaemon {
	var out []*mdaemon
	for _, d := range m.daemons {
		if d.alive {
			out = append(out, d)
		}
	}
	return out
}

// reconfigure installs one new ring for each component.
func (m *model) reconfigure(comps [][]*mdaemon) {
	for _, d := range m.all {
		if d.ring != nil {
			d.ring.left[d] = d.got
		}
	}
	for _, c := range comps {
		m.install(c)
	}
}

// step does one random thing.
func (m *model) step() {
	live := m.live()
	if len(live) == 0 {
		m.start(m.rnd.IntN(len(m.daemons)))
		return
	}
	d := live[m.rnd.IntN(len(live))]
	var c *mclient
	if k := slices.DeleteFunc(slices.Clone(d.clients), func(c *mclient) bool { return c.dead }); len(k) > 0 {
		c = k[m.rnd.IntN(len(k))]
	}
	switch p := m.rnd.IntN(1000); {
	case p < 260:
		m.advance(d, 1+m.rnd.IntN(5))
	case p < 500:
		m.originate(d)
	case p < 620 && c != nil:
		m.read(c, 1+m.rnd.IntN(6))
	case p < 645: // something arrives beyond a gap; Reliable messages are delivered at once
		for i := d.got + 1; i < len(d.ring.log); i++ {
			if d.early[i] || d.far[i] || m.rnd.IntN(2) == 0 {
				continue
			}
			if d.ring.log[i].op.service == evs.Reliable {
				m.deliver(d, i)
				d.early[i] = true
			} else {
				d.far[i] = true
			}
		}
	case p < 660:
		if m.bug != bugTokenTwice || m.rnd.IntN(4) > 0 || m.token[d.ring.id] == 0 {
			m.token[d.ring.id]++
		}
		m.put(evs.Trace{Kind: evs.TraceToken, Proc: d.id, Conf: evs.RegularID(d.ring.id), Number: m.token[d.ring.id]})
	case p < 890 && c != nil:
		m.digest++
		c.number++
		op := mop{kind: evs.TraceMulticast, client: c, service: evs.Reliable + evs.Service(m.rnd.IntN(5)), digest: 1<<40 + m.digest, discard: m.rnd.IntN(8) == 0}
		op.groups = []string{modelGroups[m.rnd.IntN(len(modelGroups))]}
		switch m.rnd.IntN(8) {
		case 0:
			op.groups = []string{"alpha", "beta"}
		case 1:
			o := live[m.rnd.IntN(len(live))]
			if len(o.clients) > 0 {
				op.groups = []string{o.clients[m.rnd.IntN(len(o.clients))].id.Name}
			}
		}
		m.put(evs.Trace{Kind: evs.TraceMulticast, Proc: d.id, Session: c.id, Groups: op.groups, Service: op.service, Digest: op.digest, Length: 50, Number: c.number, SelfDiscard: op.discard})
		d.queue = append(d.queue, op)
	case p < 950 && c != nil:
		g := modelGroups[m.rnd.IntN(len(modelGroups))]
		op := mop{kind: evs.TraceJoin, client: c, group: g, service: evs.Agreed}
		if c.joined[g] && m.rnd.IntN(3) > 0 {
			break
		}
		if c.joined[g] {
			op.kind = evs.TraceLeave
		}
		c.joined[g] = !c.joined[g]
		m.put(evs.Trace{Kind: op.kind, Proc: d.id, Session: c.id, Group: g})
		d.queue = append(d.queue, op)
	case p < 955 && c != nil:
		m.put(evs.Trace{Kind: evs.TraceDisconnect, Proc: d.id, Session: c.id})
		c.dead = true
		d.queue = append(d.queue, mop{kind: evs.TraceDisconnect, client: c, service: evs.Safe})
	case p < 960:
		m.connect(d)
	case p < 962: // crash
		m.put(evs.Trace{Kind: evs.TraceFail, Proc: d.id})
		d.alive = false
		for _, c := range d.clients {
			if !c.dead {
				m.read(c, m.rnd.IntN(5))
				m.put(evs.Trace{Kind: evs.TraceDisconnect, Proc: d.id, Session: c.id, Reason: "daemon gone"})
				c.dead = true
			}
		}
	case p < 966: // restart
		for i, d := range m.daemons {
			if !d.alive {
				m.start(i)
				break
			}
		}
	case p < 978:
		comps := make([][]*mdaemon, 1+m.rnd.IntN(3))
		for _, d := range live {
			k := m.rnd.IntN(len(comps))
			comps[k] = append(comps[k], d)
		}
		m.reconfigure(slices.DeleteFunc(comps, func(c []*mdaemon) bool { return len(c) == 0 }))
	}
}

// quiet heals everything and lets it finish.
func (m *model) quiet() {
	m.reconfigure([][]*mdaemon{m.live()})
	for _, d := range m.live() {
		for len(d.queue) > 0 {
			m.originate(d)
		}
	}
	for range 2 {
		for _, d := range m.live() {
			m.advance(d, len(d.ring.log))
		}
	}
	for _, d := range m.live() {
		for _, c := range d.clients {
			if !c.dead {
				m.read(c, len(c.inbox))
			}
		}
	}
}

// modelHistory is a random correct history.
func modelHistory(seed uint64, daemons, steps int) *History {
	return buggyHistory(noBug, seed, daemons, steps)
}

// buggyHistory is a history of a model with a mistake.
func buggyHistory(b bug, seed uint64, daemons, steps int) *History {
	m := newModel(seed, daemons)
	m.bug = b
	for range steps {
		m.step()
	}
	if len(m.live()) == 0 {
		m.start(0)
	}
	m.quiet()
	return &History{Records: m.recs, Quiescent: true, TokenTimeout: 1 << 40}
}
