// SPDX-License-Identifier: Apache-2.0

package groups

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"evensong/internal/proto/evs"
)

// DefaultStateBytes is how large a part of a state may be when Config does not say: below what fits one piece of the
// ring with room to spare.
const DefaultStateBytes = 60_000

// MaxQueueBytes bounds what may wait for the end of an exchange. It is far above what the ring's windows let a fast
// daemon originate before all have the last state. Beyond it messages are dropped with DropQueueFull.
const MaxQueueBytes = 64 << 20

// maxSenderNames bounds the cache of private names of senders. It is emptied when full.
const maxSenderNames = 1 << 14

// Config is fixed at New.
type Config struct {
	Me evs.ProcID
	// StateBytes is the size that a part of a state is cut at, in bytes. Zero means DefaultStateBytes. A part is
	// larger only when it holds a single member.
	StateBytes int
}

// State is what the stream of configurations has brought the machine to. The package documentation has the table.
type State uint8

const (
	// Fresh: no configuration yet.
	Fresh State = iota
	// Stable: all members of the configuration hold this table.
	Stable
	// Transitional: between two rings, from an agreed table.
	Transitional
	// Exchange: states of other table sets are awaited.
	Exchange
	// Aborted: between two rings, the exchange on the old one did not end.
	Aborted
)

var stateNames = [...]string{Fresh: "fresh", Stable: "stable", Transitional: "transitional", Exchange: "exchange", Aborted: "aborted"}

// String is the lower-case word.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// moves are the transitions that exist (EVS-6).
var moves = [...][]State{
	Fresh:        {Exchange},
	Stable:       {Transitional},
	Transitional: {Exchange},
	Exchange:     {Stable, Aborted},
	Aborted:      {Exchange},
}

// Machine is the group layer of one daemon. Methods must not be called concurrently. Equal inputs give equal effects;
// see Effects for how long payloads must live.
type Machine struct {
	cfg   Config
	state State

	// Configurations. conf is the last regular one, nil only in Fresh; index is its Index as a map; came holds the
	// members of the transitional configuration in force, nil in regular ones. peers are the daemons known to hold
	// our table, in ring order, Me among them (see the package documentation).
	conf  *evs.Configuration
	index map[evs.ProcID]int
	came  map[evs.ProcID]bool
	peers []evs.ProcID
	why   evs.Detail // why there are configurations since the last exchange that ended

	// primary is what sessions were told of the configuration that their messages and views belong to (PC-7). It is taken back with the
	// transitional configuration, and given anew when the exchange ends, before the views of the new one.
	primary evs.Primary

	// View ids: the configuration in which changes happen now, and how many ids it has given away.
	idConf  evs.ConfID
	counter uint64

	// The table: by name, and by member. A group has members, a session is in groups.
	groups   map[string]*group
	sessions map[sessionKey]*session

	// Sessions of this daemon, closed ones too, from Open until their disconnect is ordered.
	local  map[uint64]*local
	byUser map[string]*local
	stamp  uint64 // of the last message routed; no local's stamp is above it
	routed *group // one of groups, the last that a message was for; nil: none, or that one is gone

	names  []string // of the groups, for GroupsAfter
	sorted bool     // names are those of the table as it is

	checked bool // CheckInvariants has seen the table as it is

	senders map[senderKey]string // private names of those who sent lately
	last    struct {             // the sender of the last message: packets hold runs of messages of one session
		inc     evs.Incarnation
		user    string
		private string // empty: none yet
	}

	ex exchange
}

type group struct {
	name      string
	id        evs.ViewID
	signalled bool      // the view has ended for us: members are, or soon will be, out of reach (GRP-7)
	members   []*Member // in the order of views, at least one
	locals    []*local  // the open sessions of this daemon among them, in the same order
}

type sessionKey struct {
	proc evs.ProcID
	num  uint64
}

type session struct {
	Member
	groups []*group // in the order of names
}

// local is a session of this daemon.
type local struct {
	num     uint64
	user    string
	notices bool
	closed  bool
	stamp   uint64 // of the last message it got, so that it gets none twice (GRP-8)
}

type senderKey struct {
	inc  evs.Incarnation
	user string
}

// New returns a machine without sessions that waits for its first configuration.
func New(cfg Config) *Machine {
	if cfg.Me.IsZero() || len(cfg.Me.Name) > MaxName {
		panic(fmt.Sprintf("groups: daemon %v", cfg.Me))
	}
	if cfg.StateBytes <= 0 {
		cfg.StateBytes = DefaultStateBytes
	}
	return &Machine{
		cfg:      cfg,
		peers:    []evs.ProcID{cfg.Me},
		groups:   make(map[string]*group),
		sessions: make(map[sessionKey]*session),
		local:    make(map[uint64]*local),
		byUser:   make(map[string]*local),
		senders:  make(map[senderKey]string),
	}
}

// Open makes a session of this daemon known: from here on it can receive. user is the user part of its private name,
// which no other session may have until its disconnect is reported in Effects.Gone; num is never used twice. A session
// with notices gets views, signals and self-leaves, one without gets only messages. Open panics when num or user are
// in use, or illegal.
func (m *Machine) Open(num uint64, user string, notices bool) {
	m.checked = false
	if user == "" || len(user) > MaxName {
		panic(fmt.Sprintf("groups: session name of %d bytes", len(user)))
	}
	if m.local[num] != nil || m.byUser[user] != nil {
		panic(fmt.Sprintf("groups: session %d %q opened twice (GRP-15)", num, user))
	}
	l := &local{num: num, user: user, notices: notices}
	m.local[num], m.byUser[user] = l, l
}

// Close stops all deliveries to a session at once. It stays a member of its groups until its disconnect, which the
// caller submits, takes its place in the order. Unknown and closed sessions are ignored.
func (m *Machine) Close(num uint64) {
	m.checked = false
	l := m.local[num]
	if l == nil || l.closed {
		return
	}
	l.closed = true
	if s := m.sessions[sessionKey{m.cfg.Me, num}]; s != nil {
		for _, g := range s.groups {
			g.dropLocal(l)
		}
	}
}

// HandleMessage takes the next message of the order. service is the one it was sent with.
func (m *Machine) HandleMessage(sender evs.ProcID, service evs.Service, payload []byte, fx *Effects) {
	m.checked = m.checked && len(payload) > 0 && isData(payload)
	if len(payload) == 0 {
		fx.drop(DropMalformed, sender)
		return
	}
	o := op(payload[0])
	if o == opState {
		m.handleState(sender, service, payload, fx)
		return
	}
	switch m.state {
	case Fresh:
		fx.drop(DropEarly, sender)
	case Exchange:
		m.enqueue(sender, service, payload, fx)
	case Aborted:
		fx.drop(DropAborted, sender)
	case Stable, Transitional:
		if isData(payload) {
			m.route(sender, service, payload, fx)
		} else {
			m.change(sender, service, payload, fx)
		}
	default:
		panic("groups: state " + m.state.String())
	}
}

// HandleTransitional takes a transitional configuration: its members go on together, the others of the last regular
// one are out of reach (guarantees 8.5.1). conf is kept and must not change.
func (m *Machine) HandleTransitional(conf *evs.Configuration, fx *Effects) {
	m.checked = false
	m.checkConf(conf, evs.Transitional)
	m.came = make(map[evs.ProcID]bool, len(conf.Members))
	for _, p := range conf.Members {
		if _, ok := m.index[p]; !ok {
			panic(fmt.Sprintf("groups: %v is in %v but not in %v before it", p, conf.ID, m.conf.ID))
		}
		m.came[p] = true
	}
	m.peers = slices.DeleteFunc(m.peers, func(p evs.ProcID) bool { return !m.came[p] })
	m.idConf = conf.ID // the index goes on, so that ids rise at each member (GRP-3)
	m.tellPrimary(conf.Primary, fx)
	if m.state == Exchange {
		m.abort(fx)
		m.enter(Aborted)
	} else {
		m.enter(Transitional)
	}
	for _, name := range m.sortedGroups() {
		g := m.groups[name]
		if !g.signalled && slices.ContainsFunc(g.members, func(x *Member) bool { return !m.came[x.Proc] }) {
			m.signal(g, fx)
		}
	}
}

// HandleRegular takes a regular configuration and begins the exchange. Every member's Origins must be set. conf is
// kept and must not change. why is what views that follow from it say.
func (m *Machine) HandleRegular(conf *evs.Configuration, why evs.Detail, fx *Effects) {
	m.checked = false
	if m.why != evs.DetailNone && m.why != why {
		why = evs.DetailDaemons // the exchange before did not end, so its reasons are told with these
	}
	m.why = why
	m.checkConf(conf, evs.Regular)
	if len(conf.Origins) != len(conf.Members) {
		panic(fmt.Sprintf("groups: %v has %d members and %d origins", conf.ID, len(conf.Members), len(conf.Origins)))
	}
	m.conf, m.came = conf, nil
	m.index = make(map[evs.ProcID]int, len(conf.Members))
	for i, p := range conf.Members {
		m.index[p] = i
	}
	m.peers = slices.DeleteFunc(m.peers, func(p evs.ProcID) bool {
		i, ok := m.index[p]
		if ok && conf.Origins[i] != conf.Origins[m.index[m.cfg.Me]] {
			panic(fmt.Sprintf("groups: %v came to %v from another ring than we, after a common transitional configuration (EVS-7)", p, conf.ID))
		}
		return !ok
	})
	m.idConf, m.counter = conf.ID, 1 // 1 is the index of network views
	m.restrict()
	m.enter(Exchange)
	m.beginExchange(fx)
}

func (m *Machine) checkConf(conf *evs.Configuration, kind evs.ConfKind) {
	if conf.ID.Kind != kind || conf.Index(m.cfg.Me) < 0 {
		panic(fmt.Sprintf("groups: %v is no %v configuration of %v", conf.ID, kind, m.cfg.Me))
	}
	if kind == evs.Transitional != (m.state == Stable || m.state == Exchange) {
		panic(fmt.Sprintf("groups: %v in state %v (EVS-6)", conf.ID, m.state))
	}
}

// tellPrimary says what holds from here on, if that is something new.
func (m *Machine) tellPrimary(p evs.Primary, fx *Effects) {
	if p != m.primary {
		m.primary = p
		fx.Deliveries = append(fx.Deliveries, Delivery{Kind: KindPrimary, Primary: p})
	}
}

// Primary is what holds for what sessions get now. It is not that of the configuration while an exchange is under way.
func (m *Machine) Primary() evs.Primary { return m.primary }

func (m *Machine) enter(to State) {
	if !slices.Contains(moves[m.state], to) {
		panic(fmt.Sprintf("groups: transition from %v to %v", m.state, to))
	}
	m.state = to
}

// State is for status and tests.
func (m *Machine) State() State { return m.state }

// Exchanging reports whether an exchange is under way. Until it ends (Effects.Ready) clients' messages must not be
// originated, neither new ones nor what waits for the ring from an earlier configuration (guarantees 8.5.2).
func (m *Machine) Exchanging() bool { return m.state == Exchange }

// Groups are the names of all groups of the configuration, sorted.
func (m *Machine) Groups() []string { return m.sortedGroups() }

// GroupsAfter are the names behind one of them, or behind where it would be, sorted. The slice is the machine's: it must not
// be changed, and is valid until the next input. A table that does not change is sorted once.
func (m *Machine) GroupsAfter(name string) []string {
	if !m.sorted || len(m.names) != len(m.groups) {
		m.names, m.sorted = slices.AppendSeq(m.names[:0], maps.Keys(m.groups)), true
		slices.Sort(m.names)
	}
	i, found := slices.BinarySearch(m.names, name)
	if found {
		i++
	}
	return m.names[i:]
}

// MembersFrom are at most n members of a group in the order of views, from number first on, and how many there are. The
// slice is the machine's, as in GroupsAfter.
func (m *Machine) MembersFrom(group string, first uint32, n int) (page []*Member, total int) {
	g := m.groups[group]
	if g == nil {
		return nil, 0
	}
	total = len(g.members)
	from := int(min(int64(first), int64(total)))
	return g.members[from:min(from+n, total)], total
}

// Members are the members of a group in the order of views, nil when there is no such group. In a transitional
// configuration this includes those out of reach. The caller owns the slice, not the Members.
func (m *Machine) Members(group string) []*Member {
	if g := m.groups[group]; g != nil {
		return slices.Clone(g.members)
	}
	return nil
}

// ViewID is the id of a group's view; ok is false when there is no such group.
func (m *Machine) ViewID(group string) (id evs.ViewID, ok bool) {
	if g := m.groups[group]; g != nil {
		return g.id, true
	}
	return evs.ViewID{}, false
}

// IsMember reports whether a session of this daemon is a member of a group.
func (m *Machine) IsMember(num uint64, group string) bool {
	s := m.sessions[sessionKey{m.cfg.Me, num}]
	if s == nil {
		return false
	}
	_, found := slices.BinarySearchFunc(s.groups, group, compareName)
	return found
}

func (m *Machine) sortedGroups() []string { return slices.Sorted(maps.Keys(m.groups)) }

// route gives a message to the local sessions that it is for (client-protocol 4.4, 5.1; GRP-8, GRP-13). Nothing is
// allocated once the arenas of fx have grown.
func (m *Machine) route(sender evs.ProcID, service evs.Service, payload []byte, fx *Effects) {
	firstName, first, at := len(fx.names), len(fx.sessions), len(fx.Deliveries)
	fx.Deliveries = append(fx.Deliveries, Delivery{}) // in place, and taken back if it is for nobody
	d := &fx.Deliveries[at].Data
	user, names, ok := parseData(payload, fx.names, d)
	fx.names = names
	if !ok {
		fx.Deliveries = fx.Deliveries[:at]
		fx.drop(DropMalformed, sender)
		return
	}
	request, session := d.Request, d.Session
	m.stamp++
	if d.Type&TypeSelfDiscard != 0 && sender == m.cfg.Me {
		if l := m.local[d.Session]; l != nil {
			l.stamp = m.stamp // as if it had it already (GRP-18)
		}
	}
	for _, name := range d.Groups {
		if len(name) > 0 && name[0] == '#' {
			if l := m.private(name); l != nil && l.stamp != m.stamp {
				l.stamp = m.stamp
				fx.sessions = append(fx.sessions, l.num)
			}
			continue
		}
		g := m.routed
		if g == nil || g.name != string(name) {
			if g = m.groups[string(name)]; g == nil {
				continue
			}
			m.routed = g
		}
		for _, l := range g.locals {
			if l.stamp != m.stamp {
				l.stamp = m.stamp
				fx.sessions = append(fx.sessions, l.num)
			}
		}
	}
	if len(fx.sessions) == first {
		fx.names = fx.names[:firstName]
		fx.Deliveries = fx.Deliveries[:at]
	} else {
		private := m.senderName(sender, user)
		d.Sender = private[1 : 1+len(user)]
		x := &fx.Deliveries[at]
		x.Kind, x.Sessions, x.Sender, x.Service = KindData, fx.since(first), private, service
	}
	if request != 0 {
		m.answer(sender, session, Delivery{Kind: KindReceipt, Request: request}, fx)
	}
}

// answer delivers d to the session that asked for it, if that is one of this daemon and still open.
func (m *Machine) answer(sender evs.ProcID, num uint64, d Delivery, fx *Effects) {
	if sender != m.cfg.Me {
		return
	}
	if l := m.local[num]; l != nil && !l.closed {
		first := len(fx.sessions)
		fx.sessions = append(fx.sessions, num)
		d.Sessions = fx.since(first)
		fx.Deliveries = append(fx.Deliveries, d)
	}
}

// private finds the open session of this daemon that a name "#user#daemon" addresses. The user part may be a short one.
func (m *Machine) private(name []byte) *local {
	i := bytes.IndexByte(name[1:], '#')
	if i < 0 || string(name[i+2:]) != m.cfg.Me.Name {
		return nil
	}
	if num, ok := evs.ParseShortUser(name[1 : 1+i]); ok {
		if l := m.local[num]; l != nil && !l.closed && !evs.FitsOriginal(l.user) {
			return l
		}
		return nil
	}
	if l := m.byUser[string(name[1:1+i])]; l != nil && !l.closed {
		return l
	}
	return nil
}

func (m *Machine) senderName(p evs.ProcID, user []byte) string {
	if l := &m.last; l.private != "" && l.inc == p.Inc && l.user == string(user) {
		return l.private
	}
	s, ok := m.senders[senderKey{p.Inc, string(user)}]
	if !ok {
		if len(m.senders) >= maxSenderNames {
			clear(m.senders)
		}
		u := string(user)
		s = privateName(u, p)
		m.senders[senderKey{p.Inc, u}] = s
	}
	m.last.inc, m.last.user, m.last.private = p.Inc, s[1:1+len(user)], s
	return s
}

func privateName(user string, p evs.ProcID) string { return "#" + user + "#" + p.Name }
