// SPDX-License-Identifier: Apache-2.0

// Package node is a whole daemon as one machine: datagrams, client bytes and time go in; datagrams, client bytes and
// notes come out. It wires the layers and holds what concerns several of them at once:
//
//	clients -> session -> node -> order -> network      requests become ordered messages
//	network -> order -> groups -> node -> clients       ordered messages become deliveries
//
// The node itself decides which private names are free, how much a session may have under way (back-pressure towards
// senders), and how much may wait for a session that does not read (GRP-16). A delivery for many local members is
// encoded at most once in each dialect; their queues refer to the same bytes.
//
//	clients.go      sessions: requests down, deliveries up    own.go, access.go, pressure.go: what is special about them
//	daemons.go      where clients of other daemons connect, as ordered messages of the node's own
//	reconfigure.go  another configuration while it runs       status.go, status_sessions.go: what operators see
//
// There is one rule about order inside an input: what the layers below produced is carried upwards until nothing is
// left before the input returns, so layers never see each other's events out of order (P-30).
package node

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"evensong/internal/proto/access"
	"evensong/internal/proto/evs"
	"evensong/internal/proto/frame"
	"evensong/internal/proto/groups"
	"evensong/internal/proto/membership"
	"evensong/internal/proto/order"
	"evensong/internal/proto/packet"
	"evensong/internal/proto/ring"
	"evensong/internal/proto/session"
)

// Config is everything a daemon's protocols need to know. Zero fields mean their defaults.
type Config struct {
	Me            evs.ProcID
	Cluster       string           // name of the cluster; daemons of other clusters are not heard
	Peers         []netip.AddrPort // addresses of the other daemons; the own one may be among them
	Listed        []string         // names of the daemons of the cluster; nil: whoever comes belongs to it
	Daemons       []string         // names of the daemons that should be there: see membership.Config
	Voters        []string         // names of the daemons that have the majority in a primary configuration: see membership.Config
	Accelerated   bool             // run the accelerated ring when this daemon forms it
	Ring          ring.Config
	Membership    membership.Config // Me, Peers, Listed, Daemons, Voters, TokenTimeout, Accelerated, StoredRingSeq, Stable, Facts are taken from here and Ring
	Stable        bool              // ring sequence numbers go to stable storage: Effects.Stores are answered (EVS-8)
	StoredRingSeq uint64            // the number found there
	Facts         []byte            // what to tell others about the configuration
	Session       session.Config    // Daemon is taken from Me
	MaxSessions   int               // clients served at once; default 20000
	InputBytes    int               // bytes of one client that may wait for the token; default 256 KiB
	LeaveTime     time.Duration     // see order.Config
	MessageBytes  int               // data of one message in the own dialect; default 16 MiB, at most 64 MiB; no more than half of QueueMemory is used
	Program       string            // program and version, for clients of the own dialect
	Listeners     []string          // where clients can connect, for clients of other daemons; see SetListeners
	Trace         bool              // write Effects.Trace

	// Clients that read more slowly than they are sent to: see pressure.go for what happens at each bound.
	SlowPolicy       session.Policy // while a session is over its budget
	SessionBytes     int            // the budget: bytes that may wait for a client; default 8 MiB
	SessionHardBytes int            // bytes at which it is closed, progress or not; default 8 budgets
	SessionQueue     int            // messages at which it is closed; zero: only bytes count
	SessionStall     time.Duration  // over its budget, it is closed after this time without progress; default 10s
	SessionWait      time.Duration  // under PolicyBlock it is closed after this time over its budget; default 10s
	QueueMemory      int            // bytes that may wait for all clients, shared ones once; default 512 MiB
}

func (c Config) withDefaults() Config {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&c.MaxSessions, 20000)
	def(&c.InputBytes, 256<<10)
	def(&c.SessionBytes, session.DefaultQueueBytes)
	def(&c.SessionHardBytes, session.HardFactor*c.SessionBytes)
	def(&c.QueueMemory, DefaultQueueMemory)
	c.SessionStall = cmp.Or(c.SessionStall, DefaultSessionStall)
	c.SessionWait = cmp.Or(c.SessionWait, DefaultSessionWait)
	def(&c.MessageBytes, frame.DefaultOwnMessage)
	c.Session.MessageLimit = max(min(c.MessageBytes, c.QueueMemory/2), 1)
	c.Session.Daemon = c.Me.Name
	if len(c.Session.Methods) == 0 {
		c.Session.Methods = []session.AuthMethod{session.Null()}
	}
	c.Membership.Peers = c.Peers
	c.Membership.Listed = c.Listed
	c.Membership.Daemons = c.Daemons
	c.Membership.Voters = c.Voters
	c.Membership.Accelerated = c.Accelerated
	c.Membership.Stable = c.Stable
	c.Membership.StoredRingSeq = c.StoredRingSeq
	c.Membership.Facts = c.Facts
	return c
}

// allInputBytes bounds what all clients together may have waiting for the token.
const allInputBytes = 64 << 20

// Close says that a connection must be closed: write what Output still gives, as far as it goes at once or within a short
// time, shut down the sending side, drain briefly, close. HandleClosed need not follow.
type Close struct {
	Session uint64
	Reason  session.Reason
	Name    string // private name, if the client was accepted
}

// Effects is filled by inputs and emptied by the caller with Reset.
type Effects struct {
	Sends   []packet.Send // perform in order; the bytes are valid until the next input
	Outputs []uint64      // connections that have bytes to write
	Resumes []uint64      // connections whose input is wanted again
	Closes  []Close
	Stores  []order.Store
	Trace   []evs.Trace
	Notes   []evs.Note
	Stopped bool // after Leave: all is said
}

// Reset empties e and keeps its memory.
func (e *Effects) Reset() {
	clear(e.Sends)
	clear(e.Notes)
	clear(e.Trace)
	// One by one, since that writes lengths only.
	e.Sends, e.Outputs, e.Resumes, e.Closes = e.Sends[:0], e.Outputs[:0], e.Resumes[:0], e.Closes[:0]
	e.Stores, e.Trace, e.Notes, e.Stopped = e.Stores[:0], e.Trace[:0], e.Notes[:0], false
}

// Stats counts what happened since the start.
type Stats struct {
	Order       order.Stats
	Sessions    int // connected now
	Accepted    uint64
	Closed      map[session.Reason]uint64
	GroupDrops  uint64
	Deliveries  uint64 // frames for clients, one for each recipient
	Encoded     uint64 // frames encoded
	Adopted     uint64 // those of them whose data stayed where it was
	Exchanges   uint64
	InputStalls uint64
	Pressure    PressureStats
	Refused     [access.NumPoints]uint64 // requests that the access rules refused, by access.Point
}

// Machine is a daemon. Methods must not be called concurrently.
type Machine struct {
	cfg    Config
	rnd    *rand.Rand
	order  *order.Machine
	groups *groups.Machine
	conf   *evs.Configuration // in which the order's present messages were sent
	stores map[uint64]uint64  // ring sequence by store under way

	conns    map[uint64]*conn
	names    map[string]uint64 // user parts in use, until the disconnect is ordered
	departed map[uint64]string // user parts of sessions whose disconnect is not ordered yet
	lastID   uint64
	stalled  []*conn // their input waits for room
	timers   timers
	sessions *session.Config // for those that come now; never changed, only replaced
	pool     session.Pool
	arena    *session.Arena
	drafts   []draft // that the events under way refer to
	head     []byte  // of the frame that is written before one
	stats    Stats
	changes  []Change // configurations installed, the last maxChanges

	pressure     PressureStats // all but Memory and Blocked
	blockedSince time.Duration // the others wait since then, while blocking

	owns       int // open sessions of the own dialect
	unfinished int // memory of messages that have arrived in part
	// mostUnfinished is allUnfinished, except in tests.
	mostUnfinished int
	announced      []string    // where clients can connect here
	daemons        []listeners // and at the others, by ProcID
	daemonsNews    bool        // clients have not been told of a change
	stopped        bool        // the last word is said

	ofx   order.Effects
	gfx   groups.Effects
	sfx   session.Effects
	scope [][]byte // destinations of the message being submitted
	slow  []slow
	wake  bool // something was submitted
	owing bool // deliveries were put off

	refused bool // a request was given back to its sender
}

// conn is one client connection.
type conn struct {
	id      uint64
	session *session.Machine
	queue   *session.Queue
	user    string // name taken; empty: none
	open    bool   // established
	listed  bool   // in Effects.Outputs already
	stalled bool
	closing bool // Close was said; the last bytes are being written
	over    bool // over its budget, and not caught up since
	timer   time.Duration

	unfinished int            // its part of Machine.unfinished
	lastWord   bool           // it was told why the connection ends, and shall still get that
	peer       netip.AddrPort // invalid for a Unix socket
	since      time.Duration  // accepted

	moved     time.Duration // when the peer last took bytes, or had taken all and got more
	overSince time.Duration // while over
	inputAt   time.Duration // while over, its input waits until then
	leftOut   uint64        // Unreliable messages left out since then
	dropped   uint64        // and in all
}

// New returns a daemon that does nothing until Start. It reports everything that is wrong with cfg.
func New(cfg Config, rnd *rand.Rand, now time.Duration) (*Machine, error) {
	cfg = cfg.withDefaults()
	m := &Machine{
		cfg: cfg, rnd: rnd, groups: groups.New(groups.Config{Me: cfg.Me}),
		stores: map[uint64]uint64{}, conns: map[uint64]*conn{}, names: map[string]uint64{}, departed: map[uint64]string{},
	}
	m.stats.Closed = map[session.Reason]uint64{}
	m.cfg.Session.Buffers = &m.pool
	m.sessions = new(m.cfg.Session)
	m.announced, m.mostUnfinished = cutListeners(cfg.Listeners), allUnfinished
	m.arena = session.NewArena(&m.pool)
	o, orderErr := order.New(order.Config{
		Me: cfg.Me, Cluster: cfg.Cluster, Ring: cfg.Ring, Membership: cfg.Membership, LeaveTime: cfg.LeaveTime, Trace: cfg.Trace, Memory: memory{&m.pool},
	}, rnd, now)
	m.order = o
	if err := errors.Join(m.cfg.Session.Validate(), m.cfg.validatePressure(), orderErr); err != nil {
		return nil, err
	}
	return m, nil
}

// memory has the order put large messages together in memory of the pool, so that they can go to clients from where they lie.
type memory struct{ pool *session.Pool }

// Lend implements order.Memory.
func (l memory) Lend(n int) order.Loan {
	if d := l.pool.Draft(n); d != nil {
		return d
	}
	return nil
}

// Start brings the daemon up.
func (m *Machine) Start(now time.Duration, fx *Effects) {
	m.order.Start(now, &m.ofx)
	m.finish(now, forSends, fx)
}

// HandleDatagram handles a datagram of another daemon. b is borrowed, and writable until the call returns; what lies in a room that is
// not nil may be kept there. What it makes deliverable is left to HandUp.
func (m *Machine) HandleDatagram(now time.Duration, from netip.AddrPort, b []byte, room *packet.Room, fx *Effects) {
	m.order.Settle()
	m.order.HandleDatagram(now, from, b, room, &m.ofx)
	if m.ofx.None() && (m.order.More() || m.order.Waits()) {
		m.owing = m.order.More() // nothing but data, the usual case, or behind a gap, and nothing to do for it now
		return
	}
	m.finish(now, always, fx)
}

// HandleStored tells how a store has ended.
func (m *Machine) HandleStored(now time.Duration, id uint64, err error, fx *Effects) {
	m.begin(now, fx)
	seq := m.stores[id]
	delete(m.stores, id)
	m.order.HandleStored(now, id, seq, err, &m.ofx)
	m.finish(now, forSends, fx)
}

// Leave begins an orderly leave, which ends with Effects.Stopped.
func (m *Machine) Leave(now time.Duration, fx *Effects) {
	m.begin(now, fx)
	m.order.Leave(now, &m.ofx)
	m.finish(now, forSends, fx)
}

// Advance handles all timers due at now.
func (m *Machine) Advance(now time.Duration, fx *Effects) {
	m.begin(now, fx)
	if d := m.order.Deadline(); d != 0 && now >= d {
		m.order.Advance(now, &m.ofx)
	}
	m.advanceSessions(now, fx)
	m.finish(now, forSends, fx)
}

// Deadline is when Advance must be called; zero if never.
func (m *Machine) Deadline() time.Duration {
	d := m.order.Deadline()
	if len(m.timers) > 0 && (d == 0 || m.timers[0].at < d) {
		d = m.timers[0].at
	}
	return d
}

// TokenAsked reports whether there is something to say, and whoever holds the token was asked for it and has not given it yet.
func (m *Machine) TokenAsked() bool { return m.order.TokenAsked() }

// TokenNear reports whether what clients say now would only wait for a token that should be here in a moment.
func (m *Machine) TokenNear(now time.Duration) bool { return m.order.TokenNear(now) }

// begin begins an input that must not come between datagrams and what they have made deliverable.
func (m *Machine) begin(now time.Duration, fx *Effects) {
	if m.owing {
		m.owing = false
		m.finish(now, never, fx)
	}
	m.order.Settle()
}

// HandUp goes on with what earlier inputs have made deliverable, and reports whether there was something. The owner calls it until there is
// not, each time after it has done what the Effects before asked for, so that datagrams do not wait for deliveries: the token above all. It
// may handle a few more datagrams first. Every other input but HandleWritten begins with what was left, so its Effects may hold more than it is about.
func (m *Machine) HandUp(now time.Duration, fx *Effects) bool {
	if !m.owing {
		return false
	}
	m.owing = false
	m.finish(now, forSends, fx)
	return true
}

// putOff says when deliveries are left to HandUp.
type putOff uint8

const (
	never    putOff = iota
	forSends        // while Effects has something to send, which goes first
	always
)

// finish carries upwards what the order produced, and downwards what that brought about, until nothing is left or the rest is put off.
func (m *Machine) finish(now time.Duration, when putOff, fx *Effects) {
	for {
		m.rise(now, fx)
		if m.order.More() && (when == always || when == forSends && len(fx.Sends) > 0) {
			m.owing = true
			m.unlist(fx)
			return
		}
		if m.order.HandUp(&m.ofx) {
			continue
		}
		if !m.wake {
			break
		}
		m.wake = false
		m.order.Kick(now, &m.ofx)
	}
	m.order.Throttle(m.blocking() && !m.groups.Exchanging())
	if fx.Stopped && !m.stopped {
		m.stopped = true
		m.farewell(now, fx)
	}
	m.resume(now, fx)
	m.unlist(fx)
}

// unlist lets connections be listed again in the Effects after these.
func (m *Machine) unlist(fx *Effects) {
	for _, id := range fx.Outputs {
		if c := m.conns[id]; c != nil {
			c.listed = false
		}
	}
}

// rise takes the order's effects and carries its events through groups to the clients.
func (m *Machine) rise(now time.Duration, fx *Effects) {
	o := &m.ofx
	for i := range o.Events {
		e := &o.Events[i]
		if e.Kind == order.Deliver && e.Message.Loan != nil {
			m.drafts = append(m.drafts, draft{e.Message.Payload, e.Message.Loan.(*session.Draft)})
		}
		switch {
		case e.Kind == order.Deliver && m.handleAnnounce(m.conf.Members[e.Message.Sender], e.Message.Payload):
		case e.Kind == order.Deliver:
			m.groups.HandleMessage(m.conf.Members[e.Message.Sender], e.Message.Service, e.Message.Payload, &m.gfx)
		case e.Conf.ID.Kind == evs.Transitional:
			m.groups.HandleTransitional(e.Conf, &m.gfx)
		default:
			notePrimary(m.conf, e.Conf, m.order.Membership().Ballot(), fx)
			m.remember(now, m.conf, e.Conf)
			m.conf = e.Conf
			m.forgetDaemons(e.Conf)
			m.groups.HandleRegular(e.Conf, detailOf(m.order.Membership().Causes()), &m.gfx)
			m.stats.Exchanges++
		}
	}
	g := &m.gfx
	for _, s := range g.Submits {
		p, buf := m.order.Begin(order.ControlLane, s.Service)
		m.order.End(p, append(buf, s.Payload...))
		m.wake = true
	}
	if g.Ready && !m.groups.Exchanging() {
		m.announce(false)
		m.order.Open()
		m.wake = true
	}
	for i := range g.Deliveries {
		m.deliver(now, &g.Deliveries[i], fx)
	}
	for _, id := range g.Gone {
		if user, ok := m.departed[id]; ok {
			delete(m.departed, id)
			delete(m.names, user)
		}
	}
	for i := range g.Notes {
		m.groupNote(&g.Notes[i], fx)
	}
	g.Reset()
	clear(m.drafts)
	m.drafts = m.drafts[:0]
	m.tellDaemons(now, fx)

	fx.Sends = append(fx.Sends, o.Sends...)
	fx.Trace = append(fx.Trace, o.Trace...)
	fx.Notes = append(fx.Notes, o.Notes...)
	for _, s := range o.Stores {
		m.stores[s.ID] = s.RingSeq
		fx.Stores = append(fx.Stores, s)
	}
	fx.Stopped = fx.Stopped || o.Stopped
	o.Reset()
}

// groupNote turns a note of the group layer into one for operators.
func (m *Machine) groupNote(n *groups.Note, fx *Effects) {
	note := func(level evs.Level, text string, attrs ...evs.Attr) {
		fx.Notes = append(fx.Notes, evs.Note{Level: level, Text: text, Attrs: attrs})
	}
	switch n.Kind {
	case groups.NoteDrop:
		m.stats.GroupDrops++
		if n.Drop == groups.DropQueueFull {
			panic("node: the queue of a group state exchange overflowed; the stream would have a gap (GRP-16)")
		}
		level := evs.Warn
		if n.Drop == groups.DropStaleState || n.Drop == groups.DropAborted {
			level = evs.Debug // what is left of an exchange that a further change has cut short, at every start for example (P-29)
		}
		note(level, "group message ignored", evs.Attr{Key: "reason", Value: n.Drop.String()}, evs.Attr{Key: "peer", Value: n.Proc.String()})
	case groups.NoteDiverged:
		panic(fmt.Sprintf("node: the group table of %v, which moved with us, is not ours (GRP-2)", n.Proc))
	case groups.NoteAbort:
		// The line of the change itself says more, and every start has such an exchange.
		note(evs.Debug, "group state exchange was cut short by a further change", evs.Attr{Key: "ring", Value: n.Ring.String()})
	case groups.NoteReady:
		note(evs.Debug, "group state is complete", evs.Attr{Key: "ring", Value: n.Ring.String()}, evs.Attr{Key: "groups", Value: n.Count})
	case groups.NoteView:
		note(evs.Debug, "view", evs.Attr{Key: "group", Value: n.Group}, evs.Attr{Key: "reason", Value: n.Cause.String()}, evs.Attr{Key: "session", Value: n.Member}, evs.Attr{Key: "members", Value: n.Count})
	case groups.NoteUnready:
		note(evs.Warn, "a daemon sent clients' messages before its group state was complete", evs.Attr{Key: "peer", Value: n.Proc.String()})
	case groups.NoteExchange:
	}
}

// Configuration is the last regular configuration installed; nil before the first. Groups, Order and Stats are for
// status displays.
func (m *Machine) Configuration() *evs.Configuration { return m.order.Configuration() }

// Groups is the group layer, for queries.
func (m *Machine) Groups() *groups.Machine { return m.groups }

// Order is the ordering layer, for queries.
func (m *Machine) Order() *order.Machine { return m.order }

// Stats returns the counters; its map must not be changed.
func (m *Machine) Stats() Stats {
	s := m.stats
	s.Order = m.order.Stats()
	s.Sessions = len(m.conns)
	s.Pressure = m.pressure
	s.Pressure.Memory, s.Pressure.Blocked = m.pool.LentBytes()-m.arena.Spare(), m.blocking()
	return s
}

// CheckInvariants states what holds between inputs.
func (m *Machine) CheckInvariants() error {
	if err := m.order.CheckInvariants(); err != nil {
		return err
	}
	if err := m.groups.CheckInvariants(); err != nil {
		return err
	}
	for user, id := range m.names {
		c := m.conns[id]
		if (c == nil || c.user != user) && m.departed[id] != user {
			return fmt.Errorf("name %q is taken by session %d, which does not have it (GRP-15)", user, id)
		}
	}
	if err := m.checkPressure(); err != nil {
		return err
	}
	for _, c := range m.conns {
		if err := c.session.CheckInvariants(); err != nil {
			return fmt.Errorf("session %d: %w", c.id, err)
		}
	}
	return nil
}

// timers is a heap of session deadlines; entries may be out of date.
type timers []timer

type timer struct {
	at time.Duration
	id uint64
}

func (t timers) Len() int { return len(t) }
func (t timers) Less(i, j int) bool {
	return t[i].at < t[j].at || t[i].at == t[j].at && t[i].id < t[j].id
}
func (t timers) Swap(i, j int) { t[i], t[j] = t[j], t[i] }
func (t *timers) Push(x any)   { *t = append(*t, x.(timer)) }
func (t *timers) Pop() any     { k := len(*t) - 1; x := (*t)[k]; *t = (*t)[:k]; return x }

// arm makes sure that c's deadline is in the heap.
func (m *Machine) arm(c *conn, at time.Duration) {
	if at != 0 && (c.timer == 0 || at < c.timer) {
		c.timer = at
		heap.Push(&m.timers, timer{at, c.id})
	}
}
