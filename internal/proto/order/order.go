// SPDX-License-Identifier: Apache-2.0

// Package order turns rings and memberships into one stream of messages and configurations: what a daemon delivers,
// with the guarantees EVS-1 to EVS-19. It wires package membership, which agrees on the next ring, to package ring,
// which orders packets on one, and does itself what lies between: cutting messages into packets and putting them
// together again, delivery by service, recovery, and the atomic install of a configuration.
//
// A daemon always has a current ring, of which it delivers. While a change is under way it may have an attempt as well:
// the ring to be, in recovery. Only install changes the current ring.
//
//	state        current ring     attempt      left by
//	operating    operational      none         StepGather
//	gathering    lost             none         StepPromise
//	promised     lost, banned     none         StepRecover, StepGather
//	recovering   lost, banned     recovering   install, StepGather
//
// Banned: after this member has told in the Commit token what it holds of the current ring, packets of that ring that
// arrive directly are ignored (8.4.8, P-15); what the others hold comes again, wrapped.
//
// Reconfigure changes windows, timers and peers in every state, and by itself ends nothing (reconfigure.go). An operator's
// partition, for tests of what programs do, ignores packets where they come in (partition.go).
//
// Sources: Totem (TOCS 1995), sections 5 to 7; Extended Virtual Synchrony (ICDCS 1994), section 3; the step numbers in
// comments are those of docs/guarantees.md, section 8.
package order

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/membership"
	"evensong/internal/proto/packet"
	"evensong/internal/proto/ring"
	"evensong/internal/proto/seq"
)

// Config is what a daemon's order needs to know. Ring and Membership are validated by New; Membership.Me and
// TokenTimeout are taken from here and from Ring.
type Config struct {
	Me         evs.ProcID
	Cluster    string
	Ring       ring.Config
	Membership membership.Config
	LeaveTime  time.Duration // an orderly leave waits this long for its last messages to become stable; default 50 ms
	Trace      bool          // write Effects.Trace, at a cost per message
	Memory     Memory        // where large messages that arrive in part are put together; nil: in memory of the machine
}

// Message is one delivered message. Payload aliases buffers of the machine and is valid until its next input. Sender
// is an index into the members of the ring in which the message was sent, which is the last regular configuration.
type Message struct {
	Sender  int
	Seq     seq.Num
	Index   uint32
	Service evs.Service
	Payload []byte
	Loan    Loan // what Payload ends in, if that was lent by Config.Memory; else nil
}

// EventKind tells events apart.
type EventKind uint8

const (
	// Deliver is a message.
	Deliver EventKind = iota + 1
	// Configured is a new configuration, regular or transitional.
	Configured
)

// Event is something that happens at its place in the order. Messages are of the last regular configuration.
type Event struct {
	Kind    EventKind
	Message Message
	Conf    *evs.Configuration // Configured: the configuration, which must not be changed
}

// Store is a ring sequence number that must be on stable storage; HandleStored answers.
type Store struct {
	ID      uint64
	RingSeq uint64
}

// Effects is filled by inputs and emptied by the caller, who reuses it.
type Effects struct {
	Sends   []packet.Send
	Events  []Event
	Stores  []Store
	Trace   []evs.Trace
	Notes   []evs.Note
	Stopped bool // after Leave: all is said
}

// None reports whether nothing is to be done.
func (e *Effects) None() bool {
	return len(e.Sends)+len(e.Events)+len(e.Stores)+len(e.Trace)+len(e.Notes) == 0 && !e.Stopped
}

// Reset empties e and keeps its memory.
func (e *Effects) Reset() {
	e.Sends, e.Events, e.Stores, e.Trace, e.Notes = e.Sends[:0], e.Events[:0], e.Stores[:0], e.Trace[:0], e.Notes[:0]
	e.Stopped = false
}

// Drop is a reason for ignoring something that came over the network.
type Drop uint8

// The reasons. Each has a counter.
const (
	DropPacket    Drop = iota + 1 // malformed, of another cluster or version, or corrupted
	DropOwn                       // my own packet came back
	DropForeign                   // data or token of a ring that is not mine
	DropBanned                    // packet of the old ring after the promise (8.4.8)
	DropDuplicate                 // data that was here already
	DropToken                     // token that is not the one expected (EVS-20)
	DropFragment                  // piece of a message whose beginning is missing or wrong
	DropWrapped                   // malformed packet inside a recovery message
	DropImpostor                  // body and header name different senders
	DropPartition                 // of a daemon beyond the partition that an operator asked for
	dropEnd
)

// Stats counts what happened since the start.
type Stats struct {
	Drops        [dropEnd]uint64
	Delivered    uint64
	Early        uint64 // Reliable messages handed up ahead of a gap
	Recovered    uint64 // old packets that recovery brought
	BehindHole   uint64 // messages delivered behind a hole, in a transitional configuration
	Withheld     uint64 // messages left out there
	Obligations  uint64 // installs in which the obligation set was larger than the transitional set
	Installs     uint64
	Attempts     uint64
	Rotations    uint64
	Retried      uint64 // retransmissions of packets and tokens
	TokenRepeats uint64 // those of tokens among them
	Sent         uint64 // packets originated
	Received     uint64 // packets of others that were new here
	Packets      uint64 // packets whose messages are all handed up
}

// Machine is the order of one daemon. Methods must not be called concurrently.
type Machine struct {
	cfg        Config
	clusterID  uint64
	sealer     *packet.Sealer
	pool       *ring.Pool
	parts      assemblies
	membership *membership.Machine
	backlog    *backlog
	stats      Stats

	conf       *evs.Configuration // the last regular configuration installed
	at         evs.ConfID         // the configuration in which messages are delivered at the moment
	ring       *ring.Machine      // its ring
	cursor     cursor
	obligation packet.Bits // 8.4.5, as indices into conf.Members
	banned     bool
	next       *attempt
	pace       membership.Pace // by which the rings turn
	nothing    rebroadcast

	more bool // there may be something to hand up: HandUp
	trim bool // a visit has moved the stable line: when all is handed up, packets can go

	leaving      bool
	leaveAt      time.Duration // give up waiting
	said         bool          // membership.Leave was called
	stopped      bool
	lastMine     seq.Num // position of my last packet in the current ring
	sent         uint64  // messages originated, for the trace
	token        packet.Token
	foreignAt    time.Duration // last note about another cluster
	partition    partition     // that an operator asked for
	join         packet.Join   // the last one read
	rfx          ring.Effects
	mfx          membership.Effects
	now          time.Duration
	originations []evs.Trace // of the visit under way
}

// New returns a machine that does nothing until Start. It reports everything that is wrong with cfg.
func New(cfg Config, rnd *rand.Rand, now time.Duration) (*Machine, error) {
	cfg.Ring = cfg.Ring.WithDefaults()
	if err := cfg.Ring.Validate(); err != nil {
		return nil, err
	}
	if cfg.LeaveTime == 0 {
		cfg.LeaveTime = 50 * time.Millisecond
	}
	cfg.Membership.Me = cfg.Me
	cfg.Membership.TokenTimeout = cfg.Ring.TokenTimeout
	m := &Machine{
		cfg:       cfg,
		clusterID: packet.ClusterID(cfg.Cluster),
		sealer:    packet.NewSealer(cfg.Cluster, cfg.Me),
		backlog:   newBacklog(),
		now:       now,
	}
	// Others may send larger packets than this daemon: the usual ones fit a buffer of the pool all the same.
	sizes := []int{max(cfg.Ring.PacketBytes, ring.Config{}.WithDefaults().PacketBytes)}
	if cfg.Ring.Larger > sizes[0] {
		sizes = append(sizes, cfg.Ring.Larger)
	}
	m.pool = ring.NewPool(sizes...)
	var err error
	if m.membership, err = membership.New(cfg.Membership, m.sealer, rnd, now); err != nil {
		return nil, err
	}
	m.pace = m.membership.Pace()
	m.backlog.ended = m.originated
	m.parts.memory = cfg.Memory
	return m, nil
}

// Start brings the daemon up: alone at first.
func (m *Machine) Start(now time.Duration, fx *Effects) {
	m.now = now
	if m.cfg.Trace {
		m.trace(fx, evs.Trace{Kind: evs.TraceStart, Number: m.cfg.Membership.StoredRingSeq})
	}
	m.membership.Start(now, &m.mfx)
	m.finish(now, fx)
}

// Settle lets buffers that were given back be used again. The owner calls it once at the start of each of its own
// inputs, when nothing refers to the effects of the one before.
func (m *Machine) Settle() {
	m.pool.Settle()
	m.parts.settle()
}

// HandleDatagram handles one packet of another daemon. b is borrowed, and writable until the call returns; what lies in a room that is not
// nil may be kept there.
func (m *Machine) HandleDatagram(now time.Duration, from netip.AddrPort, b []byte, room *packet.Room, fx *Effects) {
	m.now = now
	h, body, err := packet.Open(m.clusterID, b)
	switch {
	case err == packet.ErrCluster:
		m.drop(DropPacket)
		m.foreigner(now, from, fx)
		return
	case err != nil:
		m.drop(DropPacket)
		return
	case h.Sender == m.cfg.Me.Inc:
		m.drop(DropOwn)
		return
	case m.partition.on && m.isCutOff(now, &h, body, fx):
		m.drop(DropPartition)
		return
	}
	switch h.Kind {
	case packet.KindData:
		m.handleData(now, b, body, room, fx)
	case packet.KindToken:
		m.handleToken(now, body, fx)
	case packet.KindHurry:
		if hurry, err := packet.ParseHurry(body); err != nil {
			m.drop(DropPacket)
		} else if m.ring != nil && hurry.Ring == m.conf.ID.New && m.ring.HandleHurry(now, int(hurry.Sender)) {
			m.visit(now, m.ring, fx)
		}
	case packet.KindReach, packet.KindSize:
		m.handleQuestion(&h, body, fx)
	case packet.KindJoin, packet.KindProbe:
		j := &m.join
		switch {
		case packet.ReadJoin(body, j) != nil:
			m.drop(DropPacket)
		case j.Procs[0].ID.Inc != h.Sender:
			m.drop(DropImpostor)
		default:
			m.membership.HandleJoin(now, from, h.Kind == packet.KindProbe, j, &m.mfx)
		}
	case packet.KindCommit:
		if c, err := packet.ParseCommit(body); err != nil {
			m.drop(DropPacket)
		} else {
			m.membership.HandleCommit(now, from, c, m.entry(), &m.mfx)
		}
	}
	m.finish(now, fx)
}

// foreignerNote is how often packets of other clusters are worth a note.
const foreignerNote = 10 * time.Second

// foreigner says that somebody with another cluster's name sends here: perhaps a daemon of ours that was misconfigured.
func (m *Machine) foreigner(now time.Duration, from netip.AddrPort, fx *Effects) {
	if m.foreignAt != 0 && now-m.foreignAt < foreignerNote {
		return
	}
	m.foreignAt = max(now, 1)
	fx.Notes = append(fx.Notes, evs.Note{Level: evs.Warn, Text: "packets of another cluster are ignored; if that daemon belongs here, give both the same cluster name", Attrs: []evs.Attr{{Key: "peer", Value: from.String()}}})
}

func (m *Machine) handleData(now time.Duration, b, body []byte, room *packet.Room, fx *Effects) {
	var d packet.Data
	if packet.ParseData(body, &d) != nil {
		m.drop(DropPacket)
		return
	}
	switch {
	case m.next != nil && d.Ring == m.next.conf.ID.New:
		m.membership.HandleToken(now, d.Ring, &m.mfx)
		if !m.next.ring.HandleData(now, &d, b, room) {
			m.drop(DropDuplicate)
			return
		}
		m.stats.Received++
		m.deliver(&m.next.cursor, 0, fx)
	case m.ring != nil && d.Ring == m.conf.ID.New:
		if m.banned {
			m.drop(DropBanned)
			return
		}
		if !m.ring.HandleData(now, &d, b, room) {
			m.drop(DropDuplicate)
			return
		}
		m.stats.Received++
		m.more = m.more || d.Seq <= m.ring.ARU()
		if d.Seq > m.ring.ARU() && m.backlog.open && m.ring.Phase() == ring.Operational && mayBeEarly(d.Pieces) {
			m.deliverEarly(&m.cursor, m.ring.Packet(d.Seq), fx)
		}
	default:
		m.drop(DropForeign)
	}
}

// HandUp hands up a portion of what data and visits have made deliverable, and reports whether there was anything left. The owner
// calls it, each time when nothing refers to the events before, until there is not; datagrams may come in between, all other inputs must
// wait. So what an input has to send is known before anything that it makes deliverable, which may be hundreds of messages, is
// looked at; and put together all at once those would have left the processor's caches when somebody reads them.
func (m *Machine) HandUp(fx *Effects) bool {
	if !m.more {
		return false
	}
	m.parts.settle()
	m.handUp(fx)
	return true
}

// More reports whether HandUp would return true.
func (m *Machine) More() bool { return m.more }

// Waits reports whether packets have come that lie behind one that has not.
func (m *Machine) Waits() bool { return m.ring != nil && m.ring.ARU() < m.ring.High() }

func (m *Machine) handUp(fx *Effects) {
	if m.more = !m.deliverSome(&m.cursor, m.ring.Stable(), fx); !m.more && m.trim {
		m.trim = false
		m.ring.Discard(min(m.cursor.pos, m.ring.Stable()))
	}
}

// handUpAll is HandUp for everything, before something that must come behind it.
func (m *Machine) handUpAll(fx *Effects) {
	for m.more {
		m.handUp(fx)
	}
}

func (m *Machine) handleToken(now time.Duration, body []byte, fx *Effects) {
	t := &m.token
	if packet.ParseToken(body, t) != nil {
		m.drop(DropPacket)
		return
	}
	r := m.ring
	switch {
	case m.next != nil && t.Ring == m.next.conf.ID.New:
		r = m.next.ring
		m.membership.HandleToken(now, t.Ring, &m.mfx)
	case m.ring != nil && t.Ring == m.conf.ID.New:
	default:
		m.drop(DropForeign)
		return
	}
	verdict := r.Accept(now, t)
	if verdict == ring.Dropped {
		m.drop(DropToken)
		m.ringEffects(now, r, fx)
		return
	}
	if m.cfg.Trace {
		m.trace(fx, evs.Trace{Kind: evs.TraceToken, Conf: evs.RegularID(r.ID()), Number: t.TokenSeq})
	}
	m.accepted(now, r, verdict, fx)
}

// accepted goes on with a token that ring r has accepted.
func (m *Machine) accepted(now time.Duration, r *ring.Machine, verdict ring.Verdict, fx *Effects) {
	switch verdict {
	case ring.AcceptedInstall:
		m.install(now, fx)
		m.visit(now, r, fx)
	case ring.Accepted:
		m.visit(now, r, fx)
	case ring.Held:
		m.deliver(&m.cursor, r.Stable(), fx)
		if m.backlog.Pending() > 0 && r.Wake(now, &m.rfx) {
			m.visit(now, r, fx)
		}
	}
}

// visit lets ring r, which has the token, do its part. What has become deliverable by it is handed up at once if the token stays, and
// else by HandUp.
func (m *Machine) visit(now time.Duration, r *ring.Machine, fx *Effects) {
	// A ring of one has its token back at once; after a few rounds other inputs get their turn.
	for round := 1; ; round++ {
		var src ring.Source = m.backlog
		switch {
		case m.next != nil && r == m.next.ring:
			src = &m.next.source
		case m.said:
			src = &m.nothing
		}
		r.Visit(now, src, &m.rfx)
		fx.Trace = append(fx.Trace, m.originations...)
		m.originations = m.originations[:0]
		m.ringEffects(now, r, fx)
		if m.next != nil && r == m.next.ring {
			if r.Promised() {
				m.promise()
			}
			m.deliver(&m.next.cursor, 0, fx)
			r.Discard(min(m.next.cursor.pos, r.Stable())) // everybody has unwrapped these; there may be more than a ring stores
		} else if r == m.ring {
			if r.Away() { // and goes before what it has made deliverable
				m.more, m.trim = true, true
				if r.Quiet() {
					m.membership.Awake(now, &m.mfx)
				}
				return
			}
			m.deliver(&m.cursor, r.Stable(), fx)
			r.Discard(min(m.cursor.pos, r.Stable()))
			if m.cursor.pos < r.ARU() && r.Release() {
				continue // a Safe message waits for the token to come round
			}
		}
		if round == 8 || !r.Passing() || !m.pass(now, r, fx) {
			return
		}
	}
}

// pass takes the token of a ring of one back and reports whether it wants a visit.
func (m *Machine) pass(now time.Duration, r *ring.Machine, fx *Effects) bool {
	if !r.Pass(now) {
		return false
	}
	switch r.PassVerdict(now) {
	case ring.AcceptedInstall:
		m.install(now, fx)
		return true
	case ring.Accepted:
		return true
	}
	m.deliver(&m.cursor, r.Stable(), fx)
	return m.backlog.Pending() > 0 && r.Wake(now, &m.rfx)
}

// ringEffects takes over what ring r wants done.
func (m *Machine) ringEffects(now time.Duration, r *ring.Machine, fx *Effects) {
	e := &m.rfx
	fx.Sends = append(fx.Sends, e.Sends...)
	m.stats.Retried += uint64(e.Retried)
	m.stats.TokenRepeats += uint64(e.Repeats)
	m.stats.Sent += uint64(e.Sent)
	m.stats.Rotations += uint64(e.Released)
	lost, suspect, reach := e.Lost, e.Suspect, e.Reach
	*e = ring.Effects{Sends: e.Sends[:0]}
	if lost == 0 && reach == 0 {
		return
	}
	members := m.conf.Members
	if m.next != nil && r == m.next.ring {
		members = m.next.conf.Members
	}
	if reach != 0 {
		noteReach(reach, r.Group(), members, fx)
	}
	if lost == 0 {
		return
	}
	if m.cfg.Trace {
		m.trace(fx, evs.Trace{Kind: evs.TraceTokenLost, Conf: evs.RegularID(r.ID())})
	}
	switch lost {
	case ring.MemberCannotReceive:
		m.membership.Suspect(now, members[suspect], membership.ReasonFailedToReceive, &m.mfx)
	case ring.CannotReceive:
		// Alone in the next configuration: with the others it would fail them again.
		m.membership.Suspect(now, m.cfg.Me, membership.ReasonFailedToReceive, &m.mfx)
	default:
		m.membership.HandleTokenLost(now, membership.ReasonTokenLost, &m.mfx)
	}
}

// finish carries out what membership has decided. Its steps can make it decide more.
func (m *Machine) finish(now time.Duration, fx *Effects) {
	for {
		e := m.mfx
		m.mfx = membership.Effects{}
		if len(e.Sends)+len(e.Stores)+len(e.Steps)+len(e.Notes) == 0 {
			break
		}
		if len(e.Steps) > 0 {
			m.handUpAll(fx) // in the configuration that it belongs to
		}
		fx.Sends = append(fx.Sends, e.Sends...)
		for _, s := range e.Stores {
			fx.Stores = append(fx.Stores, Store{ID: s.ID, RingSeq: s.RingSeq})
		}
		for i := range e.Notes {
			m.note(&e.Notes[i], fx)
		}
		for i := range e.Steps {
			m.step(now, &e.Steps[i], fx)
		}
	}
	if p := m.membership.Pace(); p != m.pace {
		m.pace = p
		m.applyRing(now)
	}
	m.maybeLeave(now, fx)
}

func (m *Machine) step(now time.Duration, s *membership.Step, fx *Effects) {
	switch s.Kind {
	case membership.StepSingleton:
		m.singleton(now, s.Ring, s.Primary, fx)
	case membership.StepGather:
		m.abandon()
		m.ring.GiveUp()
	case membership.StepCommit:
		m.membership.HandleCommit(now, netip.AddrPort{}, s.Commit, m.entry(), &m.mfx)
	case membership.StepPromise:
		m.banned = true
	case membership.StepRecover:
		m.stats.Attempts++
		m.abandon()
		m.banned = true
		m.recover(now, s, fx)
	default:
		panic(fmt.Sprintf("order: unknown step %d", s.Kind))
	}
}

// abandon ends the attempt, if there is one: everything of its ring is dropped, the old ring's data stay, and so does
// the obligation. 8.4.7.
func (m *Machine) abandon() {
	m.banned = false
	if m.next != nil {
		m.next.ring.Drop()
		m.next = nil
	}
}

// singleton installs the first configuration of this incarnation. EVS-18.
func (m *Machine) singleton(now time.Duration, id evs.RingID, primary evs.Primary, fx *Effects) {
	m.conf = &evs.Configuration{ID: evs.RegularID(id), Members: []evs.ProcID{m.cfg.Me}, Origins: []evs.RingID{{}}, Primary: primary}
	m.ring = ring.New(m.ringConfig(), id, m.conf.Members, []netip.AddrPort{{}}, 0, false, m.sealer, m.pool, now)
	m.cursor = newCursor(m.ring, 1)
	m.cursor.mem = &m.parts
	m.obligation = packet.MakeBits(1)
	m.obligation.Set(0)
	m.ring.Operational()
	m.configure(m.conf, fx)
	m.ring.Start(now)
	m.visit(now, m.ring, fx)
}

// configure hands up a configuration.
func (m *Machine) configure(c *evs.Configuration, fx *Effects) {
	m.at = c.ID
	if c.ID.Kind == evs.Regular {
		m.stats.Installs++
		m.lastMine = 0
	}
	fx.Events = append(fx.Events, Event{Kind: Configured, Conf: c})
	if m.cfg.Trace {
		m.trace(fx, evs.Trace{Kind: evs.TraceConf, Conf: c.ID, Members: c.Members, Origins: c.Origins, Primary: c.Primary})
	}
}

// entry is what this member says of its current ring in a Commit token.
func (m *Machine) entry() packet.CommitEntry {
	if m.ring == nil {
		return packet.CommitEntry{}
	}
	return packet.CommitEntry{
		OldRing:    m.conf.ID.New,
		OldARU:     uint64(m.ring.ARU()),
		OldHigh:    uint64(m.ring.High()),
		OldStable:  uint64(m.ring.Stable()),
		Obligation: append(packet.Bits(nil), m.obligation...),
	}
}

// HandleStored tells that a store has ended.
func (m *Machine) HandleStored(now time.Duration, id uint64, ringSeq uint64, err error, fx *Effects) {
	m.now = now
	if err == nil && m.cfg.Trace {
		m.trace(fx, evs.Trace{Kind: evs.TraceStore, Number: ringSeq})
	}
	m.membership.HandleStored(now, id, err, &m.mfx)
	m.finish(now, fx)
}

// Advance handles all timers due at now.
func (m *Machine) Advance(now time.Duration, fx *Effects) {
	m.now = now
	if m.next != nil {
		r := m.next.ring
		if r.Advance(now, &m.rfx) {
			m.visit(now, r, fx)
		}
		m.ringEffects(now, r, fx)
		if m.next != nil && r.Passing() && m.pass(now, r, fx) {
			m.visit(now, r, fx)
		}
	} else if m.ring != nil {
		r := m.ring
		if r.Advance(now, &m.rfx) {
			m.visit(now, r, fx)
		}
		m.ringEffects(now, r, fx)
		if r.Passing() && m.pass(now, r, fx) {
			m.visit(now, r, fx)
		}
	}
	m.finish(now, fx)
	if d := m.membership.Deadline(); d != 0 && now >= d {
		m.membership.Advance(now, &m.mfx)
	}
	m.finish(now, fx)
}

// Deadline is when Advance must be called; zero if never.
func (m *Machine) Deadline() time.Duration {
	d := m.membership.Deadline()
	add := func(t time.Duration) {
		if t != 0 && (d == 0 || t < d) {
			d = t
		}
	}
	for _, r := range [...]*ring.Machine{m.ring, m.nextRing()} {
		if r == nil {
			continue
		}
		if r.Passing() {
			add(max(m.now, 1))
		}
		add(r.Deadline())
	}
	if m.leaving && !m.said {
		add(m.leaveAt)
	}
	return d
}

// TokenAsked reports whether whoever holds the ring's token was asked for it, and has not given it yet.
func (m *Machine) TokenAsked() bool { return m.ring != nil && m.next == nil && m.ring.Asked() }

// TokenNear reports whether the ring's token should be here in a moment, so that what is submitted before it comes is as good as
// what is submitted now.
func (m *Machine) TokenNear(now time.Duration) bool {
	return m.ring != nil && m.next == nil && m.ring.TokenNear(now)
}

func (m *Machine) nextRing() *ring.Machine {
	if m.next == nil {
		return nil
	}
	return m.next.ring
}

func (m *Machine) drop(d Drop) { m.stats.Drops[d]++ }
