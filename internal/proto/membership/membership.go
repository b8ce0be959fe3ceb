// SPDX-License-Identifier: Apache-2.0

package membership

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"evensong/internal/proto/evs"
	"evensong/internal/proto/packet"
)

// Fixed numbers of the protocol.
const (
	crowdAt     = 16 // daemons beyond which intervals stretch
	longProbes  = 6  // probe intervals of silence that mean deafness: at 10 % loss one in a million
	vetoAfter   = 2  // failures with one membership after which the link that failed is not used for a while
	changeAfter = 6  // failures after which everybody gives up a link, so that the next attempt differs
	reviveAfter = 3  // words of an incarnation believed dead, while its successor is silent, that bring it back
	goodbyes    = 3  // Joins that say good-bye
	// goodbyeInterval is the longest time between two of them: they need no answer, and an exit does not take as long as timers
	// for slow networks would have it.
	goodbyeInterval = 10 * time.Millisecond
	maxNamesakes    = 16  // incarnations with my name that are remembered as reported
	deadMemory      = 240 // token timeouts for which a replaced incarnation is remembered
	forgiveAfter    = 32  // token timeouts in one configuration that clear a daemon's back-off
	maxBackoffSteps = 16  // doublings, far above what the back-off's maximum allows
)

// Machine agrees on configurations. Methods must not be called concurrently.
type Machine struct {
	cfg    Config
	sealer *packet.Sealer
	rnd    *rand.Rand
	state  State

	// Where we are. ring is zero until the first configuration; known is never below ring.Seq and only grows.
	ring     evs.RingID    // installed last
	confSet  set           // members of the configuration installed last
	prevConf set           // members of the one before
	prevRing evs.RingID    // its ring
	known    uint64        // highest ring sequence promised to or stored: a number once attempted counts (EVS-8)
	stored   uint64        // highest ring sequence on stable storage
	storeID  uint64        // number of the last Store
	stores   []Store       // under way
	since    time.Duration // when the configuration was installed

	// Who there is.
	rows      []*row                   // by slot, nil: free; 0 is me
	byInc     map[evs.Incarnation]*row // every row
	order     []int                    // slots in ProcID order
	ownAddrs  []netip.AddrPort         // configured addresses that turned out to be mine
	namesakes []evs.Incarnation        // other daemons with my name, reported
	crowd     int                      // daemons alive at the last tick, at least crowdAt
	pace      Pace                     // token timeouts among them

	// Gather.
	core       set           // whom we were with, or meant to be with, when the gather began
	expected   set           // candidates until settled: core and newcomers
	proposal   set           // what I would agree to; contains me
	sought     set           // all who were expected or proposed in this gather or attempt
	settled    bool          // the consensus timer has run out: who gathers now is a candidate, nobody else
	courtUntil time.Duration // until then a settled proposal gives way to a configuration that could take us in
	hold       bool          // first gather of this incarnation: wait for the configured peers
	refusing   bool          // a stable write failed: in no ring until the limit timer
	cause      Reason        // why the last configuration was left, as it seemed then
	causedBy   evs.ProcID    // and because of whom, if of somebody
	told       []Cause       // why it was left, as it turned out, for people
	deaf       set           // who was suspected because it cannot receive, since the last configuration
	isolated   bool          // I am the one who fails: alone in the next configuration
	gatheredAt time.Duration // when the gather began
	agreedAt   time.Duration // since when all agree and the Commit token is waited for; never: not agreed

	said       verdict    // what I said of my configuration
	votes      []Vote     // and the others; replaced, never changed
	pastVoters [][]string // lists of voters that count besides that of the configuration (primary.go)

	attempt     *attempt // set in Commit and Recover
	lastFailed  set      // membership of the last attempt that failed
	failedTimes int      // how often in sequence

	missedIn evs.RingID    // the configuration for which it was noted who is missing
	missed   []string      // who was missing then
	listedAt time.Duration // when I came to know the list of those who can be

	apart []apart // pairs of members out of reach of each other

	// Timers; zero: not set.
	limitAt time.Duration // what limits the state
	tickAt  time.Duration // the next periodic packet
	soonAt  time.Duration // a packet that is wanted at once but would follow the last one too closely
	probeAt time.Duration // in Commit and Recover: the next probe
	sentAt  time.Duration // when the last Join or probe to all went out
	byes    int           // good-byes still to send

	slotScratch   []int
	addrScratch   map[netip.AddrPort]struct{}
	mutualScratch [maxRows]set
}

// apart is a pair of members, by slot, that have not been mutual since then.
type apart struct {
	a, b  int
	since time.Duration
}

// New returns a machine that does nothing until Start. It owns sealer and rnd from now on, as far as its owner lends
// them: the sealer may be shared with other machines of the same loop. now is the time since the daemon's start.
func New(cfg Config, sealer *packet.Sealer, rnd *rand.Rand, now time.Duration) (*Machine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.WithDefaults()
	cfg.own()
	me := &row{mine: true, unlistedAt: never, id: cfg.Me, rowAt: now, heardAt: now, spokeAt: now, admittedAt: never, version: 1}
	return &Machine{
		cfg: cfg, sealer: sealer, rnd: rnd, state: StateStarting,
		known: cfg.StoredRingSeq, stored: cfg.StoredRingSeq,
		rows: []*row{me}, byInc: map[evs.Incarnation]*row{cfg.Me.Inc: me}, order: []int{0}, crowd: crowdAt,
		pace:     Pace{cfg.TokenTimeout, cfg.TokenTimeout},
		agreedAt: never, sentAt: never, addrScratch: map[netip.AddrPort]struct{}{},
	}, nil
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// Start begins: the stored number plus one is stored, then the ring of one installed, then others are looked for
// (8.3, start or restart). Call it once.
func (m *Machine) Start(now time.Duration, fx *Effects) {
	if m.ring.Seq != 0 || len(m.stores) != 0 {
		panic("membership: started twice")
	}
	m.known++
	m.cause, m.told = ReasonStart, []Cause{{Reason: ReasonStart}}
	m.store(now, fx)
}

// store makes m.known stable, and some numbers ahead, and goes on once it is; at once if it is already.
func (m *Machine) store(now time.Duration, fx *Effects) {
	if !m.cfg.Stable {
		m.stored = m.known
		m.afterStore(now, fx)
		return
	}
	m.storeAhead(fx)
	if m.stored >= m.known {
		m.afterStore(now, fx)
	}
}

// storeAhead begins a write when half of the numbers stored ahead are used up, unless one that is enough is under way.
func (m *Machine) storeAhead(fx *Effects) {
	ahead := uint64(m.cfg.StoreAhead)
	enough := m.known + ahead/2
	if m.stored >= enough || slices.ContainsFunc(m.stores, func(s Store) bool { return s.RingSeq >= enough }) {
		return
	}
	m.storeID++
	s := Store{ID: m.storeID, RingSeq: m.known + ahead}
	m.stores = append(m.stores, s)
	fx.Stores = append(fx.Stores, s)
}

// HandleStored is the outcome of the Store with this id. After an error the ring in question is refused (EVS-8: a
// number that is not stable must not be installed), the others are told, and it is tried again later.
func (m *Machine) HandleStored(now time.Duration, id uint64, err error, fx *Effects) {
	i := slices.IndexFunc(m.stores, func(s Store) bool { return s.ID == id })
	if i < 0 {
		panic(fmt.Sprintf("membership: outcome of unknown store %d", id))
	}
	s := m.stores[i]
	m.stores = slices.Delete(m.stores, i, i+1)
	if err == nil {
		m.stored = max(m.stored, s.RingSeq)
		m.afterStore(now, fx)
		return
	}
	fx.Notes = append(fx.Notes, Note{Kind: NoteStoreFailed, Reason: ReasonStoreFailed, Ring: evs.RingID{Seq: s.RingSeq}, Err: err})
	switch m.state {
	case StateStarting:
		m.limitAt = now + m.cfg.StoreRetry
	case StateCommit:
		if m.stored < m.attempt.ring.Seq && !slices.ContainsFunc(m.stores, func(s Store) bool { return s.RingSeq >= m.attempt.ring.Seq }) {
			m.refusing = true
			m.enterGather(now, ReasonStoreFailed, evs.ProcID{}, set{}, nil, fx)
		}
	case StateGather, StateRecover, StateOperational, StateLeaving, StateLeft:
		// No ring waits for it. The next one asks again.
	default:
		panic("membership: unknown state")
	}
}

func (m *Machine) afterStore(now time.Duration, fx *Effects) {
	switch m.state {
	case StateStarting:
		if m.stored >= m.known && m.ring.Seq == 0 {
			m.ring = evs.RingID{Seq: m.known, Rep: m.cfg.Me.Inc}
			m.confSet.add(0)
			m.since = now
			m.said = m.judge([]evs.ProcID{m.cfg.Me})
			alone := []packet.CommitEntry{{Rule: m.said.rule, Vouches: m.said.vouches}}
			fx.Steps = append(fx.Steps, Step{Kind: StepSingleton, Ring: m.ring, Primary: primaryOf(alone)})
			m.hold = len(m.cfg.Peers) > 0
			m.enterGather(now, ReasonStart, evs.ProcID{}, set{}, nil, fx)
		}
	case StateCommit:
		m.maybeForward(now, fx)
	case StateGather, StateRecover, StateOperational, StateLeaving, StateLeft:
	default:
		panic("membership: unknown state")
	}
}

// HandleJoin takes a Join, or a probe, that came from an address. The caller has checked that the packet's outer
// sender is j.Procs[0]. Nothing of j is kept.
func (m *Machine) HandleJoin(now time.Duration, from netip.AddrPort, probe bool, j *packet.Join, fx *Effects) {
	from = unmap(from)
	self := &j.Procs[0]
	if self.ID.Inc == m.cfg.Me.Inc {
		if !slices.Contains(m.ownAddrs, from) && slices.Contains(m.cfg.Peers, from) {
			m.ownAddrs = append(m.ownAddrs, from)
		}
		m.drop(ReasonOwn, self.ID, fx)
		return
	}
	if m.state == StateLeaving || m.state == StateLeft {
		m.drop(ReasonWrongState, self.ID, fx)
		return
	}
	r := m.admitRow(now, self.ID, true, fx)
	if r == nil {
		return
	}
	if self.Version <= r.directVersion {
		m.drop(ReasonStale, self.ID, fx)
		return
	}
	r.directVersion = self.Version
	if r.dead && !m.mayRevive(now, r) {
		m.drop(ReasonDeadSender, self.ID, fx)
		return
	}
	m.refreshSelf(now)
	before := m.rows[0].heard
	if now-r.spokeAt > m.windowOf(r) {
		r.backoffUntil, r.vetoUntil, r.backoffStep = 0, 0, 0 // a link that was away is another link
	}
	r.heardAt, r.spokeAt = now, now
	r.addr, r.addrDirect = from, true

	slots := make([]int, len(j.Procs))
	for i := range j.Procs {
		p := &j.Procs[i]
		slots[i] = -1
		switch {
		case i == 0:
			slots[i] = r.slot
		case p.ID == m.cfg.Me:
			slots[i] = 0
		default:
			if q := m.admitRow(now, p.ID, false, fx); q != nil {
				slots[i] = q.slot
				if !q.addrDirect && p.Addr.IsValid() && p.Addr.Port() != 0 {
					q.addr = unmap(p.Addr)
				}
			}
		}
	}
	newest := self.Version >= r.version
	m.take(now, r, self, slots)
	for i := 1; i < len(j.Procs); i++ {
		if s := slots[i]; s > 0 {
			m.take(now, m.rows[s], &j.Procs[i], slots)
		}
	}
	if newest && !probe && j.State == packet.StateGather {
		r.proposal, r.proposed = set{}, true
		for i, s := range slots {
			if j.Proposal.Has(i) {
				if s < 0 {
					r.proposed = false // it names somebody who cannot be in a ring with me
					break
				}
				r.proposal.add(s)
			}
		}
	}
	m.compare(r, j, fx)
	m.takeLists(r, j, slots)
	m.refreshSelf(now)
	m.noteLists(r, j, slots, fx)
	m.review(now, r, m.rows[0].heard != before, fx)
}

// mayRevive counts the words of an incarnation believed dead. If it goes on speaking while the one that replaced it is
// silent, it is the living one, and what we took for its successor was an old packet.
func (m *Machine) mayRevive(now time.Duration, r *row) bool {
	r.lateWords++
	alive := m.namesake(r.id)
	if alive == nil {
		r.dead = false
		return true
	}
	if r.lateWords < reviveAfter || now-alive.spokeAt <= m.windowOf(alive) {
		return false
	}
	m.replace(alive)
	r.dead = false
	return true
}

// compare notes in what a peer's parameters differ: once until one side changes them, which a reload does.
func (m *Machine) compare(r *row, j *packet.Join, fx *Effects) {
	timeout, variant := j.TokenTimeout != m.timeoutMillis(), j.Accelerated != m.cfg.Accelerated
	if timeout && !r.toldTimeout {
		fx.Notes = append(fx.Notes, Note{Kind: NoteTimeoutDiffers, Peer: r.id})
	}
	if variant && !r.toldVariant {
		fx.Notes = append(fx.Notes, Note{Kind: NoteVariantDiffers, Peer: r.id})
	}
	r.toldTimeout, r.toldVariant = timeout, variant
	if len(j.Facts) == 0 || len(m.cfg.Facts) == 0 {
		return
	}
	switch same := bytes.Equal(j.Facts, m.cfg.Facts); {
	case same && r.toldFacts != nil:
		r.toldFacts = nil
		fx.Notes = append(fx.Notes, Note{Kind: NoteFactsAgree, Peer: r.id})
	case !same && (r.tellFacts || !bytes.Equal(j.Facts, r.toldFacts)):
		r.toldFacts = bytes.Clone(j.Facts)
		fx.Notes = append(fx.Notes, Note{Kind: NoteFactsDiffer, Peer: r.id, Facts: r.toldFacts})
	}
	r.tellFacts = false
}

// review reacts to what a packet of r has changed in the table.
func (m *Machine) review(now time.Duration, r *row, hearing bool, fx *Effects) {
	switch m.state {
	case StateStarting, StateLeaving, StateLeft:
	case StateGather:
		m.widen(r)
		m.propose(now, fx)
	case StateCommit, StateRecover:
		if who, why := m.lostMember(m.attempt.set, m.attempt.ring.Seq); why != reasonNone {
			m.enterGather(now, why, who.id, set{}, r, fx)
			return
		}
		// The representative had r's consent, so this is a later Join: r will not take the Commit token. Others may get r's
		// Joins out of order and cannot tell.
		if a := m.attempt; m.state == StateCommit && a.me == 0 && !a.second && a.set.has(r.slot) && r.proposed && r.proposal != a.set {
			m.enterGather(now, ReasonChangedMind, r.id, m.invited(r), r, fx)
		}
	case StateOperational:
		if who, why := m.lostMember(m.confSet, m.ring.Seq); why != reasonNone {
			m.enterGather(now, why, who.id, m.invited(r), r, fx)
			return
		}
		if m.maybeMerge(now, r, fx) {
			return
		}
		if hearing {
			// Others need to know whom I hear before they can tell that we are mutual.
			m.sendSoon(now, m.scaled(m.cfg.ProbeInterval)/8, fx)
		}
	default:
		panic("membership: unknown state")
	}
}

// lostMember finds a member of c, other than me, that is known not to be in the ring numbered ringSeq, or never to be.
// The rule of the package doc makes this independent of how late the news is.
func (m *Machine) lostMember(c set, ringSeq uint64) (*row, Reason) {
	for _, s := range m.order {
		if s == 0 || !c.has(s) {
			continue
		}
		r := m.rows[s]
		switch {
		case r.dead:
			return r, ReasonRestarted
		case r.state == packet.StateLeaving:
			return r, ReasonMemberLeaving
		case r.state == packet.StateGather && r.ringSeq >= ringSeq, r.ring.Seq > ringSeq:
			return r, ReasonMemberLeft
		}
	}
	return nil, reasonNone
}

// HandleTokenLost: the ring, operational or recovering, has lost its token or given up recovery.
func (m *Machine) HandleTokenLost(now time.Duration, reason Reason, fx *Effects) {
	if m.state == StateOperational || m.state == StateRecover {
		m.enterGather(now, reason, evs.ProcID{}, set{}, nil, fx)
	}
}

// Suspect puts a member out of the next attempts, until its back-off is over: it did not receive what the others have.
// Suspecting myself makes me alone in the next configuration (8.3, failure to receive).
func (m *Machine) Suspect(now time.Duration, who evs.ProcID, reason Reason, fx *Effects) {
	if m.state == StateStarting || m.state == StateLeaving || m.state == StateLeft {
		return
	}
	if who == m.cfg.Me {
		m.isolated = true
	} else {
		r := m.lookup(who.Inc)
		if r == nil {
			return
		}
		m.raiseBackoff(now, r)
		r.vetoUntil = r.backoffUntil
		if reason == ReasonFailedToReceive {
			m.deaf.add(r.slot)
		}
	}
	fx.Notes = append(fx.Notes, Note{Kind: NoteSuspect, Reason: reason, Peer: who})
	if m.state == StateGather {
		m.propose(now, fx)
		return
	}
	m.enterGather(now, reason, who, set{}, nil, fx)
}

// HandleToken: a token or data of the ring has come after the Commit token's second rotation, so that went through.
func (m *Machine) HandleToken(now time.Duration, ring evs.RingID, fx *Effects) {
	if m.state == StateRecover && m.attempt.ring == ring {
		m.attempt.through, m.attempt.heardOf = true, true
	}
}

// HandleInstalled: recovery ended and conf is installed. conf is not kept.
func (m *Machine) HandleInstalled(now time.Duration, conf *evs.Configuration, fx *Effects) {
	if m.state == StateLeaving || m.state == StateLeft {
		return
	}
	if m.state != StateRecover || m.attempt.ring != conf.ID.New {
		panic(fmt.Sprintf("membership: %v installed in state %v", conf.ID, m.state))
	}
	members, ok := m.setOf(conf.Members)
	if !ok || members != m.attempt.set {
		panic("membership: installed configuration is not the agreed one")
	}
	m.prevConf, m.prevRing = m.confSet, m.ring
	gone := m.prevConf.minus(members)
	m.told, m.deaf = m.causes(now, members), set{}
	m.ring, m.confSet, m.since = conf.ID.New, members, now
	for _, s := range m.order {
		r := m.rows[s]
		if s == 0 {
			continue
		}
		if members.has(s) {
			if !m.prevConf.has(s) {
				r.admittedAt = now
			}
			continue
		}
		if r.usable() && (m.sought.has(s) || gone.has(s) && r.spokeAt >= m.gatheredAt) {
			// It was sought in vain, or speaks, and yet the ring could not have it. For a member that is gone silence is no
			// reason for a back-off: it ends by a new situation.
			if r.admittedAt != never && now-r.admittedAt > forgiveAfter*m.cfg.TokenTimeout {
				r.backoffStep = 0
			}
			if r.backoffStep == 0 {
				r.backoffStep = 1 // once is chance
			} else {
				m.raiseBackoff(now, r)
			}
		}
		// What was heard before counts no more: a merge needs news from after the change.
		r.heardAt = never
	}
	fx.Notes = append(fx.Notes, Note{Kind: NoteInstalled, Ring: m.ring, Members: slices.Clone(conf.Members), Gone: m.ids(gone), Causes: m.told})
	m.entered(m.attempt.token.Entries, verdict{m.attempt.mine.Rule, m.attempt.mine.Vouches})
	m.attempt, m.lastFailed, m.failedTimes = nil, set{}, 0
	m.isolated, m.hold = false, false
	m.expected, m.proposal, m.sought, m.apart = set{}, set{}, set{}, nil
	m.transition(now, StateOperational, ReasonInstalled, evs.ProcID{}, fx)
	m.tickAt = now + m.jitter(m.scaled(m.cfg.ProbeInterval))
	m.sendSoon(now, 0, fx)
}

func (m *Machine) raiseBackoff(now time.Duration, r *row) {
	d := m.cfg.BackoffMin << min(r.backoffStep, maxBackoffSteps)
	r.backoffUntil = now + m.jitter(min(d, m.cfg.BackoffMax))
	r.backoffStep++
}

// Leave says good-bye to everybody, a few times, and is done when State is StateLeft. Order has said all it
// had to say; it goes on passing the token until the process stops.
func (m *Machine) Leave(now time.Duration, fx *Effects) {
	if m.state == StateLeaving || m.state == StateLeft {
		return
	}
	m.attempt = nil
	m.transition(now, StateLeaving, ReasonLeave, evs.ProcID{}, fx)
	m.byes = goodbyes
	m.tickLeaving(now, fx)
}

func (m *Machine) tickLeaving(now time.Duration, fx *Effects) {
	if m.byes == 0 {
		m.transition(now, StateLeft, ReasonSaidGoodbye, evs.ProcID{}, fx)
		return
	}
	m.byes--
	m.sendRows(now, packet.KindJoin, nil, fx)
	m.tickAt = now + min(m.brisk(m.cfg.JoinInterval), goodbyeInterval)
}

// Advance runs every timer that is due at now.
func (m *Machine) Advance(now time.Duration, fx *Effects) {
	if m.limitAt != 0 && now >= m.limitAt {
		m.limitAt = 0
		switch m.state {
		case StateStarting:
			m.store(now, fx)
		case StateGather:
			if m.refusing {
				m.refusing = false
				m.beginGather(now, m.confSet, nil, fx)
			} else {
				m.settled, m.courtUntil = true, now+m.commitTimeout(m.core.len())
				m.propose(now, fx)
			}
		case StateCommit:
			m.enterGather(now, ReasonCommitTimeout, evs.ProcID{}, set{}, nil, fx)
		case StateRecover:
			m.enterGather(now, ReasonRecoverTimeout, evs.ProcID{}, set{}, nil, fx)
		case StateOperational, StateLeaving, StateLeft:
		default:
			panic("membership: unknown state")
		}
	}
	if m.soonAt != 0 && now >= m.soonAt {
		m.sendNow(now, fx)
	}
	if m.tickAt != 0 && now >= m.tickAt {
		m.takeCensus(now)
		switch m.state {
		case StateGather:
			m.tickGather(now, fx)
		case StateCommit, StateRecover:
			m.tickForming(now, fx)
		case StateOperational:
			m.tickOperational(now, fx)
		case StateLeaving:
			m.tickLeaving(now, fx)
		case StateStarting, StateLeft:
			m.tickAt = 0
		default:
			panic("membership: unknown state")
		}
	}
}

// Deadline is when Advance must be called next; zero if never.
func (m *Machine) Deadline() time.Duration {
	var d time.Duration
	for _, t := range [...]time.Duration{m.limitAt, m.tickAt, m.soonAt} {
		if t != 0 && (d == 0 || t < d) {
			d = t
		}
	}
	return d
}

// State is what the machine is doing.
func (m *Machine) State() State { return m.state }

// RingSeq is the highest ring sequence known, attempted numbers included.
func (m *Machine) RingSeq() uint64 { return m.known }

// sendSoon sends a Join or probe to all, now or when the last one is gap ago.
func (m *Machine) sendSoon(now, gap time.Duration, fx *Effects) {
	if now-m.sentAt >= gap {
		m.sendNow(now, fx)
		return
	}
	if at := m.sentAt + gap; m.soonAt == 0 || at < m.soonAt {
		m.soonAt = at
	}
}

// sendNow sends what the state says: a Join while gathering, else a probe.
func (m *Machine) sendNow(now time.Duration, fx *Effects) {
	m.soonAt, m.sentAt = 0, now
	kind := packet.KindProbe
	if m.state == StateGather {
		kind = packet.KindJoin
	}
	m.sendRows(now, kind, nil, fx)
}

// takeCensus counts who is alive, for the stretching of intervals.
func (m *Machine) takeCensus(now time.Duration) {
	n := 1
	for _, s := range m.order {
		if r := m.rows[s]; s != 0 && r.usable() && now-r.rowAt <= m.windowOf(r) {
			n++
		}
	}
	m.crowd = max(n, crowdAt)
	m.keepPace(now)
	m.forgetTheDead(now)
}

func (m *Machine) scaled(d time.Duration) time.Duration {
	return d * time.Duration(m.crowd) / crowdAt
}

// windowOf is how long r, which sends probes, may be silent and still count as heard: by its pace if that is slower.
func (m *Machine) windowOf(r *row) time.Duration {
	return longProbes * m.scaled(max(m.cfg.ProbeInterval, min(r.probe, maxStretch*m.cfg.ProbeInterval)))
}

// gatherWindow is the same for all who send Joins.
func (m *Machine) gatherWindow() time.Duration { return m.patient(m.scaled(m.cfg.ConsensusTimeout)) }

// jitter spreads d by a quarter to both sides, so that daemons do not fall into step.
func (m *Machine) jitter(d time.Duration) time.Duration {
	return d - d/4 + time.Duration(m.rnd.Int64N(int64(d/2)+1))
}

func (m *Machine) timeoutMillis() uint32 { return millis(m.cfg.TokenTimeout) }

func millis(d time.Duration) uint32 { return uint32(d / time.Millisecond) }

func (m *Machine) drop(why Reason, peer evs.ProcID, fx *Effects) {
	fx.Notes = append(fx.Notes, Note{Kind: NoteDrop, Reason: why, Peer: peer})
}

// moves are the allowed transitions.
var moves = [stateCount][]State{
	StateStarting:    {StateGather, StateLeaving},
	StateGather:      {StateCommit, StateLeaving},
	StateCommit:      {StateGather, StateRecover, StateLeaving},
	StateRecover:     {StateGather, StateOperational, StateLeaving},
	StateOperational: {StateGather, StateLeaving},
	StateLeaving:     {StateLeft},
}

// transition changes the state, cancels the timers of the old one and notes why.
func (m *Machine) transition(now time.Duration, to State, why Reason, who evs.ProcID, fx *Effects) {
	if !slices.Contains(moves[m.state], to) {
		panic(fmt.Sprintf("membership: no way from %v to %v (%v)", m.state, to, why))
	}
	ring := m.ring
	if m.attempt != nil {
		ring = m.attempt.ring
	}
	fx.Notes = append(fx.Notes, Note{Kind: NoteState, From: m.state, To: to, Reason: why, Peer: who, Ring: ring})
	m.state = to
	m.limitAt, m.tickAt, m.soonAt, m.probeAt = 0, 0, 0, 0
}

// CheckInvariants states what holds between inputs.
func (m *Machine) CheckInvariants() error {
	bad := func(format string, args ...any) error { return fmt.Errorf("membership: "+format, args...) }
	if m.known < m.ring.Seq {
		return bad("known ring sequence %d below that of the ring %v", m.known, m.ring)
	}
	if m.ring.Seq != 0 && !m.confSet.has(0) {
		return bad("not a member of my configuration")
	}
	if !slices.IsSortedFunc(m.order, func(a, b int) int { return m.rows[a].id.Compare(m.rows[b].id) }) || len(m.order) != len(m.byInc) {
		return bad("table out of order")
	}
	forming := m.state == StateCommit || m.state == StateRecover
	if forming != (m.attempt != nil) {
		return bad("attempt %v in state %v", m.attempt, m.state)
	}
	if m.state == StateGather && !m.proposal.has(0) {
		return bad("my proposal is without me")
	}
	if forming && (!m.attempt.set.has(0) || m.attempt.ring.Seq <= m.ring.Seq || m.attempt.ring.Seq > m.known) {
		return bad("attempt %v with known %d, ring %v", m.attempt.ring, m.known, m.ring)
	}
	if m.state == StateRecover && m.stored < m.attempt.ring.Seq || m.state == StateOperational && m.stored < m.ring.Seq {
		return bad("ring %v is not stored (%d)", m.ring, m.stored)
	}
	for _, c := range [...]set{m.proposal, m.confSet} {
		for i, a := range m.order {
			if !c.has(a) {
				continue
			}
			for _, b := range m.order[i+1:] {
				if c.has(b) && m.rows[a].id.Name == m.rows[b].id.Name {
					return bad("two incarnations of %q together", m.rows[a].id.Name)
				}
			}
		}
	}
	return nil
}
